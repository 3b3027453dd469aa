//! The audit log as a tenant reads it.
//!
//! The cast: triggers write a row for every change, `harkara.seal_audit` chains what no running transaction can add to
//! any more (the dispatcher calls it each minute), `harkara.verify_audit` walks a tenant's chain. A caller who keeps the
//! head that it was shown can prove any later change of what lies before it.

use super::{Answer, Api};
use adapters::store::audit::{ChangeFilter, list_changes, verify_chain};
use adapters::wire::audit::{change_cursor, print_change, print_check, read_operation, read_row_key};
use adapters::wire::http::{Request, Response};
use adapters::wire::pages::{Query, parse_number};
use adapters::wire::views::print_found;
use domain::event::EventBus;
use domain::moment::parse_timestamp;
use domain::queue::Queue;
use domain::secret::KeyService;

/// Blocks that one request verifies; it stops earlier where they hold many rows.
const VERIFIED_BLOCKS: i32 = 1000;

impl<Q: Queue, K: KeyService, B: EventBus> Api<Q, K, B> {
    /// A page of the tenant's changes, newest first.
    pub(super) async fn list_changes(&self, request: &Request) -> Answer {
        let mut query = Query::of(&request.query);
        let text = |text: &str| Ok::<_, String>(text.to_owned());
        let filter = ChangeFilter {
            table: query.parsed("table", text),
            operation: query.parsed("operation", read_operation),
            actor: query.parsed("actor", text),
            key: query.parsed("key", |text| Ok::<_, String>(read_row_key(text))),
            from: query.parsed("from", parse_timestamp),
            to: query.parsed("to", parse_timestamp),
        };
        let page = query.page();
        query.finish()?;
        let mut transaction = self.begin(request).await?;
        let found = list_changes(&mut transaction, &filter, &page).await?;
        transaction.commit().await?;
        Ok(Response::json(200, &print_found("changes", &found, page.size, print_change, change_cursor)))
    }

    /// Whether the tenant's chain holds, from a block on.
    pub(super) async fn verify_audit(&self, request: &Request) -> Answer {
        let mut query = Query::of(&request.query);
        let from_block = query.parsed("from_block", |text| match parse_number::<i64>(text) {
            Some(number) if number > 0 => Ok(number),
            _ => Err("must be a block's number, 1 or more"),
        });
        query.finish()?;
        let mut transaction = self.begin(request).await?;
        let check = verify_chain(&mut transaction, from_block.unwrap_or(1), VERIFIED_BLOCKS).await?;
        transaction.commit().await?;
        Ok(Response::json(200, &print_check(&check)))
    }
}
