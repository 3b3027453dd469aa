//! Work for the scheduled functions: something of each kind that falls due for one recipient, whose name tells of it.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::TENANT;
use tests::strict::World;

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(60 * 60);
/// As long as any run's lease, or longer, but that of maintenance.
pub(crate) const LEASE: Duration = Duration::from_secs(5 * 60);

/// A domain's login; roles are the cluster's, so all tests have the same.
const DOMAIN: &str = "matrix_domain";

/// A domain that shows alerts to a job, each for the recipient of its name.
const ALERTS: &str = "
    CREATE SCHEMA rental;
    CREATE TABLE rental.alerts (tenant_id uuid, recipient text, data jsonb);
    CREATE VIEW rental.due_alerts AS SELECT tenant_id, 'alert ' || recipient AS key, recipient, data FROM rental.alerts;
    GRANT USAGE ON SCHEMA rental TO harkara_domain_job;
    GRANT SELECT ON rental.due_alerts TO harkara_domain_job;";

/// What a scheduled function has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Two notifications that wait for the hour's end, and leave as one.
    Digest,
    /// A rung of a deadline.
    Reminder,
    /// The first step of an escalation.
    Escalation,
    /// Two notifications that wait for their batch, and leave as one.
    Batch,
    /// A request that came through the SQL door.
    Door,
    /// A row that a domain's view shows to a job.
    Candidates,
}

