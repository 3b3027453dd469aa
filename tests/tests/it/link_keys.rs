//! A tenant has one key for its links, however many make it at once; it opens in its own row, for its own tenant.

use adapters::envelope::{Envelope, EnvelopeError};
use adapters::store::database::{Database, DatabaseConfig};
use adapters::store::keys::{LinkKeyError, LinkKeys, insert_next};
use domain::id::{CategoryKey, TenantId};
use domain::link::{ForgedLink, LinkKeyRing, LinkToken, SubjectId, UnverifiedLink};
use domain::secret::KeyServiceError;
use futures::future::join_all;
use sqlx::PgPool;
use std::sync::Arc;
use std::time::Duration;
use tests::privacy::Heard;
use tests::{OTHER_TENANT, ScriptedKeyService, Stage, TENANT, shift_time};
use uuid::Uuid;

/// How long a link key is known before it signs.
const SETTLING: Duration = Duration::from_secs(10 * 60);

fn id(text: &str) -> TenantId {
    TenantId::parse(text).expect("a tenant's id")
}

/// A new instance of a function.
fn instance(service: &ScriptedKeyService) -> LinkKeys<ScriptedKeyService> {
    LinkKeys::new(Arc::new(Envelope::new(service.clone())))
}

/// A database that nobody can reach.
fn nowhere() -> Database {
    Database::new(DatabaseConfig::Url("postgres://nobody@127.0.0.1:1/none".into()))
}

fn token(tenant: &str) -> LinkToken {
    LinkToken {
        tenant: id(tenant),
        subject: SubjectId::from_uuid(Uuid::from_u128(8)),
        category: Some(CategoryKey::parse("greeting").expect("a key")),
    }
}

fn print(ring: &LinkKeyRing, tenant: &str) -> String {
    ring.print(&token(tenant)).expect("the ring is the tenant's")
}

fn verify(ring: &LinkKeyRing, text: &str) -> Result<LinkToken, ForgedLink> {
    ring.verify(&UnverifiedLink::parse(text)?)
}

