//! What is collected, what leaves with a digest, and what becomes of everything else that waited.

use super::*;
use crate::reminder::see_wait;
use flow::progress::Progress;
use sqlx::{PgPool, Postgres, Transaction};
use std::pin::pin;
use std::time::{Duration, Instant};

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_a_day_collects_leaves_as_one_mail_that_knows_what_it_holds(pool: PgPool) {
    let stage = begin(pool).await;
    let mut asked = Vec::new();
    for (category, name) in [("ASSIGNED", "one"), ("COMMENTED", "two"), ("ASSIGNED", "three")] {
        asked.push(ask(&stage, category, "ada", name).await);
    }
    assert_eq!(outcome(&stage, &asked[0]).await, is("held", "cadence_not_due"));
    let waiting = stage.show(&asked[0]).await["deliveries"][0].clone();
    assert_eq!((&waiting["not_before"], &waiting["digest"]["due"]), (&json!(WEDNESDAY), &json!(WEDNESDAY)));
    assert!(
        explain(&stage, &asked[0])
            .await
            .contains("waits for the digest BULK_DIGEST, which is due at 2026-12-02T03:30:00Z")
    );
    assert_eq!(stage.close_digests().await.digests, 0, "the day has not ended");

    move_to(&stage, WEDNESDAY).await;
    assert_eq!(stage.dispatch().await.published, 0, "the dispatcher leaves it to the digest");
    let counts = stage.close_digests().await;
    assert_eq!((counts.digests, counts.members), (1, 3), "{counts:?}");
    assert_eq!(stage.close_digests().await.digests, 0, "once");
    let mails = mails_after(&stage, 0).await;
    let text = "Assignments 2: one,three, COMMENTED 1: two,";
    assert_eq!(mails, [("ada@example.org".to_owned(), "3 of news".to_owned(), text.to_owned())]);

    let digest = digest_of(&stage, &asked[0]).await;
    for id in &asked {
        assert_eq!(outcome(&stage, id).await, is("absorbed", "in_digest"));
        assert_eq!(digest_of(&stage, id).await, digest);
    }
    let mut expected = asked.clone();
    expected.sort();
    assert_eq!(stage.show(&digest).await["holds"], json!({"count": 3, "notifications": expected}));
    let story = explain(&stage, &asked[0]).await;
    assert!(story.contains(&format!("The digest {digest} is sent.")), "{story}");
    stage.finish().await;
}

