//! S4: a car dealer's customers hear of their registrations: once it is quiet, and only of their own.

use crate::cast::{Scenario, minutes};
use serde_json::{Value, json};
use sqlx::Executor;

/// The dealer's own tables and the trigger, as the example has them.
const DEALER: &str = include_str!("../../infra/examples/stage_trigger.sql");
const ROLLBACK: &str = include_str!("../../infra/examples/stage_trigger_rollback.sql");

/// The role that the dealer's program logs in as.
const MAKE_ROLE: &str = "
    DROP SCHEMA IF EXISTS dealer CASCADE;
    DO $$
    BEGIN
        IF to_regrole('dealer_app') IS NULL THEN
            CREATE ROLE dealer_app NOLOGIN;
        END IF;
    END
    $$;
    CALL harkara.close_door('dealer_app')";

/// The dealer's program takes registrations in.
const REGISTER: &str = "
    BEGIN;
    SET LOCAL SESSION AUTHORIZATION dealer_app;
    INSERT INTO dealer.registrations VALUES ('31', 'customer-31', 'ordered'), ('32', 'customer-32', 'ordered');
    COMMIT";

/// What else may become of a change.
#[derive(Clone, Copy, PartialEq)]
enum Change {
    /// The customer is told, as long as the trigger is there.
    Told,
    /// An administrator has decided that of this one the customer is not told.
    Untold,
    /// The dealer's program rolls it back.
    RolledBack,
}

impl Scenario {
    /// The dealer's program changes a stage in a transaction of its own.
    fn changes(&self, registration: &str, stage: &str, change: Change) {
        self.runtime.block_on(async {
            let mut transaction = self.database.begin().await.expect("begun");
            transaction.execute("SET LOCAL SESSION AUTHORIZATION dealer_app").await.expect("logged in");
            let statement = match change {
                Change::Untold => {
                    "UPDATE dealer.registrations SET stage = $2, tell_customer = false WHERE registration_id = $1"
                }
                // Whoever changes only the stage leaves the choice as it is: it is the trigger that clears it.
                Change::Told | Change::RolledBack => {
                    "UPDATE dealer.registrations SET stage = $2 WHERE registration_id = $1"
                }
            };
            let update = sqlx::query(statement).bind(registration).bind(stage);
            update.execute(&mut *transaction).await.expect("changed");
            let ended = match change {
                Change::RolledBack => transaction.rollback().await,
                Change::Told | Change::Untold => transaction.commit().await,
            };
            ended.expect("ended");
        });
        self.tick();
    }

    fn count_pending(&self) -> i64 {
        self.count("SELECT count(*) FROM harkara.collections WHERE tenant_id = $1::uuid AND closed_at IS NULL")
    }
}

