//! The bodies of what people manage: recipients, categories, templates.

use super::fields::{FieldError, Fields};
use super::problem::Problem;
use domain::address::{EmailAddress, PhoneNumber};
use domain::category::{
    Class, MAX_ATTEMPTS_DEFAULT, MAX_ATTEMPTS_LIMIT, RECONCILE_WINDOW_DEFAULT_SECONDS, RECONCILE_WINDOW_LIMIT_SECONDS,
    UnknownPolicy,
};
use domain::delivery::Channel;
use domain::id::TemplateKey;
use domain::locale::Locale;
use domain::moment::{TimeZoneName, Window};
use domain::name::DisplayName;
use domain::render::{Part, TemplateSource, check_template};
use serde_json::Value;
use std::collections::BTreeSet;

/// The longest name of a role.
const MAX_ROLE_LENGTH: usize = 64;

/// The body of `PUT /v1/recipients/{id}`.
#[derive(Debug)]
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
}

/// The body of `PUT /v1/categories/{key}`.
#[derive(Debug)]
pub struct CategoryBody {
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
}

/// The body of `PUT /v1/templates/{key}`: one more version for a channel and locale.
#[derive(Debug)]
pub struct TemplateBody {
    /// The channel.
    pub channel: Channel,
    /// The language.
    pub locale: Locale,
    /// The content; it parses and uses nothing that is not allowed.
    pub source: TemplateSource,
}

/// Reads a recipient.
pub fn read_recipient(body: &Value) -> Result<RecipientBody, Problem> {
    let mut fields = open(body)?;
    let read = RecipientBody {
        email: fields.parsed("email", EmailAddress::parse),
        phone: fields.parsed("phone", PhoneNumber::parse),
        name: fields.parsed("name", DisplayName::parse),
        locale: fields.parsed("locale", Locale::parse),
        time_zone: fields.parsed("time_zone", TimeZoneName::parse),
        roles: fields.parsed_list("roles", parse_role).unwrap_or_default(),
    };
    if fields.value("email").is_none() && fields.value("phone").is_none() {
        fields.extend([FieldError::new("", "must have an email or a phone")]);
    }
    fields.finish().map_err(Problem::invalid)?;
    Ok(read)
}

/// Reads a category.
pub fn read_category(body: &Value) -> Result<CategoryBody, Problem> {
    let mut fields = open(body)?;
    let class = fields.named("class", Class::parse, Class::ALL, Class::as_str);
    fields.require("class", &class);
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
    fields.finish().map_err(Problem::invalid)?;
    Ok(CategoryBody {
        class: class.ok_or_else(|| Problem::invalid(Vec::new()))?,
        channels: channels.unwrap_or_else(|| vec![Channel::Email]),
        template,
        max_attempts: max_attempts.unwrap_or(MAX_ATTEMPTS_DEFAULT),
        unknown_policy: unknown_policy.unwrap_or(UnknownPolicy::AtLeastOnce),
        reconcile_window_seconds: window.unwrap_or(RECONCILE_WINDOW_DEFAULT_SECONDS),
    })
}

/// Reads a template version and checks that it parses and uses nothing that is not allowed.
pub fn read_template(body: &Value) -> Result<TemplateBody, Problem> {
    let mut fields = open(body)?;
    let channel = fields.named("channel", Channel::parse_sendable, Channel::SENDABLE, Channel::as_str);
    let locale = fields.parsed("locale", Locale::parse);
    let subject = fields.string("subject");
    fields.require("subject", &subject);
    let source = TemplateSource {
        subject: subject.unwrap_or_default().to_owned(),
        text: fields.string("text").map(str::to_owned),
        html: fields.string("html").map(str::to_owned),
    };
    if fields.value("text").is_none() && fields.value("html").is_none() {
        fields.extend([FieldError::new("", "must have text or html")]);
    }
    if let Err(error) = check_template(&source) {
        let pointer = match error.part {
            Part::Data => String::new(),
            part => format!("/{}", part.as_str()),
        };
        fields.extend([FieldError::new(pointer, error)]);
    }
    fields.finish().map_err(Problem::invalid)?;
    Ok(TemplateBody {
        channel: channel.unwrap_or(Channel::Email),
        locale: locale.unwrap_or_else(|| Locale::parse("en").expect("a language of two letters is a locale")),
        source,
    })
}

fn open(body: &Value) -> Result<Fields<'_>, Problem> {
    Fields::of(body, "").map_err(|error| Problem::invalid(vec![error]))
}

fn parse_role(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > MAX_ROLE_LENGTH || text.chars().any(char::is_control) {
        return Err(format!("must have 1 to {MAX_ROLE_LENGTH} bytes without control characters"));
    }
    Ok(text.to_owned())
}
