//! S0: AEGIS, the internal audit of a bank.
//!
//! What no story can tell is shown elsewhere: that work in hand is finished or handed back by the crash matrix, that due work
//! is found by its indexes by `catalog::plans` of the tests. Its board reports are rows and files of the bank's own.

use crate::cast::{Scenario, days, hours, minutes};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::civil::Weekday;
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A bulk operation assigns 200 observations to one auditor, with one batch key.
fn assign_many(aegis: &Scenario) -> BTreeSet<String> {
    let one = |number: u32| {
        json!({
            "category": "OBSERVATION_ASSIGNED", "recipient": {"id": "auditor-7"},
            "data": {"observation": number.to_string(), "due": "2030-12-01"}, "batch": {"key": "import-9", "window": "PT5M"},
        })
    };
    let mut ids = BTreeSet::new();
    for half in [1..=100, 101..=200] {
        let notifications: Vec<_> = half.map(one).collect();
        let answer = aegis.post("/v1/notifications", json!({"notifications": notifications}));
        let accepted = answer["notifications"].as_array().expect("a list").iter();
        ids.extend(accepted.map(|entry| entry["id"].as_str().expect("an id").to_owned()));
    }
    ids
}

/// The notifications that left in one mail, page by page.
fn ids_in(aegis: &Scenario, message: &str) -> BTreeSet<String> {
    let (mut ids, mut after) = (BTreeSet::new(), String::new());
    loop {
        let page = aegis.get(&format!("/v1/notifications?message={message}&page_size=50{after}"));
        let members = page["notifications"].as_array().expect("a list").iter();
        ids.extend(members.map(|member| member["id"].as_str().expect("an id").to_owned()));
        match page["page_info"]["after"].as_str() {
            Some(cursor) => after = format!("&after={cursor}"),
            None => return ids,
        }
    }
}

/// Where the log of mails says that a notification's first mail went; fails where it does not say.
fn went(aegis: &Scenario, notification: &str) -> Value {
    let attempt = aegis.delivery(notification)["attempts"][0].clone();
    attempt.get("to").unwrap_or_else(|| panic!("it says where it went: {attempt}")).clone()
}

fn time(value: &Value) -> Timestamp {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("a time: {value}"))
}

/// Tables of what the bank does and is told, without a trigger that writes down each change.
const UNAUDITED: &str = "
    SELECT count(*) FROM unnest(ARRAY['attempts', 'categories', 'collections', 'deadlines', 'deliveries', 'digests',
                                      'escalations', 'notifications', 'preferences', 'recipients', 'rungs', 'templates']) name
    WHERE $1 IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_trigger t
        WHERE t.tgrelid = ('harkara.' || name)::regclass AND t.tgfoid = 'harkara.write_audit'::regproc)";

