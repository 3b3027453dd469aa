//! What a digest takes along, what stays for the next one, and what it says.
//!
//! [`close_period`] decides about one recipient: a pure function over what waits. [`list_sections`] says what the template
//! is given. A period is closed once; what comes to it afterwards goes into the next.

use crate::decision::{DigestTime, WIDEST_MOVE, cadence_due, end_here};
use crate::delivery::Channel;
use crate::id::{CategoryKey, DeliveryId, RecipientKey};
use crate::preference::Cadence;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::collections::BTreeMap;

/// The most items that a digest shows; of the others it says how many there are.
pub const MAX_ITEMS: usize = 50;
/// The most bytes of data that the items of a digest have together.
pub const MAX_ITEM_BYTES: usize = 32 * 1024;
/// The most deliveries that one digest takes along; the others stay for the next.
pub const MAX_MEMBERS: usize = 1000;
/// How long after the end of its period a delivery goes by itself that no digest came for.
pub const DIGEST_GRACE: SignedDuration = SignedDuration::from_hours(24);
/// The longest way back to the latest period: a week and a day, however long nothing ran.
const LOOK_BACK: SignedDuration = SignedDuration::from_hours(8 * 24);

/// Whose digest it is, and of what.
#[derive(Clone, Debug, PartialEq)]
pub struct DigestKey {
    /// To whom.
    pub recipient: RecipientKey,
    /// The digest's category.
    pub category: CategoryKey,
    /// By which channel.
    pub channel: Channel,
}

/// What waits to be closed for one recipient.
#[derive(Clone, Debug)]
pub struct OpenDigest {
    /// Whose, and of what.
    pub key: DigestKey,
    /// The recipient's zone.
    pub zone: TimeZone,
    /// When a day and a week end for the recipient.
    pub time: DigestTime,
    /// The end of the last period that was closed.
    pub closed_to: Option<Timestamp>,
    /// The period that the category's own rhythm closes, and whether also with nothing in it.
    pub round: Option<Round>,
    /// What waits, and is due.
    pub members: Vec<Member>,
}

/// A period that ends by a category's own rhythm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// Its end.
    pub period_end: Timestamp,
    /// Whether it is sent with nothing in it.
    pub send_empty: bool,
}

/// A delivery that waits for a digest.
#[derive(Clone, PartialEq)]
pub struct Member {
    /// Which.
    pub delivery: DeliveryId,
    /// The end of the period that it waits for.
    pub period_end: Timestamp,
    /// The cadence that it waits by.
    pub cadence: Cadence,
    /// Whether it still does.
    pub standing: Standing,
    /// Its own category.
    pub category: String,
    /// What people call that.
    pub category_name: Option<String>,
    /// What it says, within the bounds of a digest.
    pub data: Option<Value>,
}

crate::masked_debug!(Member, "Member", delivery, period_end, cadence, standing, category);

/// How a delivery stands that was to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It waits.
    Waiting,
    /// Its `expires_at` has passed.
    Expired,
    /// It does not wait any more: it was canceled, say, or went by itself.
    Gone,
}

/// What becomes of what waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// One digest with everything that waits leaves, for the period with this end.
    Send(Timestamp),
    /// The period is closed already, or ends later where the recipient is now: what waits goes into one that ends then.
    Postpone(Timestamp),
    /// The period is closed already, and what waits is not to wait any longer: each delivery goes by itself.
    Release,
    /// Nothing waits, and nothing has to be said.
    Nothing,
}

/// Decides what becomes of one recipient's digest now. However many periods were missed, one digest leaves, for the latest.
pub fn close_period(open: &OpenDigest, now: Timestamp) -> Closing {
    let waiting = || open.members.iter().filter(|member| member.standing == Standing::Waiting);
    let round = open.round.filter(|round| round.send_empty || waiting().next().is_some());
    let last = waiting().max_by_key(|member| member.period_end);
    let ends = [last.map(|member| member.period_end), round.map(|round| round.period_end)];
    let Some(period_end) = ends.into_iter().flatten().max() else { return Closing::Nothing };
    if let (None, Some(member)) = (round, last)
        && let Some(later) = end_here(member.cadence, member.period_end, &open.zone, now, open.time)
    {
        return Closing::Postpone(later);
    }
    if open.closed_to.is_none_or(|closed_to| closed_to < period_end) {
        return Closing::Send(period_end);
    }
    match waiting().map(|member| cadence_due(member.cadence, now, &open.zone, open.time)).max() {
        Some(next) if next > now => Closing::Postpone(next),
        // What is wanted at once has nothing to wait for.
        Some(_) => Closing::Release,
        None => Closing::Nothing,
    }
}

/// The latest period that has ended by now, counted from one that was due at `due`.
pub fn latest_period_end(
    cadence: Cadence,
    due: Timestamp,
    now: Timestamp,
    zone: &TimeZone,
    digest: DigestTime,
) -> Timestamp {
    let mut latest = due;
    if now.duration_since(due) > LOOK_BACK {
        latest = cadence_due(cadence, now - LOOK_BACK, zone, digest).max(due);
    }
    loop {
        let next = cadence_due(cadence, latest, zone, digest);
        if next > now || next <= latest {
            return latest;
        }
        latest = next;
    }
}

