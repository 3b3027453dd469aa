//! What recipients want, what their tenant wants for those who say nothing, and which of it holds.

use super::recipients::find_recipient;
use super::{Answer, Api};
use crate::request::Refused;
use adapters::store::categories::{CategoryRow, all_categories};
use adapters::store::database::{StoreError, TenantTransaction};
use adapters::store::preferences::{TENANT_SUBJECT, list_wishes, replace_wishes};
use adapters::store::subjects::lock_subject;
use adapters::wire::fields::FieldError;
use adapters::wire::http::{Request, Response};
use adapters::wire::preferences::{HeldPreference, print_preferences, read_preferences, read_tenant_preferences};
use adapters::wire::problem::Problem;
use domain::delivery::Channel;
use domain::event::EventBus;
use domain::preference::StatedWish;
use domain::preference::{Preference, resolve_preference};
use domain::queue::Queue;
use domain::secret::KeyService;
use std::collections::BTreeSet;

impl<Q: Queue, K: KeyService, B: EventBus> Api<Q, K, B> {
    pub(super) async fn get_preferences(&self, request: &Request) -> Answer {
        let mut transaction = self.begin(request).await?;
        let recipient = find_recipient(&mut transaction, request).await?;
        let stated = list_wishes(&mut transaction, recipient.subject).await?;
        let held = hold_preferences(&mut transaction, &stated, &recipient.roles).await?;
        transaction.commit().await?;
        Ok(Response::json(200, &print_preferences(&stated, &held)))
    }

    /// Replaces what a recipient stated. What is mandatory for one of its roles cannot be switched off.
    pub(super) async fn put_preferences(&self, request: &Request) -> Answer {
        let stated = read_preferences(&request.json()?)?;
        let mut transaction = self.begin(request).await?;
        let recipient = find_recipient(&mut transaction, request).await?;
        lock_subject(&mut transaction, recipient.subject).await?;
        let categories = all_categories(&mut transaction).await?;
        check_wishes(&stated, &categories, &recipient.roles)?;
        replace_wishes(&mut transaction, recipient.subject, &stated).await?;
        let held = hold_preferences(&mut transaction, &stated, &recipient.roles).await?;
        transaction.commit().await?;
        Ok(Response::json(200, &print_preferences(&stated, &held)))
    }

    pub(super) async fn get_tenant_preferences(&self, request: &Request) -> Answer {
        let mut transaction = self.begin(request).await?;
        let stated = list_wishes(&mut transaction, TENANT_SUBJECT).await?;
        let held = hold_preferences(&mut transaction, &[], &[]).await?;
        transaction.commit().await?;
        Ok(Response::json(200, &print_preferences(&stated, &held)))
    }

    pub(super) async fn put_tenant_preferences(&self, request: &Request) -> Answer {
        let stated = read_tenant_preferences(&request.json()?)?;
        let mut transaction = self.begin(request).await?;
        lock_subject(&mut transaction, TENANT_SUBJECT).await?;
        let categories = all_categories(&mut transaction).await?;
        check_wishes(&stated, &categories, &[])?;
        replace_wishes(&mut transaction, TENANT_SUBJECT, &stated).await?;
        let held = hold_preferences(&mut transaction, &[], &[]).await?;
        transaction.commit().await?;
        Ok(Response::json(200, &print_preferences(&stated, &held)))
    }
}

/// What holds for a recipient with these roles who stated this, for each category and channel that can be sent.
async fn hold_preferences(
    transaction: &mut TenantTransaction,
    stated: &[StatedWish],
    roles: &[String],
) -> Result<Vec<HeldPreference>, StoreError> {
    let tenants = list_wishes(transaction, TENANT_SUBJECT).await?;
    let categories = all_categories(transaction).await?;
    let held = categories.iter().flat_map(|category| {
        let tenants = &tenants;
        Channel::SENDABLE.iter().map(move |&channel| HeldPreference {
            category: category.key.clone(),
            channel,
            preference: hold_preference(category, channel, stated, tenants, roles),
        })
    });
    Ok(held.collect())
}

/// What holds for one category and channel.
pub(crate) fn hold_preference(
    category: &CategoryRow,
    channel: Channel,
    stated: &[StatedWish],
    tenants: &[StatedWish],
    roles: &[String],
) -> Preference {
    let about = |wishes: &[StatedWish], is_tenants| {
        let about = wishes.iter().filter(|wish| wish.is_about(&category.key, channel));
        about.map(|wish| (wish.origin(is_tenants), wish.wish)).collect::<Vec<_>>()
    };
    let wishes = [about(stated, false), about(tenants, true)].concat();
    resolve_preference(&wishes, &category.unmutable_roles, roles)
}

/// Refuses wishes about categories that do not exist, and switching off what is mandatory.
fn check_wishes(stated: &[StatedWish], categories: &[CategoryRow], roles: &[String]) -> Result<(), Refused> {
    let known: BTreeSet<_> = categories.iter().map(|category| category.key.as_str()).collect();
    let mut unknown = Vec::new();
    let mut mandatory = Vec::new();
    for (place, wish) in stated.iter().enumerate() {
        let Some(key) = &wish.category else { continue };
        if !known.contains(key.as_str()) {
            let pointer = format!("/preferences/{place}/category");
            unknown.push(FieldError::new(pointer, "no category has this key; see GET /v1/categories"));
        }
        let category = categories.iter().find(|category| category.key == key.as_str());
        let locked =
            category.and_then(|category| resolve_preference(&[], &category.unmutable_roles, roles).mandatory_for);
        if let (Some(false), Some(role)) = (wish.wish.is_on, locked) {
            let whom = if role == "*" { "everybody".to_owned() } else { format!("the role {role}") };
            let detail = format!("{key} is mandatory for {whom} and cannot be switched off");
            mandatory.push(FieldError::new(format!("/preferences/{place}/enabled"), detail));
        }
    }
    if !unknown.is_empty() {
        return Err(Problem::invalid(unknown).into());
    }
    if !mandatory.is_empty() {
        return Err(Problem::mandatory_category(mandatory).into());
    }
    Ok(())
}
