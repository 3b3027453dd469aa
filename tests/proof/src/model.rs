//! Two workers over the pure step in every possible order, as a model for `stateright`.
//!
//! The cast: two deliveries, of one policy each; two workers that receive, claim, call the provider and record, and may
//! stop for ever or for a while between any two of these; a queue that loses and repeats messages; a provider that may
//! take a mail and not say so; feedback that comes at any time or never; a dispatcher; people who suppress, cancel and
//! redrive. Time passes to the next moment that anything waits for, and all times are kept relative to the present, so
//! that equal situations are equal states.
//!
//! What bounds it: attempts, and a number of misfortunes for those things that could otherwise happen for ever.
//! Within that, every order of every step is looked at.

mod drain;
mod state;

use crate::check::Invariant;
use crate::protocol::{Asked, Effect, Input, Verdict, accept};
use domain::category::{DeliveryRules, UnknownPolicy};
use domain::delivery::{DeliveryState, Reason};
use domain::feedback::MailEvent;
use domain::outcome::{AttemptBudget, Conclusion, Next, ProviderError, SendOutcome, settle_attempt};
use domain::retry::{Jitter, Wake};
use serde::Serialize;
use state::{Hand, Lane, NOW, State};
use stateright::{Checker, Model, Property};
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long feedback may take, in seconds; longer than a lease, so that both orders of the two are seen.
const WINDOW_SECONDS: u32 = 600;
/// Attempts that may be spent.
const MAX_ATTEMPTS: u32 = 2;
/// Copies of a delivery's message that may be in the queue at once.
const MOST_COPIES: u8 = 2;

/// What the provider does with a mail, and what the worker comes to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Takes it and says so.
    Sent,
    /// Takes it, and the answer is lost.
    Lost,
    /// Takes nothing, and the answer is lost.
    Silent,
    /// Takes it and answers 5xx.
    FailedAfter,
    /// Takes nothing and answers 5xx.
    Failed,
    /// Was not reached.
    Unreached,
    /// Wants fewer requests.
    Throttled,
    /// Cannot send for now.
    Held,
    /// Refuses it for good.
    Rejected,
}

impl Answer {
    const ALL: [Self; 9] = [
        Self::Sent,
        Self::Lost,
        Self::Silent,
        Self::FailedAfter,
        Self::Failed,
        Self::Unreached,
        Self::Throttled,
        Self::Held,
        Self::Rejected,
    ];

    const fn was_accepted(self) -> bool {
        matches!(self, Self::Sent | Self::Lost | Self::FailedAfter)
    }

    /// Whether it could happen for ever, because it spends no attempt.
    const fn is_free(self) -> bool {
        matches!(self, Self::Throttled | Self::Held)
    }

    fn outcome(self) -> SendOutcome {
        let error = ProviderError { code: String::new(), detail: String::new() };
        match self {
            Self::Sent => SendOutcome::Sent { provider_message_id: None },
            Self::Lost | Self::Silent => SendOutcome::Unknown(error),
            Self::FailedAfter | Self::Failed => SendOutcome::ServerFailed(error),
            Self::Unreached => SendOutcome::Transient(error),
            Self::Throttled => SendOutcome::Throttled(error),
            Self::Held => SendOutcome::Held(Reason::SendingPaused, error),
            Self::Rejected => SendOutcome::Rejected(error),
        }
    }
}

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A worker receives a message and claims.
    Receive(usize, usize),
    /// A worker receives a message, claims, and never hears of it: the message comes back.
    ClaimUnheard(usize),
    /// A worker calls the provider.
    Call(usize, Answer),
    /// A worker records what it knows.
    Record(usize),
    /// A worker records, and never hears of it: the message comes back.
    RecordUnheard(usize),
    /// A worker dies: its message comes back.
    Crash(usize),
    /// The queue hands out a message once more.
    Duplicate(usize),
    /// The queue forgets a message.
    Lose(usize),
    /// The dispatcher sees to a delivery.
    Dispatch(usize),
    /// The dispatcher sees to a delivery, and dies before it has published.
    DispatchUnpublished(usize),
    /// A dead letter is stored.
    StoreDeadLetter(usize),
    /// The provider tells of an attempt.
    Hear(usize, u32, MailEvent),
    /// The address is suppressed.
    Suppress(usize),
    /// The caller withdraws it.
    Cancel(usize),
    /// Somebody redrives it.
    Redrive(usize),
    /// Time goes on to the next moment that anything waits for.
    Pass,
}

