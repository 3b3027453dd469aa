//! MJML with a template's tags in it, to HTML with the same tags.
//!
//! The compiler knows no template language, so each tag stands aside as a word while it works.
//! A tag may stand in text and in the quotes of an attribute; a block, such as a loop, also between the elements that lay out a mail: there it is wrapped in `mj-raw`, which MJML has for that.
//! What the compiler drops, such as a tag where it wants a number, is an error and not a silent loss.
//!
//! Before it sees a source, its elements are matched and counted, because it recurses for each one that is open.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mrml::mj_head::MjHeadChild;
use mrml::mj_style::StyleInlineMode;
use mrml::prelude::parser::{Error, ParserOptions};
use mrml::prelude::render::RenderOptions;

use super::css::{Sheets, inline_styles};
use super::tags::{Stand, TagKind, Traced, find_tags};
use super::tree::VOID;
use crate::locale::Locale;
use crate::render::html::{name_of, split_tag};

/// How deep elements may nest.
const MAX_DEPTH: usize = 64;

/// How many elements may stand in comments, where their ends are not counted.
const MAX_IN_COMMENTS: usize = 128;

/// Elements that lay out a mail: between their children a block may stand.
const LAYING_OUT: [&str; 6] = ["mj-body", "mj-wrapper", "mj-section", "mj-group", "mj-column", "mj-hero"];

/// Elements whose children are a fixed kind and nothing else.
const CLOSED: [&str; 8] = [
    "mjml",
    "mj-head",
    "mj-attributes",
    "mj-social",
    "mj-navbar",
    "mj-accordion",
    "mj-accordion-element",
    "mj-carousel",
];

/// The elements that MJML has; the compiler would print any other as it is.
const ELEMENTS: [&str; 33] = [
    "mj-accordion",
    "mj-accordion-element",
    "mj-accordion-text",
    "mj-accordion-title",
    "mj-all",
    "mj-attributes",
    "mj-body",
    "mj-breakpoint",
    "mj-button",
    "mj-carousel",
    "mj-carousel-image",
    "mj-class",
    "mj-column",
    "mj-divider",
    "mj-font",
    "mj-group",
    "mj-head",
    "mj-hero",
    "mj-image",
    "mj-include",
    "mj-navbar",
    "mj-navbar-link",
    "mj-preview",
    "mj-raw",
    "mj-section",
    "mj-social",
    "mj-social-element",
    "mj-spacer",
    "mj-style",
    "mj-table",
    "mj-text",
    "mj-title",
    "mj-wrapper",
];

/// Says what is wrong with MJML, and at which byte of the text that was given.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MjmlError {
    pub(super) offset: Option<usize>,
    pub(super) detail: String,
}

fn wrong(offset: usize, detail: impl Into<String>) -> MjmlError {
    MjmlError { offset: Some(offset), detail: detail.into() }
}

/// Compiles MJML; the HTML has the language of the variant unless the source names one.
///
/// # Errors
///
/// When it is not MJML, or has a tag where MJML keeps none.
pub(super) fn compile_mjml(source: &str, locale: &Locale) -> Result<String, MjmlError> {
    let mut stand = Stand::for_source(source);
    let (protected, places) = protect(source, &mut stand)?;
    // Its numbers come from the source, and nobody promises that it has looked at each before it calculates.
    let compiled = catch_unwind(AssertUnwindSafe(|| compile(&protected.text, locale)));
    let compiled = compiled.unwrap_or_else(|_| Err((None, "the MJML compiler cannot handle this".to_owned())));
    let (html, inline_css) = compiled.map_err(|(at, detail)| MjmlError {
        offset: at.map(|at| protected.origin_of(tag_start(&protected.text, at)).1),
        detail,
    })?;
    let is_dynamic = |text: &str| stand.stands_in(text);
    let html = match inline_css.trim() {
        "" => html,
        css => inline_styles(&html, Sheets::Given(css), &is_dynamic)
            .map_err(|detail| MjmlError { offset: None, detail: detail.to_owned() })?,
    };
    let (restored, counts) = stand.restore(&html);
    match counts.iter().position(|count| *count == 0) {
        Some(lost) => {
            Err(wrong(places[lost], "MJML keeps no template tag in this place: it wants a number or a fixed word here"))
        }
        None => Ok(restored),
    }
}

