//! One world: the functions' own binaries, and around them stand-ins that are as strict as AWS and fail on request.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use adapters::envelope::Envelope;
use adapters::store::keys::LinkKeys;
use adapters::store::migrations::{NewTenant, upsert_tenants};
use adapters::wire::queue_message::read_message;
use adapters::wire::ses_event::read_ses_event;
use domain::address::EmailAddress;
use domain::endpoint::LocalEndpoints;
use domain::id::TenantId;
use domain::link::PublicUrl;
use flow::api::Api;
use jiff::Timestamp;
use local::runtime_api::FunctionError;
use local::ses::{SesConfig, SesHandle, SesServer};
use proof::check::{Figures, check_history};
use proof::history::BatchAnswer;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::binaries::{self, Build, binary};
use super::bus::Bus;
use super::clock::Clock;
use super::database::{describe_open, next_due, shift_time, url_of_role};
use super::kms::{KEY_ARN, Kms};
use super::mapping::{Verdict, print_batch, read_verdict};
use super::points::{Arrival, Points, Strike};
use super::sandboxes::Sandboxes;
use super::sqs::{QueueSetup, Sqs};
use crate::contract;
use crate::doubles::{RecordingBus, RecordingQueue};
use crate::exchange::Exchange;
use crate::key_service::ScriptedKeyService;
use crate::privacy::find_personal_forms;
use crate::stage::{OTHER_TENANT, TENANT, database_as, database_of, gateway_event, lift_limits, read_printed};

/// Where the functions believe that the API is.
const PUBLIC_URL: &str = "https://notices.harkara.test";
/// The deliveries queue.
pub const DELIVERIES: &str = "deliveries";
/// Its dead-letter queue.
pub const DEAD_LETTERS: &str = "deliveries-dead";
/// What SES tells of mails.
pub const FEEDBACK: &str = "feedback";
/// What of that was no event of SES.
pub const FEEDBACK_DEAD_LETTERS: &str = "feedback-dead";
/// As `template.yaml` has it.
const BATCH_SIZE: usize = 10;
/// As `template.yaml` has it for `feedback`.
const FEEDBACK_BATCH_SIZE: usize = 50;
/// Rounds after which a world that has not come to rest never will. An hour of backoff and quota is some dozens.
const ROUNDS_MAX: usize = 400;
/// The longest wait for a process to come to a point: one that is not struck by then never will be.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(20);

/// What one poll of a queue came to.
#[derive(Debug)]
pub struct Delivered {
    /// The ids of the messages that were handed over.
    pub received: Vec<String>,
    /// The function's answer, or why there was none.
    pub answer: Result<Value, FunctionError>,
    /// How the mapping read it.
    pub verdict: Verdict,
}

/// The functions and their surroundings; see the module [`strict`](super) for how to use it.
#[derive(Debug)]
pub struct World {
    /// The database as its admin.
    pub admin: PgPool,
    /// SQS.
    pub sqs: Sqs,
    /// EventBridge.
    pub bus: Bus,
    /// KMS.
    pub kms: Kms,
    /// SES.
    pub ses: SesHandle,
    pub(super) clock: Clock,
    points: Arc<Points>,
    functions: BTreeMap<String, Sandboxes>,
    pub(super) log: Mutex<Log>,
    is_checked: bool,
}

/// What happened outside the database.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// When the world began, in the time of the beginning.
    pub(super) began_at: Timestamp,
    pub(super) exchanges: Vec<Exchange>,
    pub(super) batches: Vec<BatchAnswer>,
    /// When the time was moved, and how far.
    pub(super) shifts: Vec<(Timestamp, Duration)>,
    /// When the database's clock was moved on, and how far.
    pub(super) leaps: Vec<(Timestamp, Duration)>,
    pub(super) faults_cleared_at: Option<Timestamp>,
    pub(super) quiet_at: Option<Timestamp>,
    /// From the end of the faults until nothing was left to do.
    pub(super) recovery: Option<Duration>,
    /// The last event of SES that was put on the queue of `feedback`; `None` where none is, unless a test does it.
    pub(super) told_until: Option<u64>,
}

impl World {
    /// A world of release binaries with two tenants, who have a category and a template `greeting` each.
    pub async fn begin(admin: PgPool) -> Self {
        Self::begin_with(admin, Build::Release).await
    }

