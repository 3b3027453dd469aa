//! What EventBridge hands a scheduled function: its schedule's tick, or a request for a run.

use domain::id::JobRunId;
use domain::job::{Job, Trigger};
use serde_json::{Value, json};

/// The detail-type of the event that asks for a run; the rules in `template.yaml` hand it to the job's function.
pub const RUN_REQUESTED: &str = "job.run_requested";

/// The longest subject that is kept of who asked, in characters.
const MAX_SUBJECT: usize = 255;

/// What led to an invocation. Whatever is no request is the schedule's: a function that was invoked by hand does its work.
pub fn read_trigger(event: &Value) -> Trigger {
    if event["detail-type"] != RUN_REQUESTED {
        return Trigger::Schedule;
    }
    let by = event["detail"]["requested_by"].as_str().map(|by| by.replace('\0', "\u{fffd}"));
    Trigger::Request {
        run: event["detail"]["run_id"].as_str().and_then(|id| JobRunId::parse(id).ok()),
        by: by.map(|by| by.chars().take(MAX_SUBJECT).collect()),
    }
}

/// The detail of a request, beside the event's own id and tenant.
pub fn print_request(job: Job, run: JobRunId, by: &str) -> Value {
    json!({"job": job.as_str(), "run_id": run.to_string(), "requested_by": by})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_is_printed_and_all_else_is_the_schedule() {
        let run = JobRunId::from_uuid(uuid::Uuid::from_u128(7));
        let event = json!({"detail-type": RUN_REQUESTED, "detail": print_request(Job::Dispatcher, run, "olga")});
        assert_eq!(read_trigger(&event), Trigger::Request { run: Some(run), by: Some("olga".to_owned()) });
        let bare = json!({"detail-type": RUN_REQUESTED, "detail": {"run_id": "nonsense", "requested_by": "o\0"}});
        assert_eq!(read_trigger(&bare), Trigger::Request { run: None, by: Some("o\u{fffd}".to_owned()) });
        for event in [json!({}), json!(null), json!({"detail-type": "Scheduled Event", "detail": {"run_id": "x"}})] {
            assert_eq!(read_trigger(&event), Trigger::Schedule, "{event}");
        }
    }
}