/// The model, with what bounds it.
pub struct ProofModel {
    policies: Vec<UnknownPolicy>,
    misfortunes: u8,
    drained: Mutex<HashSet<Lane>>,
}

/// What looking at every state came to.
#[derive(Clone, Debug, Serialize)]
pub struct Explored {
    /// Which bounds.
    pub name: &'static str,
    /// Different states.
    pub unique_states: usize,
    /// States that were generated, the same ones included.
    pub generated_states: usize,
    /// The longest of the shortest ways to a state.
    pub depth: usize,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Properties that do not hold, with the way to a state that shows it.
    pub broken: Vec<String>,
}

impl Explored {
    /// Whether all states were looked at and every property holds.
    pub fn is_exhausted(&self) -> bool {
        self.broken.is_empty()
    }
}

/// Looks at every state within each bound.
pub fn explore_all() -> Vec<Explored> {
    let (least, most) = (UnknownPolicy::AtLeastOnce, UnknownPolicy::AtMostOnce);
    vec![
        explore("one delivery at least once, 4 misfortunes", vec![least], 4),
        explore("one delivery at most once, 4 misfortunes", vec![most], 4),
        explore("two deliveries, one of each policy, 1 misfortune", vec![least, most], 1),
    ]
}

/// Looks at every state within one bound.
pub fn explore(name: &'static str, policies: Vec<UnknownPolicy>, misfortunes: u8) -> Explored {
    let began = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let model = ProofModel { policies, misfortunes, drained: Mutex::default() };
    let checker = model.checker().threads(threads).spawn_bfs().join();
    let broken = checker.discoveries().into_iter().map(|(property, path)| {
        let steps: Vec<String> = path.into_actions().iter().map(|action| format!("{action:?}")).collect();
        format!("{property}: {}", steps.join(", "))
    });
    Explored {
        name,
        unique_states: checker.unique_state_count(),
        generated_states: checker.state_count(),
        depth: checker.max_depth(),
        seconds: began.elapsed().as_secs_f64(),
        broken: broken.collect(),
    }
}

