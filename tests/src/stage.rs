//! A stage: two tenants, their categories and templates, and the flows around one database.

use crate::ask::Ask;
use crate::clock::shift_time;
use crate::contract;
use crate::doubles::{RecordingBus, RecordingQueue, ScriptedAccount, ScriptedMailSender};
use crate::key_service::ScriptedKeyService;
use crate::privacy::let_each_thread_listen;
use adapters::endpoint::EndpointClient;
use adapters::envelope::Envelope;
use adapters::ses::MailConfig;
use adapters::store::database::{Database, DatabaseConfig};
use adapters::store::keys::LinkKeys;
use adapters::store::limits::{TenantLimits, set_limits};
use adapters::store::migrations::{NewTenant, upsert_tenants};
use adapters::wire::http::Response;
use adapters::wire::routes::{Function, Route};
use adapters::wire::sqs_event::Record;
use domain::address::EmailAddress;
use domain::endpoint::LocalEndpoints;
use domain::id::TenantId;
use domain::job::Trigger;
use domain::link::PublicUrl;
use flow::api::Api;
use flow::dead_letter::DeadLetter;
use flow::digest::{Digest, DigestCounts};
use flow::dispatcher::{DispatchCounts, Dispatcher};
use flow::domain_job::{DomainJobCounts, DomainJobs};
use flow::enqueue::Enqueue;
use flow::escalation::{Escalation, EscalationCounts};
use flow::feedback::{Feedback, ReconcileCounts, ReconcileError};
use flow::job::{Done, Failure, Frame, Job};
use flow::maintenance::{Maintenance, MaintenanceCounts};
use flow::processor::Processor;
use flow::progress::Progress;
use flow::reminder::{Reminder, ReminderCounts};
use flow::template_cache::TemplateCache;
use serde_json::{Value, json};
use sqlx::{ConnectOptions, PgPool};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The first tenant.
pub const TENANT: &str = "018f0000-0000-7000-8000-000000000001";
/// The second tenant.
pub const OTHER_TENANT: &str = "018f0000-0000-7000-8000-000000000002";

/// The flows on one database, with recording doubles.
pub struct Stage {
    /// The database as its admin.
    pub admin: PgPool,
    /// `enqueue`.
    pub enqueue: Enqueue<RecordingQueue>,
    /// `api`.
    pub api: Api<RecordingQueue, ScriptedKeyService, RecordingBus>,
    /// `processor`.
    pub processor: Processor<ScriptedMailSender, RecordingQueue, RecordingBus, ScriptedKeyService>,
    /// `dispatcher`.
    pub dispatcher: Dispatcher<RecordingQueue, RecordingBus>,
    /// `digest`.
    pub digest: Digest<RecordingQueue>,
    /// `domain_job`.
    pub domain_jobs: DomainJobs<RecordingQueue, ScriptedKeyService>,
    /// `reminder`.
    pub reminder: Reminder<RecordingQueue>,
    /// `escalation`.
    pub escalation: Escalation<RecordingQueue>,
    /// `dead_letter`.
    pub dead_letter: DeadLetter<RecordingBus>,
    /// `feedback`.
    pub feedback: Feedback<ScriptedAccount, RecordingQueue, RecordingBus>,
    /// `maintenance`.
    pub maintenance: Maintenance,
    /// The queue of all of them.
    pub queue: RecordingQueue,
    /// The bus of all of them.
    pub bus: RecordingBus,
    /// The provider.
    pub mail: ScriptedMailSender,
    /// The provider's account.
    pub account: ScriptedAccount,
    /// What keeps the keys of keys.
    pub key_service: ScriptedKeyService,
    is_finished: bool,
}

/// An answer of the API.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: i64,
    /// The headers, by lower case name.
    pub headers: Value,
    /// The body.
    pub body: Value,
}

impl Answer {
    /// The id of the one notification that was accepted.
    pub fn id(&self) -> String {
        self.body["id"].as_str().unwrap_or_else(|| panic!("no id in {self:?}")).to_owned()
    }

    /// The pointers of a problem's errors.
    pub fn pointers(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array();
        errors.into_iter().flatten().filter_map(|error| error["pointer"].as_str()).collect()
    }
}

