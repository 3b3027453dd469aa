//! Fires the rungs of deadlines: each once, at its recipient's own time, as a notification like any other.
//!
//! The cast: `store::rungs` takes a bounded batch of one tenant and locks it, `domain::deadline` decides each,
//! `creation` creates the notifications, and one statement writes what became of each rung; all of it in one transaction,
//! so that a reminder that overlaps another, or dies, or runs late, creates each once. Only then the queue is asked; what
//! it does not take, the dispatcher publishes.
//! Of a deadline that has passed, an escalation begins in the same way where it says so; see `overdue`.
//! Tenants take turns. What is wrong with one rung is that rung's, and what is wrong with a tenant that tenant's.

mod overdue;

use crate::creation::{Wanted, create_notifications, say};
use crate::job::Done;
use crate::progress::Progress;
use crate::time_left::has_time;
use adapters::ids::new_uuid;
use adapters::store::database::{Database, StoreError};
use adapters::store::overdue::list_overdue_tenants_across_tenants;
use adapters::store::rungs::{
    KeptDeadline, RungContext, RungOutcome, TakenRung, list_due_tenants_across_tenants, read_rung_context,
    take_due_rungs, write_rungs,
};
use adapters::telemetry::chain;
use domain::deadline::{Note, Rung, RungStep, Side, decide_rung, zone_of};
use domain::id::{CategoryKey, NotificationId, RecipientKey, TenantId};
use domain::notification::NotificationRequest;
use domain::queue::Queue;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::time::Instant;

/// Rungs taken at a time: a short transaction, and fifty queue calls side by side.
const BATCH: u32 = 500;
/// Deadlines of which escalations begin at a time; each may be a thousand notifications.
const OVERDUE_BATCH: u32 = 50;
/// How long a rung, or a deadline that has passed, is set aside that the database does not store.
const SET_ASIDE: SignedDuration = SignedDuration::from_mins(10);
/// The most rungs of a tenant that a run sets aside: where all of them fail, it is not the rungs that are wrong.
const MOST_SET_ASIDE: usize = 10;
/// Who the audit log names.
const ACTOR: &str = "reminder";

/// The flow with what it needs.
pub struct Reminder<Q> {
    /// As `harkara_worker`.
    pub database: Database,
    /// The deliveries queue.
    pub queue: Q,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReminderCounts {
    /// Rungs that became notifications.
    pub fired: usize,
    /// Rungs that became none, by a rule.
    pub skipped: usize,
    /// Escalations that began because a deadline had passed.
    pub escalated: usize,
    /// Rungs that could not become one, and deadlines of which no escalation could begin.
    pub failed: usize,
    /// Rungs that are later than they were, because a zone changed.
    pub replanned: usize,
    /// What the database did not store, and what is tried again later.
    pub set_aside: usize,
    /// Tenants that were passed over: suspended, or in the way of themselves.
    pub tenants_passed_over: usize,
    /// Whether more was due when the deadline was near.
    pub leaves_work: bool,
}

impl ReminderCounts {
    /// As the function answers.
    pub fn print(&self) -> Value {
        let Self { fired, skipped, escalated, failed, replanned, set_aside, tenants_passed_over, leaves_work: _ } =
            self;
        json!({
            "fired": fired, "skipped": skipped, "escalated": escalated, "failed": failed, "replanned": replanned,
            "set_aside": set_aside, "tenants_passed_over": tenants_passed_over,
        })
    }
}

impl From<ReminderCounts> for Done {
    fn from(counts: ReminderCounts) -> Self {
        Self { counts: counts.print(), leaves_work: counts.leaves_work }
    }
}

/// What a tenant stands in line with.
#[derive(Clone, Copy)]
enum Work {
    /// Rungs that are due.
    Rungs,
    /// Deadlines that have passed, and of which escalations begin.
    Overdue,
}

impl Work {
    /// The most that are taken at a time.
    const fn batch(self) -> u32 {
        match self {
            Self::Rungs => BATCH,
            Self::Overdue => OVERDUE_BATCH,
        }
    }
}

/// A tenant in line, and how much of its work is taken at a time.
#[derive(Clone, Copy)]
struct Turn {
    tenant: TenantId,
    work: Work,
    size: u32,
    set_aside: usize,
}

impl<Q: Queue + Sync> Reminder<Q> {
    /// Works until nothing is due or the deadline is near.
    pub async fn run(&self, deadline: Instant, progress: &Progress<'_>) -> Result<ReminderCounts, StoreError> {
        adapters::failpoint!("R1_tick", Err(StoreError::Corrupt("failpoint")));
        let mut counts = ReminderCounts::default();
        let overdue = list_overdue_tenants_across_tenants(&self.database).await?;
        let due = list_due_tenants_across_tenants(&self.database).await?;
        let turn = |work: Work| move |tenant| Turn { tenant, work, size: work.batch(), set_aside: 0 };
        let mut line: Vec<Turn> =
            overdue.into_iter().map(turn(Work::Overdue)).chain(due.into_iter().map(turn(Work::Rungs))).collect();
        while !line.is_empty() && has_time(deadline) {
            let mut next = Vec::new();
            for turn in line {
                if !has_time(deadline) {
                    counts.leaves_work = true;
                    break;
                }
                next.extend(self.take_turn(turn, &mut counts).await?);
                progress.note(counts).await;
            }
            line = next;
        }
        counts.leaves_work |= !line.is_empty();
        tracing::info!(counts = %counts.print(), leaves_work = counts.leaves_work, "fired the rungs that were due");
        Ok(counts)
    }

