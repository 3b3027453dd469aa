//! Closes digests: what recipients want to hear of by the hour, day or week leaves as one message for each of them.
//!
//! The cast: the processor puts aside what a cadence holds (`store::attempts`); `store::digests` takes what is due, tenant
//! by tenant; `domain::digest` decides about each recipient; `creation` makes the notifications, in the transaction that
//! marks what left with them. Categories with a rhythm of their own are closed zone by zone: by rounds.
//!
//! A period is closed once, because the database keeps one digest for it. A crash rolls a batch back, and the next run
//! takes it again. Should none run, the dispatcher sends each delivery by itself a day after its period's end.

use crate::creation::{Created, Wanted, create_notifications};
use crate::job::Done;
use adapters::ids::new_uuid;
use adapters::store::database::{Database, StoreError, TenantTransaction};
use adapters::store::digests::{self as store, ClosedDigest, DigestContext, DueRound, Fate};
use adapters::telemetry::chain;
use domain::decision::cadence_due;
use domain::digest::{
    Closing, DigestKey, MAX_ITEMS, Member, OpenDigest, Round, Section, Standing, close_period, is_same_period,
    latest_period_end, list_sections,
};
use domain::id::{DeliveryId, NotificationId, TenantId};
use domain::notification::NotificationRequest;
use domain::queue::{Publication, Queue};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

/// Recipients whose digests one transaction closes.
const BATCH: u32 = 500;
/// Rounds that one transaction plans; more than there are zones.
const PLANNED: u32 = 1000;
/// Nothing new is begun with less time than this left.
const RESERVE: Duration = Duration::from_secs(10);
/// Who the audit log names.
const ACTOR: &str = "digest";

/// The flow with what it needs.
pub struct Digest<Q> {
    /// As `harkara_worker`.
    pub database: Database,
    /// The deliveries queue.
    pub queue: Q,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DigestCounts {
    /// Digests that left.
    pub digests: usize,
    /// Deliveries that left with them.
    pub members: usize,
    /// Deliveries that expired while they waited.
    pub expired: usize,
    /// Deliveries that wait for the next period, because theirs was closed.
    pub postponed: usize,
    /// Deliveries that go by themselves, because no digest can.
    pub released: usize,
    /// Digests that could not be made.
    pub refused: usize,
    /// Transactions.
    pub batches: usize,
    /// Tenants of which not everything could be closed.
    pub failed_tenants: usize,
    /// Whether more was due when the deadline was near.
    pub leaves_work: bool,
}

impl DigestCounts {
    /// As the function answers.
    pub fn print(&self) -> Value {
        let Self { digests, members, expired, postponed, released, refused, batches, failed_tenants, leaves_work: _ } =
            self;
        json!({
            "digests": digests, "members": members, "expired": expired, "postponed": postponed, "released": released,
            "refused": refused, "batches": batches, "failed_tenants": failed_tenants,
        })
    }
}

impl From<DigestCounts> for Done {
    fn from(counts: DigestCounts) -> Self {
        Self { counts: counts.print(), leaves_work: counts.leaves_work }
    }
}

/// Whether a tenant may have more to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    MoreToDo,
    Done,
}

/// What is to be written of a batch.
#[derive(Default)]
struct Batch {
    closed: Vec<ClosedDigest>,
    wanted: Vec<Wanted>,
    fates: Vec<(DeliveryId, Fate)>,
}

impl<Q: Queue + Sync> Digest<Q> {
    /// Works until nothing is due or the deadline is near. Tenants take turns, a batch each; one that fails is passed over.
    pub async fn run(&self, deadline: Instant) -> Result<DigestCounts, StoreError> {
        let mut counts = DigestCounts::default();
        let mut tenants: VecDeque<TenantId> = store::list_tenants_across_tenants(&self.database).await?.into();
        while has_time(deadline) {
            let Some(tenant) = tenants.pop_front() else { break };
            match self.close_batch(tenant, &mut counts).await {
                Ok(Turn::MoreToDo) => tenants.push_back(tenant),
                // What is suspended waits until it is not.
                Ok(Turn::Done) | Err(StoreError::TenantInactive) => {}
                Err(error) => {
                    counts.failed_tenants += 1;
                    tracing::error!(tenant_id = %tenant, error = chain(&error), "digests of {tenant} were not closed");
                }
            }
        }
        counts.leaves_work = !tenants.is_empty();
        let DigestCounts {
            digests,
            members,
            expired,
            postponed,
            released,
            refused,
            batches,
            failed_tenants,
            leaves_work,
        } = counts;
        tracing::info!(
            digests,
            members,
            expired,
            postponed,
            released,
            refused,
            batches,
            failed_tenants,
            leaves_work,
            "closed what was due"
        );
        Ok(counts)
    }

