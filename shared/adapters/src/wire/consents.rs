//! Consents: an entry for the ledger, and what is shown of it.

use super::categories::parse_purpose;
use super::fields::Fields;
use super::problem::Problem;
use crate::store::consents::{Consent, ConsentEntry};
use domain::delivery::Channel;
use domain::moment::parse_timestamp;
use jiff::Timestamp;
use serde_json::{Value, json};

/// The longest name of a source, in characters.
pub const MAX_SOURCE_LENGTH: usize = 128;
/// The most that shows a consent, in bytes of JSON.
pub const MAX_EVIDENCE_BYTES: usize = 16 * 1024;

/// Something that a recipient said; without a time it was said when it is stored.
pub struct ConsentBody {
    /// For what.
    pub purpose: String,
    /// On which channel; `None` is all of them.
    pub channel: Option<Channel>,
    /// Given, or taken back.
    pub is_granted: bool,
    /// Where it was said.
    pub source: String,
    /// What shows it.
    pub evidence: Value,
    /// When it was said.
    pub said_at: Option<Timestamp>,
}

domain::masked_debug!(ConsentBody, "ConsentBody", purpose, channel, is_granted, source, said_at);

/// Reads the body of `POST /v1/recipients/{id}/consents`.
pub fn read_consent(body: &Value) -> Result<ConsentBody, Problem> {
    let mut fields = Fields::of(body, "").map_err(|error| Problem::invalid(vec![error]))?;
    let purpose = fields.parsed("purpose", parse_purpose);
    fields.require("purpose", &purpose);
    let channel = fields.parsed("channel", |text| match text {
        "*" => Ok(None),
        name => Channel::parse(name).map(Some).ok_or("must be * or a channel"),
    });
    let state = fields.parsed("state", |text| match text {
        "granted" => Ok(true),
        "withdrawn" => Ok(false),
        _ => Err("must be granted or withdrawn"),
    });
    fields.require("state", &state);
    let source = fields.parsed("source", |text| {
        let fits = !text.trim().is_empty() && text.chars().count() <= MAX_SOURCE_LENGTH;
        match fits && !text.chars().any(char::is_control) {
            true => Ok(text.to_owned()),
            false => Err(format!("must have 1 to {MAX_SOURCE_LENGTH} characters on one line")),
        }
    });
    fields.require("source", &source);
    let evidence = fields.opaque("evidence");
    if evidence.to_string().len() > MAX_EVIDENCE_BYTES {
        fields.wrong("evidence", format_args!("must have at most {MAX_EVIDENCE_BYTES} bytes of JSON"));
    }
    let said_at = fields.parsed("said_at", parse_timestamp);
    fields.finish().map_err(Problem::invalid)?;
    let missing = || Problem::invalid(Vec::new());
    Ok(ConsentBody {
        purpose: purpose.ok_or_else(missing)?,
        channel: channel.flatten(),
        is_granted: state.ok_or_else(missing)?,
        source: source.ok_or_else(missing)?,
        evidence,
        said_at,
    })
}

/// An entry of the ledger.
pub fn print_consent(entry: &ConsentEntry) -> Value {
    let ConsentEntry { id, consent: Consent { purpose, channel, is_granted, source, evidence, said_at }, created_at } =
        entry;
    json!({
        "id": format!("cns_{}", id.simple()),
        "purpose": purpose,
        "channel": channel.map_or("*", Channel::as_str),
        "state": if *is_granted { "granted" } else { "withdrawn" },
        "source": source,
        "evidence": evidence,
        "said_at": said_at,
        "created_at": created_at,
    })
}
