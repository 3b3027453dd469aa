//! What `GET /v1/jobs` says, against what is so.

use crate::cast::{Scenario, hours};
use domain::job::Job;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tests::running::until;

/// The jobs as a team may see them.
pub(crate) struct Jobs<'a> {
    team: &'a Scenario,
}

impl<'a> Jobs<'a> {
    /// Those of the stack that the team's tenant is on.
    pub(crate) fn of(team: &'a Scenario) -> Self {
        Self { team }
    }

    /// What EventBridge hands a scheduled function.
    pub(crate) fn tick() -> Value {
        json!({"version": "0", "id": uuid::Uuid::now_v7(), "detail-type": "Scheduled Event", "source": "aws.events",
               "account": "000000000000", "region": "ap-south-1", "resources": [], "detail": {}})
    }

    /// How a job stands.
    pub(crate) fn stands(&self, name: &str) -> Value {
        let shown = self.team.get("/v1/jobs");
        let mut jobs = shown["jobs"].as_array().expect("a list").iter();
        jobs.find(|job| job["name"] == name).cloned().unwrap_or_else(|| panic!("{name} is a job: {shown}"))
    }

    /// Fails where a job's last run, its status, the next one or its lag are not what is so: right after they have run, and
    /// when none has run for hours. The stack's own schedules may run them meanwhile, which has to be told, too.
    pub(crate) fn tell_the_truth(&self) {
        let begun = self.team.now();
        for job in Job::ALL {
            self.team.run(job.as_str());
        }
        for job in Job::ALL {
            let shown = self.check(*job);
            assert!(read(&shown["last_run"]["started_at"]) >= begun, "{job} has just run: {shown}");
            assert_eq!((&shown["is_late"], &shown["failure_count"]), (&json!(false), &json!(0)), "{shown}");
        }
        self.team.moves_clock(hours(3));
        for job in Job::ALL {
            self.check(*job);
        }
        assert_eq!(self.stands("maintenance")["is_late"], false, "it is to run once a day");
    }

    /// Fails where what is said of one of the team's own jobs is not what its clock and its newest run say.
    pub(crate) fn tell_the_truth_of_own(&self) {
        let (rows, shown, before, after) = until("no job begins or ends meanwhile", || {
            let (rows, before) = (self.read_own(), self.team.now());
            let shown = self.team.get("/v1/jobs");
            let after = self.team.now();
            (self.read_own() == rows).then_some((rows, shown, before, after))
        });
        let is_own = |job: &&Value| Job::ALL.iter().all(|known| job["name"] != known.as_str());
        let shown: Vec<&Value> = shown["jobs"].as_array().expect("a list").iter().filter(is_own).collect();
        assert_eq!(shown.len(), rows.as_object().map_or(0, serde_json::Map::len), "{shown:#?}");
        for job in shown {
            let row = &rows[job["name"].as_str().expect("a name")];
            let due = read(&job["next_due_at"]);
            assert_eq!(due, read(&row["next_due_at"]), "{job}");
            let last = &job["last_run"];
            let id = last["id"].as_str().map(|id| id.trim_start_matches("run_").replace('-', ""));
            assert_eq!((id.as_deref(), &last["status"]), (row["run"].as_str(), &row["status"]), "{job}");
            assert_eq!(job["status"], last["status"], "{job}");
            let told = job["lag_seconds"].as_i64().expect("a number");
            let lag = |now: Timestamp| now.duration_since(due).as_secs().max(0);
            assert!((lag(before)..=lag(after)).contains(&told), "{job}: {} to {}", lag(before), lag(after));
        }
    }

    /// The clock of each of the team's own jobs, and its newest run.
    fn read_own(&self) -> Value {
        let statement = "
            SELECT coalesce(jsonb_object_agg(c.job_key, jsonb_build_object(
                'next_due_at', c.next_due_at, 'run', replace(r.run_id::text, '-', ''), 'status', r.status)), '{}')
            FROM harkara.domain_job_clocks c
            LEFT JOIN LATERAL (
                SELECT o.run_id, coalesce(o.outcome, 'running') AS status FROM harkara.job_runs o
                WHERE o.tenant_id = c.tenant_id AND o.job = c.job_key
                ORDER BY o.started_at DESC LIMIT 1
            ) r ON true
            WHERE c.tenant_id = $1::uuid";
        let rows = sqlx::query_scalar(statement).bind(self.team.tenant()).fetch_one(&self.team.database);
        self.team.runtime.block_on(rows).expect("read")
    }

    /// Holds what is said of a job to its row and to the time.
    fn check(&self, job: Job) -> Value {
        let before = self.team.now();
        let shown = self.stands(job.as_str());
        let after = self.team.now();
        let last = &shown["last_run"];
        assert_eq!(
            (&shown["schedule"], &shown["status"]),
            (&json!(job.rate().to_string()), &last["status"]),
            "{shown}"
        );
        let ticked_at = self.check_row(&shown, before);
        let period = SignedDuration::try_from(job.rate().period()).expect("a period");
        let due = read(&shown["next_due_at"]);
        let ticks = [Some(read(&last["started_at"])), ticked_at];
        assert!(ticks.into_iter().flatten().any(|tick| tick + period == due), "{ticks:?}: {shown}");
        let lag = |now: Timestamp| now.duration_since(due).as_secs().max(0);
        let told = shown["lag_seconds"].as_i64().expect("a number");
        assert!((lag(before)..=lag(after)).contains(&told), "{shown}: {} to {}", lag(before), lag(after));
        let late = |now: Timestamp| now > due + period.min(SignedDuration::from_mins(5));
        if late(before) == late(after) {
            assert_eq!(shown["is_late"], late(after), "{shown}");
        }
        shown
    }

    /// The last run is the newest that there was, and ended as its row says. Answers with when the stack's own schedule found it
    /// at work, where it did.
    fn check_row(&self, job: &Value, asked_at: Timestamp) -> Option<Timestamp> {
        let last = &job["last_run"];
        let id = last["id"].as_str().and_then(|id| id.strip_prefix("run_")).expect("an id");
        let statement = "
            SELECT jsonb_build_array(coalesce(r.outcome, 'running'), r.counts, r.failure_count, r.ticked_at)
            FROM harkara.job_runs r
            WHERE r.job = $1 AND r.run_id = $2::uuid AND NOT EXISTS (
                SELECT FROM harkara.job_runs o
                WHERE o.job = r.job AND o.started_at > r.started_at AND o.started_at < $3::timestamptz)";
        let row = sqlx::query_scalar::<_, Value>(statement)
            .bind(job["name"].as_str())
            .bind(id)
            .bind(asked_at.to_string())
            .fetch_optional(&self.team.database);
        let row = self.team.runtime.block_on(row).expect("read").unwrap_or_else(|| panic!("no such run: {job}"));
        // A run of the stack's own that was at work when the clock moved past its time has died, as far as anybody can tell.
        if row[0] != "running" {
            assert_eq!(row, json!([last["status"], last["counts"], last["failure_count"], row[3]]), "{job}");
        }
        (!row[3].is_null()).then(|| read(&row[3]))
    }
}

fn read(at: &Value) -> Timestamp {
    at.as_str().and_then(|at| at.parse().ok()).unwrap_or_else(|| panic!("a time: {at}"))
}
