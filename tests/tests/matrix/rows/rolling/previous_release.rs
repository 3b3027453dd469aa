//! The workers of the release before, as far as the database, the queue and SES get to see them: its statements, word for
//! word (`tests/fixtures/previous_release/`), and what it put into them.

use std::time::Duration;

use adapters::wire::queue_message::{print_message, read_message};
use domain::delivery::DeliveryState;
use domain::due::{DueDelivery, DueState, DueStep, decide_due};
use domain::id::{DeliveryId, EventId, NotificationId, TenantId};
use domain::queue::DeliveryMessage;
use serde_json::{Value, json};
use sqlx::postgres::{PgPoolOptions, PgRow};
use sqlx::{PgPool, Row};
use tests::strict::{DEAD_LETTERS, DELIVERIES, World};
use tests::{Answer, OTHER_TENANT, TENANT};
use uuid::Uuid;

macro_rules! statement {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/previous_release/", $name, ".sql"))
    };
}

const FURNISH: &str = statement!("furnish_tenant");
const ACCEPT: &str = statement!("accept_notifications");
const CLAIM: &str = statement!("claim_deliveries");
const RECORD: &str = statement!("record_attempts");
const TAKE_DUE: &str = statement!("take_due_deliveries");
const WRITE_STEPS: &str = statement!("write_due_steps");
const STORE_DEAD: &str = statement!("store_dead_letters");
const REDRIVE: &str = statement!("redrive_dead_letters");

const LEASE_SECONDS: i32 = 90;
/// How early a message may be, and for how long it is trusted, in seconds.
const LONGEST_EARLY: i32 = 60;
const REPUBLISH_AFTER: i32 = 30;

/// The workers.
pub(super) struct PreviousRelease {
    /// As `harkara_worker`.
    worker: PgPool,
    /// As `harkara_api`.
    api: PgPool,
}

/// What the release before made of an attempt.
struct Outcome {
    state: &'static str,
    reason: Option<&'static str>,
    outcome: &'static str,
    error_code: Option<String>,
    provider_message_id: Option<String>,
    is_counted: bool,
    wait_seconds: Option<i32>,
    due_seconds: Option<i32>,
}

impl PreviousRelease {
    pub(super) async fn of(world: &World) -> Self {
        let connect = |url: url::Url| async move {
            PgPoolOptions::new().max_connections(2).connect(url.as_str()).await.expect("connected")
        };
        Self {
            worker: connect(world.database_url("processor").await).await,
            api: connect(world.database_url("api").await).await,
        }
    }

    /// Two tenants, each with a category `greeting`, a template `greeting` and a recipient `ada`.
    pub(super) async fn furnish(&self, world: &World) {
        for (tenant, name) in [(TENANT, "first"), (OTHER_TENANT, "second")] {
            let tenant = TenantId::parse(tenant).expect("a tenant's id");
            sqlx::query("INSERT INTO harkara.tenants (tenant_id, name) VALUES ($1, $2)")
                .bind(tenant.as_uuid())
                .bind(name)
                .execute(&world.admin)
                .await
                .expect("the tenant is made");
            let mut transaction = self.enter(tenant).await;
            sqlx::query(FURNISH).bind(tenant.as_uuid()).execute(&mut *transaction).await.expect("furnished");
            transaction.commit().await.expect("committed");
        }
    }

