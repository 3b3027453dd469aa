//! What recipients want to hear of by the hour, day or week leaves as one message for each of them: once for each period,
//! whatever overlaps, repeats or is missed.

mod anew;
mod bounds;
mod let_go;
mod members;
mod own_time;
mod rounds;
mod unfit;

use serde_json::{Value, json};
use tests::{Answer, Stage, TENANT, move_time_to};

/// A Tuesday, in the afternoon.
const TUESDAY: &str = "2026-12-01T10:00:00Z";
/// When Ada's day ends, who lives in Kolkata: 09:00 there.
pub(crate) const WEDNESDAY: &str = "2026-12-02T03:30:00Z";

pub(crate) async fn move_to(stage: &Stage, moment: &str) {
    move_time_to(&stage.admin, moment.parse().expect("a timestamp")).await;
}

async fn send(stage: &Stage, method: &str, path: &str, key: &str, body: Value) -> Answer {
    stage.call(TENANT, &format!("{method} {path}"), Some(key), "", &body.to_string()).await
}

/// A digest template, `BULK_DIGEST`, which collects `ASSIGNED` and `COMMENTED`, and Ada, who wants them daily; on a Tuesday.
pub(crate) async fn begin(pool: sqlx::PgPool) -> Stage {
    let stage = Stage::begin(pool).await;
    stage.lift_limits().await;
    move_to(&stage, TUESDAY).await;
    let template = json!({
        "variables": {
            "count": {"type": "integer", "example": 1}, "more_count": {"type": "integer", "example": 0},
            "more_url": {"type": "url", "required": false},
            "sections": {"type": "list", "example": [{"name": "Greetings", "count": 1, "items": [{"name": "Ada"}]}]},
        },
        "subject": "{{ count }} of news",
        "text": "{% if not sections %}Nothing new{% endif %}{% for section in sections %}{{ section.name }} {{ section.count }}: {% for item in section.items %}{{ item.name }},{% endfor %} {% endfor %}{% if more_count > 0 %}and {{ more_count }} more{% if more_url %} at {{ more_url }}{% endif %}{% endif %}",
    });
    stage.publish(TENANT, "digest", template).await;
    put_category(&stage, "BULK_DIGEST", json!({"class": "digest", "template": "digest", "quiet_hours_apply": false}))
        .await;
    let collected = json!({"class": "transactional", "template": "greeting", "digest_category": "BULK_DIGEST"});
    put_category(&stage, "COMMENTED", collected.clone()).await;
    let mut named = collected;
    named["name"] = "Assignments".into();
    put_category(&stage, "ASSIGNED", named).await;
    put_recipient(&stage, "ada", "Asia/Kolkata", &[]).await;
    prefer(&stage, "ada", "daily").await;
    stage
}

pub(crate) async fn put_category(stage: &Stage, key: &str, body: Value) {
    stage.put(TENANT, "/v1/categories/{key}", key, body).await;
}

pub(crate) async fn put_recipient(stage: &Stage, id: &str, zone: &str, roles: &[&str]) {
    let body = json!({"email": format!("{id}@example.org"), "time_zone": zone, "roles": roles});
    stage.put(TENANT, "/v1/recipients/{id}", id, body).await;
}

async fn prefer(stage: &Stage, recipient: &str, cadence: &str) {
    let body = json!({"preferences": [{"category": "*", "cadence": cadence}]});
    let answer = send(stage, "PUT", "/v1/recipients/{id}/preferences", recipient, body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Asks for a notification to a known recipient, lets it be decided about, and returns its id.
pub(crate) async fn ask(stage: &Stage, category: &str, recipient: &str, name: &str) -> String {
    let body = json!({"category": category, "recipient": {"id": recipient}, "data": {"name": name}});
    let answer = stage.post(body).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    stage.drain().await;
    answer.id()
}

/// Sends what is queued, and returns the addresses, subjects and texts of the mails since the last `seen`.
async fn mails_after(stage: &Stage, seen: usize) -> Vec<(String, String, String)> {
    stage.drain().await;
    let text = |mail: &domain::mail::Mail| {
        (
            mail.to.as_str().to_owned(),
            mail.subject.as_str().to_owned(),
            // Without the links below.
            mail.text.as_deref().and_then(|text| text.split("-- \n").next()).unwrap_or_default().trim().to_owned(),
        )
    };
    stage.mail.asked().iter().skip(seen).map(text).collect()
}

/// The digest that a notification left with.
async fn digest_of(stage: &Stage, id: &str) -> String {
    let shown = stage.show(id).await;
    shown["deliveries"][0]["digest"]["notification_id"]
        .as_str()
        .unwrap_or_else(|| panic!("no digest: {shown}"))
        .to_owned()
}

async fn explain(stage: &Stage, id: &str) -> String {
    let answer = stage.call(TENANT, "GET /v1/notifications/{id}/explain", Some(id), "", "").await;
    let lines = answer.body["deliveries"][0]["explanation"].as_array().unwrap_or_else(|| panic!("{answer:?}")).clone();
    lines.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
}

fn is(state: &str, reason: &str) -> (String, Option<String>) {
    (state.to_owned(), Some(reason.to_owned()))
}

async fn outcome(stage: &Stage, id: &str) -> (String, Option<String>) {
    let (state, reason, _) = stage.outcome(id).await;
    (state, reason)
}
