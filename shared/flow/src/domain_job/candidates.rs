//! Makes notifications of a view's rows, each once by its key.
//!
//! All rows are read first, in a transaction that can write nothing. Then batches are stored: the hashes of their keys with
//! the notifications of those that are new, in one transaction, so that two runs at once and a run that dies half-way make
//! each once. A row that leaves the view and comes back is the same one for as long as its key is remembered, which is the
//! tenant's retention after the view had it last; a domain that wants to repeat puts a date into its keys.
//!
//! Each batch stores with itself how far the run has come: where it dies half-way, its row says exactly what it has made.

use super::{ACTOR, Finished, Run};
use crate::creation::{Wanted, create_notifications};
use adapters::endpoint::EndpointError;
use adapters::ids::new_uuid;
use adapters::store::database::{Database, StoreError};
use adapters::store::domain_job_runs::{drop_candidates, keep_candidates};
use adapters::store::granted::{DomainError, read_candidates};
use adapters::store::job_runs::note_job_progress_within;
use domain::domain_job::{Candidate, Candidates};
use domain::id::{NotificationId, RecipientKey};
use domain::notification::{NotificationRequest, Refusal};
use domain::queue::Queue;
use domain::render::check_context;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Rows stored at a time.
const BATCH: usize = 500;
/// What a batch may take: none begins with less of the run's lease left.
const BATCH_TIME: Duration = Duration::from_secs(10);

