//! The way into Postgres: one small pool for each sandbox, opened at first use.

use crate::aws::AwsConfig;
use crate::env::{self, ConfigError};
use crate::secrets::{SecretError, read_secret};
use crate::wire::http::OwnRecipient;
use deadpool::Runtime;
use deadpool::managed::{Manager, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult, Timeouts};
use domain::id::TenantId;
use futures::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, PgConnection};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::str::FromStr;
use std::time::Duration;

/// A sandbox serves one invocation at a time, which rarely needs two connections.
const MAX_CONNECTIONS: usize = 2;
/// Well below the callers' own timeouts, so that they hear `unavailable` from us.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// IAM tokens live 15 minutes, and a proxy's client connections a day.
const MAX_LIFETIME: Duration = Duration::from_secs(10 * 60);
/// A connection that was idle longer is tried before it is used: a thawed sandbox may hold dead ones.
const TRUSTED_IDLE: Duration = Duration::from_secs(5);

/// How to reach the database.
#[derive(Clone, Debug)]
pub enum DatabaseConfig {
    /// By a URL that is at hand.
    Url(SecretString),
    /// By a URL, or the parts of one, in a secret.
    Secret {
        /// The secret's ARN.
        arn: String,
        /// Where to read it.
        aws: AwsConfig,
    },
    /// By a URL without a password; an RDS IAM token is minted for each connection.
    Iam {
        /// The URL.
        url: String,
        /// Who signs the token.
        aws: AwsConfig,
    },
}

impl DatabaseConfig {
    /// Reads `DATABASE_URL`, with `DATABASE_IAM_AUTH` or without, or else `DATABASE_SECRET_ARN`.
    pub fn from_env() -> Result<Self, ConfigError> {
        match env::optional("DATABASE_URL") {
            Some(url) if uses_iam() => Ok(Self::Iam { url, aws: AwsConfig::from_env()? }),
            Some(url) => Ok(Self::Url(url.into())),
            None => {
                let arn = env::optional("DATABASE_SECRET_ARN")
                    .ok_or(ConfigError::Missing("DATABASE_SECRET_ARN or DATABASE_URL"))?;
                Ok(Self::Secret { arn, aws: AwsConfig::from_env()? })
            }
        }
    }

    /// Whom this way lets in, and with which password; an IAM user has none.
    pub(crate) async fn read_login(&self) -> Result<Login, StoreError> {
        match self {
            Self::Url(url) => parse_login(url.expose_secret()),
            Self::Secret { arn, aws } => parse_login(read_secret(aws, arn).await?.expose_secret()),
            Self::Iam { .. } => Err(StoreError::Url),
        }
    }

    /// How to connect now.
    pub(crate) async fn connect_options(&self) -> Result<PgConnectOptions, StoreError> {
        let options = match self {
            Self::Url(url) => parse_url(url.expose_secret())?,
            Self::Secret { arn, aws } => parse_secret(read_secret(aws, arn).await?.expose_secret())?,
            Self::Iam { url, aws } => {
                let options = parse_url(url)?;
                let token =
                    super::iam_token::mint_token(aws, options.get_host(), options.get_port(), options.get_username());
                options.password(token.expose_secret())
            }
        };
        Ok(options.application_name("harkara").log_slow_statements(log::LevelFilter::Warn, Duration::from_secs(1)))
    }
}

/// How `harkara_api` and `harkara_worker` get in, as a deploy sets it up.
#[derive(Clone, Debug)]
pub enum RoleLogins {
    /// By IAM tokens.
    Iam,
    /// By the passwords in their own secrets; those that the deploy names.
    Secrets(Vec<DatabaseConfig>),
}

impl RoleLogins {
    /// Reads `DATABASE_IAM_AUTH`, `API_DATABASE_SECRET_ARN` and `WORKER_DATABASE_SECRET_ARN`.
    pub fn from_env() -> Result<Self, ConfigError> {
        if uses_iam() {
            return Ok(Self::Iam);
        }
        let arns = ["API_DATABASE_SECRET_ARN", "WORKER_DATABASE_SECRET_ARN"].into_iter().filter_map(env::optional);
        let secrets = arns.map(|arn| Ok(DatabaseConfig::Secret { arn, aws: AwsConfig::from_env()? }));
        Ok(Self::Secrets(secrets.collect::<Result<_, ConfigError>>()?))
    }
}

/// A role and its password.
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: SecretString,
}

#[derive(Deserialize)]
struct SecretParts {
    username: String,
    password: String,
    host: String,
    port: Option<u16>,
    dbname: Option<String>,
}

/// The database as one role sees it.
#[derive(Clone)]
pub struct Database {
    pool: Pool<Opener>,
}

impl Database {
    /// Keeps the way; nothing is opened before the first use.
    pub fn new(config: DatabaseConfig) -> Self {
        Self::with_connections(config, MAX_CONNECTIONS)
    }

