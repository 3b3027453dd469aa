//! Every filter and test that a template has, and how a value is printed.
//!
//! Fuel counts a filter as one step, whatever it works on.
//! So each filter first says how much it is about to read and write, and all of a render's filters share one allowance for it (see `work`).
//! Texts come out unsafe, so that the HTML part escapes them again; only `escape` and `nl2br` give safe text, and only of what they escaped.

use std::borrow::Cow;

use minijinja::filters as builtin;
use minijinja::tests;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, HtmlEscape, Output, State, Value, escape_formatter};

use super::formats;
use super::work::{ELEMENT_BYTES, bounded, charge, charge_elements, charged_text, element_count, text_of, unfit};

/// The names of all filters; `register` knows the same ones.
pub(super) const FILTERS: [&str; 37] = [
    "abs",
    "capitalize",
    "count",
    "d",
    "date",
    "datetime",
    "default",
    "e",
    "escape",
    "first",
    "float",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lower",
    "map",
    "max",
    "min",
    "money",
    "nl2br",
    "number",
    "percent",
    "replace",
    "reverse",
    "round",
    "sort",
    "split",
    "sum",
    "time",
    "title",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
];

/// The filters whose result is a number or an error.
pub(super) const NUMBER_FILTERS: [&str; 7] = ["abs", "count", "float", "int", "length", "round", "sum"];

/// The names of all tests; `register` knows the same ones.
pub(super) const TESTS: [&str; 19] = [
    "boolean",
    "defined",
    "endingwith",
    "eq",
    "even",
    "false",
    "ge",
    "gt",
    "in",
    "le",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sequence",
    "startingwith",
    "string",
];

/// Gives an empty engine its filters and tests.
pub(super) fn register(environment: &mut Environment<'_>) {
    environment.add_filter("abs", abs);
    environment.add_filter("capitalize", capitalize);
    environment.add_filter("count", length);
    environment.add_filter("d", default);
    environment.add_filter("date", formats::date);
    environment.add_filter("datetime", formats::datetime);
    environment.add_filter("default", default);
    environment.add_filter("e", escape);
    environment.add_filter("escape", escape);
    environment.add_filter("first", first);
    environment.add_filter("float", float);
    environment.add_filter("int", int);
    environment.add_filter("items", items);
    environment.add_filter("join", join);
    environment.add_filter("last", last);
    environment.add_filter("length", length);
    environment.add_filter("lower", lower);
    environment.add_filter("map", map);
    environment.add_filter("max", max);
    environment.add_filter("min", min);
    environment.add_filter("money", formats::money);
    environment.add_filter("nl2br", nl2br);
    environment.add_filter("number", formats::number);
    environment.add_filter("percent", formats::percent);
    environment.add_filter("replace", replace);
    environment.add_filter("reverse", reverse);
    environment.add_filter("round", round);
    environment.add_filter("sort", sort);
    environment.add_filter("split", split);
    environment.add_filter("sum", sum);
    environment.add_filter("time", formats::time);
    environment.add_filter("title", title);
    environment.add_filter("trim", trim);
    environment.add_filter("truncate", truncate);
    environment.add_filter("unique", unique);
    environment.add_filter("upper", upper);
    environment.add_filter("urlencode", urlencode);

    environment.add_test("boolean", tests::is_boolean);
    environment.add_test("defined", tests::is_defined);
    environment.add_test("endingwith", tests::is_endingwith);
    environment.add_test("eq", tests::is_eq);
    environment.add_test("even", tests::is_even);
    environment.add_test("false", tests::is_false);
    environment.add_test("ge", tests::is_ge);
    environment.add_test("gt", tests::is_gt);
    environment.add_test("in", tests::is_in);
    environment.add_test("le", tests::is_le);
    environment.add_test("lt", tests::is_lt);
    environment.add_test("mapping", tests::is_mapping);
    environment.add_test("ne", tests::is_ne);
    environment.add_test("none", tests::is_none);
    environment.add_test("number", tests::is_number);
    environment.add_test("odd", tests::is_odd);
    environment.add_test("sequence", tests::is_sequence);
    environment.add_test("startingwith", tests::is_startingwith);
    environment.add_test("string", tests::is_string);
}

/// Prints a value into a part, and refuses what a recipient should never see: null, and a list or map as code writes it.
pub(super) fn print(output: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    match value.kind() {
        // Only a conditional without `else` gets here undefined, and it means to print nothing.
        ValueKind::Undefined => Ok(()),
        ValueKind::None => Err(ErrorKind::UndefinedError.into()),
        ValueKind::Bool | ValueKind::Number | ValueKind::String => escape_formatter(output, state, value),
        _ => Err(unfit("cannot print a list or a map")),
    }
}