impl Stage {
    /// Sets the stage: two tenants, each with category `greeting`, template `greeting` and recipient `ada`.
    pub async fn begin(admin: PgPool) -> Self {
        let_each_thread_listen();
        let tenant = |id: &str, name: &str| NewTenant {
            id: TenantId::parse(id).expect("a tenant's id"),
            name: name.to_owned(),
            from_address: None,
        };
        let tenants = [tenant(TENANT, "first"), tenant(OTHER_TENANT, "second")];
        upsert_tenants(&database_of(&admin), &tenants).await.expect("tenants are made");

        let (queue, bus, mail) = (RecordingQueue::default(), RecordingBus::default(), ScriptedMailSender::default());
        let (account, key_service) = (ScriptedAccount::default(), ScriptedKeyService::default());
        let api_role = database_as(&admin, "harkara_api");
        let worker_role = database_as(&admin, "harkara_worker");
        let from = EmailAddress::parse("sender@harkara.test").expect("an address");
        let stage = Self {
            enqueue: Enqueue { database: api_role.clone(), queue: queue.clone() },
            api: Api {
                database: api_role,
                queue: queue.clone(),
                bus: bus.clone(),
                keys: link_keys(&key_service),
                public_url: public_url(),
                sender: from.clone(),
                local_endpoints: LocalEndpoints::default(),
            },
            processor: Processor {
                database: worker_role.clone(),
                mail: mail.clone(),
                queue: queue.clone(),
                bus: bus.clone(),
                mail_config: MailConfig { configuration_set: "harkara".to_owned(), from },
                keys: link_keys(&key_service),
                public_url: public_url(),
                templates: TemplateCache::default(),
            },
            digest: Digest { database: worker_role.clone(), queue: queue.clone(), public_url: public_url() },
            domain_jobs: DomainJobs {
                database: worker_role.clone(),
                queue: queue.clone(),
                envelope: Envelope::new(key_service.clone()),
                endpoints: EndpointClient::trusting(LocalEndpoints::default(), &[]),
            },
            reminder: Reminder { database: worker_role.clone(), queue: queue.clone() },
            dispatcher: Dispatcher {
                database: worker_role.clone(),
                queue: queue.clone(),
                bus: bus.clone(),
                public_url: public_url(),
            },
            escalation: Escalation { database: worker_role.clone(), queue: queue.clone() },
            dead_letter: DeadLetter { database: worker_role.clone(), bus: bus.clone() },
            maintenance: Maintenance { database: worker_role.clone() },
            feedback: Feedback {
                database: worker_role,
                account: account.clone(),
                queue: queue.clone(),
                bus: bus.clone(),
            },
            queue,
            bus,
            mail,
            account,
            key_service,
            admin,
            is_finished: false,
        };
        for tenant in [TENANT, OTHER_TENANT] {
            let template = json!({
                "variables": {"name": {"type": "string", "example": "Grace"}},
                "subject": "Hello {{ name }}", "text": "Dear {{ name }}", "html": "<p>Dear {{ name }}</p>",
            });
            stage.publish(tenant, "greeting", template).await;
            let category = json!({"class": "transactional", "template": "greeting"});
            stage.put(tenant, "/v1/categories/{key}", "greeting", category).await;
            stage.put(tenant, "/v1/recipients/{id}", "ada", json!({"email": "ada@example.org", "name": "Ada"})).await;
        }
        stage
    }

    /// A request for a mail to an inline address.
    pub fn greeting(address: &str) -> Value {
        json!({"category": "greeting", "recipient": {"email": address}, "data": {"name": "Ada"}})
    }

    /// `POST /v1/notifications` of the first tenant.
    pub async fn post(&self, body: Value) -> Answer {
        self.post_as(TENANT, body, &[]).await
    }

    /// `POST /v1/notifications` of a tenant, with headers.
    pub async fn post_as(&self, tenant: &str, body: Value, headers: &[(&str, &str)]) -> Answer {
        self.post_text(tenant, &body.to_string(), headers).await
    }

