//! Recipients: the bodies that put them, and what is shown of them.

use super::fields::{FieldError, Fields};
use super::problem::Problem;
#[cfg(feature = "services")]
use crate::store::recipients::{RecipientPut, RecipientRow, UnreachableRow};
use domain::address::{EmailAddress, PhoneNumber};
use domain::id::RecipientKey;
use domain::locale::Locale;
use domain::moment::TimeZoneName;
use domain::name::DisplayName;
use domain::render::check_context;
use serde_json::Value;
#[cfg(feature = "services")]
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt;

/// The most recipients in one request.
pub const MAX_RECIPIENTS: usize = 1000;
/// The longest name of a role, in bytes.
pub const MAX_ROLE_LENGTH: usize = 64;
/// The most roles of a recipient, or of a category's rule.
pub const MAX_ROLES: usize = 50;
/// The most that a tenant keeps about a recipient beside its address, in bytes of JSON.
pub const MAX_ATTRIBUTE_BYTES: usize = 16 * 1024;

/// A recipient as it is put.
#[derive(Clone)]
pub struct RecipientBody {
    /// The mail address.
    pub email: Option<EmailAddress>,
    /// The phone number.
    pub phone: Option<PhoneNumber>,
    /// What to call the recipient.
    pub name: Option<DisplayName>,
    /// The language to write in.
    pub locale: Option<Locale>,
    /// The zone to show times in.
    pub time_zone: Option<TimeZoneName>,
    /// What the recipient is, for rules.
    pub roles: Vec<String>,
    /// Whose report the recipient is, for escalations.
    pub manager: Option<RecipientKey>,
    /// What else the tenant keeps about it, for templates.
    pub attributes: Value,
}

/// Shows what masks itself, and nothing of the attributes.
impl fmt::Debug for RecipientBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecipientBody")
            .field("email", &self.email)
            .field("phone", &self.phone)
            .field("name", &self.name)
            .field("roles", &self.roles)
            .finish_non_exhaustive()
    }
}

/// One of many recipients: its id with its body, or what is wrong with it.
#[derive(Debug)]
pub struct BulkItem {
    /// The recipient.
    pub recipient: Result<(RecipientKey, RecipientBody), Vec<FieldError>>,
}

/// Reads the body of `PUT /v1/recipients/{id}`.
pub fn read_recipient(body: &Value) -> Result<RecipientBody, Problem> {
    let fields = Fields::of(body, "").map_err(|error| Problem::invalid(vec![error]))?;
    read_fields(fields).map_err(Problem::invalid)
}

/// Reads the body of `POST /v1/recipients`: one bad recipient does not fail the others.
pub fn read_recipients(body: &Value) -> Result<Vec<BulkItem>, Problem> {
    let mut fields = Fields::of(body, "").map_err(|error| Problem::invalid(vec![error]))?;
    let listed = fields.list("recipients");
    fields.require("recipients", &listed);
    if listed.is_some_and(|list| list.is_empty() || list.len() > MAX_RECIPIENTS) {
        fields.wrong("recipients", format_args!("must have 1 to {MAX_RECIPIENTS} entries"));
    }
    fields.finish().map_err(Problem::invalid)?;
    let mut seen = BTreeSet::new();
    let items = listed.into_iter().flatten().enumerate().map(|(place, entry)| {
        let recipient = read_entry(entry, &format!("/recipients/{place}"));
        let recipient = recipient.and_then(|(key, body)| match seen.insert(key.clone()) {
            true => Ok((key, body)),
            false => Err(vec![FieldError::new(format!("/recipients/{place}/id"), "is in the list already")]),
        });
        BulkItem { recipient }
    });
    Ok(items.collect())
}

fn read_entry(entry: &Value, pointer: &str) -> Result<(RecipientKey, RecipientBody), Vec<FieldError>> {
    let mut fields = Fields::of(entry, pointer).map_err(|error| vec![error])?;
    let key = fields.parsed("id", RecipientKey::parse);
    fields.require("id", &key);
    let body = read_fields(fields)?;
    key.map(|key| (key, body)).ok_or_else(Vec::new)
}