/// Holds a built-in filter to its promise: `int(default='a')` would give a text to multiply.
fn only_number(value: Value) -> Result<Value, Error> {
    if value.is_number() { Ok(value) } else { Err(unfit("not a number")) }
}

fn abs(state: &mut State, value: Value) -> Result<Value, Error> {
    charge(state, 0)?;
    only_number(builtin::abs(value)?)
}

fn int(state: &mut State, value: &Value, default: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    charged_text(state, value)?;
    only_number(builtin::int(state, value, default, None, kwargs)?)
}

fn float(state: &mut State, value: &Value, default: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    charged_text(state, value)?;
    only_number(builtin::float(state, value, default, kwargs)?)
}

fn round(state: &mut State, value: Value, precision: Option<i32>, kwargs: Kwargs) -> Result<Value, Error> {
    charge(state, 0)?;
    only_number(builtin::round(value, precision, None, kwargs)?)
}

fn sum(state: &mut State, values: Value, attribute: Option<&str>, kwargs: Kwargs) -> Result<Value, Error> {
    if kwargs.has("start") {
        return Err(unfit("a sum starts at 0"));
    }
    charge_elements(state, &values)?;
    only_number(builtin::sum(state, values, attribute, None, kwargs)?)
}

fn length(state: &mut State, value: &Value) -> Result<usize, Error> {
    charge_elements(state, value)?;
    element_count(value)
}

fn default(
    state: &mut State,
    value: &Value,
    other: Option<Value>,
    replaces_false: Option<bool>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    charge(state, 0)?;
    let replaces_false = match replaces_false {
        Some(replaces_false) => Some(replaces_false),
        None => kwargs.get("boolean")?,
    };
    kwargs.assert_all_used()?;
    let is_absent = value.is_undefined() || value.is_none();
    if is_absent || replaces_false == Some(true) && !value.is_true() {
        Ok(other.unwrap_or_else(|| Value::from("")))
    } else {
        Ok(value.clone())
    }
}

fn upper(state: &mut State, value: &Value) -> Result<String, Error> {
    let text = charged_text(state, value)?;
    bounded(text.to_uppercase(), text.len())
}

fn lower(state: &mut State, value: &Value) -> Result<String, Error> {
    let text = charged_text(state, value)?;
    bounded(text.to_lowercase(), text.len())
}

fn capitalize(state: &mut State, value: &Value) -> Result<String, Error> {
    let text = charged_text(state, value)?;
    let mut characters = text.chars();
    let first = characters.next().into_iter().flat_map(char::to_uppercase);
    let capitalized = first.chain(characters.flat_map(char::to_lowercase)).collect();
    bounded(capitalized, text.len())
}

fn title(state: &mut State, value: &Value) -> Result<String, Error> {
    let text = charged_text(state, value)?;
    let mut titled = String::with_capacity(text.len());
    let mut is_inside = false;
    for character in text.chars() {
        if is_inside {
            titled.extend(character.to_lowercase());
        } else {
            titled.extend(character.to_uppercase());
        }
        // An apostrophe does not start a word: "don't", "O'Brien's".
        is_inside = character.is_alphanumeric() || matches!(character, '\'' | '\u{2019}');
    }
    bounded(titled, text.len())
}

fn trim(state: &mut State, value: &Value) -> Result<String, Error> {
    Ok(charged_text(state, value)?.trim().to_owned())
}

fn replace(state: &mut State, value: &Value, from: &Value, to: &Value) -> Result<String, Error> {
    let text = charged_text(state, value)?;
    let (from, to) = (text_of(from)?, text_of(to)?);
    if from.is_empty() {
        return Err(unfit("cannot replace nothing"));
    }
    let added = text.matches(&*from).count().saturating_mul(to.len());
    charge(state, added)?;
    bounded(text.replace(&*from, &to), text.len())
}

fn truncate(
    state: &mut State,
    value: &Value,
    length: usize,
    end: Option<Value>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let end = match end {
        Some(end) => Some(end),
        None => kwargs.get("end")?,
    };
    kwargs.assert_all_used()?;
    let text = charged_text(state, value)?;
    match text.char_indices().nth(length) {
        None => Ok(text.into_owned()),
        Some((cut, _)) => {
            let end = end.unwrap_or_else(|| Value::from("…"));
            let end = charged_text(state, &end)?;
            bounded(format!("{}{end}", &text[..cut]), text.len())
        }
    }
}

fn urlencode(state: &mut State, value: &Value) -> Result<String, Error> {
    let text = text_of(value)?;
    charge(state, text.len().saturating_mul(3))?;
    bounded(builtin::urlencode(value)?, text.len())
}

fn escape(state: &mut State, value: &Value) -> Result<Value, Error> {
    if value.is_safe() {
        return Ok(value.clone());
    }
    let text = text_of(value)?;
    charge(state, text.len().saturating_mul(6))?;
    let escaped = bounded(HtmlEscape(&text).to_string(), text.len())?;
    Ok(Value::from_safe_string(escaped))
}

