//! What the pages promise wherever they are shown; how they look in a browser is tried there.

use super::*;
use crate::delivery::Channel;
use crate::id::CategoryKey;
use crate::preference::{Cadence, DigestChoice, QuietChoice, QuietHours, parse_time};
use proptest::prelude::*;

fn key(text: &str) -> CategoryKey {
    CategoryKey::parse(text).unwrap()
}

fn night() -> QuietChoice {
    QuietChoice::Hours(QuietHours { from: parse_time("22:00").unwrap(), until: parse_time("07:00").unwrap() })
}

fn evening() -> DigestChoice {
    DigestChoice { time: parse_time("18:30").ok(), weekday: Some(5) }
}

fn category(name: &str, lock: Option<Lock>) -> SheetCategory {
    SheetCategory {
        key: key(name),
        name: None,
        description: None,
        lock,
        channels: vec![
            SheetChannel { channel: Channel::Email, is_on: true },
            SheetChannel { channel: Channel::Sms, is_on: false },
        ],
        cadence: Cadence::Immediate,
    }
}

fn sheet() -> Sheet {
    Sheet {
        tenant: "Aegis".to_owned(),
        time_zone: "Asia/Kolkata".to_owned(),
        categories: vec![
            category("offers", None),
            category("weekly_digest", Some(Lock::ByRole)),
            category("a:b", None),
        ],
        quiet_hours: night(),
        digest: evening(),
    }
}

