//! The auditor: whatever is open has a next step or an end, and what has none is told, and not mended.
//!
//! Each day `maintenance` looks at everything that can be open, and each minute `escalation` looks at what it has done.
//! Each is a look into indexes of what is open, so that history costs nothing.
//! Who reads of a finding mends what let it happen: whoever mended it here would hide that.

use adapters::store::database::{Database, StoreError};
use adapters::store::stranded::{
    Stranded, find_stranded_across_tenants, find_stranded_escalations_across_tenants, find_undelivered,
    tell_stranded_across_tenants,
};
use adapters::telemetry::chain;
use domain::id::TenantId;

/// The most that are told of each kind, reason and tenant.
const MOST_TOLD: u32 = 20;
/// The most notifications of a tenant that are asked for their deliveries in a day.
const MOST_LOOKED_AT: u32 = 100_000;

/// Looks at everything of these tenants, tells what is stranded by an event and a line of the log each, and answers with how
/// much that is. It fails where one of them could not be looked at, once the others were.
pub(crate) async fn audit_all(database: &Database, tenants: &[TenantId]) -> Result<usize, StoreError> {
    let mut found = find_stranded_across_tenants(database, MOST_TOLD).await?;
    let mut failed = None;
    for tenant in tenants {
        match find_undelivered(database, *tenant, MOST_LOOKED_AT, MOST_TOLD).await {
            Ok(undelivered) => found.extend(undelivered),
            Err(error) if error.stops_all() => return Err(error),
            Err(error) => {
                tracing::warn!(tenant_id = %tenant, error = chain(&error), "what tenant {tenant} was to get is not looked at");
                failed = Some(error);
            }
        }
    }
    log(&found);
    if !found.is_empty() {
        tell_stranded_across_tenants(database, &found).await?;
    }
    failed.map_or(Ok(found.len()), Err)
}

/// Looks at open escalations, and logs those that are stranded. An event of each comes with the day's audit, and not each
/// minute.
pub(crate) async fn audit_escalations(database: &Database) -> Result<usize, StoreError> {
    let found = find_stranded_escalations_across_tenants(database, MOST_TOLD).await?;
    log(&found);
    Ok(found.len())
}

fn log(found: &[Stranded]) {
    for Stranded { tenant, kind, reason, key } in found {
        tracing::error!(
            metric = "stranded_found",
            tenant_id = %tenant,
            %kind,
            %reason,
            key,
            "{kind} {key} has no next step and no end: {reason}"
        );
    }
}
