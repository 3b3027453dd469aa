//! Row 42: an address is suppressed while a mail to it is about to be claimed. The order of the commits decides.

use std::time::Duration;

use local::ses::Fault;
use sqlx::PgPool;
use tests::TENANT;
use tests::strict::{Strike, World};

const ADDRESS: &str = "ada@example.org";
/// Nobody waits longer for a lock than its statement may take.
const WAIT_MAX: Duration = Duration::from_secs(10);

const SUPPRESS: &str = "INSERT INTO harkara.suppressions (tenant_id, address, reason, source)
                        VALUES ($1::uuid, $2, 'manual', 'api')";

/// Waits until somebody waits for a lock of this kind in this database: `advisory` and `ShareLock` is a claim that waits
/// for a suppression, `advisory` and `ExclusiveLock` the other way round.
pub(super) async fn wait_for_waiter(admin: &PgPool, kind: &str, mode: &str) {
    let waiting = "SELECT EXISTS (
                       SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                       WHERE a.datname = current_database() AND l.locktype = $1 AND l.mode = $2 AND NOT l.granted)";
    let found = async {
        while !sqlx::query_scalar::<_, bool>(waiting).bind(kind).bind(mode).fetch_one(admin).await.expect("asked") {
            tokio::task::yield_now().await;
        }
    };
    let found = tokio::time::timeout(WAIT_MAX, found).await;
    found.unwrap_or_else(|_| panic!("nobody waits for a {mode} of kind {kind}"));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_42_a_claim_waits_for_the_suppression_that_is_about_to_commit_and_sends_nothing(admin: PgPool) {
    let mut world = World::begin(admin).await;
    let accepted = world.post(&World::greeting(ADDRESS)).await;
    let mut suppressing = world.admin.begin().await.expect("begun");
    sqlx::query(SUPPRESS).bind(TENANT).bind(ADDRESS).execute(&mut *suppressing).await.expect("not committed yet");
    let committing = async {
        wait_for_waiter(&world.admin, "advisory", "ShareLock").await;
        suppressing.commit().await.expect("committed");
    };
    let (delivered, ()) = futures::join!(world.deliver(), committing);
    assert!(delivered.received.iter().all(|id| delivered.verdict.deletes(id)), "{delivered:?}");
    let skipped = ("skipped".to_owned(), Some("address_suppressed".to_owned()), 0);
    assert_eq!(world.outcome(&accepted.id()).await, skipped);
    assert_eq!(world.mails_to(ADDRESS), 0);
    world.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_42_a_suppression_waits_for_the_claim_that_is_about_to_commit_and_no_claim_follows_it(admin: PgPool) {
    let mut world = World::begin(admin).await;
    let accepted = world.post(&World::greeting(ADDRESS)).await;
    // The claim locks the address first and the account's pace last: whoever has the pace holds it between the two.
    sqlx::query("UPDATE harkara.send_pace SET sends_per_second = 100").execute(&world.admin).await.expect("set");
    let mut holding = world.admin.begin().await.expect("begun");
    sqlx::query("SELECT FROM harkara.send_pace FOR UPDATE").execute(&mut *holding).await.expect("locked");
    // Begun before the claim, and yet after it: what counts is when it has the lock.
    let mut suppressing = world.admin.begin().await.expect("begun");
    sqlx::query("SELECT now()").execute(&mut *suppressing).await.expect("begun");

    let racing = async {
        wait_for_waiter(&world.admin, "transactionid", "ShareLock").await;
        let suppressed = async {
            sqlx::query(SUPPRESS).bind(TENANT).bind(ADDRESS).execute(&mut *suppressing).await.expect("inserted");
            suppressing.commit().await.expect("committed");
        };
        let letting_go = async {
            wait_for_waiter(&world.admin, "advisory", "ExclusiveLock").await;
            assert_eq!(world.count("SELECT count(*) FROM harkara.suppressions").await, 0, "it waits for the claim");
            holding.commit().await.expect("committed");
        };
        futures::join!(suppressed, letting_go);
    };
    futures::join!(world.deliver(), racing);
    assert_eq!(world.outcome(&accepted.id()).await, ("sent".to_owned(), None, 1));
    assert_eq!(world.mails_to(ADDRESS), 1, "its claim came first");

    let late = world.post(&World::greeting(ADDRESS)).await;
    world.deliver_all().await;
    assert_eq!(world.outcome(&late.id()).await.0, "skipped");
    assert_eq!(world.mails_to(ADDRESS), 1);
    world.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_42_an_address_that_is_suppressed_between_two_attempts_gets_no_second_one(admin: PgPool) {
    let mut world = World::begin_with_failpoints(admin).await;
    world.ses.script(ADDRESS, vec![Fault::Throttle]).expect("an address");
    let accepted = world.post(&World::greeting(ADDRESS)).await;
    world.strike("P5_rendered", Strike::Hold);
    let suppressing = async {
        world.wait_for_strike("P5_rendered").await;
        // The claim is committed and nothing is sent yet: nobody waits for anybody.
        sqlx::query(SUPPRESS).bind(TENANT).bind(ADDRESS).execute(&world.admin).await.expect("suppressed");
        world.release();
    };
    futures::join!(world.deliver(), suppressing);
    assert_eq!(world.outcome(&accepted.id()).await.0, "queued", "its one attempt was throttled");
    world.settle().await;
    assert_eq!(world.outcome(&accepted.id()).await.0, "skipped");
    assert_eq!((world.ses.ledger().entries_to(ADDRESS).len(), world.mails_to(ADDRESS)), (1, 0));
    world.check().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_42_in_any_race_a_mail_is_claimed_before_its_address_is_suppressed_or_never(admin: PgPool) {
    let mut world = World::begin(admin).await;
    let addresses: Vec<String> = (0..40).map(|number| format!("racer{number}@example.org")).collect();
    for address in &addresses {
        world.post(&World::greeting(address)).await;
    }
    let suppressing = async {
        for address in addresses.iter().rev() {
            sqlx::query(SUPPRESS).bind(TENANT).bind(address).execute(&world.admin).await.expect("suppressed");
        }
    };
    futures::join!(world.deliver_all(), world.deliver_all(), suppressing);
    world.settle().await;
    let ends: Vec<(String, i64)> = sqlx::query_as("SELECT state, count(*) FROM harkara.deliveries GROUP BY state")
        .fetch_all(&world.admin)
        .await
        .expect("counted");
    assert!(ends.iter().all(|(state, _)| matches!(state.as_str(), "sent" | "skipped")), "{ends:?}");
    let figures = world.check().await;
    assert_eq!(figures.sent + figures.skipped, 40);
}
