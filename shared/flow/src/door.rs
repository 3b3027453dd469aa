//! Makes notifications of what came through the SQL door: read, decide in the way of `enqueue`, store, publish.
//!
//! The cast: `harkara.enqueue` stored requests in their domains' own transactions, `store::door` takes a bounded batch of
//! one tenant and locks it, `enqueue::decide` decides each, and the notifications are stored in the transaction that takes
//! the requests out of the door: both or neither, so that two dispatchers make each once, and a crash makes it later.
//! One that cannot be read is refused alone. One that cannot be stored is found by halving the batch, and waits alone; where
//! the database takes too long, the other tenants have their turns in between.

use crate::creation::list_publications;
use crate::enqueue::{Asked, decide, mask_pointer};
use crate::time_left::has_time;
use adapters::ids::new_uuid;
use adapters::store::database::{Database, StoreError};
use adapters::store::door::{
    DoorRequest, RefusedRequest, Wait, end_requests, list_doors_across_tenants, postpone_requests, take_requests,
};
use adapters::store::enqueue::{RequestKey, accept_counted_within, read_context_within};
use adapters::telemetry::chain;
use adapters::wire::fields::FieldError;
use adapters::wire::http::Caller;
use adapters::wire::notification_request::{Item, NotificationsBody, Shape, read_notifications};
use domain::id::{EventId, NotificationId, TenantId};
use domain::queue::{Publication, Queue};
use domain::quota::seconds_to_next_day;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::Instant;

/// Requests taken at a time: each has up to 256 KiB, and all of them are in memory at once.
const BATCH: u32 = 50;
/// Whom the audit log names for what is stored; who asked stands beside the request.
const ACTOR: &str = "sql harkara.enqueue";
/// How long a request waits that could not be stored by itself: a mistake of ours, or of the schema.
const SET_ASIDE_SECONDS: u32 = 300;
/// Requests that wait together for the next day when their tenant's quota is used up.
const POSTPONED: u32 = 1000;

/// What a turn came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DoorTurn {
    /// Requests that became notifications, or were turned away by their dedupe keys.
    pub(crate) accepted: usize,
    /// Requests that were refused.
    pub(crate) refused: usize,
    /// The longest that one of them has waited, in milliseconds.
    pub(crate) longest_wait_ms: u64,
    /// Whether there may be more that can be done now.
    pub(crate) leaves_more: bool,
}

/// Makes notifications of a batch of requests, the same share of each tenant's.
pub(crate) async fn accept_requests(
    database: &Database,
    queue: &impl Queue,
    deadline: Instant,
) -> Result<DoorTurn, StoreError> {
    let (tenants, share) = list_doors_across_tenants(database, BATCH).await?;
    let begin = |tenant| Turn { tenant, limit: share, left: share as usize };
    let mut line: VecDeque<Turn> = tenants.into_iter().map(begin).collect();
    let mut counted = DoorTurn::default();
    while let Some(turn) = line.pop_front() {
        if !has_time(deadline) {
            counted.leaves_more = true;
            break;
        }
        let tenant = turn.tenant;
        match accept_share(database, queue, tenant, turn.limit).await {
            Ok(Share::Done(done)) => {
                let left = turn.left.saturating_sub(done.accepted + done.refused);
                counted.accepted += done.accepted;
                counted.refused += done.refused;
                counted.longest_wait_ms = counted.longest_wait_ms.max(done.longest_wait_ms);
                if done.leaves_more && turn.limit < share && left > 0 {
                    line.push_back(Turn { left, ..turn });
                } else {
                    counted.leaves_more |= done.leaves_more;
                }
            }
            Ok(Share::Fewer(limit)) => line.push_back(Turn { limit, ..turn }),
            Err(error) if error.stops_all() => return Err(error),
            // The requests are where they were, and the next minute asks again.
            Err(error) => {
                tracing::warn!(tenant_id = %tenant, error = chain(&error), "a tenant's requests were left in the door");
            }
        }
    }
    Ok(counted)
}

/// A tenant in line.
struct Turn {
    tenant: TenantId,
    /// How many of its requests are taken at a time: fewer than its share, where the database takes too long over that.
    limit: u32,
    /// How many of its share are left.
    left: usize,
}

