//! What a tenant's domain registers to be run on a schedule: see [`crate::schedule`] for when.
//!
//! Three kinds: the rows of a view become notifications, a function of the domain's is called, or an endpoint of it is. The
//! view and the function are the domain's own, which grants them to one role that has nothing else.

use crate::category::Priority;
use crate::endpoint::EndpointUrl;
use crate::id::{CategoryKey, TemplateKey};
use jiff::Timestamp;
use std::fmt;

/// The most jobs of a tenant.
pub const MAX_DOMAIN_JOBS: usize = 100;
/// The most rows that a view may show of one tenant.
pub const MAX_CANDIDATES: usize = 10_000;
/// The most data of one of them, in bytes of JSON.
pub const MAX_CANDIDATE_BYTES: usize = 16 * 1024;
/// The most data of all of them: a run is in memory as a whole before anything is made of it.
pub const MAX_CANDIDATES_BYTES: usize = 8 * 1024 * 1024;
/// The longest key of a candidate, in bytes.
pub const MAX_CANDIDATE_KEY_BYTES: usize = 255;
/// How long the domain's statement or endpoint may take where its job does not say.
pub const TIMEOUT_DEFAULT_SECONDS: u32 = 30;
/// How long it may take at most: the function that runs it has five minutes.
pub const MAX_TIMEOUT_SECONDS: u32 = 240;
/// How long a secret that was replaced still signs, beside the new one.
pub const SECRET_OVERLAP_HOURS: u32 = 24;
/// What becomes of a run that was missed, in a sentence.
pub const CATCH_UP: &str = "A missed run is made up for by one, however many were missed.";

/// A view or a function by its schema and its name, as they are kept: lower case, without quotes.
#[derive(Clone, PartialEq, Eq)]
pub struct SqlName {
    schema: String,
    name: String,
}

/// Says why a text names nothing of a domain's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SqlNameError {
    /// It is not `schema.name`.
    Form,
    /// Its schema belongs to Postgres or to Harkara.
    Foreign,
}

impl fmt::Display for SqlNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "must be schema.name, each of up to 63 of a-z, 0-9 and _, and not beginning with a digit",
            Self::Foreign => "must be in a schema of the domain's own",
        })
    }
}

impl std::error::Error for SqlNameError {}

impl SqlName {
    /// Reads `rental.due_deposits`.
    ///
    /// # Errors
    ///
    /// When it names nothing that could be a domain's.
    pub fn parse(text: &str) -> Result<Self, SqlNameError> {
        let is_name = |part: &str| {
            (1..=63).contains(&part.len())
                && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
                && !part.starts_with(|first: char| first.is_ascii_digit())
        };
        let (schema, name) = text.split_once('.').ok_or(SqlNameError::Form)?;
        if !is_name(schema) || !is_name(name) {
            return Err(SqlNameError::Form);
        }
        if schema.starts_with("pg_") || ["information_schema", "harkara"].contains(&schema) {
            return Err(SqlNameError::Foreign);
        }
        Ok(Self { schema: schema.to_owned(), name: name.to_owned() })
    }

    /// The schema.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// The name within it.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for SqlName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

impl fmt::Debug for SqlName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a job does.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// The rows of a view become notifications, each once by its key.
    Candidates(Candidates),
    /// A function is called with the tenant's id.
    Function(SqlName),
    /// A signed message is posted to an endpoint.
    Endpoint(EndpointUrl),
}

impl Work {
    /// What it does, in a sentence.
    pub fn describe(&self) -> String {
        match self {
            Self::Candidates(candidates) => format!("Makes notifications of the rows of {}.", candidates.view),
            Self::Function(function) => format!("Calls {function}."),
            // Without its path, which may be a secret.
            Self::Endpoint(url) => format!("Calls https://{}.", url.authority()),
        }
    }
}

/// How long a run that is due may wait and still be called in time: the runner's own ticks, and what it does before.
const GRACE_SECONDS: u64 = 5 * 60;

/// How a job that is due at `next_due_at` stands at `now`: for how many seconds it has been due, and whether that is late.
pub fn judge_lag(next_due_at: Timestamp, now: Timestamp) -> (u64, bool) {
    let lag_seconds = u64::try_from(now.duration_since(next_due_at).as_secs()).unwrap_or(0);
    (lag_seconds, lag_seconds > GRACE_SECONDS)
}

crate::masked_debug!(Candidates, "Candidates", view, category, template);

