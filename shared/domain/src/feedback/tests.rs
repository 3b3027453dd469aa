//! What events lead to, one by one and in every order.

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
    states.flat_map(|state| reasons(state).into_iter().map(move |reason| DeliveryStanding { state, reason })).collect()
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

/// What the provider can say of one mail that it tries to deliver; it comes back for one reason.
fn events_of_a_tried_mail() -> impl Strategy<Value = Vec<MailEvent>> {
    use MailEvent::{Bounced, Complained, Delayed, Delivered, Sent};
    let soft = prop_oneof![Just(Bounced(Bounce::Soft)), Just(Bounced(Bounce::Content))];
    soft.prop_flat_map(|soft| {
        proptest::sample::subsequence(vec![Sent, Delayed, soft, Delivered, Bounced(Bounce::Hard), Complained], 0..=6)
    })
}

/// What the provider can say of one mail: it refuses it, or tries to deliver it.
fn events_of_a_mail() -> impl Strategy<Value = Vec<MailEvent>> {
    let refused = Just(vec![MailEvent::Sent, MailEvent::Rejected, MailEvent::RenderingFailed]);
    prop_oneof![1 => refused, 4 => events_of_a_tried_mail()]
}

/// Events in the order in which they come, each with the place of its attempt.
type Told = Vec<(usize, MailEvent)>;

/// The events of up to three attempts, each once or twice, in two orders. Only the latest may be refused: of an earlier
/// one, what is known when the refusal comes depends on how far the later ones are.
fn two_orders() -> impl Strategy<Value = (usize, Told, Told)> {
    let mails = (proptest::collection::vec(events_of_a_tried_mail(), 0..=2), events_of_a_mail());
    mails.prop_flat_map(|(mut mails, latest)| {
        let is_refused = latest.contains(&MailEvent::Rejected);
        let count = mails.len() + 1;
        if is_refused {
            // A refusal ends the delivery, and what then arrives of an earlier attempt is absorbed.
            mails.iter_mut().for_each(|events| events.retain(|event| *event == MailEvent::Sent));
        }
        mails.push(latest);
        let once: Told = mails
            .into_iter()
            .enumerate()
            .flat_map(|(attempt, events)| events.into_iter().map(move |event| (attempt, event)))
            .collect();
        let twice: Told = once.iter().chain(&once).copied().collect();
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
