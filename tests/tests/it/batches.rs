//! Batches: notifications of one key leave as one message, all of them and each once.

use flow::progress::Progress;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tests::{OTHER_TENANT, Page, Stage, TENANT, ask_page};

/// The stage with a category whose template tells of one observation, of several, and of what changed.
pub(crate) async fn begin(pool: PgPool) -> Stage {
    let stage = Stage::begin(pool).await;
    stage.lift_limits().await;
    for tenant in [TENANT, OTHER_TENANT] {
        let optional = |kind: &str| json!({"type": kind, "required": false});
        let template = json!({
            "variables": {
                "observation": {"type": "string", "example": "42"}, "items": optional("list"), "count": optional("integer"),
                "more_count": optional("integer"), "more_link": optional("url"), "first": optional("object"),
            },
            "subject": "{% if count %}{{ count }} observations{% else %}Observation {{ observation }}{% endif %}",
            "text": "{% if items %}{% for item in items %}<{{ item.observation }}>{% endfor %}\
                     {% if more_count %} and {{ more_count }} more: {{ more_link }}{% endif %}\
                     {% elif first %}from {{ first.observation }} to {{ observation }}{% else %}one: {{ observation }}{% endif %}",
        });
        stage.publish(tenant, "observations", template).await;
        let category = json!({"class": "transactional", "template": "observations"});
        stage.put(tenant, "/v1/categories/{key}", "assigned", category).await;
    }
    stage
}

/// A notification to `ada`, collected as `how` says.
pub(crate) fn observation(observation: impl ToString, how: &str, collect: Value) -> Value {
    json!({
        "category": "assigned", "recipient": {"id": "ada"}, "data": {"observation": observation.to_string()}, how: collect,
    })
}

fn member(number: impl ToString) -> Value {
    observation(number, "batch", json!({"key": "import-9", "window": "PT5M"}))
}

/// Lets `minutes` pass, closes what is due, and sends everything.
pub(crate) async fn close_after(stage: &Stage, minutes: u64) -> usize {
    stage.pass(Duration::from_secs(minutes * 60)).await;
    let closed = stage.dispatch().await.closed;
    stage.drain().await;
    closed
}

/// The texts of the mails that left.
pub(crate) fn texts(stage: &Stage) -> Vec<String> {
    stage.mail.asked().into_iter().map(|mail| mail.text.expect("a text")).collect()
}

/// The observations that all mails together list, in order.
fn listed(stage: &Stage) -> Vec<String> {
    let texts = texts(stage).join("");
    texts.split('<').skip(1).filter_map(|part| part.split_once('>')).map(|(listed, _)| listed.to_owned()).collect()
}