    /// Like [`Database::new`], for up to `max_connections` at a time.
    pub fn with_connections(config: DatabaseConfig, max_connections: usize) -> Self {
        let pool = Pool::builder(Opener { config })
            .max_size(max_connections)
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts { wait: Some(OPEN_TIMEOUT), create: Some(OPEN_TIMEOUT), recycle: Some(OPEN_TIMEOUT) })
            .build()
            .expect("a runtime is named, which is all that timeouts need");
        Self { pool }
    }

    /// A connection outside any transaction, for calls that are one statement.
    pub(crate) async fn connection(&self) -> Result<Lent, StoreError> {
        // Boxed: every flow holds this future, and their types would nest too deep for the compiler.
        let lent: BoxFuture<'_, _> = Box::pin(self.pool.get());
        lent.await.map(Lent).map_err(|error| match error {
            PoolError::Backend(error) => error,
            PoolError::Timeout(_)
            | PoolError::Closed
            | PoolError::NoRuntimeSpecified
            | PoolError::PostCreateHook(_) => StoreError::Unavailable(sqlx::Error::PoolTimedOut),
        })
    }

    /// A transaction in which the database shows one tenant's rows only. `actor` is who the audit log names.
    pub async fn begin(&self, tenant: TenantId, actor: &str) -> Result<TenantTransaction, StoreError> {
        let mut connection = self.begin_across_tenants().await?;
        let state = sqlx::query_scalar!("SELECT harkara.enter_tenant($1, $2)", tenant.as_uuid(), actor)
            .fetch_one(&mut *connection)
            .await?;
        Self::enter(tenant, connection, state.as_deref() == Some("active")).await
    }

    /// Like [`Database::begin`], for what holds whether the tenant may send now or not: what somebody with a link from one
    /// of its mails wants.
    pub async fn begin_even_suspended(&self, tenant: TenantId, actor: &str) -> Result<TenantTransaction, StoreError> {
        let mut connection = self.begin_across_tenants().await?;
        let state = sqlx::query_scalar!("SELECT harkara.enter_tenant($1, $2)", tenant.as_uuid(), actor)
            .fetch_one(&mut *connection)
            .await?;
        Self::enter(tenant, connection, state.is_some()).await
    }

    /// Like [`Database::begin`], for a recipient's own token: the database shows that recipient's rows only.
    pub async fn begin_as_recipient(
        &self,
        tenant: TenantId,
        actor: &str,
        recipient: &OwnRecipient,
    ) -> Result<TenantTransaction, StoreError> {
        let (id, phone) = match recipient {
            OwnRecipient::Id(id) => (Some(id.as_str()), None),
            OwnRecipient::Phone(phone) => (None, Some(phone.as_str())),
        };
        let mut connection = self.begin_across_tenants().await?;
        let state =
            sqlx::query_scalar!("SELECT harkara.enter_recipient($1, $2, $3, $4)", tenant.as_uuid(), actor, id, phone)
                .fetch_one(&mut *connection)
                .await?;
        Self::enter(tenant, connection, state.as_deref() == Some("active")).await
    }

    async fn enter(tenant: TenantId, mut connection: Lent, may_enter: bool) -> Result<TenantTransaction, StoreError> {
        if !may_enter {
            sqlx::query("ROLLBACK").execute(&mut *connection).await?;
            connection.give_back();
            return Err(StoreError::TenantInactive);
        }
        Ok(TenantTransaction { tenant, connection })
    }

    /// A transaction of a role that serves all tenants; [`commit`] ends it.
    pub(crate) async fn begin_across_tenants(&self) -> Result<Lent, StoreError> {
        let mut connection = self.connection().await?;
        sqlx::query("BEGIN").execute(&mut *connection).await?;
        Ok(connection)
    }

    /// Like [`Database::begin_across_tenants`], for what may change nothing; [`roll_back`] ends it.
    pub(crate) async fn begin_read_only_across_tenants(&self) -> Result<Lent, StoreError> {
        let mut connection = self.connection().await?;
        sqlx::query("BEGIN READ ONLY").execute(&mut *connection).await?;
        Ok(connection)
    }
}

/// Ends a transaction, and undoes what was done in it: now, and not when the connection is used next.
pub(crate) async fn roll_back(mut connection: Lent) -> Result<(), StoreError> {
    sqlx::query("ROLLBACK").execute(&mut *connection).await?;
    connection.give_back();
    Ok(())
}

/// Ends a transaction, and makes what was done in it last.
pub(crate) async fn commit(mut connection: Lent) -> Result<(), StoreError> {
    sqlx::query("COMMIT").execute(&mut *connection).await?;
    connection.give_back();
    Ok(())
}

/// An open transaction of one tenant. Without [`TenantTransaction::commit`], nothing of it happened.
pub struct TenantTransaction {
    pub(crate) tenant: TenantId,
    pub(crate) connection: Lent,
}

impl TenantTransaction {
    /// Whose it is.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Makes what was done last.
    pub async fn commit(self) -> Result<(), StoreError> {
        commit(self.connection).await
    }

    /// Undoes what was done, now, and not when the connection is used next.
    pub async fn roll_back(self) -> Result<(), StoreError> {
        roll_back(self.connection).await
    }
}

