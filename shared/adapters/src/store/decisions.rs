//! What a delivery was decided on, as `deliveries.decision` keeps it: a list of findings.
//!
//! A list that this code cannot read in full is shown as far as it can: an older or newer release wrote it.

use domain::decision::{Allowance, Finding};
use domain::preference::{Cadence, Origin, QuietHours, parse_time, print_time};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Findings as they are stored. What was asked and did not matter is left out: that nobody switched anything off is what
/// every delivery would say.
pub(crate) fn print_findings(findings: &[Finding]) -> Value {
    findings.iter().map(print_finding).collect()
}

fn print_finding(finding: &Finding) -> Value {
    match finding {
        Finding::Suppression { reason, source, since } => {
            json!({"found": "suppression", "suppression": {"reason": reason, "source": source, "since": since}})
        }
        Finding::Expiry { expires_at } => json!({"found": "expiry", "expires_at": expires_at}),
        Finding::Consent { purpose, standing } => json!({
            "found": "consent", "purpose": purpose, "is_granted": standing.map(|(is_granted, _)| is_granted),
            "said_at": standing.map(|(_, at)| at),
        }),
        Finding::Preference { is_on, origin, mandatory_for } => {
            json!({"found": "preference", "is_on": is_on, "origin": origin.as_str(), "mandatory_for": mandatory_for})
        }
        Finding::Cadence { cadence, origin, due } => {
            json!({"found": "cadence", "cadence": cadence.as_str(), "origin": origin.as_str(), "due": due})
        }
        Finding::QuietHours { hours, zone, origin, until } => json!({
            "found": "quiet_hours", "from": print_time(hours.from), "until": print_time(hours.until), "zone": zone,
            "origin": origin.as_str(), "ends_at": until,
        }),
        Finding::Throttle(allowance) => print_allowance("throttle", *allowance),
        Finding::FrequencyCap(allowance) => print_allowance("frequency_cap", *allowance),
    }
}

fn print_allowance(found: &str, allowance: Allowance) -> Value {
    let Allowance { count, pending, limit, window_seconds } = allowance;
    json!({"found": found, "count": count, "pending": pending, "limit": limit, "window_seconds": window_seconds})
}

/// Findings as far as they can be read.
pub(crate) fn read_findings(stored: &Value) -> Vec<Finding> {
    stored.as_array().into_iter().flatten().filter_map(read_finding).collect()
}

fn read_finding(stored: &Value) -> Option<Finding> {
    let text = |name: &str| stored.get(name).and_then(Value::as_str);
    let owned = |name: &str| text(name).map(str::to_owned);
    let at = |name: &str| text(name).and_then(|text| text.parse::<Timestamp>().ok());
    let number = |name: &str| stored.get(name).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
    let origin = || text("origin").and_then(Origin::parse);
    let allowance = || {
        Some(Allowance {
            count: number("count")?,
            pending: number("pending")?,
            limit: number("limit")?,
            window_seconds: number("window_seconds")?,
        })
    };
    Some(match text("found")? {
        "suppression" => {
            // The row may be gone again by the time that it is told about.
            let row = |name: &str| stored["suppression"][name].as_str();
            Finding::Suppression {
                reason: row("reason").unwrap_or("unknown").to_owned(),
                source: row("source").unwrap_or("unknown").to_owned(),
                since: row("since").and_then(|text| text.parse().ok()),
            }
        }
        "expiry" => Finding::Expiry { expires_at: at("expires_at")? },
        "consent" => Finding::Consent {
            purpose: owned("purpose")?,
            standing: stored.get("is_granted").and_then(Value::as_bool).zip(at("said_at")),
        },
        "preference" => Finding::Preference {
            is_on: stored.get("is_on")?.as_bool()?,
            origin: origin()?,
            mandatory_for: owned("mandatory_for"),
        },
        "cadence" => {
            Finding::Cadence { cadence: Cadence::parse(text("cadence")?)?, origin: origin()?, due: at("due")? }
        }
        "quiet_hours" => Finding::QuietHours {
            hours: QuietHours { from: parse_time(text("from")?).ok()?, until: parse_time(text("until")?).ok()? },
            zone: owned("zone")?,
            origin: origin()?,
            until: at("ends_at"),
        },
        "throttle" => Finding::Throttle(allowance()?),
        "frequency_cap" => Finding::FrequencyCap(allowance()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_read_as_they_were_stored() {
        let at: Timestamp = "2026-11-21T08:00:00Z".parse().expect("a timestamp");
        let time = |text| parse_time(text).expect("a time");
        let allowance = Allowance { count: 2, pending: 1, limit: 3, window_seconds: 60 };
        let findings = [
            Finding::Suppression { reason: "complaint".into(), source: "feedback".into(), since: Some(at) },
            Finding::Expiry { expires_at: at },
            Finding::Consent { purpose: "offers".into(), standing: Some((false, at)) },
            Finding::Consent { purpose: "offers".into(), standing: None },
            Finding::Preference { is_on: true, origin: Origin::Mandatory, mandatory_for: Some("CAE".into()) },
            Finding::Cadence { cadence: Cadence::Daily, origin: Origin::Tenant, due: at },
            Finding::QuietHours {
                hours: QuietHours { from: time("22:00"), until: time("07:00") },
                zone: "Asia/Kolkata".into(),
                origin: Origin::Recipient,
                until: Some(at),
            },
            Finding::Throttle(allowance),
            Finding::FrequencyCap(allowance),
        ];
        assert_eq!(read_findings(&print_findings(&findings)), findings);
        assert_eq!(
            read_findings(&json!([{"found": "a later invention"}, {"found": "expiry", "expires_at": at}])).len(),
            1
        );
    }
}
