//! What came to the dead-letter queue: stored by `dead_letter`, shown and redriven by `api`.

use super::claims::DeliveryKey;
use super::database::{Database, StoreError, TenantTransaction};
use crate::wire::pages::Page;
use domain::event::Event;
use domain::id::{DeadLetterId, DeliveryId, EventId, NotificationId, TenantId};
use domain::queue::DeliveryMessage;
use domain::retry;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;

/// A message from the dead-letter queue.
#[derive(Clone)]
pub struct NewDeadLetter {
    /// An id for it.
    pub id: DeadLetterId,
    /// An id for its `dead_letter.added` event.
    pub event_id: EventId,
    /// The message's id; the same message again is the same dead letter.
    pub queue_message_id: String,
    /// Whose delivery the body names, if it names any.
    pub named: Option<DeliveryKey>,
    /// The body.
    pub body: String,
    /// Why it died.
    pub reason: String,
    /// Why, for people.
    pub reason_detail: Option<String>,
    /// How often it was received.
    pub receive_count: i32,
    /// When it was first sent, in milliseconds since 1970.
    pub sent_at_millis: Option<i64>,
}

domain::masked_debug!(NewDeadLetter, "NewDeadLetter", id, named, reason, receive_count);

/// A stored dead letter.
#[derive(Clone)]
pub struct DeadLetter {
    /// Its id.
    pub id: DeadLetterId,
    /// The delivery, where it is one of the tenant's.
    pub delivery: Option<DeliveryId>,
    /// Of which notification.
    pub notification: Option<NotificationId>,
    /// Of which category.
    pub category: Option<String>,
    /// The body.
    pub body: String,
    /// Why it died.
    pub reason: String,
    /// Why, for people.
    pub reason_detail: Option<String>,
    /// How often it was received.
    pub receive_count: i32,
    /// When its message was first sent.
    pub first_sent_at: Option<Timestamp>,
    /// When it was stored.
    pub created_at: Timestamp,
    /// When it was last redriven.
    pub redriven_at: Option<Timestamp>,
}

domain::masked_debug!(DeadLetter, "DeadLetter", id, delivery, notification, reason, receive_count, created_at);

/// Which dead letters; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterFilter {
    /// These only.
    pub ids: Option<Vec<DeadLetterId>>,
    /// Of this category.
    pub category: Option<String>,
    /// With this reason.
    pub reason: Option<String>,
    /// Stored at this time or later.
    pub from: Option<Timestamp>,
    /// Stored before this time.
    pub to: Option<Timestamp>,
}

/// What a redrive brought back.
#[derive(Debug, Default)]
pub struct Redriven {
    /// The dead letters.
    pub dead_letters: Vec<DeadLetterId>,
    /// The messages of their deliveries.
    pub messages: Vec<DeliveryMessage>,
}

/// Stores dead letters across tenants, marks their deliveries, and returns the events to tell.
///
/// The tenant is the one that the body names, if it exists; else the operator's, who owns what nobody owns.
/// A delivery that is dead is marked as buried. One that is still open lost only a message, which is a hint:
/// it becomes due at once, and the dispatcher goes on with it.
pub async fn store_across_tenants(database: &Database, letters: &[NewDeadLetter]) -> Result<Vec<Event>, StoreError> {
    if letters.is_empty() {
        return Ok(Vec::new());
    }
    let mut connection = database.connection().await?;
    let rows = sqlx::query_file!(
        "src/store/store_dead_letters.sql",
        &letters.iter().map(|letter| letter.id.as_uuid()).collect::<Vec<_>>(),
        &letters.iter().map(|letter| letter.event_id.as_uuid()).collect::<Vec<_>>(),
        &letters.iter().map(|letter| letter.queue_message_id.clone()).collect::<Vec<_>>(),
        &letters.iter().map(|letter| letter.named.map(|key| key.tenant.as_uuid())).collect::<Vec<_>>()
            as &[Option<uuid::Uuid>],
        &letters.iter().map(|letter| letter.named.map(|key| key.delivery.as_uuid())).collect::<Vec<_>>()
            as &[Option<uuid::Uuid>],
        &letters.iter().map(|letter| letter.body.replace('\0', "\u{fffd}")).collect::<Vec<_>>(),
        &letters.iter().map(|letter| letter.reason.clone()).collect::<Vec<_>>(),
        &letters.iter().map(|letter| letter.reason_detail.clone()).collect::<Vec<_>>() as &[Option<String>],
        &letters.iter().map(|letter| letter.receive_count).collect::<Vec<_>>(),
        &letters.iter().map(|letter| letter.sent_at_millis).collect::<Vec<_>>() as &[Option<i64>],
    )
    .fetch_all(&mut *connection)
    .await?;
    connection.give_back();
    let event = rows.into_iter().map(|row| Event {
        id: EventId::from_uuid(row.event_id),
        tenant: TenantId::from_uuid(row.tenant_id),
        detail_type: row.detail_type,
        detail: row.detail,
    });
    Ok(event.collect())
}