    /// A world of binaries that can be struck at any point.
    pub async fn begin_with_failpoints(admin: PgPool) -> Self {
        Self::begin_with(admin, Build::Failpoints).await
    }

    async fn begin_with(admin: PgPool, build: Build) -> Self {
        furnish(&admin).await;
        Self::begin_bare(admin, build).await
    }

    /// A world of release binaries on a database as it is.
    pub async fn begin_unfurnished(admin: PgPool) -> Self {
        Self::begin_bare(admin, Build::Release).await
    }

    async fn begin_bare(admin: PgPool, build: Build) -> Self {
        let began_at = Timestamp::now();
        let clock = Clock::default();
        let sqs = Sqs::start(clock.clone(), queues()).await.expect("a port is free");
        let bus = Bus::start().await.expect("a port is free");
        let kms = Kms::start().await.expect("a port is free");
        let ses = SesServer::start(SesConfig::default()).await.expect("a port is free");
        let points = Arc::new(Points::listen().await.expect("a port is free"));
        let mut functions = BTreeMap::new();
        for name in binaries::functions() {
            let role = if matches!(name.as_str(), "enqueue" | "api") { "harkara_api" } else { "harkara_worker" };
            let env = BTreeMap::from([
                ("AWS_REGION".to_owned(), "ap-south-1".to_owned()),
                ("AWS_ACCESS_KEY_ID".to_owned(), "AKIAEXAMPLE".to_owned()),
                ("AWS_SECRET_ACCESS_KEY".to_owned(), "secret".to_owned()),
                ("AWS_SESSION_TOKEN".to_owned(), "token".to_owned()),
                ("AWS_ENDPOINT_URL_SQS".to_owned(), sqs.url()),
                ("AWS_ENDPOINT_URL_SESV2".to_owned(), ses.url()),
                ("AWS_ENDPOINT_URL_EVENTBRIDGE".to_owned(), bus.url()),
                ("AWS_ENDPOINT_URL_KMS".to_owned(), kms.url()),
                ("DATA_KEY_ARN".to_owned(), KEY_ARN.to_owned()),
                ("PUBLIC_URL".to_owned(), PUBLIC_URL.to_owned()),
                ("DATABASE_URL".to_owned(), url_of_role(&admin, role).await.to_string()),
                ("QUEUE_URL".to_owned(), sqs.queue_url(if name == "feedback" { FEEDBACK } else { DELIVERIES })),
                ("DLQ_URL".to_owned(), sqs.queue_url(DEAD_LETTERS)),
                ("EVENT_BUS_NAME".to_owned(), "harkara".to_owned()),
                ("SES_CONFIGURATION_SET".to_owned(), "harkara".to_owned()),
                ("FROM_ADDRESS".to_owned(), "sender@harkara.test".to_owned()),
                ("LOG_LEVEL".to_owned(), "info".to_owned()),
                ("FAILPOINTS".to_owned(), points.address().to_string()),
            ]);
            let limit = Duration::from_secs(match name.as_str() {
                "enqueue" | "api" => 10,
                "dispatcher" | "reminder" | "escalation" => 55,
                "digest" => 240,
                "domain_job" => 300,
                "maintenance" => 900,
                "feedback" => 60,
                _ => 30,
            });
            let sandboxes = Sandboxes::new(&name, binary(build, &name), env, limit, Arc::clone(&points));
            functions.insert(name, sandboxes);
        }
        let log = Mutex::new(Log { began_at, ..Log::default() });
        Self { admin, sqs, bus, kms, ses, clock, points, functions, log, is_checked: false }
    }

    /// Lets both tenants ask as often as they like.
    pub async fn lift_limits(&self) {
        lift_limits(&self.admin).await;
    }

    // ── What callers do ─────────────────────────────────────────────────────────

    /// A request for a mail to an inline address.
    pub fn greeting(address: &str) -> Value {
        json!({"category": "greeting", "recipient": {"email": address}, "data": {"name": "Ada"}})
    }

    /// `POST /v1/notifications` of the first tenant. A function that does not answer is API Gateway's 5xx.
    pub async fn post(&self, body: &Value) -> crate::Answer {
        self.post_text(TENANT, None, &body.to_string()).await
    }

    /// `POST /v1/notifications` of the first tenant with an `Idempotency-Key`.
    pub async fn post_with_key(&self, key: &str, body: &Value) -> crate::Answer {
        self.post_text(TENANT, Some(key), &body.to_string()).await
    }

