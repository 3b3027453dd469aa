//! Templates of tenants: from a source and data to a subject and the parts of a mail.
//!
//! A template is a program that somebody else wrote, and it runs beside everybody's mail.
//! What keeps it harmless, in the order in which it meets a source:
//!
//! 1. `grammar` looks at the parsed template and lets through printing, `if` and `for`, and expressions that cannot make a value larger than what went in.
//!    Fuel alone bounds steps and not memory: a few dozen doublings fit into any fuel (RELIABILITY, finding 10).
//! 2. `filters` holds every filter and test there is; each counts what it works on against one allowance for the render.
//!    There are no functions, no globals and no other templates to include.
//! 3. Data has a limit (`check_context`), steps have one (fuel), and the output has one (a writer that refuses more).
//! 4. The HTML part is escaped by a callback that does not look at names, and the schemes of its links are looked at when it is done.
//!
//! `CompiledTemplate` is a template that passed 1 and waits in a cache for its next recipient; `Formats` says how that recipient writes dates and numbers.
//! Messages name places and variables of the template, never values: a value is somebody's data.

mod compiled;
mod filters;
mod footer;
mod formats;
pub(crate) mod grammar;
pub(crate) mod html;
mod links;
mod warning;
mod work;

use std::fmt;

use crate::header::Subject;

pub use compiled::{CompiledTemplate, RenderedParts, render_parts};
pub use footer::{FooterLinks, add_footer};
pub use formats::Formats;
pub use html::{shows_something, text_from_html};
pub use warning::{Warning, WarningCode, find_warnings};

pub(crate) use compiled::{check_part, shorten};
pub(crate) use formats::{is_currency, parse_date, parse_number};
pub(crate) use links::{FORBIDDEN, find_forbidden_link};

use compiled::measure;

/// The longest source of one part, in bytes.
pub const MAX_SOURCE_BYTES: usize = 256 * 1024;

/// The longest output of one part, in bytes.
pub const MAX_RENDERED_BYTES: usize = 256 * 1024;

/// The most data of one render, in bytes as `check_context` counts them.
pub const MAX_CONTEXT_BYTES: usize = 512 * 1024;

/// What a tenant wrote: a subject and the parts of a mail, not yet looked at.
///
/// `Debug` shows lengths only.
#[derive(Clone, PartialEq, Eq)]
pub struct TemplateSource {
    /// Template of the subject; it must come out as one line.
    pub subject: String,
    /// Template of the text part; `None` when the mail has none of its own.
    pub text: Option<String>,
    /// Template of the HTML part; `None` when the mail has none.
    pub html: Option<String>,
}

impl fmt::Debug for TemplateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemplateSource")
            .field("subject_bytes", &self.subject.len())
            .field("text_bytes", &self.text.as_ref().map(String::len))
            .field("html_bytes", &self.html.as_ref().map(String::len))
            .finish()
    }
}

/// What one recipient gets.
///
/// `Debug` shows lengths only.
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The subject, one line.
    pub subject: Subject,
    /// The text part; `None` when the source has none.
    pub text: Option<String>,
    /// The HTML part; `None` when the source has none.
    pub html: Option<String>,
}

impl fmt::Debug for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rendered")
            .field("subject", &self.subject)
            .field("text_bytes", &self.text.as_ref().map(String::len))
            .field("html_bytes", &self.html.as_ref().map(String::len))
            .finish()
    }
}

/// Where in a message something went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The subject.
    Subject,
    /// The text part.
    Text,
    /// The HTML part.
    Html,
    /// The text for channels that have little room.
    ShortText,
    /// The data, before any template saw it.
    Data,
}

impl Part {
    /// The name of the field that a caller wrote.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Text => "text",
            Self::Html => "html",
            Self::ShortText => "short_text",
            Self::Data => "data",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RenderErrorKind {
    /// The source is not a template.
    Syntax,
    /// The data lacks something that the template prints or works with, or has null for it.
    MissingVariable,
    /// The template has too many steps or works on too much.
    OutOfFuel,
    /// Source, data or output are over their limits.
    TooLarge,
    /// The template asks for something that templates of tenants do not have.
    NotAllowed,
    /// The subject did not come out as one line.
    BadSubject,
    /// No part came out with anything to see.
    Empty,
    /// An operation does not fit its values.
    Other,
}

impl RenderErrorKind {
    /// A stable name for reasons, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::MissingVariable => "missing_variable",
            Self::OutOfFuel => "out_of_fuel",
            Self::TooLarge => "too_large",
            Self::NotAllowed => "not_allowed",
            Self::BadSubject => "bad_subject",
            Self::Empty => "empty",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for RenderErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Says why a template could not be taken or rendered, without any value of the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderError {
    /// Where it went wrong.
    pub part: Part,
    /// What went wrong.
    pub kind: RenderErrorKind,
    /// The line of the source, counted from 1; `None` when it is no single line.
    pub line: Option<usize>,
    /// The character of that line, counted from 1; `None` when it is the line as a whole.
    pub column: Option<usize>,
    /// What to change, for the person who wrote the template.
    pub detail: String,
}

impl RenderError {
    fn new(part: Part, kind: RenderErrorKind, detail: impl Into<String>) -> Self {
        Self { part, kind, line: None, column: None, detail: detail.into() }
    }
}

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.part)?;
        if let Some(line) = self.line {
            write!(f, " line {line}")?;
        }
        if let Some(column) = self.column {
            write!(f, " column {column}")?;
        }
        write!(f, ": {}", self.detail)
    }
}

impl std::error::Error for RenderError {}

/// Looks at a template without data, when it is stored.
///
/// What passes can still fail on data that lacks something, or that makes it too large.
///
/// # Errors
///
/// `Syntax`, `NotAllowed` or `TooLarge`, for the first part that has one.
pub fn check_template(source: &TemplateSource) -> Result<(), RenderError> {
    let parts = [
        (Part::Subject, Some(&source.subject)),
        (Part::Text, source.text.as_ref()),
        (Part::Html, source.html.as_ref()),
    ];
    for (part, source) in parts {
        if let Some(source) = source {
            check_part(part, source)?;
        }
    }
    Ok(())
}

/// Looks at data before it is stored, so that no render fails on its size.
///
/// Each value counts 64 bytes, and texts and names of members count their length.
///
/// # Errors
///
/// `TooLarge` when it counts more than 512 KiB or nests deeper than 64, `Other` when it is not an object.
pub fn check_context(context: &serde_json::Value) -> Result<(), RenderError> {
    measure(context).map(|_| ())
}

/// Renders what one recipient gets, from a template that no cache holds.
///
/// A member that is null counts as known and absent: it is false in an `if`, `default` replaces it, and printing it is an error, so that nobody is greeted as "none".
///
/// # Errors
///
/// Any kind; the first part that fails ends it.
pub fn render_template(
    source: &TemplateSource,
    context: &serde_json::Value,
    formats: &Formats,
) -> Result<Rendered, RenderError> {
    CompiledTemplate::new(source.clone())?.render(context, formats)
}

#[cfg(test)]
mod tests;