/// A page of the tenant's dead letters, newest first.
pub async fn list_dead_letters(
    transaction: &mut TenantTransaction,
    filter: &DeadLetterFilter,
    page: &Page,
) -> Result<Vec<DeadLetter>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT l.dead_letter_id, l.delivery_id AS "delivery_id?", d.notification_id AS "notification_id?",
                  n.category_key AS "category_key?", l.body, l.reason, l.reason_detail, l.receive_count,
                  l.first_sent_at AS "first_sent_at: jiff_sqlx::Timestamp",
                  l.created_at AS "created_at: jiff_sqlx::Timestamp",
                  l.redriven_at AS "redriven_at: jiff_sqlx::Timestamp"
           FROM harkara.dead_letters l
           LEFT JOIN harkara.deliveries d ON d.tenant_id = l.tenant_id AND d.delivery_id = l.delivery_id
           LEFT JOIN harkara.notifications n ON n.tenant_id = d.tenant_id AND n.notification_id = d.notification_id
           WHERE l.tenant_id = $1
             AND ($2::text IS NULL OR n.category_key = $2)
             AND ($3::text IS NULL OR l.reason = $3)
             AND ($4::timestamptz IS NULL OR l.created_at >= $4)
             AND ($5::timestamptz IS NULL OR l.created_at < $5)
             AND ($6::timestamptz IS NULL OR (l.created_at, l.dead_letter_id) < ($6, $7::uuid))
           ORDER BY l.created_at DESC, l.dead_letter_id DESC
           LIMIT $8"#,
        transaction.tenant.as_uuid(),
        filter.category,
        filter.reason,
        filter.from.map(|at| at.to_sqlx()) as Option<jiff_sqlx::Timestamp>,
        filter.to.map(|at| at.to_sqlx()) as Option<jiff_sqlx::Timestamp>,
        page.after.map(|cursor| cursor.at.to_sqlx()) as Option<jiff_sqlx::Timestamp>,
        page.after.map(|cursor| cursor.id),
        i64::from(page.size) + 1,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let letter = rows.into_iter().map(|row| DeadLetter {
        id: DeadLetterId::from_uuid(row.dead_letter_id),
        delivery: row.delivery_id.map(DeliveryId::from_uuid),
        notification: row.notification_id.map(NotificationId::from_uuid),
        category: row.category_key,
        body: row.body,
        reason: row.reason,
        reason_detail: row.reason_detail,
        receive_count: row.receive_count,
        first_sent_at: row.first_sent_at.map(|at| at.to_jiff()),
        created_at: row.created_at.to_jiff(),
        redriven_at: row.redriven_at.map(|at| at.to_jiff()),
    });
    Ok(letter.collect())
}

/// Queues the dead deliveries of these dead letters again, with all their attempts to spend.
/// What is not dead any more is left alone, so that asking twice sends once.
pub async fn redrive_dead_letters(
    transaction: &mut TenantTransaction,
    filter: &DeadLetterFilter,
    limit: u32,
) -> Result<Redriven, StoreError> {
    let ids = filter.ids.as_ref().map(|ids| ids.iter().map(|id| id.as_uuid()).collect::<Vec<_>>());
    let rows = sqlx::query_file!(
        "src/store/redrive_dead_letters.sql",
        transaction.tenant.as_uuid(),
        ids.as_deref() as Option<&[uuid::Uuid]>,
        filter.category,
        filter.reason,
        filter.from.map(|at| at.to_sqlx()) as Option<jiff_sqlx::Timestamp>,
        filter.to.map(|at| at.to_sqlx()) as Option<jiff_sqlx::Timestamp>,
        i64::from(limit),
        i32::try_from(retry::republish_after(1).as_secs()).unwrap_or(i32::MAX),
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let mut redriven = Redriven::default();
    for row in rows {
        redriven.dead_letters.push(DeadLetterId::from_uuid(row.dead_letter_id));
        redriven.messages.push(DeliveryMessage {
            tenant: transaction.tenant,
            delivery: DeliveryId::from_uuid(row.delivery_id),
            traceparent: row.traceparent,
        });
    }
    Ok(redriven)
}