/// Where notifications come from, and what they are.
#[derive(Clone, PartialEq)]
pub struct Candidates {
    /// The view: `tenant_id uuid, key text, recipient text, data jsonb`.
    pub view: SqlName,
    /// Their category.
    pub category: CategoryKey,
    /// Their template, where it is another than the category's.
    pub template: Option<TemplateKey>,
    /// How urgent they are.
    pub priority: Priority,
    /// What templates get beside a row's own data, and after it.
    pub data: serde_json::Value,
}

/// A row of a view.
#[derive(Clone, PartialEq)]
pub struct Candidate {
    /// What makes it the same one the next time.
    pub key: Option<String>,
    /// The recipient's key.
    pub recipient: Option<String>,
    /// What its template gets.
    pub data: Option<serde_json::Value>,
    /// Whether that was longer than it may be, and was left out.
    pub is_too_large: bool,
}

crate::masked_debug!(Candidate, "Candidate", is_too_large);

/// Why a row becomes no notification. It is asked about again in the next run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unfit {
    /// Its key is absent, empty or too long.
    NoKey,
    /// Its recipient is absent or no key of one.
    NoRecipient,
    /// Its data is no object.
    NoObject,
    /// Its data is longer than it may be.
    TooLarge,
}

impl Unfit {
    /// Its name in a run's counts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoKey => "key_unusable",
            Self::NoRecipient => "recipient_unusable",
            Self::NoObject => "data_no_object",
            Self::TooLarge => "data_too_large",
        }
    }
}

impl Candidate {
    /// What is wrong with its shape, if anything is.
    pub fn find_flaw(&self) -> Option<Unfit> {
        let is_key = |key: &String| (1..=MAX_CANDIDATE_KEY_BYTES).contains(&key.len()) && !key.contains('\0');
        match self {
            Self { key, .. } if !key.as_ref().is_some_and(is_key) => Some(Unfit::NoKey),
            Self { recipient, .. }
                if recipient.as_ref().is_none_or(|text| crate::id::RecipientKey::parse(text).is_err()) =>
            {
                Some(Unfit::NoRecipient)
            }
            Self { is_too_large: true, .. } => Some(Unfit::TooLarge),
            Self { data: Some(data), .. } if !data.is_object() => Some(Unfit::NoObject),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_is_of_a_schema_of_the_domains_own() {
        let name = SqlName::parse("rental.due_deposits_2").expect("a name");
        assert_eq!(
            (name.schema(), name.name(), name.to_string().as_str()),
            ("rental", "due_deposits_2", "rental.due_deposits_2")
        );
        let long = format!("rental.{}", "a".repeat(64));
        for text in [
            "",
            "rental",
            ".x",
            "rental.",
            "rental.x.y",
            "Rental.x",
            "rental.x;drop",
            "rental.\"x\"",
            "2.x",
            "rental.2x",
            "r\u{e9}.x",
            &long,
        ] {
            assert_eq!(SqlName::parse(text), Err(SqlNameError::Form), "{text:?}");
        }
        for text in ["pg_catalog.pg_class", "pg_toast.x", "information_schema.tables", "harkara.notifications"] {
            assert_eq!(SqlName::parse(text), Err(SqlNameError::Foreign), "{text:?}");
        }
    }

    #[test]
    fn a_row_that_cannot_be_a_notification_says_why() {
        let whole = Candidate {
            key: Some("deposit 7".to_owned()),
            recipient: Some("ada".to_owned()),
            data: Some(json!({"amount": 5})),
            is_too_large: false,
        };
        assert_eq!(whole.find_flaw(), None);
        assert_eq!(Candidate { data: None, ..whole.clone() }.find_flaw(), None, "the job's own data may do");
        let table = [
            (Candidate { key: None, ..whole.clone() }, Unfit::NoKey),
            (Candidate { key: Some(String::new()), ..whole.clone() }, Unfit::NoKey),
            (Candidate { key: Some("k".repeat(256)), ..whole.clone() }, Unfit::NoKey),
            (Candidate { recipient: None, ..whole.clone() }, Unfit::NoRecipient),
            (Candidate { recipient: Some("a b".to_owned()), ..whole.clone() }, Unfit::NoRecipient),
            (Candidate { data: None, is_too_large: true, ..whole.clone() }, Unfit::TooLarge),
            (Candidate { data: Some(json!([1])), ..whole.clone() }, Unfit::NoObject),
        ];
        for (candidate, flaw) in table {
            assert_eq!(candidate.find_flaw(), Some(flaw));
        }
    }
}
