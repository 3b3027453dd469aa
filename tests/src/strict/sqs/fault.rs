//! What a call may meet instead of its answer.

use std::collections::{HashMap, VecDeque};

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SqsFault {
    /// `RequestThrottled`; nothing is done.
    Throttled,
    /// 500; nothing is done.
    InternalError,
    /// 503; nothing is done.
    Unavailable,
    /// The connection closes; nothing is done.
    LostRequest,
    /// It is done, then the connection closes.
    LostReply,
    /// It is done, and never answered.
    NoReply,
}

impl SqsFault {
    /// Whether the call does what it asks for.
    pub(super) fn is_done(self) -> bool {
        matches!(self, Self::LostReply | Self::NoReply)
    }
}

/// The faults of the next calls, by action.
#[derive(Debug, Default)]
pub(super) struct Faults(HashMap<String, VecDeque<SqsFault>>);

impl Faults {
    pub(super) fn add(&mut self, action: &str, fault: SqsFault, times: usize) {
        self.0.entry(action.to_owned()).or_default().extend(std::iter::repeat_n(fault, times));
    }

    pub(super) fn take(&mut self, action: &str) -> Option<SqsFault> {
        self.0.get_mut(action)?.pop_front()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
