//! Jobs and their runs: the service's own, and those of the tenant's domain.

use super::schema::{Schema, optional, required, sometimes};
use super::{Answer, Operation, page_of};
use domain::category::Priority;
use domain::domain_job::{MAX_DOMAIN_JOBS, MAX_TIMEOUT_SECONDS, SECRET_OVERLAP_HOURS, TIMEOUT_DEFAULT_SECONDS};
use domain::endpoint::MAX_ENDPOINT_URL_BYTES;
use domain::job::{Job, RunOutcome};
use serde_json::json;

/// `GET /v1/jobs`.
pub(super) fn list() -> Operation {
    let jobs = Schema::list(Schema::named("Job")).entries(0, Job::ALL.len() + MAX_DOMAIN_JOBS);
    Operation::new(
        "Show how each job stands",
        Answer::ok("The service's own, then the domain's.", Schema::object([required("jobs", jobs)])),
    )
    .describe(
        "The service's own are the operator's, and every tenant may know how they stand; each sees its own domain's.",
    )
}

/// `GET /v1/jobs/{key}`.
pub(super) fn get() -> Operation {
    Operation::new("Show how a job stands", Answer::ok("The job.", Schema::named("Job")))
}

/// `PUT /v1/jobs/{key}`.
pub(super) fn put() -> Operation {
    let candidates = Schema::object([
        required(
            "view",
            sql_name().describe(
                "A view with the columns `tenant_id uuid, key text, recipient text, data jsonb`, granted to \
                 `harkara_domain_job`. Its rows of the tenant become notifications, each once by its key.",
            ),
        ),
        required("category", Schema::named("CategoryKey")),
        optional("template", Schema::named("TemplateKey").describe("Else the category's.")),
        optional("priority", priority().default("normal")),
        optional("data", Schema::opaque().describe("For the template, beside a row's own, which goes before it.")),
    ]);
    let function = sql_name().describe("A function of one uuid, the tenant's id, granted to `harkara_domain_job`.");
    let url = endpoint_url().describe(
        "An endpoint of https at the port 443 and at public addresses. It gets a signed message as Standard Webhooks has \
         it, at least once: the same `webhook-id` is the same message.",
    );
    let replace_secret = Schema::flag().describe(&format!(
        "Whether the secret is replaced; for {SECRET_OVERLAP_HOURS} hours the one of before signs, too."
    ));
    let body = Schema::object([
        required(
            "schedule",
            Schema::text().example("cron(0 2 * * ? *)").describe("`rate(…)` or `cron(…)`, as EventBridge writes them."),
        ),
        optional("time_zone", Schema::named("TimeZone").describe("Whose clocks a cron follows; else the tenant's.")),
        optional(
            "timeout_seconds",
            Schema::number(1, MAX_TIMEOUT_SECONDS)
                .default(TIMEOUT_DEFAULT_SECONDS)
                .describe("How long the view, the function or the endpoint may take."),
        ),
        optional(
            "enabled",
            Schema::flag().default(true).describe(
                "False pauses the job: its schedule leads to no run, and there is none to be made up for when it goes on. A \
                 run that is asked for happens all the same.",
            ),
        ),
        optional("candidates", candidates.describe("Notifications of a view's rows.")),
        optional(
            "call",
            Schema::any_of([
                Schema::object([required("function", function)]),
                Schema::object([required("url", url), optional("replace_secret", replace_secret)]),
            ])
            .describe("A call of a function or an endpoint."),
        ),
    ])
    .with_only_one_of(&["candidates", "call"]);
    let example = json!({
        "schedule": "cron(0 9 ? * MON-FRI *)", "time_zone": "Asia/Kolkata", "timeout_seconds": 60,
        "candidates": {"view": "rental.due_deposits", "category": "greeting", "data": {"name": "Ada"}},
    });
    Operation::new("Register a job of the domain", Answer::ok("The job.", Schema::named("PutJob")))
        .describe(
            "Names of the service's own jobs are taken. A job that calls an endpoint is answered once with the secret that \
             signs its calls, which is shown never again. Putting it again with the same schedule leaves it due when it \
             was; another schedule counts from now, and so does one that goes on after a pause.",
        )
        .with_body(body, example)
}

/// `DELETE /v1/jobs/{key}`.
pub(super) fn delete() -> Operation {
    Operation::new("Remove a job of the domain", Answer::empty("It is not there any more."))
        .describe("Its runs stay on record, and so does which rows have become notifications.")
}

/// `GET /v1/jobs/{key}/runs`.
pub(super) fn list_runs() -> Operation {
    Operation::new(
        "List a job's runs, the newest first",
        Answer::ok("A page of them.", page_of("runs", Schema::named("JobRun"))),
    )
}

