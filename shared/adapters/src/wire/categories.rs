//! Categories: the body that puts one, and what is shown of it.

use super::fields::{FieldError, Fields};
use super::problem::Problem;
use super::recipients::read_roles;
#[cfg(feature = "services")]
use crate::store::categories::CategoryRow;
use domain::category::{
    Class, Limit, MAX_ATTEMPTS_DEFAULT, MAX_ATTEMPTS_LIMIT, RECONCILE_WINDOW_DEFAULT_SECONDS,
    RECONCILE_WINDOW_LIMIT_SECONDS, UnknownPolicy,
};
use domain::delivery::Channel;
use domain::id::{CategoryKey, TemplateKey};
use domain::moment::Window;
use domain::preference::Cadence;
use serde_json::Value;
#[cfg(feature = "services")]
use serde_json::json;
use std::collections::BTreeSet;

/// The most characters of a category's name.
pub const MAX_NAME_LENGTH: usize = 128;
/// The most characters of a category's description.
pub const MAX_DESCRIPTION_LENGTH: usize = 1000;
/// The longest name of a purpose of consent, in bytes.
pub const MAX_PURPOSE_LENGTH: usize = 64;
/// The longest address of a page, in bytes.
pub const MAX_URL_LENGTH: usize = 1000;
/// The most of a limit.
pub const MAX_LIMIT: u32 = 1000;
/// The longest window of a limit, in seconds: 30 days.
pub const MAX_LIMIT_WINDOW_SECONDS: u32 = 30 * 24 * 60 * 60;

/// The body of `PUT /v1/categories/{key}`.
#[derive(Debug)]
pub struct CategoryBody {
    /// What people call it.
    pub name: Option<String>,
    /// What it is about, for people.
    pub description: Option<String>,
    /// What it is for.
    pub class: Class,
    /// The channels to use.
    pub channels: Vec<Channel>,
    /// The template to use.
    pub template: Option<TemplateKey>,
    /// Attempts that may be spent on a delivery.
    pub max_attempts: u32,
    /// How an attempt of unknown outcome is settled.
    pub unknown_policy: UnknownPolicy,
    /// How long to wait for feedback first, in seconds.
    pub reconcile_window_seconds: u32,
    /// Whether recipients' quiet hours are kept.
    pub quiet_hours_apply: bool,
    /// Roles that cannot switch it off; `*` is everybody.
    pub unmutable_roles: Vec<String>,
    /// What recipients have to have agreed to.
    pub consent_purpose: Option<String>,
    /// At most so many to one recipient.
    pub throttle: Option<Limit>,
    /// The category of the digest that collects what a cadence holds.
    pub digest_category: Option<CategoryKey>,
    /// How it goes, where it is a digest itself.
    pub digest: DigestRules,
}

/// How a category of digests goes. What is silent closes only what was collected.
#[derive(Debug, Default)]
pub struct DigestRules {
    /// A rhythm of its own.
    pub cadence: Option<Cadence>,
    /// Who gets it by that, beside those who cannot switch it off; `*` is everybody.
    pub roles: Vec<String>,
    /// Whether they get it with nothing in it, too.
    pub send_empty: bool,
    /// Where recipients find what it has no room for.
    pub more_url: Option<String>,
}

/// Reads a category. What is silent about quiet hours, roles and consent gets what suits its class.
pub fn read_category(body: &Value) -> Result<CategoryBody, Problem> {
    let mut fields = Fields::of(body, "").map_err(|error| Problem::invalid(vec![error]))?;
    let class = fields.named("class", Class::parse, Class::ALL, Class::as_str);
    fields.require("class", &class);
    let name = fields.parsed("name", |text| parse_line(text, MAX_NAME_LENGTH));
    let description = fields.parsed("description", |text| parse_line(text, MAX_DESCRIPTION_LENGTH));
    let channels = fields.parsed_list("channels", |text| Channel::parse_sendable(text).ok_or("must be email"));
    if channels.as_ref().is_some_and(Vec::is_empty) {
        fields.wrong("channels", "must name at least one channel");
    }
    let channels = channels.map(|named| named.into_iter().collect::<BTreeSet<_>>().into_iter().collect());
    let template = fields.parsed("template", TemplateKey::parse);
    let max_attempts = fields.number("max_attempts", 1, MAX_ATTEMPTS_LIMIT);
    let unknown_policy =
        fields.named("unknown_policy", UnknownPolicy::parse, UnknownPolicy::ALL, UnknownPolicy::as_str);
    let window = fields.parsed("reconcile_window", Window::parse).map(|window| window.seconds());
    if window.is_some_and(|seconds| seconds > RECONCILE_WINDOW_LIMIT_SECONDS) {
        fields.wrong("reconcile_window", "must be at most P1D");
    }
    let quiet_hours_apply = fields.value("quiet_hours_apply").is_some().then(|| fields.flag("quiet_hours_apply"));
    let unmutable_roles = read_roles(&mut fields, "unmutable_roles");
    // An empty purpose says that none is needed, where the class alone would ask for one.
    let consent_purpose = fields.parsed("consent_purpose", |text| match text {
        "" => Ok(None),
        _ => parse_purpose(text).map(Some),
    });
    let throttle = fields.object("throttle", read_limit);
    let digest_category = fields.parsed("digest_category", CategoryKey::parse);
    let digest = fields.object("digest", read_digest);
    let is_digest = class == Some(Class::Digest);
    if digest.is_some() && class.is_some() && !is_digest {
        fields.wrong("digest", "is for categories of class digest");
    }
    if digest_category.is_some() && is_digest {
        fields
            .wrong("digest_category", "must not be named by a category of class digest, which is not collected itself");
    }
    let digest = digest.unwrap_or_default();
    let has_recipients = !digest.roles.is_empty() || unmutable_roles.as_ref().is_some_and(|roles| !roles.is_empty());
    if digest.cadence.is_some() && !has_recipients {
        fields.wrong("digest", "has a cadence and reaches nobody: name roles, or unmutable_roles");
    }
    fields.finish().map_err(Problem::invalid)?;
    let class = class.ok_or_else(|| Problem::invalid(Vec::new()))?;
    Ok(CategoryBody {
        name,
        description,
        class,
        channels: channels.unwrap_or_else(|| vec![Channel::Email]),
        template,
        max_attempts: max_attempts.unwrap_or(MAX_ATTEMPTS_DEFAULT),
        unknown_policy: unknown_policy.unwrap_or(UnknownPolicy::AtLeastOnce),
        reconcile_window_seconds: window.unwrap_or(RECONCILE_WINDOW_DEFAULT_SECONDS),
        quiet_hours_apply: quiet_hours_apply.unwrap_or_else(|| class.keeps_quiet_hours()),
        unmutable_roles: unmutable_roles.unwrap_or_else(|| match class.is_mandatory() {
            true => vec!["*".to_owned()],
            false => Vec::new(),
        }),
        consent_purpose: consent_purpose.unwrap_or_else(|| class.needs_consent().map(str::to_owned)),
        throttle,
        digest_category,
        digest,
    })
}

