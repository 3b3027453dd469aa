//! Reads a JSON object field by field and collects what is wrong, each with its JSON pointer (RFC 6901).
//!
//! A caller with three mistakes learns of three. What no reader asked for is an unknown field, and an error too.

use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::fmt::Display;

/// One thing wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Where, as a JSON pointer; `""` is the whole document.
    pub pointer: String,
    /// What, without the value.
    pub detail: String,
}

impl FieldError {
    /// An error at `pointer`.
    pub fn new(pointer: impl Into<String>, detail: impl Display) -> Self {
        Self { pointer: pointer.into(), detail: detail.to_string() }
    }
}

/// A JSON object that is being read.
pub struct Fields<'a> {
    pointer: String,
    map: &'a Map<String, Value>,
    asked: BTreeSet<&'static str>,
    errors: Vec<FieldError>,
}

impl<'a> Fields<'a> {
    /// Starts to read `value`, which stands at `pointer`.
    pub fn of(value: &'a Value, pointer: impl Into<String>) -> Result<Self, FieldError> {
        let pointer = pointer.into();
        match value {
            Value::Object(map) => Ok(Self { pointer, map, asked: BTreeSet::new(), errors: Vec::new() }),
            other => Err(FieldError::new(pointer, format_args!("must be an object, not {}", kind(other)))),
        }
    }

    /// Where the object itself stands.
    pub fn pointer(&self) -> String {
        self.pointer.clone()
    }

    /// The pointer of a field.
    pub fn at(&self, name: &str) -> String {
        format!("{}/{}", self.pointer, escape(name))
    }

    /// A field's value; absent and null are the same.
    pub fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        self.asked.insert(name);
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// A string.
    pub fn string(&mut self, name: &'static str) -> Option<&'a str> {
        let value = self.value(name)?;
        let text = value.as_str();
        if text.is_none() {
            self.wrong(name, format_args!("must be a string, not {}", kind(value)));
        }
        text
    }

    /// A string that a type's own parser takes.
    pub fn parsed<T, E: Display>(&mut self, name: &'static str, parse: impl Fn(&str) -> Result<T, E>) -> Option<T> {
        let text = self.string(name)?;
        parse(text).map_err(|error| self.wrong(name, error)).ok()
    }

    /// A string that is one of a few names.
    pub fn named<T: Copy>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Option<T>,
        all: &[T],
        print: impl Fn(T) -> &'static str,
    ) -> Option<T> {
        let text = self.string(name)?;
        let found = parse(text);
        if found.is_none() {
            let names: Vec<_> = all.iter().map(|known| print(*known)).collect();
            self.wrong(name, format_args!("must be one of {}", names.join(", ")));
        }
        found
    }

    /// A list of strings that a parser takes, whole or not at all; each bad entry is an error of its own.
    pub fn parsed_list<T, E: Display>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<Vec<T>> {
        let entries = self.list(name)?;
        let mut list = Vec::with_capacity(entries.len());
        for (place, entry) in entries.iter().enumerate() {
            let pointer = format!("{}/{place}", self.at(name));
            match entry.as_str().map(&parse) {
                Some(Ok(parsed)) => list.push(parsed),
                Some(Err(error)) => self.errors.push(FieldError::new(pointer, error)),
                None => {
                    self.errors.push(FieldError::new(pointer, format_args!("must be a string, not {}", kind(entry))));
                }
            }
        }
        (list.len() == entries.len()).then_some(list)
    }

