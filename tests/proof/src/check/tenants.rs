//! Whose is what: I4.

use super::lookup::Lookup;
use super::{Found, Invariant};

/// I4: a mail carries its own tenant's tag and goes to its own delivery's address, an attempt and a dead letter belong to
/// their delivery's tenant, and nobody saw a row of somebody else's.
///
/// What a tenant can reach through the API shows only where the run looked: those are the history's sightings.
pub(super) fn check_i4(lookup: &Lookup<'_>, found: &mut Found) {
    for (key, story) in lookup.stories() {
        let Some(delivery) = story.delivery else {
            found.add_of(Invariant::I4, key, format!("is no delivery of {}", key.0));
            continue;
        };
        for call in &story.calls {
            if call.tenant != Some(delivery.tenant) {
                found.add_of(Invariant::I4, key, format!("was sent with the tag of tenant {:?}", call.tenant));
            }
            if call.address != delivery.address {
                found.add_of(Invariant::I4, key, "was sent to another address than its own");
            }
        }
    }
    for sighting in &lookup.history.sightings {
        if sighting.seen_by != sighting.owner {
            let what = format!("{} saw {} of {}", sighting.seen_by, sighting.what, sighting.owner);
            found.add(Invariant::I4, what);
        }
    }
}