/// Shows line breaks of a text in HTML; in other parts they show by themselves.
fn nl2br(state: &mut State, value: &Value) -> Result<Value, Error> {
    let text = text_of(value)?;
    if !matches!(state.auto_escape(), AutoEscape::Html) {
        return Ok(value.clone());
    }
    charge(state, text.len().saturating_mul(6))?;
    let escaped = HtmlEscape(&text).to_string();
    let broken = escaped.replace("\r\n", "\n").replace(['\r', '\n'], "<br>\n");
    Ok(Value::from_safe_string(bounded(broken, text.len())?))
}

fn first(state: &mut State, value: &Value) -> Result<Value, Error> {
    charge(state, 0)?;
    builtin::first(value)
}

fn last(state: &mut State, value: Value) -> Result<Value, Error> {
    charge_elements(state, &value)?;
    builtin::last(value).map(unsafe_text)
}

fn reverse(state: &mut State, value: &Value) -> Result<Value, Error> {
    charge_elements(state, value)?;
    builtin::reverse(value).map(unsafe_text)
}

/// Half of an escaped text is not escaped: `&lt;` backwards is `;tl&`.
fn unsafe_text(value: Value) -> Value {
    match value.as_str() {
        Some(text) if value.is_safe() => Value::from(text),
        _ => value,
    }
}

fn sort(state: &mut State, value: Value, kwargs: Kwargs) -> Result<Value, Error> {
    // Comparing takes more than one look at each element.
    charge_elements(state, &value)?;
    charge_elements(state, &value)?;
    builtin::sort(state, value, kwargs)
}

fn unique(state: &mut State, value: Value, kwargs: Kwargs) -> Result<Value, Error> {
    charge_elements(state, &value)?;
    builtin::unique(state, value, kwargs)
}

fn min(state: &mut State, value: Value, kwargs: Kwargs) -> Result<Value, Error> {
    charge_elements(state, &value)?;
    builtin::min(state, value, kwargs)
}

fn max(state: &mut State, value: Value, kwargs: Kwargs) -> Result<Value, Error> {
    charge_elements(state, &value)?;
    builtin::max(state, value, kwargs)
}

fn items(state: &mut State, value: &Value) -> Result<Vec<Value>, Error> {
    charge_elements(state, value)?;
    if value.kind() != ValueKind::Map {
        return Err(unfit("only a map has items"));
    }
    value
        .try_iter()?
        .map(|key| {
            let member = value.get_item(&key)?;
            Ok(Value::from(vec![key, member]))
        })
        .collect()
}

/// Picks one attribute of each element; a path may have dots.
fn map(state: &mut State, value: Value, kwargs: Kwargs) -> Result<Vec<Value>, Error> {
    charge_elements(state, &value)?;
    let attribute: Cow<'_, str> = kwargs.get("attribute")?;
    let default: Option<Value> = kwargs.get("default")?;
    kwargs.assert_all_used()?;
    charge(state, attribute.len())?;
    if let Some(default) = &default {
        // A list here would be bound by `for`, and searched once for each step.
        text_of(default)?;
    }
    value
        .try_iter()?
        .map(|element| {
            let found = attribute.split('.').try_fold(element, |value, name| value.get_attr(name));
            match (found, &default) {
                (Ok(found), _) if !found.is_undefined() => Ok(found),
                (_, Some(default)) => Ok(default.clone()),
                (found, None) => found,
            }
        })
        .collect()
}

fn join(state: &mut State, value: &Value, between: Option<Value>) -> Result<String, Error> {
    if value.kind() == ValueKind::String {
        return Err(unfit("only a list can be joined"));
    }
    charge_elements(state, value)?;
    let between = between.unwrap_or_else(|| Value::from(""));
    let between = text_of(&between)?;
    let mut joined = String::new();
    for (index, element) in value.try_iter()?.enumerate() {
        let text = text_of(&element)?;
        charge(state, text.len().saturating_add(between.len()))?;
        if index > 0 {
            joined.push_str(&between);
        }
        joined.push_str(&text);
    }
    bounded(joined, 0)
}

fn split(state: &mut State, value: &Value, at: Option<Value>) -> Result<Vec<Value>, Error> {
    let text = charged_text(state, value)?;
    let pieces: Vec<&str> = match &at {
        None => text.split_whitespace().collect(),
        Some(at) => {
            let at = text_of(at)?;
            if at.is_empty() {
                return Err(unfit("cannot split at nothing"));
            }
            text.split(&*at).collect()
        }
    };
    charge(state, pieces.len().saturating_mul(ELEMENT_BYTES))?;
    Ok(pieces.into_iter().map(Value::from).collect())
}
