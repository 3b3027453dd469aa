//! Policies, and who is whose manager.

use super::{begin, put_policy};
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::{Answer, Stage, TENANT};

const PUT: &str = "PUT /v1/escalation-policies/{key}";

async fn put(stage: &Stage, body: &Value) -> Answer {
    stage.call(TENANT, PUT, Some("critical"), "", &body.to_string()).await
}

async fn put_recipient(stage: &Stage, id: &str, manager: Option<&str>) -> Answer {
    let body = json!({"email": format!("{id}@example.org"), "manager": manager});
    stage.call(TENANT, "PUT /v1/recipients/{id}", Some(id), "", &body.to_string()).await
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_policy_is_shown_as_it_was_put_until_it_is_removed(pool: PgPool) {
    let stage = begin(pool).await;
    let body = json!({
        "category": "greeting",
        "steps": [
            {"recipients": ["ada", "role:CAE"],
             "tiers": [{"channels": ["email", "push"]}, {"channels": ["sms"], "after": "PT10M"}]},
            {"delay": "PT30M", "recipients": ["manager"], "category": "greeting"},
        ],
        "repeat": {"count": 2, "interval": "PT1H"}, "acknowledgement": "each", "exhausted_after": "PT2H",
    });
    let answer = put(&stage, &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let warnings = answer.body["warnings"].as_array().expect("a list");
    assert_eq!(warnings[0]["pointer"], "/steps/0/recipients/1", "nobody is CAE, which is no error");
    let shown = stage.call(TENANT, "GET /v1/escalation-policies/{key}", Some("critical"), "", "").await.body;
    assert_eq!(shown["steps"][0], body["steps"][0]);
    assert_eq!(shown["steps"][1]["tiers"], json!([{"channels": ["email"]}]));
    for name in ["repeat", "acknowledgement", "exhausted_after"] {
        assert_eq!(shown[name], body[name]);
    }
    let listed = stage.call(TENANT, "GET /v1/escalation-policies", None, "", "").await.body;
    assert_eq!(listed["escalation_policies"], json!([shown]));
    for status in [204, 404] {
        let gone = stage.call(TENANT, "DELETE /v1/escalation-policies/{key}", Some("critical"), "", "").await;
        assert_eq!(gone.status, status);
    }
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_policy_that_could_never_do_its_work_is_refused_and_the_old_one_stays(pool: PgPool) {
    let stage = begin(pool).await;
    let one = |step: Value| json!({"category": "greeting", "steps": [step]});
    let two = |step: Value| json!({"category": "greeting", "steps": [{"recipients": ["ada"]}, step]});
    let steps = |count: usize| vec![json!({"recipients": ["ada"], "delay": "PT1M"}); count];
    let table = [
        (json!({"category": "greeting", "steps": []}), "/steps"),
        (json!({"category": "greeting"}), "/steps"),
        (json!({"category": "greeting", "steps": steps(21)}), "/steps"),
        (json!({"category": "nonsense", "steps": steps(1)}), "/category"),
        (one(json!({"recipients": []})), "/steps/0/recipients"),
        (one(json!({})), "/steps/0/recipients"),
        (one(json!({"recipients": ["nobody"]})), "/steps/0/recipients/0"),
        (one(json!({"recipients": ["manager"]})), "/steps/0/recipients/0"),
        (one(json!({"recipients": ["ada", "ada"]})), "/steps/0/recipients/1"),
        (one(json!({"recipients": ["ada"], "category": "nonsense"})), "/steps/0/category"),
        (one(json!({"recipients": ["ada"], "delay": "PT30S"})), "/steps/0/delay"),
        (two(json!({"recipients": ["ada"]})), "/steps/1/delay"),
        (two(json!({"recipients": ["ada"], "delay": "P31D"})), "/steps/1/delay"),
        (two(json!({"recipients": ["ada"], "delay": "-PT5M"})), "/steps/1/delay"),
        (
            one(json!({"recipients": ["ada"],
                       "tiers": [{"channels": ["email"]}, {"channels": ["email"], "after": "PT5M"}]})),
            "/steps/0/tiers/1/channels",
        ),
        (
            one(json!({"recipients": ["ada"],
                       "tiers": [{"channels": ["email"]}, {"channels": ["sms"], "after": "PT1H"}]})),
            "/steps/0/tiers/1/after",
        ),
        // Steps that reach nobody: without anybody meant, a channel, an address, or words.
        (one(json!({"recipients": ["role:CAE"]})), "/steps/0/recipients"),
        (
            json!({"category": "greeting", "steps": [
                {"recipients": ["ada"]}, {"delay": "PT5M", "recipients": ["manager"]},
                {"delay": "PT5M", "recipients": ["manager"]},
            ]}),
            "/steps/2/recipients",
        ),
        (
            one(json!({"recipients": ["ada"],
                       "tiers": [{"channels": ["sms"]}, {"channels": ["push", "voice"], "after": "PT5M"}]})),
            "/steps/0/tiers",
        ),
        (one(json!({"recipients": ["mute"]})), "/steps/0/recipients"),
        (one(json!({"recipients": ["ada"], "category": "bare"})), "/steps/0/category"),
        (json!({"category": "bare", "steps": steps(1)}), "/category"),
    ];
    stage.put(TENANT, "/v1/categories/{key}", "bare", json!({"class": "security"})).await;
    stage.put(TENANT, "/v1/recipients/{id}", "mute", json!({"phone": "+4915112345678"})).await;
    let before = stage.call(TENANT, "GET /v1/escalation-policies/{key}", Some("critical"), "", "").await.body;
    for (body, pointer) in table {
        let answer = put(&stage, &body).await;
        assert_eq!((answer.status, answer.pointers()), (422, vec![pointer]), "{body}");
    }
    let after = stage.call(TENANT, "GET /v1/escalation-policies/{key}", Some("critical"), "", "").await.body;
    assert_eq!(after, before);
    put_policy(&stage, json!(steps(20))).await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn nobody_is_put_above_themselves(pool: PgPool) {
    let stage = begin(pool).await;
    assert_eq!(put_recipient(&stage, "cleo", None).await.status, 200);
    assert_eq!(put_recipient(&stage, "bob", Some("cleo")).await.body["manager"], "cleo");
    for (id, manager) in [("cleo", "ada"), ("bob", "bob"), ("cleo", "nobody"), ("dan", "dan")] {
        let answer = put_recipient(&stage, id, Some(manager)).await;
        assert_eq!((answer.status, answer.pointers()), (422, vec!["/manager"]), "{id} below {manager}");
    }
    let many = json!({"recipients": [
        {"id": "eve", "email": "eve@example.org", "manager": "fay"},
        {"id": "fay", "email": "fay@example.org", "manager": "cleo"},
        {"id": "cleo", "email": "cleo@example.org", "manager": "eve"},
        {"id": "gus", "email": "gus@example.org", "manager": "nobody"},
    ]});
    let answer = stage.call(TENANT, "POST /v1/recipients", None, "", &many.to_string()).await;
    let entries = answer.body["recipients"].as_array().expect("a list");
    let pointer = |entry: &Value| entry["problem"]["errors"][0]["pointer"].as_str().map(str::to_owned);
    assert!(entries[..3].iter().any(|entry| pointer(entry).is_some()), "not all of a cycle: {entries:?}");
    assert_eq!(pointer(&entries[3]).as_deref(), Some("/recipients/3/manager"));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn two_at_once_make_no_cycle_of_managers(pool: PgPool) {
    let stage = begin(pool).await;
    for id in ["cleo", "dan"] {
        put_recipient(&stage, id, None).await;
    }
    let (one, other) =
        tokio::join!(put_recipient(&stage, "cleo", Some("dan")), put_recipient(&stage, "dan", Some("cleo")));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 422]);
    stage.finish().await;
}
