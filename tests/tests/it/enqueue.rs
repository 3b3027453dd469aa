//! What was answered with 2xx is stored; what is refused is named and leaves nothing.

use domain::event::Event;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::time::Duration;
use tests::{OTHER_TENANT, Stage, TENANT};

const ROWS: &str = "SELECT (SELECT count(*) FROM harkara.notifications) + (SELECT count(*) FROM harkara.deliveries) \
                    + (SELECT count(*) FROM harkara.events) + (SELECT count(*) FROM harkara.idempotency_keys)";

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_accepted_notification_is_stored_published_and_sent(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let answer = stage.post(Stage::greeting("ada@example.org")).await;
    assert_eq!((answer.status, answer.body["status"].as_str()), (202, Some("accepted")), "{answer:?}");
    assert_eq!(answer.headers["location"], format!("/v1/notifications/{}", answer.id()));
    assert_eq!(stage.outcome(&answer.id()).await.0, "queued");

    stage.drain().await;
    assert_eq!(stage.outcome(&answer.id()).await, ("sent".to_owned(), None, 1));
    let mail = &stage.mail.asked()[0];
    assert_eq!(mail.subject.as_str(), "Hello Ada");
    assert!(mail.text.as_deref().is_some_and(|text| text.starts_with("Dear Ada\n")), "{:?}", mail.text);
    assert!(mail.html.as_deref().is_some_and(|html| html.starts_with("<p>Dear Ada</p>")), "{:?}", mail.html);
    assert_eq!(mail.tags.notification.as_str(), answer.id());
    assert_eq!(stage.bus.detail_types(), ["notification.accepted", "delivery.sent"]);
    for event in stage.bus.events() {
        let facts = ["event_id", "tenant_id", "notification_id"].map(|name| event.detail[name].clone());
        assert_eq!(facts, [json!(event.id.to_string()), json!(TENANT), json!(answer.id())], "{}", event.detail_type);
    }
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_queue_that_is_down_does_not_show_in_the_answer_and_loses_nothing(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.queue.refuse(true);
    let answer = stage.post(Stage::greeting("ada@example.org")).await;
    assert_eq!(answer.status, 202);
    assert!(stage.queue.is_empty());

    stage.pass(Duration::from_secs(60)).await;
    assert_eq!(stage.dispatch().await.not_taken, 1, "the queue is still down");
    stage.queue.refuse(false);
    assert_eq!(stage.dispatch().await.published, 1);
    stage.drain().await;
    assert_eq!(stage.outcome(&answer.id()).await.0, "sent");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_same_key_and_body_give_the_same_answer_and_one_mail(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let body = Stage::greeting("ada@example.org");
    let first = stage.post_as(TENANT, body.clone(), &[("idempotency-key", "k-1")]).await;
    let again = stage.post_as(TENANT, body.clone(), &[("idempotency-key", "\"k-1\"")]).await;
    assert_eq!((again.status, again.id()), (202, first.id()));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    let other_words = stage
        .post_text(TENANT, &serde_json::to_string_pretty(&body).expect("prints"), &[("idempotency-key", "k-1")])
        .await;
    assert_eq!(other_words.id(), first.id(), "the same JSON in other white space is the same request");

    let other_body = stage.post_as(TENANT, Stage::greeting("bob@example.org"), &[("idempotency-key", "k-1")]).await;
    assert_eq!((other_body.status, other_body.body["code"].as_str()), (422, Some("idempotency_key_reused")));
    let other_tenant = stage.post_as(OTHER_TENANT, body, &[("idempotency-key", "k-1")]).await;
    assert_ne!(other_tenant.id(), first.id(), "keys of tenants do not meet");

    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 2);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn fifty_requests_at_once_with_one_key_are_one_notification(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let requests =
        (0..50).map(|_| stage.post_as(TENANT, Stage::greeting("ada@example.org"), &[("idempotency-key", "k")]));
    let answers = futures::future::join_all(requests).await;
    let ids: std::collections::BTreeSet<String> = answers.iter().map(|answer| answer.id()).collect();
    assert_eq!(ids.len(), 1, "{answers:?}");
    assert_eq!(stage.count("SELECT count(*) FROM harkara.notifications").await, 1);
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_dedupe_key_lets_one_through_for_each_recipient_while_its_window_lasts(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let with_key = |address: &str| {
        let mut body = Stage::greeting(address);
        body["dedupe"] = json!({"key": "obs-42", "window": "PT1H"});
        body
    };
    let first = stage.post(with_key("ada@example.org")).await;
    let second = stage.post(with_key("ada@example.org")).await;
    assert_eq!((second.id(), second.body["status"].as_str()), (first.id(), Some("duplicate")));
    let bob = stage.post(with_key("bob@example.org")).await;
    assert_eq!(bob.body["status"], "accepted");
    let both = stage.post(json!({"notifications": [with_key("eve@example.org"), with_key("eve@example.org")]})).await;
    let statuses: Vec<_> =
        both.body["notifications"].as_array().expect("a list").iter().map(|entry| &entry["status"]).collect();
    assert_eq!(statuses, ["accepted", "duplicate"]);

    sqlx::query("UPDATE harkara.dedupe_keys SET expires_at = harkara.now()")
        .execute(&stage.admin)
        .await
        .expect("the window ends");
    let later = stage.post(with_key("ada@example.org")).await;
    assert_eq!(later.body["status"], "accepted");
    stage.drain().await;
    assert_eq!(stage.mail.count("ada@example.org"), 2);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn requests_at_once_with_one_dedupe_key_are_one_notification(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let mut body = Stage::greeting("ada@example.org");
    body["dedupe"] = json!({"key": "obs-42"});
    let answers = futures::future::join_all((0..8).map(|_| stage.post(body.clone()))).await;
    let ids: std::collections::BTreeSet<String> =
        answers.iter().filter(|answer| answer.status == 202).map(|answer| answer.id()).collect();
    assert_eq!(ids.len(), 1, "{answers:?}");
    assert_eq!(stage.count("SELECT count(*) FROM harkara.notifications").await, 1);
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn one_bad_item_never_fails_the_others(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let answer = stage
        .post(json!({"notifications": [
            Stage::greeting("ada@example.org"),
            {"category": "nonsense", "recipient": {"id": "ada"}},
            {"category": "greeting", "recipients": [{"id": "ada"}, {"id": "nobody"}], "data": {"name": "Ada"}},
        ]}))
        .await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let entries = answer.body["notifications"].as_array().expect("a list");
    let seen: Vec<(i64, Option<i64>, &str)> = entries
        .iter()
        .map(|entry| {
            (
                entry["index"].as_i64().expect("an index"),
                entry["recipient"].as_i64(),
                entry["status"].as_str().expect("a status"),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [(0, None, "accepted"), (1, None, "rejected"), (2, Some(0), "accepted"), (2, Some(1), "rejected")]
    );
    assert_eq!(entries[1]["problem"]["errors"][0]["pointer"], "/notifications/1/category");
    assert_eq!(entries[3]["problem"]["errors"][0]["pointer"], "/notifications/2/recipients/1/id");
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 2);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_hundred_notifications_to_a_thousand_recipients_fit_in_one_request(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let item = |n: usize| {
        let recipients: Vec<Value> = (0..10).map(|r| json!({"email": format!("r{n}-{r}@example.org")})).collect();
        json!({"category": "greeting", "recipients": recipients, "data": {"name": "Ada"}})
    };
    let answer = stage.post(json!({"notifications": (0..100).map(item).collect::<Vec<_>>()})).await;
    assert_eq!((answer.status, answer.body["notifications"].as_array().map(Vec::len)), (202, Some(1000)));
    assert_eq!(stage.queue.waiting().len(), 1000);
    while stage.process(Duration::ZERO).await > 0 {}
    assert_eq!(stage.mail.asked().len(), 1000);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_is_due_within_fifteen_minutes_is_held_back_by_the_queue(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let mut body = Stage::greeting("ada@example.org");
    body["send_at"] = in_seconds(600).into();
    let answer = stage.post(body).await;
    let wait = stage.queue.waiting()[0].wait.as_secs();
    assert!((598..=600).contains(&wait), "{wait} s");
    // A copy that comes early is not sent.
    stage.process(Duration::from_secs(601)).await;
    assert_eq!(stage.outcome(&answer.id()).await.0, "queued");
    stage.pass(Duration::from_secs(601)).await;
    stage.drain().await;
    // Too early by more than five minutes is the dispatcher's.
    stage.pass(Duration::from_secs(60)).await;
    stage.dispatch().await;
    stage.drain().await;
    assert_eq!(stage.outcome(&answer.id()).await.0, "sent");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_event_is_accepted_once_however_often_it_comes(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let mut detail = Stage::greeting("ada@example.org");
    detail["tenant_id"] = TENANT.into();
    let event = json!({"id": "event-1", "source": "salon", "detail-type": "notification.requested", "detail": detail});
    stage.enqueue.accept_event(&event).await.expect("accepted");
    stage.enqueue.accept_event(&event).await.expect("accepted again");
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 1);

    let refused = stage.enqueue.accept_event(&json!({"id": "event-2", "detail": {"category": "greeting"}})).await;
    assert!(refused.expect_err("refused").to_string().contains("/detail/tenant_id"));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_sandbox_notification_reaches_nobody(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let mut body = Stage::greeting("ada@example.org");
    body["sandbox"] = true.into();
    let answer = stage.post(body).await;
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 0);
    let shown = stage.show(&answer.id()).await;
    assert_eq!(shown["deliveries"][0]["attempts"][0]["outcome"], "sandboxed");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn bad_input_is_named_by_pointer_and_leaves_nothing(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let before = stage.count(ROWS).await;
    let with = |name: &str, value: Value| {
        let mut body = Stage::greeting("ada@example.org");
        body[name] = value;
        body.to_string()
    };
    let email = |address: &str| with("recipient", json!({"email": address}));
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let table: Vec<(String, i64, &str)> = vec![
        ("not json".into(), 400, ""),
        ("".into(), 400, ""),
        (deep, 400, ""),
        (r#"{"category":"greeting","recipient":{"email":"\ud800@b.in"}}"#.into(), 400, ""),
        ("[]".into(), 422, ""),
        ("{}".into(), 422, "/category"),
        (with("nonsense", json!(1)), 422, "/nonsense"),
        (with("subject", json!(1)), 422, "/subject"),
        (json!({"category": "greeting"}).to_string(), 422, "/recipient"),
        (with("recipient", json!({"id": "nobody"})), 422, "/recipient/id"),
        (with("category", json!("nonsense")), 422, "/category"),
        (with("template", json!("nonsense")), 422, "/template"),
        (email("ada@example.org\r\nBcc: eve@example.org"), 422, "/recipient/email"),
        (email("ädä@example.org"), 422, "/recipient/email"),
        (with("recipient", json!({"phone": "+4915112345678"})), 422, "/recipient"),
        (json!({"notifications": vec![Stage::greeting("a@b.in"); 101]}).to_string(), 422, "/notifications"),
        (with("recipients", json!(vec![json!({"id": "ada"}); 1001])), 422, "/recipients"),
        (format!(r#"{{"data":"{}"}}"#, "x".repeat(1024 * 1024)), 413, ""),
        (with("data", json!({"name": "a\0b"})), 422, "/data/name"),
        (with("send_at", json!(in_seconds(367 * 86_400))), 422, "/send_at"),
        (with("send_at", json!("tomorrow")), 422, "/send_at"),
        (with("expires_at", json!("2020-01-01T00:00:00Z")), 422, "/expires_at"),
        (with("metadata", json!({"note": "x".repeat(4096)})), 422, "/metadata"),
        (with("dedupe", json!({"key": "k", "window": "soon"})), 422, "/dedupe/window"),
        (with("recipient", json!({"email": "a@b.in", "time_zone": "Mars/Olympus"})), 422, "/recipient/time_zone"),
    ];
    for (body, status, pointer) in table {
        let answer = stage.post_text(TENANT, &body, &[]).await;
        let shown: String = body.chars().take(80).collect();
        assert_eq!(answer.status, status, "{shown}: {answer:?}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(answer.body["request_id"], "request-1");
        if status == 422 {
            assert!(answer.pointers().contains(&pointer), "{shown}: {answer:?}");
        }
    }
    assert_eq!(stage.count(ROWS).await, before);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_unknown_or_suspended_tenant_is_refused(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let unknown = stage.post_as("018f0000-0000-7000-8000-00000000ffff", Stage::greeting("a@b.in"), &[]).await;
    assert_eq!((unknown.status, unknown.body["code"].as_str()), (403, Some("tenant_inactive")));
    sqlx::query("UPDATE harkara.tenants SET state = 'suspended'").execute(&stage.admin).await.expect("suspended");
    let suspended = stage.post(Stage::greeting("a@b.in")).await;
    assert_eq!((suspended.status, suspended.body["code"].as_str()), (403, Some("tenant_inactive")));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn content_for_many_recipients_is_bounded_before_it_is_stored(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let recipients: Vec<Value> = (0..1000).map(|r| json!({"email": format!("r{r}@example.org")})).collect();
    let mut body =
        json!({"category": "greeting", "recipients": recipients, "subject": "s", "text": "x".repeat(20_000)});
    let refused = stage.post(body.clone()).await;
    assert_eq!((refused.status, refused.pointers()), (422, vec![""]), "{refused:?}");
    body["text"] = "x".repeat(10_000).into();
    assert_eq!(stage.post(body).await.status, 202);
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn times_closer_than_a_microsecond_are_one_time(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let mut body = Stage::greeting("ada@example.org");
    body["send_at"] = in_seconds(60).replace('Z', "").split('.').next().map(|at| format!("{at}.0000001Z")).into();
    body["expires_at"] = body["send_at"].as_str().map(|at| at.replace("1Z", "2Z")).into();
    let answer = stage.post(body).await;
    assert_eq!((answer.status, answer.pointers()), (422, vec!["/expires_at"]), "{answer:?}");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_event_with_its_own_key_is_accepted_once_under_any_id(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let mut detail = Stage::greeting("ada@example.org");
    detail["tenant_id"] = TENANT.into();
    detail["idempotency_key"] = "booking-7".into();
    for id in ["event-1", "event-2"] {
        let event = json!({"id": id, "source": "salon", "detail-type": "notification.requested", "detail": detail});
        stage.enqueue.accept_event(&event).await.expect("accepted");
    }
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 1);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_event_that_the_bus_does_not_take_is_told_later(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.bus.refuse(true);
    stage.post(Stage::greeting("ada@example.org")).await;
    stage.drain().await;
    assert_eq!(stage.bus.events(), Vec::<Event>::new());
    stage.bus.refuse(false);
    stage.pass(Duration::from_secs(60)).await;
    assert_eq!(stage.dispatch().await.events, 2);
    stage.finish().await;
}

fn in_seconds(seconds: i64) -> String {
    let now: jiff::Timestamp = std::time::SystemTime::now().try_into().expect("a time");
    (now + jiff::SignedDuration::from_secs(seconds)).to_string()
}
