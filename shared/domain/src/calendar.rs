//! An invitation to an event, as a mail carries it: `text/calendar`, which mail readers put into the recipient's calendar.
//!
//! What is printed follows from the invitation, the notification and the recipient alone, so that printing it again gives
//! the same bytes. An update is another notification with the same [`EventUid`] and a higher sequence; so is a
//! cancellation.

mod print;

#[cfg(test)]
mod tests;

use crate::address::EmailAddress;
use crate::header::breaks_line;
use crate::id::NotificationId;
use crate::moment::TimeZoneName;
use crate::name::DisplayName;
use jiff::{SignedDuration, Timestamp};
use std::fmt;

/// What the printed invitation is called, as a file of the mail.
pub const INVITATION_FILE: &str = "invite.ics";
/// The longest summary or location, in characters.
pub const MAX_LINE_CHARS: usize = 255;
/// The longest description, in characters.
pub const MAX_TEXT_CHARS: usize = 8192;
/// The longest uid, in bytes: RFC 7986, section 5.3.
pub const MAX_UID_BYTES: usize = 255;
/// The highest sequence: an integer of RFC 5545, section 3.3.8.
pub const MAX_SEQUENCE: u32 = i32::MAX.unsigned_abs();
/// The longest event: a leap year.
const LONGEST_EVENT: SignedDuration = SignedDuration::from_hours(366 * 24);

/// An event that the recipient is invited to, or that is called off.
#[derive(Clone, PartialEq, Eq)]
pub struct Invitation {
    /// Whether it is on or off.
    pub method: Method,
    /// When it is.
    pub span: EventSpan,
    /// The zone that its times are written in; `None` is the recipient's.
    pub time_zone: Option<TimeZoneName>,
    /// What it is called.
    pub summary: EventLine,
    /// Where it is.
    pub location: Option<EventLine>,
    /// What it is about.
    pub description: Option<EventText>,
    /// What it is known by; `None` is a name made of the notification's id.
    pub uid: Option<EventUid>,
    /// Which revision of the event this is: 0 is the first, at most [`MAX_SEQUENCE`].
    pub sequence: u32,
    /// Whom the recipient answers to; `None` is the mail's sender.
    pub organizer: Option<EmailAddress>,
}

/// Shows the method only: the rest says who meets whom.
impl fmt::Debug for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invitation({}, {} characters)", self.method.as_str(), self.summary.0.chars().count())
    }
}

/// Whom an invitation goes to, and with which notification.
pub struct InvitationFacts<'a> {
    /// The notification.
    pub notification: NotificationId,
    /// When the notification was accepted.
    pub accepted_at: Timestamp,
    /// The mail's sender.
    pub sender: &'a EmailAddress,
    /// The sender's name.
    pub sender_name: Option<&'a DisplayName>,
    /// The recipient.
    pub recipient: &'a EmailAddress,
    /// The recipient's name.
    pub recipient_name: Option<&'a DisplayName>,
    /// The recipient's zone.
    pub time_zone: &'a TimeZoneName,
}

impl Invitation {
    /// Prints the invitation as an object of RFC 5545, by the rules of RFC 5546 for its method.
    pub fn print(&self, facts: &InvitationFacts<'_>) -> String {
        print::print_invitation(self, facts)
    }
}

/// What an invitation does in the recipient's calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Adds the event, or brings it up to date.
    Request,
    /// Takes it off.
    Cancel,
}

impl Method {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Request, Self::Cancel];

    /// Its name in requests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Cancel => "cancel",
        }
    }

    /// Its name in RFC 5546.
    pub fn as_property(self) -> &'static str {
        match self {
            Self::Request => "REQUEST",
            Self::Cancel => "CANCEL",
        }
    }

    /// The method of a name in requests.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == name)
    }
}

/// When an event begins and ends: whole seconds, from 1970 on, at most 366 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventSpan {
    start: Timestamp,
    end: Timestamp,
}

/// Says why two moments are no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanError {
    /// It begins before 1970.
    TooEarly,
    /// It does not end after its beginning.
    Backwards,
    /// It is longer than 366 days.
    TooLong,
}

