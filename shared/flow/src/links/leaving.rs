//! What a click changes in what somebody has stated.

use super::Visit;
use super::sheet::{channels_of, lock_of, remove_silence, state};
use crate::api::preferences::hold_preference;
use adapters::store::categories::CategoryRow;
use domain::id::CategoryKey;
use domain::preference::StatedWish;

impl Visit {
    /// Switches off what the link names. Where a channel was switched on for itself, that is taken back, because it would
    /// weigh more.
    pub(super) fn leave(&mut self) {
        let key = self.token.category.clone();
        let kept: Vec<_> = self.locked().map(|category| category.key.clone()).collect();
        for stated in self.stated.iter_mut().filter(|stated| stated.wish.is_on == Some(true)) {
            let is_concerned = match (&key, &stated.category) {
                (Some(left), category) => category.as_ref() == Some(left),
                (None, Some(category)) => !kept.iter().any(|kept| kept == category.as_str()),
                (None, None) => true,
            };
            if is_concerned {
                stated.wish.is_on = None;
            }
        }
        state(&mut self.stated, key.as_ref(), None).is_on = Some(false);
        remove_silence(&mut self.stated);
    }

    /// Takes back that the link's category, or everything, was switched off. What was switched off beside it stays off.
    ///
    /// Of everything, what the tenant wants holds again. One category is switched on where it would still be off.
    pub(super) fn come_back(&mut self) {
        let key = self.token.category.clone();
        state(&mut self.stated, key.as_ref(), None).is_on = None;
        remove_silence(&mut self.stated);
        if let Some(key) = key
            && self.has_left_category(&key)
        {
            state(&mut self.stated, Some(&key), None).is_on = Some(true);
        }
    }

    /// Whether nothing of what the link names is sent any more.
    pub(super) fn has_left(&self) -> bool {
        match &self.token.category {
            Some(key) => self.has_left_category(key),
            None => {
                let says_no = |stated: &StatedWish| {
                    stated.category.is_none() && stated.channel.is_none() && stated.wish.is_on == Some(false)
                };
                self.stated.iter().any(says_no) && self.open_categories().all(|category| self.is_off(category))
            }
        }
    }

    fn has_left_category(&self, key: &CategoryKey) -> bool {
        match self.categories.iter().find(|category| category.key == key.as_str()) {
            Some(category) => self.is_off(category),
            // It is gone; what was said of it is not.
            None => self.stated.iter().any(|stated| {
                stated.category.as_ref() == Some(key) && stated.channel.is_none() && stated.wish.is_on == Some(false)
            }),
        }
    }

    fn open_categories(&self) -> impl Iterator<Item = &CategoryRow> {
        self.categories.iter().filter(|category| lock_of(category, &self.subject.roles).is_none())
    }

    fn is_off(&self, category: &CategoryRow) -> bool {
        channels_of(&self.subject).into_iter().all(|channel| {
            !hold_preference(category, channel, &self.stated, &self.tenants, &self.subject.roles).is_on.value
        })
    }
}
