//! What SES tells of the account: the addresses that it does not deliver to, and its rate.
//!
//! `GET /v2/email/account`, `GET`, `PUT` and `DELETE` of `/v2/email/suppression/addresses`, as in the API's reference:
//! <https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_Operations.html>.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::address::Address;
use super::refusal::Refusal;

/// The most addresses of a page, and how many there are when the caller does not say.
const PAGE_MAX: u32 = 1000;
/// What the token of a next page begins with.
const TOKEN: &str = "after:";
const REASONS: [&str; 2] = ["BOUNCE", "COMPLAINT"];

/// The account's own list and its rate.
#[derive(Debug)]
pub(super) struct AccountBook {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    max_send_rate: f64,
    listed: BTreeMap<String, (String, Timestamp)>,
}

/// The members of `ListSuppressedDestinations`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct ListQuery {
    page_size: Option<u32>,
    next_token: Option<String>,
    reason: Option<String>,
    start_date: Option<String>,
    end_date: Option<String>,
}

/// The members of `PutSuppressedDestination`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct PutSuppressed {
    email_address: String,
    reason: String,
}

impl AccountBook {
    pub(super) fn new(max_send_rate: f64) -> Self {
        Self { state: Mutex::new(State { max_send_rate, listed: BTreeMap::new() }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is one insertion, removal or assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_max_send_rate(&self, rate: f64) {
        self.lock().max_send_rate = rate;
    }

    pub(super) fn add(&self, address: &Address, reason: &str) {
        self.lock().listed.insert(address.key(), (reason.to_owned(), Timestamp::now()));
    }

    pub(super) fn remove(&self, address: &Address) -> bool {
        self.lock().listed.remove(&address.key()).is_some()
    }

    pub(super) fn lists(&self, address: &Address) -> bool {
        self.lock().listed.contains_key(&address.key())
    }

    /// `GetAccount`.
    pub(super) fn describe(&self) -> Value {
        json!({
            "DedicatedIpAutoWarmupEnabled": false,
            "EnforcementStatus": "HEALTHY",
            "ProductionAccessEnabled": true,
            "SendingEnabled": true,
            "SendQuota": {"Max24HourSend": -1.0, "MaxSendRate": self.lock().max_send_rate, "SentLast24Hours": 0.0},
            "SuppressionAttributes": {"SuppressedReasons": REASONS},
        })
    }

    /// `ListSuppressedDestinations`. A token is good for the address after which the next page begins.
    ///
    /// Errors: a member that the API's model forbids, or a token that was never given.
    pub(super) fn list(&self, query: &ListQuery) -> Result<Value, Refusal> {
        let size = query.page_size.unwrap_or(PAGE_MAX);
        if !(1..=PAGE_MAX).contains(&size) {
            return Err(Refusal::bad_request(format!("PageSize must be between 1 and {PAGE_MAX}.")));
        }
        if let Some(reason) = query.reason.as_deref().filter(|reason| !REASONS.contains(reason)) {
            return Err(Refusal::bad_request(format!("Invalid suppression reason <{reason}>.")));
        }
        let at = |date: &Option<String>| match date {
            None => Ok(None),
            Some(date) => date.parse::<Timestamp>().map(Some).map_err(|_| Refusal::bad_request("Invalid date.")),
        };
        let (start, end) = (at(&query.start_date)?, at(&query.end_date)?);
        let after = query.next_token.as_deref().map(|token| token.strip_prefix(TOKEN).ok_or(token)).transpose();
        let after = after.map_err(|token| Refusal::bad_request(format!("Invalid token <{token}>.")))?;
        let state = self.lock();
        let mut page: Vec<_> = state
            .listed
            .iter()
            .filter(|(address, _)| after.is_none_or(|after| address.as_str() > after))
            .filter(|(_, (reason, _))| query.reason.as_deref().is_none_or(|wanted| reason == wanted))
            .filter(|(_, (_, at))| start.is_none_or(|start| *at >= start) && end.is_none_or(|end| *at <= end))
            .take(size as usize + 1)
            .collect();
        let more = page.len() > size as usize;
        page.truncate(size as usize);
        let next = page.last().filter(|_| more).map(|(address, _)| format!("{TOKEN}{address}"));
        let summaries: Value = page
            .iter()
            .map(|(address, (reason, at))| {
                json!({"EmailAddress": address, "Reason": reason, "LastUpdateTime": at.as_millisecond() as f64 / 1000.0})
            })
            .collect();
        let mut answer = json!({"SuppressedDestinationSummaries": summaries});
        if let Some(next) = next {
            answer["NextToken"] = next.into();
        }
        Ok(answer)
    }

    /// `PutSuppressedDestination`.
    ///
    /// Errors: the address is none, or the reason is none of SES's.
    pub(super) fn put(&self, request: &PutSuppressed) -> Result<(), Refusal> {
        if !REASONS.contains(&request.reason.as_str()) {
            return Err(Refusal::bad_request(format!("Invalid suppression reason <{}>.", request.reason)));
        }
        self.add(&Address::parse(&request.email_address)?, &request.reason);
        Ok(())
    }
}
