//! The preference centre: everything that somebody can choose, on one page with one button.

use super::form::{DIGEST_TIME, DIGEST_WEEKDAY, FormError, PreferenceForm, cadence_name, switch_name};
use super::words::{Language, Words, fill};
use super::{Lock, frame};
use crate::delivery::Channel;
use crate::id::CategoryKey;
use crate::preference::{Cadence, DigestChoice, QuietChoice};
use maud::{Markup, html};

/// What a recipient can choose, and what holds now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sheet {
    /// The tenant's name.
    pub tenant: String,
    /// The zone of every time on the page, as IANA names it.
    pub time_zone: String,
    /// Every category that the recipient may be sent, in the order to show.
    pub categories: Vec<SheetCategory>,
    /// When nothing should arrive.
    pub quiet_hours: QuietChoice,
    /// When digests leave, as far as the recipient says so.
    pub digest: DigestChoice,
}

/// A category to choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SheetCategory {
    /// Which.
    pub key: CategoryKey,
    /// What it is called; its key where it has no name.
    pub name: Option<String>,
    /// What it is about.
    pub description: Option<String>,
    /// Why it cannot be switched off, where it cannot.
    pub lock: Option<Lock>,
    /// The channels on which the recipient can be reached.
    pub channels: Vec<SheetChannel>,
    /// How often.
    pub cadence: Cadence,
}

impl SheetCategory {
    /// What it is called.
    pub fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(self.key.as_str())
    }
}

/// A channel of a category.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SheetChannel {
    /// Which.
    pub channel: Channel,
    /// Whether it is used.
    pub is_on: bool,
}

impl FormError {
    const fn sentence(self, words: &Words) -> &'static str {
        match self {
            Self::WrongTime => words.wrong_time,
            Self::HalfQuiet => words.half_quiet,
            Self::SameTimes => words.same_times,
            Self::WrongChoice => words.wrong_choice,
            Self::NowLocked => words.now_locked,
        }
    }
}

/// Renders the page: with what is stored, or with what was sent. `is_saved` says that what it shows was just stored.
pub fn render_preferences(sheet: &Sheet, form: &PreferenceForm, is_saved: bool, language: Language) -> String {
    let words = language.words();
    let tenant = [("tenant", sheet.tenant.as_str())];
    let main = html! {
        h1 { (words.preferences) }
        @if is_saved {
            p.status role="status" { (words.saved) }
        } @else if !form.errors.is_empty() {
            p.problem role="alert" { (words.not_saved) }
        }
        @if sheet.categories.is_empty() {
            p { (fill(words.nothing_to_choose, &tenant)) }
        } @else {
            p.soft { (fill(words.preferences_intro, &tenant)) }
        }
        // The times are checked by us: a browser's own bubble may speak another language.
        form method="post" novalidate {
            @for (place, category) in sheet.categories.iter().enumerate() {
                (render_category(sheet, category, place, form, words))
            }
            (render_digest_choice(sheet, form, words))
            (render_quiet_hours(sheet, form, words))
            div.save { button type="submit" { (words.save) } }
        }
    };
    frame(language, words.preferences, Some(&sheet.tenant), main)
}