    /// `POST /v1/notifications` of any tenant with any body.
    pub async fn post_text(&self, tenant: &str, key: Option<&str>, body: &str) -> crate::Answer {
        let headers: Vec<(&str, &str)> = key.map(|key| ("idempotency-key", key)).into_iter().collect();
        let event = gateway_event(tenant, "POST /v1/notifications", None, "", body, &headers);
        let sent_at = Timestamp::now();
        let answer = self.answer_of("enqueue", &event).await;
        self.note_exchange(sent_at, tenant, key, body, &answer);
        answer
    }

    /// Writes down what a caller asked for and heard, for the end's judgement.
    pub fn note_exchange(
        &self,
        sent_at: Timestamp,
        tenant: &str,
        key: Option<&str>,
        body: &str,
        answer: &crate::Answer,
    ) {
        self.log().exchanges.push(Exchange {
            sent_at,
            tenant: tenant.to_owned(),
            key: key.map(str::to_owned),
            body: body.to_owned(),
            status: answer.status,
            answer: answer.body.clone(),
        });
    }

    /// A caller that repeats a request with the same key until it is answered with something else than a 5xx.
    pub async fn post_until_answered(&self, key: &str, body: &Value) -> crate::Answer {
        for _ in 0..5 {
            let answer = self.post_with_key(key, body).await;
            if answer.status < 500 {
                return answer;
            }
        }
        panic!("five requests with the key {key} were not answered");
    }

    /// A request to `api`, where `route` is as in API Gateway, such as `GET /v1/notifications/{id}`.
    pub async fn call(&self, tenant: &str, route: &str, parameter: Option<&str>, body: &str) -> crate::Answer {
        self.answer_of("api", &gateway_event(tenant, route, parameter, "", body, &[])).await
    }

