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
//! 4. The HTML part is escaped by a callback that does not look at names, and its links are looked at when it is done.
//!
//! Messages name places and variables of the template, never values: a value is somebody's data.

mod filters;
mod grammar;
mod html;

use std::fmt;
use std::io;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value};

use crate::header::Subject;

pub use html::text_from_html;

/// The longest source of one part, in bytes.
pub const MAX_SOURCE_BYTES: usize = 256 * 1024;

/// The longest output of one part, in bytes.
pub const MAX_RENDERED_BYTES: usize = 256 * 1024;

/// The most data of one render, in bytes as `check_context` counts them.
pub const MAX_CONTEXT_BYTES: usize = 512 * 1024;

/// What each value of the data counts beside its text: about what it takes in memory.
///
/// So data has at most 8,192 values, and comparing two of them stays short.
const VALUE_BYTES: usize = 64;

/// How deep data may nest.
const MAX_CONTEXT_DEPTH: usize = 64;

/// The most steps of one part.
const FUEL: usize = 50_000;

/// The most bytes that the steps of one part may look at.
///
/// One step may compare or search all there is, so much data and a long source leave fewer steps: a table of 500 rows and 8 columns still renders.
const STEP_BYTES: usize = 9_000_000_000;

/// How deep the template engine may nest; `grammar` stays far below.
const RECURSION: usize = 64;

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
    /// What to change, for the person who wrote the template.
    pub detail: String,
}

