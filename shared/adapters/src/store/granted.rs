//! What a domain has granted: its views are read and its functions called, as a role that has nothing else, and for no longer
//! than their job may take.

use super::database::{Database, Lent, StoreError, TenantTransaction, roll_back};
use domain::domain_job::{Candidate, MAX_CANDIDATE_BYTES, MAX_CANDIDATES, MAX_CANDIDATES_BYTES, SqlName};
use domain::id::TenantId;
use futures::TryStreamExt;
use sqlx::PgConnection;
use std::time::Duration;

/// How long the server may take to end what took too long.
const GRACE: Duration = Duration::from_secs(5);

/// Why the domain's part of a run failed.
#[derive(Debug)]
pub enum DomainError {
    /// What it was asked took longer than it may.
    TimedOut,
    /// Postgres refused it, or it said so itself, by this SQLSTATE.
    Refused(String),
    /// The view shows more rows than a run may have.
    TooMany,
    /// Their data is longer than a run may hold.
    TooLarge,
    /// It has nothing to do with the domain.
    Store(StoreError),
}

impl DomainError {
    /// What it is, for programs and rows: nothing that a server has said.
    pub fn code(&self) -> String {
        match self {
            Self::TimedOut => "timed_out".to_owned(),
            Self::Refused(state) => format!("sqlstate_{state}"),
            Self::TooMany => "too_many_candidates".to_owned(),
            Self::TooLarge => "candidates_too_large".to_owned(),
            Self::Store(error) => error.code().to_owned(),
        }
    }

    fn of(error: sqlx::Error) -> Self {
        let state = error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned());
        match state.as_deref() {
            Some("57014") => Self::TimedOut,
            // The server or the connection, and not what was asked of it.
            None => Self::Store(error.into()),
            Some(code) if ["08", "53", "57"].iter().any(|class| code.starts_with(class)) => Self::Store(error.into()),
            Some(code) => Self::Refused(code.to_owned()),
        }
    }
}

impl From<StoreError> for DomainError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Reads a tenant's rows of a view, as the role that the domain has granted it to, in a transaction that cannot write and is
/// undone with every setting that the view may have changed. All of them, or why not.
pub async fn read_candidates(
    database: &Database,
    tenant: TenantId,
    view: &SqlName,
    timeout: Duration,
) -> Result<Vec<Candidate>, DomainError> {
    let mut connection = database.begin_read_only_across_tenants().await?;
    let session = limit_statements(&mut connection, timeout).await?;
    let rows = read_rows(&mut connection, tenant, view);
    let read = end_in_time(database, session, timeout, rows).await?;
    roll_back(connection).await?;
    read
}

/// The rows, or why they are too many or too much. Any other error leaves the connection to be mended by its next use.
async fn read_rows(
    connection: &mut Lent,
    tenant: TenantId,
    view: &SqlName,
) -> Result<Result<Vec<Candidate>, DomainError>, DomainError> {
    sqlx::query!("SELECT harkara.set_tenant($1, 'domain_job')", tenant.as_uuid())
        .execute(&mut **connection)
        .await
        .map_err(DomainError::of)?;
    let most = i32::try_from(MAX_CANDIDATES + 1).unwrap_or(i32::MAX);
    let mut rows = sqlx::query!(
        r#"SELECT candidate_key, recipient, data::text AS data, is_too_large AS "is_too_large!"
           FROM harkara.read_candidates($1, $2, $3, $4, $5)"#,
        view.schema(),
        view.name(),
        tenant.as_uuid(),
        most,
        i32::try_from(MAX_CANDIDATE_BYTES).unwrap_or(i32::MAX),
    )
    .fetch(&mut **connection);
    let (mut candidates, mut bytes, mut is_over) = (Vec::new(), 0, None);
    while let Some(row) = rows.try_next().await.map_err(DomainError::of)? {
        if is_over.is_some() {
            // What is left is read and dropped: the connection is good for the next one.
            continue;
        }
        bytes += row.data.as_ref().map_or(0, String::len);
        if candidates.len() >= MAX_CANDIDATES {
            is_over = Some(DomainError::TooMany);
        } else if bytes > MAX_CANDIDATES_BYTES {
            is_over = Some(DomainError::TooLarge);
        } else {
            let data = row.data.map(|text| serde_json::from_str(&text)).transpose();
            candidates.push(Candidate {
                key: row.candidate_key,
                recipient: row.recipient,
                data: data.map_err(|_| StoreError::Corrupt("data of a candidate"))?,
                is_too_large: row.is_too_large,
            });
        }
    }
    Ok(match is_over {
        Some(error) => Err(error),
        None => Ok(candidates),
    })
}

/// Calls a function that the domain has granted, within the transaction: what it does lasts if the transaction does.
pub async fn call_function(
    database: &Database,
    transaction: &mut TenantTransaction,
    function: &SqlName,
    actor: &str,
    timeout: Duration,
) -> Result<(), DomainError> {
    let tenant = transaction.tenant.as_uuid();
    let session = limit_statements(&mut transaction.connection, timeout).await?;
    let call = async {
        sqlx::query!(
            "SELECT harkara.call_domain_function($1, $2, $3, $4)",
            function.schema(),
            function.name(),
            tenant,
            actor,
        )
        .execute(&mut *transaction.connection)
        .await
        .map_err(DomainError::of)
    };
    end_in_time(database, session, timeout, call).await.map(drop)
}

/// Lets the server end each statement of the transaction that takes longer. Answers with whose session it is.
async fn limit_statements(connection: &mut PgConnection, timeout: Duration) -> Result<i32, DomainError> {
    let row = sqlx::query!(
        r#"SELECT pg_backend_pid() AS "session!", harkara.limit_statements($1)"#,
        i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
    )
    .fetch_one(connection)
    .await;
    row.map(|row| row.session).map_err(DomainError::of)
}

/// Ends the session of a statement that goes on after the server has told it to end, which a function of the domain's may
/// catch: nobody would hear of it again, and it would go on for good.
async fn end_in_time<T>(
    database: &Database,
    session: i32,
    timeout: Duration,
    work: impl Future<Output = Result<T, DomainError>>,
) -> Result<T, DomainError> {
    match tokio::time::timeout(timeout + GRACE, work).await {
        Ok(done) => done,
        Err(_) => {
            end_session_across_tenants(database, session).await?;
            Err(DomainError::TimedOut)
        }
    }
}

async fn end_session_across_tenants(database: &Database, session: i32) -> Result<(), StoreError> {
    let mut connection = database.connection().await?;
    sqlx::query_scalar!("SELECT pg_terminate_backend($1)", session).fetch_one(&mut *connection).await?;
    connection.give_back();
    Ok(())
}
