//! The page on which a category is left.

use super::words::{Language, fill};
use super::{Lock, frame};
use maud::{Markup, html};

/// What a link leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving<'a> {
    /// One category, by its name, or by its key where it has none.
    Category(&'a str),
    /// Every category that can be left.
    Everything {
        /// The names of those that cannot.
        staying: &'a [String],
    },
}

/// How far the visit has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnsubscribeView {
    /// Nothing has happened: a mail's scanner may open links, too.
    Asked,
    /// It was left, now or before.
    Left,
    /// It was taken back.
    Undone,
    /// It cannot be left.
    Locked(Lock),
}

/// What the page shows.
#[derive(Clone, Copy, Debug)]
pub struct Unsubscribe<'a> {
    /// The tenant's name.
    pub tenant: &'a str,
    /// What is left.
    pub leaving: Leaving<'a>,
    /// How far it has come.
    pub view: UnsubscribeView,
    /// Where all preferences are: a URL, or a path relative to the page's.
    pub preference_center: &'a str,
}

/// Renders the page.
///
/// Its buttons post to the page's own address; the first one sends what a one-click request of RFC 8058 sends.
pub fn render_unsubscribe(page: &Unsubscribe<'_>, language: Language) -> String {
    let words = language.words();
    let (category, staying) = match page.leaving {
        Leaving::Category(name) => (Some(name), &[][..]),
        Leaving::Everything { staying } => (None, staying),
    };
    let say = |of_category: &'static str, of_all: &'static str| {
        let sentence = if category.is_some() { of_category } else { of_all };
        fill(sentence, &[("tenant", page.tenant), ("category", category.unwrap_or_default())])
    };
    let button = |name: &str, value: &str, label: &str, class: Option<&str>| {
        html! { form method="post" { button type="submit" name=(name) value=(value) class=[class] { (label) } } }
    };
    let (heading, middle): (String, Markup) = match page.view {
        UnsubscribeView::Asked => (
            say(words.ask_category, words.ask_all),
            html! {
                p.soft { (words.ask_note) }
                (button("List-Unsubscribe", "One-Click", words.unsubscribe, None))
            },
        ),
        UnsubscribeView::Left => (
            words.done.to_owned(),
            html! {
                p.status role="status" { (say(words.done_category, words.done_all)) }
                @if !staying.is_empty() {
                    p { (words.stays) }
                    ul.plain { @for name in staying { li { (name) } } }
                }
                (button("undo", "1", words.undo, Some("quiet")))
            },
        ),
        UnsubscribeView::Undone => (
            words.undone.to_owned(),
            html! {
                p.status role="status" { (say(words.undone_category, words.undone_all)) }
                (button("List-Unsubscribe", "One-Click", words.unsubscribe, Some("quiet")))
            },
        ),
        UnsubscribeView::Locked(lock) => (
            fill(words.locked_category, &[("category", category.unwrap_or_default())]),
            html! { p role="status" { (lock.reason(words, page.tenant)) } },
        ),
    };
    let main = html! {
        h1 { (heading) }
        (middle)
        p.more { a href=(page.preference_center) { (words.manage) } }
    };
    frame(language, &heading, Some(page.tenant), main)
}
