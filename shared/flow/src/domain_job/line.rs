//! Whose turn it is: tenants stand in line, and who has had a turn goes to its end.
//!
//! A tenant has one job at work at a time. The last lane takes short jobs only, so that long ones, whoever's they are, do not
//! hold up everybody else's.

use domain::domain_job::{MAX_TIMEOUT_SECONDS, TIMEOUT_DEFAULT_SECONDS};
use domain::id::TenantId;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Jobs of any length at work at a time. One short one more has a connection, too.
const MOST_OF_ANY: usize = 2;

/// Which jobs a turn is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Of any length.
    Any,
    /// Those that may take no longer than jobs do that do not say.
    Short,
}

impl Lane {
    /// How long a job may take.
    pub(super) fn most(self) -> Duration {
        let seconds = match self {
            Self::Any => MAX_TIMEOUT_SECONDS,
            Self::Short => TIMEOUT_DEFAULT_SECONDS,
        };
        Duration::from_secs(seconds.into())
    }
}

/// The tenants that may have something due.
#[derive(Default)]
pub(super) struct Line {
    waiting: VecDeque<TenantId>,
    /// Those that have a turn.
    at_work: BTreeMap<TenantId, Lane>,
    /// When it was read last, on the clock of its caller.
    read_at: Option<Duration>,
    /// Whether reading it again may find somebody, at once.
    may_find_more: bool,
    /// Whether somebody left who may have a long job.
    has_sent_away: bool,
    is_closed: bool,
}

impl Line {
    /// Lets nobody wait or come any more.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        self.waiting.clear();
    }

    /// Whether there is room for somebody, and nobody waits.
    pub(super) fn is_to_be_read(&self, now: Duration, again: Duration) -> bool {
        let is_time = self.read_at.is_none_or(|read_at| now.saturating_sub(read_at) >= again);
        let is_worth_it = self.may_find_more || self.read_at.is_none() || (is_time && !self.at_work.is_empty());
        !self.is_closed && self.waiting.is_empty() && self.at_work.len() <= MOST_OF_ANY && is_worth_it
    }

    /// Lets these wait, but for those that have a turn.
    pub(super) fn join(&mut self, tenants: Vec<TenantId>, now: Duration) {
        (self.read_at, self.may_find_more, self.has_sent_away) = (Some(now), false, false);
        self.waiting.extend(tenants.into_iter().filter(|tenant| !self.at_work.contains_key(tenant)));
    }

    /// The next turn, if there is room for one.
    pub(super) fn take_turn(&mut self) -> Option<(TenantId, Lane)> {
        let lane = self.find_lane()?;
        let tenant = self.waiting.pop_front()?;
        self.at_work.insert(tenant, lane);
        Some((tenant, lane))
    }

    /// Ends a turn. Whoever found something to do may have more.
    pub(super) fn end_turn(&mut self, tenant: TenantId, found_work: bool) {
        let lane = self.at_work.remove(&tenant);
        if found_work && !self.is_closed {
            self.waiting.push_back(tenant);
        }
        self.may_find_more |= found_work;
        // Nobody with a long job is looked at again before there is a lane for it.
        self.has_sent_away |= lane == Some(Lane::Short) && !found_work;
        if self.has_sent_away && self.find_lane() == Some(Lane::Any) {
            self.may_find_more = true;
        }
    }

    fn find_lane(&self) -> Option<Lane> {
        let any = self.at_work.values().filter(|lane| **lane == Lane::Any).count();
        match (any < MOST_OF_ANY, self.at_work.len() - any) {
            (true, _) => Some(Lane::Any),
            (false, 0) => Some(Lane::Short),
            (false, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGAIN: Duration = Duration::from_secs(5);

    fn tenant(number: u8) -> TenantId {
        TenantId::parse(&format!("018f0000-0000-7000-8000-00000000000{number}")).expect("an id")
    }

    fn take_all(line: &mut Line) -> Vec<(TenantId, Lane)> {
        std::iter::from_fn(|| line.take_turn()).collect()
    }

    #[test]
    fn who_had_a_turn_waits_behind_everybody_and_nobody_has_two() {
        let (mut line, now) = (Line::default(), Duration::ZERO);
        assert!(line.is_to_be_read(now, AGAIN));
        line.join([1, 2, 3, 4, 5].map(tenant).into(), now);
        assert_eq!(
            take_all(&mut line),
            [(tenant(1), Lane::Any), (tenant(2), Lane::Any), (tenant(3), Lane::Short)],
            "one lane is kept for short ones"
        );
        line.end_turn(tenant(2), true);
        assert_eq!(take_all(&mut line), [(tenant(4), Lane::Any)], "while the first is at work still");
        line.end_turn(tenant(4), false);
        line.end_turn(tenant(3), true);
        assert_eq!(take_all(&mut line), [(tenant(5), Lane::Any), (tenant(2), Lane::Short)]);
        line.end_turn(tenant(5), false);
        assert_eq!(take_all(&mut line), [(tenant(3), Lane::Any)]);
        line.end_turn(tenant(3), false);
        assert!(line.is_to_be_read(now, AGAIN), "there was work");
        line.join([1, 2, 6].map(tenant).into(), now);
        assert_eq!(take_all(&mut line), [(tenant(6), Lane::Any)], "the others are at work");
    }

    #[test]
    fn it_ends_when_nobody_finds_anything_and_goes_on_while_somebody_may() {
        let (mut line, now) = (Line::default(), Duration::ZERO);
        line.join([1, 2, 3].map(tenant).into(), now);
        take_all(&mut line);
        // Only its long job was due, and there was no lane for it: not again before there is.
        line.end_turn(tenant(3), false);
        assert!(!line.is_to_be_read(now, AGAIN));
        assert!(line.is_to_be_read(now + AGAIN, AGAIN), "somebody else may have become due meanwhile");
        line.end_turn(tenant(2), false);
        assert!(line.is_to_be_read(now, AGAIN));
        line.join(vec![tenant(3)], now);
        assert_eq!(take_all(&mut line), [(tenant(3), Lane::Any)]);
        line.end_turn(tenant(3), false);
        line.end_turn(tenant(1), false);
        assert!(!line.is_to_be_read(now + AGAIN, AGAIN), "nobody is at work, and nobody found anything");

        let mut line = Line::default();
        line.join([1, 2].map(tenant).into(), now);
        take_all(&mut line);
        line.close();
        line.end_turn(tenant(1), true);
        assert_eq!((take_all(&mut line).len(), line.is_to_be_read(now + AGAIN, AGAIN)), (0, false));
    }
}