    /// Accepts a mail to each address for the first tenant, and publishes its message.
    pub(super) async fn accept(&self, world: &World, addresses: &[String]) {
        let sent_at = jiff::Timestamp::now();
        let tenant = TenantId::parse(TENANT).expect("a tenant's id");
        let ids: Vec<_> = addresses.iter().map(|_| NotificationId::from_uuid(adapters::ids::new_uuid())).collect();
        let deliveries: Vec<_> = addresses.iter().map(|_| DeliveryId::from_uuid(adapters::ids::new_uuid())).collect();
        let rows = ids.iter().zip(&deliveries).zip(addresses).map(|((id, delivery), address)| {
            let event = EventId::from_uuid(adapters::ids::new_uuid());
            json!({
                "notification_id": id.as_uuid(), "category_key": "greeting", "email": address,
                "template_key": "greeting", "data": {"name": "Ada"}, "metadata": {}, "priority": "normal",
                "sandbox": false, "send_at": sent_at,
                "deliveries": [{
                    "delivery_id": delivery.as_uuid(), "channel": "email", "state": "queued", "max_attempts": 3,
                    "unknown_policy": "at_least_once", "reconcile_window_seconds": 600, "not_before": sent_at,
                    "due_at": sent_at + Duration::from_secs(30), "publish_count": 1,
                }],
                "event_id": event.as_uuid(),
                "event": {
                    "event_id": event.to_string(), "tenant_id": tenant.to_string(), "notification_id": id.to_string(),
                    "category": "greeting", "recipient": null, "metadata": {},
                },
            })
        });
        let results: Value = ids
            .iter()
            .enumerate()
            .map(|(index, id)| json!({"index": index, "id": id.to_string(), "status": "accepted"}))
            .collect();
        let outcome: Value = sqlx::query_scalar(ACCEPT)
            .bind(tenant.as_uuid())
            .bind("tester")
            .bind("POST /v1/notifications")
            .bind(None::<String>)
            .bind(None::<Vec<u8>>)
            .bind("req_before")
            .bind(Value::from_iter(rows))
            .bind(&results)
            .fetch_one(&self.api)
            .await
            .expect("what the release before accepts is not refused");
        assert_eq!(outcome["answer"], results);
        let asked: Vec<_> = addresses.iter().map(|address| World::greeting(address)).collect();
        let body = json!({"notifications": asked}).to_string();
        let answer = Answer { status: 202, headers: json!({}), body: json!({"notifications": results}) };
        world.note_exchange(sent_at, TENANT, None, &body, &answer);
        for delivery in deliveries {
            let message = print_message(&DeliveryMessage { tenant, delivery, traceparent: None });
            world.sqs.put(DELIVERIES, &message).expect("taken");
        }
    }