    /// Fires a batch of a tenant, and says whether and how its turn comes again.
    async fn take_turn(&self, turn: Turn, counts: &mut ReminderCounts) -> Result<Option<Turn>, StoreError> {
        let Turn { tenant, work, size, set_aside } = turn;
        let taken = match work {
            Work::Rungs => self.fire_batch(turn, counts).await,
            Work::Overdue => self.escalate_batch(turn, counts).await,
        };
        match taken {
            Ok(taken) if taken < size as usize => Ok(None),
            Ok(_) => Ok(Some(Turn { size: (size * 2).min(work.batch()), ..turn })),
            Err(StoreError::TenantInactive) => {
                counts.tenants_passed_over += 1;
                Ok(None)
            }
            // Whatever the database cannot store is found by taking fewer at a time, and then stands alone.
            Err(error) if error.is_of_rows() && size > 1 => {
                tracing::warn!(%tenant, size, error = chain(&error), "a batch failed; fewer are tried");
                Ok(Some(Turn { size: size.div_ceil(8), ..turn }))
            }
            Err(error) if error.is_of_rows() && set_aside < MOST_SET_ASIDE => {
                tracing::error!(%tenant, error = chain(&error), "what is due cannot be stored, and is set aside");
                let done = match work {
                    Work::Rungs => self.set_first_aside(tenant).await,
                    Work::Overdue => self.set_first_overdue_aside(tenant).await,
                };
                match done {
                    Ok(done) => {
                        counts.set_aside += done;
                        Ok(Some(Turn { size: 2, set_aside: set_aside + 1, ..turn }))
                    }
                    Err(error) => pass_over(tenant, error, counts),
                }
            }
            // Somebody is at the same rows, or none can be stored; the next run finds them.
            Err(error) => pass_over(tenant, error, counts),
        }
    }

    /// Answers with how many were taken.
    async fn fire_batch(&self, turn: Turn, counts: &mut ReminderCounts) -> Result<usize, StoreError> {
        let mut transaction = self.database.begin(turn.tenant, ACTOR).await?;
        let taken = take_due_rungs(&mut transaction, turn.size).await?;
        if taken.is_empty() {
            transaction.roll_back().await?;
            return Ok(0);
        }
        adapters::failpoint!("R2_taken", Err(StoreError::Corrupt("failpoint")));
        let context = read_rung_context(&mut transaction, &taken).await?;
        let mut outcomes = Vec::with_capacity(taken.len());
        let (mut wanted, mut places) = (Vec::new(), Vec::new());
        for (place, rung) in taken.iter().enumerate() {
            let decided = decide(rung, &context);
            outcomes.push(match decided {
                Ok(Decided::Step(outcome)) => outcome,
                Ok(Decided::Wanted(notification)) => {
                    let outcome = RungOutcome::Fired(notification.id);
                    wanted.push(*notification);
                    places.push(place);
                    outcome
                }
                Err(Unreadable) => RungOutcome::Failed(Note::Unreadable, None),
            });
        }
        let created = create_notifications(&mut transaction, ACTOR, &wanted).await?;
        adapters::failpoint!("R3_created", Err(StoreError::Corrupt("failpoint")));
        for (place, refusal) in &created.refused {
            outcomes[places[*place]] = RungOutcome::Failed(Note::of_refusal(refusal), Some(say(refusal)));
        }
        write_rungs(&mut transaction, &taken, &outcomes).await?;
        adapters::failpoint!("R4_written", Err(StoreError::Corrupt("failpoint")));
        transaction.commit().await?;
        adapters::failpoint!("R5_committed", Err(StoreError::Corrupt("failpoint")));
        self.queue.publish(&created.publications).await;
        adapters::failpoint!("R6_published", Err(StoreError::Corrupt("failpoint")));
        for outcome in &outcomes {
            match outcome {
                RungOutcome::Waits(_) | RungOutcome::SetAside(_) => counts.replanned += 1,
                RungOutcome::Fired(_) => counts.fired += 1,
                RungOutcome::Skipped(_) => counts.skipped += 1,
                RungOutcome::Failed(..) => counts.failed += 1,
            }
        }
        Ok(taken.len())
    }

