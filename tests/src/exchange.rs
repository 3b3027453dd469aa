//! A caller's request for notifications and what it came to know, for the checker.

use std::hash::{DefaultHasher, Hash, Hasher};

use domain::id::{NotificationId, TenantId};
use jiff::Timestamp;
use proof::history::{Answer, Request};
use serde_json::Value;

/// A request and what came back.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// By the caller's clock.
    pub sent_at: Timestamp,
    /// As whom.
    pub tenant: String,
    /// Its `Idempotency-Key`.
    pub key: Option<String>,
    /// As it was sent.
    pub body: String,
    /// The status; 0 where no answer came.
    pub status: i64,
    /// The answer's body.
    pub answer: Value,
}

impl Exchange {
    /// As the checker wants it, with the time at which it was sent by the database's clock.
    pub fn read(&self, sent_at: Timestamp) -> Request {
        let mut hasher = DefaultHasher::new();
        self.body.hash(&mut hasher);
        Request {
            sent_at,
            tenant: TenantId::parse(&self.tenant).expect("tests send as tenants"),
            idempotency_key: self.key.clone(),
            body_hash: hasher.finish(),
            asked_count: count_asked(&self.body),
            answer: self.read_answer(),
        }
    }

    fn read_answer(&self) -> Answer {
        match self.status {
            200..300 => {
                let list = self.answer["notifications"].as_array();
                let entries = list.map_or(std::slice::from_ref(&self.answer), Vec::as_slice);
                let ids = entries.iter().filter_map(|entry| entry["id"].as_str());
                Answer::Accepted(ids.map(|id| NotificationId::parse(id).expect("an id of ours")).collect())
            }
            400..500 => Answer::Refused(u16::try_from(self.status).unwrap_or_default()),
            _ => Answer::Unknown,
        }
    }
}

/// How many notifications a body asks for.
fn count_asked(body: &str) -> usize {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let list = body["notifications"].as_array();
    let items = list.map_or(std::slice::from_ref(&body), Vec::as_slice);
    items.iter().map(|item| item["recipients"].as_array().map_or(1, Vec::len)).sum()
}
