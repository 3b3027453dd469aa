//! Two workers over the pure step in every possible order, as a model for `stateright`.
//!
//! The cast: two deliveries, of one policy each; two workers that receive, claim, call the provider and record, and may
//! stop for ever or for a while between any two of these; a queue that loses and repeats messages; a provider that may
//! take a mail and not say so; feedback that comes at any time or never; a dispatcher; people who suppress, cancel and
//! redrive. Time passes to the next moment that anything of a delivery waits for, and all times are kept relative to the
//! present, so that equal situations are equal states. Each delivery has a time of its own: that allows every order that
//! one clock for both would allow, and more.
//!
//! What bounds it: attempts, and a number of misfortunes for those things that could otherwise happen for ever.
//! Within that, every order of every step is looked at.

mod drain;
mod explore;
mod state;

pub use explore::{Explored, explore, explore_all, explore_some};

use crate::check::Invariant;
use crate::protocol::{Asked, Effect, Input, Verdict, accept};
use domain::category::{DeliveryRules, UnknownPolicy};
use domain::delivery::{DeliveryState, Reason};
use domain::feedback::MailEvent;
use domain::outcome::{AttemptBudget, Conclusion, Next, ProviderError, SendOutcome, settle_attempt};
use domain::retry::{Jitter, Wake};
use state::{Hand, Lane, NOW, State};
use stateright::{Model, Property};
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

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
    /// Does not believe who asks.
    Unauthorized,
    /// Wants fewer requests.
    Throttled,
    /// Cannot send for now.
    Held,
    /// Refuses it for good.
    Rejected,
}

impl Answer {
    const ALL: [Self; 10] = [
        Self::Sent,
        Self::Lost,
        Self::Silent,
        Self::FailedAfter,
        Self::Failed,
        Self::Unreached,
        Self::Unauthorized,
        Self::Throttled,
        Self::Held,
        Self::Rejected,
    ];

    const fn was_accepted(self) -> bool {
        matches!(self, Self::Sent | Self::Lost | Self::FailedAfter)
    }

    /// Whether it could happen for ever, because it spends no attempt.
    const fn is_free(self) -> bool {
        matches!(self, Self::Unauthorized | Self::Throttled | Self::Held)
    }

    fn outcome(self) -> SendOutcome {
        let error = ProviderError { code: String::new(), detail: String::new() };
        match self {
            Self::Sent => SendOutcome::Sent { provider_message_id: None },
            Self::Lost | Self::Silent => SendOutcome::Unknown(error),
            Self::FailedAfter | Self::Failed => SendOutcome::ServerFailed(error),
            Self::Unreached => SendOutcome::Transient(error),
            Self::Unauthorized => SendOutcome::Unauthorized(error),
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
    /// The same, and the worker hands back what it may have claimed.
    ClaimHandedBack(usize),
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
    /// The queue hands out a message once more that was stored as a dead letter before.
    RepeatDeadLetter(usize),
    /// The provider tells of an attempt.
    Hear(usize, u32, MailEvent),
    /// The address is suppressed.
    Suppress(usize),
    /// The caller withdraws it.
    Cancel(usize),
    /// Somebody redrives it.
    Redrive(usize),
    /// Time goes on for a delivery, to the next moment that anything of it waits for.
    Pass(usize),
}

/// What may happen at all.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// What the provider may do with a mail.
    pub answers: &'static [Answer],
    /// What it may tell of one that it took.
    pub events: &'static [MailEvent],
    /// Whether people suppress and cancel meanwhile.
    pub has_people: bool,
}

impl Scope {
    /// Everything.
    pub const WHOLE: Self =
        Self { answers: &Answer::ALL, events: &[MailEvent::Sent, MailEvent::Complained], has_people: true };
    /// One of each kind, for more than one delivery.
    pub const SMALL: Self = Self {
        answers: &[Answer::Sent, Answer::Lost, Answer::FailedAfter, Answer::Unreached],
        events: &[MailEvent::Sent],
        has_people: false,
    };
}

/// What could otherwise happen for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Crashes, lost replies, repeated and lost messages, suppressions, cancels.
    pub misfortunes: u8,
    /// What makes further attempts possible: throttlings, holds, redrives.
    pub refusals: u8,
}

