//! A message: what a template makes of a notification for one reader.
//!
//! Sending, previewing, showing what was sent, and the check of a draft all come here, so that each has the same names
//! and gives the same bytes.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::render::{
    CompiledTemplate, FooterLinks, Formats, Part, RenderError, RenderErrorKind, Rendered, add_footer, render_parts,
    shows_something, text_from_html,
};
use crate::template::Parts;

/// Names that every template has beside its data, and that data cannot take.
pub const OUR_NAMES: [&str; 7] =
    ["recipient", "notification", "tenant", "unsubscribe_url", "preferences_url", "acknowledge_url", "resolve_url"];

/// Whom a message is for, as templates see it.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// Its id, where it is a known one.
    pub id: Option<&'a str>,
    /// What to call it.
    pub name: Option<&'a str>,
    /// Its mail address.
    pub email: Option<&'a str>,
    /// The language to write in.
    pub locale: &'a str,
    /// The zone to show times in.
    pub time_zone: &'a str,
    /// What else the tenant keeps about it; anything but an object counts as nothing.
    pub attributes: &'a Value,
}

crate::masked_debug!(Reader<'_>, "Reader", locale, time_zone);

/// What a message is about.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The notification's id.
    pub notification: &'a str,
    /// Its category.
    pub category: &'a str,
    /// What the tenant is called.
    pub tenant: &'a str,
    /// The template's variables; anything but an object counts as none.
    pub data: &'a Value,
    /// Where the recipient leaves and manages preferences.
    pub links: &'a FooterLinks,
    /// Whether the recipient may leave; where it may not, the page says why.
    pub can_leave: bool,
}

crate::masked_debug!(Subject<'_>, "Subject", notification, category, can_leave);

/// A message with every part that a mail has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The parts as they leave.
    pub parts: Rendered,
    /// A digest of them.
    pub hash: [u8; 32],
}

/// Makes a message.
///
/// It has a plain part in any case: some readers, and most filters, want one. Where the recipient can leave, each part
/// shows how: a footer does where the template does not.
///
/// # Errors
///
/// Any kind but `Syntax`; the first part that fails ends it. `Empty` where there would be nothing to read but the footer:
/// nobody wants such a mail, and the provider refuses one without a footer.
pub fn make_message(
    template: &CompiledTemplate,
    reader: &Reader<'_>,
    about: &Subject<'_>,
) -> Result<Message, RenderError> {
    let formats = Formats::of(reader.locale, reader.time_zone);
    let rendered = template.render(&message_context(reader, about), &formats)?;
    check_something_shows(&rendered)?;
    // A text that came out blank says no more than one that the template does not have.
    let own_text = rendered.text.filter(|text| rendered.html.is_none() || !text.trim().is_empty());
    let text = own_text.or_else(|| rendered.html.as_deref().map(text_from_html));
    let parts = Rendered { text, ..rendered };
    let parts = if about.can_leave { add_footer(parts, about.links, &formats.locale) } else { parts };
    Ok(Message { hash: hash_parts(&parts), parts })
}

/// An `if` that is false, or a list without entries, can leave nothing of any part.
fn check_something_shows(rendered: &Rendered) -> Result<(), RenderError> {
    let in_text = rendered.text.as_deref().is_some_and(|text| !text.trim().is_empty());
    let in_html = rendered.html.as_deref().is_some_and(shows_something);
    if in_text || in_html {
        return Ok(());
    }
    let part = if rendered.html.is_some() { Part::Html } else { Part::Text };
    Err(RenderError {
        part,
        kind: RenderErrorKind::Empty,
        line: None,
        column: None,
        detail: "nothing came out of the template for this data".to_owned(),
    })
}

/// What a template's text for channels that have little room says; a mail has none.
///
/// # Errors
///
/// Any kind.
pub fn make_short_text(source: String, reader: &Reader<'_>, about: &Subject<'_>) -> Result<String, RenderError> {
    let parts = Parts { short_text: Some(source), ..Parts::default() };
    let formats = Formats::of(reader.locale, reader.time_zone);
    let rendered = render_parts(&parts, &message_context(reader, about), &formats)?;
    Ok(rendered.short_text.unwrap_or_default())
}

/// What templates see: the data's own names, and ours.
pub fn message_context(reader: &Reader<'_>, about: &Subject<'_>) -> Value {
    let object = |value: &Value| if value.is_object() { value.clone() } else { json!({}) };
    let mut context = object(about.data);
    context["recipient"] = json!({
        "id": reader.id, "name": reader.name, "email": reader.email, "locale": reader.locale,
        "time_zone": reader.time_zone, "attributes": object(reader.attributes),
    });
    context["notification"] = json!({"id": about.notification, "category": about.category});
    context["tenant"] = json!({"name": about.tenant});
    context["unsubscribe_url"] = about.links.unsubscribe_url.clone().into();
    context["preferences_url"] = about.links.preferences_url.clone().into();
    context["acknowledge_url"] = about.links.acknowledge_url.clone().into();
    context["resolve_url"] = about.links.resolve_url.clone().into();
    context
}