impl Model for ProofModel {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let lane = |policy: &UnknownPolicy| {
            let rules = DeliveryRules {
                max_attempts: MAX_ATTEMPTS,
                unknown_policy: *policy,
                reconcile_window_seconds: WINDOW_SECONDS,
            };
            let (row, _) = accept(&Asked { rules, send_at: NOW, expires_at: None, is_sandbox: false }, NOW);
            Lane { row, messages: 1, dead_messages: 0, called: 0, accepted: 0, is_suppressed: false, broken: None }
        };
        let lanes = self.policies.iter().map(lane).collect();
        vec![State { lanes, hands: [Hand::Free; 2], misfortunes: self.misfortunes }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let has_luck_left = state.misfortunes > 0;
        for (place, lane) in state.lanes.iter().enumerate() {
            if lane.messages > 0 {
                // Two free workers are alike.
                if let Some(free) = state.hands.iter().position(|hand| *hand == Hand::Free) {
                    actions.push(Action::Receive(free, place));
                }
            }
            if lane.row.due_at.is_some_and(|at| at <= NOW) {
                actions.push(Action::Dispatch(place));
            }
            if lane.dead_messages > 0 {
                actions.push(Action::StoreDeadLetter(place));
            }
            for attempt in &lane.row.attempts {
                if lane.accepted & bit(attempt.number) != 0 {
                    for event in [MailEvent::Sent, MailEvent::Delivered, MailEvent::Complained] {
                        actions.push(Action::Hear(place, attempt.number, event));
                    }
                }
            }
            if !lane.is_suppressed {
                actions.push(Action::Suppress(place));
            }
            if has_luck_left {
                if lane.messages > 0 {
                    actions.extend([Action::ClaimUnheard(place), Action::Lose(place)]);
                    if lane.messages < MOST_COPIES {
                        actions.push(Action::Duplicate(place));
                    }
                }
                if lane.row.due_at.is_some_and(|at| at <= NOW) {
                    actions.push(Action::DispatchUnpublished(place));
                }
                match lane.row.state {
                    DeliveryState::Queued | DeliveryState::Held => actions.push(Action::Cancel(place)),
                    DeliveryState::Dead => actions.push(Action::Redrive(place)),
                    _ => {}
                }
            }
        }
        for (worker, hand) in state.hands.iter().enumerate() {
            match hand {
                Hand::Free => {}
                Hand::Claimed { .. } => {
                    let answers = Answer::ALL.into_iter().filter(|answer| has_luck_left || !answer.is_free());
                    actions.extend(answers.map(|answer| Action::Call(worker, answer)));
                }
                Hand::Answered { .. } => {
                    actions.push(Action::Record(worker));
                    if has_luck_left {
                        actions.push(Action::RecordUnheard(worker));
                    }
                }
            }
            if *hand != Hand::Free && has_luck_left {
                actions.push(Action::Crash(worker));
            }
        }
        actions.push(Action::Pass);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        let misfortune = |next: &mut State| next.misfortunes = next.misfortunes.saturating_sub(1);
        match action {
            Action::Receive(worker, place) => {
                let lane = &mut next.lanes[place];
                let verdict = if lane.is_suppressed { Verdict::Skip } else { Verdict::Claim };
                match claim(lane, verdict).into_iter().next()? {
                    Effect::Claimed(claimed) => {
                        lane.messages -= 1;
                        let AttemptBudget { spent, made } = claimed.budget;
                        next.hands[worker] = Hand::Claimed { place, attempt: claimed.attempt, spent, made };
                    }
                    // Hidden until its time; it is still in the queue.
                    Effect::TooEarly(_) => {}
                    _ => lane.messages -= 1,
                }
            }
            Action::ClaimUnheard(place) => {
                let lane = &mut next.lanes[place];
                let verdict = if lane.is_suppressed { Verdict::Skip } else { Verdict::Claim };
                claim(lane, verdict);
                misfortune(&mut next);
            }
            Action::Call(worker, answer) => {
                let Hand::Claimed { place, attempt, spent, made } = last.hands[worker] else { return None };
                next.lanes[place].call(attempt, answer.was_accepted());
                next.hands[worker] = Hand::Answered { place, attempt, spent, made, answer };
                if answer.is_free() {
                    misfortune(&mut next);
                }
            }
            Action::Record(worker) => {
                let (place, kept) = record(&mut next, worker)?;
                let lane = &mut next.lanes[place];
                lane.messages = (lane.messages + u8::from(kept)).min(MOST_COPIES);
            }
            Action::RecordUnheard(worker) => {
                let (place, _) = record(&mut next, worker)?;
                let lane = &mut next.lanes[place];
                lane.messages = (lane.messages + 1).min(MOST_COPIES);
                misfortune(&mut next);
            }
            Action::Crash(worker) => {
                let (Hand::Claimed { place, .. } | Hand::Answered { place, .. }) = last.hands[worker] else {
                    return None;
                };
                next.hands[worker] = Hand::Free;
                let lane = &mut next.lanes[place];
                lane.messages = (lane.messages + 1).min(MOST_COPIES);
                misfortune(&mut next);
            }
            Action::Duplicate(place) => {
                next.lanes[place].messages += 1;
                misfortune(&mut next);
            }
            Action::Lose(place) => {
                next.lanes[place].messages -= 1;
                misfortune(&mut next);
            }
            Action::Dispatch(place) => next.lanes[place].see_to(true),
            Action::DispatchUnpublished(place) => {
                next.lanes[place].see_to(false);
                misfortune(&mut next);
            }
            Action::StoreDeadLetter(place) => next.lanes[place].store_dead_letter(),
            Action::Hear(place, attempt, event) => {
                next.lanes[place].apply(&Input::Feedback { attempt, event });
            }
            Action::Suppress(place) => next.lanes[place].is_suppressed = true,
            Action::Cancel(place) => {
                next.lanes[place].apply(&Input::Cancel);
                misfortune(&mut next);
            }
            Action::Redrive(place) => {
                let effects = next.lanes[place].apply(&Input::Redrive);
                next.lanes[place].publish(&effects);
                misfortune(&mut next);
            }
            Action::Pass => next.pass()?,
        }
        next.tidy();
        (next != *last).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn holds(state: &State, invariant: Invariant) -> bool {
            state.lanes.iter().all(|lane| lane.broken != Some(invariant))
        }
        vec![
            Property::always("I1: every delivery ends once nothing fails any more", |model: &Self, state: &State| {
                state.lanes.iter().enumerate().all(|(place, _)| model.ends(state, place))
            }),
            Property::always("I2: no call without a claim of its own", |_, state| holds(state, Invariant::I2)),
            Property::always("I3: no undeclared duplicate", |_, state| holds(state, Invariant::I3)),
            Property::always("I5: no move that is not allowed", |_, state| holds(state, Invariant::I5)),
            Property::always("I6: attempts are bounded, and holds cost none", |_, state| holds(state, Invariant::I6)),
            Property::always("I7: no claim after a suppression", |_, state| holds(state, Invariant::I7)),
            // What never happens proves nothing: these have to be seen.
            Property::sometimes("a delivery is sent twice, and says so", |_, state: &State| {
                state.lanes.iter().any(|lane| lane.accepted.count_ones() > 1)
            }),
            Property::sometimes("a worker outlives its lease", |_, state: &State| {
                state.hands.iter().any(|hand| match *hand {
                    Hand::Claimed { place, .. } => state.lanes[place].row.state == DeliveryState::Unknown,
                    Hand::Free | Hand::Answered { .. } => false,
                })
            }),
            Property::sometimes("a delivery is dead", |_, state: &State| {
                state.lanes.iter().any(|lane| lane.row.state == DeliveryState::Dead && lane.row.due_at.is_none())
            }),
        ]
    }
}

