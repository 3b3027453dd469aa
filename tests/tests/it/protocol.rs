//! The store's statements and the pure step that the simulator and the model run: the same input, and never a different row.
//!
//! Without this, what the simulator shows would hold for the simulator alone. Sequences are drawn from seeds; each input
//! goes to Postgres first and to `proof::protocol::step` then, and both rows are compared. Times agree to within a few
//! seconds, which a statement may take, and are made equal after each input, so that they cannot drift apart.

use adapters::ids::new_uuid;
use adapters::store::attempts::{AttemptRecord, record_across_tenants};
use adapters::store::claims::{Claim, DeliveryKey, claim_across_tenants, hand_back_across_tenants};
use adapters::store::due_deliveries::{release_across_tenants, take_due_across_tenants};
use adapters::wire::sqs_event::Record;
use domain::category::{DeliveryRules, UnknownPolicy};
use domain::delivery::{AttemptOutcome, DeliveryState, Reason};
use domain::due::decide_due;
use domain::feedback::{Bounce, Feedback, MailEvent};
use domain::id::{AttemptId, DeliveryId, NotificationId, TenantId};
use domain::outcome::{Conclusion, ProviderError, SendOutcome, settle_attempt};
use domain::retry::Jitter;
use jiff::{SignedDuration, Timestamp};
use local::ses::{Happening, MailFacts, ToldEvent};
use proof::protocol::{Asked, Claimed, DeadLetterRow, Effect, Input, Row, Verdict, accept, step};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use sqlx::PgPool;
use std::time::Duration;
use tests::{Stage, TENANT};

/// What a statement may take, and times may differ by.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(5);
/// Inputs of a sequence.
const INPUTS: usize = 60;
/// Sequences of each test.
const SEQUENCES: u64 = 25;

const HAPPENINGS: [(Happening, MailEvent); 9] = [
    (Happening::Send, MailEvent::Sent),
    (Happening::DeliveryDelay, MailEvent::Delayed),
    (Happening::Delivery, MailEvent::Delivered),
    (Happening::HardBounce, MailEvent::Bounced(Bounce::Hard)),
    (Happening::SoftBounce, MailEvent::Bounced(Bounce::Soft)),
    (Happening::TooLarge, MailEvent::Bounced(Bounce::Content)),
    (Happening::Complaint, MailEvent::Complained),
    (Happening::Reject, MailEvent::Rejected),
    (Happening::RenderingFailure, MailEvent::RenderingFailed),
];

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn every_statement_does_to_a_row_what_the_step_says(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    for seed in 0..SEQUENCES {
        run_sequence(&stage, seed).await;
    }
    stage.leave_work();
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn nor_does_it_for_sequences_that_nobody_has_seen(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let base = u64::from(rand::random::<u32>());
    for seed in base..base + SEQUENCES {
        run_sequence(&stage, seed).await;
    }
    stage.leave_work();
}

async fn run_sequence(stage: &Stage, seed: u64) {
    let mut pair = Pair::begin(stage, seed).await;
    pair.compare("nothing").await;
    for _ in 0..INPUTS {
        pair.keep_clear_of_moments().await;
        let what = pair.act().await;
        pair.compare(&what).await;
    }
}

/// A delivery twice: the row in Postgres, and the row of the step.
struct Pair<'a> {
    stage: &'a Stage,
    seed: u64,
    dice: StdRng,
    key: DeliveryKey,
    notification: NotificationId,
    address: String,
    body: String,
    row: Row,
    /// Claims so far, with the ids of their attempts.
    claims: Vec<(AttemptId, Claimed)>,
    letter_count: u64,
    /// What has been done, to be read where a difference is found.
    story: Vec<String>,
}

type DeliveryColumns = (
    String,
    Option<String>,
    i32,
    i32,
    i32,
    jiff_sqlx::Timestamp,
    Option<jiff_sqlx::Timestamp>,
    Option<jiff_sqlx::Timestamp>,
    Option<jiff_sqlx::Timestamp>,
    Option<jiff_sqlx::Timestamp>,
    bool,
);

/// Number, outcome, feedback, and when it was heard of and ended.
type AttemptRow = (i32, Option<String>, Option<String>, Option<jiff_sqlx::Timestamp>, Option<jiff_sqlx::Timestamp>);

