//! Rows 45 and 48: somebody answers an escalation while it goes on, and looks at links that act, or has them looked at.

use super::suppression::wait_for_waiter;
use crate::due::{LEASE, MINUTE, address, name_of, publish, put_policy, put_recipient, start};
use domain::page::CONFIRMATION;
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::TENANT;
use tests::strict::{Strike, World};

pub(crate) const ACKNOWLEDGE: &str = "POST /v1/escalations/{id}/acknowledge";
const LOOK: &str = "GET /v1/actions/{token}";
const PRESS: &str = "POST /v1/actions/{token}";

/// Someone who hears at once and someone who would hear five minutes later; returns the escalation's id.
pub(crate) async fn begin_escalation(world: &World, name: &str) -> String {
    for id in [name.to_owned(), later(name)] {
        put_recipient(world, &id, &json!({"email": address(&id)})).await;
    }
    put_policy(world, name, json!([{"recipients": [name]}, {"delay": "PT5M", "recipients": [later(name)]}])).await;
    let id = start(world, name).await;
    world.deliver_all().await;
    assert_eq!(world.mails_to(&address(name)), 1, "{name}");
    id
}

fn later(name: &str) -> String {
    format!("{name}-later")
}

async fn show(world: &World, id: &str) -> Value {
    let answer = world.call(TENANT, "GET /v1/escalations/{id}", Some(id), "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

async fn escalate(world: &World) -> Value {
    world.tick("escalation").await.expect("it does its work")
}

/// Sees that it was acknowledged once, that no step fires any more, and how often the later one was written to.
pub(crate) async fn expect_acknowledged(world: &World, name: &str, id: &str, case: &str) {
    let shown = show(world, id).await;
    assert_eq!((&shown["state"], &shown["next_step_at"]), (&json!("acknowledged"), &Value::Null), "{case}");
    let told: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM harkara.events
         WHERE detail_type = 'escalation.acknowledged' AND detail ->> 'escalation_id' = $1",
    )
    .bind(id)
    .fetch_one(&world.admin)
    .await
    .expect("counted");
    assert_eq!(told, 1, "{case}: it is told once");
    world.advance(LEASE).await;
    assert_eq!(escalate(world).await["fired"], 0, "{case}");
    world.deliver_all().await;
    assert_eq!(world.mails_to(&address(&later(name))), 0, "{case}: nothing after the acknowledgement");
}

/// The acknowledgement holds the escalation's row while the step falls due; what it does is committed, or killed.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_45_a_step_that_falls_due_while_somebody_acknowledges_waits_for_what_becomes_of_that(admin: PgPool) {
    let mut world = World::begin_with_failpoints(admin).await;
    for is_killed in [false, true] {
        let case = if is_killed { "killed" } else { "committed" };
        let name = name_of(&format!("ack first {case}"));
        let id = begin_escalation(&world, &name).await;
        world.advance(LEASE).await;
        world.strike("A1_acknowledged", Strike::Hold);
        let meanwhile = async {
            world.wait_for_hold("A1_acknowledged").await;
            assert_eq!(escalate(&world).await["fired"], 0, "{case}: the row is somebody's");
            if is_killed {
                world.kill_at_work("api");
            }
            world.release();
        };
        let acknowledge = world.call(TENANT, ACKNOWLEDGE, Some(&id), "{}");
        let (answer, ()) = futures::join!(acknowledge, meanwhile);
        if is_killed {
            assert_eq!(answer.status, 500);
            // In that time the server notices that the dead one's session is gone.
            world.advance(MINUTE).await;
            assert_eq!(escalate(&world).await["fired"], 1, "nobody has acknowledged it");
            world.deliver_all().await;
            assert_eq!(world.mails_to(&address(&later(&name))), 1, "{case}: the step is sent once");
            assert_eq!(escalate(&world).await["fired"], 0);
        } else {
            assert_eq!(answer.body["is_first"], true, "{answer:?}");
            expect_acknowledged(&world, &name, &id, case).await;
        }
    }
    world.finish().await;
}

