//! Starts escalations within the transaction of what leads to them: a caller's request, or a deadline that has passed.

use super::telling::event;
use adapters::ids::new_uuid;
use adapters::store::database::{StoreError, TenantTransaction};
use adapters::store::escalations::{NewEscalation, find_open, insert_escalations, read_definitions, tell};
use adapters::wire::escalation_policies::read_definition;
use adapters::wire::escalations::StartBody;
use domain::escalation::plan_first;
use domain::id::{EscalationId, EscalationKey};
use serde_json::json;
use std::collections::HashSet;
use std::sync::Arc;

/// An escalation that is to be started.
#[derive(Clone)]
pub struct Start {
    /// By which policy, and what it says.
    pub body: StartBody,
    /// Whom its data is about, where it comes from what was theirs: it is forgotten when all of them are erased.
    pub about: Vec<String>,
}

domain::masked_debug!(Start, "Start", body);

/// What a caller says; nobody knows whom that is about.
impl From<StartBody> for Start {
    fn from(body: StartBody) -> Self {
        Self { body, about: Vec::new() }
    }
}

/// What became of an escalation that was to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// The escalation: this one, or the one that was open already.
    pub id: EscalationId,
    /// Whether it is this one.
    pub is_new: bool,
}

/// Why none could be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartRefusal {
    /// There is no such policy.
    UnknownPolicy,
    /// What the policy says cannot be read by this release.
    UnreadablePolicy,
    /// One with its key was open and ended just now; the same again may go through.
    Raced,
}

/// Starts escalations, three statements for any number, and answers in their order. Of each key one is open at most; who
/// comes second is told which. The first steps fire by the next run, or at once where the caller has
/// `fire_within` do it in the same transaction.
pub async fn start_within(
    transaction: &mut TenantTransaction,
    asked: &[Start],
) -> Result<Vec<Result<Started, StartRefusal>>, StoreError> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let policies: Vec<_> = asked.iter().map(|asked| asked.body.policy.clone()).collect();
    let definitions = read_definitions(transaction, &policies).await?;
    // Each by its place among those that are new.
    let (mut places, mut new) = (Vec::new(), Vec::new());
    for Start { body: asked, about } in asked {
        let Some(definition) = definitions.by_key.get(asked.policy.as_str()) else {
            places.push(Err(StartRefusal::UnknownPolicy));
            continue;
        };
        let Ok(policy) = read_definition(definition) else {
            places.push(Err(StartRefusal::UnreadablePolicy));
            continue;
        };
        places.push(Ok(new.len()));
        new.push(NewEscalation {
            id: EscalationId::from_uuid(new_uuid()),
            key: asked.key.clone(),
            policy: asked.policy.clone(),
            definition: Arc::clone(definition),
            data: asked.data.clone(),
            about: about.clone(),
            next_step_at: plan_first(&policy, definitions.now),
        });
    }
    let inserted: HashSet<EscalationId> = insert_escalations(transaction, &new).await?.into_iter().collect();
    let turned_away: Vec<EscalationKey> =
        new.iter().filter(|new| !inserted.contains(&new.id)).filter_map(|new| new.key.clone()).collect();
    let open = match turned_away.is_empty() {
        true => Default::default(),
        false => find_open(transaction, &turned_away).await?,
    };
    let tenant = transaction.tenant();
    let told = new.iter().filter(|new| inserted.contains(&new.id)).map(|new| {
        let key = new.key.as_ref().map(|key| key.as_str());
        event(tenant, new.id, "escalation.started", json!({"policy": new.policy.as_str(), "key": key}))
    });
    tell(transaction, &told.collect::<Vec<_>>()).await?;
    let result = |place: Result<usize, StartRefusal>| {
        let new = &new[place?];
        if inserted.contains(&new.id) {
            return Ok(Started { id: new.id, is_new: true });
        }
        let found = new.key.as_ref().and_then(|key| open.get(key.as_str())).ok_or(StartRefusal::Raced)?;
        Ok(Started { id: *found, is_new: false })
    };
    Ok(places.into_iter().map(result).collect())
}
