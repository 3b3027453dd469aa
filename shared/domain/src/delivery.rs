//! A delivery, its states, and which may follow which.
//!
//! A delivery is one notification on one channel.
//! [`DeliveryState::may_become`] is the whole state machine; the database holds the same table in
//! `harkara.may_become`, and a test compares the two.

use std::fmt;

/// Declares an enum whose variants have one stored and printed name each.
macro_rules! named {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_meta])* $variant,)+ }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in the database, the API and the logs.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// Accepts exactly what `as_str` gives.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use named;

named! {
    /// A way to reach a recipient.
    Channel {
        /// Mail, through Amazon SES.
        Email = "email",
        /// Text message.
        Sms = "sms",
        /// To an app, by its platform.
        Push = "push",
        /// Slack.
        Slack = "slack",
        /// Microsoft Teams.
        Teams = "teams",
        /// A call.
        Voice = "voice",
        /// Within the tenant's own app.
        InApp = "in_app",
    }
}

impl Channel {
    /// Those that can be sent by now. Preferences and consents may name the others already.
    pub const SENDABLE: &'static [Self] = &[Self::Email];

    /// Like [`Channel::parse`], for what can be sent.
    pub fn parse_sendable(text: &str) -> Option<Self> {
        Self::parse(text).filter(|channel| Self::SENDABLE.contains(channel))
    }
}

named! {
    /// Where a delivery stands. The comment of each state says who moves it on.
    DeliveryState {
        /// Waits in the database for its time; `dispatcher` publishes it.
        Scheduled = "scheduled",
        /// Published, or about to be; `processor` claims it.
        Queued = "queued",
        /// Claimed, under a lease; `processor` records the outcome, or `dispatcher` ends the lease.
        Sending = "sending",
        /// Waits for something outside the message and spends no attempt; `dispatcher` publishes it again.
        Held = "held",
        /// An attempt was made and nobody knows whether it was sent; `feedback` or the category's policy settles it.
        Unknown = "unknown",
        /// The provider accepted it. An end too, when no feedback comes.
        Sent = "sent",
        /// The recipient's server took it.
        Delivered = "delivered",
        /// The recipient's server refused it.
        Bounced = "bounced",
        /// The recipient reported it.
        Complained = "complained",
        /// Decided against, with a reason; never a failure.
        Skipped = "skipped",
        /// Withdrawn by the caller before it was sent.
        Canceled = "canceled",
        /// Not sent in time.
        Expired = "expired",
        /// Refused for good, with a reason.
        Failed = "failed",
        /// Attempts used up; its message is in the dead-letter queue, and a redrive queues it again.
        Dead = "dead",
        /// Left within another message: a batch, a digest or a later debounce. Where that ends without being sent, the
        /// database queues it again, to go by itself.
        Absorbed = "absorbed",
    }
}

impl DeliveryState {
    /// Whether something is still to be done for it. An open delivery always has a due time.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Scheduled | Self::Queued | Self::Sending | Self::Held | Self::Unknown)
    }

    /// Whether `next` may follow this state. Ends absorb, except that feedback may learn more of a mail that went out:
    /// that it was refused after all, that it was reported, or that what looked like a bounce arrived.
    /// Only a redrive leads out of `dead`, and out of `absorbed` only that the message it left in surely was not sent.
    ///
    /// Feedback may come before the attempt is recorded, and while another one is waited for: the mail is out.
    pub const fn may_become(self, next: Self) -> bool {
        use DeliveryState::*;
        match self {
            Scheduled => matches!(next, Queued | Held | Skipped | Canceled | Expired | Absorbed),
            Queued => matches!(
                next,
                Sending
                    | Held
                    | Skipped
                    | Canceled
                    | Expired
                    | Dead
                    | Absorbed
                    | Sent
                    | Delivered
                    | Bounced
                    | Complained
                    | Failed
            ),
            Held => matches!(
                next,
                Queued
                    | Sending
                    | Skipped
                    | Canceled
                    | Expired
                    | Dead
                    | Absorbed
                    | Sent
                    | Delivered
                    | Bounced
                    | Complained
                    | Failed
            ),
            Sending => matches!(
                next,
                Sent | Delivered
                    | Bounced
                    | Complained
                    | Queued
                    | Held
                    | Unknown
                    | Skipped
                    | Canceled
                    | Expired
                    | Failed
                    | Dead
            ),
            Unknown => matches!(next, Sent | Delivered | Bounced | Complained | Queued | Failed | Dead),
            Sent => matches!(next, Delivered | Bounced | Complained | Failed),
            Delivered => matches!(next, Bounced | Complained),
            Bounced => matches!(next, Delivered | Complained),
            Dead | Absorbed => matches!(next, Queued),
            Complained | Skipped | Canceled | Expired | Failed => false,
        }
    }
}

