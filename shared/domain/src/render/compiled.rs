//! Templates that are checked and ready to render, as often as there are recipients.
//!
//! Checking and compiling a part costs many times what rendering it does, so both happen once for each template and function instance.
//! Nothing that a recipient's data can decide is skipped here: fuel, allowance, limits and links are looked at in each render.

use std::fmt;
use std::io;
use std::sync::LazyLock;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value};

use super::filters;
use super::grammar::Checked;
use super::work::{MAX_TEXT, Misuse};
use super::{
    Formats, MAX_CONTEXT_BYTES, MAX_RENDERED_BYTES, MAX_SOURCE_BYTES, Part, RenderError, RenderErrorKind, Rendered,
    TemplateSource, formats, grammar, links,
};
use crate::header::Subject;

/// What each value of the data counts beside its text: about what it takes in memory.
///
/// So data has at most 8,192 values, and comparing two of them stays short.
pub(super) const VALUE_BYTES: usize = 64;

/// How deep data may nest.
pub(super) const MAX_CONTEXT_DEPTH: usize = 64;

/// The most steps of one part.
const FUEL: usize = 50_000;

/// The most bytes that the steps of one part may look at.
///
/// One step may compare or search all there is, so much data and a long source leave fewer steps: a table of 500 rows and 8 columns still renders.
const STEP_BYTES: usize = 9_000_000_000;

/// How deep the template engine may nest; `grammar` stays far below.
const RECURSION: usize = 64;

/// What an engine takes beside its template, and what a token takes in compiled form; both measured, and rounded up.
const ENGINE_BYTES: usize = 12 * 1024;
const TOKEN_BYTES: usize = 56;

/// The name of the only template of an engine; it decides nothing.
const NAME: &str = "part";

/// A template that was checked and compiled: what a cache holds.
///
/// It borrows nothing and may be used by many threads at once.
/// `Debug` shows its size only.
pub struct CompiledTemplate {
    subject: CompiledPart,
    text: Option<CompiledPart>,
    html: Option<CompiledPart>,
}

impl fmt::Debug for CompiledTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompiledTemplate").field("size_bytes", &self.size_bytes()).finish_non_exhaustive()
    }
}

impl CompiledTemplate {
    /// Checks and compiles all parts.
    ///
    /// # Errors
    ///
    /// `Syntax`, `NotAllowed` or `TooLarge`, for the first part that has one; a stored template can be older than the rules.
    pub fn new(source: TemplateSource) -> Result<Self, RenderError> {
        let compile = |part, source: Option<String>| source.map(|source| CompiledPart::new(part, source)).transpose();
        Ok(Self {
            subject: CompiledPart::new(Part::Subject, source.subject)?,
            text: compile(Part::Text, source.text)?,
            html: compile(Part::Html, source.html)?,
        })
    }

    /// About how much memory it takes, in bytes, for a cache that has a limit.
    pub fn size_bytes(&self) -> usize {
        [Some(&self.subject), self.text.as_ref(), self.html.as_ref()]
            .into_iter()
            .flatten()
            // The engine keeps a source of its own.
            .map(|part| ENGINE_BYTES + 2 * part.source.len() + TOKEN_BYTES * part.tokens)
            .sum()
    }

    /// Renders what one recipient gets.
    ///
    /// # Errors
    ///
    /// Any kind but `Syntax`; the first part that fails ends it.
    pub fn render(&self, context: &serde_json::Value, formats: &Formats) -> Result<Rendered, RenderError> {
        let data = Data::new(context, formats)?;
        let subject = parse_subject(&self.subject.render(&data)?)?;
        let render = |part: &Option<CompiledPart>| part.as_ref().map(|part| part.render(&data)).transpose();
        Ok(Rendered { subject, text: render(&self.text)?, html: render(&self.html)? })
    }
}

/// All parts of a rendered variant, of whatever channel it is.
///
/// `Debug` shows lengths only.
#[derive(Clone, PartialEq, Eq)]
pub struct RenderedParts {
    /// The subject, one line; `None` when the variant has none.
    pub subject: Option<Subject>,
    /// The text part; `None` when the variant has none.
    pub text: Option<String>,
    /// The HTML part; `None` when the variant has none.
    pub html: Option<String>,
    /// The text for channels that have little room; `None` when the variant has none.
    pub short_text: Option<String>,
}

impl fmt::Debug for RenderedParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RenderedParts")
            .field("subject", &self.subject)
            .field("text_bytes", &self.text.as_ref().map(String::len))
            .field("html_bytes", &self.html.as_ref().map(String::len))
            .field("short_text_bytes", &self.short_text.as_ref().map(String::len))
            .finish()
    }
}

impl RenderedParts {
    /// The parts that a mail has; `None` without a subject.
    pub fn mail(&self) -> Option<Rendered> {
        let subject = self.subject.clone()?;
        Some(Rendered { subject, text: self.text.clone(), html: self.html.clone() })
    }
}

