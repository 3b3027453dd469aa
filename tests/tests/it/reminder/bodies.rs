//! What is refused when a deadline is put, and how deadlines are listed.

use super::{DUE, complete, deadline, finish, get, move_to, plan, put, put_well, seven_three_one};
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::{Ask, OTHER_TENANT, Stage, TENANT};

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn each_mistake_is_named_by_its_place_and_nothing_is_stored(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.lift_limits().await;
    move_to(&stage, "2027-06-01T00:00:00Z").await;
    let rungs = |rungs: Value| deadline(DUE, rungs);
    let with = |name: &str, value: Value| {
        let mut body = seven_three_one(DUE);
        body[name] = value;
        body
    };
    stage.put(TENANT, "/v1/categories/{key}", "bare", json!({"class": "reminder"})).await;
    let hour = |n: usize| json!({"before": format!("PT{}H", n + 1)});
    for (body, pointers) in [
        (with("due_at", json!("2027-06-01T00:00:00Z")), vec!["/due_at"]),
        (with("due_at", json!("2037-07-01T00:00:00Z")), vec!["/due_at"]),
        (with("due_at", json!("tomorrow")), vec!["/due_at"]),
        (with("time_zone", json!("Mars/Olympus")), vec!["/time_zone"]),
        (with("when_past", json!("never")), vec!["/when_past"]),
        (with("recipients", json!(["ada", "nobody"])), vec!["/recipients/1"]),
        (with("recipients", json!(["ada", "ada"])), vec!["/recipients/1"]),
        (with("recipients", json!([])), vec!["/recipients"]),
        (with("recipients", (0..101).map(|n| format!("r{n}")).collect()), vec!["/recipients"]),
        (with("category", json!("never-was")), vec!["/category"]),
        (with("category", Value::Null), vec!["/rungs/0/category", "/rungs/1/category", "/rungs/2/category"]),
        (with("overdue", json!({"category": "never-was"})), vec!["/overdue/category"]),
        (with("overdue", json!({})), vec!["/overdue/category"]),
        (with("overdue", json!({"policy": "x"})), vec!["/overdue/category", "/overdue/policy"]),
        (
            with("overdue", json!({"category": "greeting", "escalation_policy": "never-was"})),
            vec!["/overdue/escalation_policy"],
        ),
        (with("overdue", json!({"escalation_policy": "no policy"})), vec!["/overdue/escalation_policy"]),
        (with("rungs", Value::Null), vec!["/rungs"]),
        (with("rungs", json!([])), vec!["/rungs"]),
        (with("data", json!({"x": "x".repeat(17_000)})), vec!["/data"]),
        // What no template could take, or has none.
        (with("data", json!({})), vec!["/data/name"]),
        (rungs(json!([{"before": "P1D"}, {"before": "P2D", "data": {"name": 7}}])), vec!["/rungs/1/data/name"]),
        (with("category", json!("bare")), vec!["/category"]),
        (with("overdue", json!({"category": "bare"})), vec!["/overdue/category"]),
        (rungs(json!([{"before": "P1D", "category": "bare"}])), vec!["/rungs/0/category"]),
        (rungs(json!([{"before": "P1D"}, {"before": "P2D"}, {"before": "P1DT0H"}])), vec!["/rungs/2"]),
        (rungs(json!([{"before": "P1D"}, {"after": "PT24H"}, {"before": "PT24H"}])), vec!["/rungs/2"]),
        (rungs((0..21).map(hour).collect()), vec!["/rungs"]),
        (rungs(json!([{}])), vec!["/rungs/0"]),
        (rungs(json!([{"before": "P1D", "after": "P1D"}])), vec!["/rungs/0"]),
        (rungs(json!([{"before": "P367D"}])), vec!["/rungs/0/before"]),
        (rungs(json!([{"before": "PT4M"}])), vec!["/rungs/0/before"]),
        (rungs(json!([{"before": "-P1D"}])), vec!["/rungs/0/before"]),
        (rungs(json!([{"before": "P1M"}])), vec!["/rungs/0/before"]),
        (rungs(json!([{"before": "PT2H", "at": "09:00"}])), vec!["/rungs/0/before"]),
        (rungs(json!([{"after": "P0D", "at": "09:00"}])), vec!["/rungs/0/after"]),
        (rungs(json!([{"before": "P1D", "at": "9 o'clock"}])), vec!["/rungs/0/at"]),
        (rungs(json!([{"before": "P1D", "category": "never-was"}])), vec!["/rungs/0/category"]),
        (rungs(json!([{"before": "P1D", "template": "never-was"}])), vec!["/rungs/0/template"]),
        (rungs(json!([{"before": "P1D", "data": []}])), vec!["/rungs/0/data"]),
    ] {
        let answer = put(&stage, "wrong", &body).await;
        assert_eq!((answer.status, answer.pointers()), (422, pointers), "{body}");
    }
    let stored = "SELECT (SELECT count(*) FROM harkara.deadlines) + (SELECT count(*) FROM harkara.rungs)";
    assert_eq!(stage.count(stored).await, 0);
    put_well(&stage, "right", &seven_three_one(DUE)).await;
    let before = get(&stage, "right").await;
    assert_eq!(put(&stage, "right", &with("recipients", json!(["nobody"]))).await.status, 422);
    assert_eq!(get(&stage, "right").await, before, "what is there stays as it is");
    finish(stage).await;
}

