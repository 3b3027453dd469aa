//! A notification as a caller asks for it, and how its deliveries begin.

use crate::address::{EmailAddress, PhoneNumber};
use crate::attachment::Attachment;
use crate::calendar::Invitation;
use crate::category::{DeliveryRules, Priority};
use crate::collection::{Collect, UNCLOSED_GRACE, preview_data};
use crate::delivery::{Channel, DeliveryState};
use crate::due::{self, PUBLISH_LEAD};
use crate::header::Subject;
use crate::id::{CategoryKey, DedupeKey, RecipientKey, TemplateKey};
use crate::locale::Locale;
use crate::moment::{TimeZoneName, Window};
use crate::name::DisplayName;
use crate::retry;
use crate::template::{Variables, check_data};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// The most notifications in one request.
pub const MAX_NOTIFICATIONS: usize = 100;
/// The most recipients in one request, over all its notifications.
pub const MAX_RECIPIENTS: usize = 1000;
/// How far ahead a notification can be scheduled: a year, and a leap day.
pub const FURTHEST_SEND: SignedDuration = SignedDuration::from_hours(366 * 24);
/// How long a dedupe key turns away others where the request does not say, in seconds.
pub const DEDUPE_WINDOW_DEFAULT_SECONDS: u32 = 24 * 60 * 60;

/// Whom to tell.
#[derive(Clone, Debug, PartialEq)]
pub enum Recipient {
    /// One that the tenant has stored.
    Known(RecipientKey),
    /// One that is given with the request.
    Inline(InlineRecipient),
}

/// An address given with the request; at least one of `email` and `phone`.
#[derive(Clone, Debug, PartialEq)]
pub struct InlineRecipient {
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
}

/// What to say where the request brings its own words.
#[derive(Clone, PartialEq, Default)]
pub struct InlineContent {
    /// Replaces the template's subject.
    pub subject: Option<String>,
    /// Replaces the template's text part.
    pub text: Option<String>,
    /// Replaces the template's HTML part.
    pub html: Option<String>,
}

crate::masked_debug!(InlineContent, "InlineContent");

impl InlineContent {
    /// Whether it can be sent without a template.
    pub fn is_whole(&self) -> bool {
        self.subject.is_some() && (self.text.is_some() || self.html.is_some())
    }
}

/// Turns away a second notification with the same key while the window lasts.
#[derive(Clone, Debug, PartialEq)]
pub struct Dedupe {
    /// The caller's key.
    pub key: DedupeKey,
    /// How long it holds, in seconds.
    pub window_seconds: u32,
}

/// One notification as asked for: parsed, but not yet held against what the tenant has.
#[derive(Clone, PartialEq)]
pub struct NotificationRequest {
    /// Its kind.
    pub category: CategoryKey,
    /// Whom to tell; each becomes a notification of its own.
    pub recipients: Vec<Recipient>,
    /// Where the request wants other channels than the category's.
    pub channels: Option<Vec<Channel>>,
    /// Where the request wants another template than the category's.
    pub template: Option<TemplateKey>,
    /// Words of its own.
    pub content: InlineContent,
    /// The template's variables.
    pub data: serde_json::Value,
    /// Files that leave with the mail.
    pub attachments: Vec<Attachment>,
    /// An event that the mail invites to.
    pub invitation: Option<Invitation>,
    /// When to send; `None` is now.
    pub send_at: Option<Timestamp>,
    /// When it is too late.
    pub expires_at: Option<Timestamp>,
    /// Turns away repetitions.
    pub dedupe: Option<Dedupe>,
    /// Waits for others that leave with it.
    pub collect: Option<Collect>,
    /// How urgent it is.
    pub priority: Priority,
    /// Do everything but the provider call.
    pub sandbox: bool,
    /// The caller's own words, kept and shown.
    pub metadata: serde_json::Value,
}

