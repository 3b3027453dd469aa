//! Logs hold nobody's data: planted words are looked for in everything that a whole life of a notification logs.

use adapters::store::database::StoreError;
use adapters::telemetry::{chain, digest};
use domain::delivery::Reason;
use domain::outcome::{ProviderError, SendOutcome};
use local::ses::{Happening, MailFacts, ToldEvent};
use serde_json::{Value, json};
use sqlx::PgPool;
use std::collections::BTreeSet;
use std::time::Duration;
use tests::privacy::{self, CANARIES, Heard, find_leaks};
use tests::{Stage, TENANT};

/// What a provider says, with the address in it, as SES does.
fn words(code: &str) -> ProviderError {
    let said = format!("Email address is not verified: {}, {}", privacy::SENDER_EMAIL, privacy::INLINE_EMAIL);
    ProviderError { code: code.to_owned(), detail: said }
}

/// What SES tells of a mail that the stage's provider was asked to send.
fn told(stage: &Stage, place: usize, happening: Happening) -> String {
    let mail = &stage.mail.asked()[place];
    let tags = [("nid", &mail.tags.notification), ("att", &mail.tags.attempt), ("t", &mail.tags.tenant)];
    let facts = MailFacts {
        message_id: format!("provider-{}", place + 1),
        at: "2026-11-21T10:00:00Z".parse().expect("a time"),
        from: format!("{} <{}>", privacy::NAME, privacy::SENDER_EMAIL),
        to: vec![mail.to.as_str().to_owned()],
        tags: tags.map(|(name, value)| (name.to_owned(), value.as_str().to_owned())).into(),
        configuration_set: Some("harkara".to_owned()),
    };
    ToldEvent::new(&facts, happening).event_bridge.to_string()
}

/// A sender, a recipient and categories with planted words.
async fn plant(stage: &Stage) {
    sqlx::query("UPDATE harkara.tenants SET from_address = $1, from_name = $2 WHERE tenant_id = $3::uuid")
        .bind(privacy::SENDER_EMAIL)
        .bind(privacy::NAME)
        .bind(TENANT)
        .execute(&stage.admin)
        .await
        .expect("planted");
    stage.put(TENANT, "/v1/recipients/{id}", "planted", privacy::recipient()).await;
    let variables = json!({"secret": {"type": "string", "example": "none"}});
    let template = json!({"variables": variables, "subject": "{{ secret }}", "text": privacy::CONTENT});
    stage.publish(TENANT, "planted", template).await;
    stage.put(TENANT, "/v1/categories/{key}", "planted", json!({"class": "security", "template": "planted"})).await;
}

/// Posts with a token in the headers, and an idempotency key.
async fn post(stage: &Stage, body: Value, key: &str) -> i64 {
    let token = format!("Bearer {}", privacy::TOKEN);
    stage.post_as(TENANT, body, &[("authorization", &token), ("idempotency-key", key)]).await.status
}

/// Everything that goes well: inline and known, sent, bounced, complained, suppressed, listed, canceled.
async fn live(stage: &Stage) {
    assert_eq!(post(stage, privacy::notification("greeting"), "one").await, 202);
    let known = json!({"category": "planted", "recipient": {"id": "planted"}, "data": {"secret": privacy::DATA}});
    assert_eq!(post(stage, known.clone(), "two").await, 202);
    stage.drain().await;
    for (place, happening) in [(0, Happening::HardBounce), (1, Happening::Delivery), (1, Happening::Complaint)] {
        assert_eq!(stage.feed(&[told(stage, place, happening)]).await, Vec::<usize>::new());
    }
    assert_eq!(post(stage, privacy::notification("greeting"), "three").await, 202);
    stage.drain().await;
    for route in ["GET /v1/notifications", "GET /v1/suppressions", "GET /v1/audit", "GET /v1/dead-letters"] {
        assert_eq!(stage.call(TENANT, route, None, "", "").await.status, 200, "{route}");
    }
    for method in ["PUT", "GET", "DELETE", "GET"] {
        let route = format!("{method} /v1/suppressions/{{address}}");
        stage.call(TENANT, &route, Some(privacy::SUPPRESSED_EMAIL), "", "").await;
    }
    stage.feed(&[told(stage, 0, Happening::HardBounce), format!("no event of {}", privacy::KNOWN_EMAIL)]).await;
}

