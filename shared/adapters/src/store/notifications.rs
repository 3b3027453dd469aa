//! Notifications as `api` shows, lists and cancels them.

use super::database::{StoreError, TenantTransaction};
use super::decisions::read_findings;
use super::memberships::{Collected, read_collected};
use crate::wire::pages::Page;
use domain::decision::Finding;
use domain::delivery::{AttemptOutcome, Channel, DeliveryState, Reason};
use domain::feedback::Feedback;
use domain::id::{AttemptId, DeliveryId, EscalationId, NotificationId};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::Value;
use std::collections::HashMap;

/// A notification with its deliveries and their attempts.
#[derive(Clone)]
pub struct NotificationView {
    /// Its id.
    pub id: NotificationId,
    /// Its kind.
    pub category: String,
    /// The known recipient.
    pub recipient: Option<String>,
    /// The template, where one is used.
    pub template: Option<String>,
    /// How urgent it is.
    pub priority: String,
    /// Whether it reaches nobody.
    pub sandbox: bool,
    /// The caller's own words.
    pub metadata: Value,
    /// When to send.
    pub send_at: Timestamp,
    /// When it is too late.
    pub expires_at: Option<Timestamp>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// What it has to do with batches and debounces.
    pub collected: Collected,
    /// Its deliveries.
    pub deliveries: Vec<DeliveryView>,
    /// What left with it, where it is a digest.
    pub holds: Option<DigestMembers>,
}

/// What left with a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestMembers {
    /// How many notifications.
    pub count: i32,
    /// Some of them.
    pub notifications: Vec<NotificationId>,
}

/// The digest that a delivery waits for or left with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestView {
    /// The digest's category.
    pub category: String,
    /// When it is due, or was.
    pub due: Timestamp,
    /// Its notification, once it is closed.
    pub notification: Option<NotificationId>,
    /// How the digest's own delivery stands, and why.
    pub standing: Option<(DeliveryState, Option<Reason>)>,
}

/// The most members of a digest that are named.
const NAMED_MEMBERS: i64 = 100;

domain::masked_debug!(NotificationView, "NotificationView", id, category, created_at, deliveries);

/// A delivery with its attempts.
#[derive(Clone)]
pub struct DeliveryView {
    /// Its id.
    pub id: DeliveryId,
    /// The channel.
    pub channel: Channel,
    /// Its state.
    pub state: DeliveryState,
    /// Why it is in it.
    pub reason: Option<Reason>,
    /// Why, for people.
    pub reason_detail: Option<String>,
    /// Attempts that count against the limit.
    pub spent: i32,
    /// The limit.
    pub max_attempts: i32,
    /// Before when no attempt begins.
    pub not_before: Timestamp,
    /// The provider's id of the message.
    pub provider_message_id: Option<String>,
    /// When the provider took it.
    pub sent_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When it was withdrawn, where an attempt had begun by then.
    pub withdrawn_at: Option<Timestamp>,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// What it was last decided on; empty before that.
    pub findings: Vec<Finding>,
    /// Its attempts, in order.
    pub attempts: Vec<AttemptView>,
    /// The digest that it waits for or left with.
    pub digest: Option<DigestView>,
}

domain::masked_debug!(DeliveryView, "DeliveryView", id, channel, state, reason, attempts);

impl DeliveryView {
    /// How many attempts that may have reached the recipient were followed by another one: as many mails may have come
    /// more than once, and are declared by it.
    pub fn resent_after_unknown(&self) -> usize {
        let followed = self.attempts.split_last().map_or(&[][..], |(_, followed)| followed);
        followed.iter().filter(|attempt| attempt.outcome == Some(AttemptOutcome::Unknown)).count()
    }
}

/// An attempt.
#[derive(Clone)]
pub struct AttemptView {
    /// Its id.
    pub id: AttemptId,
    /// Its number.
    pub number: i32,
    /// How it ended; `None` while it runs.
    pub outcome: Option<AttemptOutcome>,
    /// The provider's code.
    pub error_code: Option<String>,
    /// The provider's words.
    pub error_detail: Option<String>,
    /// The provider's id of the message.
    pub provider_message_id: Option<String>,
    /// The strongest thing that the provider said of the mail afterwards.
    pub feedback: Option<Feedback>,
    /// When that was heard.
    pub feedback_at: Option<Timestamp>,
    /// The version of the template that was rendered.
    pub template_version: Option<i32>,
    /// Where it went; `None` where there was no address, or it was erased.
    pub to_address: Option<String>,
    /// The name beside the address.
    pub to_name: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

domain::masked_debug!(AttemptView, "AttemptView", id, number, outcome, error_code, feedback);

/// Which notifications; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct NotificationFilter {
    /// This one only.
    pub id: Option<NotificationId>,
    /// To this known recipient.
    pub recipient: Option<String>,
    /// Of this category.
    pub category: Option<String>,
    /// With a delivery on this channel.
    pub channel: Option<Channel>,
    /// With a delivery in this state.
    pub state: Option<DeliveryState>,
    /// That left in this message.
    pub message: Option<NotificationId>,
    /// That this escalation has asked for.
    pub escalation: Option<EscalationId>,
    /// Accepted at this time or later.
    pub from: Option<Timestamp>,
    /// Accepted before this time.
    pub to: Option<Timestamp>,
}