/// `POST /v1/jobs/{key}/run`.
pub(super) fn run() -> Operation {
    let answer =
        Schema::object([required("job", Schema::named("JobKey")), required("run_id", Schema::named("JobRunId"))]);
    Operation::new("Ask for a run of a job", Answer::json(202, "The job's function is asked.", answer))
        .describe(
            "One of the service's own is for the operator's tokens. The run is among the job's runs once it has begun. \
             Where another one is at work, there is none of the service's own, because that one does its work; one of the \
             domain's begins after it.",
        )
        .with_optional_body(Schema::object([]), json!({}))
}

/// An endpoint.
fn endpoint_url() -> Schema {
    Schema::text().length(1, MAX_ENDPOINT_URL_BYTES).example("https://payouts.example.com/jobs/reconcile")
}

/// A view or a function.
fn sql_name() -> Schema {
    Schema::text().pattern("[a-z_][a-z0-9_]{0,62}\\.[a-z_][a-z0-9_]{0,62}").example("rental.due_deposits")
}

fn priority() -> Schema {
    Schema::one_of(Priority::ALL.iter().map(|priority| priority.as_str()))
}

/// How a run stands.
fn status() -> impl Iterator<Item = &'static str> {
    RunOutcome::ALL.iter().map(|outcome| outcome.as_str()).chain(["running"])
}

/// The components.
pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    let run = Schema::object([
        required("id", Schema::named("JobRunId")),
        required("job", Schema::named("JobKey")),
        required("cause", Schema::one_of(["schedule", "request"])),
        required(
            "requested_by",
            Schema::text().or_null().describe("Who asked for it; shown to the job's own tenant only."),
        ),
        required("started_at", Schema::named("Time")),
        required("finished_at", Schema::named("Time").or_null()),
        required("status", Schema::one_of(status()).describe("One died whose time ended without a word from it.")),
        required("error", Schema::text().or_null().describe("What it failed with, as a code.")),
        required(
            "counts",
            Schema::opaque().or_null().describe(
                "What it did, by the job's own names. While it is at work, what it has done so far; where it failed or \
                 died, what it had done when it last said so. Null where it has said nothing.",
            ),
        ),
        required("counted_at", Schema::named("Time").or_null().describe("When it said so.")),
        required(
            "leaves_work",
            Schema::flag().or_null().describe("Whether it stopped at its deadline with work left."),
        ),
        required("failure_count", Schema::count().describe("Failures in a row up to it.")),
    ]);
    let candidates = || {
        Schema::object([
            required("view", sql_name()),
            required("category", Schema::named("CategoryKey")),
            sometimes("template", Schema::named("TemplateKey")),
            required("priority", priority()),
            required("data", Schema::opaque()),
        ])
    };
    let call = || {
        Schema::any_of([
            Schema::object([required("function", sql_name())]),
            Schema::object([required("url", endpoint_url())]),
        ])
    };
    let definition = || Schema::object([sometimes("candidates", candidates()), sometimes("call", call())]);
    let fields = || {
        vec![
            required("name", Schema::named("JobKey")),
            required("kind", Schema::one_of(["service", "domain"])),
            required("description", Schema::text()),
            required("schedule", Schema::text().example("rate(15 minutes)")),
            required("time_zone", Schema::named("TimeZone").or_null().describe("Null is the tenant's.")),
            required("timeout_seconds", Schema::count().or_null().describe("Null for the service's own.")),
            required("definition", definition().or_null().describe("What it does; null for the service's own.")),
            required("enabled", Schema::flag().describe("Whether its schedule leads to runs.")),
            required("catch_up", Schema::text().describe("What becomes of a run that was missed.")),
            required(
                "status",
                Schema::one_of(status().chain(["never_run", "paused"]))
                    .describe("Of the last run; or `paused`, while none of a paused job is at work."),
            ),
            required("last_run", Schema::named("JobRun").or_null()),
            required("failure_count", Schema::count().describe("Failures in a row.")),
            required(
                "next_due_at",
                Schema::named("Time").or_null().describe(
                    "Null where the schedule of one of the service's own has never come, where none is due any more, and in a pause. A \
                     run that somebody asks for does not move it; a tick that finds one at work does.",
                ),
            ),
            required("lag_seconds", Schema::count().or_null().describe("How long a run has been due.")),
            required("is_late", Schema::flag().describe("Whether that is longer than a schedule's ticks vary.")),
            required("updated_at", Schema::named("Time").or_null().describe("Null for the service's own.")),
        ]
    };
    let warning = Schema::object([required("pointer", Schema::text()), required("detail", Schema::text())]);
    let warnings = required(
        "warnings",
        Schema::list(warning)
            .describe("A view or function that is not there or not granted yet: runs fail until it is."),
    );
    let secret = sometimes(
        "secret",
        Schema::text()
            .pattern("whsec_[A-Za-z0-9+/]{43}=")
            .describe("What signs the calls of an endpoint, where this request has made it."),
    );
    vec![
        ("Job", Schema::object(fields())),
        ("PutJob", Schema::object(fields().into_iter().chain([warnings, secret]))),
        ("JobRun", run),
    ]
}
