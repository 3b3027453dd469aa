//! A mail that is ready to leave, and the port that takes it.

use crate::address::EmailAddress;
use crate::attachment::Attachment;
use crate::header::{Header, Subject, TagValue};
use crate::name::DisplayName;
use crate::outcome::SendOutcome;
use std::future::Future;

/// A mail with every part rendered. Each part's type cannot hold what would break out of a header.
#[derive(Clone)]
pub struct Mail {
    /// The sender's address.
    pub from: EmailAddress,
    /// The sender's name.
    pub from_name: Option<DisplayName>,
    /// The one recipient.
    pub to: EmailAddress,
    /// The recipient's name.
    pub to_name: Option<DisplayName>,
    /// The subject line.
    pub subject: Subject,
    /// The plain part.
    pub text: Option<String>,
    /// The HTML part.
    pub html: Option<String>,
    /// Further headers.
    pub headers: Vec<Header>,
    /// What leaves along with it.
    pub attachments: Vec<Attachment>,
    /// What events about this mail are correlated by.
    pub tags: MailTags,
}

crate::masked_debug!(Mail, "Mail", from, to, tags);

/// The tags that come back with every event about a mail: they find the attempt even where no message id was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailTags {
    /// `nid`: the notification's id.
    pub notification: TagValue,
    /// `att`: the attempt's number.
    pub attempt: TagValue,
    /// `t`: the tenant's id.
    pub tenant: TagValue,
}

/// Sends mails. One call is one attempt and at most one request to the provider.
pub trait MailSender {
    /// Hands the mail to the provider and says what is known of its fate.
    fn send_mail(&self, mail: &Mail) -> impl Future<Output = SendOutcome> + Send;
}
