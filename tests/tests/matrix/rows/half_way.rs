//! Row 44 of what has schedules of its own, and the twins of the functions that create: whatever is killed half-way,
//! the next run completes it, nothing happens twice, and what was not published the dispatcher publishes.

use crate::due::{LEASE, Work, name_of};
use jiff::SignedDuration;
use serde_json::json;
use sqlx::PgPool;
use tests::strict::{DELIVERIES, Strike, Wire, WireFault, World};

fn names(case: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| name_of(&format!("{case} {number}"))).collect()
}

/// Kills a run at each of its points, and lets the next one come when the lease of the dead one is over.
async fn kill_at_each_point(admin: PgPool, work: Work) {
    let mut world = World::begin_with_failpoints(admin).await;
    work.furnish(&world).await;
    for (point, is_committed) in work.points() {
        let names = names(point, 3);
        work.make_due(&world, &names).await;
        let sent = world.sqs.sent_count(DELIVERIES);
        world.strike(point, Strike::Kill);
        assert!(world.tick(work.function()).await.is_err(), "{point}");
        let published = if work.is_published_at(point) { 3 } else { 0 };
        assert_eq!(world.sqs.sent_count(DELIVERIES) - sent, published, "{point}");

        let meanwhile = world.tick(work.function()).await.expect("it answers");
        assert_eq!(meanwhile, json!({"overlapped": true}), "{point}: nobody knows that it is dead");
        world.advance(LEASE).await;
        let next = world.tick(work.function()).await.expect("it does its work");
        assert_eq!(work.count(&next), if *is_committed { 0 } else { 3 }, "{point}");
        world.settle().await;
        for name in &names {
            work.expect_once(&world, name, point).await;
        }
    }
    let figures = world.check().await;
    assert_eq!((figures.lost, figures.duplicates_undeclared), (0, 0));
}

macro_rules! killed {
    ($($name:ident: $work:ident;)+) => {$(
        #[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
        async fn $name(admin: PgPool) {
            kill_at_each_point(admin, Work::$work).await;
        }
    )+};
}

killed! {
    row_44_a_digest_that_is_killed_at_any_point_is_closed_once: Digest;
    row_44_a_digests_round_that_is_killed_at_any_point_is_closed_once: Round;
    row_44_a_reminder_that_is_killed_at_any_point_fires_each_rung_once: Reminder;
    row_44_a_reminder_that_is_killed_at_any_point_begins_one_escalation_of_each_overdue_deadline: Overdue;
    row_44_an_escalation_that_is_killed_at_any_point_fires_each_step_once: Escalation;
    row_44_a_close_of_batches_that_is_killed_at_any_point_makes_each_message_once: Batch;
    row_44_a_close_of_debounces_that_is_killed_at_any_point_makes_each_message_once: Debounce;
    row_44_a_sql_door_that_is_killed_at_any_point_makes_each_notification_once: Door;
    row_44_a_domains_job_that_is_killed_at_any_point_makes_each_candidate_a_notification_once: Candidates;
}

/// A commit of which nobody hears, or that never was.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_44_a_scheduled_commit_that_is_lost_or_unanswered_is_made_up_for_by_the_next_run(admin: PgPool) {
    let mut world = World::begin(admin).await;
    let wire = Wire::before(world.database_address()).await.expect("a port is free");
    // Each run's first commit makes the things; that of a domain's job says that it begins, and the next one makes them.
    let first = Work::ALL.map(|work| (work, 1, work != Work::Candidates));
    for (work, nth, is_making) in first.into_iter().chain([(Work::Candidates, 2, true)]) {
        if nth == 1 {
            work.furnish(&world).await;
            world.reach_database_by(work.function(), wire.address()).await;
        }
        let faults = [(WireFault::ResetBefore, false), (WireFault::LoseReply, true)];
        for (fault, is_committed) in faults {
            let case = format!("{work:?} {nth} {}", if is_committed { "lost reply" } else { "reset" });
            let names = names(&case, 3);
            work.make_due(&world, &names).await;
            let met = wire.met_count();
            wire.arm_nth("COMMIT", nth, fault);
            // What is not known to be done is counted as failed, and never as done.
            match (work, nth, world.tick(work.function()).await) {
                // It passes the tenant over, and goes on with the next.
                (Work::Digest | Work::Round, _, Ok(answer)) => {
                    assert_eq!((work.count(&answer), &answer["failed_tenants"]), (0, &json!(1)), "{case}: {answer}");
                }
                // The job has failed, and others of its tenant have their turn.
                (Work::Candidates, 2, Ok(answer)) => {
                    assert_eq!((work.count(&answer), &answer["failed"]), (0, &json!(1)), "{case}: {answer}");
                }
                (_, _, struck) => assert!(struck.is_err(), "{case}: {struck:?}"),
            }
            assert_eq!(wire.met_count(), met + 1, "{case}");
            world.advance(if nth == 1 { LEASE } else { work.patience() }).await;
            let next = world.tick(work.function()).await.expect("it does its work");
            assert_eq!(work.count(&next), if is_committed && is_making { 0 } else { 3 }, "{case}: {next}");
            world.settle().await;
            for name in &names {
                work.expect_once(&world, name, &case).await;
            }
        }
    }
    let figures = world.check().await;
    assert_eq!((figures.lost, figures.duplicates_undeclared), (0, 0));
}

