//! Moves the rules of `<style>` elements into the `style` attributes of what they select, for readers that know no style sheets.
//!
//! What cannot stand in an attribute stays in its element: at-rules such as `@media`, pseudo-classes, and selectors that are not understood.
//! Everything else of the source stays as it is, byte for byte.

use std::cell::Cell;

use simplecss::Selector;

use super::tree::{Node, Seen, Tree};
use crate::render::html::{attribute, attributes, decode};

/// How often selectors may look at an element, for one part.
const FUEL: usize = 20_000_000;

/// The most rules of one part.
const MAX_RULES: usize = 2_000;

/// Which style sheets are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sheets<'css> {
    /// Those of the `<style>` elements.
    Own,
    /// This one alone; the elements stay as they are.
    Given(&'css str),
}

/// Moves rules into attributes; `is_dynamic` tells which texts have a template's tag in them.
///
/// # Errors
///
/// When there is more than can be looked at.
pub(super) fn inline_styles(
    html: &str,
    sheets: Sheets<'_>,
    is_dynamic: &dyn Fn(&str) -> bool,
) -> Result<String, &'static str> {
    const TOO_MUCH: &str = "the style sheets are too large for this HTML";
    let tree = Tree::read(html).ok_or("the HTML has too many elements")?;
    // A class that is printed may be any, so then no rule can leave its element.
    let has_dynamic_tags = tree.nodes.iter().any(|node| is_dynamic_for_selectors(node, is_dynamic));
    let mut moved = Moved::default();
    let mut edits: Vec<(std::ops::Range<usize>, String)> = Vec::new();
    match sheets {
        Sheets::Given(css) => drop(moved.take_sheet(css, is_dynamic)),
        Sheets::Own => {
            for style in &tree.styles {
                let css = &html[style.content.clone()];
                let is_css =
                    attribute(style.attributes, "type").is_none_or(|kind| kind.eq_ignore_ascii_case("text/css"));
                if !is_css || attribute(style.attributes, "media").is_some() || has_blocks(css, is_dynamic) {
                    continue;
                }
                let left = moved.take_sheet(css, is_dynamic);
                if has_dynamic_tags {
                    continue;
                }
                if left.trim().is_empty() {
                    edits.push((style.range.clone(), String::new()));
                } else {
                    edits.push((style.content.clone(), left));
                }
            }
        }
    }
    if moved.rules.len() > MAX_RULES {
        return Err(TOO_MUCH);
    }
    let fuel = Cell::new(FUEL);
    for index in 0..tree.nodes.len() {
        let node = &tree.nodes[index];
        let seen = Seen { tree: &tree, node: index, fuel: &fuel };
        let mut matching: Vec<&Rule<'_>> = moved.rules.iter().filter(|rule| rule.selector.matches(&seen)).collect();
        if fuel.get() == 0 {
            return Err(TOO_MUCH);
        }
        if matching.is_empty() || is_dynamic(tag_names(node.attributes).as_str()) {
            continue;
        }
        matching.sort_by_key(|rule| rule.selector.specificity());
        edits.push((node.range.clone(), with_style(&html[node.range.clone()], node, &matching, is_dynamic)));
    }
    edits.sort_by_key(|(range, _)| range.start);
    Ok(apply(html, &edits))
}

/// Whether a template decides at render time what selectors would match.
fn is_dynamic_for_selectors(node: &Node<'_>, is_dynamic: &dyn Fn(&str) -> bool) -> bool {
    attributes(node.attributes).any(|(name, value)| {
        is_dynamic(name) || (name.eq_ignore_ascii_case("class") || name.eq_ignore_ascii_case("id")) && is_dynamic(value)
    })
}

fn tag_names(text: &str) -> String {
    attributes(text).map(|(name, _)| name).collect::<Vec<_>>().join(" ")
}