impl fmt::Display for SpanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooEarly => "an event cannot begin before 1970",
            Self::Backwards => "must be after the start, by a second at least",
            Self::TooLong => "an event may last at most 366 days",
        })
    }
}

impl std::error::Error for SpanError {}

impl EventSpan {
    /// Takes the moments without their fractions of a second: calendars have none.
    ///
    /// # Errors
    ///
    /// When the end is not after the start, or either is out of bounds.
    pub fn new(start: Timestamp, end: Timestamp) -> Result<Self, SpanError> {
        let whole = |at: Timestamp| Timestamp::from_second(at.as_second());
        let (Ok(start), Ok(end)) = (whole(start), whole(end)) else { return Err(SpanError::TooEarly) };
        if start < Timestamp::UNIX_EPOCH {
            return Err(SpanError::TooEarly);
        }
        if end <= start {
            return Err(SpanError::Backwards);
        }
        if end.duration_since(start) > LONGEST_EVENT {
            return Err(SpanError::TooLong);
        }
        Ok(Self { start, end })
    }

    /// When it begins.
    pub fn start(self) -> Timestamp {
        self.start
    }

    /// When it ends.
    pub fn end(self) -> Timestamp {
        self.end
    }
}

/// Says why a text cannot stand in an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventTextError {
    /// The text is blank.
    Empty,
    /// The line has more than 255 characters, or the text more than 8192.
    TooLong,
    /// The text has a control character that it may not have.
    Control,
}

impl fmt::Display for EventTextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "must not be empty",
            Self::TooLong => "may have at most 255 characters, a description 8192",
            Self::Control => "must not have control characters; only a description may have line breaks",
        })
    }
}

impl std::error::Error for EventTextError {}

/// What an event is called, or where it is: 1 to 255 characters of one line.
#[derive(Clone, PartialEq, Eq)]
pub struct EventLine(String);

/// What an event is about: 1 to 8192 characters, with line breaks.
#[derive(Clone, PartialEq, Eq)]
pub struct EventText(String);

impl EventLine {
    /// Takes a line as it was written.
    ///
    /// # Errors
    ///
    /// When the text is blank, too long, or more than a line.
    pub fn parse(text: &str) -> Result<Self, EventTextError> {
        check_text(text, MAX_LINE_CHARS, breaks_line)?;
        Ok(Self(text.to_owned()))
    }

    /// The line as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl EventText {
    /// Takes a text whose lines end with a line feed, with or without a carriage return.
    ///
    /// # Errors
    ///
    /// When the text is blank, too long, or has control characters beyond line breaks and tabs.
    pub fn parse(text: &str) -> Result<Self, EventTextError> {
        let text = text.replace("\r\n", "\n");
        check_text(&text, MAX_TEXT_CHARS, |c| c.is_control() && c != '\n' && c != '\t')?;
        Ok(Self(text))
    }

    /// The text, its lines ended with line feeds.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_text(text: &str, most: usize, is_refused: impl Fn(char) -> bool) -> Result<(), EventTextError> {
    if text.trim().is_empty() {
        return Err(EventTextError::Empty);
    }
    if text.chars().count() > most {
        return Err(EventTextError::TooLong);
    }
    if text.chars().any(is_refused) {
        return Err(EventTextError::Control);
    }
    Ok(())
}

impl fmt::Debug for EventLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventLine({} characters)", self.0.chars().count())
    }
}

impl fmt::Debug for EventText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventText({} characters)", self.0.chars().count())
    }
}

/// What an event is known by, in every calendar that has it: 1 to 255 of printable ASCII without spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventUid(String);

/// Says that a text cannot name an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventUidError;

impl fmt::Display for EventUidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be 1 to 255 printable ASCII characters without spaces")
    }
}

impl std::error::Error for EventUidError {}

impl EventUid {
    /// Takes a uid as it was written.
    ///
    /// # Errors
    ///
    /// When the text is not `^[!-~]{1,255}$`.
    pub fn parse(text: &str) -> Result<Self, EventUidError> {
        let is_legal = (1..=MAX_UID_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_legal.then(|| Self(text.to_owned())).ok_or(EventUidError)
    }

    /// The uid as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