/// Whether a digest whose period ended at `last` was the one of the period that ends at `period_end`, because the recipient
/// has moved to another zone in between: nobody gets a period twice.
pub fn is_same_period(cadence: Cadence, last: Timestamp, period_end: Timestamp) -> bool {
    let shortest = match cadence {
        Cadence::Immediate => SignedDuration::ZERO,
        Cadence::Hourly => SignedDuration::from_mins(30),
        Cadence::Daily => SignedDuration::from_hours(12),
        Cadence::Weekly => WIDEST_MOVE,
    };
    period_end.duration_since(last) < shortest
}

/// The items of one category in a digest.
#[derive(Clone, PartialEq)]
pub struct Section {
    /// The category.
    pub category: String,
    /// What people call it; its key where it has no name.
    pub name: String,
    /// How many there are.
    pub count: usize,
    /// What some of them say.
    pub items: Vec<Value>,
}

crate::masked_debug!(Section, "Section", category, count);

/// What waits, by category.
pub fn list_sections(members: &[Member]) -> Vec<Section> {
    let mut sections: BTreeMap<&str, Section> = BTreeMap::new();
    for member in members.iter().filter(|member| member.standing == Standing::Waiting) {
        let section = sections.entry(&member.category).or_insert_with(|| Section {
            category: member.category.clone(),
            name: member.category_name.clone().unwrap_or_else(|| member.category.clone()),
            count: 0,
            items: Vec::new(),
        });
        section.count += 1;
        section.items.extend(member.data.clone());
    }
    sections.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a timestamp")
    }

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).expect("a zone")
    }

    fn member(period_end: &str, standing: Standing) -> Member {
        Member {
            delivery: DeliveryId::from_uuid(uuid::Uuid::nil()),
            period_end: at(period_end),
            cadence: Cadence::Daily,
            standing,
            category: "greeting".into(),
            category_name: None,
            data: Some(json!({"n": 1})),
        }
    }

    fn open(members: Vec<Member>) -> OpenDigest {
        OpenDigest {
            key: DigestKey {
                recipient: RecipientKey::parse("ada").expect("an id"),
                category: CategoryKey::parse("BULK_DIGEST").expect("a key"),
                channel: Channel::Email,
            },
            zone: zone("Asia/Kolkata"),
            time: DigestTime::default(),
            closed_to: None,
            round: None,
            members,
        }
    }

    const NOW: &str = "2026-11-22T04:00:00Z";

    fn close(open: &OpenDigest) -> Closing {
        close_period(open, at(NOW))
    }

    #[test]
    fn all_missed_periods_leave_as_one_digest_of_the_latest() {
        let missed = ["2026-11-20T03:30:00Z", "2026-11-21T03:30:00Z", "2026-11-22T03:30:00Z"];
        let open = open(missed.map(|end| member(end, Standing::Waiting)).to_vec());
        assert_eq!(close(&open), Closing::Send(at("2026-11-22T03:30:00Z")));
    }

    #[test]
    fn a_digest_leaves_at_its_time_where_the_recipient_is_by_then() {
        let mut open = open(vec![member("2026-11-22T03:30:00Z", Standing::Waiting)]);
        let at_home = close(&open);
        assert_eq!(at_home, Closing::Send(at("2026-11-22T03:30:00Z")));
        // To the west it is not nine o'clock yet.
        open.zone = zone("America/New_York");
        assert_eq!(close(&open), Closing::Postpone(at("2026-11-22T14:00:00Z")));
        let then = close_period(&open, at("2026-11-22T14:00:00Z"));
        assert!(matches!(then, Closing::Send(_)), "{then:?}");
        // Its time of the day may change, too.
        open.time = DigestTime { time: jiff::civil::time(18, 0, 0, 0), weekday: 1 };
        open.zone = zone("Asia/Kolkata");
        assert_eq!(close(&open), Closing::Postpone(at("2026-11-22T12:30:00Z")));
        open.time = DigestTime::default();
        // To the east a Monday has begun before: nobody waits a week for the next.
        let mut weekly = member("2026-11-16T14:00:00Z", Standing::Waiting);
        weekly.cadence = Cadence::Weekly;
        open.members = vec![weekly];
        let now = at("2026-11-16T14:00:00Z");
        assert_eq!(close_period(&open, now), Closing::Send(now));
    }

    #[test]
    fn an_end_is_its_own_end_in_its_own_zone_also_where_clocks_change() {
        for zone_name in ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Africa/Cairo"] {
            let zone = zone(zone_name);
            for (time, cadence) in [(0, 0), (2, 30), (9, 0), (23, 59)]
                .into_iter()
                .flat_map(|time| [Cadence::Hourly, Cadence::Daily, Cadence::Weekly].map(|cadence| (time, cadence)))
            {
                let digest = DigestTime { time: jiff::civil::time(time.0, time.1, 0, 0), weekday: 7 };
                let mut end = cadence_due(cadence, at("2027-03-20T00:00:00Z"), &zone, digest);
                for _ in 0..400 {
                    assert_eq!(end_here(cadence, end, &zone, end, digest), None, "{zone_name} {cadence} {end}");
                    end = cadence_due(cadence, end, &zone, digest);
                }
            }
        }
    }

    #[test]
    fn what_comes_to_a_closed_period_goes_into_the_next() {
        let mut open = open(vec![member("2026-11-22T03:30:00Z", Standing::Waiting)]);
        open.closed_to = Some(at("2026-11-22T03:30:00Z"));
        assert_eq!(close(&open), Closing::Postpone(at("2026-11-23T03:30:00Z")));
        open.time.time = jiff::civil::time(18, 0, 0, 0);
        // What ended at nine, and comes to a digest that left already, waits for the evening.
        assert_eq!(close(&open), Closing::Postpone(at("2026-11-22T12:30:00Z")));
    }

    #[test]
    fn nothing_is_said_of_nothing_unless_the_round_wants_it() {
        let gone = [Standing::Gone, Standing::Expired].map(|standing| member("2026-11-22T03:30:00Z", standing));
        let mut open = open(gone.to_vec());
        assert_eq!(close(&open), Closing::Nothing);
        let mut round = Round { period_end: at("2026-11-22T03:30:00Z"), send_empty: false };
        open.round = Some(round);
        assert_eq!(close(&open), Closing::Nothing);
        round.send_empty = true;
        open.round = Some(round);
        assert_eq!(close(&open), Closing::Send(round.period_end));
        open.closed_to = Some(round.period_end);
        assert_eq!(close(&open), Closing::Nothing, "once");
    }

    #[test]
    fn a_long_pause_ends_with_the_latest_period() {
        let digest = DigestTime::default();
        let kolkata = zone("Asia/Kolkata");
        let latest = |cadence, due| latest_period_end(cadence, at(due), at(NOW), &kolkata, digest);
        assert_eq!(latest(Cadence::Daily, "2026-11-22T03:30:00Z"), at("2026-11-22T03:30:00Z"));
        assert_eq!(latest(Cadence::Daily, "2025-01-01T03:30:00Z"), at("2026-11-22T03:30:00Z"));
        // A Monday.
        assert_eq!(latest(Cadence::Weekly, "2026-08-03T03:30:00Z"), at("2026-11-16T03:30:00Z"));
        assert_eq!(latest(Cadence::Hourly, "2026-11-22T00:30:00Z"), at("2026-11-22T03:30:00Z"));
    }

    #[test]
    fn clocks_that_change_neither_lose_nor_double_a_period() {
        let digest = DigestTime { time: jiff::civil::time(2, 30, 0, 0), weekday: 7 };
        let berlin = zone("Europe/Berlin");
        let ends = |cadence, from: &str, count: usize| {
            let mut ends = vec![at(from)];
            while ends.len() < count {
                let last = ends[ends.len() - 1];
                ends.push(cadence_due(cadence, last, &berlin, digest));
            }
            ends
        };
        // 02:30 does not exist on 29 March 2026.
        let spring = ["2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"].map(at);
        assert_eq!(ends(Cadence::Daily, "2026-03-28T01:30:00Z", 3), spring);
        // A leap day is a day.
        let leap = ["2028-02-28T01:30:00Z", "2028-02-29T01:30:00Z", "2028-03-01T01:30:00Z"].map(at);
        assert_eq!(ends(Cadence::Daily, "2028-02-28T01:30:00Z", 3), leap);
    }

    #[test]
    fn who_moves_to_another_zone_gets_a_period_once() {
        let monday_in = |end| at(end);
        let (tokyo, honolulu) = (monday_in("2026-11-23T00:00:00Z"), monday_in("2026-11-23T19:00:00Z"));
        assert!(is_same_period(Cadence::Weekly, tokyo, honolulu));
        assert!(!is_same_period(Cadence::Weekly, honolulu, tokyo + SignedDuration::from_hours(7 * 24)));
        assert!(!is_same_period(Cadence::Daily, tokyo, tokyo + SignedDuration::from_hours(23)), "an hour was left out");
    }

    #[test]
    fn sections_count_everything_and_show_what_there_is_room_for() {
        let mut named = member(NOW, Standing::Waiting);
        named.category_name = Some("Greetings".into());
        let unseen = Member { data: None, ..member(NOW, Standing::Waiting) };
        let other = Member { category: "a".into(), ..member(NOW, Standing::Waiting) };
        let sections = list_sections(&[named, unseen, member(NOW, Standing::Gone), other]);
        let told: Vec<_> = sections.iter().map(|one| (one.name.as_str(), one.count, one.items.len())).collect();
        assert_eq!(told, [("a", 1, 1), ("Greetings", 2, 1)]);
    }
}
