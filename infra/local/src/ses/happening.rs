//! What SES tells of a mail after it took it, in the JSON that it writes.
//!
//! The record: <https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-contents.html>.
//! It is EventBridge's detail, and the text of SNS's envelope.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The account that all this happens in; the emulator's.
const ACCOUNT: &str = "000000000000";
const REGION: &str = "ap-south-1";

/// One thing that happens to a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Happening {
    /// SES took it.
    Send,
    /// The recipient's server took it.
    Delivery,
    /// The recipient's server does not answer; SES goes on trying.
    DeliveryDelay,
    /// There is no such mailbox.
    HardBounce,
    /// The address is on SES's list for all accounts.
    GloballySuppressed,
    /// The address is on the account's list.
    Suppressed,
    /// The mailbox is full, and stayed so.
    SoftBounce,
    /// The recipient's server answers that nobody is there.
    AutomaticAnswer,
    /// The mail is too large for the recipient's server.
    TooLarge,
    /// The recipient reported it.
    Complaint,
    /// It held a virus.
    Reject,
    /// A template of SES's own could not be rendered.
    RenderingFailure,
}

impl Happening {
    /// SES's `eventType`.
    pub fn event_type(self) -> &'static str {
        match self {
            Self::Send => "Send",
            Self::Delivery => "Delivery",
            Self::DeliveryDelay => "DeliveryDelay",
            Self::HardBounce
            | Self::GloballySuppressed
            | Self::Suppressed
            | Self::SoftBounce
            | Self::AutomaticAnswer
            | Self::TooLarge => "Bounce",
            Self::Complaint => "Complaint",
            Self::Reject => "Reject",
            Self::RenderingFailure => "Rendering Failure",
        }
    }

    /// EventBridge's `detail-type`.
    pub fn detail_type(self) -> &'static str {
        match self.event_type() {
            "Send" => "Email Sent",
            "Delivery" => "Email Delivered",
            "DeliveryDelay" => "Email Delivery Delayed",
            "Bounce" => "Email Bounced",
            "Complaint" => "Email Complaint Received",
            "Reject" => "Email Rejected",
            _ => "Email Rendering Failed",
        }
    }

    fn bounce_types(self) -> Option<(&'static str, &'static str, &'static str)> {
        Some(match self {
            Self::HardBounce => ("Permanent", "General", "smtp; 550 5.1.1 user unknown"),
            Self::GloballySuppressed => {
                ("Permanent", "Suppressed", "Amazon SES did not send the message to this address")
            }
            Self::Suppressed => {
                ("Permanent", "OnAccountSuppressionList", "Amazon SES did not send the message to this address")
            }
            Self::SoftBounce => ("Transient", "MailboxFull", "smtp; 452 4.2.2 mailbox full"),
            Self::AutomaticAnswer => ("Transient", "General", "smtp; 250 2.1.5 out of office"),
            Self::TooLarge => ("Transient", "MessageTooLarge", "smtp; 552 5.3.4 message too big"),
            _ => return None,
        })
    }
}

/// What events tell of the mail itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailFacts {
    /// SES's id.
    pub message_id: String,
    /// When it was taken.
    pub at: Timestamp,
    /// The sender's field as it came.
    pub from: String,
    /// Every recipient's address.
    pub to: Vec<String>,
    /// `EmailTags` by name.
    pub tags: BTreeMap<String, String>,
    /// Its configuration set.
    pub configuration_set: Option<String>,
}

