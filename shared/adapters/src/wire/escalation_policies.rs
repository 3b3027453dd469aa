//! Escalation policies: the body that puts one, which is what is stored, too, and what is shown of them.

use super::fields::{FieldError, Fields};
use super::problem::Problem;
use super::recipients::parse_role;
use crate::store::escalation_policies::PolicyRow;
use domain::category::Priority;
use domain::delivery::Channel;
use domain::escalation::{
    Acknowledgement, LAST_WAIT_DEFAULT_SECONDS, MAX_NAMED, MAX_REPEATS, MAX_STEPS, MAX_TIERS, Policy, Repeat, Step,
    Tier, Whom, parse_delay,
};
use domain::id::{CategoryKey, RecipientKey};
use domain::link::LINK_LIFETIME_DEFAULT_SECONDS;
use domain::moment::Window;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// The most that a policy says, in bytes of JSON as it is shown: each escalation has a copy, and a list many.
pub const MAX_DEFINITION_BYTES: usize = 64 * 1024;
/// The word for the managers of the level before.
const MANAGER: &str = "manager";
/// What stands before a role.
const ROLE: &str = "role:";

/// Reads the body of `PUT /v1/escalation-policies/{key}`.
pub fn read_policy(body: &Value) -> Result<Policy, Problem> {
    let policy = read_definition(body).map_err(Problem::invalid)?;
    let mut errors = find_silent_steps(&policy);
    if print_definition(&policy).to_string().len() > MAX_DEFINITION_BYTES {
        let detail = format!(
            "name so much that the policy has more than {MAX_DEFINITION_BYTES} bytes of JSON; a role names many"
        );
        errors.push(FieldError::new("/steps", detail));
    }
    if errors.is_empty() { Ok(policy) } else { Err(Problem::invalid(errors)) }
}

/// Steps that reach nobody, because none of their channels can be sent by now.
fn find_silent_steps(policy: &Policy) -> Vec<FieldError> {
    let is_silent = |step: &Step| {
        let mut channels = step.tiers.iter().flat_map(|tier| &tier.channels);
        !channels.any(|channel| Channel::SENDABLE.contains(channel))
    };
    let sendable = Channel::SENDABLE.iter().map(|channel| channel.as_str()).collect::<Vec<_>>().join(", ");
    let detail = format!("reach nobody: one of them must have a channel that can be sent, which is {sendable}");
    let steps = policy.steps.iter().enumerate().filter(|(_, step)| is_silent(step));
    steps.map(|(place, _)| FieldError::new(format!("/steps/{place}/tiers"), &*detail)).collect()
}

/// Reads a policy: as it is put, and as it was stored with one that runs.
pub fn read_definition(body: &Value) -> Result<Policy, Vec<FieldError>> {
    let mut fields = Fields::of(body, "").map_err(|error| vec![error])?;
    let category = fields.parsed("category", CategoryKey::parse);
    fields.require("category", &category);
    let priority = fields.named("priority", Priority::parse, Priority::ALL, Priority::as_str);
    let acknowledgement =
        fields.named("acknowledgement", Acknowledgement::parse, Acknowledgement::ALL, Acknowledgement::as_str);
    let repeat = fields.object("repeat", read_repeat);
    let last_wait = fields.parsed("exhausted_after", parse_delay);
    let link_lifetime = fields.parsed("link_lifetime", parse_delay);
    let entries = fields.list("steps");
    fields.require("steps", &entries);
    if entries.is_some_and(|entries| entries.is_empty() || entries.len() > MAX_STEPS) {
        fields.wrong("steps", format_args!("must have 1 to {MAX_STEPS} entries"));
    }
    let mut steps = Vec::new();
    for (place, entry) in entries.into_iter().flatten().enumerate() {
        match read_step(entry, &format!("/steps/{place}"), place) {
            Ok(step) => steps.push(step),
            Err(errors) => fields.extend(errors),
        }
    }
    fields.finish()?;
    let category = category.ok_or_else(Vec::new)?;
    let policy = Policy {
        category,
        priority: priority.unwrap_or(Priority::High),
        steps,
        repeat: repeat.unwrap_or_default(),
        acknowledgement: acknowledgement.unwrap_or(Acknowledgement::Any),
        last_wait_seconds: last_wait.unwrap_or(LAST_WAIT_DEFAULT_SECONDS),
        link_lifetime_seconds: link_lifetime.unwrap_or(LINK_LIFETIME_DEFAULT_SECONDS),
    };
    let late = find_late_tiers(&policy);
    if late.is_empty() { Ok(policy) } else { Err(late) }
}

