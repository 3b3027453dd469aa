//! Rows 25 to 27: the provider may have taken the mail, and no readable answer says so.

use super::unknown::{Trio, attempts, hear, pass};
use sqlx::PgPool;
use std::time::Duration;
use tests::strict::{Verdict, World};

/// Longer than any test machine needs to get a request out.
const LIMIT: Duration = Duration::from_secs(20);

/// A mail whose answer is lost is asked for once, is `unknown`, and is settled by what is told or by its category's rule.
async fn lose_answers(admin: PgPool, labels: &[&str]) {
    let mut world = World::begin(admin).await;
    let mut trios = Vec::new();
    for label in labels {
        trios.push(Trio::post(&world, label).await);
    }
    world.deliver_all().await;
    for trio in &trios {
        trio.assert_asked_once(&world, "unknown", Some("outcome_unknown")).await;
    }
    Trio::settle(&trios, &world).await;
    let figures = world.finish().await;
    let count = labels.len() as u64;
    assert_eq!((figures.unknown, figures.outcome_unknown, figures.failed), (3 * count, count, count));
    assert_eq!((figures.duplicates_declared, figures.duplicates_undeclared), (count, 0));
    assert_eq!((figures.provider_calls, figures.attempts), (4 * count, 4 * count));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_25_an_answer_that_is_closed_or_reset_or_cut_is_unknown_after_one_request(admin: PgPool) {
    lose_answers(admin, &["lost+1", "reset+1", "truncated+1"]).await;
}

/// It takes the six seconds that the processor waits for an answer.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_25_an_answer_that_never_comes_is_unknown_after_one_request(admin: PgPool) {
    lose_answers(admin, &["hang+1"]).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_26_a_success_with_html_or_broken_json_is_unknown_and_never_failed_at_once(admin: PgPool) {
    lose_answers(admin, &["garbled+1", "malformed+1"]).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_26_a_success_without_a_body_is_sent_and_is_found_again_by_its_tags(admin: PgPool) {
    let mut world = World::begin(admin).await;
    let address = "empty@simulator.harkara.test";
    let id = world.post(&World::greeting(address)).await.id();
    world.deliver_all().await;
    assert_eq!(world.outcome(&id).await, ("sent".to_owned(), None, 1));
    assert_eq!(attempts(&world, &id).await, ["sent"]);
    let with_id = "SELECT count(*) FROM harkara.attempts WHERE provider_message_id IS NOT NULL";
    assert_eq!(world.count(with_id).await, 0, "SES named no id");
    pass(&world, Duration::from_secs(60 * 60)).await;
    assert_eq!(world.ses.ledger().entries_to(address).len(), 1);

    hear(&world, address).await;
    assert_eq!(world.outcome(&id).await, ("delivered".to_owned(), None, 1));
    assert_eq!(world.count(with_id).await, 1, "the event brings it");
    let figures = world.finish().await;
    assert_eq!((figures.delivered, figures.unknown, figures.provider_calls), (1, 0, 1));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_27_a_kill_after_the_provider_took_the_mail_is_unknown_when_the_lease_ends(admin: PgPool) {
    let mut world = World::begin(admin).await;
    let trio = Trio::post(&world, "hang+1").await;
    let (delivered, ()) = futures::join!(world.deliver(), async {
        assert!(world.ses.ledger().wait_for(LIMIT, |entries| entries.len() == 3).await, "SES took the mails");
        world.kill_at_work("processor");
    });
    assert!(matches!(delivered.verdict, Verdict::Failure(_)), "{delivered:?}");
    // Until its lease is over, a delivery may have a worker.
    pass(&world, Duration::from_secs(85)).await;
    trio.assert_asked_once(&world, "sending", None).await;
    pass(&world, Duration::from_secs(10)).await;
    trio.assert_asked_once(&world, "unknown", Some("lease_expired")).await;

    Trio::settle(&[trio], &world).await;
    let figures = world.finish().await;
    assert_eq!((figures.unknown, figures.outcome_unknown, figures.delivered), (3, 1, 1));
    assert_eq!((figures.duplicates_declared, figures.duplicates_undeclared), (1, 0));
}
