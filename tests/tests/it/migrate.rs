//! `migrate`: a deploy brings any database up to date, and a second one finds nothing to do.

use adapters::store::database::{DatabaseConfig, RoleLogins};
use flow::migrate::Migrate;
use serde_json::{Value, json};
use sqlx::PgPool;

/// The flow as the admin, with no secrets of the login roles.
pub(crate) fn migrate_as_admin(pool: &PgPool) -> Migrate {
    Migrate { database: tests::database_of(pool), logins: RoleLogins::Secrets(Vec::new()) }
}

#[sqlx::test(migrations = false)]
async fn a_first_deploy_makes_the_schema_and_a_second_changes_nothing(pool: PgPool) {
    let flow = migrate_as_admin(&pool);
    let first = flow.migrate(&json!({})).await.expect("migrated");
    let applied = first["applied"].as_array().expect("a list");
    assert!(applied.contains(&json!("20261121080000_create_roles")), "{first}");
    assert_eq!(first["tenants"], 0);
    let count = "SELECT count(*) FROM harkara.audit_log";
    let before: i64 = sqlx::query_scalar(count).fetch_one(&pool).await.expect("counted");

    let second = flow.migrate(&json!({})).await.expect("migrated");
    assert_eq!(second, json!({"applied": [], "tenants": 0}));
    let after: i64 = sqlx::query_scalar(count).fetch_one(&pool).await.expect("counted");
    assert_eq!(after, before, "nothing was changed");
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_deploy_makes_and_renames_tenants(pool: PgPool) {
    let flow = migrate_as_admin(&pool);
    let id = "018f0000-0000-7000-8000-000000000001";
    let read = async || -> (String, Option<String>) {
        let statement = "SELECT name, from_address FROM harkara.tenants WHERE tenant_id = $1::uuid";
        sqlx::query_as(statement).bind(id).fetch_one(&pool).await.expect("one tenant")
    };
    let event = json!({"tenants": [{"id": id, "name": "Lotus", "from_address": "lotus@example.org"}]});
    assert_eq!(flow.migrate(&event).await.expect("migrated")["tenants"], 1);
    assert_eq!(read().await, ("Lotus".to_owned(), Some("lotus@example.org".to_owned())));

    flow.migrate(&json!({"tenants": [{"id": id, "name": "Lotus & Sons"}]})).await.expect("migrated");
    let kept = Some("lotus@example.org".to_owned());
    assert_eq!(read().await, ("Lotus & Sons".to_owned(), kept), "what the event does not name stays");
}

#[sqlx::test(migrations = false)]
async fn an_event_that_is_wrong_is_refused_before_anything_is_done(pool: PgPool) {
    let flow = migrate_as_admin(&pool);
    let id = "018f0000-0000-7000-8000-000000000001";
    for (event, pointer) in [
        (json!([]), ""),
        (json!({"tenant": []}), "/tenant"),
        (json!({"tenants": {}}), "/tenants"),
        (json!({"tenants": [{"id": "lotus", "name": "Lotus"}]}), "/tenants/0/id"),
        (json!({"tenants": [{"id": id}]}), "/tenants/0/name"),
        (json!({"tenants": [{"id": id, "name": ""}]}), "/tenants/0/name"),
        (
            json!({"tenants": [{"id": id, "name": "Lotus", "from_address": "a@b\r\nBcc: c@d"}]}),
            "/tenants/0/from_address",
        ),
        (json!({"tenants": [{"id": id, "name": "Lotus", "plan": "gold"}]}), "/tenants/0/plan"),
    ] {
        let said = refusal(&flow, &event).await;
        assert!(said.contains(&format!(" {pointer} ")), "{event}: {said}");
    }
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'harkara'";
    let schemas: i64 = sqlx::query_scalar(schemas).fetch_one(&pool).await.expect("counted");
    assert_eq!(schemas, 0, "a refused deploy changes nothing");
}

async fn refusal(flow: &Migrate, event: &Value) -> String {
    flow.migrate(event).await.expect_err("refused").to_string()
}

/// Roles belong to the whole server, so the test makes one of its own.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_login_role_gets_the_password_of_its_secret(pool: PgPool) {
    let read = "SELECT rolpassword FROM pg_authid WHERE rolname = 'harkara_test_login'";
    for statement in ["DROP ROLE IF EXISTS harkara_test_login", "CREATE ROLE harkara_test_login LOGIN"] {
        sqlx::query(statement).execute(&pool).await.expect("the admin may");
    }
    let before: Option<String> = sqlx::query_scalar(read).fetch_one(&pool).await.expect("read");
    let secret =
        DatabaseConfig::Url("postgres://harkara_test_login:it%27s%20%40%20secret@db.example.org/harkara".into());
    let flow = Migrate { database: tests::database_of(&pool), logins: RoleLogins::Secrets(vec![secret]) };
    let done = flow.migrate(&json!({})).await;
    let after: Option<String> = sqlx::query_scalar(read).fetch_one(&pool).await.expect("read");
    sqlx::query("DROP ROLE harkara_test_login").execute(&pool).await.expect("the admin may");

    done.expect("migrated");
    assert_eq!(before, None);
    assert!(after.is_some_and(|password| password.starts_with("SCRAM-SHA-256$")), "stored as a verifier");
}

/// In a transaction that is rolled back: the role that RDS has is missing here.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn where_the_server_knows_iam_the_login_roles_come_in_by_it(pool: PgPool) {
    let members = "
        SELECT count(*) FROM pg_auth_members
        WHERE roleid = to_regrole('rds_iam') AND member::regrole::text IN ('harkara_api', 'harkara_worker')";
    let mut transaction = pool.begin().await.expect("a transaction");
    for statement in ["CREATE ROLE rds_iam NOLOGIN", "CALL harkara.admit_iam_logins()"] {
        sqlx::query(statement).execute(&mut *transaction).await.expect("done");
    }
    let count: i64 = sqlx::query_scalar(members).fetch_one(&mut *transaction).await.expect("counted");
    assert_eq!(count, 2);
    transaction.rollback().await.expect("rolled back");

    let flow = Migrate { database: tests::database_of(&pool), logins: RoleLogins::Iam };
    flow.migrate(&json!({})).await.expect("without that role there is nothing to grant");
}

#[sqlx::test(migrations = false)]
async fn a_migration_that_fails_is_named_with_what_postgres_says(pool: PgPool) {
    sqlx::query("CREATE SCHEMA harkara").execute(&pool).await.expect("the admin may");
    let said = logged_failure(&migrate_as_admin(&pool)).await;
    assert!(said.contains("migration 20261121080000 failed: SQLSTATE 42P06"), "{said}");
    assert!(said.contains("schema \"harkara\" already exists"), "{said}");
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_migration_that_was_changed_after_it_was_applied_is_named(pool: PgPool) {
    let change = "UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = 20261121080000";
    sqlx::query(change).execute(&pool).await.expect("the admin may");
    let said = logged_failure(&migrate_as_admin(&pool)).await;
    assert!(said.contains("migration 20261121080000 was previously applied but has been modified"), "{said}");
}

/// What the log says of a deploy that the database refused; its answer says less.
async fn logged_failure(flow: &Migrate) -> String {
    format!("{:?}", flow.migrate(&json!({})).await.expect_err("refused"))
}
