//! The page on which an escalation is acknowledged or resolved.

use super::frame;
use super::words::{Language, fill};
use crate::link::LinkAction;
use maud::html;

/// How far the visit has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionView {
    /// Nothing has happened: a mail's scanner may open links, too.
    Asked,
    /// It was done now.
    Done,
    /// Somebody was first, or it is over: nothing was left to be done.
    Answered,
}

/// What the page shows.
#[derive(Clone, Copy, Debug)]
pub struct Action<'a> {
    /// The tenant's name.
    pub tenant: &'a str,
    /// What the link does.
    pub action: LinkAction,
    /// How far it has come.
    pub view: ActionView,
}

/// What the page's button sends; nothing else of a form acts.
pub const CONFIRMATION: (&str, &str) = ("confirm", "1");

/// Renders the page. Its button posts to the page's own address.
pub fn render_action(page: &Action<'_>, language: Language) -> String {
    let words = language.words();
    let (ask, button, done, note) = match page.action {
        LinkAction::Acknowledge => {
            (words.ask_acknowledge, words.acknowledge, words.acknowledged, words.acknowledged_note)
        }
        LinkAction::Resolve => (words.ask_resolve, words.resolve, words.resolved, words.resolved_note),
    };
    let say = |sentence: &'static str| fill(sentence, &[("tenant", page.tenant)]);
    let (heading, middle) = match page.view {
        ActionView::Asked => (
            say(ask),
            html! {
                p.soft { (words.ask_note) }
                form method="post" { button type="submit" name=(CONFIRMATION.0) value=(CONFIRMATION.1) { (button) } }
            },
        ),
        ActionView::Done => (done.to_owned(), html! { p.status role="status" { (say(note)) } }),
        ActionView::Answered => (words.answered.to_owned(), html! { p.status role="status" { (words.answered_note) } }),
    };
    let main = html! {
        h1 { (heading) }
        (middle)
    };
    frame(language, &heading, Some(page.tenant), main)
}
