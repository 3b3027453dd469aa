//! Templates: drafts as people write them, what a preview asks, and what is shown of versions.

use super::fields::{FieldError, Fields};
use super::problem::Problem;
#[cfg(feature = "services")]
use crate::store::templates::{PublicationRow, TemplateRow, VariantRow};
use domain::delivery::Channel;
use domain::id::{CategoryKey, RecipientKey, TemplateKey};
use domain::locale::Locale;
use domain::moment::TimeZoneName;
use domain::name::DisplayName;
use domain::template::{Draft, DraftError, Kind, MAX_VARIANTS, Markup, Variables, Variant};
use serde_json::Value;
#[cfg(feature = "services")]
use serde_json::json;

/// Reads the body of `PUT /v1/templates/{key}`. What a template says is looked at when it is published.
pub fn read_draft(body: &Value) -> Result<Draft, Problem> {
    let mut fields = Fields::of(body, "").map_err(|error| Problem::invalid(vec![error]))?;
    let kind = fields.named("kind", Kind::parse, &Kind::ALL, Kind::as_str);
    let layout = fields.parsed("layout", TemplateKey::parse);
    let variables = fields.value("variables").map(Variables::parse);
    let variables = match variables {
        None => None,
        Some(Ok(variables)) => Some(variables),
        Some(Err(errors)) => {
            let errors = errors.into_iter().map(|(at, detail)| FieldError::new(format!("/variables{at}"), detail));
            fields.extend(errors);
            None
        }
    };
    let listed = fields.list("variants");
    fields.require("variants", &listed);
    if listed.is_some_and(|list| list.is_empty() || list.len() > MAX_VARIANTS) {
        fields.wrong("variants", format_args!("must have 1 to {MAX_VARIANTS} entries"));
    }
    let mut variants = Vec::new();
    for (place, entry) in listed.into_iter().flatten().take(MAX_VARIANTS).enumerate() {
        match read_variant(entry, &format!("/variants/{place}")) {
            Ok(variant) => variants.push(variant),
            Err(errors) => fields.extend(errors),
        }
    }
    fields.finish().map_err(Problem::invalid)?;
    Ok(Draft { kind: kind.unwrap_or(Kind::Message), layout, variables, variants })
}

fn read_variant(entry: &Value, pointer: &str) -> Result<Variant, Vec<FieldError>> {
    let mut fields = Fields::of(entry, pointer).map_err(|error| vec![error])?;
    let channel = fields.named("channel", Channel::parse_sendable, Channel::SENDABLE, Channel::as_str);
    let locale = fields.parsed("locale", Locale::parse);
    fields.require("locale", &locale);
    let text = |fields: &mut Fields<'_>, name| fields.string(name).map(str::to_owned);
    let subject = text(&mut fields, "subject");
    let html = text(&mut fields, "html");
    let mjml = text(&mut fields, "mjml");
    if html.is_some() && mjml.is_some() {
        fields.wrong("mjml", "stands beside html; give one of them");
    }
    let read = Variant {
        channel: channel.unwrap_or(Channel::Email),
        locale: locale.clone().unwrap_or_else(|| Locale::parse("en").expect("a language of two letters is a locale")),
        subject,
        markup: html.map(Markup::Html).or(mjml.map(Markup::Mjml)),
        text: text(&mut fields, "text"),
        short_text: text(&mut fields, "short_text"),
    };
    fields.finish()?;
    Ok(read)
}

/// Reads a body that has nothing to say.
pub fn read_nothing(body: &Value) -> Result<(), Problem> {
    let fields = Fields::of(body, "").map_err(|error| Problem::invalid(vec![error]))?;
    fields.finish().map_err(Problem::invalid)
}

/// What is wrong with a draft, each mistake with its line and column.
pub fn refuse_draft(errors: Vec<DraftError>) -> Problem {
    Problem::invalid(errors.iter().map(|error| FieldError::new(error.pointer.clone(), error)).collect())
}