fn read_repeat(value: &Value, pointer: String) -> Result<Repeat, Vec<FieldError>> {
    let mut fields = Fields::of(value, pointer).map_err(|error| vec![error])?;
    let count = fields.number("count", 1, MAX_REPEATS);
    fields.require("count", &count);
    let interval = fields.parsed("interval", parse_delay);
    fields.require("interval", &interval);
    fields.finish()?;
    count.zip(interval).map(|(count, interval_seconds)| Repeat { count, interval_seconds }).ok_or_else(Vec::new)
}

fn read_step(value: &Value, pointer: &str, place: usize) -> Result<Step, Vec<FieldError>> {
    let mut fields = Fields::of(value, pointer).map_err(|error| vec![error])?;
    let delay = fields.parsed("delay", parse_delay);
    if place > 0 {
        fields.require("delay", &delay);
    }
    let category = fields.parsed("category", CategoryKey::parse);
    let whom = fields.parsed_list("recipients", parse_whom);
    fields.require("recipients", &whom);
    if whom.as_ref().is_some_and(|whom| whom.is_empty() || whom.len() > MAX_NAMED) {
        fields.wrong("recipients", format_args!("must have 1 to {MAX_NAMED} entries"));
    }
    let mut seen = BTreeSet::new();
    for (at, whom) in whom.iter().flatten().enumerate() {
        let pointer = format!("{pointer}/recipients/{at}");
        if !seen.insert(whom) {
            fields.extend([FieldError::new(&pointer, "is in the list already")]);
        }
        if *whom == Whom::Manager && place == 0 {
            fields.extend([FieldError::new(&pointer, "has no level before it whose managers these could be")]);
        }
    }
    let tiers = read_tiers(&mut fields, pointer);
    fields.finish()?;
    Ok(Step { delay_seconds: delay.unwrap_or_default(), category, whom: whom.unwrap_or_default(), tiers })
}

fn read_tiers(fields: &mut Fields<'_>, pointer: &str) -> Vec<Tier> {
    let Some(entries) = fields.list("tiers") else {
        return vec![Tier { channels: BTreeSet::from([Channel::Email]), after_seconds: 0 }];
    };
    if entries.is_empty() || entries.len() > MAX_TIERS {
        fields.wrong("tiers", format_args!("must have 1 to {MAX_TIERS} entries"));
    }
    let mut tiers: Vec<Tier> = Vec::new();
    for (place, entry) in entries.iter().enumerate() {
        let pointer = format!("{pointer}/tiers/{place}");
        match read_tier(entry, &pointer, place) {
            Ok(tier) => {
                let twice =
                    tier.channels.iter().find(|channel| tiers.iter().any(|tier| tier.channels.contains(channel)));
                if let Some(channel) = twice {
                    let detail = format!("has {channel}, which an earlier tier has already");
                    fields.extend([FieldError::new(format!("{pointer}/channels"), detail)]);
                }
                tiers.push(tier);
            }
            Err(errors) => fields.extend(errors),
        }
    }
    tiers
}