impl RenderError {
    fn new(part: Part, kind: RenderErrorKind, detail: impl Into<String>) -> Self {
        Self { part, kind, line: None, detail: detail.into() }
    }
}

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.part)?;
        if let Some(line) = self.line {
            write!(f, " line {line}")?;
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
    check_part(Part::Subject, &source.subject)?;
    if let Some(text) = &source.text {
        check_part(Part::Text, text)?;
    }
    if let Some(html) = &source.html {
        check_part(Part::Html, html)?;
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

/// How much data there is, counted as `check_context` says.
fn measure(context: &serde_json::Value) -> Result<usize, RenderError> {
    let fail = |kind, detail| Err(RenderError::new(Part::Data, kind, detail));
    if !context.is_object() {
        return fail(RenderErrorKind::Other, "the data must be an object");
    }
    let mut size = 0_usize;
    let mut waiting = vec![(context, 0_usize)];
    while let Some((value, depth)) = waiting.pop() {
        if depth > MAX_CONTEXT_DEPTH {
            return fail(RenderErrorKind::TooLarge, "the data is nested too deep");
        }
        size += VALUE_BYTES;
        match value {
            serde_json::Value::String(text) => size += text.len(),
            serde_json::Value::Array(items) => {
                waiting.extend(items.iter().map(|item| (item, depth + 1)));
            }
            serde_json::Value::Object(members) => {
                size += members.keys().map(String::len).sum::<usize>();
                waiting.extend(members.values().map(|member| (member, depth + 1)));
            }
            serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
        }
        if size > MAX_CONTEXT_BYTES {
            return fail(RenderErrorKind::TooLarge, "the data is too large");
        }
    }
    Ok(size)
}

/// Renders what one recipient gets.
///
/// Every part is checked again, because a stored template may be older than the rules.
/// A member that is null counts as known and absent: it is false in an `if`, `default` replaces it, and printing it is an error, so that nobody is greeted as "none".
///
/// # Errors
///
/// Any kind; the first part that fails ends it.
pub fn render_template(source: &TemplateSource, context: &serde_json::Value) -> Result<Rendered, RenderError> {
    let data = Data { size: measure(context)?, value: Value::from(Serde(context)) };
    let subject = render_part(Part::Subject, &source.subject, &data)?;
    // The line break at the end of a source belongs to the editor; inside, it is an error.
    let subject = Subject::parse(subject.trim())
        .map_err(|error| RenderError::new(Part::Subject, RenderErrorKind::BadSubject, error.to_string()))?;
    let render =
        |part, source: &Option<String>| source.as_ref().map(|source| render_part(part, source, &data)).transpose();
    let text = render(Part::Text, &source.text)?;
    let html = render(Part::Html, &source.html)?;
    if html.as_deref().is_some_and(html::has_script_link) {
        return Err(RenderError::new(Part::Html, RenderErrorKind::NotAllowed, "a link must not run a script"));
    }
    Ok(Rendered { subject, text, html })
}

fn check_part(part: Part, source: &str) -> Result<(), RenderError> {
    if source.len() > MAX_SOURCE_BYTES {
        return Err(RenderError::new(part, RenderErrorKind::TooLarge, "the template is longer than 256 KiB"));
    }
    grammar::check(source).map_err(|refusal| RenderError {
        part,
        kind: refusal.kind,
        line: refusal.line,
        detail: refusal.detail,
    })
}

/// The data of a render, ready for the engine.
struct Data {
    size: usize,
    value: Value,
}

fn render_part(part: Part, source: &str, data: &Data) -> Result<String, RenderError> {
    check_part(part, source)?;
    let mut environment = environment_of(part);
    let step_bytes = data.size + source.len() + filters::MAX_TEXT;
    environment.set_fuel(Some(FUEL.min(STEP_BYTES / step_bytes) as u64));
    let mut output = CappedOutput::default();
    let result = environment
        .template_from_str(source)
        .and_then(|template| template.render_captured_to(data.value.clone(), &mut output))
        .map(|_| ());
    if output.is_full {
        return Err(RenderError::new(part, RenderErrorKind::TooLarge, "the output is longer than 256 KiB"));
    }
    result.map_err(|error| describe(part, source, &error))?;
    String::from_utf8(output.bytes)
        .map_err(|_| RenderError::new(part, RenderErrorKind::Other, "the output is not text"))
}

/// An engine that knows the listed filters and tests and nothing else.
fn environment_of<'source>(part: Part) -> Environment<'source> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_recursion_limit(RECURSION);
    // Without it an error does not know which variable was missing.
    environment.set_debug(true);
    environment.set_formatter(filters::print);
    // Whatever the template is called: a name decides nothing here.
    let escape = match part {
        Part::Html => || AutoEscape::Html,
        Part::Subject | Part::Text | Part::Data => || AutoEscape::None,
    };
    environment.set_auto_escape_callback(move |_| escape());
    filters::register(&mut environment);
    environment
}

/// Output that refuses to grow past its limit instead of taking memory.
#[derive(Default)]
struct CappedOutput {
    bytes: Vec<u8>,
    is_full: bool,
}

impl io::Write for CappedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_RENDERED_BYTES {
            self.is_full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Says what an error of the engine means, from the template alone: the engine's own text may quote values.
fn describe(part: Part, source: &str, error: &minijinja::Error) -> RenderError {
    let place = error
        .range()
        .and_then(|range| tag_around(source, range.start))
        .map(|tag| format!(" in `{}`", shorten(tag)))
        .unwrap_or_default();
    let (kind, detail) = match error.kind() {
        // `grammar` found these already; only what compiling adds is left.
        ErrorKind::SyntaxError | ErrorKind::BadEscape => (RenderErrorKind::Syntax, format!("{}{place}", error.kind())),
        ErrorKind::UndefinedError => (
            RenderErrorKind::MissingVariable,
            match error.detail() {
                // The engine names the variable and nothing of its value, which it has none of.
                Some(detail) => shorten(detail),
                None => format!("a variable is missing or null{place}"),
            },
        ),
        ErrorKind::OutOfFuel => (RenderErrorKind::OutOfFuel, format!("the template does too much work{place}")),
        ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction | ErrorKind::UnknownMethod => {
            (RenderErrorKind::NotAllowed, format!("{}{place}", error.kind()))
        }
        kind => (RenderErrorKind::Other, format!("{kind}{place}")),
    };
    RenderError { part, kind, line: error.line(), detail }
}

/// The braces around a place of the source: an error's own range can be as small as the name of a filter.
fn tag_around(source: &str, at: usize) -> Option<&str> {
    let before = source.get(..at)?;
    let start = ["{{", "{%"].iter().filter_map(|open| before.rfind(open)).max()?;
    let tag = &source[start..];
    let end = ["}}", "%}"].iter().filter_map(|close| tag.find(close)).min().map_or(tag.len(), |end| end + 2);
    Some(&tag[..end])
}

/// A message quotes a piece of the template, and a piece can be all of it.
fn shorten(text: &str) -> String {
    const MAX_QUOTE: usize = 120;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_QUOTE) {
        None => line,
        Some((end, _)) => format!("{}…", &line[..end]),
    }
}

#[cfg(test)]
mod tests;