/// The length of each part stands before it, so that no two messages have the same bytes to digest.
fn hash_parts(parts: &Rendered) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in [Some(parts.subject.as_str()), parts.text.as_deref(), parts.html.as_deref()] {
        match part {
            None => digest.update([0]),
            Some(part) => {
                digest.update([1]);
                digest.update((part.len() as u64).to_be_bytes());
                digest.update(part);
            }
        }
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::TemplateSource;

    fn links() -> FooterLinks {
        FooterLinks {
            unsubscribe_url: "https://example.in/v1/unsubscribe/token-1".to_owned(),
            preferences_url: "https://example.in/v1/preference-center/token-2".to_owned(),
            ..FooterLinks::none()
        }
    }

    fn make(html: Option<&str>, text: Option<&str>, can_leave: bool) -> Rendered {
        try_make(html, text, can_leave).unwrap()
    }

    fn try_make(html: Option<&str>, text: Option<&str>, can_leave: bool) -> Result<Rendered, RenderError> {
        let source =
            TemplateSource { subject: "s".to_owned(), html: html.map(str::to_owned), text: text.map(str::to_owned) };
        let reader = Reader {
            id: None,
            name: None,
            email: Some("asha@example.in"),
            locale: "en",
            time_zone: "UTC",
            attributes: &Value::Null,
        };
        let about = Subject {
            notification: "ntf_1",
            category: "news",
            tenant: "First",
            data: &Value::Null,
            links: &links(),
            can_leave,
        };
        Ok(make_message(&CompiledTemplate::new(source).unwrap(), &reader, &about)?.parts)
    }

    #[test]
    fn a_message_that_says_nothing_is_none() {
        let nothing = "{% if recipient.name %}Dear {{ recipient.name }}{% endif %}\n";
        let no_rows =
            "<html><head><title>Digest</title></head><body><table><tr><td>&nbsp;</td></tr></table></body></html>";
        for (html, text, part) in [
            (None, Some(nothing), Part::Text),
            (Some(no_rows), None, Part::Html),
            (Some("<!-- nothing -->"), Some(nothing), Part::Html),
        ] {
            for can_leave in [true, false] {
                let error = try_make(html, text, can_leave).expect_err("a footer alone is no message");
                assert_eq!((error.part, error.kind), (part, RenderErrorKind::Empty), "{html:?} {text:?}");
            }
        }
        for html in ["<img src=\"https://example.in/a.png\" alt=\"\">", "<SVG></SVG>", "<p>&#160;.</p>"] {
            assert!(try_make(Some(html), None, false).is_ok(), "{html} shows something");
        }
        // One part is enough; a reader of the other is told the same.
        let parts = make(Some("<p>Hello</p>"), Some(nothing), false);
        assert_eq!(parts.text.as_deref().map(str::trim), Some("Hello"));
        assert_eq!(make(Some(no_rows), Some("Hello"), false).text.as_deref(), Some("Hello"));
    }

    #[test]
    fn each_part_of_mail_that_can_be_left_shows_how_and_once() {
        let leave = "<a href=\"{{ unsubscribe_url }}\">Leave</a>";
        let manage = "<a href='{{ preferences_url }}'>Choose</a>";
        for (html, text, html_footer, text_footer) in [
            ("<p>x</p>".to_owned(), None, true, true),
            (leave.to_owned(), None, false, false),
            (leave.to_owned(), Some("x"), false, true),
            ("<p>x</p>".to_owned(), Some("{{ unsubscribe_url }}"), true, false),
            (leave.to_owned(), Some("Leave: {{ unsubscribe_url }}"), false, false),
            // Choosing is not leaving.
            (manage.to_owned(), Some("{{ preferences_url }}"), true, true),
            // What nobody sees is not shown.
            (format!("<!-- {leave} --><p>x</p>"), None, true, true),
            (format!("<!--[if mso]>{leave}<![endif]--><p>x</p>"), None, true, true),
            ("<link href=\"{{ unsubscribe_url }}\"><p>{{ unsubscribe_url }}</p>".to_owned(), None, true, false),
        ] {
            let parts = make(Some(&html), text, true);
            let (shown_html, shown_text) = (parts.html.unwrap(), parts.text.unwrap());
            assert_eq!(shown_html.contains("</div>"), html_footer, "{html}: {shown_html}");
            assert_eq!(shown_text.contains("-- \n"), text_footer, "{html}: {shown_text}");
            assert!(shown_text.contains(&links().unsubscribe_url), "{shown_text}");
            let parts = make(Some(&html), text, false);
            assert!(!parts.html.unwrap().contains("</div>") && !parts.text.unwrap().contains("-- \n"), "{html}");
        }
    }

    #[test]
    fn what_nobody_keeps_about_a_reader_is_nothing_and_no_error() {
        let parts =
            make(None, Some("{{ recipient.name or 'you' }} {{ recipient.attributes.city|default('-') }}"), false);
        assert_eq!(parts.text.as_deref(), Some("you -"));
    }
}