fn read_tier(value: &Value, pointer: &str, place: usize) -> Result<Tier, Vec<FieldError>> {
    let mut fields = Fields::of(value, pointer).map_err(|error| vec![error])?;
    let channels = fields.parsed_list("channels", |text| {
        let names: Vec<_> = Channel::ALL.iter().map(|channel| channel.as_str()).collect();
        Channel::parse(text).ok_or_else(|| format!("must be one of {}", names.join(", ")))
    });
    fields.require("channels", &channels);
    if channels.as_ref().is_some_and(Vec::is_empty) {
        fields.wrong("channels", "must name at least one channel");
    }
    let after = fields.parsed("after", parse_delay);
    match place {
        0 if after.is_some() => fields.wrong("after", "is for the tiers behind the first"),
        0 => {}
        _ => fields.require("after", &after),
    }
    fields.finish()?;
    let channels = channels.into_iter().flatten().collect();
    Ok(Tier { channels, after_seconds: after.unwrap_or_default() })
}

/// Tiers that would never be used, because what comes after their step comes first.
fn find_late_tiers(policy: &Policy) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (place, step) in policy.steps.iter().enumerate() {
        let level = u32::try_from(place + 1).unwrap_or(u32::MAX);
        let waits = [0, policy.repeat.count].map(|repeat| policy.wait_after(repeat, level));
        let wait = waits.into_iter().min().unwrap_or_default();
        let mut sum = 0;
        for (at, tier) in step.tiers.iter().enumerate() {
            sum += tier.after_seconds;
            if sum >= wait {
                let detail = "is not before what comes after the step: the next one, the repetition, or the end";
                errors.push(FieldError::new(format!("/steps/{place}/tiers/{at}/after"), detail));
            }
        }
    }
    errors
}

fn parse_whom(text: &str) -> Result<Whom, String> {
    if text == MANAGER {
        return Ok(Whom::Manager);
    }
    match text.strip_prefix(ROLE) {
        Some(role) => parse_role(role).map(Whom::Role),
        None => RecipientKey::parse(text).map(Whom::Recipient).map_err(|error| error.to_string()),
    }
}

fn print_whom(whom: &Whom) -> String {
    match whom {
        Whom::Recipient(key) => key.as_str().to_owned(),
        Whom::Role(role) => format!("{ROLE}{role}"),
        Whom::Manager => MANAGER.to_owned(),
    }
}

/// A policy as it is read again.
pub fn print_definition(policy: &Policy) -> Value {
    let Policy { category, priority, steps, repeat, acknowledgement, last_wait_seconds, link_lifetime_seconds } =
        policy;
    let mut definition = json!({
        "category": category.as_str(),
        "priority": priority.as_str(),
        "steps": steps.iter().map(print_step).collect::<Value>(),
        "acknowledgement": acknowledgement.as_str(),
        "exhausted_after": print_delay(*last_wait_seconds),
        "link_lifetime": print_delay(*link_lifetime_seconds),
    });
    if repeat.count > 0 {
        definition["repeat"] = json!({"count": repeat.count, "interval": print_delay(repeat.interval_seconds)});
    }
    definition
}

fn print_step(step: &Step) -> Value {
    let Step { delay_seconds, category, whom, tiers } = step;
    let mut printed = Map::new();
    if let Some(delay) = print_delay(*delay_seconds) {
        printed.insert("delay".to_owned(), delay.into());
    }
    if let Some(category) = category {
        printed.insert("category".to_owned(), category.as_str().into());
    }
    printed.insert("recipients".to_owned(), whom.iter().map(print_whom).collect());
    let tier = |tier: &Tier| {
        let Tier { channels, after_seconds } = tier;
        let mut printed = json!({"channels": channels.iter().map(|channel| channel.as_str()).collect::<Value>()});
        if let Some(after) = print_delay(*after_seconds) {
            printed["after"] = after.into();
        }
        printed
    };
    printed.insert("tiers".to_owned(), tiers.iter().map(tier).collect());
    Value::Object(printed)
}

fn print_delay(seconds: u32) -> Option<String> {
    Window::from_seconds(seconds.into()).ok().map(|window| window.to_string())
}