/// Renders all parts of a variant, with the same code as `CompiledTemplate`: what a preview shows is what a mail has.
///
/// # Errors
///
/// Any kind; the first part that fails ends it.
pub fn render_parts(
    parts: &crate::template::Parts,
    context: &serde_json::Value,
    formats: &Formats,
) -> Result<RenderedParts, RenderError> {
    let data = Data::new(context, formats)?;
    let render = |part, source: &Option<String>| {
        source.as_ref().map(|source| CompiledPart::new(part, source.clone())?.render(&data)).transpose()
    };
    Ok(RenderedParts {
        subject: render(Part::Subject, &parts.subject)?.as_deref().map(parse_subject).transpose()?,
        text: render(Part::Text, &parts.text)?,
        html: render(Part::Html, &parts.html)?,
        short_text: render(Part::ShortText, &parts.short_text)?,
    })
}

fn parse_subject(rendered: &str) -> Result<Subject, RenderError> {
    // The line break at the end of a source belongs to the editor; inside, it is an error.
    Subject::parse(rendered.trim())
        .map_err(|error| RenderError::new(Part::Subject, RenderErrorKind::BadSubject, error.to_string()))
}

/// Looks at the source of one part.
pub(crate) fn check_part(part: Part, source: &str) -> Result<Checked, RenderError> {
    if source.len() > MAX_SOURCE_BYTES {
        return Err(RenderError::new(part, RenderErrorKind::TooLarge, "the template is longer than 256 KiB"));
    }
    grammar::check(source).map_err(|refusal| refusal.into_error(part))
}

/// How much data there is, counted as `check_context` says.
pub(super) fn measure(context: &serde_json::Value) -> Result<usize, RenderError> {
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

/// The data of a render and how its recipient writes, ready for the engine.
struct Data {
    size: usize,
    value: Value,
    formats: Value,
}

impl Data {
    fn new(context: &serde_json::Value, formats: &Formats) -> Result<Self, RenderError> {
        Ok(Self {
            size: measure(context)?,
            value: Value::from(Serde(context)),
            formats: Value::from_object(formats.clone()),
        })
    }
}

/// One part with an engine of its own.
struct CompiledPart {
    part: Part,
    source: String,
    tokens: usize,
    engine: Environment<'static>,
}

impl CompiledPart {
    fn new(part: Part, source: String) -> Result<Self, RenderError> {
        let tokens = check_part(part, &source)?.tokens;
        let mut engine = engine_of(part).clone();
        engine.add_template_owned(NAME, source.clone()).map_err(|error| describe(part, &source, &error))?;
        Ok(Self { part, source, tokens, engine })
    }

    fn render(&self, data: &Data) -> Result<String, RenderError> {
        let fail = |kind, detail| Err(RenderError::new(self.part, kind, detail));
        // A copy shares the compiled template and the filters; only what belongs to this render is its own.
        let mut engine = self.engine.clone();
        let step_bytes = data.size + self.source.len() + MAX_TEXT;
        engine.set_fuel(Some(FUEL.min(STEP_BYTES / step_bytes) as u64));
        engine.add_global(formats::GLOBAL, data.formats.clone());
        let mut output = CappedOutput::default();
        let result = engine
            .get_template(NAME)
            .and_then(|template| template.render_captured_to(data.value.clone(), &mut output).map(|_| ()));
        if output.is_full {
            return fail(RenderErrorKind::TooLarge, "the output is longer than 256 KiB");
        }
        result.map_err(|error| describe(self.part, &self.source, &error))?;
        let Ok(text) = String::from_utf8(output.bytes) else {
            return fail(RenderErrorKind::Other, "the output is not text");
        };
        if self.part == Part::Html && links::has_forbidden_link(&text) {
            return fail(RenderErrorKind::NotAllowed, links::FORBIDDEN);
        }
        Ok(text)
    }
}

/// The engine for a part, without a template: copies of it share the filters and tests.
pub(super) fn engine_of(part: Part) -> &'static Environment<'static> {
    static ESCAPING: LazyLock<Environment<'static>> = LazyLock::new(|| make_engine(AutoEscape::Html));
    static PLAIN: LazyLock<Environment<'static>> = LazyLock::new(|| make_engine(AutoEscape::None));
    match part {
        Part::Html => &ESCAPING,
        Part::Subject | Part::Text | Part::ShortText | Part::Data => &PLAIN,
    }
}

/// An engine that knows the listed filters and tests and nothing else.
fn make_engine(escape: AutoEscape) -> Environment<'static> {
    let mut engine = Environment::empty();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_recursion_limit(RECURSION);
    // Without it an error does not know which variable was missing.
    engine.set_debug(true);
    engine.set_formatter(filters::print);
    // Whatever the template is called: a name decides nothing here.
    engine.set_auto_escape_callback(move |_| escape.clone());
    filters::register(&mut engine);
    engine
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
    let tag = error.range().and_then(|range| tag_around(source, range.start));
    let place = tag.map(|tag| format!(" in `{}`", shorten(tag))).unwrap_or_default();
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
        kind => match Misuse::of(error) {
            Some(Misuse(detail)) => (RenderErrorKind::Other, format!("{detail}{place}")),
            None => (RenderErrorKind::Other, format!("{kind}{place}")),
        },
    };
    let column = error.range().and_then(|range| grammar::place_of(source, range.start)).map(|(_, column)| column);
    RenderError { part, kind, line: error.line(), column, detail }
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
pub(crate) fn shorten(text: &str) -> String {
    const MAX_QUOTE: usize = 120;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_QUOTE) {
        None => line,
        Some((end, _)) => format!("{}…", &line[..end]),
    }
}