    /// A transaction of its API for a tenant.
    async fn enter(&self, tenant: TenantId) -> sqlx::Transaction<'static, sqlx::Postgres> {
        let mut transaction = self.api.begin().await.expect("begun");
        let entered: Option<String> = sqlx::query_scalar("SELECT harkara.enter_tenant($1, $2)")
            .bind(tenant.as_uuid())
            .bind("tester")
            .fetch_one(&mut *transaction)
            .await
            .expect("entered");
        assert_eq!(entered.as_deref(), Some("active"));
        transaction
    }

    /// Claims a batch, and dies before anything is sent. Says how many it had claimed.
    pub(super) async fn claim_and_die(&self, world: &World) -> usize {
        let messages = world.sqs.receive(DELIVERIES, 10).expect("received");
        let keys: Vec<_> = messages.iter().filter_map(|message| read_message(&message.body).ok()).collect();
        self.claim(&keys).await.len()
    }

    /// One batch from the queue, from the claim to the record. Says how many messages that were.
    pub(super) async fn process(&self, world: &World) -> usize {
        let messages = world.sqs.receive(DELIVERIES, 10).expect("received");
        let keys: Vec<DeliveryMessage> =
            messages.iter().filter_map(|message| read_message(&message.body).ok()).collect();
        let claimed = self.claim(&keys).await;
        let mut outcomes = Vec::new();
        for row in &claimed {
            outcomes.push(send(world, row).await);
        }
        self.record(&claimed, &outcomes).await;
        for message in &messages {
            world.sqs.delete(DELIVERIES, &message.receipt_handle);
        }
        messages.len()
    }

    async fn claim(&self, keys: &[DeliveryMessage]) -> Vec<PgRow> {
        let mut keys: Vec<_> = keys.iter().map(|key| (key.tenant.as_uuid(), key.delivery.as_uuid())).collect();
        keys.sort();
        keys.dedup();
        let (tenants, deliveries): (Vec<Uuid>, Vec<Uuid>) = keys.into_iter().unzip();
        let attempts: Vec<Uuid> = tenants.iter().map(|_| adapters::ids::new_uuid()).collect();
        let rows = sqlx::query(CLAIM)
            .bind(&tenants)
            .bind(&deliveries)
            .bind(&attempts)
            .bind(LEASE_SECONDS)
            .bind(LONGEST_EARLY)
            .bind(REPUBLISH_AFTER)
            .fetch_all(&self.worker)
            .await
            .expect("the claim of the release before is not refused");
        let is_claimed = |row: &PgRow| row.get::<Option<String>, _>("verdict?").as_deref() == Some("claim");
        rows.into_iter().filter(is_claimed).collect()
    }

    async fn record(&self, claimed: &[PgRow], outcomes: &[Outcome]) {
        let uuids = |name: &str| claimed.iter().map(|row| row.get(name)).collect::<Vec<Uuid>>();
        let each = |read: fn(&Outcome) -> Option<String>| outcomes.iter().map(read).collect::<Vec<_>>();
        let numbers: Vec<i32> = claimed.iter().map(|row| row.get("attempt_count?")).collect();
        let event_types = each(|outcome| (outcome.state == "sent").then(|| "delivery.sent".to_owned()));
        let nothing: Vec<Option<String>> = vec![None; outcomes.len()];
        let details: Vec<Value> = claimed.iter().map(|_| json!({"release": "before"})).collect();
        sqlx::query(RECORD)
            .bind(uuids("tenant_id!"))
            .bind(uuids("delivery_id!"))
            .bind(uuids("attempt_id?"))
            .bind(&numbers)
            .bind(each(|outcome| Some(outcome.state.to_owned())))
            .bind(each(|outcome| outcome.reason.map(str::to_owned)))
            .bind(&nothing)
            .bind(each(|outcome| Some(outcome.outcome.to_owned())))
            .bind(each(|outcome| outcome.error_code.clone()))
            .bind(&nothing)
            .bind(each(|outcome| outcome.provider_message_id.clone()))
            .bind(outcomes.iter().map(|outcome| outcome.is_counted).collect::<Vec<_>>())
            .bind(outcomes.iter().map(|outcome| outcome.wait_seconds).collect::<Vec<_>>())
            .bind(outcomes.iter().map(|outcome| outcome.due_seconds).collect::<Vec<_>>())
            .bind(claimed.iter().map(|_| adapters::ids::new_uuid()).collect::<Vec<_>>())
            .bind(&event_types)
            .bind(&details)
            .bind(vec!["default".to_owned(); outcomes.len()])
            .bind(each(|outcome| (outcome.state == "held").then(|| "account".to_owned())))
            .fetch_all(&self.worker)
            .await
            .expect("the record of the release before is not refused");
    }

    /// The tick of its dispatcher. Says how many messages it published.
    pub(super) async fn dispatch(&self, world: &World) -> usize {
        let mut transaction = self.worker.begin().await.expect("begun");
        let taken = sqlx::query(TAKE_DUE)
            .bind(500_i64)
            .fetch_all(&mut *transaction)
            .await
            .expect("the take of the release before is not refused");
        let steps: Vec<DueStep> = taken.iter().map(|row| decide_due(&read_due(row))).collect();
        let column = |name: &str| taken.iter().map(|row| row.get(name)).collect::<Vec<Uuid>>();
        let written: Vec<_> = steps.iter().map(write_step).collect();
        let is_published = |step: &DueStep| matches!(step, DueStep::Publish { .. } | DueStep::DeadLetter(_));
        sqlx::query(WRITE_STEPS)
            .bind(column("tenant_id"))
            .bind(column("delivery_id"))
            .bind(written.iter().map(|(state, _, _)| state.as_str().to_owned()).collect::<Vec<_>>())
            .bind(written.iter().map(|(_, reason, _)| reason.map(str::to_owned)).collect::<Vec<_>>())
            .bind(written.iter().map(|(_, _, due)| *due).collect::<Vec<Option<i32>>>())
            .bind(steps.iter().map(is_published).collect::<Vec<_>>())
            .bind(taken.iter().map(|_| adapters::ids::new_uuid()).collect::<Vec<_>>())
            .bind(vec![None::<String>; taken.len()])
            .execute(&mut *transaction)
            .await
            .expect("the steps of the release before are not refused");
        transaction.commit().await.expect("committed");
        let mut published = 0;
        for (row, step) in taken.iter().zip(&steps) {
            let body = print_message(&DeliveryMessage {
                tenant: TenantId::from_uuid(row.get("tenant_id")),
                delivery: DeliveryId::from_uuid(row.get("delivery_id")),
                traceparent: None,
            });
            match step {
                DueStep::Publish { .. } => {
                    world.sqs.put(DELIVERIES, &body).expect("taken");
                    published += 1;
                }
                DueStep::DeadLetter(_) => world.sqs.put(DEAD_LETTERS, &body).expect("taken"),
                DueStep::AwaitFeedback { .. } | DueStep::End(..) => {}
            }
        }
        published
    }

    /// Stores what is in the dead-letter queue. Says how many dead letters are new.
    pub(super) async fn store_dead_letters(&self, world: &World) -> usize {
        let mut stored = 0;
        for message in world.sqs.receive(DEAD_LETTERS, 10).expect("received") {
            let named = read_message(&message.body).ok();
            let rows = sqlx::query(STORE_DEAD)
                .bind(vec![adapters::ids::new_uuid()])
                .bind(vec![adapters::ids::new_uuid()])
                .bind(vec![message.id.clone()])
                .bind(vec![named.as_ref().map(|named| named.tenant.as_uuid())])
                .bind(vec![named.as_ref().map(|named| named.delivery.as_uuid())])
                .bind(vec![message.body.clone()])
                .bind(vec!["attempts_used_up".to_owned()])
                .bind(vec![None::<String>])
                .bind(vec![1_i32])
                .bind(vec![None::<i64>])
                .fetch_all(&self.worker)
                .await
                .expect("the dead letters of the release before are not refused");
            stored += rows.len();
            world.sqs.delete(DEAD_LETTERS, &message.receipt_handle);
        }
        stored
    }

    /// Redrives everything dead of a tenant. Says how many deliveries that are.
    pub(super) async fn redrive(&self, world: &World, tenant: &str) -> usize {
        let tenant = TenantId::parse(tenant).expect("a tenant's id");
        let mut transaction = self.enter(tenant).await;
        let rows = sqlx::query(REDRIVE)
            .bind(tenant.as_uuid())
            .bind(None::<Vec<Uuid>>)
            .bind(None::<String>)
            .bind(None::<String>)
            .bind(None::<jiff_sqlx::Timestamp>)
            .bind(None::<jiff_sqlx::Timestamp>)
            .bind(100_i64)
            .bind(30_i32)
            .fetch_all(&mut *transaction)
            .await
            .expect("the redrive of the release before is not refused");
        transaction.commit().await.expect("committed");
        for row in &rows {
            let delivery = DeliveryId::from_uuid(row.get("delivery_id!"));
            let body = print_message(&DeliveryMessage { tenant, delivery, traceparent: None });
            world.sqs.put(DELIVERIES, &body).expect("taken");
        }
        rows.len()
    }
}

