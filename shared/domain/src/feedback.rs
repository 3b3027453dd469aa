//! What the provider tells of a mail after it took it, and what follows from that.
//!
//! Events come late, twice, in any order, or never. So an attempt keeps only the strongest thing that was ever said of
//! it ([`Feedback`], in the order of strength), and [`decide_feedback`] does something only where an event says more.
//! That is also what makes a second copy of an event harmless: it says nothing new.
//!
//! What becomes of the delivery does not depend on the order of the events either: a stronger word moves it, a weaker
//! one does not. Two things stand above that: ends which are no outcome of a mail (`failed`, `dead`, `canceled`,
//! `expired`, `skipped`) stay, and the attempt alone shows what was said; and a refusal counts only for the latest
//! attempt, because an earlier one that was refused says nothing of the one that followed.

use crate::delivery::{DeliveryState, Reason, named};
use std::fmt;

/// How many soft bounces in a row, with no delivery between them, make one tenant's address suppressed.
pub const SOFT_BOUNCES_IN_A_ROW: u32 = 5;

/// One thing that the provider said of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MailEvent {
    /// Taken; it will try to deliver it.
    Sent,
    /// Not delivered yet; it goes on trying.
    Delayed,
    /// The recipient's server took it.
    Delivered,
    /// The recipient's server did not, and the provider has given up.
    Bounced(Bounce),
    /// The recipient reported it.
    Complained,
    /// The provider refused the content after it had taken the mail.
    Rejected,
    /// The provider could not make the mail from its own template.
    RenderingFailed,
}

/// Why a mail came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bounce {
    /// The address does not take mail, or stands on the provider's own list of such addresses.
    Hard,
    /// The server or the mailbox could not take it for now, or nobody knows why.
    Soft,
    /// The mail itself was not to the server's liking: too large, or its content. It says nothing of the address.
    Content,
}

named! {
    /// The strongest thing that was said of an attempt's mail, the weakest first.
    Feedback {
        /// The provider took it.
        Sent = "sent",
        /// The provider still tries to deliver it.
        Delayed = "delayed",
        /// The provider refused it after all.
        Rejected = "rejected",
        /// It came back for a reason that may pass; also what automatic answers look like.
        SoftBounced = "soft_bounced",
        /// It came back because of its content or size.
        ContentRejected = "content_rejected",
        /// The recipient's server took it.
        Delivered = "delivered",
        /// It came back for good.
        Bounced = "bounced",
        /// The recipient reported it.
        Complained = "complained",
    }
}

named! {
    /// Why an address must not be sent to.
    SuppressionReason {
        /// A mail to it came back for good.
        HardBounce = "hard_bounce",
        /// Mails to it came back again and again.
        SoftBounces = "soft_bounces",
        /// Its owner reported a mail.
        Complaint = "complaint",
        /// Somebody said so.
        Manual = "manual",
    }
}

impl MailEvent {
    /// What an attempt keeps of the event.
    pub const fn feedback(self) -> Feedback {
        match self {
            Self::Sent => Feedback::Sent,
            Self::Delayed => Feedback::Delayed,
            Self::Delivered => Feedback::Delivered,
            Self::Bounced(Bounce::Hard) => Feedback::Bounced,
            Self::Bounced(Bounce::Soft) => Feedback::SoftBounced,
            Self::Bounced(Bounce::Content) => Feedback::ContentRejected,
            Self::Complained => Feedback::Complained,
            Self::Rejected | Self::RenderingFailed => Feedback::Rejected,
        }
    }
}

impl Feedback {
    /// The state of a delivery whose mail this was said of, and the reason that the state wants.
    const fn outcome(self) -> (DeliveryState, Option<Reason>) {
        match self {
            Self::Sent | Self::Delayed => (DeliveryState::Sent, None),
            Self::Rejected => (DeliveryState::Failed, Some(Reason::ProviderRejected)),
            Self::SoftBounced => (DeliveryState::Bounced, Some(Reason::SoftBounce)),
            Self::ContentRejected => (DeliveryState::Bounced, Some(Reason::ContentRejected)),
            Self::Delivered => (DeliveryState::Delivered, None),
            Self::Bounced => (DeliveryState::Bounced, Some(Reason::HardBounce)),
            Self::Complained => (DeliveryState::Complained, Some(Reason::Complaint)),
        }
    }

