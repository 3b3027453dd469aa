//! Deadlines: the body that puts one, how its rungs are kept, and what is shown of it.

use super::fields::{FieldError, Fields};
use super::problem::Problem;
#[cfg(feature = "services")]
use crate::store::deadlines::{DeadlineRow, Lookup, RungRow};
#[cfg(feature = "services")]
use domain::deadline::FURTHEST_DUE;
use domain::deadline::{MAX_RECIPIENTS, MAX_RUNGS, Offset, Rung, RungTime, Side, WhenPast, find_duplicates};
use domain::escalation::RESERVED;
use domain::id::{CategoryKey, PolicyKey, RecipientKey, TemplateKey};
use domain::moment::{TimeZoneName, parse_timestamp};
use domain::preference::{parse_time, print_time};
use domain::render::check_context;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The most data of a deadline, that of its rungs included, in bytes of JSON.
pub const MAX_DATA_BYTES: usize = 16 * 1024;

/// The body of `PUT /v1/deadlines/{key}`.
#[derive(Clone)]
pub struct DeadlineBody {
    /// The category of rungs that name none.
    pub category: Option<CategoryKey>,
    /// Whom to remind, each once.
    pub recipients: Vec<RecipientKey>,
    /// For recipients that have no zone of their own.
    pub time_zone: Option<TimeZoneName>,
    /// When it is.
    pub due_at: Timestamp,
    /// The reminders, each time once.
    pub rungs: Vec<RungBody>,
    /// What happens when it has passed; `None` is nothing.
    pub overdue: Option<Overdue>,
    /// What templates get.
    pub data: Value,
    /// What becomes of the past.
    pub when_past: WhenPast,
}

domain::masked_debug!(DeadlineBody, "DeadlineBody", category, recipients, due_at);

/// What happens when a deadline has passed: one of these, or both.
#[derive(Clone, Debug)]
pub struct Overdue {
    /// The category of what each recipient gets.
    pub category: Option<CategoryKey>,
    /// The policy of the one escalation that begins.
    pub policy: Option<PolicyKey>,
}

/// One reminder.
#[derive(Clone)]
pub struct RungBody {
    /// When.
    pub time: RungTime,
    /// Where it is another than the deadline's.
    pub category: Option<CategoryKey>,
    /// Where it is another than the category's.
    pub template: Option<TemplateKey>,
    /// What its template gets beside the deadline's data, and before it.
    pub data: Value,
}

domain::masked_debug!(RungBody, "RungBody", time, category, template);

impl DeadlineBody {
    /// Everything that it does for each recipient.
    pub fn all_rungs(&self) -> Vec<Rung> {
        let reminders = self.rungs.iter().map(|rung| Rung::Reminder(rung.time));
        reminders.chain(self.overdue_category().map(|_| Rung::Overdue)).collect()
    }

    /// The category of what each recipient gets when it has passed.
    pub fn overdue_category(&self) -> Option<&CategoryKey> {
        self.overdue.as_ref()?.category.as_ref()
    }

    /// The policy of the escalation that begins when it has passed.
    pub fn overdue_policy(&self) -> Option<&PolicyKey> {
        self.overdue.as_ref()?.policy.as_ref()
    }
}

/// Reads the body of `PUT /v1/deadlines/{key}`.
pub fn read_deadline(body: &Value) -> Result<DeadlineBody, Problem> {
    let mut fields = Fields::of(body, "").map_err(|error| Problem::invalid(vec![error]))?;
    let category = fields.parsed("category", CategoryKey::parse);
    let recipients = read_recipients(&mut fields);
    let time_zone = fields.parsed("time_zone", TimeZoneName::parse);
    let due_at = fields.parsed("due_at", parse_timestamp);
    fields.require("due_at", &due_at);
    let rungs = read_rungs(&mut fields).unwrap_or_default();
    let overdue = fields.object("overdue", read_overdue);
    let data = fields.opaque("data");
    let when_past = fields.named("when_past", WhenPast::parse, WhenPast::ALL, WhenPast::as_str);
    if fields.value("rungs").is_none() && fields.value("overdue").is_none() {
        fields.wrong("rungs", "is required where nothing happens when the deadline has passed");
    }
    if fields.value("category").is_none() {
        let silent = rungs.iter().enumerate().filter(|(_, rung)| rung.category.is_none());
        let errors: Vec<_> = silent
            .map(|(place, _)| {
                FieldError::new(format!("/rungs/{place}/category"), "is required where the deadline has no category")
            })
            .collect();
        fields.extend(errors);
    }
    let length = data.to_string().len() + rungs.iter().map(|rung| rung.data.to_string().len()).sum::<usize>();
    if length > MAX_DATA_BYTES {
        let detail = format!("must have at most {MAX_DATA_BYTES} bytes of JSON, that of the rungs included");
        fields.wrong("data", detail);
    }
    if let Err(error) = check_context(&data) {
        fields.wrong("data", error.detail);
    }
    if overdue.as_ref().is_some_and(|overdue| overdue.policy.is_some()) && data.get(RESERVED).is_some() {
        fields.extend([FieldError::new(format!("/data/{RESERVED}"), "is where the escalation itself is told of")]);
    }
    fields.finish().map_err(Problem::invalid)?;
    let due_at = due_at.ok_or_else(|| Problem::invalid(Vec::new()))?;
    let when_past = when_past.unwrap_or(WhenPast::Skip);
    Ok(DeadlineBody { category, recipients, time_zone, due_at, rungs, overdue, data, when_past })
}

