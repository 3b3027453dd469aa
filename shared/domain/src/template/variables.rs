//! The variables that a template declares: what its data must have, and of which type.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::MAX_VARIABLES;
use crate::address::EmailAddress;
use crate::message::OUR_NAMES;
use crate::moment::parse_timestamp;
use crate::render::{check_context, is_currency, parse_date, parse_number};

/// The longest name of a variable.
const MAX_NAME: usize = 64;

/// The longest description, in bytes.
const MAX_DESCRIPTION: usize = 1000;

/// Words that the template language reads as something else.
const KEYWORDS: [&str; 12] = ["and", "else", "false", "if", "in", "is", "loop", "none", "not", "or", "true", "self"];

/// What a variable holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VariableType {
    /// Any text.
    String,
    /// A number.
    Number,
    /// A number without fraction.
    Integer,
    /// True or false.
    Boolean,
    /// A day, as `YYYY-MM-DD`.
    Date,
    /// A moment in RFC 3339.
    Datetime,
    /// An object with `amount`, a number or a decimal text, and `currency`, an ISO 4217 code.
    Money,
    /// An absolute address with http or https.
    Url,
    /// A mail address.
    Email,
    /// A list of anything.
    List,
    /// An object with any members.
    Object,
}

impl VariableType {
    /// All types.
    pub const ALL: [Self; 11] = [
        Self::String,
        Self::Number,
        Self::Integer,
        Self::Boolean,
        Self::Date,
        Self::Datetime,
        Self::Money,
        Self::Url,
        Self::Email,
        Self::List,
        Self::Object,
    ];

    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::Datetime => "datetime",
            Self::Money => "money",
            Self::Url => "url",
            Self::Email => "email",
            Self::List => "list",
            Self::Object => "object",
        }
    }

    /// Reads a name; `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// What a value must be, for the person who sent another one.
    fn wanted(self) -> &'static str {
        match self {
            Self::String => "must be a text",
            Self::Number => "must be a number",
            Self::Integer => "must be a number without fraction",
            Self::Boolean => "must be true or false",
            Self::Date => "must be a date such as 2026-11-22",
            Self::Datetime => "must be an RFC 3339 date and time with an offset, such as 2026-11-22T03:30:00Z",
            Self::Money => "must have an amount and a currency, such as {\"amount\": \"12.50\", \"currency\": \"INR\"}",
            Self::Url => "must be an address with http or https",
            Self::Email => "must be a mail address",
            Self::List => "must be a list",
            Self::Object => "must be an object",
        }
    }

    /// Whether a value is of this type.
    fn admits(self, value: &Value) -> bool {
        let is_text = |holds: &dyn Fn(&str) -> bool| value.as_str().is_some_and(holds);
        match self {
            Self::String => value.is_string(),
            Self::Number => value.is_number(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Boolean => value.is_boolean(),
            Self::Date => is_text(&|text| parse_date(text).is_some()),
            Self::Datetime => is_text(&|text| parse_timestamp(text).is_ok()),
            Self::Money => is_money(value),
            Self::Url => is_text(&is_url),
            Self::Email => is_text(&|text| EmailAddress::parse(text).is_ok()),
            Self::List => value.is_array(),
            Self::Object => value.is_object(),
        }
    }
}

impl fmt::Display for VariableType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn is_money(value: &Value) -> bool {
    let is_amount = match value.get("amount") {
        Some(Value::Number(_)) => true,
        Some(Value::String(text)) => parse_number(text).is_some(),
        _ => false,
    };
    is_amount && value.get("currency").and_then(Value::as_str).is_some_and(is_currency)
}

fn is_url(text: &str) -> bool {
    let rest = ["https://", "http://"].iter().find_map(|scheme| {
        text.get(..scheme.len()).filter(|start| start.eq_ignore_ascii_case(scheme)).map(|_| &text[scheme.len()..])
    });
    rest.is_some_and(|rest| {
        !rest.starts_with(['/', '?', '#'])
            && !rest.is_empty()
            && !rest.contains(|c: char| c.is_whitespace() || c.is_control())
    })
}

/// One variable.
#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    /// What it holds.
    pub kind: VariableType,
    /// Whether the data must have it.
    pub is_required: bool,
    /// A value to render with when the template is published or shown; every required variable has one.
    pub example: Option<Value>,
    /// What it means, for people.
    pub description: Option<String>,
}

/// The variables of a template by their names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Variables(BTreeMap<String, Variable>);

