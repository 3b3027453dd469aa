//! What the scheduled functions do: how to make so much of each kind due, and how to make finished ones beside it.

use sqlx::PgPool;

use crate::{Outcome, progress};

/// Rows of one statement, small enough to tell progress.
const CHUNK: i64 = 100_000;

/// A kind of due work. Each one of it becomes one message on the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DueWork {
    /// What is due.
    pub(crate) what: &'static str,
    /// The function that does it.
    pub(crate) function: &'static str,
    /// Brings the figures about the tables of what is finished up to date.
    vacuums: &'static [&'static str],
    /// Makes those of the recipients from `$1` to below `$2` due.
    due: &'static str,
    /// Makes finished ones, numbered from `$1` to below `$2`.
    past: &'static str,
    /// Rows that a finished one has.
    rows_each: i64,
}

pub(crate) const DELIVERIES: DueWork = DueWork {
    what: "deliveries",
    function: "dispatcher",
    vacuums: &[
        "VACUUM (ANALYZE) harkara.notifications",
        "VACUUM (ANALYZE) harkara.deliveries",
        "VACUUM (ANALYZE) harkara.attempts",
    ],
    due: include_str!("due/deliveries_due.sql"),
    past: include_str!("due/deliveries_past.sql"),
    rows_each: 3,
};

pub(crate) const COLLECTIONS: DueWork = DueWork {
    what: "batches",
    function: "dispatcher",
    vacuums: &["VACUUM (ANALYZE) harkara.collections", "VACUUM (ANALYZE) harkara.collection_members"],
    due: include_str!("due/collections_due.sql"),
    past: include_str!("due/collections_past.sql"),
    rows_each: 3,
};

pub(crate) const DIGESTS: DueWork = DueWork {
    what: "digests",
    function: "digest",
    vacuums: &["VACUUM (ANALYZE) harkara.digests", "VACUUM (ANALYZE) harkara.digest_entries"],
    due: include_str!("due/digests_due.sql"),
    past: include_str!("due/digests_past.sql"),
    rows_each: 2,
};

pub(crate) const ROUNDS: DueWork =
    DueWork { what: "digests of a rhythm", due: include_str!("due/rounds_due.sql"), ..DIGESTS };

pub(crate) const CHOSEN: DueWork =
    DueWork { what: "digests at a hundred chosen times", due: include_str!("due/chosen_due.sql"), ..DIGESTS };

pub(crate) const RUNGS: DueWork = DueWork {
    what: "rungs",
    function: "reminder",
    vacuums: &["VACUUM (ANALYZE) harkara.deadlines", "VACUUM (ANALYZE) harkara.rungs"],
    due: include_str!("due/rungs_due.sql"),
    past: include_str!("due/rungs_past.sql"),
    rows_each: 2,
};

pub(crate) const ESCALATIONS: DueWork = DueWork {
    what: "escalation steps",
    function: "escalation",
    vacuums: &[
        "VACUUM (ANALYZE) harkara.escalations",
        "VACUUM (ANALYZE) harkara.escalation_steps",
        "VACUUM (ANALYZE) harkara.escalation_notifications",
    ],
    due: include_str!("due/escalations_due.sql"),
    past: include_str!("due/escalations_past.sql"),
    rows_each: 3,
};

impl DueWork {
    /// Makes it due for the recipients from `first` to below `end`, who have to be there.
    pub(crate) async fn make_due(self, admin: &PgPool, first: i64, end: i64) -> Outcome<()> {
        insert_chunks(admin, self.due, first, end).await
    }

    /// Has so many rows of finished work in place of the `there` rows that there were.
    pub(crate) async fn make_past(self, admin: &PgPool, there: i64, rows: i64) -> Outcome<()> {
        let (first, end) = (there / self.rows_each, rows / self.rows_each);
        let mut connection = admin.acquire().await?;
        // Without triggers and foreign keys: history is not under test, and the audit of it would be as large again.
        sqlx::query("SET session_replication_role = replica").execute(&mut *connection).await?;
        let mut from = first;
        while from < end {
            let to = (from + CHUNK).min(end);
            progress(&format!("making history of {}: {} of {rows} rows", self.what, from * self.rows_each));
            sqlx::query(self.past).bind(from).bind(to).execute(&mut *connection).await?;
            from = to;
        }
        sqlx::query("SET session_replication_role = origin").execute(&mut *connection).await?;
        for vacuum in self.vacuums {
            sqlx::query(*vacuum).execute(&mut *connection).await?;
        }
        Ok(())
    }
}

/// Makes known recipients of these numbers, those that are not there yet.
pub(crate) async fn make_recipients(admin: &PgPool, first: i64, end: i64) -> Outcome<()> {
    insert_chunks(admin, include_str!("due/recipients.sql"), first, end).await?;
    sqlx::query("VACUUM (ANALYZE) harkara.recipients").execute(admin).await?;
    Ok(())
}

/// Ends what is open, so that nobody comes upon it again.
pub(crate) async fn end_what_is_open(admin: &PgPool) -> Outcome<()> {
    for statement in [
        "DELETE FROM harkara.events",
        "UPDATE harkara.deliveries SET state = 'canceled', reason = 'canceled', due_at = NULL, finished_at = now()
         WHERE due_at IS NOT NULL AND state IN ('scheduled', 'queued', 'held')",
    ] {
        sqlx::query(statement).execute(admin).await?;
    }
    Ok(())
}

async fn insert_chunks(admin: &PgPool, insert: &'static str, first: i64, end: i64) -> Outcome<()> {
    let mut from = first;
    while from < end {
        let to = (from + CHUNK).min(end);
        sqlx::query(insert).bind(from).bind(to).execute(admin).await?;
        from = to;
    }
    Ok(())
}
