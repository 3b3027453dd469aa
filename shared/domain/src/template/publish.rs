//! From a draft to parts that need nothing else.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::css::{Sheets, inline_styles};
use super::expand::{Directive, Expanded, Expander, blank_directives, place_content, read_directive};
use super::mjml::compile_mjml;
use super::tags::{Stand, TagKind, Traced, find_tags};
use super::variables::Examples;
use super::{Draft, DraftError, Kind, Library, MAX_VARIANTS, Markup, Parts, PublishedVariant, Variables, Variant};
use crate::delivery::Channel;
use crate::id::TemplateKey;
use crate::message::{OUR_NAMES, Reader, Subject, message_context};
use crate::render::grammar::{self, UsedName, place_of};
use crate::render::{
    FORBIDDEN, FooterLinks, Formats, MAX_SOURCE_BYTES, Part, check_part, find_forbidden_link, render_parts,
};

/// Checks a draft and makes its parts, one for each variant in their order.
///
/// # Errors
///
/// All that is wrong with all variants.
pub fn publish(draft: &Draft, library: &Library) -> Result<Vec<PublishedVariant>, Vec<DraftError>> {
    let mut errors = check_shape(draft);
    let mut published = Vec::new();
    for (index, variant) in draft.variants.iter().take(MAX_VARIANTS).enumerate() {
        let mut publishing = Publishing { draft, library, variant, index, errors: Vec::new() };
        let made = match draft.kind {
            Kind::Message => publishing.make_message(),
            Kind::Partial | Kind::Layout => publishing.make_piece(),
        };
        if publishing.errors.is_empty() {
            published.extend(made);
        } else {
            errors.append(&mut publishing.errors);
        }
    }
    if errors.is_empty() { Ok(published) } else { Err(errors) }
}

/// The data that a template is rendered with when there is no notification: its examples.
pub fn example_data(variables: &Variables) -> Value {
    examples_of(variables, Examples::All)
}

fn examples_of(variables: &Variables, choice: Examples) -> Value {
    let mut data = variables.examples(choice);
    variables.fill_absent(&mut data);
    data
}

/// What a send would give a template: with all examples to somebody who is well known, or with the required ones to
/// somebody of whom there is no more than the channel needs.
fn check_context(variables: &Variables, choice: Examples, variant: &Variant) -> Value {
    let is_known = choice == Examples::All;
    let reader = Reader {
        id: is_known.then_some("example"),
        name: is_known.then_some("Asha Rao"),
        email: (is_known || variant.channel == Channel::Email).then_some("asha@example.com"),
        locale: variant.locale.as_str(),
        time_zone: "Asia/Kolkata",
        // Nobody declares them, so that any of them may be absent.
        attributes: &json!({}),
    };
    let about = Subject {
        notification: "ntf_example",
        category: "example",
        tenant: "Example",
        data: &examples_of(variables, choice),
        links: &FooterLinks {
            unsubscribe_url: "https://example.com/unsubscribe".to_owned(),
            preferences_url: "https://example.com/preferences".to_owned(),
            acknowledge_url: "https://example.com/acknowledge".to_owned(),
            resolve_url: "https://example.com/resolve".to_owned(),
        },
        can_leave: true,
    };
    message_context(&reader, &about)
}

fn error(pointer: impl Into<String>, detail: impl Into<String>) -> DraftError {
    DraftError { pointer: pointer.into(), line: None, column: None, detail: detail.into() }
}

/// Looks at what the variants are, not at what stands in them.
fn check_shape(draft: &Draft) -> Vec<DraftError> {
    let mut errors = Vec::new();
    if draft.layout.is_some() && draft.kind != Kind::Message {
        errors.push(error("/layout", format!("a {} has no layout", draft.kind)));
    }
    if draft.variants.is_empty() || draft.variants.len() > MAX_VARIANTS {
        errors.push(error("/variants", format!("must have 1 to {MAX_VARIANTS} variants")));
    }
    let mut seen = BTreeSet::new();
    for (index, variant) in draft.variants.iter().enumerate() {
        if !seen.insert((variant.channel.as_str(), &variant.locale)) {
            errors.push(error(format!("/variants/{index}"), "another variant has this channel and locale"));
        }
    }
    errors
}

