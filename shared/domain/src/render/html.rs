//! Looks at finished HTML: its tags and attributes, and what it says as text.
//!
//! This is no HTML parser; it knows tags, attributes, comments and entities as far as mails have them.
//! It reads the source once and never fails: what it does not understand is text, or is left out.

use std::borrow::Cow;

/// Elements whose content is not HTML and not text for people.
const HIDDEN: [&str; 4] = ["script", "style", "title", "template"];

/// Elements with an empty line before and after them.
const PARAGRAPHS: [&str; 13] = ["p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "dl", "table", "blockquote", "hr"];

/// Elements that start on a line of their own.
const LINES: [&str; 15] = [
    "div", "tr", "dt", "dd", "section", "article", "header", "footer", "main", "nav", "address", "pre", "form",
    "center", "figure",
];

/// Elements that are seen without a word in them.
const PICTURES: [&str; 3] = ["img", "svg", "video"];

/// A piece of HTML.
pub(crate) enum Piece<'html> {
    Text(&'html str),
    Open { name: &'html str, attributes: &'html str },
    Close { name: &'html str },
}

/// Cuts HTML into pieces and leaves out comments, declarations and hidden elements.
pub(crate) struct Pieces<'html> {
    rest: &'html str,
    /// Whether what stands in a conditional comment is read, as Outlook does.
    reads_conditions: bool,
}

impl<'html> Iterator for Pieces<'html> {
    type Item = Piece<'html>;

    fn next(&mut self) -> Option<Piece<'html>> {
        while !self.rest.is_empty() {
            let rest = self.rest;
            let Some(tag) = rest.strip_prefix('<') else {
                return Some(self.take_text(rest.find('<').unwrap_or(rest.len())));
            };
            match tag.bytes().next() {
                Some(b'a'..=b'z' | b'A'..=b'Z') => return Some(self.take_open(tag)),
                Some(b'/') => {
                    let (inside, after) = split_tag(&tag[1..]);
                    self.rest = after;
                    return Some(Piece::Close { name: name_of(inside) });
                }
                Some(b'!') => {
                    self.rest = match tag.strip_prefix("!--") {
                        Some(comment) => after_comment(comment, self.reads_conditions),
                        None => split_tag(tag).1,
                    };
                }
                Some(b'?') => self.rest = split_tag(tag).1,
                // A lone `<` is text, as in "a < b".
                _ => {
                    let end = tag.find('<').map_or(rest.len(), |at| at + 1);
                    return Some(self.take_text(end));
                }
            }
        }
        None
    }
}

impl<'html> Pieces<'html> {
    /// The pieces that most readers show.
    pub(crate) fn of(html: &'html str) -> Self {
        Self { rest: html, reads_conditions: false }
    }

    /// The pieces that any reader shows.
    pub(crate) fn with_conditions(html: &'html str) -> Self {
        Self { rest: html, reads_conditions: true }
    }

    fn take_text(&mut self, end: usize) -> Piece<'html> {
        let (text, after) = self.rest.split_at(end);
        self.rest = after;
        Piece::Text(text)
    }

    fn take_open(&mut self, tag: &'html str) -> Piece<'html> {
        let (inside, after) = split_tag(tag);
        let name = name_of(inside);
        self.rest = if HIDDEN.iter().any(|hidden| name.eq_ignore_ascii_case(hidden)) {
            after_hidden(after, name)
        } else {
            after
        };
        Piece::Open { name, attributes: &inside[name.len()..] }
    }
}

/// Splits what follows a `<` at the `>` that ends the tag; one in quotes does not.
pub(crate) fn split_tag(tag: &str) -> (&str, &str) {
    let bytes = tag.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'>' => return (&tag[..at], &tag[at + 1..]),
            // Most of a tag stands in quotes, and looking for one byte is quicker than looking at each.
            b'"' | b'\'' => match tag[at + 1..].find(char::from(byte)) {
                Some(length) => at += length + 1,
                None => break,
            },
            _ => {}
        }
        at += 1;
    }
    (tag, "")
}

