//! How much a digest holds, what it costs, and what is refused.

use super::*;
use crate::batches::{link_of, open_link};
use sqlx::PgPool;

/// Adds notifications to known recipients that wait for `BULK_DIGEST` since the time it is.
const SEED: &str = "
    WITH wanted AS (
        SELECT r.tenant_id, r.recipient_id, gen_random_uuid() AS notification_id, gen_random_uuid() AS delivery_id, n
        FROM harkara.recipients r CROSS JOIN generate_series(1, $2) n
        WHERE r.tenant_id = $1::uuid AND r.recipient_id LIKE $3
    ),
    asked AS (
        INSERT INTO harkara.notifications (tenant_id, notification_id, category_key, recipient_id, template_key, send_at, data)
        SELECT tenant_id, notification_id, 'ASSIGNED', recipient_id, 'greeting', harkara.now(),
               jsonb_build_object('name', 'item ' || n) FROM wanted
    ),
    held AS (
        INSERT INTO harkara.deliveries
            (tenant_id, delivery_id, notification_id, channel, state, reason, max_attempts, not_before, due_at)
        SELECT tenant_id, delivery_id, notification_id, 'email', 'held', 'cadence_not_due', 3,
               harkara.now() + interval '1 day', harkara.now() + interval '1 day' FROM wanted
    )
    INSERT INTO harkara.digest_entries (tenant_id, delivery_id, recipient_id, channel, category_key, cadence, due_at)
    SELECT tenant_id, delivery_id, recipient_id, 'email', 'BULK_DIGEST', 'daily', harkara.now() FROM wanted";

const READERS: &str = "
    INSERT INTO harkara.recipients (tenant_id, recipient_id, email, time_zone)
    SELECT $1::uuid, 'reader-' || n, 'reader-' || n || '@example.org', 'Asia/Kolkata' FROM generate_series(1, $2) n";