/// What came of a tenant's share.
enum Share {
    Done(DoorTurn),
    /// The database took too long: so many are to be tried, behind the other tenants.
    Fewer(u32),
}

/// Why a batch was not stored; nothing of it was.
struct NotStored {
    taken: usize,
    /// How many requests wait where it was one, for how many seconds, and for what.
    postponed: (u32, u32, Wait),
    error: StoreError,
}

impl NotStored {
    fn of(taken: usize, now: Timestamp, error: StoreError) -> Self {
        let postponed = match error {
            StoreError::QuotaUsedUp => (POSTPONED, seconds_to_next_day(now), Wait::Quota),
            _ => (1, SET_ASIDE_SECONDS, Wait::Failure),
        };
        Self { taken, postponed, error }
    }
}

async fn accept_share(
    database: &Database,
    queue: &impl Queue,
    tenant: TenantId,
    share: u32,
) -> Result<Share, StoreError> {
    let mut limit = share;
    loop {
        let failed = match accept_batch(database, queue, tenant, limit).await {
            Ok(Ok(turn)) => return Ok(Share::Done(turn)),
            Ok(Err(failed)) => failed,
            Err(error @ StoreError::TimedOut(_)) => {
                NotStored { taken: limit as usize, postponed: (1, SET_ASIDE_SECONDS, Wait::Failure), error }
            }
            Err(error) => return Err(error),
        };
        if matches!(failed.error, StoreError::TimedOut(_)) && failed.taken > 1 {
            tracing::warn!(tenant_id = %tenant, error = chain(&failed.error), "fewer requests are taken at a time");
            return Ok(Share::Fewer(u32::try_from(failed.taken.div_ceil(8)).unwrap_or(1)));
        }
        // Half of it may do: the quota may have room for that many, and what is wrong may be in the other half.
        limit = u32::try_from(failed.taken / 2).unwrap_or(1);
        if limit > 0 {
            continue;
        }
        let (count, seconds, wait) = failed.postponed;
        let error = chain(&failed.error).to_string();
        let mut transaction = database.begin(tenant, ACTOR).await?;
        let postponed = postpone_requests(&mut transaction, count, seconds, wait).await?;
        transaction.commit().await?;
        match wait {
            Wait::Quota => {
                tracing::warn!(tenant_id = %tenant, postponed, seconds, error, "requests of tenant {tenant} wait for its quota");
            }
            Wait::Failure => tracing::error!(
                metric = "door_requests_postponed",
                tenant_id = %tenant,
                postponed,
                seconds,
                error,
                "a request of tenant {tenant} cannot be stored, and waits in the door"
            ),
        }
        return Ok(Share::Done(DoorTurn { leaves_more: postponed > 0, ..DoorTurn::default() }));
    }
}