/// Two at the same instant; again with one killed half-way; and again side by side, the one past its lease and killed while
/// the other is through.
async fn run_twins(admin: PgPool, works: &[Work]) {
    let mut world = World::begin_with_failpoints(admin).await;
    for work in works {
        work.furnish(&world).await;
    }
    for work in works {
        let function = work.function();
        let case = |what: &str| format!("{work:?} {what}");

        let both = names(&case("both"), 12);
        work.make_due(&world, &both).await;
        let (one, other) = futures::join!(world.tick(function), world.tick(function));
        let done = [one, other].map(|answer| work.count(&answer.expect("it does its work")));
        assert_eq!(done.iter().sum::<u64>(), 12, "{function}");

        let (half_way, _) = work.points().iter().rev().find(|(_, is_committed)| !is_committed).expect("one is before");
        let killed = names(&case("killed"), 12);
        work.make_due(&world, &killed).await;
        world.strike(half_way, Strike::Kill);
        let (one, other) = futures::join!(world.tick(function), world.tick(function));
        assert!(one.is_err() != other.is_err(), "{function}: one is killed, and the other finds it at work");
        world.advance(LEASE).await;
        assert_eq!(work.count(&world.tick(function).await.expect("it does its work")), 12, "{function}");

        let beside = names(&case("beside"), 12);
        work.make_due(&world, &beside).await;
        world.strike(half_way, Strike::Hold);
        let second = async {
            world.wait_for_hold(half_way).await;
            world.move_to(world.now().await + SignedDuration::try_from(LEASE).expect("minutes")).await;
            let answer = world.tick(function).await.expect("it does its work");
            assert_eq!(work.count(&answer), 0, "{function}: what is in hand is passed over");
            world.kill_at_work(function);
            world.release();
        };
        let (first, ()) = futures::join!(world.tick(function), second);
        assert!(first.is_err(), "{function}: it was killed");
        world.advance(work.patience()).await;
        assert_eq!(work.count(&world.tick(function).await.expect("it does its work")), 12, "{function}");

        world.settle().await;
        for name in both.iter().chain(&killed).chain(&beside) {
            work.expect_once(&world, name, function).await;
        }
    }
    let figures = world.check().await;
    assert_eq!((figures.lost, figures.duplicates_undeclared), (0, 0));
}

macro_rules! twins {
    ($($name:ident: $($work:ident)+;)+) => {$(
        #[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
        async fn $name(admin: PgPool) {
            run_twins(admin, &[$(Work::$work),+]).await;
        }
    )+};
}

twins! {
    two_dispatchers_at_the_same_instant_and_again_with_one_killed_half_way_produce_each_thing_once: Batch Debounce Door;
    two_digests_at_the_same_instant_and_again_with_one_killed_half_way_produce_each_thing_once: Digest Round;
    two_reminders_at_the_same_instant_and_again_with_one_killed_half_way_produce_each_thing_once: Reminder Overdue;
    two_escalations_at_the_same_instant_and_again_with_one_killed_half_way_produce_each_thing_once: Escalation;
    two_domain_jobs_at_the_same_instant_and_again_with_one_killed_half_way_produce_each_thing_once: Candidates;
}
