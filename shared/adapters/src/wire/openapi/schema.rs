//! What the descriptions need of JSON Schema (draft 2020-12, which OpenAPI 3.1 speaks), and no more of it.

use serde_json::{Map, Value, json};

/// A JSON Schema.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Schema(Value);

/// A field of an object.
pub(super) struct Field {
    name: &'static str,
    schema: Schema,
    is_required: bool,
}

/// A field that is always there.
pub(super) fn required(name: &'static str, schema: Schema) -> Field {
    Field { name, schema, is_required: true }
}

/// A field of a request that may be left out, or be null, which says the same.
pub(super) fn optional(name: &'static str, schema: Schema) -> Field {
    Field { name, schema: schema.or_null(), is_required: false }
}

/// A field of an answer that is there only sometimes, and never null.
pub(super) fn sometimes(name: &'static str, schema: Schema) -> Field {
    Field { name, schema, is_required: false }
}

impl Schema {
    /// Any text.
    pub(super) fn text() -> Self {
        Self(json!({"type": "string"}))
    }

    /// One of a few texts.
    pub(super) fn one_of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(json!({"type": "string", "enum": names.into_iter().collect::<Vec<_>>()}))
    }

    /// A whole number within bounds, both included.
    pub(super) fn number(least: u32, most: u32) -> Self {
        Self(json!({"type": "integer", "minimum": least, "maximum": most}))
    }

    /// How many there are.
    pub(super) fn count() -> Self {
        Self(json!({"type": "integer", "minimum": 0}))
    }

    /// A number that is counted from 1.
    pub(super) fn ordinal() -> Self {
        Self(json!({"type": "integer", "minimum": 1}))
    }

    /// True or false.
    pub(super) fn flag() -> Self {
        Self(json!({"type": "boolean"}))
    }

    /// An object that is passed on as it is.
    pub(super) fn opaque() -> Self {
        Self(json!({"type": "object", "additionalProperties": true}))
    }

    /// Null, which is a field left out.
    pub(super) fn null() -> Self {
        Self(json!({"type": "null"}))
    }

    /// Anything.
    pub(super) fn any() -> Self {
        Self(json!({}))
    }

    /// An object whose fields have names of the caller's and values of one schema; at most `most`, with names that fit a
    /// regular expression.
    pub(super) fn map(pattern: &str, value: Self, most: usize) -> Self {
        Self(json!({
            "type": "object", "propertyNames": {"pattern": format!("^(?:{pattern})$")}, "maxProperties": most,
            "additionalProperties": value.0,
        }))
    }

    /// A list.
    pub(super) fn list(entry: Self) -> Self {
        Self(json!({"type": "array", "items": entry.0}))
    }

    /// An object with these fields and no others.
    pub(super) fn object(fields: impl IntoIterator<Item = Field>) -> Self {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for field in fields {
            if field.is_required {
                required.push(field.name);
            }
            properties.insert(field.name.to_owned(), field.schema.0);
        }
        let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        Self(schema)
    }

    /// The component of this name.
    pub(super) fn named(name: &str) -> Self {
        Self(json!({"$ref": format!("#/components/schemas/{name}")}))
    }

    /// Whatever fits one of these.
    pub(super) fn any_of(schemas: impl IntoIterator<Item = Self>) -> Self {
        Self(json!({"anyOf": schemas.into_iter().map(|schema| schema.0).collect::<Vec<_>>()}))
    }

    /// This, or null.
    pub(super) fn or_null(mut self) -> Self {
        if !self.0["type"].is_string() {
            return Self::any_of([self, Self::null()]);
        }
        self.0["type"] = json!([self.0["type"], "null"]);
        if let Some(names) = self.0.get_mut("enum").and_then(Value::as_array_mut) {
            names.push(Value::Null);
        }
        self
    }

    /// Characters of a text.
    pub(super) fn length(self, least: usize, most: usize) -> Self {
        self.with("minLength", least).with("maxLength", most)
    }

    /// A regular expression that the whole text fits, without its anchors.
    pub(super) fn pattern(self, pattern: &str) -> Self {
        self.with("pattern", format!("^(?:{pattern})$"))
    }

    /// A form that is more than a schema can say; what does not have it is refused.
    pub(super) fn format(self, format: &str) -> Self {
        self.with("format", format)
    }

    /// Entries of a list.
    pub(super) fn entries(self, least: usize, most: usize) -> Self {
        self.at_least(least).with("maxItems", most)
    }

    /// Entries of a list that may be empty.
    pub(super) fn at_most(self, most: usize) -> Self {
        self.with("maxItems", most)
    }

    /// Entries of a list that has no upper bound of its own.
    pub(super) fn at_least(self, least: usize) -> Self {
        self.with("minItems", least)
    }

    /// An object must have at least one of these fields, and not as null.
    pub(super) fn with_one_of(self, names: &[&str]) -> Self {
        self.with("anyOf", has_each(names))
    }

    /// An object must not have both of these fields.
    pub(super) fn without_both(self, one: &str, other: &str) -> Self {
        let has = |name: &str| json!({"required": [name], "properties": {name: {"not": {"type": "null"}}}});
        self.with("not", json!({"allOf": [has(one), has(other)]}))
    }

    /// An object must have no such two fields.
    pub(super) fn without_any_pair(self, pairs: &[(&str, &str)]) -> Self {
        let has = |name: &str| json!({"required": [name], "properties": {name: {"not": {"type": "null"}}}});
        let pairs: Value = pairs.iter().map(|(one, other)| json!({"allOf": [has(one), has(other)]})).collect();
        self.with("not", json!({"anyOf": pairs}))
    }

    /// Where an object has one of these fields, and not as null, others say nothing but this.
    pub(super) fn with_only_beside(self, names: &[&str], others: &[&str], only: &str) -> Self {
        let others: Map<String, Value> =
            others.iter().map(|name| ((*name).to_owned(), json!({"enum": [only, null]}))).collect();
        self.with("if", json!({"anyOf": has_each(names)})).with("then", json!({"properties": others}))
    }

    /// An object must have exactly one of these fields, and not as null.
    pub(super) fn with_only_one_of(self, names: &[&str]) -> Self {
        self.with("oneOf", has_each(names))
    }

    /// Says what it means.
    pub(super) fn describe(self, text: &str) -> Self {
        self.with("description", text)
    }

    /// Shows one.
    pub(super) fn example(self, example: impl Into<Value>) -> Self {
        self.with("examples", vec![example.into()])
    }

    /// What holds where it is left out.
    pub(super) fn default(self, value: impl Into<Value>) -> Self {
        self.with("default", value)
    }

    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0[name] = value.into();
        self
    }

    /// The schema as JSON.
    pub(super) fn into_value(self) -> Value {
        self.0
    }
}

/// A schema for each name: an object has it, and not as null.
fn has_each(names: &[&str]) -> Value {
    names.iter().map(|name| json!({"required": [name], "properties": {*name: {"not": {"type": "null"}}}})).collect()
}
