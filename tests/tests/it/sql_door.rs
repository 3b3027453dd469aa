//! The SQL door: a domain asks for notifications within its own transaction, as a role that may do nothing else.

mod rules;
mod shown;
mod stage_trigger;

use flow::progress::Progress;
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use std::time::{Duration, Instant};
use tests::{OTHER_TENANT, Stage, TENANT};
use tokio::sync::Mutex;

/// Logins as the domains'; roles are the cluster's, so every test has the same. The last has no door.
const DOMAIN: &str = "SET LOCAL SESSION AUTHORIZATION door_test_domain";
const OTHER_DOMAIN: &str = "SET LOCAL SESSION AUTHORIZATION door_test_other";
const STRANGER: &str = "SET LOCAL SESSION AUTHORIZATION door_test_stranger";

/// Roles are made one test after the other.
static ROLES: Mutex<()> = Mutex::const_new(());

/// A stage with a door for each of its tenants.
async fn begin(pool: PgPool) -> Stage {
    let stage = Stage::begin(pool).await;
    let _alone = ROLES.lock().await;
    let make = "
        DO $$
        DECLARE
            role_name text;
        BEGIN
            FOREACH role_name IN ARRAY '{door_test_domain, door_test_other, door_test_stranger, door_test_owner}'::text[] LOOP
                IF to_regrole(role_name) IS NULL THEN
                    EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
                END IF;
            END LOOP;
            -- They may become it; it has a membership and no door.
            GRANT door_test_owner TO door_test_domain, door_test_stranger;
            GRANT harkara_domain TO door_test_owner;
        END
        $$";
    sqlx::raw_sql(make).execute(&stage.admin).await.expect("roles are made");
    for (role, tenant) in [("door_test_domain", TENANT), ("door_test_other", OTHER_TENANT)] {
        open_door(&stage.admin, role, tenant).await.expect("the door is opened");
    }
    stage
}

async fn open_door(admin: &PgPool, role: &str, tenant: &str) -> Result<(), sqlx::Error> {
    sqlx::query("CALL harkara.open_door($1, $2::uuid)").bind(role).bind(tenant).execute(admin).await.map(|_| ())
}