fn read_recipients(fields: &mut Fields<'_>) -> Vec<RecipientKey> {
    let listed = fields.parsed_list("recipients", RecipientKey::parse);
    fields.require("recipients", &listed);
    let recipients = listed.unwrap_or_default();
    if fields
        .value("recipients")
        .and_then(Value::as_array)
        .is_some_and(|list| !(1..=MAX_RECIPIENTS).contains(&list.len()))
    {
        fields.wrong("recipients", format_args!("must have 1 to {MAX_RECIPIENTS} entries"));
    }
    let mut seen = BTreeSet::new();
    let repeated: Vec<_> = recipients
        .iter()
        .enumerate()
        .filter(|(_, recipient)| !seen.insert(*recipient))
        .map(|(place, _)| FieldError::new(format!("/recipients/{place}"), "is in the list already"))
        .collect();
    fields.extend(repeated);
    recipients
}

fn read_overdue(value: &Value, pointer: String) -> Result<Overdue, Vec<FieldError>> {
    let mut fields = Fields::of(value, pointer).map_err(|error| vec![error])?;
    let category = fields.parsed("category", CategoryKey::parse);
    let policy = fields.parsed("escalation_policy", PolicyKey::parse);
    if fields.value("category").is_none() && fields.value("escalation_policy").is_none() {
        fields.wrong("category", "is required where there is no escalation_policy");
    }
    fields.finish()?;
    Ok(Overdue { category, policy })
}

fn read_rungs(fields: &mut Fields<'_>) -> Option<Vec<RungBody>> {
    let entries = fields.list("rungs")?;
    if !(1..=MAX_RUNGS).contains(&entries.len()) {
        fields.wrong("rungs", format_args!("must have 1 to {MAX_RUNGS} entries"));
        return None;
    }
    let mut rungs = Vec::with_capacity(entries.len());
    for (place, entry) in entries.iter().enumerate() {
        match read_rung(entry, format!("/rungs/{place}")) {
            Ok(rung) => rungs.push(rung),
            Err(errors) => fields.extend(errors),
        }
    }
    if rungs.len() < entries.len() {
        return None;
    }
    let times: Vec<_> = rungs.iter().map(|rung| rung.time).collect();
    let repeated = find_duplicates(&times).into_iter();
    fields.extend(repeated.map(|place| {
        FieldError::new(format!("/rungs/{place}"), "is in the list already, perhaps in another spelling")
    }));
    Some(rungs)
}

fn read_rung(value: &Value, pointer: String) -> Result<RungBody, Vec<FieldError>> {
    let mut fields = Fields::of(value, pointer).map_err(|error| vec![error])?;
    let before = fields.parsed("before", Offset::parse);
    let after = fields.parsed("after", Offset::parse);
    let at = fields.parsed("at", parse_time);
    let category = fields.parsed("category", CategoryKey::parse);
    let template = fields.parsed("template", TemplateKey::parse);
    let data = fields.opaque("data");
    if let Err(error) = check_context(&data) {
        fields.wrong("data", error.detail);
    }
    let (name, given) = match (fields.value("before").is_some(), fields.value("after").is_some()) {
        (true, false) => ("before", before.map(|offset| (Side::Before, offset))),
        (false, true) => ("after", after.map(|offset| (Side::After, offset))),
        _ => {
            let error = FieldError::new(fields.pointer(), "must have either before or after");
            fields.extend([error]);
            ("before", None)
        }
    };
    // Where the time of the day cannot be read, that is what is wrong.
    let can_judge = at.is_some() || fields.value("at").is_none();
    let time = given
        .filter(|_| can_judge)
        .and_then(|(side, offset)| RungTime::new(side, offset, at).map_err(|error| fields.wrong(name, error)).ok());
    fields.finish()?;
    time.map(|time| RungBody { time, category, template, data }).ok_or_else(Vec::new)
}

