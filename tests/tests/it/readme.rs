//! README's examples are taken as they stand: somebody copies one block after the other, beside what `cargo local up` seeds,
//! and sees each of them work.

use adapters::wire::routes::Route;
use clap::Parser;
use jiff::Timestamp;
use local::issuer::TokenRequest;
use local::project::Project;
use local::seed::{Seed, Tenant};
use local::token::TokenArguments;
use serde_json::{Value, json};
use sqlx::{PgPool, Row};
use std::process::Command;
use std::time::Duration;
use tests::{Answer, Ask, Stage, move_time_to};

/// Where the examples begin, and where they are over.
const CHAPTERS: [&str; 2] = ["\n## Send something\n", "\n## Proof\n"];

/// Instead of the programs that the shell calls: what they are asked is printed, word by word, with an empty word behind it.
const PROGRAMS: &str = r#"
set -eu
python3() { printf 'api:'; }
say() { for word in "$@"; do printf '+%s\0' "$word"; done; printf '\0'; }
cargo() { if [ "$2" = psql ]; then shift; say "$@"; else printf '%s' "$*"; fi; }
curl() { say curl "$@"; }
"#;

/// What somebody does who follows the examples.
enum Step {
    /// Asks the API.
    Ask(Ask),
    /// Has the stack's administrator run this SQL.
    Administer(&'static str),
}

/// The examples of a language, in their order.
fn list_blocks(language: &str) -> Vec<&'static str> {
    let readme: &'static str =
        std::fs::read_to_string(crate::project::root().join("README.md")).expect("README").leak();
    let [begin, end] = CHAPTERS.map(|chapter| readme.find(chapter).expect("README has this chapter"));
    let fences = readme[begin..end].split("\n```");
    fences.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n')).collect()
}

/// What the examples do, as a shell does it.
fn read_steps(tenants: &[Tenant; 2]) -> Vec<Step> {
    let script = format!("{PROGRAMS}\n{}", list_blocks("sh").join("\n"));
    let ran = Command::new("sh").args(["-c", &script]).output().expect("a shell runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let printed = String::from_utf8(ran.stdout).expect("steps are text");
    let steps = printed.split_terminator("\0\0").map(|step| {
        let mut words = step.split('\0').map(|word| word.strip_prefix('+').expect("nothing else is printed"));
        match words.next() {
            Some("curl") => Step::Ask(read_request(words, tenants)),
            Some("psql") => Step::Administer(read_sql(words)),
            other => panic!("what is {other:?}?"),
        }
    });
    steps.collect()
}

/// Reads what follows `psql`.
fn read_sql<'a>(words: impl Iterator<Item = &'a str>) -> &'static str {
    let words: Vec<_> = words.collect();
    let sql = match words.as_slice() {
        ["-q", "-f", file] => std::fs::read_to_string(crate::project::root().join(file)).expect("the file is there"),
        ["-q", "-c", statement] => (*statement).to_owned(),
        other => panic!("what is {other:?}?"),
    };
    sql.leak()
}

/// Reads what follows `curl`.
fn read_request<'a>(mut words: impl Iterator<Item = &'a str>, tenants: &[Tenant; 2]) -> Ask {
    let (mut method, mut path, mut body, mut headers) = (None, "", None, Vec::new());
    while let Some(word) = words.next() {
        let mut next = || words.next().expect("something follows");
        match word {
            "-s" | "-si" => {}
            "-X" => method = Some(next()),
            "-d" => body = Some(next()),
            "-H" => headers.push(next().split_once(": ").expect("a header has a name and a value")),
            url => path = url.strip_prefix("api:").unwrap_or_else(|| panic!("what is {url}?")),
        }
    }
    let method = method.unwrap_or(if body.is_some() { "POST" } else { "GET" });
    let mut ask = ask(tenants, method, path, body.unwrap_or_default());
    for (name, value) in headers {
        match value.strip_prefix("Bearer local ") {
            Some(words) => claim(&mut ask, read_token(words, tenants)),
            None => _ = ask.headers.insert(name.to_owned(), value.to_owned()),
        }
    }
    ask
}

