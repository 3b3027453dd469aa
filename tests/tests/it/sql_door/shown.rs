//! What a domain can see of its own requests by the API, without being an administrator of the database.

use super::{OTHER_DOMAIN, ask, begin, begin_as, enqueue, print, to_ada};
use adapters::wire::routes::Route;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::time::Duration;
use tests::{Answer, Ask, OTHER_TENANT, Stage, TENANT};

async fn get(stage: &Stage, tenant: &str, id: &str) -> Answer {
    stage.ask(&Ask::of(Route::GetDoorRequest, tenant).with_parameter("id", id)).await
}

async fn list(stage: &Stage, query: &str) -> Answer {
    stage.ask(&Ask::of(Route::ListDoorRequests, TENANT).with_query(query)).await
}

fn ids(answer: &Answer) -> Vec<&str> {
    let rows = answer.body["door_requests"].as_array().unwrap_or_else(|| panic!("{answer:?}"));
    rows.iter().map(|row| row["id"].as_str().expect("an id")).collect()
}

fn wrong() -> Value {
    let mut wrong = to_ada();
    wrong["priority"] = "now".into();
    wrong
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_became_of_a_request_is_shown_by_its_id(pool: PgPool) {
    let stage = begin(pool).await;
    let (bad, good) = (ask(&stage, &wrong(), None).await, ask(&stage, &to_ada(), None).await);
    for id in [&bad, &good] {
        let shown = get(&stage, TENANT, id).await;
        assert_eq!((shown.status, &shown.body["status"]), (200, &json!("waiting")), "{shown:?}");
        assert_eq!((&shown.body["errors"], &shown.body["refused_at"]), (&json!([]), &Value::Null));
        assert!(shown.body["due_at"].is_string(), "{shown:?}");
    }
    stage.dispatch().await;

    let shown = get(&stage, TENANT, &bad).await;
    assert_eq!((&shown.body["status"], &shown.body["notification_id"]), (&json!("refused"), &Value::Null));
    assert_eq!(shown.body["errors"][0]["pointer"], "/priority", "{shown:?}");
    assert!(shown.body["errors"][0]["detail"].is_string() && shown.body["refused_at"].is_string(), "{shown:?}");
    assert_eq!((&shown.body["category"], &shown.body["recipient"]), (&json!("greeting"), &json!({"id": "ada"})));
    assert_eq!(shown.headers["location"], Value::Null);

    let shown = get(&stage, TENANT, &good).await;
    assert_eq!((&shown.body["status"], &shown.body["notification_id"]), (&json!("accepted"), &json!(good)));
    assert_eq!(shown.headers["location"], format!("/v1/notifications/{good}"));
    assert_eq!((&shown.body["errors"], &shown.body["due_at"]), (&json!([]), &Value::Null));

    // Another tenant's are nobody's, and what was withdrawn is gone.
    assert_eq!(get(&stage, OTHER_TENANT, &bad).await.status, 404);
    assert_eq!(get(&stage, OTHER_TENANT, &good).await.status, 404);
    let withdrawn = ask(&stage, &to_ada(), None).await;
    assert_eq!(super::cancel_alone(&stage, &super::bare(&withdrawn)).await, "canceled");
    assert_eq!(get(&stage, TENANT, &withdrawn).await.status, 404);
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_turns_out_to_be_a_duplicate_is_not_there_and_sends_nothing(pool: PgPool) {
    let stage = begin(pool).await;
    let mut once = to_ada();
    once["dedupe"] = json!({"key": "registration-31", "window": "P1D"});
    let (first, second) = (ask(&stage, &once, None).await, ask(&stage, &once, None).await);
    assert_ne!(first, second, "nobody can know before the dispatcher looks");
    assert_eq!(get(&stage, TENANT, &second).await.body["status"], "waiting");
    stage.dispatch().await;
    let shown = [get(&stage, TENANT, &first).await, get(&stage, TENANT, &second).await];
    assert_eq!((&shown[0].body["status"], shown[1].status), (&json!("accepted"), 404), "{shown:?}");
    let listed = list(&stage, "").await;
    assert_eq!(ids(&listed), [""; 0], "it was not refused, either: {listed:?}");

    // So does a later one, and one that the API has asked for first.
    let third = ask(&stage, &once, None).await;
    let mut by_api = to_ada();
    by_api["dedupe"] = json!({"key": "registration-32", "window": "P1D"});
    assert_eq!(stage.post(by_api).await.status, 202);
    once["dedupe"]["key"] = "registration-32".into();
    let fourth = ask(&stage, &once, None).await;
    stage.dispatch().await;
    for id in [&third, &fourth] {
        assert_eq!(get(&stage, TENANT, id).await.status, 404);
    }
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 2);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_waits_and_what_was_refused_is_listed_page_by_page(pool: PgPool) {
    let stage = begin(pool).await;
    let mut asked = Vec::new();
    for _ in 0..3 {
        asked.push(ask(&stage, &wrong(), None).await);
        stage.pass(Duration::from_secs(1)).await;
    }
    ask(&stage, &to_ada(), None).await;
    stage.dispatch().await;
    asked.push(ask(&stage, &to_ada(), None).await);
    // Two of one moment are in the order of their ids.
    let mut transaction = begin_as(&stage, super::DOMAIN).await;
    for _ in 0..2 {
        asked.push(print(enqueue(&mut transaction, &to_ada(), None).await.expect("taken")));
    }
    transaction.commit().await.expect("committed");
    let mut transaction = begin_as(&stage, OTHER_DOMAIN).await;
    enqueue(&mut transaction, &wrong(), None).await.expect("taken");
    transaction.commit().await.expect("committed");
    asked[4..].sort();
    asked.reverse();

    let whole = list(&stage, "").await;
    assert_eq!(ids(&whole), asked, "neither what was accepted nor another tenant's");
    assert_eq!(whole.body["page_info"]["after"], Value::Null);
    assert_eq!(ids(&list(&stage, "status=waiting").await), asked[..3]);
    assert_eq!(ids(&list(&stage, "status=refused").await), asked[3..]);

    for (status, expected) in [("", &asked[..]), ("&status=waiting", &asked[..3]), ("&status=refused", &asked[3..])] {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let page = list(&stage, &format!("page_size=2{status}{after}")).await;
            found.extend(ids(&page).into_iter().map(str::to_owned));
            match page.body["page_info"]["after"].as_str() {
                Some(cursor) => after = format!("&after={cursor}"),
                None => break,
            }
        }
        assert_eq!(found, expected, "{status}");
    }
    assert_eq!(list(&stage, "status=accepted").await.status, 422, "that is GET /v1/notifications");
    stage.dispatch().await;
    stage.drain().await;
    stage.finish().await;
}
