//! The local Runtime API, driven by a function with a runtime of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use local::runtime_api::{Function, FunctionError};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(20);

fn binary() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/echo_function.py")
}

/// What the script needs to find its interpreter, and what the test adds.
fn env(extra: &[(&str, &str)]) -> Vec<(String, String)> {
    let path = std::env::var("PATH").expect("a PATH");
    let mut env = vec![("PATH".to_owned(), path)];
    env.extend(extra.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    env
}

async fn start() -> Function {
    Function::start(binary(), env(&[])).await.expect("the function starts")
}

async fn act(function: &Function, act: &str) -> Result<Value, FunctionError> {
    function.invoke(&json!({ "act": act }), LIMIT).await
}

#[tokio::test]
async fn an_event_goes_in_and_its_answer_comes_out() {
    let function = start().await;
    for n in 0..3 {
        let answer = function.invoke(&json!({ "n": n }), LIMIT).await.expect("an answer");
        assert_eq!(answer["event"]["n"], n);
    }
}

#[tokio::test]
async fn the_function_gets_lambdas_headers_with_the_deadline() {
    let function = start().await;
    let answer = function.invoke(&json!({}), LIMIT).await.expect("an answer");
    let headers = &answer["headers"];
    for name in ["lambda-runtime-aws-request-id", "lambda-runtime-invoked-function-arn", "lambda-runtime-trace-id"] {
        assert!(headers[name].as_str().is_some_and(|value| !value.is_empty()), "{name}");
    }
    let deadline: f64 =
        headers["lambda-runtime-deadline-ms"].as_str().and_then(|text| text.parse().ok()).expect("a number");
    let left = deadline - answer["now_ms"].as_f64().expect("a number");
    assert!((15_000.0..=20_001.0).contains(&left), "{left} ms left of 20,000");
}

#[tokio::test]
async fn the_function_sees_only_lambdas_and_the_given_environment() {
    let function =
        Function::start(binary(), env(&[("QUEUE_URL", "q"), ("_HANDLER", "own")])).await.expect("the function starts");
    let answer = function.invoke(&json!({}), LIMIT).await.expect("an answer");
    let seen = answer["env"].as_object().expect("a map");
    assert_eq!(seen["QUEUE_URL"], "q");
    assert_eq!(seen["_HANDLER"], "own", "a given variable goes before Lambda's");
    assert_eq!(seen["AWS_LAMBDA_FUNCTION_NAME"], "echo_function");
    for name in ["CARGO_MANIFEST_DIR", "HOME"] {
        assert!(!seen.contains_key(name), "{name} came through");
    }
}

#[tokio::test]
async fn a_handlers_error_is_reported_and_the_function_lives_on() {
    let function = start().await;
    let error = act(&function, "fail").await.expect_err("an error");
    assert!(
        matches!(&error, FunctionError::Failed { kind, message } if kind == "Handler.Error" && message == "as asked"),
        "{error}"
    );
    act(&function, "echo").await.expect("an answer");
}

#[tokio::test]
async fn an_answer_that_is_no_json_is_an_error_and_an_empty_one_is_null() {
    let function = start().await;
    let error = act(&function, "text").await.expect_err("an error");
    assert!(matches!(&error, FunctionError::NotJson(text) if text == "not json"), "{error}");
    assert_eq!(act(&function, "nothing").await.expect("an answer"), Value::Null);
}

#[tokio::test]
async fn an_answer_to_an_unknown_request_is_refused() {
    let function = start().await;
    assert_eq!(act(&function, "wrong-id").await.expect("an answer"), 400);
}

#[tokio::test]
async fn a_process_that_ends_tells_its_status_and_last_words() {
    let function = start().await;
    for _ in 0..2 {
        let error = act(&function, "exit").await.expect_err("an end");
        assert!(
            matches!(&error, FunctionError::Exited { status, last_lines }
                if status.contains('7') && last_lines.last().is_some_and(|line| line == "leaving")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_function_past_its_deadline_is_killed() {
    let function = start().await;
    let limit = Duration::from_millis(100);
    let error = function.invoke(&json!({"act": "hang"}), limit).await.expect_err("no answer");
    assert!(matches!(error, FunctionError::Timeout(_)), "{error}");
    assert_eq!(function.wait_for_exit().await, "killed");
    wait_for_end_of(function.pid()).await;
    let error = act(&function, "echo").await.expect_err("no process");
    assert!(matches!(error, FunctionError::Exited { .. }), "{error}");
}

#[tokio::test]
async fn a_killed_function_fails_the_invocation_that_it_had() {
    let function = start().await;
    let event = json!({"act": "hang"});
    let (result, ()) = tokio::join!(function.invoke(&event, LIMIT), async { function.kill() });
    let error = result.expect_err("an end");
    assert!(matches!(error, FunctionError::Exited { .. }), "{error}");
}

#[tokio::test]
async fn a_function_that_cannot_start_says_why() {
    let error = Function::start(binary(), env(&[("START", "report")])).await.expect_err("a report");
    assert!(
        matches!(&error, FunctionError::Init { kind, message } if kind == "Config.Missing" && message == "no QUEUE_URL"),
        "{error}"
    );
    let error = Function::start(binary(), env(&[("START", "exit")])).await.expect_err("an end");
    assert!(error.to_string().contains("gone before the first event"), "{error}");
    let limit = Duration::from_millis(100);
    let error = Function::start_within(limit, binary(), env(&[("START", "hang")])).await.expect_err("too slow");
    assert!(matches!(error, FunctionError::InitTimeout(_)), "{error}");
    let error = Function::start("no/such/binary", env(&[])).await.expect_err("no binary");
    assert!(matches!(error, FunctionError::Io(_)), "{error}");
}

#[tokio::test]
async fn several_functions_answer_at_the_same_time() {
    let (one, two) = tokio::join!(start(), start());
    assert_ne!(one.pid(), two.pid());
    let (first, second) = tokio::join!(act(&one, "echo"), act(&two, "echo"));
    first.expect("an answer");
    second.expect("an answer");
}

#[tokio::test]
async fn start_time_and_memory_are_measured() {
    let function = start().await;
    assert!(function.time_to_first_next() > Duration::from_millis(1), "an interpreter takes longer");
    let bytes = function.resident_memory_bytes().expect("it runs");
    assert!((1_000_000..500_000_000).contains(&bytes), "{bytes}");
    function.kill();
    wait_for_end_of(function.pid()).await;
    assert!(function.resident_memory_bytes().is_err());
}

#[tokio::test]
async fn dropping_a_function_kills_its_process_even_in_the_middle_of_an_event() {
    let function = start().await;
    let pid = function.pid();
    let event = json!({"act": "hang"});
    tokio::select! {
        result = function.invoke(&event, LIMIT) => panic!("no answer is due: {result:?}"),
        () = wait_until("the function hangs", || function.output() == ["hanging"]) => {}
    }
    drop(function);
    wait_for_end_of(pid).await;
}

/// Waits until a process is gone or only its exit status is left.
async fn wait_for_end_of(pid: u32) {
    let status_file = format!("/proc/{pid}/status");
    let is_zombie = |status: String| {
        let mut lines = status.lines();
        lines.any(|line| line.starts_with("State:") && line.contains('Z'))
    };
    let is_over = || std::fs::read_to_string(&status_file).map_or(true, is_zombie);
    wait_until("the process ends", is_over).await;
}

async fn wait_until(what: &str, is_met: impl Fn() -> bool) {
    let waiting = async {
        while !is_met() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.unwrap_or_else(|_| panic!("waited in vain: {what}"));
}
