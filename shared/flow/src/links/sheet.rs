//! The preference centre's sheet, from what is stored, and back.

use super::Visit;
use crate::api::preferences::hold_preference;
use adapters::store::categories::CategoryRow;
use adapters::store::subjects::SubjectRow;
use domain::delivery::Channel;
use domain::id::CategoryKey;
use domain::page::{Lock, PreferenceChange, Sheet, SheetCategory, SheetChannel};
use domain::preference::StatedWish;
use domain::preference::{Origin, QuietChoice, Wish, resolve_preference};

/// Why somebody with these roles cannot switch a category off, where they cannot.
pub(super) fn lock_of(category: &CategoryRow, roles: &[String]) -> Option<Lock> {
    let mandatory_for = resolve_preference(&[], &category.unmutable_roles, roles).mandatory_for?;
    Some(if mandatory_for == "*" { Lock::ForEverybody } else { Lock::ByRole })
}

/// The channels that somebody can choose between: what is sent by now, and what they have an address for.
pub(super) fn channels_of(subject: &SubjectRow) -> Vec<Channel> {
    let mut channels = Channel::SENDABLE.to_vec();
    if subject.has_phone && !channels.contains(&Channel::Sms) {
        channels.push(Channel::Sms);
    }
    channels
}

/// Everything that a link's subject can choose, and what holds now.
pub(super) fn fill_sheet(visit: &Visit) -> Sheet {
    let Visit { subject, stated, tenants, .. } = visit;
    let categories = visit.categories.iter().filter_map(|category| {
        let held = |channel| hold_preference(category, channel, stated, tenants, &subject.roles);
        let channels = channels_of(subject);
        Some(SheetCategory {
            key: CategoryKey::parse(&category.key).ok()?,
            name: category.name.clone(),
            description: category.description.clone(),
            lock: lock_of(category, &subject.roles),
            cadence: held(*channels.first()?).cadence.value,
            channels: channels
                .into_iter()
                .map(|channel| SheetChannel { channel, is_on: held(channel).is_on.value })
                .collect(),
        })
    });
    Sheet {
        tenant: subject.tenant_name.clone(),
        time_zone: subject.time_zone.clone(),
        categories: categories.collect(),
        quiet_hours: quiet_hours_of(stated, tenants),
        digest: wish_of(stated).map(|wish| wish.digest).unwrap_or_default(),
    }
}

/// What was said about everything.
fn wish_of(wishes: &[StatedWish]) -> Option<Wish> {
    wishes.iter().find(|stated| stated.category.is_none() && stated.channel.is_none()).map(|stated| stated.wish)
}

/// What holds for everything about which nothing more exact was said.
fn quiet_hours_of(stated: &[StatedWish], tenants: &[StatedWish]) -> QuietChoice {
    let general = [(Origin::Recipient, wish_of(stated)), (Origin::Tenant, wish_of(tenants))];
    let wishes: Vec<_> = general.into_iter().filter_map(|(origin, wish)| Some((origin, wish?))).collect();
    resolve_preference(&wishes, &[], &[]).quiet_hours.value
}

/// Enters what somebody chose. Only what differs from what holds is stated, so that the tenant's own choice goes on to
/// hold where somebody left it alone.
pub(super) fn write_change(visit: &mut Visit, change: &PreferenceChange) {
    let before = fill_sheet(visit);
    for changed in &change.categories {
        let Some(category) = before.categories.iter().find(|category| category.key == changed.key) else { continue };
        for (channel, is_on) in &changed.channels {
            let was_on = category.channels.iter().any(|it| it.channel == *channel && it.is_on);
            if was_on != *is_on {
                state(&mut visit.stated, Some(&changed.key), Some(*channel)).is_on = Some(*is_on);
            }
        }
        if let Some(cadence) = changed.cadence {
            // What was said of single channels would weigh more.
            for stated in visit.stated.iter_mut().filter(|stated| stated.category.as_ref() == Some(&changed.key)) {
                stated.wish.cadence = None;
            }
            state(&mut visit.stated, Some(&changed.key), None).cadence = Some(cadence);
        }
    }
    if change.quiet_hours != before.quiet_hours {
        state(&mut visit.stated, None, None).quiet_hours = Some(change.quiet_hours);
    }
    if change.digest != before.digest {
        state(&mut visit.stated, None, None).digest = change.digest;
    }
    remove_silence(&mut visit.stated);
}

/// What is stated about a category and channel, or about all; nothing yet, where nothing is.
pub(super) fn state<'a>(
    stated: &'a mut Vec<StatedWish>,
    category: Option<&CategoryKey>,
    channel: Option<Channel>,
) -> &'a mut Wish {
    let place = stated.iter().position(|it| it.category.as_ref() == category && it.channel == channel);
    let place = place.unwrap_or_else(|| {
        stated.push(StatedWish { category: category.cloned(), channel, wish: Wish::default() });
        stated.len() - 1
    });
    &mut stated[place].wish
}

/// Drops what says nothing any more.
pub(super) fn remove_silence(stated: &mut Vec<StatedWish>) {
    stated.retain(|it| it.wish != Wish::default());
}