#[test]
fn s4_a_car_dealers_customers_hear_of_the_last_stage_once_it_is_quiet() {
    let dealer = Scenario::begin("s4");
    dealer.administers(MAKE_ROLE);
    let opened =
        sqlx::query("CALL harkara.open_door('dealer_app', $1::uuid)").bind(dealer.tenant()).execute(&dealer.database);
    dealer.runtime.block_on(opened).expect("the door is open");
    dealer.administers(DEALER);
    dealer.administers(REGISTER);

    // Each further change replaces the pending message and restarts the window; after five minutes of quiet the customer
    // is told the first old stage and the last new one.
    for stage in ["built", "shipped", "arrived"] {
        dealer.changes("31", stage, Change::Told);
        assert_eq!(dealer.count_pending(), 1, "at most one for each registration");
        dealer.passes(minutes(4));
    }
    dealer.nothing_for(&["customer-31"]);
    dealer.passes(minutes(1));
    let mail = dealer.mail_to("customer-31");
    assert_eq!(mail.subject, "Your registration 31: arrived");
    assert!(mail.text.starts_with("ordered -> arrived"), "{mail:#?}");

    // It is the database that holds it to one, not the code.
    dealer.changes("32", "built", Change::Told);
    let again = "
        INSERT INTO harkara.collections (tenant_id, collection_id, kind, category_key, recipient_id, collection_key, sandbox,
                                         member_count, due_at, latest_at)
        SELECT tenant_id, gen_random_uuid(), kind, category_key, recipient_id, collection_key, sandbox, 1, due_at, latest_at
        FROM harkara.collections WHERE tenant_id = $1::uuid AND closed_at IS NULL";
    let second = dealer.runtime.block_on(sqlx::query(again).bind(dealer.tenant()).execute(&dealer.database));
    let refusal = second.expect_err("a second one is refused").to_string();
    assert!(refusal.contains("one_open_collection_for_a_key"), "{refusal}");
    dealer.passes(minutes(5));
    assert!(dealer.mail_to("customer-32").text.starts_with("ordered -> built"));

    // Steady changes do not postpone the message for ever: after half an hour it leaves.
    for change in 0..8 {
        dealer.nothing_for(&["customer-31"]);
        dealer.changes("31", &format!("paper {change}"), Change::Told);
        dealer.passes(minutes(4));
    }
    assert!(dealer.mail_to("customer-31").text.starts_with("arrived -> paper 7"));

    // Notification and change commit or roll back together.
    dealer.changes("31", "lost", Change::RolledBack);
    // An administrator decides for one change that the customer is not told, and for that change only.
    dealer.changes("31", "checked", Change::Untold);
    dealer.passes(minutes(6));
    dealer.nothing_for(&["customer-31"]);
    dealer.changes("31", "registered", Change::Told);
    dealer.passes(minutes(5));
    assert!(dealer.mail_to("customer-31").text.starts_with("checked -> registered"));

    // By default customers hear by mail and text message; whoever opts out, who logged in by phone, hears nothing.
    let greta = || json!({"scope": "self", "sub": "idp|31", "phone_number": "+4915112345631"});
    let own = |method: &str, path: &str, body: Value| dealer.ask_as(greta(), method, path, body);
    let preferences = "/v1/recipients/customer-31/preferences";
    assert_eq!(own("GET", preferences, Value::Null).body["contact"], "both");
    assert_eq!(own("PUT", preferences, json!({"contact": "none"})).body["contact"], "none");
    dealer.changes("31", "ready", Change::Told);
    dealer.passes(minutes(5));
    dealer.nothing_for(&["customer-31"]);
    for (contact, is_told) in [("sms", false), ("email", true), ("both", true)] {
        assert_eq!(own("PUT", preferences, json!({"contact": contact})).status, 200);
        dealer.changes("31", &format!("ready for {contact}"), Change::Told);
        dealer.passes(minutes(5));
        assert_eq!(dealer.mails_to("customer-31").len(), usize::from(is_told), "{contact}");
    }

    // She sees her own notifications and nobody else's: the database refuses. The dealer's administrator sees all.
    let seen = own("GET", "/v1/notifications", Value::Null).body;
    let seen = seen["notifications"].as_array().expect("a list");
    assert!(seen.iter().all(|notification| notification["recipient"]["id"] == "customer-31"), "{seen:#?}");
    let all = dealer.get("/v1/notifications?recipient=customer-32");
    let others = all["notifications"][0]["id"].as_str().expect("Otto's").to_owned();
    assert_eq!(own("GET", &format!("/v1/notifications/{others}"), Value::Null).status, 404);
    assert_eq!(own("GET", "/v1/recipients/customer-32/preferences", Value::Null).status, 404);

    // What was told is on record: both stages, the subject, the template and the provider's id of the message.
    let sent = seen.iter().find(|notification| notification["deliveries"][0]["provider_message_id"].is_string());
    let sent = sent.expect("a message that was sent");
    assert_eq!(sent["template"], "registration_stage");
    let delivery = sent["deliveries"][0]["id"].as_str().expect("an id");
    let content = dealer.get(&format!("/v1/deliveries/{delivery}/content"));
    assert_eq!(content["subject"], "Your registration 31: ready for both");
    assert!(
        content["text"].as_str().is_some_and(|text| text.starts_with("ready for email -> ready for both")),
        "{content}"
    );

    let logged = dealer.get(&format!("/v1/notifications/{}", sent["id"].as_str().expect("an id")));
    assert_eq!(logged["metadata"]["registration"], "31");

    // What was set up can be taken back: the registrations stay, and whoever changes them tells nobody any more.
    dealer.administers(ROLLBACK);
    dealer.changes("31", "sold", Change::Told);
    dealer.passes(minutes(6));
    dealer.nothing_for(&["customer-31", "customer-32"]);
    dealer.administers("DROP SCHEMA dealer CASCADE");
    dealer.end();
}
