//! The decisions of Harkara: what may be sent, when, to whom, and what follows from what happened.
//!
//! Pure: no I/O, no clock, no SQL, no serde of outside formats. Values and the time go in, a value comes out.
//! Read in this order: [`notification`] is what callers ask for, [`delivery`] its states, [`preference`] what recipients
//! want, [`decision`] whether it may be sent, [`outcome`] what an attempt leads to, [`due`] what the dispatcher does, [`deadline`] when people are reminded,
//! [`feedback`] what the provider tells afterwards, [`explain`] how all of that is told, [`retry`] when things are tried
//! again; [`render`], [`template`] and [`message`] are what people read.
//! [`escalation`] is what goes on until somebody answers, and [`hierarchy`] who is whose manager.
//! [`link`] is what a mail's links let recipients do, and [`page`] what they see then.
//! [`job`] is what runs by itself, and [`domain_job`] what tenants add to that, when their [`schedule`] says so, at which [`endpoint`].
//! [`attachment`] and [`calendar`] are what leaves along with a mail.
//! [`mail`], [`account`], [`queue`], [`event`] and [`secret`] are the ports; the rest are values that cannot hold what they must not.

pub mod notification;

pub mod delivery;

pub mod category;

pub mod preference;

pub mod decision;

pub mod outcome;

pub mod due;

pub mod collection;
pub mod deadline;
pub mod escalation;

pub mod hierarchy;

pub mod quota;

pub mod retention;

pub mod retry;

pub mod breaker;

pub mod feedback;

pub mod explain;

pub mod digest;

pub mod mail;

pub mod attachment;

pub mod calendar;

pub mod domain_job;

pub mod endpoint;

pub mod schedule;

pub mod secret;

pub mod link;

pub mod page;

pub mod account;

pub mod queue;

pub mod job;

pub mod event;

pub mod render;

pub mod stranded;
pub mod template;

pub mod message;

mod masked;

pub mod address;
pub mod header;
pub mod id;
pub mod locale;
pub mod moment;
pub mod name;
