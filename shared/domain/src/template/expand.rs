//! Copies partials and the layout into a part.
//!
//! `{% include "key" %}` stands for the same part of a partial, `{% content %}` in a layout for the part that stands in it.
//! Both are gone before the engine sees anything: it never loads by name.

use super::tags::{Tag, TagKind, Traced, find_tags, inside};
use super::{Kind, Library, Markup, Piece, Variant};
use crate::delivery::Channel;
use crate::id::TemplateKey;
use crate::locale::Locale;
use crate::render::{MAX_SOURCE_BYTES, Part};

/// How deep partials may include partials.
const MAX_DEPTH: usize = 8;

/// How many includes a part may come to.
const MAX_INCLUDES: usize = 200;

/// What a tag of ours asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Directive<'source> {
    /// `{% include "key" %}`.
    Include(&'source str),
    /// `{% content %}`.
    Content,
}

/// Reads a tag as one of ours; `None` when it is the engine's.
///
/// # Errors
///
/// When it is ours but says it wrong.
pub(super) fn read_directive(tag: &str) -> Result<Option<Directive<'_>>, &'static str> {
    let words = inside(tag);
    let name_end = words.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(words.len());
    let (name, rest) = words.split_at(name_end);
    if !matches!(name, "include" | "content") {
        return Ok(None);
    }
    if !(tag.starts_with("{%") && tag.ends_with("%}"))
        || tag[2..].starts_with(['-', '+'])
        || tag[..tag.len() - 2].ends_with(['-', '+'])
    {
        return Err("`include` and `content` take no `-` or `+`");
    }
    let rest = rest.trim();
    if name == "content" {
        return if rest.is_empty() { Ok(Some(Directive::Content)) } else { Err("`content` takes nothing else") };
    }
    let key = ['"', '\''].into_iter().find_map(|quote| rest.strip_prefix(quote)?.strip_suffix(quote));
    match key.filter(|key| !key.contains(['"', '\'', '\\'])) {
        Some(key) => Ok(Some(Directive::Include(key))),
        None => Err("`include` takes one key in quotes, as in `{% include \"footer\" %}`"),
    }
}

/// A source whose own tags became spaces, so that each place stays where it is.
pub(super) fn blank_directives(source: &str) -> String {
    let mut blanked = String::with_capacity(source.len());
    let mut at = 0;
    for Tag { kind, range } in find_tags(source) {
        if kind == TagKind::Block && matches!(read_directive(&source[range.clone()]), Ok(Some(_))) {
            blanked.push_str(&source[at..range.start]);
            blanked.extend(source[range.clone()].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
            at = range.end;
        }
    }
    blanked.push_str(&source[at..]);
    blanked
}

/// Says what is wrong with a part, and at which byte of its own source.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ExpandError {
    pub(super) offset: Option<usize>,
    pub(super) detail: String,
}

impl ExpandError {
    fn at(offset: usize, detail: impl Into<String>) -> Self {
        Self { offset: Some(offset), detail: detail.into() }
    }
}

/// A part that was put together.
#[derive(Debug)]
pub(super) struct Expanded {
    pub(super) traced: Traced,
    /// Whether it is MJML.
    pub(super) is_mjml: bool,
    /// Where each origin but the first came from: the first is the part itself.
    pub(super) origins: Vec<String>,
}

/// What all parts of a variant are put together with.
pub(super) struct Expander<'draft> {
    pub(super) library: &'draft Library,
    pub(super) channel: Channel,
    pub(super) locale: &'draft Locale,
    pub(super) layout: Option<&'draft TemplateKey>,
}

impl<'draft> Expander<'draft> {
    /// Puts one part together.
    pub(super) fn expand(&self, part: Part, source: &str, is_mjml: bool) -> Result<Expanded, ExpandError> {
        let mut building =
            Building { expander: self, part, is_mjml, origins: Vec::new(), includes: 0, open: Vec::new() };
        let mut own = Traced::default();
        building.include_all(source, 0, &mut own)?;
        let Some((key, layout, layout_is_mjml)) = self.find_layout(part)? else {
            return Ok(Expanded { traced: own, is_mjml, origins: building.origins });
        };
        if is_mjml && !layout_is_mjml {
            return Err(ExpandError { offset: None, detail: format!("the layout `{key}` has no MJML to put this in") });
        }
        building.is_mjml = layout_is_mjml;
        building.origins.push(format!("the layout `{key}`"));
        let origin = building.origins.len();
        let mut around = Traced::default();
        building.include_all(layout, origin, &mut around).map_err(|error| ExpandError {
            offset: None,
            detail: format!("in the layout `{key}`: {}", error.detail),
        })?;
        let traced = place_content(&around, &own)
            .map_err(|detail| ExpandError { offset: None, detail: format!("the layout `{key}` {detail}") })?;
        within_limit(&traced)?;
        Ok(Expanded { traced, is_mjml: layout_is_mjml, origins: building.origins })
    }