named! {
    /// Why a delivery is in its state: a code that programs can rely on.
    Reason {
        /// `unknown`: the lease ended before an outcome was recorded.
        LeaseExpired = "lease_expired",
        /// `unknown`, `failed`: the provider may have accepted it, and did not say.
        OutcomeUnknown = "outcome_unknown",
        /// `dead`: every attempt that the category allows was spent.
        AttemptsUsedUp = "attempts_used_up",
        /// `failed`: the template did not render for this recipient.
        RenderFailed = "render_failed",
        /// `failed`: the recipient has no address for the channel any more.
        NoAddress = "no_address",
        /// `failed`: the template has no version for the channel.
        NoTemplate = "no_template",
        /// `failed`: the provider refused the message for good, at once or after it had accepted it.
        ProviderRejected = "provider_rejected",
        /// `bounced`: the address does not take mail, and is suppressed.
        HardBounce = "hard_bounce",
        /// `bounced`: the recipient's server did not take the mail for now; the provider has given up.
        SoftBounce = "soft_bounce",
        /// `bounced`: the recipient's server refused the content or its size; the address is sound.
        ContentRejected = "content_rejected",
        /// `complained`: the recipient reported the mail, and the address is suppressed.
        Complaint = "complaint",
        /// `skipped`: the address is suppressed.
        AddressSuppressed = "address_suppressed",
        /// `skipped`: the recipient, or the tenant for those who say nothing, has switched it off.
        PreferenceOff = "preference_off",
        /// `skipped`: the category needs a consent that was never given.
        ConsentMissing = "consent_missing",
        /// `skipped`: the category needs a consent that was taken back.
        ConsentWithdrawn = "consent_withdrawn",
        /// `skipped`: the recipient got as many of this category as its throttle allows.
        RecipientThrottled = "recipient_throttled",
        /// `skipped`: the recipient got as much as the tenant's frequency cap allows.
        FrequencyCapReached = "frequency_cap_reached",
        /// `held`: it is the recipient's quiet hours.
        QuietHours = "quiet_hours",
        /// `held`: others that are being sent to the recipient may use up what its throttle or the frequency cap allows.
        EarlierSendPending = "earlier_send_pending",
        /// `held`: the recipient wants to hear of it less often.
        CadenceNotDue = "cadence_not_due",
        /// `absorbed`: it left within a digest.
        InDigest = "in_digest",
        /// `absorbed`: it left in the message of its batch.
        LeftInBatch = "left_in_batch",
        /// `absorbed`: a later one with its debounce key took its place.
        ReplacedByLater = "replaced_by_later",
        /// `absorbed`: it was the last of its debounce, and left in the message that tells the first and the last.
        LeftInDebounce = "left_in_debounce",
        /// `expired`: its `expires_at` passed before it was sent, or would before it may be.
        ExpiryPassed = "expiry_passed",
        /// `canceled`: the caller withdrew it.
        CanceledByCaller = "canceled_by_caller",
        /// `canceled`: the recipient was erased.
        RecipientErased = "recipient_erased",
        /// `held`: the provider account's daily quota is used up.
        QuotaReached = "quota_reached",
        /// `held`: sending is paused for the provider account or configuration set.
        SendingPaused = "sending_paused",
        /// `held`: the provider account is suspended.
        AccountSuspended = "account_suspended",
        /// `held`: the sender's identity is not verified.
        IdentityUnverified = "identity_unverified",
        /// `held`: the provider account is in its sandbox, and the recipient is not verified.
        RecipientUnverified = "recipient_unverified",
        /// `held`: the provider lacks something that the deployment names, such as a configuration set.
        ConfigurationMissing = "configuration_missing",
    }
}