/// A transaction of a domain.
async fn begin_as(stage: &Stage, role: &'static str) -> Transaction<'static, Postgres> {
    crate::catalog::begin_as(&stage.admin, role).await
}

async fn enqueue(connection: &mut PgConnection, request: &Value, key: Option<&str>) -> Result<uuid::Uuid, sqlx::Error> {
    let statement = "SELECT harkara.enqueue($1, $2)";
    sqlx::query_scalar(statement).bind(request).bind(key).fetch_one(connection).await
}

/// Asks in a transaction of its own; answers with the id as the API prints it.
async fn ask(stage: &Stage, request: &Value, key: Option<&str>) -> String {
    let mut transaction = begin_as(stage, DOMAIN).await;
    let id = enqueue(&mut transaction, request, key).await.expect("taken");
    transaction.commit().await.expect("committed");
    print(id)
}

async fn cancel(connection: &mut PgConnection, id_or_key: &str) -> String {
    let statement = "SELECT harkara.cancel($1::text)";
    sqlx::query_scalar(statement).bind(id_or_key).fetch_one(connection).await.expect("answered")
}

async fn cancel_alone(stage: &Stage, id_or_key: &str) -> String {
    let mut transaction = begin_as(stage, DOMAIN).await;
    let became = cancel(&mut transaction, id_or_key).await;
    transaction.commit().await.expect("committed");
    became
}

fn print(id: uuid::Uuid) -> String {
    format!("ntf_{}", id.as_simple())
}

fn bare(id: &str) -> String {
    id.trim_start_matches("ntf_").parse::<uuid::Uuid>().expect("an id").to_string()
}

fn to_ada() -> Value {
    json!({"category": "greeting", "recipient": {"id": "ada"}, "data": {"name": "Ada"}})
}

async fn count_waiting(stage: &Stage) -> i64 {
    stage.count("SELECT count(*) FROM harkara.door_requests WHERE due_at IS NOT NULL").await
}

fn said(result: Result<impl std::fmt::Debug, sqlx::Error>) -> (String, String) {
    crate::catalog::refusal(result)
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_request_and_the_change_that_led_to_it_happen_together_or_not_at_all(pool: PgPool) {
    let stage = begin(pool).await;
    sqlx::raw_sql("CREATE TABLE public.orders (id integer); GRANT ALL ON public.orders TO door_test_domain")
        .execute(&stage.admin)
        .await
        .expect("a domain's table");
    let mut ids = Vec::new();
    for keep in [false, true] {
        let mut transaction = begin_as(&stage, DOMAIN).await;
        sqlx::query("INSERT INTO public.orders VALUES (1)").execute(&mut *transaction).await.expect("changed");
        ids.push(print(enqueue(&mut transaction, &to_ada(), Some("order-1")).await.expect("taken")));
        assert_eq!(stage.dispatch().await.requests, 0, "nothing is to be seen before the commit");
        if keep { transaction.commit().await } else { transaction.rollback().await }.expect("ended");
    }
    assert_eq!(stage.dispatch().await.requests, 1);
    assert_eq!(stage.count("SELECT count(*) FROM public.orders").await, 1);
    stage.drain().await;
    assert_eq!(stage.outcome(&ids[1]).await.0, "sent");
    assert_eq!(stage.call(TENANT, "GET /v1/notifications/{id}", Some(&ids[0]), "", "").await.status, 404);
    assert_eq!(stage.mail.asked().len(), 1);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_committed_request_leaves_with_the_next_run_of_the_dispatcher(pool: PgPool) {
    let stage = begin(pool).await;
    let id = ask(&stage, &to_ada(), None).await;
    assert_eq!(stage.queue.waiting().len(), 0);
    stage.pass(std::time::Duration::from_secs(40)).await;
    let counts = stage.dispatch().await;
    assert_eq!((counts.requests, stage.queue.waiting().len()), (1, 1));
    // How long that was, each run says.
    assert!((40_000..60_000).contains(&counts.requests_longest_wait_ms), "{counts:?}");
    assert_eq!(counts.print()["requests_longest_wait_ms"], counts.requests_longest_wait_ms);
    assert_eq!(count_waiting(&stage).await, 0);
    stage.drain().await;
    assert_eq!(stage.outcome(&id).await.0, "sent");
    // Which is each minute.
    let template = std::fs::read_to_string(crate::project::root().join("template.yaml")).expect("it can be read");
    let dispatcher = template.split("\n  DispatcherFunction:").nth(1).expect("the dispatcher");
    assert!(dispatcher.split("\n  DispatcherLogGroup").next().expect("it").contains("rate(1 minute)"));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_hundred_requests_become_a_hundred_mails_whichever_dispatchers_take_them(pool: PgPool) {
    let stage = begin(pool).await;
    let mut transaction = begin_as(&stage, DOMAIN).await;
    let statement = "
        SELECT count(DISTINCT harkara.enqueue(jsonb_build_object(
            'category', 'greeting', 'recipient', jsonb_build_object('email', 'r' || number || '@example.org'),
            'data', jsonb_build_object('name', 'R'))))
        FROM generate_series(1, 100) number";
    let ids: i64 = sqlx::query_scalar(statement).fetch_one(&mut *transaction).await.expect("taken");
    transaction.commit().await.expect("committed");
    let other = json!({"category": "greeting", "recipient": {"email": "x@example.org"}, "data": {"name": "X"}});
    let mut transaction = begin_as(&stage, OTHER_DOMAIN).await;
    enqueue(&mut transaction, &other, None).await.expect("taken");
    transaction.commit().await.expect("committed");

    let deadline = Instant::now() + Duration::from_secs(60);
    let untold = Progress::untold();
    let (first, second) = tokio::join!(
        stage.dispatcher.dispatch_due(deadline, &untold),
        stage.dispatcher.dispatch_due(deadline, &untold)
    );
    let (first, second) = (first.expect("dispatched"), second.expect("dispatched"));
    // Where one has passed over what the other held, a later run finds what is left.
    let rest = stage.dispatch().await;
    assert_eq!((ids, first.requests + second.requests + rest.requests), (100, 101));
    assert_eq!(stage.count("SELECT count(*) FROM harkara.notifications").await, 101);
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 101);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_key_asks_once(pool: PgPool) {
    let stage = begin(pool).await;
    let first = ask(&stage, &to_ada(), Some("once")).await;
    assert_eq!(ask(&stage, &to_ada(), Some("once")).await, first, "still in the door");
    stage.dispatch().await;
    assert_eq!(ask(&stage, &to_ada(), Some("once")).await, first, "accepted");
    assert_eq!(count_waiting(&stage).await, 0);

    let mut transaction = begin_as(&stage, DOMAIN).await;
    let mut other = to_ada();
    other["data"]["name"] = "Grace".into();
    let (code, words) = said(enqueue(&mut transaction, &other, Some("once")).await);
    assert_eq!(code, "22023");
    assert!(words.contains("idempotency_key"), "{words}");
    drop(transaction);

    // Another tenant's key is another key.
    let mut transaction = begin_as(&stage, OTHER_DOMAIN).await;
    let others = enqueue(&mut transaction, &to_ada(), Some("once")).await.expect("taken");
    assert_ne!(print(others), first);
    transaction.rollback().await.expect("ended");

    stage.pass(Duration::from_secs(86_401)).await;
    assert_ne!(ask(&stage, &to_ada(), Some("once")).await, first, "a day later it asks again");
    stage.dispatch().await;
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 2);
    stage.finish().await;
}

/// Of what happened one after the other, whichever transaction began first, and however soon.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn requests_are_taken_in_the_order_in_which_they_were_made(pool: PgPool) {
    let stage = begin(pool).await;
    let template = json!({
        "variables": {"old": {"type": "string", "example": "A"}, "new": {"type": "string", "example": "B"},
                      "first": {"type": "object", "required": false}},
        "subject": "{% if first %}{{ first.old }}{% else %}{{ old }}{% endif %} to {{ new }}", "text": "{{ new }}",
    });
    stage.publish(TENANT, "changed", template).await;
    stage
        .put(TENANT, "/v1/categories/{key}", "changed", json!({"class": "transactional", "template": "changed"}))
        .await;
    let change = |key: &str, old: &str, new: &str| {
        json!({"category": "changed", "recipient": {"id": "ada"}, "data": {"old": old, "new": new},
               "debounce": {"key": key, "window": "PT5M"}})
    };
    let words = json!({"category": "changed", "recipient": {"id": "ada"}, "data": {"old": "before", "new": "all"}});
    ask(&stage, &words, None).await;
    let mut early = begin_as(&stage, DOMAIN).await;
    sqlx::query("SELECT 1").execute(&mut *early).await.expect("it has begun");
    ask(&stage, &change("a", "A", "B"), None).await;
    enqueue(&mut early, &change("a", "B", "C"), None).await.expect("taken");
    early.commit().await.expect("committed");
    let mut busy = begin_as(&stage, DOMAIN).await;
    for number in 0..20 {
        let [old, new] = [number, number + 1].map(|number| number.to_string());
        enqueue(&mut busy, &change("numbers", &old, &new), None).await.expect("taken");
    }
    busy.commit().await.expect("committed");

    // A day on which there is no room for them changes nothing.
    let full = "INSERT INTO harkara.tenant_limits (tenant_id, notifications_per_day) VALUES ($1::uuid, 1)
        ON CONFLICT (tenant_id) DO UPDATE SET notifications_per_day = 1";
    sqlx::query(full).bind(TENANT).execute(&stage.admin).await.expect("limited");
    stage.dispatch().await;
    assert_eq!(count_waiting(&stage).await, 22);
    stage.pass(Duration::from_secs(86_400)).await;
    stage.lift_limits().await;
    assert_eq!(stage.dispatch().await.requests, 22);
    stage.pass(Duration::from_secs(360)).await;
    stage.dispatch().await;
    stage.drain().await;
    let mut subjects: Vec<String> = stage.mail.asked().iter().map(|mail| mail.subject.as_str().to_owned()).collect();
    subjects.sort();
    assert_eq!(subjects, ["0 to 20", "A to C", "before to all"]);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn two_transactions_with_one_key_get_one_id(pool: PgPool) {
    let stage = begin(pool).await;
    let (one, two) = tokio::join!(
        async {
            let mut transaction = begin_as(&stage, DOMAIN).await;
            let id = enqueue(&mut transaction, &to_ada(), Some("once")).await.expect("taken");
            transaction.commit().await.expect("committed");
            id
        },
        async {
            let mut transaction = begin_as(&stage, DOMAIN).await;
            let id = enqueue(&mut transaction, &to_ada(), Some("once")).await.expect("taken");
            transaction.commit().await.expect("committed");
            id
        },
    );
    assert_eq!(one, two);
    assert_eq!(stage.dispatch().await.requests, 1);
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_is_canceled_in_time_is_not_sent(pool: PgPool) {
    let stage = begin(pool).await;
    // In its own transaction, in the door, before it is claimed, and too late.
    let mut transaction = begin_as(&stage, DOMAIN).await;
    let id = enqueue(&mut transaction, &to_ada(), Some("own")).await.expect("taken");
    assert_eq!(cancel(&mut transaction, "own").await, "canceled");
    assert_eq!(cancel(&mut transaction, &id.to_string()).await, "not_found");
    transaction.commit().await.expect("committed");

    ask(&stage, &to_ada(), Some("waiting")).await;
    let mut transaction = begin_as(&stage, DOMAIN).await;
    assert_eq!(cancel(&mut transaction, "waiting").await, "canceled");
    transaction.rollback().await.expect("undone");
    assert_eq!(count_waiting(&stage).await, 1, "as if it had not been asked");
    assert_eq!(cancel_alone(&stage, "waiting").await, "canceled");
    assert_eq!(stage.dispatch().await.requests, 0);

    let queued = ask(&stage, &to_ada(), Some("queued")).await;
    stage.dispatch().await;
    assert_eq!(cancel_alone(&stage, &bare(&queued)).await, "canceled");
    assert_eq!(cancel_alone(&stage, "queued").await, "canceled", "again");
    stage.drain().await;
    let (state, reason, _) = stage.outcome(&queued).await;
    assert_eq!((state.as_str(), reason.as_deref()), ("canceled", Some("canceled_by_caller")));

    let sent = ask(&stage, &to_ada(), Some("sent")).await;
    stage.dispatch().await;
    stage.drain().await;
    assert_eq!(cancel_alone(&stage, "sent").await, "too_late");
    assert_eq!(cancel_alone(&stage, "never").await, "not_found");

    // Another tenant's are nobody's.
    let mut transaction = begin_as(&stage, OTHER_DOMAIN).await;
    assert_eq!(cancel(&mut transaction, "sent").await, "not_found");
    assert_eq!(cancel(&mut transaction, &bare(&sent)).await, "not_found");
    drop(transaction);
    assert_eq!(stage.mail.asked().len(), 1);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_the_dispatcher_refuses_is_kept_with_its_reasons_and_told(pool: PgPool) {
    let stage = begin(pool).await;
    let mut wrong = to_ada();
    wrong["priority"] = "now".into();
    let id = ask(&stage, &wrong, Some("wrong")).await;
    let good = ask(&stage, &to_ada(), None).await;
    let counts = stage.dispatch().await;
    assert_eq!((counts.requests, counts.requests_refused), (1, 1));
    assert_eq!(stage.dispatch().await.requests_refused, 0, "once");

    let errors: Value = sqlx::query_scalar("SELECT errors FROM harkara.door_requests WHERE request_id = $1::uuid")
        .bind(bare(&id))
        .fetch_one(&stage.admin)
        .await
        .expect("it is kept");
    assert_eq!(errors[0]["pointer"], "/priority", "{errors}");
    assert_eq!(cancel_alone(&stage, "wrong").await, "refused");
    stage.pass(Duration::from_secs(60)).await;
    stage.dispatch().await;
    let told = stage.bus.events().into_iter().find(|event| event.detail_type == "request.refused").expect("told");
    assert_eq!((&told.detail["request_id"], &told.detail["errors"]), (&json!(id), &errors));
    stage.drain().await;
    assert_eq!(stage.outcome(&good).await.0, "sent");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_request_that_cannot_be_read_stops_no_other(pool: PgPool) {
    let stage = begin(pool).await;
    let deep = ask(&stage, &to_ada(), None).await;
    let list = ask(&stage, &to_ada(), None).await;
    let good = ask(&stage, &to_ada(), None).await;
    // The door lets neither through; somebody's hand might.
    let nested = format!("{}1{}", "[".repeat(300), "]".repeat(300));
    for (id, request) in [(&deep, nested), (&list, json!({"notifications": [to_ada(), to_ada()]}).to_string())] {
        let change = "UPDATE harkara.door_requests SET request = $2::text::jsonb WHERE request_id = $1::uuid";
        sqlx::query(change).bind(bare(id)).bind(request).execute(&stage.admin).await.expect("changed");
    }
    let counts = stage.dispatch().await;
    assert_eq!((counts.requests, counts.requests_refused), (1, 2));
    stage.drain().await;
    assert_eq!(stage.outcome(&good).await.0, "sent");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_request_that_cannot_be_stored_waits_alone(pool: PgPool) {
    let stage = begin(pool).await;
    for _ in 0..7 {
        ask(&stage, &to_ada(), None).await;
    }
    let mut request = to_ada();
    request["metadata"] = json!({"is_bad": true});
    let bad = ask(&stage, &request, None).await;
    let refuse = "
        ALTER TABLE harkara.notifications ADD CONSTRAINT nobody_wants_this_one CHECK (metadata ->> 'is_bad' IS NULL)";
    sqlx::query(refuse).execute(&stage.admin).await.expect("a mistake in the schema");
    assert_eq!(stage.dispatch().await.requests, 7);
    assert_eq!(count_waiting(&stage).await, 1);
    sqlx::query("ALTER TABLE harkara.notifications DROP CONSTRAINT nobody_wants_this_one")
        .execute(&stage.admin)
        .await
        .expect("mended");
    assert_eq!(stage.dispatch().await.requests, 0, "it waits");
    stage.pass(Duration::from_secs(301)).await;
    assert_eq!(stage.dispatch().await.requests, 1);
    stage.drain().await;
    assert_eq!(stage.outcome(&bad).await.0, "sent");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_a_quota_has_no_room_for_waits_for_the_next_day(pool: PgPool) {
    let stage = begin(pool).await;
    let limits = "
        INSERT INTO harkara.tenant_limits (tenant_id, notifications_per_day) VALUES ($1::uuid, 5)
        ON CONFLICT (tenant_id) DO UPDATE SET notifications_per_day = 5";
    sqlx::query(limits).bind(TENANT).execute(&stage.admin).await.expect("limited");
    for _ in 0..8 {
        ask(&stage, &to_ada(), None).await;
    }
    assert_eq!(stage.dispatch().await.requests, 5);
    assert_eq!(stage.dispatch().await.requests, 0);
    assert_eq!(count_waiting(&stage).await, 3);
    // All of them until midnight, and not until a moment at which there is no more room than now.
    let patient = "SELECT count(*) FROM harkara.door_requests
                   WHERE abs(extract(epoch FROM due_at - (date_trunc('day', harkara.now(), 'UTC') + interval '1 day'))) < 10";
    assert_eq!(stage.count(patient).await, 3);
    stage.pass(Duration::from_secs(86_400)).await;
    assert_eq!(stage.dispatch().await.requests, 3);
    stage.drain().await;
    assert_eq!(stage.mail.asked().len(), 8);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_suspended_tenants_requests_wait_until_it_may_send_again(pool: PgPool) {
    let stage = begin(pool).await;
    let set = "UPDATE harkara.tenants SET state = $2 WHERE tenant_id = $1::uuid";
    sqlx::query(set).bind(TENANT).bind("suspended").execute(&stage.admin).await.expect("suspended");
    let id = ask(&stage, &to_ada(), None).await;
    assert_eq!(stage.dispatch().await.requests, 0);
    sqlx::query(set).bind(TENANT).bind("active").execute(&stage.admin).await.expect("active");
    assert_eq!(stage.dispatch().await.requests, 1);
    stage.drain().await;
    assert_eq!(stage.outcome(&id).await.0, "sent");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn nothing_is_kept_of_a_recipient_who_is_erased(pool: PgPool) {
    let stage = begin(pool).await;
    let mut wrong = to_ada();
    wrong["priority"] = "now".into();
    ask(&stage, &wrong, None).await;
    stage.dispatch().await;
    ask(&stage, &to_ada(), None).await;
    let answer = stage.call(TENANT, "DELETE /v1/recipients/{id}", Some("ada"), "", "").await;
    assert!(answer.status < 300, "{answer:?}");
    assert_eq!(stage.count("SELECT count(*) FROM harkara.door_requests").await, 0);
    assert_eq!(stage.dispatch().await.requests, 0);
    let mut transaction = begin_as(&stage, DOMAIN).await;
    let (code, words) = said(enqueue(&mut transaction, &to_ada(), None).await);
    assert_eq!(code, "22023");
    assert!(words.contains("/recipient/id"), "{words}");
    drop(transaction);

    // One that a dispatcher held while the recipient was erased is refused, and forgotten.
    let held = "
        INSERT INTO harkara.door_requests (tenant_id, request_id, recipient_id, request)
        VALUES ($1::uuid, harkara.new_id(), 'ada', $2)";
    sqlx::query(held).bind(TENANT).bind(to_ada()).execute(&stage.admin).await.expect("left over");
    assert_eq!(stage.dispatch().await.requests_refused, 1);
    let kept: Value = sqlx::query_scalar("SELECT request FROM harkara.door_requests")
        .fetch_one(&stage.admin)
        .await
        .expect("the refusal is kept");
    assert_eq!(kept, json!({}));
    stage.finish().await;
}
