//! What a preview warns of: nothing that is wrong, but that a recipient may see or miss.

use std::fmt;

use super::Rendered;
use super::html::{Piece, Pieces, attribute, attributes};
use super::links::leads_to;

/// From this size on, in bytes, Gmail shows only the beginning of an HTML part.
///
/// Gmail counts what it receives; 102 KB is what senders see it cut at.
const GMAIL_CLIP_BYTES: usize = 102 * 1024;

/// A longer subject, in characters, is cut by most lists of mails (RFC 5322, 2.1.1 recommends as much for any line).
const MAX_SUBJECT_CHARACTERS: usize = 78;

/// What a warning is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WarningCode {
    /// The HTML part is so long that Gmail shows only its beginning.
    HtmlClipped,
    /// An image says nothing to whoever cannot see it.
    ImageWithoutAlt,
    /// Mail that people can leave has no visible way out.
    NoUnsubscribeLink,
    /// The text part says nothing.
    EmptyText,
    /// The subject is cut where mails are listed.
    LongSubject,
    /// A link is not encrypted.
    InsecureLink,
}

impl WarningCode {
    /// Every code.
    pub const ALL: [Self; 6] = [
        Self::HtmlClipped,
        Self::ImageWithoutAlt,
        Self::NoUnsubscribeLink,
        Self::EmptyText,
        Self::LongSubject,
        Self::InsecureLink,
    ];

    /// A stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HtmlClipped => "html_clipped",
            Self::ImageWithoutAlt => "image_without_alt",
            Self::NoUnsubscribeLink => "no_unsubscribe_link",
            Self::EmptyText => "empty_text",
            Self::LongSubject => "long_subject",
            Self::InsecureLink => "insecure_link",
        }
    }
}

impl fmt::Display for WarningCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A warning, with words for the person who wrote the template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What it is about.
    pub code: WarningCode,
    /// What was found, without any value of the data.
    pub detail: String,
}

/// Looks at a rendered mail as it will be sent, each code at most once.
///
/// `unsubscribe_url` is the address that a mail of this category must show, when it is one that recipients can leave (marketing); `None` when it need not.
pub fn find_warnings(rendered: &Rendered, unsubscribe_url: Option<&str>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |code, detail: String| warnings.push(Warning { code, detail });
    let html = rendered.html.as_deref().unwrap_or_default();
    if html.len() > GMAIL_CLIP_BYTES {
        warn(
            WarningCode::HtmlClipped,
            format!("the HTML part has {} KB; Gmail shows the first 102 KB", html.len().div_ceil(1024)),
        );
    }
    let found = look_at(html);
    if found.images_without_alt > 0 {
        warn(WarningCode::ImageWithoutAlt, format!("images without an alt text: {}", found.images_without_alt));
    }
    if let Some(url) = unsubscribe_url {
        let in_html = rendered.html.as_ref().is_none_or(|html| leads_to(html, url));
        let in_text = rendered.text.as_ref().is_none_or(|text| text.contains(url));
        if !in_html || !in_text {
            warn(WarningCode::NoUnsubscribeLink, "the mail shows no link to unsubscribe".to_owned());
        }
    }
    let text = rendered.text.clone().unwrap_or_else(|| super::text_from_html(html));
    if text.trim().is_empty() {
        warn(WarningCode::EmptyText, "the text part is empty".to_owned());
    }
    let length = rendered.subject.as_str().chars().count();
    if length > MAX_SUBJECT_CHARACTERS {
        warn(
            WarningCode::LongSubject,
            format!("the subject has {length} characters; after {MAX_SUBJECT_CHARACTERS} most readers cut it"),
        );
    }
    if found.insecure_links > 0 {
        warn(WarningCode::InsecureLink, format!("links with http: instead of https: {}", found.insecure_links));
    }
    warnings
}

/// What stands in the tags of an HTML part.
#[derive(Default)]
struct Found {
    images_without_alt: usize,
    insecure_links: usize,
}

fn look_at(html: &str) -> Found {
    let mut found = Found::default();
    for piece in Pieces::of(html) {
        let Piece::Open { name, attributes: text } = piece else { continue };
        // An empty alt text is right for an image that only decorates.
        if name.eq_ignore_ascii_case("img") && attribute(text, "alt").is_none() {
            found.images_without_alt += 1;
        }
        let is_insecure = |(name, value): (&str, &str)| {
            ["href", "src"].iter().any(|link| name.eq_ignore_ascii_case(link))
                && value.trim_start().get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http:"))
        };
        if attributes(text).any(is_insecure) {
            found.insecure_links += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::Subject;

    fn mail(subject: &str, html: Option<&str>, text: Option<&str>) -> Rendered {
        Rendered {
            subject: Subject::parse(subject).unwrap(),
            html: html.map(str::to_owned),
            text: text.map(str::to_owned),
        }
    }

    fn codes(rendered: &Rendered, url: Option<&str>) -> Vec<WarningCode> {
        find_warnings(rendered, url).into_iter().map(|warning| warning.code).collect()
    }

    #[test]
    fn each_thing_that_a_recipient_may_miss_is_warned_of() {
        let url = "https://example.in/u?a=1&b=2";
        let escaped = "<p>Hi</p><a href='https://example.in/u?a=1&amp;b=2'>x</a>";
        let cases: [(Rendered, Option<&str>, &[WarningCode]); 12] = [
            (mail("s", Some("<p>Hi</p>"), None), None, &[]),
            (
                mail("s", Some(&format!("<p>{}</p>", "x".repeat(GMAIL_CLIP_BYTES))), None),
                None,
                &[WarningCode::HtmlClipped],
            ),
            (mail("s", Some(&"x".repeat(GMAIL_CLIP_BYTES)), None), None, &[]),
            (mail("s", Some("Hi <img src=x><IMG src=y alt>"), None), None, &[WarningCode::ImageWithoutAlt]),
            (mail("s", Some("Hi <img src=x alt=''>"), None), None, &[]),
            (mail("s", Some("<p>Hi</p>"), None), Some(url), &[WarningCode::NoUnsubscribeLink]),
            (mail("s", Some(escaped), None), Some(url), &[]),
            (mail("s", Some(escaped), Some("Hi")), Some(url), &[WarningCode::NoUnsubscribeLink]),
            (mail("s", Some(escaped), Some(url)), Some(url), &[]),
            (mail("s", Some("<img src='cid:x' alt=''>"), None), None, &[WarningCode::EmptyText]),
            (mail(&"é".repeat(79), Some("x"), None), None, &[WarningCode::LongSubject]),
            (mail(&"é".repeat(78), Some("<a href=' HTTP://x'>x</a>"), None), None, &[WarningCode::InsecureLink]),
        ];
        for (rendered, url, wanted) in cases {
            assert_eq!(codes(&rendered, url), wanted, "{rendered:?} {url:?}");
        }
    }
}