impl<'a> Pair<'a> {
    async fn begin(stage: &'a Stage, seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let address = format!("seed-{seed}@example.org");
        let answer = stage.post(Stage::greeting(&address)).await;
        let notification = NotificationId::parse(&answer.id()).expect("an id");
        let tenant = TenantId::parse(TENANT).expect("an id");
        let (delivery,): (uuid::Uuid,) =
            sqlx::query_as("SELECT delivery_id FROM harkara.deliveries WHERE notification_id = $1")
                .bind(notification.as_uuid())
                .fetch_one(&stage.admin)
                .await
                .expect("it is there");
        let rules = DeliveryRules {
            max_attempts: dice.random_range(1..5),
            unknown_policy: if dice.random() { UnknownPolicy::AtLeastOnce } else { UnknownPolicy::AtMostOnce },
            reconcile_window_seconds: [0, 60, 600][dice.random_range(0..3)],
        };
        sqlx::query(
            "UPDATE harkara.deliveries SET max_attempts = $2, unknown_policy = $3, reconcile_window_seconds = $4
             WHERE delivery_id = $1",
        )
        .bind(delivery)
        .bind(rules.max_attempts.cast_signed())
        .bind(rules.unknown_policy.as_str())
        .bind(rules.reconcile_window_seconds.cast_signed())
        .execute(&stage.admin)
        .await
        .expect("the rules are set");
        // What the sequences before did to the account is over.
        sqlx::query("DELETE FROM harkara.breakers").execute(&stage.admin).await.expect("closed");
        let body = stage.queue.receive(Duration::ZERO).pop().expect("its message").body;
        let (row, _) = accept(
            &Asked { rules, send_at: Timestamp::MIN, expires_at: None, is_sandbox: false },
            read_clock(stage).await,
        );
        let key = DeliveryKey { tenant, delivery: DeliveryId::from_uuid(delivery) };
        let (claims, story) = (Vec::new(), Vec::new());
        Self { stage, seed, dice, key, notification, address, body, row, claims, letter_count: 0, story }
    }

    /// Lets time pass where something comes due so soon that it might before a statement, or might not.
    async fn keep_clear_of_moments(&mut self) {
        loop {
            let now = read_clock(self.stage).await;
            let moments = [Some(self.row.not_before), self.row.due_at];
            let is_near = |at: &Timestamp| *at > now && *at <= now + TOLERANCE;
            if !moments.iter().flatten().any(is_near) {
                return;
            }
            self.stage.pass(TOLERANCE.unsigned_abs()).await;
        }
    }

    /// Draws an input and gives it to both.
    async fn act(&mut self) -> String {
        match self.dice.random_range(0..100) {
            0..25 => self.claim().await,
            25..47 if !self.claims.is_empty() => self.record().await,
            47..59 => self.see_to_what_is_due().await,
            59..72 => {
                let time = self.draw_time().await;
                self.stage.pass(time).await;
                format!("{time:?} pass")
            }
            72..80 => self.hear().await,
            80..84 => self.hand_back().await,
            84..87 => {
                release_across_tenants(&self.stage.dispatcher.database, &[self.key]).await.expect("released");
                self.step(&Input::Release).await;
                "release".to_owned()
            }
            87..93 => self.store_dead_letter().await,
            93..95 => self.redrive().await,
            95 => {
                self.suppress().await;
                "suppress".to_owned()
            }
            96..99 => {
                let id = self.notification.to_string();
                let answer = self.stage.call(TENANT, "POST /v1/notifications/{id}/cancel", Some(&id), "", "").await;
                assert_eq!(answer.status, 200, "{answer:?}");
                self.step(&Input::Cancel).await;
                "cancel".to_owned()
            }
            _ => self.claim().await,
        }
    }

    /// Gives the step an input: what follows.
    async fn step(&mut self, input: &Input) -> Vec<Effect> {
        let (row, effects) = step(&self.row, input, read_clock(self.stage).await);
        assert_eq!(row.broken_constraint(), None, "seed {}: {input:?} after {:#?}", self.seed, self.story);
        self.row = row;
        effects
    }

    /// To just after the next moment that it waits for, or anything.
    async fn draw_time(&mut self) -> Duration {
        let now = read_clock(self.stage).await;
        let moments = [Some(self.row.not_before), self.row.due_at];
        let next = moments.into_iter().flatten().filter(|at| *at > now).min();
        let any = Duration::from_secs(self.dice.random_range(1..700));
        let until = next.map(|at| at.duration_since(now).unsigned_abs() + Duration::from_millis(1));
        until.filter(|_| self.dice.random_bool(0.8)).unwrap_or(any)
    }

