//! Dead letters: what died and why, and another life for them.

use super::{Answer, Api};
use adapters::store::dead_letters::{DeadLetter, DeadLetterFilter, list_dead_letters, redrive_dead_letters};
use adapters::wire::fields::{FieldError, Fields};
use adapters::wire::http::{Request, Response};
use adapters::wire::pages::{Cursor, Query};
use adapters::wire::problem::Problem;
use adapters::wire::views;
use domain::event::EventBus;
use domain::id::{CategoryKey, DeadLetterId};
use domain::moment::parse_timestamp;
use domain::queue::{Publication, Queue};
use domain::secret::KeyService;
use serde_json::{Value, json};
use std::time::Duration;

/// Dead letters that one request redrives; the answer says when there are more.
const REDRIVE_LIMIT: u32 = 1000;
/// The most ids in a redrive request.
const REDRIVE_IDS: usize = 1000;
/// The longest reason, in bytes.
const MAX_REASON: usize = 64;

impl<Q: Queue, K: KeyService, B: EventBus> Api<Q, K, B> {
    pub(super) async fn list_dead_letters(&self, request: &Request) -> Answer {
        let mut query = Query::of(&request.query);
        let filter = DeadLetterFilter {
            ids: None,
            category: query.parsed("category", |text| CategoryKey::parse(text).map(|key| key.as_str().to_owned())),
            reason: query.parsed("reason", parse_reason),
            from: query.parsed("from", parse_timestamp),
            to: query.parsed("to", parse_timestamp),
        };
        let page = query.page();
        query.finish()?;
        let mut transaction = self.begin(request).await?;
        let rows = list_dead_letters(&mut transaction, &filter, &page).await?;
        transaction.commit().await?;
        let cursor = |row: &DeadLetter| Cursor { at: row.created_at, id: row.id.as_uuid() };
        Ok(Response::json(200, &views::print_page("dead_letters", &rows, page.size, views::print_dead_letter, cursor)))
    }

    pub(super) async fn redrive_dead_letters(&self, request: &Request, request_id: &str) -> Answer {
        let body = request.json()?;
        let filter = read_redrive(&body)?;
        self.answer_once(request, request_id, &body, async |transaction| {
            let redriven = redrive_dead_letters(transaction, &filter, REDRIVE_LIMIT).await?;
            let ids: Vec<String> = redriven.dead_letters.iter().map(ToString::to_string).collect();
            let answer = json!({
                "redriven_count": ids.len(),
                "has_more": ids.len() == REDRIVE_LIMIT as usize,
                "dead_letters": ids,
            });
            let publications =
                redriven.messages.into_iter().map(|message| Publication { message, delay: Duration::ZERO });
            Ok((answer, publications.collect()))
        })
        .await
    }
}

/// The body of a redrive: `{"ids": […]}` or a filter `{"category", "reason", "from", "to"}`; not everything by silence.
fn read_redrive(body: &Value) -> Result<DeadLetterFilter, Problem> {
    let mut fields = Fields::of(body, "").map_err(|error| Problem::invalid(vec![error]))?;
    let filter = DeadLetterFilter {
        ids: fields.parsed_list("ids", DeadLetterId::parse),
        category: fields.parsed("category", |text| CategoryKey::parse(text).map(|key| key.as_str().to_owned())),
        reason: fields.parsed("reason", parse_reason),
        from: fields.parsed("from", parse_timestamp),
        to: fields.parsed("to", parse_timestamp),
    };
    if filter.ids.as_ref().is_some_and(|ids| ids.is_empty() || ids.len() > REDRIVE_IDS) {
        fields.wrong("ids", format_args!("must have 1 to {REDRIVE_IDS} entries"));
    }
    if ["ids", "category", "reason", "from", "to"].iter().all(|name| fields.value(name).is_none()) {
        fields.extend([FieldError::new("", "must have ids, or a filter of category, reason, from and to")]);
    }
    fields.finish().map_err(Problem::invalid)?;
    Ok(filter)
}

/// A reason as a dead letter has it. Which there are is for the functions to say that bury.
fn parse_reason(text: &str) -> Result<String, String> {
    if (1..=MAX_REASON).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err(format!("must have 1 to {MAX_REASON} bytes"))
    }
}