    /// Closes up to a batch of a tenant's digests, and publishes their messages after the commit.
    async fn close_batch(&self, tenant: TenantId, counts: &mut DigestCounts) -> Result<Turn, StoreError> {
        let mut transaction = self.database.begin(tenant, ACTOR).await?;
        let Some(context) = store::try_lock(&mut transaction).await? else {
            transaction.roll_back().await?;
            return Ok(Turn::Done);
        };
        plan_rounds(&mut transaction, &context).await?;
        let mut open = Vec::new();
        let mut turn = Turn::Done;
        if let Some(round) = store::read_due_round(&mut transaction).await? {
            open = open_round(&mut transaction, &context, &round).await?;
            turn = Turn::MoreToDo;
        } else {
            let due = store::read_due_digests(&mut transaction, BATCH).await?;
            if !due.is_empty() {
                open = due;
                store::read_members(&mut transaction, &mut open).await?;
                // What somebody else has in hand is not asked for again in this run.
                turn = if open.iter().any(|open| !open.members.is_empty()) { Turn::MoreToDo } else { Turn::Done };
            }
        }
        let publications = close_all(&mut transaction, &context, &open, counts).await?;
        transaction.commit().await?;
        counts.batches += 1;
        // What the queue does not take, the dispatcher publishes later.
        self.queue.publish(&publications).await;
        Ok(turn)
    }
}

async fn plan_rounds(transaction: &mut TenantTransaction, context: &DigestContext) -> Result<(), StoreError> {
    let unplanned = store::read_unplanned(transaction, PLANNED).await?;
    if unplanned.is_empty() {
        return Ok(());
    }
    let planned: Vec<_> = unplanned
        .into_iter()
        .map(|round| {
            let due = cadence_due(round.cadence, context.now, &round.zone, context.time);
            (round, due)
        })
        .collect();
    store::plan_rounds(transaction, &planned).await
}

/// The digests of a round's next recipients, and the round moved on behind them.
async fn open_round(
    transaction: &mut TenantTransaction,
    context: &DigestContext,
    round: &DueRound,
) -> Result<Vec<OpenDigest>, StoreError> {
    let (now, time) = (context.now, context.time);
    // Of periods that were missed, the latest counts. Once it is begun it stays the same to its end.
    let period_end = match round.after {
        Some(_) => round.due,
        None => latest_period_end(round.cadence, round.due, now, &round.zone, time),
    };
    let recipients = store::read_round_recipients(transaction, round, BATCH).await?;
    let is_last = recipients.len() < BATCH as usize;
    let last = recipients.last().map(|recipient| recipient.key.clone());
    let mut open = Vec::new();
    for recipient in recipients {
        if recipient.regular_to.is_some_and(|last| is_same_period(round.cadence, last, period_end)) {
            continue;
        }
        open.extend(round.channels.iter().map(|channel| OpenDigest {
            key: DigestKey { recipient: recipient.key.clone(), category: round.category.clone(), channel: *channel },
            zone: round.zone.clone(),
            closed_to: recipient.closed_to,
            round: Some(Round { period_end, send_empty: round.send_empty || recipient.is_mandatory }),
            members: Vec::new(),
        }));
    }
    let asked = open.len();
    store::read_members(transaction, &mut open).await?;
    let is_cut = open.len() < asked;
    let after = if is_cut { open.last().map(|open| open.key.recipient.clone()) } else { last };
    if is_last && !is_cut {
        let next = cadence_due(round.cadence, now.max(period_end), &round.zone, time);
        store::move_round(transaction, round, next, None).await?;
    } else {
        store::move_round(transaction, round, period_end, after.as_ref()).await?;
    }
    Ok(open)
}

/// Decides about each digest, creates those that leave, and writes what became of what waited.
async fn close_all(
    transaction: &mut TenantTransaction,
    context: &DigestContext,
    open: &[OpenDigest],
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
        let closing = close_period(open, context.now, context.time);
        let fate = match closing {
            Closing::Send(period_end) => {
                let url = more_urls.get(open.key.category.as_str()).map(String::as_str);
                Fate::Absorbed(batch.add(open, period_end, url))
            }
            Closing::Postpone(next) => Fate::Postponed(next),
            Closing::Release | Closing::Nothing => Fate::Released,
        };
        batch.fates.extend(open.members.iter().map(|member| (member.delivery, fate_of(member, fate))));
    }
    let Created { publications, refused } = create_notifications(transaction, ACTOR, &batch.wanted).await?;
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
    for (_, fate) in &fates {
        match fate {
            Fate::Absorbed(_) => counts.members += 1,
            Fate::Expired => counts.expired += 1,
            Fate::Postponed(_) => counts.postponed += 1,
            Fate::Released => counts.released += 1,
            Fate::Gone => {}
        }
    }
    Ok(publications)
}

impl Batch {
    /// Adds a digest that leaves, and returns the id of its notification.
    fn add(&mut self, open: &OpenDigest, period_end: Timestamp, more_url: Option<&str>) -> NotificationId {
        let DigestKey { recipient, category, channel } = &open.key;
        let notification = NotificationId::from_uuid(new_uuid());
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
        notification
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
fn print_sections(sections: &[Section], period_end: Timestamp, more_url: Option<&str>) -> Value {
    let count: usize = sections.iter().map(|section| section.count).sum();
    let shown: usize = sections.iter().map(|section| section.items.len()).sum();
    debug_assert!(shown <= MAX_ITEMS, "a digest shows {MAX_ITEMS} items at most");
    let print = |section: &Section| {
        let Section { category, name, count, items } = section;
        json!({"category": category, "name": name, "count": count, "more_count": count - items.len(), "items": items})
    };
    let mut data = json!({
        "period_end": period_end,
        "count": count,
        "more_count": count - shown,
        "sections": sections.iter().map(print).collect::<Value>(),
    });
    // A template that declares an address takes none that is null.
    if let Some(url) = more_url {
        data["more_url"] = url.into();
    }
    data
}

fn has_time(deadline: Instant) -> bool {
    deadline.saturating_duration_since(Instant::now()) > RESERVE
}