fn fields(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// What a browser sends when nothing was touched.
const UNTOUCHED: &[(&str, &str)] = &[
    ("shown", "email:offers"),
    ("on:email:offers", "1"),
    ("shown", "sms:offers"),
    ("cadence:offers", "immediate"),
    ("cadence:weekly_digest", "immediate"),
    ("shown", "email:a:b"),
    ("on:email:a:b", "1"),
    ("shown", "sms:a:b"),
    ("cadence:a:b", "immediate"),
    ("quiet_from", "22:00"),
    ("quiet_until", "07:00"),
    ("digest_time", "18:30"),
    ("digest_weekday", "5"),
];

/// The untouched form with the fields of these names replaced, or left out where the value is empty.
fn sent(changes: &[(&str, Option<&str>)]) -> Option<PreferenceForm> {
    let mut pairs: Vec<_> = UNTOUCHED.to_vec();
    for (name, value) in changes {
        pairs.retain(|(known, _)| known != name);
        pairs.extend(value.map(|value| (*name, value)));
    }
    PreferenceForm::read(&sheet(), &fields(&pairs))
}

/// Every page, as far as its data can make a difference.
fn every_page(language: Language, name: &str) -> Vec<String> {
    let staying = [name.to_owned()];
    let mut pages: Vec<_> =
        [Notice::NotFound, Notice::BadForm, Notice::Unavailable].map(|notice| render_notice(notice, language)).to_vec();
    for leaving in [Leaving::Category(name), Leaving::Everything { staying: &staying }] {
        for view in [
            UnsubscribeView::Asked,
            UnsubscribeView::Left,
            UnsubscribeView::Undone,
            UnsubscribeView::Locked(Lock::ForEverybody),
            UnsubscribeView::Locked(Lock::ByRole),
        ] {
            let page = Unsubscribe { tenant: name, leaving, view, preference_center: "../preference-center/x" };
            pages.push(render_unsubscribe(&page, language));
        }
    }
    let mut sheet = sheet();
    sheet.tenant = name.to_owned();
    sheet.time_zone = name.to_owned();
    sheet.categories[0].name = Some(name.to_owned());
    sheet.categories[1].description = Some(name.to_owned());
    let form = PreferenceForm::of(&sheet);
    pages.push(render_preferences(&sheet, &form, true, language));
    let wrong = fields(&[
        ("quiet_from", name),
        ("quiet_until", ""),
        ("shown", "email:weekly_digest"),
        ("cadence:offers", "x"),
        ("digest_time", name),
        ("digest_weekday", name),
    ]);
    let form = PreferenceForm::read(&sheet, &wrong).expect("a form of the page");
    pages.push(render_preferences(&sheet, &form, false, language));
    pages.push(render_preferences(&Sheet { categories: Vec::new(), ..sheet.clone() }, &form, false, language));
    pages
}

#[test]
fn every_page_is_in_its_language_has_one_heading_and_runs_nothing() {
    for language in Language::ALL {
        for page in every_page(*language, "Aegis") {
            assert!(page.starts_with("<!DOCTYPE html>"), "{page}");
            assert!(page.contains(&format!("<html lang=\"{language}\">")), "{page}");
            assert_eq!((page.matches("<h1>").count(), page.matches("<main>").count()), (1, 1), "{page}");
            let title = page.split("<title>").nth(1).and_then(|rest| rest.split("</title>").next()).unwrap();
            assert!(!title.trim().is_empty());
            let body = page.replace(style::STYLE, "");
            for active in ["<script", "javascript:", "<iframe", "<img", "<link", "style=\""] {
                assert!(!body.contains(active), "{active}: {page}");
            }
            // Attributes such as onclick; names of fields that begin with "on" stand in quotation marks.
            let handler = body
                .split(" on")
                .skip(1)
                .find(|rest| rest.trim_start_matches(|c: char| c.is_ascii_lowercase()).starts_with('='));
            assert_eq!(handler, None);
        }
    }
}

#[test]
fn the_policy_admits_exactly_the_style_of_the_pages() {
    let policy = content_security_policy();
    let page = render_notice(Notice::NotFound, Language::English);
    let style = page.split("<style>").nth(1).and_then(|rest| rest.split("</style>").next()).expect("a style");
    assert_eq!(style, style::STYLE, "escaping would change its digest");
    for directive in ["default-src 'none'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
        assert!(policy.split("; ").any(|part| part == directive), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
}

#[test]
fn every_label_names_a_field_and_every_id_is_there_once() {
    for page in every_page(Language::English, "Aegis") {
        let values = |attribute: &str| -> Vec<String> {
            let begin = format!(" {attribute}=\"");
            let parts = page.split(begin.as_str()).skip(1);
            parts.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
        };
        let ids = values("id");
        let mut unique = ids.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), ids.len(), "{ids:?}");
        for named in values("for").into_iter().chain(values("aria-describedby")) {
            assert!(ids.contains(&named), "{named} is nowhere: {page}");
        }
    }
}

#[test]
fn a_question_changes_nothing_and_only_what_was_left_can_be_taken_back() {
    let page = |view| {
        let page = Unsubscribe { tenant: "Aegis", leaving: Leaving::Category("offers"), view, preference_center: "p" };
        render_unsubscribe(&page, Language::English)
    };
    let one_click = "name=\"List-Unsubscribe\" value=\"One-Click\"";
    for (view, can_leave, can_undo) in [
        (UnsubscribeView::Asked, true, false),
        (UnsubscribeView::Left, false, true),
        (UnsubscribeView::Undone, true, false),
        (UnsubscribeView::Locked(Lock::ByRole), false, false),
    ] {
        let html = page(view);
        assert_eq!((html.contains(one_click), html.contains("name=\"undo\"")), (can_leave, can_undo), "{view:?}");
        assert!(html.contains("offers") && html.contains("<a href=\"p\">"), "{view:?}");
        assert_eq!(html.contains("role=\"status\""), view != UnsubscribeView::Asked, "{view:?}");
        assert!(!html.contains("action="), "a form posts to the page's own address");
    }
}

#[test]
fn an_untouched_form_changes_nothing_but_what_it_shows() {
    let form = sent(&[]).expect("a form");
    assert_eq!(form.errors().count(), 0);
    let change = form.change(&sheet()).expect("nothing is wrong");
    assert_eq!((change.quiet_hours, change.digest), (night(), evening()));
    let both = |name: &str| CategoryChange {
        key: key(name),
        channels: vec![(Channel::Email, true), (Channel::Sms, false)],
        cadence: None,
    };
    assert_eq!(change.categories, [both("offers"), both("a:b")], "what is locked is not in it");
}

#[test]
fn what_was_chosen_is_what_is_stored() {
    let form = sent(&[
        ("on:email:offers", None),
        ("on:sms:a:b", Some("1")),
        ("cadence:weekly_digest", Some("daily")),
        ("quiet_from", Some(" ")),
        ("quiet_until", Some("")),
        ("digest_time", Some("07:15")),
        ("digest_weekday", Some("")),
    ]);
    let change = form.expect("a form").change(&sheet()).expect("nothing is wrong");
    assert_eq!(change.quiet_hours, QuietChoice::None);
    assert_eq!(change.digest, DigestChoice { time: parse_time("07:15").ok(), weekday: None });
    let [offers, digest, last] = change.categories.as_slice() else { panic!("{change:?}") };
    assert_eq!(offers.channels, [(Channel::Email, false), (Channel::Sms, false)]);
    assert_eq!(
        (digest.key.as_str(), &digest.channels[..], digest.cadence),
        ("weekly_digest", &[][..], Some(Cadence::Daily))
    );
    assert_eq!(last.channels, [(Channel::Email, true), (Channel::Sms, true)]);
}

#[test]
fn what_was_not_shown_is_not_switched_off() {
    let pairs = [("shown", "email:offers"), ("quiet_from", ""), ("quiet_until", "")];
    let form = PreferenceForm::read(&sheet(), &fields(&pairs)).expect("a form of yesterday");
    let change = form.change(&sheet()).expect("nothing is wrong");
    assert_eq!(change.digest, evening(), "a page of yesterday does not send it");
    let [offers] = change.categories.as_slice() else { panic!("{change:?}") };
    assert_eq!(offers.channels, [(Channel::Email, false)]);

    let gone = [("shown", "email:gone"), ("cadence:gone", "daily"), ("quiet_from", ""), ("quiet_until", "")];
    let form = PreferenceForm::read(&sheet(), &fields(&gone)).expect("a form of yesterday");
    assert_eq!(form.change(&sheet()).expect("nothing is wrong").categories, []);
}

#[test]
fn each_wrong_field_is_named_and_keeps_what_was_written() {
    use FormError::*;
    for (changes, wanted) in [
        (vec![("quiet_from", Some("25:00"))], vec![("quiet_from", WrongTime)]),
        (vec![("quiet_until", Some("7 o'clock"))], vec![("quiet_until", WrongTime)]),
        (vec![("quiet_from", Some(""))], vec![("quiet_from", HalfQuiet)]),
        (vec![("quiet_until", Some(""))], vec![("quiet_until", HalfQuiet)]),
        (vec![("quiet_until", Some("22:00"))], vec![("quiet_until", SameTimes)]),
        (vec![("cadence:offers", Some("yearly"))], vec![("cadence:offers", WrongChoice)]),
        (vec![("digest_time", Some("25:00"))], vec![("digest_time", WrongTime)]),
        (vec![("digest_weekday", Some("0"))], vec![("digest_weekday", WrongChoice)]),
        (vec![("digest_weekday", Some("8"))], vec![("digest_weekday", WrongChoice)]),
        (vec![("digest_weekday", Some("Friday"))], vec![("digest_weekday", WrongChoice)]),
        (
            vec![("quiet_from", Some("<b>")), ("cadence:a:b", Some(""))],
            vec![("cadence:a:b", WrongChoice), ("quiet_from", WrongTime)],
        ),
    ] {
        let form = sent(&changes).expect("a form of the page");
        assert_eq!(form.errors().collect::<Vec<_>>(), wanted, "{changes:?}");
        assert_eq!(form.change(&sheet()), None, "nothing is stored");
        let page = render_preferences(&sheet(), &form, false, Language::English);
        assert_eq!(page.matches("class=\"error\"").count(), wanted.len(), "{page}");
        assert_eq!(page.matches(" aria-invalid=\"true\"").count(), wanted.len(), "{changes:?}");
        assert!(page.contains(Language::English.words().not_saved));
        assert!(!page.contains(Language::English.words().saved));
    }
    let page = render_preferences(&sheet(), &sent(&[("quiet_from", Some("<b>"))]).unwrap(), false, Language::English);
    assert!(page.contains("value=\"&lt;b&gt;\""), "{page}");
}

#[test]
fn what_became_mandatory_meanwhile_cannot_be_switched_off() {
    let pairs = [("shown", "email:weekly_digest"), ("quiet_from", ""), ("quiet_until", "")];
    let form = PreferenceForm::read(&sheet(), &fields(&pairs)).expect("a form of yesterday");
    assert_eq!(form.errors().collect::<Vec<_>>(), [("on:email:weekly_digest", FormError::NowLocked)]);
    assert_eq!(form.change(&sheet()), None);
}

#[test]
fn what_our_page_does_not_send_is_no_form() {
    for more in [
        vec![("shown", "email:offers")],
        vec![("quiet_from", "")],
        vec![("quiet_from", ""), ("quiet_until", ""), ("other", "1")],
        vec![("quiet_from", ""), ("quiet_until", ""), ("what:ever", "1")],
        vec![("quiet_from", ""), ("quiet_until", ""), ("shown", "pigeon:offers")],
        vec![("quiet_from", ""), ("quiet_until", ""), ("shown", "offers")],
        vec![("quiet_from", ""), ("quiet_until", ""), ("shown", "email:-")],
        vec![("quiet_from", ""), ("quiet_until", ""), ("on:email:offers", "1")],
        vec![("quiet_from", ""), ("quiet_until", ""), ("cadence:", "daily")],
        vec![],
    ] {
        assert_eq!(PreferenceForm::read(&sheet(), &fields(&more)), None, "{more:?}");
    }
}

proptest! {
    #[test]
    fn no_name_becomes_markup(name in "[<>&\"'a-z{} /=-]{1,30}", language in proptest::sample::select(Language::ALL)) {
        prop_assume!(name.contains(['<', '"', '&', '>']));
        let plain = every_page(language, "Aegis");
        for (page, plain) in every_page(language, &name).iter().zip(&plain) {
            for sign in ['<', '>', '"'] {
                prop_assert_eq!(page.matches(sign).count(), plain.matches(sign).count(), "{} in {}", sign, page);
            }
        }
    }

    #[test]
    fn no_form_makes_the_reader_fail(pairs in proptest::collection::vec(("(shown|on:|cadence:|quiet_from|quiet_until|digest_time|digest_weekday|.{0,3})[a-z:]{0,12}", ".{0,8}"), 0..12)) {
        if let Some(form) = PreferenceForm::read(&sheet(), &pairs) {
            let change = form.change(&sheet());
            prop_assert_eq!(change.is_some(), form.errors().count() == 0);
            render_preferences(&sheet(), &form, change.is_some(), Language::English);
        }
    }
}
