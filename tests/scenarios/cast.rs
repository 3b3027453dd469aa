//! The cast of a scenario: a team with a tenant of its own on the running stack, and the verbs that its story is told in.
//!
//! Everything goes the ways that the team would go: the API with a token, its own transactions in the Postgres that it
//! shares, the links in its mails. What it needs before its first notification is data, in a file beside the story.
//!
//! Time is the database's, which decides all that is due: [`Scenario::passes`] moves it, and then the scheduled functions
//! get what EventBridge would hand them. The functions' own clocks count only how long an invocation may take. There is one
//! clock for all tenants, so scenarios run one after another, and each mends it at its end, however it ends.

use crate::jobs::Jobs;
use crate::s1::GIVE_BACK;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use local::aws::Aws;
use local::clock;
use local::failure::Failure;
use local::stack::Stack;
use serde_json::{Value, json};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor, PgPool};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tests::running::{self, Reply, agent, ask, check_logs, read, sign_token, until};
use tests::{move_time_to, shift_time};
use tokio::runtime::Runtime;

/// The operator's tenant.
pub(crate) const OPERATOR: &str = "00000000-0000-0000-0000-000000000000";

/// There is one clock.
static CLOCK: Mutex<()> = Mutex::new(());

/// A team and its story.
pub(crate) struct Scenario {
    /// The stack.
    pub(crate) stack: Stack,
    /// The database as its superuser: for the clock, and for what a team's own administrator does in it.
    pub(crate) database: PgPool,
    pub(crate) runtime: Runtime,
    tenant: String,
    token: String,
    /// What the team has put before its story begins.
    data: Value,
    /// How many mails of each address the story has told of.
    told: RefCell<BTreeMap<String, usize>>,
    _alone: MutexGuard<'static, ()>,
}

/// A mail as its reader sees it.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    /// Its subject.
    pub(crate) subject: String,
    /// What it says, as plain text.
    pub(crate) text: String,
    /// As the mailbox has it.
    pub(crate) whole: Value,
}

/// So many minutes.
pub(crate) fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

/// So many hours.
pub(crate) fn hours(count: u64) -> Duration {
    minutes(60 * count)
}

/// So many days of 24 hours.
pub(crate) fn days(count: u64) -> Duration {
    hours(24 * count)
}

impl Scenario {
    /// A team moves in: a tenant that nobody else has, with what its page says.
    pub(crate) fn begin(page: &str) -> Self {
        let page = format!("{}/scenarios/{page}.json", env!("CARGO_MANIFEST_DIR"));
        let page = std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{page}: {error}"));
        let alone = CLOCK.lock().unwrap_or_else(PoisonError::into_inner);
        let stack = running::stack();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let connected = PgPoolOptions::new().max_connections(2).connect(&stack.database_url);
        let database = runtime.block_on(connected).expect("the stack's database is there");
        let tenant = uuid::Uuid::now_v7().to_string();
        // An address that the provider's stand-in is to treat in some way has to be one that it has never seen.
        let page = page.replace("{run}", &tenant);
        let data: Value = serde_json::from_str(&page).expect("the team's page is JSON");
        let token = sign_token(&stack, json!({"tenant_id": tenant}));
        let scenario = Self { stack, database, runtime, tenant, token, data, told: RefCell::default(), _alone: alone };
        // Whoever was before may have been killed.
        scenario.mend_clock();
        scenario.administers(GIVE_BACK);
        let mut event = json!({"tenants": [scenario.data["tenant"]]});
        event["tenants"][0]["id"] = scenario.tenant.as_str().into();
        event["tenants"][0]["limits"] = json!({});
        scenario.invoke("migrate", &event);
        scenario.put_page();
        scenario
    }

    /// Puts what the page says, in the order in which one refers to the other.
    fn put_page(&self) {
        let page = &self.data;
        for (key, draft) in members(&page["templates"]) {
            self.put_template(key, draft);
        }
        let put_all = |path: &str, bodies: Vec<(&String, &Value)>| {
            for (key, body) in bodies {
                self.put(&format!("{path}/{key}"), body.clone());
            }
        };
        // What is collected names the digest that it is collected for.
        let (digests, others) = members(&page["categories"]).partition(|(_, body)| body["class"] == "digest");
        put_all("/v1/categories", digests);
        put_all("/v1/categories", others);
        self.put("/v1/settings", page["settings"].clone());
        let (managers, managed) = members(&page["recipients"]).partition(|(_, body)| body["manager"].is_null());
        put_all("/v1/recipients", managers);
        put_all("/v1/recipients", managed);
        put_all("/v1/escalation-policies", members(&page["policies"]).collect());
    }

