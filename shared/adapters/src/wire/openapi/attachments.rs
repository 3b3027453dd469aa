//! Files and invitations that leave with a mail.

use super::schema::{Schema, optional, required};
use domain::attachment::{MAX_ATTACHMENT_BYTES, MAX_ATTACHMENTS, MAX_NAME_CHARS, MAX_TYPE_BYTES};
use domain::calendar::{MAX_LINE_CHARS, MAX_SEQUENCE, MAX_TEXT_CHARS, MAX_UID_BYTES, Method};

/// The components.
pub(super) fn schemas() -> Vec<(&'static str, Schema)> {
    vec![("Attachment", attachment()), ("Attached", attached()), ("Invitation", invitation())]
}

/// The files of a notification.
pub(super) fn attachments() -> Schema {
    Schema::list(Schema::named("Attachment"))
        .at_most(MAX_ATTACHMENTS)
        .describe(&format!("Files that leave with the mail; together at most {MAX_ATTACHMENT_BYTES} bytes."))
}

/// A file as a request brings it.
fn attachment() -> Schema {
    Schema::object([
        required(
            "filename",
            file_name().format("file-name").describe("With an extension; not of a program or script."),
        ),
        required(
            "content_type",
            content_type()
                .format("media-type")
                .describe("A media type without parameters; no program, script or whole message."),
        ),
        required(
            "content",
            Schema::text()
                // Four characters for three bytes.
                .length(4, MAX_ATTACHMENT_BYTES.div_ceil(3) * 4)
                .pattern("(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
                // The bits that padding leaves over must be zero.
                .format("byte")
                .describe("In base64 with padding (RFC 4648, section 4)."),
        ),
    ])
}

/// A file as an answer shows it. The type of an invitation has parameters.
fn attached() -> Schema {
    Schema::object([
        required("filename", file_name()),
        required("content_type", Schema::text()),
        required("size_bytes", Schema::ordinal()),
    ])
}

fn file_name() -> Schema {
    Schema::text()
        .length(1, MAX_NAME_CHARS)
        .pattern(r#"[^\u0000-\u001f\u007f-\u009f<>:"/\\|?*]*"#)
        .example("agenda.pdf")
}

fn content_type() -> Schema {
    let name = "[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*";
    Schema::text().length(3, MAX_TYPE_BYTES).pattern(&format!("{name}/{name}")).example("application/pdf")
}

/// An event that a mail invites to.
fn invitation() -> Schema {
    let line = || {
        let refused = r"\u0000-\u001f\u007f-\u009f\u2028\u2029";
        Schema::text().length(1, MAX_LINE_CHARS).pattern(&format!(r"[^{refused}]*[^{refused}\s][^{refused}]*"))
    };
    // A carriage return is part of a line's end, or refused.
    let description = Schema::text().length(1, MAX_TEXT_CHARS).format("text");
    Schema::object([
        optional("method", Schema::one_of(Method::ALL.map(Method::as_str)).default(Method::Request.as_str())),
        required("start", Schema::named("Time")),
        required("end", Schema::named("Time").describe("After the start, by at most 366 days.")),
        optional(
            "time_zone",
            Schema::named("TimeZone").describe("That the event's times are in; else the recipient's."),
        ),
        required("summary", line().describe("What it is called.")),
        optional("location", line().describe("Where it is.")),
        optional("description", description.describe("What it is about; it may have line breaks.")),
        optional(
            "uid",
            Schema::text()
                .length(1, MAX_UID_BYTES)
                .pattern("[!-~]+")
                .example("visit-7@example.in")
                .describe("What the event is known by in calendars; required with method cancel."),
        ),
        optional(
            "sequence",
            Schema::number(0, MAX_SEQUENCE).default(0).describe("Which revision of the event this is."),
        ),
        optional(
            "organizer",
            Schema::named("Email").describe("Whom the recipient answers to; else the mail's sender."),
        ),
    ])
}
