//! The words of the pages, in each language that they are written in.
//!
//! A language is a constant of [`Words`], so that none can lack a sentence. `{tenant}`, `{category}` and `{zone}` stand
//! for names.

mod bn;
mod de;
mod en;
mod es;
mod fr;
mod hi;
mod mr;
mod ta;
mod te;

use crate::delivery::{Channel, named};
use crate::locale::Locale;
use crate::preference::Cadence;
use std::fmt;

named! {
    /// A language that the pages are written in, by its BCP 47 tag.
    Language {
        /// English.
        English = "en",
        /// Hindi.
        Hindi = "hi",
        /// German.
        German = "de",
        /// French.
        French = "fr",
        /// Spanish.
        Spanish = "es",
        /// Tamil.
        Tamil = "ta",
        /// Telugu.
        Telugu = "te",
        /// Bengali.
        Bengali = "bn",
        /// Marathi.
        Marathi = "mr",
    }
}

impl Language {
    /// The first of somebody's languages that the pages are written in; English where there is none.
    ///
    /// `wanted` begins with the most wanted. Regions and scripts do not matter here.
    pub fn choose<'a>(wanted: impl IntoIterator<Item = &'a Locale>) -> Self {
        wanted.into_iter().find_map(|locale| Self::parse(locale.language())).unwrap_or(Self::English)
    }

    pub(super) const fn words(self) -> &'static Words {
        match self {
            Self::English => &en::WORDS,
            Self::Hindi => &hi::WORDS,
            Self::German => &de::WORDS,
            Self::French => &fr::WORDS,
            Self::Spanish => &es::WORDS,
            Self::Tamil => &ta::WORDS,
            Self::Telugu => &te::WORDS,
            Self::Bengali => &bn::WORDS,
            Self::Marathi => &mr::WORDS,
        }
    }
}

/// Everything that the pages say.
pub(super) struct Words {
    /// Before anything happens: the question, and that nothing has happened.
    pub(super) ask_category: &'static str,
    pub(super) ask_all: &'static str,
    pub(super) ask_note: &'static str,
    pub(super) unsubscribe: &'static str,

    /// Afterwards.
    pub(super) done: &'static str,
    pub(super) done_category: &'static str,
    pub(super) done_all: &'static str,
    pub(super) stays: &'static str,
    pub(super) undo: &'static str,

    /// After it was taken back.
    pub(super) undone: &'static str,
    pub(super) undone_category: &'static str,
    pub(super) undone_all: &'static str,

    /// What nobody can leave, and why.
    pub(super) locked_category: &'static str,
    pub(super) locked_for_everybody: &'static str,
    pub(super) locked_by_role: &'static str,
    pub(super) always_on: &'static str,

    /// The preference centre.
    pub(super) manage: &'static str,
    pub(super) preferences: &'static str,
    pub(super) preferences_intro: &'static str,
    pub(super) nothing_to_choose: &'static str,
    pub(super) how_often: &'static str,
    pub(super) immediate: &'static str,
    pub(super) hourly: &'static str,
    pub(super) daily: &'static str,
    pub(super) weekly: &'static str,
    pub(super) digests: &'static str,
    pub(super) digests_note: &'static str,
    pub(super) digest_time: &'static str,
    pub(super) digest_weekday: &'static str,
    pub(super) tenant_chooses: &'static str,
    /// From Monday on.
    pub(super) weekdays: [&'static str; 7],
    pub(super) quiet_hours: &'static str,
    pub(super) quiet_note: &'static str,
    pub(super) quiet_from: &'static str,
    pub(super) quiet_until: &'static str,
    pub(super) save: &'static str,
    pub(super) saved: &'static str,

    /// What is wrong with a form.
    pub(super) not_saved: &'static str,
    pub(super) wrong_time: &'static str,
    pub(super) half_quiet: &'static str,
    pub(super) same_times: &'static str,
    pub(super) wrong_choice: &'static str,
    pub(super) now_locked: &'static str,

    /// What is answered by a link.
    pub(super) ask_acknowledge: &'static str,
    pub(super) ask_resolve: &'static str,
    pub(super) acknowledge: &'static str,
    pub(super) resolve: &'static str,
    pub(super) acknowledged: &'static str,
    pub(super) acknowledged_note: &'static str,
    pub(super) resolved: &'static str,
    pub(super) resolved_note: &'static str,
    pub(super) answered: &'static str,
    pub(super) answered_note: &'static str,

    /// What a message told of.
    pub(super) collected: &'static str,
    pub(super) collected_note: &'static str,
    pub(super) further: &'static str,

    /// What is wrong with a link that acts.
    pub(super) link_used: &'static str,
    pub(super) link_used_note: &'static str,
    pub(super) link_expired: &'static str,
    pub(super) link_expired_note: &'static str,

    /// What is no page of anybody.
    pub(super) not_found: &'static str,
    pub(super) not_found_note: &'static str,
    pub(super) bad_form: &'static str,
    pub(super) bad_form_note: &'static str,
    pub(super) unavailable: &'static str,
    pub(super) unavailable_note: &'static str,

    /// The channels.
    pub(super) email: &'static str,
    pub(super) sms: &'static str,
    pub(super) push: &'static str,
    pub(super) slack: &'static str,
    pub(super) teams: &'static str,
    pub(super) voice: &'static str,
    pub(super) in_app: &'static str,
}

impl Words {
    pub(super) const fn channel(&self, channel: Channel) -> &'static str {
        match channel {
            Channel::Email => self.email,
            Channel::Sms => self.sms,
            Channel::Push => self.push,
            Channel::Slack => self.slack,
            Channel::Teams => self.teams,
            Channel::Voice => self.voice,
            Channel::InApp => self.in_app,
        }
    }