async fn seed(stage: &Stage, each: i32, recipients: &str) {
    sqlx::query(SEED).bind(TENANT).bind(each).bind(recipients).execute(&stage.admin).await.expect("seeded");
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_a_digest_has_no_room_for_is_counted_and_linked(pool: PgPool) {
    let stage = begin(pool).await;
    put_category(
        &stage,
        "BULK_DIGEST",
        json!({
            "class": "digest", "template": "digest", "quiet_hours_apply": false,
            "digest": {"more_url": "https://portal.example.org/inbox"},
        }),
    )
    .await;
    seed(&stage, 60, "ada").await;
    let small = ask(&stage, "COMMENTED", "ada", "small").await;
    move_to(&stage, WEDNESDAY).await;
    let counts = stage.close_digests().await;
    assert_eq!((counts.digests, counts.members), (1, 61), "{counts:?}");
    let mails = mails_after(&stage, 0).await;
    let text = &mails[0].2;
    assert!(text.starts_with("Assignments 60: item "), "{text}");
    assert!(text.contains("COMMENTED 1: small,"), "a small section is not crowded out: {text}");
    assert!(text.ends_with("and 11 more at https://portal.example.org/inbox"), "{text}");
    let digest = digest_of(&stage, &small).await;
    assert_eq!(stage.show(&digest).await["holds"]["count"], 61);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn where_the_tenant_has_no_place_for_the_rest_there_is_one(pool: PgPool) {
    let stage = begin(pool).await;
    seed(&stage, 60, "ada").await;
    move_to(&stage, WEDNESDAY).await;
    assert_eq!(stage.close_digests().await.members, 60);
    let text = mails_after(&stage, 0).await[0].2.clone();
    assert!(text.contains("and 10 more at https://notices.harkara.test/v1/collected/"), "{text}");
    let page = open_link(&stage, &link_of(&text)).await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains("60 in all") && page.body.contains("Hello item "), "{}", page.body);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn items_have_room_for_so_many_bytes_and_a_digest_takes_so_many_along(pool: PgPool) {
    let stage = begin(pool).await;
    let long = json!({"category": "ASSIGNED", "recipient": {"id": "ada"}, "data": {"name": "long", "note": "x".repeat(20_000)}});
    for _ in 0..2 {
        assert_eq!(stage.post(long.clone()).await.status, 202);
        stage.drain().await;
    }
    move_to(&stage, WEDNESDAY).await;
    assert_eq!(stage.close_digests().await.members, 2);
    let text = mails_after(&stage, 0).await[0].2.clone();
    assert!(text.starts_with("Assignments 2: long, and 1 more"), "{text}");

    seed(&stage, 1005, "ada").await;
    move_to(&stage, "2026-12-03T03:30:00Z").await;
    let counts = stage.close_digests().await;
    assert_eq!((counts.digests, counts.members, counts.postponed), (1, 1000, 5), "{counts:?}");
    move_to(&stage, "2026-12-04T03:30:00Z").await;
    assert_eq!(stage.close_digests().await.members, 5);
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_thousand_recipients_cost_a_few_transactions_of_few_statements(pool: PgPool) {
    let stage = begin(pool).await;
    sqlx::query(READERS).bind(TENANT).bind(1000).execute(&stage.admin).await.expect("seeded");
    seed(&stage, 3, "reader-%").await;
    move_to(&stage, WEDNESDAY).await;
    let counts = stage.close_digests().await;
    assert_eq!((counts.digests, counts.members, counts.refused), (1000, 3000, 0), "{counts:?}");
    assert!(counts.batches <= 3, "{counts:?}");
    // The log has a row for each; what wrote them are as many statements as batches, each with its own time.
    let notifications =
        "SELECT count(DISTINCT created_at) FROM harkara.notifications WHERE category_key = 'BULK_DIGEST'";
    assert_eq!(stage.count(notifications).await, 2);
    assert_eq!(stage.close_digests().await.digests, 0);
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn rules_that_cannot_hold_are_refused_where_they_stand(pool: PgPool) {
    let stage = begin(pool).await;
    let cases = [
        (json!({"class": "transactional", "digest_category": "greeting"}), "/digest_category"),
        (json!({"class": "transactional", "digest_category": "nothing"}), "/digest_category"),
        (json!({"class": "digest", "digest_category": "BULK_DIGEST"}), "/digest_category"),
        (json!({"class": "transactional", "digest": {"cadence": "daily", "roles": ["CAE"]}}), "/digest"),
        (json!({"class": "digest", "digest": {"cadence": "daily"}}), "/digest"),
        (json!({"class": "digest", "digest": {"cadence": "immediate", "roles": ["CAE"]}}), "/digest/cadence"),
        (json!({"class": "digest", "digest": {"cadence": "monthly", "roles": ["CAE"]}}), "/digest/cadence"),
        (json!({"class": "digest", "digest": {"roles": ["CAE"]}}), "/digest/cadence"),
        (json!({"class": "digest", "digest": {"more_url": "http://portal.example.org"}}), "/digest/more_url"),
        (json!({"class": "digest", "digest": {"when": "now"}}), "/digest/when"),
    ];
    for (body, pointer) in cases {
        let answer = send(&stage, "PUT", "/v1/categories/{key}", "odd", body.clone()).await;
        assert_eq!((answer.status, answer.pointers()), (422, vec![pointer]), "{body}: {answer:?}");
    }
    for body in [json!({"digest_category": "greeting"}), json!({"digest_category": "nothing"})] {
        let answer = stage.call(TENANT, "PUT /v1/settings", None, "", &body.to_string()).await;
        assert_eq!((answer.status, answer.pointers()), (422, vec!["/digest_category"]), "{answer:?}");
    }
    assert_eq!(stage.count("SELECT count(*) FROM harkara.categories WHERE category_key = 'odd'").await, 0);
    stage.finish().await;
}
