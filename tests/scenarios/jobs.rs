//! What `GET /v1/jobs` says, against what is so.

use crate::cast::{Scenario, hours};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// Every job, how often it runs in minutes, and its schedule in words.
const JOBS: [(&str, i64, &str); 6] = [
    ("dispatcher", 1, "rate(1 minute)"),
    ("digest", 5, "rate(5 minutes)"),
    ("reminder", 1, "rate(1 minute)"),
    ("escalation", 1, "rate(1 minute)"),
    ("feedback", 15, "rate(15 minutes)"),
    ("maintenance", 24 * 60, "rate(1 day)"),
];

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
        let jobs = shown["jobs"].as_array().expect("a list").iter();
        jobs.cloned().find(|job| job["name"] == name).unwrap_or_else(|| panic!("{name} is a job: {shown}"))
    }

    /// Fails where a job's last run, its status, the next one or its lag are not what is so: right after they have run, and
    /// when none has run for hours. The stack's own schedules may run them meanwhile, which has to be told, too.
    pub(crate) fn tell_the_truth(&self) {
        let begun = self.team.now();
        for (name, ..) in JOBS {
            self.team.run(name);
        }
        for (name, ..) in JOBS {
            let job = self.check(name);
            assert!(read(&job["last_run"]["started_at"]) >= begun, "{name} has just run: {job}");
            assert_eq!((&job["is_late"], &job["failure_count"]), (&json!(false), &json!(0)), "{job}");
        }
        self.team.moves_clock(hours(3));
        for (name, ..) in JOBS {
            self.check(name);
        }
        assert_eq!(self.stands("maintenance")["is_late"], false, "it is to run once a day");
    }

    /// Holds what is said of a job to its row and to the time.
    fn check(&self, name: &str) -> Value {
        let (_, minutes, schedule) = JOBS.into_iter().find(|(known, ..)| *known == name).expect("a job");
        let before = self.team.now();
        let job = self.stands(name);
        let after = self.team.now();
        let last = &job["last_run"];
        assert_eq!((&job["schedule"], &job["status"]), (&json!(schedule), &last["status"]), "{job}");
        self.check_row(&job, before);
        let period = SignedDuration::from_mins(minutes);
        let due = read(&last["started_at"]) + period;
        assert_eq!(read(&job["next_due_at"]), due, "{job}");
        let lag = |now: Timestamp| now.duration_since(due).as_secs().max(0);
        let shown = job["lag_seconds"].as_i64().expect("a number");
        assert!((lag(before)..=lag(after)).contains(&shown), "{job}: {} to {}", lag(before), lag(after));
        let late = |now: Timestamp| now > due + period.min(SignedDuration::from_mins(5));
        if late(before) == late(after) {
            assert_eq!(job["is_late"], late(after), "{job}");
        }
        job
    }

    /// The last run is the newest that there was, and ended as its row says.
    fn check_row(&self, job: &Value, asked_at: Timestamp) {
        let last = &job["last_run"];
        let id = last["id"].as_str().and_then(|id| id.strip_prefix("run_")).expect("an id");
        let statement = "
            SELECT jsonb_build_array(coalesce(r.outcome, 'running'), r.counts, r.failure_count)
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
        if last["status"] != "running" {
            assert_eq!(row, json!([last["status"], last["counts"], last["failure_count"]]), "{job}");
        }
    }
}

fn read(at: &Value) -> Timestamp {
    at.as_str().and_then(|at| at.parse().ok()).unwrap_or_else(|| panic!("a time: {at}"))
}
