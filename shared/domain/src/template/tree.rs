//! The elements of an HTML source, as far as selectors look at them, and where each of their tags stands.
//!
//! Not a parser as browsers have it: that one moves what it does not expect, such as the tags of a loop between the rows of a table.
//! Here nothing moves, so that what was read can be changed in its place.

use std::cell::Cell;
use std::ops::Range;

use simplecss::{AttributeOperator, Element, PseudoClass};

use crate::render::html::{attribute, name_of, split_tag};

/// The most elements that are looked at.
const MAX_ELEMENTS: usize = 20_000;

/// Elements that have no content and no end.
pub(super) const VOID: [&str; 14] =
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"];

/// Elements that end others which their author left open.
const IMPLIED: [(&[&str], &[&str]); 6] = [
    (&["td", "th"], &["td", "th"]),
    (&["tr"], &["td", "th", "tr"]),
    (&["li"], &["li"]),
    (&["dt", "dd"], &["dt", "dd"]),
    (&["option"], &["option"]),
    (&["p", "div", "table", "ul", "ol", "h1", "h2", "h3"], &["p"]),
];

/// An element's tag.
#[derive(Debug)]
pub(super) struct Node<'html> {
    pub(super) name: &'html str,
    pub(super) attributes: &'html str,
    /// Where the tag stands, with its angle brackets.
    pub(super) range: Range<usize>,
    parent: Option<usize>,
    previous: Option<usize>,
}

/// A `<style>` element.
#[derive(Debug)]
pub(super) struct Style<'html> {
    pub(super) attributes: &'html str,
    /// Where its content stands.
    pub(super) content: Range<usize>,
    /// Where it stands with its tags.
    pub(super) range: Range<usize>,
}

/// All elements of a source, in the order of their tags.
#[derive(Debug, Default)]
pub(super) struct Tree<'html> {
    pub(super) nodes: Vec<Node<'html>>,
    pub(super) styles: Vec<Style<'html>>,
}

impl<'html> Tree<'html> {
    /// Reads a source; `None` when it has too many elements.
    ///
    /// Comments are left out, conditional ones too: what they show is written for one reader alone.
    pub(super) fn read(html: &'html str) -> Option<Self> {
        let mut tree = Self::default();
        // Each open element with the last of its children so far.
        let mut open: Vec<(Option<usize>, Option<usize>)> = vec![(None, None)];
        let mut at = 0;
        while let Some(found) = html[at..].find('<') {
            let start = at + found;
            let tag = &html[start + 1..];
            at = start + 1;
            if let Some(comment) = tag.strip_prefix("!--") {
                at = comment.find("-->").map_or(html.len(), |end| start + "<!--".len() + end + "-->".len());
            } else if let Some(closing) = tag.strip_prefix('/') {
                let (inside, after) = split_tag(closing);
                at = html.len() - after.len();
                tree.close(name_of(inside), &mut open);
            } else if tag.starts_with(|c: char| c.is_ascii_alphabetic()) {
                let (inside, after) = split_tag(tag);
                at = html.len() - after.len();
                let name = name_of(inside);
                let attributes = &inside[name.len()..];
                if ["style", "script", "title", "textarea"].iter().any(|raw| name.eq_ignore_ascii_case(raw)) {
                    let end = find_end(after, name);
                    let content = at..at + end;
                    at += end;
                    if name.eq_ignore_ascii_case("style") {
                        at = html[at..].find('>').map_or(html.len(), |close| at + close + 1);
                        tree.styles.push(Style { attributes, content, range: start..at });
                    }
                    continue;
                }
                if tree.nodes.len() == MAX_ELEMENTS {
                    return None;
                }
                tree.close_implied(name, &mut open);
                let node = tree.nodes.len();
                let (parent, previous) =
                    open.last_mut().map_or((None, None), |(parent, last)| (*parent, last.replace(node)));
                tree.nodes.push(Node { name, attributes, range: start..at, parent, previous });
                if !inside.ends_with('/') && !VOID.iter().any(|void| name.eq_ignore_ascii_case(void)) {
                    open.push((Some(node), None));
                }
            }
        }
        Some(tree)
    }

    /// Closes what a new element ends without an end tag, such as the row before a row.
    fn close_implied(&self, name: &str, open: &mut Vec<(Option<usize>, Option<usize>)>) {
        let Some((_, ended)) = IMPLIED.iter().find(|(names, _)| names.iter().any(|it| name.eq_ignore_ascii_case(it)))
        else {
            return;
        };
        let is_ended = |(node, _): &(Option<usize>, Option<usize>)| {
            let node = node.and_then(|node| self.nodes.get(node));
            node.is_some_and(|node| ended.iter().any(|it| node.name.eq_ignore_ascii_case(it)))
        };
        while open.last().is_some_and(is_ended) {
            open.pop();
        }
    }

    fn close(&self, name: &str, open: &mut Vec<(Option<usize>, Option<usize>)>) {
        let is_it = |(node, _): &(Option<usize>, Option<usize>)| {
            node.and_then(|node| self.nodes.get(node)).is_some_and(|node| node.name.eq_ignore_ascii_case(name))
        };
        // What closes nothing is left out, as browsers do.
        if let Some(index) = open.iter().rposition(is_it) {
            open.truncate(index);
        }
    }
}

/// How long a content is that ends with `</name`.
fn find_end(rest: &str, name: &str) -> usize {
    let ends = rest.match_indices("</").find(|(at, _)| name_of(&rest[at + 2..]).eq_ignore_ascii_case(name));
    ends.map_or(rest.len(), |(at, _)| at)
}

/// An element as a selector sees it, with what is left of the work that all selectors may do.
#[derive(Clone, Copy)]
pub(super) struct Seen<'tree, 'html> {
    pub(super) tree: &'tree Tree<'html>,
    pub(super) node: usize,
    pub(super) fuel: &'tree Cell<usize>,
}

impl<'tree, 'html> Seen<'tree, 'html> {
    /// The element, while there is work left: without, nothing has parents and nothing matches.
    fn look(&self) -> Option<&'tree Node<'html>> {
        self.fuel.set(self.fuel.get().checked_sub(1)?);
        self.tree.nodes.get(self.node)
    }
}

impl Element for Seen<'_, '_> {
    fn parent_element(&self) -> Option<Self> {
        Some(Self { node: self.look()?.parent?, ..*self })
    }

    fn prev_sibling_element(&self) -> Option<Self> {
        Some(Self { node: self.look()?.previous?, ..*self })
    }

    fn has_local_name(&self, name: &str) -> bool {
        self.look().is_some_and(|node| node.name.eq_ignore_ascii_case(name))
    }

    fn attribute_matches(&self, local_name: &str, operator: AttributeOperator<'_>) -> bool {
        let Some(value) = self.look().and_then(|node| attribute(node.attributes, local_name)) else { return false };
        match operator {
            // White space of any kind parts the classes.
            AttributeOperator::Contains(word) => value.split_ascii_whitespace().any(|found| found == word),
            operator => operator.matches(value),
        }
    }

    fn pseudo_class_matches(&self, class: PseudoClass<'_>) -> bool {
        class == PseudoClass::FirstChild && self.look().is_some_and(|node| node.previous.is_none())
    }
}
