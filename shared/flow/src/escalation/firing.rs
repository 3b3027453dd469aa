//! One turn of each of a tenant's due escalations: parse, decide, write.

use super::telling::event;
use super::{EscalationCounts, FiredBatch};
use crate::creation::{WantedForEach, create_for_each};
use adapters::ids::new_uuid;
use adapters::store::database::{StoreError, TenantTransaction};
use adapters::store::escalation_steps::{DueEscalation, Meant, Written, WrittenStep, find_meant, write_steps};
use adapters::store::escalations::tell;
use adapters::wire::escalation_policies::read_definition;
use domain::delivery::Channel;
use domain::escalation::{
    EscalationState, Fired, MAX_REACHED, Place, Policy, RESERVED, Reach, Turn, Unreached, Whom, find_whole_answer,
    has_fallback, leave_out, plan_next, turn_after,
};
use domain::id::{EscalationId, NotificationId, RecipientKey};
use domain::notification::{NotificationRequest, Recipient};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::mem;

/// Recipients of one transaction's steps: it takes escalations until it has so many, and at least one.
pub(super) const MOST_RECIPIENTS: usize = 5000;
/// The same for what is stored for them, each of whom gets a copy of the data, in bytes of JSON.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// How an acknowledgement came that waited only for somebody who was erased, as events tell it.
const VIA: &str = "erasure";
/// Why an escalation is given up whose own policy cannot be read any more.
const UNREADABLE: &str = "policy_unreadable";

/// What is to be done with a due escalation.
enum Decided {
    Fire { policy: Policy, place: Place },
    Acknowledge { by: String },
    Exhaust,
    GiveUp,
}

/// A step that is being fired, and what becomes of it.
struct Firing<'a> {
    due: &'a DueEscalation,
    policy: &'a Policy,
    place: Place,
    step: WrittenStep,
}

/// Fires what these escalations are due to fire, one turn of each, and writes it. What is too much for one transaction
/// stays due.
pub(super) async fn fire(
    transaction: &mut TenantTransaction,
    actor: &str,
    mut due: Vec<DueEscalation>,
    most_recipients: usize,
) -> Result<FiredBatch, StoreError> {
    if due.is_empty() {
        return Ok(FiredBatch::default());
    }
    let decided: Vec<Decided> = due.iter().map(decide).collect();
    let mut meant = find_recipients(transaction, &due, &decided).await?;
    let sizes = due.iter().enumerate().map(|(at, due)| {
        let recipients = meant.get(&at).map_or(0, |meant| meant.len().min(MAX_REACHED));
        (recipients, recipients * due.data_bytes)
    });
    let taken = count_taken(sizes, most_recipients);
    // It may be large, and is needed once.
    let data: Vec<Value> = due[..taken].iter_mut().map(|due| mem::take(&mut due.data)).collect();
    let (due, decided) = (&due[..taken], &decided[..taken]);

    let mut firings = Vec::new();
    let (mut wanted, mut wanted_by) = (Vec::new(), Vec::new());
    for (at, ((due, decided), data)) in due.iter().zip(decided).zip(data).enumerate() {
        let Decided::Fire { policy, place } = decided else { continue };
        let recipients = meant.remove(&at).unwrap_or_default();
        let (firing, request) = prepare(due, policy, *place, recipients, data);
        if let Some(request) = request {
            wanted_by.push(firings.len());
            wanted.push(request);
        }
        firings.push(firing);
    }
    let created = create_for_each(transaction, actor, &wanted).await?;
    adapters::failpoint!("X3_created", Err(StoreError::Corrupt("failpoint")));
    let mut refusals = created.refused.into_iter().collect::<HashMap<_, _>>();
    let each =
        wanted.iter().zip(wanted_by).flat_map(|(wanted, firing)| known(wanted).map(move |known| (firing, known)));
    for (place, (firing, (id, key))) in each.enumerate() {
        let step = &mut firings[firing].step;
        match refusals.remove(&place) {
            Some(refusal) => step.note = Some(refusal.to_string()),
            None => step.notifications.push((id, key.to_owned())),
        }
    }

    let tenant = transaction.tenant();
    let mut batch = FiredBatch { counts: EscalationCounts::default(), publications: created.publications };
    let (mut written, mut events) = (Vec::new(), Vec::new());
    for mut firing in firings {
        if firing.step.notifications.is_empty() && firing.step.unreached.is_none() {
            firing.step.unreached = Some(Unreached::Refused);
        }
        match firing.step.unreached {
            None => batch.counts.fired += 1,
            Some(_) => batch.counts.unreached += 1,
        }
        batch.counts.notifications += firing.step.notifications.len();
        events.push(event(tenant, firing.due.id, "escalation.step_fired", describe(&firing)));
        written.push(write_firing(firing));
    }
    for (due, decided) in due.iter().zip(decided) {
        let (state, reason, acknowledged_by) = match decided {
            Decided::Fire { .. } => continue,
            Decided::Acknowledge { by } => (EscalationState::Acknowledged, None, Some(by.clone())),
            Decided::Exhaust => (EscalationState::Exhausted, None, None),
            Decided::GiveUp => (EscalationState::Canceled, Some(UNREADABLE), None),
        };
        batch.counts.acknowledged += usize::from(state == EscalationState::Acknowledged);
        batch.counts.exhausted += usize::from(state == EscalationState::Exhausted);
        batch.counts.canceled += usize::from(state == EscalationState::Canceled);
        let detail = match &acknowledged_by {
            Some(by) => json!({"by": by, "via": VIA, "is_whole": true}),
            None => {
                let fired = due.fired.map_or(0, |place| place.level);
                json!({"policy": due.policy, "state": state.as_str(), "level": fired, "reason": reason})
            }
        };
        events.push(event(tenant, due.id, &format!("escalation.{state}"), detail));
        let id = due.id;
        written.push(Written {
            id,
            state,
            reason,
            acknowledged_by,
            next_step_at: None,
            has_fallback: false,
            step: None,
        });
    }
    write_steps(transaction, &written).await?;
    tell(transaction, &events).await?;
    Ok(batch)
}