/// Why a run failed.
pub(super) enum MakeError {
    /// The domain's part.
    Domain(DomainError),
    /// The domain's endpoint.
    Endpoint(EndpointError),
    /// What the job itself names is not there any more: no row could become a notification.
    Job(&'static str),
}

impl MakeError {
    pub(super) fn code(&self) -> String {
        match self {
            Self::Domain(error) => error.code(),
            Self::Endpoint(error) => error.code(),
            Self::Job(code) => (*code).to_owned(),
        }
    }
}

impl From<DomainError> for MakeError {
    fn from(error: DomainError) -> Self {
        Self::Domain(error)
    }
}

impl From<StoreError> for MakeError {
    fn from(error: StoreError) -> Self {
        Self::Domain(error.into())
    }
}

/// A row that can become a notification.
struct Fit {
    hash: Vec<u8>,
    request: NotificationRequest,
}

/// Makes notifications of what the job's view shows now.
pub(super) async fn make_notifications(
    database: &Database,
    queue: &impl Queue,
    run: &Run,
    job: &Candidates,
) -> Result<Finished, MakeError> {
    let rows = read_candidates(database, run.tenant, &job.view, run.job.timeout).await?;
    adapters::failpoint!("J4_read", Err(StoreError::Corrupt("failpoint").into()));
    let mut made = Made { candidates: rows.len(), ..Made::default() };
    let mut fits = Vec::with_capacity(rows.len());
    let mut seen = BTreeSet::new();
    for row in rows {
        match read_fit(&run.job.key, job, row) {
            // Of two rows with one key the first is taken.
            Ok(fit) if seen.insert(fit.hash.clone()) => fits.push(fit),
            Ok(_) => {}
            Err(reason) => *made.refused.entry(reason).or_default() += 1,
        }
    }
    let mut leaves_work = false;
    for batch in fits.chunks(BATCH) {
        if run.deadline.saturating_duration_since(Instant::now()) < BATCH_TIME {
            leaves_work = true;
            break;
        }
        made = make_batch(database, queue, run, batch, made).await?;
    }
    Ok(Finished { counts: made.print(), created: made.created, leaves_work })
}

/// What became of a view's rows so far.
#[derive(Default)]
struct Made {
    candidates: usize,
    created: usize,
    refused: BTreeMap<&'static str, usize>,
}

impl Made {
    fn print(&self) -> Value {
        let Self { candidates, created, refused } = self;
        let refused_count: usize = refused.values().sum();
        json!({
            "candidates": candidates, "created": created, "refused": refused_count, "refused_by_reason": refused,
        })
    }
}

async fn make_batch(
    database: &Database,
    queue: &impl Queue,
    run: &Run,
    batch: &[Fit],
    mut made: Made,
) -> Result<Made, MakeError> {
    let mut transaction = database.begin(run.tenant, ACTOR).await?;
    let hashes: Vec<_> = batch.iter().map(|fit| fit.hash.clone()).collect();
    let new: BTreeSet<_> = keep_candidates(&mut transaction, &run.job.key, &hashes).await?.into_iter().collect();
    let (hashes, wanted): (Vec<_>, Vec<_>) = batch
        .iter()
        .filter(|fit| new.contains(&fit.hash))
        .map(|fit| {
            let id = NotificationId::from_uuid(new_uuid());
            (fit.hash.clone(), Wanted { id, request: fit.request.clone() })
        })
        .unzip();
    let stored = create_notifications(&mut transaction, ACTOR, &wanted).await?;
    let mut dropped = Vec::new();
    for (place, refusal) in &stored.refused {
        let (code, is_the_jobs) = name_refusal(refusal);
        if is_the_jobs {
            transaction.roll_back().await?;
            return Err(MakeError::Job(code));
        }
        *made.refused.entry(code).or_default() += 1;
        dropped.extend(hashes.get(*place).cloned());
    }
    if !dropped.is_empty() {
        drop_candidates(&mut transaction, &run.job.key, &dropped).await?;
    }
    made.created += wanted.len() - stored.refused.len();
    note_job_progress_within(&mut transaction, &run.job.key, run.id, &made.print()).await?;
    adapters::failpoint!("J5_created", Err(StoreError::Corrupt("failpoint").into()));
    transaction.commit().await?;
    adapters::failpoint!("J6_committed", Err(StoreError::Corrupt("failpoint").into()));
    // What the queue does not take, the dispatcher publishes.
    queue.publish(&stored.publications).await;
    adapters::failpoint!("J7_published", Err(StoreError::Corrupt("failpoint").into()));
    Ok(made)
}

/// A row as the notification that it may become.
fn read_fit(key: &str, job: &Candidates, row: Candidate) -> Result<Fit, &'static str> {
    if let Some(flaw) = row.find_flaw() {
        return Err(flaw.as_str());
    }
    let Candidate { key: Some(candidate), recipient: Some(recipient), data: own, .. } = row else {
        return Err("key_unusable");
    };
    let recipient = RecipientKey::parse(&recipient).map_err(|_| "recipient_unusable")?;
    let mut data = job.data.clone();
    if let (Some(data), Some(Value::Object(own))) = (data.as_object_mut(), own) {
        data.extend(own);
    }
    if check_context(&data).is_err() {
        return Err("data_unusable");
    }
    let request = NotificationRequest {
        template: job.template.clone(),
        priority: job.priority,
        metadata: json!({"job": key, "candidate": candidate}),
        ..NotificationRequest::to_recipient(job.category.clone(), recipient, data)
    };
    Ok(Fit { hash: Sha256::digest(candidate.as_bytes()).to_vec(), request })
}

/// A refusal's name, and whether it is the job's own, which every row would meet.
fn name_refusal(refusal: &Refusal) -> (&'static str, bool) {
    match refusal {
        Refusal::UnknownCategory => ("unknown_category", true),
        Refusal::UnknownTemplate => ("unknown_template", true),
        Refusal::UnpublishedTemplate => ("unpublished_template", true),
        Refusal::NoContent => ("no_content", true),
        Refusal::UnknownRecipient(_) => ("unknown_recipient", false),
        Refusal::WrongData(_) => ("wrong_data", false),
        Refusal::NoAddress(_) => ("no_address", false),
        Refusal::SendTooFarAhead | Refusal::ExpiresBeforeSend => ("wrong_time", false),
    }
}
