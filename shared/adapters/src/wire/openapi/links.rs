//! The public pages, for whoever has a link from a mail.

use super::schema::{Schema, required, sometimes};
use super::{Answer, Operation};

/// The type of their bodies.
const FORM: &str = "application/x-www-form-urlencoded";
/// The headers that every page has, and what for.
pub(super) const PAGE_HEADERS: &[(&str, &str)] = &[
    ("Content-Security-Policy", "Nothing is loaded from elsewhere."),
    ("Referrer-Policy", "Nobody learns of the link."),
    ("Cache-Control", "Nothing is kept."),
    ("X-Content-Type-Options", "It is what it says."),
    ("X-Robots-Tag", "It is in no index."),
];

/// `GET /v1/unsubscribe/{token}`.
pub(super) fn show_unsubscribe() -> Operation {
    Operation::new("Show what a link would stop", Answer::page(200, "What it would stop, with a button."))
        .describe("Changes nothing, because scanners of mails open links.")
}

/// `POST /v1/unsubscribe/{token}`.
pub(super) fn unsubscribe() -> Operation {
    let body = Schema::object([
        sometimes("List-Unsubscribe", Schema::one_of(["One-Click"]).describe("Stops it, as RFC 8058 wants it.")),
        sometimes("undo", Schema::one_of(["1"]).describe("Takes that back.")),
    ]);
    Operation::new("Stop what a link names, or take that back", Answer::page(200, "It is done; a repeat is fine."))
        .with_form(FORM, body.with_only_one_of(&["List-Unsubscribe", "undo"]))
        .or(Answer::page(403, "It has become mandatory since."))
}

/// `GET /v1/preference-center/{token}`.
pub(super) fn show_preference_center() -> Operation {
    Operation::new("Show everything that a link's holder can choose", Answer::page(200, "A form."))
}

/// `POST /v1/preference-center/{token}`.
pub(super) fn save_preference_center() -> Operation {
    Operation::new("Store what was chosen", Answer::page(200, "The form, as it is now."))
        .describe("All of it, or nothing where something is wrong.")
        .with_form(FORM, Schema::opaque().describe("The fields of the form that the page has."))
}

/// `GET /v1/collected/{token}`.
pub(super) fn show_collected() -> Operation {
    Operation::new("Show what a batch's or a digest's mail told of", Answer::page(200, "Each with its subject, its time and its text."))
        .describe("Where `more_link` and `more_url` in its data lead. It ends with that data: when the recipient is erased, or it is kept no longer.")
}

/// `GET /v1/actions/{token}`.
pub(super) fn show_action() -> Operation {
    Operation::new("Show what a link of an escalation's mail would do", Answer::page(200, "What, with a button."))
        .describe("Changes nothing, because scanners of mails open links.")
        .or(Answer::page(410, "It was used, or has expired."))
}

/// `POST /v1/actions/{token}`.
pub(super) fn act() -> Operation {
    let body = Schema::object([required("confirm", Schema::one_of(["1"]).describe("What the page's button sends."))]);
    Operation::new("Acknowledge or resolve an escalation by a link", Answer::page(200, "It is done, or was."))
        .describe("Once: the link does not act again.")
        .with_form(FORM, body)
        .or(Answer::page(410, "It was used, or has expired."))
}
