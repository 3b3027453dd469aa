//! A claimed row, read into what the processor decides on and renders.

use super::claims::{Acting, Claim, ClaimedDelivery, ClaimedRecipient, ClaimedTemplate, DeliveryKey};
use super::database::StoreError;
use super::preferences::read_wishes;
use crate::wire::calendar::read_calendar;
use domain::calendar::Invitation;
use domain::category::{Class, DeliveryRules, Priority, UnknownPolicy};
use domain::decision::{Allowance, DigestTime, DispatchFacts, NeededConsent};
use domain::delivery::{Channel, DeliveryState};
use domain::id::{AttachmentId, AttemptId, CategoryKey, DeliveryId, EscalationId, NotificationId, TenantId};
use domain::link::SubjectId;
use domain::moment::TimeZoneName;
use domain::notification::InlineContent;
use domain::outcome::AttemptBudget;
use domain::preference::{DigestChoice, resolve_preference};
use serde_json::Value;
use std::time::Duration;

/// A row of the claim; everything that is optional is there where `verdict` is `claim`.
pub(super) struct ClaimRow {
    pub(super) tenant_id: uuid::Uuid,
    pub(super) delivery_id: uuid::Uuid,
    pub(super) state: Option<String>,
    pub(super) verdict: Option<String>,
    pub(super) wait_seconds: Option<i32>,
    pub(super) attempt_id: Option<uuid::Uuid>,
    pub(super) notification_id: Option<uuid::Uuid>,
    pub(super) channel: Option<String>,
    pub(super) attempt_count: Option<i32>,
    pub(super) uncounted_attempt_count: Option<i32>,
    pub(super) max_attempts: Option<i32>,
    pub(super) unknown_policy: Option<String>,
    pub(super) reconcile_window_seconds: Option<i32>,
    pub(super) sandbox: Option<bool>,
    pub(super) category_key: Option<String>,
    pub(super) category_name: Option<String>,
    pub(super) recipient_id: Option<String>,
    pub(super) subject_id: Option<uuid::Uuid>,
    pub(super) email: Option<String>,
    pub(super) name: Option<String>,
    pub(super) roles: Option<Vec<String>>,
    pub(super) attributes: Option<Value>,
    pub(super) locale: Option<String>,
    pub(super) time_zone: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) text_body: Option<String>,
    pub(super) html_body: Option<String>,
    pub(super) template_key: Option<String>,
    pub(super) template_locale: Option<String>,
    pub(super) template_version: Option<i32>,
    pub(super) data: Option<Value>,
    pub(super) metadata: Option<Value>,
    pub(super) attachments: Option<Vec<uuid::Uuid>>,
    pub(super) calendar: Option<Value>,
    pub(super) accepted_at: Option<jiff_sqlx::Timestamp>,
    pub(super) escalation_id: Option<uuid::Uuid>,
    pub(super) links_expire_at: Option<jiff_sqlx::Timestamp>,
    pub(super) tenant_name: Option<String>,
    pub(super) salt: Option<Vec<u8>>,
    pub(super) from_address: Option<String>,
    pub(super) from_name: Option<String>,
    pub(super) now: Option<jiff_sqlx::Timestamp>,
    pub(super) send_at: Option<jiff_sqlx::Timestamp>,
    pub(super) expires_at: Option<jiff_sqlx::Timestamp>,
    pub(super) waits_until: Option<jiff_sqlx::Timestamp>,
    pub(super) class: Option<String>,
    pub(super) priority: Option<String>,
    pub(super) unmutable_roles: Option<Vec<String>>,
    pub(super) quiet_hours_apply: Option<bool>,
    pub(super) digest_time: Option<jiff_sqlx::Time>,
    pub(super) digest_weekday: Option<i32>,
    pub(super) throttle_limit: Option<i32>,
    pub(super) throttle_window_seconds: Option<i32>,
    pub(super) throttle_count: Option<i32>,
    pub(super) throttle_pending: Option<i32>,
    pub(super) cap_limit: Option<i32>,
    pub(super) cap_window_seconds: Option<i32>,
    pub(super) cap_count: Option<i32>,
    pub(super) cap_pending: Option<i32>,
    pub(super) consent_purpose: Option<String>,
    pub(super) consent_is_granted: Option<bool>,
    pub(super) consent_said_at: Option<jiff_sqlx::Timestamp>,
    pub(super) wishes: Option<Value>,
}