/// Opens connections and looks after those that come back.
///
/// The pool of sqlx asks the server after each use whether the connection is still good, which would double the round
/// trips of a function. Here a user says so itself: what was not given back may be within a transaction, or broken,
/// and is rolled back before its next use; what was, is used as it is unless it was idle for long.
struct Opener {
    config: DatabaseConfig,
}

/// A connection in the pool.
struct Kept {
    connection: PgConnection,
    /// Whether its last user ended with it as it should.
    was_given_back: bool,
}

impl Manager for Opener {
    type Type = Kept;
    type Error = StoreError;

    async fn create(&self) -> Result<Kept, StoreError> {
        // Read anew for each connection: a rotated secret or a short-lived token is never stale.
        let options = self.config.connect_options().await?;
        Ok(Kept { connection: PgConnection::connect_with(&options).await?, was_given_back: false })
    }

    async fn recycle(&self, kept: &mut Kept, metrics: &Metrics) -> RecycleResult<StoreError> {
        if metrics.age() > MAX_LIFETIME {
            return Err(RecycleError::message("it is old"));
        }
        if !std::mem::take(&mut kept.was_given_back) {
            sqlx::query("ROLLBACK").execute(&mut kept.connection).await.map_err(StoreError::from)?;
        } else if metrics.last_used() > TRUSTED_IDLE {
            kept.connection.ping().await.map_err(StoreError::from)?;
        }
        Ok(())
    }
}

/// A connection in use.
pub(crate) struct Lent(Object<Opener>);

impl Lent {
    /// Ends with the connection, outside any transaction and with every answer read.
    pub(crate) fn give_back(mut self) {
        self.0.was_given_back = true;
    }
}

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0.connection
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0.connection
    }
}

/// Why the store could not do what was asked.
///
/// It prints what the server refused by its code and by the names of the schema. The server's own words stay out,
/// because they quote what it was given: rows, keys, and texts that it could not read.
pub enum StoreError {
    /// The database cannot be reached, or has no room; trying later may help.
    Unavailable(sqlx::Error),
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
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(error) => write!(f, "the database cannot be reached: {}", Refused(error)),
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
            (_, Some("23505" | "23503" | "40001" | "40P01")) => Self::Conflict(error),
            // Connections, resources, an ending server, a statement that took too long, a demoted writer, a refused login.
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

fn uses_iam() -> bool {
    env::optional("DATABASE_IAM_AUTH").is_some_and(|value| value == "true")
}

/// Beyond this machine the server has to show a certificate for its name, unless the URL says otherwise.
fn parse_url(url: &str) -> Result<PgConnectOptions, StoreError> {
    let options = PgConnectOptions::from_str(url).map_err(|_| StoreError::Url)?;
    let local = matches!(options.get_host(), "localhost" | "127.0.0.1" | "::1") || options.get_host().starts_with('/');
    if local || url.contains("sslmode=") { Ok(options) } else { Ok(options.ssl_mode(PgSslMode::VerifyFull)) }
}

/// A secret is a URL, or the object that RDS keeps there.
/// <https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_secret_json_structure.html>
fn parse_secret(secret: &str) -> Result<PgConnectOptions, StoreError> {
    if !secret.trim_start().starts_with('{') {
        return parse_url(secret);
    }
    let parts: SecretParts = serde_json::from_str(secret).map_err(|_| StoreError::Url)?;
    Ok(PgConnectOptions::new_without_pgpass()
        .host(&parts.host)
        .port(parts.port.unwrap_or(5432))
        .username(&parts.username)
        .password(&parts.password)
        .database(parts.dbname.as_deref().unwrap_or("postgres"))
        .ssl_mode(PgSslMode::VerifyFull))
}

/// Whom a secret lets in.
fn parse_login(secret: &str) -> Result<Login, StoreError> {
    if secret.trim_start().starts_with('{') {
        let parts: SecretParts = serde_json::from_str(secret).map_err(|_| StoreError::Url)?;
        return Ok(Login { user: parts.username, password: parts.password.into() });
    }
    let url = url::Url::parse(secret).map_err(|_| StoreError::Url)?;
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().map(|text| text.into_owned());
    let password = decode(url.password().ok_or(StoreError::Url)?).map_err(|_| StoreError::Url)?;
    Ok(Login { user: decode(url.username()).map_err(|_| StoreError::Url)?, password: password.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_elsewhere_has_to_show_a_certificate_for_its_name() {
        let mode = |url: &str| format!("{:?}", parse_url(url).expect("a URL").get_ssl_mode());
        assert_eq!(mode("postgres://u:p@db.example.org/harkara"), "VerifyFull");
        assert_eq!(mode("postgres://u:p@db.example.org/harkara?sslmode=require"), "Require");
        assert_eq!(mode("postgres://u:p@127.0.0.1/harkara"), "Prefer");
    }

    #[test]
    fn a_secret_of_rds_is_read_part_by_part() {
        let options = parse_secret(
            r#"{"username":"u","password":"p@/","host":"h","port":6432,"dbname":"d","engine":"postgres"}"#,
        )
        .expect("read");
        assert_eq!((options.get_host(), options.get_port(), options.get_database()), ("h", 6432, Some("d")));
        assert!(matches!(parse_secret("{}"), Err(StoreError::Url)));
    }
}
