//! What the functions of the running stack have logged.

use serde_json::{Value, json};

use crate::aws::Aws;
use crate::deploy::STACK;
use crate::emulator::Emulator;
use crate::failure::{Failure, Outcome};
use crate::project::{FUNCTIONS, Project};
use crate::state::State;

/// Prints the logs of one function, or of all.
///
/// Errors: the stack is not up.
pub fn print(project: &Project, function: Option<&str>) -> Outcome<()> {
    let emulator = State::read(project).emulator.filter(Emulator::is_alive).ok_or_else(|| {
        Failure::new("the stack is not up").with_advice(format!(
            "Run `cargo local up` first; the logs of last time are in {}.",
            project.log("functions").display()
        ))
    })?;
    let names = function.map_or_else(|| FUNCTIONS.to_vec(), |name| vec![name]);
    for line in read(&Aws::new(emulator.url()), &names)? {
        println!("{line}");
    }
    Ok(())
}

/// The functions' lines in the order of their time, each with its function's name.
///
/// Errors: the emulator refuses.
pub fn read(aws: &Aws, functions: &[&str]) -> Outcome<Vec<String>> {
    let mut lines = Vec::new();
    for name in functions {
        let mut next = Value::Null;
        loop {
            let mut body = json!({"logGroupName": format!("/aws/lambda/{STACK}-{name}"), "limit": 10000});
            if !next.is_null() {
                body["nextToken"] = next;
            }
            let answer = aws.json("logs", "Logs_20140328.FilterLogEvents", &body)?;
            for event in answer["events"].as_array().into_iter().flatten() {
                let text = event["message"].as_str().unwrap_or_default().trim_end();
                lines.push((event["timestamp"].as_i64().unwrap_or_default(), format!("{name}: {text}")));
            }
            next = answer["nextToken"].clone();
            if next.is_null() {
                break;
            }
        }
    }
    // Stable: lines of one invocation have one time and keep their order.
    lines.sort_by_key(|(time, _)| *time);
    Ok(lines.into_iter().map(|(_, line)| line).collect())
}
