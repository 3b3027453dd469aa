//! A tenant's limits: requests beyond its rate and notifications beyond its quota are refused whole, and say when to ask
//! again.

use adapters::store::database::RoleLogins;
use adapters::wire::routes::Route;
use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::time::{Duration, Instant};
use tests::{Answer, Ask, OTHER_TENANT, Stage, TENANT};

/// Gives the first tenant limits, as an operator does.
async fn limit(stage: &Stage, limits: Value) {
    let flow =
        flow::migrate::Migrate { database: tests::database_of(&stage.admin), logins: RoleLogins::Secrets(Vec::new()) };
    let event = json!({"tenants": [{"id": TENANT, "name": "first", "limits": limits}]});
    flow.migrate(&event).await.expect("limited");
}

fn code(answer: &Answer) -> &str {
    answer.body["code"].as_str().unwrap_or_default()
}

fn header(answer: &Answer, name: &str) -> String {
    answer.headers[name].as_str().unwrap_or_default().to_owned()
}

async fn count_notifications(stage: &Stage) -> i64 {
    stage.count("SELECT count(*) FROM harkara.notifications").await
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn of_fifty_requests_at_once_those_that_the_bucket_holds_are_taken(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    limit(&stage, json!({"requests_per_minute": 60})).await;
    for is_post in [true, false] {
        stage.pass(Duration::from_secs(60)).await;
        let began = Instant::now();
        let answers = join_all((0..50).map(async |number: u32| match is_post {
            true => stage.post(Stage::greeting(&format!("r{number}@example.org"))).await,
            false => stage.call(TENANT, "GET /v1/health", None, "", "").await,
        }))
        .await;
        // One more comes into it each second, if the machine is that slow.
        let most = 10 + usize::try_from(began.elapsed().as_secs()).expect("a few") + 1;
        let taken = answers.iter().filter(|answer| answer.status < 300).count();
        assert!((10..=most).contains(&taken), "{taken} of {most}");
        for refused in answers.iter().filter(|answer| answer.status >= 300) {
            assert_eq!((refused.status, code(refused)), (429, "rate_limited"), "{refused:?}");
            assert_eq!(header(refused, "retry-after"), "1");
            assert_eq!(header(refused, "ratelimit-policy"), "\"tenant\";q=10;w=10");
            assert!(header(refused, "ratelimit").starts_with("\"tenant\";r=0;t="), "{refused:?}");
            assert_eq!(refused.body["type"], "urn:problem-type:harkara:rate_limited");
        }
        if is_post {
            assert_eq!(count_notifications(&stage).await, i64::try_from(taken).expect("a few"), "{answers:?}");
        }
    }
    let other = stage.post_as(OTHER_TENANT, Stage::greeting("ada@example.org"), &[]).await;
    assert_eq!(other.status, 202, "nobody's bucket is another's");
    stage.drain().await;
    stage.pass(Duration::from_secs(60)).await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_answer_says_how_many_requests_are_left(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    // Without a row a tenant has 6,000 a minute, of which ten seconds' worth may come at once.
    let usual = "\"tenant\";q=1000;w=10";
    let answers = [
        stage.post(Stage::greeting("ada@example.org")).await,
        stage.post(json!({"category": "nonsense", "recipient": {"email": "a@b.org"}})).await,
        stage.call(TENANT, "GET /v1/recipients/{id}", Some("ada"), "", "").await,
        stage.call(TENANT, "GET /v1/recipients/{id}", Some("nobody"), "", "").await,
    ];
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [202, 422, 200, 404]);
    for answer in &answers {
        assert_eq!(header(answer, "ratelimit-policy"), usual, "{answer:?}");
        let left = header(answer, "ratelimit");
        let left = left.strip_prefix("\"tenant\";r=").and_then(|rest| rest.split_once(";t="));
        let (left, seconds) = left.unwrap_or_else(|| panic!("{answer:?}"));
        assert!(left.parse::<u32>().is_ok_and(|left| (900..1000).contains(&left)), "{answer:?}");
        assert!(seconds.parse::<u32>().is_ok_and(|seconds| (1..=10).contains(&seconds)), "{answer:?}");
    }
    limit(&stage, json!({})).await;
    let unlimited = stage.call(TENANT, "GET /v1/health", None, "", "").await;
    assert_eq!((unlimited.status, header(&unlimited, "ratelimit")), (200, String::new()));
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_bucket_fills_as_time_passes_and_never_above_ten_seconds_worth(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    limit(&stage, json!({"requests_per_minute": 1})).await;
    stage.pass(Duration::from_secs(3600)).await;
    let ask = async || stage.call(TENANT, "GET /v1/health", None, "", "").await;
    assert_eq!(ask().await.status, 200, "an hour's worth is still one");
    let refused = ask().await;
    assert_eq!((refused.status, header(&refused, "ratelimit-policy")), (429, "\"tenant\";q=1;w=60".to_owned()));
    let wait: u64 = header(&refused, "retry-after").parse().expect("seconds");
    assert!((50..=60).contains(&wait), "{wait}");
    stage.pass(Duration::from_secs(wait - 10)).await;
    assert_eq!(ask().await.status, 429, "refused requests did not move the time, and it has not come");
    stage.pass(Duration::from_secs(10)).await;
    assert_eq!(ask().await.status, 200, "after as long as was said");
    stage.pass(Duration::from_secs(60)).await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn of_fifty_requests_at_once_exactly_the_quota_is_accepted(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    limit(&stage, json!({"notifications_per_day": 20})).await;
    let answers = join_all((0..50).map(async |number: u32| {
        let recipients = [format!("a{number}@example.org"), format!("b{number}@example.org")];
        let recipients = recipients.map(|email| json!({"email": email}));
        stage.post(json!({"category": "greeting", "recipients": recipients, "data": {"name": "Ada"}})).await
    }))
    .await;
    let accepted = answers.iter().filter(|answer| answer.status == 202).count();
    assert_eq!(accepted, 10, "of two recipients each");
    for refused in answers.iter().filter(|answer| answer.status != 202) {
        assert_eq!((refused.status, code(refused)), (429, "quota_exceeded"), "{refused:?}");
        let wait: u32 = header(refused, "retry-after").parse().expect("seconds");
        assert!((1..=86_400).contains(&wait), "{wait}");
    }
    assert_eq!(count_notifications(&stage).await, 20);
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_request_beyond_the_quota_leaves_nothing_behind_and_goes_through_the_next_day(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    limit(&stage, json!({"notifications_per_day": 2})).await;
    let three = json!({"category": "greeting", "recipients": [{"id": "ada"}, {"email": "b@example.org"}, {"email": "c@example.org"}],
        "data": {"name": "Ada"}});
    let key = [("idempotency-key", "k")];
    let refused = stage.post_as(TENANT, three.clone(), &key).await;
    assert_eq!((refused.status, code(&refused)), (429, "quota_exceeded"), "more than a whole day's: {refused:?}");
    for table in [
        "SELECT count(*) FROM harkara.notifications",
        "SELECT count(*) FROM harkara.deliveries",
        "SELECT count(*) FROM harkara.events",
        "SELECT count(*) FROM harkara.idempotency_keys",
    ] {
        assert_eq!(stage.count(table).await, 0, "{table}");
    }
    assert!(stage.queue.is_empty());

    limit(&stage, json!({"notifications_per_day": 4})).await;
    assert_eq!(stage.post(Stage::greeting("lin@example.org")).await.status, 202);
    assert_eq!(stage.post_as(TENANT, three.clone(), &key).await.status, 202, "the same key, when there is room");
    let replayed = stage.post_as(TENANT, three, &key).await;
    assert_eq!((replayed.status, header(&replayed, "idempotent-replayed")), (202, "true".to_owned()));
    assert_eq!(code(&stage.post(Stage::greeting("lin@example.org")).await), "quota_exceeded");
    assert_eq!(stage.call(TENANT, "GET /v1/health", None, "", "").await.status, 200, "all else goes on");
    stage.drain().await;
    stage.pass(Duration::from_secs(86_400)).await;
    assert_eq!(stage.post(Stage::greeting("lin@example.org")).await.status, 202, "a new day");
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_is_answered_again_or_turned_away_costs_a_request_and_no_quota(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    limit(&stage, json!({"requests_per_minute": 24, "notifications_per_day": 2})).await;
    let mut body = Stage::greeting("lin@example.org");
    body["dedupe"] = json!({"key": "once", "window": "PT1H"});
    for (key, status) in [("first", 202), ("first", 202), ("second", 202), ("third", 202)] {
        let answer = stage.post_as(TENANT, body.clone(), &[("idempotency-key", key)]).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    assert_eq!(code(&stage.post(body.clone()).await), "rate_limited", "four requests were taken out of the bucket");
    assert_eq!(stage.count("SELECT notification_count::bigint FROM harkara.daily_counts").await, 1);
    assert_eq!(count_notifications(&stage).await, 1);
    stage.drain().await;
    stage.pass(Duration::from_secs(60)).await;
    stage.finish().await;
}

/// One recipient's program must not stand in the way of its tenant, nor of another recipient.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_recipients_own_token_has_a_small_bucket_of_its_own(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    limit(&stage, json!({"requests_per_minute": 60})).await;
    stage.put(TENANT, "/v1/recipients/{id}", "eve", json!({"email": "eve@example.org"})).await;
    let ask = async |who: &str| {
        let ask = Ask::of(Route::GetPreferences, TENANT).with_parameter("id", who);
        stage.ask(&ask.with_claim("scope", "self").with_claim("sub", who)).await
    };
    let answers = join_all((0..60).map(async |_: u32| ask("ada").await)).await;
    let (taken, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert!((20..50).contains(&taken.len()), "{}", taken.len());
    assert_eq!(header(taken[0], "ratelimit-policy"), "\"recipient\";q=20;w=10");
    for refused in refused {
        assert_eq!((refused.status, code(refused)), (429, "rate_limited"), "{refused:?}");
        assert!(header(refused, "ratelimit").starts_with("\"recipient\";r=0;t="), "{refused:?}");
    }
    assert_eq!(ask("eve").await.status, 200, "nobody's bucket is another's");
    let tenants = stage.call(TENANT, "GET /v1/health", None, "", "").await;
    assert_eq!(tenants.status, 200, "nor the tenant's");
    assert!(header(&tenants, "ratelimit").starts_with("\"tenant\";r="), "{tenants:?}");
    let named = "SELECT count(*) FROM harkara.request_rates r WHERE r::text ~ 'ada|eve'";
    assert_eq!(stage.count(named).await, 0, "a bucket says of nobody whose it is");
    stage.pass(Duration::from_secs(60)).await;
    stage.finish().await;
}

/// Nobody behind the bus could wait and ask again, so it is the quota alone that holds an event up.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_event_has_no_rate_and_counts_against_the_quota(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    limit(&stage, json!({"requests_per_minute": 1, "notifications_per_day": 3})).await;
    let event = |id: u32| {
        let mut detail = Stage::greeting("lin@example.org");
        detail["tenant_id"] = TENANT.into();
        json!({"id": format!("event-{id}"), "source": "a.domain", "detail-type": "notification.requested", "detail": detail})
    };
    for id in 0..3 {
        stage.enqueue.accept_event(&event(id)).await.expect("accepted");
    }
    stage.enqueue.accept_event(&event(0)).await.expect("the same event is the same request");
    let refused =
        stage.enqueue.accept_event(&event(4)).await.expect_err("refused, for Lambda to try again and to keep");
    assert!(refused.to_string().contains("quota_exceeded"), "{refused}");
    assert_eq!(count_notifications(&stage).await, 3);
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn limits_that_make_no_sense_are_refused_by_pointer(pool: PgPool) {
    let flow = flow::migrate::Migrate { database: tests::database_of(&pool), logins: RoleLogins::Secrets(Vec::new()) };
    for (limits, pointer) in [
        (json!({"requests_per_minute": 0}), "/tenants/0/limits/requests_per_minute"),
        (json!({"requests_per_minute": 1_000_001}), "/tenants/0/limits/requests_per_minute"),
        (json!({"notifications_per_day": -1}), "/tenants/0/limits/notifications_per_day"),
        (json!({"per_day": 1}), "/tenants/0/limits/per_day"),
    ] {
        let event = json!({"tenants": [{"id": TENANT, "name": "first", "limits": limits}]});
        let refused = flow.migrate(&event).await.expect_err("refused").to_string();
        assert!(refused.contains(&format!(" {pointer} ")), "{refused}");
    }
}
