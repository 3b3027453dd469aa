//! Row 43 of what has schedules of its own: digests, reminders, escalations, batches, debounces, the SQL door and domains'
//! jobs. Ticks come twice, at once, late, or on a clock that is off; whatever is due happens once, and what was missed is
//! caught up with as `domain::job` says.

use super::schedule::find_faketime;
use crate::calls::{Callee, Domain, count_done, names_of};
use crate::due::{
    HOUR, LEASE, MINUTE, Work, address, ask_at_door, name_of, put_deadline, put_digest_category, put_policy,
    put_recipient, start,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sqlx::PgPool;
use tests::TENANT;
use tests::strict::{Strike, World};

const SCHEDULED: [&str; 5] = ["dispatcher", "digest", "reminder", "escalation", "domain_job"];

/// How far the clock of a sandbox is off, and a word for it.
const SKEWS: [(&str, &str); 2] = [("+1d", "fast"), ("-1d", "slow")];

/// What sets the wall clock of a process, and leaves its steady clock alone.
fn be_off<'a>(library: &'a str, skew: &'a str) -> [(&'a str, &'a str); 3] {
    [("LD_PRELOAD", library), ("FAKETIME", skew), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")]
}

fn names(work: Work, case: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| name_of(&format!("{work:?} {case} {number}"))).collect()
}

async fn furnish_all(world: &World) {
    for work in Work::ALL {
        work.furnish(world).await;
    }
}

async fn tick(world: &World, function: &str) -> serde_json::Value {
    world.tick(function).await.unwrap_or_else(|error| panic!("{function}: {error}"))
}

/// How many notifications there are of a recipient.
async fn count_of(world: &World, recipient: &str) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM harkara.notifications WHERE recipient_id = $1")
        .bind(recipient)
        .fetch_one(&world.admin)
        .await
        .expect("counted")
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_43_scheduled_ticks_at_the_same_moment_and_again_do_each_thing_once(admin: PgPool) {
    let mut world = World::begin(admin).await;
    furnish_all(&world).await;
    for work in Work::ALL {
        let names = names(work, "together", 20);
        work.make_due(&world, &names).await;
        let function = work.function();
        let ticks =
            futures::future::join_all([tick(&world, function), tick(&world, function), tick(&world, function)]).await;
        let again = tick(&world, function).await;
        let done: u64 = ticks.iter().map(|answer| work.count(answer)).sum();
        assert_eq!((done, work.count(&again)), (20, 0), "{work:?}");
        world.settle().await;
        for name in &names {
            work.expect_once(&world, name, "together").await;
        }
    }
    world.check().await;
}