/// Reads what follows `cargo local`.
fn read_token(words: &str, tenants: &[Tenant; 2]) -> TokenRequest {
    let arguments = TokenArguments::try_parse_from(words.split(' ')).unwrap_or_else(|error| panic!("{words}: {error}"));
    arguments.request(&tenants[0].id, &tenants[1].id)
}

fn claim(ask: &mut Ask, token: TokenRequest) {
    ask.claims = json!({"tenant_id": token.tenant_id, "sub": token.sub, "scope": token.scope});
}

/// A request of the first tenant's, by the path that a caller writes.
fn ask(tenants: &[Tenant; 2], method: &str, path: &str, body: &str) -> Ask {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let steps: Vec<_> = path.split('/').collect();
    let matches = |route: &&Route| {
        let wanted: Vec<_> = route.path().split('/').collect();
        let is_step = |(wanted, step): (&&str, &&str)| wanted == step || wanted.starts_with('{');
        route.method() == method && wanted.len() == steps.len() && wanted.iter().zip(&steps).all(is_step)
    };
    let route = Route::ALL.iter().find(matches).unwrap_or_else(|| panic!("no route is {method} {path}"));
    let mut ask = Ask::of(*route, &tenants[0].id).with_query(query).with_text(body);
    for (wanted, step) in route.path().split('/').zip(steps) {
        if let Some(name) = wanted.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            ask = ask.with_parameter(name, step);
        }
    }
    claim(&mut ask, TokenRequest::for_tenant(&tenants[0].id));
    ask
}

async fn succeed(stage: &Stage, ask: &Ask) -> Answer {
    let answer = stage.ask(ask).await;
    assert!((200..300).contains(&answer.status), "{} {:?} {}: {answer:?}", ask.route, ask.parameters, ask.body);
    answer
}

/// A stage with the tenants of the seed.
async fn begin(pool: PgPool) -> (Stage, [Tenant; 2]) {
    let Seed { tenants, .. } = Seed::read(&Project::find().expect("the project")).expect("the seed");
    let stage = Stage::begin(pool).await;
    let events = tenants.iter().map(|tenant| {
        let mut event = tenant.event.clone();
        // A person is slower.
        event["limits"] = json!({});
        event
    });
    let event = json!({"tenants": events.collect::<Value>()});
    crate::migrate::migrate_as_admin(&stage.admin).migrate(&event).await.expect("tenants are made");
    for tenant in &tenants {
        for (method, path, body) in &tenant.requests {
            let mut ask = ask(&tenants, method, path, &body.to_string());
            claim(&mut ask, TokenRequest::for_tenant(&tenant.id));
            succeed(&stage, &ask).await;
        }
    }
    (stage, tenants)
}

/// Lets the provider have what has become due, and returns the subjects of what it got.
async fn deliver(stage: &Stage) -> Vec<String> {
    let before = stage.mail.asked().len();
    stage.dispatch().await;
    stage.drain().await;
    let lost = "SELECT count(*) FROM harkara.deliveries WHERE state IN ('failed', 'dead')";
    assert_eq!(stage.count(lost).await, 0, "each of them can be sent");
    stage.mail.asked()[before..].iter().map(|mail| mail.subject.as_str().to_owned()).collect()
}

