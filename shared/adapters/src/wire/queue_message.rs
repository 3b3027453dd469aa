//! The body of a message on the deliveries queue: `{"v":1,"tenant_id":…,"delivery_id":…,"traceparent":…}`.

use domain::id::{DeliveryId, TenantId};
use domain::queue::DeliveryMessage;
use serde::{Deserialize, Serialize};
use std::fmt;

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    v: u32,
    #[serde(borrow)]
    tenant_id: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    delivery_id: std::borrow::Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
}

/// Why a body says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageError {
    /// Not the JSON that it should be.
    Form,
    /// Of a version that this code does not know.
    Version(u32),
    /// An id is none.
    Id,
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("the body is not a delivery message"),
            Self::Version(version) => write!(f, "the body has version {version}, this function reads {VERSION}"),
            Self::Id => f.write_str("the body names no tenant or delivery"),
        }
    }
}

impl std::error::Error for MessageError {}

/// Prints a message as a body.
pub fn print_message(message: &DeliveryMessage) -> String {
    let body = Body {
        v: VERSION,
        tenant_id: message.tenant.to_string().into(),
        delivery_id: message.delivery.to_string().into(),
        traceparent: message.traceparent.clone(),
    };
    serde_json::to_string(&body).expect("strings and numbers always print")
}

/// Reads a body.
pub fn read_message(body: &str) -> Result<DeliveryMessage, MessageError> {
    let body: Body<'_> = serde_json::from_str(body).map_err(|_| MessageError::Form)?;
    if body.v != VERSION {
        return Err(MessageError::Version(body.v));
    }
    Ok(DeliveryMessage {
        tenant: TenantId::parse(&body.tenant_id).map_err(|_| MessageError::Id)?,
        delivery: DeliveryId::parse(&body.delivery_id).map_err(|_| MessageError::Id)?,
        traceparent: body.traceparent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn what_is_printed_is_read_again() {
        let message = DeliveryMessage {
            tenant: TenantId::from_uuid(Uuid::from_u128(7)),
            delivery: DeliveryId::from_uuid(Uuid::from_u128(8)),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        };
        assert_eq!(read_message(&print_message(&message)), Ok(message));
    }

    #[test]
    fn a_body_that_is_no_message_is_refused() {
        let id = "00000000-0000-0000-0000-000000000007";
        let table = [
            (String::from("hello"), MessageError::Form),
            (String::from("{}"), MessageError::Form),
            (format!(r#"{{"v":2,"tenant_id":"{id}","delivery_id":"x"}}"#), MessageError::Version(2)),
            (format!(r#"{{"v":1,"tenant_id":"{id}","delivery_id":"{id}"}}"#), MessageError::Id),
            (format!(r#"{{"v":1,"tenant_id":"{id}","delivery_id":"x","extra":1}}"#), MessageError::Form),
        ];
        for (body, error) in table {
            assert_eq!(read_message(&body), Err(error), "{body}");
        }
    }
}
