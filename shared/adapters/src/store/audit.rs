//! The audit log: what a tenant may read of it, and the chain of blocks that shows whether it was changed.
//!
//! Rows are written by triggers, in the transaction of the change. Sealing and verifying are functions of the database,
//! because the rows are there.

use super::database::{Database, StoreError, TenantTransaction};
use crate::wire::pages::{Cursor, Found, Page};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::Value;
use uuid::Uuid;

/// A change, as the log has it.
pub struct ChangeRow {
    /// Its number in the log; later ones are larger, except among changes that were made at the same time.
    pub audit_id: i64,
    /// When it was made.
    pub changed_at: Timestamp,
    /// Who made it: the subject of the caller's token, or the role of a function.
    pub actor: String,
    /// The table.
    pub table_name: String,
    /// What was done.
    pub operation: Operation,
    /// The row's key, by column.
    pub row_key: Value,
    /// What the columns held before; `None` where there was no row. Personal values are digests.
    pub old_values: Option<Value>,
    /// What they held afterwards; `None` where no row was left.
    pub new_values: Option<Value>,
}

domain::masked_debug!(ChangeRow, "ChangeRow", audit_id, changed_at, table_name, operation);

/// What was done to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It was made.
    Insert,
    /// It was changed.
    Update,
    /// It was removed.
    Delete,
}

impl Operation {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Insert, Self::Update, Self::Delete];

    /// As Postgres names it to a trigger.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|operation| operation.as_str() == text)
    }
}

/// Which changes; what is `None` does not matter.
#[derive(Clone, Default)]
pub struct ChangeFilter {
    /// Of this table.
    pub table: Option<String>,
    /// Of this kind.
    pub operation: Option<Operation>,
    /// By this actor.
    pub actor: Option<String>,
    /// Of rows with this value in their key.
    pub key: Option<String>,
    /// Made at this time or later.
    pub from: Option<Timestamp>,
    /// Made before this time.
    pub to: Option<Timestamp>,
}

impl ChangeFilter {
    /// Whether rows of the asked times may not fit.
    fn is_search(&self) -> bool {
        let Self { table, operation, actor, key, from: _, to: _ } = self;
        table.is_some() || operation.is_some() || actor.is_some() || key.is_some()
    }
}

domain::masked_debug!(ChangeFilter, "ChangeFilter", table, operation, from, to);

/// What verifying a part of a tenant's chain came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainCheck {
    /// Blocks that verified.
    pub block_count: i64,
    /// Rows in them.
    pub row_count: i64,
    /// The last block that verified, with its hash. To have kept an earlier one makes every later change of what it
    /// seals show.
    pub head: Option<(i64, Vec<u8>)>,
    /// Where to go on; `None` where the chain was verified to its end.
    pub next_block: Option<i64>,
    /// The first block that does not verify, and why.
    pub broken: Option<(i64, String)>,
    /// Rows that are not in a block yet; `None` where the end was not reached.
    pub unsealed_count: Option<i64>,
    /// The last block whose rows were dropped when nobody had to keep them any more; 0 where none were.
    pub dropped_to: i64,
}

/// What a sealing came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealing {
    /// New blocks, one for each tenant that had rows.
    pub block_count: i32,
    /// Rows in them.
    pub row_count: i64,
    /// A digest over the new heads in the order of their tenants; `None` where there are none.
    pub heads_hash: Option<Vec<u8>>,
    /// The rows of every transaction with a smaller number are sealed.
    pub sealed_to: i64,
    /// The time that the new blocks have.
    pub sealed_at: Timestamp,
    /// Whether there are more rows to be sealed.
    pub leaves_more: bool,
}

/// The most rows that one search looks at: some tenths of a second where nothing fits.
const LOOKED_AT: i64 = 50_000;

