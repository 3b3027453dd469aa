//! What a batch's or a digest's message told of, page by page, for whoever has its link.

use super::database::{StoreError, TenantTransaction};
use domain::id::NotificationId;
use domain::render::TemplateSource;
use jiff::Timestamp;
use serde_json::Value;

/// A message that tells of others.
pub struct CollectedMessage {
    /// The link in its data.
    pub link: String,
    /// What the tenant is called.
    pub tenant_name: String,
    /// The tenant's language.
    pub tenant_locale: String,
    /// The recipient's own language.
    pub own_locale: Option<String>,
    /// The language to write in.
    pub locale: String,
    /// The zone to show times in.
    pub time_zone: String,
    /// The recipient's id, where it is a known one.
    pub recipient: Option<String>,
    /// The recipient's name.
    pub name: Option<String>,
    /// The recipient's mail address.
    pub email: Option<String>,
    /// What else the tenant keeps about the recipient.
    pub attributes: Value,
}

domain::masked_debug!(CollectedMessage, "CollectedMessage", tenant_locale, locale);

/// A notification that left within a message, with what it would have been rendered from.
pub struct CollectedMember {
    /// Which.
    pub notification: NotificationId,
    /// Its kind.
    pub category: String,
    /// What people call that.
    pub category_name: Option<String>,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// The template's variables.
    pub data: Value,
    /// What makes a mail of them; `None` where there is nothing any more.
    pub source: Option<TemplateSource>,
}

domain::masked_debug!(CollectedMember, "CollectedMember", notification, category);

/// The message with this id; `None` where it has no link, or its recipient was erased.
pub async fn read_collected_message(
    transaction: &mut TenantTransaction,
    notification: NotificationId,
) -> Result<Option<CollectedMessage>, StoreError> {
    let row = sqlx::query!(
        r#"SELECT coalesce(n.data ->> 'more_link', n.data ->> 'more_url') AS link, t.name AS tenant_name,
                  t.locale AS tenant_locale, coalesce(n.locale, r.locale) AS own_locale,
                  coalesce(n.locale, r.locale, t.locale) AS "locale!",
                  coalesce(n.time_zone, r.time_zone, t.time_zone) AS "time_zone!", n.recipient_id,
                  coalesce(n.name, r.name) AS name, coalesce(n.email, r.email) AS email,
                  coalesce(r.attributes, '{}') AS "attributes!"
           FROM harkara.notifications n
           JOIN harkara.tenants t USING (tenant_id)
           LEFT JOIN harkara.recipients r ON r.tenant_id = n.tenant_id AND r.recipient_id = n.recipient_id
           WHERE n.tenant_id = $1 AND n.notification_id = $2 AND r.erased_at IS NULL"#,
        transaction.tenant.as_uuid(),
        notification.as_uuid(),
    )
    .fetch_optional(&mut *transaction.connection)
    .await?;
    Ok(row.and_then(|row| {
        Some(CollectedMessage {
            link: row.link?,
            tenant_name: row.tenant_name,
            tenant_locale: row.tenant_locale,
            own_locale: row.own_locale,
            locale: row.locale,
            time_zone: row.time_zone,
            recipient: row.recipient_id,
            name: row.name,
            email: row.email,
            attributes: row.attributes,
        })
    }))
}

/// The members of a message in the order in which they came, `limit` of them behind the first `skip`, and how many there are.
pub async fn list_collected_members(
    transaction: &mut TenantTransaction,
    notification: NotificationId,
    locale: &str,
    skip: u32,
    limit: u32,
) -> Result<(Vec<CollectedMember>, usize), StoreError> {
    let rows = sqlx::query_file!(
        "src/store/list_collected_members.sql",
        transaction.tenant.as_uuid(),
        notification.as_uuid(),
        locale,
        i64::from(skip),
        i64::from(limit),
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    let count = rows.first().map_or(0, |row| row.member_count);
    let members = rows.into_iter().map(|row| {
        let has_body = row.text_body.is_some() || row.html_body.is_some();
        let (text, html) =
            if has_body { (row.text_body, row.html_body) } else { (row.template_text, row.template_html) };
        CollectedMember {
            notification: NotificationId::from_uuid(row.notification_id),
            category: row.category_key,
            category_name: row.category_name,
            accepted_at: row.accepted_at.to_jiff(),
            data: row.data,
            source: row.subject.or(row.template_subject).map(|subject| TemplateSource {
                subject,
                // One of them says it all.
                html: html.filter(|_| text.is_none()),
                text,
            }),
        }
    });
    Ok((members.collect(), usize::try_from(count).map_err(|_| StoreError::Corrupt("count"))?))
}
