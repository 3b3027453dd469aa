//! Row 44 of domains' jobs that call, and their twins: a function is called once, and an endpoint that is told again is
//! told the same.

use crate::calls::{Callee, Domain, count_done, ends_of, names_of};
use crate::due::LEASE;
use jiff::SignedDuration;
use serde_json::json;
use sqlx::PgPool;
use tests::strict::{Strike, World};

const FUNCTION: &str = "domain_job";

/// Two at the same instant; again with one killed while it is at the third of four; and again with one that outlives its
/// lease, and goes on when the other is through.
async fn run_twins(admin: PgPool, callee: Callee) {
    let mut world = World::begin_with_failpoints(admin).await;
    let mut domain = Domain::furnish(&mut world, callee).await;

    let both = names_of("both", 4);
    domain.make_due(&world, &both).await;
    let (one, other) = futures::join!(world.tick(FUNCTION), world.tick(FUNCTION));
    let done = [one, other].map(|answer| count_done(&answer.expect("it does its work")));
    assert_eq!(done.iter().sum::<u64>(), 4);

    let killed = names_of("killed", 4);
    domain.make_due(&world, &killed).await;
    // After the call, and before anybody knows of it.
    world.strike_nth("J8_ended", 3, Strike::Kill);
    let (one, other) = futures::join!(world.tick(FUNCTION), world.tick(FUNCTION));
    assert!(one.is_err() != other.is_err(), "one is killed, and the other finds it at work");
    let meanwhile = world.tick(FUNCTION).await.expect("it answers");
    assert_eq!(meanwhile, json!({"overlapped": true}), "nobody knows that it is dead");
    world.advance(LEASE).await;
    assert_eq!(count_done(&world.tick(FUNCTION).await.expect("it does its work")), 2);
    let mut died = 0;
    for name in &killed {
        let ends = ends_of(&world, name).await;
        died += ends.iter().filter(|end| *end == "died").count();
        assert_eq!(ends.iter().filter(|end| *end == "succeeded").count(), 1, "{name}: {ends:?}");
    }
    assert_eq!(died, 1);

    let outlived = names_of("outlived", 4);
    domain.make_due(&world, &outlived).await;
    world.strike("J3_begun", Strike::Hold);
    let second = async {
        world.wait_for_hold("J3_begun").await;
        world.move_to(world.now().await + SignedDuration::try_from(LEASE).expect("minutes")).await;
        let second = world.tick(FUNCTION).await.expect("it does its work");
        world.release();
        count_done(&second)
    };
    let (first, second) = futures::join!(world.tick(FUNCTION), second);
    // What a function did goes with the run that came too late. An endpoint has heard of it again, in the same message.
    let first = first.expect("it answers");
    assert_eq!((count_done(&first), &first["late"], second), (0, &json!(1), 4));

    world.settle().await;
    for name in both.iter().chain(&killed).chain(&outlived) {
        assert_eq!(domain.count(&world, name).await, 1, "{name}");
    }
    if callee == Callee::Endpoint {
        let told = |names: &[String]| names.iter().map(|name| domain.told(name).len()).sum::<usize>();
        assert_eq!([told(&both), told(&killed), told(&outlived)], [4, 5, 5]);
    }
    world.check().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn two_domain_jobs_at_the_same_instant_and_again_with_one_killed_half_way_call_each_function_once(admin: PgPool) {
    run_twins(admin, Callee::Function).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn two_domain_jobs_at_the_same_instant_and_again_with_one_killed_half_way_tell_each_endpoint_one_message(
    admin: PgPool,
) {
    run_twins(admin, Callee::Endpoint).await;
}
