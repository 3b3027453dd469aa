//! Closes digests: decides about each, creates the notifications of those that leave, and writes what became of what waited.

use super::fitting::tell_refusal;
use super::{ACTOR, DigestCounts};
use crate::creation::{Created, Wanted, create_notifications};
use crate::message::make_link;
use adapters::ids::new_uuid;
use adapters::store::database::{StoreError, TenantTransaction};
use adapters::store::digests::{self as store, ClosedDigest, DigestContext, Fate};
use adapters::store::escalations::tell;
use domain::digest::{
    Closing, DigestKey, MAX_ITEMS, Member, OpenDigest, Section, Standing, close_period, list_sections,
};
use domain::id::{DeliveryId, NotificationId};
use domain::link::PublicUrl;
use domain::notification::NotificationRequest;
use domain::queue::Publication;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};

/// What is to be written of a batch.
#[derive(Default)]
struct Batch {
    closed: Vec<ClosedDigest>,
    wanted: Vec<Wanted>,
    fates: Vec<(DeliveryId, Fate)>,
}

/// Closes digests, and returns what to publish once that is committed.
pub(super) async fn close_all(
    transaction: &mut TenantTransaction,
    context: &DigestContext,
    open: &[OpenDigest],
    public_url: &PublicUrl,
    counts: &mut DigestCounts,
) -> Result<Vec<Publication>, StoreError> {
    if open.is_empty() {
        return Ok(Vec::new());
    }
    let mut categories: Vec<String> = open.iter().map(|open| open.key.category.as_str().to_owned()).collect();
    categories.sort();
    categories.dedup();
    let more_urls: HashMap<_, _> = store::read_more_urls(transaction, &categories).await?.into_iter().collect();
    let mut batch = Batch::default();
    for open in open {
        let closing = close_period(open, context.now);
        let fate = match closing {
            Closing::Send(period_end) => {
                let notification = NotificationId::from_uuid(new_uuid());
                let own_url = || public_url.collected(&make_link(transaction.tenant(), notification));
                let url = more_urls.get(open.key.category.as_str()).cloned().unwrap_or_else(own_url);
                batch.add(open, notification, period_end, &url);
                Fate::Absorbed(notification)
            }
            Closing::Postpone(next) => Fate::Postponed(next),
            Closing::Release | Closing::Nothing => Fate::Released,
        };
        batch.fates.extend(open.members.iter().map(|member| (member.delivery, fate_of(member, fate))));
    }
    let Created { publications, refused } = create_notifications(transaction, ACTOR, &batch.wanted).await?;
    adapters::failpoint!("G3_created", Err(StoreError::Corrupt("failpoint")));
    counts.refused += refused.len();
    let lost: HashSet<NotificationId> = refused.iter().map(|(place, _)| batch.closed[*place].notification).collect();
    // One line for a batch: what is wrong with a category is wrong with all its digests.
    if let Some((place, refusal)) = refused.first() {
        tracing::warn!(
            tenant_id = %transaction.tenant(),
            category = batch.closed[*place].key.category.as_str(),
            "{} digests could not be made; the first one: {refusal}",
            refused.len()
        );
        let event = |(place, refusal): &(usize, _)| tell_refusal(transaction.tenant(), &batch.closed[*place], refusal);
        let events: Vec<_> = refused.iter().map(event).collect();
        tell(transaction, &events).await?;
    }
    // Without its digest, each goes by itself.
    if !lost.is_empty() {
        batch.closed.retain(|closed| !lost.contains(&closed.notification));
        for (_, fate) in &mut batch.fates {
            if matches!(fate, Fate::Absorbed(notification) if lost.contains(notification)) {
                *fate = Fate::Released;
            }
        }
    }
    let Batch { closed, fates, .. } = batch;
    if !closed.is_empty() || !fates.is_empty() {
        store::write_digests(transaction, &closed, &fates).await?;
    }
    counts.digests += closed.len();
    counts.count(&fates);
    Ok(publications)
}

/// Lets what waits for digests that cannot be closed go by itself.
pub(super) async fn release_all(
    transaction: &mut TenantTransaction,
    open: &[OpenDigest],
    counts: &mut DigestCounts,
) -> Result<(), StoreError> {
    let members = open.iter().flat_map(|open| &open.members);
    let fates: Vec<_> = members.map(|member| (member.delivery, fate_of(member, Fate::Released))).collect();
    if !fates.is_empty() {
        store::write_digests(transaction, &[], &fates).await?;
    }
    counts.count(&fates);
    Ok(())
}

impl Batch {
    /// Adds a digest that leaves.
    fn add(&mut self, open: &OpenDigest, notification: NotificationId, period_end: Timestamp, more_url: &str) {
        let DigestKey { recipient, category, channel } = &open.key;
        let sections = list_sections(&open.members);
        let member_count = sections.iter().map(|section| section.count).sum();
        let data = print_sections(&sections, period_end, more_url);
        let mut request = NotificationRequest::to_recipient(category.clone(), recipient.clone(), data);
        request.channels = Some(vec![*channel]);
        self.wanted.push(Wanted { id: notification, request });
        self.closed.push(ClosedDigest {
            notification,
            key: open.key.clone(),
            period_end,
            is_regular: open.round.is_some(),
            member_count,
        });
    }
}

fn fate_of(member: &Member, fate: Fate) -> Fate {
    match member.standing {
        Standing::Waiting => fate,
        Standing::Expired => Fate::Expired,
        Standing::Gone => Fate::Gone,
    }
}

/// What the digest's template is given.
pub(super) fn print_sections(sections: &[Section], period_end: Timestamp, more_url: &str) -> Value {
    let count: usize = sections.iter().map(|section| section.count).sum();
    let shown: usize = sections.iter().map(|section| section.items.len()).sum();
    debug_assert!(shown <= MAX_ITEMS, "a digest shows {MAX_ITEMS} items at most");
    let print = |section: &Section| {
        let Section { category, name, count, items } = section;
        json!({"category": category, "name": name, "count": count, "more_count": count - items.len(), "items": items})
    };
    json!({
        "period_end": period_end,
        "count": count,
        "more_count": count - shown,
        "more_url": more_url,
        "sections": sections.iter().map(print).collect::<Value>(),
    })
}
