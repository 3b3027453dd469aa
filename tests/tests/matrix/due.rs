//! Work for the scheduled functions: something of each kind that falls due for one recipient, whose name tells of it.

mod parts;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tests::TENANT;
use tests::strict::World;

use parts::{WEEK_ZONE, end_week, find_week_end, plan_week, publish_digest};
pub(crate) use parts::{
    address, ask_at_door, collect, name_of, open_door, prefer, publish, put_deadline, put_digest_category, put_policy,
    put_recipient, start,
};

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(60 * 60);
/// As long as any run's lease, or longer, but that of maintenance.
pub(crate) const LEASE: Duration = Duration::from_secs(5 * 60);

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
    /// A round of a digest with a rhythm of its own: a week's, for whoever must get it, with nothing in it.
    Round,
    /// A rung of a deadline.
    Reminder,
    /// A deadline that has passed, and of which an escalation begins.
    Overdue,
    /// The first step of an escalation.
    Escalation,
    /// Two notifications that wait for their batch, and leave as one.
    Batch,
    /// Two notifications of which the later one replaces the first, and which are told as one once it is quiet.
    Debounce,
    /// A request that came through the SQL door.
    Door,
    /// A row that a domain's view shows to a job.
    Candidates,
}

/// A point on a function's way, and whether what it does there has been committed by then.
pub(crate) type Point = (&'static str, bool);

impl Work {
    pub(crate) const ALL: [Self; 9] = [
        Self::Digest,
        // Behind the other work of its function: its category has a period of its own ever after.
        Self::Round,
        Self::Reminder,
        Self::Overdue,
        Self::Escalation,
        Self::Batch,
        Self::Debounce,
        Self::Door,
        Self::Candidates,
    ];

    /// Who does it.
    pub(crate) fn function(self) -> &'static str {
        match self {
            Self::Digest | Self::Round => "digest",
            Self::Reminder | Self::Overdue => "reminder",
            Self::Escalation => "escalation",
            Self::Batch | Self::Debounce | Self::Door => "dispatcher",
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
            Self::Round => &[
                ("G1_tick", false),
                ("G2_moved", false),
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
            Self::Overdue => &[
                ("R1_tick", false),
                ("U1_taken", false),
                ("U2_started", false),
                ("X3_created", false),
                ("U3_fired", false),
                ("U4_written", false),
                ("U5_committed", true),
                ("U6_published", true),
            ],
            Self::Escalation => &[
                ("X1_tick", false),
                ("X2_locked", false),
                ("X3_created", false),
                ("X4_written", false),
                ("X5_committed", true),
                ("X6_published", true),
            ],
            Self::Batch | Self::Debounce => {
                &[("C1_created", false), ("C1_written", false), ("C2_closed", true), ("C3_published", true)]
            }
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
            Self::Digest | Self::Round => "digests",
            Self::Reminder | Self::Escalation => "fired",
            Self::Overdue => "escalated",
            Self::Batch | Self::Debounce => "closed",
            Self::Door => "requests",
            Self::Candidates => "created",
        };
        answer[name].as_u64().unwrap_or_default()
    }

    /// The notifications that there are of a recipient once it is done: what is collected, and what is sent.
    fn notification_count(self) -> i64 {
        match self {
            Self::Digest | Self::Batch | Self::Debounce => 3,
            Self::Round | Self::Reminder | Self::Overdue | Self::Escalation | Self::Door | Self::Candidates => 1,
        }
    }

    /// Gives the world what this work is made of.
    pub(crate) async fn furnish(self, world: &World) {
        world.lift_limits().await;
        match self {
            Self::Digest => put_digest_category(world, json!({})).await,
            Self::Round => publish_digest(world).await,
            Self::Batch | Self::Debounce => {
                let optional = json!({"type": "integer", "required": false});
                let variables = json!({
                    "name": {"type": "string", "example": "Grace"}, "count": optional, "more_count": optional,
                    "items": {"type": "list", "required": false}, "more_link": {"type": "url", "required": false},
                    "first": {"type": "object", "required": false},
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
            Self::Reminder | Self::Overdue | Self::Escalation => {}
        }
    }

    /// Makes one thing for each of these recipients, which are new, and lets the time pass until it is due.
    pub(crate) async fn make_due(self, world: &World, names: &[String]) {
        self.make(world, names).await;
        match self {
            // At the end of the hour that has begun.
            Self::Digest => world.advance(HOUR).await,
            Self::Round => end_week(world).await,
            Self::Reminder | Self::Overdue | Self::Escalation | Self::Batch | Self::Debounce | Self::Candidates => {
                world.advance(self.wait()).await
            }
            Self::Door => {}
        }
    }

    /// How long what is made at a quarter past waits until it is due, at most.
    pub(crate) fn wait(self) -> Duration {
        match self {
            Self::Digest => 45 * MINUTE,
            Self::Round => 7 * 24 * HOUR,
            Self::Reminder | Self::Overdue | Self::Candidates => HOUR,
            Self::Escalation | Self::Batch | Self::Debounce => 5 * MINUTE,
            Self::Door => Duration::ZERO,
        }
    }

    /// When what was made at a quarter past is due.
    pub(crate) async fn find_due(self, world: &World, made_at: Timestamp) -> Timestamp {
        match self {
            Self::Round => find_week_end(world).await,
            // By the job's own clock, which began before.
            Self::Candidates => {
                let due: jiff_sqlx::Timestamp =
                    sqlx::query_scalar("SELECT next_due_at FROM harkara.domain_job_clocks WHERE job_key = 'alerts'")
                        .fetch_one(&world.admin)
                        .await
                        .expect("it has a clock");
                due.to_jiff()
            }
            _ => made_at + SignedDuration::try_from(self.wait()).expect("minutes"),
        }
    }

    /// Makes one thing for each of these recipients, which are new.
    pub(crate) async fn make(self, world: &World, names: &[String]) {
        if self == Self::Digest {
            let_hour_end(world).await;
        }
        // Of a round, these and nobody else: who had a week's digest before gets no other.
        let (roles, zone) = if self == Self::Round { (&names[..1], WEEK_ZONE) } else { (&[][..], "UTC") };
        for name in names {
            put_recipient(world, name, &json!({"email": address(name), "time_zone": zone, "roles": roles})).await;
            match self {
                Self::Digest => {
                    prefer(world, name, "hourly").await;
                    collect(world, "COMMENTED", name, &json!({})).await;
                }
                Self::Round => {}
                Self::Reminder => {
                    let due = world.now().await + SignedDuration::from_hours(2);
                    put_deadline(world, name, &due.to_string(), json!([{"before": "PT1H"}])).await;
                }
                Self::Overdue => {
                    put_policy(world, name, json!([{"recipients": [name]}])).await;
                    let due = world.now().await + SignedDuration::from_hours(1);
                    let overdue = json!({"escalation_policy": name});
                    let body =
                        json!({"recipients": [name], "due_at": due, "overdue": overdue, "data": {"name": "Ada"}});
                    world.put(TENANT, "/v1/deadlines/{key}", name, body).await;
                }
                Self::Escalation => {
                    put_policy(world, name, json!([{"delay": "PT5M", "recipients": [name]}])).await;
                    start(world, name).await;
                }
                Self::Batch => {
                    collect(world, "several", name, &json!({"batch": {"key": name, "window": "PT5M"}})).await;
                }
                Self::Debounce => {
                    collect(world, "several", name, &json!({"debounce": {"key": name, "window": "PT5M"}})).await;
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
        if self == Self::Round {
            plan_week(world, roles).await;
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
        if self == Self::Overdue {
            let started: i64 = sqlx::query_scalar("SELECT count(*) FROM harkara.escalations WHERE policy_key = $1")
                .bind(name)
                .fetch_one(&world.admin)
                .await
                .expect("counted");
            assert_eq!(started, 1, "{case}: escalations of {name}");
        }
        if self == Self::Door {
            let left: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM harkara.door_requests WHERE request -> 'recipient' ->> 'id' = $1",
            )
            .bind(name)
            .fetch_one(&world.admin)
            .await
            .expect("counted");
            assert_eq!(left, 0, "{case}: requests for {name} that are still in the door");
        }
    }
}

/// Lets an hour end that is about to: what was asked for before its end and is looked at after it has nothing to wait for,
/// and is sent by itself. The clock moves, because [`World::advance`] would leave the hour what it is.
async fn let_hour_end(world: &World) {
    let now = world.now().await;
    let past = SignedDuration::from_secs(now.as_second().rem_euclid(3600));
    if past >= SignedDuration::from_mins(50) {
        world.move_to(now + (SignedDuration::from_hours(1) - past)).await;
    }
}
