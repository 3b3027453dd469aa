//! The public pages in a real browser: seen by axe, by the keyboard, on narrow screens, without scripts.
//!
//! `cargo local test` installs the browser and names it in `HARKARA_BROWSER`; `tests/browser/look.mjs` drives it.
//! A server on this machine does what API Gateway does and hands each request to the flow, on a real Postgres.

use crate::action_links::sign_action;
use crate::links::{sign, subject_of};
use crate::project::root;
use adapters::envelope::Envelope;
use adapters::store::keys::LinkKeys;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::Response;
use domain::link::LinkAction;
use flow::api::Api;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::process::Stdio;
use std::sync::Arc;
use tests::{RecordingBus, RecordingQueue, ScriptedKeyService, Stage, TENANT, ask_page};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;

/// More than a form of the pages.
const MAX_BODY: usize = 1024 * 1024;

type TestApi = Api<RecordingQueue, ScriptedKeyService, RecordingBus>;

/// What API Gateway does: finds the route, and hands over what was asked.
async fn hand_over(State(api): State<Arc<TestApi>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let (path, token) = head.uri.path().rsplit_once('/').expect("a path");
    let route = format!("{} {path}/{{token}}", head.method);
    let headers: Vec<_> =
        head.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default())).collect();
    let body = String::from_utf8(to_bytes(body, MAX_BODY).await.expect("a body").to_vec()).expect("a form is text");
    let page = ask_page(&api, &route, token, &headers, &body).await;
    let answer = Response::builder().status(page.status);
    let answer = page
        .headers
        .iter()
        .fold(answer, |answer, (name, value)| answer.header(name, value.as_str().expect("a header is a text")));
    answer.body(Body::from(page.body)).expect("an answer")
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo local test`"))
}

/// An escalation that has not fired anything yet.
async fn start_escalation(stage: &Stage) -> String {
    let start = json!({"policy": "critical", "data": {"name": "Ada"}}).to_string();
    let answer = stage.call(TENANT, "POST /v1/escalations", None, "", &start).await;
    answer.body["escalation"]["id"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

/// Runs the look at the pages and returns what it says of each promise.
async fn look(wanted: &Value) -> Vec<(String, Option<String>)> {
    let folder = variable("HARKARA_BROWSER");
    // The browser unpacks itself to the folder of temporary files.
    let unpacked = std::path::Path::new(&folder).join("unpacked");
    std::fs::create_dir_all(&unpacked).expect("a folder");
    let mut child = Command::new(variable("HARKARA_NODE"))
        .arg(root().join("tests/browser/look.mjs"))
        .env("TMPDIR", unpacked)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("Node starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(wanted.to_string().as_bytes()).await.expect("Node reads");
    drop(stdin);
    let output = child.wait_with_output().await.expect("Node ends");
    assert!(output.status.success(), "look.mjs ended with {}", output.status);
    let lines = String::from_utf8(output.stdout).expect("text");
    let said = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    said.map(|line| {
        (line["promise"].as_str().expect("a promise").to_owned(), line["broken"].as_str().map(str::to_owned))
    })
    .collect()
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_pages_work_for_whoever_opens_them(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let put = async |path: &str, key: &str, body: Value| stage.put(TENANT, path, key, body).await;
    let news = json!({"class": "marketing", "template": "greeting", "name": "Product news",
                      "description": "What is new, once a month."});
    put("/v1/categories/{key}", "news", news).await;
    let digest =
        json!({"class": "digest", "template": "greeting", "name": "Weekly digest", "unmutable_roles": ["CAE"]});
    put("/v1/categories/{key}", "weekly_digest", digest).await;
    let person = |locale: Option<&str>| json!({"email": "ada@example.org", "phone": "+919812345678", "locale": locale, "roles": ["CAE"]});
    put("/v1/recipients/{id}", "ada", person(None)).await;
    put("/v1/recipients/{id}", "asha", person(Some("hi-IN"))).await;
    let (ada, asha) = (subject_of(&pool, TENANT, "ada").await, subject_of(&pool, TENANT, "asha").await);

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base = format!("http://{}/v1", listener.local_addr().expect("an address"));
    // Another instance of the same function.
    let api = Api {
        database: stage.api.database.clone(),
        queue: stage.queue.clone(),
        bus: stage.bus.clone(),
        keys: LinkKeys::new(Arc::new(Envelope::new(stage.key_service.clone()))),
        public_url: stage.api.public_url.clone(),
        sender: stage.api.sender.clone(),
        local_endpoints: stage.api.local_endpoints.clone(),
    };
    let server = tokio::spawn(async move {
        let router = Router::new().fallback(hand_over).with_state(Arc::new(api));
        axum::serve(listener, router).await
    });
    let link = |page: &str, token: &str| format!("{base}/{page}/{token}");
    let token = async |subject, category| sign(&stage, TENANT, subject, category).await;
    let (leave, leave_all) = (token(ada, Some("news")).await, token(ada, None).await);
    let locked = token(ada, Some("weekly_digest")).await;
    let policy = json!({"category": "greeting", "steps": [{"delay": "PT1H", "recipients": ["ada", "asha"]}]});
    put("/v1/escalation-policies/{key}", "critical", policy).await;
    let action = async |recipient, action| {
        let escalation = start_escalation(&stage).await;
        sign_action(&stage, TENANT, recipient, &escalation, action).await
    };
    let acknowledge = action("ada", LinkAction::Acknowledge).await;
    let resolve = action("asha", LinkAction::Resolve).await;
    let used = action("ada", LinkAction::Resolve).await;
    let form = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(ask_page(&stage.api, "POST /v1/actions/{token}", &used, &form, "confirm=1").await.status, 200);
    let walks = [action("ada", LinkAction::Acknowledge).await, action("ada", LinkAction::Acknowledge).await];
    let (hindi, other) = (token(asha, Some("news")).await, token(asha, None).await);
    let page = |name: &str, page: &str, token: &str, lang: &str, status: u16| json!({"name": name, "url": link(page, token), "lang": lang, "status": status});
    let wanted = json!({
        "pages": [
            page("unsubscribe", "unsubscribe", &leave, "en", 200),
            page("unsubscribe-all", "unsubscribe", &leave_all, "en", 200),
            page("mandatory", "unsubscribe", &locked, "en", 200),
            page("preferences", "preference-center", &leave, "en", 200),
            page("not-found", "unsubscribe", "forged", "en", 404),
            page("unsubscribe-hindi", "unsubscribe", &hindi, "hi", 200),
            page("preferences-hindi", "preference-center", &other, "hi", 200),
            page("acknowledge", "actions", &acknowledge, "en", 200),
            page("resolve-hindi", "actions", &resolve, "hi", 200),
            page("link-used", "actions", &used, "en", 410),
        ],
        "walk": {
            "unsubscribe": link("unsubscribe", &leave), "preferences": link("preference-center", &leave),
            "acknowledge": walks.map(|token| link("actions", &token)),
        },
    });
    let said = look(&wanted).await;
    server.abort();
    stage.finish().await;
    let broken: Vec<_> = said
        .iter()
        .filter_map(|(promise, broken)| broken.as_ref().map(|broken| format!("{promise}\n    {broken}")))
        .collect();
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
    // 10 pages with two schemes, two widths, one look and one walk with the keyboard; 4 ways through them, twice.
    assert_eq!(said.len(), 10 * 6 + 4 * 2, "{said:?}");
}
