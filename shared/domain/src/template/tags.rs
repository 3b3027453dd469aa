//! Template tags in a text of another language: where they are, what stands in for them, and where a place of a built text came from.

use std::ops::Range;

/// What a tag does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TagKind {
    /// `{{ … }}`.
    Print,
    /// `{% … %}`.
    Block,
    /// `{# … #}`.
    Comment,
    /// `{% raw %} … {% endraw %}` with all that is between.
    Raw,
}

/// A tag and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) kind: TagKind,
    pub(super) range: Range<usize>,
}

/// Finds all tags of a source, as the engine's tokenizer does: an end in quotes is none.
pub(super) fn find_tags(source: &str) -> Vec<Tag> {
    let mut tags = Vec::new();
    let mut at = 0;
    while let Some(found) = source[at..].find('{') {
        let start = at + found;
        let rest = &source[start..];
        let (kind, length) = if let Some(comment) = rest.strip_prefix("{#") {
            (TagKind::Comment, comment.find("#}").map_or(rest.len(), |end| end + 4))
        } else if rest.starts_with("{{") {
            (TagKind::Print, tag_length(rest, "}}"))
        } else if rest.starts_with("{%") {
            let length = tag_length(rest, "%}");
            if inside(&rest[..length]) == "raw" {
                (TagKind::Raw, length + raw_length(&rest[length..]))
            } else {
                (TagKind::Block, length)
            }
        } else {
            at = start + 1;
            continue;
        };
        tags.push(Tag { kind, range: start..start + length });
        at = start + length;
    }
    tags
}

/// How long a tag is, with its braces.
fn tag_length(tag: &str, end: &str) -> usize {
    let bytes = tag.as_bytes();
    let mut at = 2;
    let mut quote = None;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (None, b'"' | b'\'') => quote = Some(bytes[at]),
            (None, _) if tag.as_bytes()[at..].starts_with(end.as_bytes()) => return at + end.len(),
            (Some(_), b'\\') => at += 1,
            (Some(open), close) if open == close => quote = None,
            _ => {}
        }
        at += 1;
    }
    tag.len()
}

/// How long what follows `{% raw %}` is, with the tag that ends it.
fn raw_length(rest: &str) -> usize {
    let mut at = 0;
    while let Some(found) = rest[at..].find("{%") {
        let start = at + found;
        let length = rest[start..].find("%}").map_or(rest.len() - start, |end| end + 2);
        if inside(&rest[start..start + length]) == "endraw" {
            return start + length;
        }
        at = start + 2;
    }
    rest.len()
}

/// What stands between the braces of a block, without whitespace control.
pub(super) fn inside(tag: &str) -> &str {
    let tag = tag.strip_prefix("{%").unwrap_or(tag);
    let tag = tag.strip_suffix("%}").unwrap_or(tag);
    tag.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim()
}

/// A text that was put together, and where each piece of it came from.
#[derive(Debug, Clone, Default)]
pub(super) struct Traced {
    pub(super) text: String,
    spans: Vec<Span>,
}

#[derive(Debug, Clone)]
struct Span {
    start: usize,
    origin: usize,
    offset: usize,
    is_copy: bool,
}

impl Traced {
    /// Adds a piece of an origin as it stands there.
    pub(super) fn push_copy(&mut self, text: &str, origin: usize, offset: usize) {
        self.push(text, Span { start: self.text.len(), origin, offset, is_copy: true });
    }

    /// Adds something that stands in for one place of an origin.
    pub(super) fn push_instead(&mut self, text: &str, origin: usize, offset: usize) {
        self.push(text, Span { start: self.text.len(), origin, offset, is_copy: false });
    }

    /// Adds a piece of another text that was put together.
    pub(super) fn push_piece_of(&mut self, other: &Traced, range: Range<usize>) {
        let mut start = range.start;
        while start < range.end {
            let index = other.spans.partition_point(|span| span.start <= start);
            let end = other.spans.get(index).map_or(range.end, |next| next.start.min(range.end));
            let (origin, offset) = other.origin_of(start);
            self.push(&other.text[start..end], Span { start: self.text.len(), origin, offset, is_copy: true });
            start = end;
        }
    }

    fn push(&mut self, text: &str, span: Span) {
        if !text.is_empty() {
            self.spans.push(span);
            self.text.push_str(text);
        }
    }

    /// The origin of a byte, and which byte of it.
    pub(super) fn origin_of(&self, at: usize) -> (usize, usize) {
        let index = self.spans.partition_point(|span| span.start <= at);
        match index.checked_sub(1).and_then(|index| self.spans.get(index)) {
            None => (0, 0),
            Some(span) if span.is_copy => (span.origin, span.offset + (at - span.start)),
            Some(span) => (span.origin, span.offset),
        }
    }
}

