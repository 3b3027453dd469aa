//! Templates: drafts and publications, languages, previews that equal the mail, and what was sent shown later.

use serde_json::{Value, json};
use sqlx::PgPool;
use std::collections::BTreeSet;
use tests::{Answer, OTHER_TENANT, Stage, TENANT};

async fn call(stage: &Stage, route: &str, key: &str, body: Value) -> Answer {
    stage.call(TENANT, route, Some(key), "", &body.to_string()).await
}

/// An observation in English and Hindi, with a date and an amount.
fn observation() -> Value {
    json!({
        "variables": {
            "number": {"type": "string", "example": "42"},
            "due": {"type": "datetime", "example": "2026-12-01T20:00:00Z"},
            "fine": {"type": "number", "example": 123456.5},
        },
        "variants": [
            {"locale": "en", "subject": "Observation {{ number }}", "html": "<p>{{ recipient.name or 'Hi' }}: {{ due|date('long') }}, {{ fine|money('INR') }}</p>"},
            {"locale": "hi", "subject": "अवलोकन {{ number }}", "html": "<p>{{ recipient.name or 'Hi' }}: {{ due|date('long') }}</p>"},
        ],
    })
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_hindi_recipient_in_kolkata_gets_the_hindi_variant_with_local_dates(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.publish(TENANT, "observation", observation()).await;
    stage
        .put(TENANT, "/v1/categories/{key}", "assigned", json!({"class": "transactional", "template": "observation"}))
        .await;
    for (id, locale) in [("asha", "hi-IN"), ("bob", "en-IN"), ("carl", "de-AT")] {
        let recipient =
            json!({"email": format!("{id}@example.org"), "name": id, "locale": locale, "time_zone": "Asia/Kolkata"});
        stage.put(TENANT, "/v1/recipients/{id}", id, recipient).await;
    }
    let data = json!({"number": "7", "due": "2026-12-01T20:00:00Z", "fine": 123456.5});
    for id in ["asha", "bob", "carl"] {
        stage.post(json!({"category": "assigned", "recipient": {"id": id}, "data": data})).await.id();
    }
    stage.drain().await;
    let mut mails = stage.mail.asked();
    mails.sort_by_key(|mail| mail.to.as_str().to_owned());
    let subjects: Vec<_> = mails.iter().map(|mail| mail.subject.as_str().to_owned()).collect();
    assert_eq!(subjects, ["अवलोकन 7", "Observation 7", "Observation 7"], "hi-IN finds hi, and German the tenant's");
    // Eight in the evening of the first in UTC is the second in India.
    assert!(mails[0].html.as_deref().is_some_and(|html| html.contains("2 दिसंबर 2026")), "{:?}", mails[0].html);
    assert!(
        mails[1].html.as_deref().is_some_and(|html| html.contains("2 December 2026") && html.contains("₹1,23,456.50")),
        "{:?}",
        mails[1].html
    );
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_preview_equals_the_mail_byte_for_byte_and_so_does_what_is_shown_later(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.publish(TENANT, "observation", observation()).await;
    stage
        .put(TENANT, "/v1/categories/{key}", "assigned", json!({"class": "transactional", "template": "observation"}))
        .await;
    let data = json!({"number": "7", "due": "2026-12-01T20:00:00Z", "fine": 1});
    let preview = json!({"version": 1, "recipient": {"id": "ada"}, "category": "assigned", "data": data});
    let preview = call(&stage, "POST /v1/templates/{key}/preview", "observation", preview).await;
    assert_eq!(preview.status, 200, "{preview:?}");
    let id = stage.post(json!({"category": "assigned", "recipient": {"id": "ada"}, "data": data})).await.id();
    stage.drain().await;
    let mail = &stage.mail.asked()[0];
    assert_eq!(preview.body["subject"], mail.subject.as_str());
    assert_eq!(preview.body["html"], json!(mail.html));
    assert_eq!(preview.body["text"], json!(mail.text));

    let delivery = stage.show(&id).await["deliveries"][0]["id"].as_str().expect("an id").to_owned();
    let content = async || stage.call(TENANT, "GET /v1/deliveries/{id}/content", Some(&delivery), "", "").await.body;
    let shown = content().await;
    assert_eq!((&shown["html"], &shown["is_as_sent"]), (&json!(mail.html), &json!(true)));
    assert_eq!(shown["content_hash"], preview.body["content_hash"]);
    // A later version changes nothing about what was sent; another name of the recipient does, and is told.
    stage.publish(TENANT, "observation", json!({"subject": "new", "text": "t"})).await;
    assert_eq!(content().await["is_as_sent"], true);
    stage.put(TENANT, "/v1/recipients/{id}", "ada", json!({"email": "ada@example.org", "name": "Lovelace"})).await;
    assert_eq!(content().await["is_as_sent"], false);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_draft_changes_nothing_until_it_is_published_and_a_bad_one_never_is(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let draft = json!({"variants": [{"locale": "en", "subject": "draft", "text": "draft"}]});
    stage.put(TENANT, "/v1/templates/{key}", "greeting", draft).await;
    stage.post(Stage::greeting("ada@example.org")).await;
    stage.drain().await;
    assert_eq!(stage.mail.asked()[0].subject.as_str(), "Hello Ada");

    let bad = json!({"variants": [{"locale": "en", "subject": "s", "html": "<p>ok</p>\n<p>{{ oops </p>", "text": "{% set x = 1 %}"}]});
    stage.put(TENANT, "/v1/templates/{key}", "greeting", bad).await;
    let refused = call(&stage, "POST /v1/templates/{key}/publish", "greeting", json!({})).await;
    assert_eq!(refused.status, 422, "{refused:?}");
    assert_eq!(BTreeSet::from_iter(refused.pointers()), BTreeSet::from(["/variants/0/html", "/variants/0/text"]));
    let errors = refused.body["errors"].as_array().expect("a list");
    let html = errors.iter().find(|error| error["pointer"] == "/variants/0/html").expect("one");
    assert!(html["detail"].as_str().is_some_and(|detail| detail.starts_with("line 2 column ")), "{refused:?}");
    let row = stage.call(TENANT, "GET /v1/templates/{key}", Some("greeting"), "", "").await;
    assert_eq!(row.body["published_version"], 1);

    let never = json!({"variants": [{"locale": "en", "subject": "s", "text": "t"}]});
    stage.put(TENANT, "/v1/templates/{key}", "never", never).await;
    stage.put(TENANT, "/v1/categories/{key}", "never", json!({"class": "transactional", "template": "never"})).await;
    let unpublished = stage.post(json!({"category": "never", "recipient": {"id": "ada"}})).await;
    assert_eq!((unpublished.status, unpublished.pointers()), (422, vec!["/template"]));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_variable_that_is_missing_or_wrong_is_refused_at_the_door(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.publish(TENANT, "observation", observation()).await;
    let ask = async |data: Value| {
        stage
            .post(json!({"category": "greeting", "template": "observation", "recipient": {"id": "ada"}, "data": data}))
            .await
    };
    let missing = ask(json!({"due": "tomorrow", "fine": 1})).await;
    assert_eq!((missing.status, missing.pointers()), (422, vec!["/data/due", "/data/number"]), "{missing:?}");
    assert_eq!(ask(json!({"number": "1", "due": "2026-12-01T20:00:00Z", "fine": 1})).await.status, 202);
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_instance_loads_a_template_once_for_all_its_recipients(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.post(Stage::greeting("first@example.org")).await;
    stage.drain().await;
    // A version never changes; where it does all the same, an instance that loaded it once does not see it.
    let statement = "UPDATE harkara.template_versions SET subject = 'changed'";
    sqlx::query(statement).execute(&stage.admin).await.expect("changed");
    let to = |n: usize| json!({"email": format!("r{n}@example.org")});
    let many =
        json!({"category": "greeting", "recipients": (0..1000).map(to).collect::<Vec<_>>(), "data": {"name": "Ada"}});
    assert_eq!(stage.post(many).await.status, 202);
    stage.drain().await;
    let subjects: BTreeSet<_> = stage.mail.asked().iter().map(|mail| mail.subject.as_str().to_owned()).collect();
    assert_eq!((subjects, stage.mail.asked().len()), (BTreeSet::from(["Hello Ada".to_owned()]), 1001));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_no_send_could_render_is_never_published(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let publish = async |text: &str| {
        let draft = json!({"variants": [{"locale": "en", "subject": "s", "text": text}]});
        stage.put(TENANT, "/v1/templates/{key}", "own", draft).await;
        call(&stage, "POST /v1/templates/{key}/publish", "own", json!({})).await
    };
    for text in ["Hi {{ nmae }}", "{{ recipient.phone }}", "{{ tenant.id }}", "{{ recipient.name }}"] {
        let refused = publish(text).await;
        assert_eq!((refused.status, refused.pointers()), (422, vec!["/variants/0/text"]), "{text}: {refused:?}");
    }
    // What passes renders for somebody of whom there is an address and nothing else.
    let text = "{{ recipient.name or 'you' }}, {{ recipient.attributes.city|default('there') }}: {{ tenant.name }}";
    assert_eq!(publish(text).await.status, 200);
    stage.put(TENANT, "/v1/categories/{key}", "own", json!({"class": "transactional", "template": "own"})).await;
    let named = json!({"email": "asha@example.org", "name": "Asha", "attributes": {"city": "Pune"}});
    stage.put(TENANT, "/v1/recipients/{id}", "asha", named).await;
    for recipient in [json!({"email": "bob@example.org"}), json!({"id": "asha"})] {
        stage.post(json!({"category": "own", "recipient": recipient})).await.id();
    }
    stage.drain().await;
    let first = |text: &Option<String>| text.as_deref().and_then(|text| text.lines().next()).map(str::to_owned);
    let mails: BTreeSet<_> = stage.mail.asked().iter().filter_map(|mail| first(&mail.text)).collect();
    assert_eq!(mails, BTreeSet::from(["Asha, Pune: first".to_owned(), "you, there: first".to_owned()]));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_preview_has_the_short_text_of_a_draft_and_of_a_version(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let draft = json!({
        "variables": {"number": {"type": "string", "example": "42"}},
        "subject": "s", "text": "t", "short_text": "No. {{ number }} für {{ recipient.name or 'you' }}",
    });
    stage.publish(TENANT, "own", draft).await;
    let preview = async |body: Value| call(&stage, "POST /v1/templates/{key}/preview", "own", body).await.body;
    let shown = preview(json!({"recipient": {"id": "ada"}})).await;
    assert_eq!((&shown["short_text"], &shown["size_bytes"]["short_text"]), (&json!("No. 42 für Ada"), &json!(15)));
    let shown = preview(json!({"version": 1, "recipient": {"name": "Bob"}, "data": {"number": "7"}})).await;
    assert_eq!(shown["short_text"], "No. 7 für Bob");
    let shown = call(&stage, "POST /v1/templates/{key}/preview", "greeting", json!({})).await.body;
    assert_eq!((&shown["short_text"], &shown["size_bytes"]["short_text"]), (&Value::Null, &json!(0)));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_an_erased_recipient_was_told_is_gone(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let told = json!({"category": "greeting", "recipient": {"id": "ada"}, "data": {"name": "Ada"}});
    let whole = json!({"category": "greeting", "recipient": {"id": "ada"}, "subject": "s", "text": "t"});
    let inline = json!({
        "category": "greeting", "recipient": {"id": "bob"}, "subject": "s", "text": "Dear {{ recipient.attributes.title }}",
    });
    let bob = json!({"email": "bob@example.org", "attributes": {"title": "Dr"}});
    stage.put(TENANT, "/v1/recipients/{id}", "bob", bob).await;
    let mut deliveries = Vec::new();
    for body in [told, whole, inline] {
        let id = stage.post(body).await.id();
        deliveries.push(stage.show(&id).await["deliveries"][0]["id"].as_str().expect("an id").to_owned());
    }
    stage.drain().await;
    let content = async |id: &str| stage.call(TENANT, "GET /v1/deliveries/{id}/content", Some(id), "", "").await;
    for id in &deliveries {
        assert_eq!(content(id).await.body["is_as_sent"], true);
    }
    assert_eq!(stage.call(TENANT, "DELETE /v1/recipients/{id}", Some("ada"), "", "").await.status, 204);
    stage.put(TENANT, "/v1/recipients/{id}", "bob", json!({"email": "bob@example.org"})).await;
    for id in &deliveries {
        let gone = content(id).await;
        assert_eq!((gone.status, &gone.body["code"]), (410, &json!("gone")), "{gone:?}");
    }
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_recipient_without_a_language_or_zone_gets_the_tenants(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.publish(TENANT, "observation", observation()).await;
    let settings = async |method: &str, body: &str| {
        let answer = stage.call(TENANT, &format!("{method} /v1/settings"), None, "", body).await;
        (answer.status, answer.body["locale"].clone(), answer.body["time_zone"].clone())
    };
    let (none, hindi) = ((200, json!("en"), json!("UTC")), (200, json!("hi-IN"), json!("Asia/Kolkata")));
    assert_eq!(settings("GET", "").await, none);
    let told = json!({"locale": "hi-in", "time_zone": "asia/kolkata"}).to_string();
    assert_eq!(settings("PUT", &told).await, hindi);
    assert_eq!(settings("GET", "").await, hindi);
    let other = stage.call(OTHER_TENANT, "GET /v1/settings", None, "", "").await;
    assert_eq!((&other.body["locale"], &other.body["time_zone"]), (&none.1, &none.2));
    let ask = json!({
        "category": "greeting", "template": "observation", "recipient": {"email": "asha@example.org"},
        "data": {"number": "7", "due": "2026-12-01T20:00:00Z", "fine": 1},
    });
    stage.post(ask).await.id();
    stage.drain().await;
    let mail = &stage.mail.asked()[0];
    assert_eq!(mail.subject.as_str(), "अवलोकन 7");
    assert!(mail.html.as_deref().is_some_and(|html| html.contains("2 दिसंबर 2026")), "{:?}", mail.html);

    let wrong = json!({"locale": "x", "time_zone": "IST"}).to_string();
    let refused = stage.call(TENANT, "PUT /v1/settings", None, "", &wrong).await;
    assert_eq!((refused.status, refused.pointers()), (422, vec!["/locale", "/time_zone"]), "{refused:?}");
    assert_eq!(settings("GET", "").await, hindi);
    // What is left out has its default.
    assert_eq!(settings("PUT", "{}").await, none);
    let audited = "SELECT count(*) FROM harkara.audit_log WHERE table_name = 'tenants' AND operation = 'UPDATE'";
    assert_eq!(stage.count(audited).await, 2);
    stage.finish().await;
}