/// The guard of jobs is one thing, and what makes a thing happen once another: here a run outlives its lease, as one does
/// whose clock is slow, and another is at the same rows beside it.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_43_a_run_that_outlives_its_lease_and_the_next_one_do_each_thing_once(admin: PgPool) {
    let mut world = World::begin_with_failpoints(admin).await;
    furnish_all(&world).await;
    for work in Work::ALL {
        for (point, is_committed) in work.points() {
            let names = names(work, point, 3);
            work.make_due(&world, &names).await;
            world.strike(point, Strike::Hold);
            let second = async {
                world.wait_for_hold(point).await;
                let meanwhile = tick(&world, work.function()).await;
                assert_eq!(meanwhile, json!({"overlapped": true}), "{point}: the lease holds");
                world.move_to(world.now().await + SignedDuration::try_from(LEASE).expect("minutes")).await;
                let second = tick(&world, work.function()).await;
                world.release();
                work.count(&second)
            };
            let (first, second) = futures::join!(tick(&world, work.function()), second);
            assert_eq!(work.count(&first) + second, 3, "{point}");
            // Who has locked rows keeps them.
            assert_eq!(second, if work.is_free_at(point) { 3 } else { 0 }, "{point}, committed: {is_committed}");
            world.settle().await;
            for name in &names {
                work.expect_once(&world, name, point).await;
            }
        }
    }
    world.check().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_43_three_hours_without_a_tick_are_caught_up_with_as_each_job_says(admin: PgPool) {
    let mut world = World::begin(admin).await;
    put_digest_category(&world, json!({"cadence": "hourly", "roles": ["READER"], "send_empty": true})).await;
    let reader = json!({"email": address("reader"), "time_zone": "UTC", "roles": ["READER"]});
    put_recipient(&world, "reader", &reader).await;
    let person = |name: &str| json!({"email": address(name), "time_zone": "UTC"});
    for name in ["reminded", "first", "second", "third"] {
        put_recipient(&world, name, &person(name)).await;
    }
    // A quarter past, so that nothing falls on the edge of an hour.
    let begin: Timestamp = "2027-06-01T10:15:00Z".parse().expect("a time");
    world.move_to(begin).await;
    tick(&world, "digest").await;
    let hours = |hours: i64| SignedDuration::from_hours(hours);
    let rungs = json!([{"before": "PT4H"}, {"before": "PT3H"}, {"before": "PT2H"}]);
    put_deadline(&world, "reminded", &(begin + hours(5)).to_string(), rungs).await;
    let steps = ["first", "second", "third"].map(|name| json!({"delay": "PT1H", "recipients": [name]}));
    put_policy(&world, "steps", json!(steps)).await;
    let escalation = start(&world, "steps").await;

    world.move_to(begin + hours(3) + SignedDuration::from_mins(1)).await;
    let caught_up = [tick(&world, "digest").await, tick(&world, "reminder").await, tick(&world, "escalation").await];
    let again = [tick(&world, "digest").await, tick(&world, "reminder").await, tick(&world, "escalation").await];
    world.deliver_all().await;
    // One digest, for the last of the three hours.
    assert_eq!((&caught_up[0]["digests"], &again[0]["digests"]), (&json!(1), &json!(0)));
    let ends: Vec<String> = sqlx::query_scalar(
        "SELECT to_char(period_end_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') FROM harkara.digests",
    )
    .fetch_all(&world.admin)
    .await
    .expect("listed");
    assert_eq!(ends, ["2027-06-01 13:00"]);
    // The latest rung, and those that it overtook are skipped.
    assert_eq!((&caught_up[1]["fired"], &caught_up[1]["skipped"]), (&json!(1), &json!(2)), "{}", caught_up[1]);
    assert_eq!((&again[1]["fired"], &again[1]["skipped"]), (&json!(0), &json!(0)));
    // One step; the one after it at its distance.
    assert_eq!((&caught_up[2]["fired"], &again[2]["fired"]), (&json!(1), &json!(0)));
    world.move_to(world.now().await + SignedDuration::from_mins(59)).await;
    assert_eq!(tick(&world, "escalation").await["fired"], 0);
    world.move_to(world.now().await + SignedDuration::from_mins(1)).await;
    assert_eq!(tick(&world, "escalation").await["fired"], 1);
    let answer = world.call(TENANT, "POST /v1/escalations/{id}/acknowledge", Some(&escalation), "{}").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    world.settle().await;
    let mails = ["reader", "reminded", "first", "second", "third"].map(|name| world.mails_to(&address(name)));
    // The second one's mail was withdrawn before it left.
    assert_eq!(mails, [1, 1, 1, 0, 0]);
    world.check().await;
}

