//! What a request says of the notifications that it is to leave with: `batch` and `debounce`.

use super::fields::{FieldError, Fields};
use domain::collection::{Collect, CollectError, check_window};
use domain::id::CollectionKey;
use domain::moment::Window;
use serde_json::Value;

/// What only one message can have, and many members would each want for themselves.
const OF_ONE: &[&str] = &["attachments", "calendar"];
/// What a batch cannot say for its members either: each would bring words of its own.
const OF_ONE_IN_BATCH: &[&str] = &["subject", "text", "html"];

/// Reads `batch` or `debounce` of a request, and says what cannot go with it.
pub(super) fn read_collect(fields: &mut Fields<'_>) -> Option<Collect> {
    let batch = fields.object("batch", read_batch);
    let debounce = fields.object("debounce", read_debounce);
    let (has_batch, has_debounce) = (fields.value("batch").is_some(), fields.value("debounce").is_some());
    if has_batch && has_debounce {
        fields.wrong("debounce", "cannot be given together with batch");
    }
    if !has_batch && !has_debounce {
        return None;
    }
    let name = if has_batch { "batch" } else { "debounce" };
    if fields.value("send_at").is_some() {
        fields.wrong("send_at", format_args!("cannot be given together with {name}, which says when it leaves"));
    }
    for part in OF_ONE.iter().chain(OF_ONE_IN_BATCH.iter().filter(|_| has_batch)) {
        if fields.value(part).is_some_and(|value| !value.as_array().is_some_and(Vec::is_empty)) {
            fields.wrong(part, format_args!("cannot be given together with {name}, whose message is made of several"));
        }
    }
    batch.or(debounce)
}

fn read_batch(value: &Value, pointer: String) -> Result<Collect, Vec<FieldError>> {
    let mut fields = Fields::of(value, pointer).map_err(|error| vec![error])?;
    let (key, window) = read_key_and_window(&mut fields);
    fields.finish()?;
    key.zip(window).map(|(key, window)| Collect::batch(key, window)).ok_or_else(Vec::new)
}

fn read_debounce(value: &Value, pointer: String) -> Result<Collect, Vec<FieldError>> {
    let mut fields = Fields::of(value, pointer).map_err(|error| vec![error])?;
    let (key, window) = read_key_and_window(&mut fields);
    let max = fields.parsed("max", Window::parse);
    let collect = key.zip(window).map(|(key, window)| Collect::debounce(key, window, max));
    let collect = match collect {
        Some(Err(error)) => {
            fields.wrong("max", error);
            None
        }
        Some(Ok(collect)) => Some(collect),
        None => None,
    };
    fields.finish()?;
    collect.ok_or_else(Vec::new)
}

fn read_key_and_window(fields: &mut Fields<'_>) -> (Option<CollectionKey>, Option<Window>) {
    let key = fields.parsed("key", CollectionKey::parse);
    fields.require("key", &key);
    let window = fields.parsed("window", |text| {
        let window = Window::parse(text).map_err(|error| error.to_string())?;
        check_window(window).map_err(|error: CollectError| error.to_string())
    });
    fields.require("window", &window);
    (key, window)
}