impl NotificationRequest {
    /// One for one known recipient, with all else as it is where a request is silent.
    pub fn to_recipient(category: CategoryKey, recipient: RecipientKey, data: serde_json::Value) -> Self {
        Self { recipients: vec![Recipient::Known(recipient)], ..Self::to_nobody(category, data) }
    }

    /// A request that nobody gets: planning it says what is wrong with it for whoever would.
    pub fn to_nobody(category: CategoryKey, data: serde_json::Value) -> Self {
        Self {
            category,
            recipients: Vec::new(),
            channels: None,
            template: None,
            content: InlineContent::default(),
            data,
            attachments: Vec::new(),
            invitation: None,
            send_at: None,
            expires_at: None,
            dedupe: None,
            collect: None,
            priority: Priority::Normal,
            sandbox: false,
            metadata: serde_json::json!({}),
        }
    }
}

crate::masked_debug!(NotificationRequest, "NotificationRequest", category, recipients, channels, template, send_at);

/// What the tenant has of what a request names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TenantContext {
    /// Its known recipients, of those named.
    pub recipients: BTreeMap<String, Reach>,
    /// Its categories, of those named.
    pub categories: BTreeMap<String, CategoryDefaults>,
    /// Its published templates, of those named and those of the categories, with what each asks of the data.
    pub templates: BTreeMap<String, Option<Variables>>,
}

/// The channels that a recipient has an address for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// A mail address is there.
    pub email: bool,
    /// A phone number is there.
    pub phone: bool,
}

impl Reach {
    fn has(self, channel: Channel) -> bool {
        match channel {
            Channel::Email => self.email,
            Channel::Sms | Channel::Voice => self.phone,
            Channel::Push | Channel::Slack | Channel::Teams | Channel::InApp => false,
        }
    }
}

/// What a category gives where the request is silent.
#[derive(Clone, Debug, PartialEq)]
pub struct CategoryDefaults {
    /// The channels to use.
    pub channels: Vec<Channel>,
    /// The template to use.
    pub template: Option<String>,
    /// The rules that its deliveries begin with.
    pub rules: DeliveryRules,
}

impl Default for CategoryDefaults {
    fn default() -> Self {
        Self { channels: vec![Channel::Email], template: None, rules: DeliveryRules::default() }
    }
}

/// Why a request cannot be accepted as it stands; the adapter adds where in the request it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No such category.
    UnknownCategory,
    /// No such recipient; the index is the recipient's place in the request.
    UnknownRecipient(usize),
    /// No such template.
    UnknownTemplate,
    /// The category's template was never published.
    UnpublishedTemplate,
    /// The data lacks what the template needs, or has something else there: pointers below the data, and what is wrong.
    WrongData(Vec<(String, String)>),
    /// Neither a template nor whole content.
    NoContent,
    /// The recipient has no address for any of the channels.
    NoAddress(usize),
    /// `send_at` is more than a year ahead.
    SendTooFarAhead,
    /// `expires_at` is not after `send_at`.
    ExpiresBeforeSend,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownCategory => "no category has this key; create it with PUT /v1/categories/{key}",
            Self::UnknownRecipient(_) => "no recipient has this id; create it with PUT /v1/recipients/{id}",
            Self::UnknownTemplate => {
                "no template has this key, or none that was published; see PUT /v1/templates/{key}"
            }
            Self::UnpublishedTemplate => {
                "the category's template is a draft; publish it with POST /v1/templates/{key}/publish"
            }
            Self::WrongData(_) => "the data is not what the template asks for",
            Self::NoContent => "the category has no template, so give one, or a subject with text or html",
            Self::NoAddress(_) => "the recipient has no address for any of the channels",
            Self::SendTooFarAhead => "send_at is more than 366 days ahead",
            Self::ExpiresBeforeSend => "expires_at is not after send_at, or has passed",
        })
    }
}

/// How the deliveries of an accepted notification begin.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// When to send.
    pub send_at: Timestamp,
    /// The template, where one is used.
    pub template: Option<String>,
    /// A delivery for each of these.
    pub channels: Vec<Channel>,
    /// The rules that each begins with.
    pub rules: DeliveryRules,
    /// How they start out.
    pub start: Start,
}