    fn put_template(&self, key: &str, draft: &Value) {
        self.put(&format!("/v1/templates/{key}"), read_draft(draft));
        self.post(&format!("/v1/templates/{key}/publish"), json!({}));
    }

    /// A part of the team's page that the story itself puts.
    pub(crate) fn page(&self, name: &str) -> &Value {
        &self.data[name]
    }

    /// The tenant's id.
    pub(crate) fn tenant(&self) -> &str {
        &self.tenant
    }

    // What the team's own services and people ask.

    /// A request of the team's, whatever comes of it.
    pub(crate) fn ask(&self, method: &str, path: &str, body: Value) -> Reply {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        ask(&self.stack, &self.token, method, path, &text, None)
    }

    /// A `GET` that is answered.
    pub(crate) fn get(&self, path: &str) -> Value {
        self.well("GET", path, Value::Null)
    }

    /// A `PUT` that is taken.
    pub(crate) fn put(&self, path: &str, body: Value) -> Value {
        self.well("PUT", path, body)
    }

    /// A `POST` that is taken.
    pub(crate) fn post(&self, path: &str, body: Value) -> Value {
        self.well("POST", path, body)
    }

    /// Asks for a notification to one of the team's recipients, and answers with its id.
    pub(crate) fn enqueue(&self, category: &str, recipient: &str, data: Value) -> String {
        self.enqueue_with(category, recipient, data, json!({}))
    }

    /// The same with more: a batch, a calendar, words of its own.
    pub(crate) fn enqueue_with(&self, category: &str, recipient: &str, data: Value, more: Value) -> String {
        let mut body = json!({"category": category, "recipient": {"id": recipient}, "data": data});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let answer = self.post("/v1/notifications", body);
        answer["id"].as_str().unwrap_or_else(|| panic!("an id: {answer}")).to_owned()
    }

    /// Puts a deadline of a kind that the team's page describes.
    pub(crate) fn puts_deadline(&self, kind: &str, key: &str, more: Value) -> Value {
        let mut body = self.data["deadlines"][kind].clone();
        let fields = body.as_object_mut().unwrap_or_else(|| panic!("{kind} is a deadline of the page"));
        fields.extend(more.as_object().expect("an object").clone());
        self.put(&format!("/v1/deadlines/{key}"), body)
    }

    /// The notifications that a deadline has become for a recipient, in order.
    pub(crate) fn became(&self, deadline: &str, recipient: &str) -> Vec<String> {
        let shown = self.get(&format!("/v1/deadlines/{deadline}"));
        let plan = shown["plan"].as_array().expect("a plan").iter().filter(|rung| rung["recipient"] == recipient);
        plan.filter_map(|rung| rung["notification_id"].as_str().map(str::to_owned)).collect()
    }

    /// How the one delivery of a notification stands.
    pub(crate) fn delivery(&self, notification: &str) -> Value {
        self.get(&format!("/v1/notifications/{notification}"))["deliveries"][0].clone()
    }

    /// The state of it, and why.
    pub(crate) fn stands(&self, notification: &str) -> (String, String) {
        let delivery = self.delivery(notification);
        let text = |field: &str| delivery[field].as_str().unwrap_or_default().to_owned();
        (text("state"), text("reason"))
    }

    /// Waits until it comes to a state by itself: SES tells of its mails when it likes.
    pub(crate) fn until_state(&self, notification: &str, state: &str) -> Value {
        until(&format!("{notification} becomes {state}"), || {
            Some(self.delivery(notification)).filter(|delivery| delivery["state"] == state)
        })
    }

    /// What somebody else's token is answered: a recipient's own, an operator's.
    pub(crate) fn ask_as(&self, mut claims: Value, method: &str, path: &str, body: Value) -> Reply {
        if claims["tenant_id"].is_null() {
            claims["tenant_id"] = self.tenant.as_str().into();
        }
        let text = if body.is_null() { String::new() } else { body.to_string() };
        ask(&self.stack, &sign_token(&self.stack, claims), method, path, &text, None)
    }

    fn well(&self, method: &str, path: &str, body: Value) -> Value {
        let reply = self.ask(method, path, body);
        assert!((200..300).contains(&reply.status), "{method} {path}: {} {}", reply.status, reply.body);
        reply.body
    }

    // Time.