async fn cancel(stage: &Stage, id: &str) -> Value {
    let answer = stage.call(TENANT, "POST /v1/notifications/{id}/cancel", Some(id), "", "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["canceled_count"].clone()
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn two_hundred_assignments_to_one_auditor_are_one_mail(pool: PgPool) {
    let stage = begin(pool).await;
    for half in [0..100, 100..200] {
        let many: Vec<Value> = half.map(member).collect();
        assert_eq!(stage.post(json!({"notifications": many})).await.status, 202);
    }
    assert!(stage.queue.is_empty(), "nothing leaves by itself");
    assert_eq!(close_after(&stage, 4).await, 0, "the window is open");
    assert_eq!(close_after(&stage, 1).await, 1);
    let mails = stage.mail.asked();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].subject.as_str(), "200 observations");
    let expected: Vec<String> = (0..100).map(|number: u32| number.to_string()).collect();
    assert_eq!(listed(&stage), expected, "the first hundred, in order");

    let message = mails[0].tags.notification.to_string();
    let shown = stage.show(&message).await;
    assert_eq!((&shown["members"]["as"], &shown["members"]["count"]), (&json!("batch"), &json!(200)));
    assert_eq!(shown["members"]["ids"].as_array().expect("ids").len(), 100);
    assert!(
        texts(&stage)[0].contains("and 100 more: https://notices.harkara.test/v1/collected/"),
        "{}",
        texts(&stage)[0]
    );
    // For programs, all of them, page by page.
    let mut seen = BTreeSet::new();
    let mut after = String::new();
    loop {
        let query = format!("message={message}&page_size=40{after}");
        let page = stage.call(TENANT, "GET /v1/notifications", None, &query, "").await.body;
        for member in page["notifications"].as_array().expect("a page") {
            let delivery = &member["deliveries"][0];
            assert_eq!((&delivery["state"], &delivery["reason"]), (&json!("absorbed"), &json!("left_in_batch")));
            assert_eq!(member["collected"], json!({"as": "batch", "closes_at": null, "message": message}));
            seen.insert(member["id"].as_str().expect("an id").to_owned());
        }
        match page["page_info"]["after"].as_str() {
            Some(cursor) => after = format!("&after={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 200);

    let explain = async |id: &str| {
        let answer = stage.call(TENANT, "GET /v1/notifications/{id}/explain", Some(id), "", "").await;
        answer.body["deliveries"][0]["explanation"].to_string()
    };
    let one = seen.first().expect("a member");
    assert!(explain(one).await.contains(&format!("It left in notification {message}.")));
    assert!(explain(&message).await.contains("It is the message of 200 notifications"));
    stage.finish().await;
}

/// The token of the link in a mail.
pub(crate) fn link_of(text: &str) -> String {
    let (_, rest) = text.split_once("/v1/collected/").unwrap_or_else(|| panic!("no link: {text}"));
    rest.chars().take_while(|sign| sign.is_ascii_alphanumeric() || "-_".contains(*sign)).collect()
}

pub(crate) async fn open_link(stage: &Stage, token: &str) -> Page {
    ask_page(&stage.api, "GET /v1/collected/{token}", token, &[], "").await
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn whoever_has_the_mail_reads_what_it_had_no_room_for(pool: PgPool) {
    let stage = begin(pool).await;
    let ids = async |range: std::ops::Range<u32>| {
        let many: Vec<Value> = range.map(|number| member(format!("<no. {number}>"))).collect();
        assert_eq!(stage.post(json!({"notifications": many})).await.status, 202);
    };
    ids(0..100).await;
    ids(100..102).await;
    assert_eq!(close_after(&stage, 5).await, 1);
    let token = link_of(&texts(&stage)[0]);
    let first = open_link(&stage, &token).await;
    assert_eq!(first.status, 200);
    for expected in
        ["102 in all", "Observation &lt;no. 0&gt;", "one: &lt;no. 0&gt;", "Observation &lt;no. 24&gt;", "?page=2"]
    {
        assert!(first.body.contains(expected), "{expected}: {}", first.body);
    }
    assert!(!first.body.contains("no. 25"), "a page has 25");
    assert_eq!(first.headers["cache-control"], "no-store");

    // The link shows this mail's, and nobody can make another.
    let (head, tail) = token.split_at(60);
    let forged = format!("{head}{}", tail.chars().rev().collect::<String>());
    for wrong in [forged.as_str(), "x", &token[1..]] {
        assert_eq!(open_link(&stage, wrong).await.status, 404, "{wrong}");
    }
    // It ends with what it is of.
    assert_eq!(stage.call(TENANT, "DELETE /v1/recipients/{id}", Some("ada"), "", "").await.status, 204);
    assert_eq!(open_link(&stage, &token).await.status, 404);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn members_of_a_message_that_does_not_render_leave_one_by_one(pool: PgPool) {
    let stage = begin(pool).await;
    let optional = |kind: &str| json!({"type": kind, "required": false});
    let template = json!({
        "variables": {
            "observation": {"type": "string", "example": "42"}, "items": optional("list"), "count": optional("integer"),
            "more_count": optional("integer"), "more_link": optional("url"),
        },
        "subject": "Observation {{ observation }}",
        "text": "{% if count %}{% for item in items %}{{ item.note }}{% endfor %}{% else %}one: {{ observation }}{% endif %}",
    });
    stage.publish(TENANT, "observations", template).await;
    let ids = [stage.post(member(1)).await.id(), stage.post(member(2)).await.id()];
    assert_eq!(close_after(&stage, 5).await, 1);
    assert_eq!(stage.mail.asked().len(), 0);
    assert_eq!(stage.count("SELECT count(*) FROM harkara.deliveries WHERE reason = 'render_failed'").await, 1);
    let shown = stage.show(&ids[0]).await;
    assert_eq!((&shown["state"], &shown["collected"]["message"]), (&json!("queued"), &Value::Null));
    stage.dispatch().await;
    stage.drain().await;
    let mut texts = texts(&stage);
    texts.sort();
    assert!(texts.len() == 2 && texts[0].starts_with("one: 1") && texts[1].starts_with("one: 2"), "{texts:?}");
    for id in &ids {
        assert_eq!(stage.outcome(id).await.0, "sent");
    }
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_batch_of_one_leaves_as_it_is(pool: PgPool) {
    let stage = begin(pool).await;
    let id = stage.post(member(1)).await.id();
    let shown = stage.show(&id).await;
    assert_eq!(shown["collected"]["as"], "batch");
    assert!(shown["collected"]["closes_at"].is_string());
    assert_eq!(close_after(&stage, 5).await, 1);
    assert_eq!(stage.outcome(&id).await.0, "sent");
    assert!(texts(&stage)[0].starts_with("one: 1"));
    assert_eq!(stage.show(&id).await["members"], Value::Null);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_window_begins_with_the_first_and_does_not_move(pool: PgPool) {
    let stage = begin(pool).await;
    stage.post(member(1)).await.id();
    stage.pass(Duration::from_secs(290)).await;
    stage.post(member(2)).await.id();
    stage.pass(Duration::from_secs(10)).await;
    assert_eq!(close_after(&stage, 0).await, 1);
    stage.post(member(3)).await.id();
    assert_eq!(close_after(&stage, 5).await, 1);
    assert_eq!(listed(&stage), ["1", "2"]);
    assert!(texts(&stage)[1].starts_with("one: 3"), "what comes after the close is the next batch");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_batch_of_ten_thousand_closes_at_once_and_the_next_one_is_open(pool: PgPool) {
    let stage = begin(pool).await;
    stage.post(member(1)).await.id();
    let fill = "UPDATE harkara.collections SET member_count = 9998";
    assert_eq!(sqlx::raw_sql(fill).execute(&stage.admin).await.expect("filled").rows_affected(), 1);
    stage.post(member(2)).await.id();
    assert_eq!(stage.dispatch().await.closed, 0, "there is room for one more");
    stage.post(member(3)).await.id();
    assert_eq!(close_after(&stage, 0).await, 1);
    assert_eq!(listed(&stage), ["1", "2", "3"]);
    stage.post(member(4)).await.id();
    assert_eq!(close_after(&stage, 0).await, 0);
    assert_eq!(close_after(&stage, 5).await, 1);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_key_holds_for_one_tenant_category_recipient_and_sandbox(pool: PgPool) {
    let stage = begin(pool).await;
    stage
        .put(TENANT, "/v1/categories/{key}", "other", json!({"class": "transactional", "template": "observations"}))
        .await;
    let (mut category, mut recipients, mut sandbox) = (member(1), member(1), member(1));
    category["category"] = "other".into();
    recipients.as_object_mut().expect("an object").remove("recipient");
    recipients["recipients"] = json!([{"id": "ada"}, {"email": "lin@example.org"}, {"email": "LIN2@example.org"}]);
    sandbox["sandbox"] = true.into();
    for body in [category, recipients, sandbox] {
        assert_eq!(stage.post(body).await.status, 202);
    }
    assert_eq!(stage.post_as(OTHER_TENANT, member(1), &[]).await.status, 202);
    assert_eq!(stage.count("SELECT count(*) FROM harkara.collections").await, 6);
    assert_eq!(close_after(&stage, 5).await, 6);
    assert_eq!(stage.mail.asked().len(), 5, "the sandbox one reaches nobody");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn two_dispatchers_at_once_close_a_batch_once(pool: PgPool) {
    let stage = begin(pool).await;
    for key in 0..20 {
        let batch = json!({"key": format!("import-{key}"), "window": "PT5M"});
        let both = [observation(key, "batch", batch.clone()), observation(key + 100, "batch", batch)];
        assert_eq!(stage.post(json!({"notifications": both})).await.status, 202);
    }
    stage.pass(Duration::from_secs(300)).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    let untold = Progress::untold();
    let (one, other) = tokio::join!(
        stage.dispatcher.dispatch_due(deadline, &untold),
        stage.dispatcher.dispatch_due(deadline, &untold)
    );
    assert_eq!(one.expect("dispatched").closed + other.expect("dispatched").closed, 20);
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 20);
    let seen: BTreeSet<String> = listed(&stage).into_iter().collect();
    assert_eq!((listed(&stage).len(), seen.len()), (40, 40), "each once");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_request_that_races_the_close_loses_nothing(pool: PgPool) {
    let stage = begin(pool).await;
    let post = async |number: usize| {
        // A second is over soon, so that batches are closed all the while.
        let body = observation(number, "batch", json!({"key": "import-9", "window": "PT1S"}));
        let answer = stage.post(body).await;
        assert_eq!(answer.status, 202, "{answer:?}");
    };
    let callers = AtomicUsize::new(4);
    let posts = async |from: usize| {
        for number in from..from + 20 {
            post(number).await;
        }
        callers.fetch_sub(1, Ordering::Relaxed);
    };
    let is_posting = || callers.load(Ordering::Relaxed) > 0;
    let close = async || {
        while is_posting() {
            stage.pass(Duration::from_secs(1)).await;
            stage.dispatch().await;
        }
    };
    let close_too = async || {
        while is_posting() {
            stage.dispatch().await;
        }
    };
    tokio::join!(posts(0), posts(20), posts(40), posts(60), close(), close_too());
    stage.pass(Duration::from_secs(60)).await;
    stage.dispatch().await;
    stage.drain().await;
    let mut told: Vec<usize> = texts(&stage)
        .iter()
        .filter_map(|text| text.strip_prefix("one: "))
        .map(|text| text.split_whitespace().next().expect("a number").to_owned())
        .chain(listed(&stage))
        .map(|number| number.parse().expect("a number"))
        .collect();
    told.sort_unstable();
    assert_eq!(told, (0..80).collect::<Vec<_>>(), "each exactly once");
    let closed = stage.count("SELECT count(*) FROM harkara.collections WHERE outcome IS NOT NULL").await;
    assert!(closed > 1, "batches were closed meanwhile");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn concurrent_requests_open_one_batch(pool: PgPool) {
    let stage = begin(pool).await;
    let post = async |number: usize| assert_eq!(stage.post(member(number)).await.status, 202);
    tokio::join!(post(0), post(1), post(2), post(3), post(4), post(5));
    assert_eq!(stage.count("SELECT count(*) FROM harkara.collections").await, 1);
    assert_eq!(close_after(&stage, 5).await, 1);
    assert_eq!(listed(&stage).len(), 6);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn canceled_members_are_not_in_the_message_and_of_none_nothing_leaves(pool: PgPool) {
    let stage = begin(pool).await;
    let ids = [stage.post(member(1)).await.id(), stage.post(member(2)).await.id(), stage.post(member(3)).await.id()];
    assert_eq!(cancel(&stage, &ids[1]).await, 1);
    assert_eq!(close_after(&stage, 5).await, 1);
    assert_eq!(listed(&stage), ["1", "3"]);
    assert_eq!(cancel(&stage, &ids[0]).await, 0, "it has left");
    let shown = stage.show(&ids[1]).await;
    assert_eq!((&shown["state"], &shown["collected"]["message"]), (&json!("canceled"), &Value::Null));

    let ids = [stage.post(member(4)).await.id(), stage.post(member(5)).await.id()];
    for id in &ids {
        assert_eq!(cancel(&stage, id).await, 1);
    }
    assert_eq!(close_after(&stage, 5).await, 1);
    assert_eq!(stage.mail.asked().len(), 1);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn members_that_are_too_late_expire_and_the_others_leave(pool: PgPool) {
    let stage = begin(pool).await;
    let now: jiff::Timestamp = std::time::SystemTime::now().try_into().expect("a time");
    let mut soon = member(1);
    soon["expires_at"] = (now + jiff::SignedDuration::from_secs(600)).to_string().into();
    let late = stage.post(soon.clone()).await.id();
    for number in 2..4 {
        stage.post(member(number)).await.id();
    }
    // The dispatcher was away.
    assert_eq!(close_after(&stage, 20).await, 1);
    assert_eq!(stage.outcome(&late).await.0, "expired");
    assert_eq!(listed(&stage), ["2", "3"]);
    soon["expires_at"] = (now + jiff::SignedDuration::from_secs(1200 + 299)).to_string().into();
    let refused = stage.post(soon).await;
    assert_eq!((refused.status, refused.pointers()), (422, vec!["/expires_at"]), "it would expire within the window");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_message_is_as_urgent_as_its_most_urgent_member(pool: PgPool) {
    let stage = begin(pool).await;
    for (number, priority) in [(1, "low"), (2, "high"), (3, "normal")] {
        let mut body = member(number);
        body["priority"] = priority.into();
        stage.post(body).await.id();
    }
    assert_eq!(close_after(&stage, 5).await, 1);
    let message = stage.mail.asked()[0].tags.notification.to_string();
    assert_eq!(stage.show(&message).await["priority"], "high");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_repeated_request_joins_once(pool: PgPool) {
    let stage = begin(pool).await;
    let mut deduped = member(2);
    deduped["dedupe"] = json!({"key": "observation-2"});
    for _ in 0..2 {
        let answer = stage.post_as(TENANT, member(1), &[("idempotency-key", "first")]).await;
        assert_eq!(answer.status, 202);
        assert_eq!(stage.post(deduped.clone()).await.status, 202);
    }
    assert_eq!(stage.count("SELECT member_count::bigint FROM harkara.collections").await, 2);
    assert_eq!(close_after(&stage, 5).await, 1);
    assert_eq!(listed(&stage), ["1", "2"]);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_erased_recipient_gets_no_message(pool: PgPool) {
    let stage = begin(pool).await;
    for number in 1..4 {
        stage.post(member(number)).await.id();
    }
    assert_eq!(stage.call(TENANT, "DELETE /v1/recipients/{id}", Some("ada"), "", "").await.status, 204);
    assert_eq!(close_after(&stage, 5).await, 1);
    assert_eq!(stage.mail.asked().len(), 0);
    assert_eq!(stage.count("SELECT count(*) FROM harkara.notifications WHERE data <> '{}'").await, 0);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_suspended_tenants_batch_waits_and_holds_up_nobody(pool: PgPool) {
    let stage = begin(pool).await;
    for number in 1..3 {
        stage.post(member(number)).await.id();
        assert_eq!(stage.post_as(OTHER_TENANT, member(number + 10), &[]).await.status, 202);
    }
    let set_state = async |state: &'static str| {
        let set = "UPDATE harkara.tenants SET state = $1 WHERE tenant_id = $2::uuid";
        sqlx::query(set).bind(state).bind(TENANT).execute(&stage.admin).await.expect("set");
    };
    set_state("suspended").await;
    assert_eq!(close_after(&stage, 5).await, 1);
    assert_eq!(listed(&stage), ["11", "12"]);
    set_state("active").await;
    assert_eq!(close_after(&stage, 1).await, 1);
    assert_eq!(listed(&stage), ["11", "12", "1", "2"]);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn members_leave_one_by_one_where_no_message_can_be_made(pool: PgPool) {
    let stage = begin(pool).await;
    for number in 1..3 {
        stage.post(member(number)).await.id();
    }
    // Between the requests and the close, the template begins to want something of its own.
    let template = json!({
        "variables": {"observation": {"type": "string", "example": "42"}, "count": {"type": "list", "required": false}},
        "subject": "Observation {{ observation }}", "text": "one: {{ observation }}",
    });
    stage.publish(TENANT, "observations", template).await;
    assert_eq!(close_after(&stage, 5).await, 1);
    let mut texts = texts(&stage);
    texts.sort();
    assert_eq!(texts.len(), 2);
    assert!(texts[0].starts_with("one: 1") && texts[1].starts_with("one: 2"), "{texts:?}");
    // Whoever asks now is told at once.
    let refused = stage.post(member(3)).await;
    assert_eq!((refused.status, refused.pointers()), (422, vec!["/data/count"]));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_cannot_be_collected_is_refused_at_its_place(pool: PgPool) {
    let stage = begin(pool).await;
    let file = json!([{"filename": "a.txt", "content_type": "text/plain", "content": "aGk="}]);
    let calendar = json!({"start": "2027-11-24T10:00:00Z", "end": "2027-11-24T11:00:00Z", "summary": "s"});
    let batch = json!({"key": "k", "window": "PT5M"});
    let with = |name: &str, value: Value| {
        let mut body = member(1);
        body[name] = value;
        body
    };
    let of = |batch: Value| observation(1, "batch", batch);
    let table = [
        (with("debounce", batch.clone()), "/debounce"),
        (with("send_at", json!("2027-01-01T00:00:00Z")), "/send_at"),
        (with("attachments", file), "/attachments"),
        (with("calendar", calendar), "/calendar"),
        (with("subject", json!("s")), "/subject"),
        (with("text", json!("t")), "/text"),
        (with("html", json!("h")), "/html"),
        (of(json!("k")), "/batch"),
        (of(json!({"window": "PT5M"})), "/batch/key"),
        (of(json!({"key": "k"})), "/batch/window"),
        (of(json!({"key": "ö", "window": "PT5M"})), "/batch/key"),
        (of(json!({"key": "k", "window": "5 minutes"})), "/batch/window"),
        (of(json!({"key": "k", "window": "PT0S"})), "/batch/window"),
        (of(json!({"key": "k", "window": "P1DT1S"})), "/batch/window"),
        (of(json!({"key": "k", "window": "PT5M", "max": "PT6M"})), "/batch/max"),
    ];
    for (body, pointer) in table {
        let answer = stage.post(body.clone()).await;
        assert_eq!((answer.status, answer.pointers()), (422, vec![pointer]), "{body}");
    }
    assert_eq!(stage.count("SELECT count(*) FROM harkara.notifications").await, 0);
    assert_eq!(stage.count("SELECT count(*) FROM harkara.collections").await, 0);
    stage.finish().await;
}

/// Nothing but mail is sent by now, so the other channel's delivery is put there.
async fn want_sms_too(stage: &Stage, notification: &str) {
    for statement in [
        "ALTER TABLE harkara.deliveries DROP CONSTRAINT IF EXISTS channel_is_known",
        "CREATE OR REPLACE FUNCTION public.want_sms(wanted uuid) RETURNS void LANGUAGE sql AS $$
             INSERT INTO harkara.deliveries
                 (tenant_id, delivery_id, notification_id, channel, state, max_attempts, not_before, due_at)
             SELECT d.tenant_id, harkara.new_id(), d.notification_id, 'sms', d.state, d.max_attempts, d.not_before, d.due_at
             FROM harkara.deliveries d WHERE d.notification_id = wanted
         $$",
    ] {
        sqlx::query(statement).execute(&stage.admin).await.expect("changed");
    }
    let id = notification.trim_start_matches("ntf_").parse::<uuid::Uuid>().expect("an id");
    sqlx::query("SELECT public.want_sms($1)").bind(id).execute(&stage.admin).await.expect("added");
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_message_goes_by_every_channel_that_a_member_waits_for(pool: PgPool) {
    let stage = begin(pool).await;
    let both = json!({"email": "ada@example.org", "phone": "+4915112345678"});
    stage.put(TENANT, "/v1/recipients/{id}", "ada", both).await;
    want_sms_too(&stage, &stage.post(member(1)).await.id()).await;
    stage.post(member(2)).await.id();
    // What the last one of a debounce replaces says nothing any more, and by no channel.
    let change = |number: u32| observation(number, "debounce", json!({"key": "stage", "window": "PT5M"}));
    want_sms_too(&stage, &stage.post(change(1)).await.id()).await;
    stage.post(change(2)).await.id();
    stage.pass(Duration::from_secs(300)).await;
    assert_eq!(stage.dispatch().await.closed, 2);
    let channels: Vec<(String, Vec<String>)> = sqlx::query_as(
        "SELECT c.kind, array_agg(d.channel ORDER BY d.channel)
         FROM harkara.collections c JOIN harkara.deliveries d USING (tenant_id, notification_id)
         GROUP BY c.kind ORDER BY c.kind",
    )
    .fetch_all(&stage.admin)
    .await
    .expect("messages");
    let expected = [("batch", vec!["email", "sms"]), ("debounce", vec!["email"])];
    assert_eq!(channels, expected.map(|(kind, names)| (kind.into(), names.into_iter().map(str::to_owned).collect())));
    assert_eq!(stage.count("SELECT count(*) FROM harkara.deliveries WHERE reason = 'left_in_batch'").await, 3);
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_batch_of_which_nothing_is_kept_any_more_ends(pool: PgPool) {
    let stage = begin(pool).await;
    let id = stage.post(observation(1, "batch", json!({"key": "import-9", "window": "P1D"}))).await.id();
    assert_eq!(cancel(&stage, &id).await, 1);
    // Retention keeps what an open one has; somebody who administers the database may not.
    let delete = "DELETE FROM harkara.collection_members";
    sqlx::query(delete).execute(&stage.admin).await.expect("the administrator may");
    stage.pass(Duration::from_secs(2 * 86_400)).await;
    assert_eq!(stage.dispatch().await.closed, 1);
    assert_eq!(stage.dispatch().await.closed, 0, "and is not looked at again");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_batches_of_many_tenants_close_in_one_run(pool: PgPool) {
    let stage = begin(pool).await;
    for number in 0..25 {
        let tenant = format!("018f0000-0000-7000-8000-0000000001{number:02}");
        let insert = "INSERT INTO harkara.tenants (tenant_id, name) VALUES ($1::uuid, 'one of many')";
        sqlx::query(insert).bind(&tenant).execute(&stage.admin).await.expect("a tenant");
        stage.put(&tenant, "/v1/categories/{key}", "assigned", json!({"class": "transactional"})).await;
        stage.publish(&tenant, "observations", json!({"subject": "s", "text": "t"})).await;
        let body = json!({
            "category": "assigned", "template": "observations", "recipient": {"email": "lin@example.org"}, "data": {},
            "batch": {"key": "k", "window": "PT5M"},
        });
        let answer = stage.post_as(&tenant, body, &[]).await;
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    assert_eq!(close_after(&stage, 5).await, 25);
    stage.finish().await;
}
