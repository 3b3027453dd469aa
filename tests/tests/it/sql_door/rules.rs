//! Who gets through the door, to which tenant, and with what.

use super::{DOMAIN, OTHER_DOMAIN, STRANGER, begin, begin_as, enqueue, open_door, print, said, to_ada};
use adapters::wire::notification_request::read_notifications;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::collections::BTreeSet;
use tests::{OTHER_TENANT, TENANT};

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_tenant_is_that_of_the_role_that_logged_in_whatever_it_does(pool: PgPool) {
    let stage = begin(pool).await;
    let trigger = "
        CREATE TABLE public.orders (id integer);
        GRANT ALL ON public.orders TO door_test_domain;
        CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
        BEGIN
            PERFORM harkara.enqueue('{\"category\": \"greeting\", \"recipient\": {\"id\": \"ada\"}, \"data\": {\"name\": \"A\"}}');
            RETURN NULL;
        END $$;
        ALTER FUNCTION public.tell() OWNER TO door_test_owner;
        CREATE TRIGGER tells AFTER INSERT ON public.orders FOR EACH ROW EXECUTE FUNCTION public.tell()";
    sqlx::raw_sql(trigger).execute(&stage.admin).await.expect("a domain's trigger");
    let others = "SELECT set_config('harkara.tenant_id', '018f0000-0000-7000-8000-000000000002', true)";
    for tricks in [
        vec![],
        vec![others, "SELECT set_config('harkara.actor', 'somebody else', true)"],
        vec!["SET LOCAL ROLE door_test_owner"],
        vec![
            "CREATE TEMP TABLE door_roles (tenant_id uuid, role_name text) ON COMMIT DROP",
            "SET LOCAL search_path = pg_temp, public",
        ],
    ] {
        let mut transaction = begin_as(&stage, DOMAIN).await;
        for trick in &tricks {
            sqlx::query(*trick).execute(&mut *transaction).await.expect("it may");
        }
        enqueue(&mut transaction, &to_ada(), None).await.expect("taken");
        transaction.commit().await.expect("committed");
    }
    let mut transaction = begin_as(&stage, DOMAIN).await;
    sqlx::query("INSERT INTO public.orders VALUES (1)").execute(&mut *transaction).await.expect("it tells");
    transaction.commit().await.expect("committed");

    let rows = "SELECT count(*) FROM harkara.door_requests WHERE tenant_id = '018f0000-0000-7000-8000-000000000001'";
    assert_eq!(stage.count(rows).await, 5);
    assert_eq!(stage.count("SELECT count(*) FROM harkara.door_requests").await, 5);
    let actors = "
        SELECT count(*) FROM harkara.audit_log
        WHERE table_name = 'door_requests' AND operation = 'INSERT' AND actor = 'door_test_domain'";
    assert_eq!(stage.count(actors).await, 5, "the log names the role that logged in");

    let mut transaction = begin_as(&stage, OTHER_DOMAIN).await;
    let id = enqueue(&mut transaction, &to_ada(), None).await.expect("taken");
    transaction.commit().await.expect("committed");
    stage.dispatch().await;
    assert_eq!(stage.call(TENANT, "GET /v1/notifications/{id}", Some(&print(id)), "", "").await.status, 404);
    assert_eq!(stage.call(OTHER_TENANT, "GET /v1/notifications/{id}", Some(&print(id)), "", "").await.status, 200);
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn nobody_else_gets_through(pool: PgPool) {
    let stage = begin(pool).await;
    let become_owner = "SET LOCAL ROLE door_test_owner";
    for (role, trick, by_door) in
        [(STRANGER, None, true), (crate::catalog::API, None, false), (STRANGER, Some(become_owner), true)]
    {
        let mut transaction = begin_as(&stage, role).await;
        if let Some(trick) = trick {
            sqlx::query(trick).execute(&mut *transaction).await.expect("it may");
        }
        let (code, words) = said(enqueue(&mut transaction, &to_ada(), None).await);
        assert_eq!(code, "42501", "{role}: {words}");
        assert_eq!(words.contains("has no door"), by_door, "{role}: {words}");
    }
    // The administrator may call everything, and has no door either.
    let (code, words) = said(sqlx::query("SELECT harkara.cancel('a')").execute(&stage.admin).await);
    assert!(code == "42501" && words.contains("has no door"), "{words}");

    let (code, _) = said(open_door(&stage.admin, "door_test_domain", OTHER_TENANT).await);
    assert_eq!(code, "22023", "a role has the door of one tenant");
    let (code, _) = said(open_door(&stage.admin, "harkara_api", TENANT).await);
    assert_eq!(code, "22023");
    let (code, _) = said(open_door(&stage.admin, "nobody_at_all", TENANT).await);
    assert_eq!(code, "42704");

    sqlx::query("CALL harkara.close_door('door_test_domain')").execute(&stage.admin).await.expect("closed");
    let mut transaction = begin_as(&stage, DOMAIN).await;
    let (code, words) = said(enqueue(&mut transaction, &to_ada(), None).await);
    assert!(code == "42501" && words.contains("has no door"), "{words}");
    stage.finish().await;
}

/// Of everything in the schema, the two names only.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_domains_role_may_call_the_two_functions_and_nothing_else(pool: PgPool) {
    let stage = begin(pool).await;
    let callable = "
        SELECT DISTINCT p.proname::text FROM pg_proc p
        WHERE p.pronamespace = 'harkara'::regnamespace AND has_function_privilege('door_test_domain', p.oid, 'EXECUTE')
        ORDER BY 1";
    let callable: Vec<String> =
        sqlx::query_scalar(callable).fetch_all(&stage.admin).await.expect("the catalog answers");
    assert_eq!(callable, ["cancel", "enqueue"]);
    let reachable = "
        SELECT c.relname::text FROM pg_class c
        WHERE c.relnamespace = 'harkara'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S')
          AND has_table_privilege('door_test_domain', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')";
    let reachable: Vec<String> =
        sqlx::query_scalar(reachable).fetch_all(&stage.admin).await.expect("the catalog answers");
    assert_eq!(reachable, [""; 0]);
    let mut transaction = begin_as(&stage, DOMAIN).await;
    let (code, _) = said(sqlx::query("SELECT harkara.set_tenant(NULL)").execute(&mut *transaction).await);
    assert_eq!(code, "42501");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_mistake_is_named_by_its_field_and_nothing_is_stored(pool: PgPool) {
    let stage = begin(pool).await;
    let with = |name: &str, value: Value| {
        let mut request = to_ada();
        request[name] = value;
        request
    };
    for (request, field) in [
        (json!([]), "must be a JSON object"),
        (json!({"recipient": {"id": "ada"}}), "/category"),
        (with("category", json!(7)), "/category"),
        (with("category", json!("nobody_has_it")), "/category"),
        (json!({"category": "greeting"}), "/recipient"),
        (with("recipient", json!("ada")), "/recipient"),
        (with("recipient", json!({"name": "Ada"})), "/recipient"),
        (with("recipient", json!({"id": 7})), "/recipient/id"),
        (with("recipient", json!({"id": "nobody"})), "/recipient/id"),
        (with("recipients", json!([{"id": "ada"}])), "/recipients"),
        (with("nonsense", json!(1)), "/nonsense"),
        (with("send_at", json!("tomorrow")), "/send_at"),
        (with("send_at", json!("2026-13-40T00:00:00Z")), "/send_at"),
        (with("data", json!({"name": "a".repeat(262_144)})), "256 KiB"),
    ] {
        let mut transaction = begin_as(&stage, DOMAIN).await;
        let (code, words) = said(enqueue(&mut transaction, &request, Some("key")).await);
        assert_eq!(code, "22023", "{field}: {words}");
        assert!(words.contains(field), "{field}: {words}");
    }
    for key in ["", &"k".repeat(256)] {
        let mut transaction = begin_as(&stage, DOMAIN).await;
        let (code, words) = said(enqueue(&mut transaction, &to_ada(), Some(key)).await);
        assert!(code == "22023" && words.contains("idempotency_key"), "{words}");
    }
    let mut transaction = begin_as(&stage, DOMAIN).await;
    let (code, _) = said(sqlx::query("SELECT harkara.enqueue(NULL)").execute(&mut *transaction).await);
    assert_eq!(code, "22023");
    drop(transaction);
    let kept = "SELECT (SELECT count(*) FROM harkara.door_requests) + (SELECT count(*) FROM harkara.idempotency_keys)";
    assert_eq!(stage.count(kept).await, 0);
    stage.finish().await;
}

/// The door's list of fields stands in the database, and the API's in `wire`: a new one has to come into both.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_door_takes_every_field_that_the_api_takes(pool: PgPool) {
    let document = adapters::wire::openapi::document();
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    let properties = schemas.values().filter_map(|schema| schema["properties"].as_object());
    let request = properties
        .filter(|properties| properties.contains_key("category") && properties.contains_key("recipients"))
        .find(|properties| properties.contains_key("send_at") && properties.contains_key("metadata"))
        .expect("the request's schema");
    let definition = "SELECT prosrc FROM pg_proc WHERE proname = 'check_door_request'";
    let definition: String = sqlx::query_scalar(definition).fetch_one(&pool).await.expect("the function");
    let list = definition.split("fields CONSTANT text[] := '{").nth(1).and_then(|rest| rest.split('}').next());
    let taken: BTreeSet<&str> = list.expect("the list").split(',').map(str::trim).collect();
    let missing: Vec<_> =
        request.keys().filter(|field| *field != "recipients" && !taken.contains(field.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}: add them to harkara.check_door_request");
    assert!(read_notifications(&to_ada()).is_ok());
}