    /// A list.
    pub fn list(&mut self, name: &'static str) -> Option<&'a Vec<Value>> {
        let value = self.value(name)?;
        let list = value.as_array();
        if list.is_none() {
            self.wrong(name, format_args!("must be a list, not {}", kind(value)));
        }
        list
    }

    /// An object that is passed on as it is; `{}` where it is absent.
    pub fn opaque(&mut self, name: &'static str) -> Value {
        match self.value(name) {
            None => Value::Object(Map::new()),
            Some(value @ Value::Object(_)) => value.clone(),
            Some(other) => {
                self.wrong(name, format_args!("must be an object, not {}", kind(other)));
                Value::Object(Map::new())
            }
        }
    }

    /// True or false; false where it is absent.
    pub fn flag(&mut self, name: &'static str) -> bool {
        match self.value(name) {
            None => false,
            Some(Value::Bool(flag)) => *flag,
            Some(other) => {
                self.wrong(name, format_args!("must be true or false, not {}", kind(other)));
                false
            }
        }
    }

    /// A whole number within bounds, both included.
    pub fn number(&mut self, name: &'static str, least: u32, most: u32) -> Option<u32> {
        let value = self.value(name)?;
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        match number.filter(|number| (least..=most).contains(number)) {
            Some(number) => Some(number),
            None => {
                self.wrong(name, format_args!("must be a whole number from {least} to {most}"));
                None
            }
        }
    }

    /// Reads an object within this one with `read`; its errors become this one's.
    pub fn object<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Value, String) -> Result<T, Vec<FieldError>>,
    ) -> Option<T> {
        let value = self.value(name)?;
        let pointer = self.at(name);
        read(value, pointer).map_err(|errors| self.errors.extend(errors)).ok()
    }

    /// Notes that a field must be there.
    pub fn require<T>(&mut self, name: &'static str, found: &Option<T>) {
        if found.is_none() && self.map.get(name).is_none_or(Value::is_null) {
            self.wrong(name, "is required");
        }
    }

    /// Notes that something is wrong with a field.
    pub fn wrong(&mut self, name: &str, detail: impl Display) {
        self.errors.push(FieldError::new(self.at(name), detail));
    }

    /// Adds errors that were found elsewhere.
    pub fn extend(&mut self, errors: impl IntoIterator<Item = FieldError>) {
        self.errors.extend(errors);
    }

    /// Ends the reading: fields that nobody asked for are errors.
    pub fn finish(mut self) -> Result<(), Vec<FieldError>> {
        for name in self.map.keys().filter(|name| !self.asked.contains(name.as_str())) {
            let known: Vec<_> = self.asked.iter().copied().collect();
            let detail = format!("is not a known field; known are {}", known.join(", "));
            self.errors.push(FieldError::new(format!("{}/{}", self.pointer, escape(name)), detail));
        }
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors) }
    }
}

/// Finds what JSON can say and neither Postgres' jsonb nor the queue can hold: `\u0000`, in keys or strings.
pub fn find_nul(value: &Value, pointer: &str) -> Option<FieldError> {
    // The pointer is put together on the way back from a hit: a body without one costs a walk and no strings.
    let (steps, detail) = walk_to_nul(value)?;
    let steps: String = steps.iter().rev().map(|step| format!("/{}", escape(step))).collect();
    Some(FieldError::new(format!("{pointer}{steps}"), detail))
}

/// The steps from a NUL back to `value`, and what is wrong there.
fn walk_to_nul(value: &Value) -> Option<(Vec<String>, &'static str)> {
    let within = |entry: &Value, step: &dyn std::fmt::Display| {
        walk_to_nul(entry).map(|(mut steps, detail)| {
            steps.push(step.to_string());
            (steps, detail)
        })
    };
    match value {
        Value::String(text) if text.contains('\0') => Some((Vec::new(), "must not contain \\u0000")),
        Value::Array(list) => list.iter().enumerate().find_map(|(place, entry)| within(entry, &place)),
        Value::Object(map) => map.iter().find_map(|(name, entry)| {
            if name.contains('\0') {
                return Some((Vec::new(), "must not have a field whose name contains \\u0000"));
            }
            within(entry, name)
        }),
        _ => None,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// `~` and `/` within a pointer's step: RFC 6901, section 3.
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pointers(result: Result<(), Vec<FieldError>>) -> Vec<String> {
        result.expect_err("errors").into_iter().map(|error| error.pointer).collect()
    }

    #[test]
    fn every_mistake_is_named_by_its_pointer() {
        let value = json!({"subject": 4, "channels": ["email", 5], "flag": "yes", "a/b~c": 1});
        let mut fields = Fields::of(&value, "/notifications/0").expect("an object");
        fields.string("subject");
        fields.parsed_list("channels", |text| Ok::<_, String>(text.to_owned()));
        fields.flag("flag");
        let missing = fields.string("category");
        fields.require("category", &missing);
        assert_eq!(
            pointers(fields.finish()),
            ["subject", "channels/1", "flag", "category", "a~1b~0c"].map(|name| format!("/notifications/0/{name}"))
        );
    }

    #[test]
    fn a_nul_is_found_however_deep_it_hides() {
        let value = json!({"data": [{"x": "a\0b"}]});
        assert_eq!(find_nul(&value, "").expect("found").pointer, "/data/0/x");
        assert_eq!(find_nul(&json!({"ok": ["fine"]}), ""), None);
    }
}
