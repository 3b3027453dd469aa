//! Which collection a notification waits or waited in, and which notifications a message was made of.

use super::database::{StoreError, TenantTransaction};
use domain::collection::{CollectionKind, Membership};
use domain::id::NotificationId;
use std::collections::HashMap;
use uuid::Uuid;

/// The most members that a message names; the list of notifications pages through all.
const NAMED_MEMBERS: i64 = 100;

/// What a notification has to do with collections.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Collected {
    /// The collection that it is a member of.
    pub membership: Option<Membership>,
    /// The members that it is the message of.
    pub members: Option<Members>,
}

/// The members of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Members {
    /// How they were collected.
    pub kind: CollectionKind,
    /// How many they are.
    pub count: u32,
    /// The first of them, in the order in which they came.
    pub ids: Vec<NotificationId>,
}

/// What those of the given notifications that have to do with collections have to do with them: one statement for any number.
pub(super) async fn read_collected(
    transaction: &mut TenantTransaction,
    notifications: &[Uuid],
) -> Result<HashMap<Uuid, Collected>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT asked.notification_id AS "notification_id!",
                  c.kind AS "kind?", c.due_at AS "due_at?: jiff_sqlx::Timestamp", c.notification_id AS "message?",
                  made.kind AS "made_kind?", made.absorbed_count AS "absorbed_count?", named.ids AS "ids?"
           FROM unnest($2::uuid[]) AS asked (notification_id)
           LEFT JOIN harkara.collection_members m ON m.tenant_id = $1 AND m.notification_id = asked.notification_id
           LEFT JOIN harkara.collections c ON c.tenant_id = $1 AND c.collection_id = m.collection_id
           LEFT JOIN harkara.collections made ON made.tenant_id = $1 AND made.notification_id = asked.notification_id
           LEFT JOIN LATERAL (
               SELECT array_agg(x.notification_id ORDER BY x.position) AS ids
               FROM (SELECT o.notification_id, o.position
                     FROM harkara.collection_members o
                     WHERE o.tenant_id = $1 AND o.collection_id = made.collection_id
                       AND EXISTS (SELECT FROM harkara.deliveries d
                                   WHERE d.tenant_id = $1 AND d.notification_id = o.notification_id AND d.state = 'absorbed')
                     ORDER BY o.position
                     LIMIT $3) x
           ) named ON true
           WHERE m.notification_id IS NOT NULL OR made.collection_id IS NOT NULL"#,
        transaction.tenant.as_uuid(),
        notifications,
        NAMED_MEMBERS,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let kind = |name: String| CollectionKind::parse(&name).ok_or(StoreError::Corrupt("kind of a collection"));
    let collected = rows.into_iter().map(|row| {
        let closes_at = row.due_at.map(|at| at.to_jiff());
        let message = row.message.map(NotificationId::from_uuid);
        let membership = row.kind.map(kind).transpose()?.map(|kind| Membership { kind, closes_at, message });
        let members = row.made_kind.map(kind).transpose()?.map(|kind| Members {
            kind,
            count: row.absorbed_count.unwrap_or_default().unsigned_abs(),
            ids: row.ids.unwrap_or_default().into_iter().map(NotificationId::from_uuid).collect(),
        });
        Ok((row.notification_id, Collected { membership, members }))
    });
    collected.collect()
}