/// Whether a template's tag stands between the rules of a sheet, where it can decide whether they are there at all.
fn has_blocks(css: &str, is_dynamic: &dyn Fn(&str) -> bool) -> bool {
    Statements { rest: css }.any(|statement| match statement {
        Statement::Rule { selectors, block, .. } => is_dynamic(selectors) || is_dynamic(&property_names(block)),
        Statement::Other(text) => is_dynamic(text),
    })
}

fn property_names(block: &str) -> String {
    declarations(block).map(|declaration| declaration.name).collect::<Vec<_>>().join(" ")
}

fn apply(html: &str, edits: &[(std::ops::Range<usize>, String)]) -> String {
    let mut edited = String::with_capacity(html.len() * 2);
    let mut at = 0;
    for (range, text) in edits {
        edited.push_str(html.get(at..range.start).unwrap_or_default());
        edited.push_str(text);
        at = range.end;
    }
    edited.push_str(html.get(at..).unwrap_or_default());
    edited
}

/// A rule for one selector.
struct Rule<'css> {
    selector: Selector<'css>,
    declarations: Vec<Declaration<'css>>,
}

#[derive(Default)]
struct Moved<'css> {
    rules: Vec<Rule<'css>>,
}

impl<'css> Moved<'css> {
    /// Takes the rules that can be moved and returns what has to stay.
    fn take_sheet(&mut self, css: &'css str, is_dynamic: &dyn Fn(&str) -> bool) -> String {
        let mut left = String::new();
        for statement in (Statements { rest: css }) {
            let Statement::Rule { selectors, block, whole } = statement else {
                let Statement::Other(text) = statement else { continue };
                left.push_str(text);
                left.push('\n');
                continue;
            };
            let declarations: Vec<_> = declarations(block).collect();
            let mut staying = Vec::new();
            for selector in split_outside(selectors, ',') {
                match parse_selector(selector).filter(|_| !is_dynamic(selector)) {
                    Some(selector) => self.rules.push(Rule { selector, declarations: declarations.clone() }),
                    None => staying.push(selector.trim()),
                }
            }
            if staying.len() == split_outside(selectors, ',').count() {
                left.push_str(whole.trim());
                left.push('\n');
            } else if !staying.is_empty() {
                left.push_str(&format!("{} {{{block}}}\n", staying.join(", ")));
            }
        }
        left
    }
}

/// Reads a selector that is true or false whatever a reader does; `:hover` is not.
fn parse_selector(text: &str) -> Option<Selector<'_>> {
    let text = text.trim();
    let is_start = text.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '#' | '*' | '['));
    let is_known = text.chars().all(|c| c.is_alphanumeric() || " .#*[]=~|\"'-_>+:\n\t\r".contains(c));
    if !is_start
        || !is_known
        || text.replace(":first-child", "").contains(':')
        || text.ends_with(['>', '+', ':', '.', '#'])
    {
        return None;
    }
    // It is parsed up to a comma or brace, of which there is none, or not at all.
    Selector::parse(text)
}

/// A property and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Declaration<'css> {
    name: &'css str,
    value: &'css str,
    is_important: bool,
}

fn declarations(block: &str) -> impl Iterator<Item = Declaration<'_>> {
    split_outside(block, ';').filter_map(|declaration| {
        let (name, value) = declaration.split_once(':')?;
        let (name, value) = (name.trim(), value.trim());
        let (value, is_important) = match value.rsplit_once('!') {
            Some((value, word)) if word.trim().eq_ignore_ascii_case("important") => (value.trim_end(), true),
            _ => (value, false),
        };
        (!name.is_empty() && !value.is_empty()).then_some(Declaration { name, value, is_important })
    })
}

