//! One notification on its way, seen from outside: the API, the database through the API, the mailbox.

use std::thread::sleep;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::failure::{Failure, Outcome, While};
use crate::interrupt;
use crate::progress::Progress;
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
    eprintln!(
        "Setting up in .local/: the first time takes minutes (the functions are built for release), later seconds."
    );
    let end = interrupt::watch()?;
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

/// Posts a notification and prints one line per stage of its way.
///
/// What the database recorded is shown with the database's times: the stages are quicker than anybody could ask.
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
    let mut way = Way::start();
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut response = agent
        .post(format!("{}/v1/notifications", stack.api_url))
        .header("Authorization", format!("Bearer {}", stack.token))
        .send_json(&body)
        .while_doing("posting the notification")?;
    let status = response.status();
    let accepted = Timestamp::now();
    let answer: Value = response.body_mut().read_json().while_doing("reading the answer")?;
    let Some(id) = answer["id"].as_str().filter(|_| status == 202) else {
        return Err(Failure::new(format!("the API answered {status}: {answer}"))
            .with_advice("The functions' logs are kept in .local/logs/functions.log."));
    };

    loop {
        let notification: Value = agent
            .get(format!("{}/v1/notifications/{id}", stack.api_url))
            .header("Authorization", format!("Bearer {}", stack.token))
            .call()
            .while_doing("asking for the notification")?
            .body_mut()
            .read_json()
            .while_doing("reading the notification")?;
        let delivery = &notification["deliveries"][0];
        let attempt = &delivery["attempts"][0];
        way.pass("stored", &notification["created_at"], "a row in Postgres, then a message on SQS");
        way.pass_at("accepted", accepted, &format!("202, {id}"));
        way.pass("claimed", &attempt["started_at"], "the processor has the right to attempt 1, until its lease ends");
        way.pass("sent", &delivery["sent_at"], "SES took it, and the attempt is recorded");
        let state = delivery["state"].as_str().unwrap_or_default();
        if matches!(state, "failed" | "dead" | "skipped" | "canceled" | "expired" | "bounced") {
            return Err(Failure::new(format!("the delivery ended {state}: {delivery}")));
        }
        if let Some(mail) = find_mail(&agent, stack, id)? {
            let subject = mail["subject"].as_str().unwrap_or_default();
            let to = mail["destination"]["to"][0].as_str().unwrap_or_default();
            if way.has_passed("sent") {
                way.pass_at("in mailbox", Timestamp::now(), &format!("\"{subject}\" to {to}"));
                return Ok(());
            }
        }
        if way.elapsed() > PATIENCE {
            return Err(Failure::new(format!(
                "the mail did not arrive within {} s; the delivery is {state}",
                PATIENCE.as_secs()
            ))
            .with_advice("The functions' logs are kept in .local/logs/functions.log."));
        }
        sleep(Duration::from_millis(20));
    }
}

/// The stages that were passed, each printed once.
struct Way {
    start: Timestamp,
    passed: Vec<&'static str>,
}

impl Way {
    fn start() -> Self {
        Self { start: Timestamp::now(), passed: Vec::new() }
    }

    /// Passes a stage at a time that the API names, if it names one.
    fn pass(&mut self, stage: &'static str, at: &Value, text: &str) {
        if let Some(at) = at.as_str().and_then(|at| at.parse().ok()) {
            self.pass_at(stage, at, text);
        }
    }

    fn pass_at(&mut self, stage: &'static str, at: Timestamp, text: &str) {
        if !self.has_passed(stage) {
            self.passed.push(stage);
            let after = Duration::try_from(at.duration_since(self.start)).unwrap_or_default();
            println!("{:7.3} s  {stage:<11} {text}", after.as_secs_f64());
        }
    }

    fn has_passed(&self, stage: &str) -> bool {
        self.passed.contains(&stage)
    }

    fn elapsed(&self) -> Duration {
        Duration::try_from(Timestamp::now().duration_since(self.start)).unwrap_or_default()
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
