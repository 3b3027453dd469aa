//! What came through the SQL door, as its tenant sees it: `api` shows what waits, what was refused, and what was accepted.

use super::database::{StoreError, TenantTransaction};
use crate::wire::pages::Page;
use domain::id::NotificationId;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::Value;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoorStatus {
    /// The dispatcher has not taken it: it will within a minute, or waits for the day's quota or for a tenant that is
    /// suspended.
    Waiting,
    /// It is no notification, for the reasons that it has.
    Refused,
    /// It is a notification, and has left the door.
    Accepted,
}

impl DoorStatus {
    /// Every status.
    pub const ALL: &[Self] = &[Self::Waiting, Self::Refused, Self::Accepted];
    /// Those of what is still in the door, which is all that is listed.
    pub const LISTED: &[Self] = &[Self::Waiting, Self::Refused];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Refused => "refused",
            Self::Accepted => "accepted",
        }
    }

    /// Reads the name of one that is listed.
    pub fn parse_listed(text: &str) -> Option<Self> {
        Self::LISTED.iter().copied().find(|status| status.as_str() == text)
    }
}

/// A request as its tenant sees it.
pub struct DoorRequestView {
    /// The id that `harkara.enqueue` answered with, which is that of the notification.
    pub id: NotificationId,
    /// What became of it.
    pub status: DoorStatus,
    /// Its category; `None` where nothing is kept of it, because its recipient was erased.
    pub category: Option<String>,
    /// The known recipient.
    pub recipient: Option<String>,
    /// Why it was refused: `[{pointer, detail}]`.
    pub errors: Option<Value>,
    /// When its domain asked; of one that was accepted, when that was.
    pub created_at: Timestamp,
    /// When the dispatcher looks at it, where it waits.
    pub due_at: Option<Timestamp>,
    /// When it was refused.
    pub refused_at: Option<Timestamp>,
}

domain::masked_debug!(DoorRequestView, "DoorRequestView", id, status, category, created_at);

/// A page of what waits or was refused, the newest first.
pub async fn list_door_requests(
    transaction: &mut TenantTransaction,
    status: Option<DoorStatus>,
    page: &Page,
) -> Result<Vec<DoorRequestView>, StoreError> {
    let rows = sqlx::query_file!(
        "src/store/list_door_requests.sql",
        transaction.tenant.as_uuid(),
        status.map(DoorStatus::as_str),
        page.after.map(|cursor| cursor.at.to_sqlx()) as Option<jiff_sqlx::Timestamp>,
        page.after.map(|cursor| cursor.id),
        i64::from(page.size) + 1,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let view = rows.into_iter().map(|row| DoorRequestView {
        id: NotificationId::from_uuid(row.request_id),
        status: if row.refused_at.is_some() { DoorStatus::Refused } else { DoorStatus::Waiting },
        category: row.category_key,
        recipient: row.recipient_id,
        errors: row.errors,
        created_at: row.created_at.to_jiff(),
        due_at: row.due_at.map(|at| at.to_jiff()),
        refused_at: row.refused_at.map(|at| at.to_jiff()),
    });
    Ok(view.collect())
}

/// What became of the request with this id. A notification is one that was accepted, whichever way it was asked for: the
/// transaction that makes it takes the request out of the door, so one of both is there at any moment.
pub async fn read_door_request(
    transaction: &mut TenantTransaction,
    id: NotificationId,
) -> Result<Option<DoorRequestView>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT d.request ->> 'category' AS category_key, d.recipient_id, d.errors, false AS "is_accepted!",
                  d.created_at AS "created_at!: jiff_sqlx::Timestamp", d.due_at AS "due_at: jiff_sqlx::Timestamp",
                  d.refused_at AS "refused_at: jiff_sqlx::Timestamp"
           FROM harkara.door_requests d
           WHERE d.tenant_id = $1 AND d.request_id = $2
           UNION ALL
           SELECT n.category_key, n.recipient_id, NULL, true, n.created_at, NULL, NULL
           FROM harkara.notifications n
           WHERE n.tenant_id = $1 AND n.notification_id = $2"#,
        transaction.tenant.as_uuid(),
        id.as_uuid(),
    )
    .fetch_optional(&mut *transaction.connection)
    .await?;
    Ok(row.map(|row| DoorRequestView {
        id,
        status: match (row.is_accepted, row.refused_at) {
            (true, _) => DoorStatus::Accepted,
            (false, Some(_)) => DoorStatus::Refused,
            (false, None) => DoorStatus::Waiting,
        },
        category: row.category_key,
        recipient: row.recipient_id,
        errors: row.errors,
        created_at: row.created_at.to_jiff(),
        due_at: row.due_at.map(|at| at.to_jiff()),
        refused_at: row.refused_at.map(|at| at.to_jiff()),
    }))
}
