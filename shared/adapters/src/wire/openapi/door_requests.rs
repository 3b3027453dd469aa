//! What came through the SQL door.

use super::schema::{Schema, required};
use super::{Answer, Operation, page_of};
use crate::store::door_requests::DoorStatus;

/// `GET /v1/door-requests`.
pub(super) fn list() -> Operation {
    Operation::new(
        "List requests of the SQL door that wait or were refused, the newest first",
        Answer::ok("A page of them.", page_of("door_requests", Schema::named("DoorRequest"))),
    )
}

/// `GET /v1/door-requests/{id}`.
pub(super) fn get() -> Operation {
    let answer = Answer::ok("The request.", Schema::named("DoorRequest"));
    Operation::new(
        "Show what became of a request of the SQL door",
        answer.with_header("Location", "The notification that it is, where it was accepted."),
    )
    .describe(
        "By the id that `harkara.enqueue` answered with, which is the notification's, too: `accepted` is what any \
         notification of this id is. What was withdrawn in time, or turned away by its `dedupe` key, is not there.",
    )
}

/// The status of one that is listed.
pub(super) fn listed_status() -> Schema {
    Schema::one_of(DoorStatus::LISTED.iter().map(|status| status.as_str()))
}

/// The components.
pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    let time = || Schema::named("Time");
    let recipient = Schema::object([required("id", Schema::named("RecipientId"))]);
    let error = Schema::object([
        required("pointer", Schema::text().describe("The field, as a JSON pointer into what was asked for.")),
        required("detail", Schema::text()),
    ]);
    let request = Schema::object([
        required("id", Schema::named("NotificationId")),
        required("status", Schema::one_of(DoorStatus::ALL.iter().map(|status| status.as_str()))),
        required("category", Schema::named("CategoryKey").or_null()),
        required("recipient", recipient.or_null()),
        required("errors", Schema::list(error).describe("Why it was refused.")),
        required("notification_id", Schema::named("NotificationId").or_null().describe("Once it is accepted.")),
        required("created_at", time()),
        required("due_at", time().or_null().describe("When it is looked at, where it waits.")),
        required("refused_at", time().or_null()),
    ]);
    vec![("DoorRequest", request)]
}
