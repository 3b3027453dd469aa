//! One claim, one request, one outcome; each record for itself.

use adapters::ids::new_uuid;
use adapters::store::attempts::{AttemptRecord, record_across_tenants};
use adapters::store::claims::{Claim, DeliveryKey, claim_across_tenants};
use adapters::wire::queue_message::read_message;
use domain::category::{DeliveryRules, UnknownPolicy};
use domain::delivery::Reason;
use domain::id::AttemptId;
use domain::outcome::{AttemptBudget, Conclusion, ProviderError, SendOutcome, settle_attempt};
use domain::retry::Jitter;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::time::{Duration, Instant};
use tests::{OTHER_TENANT, Stage, TENANT};

fn error() -> ProviderError {
    ProviderError { code: "Code".into(), detail: "words".into() }
}

fn transient() -> SendOutcome {
    SendOutcome::Transient(error())
}

fn server_failed() -> SendOutcome {
    SendOutcome::ServerFailed(error())
}

fn throttled() -> SendOutcome {
    SendOutcome::Throttled(error())
}

fn quota() -> SendOutcome {
    SendOutcome::Held(Reason::QuotaReached, error())
}

fn rejected() -> SendOutcome {
    SendOutcome::Rejected(error())
}

fn unknown() -> SendOutcome {
    SendOutcome::Unknown(error())
}

/// What a worker records of a delivery's first attempt.
fn record_first(key: DeliveryKey, attempt: AttemptId, outcome: SendOutcome) -> AttemptRecord {
    let rules =
        DeliveryRules { max_attempts: 3, unknown_policy: UnknownPolicy::AtLeastOnce, reconcile_window_seconds: 600 };
    let budget = AttemptBudget { spent: 1, made: 1 };
    let settlement = settle_attempt(Conclusion::Called(outcome), budget, &rules, Jitter::new(0.0));
    AttemptRecord {
        key,
        attempt,
        attempt_number: 1,
        identity: "default".into(),
        settlement,
        findings: Vec::new(),
        content_hash: None,
        event: None,
    }
}

