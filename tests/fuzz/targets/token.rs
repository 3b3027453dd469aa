//! What callers get from us and hand back (cursors of lists, ids, keys) has one meaning, or is refused.
//!
//! Cursors are the only opaque tokens that there are.

#![no_main]

use adapters::wire::pages::{Query, print_cursor};
use domain::id::{DeadLetterId, DeliveryId, IdempotencyKey, NotificationId, TenantId};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    check_cursor(text);
    check_ids(text);
    if let Ok(key) = IdempotencyKey::parse_header(text) {
        assert!((1..=255).contains(&key.as_str().len()));
        assert!(key.as_str().bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        let quoted = format!("\"{}\"", key.as_str().replace('\\', "\\\\").replace('"', "\\\""));
        assert_eq!(IdempotencyKey::parse_header(&quoted), Ok(key), "both forms are the same key");
    }
});

fn check_cursor(text: &str) {
    let given = [("after".to_owned(), text.to_owned())];
    let mut query = Query::of(&given);
    let page = query.page();
    assert!((1..=50).contains(&page.size));
    match (page.after, query.finish()) {
        (Some(cursor), Ok(())) => {
            let printed = print_cursor(&cursor);
            assert!(printed.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            let given = [("after".to_owned(), printed)];
            assert_eq!(Query::of(&given).page().after, Some(cursor), "what is printed is read again");
        }
        (None, Err(problem)) => {
            assert_eq!(problem.status, 422);
            assert_eq!(problem.errors.len(), 1);
            assert_eq!(problem.errors[0].pointer, "?after");
        }
        (after, finished) => panic!("{after:?} and {finished:?}"),
    }
}

/// An id has one spelling, so that equal texts are equal ids.
fn check_ids(text: &str) {
    if let Ok(id) = NotificationId::parse(text) {
        assert_eq!(id.to_string(), text);
        assert!(DeliveryId::parse(text).is_err(), "a kind of id is not another");
    }
    if let Ok(id) = DeliveryId::parse(text) {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(id) = DeadLetterId::parse(text) {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(id) = TenantId::parse(text) {
        assert_eq!(id.to_string(), text);
    }
}