    /// The notification as the first tenant reads it.
    pub async fn show(&self, id: &str) -> Value {
        let answer = self.call(TENANT, "GET /v1/notifications/{id}", Some(id), "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    /// State, reason and attempts of the notification's one delivery.
    pub async fn outcome(&self, id: &str) -> (String, Option<String>, i64) {
        let shown = self.show(id).await;
        let delivery = &shown["deliveries"][0];
        let text = |name: &str| delivery[name].as_str().map(str::to_owned);
        (text("state").expect("a state"), text("reason"), delivery["attempt_count"].as_i64().expect("a count"))
    }

    /// Sets up something by a `PUT` that has to go through, such as a category with another policy.
    pub async fn put(&self, tenant: &str, path: &str, parameter: &str, body: Value) {
        let answer = self.call(tenant, &format!("PUT {path}"), Some(parameter), &body.to_string()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    pub(super) async fn answer_of(&self, function: &str, event: &Value) -> crate::Answer {
        match self.invoke(function, event).await {
            Ok(printed) => {
                let answer = read_printed(&printed);
                contract::check_answer(event["routeKey"].as_str().unwrap_or_default(), &answer);
                answer
            }
            // An HTTP API answers for a function that does not.
            Err(FunctionError::Timeout(_)) => {
                crate::Answer { status: 503, headers: json!({}), body: json!({"message": "Service Unavailable"}) }
            }
            Err(_) => {
                crate::Answer { status: 500, headers: json!({}), body: json!({"message": "Internal Server Error"}) }
            }
        }
    }

    // ── What AWS does ───────────────────────────────────────────────────────────

    /// Invokes a function. One that hung until its time was over took that time.
    pub async fn invoke(&self, function: &str, event: &Value) -> Result<Value, FunctionError> {
        let sandboxes = self.function(function);
        let result = sandboxes.invoke(event).await;
        if matches!(result, Err(FunctionError::Timeout(_))) {
            self.advance(sandboxes.limit()).await;
        }
        result
    }

    /// Invokes a function with another time than its own; a time that is short in fact, for functions that look at it.
    pub async fn invoke_within(&self, function: &str, event: &Value, limit: Duration) -> Result<Value, FunctionError> {
        self.function(function).invoke_within(event, limit).await
    }

    /// Polls the deliveries queue once for the processor.
    pub async fn deliver(&self) -> Delivered {
        self.poll(DELIVERIES, "processor").await
    }

    /// Polls the deliveries queue until nothing is visible; says how many messages the processor was handed.
    pub async fn deliver_all(&self) -> usize {
        self.poll_all(DELIVERIES, "processor").await
    }

    /// Polls the dead-letter queue for `dead_letter` until nothing is visible.
    pub async fn collect_dead_letters(&self) -> usize {
        self.poll_all(DEAD_LETTERS, "dead_letter").await
    }

    /// The dispatcher's tick.
    pub async fn dispatch(&self) -> Result<Value, FunctionError> {
        self.tick("dispatcher").await
    }

    pub(super) async fn poll_all(&self, queue: &'static str, function: &str) -> usize {
        let mut count = 0;
        loop {
            let delivered = self.poll(queue, function).await;
            if delivered.received.is_empty() {
                return count;
            }
            count += delivered.received.len();
        }
    }

    /// Receives a batch, invokes, and deletes what the answer lets go of. Nothing is done where nothing is visible.
    pub async fn poll(&self, queue: &'static str, function: &str) -> Delivered {
        let batch_size = if queue == FEEDBACK { FEEDBACK_BATCH_SIZE } else { BATCH_SIZE };
        let messages = match self.sqs.receive(queue, batch_size) {
            Ok(messages) if !messages.is_empty() => messages,
            _ => return Delivered { received: Vec::new(), answer: Ok(Value::Null), verdict: Verdict::Success },
        };
        let event = print_batch(queue, &messages, &self.clock);
        let struck = self.strike_count();
        let answer = self.invoke(function, &event).await;
        let received: Vec<String> = messages.iter().map(|message| message.id.clone()).collect();
        let ids: Vec<&str> = received.iter().map(String::as_str).collect();
        let verdict = read_verdict(&answer, &ids);
        for message in messages.iter().filter(|message| verdict.deletes(&message.id)) {
            self.sqs.delete(queue, &message.receipt_handle);
        }
        let is_poison = |body: &str| match queue {
            FEEDBACK => read_ses_event(body).is_err_and(|error| !error.is_ignored()),
            _ => read_message(body).is_err(),
        };
        self.log().batches.push(BatchAnswer {
            received: received.clone(),
            failed: match &verdict {
                Verdict::Partial(failed) => failed.clone(),
                Verdict::Success | Verdict::Failure(_) => Vec::new(),
            },
            poison: messages.iter().filter(|it| is_poison(&it.body)).map(|it| it.id.clone()).collect(),
            // That a sandbox died, or was struck, says nothing about what it read.
            has_failed: matches!(answer, Err(FunctionError::Failed { .. })) && self.strike_count() == struck,
        });
        Delivered { received, answer, verdict }
    }

    /// Lets time pass: for SQS, and for everything that the database keeps.
    pub async fn advance(&self, time: Duration) {
        shift_time(&self.admin, time).await;
        self.clock.advance(time);
        self.log().shifts.push((Timestamp::now(), time));
    }

    // ── What goes wrong ─────────────────────────────────────────────────────────

    /// Strikes the next process that comes to a point, such as `E5_committed`.
    pub fn strike(&self, point: &str, strike: Strike) {
        self.strike_nth(point, 1, strike);
    }

    /// Strikes the process that comes to a point as the `nth` from now on, counted from 1.
    pub fn strike_nth(&self, point: &str, nth: usize, strike: Strike) {
        self.points.arm(point, nth, strike);
    }

    /// Waits until somebody has been struck at a point.
    pub async fn wait_for_strike(&self, point: &str) {
        assert!(self.points.wait_for_strike(point, ARRIVAL_LIMIT).await, "nobody came to {point}");
    }

    /// Waits until somebody is held at a point, whoever was held there before and let go.
    pub async fn wait_for_hold(&self, point: &str) {
        assert!(self.points.wait_for_hold(point, ARRIVAL_LIMIT).await, "nobody came to {point}");
    }

    /// Forgets the strikes that are still to come, and lets go who is held.
    pub fn release(&self) {
        self.points.disarm();
    }

    fn strike_count(&self) -> usize {
        self.points.arrivals().iter().filter(|arrival| arrival.strike.is_some()).count()
    }

    /// Every point that a process came to, in order, and what it met there.
    pub fn trail(&self) -> Vec<Arrival> {
        self.points.arrivals()
    }

    /// Kills the idle sandboxes of a function: the next invocation is a cold start.
    pub fn retire(&self, function: &str) {
        self.function(function).retire();
    }

    /// SIGKILL to every process of a function that is at work now.
    pub fn kill_at_work(&self, function: &str) {
        self.function(function).kill_busy();
    }

    /// The time of every process of a function that is at work now is over, and Lambda kills it.
    pub fn time_out_at_work(&self, function: &str) {
        self.function(function).time_out_busy();
    }

    /// Sets variables of a function, for sandboxes that start from now on.
    pub fn redeploy(&mut self, function: &str, env: &[(&str, &str)]) {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.functions.get_mut(function).expect("a function of the project").redeploy(env);
    }

    /// Deploys another binary of a function.
    pub fn replace_binary(&mut self, function: &str, binary: PathBuf) {
        self.functions.get_mut(function).expect("a function of the project").replace_binary(binary);
    }

    /// The URL by which a function reaches the database.
    pub async fn database_url(&self, function: &str) -> url::Url {
        let role = if matches!(function, "enqueue" | "api") { "harkara_api" } else { "harkara_worker" };
        url_of_role(&self.admin, role).await
    }

    /// Makes a function reach the database by another address, where a proxy listens.
    pub async fn reach_database_by(&mut self, function: &str, address: std::net::SocketAddr) {
        let mut url = self.database_url(function).await;
        url.set_ip_host(address.ip()).expect("a URL with a host");
        url.set_port(Some(address.port())).expect("a URL with a host");
        // The proxies read what passes, so it has to be readable.
        url.query_pairs_mut().append_pair("sslmode", "disable");
        self.redeploy(function, &[("DATABASE_URL", url.as_str())]);
    }

    /// Where the database listens, for a proxy before it.
    pub fn database_address(&self) -> std::net::SocketAddr {
        use sqlx::ConnectOptions;
        let url = self.admin.connect_options().to_url_lossy();
        let host = url.host_str().expect("a host").replace("localhost", "127.0.0.1");
        format!("{host}:{}", url.port().unwrap_or(5432)).parse().expect("tests use a server on this machine")
    }

    // ── How it ends ─────────────────────────────────────────────────────────────

    /// How many mails to an address SES took, whatever it answered.
    pub fn mails_to(&self, address: &str) -> usize {
        self.ses.ledger().entries_to(address).iter().filter(|entry| entry.is_accepted()).count()
    }

    /// How many rows a statement counts, as the admin.
    pub async fn count(&self, statement: &'static str) -> i64 {
        sqlx::query_scalar(statement).fetch_one(&self.admin).await.expect("counted")
    }

    /// Everything that the functions have written to their logs.
    pub fn output(&self) -> Vec<String> {
        self.functions.values().flat_map(Sandboxes::output).collect()
    }

    /// The most memory that any idle sandbox of a function has had in RAM, in bytes.
    pub fn peak_memory_bytes(&self, function: &str) -> u64 {
        let peaks = self.pids(function).into_iter().map(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("an idle sandbox is alive");
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux keeps the peak");
            let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
            kibibytes * 1024
        });
        peaks.max().expect("a sandbox is idle")
    }

    /// Processes of a function's idle sandboxes.
    pub fn pids(&self, function: &str) -> Vec<u32> {
        self.function(function).pids()
    }

    /// Ends every fault, then runs everything, tick by tick, until nothing is left to do. Says how long that took in the
    /// world's time.
    pub async fn settle(&mut self) -> Duration {
        self.points.disarm();
        self.sqs.mend().await;
        self.bus.mend().await;
        let cleared = self.clock.now();
        self.log().faults_cleared_at = Some(Timestamp::now());
        for _ in 0..ROUNDS_MAX {
            self.deliver_all().await;
            self.hear_all().await;
            self.collect_dead_letters().await;
            let Some(wait) = self.next_change().await else {
                let recovery = self.clock.now().saturating_sub(cleared);
                let mut log = self.log();
                log.quiet_at = Some(Timestamp::now());
                log.recovery = Some(recovery);
                return recovery;
            };
            self.advance(wait).await;
            self.dispatch().await.expect("without faults the dispatcher does its work");
        }
        panic!(
            "not at rest after {ROUNDS_MAX} rounds:\n{}\n{:?}\n{}",
            describe_open(&self.admin).await.join("\n"),
            self.sqs.waiting(DELIVERIES),
            self.output().join("\n"),
        );
    }

    /// How long it is until something can happen; `None` where nothing ever will.
    async fn next_change(&self) -> Option<Duration> {
        let queues = [DELIVERIES, DEAD_LETTERS, FEEDBACK];
        let waits = queues.iter().flat_map(|queue| self.sqs.waiting(queue)).map(|message| message.wait);
        let due = next_due(&self.admin).await.map(|seconds| Duration::from_secs_f64(seconds.max(0.0)));
        let next = waits.chain(due).min()?;
        // Whole seconds, as SQS counts, and at least one, as time passes.
        Some(Duration::from_secs(next.as_secs() + 1))
    }

    /// Holds everything that happened to the invariants. Every test ends with it.
    pub async fn check(&mut self) -> Figures {
        self.is_checked = true;
        for line in self.output() {
            let found = find_personal_forms(&line);
            assert!(found.is_empty(), "a log holds {found:?}: {line}");
        }
        let history = self.read_history().await;
        match check_history(&history) {
            Ok(figures) => {
                // Counted together by whoever publishes them.
                println!("figures {}", serde_json::to_string(&figures).expect("numbers print"));
                figures
            }
            Err(violations) => {
                let violations: Vec<String> = violations.iter().map(ToString::to_string).collect();
                panic!("\n{}\n{}", violations.join("\n"), self.output().join("\n"));
            }
        }
    }

    /// Settles and checks.
    pub async fn finish(&mut self) -> Figures {
        self.settle().await;
        self.check().await
    }

    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn function(&self, name: &str) -> &Sandboxes {
        self.functions.get(name).unwrap_or_else(|| panic!("there is no function {name}"))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !self.is_checked && !std::thread::panicking() {
            panic!("the test ended without World::check, which holds it to the invariants");
        }
    }
}

/// The queues, as `template.yaml` has them.
fn queues() -> Vec<QueueSetup> {
    let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
    let queue = |name, seconds, retention, redrive| QueueSetup {
        name,
        visibility: Duration::from_secs(seconds),
        retention,
        redrive,
        in_flight_max: 120_000,
    };
    vec![
        queue(DELIVERIES, 180, days(4), Some((DEAD_LETTERS, 25))),
        queue(DEAD_LETTERS, 180, days(14), None),
        queue(FEEDBACK, 360, days(4), Some((FEEDBACK_DEAD_LETTERS, 25))),
        queue(FEEDBACK_DEAD_LETTERS, 30, days(14), None),
    ]
}

/// Two tenants, each with category `greeting`, template `greeting` and recipient `ada`.
async fn furnish(admin: &PgPool) {
    let tenant = |id: &str, name: &str| NewTenant {
        id: TenantId::parse(id).expect("a tenant's id"),
        name: name.to_owned(),
        from_address: None,
    };
    let tenants = [tenant(TENANT, "first"), tenant(OTHER_TENANT, "second")];
    upsert_tenants(&database_of(admin), &tenants).await.expect("tenants are made");
    let api = Api {
        database: database_as(admin, "harkara_api"),
        queue: RecordingQueue::default(),
        bus: RecordingBus::default(),
        keys: LinkKeys::new(Arc::new(Envelope::new(ScriptedKeyService::default()))),
        public_url: PublicUrl::parse(PUBLIC_URL).expect("a URL"),
        sender: EmailAddress::parse("sender@harkara.test").expect("an address"),
        local_endpoints: LocalEndpoints::default(),
    };
    let template = json!({
        "variables": {"name": {"type": "string", "example": "Grace"}},
        "variants": [{
            "locale": "en", "subject": "Hello {{ name }}", "text": "Dear {{ name }}", "html": "<p>Dear {{ name }}</p>",
        }],
    });
    let category = json!({"class": "transactional", "template": "greeting"});
    let recipient = json!({"email": "ada@example.org", "name": "Ada"});
    let nothing = json!({});
    for tenant in [TENANT, OTHER_TENANT] {
        let puts = [
            ("PUT /v1/templates/{key}", "greeting", &template),
            ("POST /v1/templates/{key}/publish", "greeting", &nothing),
            ("PUT /v1/categories/{key}", "greeting", &category),
            ("PUT /v1/recipients/{id}", "ada", &recipient),
        ];
        for (route, parameter, body) in puts {
            let event = gateway_event(tenant, route, Some(parameter), "", &body.to_string(), &[]);
            let response = api.answer_request(event, "furnish").await;
            assert_eq!(response.status, 200, "{response:?}");
        }
    }
}
