//! What the claim asks before anything is sent, as pure values: suppressed addresses, open breakers, and the pace.
//!
//! The specification of `harkara.admit_sends` and of what `record_attempts` does to breakers and pace. Fairness, in one
//! sentence: a tenant below its share of the account's rate is sent at once, and who takes more stands in one line for
//! what the others leave.

use crate::protocol::Verdict;
use domain::breaker::{BreakerScope, breaker_scope};
use domain::delivery::{AttemptOutcome, Reason};
use domain::id::TenantId;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

/// What an account may send at once after a pause.
const BURST: SignedDuration = SignedDuration::from_secs(1);
/// How far ahead of the even spacing those may send whose turn it is.
const CREDIT: SignedDuration = SignedDuration::from_secs(2);
/// How much of its share a tenant may take at once.
const LIGHT: SignedDuration = SignedDuration::from_secs(5);
/// A tenant's share of the rate is one of so many.
const SHARES: i32 = 10;
/// The part of the rate that is promised to the line.
const PROMISED: f64 = 0.9;
/// A probe that is not heard of for so long is followed by another.
const PROBING: SignedDuration = SignedDuration::from_secs(30);
/// The spacing of held deliveries where the account's rate is not known.
const UNKNOWN_STEP: SignedDuration = SignedDuration::from_millis(100);
/// No breaker stays open for longer without a probe.
const LONGEST_HOLD: Duration = Duration::from_secs(60 * 60);

/// A sender: the tenant's own address, or the deployment's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// The deployment's own.
    Default,
    /// A tenant's.
    Of(TenantId),
}

/// Whose mail a breaker holds back. The account's sorts first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BreakerKey {
    /// Everything.
    Account,
    /// One sender's.
    Identity(Identity),
}

/// An open breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// Why.
    pub reason: Reason,
    /// When the last refusal was recorded.
    pub failed_at: Timestamp,
    /// How often in a row a probe failed.
    pub failure_count: u32,
    /// When one delivery may be tried.
    pub retry_at: Timestamp,
    /// Deliveries held since the last probe.
    pub held_count: u32,
}

/// The provider account as the claim sees it.
#[derive(Clone, Debug)]
pub struct Account {
    /// The provider's limit; `None` while it is not known, and then nothing is paced.
    pub sends_per_second: Option<f64>,
    /// Open breakers.
    pub breakers: BTreeMap<BreakerKey, Breaker>,
    /// Suppressed addresses, by tenant; `None` is the provider's own list.
    pub suppressions: HashMap<String, HashSet<Option<TenantId>>>,
    /// When the next send would be due if all were spaced evenly.
    pub next_send_at: Timestamp,
    /// The last time that is promised to a delivery which waits in line.
    pub line_ends_at: Timestamp,
    /// The same clock as `next_send_at`, for each tenant's share.
    pub tenants: HashMap<TenantId, Timestamp>,
}

/// A delivery that is ready, as the claim asks about it.
#[derive(Clone, Copy, Debug)]
pub struct Ready<'a> {
    /// Whose.
    pub tenant: TenantId,
    /// To whom; `None` where there is no address.
    pub address: Option<&'a str>,
    /// From whom.
    pub identity: Identity,
    /// Whether the provider must not be called.
    pub is_sandbox: bool,
    /// The time in line that it was promised.
    pub slot_at: Option<Timestamp>,
}

/// An attempt that is recorded.
#[derive(Clone, Copy, Debug)]
pub struct RecordedAttempt {
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// Why its delivery is held.
    pub reason: Option<Reason>,
    /// How long its delivery waits.
    pub wait: Option<Duration>,
    /// From whom it was.
    pub identity: Identity,
    /// When it was claimed.
    pub started_at: Timestamp,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            sends_per_second: None,
            breakers: BTreeMap::new(),
            suppressions: HashMap::new(),
            next_send_at: Timestamp::MIN,
            line_ends_at: Timestamp::MIN,
            tenants: HashMap::new(),
        }
    }
}

