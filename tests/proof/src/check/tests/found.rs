//! What is found: one planted violation, or more, for each invariant.

use super::*;
use crate::check::Invariant::{self, *};
use domain::delivery::Reason;

/// Plants something in a clean run, and finds this invariant broken and no other.
fn finds(invariant: Invariant, plant: impl FnOnce(&mut History)) {
    let mut history = clean();
    assert_eq!(violations(&history), [], "the run is clean before");
    plant(&mut history);
    let found: Vec<Invariant> = violations(&history).into_iter().map(|violation| violation.invariant).collect();
    assert!(!found.is_empty(), "{invariant} was not found");
    assert!(found.iter().all(|it| *it == invariant), "{invariant} was planted, and {found:?} found");
}

#[test]
fn i1_finds_what_was_accepted_and_is_not_there() {
    finds(I1, |history| {
        history.requests[0].asked_count = 2;
        history.requests[0].answer = Answer::Accepted(vec![notification(1), notification(9)]);
    });
}

#[test]
fn i1_finds_what_is_there_and_nobody_asked_for() {
    finds(I1, |history| history.requests[0].asked_count = 0);
}

#[test]
fn i1_finds_what_has_not_ended() {
    finds(I1, |history| {
        history.transitions.truncate(2);
        history.deliveries[0].state = DeliveryState::Sending;
    });
}

#[test]
fn i1_finds_what_says_that_it_was_sent_and_was_not() {
    finds(I1, |history| history.calls.clear());
}

#[test]
fn i2_finds_a_call_without_a_claim() {
    finds(I2, |history| history.calls[0].attempt = Some(7));
}

#[test]
fn i2_finds_a_call_before_its_claim() {
    finds(I2, |history| history.calls[0].at = second(9));
}

#[test]
fn i2_finds_a_call_without_a_tag_and_one_for_nobody() {
    finds(I2, |history| history.calls[0].attempt = None);
    finds(I2, |history| {
        let nobodys = ProviderCall { notification: None, ..history.calls[0].clone() };
        history.calls.push(nobodys);
    });
}

#[test]
fn i2_finds_a_second_call_of_an_attempt_and_a_call_of_the_sandbox() {
    finds(I2, |history| {
        let again = ProviderCall { was_accepted: false, ..history.calls[0].clone() };
        history.calls.push(again);
    });
    finds(I2, |history| history.deliveries[0].is_sandbox = true);
}

#[test]
fn i3_finds_a_mail_that_was_sent_again_before_the_window_was_over() {
    assert_eq!(violations(&repeated_at(700)), []);
    let found = violations(&repeated_at(300));
    assert_eq!(found.iter().map(|violation| violation.invariant).collect::<Vec<_>>(), [I3]);
}

/// Plants something in a run that sent twice as its policy allows.
fn finds_a_duplicate(plant: impl FnOnce(&mut History)) {
    let mut history = repeated_at(700);
    plant(&mut history);
    let found = violations(&history);
    assert_eq!(found.iter().map(|violation| violation.invariant).collect::<Vec<_>>(), [I3], "{found:?}");
}

#[test]
fn i3_finds_a_mail_that_was_sent_again_against_its_policy() {
    finds_a_duplicate(|history| history.deliveries[0].unknown_policy = UnknownPolicy::AtMostOnce);
}

#[test]
fn i3_finds_a_mail_that_was_sent_again_after_an_attempt_that_was_known() {
    finds_a_duplicate(|history| history.attempts[0].declared_unknown_at = None);
}

#[test]
fn i3_finds_a_mail_that_was_sent_again_although_the_first_had_been_heard_of() {
    finds_a_duplicate(|history| history.attempts[0].feedback_at = Some(second(699)));
}

#[test]
fn i4_finds_a_mail_with_anothers_tag_or_address_and_a_row_that_was_seen() {
    finds(I4, |history| history.calls[0].tenant = Some(tenant(2)));
    finds(I4, |history| history.calls[0].address = "eve@example.org".to_owned());
    finds(I4, |history| {
        history.sightings.push(Sighting { seen_by: tenant(2), owner: tenant(1), what: "a delivery".to_owned() });
    });
}

#[test]
fn i5_finds_an_end_that_did_not_absorb() {
    finds(I5, |history| {
        history.transitions[3].to = DeliveryState::Complained;
        move_to(history, DeliveryState::Delivered, 13);
    });
}

#[test]
fn i6_finds_too_many_attempts_and_one_that_no_claim_gave() {
    finds(I6, |history| history.deliveries[0].max_attempts = 0);
    finds(I6, |history| history.attempts[0].number = 2);
    finds(I6, |history| history.transitions[2].attempt_count = 2);
}

#[test]
fn i6_finds_a_refusal_that_cost_an_attempt() {
    let mut history = repeated_at(700);
    (history.attempts[0].outcome, history.attempts[0].declared_unknown_at) = (Some(AttemptOutcome::Held), None);
    history.calls.remove(0);
    assert_eq!(violations(&history).iter().map(|violation| violation.invariant).collect::<Vec<_>>(), [I6]);
    history.deliveries[0].uncounted_attempt_count = 1;
    assert_eq!(violations(&history), []);
}

fn suppression(by: Option<TenantId>, at: i64) -> Suppression {
    Suppression { tenant: by, address: "ada@example.org".to_owned(), committed_at: second(at), lifted_at: None }
}

