//! Whether digests can be made at all, before any is due, and what is told of those that could not.

use super::closing::print_sections;
use crate::creation::{find_refusals, say};
use adapters::ids::new_uuid;
use adapters::store::database::{StoreError, TenantTransaction};
use adapters::store::digests::ClosedDigest;
use domain::deadline::Note;
use domain::digest::DigestKey;
use domain::event::Event;
use domain::id::{CategoryKey, EventId, TenantId};
use domain::notification::{NotificationRequest, Refusal};
use domain::template::{Variables, check_data};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The event that tells of a digest that could not be made.
const DIGEST_REFUSED: &str = "digest.refused";

/// What any digest's template is given, with nothing in it.
fn empty_digest() -> Value {
    print_sections(&[], Timestamp::UNIX_EPOCH, "https://example.org/")
}

/// Why no digest of a category could be made, in words: its template asks for what digests do not have. Where there is no
/// template yet, or none that was published, there is nothing to say.
pub(crate) async fn find_unfit(
    transaction: &mut TenantTransaction,
    category: &CategoryKey,
) -> Result<Option<String>, StoreError> {
    let request = NotificationRequest::to_nobody(category.clone(), empty_digest());
    let refusal = find_refusals(transaction, &[request]).await?.pop().flatten();
    let is_unfit = |refusal: &Refusal| matches!(refusal, Refusal::WrongData(_));
    Ok(refusal.filter(is_unfit).map(|refusal| format!("no digest of it can be made: {}", say(&refusal))))
}

/// The variables that no digest has, or has as something else: pointers below the data, and what is wrong.
pub(crate) fn find_unfit_variables(variables: &Variables) -> Vec<(String, String)> {
    check_data(variables, &empty_digest()).err().unwrap_or_default()
}

/// What is told of a digest that could not be made. Its members go by themselves; with none, nobody hears of it otherwise.
pub(super) fn tell_refusal(tenant: TenantId, digest: &ClosedDigest, refusal: &Refusal) -> Event {
    let id = EventId::from_uuid(new_uuid());
    let DigestKey { recipient, category, channel } = &digest.key;
    let detail = json!({
        "event_id": id.to_string(),
        "tenant_id": tenant.to_string(),
        "category": category.as_str(),
        "recipient": recipient.as_str(),
        "channel": channel.as_str(),
        "period_end": digest.period_end,
        "member_count": digest.member_count,
        // In the words of rungs that fail.
        "reason": Note::of_refusal(refusal).as_str(),
        "detail": say(refusal),
    });
    Event { id, tenant, detail_type: DIGEST_REFUSED.to_owned(), detail }
}
