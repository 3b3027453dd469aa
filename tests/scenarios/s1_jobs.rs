//! S1: the rental company's own twelve jobs, which it registers as data beside the Postgres that it shares.

use crate::cast::{Scenario, hours, minutes};
use crate::jobs::Jobs;
use jiff::ToSpan;
use jiff::civil::Weekday;
use serde_json::{Value, json};

/// The company's jobs, and what it has behind them, as the examples have both.
const JOBS: &str = include_str!("../../infra/examples/rental_jobs.json");
const DOMAIN: &str = include_str!("../../infra/examples/rental_domain.sql");

/// Where its nights are.
const ZONE: &str = "Europe/Berlin";

/// What has happened at the company by the time that the story begins. Its own clock is the real one, which nobody moves:
/// what is due today stays due through the story's nights.
const BEGIN: &str = "
    CREATE FUNCTION rental.begin(tenant uuid) RETURNS void LANGUAGE sql AS $$
        INSERT INTO rental.bookings
            (tenant_id, booking_id, customer_id, vehicle_id, pickup_at, return_at, deposit_due_at, deposit_paid_at) VALUES
            ($1, '7', 'customer-31', 'B-HK 31', now() + interval '20 hours', now() + interval '5 days',
                now() + interval '19 hours', NULL),
            ($1, '6', 'customer-31', 'B-HK 44', now() - interval '6 days', now() - interval '2 hours', NULL, NULL),
            ($1, '5', 'customer-31', 'B-HK 52', now() - interval '3 days', now() + interval '18 hours',
                now() + interval '18 hours', now() - interval '4 days');
        INSERT INTO rental.vehicles VALUES
            ($1, 'B-HK 31', current_date + 3, current_date + 40), ($1, 'B-HK 44', current_date + 90, current_date + 400);
        INSERT INTO rental.instalments VALUES ($1, '12-3', 'customer-31', current_date + 2);
        INSERT INTO rental.contracts VALUES ($1, '12', 'customer-31', now() - interval '3 days');
        INSERT INTO rental.promotions VALUES ($1, 'Two for one', now() - interval '10 minutes', now() + interval '9 days');
        INSERT INTO rental.sign_ins
            SELECT $1, 'customer-31', date_trunc('hour', now()) - interval '10 minutes', true FROM generate_series(1, 12);
    $$";

impl Scenario {
    /// The company's tables, views and functions, with what has happened so far.
    fn brings_its_domain(&self) {
        self.administers("DROP SCHEMA IF EXISTS rental CASCADE");
        self.administers(DOMAIN);
        self.administers(BEGIN);
        self.tells_its_domain("SELECT rental.begin($1::uuid)");
    }

    /// A statement of the company's own program about its tenant.
    fn tells_its_domain(&self, statement: &'static str) {
        let told = sqlx::query(statement).bind(self.tenant()).execute(&self.database);
        self.runtime.block_on(told).expect("the company's own program may");
    }

    /// How many customers have a segment.
    fn count_segments(&self) -> i64 {
        self.count("SELECT count(*) FROM rental.segments WHERE tenant_id = $1::uuid")
    }

    /// The last day of an insurance, by the company's own calendar.
    fn read_insured_until(&self) -> String {
        let statement = "
            SELECT insured_until::text FROM rental.vehicles WHERE tenant_id = $1::uuid AND vehicle_id = 'B-HK 31'";
        let read = sqlx::query_scalar(statement).bind(self.tenant()).fetch_one(&self.database);
        self.runtime.block_on(read).expect("the vehicle is there")
    }

    /// The subjects of what a recipient has got since the story last told of it, in order of the alphabet.
    fn subjects_to(&self, recipient: &str) -> Vec<String> {
        let mut subjects: Vec<String> = self.mails_to(recipient).into_iter().map(|mail| mail.subject).collect();
        subjects.sort();
        subjects
    }
}

