//! Rows 43 and 44 of the dispatcher. Ticks come twice, at once, late, or die half-way; clocks are off.
//! What has schedules of its own is in [`ticks`](super::ticks) and [`half_way`](super::half_way).
//!
//! Whatever is due is caught up with once, at the next tick, however many were missed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::strict::{DELIVERIES, Strike, Wire, WireFault, World};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// Accepts notifications that the queue never hears of, and lets the time pass until they are due.
async fn post_unpublished(world: &mut World, addresses: &[String]) {
    world.sqs.shut().await;
    for chunk in addresses.chunks(100) {
        let bodies: Vec<Value> = chunk.iter().map(|address| World::greeting(address)).collect();
        assert_eq!(world.post(&json!({"notifications": bodies})).await.status, 202);
    }
    world.sqs.mend().await;
    world.advance(MINUTE).await;
}

fn addresses(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("r{number}@example.org")).collect()
}

/// A time of the database's clock.
fn after(time: Duration) -> String {
    (Timestamp::now() + SignedDuration::try_from(time).expect("a short time")).to_string()
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_43_ticks_at_the_same_moment_publish_what_is_due_once(admin: PgPool) {
    let mut world = World::begin(admin).await;
    post_unpublished(&mut world, &addresses(700)).await;
    let ticks = futures::join!(world.dispatch(), world.dispatch(), world.dispatch());
    let published: u64 = [ticks.0, ticks.1, ticks.2]
        .into_iter()
        // Who finds another one at work does nothing.
        .map(|tick| tick.expect("dispatched")["published"].as_u64().unwrap_or_default())
        .sum();
    assert_eq!((published, world.sqs.sent_count(DELIVERIES)), (700, 700));
    world.deliver_all().await;
    let figures = world.finish().await;
    assert_eq!((figures.sent, figures.provider_calls), (700, 700));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_43_a_tick_that_meets_a_longer_one_leaves_it_its_work(admin: PgPool) {
    let mut world = World::begin_with_failpoints(admin).await;
    let places = ["S2_taken", "S3_written", "S4_committed", "S5_published"];
    for (number, place) in places.into_iter().enumerate() {
        let before = world.sqs.sent_count(DELIVERIES);
        let addresses: Vec<String> = (0..20).map(|it| format!("r{number}-{it}@example.org")).collect();
        post_unpublished(&mut world, &addresses).await;
        world.strike(place, Strike::Hold);
        let second = async {
            world.wait_for_strike(place).await;
            let tick = world.dispatch().await.expect("dispatched");
            assert_eq!(tick, json!({"overlapped": true}), "{place}");
            world.release();
        };
        let (first, ()) = futures::join!(world.dispatch(), second);
        assert_eq!(first.expect("dispatched")["published"], 20, "{place}");
        assert_eq!(world.sqs.sent_count(DELIVERIES) - before, 20, "{place}");
        world.deliver_all().await;
    }
    let figures = world.finish().await;
    assert_eq!((figures.sent, figures.provider_calls), (80, 80));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_43_three_hours_without_a_tick_are_caught_up_with_once_by_the_next_one(admin: PgPool) {
    let mut world = World::begin(admin).await;
    let mut scheduled = Vec::new();
    for (number, hours) in [1, 2, 3].into_iter().enumerate() {
        let mut body = World::greeting(&format!("later{number}@example.org"));
        body["send_at"] = after(HOUR * hours).into();
        scheduled.push(world.post(&body).await.id());
    }
    let mut expiring = World::greeting("expiring@example.org");
    expiring["expires_at"] = after(HOUR).into();
    let expiring = world.post(&expiring).await.id();
    let lost = world.post(&World::greeting("lost@example.org")).await.id();
    // Their messages are gone, and nobody ticks.
    for message in world.sqs.receive(DELIVERIES, 10).expect("received") {
        world.sqs.delete(DELIVERIES, &message.receipt_handle);
    }
    world.advance(HOUR * 3 + MINUTE).await;
    let before = world.sqs.sent_count(DELIVERIES);
    let tick = world.dispatch().await.expect("dispatched");
    assert_eq!((&tick["published"], &tick["ended"]), (&json!(4), &json!(1)), "everything due, once: {tick}");
    let next = world.dispatch().await.expect("dispatched");
    assert_eq!((&next["published"], &next["ended"]), (&json!(0), &json!(0)), "and nothing twice: {next}");
    assert_eq!(world.sqs.sent_count(DELIVERIES) - before, 4);
    world.deliver_all().await;
    for id in scheduled.iter().chain([&lost]) {
        assert_eq!(world.outcome(id).await, ("sent".to_owned(), None, 1));
    }
    assert_eq!(world.outcome(&expiring).await.0, "expired");
    let figures = world.finish().await;
    assert_eq!(figures.provider_calls, 4);
}

/// Where Debian's package `libfaketime` puts the library that moves a process's clock.
const FAKETIME: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/local/lib/faketime/libfaketime.so.1",
];

/// The library that moves a process's clock: the system's, or that of our tools, which is built for one architecture.
pub(super) fn find_faketime() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.local/tools/lib");
    let pythons = std::fs::read_dir(tools).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let of_tools = pythons
        .map(|python| python.join("site-packages/libfaketime/vendor/libfaketime/src/libfaketime.so.1"))
        .filter(|_| cfg!(target_arch = "x86_64"));
    let found = FAKETIME.into_iter().map(PathBuf::from).chain(of_tools).find(|library| library.exists());
    found.expect("`cargo local` installs it for x86-64; elsewhere the system's package libfaketime has it")
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_43_a_sandbox_whose_clock_is_a_day_off_does_what_the_others_do(admin: PgPool) {
    let library = find_faketime();
    let library = library.to_str().expect("our paths are text");
    let mut world = World::begin(admin).await;
    for (number, skew) in ["+1d", "-1d"].into_iter().enumerate() {
        for function in ["enqueue", "processor", "dispatcher", "dead_letter", "api"] {
            // Only the wall clock: a machine's steady clock is not set.
            let env = [("LD_PRELOAD", library), ("FAKETIME", skew), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
            world.redeploy(function, &env);
        }
        let now = world.post(&World::greeting(&format!("now{number}@example.org"))).await.id();
        let mut body = World::greeting(&format!("soon{number}@example.org"));
        body["send_at"] = after(HOUR).into();
        let soon = world.post(&body).await.id();
        let mut body = World::greeting(&format!("expiring{number}@example.org"));
        body["expires_at"] = after(HOUR).into();
        let expiring = world.post(&body).await.id();

        assert_eq!(world.deliver_all().await, 2);
        assert_eq!(world.outcome(&now).await, ("sent".to_owned(), None, 1), "{skew}");
        assert_eq!(world.outcome(&expiring).await, ("sent".to_owned(), None, 1), "{skew}: it had not expired");
        assert_eq!(world.outcome(&soon).await.0, "scheduled", "{skew}");
        assert_eq!(world.dispatch().await.expect("dispatched")["published"], 0, "{skew}: nothing is due");

        world.advance(HOUR - Duration::from_secs(30)).await;
        assert_eq!(world.dispatch().await.expect("dispatched")["published"], 1, "{skew}: published ahead");
        world.deliver_all().await;
        assert_eq!(world.outcome(&soon).await.0, "queued", "{skew}: it is not its time yet");
        world.advance(Duration::from_secs(31)).await;
        world.deliver_all().await;
        assert_eq!(world.outcome(&soon).await, ("sent".to_owned(), None, 1), "{skew}");
    }
    let figures = world.finish().await;
    assert_eq!((figures.attempts, figures.provider_calls), (6, 6), "an attempt each, as by the right clock");
}

/// A zone in POSIX's words whose clocks are set at this moment: forwards from UTC to an hour more, or back to it.
/// <https://pubs.opengroup.org/onlinepubs/9799919799/basedefs/V1_chap08.html#tag_08>
fn zone_that_changes(at: Timestamp, is_gap: bool) -> String {
    let rule = |local: Timestamp| {
        let local = local.to_zoned(jiff::tz::TimeZone::UTC);
        // `J` counts without the 29th of February.
        let day = local.day_of_year() - i16::from(local.in_leap_year() && local.month() > 2);
        format!("J{day}/{}", local.strftime("%H:%M:%S"))
    };
    let other = rule(at + SignedDuration::from_hours(24 * 100));
    if is_gap {
        format!("XST0XDT-1,{},{other}", rule(at))
    } else {
        // The end is given by the clock that is about to be set back.
        format!("XST0XDT-1,{other},{}", rule(at + SignedDuration::from_hours(1)))
    }
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_43_clocks_that_are_set_forwards_or_back_move_nothing_that_is_due(admin: PgPool) {
    let mut world = World::begin_with_failpoints(admin).await;
    let seconds = |at: &'static str| {
        let admin = world.admin.clone();
        async move { sqlx::query_scalar::<_, i64>(at).fetch_one(&admin).await.expect("asked") }
    };
    const UNTIL_DUE: &str = "SELECT extract(epoch FROM max(due_at) - now())::bigint FROM harkara.deliveries";
    let mut number = 0;
    for is_gap in [true, false] {
        // The clocks are set just before now; between now and what is being waited for; and just after that.
        for offset in [-20, 20, 50, 130] {
            number += 1;
            let at = Timestamp::now() + SignedDuration::from_secs(offset);
            let zone = zone_that_changes(at, is_gap);
            set_zone(&world, &zone).await;
            for function in ["enqueue", "processor", "dispatcher", "api"] {
                world.retire(function);
            }
            let case = format!("{zone} at {at}");

            // A message is held back to the second, a lease lasts its 90 seconds, and what is unknown its ten minutes.
            let mut body = World::greeting(&format!("r{number}@example.org"));
            body["send_at"] = after(Duration::from_secs(45)).into();
            let id = world.post(&body).await.id();
            assert!((70..=75).contains(&seconds(UNTIL_DUE).await), "{case}");
            world.advance(Duration::from_secs(40)).await;
            assert_eq!(world.deliver_all().await, 0, "{case}: too early");
            world.advance(Duration::from_secs(6)).await;
            world.strike("P5_rendered", Strike::Kill);
            world.deliver().await;
            assert_eq!(world.outcome(&id).await.0, "sending", "{case}");
            assert!((85..=90).contains(&seconds(UNTIL_DUE).await), "{case}");
            assert_eq!(world.dispatch().await.expect("dispatched")["leases_ended"], 0, "{case}");
            world.advance(Duration::from_secs(91)).await;
            assert_eq!(world.dispatch().await.expect("dispatched")["leases_ended"], 1, "{case}");
            assert!((595..=600).contains(&seconds(UNTIL_DUE).await), "{case}");
            world.advance(Duration::from_secs(590)).await;
            assert_eq!(world.dispatch().await.expect("dispatched")["published"], 0, "{case}");
            world.advance(Duration::from_secs(11)).await;
            assert_eq!(world.dispatch().await.expect("dispatched")["published"], 1, "{case}");
            world.deliver_all().await;
            assert_eq!(world.outcome(&id).await, ("sent".to_owned(), None, 2), "{case}");
        }
    }
    let figures = world.finish().await;
    assert_eq!((figures.sent, figures.provider_calls), (8, 8));
}

/// Sets the zone of sessions that begin from now on.
async fn set_zone(world: &World, zone: &str) {
    let statement: String =
        sqlx::query_scalar("SELECT format('ALTER DATABASE %I SET timezone = %L', current_database(), $1)")
            .bind(zone)
            .fetch_one(&world.admin)
            .await
            .expect("formatted");
    // What Postgres itself has quoted.
    sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&world.admin).await.expect("the zone is one");
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_44_a_tick_that_is_killed_at_any_point_loses_nothing_and_publishes_nothing_twice(admin: PgPool) {
    let mut world = World::begin_with_failpoints(admin).await;
    // The point, and whether the queue has the messages by then.
    let points = [
        ("S1_tick", false),
        ("S2_taken", false),
        ("S3_written", false),
        ("S4_committed", false),
        ("S5_publish", false),
        ("S5_published", true),
        ("S6_done", true),
    ];
    for (number, (point, is_published)) in points.into_iter().enumerate() {
        let sent = world.sqs.sent_count(DELIVERIES);
        let addresses: Vec<String> = (0..12).map(|it| format!("k{number}-{it}@example.org")).collect();
        post_unpublished(&mut world, &addresses).await;
        world.strike(point, Strike::Kill);
        assert!(world.dispatch().await.is_err(), "{point}");
        assert_eq!(world.sqs.sent_count(DELIVERIES) - sent, if is_published { 12 } else { 0 }, "{point}");

        // Nobody knows that it is dead before its lease is over; the next minute's tick finds it dead and does its work.
        let meanwhile = world.dispatch().await.expect("dispatched");
        assert_eq!(meanwhile, json!({"overlapped": true}), "{point}");
        world.deliver_all().await;
        world.advance(MINUTE).await;
        let next = world.dispatch().await.expect("dispatched");
        assert_eq!(next["published"], if is_published { 0 } else { 12 }, "{point}");
        world.deliver_all().await;
        assert_eq!(world.sqs.sent_count(DELIVERIES) - sent, 12, "{point}");
        for address in &addresses {
            assert_eq!(world.mails_to(address), 1, "{point}");
        }
    }
    let figures = world.finish().await;
    assert_eq!((figures.sent, figures.provider_calls), (84, 84));
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_44_a_tick_whose_commit_is_lost_or_unanswered_is_made_up_for_by_the_next(admin: PgPool) {
    let mut world = World::begin(admin).await;
    let wire = Wire::before(world.database_address()).await.expect("a port is free");
    world.reach_database_by("dispatcher", wire.address()).await;
    let faults = [
        (WireFault::ResetBefore, false),
        (WireFault::FatalBefore("57P01"), false),
        (WireFault::LoseReply, true),
        (WireFault::FatalAfter("57P01"), true),
    ];
    for (number, (fault, is_committed)) in faults.into_iter().enumerate() {
        let sent = world.sqs.sent_count(DELIVERIES);
        let addresses: Vec<String> = (0..5).map(|it| format!("c{number}-{it}@example.org")).collect();
        post_unpublished(&mut world, &addresses).await;
        wire.arm("COMMIT", fault, 1);
        assert!(world.dispatch().await.is_err(), "{fault:?}");
        assert_eq!((wire.met_count(), world.sqs.sent_count(DELIVERIES) - sent), (number + 1, 0), "{fault:?}");
        let next = world.dispatch().await.expect("dispatched");
        assert_eq!(next["published"], if is_committed { 0 } else { 5 }, "{fault:?}");
        world.advance(MINUTE).await;
        world.dispatch().await.expect("dispatched");
        world.deliver_all().await;
        for address in &addresses {
            assert_eq!(world.mails_to(address), 1, "{fault:?}");
        }
    }
    let figures = world.finish().await;
    assert_eq!((figures.sent, figures.provider_calls), (20, 20));
}