/// How many steps one transaction takes, given how many recipients each has, and how many bytes are stored for them.
fn count_taken(steps: impl Iterator<Item = (usize, usize)>, most_recipients: usize) -> usize {
    let before = steps.scan((0, 0), |sum: &mut (usize, usize), (recipients, bytes)| {
        let before = *sum;
        *sum = (sum.0 + recipients, sum.1 + bytes);
        Some(before)
    });
    before.take_while(|(recipients, bytes)| *recipients < most_recipients && *bytes < MOST_BYTES).count()
}

fn decide(due: &DueEscalation) -> Decided {
    let Ok(policy) = read_definition(&due.definition) else { return Decided::GiveUp };
    if let Some(by) = find_whole_answer(due.waits_for_nobody, &due.acknowledged) {
        return Decided::Acknowledge { by: by.to_owned() };
    }
    match turn_after(&policy, due.fired) {
        Turn::Fire(place) => Decided::Fire { policy, place },
        Turn::Exhaust => Decided::Exhaust,
    }
}

/// Whom each step means, by its escalation's place. The later tiers of a step mean the same as its first.
async fn find_recipients(
    transaction: &mut TenantTransaction,
    due: &[DueEscalation],
    decided: &[Decided],
) -> Result<HashMap<usize, Vec<String>>, StoreError> {
    let mut asked = Vec::new();
    let mut known = HashMap::new();
    for (at, (due, decided)) in due.iter().zip(decided).enumerate() {
        let Decided::Fire { policy, place } = decided else { continue };
        if place.tier > 1 {
            known.insert(at, due.level_recipients.clone());
            continue;
        }
        let whom = policy.at(*place).map_or(&[][..], |(step, _)| &step.whom);
        asked.extend(whom.iter().map(|whom| (at, meant(whom, &due.previous_recipients))));
    }
    if !asked.is_empty() {
        known.extend(find_meant(transaction, &asked).await?);
    }
    Ok(known)
}

/// Whom a step means, where the one before it meant `before`.
pub(crate) fn meant(whom: &Whom, before: &[String]) -> Meant {
    match whom {
        Whom::Recipient(key) => Meant::Recipient(key.as_str().to_owned()),
        Whom::Role(role) => Meant::Role(role.clone()),
        Whom::Manager => Meant::ManagersOf(before.to_vec()),
    }
}