#[test]
fn s1_a_rental_companys_own_jobs() {
    let rental = Scenario::begin("s1_jobs");
    // Well before the night, so that the nightly jobs run first when the story says so.
    rental.becomes(&rental.next(Weekday::Monday, "12:00", ZONE));
    rental.brings_its_domain();
    let example: Value = serde_json::from_str(JOBS).expect("the example is JSON");
    let jobs = example["jobs"].as_object().expect("jobs by key");
    assert_eq!(jobs.len(), 12);
    for (key, job) in jobs {
        let put = rental.put(&format!("/v1/jobs/{key}"), job.clone());
        assert_eq!(put["warnings"], json!([]), "{key}: all that it reads or calls is there, and granted");
    }
    let stands = |key: &str| Jobs::of(&rental).stands(key);

    // Every five minutes: alerts and breached SLAs. What is found again is not told again, what is new is.
    rental.passes(minutes(6));
    assert_eq!(rental.subjects_to("fleet-desk"), ["B-HK 44 has not been returned"]);
    rental.nothing_for(&["support-lead"]);
    rental.tells_its_domain("INSERT INTO rental.tickets VALUES ($1::uuid, '9', now() - interval '1 minute')");
    rental.passes(minutes(6));
    assert_eq!(rental.subjects_to("support-lead"), ["Ticket 9 waits for an answer"]);
    rental.nothing_for(&["fleet-desk"]);
    assert_eq!(stands("sla_monitor")["last_run"]["counts"]["created"], 1);

    // Every hour and quarter of one: bookings, instalments, contracts, promotions, and who has tried to sign in.
    rental.passes(hours(1));
    let expected = [
        "Contract 12 waits for your signature",
        "Instalment 12-3 is due",
        "The deposit for B-HK 31 is due within a day",
        "Your booking of B-HK 31 begins within a day",
        "Your booking of B-HK 52 ends within a day",
    ];
    assert_eq!(rental.subjects_to("customer-31"), expected);
    assert_eq!(rental.subjects_to("marketing"), ["Two for one has begun"]);
    assert_eq!(rental.count("SELECT count(*) FROM rental.active_promotions WHERE tenant_id = $1::uuid"), 1);
    assert_eq!(rental.subjects_to("support-lead"), ["12 sign-ins of customer-31 were refused"]);
    assert_eq!(rental.count("SELECT count(*) FROM rental.bookings_by_vehicle WHERE tenant_id = $1::uuid"), 3);

    // By the next morning the nightly and the daily ones have run, each by the clocks of Berlin.
    let morning = rental.next(Weekday::Tuesday, "09:00", ZONE);
    rental.becomes(&morning);
    let insured = format!("B-HK 31 is insured until {}", rental.read_insured_until());
    assert_eq!(rental.subjects_to("fleet-desk"), ["B-HK 31 is due for maintenance", &insured]);
    assert_eq!(rental.count_segments(), 1);
    for key in jobs.keys().filter(|key| *key != "payout_reconciliation") {
        let job = stands(key);
        assert_eq!((&job["status"], &job["failure_count"]), (&json!("succeeded"), &json!(0)), "{job}");
    }

    // The bank that reconciles the payouts is away, night after night: its job says so, no other minds, and after more than
    // three nights the company's own operators are told, once.
    for night in 1..=5 {
        let job = stands("payout_reconciliation");
        assert_eq!((&job["status"], &job["failure_count"]), (&json!("failed"), &json!(night)), "{job}");
        assert_eq!(job["last_run"]["error"], "endpoint_name_unknown", "{job}");
        let expected: &[&str] = if night == 4 { &["payout_reconciliation fails"] } else { &[] };
        assert_eq!(rental.subjects_to("night-watch"), expected, "after {night} nights");
        rental.becomes(&(&morning + night.days()));
    }
    rental.nothing_for(&["customer-31", "fleet-desk", "marketing", "support-lead"]);

    // A view that was broken fails its own job with the reason; once it is mended, nothing is missing.
    rental.administers("REVOKE SELECT ON rental.breached_slas FROM harkara_domain_job");
    rental.tells_its_domain("INSERT INTO rental.tickets VALUES ($1::uuid, '10', now() - interval '1 minute')");
    rental.passes(minutes(6));
    let job = stands("sla_monitor");
    assert_eq!((&job["status"], &job["last_run"]["error"]), (&json!("failed"), &json!("sqlstate_42501")), "{job}");
    assert_eq!(stands("generate_dashboard_alerts")["status"], "succeeded");
    rental.administers("GRANT SELECT ON rental.breached_slas TO harkara_domain_job");
    rental.passes(minutes(6));
    assert_eq!(rental.subjects_to("support-lead"), ["Ticket 10 waits for an answer"]);

    // A job is run by hand, with authentication; one that is deleted runs no more.
    let run = |scope| {
        let claims = json!({"scope": scope, "sub": "rita"});
        rental.ask_as(claims, "POST", "/v1/jobs/segment_refresh/run", json!({}))
    };
    assert_eq!(run("manage").status, 403);
    rental.tells_its_domain(
        "INSERT INTO rental.bookings VALUES ($1::uuid, '8', 'customer-44', 'B-HK 31', now() + interval '9 days', now() + interval '12 days')",
    );
    let asked = run("jobs:run");
    assert_eq!(asked.status, 202, "{}", asked.body);
    rental.run("domain_job");
    assert_eq!((rental.count_segments(), &stands("segment_refresh")["last_run"]["id"]), (2, &asked.body["run_id"]));
    assert_eq!(rental.ask("DELETE", "/v1/jobs/sla_monitor", Value::Null).status, 204);
    rental.tells_its_domain("INSERT INTO rental.tickets VALUES ($1::uuid, '11', now() - interval '1 minute')");
    rental.passes(hours(1));
    rental.nothing_for(&["support-lead"]);

    // What is said of each of them is so, right after they have run and when none has run for hours.
    Jobs::of(&rental).tell_the_truth_of_own();
    rental.moves_clock(hours(3));
    Jobs::of(&rental).tell_the_truth_of_own();
    rental.end();
}
