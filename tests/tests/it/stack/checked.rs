//! Holds what a test has asked of the running stack to the invariants.

use local::ses::LedgerEntry;
use local::stack::Stack;
use proof::check::check_running;
use proof::history::{Answer, History};
use sqlx::{Connection, PgConnection};
use std::collections::HashSet;
use tests::{Exchange, read_call, read_stored};

/// Fails where the database, SES's ledger and the answers together break an invariant.
///
/// The stack works on meanwhile, so nothing has to have ended. What is read first is never ahead of what is read later:
/// answers, then the ledger, then one snapshot of the database.
pub(super) fn check_asked(stack: &Stack, exchanges: &[Exchange]) {
    if exchanges.is_empty() {
        return;
    }
    let calls: Vec<LedgerEntry> =
        serde_json::from_value(super::read(&format!("{}/ledger", stack.ses_url))).expect("the ledger is a list");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut history = runtime.block_on(read_snapshot(&stack.database_url, &calls));
    history.requests = exchanges.iter().map(|exchange| exchange.read(exchange.sent_at)).collect();
    history.calls = calls.iter().map(|call| read_call(call, call.at)).collect();
    // All of it is on one machine, and so on one clock.
    let began_at = exchanges.iter().map(|exchange| exchange.sent_at).min();
    history.database_clock = began_at.zip(history.database_clock).map(|(began_at, (_, now))| (began_at, now));
    keep_asked(&mut history);
    if let Err(violations) = check_running(&history) {
        let violations: Vec<String> = violations.iter().map(ToString::to_string).collect();
        panic!("the history of this test breaks invariants: {violations:#?}");
    }
}

async fn read_snapshot(url: &str, calls: &[LedgerEntry]) -> History {
    let mut connection = PgConnection::connect(url).await.expect("the stack's database is there");
    sqlx::query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").execute(&mut connection).await.expect("begun");
    read_stored(&mut connection, calls).await
}

/// Leaves what other tests and earlier runs have done out of it.
fn keep_asked(history: &mut History) {
    let answers = history.requests.iter().map(|request| &request.answer);
    let accepted = answers.filter_map(|answer| if let Answer::Accepted(ids) = answer { Some(ids) } else { None });
    let notifications: HashSet<_> = accepted.flatten().copied().collect();
    history.deliveries.retain(|delivery| notifications.contains(&delivery.notification));
    let deliveries: HashSet<_> = history.deliveries.iter().map(|delivery| delivery.id).collect();
    history.attempts.retain(|attempt| deliveries.contains(&attempt.delivery));
    history.claims.retain(|claim| deliveries.contains(&claim.delivery));
    history.transitions.retain(|transition| deliveries.contains(&transition.delivery));
    history.dead_letters.retain(|letter| letter.delivery.is_some_and(|delivery| deliveries.contains(&delivery)));
    history.calls.retain(|call| call.notification.is_some_and(|notification| notifications.contains(&notification)));
}