async fn accept_batch(
    database: &Database,
    queue: &impl Queue,
    tenant: TenantId,
    limit: u32,
) -> Result<Result<DoorTurn, NotStored>, StoreError> {
    let mut transaction = database.begin(tenant, ACTOR).await?;
    let requests = take_requests(&mut transaction, limit).await?;
    if requests.is_empty() {
        transaction.roll_back().await?;
        return Ok(Ok(DoorTurn::default()));
    }
    adapters::failpoint!("O1_taken", Err(StoreError::Corrupt("failpoint")));
    let asked = read_requests(tenant, &requests);
    let readable = asked.body.items.iter().filter_map(|item| item.request.as_ref().ok());
    let context = read_context_within(&mut transaction, readable).await?;
    let decided = decide(&asked, &context);
    let refused = list_refused(&requests, &decided.results);
    let done: Vec<NotificationId> = requests
        .iter()
        .map(|request| request.id)
        .filter(|id| refused.iter().all(|refused| refused.id != *id))
        .collect();
    let results = Value::Array(decided.results);
    let stored =
        accept_counted_within(&mut transaction, ACTOR, &decided.accepted, &decided.attachments, &results).await;
    let stored = match stored {
        Ok(duplicates) => end_requests(&mut transaction, &done, &refused).await.map(|()| duplicates),
        Err(error) => Err(error),
    };
    let duplicates = match stored {
        Ok(duplicates) => duplicates,
        Err(error) if error.stops_all() || matches!(error, StoreError::Busy(_) | StoreError::TenantInactive) => {
            return Err(error);
        }
        Err(error) => return Ok(Err(NotStored::of(requests.len(), context.now, error))),
    };
    adapters::failpoint!("O2_stored", Err(StoreError::Corrupt("failpoint")));
    transaction.commit().await?;
    adapters::failpoint!("O3_committed", Err(StoreError::Corrupt("failpoint")));
    refused.iter().for_each(log_refused);

    let new = decided.accepted.iter().filter(|accepted| !duplicates.contains(&accepted.id));
    let publications: Vec<Publication> = new.flat_map(|accepted| list_publications(tenant, accepted)).collect();
    // What the queue does not take is due again later, as with `enqueue`.
    let not_taken = queue.publish(&publications).await;
    adapters::failpoint!("O4_published", Err(StoreError::Corrupt("failpoint")));
    let longest_wait_ms = requests.iter().map(|request| request.waited_ms).max().unwrap_or(0);
    tracing::info!(
        tenant_id = %tenant,
        accepted_count = done.len(),
        refused_count = refused.len(),
        published_count = publications.len() - not_taken.0.len(),
        longest_wait_ms,
        "accepted requests of tenant {tenant} from the SQL door"
    );
    Ok(Ok(DoorTurn {
        accepted: done.len(),
        refused: refused.len(),
        longest_wait_ms,
        leaves_more: requests.len() >= limit as usize,
    }))
}

/// The requests as one body that asks for all of them; each has its id already.
fn read_requests(tenant: TenantId, requests: &[DoorRequest]) -> Asked {
    let item = |request: &DoorRequest| {
        let unreadable =
            |errors: Vec<FieldError>| Item { pointer: String::new(), has_list: false, request: Err(errors) };
        let body = match serde_json::from_str::<Value>(&request.request) {
            Ok(value) => read_notifications(&value),
            Err(_) => return unreadable(vec![FieldError::new("", "cannot be read")]),
        };
        match body.map(|mut body| (body.items.pop(), body.items.is_empty(), body.shape)) {
            Ok((Some(item), true, Shape::One)) => item,
            Ok(_) => unreadable(vec![FieldError::new("", "must be one notification to one recipient")]),
            Err(problem) => unreadable(problem.errors),
        }
    };
    Asked {
        caller: Caller { tenant, subject: ACTOR.to_owned(), scopes: Vec::new(), own_recipient: None },
        key: RequestKey { route: ACTOR.to_owned(), key: None, request_hash: Vec::new(), request_id: String::new() },
        traceparent: None,
        ids: requests.iter().map(|request| request.id).collect(),
        body: NotificationsBody { shape: Shape::Many, items: requests.iter().map(item).collect() },
    }
}

/// What was refused and why. A field that nobody knows is a caller's own word, and stands nowhere.
fn list_refused(requests: &[DoorRequest], results: &[Value]) -> Vec<RefusedRequest> {
    let rejected = results.iter().filter(|result| result["status"] == "rejected");
    let refused = rejected.filter_map(|result| {
        let place = usize::try_from(result["index"].as_u64()?).ok()?;
        let request = requests.get(place)?;
        let errors = result["problem"]["errors"].as_array().into_iter().flatten();
        let errors: Vec<Value> = errors
            .filter_map(|error| {
                let (pointer, detail) = (error["pointer"].as_str()?, error["detail"].as_str()?);
                Some(json!({"pointer": mask_pointer(pointer), "detail": detail}))
            })
            .collect();
        Some(RefusedRequest { id: request.id, event_id: EventId::from_uuid(new_uuid()), errors: Value::Array(errors) })
    });
    refused.collect()
}

/// Whoever asked learns of it by the event and from the API; nobody of the operator's has to act.
fn log_refused(refused: &RefusedRequest) {
    let errors = refused.errors.as_array().into_iter().flatten();
    let said: Vec<String> = errors.map(|error| format!("{} {}", error["pointer"], error["detail"])).collect();
    tracing::warn!(
        notification_id = %refused.id,
        errors = said.join("; "),
        "request {} from the SQL door was refused",
        refused.id
    );
}