/// Words that stand in for tags while a text is handled as another language; letters and digits only, so that any language keeps them.
pub(super) struct Stand<'source> {
    prefix: String,
    tags: Vec<&'source str>,
}

impl<'source> Stand<'source> {
    /// A stand whose words do not occur in the source.
    pub(super) fn for_source(source: &str) -> Self {
        let mut prefix = "hk".to_owned();
        while source.contains(&prefix) {
            prefix.push('q');
        }
        Self { prefix, tags: Vec::new() }
    }

    /// The word for one more tag.
    pub(super) fn add(&mut self, tag: &'source str) -> String {
        self.tags.push(tag);
        format!("{}{}z", self.prefix, self.tags.len() - 1)
    }

    /// Whether a text has a word of this stand.
    pub(super) fn stands_in(&self, text: &str) -> bool {
        text.contains(&self.prefix)
    }

    /// Puts the tags back, and counts how often each of them occurs.
    pub(super) fn restore(&self, text: &str) -> (String, Vec<usize>) {
        let mut counts = vec![0; self.tags.len()];
        let mut restored = String::with_capacity(text.len());
        let mut pieces = text.split(&self.prefix);
        restored.push_str(pieces.next().unwrap_or_default());
        for piece in pieces {
            let word = piece.split_once('z').and_then(|(number, after)| Some((number.parse::<usize>().ok()?, after)));
            match word.filter(|(number, _)| *number < self.tags.len()) {
                Some((number, after)) => {
                    counts[number] += 1;
                    restored.push_str(self.tags[number]);
                    restored.push_str(after);
                }
                // Not a word: another language wrote these letters itself.
                None => {
                    restored.push_str(&self.prefix);
                    restored.push_str(piece);
                }
            }
        }
        (restored, counts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tags_end_where_the_engine_ends_them() {
        let cases: [(&str, &[&str]); 9] = [
            ("", &[]),
            ("a { b } c", &[]),
            ("a{{ b }}c{% if x %}d", &["{{ b }}", "{% if x %}"]),
            ("{{ '}}' }}x", &["{{ '}}' }}"]),
            ("{{ \"\\\"}}\" }}x", &["{{ \"\\\"}}\" }}"]),
            ("{# {{ a }} #}b", &["{# {{ a }} #}"]),
            (
                "{%- raw -%}{{ a }}{% if %}{%- endraw %}b{{ c }}",
                &["{%- raw -%}{{ a }}{% if %}{%- endraw %}", "{{ c }}"],
            ),
            ("{{ open", &["{{ open"]),
            ("{{{ a }}}", &["{{{ a }}"]),
        ];
        for (source, wanted) in cases {
            let tags: Vec<&str> = find_tags(source).iter().map(|tag| &source[tag.range.clone()]).collect();
            assert_eq!(tags, wanted, "{source}");
        }
    }

    #[test]
    fn a_place_of_a_built_text_is_traced_to_where_it_came_from() {
        let mut first = Traced::default();
        first.push_copy("abc", 0, 10);
        first.push_copy("de", 1, 0);
        first.push_instead("WORD", 0, 13);
        assert_eq!(
            [0, 2, 3, 4, 5, 8].map(|at| first.origin_of(at)),
            [(0, 10), (0, 12), (1, 0), (1, 1), (0, 13), (0, 13)]
        );
        let mut second = Traced::default();
        second.push_piece_of(&first, 1..5);
        assert_eq!(second.text, "bcde");
        assert_eq!([0, 1, 2, 3].map(|at| second.origin_of(at)), [(0, 11), (0, 12), (1, 0), (1, 1)]);
    }

    proptest! {
        #[test]
        fn tags_that_stood_aside_come_back(source in "([a-z <>&é]|\\{\\{|\\}\\}|\\{%|%\\}|'|hk|z|[0-9]|raw|endraw){0,60}") {
            let mut stand = Stand::for_source(&source);
            let mut protected = String::new();
            let mut at = 0;
            for tag in find_tags(&source) {
                protected.push_str(&source[at..tag.range.start]);
                protected.push_str(&stand.add(&source[tag.range.clone()]));
                at = tag.range.end;
            }
            protected.push_str(&source[at..]);
            let (restored, counts) = stand.restore(&protected);
            prop_assert_eq!(restored, source);
            prop_assert!(counts.iter().all(|count| *count == 1));
        }
    }
}
