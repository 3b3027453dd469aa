//! Debounces: once it is quiet, the last state is told, and what it was at first.

use crate::batches::{begin, close_after, observation, texts};
use serde_json::{Value, json};
use sqlx::PgPool;
use std::time::Duration;
use tests::{Stage, TENANT};

fn change(stage_name: impl ToString) -> Value {
    observation(stage_name, "debounce", json!({"key": "registration-31", "window": "PT5M", "max": "PT12M"}))
}

async fn pending(stage: &Stage) -> i64 {
    stage.count("SELECT count(*) FROM harkara.deliveries WHERE due_at IS NOT NULL").await
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn after_five_minutes_of_quiet_the_first_old_and_the_last_new_stage_are_told(pool: PgPool) {
    let stage = begin(pool).await;
    let mut ids = Vec::new();
    for name in ["offered", "accepted", "paid"] {
        ids.push(stage.post(change(name)).await.id());
        assert_eq!(pending(&stage).await, 1, "at most one waits");
        assert_eq!(close_after(&stage, 3).await, 0, "each change begins the wait again");
    }
    let (state, reason, _) = stage.outcome(&ids[0]).await;
    assert_eq!((state.as_str(), reason.as_deref()), ("absorbed", Some("replaced_by_later")));
    assert_eq!(close_after(&stage, 2).await, 1);
    let mails = stage.mail.asked();
    assert_eq!(mails.len(), 1);
    assert!(texts(&stage)[0].starts_with("from offered to paid"), "{:?}", texts(&stage));
    let message = mails[0].tags.notification.to_string();
    let shown = stage.show(&message).await;
    assert_eq!(shown["members"], json!({"as": "debounce", "count": 3, "ids": ids}));
    for (id, reason) in ids.iter().zip(["replaced_by_later", "replaced_by_later", "left_in_debounce"]) {
        assert_eq!(stage.outcome(id).await.1.as_deref(), Some(reason));
        assert_eq!(stage.show(id).await["collected"]["message"], message);
    }
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_debounce_is_put_off_up_to_its_cap(pool: PgPool) {
    let stage = begin(pool).await;
    for minute in 0..3 {
        stage.post(change(minute)).await.id();
        assert_eq!(close_after(&stage, 4).await, usize::from(minute == 2), "after {} minutes", (minute + 1) * 4);
    }
    assert!(texts(&stage)[0].starts_with("from 0 to 2"));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn one_change_leaves_as_it_is(pool: PgPool) {
    let stage = begin(pool).await;
    let id = stage.post(change("offered")).await.id();
    assert_eq!(close_after(&stage, 5).await, 1);
    assert_eq!(stage.outcome(&id).await.0, "sent");
    assert!(texts(&stage)[0].starts_with("one: offered"));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn concurrent_changes_leave_one_that_waits(pool: PgPool) {
    let stage = begin(pool).await;
    let post = async |number: usize| assert_eq!(stage.post(change(number)).await.status, 202);
    tokio::join!(post(0), post(1), post(2), post(3), post(4), post(5));
    assert_eq!((pending(&stage).await, stage.count("SELECT count(*) FROM harkara.collections").await), (1, 1));
    assert_eq!(close_after(&stage, 5).await, 1);
    assert_eq!(stage.mail.asked().len(), 1);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn changes_within_one_request_replace_each_other_in_order(pool: PgPool) {
    let stage = begin(pool).await;
    let answer = stage.post(json!({"notifications": [change("a"), change("b"), change("c")]})).await;
    assert_eq!(answer.status, 202);
    assert_eq!(pending(&stage).await, 1);
    assert_eq!(close_after(&stage, 5).await, 1);
    assert!(texts(&stage)[0].starts_with("from a to c"));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_change_that_races_the_close_is_told_now_or_next(pool: PgPool) {
    let stage = begin(pool).await;
    let posts = async |from: usize| {
        for number in from..from + 15 {
            let debounce = json!({"key": "registration-31", "window": "PT1S", "max": "PT2S"});
            assert_eq!(stage.post(observation(number, "debounce", debounce)).await.status, 202);
        }
    };
    let close = async || {
        for _ in 0..25 {
            stage.pass(Duration::from_secs(1)).await;
            stage.dispatch().await;
        }
    };
    let close_too = async || {
        for _ in 0..50 {
            stage.dispatch().await;
        }
    };
    tokio::join!(posts(0), posts(15), posts(30), close(), close_too());
    stage.pass(Duration::from_secs(60)).await;
    stage.dispatch().await;
    stage.drain().await;
    // Each is in exactly one debounce, and each debounce became one mail: its message, or its only member.
    let unclosed = stage.count("SELECT count(*) FROM harkara.collections WHERE closed_at IS NULL").await;
    let members = stage.count("SELECT count(*) FROM harkara.collection_members").await;
    let told = stage.count("SELECT sum(coalesce(absorbed_count, 1))::bigint FROM harkara.collections").await;
    let closed = stage.count("SELECT count(*) FROM harkara.collections").await;
    assert_eq!((unclosed, members, told), (0, 45, 45));
    assert_eq!(stage.mail.asked().len(), usize::try_from(closed).expect("a count"));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn whoever_cancels_the_one_that_waits_cancels_what_it_stands_for(pool: PgPool) {
    let stage = begin(pool).await;
    stage.post(change("offered")).await.id();
    let last = stage.post(change("accepted")).await.id();
    let cancel = stage.call(TENANT, "POST /v1/notifications/{id}/cancel", Some(&last), "", "").await;
    assert_eq!(cancel.body["canceled_count"], 1);
    assert_eq!(close_after(&stage, 5).await, 1);
    assert_eq!(stage.mail.asked().len(), 0);

    // The first that counts is the first that was not canceled.
    let first = stage.post(change("a")).await.id();
    stage.call(TENANT, "POST /v1/notifications/{id}/cancel", Some(&first), "", "").await;
    stage.post(change("b")).await.id();
    stage.post(change("c")).await.id();
    assert_eq!(close_after(&stage, 5).await, 1);
    assert!(texts(&stage)[0].starts_with("from b to c"));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_cannot_be_debounced_is_refused_at_its_place(pool: PgPool) {
    let stage = begin(pool).await;
    let of = |debounce: Value| observation(1, "debounce", debounce);
    let mut later = change(1);
    later["send_at"] = "2027-01-01T00:00:00Z".into();
    let table = [
        (later, "/send_at"),
        (of(json!({"key": "k", "window": "PT5M", "max": "PT4M59S"})), "/debounce/max"),
        (of(json!({"key": "k", "window": "PT5M", "max": "P7DT1S"})), "/debounce/max"),
        (of(json!({"key": "k", "window": "PT5M", "max": 7})), "/debounce/max"),
        (of(json!({"key": "k", "window": "P2D"})), "/debounce/window"),
        (of(json!({"key": "", "window": "PT5M"})), "/debounce/key"),
        (of(json!({"key": "k", "window": "PT5M", "until": "x"})), "/debounce/until"),
    ];
    for (body, pointer) in table {
        let answer = stage.post(body.clone()).await;
        assert_eq!((answer.status, answer.pointers()), (422, vec![pointer]), "{body}");
    }
    assert_eq!(stage.count("SELECT count(*) FROM harkara.notifications").await, 0);
    stage.finish().await;
}
