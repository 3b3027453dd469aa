//! The dispatcher's statements for batches and debounces: find those whose time has come, lock them with the deliveries
//! that wait in them, and write what came of them.

use super::database::{Database, StoreError, TenantTransaction};
use super::due_tenants::list_due_tenants;
use domain::address::{EmailAddress, PhoneNumber};
use domain::category::Priority;
use domain::collection::{CollectionKind, CollectionOutcome, MAX_ITEM_BYTES, MAX_ITEMS};
use domain::delivery::Channel;
use domain::id::{CategoryKey, NotificationId, RecipientKey, TemplateKey, TenantId};
use domain::locale::Locale;
use domain::moment::TimeZoneName;
use domain::name::DisplayName;
use domain::notification::{InlineContent, InlineRecipient, NotificationRequest, Recipient};
use serde_json::Value;
use uuid::Uuid;

/// A collection that is due, locked, with the deliveries that wait in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueCollection {
    /// Which.
    pub id: Uuid,
    /// How it collects.
    pub kind: CollectionKind,
    /// Members that can still leave, and are in time.
    pub waiting: usize,
    /// Members that a message tells of: in a debounce, the replaced ones, too.
    pub told: usize,
}

/// What the message of a collection is made of.
pub struct Contents {
    /// Whose.
    pub collection: Uuid,
    /// The last member, as it was asked for; with the members' highest priority, in time for as long as any of them, and by
    /// every channel that one of them waits for: the message stands for all of them, and each of its deliveries for theirs on
    /// its channel. What the recipient wants of which channel is decided when they leave, as with any other.
    pub last: NotificationRequest,
    /// The data of the first.
    pub first: Value,
    /// The data of those that can be listed, in order.
    pub items: Vec<Value>,
}

domain::masked_debug!(Contents, "Contents", collection);

/// What came of a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Which.
    pub id: Uuid,
    /// How it collected.
    pub kind: CollectionKind,
    /// What came of it.
    pub outcome: CollectionOutcome,
    /// The message, and how many members it tells of.
    pub message: Option<(NotificationId, usize)>,
}

/// The active tenants that have due collections, up to `limit` of them, across tenants. Which ones, is left to chance
/// where there are more, so that nobody waits for another's backlog.
pub async fn find_due_across_tenants(database: &Database, limit: u32) -> Result<Vec<TenantId>, StoreError> {
    Ok(list_due_tenants!(
        database, "harkara.collections", waits: "w.due_at IS NOT NULL", due: "due_at", except: [], limit: i64::from(limit)))
}