impl ClaimRow {
    /// What the claim came to for its delivery.
    pub(super) fn read(self) -> (DeliveryKey, Claim) {
        let key = DeliveryKey {
            tenant: TenantId::from_uuid(self.tenant_id),
            delivery: DeliveryId::from_uuid(self.delivery_id),
        };
        let number = self.attempt_count.and_then(|count| u32::try_from(count).ok());
        let attempt = self.attempt_id.map(AttemptId::from_uuid).zip(number);
        let claim = match self.verdict.as_deref() {
            Some("claim") => self.read_claimed(key).map(|claimed| Claim::Claimed(Box::new(claimed))),
            Some("skip" | "hold") => Ok(Claim::NotOpen),
            // Paced deliveries wait for their time like any other that is early.
            _ => self.read_unclaimed(),
        };
        (key, claim.unwrap_or_else(|error| Claim::Unreadable { error, attempt }))
    }

    fn read_unclaimed(&self) -> Result<Claim, StoreError> {
        let Some(state) = self.state.as_deref() else { return Ok(Claim::Missing) };
        let wait = Duration::from_secs(u64::try_from(self.wait_seconds.unwrap_or(0)).unwrap_or(0));
        Ok(match there(DeliveryState::parse(state), "delivery state")? {
            DeliveryState::Queued | DeliveryState::Held if !wait.is_zero() => Claim::TooEarly { wait },
            _ => Claim::NotOpen,
        })
    }

    fn read_claimed(mut self, key: DeliveryKey) -> Result<ClaimedDelivery, StoreError> {
        let made = count(self.attempt_count, "attempt count")?;
        let uncounted = count(self.uncounted_attempt_count, "attempt count")?;
        let channel = there(self.channel.as_deref().and_then(Channel::parse), "channel")?;
        Ok(ClaimedDelivery {
            key,
            notification: NotificationId::from_uuid(there(self.notification_id, "notification id")?),
            channel,
            attempt: AttemptId::from_uuid(there(self.attempt_id, "attempt id")?),
            attempt_number: made,
            budget: AttemptBudget { spent: made.saturating_sub(uncounted), made },
            rules: DeliveryRules {
                max_attempts: count(self.max_attempts, "attempt limit")?,
                unknown_policy: there(self.unknown_policy.as_deref().and_then(UnknownPolicy::parse), "unknown policy")?,
                reconcile_window_seconds: count(self.reconcile_window_seconds, "reconcile window")?,
            },
            facts: self.read_facts(channel)?,
            sandbox: self.sandbox.unwrap_or(false),
            category: there(self.category_key.as_deref().and_then(|key| CategoryKey::parse(key).ok()), "category")?,
            category_name: self.category_name,
            recipient: ClaimedRecipient {
                id: self.recipient_id,
                subject: SubjectId::from_uuid(there(self.subject_id, "subject")?),
                email: self.email,
                name: self.name,
                locale: there(self.locale, "locale")?,
                time_zone: there(self.time_zone, "time zone")?,
                attributes: self.attributes.unwrap_or_default(),
            },
            content: InlineContent { subject: self.subject, text: self.text_body, html: self.html_body },
            template: self
                .template_key
                .map(|key| ClaimedTemplate { key, version: self.template_locale.zip(self.template_version) }),
            data: self.data.unwrap_or_default(),
            metadata: self.metadata.unwrap_or_default(),
            attachments: self.attachments.unwrap_or_default().into_iter().map(AttachmentId::from_uuid).collect(),
            invitation: read_invitation(self.calendar.as_ref())?,
            accepted_at: there(self.accepted_at, "time of acceptance")?.to_jiff(),
            acting: self
                .escalation_id
                .zip(self.links_expire_at)
                .map(|(id, at)| Acting { escalation: EscalationId::from_uuid(id), expires_at: at.to_jiff() }),
            identity: self.from_address.as_deref().map_or_else(|| "default".to_owned(), str::to_lowercase),
            tenant_name: there(self.tenant_name, "tenant name")?,
            salt: there(self.salt, "salt")?,
            from_address: self.from_address,
            from_name: self.from_name,
        })
    }

