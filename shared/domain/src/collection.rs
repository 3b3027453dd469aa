//! Notifications that leave together: a batch, which is sent as one message with all of them, and a debounce, which waits
//! for quiet and then sends the last.
//!
//! A collection is what the members of one key wait in. This is what a request may ask for, what becomes of a collection
//! when its time has come, and what its message says.

use crate::delivery::{Reason, named};
use crate::id::{CollectionKey, NotificationId};
use crate::moment::Window;
use crate::render::check_context;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
use std::fmt;

/// The longest that a notification waits for others: a day.
pub const LONGEST_WINDOW_SECONDS: u32 = 24 * 60 * 60;
/// The longest that a debounce may be put off: a week.
pub const LONGEST_MAX_SECONDS: u32 = 7 * 24 * 60 * 60;
/// How many windows a debounce may be put off where the request does not say.
pub const DEFAULT_MAX_WINDOWS: u32 = 6;
/// How long a delivery waits for the close of its collection before it leaves by itself.
pub const UNCLOSED_GRACE: SignedDuration = SignedDuration::from_hours(24);
/// The most notifications that a message lists.
pub const MAX_ITEMS: usize = 100;
/// The most members that are closed together: as many as close a collection early.
pub const MAX_CLOSED_MEMBERS: usize = 10_000;
/// The most bytes of JSON that the listed ones have together: well below what a template may be given.
pub const MAX_ITEM_BYTES: usize = 128 * 1024;

named! {
    /// How notifications are collected.
    CollectionKind {
        /// All of them leave as one message.
        Batch = "batch",
        /// The last of them leaves, once it is quiet.
        Debounce = "debounce",
    }
}

impl CollectionKind {
    /// Why a member is in its end once the message is made.
    pub const fn absorbed_reason(self) -> Reason {
        match self {
            Self::Batch => Reason::LeftInBatch,
            Self::Debounce => Reason::LeftInDebounce,
        }
    }
}

/// What a request wants of its collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collect {
    /// How.
    pub kind: CollectionKind,
    /// The caller's key, which holds for one category and one recipient.
    pub key: CollectionKey,
    /// Of a batch: how long it is open after its first. Of a debounce: how long it has to be quiet. In seconds.
    pub window_seconds: u32,
    /// The longest from the first on, in seconds.
    pub max_seconds: u32,
}

/// Why a collection cannot be as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollectError {
    /// The window is longer than a day.
    WindowTooLong,
    /// The cap is longer than a week.
    MaxTooLong,
    /// The cap is below the window.
    MaxBelowWindow,
}

impl fmt::Display for CollectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WindowTooLong => "must be at most a day, P1D",
            Self::MaxTooLong => "must be at most a week, P7D",
            Self::MaxBelowWindow => "must be at least the window",
        })
    }
}

impl std::error::Error for CollectError {}

/// Reads how long a batch is open, or how long it has to be quiet.
///
/// # Errors
///
/// When it is longer than a day.
pub fn check_window(window: Window) -> Result<Window, CollectError> {
    if window.seconds() > LONGEST_WINDOW_SECONDS { Err(CollectError::WindowTooLong) } else { Ok(window) }
}

impl Collect {
    /// A batch.
    pub fn batch(key: CollectionKey, window: Window) -> Self {
        let window_seconds = window.seconds();
        Self { kind: CollectionKind::Batch, key, window_seconds, max_seconds: window_seconds }
    }

    /// A debounce, put off for at most `max`, or else six windows.
    ///
    /// # Errors
    ///
    /// When `max` is below the window, or longer than a week.
    pub fn debounce(key: CollectionKey, window: Window, max: Option<Window>) -> Result<Self, CollectError> {
        let window_seconds = window.seconds();
        let usual = window_seconds.saturating_mul(DEFAULT_MAX_WINDOWS).min(LONGEST_MAX_SECONDS);
        let max_seconds = max.map_or(usual, |max| max.seconds());
        if max_seconds < window_seconds {
            return Err(CollectError::MaxBelowWindow);
        }
        if max_seconds > LONGEST_MAX_SECONDS {
            return Err(CollectError::MaxTooLong);
        }
        Ok(Self { kind: CollectionKind::Debounce, key, window_seconds, max_seconds })
    }
}

