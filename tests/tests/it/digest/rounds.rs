//! Digests with a rhythm of their own: for roles, in each zone, also with nothing in them.

use super::*;
use flow::progress::Progress;
use sqlx::PgPool;

/// `WEEKLY_DIGEST` of S0: each Monday at 09:00 in the recipient's zone, for CAE and CCO whatever they prefer.
async fn put_weekly(stage: &Stage) {
    put_category(
        stage,
        "WEEKLY_DIGEST",
        json!({
            "class": "digest", "template": "digest", "quiet_hours_apply": false, "unmutable_roles": ["CAE", "CCO"],
            "digest": {"cadence": "weekly", "roles": ["AUDITOR"]},
        }),
    )
    .await;
}

async fn addresses(stage: &Stage, seen: usize) -> Vec<String> {
    let mut addresses: Vec<_> = mails_after(stage, seen).await.into_iter().map(|(to, _, _)| to).collect();
    addresses.sort();
    addresses
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_mandatory_weekly_digest_reaches_each_holder_of_its_roles_in_the_own_zone_also_empty(pool: PgPool) {
    let stage = begin(pool).await;
    put_weekly(&stage).await;
    put_recipient(&stage, "vikram", "Asia/Kolkata", &["CAE"]).await;
    put_recipient(&stage, "nora", "America/New_York", &["CCO"]).await;
    put_recipient(&stage, "asha", "Asia/Kolkata", &["AUDITOR"]).await;
    assert_eq!(stage.close_digests().await.digests, 0, "nothing is due yet");

    // Monday, 09:00 in Kolkata.
    move_to(&stage, "2026-12-07T03:30:00Z").await;
    assert_eq!(stage.close_digests().await.digests, 1, "Asha may get it, and there is nothing in it");
    assert_eq!(stage.close_digests().await.digests, 0, "once");
    assert_eq!(addresses(&stage, 0).await, ["vikram@example.org"]);
    // Monday, 09:00 in New York.
    move_to(&stage, "2026-12-07T13:59:00Z").await;
    assert_eq!(stage.close_digests().await.digests, 0);
    move_to(&stage, "2026-12-07T14:00:00Z").await;
    assert_eq!(stage.close_digests().await.digests, 1);
    assert_eq!(mails_after(&stage, 1).await, [("nora@example.org".into(), "0 of news".into(), "Nothing new".into())]);

    // Three weeks in which nothing ran end with one digest, for the last of them.
    move_to(&stage, "2026-12-29T10:00:00Z").await;
    assert_eq!(stage.close_digests().await.digests, 2);
    assert_eq!(addresses(&stage, 2).await, ["nora@example.org", "vikram@example.org"]);
    let ends =
        "SELECT count(*) FROM harkara.digests WHERE period_end_at IN ('2026-12-28T03:30:00Z', '2026-12-28T14:00:00Z')";
    assert_eq!(stage.count(ends).await, 2);
    move_to(&stage, "2027-01-04T03:30:00Z").await;
    assert_eq!(stage.close_digests().await.digests, 1, "and the next one comes at its time");
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_round_takes_along_what_was_collected(pool: PgPool) {
    let stage = begin(pool).await;
    put_weekly(&stage).await;
    put_category(
        &stage,
        "REPORTED",
        json!({"class": "transactional", "template": "greeting", "digest_category": "WEEKLY_DIGEST"}),
    )
    .await;
    for (id, role) in [("vikram", "CAE"), ("asha", "AUDITOR")] {
        put_recipient(&stage, id, "Asia/Kolkata", &[role]).await;
        prefer(&stage, id, "weekly").await;
        ask(&stage, "REPORTED", id, "report").await;
    }
    stage.close_digests().await;
    move_to(&stage, "2026-12-07T03:30:00Z").await;
    let counts = stage.close_digests().await;
    assert_eq!((counts.digests, counts.members), (2, 2), "{counts:?}");
    assert!(mails_after(&stage, 0).await.iter().all(|(_, _, text)| text == "REPORTED 1: report,"));
    assert_eq!(stage.close_digests().await.digests, 0);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn who_moves_to_another_zone_gets_a_week_once(pool: PgPool) {
    let stage = begin(pool).await;
    put_weekly(&stage).await;
    put_recipient(&stage, "vikram", "Asia/Kolkata", &["CAE"]).await;
    put_recipient(&stage, "nora", "America/New_York", &["CCO"]).await;
    stage.close_digests().await;
    move_to(&stage, "2026-12-07T03:30:00Z").await;
    assert_eq!(stage.close_digests().await.digests, 1);
    put_recipient(&stage, "vikram", "America/New_York", &["CAE"]).await;
    move_to(&stage, "2026-12-07T14:00:00Z").await;
    assert_eq!(stage.close_digests().await.digests, 1, "Nora's");
    move_to(&stage, "2026-12-14T03:30:00Z").await;
    assert_eq!(stage.close_digests().await.digests, 0);
    move_to(&stage, "2026-12-14T14:00:00Z").await;
    assert_eq!(stage.close_digests().await.digests, 2, "in the new zone from now on");
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn clocks_that_change_neither_lose_nor_double_a_day(pool: PgPool) {
    let stage = begin(pool).await;
    let settings = json!({"digest_time": "02:30"});
    stage.call(TENANT, "PUT /v1/settings", None, "", &settings.to_string()).await;
    put_recipient(&stage, "ben", "Europe/Berlin", &["READER"]).await;
    put_category(
        &stage,
        "DAILY",
        json!({
            "class": "digest", "template": "digest", "quiet_hours_apply": false,
            "digest": {"cadence": "daily", "roles": ["READER"], "send_empty": true},
        }),
    )
    .await;
    // 02:30 does not come on 28 March 2027, comes twice on 31 October 2027, and on a leap day like on any other.
    for (before, moments) in [
        ("2027-03-27T12:00:00Z", ["2027-03-28T01:30:00Z", "2027-03-29T00:30:00Z"]),
        ("2027-10-30T12:00:00Z", ["2027-10-31T00:30:00Z", "2027-11-01T01:30:00Z"]),
        ("2028-02-28T12:00:00Z", ["2028-02-29T01:30:00Z", "2028-03-01T01:30:00Z"]),
    ] {
        move_to(&stage, before).await;
        stage.close_digests().await;
        let seen = stage.count("SELECT count(*) FROM harkara.digests").await;
        for (place, moment) in moments.into_iter().enumerate() {
            move_to(&stage, moment).await;
            assert_eq!(stage.close_digests().await.digests, 1, "{moment}");
            // Each hour of the day after it.
            for _ in 0..3 {
                stage.pass(std::time::Duration::from_secs(3600)).await;
                assert_eq!(stage.close_digests().await.digests, 0, "after {moment}");
            }
            assert_eq!(stage.count("SELECT count(*) FROM harkara.digests").await - seen, place as i64 + 1);
        }
    }
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn two_runs_close_a_round_once_and_other_times_hold_from_the_next_period_on(pool: PgPool) {
    let stage = begin(pool).await;
    put_weekly(&stage).await;
    for number in 0..30 {
        put_recipient(&stage, &format!("chief-{number}"), "Asia/Kolkata", &["CAE"]).await;
    }
    stage.close_digests().await;
    move_to(&stage, "2026-12-07T03:30:00Z").await;
    let other = flow::digest::Digest {
        database: stage.digest.database.clone(),
        queue: stage.queue.clone(),
        public_url: stage.digest.public_url.clone(),
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let untold = Progress::untold();
    let (one, two) = tokio::join!(stage.digest.run(deadline, &untold), other.run(deadline, &untold));
    assert_eq!(one.expect("closed").digests + two.expect("closed").digests, 30);
    // Tuesdays at ten.
    let settings = json!({"digest_time": "10:00", "digest_weekday": 2});
    stage.call(TENANT, "PUT /v1/settings", None, "", &settings.to_string()).await;
    stage.close_digests().await;
    for not_yet in ["2026-12-14T04:30:00Z", "2026-12-15T04:29:00Z"] {
        move_to(&stage, not_yet).await;
        assert_eq!(stage.close_digests().await.digests, 0, "{not_yet}");
    }
    move_to(&stage, "2026-12-15T04:30:00Z").await;
    assert_eq!(stage.close_digests().await.digests, 30);
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 60);
    stage.finish().await;
}