/// A policy.
pub fn print_policy(row: &PolicyRow) -> Value {
    let PolicyRow { key, definition, updated_at } = row;
    let mut printed = definition.clone();
    printed["key"] = key.as_str().into();
    printed["updated_at"] = updated_at.to_string().into();
    printed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Value {
        json!({
            "category": "CRITICAL",
            "priority": "critical",
            "steps": [
                {"recipients": ["ada", "role:Head of audit"],
                 "tiers": [{"channels": ["email", "push"]}, {"channels": ["sms"], "after": "PT10M"}]},
                {"delay": "PT30M", "recipients": ["manager"], "category": "URGENT", "tiers": [{"channels": ["email"]}]},
            ],
            "repeat": {"count": 2, "interval": "PT1H"},
            "acknowledgement": "each",
            "exhausted_after": "PT2H",
            "link_lifetime": "P1D",
        })
    }

    #[test]
    fn a_policy_is_read_as_it_was_printed() {
        let read = read_definition(&example()).expect("read");
        assert_eq!(print_definition(&read), example());
        let short = json!({"category": "CRITICAL", "steps": [{"recipients": ["ada"]}]});
        let read = read_definition(&short).expect("read");
        assert_eq!(read_definition(&print_definition(&read)), Ok(read));
    }

    #[test]
    fn a_policy_that_says_very_much_is_refused_when_it_is_put() {
        let with = |length: usize| {
            let names: Vec<_> = (0..MAX_NAMED).map(|n| format!("{n:0length$}")).collect();
            let step = json!({"delay": "PT1H", "recipients": names});
            read_policy(&json!({"category": "CRITICAL", "steps": vec![step; MAX_STEPS]}))
        };
        assert!(with(28).is_ok());
        let errors = with(36).expect_err("refused").errors;
        assert_eq!(errors.iter().map(|error| error.pointer.as_str()).collect::<Vec<_>>(), ["/steps"]);
    }

    #[test]
    fn what_could_never_be_done_is_named_by_its_pointer() {
        let table: [(&str, Value, &[&str]); 17] = [
            ("/steps", json!([]), &["/steps"]),
            ("/steps/0/recipients", json!([]), &["/steps/0/recipients"]),
            ("/steps/0/recipients", json!(["ada", "ada"]), &["/steps/0/recipients/1"]),
            ("/steps/0/recipients", json!(["manager"]), &["/steps/0/recipients/0"]),
            ("/steps/0/recipients", json!(["role:"]), &["/steps/0/recipients/0"]),
            ("/steps/1/delay", json!(null), &["/steps/1/delay"]),
            ("/steps/1/delay", json!("PT30S"), &["/steps/1/delay"]),
            ("/steps/1/delay", json!("P31D"), &["/steps/1/delay"]),
            ("/steps/0/tiers", json!([]), &["/steps/0/tiers"]),
            ("/steps/0/tiers/0/after", json!("PT5M"), &["/steps/0/tiers/0/after"]),
            ("/steps/0/tiers/1/after", json!(null), &["/steps/0/tiers/1/after"]),
            ("/steps/0/tiers/1/after", json!("PT30M"), &["/steps/0/tiers/1/after"]),
            ("/steps/0/tiers/1/channels", json!(["email"]), &["/steps/0/tiers/1/channels"]),
            ("/steps/0/tiers/1/channels", json!(["pigeon"]), &["/steps/0/tiers/1/channels/0"]),
            ("/repeat/count", json!(11), &["/repeat/count"]),
            ("/acknowledgement", json!("most"), &["/acknowledgement"]),
            ("/priority", json!("urgent"), &["/priority"]),
        ];
        for (pointer, value, expected) in table {
            let mut body = example();
            let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
            body.pointer_mut(parent).expect("there")[name] = value.clone();
            let errors = read_definition(&body).expect_err("refused");
            let pointers: Vec<_> = errors.iter().map(|error| error.pointer.as_str()).collect();
            assert_eq!(pointers, expected, "{pointer} {value}");
        }
    }
}
