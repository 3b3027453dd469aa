//! What is counted.

use super::*;

#[test]
fn a_clean_run_is_counted_and_breaks_nothing() {
    let figures = check_history(&clean()).expect("nothing is broken");
    let expected = Figures {
        requests: 1,
        accepted: 1,
        attempts: 1,
        provider_calls: 1,
        provider_accepted: 1,
        sent: 1,
        delivered: 1,
        ..Figures::default()
    };
    assert_eq!(figures, expected);
}

#[test]
fn a_mail_that_is_sent_again_by_its_policy_is_a_declared_duplicate() {
    let figures = check_history(&repeated_at(700)).expect("the policy allows it");
    let counts = (figures.sent, figures.duplicates_declared, figures.duplicates_undeclared);
    assert_eq!(counts, (1, 1, 0));
    assert_eq!((figures.unknown, figures.unknown_settled), (1, 0), "nothing was ever heard of the first");
}

#[test]
fn a_mail_that_is_sent_again_too_soon_is_an_undeclared_duplicate() {
    let figures = count_figures(&repeated_at(300));
    assert_eq!((figures.duplicates_declared, figures.duplicates_undeclared), (0, 1));
}

#[test]
fn an_attempt_that_was_unknown_and_heard_of_is_settled() {
    let mut history = repeated_at(700);
    history.attempts[0].feedback_at = Some(second(2000));
    let figures = check_history(&history).expect("feedback came after the second claim");
    assert_eq!((figures.unknown, figures.unknown_settled), (1, 1));
}

#[test]
fn what_was_accepted_and_is_not_there_or_not_over_is_lost() {
    let mut gone = clean();
    gone.requests[0].answer = Answer::Accepted(vec![notification(1), notification(2)]);
    assert_eq!((count_figures(&gone).accepted, count_figures(&gone).lost), (2, 1));
    let mut open = clean();
    open.deliveries[0].state = DeliveryState::Queued;
    assert_eq!(count_figures(&open).lost, 1);
}

#[test]
fn what_nobody_was_told_of_is_counted_apart() {
    let mut history = clean();
    history.requests[0].answer = Answer::Unknown;
    let figures = check_history(&history).expect("a caller who knows nothing was promised nothing");
    assert_eq!((figures.accepted, figures.unanswered, figures.stored_unanswered), (0, 1, 1));
}

#[test]
fn figures_add_up() {
    let mut sum = count_figures(&clean());
    sum += count_figures(&repeated_at(700));
    assert_eq!((sum.accepted, sum.attempts, sum.duplicates_declared, sum.delivered), (2, 3, 1, 2));
}