/// The keys of all that fits, over all pages.
async fn list_keys(stage: &Stage, filter: &str) -> Vec<String> {
    let (mut found, mut query) = (Vec::new(), filter.to_owned());
    loop {
        let page = stage.call(TENANT, "GET /v1/deadlines", None, &query, "").await;
        assert_eq!(page.status, 200, "{page:?}");
        let deadlines = page.body["deadlines"].as_array().expect("a list");
        found.extend(deadlines.iter().map(|one| one["key"].as_str().expect("a key").to_owned()));
        match page.body["page_info"]["after"].as_str() {
            Some(after) => query = format!("{filter}&after={after}"),
            None => return found,
        }
    }
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn deadlines_are_listed_by_state_and_category_page_by_page(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-06-01T00:00:00Z").await;
    stage.put(TENANT, "/v1/categories/{key}", "visits", json!({"class": "reminder", "template": "greeting"})).await;
    for number in 0..5 {
        put_well(&stage, &format!("open-{number}"), &seven_three_one(DUE)).await;
    }
    put_well(&stage, "done", &seven_three_one(DUE)).await;
    complete(&stage, "done").await;
    let mut passed = deadline("2027-06-02T00:00:00Z", json!([{"after": "P1D"}]));
    passed["category"] = "visits".into();
    put_well(&stage, "passed", &passed).await;
    move_to(&stage, "2027-06-02T00:00:00Z").await;
    let keys = async |query: &str| list_keys(&stage, query).await;
    let open = ["open-0", "open-1", "open-2", "open-3", "open-4"];
    assert_eq!(keys("state=open&page_size=2").await, open);
    assert_eq!(keys("state=completed").await, ["done"]);
    assert_eq!(keys("state=overdue").await, ["passed"]);
    assert_eq!(keys("category=visits").await, ["passed"]);
    assert_eq!(keys("page_size=3").await, ["done", "open-0", "open-1", "open-2", "open-3", "open-4", "passed"]);
    let wrong = stage.call(TENANT, "GET /v1/deadlines", None, "state=late", "").await;
    assert_eq!((wrong.status, wrong.pointers()), (422, vec!["?state"]));
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn deadlines_are_listed_by_whom_they_remind_and_by_when_they_are_due(pool: PgPool) {
    let stage = super::overdue::begin(pool).await;
    let of = |recipients: Value, due_at: &str, mut body: Value| {
        body["recipients"] = recipients;
        body["due_at"] = due_at.into();
        body
    };
    let (early, late) = ("2027-06-02T00:00:00Z", "2027-07-02T00:00:00Z");
    for number in 0..3 {
        put_well(&stage, &format!("ada-{number}"), &seven_three_one(DUE)).await;
    }
    put_well(&stage, "bob", &of(json!(["bob"]), early, seven_three_one(DUE))).await;
    put_well(&stage, "both", &of(json!(["ada", "bob"]), late, seven_three_one(DUE))).await;
    // It reminds of nothing, and what it does is not the recipients' own.
    put_well(&stage, "quiet", &of(json!(["bob"]), late, super::overdue::escalating())).await;
    put_well(&stage, "passed_on", &of(json!(["bob"]), late, deadline(DUE, json!([{"before": "P1D"}])))).await;
    put_well(&stage, "passed_on", &of(json!(["ada"]), late, deadline(DUE, json!([{"before": "P1D"}])))).await;

    assert_eq!(list_keys(&stage, "recipient=bob").await, ["bob", "both", "quiet"]);
    assert_eq!(list_keys(&stage, "recipient=bob&page_size=1").await, ["bob", "both", "quiet"]);
    assert_eq!(list_keys(&stage, "recipient=ada&page_size=2").await, ["ada-0", "ada-1", "ada-2", "both", "passed_on"]);
    assert_eq!(list_keys(&stage, "recipient=carol").await, [""; 0]);
    assert_eq!(list_keys(&stage, "recipient=never-was").await, [""; 0]);
    assert_eq!(list_keys(&stage, &format!("to={DUE}")).await, ["bob"], "of before this time");
    assert_eq!(list_keys(&stage, &format!("from={DUE}&to={late}&page_size=2")).await, ["ada-0", "ada-1", "ada-2"]);
    assert_eq!(list_keys(&stage, &format!("from={late}&recipient=ada")).await, ["both", "passed_on"]);
    move_to(&stage, early).await;
    complete(&stage, "both").await;
    assert_eq!(list_keys(&stage, "state=overdue&recipient=bob").await, ["bob"]);
    assert_eq!(list_keys(&stage, "state=open&recipient=bob&category=greeting").await, ["quiet"]);
    assert_eq!(list_keys(&stage, &format!("state=completed&from={late}")).await, ["both"]);

    // What a token of another tenant finds is its own.
    let theirs = stage.call(OTHER_TENANT, "GET /v1/deadlines", None, "recipient=bob", "").await;
    assert_eq!(theirs.body["deadlines"], json!([]));
    let wrong = stage.call(TENANT, "GET /v1/deadlines", None, "recipient=a%20b&from=noon&to=then&due=1", "").await;
    assert_eq!((wrong.status, wrong.pointers()), (422, vec!["?recipient", "?from", "?to", "?due"]));
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_time_of_the_day_that_is_after_the_deadline_is_skipped_with_a_note(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-06-01T00:00:00Z").await;
    let rungs = json!([{"before": "P0D", "at": "13:00"}, {"before": "P0D", "at": "09:00"}]);
    put_well(&stage, "that-day", &deadline(DUE, rungs)).await;
    assert_eq!(plan(&stage, "that-day").await, ["-P0D@09:00 planned", "-P0D@13:00 skipped after_due"]);
    finish(stage).await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_recipients_own_token_sees_nothing_of_it(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    move_to(&stage, "2027-06-01T00:00:00Z").await;
    put_well(&stage, "secret", &seven_three_one(DUE)).await;
    let ask = Ask::of_key("GET /v1/deadlines/{key}", TENANT).with_parameter("key", "secret");
    let own = ask.with_claim("scope", "self").with_claim("sub", "ada");
    assert_eq!(stage.ask(&own).await.status, 403);
    // And would not if it were let in.
    let tenant = domain::id::TenantId::parse(TENANT).expect("a tenant");
    let recipient = adapters::wire::http::OwnRecipient::Id(domain::id::RecipientKey::parse("ada").expect("a key"));
    let mut transaction = stage.api.database.begin_as_recipient(tenant, "ada", &recipient).await.expect("begun");
    let key = domain::id::DeadlineKey::parse("secret").expect("a key");
    let seen = adapters::store::deadlines::read_deadline(&mut transaction, &key).await.expect("read");
    assert!(seen.is_none());
    assert!(adapters::store::deadlines::read_plan(&mut transaction, &key).await.expect("read").is_empty());
    transaction.roll_back().await.expect("rolled back");
    finish(stage).await;
}