/// What follows a comment, or only its start when it is a condition that is read.
fn after_comment(comment: &str, reads_conditions: bool) -> &str {
    // `<!-->` and `<!--->` are whole comments.
    if let Some(after) = comment.strip_prefix('>').or_else(|| comment.strip_prefix("->")) {
        return after;
    }
    if reads_conditions
        && comment.starts_with("[if")
        && let Some((_, after)) = comment.split_once("]>")
    {
        return after;
    }
    comment.split_once("-->").map_or("", |(_, after)| after)
}

pub(crate) fn name_of(tag: &str) -> &str {
    let end = tag.find(|c: char| c.is_ascii_whitespace() || c == '/' || c == '>').unwrap_or(tag.len());
    &tag[..end]
}

/// What follows the end of a hidden element; nothing when it does not end.
fn after_hidden<'html>(html: &'html str, name: &str) -> &'html str {
    let mut rest = html;
    while let Some((_, tag)) = rest.split_once("</") {
        // The name first: looking for the end of every tag would read the rest again and again.
        if name_of(tag).eq_ignore_ascii_case(name) {
            return split_tag(tag).1;
        }
        rest = tag;
    }
    ""
}

/// Names and values of a tag's attributes; the values still have their entities.
pub(crate) fn attributes(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
        if rest.is_empty() {
            return None;
        }
        // A name has at least one character, so that this always moves on, even over a stray `=`.
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let end = rest[first..]
            .find(|c: char| c.is_ascii_whitespace() || c == '=' || c == '/')
            .map_or(rest.len(), |at| at + first);
        let (name, after) = rest.split_at(end);
        let Some(value) = after.trim_ascii_start().strip_prefix('=') else {
            rest = after;
            return Some((name, ""));
        };
        let value = value.trim_ascii_start();
        let quoted = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote).map(|inside| (quote, inside)));
        let (value, after) = match quoted {
            Some((quote, inside)) => inside.split_once(quote).unwrap_or((inside, "")),
            None => value.split_at(value.find(|c: char| c.is_ascii_whitespace()).unwrap_or(value.len())),
        };
        rest = after;
        Some((name, value))
    })
}

pub(crate) fn attribute<'html>(attributes_text: &'html str, name: &str) -> Option<&'html str> {
    attributes(attributes_text).find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// Replaces entities by what they stand for; most texts have none and are not copied.
pub(crate) fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        decoded.push_str(before);
        match decode_entity(after) {
            Some((character, after)) => {
                decoded.push(character);
                rest = after;
            }
            None => {
                decoded.push('&');
                rest = after;
            }
        }
    }
    decoded.push_str(rest);
    Cow::Owned(decoded)
}

/// Reads an entity after its `&`.
///
/// A number needs no `;` at its end, because readers take it without one too, and links hide scripts so.
fn decode_entity(text: &str) -> Option<(char, &str)> {
    if let Some(number) = text.strip_prefix('#') {
        let (digits, radix) = match number.strip_prefix(['x', 'X']) {
            Some(digits) => (digits, 16),
            None => (number, 10),
        };
        let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
        if end == 0 {
            return None;
        }
        let character = u32::from_str_radix(&digits[..end], radix)
            .ok()
            .and_then(char::from_u32)
            .unwrap_or(char::REPLACEMENT_CHARACTER);
        let after = &digits[end..];
        return Some((character, after.strip_prefix(';').unwrap_or(after)));
    }
    // No name here is longer than eight letters.
    let end = text.bytes().take(10).position(|byte| byte == b';')?;
    let character = match &text[..end] {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => '\u{a0}',
        "Tab" => '\t',
        "NewLine" => '\n',
        "colon" => ':',
        "ndash" => '–',
        "mdash" => '—',
        "hellip" => '…',
        "lsquo" => '‘',
        "rsquo" => '’',
        "ldquo" => '“',
        "rdquo" => '”',
        "laquo" => '«',
        "raquo" => '»',
        "bull" => '•',
        "middot" => '·',
        "times" => '×',
        "deg" => '°',
        "copy" => '©',
        "reg" => '®',
        "trade" => '™',
        "euro" => '€',
        "pound" => '£',
        "sect" => '§',
        "rarr" => '→',
        "larr" => '←',
        "check" => '✓',
        "zwnj" => '\u{200c}',
        "zwj" => '\u{200d}',
        _ => return None,
    };
    Some((character, &text[end + 1..]))
}

