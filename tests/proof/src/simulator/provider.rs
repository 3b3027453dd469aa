//! A provider as SES is: it may take a mail and not say so, it may refuse for reasons of the account, and it tells of
//! what became of a mail later, as well as it can.

use super::dice::Dice;
use super::executor::{MILLI, Micros, SECOND};
use super::fault::Fault;
use super::plan::{Fate, HOUR, IncidentKind, MINUTE};
use domain::delivery::Reason;
use domain::feedback::{Bounce, MailEvent};
use domain::outcome::{ProviderError, SendOutcome};
use std::collections::BTreeSet;

/// A mail on its way to the provider.
#[derive(Clone, Debug)]
pub(super) struct Mail {
    pub(super) tenant: usize,
    pub(super) delivery: usize,
    pub(super) attempt: u32,
    pub(super) address: usize,
}

/// What reached the provider.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) at: Micros,
    pub(super) mail: Mail,
    pub(super) was_accepted: bool,
}

/// Something that the provider tells, with the tags of the mail.
#[derive(Clone, Debug)]
pub(super) struct ProviderEvent {
    pub(super) tenant: usize,
    pub(super) delivery: usize,
    pub(super) attempt: u32,
    pub(super) event: MailEvent,
}

/// What the caller would hear, were nothing lost on the way.
pub(super) enum Reply {
    Accepted,
    Refused(SendOutcome),
}

#[derive(Default)]
pub(super) struct FakeProvider {
    pub(super) calls: Vec<Call>,
    /// Addresses that the account does not deliver to any more.
    pub(super) listed: BTreeSet<usize>,
    next_send_at: Micros,
}

impl FakeProvider {
    /// Takes or refuses a mail. `fails` says whether a fault happens, `is_on` whether an incident is.
    pub(super) fn receive(
        &mut self,
        mail: Mail,
        rate: Option<f64>,
        now: Micros,
        fails: impl Fn(Fault) -> bool,
        is_on: impl Fn(IncidentKind) -> bool,
    ) -> Reply {
        let refusal = self.refusal(&mail, rate, now, &fails, &is_on);
        // A 5xx may be the answer to a mail that was taken all the same.
        let was_accepted = match &refusal {
            None => true,
            Some(SendOutcome::ServerFailed(_)) => fails(Fault::ProviderReplyLost) || now.is_multiple_of(2),
            Some(_) => false,
        };
        self.calls.push(Call { at: now, mail, was_accepted });
        refusal.map_or(Reply::Accepted, Reply::Refused)
    }

    fn refusal(
        &mut self,
        mail: &Mail,
        rate: Option<f64>,
        now: Micros,
        fails: &impl Fn(Fault) -> bool,
        is_on: &impl Fn(IncidentKind) -> bool,
    ) -> Option<SendOutcome> {
        if is_on(IncidentKind::Quota) || fails(Fault::QuotaReached) {
            return Some(SendOutcome::Held(Reason::QuotaReached, words("ThrottlingException")));
        }
        if is_on(IncidentKind::Paused) || fails(Fault::SendingPaused) {
            let reason = if now.is_multiple_of(3) { Reason::AccountSuspended } else { Reason::SendingPaused };
            return Some(SendOutcome::Held(reason, words("SendingPausedException")));
        }
        if is_on(IncidentKind::IdentityUnverified { tenant: mail.tenant }) || fails(Fault::IdentityUnverified) {
            return Some(SendOutcome::Held(Reason::IdentityUnverified, words("MessageRejected")));
        }
        if is_on(IncidentKind::FailingFor { tenant: mail.tenant }) {
            return Some(SendOutcome::Transient(words("ServiceUnavailable")));
        }
        if is_on(IncidentKind::ProviderFailing) || fails(Fault::ProviderFailed) {
            return Some(SendOutcome::ServerFailed(words("ServiceUnavailable")));
        }
        if fails(Fault::MailRejected) {
            return Some(SendOutcome::Rejected(words("MessageRejected")));
        }
        let is_over_rate = rate.is_some_and(|rate| {
            let step = Micros::try_from((1e6 / rate) as i64).unwrap_or(SECOND);
            let next = self.next_send_at.max(now);
            // A second's worth at once, as an account may.
            let is_over = next > now + SECOND;
            self.next_send_at = if is_over { next } else { next + step };
            is_over
        });
        if is_over_rate || is_on(IncidentKind::ProviderThrottling) || fails(Fault::ProviderThrottled) {
            return Some(SendOutcome::Throttled(words("TooManyRequestsException")));
        }
        None
    }

    /// What is told of a taken mail, and how long afterwards.
    pub(super) fn events_of(&mut self, mail: &Mail, fate: Fate, lists: bool, dice: &Dice) -> Vec<(Micros, MailEvent)> {
        let soon = dice.within(1..2000) * MILLI;
        let later = soon + dice.within(1..60) * SECOND;
        if self.listed.contains(&mail.address) {
            return vec![(soon, MailEvent::Sent), (later, MailEvent::Bounced(Bounce::Hard))];
        }
        let mut events = vec![(soon, MailEvent::Sent)];
        if dice.happens(0.1) {
            events.push((soon + SECOND, MailEvent::Delayed));
        }
        match fate {
            Fate::Silent => {}
            Fate::Delivered => events.push((later, MailEvent::Delivered)),
            Fate::Bounced(bounce) => {
                if bounce == Bounce::Hard && lists {
                    self.listed.insert(mail.address);
                }
                events.push((later, MailEvent::Bounced(bounce)));
            }
            Fate::Complained => {
                events.push((later, MailEvent::Delivered));
                events.push((later + dice.within(1..60) * MINUTE, MailEvent::Complained));
            }
            Fate::Rejected => events.push((later, MailEvent::Rejected)),
            Fate::RenderingFailed => events.push((later, MailEvent::RenderingFailed)),
        }
        events
    }
}

/// How much later than it should an event may come.
pub(super) fn lateness(dice: &Dice) -> Micros {
    dice.within(1..2 * HOUR)
}

fn words(code: &str) -> ProviderError {
    ProviderError { code: code.to_owned(), detail: String::new() }
}
