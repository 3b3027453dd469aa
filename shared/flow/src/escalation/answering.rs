//! Somebody answers: an escalation is acknowledged, or resolved, and what is not sent yet of it is withdrawn.
//!
//! The escalation's row is locked first. A step that is being fired is waited for, and what it made is withdrawn; a step that
//! would fire later finds nothing due.

use super::telling::event;
use adapters::store::database::{StoreError, TenantTransaction};
use adapters::store::escalations::{
    cancel_unsent, insert_acknowledgement, lock_escalation, mark_acknowledged, mark_resolved, tell,
};
use adapters::wire::escalation_policies::read_definition;
use domain::escalation::{Acknowledgement, Answered, decide_acknowledgement};
use domain::id::{EscalationId, RecipientKey};
use serde_json::json;

/// What an answer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerResult {
    /// There is no such escalation.
    NotFound,
    /// Each recipient has to acknowledge for itself, and none was named.
    RecipientNeeded,
    /// It was done now, for this many withdrawn deliveries; or was nothing to be done.
    Done {
        /// Whether it changed anything.
        is_first: bool,
        /// Deliveries that were withdrawn.
        canceled_count: u32,
    },
}

const NOTHING: AnswerResult = AnswerResult::Done { is_first: false, canceled_count: 0 };

/// Acknowledges for a recipient, or for the subject of a token. Who comes second changes nothing.
pub(crate) async fn acknowledge_within(
    transaction: &mut TenantTransaction,
    id: EscalationId,
    recipient: Option<&RecipientKey>,
    subject: &str,
    via: &str,
) -> Result<AnswerResult, StoreError> {
    let Some(locked) = lock_escalation(transaction, id).await? else { return Ok(AnswerResult::NotFound) };
    // One that cannot be read any more is acknowledged by anybody.
    let wanted = read_definition(&locked.definition).map_or(Acknowledgement::Any, |policy| policy.acknowledgement);
    if wanted == Acknowledgement::Each && recipient.is_none() {
        return Ok(AnswerResult::RecipientNeeded);
    }
    if !locked.state.can_be_acknowledged() {
        return Ok(NOTHING);
    }
    let mut acknowledged = locked.acknowledged;
    if let Some(recipient) = recipient {
        let is_first = insert_acknowledgement(transaction, id, recipient).await?;
        if !is_first && wanted == Acknowledgement::Each {
            return Ok(NOTHING);
        }
        acknowledged.push(recipient.as_str().to_owned());
    }
    let by = recipient.map_or(subject, |recipient| recipient.as_str());
    let answered = decide_acknowledgement(locked.state, wanted, &locked.notified, &acknowledged);
    let canceled_count = match answered {
        Answered::Nothing => return Ok(NOTHING),
        Answered::Whole => {
            mark_acknowledged(transaction, id, by).await?;
            cancel_unsent(transaction, id, None).await?
        }
        Answered::Part => cancel_unsent(transaction, id, recipient).await?,
    };
    let detail = json!({"by": by, "via": via, "is_whole": answered == Answered::Whole});
    let told = event(transaction.tenant(), id, "escalation.acknowledged", detail);
    tell(transaction, &[told]).await?;
    Ok(AnswerResult::Done { is_first: true, canceled_count })
}

/// Resolves: what it was about is done. Who comes second changes nothing.
pub(crate) async fn resolve_within(
    transaction: &mut TenantTransaction,
    id: EscalationId,
    by: &str,
    via: &str,
) -> Result<AnswerResult, StoreError> {
    let Some(locked) = lock_escalation(transaction, id).await? else { return Ok(AnswerResult::NotFound) };
    if !locked.state.can_be_resolved() {
        return Ok(NOTHING);
    }
    mark_resolved(transaction, id).await?;
    let canceled_count = cancel_unsent(transaction, id, None).await?;
    let told = event(transaction.tenant(), id, "escalation.resolved", json!({"by": by, "via": via}));
    tell(transaction, &[told]).await?;
    Ok(AnswerResult::Done { is_first: true, canceled_count })
}
