//! The order of a policy, and its times, as tables.

use super::*;

const MINUTE: u32 = 60;

fn now() -> Timestamp {
    "2026-11-22T10:00:00Z".parse().expect("a timestamp")
}

fn after(minutes: i64) -> Timestamp {
    now() + SignedDuration::from_mins(minutes)
}

fn tier(after: u32) -> Tier {
    Tier { channels: BTreeSet::from([Channel::Email]), after_seconds: after * MINUTE }
}

fn step(delay: u32, tiers: &[u32]) -> Step {
    let whom = vec![Whom::Role("CAE".to_owned())];
    Step { delay_seconds: delay * MINUTE, category: None, whom, tiers: tiers.iter().map(|at| tier(*at)).collect() }
}

/// Two steps half an hour apart; the first has a fallback after ten minutes and another after twenty; once more an hour
/// after the end, and forty minutes to the very end.
fn policy() -> Policy {
    Policy {
        category: CategoryKey::parse("CRITICAL").expect("a key"),
        priority: Priority::High,
        steps: vec![step(0, &[0, 10, 10]), step(30, &[0])],
        repeat: Repeat { count: 1, interval_seconds: 60 * MINUTE },
        acknowledgement: Acknowledgement::Any,
        last_wait_seconds: 40 * MINUTE,
        link_lifetime_seconds: 60 * MINUTE,
    }
}

fn place(repeat: u32, level: u32, tier: u32) -> Place {
    Place { repeat, level, tier }
}

#[test]
fn tiers_then_steps_then_rounds_then_the_end_and_none_is_left_out() {
    let policy = policy();
    let mut fired = None;
    let mut seen = Vec::new();
    while let Turn::Fire(next) = turn_after(&policy, fired) {
        seen.push((next.repeat, next.level, next.tier));
        fired = Some(next);
    }
    let round = |repeat| [(repeat, 1, 1), (repeat, 1, 2), (repeat, 1, 3), (repeat, 2, 1)];
    assert_eq!(seen, [round(0), round(1)].concat());
}

#[test]
fn each_wait_counts_from_what_was_really_fired() {
    use Reach::{Nobody, NobodyHere, Somebody};
    let policy = policy();
    let table = [
        ("a fallback after its silence", place(0, 1, 1), 0, 0, Somebody, 10),
        ("a fallback at once, where nobody was reached", place(0, 1, 1), 0, 0, Nobody, 0),
        ("the last fallback at once, though an earlier tier reached somebody", place(0, 1, 2), 10, 0, NobodyHere, 10),
        ("the next step from the first tier", place(0, 1, 3), 20, 0, Somebody, 30),
        ("the next step, where the fallbacks failed early", place(0, 1, 3), 3, 0, Somebody, 30),
        ("the next step as much later as the last fallback was late", place(0, 1, 3), 200, 0, Somebody, 210),
        ("the next step, where only the last fallback failed", place(0, 1, 3), 20, 0, NobodyHere, 30),
        ("the next step at once, where the whole step reached nobody", place(0, 1, 3), 20, 0, Nobody, 20),
        ("the next round", place(0, 2, 1), 30, 30, Somebody, 90),
        ("the next round, never at once", place(0, 2, 1), 30, 30, Nobody, 90),
        ("the end", place(1, 2, 1), 100, 100, Somebody, 140),
        ("the end keeps its time, whoever was reached", place(1, 2, 1), 100, 100, Nobody, 140),
    ];
    for (what, place, at, level_at, reach, due) in table {
        let fired = Fired { place, at: after(at), level_at: after(level_at), reach };
        assert_eq!(plan_next(&policy, &fired), after(due), "{what}");
    }
    assert_eq!(plan_first(&policy, now()), now());
    let delayed = Policy { steps: vec![step(5, &[0])], ..policy };
    assert_eq!(plan_first(&delayed, now()), after(5));
}

#[test]
fn after_hours_without_a_run_the_levels_keep_their_distance() {
    let policy = policy();
    // It should have fired at 10:00, and does at 13:00.
    let (mut at, mut fired, mut times) = (after(180), None, Vec::new());
    let mut level_at = at;
    while let Turn::Fire(place) = turn_after(&policy, fired) {
        if place.tier == 1 {
            level_at = at;
        }
        times.push(at.duration_since(after(180)).as_mins());
        at = plan_next(&policy, &Fired { place, at, level_at, reach: Reach::Somebody });
        fired = Some(place);
    }
    assert_eq!(times, [0, 10, 20, 30, 90, 100, 110, 120]);
}

#[test]
fn a_fallback_is_there_until_the_last_tier() {
    let policy = policy();
    let table = [(place(0, 1, 1), true), (place(0, 1, 2), true), (place(0, 1, 3), false), (place(0, 2, 1), false)];
    for (place, expected) in table {
        assert_eq!(has_fallback(&policy, place), expected, "{place:?}");
    }
}

#[test]
fn whoever_has_acknowledged_is_left_out() {
    let ids = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(leave_out(&ids(&["ada", "bob"]), &ids(&["ada"])), ["bob"]);
    assert!(leave_out(&ids(&["ada"]), &ids(&["ada"])).is_empty());
}

#[test]
fn one_is_enough_or_each_is_needed() {
    use Acknowledgement::{Any, Each};
    use Answered::{Nothing, Part, Whole};
    use EscalationState::{Acknowledged, Exhausted, Open, Resolved};
    type Case = (EscalationState, Acknowledgement, &'static [&'static str], &'static [&'static str], Answered);
    let table: [Case; 8] = [
        (Open, Any, &["ada", "bob"], &["ada"], Whole),
        (Open, Any, &[], &[], Whole),
        (Open, Each, &["ada", "bob"], &["ada"], Part),
        (Open, Each, &["ada", "bob"], &["ada", "bob", "eve"], Whole),
        (Open, Each, &[], &["ada"], Part),
        (Exhausted, Each, &["ada"], &["ada"], Whole),
        (Acknowledged, Any, &["ada"], &["bob"], Nothing),
        (Resolved, Any, &["ada"], &["ada"], Nothing),
    ];
    let ids = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for (state, wanted, notified, acknowledged, expected) in table {
        let found = decide_acknowledgement(state, wanted, &ids(notified), &ids(acknowledged));
        assert_eq!(found, expected, "{state} {wanted} {notified:?} {acknowledged:?}");
    }
}

#[test]
fn the_word_of_those_who_are_left_is_whole_where_there_is_any() {
    let both = ["ada".to_owned(), "bob".to_owned()];
    assert_eq!(find_whole_answer(true, &both), Some("bob"), "who was last");
    assert_eq!(find_whole_answer(true, &[]), None, "nobody is on it");
    assert_eq!(find_whole_answer(false, &both), None, "somebody is waited for");
}

#[test]
fn only_what_is_open_goes_on_and_what_is_over_stays_over() {
    for &state in EscalationState::ALL {
        let is_over = matches!(state, EscalationState::Resolved | EscalationState::Canceled);
        assert_eq!(state.can_be_resolved(), !is_over, "{state}");
        assert_eq!(state.can_be_acknowledged(), !is_over && state != EscalationState::Acknowledged, "{state}");
    }
}

#[test]
fn a_delay_is_from_a_minute_to_thirty_days() {
    for (text, expected) in
        [("PT1M", Some(60)), ("P30D", Some(2_592_000)), ("PT59S", None), ("P30DT1S", None), ("5m", None)]
    {
        assert_eq!(parse_delay(text).ok(), expected, "{text}");
    }
}