impl ProofModel {
    /// Whether the delivery ends from here on, were nothing to fail any more. Known answers are not worked out again.
    fn ends(&self, state: &State, place: usize) -> bool {
        let lane = &state.lanes[place];
        let held = state.hands.iter().filter(|hand| hand.place() == Some(place)).count();
        let seed = drain::Drained::of(lane, held);
        let known = |lane: &Lane| self.drained.lock().unwrap_or_else(PoisonError::into_inner).contains(lane);
        if known(&seed.lane) {
            return true;
        }
        let ends = drain::ends(seed.lane.clone());
        if ends {
            self.drained.lock().unwrap_or_else(PoisonError::into_inner).insert(seed.lane);
        }
        ends
    }
}

/// Claims, and holds the claim to I3 and I7.
fn claim(lane: &mut Lane, verdict: Verdict) -> Vec<Effect> {
    let before = lane.clone();
    let effects = lane.apply(&Input::Claim(verdict));
    if effects.iter().any(|effect| matches!(effect, Effect::Claimed(_))) {
        if before.is_suppressed {
            lane.break_rule(Invariant::I7);
        }
        if !before.may_be_sent_again() {
            lane.break_rule(Invariant::I3);
        }
    }
    effects
}

/// Records what a worker knows: for which delivery, and whether its message stays in the queue.
fn record(next: &mut State, worker: usize) -> Option<(usize, bool)> {
    let Hand::Answered { place, attempt, spent, made, answer } = next.hands[worker] else { return None };
    next.hands[worker] = Hand::Free;
    let lane = &mut next.lanes[place];
    let conclusion = Conclusion::Called(answer.outcome());
    let settlement = settle_attempt(conclusion, AttemptBudget { spent, made }, &lane.row.rules(), Jitter::new(0.0));
    let next_step = settlement.next;
    let effects = lane.apply(&Input::Record { attempt, settlement });
    let is_recorded = effects.contains(&Effect::Recorded);
    if is_recorded && next_step == Next::DeadLetter {
        lane.dead_messages = 1;
    }
    Some((place, is_recorded && matches!(next_step, Next::Retry { wake: Wake::Message, .. })))
}

/// The bit of an attempt's number.
const fn bit(attempt: u32) -> u16 {
    1 << attempt
}

/// A second, as the store counts.
const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_invariant_holds_in_every_state() {
        for explored in explore_all() {
            println!("{explored:?}");
            assert!(explored.is_exhausted(), "{explored:#?}");
        }
    }
}
