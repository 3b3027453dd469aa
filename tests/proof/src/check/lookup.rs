//! A history by delivery, so that each check is one pass.

use crate::history::{Attempt, Claim, DeadLetter, Delivery, History, ProviderCall, Transition};
use domain::id::{DeliveryId, NotificationId, TenantId};
use std::collections::HashMap;

/// What a delivery's row is found by.
pub(super) type Key = (TenantId, DeliveryId);

/// A delivery with everything that happened to it.
pub(super) struct Story<'a> {
    /// The row at the end; `None` where something names a delivery that is not there.
    pub(super) delivery: Option<&'a Delivery>,
    /// In the order of their numbers.
    pub(super) attempts: Vec<&'a Attempt>,
    /// In the order of their numbers.
    pub(super) claims: Vec<&'a Claim>,
    /// In the order in which they happened.
    pub(super) transitions: Vec<&'a Transition>,
    /// In the order of their attempts.
    pub(super) calls: Vec<&'a ProviderCall>,
    pub(super) dead_letters: Vec<&'a DeadLetter>,
}

impl<'a> Story<'a> {
    fn empty() -> Self {
        Self {
            delivery: None,
            attempts: Vec::new(),
            claims: Vec::new(),
            transitions: Vec::new(),
            calls: Vec::new(),
            dead_letters: Vec::new(),
        }
    }

    pub(super) fn attempt(&self, number: u32) -> Option<&'a Attempt> {
        self.attempts.iter().find(|attempt| attempt.number == number).copied()
    }

    pub(super) fn claim(&self, number: u32) -> Option<&'a Claim> {
        self.claims.iter().find(|claim| claim.attempt == number).copied()
    }
}

/// A history by delivery.
pub(super) struct Lookup<'a> {
    pub(super) history: &'a History,
    stories: HashMap<Key, Story<'a>>,
    /// The deliveries of each notification.
    by_notification: HashMap<NotificationId, Vec<&'a Delivery>>,
    /// Calls that name no notification which is there.
    pub(super) stray_calls: Vec<&'a ProviderCall>,
}

impl<'a> Lookup<'a> {
    pub(super) fn of(history: &'a History) -> Self {
        let mut stories: HashMap<Key, Story<'a>> = HashMap::with_capacity(history.deliveries.len());
        let mut by_notification: HashMap<NotificationId, Vec<&'a Delivery>> = HashMap::new();
        for delivery in &history.deliveries {
            stories.entry((delivery.tenant, delivery.id)).or_insert_with(Story::empty).delivery = Some(delivery);
            by_notification.entry(delivery.notification).or_default().push(delivery);
        }
        let mut lookup = Self { history, stories, by_notification, stray_calls: Vec::new() };
        for attempt in &history.attempts {
            lookup.story_mut((attempt.tenant, attempt.delivery)).attempts.push(attempt);
        }
        for claim in &history.claims {
            lookup.story_mut((claim.tenant, claim.delivery)).claims.push(claim);
        }
        for transition in &history.transitions {
            lookup.story_mut((transition.tenant, transition.delivery)).transitions.push(transition);
        }
        for letter in &history.dead_letters {
            if let Some(delivery) = letter.delivery {
                lookup.story_mut((letter.tenant, delivery)).dead_letters.push(letter);
            }
        }
        for call in &history.calls {
            // One channel so far: a notification has one delivery that a provider call can be for.
            let named = call.notification.and_then(|notification| lookup.by_notification.get(&notification));
            match named.and_then(|deliveries| deliveries.first()).map(|delivery| (delivery.tenant, delivery.id)) {
                Some(key) => lookup.story_mut(key).calls.push(call),
                None => lookup.stray_calls.push(call),
            }
        }
        for story in lookup.stories.values_mut() {
            story.attempts.sort_by_key(|attempt| attempt.number);
            story.claims.sort_by_key(|claim| claim.attempt);
            story.calls.sort_by_key(|call| (call.attempt, call.at));
        }
        lookup
    }

    fn story_mut(&mut self, key: Key) -> &mut Story<'a> {
        self.stories.entry(key).or_insert_with(Story::empty)
    }

    pub(super) fn story(&self, key: Key) -> Option<&Story<'a>> {
        self.stories.get(&key)
    }

    /// Every delivery that anything names, in the order of ids, so that a report reads the same each time.
    pub(super) fn stories(&self) -> Vec<(Key, &Story<'a>)> {
        let mut stories: Vec<_> = self.stories.iter().map(|(key, story)| (*key, story)).collect();
        stories.sort_by_key(|(key, _)| *key);
        stories
    }

    pub(super) fn deliveries_of(&self, notification: NotificationId) -> &[&'a Delivery] {
        self.by_notification.get(&notification).map_or(&[], Vec::as_slice)
    }
}
