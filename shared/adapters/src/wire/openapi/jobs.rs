//! Jobs and their runs.

use super::schema::{Schema, required};
use super::{Answer, Operation, page_of};
use domain::job::{Job, RunOutcome};
use serde_json::json;

/// `GET /v1/jobs`.
pub(super) fn list() -> Operation {
    let answer = Schema::object([required("jobs", Schema::list(Schema::named("Job")).entries(0, Job::ALL.len()))]);
    Operation::new("Show how each job of the deployment stands", Answer::ok("Every job.", answer))
        .describe("They are the operator's, and every tenant may know how they stand.")
}

/// `GET /v1/jobs/{name}/runs`.
pub(super) fn list_runs() -> Operation {
    Operation::new(
        "List a job's runs, the newest first",
        Answer::ok("A page of them.", page_of("runs", Schema::named("JobRun"))),
    )
}

/// `POST /v1/jobs/{name}/run`.
pub(super) fn run() -> Operation {
    let answer = Schema::object([required("job", name()), required("run_id", Schema::named("JobRunId"))]);
    Operation::new("Ask for a run of a job", Answer::json(202, "The job's function is asked.", answer))
        .describe(
            "For the operator's own tokens. The run is among the job's runs once it has begun. Where another one is at work \
             there is none: that one does its work.",
        )
        .with_optional_body(Schema::object([]), json!({}))
}

/// A job's name.
pub(super) fn name() -> Schema {
    Schema::one_of(Job::ALL.iter().map(|job| job.as_str()))
}

/// How a run stands.
fn status() -> impl Iterator<Item = &'static str> {
    RunOutcome::ALL.iter().map(|outcome| outcome.as_str()).chain(["running"])
}

/// The components.
pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    let run = Schema::object([
        required("id", Schema::named("JobRunId")),
        required("job", name()),
        required("cause", Schema::one_of(["schedule", "request"])),
        required("requested_by", Schema::text().or_null().describe("Who asked for it; shown to the operator only.")),
        required("started_at", Schema::named("Time")),
        required("finished_at", Schema::named("Time").or_null()),
        required("status", Schema::one_of(status()).describe("One died whose time ended without a word from it.")),
        required("error", Schema::text().or_null().describe("What it failed with, as a code.")),
        required(
            "counts",
            Schema::opaque().or_null().describe("What it did, by the job's own names; null unless it succeeded."),
        ),
        required(
            "leaves_work",
            Schema::flag().or_null().describe("Whether it stopped at its deadline with work left."),
        ),
        required("failure_count", Schema::count().describe("Failures in a row up to it.")),
    ]);
    let job = Schema::object([
        required("name", name()),
        required("description", Schema::text()),
        required("schedule", Schema::text().example("rate(15 minutes)")),
        required("catch_up", Schema::text().describe("What becomes of a run that was missed.")),
        required("status", Schema::one_of(status().chain(["never_run"])).describe("Of the last run.")),
        required("last_run", Schema::named("JobRun").or_null()),
        required("failure_count", Schema::count().describe("Failures in a row.")),
        required("next_due_at", Schema::named("Time").or_null().describe("Null where it has never run.")),
        required("lag_seconds", Schema::count().or_null().describe("How long a run has been due.")),
        required("is_late", Schema::flag().describe("Whether that is longer than a schedule's ticks vary.")),
    ]);
    vec![("Job", job), ("JobRun", run)]
}
