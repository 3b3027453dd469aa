//! The public pages: looking changes nothing, a click holds, and whoever has no link learns nothing.

use crate::recipients::see_somebody_wait;
use adapters::envelope::Envelope;
use adapters::store::keys::LinkKeys;
use adapters::wire::routes::Route;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use domain::id::{CategoryKey, TenantId};
use domain::link::{LinkToken, SubjectId};
use flow::api::Api;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::sync::Arc;
use tests::{Ask, OTHER_TENANT, Page, Stage, TENANT, ask_page};
use uuid::Uuid;

const UNSUBSCRIBE: &str = "/v1/unsubscribe/{token}";
const PREFERENCES: &str = "/v1/preference-center/{token}";
const ONE_CLICK: &str = "List-Unsubscribe=One-Click";

/// Who a recipient is to links.
pub(crate) async fn subject_of(pool: &PgPool, tenant: &str, recipient: &str) -> SubjectId {
    let statement = "SELECT subject_id FROM harkara.recipients WHERE tenant_id = $1::uuid AND recipient_id = $2";
    let subject: Uuid =
        sqlx::query_scalar(statement).bind(tenant).bind(recipient).fetch_one(pool).await.expect("a recipient");
    SubjectId::from_uuid(subject)
}

/// A token as the processor signs it.
pub(crate) async fn sign(stage: &Stage, tenant: &str, subject: SubjectId, category: Option<&str>) -> String {
    let tenant = TenantId::parse(tenant).expect("a tenant's id");
    let Api { database, keys, .. } = &stage.api;
    let ring = keys.load_or_create(database, tenant, "tester").await.expect("a key");
    let category = category.map(|key| CategoryKey::parse(key).expect("a key"));
    ring.print(&LinkToken { tenant, subject, category }).expect("the ring is the tenant's")
}

async fn get(stage: &Stage, path: &str, token: &str) -> Page {
    ask_page(&stage.api, &format!("GET {path}"), token, &[], "").await
}

async fn post(stage: &Stage, path: &str, token: &str, form: &str) -> Page {
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    ask_page(&stage.api, &format!("POST {path}"), token, &headers, form).await
}

/// Every wish of a subject: category, channel, whether, how often, from when.
async fn wishes(pool: &PgPool, subject: SubjectId) -> Vec<Value> {
    let statement = "
        SELECT to_jsonb(w) - 'tenant_id' - 'subject_id' - 'created_at' - 'updated_at'
        FROM harkara.preferences w WHERE subject_id = $1 ORDER BY category_key, channel";
    sqlx::query_scalar(statement).bind(subject.as_uuid()).fetch_all(pool).await.expect("wishes")
}