#[test]
fn i7_finds_a_claim_after_a_suppression_by_its_tenant_or_by_the_provider() {
    finds(I7, |history| history.suppressions.push(suppression(Some(tenant(1)), 9)));
    finds(I7, |history| history.suppressions.push(suppression(None, 9)));
}

#[test]
fn i7_lets_pass_what_was_suppressed_later_or_by_others_or_not_any_more() {
    let mut history = clean();
    let lifted = Suppression { lifted_at: Some(second(9)), ..suppression(None, 8) };
    history.suppressions = vec![suppression(None, 11), suppression(Some(tenant(2)), 9), lifted];
    assert_eq!(violations(&history), []);
}

#[test]
fn i8_finds_two_answers_and_two_bodies_for_one_key() {
    finds(I8, |history| {
        let again = Request { answer: Answer::Accepted(Vec::new()), ..history.requests[0].clone() };
        history.requests.push(again);
    });
    finds(I8, |history| {
        let other = Request { body_hash: 2, ..history.requests[0].clone() };
        history.requests.push(other);
    });
}

#[test]
fn i9_finds_a_schedule_that_ran_twice_for_one_instant() {
    finds(I9, |history| {
        let schedule = "daily".to_owned();
        let occurrence = Occurrence { tenant: tenant(1), schedule, due_at: second(60), notification: None };
        history.occurrences = vec![occurrence.clone(), occurrence];
    });
}

#[test]
fn i10_finds_a_token_that_changed_something_twice() {
    finds(I10, |history| {
        let token_use = TokenUse { token: "digest".to_owned(), changed_state: true };
        history.token_uses = vec![token_use.clone(), token_use];
    });
}

#[test]
fn i11_finds_a_stranger_in_an_answer_and_a_batch_that_failed_for_one() {
    let batch = || BatchAnswer { received: vec!["a".to_owned(), "b".to_owned()], ..BatchAnswer::default() };
    finds(I11, |history| history.batches.push(BatchAnswer { failed: vec!["c".to_owned()], ..batch() }));
    let poisoned = BatchAnswer { poison: vec!["a".to_owned()], has_failed: true, ..batch() };
    finds(I11, |history| history.batches.push(poisoned));
}

#[test]
fn i12_finds_what_is_left_behind() {
    finds(I12, |history| history.untold_events = 1);
    finds(I12, |history| history.quiet_at = None);
    finds(I12, |history| history.deliveries[0].due_at = Some(second(4000)));
    for queue in [QueueName::Deliveries, QueueName::DeadLetters, QueueName::Feedback] {
        let message = LeftMessage { queue, message_id: "a".to_owned(), delivery: None };
        finds(I12, |history| history.left_messages.push(message));
    }
}

#[test]
fn i12_finds_what_is_dead_without_a_dead_letter_of_this_death() {
    let die = |history: &mut History| {
        history.transitions.truncate(2);
        move_to(history, DeliveryState::Dead, 12);
        let delivery = &mut history.deliveries[0];
        (delivery.state, delivery.reason, delivery.sent_at) = (DeliveryState::Dead, Some(Reason::AttemptsUsedUp), None);
    };
    let letter = |reason: &str, is_redriven| DeadLetter {
        tenant: tenant(1),
        id: None,
        delivery: Some(delivery_id(1)),
        reason: reason.to_owned(),
        is_redriven,
    };
    finds(I12, die);
    finds(I12, |history| {
        die(history);
        history.dead_letters = vec![letter("", false), letter("attempts_used_up", true)];
    });
    let mut buried = clean();
    die(&mut buried);
    buried.dead_letters = vec![letter("attempts_used_up", false)];
    assert_eq!(violations(&buried), []);
}

#[test]
fn i13_finds_a_planted_word_in_the_log_and_does_not_repeat_it() {
    let mut history = clean();
    history.planted_words = vec!["ada@example.org".to_owned()];
    history.log_lines = vec!["sent to a***@e***.org".to_owned()];
    assert_eq!(violations(&history), []);
    history.log_lines.push("sent to ada@example.org".to_owned());
    let found = violations(&history);
    assert_eq!(found[0].invariant, I13);
    assert!(!found[0].what.contains("ada@"));
}

#[test]
fn i14_finds_a_move_that_the_audit_log_does_not_tell() {
    finds(I14, |history| history.transitions.truncate(3));
    finds(I14, |history| history.transitions[3].from = Some(DeliveryState::Bounced));
    finds(I14, |history| {
        let stranger = Transition { delivery: delivery_id(1), tenant: tenant(1), ..history.transitions[0].clone() };
        history.transitions.insert(1, Transition { from: Some(DeliveryState::Held), ..stranger });
    });
}

#[test]
fn i15_finds_what_is_over_its_bound_or_no_number() {
    let measure = |value| Measure { name: "seconds".to_owned(), value, limit: 30.0 };
    finds(I15, |history| history.measures = vec![measure(30.0), measure(30.1)]);
    finds(I15, |history| history.measures = vec![measure(f64::NAN)]);
}

#[test]
fn i16_finds_a_time_that_the_database_never_showed() {
    finds(I16, |history| history.deliveries[0].finished_at = Some(second(90_000)));
    finds(I16, |history| history.attempts[0].finished_at = Some(second(-1)));
}
