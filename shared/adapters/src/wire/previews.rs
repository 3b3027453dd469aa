//! What templates make of data, as it is shown.

use super::attachments::print_attachments;
use super::fields::FieldError;
use super::problem::Problem;
use super::templates::print_hash;
use crate::store::contents::SentContent;
use domain::attachment::Attachment;
use domain::message::Message;
use domain::render::{Part, RenderError, Rendered, Warning};
use serde_json::{Value, json};

/// What is wrong with a template that does not render.
pub fn refuse_render(error: &RenderError) -> Problem {
    let pointer = match error.part {
        Part::Data => "/data".to_owned(),
        part => format!("/{}", part.as_str()),
    };
    Problem::invalid(vec![FieldError::new(pointer, error)])
}

/// A rendered message with its size and what is questionable about it.
pub fn print_preview(message: &Message, short_text: Option<&str>, locale: &str, warnings: &[Warning]) -> Value {
    let Message { parts, hash } = message;
    let warning = |warning: &Warning| json!({"code": warning.code.as_str(), "detail": warning.detail});
    let mut printed = print_parts(parts, hash);
    printed["short_text"] = short_text.into();
    printed["locale"] = locale.into();
    printed["size_bytes"] = json!({
        "subject": parts.subject.as_str().len(),
        "text": parts.text.as_ref().map_or(0, String::len),
        "html": parts.html.as_ref().map_or(0, String::len),
        "short_text": short_text.map_or(0, str::len),
    });
    printed["warnings"] = warnings.iter().map(warning).collect();
    printed
}

/// What a delivery said and brought along, and whether that is what was sent. Of files, names and sizes are shown.
pub fn print_content(
    sent: &SentContent,
    parts: &Rendered,
    attachments: &[Attachment],
    calendar: Option<&str>,
    hash: &[u8],
) -> Value {
    let mut printed = print_parts(parts, hash);
    printed["attachments"] = print_attachments(attachments);
    printed["calendar"] = calendar.into();
    printed["delivery_id"] = sent.delivery.to_string().into();
    printed["template"] =
        json!({"key": sent.template, "locale": sent.template_locale, "version": sent.template_version});
    printed["sent_content_hash"] = print_hash(&sent.content_hash).into();
    // Not where the recipient or the category changed since, or was erased.
    printed["is_as_sent"] = (sent.content_hash == hash).into();
    printed
}

fn print_parts(parts: &Rendered, hash: &[u8]) -> Value {
    json!({
        "subject": parts.subject.as_str(), "text": parts.text, "html": parts.html, "content_hash": print_hash(hash),
    })
}
