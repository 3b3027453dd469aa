//! What the auditor looks for: something open that has neither a next step nor an end, or whose next step does not come.
//!
//! Constraints of the database refuse most of it. The auditor is there for what no constraint can say, and for the day on
//! which one of them is wrong.

use crate::delivery::named;
use jiff::SignedDuration;
use std::fmt;

/// How late the next step of something open may be. All that takes steps runs each five minutes or oftener.
pub const LATE_AFTER: SignedDuration = SignedDuration::from_hours(1);
/// How far back notifications are looked at: a little more than from one audit to the next.
pub const LOOKED_BACK: SignedDuration = SignedDuration::from_hours(26);

named! {
    /// What is stranded.
    StrandedKind {
        /// A collection that the dispatcher is to close.
        Collection = "collection",
        /// A deadline of which an escalation is to begin.
        Deadline = "deadline",
        /// A delivery that the dispatcher is to look at.
        Delivery = "delivery",
        /// A delivery that waits for a digest, or to be decided about anew.
        DigestEntry = "digest_entry",
        /// A round of digests that is to be closed.
        DigestRound = "digest_round",
        /// A domain's job that is to be run.
        DomainJob = "domain_job",
        /// A request through the SQL door that is to become a notification.
        DoorRequest = "door_request",
        /// An escalation whose next step is to fire.
        Escalation = "escalation",
        /// An event that is to be told.
        Event = "event",
        /// A run of a job.
        JobRun = "job_run",
        /// A notification that was accepted.
        Notification = "notification",
        /// A rung that is to fire.
        Rung = "rung",
    }
}

named! {
    /// Why it is.
    StrandedReason {
        /// Nothing says when somebody has to look at it.
        NoNextStep = "no_next_step",
        /// Somebody had to look at it long ago.
        Late = "late",
        /// It has no delivery.
        NoDelivery = "no_delivery",
        /// Its lease was over long ago, and nobody has ended it.
        NoEnd = "no_end",
    }
}