/// The step holds the row while somebody acknowledges: that waits, and withdraws what the step made.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_45_an_acknowledgement_while_a_step_fires_withdraws_it_or_finds_it_killed(admin: PgPool) {
    let mut world = World::begin_with_failpoints(admin).await;
    for is_killed in [false, true] {
        let case = if is_killed { "killed" } else { "committed" };
        let name = name_of(&format!("step first {case}"));
        let id = begin_escalation(&world, &name).await;
        world.advance(LEASE).await;
        world.strike("X4_written", Strike::Hold);
        let acknowledge = async {
            world.wait_for_hold("X4_written").await;
            let waits = async {
                wait_for_waiter(&world.admin, "transactionid", "ShareLock").await;
                if is_killed {
                    world.kill_at_work("escalation");
                }
                world.release();
            };
            futures::join!(world.call(TENANT, ACKNOWLEDGE, Some(&id), "{}"), waits).0
        };
        let (fired, answer) = futures::join!(world.tick("escalation"), acknowledge);
        assert_eq!(fired.is_err(), is_killed, "{case}");
        assert_eq!(answer.body["is_first"], true, "{case}: {answer:?}");
        assert_eq!(answer.body["canceled_count"], u8::from(!is_killed), "{case}: what was not sent is withdrawn");
        expect_acknowledged(&world, &name, &id, case).await;
    }
    world.finish().await;
}

/// The acknowledgement comes when the step has left: it stops the ones after it, and undoes nothing.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_45_an_acknowledgement_that_comes_late_stops_what_is_still_to_come(admin: PgPool) {
    let mut world = World::begin(admin).await;
    for name in ["early", "middle", "late"] {
        put_recipient(&world, name, &json!({"email": address(name)})).await;
    }
    let steps = json!([
        {"recipients": ["early"]}, {"delay": "PT5M", "recipients": ["middle"]}, {"delay": "PT5M", "recipients": ["late"]},
    ]);
    put_policy(&world, "three", steps).await;
    let id = start(&world, "three").await;
    world.deliver_all().await;
    world.advance(LEASE).await;
    let ticks = futures::join!(escalate(&world), escalate(&world));
    let fired = [ticks.0, ticks.1].iter().filter_map(|tick| tick["fired"].as_u64()).sum::<u64>();
    assert_eq!(fired, 1);
    world.deliver_all().await;
    for is_first in [true, false] {
        let answer = world.call(TENANT, ACKNOWLEDGE, Some(&id), "{}").await;
        assert_eq!((&answer.body["is_first"], &answer.body["canceled_count"]), (&json!(is_first), &json!(0)));
    }
    world.advance(2 * LEASE).await;
    assert_eq!(escalate(&world).await["fired"], 0);
    let mails = ["early", "middle", "late"].map(|name| world.mails_to(&address(name)));
    assert_eq!(mails, [1, 1, 0]);
    world.finish().await;
}

/// A world whose mails of escalations have both links.
pub(crate) async fn put_links(world: &World) {
    let variables = json!({"name": {"type": "string", "example": "Grace"}});
    let text = "Acknowledge: {{ acknowledge_url }}\nResolve: {{ resolve_url }}\n";
    publish(world, "greeting", variables, "An alert", text).await;
}

/// The tokens in the mail to an address: of the acknowledgement and of the resolution.
pub(crate) fn tokens_of(world: &World, name: &str) -> [String; 2] {
    let mails = world.ses.ledger().entries_to(&address(name));
    let text = mails.last().and_then(|mail| mail.text.clone()).expect("a text");
    ["Acknowledge: ", "Resolve: "].map(|label| {
        let line = text.lines().find_map(|line| line.strip_prefix(label)).expect("a line");
        line.rsplit('/').next().expect("a token").trim().to_owned()
    })
}

async fn look(world: &World, token: &str) -> (u16, String) {
    let page = world.ask_page(LOOK, token, &[], "").await;
    (page.status, page.body)
}

