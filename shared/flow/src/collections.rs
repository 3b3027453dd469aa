//! Closes the batches and debounces whose time has come, as a turn of `dispatcher`.
//!
//! The cast: `store::collections` locks due collections of one tenant and the deliveries that wait in them,
//! `domain::collection` decides what becomes of each, `creation` stores the messages, and one statement ends the members;
//! all of it is one transaction. Two dispatchers at once pass over each other's collections, a member that comes meanwhile
//! waits and opens the next one, and what crashes half-way has not happened.
//! Where no message can be made, the members leave by themselves: nothing that was collected is lost.

use crate::creation::{Wanted, create_notifications};
use crate::message::make_link;
use crate::time_left::has_time;
use adapters::ids::new_uuid;
use adapters::store::collections::{
    Closed, Contents, DueCollection, find_due_across_tenants, lock_collection, lock_due_collections, lock_members,
    put_off_collection, read_contents, write_closed,
};
use adapters::store::database::{Database, StoreError, TenantTransaction};
use adapters::telemetry::chain;
use domain::collection::{CollectionOutcome, Told, count_closed_together, decide_close, message_data};
use domain::id::{NotificationId, TenantId};
use domain::link::PublicUrl;
use domain::queue::{Publication, Queue};
use std::collections::{BTreeSet, HashMap};
use std::time::Instant;
use uuid::Uuid;

/// Whom the audit log names.
const ACTOR: &str = "dispatcher";
/// Tenants that have their turn together.
const TENANTS: u32 = 20;
/// Collections that one transaction closes at most: what their messages are made of is in memory together.
const COLLECTIONS: u32 = 50;
/// How long a collection waits that could not be closed. Its members leave by themselves in the end.
const PUT_OFF_SECONDS: i32 = 60 * 60;

/// What a turn did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CloseCounts {
    /// Collections that were closed.
    pub(crate) closed: usize,
    /// Messages of theirs on the queue.
    pub(crate) published: usize,
    /// Messages that the queue did not take; their deliveries are due again soon.
    pub(crate) not_taken: usize,
    /// Whether a tenant may have more, or more tenants have some.
    pub(crate) leaves_more: bool,
}

/// Closes due collections, a share of each tenant's. What fails for one tenant is said in the log, and stops no other; it is
/// tried one by one behind all of them.
pub(crate) async fn close_collections(
    database: &Database,
    queue: &impl Queue,
    public_url: &PublicUrl,
    deadline: Instant,
) -> Result<CloseCounts, StoreError> {
    let closer = Closer { database, queue, public_url };
    let mut counts = CloseCounts::default();
    let tenants = find_due_across_tenants(database, TENANTS).await?;
    let may_be_more_tenants = tenants.len() == TENANTS as usize;
    let mut failed = Vec::new();
    for tenant in tenants {
        if !has_time(deadline) {
            counts.leaves_more = true;
            break;
        }
        match closer.close_share(tenant, &mut counts).await {
            // It may have been suspended meanwhile, and its collections wait with it.
            Ok(()) | Err(StoreError::TenantInactive) => {}
            Err(error) if error.stops_all() => return Err(error),
            Err(error) => {
                tracing::warn!(tenant_id = %tenant, error = chain(&error), "collections of a tenant are closed one by one");
                failed.push(tenant);
            }
        }
    }
    for tenant in failed {
        match closer.close_one_by_one(tenant, deadline, &mut counts).await {
            Ok(()) | Err(StoreError::TenantInactive) => {}
            Err(error) if error.stops_all() => return Err(error),
            Err(error) => {
                tracing::error!(tenant_id = %tenant, error = chain(&error), "collections of {tenant} were not closed");
            }
        }
    }
    // Where nothing could be closed, they are another dispatcher's, or not closed any sooner by asking again.
    counts.leaves_more |= may_be_more_tenants && counts.closed > 0;
    Ok(counts)
}

struct Closer<'a, Q> {
    database: &'a Database,
    queue: &'a Q,
    public_url: &'a PublicUrl,
}

