//! Whether a delivery goes is decided when it is about to go, by what holds then, and can be told afterwards.

use adapters::ids::new_uuid;
use adapters::store::claims::{Claim, DeliveryKey, claim_across_tenants};
use adapters::wire::queue_message::read_message;
use domain::delivery::Reason;
use domain::id::AttemptId;
use domain::outcome::{ProviderError, SendOutcome};
use serde_json::{Value, json};
use sqlx::PgPool;
use std::time::{Duration, Instant};
use tests::{Answer, Stage, TENANT, see_count};

async fn send(stage: &Stage, method: &str, path: &str, key: &str, body: Value) -> Answer {
    stage.call(TENANT, &format!("{method} {path}"), Some(key), "", &body.to_string()).await
}

async fn prefer(stage: &Stage, recipient: &str, preferences: Value) -> Answer {
    send(stage, "PUT", "/v1/recipients/{id}/preferences", recipient, json!({"preferences": preferences})).await
}

async fn consent(stage: &Stage, recipient: &str, state: &str) {
    let said = json!({"purpose": "offers", "state": state, "source": "a form", "evidence": {"page": "signup"}});
    let answer = send(stage, "POST", "/v1/recipients/{id}/consents", recipient, said).await;
    assert_eq!((answer.status, answer.body["state"].as_str()), (200, Some(state)), "{answer:?}");
}

async fn put_category(stage: &Stage, key: &str, mut body: Value) {
    body["template"] = "greeting".into();
    stage.put(TENANT, "/v1/categories/{key}", key, body).await;
}

/// Asks for a notification to a known recipient and returns its id.
async fn ask(stage: &Stage, category: &str, recipient: &str) -> String {
    let body = json!({"category": category, "recipient": {"id": recipient}, "data": {"name": "Ada"}});
    stage.post(body).await.id()
}

/// State and reason of a notification after everything that is due was done.
async fn outcome(stage: &Stage, id: &str) -> (String, Option<String>) {
    stage.drain().await;
    let (state, reason, _) = stage.outcome(id).await;
    (state, reason)
}

async fn explain(stage: &Stage, id: &str) -> String {
    let answer = stage.call(TENANT, "GET /v1/notifications/{id}/explain", Some(id), "", "").await;
    let lines = answer.body["deliveries"][0]["explanation"].as_array().unwrap_or_else(|| panic!("{answer:?}")).clone();
    lines.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
}

fn is(state: &str, reason: &str) -> (String, Option<String>) {
    (state.to_owned(), Some(reason.to_owned()))
}

