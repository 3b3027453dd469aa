//! Why the store could not do what was asked, and what may be said of it.

use crate::secrets::SecretError;
use sqlx::migrate::MigrateError;
use std::fmt;

/// Why the store could not do what was asked.
///
/// It prints what the server refused by its code and by the names of the schema. The server's own words stay out,
/// because they quote what it was given: rows, keys, and texts that it could not read.
pub enum StoreError {
    /// The database cannot be reached, or has no room; trying later may help.
    Unavailable(sqlx::Error),
    /// The server ended what took too long. It is there all the same: fewer rows may go through, and so may those of others.
    TimedOut(sqlx::Error),
    /// Another transaction holds what this one needs.
    Busy(sqlx::Error),
    /// A unique key is taken, what a row refers to is gone, or two transactions waited for each other; the same again
    /// may go through.
    Conflict(sqlx::Error),
    /// There is no such tenant, or it is suspended.
    TenantInactive,
    /// The tenant's notifications of the day are used up; nothing was stored.
    QuotaUsedUp,
    /// The secret with the database's URL cannot be read.
    Secret(SecretError),
    /// The URL is none, or the secret holds something else.
    Url,
    /// A row holds what this code does not know.
    Corrupt(&'static str),
    /// The schema could not be brought up to date.
    Migration(MigrateError),
    /// Anything else, which is our own mistake.
    Failed(sqlx::Error),
}

impl StoreError {
    /// What it is, for programs and rows: nothing that a server has said.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "database_unavailable",
            Self::TimedOut(_) => "statement_timed_out",
            Self::Busy(_) => "database_busy",
            Self::Conflict(_) => "database_conflict",
            Self::TenantInactive => "tenant_inactive",
            Self::QuotaUsedUp => "quota_used_up",
            Self::Secret(_) => "secret_unreadable",
            Self::Url => "database_url_unreadable",
            Self::Corrupt(_) => "row_unreadable",
            Self::Migration(_) => "migration_failed",
            Self::Failed(_) => "statement_refused",
        }
    }

    /// Whether every tenant would meet it, so that nothing more can be done now. Any other is one tenant's, or one batch's.
    pub fn stops_all(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Secret(_) | Self::Url)
    }

    /// Whether the rows themselves may be why: fewer of them may go through, and one that does not stands alone.
    pub fn is_of_rows(&self) -> bool {
        matches!(self, Self::TimedOut(_) | Self::Corrupt(_) | Self::Failed(_))
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(error) => write!(f, "the database cannot be reached: {}", Refused(error)),
            Self::TimedOut(error) => write!(f, "the database took too long: {}", Refused(error)),
            Self::Busy(error) => write!(f, "the rows are locked by another transaction: {}", Refused(error)),
            Self::Conflict(error) => write!(f, "the rows conflict with others: {}", Refused(error)),
            Self::TenantInactive => f.write_str("the tenant is unknown or suspended"),
            Self::QuotaUsedUp => f.write_str("the tenant's quota of the day is used up"),
            Self::Secret(_) => f.write_str("the database's secret cannot be read"),
            Self::Url => {
                f.write_str("the database's URL cannot be read; it should be postgres://user:password@host:port/name")
            }
            Self::Corrupt(what) => write!(f, "a row holds an unknown {what}"),
            Self::Migration(MigrateError::ExecuteMigration(error, version)) => {
                write!(f, "migration {version} failed: {}", Refused(error))
            }
            Self::Migration(MigrateError::Execute(error)) => write!(f, "migrations cannot be run: {}", Refused(error)),
            // The others name versions of migrations, and no value.
            Self::Migration(error) => write!(f, "migrations cannot be run: {error}"),
            Self::Failed(error) => write!(f, "the database refused a statement: {}", Refused(error)),
        }
    }
}

impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreError({self})")
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Secret(error) => Some(error),
            Self::Migration(error) => Some(error),
            Self::Unavailable(_)
            | Self::TimedOut(_)
            | Self::Busy(_)
            | Self::Conflict(_)
            | Self::Failed(_)
            | Self::Url
            | Self::Corrupt(_)
            | Self::TenantInactive
            | Self::QuotaUsedUp => None,
        }
    }
}

/// What a log may say of a failure.
struct Refused<'a>(&'a sqlx::Error);

impl fmt::Display for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = match self.0 {
            sqlx::Error::Database(error) => error,
            // Of the connection, which has no part in what is sent over it.
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::PoolTimedOut => {
                return self.0.fmt(f);
            }
            sqlx::Error::ColumnNotFound(column) => return write!(f, "there is no column {column}"),
            sqlx::Error::ColumnDecode { index, .. } => return write!(f, "column {index} cannot be read"),
            sqlx::Error::RowNotFound => return f.write_str("there is no row"),
            _ => return f.write_str("the client cannot go on"),
        };
        let code = error.code().unwrap_or_default();
        write!(f, "SQLSTATE {code}")?;
        if let Some(constraint) = error.constraint() {
            write!(f, ", constraint {constraint}")?;
        }
        if let Some(table) = error.table() {
            write!(f, ", table {table}")?;
        }
        // Of these classes the words name parts of the schema, settings and servers, and no value.
        if SPOKEN.iter().any(|class| code.starts_with(class)) {
            write!(f, ": {}", error.message())?;
        }
        Ok(())
    }
}

/// Connections, prerequisites, transactions, logins, rights and names, resources, interventions, systems.
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
const SPOKEN: &[&str] = &["08", "25", "28", "40", "42", "53", "55", "57", "58"];

impl From<MigrateError> for StoreError {
    fn from(error: MigrateError) -> Self {
        Self::Migration(error)
    }
}

impl From<SecretError> for StoreError {
    fn from(error: SecretError) -> Self {
        Self::Secret(error)
    }
}

/// By SQLSTATE and kind, never by words. <https://www.postgresql.org/docs/current/errcodes-appendix.html>
impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned());
        match (&error, code.as_deref()) {
            // Of harkara.count_accepted.
            (_, Some("HKQ01")) => Self::QuotaUsedUp,
            (_, Some("55P03")) => Self::Busy(error),
            // A statement that was canceled, a transaction in which nothing was asked for long, and one that was long itself.
            (_, Some("57014" | "25P03" | "25P04")) => Self::TimedOut(error),
            (_, Some("23505" | "23503" | "40001" | "40P01")) => Self::Conflict(error),
            // Connections, resources, an ending server, a demoted writer, a refused login.
            (_, Some(code))
                if ["08", "53", "57", "28"].iter().any(|class| code.starts_with(class)) || code == "25006" =>
            {
                Self::Unavailable(error)
            }
            (_, Some(_)) => Self::Failed(error),
            (sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_), None)
            | (sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed, None) => {
                Self::Unavailable(error)
            }
            _ => Self::Failed(error),
        }
    }
}
