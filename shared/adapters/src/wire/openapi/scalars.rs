//! The single values that requests and answers are made of. Each says what its parser in `domain` takes.

use super::schema::Schema;
use domain::id::{AttemptId, DeadLetterId, DeliveryId, EscalationId, JobRunId, NotificationId};

/// The components, by name.
pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    let id = |prefix: &str| Schema::text().pattern(&format!("{prefix}[0-9a-f]{{32}}"));
    let key = |example: &str| Schema::text().length(1, 128).pattern("[A-Za-z0-9][A-Za-z0-9._:@+-]*").example(example);
    let line = |most: usize| {
        let control = r"\u0000-\u001f\u007f-\u009f";
        Schema::text().length(1, most).pattern(&format!(r"[^{control}]*[^{control}\s][^{control}]*"))
    };
    // Line breaks, control characters, and what turns the direction of the text after it.
    let unprintable = r"\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069";
    vec![
        ("NotificationId", id(NotificationId::PREFIX).describe("The id of a notification.")),
        ("DeliveryId", id(DeliveryId::PREFIX).describe("The id of a delivery: one notification on one channel.")),
        ("AttemptId", id(AttemptId::PREFIX).describe("The id of an attempt: one call of the provider.")),
        ("DeadLetterId", id(DeadLetterId::PREFIX).describe("The id of a dead letter.")),
        ("JobRunId", id(JobRunId::PREFIX).describe("The id of a run of a job.")),
        ("EscalationId", id(EscalationId::PREFIX).describe("The id of an escalation.")),
        ("JobKey", key("booking_reminders").describe("Names a job: the service's own, or the tenant's domain's.")),
        ("PolicyKey", key("critical").describe("Names an escalation policy within the tenant.")),
        ("EscalationKey", key("observation-42").describe("Names what an escalation is about, within the tenant.")),
        ("RecipientId", key("auditor-7").describe("Names a recipient within the tenant. The tenant chooses it.")),
        ("CategoryKey", key("OBSERVATION_ASSIGNED").describe("Names a category within the tenant.")),
        ("DeadlineKey", key("observation-42").describe("Names a deadline within the tenant.")),
        ("TemplateKey", key("observation_assigned").describe("Names a template within the tenant.")),
        (
            "Email",
            Schema::text()
                .length(3, 254)
                .format("email")
                .example("ada@example.org")
                .describe("A mail address; the part before the @ in ASCII, the domain in any script."),
        ),
        (
            "Phone",
            Schema::text()
                .pattern(r"\+[1-9][0-9]{6,14}")
                .example("+4915112345678")
                .describe("A phone number in E.164: + and 7 to 15 digits."),
        ),
        (
            "DisplayName",
            Schema::text()
                .length(1, 128)
                .pattern(&format!(r"[^{unprintable}]*[^{unprintable}\s][^{unprintable}]*"))
                .example("Ada Lovelace")
                .describe("A name as a mail reader shows it: one line, not blank."),
        ),
        ("Line", line(128).describe("A text of one line, not blank.")),
        ("LongLine", line(1000).describe("A text of one line, not blank.")),
        (
            "Locale",
            Schema::text()
                .length(2, 35)
                .format("language-tag")
                .example("hi-IN")
                .describe("A language by its BCP 47 tag, without extensions. Answers have it in canonical case."),
        ),
        (
            "TimeZone",
            Schema::text()
                .format("time-zone")
                .example("Asia/Kolkata")
                .describe("A time zone by its IANA name. Answers have it as IANA writes it."),
        ),
        (
            "Time",
            Schema::text()
                .format("date-time")
                .example("2026-11-22T03:30:00Z")
                .describe("A moment in RFC 3339, with an offset. Answers are in UTC, to the microsecond."),
        ),
        (
            "TimeOfDay",
            Schema::text()
                .pattern("(?:[01][0-9]|2[0-3]):[0-5][0-9]")
                .example("22:00")
                .describe("An hour and a minute."),
        ),
        (
            "Duration",
            Schema::text()
                .format("duration")
                .pattern(r"P(?:[0-9]+D)?(?:T(?:[0-9]+H)?(?:[0-9]+M)?(?:[0-9]+S)?)?")
                .example("PT5M")
                .describe(
                    "A length of time in ISO 8601, of days (24 hours), hours, minutes and seconds; \
                     longer than zero, at most 366 days.",
                ),
        ),
    ]
}