/// A page of the tenant's changes, newest first. Without a filter but the times, it is read as it lies; a search has no index
/// to go by, because one would cost every claim, and so looks at a part of the log at a time.
pub async fn list_changes(
    transaction: &mut TenantTransaction,
    filter: &ChangeFilter,
    page: &Page,
) -> Result<Found<ChangeRow>, StoreError> {
    let looked_to = if filter.is_search() { find_end_of_search(transaction, filter, page).await? } else { None };
    let from = filter.from.max(looked_to.map(|cursor| cursor.at));
    let rows = sqlx::query!(
        r#"SELECT l.audit_id AS "audit_id!", l.changed_at AS "changed_at!: jiff_sqlx::Timestamp", l.actor AS "actor!",
                  l.table_name AS "table_name!", l.operation AS "operation!", l.row_key AS "row_key!",
                  l.old_values, l.new_values
           FROM harkara.audit_log l
           WHERE l.tenant_id = $1
             -- Not `$2 IS NULL OR …`: as they are, the months outside of these times are not looked into.
             AND l.changed_at >= coalesce($2::timestamptz, '-infinity')
             AND l.changed_at < coalesce($3::timestamptz, 'infinity')
             AND (l.changed_at, l.audit_id) < (coalesce($4::timestamptz, 'infinity'), coalesce($5::bigint, 0))
             AND (l.changed_at, l.audit_id) >= (coalesce($11::timestamptz, '-infinity'), coalesce($12::bigint, 0))
             AND ($6::text IS NULL OR l.table_name = $6)
             AND ($7::text IS NULL OR l.operation = $7)
             AND ($8::text IS NULL OR l.actor = $8)
             AND ($9::text IS NULL OR $9 IN (SELECT k.value FROM jsonb_each_text(l.row_key) k))
           ORDER BY l.changed_at DESC, l.audit_id DESC
           LIMIT $10"#,
        transaction.tenant.as_uuid(),
        from.map(|at| at.to_sqlx()) as Option<jiff_sqlx::Timestamp>,
        filter.to.map(|at| at.to_sqlx()) as Option<jiff_sqlx::Timestamp>,
        page.after.map(|cursor| cursor.at.to_sqlx()) as Option<jiff_sqlx::Timestamp>,
        page.after.map(audit_id_of),
        filter.table,
        filter.operation.map(Operation::as_str),
        filter.actor,
        filter.key,
        i64::from(page.size) + 1,
        looked_to.map(|cursor| cursor.at.to_sqlx()) as Option<jiff_sqlx::Timestamp>,
        looked_to.map(audit_id_of),
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let change = rows.into_iter().map(|row| {
        Ok(ChangeRow {
            audit_id: row.audit_id,
            changed_at: row.changed_at.to_jiff(),
            actor: row.actor,
            table_name: row.table_name,
            operation: Operation::parse(&row.operation).ok_or(StoreError::Corrupt("operation"))?,
            row_key: row.row_key,
            old_values: row.old_values,
            new_values: row.new_values,
        })
    });
    Ok(Found { rows: change.collect::<Result<_, StoreError>>()?, looked_to })
}

/// The last row that a search looks at; `None` where there are not so many.
async fn find_end_of_search(
    transaction: &mut TenantTransaction,
    filter: &ChangeFilter,
    page: &Page,
) -> Result<Option<Cursor>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT l.audit_id AS "audit_id!", l.changed_at AS "changed_at!: jiff_sqlx::Timestamp"
           FROM harkara.audit_log l
           WHERE l.tenant_id = $1
             AND l.changed_at >= coalesce($2::timestamptz, '-infinity')
             AND l.changed_at < coalesce($3::timestamptz, 'infinity')
             AND (l.changed_at, l.audit_id) < (coalesce($4::timestamptz, 'infinity'), coalesce($5::bigint, 0))
           ORDER BY l.changed_at DESC, l.audit_id DESC
           OFFSET $6 LIMIT 1"#,
        transaction.tenant.as_uuid(),
        filter.from.map(|at| at.to_sqlx()) as Option<jiff_sqlx::Timestamp>,
        filter.to.map(|at| at.to_sqlx()) as Option<jiff_sqlx::Timestamp>,
        page.after.map(|cursor| cursor.at.to_sqlx()) as Option<jiff_sqlx::Timestamp>,
        page.after.map(audit_id_of),
        LOOKED_AT - 1,
    )
    .fetch_optional(&mut *transaction.connection)
    .await?;
    Ok(row.map(|row| cursor_of(row.changed_at.to_jiff(), row.audit_id)))
}

/// The place of a row in the log, as a cursor has it.
pub fn cursor_of(changed_at: Timestamp, audit_id: i64) -> Cursor {
    Cursor { at: changed_at, id: Uuid::from_u128(u128::from(audit_id.unsigned_abs())) }
}

fn audit_id_of(cursor: Cursor) -> i64 {
    i64::try_from(cursor.id.as_u128()).unwrap_or(i64::MAX)
}

/// Verifies at most `most_blocks` of the tenant's chain, from `from_block` on; the first has number 1.
pub async fn verify_chain(
    transaction: &mut TenantTransaction,
    from_block: i64,
    most_blocks: i32,
) -> Result<ChainCheck, StoreError> {
    let row = sqlx::query!(
        r#"SELECT block_count AS "block_count!", row_count AS "row_count!", head_block, head_hash, next_block,
                  broken_block, broken_reason, unsealed_count, harkara.audit_dropped_to($1) AS "dropped_to!"
           FROM harkara.verify_audit($1, $2, $3)"#,
        transaction.tenant.as_uuid(),
        from_block,
        most_blocks,
    )
    .fetch_one(&mut *transaction.connection)
    .await?;
    Ok(ChainCheck {
        block_count: row.block_count,
        row_count: row.row_count,
        head: row.head_block.zip(row.head_hash),
        next_block: row.next_block,
        broken: row.broken_block.zip(row.broken_reason),
        unsealed_count: row.unsealed_count,
        dropped_to: row.dropped_to,
    })
}

/// Seals at most `most_rows` rows across tenants; `None` where another caller is at it.
pub async fn seal_across_tenants(database: &Database, most_rows: i32) -> Result<Option<Sealing>, StoreError> {
    let mut connection = database.connection().await?;
    let row = sqlx::query!(
        r#"SELECT block_count AS "block_count!", row_count AS "row_count!", heads_hash, sealed_to AS "sealed_to!",
                  sealed_at AS "sealed_at!: jiff_sqlx::Timestamp", leaves_more AS "leaves_more!"
           FROM harkara.seal_audit($1)"#,
        most_rows,
    )
    .fetch_optional(&mut *connection)
    .await?;
    connection.give_back();
    Ok(row.map(|row| Sealing {
        block_count: row.block_count,
        row_count: row.row_count,
        heads_hash: row.heads_hash,
        sealed_to: row.sealed_to,
        sealed_at: row.sealed_at.to_jiff(),
        leaves_more: row.leaves_more,
    }))
}
