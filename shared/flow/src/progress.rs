//! How far a run has come, told while it is at work: for whoever looks, and for its row should it fail or die.
//!
//! A flow notes its counts after each batch, and this says which of them are written: the first at once, and then one in a
//! few seconds, so that a run of very many batches costs a few statements more. What the row lacks when a run is killed is
//! what it did since; where it fails in words, the frame writes the last note with its end.

use crate::job::Done;
use adapters::store::database::Database;
use adapters::store::job_runs::note_job_progress;
use adapters::telemetry::chain;
use domain::id::{JobRunId, TenantId};
use domain::job::Job;
use serde_json::Value;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long nothing more is written after something was.
const PAUSE: Duration = Duration::from_secs(2);

/// Where a flow notes what it has done so far.
#[derive(Default)]
pub struct Progress<'a> {
    row: Option<Row<'a>>,
    noted: Mutex<Noted>,
}

/// The run's row.
struct Row<'a> {
    database: &'a Database,
    job: Job,
    id: JobRunId,
}

#[derive(Default)]
struct Noted {
    counts: Option<Value>,
    written_at: Option<Instant>,
}

impl<'a> Progress<'a> {
    /// Of a run of one of the service's jobs.
    pub(crate) fn of_run(database: &'a Database, job: Job, id: JobRunId) -> Self {
        Self { row: Some(Row { database, job, id }), noted: Mutex::default() }
    }

    /// Of a flow that is at work without a frame: nobody is told.
    pub fn untold() -> Self {
        Self::default()
    }

    /// Notes what was done so far, which nobody is told where it is nothing. A note that cannot be written holds up no work.
    pub async fn note<C: Into<Done> + Default + PartialEq>(&self, counts: C) {
        let Some(Row { database, job, id }) = &self.row else { return };
        if counts == C::default() {
            return;
        }
        let Done { counts, leaves_work: _ } = counts.into();
        let is_written = {
            let now = Instant::now();
            let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            let is_written = is_to_be_written(noted.written_at, now);
            if is_written {
                noted.written_at = Some(now);
            }
            noted.counts = Some(counts.clone());
            is_written
        };
        if !is_written {
            return;
        }
        if let Err(error) = note_job_progress(database, TenantId::OPERATOR, job.as_str(), *id, &counts).await {
            tracing::warn!(%job, run_id = %id, error = chain(&error), "how far run {id} is could not be noted");
        }
    }

    /// What was noted last.
    pub(crate) fn into_counts(self) -> Option<Value> {
        self.noted.into_inner().unwrap_or_else(PoisonError::into_inner).counts
    }
}

fn is_to_be_written(written_at: Option<Instant>, now: Instant) -> bool {
    written_at.is_none_or(|at| now.saturating_duration_since(at) >= PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_note_is_written_and_then_one_in_two_seconds() {
        let begun = Instant::now();
        let (mut written_at, mut written) = (None, Vec::new());
        for millis in [0, 1, 500, 1_999, 2_000, 2_001, 3_999, 4_500, 60_000] {
            let now = begun + Duration::from_millis(millis);
            if is_to_be_written(written_at, now) {
                written_at = Some(now);
                written.push(millis);
            }
        }
        assert_eq!(written, [0, 2_000, 4_500, 60_000]);
    }
}
