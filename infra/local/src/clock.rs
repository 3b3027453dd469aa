//! The clock of the stack's database, which the scenarios of the tests move ahead.

use crate::failure::Outcome;
use crate::postgres::{DATABASE, Postgres};

/// Lets the database's time be the server's own again, with what would make the functions wait for a time that was moved to:
/// how the account, its breakers and callers are paced. Runs of jobs from then would be the newest for as long, and ticks from
/// then the last.
///
/// What tenants were told in the moved time stays as it is.
pub const MEND: &str = "
    CREATE OR REPLACE FUNCTION harkara.now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE RETURN pg_catalog.now();
    DELETE FROM harkara.job_runs WHERE started_at > now();
    UPDATE harkara.job_runs SET ticked_at = NULL WHERE ticked_at > now();
    UPDATE harkara.send_pace SET next_send_at = least(next_send_at, now()), line_ends_at = least(line_ends_at, now());
    UPDATE harkara.breakers SET retry_at = least(retry_at, now()), failed_at = least(failed_at, now()),
        opened_at = least(opened_at, now());
    UPDATE harkara.request_rates SET full_at = least(full_at, now());";

/// Mends the clock, where a test that moved it was ended half-way.
///
/// Errors: Postgres refuses.
pub fn mend(postgres: &Postgres) -> Outcome<()> {
    postgres.run_sql(DATABASE, MEND)
}
