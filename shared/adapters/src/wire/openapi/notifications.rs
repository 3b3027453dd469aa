//! Notifications.

use super::attachments;
use super::schema::{Schema, optional, required, sometimes};
use super::{Answer, Operation, page_of};
use crate::wire::notification_request::{MAX_METADATA_BYTES, MAX_PART_BYTES};
use domain::category::Priority;
use domain::collection::CollectionKind;
use domain::delivery::{AttemptOutcome, Channel, DeliveryState, Reason};
use domain::feedback::Feedback;
use domain::notification::{MAX_NOTIFICATIONS, MAX_RECIPIENTS};
use serde_json::json;

/// `POST /v1/notifications`.
pub(super) fn create() -> Operation {
    let one = Schema::object([
        required("id", Schema::named("NotificationId")),
        required("status", Schema::one_of(["accepted", "duplicate"])),
    ]);
    let many = Schema::object([required("notifications", Schema::list(Schema::named("Result")).at_least(1))]);
    let description = "It is stored, and will be sent, or has been asked for before.";
    let answer = Answer::json(202, description, Schema::any_of([one, many]));
    let body = Schema::any_of([
        Schema::named("NotificationRequest"),
        Schema::object([required(
            "notifications",
            Schema::list(Schema::named("NotificationRequest")).entries(1, MAX_NOTIFICATIONS),
        )]),
    ]);
    let example = json!({
        "category": "greeting",
        "recipient": {
            "email": "ada@example.org", "phone": "+4915112345678", "name": "Ada Lovelace", "locale": "en-IN",
            "time_zone": "Asia/Kolkata",
        },
        "data": {"name": "Ada"},
        "channels": ["email"],
        "template": "greeting",
        "subject": "Welcome",
        "text": "Dear {{ name }}, welcome.",
        "html": "<p>Dear {{ name }}, welcome.</p>",
        "dedupe": {"key": "welcome-ada", "window": "PT24H"},
        "batch": null,
        "debounce": null,
        "priority": "high",
        "sandbox": true,
        "metadata": {"appointment": "a-1"},
        "attachments": [{"filename": "agenda.txt", "content_type": "text/plain", "content": "MS4gTGVkZ2VyCg=="}],
        "calendar": {
            "method": "request", "start": "2026-11-24T10:00:00+05:30", "end": "2026-11-24T11:30:00+05:30",
            "time_zone": "Asia/Kolkata", "summary": "Audit visit", "location": "Room 4", "description": "Bring the ledger.",
            "uid": "visit-7@example.in", "sequence": 0, "organizer": "lead@example.in",
        },
    });
    Operation::new("Ask for notifications", answer.with_header("Location", "The first notification that was accepted."))
        .describe(
            "One notification to one recipient is answered with its id. Several notifications, or a list of recipients, \
             are answered with a result for each: one that is not valid has a problem of its own and fails no other. \
             Where none is valid, the answer is 422.",
        )
        .with_body(body, example)
}

/// `GET /v1/notifications`.
pub(super) fn list() -> Operation {
    Operation::new(
        "List notifications, the newest first",
        Answer::ok("A page of them.", page_of("notifications", Schema::named("Notification"))),
    )
}

/// `GET /v1/notifications/{id}`.
pub(super) fn get() -> Operation {
    Operation::new("Show a notification", Answer::ok("The notification.", Schema::named("Notification")))
}

/// `GET /v1/notifications/{id}/explain`.
pub(super) fn explain() -> Operation {
    let delivery = Schema::object([
        required("id", Schema::named("DeliveryId")),
        required("channel", Schema::named("Channel")),
        required("state", Schema::named("DeliveryState")),
        required("reason", reason().or_null()),
        required("explanation", Schema::list(Schema::text()).describe("What happened, sentence by sentence.")),
    ]);
    let answer = Schema::object([
        required("id", Schema::named("NotificationId")),
        required("state", Schema::named("DeliveryState").or_null()),
        required("deliveries", Schema::list(delivery)),
    ]);
    Operation::new("Say why a notification was sent or was not", Answer::ok("Why, for people.", answer))
}

/// `POST /v1/notifications/{id}/cancel`.
pub(super) fn cancel() -> Operation {
    let answer = Schema::object([
        required("canceled_count", Schema::count().describe("Deliveries that were withdrawn now.")),
        required("notification", Schema::named("Notification")),
    ]);
    Operation::new("Cancel what of a notification is not sent yet", Answer::ok("What came of it.", answer))
        .describe(
            "What no attempt has begun for is canceled at once, and counted. For what is being sent, or may have been sent, it \
             is too late: that has `withdrawn_at` from now on, may come still, and is not sent again.",
        )
        .with_optional_body(Schema::object([]), json!({}))
}