/// What a cancel came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canceled {
    /// Deliveries that were withdrawn now.
    pub canceled_count: u32,
    /// Deliveries in all; none where there is no such notification.
    pub delivery_count: u32,
}

/// A page of the tenant's notifications, newest first, with deliveries and attempts: four statements for any page.
pub async fn list_notifications(
    transaction: &mut TenantTransaction,
    filter: &NotificationFilter,
    page: &Page,
) -> Result<Vec<NotificationView>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT n.notification_id, n.category_key, n.recipient_id, n.template_key, n.priority, n.sandbox, n.metadata,
                  n.send_at AS "send_at: jiff_sqlx::Timestamp", n.expires_at AS "expires_at: jiff_sqlx::Timestamp",
                  n.created_at AS "created_at: jiff_sqlx::Timestamp"
           FROM harkara.notifications n
           WHERE n.tenant_id = $1
             AND ($2::uuid IS NULL OR n.notification_id = $2)
             AND ($3::text IS NULL OR n.recipient_id = $3)
             AND ($4::text IS NULL OR n.category_key = $4)
             -- By the index of each kind of state: gone wrong, open, and the rest, which is nearly everything.
             AND ($5::text IS NULL
                  OR n.notification_id IN (
                      SELECT d.notification_id FROM harkara.deliveries d
                      WHERE d.tenant_id = $1 AND d.state = $5
                        AND d.state IN ('held', 'unknown', 'bounced', 'complained', 'skipped', 'canceled', 'expired',
                                        'failed', 'dead', 'absorbed'))
                  OR n.notification_id IN (
                      SELECT d.notification_id FROM harkara.deliveries d
                      WHERE d.tenant_id = $1 AND d.state = $5 AND d.due_at IS NOT NULL)
                  OR ($5 IN ('sent', 'delivered') AND (
                      SELECT count(*) FROM harkara.deliveries d
                      WHERE d.tenant_id = n.tenant_id AND d.notification_id = n.notification_id AND d.state = $5) > 0))
             AND ($6::timestamptz IS NULL OR n.created_at >= $6)
             AND ($7::timestamptz IS NULL OR n.created_at < $7)
             AND ($8::timestamptz IS NULL OR (n.created_at, n.notification_id) < ($8, $9::uuid))
             AND ($11::uuid IS NULL OR n.notification_id IN (
                      SELECT m.notification_id
                      FROM harkara.collections c
                      JOIN harkara.collection_members m ON m.tenant_id = $1 AND m.collection_id = c.collection_id
                      JOIN harkara.deliveries d ON d.tenant_id = $1 AND d.notification_id = m.notification_id
                      WHERE c.tenant_id = $1 AND c.notification_id = $11 AND d.state = 'absorbed'))
             AND ($12::uuid IS NULL OR n.notification_id IN (
                      SELECT x.notification_id FROM harkara.escalation_notifications x
                      WHERE x.tenant_id = $1 AND x.escalation_id = $12))
             -- Nearly everything is on the one channel that there is, so each is looked at by itself.
             AND ($13::text IS NULL OR (
                      SELECT count(*) FROM harkara.deliveries d
                      WHERE d.tenant_id = n.tenant_id AND d.notification_id = n.notification_id AND d.channel = $13) > 0)
           ORDER BY n.created_at DESC, n.notification_id DESC
           LIMIT $10"#,
        transaction.tenant.as_uuid(),
        filter.id.map(|id| id.as_uuid()),
        filter.recipient,
        filter.category,
        filter.state.map(|state| state.as_str()),
        filter.from.map(|at| at.to_sqlx()) as Option<jiff_sqlx::Timestamp>,
        filter.to.map(|at| at.to_sqlx()) as Option<jiff_sqlx::Timestamp>,
        page.after.map(|cursor| cursor.at.to_sqlx()) as Option<jiff_sqlx::Timestamp>,
        page.after.map(|cursor| cursor.id),
        i64::from(page.size) + 1,
        filter.message.map(|id| id.as_uuid()),
        filter.escalation.map(|id| id.as_uuid()),
        filter.channel.map(|channel| channel.as_str()),
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let ids: Vec<_> = rows.iter().map(|row| row.notification_id).collect();
    let mut deliveries = read_deliveries(transaction, &ids).await?;
    let mut holds = read_digest_members(transaction, &ids).await?;
    let mut collected = read_collected(transaction, &ids).await?;
    let view = rows.into_iter().map(|row| NotificationView {
        holds: holds.remove(&row.notification_id),
        deliveries: deliveries.remove(&row.notification_id).unwrap_or_default(),
        collected: collected.remove(&row.notification_id).unwrap_or_default(),
        id: NotificationId::from_uuid(row.notification_id),
        category: row.category_key,
        recipient: row.recipient_id,
        template: row.template_key,
        priority: row.priority,
        sandbox: row.sandbox,
        metadata: row.metadata,
        send_at: row.send_at.to_jiff(),
        expires_at: row.expires_at.map(|at| at.to_jiff()),
        created_at: row.created_at.to_jiff(),
    });
    Ok(view.collect())
}