    /// Has the tenant's longest due rung looked at later, so that it does not stand before the others meanwhile.
    async fn set_first_aside(&self, tenant: TenantId) -> Result<usize, StoreError> {
        let mut transaction = self.database.begin(tenant, ACTOR).await?;
        let taken = take_due_rungs(&mut transaction, 1).await?;
        if taken.is_empty() {
            transaction.roll_back().await?;
            return Ok(0);
        }
        let context = read_rung_context(&mut transaction, &taken).await?;
        let until = context.now.saturating_add(SET_ASIDE).unwrap_or(context.now);
        write_rungs(&mut transaction, &taken, &[RungOutcome::SetAside(until)]).await?;
        transaction.commit().await?;
        Ok(taken.len())
    }
}

/// Leaves what a tenant has due for the next run, unless nobody could be served.
fn pass_over(tenant: TenantId, error: StoreError, counts: &mut ReminderCounts) -> Result<Option<Turn>, StoreError> {
    if error.stops_all() {
        return Err(error);
    }
    tracing::warn!(%tenant, error = chain(&error), "what a tenant has due is left for the next run");
    counts.tenants_passed_over += 1;
    Ok(None)
}

/// What is decided about a rung.
enum Decided {
    /// It becomes this notification, if that is accepted.
    Wanted(Box<Wanted>),
    /// It becomes none, or not yet.
    Step(RungOutcome),
}

/// What is stored of a rung or its deadline is not what this code writes.
struct Unreadable;

fn decide(taken: &TakenRung, context: &RungContext) -> Result<Decided, Unreadable> {
    let deadline = context.deadlines.get(&taken.deadline).ok_or(Unreadable)?;
    let reminder = deadline.rungs.get(&taken.rung);
    let rung = match reminder {
        Some(reminder) => Rung::Reminder(reminder.time),
        None if taken.rung == Rung::Overdue.to_string() => Rung::Overdue,
        None => return Err(Unreadable),
    };
    let zone = zone_of(taken.recipient_zone.as_deref(), deadline.time_zone.as_deref(), &context.tenant_zone);
    match decide_rung(rung, &zone, taken.due_at, context.now, taken.is_overtaken) {
        RungStep::Wait(until) => Ok(Decided::Step(RungOutcome::Waits(until))),
        RungStep::Skip(note) => Ok(Decided::Step(RungOutcome::Skipped(note))),
        RungStep::Fire => {
            let request = request_of(taken, deadline).ok_or(Unreadable)?;
            let id = NotificationId::from_uuid(new_uuid());
            Ok(Decided::Wanted(Box::new(Wanted { id, request })))
        }
    }
}

/// The notification of a rung: its template gets the deadline's data, the rung's own before it, and what is due, where
/// neither says that itself.
fn request_of(taken: &TakenRung, deadline: &KeptDeadline) -> Option<NotificationRequest> {
    let reminder = deadline.rungs.get(&taken.rung);
    let own = reminder.and_then(|reminder| reminder.category.clone());
    let category = match (reminder, own) {
        (None, _) => deadline.overdue.clone(),
        (Some(_), Some(own)) => Some(own),
        (Some(_), None) => CategoryKey::parse(deadline.category.as_deref()?).ok(),
    }?;
    let mut data = deadline.data.clone();
    let fields = data.as_object_mut()?;
    for (name, value) in reminder.and_then(|reminder| reminder.data.as_object()).into_iter().flatten() {
        fields.insert(name.clone(), value.clone());
    }
    fill_deadline(&mut data, &taken.deadline, taken.due_at)?;
    let recipient = RecipientKey::parse(&taken.recipient).ok()?;
    // What is held until the deadline has passed is no reminder of it any more.
    let is_before = reminder.is_some_and(|reminder| reminder.time.side() == Side::Before);
    Some(NotificationRequest {
        expires_at: is_before.then_some(taken.due_at),
        template: reminder.and_then(|reminder| reminder.template.clone()),
        metadata: json!({"deadline": taken.deadline, "rung": taken.rung}),
        ..NotificationRequest::to_recipient(category, recipient, data)
    })
}

/// Says what is due, and when it was, where the data does not say that itself. `None` where the data is no object.
pub(crate) fn fill_deadline(data: &mut Value, key: &str, due_at: Timestamp) -> Option<()> {
    let fields = data.as_object_mut()?;
    fields.entry("deadline").or_insert_with(|| key.into());
    fields.entry("due_at").or_insert_with(|| due_at.to_string().into());
    Some(())
}