fn render_category(
    sheet: &Sheet,
    category: &SheetCategory,
    place: usize,
    form: &PreferenceForm,
    words: &Words,
) -> Markup {
    let cadence_id = format!("cadence-{place}");
    let cadence_field = cadence_name(&category.key);
    let chosen = form.cadences.get(&category.key).copied().unwrap_or(category.cadence);
    let locked = category.channels.iter().find_map(|it| form.errors.get(&switch_name(it.channel, &category.key)));
    html! {
        fieldset {
            legend { (category.label()) }
            @if let Some(description) = &category.description {
                p.soft { (description) }
            }
            @if let Some(lock) = category.lock {
                p.soft { (lock.reason(words, &sheet.tenant)) }
                p.locked { (words.always_on) }
                @if let Some(error) = locked { p.error { (error.sentence(words)) } }
            } @else {
                div.row {
                    @for SheetChannel { channel, .. } in &category.channels {
                        @let switch = (*channel, category.key.clone());
                        input type="hidden" name="shown" value=(format!("{channel}:{}", category.key));
                        label.check {
                            input type="checkbox" name=(switch_name(*channel, &category.key)) value="1"
                                checked[form.switches.get(&switch).copied().unwrap_or_default()];
                            (words.channel(*channel))
                        }
                    }
                }
            }
            div.row {
                div.field {
                    label for=(cadence_id) { (words.how_often) }
                    select #(cadence_id) name=(cadence_field) aria-invalid=[invalid(form, &cadence_field)]
                        aria-describedby=[described(form, &cadence_field, &cadence_id)] {
                        @for cadence in Cadence::ALL {
                            option value=(cadence) selected[*cadence == chosen] { (words.cadence(*cadence)) }
                        }
                    }
                    (render_error(form, &cadence_field, &cadence_id, words))
                }
            }
        }
    }
}

fn render_digest_choice(sheet: &Sheet, form: &PreferenceForm, words: &Words) -> Markup {
    let names = [("zone", sheet.time_zone.as_str()), ("tenant", sheet.tenant.as_str())];
    html! {
        fieldset aria-describedby="digest-note" {
            legend { (words.digests) }
            p.soft #digest-note { (fill(words.digests_note, &names)) }
            div.row {
                div.field {
                    label for=(DIGEST_TIME) { (words.digest_time) }
                    input #(DIGEST_TIME) type="time" name=(DIGEST_TIME) value=(form.digest_time)
                        aria-invalid=[invalid(form, DIGEST_TIME)] aria-describedby=[described(form, DIGEST_TIME, DIGEST_TIME)];
                    (render_error(form, DIGEST_TIME, DIGEST_TIME, words))
                }
                div.field {
                    label for=(DIGEST_WEEKDAY) { (words.digest_weekday) }
                    select #(DIGEST_WEEKDAY) name=(DIGEST_WEEKDAY) aria-invalid=[invalid(form, DIGEST_WEEKDAY)]
                        aria-describedby=[described(form, DIGEST_WEEKDAY, DIGEST_WEEKDAY)] {
                        option value="" selected[form.digest_weekday.is_none()] { (fill(words.tenant_chooses, &names)) }
                        @for (number, day) in (1..).zip(words.weekdays) {
                            option value=(number) selected[form.digest_weekday == Some(number)] { (day) }
                        }
                    }
                    (render_error(form, DIGEST_WEEKDAY, DIGEST_WEEKDAY, words))
                }
            }
        }
    }
}

fn render_quiet_hours(sheet: &Sheet, form: &PreferenceForm, words: &Words) -> Markup {
    html! {
        fieldset aria-describedby="quiet-note" {
            legend { (words.quiet_hours) }
            p.soft #quiet-note { (fill(words.quiet_note, &[("zone", &sheet.time_zone)])) }
            div.row {
                @for (name, label, value) in [
                    ("quiet_from", words.quiet_from, &form.quiet_from),
                    ("quiet_until", words.quiet_until, &form.quiet_until),
                ] {
                    div.field {
                        label for=(name) { (label) }
                        input #(name) type="time" name=(name) value=(value) aria-invalid=[invalid(form, name)]
                            aria-describedby=[described(form, name, name)];
                        (render_error(form, name, name, words))
                    }
                }
            }
        }
    }
}

fn invalid(form: &PreferenceForm, name: &str) -> Option<&'static str> {
    form.errors.contains_key(name).then_some("true")
}

fn described(form: &PreferenceForm, name: &str, id: &str) -> Option<String> {
    form.errors.contains_key(name).then(|| format!("{id}-error"))
}

fn render_error(form: &PreferenceForm, name: &str, id: &str, words: &Words) -> Markup {
    html! {
        @if let Some(error) = form.errors.get(name) {
            p.error id=(format!("{id}-error")) { (error.sentence(words)) }
        }
    }
}
