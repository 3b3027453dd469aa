//! What happened in a world, for the checker: what is stored, SES's ledger, the queues and the callers' log.
//!
//! Times of the outside are put into the database's: whenever a test lets time pass, the database's times move back, so
//! those of the ledger and of the callers have to move with them. Where it moves the database's clock on instead, they follow.

use std::time::Duration;

use adapters::wire::queue_message::read_message;
use jiff::{SignedDuration, Timestamp};
use local::ses::LedgerEntry;
use proof::history::{History, LeftMessage, Measure, QueueName};

use super::world::{DEAD_LETTERS, DELIVERIES, FEEDBACK, FEEDBACK_DEAD_LETTERS, World};
use crate::stored::{read_call, read_stored};

/// The bound of row 49: how long it may take from the end of the faults until nothing is left to do, not counting the
/// waits that the product promises. Those are hours where a quota or a backoff says so.
const RECOVERY_MAX: Duration = Duration::from_secs(4 * 60 * 60);

impl World {
    /// Everything that happened so far.
    pub async fn read_history(&self) -> History {
        let calls = self.ses.ledger().entries();
        let mut connection = self.admin.acquire().await.expect("the database is there");
        let stored = read_stored(&mut connection, &calls).await;
        let mut history = self.add_logs(stored, &calls);
        let queues = [
            (DELIVERIES, QueueName::Deliveries),
            (DEAD_LETTERS, QueueName::DeadLetters),
            (FEEDBACK, QueueName::Feedback),
            (FEEDBACK_DEAD_LETTERS, QueueName::FeedbackDeadLetters),
        ];
        for (name, queue) in queues {
            history.left_messages.extend(self.sqs.waiting(name).into_iter().map(|message| LeftMessage {
                queue,
                message_id: message.id,
                delivery: read_message(&message.body).ok().map(|named| (named.tenant, named.delivery)),
            }));
        }
        history
    }

    /// What the harness itself wrote down.
    fn add_logs(&self, stored: History, calls: &[LedgerEntry]) -> History {
        let log = self.log();
        let past = |at: Timestamp| {
            let moved = log.shifts.iter().filter(|(moved_at, _)| *moved_at >= at).map(|(_, by)| *by);
            let leapt = log.leaps.iter().filter(|(leapt_at, _)| *leapt_at <= at).map(|(_, by)| *by);
            let signed = |time: Duration| SignedDuration::try_from(time).expect("tests last less than that");
            at - signed(moved.sum()) + signed(leapt.sum())
        };
        let recovery = log.recovery.map(|time| Measure {
            name: "seconds from the end of the faults until nothing was left to do".to_owned(),
            value: time.as_secs_f64(),
            limit: RECOVERY_MAX.as_secs_f64(),
        });
        History {
            requests: log.exchanges.iter().map(|exchange| exchange.read(past(exchange.sent_at))).collect(),
            calls: calls.iter().map(|entry| read_call(entry, past(entry.at))).collect(),
            batches: log.batches.clone(),
            log_lines: self.output(),
            planted_words: planted_words(calls),
            measures: recovery.into_iter().collect(),
            database_clock: stored.database_clock.map(|(_, now)| (past(log.began_at), now)),
            faults_cleared_at: log.faults_cleared_at.map(past),
            quiet_at: log.quiet_at.map(past),
            ..stored
        }
    }
}

/// Whole addresses and bodies, none of which may be in a log.
fn planted_words(calls: &[LedgerEntry]) -> Vec<String> {
    let parts = calls.iter().flat_map(|call| call.to.iter().chain(&call.text).cloned());
    let mut words: Vec<String> = parts.collect();
    words.sort();
    words.dedup();
    words
}