/// Takes the delivery of what is called late in hand.
async fn hold_late(holder: &mut Transaction<'static, Postgres>) {
    let lock = "SELECT count(*) FROM (
                    SELECT FROM harkara.deliveries d JOIN harkara.notifications n USING (tenant_id, notification_id)
                    WHERE n.data ->> 'name' = 'late' FOR UPDATE OF d) held";
    let held: i64 = sqlx::query_scalar(lock).fetch_one(&mut **holder).await.expect("locked");
    assert_eq!(held, 1);
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn two_digests_at_the_same_instant_send_everything_once(pool: PgPool) {
    let stage = begin(pool).await;
    for number in 0..20 {
        let id = format!("reader-{number}");
        put_recipient(&stage, &id, "Asia/Kolkata", &[]).await;
        prefer(&stage, &id, "daily").await;
        ask(&stage, "ASSIGNED", &id, "one").await;
        ask(&stage, "COMMENTED", &id, "two").await;
    }
    move_to(&stage, WEDNESDAY).await;
    let other = flow::digest::Digest {
        database: stage.digest.database.clone(),
        queue: stage.queue.clone(),
        public_url: stage.digest.public_url.clone(),
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    let untold = Progress::untold();
    let (one, two) = tokio::join!(stage.digest.run(deadline, &untold), other.run(deadline, &untold));
    let (one, two) = (one.expect("closed"), two.expect("closed"));
    assert_eq!(one.digests + two.digests, 20, "{one:?} {two:?}");
    assert_eq!(one.members + two.members, 40);
    assert_eq!(one.failed_tenants + two.failed_tenants, 0);
    let mut mails = mails_after(&stage, 0).await;
    mails.sort();
    mails.dedup();
    assert_eq!((mails.len(), stage.mail.asked().len()), (20, 20));
    stage.finish().await;
}

/// What waits is locked by whoever takes it along, which keeps no two apart that take different things of one period.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn two_digests_that_have_different_members_in_hand_close_a_period_once(pool: PgPool) {
    let stage = begin(pool).await;
    ask(&stage, "ASSIGNED", "ada", "first").await;
    ask(&stage, "ASSIGNED", "ada", "late").await;
    move_to(&stage, WEDNESDAY).await;
    let mut in_hand = stage.admin.begin().await.expect("a transaction");
    hold_late(&mut in_hand).await;
    // Each waits for the category once it has read what it takes along.
    let mut category = stage.admin.begin().await.expect("a transaction");
    let hold = "SELECT FROM harkara.categories WHERE category_key = 'BULK_DIGEST' FOR UPDATE";
    sqlx::query(hold).fetch_all(&mut *category).await.expect("held");
    let other = flow::digest::Digest {
        database: stage.digest.database.clone(),
        queue: stage.queue.clone(),
        public_url: stage.digest.public_url.clone(),
    };
    let (deadline, untold) = (Instant::now() + Duration::from_secs(60), Progress::untold());
    let second = async {
        see_wait(&stage.admin, 1).await;
        in_hand.rollback().await.expect("let go");
        let mut run = pin!(other.run(deadline, &untold));
        let done = tokio::select! {
            done = &mut run => Some(done),
            () = see_wait(&stage.admin, 2) => None,
        };
        category.rollback().await.expect("let go");
        match done {
            Some(done) => done,
            None => run.await,
        }
    };
    let (one, two) = tokio::join!(stage.digest.run(deadline, &untold), second);
    let (one, two) = (one.expect("closed"), two.expect("closed"));
    assert_eq!((one.digests + two.digests, one.members + two.members), (1, 1), "{one:?} {two:?}");
    stage.close_digests().await;
    let of_period = "SELECT count(*) FROM harkara.digests WHERE period_end_at = '2026-12-02T03:30:00Z'";
    assert_eq!(stage.count(of_period).await, 1);
    assert_eq!(mails_after(&stage, 0).await.len(), 1);
    move_to(&stage, "2026-12-03T03:30:00Z").await;
    stage.close_digests().await;
    assert_eq!(mails_after(&stage, 1).await[0].2, "Assignments 1: late,");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_tenant_that_names_no_digest_sends_each_by_itself_and_the_settings_name_one_for_all(pool: PgPool) {
    let stage = begin(pool).await;
    let alone = ask(&stage, "greeting", "ada", "alone").await;
    move_to(&stage, "2026-12-02T03:30:02Z").await;
    assert_eq!(stage.close_digests().await.digests, 0);
    assert_eq!(stage.dispatch().await.published, 1);
    assert_eq!(mails_after(&stage, 0).await[0].1, "Hello alone");
    assert_eq!(outcome(&stage, &alone).await.0, "sent");

    let settings = json!({"digest_category": "BULK_DIGEST"});
    let answer = stage.call(TENANT, "PUT /v1/settings", None, "", &settings.to_string()).await;
    assert_eq!((answer.status, &answer.body["digest_category"]), (200, &json!("BULK_DIGEST")));
    let collected = ask(&stage, "greeting", "ada", "together").await;
    move_to(&stage, "2026-12-03T03:30:00Z").await;
    assert_eq!(stage.close_digests().await.digests, 1);
    assert_eq!(mails_after(&stage, 1).await[0].1, "1 of news");
    assert_eq!(outcome(&stage, &collected).await, is("absorbed", "in_digest"));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_no_digest_comes_for_goes_by_itself_a_day_later(pool: PgPool) {
    let stage = begin(pool).await;
    let id = ask(&stage, "ASSIGNED", "ada", "one").await;
    move_to(&stage, "2026-12-03T03:29:00Z").await;
    assert_eq!(stage.dispatch().await.published, 0);
    move_to(&stage, "2026-12-03T03:30:01Z").await;
    assert_eq!(stage.dispatch().await.published, 1);
    assert_eq!(mails_after(&stage, 0).await[0].1, "Hello one");
    assert_eq!(outcome(&stage, &id).await.0, "sent");
    let counts = stage.close_digests().await;
    assert_eq!((counts.digests, counts.members), (0, 0), "it has left: {counts:?}");
    assert_eq!(stage.count("SELECT count(*) FROM harkara.digest_entries").await, 0);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn who_wants_it_at_once_or_not_at_all_does_not_wait_for_the_close(pool: PgPool) {
    let stage = begin(pool).await;
    let wanted = ask(&stage, "ASSIGNED", "ada", "one").await;
    prefer(&stage, "ada", "immediate").await;
    assert_eq!(stage.dispatch().await.published, 1);
    stage.drain().await;
    assert_eq!(outcome(&stage, &wanted).await.0, "sent");

    prefer(&stage, "ada", "weekly").await;
    let unwanted = ask(&stage, "ASSIGNED", "ada", "two").await;
    assert_eq!(outcome(&stage, &unwanted).await, is("held", "cadence_not_due"));
    let off =
        json!({"preferences": [{"category": "ASSIGNED", "enabled": false}, {"category": "*", "cadence": "weekly"}]});
    send(&stage, "PUT", "/v1/recipients/{id}/preferences", "ada", off).await;
    assert_eq!(stage.dispatch().await.published, 1);
    stage.drain().await;
    assert_eq!(outcome(&stage, &unwanted).await, is("skipped", "preference_off"));

    // What is only decided about anew waits on for the same digest.
    let other = ask(&stage, "COMMENTED", "ada", "three").await;
    prefer(&stage, "ada", "daily").await;
    stage.dispatch().await;
    stage.drain().await;
    assert_eq!(outcome(&stage, &other).await, is("held", "cadence_not_due"));
    move_to(&stage, WEDNESDAY).await;
    assert_eq!(stage.close_digests().await.members, 1);
    assert_eq!(mails_after(&stage, 1).await.len(), 1);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_ended_while_it_waited_is_not_in_the_digest(pool: PgPool) {
    let stage = begin(pool).await;
    let canceled = ask(&stage, "ASSIGNED", "ada", "canceled").await;
    let mut body = json!({"category": "ASSIGNED", "recipient": {"id": "ada"}, "data": {"name": "late"}});
    body["expires_at"] = "2026-12-02T03:31:00Z".into();
    let late = stage.post(body).await.id();
    stage.drain().await;
    assert_eq!(outcome(&stage, &late).await, is("held", "cadence_not_due"));
    let kept = ask(&stage, "ASSIGNED", "ada", "kept").await;
    let answer = stage.call(TENANT, "POST /v1/notifications/{id}/cancel", Some(&canceled), "", "").await;
    assert_eq!(answer.status, 200, "{answer:?}");

    move_to(&stage, "2026-12-02T03:33:00Z").await;
    let counts = stage.close_digests().await;
    assert_eq!((counts.digests, counts.members, counts.expired), (1, 1, 1), "{counts:?}");
    assert_eq!(mails_after(&stage, 0).await[0].2, "Assignments 1: kept,");
    assert_eq!(outcome(&stage, &canceled).await, is("canceled", "canceled_by_caller"));
    assert_eq!(outcome(&stage, &late).await, is("expired", "expiry_passed"));
    assert_eq!(outcome(&stage, &kept).await, is("absorbed", "in_digest"));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_digest_to_a_suppressed_address_is_skipped_and_its_members_say_so(pool: PgPool) {
    let stage = begin(pool).await;
    let id = ask(&stage, "ASSIGNED", "ada", "one").await;
    let answer = stage.call(TENANT, "PUT /v1/suppressions/{address}", Some("ada@example.org"), "", "").await;
    assert!(answer.status < 300, "{answer:?}");
    move_to(&stage, WEDNESDAY).await;
    assert_eq!(stage.close_digests().await.digests, 1);
    assert!(mails_after(&stage, 0).await.is_empty());
    let shown = stage.show(&id).await["deliveries"][0]["digest"].clone();
    assert_eq!((&shown["state"], &shown["reason"]), (&json!("skipped"), &json!("address_suppressed")));
    let story = explain(&stage, &id).await;
    assert!(story.contains("is skipped, because the address is suppressed."), "{story}");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_erased_recipient_gets_no_digest(pool: PgPool) {
    let stage = begin(pool).await;
    let id = ask(&stage, "ASSIGNED", "ada", "one").await;
    let answer = stage.call(TENANT, "DELETE /v1/recipients/{id}", Some("ada"), "", "").await;
    assert!(answer.status < 300, "{answer:?}");
    move_to(&stage, WEDNESDAY).await;
    assert_eq!(stage.close_digests().await.digests, 0);
    assert_eq!(outcome(&stage, &id).await, is("canceled", "recipient_erased"));
    assert_eq!(stage.count("SELECT count(*) FROM harkara.digest_entries").await, 0, "nothing waits");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_suspended_tenants_digests_wait_and_hold_up_nobody(pool: PgPool) {
    let stage = begin(pool).await;
    ask(&stage, "ASSIGNED", "ada", "one").await;
    let suspend = "UPDATE harkara.tenants SET state = $2 WHERE tenant_id = $1::uuid";
    sqlx::query(suspend).bind(TENANT).bind("suspended").execute(&stage.admin).await.expect("suspended");
    move_to(&stage, WEDNESDAY).await;
    let counts = stage.close_digests().await;
    assert_eq!((counts.digests, counts.failed_tenants), (0, 0), "{counts:?}");
    sqlx::query(suspend).bind(TENANT).bind("active").execute(&stage.admin).await.expect("active");
    assert_eq!(stage.close_digests().await.digests, 1);
    assert_eq!(mails_after(&stage, 0).await.len(), 1);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_run_that_was_missed_for_days_sends_one_digest_of_all_of_them(pool: PgPool) {
    let stage = begin(pool).await;
    ask(&stage, "ASSIGNED", "ada", "tuesday").await;
    move_to(&stage, "2026-12-02T10:00:00Z").await;
    ask(&stage, "ASSIGNED", "ada", "wednesday").await;
    move_to(&stage, "2026-12-03T03:30:00Z").await;
    let counts = stage.close_digests().await;
    assert_eq!((counts.digests, counts.members), (1, 2), "{counts:?}");
    assert_eq!(mails_after(&stage, 0).await[0].2, "Assignments 2: tuesday,wednesday,");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_comes_to_a_closed_period_goes_into_the_next(pool: PgPool) {
    let stage = begin(pool).await;
    ask(&stage, "ASSIGNED", "ada", "first").await;
    let late = ask(&stage, "ASSIGNED", "ada", "late").await;
    // Somebody else has it in hand while the period is closed.
    let mut holder = stage.admin.begin().await.expect("a transaction");
    hold_late(&mut holder).await;
    move_to(&stage, WEDNESDAY).await;
    assert_eq!(stage.close_digests().await.members, 1);
    holder.rollback().await.expect("let go");
    assert_eq!(mails_after(&stage, 0).await[0].2, "Assignments 1: first,");
    let counts = stage.close_digests().await;
    assert_eq!((counts.digests, counts.postponed), (0, 1), "the period is closed once: {counts:?}");
    assert_eq!(stage.show(&late).await["deliveries"][0]["digest"]["due"], "2026-12-03T03:30:00Z");
    move_to(&stage, "2026-12-03T03:30:00Z").await;
    assert_eq!(stage.close_digests().await.members, 1);
    assert_eq!(mails_after(&stage, 1).await[0].2, "Assignments 1: late,");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn where_no_digest_can_be_made_each_goes_by_itself_at_once(pool: PgPool) {
    let stage = begin(pool).await;
    put_category(&stage, "BULK_DIGEST", json!({"class": "digest"})).await;
    let id = ask(&stage, "ASSIGNED", "ada", "one").await;
    move_to(&stage, WEDNESDAY).await;
    let counts = stage.close_digests().await;
    assert_eq!((counts.digests, counts.refused, counts.released), (0, 1, 1), "{counts:?}");
    assert_eq!(stage.dispatch().await.published, 1);
    assert_eq!(mails_after(&stage, 0).await[0].1, "Hello one");
    assert_eq!(outcome(&stage, &id).await.0, "sent");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_a_digest_cannot_carry_goes_by_itself(pool: PgPool) {
    let stage = begin(pool).await;
    let file = json!([{"filename": "a.txt", "content_type": "text/plain", "content": "MQo="}]);
    let base = json!({"category": "ASSIGNED", "recipient": {"id": "ada"}, "data": {"name": "one"}});
    let (mut with_file, mut in_sandbox) = (base.clone(), base);
    with_file["attachments"] = file;
    in_sandbox["sandbox"] = true.into();
    for body in [with_file, in_sandbox] {
        stage.post(body).await.id();
    }
    stage.drain().await;
    move_to(&stage, "2026-12-02T03:30:02Z").await;
    assert_eq!(stage.close_digests().await.members, 0);
    assert_eq!(stage.dispatch().await.published, 2);
    assert_eq!(mails_after(&stage, 0).await.len(), 1, "the other is a sandbox one");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_digest_whose_message_the_queue_did_not_take_is_published_by_the_dispatcher(pool: PgPool) {
    let stage = begin(pool).await;
    ask(&stage, "ASSIGNED", "ada", "one").await;
    move_to(&stage, WEDNESDAY).await;
    stage.queue.refuse(true);
    assert_eq!(stage.close_digests().await.digests, 1);
    stage.queue.refuse(false);
    assert!(stage.queue.is_empty());
    stage.pass(Duration::from_secs(60)).await;
    assert_eq!(stage.dispatch().await.published, 1);
    assert_eq!(mails_after(&stage, 0).await.len(), 1);
    stage.finish().await;
}
