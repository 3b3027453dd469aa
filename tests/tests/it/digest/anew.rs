//! What waits for a digest follows what is said meanwhile: by the recipient, by the tenant, and by the clock where the
//! recipient is.

use super::*;
use sqlx::PgPool;
use std::time::Duration;

async fn put_tenant_preferences(stage: &Stage, preferences: Value) {
    let body = json!({"preferences": preferences}).to_string();
    let answer = stage.call(TENANT, "PUT /v1/preferences", None, "", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Lets the digest review what waits, and the processor decide.
async fn review(stage: &Stage) -> usize {
    stage.pass(Duration::from_secs(61)).await;
    let counts = stage.close_digests().await;
    stage.dispatch().await;
    stage.drain().await;
    counts.reviewed
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_the_tenant_says_for_everybody_holds_for_what_waits(pool: PgPool) {
    let stage = begin(pool).await;
    put_recipient(&stage, "ben", "Asia/Kolkata", &[]).await;
    put_tenant_preferences(&stage, json!([{"category": "*", "cadence": "daily"}])).await;
    review(&stage).await;
    let (hers, his) = (ask(&stage, "ASSIGNED", "ada", "hers").await, ask(&stage, "ASSIGNED", "ben", "his").await);
    let other = ask(&stage, "COMMENTED", "ben", "other").await;
    assert_eq!(outcome(&stage, &his).await, is("held", "cadence_not_due"));

    put_tenant_preferences(
        &stage,
        json!([{"category": "*", "cadence": "daily"}, {"category": "ASSIGNED", "enabled": false}]),
    )
    .await;
    assert_eq!(review(&stage).await, 3);
    assert_eq!(outcome(&stage, &his).await, is("skipped", "preference_off"));
    assert_eq!(outcome(&stage, &hers).await, is("skipped", "preference_off"));
    assert_eq!(outcome(&stage, &other).await, is("held", "cadence_not_due"), "it waits on");
    assert_eq!(review(&stage).await, 0, "once");

    put_tenant_preferences(&stage, json!([{"category": "*", "cadence": "immediate"}])).await;
    assert_eq!(review(&stage).await, 1);
    assert_eq!(outcome(&stage, &other).await.0, "sent");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn no_digest_takes_along_what_is_about_to_be_decided_about_anew(pool: PgPool) {
    let stage = begin(pool).await;
    let unwanted = ask(&stage, "ASSIGNED", "ada", "unwanted").await;
    ask(&stage, "COMMENTED", "ada", "wanted").await;
    put_recipient(&stage, "ben", "Asia/Kolkata", &[]).await;
    prefer(&stage, "ben", "daily").await;
    let his = ask(&stage, "ASSIGNED", "ben", "his").await;
    move_to(&stage, WEDNESDAY).await;
    // At the very moment of the close, and before anybody has looked at what that changes.
    let off =
        json!({"preferences": [{"category": "*", "cadence": "daily"}, {"category": "ASSIGNED", "enabled": false}]});
    send(&stage, "PUT", "/v1/recipients/{id}/preferences", "ada", off).await;
    put_tenant_preferences(&stage, json!([{"category": "ASSIGNED", "enabled": false}])).await;
    assert_eq!(stage.close_digests().await.members, 0);
    review(&stage).await;
    assert_eq!(outcome(&stage, &unwanted).await, is("skipped", "preference_off"));
    assert_eq!(outcome(&stage, &his).await, is("skipped", "preference_off"));
    stage.close_digests().await;
    stage.drain().await;
    let mails = mails_after(&stage, 0).await;
    assert_eq!(mails.len(), 1, "{mails:?}");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_consent_that_a_category_comes_to_need_is_asked_for_what_waits(pool: PgPool) {
    let stage = begin(pool).await;
    let id = ask(&stage, "ASSIGNED", "ada", "one").await;
    let needs = json!({
        "class": "transactional", "template": "greeting", "digest_category": "BULK_DIGEST", "consent_purpose": "reminders",
    });
    put_category(&stage, "ASSIGNED", needs).await;
    assert_eq!(review(&stage).await, 1);
    assert_eq!(outcome(&stage, &id).await, is("skipped", "consent_missing"));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn another_cadence_collects_what_waits_and_sends_it_together(pool: PgPool) {
    let stage = begin(pool).await;
    prefer(&stage, "ada", "weekly").await;
    let mut asked = Vec::new();
    for name in ["one", "two"] {
        asked.push(ask(&stage, "ASSIGNED", "ada", name).await);
    }
    // On Thursday the day in which they came is long over.
    move_to(&stage, "2026-12-03T10:00:00Z").await;
    prefer(&stage, "ada", "daily").await;
    stage.dispatch().await;
    stage.drain().await;
    assert_eq!(outcome(&stage, &asked[0]).await, is("held", "cadence_not_due"));
    move_to(&stage, "2026-12-04T03:30:00Z").await;
    assert_eq!(stage.close_digests().await.members, 2);
    assert_eq!(mails_after(&stage, 0).await.len(), 1);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn who_moves_to_another_zone_gets_what_waits_at_the_time_there(pool: PgPool) {
    let stage = begin(pool).await;
    let id = ask(&stage, "ASSIGNED", "ada", "one").await;
    put_recipient(&stage, "ada", "America/New_York", &[]).await;
    move_to(&stage, WEDNESDAY).await;
    let counts = stage.close_digests().await;
    assert_eq!((counts.digests, counts.postponed), (0, 1), "it is half past ten in the evening: {counts:?}");
    assert_eq!(stage.show(&id).await["deliveries"][0]["digest"]["due"], "2026-12-02T14:00:00Z");
    move_to(&stage, "2026-12-02T14:00:00Z").await;
    assert_eq!(stage.dispatch().await.published, 0, "nor does it go by itself meanwhile");
    assert_eq!(stage.close_digests().await.members, 1);
    assert_eq!(mails_after(&stage, 0).await.len(), 1);
    stage.finish().await;
}
