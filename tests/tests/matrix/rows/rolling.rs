//! Row 50: while a release rolls out, workers of the one before are still at work, on the schema of the new one.
//!
//! The release before is here as its statements, and not as a second build: what two releases share is the database, the
//! messages and SES, and of the old one nothing else touches them. A second build would take its sources, its locked
//! dependencies and minutes of each run, to execute the same statements.
//!
//! The order of a rollout is the schema first, then the binaries: so the old statements meet both schemas, and the new
//! binaries the new one only. What an old worker cannot keep, because nobody had told it, is what the new release adds:
//! it asks neither preferences nor consent. That holds from the moment when the last old worker is gone.

mod previous_release;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use adapters::store::migrations::MIGRATOR;
use previous_release::PreviousRelease;
use serde_json::json;
use sqlx::PgPool;
use sqlx::migrate::Migrator;
use tests::TENANT;
use tests::strict::{DELIVERIES, World};

/// The last migration of the release before.
const PREVIOUS_SCHEMA: i64 = 20_261_121_090_200;

/// Brings a database to the schema of the release before.
async fn migrate_to_previous(admin: &PgPool) {
    let old: Vec<_> = MIGRATOR.iter().filter(|migration| migration.version <= PREVIOUS_SCHEMA).cloned().collect();
    assert!(old.iter().any(|migration| migration.version == PREVIOUS_SCHEMA));
    let migrator = Migrator { migrations: Cow::Owned(old), ..Migrator::DEFAULT };
    migrator.run(admin).await.expect("migrated");
}

fn addresses(kind: &str, of: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| match kind {
            "plain" => format!("{of}{number}@example.org"),
            kind => format!("{kind}--{of}{number}@simulator.harkara.test"),
        })
        .collect()
}

/// Addresses of every fate: at most mail arrives at once, at some at the second attempt, of some nobody knows.
fn all_kinds(of: &str) -> Vec<String> {
    let kinds = [("plain", 6), ("throttle+1", 2), ("fail+1", 2), ("lost+1", 2), ("reject", 2)];
    kinds.into_iter().flat_map(|(kind, count)| addresses(kind, of, count)).collect()
}

async fn post_all_kinds(world: &World, of: &str) {
    let bodies: Vec<_> = all_kinds(of).iter().map(|address| World::greeting(address)).collect();
    assert_eq!(world.post(&json!({"notifications": bodies})).await.status, 202);
}