async fn press(world: &World, token: &str, form: &str) -> u16 {
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    world.ask_page(PRESS, token, &headers, form).await.status
}

fn confirm() -> String {
    format!("{}={}", CONFIRMATION.0, CONFIRMATION.1)
}

/// A click that is repeated until it is answered, as by somebody who sees an error and tries again.
pub(crate) async fn press_until_answered(world: &World, token: &str) -> u16 {
    for _ in 0..5 {
        let status = press(world, token, &confirm()).await;
        if status < 500 {
            return status;
        }
        world.advance(std::time::Duration::from_secs(10)).await;
    }
    panic!("five clicks were not answered");
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_48_scanners_change_nothing_and_of_clicks_at_once_or_killed_half_way_one_acts(admin: PgPool) {
    let mut world = World::begin_with_failpoints(admin).await;
    put_links(&world).await;
    let points = [("none", 200), ("L1_used", 200), ("L2_acted", 200), ("L3_committed", 410)];
    for (point, status) in points {
        let name = name_of(&format!("click {point}"));
        let id = begin_escalation(&world, &name).await;
        let [token, _] = tokens_of(&world, &name);
        let before = show(&world, &id).await;
        // Scanners fetch it five times, some send forms of their own, and nothing happens.
        for _ in 0..5 {
            assert_eq!(look(&world, &token).await.0, 200, "{point}");
        }
        for form in ["", "List-Unsubscribe=One-Click"] {
            assert!((400..500).contains(&press(&world, &token, form).await), "{point}: {form:?}");
        }
        assert_eq!(show(&world, &id).await, before, "{point}");

        if point != "none" {
            world.strike(point, Strike::Kill);
            assert_eq!(press(&world, &token, &confirm()).await, 500, "{point}");
        }
        assert_eq!(press_until_answered(&world, &token).await, status, "{point}");
        // A replay, and another look.
        assert_eq!(press(&world, &token, &confirm()).await, 410, "{point}");
        assert_eq!(look(&world, &token).await.0, 410, "{point}");
        expect_acknowledged(&world, &name, &id, point).await;
    }
    assert_eq!(world.count("SELECT count(*) FROM harkara.action_link_uses").await, 4, "each was used once");

    let name = "at-once";
    let id = begin_escalation(&world, name).await;
    let [_, token] = tokens_of(&world, name);
    let confirm = confirm();
    let clicks = futures::future::join_all((0..5).map(|_| press(&world, &token, &confirm))).await;
    assert_eq!(clicks.iter().filter(|status| **status == 200).count(), 1, "{clicks:?}");
    assert!(clicks.iter().all(|status| matches!(status, 200 | 410)), "{clicks:?}");
    assert_eq!(show(&world, &id).await["state"], "resolved");
    world.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_48_a_link_that_has_expired_or_is_none_changes_nothing(admin: PgPool) {
    let mut world = World::begin(admin).await;
    put_links(&world).await;
    let id = begin_escalation(&world, "in-time").await;
    let [acknowledge, resolve] = tokens_of(&world, "in-time");
    let before = show(&world, &id).await;
    let mut forged = resolve.clone();
    let last = forged.pop().expect("a token is long");
    forged.push(if last == 'A' { 'B' } else { 'A' });
    for token in [forged.as_str(), &acknowledge[1..], "never-was"] {
        assert_eq!((look(&world, token).await.0, press(&world, token, &confirm()).await), (404, 404), "{token}");
    }
    assert_eq!(show(&world, &id).await, before);
    world.move_to(world.now().await + jiff::SignedDuration::from_hours(73)).await;
    for token in [&acknowledge, &resolve] {
        assert_eq!((look(&world, token).await.0, press(&world, token, &confirm()).await), (410, 410));
    }
    assert_eq!(show(&world, &id).await["state"], "open");
    assert_eq!(world.count("SELECT count(*) FROM harkara.action_link_uses").await, 0);
    world.finish().await;
}