/// What came of a greeting to ada: the reason for which it was skipped, or the state.
async fn greet(stage: &Stage) -> String {
    let request = json!({"category": "greeting", "recipient": {"id": "ada"}, "data": {"name": "Ada"}});
    let id = stage.post(request).await.id();
    stage.drain().await;
    let (state, reason, _) = stage.outcome(&id).await;
    reason.unwrap_or(state)
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn looking_changes_nothing_and_one_click_stops_the_next_mail(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let subject = subject_of(&pool, TENANT, "ada").await;
    let token = sign(&stage, TENANT, subject, Some("greeting")).await;
    for _ in 0..2 {
        let page = get(&stage, UNSUBSCRIBE, &token).await;
        assert_eq!(page.status, 200);
        assert!(page.body.contains("greeting") && page.body.contains("first"), "{}", page.body);
        assert!(page.body.contains("Nothing has changed yet"), "{}", page.body);
    }
    assert_eq!(wishes(&pool, subject).await, Vec::<Value>::new());
    assert_eq!(greet(&stage).await, "sent");

    for _ in 0..2 {
        let page = post(&stage, UNSUBSCRIBE, &token, ONE_CLICK).await;
        assert_eq!(page.status, 200, "a repeat is fine");
        assert!(page.body.contains("You are unsubscribed"), "{}", page.body);
    }
    let left = json!({"category_key": "greeting", "channel": "*", "is_on": false, "cadence": null,
                      "quiet_from": null, "quiet_until": null, "digest_time": null, "digest_weekday": null});
    assert_eq!(wishes(&pool, subject).await, [left]);
    assert_eq!(greet(&stage).await, "preference_off");
    assert!(get(&stage, UNSUBSCRIBE, &token).await.body.contains("You are unsubscribed"));

    let back = post(&stage, UNSUBSCRIBE, &token, "undo=1").await;
    assert!(back.status == 200 && back.body.contains("You are subscribed again"), "{}", back.body);
    assert_eq!(wishes(&pool, subject).await, Vec::<Value>::new(), "nothing is left of it");
    assert_eq!(greet(&stage).await, "sent");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_mail_readers_multipart_request_counts_too(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let token = sign(&stage, TENANT, subject_of(&pool, TENANT, "ada").await, Some("greeting")).await;
    let body = "--x\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--x--\r\n";
    let headers = [("content-type", "multipart/form-data; boundary=x")];
    let page = ask_page(&stage.api, "POST /v1/unsubscribe/{token}", &token, &headers, body).await;
    assert_eq!(page.status, 200);
    assert_eq!(greet(&stage).await, "preference_off");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_click_weighs_more_than_what_was_said_of_a_channel(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let subject = subject_of(&pool, TENANT, "ada").await;
    let said = json!({"preferences": [
        {"category": "greeting", "channel": "email", "enabled": true},
        {"channel": "email", "enabled": true},
    ]});
    stage.put(TENANT, "/v1/recipients/{id}/preferences", "ada", said.clone()).await;
    let one = sign(&stage, TENANT, subject, Some("greeting")).await;
    post(&stage, UNSUBSCRIBE, &one, ONE_CLICK).await;
    assert_eq!(greet(&stage).await, "preference_off");

    stage.put(TENANT, "/v1/recipients/{id}/preferences", "ada", said).await;
    let all = sign(&stage, TENANT, subject, None).await;
    let page = post(&stage, UNSUBSCRIBE, &all, ONE_CLICK).await;
    assert!(page.body.contains("no longer receive optional messages from first"), "{}", page.body);
    assert_eq!(greet(&stage).await, "preference_off");
    post(&stage, UNSUBSCRIBE, &all, "undo=1").await;
    assert_eq!(greet(&stage).await, "sent");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_is_mandatory_is_neither_left_nor_switched_off(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let subject = subject_of(&pool, TENANT, "ada").await;
    let category = |roles: Value| json!({"class": "digest", "template": "greeting", "unmutable_roles": roles});
    let ada = json!({"email": "ada@example.org", "name": "Ada", "roles": ["CAE"]});
    stage.put(TENANT, "/v1/recipients/{id}", "ada", ada).await;
    let token = sign(&stage, TENANT, subject, Some("greeting")).await;
    for (roles, why) in [(json!(["CAE", "CCO"]), "because of your role"), (json!(["*"]), "to everyone")] {
        stage.put(TENANT, "/v1/categories/{key}", "greeting", category(roles)).await;
        let shown = get(&stage, UNSUBSCRIBE, &token).await;
        assert!(shown.status == 200 && shown.body.contains(why) && !shown.body.contains("<button"), "{}", shown.body);
        let refused = post(&stage, UNSUBSCRIBE, &token, ONE_CLICK).await;
        assert!(refused.status == 403 && refused.body.contains(why), "{refused:?}");
        let sheet = get(&stage, PREFERENCES, &token).await;
        assert!(sheet.body.contains(why) && sheet.body.contains("Always on"), "{}", sheet.body);
        let form = "shown=email%3Agreeting&cadence%3Agreeting=immediate&quiet_from=&quiet_until=";
        let saved = post(&stage, PREFERENCES, &token, form).await;
        assert!(saved.status == 422 && saved.body.contains("can no longer be switched off"), "{saved:?}");
    }
    let all = sign(&stage, TENANT, subject, None).await;
    let page = post(&stage, UNSUBSCRIBE, &all, ONE_CLICK).await;
    assert!(page.status == 200 && page.body.contains("cannot be switched off:</p><ul class=\"plain\"><li>greeting"));
    assert_eq!(greet(&stage).await, "sent");

    stage.put(TENANT, "/v1/categories/{key}", "greeting", category(json!(["CCO"]))).await;
    assert_eq!(post(&stage, UNSUBSCRIBE, &token, ONE_CLICK).await.status, 200);
    assert_eq!(greet(&stage).await, "preference_off");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn whoever_has_no_link_gets_the_same_page_for_every_reason(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let subject = subject_of(&pool, TENANT, "ada").await;
    let token = sign(&stage, TENANT, subject, Some("greeting")).await;
    sign(&stage, OTHER_TENANT, subject, None).await;
    let nobody = "018f0000-0000-7000-8000-0000000000ff";
    let changed = format!("{}{}", &token[..token.len() - 1], if token.ends_with('A') { 'Q' } else { 'A' });
    let renamed = rename_tenant(&token);
    let forged = [
        String::new(),
        "x".to_owned(),
        "ntf_018f0000000070008000000000000abc".to_owned(),
        token[..token.len() - 4].to_owned(),
        changed,
        renamed(nobody),
        renamed(OTHER_TENANT),
    ];
    let first = get(&stage, UNSUBSCRIBE, "forged").await;
    assert_eq!(first.status, 404);
    for text in forged {
        for (path, form) in [(UNSUBSCRIBE, ONE_CLICK), (PREFERENCES, "quiet_from=&quiet_until=")] {
            assert_eq!(get(&stage, path, &text).await, first, "{text}");
            assert_eq!(post(&stage, path, &text, form).await, first, "{text}");
        }
    }
    let stored: i64 =
        sqlx::query_scalar("SELECT count(*) FROM harkara.preferences").fetch_one(&pool).await.expect("counted");
    assert_eq!(stored, 0);
    stage.finish().await;
}

/// Who wants no more mail must not be asked to come again when the tenant is back.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_suspended_tenants_links_hold(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let subject = subject_of(&pool, TENANT, "ada").await;
    let token = sign(&stage, TENANT, subject, Some("greeting")).await;
    sqlx::query("UPDATE harkara.tenants SET state = 'suspended'").execute(&pool).await.expect("suspended");
    let cold = Api {
        database: stage.api.database.clone(),
        queue: stage.queue.clone(),
        bus: stage.bus.clone(),
        keys: LinkKeys::new(Arc::new(Envelope::new(stage.key_service.clone()))),
        public_url: stage.api.public_url.clone(),
        sender: stage.api.sender.clone(),
        local_endpoints: stage.api.local_endpoints.clone(),
    };
    for path in [UNSUBSCRIBE, PREFERENCES] {
        assert_eq!(ask_page(&cold, &format!("GET {path}"), &token, &[], "").await.status, 200, "{path}");
    }
    assert_eq!(post(&stage, PREFERENCES, &token, "quiet_from=22%3A00&quiet_until=07%3A00").await.status, 200);
    assert_eq!(post(&stage, UNSUBSCRIBE, &token, ONE_CLICK).await.status, 200);
    sqlx::query("UPDATE harkara.tenants SET state = 'active'").execute(&pool).await.expect("active");
    assert_eq!(wishes(&pool, subject).await.len(), 2);
    assert_eq!(greet(&stage).await, "preference_off");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_preference_centre_stores_when_digests_are_to_leave(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let subject = subject_of(&pool, TENANT, "ada").await;
    let token = sign(&stage, TENANT, subject, None).await;
    let form = |digest: &str| format!("quiet_from=22%3A00&quiet_until=07%3A00{digest}");
    let chosen = async || {
        let [Value::Object(mut wish)] = <[Value; 1]>::try_from(wishes(&pool, subject).await).expect("one wish") else {
            panic!("a row")
        };
        [wish.remove("digest_time"), wish.remove("digest_weekday")].map(Option::unwrap_or_default)
    };

    let page = post(&stage, PREFERENCES, &token, &form("&digest_time=18%3A30&digest_weekday=5")).await;
    assert!(page.body.contains("value=\"18:30\"") && page.body.contains("<option value=\"5\" selected>Friday"));
    assert_eq!(chosen().await, [json!("18:30:00"), json!(5)]);
    post(&stage, PREFERENCES, &token, &form("")).await;
    assert_eq!(chosen().await, [json!("18:30:00"), json!(5)], "a page of yesterday says nothing of it");
    let wrong = post(&stage, PREFERENCES, &token, &form("&digest_time=24%3A30&digest_weekday=8")).await;
    assert_eq!((wrong.status, wrong.body.matches("class=\"error\"").count()), (422, 2));
    post(&stage, PREFERENCES, &token, &form("&digest_time=&digest_weekday=")).await;
    assert_eq!(chosen().await, [Value::Null, Value::Null], "when the tenant says");
    stage.finish().await;
}

/// Replacing without reading first what another request has just stored would lose it, or leave some of both.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn wishes_are_replaced_by_one_request_at_a_time(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let ada = subject_of(&pool, TENANT, "ada").await;
    let recipients = Ask::of(Route::PutPreferences, TENANT).with_parameter("id", "ada");
    let token = sign(&stage, TENANT, ada, Some("greeting")).await;
    let mut click = Ask::of(Route::Unsubscribe, TENANT).with_parameter("token", &token);
    click.headers.insert("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned());
    let off = json!({"preferences": [{"category": "greeting", "enabled": false}]});
    for (subject, ask, left) in [
        (ada, recipients.with_body(&off), vec!["greeting *"]),
        (
            SubjectId::from_uuid(Uuid::nil()),
            Ask::of(Route::PutTenantPreferences, TENANT).with_body(&off),
            vec!["greeting *"],
        ),
        (ada, click.with_text(ONE_CLICK), vec!["greeting *", "other *"]),
    ] {
        // Another request, that has read what there is and is about to store something else.
        let mut other = pool.begin().await.expect("a transaction");
        let lock = "SELECT pg_advisory_xact_lock(hashtextextended('wishes ' || $1::uuid || $2::uuid, 0))";
        sqlx::query(lock)
            .bind(Uuid::parse_str(TENANT).expect("a UUID"))
            .bind(subject.as_uuid())
            .execute(&mut *other)
            .await
            .expect("locked");
        let end = async {
            see_somebody_wait(&pool).await;
            let insert = "INSERT INTO harkara.preferences (tenant_id, subject_id, category_key, channel, is_on)
                          VALUES ($1::uuid, $2, 'other', '*', false)";
            sqlx::query(insert).bind(TENANT).bind(subject.as_uuid()).execute(&mut *other).await.expect("stored");
            other.commit().await.expect("committed");
        };
        let answer = async {
            let event = ask.event();
            stage.api.answer_request(event, "request-1").await
        };
        tokio::join!(answer, end);
        let found = "SELECT category_key || ' ' || channel FROM harkara.preferences WHERE subject_id = $1 ORDER BY 1";
        let found: Vec<String> =
            sqlx::query_scalar(found).bind(subject.as_uuid()).fetch_all(&pool).await.expect("wishes");
        assert_eq!(found, left, "{}", ask.route);
        sqlx::query("DELETE FROM harkara.preferences").execute(&pool).await.expect("forgotten");
    }
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn whoever_has_more_categories_than_a_tenant_can_make_is_shown_them_all(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let many = "INSERT INTO harkara.categories (tenant_id, category_key, class, channels, unmutable_roles)
                SELECT $1::uuid, 'c' || n, 'transactional', '{email}', '{*}' FROM generate_series(1, 1000) n";
    sqlx::query(many).bind(TENANT).execute(&pool).await.expect("made");
    let put = async |key: &str| {
        stage.call(TENANT, "PUT /v1/categories/{key}", Some(key), "", &json!({"class": "security"}).to_string()).await
    };
    let refused = put("one-too-many").await;
    assert_eq!((refused.status, refused.pointers()), (422, vec![""]), "{refused:?}");
    assert_eq!(put("c7").await.status, 200, "what is there is replaced");

    // By key, it is the last of all.
    let last = "UPDATE harkara.categories SET category_key = 'zz' WHERE tenant_id = $1::uuid AND category_key = 'c9'";
    sqlx::query(last).bind(TENANT).execute(&pool).await.expect("renamed");
    let off = json!({"preferences": [{"category": "zz", "enabled": false}]}).to_string();
    let answer = stage.call(TENANT, "PUT /v1/recipients/{id}/preferences", Some("ada"), "", &off).await;
    assert_eq!((answer.status, answer.body["code"].as_str()), (422, Some("mandatory_category")), "{answer:?}");
    let token = sign(&stage, TENANT, subject_of(&pool, TENANT, "ada").await, Some("zz")).await;
    assert_eq!(post(&stage, UNSUBSCRIBE, &token, ONE_CLICK).await.status, 403);
    stage.finish().await;
}

/// Puts another tenant into the first tenant's token, as a forger would: it stands behind version and key's number.
fn rename_tenant(token: &str) -> impl Fn(&str) -> String {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).expect("a token");
    assert_eq!(bytes[3..19], *Uuid::parse_str(TENANT).expect("a UUID").as_bytes());
    move |other| {
        let mut forged = bytes.clone();
        forged[3..19].copy_from_slice(Uuid::parse_str(other).expect("a UUID").as_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(forged)
    }
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_is_no_form_of_ours_changes_nothing(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let subject = subject_of(&pool, TENANT, "ada").await;
    let token = sign(&stage, TENANT, subject, Some("greeting")).await;
    for (path, form) in [
        (UNSUBSCRIBE, ""),
        (UNSUBSCRIBE, "List-Unsubscribe=Two-Clicks"),
        (UNSUBSCRIBE, "List-Unsubscribe=One-Click&undo=1"),
        (PREFERENCES, ""),
        (PREFERENCES, ONE_CLICK),
        (PREFERENCES, "quiet_from=&quiet_until=&shown=pigeon%3Agreeting"),
    ] {
        assert_eq!(post(&stage, path, &token, form).await.status, 422, "{path} {form}");
    }
    let json = [("content-type", "application/json")];
    for path in [UNSUBSCRIBE, PREFERENCES] {
        assert_eq!(ask_page(&stage.api, &format!("POST {path}"), &token, &json, ONE_CLICK).await.status, 422);
        let large = format!("{ONE_CLICK}&x={}", "a".repeat(64 * 1024));
        assert_eq!(post(&stage, path, &token, &large).await.status, 413);
    }
    assert_eq!(wishes(&pool, subject).await, Vec::<Value>::new());
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_preference_centre_stores_what_was_chosen_and_no_more(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let subject = subject_of(&pool, TENANT, "ada").await;
    let token = sign(&stage, TENANT, subject, None).await;
    let news = json!({"class": "marketing", "template": "greeting", "name": "News & offers", "description": "Monthly"});
    stage.put(TENANT, "/v1/categories/{key}", "news", news).await;
    let shown = get(&stage, PREFERENCES, &token).await;
    assert!(shown.body.contains("News &amp; offers") && shown.body.contains("Monthly"), "{}", shown.body);

    let untouched = "shown=email%3Agreeting&on%3Aemail%3Agreeting=1&cadence%3Agreeting=immediate\
                     &shown=email%3Anews&on%3Aemail%3Anews=1&cadence%3Anews=immediate&quiet_from=&quiet_until=";
    let saved = post(&stage, PREFERENCES, &token, untouched).await;
    assert!(saved.status == 200 && saved.body.contains("have been saved"), "{saved:?}");
    assert_eq!(wishes(&pool, subject).await, Vec::<Value>::new(), "the tenant's own choice goes on to hold");

    let chosen = "shown=email%3Agreeting&on%3Aemail%3Agreeting=1&cadence%3Agreeting=weekly\
                  &shown=email%3Anews&cadence%3Anews=immediate&quiet_from=22%3A00&quiet_until=07%3A00";
    assert_eq!(post(&stage, PREFERENCES, &token, chosen).await.status, 200);
    let wish = |category: &str, channel: &str, is_on: Value, cadence: Value, from: Value, until: Value| {
        json!({"category_key": category, "channel": channel, "is_on": is_on, "cadence": cadence, "quiet_from": from,
               "quiet_until": until, "digest_time": null, "digest_weekday": null})
    };
    let none = Value::Null;
    let stored = [
        wish("*", "*", none.clone(), none.clone(), json!("22:00:00"), json!("07:00:00")),
        wish("greeting", "*", none.clone(), json!("weekly"), none.clone(), none.clone()),
        wish("news", "email", json!(false), none.clone(), none.clone(), none.clone()),
    ];
    assert_eq!(wishes(&pool, subject).await, stored);

    let wrong = chosen.replace("07%3A00", "25%3A00").replace("weekly", "daily");
    let refused = post(&stage, PREFERENCES, &token, &wrong).await;
    assert!(refused.status == 422 && refused.body.contains("Enter a time such as 22:00."), "{refused:?}");
    assert_eq!(wishes(&pool, subject).await, stored, "nothing is stored of a form with a mistake");
    let actor: String =
        sqlx::query_scalar("SELECT DISTINCT actor FROM harkara.audit_log WHERE table_name = 'preferences'")
            .fetch_one(&pool)
            .await
            .expect("one actor");
    assert_eq!(actor, format!("link of {}", subject.as_uuid()));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_page_speaks_its_readers_language_and_is_nobody_elses(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let token = sign(&stage, TENANT, subject_of(&pool, TENANT, "ada").await, Some("greeting")).await;
    let ask = async |path: &str, languages: &str| {
        ask_page(&stage.api, &format!("GET {path}"), &token, &[("accept-language", languages)], "").await
    };
    for path in [UNSUBSCRIBE, PREFERENCES] {
        assert!(ask(path, "fr-CA, en;q=0.5").await.body.contains("<html lang=\"fr\">"));
        assert!(ask(path, "zh").await.body.contains("<html lang=\"en\">"), "the tenant's");
    }
    let ada = json!({"email": "ada@example.org", "locale": "hi-IN"});
    stage.put(TENANT, "/v1/recipients/{id}", "ada", ada).await;
    for path in [UNSUBSCRIBE, PREFERENCES] {
        let page = ask(path, "fr").await;
        assert!(page.body.contains("<html lang=\"hi\">"), "what the recipient told the tenant counts");
        let header = |name: &str| page.headers[name].as_str().unwrap_or_else(|| panic!("no {name}")).to_owned();
        assert_eq!(header("content-type"), "text/html; charset=utf-8");
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("x-robots-tag"), "noindex");
        assert!(header("content-security-policy").starts_with("default-src 'none'; style-src 'sha256-"));
        assert!(!page.body.contains("ada@"), "nothing of a person is on it");
    }
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_address_that_is_no_recipients_leaves_by_its_link_too(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    stage.post(Stage::greeting("lin@example.org")).await;
    stage.drain().await;
    let subject: Uuid = sqlx::query_scalar(
        "SELECT harkara.address_subject(salt, 'lin@example.org') FROM harkara.tenants WHERE tenant_id = $1::uuid",
    )
    .bind(TENANT)
    .fetch_one(&pool)
    .await
    .expect("a subject");
    let token = sign(&stage, TENANT, SubjectId::from_uuid(subject), Some("greeting")).await;
    assert_eq!(post(&stage, UNSUBSCRIBE, &token, ONE_CLICK).await.status, 200);
    let id = stage.post(Stage::greeting("Lin@example.org")).await.id();
    stage.drain().await;
    assert_eq!(stage.outcome(&id).await.1.as_deref(), Some("preference_off"));
    assert_eq!(greet(&stage).await, "sent", "and nobody else does");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn while_the_key_service_is_out_a_page_asks_for_patience(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let subject = subject_of(&pool, TENANT, "ada").await;
    let token = sign(&stage, TENANT, subject, Some("greeting")).await;
    let cold = Api {
        database: stage.api.database.clone(),
        queue: stage.queue.clone(),
        bus: stage.bus.clone(),
        keys: LinkKeys::new(Arc::new(Envelope::new(stage.key_service.clone()))),
        public_url: stage.api.public_url.clone(),
        sender: stage.api.sender.clone(),
        local_endpoints: stage.api.local_endpoints.clone(),
    };
    let click = async || {
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        ask_page(&cold, "POST /v1/unsubscribe/{token}", &token, &headers, ONE_CLICK).await
    };
    stage.key_service.be_out(true);
    let page = click().await;
    assert!(page.status == 503 && page.body.contains("try again in a moment"), "{page:?}");
    assert_eq!(wishes(&pool, subject).await, Vec::<Value>::new());
    stage.key_service.be_out(false);
    assert_eq!(click().await.status, 200);
    stage.finish().await;
}
