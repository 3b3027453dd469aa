//! Values that a field may or may not take: on either side of each bound of its schema, and of every other kind.

use serde_json::{Value, json};
use tests::contract::resolve;

/// The values to try.
pub(super) struct Candidates(Vec<Value>);

impl Candidates {
    /// Of a schema, and of a value that is known to fit it.
    pub(super) fn of(schema: &Value, fitting: Option<&Value>) -> impl Iterator<Item = Value> {
        let mut found = Self(Vec::new());
        found.add_any();
        found.add_bounds(schema, fitting);
        found.0.into_iter()
    }

    fn add(&mut self, value: impl Into<Value>) {
        let value = value.into();
        if !self.0.contains(&value) {
            self.0.push(value);
        }
    }

    /// One of each kind, and texts that look like something.
    fn add_any(&mut self) {
        for value in
            [Value::Null, json!(true), json!({}), json!([]), json!({"x": 1}), json!([1]), json!(["x"]), json!([[]])]
        {
            self.add(value);
        }
        for number in [-1, 0, 1, i64::from(u32::MAX) + 1] {
            self.add(number);
        }
        self.add(1.5);
        let texts = [
            "",
            " ",
            "a",
            "A",
            "-",
            ".a",
            "a b",
            "a\nb",
            "a\tb",
            "ä",
            "nonsense",
            "ada@example.org",
            "@example.org",
            "email",
            "+4915112345678",
            "+0915112345678",
            "4915112345678",
            "en",
            "hi-IN",
            "Asia/Kolkata",
            "PT5M",
            "PT",
            "P1D",
            "5",
            "+5",
            "05",
            "2026-11-22T03:30:00Z",
            "2026-11-22",
            "ntf_01a1fd7ccccd7410a93abd975284c6b9",
            "dl_01a1fd7ccccd7410a93abd975284c6b9",
            "dl_01A1FD7CCCCD7410A93ABD975284C6B9",
        ];
        for text in texts {
            self.add(text);
        }
    }

    fn add_bounds(&mut self, schema: &Value, fitting: Option<&Value>) {
        let schema = resolve(schema);
        for branch in schema["anyOf"].as_array().into_iter().flatten() {
            self.add_bounds(branch, fitting);
        }
        let bound = |name: &str| schema[name].as_i64();
        for number in [bound("minimum"), bound("maximum")].into_iter().flatten() {
            (number - 1..=number + 1).for_each(|number| self.add(number));
        }
        for length in [bound("minLength"), bound("maxLength")].into_iter().flatten() {
            for length in (length - 1..=length + 1).filter_map(|length| usize::try_from(length).ok()) {
                self.add("a".repeat(length));
            }
        }
        for value in ["enum", "examples"].into_iter().filter_map(|name| schema[name].as_array()).flatten() {
            self.add(value.clone());
            if let Some(text) = value.as_str() {
                self.add(text.to_uppercase());
                self.add(format!("{text} "));
            }
        }
        if let Some(entry) = fitting.and_then(|value| value.get(0)) {
            for count in [bound("minItems"), bound("maxItems")].into_iter().flatten() {
                for count in (count - 1..=count + 1).filter_map(|count| usize::try_from(count).ok()) {
                    self.add(vec![entry.clone(); count]);
                }
            }
            let mut of_entries = Self(Vec::new());
            of_entries.add_bounds(&schema["items"], Some(entry));
            of_entries.0.into_iter().for_each(|value| self.add(vec![value]));
        }
        if let Some(value) = fitting {
            self.add(value.clone());
        }
    }
}

/// The document with another value at a pointer, or without it.
pub(super) fn set_at(document: &Value, pointer: &str, value: Option<Value>) -> Value {
    let mut changed = document.clone();
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer of a field");
    let fields = changed.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object");
    match value {
        Some(value) => fields.insert(name.to_owned(), value),
        None => fields.remove(name),
    };
    changed
}
