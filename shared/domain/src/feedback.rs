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
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EVENTS: [MailEvent; 9] = [
        MailEvent::Sent,
        MailEvent::Delayed,
        MailEvent::Delivered,
        MailEvent::Bounced(Bounce::Hard),
        MailEvent::Bounced(Bounce::Soft),
        MailEvent::Bounced(Bounce::Content),
        MailEvent::Complained,
        MailEvent::Rejected,
        MailEvent::RenderingFailed,
    ];

    /// Every way in which a delivery can stand, with each reason that its state takes in feedback.
    fn standings() -> Vec<DeliveryStanding> {
        let reasons = |state: DeliveryState| match state {
            DeliveryState::Bounced => {
                vec![Some(Reason::SoftBounce), Some(Reason::ContentRejected), Some(Reason::HardBounce)]
            }
            DeliveryState::Complained => vec![Some(Reason::Complaint)],
            DeliveryState::Failed => vec![Some(Reason::ProviderRejected), Some(Reason::OutcomeUnknown)],
            _ => vec![None],
        };
        let states = DeliveryState::ALL.iter().copied();
        states
            .flat_map(|state| reasons(state).into_iter().map(move |reason| DeliveryStanding { state, reason }))
            .collect()
    }

    fn attempts() -> impl Iterator<Item = AttemptStanding> {
        let known = std::iter::once(None).chain(Feedback::ALL.iter().copied().map(Some));
        known.flat_map(|feedback| [true, false].map(|is_latest| AttemptStanding { feedback, is_latest }))
    }

    fn stands(state: DeliveryState, reason: Option<Reason>) -> Option<DeliveryStanding> {
        Some(DeliveryStanding { state, reason })
    }

    #[test]
    fn every_move_is_one_that_the_state_machine_allows() {
        for delivery in standings() {
            for attempt in attempts() {
                for event in EVENTS {
                    let step = decide_feedback(delivery, attempt, event);
                    let Some(moved) = step.and_then(|step| step.delivery) else { continue };
                    let stays = moved.state == delivery.state && moved.reason != delivery.reason;
                    assert!(
                        stays || delivery.state.may_become(moved.state),
                        "{event:?}: {} may not become {}",
                        delivery.state,
                        moved.state
                    );
                }
            }
        }
    }

    #[test]
    fn nothing_that_is_said_of_a_mail_leads_out_of_an_end_that_is_none_of_its_outcomes() {
        let ends = [
            DeliveryState::Skipped,
            DeliveryState::Canceled,
            DeliveryState::Expired,
            DeliveryState::Failed,
            DeliveryState::Dead,
            DeliveryState::Absorbed,
        ];
        for delivery in standings().into_iter().filter(|standing| ends.contains(&standing.state)) {
            for event in EVENTS {
                let attempt = AttemptStanding { feedback: None, is_latest: true };
                let step = decide_feedback(delivery, attempt, event).expect("the attempt shows what was said");
                assert_eq!(step.delivery, None, "{event:?} moves a delivery that is {}", delivery.state);
                assert_eq!(step.feedback, event.feedback());
            }
        }
    }

    #[test]
    fn a_second_copy_of_an_event_changes_nothing() {
        for delivery in standings() {
            for attempt in attempts() {
                for event in EVENTS {
                    let Some(step) = decide_feedback(delivery, attempt, event) else { continue };
                    let after = AttemptStanding { feedback: Some(step.feedback), ..attempt };
                    assert_eq!(decide_feedback(step.delivery.unwrap_or(delivery), after, event), None);
                }
            }
        }
    }

    #[test]
    fn each_event_settles_an_unknown_delivery() {
        use DeliveryState::*;
        let table = [
            (MailEvent::Sent, Sent, None),
            (MailEvent::Delayed, Sent, None),
            (MailEvent::Delivered, Delivered, None),
            (MailEvent::Bounced(Bounce::Hard), Bounced, Some(Reason::HardBounce)),
            (MailEvent::Bounced(Bounce::Soft), Bounced, Some(Reason::SoftBounce)),
            (MailEvent::Bounced(Bounce::Content), Bounced, Some(Reason::ContentRejected)),
            (MailEvent::Complained, Complained, Some(Reason::Complaint)),
            (MailEvent::Rejected, Failed, Some(Reason::ProviderRejected)),
            (MailEvent::RenderingFailed, Failed, Some(Reason::ProviderRejected)),
        ];
        // An event may also come before the attempt is recorded, or while another one is waited for.
        for state in [Unknown, Sending, Queued, Held] {
            for (event, end, reason) in table {
                let delivery = DeliveryStanding { state, reason: None };
                let step = decide_feedback(delivery, AttemptStanding { feedback: None, is_latest: true }, event);
                assert_eq!(step.expect("it is news").delivery, stands(end, reason), "{event:?} of what is {state}");
            }
        }
    }

    #[test]
    fn a_late_soft_bounce_takes_nothing_back_and_a_late_delivery_takes_a_soft_bounce_back() {
        let attempt = AttemptStanding { feedback: None, is_latest: true };
        let delivered = DeliveryStanding { state: DeliveryState::Delivered, reason: None };
        let soft = MailEvent::Bounced(Bounce::Soft);
        assert_eq!(decide_feedback(delivered, attempt, soft).expect("another attempt's").delivery, None);
        let bounced = DeliveryStanding { state: DeliveryState::Bounced, reason: Some(Reason::SoftBounce) };
        let step = decide_feedback(bounced, attempt, MailEvent::Delivered).expect("it is news");
        assert_eq!((step.delivery, step.address), (Some(delivered), AddressStep::ForgetSoftBounces));
        let hard = DeliveryStanding { reason: Some(Reason::HardBounce), ..bounced };
        assert_eq!(decide_feedback(hard, attempt, MailEvent::Delivered).expect("another attempt's").delivery, None);
    }

    #[test]
    fn an_attempt_that_was_refused_says_nothing_of_the_one_that_followed() {
        for state in [DeliveryState::Sending, DeliveryState::Sent, DeliveryState::Unknown, DeliveryState::Queued] {
            let earlier = AttemptStanding { feedback: None, is_latest: false };
            let step = decide_feedback(DeliveryStanding { state, reason: None }, earlier, MailEvent::Rejected);
            assert_eq!(step.expect("the attempt shows it").delivery, None);
        }
    }

    #[test]
    fn only_what_is_the_addresss_own_fault_is_held_against_it() {
        let of = |event: MailEvent| {
            let delivery = DeliveryStanding { state: DeliveryState::Sent, reason: None };
            let attempt = AttemptStanding { feedback: None, is_latest: true };
            decide_feedback(delivery, attempt, event).expect("it is news").address
        };
        assert_eq!(of(MailEvent::Bounced(Bounce::Hard)), AddressStep::Suppress(SuppressionReason::HardBounce));
        assert_eq!(of(MailEvent::Complained), AddressStep::Suppress(SuppressionReason::Complaint));
        assert_eq!(of(MailEvent::Bounced(Bounce::Soft)), AddressStep::CountSoftBounce);
        assert_eq!(of(MailEvent::Delivered), AddressStep::ForgetSoftBounces);
        for event in [
            MailEvent::Bounced(Bounce::Content),
            MailEvent::Rejected,
            MailEvent::RenderingFailed,
            MailEvent::Sent,
            MailEvent::Delayed,
        ] {
            assert_eq!(of(event), AddressStep::Nothing, "{event:?}");
        }
    }

    #[test]
    fn the_fifth_soft_bounce_in_a_row_suppresses() {
        let counts: Vec<bool> = (3..=6).map(suppresses_after).collect();
        assert_eq!(counts, [false, false, true, true]);
    }

    /// A delivery, its attempts, and its address, to which events are applied one after the other.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct World {
        delivery: DeliveryStanding,
        attempts: Vec<Option<Feedback>>,
        soft_bounces: u32,
        suppressed: Option<SuppressionReason>,
    }

    impl World {
        fn apply(&mut self, attempt: usize, event: MailEvent) {
            let standing =
                AttemptStanding { feedback: self.attempts[attempt], is_latest: attempt + 1 == self.attempts.len() };
            let Some(step) = decide_feedback(self.delivery, standing, event) else { return };
            assert!(Some(step.feedback) > self.attempts[attempt], "an attempt's feedback went backwards");
            self.attempts[attempt] = Some(step.feedback);
            self.delivery = step.delivery.unwrap_or(self.delivery);
            match step.address {
                AddressStep::Nothing => {}
                AddressStep::CountSoftBounce => {
                    self.soft_bounces += 1;
                    if suppresses_after(self.soft_bounces) {
                        self.suppressed.get_or_insert(SuppressionReason::SoftBounces);
                    }
                }
                AddressStep::ForgetSoftBounces => {
                    self.soft_bounces = 0;
                    self.suppressed.take_if(|reason| *reason == SuppressionReason::SoftBounces);
                }
                AddressStep::Suppress(reason) => drop(self.suppressed.insert(reason)),
            }
        }

        fn after(&self, events: &[(usize, MailEvent)]) -> Self {
            let mut world = self.clone();
            events.iter().for_each(|(attempt, event)| world.apply(*attempt, *event));
            world
        }

        /// What stays the same whatever the order: which of several reasons an address was suppressed for, and how many
        /// bounces were counted between two deliveries of different attempts, does not.
        fn settled(&self) -> (DeliveryStanding, Vec<Option<Feedback>>) {
            (self.delivery, self.attempts.clone())
        }
    }

    /// What the provider can say of one mail: it refuses it, or tries to deliver it.
    fn events_of_a_mail() -> impl Strategy<Value = Vec<MailEvent>> {
        let refused = Just(vec![MailEvent::Sent, MailEvent::Rejected]);
        let tried = proptest::sample::subsequence(EVENTS[..7].to_vec(), 0..=7);
        prop_oneof![1 => refused, 4 => tried]
    }

    /// Events, each with the place of its attempt.
    type Told = Vec<(usize, MailEvent)>;

    /// The events of up to three attempts, each once or twice, in two orders.
    fn two_orders() -> impl Strategy<Value = (usize, Told, Told)> {
        let mails = proptest::collection::vec(events_of_a_mail(), 1..=3);
        mails.prop_flat_map(|mails| {
            let count = mails.len();
            let latest_is_refused = mails[count - 1].contains(&MailEvent::Rejected);
            let once: Vec<(usize, MailEvent)> = mails
                .into_iter()
                .enumerate()
                .flat_map(|(attempt, events)| events.into_iter().map(move |event| (attempt, event)))
                // A refusal of the latest attempt ends the delivery. What then arrives of an earlier one is absorbed.
                .filter(|(attempt, event)| {
                    !latest_is_refused || attempt + 1 == count || matches!(event, MailEvent::Sent | MailEvent::Rejected)
                })
                .collect();
            let twice: Vec<_> = once.iter().chain(&once).copied().collect();
            (Just(count), Just(once).prop_shuffle(), Just(twice).prop_shuffle())
        })
    }

    proptest! {
        #[test]
        fn events_end_in_the_same_state_in_any_order_and_however_often_they_come(
            (count, once, twice) in two_orders(), place in 0usize..100,
        ) {
            let standings = standings();
            let delivery = standings[place % standings.len()];
            let world = World { delivery, attempts: vec![None; count], soft_bounces: 0, suppressed: None };
            prop_assert_eq!(world.after(&once).settled(), world.after(&twice).settled());
        }

        #[test]
        fn one_mails_events_lead_to_the_same_suppression_in_any_order(
            (once, twice) in events_of_a_mail().prop_flat_map(|events| {
                let once: Vec<_> = events.into_iter().map(|event| (0, event)).collect();
                let twice: Vec<_> = once.iter().chain(&once).copied().collect();
                (Just(once).prop_shuffle(), Just(twice).prop_shuffle())
            }),
            soft_bounces in 0u32..SOFT_BOUNCES_IN_A_ROW,
        ) {
            let delivery = DeliveryStanding { state: DeliveryState::Sending, reason: None };
            let world = World { delivery, attempts: vec![None], soft_bounces, suppressed: None };
            let (one, other) = (world.after(&once), world.after(&twice));
            prop_assert_eq!(one.suppressed.is_some(), other.suppressed.is_some(), "{:?} {:?}", one, other);
            prop_assert_eq!(one.settled(), other.settled());
        }

        #[test]
        fn no_order_of_whatever_events_takes_a_known_outcome_back(
            events in proptest::collection::vec((0usize..3, proptest::sample::select(EVENTS.to_vec())), 0..20),
            place in 0usize..100,
        ) {
            let standings = standings();
            let delivery = standings[place % standings.len()];
            let mut world = World { delivery, attempts: vec![None; 3], soft_bounces: 0, suppressed: None };
            for (attempt, event) in events {
                let before = world.clone();
                world.apply(attempt, event);
                match (before.delivery.known(), world.delivery.known()) {
                    (Ok(old), Ok(new)) => prop_assert!(new >= old, "{:?} became {:?}", before, world),
                    (Ok(old), Err(_)) => prop_assert!(old <= Some(Feedback::Sent), "{:?} became {:?}", before, world),
                    (Err(_), new) => {
                        prop_assert!(new.is_err());
                        prop_assert_eq!(before.delivery, world.delivery);
                    }
                }
            }
        }
    }
}
