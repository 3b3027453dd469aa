//! Why a delivery was sent or was not, as a person would say it.

use crate::decision::Finding;
use crate::delivery::{AttemptOutcome, Channel, DeliveryState, Reason};
use crate::feedback::Feedback;
use crate::id::NotificationId;
use jiff::Timestamp;

/// What is known of a delivery.
#[derive(Clone)]
pub struct DeliveryStory<'a> {
    /// The channel.
    pub channel: Channel,
    /// Its state.
    pub state: DeliveryState,
    /// Why it is in it.
    pub reason: Option<Reason>,
    /// What the provider or the renderer said.
    pub detail: Option<&'a str>,
    /// Before when no attempt begins.
    pub not_before: Timestamp,
    /// When it was withdrawn, where an attempt had begun by then.
    pub withdrawn_at: Option<Timestamp>,
    /// What was found when it was last decided about; empty before that.
    pub findings: &'a [Finding],
    /// Its attempts, in order.
    pub attempts: Vec<AttemptStory>,
    /// The digest that it waits for or left with.
    pub digest: Option<DigestStory<'a>>,
}

/// What is known of the digest that a delivery waits for or left with.
#[derive(Clone, Copy, Debug)]
pub struct DigestStory<'a> {
    /// The digest's category.
    pub category: &'a str,
    /// When it is due, or was.
    pub due: Timestamp,
    /// Its notification, once it is closed.
    pub notification: Option<NotificationId>,
    /// How that stands, and why.
    pub standing: Option<(DeliveryState, Option<Reason>)>,
}

crate::masked_debug!(DeliveryStory<'_>, "DeliveryStory", channel, state, reason, not_before, attempts);

/// What is known of an attempt.
#[derive(Clone)]
pub struct AttemptStory {
    /// Its number.
    pub number: i32,
    /// When it began.
    pub started_at: Timestamp,
    /// How it ended; `None` while it runs.
    pub outcome: Option<AttemptOutcome>,
    /// The provider's code and words.
    pub error: Option<(String, Option<String>)>,
    /// The strongest thing that the provider said afterwards.
    pub feedback: Option<(Feedback, Option<Timestamp>)>,
}

crate::masked_debug!(AttemptStory, "AttemptStory", number, started_at, outcome);

/// A delivery's story: first what it came to, then why, then what was tried.
pub fn explain_delivery(story: &DeliveryStory<'_>) -> Vec<String> {
    let mut lines = vec![summarize(story)];
    if let Some(detail) = story.detail {
        lines.push(format!("It was said: {detail}."));
    }
    if let Some(at) = story.withdrawn_at {
        lines.push(format!("It was withdrawn at {at}, too late for what had left by then; it is not sent again."));
    }
    for finding in story.findings {
        lines.push(format!("Found: {finding}."));
    }
    lines.extend(story.attempts.iter().map(describe_attempt));
    lines.extend(story.digest.as_ref().map(describe_digest));
    lines
}

fn summarize(story: &DeliveryStory<'_>) -> String {
    let channel = story.channel;
    let what = match story.state {
        DeliveryState::Scheduled => format!("It waits for its time, {}", story.not_before),
        DeliveryState::Queued if story.attempts.is_empty() => "It is queued and will be sent shortly".to_owned(),
        DeliveryState::Queued => format!("It is queued to be tried again, not before {}", story.not_before),
        DeliveryState::Sending => "It is being sent".to_owned(),
        DeliveryState::Held => format!("It is held, not before {}", story.not_before),
        DeliveryState::Unknown => {
            "Nobody knows whether it was sent; the provider's events or the category's policy will settle it".to_owned()
        }
        DeliveryState::Sent => "It was sent: the provider accepted it".to_owned(),
        DeliveryState::Delivered => "It was delivered: the recipient's server took it".to_owned(),
        DeliveryState::Bounced => "It was sent, and came back".to_owned(),
        DeliveryState::Complained => "It was delivered, and the recipient reported it as unwanted".to_owned(),
        DeliveryState::Skipped => "It was not sent, on purpose".to_owned(),
        DeliveryState::Canceled => "It was withdrawn before it was sent".to_owned(),
        DeliveryState::Expired => "It was not sent, because it was too late".to_owned(),
        DeliveryState::Failed => "It could not be sent".to_owned(),
        DeliveryState::Dead => "It could not be sent; a redrive tries again".to_owned(),
        DeliveryState::Absorbed => "It left as a part of another message".to_owned(),
    };
    match story.reason {
        None => format!("By {channel}: {what}."),
        Some(reason) => format!("By {channel}: {what}, because {}.", describe_reason(reason)),
    }
}

/// A reason, to stand behind "because".
pub const fn describe_reason(reason: Reason) -> &'static str {
    match reason {
        Reason::LeaseExpired => "the worker that sent it did not come back to say how it ended",
        Reason::OutcomeUnknown => "the provider may have accepted it and did not say",
        Reason::AttemptsUsedUp => "every attempt that the category allows was spent",
        Reason::RenderFailed => "the template did not render for this recipient",
        Reason::NoAddress => "the recipient has no address for this channel any more",
        Reason::NoTemplate => "the template has no version for this channel",
        Reason::ProviderRejected => "the provider refused the message for good",
        Reason::HardBounce => "the address does not take mail; it is suppressed now",
        Reason::SoftBounce => "the recipient's server did not take it for now, and the provider gave up",
        Reason::ContentRejected => "the recipient's server refused its content or size",
        Reason::Complaint => "the recipient reported it; the address is suppressed now",
        Reason::AddressSuppressed => "the address is suppressed",
        Reason::PreferenceOff => "it is switched off",
        Reason::ConsentMissing => "the recipient never gave the consent that the category needs",
        Reason::ConsentWithdrawn => "the recipient took back the consent that the category needs",
        Reason::RecipientThrottled => "the recipient got as many of this category as its throttle allows",
        Reason::FrequencyCapReached => "the recipient got as much as the tenant's frequency cap allows",
        Reason::EarlierSendPending => {
            "others are being sent to the recipient just now, and may use up what its throttle or the frequency cap allows"
        }
        Reason::QuietHours => "it is the recipient's quiet hours",
        Reason::CadenceNotDue => "the recipient wants to hear of it less often",
        Reason::InDigest => "the recipient gets a digest instead of each",
        Reason::LeftInBatch => "it was collected into a batch",
        Reason::ReplacedByLater => "a later one with the same debounce key took its place",
        Reason::LeftInDebounce => "it was the last of its debounce, whose message tells the first and the last",
        Reason::ExpiryPassed => "its expires_at has passed, or would have before it could be sent",
        Reason::CanceledByCaller => "the caller canceled it",
        Reason::RecipientErased => "the recipient was erased",
        Reason::QuotaReached => "the provider account's daily quota is used up",
        Reason::SendingPaused => "sending is paused for the provider account",
        Reason::AccountSuspended => "the provider account is suspended",
        Reason::IdentityUnverified => "the sender is not verified with the provider",
        Reason::RecipientUnverified => "the provider account is in its sandbox, and the recipient is not verified",
        Reason::ConfigurationMissing => "the provider lacks something that the deployment names",
    }
}

