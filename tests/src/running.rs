//! The running stack as its callers meet it: over HTTP, with tokens, a mailbox and nothing of the code.
//!
//! `cargo local test` starts the stack and names its page in `HARKARA_STACK`.

use crate::privacy::{CANARIES, find_leaks, find_personal_forms};
use local::aws::Aws;
use local::logs;
use local::project::FUNCTIONS;
use local::stack::Stack;
use serde_json::Value;
use std::time::{Duration, Instant};

/// The dispatcher runs each minute, and retries wait up to half of one.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the API answered.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: ureq::http::HeaderMap,
    /// The body; null where it is no JSON.
    pub body: Value,
}

/// How to reach the stack.
pub fn stack() -> Stack {
    let page = std::env::var("HARKARA_STACK").expect("these tests need the stack: run `cargo local test`");
    let text = std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{page}: {error}; run `cargo local up`"));
    serde_json::from_str(&text).expect("the stack's page is JSON")
}

/// A token as an identity provider of the deployment would sign it.
pub fn sign_token(stack: &Stack, claims: Value) -> String {
    let mut answer = agent().post(format!("{}/token", stack.issuer_url)).send_json(claims).expect("answered");
    let signed: Value = answer.body_mut().read_json().expect("JSON");
    signed["access_token"].as_str().unwrap_or_else(|| panic!("a token: {signed}")).to_owned()
}

/// A client that takes every status for an answer.
pub fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(20)))
        .build()
        .into()
}

/// Reads a page of one of the stack's own servers.
pub fn read(url: &str) -> Value {
    agent().get(url).call().expect("answered").body_mut().read_json().expect("JSON")
}

/// Asks the API.
pub fn ask(stack: &Stack, token: &str, method: &str, path: &str, body: &str, key: Option<&str>) -> Reply {
    let mut request = ureq::http::Request::builder()
        .method(method)
        .uri(format!("{}{path}", stack.api_url))
        .header("authorization", format!("Bearer {token}"));
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let request = request.header("content-type", "application/json").body(body.to_owned()).expect("a request");
    let mut response = agent().run(request).expect("the API answers");
    let body: Value = response.body_mut().read_json().unwrap_or_default();
    Reply { status: response.status().as_u16(), headers: response.headers().clone(), body }
}

/// The mails for an address in the mailbox.
pub fn mails(stack: &Stack, to: &str) -> Vec<Value> {
    let store = read(&format!("{}/store", stack.mailbox_url));
    let mails = store["emails"].as_array().expect("a list").iter();
    mails.filter(|mail| mail["destination"]["to"].to_string().contains(to)).cloned().collect()
}

/// Waits until `look` finds something; fails with `what` after the tests' patience.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(200));
    }
}

/// Everything that the stack's functions have logged since it is up.
pub fn read_logs(stack: &Stack) -> Vec<String> {
    logs::read(&Aws::new(&stack.aws_endpoint_url), &FUNCTIONS).expect("the emulator has the functions' logs")
}

/// Fails where a line of the functions' logs holds what was planted, one of `secrets`, or anything of the form of an
/// address or a token. It looks at the whole run so far, of every test.
pub fn check_logs(stack: &Stack, secrets: &[&str]) {
    for line in read_logs(stack) {
        let mut found = find_leaks(&line, CANARIES);
        found.extend(find_leaks(&line, secrets));
        found.extend(find_personal_forms(&line));
        assert!(found.is_empty(), "a log holds {found:?}: {line}");
    }
}

/// The gate before SQS, shut until this is dropped, whatever becomes of the test.
pub struct ShutGate {
    url: String,
}

impl ShutGate {
    /// Shuts it.
    pub fn before_sqs(stack: &Stack) -> Self {
        let gate = Self { url: format!("{}/gates/sqs", stack.issuer_url) };
        gate.set("shut");
        gate
    }

    fn set(&self, state: &str) {
        let answer = agent().put(&self.url).send_json(state).expect("answered");
        assert!(answer.status().is_success(), "{answer:?}");
    }
}

impl Drop for ShutGate {
    fn drop(&mut self) {
        self.set("open");
    }
}