/// The first state of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// `queued` when it is published at once, else `scheduled`.
    pub state: DeliveryState,
    /// When the dispatcher has to look at it.
    pub due_at: Timestamp,
    /// How long the queue holds its message back; `None` when it is not published yet.
    pub publish_delay: Option<Duration>,
}

/// Holds a request against what the tenant has and decides how each of its recipients is served:
/// one plan or refusal for each, in order.
pub fn plan_notifications(
    request: &NotificationRequest,
    tenant: &TenantContext,
    now: Timestamp,
) -> Result<Vec<Result<Plan, Refusal>>, Refusal> {
    let category = tenant.categories.get(request.category.as_str()).ok_or(Refusal::UnknownCategory)?;
    let send_at = match &request.collect {
        // At the latest: who joins a batch leaves with it.
        Some(collect) => now + SignedDuration::from_secs(collect.window_seconds.into()),
        None => request.send_at.unwrap_or(now).max(now),
    };
    if send_at.duration_since(now) > FURTHEST_SEND {
        return Err(Refusal::SendTooFarAhead);
    }
    if request.expires_at.is_some_and(|at| at <= send_at) {
        return Err(Refusal::ExpiresBeforeSend);
    }
    let template = match &request.template {
        Some(asked) if tenant.templates.contains_key(asked.as_str()) => Some(asked.as_str().to_owned()),
        Some(_) => return Err(Refusal::UnknownTemplate),
        None if request.content.is_whole() => None,
        None => match &category.template {
            Some(key) if !tenant.templates.contains_key(key) => return Err(Refusal::UnpublishedTemplate),
            template => template.clone(),
        },
    };
    if template.is_none() && !request.content.is_whole() {
        return Err(Refusal::NoContent);
    }
    // Parts of the request's own may use other variables than the template's.
    if let Some(Some(variables)) = template.as_ref().and_then(|key| tenant.templates.get(key)) {
        check_data(variables, &request.data).map_err(Refusal::WrongData)?;
        // What the message adds has to suit the template, too.
        if let Some(collect) = &request.collect {
            check_data(variables, &preview_data(collect.kind, &request.data)).map_err(Refusal::WrongData)?;
        }
    }
    let asked = request.channels.as_ref().unwrap_or(&category.channels);
    let plan = |(place, recipient): (usize, &Recipient)| {
        let reach = match recipient {
            Recipient::Known(key) => *tenant.recipients.get(key.as_str()).ok_or(Refusal::UnknownRecipient(place))?,
            Recipient::Inline(inline) => Reach { email: inline.email.is_some(), phone: inline.phone.is_some() },
        };
        let channels: BTreeSet<Channel> = asked.iter().copied().filter(|channel| reach.has(*channel)).collect();
        if channels.is_empty() {
            return Err(Refusal::NoAddress(place));
        }
        Ok(Plan {
            send_at,
            template: template.clone(),
            channels: channels.into_iter().collect(),
            rules: category.rules,
            start: match request.collect {
                Some(_) => start_collected(send_at),
                None => start_delivery(send_at, now),
            },
        })
    };
    Ok(request.recipients.iter().enumerate().map(plan).collect())
}

/// Decides how a delivery begins: what the queue can hold back until its time is published at once.
pub fn start_delivery(send_at: Timestamp, now: Timestamp) -> Start {
    if send_at.duration_since(now) > due::LONGEST_DELAY {
        return Start { state: DeliveryState::Scheduled, due_at: send_at - PUBLISH_LEAD, publish_delay: None };
    }
    let delay = due::delay_until(send_at, now);
    let grace = SignedDuration::from_secs(retry::republish_after(1).as_secs().cast_signed());
    Start { state: DeliveryState::Queued, due_at: send_at.max(now) + grace, publish_delay: Some(delay) }
}

