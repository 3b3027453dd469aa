//! What the preference centre's form sends, and what it changes.
//!
//! The names of its fields: `shown` for each switch that was there, `on:CHANNEL:CATEGORY` where one is on,
//! `cadence:CATEGORY`, `quiet_from`, `quiet_until`, `digest_time`, `digest_weekday`. A browser sends nothing for a switch
//! that is off, so only what was shown can be switched off: a category that is new since then is not. The last two are
//! newer than some pages that are open: what such a page does not send stays as it is.

use super::preferences::Sheet;
use crate::delivery::Channel;
use crate::id::CategoryKey;
use crate::preference::{Cadence, DigestChoice, QuietChoice, parse_time, print_time};
use std::collections::{BTreeMap, BTreeSet};

/// What somebody changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreferenceChange {
    /// For each category that can be chosen, in the order of the page.
    pub categories: Vec<CategoryChange>,
    /// For all of them.
    pub quiet_hours: QuietChoice,
    /// For what is collected.
    pub digest: DigestChoice,
}

/// What somebody changed about a category.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CategoryChange {
    /// Which.
    pub key: CategoryKey,
    /// The channels that are on now, and those that are off.
    pub channels: Vec<(Channel, bool)>,
    /// How often, where it was chosen.
    pub cadence: Option<Cadence>,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormError {
    /// Not a time of the day.
    WrongTime,
    /// The other time is missing.
    HalfQuiet,
    /// Both times are the same.
    SameTimes,
    /// None of the options.
    WrongChoice,
    /// It became mandatory after the page was shown.
    NowLocked,
}

/// The form as it stands: what is stored, or what somebody sent, with what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreferenceForm {
    /// By channel and category.
    pub(super) switches: BTreeMap<(Channel, CategoryKey), bool>,
    /// By category.
    pub(super) cadences: BTreeMap<CategoryKey, Cadence>,
    /// As it was written.
    pub(super) quiet_from: String,
    /// As it was written.
    pub(super) quiet_until: String,
    /// As it was written.
    pub(super) digest_time: String,
    /// By ISO 8601; `None` leaves it to the tenant.
    pub(super) digest_weekday: Option<i8>,
    /// What is wrong with which field, by the field's name.
    pub(super) errors: BTreeMap<String, FormError>,
    shown: BTreeSet<(Channel, CategoryKey)>,
}

/// The name of the field with the time of digests.
pub(super) const DIGEST_TIME: &str = "digest_time";
/// The name of the field with the weekday of digests.
pub(super) const DIGEST_WEEKDAY: &str = "digest_weekday";

/// The name of a switch's field.
pub(super) fn switch_name(channel: Channel, key: &CategoryKey) -> String {
    format!("on:{channel}:{key}")
}

/// The name of a choice's field.
pub(super) fn cadence_name(key: &CategoryKey) -> String {
    format!("cadence:{key}")
}

/// A switch by what stands in `shown` and behind `on:`.
fn parse_switch(text: &str) -> Option<(Channel, CategoryKey)> {
    let (channel, key) = text.split_once(':')?;
    Some((Channel::parse(channel)?, CategoryKey::parse(key).ok()?))
}

impl PreferenceForm {
    /// The form with what is stored.
    pub fn of(sheet: &Sheet) -> Self {
        let mut form = Self {
            switches: BTreeMap::new(),
            cadences: BTreeMap::new(),
            quiet_from: String::new(),
            quiet_until: String::new(),
            digest_time: sheet.digest.time.map(print_time).unwrap_or_default(),
            digest_weekday: sheet.digest.weekday,
            errors: BTreeMap::new(),
            shown: BTreeSet::new(),
        };
        for category in &sheet.categories {
            for channel in &category.channels {
                form.switches.insert((channel.channel, category.key.clone()), channel.is_on);
            }
            form.cadences.insert(category.key.clone(), category.cadence);
        }
        if let QuietChoice::Hours(hours) = sheet.quiet_hours {
            form.quiet_from = print_time(hours.from);
            form.quiet_until = print_time(hours.until);
        }
        form
    }