fn read_fields(mut fields: Fields<'_>) -> Result<RecipientBody, Vec<FieldError>> {
    let read = RecipientBody {
        email: fields.parsed("email", EmailAddress::parse),
        phone: fields.parsed("phone", PhoneNumber::parse),
        name: fields.parsed("name", DisplayName::parse),
        locale: fields.parsed("locale", Locale::parse),
        time_zone: fields.parsed("time_zone", TimeZoneName::parse),
        roles: read_roles(&mut fields, "roles").unwrap_or_default(),
        manager: fields.parsed("manager", RecipientKey::parse),
        attributes: fields.opaque("attributes"),
    };
    if fields.value("email").is_none() && fields.value("phone").is_none() {
        let error = FieldError::new(fields.pointer(), "must have an email or a phone");
        fields.extend([error]);
    }
    if read.attributes.to_string().len() > MAX_ATTRIBUTE_BYTES {
        fields.wrong("attributes", format_args!("must have at most {MAX_ATTRIBUTE_BYTES} bytes of JSON"));
    }
    if let Err(error) = check_context(&read.attributes) {
        fields.wrong("attributes", error.detail);
    }
    fields.finish()?;
    Ok(read)
}

/// A list of roles, without repetitions.
pub(super) fn read_roles(fields: &mut Fields<'_>, name: &'static str) -> Option<Vec<String>> {
    let roles = fields.parsed_list(name, parse_role)?;
    if roles.len() > MAX_ROLES {
        fields.wrong(name, format_args!("must have at most {MAX_ROLES} entries"));
    }
    Some(roles.into_iter().collect::<BTreeSet<_>>().into_iter().collect())
}

pub(super) fn parse_role(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > MAX_ROLE_LENGTH || text.chars().any(char::is_control) {
        return Err(format!("must have 1 to {MAX_ROLE_LENGTH} bytes without control characters"));
    }
    Ok(text.to_owned())
}

/// A recipient.
#[cfg(feature = "services")]
pub fn print_recipient(row: &RecipientRow) -> Value {
    let RecipientRow {
        id,
        subject: _,
        email,
        phone,
        name,
        locale,
        time_zone,
        roles,
        manager,
        attributes,
        created_at,
        updated_at,
    } = row;
    json!({
        "id": id, "email": email, "phone": phone, "name": name, "locale": locale, "time_zone": time_zone,
        "roles": roles, "manager": manager, "attributes": attributes, "created_at": created_at, "updated_at": updated_at,
    })
}

/// What became of one of many recipients.
#[cfg(feature = "services")]
pub fn print_put(key: &RecipientKey, put: RecipientPut) -> Value {
    let status = match put {
        RecipientPut::Created => "created",
        RecipientPut::Replaced => "replaced",
    };
    json!({"id": key.as_str(), "status": status})
}

/// A recipient whom nothing reaches, with every reason.
#[cfg(feature = "services")]
pub fn print_unreachable(row: &UnreachableRow) -> Value {
    let UnreachableRow { id, subject: _, created_at, has_no_address, suppressed, is_listed, is_muted } = row;
    let mut reasons = Vec::new();
    if *has_no_address {
        reasons.push(json!({"code": "no_address", "detail": "there is no address for a channel that can be sent"}));
    }
    if let Some(reason) = suppressed {
        reasons
            .push(json!({"code": "address_suppressed", "detail": format!("the mail address is suppressed: {reason}")}));
    }
    if *is_listed {
        let detail = "the mail address is on the provider's own list of suppressed addresses";
        reasons.push(json!({"code": "address_suppressed", "detail": detail}));
    }
    if *is_muted {
        reasons.push(json!({"code": "preference_off", "detail": "everything by mail is switched off"}));
    }
    json!({"id": id, "reasons": reasons, "created_at": created_at})
}