/// The tag of an element with the declarations of rules in its `style` attribute, in the order in which they count.
fn with_style(tag: &str, node: &Node<'_>, rules: &[&Rule<'_>], is_dynamic: &dyn Fn(&str) -> bool) -> String {
    let own = attribute(node.attributes, "style");
    // What a template prints into an attribute is not looked into: it stands between the rules as it is.
    let raw = own.filter(|own| is_dynamic(own));
    let decoded = own.filter(|_| raw.is_none()).map(decode).unwrap_or_default();
    let own_declarations: Vec<_> = declarations(&decoded).collect();
    let mut groups: Vec<Vec<(String, String)>> = Vec::new();
    for is_important in [false, true] {
        let important = if is_important { " !important" } else { "" };
        let group = |from: &[Declaration<'_>]| {
            let chosen = from.iter().filter(|declaration| declaration.is_important == is_important);
            let print = |declaration: &Declaration<'_>| {
                let name = declaration.name.to_ascii_lowercase();
                let text = format!("{name}:{}{important}", quote_value(declaration.value));
                (name, text)
            };
            chosen.map(print).collect::<Vec<_>>()
        };
        groups.extend(rules.iter().map(|rule| group(&rule.declarations)));
        groups.push(match raw {
            Some(raw) if !is_important => vec![(String::new(), raw.trim().trim_end_matches(';').to_owned())],
            _ => group(&own_declarations),
        });
    }
    // A later group takes the place of an earlier one; within a group, one property twice is a fallback for old readers.
    let mut kept: Vec<&str> = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        let is_last = |name: &str| !groups[index + 1..].iter().flatten().any(|(later, _)| later == name);
        kept.extend(group.iter().filter(|(name, _)| is_last(name)).map(|(_, text)| text.as_str()));
    }
    put_style(tag, node, own, &kept.join(";"))
}

/// A value for an attribute in double quotes.
fn quote_value(value: &str) -> String {
    let value = value.replace('&', "&amp;");
    if value.contains('\'') { value.replace('"', "&quot;") } else { value.replace('"', "'") }
}

fn put_style(tag: &str, node: &Node<'_>, own: Option<&str>, style: &str) -> String {
    let attribute = format!("style=\"{style}\"");
    if let Some(own) = own
        && let Some((start, end)) = attribute_range(tag, node, own)
    {
        return format!("{}{attribute}{}", &tag[..start], &tag[end..]);
    }
    let end = tag.trim_end_matches('>').trim_end_matches('/').trim_end().len();
    format!("{} {attribute}{}", &tag[..end], &tag[end..])
}

/// Where the `style` attribute stands in its tag, with its quotes.
fn attribute_range(tag: &str, node: &Node<'_>, own: &str) -> Option<(usize, usize)> {
    let (name, _) = attributes(node.attributes).find(|(name, _)| name.eq_ignore_ascii_case("style"))?;
    // The name and the value are pieces of the tag.
    let place = |piece: &str| (piece.as_ptr() as usize).checked_sub(node.attributes.as_ptr() as usize);
    let before = "<".len() + node.name.len();
    let start = before + place(name)?;
    let end = if own.is_empty() { start + name.len() } else { before + place(own)? + own.len() };
    let after = &tag.get(end..)?;
    let quotes = if own.is_empty() {
        // `style`, `style=""` or `style=''`.
        let value = after.trim_ascii_start().strip_prefix('=').map(str::trim_ascii_start);
        value.filter(|value| value.starts_with(['"', '\''])).map_or(0, |value| after.len() - value.len() + 2)
    } else {
        usize::from(after.starts_with(['"', '\'']))
    };
    Some((start, end + quotes))
}

enum Statement<'css> {
    Rule { selectors: &'css str, block: &'css str, whole: &'css str },
    Other(&'css str),
}

/// The statements of a style sheet; comments are left out.
struct Statements<'css> {
    rest: &'css str,
}

impl<'css> Iterator for Statements<'css> {
    type Item = Statement<'css>;

    fn next(&mut self) -> Option<Statement<'css>> {
        loop {
            self.rest = self.rest.trim_start();
            if let Some(comment) = self.rest.strip_prefix("/*") {
                self.rest = comment.split_once("*/").map_or("", |(_, after)| after);
            } else if let Some(after) = self.rest.strip_prefix("<!--").or_else(|| self.rest.strip_prefix("-->")) {
                self.rest = after;
            } else {
                break;
            }
        }
        if self.rest.is_empty() {
            return None;
        }
        let css = self.rest;
        let (end, block) = statement_end(css);
        self.rest = &css[end..];
        match block {
            Some((open, close)) if !css.starts_with('@') && !css[..end].contains("/*") => {
                Some(Statement::Rule { selectors: &css[..open], block: &css[open + 1..close], whole: &css[..end] })
            }
            _ => Some(Statement::Other(&css[..end])),
        }
    }
}