/// A rung as it is read; also as it is kept.
pub fn print_rung(rung: &RungBody) -> Value {
    let RungBody { time, category, template, data } = rung;
    let mut printed = json!({});
    let side = if time.side() == Side::Before { "before" } else { "after" };
    printed[side] = time.offset().to_string().into();
    if let Some(at) = time.at() {
        printed["at"] = print_time(at).into();
    }
    if let Some(category) = category {
        printed["category"] = category.as_str().into();
    }
    if let Some(template) = template {
        printed["template"] = template.as_str().into();
    }
    if data.as_object().is_some_and(|data| !data.is_empty()) {
        printed["data"] = data.clone();
    }
    printed
}

/// Reads a rung as it is kept; `None` where it is none.
pub fn read_kept_rung(value: &Value) -> Option<RungBody> {
    read_rung(value, String::new()).ok()
}

/// What happens when the deadline has passed, as it is read; also as it is kept.
pub fn print_overdue(overdue: &Overdue) -> Value {
    let Overdue { category, policy } = overdue;
    let mut printed = json!({});
    if let Some(category) = category {
        printed["category"] = category.as_str().into();
    }
    if let Some(policy) = policy {
        printed["escalation_policy"] = policy.as_str().into();
    }
    printed
}

/// Reads it as it is kept; `None` where it is none.
pub fn read_kept_overdue(value: &Value) -> Option<Overdue> {
    read_overdue(value, String::new()).ok()
}

/// Holds a deadline against the time and what its tenant has.
#[cfg(feature = "services")]
pub fn find_errors(body: &DeadlineBody, lookup: &Lookup) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if body.due_at <= lookup.now {
        errors.push(FieldError::new("/due_at", "has passed"));
    } else if body.due_at.duration_since(lookup.now) > FURTHEST_DUE {
        errors.push(FieldError::new("/due_at", "is more than 3660 days ahead"));
    }
    for (place, recipient) in body.recipients.iter().enumerate() {
        if !lookup.zones.contains_key(recipient.as_str()) {
            let detail = "no recipient has this id; create it with PUT /v1/recipients/{id}";
            errors.push(FieldError::new(format!("/recipients/{place}"), detail));
        }
    }
    let mut check_category = |pointer: String, key: &Option<CategoryKey>| {
        if key.as_ref().is_some_and(|key| !lookup.categories.contains(key.as_str())) {
            let detail = "no category has this key; create it with PUT /v1/categories/{key}";
            errors.push(FieldError::new(pointer, detail));
        }
    };
    check_category("/category".to_owned(), &body.category);
    check_category("/overdue/category".to_owned(), &body.overdue_category().cloned());
    for (place, rung) in body.rungs.iter().enumerate() {
        check_category(format!("/rungs/{place}/category"), &rung.category);
    }
    if body.overdue_policy().is_some_and(|key| !lookup.policies.contains(key.as_str())) {
        let detail = "no escalation policy has this key; create it with PUT /v1/escalation-policies/{key}";
        errors.push(FieldError::new("/overdue/escalation_policy", detail));
    }
    for (place, rung) in body.rungs.iter().enumerate() {
        if rung.template.as_ref().is_some_and(|key| !lookup.templates.contains(key.as_str())) {
            let detail = "no template has this key, or none that was published; see PUT /v1/templates/{key}";
            errors.push(FieldError::new(format!("/rungs/{place}/template"), detail));
        }
    }
    errors
}

/// A deadline.
#[cfg(feature = "services")]
pub fn print_deadline(row: &DeadlineRow) -> Value {
    let DeadlineRow {
        key,
        state,
        category,
        recipients,
        time_zone,
        due_at,
        rungs,
        overdue,
        data,
        when_past,
        escalation,
        escalation_note,
        completed_at,
        created_at,
        updated_at,
    } = row;
    json!({
        "key": key, "state": state.as_str(), "category": category, "recipients": recipients, "time_zone": time_zone,
        "due_at": due_at, "rungs": rungs, "overdue": overdue, "data": data, "when_past": when_past,
        "escalation_id": escalation.map(|id| id.to_string()), "escalation_note": escalation_note,
        "completed_at": completed_at, "created_at": created_at, "updated_at": updated_at,
    })
}

/// A deadline with what it does, has done and has not done for each recipient.
#[cfg(feature = "services")]
pub fn print_with_plan(row: &DeadlineRow, plan: &[RungRow]) -> Value {
    let mut printed = print_deadline(row);
    printed["plan"] = plan.iter().map(print_rung_row).collect();
    printed
}

#[cfg(feature = "services")]
fn print_rung_row(row: &RungRow) -> Value {
    let RungRow { recipient, rung, due_at, state, note, detail, fire_at, notification, decided_at } = row;
    json!({
        "recipient": recipient, "rung": rung, "due_at": due_at, "fire_at": fire_at, "state": state, "note": note,
        "detail": detail, "notification_id": notification.map(|id| id.to_string()), "decided_at": decided_at,
    })
}
