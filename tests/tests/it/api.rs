//! A tenant sees and changes what is its own, and nothing else is there.

use serde_json::{Value, json};
use sqlx::PgPool;
use tests::{OTHER_TENANT, Stage, TENANT};

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn another_tenants_ids_are_not_there_on_any_route(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let answer = stage.post(Stage::greeting("ada@example.org")).await;
    let id = answer.id();
    stage.put(TENANT, "/v1/recipients/{id}", "eve", json!({"email": "eve@example.org"})).await;
    stage.publish(TENANT, "own", json!({"subject": "s", "text": "t"})).await;
    stage.put(TENANT, "/v1/categories/{key}", "own", json!({"class": "security"})).await;
    let table = [
        ("GET /v1/notifications/{id}", id.as_str()),
        ("POST /v1/notifications/{id}/cancel", id.as_str()),
        ("GET /v1/recipients/{id}", "eve"),
        ("GET /v1/templates/{key}", "own"),
        ("GET /v1/categories/{key}", "own"),
    ];
    for (route, parameter) in table {
        let theirs = stage.call(OTHER_TENANT, route, Some(parameter), "", "").await;
        let missing = stage.call(OTHER_TENANT, route, Some("ntf_018f0000000070008000000000000abc"), "", "").await;
        assert_eq!((theirs.status, theirs.body["code"].as_str()), (404, Some("not_found")), "{route}");
        assert_eq!(theirs.body, missing.body, "{route}: it looks like what never was");
    }
    let list = stage.call(OTHER_TENANT, "GET /v1/notifications", None, "", "").await;
    assert_eq!(list.body["notifications"], json!([]));
    assert_eq!(stage.outcome(&id).await.0, "queued");
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_canceled_notification_is_not_sent(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let answer = stage.post(Stage::greeting("ada@example.org")).await;
    let cancel = async || stage.call(TENANT, "POST /v1/notifications/{id}/cancel", Some(&answer.id()), "", "").await;
    let canceled = cancel().await;
    assert_eq!((canceled.status, &canceled.body["canceled_count"]), (200, &json!(1)), "{canceled:?}");
    assert_eq!(canceled.body["notification"]["state"], "canceled");
    assert_eq!(cancel().await.body["canceled_count"], 0, "a second cancel changes nothing");
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 0);
    stage.pass(std::time::Duration::from_secs(60)).await;
    stage.dispatch().await;
    assert_eq!(stage.bus.detail_types(), ["notification.accepted", "delivery.canceled"]);
    let told = &stage.bus.events()[1].detail;
    assert_eq!((&told["notification_id"], &told["state"]), (&json!(answer.id()), &json!("canceled")));

    let sent = stage.post(Stage::greeting("ada@example.org")).await;
    stage.drain().await;
    let late = stage.call(TENANT, "POST /v1/notifications/{id}/cancel", Some(&sent.id()), "", "").await;
    assert_eq!((&late.body["canceled_count"], &late.body["notification"]["state"]), (&json!(0), &json!("sent")));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_list_is_paged_without_gaps_and_filtered(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let item = |n: usize| json!({"category": "greeting", "recipient": {"email": format!("r{n}@example.org")}, "data": {"name": "Ada"}});
    stage.post(json!({"notifications": (0..25).map(item).collect::<Vec<_>>()})).await;
    let known = stage.post(json!({"category": "greeting", "recipient": {"id": "ada"}, "data": {"name": "Ada"}})).await;

    let mut seen = std::collections::BTreeSet::new();
    let mut query = "page_size=10".to_owned();
    let sizes = loop {
        let page = stage.call(TENANT, "GET /v1/notifications", None, &query, "").await;
        let rows = page.body["notifications"].as_array().expect("a list").clone();
        let before = seen.len();
        seen.extend(rows.iter().map(|row| row["id"].as_str().expect("an id").to_owned()));
        assert_eq!(seen.len(), before + rows.len(), "no row comes twice, though all have one time");
        match page.body["page_info"]["after"].as_str() {
            Some(after) => query = format!("page_size=10&after={after}"),
            None => break rows.len(),
        }
    };
    assert_eq!((seen.len(), sizes), (26, 6));

    stage.drain().await;
    let count = async |query: &str| {
        let page = stage.call(TENANT, "GET /v1/notifications", None, query, "").await;
        page.body["notifications"].as_array().unwrap_or_else(|| panic!("{query}: {page:?}")).len()
    };
    assert_eq!(count("recipient=ada").await, 1);
    assert_eq!(count("category=greeting&state=sent").await, 26);
    assert_eq!(count("channel=email&recipient=ada").await, 1);
    assert_eq!(count("state=queued").await, 0);
    assert_eq!(count("to=2020-01-01T00:00:00Z").await, 0);
    assert_eq!(count("from=2020-01-01T00:00:00Z").await, 26);
    let bad = stage
        .call(TENANT, "GET /v1/notifications", None, "channel=sms&state=nonsense&escalation=7&after=x&limit=3", "")
        .await;
    let pointers = vec!["?channel", "?state", "?escalation", "?after", "?limit"];
    assert_eq!((bad.status, bad.pointers()), (422, pointers));
    assert_eq!(stage.show(&known.id()).await["recipient"]["id"], "ada");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn recipients_categories_and_templates_are_read_as_they_were_put(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let recipient = json!({"email": "ada@example.org", "phone": "+4915112345678", "name": "Ada", "locale": "hi-IN",
        "time_zone": "Asia/Kolkata", "roles": ["CAE"]});
    let category = json!({"class": "regulatory", "channels": ["email"], "template": "greeting", "max_attempts": 5,
        "unknown_policy": "at_most_once", "reconcile_window": "PT15M"});
    for (path, key, body) in [("/v1/recipients/{id}", "ada", recipient), ("/v1/categories/{key}", "audit", category)] {
        stage.put(TENANT, path, key, body.clone()).await;
        let read = stage.call(TENANT, &format!("GET {path}"), Some(key), "", "").await;
        for (name, value) in body.as_object().expect("an object") {
            assert_eq!(&read.body[name], value, "{path} {name}");
        }
    }
    let versions = async |body: Value| {
        stage.publish(TENANT, "greeting", body).await;
        stage.call(TENANT, "GET /v1/templates/{key}", Some("greeting"), "", "").await.body["published_version"].clone()
    };
    assert_eq!(versions(json!({"subject": "new", "text": "t"})).await, 2);
    assert_eq!(versions(json!({"subject": "new", "text": "t"})).await, 2, "the same content is the same version");
    assert_eq!(versions(json!({"subject": "newer", "text": "t"})).await, 3);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_cannot_be_kept_is_refused_by_pointer(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let table = [
        ("/v1/recipients/{id}", json!({}), ""),
        ("/v1/recipients/{id}", json!({"email": "a@b.in\r\n"}), "/email"),
        ("/v1/recipients/{id}", json!({"email": "a@b.in", "time_zone": "Nowhere"}), "/time_zone"),
        ("/v1/categories/{key}", json!({}), "/class"),
        ("/v1/categories/{key}", json!({"class": "spam"}), "/class"),
        ("/v1/categories/{key}", json!({"class": "security", "template": "nonsense"}), "/template"),
        ("/v1/categories/{key}", json!({"class": "security", "max_attempts": 9}), "/max_attempts"),
        ("/v1/categories/{key}", json!({"class": "security", "reconcile_window": "soon"}), "/reconcile_window"),
        ("/v1/templates/{key}", json!({}), "/variants"),
        ("/v1/templates/{key}", json!({"variants": [{"subject": "s", "text": "t"}]}), "/variants/0/locale"),
    ];
    for (path, body, pointer) in table {
        let answer = stage.call(TENANT, &format!("PUT {path}"), Some("k"), "", &body.to_string()).await;
        assert_eq!((answer.status, answer.pointers()), (422, vec![pointer]), "{path} {body}: {answer:?}");
    }
    let redrive = stage.call(TENANT, "POST /v1/dead-letters/redrive", None, "", "{}").await;
    assert_eq!(redrive.status, 422, "everything is not meant by silence");
    let redrive = stage.call(TENANT, "POST /v1/dead-letters/redrive", None, "", r#"{"to": null}"#).await;
    assert_eq!(redrive.status, 422, "nor by saying nothing of a field");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_unknown_or_suspended_tenant_does_nothing(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let unknown = "018f0000-0000-7000-8000-00000000ffff";
    let body = json!({"email": "ada@example.org"}).to_string();
    let answer = stage.call(unknown, "PUT /v1/recipients/{id}", Some("ada"), "", &body).await;
    assert_eq!((answer.status, answer.body["code"].as_str()), (403, Some("tenant_inactive")));
    sqlx::query("UPDATE harkara.tenants SET state = 'suspended'").execute(&stage.admin).await.expect("suspended");
    let answer = stage.call(TENANT, "POST /v1/dead-letters/redrive", None, "", r#"{"category": "greeting"}"#).await;
    assert_eq!((answer.status, answer.body["code"].as_str()), (403, Some("tenant_inactive")));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_channel_that_is_named_twice_is_one_channel(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let category = json!({"class": "security", "template": "greeting", "channels": ["email", "email"]});
    stage.put(TENANT, "/v1/categories/{key}", "twice", category).await;
    let mut body = Stage::greeting("ada@example.org");
    body["category"] = "twice".into();
    body["channels"] = json!(["email", "email"]);
    assert_eq!(stage.post(body).await.status, 202);
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 1);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_post_with_a_key_is_answered_alike_and_done_once(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let id = stage.post(Stage::greeting("ada@example.org")).await.id();
    let route = "POST /v1/notifications/{id}/cancel";
    let cancel = async |key: &str| stage.call_with_key(TENANT, route, &id, key).await;
    let (first, again) = (cancel("k-1").await, cancel("k-1").await);
    assert_eq!((first.body["canceled_count"].as_i64(), &again.body), (Some(1), &first.body));
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(cancel("k-2").await.body["canceled_count"], 0);
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_redrive_by_filter_takes_what_it_names(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.put(TENANT, "/v1/categories/{key}", "other", json!({"class": "security", "template": "greeting"})).await;
    for category in ["greeting", "greeting", "other"] {
        stage.mail.script("ada@example.org", [failing as fn() -> _; 3]);
        let mut body = Stage::greeting("ada@example.org");
        body["category"] = category.into();
        stage.post(body).await;
        stage.drain().await;
    }
    stage.store_dead_letters().await;
    let redrive = async |body: Value| {
        stage.call(TENANT, "POST /v1/dead-letters/redrive", None, "", &body.to_string()).await.body["redriven_count"]
            .clone()
    };
    assert_eq!(redrive(json!({"category": "greeting", "reason": "attempts_used_up"})).await, 2);
    assert_eq!(redrive(json!({"category": "greeting"})).await, 0);
    assert_eq!(redrive(json!({"from": "2020-01-01T00:00:00Z"})).await, 1);
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn health_is_told_and_an_unknown_path_is_not_there(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    assert_eq!(stage.call(TENANT, "GET /v1/health", None, "", "").await.body, json!({"status": "ok"}));
    assert_eq!(stage.call(TENANT, "GET /v1/nonsense", None, "", "").await.status, 404);
    stage.finish().await;
}

fn failing() -> domain::outcome::SendOutcome {
    domain::outcome::SendOutcome::ServerFailed(domain::outcome::ProviderError {
        code: "InternalFailure".into(),
        detail: "words".into(),
    })
}
