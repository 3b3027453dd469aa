//! The allowance that all filters of a render share, and what they may make of it: each first says how much it is about to
//! read and write.

use std::borrow::Cow;
use std::fmt;

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};

/// The bytes that the filters of one part may read and write together.
const MAX_WORK: usize = 8 * 1024 * 1024;
/// What a call counts beside what it works on.
const CALL_BYTES: usize = 32;
/// What an element of a list counts: about what it takes in memory, and longer to compare than a byte.
pub(super) const ELEMENT_BYTES: usize = 64;

/// The longest text that a filter may make out of less, in bytes.
///
/// A step that works on such a text is one step of fuel, so `render` counts on this.
pub(super) const MAX_TEXT: usize = 128 * 1024;

/// What the filters of a render may still work on.
struct Work {
    left: usize,
}

pub(super) fn charge(state: &mut State, bytes: usize) -> Result<(), Error> {
    let work = state.get_or_insert_extension(Work { left: MAX_WORK });
    work.left = work.left.checked_sub(bytes.saturating_add(CALL_BYTES)).ok_or(ErrorKind::OutOfFuel)?;
    Ok(())
}

/// What a template did wrong, in words that are ours: the engine's own may quote values.
#[derive(Debug)]
pub(super) struct Misuse(pub(super) &'static str);

impl Misuse {
    /// The words that a filter gave to an error.
    pub(super) fn of(error: &Error) -> Option<&Self> {
        std::error::Error::source(error)?.downcast_ref()
    }
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Misuse {}

pub(super) fn unfit(detail: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail).with_source(Misuse(detail))
}

/// The text of a value that can be printed.
pub(super) fn text_of(value: &Value) -> Result<Cow<'_, str>, Error> {
    match value.kind() {
        ValueKind::String => value.as_str().map(Cow::Borrowed).ok_or_else(|| unfit("not a text")),
        ValueKind::Bool | ValueKind::Number => Ok(Cow::Owned(value.to_string())),
        ValueKind::Undefined | ValueKind::None => Err(ErrorKind::UndefinedError.into()),
        _ => Err(unfit("a list or a map is not a text")),
    }
}

/// The text of a value, after it was charged for.
pub(super) fn charged_text<'value>(state: &mut State, value: &'value Value) -> Result<Cow<'value, str>, Error> {
    let text = text_of(value)?;
    charge(state, text.len())?;
    Ok(text)
}

/// Lets a text through that is not too long, or not longer than what it was made of.
pub(super) fn bounded(text: String, made_of: usize) -> Result<String, Error> {
    if text.len() > MAX_TEXT.max(made_of) {
        return Err(ErrorKind::OutOfFuel.into());
    }
    Ok(text)
}

/// Charges for each element of a value, and for each byte of a text.
pub(super) fn charge_elements(state: &mut State, value: &Value) -> Result<(), Error> {
    let bytes = match value.kind() {
        ValueKind::Undefined | ValueKind::None => return Err(ErrorKind::UndefinedError.into()),
        ValueKind::String => value.as_str().map_or(0, str::len),
        _ => element_count(value)?.saturating_mul(ELEMENT_BYTES),
    };
    charge(state, bytes)
}

/// How many elements, members or characters a value has; what `reverse` gives does not know it without being walked.
pub(super) fn element_count(value: &Value) -> Result<usize, Error> {
    match value.len() {
        Some(count) => Ok(count),
        None => Ok(value.try_iter()?.count()),
    }
}
