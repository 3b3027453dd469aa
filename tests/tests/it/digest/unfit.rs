//! Digests whose template asks for what digests do not have: refused before any is due, and told where one is.

use super::*;
use sqlx::PgPool;
use std::time::Duration;

/// A digest of its own rhythm, for whoever is CAE, with nothing in it, too; by this template.
fn weekly(template: &str) -> Value {
    json!({
        "class": "digest", "template": template, "quiet_hours_apply": false, "unmutable_roles": ["CAE"],
        "digest": {"cadence": "weekly"},
    })
}

/// What digests have none of, as a template's draft.
fn unfit() -> Value {
    json!({
        "variables": {"name": {"type": "string", "example": "Ada"}, "count": {"type": "string", "example": "one"}},
        "variants": [{"locale": "en", "subject": "{{ count }} for {{ name }}", "text": "News."}],
    })
}

/// What is told of digests that could not be made.
async fn told(stage: &Stage) -> Vec<Value> {
    stage.drain().await;
    stage.pass(Duration::from_secs(60)).await;
    stage.dispatch().await;
    let refused = |event: &domain::event::Event| event.detail_type == "digest.refused";
    stage.bus.events().into_iter().filter(refused).map(|event| event.detail).collect()
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_digest_that_cannot_be_made_is_told_once_also_with_nothing_in_it(pool: PgPool) {
    let stage = begin(pool).await;
    put_category(&stage, "WEEKLY_DIGEST", weekly("digest")).await;
    put_recipient(&stage, "vikram", "Asia/Kolkata", &["CAE"]).await;
    stage.close_digests().await;
    let asked = [ask(&stage, "ASSIGNED", "ada", "one").await, ask(&stage, "COMMENTED", "ada", "two").await];
    // What no caller of the API can do.
    sqlx::query("UPDATE harkara.categories SET template_key = 'greeting' WHERE class = 'digest'")
        .execute(&stage.admin)
        .await
        .expect("changed");

    move_to(&stage, WEDNESDAY).await;
    let counts = stage.close_digests().await;
    assert_eq!((counts.digests, counts.refused, counts.released), (0, 1, 2), "{counts:?}");
    stage.dispatch().await;
    let of_ada = told(&stage).await;
    assert_eq!(of_ada.len(), 1, "{of_ada:?}");
    let expected = json!({
        "event_id": of_ada[0]["event_id"], "tenant_id": TENANT, "category": "BULK_DIGEST", "recipient": "ada",
        "channel": "email", "period_end": WEDNESDAY, "member_count": 2, "reason": "wrong_data",
        "detail": "/data/name is required by the template",
    });
    assert_eq!(of_ada[0], expected);
    for id in &asked {
        assert_eq!(outcome(&stage, id).await.0, "sent", "each by itself");
    }

    // Monday, 09:00 in Kolkata: nobody would hear of a digest in which nothing is.
    move_to(&stage, "2026-12-07T03:30:00Z").await;
    let (first, second) = tokio::join!(stage.close_digests(), stage.close_digests());
    let third = stage.close_digests().await;
    assert_eq!(first.refused + second.refused + third.refused, 1, "{first:?} {second:?} {third:?}");
    let all = told(&stage).await;
    assert_eq!(all.len(), 2, "{all:?}");
    let of_vikram = all.iter().find(|event| event["recipient"] == "vikram").expect("it is told");
    assert_eq!(
        (&of_vikram["category"], &of_vikram["member_count"], &of_vikram["reason"]),
        (&json!("WEEKLY_DIGEST"), &json!(0), &json!("wrong_data"))
    );
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_category_whose_digests_could_not_be_made_is_refused_where_that_is_said(pool: PgPool) {
    let stage = begin(pool).await;
    let why = "no digest of it can be made: /data/name is required by the template";
    let put = async |key: &str, body: Value| send(&stage, "PUT", "/v1/categories/{key}", key, body).await;
    let refused = |answer: &Answer, pointer: &str| {
        let wrong = json!([{"pointer": pointer, "detail": why}]);
        assert_eq!((answer.status, &answer.body["errors"]), (422, &wrong), "{answer:?}");
    };
    // By a rhythm of its own, and because others are collected in it.
    refused(&put("odd", weekly("greeting")).await, "/template");
    let collecting = json!({"class": "digest", "template": "greeting"});
    refused(&put("BULK_DIGEST", collecting.clone()).await, "/template");
    // Nothing is collected in it yet: it may be a digest that the caller makes by itself.
    put_category(&stage, "OWN_DIGEST", collecting).await;
    let collected = json!({"class": "transactional", "digest_category": "OWN_DIGEST"});
    refused(&put("odd", collected).await, "/digest_category");
    let settings = json!({"digest_category": "OWN_DIGEST"}).to_string();
    refused(&stage.call(TENANT, "PUT /v1/settings", None, "", &settings).await, "/digest_category");

    let stored = "SELECT count(*) FROM harkara.categories WHERE category_key = 'odd' OR digest_category = 'OWN_DIGEST'";
    assert_eq!(stage.count(stored).await, 0, "nothing is stored");
    let kept = "SELECT count(*) FROM harkara.categories WHERE category_key = 'BULK_DIGEST' AND template_key = 'digest'";
    assert_eq!(stage.count(kept).await, 1);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_template_that_digests_are_made_of_is_not_published_with_what_they_do_not_have(pool: PgPool) {
    let stage = begin(pool).await;
    let publish = async |key: &str, draft: Value| {
        stage.put(TENANT, "/v1/templates/{key}", key, draft).await;
        stage.call(TENANT, "POST /v1/templates/{key}/publish", Some(key), "", "").await
    };
    let answer = publish("digest", unfit()).await;
    assert_eq!((answer.status, answer.pointers()), (422, vec!["/variables/count", "/variables/name"]), "{answer:?}");
    let version = stage.call(TENANT, "GET /v1/templates/{key}", Some("digest"), "", "").await;
    assert_eq!(version.body["published_version"], 1, "what is sent stays as it is");

    // The template may come after the category, and is then looked at.
    stage.put(TENANT, "/v1/templates/{key}", "later", unfit()).await;
    put_category(&stage, "WEEKLY_DIGEST", weekly("later")).await;
    assert_eq!(publish("later", unfit()).await.status, 422);
    let mut fit = unfit();
    fit["variables"] = json!({"count": {"type": "integer", "example": 1}});
    fit["variants"][0]["subject"] = "{{ count }} of news".into();
    let answer = publish("later", fit).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    // Of what no digest is made, it may ask for anything.
    assert_eq!(publish("other", unfit()).await.status, 200);
    put_category(&stage, "OWN_DIGEST", json!({"class": "digest", "template": "other"})).await;
    assert_eq!(publish("other", unfit()).await.status, 200);
    stage.finish().await;
}