/// 02:30 does not come on 28 March 2027 in Berlin, and comes twice on 31 October.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_43_where_clocks_are_set_forwards_or_back_each_day_and_each_hour_comes_once(admin: PgPool) {
    let mut world = World::begin(admin).await;
    let settings = json!({"digest_time": "02:30"}).to_string();
    assert_eq!(world.call(TENANT, "PUT /v1/settings", None, &settings).await.status, 200);
    put_digest_category(&world, json!({"cadence": "daily", "roles": ["DAILY"], "send_empty": true})).await;
    let hourly = json!({
        "class": "digest", "template": "digest", "quiet_hours_apply": false,
        "digest": {"cadence": "hourly", "roles": ["HOURLY"], "send_empty": true},
    });
    world.put(TENANT, "/v1/categories/{key}", "HOURLY_DIGEST", hourly).await;
    for (name, role) in [("daily", "DAILY"), ("hourly", "HOURLY"), ("reminded", "NOBODY")] {
        let body = json!({"email": address(name), "time_zone": "Europe/Berlin", "roles": [role]});
        put_recipient(&world, name, &body).await;
    }
    // Seven hours of each night, with the change in their middle.
    const HOURS: i64 = 7;
    for (begin, night) in [("2027-03-27T22:00:00Z", "spring"), ("2027-10-30T22:00:00Z", "autumn")] {
        let begin: Timestamp = begin.parse().expect("a time");
        world.move_to(begin).await;
        tick(&world, "digest").await;
        world.settle().await;
        let count_all = async |world: &World| {
            [count_of(world, "daily").await, count_of(world, "hourly").await, count_of(world, "reminded").await]
        };
        let seen = count_all(&world).await;
        let due = begin + SignedDuration::from_hours(30);
        let body = json!({
            "category": "greeting", "recipients": ["reminded"], "due_at": due, "data": {"name": "Ada"},
            "rungs": [{"before": "P1D", "at": "02:30"}],
        });
        world.put(TENANT, "/v1/deadlines/{key}", night, body).await;
        // Ticks come twice at each quarter of an hour.
        for quarter in 1..=HOURS * 4 {
            world.move_to(begin + SignedDuration::from_mins(15 * quarter)).await;
            for function in ["digest", "reminder", "digest", "reminder"] {
                tick(&world, function).await;
            }
        }
        world.settle().await;
        let counts = count_all(&world).await;
        let new = [counts[0] - seen[0], counts[1] - seen[1], counts[2] - seen[2]];
        assert_eq!(new, [1, HOURS, 1], "{night}: the day, the hours, and the reminder");
    }
    world.check().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_43_a_scheduled_sandbox_whose_clock_is_a_day_off_does_everything_at_its_time(admin: PgPool) {
    let library = find_faketime();
    let library = library.to_str().expect("our paths are text");
    let mut world = World::begin(admin).await;
    let begin: Timestamp = "2027-06-01T10:00:00Z".parse().expect("a time");
    // The job of the domain counts its hours from here: each ends well behind the quarter at which things are made.
    world.move_to(begin).await;
    furnish_all(&world).await;
    let mut made_at = begin + SignedDuration::from_mins(15);
    for (skew, which) in SKEWS {
        for function in SCHEDULED.into_iter().chain(["enqueue", "processor", "api"]) {
            world.redeploy(function, &be_off(library, skew));
        }
        for work in Work::ALL {
            world.move_to(made_at).await;
            // What has a rhythm of its own, such as a domain's job, catches up with what it has missed until here.
            assert_eq!(work.count(&tick(&world, work.function()).await), 0, "{skew}: there is nothing of {work:?} yet");
            let names = names(work, which, 1);
            work.make(&world, &names).await;
            let due = work.find_due(&world, made_at).await;
            let latest = made_at + SignedDuration::try_from(work.wait()).expect("days");
            assert!((made_at..=latest).contains(&due), "{names:?}: due at {due}, and made at {made_at}");
            // A request of the SQL door has no time of its own: it is due when its transaction has committed.
            if work != Work::Door {
                world.move_to(due - SignedDuration::from_secs(30)).await;
                assert_eq!(work.count(&tick(&world, work.function()).await), 0, "{names:?}: it is not its time yet");
            }
            world.move_to(due + SignedDuration::from_secs(30)).await;
            assert_eq!(work.count(&tick(&world, work.function()).await), 1, "{names:?}");
            world.settle().await;
            work.expect_once(&world, &names[0], skew).await;
            made_at = find_quarter_past(world.now().await + SignedDuration::from_hours(1));
        }
    }
    world.check().await;
}