async fn count(pool: &PgPool, table: &str) -> i64 {
    let statement = match table {
        "link_keys" => "SELECT count(*) FROM harkara.link_keys",
        _ => "SELECT count(*) FROM harkara.tenant_keys",
    };
    sqlx::query_scalar(statement).fetch_one(pool).await.expect("counted")
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn many_instances_that_begin_at_once_end_with_one_key(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let service = ScriptedKeyService::default();
    let (api, worker) = (&stage.api.database, &stage.processor.database);
    let begin = async |n: usize| {
        let keys = instance(&service);
        if n.is_multiple_of(2) {
            print(&keys.load_or_create(api, id(TENANT), "tester").await.expect("a key"), TENANT)
        } else {
            let mut rings = keys.load_or_create_across_tenants(worker, &[id(TENANT)]).await.expect("the store answers");
            print(&rings.remove(&id(TENANT)).expect("an entry").expect("a key"), TENANT)
        }
    };
    let printed = join_all((0..8).map(begin)).await;
    assert!(printed.iter().all(|text| *text == printed[0]), "{printed:?}");
    assert_eq!((count(&pool, "link_keys").await, count(&pool, "tenant_keys").await), (1, 1));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_warm_instance_asks_neither_the_database_nor_the_key_service(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let service = ScriptedKeyService::default();
    let tenants = [id(TENANT), id(OTHER_TENANT), id(TENANT)];
    let keys = instance(&service);
    keys.load_or_create_across_tenants(&stage.processor.database, &tenants).await.expect("the store answers");
    let calls = service.call_count();
    let rings = keys.load_or_create_across_tenants(&nowhere(), &tenants).await.expect("nothing is asked");
    assert_eq!(rings.len(), 2);
    let ring = keys.load_or_create(&nowhere(), id(TENANT), "tester").await.expect("nothing is asked");
    assert_eq!(print(&ring, TENANT), print(rings[&id(TENANT)].as_ref().expect("a ring"), TENANT));
    assert!(keys.load(&nowhere(), id(TENANT), "tester").await.expect("nothing is asked").is_some());
    assert_eq!(service.call_count(), calls);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn whoever_only_verifies_makes_no_key(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let service = ScriptedKeyService::default();
    let found = instance(&service).load(&stage.api.database, id(TENANT), "tester").await.expect("the store answers");
    assert!(found.is_none());
    assert_eq!((count(&pool, "link_keys").await, count(&pool, "tenant_keys").await), (0, 0));
    assert_eq!(service.call_count(), 0);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn while_the_key_service_is_out_a_tenant_waits_and_the_others_do_not(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let (service, worker) = (ScriptedKeyService::default(), &stage.processor.database);
    let keys = instance(&service);
    let first = keys.load_or_create_across_tenants(worker, &[id(TENANT)]).await.expect("the store answers");
    service.be_out(true);
    let mut rings =
        keys.load_or_create_across_tenants(worker, &[id(TENANT), id(OTHER_TENANT)]).await.expect("the store answers");
    let error = rings.remove(&id(OTHER_TENANT)).expect("an entry").expect_err("no key without the service");
    assert!(error.is_temporary(), "{error:?}");
    assert_eq!(
        print(rings[&id(TENANT)].as_ref().expect("remembered"), TENANT),
        print(first[&id(TENANT)].as_ref().expect("a key"), TENANT)
    );
    let cold = instance(&service).load_or_create(&stage.api.database, id(TENANT), "tester").await;
    assert!(matches!(cold, Err(LinkKeyError::Envelope(error)) if error.is_temporary()));
    assert_eq!(count(&pool, "link_keys").await, 1, "nothing is stored that nothing could open");

    service.be_out(false);
    let rings = keys.load_or_create_across_tenants(worker, &[id(OTHER_TENANT)]).await.expect("the store answers");
    assert!(rings[&id(OTHER_TENANT)].is_ok());
    stage.finish().await;
}

/// Security mail with a template, which nobody can leave.
async fn put_security(stage: &Stage, category: &str, template: &str) {
    let body = serde_json::json!({"class": "security", "template": template});
    stage.put(TENANT, "/v1/categories/{key}", category, body).await;
}

async fn ask(stage: &Stage, category: &str) -> String {
    let body = serde_json::json!({"category": category, "recipient": {"id": "ada"}, "data": {"name": "Ada"}});
    stage.post(body).await.id()
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn mail_that_cannot_be_left_and_names_no_link_waits_for_no_key(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let naming = serde_json::json!({"subject": "Welcome", "text": "Choose: {{ preferences_url }}"});
    stage.publish(TENANT, "naming", naming).await;
    put_security(&stage, "password_reset", "greeting").await;
    put_security(&stage, "welcome", "naming").await;
    stage.key_service.be_out(true);
    let reset = ask(&stage, "password_reset").await;
    stage.process(Duration::ZERO).await;
    assert_eq!(stage.outcome(&reset).await.0, "sent");
    assert_eq!(stage.key_service.call_count(), 0, "nobody waits for a key service that is not needed");

    let (left, named) = (ask(&stage, "greeting").await, ask(&stage, "welcome").await);
    let inline = serde_json::json!({"category": "password_reset", "recipient": {"id": "ada"}, "subject": "Reset",
        "text": "Or leave: {{ unsubscribe_url }}"});
    let inline = stage.post(inline).await.id();
    stage.process(Duration::ZERO).await;
    for waiting in [&left, &named, &inline] {
        assert_eq!(stage.outcome(waiting).await, ("queued".to_owned(), None, 0));
    }
    stage.key_service.be_out(false);
    stage.drain().await;
    for gone in [&left, &named, &inline] {
        assert_eq!(stage.outcome(gone).await.0, "sent");
    }
    let texts: Vec<_> = stage.mail.asked().into_iter().filter_map(|mail| mail.text).collect();
    for link in ["Choose: https://notices.harkara.test/", "Or leave: https://notices.harkara.test/"] {
        assert_eq!(texts.iter().filter(|text| text.contains(link)).count(), 1, "{texts:?}");
    }
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn lost_keys_are_told_to_an_alarm_and_hold_back_what_can_be_left_only(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    put_security(&stage, "password_reset", "greeting").await;
    // Wrapped by a key that the stage's service does not have.
    let elsewhere = instance(&ScriptedKeyService::default());
    elsewhere.load_or_create(&stage.api.database, id(TENANT), "tester").await.expect("a key");
    let (reset, left) = (ask(&stage, "password_reset").await, ask(&stage, "greeting").await);
    let heard = Heard::default();
    let listening = heard.listen("info");
    stage.process(Duration::ZERO).await;
    drop(listening);
    assert_eq!(stage.outcome(&reset).await.0, "sent");
    assert_eq!(stage.outcome(&left).await, ("queued".to_owned(), None, 0));
    let log = heard.text();
    assert_eq!(log.matches("\"metric\":\"link_keys_lost\"").count(), 1, "{log}");
    let heard = Heard::default();
    let listening = heard.listen("info");
    stage.key_service.be_out(true);
    stage.pass(Duration::from_secs(1)).await;
    stage.process(Duration::from_secs(1)).await;
    drop(listening);
    let log = heard.text();
    assert!(
        log.contains("ended not_sent") && !log.contains("link_keys_lost"),
        "what passes by itself is no loss: {log}"
    );
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_tenant_that_does_not_exist_gets_no_key_and_holds_up_nobody(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let service = ScriptedKeyService::default();
    let nobody = id("018f0000-0000-7000-8000-0000000000ff");
    let rings =
        instance(&service).load_or_create_across_tenants(&stage.processor.database, &[nobody, id(TENANT)]).await;
    let rings = rings.expect("the store answers");
    assert!(rings[&id(TENANT)].is_ok());
    assert!(!rings.contains_key(&nobody));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_rotated_key_signs_once_everybody_knows_it_and_old_links_stay_good(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let service = ScriptedKeyService::default();
    let api = &stage.api.database;
    let warm = instance(&service);
    let before = warm.load_or_create(api, id(TENANT), "tester").await.expect("a key");
    let old = print(&before, TENANT);
    shift_time(&pool, SETTLING).await;
    let made = warm.make_next(api, id(TENANT), "tester").await.expect("made");
    let mut transaction = api.begin(id(TENANT), "tester").await.expect("begun");
    assert_eq!(insert_next(&mut transaction, &made).await.expect("stored").number(), 2);
    transaction.commit().await.expect("committed");

    let soon = instance(&service).load_or_create(api, id(TENANT), "tester").await.expect("two keys");
    assert_eq!(print(&soon, TENANT), old, "an instance that remembers the old keys could not verify a new link");
    shift_time(&pool, SETTLING).await;
    let later = instance(&service).load_or_create(api, id(TENANT), "tester").await.expect("two keys");
    let new = print(&later, TENANT);
    assert_ne!(new, old);
    for text in [&old, &new] {
        assert_eq!(verify(&soon, text), Ok(token(TENANT)), "whoever loaded after the rotation knows both");
        assert_eq!(verify(&later, text), Ok(token(TENANT)));
    }
    assert_eq!(count(&pool, "tenant_keys").await, 1, "the data key stays");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_links_of_a_withdrawn_key_are_forgeries(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let service = ScriptedKeyService::default();
    let api = &stage.api.database;
    let before = instance(&service).load_or_create(api, id(TENANT), "tester").await.expect("a key");
    let old = print(&before, TENANT);
    let withdraw = "UPDATE harkara.link_keys SET retired_at = harkara.now()";
    sqlx::query(withdraw).execute(&pool).await.expect("the operator may");

    assert!(instance(&service).load(api, id(TENANT), "tester").await.expect("the store answers").is_none());
    let after = instance(&service).load_or_create(api, id(TENANT), "tester").await.expect("another key");
    assert_eq!(verify(&after, &old), Err(ForgedLink));
    let new = print(&after, TENANT);
    assert_ne!(new, old);
    assert_eq!(verify(&after, &new), Ok(token(TENANT)));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_key_that_was_moved_to_another_tenant_or_row_does_not_open(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let service = ScriptedKeyService::default();
    let api = &stage.api.database;
    instance(&service).load_or_create(api, id(TENANT), "tester").await.expect("a key");
    instance(&service).load_or_create(api, id(OTHER_TENANT), "tester").await.expect("a key");
    let load = async || instance(&service).load(api, id(OTHER_TENANT), "tester").await;
    let own: (Vec<u8>, Vec<u8>) = sqlx::query_as(
        "SELECT wrapped_key, sealed_secret FROM harkara.tenant_keys JOIN harkara.link_keys USING (tenant_id)
         WHERE tenant_id = $1::uuid",
    )
    .bind(OTHER_TENANT)
    .fetch_one(&pool)
    .await
    .expect("both keys");
    let copy = async |column: &str| {
        let statement = match column {
            "wrapped_key" => {
                "UPDATE harkara.tenant_keys t SET wrapped_key = o.wrapped_key FROM harkara.tenant_keys o
                 WHERE t.tenant_id = $1::uuid AND o.tenant_id = $2::uuid"
            }
            _ => {
                "UPDATE harkara.link_keys t SET sealed_secret = o.sealed_secret FROM harkara.link_keys o
                 WHERE t.tenant_id = $1::uuid AND o.tenant_id = $2::uuid"
            }
        };
        sqlx::query(statement).bind(OTHER_TENANT).bind(TENANT).execute(&pool).await.expect("copied by an intruder");
    };

    copy("sealed_secret").await;
    assert!(matches!(load().await, Err(LinkKeyError::Envelope(EnvelopeError::Unreadable))));
    copy("wrapped_key").await;
    let both = load().await;
    assert!(
        matches!(&both, Err(LinkKeyError::Envelope(EnvelopeError::Key(KeyServiceError::Refused(_))))),
        "the key service refuses the other tenant's key: {both:?}"
    );

    let restore = "UPDATE harkara.tenant_keys SET wrapped_key = $2 WHERE tenant_id = $1::uuid";
    sqlx::query(restore).bind(OTHER_TENANT).bind(&own.0).execute(&pool).await.expect("restored");
    let restore = "UPDATE harkara.link_keys SET sealed_secret = $2, key_id = $3 WHERE tenant_id = $1::uuid";
    for (number, opens) in [(2, false), (1, true)] {
        let restored = sqlx::query(restore).bind(OTHER_TENANT).bind(&own.1).bind(number).execute(&pool).await;
        restored.expect("restored");
        assert_eq!(load().await.is_ok(), opens, "as row {number}");
    }
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_secret_is_nowhere_in_the_database(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let service = ScriptedKeyService::default();
    instance(&service).load_or_create(&stage.api.database, id(TENANT), "tester").await.expect("a key");
    // The double's data keys have this in every other byte.
    let statement = "
        SELECT count(*) FROM (SELECT to_jsonb(t)::text FROM harkara.tenant_keys t
                              UNION ALL SELECT to_jsonb(l)::text FROM harkara.link_keys l
                              UNION ALL SELECT to_jsonb(a)::text FROM harkara.audit_log a) rows (words)
        WHERE words LIKE '%01d501d5%'";
    let shown: i64 = sqlx::query_scalar(statement).fetch_one(&pool).await.expect("counted");
    assert_eq!(shown, 0);
    let audited = "
        SELECT count(*) FROM harkara.audit_log
        WHERE table_name IN ('tenant_keys', 'link_keys') AND operation = 'INSERT' AND actor = 'tester'
          AND coalesce(new_values ->> 'wrapped_key', new_values ->> 'sealed_secret') LIKE 'sha256:%'";
    let audited: i64 = sqlx::query_scalar(audited).fetch_one(&pool).await.expect("counted");
    assert_eq!(audited, 2);
    stage.finish().await;
}
