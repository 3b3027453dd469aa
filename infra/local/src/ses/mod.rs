//! A stand-in for Amazon SES v2 that is as strict as SES and can fail in every way that SES and a network can.
//!
//! Cast: a caller with the AWS SDK, this server, and optionally a mailbox that speaks SES v2 and shows what arrived.
//!
//! Flow of one `POST /v2/email/outbound-emails`: read the request whole, check it by SES's rules, see which
//! fault its recipient asks for ([`Fault`]), write the [`Ledger`], hand an accepted mail to the mailbox, then answer, or
//! break the connection as the fault says.
//!
//! Guarantees:
//! - Every request that reached this server is in the ledger before its answer leaves, so a lost answer is still counted.
//! - What SES would refuse is refused here with the same status, error header and body.
//! - A member of the request that this server does not know is refused, never ignored.
//!
//! It does not verify signatures (it only wants one to be there), and keeps nothing on disk.
//!
//! What was accepted is followed by events, as SES publishes them ([`Happening`]): sent and delivered, unless the
//! recipient's address asks for others. They are kept ([`EventBook`]), and sent to a queue where there is one.
//!
//! Beside SES's routes it answers `GET` and `DELETE` of `/ledger` and `/events`, `POST /faults`, `PUT /event-sink` and
//! `PUT /account`, for tests in other processes.

mod account;
mod address;
mod attachment;
pub mod connection;
mod event_book;
mod event_script;
mod fault;
mod fault_book;
mod happening;
mod ledger;
mod mailbox;
mod refusal;
mod request;
mod routes;
mod rules;
mod server;

pub use attachment::SentFile;
pub use event_book::{EventBook, EventSink, ToldEvent};
pub use fault::{Fault, FaultError, SIMULATOR_DOMAIN};
pub use happening::{Happening, MailFacts};
pub use ledger::{Answer, Ledger, LedgerEntry, Outcome};
pub use refusal::Refusal;
pub use server::{Allowed, SesConfig, SesHandle, SesServer};