    /// What time it is in the database.
    pub(crate) fn now(&self) -> Timestamp {
        let asked = sqlx::query_scalar::<_, jiff_sqlx::Timestamp>("SELECT harkara.now()").fetch_one(&self.database);
        self.runtime.block_on(asked).expect("the database says").to_jiff()
    }

    /// Lets time pass, and the scheduled functions do what has become due.
    pub(crate) fn passes(&self, time: Duration) {
        self.settle();
        self.moves_clock(time);
        self.tick();
    }

    /// Lets time pass, and nothing else.
    pub(crate) fn moves_clock(&self, time: Duration) {
        self.runtime.block_on(shift_time(&self.database, time));
    }

    /// Lets it become a moment that lies ahead, and the scheduled functions do what is due then.
    pub(crate) fn becomes(&self, moment: &Zoned) {
        self.settle();
        assert!(moment.timestamp() >= self.now(), "the clock goes forward only: {moment}");
        self.runtime.block_on(move_time_to(&self.database, moment.timestamp()));
        self.tick();
    }

    /// The next such weekday in a zone, from tomorrow on, at a time of the day.
    pub(crate) fn next(&self, weekday: Weekday, time: &str, zone: &str) -> Zoned {
        let zone = TimeZone::get(zone).expect("a zone");
        let day = self.now().to_zoned(zone.clone()).date().nth_weekday(1, weekday).expect("a day");
        day.to_datetime(time.parse().expect("a time")).to_zoned(zone).expect("a moment")
    }

    /// The schedules of EventBridge have come round.
    pub(crate) fn tick(&self) {
        for job in ["domain_job", "dispatcher", "digest", "reminder", "escalation"] {
            self.run(job);
        }
        self.settle();
    }

    /// Hands a scheduled function its tick, as EventBridge does, and answers with what it counted. A run of the stack's own
    /// schedule may be at work and have begun before what has just become due, so the tick is repeated after it.
    pub(crate) fn run(&self, job: &str) -> Value {
        until(&format!("{job} has run"), || {
            Some(self.invoke(job, &Jobs::tick())).filter(|answer| answer["overlapped"] != true)
        })
    }

    /// The same where the function is to fail.
    pub(crate) fn fails(&self, job: &str) {
        until(&format!("{job} has failed"), || self.try_invoke(job, &Jobs::tick()).err());
    }

    fn invoke(&self, function: &str, event: &Value) -> Value {
        self.try_invoke(function, event).unwrap_or_else(|failure| panic!("{function}: {failure}"))
    }

    fn try_invoke(&self, function: &str, event: &Value) -> Result<Value, Failure> {
        let name = format!("{}-{function}", self.stack.function_prefix);
        Aws::new(&self.stack.aws_endpoint_url).invoke(&name, event)
    }

    /// Waits until nothing of the team's is on its way any more.
    pub(crate) fn settle(&self) {
        until("everything on its way has arrived", || (self.count_on_the_way() == 0).then_some(()));
    }

    fn count_on_the_way(&self) -> i64 {
        let statement = "
            SELECT count(*) FROM harkara.deliveries
            WHERE tenant_id = $1::uuid AND (state IN ('queued', 'sending') OR
                (state = 'held' AND due_at < harkara.now() + interval '30 seconds'))";
        let counted = sqlx::query_scalar(statement).bind(&self.tenant).fetch_one(&self.database);
        self.runtime.block_on(counted).expect("counted")
    }

    // Mail.

    /// The mails to a recipient that the story has not told of yet.
    pub(crate) fn mails_to(&self, recipient: &str) -> Vec<Mail> {
        self.settle();
        let address = self.address_of(recipient);
        // Earlier runs have written to the same address; SES knows which mails are this tenant's.
        let own: BTreeSet<String> =
            self.requests_for(recipient).iter().map(|request| request["tags"]["nid"].to_string()).collect();
        let mut mails = running::mails(&self.stack, &address);
        mails.retain(|mail| own.contains(&header(mail, "X-Harkara-Notification-Id").to_string()));
        let mut told = self.told.borrow_mut();
        let told = told.entry(address).or_default();
        let new = mails.iter().skip(*told).map(read_mail).collect();
        *told = mails.len();
        new
    }

    /// The one mail to a recipient that the story has not told of yet.
    pub(crate) fn mail_to(&self, recipient: &str) -> Mail {
        let mut mails = self.mails_to(recipient);
        assert_eq!(mails.len(), 1, "one mail to {recipient}: {mails:#?}");
        mails.remove(0)
    }

