//! Templates of tenants from draft to immutable version.
//!
//! A draft is what people write: variants of one message for each channel and language, in HTML or MJML, with partials, a layout and declared variables.
//! `publish` turns it into parts that need nothing else: partials and layout are copied in, MJML is compiled, CSS is inlined, and the grammar of `render` is checked on what comes out.
//! So a published version never changes when a partial does, and the processor needs no more than text to compile.
//!
//! Every mistake of every variant is told at once, with line and column of the text that its author wrote: each piece is checked on its own before it is put together.

mod css;
mod expand;
mod mjml;
mod publish;
mod tags;
mod tree;
mod variables;

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest, Sha256};

use crate::delivery::Channel;
use crate::id::TemplateKey;
use crate::locale::Locale;

pub use publish::{example_data, publish};
pub use variables::{Variable, VariableType, Variables, check_data};

/// The most variants of a template.
pub const MAX_VARIANTS: usize = 50;

/// The most variables of a template.
pub const MAX_VARIABLES: usize = 100;

/// What a template is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A message that can be sent.
    Message,
    /// A piece that other templates include.
    Partial,
    /// What stands around a message.
    Layout,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Message, Self::Partial, Self::Layout];

    /// The name in the API and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Partial => "partial",
            Self::Layout => "layout",
        }
    }

    /// Reads a name; `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The HTML part as its author wrote it.
#[derive(Clone, PartialEq, Eq)]
pub enum Markup {
    /// HTML.
    Html(String),
    /// MJML, which becomes HTML when it is published.
    Mjml(String),
}

impl Markup {
    /// The name of the field that it is written in.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Html(_) => "html",
            Self::Mjml(_) => "mjml",
        }
    }

    /// What was written.
    pub fn source(&self) -> &str {
        match self {
            Self::Html(source) | Self::Mjml(source) => source,
        }
    }
}

/// One channel and language of a template, as it was written.
#[derive(Clone, PartialEq, Eq)]
pub struct Variant {
    /// The channel.
    pub channel: Channel,
    /// The language.
    pub locale: Locale,
    /// Template of the subject; `None` where there is none.
    pub subject: Option<String>,
    /// Template of the HTML part; `None` where there is none.
    pub markup: Option<Markup>,
    /// Template of the text part; `None` where there is none.
    pub text: Option<String>,
    /// Template of the text for channels that have little room; `None` where there is none.
    pub short_text: Option<String>,
}

impl fmt::Debug for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = |part: &Option<String>| part.as_ref().map(String::len);
        f.debug_struct("Variant")
            .field("channel", &self.channel)
            .field("locale", &self.locale)
            .field("subject_bytes", &length(&self.subject))
            .field("markup_bytes", &self.markup.as_ref().map(|markup| markup.source().len()))
            .field("text_bytes", &length(&self.text))
            .field("short_text_bytes", &length(&self.short_text))
            .finish()
    }
}

/// A template as people change it.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// What it is for.
    pub kind: Kind,
    /// The layout to stand in; only a message has one.
    pub layout: Option<TemplateKey>,
    /// What its data must have. `None` declares nothing: a message then has our own names only, and a partial or layout
    /// those of whoever includes it.
    pub variables: Option<Variables>,
    /// The variants, each channel and language once.
    pub variants: Vec<Variant>,
}

/// A partial or layout of the tenant in its published version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// What it is for.
    pub kind: Kind,
    /// Its variants as they were published.
    pub variants: Vec<Variant>,
}

/// What a draft may include: the tenant's published partials and layouts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// The pieces by their keys.
    pub pieces: BTreeMap<TemplateKey, Piece>,
    /// The language to fall back to when a piece has neither the variant's own nor a less specific one.
    pub default_locale: Locale,
}

impl Library {
    /// A library without pieces.
    pub fn empty(default_locale: Locale) -> Self {
        Self { pieces: BTreeMap::new(), default_locale }
    }
}

/// The parts of a published variant: templates that need nothing else.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Parts {
    /// Template of the subject; `None` where there is none.
    pub subject: Option<String>,
    /// Template of the HTML part; `None` where there is none.
    pub html: Option<String>,
    /// Template of the text part; `None` where there is none.
    pub text: Option<String>,
    /// Template of the text for channels that have little room; `None` where there is none.
    pub short_text: Option<String>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = |part: &Option<String>| part.as_ref().map(String::len);
        f.debug_struct("Parts")
            .field("subject_bytes", &length(&self.subject))
            .field("html_bytes", &length(&self.html))
            .field("text_bytes", &length(&self.text))
            .field("short_text_bytes", &length(&self.short_text))
            .finish()
    }
}

impl Parts {
    /// SHA-256 of the parts, each with its name and length before it, so that no two contents share a hash by moving a border.
    pub fn hash(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        for (name, part) in
            [("subject", &self.subject), ("html", &self.html), ("text", &self.text), ("short_text", &self.short_text)]
        {
            if let Some(part) = part {
                hasher.update(format!("{name} {}\n", part.len()));
                hasher.update(part);
            }
        }
        hasher.finalize().into()
    }
}

/// One channel and language of a published version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedVariant {
    /// The channel.
    pub channel: Channel,
    /// The language.
    pub locale: Locale,
    /// What a message renders from; of a partial or layout its own text, for whoever includes it.
    pub parts: Parts,
    /// The MJML of a partial or layout, which has no HTML of its own then; `None` for messages.
    pub mjml: Option<String>,
    /// SHA-256 of the parts.
    pub hash: [u8; 32],
}

/// A mistake in a draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DraftError {
    /// JSON pointer to the field, such as `/variants/0/html`.
    pub pointer: String,
    /// The line of what stands there, counted from 1; `None` when it is no single line.
    pub line: Option<usize>,
    /// The character of the line, counted from 1; `None` when it is the line as a whole.
    pub column: Option<usize>,
    /// What to change, for the person who wrote it.
    pub detail: String,
}

impl fmt::Display for DraftError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, "line {line} column {column}: ")?,
            (Some(line), None) => write!(f, "line {line}: ")?,
            (None, _) => {}
        }
        f.write_str(&self.detail)
    }
}

impl std::error::Error for DraftError {}

#[cfg(test)]
mod tests;
