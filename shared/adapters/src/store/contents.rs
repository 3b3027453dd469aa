//! What a delivery was rendered from, to render it once more.

use super::claim_row::read_invitation;
use super::claims::Acting;
use super::database::{StoreError, TenantTransaction};
use domain::calendar::Invitation;
use domain::id::{AttachmentId, CategoryKey, DeliveryId, EscalationId, NotificationId};
use domain::link::SubjectId;
use domain::render::TemplateSource;
use jiff::Timestamp;
use serde_json::Value;
use std::fmt;

/// What the last attempt that rendered anything was made of.
pub struct SentContent {
    /// Which delivery.
    pub delivery: DeliveryId,
    /// Of which notification.
    pub notification: NotificationId,
    /// Its kind.
    pub category: CategoryKey,
    /// Whether the recipient was erased since, and the notification's data with it.
    pub is_erased: bool,
    /// Whether the recipient cannot leave it, as things are now.
    pub is_mandatory: bool,
    /// When the notification was accepted.
    pub accepted_at: Timestamp,
    /// The files that left with it, in order.
    pub attachments: Vec<AttachmentId>,
    /// The event that it invites to.
    pub invitation: Option<Invitation>,
    /// What the tenant is called.
    pub tenant_name: String,
    /// The tenant's sender, as things are now.
    pub from_address: Option<String>,
    /// The sender's name, as things are now.
    pub from_name: Option<String>,
    /// The known recipient.
    pub recipient: Option<String>,
    /// Who that is to links.
    pub subject: SubjectId,
    /// The recipient's name, as things are now.
    pub name: Option<String>,
    /// The recipient's mail address, as things are now.
    pub email: Option<String>,
    /// The language to write in.
    pub locale: String,
    /// The zone to show times in.
    pub time_zone: String,
    /// What else the tenant keeps about the recipient.
    pub attributes: Value,
    /// The template's variables.
    pub data: Value,
    /// The template, its variant and version; `None` where the request brought every word.
    pub template: Option<String>,
    /// The variant.
    pub template_locale: Option<String>,
    /// The version.
    pub template_version: Option<i32>,
    /// What was rendered.
    pub source: TemplateSource,
    /// What the links in it act on, where an escalation asked for it.
    pub acting: Option<Acting>,
    /// The digest of what was sent.
    pub content_hash: Vec<u8>,
}

/// Shows ids only: the rest is a person's.
impl fmt::Debug for SentContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentContent").field("delivery", &self.delivery).finish_non_exhaustive()
    }
}

/// What a delivery was rendered from; `None` where nothing was.
pub async fn read_sent(
    transaction: &mut TenantTransaction,
    delivery: DeliveryId,
) -> Result<Option<SentContent>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT n.notification_id, n.category_key, n.recipient_id, n.data, n.subject, n.text_body, n.html_body,
                  n.attachments, n.calendar, n.created_at AS "accepted_at: jiff_sqlx::Timestamp",
                  t.name AS tenant_name, t.from_address, t.from_name, coalesce(n.name, r.name) AS name, coalesce(n.email, r.email) AS email,
                  coalesce(n.locale, r.locale, t.locale) AS "locale!",
                  coalesce(n.time_zone, r.time_zone, t.time_zone) AS "time_zone!",
                  coalesce(r.attributes, '{}') AS "attributes!",
                  coalesce(r.subject_id, harkara.address_subject(t.salt, coalesce(n.email, n.phone))) AS "subject_id!",
                  r.erased_at IS NOT NULL AS "is_erased!",
                  ('*' = ANY (k.unmutable_roles) OR coalesce(k.unmutable_roles && r.roles, false)) AS "is_mandatory!",
                  x.escalation_id AS "escalation_id?", x.links_expire_at AS "links_expire_at?: jiff_sqlx::Timestamp",
                  a.template_key, a.template_locale, a.template_version, a.content_hash AS "content_hash!",
                  v.subject AS "template_subject?", v.text_body AS "template_text?", v.html_body AS "template_html?"
           FROM harkara.attempts a
           JOIN harkara.deliveries d USING (tenant_id, delivery_id)
           JOIN harkara.notifications n USING (tenant_id, notification_id)
           JOIN harkara.tenants t USING (tenant_id)
           JOIN harkara.categories k USING (tenant_id, category_key)
           LEFT JOIN harkara.recipients r ON r.tenant_id = n.tenant_id AND r.recipient_id = n.recipient_id
           LEFT JOIN harkara.escalation_notifications x ON x.tenant_id = n.tenant_id AND x.notification_id = n.notification_id
           LEFT JOIN harkara.template_versions v
               ON v.tenant_id = a.tenant_id AND v.template_key = a.template_key AND v.channel = d.channel
              AND v.locale = a.template_locale AND v.version = a.template_version
           WHERE a.tenant_id = $1 AND a.delivery_id = $2 AND a.content_hash IS NOT NULL
           ORDER BY a.attempt_number DESC
           LIMIT 1"#,
        transaction.tenant.as_uuid(),
        delivery.as_uuid(),
    )
    .fetch_optional(&mut *transaction.connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let has_body = row.text_body.is_some() || row.html_body.is_some();
    let (text, html) = if has_body { (row.text_body, row.html_body) } else { (row.template_text, row.template_html) };
    Ok(Some(SentContent {
        delivery,
        notification: NotificationId::from_uuid(row.notification_id),
        category: CategoryKey::parse(&row.category_key).map_err(|_| StoreError::Corrupt("category"))?,
        is_erased: row.is_erased,
        is_mandatory: row.is_mandatory,
        accepted_at: row.accepted_at.to_jiff(),
        attachments: row.attachments.into_iter().map(AttachmentId::from_uuid).collect(),
        invitation: read_invitation(row.calendar.as_ref())?,
        tenant_name: row.tenant_name,
        from_address: row.from_address,
        from_name: row.from_name,
        recipient: row.recipient_id,
        subject: SubjectId::from_uuid(row.subject_id),
        name: row.name,
        email: row.email,
        locale: row.locale,
        time_zone: row.time_zone,
        attributes: row.attributes,
        data: row.data,
        template: row.template_key,
        template_locale: row.template_locale,
        template_version: row.template_version,
        source: TemplateSource {
            subject: row.subject.or(row.template_subject).ok_or(StoreError::Corrupt("template version"))?,
            text,
            html,
        },
        acting: row
            .escalation_id
            .zip(row.links_expire_at)
            .map(|(id, at)| Acting { escalation: EscalationId::from_uuid(id), expires_at: at.to_jiff() }),
        content_hash: row.content_hash,
    }))
}