    async fn claim(&mut self) -> String {
        let id = AttemptId::from_uuid(new_uuid());
        let was_ready = self.row.is_ready(read_clock(self.stage).await);
        let claiming = claim_across_tenants(&self.stage.processor.database, &[(self.key, id)]).await;
        let claim = claiming.expect("claimed").remove(&self.key).expect("an answer for what was asked");
        // What may be sent is not the step's to say: it is told as it came out.
        let stored = self.read_delivery().await;
        let verdict = match (&claim, stored.state) {
            (Claim::Claimed(_), _) => Verdict::Claim,
            (_, DeliveryState::Skipped) => Verdict::Skip,
            (_, DeliveryState::Held) => {
                Verdict::Hold { reason: stored.reason.expect("held for a reason"), until: stored.not_before }
            }
            _ => Verdict::Pace { until: stored.not_before, slot_at: stored.slot_at },
        };
        let is_suppressed = self.is_suppressed().await;
        assert!(!was_ready || (verdict == Verdict::Skip) == is_suppressed, "seed {}: {verdict:?}", self.seed);
        let effects = self.step(&Input::Claim { id: id_of(id), verdict }).await;
        let claimed = match &claim {
            Claim::Claimed(claimed) => Effect::Claimed(Claimed {
                attempt: claimed.attempt_number,
                budget: claimed.budget,
                rules: claimed.rules,
                is_expired: claimed.facts.expires_at.is_some_and(|at| at <= claimed.facts.now),
                is_sandbox: claimed.sandbox,
            }),
            // How long exactly is compared with the row.
            Claim::TooEarly { .. } => match effects[0] {
                Effect::TooEarly(wait) => Effect::TooEarly(wait),
                _ => Effect::TooEarly(Duration::MAX),
            },
            Claim::NotOpen => Effect::NotOpen,
            Claim::Missing | Claim::Unreadable { .. } => panic!("seed {}: it is there: {claim:?}", self.seed),
        };
        assert_eq!(effects[0], claimed, "seed {}: {claim:?} after {:#?}", self.seed, self.story);
        if let Effect::Claimed(claimed) = claimed {
            self.claims.push((id, claimed));
        }
        format!("claim ({verdict:?})")
    }

    async fn record(&mut self) -> String {
        let place = if self.dice.random_bool(0.8) {
            self.claims.len() - 1
        } else {
            self.dice.random_range(0..self.claims.len())
        };
        let (attempt, claimed) = self.claims[place];
        let conclusion = draw_conclusion(&mut self.dice);
        let jitter = Jitter::new(self.dice.random());
        let settlement = settle_attempt(conclusion.clone(), claimed.budget, &claimed.rules, jitter);
        let record = AttemptRecord {
            key: self.key,
            attempt,
            attempt_number: claimed.attempt,
            identity: "default".to_owned(),
            settlement: settlement.clone(),
            findings: Vec::new(),
            content_hash: None,
            event: None,
        };
        let recorded = record_across_tenants(&self.stage.processor.database, &[record]).await.expect("recorded");
        let effects = self.step(&Input::Record { attempt: claimed.attempt, settlement }).await;
        let is_recorded = recorded.deliveries.contains(&self.key.delivery);
        assert_eq!(effects[0] == Effect::Recorded, is_recorded, "seed {}: after {:#?}", self.seed, self.story);
        format!("record {conclusion:?} of attempt {}", claimed.attempt)
    }

    async fn see_to_what_is_due(&mut self) -> String {
        let taken = take_due_across_tenants(&self.stage.dispatcher.database, 500).await.expect("taken");
        let steps: Vec<_> = taken.deliveries.iter().map(|taken| decide_due(&taken.due)).collect();
        let own = taken.deliveries.iter().position(|taken| taken.key == self.key).map(|place| steps[place]);
        taken.write_steps(&steps).await.expect("written");
        self.step(&Input::Due).await;
        format!("due: {own:?}")
    }

    async fn hear(&mut self) -> String {
        let attempt = self.dice.random_range(1..self.row.attempt_count + 2);
        let (happening, event) = HAPPENINGS[self.dice.random_range(0..HAPPENINGS.len())];
        let tags =
            [("nid", self.notification.to_string()), ("att", attempt.to_string()), ("t", self.key.tenant.to_string())];
        let facts = MailFacts {
            message_id: format!("message-{attempt}"),
            at: "2026-11-21T10:00:00Z".parse().expect("a time"),
            from: "Post <sender@harkara.test>".to_owned(),
            to: vec![self.address.clone()],
            tags: tags.map(|(name, value)| (name.to_owned(), value)).into(),
            configuration_set: Some("harkara".to_owned()),
        };
        let failed = self.stage.feed(&[ToldEvent::new(&facts, happening).event_bridge.to_string()]).await;
        assert!(failed.is_empty(), "seed {}", self.seed);
        self.step(&Input::Feedback { attempt, event }).await;
        format!("hear {event:?} of attempt {attempt}")
    }