fn read_due(row: &PgRow) -> DueDelivery {
    let count = |name: &str| u32::try_from(row.get::<i32, _>(name)).expect("counts are not negative");
    let time = |name: &str| row.get::<jiff_sqlx::Timestamp, _>(name).to_jiff();
    let expires_at = row.get::<Option<jiff_sqlx::Timestamp>, _>("expires_at: jiff_sqlx::Timestamp");
    DueDelivery {
        state: DeliveryState::parse(row.get("state")).and_then(DueState::of).expect("a state that can be due"),
        now: time("now!: jiff_sqlx::Timestamp"),
        not_before: time("not_before: jiff_sqlx::Timestamp"),
        expires_at: expires_at.map(|at| at.to_jiff()),
        spent: count("attempt_count") - count("uncounted_attempt_count"),
        publish_count: count("publish_count"),
        is_withdrawn: false,
        rules: domain::category::DeliveryRules {
            max_attempts: count("max_attempts"),
            unknown_policy: domain::category::UnknownPolicy::parse(row.get("unknown_policy")).expect("a policy"),
            reconcile_window_seconds: count("reconcile_window_seconds"),
        },
    }
}

fn write_step(step: &DueStep) -> (DeliveryState, Option<&'static str>, Option<i32>) {
    let seconds = |time: Duration| i32::try_from(time.as_secs()).ok();
    match *step {
        DueStep::Publish { again_after, .. } => (DeliveryState::Queued, None, seconds(again_after)),
        DueStep::AwaitFeedback { window } => (DeliveryState::Unknown, Some("lease_expired"), seconds(window)),
        DueStep::DeadLetter(_) => (DeliveryState::Dead, Some("attempts_used_up"), Some(60)),
        DueStep::End(state, reason) => (state, Some(reason.as_str()), None),
    }
}