impl MailFacts {
    /// The record of one thing that happened to the mail.
    pub fn record(&self, happening: Happening) -> Value {
        let mut tags: BTreeMap<&str, Vec<&str>> =
            self.tags.iter().map(|(name, value)| (name.as_str(), vec![value.as_str()])).collect();
        if let Some(set) = &self.configuration_set {
            tags.insert("ses:configuration-set", vec![set]);
        }
        tags.insert("ses:caller-identity", vec!["processor"]);
        let mut record = json!({
            "eventType": happening.event_type(),
            "mail": {
                "timestamp": self.at,
                "source": self.from,
                "sourceArn": format!("arn:aws:ses:{REGION}:{ACCOUNT}:identity/{}", self.sender_domain()),
                "sendingAccountId": ACCOUNT,
                "messageId": self.message_id,
                "destination": self.to,
                "headersTruncated": false,
                "headers": [{"name": "From", "value": self.from}, {"name": "To", "value": self.to.join(", ")}],
                "commonHeaders": {"from": [self.from], "to": self.to, "messageId": self.message_id},
                "tags": tags,
            },
        });
        let recipients = |make: &dyn Fn(&str) -> Value| self.to.iter().map(|to| make(to)).collect::<Value>();
        let (name, part) = match happening {
            Happening::Send => ("send", json!({})),
            Happening::Delivery => (
                "delivery",
                json!({
                    "timestamp": self.at, "processingTimeMillis": 12, "recipients": self.to,
                    "smtpResponse": "250 2.6.0 Message received", "reportingMTA": "mta.example.com",
                }),
            ),
            Happening::DeliveryDelay => (
                "deliveryDelay",
                json!({
                    "timestamp": self.at, "delayType": "TransientCommunicationFailure", "expirationTime": self.at,
                    "delayedRecipients": recipients(&|to| json!({
                        "emailAddress": to, "status": "4.4.1", "diagnosticCode": "smtp; 421 4.4.1 Unable to connect",
                    })),
                }),
            ),
            Happening::Complaint => (
                "complaint",
                json!({
                    "complainedRecipients": recipients(&|to| json!({"emailAddress": to})), "timestamp": self.at,
                    "feedbackId": self.message_id, "complaintFeedbackType": "abuse", "userAgent": "Simulator",
                }),
            ),
            Happening::Reject => ("reject", json!({"reason": "Bad content"})),
            Happening::RenderingFailure => (
                "failure",
                json!({"templateName": "none", "errorMessage": "Attribute 'name' is not present in the rendering data."}),
            ),
            bounce => {
                let (kind, sub_type, diagnosis) = bounce.bounce_types().unwrap_or_default();
                let bounced = recipients(&|to| {
                    json!({
                        "emailAddress": to, "action": "failed", "status": "5.1.1", "diagnosticCode": diagnosis,
                    })
                });
                let part = json!({
                    "bounceType": kind, "bounceSubType": sub_type, "bouncedRecipients": bounced, "timestamp": self.at,
                    "feedbackId": self.message_id, "reportingMTA": "dns; mta.example.com",
                });
                ("bounce", part)
            }
        };
        record[name] = part;
        record
    }

    fn sender_domain(&self) -> &str {
        self.from.trim_end_matches('>').rsplit('@').next().unwrap_or_default()
    }
}

/// A record as EventBridge hands it to a queue.
pub(super) fn on_the_bus(happening: Happening, record: &Value, id: &str, at: Timestamp) -> Value {
    json!({
        "version": "0", "id": id, "detail-type": happening.detail_type(), "source": "aws.ses", "account": ACCOUNT,
        "time": at, "region": REGION,
        "resources": [record["mail"]["sourceArn"]],
        "detail": record,
    })
}

/// A record as SNS hands it to a queue, in its envelope.
pub(super) fn of_the_topic(record: &Value, id: &str, at: Timestamp) -> Value {
    json!({
        "Type": "Notification", "MessageId": id, "TopicArn": format!("arn:aws:sns:{REGION}:{ACCOUNT}:feedback"),
        "Subject": "Amazon SES Email Event Notification", "Message": record.to_string(), "Timestamp": at,
        "SignatureVersion": "1", "Signature": "bm90IHNpZ25lZA==",
        "SigningCertURL": format!("https://sns.{REGION}.amazonaws.com/SimpleNotificationService-0.pem"),
        "UnsubscribeURL": format!("https://sns.{REGION}.amazonaws.com/?Action=Unsubscribe"),
    })
}
