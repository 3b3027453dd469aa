//! Moved time: the database's clock decides everything, so letting time pass means moving what it is compared with.

use sqlx::PgPool;
use std::time::Duration;

/// Every time that decides something, by its statement.
const SHIFTS: &[&str] = &[
    "UPDATE harkara.deliveries SET not_before = not_before - make_interval(secs => $1), \
     due_at = due_at - make_interval(secs => $1), slot_at = slot_at - make_interval(secs => $1)",
    "UPDATE harkara.notifications SET send_at = send_at - make_interval(secs => $1), \
     expires_at = expires_at - make_interval(secs => $1)",
    "UPDATE harkara.send_slots SET taken_at = taken_at - make_interval(secs => $1)",
    "UPDATE harkara.events SET created_at = created_at - make_interval(secs => $1)",
    "UPDATE harkara.breakers SET retry_at = retry_at - make_interval(secs => $1), \
     failed_at = failed_at - make_interval(secs => $1), opened_at = opened_at - make_interval(secs => $1)",
    "UPDATE harkara.request_rates SET full_at = full_at - make_interval(secs => $1)",
    // By whole days, because it is the begin of one.
    "UPDATE harkara.daily_counts SET day_at = day_at - make_interval(days => floor($1 / 86400)::integer)",
    "UPDATE harkara.send_pace SET next_send_at = next_send_at - make_interval(secs => $1), \
     line_ends_at = line_ends_at - make_interval(secs => $1)",
    "UPDATE harkara.link_keys SET created_at = created_at - make_interval(secs => $1)",
];

/// Lets time pass: every time that the database keeps and decides by moves back. Wants the database's admin.
pub async fn shift_time(admin: &PgPool, time: Duration) {
    for shift in SHIFTS {
        sqlx::query(*shift).bind(time.as_secs_f64()).execute(admin).await.expect("time passes");
    }
}
