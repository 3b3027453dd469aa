//! What somebody does with a link that acts: once, and in time.
//!
//! The link's use and what it does are one transaction, so that of two clicks at once one acts.

use super::{Links, Page, Refused, choose_language};
use crate::escalation::{AnswerResult, acknowledge_within, resolve_within};
use adapters::store::action_links::{ActionLinkRow, read_action_link, use_action_link};
use adapters::store::database::TenantTransaction;
use adapters::store::subjects::{SubjectRow, read_subject};
use adapters::wire::form::FormError;
use adapters::wire::http::{Request, Response};
use domain::id::RecipientKey;
use domain::link::{ActionToken, LinkAction, UnverifiedAction};
use domain::page::{Action, ActionView, CONFIRMATION, Notice, render_action};
use domain::secret::KeyService;

/// A link that is ours, in time and not used, and who holds it.
struct Holder {
    link: UnverifiedAction,
    token: ActionToken,
    row: ActionLinkRow,
    recipient: RecipientKey,
    subject: SubjectRow,
}

impl<K: KeyService> Links<'_, K> {
    /// Shows what a link would do.
    pub(crate) async fn show_action(&self, request: &Request) -> Response {
        self.answer(request, async || {
            let (transaction, holder) = self.begin_to_act(request).await?;
            transaction.commit().await?;
            let is_open = holder.row.state.is_some_and(|state| match holder.token.action {
                LinkAction::Acknowledge => state.can_be_acknowledged(),
                LinkAction::Resolve => state.can_be_resolved(),
            });
            Ok(draw(request, &holder, if is_open { ActionView::Asked } else { ActionView::Answered }))
        })
        .await
    }

    /// Does it.
    pub(crate) async fn act(&self, request: &Request) -> Response {
        self.answer(request, async || {
            if !request.form()?.iter().any(|field| (field.0.as_str(), field.1.as_str()) == CONFIRMATION) {
                return Err(FormError::Unreadable.into());
            }
            let (mut transaction, holder) = self.begin_to_act(request).await?;
            let Holder { link, token, recipient, .. } = &holder;
            if !use_action_link(&mut transaction, token, link, recipient).await? {
                return Err(Refused::Gone(Notice::LinkUsed));
            }
            adapters::failpoint!("L1_used", Err(adapters::store::database::StoreError::Corrupt("failpoint").into()));
            let result = match token.action {
                LinkAction::Acknowledge => {
                    let by = recipient.as_str();
                    acknowledge_within(&mut transaction, token.escalation, Some(recipient), by, "link").await?
                }
                LinkAction::Resolve => {
                    resolve_within(&mut transaction, token.escalation, recipient.as_str(), "link").await?
                }
            };
            adapters::failpoint!("L2_acted", Err(adapters::store::database::StoreError::Corrupt("failpoint").into()));
            transaction.commit().await?;
            adapters::failpoint!(
                "L3_committed",
                Err(adapters::store::database::StoreError::Corrupt("failpoint").into())
            );
            let is_first = matches!(result, AnswerResult::Done { is_first: true, .. });
            Ok(draw(request, &holder, if is_first { ActionView::Done } else { ActionView::Answered }))
        })
        .await
    }

    /// Verifies the link, and begins a transaction with who holds it.
    async fn begin_to_act(&self, request: &Request) -> Result<(TenantTransaction, Holder), Refused> {
        let link = UnverifiedAction::parse(request.parameter("token"))?;
        let tenant = link.claimed_tenant();
        let ring = self.keys.load(self.database, tenant, "a link").await?.ok_or(Refused::NotFound)?;
        let token = ring.verify_action(&link)?;
        let mut transaction =
            self.database.begin_even_suspended(tenant, &format!("link of {:?}", token.subject)).await?;
        let row = read_action_link(&mut transaction, &token, &link).await?;
        let (Some(recipient), Some(_)) = (row.recipient.clone(), row.state) else { return Err(Refused::NotFound) };
        if row.is_used {
            return Err(Refused::Gone(Notice::LinkUsed));
        }
        if token.expires_at <= row.now {
            return Err(Refused::Gone(Notice::LinkExpired));
        }
        let subject = read_subject(&mut transaction, token.subject).await?;
        Ok((transaction, Holder { link, token, row, recipient, subject }))
    }
}

fn draw(request: &Request, holder: &Holder, view: ActionView) -> Page {
    let language = choose_language(&holder.subject, &request.languages);
    let page = Action { tenant: &holder.subject.tenant_name, action: holder.token.action, view };
    (200, render_action(&page, language))
}