fn panics() -> SendOutcome {
    panic!("the provider's code panics on purpose")
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_send_that_fails_is_tried_again_until_it_succeeds(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.mail.script("ada@example.org", [transient as fn() -> _, server_failed]);
    let answer = stage.post(Stage::greeting("ada@example.org")).await;
    stage.drain().await;
    assert_eq!(stage.outcome(&answer.id()).await, ("sent".to_owned(), None, 3));
    let shown = stage.show(&answer.id()).await;
    let outcomes: Vec<_> =
        shown["deliveries"][0]["attempts"].as_array().expect("a list").iter().map(|a| &a["outcome"]).collect();
    assert_eq!(outcomes, ["transient", "unknown", "sent"]);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_send_that_always_fails_dies_after_exactly_max_attempts_and_a_redrive_delivers_it(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.mail.script("ada@example.org", [server_failed as fn() -> _; 3]);
    let answer = stage.post(Stage::greeting("ada@example.org")).await;
    stage.drain().await;
    assert_eq!(stage.mail.count("ada@example.org"), 3);
    assert_eq!(stage.outcome(&answer.id()).await, ("dead".to_owned(), Some("attempts_used_up".to_owned()), 3));
    assert_eq!(stage.queue.buried()[0].reason, "attempts_used_up");
    stage.store_dead_letters().await;

    let listed = stage.call(TENANT, "GET /v1/dead-letters", None, "", "").await;
    let id = listed.body["dead_letters"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(listed.body["dead_letters"][0]["notification_id"], answer.id());
    let body = json!({"ids": [id]}).to_string();
    let redriven = stage.call(TENANT, "POST /v1/dead-letters/redrive", None, "", &body).await;
    assert_eq!(redriven.body["redriven_count"], 1, "{redriven:?}");
    let again = stage.call(TENANT, "POST /v1/dead-letters/redrive", None, "", &body).await;
    assert_eq!(again.body["redriven_count"], 0, "a redrive is idempotent");
    stage.drain().await;
    assert_eq!(stage.outcome(&answer.id()).await, ("sent".to_owned(), None, 1));
    assert_eq!(stage.mail.count("ada@example.org"), 4);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn throttling_costs_no_attempt_however_often_it_happens(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.mail.script("ada@example.org", [throttled as fn() -> _; 6]);
    let answer = stage.post(Stage::greeting("ada@example.org")).await;
    // Six times it is throttled, and then it goes.
    for _ in 0..7 {
        stage.drain().await;
        stage.pass(Duration::from_secs(3600)).await;
        stage.dispatch().await;
    }
    assert_eq!(stage.outcome(&answer.id()).await, ("sent".to_owned(), None, 1));
    assert_eq!(stage.mail.count("ada@example.org"), 7);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_used_up_quota_holds_the_delivery_in_the_database_and_costs_no_attempt(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.mail.script("ada@example.org", [quota as fn() -> _]);
    let answer = stage.post(Stage::greeting("ada@example.org")).await;
    stage.drain().await;
    assert_eq!(stage.outcome(&answer.id()).await, ("held".to_owned(), Some("quota_reached".to_owned()), 0));
    assert!(stage.queue.is_empty(), "a long wait is not in flight");
    assert_eq!(stage.dispatch().await.published, 0, "it is not its time");
    stage.pass(Duration::from_secs(15 * 60)).await;
    assert_eq!(stage.dispatch().await.published, 1);
    stage.drain().await;
    assert_eq!(stage.outcome(&answer.id()).await, ("sent".to_owned(), None, 1));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_the_provider_rejects_ends_failed_with_its_words_after_one_request(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.mail.script("ada@example.org", [rejected as fn() -> _]);
    let answer = stage.post(Stage::greeting("ada@example.org")).await;
    stage.drain().await;
    assert_eq!(stage.outcome(&answer.id()).await, ("failed".to_owned(), Some("provider_rejected".to_owned()), 1));
    assert_eq!(stage.show(&answer.id()).await["deliveries"][0]["detail"], "words");
    assert_eq!(stage.mail.count("ada@example.org"), 1);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_unknown_outcome_waits_and_is_then_settled_by_the_categorys_policy(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let at_most_once = json!({"class": "transactional", "template": "greeting", "unknown_policy": "at_most_once"});
    stage.put(TENANT, "/v1/categories/{key}", "once", at_most_once).await;
    for (category, end, mails) in
        [("greeting", ("sent", None, 2), 2), ("once", ("failed", Some("outcome_unknown"), 1), 1)]
    {
        let address = format!("{category}@example.org");
        stage.mail.script(&address, [unknown as fn() -> _]);
        let mut body = Stage::greeting(&address);
        body["category"] = category.into();
        let answer = stage.post(body).await;
        stage.drain().await;
        assert_eq!(stage.outcome(&answer.id()).await.0, "unknown");
        stage.dispatch().await;
        assert_eq!(stage.mail.count(&address), 1, "nothing is sent again before the window is over");
        stage.pass(Duration::from_secs(600)).await;
        stage.dispatch().await;
        stage.drain().await;
        let (state, reason, attempts) = stage.outcome(&answer.id()).await;
        assert_eq!((state.as_str(), reason.as_deref(), attempts), end);
        assert_eq!(stage.mail.count(&address), mails);
    }
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_message_that_comes_twice_is_sent_once(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.post(Stage::greeting("ada@example.org")).await;
    let body = stage.queue.waiting()[0].record.body.clone();
    stage.queue.put(&body);
    stage.drain().await;
    stage.queue.put(&body);
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 1);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn two_workers_with_the_same_message_make_one_request(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.post(Stage::greeting("ada@example.org")).await;
    let records = stage.queue.receive(Duration::ZERO);
    let deadline = Instant::now() + Duration::from_secs(30);
    let batch = || stage.processor.process_batch(&records, deadline);
    let answers = futures::future::join_all((0..8).map(|_| batch())).await;
    assert_eq!(stage.mail.asked().len(), 1);
    assert_eq!(answers.len(), 8);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_poison_message_ends_in_dead_letters_while_its_neighbours_are_delivered(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.post(Stage::greeting("ada@example.org")).await;
    let missing = r#"{"v":1,"tenant_id":"018f0000-0000-7000-8000-000000000001","delivery_id":"dlv_018f00000000700080000000000000aa"}"#;
    for body in ["not json", r#"{"v":9,"tenant_id":"x","delivery_id":"y"}"#, "\u{fffd}", missing] {
        stage.queue.put(body);
    }
    stage.post(Stage::greeting("bob@example.org")).await;
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 2);
    let reasons: Vec<_> = stage.queue.buried().into_iter().map(|dead| dead.reason).collect();
    assert_eq!(reasons, ["poison", "poison", "poison", "unknown_delivery"]);
    stage.store_dead_letters().await;
    let own = stage.call(TENANT, "GET /v1/dead-letters", None, "", "").await;
    assert_eq!(own.body["dead_letters"].as_array().map(Vec::len), Some(1), "the rest names no tenant: {own:?}");
    let operator = stage.call("00000000-0000-0000-0000-000000000000", "GET /v1/dead-letters", None, "", "").await;
    assert_eq!(operator.body["dead_letters"].as_array().map(Vec::len), Some(3));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_row_that_cannot_be_read_is_handed_back_and_its_neighbours_are_sent(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let execute = async |statement: &'static str| {
        sqlx::query(statement).execute(&stage.admin).await.expect("an operator's hand");
    };
    let broken = stage.post(Stage::greeting("ada@example.org")).await.id();
    let neighbour = stage.post_as(OTHER_TENANT, Stage::greeting("bob@example.org"), &[]).await;
    assert_eq!(neighbour.status, 202);
    execute("UPDATE harkara.notifications SET calendar = '{\"method\": \"dance\"}' WHERE email = 'ada@example.org'")
        .await;
    assert_eq!(stage.process(Duration::ZERO).await, 2);
    assert_eq!((stage.mail.count("bob@example.org"), stage.mail.asked().len()), (1, 1));
    assert_eq!(stage.outcome(&broken).await, ("queued".to_owned(), None, 0));
    let waits: Vec<_> = stage.queue.waiting().iter().map(|waiting| waiting.wait).collect();
    assert_eq!(waits, [Duration::from_secs(1)], "one message comes back, and soon");
    let attempt = &stage.show(&broken).await["deliveries"][0]["attempts"][0];
    assert_eq!((&attempt["outcome"], &attempt["error"]["code"]), (&"not_sent".into(), &"Unreadable".into()));

    execute("UPDATE harkara.notifications SET calendar = NULL").await;
    stage.drain().await;
    assert_eq!(stage.outcome(&broken).await, ("sent".to_owned(), None, 1));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_tenant_whose_time_zone_is_none_is_served_in_utc(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let zone = "UPDATE harkara.tenants SET time_zone = 'IST'";
    sqlx::query(zone).execute(&stage.admin).await.expect("an operator's hand");
    let answer = stage.post(Stage::greeting("ada@example.org")).await;
    stage.drain().await;
    assert_eq!(stage.outcome(&answer.id()).await, ("sent".to_owned(), None, 1));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_record_that_panics_changes_nothing_for_its_neighbours(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.mail.script("panic@example.org", [panics as fn() -> _]);
    let panicking = stage.post(Stage::greeting("panic@example.org")).await;
    let neighbour = stage.post(Stage::greeting("ada@example.org")).await;
    stage.drain().await;
    assert_eq!(stage.outcome(&neighbour.id()).await.0, "sent");
    // The panic came after the provider was asked, as far as anybody can tell.
    assert_eq!(stage.outcome(&panicking.id()).await.0, "unknown");
    stage.pass(Duration::from_secs(600)).await;
    stage.dispatch().await;
    stage.drain().await;
    assert_eq!(stage.outcome(&panicking.id()).await.0, "sent");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_template_that_fails_for_one_recipient_fails_that_one_only(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    // Words of the request's own are held against no declaration.
    let without = json!({
        "category": "greeting", "recipient": {"email": "bob@example.org"},
        "subject": "Hello {{ name }}", "text": "Dear {{ name }}",
    });
    let failing = stage.post(without).await;
    let fine = stage.post(Stage::greeting("ada@example.org")).await;
    stage.drain().await;
    assert_eq!(stage.outcome(&failing.id()).await, ("failed".to_owned(), Some("render_failed".to_owned()), 1));
    let detail = stage.show(&failing.id()).await["deliveries"][0]["detail"].as_str().expect("a detail").to_owned();
    assert!(detail.contains("name"), "the missing variable is named: {detail}");
    assert_eq!(stage.outcome(&fine.id()).await.0, "sent");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_batch_that_cannot_be_claimed_is_received_again_whole(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let answer = stage.post(Stage::greeting("ada@example.org")).await;
    sqlx::query("ALTER TABLE harkara.deliveries RENAME TO gone").execute(&stage.admin).await.expect("renamed");
    stage.process(Duration::ZERO).await;
    sqlx::query("ALTER TABLE harkara.gone RENAME TO deliveries").execute(&stage.admin).await.expect("renamed");
    assert_eq!(stage.queue.waiting().len(), 1, "its message was given back");
    assert_eq!(stage.mail.asked().len(), 0);
    stage.drain().await;
    assert_eq!(stage.outcome(&answer.id()).await, ("sent".to_owned(), None, 1));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_mail_of_html_alone_has_a_text_part_made_from_it(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let to = json!({"email": "ada@example.org"});
    stage
        .post(json!({"category": "greeting", "recipient": to, "subject": "s", "html": "<p>Dear <b>Ada</b></p>"}))
        .await;
    stage.drain().await;
    let mail = &stage.mail.asked()[0];
    assert!(mail.text.as_deref().is_some_and(|text| text.starts_with("Dear Ada\n")), "{:?}", mail.text);
    assert!(mail.html.as_deref().is_some_and(|html| html.starts_with("<p>Dear <b>Ada</b></p>")), "{:?}", mail.html);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_delivery_keeps_the_rules_that_it_began_with(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let category = |policy: &str| json!({"class": "transactional", "template": "greeting", "unknown_policy": policy});
    stage.put(TENANT, "/v1/categories/{key}", "once", category("at_most_once")).await;
    stage.mail.script("ada@example.org", [unknown as fn() -> _]);
    let mut body = Stage::greeting("ada@example.org");
    body["category"] = "once".into();
    let id = stage.post(body).await.id();
    stage.drain().await;
    stage.put(TENANT, "/v1/categories/{key}", "once", category("at_least_once")).await;
    stage.pass(Duration::from_secs(600)).await;
    stage.dispatch().await;
    assert_eq!(stage.outcome(&id).await.0, "failed", "what was promised not to come twice does not");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_there_is_no_time_for_is_handed_back_and_costs_nothing(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let answer = stage.post(Stage::greeting("ada@example.org")).await;
    stage.process_with(Duration::ZERO, Duration::from_secs(5)).await;
    assert_eq!(stage.mail.asked().len(), 0);
    assert_eq!(stage.outcome(&answer.id()).await, ("queued".to_owned(), None, 0));
    stage.drain().await;
    assert_eq!(stage.outcome(&answer.id()).await, ("sent".to_owned(), None, 1));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_expired_while_it_waited_is_not_sent(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let answer = stage.post(Stage::greeting("ada@example.org")).await;
    sqlx::query(
        "UPDATE harkara.notifications SET send_at = harkara.now() - interval '2 hours', expires_at = harkara.now() - interval '1 hour'",
    )
    .execute(&stage.admin)
    .await
    .expect("it expires");
    stage.drain().await;
    assert_eq!(stage.outcome(&answer.id()).await, ("expired".to_owned(), Some("expiry_passed".to_owned()), 0));
    assert_eq!(stage.mail.asked().len(), 0);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_worker_that_lost_its_lease_changes_nothing(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let answer = stage.post(Stage::greeting("ada@example.org")).await;
    let message = read_message(&stage.queue.receive(Duration::ZERO)[0].body).expect("a message");
    let key = DeliveryKey { tenant: message.tenant, delivery: message.delivery };
    let attempt = AttemptId::from_uuid(new_uuid());
    let database = &stage.processor.database;
    let claims = claim_across_tenants(database, &[(key, attempt)]).await.expect("asked");
    assert!(matches!(claims[&key], Claim::Claimed(_)));

    // The worker is slow: its lease ends, the window ends, and the policy has it sent again by another.
    for wait in [90, 600] {
        stage.pass(Duration::from_secs(wait)).await;
        stage.dispatch().await;
    }
    stage.drain().await;
    assert_eq!(stage.outcome(&answer.id()).await, ("sent".to_owned(), None, 2));

    let recorded = record_across_tenants(database, &[record_first(key, attempt, rejected())]).await.expect("asked");
    assert!(recorded.deliveries.is_empty());
    assert_eq!(stage.outcome(&answer.id()).await.0, "sent");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn receives_that_cost_nothing_take_no_attempt_from_a_failure_that_counts(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.mail.script("ada@example.org", [throttled as fn() -> _, throttled, throttled, transient]);
    let answer = stage.post(Stage::greeting("ada@example.org")).await;
    for _ in 0..8 {
        stage.drain().await;
        stage.pass(Duration::from_secs(300)).await;
        stage.dispatch().await;
    }
    assert_eq!(stage.outcome(&answer.id()).await, ("sent".to_owned(), None, 2));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_the_dead_letter_queue_does_not_take_is_received_again(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.queue.put("not json");
    stage.queue.refuse(true);
    stage.process(Duration::ZERO).await;
    assert_eq!(stage.queue.waiting().len(), 1, "it is in neither queue");
    stage.queue.refuse(false);
    stage.process(Duration::from_secs(180)).await;
    assert_eq!(stage.queue.buried().len(), 1);
    stage.store_dead_letters().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_late_worker_changes_nothing_while_the_next_attempt_is_under_way(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let answer = stage.post(Stage::greeting("ada@example.org")).await;
    let message = read_message(&stage.queue.receive(Duration::ZERO)[0].body).expect("a message");
    let key = DeliveryKey { tenant: message.tenant, delivery: message.delivery };
    let attempt = AttemptId::from_uuid(new_uuid());
    let database = &stage.processor.database;
    claim_across_tenants(database, &[(key, attempt)]).await.expect("asked");
    for wait in [90, 600] {
        stage.pass(Duration::from_secs(wait)).await;
        stage.dispatch().await;
    }
    let claims = claim_across_tenants(database, &[(key, AttemptId::from_uuid(new_uuid()))]).await.expect("asked");
    assert!(matches!(claims[&key], Claim::Claimed(_)));
    let recorded = record_across_tenants(database, &[record_first(key, attempt, rejected())]).await.expect("asked");
    assert!(recorded.deliveries.is_empty());
    assert_eq!(stage.outcome(&answer.id()).await.0, "sending");
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_mail_that_began_before_the_refusal_does_not_close_the_breaker(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.post(Stage::greeting("ada@example.org")).await;
    stage.post(Stage::greeting("bob@example.org")).await;
    let database = &stage.processor.database;
    let asked: Vec<_> = stage
        .queue
        .receive(Duration::ZERO)
        .iter()
        .map(|record| {
            let message = read_message(&record.body).expect("a message");
            (DeliveryKey { tenant: message.tenant, delivery: message.delivery }, AttemptId::from_uuid(new_uuid()))
        })
        .collect();
    claim_across_tenants(database, &asked).await.expect("asked");
    let sent = SendOutcome::Sent { provider_message_id: Some("m".into()) };
    for ((key, attempt), outcome) in asked.into_iter().zip([quota(), sent]) {
        let record = record_first(key, attempt, outcome);
        record_across_tenants(database, &[record]).await.expect("recorded");
    }
    assert_eq!(stage.count("SELECT count(*) FROM harkara.breakers").await, 1);
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_mail_that_would_say_nothing_is_not_sent(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let asks = |words: Value| {
        let mut body = json!({
            "category": "greeting", "recipient": {"email": "bob@example.org"}, "subject": "Hello", "data": {"name": ""},
        });
        body.as_object_mut().expect("an object").extend(words.as_object().expect("an object").clone());
        body
    };
    let empty = [
        json!({"text": " \n"}),
        json!({"text": "{% if name %}Dear {{ name }}{% endif %}"}),
        json!({"html": "<p>{{ name }}</p>"}),
        json!({"html": "<p>{{ name }}</p>", "text": "{{ name }}"}),
    ];
    for words in empty {
        let answer = stage.post(asks(words.clone())).await;
        stage.drain().await;
        assert_eq!(stage.outcome(&answer.id()).await, ("failed".into(), Some("render_failed".into()), 1), "{words}");
        let detail = stage.show(&answer.id()).await["deliveries"][0]["detail"].to_string();
        assert!(detail.contains("nothing came out"), "{words}: {detail}");
    }
    assert_eq!(stage.mail.asked().len(), 0);
    let one_part = stage.post(asks(json!({"html": "<p>Hello</p>", "text": "{{ name }}"}))).await;
    stage.drain().await;
    assert_eq!(stage.outcome(&one_part.id()).await.0, "sent");
    let text = stage.mail.asked()[0].text.clone().expect("a text");
    assert!(text.starts_with("Hello"), "what the other part says: {text}");
    stage.finish().await;
}