/// What a preview is to show.
#[derive(Clone)]
pub struct PreviewBody {
    /// The version; `None` is the draft.
    pub version: Option<i32>,
    /// The channel.
    pub channel: Channel,
    /// The category that it is sent for, which decides whether it can be left.
    pub category: Option<CategoryKey>,
    /// For whom.
    pub recipient: PreviewRecipient,
    /// The template's variables; `None` takes its examples.
    pub data: Option<Value>,
}

domain::masked_debug!(PreviewBody, "PreviewBody", version, channel, category);

/// For whom a preview is.
#[derive(Clone, Debug)]
pub enum PreviewRecipient {
    /// Somebody whom the tenant has stored.
    Known(RecipientKey),
    /// Somebody who is made up.
    MadeUp {
        /// What to call them.
        name: Option<DisplayName>,
        /// The language to write in.
        locale: Option<Locale>,
        /// The zone to show times in.
        time_zone: Option<TimeZoneName>,
    },
}

/// Reads the body of `POST /v1/templates/{key}/preview`.
pub fn read_preview(body: &Value) -> Result<PreviewBody, Problem> {
    let mut fields = Fields::of(body, "").map_err(|error| Problem::invalid(vec![error]))?;
    let version = fields.number("version", 1, i32::MAX.unsigned_abs());
    let channel = fields.named("channel", Channel::parse_sendable, Channel::SENDABLE, Channel::as_str);
    let category = fields.parsed("category", CategoryKey::parse);
    let recipient = fields.object("recipient", read_preview_recipient);
    let data = fields.value("data").is_some().then(|| fields.opaque("data"));
    fields.finish().map_err(Problem::invalid)?;
    let nobody = PreviewRecipient::MadeUp { name: None, locale: None, time_zone: None };
    Ok(PreviewBody {
        version: version.map(u32::cast_signed),
        channel: channel.unwrap_or(Channel::Email),
        category,
        recipient: recipient.unwrap_or(nobody),
        data,
    })
}

fn read_preview_recipient(value: &Value, pointer: String) -> Result<PreviewRecipient, Vec<FieldError>> {
    let mut fields = Fields::of(value, pointer).map_err(|error| vec![error])?;
    let id = fields.parsed("id", RecipientKey::parse);
    if id.is_some() {
        fields.finish()?;
        return id.map(PreviewRecipient::Known).ok_or_else(Vec::new);
    }
    let read = PreviewRecipient::MadeUp {
        name: fields.parsed("name", DisplayName::parse),
        locale: fields.parsed("locale", Locale::parse),
        time_zone: fields.parsed("time_zone", TimeZoneName::parse),
    };
    fields.finish()?;
    Ok(read)
}

/// A template, with its draft as it was written.
#[cfg(feature = "services")]
pub fn print_template(row: &TemplateRow) -> Value {
    let TemplateRow { key, kind, draft, draft_updated_at, published_version, published_at } = row;
    json!({
        "key": key, "kind": kind, "draft": draft, "draft_updated_at": draft_updated_at,
        "published_version": published_version, "published_at": published_at,
    })
}

/// A template without its draft, for lists.
#[cfg(feature = "services")]
pub fn print_template_summary(row: &TemplateRow) -> Value {
    let TemplateRow { key, kind, draft: _, draft_updated_at, published_version, published_at } = row;
    json!({
        "key": key, "kind": kind, "draft_updated_at": draft_updated_at, "published_version": published_version,
        "published_at": published_at,
    })
}

/// A published version: what was written, and what is sent.
#[cfg(feature = "services")]
pub fn print_publication(key: &str, row: &PublicationRow) -> Value {
    let PublicationRow { version, draft, variables, content_hash, created_at, variants } = row;
    json!({
        "key": key, "version": version, "draft": draft, "variables": variables,
        "content_hash": print_hash(content_hash), "published_at": created_at,
        "variants": variants.iter().map(print_variant).collect::<Value>(),
    })
}

#[cfg(feature = "services")]
fn print_variant(row: &VariantRow) -> Value {
    let VariantRow { channel, locale, source, short_text } = row;
    json!({
        "channel": channel, "locale": locale, "subject": source.subject, "text": source.text, "html": source.html,
        "short_text": short_text,
    })
}

/// A digest, as it is shown.
pub fn print_hash(hash: &[u8]) -> String {
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