/// A point on a function's way, and whether what it does there has been committed by then.
pub(crate) type Point = (&'static str, bool);

impl Work {
    pub(crate) const ALL: [Self; 6] =
        [Self::Digest, Self::Reminder, Self::Escalation, Self::Batch, Self::Door, Self::Candidates];

    /// Who does it.
    pub(crate) fn function(self) -> &'static str {
        match self {
            Self::Digest => "digest",
            Self::Reminder => "reminder",
            Self::Escalation => "escalation",
            Self::Batch | Self::Door => "dispatcher",
            Self::Candidates => "domain_job",
        }
    }

    /// Where the function may be struck while it does it, in order.
    pub(crate) fn points(self) -> &'static [Point] {
        match self {
            Self::Digest => &[
                ("G1_tick", false),
                ("G2_locked", false),
                ("G3_created", false),
                ("G4_written", false),
                ("G5_committed", true),
                ("G6_published", true),
            ],
            Self::Reminder => &[
                ("R1_tick", false),
                ("R2_taken", false),
                ("R3_created", false),
                ("R4_written", false),
                ("R5_committed", true),
                ("R6_published", true),
            ],
            Self::Escalation => &[
                ("X1_tick", false),
                ("X2_locked", false),
                ("X3_created", false),
                ("X4_written", false),
                ("X5_committed", true),
                ("X6_published", true),
            ],
            Self::Batch => &[("C1_created", false), ("C2_closed", true), ("C3_published", true)],
            Self::Door => &[("O1_taken", false), ("O2_stored", false), ("O3_committed", true), ("O4_published", true)],
            Self::Candidates => &[
                ("J1_tick", false),
                ("J2_taken", false),
                ("J3_begun", false),
                ("J4_read", false),
                ("J5_created", false),
                ("J6_committed", true),
                ("J7_published", true),
                ("J8_ended", true),
                ("J9_done", true),
            ],
        }
    }

    /// Whether who stands at a point holds nothing yet, so that another may do its work.
    pub(crate) fn is_free_at(self, point: &str) -> bool {
        point.ends_with("_tick") || ["J3_begun", "J4_read"].contains(&point)
    }

    /// Whether who stands at a point has published what it made.
    pub(crate) fn is_published_at(self, point: &str) -> bool {
        let mut way = self.points().iter().skip_while(|(name, _)| !name.ends_with("_published"));
        way.any(|(name, _)| *name == point)
    }

    /// After which time a run that failed in words is made up for: a domain's job waits for its schedule's next time.
    pub(crate) fn patience(self) -> Duration {
        if self == Self::Candidates { HOUR } else { LEASE }
    }

    /// How many things a run did of it, as the function answers. One that found another at work did none.
    pub(crate) fn count(self, answer: &Value) -> u64 {
        let name = match self {
            Self::Digest => "digests",
            Self::Reminder | Self::Escalation => "fired",
            Self::Batch => "closed",
            Self::Door => "requests",
            Self::Candidates => "created",
        };
        answer[name].as_u64().unwrap_or_default()
    }

    /// The notifications that there are of a recipient once it is done: what is collected, and what is sent.
    fn notification_count(self) -> i64 {
        match self {
            Self::Digest | Self::Batch => 3,
            Self::Reminder | Self::Escalation | Self::Door | Self::Candidates => 1,
        }
    }

    /// Gives the world what this work is made of.
    pub(crate) async fn furnish(self, world: &World) {
        world.lift_limits().await;
        match self {
            Self::Digest => put_digest_category(world, json!({})).await,
            Self::Batch => {
                let optional = json!({"type": "integer", "required": false});
                let variables = json!({
                    "name": {"type": "string", "example": "Grace"}, "count": optional, "more_count": optional,
                    "items": {"type": "list", "required": false}, "more_link": {"type": "url", "required": false},
                });
                let text = "{% if count %}{{ count }} of them{% else %}one{% endif %}";
                publish(world, "several", variables, "For {{ name }}", text).await;
                let category = json!({"class": "transactional", "template": "several"});
                world.put(TENANT, "/v1/categories/{key}", "several", category).await;
            }
            Self::Door => open_door(&world.admin).await,
            Self::Candidates => {
                sqlx::raw_sql(ALERTS).execute(&world.admin).await.expect("the domain's schema");
                let candidates = json!({"view": "rental.due_alerts", "category": "greeting"});
                let body = json!({"schedule": "rate(1 hour)", "candidates": candidates});
                world.put(TENANT, "/v1/jobs/{key}", "alerts", body).await;
            }
            Self::Reminder | Self::Escalation => {}
        }
    }

    /// Makes one thing for each of these recipients, which are new, and lets the time pass until it is due.
    pub(crate) async fn make_due(self, world: &World, names: &[String]) {
        self.make(world, names).await;
        match self {
            // At the end of the hour that has begun.
            Self::Digest => world.advance(HOUR).await,
            Self::Reminder | Self::Escalation | Self::Batch | Self::Candidates => world.advance(self.wait()).await,
            Self::Door => {}
        }
    }

    /// How long what is made at a quarter past waits until it is due.
    pub(crate) fn wait(self) -> Duration {
        match self {
            Self::Digest => 45 * MINUTE,
            Self::Reminder | Self::Candidates => HOUR,
            Self::Escalation | Self::Batch => 5 * MINUTE,
            Self::Door => Duration::ZERO,
        }
    }

    /// Makes one thing for each of these recipients, which are new.
    pub(crate) async fn make(self, world: &World, names: &[String]) {
        for name in names {
            put_recipient(world, name, &json!({"email": address(name), "time_zone": "UTC"})).await;
            match self {
                Self::Digest => {
                    prefer(world, name, "hourly").await;
                    collect(world, "COMMENTED", name, &json!({})).await;
                }
                Self::Reminder => {
                    let due = world.now().await + SignedDuration::from_hours(2);
                    put_deadline(world, name, &due.to_string(), json!([{"before": "PT1H"}])).await;
                }
                Self::Escalation => {
                    put_policy(world, name, json!([{"delay": "PT5M", "recipients": [name]}])).await;
                    start(world, name).await;
                }
                Self::Batch => {
                    collect(world, "several", name, &json!({"batch": {"key": name, "window": "PT5M"}})).await;
                }
                Self::Door => {
                    let request = json!({"category": "greeting", "recipient": {"id": name}, "data": {"name": "Ada"}});
                    ask_at_door(&world.admin, &request).await;
                }
                Self::Candidates => {
                    let show = "INSERT INTO rental.alerts VALUES ($1::uuid, $2, '{\"name\": \"Ada\"}')";
                    sqlx::query(show).bind(TENANT).bind(name).execute(&world.admin).await.expect("the view shows it");
                }
            }
        }
        // What is to wait is put aside by the processor.
        world.deliver_all().await;
    }

    /// Sees that everything was made once, and sent once.
    pub(crate) async fn expect_once(self, world: &World, name: &str, case: &str) {
        let stored: i64 = sqlx::query_scalar("SELECT count(*) FROM harkara.notifications WHERE recipient_id = $1")
            .bind(name)
            .fetch_one(&world.admin)
            .await
            .expect("counted");
        assert_eq!(stored, self.notification_count(), "{case}: notifications of {name}");
        assert_eq!(world.mails_to(&address(name)), 1, "{case}: mails to {name}");
    }
}

pub(crate) fn address(name: &str) -> String {
    format!("{name}@example.org")
}