#[sqlx::test(migrations = false)]
async fn row_50_old_and_new_workers_share_a_database_while_the_release_rolls_out(admin: PgPool) {
    migrate_to_previous(&admin).await;
    let mut world = World::begin_unfurnished(admin).await;
    world.let_events_come();
    let old = PreviousRelease::of(&world).await;
    old.furnish(&world).await;

    // The schema of before, with deliveries in every state that old workers leave behind.
    old.accept(&world, &all_kinds("before")).await;
    assert_eq!(old.process(&world).await, 10);
    // The provider was asked for too many at once, and so nothing goes for a while.
    world.advance(Duration::from_secs(10)).await;
    assert_eq!(old.claim_and_die(&world).await, 4);
    old.accept(&world, &all_kinds("waiting")).await;

    // The new schema, under their feet.
    MIGRATOR.run(&world.admin).await.expect("migrated beside running workers");
    old.process(&world).await;
    old.dispatch(&world).await;
    old.accept(&world, &all_kinds("between")).await;

    // The new binaries beside them, taking turns and at the same time, on the same work.
    for round in 0..8 {
        post_all_kinds(&world, &format!("round{round}-")).await;
        world.sqs.deliver_twice(DELIVERIES);
        futures::join!(old.process(&world), world.deliver());
        old.process(&world).await;
        world.deliver().await;
        // What old workers sent is heard of by the new `feedback`.
        world.hear_all().await;
        world.advance(Duration::from_secs(45)).await;
        let (_, dispatched) = futures::join!(old.dispatch(&world), world.dispatch());
        dispatched.expect("dispatched");
    }
    let by_old = world.count("SELECT count(*) FROM harkara.events WHERE detail ->> 'release' = 'before'").await;
    let told = world.bus.events().iter().filter(|event| event.detail["release"] == "before").count();
    assert!(by_old > 0 || told > 0, "the old workers did nothing");

    // The old ones are gone; the new ones finish what they left.
    let figures = world.finish().await;
    assert_eq!((figures.lost, figures.duplicates_undeclared), (0, 0), "{figures:?}");
    assert_eq!(figures.accepted, 11 * 14);
    assert_eq!(figures.failed, 11 * 2, "what the provider refuses is failed, whoever asked: {figures:?}");
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_50_what_died_under_one_release_is_stored_and_redriven_by_the_other(admin: PgPool) {
    let mut world = World::begin(admin).await;
    let old = PreviousRelease::of(&world).await;
    let once = json!({"class": "transactional", "template": "greeting", "max_attempts": 1});
    world.put(TENANT, "/v1/categories/{key}", "once", once).await;
    for address in ["fail+1--a@simulator.harkara.test", "fail+1--b@simulator.harkara.test"] {
        let mut body = World::greeting(address);
        body["category"] = "once".into();
        assert_eq!(world.post(&body).await.status, 202);
    }
    // Killed by the new one, stored and redriven by the old one, sent by the new one.
    world.deliver_all().await;
    assert_eq!(world.count("SELECT count(*) FROM harkara.deliveries WHERE state = 'dead'").await, 2);
    assert_eq!(old.store_dead_letters(&world).await, 2);
    assert_eq!(old.redrive(&world, TENANT).await, 2);
    world.deliver_all().await;
    let figures = world.finish().await;
    assert_eq!((figures.sent, figures.dead, figures.lost), (2, 0, 0), "{figures:?}");
}

#[sqlx::test(migrations = false)]
async fn row_50_the_schema_keeps_every_routine_table_and_column_that_the_release_before_uses(admin: PgPool) {
    migrate_to_previous(&admin).await;
    let (before, roles) = (read_surface(&admin).await, read_rights(&admin).await);
    MIGRATOR.run(&admin).await.expect("migrated");
    let (after, roles_after) = (read_surface(&admin).await, read_rights(&admin).await);
    assert!(before.len() > 50 && roles.len() > 20, "the surface was read");
    // What need not be given any more, the release before gives all the same.
    let is_there = |used: &&String| after.contains(*used) || after.contains(used.trim_end_matches(MUST_BE_GIVEN));
    let gone: Vec<_> = before.iter().filter(|used| !is_there(used)).collect();
    assert!(gone.is_empty(), "the release before uses {gone:#?}");
    let gone: Vec<_> = roles.difference(&roles_after).collect();
    assert!(gone.is_empty(), "the release before may do {gone:#?}");
}

/// How a column ends that a row must name.
const MUST_BE_GIVEN: &str = " must be given";

/// Routines by what they take and give, and columns by their type and whether a row must name them.
async fn read_surface(admin: &PgPool) -> BTreeSet<String> {
    let surface = "
        SELECT format('%s(%s) %s', p.proname, pg_get_function_arguments(p.oid), coalesce(pg_get_function_result(p.oid), ''))
        FROM pg_proc p WHERE p.pronamespace = 'harkara'::regnamespace
        UNION ALL
        SELECT format('%s.%s %s%s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
                      CASE WHEN a.attnotnull AND NOT a.atthasdef THEN ' must be given' END)
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = 'harkara'::regnamespace AND c.relkind IN ('r', 'p')";
    sqlx::query_scalar(surface).fetch_all(admin).await.expect("read").into_iter().collect()
}

/// What the two login roles may do.
async fn read_rights(admin: &PgPool) -> BTreeSet<String> {
    let rights = "
        SELECT format('%s %s on %s', r.rolname, g.privilege_type, c.relname)
        FROM pg_class c, aclexplode(c.relacl) g JOIN pg_roles r ON r.oid = g.grantee
        WHERE c.relnamespace = 'harkara'::regnamespace AND r.rolname IN ('harkara_api', 'harkara_worker')
        UNION ALL
        SELECT format('%s %s on %s', r.rolname, g.privilege_type, p.proname)
        FROM pg_proc p, aclexplode(p.proacl) g JOIN pg_roles r ON r.oid = g.grantee
        WHERE p.pronamespace = 'harkara'::regnamespace AND r.rolname IN ('harkara_api', 'harkara_worker')";
    sqlx::query_scalar(rights).fetch_all(admin).await.expect("read").into_iter().collect()
}