/// Decides how a delivery begins that waits for its collection, whose close brings it on. What no close came for leaves by
/// itself, late rather than never.
fn start_collected(send_at: Timestamp) -> Start {
    Start { state: DeliveryState::Scheduled, due_at: send_at + UNCLOSED_GRACE, publish_delay: None }
}

/// A window in seconds, or the default of a dedupe key.
pub fn dedupe_seconds(window: Option<Window>) -> u32 {
    window.map_or(DEDUPE_WINDOW_DEFAULT_SECONDS, |window| window.seconds())
}

/// A subject given with a request is a template like any other; without markup it is held to the rules at once.
pub fn is_plain_subject_valid(subject: &str) -> bool {
    subject.contains("{{") || subject.contains("{%") || Subject::parse(subject).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T10:00:00Z".parse().expect("a timestamp")
    }

    fn request() -> NotificationRequest {
        let (category, recipient) = (CategoryKey::parse("INVITATION"), RecipientKey::parse("auditor-7"));
        NotificationRequest::to_recipient(category.expect("a key"), recipient.expect("a key"), serde_json::json!({}))
    }

    fn tenant() -> TenantContext {
        let category = CategoryDefaults { template: Some("invitation".into()), ..CategoryDefaults::default() };
        TenantContext {
            recipients: BTreeMap::from([("auditor-7".to_owned(), Reach { email: true, phone: false })]),
            categories: BTreeMap::from([("INVITATION".to_owned(), category)]),
            templates: BTreeMap::from([("invitation".to_owned(), None)]),
        }
    }

    #[test]
    fn a_plain_request_takes_everything_from_its_category() {
        let plans = plan_notifications(&request(), &tenant(), now()).expect("accepted");
        let plan = plans[0].as_ref().expect("accepted");
        assert_eq!(plan.template.as_deref(), Some("invitation"));
        assert_eq!((plan.start.state, plan.start.publish_delay), (DeliveryState::Queued, Some(Duration::ZERO)));
    }

    #[test]
    fn fifteen_minutes_wait_in_the_queue_and_more_in_the_database() {
        let table = [(0, DeliveryState::Queued), (900, DeliveryState::Queued), (901, DeliveryState::Scheduled)];
        for (seconds, state) in table {
            let start = start_delivery(now() + SignedDuration::from_secs(seconds), now());
            assert_eq!(start.state, state, "{seconds} s ahead");
            assert_eq!(start.publish_delay.is_some(), state == DeliveryState::Queued);
        }
    }

    #[test]
    fn what_the_tenant_does_not_have_is_refused_by_name() {
        let refused = |change: &dyn Fn(&mut NotificationRequest, &mut TenantContext)| {
            let (mut request, mut tenant) = (request(), tenant());
            change(&mut request, &mut tenant);
            match plan_notifications(&request, &tenant, now()) {
                Err(refusal) => refusal,
                Ok(plans) => plans.into_iter().find_map(Result::err).expect("a refusal"),
            }
        };
        assert_eq!(refused(&|_, tenant| tenant.categories.clear()), Refusal::UnknownCategory);
        assert_eq!(refused(&|_, tenant| tenant.recipients.clear()), Refusal::UnknownRecipient(0));
        assert_eq!(
            refused(&|request, _| request.template = Some(TemplateKey::parse("gone").expect("a key"))),
            Refusal::UnknownTemplate
        );
        assert_eq!(
            refused(&|_, tenant| tenant.categories.values_mut().for_each(|category| category.template = None)),
            Refusal::NoContent
        );
        assert_eq!(
            refused(&|_, tenant| tenant.recipients.values_mut().for_each(|reach| reach.email = false)),
            Refusal::NoAddress(0)
        );
        assert_eq!(
            refused(&|request, _| request.send_at = Some(now() + SignedDuration::from_hours(367 * 24))),
            Refusal::SendTooFarAhead
        );
        assert_eq!(refused(&|request, _| request.expires_at = Some(now())), Refusal::ExpiresBeforeSend);
    }
}
