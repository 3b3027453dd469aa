//! S1: a rental company's notifications and background jobs; by e-mail, which is the channel that is sent today.

use crate::cast::{OPERATOR, Scenario, hours, minutes, open_link, press_button, read_draft};
use crate::jobs::Jobs;
use jiff::{ToSpan, Zoned};
use serde_json::{Value, json};
use tests::running::{Reply, mails, until};

/// The company's deadlines, as the example has them.
const DEADLINES: &str = include_str!("../../infra/examples/rental_deadlines.json");

/// Gives the functions back what [`Refused`] has taken.
pub(crate) const GIVE_BACK: &str = "GRANT SELECT ON harkara.digest_entries TO harkara_worker";

/// A job that fails: what it reads first is refused to it. Given back at the end, or when the next story begins.
struct Refused<'a> {
    team: &'a Scenario,
}

impl<'a> Refused<'a> {
    fn to_digest(team: &'a Scenario) -> Self {
        team.administers("REVOKE SELECT ON harkara.digest_entries FROM harkara_worker");
        Self { team }
    }
}

impl Drop for Refused<'_> {
    fn drop(&mut self) {
        self.team.administers(GIVE_BACK);
    }
}

impl Scenario {
    /// Puts one of the example's deadlines, due when this story wants it.
    fn puts_example(&self, key: &str, due: &Zoned) {
        let example: Value = serde_json::from_str(DEADLINES).expect("the example is JSON");
        let mut body = example["deadlines"][key].clone();
        body["due_at"] = due.timestamp().to_string().into();
        self.put(&format!("/v1/deadlines/{key}"), body);
    }

    /// When what is planned of a deadline fires, in order.
    fn plan(&self, key: &str) -> Vec<Zoned> {
        let shown = self.get(&format!("/v1/deadlines/{key}"));
        let rungs = shown["plan"].as_array().expect("a plan").iter().filter(|rung| rung["recipient"] == "customer-31");
        let times = rungs.filter(|rung| rung["state"] == "planned").filter_map(|rung| rung["fire_at"].as_str());
        let mut times: Vec<Zoned> = times
            .map(|at| at.parse::<jiff::Timestamp>().expect("a time").in_tz("Europe/Berlin").expect("a zone"))
            .collect();
        times.sort();
        times
    }

    /// What the operator asks, or whoever has this scope of it.
    fn operates(&self, scope: &str, method: &str, path: &str, body: Value) -> Reply {
        self.ask_as(json!({"tenant_id": OPERATOR, "scope": scope, "sub": "olga"}), method, path, body)
    }
}

/// The operator's category, template and somebody to be told that a job keeps failing; answers with the address.
fn set_up_alerts(rental: &Scenario) -> String {
    let alerts = rental.page("job_alerts");
    let put = |path: &str, body: Value| {
        let reply = rental.operates("manage", "PUT", path, body);
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
    };
    put("/v1/templates/job_failed", read_draft(&alerts["template"]));
    let published = rental.operates("manage", "POST", "/v1/templates/job_failed/publish", json!({}));
    assert_eq!(published.status, 200, "{}", published.body);
    put("/v1/categories/job_failed", alerts["category"].clone());
    let address = format!("accept--{}@simulator.harkara.test", rental.tenant());
    let somebody = json!({"email": address, "roles": ["operator"]});
    put(&format!("/v1/recipients/operator-{}", rental.tenant()), somebody);
    address
}