impl<Q: Queue> Closer<'_, Q> {
    async fn close_share(&self, tenant: TenantId, counts: &mut CloseCounts) -> Result<(), StoreError> {
        let mut transaction = self.database.begin(tenant, ACTOR).await?;
        let due = lock_due_collections(&mut transaction, COLLECTIONS).await?;
        let together = count_closed_together(due.iter().map(|(_, members)| *members));
        let ids: Vec<Uuid> = due.iter().take(together).map(|(id, _)| *id).collect();
        self.close_locked(transaction, &ids, counts).await?;
        counts.leaves_more |= together < due.len() || due.len() == COLLECTIONS as usize;
        Ok(())
    }

    /// Finds out which of a share cannot be closed, and puts that one off.
    async fn close_one_by_one(
        &self,
        tenant: TenantId,
        deadline: Instant,
        counts: &mut CloseCounts,
    ) -> Result<(), StoreError> {
        let mut transaction = self.database.begin(tenant, ACTOR).await?;
        let due = lock_due_collections(&mut transaction, COLLECTIONS).await?;
        transaction.roll_back().await?;
        let is_full = due.len() == COLLECTIONS as usize;
        let mut is_moving = false;
        for (id, _) in due {
            if !has_time(deadline) {
                counts.leaves_more = true;
                break;
            }
            let mut transaction = self.database.begin(tenant, ACTOR).await?;
            let locked = lock_collection(&mut transaction, id).await?;
            match self.close_locked(transaction, &locked, counts).await {
                Ok(()) => is_moving = true,
                // Another transaction was in the way; the next run comes soon.
                Err(error @ (StoreError::Busy(_) | StoreError::Conflict(_))) => {
                    tracing::warn!(tenant_id = %tenant, collection_id = %id, error = chain(&error), "collection {id} stays open");
                }
                Err(error) if error.stops_all() => return Err(error),
                Err(error) => {
                    tracing::error!(tenant_id = %tenant, collection_id = %id, error = chain(&error), "collection {id} cannot be closed");
                    let mut transaction = self.database.begin(tenant, ACTOR).await?;
                    put_off_collection(&mut transaction, id, PUT_OFF_SECONDS).await?;
                    transaction.commit().await?;
                    is_moving = true;
                    // Everybody has waited for it, and has another turn before the rest of these.
                    if matches!(error, StoreError::TimedOut(_)) {
                        counts.leaves_more = true;
                        break;
                    }
                }
            }
        }
        // Those behind them have their turn, unless all of these are in somebody's hands.
        counts.leaves_more |= is_full && is_moving;
        Ok(())
    }

    async fn close_locked(
        &self,
        mut transaction: TenantTransaction,
        locked: &[Uuid],
        counts: &mut CloseCounts,
    ) -> Result<(), StoreError> {
        if locked.is_empty() {
            return transaction.roll_back().await;
        }
        let due = lock_members(&mut transaction, locked).await?;
        let (closed, publications) = self.make_messages(&mut transaction, &due).await?;
        adapters::failpoint!("C1_created", Err(StoreError::Corrupt("failpoint")));
        write_closed(&mut transaction, &closed).await?;
        adapters::failpoint!("C1_written", Err(StoreError::Corrupt("failpoint")));
        transaction.commit().await?;
        adapters::failpoint!("C2_closed", Err(StoreError::Corrupt("failpoint")));
        // Nothing is marked as published: the rows were stored as published once, and are due again if that fails.
        let not_taken = self.queue.publish(&publications).await.0.len();
        adapters::failpoint!("C3_published", Err(StoreError::Corrupt("failpoint")));
        counts.closed += closed.len();
        counts.published += publications.len() - not_taken;
        counts.not_taken += not_taken;
        Ok(())
    }

    /// Stores the messages of those that make one, and says what becomes of each.
    async fn make_messages(
        &self,
        transaction: &mut TenantTransaction,
        due: &[DueCollection],
    ) -> Result<(Vec<Closed>, Vec<Publication>), StoreError> {
        let makes_message = |due: &&DueCollection| decide_close(due.waiting, due.told) == CollectionOutcome::Message;
        let ids: Vec<Uuid> = due.iter().filter(makes_message).map(|due| due.id).collect();
        let contents = if ids.is_empty() { Vec::new() } else { read_contents(transaction, &ids).await? };
        let tenant = transaction.tenant();
        let due_by_id: HashMap<Uuid, &DueCollection> = due.iter().map(|due| (due.id, due)).collect();
        let made: Vec<(Uuid, Wanted)> = contents
            .into_iter()
            .filter_map(|contents| {
                let due = due_by_id.get(&contents.collection)?;
                Some((contents.collection, self.write_message(tenant, due, contents)))
            })
            .collect();
        let (collections, wanted): (Vec<Uuid>, Vec<Wanted>) = made.into_iter().unzip();
        let created = create_notifications(transaction, ACTOR, &wanted).await?;
        let refused: BTreeSet<usize> = created.refused.iter().map(|(place, _)| *place).collect();
        for (place, refusal) in &created.refused {
            let id = collections[*place];
            tracing::error!(
                tenant_id = %transaction.tenant(), collection_id = %id, refusal = %refusal,
                "the members of collection {id} leave one by one, because no message can be made of them"
            );
        }
        let messages: HashMap<Uuid, NotificationId> = collections
            .iter()
            .zip(&wanted)
            .enumerate()
            .filter(|(place, _)| !refused.contains(place))
            .map(|(_, (collection, wanted))| (*collection, wanted.id))
            .collect();
        let close = |due: &DueCollection| {
            let message = messages.get(&due.id).map(|id| (*id, due.told));
            let outcome = match (decide_close(due.waiting, due.told), message) {
                (CollectionOutcome::Message, None) => CollectionOutcome::Members,
                (outcome, _) => outcome,
            };
            Closed { id: due.id, kind: due.kind, outcome, message }
        };
        Ok((due.iter().map(close).collect(), created.publications))
    }

    fn write_message(&self, tenant: TenantId, due: &DueCollection, contents: Contents) -> Wanted {
        let Contents { collection: _, last: mut request, first, items } = contents;
        let id = NotificationId::from_uuid(new_uuid());
        let more_link = self.public_url.collected(&make_link(tenant, id));
        let told = Told { count: due.told, last: request.data, first, items };
        request.data = message_data(due.kind, told, &more_link);
        Wanted { id, request }
    }
}