/// Everything that goes wrong: refused by the provider, by the renderer, by the parser, by the database; poisoned, dead.
async fn fail(stage: &Stage) {
    let failing = || SendOutcome::ServerFailed(words("InternalFailure"));
    stage.mail.script(privacy::SUPPRESSED_EMAIL, [failing as fn() -> _; 3]);
    let mut dying = privacy::notification("greeting");
    dying["recipient"]["email"] = privacy::SUPPRESSED_EMAIL.into();
    assert_eq!(post(stage, dying.clone(), "four").await, 202);
    stage.drain().await;
    stage.store_dead_letters().await;

    let mut unrenderable = privacy::notification("planted");
    unrenderable["recipient"]["email"] = privacy::SUPPRESSED_EMAIL.into();
    unrenderable["subject"] = format!("{{{{ missing }}}} {}", privacy::CONTENT).into();
    post(stage, unrenderable, "five").await;
    stage.drain().await;
    stage.store_dead_letters().await;

    let mut wrong = privacy::notification("nonsense");
    wrong[privacy::FIELD] = privacy::DATA.into();
    assert_eq!(post(stage, wrong.clone(), "six").await, 422);
    wrong["tenant_id"] = TENANT.into();
    let event = |id: &str, detail: &Value| json!({"id": id, "source": "a.domain", "detail-type": "notification.requested", "detail": detail});
    let refused = stage.enqueue.accept_event(&event("event-1", &wrong)).await.expect_err("refused");
    // The runtime logs what a handler returns, both ways.
    tracing::error!("{refused} {refused:?}");
    let mut part = json!({"notifications": [privacy::notification("greeting"), privacy::notification("greeting")]});
    part["tenant_id"] = TENANT.into();
    part["notifications"][1][privacy::FIELD] = privacy::DATA.into();
    stage.enqueue.accept_event(&event("event-2", &part)).await.expect("a part of it");
    stage.drain().await;

    // The server quotes the row that it refuses; so that it does, addresses are made unique.
    let unique = "CREATE UNIQUE INDEX one_of_each ON harkara.recipients (tenant_id, email)";
    sqlx::query(unique).execute(&stage.admin).await.expect("an index");
    let body = privacy::recipient().to_string();
    let conflict = stage.call(TENANT, "PUT /v1/recipients/{id}", Some("second"), "", &body).await;
    assert_eq!(conflict.status, 409, "{conflict:?}");
    assert_eq!(find_leaks(&conflict.body.to_string(), CANARIES), Vec::<&str>::new());
    sqlx::query("DROP INDEX harkara.one_of_each").execute(&stage.admin).await.expect("dropped");

    // A sender that the provider does not know opens its breaker; then mail waits, and goes again.
    stage.mail.script(privacy::KNOWN_EMAIL.replace("known", "other").as_str(), [unverified as fn() -> _]);
    let mut held = privacy::notification("greeting");
    held["recipient"]["email"] = privacy::KNOWN_EMAIL.replace("known", "other").into();
    assert_eq!(post(stage, held, "seven").await, 202);
    stage.process(Duration::ZERO).await;
    stage.pass(Duration::from_secs(3600)).await;
    stage.dispatch().await;
    stage.drain().await;
}