named! {
    /// What came of a collection.
    CollectionOutcome {
        /// One message was made of its members.
        Message = "message",
        /// Its members leave by themselves: there was one only, or no message can be made of them.
        Members = "members",
        /// Nothing was left to send.
        Nothing = "nothing",
    }
}

/// Decides about a collection whose time has come. `waiting` are the members that can still leave, and `told` those that
/// the message would tell of: in a debounce, these are also the replaced ones.
pub const fn decide_close(waiting: usize, told: usize) -> CollectionOutcome {
    match (waiting, told) {
        (0, _) => CollectionOutcome::Nothing,
        (_, 0 | 1) => CollectionOutcome::Members,
        _ => CollectionOutcome::Message,
    }
}

/// How many of these collections, from the first on, one transaction closes: as many as have [`MAX_CLOSED_MEMBERS`] members
/// together, and one in any case.
pub fn count_closed_together(members: impl IntoIterator<Item = usize>) -> usize {
    let sums = members.into_iter().scan(0_usize, |sum, members| {
        *sum = sum.saturating_add(members);
        Some(*sum)
    });
    sums.enumerate().take_while(|(place, sum)| *place == 0 || *sum <= MAX_CLOSED_MEMBERS).count()
}

/// What a message tells of its members.
#[derive(Clone, Default, PartialEq)]
pub struct Told {
    /// How many they are.
    pub count: usize,
    /// The data of the last.
    pub last: Value,
    /// The data of the first.
    pub first: Value,
    /// The data of those that are listed, in order; a debounce lists none.
    pub items: Vec<Value>,
}

crate::masked_debug!(Told, "Told", count);

/// The data of a message: that of the last member, and beside it what there is to say of all.
///
/// A batch adds `items`, `count`, `more_count` (those that are not listed) and, where there are any, `more_link`.
/// A debounce adds `first`, the data of its first, and `count`.
pub fn message_data(kind: CollectionKind, told: Told, more_link: &str) -> Value {
    let Told { count, last, first, mut items } = told;
    let Value::Object(last) = last else { return Value::Object(Map::new()) };
    if kind == CollectionKind::Debounce {
        let mut data = last;
        data.insert("first".to_owned(), first);
        data.insert("count".to_owned(), count.into());
        return Value::Object(data);
    }
    loop {
        let mut data = last.clone();
        let more_count = count.saturating_sub(items.len());
        data.insert("items".to_owned(), items.clone().into());
        data.insert("count".to_owned(), count.into());
        data.insert("more_count".to_owned(), more_count.into());
        let link = if more_count > 0 { more_link.into() } else { Value::Null };
        data.insert("more_link".to_owned(), link);
        let data = Value::Object(data);
        // Fewer are listed, and more are counted, until a template may be given it.
        if items.is_empty() || check_context(&data).is_ok() {
            return data;
        }
        items.truncate(items.len() / 2);
    }
}

/// What the message of a collection would say if `data` were all that there is to tell: the same names, of the same types.
pub(crate) fn preview_data(kind: CollectionKind, data: &Value) -> Value {
    let told = Told { count: 2, last: data.clone(), first: Value::Object(Map::new()), items: Vec::new() };
    message_data(kind, told, "https://example.org/")
}

/// Where a notification stands in its collection, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Membership {
    /// How it is collected.
    pub kind: CollectionKind,
    /// When the collection closes; `None` once it is closed.
    pub closes_at: Option<Timestamp>,
    /// The message that it left in.
    pub message: Option<NotificationId>,
}

