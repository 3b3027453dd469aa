//! What work is made of: recipients, templates and categories, deadlines and policies, requests by both doors.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::TENANT;
use tests::strict::World;

/// A domain's login; roles are the cluster's, so all tests have the same.
const DOMAIN: &str = "matrix_domain";

/// Where those live whose week's round is meant: nobody else is there.
pub(super) const WEEK_ZONE: &str = "Asia/Kolkata";

/// `WEEKLY_DIGEST`, which holders of these roles must get, and its rounds until the week that has begun ends.
pub(super) async fn plan_week(world: &World, roles: &[String]) {
    let category = json!({
        "class": "digest", "template": "digest", "quiet_hours_apply": false, "unmutable_roles": roles,
        "digest": {"cadence": "weekly"},
    });
    world.put(TENANT, "/v1/categories/{key}", "WEEKLY_DIGEST", category).await;
    // What was planned before has moved with all that is stored, as time passed.
    sqlx::query("DELETE FROM harkara.digest_rounds").execute(&world.admin).await.expect("forgotten");
    close_for_nobody(world).await;
}

/// When the week ends in [`WEEK_ZONE`].
pub(super) async fn find_week_end(world: &World) -> Timestamp {
    let due: jiff_sqlx::Timestamp = sqlx::query_scalar("SELECT due_at FROM harkara.digest_rounds WHERE time_zone = $1")
        .bind(WEEK_ZONE)
        .fetch_one(&world.admin)
        .await
        .expect("it is planned");
    due.to_jiff()
}

/// Lets the week end in [`WEEK_ZONE`], and nowhere else at that moment.
pub(super) async fn end_week(world: &World) {
    let due = find_week_end(world).await;
    world.move_to(due - SignedDuration::from_mins(1)).await;
    close_for_nobody(world).await;
    world.move_to(due).await;
}

/// A run that plans rounds, and closes those of other zones.
async fn close_for_nobody(world: &World) {
    let answer = world.tick("digest").await.expect("it does its work");
    assert_eq!(answer["digests"], 0, "the week has not ended");
}

pub(crate) fn address(name: &str) -> String {
    format!("{name}@example.org")
}

/// A name that an address takes, for what happens at a point.
pub(crate) fn name_of(case: &str) -> String {
    case.to_lowercase().replace([' ', '_'], "-")
}

/// The template of digests.
pub(super) async fn publish_digest(world: &World) {
    let variables = json!({
        "count": {"type": "integer", "example": 1}, "more_count": {"type": "integer", "example": 0},
        "more_url": {"type": "url", "required": false},
        "sections": {"type": "list", "example": [{"name": "Greetings", "count": 1, "items": [{"name": "Ada"}]}]},
    });
    publish(world, "digest", variables, "{{ count }} of news", "{{ count }} of news").await;
}

/// The template of digests, `BULK_DIGEST` with these rules, and `COMMENTED`, which it collects.
pub(crate) async fn put_digest_category(world: &World, rules: Value) {
    publish_digest(world).await;
    let mut category = json!({"class": "digest", "template": "digest", "quiet_hours_apply": false});
    if rules != json!({}) {
        category["digest"] = rules;
    }
    world.put(TENANT, "/v1/categories/{key}", "BULK_DIGEST", category).await;
    let collected = json!({"class": "transactional", "template": "greeting", "digest_category": "BULK_DIGEST"});
    world.put(TENANT, "/v1/categories/{key}", "COMMENTED", collected).await;
}

/// Publishes a template of one language.
pub(crate) async fn publish(world: &World, key: &str, variables: Value, subject: &str, text: &str) {
    let template = json!({"variables": variables, "variants": [{"locale": "en", "subject": subject, "text": text}]});
    world.put(TENANT, "/v1/templates/{key}", key, template).await;
    let answer = world.call(TENANT, "POST /v1/templates/{key}/publish", Some(key), "{}").await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

pub(crate) async fn put_recipient(world: &World, id: &str, body: &Value) {
    world.put(TENANT, "/v1/recipients/{id}", id, body.clone()).await;
}

pub(crate) async fn prefer(world: &World, recipient: &str, cadence: &str) {
    let body = json!({"preferences": [{"category": "*", "cadence": cadence}]});
    world.put(TENANT, "/v1/recipients/{id}/preferences", recipient, body).await;
}

/// Asks for two notifications to a recipient, collected as `how` says.
pub(crate) async fn collect(world: &World, category: &str, recipient: &str, how: &Value) {
    let mut body = json!({"category": category, "recipient": {"id": recipient}, "data": {"name": "Ada"}});
    for (name, value) in how.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    let answer = world.post(&json!({"notifications": [body.clone(), body]})).await;
    assert_eq!(answer.status, 202, "{answer:?}");
}

/// A deadline of a recipient, of the same name.
pub(crate) async fn put_deadline(world: &World, name: &str, due: &str, rungs: Value) {
    let body =
        json!({"category": "greeting", "recipients": [name], "due_at": due, "rungs": rungs, "data": {"name": "Ada"}});
    world.put(TENANT, "/v1/deadlines/{key}", name, body).await;
}

pub(crate) async fn put_policy(world: &World, key: &str, steps: Value) {
    let body = json!({"category": "greeting", "steps": steps});
    world.put(TENANT, "/v1/escalation-policies/{key}", key, body).await;
}

/// Starts an escalation by a policy, and returns its id.
pub(crate) async fn start(world: &World, policy: &str) -> String {
    let body = json!({"policy": policy, "data": {"name": "Ada"}});
    let answer = world.call(TENANT, "POST /v1/escalations", None, &body.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["escalation"]["id"].as_str().expect("an id").to_owned()
}

/// Opens the SQL door for a domain of the first tenant.
pub(crate) async fn open_door(admin: &PgPool) {
    // Two tests may make the role at the same time.
    let make = "
        DO $$
        BEGIN
            CREATE ROLE matrix_domain NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END
        $$";
    sqlx::raw_sql(make).execute(admin).await.expect("the role is made");
    let open = "CALL harkara.open_door($1, $2::uuid)";
    sqlx::query(open).bind(DOMAIN).bind(TENANT).execute(admin).await.expect("the door is opened");
}

/// Asks for a notification through the SQL door, in a transaction of the domain's.
pub(crate) async fn ask_at_door(admin: &PgPool, request: &Value) {
    let mut transaction = admin.begin().await.expect("the database is there");
    sqlx::query("SET LOCAL SESSION AUTHORIZATION matrix_domain").execute(&mut *transaction).await.expect("a role");
    let ask = "SELECT harkara.enqueue($1, NULL)";
    sqlx::query(ask).bind(request).execute(&mut *transaction).await.expect("it is taken");
    transaction.commit().await.expect("committed");
}