/// Withdraws the deliveries of a notification: those that have not been claimed are canceled, the others not sent again.
pub async fn cancel_notification(
    transaction: &mut TenantTransaction,
    id: NotificationId,
) -> Result<Canceled, StoreError> {
    cancel_notifications(transaction, &[id.as_uuid()], None).await
}

/// Like [`cancel_notification`], for many, and with a word about why.
pub(super) async fn cancel_notifications(
    transaction: &mut TenantTransaction,
    ids: &[uuid::Uuid],
    detail: Option<&str>,
) -> Result<Canceled, StoreError> {
    let row = sqlx::query!(
        r#"SELECT harkara.withdraw_deliveries($1, $2, $3) AS "canceled_count!",
                  (SELECT count(*) FROM harkara.deliveries WHERE tenant_id = $1 AND notification_id = ANY ($2))::integer
                      AS "delivery_count!""#,
        transaction.tenant.as_uuid(),
        ids,
        detail,
    )
    .fetch_one(&mut *transaction.connection)
    .await?;
    Ok(Canceled {
        canceled_count: row.canceled_count.unsigned_abs(),
        delivery_count: row.delivery_count.unsigned_abs(),
    })
}

async fn read_deliveries(
    transaction: &mut TenantTransaction,
    notifications: &[uuid::Uuid],
) -> Result<HashMap<uuid::Uuid, Vec<DeliveryView>>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT d.delivery_id, d.notification_id, d.channel, d.state, d.reason, d.reason_detail, d.max_attempts,
                  d.provider_message_id, d.decision, d.attempt_count - d.uncounted_attempt_count AS "spent!",
                  -- What waits for a digest leaves with it, and by itself only if none comes.
                  coalesce(CASE WHEN e.is_waiting THEN e.due_at END, d.not_before) AS "not_before!: jiff_sqlx::Timestamp",
                  d.sent_at AS "sent_at: jiff_sqlx::Timestamp", d.finished_at AS "finished_at: jiff_sqlx::Timestamp",
                  d.withdrawn_at AS "withdrawn_at: jiff_sqlx::Timestamp",
                  d.updated_at AS "updated_at: jiff_sqlx::Timestamp",
                  e.category_key AS "digest_category?", e.due_at AS "digest_due?: jiff_sqlx::Timestamp",
                  e.digest_notification_id, x.state AS "digest_state?", x.reason AS digest_reason
           FROM harkara.deliveries d
           LEFT JOIN LATERAL (
               SELECT e.category_key, e.due_at, e.digest_notification_id, e.digest_notification_id IS NULL AS is_waiting
               FROM harkara.digest_entries e
               WHERE e.tenant_id = d.tenant_id AND e.delivery_id = d.delivery_id
                 AND (e.digest_notification_id IS NOT NULL OR d.state = 'held' AND d.reason = 'cadence_not_due')
           ) e ON true
           LEFT JOIN harkara.deliveries x
               ON x.tenant_id = d.tenant_id AND x.notification_id = e.digest_notification_id AND x.channel = d.channel
           WHERE d.tenant_id = $1 AND d.notification_id = ANY ($2)
           ORDER BY d.channel"#,
        transaction.tenant.as_uuid(),
        notifications,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let ids: Vec<_> = rows.iter().map(|row| row.delivery_id).collect();
    let mut attempts = read_attempts(transaction, &ids).await?;
    let mut deliveries: HashMap<_, Vec<_>> = HashMap::new();
    for row in rows {
        let parse_reason = |name: Option<&str>| {
            name.map(|reason| Reason::parse(reason).ok_or(StoreError::Corrupt("reason"))).transpose()
        };
        let parse_state = |name: &str| DeliveryState::parse(name).ok_or(StoreError::Corrupt("delivery state"));
        let digest_state = row.digest_state.as_deref().map(parse_state).transpose()?;
        let digest_reason = parse_reason(row.digest_reason.as_deref())?;
        let digest = row.digest_category.zip(row.digest_due).map(|(category, due)| DigestView {
            category,
            due: due.to_jiff(),
            notification: row.digest_notification_id.map(NotificationId::from_uuid),
            standing: digest_state.map(|state| (state, digest_reason)),
        });
        deliveries.entry(row.notification_id).or_default().push(DeliveryView {
            attempts: attempts.remove(&row.delivery_id).unwrap_or_default(),
            findings: row.decision.as_ref().map(read_findings).unwrap_or_default(),
            id: DeliveryId::from_uuid(row.delivery_id),
            channel: Channel::parse(&row.channel).ok_or(StoreError::Corrupt("channel"))?,
            state: parse_state(&row.state)?,
            reason: parse_reason(row.reason.as_deref())?,
            digest,
            reason_detail: row.reason_detail,
            spent: row.spent,
            max_attempts: row.max_attempts,
            not_before: row.not_before.to_jiff(),
            provider_message_id: row.provider_message_id,
            sent_at: row.sent_at.map(|at| at.to_jiff()),
            finished_at: row.finished_at.map(|at| at.to_jiff()),
            withdrawn_at: row.withdrawn_at.map(|at| at.to_jiff()),
            updated_at: row.updated_at.to_jiff(),
        });
    }
    Ok(deliveries)
}

