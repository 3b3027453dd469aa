//! Templates: a draft is put, then published; versions are shown.

use super::{Answer, Api, parameter, show};
use crate::digest::find_unfit_variables;
use crate::request::Refused;
use adapters::store::categories::makes_digests;
use adapters::store::database::{StoreError, TenantTransaction};
use adapters::store::templates::{self as store, DraftPut, Publication as NewVersion, TemplateRow, VariantRow};
use adapters::store::tenants::read_tenant;
use adapters::wire::fields::FieldError;
use adapters::wire::http::{Request, Response};
use adapters::wire::pages::{Query, parse_number};
use adapters::wire::problem::Problem;
use adapters::wire::{templates as bodies, views};
use domain::event::EventBus;
use domain::id::TemplateKey;
use domain::queue::Queue;
use domain::render::TemplateSource;
use domain::secret::KeyService;
use domain::template::{Draft, Kind, Library, Piece, PublishedVariant, publish};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

impl<Q: Queue, K: KeyService, B: EventBus> Api<Q, K, B> {
    /// Replaces the draft. What is sent stays as it is until the draft is published.
    pub(super) async fn put_template(&self, request: &Request) -> Answer {
        let key = parameter(request, "key", "template", TemplateKey::parse)?;
        let body = request.json()?;
        let draft = bodies::read_draft(&body)?;
        let mut transaction = self.begin(request).await?;
        match store::put_draft(&mut transaction, &key, draft.kind.as_str(), &body).await? {
            DraftPut::Stored => {}
            DraftPut::OfAnotherKind => {
                transaction.roll_back().await?;
                let detail = "the template was published as another kind, which others may rely on; use another key";
                return Err(Problem::conflict(detail).into());
            }
        }
        let row = store::read_template(&mut transaction, &key).await?;
        transaction.commit().await?;
        show(row, "template", bodies::print_template)
    }

    pub(super) async fn get_template(&self, request: &Request) -> Answer {
        let key = parameter(request, "key", "template", TemplateKey::parse)?;
        let mut transaction = self.begin(request).await?;
        let row = store::read_template(&mut transaction, &key).await?;
        transaction.commit().await?;
        show(row, "template", bodies::print_template)
    }

    pub(super) async fn list_templates(&self, request: &Request) -> Answer {
        let mut query = Query::of(&request.query);
        let page = query.key_page();
        query.finish()?;
        let mut transaction = self.begin(request).await?;
        let rows = store::list_templates(&mut transaction, &page).await?;
        transaction.commit().await?;
        let key = |row: &TemplateRow| row.key.clone();
        let print = bodies::print_template_summary;
        Ok(Response::json(200, &views::print_key_page("templates", &rows, page.size, print, key)))
    }

    /// Compiles the draft and makes it the version that is sent. The same content again is the same version.
    pub(super) async fn publish_template(&self, request: &Request, request_id: &str) -> Answer {
        let key = parameter(request, "key", "template", TemplateKey::parse)?;
        let body = request.json_or_empty()?;
        bodies::read_nothing(&body)?;
        self.answer_once(request, request_id, &body, async |transaction| {
            let (draft, written) = read_draft(transaction, &key).await?;
            let library = read_library(transaction).await?;
            let variants = publish(&draft, &library).map_err(bodies::refuse_draft)?;
            let errors = find_unfit(transaction, &key, &draft).await?;
            if !errors.is_empty() {
                return Err(Problem::invalid(errors).into());
            }
            let version = store::publish(transaction, &key, &written, &new_version(&draft, &written, variants)).await?;
            let row = store::read_publication(transaction, &key, version).await?;
            let row = row.ok_or_else(|| Problem::not_found("template"))?;
            Ok((bodies::print_publication(key.as_str(), &row), Vec::new()))
        })
        .await
    }

    pub(super) async fn get_template_version(&self, request: &Request) -> Answer {
        let key = parameter(request, "key", "template", TemplateKey::parse)?;
        let version = parse_number(request.parameter("version")).ok_or_else(|| Problem::not_found("version"))?;
        let mut transaction = self.begin(request).await?;
        let row = store::read_publication(&mut transaction, &key, version).await?;
        transaction.commit().await?;
        show(row, "version", |row| bodies::print_publication(key.as_str(), row))
    }
}

/// The variables of a draft that digests do not have, where they are made of its template: once it is published, none could
/// be.
async fn find_unfit(
    transaction: &mut TenantTransaction,
    key: &TemplateKey,
    draft: &Draft,
) -> Result<Vec<FieldError>, StoreError> {
    let unfit = draft.variables.as_ref().map(find_unfit_variables).unwrap_or_default();
    if unfit.is_empty() || !makes_digests(transaction, None, Some(key)).await? {
        return Ok(Vec::new());
    }
    let error = |(pointer, detail): (String, String)| {
        let pointer = pointer.replacen("/data", "/variables", 1);
        FieldError::new(pointer, format_args!("digests are made of the template, and for their data it {detail}"))
    };
    Ok(unfit.into_iter().map(error).collect())
}

/// A template's draft, and as it was written.
pub(super) async fn read_draft(
    transaction: &mut TenantTransaction,
    key: &TemplateKey,
) -> Result<(Draft, Value), Refused> {
    let row = store::read_template(transaction, key).await?.ok_or_else(|| Problem::not_found("template"))?;
    let written = row.draft.ok_or_else(|| Problem::not_found("draft of the template"))?;
    Ok((bodies::read_draft(&written)?, written))
}

/// What drafts may include.
pub(super) async fn read_library(transaction: &mut TenantTransaction) -> Result<Library, Refused> {
    let mut pieces = BTreeMap::new();
    for (key, written) in store::read_building_blocks(transaction).await? {
        // Both were read when they were published; what this release cannot read any more, nobody can include.
        if let (Ok(key), Ok(draft)) = (TemplateKey::parse(&key), bodies::read_draft(&written)) {
            pieces.insert(key, Piece { kind: draft.kind, variants: draft.variants });
        }
    }
    Ok(Library { pieces, default_locale: read_tenant(transaction).await?.locale })
}

fn new_version(draft: &Draft, written: &Value, published: Vec<PublishedVariant>) -> NewVersion {
    let variables = written.get("variables").filter(|declared| declared.is_object()).cloned();
    let variables = variables.unwrap_or_else(|| json!({}));
    let mut digest = Sha256::new();
    digest.update(variables.to_string());
    for variant in &published {
        digest.update(format!("\n{} {} ", variant.channel, variant.locale));
        digest.update(variant.hash);
    }
    NewVersion {
        variables,
        content_hash: digest.finalize().into(),
        // A partial or a layout is sent by nobody: whoever includes it takes it from its draft.
        variants: if draft.kind == Kind::Message {
            published.into_iter().map(new_variant).collect()
        } else {
            Vec::new()
        },
    }
}

fn new_variant(published: PublishedVariant) -> VariantRow {
    let PublishedVariant { channel, locale, parts, mjml: _, hash: _ } = published;
    VariantRow {
        channel: channel.as_str().to_owned(),
        locale: locale.to_string(),
        source: TemplateSource { subject: parts.subject.unwrap_or_default(), text: parts.text, html: parts.html },
        short_text: parts.short_text,
    }
}
