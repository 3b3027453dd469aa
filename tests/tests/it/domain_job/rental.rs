//! The views of a rental company, as `infra/examples/rental_domain.sql` has them, and what becomes of their rows. Their clock
//! is the company's own.

use super::{MINUTE, execute, put, told};
use serde_json::json;
use sqlx::PgPool;
use tests::{Stage, TENANT};

const DOMAIN: &str = include_str!("../../../../infra/examples/rental_domain.sql");

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_booking_is_reminded_of_its_deposit_its_pickup_and_its_return_once_each(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    execute(&pool, DOMAIN).await;
    let bookings = "
        INSERT INTO rental.bookings
        SELECT '018f0000-0000-7000-8000-000000000001', b.id, 'ada', 'car', now() + b.pickup, now() + b.return,
               now() + b.returned, now() + b.deposit_due, now() + b.deposit_paid
        FROM (VALUES
            ('ahead',    '20 hours'::interval, '5 days'::interval, NULL::interval, '19 hours'::interval, NULL::interval),
            ('paid',     '20 hours', '5 days',   NULL,      '19 hours', '-1 day'),
            ('out',      '-3 days',  '18 hours', NULL,      '-4 days',  NULL),
            ('back',     '-3 days',  '18 hours', '-1 hour', NULL,       NULL),
            ('far',      '25 hours', '5 days',   NULL,      '25 hours', NULL),
            ('late',     '-3 days',  '-1 hour',  NULL,      NULL,       NULL)
        ) b (id, pickup, return, returned, deposit_due, deposit_paid)";
    execute(&pool, bookings).await;
    let template = json!({
        "variables": {"what": {"type": "string", "example": "Your booking begins"}}, "subject": "{{ what }}", "text": "{{ what }}",
    });
    stage.publish(TENANT, "told", template).await;
    let category = json!({"class": "reminder", "template": "told", "quiet_hours_apply": false});
    stage.put(TENANT, "/v1/categories/{key}", "BOOKING_REMINDER", category).await;
    let reminders = json!({
        "schedule": "rate(5 minutes)",
        "candidates": {"view": "rental.booking_reminders_due", "category": "BOOKING_REMINDER"},
    });
    put(&stage, "booking_reminders", &reminders).await;
    let expected = ["deposit-ahead", "pickup-ahead", "pickup-paid", "return-out"];
    for _ in 0..2 {
        stage.pass(MINUTE * 5).await;
        stage.run_domain_jobs().await;
        assert_eq!(told(&pool).await, expected);
    }
    stage.drain().await;
    let mut subjects: Vec<String> = stage.mail.asked().iter().map(|mail| mail.subject.as_str().to_owned()).collect();
    subjects.sort();
    let expected = [
        "The deposit for car is due within a day",
        "Your booking of car begins within a day",
        "Your booking of car begins within a day",
        "Your booking of car ends within a day",
    ];
    assert_eq!(subjects, expected);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_promotion_is_active_from_its_begin_until_its_end_whether_or_not_a_job_has_run(pool: PgPool) {
    execute(&pool, DOMAIN).await;
    // One transaction is one moment.
    let mut moment = pool.begin().await.expect("begun");
    let promotions = "
        INSERT INTO rental.promotions
        SELECT '018f0000-0000-7000-8000-000000000001', p.id, now() + p.begins, now() + p.ends
        FROM (VALUES ('begins', '0'::interval, '1 hour'::interval), ('ends', '-1 hour', '0'), ('goes on', '-1 hour', '1 hour'),
                     ('comes', '1 second', '1 hour')) p (id, begins, ends)";
    sqlx::query(promotions).execute(&mut *moment).await.expect("planned");
    let active = "SELECT promotion_id FROM rental.active_promotions ORDER BY promotion_id";
    let active: Vec<String> = sqlx::query_scalar(active).fetch_all(&mut *moment).await.expect("they can be read");
    assert_eq!(active, ["begins", "goes on"]);
}