    /// The form as somebody sent it; `None` where it is not one of our page, as far as anybody can tell.
    ///
    /// Fields of categories that are gone are passed over: there is nothing left to choose.
    pub fn read(sheet: &Sheet, fields: &[(String, String)]) -> Option<Self> {
        let mut form = Self::of(sheet);
        form.quiet_from = String::new();
        form.quiet_until = String::new();
        let mut on = BTreeSet::new();
        let mut has_quiet = (false, false);
        for (name, value) in fields {
            match name.as_str() {
                "shown" => drop(form.shown.insert(parse_switch(value)?)),
                "quiet_from" => {
                    form.quiet_from = value.trim().to_owned();
                    has_quiet.0 = true;
                }
                "quiet_until" => {
                    form.quiet_until = value.trim().to_owned();
                    has_quiet.1 = true;
                }
                DIGEST_TIME => form.digest_time = value.trim().to_owned(),
                DIGEST_WEEKDAY => form.read_weekday(value),
                name => match name.split_once(':')? {
                    ("on", switch) => drop(on.insert(parse_switch(switch)?)),
                    ("cadence", key) => form.read_cadence(sheet, CategoryKey::parse(key).ok()?, value),
                    _ => return None,
                },
            }
        }
        if has_quiet != (true, true) || !on.is_subset(&form.shown) {
            return None;
        }
        for category in &sheet.categories {
            for channel in &category.channels {
                let switch = (channel.channel, category.key.clone());
                if !form.shown.contains(&switch) {
                    continue;
                }
                let is_on = on.contains(&switch);
                if category.lock.is_some() && !is_on {
                    form.errors.insert(switch_name(channel.channel, &category.key), FormError::NowLocked);
                } else {
                    form.switches.insert(switch, is_on);
                }
            }
        }
        form.check_quiet_hours();
        if !form.digest_time.is_empty() && parse_time(&form.digest_time).is_err() {
            form.errors.insert(DIGEST_TIME.to_owned(), FormError::WrongTime);
        }
        Some(form)
    }

    fn read_cadence(&mut self, sheet: &Sheet, key: CategoryKey, value: &str) {
        if !sheet.categories.iter().any(|category| category.key == key) {
            return;
        }
        match Cadence::parse(value) {
            Some(cadence) => drop(self.cadences.insert(key, cadence)),
            None => drop(self.errors.insert(cadence_name(&key), FormError::WrongChoice)),
        }
    }

    /// Reads a day as the page writes it, from 1 to 7, or nothing where the tenant is to choose.
    fn read_weekday(&mut self, value: &str) {
        let day = (1..=7).find(|day: &i8| day.to_string() == value);
        match day {
            None if !value.is_empty() => drop(self.errors.insert(DIGEST_WEEKDAY.to_owned(), FormError::WrongChoice)),
            day => self.digest_weekday = day,
        }
    }

    fn check_quiet_hours(&mut self) {
        let texts = [("quiet_from", self.quiet_from.clone()), ("quiet_until", self.quiet_until.clone())];
        for (name, text) in &texts {
            if !text.is_empty() && parse_time(text).is_err() {
                self.errors.insert((*name).to_owned(), FormError::WrongTime);
            }
        }
        let [(from, first), (until, second)] = &texts;
        match (first.is_empty(), second.is_empty()) {
            (true, false) => drop(self.errors.insert((*from).to_owned(), FormError::HalfQuiet)),
            (false, true) => drop(self.errors.insert((*until).to_owned(), FormError::HalfQuiet)),
            (false, false) if first == second && parse_time(first).is_ok() => {
                self.errors.insert((*until).to_owned(), FormError::SameTimes);
            }
            _ => {}
        }
    }

    /// What is wrong, by the names of the fields.
    pub fn errors(&self) -> impl Iterator<Item = (&str, FormError)> {
        self.errors.iter().map(|(name, error)| (name.as_str(), *error))
    }

    /// What is to be stored; `None` while something is wrong, and then nothing is.
    pub fn change(&self, sheet: &Sheet) -> Option<PreferenceChange> {
        if !self.errors.is_empty() {
            return None;
        }
        let quiet_hours = match (parse_time(&self.quiet_from), parse_time(&self.quiet_until)) {
            (Ok(from), Ok(until)) => QuietChoice::of(from, until),
            _ => QuietChoice::None,
        };
        let categories = sheet.categories.iter().filter_map(|category| {
            let switches = category.channels.iter().map(|channel| (channel.channel, category.key.clone()));
            let channels: Vec<_> = switches
                .filter(|switch| self.shown.contains(switch) && category.lock.is_none())
                .map(|switch| (switch.0, self.switches[&switch]))
                .collect();
            let cadence = self.cadences.get(&category.key).copied().filter(|cadence| *cadence != category.cadence);
            let is_changed = !channels.is_empty() || cadence.is_some();
            is_changed.then(|| CategoryChange { key: category.key.clone(), channels, cadence })
        });
        let digest = DigestChoice { time: parse_time(&self.digest_time).ok(), weekday: self.digest_weekday };
        Some(PreferenceChange { categories: categories.collect(), quiet_hours, digest })
    }
}