/// Where the first statement ends, and the braces of its block when it has a closed one.
fn statement_end(css: &str) -> (usize, Option<(usize, usize)>) {
    let mut depth = 0_usize;
    let mut open = None;
    let mut quote = None;
    let mut is_escaped = false;
    for (at, byte) in css.bytes().enumerate() {
        if std::mem::take(&mut is_escaped) {
            continue;
        }
        match (quote, byte) {
            (_, b'\\') => is_escaped = true,
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(mark), byte) if mark == byte => quote = None,
            (Some(_), _) => {}
            (None, b'{') => {
                depth += 1;
                open = open.or(Some(at));
            }
            (None, b'}') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return (at + 1, open.map(|open| (open, at)));
                }
            }
            (None, b';') if depth == 0 => return (at + 1, None),
            (None, _) => {}
        }
    }
    (css.len(), None)
}

/// Splits at a mark that stands in no quotes, parentheses or brackets.
fn split_outside(text: &str, mark: char) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut depth = 0_usize;
        let mut quote = None;
        for (at, character) in text.char_indices() {
            match (quote, character) {
                (None, '"' | '\'') => quote = Some(character),
                (Some(open), close) if open == close => quote = None,
                (Some(_), _) => {}
                (None, '(' | '[') => depth += 1,
                (None, ')' | ']') => depth = depth.saturating_sub(1),
                (None, found) if found == mark && depth == 0 => {
                    rest = Some(&text[at + mark.len_utf8()..]);
                    return Some(&text[..at]);
                }
                _ => {}
            }
        }
        rest = None;
        Some(text)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn inline(html: &str) -> String {
        inline_styles(html, Sheets::Own, &|text| text.contains("TAG")).unwrap()
    }

    #[test]
    fn rules_move_into_what_they_select() {
        let cases = [
            ("<p>x</p>", "<p>x</p>"),
            ("<style>p{color:red}</style><p>x</p>", "<p style=\"color:red\">x</p>"),
            (
                "<style>.a { color : red ; }</style><p class='b a'>x</p><p>y</p>",
                "<p class='b a' style=\"color:red\">x</p><p>y</p>",
            ),
            ("<style>#i,td{x:1}</style><td id=i><br/></td>", "<td id=i style=\"x:1\"><br/></td>"),
            (
                "<style>div p{x:1}div>p{y:2}</style><div><b><p>1</p></b><p>2</p></div><p>3</p>",
                "<div><b><p style=\"x:1\">1</p></b><p style=\"x:1;y:2\">2</p></div><p>3</p>",
            ),
            ("<style>br{x:1}</style><br><br/><br />", "<br style=\"x:1\"><br style=\"x:1\"/><br style=\"x:1\" />"),
            // Later and more special rules win, the element's own style over all, and !important over that.
            ("<style>.a{x:2}p{x:1}p{x:3;z:1}</style><p class=a>", "<p class=a style=\"z:1;x:2\">"),
            ("<style>p{x:1;y:1}</style><p style='x:2'>", "<p style=\"y:1;x:2\">"),
            (
                "<style>p{x:1 !important;y:1}</style><p class=b style=\"x:2;\" id=c>",
                "<p class=b style=\"y:1;x:1 !important\" id=c>",
            ),
            (
                "<style>p{x:1}</style><p style><p style=''><p style = \"\">",
                "<p style=\"x:1\"><p style=\"x:1\"><p style=\"x:1\">",
            ),
            ("<style>p{x:1;x:calc(1)}</style><p>", "<p style=\"x:1;x:calc(1)\">"),
            ("<style>p{font:\"A B\";u:url('a;b')}</style><p>", "<p style=\"font:'A B';u:url('a;b')\">"),
            ("<style>p{x:1}</style><p style=\"y:&quot;a&quot;;z:1\">", "<p style=\"x:1;y:'a';z:1\">"),
            ("<style>p{x:1;y:2!important}</style><p style='TAG;'>", "<p style=\"x:1;TAG;y:2 !important\">"),
            // What an attribute cannot say stays.
            (
                "<style>a:hover{x:1}a{y:1}@media (max-width:1px){a{z:1}}</style><a>",
                "<style>a:hover{x:1}\n@media (max-width:1px){a{z:1}}\n</style><a style=\"y:1\">",
            ),
            ("<style>a:hover, a{x:1}</style><a>", "<style>a:hover {x:1}\n</style><a style=\"x:1\">"),
            ("<style>@import url(x);p{x:1}</style><p>", "<style>@import url(x);\n</style><p style=\"x:1\">"),
            ("<style media=print>p{x:1}</style><p>", "<style media=print>p{x:1}</style><p>"),
            ("<style>p{x:1</style><p>", "<style>p{x:1\n</style><p>"),
            (
                "<!--[if mso]><style>p{x:1}</style><p><![endif]--><p>",
                "<!--[if mso]><style>p{x:1}</style><p><![endif]--><p>",
            ),
            ("<style>/* p{x:1} */ p{y:1}</style><p>", "<p style=\"y:1\">"),
            ("<style>tr:first-child{x:1}</style><table><tr><tr></table>", "<table><tr style=\"x:1\"><tr></table>"),
            // Tags of a template: a value may have one, a rule or class that depends on one stays.
            ("<style>p{x:TAG}</style><p>", "<p style=\"x:TAG\">"),
            ("<style>TAG p{x:1}</style><p>", "<style>TAG p{x:1}</style><p>"),
            (
                "<style>.a{x:1}</style><p class='TAG'><p class=a>",
                "<style>.a{x:1}</style><p class='TAG'><p class=a style=\"x:1\">",
            ),
            (
                "<style>p{x:1}</style><table>TAG<tr><td><p TAG></table>",
                "<style>p{x:1}</style><table>TAG<tr><td><p TAG></table>",
            ),
        ];
        for (html, wanted) in cases {
            assert_eq!(inline(html), wanted, "{html}");
        }
    }

    #[test]
    fn a_given_sheet_moves_and_the_elements_stay() {
        let html = "<style>p{x:1}</style><p class=a>";
        let wanted = "<style>p{x:1}</style><p class=a style=\"y:2\">";
        assert_eq!(inline_styles(html, Sheets::Given(".a{y:2}"), &|_| false).as_deref(), Ok(wanted));
    }

    #[test]
    fn selectors_that_would_look_forever_are_an_error() {
        let depth = 200;
        let html = format!("<style>{} x{{y:1}}</style>{}", "b ".repeat(30), "<b>".repeat(depth) + "<x>");
        assert!(inline_styles(&html, Sheets::Own, &|_| false).is_ok(), "it matches at once");
        let html = format!("<style>q {} x{{y:1}}</style>{}", "b ".repeat(30), "<b>".repeat(depth) + "<x>");
        assert!(inline_styles(&html, Sheets::Own, &|_| false).is_err());
        assert!(inline_styles(&"<p>".repeat(30_000), Sheets::Own, &|_| false).is_err());
    }

    proptest! {
        #[test]
        fn no_style_sheet_breaks_it(
            css in "([a-z.#*>+~:;{}()\"'!@,\\[\\]= /\\\\-]|/\\*|\\*/|p|\\.a|é|:first-child|!important){0,60}",
            html in "([<>/='\" a-z]|<p|</p>|<br/>|style=|class=a|<style>|</style>|é|<!--|-->){0,40}",
        ) {
            let _ = inline_styles(&format!("<style>{css}</style>{html}"), Sheets::Own, &|_| false);
            let _ = inline_styles(&html, Sheets::Given(&css), &|text| text.contains('a'));
        }
    }
}