/// The components.
pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    vec![
        ("NotificationRequest", notification_request()),
        ("InlineRecipient", inline_recipient()),
        ("Result", result()),
        ("Notification", notification()),
        ("Delivery", delivery()),
        ("Attempt", attempt()),
        ("Channel", Schema::one_of(Channel::ALL.iter().map(|channel| channel.as_str()))),
        ("SendableChannel", Schema::one_of(Channel::SENDABLE.iter().map(|channel| channel.as_str()))),
        ("Priority", Schema::one_of(Priority::ALL.iter().map(|priority| priority.as_str()))),
        ("DeliveryState", Schema::one_of(DeliveryState::ALL.iter().map(|state| state.as_str()))),
    ]
}

fn notification_request() -> Schema {
    let part = || Schema::text().length(1, MAX_PART_BYTES).format("template");
    let recipient = || {
        Schema::any_of([
            Schema::object([required("id", Schema::named("RecipientId"))]),
            Schema::named("InlineRecipient"),
        ])
    };
    let dedupe = Schema::object([
        required("key", Schema::text().length(1, 255).pattern("[ -~]+")),
        optional("window", Schema::named("Duration").default("P1D")),
    ]);
    let key = || required("key", Schema::text().length(1, 255).pattern("[ -~]+"));
    let batch = Schema::object([
        key(),
        required("window", Schema::named("Duration").describe("From the first on; at most a day.")),
    ]);
    let debounce = Schema::object([
        key(),
        required("window", Schema::named("Duration").describe("How long it has to be quiet; at most a day.")),
        optional(
            "max",
            Schema::named("Duration")
                .describe("From the first on; at least the window, at most a week. Six windows where it is left out."),
        ),
    ]);
    let mut pairs = vec![("batch", "debounce")];
    pairs.extend(["send_at", "calendar"].iter().flat_map(|part| [("batch", *part), ("debounce", *part)]));
    pairs.extend(["subject", "text", "html"].map(|part| ("batch", part)));
    Schema::object([
        required("category", Schema::named("CategoryKey")),
        optional("recipient", recipient()),
        optional("recipients", Schema::list(recipient()).entries(1, MAX_RECIPIENTS)),
        optional(
            "channels",
            Schema::list(Schema::named("SendableChannel")).at_least(1).describe("Else the category's."),
        ),
        optional("template", Schema::named("TemplateKey")),
        optional("subject", part().describe("In place of the template's. At most 998 bytes where it has no tags.")),
        optional("text", part().describe("In place of the template's text part.")),
        optional("html", part().describe("In place of the template's HTML part.")),
        optional("data", Schema::opaque().describe("The template's variables.")),
        optional(
            "metadata",
            Schema::opaque()
                .describe(&format!("Kept, shown, and told with events. At most {MAX_METADATA_BYTES} bytes.")),
        ),
        optional("send_at", Schema::named("Time")),
        optional("expires_at", Schema::named("Time")),
        optional("dedupe", dedupe.describe("Turns away others with the same key to the same recipient.")),
        optional(
            "batch",
            batch.describe(
                "Leaves with the others of its key, category and recipient as one message. Its template gets the data of \
                 the last, and `items` (the data of each, of at most 100), `count`, `more_count` and `more_link`, which \
                 leads to a page with all of them. One alone leaves as it is.",
            ),
        ),
        optional(
            "debounce",
            debounce.describe(
                "Takes the place of the one with its key, category and recipient that waits, and waits again. Its template \
                 gets the data of the last, and `first` (the data of the first) and `count`. One alone leaves as it is.",
            ),
        ),
        optional("priority", Schema::named("Priority").default("normal")),
        optional("sandbox", Schema::flag().default(false).describe("Do everything but send.")),
        optional("attachments", attachments::attachments()),
        optional("calendar", Schema::named("Invitation").describe("An event that the mail invites to, or calls off.")),
    ])
    .with_only_one_of(&["recipient", "recipients"])
    .without_any_pair(&pairs)
}

fn inline_recipient() -> Schema {
    Schema::object([
        sometimes("id", Schema::null()),
        optional("email", Schema::named("Email")),
        optional("phone", Schema::named("Phone")),
        optional("name", Schema::named("DisplayName")),
        optional("locale", Schema::named("Locale")),
        optional("time_zone", Schema::named("TimeZone")),
    ])
    .with_one_of(&["email", "phone"])
}

fn result() -> Schema {
    let place = || {
        [
            required("index", Schema::count().describe("Which notification of the request.")),
            sometimes("recipient", Schema::count().describe("Which recipient of its list.")),
        ]
    };
    let [index, recipient] = place();
    let accepted = Schema::object([
        index,
        recipient,
        required("id", Schema::named("NotificationId")),
        required("status", Schema::one_of(["accepted", "duplicate"])),
    ]);
    let [index, recipient] = place();
    let rejected = Schema::object([
        index,
        recipient,
        required("status", Schema::one_of(["rejected"])),
        required("problem", Schema::named("Problem")),
    ]);
    Schema::any_of([accepted, rejected])
}

