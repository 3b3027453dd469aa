//! One escalation for each deadline that has passed and says by which policy: started and marked in one transaction, and its
//! first step fired in it.

use super::{ACTOR, Reminder, ReminderCounts, SET_ASIDE, Turn, fill_deadline};
use crate::escalation::{Start, StartRefusal, fire_within, start_within};
use adapters::store::database::StoreError;
use adapters::store::overdue::{OverdueDeadline, OverdueOutcome, take_overdue, write_overdue};
use adapters::wire::escalations::StartBody;
use domain::deadline::NotEscalated;
use domain::id::TenantId;
use domain::queue::Queue;

impl<Q: Queue + Sync> Reminder<Q> {
    /// Answers with how many were taken.
    pub(super) async fn escalate_batch(&self, turn: Turn, counts: &mut ReminderCounts) -> Result<usize, StoreError> {
        let mut transaction = self.database.begin(turn.tenant, ACTOR).await?;
        let taken = take_overdue(&mut transaction, turn.size).await?;
        if taken.is_empty() {
            transaction.roll_back().await?;
            return Ok(0);
        }
        adapters::failpoint!("U1_taken", Err(StoreError::Corrupt("failpoint")));
        let mut outcomes = vec![OverdueOutcome::NotEscalated(NotEscalated::Unreadable); taken.len()];
        let (mut asked, mut places) = (Vec::new(), Vec::new());
        for (place, overdue) in taken.iter().enumerate() {
            if let Some(start) = start_of(overdue) {
                asked.push(start);
                places.push(place);
            }
        }
        let mut started = Vec::new();
        for (place, result) in places.into_iter().zip(start_within(&mut transaction, &asked).await?) {
            outcomes[place] = match result {
                Ok(escalation) => {
                    started.push(escalation.id);
                    OverdueOutcome::Escalated(escalation.id)
                }
                Err(StartRefusal::UnknownPolicy) => OverdueOutcome::NotEscalated(NotEscalated::UnknownPolicy),
                Err(StartRefusal::UnreadablePolicy) => OverdueOutcome::NotEscalated(NotEscalated::UnreadablePolicy),
                // It has no key that another could have.
                Err(StartRefusal::Raced) => return Err(StoreError::Corrupt("escalation")),
            };
        }
        adapters::failpoint!("U2_started", Err(StoreError::Corrupt("failpoint")));
        // What stands alone may do so because its first step cannot be stored: `escalation` knows what to do with that.
        let is_alone = turn.size == 1;
        let publications = match is_alone {
            true => Vec::new(),
            false => fire_within(&mut transaction, ACTOR, &started).await?.publications,
        };
        adapters::failpoint!("U3_fired", Err(StoreError::Corrupt("failpoint")));
        write_overdue(&mut transaction, &taken, &outcomes).await?;
        adapters::failpoint!("U4_written", Err(StoreError::Corrupt("failpoint")));
        transaction.commit().await?;
        adapters::failpoint!("U5_committed", Err(StoreError::Corrupt("failpoint")));
        self.queue.publish(&publications).await;
        adapters::failpoint!("U6_published", Err(StoreError::Corrupt("failpoint")));
        counts.escalated += started.len();
        counts.failed += taken.len() - started.len();
        Ok(taken.len())
    }

    /// Has the tenant's longest due one looked at later.
    pub(super) async fn set_first_overdue_aside(&self, tenant: TenantId) -> Result<usize, StoreError> {
        let mut transaction = self.database.begin(tenant, ACTOR).await?;
        let taken = take_overdue(&mut transaction, 1).await?;
        let until = taken.iter().map(|overdue| overdue.now.saturating_add(SET_ASIDE).unwrap_or(overdue.now));
        let outcomes: Vec<_> = until.map(OverdueOutcome::SetAside).collect();
        write_overdue(&mut transaction, &taken, &outcomes).await?;
        transaction.commit().await?;
        Ok(taken.len())
    }
}

/// The escalation of a deadline: its notifications get the deadline's data. It has no key: the deadline's own row sees to
/// it that there is one.
fn start_of(overdue: &OverdueDeadline) -> Option<Start> {
    let mut data = overdue.data.clone();
    fill_deadline(&mut data, &overdue.key, overdue.due_at)?;
    let body = StartBody { policy: overdue.policy.clone()?, key: None, data };
    Some(Start { body, about: overdue.recipients.clone() })
}