    async fn hand_back(&mut self) -> String {
        let claims = self.claims.len();
        let claim = (claims > 0).then(|| self.claims[self.dice.random_range(0..claims)]);
        // A claim that was never made is handed back, too: whoever had no answer cannot know.
        let attempt = claim.map_or_else(|| AttemptId::from_uuid(new_uuid()), |(attempt, _)| attempt);
        hand_back_across_tenants(&self.stage.processor.database, &[(self.key, attempt)]).await.expect("handed back");
        self.step(&Input::HandBack { id: id_of(attempt) }).await;
        format!("hand back attempt {:?}", claim.map(|(_, claimed)| claimed.attempt))
    }

    async fn store_dead_letter(&mut self) -> String {
        // Now and then the same message again.
        let repeats = self.letter_count > 0 && self.dice.random_bool(0.3);
        self.letter_count += u64::from(!repeats);
        let message = if repeats { self.dice.random_range(1..=self.letter_count) } else { self.letter_count };
        let reason = ["attempts_used_up", "received_too_often"][self.dice.random_range(0..2)].to_owned();
        let record = Record {
            message_id: format!("{}-{message}", self.seed),
            body: self.body.clone(),
            receive_count: 1,
            reason: Some(reason.clone()),
            ..Record::default()
        };
        self.stage.dead_letter.store_batch(&[record]).await.expect("stored");
        self.step(&Input::StoreDeadLetter { message, reason: reason.clone() }).await;
        format!("store message {message}: {reason}")
    }