fn sent() -> (String, Option<String>) {
    ("sent".to_owned(), None)
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_opted_out_recipient_is_skipped_and_explain_says_who_wanted_that(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let off = json!([{"category": "greeting", "channel": "email", "enabled": false}]);
    let before = ask(&stage, "greeting", "ada").await;
    // After it was accepted, and before it was sent: that is what counts.
    assert_eq!(prefer(&stage, "ada", off).await.status, 200);
    assert_eq!(outcome(&stage, &before).await, is("skipped", "preference_off"));
    assert_eq!(
        explain(&stage, &before).await,
        "By email: It was not sent, on purpose, because it is switched off.\n\
         Found: it is switched off by the recipient, for this category on this channel.\n\
         Attempt 1 at ATTEMPT ended before the provider was called."
            .replace("ATTEMPT", &attempt_time(&stage, &before).await)
    );
    assert_eq!(stage.mail.asked().len(), 0);

    prefer(&stage, "ada", json!([])).await;
    let after = ask(&stage, "greeting", "ada").await;
    assert_eq!(outcome(&stage, &after).await, sent());
    assert!(explain(&stage, &after).await.contains("switched on by nobody, so that it is the default"));
    stage.finish().await;
}

async fn attempt_time(stage: &Stage, id: &str) -> String {
    stage.show(id).await["deliveries"][0]["attempts"][0]["started_at"].as_str().expect("a time").to_owned()
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn who_must_get_the_weekly_digest_cannot_mute_it_and_gets_it(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    put_category(&stage, "WEEKLY_DIGEST", json!({"class": "digest", "unmutable_roles": ["CAE", "CCO"]})).await;
    for (id, role) in [("vikram", "CAE"), ("asha", "AUDITOR")] {
        let recipient = json!({"email": format!("{id}@example.org"), "roles": [role]});
        stage.put(TENANT, "/v1/recipients/{id}", id, recipient).await;
    }
    let off = json!([{"category": "WEEKLY_DIGEST", "enabled": false}]);
    let refused = prefer(&stage, "vikram", off.clone()).await;
    assert_eq!((refused.status, refused.body["code"].as_str()), (422, Some("mandatory_category")));
    assert_eq!(refused.pointers(), ["/preferences/0/enabled"]);
    assert!(refused.body["detail"].as_str().is_some_and(|detail| detail.contains("the role CAE")), "{refused:?}");
    assert_eq!(prefer(&stage, "asha", off).await.status, 200);

    // Everything off leaves what is mandatory, and says so.
    let all_off = prefer(&stage, "vikram", json!([{"category": "*", "enabled": false}])).await;
    let held = all_off.body["effective"].as_array().expect("a list").clone();
    let of = |key: &str| held.iter().find(|held| held["category"] == key).expect("a category").clone();
    assert_eq!(of("WEEKLY_DIGEST")["enabled"], json!({"value": true, "from": "mandatory"}));
    assert_eq!(of("WEEKLY_DIGEST")["mandatory_for"], "CAE");
    assert_eq!(of("greeting")["enabled"], json!({"value": false, "from": "recipient"}));

    let vikrams = ask(&stage, "WEEKLY_DIGEST", "vikram").await;
    let ashas = ask(&stage, "WEEKLY_DIGEST", "asha").await;
    assert_eq!(outcome(&stage, &vikrams).await, sent());
    assert_eq!(outcome(&stage, &ashas).await, is("skipped", "preference_off"));
    let mail = &stage.mail.asked()[0];
    assert!(mail.headers.iter().all(|header| header.name().as_str() != "List-Unsubscribe"), "{:?}", mail.headers);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_needs_consent_is_sent_only_while_there_is_one(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    put_category(&stage, "offer", json!({"class": "marketing", "consent_purpose": "offers"})).await;
    let never = ask(&stage, "offer", "ada").await;
    assert_eq!(outcome(&stage, &never).await, is("skipped", "consent_missing"));
    consent(&stage, "ada", "granted").await;
    let given = ask(&stage, "offer", "ada").await;
    assert_eq!(outcome(&stage, &given).await, sent());
    let meanwhile = ask(&stage, "offer", "ada").await;
    consent(&stage, "ada", "withdrawn").await;
    assert_eq!(outcome(&stage, &meanwhile).await, is("skipped", "consent_withdrawn"));
    assert!(explain(&stage, &meanwhile).await.contains("consent to \"offers\", which was taken back at"));
    let ledger = stage.call(TENANT, "GET /v1/recipients/{id}/consents", Some("ada"), "", "").await;
    let states: Vec<_> =
        ledger.body["consents"].as_array().expect("a list").iter().map(|entry| &entry["state"]).collect();
    assert_eq!(states, ["withdrawn", "granted"], "the newest first, and nothing is lost");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn quiet_hours_and_a_cadence_hold_and_cost_no_attempt(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    put_category(&stage, "nudge", json!({"class": "reminder"})).await;
    // A minute of each day is not quiet: at any other the test would hold nothing.
    let minute: String =
        sqlx::query_scalar("SELECT to_char(harkara.now() AT TIME ZONE 'UTC' - interval '1 hour', 'HH24:MI')")
            .fetch_one(&stage.admin)
            .await
            .expect("a time");
    let until: String =
        sqlx::query_scalar("SELECT to_char(harkara.now() AT TIME ZONE 'UTC' + interval '2 hours', 'HH24:MI')")
            .fetch_one(&stage.admin)
            .await
            .expect("a time");
    prefer(&stage, "ada", json!([{"quiet_hours": {"from": minute, "until": until}}])).await;
    let quiet = ask(&stage, "nudge", "ada").await;
    assert_eq!(outcome(&stage, &quiet).await, is("held", "quiet_hours"));
    assert!(explain(&stage, &quiet).await.contains("it is quiet hours"));
    let attempts = &stage.show(&quiet).await["deliveries"][0]["attempt_count"];
    assert_eq!(attempts, 0, "holding costs no attempt");
    // What answers something that the recipient did does not wait.
    assert_eq!(outcome(&stage, &ask(&stage, "greeting", "ada").await).await, sent());

    // An hour after the next look at it, wherever in the day that is.
    let due: String =
        sqlx::query_scalar("SELECT to_char(harkara.now() AT TIME ZONE 'UTC' + interval '4 hours', 'HH24:MI')")
            .fetch_one(&stage.admin)
            .await
            .expect("a time");
    let settings = json!({"digest_time": due});
    assert_eq!(stage.call(TENANT, "PUT /v1/settings", None, "", &settings.to_string()).await.status, 200);
    prefer(&stage, "ada", json!([{"category": "nudge", "cadence": "daily"}])).await;
    stage.pass(Duration::from_secs(3 * 3600)).await;
    stage.dispatch().await;
    assert_eq!(outcome(&stage, &quiet).await, is("held", "cadence_not_due"));
    assert!(explain(&stage, &quiet).await.contains("it is wanted daily by the recipient, for this category"));
    assert_eq!(stage.mail.asked().len(), 1, "only what does not wait");
    stage.pass(Duration::from_secs(25 * 3600)).await;
    stage.dispatch().await;
    assert_eq!(outcome(&stage, &quiet).await, sent());
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_throttle_and_a_cap_let_just_so_many_through(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let hour = json!({"limit": 1, "window": "PT1H"});
    put_category(&stage, "nudge", json!({"class": "reminder", "throttle": hour})).await;
    put_category(&stage, "news", json!({"class": "reminder"})).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(ask(&stage, "nudge", "ada").await);
    }
    stage.drain().await;
    let mut states = Vec::new();
    for id in &ids {
        states.push(outcome(&stage, id).await);
    }
    states.sort();
    let throttled = || is("skipped", "recipient_throttled");
    let mut wanted = vec![sent(), throttled(), throttled(), throttled()];
    wanted.sort();
    assert_eq!(states, wanted);

    cap(&stage, 2).await;
    stage.pass(Duration::from_secs(2 * 24 * 3600)).await;
    let mut capped = Vec::new();
    for category in ["news", "news", "news", "greeting"] {
        let id = ask(&stage, category, "ada").await;
        capped.push(outcome(&stage, &id).await);
    }
    assert_eq!(capped, [sent(), sent(), is("skipped", "frequency_cap_reached"), sent()]);
    stage.finish().await;
}

/// From now on at most so many a day of what is under the cap.
async fn cap(stage: &Stage, limit: u32) {
    let cap = json!({"frequency_cap": {"limit": limit, "window": "P1D"}});
    let answer = stage.call(TENANT, "PUT /v1/settings", None, "", &cap.to_string()).await;
    assert_eq!((answer.status, &answer.body["frequency_cap"]), (200, &cap["frequency_cap"]), "{answer:?}");
}

/// State and reason as they stand.
async fn stand(stage: &Stage, id: &str) -> (String, Option<String>) {
    let (state, reason, _) = stage.outcome(id).await;
    (state, reason)
}

/// Two categories under a cap of one a day, of which `ada` has switched off `nudge`.
async fn cap_news_and_mute_nudge(stage: &Stage) {
    put_category(stage, "nudge", json!({"class": "reminder"})).await;
    put_category(stage, "news", json!({"class": "reminder"})).await;
    prefer(stage, "ada", json!([{"category": "nudge", "enabled": false}])).await;
    cap(stage, 1).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_is_never_sent_takes_no_place_from_what_is_wanted(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    cap_news_and_mute_nudge(&stage).await;
    let muted = ask(&stage, "nudge", "ada").await;
    let wanted = ask(&stage, "news", "ada").await;
    // Both are claimed at once, the muted one first: nobody knows yet that it will not go.
    assert_eq!(stage.process(Duration::ZERO).await, 2);
    assert_eq!(stand(&stage, &muted).await, is("skipped", "preference_off"));
    assert_eq!(stand(&stage, &wanted).await, is("held", Reason::EarlierSendPending.as_str()));
    let told = explain(&stage, &wanted).await;
    assert!(told.contains("because others are being sent to the recipient just now"), "{told}");
    assert!(
        told.contains("got 0 of at most 1 in 86400 seconds (being sent: 1) under the tenant's frequency cap"),
        "{told}"
    );
    let waits: Vec<_> = stage.queue.waiting().iter().map(|waiting| waiting.wait).collect();
    assert_eq!(waits, [Duration::from_secs(6)], "a moment, and no more");
    assert_eq!(outcome(&stage, &wanted).await, sent());
    assert_eq!(outcome(&stage, &ask(&stage, "news", "ada").await).await, is("skipped", "frequency_cap_reached"));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_sandbox_run_uses_up_nothing_of_a_real_recipients_cap(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    cap_news_and_mute_nudge(&stage).await;
    let run = json!({"category": "news", "recipient": {"id": "ada"}, "data": {"name": "Ada"}, "sandbox": true});
    let runs = [stage.post(run.clone()).await.id(), stage.post(run.clone()).await.id()];
    let real = ask(&stage, "news", "ada").await;
    // All in one claim: nobody waits for a sandbox run, either.
    assert_eq!(stage.process(Duration::ZERO).await, 3);
    for id in runs.iter().chain([&real]) {
        assert_eq!(stand(&stage, id).await, sent());
    }
    assert_eq!(stage.mail.asked().len(), 1);
    // It does what a real one would.
    let id = stage.post(run).await.id();
    assert_eq!(outcome(&stage, &id).await, is("skipped", "frequency_cap_reached"));
    stage.finish().await;
}

fn refused() -> SendOutcome {
    SendOutcome::Rejected(ProviderError { code: "Code".into(), detail: "words".into() })
}

fn failed() -> SendOutcome {
    SendOutcome::ServerFailed(ProviderError { code: "Code".into(), detail: "words".into() })
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_was_refused_counts_not_and_what_may_have_been_sent_counts(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    cap_news_and_mute_nudge(&stage).await;
    stage.mail.script("ada@example.org", [refused as fn() -> _, failed, refused]);
    assert_eq!(outcome(&stage, &ask(&stage, "news", "ada").await).await, is("failed", "provider_rejected"));
    // Its first attempt may have been sent, and its second one was refused: it may have been sent.
    assert_eq!(outcome(&stage, &ask(&stage, "news", "ada").await).await, is("failed", "provider_rejected"));
    assert_eq!(outcome(&stage, &ask(&stage, "news", "ada").await).await, is("skipped", "frequency_cap_reached"));
    stage.pass(Duration::from_secs(25 * 3600)).await;
    assert_eq!(outcome(&stage, &ask(&stage, "news", "ada").await).await, sent());
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_a_dead_worker_had_claimed_is_waited_for_as_long_as_its_lease_and_then_counts(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    cap_news_and_mute_nudge(&stage).await;
    ask(&stage, "news", "ada").await;
    let message = read_message(&stage.queue.receive(Duration::ZERO)[0].body).expect("our own message");
    let key = DeliveryKey { tenant: message.tenant, delivery: message.delivery };
    let asked = [(key, AttemptId::from_uuid(new_uuid()))];
    let claims = claim_across_tenants(&stage.processor.database, &asked).await.expect("claimed");
    assert!(matches!(claims[&key], Claim::Claimed(_)));
    let other = ask(&stage, "news", "ada").await;
    for _ in 0..3 {
        stage.pass(Duration::from_secs(6)).await;
        stage.process(Duration::from_secs(6)).await;
        assert_eq!(stand(&stage, &other).await, is("held", "earlier_send_pending"));
    }
    stage.pass(Duration::from_secs(90)).await;
    assert_eq!(outcome(&stage, &other).await, is("skipped", "frequency_cap_reached"));
    stage.leave_work();
}

/// Lets claims come as far as they do before they write their attempts, and no further, as long as the returned
/// transaction is open.
async fn stop_claims(admin: &PgPool) -> sqlx::Transaction<'static, sqlx::Postgres> {
    for statement in [
        "CREATE FUNCTION public.wait_for_test() RETURNS trigger LANGUAGE plpgsql
         AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NEW; END $$",
        "CREATE TRIGGER wait_for_test BEFORE INSERT ON harkara.attempts
         FOR EACH ROW EXECUTE FUNCTION public.wait_for_test()",
    ] {
        sqlx::query(statement).execute(admin).await.expect("a trigger");
    }
    let mut stopping = admin.begin().await.expect("a transaction");
    sqlx::query("SELECT pg_advisory_xact_lock(4711)").execute(&mut *stopping).await.expect("a lock");
    stopping
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn two_workers_at_once_let_no_more_through_than_the_cap(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    cap_news_and_mute_nudge(&stage).await;
    let mut asked = Vec::new();
    for category in ["news", "nudge", "news", "nudge"] {
        asked.push(ask(&stage, category, "ada").await);
    }
    let stopping = stop_claims(&stage.admin).await;
    let records = stage.queue.receive(Duration::ZERO);
    let (first, second) = records.split_at(2);
    let deadline = Instant::now() + Duration::from_secs(30);
    let release = async {
        let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        see_count(&stage.admin, waiting, 2).await;
        stopping.commit().await.expect("released");
    };
    tokio::join!(
        stage.processor.process_batch(first, deadline),
        stage.processor.process_batch(second, deadline),
        release
    );
    assert_eq!(stage.mail.asked().len(), 1, "the cap is one");
    stage.queue.give_back(records);
    stage.drain().await;
    let mut ends = Vec::new();
    for id in &asked {
        ends.push(stand(&stage, id).await);
    }
    ends.sort();
    let muted = || is("skipped", "preference_off");
    let mut wanted = vec![muted(), muted(), sent(), is("skipped", "frequency_cap_reached")];
    wanted.sort();
    assert_eq!(ends, wanted);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_is_mandatory_or_urgent_is_sent_beyond_throttle_and_cap_and_counts_for_neither(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let hour = json!({"limit": 1, "window": "PT1H"});
    let digest = json!({"class": "digest", "unmutable_roles": ["CAE"], "throttle": hour});
    put_category(&stage, "WEEKLY_DIGEST", digest).await;
    put_category(&stage, "nudge", json!({"class": "reminder", "throttle": hour})).await;
    for (id, role) in [("vikram", "CAE"), ("asha", "AUDITOR")] {
        let recipient = json!({"email": format!("{id}@example.org"), "roles": [role]});
        stage.put(TENANT, "/v1/recipients/{id}", id, recipient).await;
    }
    cap(&stage, 1).await;
    for _ in 0..3 {
        assert_eq!(outcome(&stage, &ask(&stage, "WEEKLY_DIGEST", "vikram").await).await, sent());
    }
    // They took no place from what is limited, and that takes none from them.
    assert_eq!(outcome(&stage, &ask(&stage, "nudge", "vikram").await).await, sent());
    assert_eq!(outcome(&stage, &ask(&stage, "nudge", "vikram").await).await, is("skipped", "recipient_throttled"));
    assert_eq!(outcome(&stage, &ask(&stage, "WEEKLY_DIGEST", "vikram").await).await, sent());
    let urgent =
        json!({"category": "nudge", "recipient": {"id": "vikram"}, "data": {"name": "V"}, "priority": "critical"});
    let urgent = stage.post(urgent).await.id();
    assert_eq!(outcome(&stage, &urgent).await, sent());
    // Whose role does not make it mandatory is limited as before.
    assert_eq!(outcome(&stage, &ask(&stage, "WEEKLY_DIGEST", "asha").await).await, sent());
    let second = ask(&stage, "WEEKLY_DIGEST", "asha").await;
    assert_eq!(outcome(&stage, &second).await, is("skipped", "recipient_throttled"));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_preference_is_set_in_one_word_and_shown_with_where_it_comes_from(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let read = async || stage.call(TENANT, "GET /v1/recipients/{id}/preferences", Some("ada"), "", "").await.body;
    assert_eq!(read().await["contact"], "both", "the default");
    for (word, enabled) in [("sms", false), ("email", true), ("none", false), ("both", true)] {
        let body = json!({"contact": word});
        let answer = send(&stage, "PUT", "/v1/recipients/{id}/preferences", "ada", body).await;
        assert_eq!((answer.status, answer.body["contact"].as_str()), (200, Some(word)), "{answer:?}");
        assert_eq!(read().await["effective"][0]["enabled"], json!({"value": enabled, "from": "recipient_channel"}));
    }
    prefer(&stage, "ada", json!([])).await;
    let tenants = json!({"preferences": [{"category": "greeting", "cadence": "weekly"}]});
    assert_eq!(stage.call(TENANT, "PUT /v1/preferences", None, "", &tenants.to_string()).await.status, 200);
    assert_eq!(read().await["effective"][0]["cadence"], json!({"value": "weekly", "from": "tenant_category"}));

    let wrong = json!([{"category": "nonsense", "enabled": false}, {"channel": "pigeon", "enabled": true},
        {"enabled": "yes"}, {"category": "greeting"}, {"quiet_hours": {"from": "25:00", "until": "07:00"}}]);
    let refused = prefer(&stage, "ada", wrong).await;
    assert_eq!(refused.status, 422);
    assert_eq!(
        refused.pointers(),
        ["/preferences/1/channel", "/preferences/2/enabled", "/preferences/3", "/preferences/4/quiet_hours/from"]
    );
    let unknown = prefer(&stage, "ada", json!([{"category": "nonsense", "enabled": false}])).await;
    assert_eq!((unknown.status, unknown.pointers()), (422, vec!["/preferences/0/category"]));
    assert_eq!(read().await["preferences"], json!([]), "nothing of it was stored");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_suppressed_address_is_explained_by_its_suppression(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.call(TENANT, "PUT /v1/suppressions/{address}", Some("ada@example.org"), "", "{}").await;
    let id = ask(&stage, "greeting", "ada").await;
    assert_eq!(outcome(&stage, &id).await, is("skipped", "address_suppressed"));
    assert!(explain(&stage, &id).await.contains("Found: the address is suppressed (manual, from api, since"));
    stage.finish().await;
}