/// A step as it fires, and the notifications that it asks for.
fn prepare<'a>(
    due: &'a DueEscalation,
    policy: &'a Policy,
    place: Place,
    mut recipients: Vec<String>,
    data: Value,
) -> (Firing<'a>, Option<WantedForEach>) {
    let mut note = None;
    if recipients.len() > MAX_REACHED {
        recipients.truncate(MAX_REACHED);
        note = Some(format!("it means more than {MAX_REACHED} recipients, and reaches the first of them"));
    }
    let left = leave_out(&recipients, &due.acknowledged);
    let channels: Vec<Channel> = policy
        .at(place)
        .into_iter()
        .flat_map(|(_, tier)| &tier.channels)
        .copied()
        .filter(|channel| Channel::SENDABLE.contains(channel))
        .collect();
    let unreached = match () {
        () if recipients.is_empty() => Some(Unreached::NoRecipients),
        () if left.is_empty() => Some(Unreached::AllAcknowledged),
        () if channels.is_empty() => Some(Unreached::NoChannel),
        () => None,
    };
    let step = policy.at(place).filter(|_| unreached.is_none());
    let wanted = step.map(|(step, _)| {
        let keys = left.into_iter().filter_map(|id| RecipientKey::parse(id).ok());
        let recipients: Vec<Recipient> = keys.map(Recipient::Known).collect();
        let data = fill_data(data, due.id, &due.policy, due.started_at, place);
        WantedForEach {
            ids: recipients.iter().map(|_| NotificationId::from_uuid(new_uuid())).collect(),
            request: NotificationRequest {
                recipients,
                channels: Some(channels),
                priority: policy.priority,
                metadata: json!({"escalation_id": due.id.to_string(), "level": place.level}),
                ..NotificationRequest::to_nobody(policy.category_of(step).clone(), data)
            },
        }
    });
    let lifetime = SignedDuration::from_secs(i64::from(policy.link_lifetime_seconds));
    let links_expire_at = due.now + lifetime;
    let step = WrittenStep { place, recipients, notifications: Vec::new(), unreached, note, links_expire_at };
    (Firing { due, policy, place, step }, wanted)
}

/// The escalation's data, and where it stands.
pub(crate) fn fill_data(mut data: Value, id: EscalationId, policy: &str, started_at: Timestamp, place: Place) -> Value {
    data[RESERVED] = json!({
        "id": id.to_string(), "level": place.level, "repeat": place.repeat, "policy": policy, "started_at": started_at,
    });
    data
}

/// The notifications that were asked for, each with whom it is for.
fn known(wanted: &WantedForEach) -> impl Iterator<Item = (NotificationId, &str)> {
    wanted.ids.iter().zip(&wanted.request.recipients).filter_map(|(id, recipient)| match recipient {
        Recipient::Known(key) => Some((*id, key.as_str())),
        Recipient::Inline(_) => None,
    })
}

fn describe(firing: &Firing<'_>) -> Value {
    let Firing { due, place, step, .. } = firing;
    let notifications: Value = step.notifications.iter().map(|(id, _)| id.to_string()).collect();
    json!({
        "policy": due.policy, "level": place.level, "tier": place.tier, "repeat": place.repeat,
        "notification_ids": notifications, "reason": step.unreached.map(|unreached| unreached.as_str()),
    })
}

fn write_firing(firing: Firing<'_>) -> Written {
    let Firing { due, policy, place, step } = firing;
    // What fires now begins its step's time, or belongs to a step that was begun.
    let level_at = due.level_fired_at.filter(|_| place.tier > 1).unwrap_or(due.now);
    let reach = match step.unreached {
        None => Reach::Somebody,
        Some(_) if place.tier > 1 && due.is_level_reached => Reach::NobodyHere,
        Some(_) => Reach::Nobody,
    };
    let next_step_at = plan_next(policy, &Fired { place, at: due.now, level_at, reach });
    Written {
        id: due.id,
        state: EscalationState::Open,
        reason: None,
        acknowledged_by: None,
        next_step_at: Some(next_step_at),
        has_fallback: has_fallback(policy, place),
        step: Some(step),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_takes_steps_until_it_has_recipients_or_bytes_enough_and_at_least_one() {
        let of_small =
            |recipients: &[usize]| count_taken(recipients.iter().map(|recipients| (*recipients, 0)), MOST_RECIPIENTS);
        assert_eq!(of_small(&[1; 200]), 200);
        assert_eq!(of_small(&[0, 0, 3]), 3);
        assert_eq!(of_small(&[1000; 50]), 5);
        assert_eq!(of_small(&[4999, 1000, 1]), 2);
        assert_eq!(of_small(&[100_000, 1]), 1);
        assert_eq!(of_small(&[]), 0);
        assert_eq!(count_taken([(1000, 0); 5].into_iter(), 625), 1, "fewer, where more took too long");
        let of_large = |data: &[usize]| count_taken(data.iter().map(|bytes| (1000, 1000 * bytes)), MOST_RECIPIENTS);
        assert_eq!(of_large(&[16 * 1024; 3]), 1);
        assert_eq!(of_large(&[100, 16 * 1024, 100]), 2);
        assert_eq!(of_large(&[100; 50]), 5);
    }
}
