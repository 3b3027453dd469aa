//! The digests that a category's own rhythm closes: by rounds through the recipients of a zone, at the tenant's time of day;
//! those who have chosen a time of their own are a round of their own.

use super::PLANNED;
use adapters::store::database::{StoreError, TenantTransaction};
use adapters::store::digest_rounds::{self as store, DueRound};
use adapters::store::digests::{DigestContext, read_members};
use domain::decision::{DigestTime, cadence_due};
use domain::digest::{DigestKey, OpenDigest, Round, is_same_period, latest_period_end};
use domain::preference::DigestChoice;
use jiff::Timestamp;

/// Works out when rounds are due that are new, or rest on what does not hold any more, and says whether these were all.
pub(super) async fn plan_rounds(
    transaction: &mut TenantTransaction,
    context: &DigestContext,
) -> Result<bool, StoreError> {
    let unplanned = store::read_unplanned(transaction, PLANNED).await?;
    let are_all = unplanned.len() < PLANNED as usize;
    if unplanned.is_empty() {
        return Ok(are_all);
    }
    let planned: Vec<_> = unplanned
        .into_iter()
        .map(|round| {
            let from = round.since.unwrap_or(context.now);
            let due = cadence_due(round.cadence, from, &round.zone, context.time.chosen_by(round.choice));
            (round, due)
        })
        .collect();
    store::plan_rounds(transaction, &planned).await?;
    Ok(are_all)
}

/// The digests of a round's next recipients, and the round moved on behind them.
pub(super) async fn open_round(
    transaction: &mut TenantTransaction,
    context: &DigestContext,
    round: &DueRound,
    size: u32,
) -> Result<Vec<OpenDigest>, StoreError> {
    let (now, time) = (context.now, time_of(round, context));
    let period_end = period_end(round, context);
    let recipients = store::read_round_recipients(transaction, round, size).await?;
    let is_last = recipients.len() < size as usize;
    let last = recipients.last().map(|recipient| recipient.key.clone());
    if recipients.is_empty() && round.after.is_none() && round.choice != DigestChoice::default() {
        store::forget_round(transaction, round).await?;
        return Ok(Vec::new());
    }
    let mut open = Vec::new();
    for recipient in recipients {
        if recipient.regular_to.is_some_and(|last| is_same_period(round.cadence, last, period_end)) {
            continue;
        }
        open.extend(round.channels.iter().map(|channel| OpenDigest {
            key: DigestKey { recipient: recipient.key.clone(), category: round.category.clone(), channel: *channel },
            zone: round.zone.clone(),
            time,
            closed_to: recipient.closed_to,
            round: Some(Round { period_end, send_empty: round.send_empty || recipient.is_mandatory }),
            members: Vec::new(),
        }));
    }
    let asked = open.len();
    read_members(transaction, &mut open).await?;
    let is_cut = open.len() < asked;
    let after = if is_cut { open.last().map(|open| open.key.recipient.clone()) } else { last };
    if is_last && !is_cut {
        let next = cadence_due(round.cadence, now.max(period_end), &round.zone, time);
        store::move_round(transaction, round, next, None).await?;
    } else {
        store::move_round(transaction, round, period_end, after.as_ref()).await?;
    }
    adapters::failpoint!("G2_moved", Err(StoreError::Corrupt("failpoint")));
    Ok(open)
}

/// Moves a round on behind its next recipient, for whom nothing is closed.
pub(super) async fn pass_over(
    transaction: &mut TenantTransaction,
    context: &DigestContext,
    round: &DueRound,
) -> Result<(), StoreError> {
    let period_end = period_end(round, context);
    let recipients = store::read_round_recipients(transaction, round, 1).await?;
    match recipients.first() {
        Some(first) => store::move_round(transaction, round, period_end, Some(&first.key)).await,
        None => {
            let next = cadence_due(round.cadence, context.now.max(period_end), &round.zone, time_of(round, context));
            store::move_round(transaction, round, next, None).await
        }
    }
}

/// Of periods that were missed, the latest counts. Once it is begun it stays the same to its end.
fn period_end(round: &DueRound, context: &DigestContext) -> Timestamp {
    match round.after {
        Some(_) => round.due,
        None => latest_period_end(round.cadence, round.due, context.now, &round.zone, time_of(round, context)),
    }
}

/// When a round's periods end.
fn time_of(round: &DueRound, context: &DigestContext) -> DigestTime {
    context.time.chosen_by(round.choice)
}