/// Where a tag begins whose name begins at a byte; any other byte stays, moved to where its character begins.
fn tag_start(text: &str, at: usize) -> usize {
    let at = (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    if text[..at].ends_with('<') { at - 1 } else { at }
}

/// Calls the compiler: the HTML, and the style sheets that are to be moved into attributes.
fn compile(source: &str, locale: &Locale) -> Result<(String, String), (Option<usize>, String)> {
    let options = ParserOptions::default();
    let mut document = mrml::parse_with_options(source, &options).map_err(|error| explain(source, &error))?.element;
    let mut css = String::new();
    if let Some(head) = &mut document.children.head {
        head.children.retain(|child| match child {
            MjHeadChild::MjStyle(style) if style.inline_mode() == StyleInlineMode::Inline => {
                css.push_str(style.children());
                css.push('\n');
                false
            }
            _ => true,
        });
    }
    document.attributes.lang.get_or_insert_with(|| locale.as_str().to_owned());
    // No web fonts but those that the source names: each is a call from the reader to somebody else.
    let options = RenderOptions { fonts: Default::default(), ..RenderOptions::default() };
    let html = document.render(&options).map_err(|_| (None, "the MJML cannot be rendered".to_owned()))?;
    Ok((html, css))
}

/// Where an error of the compiler is, and what it means.
fn explain(source: &str, error: &Error) -> (Option<usize>, String) {
    match error {
        Error::UnexpectedElement { position, .. } => {
            let name = source.get(position.start..position.end).unwrap_or("this").trim_start_matches('<');
            (Some(position.start), format!("MJML has no element `{}` in this place", crate::render::shorten(name)))
        }
        Error::UnexpectedToken { position, .. } => {
            (Some(position.start), "MJML has an element in this place, or the end of one, and nothing else".to_owned())
        }
        Error::MissingAttribute { name, position, .. } => {
            (Some(position.start), format!("the attribute `{name}` is missing"))
        }
        Error::InvalidAttribute { position, .. } => {
            (Some(position.start), "not an attribute that MJML understands".to_owned())
        }
        Error::InvalidFormat { position, .. } => (Some(position.start), "not MJML".to_owned()),
        Error::IncludeLoaderError { position, .. } => {
            (Some(position.start), "`mj-include` is not available: use `{% include \"key\" %}`".to_owned())
        }
        Error::EndOfStream { .. } => (Some(source.len()), "an element is not closed".to_owned()),
        Error::ParserError { source: error, .. } => {
            let place = offset_of(source, &error.to_string());
            (place, "not MJML: a tag or attribute is not well formed; write `<` in text as `&lt;`".to_owned())
        }
        Error::NoRootNode => (None, "the MJML must be one `<mjml>` element".to_owned()),
        Error::SizeLimit { .. } => (None, "the MJML is too long".to_owned()),
    }
}

/// The byte that the tokenizer names as `… at row:column`.
fn offset_of(source: &str, words: &str) -> Option<usize> {
    let (row, column) = words.rsplit_once(" at ")?.1.trim().split_once(':')?;
    let (row, column): (usize, usize) = (row.parse().ok()?, column.parse().ok()?);
    let line_start: usize = source.split_inclusive('\n').take(row.checked_sub(1)?).map(str::len).sum();
    let line = source.get(line_start..)?;
    let within = line.char_indices().nth(column.checked_sub(1)?).map_or(line.len(), |(at, _)| at);
    Some(line_start + within)
}

/// Puts a word in the place of each tag, and tells where each of them stood.
fn protect<'source>(source: &'source str, stand: &mut Stand<'source>) -> Result<(Traced, Vec<usize>), MjmlError> {
    let mut protected = Traced::default();
    let mut places = Vec::new();
    let mut scanner = Scanner::default();
    let mut at = 0;
    for tag in find_tags(source) {
        scanner.scan(&source[at..tag.range.start], at)?;
        protected.push_copy(&source[at..tag.range.start], 0, at);
        at = tag.range.end;
        if tag.kind == TagKind::Comment {
            continue;
        }
        let place = scanner.place();
        let start = tag.range.start;
        let word = match (place, tag.kind) {
            (Place::Tag, _) => {
                return Err(wrong(start, "a template tag must stand in text or in the quotes of an attribute"));
            }
            (Place::LayingOut, TagKind::Block) => format!("<mj-raw>{}</mj-raw>", stand.add(&source[tag.range])),
            (Place::LayingOut, _) => return Err(wrong(start, "put this into an `mj-text` or `mj-raw`")),
            (Place::Closed, _) => return Err(wrong(start, scanner.closed_detail())),
            (Place::Content | Place::Value, _) => stand.add(&source[tag.range]),
        };
        places.push(start);
        protected.push_instead(&word, 0, start);
    }
    scanner.scan(&source[at..], at)?;
    protected.push_copy(&source[at..], 0, at);
    if let Some(at) = find_broken_condition(&protected.text) {
        return Err(wrong(protected.origin_of(at).1, "a conditional comment is written `<!--[if …]> … <![endif]-->`"));
    }
    if let Some((name, start)) = scanner.open.pop() {
        return Err(wrong(start, format!("`<{}>` is not closed", crate::render::shorten(&name))));
    }
    Ok((protected, places))
}

/// Where a condition begins that does not end as one; the compiler's tokenizer panics on it.
fn find_broken_condition(text: &str) -> Option<usize> {
    const STARTS: [&str; 4] = ["<!--[if", "<![if", "<![endif", "<!--<![endif"];
    const ENDS: [&str; 4] = ["]>-->", "]><!-->", "]-->", "]>"];
    let starts = text.match_indices("<!").map(|(at, _)| at);
    let mut conditions = starts.filter(|&at| STARTS.iter().any(|start| text[at..].starts_with(start)));
    conditions.find(|&at| {
        let end = text[at..].find(']').map(|end| &text[at + end..]);
        !end.is_some_and(|rest| ENDS.iter().any(|end| rest.starts_with(end)))
    })
}