/// What left with those of these notifications that are digests.
async fn read_digest_members(
    transaction: &mut TenantTransaction,
    notifications: &[uuid::Uuid],
) -> Result<HashMap<uuid::Uuid, DigestMembers>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT g.notification_id, g.member_count, m.notifications AS "notifications!"
           FROM harkara.digests g
           CROSS JOIN LATERAL (
               SELECT coalesce(array_agg(d.notification_id ORDER BY d.notification_id), '{}') AS notifications
               FROM (
                   SELECT e.delivery_id FROM harkara.digest_entries e
                   WHERE e.tenant_id = g.tenant_id AND e.digest_notification_id = g.notification_id
                   ORDER BY e.delivery_id
                   LIMIT $3
               ) e
               JOIN harkara.deliveries d ON d.tenant_id = g.tenant_id AND d.delivery_id = e.delivery_id
           ) m
           WHERE g.tenant_id = $1 AND g.notification_id = ANY ($2)"#,
        transaction.tenant.as_uuid(),
        notifications,
        NAMED_MEMBERS,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let members = rows.into_iter().map(|row| {
        let notifications = row.notifications.into_iter().map(NotificationId::from_uuid).collect();
        (row.notification_id, DigestMembers { count: row.member_count, notifications })
    });
    Ok(members.collect())
}

async fn read_attempts(
    transaction: &mut TenantTransaction,
    deliveries: &[uuid::Uuid],
) -> Result<HashMap<uuid::Uuid, Vec<AttemptView>>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT attempt_id, delivery_id, attempt_number, outcome, error_code, error_detail, provider_message_id,
                  template_version, to_address, to_name, feedback, feedback_at AS "feedback_at: jiff_sqlx::Timestamp",
                  started_at AS "started_at: jiff_sqlx::Timestamp", finished_at AS "finished_at: jiff_sqlx::Timestamp"
           FROM harkara.attempts
           WHERE tenant_id = $1 AND delivery_id = ANY ($2)
           ORDER BY attempt_number"#,
        transaction.tenant.as_uuid(),
        deliveries,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let mut attempts: HashMap<_, Vec<_>> = HashMap::new();
    for row in rows {
        let outcome =
            row.outcome.as_deref().map(|name| AttemptOutcome::parse(name).ok_or(StoreError::Corrupt("outcome")));
        let feedback = row.feedback.as_deref().map(|name| Feedback::parse(name).ok_or(StoreError::Corrupt("feedback")));
        attempts.entry(row.delivery_id).or_default().push(AttemptView {
            id: AttemptId::from_uuid(row.attempt_id),
            number: row.attempt_number,
            outcome: outcome.transpose()?,
            error_code: row.error_code,
            error_detail: row.error_detail,
            provider_message_id: row.provider_message_id,
            feedback: feedback.transpose()?,
            feedback_at: row.feedback_at.map(|at| at.to_jiff()),
            template_version: row.template_version,
            to_address: row.to_address,
            to_name: row.to_name,
            started_at: row.started_at.to_jiff(),
            finished_at: row.finished_at.map(|at| at.to_jiff()),
        });
    }
    Ok(attempts)
}