    /// `POST /v1/notifications` with any body.
    pub async fn post_text(&self, tenant: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
        let event = gateway_event(tenant, "POST /v1/notifications", None, "", body, headers);
        read_answer("POST /v1/notifications", self.enqueue.answer_request(event, "request-1").await)
    }

    /// A request to `api`, where `route` is as in API Gateway, such as `GET /v1/notifications/{id}`.
    pub async fn call(&self, tenant: &str, route: &str, parameter: Option<&str>, query: &str, body: &str) -> Answer {
        let event = gateway_event(tenant, route, parameter, query, body, &[]);
        read_answer(route, self.api.answer_request(event, "request-1").await)
    }

    /// A request to `api` without a body, with an `Idempotency-Key`.
    pub async fn call_with_key(&self, tenant: &str, route: &str, parameter: &str, key: &str) -> Answer {
        let event = gateway_event(tenant, route, Some(parameter), "", "", &[("idempotency-key", key)]);
        read_answer(route, self.api.answer_request(event, "request-1").await)
    }

    /// Any request, to the function that answers it.
    pub async fn ask(&self, ask: &Ask) -> Answer {
        let is_for_enqueue = Route::of(&ask.route).map(Route::function) == Some(Function::Enqueue);
        let response = match is_for_enqueue {
            true => self.enqueue.answer_request(ask.event(), "request-1").await,
            false => self.api.answer_request(ask.event(), "request-1").await,
        };
        read_answer(&ask.route, response)
    }

    /// Publishes a template of one variant: `{"subject", "text", "html"}`, and `"locale"` where it is not English.
    /// Beside them may stand what else a draft has.
    pub async fn publish(&self, tenant: &str, key: &str, mut body: Value) {
        if body.get("variants").is_none() {
            let mut variant = json!({"locale": "en"});
            for name in ["locale", "subject", "text", "html", "mjml", "short_text"] {
                if let Some(part) = body.as_object_mut().and_then(|body| body.remove(name)) {
                    variant[name] = part;
                }
            }
            body["variants"] = json!([variant]);
        }
        self.put(tenant, "/v1/templates/{key}", key, body).await;
        let answer = self.call(tenant, "POST /v1/templates/{key}/publish", Some(key), "", "").await;
        assert_eq!(answer.status, 200, "publishing {key}: {answer:?}");
    }