    async fn redrive(&mut self) -> String {
        let body = json!({"from": "2020-01-01T00:00:00Z"}).to_string();
        let answer = self.stage.call(TENANT, "POST /v1/dead-letters/redrive", None, "", &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        // Its messages are nobody's: what is claimed is drawn.
        self.stage.queue.receive(Duration::MAX);
        self.step(&Input::Redrive).await;
        "redrive".to_owned()
    }

    async fn suppress(&self) {
        sqlx::query(
            "INSERT INTO harkara.suppressions (tenant_id, address, reason, source) VALUES ($1, $2, 'manual', 'api')
             ON CONFLICT DO NOTHING",
        )
        .bind(self.key.tenant.as_uuid())
        .bind(&self.address)
        .execute(&self.stage.admin)
        .await
        .expect("suppressed");
    }

    async fn is_suppressed(&self) -> bool {
        let statement = "SELECT EXISTS (SELECT FROM harkara.suppressions WHERE tenant_id = $1 AND address = $2)";
        let asking = sqlx::query_scalar(statement).bind(self.key.tenant.as_uuid()).bind(&self.address);
        asking.fetch_one(&self.stage.admin).await.expect("read")
    }

    /// Holds the stored rows to those of the step.
    async fn compare(&mut self, what: &str) {
        self.story.push(what.to_owned());
        let stored = self.read_delivery().await;
        let context = format!("seed {} after {:#?}", self.seed, self.story);
        let shown = |row: &Row| {
            let letters: Vec<_> = row.dead_letters.iter().map(|it| (it.reason.clone(), it.is_redriven)).collect();
            let attempts: Vec<_> = row
                .attempts
                .iter()
                .map(|it| (it.number, it.outcome, it.feedback, it.finished_at.is_some(), it.feedback_at.is_some()))
                .collect();
            let counts = (row.attempt_count, row.uncounted_attempt_count, row.publish_count);
            let ends = (row.sent_at.is_some(), row.finished_at.is_some(), row.is_withdrawn);
            (row.state, row.reason, counts, ends, attempts, letters)
        };
        assert_eq!(shown(&stored), shown(&self.row), "{context}");
        let is_near = |one: Option<Timestamp>, other: Option<Timestamp>| match (one, other) {
            (Some(one), Some(other)) => one.duration_since(other).abs() <= TOLERANCE,
            (one, other) => one == other,
        };
        assert!(is_near(Some(stored.not_before), Some(self.row.not_before)), "not_before: {stored:?} {context}");
        assert!(is_near(stored.due_at, self.row.due_at), "due_at: {stored:?} and {:?} {context}", self.row);
        assert!(is_near(stored.slot_at, self.row.slot_at), "slot_at: {stored:?} {context}");
        (self.row.not_before, self.row.due_at, self.row.slot_at) = (stored.not_before, stored.due_at, stored.slot_at);
    }

    /// The delivery as Postgres has it.
    async fn read_delivery(&self) -> Row {
        let (
            state,
            reason,
            attempt_count,
            uncounted,
            publish_count,
            not_before,
            due_at,
            slot_at,
            sent_at,
            finished_at,
            is_withdrawn,
        ): DeliveryColumns = sqlx::query_as(
            "SELECT state, reason, attempt_count, uncounted_attempt_count, publish_count, not_before, due_at,
                        slot_at, sent_at, finished_at, withdrawn_at IS NOT NULL
                 FROM harkara.deliveries WHERE delivery_id = $1",
        )
        .bind(self.key.delivery.as_uuid())
        .fetch_one(&self.stage.admin)
        .await
        .expect("read");
        let at = |at: Option<jiff_sqlx::Timestamp>| at.map(|at| at.to_jiff());
        let count = |count: i32| u32::try_from(count).expect("a count");
        let attempts: Vec<AttemptRow> = sqlx::query_as(
            "SELECT attempt_number, outcome, feedback, feedback_at, finished_at FROM harkara.attempts
                 WHERE delivery_id = $1 ORDER BY attempt_number",
        )
        .bind(self.key.delivery.as_uuid())
        .fetch_all(&self.stage.admin)
        .await
        .expect("read");
        let letters: Vec<(String, bool)> = sqlx::query_as(
            "SELECT reason, redriven_at IS NOT NULL FROM harkara.dead_letters WHERE delivery_id = $1
             ORDER BY created_at, dead_letter_id",
        )
        .bind(self.key.delivery.as_uuid())
        .fetch_all(&self.stage.admin)
        .await
        .expect("read");
        let mut row = self.row.clone();
        row.state = DeliveryState::parse(&state).expect("a state");
        row.reason = reason.map(|reason| Reason::parse(&reason).expect("a reason"));
        row.attempt_count = count(attempt_count);
        row.uncounted_attempt_count = count(uncounted);
        row.publish_count = count(publish_count);
        row.not_before = not_before.to_jiff();
        (row.due_at, row.slot_at, row.sent_at, row.finished_at) =
            (at(due_at), at(slot_at), at(sent_at), at(finished_at));
        row.is_withdrawn = is_withdrawn;
        row.attempts = attempts
            .into_iter()
            .map(|(number, outcome, feedback, feedback_at, finished_at)| proof::protocol::AttemptRow {
                number: count(number),
                id: 0,
                outcome: outcome.map(|outcome| AttemptOutcome::parse(&outcome).expect("an outcome")),
                declared_unknown_at: None,
                has_server_failed: false,
                feedback: feedback.map(|feedback| Feedback::parse(&feedback).expect("feedback")),
                feedback_at: at(feedback_at),
                started_at: row.not_before,
                finished_at: at(finished_at),
            })
            .collect();
        row.dead_letters = letters
            .into_iter()
            .map(|(reason, is_redriven)| DeadLetterRow { message: 0, reason, is_redriven })
            .collect();
        row
    }
}

async fn read_clock(stage: &Stage) -> Timestamp {
    let (now,): (jiff_sqlx::Timestamp,) =
        sqlx::query_as("SELECT harkara.clock()").fetch_one(&stage.admin).await.expect("read");
    now.to_jiff()
}

/// The step's id of an attempt.
fn id_of(attempt: AttemptId) -> u64 {
    attempt.as_uuid().as_u64_pair().1
}

fn draw_conclusion(dice: &mut StdRng) -> Conclusion {
    let error = || ProviderError { code: "Code".to_owned(), detail: "words".to_owned() };
    Conclusion::Called(match dice.random_range(0..13) {
        0..2 => SendOutcome::Sent { provider_message_id: None },
        2..4 => SendOutcome::Transient(error()),
        4 => SendOutcome::Throttled(error()),
        5 => SendOutcome::Unauthorized(error()),
        6 => SendOutcome::Held(Reason::QuotaReached, error()),
        7 => SendOutcome::Rejected(error()),
        8 => SendOutcome::ServerFailed(error()),
        9..11 => SendOutcome::Unknown(error()),
        11 => return Conclusion::HandedBack(error()),
        _ => return Conclusion::Sandboxed,
    })
}
