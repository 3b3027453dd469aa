//! The query of a list: filters, page size and an opaque cursor.

use super::fields::FieldError;
use super::problem::Problem;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use std::fmt::Display;
use std::str::FromStr;

/// Rows of a page, where the request does not say; also the most.
pub const MAX_PAGE_SIZE: u32 = 50;

/// Where a page begins: after a row, in the order of time and id, so that equal times skip nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The row's time.
    pub at: Timestamp,
    /// The row's id.
    pub id: uuid::Uuid,
}

/// Which page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Where it begins; `None` is the newest.
    pub after: Option<Cursor>,
    /// How many rows; one more is read, to know whether there is another page.
    pub size: u32,
}

/// What a search found where it was told to look. It looks at so many rows at most, so that one which hardly anything fits
/// is answered in time, too: a page may then be short or empty and have another behind it.
pub struct Found<T> {
    /// What fits, up to one more than a page.
    pub rows: Vec<T>,
    /// The last row that was looked at; `None` where that was the last there is.
    pub looked_to: Option<Cursor>,
}

/// Which page of a list that is in the order of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPage {
    /// The key before the page; `None` is the first page.
    pub after: Option<String>,
    /// How many rows; one more is read, to know whether there is another page.
    pub size: u32,
}

/// A query that is being read; parameters that nobody asked for are errors.
pub struct Query<'a> {
    given: &'a [(String, String)],
    asked: Vec<&'static str>,
    errors: Vec<FieldError>,
}

impl<'a> Query<'a> {
    /// Starts to read.
    pub fn of(given: &'a [(String, String)]) -> Self {
        Self { given, asked: Vec::new(), errors: Vec::new() }
    }

    /// A parameter that a parser takes.
    pub fn parsed<T, E: Display>(&mut self, name: &'static str, parse: impl Fn(&str) -> Result<T, E>) -> Option<T> {
        self.asked.push(name);
        let (_, value) = self.given.iter().find(|(given, _)| given == name)?;
        if value.contains('\0') {
            // No text of Postgres can hold it.
            self.errors.push(FieldError::new(format!("?{name}"), "must not contain NUL"));
            return None;
        }
        parse(value).map_err(|error| self.errors.push(FieldError::new(format!("?{name}"), error))).ok()
    }

    /// `after` and `page_size`.
    pub fn page(&mut self) -> Page {
        let after = self.parsed("after", parse_cursor);
        Page { after, size: self.page_size() }
    }

    /// `after` and `page_size` of a list that is in the order of its keys.
    pub fn key_page(&mut self) -> KeyPage {
        let after = self.parsed("after", parse_key_cursor);
        KeyPage { after, size: self.page_size() }
    }

    fn page_size(&mut self) -> u32 {
        let size = self.parsed("page_size", |text| match parse_number(text) {
            Some(size) if (1..=MAX_PAGE_SIZE).contains(&size) => Ok(size),
            _ => Err(format!("must be a whole number from 1 to {MAX_PAGE_SIZE}")),
        });
        size.unwrap_or(MAX_PAGE_SIZE)
    }

    /// Ends the reading.
    pub fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in self.given.iter().filter(|(name, _)| !self.asked.contains(&name.as_str())) {
            let detail = match self.asked.as_slice() {
                [] => "is not a known parameter; this route has none".to_owned(),
                known => format!("is not a known parameter; known are {}", known.join(", ")),
            };
            self.errors.push(FieldError::new(format!("?{name}"), detail));
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid(self.errors)) }
    }
}

/// Reads a whole number in the one way that it is printed: without a sign, and without zeros before it.
pub fn parse_number<T: FromStr>(text: &str) -> Option<T> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

/// Prints a cursor; callers only hand it back.
pub fn print_cursor(cursor: &Cursor) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}|{}", cursor.at.as_microsecond(), cursor.id.simple()))
}

/// Prints the cursor behind a key.
pub fn print_key_cursor(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

const NONE: &str = "is not a cursor of this list; take it from page_info.after";

fn parse_key_cursor(text: &str) -> Result<String, &'static str> {
    let decoded = URL_SAFE_NO_PAD.decode(text).map_err(|_| NONE)?;
    // Postgres takes every text but NUL.
    String::from_utf8(decoded).ok().filter(|key| !key.is_empty() && !key.contains('\0')).ok_or(NONE)
}

fn parse_cursor(text: &str) -> Result<Cursor, &'static str> {
    let decoded = URL_SAFE_NO_PAD.decode(text).map_err(|_| NONE)?;
    let decoded = String::from_utf8(decoded).map_err(|_| NONE)?;
    let (at, id) = decoded.split_once('|').ok_or(NONE)?;
    Ok(Cursor {
        at: at.parse().ok().and_then(|micros| Timestamp::from_microsecond(micros).ok()).ok_or(NONE)?,
        id: id.parse().map_err(|_| NONE)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_printed() {
        let cursor = Cursor {
            at: Timestamp::from_microsecond(1_795_000_000_123_456).expect("a time"),
            id: uuid::Uuid::from_u128(5),
        };
        assert_eq!(parse_cursor(&print_cursor(&cursor)), Ok(cursor));
        assert!(parse_cursor("nonsense").is_err());
    }

    #[test]
    fn a_parameter_that_nobody_knows_is_refused() {
        let given = [("page_size".to_owned(), "51".to_owned()), ("limit".to_owned(), "1".to_owned())];
        let mut query = Query::of(&given);
        query.page();
        let problem = query.finish().expect_err("refused");
        let pointers: Vec<_> = problem.errors.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(pointers, ["?page_size", "?limit"]);
    }
}