/// One part of a variant as it was written.
struct Written<'draft> {
    part: Part,
    field: &'static str,
    source: &'draft str,
    is_mjml: bool,
}

fn written(variant: &Variant) -> Vec<Written<'_>> {
    let texts =
        [(Part::Subject, &variant.subject), (Part::Text, &variant.text), (Part::ShortText, &variant.short_text)];
    let mut all: Vec<Written<'_>> = Vec::new();
    for (part, source) in texts {
        all.extend(source.as_deref().map(|source| Written { part, field: part.as_str(), source, is_mjml: false }));
    }
    if let Some(markup) = &variant.markup {
        let is_mjml = matches!(markup, Markup::Mjml(_));
        all.push(Written { part: Part::Html, field: markup.field(), source: markup.source(), is_mjml });
    }
    all
}

/// A variant on its way.
struct Publishing<'draft> {
    draft: &'draft Draft,
    library: &'draft Library,
    variant: &'draft Variant,
    index: usize,
    errors: Vec<DraftError>,
}

impl Publishing<'_> {
    fn pointer(&self, field: &str) -> String {
        format!("/variants/{}/{field}", self.index)
    }

    fn fail(&mut self, field: &str, place: Option<(usize, usize)>, detail: impl Into<String>) {
        let (line, column) = place.unzip();
        self.errors.push(DraftError { pointer: self.pointer(field), line, column, detail: detail.into() });
    }

    fn make_piece(&mut self) -> Option<PublishedVariant> {
        let parts = written(self.variant);
        if parts.is_empty() {
            self.errors.push(error(format!("/variants/{}", self.index), "must have at least one part"));
        }
        for part in &parts {
            self.check_content(part);
            if self.check_written(part).is_some() {
                self.check_piece(part);
            }
        }
        let variant = self.variant;
        let (html, mjml) = match &variant.markup {
            None => (None, None),
            Some(Markup::Html(source)) => (Some(source.clone()), None),
            Some(Markup::Mjml(source)) => (None, Some(source.clone())),
        };
        let parts = Parts {
            subject: variant.subject.clone(),
            html,
            text: variant.text.clone(),
            short_text: variant.short_text.clone(),
        };
        // The hash of a piece tells its versions apart; which field its markup is in does not matter for that.
        let hashed = Parts { html: parts.html.clone().or_else(|| mjml.clone()), ..parts.clone() };
        let hash = hashed.hash();
        Some(PublishedVariant { channel: variant.channel, locale: variant.locale.clone(), parts, mjml, hash })
    }

    /// A layout has one place for what stands in it, a partial and a message have none.
    fn check_content(&mut self, part: &Written<'_>) {
        if self.draft.kind == Kind::Layout && matches!(part.part, Part::Subject | Part::ShortText) {
            self.fail(part.field, None, "a layout has html, mjml or text only");
        }
    }

    /// What a piece includes is there, and a layout is whole around an empty message.
    fn check_piece(&mut self, part: &Written<'_>) {
        let mut expanded = match self.expander(None).expand(part.part, part.source, part.is_mjml) {
            Ok(expanded) => expanded,
            Err(error) => {
                let place = error.offset.and_then(|at| place_of(part.source, at));
                return self.fail(part.field, place, error.detail);
            }
        };
        if self.draft.kind == Kind::Layout {
            // `blank` counted: there is one place for the content.
            expanded.traced = place_content(&expanded.traced, &Traced::default()).unwrap_or(expanded.traced);
            drop(self.make_html(part, &expanded));
        }
    }

    fn expander<'own>(&'own self, layout: Option<&'own TemplateKey>) -> Expander<'own> {
        Expander { library: self.library, channel: self.variant.channel, locale: &self.variant.locale, layout }
    }

    fn make_message(&mut self) -> Option<PublishedVariant> {
        self.check_parts();
        let variant = self.variant;
        let mut parts = Parts::default();
        for part in written(variant) {
            let names = self.check_written(&part);
            let Some(names) = names else { continue };
            let made = self.make_part(&part, &names);
            match part.part {
                Part::Subject => parts.subject = made,
                Part::Html => parts.html = made,
                Part::Text => parts.text = made,
                Part::ShortText => parts.short_text = made,
                Part::Data => {}
            }
        }
        if !self.errors.is_empty() {
            return None;
        }
        self.check_examples(&parts);
        let hash = parts.hash();
        Some(PublishedVariant { channel: variant.channel, locale: variant.locale.clone(), parts, mjml: None, hash })
    }

    /// A mail has a subject and something to read; any other channel has a text.
    fn check_parts(&mut self) {
        let variant = self.variant;
        let here = format!("/variants/{}", self.index);
        if variant.channel == Channel::Email {
            if variant.subject.as_deref().is_none_or(|subject| subject.trim().is_empty()) {
                self.fail("subject", None, "a mail must have a subject");
            }
            if variant.markup.is_none() && variant.text.is_none() {
                self.errors.push(error(here, "must have html, mjml or text"));
            }
        } else if variant.text.is_none() && variant.short_text.is_none() {
            self.errors.push(error(here, "must have text or short_text"));
        }
    }

    /// Looks at a part as its author wrote it, and tells the names that it takes from the data; `None` when it is no template.
    fn check_written(&mut self, part: &Written<'_>) -> Option<Vec<UsedName>> {
        if part.source.len() > MAX_SOURCE_BYTES {
            self.fail(part.field, None, "must have at most 256 KiB");
            return None;
        }
        let before = self.errors.len();
        let blanked = self.blank(part);
        if self.errors.len() > before {
            return None;
        }
        let names = match grammar::check(&blanked) {
            Ok(checked) => checked.names,
            Err(refusal) => {
                let place = refusal.line.map(|line| (line, refusal.column));
                let (line, column) = place.unzip();
                self.errors.push(DraftError {
                    pointer: self.pointer(part.field),
                    line,
                    column: column.flatten(),
                    detail: refusal.detail,
                });
                return None;
            }
        };
        for used in &names {
            if !self.knows(&used.name) {
                let detail = format!("`{}` is not declared in `variables`", used.name);
                self.fail(part.field, place_of(part.source, used.offset), detail);
            }
        }
        if part.part == Part::Html
            && !part.is_mjml
            && let Some(at) = find_forbidden_link(&hide_tags(part.source))
        {
            self.fail(part.field, place_of(part.source, at), FORBIDDEN);
        }
        (self.errors.len() == before).then_some(names)
    }

    /// A source without our tags; each of them that says something wrong is an error.
    fn blank(&mut self, part: &Written<'_>) -> String {
        let mut contents = 0;
        for tag in find_tags(part.source).into_iter().filter(|tag| tag.kind == TagKind::Block) {
            let detail = match read_directive(&part.source[tag.range.clone()]) {
                Ok(Some(Directive::Content)) if self.draft.kind == Kind::Layout => {
                    contents += 1;
                    continue;
                }
                Ok(Some(Directive::Content)) => "`{% content %}` is for layouts only",
                Ok(_) => continue,
                Err(detail) => detail,
            };
            self.fail(part.field, place_of(part.source, tag.range.start), detail);
        }
        if self.draft.kind == Kind::Layout && contents != 1 {
            self.fail(part.field, None, "a layout must have `{% content %}` exactly once in each part");
        }
        blank_directives(part.source)
    }

    fn knows(&self, name: &str) -> bool {
        OUR_NAMES.contains(&name)
            || match &self.draft.variables {
                Some(variables) => variables.declares(name),
                // Whoever includes a piece declares what it takes.
                None => self.draft.kind != Kind::Message,
            }
    }

    fn make_part(&mut self, part: &Written<'_>, names: &[UsedName]) -> Option<String> {
        let expanded = match self.expander(self.draft.layout.as_ref()).expand(part.part, part.source, part.is_mjml) {
            Ok(expanded) => expanded,
            Err(error) => {
                let place = error.offset.and_then(|at| place_of(part.source, at));
                self.fail(part.field, place, error.detail);
                return None;
            }
        };
        let made = self.make_html(part, &expanded)?;
        let all = match check_part(part.part, &made) {
            Ok(checked) => checked.names,
            Err(error) => {
                // The piece itself passed, so it is what stands around it, or all of it together.
                self.fail(part.field, None, format!("put together: {}", error.detail));
                return None;
            }
        };
        for used in all.iter().filter(|used| !names.iter().any(|name| name.name == used.name)) {
            if !self.knows(&used.name) {
                self.fail(
                    part.field,
                    None,
                    format!("a partial or the layout uses `{}`, which is not declared in `variables`", used.name),
                );
            }
        }
        Some(made)
    }

    fn make_html(&mut self, part: &Written<'_>, expanded: &Expanded) -> Option<String> {
        let text = &expanded.traced.text;
        if part.part != Part::Html {
            return Some(text.clone());
        }
        if !expanded.is_mjml {
            return match inline_html(text) {
                Ok(html) => Some(html),
                Err(detail) => {
                    self.fail(part.field, None, detail);
                    None
                }
            };
        }
        match compile_mjml(text, &self.variant.locale) {
            Ok(html) => Some(html),
            Err(error) => {
                self.fail_at(part, expanded, error.offset, error.detail);
                None
            }
        }
    }

    /// Names the place of a mistake in the text that the author wrote, or the piece that it is in.
    fn fail_at(&mut self, part: &Written<'_>, expanded: &Expanded, offset: Option<usize>, detail: String) {
        match offset.map(|at| expanded.traced.origin_of(at)) {
            Some((0, at)) => self.fail(part.field, place_of(part.source, at), detail),
            Some((origin, _)) => {
                let name = expanded.origins.get(origin - 1).map_or("a piece", String::as_str);
                self.fail(part.field, None, format!("in {name}: {detail}"));
            }
            None => self.fail(part.field, None, detail),
        }
    }

    /// Renders with the examples, once with all and once without whatever may be absent.
    fn check_examples(&mut self, parts: &Parts) {
        let variables = self.draft.variables.clone().unwrap_or_default();
        let formats = Formats { locale: self.variant.locale.clone(), ..Formats::default() };
        for choice in [Examples::All, Examples::Required] {
            let context = check_context(&variables, choice, self.variant);
            let Err(error) = render_parts(parts, &context, &formats) else { continue };
            let field = match (error.part, &self.variant.markup) {
                (Part::Html, Some(markup)) => markup.field(),
                (part, _) => part.as_str(),
            };
            let with = match choice {
                Examples::All => "with the examples",
                Examples::Required => "without what the data or the recipient may lack",
            };
            self.fail(field, None, format!("{with}: {}", error.detail));
            return;
        }
    }
}

/// A source with each tag as slashes, so that what it prints counts as no scheme.
fn hide_tags(source: &str) -> String {
    let mut hidden = String::with_capacity(source.len());
    let mut at = 0;
    for tag in find_tags(source) {
        hidden.push_str(&source[at..tag.range.start]);
        hidden.extend(std::iter::repeat_n('/', tag.range.len()));
        at = tag.range.end;
    }
    hidden.push_str(&source[at..]);
    hidden
}

/// HTML with its style sheets in its attributes, and its template tags untouched.
fn inline_html(source: &str) -> Result<String, &'static str> {
    if !source.to_ascii_lowercase().contains("<style") {
        return Ok(source.to_owned());
    }
    let mut stand = Stand::for_source(source);
    let mut protected = String::with_capacity(source.len());
    let mut at = 0;
    for tag in find_tags(source) {
        protected.push_str(&source[at..tag.range.start]);
        protected.push_str(&stand.add(&source[tag.range.clone()]));
        at = tag.range.end;
    }
    protected.push_str(&source[at..]);
    let inlined = inline_styles(&protected, Sheets::Own, &|text| stand.stands_in(text))?;
    Ok(stand.restore(&inlined).0)
}