named! {
    /// How one attempt ended.
    AttemptOutcome {
        /// The provider accepted the message.
        Sent = "sent",
        /// Everything but the provider call was done: the notification is a sandbox one.
        Sandboxed = "sandboxed",
        /// Decided against before the provider was called.
        NotSent = "not_sent",
        /// Surely not sent; trying again may help.
        Transient = "transient",
        /// Surely not sent: the provider wants fewer requests. Not counted.
        Throttled = "throttled",
        /// Surely not sent: the account or identity cannot send now. Not counted.
        Held = "held",
        /// Refused for good.
        Rejected = "rejected",
        /// Nobody knows whether it was sent.
        Unknown = "unknown",
    }
}

/// The state of a notification as its deliveries make it: the least finished of them, so that a notification
/// is only `sent` when nothing is left to do. `None` without deliveries.
pub fn notification_state(deliveries: impl IntoIterator<Item = DeliveryState>) -> Option<DeliveryState> {
    deliveries.into_iter().min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parse_accepts_exactly_what_is_printed() {
        for &state in DeliveryState::ALL {
            assert_eq!(DeliveryState::parse(&state.to_string()), Some(state));
        }
        assert_eq!(DeliveryState::parse("Queued"), None);
    }

    #[test]
    fn every_end_but_dead_and_absorbed_stays_or_only_gets_worse() {
        for &state in DeliveryState::ALL.iter().filter(|state| !state.is_open()) {
            for &next in DeliveryState::ALL.iter().filter(|next| state.may_become(**next)) {
                let feedback = next > state && next <= DeliveryState::Complained;
                let refused = state == DeliveryState::Sent && next == DeliveryState::Failed;
                // A soft bounce is a guess of the provider, and an arrival the fact.
                let arrived = state == DeliveryState::Bounced && next == DeliveryState::Delivered;
                let again = matches!(state, DeliveryState::Dead | DeliveryState::Absorbed);
                let redrive = again && next == DeliveryState::Queued;
                assert!(feedback || refused || arrived || redrive, "{state} may not become {next}");
            }
        }
    }

    #[test]
    fn no_open_state_is_a_trap() {
        for &state in DeliveryState::ALL.iter().filter(|state| state.is_open()) {
            assert!(DeliveryState::ALL.iter().any(|&next| state.may_become(next)), "{state} leads nowhere");
        }
    }

    #[test]
    fn a_notification_is_as_far_as_its_slowest_delivery() {
        use DeliveryState::*;
        assert_eq!(notification_state([Sent, Queued]), Some(Queued));
        assert_eq!(notification_state([Delivered, Sent]), Some(Sent));
        assert_eq!(notification_state([]), None);
    }

    /// What became of a mail that went out.
    const OUTCOMES: [DeliveryState; 4] =
        [DeliveryState::Sent, DeliveryState::Delivered, DeliveryState::Bounced, DeliveryState::Complained];

    proptest! {
        /// A walk tries one state after the other and takes every step that may be taken.
        #[test]
        fn on_no_walk_does_an_end_open_again_or_is_a_mail_that_went_out_forgotten(
            tries in proptest::collection::vec(proptest::sample::select(DeliveryState::ALL.to_vec()), 0..80),
        ) {
            use DeliveryState::*;
            let mut state = Scheduled;
            let mut seen = vec![state];
            for next in tries {
                if !state.may_become(next) {
                    continue;
                }
                prop_assert_ne!(state, next, "a step changes something");
                prop_assert!(state.is_open() || !next.is_open() || matches!((state, next), (Dead | Absorbed, Queued)), "{state} to {next}");
                prop_assert!(next != Sending || matches!(state, Queued | Held), "claimed while {state}");
                prop_assert!(next != Unknown || state == Sending, "unknown without an attempt");
                if OUTCOMES.contains(&state) {
                    prop_assert!(OUTCOMES.contains(&next) || (state, next) == (Sent, Failed), "{state} to {next}");
                    prop_assert!(next != Sent, "the weakest of them comes back after {state}");
                }
                if [Complained, Skipped, Canceled, Expired, Failed].contains(&state) {
                    prop_assert!(false, "{state} does not absorb {next}");
                }
                state = next;
                seen.push(state);
            }
            let complained = seen.iter().position(|state| *state == Complained);
            prop_assert!(complained.is_none_or(|place| place + 1 == seen.len()), "a complaint was taken back: {seen:?}");
        }
    }
}
