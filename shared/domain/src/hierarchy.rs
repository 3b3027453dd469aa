//! Who is whose manager: one for each at most, and nobody is above themselves.

use crate::id::RecipientKey;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Why somebody cannot be somebody's manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManagerRefusal {
    /// There is no such recipient.
    Unknown,
    /// They would be above themselves, directly or through others.
    Cycle,
}

impl fmt::Display for ManagerRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "no recipient has this id; create it with PUT /v1/recipients/{id}",
            Self::Cycle => "would make a cycle of managers",
        })
    }
}

/// Holds what is asked for, each recipient once, against what is there: the manager of each recipient who is stored, as far
/// up as those who are named lead. Answers in the order of `asked`.
///
/// Who is refused is not stored, so that nobody new can have them for a manager either.
pub fn check_managers(
    asked: &[(RecipientKey, Option<RecipientKey>)],
    stored: &BTreeMap<RecipientKey, Option<RecipientKey>>,
) -> Vec<Option<ManagerRefusal>> {
    let mut refusals = vec![None; asked.len()];
    loop {
        let mut managers: BTreeMap<&RecipientKey, Option<&RecipientKey>> =
            stored.iter().map(|(id, manager)| (id, manager.as_ref())).collect();
        let accepted = asked.iter().zip(&refusals).filter(|(_, refusal)| refusal.is_none());
        managers.extend(accepted.map(|((id, manager), _)| (id, manager.as_ref())));
        let mut found = false;
        for ((id, manager), refusal) in asked.iter().zip(&mut refusals).filter(|(_, refusal)| refusal.is_none()) {
            *refusal = manager.as_ref().and_then(|manager| refuse(id, manager, &managers));
            found |= refusal.is_some();
        }
        if !found {
            return refusals;
        }
    }
}

fn refuse(
    id: &RecipientKey,
    manager: &RecipientKey,
    managers: &BTreeMap<&RecipientKey, Option<&RecipientKey>>,
) -> Option<ManagerRefusal> {
    if !managers.contains_key(manager) {
        return Some(ManagerRefusal::Unknown);
    }
    let mut seen = BTreeSet::new();
    let mut above = Some(manager);
    while let Some(next) = above.filter(|next| seen.insert(*next)) {
        if next == id {
            return Some(ManagerRefusal::Cycle);
        }
        above = managers.get(next).copied().flatten();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use ManagerRefusal::{Cycle, Unknown};

    fn key(text: &str) -> RecipientKey {
        RecipientKey::parse(text).expect("a key")
    }

    #[test]
    fn nobody_is_above_themselves_and_everybody_above_is_there() {
        // ada reports to bob, and bob to cleo.
        let stored = [("ada", Some("bob")), ("bob", Some("cleo")), ("cleo", None)];
        let stored = stored.map(|(id, manager)| (key(id), manager.map(key))).into();
        type Case = (&'static [(&'static str, Option<&'static str>)], &'static [Option<ManagerRefusal>]);
        let table: [Case; 9] = [
            (&[("dan", Some("ada"))], &[None]),
            (&[("ada", None)], &[None]),
            (&[("ada", Some("nobody"))], &[Some(Unknown)]),
            (&[("ada", Some("ada"))], &[Some(Cycle)]),
            (&[("dan", Some("dan"))], &[Some(Cycle)]),
            (&[("bob", Some("ada"))], &[Some(Cycle)]),
            (&[("cleo", Some("ada"))], &[Some(Cycle)]),
            // What is asked for at once counts at once, and refusals take others along.
            (&[("ada", None), ("cleo", Some("ada"))], &[None, None]),
            (&[("eve", Some("nobody")), ("dan", Some("eve")), ("fay", None)], &[Some(Unknown), Some(Unknown), None]),
        ];
        for (asked, expected) in table {
            let asked: Vec<_> = asked.iter().map(|(id, manager)| (key(id), manager.map(key))).collect();
            assert_eq!(check_managers(&asked, &stored), expected, "{asked:?}");
        }
    }

    #[test]
    fn a_cycle_that_is_stored_already_holds_nobody_up() {
        let stored = [("ada", Some("bob")), ("bob", Some("ada"))];
        let stored = stored.map(|(id, manager)| (key(id), manager.map(key))).into();
        assert_eq!(check_managers(&[(key("dan"), Some(key("ada")))], &stored), [None]);
    }
}