fn unverified() -> SendOutcome {
    SendOutcome::Held(Reason::IdentityUnverified, words("MailFromDomainNotVerifiedException"))
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn nothing_that_was_planted_is_in_the_logs_of_a_whole_life(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let heard = Heard::default();
    // As much as anybody can switch on.
    let listening = heard.listen("trace");
    plant(&stage).await;
    live(&stage).await;
    fail(&stage).await;
    drop(listening);
    let log = heard.text();
    // What is looked at is the log: these lines are of each function, of good ends and of bad ones.
    for line in [
        "accepted request",
        "ended sent",
        "is a dead letter",
        "a part of event",
        "the store has a conflict",
        "mail is held back",
        "mail goes again",
        "dispatched what was due",
        "is no event",
        "was bounced",
    ] {
        assert!(log.contains(line), "{line:?} was not logged:\n{log}");
    }
    assert_eq!(find_leaks(&log, CANARIES), Vec::<&str>::new(), "{log}");
    assert!(log.contains("\"breaker\":\"identity:"), "{log}");
    // Of an address that nothing came to, what is said in other lines can be found by whoever has the salt.
    let salt = "SELECT salt FROM harkara.tenants WHERE tenant_id = $1::uuid";
    let salt: Vec<u8> = sqlx::query_scalar(salt).bind(TENANT).fetch_one(&stage.admin).await.expect("a salt");
    let known = format!("\"address\":\"{}\"", digest(&salt, privacy::SUPPRESSED_EMAIL));
    assert!(log.contains(&known), "{log}");
    stage.finish().await;
}

/// The SDK prints whole requests when it is asked to, and so does whatever others log.
#[test]
fn other_crates_are_not_heard_below_info() {
    let heard = Heard::default();
    let listening = heard.listen("trace");
    tracing::trace!(target: "aws_smithy_runtime::client", "quiet");
    tracing::debug!(target: "lambda_runtime", "quiet");
    tracing::info!(target: "lambda_runtime", "loud");
    tracing::trace!(target: "flow::processor", "loud");
    drop(listening);
    let lines: Vec<_> = heard.text().lines().map(|line| line.contains("loud")).collect();
    assert_eq!(lines, [true, true], "{}", heard.text());
}

/// Tests run beside each other, and most of them do not listen.
#[test]
fn a_line_is_heard_also_when_somebody_who_does_not_listen_comes_to_it_first() {
    let say = || tracing::info!("said");
    let heard = Heard::default();
    let listening = heard.listen("info");
    std::thread::spawn(say).join().expect("it is said");
    say();
    drop(listening);
    assert_eq!(heard.text().matches("said").count(), 1, "{}", heard.text());
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_error_of_the_store_names_what_was_refused_and_quotes_nothing(pool: PgPool) {
    let mut seen = BTreeSet::new();
    for (statement, named) in [
        (
            "INSERT INTO harkara.recipients (tenant_id, recipient_id, email)
             SELECT '00000000-0000-0000-0000-000000000000', $1, $1 FROM generate_series(1, 2)",
            "SQLSTATE 23505, constraint recipients_pkey, table recipients",
        ),
        (
            "INSERT INTO harkara.suppressions (tenant_id, address, reason, source)
             VALUES ('00000000-0000-0000-0000-000000000000', upper($1), 'manual', 'api')",
            "SQLSTATE 23514, constraint address_is_lower_case, table suppressions",
        ),
        ("SELECT $1::uuid", "SQLSTATE 22P02"),
        ("SELECT $1::text::timestamptz", "SQLSTATE 22007"),
        ("SELECT 1 FROM harkara.nothing WHERE $1 = ''", "relation \"harkara.nothing\" does not exist"),
    ] {
        let error = sqlx::query(statement).bind(privacy::KNOWN_EMAIL).fetch_all(&pool).await.expect_err("refused");
        assert!(find_leaks(&format!("{error:?}"), CANARIES).len() <= 1);
        seen.extend(find_leaks(&format!("{error:?}"), CANARIES));
        let error = StoreError::from(error);
        let said = format!("{} {error:?}", chain(&error));
        assert_eq!(find_leaks(&said, CANARIES), Vec::<&str>::new(), "{said}");
        assert!(said.contains(named), "{said}");
    }
    assert_eq!(seen, BTreeSet::from([privacy::KNOWN_EMAIL]), "the driver itself does quote it");
}