fn describe_digest(digest: &DigestStory<'_>) -> String {
    let DigestStory { category, due, notification, standing } = digest;
    let Some(notification) = notification else {
        return format!("It waits for the digest {category}, which is due at {due}.");
    };
    match standing {
        Some((state, Some(reason))) => {
            format!("The digest {notification} is {state}, because {}.", describe_reason(*reason))
        }
        Some((state, None)) => format!("The digest {notification} is {state}."),
        None => format!("The digest is {notification}."),
    }
}

fn describe_attempt(attempt: &AttemptStory) -> String {
    let AttemptStory { number, started_at, outcome, error, feedback } = attempt;
    let ended = match outcome {
        None => "is under way",
        Some(AttemptOutcome::Sent) => "was accepted by the provider",
        Some(AttemptOutcome::Sandboxed) => "was rendered and kept from the provider, as a sandbox notification is",
        Some(AttemptOutcome::NotSent) => "ended before the provider was called",
        Some(AttemptOutcome::Transient) => "failed on the way to the provider",
        Some(AttemptOutcome::Throttled) => "was turned away by the provider for now, and does not count",
        Some(AttemptOutcome::Held) => "found that the provider cannot send for now, and does not count",
        Some(AttemptOutcome::Rejected) => "was refused by the provider",
        Some(AttemptOutcome::Unknown) => "ended without an answer that says whether it was sent",
    };
    let mut line = format!("Attempt {number} at {started_at} {ended}");
    if let Some((code, detail)) = error {
        line.push_str(&format!(": {code}"));
        if let Some(detail) = detail {
            line.push_str(&format!(", {detail}"));
        }
    }
    if let Some((feedback, at)) = feedback {
        line.push_str(&format!("; the provider then said {feedback}"));
        if let Some(at) = at {
            line.push_str(&format!(" at {at}"));
        }
    }
    line.push('.');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preference::Origin;

    #[test]
    fn a_skipped_delivery_says_what_stopped_it() {
        let findings = [Finding::Preference { is_on: false, origin: Origin::RecipientCategory, mandatory_for: None }];
        let story = DeliveryStory {
            channel: Channel::Email,
            state: DeliveryState::Skipped,
            reason: Some(Reason::PreferenceOff),
            detail: None,
            not_before: Timestamp::UNIX_EPOCH,
            withdrawn_at: None,
            findings: &findings,
            attempts: Vec::new(),
            digest: None,
        };
        assert_eq!(
            explain_delivery(&story),
            [
                "By email: It was not sent, on purpose, because it is switched off.",
                "Found: it is switched off by the recipient, for this category.",
            ]
        );
    }

    #[test]
    fn a_withdrawn_delivery_says_that_what_had_left_may_come() {
        let story = DeliveryStory {
            channel: Channel::Email,
            state: DeliveryState::Unknown,
            reason: Some(Reason::OutcomeUnknown),
            detail: None,
            not_before: Timestamp::UNIX_EPOCH,
            withdrawn_at: Some(Timestamp::UNIX_EPOCH),
            findings: &[],
            attempts: Vec::new(),
            digest: None,
        };
        assert_eq!(
            explain_delivery(&story)[1],
            "It was withdrawn at 1970-01-01T00:00:00Z, too late for what had left by then; it is not sent again."
        );
    }

    #[test]
    fn every_state_and_reason_has_a_sentence_of_its_own() {
        let story = |state, reason| DeliveryStory {
            channel: Channel::Email,
            state,
            reason,
            detail: None,
            not_before: Timestamp::UNIX_EPOCH,
            withdrawn_at: None,
            findings: &[],
            attempts: Vec::new(),
            digest: None,
        };
        let mut said: Vec<_> = DeliveryState::ALL.iter().map(|state| summarize(&story(*state, None))).collect();
        said.extend(Reason::ALL.iter().map(|reason| describe_reason(*reason).to_owned()));
        let count = said.len();
        said.sort();
        said.dedup();
        assert_eq!(said.len(), count);
    }
}