    pub(super) const fn cadence(&self, cadence: Cadence) -> &'static str {
        match cadence {
            Cadence::Immediate => self.immediate,
            Cadence::Hourly => self.hourly,
            Cadence::Daily => self.daily,
            Cadence::Weekly => self.weekly,
        }
    }
}

/// Puts names into a sentence, in one go: braces in a name stay what they are.
pub(super) fn fill(sentence: &str, names: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(sentence.len() + 64);
    let mut rest = sentence;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let (mark, after) = after.split_once('}').unwrap_or((after, ""));
        filled.push_str(names.iter().find(|(name, _)| *name == mark).map_or("", |(_, value)| value));
        rest = after;
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every sentence, with its place in the declaration.
    fn sentences(words: &Words) -> Vec<&'static str> {
        let w = words;
        let mut sentences = vec![
            w.ask_category,
            w.ask_all,
            w.ask_note,
            w.unsubscribe,
            w.done,
            w.done_category,
            w.done_all,
            w.stays,
            w.undo,
            w.undone,
            w.undone_category,
            w.undone_all,
            w.locked_category,
            w.locked_for_everybody,
            w.locked_by_role,
            w.always_on,
            w.manage,
            w.preferences,
            w.preferences_intro,
            w.nothing_to_choose,
            w.how_often,
            w.immediate,
            w.hourly,
            w.daily,
            w.weekly,
            w.digests,
            w.digests_note,
            w.digest_time,
            w.digest_weekday,
            w.tenant_chooses,
            w.quiet_hours,
            w.quiet_note,
            w.quiet_from,
            w.quiet_until,
            w.save,
            w.saved,
            w.not_saved,
            w.wrong_time,
            w.half_quiet,
            w.same_times,
            w.wrong_choice,
            w.now_locked,
            w.ask_acknowledge,
            w.ask_resolve,
            w.acknowledge,
            w.resolve,
            w.acknowledged,
            w.acknowledged_note,
            w.resolved,
            w.resolved_note,
            w.answered,
            w.answered_note,
            w.collected,
            w.collected_note,
            w.further,
            w.link_used,
            w.link_used_note,
            w.link_expired,
            w.link_expired_note,
            w.not_found,
            w.not_found_note,
            w.bad_form,
            w.bad_form_note,
            w.unavailable,
            w.unavailable_note,
            w.email,
            w.sms,
            w.push,
            w.slack,
            w.teams,
            w.voice,
            w.in_app,
        ];
        sentences.extend(w.weekdays);
        sentences
    }

    fn marks(sentence: &str) -> Vec<&str> {
        let mut marks: Vec<_> = sentence.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0)).collect();
        marks.sort_unstable();
        marks
    }

    #[test]
    fn every_language_says_the_same_of_the_same_names() {
        let english = sentences(Language::English.words());
        for language in Language::ALL {
            for (sentence, wanted) in sentences(language.words()).into_iter().zip(&english) {
                assert!(!sentence.trim().is_empty());
                assert_eq!(marks(sentence), marks(wanted), "{language}: {sentence}");
                assert_eq!(sentence.matches(['{', '}']).count(), 2 * marks(sentence).len(), "{language}: {sentence}");
            }
        }
    }

    /// A sentence that was forgotten is most often an English one, or another language's.
    #[test]
    fn every_language_has_its_own_script() {
        for (language, script) in [
            (Language::Hindi, '\u{900}'..='\u{97f}'),
            (Language::Marathi, '\u{900}'..='\u{97f}'),
            (Language::Bengali, '\u{980}'..='\u{9ff}'),
            (Language::Tamil, '\u{b80}'..='\u{bff}'),
            (Language::Telugu, '\u{c00}'..='\u{c7f}'),
        ] {
            for sentence in sentences(language.words()) {
                let is_brand = ["Slack", "Microsoft Teams"].contains(&sentence);
                assert!(is_brand || sentence.chars().any(|c| script.contains(&c)), "{language}: {sentence}");
                let is_foreign = |c: char| ('\u{900}'..='\u{c7f}').contains(&c) && !script.contains(&c) && c != '।';
                assert!(!sentence.chars().any(is_foreign), "{language}: {sentence}");
            }
        }
        for (one, other) in [
            (Language::English, Language::German),
            (Language::English, Language::French),
            (Language::English, Language::Spanish),
            (Language::French, Language::Spanish),
            (Language::Hindi, Language::Marathi),
        ] {
            let (one, other) = (sentences(one.words()), sentences(other.words()));
            // What is more than a word or two differs between any two languages.
            let same: Vec<_> = one.iter().zip(&other).filter(|(a, b)| a == b && a.len() > 40).collect();
            assert!(same.is_empty(), "{same:?}");
        }
    }

    #[test]
    fn the_first_language_that_is_written_is_chosen() {
        let locales = |tags: &[&str]| tags.iter().map(|tag| Locale::parse(tag).unwrap()).collect::<Vec<_>>();
        for (tags, wanted) in [
            (locales(&["hi-IN"]), Language::Hindi),
            (locales(&["gu-IN", "mr"]), Language::Marathi),
            (locales(&["de-CH-1996", "fr"]), Language::German),
            (locales(&["zh-Hant"]), Language::English),
            (locales(&[]), Language::English),
        ] {
            assert_eq!(Language::choose(&tags), wanted, "{tags:?}");
        }
    }

    #[test]
    fn braces_in_a_name_stay_what_they_are() {
        let names = [("tenant", "{category}"), ("category", "a}b")];
        assert_eq!(fill("{category} of {tenant}!", &names), "a}b of {category}!");
        assert_eq!(fill("no names", &names), "no names");
    }
}
