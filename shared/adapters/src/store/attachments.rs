//! Files that leave with mails. A request's recipients share them, so they are read by id, each once.

use super::database::{Database, StoreError, TenantTransaction};
use domain::attachment::{Attachment, ContentType, FileName};
use domain::id::{AttachmentId, TenantId};
use std::collections::HashMap;
use std::sync::Arc;

/// A file, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttachmentKey {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub attachment: AttachmentId,
}

/// The named files, across tenants; what is not there any more is left out.
pub async fn load_attachments_across_tenants(
    database: &Database,
    asked: &[AttachmentKey],
) -> Result<HashMap<AttachmentKey, Attachment>, StoreError> {
    if asked.is_empty() {
        return Ok(HashMap::new());
    }
    let tenants: Vec<_> = asked.iter().map(|key| key.tenant.as_uuid()).collect();
    let attachments: Vec<_> = asked.iter().map(|key| key.attachment.as_uuid()).collect();
    let mut connection = database.connection().await?;
    let rows = sqlx::query!(
        "SELECT f.tenant_id, f.attachment_id, f.file_name, f.content_type, f.content
         FROM unnest($1::uuid[], $2::uuid[]) AS a (tenant_id, attachment_id)
         JOIN harkara.attachments f USING (tenant_id, attachment_id)",
        &tenants,
        &attachments,
    )
    .fetch_all(&mut *connection)
    .await?;
    connection.give_back();
    rows.into_iter()
        .map(|row| {
            let key = AttachmentKey {
                tenant: TenantId::from_uuid(row.tenant_id),
                attachment: AttachmentId::from_uuid(row.attachment_id),
            };
            Ok((key, read_attachment(&row.file_name, &row.content_type, row.content)?))
        })
        .collect()
}

/// The tenant's named files, in the order asked for; what is not there any more is left out.
pub async fn read_attachments(
    transaction: &mut TenantTransaction,
    asked: &[AttachmentId],
) -> Result<Vec<Attachment>, StoreError> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let asked: Vec<_> = asked.iter().map(|id| id.as_uuid()).collect();
    let rows = sqlx::query!(
        "SELECT a.file_name, a.content_type, a.content
         FROM unnest($2::uuid[]) WITH ORDINALITY AS e (attachment_id, place)
         JOIN harkara.attachments a ON a.tenant_id = $1 AND a.attachment_id = e.attachment_id
         ORDER BY e.place",
        transaction.tenant.as_uuid(),
        &asked,
    )
    .fetch_all(&mut *transaction.connection)
    .await?;
    rows.into_iter().map(|row| read_attachment(&row.file_name, &row.content_type, row.content)).collect()
}

fn read_attachment(file_name: &str, content_type: &str, content: Vec<u8>) -> Result<Attachment, StoreError> {
    Ok(Attachment {
        file_name: FileName::parse(file_name).map_err(|_| StoreError::Corrupt("file name"))?,
        content_type: ContentType::parse(content_type).map_err(|_| StoreError::Corrupt("content type"))?,
        content: Arc::from(content),
    })
}
