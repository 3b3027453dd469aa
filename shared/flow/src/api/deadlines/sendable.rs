//! Whether what a deadline does can be sent at all, whomever it reminds.

use crate::creation::find_refusals;
use crate::reminder::fill_deadline;
use adapters::store::database::{StoreError, TenantTransaction};
use adapters::wire::deadlines::DeadlineBody;
use adapters::wire::fields::FieldError;
use domain::id::{CategoryKey, DeadlineKey, TemplateKey};
use domain::notification::{NotificationRequest, Refusal};
use serde_json::Value;
use std::collections::BTreeMap;

/// What of a deadline could never be sent to anybody: categories without a template, and data that templates cannot take.
pub(super) async fn find_unsendable(
    transaction: &mut TenantTransaction,
    key: &DeadlineKey,
    body: &DeadlineBody,
) -> Result<Vec<FieldError>, StoreError> {
    // Each with where its category stands, and where its data does.
    let mut places = Vec::new();
    let mut requests = Vec::new();
    let mut add = |category: &CategoryKey, template: Option<&TemplateKey>, own: &Value, place: [String; 2]| {
        let mut data = body.data.clone();
        if let (Some(fields), Some(own)) = (data.as_object_mut(), own.as_object()) {
            fields.extend(own.clone());
        }
        fill_deadline(&mut data, key.as_str(), body.due_at);
        let request = NotificationRequest::to_nobody(category.clone(), data);
        requests.push(NotificationRequest { template: template.cloned(), ..request });
        places.push(place);
    };
    for (place, rung) in body.rungs.iter().enumerate() {
        let at = format!("/rungs/{place}");
        let category_at = if rung.category.is_some() { format!("{at}/category") } else { "/category".to_owned() };
        let data_at = if rung.data.as_object().is_some_and(|own| !own.is_empty()) { at } else { String::new() };
        if let Some(category) = rung.category.as_ref().or(body.category.as_ref()) {
            add(category, rung.template.as_ref(), &rung.data, [category_at, data_at]);
        }
    }
    if let Some(category) = body.overdue_category() {
        add(category, None, &Value::Null, ["/overdue/category".to_owned(), String::new()]);
    }
    let mut errors = BTreeMap::new();
    for ([category_at, data_at], refusal) in places.into_iter().zip(find_refusals(transaction, &requests).await?) {
        match refusal {
            None => {}
            Some(Refusal::WrongData(wrong)) => {
                errors.extend(wrong.into_iter().map(|(pointer, detail)| (format!("{data_at}{pointer}"), detail)));
            }
            Some(refusal) => {
                errors.insert(category_at, refusal.to_string());
            }
        }
    }
    Ok(errors.into_iter().map(|(pointer, detail)| FieldError::new(pointer, detail)).collect())
}
