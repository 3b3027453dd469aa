//! New ids. Version 7, so that they sort by time and index pages fill in order: RFC 9562, section 5.7.

use uuid::Uuid;

/// A new id.
pub fn new_uuid() -> Uuid {
    Uuid::now_v7()
}