/// What HTML says, as text: one line for each block, an empty line between paragraphs, the address of a link behind it.
///
/// For the text part of a mail that has HTML only.
/// The result has no control characters but line breaks, and is at most a little longer than the source.
pub fn text_from_html(html: &str) -> String {
    let mut text = PlainText::default();
    let mut link: Option<(Cow<'_, str>, usize)> = None;
    for piece in Pieces::of(html) {
        match piece {
            Piece::Text(source) => text.push(&decode(source)),
            Piece::Open { name, attributes } => {
                text.break_around(name);
                match effect_of(name) {
                    Some(Effect::Break) => text.break_again(),
                    Some(Effect::Item) => {
                        text.break_line(1);
                        text.push("- ");
                    }
                    Some(Effect::Cell) => text.space(),
                    Some(Effect::Image) => text.push(&decode(attribute(attributes, "alt").unwrap_or_default())),
                    Some(Effect::Link) => {
                        link = attribute(attributes, "href").map(|href| (decode(href), text.written.len()));
                    }
                    None => {}
                }
            }
            Piece::Close { name } => {
                if name.eq_ignore_ascii_case("a")
                    && let Some((href, start)) = link.take()
                {
                    text.push_link(&href, start);
                }
                text.break_around(name);
            }
        }
    }
    text.written
}

/// Whether a reader sees anything of HTML: words, or a picture without any.
pub fn shows_something(html: &str) -> bool {
    Pieces::of(html).any(|piece| match piece {
        Piece::Text(source) => !decode(source).chars().all(is_gap),
        Piece::Open { name, .. } => PICTURES.iter().any(|picture| name.eq_ignore_ascii_case(picture)),
        Piece::Close { .. } => false,
    })
}

/// What an element does to the text besides breaking lines around itself.
#[derive(Clone, Copy)]
enum Effect {
    Break,
    Item,
    Cell,
    Image,
    Link,
}

fn effect_of(name: &str) -> Option<Effect> {
    let effects = [
        ("br", Effect::Break),
        ("li", Effect::Item),
        ("td", Effect::Cell),
        ("th", Effect::Cell),
        ("img", Effect::Image),
        ("a", Effect::Link),
    ];
    effects.into_iter().find(|(element, _)| name.eq_ignore_ascii_case(element)).map(|(_, effect)| effect)
}

/// What HTML takes for white space, or nobody may see.
fn is_gap(character: char) -> bool {
    match character {
        '\0'..=' ' | '\u{7f}' => true,
        '!'..='~' => false,
        _ => character.is_whitespace() || character.is_control(),
    }
}

/// Text that takes white space as HTML means it: runs of it are one space, and blocks break lines.
#[derive(Default)]
struct PlainText {
    written: String,
    has_space: bool,
    breaks: usize,
}

impl PlainText {
    fn push(&mut self, text: &str) {
        let mut words = text.split(is_gap);
        self.push_word(words.next().unwrap_or_default());
        for word in words {
            self.space();
            self.push_word(word);
        }
    }

    fn push_word(&mut self, word: &str) {
        if word.is_empty() {
            return;
        }
        if self.breaks > 0 && !self.written.is_empty() {
            self.written.extend(std::iter::repeat_n('\n', self.breaks));
        } else if self.has_space && !self.written.is_empty() {
            self.written.push(' ');
        }
        self.breaks = 0;
        self.has_space = false;
        self.written.push_str(word);
    }

    fn space(&mut self) {
        // A space at the start of a line is none.
        self.has_space = self.breaks == 0;
    }

    fn break_line(&mut self, count: usize) {
        self.breaks = self.breaks.max(count);
    }

    fn break_again(&mut self) {
        self.breaks = (self.breaks + 1).min(2);
    }

    fn break_around(&mut self, name: &str) {
        let is_one_of = |elements: &[&str]| elements.iter().any(|element| name.eq_ignore_ascii_case(element));
        if is_one_of(&PARAGRAPHS) {
            self.break_line(2);
        } else if is_one_of(&LINES) {
            self.break_line(1);
        }
    }

    /// Adds where a link leads, unless its text says so already.
    fn push_link(&mut self, href: &str, start: usize) {
        let is_useful = ["https://", "http://", "mailto:", "tel:"].iter().any(|scheme| href.starts_with(scheme));
        let shown = self.written.get(start..).unwrap_or_default().trim();
        let address = href.strip_prefix("mailto:").unwrap_or(href);
        if !is_useful || shown == href || shown == address {
            return;
        }
        if shown.is_empty() {
            self.push(href);
        } else {
            self.space();
            self.push("(");
            self.push(href);
            self.push(")");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::render::links;

    #[test]
    fn html_becomes_readable_text() {
        let cases = [
            ("", ""),
            ("plain", "plain"),
            ("<p>One</p>\n<p>Two</p>", "One\n\nTwo"),
            ("a<br>b<br/>c<br><br>d", "a\nb\nc\n\nd"),
            ("  many \n\t spaces  ", "many spaces"),
            ("<div>a</div><div>b</div>", "a\nb"),
            ("<b>bold</b>, <i>it</i>alic", "bold, italic"),
            ("<ul><li>one</li><li>two</li></ul>after", "- one\n- two\n\nafter"),
            ("<table><tr><td>Date</td><td>1 Dec</td></tr><tr><td>Fee</td><td>5</td></tr></table>", "Date 1 Dec\nFee 5"),
            ("<a href=\"https://example.in/x?a=1&amp;b=2\">Open</a> now", "Open (https://example.in/x?a=1&b=2) now"),
            ("<a href='https://example.in'>https://example.in</a>", "https://example.in"),
            ("<a href=mailto:a@example.in>a@example.in</a>", "a@example.in"),
            ("<a href='#top'>Top</a>", "Top"),
            ("<a href='https://example.in'><img src=x></a>", "https://example.in"),
            ("<img alt='Logo &amp; name'>", "Logo & name"),
            ("<style>p{color:red}</style><SCRIPT>alert('</p>')</Script>x", "x"),
            ("<head><title>T</title></head><body>b</body>", "b"),
            ("a<!-- hidden <p> -->b<!DOCTYPE html>c<?xml ?>d", "abcd"),
            ("a &lt;b&gt; &amp;amp; &#8377;&#x20B9; &nbsp; &unknown; & &;", "a <b> &amp; ₹₹ &unknown; & &;"),
            ("1 < 2 and 3 <4", "1 < 2 and 3 <4"),
            ("<p title=\"a>b\">x</p>", "x"),
            ("<p>unclosed <a href=\"x", "unclosed"),
            ("&#13;&#10;&#0;x&#xD800;", "x\u{fffd}"),
            ("नमस्ते<br>आशा", "नमस्ते\nआशा"),
        ];
        for (html, wanted) in cases {
            assert_eq!(text_from_html(html), wanted, "{html:?}");
        }
    }

    proptest! {
        #[test]
        fn no_html_breaks_it(html in "([<>&;'\"=/! \\n#xa-z0-9-]|<a |href|<p>|</|-->|<!--|&#|ह|<style>|</style>|<br>){0,80}|.{0,60}") {
            let text = text_from_html(&html);
            prop_assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
            prop_assert!(text.len() <= 4 * html.len() + 8);
            let _ = links::has_forbidden_link(&html);
        }
    }

    #[test]
    fn long_html_takes_one_pass() {
        // One that read the rest again for each piece would take minutes.
        let starts = ["", "<style>", "<script>", "<a href='", "<a ", "<!--", "<"];
        let pieces = [
            "<",
            "<a ",
            "<style>",
            "</",
            "</s",
            "</style",
            "<!--",
            "--",
            "&",
            "<a href='",
            "&#",
            "<p>",
            "=",
            "<a x=",
            "'",
            "<a x='",
            " ",
        ];
        for start in starts {
            for piece in pieces {
                let html = format!("{start}{}", piece.repeat(256 * 1024 / piece.len()));
                let _ = text_from_html(&html);
                let _ = links::has_forbidden_link(&html);
            }
        }
    }
}