    /// What it says of the address that the mail went to.
    const fn address_step(self) -> AddressStep {
        match self {
            Self::Sent | Self::Delayed | Self::Rejected | Self::ContentRejected => AddressStep::Nothing,
            Self::SoftBounced => AddressStep::CountSoftBounce,
            Self::Delivered => AddressStep::ForgetSoftBounces,
            Self::Bounced => AddressStep::Suppress(SuppressionReason::HardBounce),
            Self::Complained => AddressStep::Suppress(SuppressionReason::Complaint),
        }
    }
}

/// A delivery as it stands when an event comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryStanding {
    /// Its state.
    pub state: DeliveryState,
    /// Why it is in it.
    pub reason: Option<Reason>,
}

impl DeliveryStanding {
    /// How much is known of the delivery's mail. `None`: whatever is said of it moves the delivery.
    /// `Err`: it has ended, and nothing that is said of a mail moves it.
    fn known(self) -> Result<Option<Feedback>, Ended> {
        match self.state {
            DeliveryState::Queued | DeliveryState::Held | DeliveryState::Sending | DeliveryState::Unknown => Ok(None),
            DeliveryState::Sent => Ok(Some(Feedback::Sent)),
            DeliveryState::Delivered => Ok(Some(Feedback::Delivered)),
            DeliveryState::Complained => Ok(Some(Feedback::Complained)),
            DeliveryState::Bounced => Ok(Some(match self.reason {
                Some(Reason::SoftBounce) => Feedback::SoftBounced,
                Some(Reason::ContentRejected) => Feedback::ContentRejected,
                _ => Feedback::Bounced,
            })),
            // What is still scheduled has had no attempt that anything could be said of.
            DeliveryState::Scheduled
            | DeliveryState::Skipped
            | DeliveryState::Canceled
            | DeliveryState::Expired
            | DeliveryState::Failed
            | DeliveryState::Dead
            | DeliveryState::Absorbed => Err(Ended),
        }
    }
}

/// Says that a delivery has ended otherwise than by what became of a mail.
struct Ended;

/// An attempt as it stands when an event comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttemptStanding {
    /// The strongest thing that was said of it so far.
    pub feedback: Option<Feedback>,
    /// Whether no other attempt followed it.
    pub is_latest: bool,
}

/// What an event leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FeedbackStep {
    /// What the attempt keeps from now on.
    pub feedback: Feedback,
    /// How the delivery stands from now on, where that changes.
    pub delivery: Option<DeliveryStanding>,
    /// What becomes of the address.
    pub address: AddressStep,
}

/// What becomes of the address that a mail went to, for its tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressStep {
    /// Nothing.
    Nothing,
    /// One more soft bounce in a row; see [`suppresses_after`].
    CountSoftBounce,
    /// It takes mail: the row of soft bounces ends, and with it a suppression that they led to.
    ForgetSoftBounces,
    /// It is suppressed at once.
    Suppress(SuppressionReason),
}

/// Whether so many soft bounces in a row suppress an address.
pub const fn suppresses_after(soft_bounces: u32) -> bool {
    soft_bounces >= SOFT_BOUNCES_IN_A_ROW
}

/// Decides what an event changes; `None` where it says nothing that was not known of the attempt.
pub fn decide_feedback(delivery: DeliveryStanding, attempt: AttemptStanding, event: MailEvent) -> Option<FeedbackStep> {
    let feedback = event.feedback();
    if attempt.feedback.is_some_and(|known| known >= feedback) {
        return None;
    }
    Some(FeedbackStep {
        feedback,
        delivery: move_delivery(delivery, attempt, feedback),
        address: feedback.address_step(),
    })
}

fn move_delivery(delivery: DeliveryStanding, attempt: AttemptStanding, feedback: Feedback) -> Option<DeliveryStanding> {
    let known = delivery.known().ok()?;
    if known.is_some_and(|known| known >= feedback) || (feedback == Feedback::Rejected && !attempt.is_latest) {
        return None;
    }
    let (state, reason) = feedback.outcome();
    let moved = DeliveryStanding { state, reason };
    (moved != delivery).then_some(moved)
}

#[cfg(test)]
mod tests;