/// The model, with what bounds it.
pub struct ProofModel {
    policies: Vec<UnknownPolicy>,
    scope: Scope,
    bounds: Bounds,
    drained: Mutex<HashSet<Lane>>,
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
        vec![State { lanes, hands: [Hand::Free; 2], left: self.bounds }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let (has_misfortunes, has_refusals) = (state.left.misfortunes > 0, state.left.refusals > 0);
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
                    for event in self.scope.events {
                        actions.push(Action::Hear(place, attempt.number, *event));
                    }
                }
            }
            if lane.next_moment().is_some() {
                actions.push(Action::Pass(place));
            }
            if has_misfortunes {
                if self.scope.has_people && !lane.is_suppressed {
                    actions.push(Action::Suppress(place));
                }
                if lane.messages > 0 {
                    actions.extend([Action::ClaimUnheard(place), Action::ClaimHandedBack(place), Action::Lose(place)]);
                    if lane.messages < MOST_COPIES {
                        actions.push(Action::Duplicate(place));
                    }
                }
                if lane.row.due_at.is_some_and(|at| at <= NOW) {
                    actions.push(Action::DispatchUnpublished(place));
                }
                if !lane.row.dead_letters.is_empty() {
                    actions.push(Action::RepeatDeadLetter(place));
                }
                if self.scope.has_people && lane.may_be_withdrawn() {
                    actions.push(Action::Cancel(place));
                }
            }
            if has_refusals && lane.row.state == DeliveryState::Dead && !lane.row.is_withdrawn {
                actions.push(Action::Redrive(place));
            }
        }
        for (worker, hand) in state.hands.iter().enumerate() {
            match hand {
                Hand::Free => {}
                Hand::Claimed { .. } => {
                    let answers = self.scope.answers.iter().filter(|answer| has_refusals || !answer.is_free());
                    actions.extend(answers.map(|answer| Action::Call(worker, *answer)));
                }
                Hand::Answered { .. } => {
                    actions.push(Action::Record(worker));
                    if has_misfortunes {
                        actions.push(Action::RecordUnheard(worker));
                    }
                }
            }
            if *hand != Hand::Free && has_misfortunes {
                actions.push(Action::Crash(worker));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        let misfortune = |next: &mut State| next.left.misfortunes = next.left.misfortunes.saturating_sub(1);
        let refusal = |next: &mut State| next.left.refusals = next.left.refusals.saturating_sub(1);
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
            Action::ClaimHandedBack(place) => {
                let lane = &mut next.lanes[place];
                let verdict = if lane.is_suppressed { Verdict::Skip } else { Verdict::Claim };
                // The claim's own: where it claimed nothing, nothing has that id.
                let id = u64::from(lane.row.attempt_count) + 1;
                claim(lane, verdict);
                lane.apply(&Input::HandBack { id });
                misfortune(&mut next);
            }
            Action::Call(worker, answer) => {
                let Hand::Claimed { place, attempt, spent, made } = last.hands[worker] else { return None };
                next.lanes[place].call(attempt, answer.was_accepted());
                next.hands[worker] = Hand::Answered { place, attempt, spent, made, answer };
                if answer.is_free() {
                    refusal(&mut next);
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
            Action::RepeatDeadLetter(place) => {
                next.lanes[place].store_dead_letter_again();
                misfortune(&mut next);
            }
            Action::Hear(place, attempt, event) => {
                next.lanes[place].apply(&Input::Feedback { attempt, event });
            }
            Action::Suppress(place) => {
                next.lanes[place].is_suppressed = true;
                misfortune(&mut next);
            }
            Action::Cancel(place) => {
                next.lanes[place].apply(&Input::Cancel);
                misfortune(&mut next);
            }
            Action::Redrive(place) => {
                let effects = next.lanes[place].apply(&Input::Redrive);
                next.lanes[place].publish(&effects);
                refusal(&mut next);
            }
            Action::Pass(place) => {
                let time = next.lanes[place].next_moment()?;
                next.lanes[place].pass(time);
            }
        }
        next.tidy();
        (next != *last).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn holds(state: &State, invariant: Invariant) -> bool {
            state.lanes.iter().all(|lane| lane.broken != Some(invariant))
        }
        let mut properties = vec![
            Property::always("I1: every delivery ends once nothing fails any more", |model: &Self, state: &State| {
                state.lanes.iter().enumerate().all(|(place, _)| model.ends(state, place))
            }),
            Property::always("I2: no call without a claim of its own", |_, state| holds(state, Invariant::I2)),
            Property::always("I3: no undeclared duplicate", |_, state| holds(state, Invariant::I3)),
            Property::always("I5: no move that is not allowed", |_, state| holds(state, Invariant::I5)),
            Property::always("I6: attempts are bounded, and holds cost none", |_, state| holds(state, Invariant::I6)),
            Property::always("I7: no claim after a suppression", |_, state| holds(state, Invariant::I7)),
            // What never happens proves nothing: these have to be seen.
            Property::sometimes("a worker outlives its lease", |_, state: &State| {
                state.hands.iter().any(|hand| match *hand {
                    Hand::Claimed { place, .. } => state.lanes[place].row.state == DeliveryState::Unknown,
                    Hand::Free | Hand::Answered { .. } => false,
                })
            }),
            Property::sometimes("a delivery is dead", |_, state: &State| {
                state.lanes.iter().any(|lane| lane.row.state == DeliveryState::Dead && lane.row.due_at.is_none())
            }),
        ];
        if self.policies.contains(&UnknownPolicy::AtLeastOnce) {
            properties.push(Property::sometimes("a delivery is sent twice, and says so", |_, state: &State| {
                state.lanes.iter().any(|lane| lane.accepted.count_ones() > 1)
            }));
        }
        properties
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
    let effects = lane.apply(&Input::Claim { id: u64::from(before.row.attempt_count) + 1, verdict });
    if effects.iter().any(|effect| matches!(effect, Effect::Claimed(_))) {
        if before.is_suppressed {
            lane.break_rule(Invariant::I7);
        }
        // Nothing is sent again that was withdrawn.
        if before.row.is_withdrawn || !before.may_be_sent_again() {
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
mod tests;
