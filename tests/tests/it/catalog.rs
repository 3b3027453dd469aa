//! Rules over the schema, asked of Postgres itself after every migration has run.
//!
//! A rule that the database holds needs no reviewer: a table without its wall, a grant too many or a list that has
//! drifted from its enum fails here, whoever adds it. What the rules promise is then tried as the login roles.

mod audit;
mod clock;
mod columns;
mod grants;
mod plans;
mod routines;
mod tenants;
mod vocabulary;
mod walls;

use sqlx::postgres::PgDatabaseError;
use sqlx::{PgPool, Postgres, Transaction};

/// The role of `enqueue` and `api`: one tenant, set for the transaction.
pub(crate) const API: &str = "SET LOCAL SESSION AUTHORIZATION harkara_api";
/// The role of `processor`, `dispatcher` and `dead_letter`: every tenant, few rights.
const WORKER: &str = "SET LOCAL SESSION AUTHORIZATION harkara_worker";

/// Asserts what a statement says of each of its subjects: rows of (subject, whether the rule holds).
/// A statement that finds nothing to look at fails, too.
async fn assert_each(pool: &PgPool, why: &str, statement: &'static str) {
    let rows: Vec<(String, bool)> = sqlx::query_as(statement).fetch_all(pool).await.expect("the catalog answers");
    assert!(!rows.is_empty(), "the rule looked at nothing: {why}");
    let broken: Vec<_> = rows.into_iter().filter(|(_, holds)| !holds).map(|(subject, _)| subject).collect();
    assert!(broken.is_empty(), "{why}: {broken:?}");
}

/// A transaction of a login role, without a tenant.
pub(crate) async fn begin_as(pool: &PgPool, role: &'static str) -> Transaction<'static, Postgres> {
    let mut transaction = pool.begin().await.expect("a transaction");
    sqlx::query(role).execute(&mut *transaction).await.expect("the admin may act as every role");
    transaction
}

/// What Postgres said to a statement that it has to refuse: the SQLSTATE, and the constraint or else the words.
pub(crate) fn refusal<T: std::fmt::Debug>(result: Result<T, sqlx::Error>) -> (String, String) {
    let error = result.expect_err("Postgres has to refuse this");
    let error = error.as_database_error().expect("an error of the server").downcast_ref::<PgDatabaseError>();
    let said = error.constraint().unwrap_or_else(|| error.message());
    (error.code().to_owned(), said.to_owned())
}