/// Locks up to `limit` due collections, the longest due first, and tells how many members each may have; those that another
/// dispatcher has are passed over.
pub async fn lock_due_collections(
    transaction: &mut TenantTransaction,
    limit: u32,
) -> Result<Vec<(Uuid, usize)>, StoreError> {
    let rows = sqlx::query!(
        "SELECT collection_id, member_count FROM harkara.collections
         WHERE tenant_id = $1 AND due_at <= harkara.now()
         ORDER BY due_at, collection_id
         LIMIT $2
         FOR UPDATE SKIP LOCKED",
        transaction.tenant.as_uuid(),
        i64::from(limit),
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let count = |count: i32| usize::try_from(count).map_err(|_| StoreError::Corrupt("count"));
    rows.into_iter().map(|row| Ok((row.collection_id, count(row.member_count)?))).collect()
}

/// Locks one collection, where it is due still and no other dispatcher has it.
pub async fn lock_collection(transaction: &mut TenantTransaction, id: Uuid) -> Result<Vec<Uuid>, StoreError> {
    let ids = sqlx::query_scalar!(
        "SELECT collection_id FROM harkara.collections
         WHERE tenant_id = $1 AND collection_id = $2 AND due_at <= harkara.now()
         FOR UPDATE SKIP LOCKED",
        transaction.tenant.as_uuid(),
        id,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    Ok(ids)
}

/// Locks the deliveries that wait in locked collections, ends those that are too late, and counts the members.
///
/// No member can come meanwhile, because that takes the collection's row. Recipients are locked first, as whoever erases
/// one does.
pub async fn lock_members(
    transaction: &mut TenantTransaction,
    collections: &[Uuid],
) -> Result<Vec<DueCollection>, StoreError> {
    let tenant = transaction.tenant.as_uuid();
    sqlx::query!(
        "SELECT FROM harkara.recipients r
         WHERE r.tenant_id = $1 AND r.recipient_id IN (
             SELECT c.recipient_id FROM harkara.collections c WHERE c.tenant_id = $1 AND c.collection_id = ANY ($2))
         ORDER BY r.recipient_id FOR KEY SHARE",
        tenant,
        collections,
    )
    .execute(&mut *transaction.connection)
    .await?;
    sqlx::query_file!("src/store/lock_collected.sql", tenant, collections)
        .execute(&mut *transaction.connection)
        .await?;
    let rows = sqlx::query!(
        r#"SELECT c.collection_id, c.kind,
                  count(DISTINCT m.notification_id) FILTER (WHERE d.state IN ('scheduled', 'queued', 'held')) AS "waiting!",
                  count(DISTINCT m.notification_id)
                      FILTER (WHERE d.state IN ('scheduled', 'queued', 'held') OR d.reason = 'replaced_by_later') AS "told!"
           FROM harkara.collections c
           -- Of one that was open for long, none may be kept any more; it ends all the same.
           LEFT JOIN harkara.collection_members m ON m.tenant_id = c.tenant_id AND m.collection_id = c.collection_id
           LEFT JOIN harkara.deliveries d ON d.tenant_id = m.tenant_id AND d.notification_id = m.notification_id
           WHERE c.tenant_id = $1 AND c.collection_id = ANY ($2)
           GROUP BY c.collection_id, c.kind"#,
        tenant,
        collections,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let due = rows.into_iter().map(|row| {
        Ok(DueCollection {
            id: row.collection_id,
            kind: CollectionKind::parse(&row.kind).ok_or(StoreError::Corrupt("kind of a collection"))?,
            waiting: usize::try_from(row.waiting).map_err(|_| StoreError::Corrupt("count"))?,
            told: usize::try_from(row.told).map_err(|_| StoreError::Corrupt("count"))?,
        })
    });
    due.collect()
}

/// Reads what the messages of locked collections are made of, within bounds.
pub async fn read_contents(
    transaction: &mut TenantTransaction,
    collections: &[Uuid],
) -> Result<Vec<Contents>, StoreError> {
    let rows = sqlx::query_file!(
        "src/store/read_collected.sql",
        transaction.tenant.as_uuid(),
        collections,
        i64::try_from(MAX_ITEMS).unwrap_or(i64::MAX),
        i64::try_from(MAX_ITEM_BYTES).unwrap_or(i64::MAX),
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let contents = rows.into_iter().map(|row| {
        let recipient = match row.recipient_id {
            Some(id) => Recipient::Known(stored(RecipientKey::parse(&id))?),
            None => Recipient::Inline(InlineRecipient {
                email: row.email.map(|text| stored(EmailAddress::parse(&text))).transpose()?,
                phone: row.phone.map(|text| stored(PhoneNumber::parse(&text))).transpose()?,
                name: row.name.map(|text| stored(DisplayName::parse(&text))).transpose()?,
                locale: row.locale.map(|text| stored(Locale::parse(&text))).transpose()?,
                time_zone: row.time_zone.map(|text| stored(TimeZoneName::parse(&text))).transpose()?,
            }),
        };
        let channels = row.channels.iter().map(|name| Channel::parse(name)).collect::<Option<Vec<_>>>();
        Ok(Contents {
            collection: row.collection_id,
            last: NotificationRequest {
                category: stored(CategoryKey::parse(&row.category_key))?,
                recipients: vec![recipient],
                channels: Some(channels.ok_or(StoreError::Corrupt("channel"))?),
                template: row.template_key.map(|key| stored(TemplateKey::parse(&key))).transpose()?,
                content: InlineContent { subject: row.subject, text: row.text_body, html: row.html_body },
                data: row.data,
                attachments: Vec::new(),
                invitation: None,
                send_at: None,
                expires_at: row.expires_at.map(|at| at.to_jiff()),
                dedupe: None,
                collect: None,
                priority: Priority::parse(&row.priority).ok_or(StoreError::Corrupt("priority"))?,
                sandbox: row.sandbox,
                metadata: row.metadata,
            },
            first: row.first_data,
            items: match row.items {
                Value::Array(items) => items,
                _ => return Err(StoreError::Corrupt("list of members")),
            },
        })
    });
    contents.collect()
}

/// Writes what came of locked collections: members that are in a message end as absorbed, those that leave by themselves
/// are due now.
pub async fn write_closed(transaction: &mut TenantTransaction, closed: &[Closed]) -> Result<(), StoreError> {
    let ids: Vec<_> = closed.iter().map(|closed| closed.id).collect();
    let outcomes: Vec<_> = closed.iter().map(|closed| closed.outcome.as_str().to_owned()).collect();
    let reasons: Vec<_> = closed.iter().map(|closed| closed.kind.absorbed_reason().as_str().to_owned()).collect();
    let messages: Vec<_> = closed.iter().map(|closed| closed.message.map(|(id, _)| id.as_uuid())).collect();
    let counts: Vec<_> =
        closed.iter().map(|closed| closed.message.map(|(_, count)| i32::try_from(count).unwrap_or(i32::MAX))).collect();
    sqlx::query_file!(
        "src/store/write_closed.sql",
        transaction.tenant.as_uuid(),
        &ids,
        &outcomes,
        &reasons,
        &messages as &[Option<Uuid>],
        &counts as &[Option<i32>],
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}

/// Puts a collection off that cannot be closed now. It stays as late as it is.
pub async fn put_off_collection(transaction: &mut TenantTransaction, id: Uuid, seconds: i32) -> Result<(), StoreError> {
    sqlx::query!(
        "UPDATE harkara.collections
         SET due_at = harkara.now() + make_interval(secs => $3::integer), was_due_at = coalesce(was_due_at, due_at)
         WHERE tenant_id = $1 AND collection_id = $2 AND closed_at IS NULL",
        transaction.tenant.as_uuid(),
        id,
        seconds,
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(())
}

/// What was parsed before it was stored.
fn stored<T, E>(parsed: Result<T, E>) -> Result<T, StoreError> {
    parsed.map_err(|_| StoreError::Corrupt("member of a collection"))
}
