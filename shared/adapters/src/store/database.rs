//! The way into Postgres: one small pool for each sandbox, opened at first use.

use crate::wire::http::OwnRecipient;
use deadpool::Runtime;
use deadpool::managed::{Manager, Metrics, Object, Pool, PoolError, QueueMode, RecycleError, RecycleResult, Timeouts};
use domain::id::TenantId;
use futures::future::BoxFuture;
use sqlx::{Connection, PgConnection};
use std::ops::{Deref, DerefMut};
use std::time::Duration;

pub use super::error::StoreError;
pub use super::logins::{DatabaseConfig, RoleLogins};

/// A sandbox serves one invocation at a time, which rarely needs two connections.
const MAX_CONNECTIONS: usize = 2;
/// Well below the callers' own timeouts, so that they hear `unavailable` from us.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// IAM tokens live 15 minutes, and a proxy's client connections a day.
const MAX_LIFETIME: Duration = Duration::from_secs(10 * 60);
/// A connection that was idle longer is tried before it is used: a thawed sandbox may hold dead ones.
const TRUSTED_IDLE: Duration = Duration::from_secs(5);

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
            // A transaction that failed holds its locks until its connection is used again: whoever tries less of it at
            // once would pass over what it holds, if another connection came first.
            .queue_mode(QueueMode::Lifo)
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