/// One call of SES, with the tags that every release puts on a mail.
async fn send(world: &World, row: &PgRow) -> Outcome {
    let notification = NotificationId::from_uuid(row.get("notification_id?"));
    let tenant = TenantId::from_uuid(row.get("tenant_id!"));
    let number = row.get::<i32, _>("attempt_count?");
    let tag = |name: &str, value: String| json!({"Name": name, "Value": value});
    let mail = json!({
        "FromEmailAddress": "sender@harkara.test",
        "Destination": {"ToAddresses": [row.get::<String, _>("email?")]},
        "Content": {"Simple": {"Subject": {"Data": "Hello Ada"}, "Body": {"Text": {"Data": "Dear Ada"}}}},
        "EmailTags": [
            tag("nid", notification.to_string()), tag("att", number.to_string()), tag("t", tenant.to_string()),
        ],
        "ConfigurationSetName": "harkara",
    });
    let url = format!("{}/v2/email/outbound-emails", world.ses.url());
    let answer = tokio::task::spawn_blocking(move || {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut answer = agent
            .post(url)
            .header("authorization", "AWS4-HMAC-SHA256 Credential=A/20260101/ap-south-1/ses/aws4_request")
            .send_json(mail)?;
        let body: Value = answer.body_mut().read_json().unwrap_or_default();
        Ok::<_, ureq::Error>((answer.status().as_u16(), body))
    });
    let ended = |state, reason, outcome| Outcome {
        state,
        reason,
        outcome,
        error_code: None,
        provider_message_id: None,
        is_counted: true,
        wait_seconds: None,
        due_seconds: None,
    };
    match answer.await.expect("no panic") {
        Ok((200, body)) if body["MessageId"].is_string() => Outcome {
            provider_message_id: body["MessageId"].as_str().map(str::to_owned),
            ..ended("sent", None, "sent")
        },
        Ok((429, _)) => Outcome {
            is_counted: false,
            wait_seconds: Some(2),
            due_seconds: Some(2),
            ..ended("queued", None, "throttled")
        },
        Ok((400, body)) if body["message"].as_str().is_some_and(|message| message.contains("quota")) => Outcome {
            is_counted: false,
            wait_seconds: Some(900),
            due_seconds: Some(900),
            ..ended("held", Some("quota_reached"), "held")
        },
        Ok((400, _)) => ended("failed", Some("provider_rejected"), "rejected"),
        Ok((status, _)) if status >= 500 => {
            Outcome { wait_seconds: Some(2), due_seconds: Some(2), ..ended("queued", None, "transient") }
        }
        // The answer is lost, or says nothing.
        Ok((200, _)) | Err(_) => {
            Outcome { due_seconds: Some(600), ..ended("unknown", Some("outcome_unknown"), "unknown") }
        }
        Ok(other) => panic!("SES does not take what the release before sends: {other:?}"),
    }
}