    /// A `PUT` that has to go through.
    pub async fn put(&self, tenant: &str, path: &str, parameter: &str, body: Value) {
        let answer = self.call(tenant, &format!("PUT {path}"), Some(parameter), "", &body.to_string()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// The notification as the first tenant reads it.
    pub async fn show(&self, id: &str) -> Value {
        let answer = self.call(TENANT, "GET /v1/notifications/{id}", Some(id), "", "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    /// State, reason and counted attempts of the notification's one delivery.
    pub async fn outcome(&self, id: &str) -> (String, Option<String>, i64) {
        let shown = self.show(id).await;
        let delivery = &shown["deliveries"][0];
        let text = |name: &str| delivery[name].as_str().map(str::to_owned);
        (text("state").expect("a state"), text("reason"), delivery["attempt_count"].as_i64().expect("a count"))
    }

    /// Hands the processor one batch of what waits and has waited `passed` long; failed items go back.
    /// Answers with how many it took.
    pub async fn process(&self, passed: Duration) -> usize {
        self.process_with(passed, Duration::from_secs(30)).await
    }

    /// Like [`Stage::process`], with `time` left to the invocation.
    pub async fn process_with(&self, passed: Duration, time: Duration) -> usize {
        let records = self.queue.receive(passed);
        let count = records.len();
        if count > 0 {
            let response = self.processor.process_batch(&records, Instant::now() + time).await;
            let failing = failing_ids(&serde_json::to_value(&response).expect("prints"));
            let (back, _done): (Vec<Record>, Vec<Record>) =
                records.into_iter().partition(|record| failing.contains(&record.message_id));
            assert_eq!(back.len(), failing.len(), "only ids of the batch may be reported");
            self.queue.give_back(back);
        }
        count
    }

    /// Processes until nothing waits, letting each message's wait pass in the database, too.
    pub async fn drain(&self) {
        while let Some(wait) = self.queue.waiting().iter().map(|waiting| waiting.wait).min() {
            self.pass(wait).await;
            self.process(wait).await;
        }
    }

    /// Runs the dispatcher once.
    pub async fn dispatch(&self) -> DispatchCounts {
        self.dispatcher
            .dispatch_due(Instant::now() + Duration::from_secs(30), &Progress::untold())
            .await
            .expect("dispatched")
    }

    /// Runs `maintenance` once.
    pub async fn maintain(&self) -> MaintenanceCounts {
        self.maintenance.run(Instant::now() + Duration::from_secs(60), &Progress::untold()).await.expect("maintained")
    }

    /// Runs `digest` once.
    pub async fn close_digests(&self) -> DigestCounts {
        self.digest.run(Instant::now() + Duration::from_secs(60), &Progress::untold()).await.expect("closed")
    }

    /// Runs `domain_job` once.
    pub async fn run_domain_jobs(&self) -> DomainJobCounts {
        self.domain_jobs.run(Instant::now() + Duration::from_secs(300), &Progress::untold()).await.expect("run")
    }

    /// Runs the reminder once.
    pub async fn remind(&self) -> ReminderCounts {
        self.reminder.run(Instant::now() + Duration::from_secs(60), &Progress::untold()).await.expect("reminded")
    }

    /// Runs `escalation` once.
    pub async fn escalate(&self) -> EscalationCounts {
        self.escalation.run(Instant::now() + Duration::from_secs(30), &Progress::untold()).await.expect("escalated")
    }

    /// Hands `dead_letter` everything that is in the dead-letter queue.
    pub async fn store_dead_letters(&self) {
        self.dead_letter.store_batch(&self.queue.receive_dead()).await.expect("stored");
    }

    /// Hands `feedback` one batch of bodies; answers with the places of those that it reports as failed.
    pub async fn feed(&self, bodies: &[String]) -> Vec<usize> {
        let record = |(place, body): (usize, &String)| Record {
            message_id: place.to_string(),
            receipt_handle: format!("feedback-{place}"),
            body: body.clone(),
            receive_count: 1,
            ..Record::default()
        };
        let records: Vec<Record> = bodies.iter().enumerate().map(record).collect();
        let response = self.feedback.hear_batch(&records, Instant::now() + Duration::from_secs(30)).await;
        let failing = failing_ids(&serde_json::to_value(&response).expect("prints"));
        failing.iter().map(|id| id.parse().expect("an id of the batch")).collect()
    }

    /// Does a job's work in the frame of jobs, for as long as `time`.
    pub async fn run_job<C: Into<Done>, E: Into<Failure>>(
        &self,
        job: Job,
        trigger: Trigger,
        time: Duration,
        work: impl AsyncFnOnce() -> Result<C, E>,
    ) -> Result<Value, Failure> {
        self.run_telling_job(job, trigger, time, async move |_| work().await).await
    }

    /// Like [`Stage::run_job`], of work that says how far it is.
    pub async fn run_telling_job<C: Into<Done>, E: Into<Failure>>(
        &self,
        job: Job,
        trigger: Trigger,
        time: Duration,
        work: impl AsyncFnOnce(&Progress<'_>) -> Result<C, E>,
    ) -> Result<Value, Failure> {
        let frame = Frame { database: &self.dispatcher.database, queue: &self.queue };
        frame.run(job, trigger, Instant::now() + time, work).await
    }

    /// Compares with the provider's account, as `feedback` does on its schedule.
    pub async fn reconcile(&self) -> Result<ReconcileCounts, ReconcileError> {
        self.feedback.reconcile(Instant::now() + Duration::from_secs(30), &Progress::untold()).await
    }

    /// Lets time pass, as the database has it.
    pub async fn pass(&self, time: Duration) {
        shift_time(&self.admin, time).await;
    }

    /// Lets both tenants ask as often as they like.
    pub async fn lift_limits(&self) {
        lift_limits(&self.admin).await;
    }

    /// How many rows a statement counts, as the admin.
    pub async fn count(&self, statement: &'static str) -> i64 {
        sqlx::query_scalar(statement).fetch_one(&self.admin).await.expect("counted")
    }

    /// Ends the test: nothing may be open, queued or untold.
    pub async fn finish(mut self) {
        self.is_finished = true;
        assert!(
            self.queue.is_empty(),
            "messages are left behind: {:?} {:?}",
            self.queue.waiting(),
            self.queue.buried()
        );
        let open = self.count("SELECT count(*) FROM harkara.deliveries WHERE due_at IS NOT NULL").await;
        assert_eq!(open, 0, "deliveries are left open");
        self.pass(Duration::from_secs(60)).await;
        self.dispatch().await;
        let untold = self.count("SELECT count(*) FROM harkara.events").await;
        assert_eq!(untold, 0, "events are left in the outbox");
    }

    /// Ends a test that leaves work on purpose.
    pub fn leave_work(mut self) {
        self.is_finished = true;
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.is_finished && !std::thread::panicking() {
            panic!("the test ended without Stage::finish, which looks for work left behind");
        }
    }
}

/// The test's database as its admin.
pub fn database_of(admin: &PgPool) -> Database {
    let url = admin.connect_options().to_url_lossy();
    Database::with_connections(DatabaseConfig::Url(url.to_string().into()), 4)
}

/// The test's database as one of the login roles. Logging in as them would want their passwords, which are the stack's.
/// Lets both tenants ask as often as they like.
pub(crate) async fn lift_limits(admin: &PgPool) {
    let none = TenantLimits { requests_per_minute: None, notifications_per_day: None };
    for tenant in [TENANT, OTHER_TENANT] {
        let tenant = TenantId::parse(tenant).expect("a tenant's id");
        set_limits(&database_of(admin), tenant, none).await.expect("limits are set");
    }
}

/// The test's database as one of the login roles, whose statements may take no longer than `time`.
pub fn database_within(admin: &PgPool, role: &str, time: Duration) -> Database {
    let mut url = admin.connect_options().to_url_lossy();
    url.query_pairs_mut()
        .append_pair("options[role]", role)
        .append_pair("options[statement_timeout]", &time.as_millis().to_string());
    Database::with_connections(DatabaseConfig::Url(url.to_string().into()), 4)
}

pub(crate) fn database_as(admin: &PgPool, role: &str) -> Database {
    let mut url = admin.connect_options().to_url_lossy();
    url.query_pairs_mut().append_pair("options[role]", role);
    Database::with_connections(DatabaseConfig::Url(url.to_string().into()), 4)
}

/// API Gateway's event, as its payload format 2.0 has it.
pub(crate) fn gateway_event(
    tenant: &str,
    route: &str,
    parameter: Option<&str>,
    query: &str,
    body: &str,
    headers: &[(&str, &str)],
) -> Value {
    let name = route.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("id", |(name, _)| name);
    let mut ask = Ask::of_key(route, tenant).with_query(query).with_text(body);
    ask.parameters.extend(parameter.map(|value| (name.to_owned(), value.to_owned())));
    ask.headers.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    ask.event()
}

/// Reads an answer and holds it to what the OpenAPI document says of the route.
fn read_answer(route: &str, response: Response) -> Answer {
    let answer = read_printed(&serde_json::to_value(response.into_gateway()).expect("prints"));
    contract::check_answer(route, &answer);
    answer
}

/// Reads what API Gateway gets from a function.
pub(crate) fn read_printed(printed: &Value) -> Answer {
    let body = printed["body"].as_str().unwrap_or_default();
    Answer {
        status: printed["statusCode"].as_i64().expect("a status"),
        headers: printed["headers"].clone(),
        body: serde_json::from_str(body).unwrap_or_default(),
    }
}

fn failing_ids(response: &Value) -> Vec<String> {
    let failures = response["batchItemFailures"].as_array().expect("the list is always there");
    failures.iter().map(|failure| failure["itemIdentifier"].as_str().expect("an id").to_owned()).collect()
}

fn link_keys(service: &ScriptedKeyService) -> LinkKeys<ScriptedKeyService> {
    LinkKeys::new(Arc::new(Envelope::new(service.clone())))
}

fn public_url() -> PublicUrl {
    PublicUrl::parse("https://notices.harkara.test").expect("a URL")
}