/// The sentences about it; none where the notification left by itself, and nothing more is to be said.
pub fn explain_membership(membership: &Membership) -> Option<String> {
    let Membership { kind, closes_at, message } = membership;
    match (message, closes_at) {
        (Some(message), _) => Some(format!("It left in notification {message}.")),
        (None, Some(closes_at)) => Some(format!("Its {kind} closes at {closes_at}, within the minute that follows.")),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key() -> CollectionKey {
        CollectionKey::parse("import-9").expect("a key")
    }

    fn window(seconds: u64) -> Window {
        Window::from_seconds(seconds).expect("a window")
    }

    #[test]
    fn a_debounce_is_capped_at_six_windows_unless_it_says_otherwise() {
        let max = |seconds, max: Option<u64>| {
            Collect::debounce(key(), window(seconds), max.map(window)).map(|collect| collect.max_seconds)
        };
        assert_eq!(max(300, None), Ok(1800));
        assert_eq!(max(300, Some(300)), Ok(300));
        assert_eq!(max(300, Some(299)), Err(CollectError::MaxBelowWindow));
        assert_eq!(max(300, Some(604_801)), Err(CollectError::MaxTooLong));
        assert_eq!(max(86_400, None), Ok(6 * 86_400));
        assert_eq!(check_window(window(86_401)), Err(CollectError::WindowTooLong));
    }

    #[test]
    fn one_member_leaves_by_itself_and_several_as_a_message() {
        let table = [
            ((0, 0), CollectionOutcome::Nothing),
            ((0, 7), CollectionOutcome::Nothing),
            ((1, 1), CollectionOutcome::Members),
            ((1, 2), CollectionOutcome::Message),
            ((200, 200), CollectionOutcome::Message),
        ];
        for ((waiting, told), outcome) in table {
            assert_eq!(decide_close(waiting, told), outcome, "{waiting} of {told}");
        }
    }

    #[test]
    fn only_so_many_members_are_closed_together() {
        let table: [(&[usize], usize); 6] = [
            (&[], 0),
            (&[1; 50], 50),
            (&[10_000, 1], 1),
            (&[9_999, 1, 1], 2),
            // One request may bring more members at once than close it early.
            (&[12_000, 1], 1),
            (&[1, 12_000, 1], 1),
        ];
        for (members, together) in table {
            assert_eq!(count_closed_together(members.iter().copied()), together, "{members:?}");
        }
    }

    #[test]
    fn a_batch_lists_its_members_beside_the_data_of_the_last() {
        let told = Told {
            count: 2,
            last: json!({"n": 2}),
            first: json!({"n": 1}),
            items: vec![json!({"n": 1}), json!({"n": 2})],
        };
        let data = message_data(CollectionKind::Batch, told, "https://example.org/more");
        let expected = json!({"n": 2, "items": [{"n": 1}, {"n": 2}], "count": 2, "more_count": 0, "more_link": null});
        assert_eq!(data, expected);
    }

    #[test]
    fn a_debounce_tells_the_first_and_the_last() {
        let told = Told {
            count: 3,
            last: json!({"old": "b", "new": "c"}),
            first: json!({"old": "a", "new": "b"}),
            items: Vec::new(),
        };
        let data = message_data(CollectionKind::Debounce, told, "");
        assert_eq!(data, json!({"old": "b", "new": "c", "first": {"old": "a", "new": "b"}, "count": 3}));
    }

    #[test]
    fn what_is_not_listed_is_counted_and_linked() {
        let item = json!({"text": "x".repeat(20_000)});
        let told = Told { count: 300, last: item.clone(), first: item.clone(), items: vec![item; MAX_ITEMS] };
        let data = message_data(CollectionKind::Batch, told, "https://example.org/more");
        let listed = data["items"].as_array().expect("a list").len();
        assert!(listed > 0 && listed < MAX_ITEMS, "{listed} are listed");
        assert_eq!(
            (&data["more_count"], &data["more_link"]),
            (&json!(300 - listed), &json!("https://example.org/more"))
        );
        assert_eq!(check_context(&data), Ok(()));
    }

    #[test]
    fn a_member_is_told_where_it_went() {
        let message = NotificationId::from_uuid(uuid::Uuid::nil());
        let at = Timestamp::UNIX_EPOCH;
        let membership = |message, closes_at| Membership { kind: CollectionKind::Batch, closes_at, message };
        let said = explain_membership(&membership(Some(message), None)).expect("a sentence");
        assert_eq!(said, format!("It left in notification {message}."));
        assert!(
            explain_membership(&membership(None, Some(at))).expect("a sentence").starts_with("Its batch closes at")
        );
        assert_eq!(explain_membership(&membership(None, None)), None);
    }
}