/// A name that an address takes, for what happens at a point.
pub(crate) fn name_of(case: &str) -> String {
    case.to_lowercase().replace([' ', '_'], "-")
}

/// The template of digests, `BULK_DIGEST` with these rules, and `COMMENTED`, which it collects.
pub(crate) async fn put_digest_category(world: &World, rules: Value) {
    let variables = json!({
        "count": {"type": "integer", "example": 1}, "more_count": {"type": "integer", "example": 0},
        "more_url": {"type": "url", "required": false},
        "sections": {"type": "list", "example": [{"name": "Greetings", "count": 1, "items": [{"name": "Ada"}]}]},
    });
    publish(world, "digest", variables, "{{ count }} of news", "{{ count }} of news").await;
    let mut category = json!({"class": "digest", "template": "digest", "quiet_hours_apply": false});
    if rules != json!({}) {
        category["digest"] = rules;
    }
    world.put(TENANT, "/v1/categories/{key}", "BULK_DIGEST", category).await;
    let collected = json!({"class": "transactional", "template": "greeting", "digest_category": "BULK_DIGEST"});
    world.put(TENANT, "/v1/categories/{key}", "COMMENTED", collected).await;
}

/// Publishes a template of one language.
pub(crate) async fn publish(world: &World, key: &str, variables: Value, subject: &str, text: &str) {
    let template = json!({"variables": variables, "variants": [{"locale": "en", "subject": subject, "text": text}]});
    world.put(TENANT, "/v1/templates/{key}", key, template).await;
    let answer = world.call(TENANT, "POST /v1/templates/{key}/publish", Some(key), "{}").await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

pub(crate) async fn put_recipient(world: &World, id: &str, body: &Value) {
    world.put(TENANT, "/v1/recipients/{id}", id, body.clone()).await;
}

pub(crate) async fn prefer(world: &World, recipient: &str, cadence: &str) {
    let body = json!({"preferences": [{"category": "*", "cadence": cadence}]});
    world.put(TENANT, "/v1/recipients/{id}/preferences", recipient, body).await;
}

/// Asks for two notifications to a recipient, collected as `how` says.
pub(crate) async fn collect(world: &World, category: &str, recipient: &str, how: &Value) {
    let mut body = json!({"category": category, "recipient": {"id": recipient}, "data": {"name": "Ada"}});
    for (name, value) in how.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    let answer = world.post(&json!({"notifications": [body.clone(), body]})).await;
    assert_eq!(answer.status, 202, "{answer:?}");
}

/// A deadline of a recipient, of the same name.
pub(crate) async fn put_deadline(world: &World, name: &str, due: &str, rungs: Value) {
    let body =
        json!({"category": "greeting", "recipients": [name], "due_at": due, "rungs": rungs, "data": {"name": "Ada"}});
    world.put(TENANT, "/v1/deadlines/{key}", name, body).await;
}

pub(crate) async fn put_policy(world: &World, key: &str, steps: Value) {
    let body = json!({"category": "greeting", "steps": steps});
    world.put(TENANT, "/v1/escalation-policies/{key}", key, body).await;
}

/// Starts an escalation by a policy, and returns its id.
pub(crate) async fn start(world: &World, policy: &str) -> String {
    let body = json!({"policy": policy, "data": {"name": "Ada"}});
    let answer = world.call(TENANT, "POST /v1/escalations", None, &body.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["escalation"]["id"].as_str().expect("an id").to_owned()
}

/// Opens the SQL door for a domain of the first tenant.
pub(crate) async fn open_door(admin: &PgPool) {
    // Two tests may make the role at the same time.
    let make = "
        DO $$
        BEGIN
            CREATE ROLE matrix_domain NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END
        $$";
    sqlx::raw_sql(make).execute(admin).await.expect("the role is made");
    let open = "CALL harkara.open_door($1, $2::uuid)";
    sqlx::query(open).bind(DOMAIN).bind(TENANT).execute(admin).await.expect("the door is opened");
}

/// Asks for a notification through the SQL door, in a transaction of the domain's.
pub(crate) async fn ask_at_door(admin: &PgPool, request: &Value) {
    let mut transaction = admin.begin().await.expect("the database is there");
    sqlx::query("SET LOCAL SESSION AUTHORIZATION matrix_domain").execute(&mut *transaction).await.expect("a role");
    let ask = "SELECT harkara.enqueue($1, NULL)";
    sqlx::query(ask).bind(request).execute(&mut *transaction).await.expect("it is taken");
    transaction.commit().await.expect("committed");
}