fn notification() -> Schema {
    let holds = Schema::object([
        required("count", Schema::count()),
        required("notifications", Schema::list(Schema::named("NotificationId")).describe("The first hundred.")),
    ]);
    Schema::object([
        required("id", Schema::named("NotificationId")),
        required("state", Schema::named("DeliveryState").or_null().describe("Of the delivery that is least far.")),
        required("category", Schema::named("CategoryKey")),
        required("recipient", Schema::object([required("id", Schema::named("RecipientId"))]).or_null()),
        required("template", Schema::named("TemplateKey").or_null()),
        required("priority", Schema::named("Priority")),
        required("sandbox", Schema::flag()),
        required("metadata", Schema::opaque()),
        required("send_at", Schema::named("Time")),
        required("expires_at", Schema::named("Time").or_null()),
        required("created_at", Schema::named("Time")),
        required("collected", collected().or_null().describe("The batch or debounce that it waits or waited in.")),
        required("members", members().or_null().describe("What it is the message of.")),
        required("deliveries", Schema::list(Schema::named("Delivery"))),
        required("holds", holds.or_null().describe("What left with it, where it is a digest.")),
    ])
}

fn collection_kind() -> Schema {
    Schema::one_of(CollectionKind::ALL.iter().map(|kind| kind.as_str()))
}

fn collected() -> Schema {
    Schema::object([
        required("as", collection_kind()),
        required("closes_at", Schema::named("Time").or_null().describe("Null once it is closed.")),
        required("message", Schema::named("NotificationId").or_null().describe("The notification that it left in.")),
    ])
}

fn members() -> Schema {
    Schema::object([
        required("as", collection_kind()),
        required("count", Schema::count()),
        required(
            "ids",
            Schema::list(Schema::named("NotificationId"))
                .describe("The first 100; GET /v1/notifications with `message` pages through all."),
        ),
    ])
}

fn delivery() -> Schema {
    let digest = Schema::object([
        required("category", Schema::named("CategoryKey")),
        required("due", Schema::named("Time").describe("When it is due, or was.")),
        required("notification_id", Schema::named("NotificationId").or_null().describe("Once it is closed.")),
        required("state", Schema::named("DeliveryState").or_null().describe("How the digest stands.")),
        required("reason", reason().or_null()),
    ]);
    Schema::object([
        required("id", Schema::named("DeliveryId")),
        required("channel", Schema::named("Channel")),
        required("state", Schema::named("DeliveryState")),
        required("reason", reason().or_null()),
        required("detail", Schema::text().or_null().describe("The reason, for people.")),
        required("attempt_count", Schema::count().describe("Attempts that count against the limit.")),
        required("max_attempts", Schema::count()),
        required("not_before", Schema::named("Time")),
        required("provider_message_id", Schema::text().or_null()),
        required("sent_at", Schema::named("Time").or_null()),
        required("finished_at", Schema::named("Time").or_null()),
        required(
            "withdrawn_at",
            Schema::named("Time")
                .or_null()
                .describe("When it was withdrawn, where an attempt had begun by then. It is not sent again."),
        ),
        required("updated_at", Schema::named("Time")),
        required("resent_after_unknown", Schema::count().describe("Attempts after one whose outcome nobody knows.")),
        required("attempts", Schema::list(Schema::named("Attempt"))),
        required("digest", digest.or_null().describe("The digest that it waits for or left with.")),
    ])
}

fn reason() -> Schema {
    Schema::one_of(Reason::ALL.iter().map(|reason| reason.as_str()))
}

fn attempt() -> Schema {
    let error = Schema::object([required("code", Schema::text()), required("detail", Schema::text().or_null())]);
    let to = Schema::object([
        required("address", Schema::named("Email")),
        required("name", Schema::named("DisplayName").or_null()),
    ]);
    Schema::object([
        required("id", Schema::named("AttemptId")),
        required("number", Schema::count()),
        required("outcome", Schema::one_of(AttemptOutcome::ALL.iter().map(|outcome| outcome.as_str())).or_null()),
        required("error", error.or_null()),
        required("provider_message_id", Schema::text().or_null()),
        required("feedback", Schema::one_of(Feedback::ALL.iter().map(|feedback| feedback.as_str())).or_null()),
        required("feedback_at", Schema::named("Time").or_null()),
        required("template_version", Schema::count().or_null()),
        sometimes(
            "to",
            to.or_null().describe(
                "Where it went, and the name beside the address, as they were at that time. Null where there was no \
                 address, or the recipient was erased. For tokens with `manage`, and for the recipient's own.",
            ),
        ),
        required("started_at", Schema::named("Time")),
        required("finished_at", Schema::named("Time").or_null()),
    ])
}