#[test]
fn s1_a_rental_companys_reminders_alerts_and_jobs() {
    let rental = Scenario::begin("s1");

    // An alert that is found again is told once; its words can be overridden for one message.
    let alert = json!({"alert": "Ticket 9 breaches its SLA"});
    let once = json!({"dedupe": {"key": "sla-9", "window": "PT24H"}});
    let first = rental.enqueue_with("DASHBOARD_ALERT", "fleet-desk", alert.clone(), once.clone());
    let second = rental.enqueue_with("DASHBOARD_ALERT", "fleet-desk", alert.clone(), once);
    assert_eq!(first, second);
    assert_eq!(rental.mail_to("fleet-desk").subject, "Alert: Ticket 9 breaches its SLA");
    assert_eq!(rental.delivery(&first)["attempts"].as_array().map(Vec::len), Some(1));
    let words = json!({"subject": "Ticket 9, again", "text": "Somebody has to look: {{ alert }}.\n"});
    rental.enqueue_with("DASHBOARD_ALERT", "fleet-desk", alert.clone(), words);
    let mail = rental.mail_to("fleet-desk");
    assert!(mail.subject == "Ticket 9, again" && mail.text.starts_with("Somebody has to look: Ticket 9"), "{mail:#?}");

    // Sandbox: what is marked as a test goes all the way, and reaches nobody.
    let tried = rental.enqueue_with("DASHBOARD_ALERT", "fleet-desk", alert, json!({"sandbox": true}));
    rental.settle();
    assert!(["sent", "delivered"].contains(&rental.stands(&tried).0.as_str()));
    rental.nothing_for(&["fleet-desk"]);

    // What is scheduled waits for its time, and can be canceled until then.
    let send_at = json!({"send_at": rental.now() + 1.hour()});
    let [kept, canceled] = ["Inventory", "Audit"]
        .map(|what| rental.enqueue_with("DASHBOARD_ALERT", "fleet-desk", json!({"alert": what}), send_at.clone()));
    rental.post(&format!("/v1/notifications/{canceled}/cancel"), json!({}));
    rental.passes(minutes(50));
    rental.nothing_for(&["fleet-desk"]);
    assert_eq!([&kept, &canceled].map(|id| rental.stands(id).0), ["scheduled", "canceled"]);
    rental.passes(minutes(10));
    assert_eq!(rental.mail_to("fleet-desk").subject, "Alert: Inventory");

    // Consent is checked, and outbound mail has its link to unsubscribe.
    let offer = json!({"offer": "Two days for one"});
    let unasked = rental.enqueue("PROMOTION", "customer-31", offer.clone());
    rental.settle();
    assert_eq!(rental.stands(&unasked), ("skipped".to_owned(), "consent_missing".to_owned()));
    let consent = json!({"purpose": "marketing", "state": "granted", "source": "checkout"});
    rental.post("/v1/recipients/customer-31/consents", consent);
    rental.enqueue("PROMOTION", "customer-31", offer.clone());
    let mail = rental.mail_to("customer-31");
    let link = mail.text.split("Leave: ").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("a link");
    assert_eq!(open_link(link).0, 200);
    assert_eq!(press_button(link, "List-Unsubscribe=One-Click").0, 200);
    let unwanted = rental.enqueue("PROMOTION", "customer-31", offer);
    rental.settle();
    assert_eq!(rental.stands(&unwanted).0, "skipped");

    // Deposit, pickup and return of a booking, a contract's signature and an instalment: ladders of reminders, as data.
    let start = rental.now().in_tz("Europe/Berlin").expect("a zone").with().hour(12).minute(0).build().expect("noon");
    for (key, days) in [
        ("booking-7-deposit", 5),
        ("contract-12-signature", 6),
        ("booking-7-pickup", 7),
        ("contract-12-instalment-3", 8),
        ("booking-7-return", 10),
    ] {
        rental.puts_example(key, &(&start + days.days()));
    }
    rental.puts_example("vehicle-31-insurance", &(&start + 62.days()));
    for key in ["booking-7-deposit", "booking-7-pickup", "booking-7-return", "contract-12-instalment-3"] {
        assert!(!rental.plan(key).is_empty(), "{key}");
    }
    let keys = [
        "booking-7-deposit",
        "contract-12-signature",
        "booking-7-pickup",
        "contract-12-instalment-3",
        "booking-7-return",
    ];
    let mut moments: Vec<(Zoned, &str)> = Vec::new();
    for key in keys {
        moments.extend(rental.plan(key).into_iter().map(|at| (at, key)));
    }
    moments.sort();
    for (at, key) in &moments {
        if at.timestamp() > rental.now() {
            rental.becomes(at);
        }
        let told = rental.mails_to("customer-31");
        let count = told.iter().filter(|mail| mail.subject.ends_with(key)).count();
        assert_eq!(count, 1, "{key} at {at}, once: {told:#?}");
    }
    for key in keys {
        assert_eq!(rental.plan(key), [], "each has fired");
    }
    // Who has not paid three days later is the fleet desk's concern, by an escalation.
    rental.becomes(&(&start + 11.days() + 1.hour()));
    // The insurance is the fleet desk's, two months ahead, and was renewed in time; the signature was its concern, too.
    let told: Vec<String> = rental.mails_to("fleet-desk").into_iter().map(|mail| mail.subject).collect();
    assert!(told.iter().any(|subject| subject.ends_with("vehicle-31-insurance")), "{told:?}");
    assert!(told.iter().any(|subject| subject.ends_with("contract-12-signature")), "{told:?}");
    // Who has not brought a vehicle back by then is its concern, too.
    for late in ["booking-7-return", "contract-12-instalment-3"] {
        assert_eq!(told.iter().filter(|subject| subject.ends_with(late)).count(), 1, "{late}: {told:?}");
    }
    for key in ["vehicle-31-insurance", "booking-7-return", "contract-12-instalment-3"] {
        rental.post(&format!("/v1/deadlines/{key}/complete"), json!({}));
    }

    // Jobs can be triggered by hand, with authentication, and each run is logged.
    let run = |scope| rental.operates(scope, "POST", "/v1/jobs/digest/run", json!({}));
    assert_eq!(run("manage").status, 403);
    assert_eq!(rental.ask("POST", "/v1/jobs/digest/run", json!({})).status, 403, "the operator's, not a tenant's");
    let asked = run("jobs:run");
    assert_eq!(asked.status, 202, "{}", asked.body);
    let done = until("the run is on record", || {
        let runs = rental.get("/v1/jobs/digest/runs");
        let done = |run: &&Value| run["id"] == asked.body["run_id"] && run["status"] == "succeeded";
        runs["runs"].as_array()?.iter().find(done).cloned()
    });
    assert_eq!(done["cause"], "request");
    assert!(done["started_at"].is_string() && done["finished_at"].is_string(), "{done}");

    // More than three failures in a row are told the operator's people once, and the job is shown as what it is.
    let address = set_up_alerts(&rental);
    {
        let _refused = Refused::to_digest(&rental);
        for failure in 1..=5 {
            rental.moves_clock(minutes(5));
            rental.fails("digest");
            let job = Jobs::of(&rental).stands("digest");
            // The stack's own schedule may have failed beside.
            assert!(job["failure_count"].as_i64() >= Some(failure), "{job}");
            assert!(job["status"] == "failed" && job["last_run"]["error"].is_string(), "{job}");
        }
    }
    let told = until("the operator is told", || Some(mails(&rental.stack, &address)).filter(|mails| !mails.is_empty()));
    assert_eq!(told[0]["subject"], "digest fails");
    rental.passes(hours(1));
    assert_eq!(mails(&rental.stack, &address).len(), 1, "once for a row of failures");
    assert_eq!(Jobs::of(&rental).stands("digest")["failure_count"], 0);
    let operator = format!("/v1/recipients/operator-{}", rental.tenant());
    assert_eq!(rental.operates("manage", "DELETE", &operator, Value::Null).status, 204);
    rental.end();
}