impl Account {
    /// An account whose rate is known, or is not.
    pub fn of_rate(sends_per_second: Option<f64>) -> Self {
        Self { sends_per_second, ..Self::default() }
    }

    /// Whether mail to the address may not be sent for the tenant.
    pub fn is_suppressed(&self, tenant: TenantId, address: &str) -> bool {
        self.suppressions.get(address).is_some_and(|by| by.contains(&None) || by.contains(&Some(tenant)))
    }

    /// Says of each ready delivery, in order, whether it may be sent now. `draw` gives numbers from 0 to below 1.
    pub fn admit(&mut self, ready: &[Ready<'_>], now: Timestamp, mut draw: impl FnMut() -> f64) -> Vec<Verdict> {
        let spacing =
            self.sends_per_second.map_or(SignedDuration::ZERO, |rate| SignedDuration::from_secs_f64(1.0 / rate));
        // The tenants of a batch take turns.
        let mut in_turn: Vec<(usize, usize)> = Vec::with_capacity(ready.len());
        let mut places: Vec<usize> = (0..ready.len()).collect();
        // NULLS LAST, as Postgres sorts.
        places.sort_by_key(|place| ready[*place].slot_at.unwrap_or(Timestamp::MAX));
        let mut turns: HashMap<TenantId, usize> = HashMap::new();
        for place in places {
            let turn = turns.entry(ready[place].tenant).or_default();
            *turn += 1;
            in_turn.push((*turn, place));
        }
        in_turn.sort_by_key(|(turn, place)| (*turn, ready[*place].slot_at.unwrap_or(Timestamp::MAX)));

        let mut verdicts = vec![Verdict::Claim; ready.len()];
        for (_, place) in in_turn {
            let asked = &ready[place];
            verdicts[place] = if asked.address.is_some_and(|address| self.is_suppressed(asked.tenant, address)) {
                Verdict::Skip
            } else if asked.is_sandbox {
                Verdict::Claim
            } else if let Some(verdict) = self.ask_breakers(asked.identity, spacing, now) {
                verdict
            } else {
                self.ask_pace(asked, spacing, now, &mut draw)
            };
        }
        verdicts
    }

    /// Held, or the one probe, which goes whatever the pace is; `None` where no breaker is open.
    fn ask_breakers(&mut self, identity: Identity, spacing: SignedDuration, now: Timestamp) -> Option<Verdict> {
        let keys = [BreakerKey::Account, BreakerKey::Identity(identity)];
        // Any that is not yet to be probed holds; only then does this delivery take the probe of those that are.
        for key in keys {
            let Some(breaker) = self.breakers.get_mut(&key).filter(|breaker| breaker.retry_at > now) else { continue };
            let step = if spacing.is_zero() { UNKNOWN_STEP } else { spacing };
            breaker.held_count += 1;
            let until = breaker.retry_at + step * i32::try_from(breaker.held_count).unwrap_or(i32::MAX);
            return Some(Verdict::Hold { reason: breaker.reason, until });
        }
        let mut is_probe = false;
        for key in keys {
            let Some(breaker) = self.breakers.get_mut(&key) else { continue };
            breaker.retry_at = now + PROBING;
            breaker.held_count = 0;
            is_probe = true;
        }
        is_probe.then_some(Verdict::Claim)
    }

    fn ask_pace(
        &mut self,
        asked: &Ready<'_>,
        spacing: SignedDuration,
        now: Timestamp,
        draw: &mut impl FnMut() -> f64,
    ) -> Verdict {
        // Nothing is written where no rate is known: then only a throttling is waited out.
        let is_paced = self.sends_per_second.is_some();
        let shown = self.tenants.get(&asked.tenant).filter(|_| is_paced || self.next_send_at > now);
        let own = shown.copied().unwrap_or(Timestamp::MIN).max(now);
        let ahead = self.next_send_at.max(now);
        let is_light = own <= now + LIGHT;
        let is_its_time = asked.slot_at.is_some_and(|slot_at| slot_at <= now);
        let may_go = if is_light && asked.slot_at.is_none() {
            ahead <= now + CREDIT
        } else if is_its_time || is_light {
            ahead <= now + BURST
        } else {
            self.line_ends_at <= now && ahead <= now + BURST
        };
        if may_go {
            if is_paced {
                self.next_send_at = ahead + spacing;
                if asked.slot_at.is_none() {
                    self.tenants.insert(asked.tenant, own + spacing * SHARES);
                }
            }
            return Verdict::Claim;
        }
        if let Some(slot_at) = asked.slot_at.filter(|_| is_its_time) {
            // Its time has come, but so has others': spread over as long as the line stood still.
            let spread = now.duration_since(slot_at).max(CREDIT);
            let until = ahead + SignedDuration::from_secs_f64(draw() * spread.as_secs_f64());
            return Verdict::Pace { until, slot_at: Some(slot_at) };
        }
        if is_light {
            return Verdict::Pace { until: ahead, slot_at: asked.slot_at };
        }
        let promised = SignedDuration::from_secs_f64(spacing.as_secs_f64() / PROMISED);
        let until = self.line_ends_at.max(ahead) + promised;
        if is_paced {
            self.line_ends_at = until;
        }
        Verdict::Pace { until, slot_at: Some(until) }
    }

    /// What recorded attempts do to breakers and pace.
    pub fn record(&mut self, attempts: &[RecordedAttempt], now: Timestamp) {
        let before = self.breakers.clone();
        let mut newest: BTreeMap<BreakerKey, &RecordedAttempt> = BTreeMap::new();
        for attempt in attempts {
            let Some(key) = opened_by(attempt) else { continue };
            let winner = newest.entry(key).or_insert(attempt);
            if attempt.started_at > winner.started_at {
                *winner = attempt;
            }
        }
        for (key, attempt) in newest {
            let wait = attempt.wait.unwrap_or_default();
            let Some(reason) = attempt.reason else { continue };
            match self.breakers.get_mut(&key) {
                None => {
                    let breaker = Breaker {
                        reason,
                        failed_at: now,
                        failure_count: 1,
                        retry_at: now + signed(wait),
                        held_count: 0,
                    };
                    self.breakers.insert(key, breaker);
                }
                // An attempt that began after the last refusal was the probe.
                Some(breaker) if attempt.started_at > breaker.failed_at => {
                    let longer = wait * 2u32.pow(breaker.failure_count.min(6));
                    *breaker = Breaker {
                        reason,
                        failed_at: now,
                        failure_count: breaker.failure_count + 1,
                        retry_at: now + signed(longer.min(LONGEST_HOLD)),
                        held_count: 0,
                    };
                }
                Some(_) => {}
            }
        }
        for attempt in attempts.iter().filter(|attempt| attempt.outcome == AttemptOutcome::Sent) {
            for key in [BreakerKey::Account, BreakerKey::Identity(attempt.identity)] {
                if before.get(&key).is_some_and(|breaker| attempt.started_at > breaker.failed_at) {
                    self.breakers.remove(&key);
                }
            }
        }
        if attempts.iter().any(|attempt| attempt.outcome == AttemptOutcome::Throttled) {
            let second = SignedDuration::from_secs(1);
            let slowed = self.next_send_at.max(now + CREDIT) + second;
            self.next_send_at = slowed.min(now + second * 10);
        }
    }
}

/// The breaker that an attempt's refusal opens.
fn opened_by(attempt: &RecordedAttempt) -> Option<BreakerKey> {
    let reason = attempt.reason.filter(|_| attempt.outcome == AttemptOutcome::Held)?;
    Some(match breaker_scope(reason)? {
        BreakerScope::Account => BreakerKey::Account,
        BreakerScope::Identity => BreakerKey::Identity(attempt.identity),
    })
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