    fn read_facts(&mut self, channel: Channel) -> Result<DispatchFacts, StoreError> {
        let wishes = read_wishes(self.wishes.take().unwrap_or_default())?;
        let unmutable_roles = self.unmutable_roles.take().unwrap_or_default();
        let roles = self.roles.take().unwrap_or_default();
        let number = i32::unsigned_abs;
        let allowance = |count: Option<i32>, pending: Option<i32>, limit: Option<i32>, window: Option<i32>| {
            Some(Allowance {
                count: number(count?),
                pending: number(pending?),
                limit: number(limit?),
                window_seconds: number(window?),
            })
        };
        let standing = self.consent_is_granted.zip(self.consent_said_at.map(|at| at.to_jiff()));
        let default = DigestTime::default();
        let tenants = DigestTime {
            time: self.digest_time.map_or(default.time, |time| time.to_jiff()),
            weekday: self.digest_weekday.and_then(|day| i8::try_from(day).ok()).unwrap_or(default.weekday),
        };
        Ok(DispatchFacts {
            now: there(self.now, "time")?.to_jiff(),
            send_at: there(self.send_at, "send time")?.to_jiff(),
            expires_at: self.expires_at.map(|at| at.to_jiff()),
            waits_until: self.waits_until.map(|at| at.to_jiff()),
            channel,
            class: there(self.class.as_deref().and_then(Class::parse), "class")?,
            priority: there(self.priority.as_deref().and_then(Priority::parse), "priority")?,
            zone: self.read_zone(),
            preference: resolve_preference(&wishes, &unmutable_roles, &roles),
            quiet_hours_apply: self.quiet_hours_apply.unwrap_or(false),
            consent: self.consent_purpose.take().map(|purpose| NeededConsent { purpose, standing }),
            throttle: allowance(
                self.throttle_count,
                self.throttle_pending,
                self.throttle_limit,
                self.throttle_window_seconds,
            ),
            cap: allowance(self.cap_count, self.cap_pending, self.cap_limit, self.cap_window_seconds),
            digest: tenants.chosen_by(DigestChoice::of(&wishes)),
        })
    }

    /// The recipient's zone. Operators write the tenant's by hand: what is none is UTC, as in templates.
    fn read_zone(&self) -> TimeZoneName {
        self.time_zone.as_deref().and_then(|zone| TimeZoneName::parse(zone).ok()).unwrap_or_else(|| {
            let (tenant_id, delivery_id) = (self.tenant_id, self.delivery_id);
            tracing::error!(%tenant_id, %delivery_id, "the time zone of {delivery_id} is none; UTC stands in");
            parse_zone("UTC")
        })
    }
}

/// A stored zone; what is none is UTC.
pub(super) fn parse_zone(name: &str) -> TimeZoneName {
    TimeZoneName::parse(name).unwrap_or_else(|_| TimeZoneName::parse("UTC").expect("every database has UTC"))
}

/// The invitation of a notification, as `calendar` keeps it.
pub(super) fn read_invitation(calendar: Option<&Value>) -> Result<Option<Invitation>, StoreError> {
    let read = calendar.map(|calendar| read_calendar(calendar, String::new())).transpose();
    read.map_err(|_| StoreError::Corrupt("calendar"))
}

fn there<T>(value: Option<T>, what: &'static str) -> Result<T, StoreError> {
    value.ok_or(StoreError::Corrupt(what))
}

fn count(value: Option<i32>, what: &'static str) -> Result<u32, StoreError> {
    there(value.and_then(|value| u32::try_from(value).ok()), what)
}
