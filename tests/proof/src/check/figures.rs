//! What is published of a run.

use super::accepted::{accepted_notifications, was_never_sent};
use super::lookup::Lookup;
use super::sends::count_duplicates;
use crate::history::{Answer, History};
use domain::delivery::{AttemptOutcome, DeliveryState, Reason};
use serde::Serialize;
use std::collections::HashSet;
use std::ops::AddAssign;

/// What a run, or many, came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Requests.
    pub requests: u64,
    /// Requests whose caller got no answer, or a 5xx.
    pub unanswered: u64,
    /// Notifications that were accepted.
    pub accepted: u64,
    /// Notifications that were stored although no caller came to know.
    pub stored_unanswered: u64,
    /// Accepted notifications that are not there, have not ended, or ended as sent and were not.
    pub lost: u64,
    /// Attempts.
    pub attempts: u64,
    /// Requests that reached the provider.
    pub provider_calls: u64,
    /// Those that it took.
    pub provider_accepted: u64,
    /// Deliveries of which the provider took at least one mail.
    pub sent: u64,
    /// Mails sent again after an attempt of unknown outcome, by the category's policy, and shown.
    pub duplicates_declared: u64,
    /// Mails sent again otherwise.
    pub duplicates_undeclared: u64,
    /// Attempts that were unknown at some time.
    pub unknown: u64,
    /// Of those, the ones whose outcome came to be known.
    pub unknown_settled: u64,
    /// Deliveries given up because their outcome never came to be known.
    pub outcome_unknown: u64,
    /// Deliveries that ended `delivered`.
    pub delivered: u64,
    /// Deliveries that ended `bounced`.
    pub bounced: u64,
    /// Deliveries that ended `complained`.
    pub complained: u64,
    /// Deliveries that ended `failed`, those of unknown outcome included.
    pub failed: u64,
    /// Deliveries that ended `dead`.
    pub dead: u64,
    /// Deliveries that ended `expired`.
    pub expired: u64,
    /// Deliveries that ended `canceled`.
    pub canceled: u64,
    /// Deliveries that ended `skipped`.
    pub skipped: u64,
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.unanswered += other.unanswered;
        self.accepted += other.accepted;
        self.stored_unanswered += other.stored_unanswered;
        self.lost += other.lost;
        self.attempts += other.attempts;
        self.provider_calls += other.provider_calls;
        self.provider_accepted += other.provider_accepted;
        self.sent += other.sent;
        self.duplicates_declared += other.duplicates_declared;
        self.duplicates_undeclared += other.duplicates_undeclared;
        self.unknown += other.unknown;
        self.unknown_settled += other.unknown_settled;
        self.outcome_unknown += other.outcome_unknown;
        self.delivered += other.delivered;
        self.bounced += other.bounced;
        self.complained += other.complained;
        self.failed += other.failed;
        self.dead += other.dead;
        self.expired += other.expired;
        self.canceled += other.canceled;
        self.skipped += other.skipped;
    }
}

/// Counts a history, whether or not every invariant holds for it.
pub fn count_figures(history: &History) -> Figures {
    count(&Lookup::of(history))
}

pub(super) fn count(lookup: &Lookup<'_>) -> Figures {
    let history = lookup.history;
    let mut figures = Figures { requests: history.requests.len() as u64, ..Figures::default() };
    figures.unanswered = history.requests.iter().filter(|request| request.answer == Answer::Unknown).count() as u64;

    let accepted = accepted_notifications(history);
    figures.accepted = accepted.len() as u64;
    for (_, notification) in &accepted {
        let deliveries = lookup.deliveries_of(*notification);
        let is_lost = deliveries.is_empty()
            || deliveries.iter().any(|delivery| {
                delivery.state.is_open() || lookup.story((delivery.tenant, delivery.id)).is_some_and(was_never_sent)
            });
        figures.lost += u64::from(is_lost);
    }
    let answered: HashSet<_> = accepted.into_iter().map(|(_, notification)| notification).collect();
    let stored: HashSet<_> = history.deliveries.iter().map(|delivery| delivery.notification).collect();
    figures.stored_unanswered = stored.difference(&answered).count() as u64;

    figures.provider_calls = history.calls.len() as u64;
    figures.provider_accepted = history.calls.iter().filter(|call| call.was_accepted).count() as u64;
    for (_, story) in lookup.stories() {
        figures.sent += u64::from(story.calls.iter().any(|call| call.was_accepted));
        let duplicates = count_duplicates(story);
        figures.duplicates_declared += duplicates.declared;
        figures.duplicates_undeclared += duplicates.undeclared;
        figures.attempts += story.attempts.len() as u64;
        for attempt in story.attempts.iter().filter(|attempt| attempt.declared_unknown_at.is_some()) {
            figures.unknown += 1;
            let is_known = attempt.feedback_at.is_some() || attempt.outcome != Some(AttemptOutcome::Unknown);
            figures.unknown_settled += u64::from(is_known);
        }
        let Some(delivery) = story.delivery else { continue };
        figures.outcome_unknown +=
            u64::from(delivery.state == DeliveryState::Failed && delivery.reason == Some(Reason::OutcomeUnknown));
        match delivery.state {
            DeliveryState::Delivered => figures.delivered += 1,
            DeliveryState::Bounced => figures.bounced += 1,
            DeliveryState::Complained => figures.complained += 1,
            DeliveryState::Failed => figures.failed += 1,
            DeliveryState::Dead => figures.dead += 1,
            DeliveryState::Expired => figures.expired += 1,
            DeliveryState::Canceled => figures.canceled += 1,
            DeliveryState::Skipped => figures.skipped += 1,
            _ => {}
        }
    }
    figures
}