#[test]
fn s0_an_internal_audit_is_told_in_batches_reminders_digests_and_escalations() {
    let aegis = Scenario::begin("s0");
    aegis.becomes(&aegis.next(Weekday::Tuesday, "10:00", "Asia/Kolkata"));
    let observation = |number: &str| json!({"observation": number, "due": "2030-12-01"});

    // An invitation leaves at once, from the bank's own sender.
    let link = "https://aegis.example/join/1";
    let invited = json!({"invited_by": "Vikram Iyer", "role": "auditor", "link": link});
    aegis.enqueue("INVITATION", "auditor-8", invited);
    let mail = aegis.mail_to("auditor-8");
    assert_eq!(mail.subject, "Vikram Iyer invites you to AEGIS");
    assert!(mail.whole["from"].to_string().contains("notices@aegis.example"), "{mail:#?}");

    // 200 assignments to one auditor are held for five minutes, and are one mail, not 200.
    let assigned = assign_many(&aegis);
    aegis.passes(minutes(4));
    aegis.nothing_for(&["auditor-7"]);
    aegis.passes(minutes(1));
    let mail = aegis.mail_to("auditor-7");
    assert_eq!((assigned.len(), mail.subject.as_str()), (200, "200 observations are yours"));
    assert!(mail.text.contains("Observation 100\n") && mail.text.contains("and 100 more"), "{mail:#?}");

    // The e-mail log: address and name, subject, template, SES's id, status, the ids of every notification in that mail, when.
    let member = aegis.get(&format!("/v1/notifications/{}", assigned.first().expect("a member")));
    assert_eq!(member["deliveries"][0]["state"], "absorbed");
    let message = member["collected"]["message"].as_str().expect("the mail it left in").to_owned();
    assert_eq!(ids_in(&aegis, &message), assigned);
    let sent = aegis.until_state(&message, "delivered");
    let logged = aegis.get(&format!("/v1/notifications/{message}"));
    assert_eq!(
        (&logged["recipient"]["id"], &logged["template"]),
        (&json!("auditor-7"), &json!("observation_assigned"))
    );
    assert_eq!(went(&aegis, &message), json!({"address": "asha.rao@aegis.example", "name": "Asha Rao"}));
    assert!(sent["provider_message_id"].is_string() && sent["sent_at"].is_string(), "{sent}");
    let content = aegis.get(&format!("/v1/deliveries/{}/content", sent["id"].as_str().expect("an id")));
    assert_eq!(content["subject"], "200 observations are yours");

    // SES throttles, refuses, breaks and bounces; nothing crashes. What is sent again is sent at most three times, then it has
    // failed, and the last error is kept.
    let ask = |who: &str| aegis.enqueue("OBSERVATION_ASSIGNED", who, observation("7"));
    let [throttled, refused, broken, gone] = ["throttled", "refused", "broken", "gone"].map(ask);
    assert_eq!(aegis.mail_to("throttled").subject, "Observation 7 is yours");
    assert_eq!(aegis.delivery(&throttled)["attempt_count"], 1, "a throttled request is no attempt");
    assert_eq!(aegis.stands(&refused), ("failed".to_owned(), "provider_rejected".to_owned()));
    assert_eq!(aegis.stands(&broken), ("dead".to_owned(), "attempts_used_up".to_owned()));
    let attempts = aegis.delivery(&broken)["attempts"].clone();
    assert!(attempts[2]["error"]["code"].is_string() && attempts[3].is_null(), "{attempts}");
    // Before each attempt but the first lies a wait that is drawn anew: up to ten seconds, then up to twenty, never none.
    for (ended, begun) in [(0, 1), (1, 2)] {
        let wait = time(&attempts[begun]["started_at"]).duration_since(time(&attempts[ended]["finished_at"]));
        assert!(wait >= SignedDuration::from_secs(1), "{attempts}");
    }
    // Gita's mail came back, so she gets another address; the log still says where that mail went.
    aegis.until_state(&gone, "bounced");
    aegis.put("/v1/recipients/gone", json!({"email": "gita.roy@aegis.example", "name": "Gita Roy"}));
    assert_eq!(went(&aegis, &gone), json!({"address": aegis.page("recipients")["gone"]["email"], "name": "Gita Roy"}));

    // Preferences of each user. Ravi is new and has said nothing: mail of every kind is on, and comes at once.
    let preferences = "/v1/recipients/auditor-8/preferences";
    let defaults = aegis.get(preferences);
    assert_eq!((&defaults["contact"], &defaults["preferences"]), (&json!("both"), &json!([])));
    let kinds = defaults["effective"].as_array().expect("a list");
    assert!(kinds.len() >= 9, "all nine types: {defaults}");
    for kind in kinds {
        assert_eq!(kind["enabled"]["value"], true, "{kind}");
        assert_eq!(kind["cadence"], json!({"value": "immediate", "from": "built_in"}), "{kind}");
    }
    // He wants responses once a day, and what is assigned to him once a week.
    let rarely = json!([
        {"category": "RESPONSE_SUBMITTED", "cadence": "daily"}, {"category": "OBSERVATION_ASSIGNED", "cadence": "weekly"},
    ]);
    aegis.put(preferences, json!({"preferences": rarely}));
    // The roles CAE and CCO cannot switch off the weekly digest.
    for (officer, role) in [("cae-1", "CAE"), ("cco-1", "CCO")] {
        let off = json!({"preferences": [{"category": "WEEKLY_DIGEST", "enabled": false}]});
        let refused = aegis.ask("PUT", &format!("/v1/recipients/{officer}/preferences"), off).body;
        assert_eq!((&refused["status"], &refused["code"]), (&json!(422), &json!("mandatory_category")), "{refused}");
        let why = refused["detail"].as_str().unwrap_or_default();
        assert!(why.contains(&format!("the role {role}")), "{why}");
    }
    // An auditor can.
    aegis.put(
        "/v1/recipients/auditor-7/preferences",
        json!({"preferences": [{"category": "WEEKLY_DIGEST", "enabled": false}]}),
    );

    // What happens meanwhile is one bulk digest for Ravi, the next morning at nine.
    for number in ["11", "12", "13"] {
        let response = json!({"observation": number, "responder": "Meera Nair"});
        aegis.enqueue("RESPONSE_SUBMITTED", "auditor-8", response.clone());
        aegis.enqueue("RESPONSE_SUBMITTED", "auditor-7", response);
    }
    let weekly = ["21", "22"].map(|number| aegis.enqueue("OBSERVATION_ASSIGNED", "auditor-8", observation(number)));
    assert_eq!(aegis.mails_to("auditor-7").len(), 3, "Asha has not asked for digests");
    aegis.nothing_for(&["auditor-8"]);
    let wednesday = aegis.next(Weekday::Wednesday, "09:00", "Asia/Kolkata");
    aegis.becomes(&wednesday);
    let mail = aegis.mail_to("auditor-8");
    assert_eq!(mail.subject, "3 of news from internal audit");
    assert!(mail.text.contains("Responses: 3\nObservation 11\nObservation 12\nObservation 13"), "{mail:#?}");

    let monday = aegis.next(Weekday::Monday, "09:00", "Asia/Kolkata");
    aegis.becomes(&monday);
    // The weekly digest reaches CAE and CCO with nothing in it, too; auditors only when there is something: Ravi has been
    // assigned two observations since, and Asha has switched it off.
    for officer in ["cae-1", "cco-1"] {
        assert_eq!(aegis.mail_to(officer).subject, "The week in internal audit: 0 of news");
    }
    let mail = aegis.mail_to("auditor-8");
    assert_eq!(mail.subject, "The week in internal audit: 2 of news");
    assert!(mail.text.contains("Observations: 2\nObservation 21\nObservation 22"), "{mail:#?}");
    for notification in &weekly {
        let left = aegis.delivery(notification);
        assert_eq!(
            (&left["state"], &left["digest"]["category"]),
            (&json!("absorbed"), &json!("WEEKLY_DIGEST")),
            "{left}"
        );
    }
    aegis.nothing_for(&["auditor-7"]);

    // Reminders 7, 3 and 1 days before a deadline, each once, at nine where the owner is.
    let due = &monday + 9.days() + 9.hours();
    let more = json!({"recipients": ["owner-3"], "due_at": due.timestamp(), "data": {"observation": "42"}});
    aegis.puts_deadline("response", "observation-42", more);
    for (days, words) in [(7, "7 days"), (3, "3 days"), (1, "1 day")] {
        aegis.becomes(&(&monday + (9 - days).days()));
        assert_eq!(aegis.mail_to("owner-3").subject, format!("Observation 42 is due in {words}"));
        aegis.passes(minutes(1));
        aegis.nothing_for(&["owner-3"]);
    }
    let categories = aegis.became("observation-42", "owner-3").into_iter().map(|reminder| {
        let category = aegis.get(&format!("/v1/notifications/{reminder}"))["category"].clone();
        category.as_str().expect("a category").to_owned()
    });
    let kinds = ["7D", "3D", "1D"].map(|days| format!("DEADLINE_REMINDER_{days}"));
    assert_eq!(categories.collect::<BTreeSet<_>>(), BTreeSet::from(kinds));
    // The second Monday lay between.
    for officer in ["cae-1", "cco-1"] {
        assert_eq!(aegis.mails_to(officer).len(), 1, "one weekly digest a week");
    }
    aegis.nothing_for(&["auditor-8"]);
    // Nobody has responded: the owner hears that it is overdue, then the CAE, and a day later the CCO, until it is answered.
    aegis.becomes(&due);
    assert_eq!(aegis.mail_to("owner-3").subject, "Observation 42 is overdue");
    assert_eq!(aegis.mail_to("cae-1").subject, "Observation 42 is overdue");
    aegis.passes(hours(23));
    aegis.nothing_for(&["cco-1"]);
    aegis.passes(hours(1));
    assert_eq!(aegis.mail_to("cco-1").subject, "Observation 42 is overdue");
    let escalation = aegis.get("/v1/deadlines/observation-42")["escalation_id"].as_str().expect("it began").to_owned();
    aegis.post("/v1/deadlines/observation-42/complete", json!({}));
    assert_eq!(aegis.get(&format!("/v1/escalations/{escalation}"))["state"], "resolved");
    aegis.passes(days(2));
    aegis.nothing_for(&["owner-3", "cae-1", "cco-1"]);

    // Who switches mail off gets none, and the record says so.
    let off = json!({"preferences": [{"category": "RESPONSE_SUBMITTED", "channel": "email", "enabled": false}]});
    aegis.put("/v1/recipients/auditor-7/preferences", off);
    let response = json!({"observation": "14", "responder": "Meera Nair"});
    let unwanted = aegis.enqueue("RESPONSE_SUBMITTED", "auditor-7", response);
    aegis.settle();
    assert_eq!(aegis.stands(&unwanted), ("skipped".to_owned(), "preference_off".to_owned()));
    aegis.nothing_for(&["auditor-7"]);

    // The board report of the quarter is the bank's own row and file: the CAE gets the file with a mail.
    let report = "%PDF-1.7 Internal audit, Q4";
    let file = json!({"filename": "board-report-2026-Q4.pdf", "content_type": "application/pdf", "content": STANDARD.encode(report)});
    let words = json!({
        "subject": "Board report Q4 2026", "text": "The report of the quarter is attached.\n", "attachments": [file],
    });
    let reported = aegis.enqueue_with("OBSERVATION_ASSIGNED", "cae-1", observation("0"), words);
    assert_eq!(aegis.mail_to("cae-1").subject, "Board report Q4 2026");
    let requests = aegis.requests_for("cae-1");
    let request = requests.iter().find(|request| request["tags"]["nid"] == reported.as_str()).expect("SES has it");
    let attached = &request["attachments"][0];
    assert_eq!(
        (&attached["file_name"], &attached["size_bytes"]),
        (&json!("board-report-2026-Q4.pdf"), &json!(report.len()))
    );

    // Asha leaves the bank, and is erased: the log still says what was sent, and when, and nothing says to whom.
    let erased = aegis.ask("DELETE", "/v1/recipients/auditor-7", Value::Null);
    assert_eq!(erased.status, 204, "{erased:?}");
    let kept = aegis.delivery(&message);
    assert_eq!(
        ["provider_message_id", "sent_at"].map(|name| &kept[name]),
        ["provider_message_id", "sent_at"].map(|name| &sent[name])
    );
    assert_eq!(went(&aegis, &message), Value::Null);
    let remembered = aegis.count(
        "SELECT count(*) FROM harkara.attempts
         WHERE tenant_id = $1::uuid AND (to_address = 'asha.rao@aegis.example' OR to_name = 'Asha Rao')",
    );
    assert_eq!(remembered, 0);

    // Every table is behind row level security, forced. Those of what this story does have their audit trigger; that all have
    // it, but for a few that are named there, `catalog::audit` of the tests shows.
    let open = aegis.count(
        "SELECT count(*) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
         WHERE c.relnamespace = 'harkara'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
           AND $1 IS NOT NULL AND NOT (c.relrowsecurity AND c.relforcerowsecurity)",
    );
    assert_eq!(open, 0);
    let unaudited = aegis.count(UNAUDITED);
    assert_eq!(unaudited, 0);
    // What was done is on record, and sealed.
    let changes = aegis.get("/v1/audit?table=preferences");
    assert!(changes["changes"].as_array().is_some_and(|changes| !changes.is_empty()), "{changes}");
    aegis.passes(minutes(2));
    let verified = aegis.get("/v1/audit/verification");
    assert_eq!((&verified["is_intact"], &verified["broken"]), (&json!(true), &Value::Null), "{verified}");
    assert!(verified["row_count"].as_i64() > Some(0) && verified["block_count"].as_i64() > Some(0), "{verified}");
    aegis.end();
}