    /// The layout's source for a part; a subject and a short text stand alone, and so does a text where the layout has none.
    fn find_layout(&self, part: Part) -> Result<Option<(&'draft TemplateKey, &'draft str, bool)>, ExpandError> {
        let Some(key) = self.layout.filter(|_| matches!(part, Part::Html | Part::Text)) else { return Ok(None) };
        let wrong = |detail| ExpandError { offset: None, detail };
        let piece = self.library.pieces.get(key).filter(|piece| piece.kind == Kind::Layout);
        let piece = piece.ok_or_else(|| wrong(format!("there is no published layout `{key}`")))?;
        let variant =
            self.pick(piece).ok_or_else(|| wrong(format!("the layout `{key}` has no variant for this channel")))?;
        match (part, &variant.markup) {
            (Part::Html, Some(markup)) => Ok(Some((key, markup.source(), matches!(markup, Markup::Mjml(_))))),
            (Part::Html, None) => Err(wrong(format!("the layout `{key}` has no HTML"))),
            _ => Ok(variant.text.as_deref().map(|text| (key, text, false))),
        }
    }

    /// The variant of a piece for this channel: the language itself, a less specific one, then the tenant's default.
    fn pick<'piece>(&self, piece: &'piece Piece) -> Option<&'piece Variant> {
        let candidates = |locale: &Locale| {
            piece.variants.iter().find(|variant| variant.channel == self.channel && variant.locale == *locale)
        };
        let defaults =
            std::iter::once(self.library.default_locale.clone()).chain(self.library.default_locale.fallbacks());
        let locales = std::iter::once(self.locale.clone()).chain(self.locale.fallbacks()).chain(defaults);
        locales.into_iter().find_map(|locale| candidates(&locale))
    }
}

fn within_limit(traced: &Traced) -> Result<(), ExpandError> {
    if traced.text.len() > MAX_SOURCE_BYTES {
        return Err(ExpandError {
            offset: None,
            detail: "with its partials and layout it is longer than 256 KiB".to_owned(),
        });
    }
    Ok(())
}

/// Puts a part into the one place that a layout has for it.
pub(super) fn place_content(around: &Traced, own: &Traced) -> Result<Traced, &'static str> {
    let mut traced = Traced::default();
    let mut at = 0;
    let mut places = 0;
    for Tag { kind, range } in find_tags(&around.text) {
        if kind == TagKind::Block && read_directive(&around.text[range.clone()]) == Ok(Some(Directive::Content)) {
            places += 1;
            traced.push_piece_of(around, at..range.start);
            traced.push_piece_of(own, 0..own.text.len());
            at = range.end;
        }
    }
    traced.push_piece_of(around, at..around.text.len());
    if places == 1 { Ok(traced) } else { Err("must have `{% content %}` exactly once") }
}

struct Building<'expander, 'draft> {
    expander: &'expander Expander<'draft>,
    part: Part,
    is_mjml: bool,
    origins: Vec<String>,
    includes: usize,
    open: Vec<String>,
}

impl<'draft> Building<'_, 'draft> {
    /// Copies a source and what it includes.
    fn include_all(&mut self, source: &str, origin: usize, into: &mut Traced) -> Result<(), ExpandError> {
        let mut at = 0;
        for Tag { kind, range } in find_tags(source) {
            if kind != TagKind::Block {
                continue;
            }
            let directive =
                read_directive(&source[range.clone()]).map_err(|detail| ExpandError::at(range.start, detail))?;
            let Some(Directive::Include(key)) = directive else { continue };
            into.push_copy(&source[at..range.start], origin, at);
            self.include(key, into).map_err(|detail| ExpandError::at(range.start, detail))?;
            at = range.end;
        }
        into.push_copy(&source[at..], origin, at);
        within_limit(into)
    }

    fn include(&mut self, key: &str, into: &mut Traced) -> Result<(), String> {
        if self.open.iter().any(|open| open == key) {
            return Err(format!("the partial `{key}` includes itself"));
        }
        self.includes += 1;
        if self.open.len() == MAX_DEPTH || self.includes > MAX_INCLUDES {
            return Err("too many partials are included".to_owned());
        }
        let source = self.find_partial(key)?;
        // The line break at the end of a source belongs to the editor.
        let source = source.strip_suffix('\n').unwrap_or(source);
        self.origins.push(format!("the partial `{key}`"));
        let origin = self.origins.len();
        self.open.push(key.to_owned());
        let included = self.include_all(source, origin, into);
        self.open.pop();
        included.map_err(|error| format!("in the partial `{key}`: {}", error.detail))
    }

    fn find_partial(&self, key: &str) -> Result<&'draft str, String> {
        let library: &'draft Library = self.expander.library;
        let known = TemplateKey::parse(key).ok().and_then(|key| library.pieces.get(&key));
        let piece = known.filter(|piece| piece.kind == Kind::Partial);
        let piece = piece.ok_or_else(|| format!("there is no published partial `{}`", crate::render::shorten(key)))?;
        let variant = self.expander.pick(piece);
        let variant = variant.ok_or_else(|| format!("the partial `{key}` has no variant for this channel"))?;
        let source = match (self.part, &variant.markup) {
            (Part::Html, Some(Markup::Mjml(_))) if !self.is_mjml => {
                return Err(format!("the partial `{key}` is MJML and this part is not"));
            }
            (Part::Html, markup) => markup.as_ref().map(Markup::source),
            (Part::Subject, _) => variant.subject.as_deref(),
            (Part::ShortText, _) => variant.short_text.as_deref(),
            _ => variant.text.as_deref(),
        };
        source.ok_or_else(|| format!("the partial `{key}` has no {}", self.part))
    }
}
