//! Recipients: many at once, erased, reached by nothing, and what their own tokens show them.

use serde_json::{Value, json};
use sqlx::PgPool;
use tests::{Stage, TENANT};

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_thousand_recipients_are_put_at_once_and_one_bad_one_fails_alone(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let mut list: Vec<Value> =
        (0..998).map(|n| json!({"id": format!("r{n:03}"), "email": format!("r{n}@example.org")})).collect();
    list.push(json!({"id": "bad", "email": "nonsense"}));
    list.push(json!({"id": "r000", "email": "again@example.org"}));
    let put = async |list: &[Value]| {
        stage.call(TENANT, "POST /v1/recipients", None, "", &json!({"recipients": list}).to_string()).await
    };
    let answer = put(&list).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let statuses: Vec<_> =
        answer.body["recipients"].as_array().expect("a list").iter().map(|one| &one["status"]).collect();
    assert_eq!(statuses.iter().filter(|status| ***status == "created").count(), 998);
    assert_eq!(statuses[998..], ["rejected", "rejected"]);
    assert_eq!(answer.body["recipients"][998]["problem"]["errors"][0]["pointer"], "/recipients/998/email");
    assert_eq!(put(&list[..1]).await.body["recipients"][0], json!({"id": "r000", "status": "replaced"}));
    list.push(json!({"id": "one too many", "email": "x@example.org"}));
    assert_eq!(put(&list).await.pointers(), ["/recipients"]);

    let mut seen = 0;
    let mut query = String::new();
    loop {
        let page = stage.call(TENANT, "GET /v1/recipients", None, &query, "").await;
        seen += page.body["recipients"].as_array().expect("a list").len();
        match page.body["page_info"]["after"].as_str() {
            Some(after) => query = format!("after={after}"),
            None => break,
        }
    }
    assert_eq!(seen, 999, "and ada");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn erasing_a_recipient_leaves_what_happened_and_nothing_of_the_person(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let person = json!({"email": "canary-address@example.org", "phone": "+4915112345678", "name": "Canary Name",
        "attributes": {"note": "canary-attribute"}});
    stage.put(TENANT, "/v1/recipients/{id}", "someone", person).await;
    let ask = json!({"category": "greeting", "recipient": {"id": "someone"}, "data": {"name": "canary-data"}});
    let sent = stage.post(ask.clone()).await.id();
    stage.drain().await;
    let said =
        json!({"purpose": "offers", "state": "granted", "source": "form", "evidence": {"ip": "canary-evidence"}});
    stage.call(TENANT, "POST /v1/recipients/{id}/consents", Some("someone"), "", &said.to_string()).await;
    let waiting = stage.post(ask).await.id();

    let delete = async || stage.call(TENANT, "DELETE /v1/recipients/{id}", Some("someone"), "", "").await.status;
    assert_eq!((delete().await, delete().await), (204, 404));
    assert_eq!(stage.outcome(&waiting).await.0, "canceled");
    assert_eq!(stage.outcome(&waiting).await.1.as_deref(), Some("recipient_erased"));
    assert_eq!(stage.outcome(&sent).await.0, "sent");
    assert_eq!(stage.call(TENANT, "GET /v1/recipients/{id}", Some("someone"), "", "").await.status, 404);

    stage.drain().await;
    // Whatever table there is, and whatever column: nothing of the person is left in it.
    let look = "
        DO $$
        DECLARE
            table_name text;
            is_there   boolean;
        BEGIN
            FOR table_name IN
                SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'harkara'::regnamespace AND c.relkind = 'r'
            LOOP
                EXECUTE format('SELECT EXISTS (SELECT FROM harkara.%I t WHERE t::text ILIKE %L OR t::text LIKE %L)',
                    table_name, '%canary%', '%+4915112345678%') INTO is_there;
                IF is_there THEN
                    RAISE EXCEPTION '% remembers the person', table_name;
                END IF;
            END LOOP;
        END
        $$";
    sqlx::raw_sql(look).execute(&stage.admin).await.expect("nothing is left");
    // The same id may come back, as somebody new.
    stage.put(TENANT, "/v1/recipients/{id}", "someone", json!({"email": "new@example.org"})).await;
    let consents = stage.call(TENANT, "GET /v1/recipients/{id}/consents", Some("someone"), "", "").await;
    assert_eq!(consents.body["consents"], json!([]));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_report_lists_whom_nothing_reaches_and_why(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    for (id, body) in [
        ("phone-only", json!({"phone": "+4915112345678"})),
        ("suppressed", json!({"email": "gone@example.org"})),
        ("muted", json!({"email": "muted@example.org"})),
        ("fine", json!({"email": "fine@example.org"})),
    ] {
        stage.put(TENANT, "/v1/recipients/{id}", id, body).await;
    }
    stage.call(TENANT, "PUT /v1/suppressions/{address}", Some("gone@example.org"), "", "{}").await;
    stage.put(TENANT, "/v1/recipients/{id}/preferences", "muted", json!({"contact": "none"})).await;
    let report = stage.call(TENANT, "GET /v1/reports/unreachable-recipients", None, "", "").await;
    let mut found: Vec<_> = report.body["recipients"]
        .as_array()
        .unwrap_or_else(|| panic!("{report:?}"))
        .iter()
        .map(|row| (row["id"].as_str().unwrap_or_default(), row["reasons"][0]["code"].as_str().unwrap_or_default()))
        .collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [("muted", "preference_off"), ("phone-only", "no_address"), ("suppressed", "address_suppressed")]
    );
    stage.finish().await;
}
