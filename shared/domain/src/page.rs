//! The pages that the links of a mail lead to, as HTML for a browser without scripts.
//!
//! Pure: data in, a whole document out. Whoever opens one may know no English, see little, use no mouse, have a small
//! screen or a dark room; the pages work for all of them, and a test looks at each in a browser.
//! Nothing of a name can become markup: the template library escapes what it prints, and nothing here says otherwise.

mod action;
mod collected;
mod form;
mod preferences;
mod style;
#[cfg(test)]
mod tests;
mod unsubscribe;
mod words;

pub use action::{Action, ActionView, CONFIRMATION, render_action};
pub use collected::{Collected, CollectedItem, render_collected};
pub use form::{CategoryChange, FormError, PreferenceChange, PreferenceForm};
pub use preferences::{Sheet, SheetCategory, SheetChannel, render_preferences};
pub use style::content_security_policy;
pub use unsubscribe::{Leaving, Unsubscribe, UnsubscribeView, render_unsubscribe};
pub use words::Language;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use words::{Words, fill};

/// Why somebody cannot switch a category off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Nobody can.
    ForEverybody,
    /// Nobody with one of their roles can.
    ByRole,
}

impl Lock {
    fn reason(self, words: &Words, tenant: &str) -> String {
        let sentence = match self {
            Self::ForEverybody => words.locked_for_everybody,
            Self::ByRole => words.locked_by_role,
        };
        fill(sentence, &[("tenant", tenant)])
    }
}

/// A page that is nobody's: it names neither tenant nor recipient, and is the same for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The link is none of ours, whatever the reason.
    NotFound,
    /// The link has acted: it does so once.
    LinkUsed,
    /// The link is too old to act.
    LinkExpired,
    /// The form was not one that our pages send.
    BadForm,
    /// The service is out.
    Unavailable,
}

/// Renders a page that is nobody's.
pub fn render_notice(notice: Notice, language: Language) -> String {
    let words = language.words();
    let (heading, note) = match notice {
        Notice::NotFound => (words.not_found, words.not_found_note),
        Notice::LinkUsed => (words.link_used, words.link_used_note),
        Notice::LinkExpired => (words.link_expired, words.link_expired_note),
        Notice::BadForm => (words.bad_form, words.bad_form_note),
        Notice::Unavailable => (words.unavailable, words.unavailable_note),
    };
    let main = html! {
        h1 { (heading) }
        p { (note) }
    };
    frame(language, heading, None, main)
}

/// A whole document around what is in its middle.
fn frame(language: Language, title: &str, tenant: Option<&str>, main: Markup) -> String {
    let document = html! {
        (DOCTYPE)
        html lang=(language) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (title) @if let Some(tenant) = tenant { " – " (tenant) } }
                // The policy names the digest of exactly this text.
                style { (PreEscaped(style::STYLE)) }
            }
            body {
                @if let Some(tenant) = tenant {
                    header { p.sender { (tenant) } }
                }
                main { (main) }
            }
        }
    };
    document.into_string()
}