    /// Nobody of these has got anything that the story has not told of yet.
    pub(crate) fn nothing_for(&self, recipients: &[&str]) {
        for recipient in recipients {
            let mails = self.mails_to(recipient);
            assert!(mails.is_empty(), "nothing for {recipient}: {mails:#?}");
        }
    }

    /// The requests that SES got for a recipient, those that it refused too.
    pub(crate) fn requests_for(&self, recipient: &str) -> Vec<Value> {
        let address = self.address_of(recipient);
        let to: String = url::form_urlencoded::byte_serialize(address.as_bytes()).collect();
        let requests = read(&format!("{}/ledger?to={to}", self.stack.ses_url));
        let own = |request: &&Value| request["tags"]["t"] == self.tenant.as_str();
        requests.as_array().expect("a list").iter().filter(own).cloned().collect()
    }

    fn address_of(&self, recipient: &str) -> String {
        let address = self.data["recipients"][recipient]["email"].as_str();
        address.unwrap_or_else(|| panic!("{recipient} has an address on the team's page")).to_owned()
    }

    // The Postgres that the team shares.

    /// What the team's administrator does in the database.
    pub(crate) fn administers(&self, statements: &'static str) {
        self.runtime.block_on(self.database.execute(sqlx::raw_sql(statements))).expect("the administrator may");
    }

    /// How many rows a statement about the tenant counts.
    pub(crate) fn count(&self, statement: &'static str) -> i64 {
        let counted = sqlx::query_scalar(statement).bind(&self.tenant).fetch_one(&self.database);
        self.runtime.block_on(counted).expect("counted")
    }

    // The end.

    /// The story is over: nothing is left behind, the jobs tell the truth about what they did, and no log tells of anybody.
    pub(crate) fn end(self) {
        self.settle();
        let open =
            self.count("SELECT count(*) FROM harkara.deliveries WHERE tenant_id = $1::uuid AND due_at IS NOT NULL");
        assert_eq!(open, 0, "deliveries are left open");
        Jobs::of(&self).tell_the_truth();
        check_logs(&self.stack, &[&self.token]);
    }

    fn mend_clock(&self) {
        self.runtime.block_on(self.database.execute(sqlx::raw_sql(clock::MEND))).expect("the clock is mended");
    }
}

impl Drop for Scenario {
    fn drop(&mut self) {
        // Whatever its schedules would do from now on is nobody's any more.
        let suspended = sqlx::query("UPDATE harkara.tenants SET state = 'suspended' WHERE tenant_id = $1::uuid")
            .bind(&self.tenant)
            .execute(&self.database);
        let suspended = self.runtime.block_on(suspended);
        self.mend_clock();
        if !std::thread::panicking() {
            suspended.expect("the team moves out");
        }
    }
}

impl Mail {
    /// A link of the text, by the word before it.
    pub(crate) fn link(&self, word: &str) -> String {
        let line = self.text.lines().find_map(|line| line.strip_prefix(word));
        line.unwrap_or_else(|| panic!("a line that begins with {word}: {}", self.text)).trim().to_owned()
    }
}

/// Opens a link of a mail, as a reader does, or a scanner of mails.
pub(crate) fn open_link(link: &str) -> (u16, String) {
    let mut page = agent().get(link).call().expect("answered");
    (page.status().as_u16(), page.body_mut().read_to_string().expect("a page"))
}

/// Presses the button of the page behind a link.
pub(crate) fn press_button(link: &str, form: &str) -> (u16, String) {
    let mut page =
        agent().post(link).header("content-type", "application/x-www-form-urlencoded").send(form).expect("answered");
    (page.status().as_u16(), page.body_mut().read_to_string().expect("a page"))
}

/// The draft of a template that a page writes as one variant: subject, text, html.
pub(crate) fn read_draft(template: &Value) -> Value {
    let mut variant = template.clone();
    let members = variant.as_object_mut().expect("a template is an object");
    let variables = members.remove("variables").unwrap_or_default();
    members.insert("locale".to_owned(), "en".into());
    json!({"variables": variables, "variants": [variant]})
}

fn members(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}

fn header<'a>(mail: &'a Value, name: &str) -> &'a Value {
    let mut headers = mail["headers"].as_array().into_iter().flatten();
    headers.find(|header| header["name"] == name).map_or(&Value::Null, |header| &header["value"])
}

fn read_mail(mail: &Value) -> Mail {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Mail { subject: text(&mail["subject"]), text: text(&mail["body"]["text"]), whole: mail.clone() }
}
