//! What a function's instance remembers of secrets, and for how long.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// How long something secret may be used after it was fetched.
const LIFETIME: Duration = Duration::from_secs(5 * 60);

/// Remembers values for five minutes, by the wall clock: the other one may stand still while a sandbox is frozen.
///
/// Whatever is too old is dropped at the next use of the memory.
pub(crate) struct ShortMemory<K, V>(Mutex<HashMap<K, (SystemTime, V)>>);

impl<K, V> Default for ShortMemory<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> ShortMemory<K, V> {
    /// What was put there in the last five minutes.
    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.get_at(key, SystemTime::now())
    }

    /// Keeps a value from now on.
    pub(crate) fn put(&self, key: K, value: V) {
        self.put_at(key, value, SystemTime::now());
    }

    fn get_at(&self, key: &K, now: SystemTime) -> Option<V> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back tells no age: what it says is from the future counts as old.
        kept.retain(|_, (since, _)| now.duration_since(*since).is_ok_and(|age| age < LIFETIME));
        kept.get(key).map(|(_, value)| value.clone())
    }

    fn put_at(&self, key: K, value: V, now: SystemTime) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (now, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_forgotten_after_five_minutes_or_when_its_age_is_unknown() {
        let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (now, is_known) in [
            (begin, true),
            (begin + Duration::from_secs(299), true),
            (begin + Duration::from_secs(300), false),
            (begin - Duration::from_secs(1), false),
        ] {
            let memory = ShortMemory::default();
            memory.put_at("key", 1, begin);
            assert_eq!(memory.get_at(&"key", now).is_some(), is_known, "{now:?}");
            assert_eq!(memory.0.lock().expect("no panic").len(), usize::from(is_known), "it is dropped, not hidden");
        }
    }
}
