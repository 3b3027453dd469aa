//! A tenant's own suppressions through the API: what people add is skipped, what they take back is sent to again.

use serde_json::{Value, json};
use sqlx::PgPool;
use tests::{Answer, OTHER_TENANT, Stage, TENANT};

const ROUTE: &str = "/v1/suppressions/{address}";

async fn ask(stage: &Stage, method: &str, address: &str, query: &str) -> Answer {
    stage.call(TENANT, &format!("{method} {ROUTE}"), Some(address), query, "").await
}

/// Puts a suppression there that no request can make.
async fn suppress(stage: &Stage, tenant: &str, address: &str, reason: &str, source: &str) {
    let statement =
        "INSERT INTO harkara.suppressions (tenant_id, address, reason, source) VALUES ($1::uuid, $2, $3, $4)";
    let insert = sqlx::query(statement).bind(tenant).bind(address).bind(reason).bind(source);
    insert.execute(&stage.admin).await.expect("suppressed");
}

/// State and reason of a mail to the address.
async fn send(stage: &Stage, address: &str) -> (String, Option<String>) {
    let id = stage.post(Stage::greeting(address)).await.id();
    stage.drain().await;
    let (state, reason, _) = stage.outcome(&id).await;
    (state, reason)
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_people_suppress_is_skipped_until_they_take_it_back(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let first = ask(&stage, "PUT", "Lin@Example.ORG", "").await;
    assert_eq!(first.status, 200, "{first:?}");
    let shown = json!({"address": "lin@example.org", "reason": "manual", "source": "api",
        "created_at": first.body["created_at"]});
    assert_eq!(first.body, shown);
    assert_eq!(ask(&stage, "PUT", "lin@example.org", "").await.body, shown, "a second one changes nothing");
    assert_eq!(ask(&stage, "GET", "LIN@example.org", "").await.body, shown);
    assert_eq!(send(&stage, "Lin@example.org").await, ("skipped".into(), Some("address_suppressed".into())));

    let removed = ask(&stage, "DELETE", "lin@example.org", "").await;
    assert_eq!((removed.status, &removed.body), (200, &shown));
    for method in ["GET", "DELETE"] {
        let missing = ask(&stage, method, "lin@example.org", "").await;
        assert_eq!((missing.status, missing.body["code"].as_str()), (404, Some("not_found")), "{method}");
    }
    assert_eq!(send(&stage, "lin@example.org").await.0, "sent");
    stage.pass(std::time::Duration::from_secs(60)).await;
    stage.dispatch().await;
    let told: Vec<Value> = stage
        .bus
        .events()
        .into_iter()
        .filter(|e| e.detail_type.starts_with("suppression."))
        .map(|e| {
            assert!(!e.detail.to_string().contains('@'), "an address is nobody's on the bus");
            json!([e.detail_type, e.detail["reason"]])
        })
        .collect();
    assert_eq!(told, [json!(["suppression.added", "manual"]), json!(["suppression.removed", "manual"])]);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_complaint_is_taken_back_only_when_that_is_said(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    suppress(&stage, TENANT, "lin@example.org", "complaint", "feedback").await;
    assert_eq!(ask(&stage, "PUT", "lin@example.org", "").await.body["reason"], "complaint", "the stronger word stays");
    for query in ["", "even_complaint=false"] {
        let refused = ask(&stage, "DELETE", "lin@example.org", query).await;
        assert_eq!((refused.status, refused.body["code"].as_str()), (409, Some("conflict")));
        assert!(
            refused.body["detail"].as_str().is_some_and(|said| said.contains("?even_complaint=true")),
            "{refused:?}"
        );
    }
    let bad = ask(&stage, "DELETE", "lin@example.org", "even_complaint=yes&force=1").await;
    assert_eq!((bad.status, bad.pointers()), (422, vec!["?even_complaint", "?force"]));
    assert_eq!(ask(&stage, "DELETE", "lin@example.org", "even_complaint=true").await.status, 200);
    assert_eq!(ask(&stage, "GET", "lin@example.org", "").await.status, 404);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_bounced_may_be_taken_back_and_its_count_begins_again(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    suppress(&stage, TENANT, "hard@example.org", "hard_bounce", "feedback").await;
    suppress(&stage, TENANT, "soft@example.org", "soft_bounces", "feedback").await;
    let counted = "INSERT INTO harkara.soft_bounces (tenant_id, address, bounce_count) VALUES ($1::uuid, $2, 5)";
    sqlx::query(counted).bind(TENANT).bind("soft@example.org").execute(&stage.admin).await.expect("counted");
    for address in ["hard@example.org", "soft@example.org"] {
        assert_eq!(ask(&stage, "DELETE", address, "").await.status, 200);
    }
    assert_eq!(stage.count("SELECT count(*) FROM harkara.soft_bounces").await, 0, "or the next one would be the sixth");

    suppress(&stage, TENANT, "soft@example.org", "soft_bounces", "feedback").await;
    let put = ask(&stage, "PUT", "soft@example.org", "").await;
    assert_eq!(
        (&put.body["reason"], &put.body["source"]),
        (&json!("manual"), &json!("api")),
        "no delivery lifts it now"
    );
    stage.finish().await;
}

/// Why an address came onto the provider's list is another tenant's business; that it is there, everybody's.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_providers_own_list_is_seen_by_address_and_left_alone(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    suppress(&stage, "00000000-0000-0000-0000-000000000000", "lin@example.org", "complaint", "provider_list").await;
    let seen = ask(&stage, "GET", "lin@example.org", "").await;
    assert_eq!((&seen.body["source"], &seen.body["reason"]), (&json!("provider_list"), &Value::Null));
    let refused = ask(&stage, "DELETE", "lin@example.org", "even_complaint=true").await;
    assert_eq!((refused.status, refused.body["code"].as_str()), (409, Some("conflict")));
    assert!(refused.body["detail"].as_str().is_some_and(|said| said.contains("provider's own list")), "{refused:?}");
    let list = stage.call(TENANT, "GET /v1/suppressions", None, "", "").await;
    assert_eq!(list.body["suppressions"], json!([]));

    assert_eq!(ask(&stage, "PUT", "lin@example.org", "").await.body["source"], "api", "the tenant's own beside it");
    assert_eq!(ask(&stage, "DELETE", "lin@example.org", "").await.status, 200);
    assert_eq!(ask(&stage, "GET", "lin@example.org", "").await.body["source"], "provider_list");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn another_tenants_suppressions_are_not_there(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    suppress(&stage, OTHER_TENANT, "lin@example.org", "manual", "api").await;
    for method in ["GET", "DELETE"] {
        assert_eq!(ask(&stage, method, "lin@example.org", "").await.status, 404, "{method}");
    }
    assert_eq!(ask(&stage, "PUT", "lin@example.org", "").await.status, 200, "and takes nothing away from this one");
    assert_eq!(ask(&stage, "DELETE", "lin@example.org", "").await.status, 200);
    assert_eq!(stage.count("SELECT count(*) FROM harkara.suppressions").await, 1);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn suppressions_are_listed_by_reason_and_source_and_by_page(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    for number in 0..7 {
        assert_eq!(ask(&stage, "PUT", &format!("r{number}@example.org"), "").await.status, 200);
    }
    assert_eq!(ask(&stage, "PUT", "+4915112345678", "").await.body["address"], "+4915112345678");
    suppress(&stage, TENANT, "lin@example.org", "complaint", "feedback").await;
    let list = async |query: &str| {
        let answer = stage.call(TENANT, "GET /v1/suppressions", None, query, "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    };
    let count = async |query: &str| list(query).await["suppressions"].as_array().map_or(0, Vec::len);
    assert_eq!(count("reason=complaint").await, 1);
    assert_eq!(count("source=api").await, 8);
    assert_eq!(count("source=api&reason=complaint").await, 0);
    let (mut seen, mut query) = (std::collections::BTreeSet::new(), "page_size=4".to_owned());
    loop {
        let page = list(&query).await;
        for row in page["suppressions"].as_array().expect("a list") {
            assert!(seen.insert(row["address"].as_str().expect("an address").to_owned()), "no row comes twice");
        }
        match page["page_info"]["after"].as_str() {
            Some(after) => query = format!("page_size=4&after={after}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 9);
    let bad = stage.call(TENANT, "GET /v1/suppressions", None, "reason=spite&source=me", "").await;
    assert_eq!((bad.status, bad.pointers()), (422, vec!["?reason", "?source"]));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_is_no_address_is_refused_and_nothing_is_stored(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    for address in ["lin", "lin@", "a@b.org\r\nBcc: c@d.org", "+49 151", "a@b.org,c@d.org"] {
        assert_eq!(ask(&stage, "PUT", address, "").await.status, 422, "{address:?}");
        assert_eq!(ask(&stage, "GET", address, "").await.status, 404, "{address:?}");
    }
    let body = r#"{"reason": "complaint"}"#;
    let asked = stage.call(TENANT, &format!("PUT {ROUTE}"), Some("lin@example.org"), "", body).await;
    assert_eq!((asked.status, asked.pointers()), (422, vec!["/reason"]));
    assert_eq!(stage.count("SELECT count(*) FROM harkara.suppressions").await, 0);
    stage.finish().await;
}
