//! A digest leaves when its recipient has chosen, and else when the tenant says.

use super::*;
use flow::progress::Progress;
use sqlx::PgPool;
use std::time::{Duration, Instant};

/// Puts what a recipient says about everything.
async fn choose(stage: &Stage, recipient: &str, wish: Value) -> Answer {
    let body = json!({"preferences": [wish]});
    send(stage, "PUT", "/v1/recipients/{id}/preferences", recipient, body).await
}

/// Wants everything daily, at this time.
async fn choose_time(stage: &Stage, recipient: &str, time: Value) {
    let answer = choose(stage, recipient, json!({"cadence": "daily", "digest_time": time})).await;
    assert_eq!((answer.status, &answer.body["preferences"][0]["digest_time"]), (200, &time), "{answer:?}");
}

/// Lets what a change concerns be decided about anew.
async fn decide(stage: &Stage) {
    stage.dispatch().await;
    stage.drain().await;
}

async fn due(stage: &Stage, id: &str) -> String {
    stage.show(id).await["deliveries"][0]["digest"]["due"].as_str().expect("it waits").to_owned()
}

async fn put_settings(stage: &Stage, settings: Value) {
    let answer = stage.call(TENANT, "PUT /v1/settings", None, "", &settings.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn each_recipient_gets_its_digest_at_the_time_of_its_own_choice(pool: PgPool) {
    let stage = begin(pool).await;
    for name in ["ben", "cleo"] {
        put_recipient(&stage, name, "Asia/Kolkata", &[]).await;
    }
    choose_time(&stage, "ada", json!("07:30")).await;
    choose_time(&stage, "ben", Value::Null).await;
    choose_time(&stage, "cleo", json!("18:00")).await;
    for name in ["ada", "ben", "cleo"] {
        ask(&stage, "ASSIGNED", name, "one").await;
    }
    // Half past seven, nine, and six in the evening in Kolkata; it is half past three in the afternoon.
    let moments = [
        ("2026-12-01T12:29:59Z", None),
        ("2026-12-01T12:30:00Z", Some("cleo@example.org")),
        ("2026-12-02T01:59:59Z", None),
        ("2026-12-02T02:00:00Z", Some("ada@example.org")),
        ("2026-12-02T03:29:59Z", None),
        (WEDNESDAY, Some("ben@example.org")),
    ];
    for (moment, to) in moments {
        let seen = stage.mail.asked().len();
        move_to(&stage, moment).await;
        stage.close_digests().await;
        let mails = mails_after(&stage, seen).await;
        assert_eq!(mails.first().map(|(to, _, _)| to.as_str()), to, "{moment}");
        assert_eq!(mails.len(), usize::from(to.is_some()), "{mails:?}");
    }
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_weekday_of_ones_own_goes_with_the_tenants_time_of_the_day(pool: PgPool) {
    let stage = begin(pool).await;
    put_settings(&stage, json!({"digest_time": "10:00", "digest_weekday": 2})).await;
    put_recipient(&stage, "nora", "America/New_York", &[]).await;
    let answer = choose(&stage, "nora", json!({"cadence": "weekly", "digest_weekday": 5})).await;
    assert_eq!(answer.body["preferences"][0]["digest_weekday"], 5, "{answer:?}");
    let hers = ask(&stage, "ASSIGNED", "nora", "one").await;
    assert_eq!(due(&stage, &hers).await, "2026-12-04T15:00:00Z", "a Friday");
    move_to(&stage, "2026-12-04T15:00:00Z").await;
    assert_eq!(stage.close_digests().await.members, 1);
    assert_eq!(mails_after(&stage, 0).await.len(), 1);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn another_time_moves_what_waits_and_none_goes_back_to_the_tenants(pool: PgPool) {
    let stage = begin(pool).await;
    let id = ask(&stage, "ASSIGNED", "ada", "one").await;
    assert_eq!(due(&stage, &id).await, WEDNESDAY);
    for (time, moved) in [
        (json!("18:00"), "2026-12-01T12:30:00Z"),
        (json!("08:00"), "2026-12-02T02:30:00Z"),
        (Value::Null, WEDNESDAY),
        (json!("23:15"), "2026-12-01T17:45:00Z"),
    ] {
        choose_time(&stage, "ada", time).await;
        decide(&stage).await;
        assert_eq!(due(&stage, &id).await, moved);
        assert_eq!(outcome(&stage, &id).await, is("held", "cadence_not_due"));
    }
    move_to(&stage, "2026-12-01T17:45:00Z").await;
    assert_eq!(stage.close_digests().await.members, 1);
    assert_eq!(mails_after(&stage, 0).await.len(), 1);
    move_to(&stage, WEDNESDAY).await;
    assert_eq!(stage.close_digests().await.digests, 0, "it has left");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_time_that_is_chosen_at_the_moment_of_the_close_holds(pool: PgPool) {
    let stage = begin(pool).await;
    let id = ask(&stage, "ASSIGNED", "ada", "one").await;
    move_to(&stage, WEDNESDAY).await;
    choose_time(&stage, "ada", json!("18:00")).await;
    assert_eq!(stage.close_digests().await.members, 0, "before anybody has looked at what that changes");
    decide(&stage).await;
    assert_eq!(due(&stage, &id).await, "2026-12-02T12:30:00Z");
    assert_eq!(stage.mail.asked().len(), 0, "nor does it go by itself");
    move_to(&stage, "2026-12-02T12:30:00Z").await;
    assert_eq!(stage.close_digests().await.members, 1);
    assert_eq!(mails_after(&stage, 0).await.len(), 1);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn another_time_of_the_tenants_is_nothing_to_whoever_has_one(pool: PgPool) {
    let stage = begin(pool).await;
    put_recipient(&stage, "ben", "Asia/Kolkata", &[]).await;
    prefer(&stage, "ben", "daily").await;
    choose_time(&stage, "ada", json!("09:00")).await;
    for name in ["ada", "ben"] {
        ask(&stage, "ASSIGNED", name, "one").await;
    }
    put_settings(&stage, json!({"digest_time": "18:00"})).await;
    move_to(&stage, WEDNESDAY).await;
    let counts = stage.close_digests().await;
    assert_eq!((counts.digests, counts.postponed), (1, 1), "{counts:?}");
    let mails = mails_after(&stage, 0).await;
    assert_eq!(mails.iter().map(|(to, _, _)| to.as_str()).collect::<Vec<_>>(), ["ada@example.org"]);
    move_to(&stage, "2026-12-02T12:30:00Z").await;
    assert_eq!(stage.close_digests().await.members, 1);
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn two_digests_at_the_instant_of_a_chosen_time_send_one(pool: PgPool) {
    let stage = begin(pool).await;
    choose_time(&stage, "ada", json!("07:30")).await;
    for name in ["one", "two"] {
        ask(&stage, "ASSIGNED", "ada", name).await;
    }
    move_to(&stage, "2026-12-02T02:00:00Z").await;
    let other = flow::digest::Digest {
        database: stage.digest.database.clone(),
        queue: stage.queue.clone(),
        public_url: stage.digest.public_url.clone(),
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    let untold = Progress::untold();
    let (one, two) = tokio::join!(stage.digest.run(deadline, &untold), other.run(deadline, &untold));
    let (one, two) = (one.expect("closed"), two.expect("closed"));
    assert_eq!((one.digests + two.digests, one.members + two.members), (1, 2), "{one:?} {two:?}");
    move_to(&stage, WEDNESDAY).await;
    assert_eq!(stage.close_digests().await.digests, 0, "nor at the tenant's time");
    assert_eq!(mails_after(&stage, 0).await.len(), 1);
    stage.finish().await;
}

/// Each day for auditors, also with nothing in it.
async fn put_rhythm(stage: &Stage, cadence: &str) {
    let rhythm = json!({
        "class": "digest", "template": "digest", "quiet_hours_apply": false,
        "digest": {"cadence": cadence, "roles": ["AUDITOR"], "send_empty": true},
    });
    put_category(stage, "BULK_DIGEST", rhythm).await;
}

/// Who gets which digests at a moment.
async fn told_at(stage: &Stage, moment: &str) -> Vec<(String, String)> {
    let seen = stage.mail.asked().len();
    move_to(stage, moment).await;
    stage.close_digests().await;
    stage.close_digests().await;
    let mut told: Vec<_> = mails_after(stage, seen).await.into_iter().map(|(to, subject, _)| (to, subject)).collect();
    told.sort();
    told
}

fn told(mails: &[(&str, &str)]) -> Vec<(String, String)> {
    mails.iter().map(|(to, subject)| (format!("{to}@example.org"), format!("{subject} of news"))).collect()
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_round_reaches_each_at_the_chosen_time_with_what_was_collected_and_once(pool: PgPool) {
    let stage = begin(pool).await;
    put_rhythm(&stage, "daily").await;
    for name in ["ada", "ben"] {
        put_recipient(&stage, name, "Asia/Kolkata", &["AUDITOR"]).await;
    }
    move_to(&stage, "2026-12-01T13:00:00Z").await;
    choose_time(&stage, "ada", json!("18:00")).await;
    stage.close_digests().await;
    ask(&stage, "ASSIGNED", "ada", "one").await;
    assert_eq!(told_at(&stage, WEDNESDAY).await, told(&[("ben", "0")]));
    assert_eq!(told_at(&stage, "2026-12-02T12:30:00Z").await, told(&[("ada", "1")]));
    assert_eq!(told_at(&stage, "2026-12-03T03:30:00Z").await, told(&[("ben", "0")]));

    // Of two times on one day the earlier was hers already; the new one holds from the next day on.
    choose_time(&stage, "ada", json!("20:00")).await;
    choose_time(&stage, "ben", json!("20:00")).await;
    assert_eq!(told_at(&stage, "2026-12-03T12:30:00Z").await, []);
    assert_eq!(told_at(&stage, "2026-12-03T14:30:00Z").await, told(&[("ada", "0")]), "Ben has had this day's");
    assert_eq!(told_at(&stage, "2026-12-04T14:30:00Z").await, told(&[("ada", "0"), ("ben", "0")]));
    let left = "SELECT count(*) FROM harkara.digest_rounds WHERE time_zone LIKE '%18:00%'";
    assert_eq!(stage.count(left).await, 0, "nobody is left there");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_weekly_round_goes_by_the_chosen_weekday_and_by_the_tenants_time_where_only_that_was_said(pool: PgPool) {
    let stage = begin(pool).await;
    put_rhythm(&stage, "weekly").await;
    for name in ["ada", "ben"] {
        put_recipient(&stage, name, "Asia/Kolkata", &["AUDITOR"]).await;
    }
    assert_eq!(choose(&stage, "ada", json!({"digest_weekday": 5})).await.status, 200);
    stage.close_digests().await;
    // Friday and Monday, 09:00 in Kolkata.
    assert_eq!(told_at(&stage, "2026-12-04T03:30:00Z").await, told(&[("ada", "0")]));
    assert_eq!(told_at(&stage, "2026-12-07T03:30:00Z").await, told(&[("ben", "0")]));
    // Another time of the tenant's is the one of whoever has chosen a day only.
    put_settings(&stage, json!({"digest_time": "11:00"})).await;
    stage.close_digests().await;
    assert_eq!(told_at(&stage, "2026-12-11T03:30:00Z").await, []);
    assert_eq!(told_at(&stage, "2026-12-11T05:30:00Z").await, told(&[("ada", "0")]));
    assert_eq!(told_at(&stage, "2026-12-14T05:30:00Z").await, told(&[("ben", "0")]));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn whoever_chooses_a_time_just_before_it_misses_nothing(pool: PgPool) {
    let stage = begin(pool).await;
    put_rhythm(&stage, "weekly").await;
    put_recipient(&stage, "ada", "Asia/Kolkata", &["AUDITOR"]).await;
    stage.close_digests().await;
    // Two minutes before the tenant's time, which is hers; the next run is late by three hours.
    move_to(&stage, "2026-12-07T03:28:00Z").await;
    assert_eq!(choose(&stage, "ada", json!({"digest_time": "09:00", "digest_weekday": 1})).await.status, 200);
    assert_eq!(told_at(&stage, "2026-12-07T06:30:00Z").await, told(&[("ada", "0")]));
    // What was over when it was chosen comes in a week.
    assert_eq!(choose(&stage, "ada", json!({"digest_time": "09:00", "digest_weekday": 6})).await.status, 200);
    move_to(&stage, "2026-12-12T03:31:00Z").await;
    assert_eq!(choose(&stage, "ada", json!({"digest_time": "09:01", "digest_weekday": 6})).await.status, 200);
    assert_eq!(told_at(&stage, "2026-12-12T03:35:00Z").await, []);
    assert_eq!(told_at(&stage, "2026-12-19T03:31:00Z").await, told(&[("ada", "0")]));
    stage.finish().await;
}

/// A recipient with this role in each of so many minutes of the day and zones.
const CHOOSE_MINUTES: &str = "
    WITH made AS (
        INSERT INTO harkara.recipients (tenant_id, recipient_id, email, time_zone, roles)
        SELECT $1::uuid, 'r' || n, 'r' || n || '@example.org',
               ('{Asia/Kolkata,Europe/Berlin,America/New_York}'::text[])[n % 3 + 1], '{AUDITOR}'
        FROM generate_series(0, 3 * $2::integer - 1) n
        RETURNING subject_id, substr(recipient_id, 2)::integer / 3 AS minute
    )
    INSERT INTO harkara.preferences (tenant_id, subject_id, category_key, channel, digest_time, digest_weekday)
    SELECT $1::uuid, subject_id, '*', '*', time '00:00' + minute * interval '1 minute', minute % 7 + 1 FROM made";

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn one_run_plans_however_many_times_were_chosen_and_takes_of_each_what_the_rhythm_has(pool: PgPool) {
    let stage = begin(pool).await;
    let minutes = 400;
    sqlx::query(CHOOSE_MINUTES).bind(TENANT).bind(minutes).execute(&stage.admin).await.expect("chosen");
    let places = "SELECT count(*) FROM harkara.digest_rounds WHERE time_zone LIKE '% %'";
    for (cadence, count) in [("hourly", 0), ("daily", 1200), ("weekly", 1200)] {
        sqlx::query("DELETE FROM harkara.digest_rounds").execute(&stage.admin).await.expect("forgotten");
        put_rhythm(&stage, cadence).await;
        stage.close_digests().await;
        assert_eq!(stage.count(places).await, count, "{cadence}");
    }
    let weekdays = "SELECT count(*) FROM harkara.digest_rounds WHERE time_zone ~ '[1-7]$'";
    assert_eq!(stage.count(weekdays).await, 1200);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn each_rhythm_asks_for_as_much_of_a_choice_as_it_has(pool: PgPool) {
    let stage = begin(pool).await;
    for name in ["ada", "ben", "cleo"] {
        put_recipient(&stage, name, "Asia/Kolkata", &["AUDITOR"]).await;
    }
    assert_eq!(choose(&stage, "ada", json!({"digest_time": "18:00", "digest_weekday": 5})).await.status, 200);
    assert_eq!(choose(&stage, "ben", json!({"digest_time": "18:00"})).await.status, 200);
    assert_eq!(choose(&stage, "cleo", json!({"digest_weekday": 6})).await.status, 200);
    put_rhythm(&stage, "daily").await;
    stage.close_digests().await;
    assert_eq!(told_at(&stage, "2026-12-01T12:30:00Z").await, told(&[("ada", "0"), ("ben", "0")]));
    assert_eq!(told_at(&stage, WEDNESDAY).await, told(&[("cleo", "0")]));
    put_rhythm(&stage, "hourly").await;
    stage.close_digests().await;
    assert_eq!(told_at(&stage, "2026-12-02T04:30:00Z").await, told(&[("ada", "0"), ("ben", "0"), ("cleo", "0")]));
    put_rhythm(&stage, "weekly").await;
    stage.close_digests().await;
    assert_eq!(told_at(&stage, "2026-12-04T12:30:00Z").await, told(&[("ada", "0")]));
    assert_eq!(told_at(&stage, "2026-12-05T03:30:00Z").await, told(&[("cleo", "0")]));
    assert_eq!(told_at(&stage, "2026-12-07T12:30:00Z").await, told(&[("ben", "0")]));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_time_that_is_none_or_of_a_part_only_is_refused_where_it_stands(pool: PgPool) {
    let stage = begin(pool).await;
    let shown = async || stage.call(TENANT, "GET /v1/recipients/{id}/preferences", Some("ada"), "", "").await.body;
    let before = shown().await;
    for (wish, pointer) in [
        (json!({"digest_time": "24:00"}), "/preferences/0/digest_time"),
        (json!({"digest_time": "7:30"}), "/preferences/0/digest_time"),
        (json!({"digest_time": 730}), "/preferences/0/digest_time"),
        (json!({"digest_weekday": 0}), "/preferences/0/digest_weekday"),
        (json!({"digest_weekday": 8}), "/preferences/0/digest_weekday"),
        (json!({"digest_weekday": "friday"}), "/preferences/0/digest_weekday"),
        (json!({"category": "ASSIGNED", "digest_time": "07:30"}), "/preferences/0/digest_time"),
        (json!({"channel": "email", "digest_weekday": 5}), "/preferences/0/digest_weekday"),
        (json!({"digest_time": null, "digest_weekday": null}), "/preferences/0"),
    ] {
        let refused = choose(&stage, "ada", wish.clone()).await;
        assert_eq!((refused.status, refused.pointers()), (422, vec![pointer]), "{wish}");
    }
    assert_eq!(shown().await, before, "nothing of it was stored");
    let tenants = json!({"preferences": [{"digest_time": "07:30", "digest_weekday": 5}]}).to_string();
    let refused = stage.call(TENANT, "PUT /v1/preferences", None, "", &tenants).await;
    assert_eq!(
        (refused.status, refused.pointers()),
        (422, vec!["/preferences/0/digest_time", "/preferences/0/digest_weekday"])
    );
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_erasure_leaves_nothing_of_what_was_chosen(pool: PgPool) {
    let stage = begin(pool).await;
    choose_time(&stage, "ada", json!("07:30")).await;
    assert_eq!(stage.count("SELECT count(*) FROM harkara.preferences WHERE digest_time = '07:30'").await, 1);
    stage.call(TENANT, "DELETE /v1/recipients/{id}", Some("ada"), "", "").await;
    assert_eq!(stage.count("SELECT count(*) FROM harkara.preferences WHERE digest_time IS NOT NULL").await, 0);
    stage.finish().await;
}