/// The next quarter past an hour.
fn find_quarter_past(moment: Timestamp) -> Timestamp {
    let past = (moment.as_second() - 15 * 60).rem_euclid(3600);
    Timestamp::from_second(moment.as_second() - past + 3600).expect("a time")
}

/// What is asked for through the SQL door is taken at once, and what it says of times is held to the database's clock.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_43_a_dispatcher_whose_clock_is_a_day_off_takes_requests_of_the_sql_door_as_the_others_do(admin: PgPool) {
    let library = find_faketime();
    let library = library.to_str().expect("our paths are text");
    let mut world = World::begin(admin).await;
    Work::Door.furnish(&world).await;
    for (skew, which) in SKEWS {
        for function in ["dispatcher", "processor"] {
            world.redeploy(function, &be_off(library, skew));
        }
        let hour = world.now().await + SignedDuration::from_hours(1);
        let addresses = ["now", "soon", "expiring"].map(|what| address(&format!("{what}-{which}")));
        let times = [json!({}), json!({"send_at": hour}), json!({"expires_at": hour})];
        for (address, times) in addresses.iter().zip(times) {
            let mut request = World::greeting(address);
            for (name, time) in times.as_object().into_iter().flatten() {
                request[name] = time.clone();
            }
            ask_at_door(&world.admin, &request).await;
        }
        world.move_to(world.now().await + SignedDuration::from_secs(40)).await;
        let taken = tick(&world, "dispatcher").await;
        assert_eq!((&taken["requests"], &taken["requests_refused"]), (&json!(3), &json!(0)), "{skew}: {taken}");
        let waited = taken["requests_longest_wait_ms"].as_u64().expect("a number");
        assert!((40_000..300_000).contains(&waited), "{skew}: they have waited {waited} ms");
        world.deliver_all().await;
        let mails = |world: &World| addresses.each_ref().map(|address| world.mails_to(address));
        assert_eq!(mails(&world), [1, 0, 1], "{skew}");

        world.move_to(hour - SignedDuration::from_secs(10)).await;
        tick(&world, "dispatcher").await;
        world.deliver_all().await;
        assert_eq!(mails(&world), [1, 0, 1], "{skew}: it is not its time yet");
        world.move_to(hour + SignedDuration::from_secs(1)).await;
        world.settle().await;
        assert_eq!(mails(&world), [1, 1, 1], "{skew}");
    }
    world.check().await;
}

/// Whoever is called refuses a message whose time is far from its own.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_43_a_domain_job_whose_clock_is_a_day_off_calls_at_its_time_and_signs_the_right_one(admin: PgPool) {
    let library = find_faketime();
    let library = library.to_str().expect("our paths are text");
    let mut world = World::begin(admin).await;
    let mut domain = Domain::furnish(&mut world, Callee::Endpoint).await;
    for (skew, which) in SKEWS {
        for function in ["domain_job", "api"] {
            world.redeploy(function, &be_off(library, skew));
        }
        let names = names_of(which, 1);
        domain.make(&world, &names).await;
        world.advance(HOUR - 2 * MINUTE).await;
        assert_eq!(count_done(&tick(&world, "domain_job").await), 0, "{skew}: it is not its time yet");
        world.advance(2 * MINUTE).await;
        assert_eq!(count_done(&tick(&world, "domain_job").await), 1, "{skew}");
        let told = domain.told(&names[0]);
        assert_eq!(told.len(), 1, "{skew}");
        let signed: i64 = told[0].header("webhook-timestamp").parse().expect("seconds");
        let distance = world.now().await.as_second() - signed;
        assert!((0..300).contains(&distance), "{skew}: signed {distance} s ago");
    }
    world.finish().await;
}