/// Where in MJML a tag stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the text of an element, or in a comment.
    Content,
    /// Between the children of an element that lays out.
    LayingOut,
    /// Between the children of an element that takes no others.
    Closed,
    /// In the quotes of an attribute.
    Value,
    /// Elsewhere in an element's tag.
    Tag,
}

/// Follows MJML from one template tag to the next.
#[derive(Debug, Default)]
struct Scanner {
    /// The open elements and where each begins.
    open: Vec<(String, usize)>,
    /// The tag that is being read, without its `<`, and where it begins.
    tag: Option<(String, usize)>,
    quote: Option<char>,
    is_comment: bool,
    in_comments: usize,
}

impl Scanner {
    fn place(&self) -> Place {
        match (&self.tag, self.open.last()) {
            (Some(_), _) if self.quote.is_some() => Place::Value,
            (Some(_), _) => Place::Tag,
            (None, _) if self.is_comment => Place::Content,
            (None, Some((name, _))) if LAYING_OUT.contains(&name.as_str()) => Place::LayingOut,
            (None, Some((name, _))) if CLOSED.contains(&name.as_str()) => Place::Closed,
            (None, Some(_)) => Place::Content,
            (None, None) => Place::Closed,
        }
    }

    fn closed_detail(&self) -> String {
        match self.open.last() {
            Some((name, _)) => format!("a template tag cannot stand between the elements of `{name}`"),
            None => "a template tag cannot stand outside of `mjml`".to_owned(),
        }
    }

    /// Reads a piece of the source that has no template tag and begins at a byte of it.
    fn scan(&mut self, piece: &str, start: usize) -> Result<(), MjmlError> {
        let mut at = 0;
        while at < piece.len() {
            let rest = &piece[at..];
            if self.tag.is_some() {
                at += self.scan_tag(rest)?;
            } else if self.is_comment {
                let end = rest.find("-->").map(|end| end + "-->".len());
                self.count_in_comment(&rest[..end.unwrap_or(rest.len())], start + at)?;
                self.is_comment = end.is_none();
                at += end.unwrap_or(rest.len());
            } else if let Some(found) = rest.find('<') {
                at += found;
                let rest = &piece[at..];
                if rest.starts_with("<!--") {
                    // Its text is read as a comment from here on, `<!-->` too.
                    self.is_comment = true;
                    at += "<!".len();
                } else if rest.starts_with("<!") || rest.starts_with("<?") {
                    return Err(wrong(start + at, "MJML has elements and comments only"));
                } else {
                    self.tag = Some((String::new(), start + at));
                    at += 1;
                }
            } else {
                at = piece.len();
            }
        }
        Ok(())
    }

    /// Reads on in a tag; how many bytes belonged to it.
    fn scan_tag(&mut self, rest: &str) -> Result<usize, MjmlError> {
        for (at, character) in rest.char_indices() {
            match (self.quote, character) {
                (None, '>') => {
                    self.finish_tag(&rest[..at])?;
                    return Ok(at + 1);
                }
                (None, '"' | '\'') => self.quote = Some(character),
                (Some(open), close) if open == close => self.quote = None,
                _ => {}
            }
        }
        if let Some((tag, _)) = &mut self.tag {
            tag.push_str(rest);
        }
        Ok(rest.len())
    }

    fn finish_tag(&mut self, last: &str) -> Result<(), MjmlError> {
        let Some((mut tag, start)) = self.tag.take() else { return Ok(()) };
        tag.push_str(last);
        if let Some(closing) = tag.strip_prefix('/') {
            let name = closing.trim();
            return match self.open.pop() {
                Some((open, _)) if open == name => Ok(()),
                Some((open, _)) => {
                    Err(wrong(start, format!("`<{}>` must be closed first", crate::render::shorten(&open))))
                }
                None => Err(wrong(start, "this closes nothing")),
            };
        }
        let name = name_of(&tag);
        if name.starts_with("mj-") && !ELEMENTS.contains(&name) {
            return Err(wrong(start, format!("MJML has no element `{}`", crate::render::shorten(name))));
        }
        if tag.ends_with('/') || VOID.contains(&name) {
            return Ok(());
        }
        if self.open.len() == MAX_DEPTH {
            return Err(wrong(start, "elements are nested too deep"));
        }
        self.open.push((name.to_owned(), start));
        Ok(())
    }

    /// Counts the tags of a comment: the compiler reads those of a conditional one as any others.
    fn count_in_comment(&mut self, comment: &str, start: usize) -> Result<(), MjmlError> {
        let opens = |at: usize| comment[at + 1..].starts_with(|c: char| !matches!(c, '/' | '!'));
        let is_open = |at: &usize| opens(*at) && !split_tag(&comment[at + 1..]).0.ends_with('/');
        self.in_comments += comment.match_indices('<').map(|(at, _)| at).filter(is_open).count();
        if self.in_comments > MAX_IN_COMMENTS {
            return Err(wrong(start, "there are too many elements in comments"));
        }
        Ok(())
    }
}
