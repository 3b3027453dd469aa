//! Links that act: whether one has, and who holds it.

use super::database::{StoreError, TenantTransaction};
use domain::escalation::EscalationState;
use domain::id::RecipientKey;
use domain::link::{ActionToken, UnverifiedAction};
use jiff::Timestamp;

/// What is known of a link that is ours.
pub struct ActionLinkRow {
    /// The recipient who holds it; `None` where that one was erased.
    pub recipient: Option<RecipientKey>,
    /// Where its escalation stands; `None` where there is none.
    pub state: Option<EscalationState>,
    /// Whether it has acted.
    pub is_used: bool,
    /// The database's time.
    pub now: Timestamp,
}

/// Reads what is known of a link.
pub async fn read_action_link(
    transaction: &mut TenantTransaction,
    token: &ActionToken,
    link: &UnverifiedAction,
) -> Result<ActionLinkRow, StoreError> {
    let row = sqlx::query!(
        r#"SELECT harkara.now() AS "now!: jiff_sqlx::Timestamp",
                  (SELECT r.recipient_id FROM harkara.recipients r
                   WHERE r.tenant_id = $1 AND r.subject_id = $2 AND r.erased_at IS NULL) AS recipient_id,
                  (SELECT e.state FROM harkara.escalations e
                   WHERE e.tenant_id = $1 AND e.escalation_id = $3) AS state,
                  EXISTS (SELECT FROM harkara.action_link_uses u
                          WHERE u.tenant_id = $1 AND u.token_hash = $4) AS "is_used!""#,
        transaction.tenant.as_uuid(),
        token.subject.as_uuid(),
        token.escalation.as_uuid(),
        &link.hash()[..],
    )
    .fetch_one(&mut *transaction.connection)
    .await?;
    let state = row.state.as_deref().map(|name| EscalationState::parse(name).ok_or(StoreError::Corrupt("state")));
    Ok(ActionLinkRow {
        recipient: row.recipient_id.and_then(|id| RecipientKey::parse(&id).ok()),
        state: state.transpose()?,
        is_used: row.is_used,
        now: row.now.to_jiff(),
    })
}

/// Takes a link's one use; false where it was taken before. Of two at once the second waits for the first to commit.
pub async fn use_action_link(
    transaction: &mut TenantTransaction,
    token: &ActionToken,
    link: &UnverifiedAction,
    recipient: &RecipientKey,
) -> Result<bool, StoreError> {
    let used = sqlx::query!(
        "INSERT INTO harkara.action_link_uses (tenant_id, token_hash, escalation_id, recipient_id, action)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        transaction.tenant.as_uuid(),
        &link.hash()[..],
        token.escalation.as_uuid(),
        recipient.as_str(),
        token.action.as_str(),
    )
    .execute(&mut *transaction.connection)
    .await?;
    Ok(used.rows_affected() > 0)
}