fn assert_has(subjects: &[String], expected: &[&str]) {
    for expected in expected {
        assert!(subjects.iter().any(|subject| subject == expected), "{expected} is not among {subjects:?}");
    }
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_readme_asks_the_api_is_taken_and_becomes_mails(pool: PgPool) {
    let (stage, tenants) = begin(pool).await;
    let steps = read_steps(&tenants);
    assert!(steps.len() > 25, "only {} steps were found", steps.len());
    for step in &steps {
        match step {
            Step::Ask(request) => _ = succeed(&stage, request).await,
            Step::Administer(sql) => {
                sqlx::raw_sql(*sql).execute(&stage.admin).await.expect("the administrator may");
            }
        }
    }
    assert_has(
        &deliver(&stage).await,
        &["Observation 42 is yours", "Audit visit", "Observation 42 needs somebody now"],
    );
    let links = |text: &String| text.matches("https://notices.harkara.test/v1/actions/").count();
    assert!(stage.mail.asked().iter().filter_map(|mail| mail.text.as_ref()).any(|text| links(text) == 2));

    stage.pass(Duration::from_secs(5 * 60 + 1)).await;
    stage.run_domain_jobs().await;
    let job = succeed(&stage, &ask(&tenants, "GET", "/v1/jobs/sla_monitor", "")).await;
    assert_eq!(job.body["status"], "succeeded", "{job:?}");
    let together = [
        "3 observations are assigned to you",
        "A response to observation 42 waits for your review",
        "Ticket 9 waits for an answer",
    ];
    assert_has(&deliver(&stage).await, &together);

    let response = json!({
        "category": "RESPONSE_SUBMITTED", "recipient": {"id": "auditor-7"},
        "data": {"observation": "42", "responder": "Meera Nair"},
    });
    succeed(&stage, &ask(&tenants, "POST", "/v1/notifications", &response.to_string())).await;
    stage.drain().await;
    stage.pass(Duration::from_secs(8 * 24 * 3600)).await;
    let counts = stage.close_digests().await;
    assert_eq!((counts.refused, counts.released), (0, 0), "{counts:?}");
    assert_has(&deliver(&stage).await, &["Your week in audit: 1 new"]);

    move_time_to(&stage.admin, "2030-12-01T12:30:00Z".parse::<Timestamp>().expect("a time")).await;
    let months =
        "CALL harkara.make_partitions('harkara.attempts', 1); CALL harkara.make_partitions('harkara.audit_log', 1)";
    sqlx::raw_sql(months).execute(&stage.admin).await.expect("the months are made");
    let counts = stage.remind().await;
    assert_eq!((counts.escalated, counts.failed), (1, 0), "{counts:?}");
    let counts = stage.escalate().await;
    assert_eq!((counts.canceled, counts.put_off, counts.stranded), (0, 0, 0), "{counts:?}");
    assert_has(&deliver(&stage).await, &["Overdue: observation 42", "The nightly import needs somebody now"]);
    stage.leave_work();
}

/// Roles are the cluster's, so all of it is rolled back.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_door_opens_as_readme_says_for_what_the_api_would_take(pool: PgPool) {
    let (stage, tenants) = begin(pool).await;
    let [open, ask_in_sql] = list_blocks("sql").try_into().expect("one block to open the door, and one to go through");
    let mut transaction = stage.admin.begin().await.expect("a transaction");
    // Somebody may have done so before, on the stack of the same cluster; a role that was granted anything there cannot be dropped.
    let make_room = "
        DO $$
        BEGIN
            IF to_regrole('dealer_app') IS NOT NULL THEN
                ALTER ROLE dealer_app RENAME TO dealer_app_of_before;
            END IF;
        END
        $$";
    sqlx::raw_sql(make_room).execute(&mut *transaction).await.expect("nobody is in the way");
    sqlx::raw_sql(open).execute(&mut *transaction).await.expect("the door is opened");
    let login = "SET LOCAL SESSION AUTHORIZATION dealer_app";
    sqlx::raw_sql(login).execute(&mut *transaction).await.expect("the domain logs in");
    let rows = sqlx::raw_sql(ask_in_sql).fetch_all(&mut *transaction).await.expect("the domain asks");
    assert_eq!(rows[1].try_get::<&str, _>(0).expect("an answer"), "canceled");
    transaction.rollback().await.expect("nothing happened");

    // The dispatcher would find out what is wrong with the data.
    let request = ask_in_sql.split('\'').nth(1).expect("a request");
    succeed(&stage, &ask(&tenants, "POST", "/v1/notifications", request)).await;
    stage.leave_work();
}