impl Variables {
    /// Reads declarations: `{"name": {"type": "string", "required": true, "example": …, "description": "…"}}`.
    ///
    /// Only `type` must be there; `required` is true unless told.
    ///
    /// # Errors
    ///
    /// What is wrong with each, as a JSON pointer below the declarations (`/name/type`) and words for a person.
    pub fn parse(declared: &Value) -> Result<Self, Vec<(String, String)>> {
        let Value::Object(members) = declared else {
            return Err(vec![(String::new(), "must be an object".to_owned())]);
        };
        let mut errors = Vec::new();
        if members.len() > MAX_VARIABLES {
            errors.push((String::new(), format!("must have at most {MAX_VARIABLES} variables")));
        }
        let mut variables = BTreeMap::new();
        for (name, declared) in members.iter().take(MAX_VARIABLES) {
            let pointer = format!("/{}", escape_pointer(name));
            if let Err(detail) = check_name(name) {
                errors.push((pointer.clone(), detail));
            }
            match read_variable(declared) {
                Ok(variable) => drop(variables.insert(name.clone(), variable)),
                Err(wrong) => {
                    errors.extend(wrong.into_iter().map(|(field, detail)| (format!("{pointer}{field}"), detail)))
                }
            }
        }
        if errors.is_empty() { Ok(Self(variables)) } else { Err(errors) }
    }

    /// Each name with its variable, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Variable)> {
        self.0.iter().map(|(name, variable)| (name.as_str(), variable))
    }

    /// Whether a name is declared.
    pub fn declares(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Gives each optional variable that the data lacks the value null.
    ///
    /// So `{% if note %}` is false without a note, and only a name that nobody declared is an error.
    pub fn fill_absent(&self, data: &mut Value) {
        let Value::Object(members) = data else { return };
        for (name, _) in self.0.iter().filter(|(_, variable)| !variable.is_required) {
            members.entry(name.clone()).or_insert(Value::Null);
        }
    }

    /// Data made of the examples.
    pub(super) fn examples(&self, choice: Examples) -> Value {
        let is_chosen = |variable: &Variable| variable.is_required || choice == Examples::All;
        let examples = self.0.iter().filter(|(_, variable)| is_chosen(variable));
        Value::Object(examples.filter_map(|(name, variable)| Some((name.clone(), variable.example.clone()?))).collect())
    }
}

/// Which examples data is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Examples {
    /// All there are.
    All,
    /// Those of the variables that are always there.
    Required,
}

/// Escapes a member's name for a JSON pointer (RFC 6901, 3).
fn escape_pointer(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn check_name(name: &str) -> Result<(), String> {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let holds = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !starts || !holds || name.len() > MAX_NAME {
        return Err(format!("a name must be 1 to {MAX_NAME} of A-Z, a-z, 0-9 and _, and start with no digit"));
    }
    if KEYWORDS.iter().any(|word| word.eq_ignore_ascii_case(name)) {
        return Err("the template language means something else by this name".to_owned());
    }
    if OUR_NAMES.contains(&name) {
        return Err("this name is always there and cannot be declared".to_owned());
    }
    Ok(())
}

fn read_variable(declared: &Value) -> Result<Variable, Vec<(&'static str, String)>> {
    let Value::Object(fields) = declared else {
        return Err(vec![("", "must be an object".to_owned())]);
    };
    let mut errors = Vec::new();
    if fields.keys().any(|name| !matches!(name.as_str(), "type" | "required" | "example" | "description")) {
        errors.push(("", "may have type, required, example and description only".to_owned()));
    }
    let kind = fields.get("type").and_then(Value::as_str).and_then(VariableType::parse);
    if kind.is_none() {
        let names = VariableType::ALL.map(VariableType::as_str).join(", ");
        errors.push(("/type", format!("must be one of {names}")));
    }
    let is_required = match fields.get("required") {
        None => true,
        Some(Value::Bool(is_required)) => *is_required,
        Some(_) => {
            errors.push(("/required", "must be true or false".to_owned()));
            true
        }
    };
    let description = match fields.get("description") {
        None => None,
        Some(Value::String(text)) if text.len() <= MAX_DESCRIPTION => Some(text.clone()),
        Some(_) => {
            errors.push(("/description", format!("must be a text of at most {MAX_DESCRIPTION} bytes")));
            None
        }
    };
    let example = fields.get("example").filter(|example| !example.is_null());
    match (example, kind) {
        (None, _) if is_required => errors.push(("/example", "a required variable needs an example".to_owned())),
        (Some(example), Some(kind)) if !kind.admits(example) => errors.push(("/example", kind.wanted().to_owned())),
        _ => {}
    }
    match kind {
        Some(kind) if errors.is_empty() => Ok(Variable { kind, is_required, example: example.cloned(), description }),
        _ => Err(errors),
    }
}

/// Looks at a request's data: every required variable is there, and each that is there has its type.
///
/// A member that is null counts as absent; members that nobody declared may be there.
///
/// # Errors
///
/// Each that is missing or wrong, as a JSON pointer (`/data/name`) and words for a person; values are not quoted.
pub fn check_data(variables: &Variables, data: &Value) -> Result<(), Vec<(String, String)>> {
    if let Err(error) = check_context(data) {
        return Err(vec![("/data".to_owned(), error.detail)]);
    }
    let wrong = variables.iter().filter_map(|(name, variable)| {
        let detail = match data.get(name).filter(|value| !value.is_null()) {
            None if variable.is_required => "is required by the template".to_owned(),
            Some(value) if !variable.kind.admits(value) => variable.kind.wanted().to_owned(),
            _ => return None,
        };
        Some((format!("/data/{}", escape_pointer(name)), detail))
    });
    let wrong: Vec<_> = wrong.collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}