/// Reads `{"cadence": "weekly", "roles": ["CAE"], "send_empty": true, "more_url": "https://…"}`.
fn read_digest(value: &Value, pointer: String) -> Result<DigestRules, Vec<FieldError>> {
    let mut fields = Fields::of(value, pointer).map_err(|error| vec![error])?;
    let is_silent = fields.value("cadence").is_none();
    let cadence = fields.named("cadence", Cadence::parse, Cadence::PERIODIC, Cadence::as_str);
    if cadence == Some(Cadence::Immediate) {
        fields.wrong("cadence", "must be hourly, daily or weekly");
    }
    let roles = read_roles(&mut fields, "roles").unwrap_or_default();
    let send_empty = fields.flag("send_empty");
    if is_silent && (!roles.is_empty() || send_empty) {
        fields.wrong("cadence", "is needed by roles and send_empty");
    }
    let more_url = fields.parsed("more_url", parse_more_url);
    fields.finish()?;
    Ok(DigestRules { cadence, roles, send_empty, more_url })
}

fn parse_more_url(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("https://").filter(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric()));
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>'));
    if host.is_none() || !is_plain || text.len() > MAX_URL_LENGTH {
        return Err(format!("must be an address that begins with https://, of at most {MAX_URL_LENGTH} characters"));
    }
    Ok(text.to_owned())
}

/// Reads `{"limit": 3, "window": "PT1H"}`.
pub(super) fn read_limit(value: &Value, pointer: String) -> Result<Limit, Vec<FieldError>> {
    let mut fields = Fields::of(value, pointer).map_err(|error| vec![error])?;
    let limit = fields.number("limit", 1, MAX_LIMIT);
    fields.require("limit", &limit);
    let window = fields.parsed("window", Window::parse).map(|window| window.seconds());
    fields.require("window", &window);
    if window.is_some_and(|seconds| seconds > MAX_LIMIT_WINDOW_SECONDS) {
        fields.wrong("window", "must be at most P30D");
    }
    fields.finish()?;
    limit.zip(window).map(|(limit, window_seconds)| Limit { limit, window_seconds }).ok_or_else(Vec::new)
}

/// A limit as it is read.
#[cfg(feature = "services")]
pub(super) fn print_limit(limit: Limit) -> Value {
    let window = Window::from_seconds(limit.window_seconds.into()).ok();
    json!({"limit": limit.limit, "window": window.map(|window| window.to_string())})
}

/// The name of a purpose of consent.
pub(super) fn parse_purpose(text: &str) -> Result<String, String> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':');
    if text.is_empty() || text.len() > MAX_PURPOSE_LENGTH || !text.bytes().all(is_name) {
        return Err(format!("must have 1 to {MAX_PURPOSE_LENGTH} ASCII letters, digits and ._:-"));
    }
    Ok(text.to_owned())
}

fn parse_line(text: &str, most: usize) -> Result<String, String> {
    if text.trim().is_empty() || text.chars().count() > most || text.chars().any(char::is_control) {
        return Err(format!("must have 1 to {most} characters on one line"));
    }
    Ok(text.to_owned())
}

/// A category.
#[cfg(feature = "services")]
pub fn print_category(row: &CategoryRow) -> Value {
    let CategoryRow {
        key,
        name,
        description,
        class,
        channels,
        template_key,
        max_attempts,
        unknown_policy,
        reconcile_window_seconds,
        quiet_hours_apply,
        unmutable_roles,
        consent_purpose,
        throttle,
        digest_category,
        digest_cadence,
        digest_roles,
        digest_send_empty,
        digest_more_url,
        updated_at,
    } = row;
    let digest = json!({
        "cadence": digest_cadence, "roles": digest_roles, "send_empty": digest_send_empty, "more_url": digest_more_url,
    });
    let window = u64::try_from(*reconcile_window_seconds).ok().and_then(|seconds| Window::from_seconds(seconds).ok());
    json!({
        "key": key, "name": name, "description": description, "class": class, "channels": channels,
        "template": template_key, "max_attempts": max_attempts, "unknown_policy": unknown_policy,
        "reconcile_window": window.map(|window| window.to_string()), "quiet_hours_apply": quiet_hours_apply,
        "unmutable_roles": unmutable_roles, "consent_purpose": consent_purpose, "throttle": throttle.map(print_limit),
        "digest_category": digest_category, "digest": (class == Class::Digest.as_str()).then_some(digest),
        "updated_at": updated_at,
    })
}
