//! One notification on its way, seen from outside: the API, the database through the API, the mailbox.

use std::sync::mpsc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::failure::{Failure, Outcome, While};
use crate::progress::{Progress, seconds};
use crate::project::Project;
use crate::stack::Stack;
use crate::up::{down, up};

/// How long the notification may take; the dispatcher would publish a lost message within a minute.
const PATIENCE: Duration = Duration::from_secs(90);

/// What the demo does at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtTheEnd {
    /// Leaves the stack up until Ctrl-C.
    KeepRunning,
    /// Ends the stack.
    GoDown,
}

/// Sets the stack up, sends a notification, shows it arrive, prints the addresses.
///
/// Errors: the stack does not come up, or the mail does not arrive.
pub fn demo(project: &Project, at_the_end: AtTheEnd) -> Outcome<()> {
    let progress = Progress::new();
    eprintln!("Setting up in .local/: the first time takes minutes (the functions are built for release), later seconds.");
    let (ended, end) = mpsc::channel();
    if at_the_end == AtTheEnd::KeepRunning {
        watch_for_ctrl_c(ended)?;
    }
    let shown = up(project, &progress).and_then(|stack| send_one(&stack).map(|()| stack));
    let shown = match shown {
        Ok(stack) => {
            print_addresses(&stack, at_the_end);
            if at_the_end == AtTheEnd::KeepRunning {
                // An error means that nobody can press Ctrl-C any more.
                let _ = end.recv();
                println!();
            }
            Ok(())
        }
        Err(failure) => Err(failure),
    };
    println!("Ending everything …");
    down(project)?;
    shown
}

fn watch_for_ctrl_c(ended: mpsc::Sender<()>) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .while_doing("watching for Ctrl-C")?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let mut end = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).ok();
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                Some(_) = async { end.as_mut()?.recv().await } => {}
            }
        });
        // A second Ctrl-C ends the command at once; what runs is ended by `cargo local down`.
        let _ = ended.send(());
    });
    Ok(())
}

/// Posts a notification and prints one line per stage of its way.
fn send_one(stack: &Stack) -> Outcome<()> {
    let body = json!({
        "category": "OBSERVATION_ASSIGNED",
        "recipient": {"id": "auditor-7"},
        "data": {"observation": "42", "due": "2026-12-01"},
    });
    println!();
    println!("POST {}/v1/notifications", stack.api_url);
    println!("     {body}");
    println!();
    let started = Instant::now();
    let line = |text: &str| println!("{}  {text}", seconds(started.elapsed()));

    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut response = agent
        .post(format!("{}/v1/notifications", stack.api_url))
        .header("Authorization", format!("Bearer {}", stack.token))
        .send_json(&body)
        .while_doing("posting the notification")?;
    let status = response.status();
    let answer: Value = response.body_mut().read_json().while_doing("reading the answer")?;
    let Some(id) = answer["id"].as_str().filter(|_| status == 202) else {
        return Err(Failure::new(format!("the API answered {status}: {answer}"))
            .with_advice("See `cargo local logs enqueue` while `cargo local up` keeps the stack up."));
    };
    line(&format!("accepted    202, {id} is stored"));

    let mut last_state = String::new();
    let mut sent = false;
    loop {
        if !sent {
            let notification: Value = agent
                .get(format!("{}/v1/notifications/{id}", stack.api_url))
                .header("Authorization", format!("Bearer {}", stack.token))
                .call()
                .while_doing("asking for the notification")?
                .body_mut()
                .read_json()
                .while_doing("reading the notification")?;
            let delivery = &notification["deliveries"][0];
            let state = delivery["state"].as_str().unwrap_or_default();
            if state != last_state {
                line(&describe(state, delivery));
                state.clone_into(&mut last_state);
            }
            sent = matches!(state, "sent" | "delivered");
            if matches!(state, "failed" | "dead" | "skipped" | "canceled" | "expired" | "bounced") {
                return Err(Failure::new(format!("the delivery ended {state}: {delivery}")));
            }
        }
        if sent && let Some(mail) = find_mail(&agent, stack, id)? {
            line(&format!(
                "in mailbox  \"{}\" to {}",
                mail["subject"].as_str().unwrap_or_default(),
                mail["destination"]["to"][0].as_str().unwrap_or_default()
            ));
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            return Err(Failure::new(format!("the mail did not arrive within {} s; the delivery is {last_state}", PATIENCE.as_secs()))
                .with_advice("See `cargo local logs processor` while `cargo local up` keeps the stack up."));
        }
        sleep(Duration::from_millis(50));
    }
}

fn describe(state: &str, delivery: &Value) -> String {
    let attempts = delivery["attempts"].as_array().map_or(0, Vec::len);
    match state {
        "scheduled" => "scheduled   waits in Postgres until it is due".to_owned(),
        "queued" => "queued      a message on SQS says that there is work".to_owned(),
        "sending" => "claimed     the processor holds the claim for attempt 1".to_owned(),
        "sent" | "delivered" => format!("{state:<11} SES took it; attempt {} is recorded", attempts.max(1)),
        other => format!("{other:<11} attempts so far: {attempts}"),
    }
}

/// The mail of this notification: the mailbox keeps the tag that names it.
fn find_mail(agent: &ureq::Agent, stack: &Stack, id: &str) -> Outcome<Option<Value>> {
    let mut response =
        agent.get(format!("{}/store", stack.mailbox_url)).call().while_doing("looking into the mailbox")?;
    let store: Value = response.body_mut().read_json().while_doing("looking into the mailbox")?;
    let mails = store["emails"].as_array().cloned().unwrap_or_default();
    Ok(mails.into_iter().rev().find(|mail| mail.to_string().contains(id)))
}

fn print_addresses(stack: &Stack, at_the_end: AtTheEnd) {
    println!();
    println!("Mailbox  {}", stack.mailbox_url);
    println!("API      {}", stack.api_url);
    if at_the_end == AtTheEnd::GoDown {
        return;
    }
    println!();
    println!("Send another one:");
    println!();
    println!("  curl {}/v1/notifications \\", stack.api_url);
    println!("    -H \"Authorization: Bearer $(cargo local token)\" -H 'Content-Type: application/json' \\");
    println!(
        "    -d '{{\"category\": \"OBSERVATION_ASSIGNED\", \"recipient\": {{\"id\": \"auditor-7\"}}, \"data\": {{\"observation\": \"43\", \"due\": \"2026-12-01\"}}}}'"
    );
    println!();
    println!("Ctrl-C ends everything.");
}
