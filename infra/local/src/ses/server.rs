//! Starting, reaching and stopping the server.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::Uri;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::account::AccountBook;
use super::address::Address;
use super::connection::serve_connection;
use super::event_book::{EventBook, EventSink};
use super::fault::Fault;
use super::fault_book::FaultBook;
use super::ledger::Ledger;
use super::mailbox::Mailbox;
use super::refusal::Refusal;
use super::routes::{Desk, InFlight, build_router};
use super::rules::Account;

/// A list of names that exist, or no list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Allowed {
    /// Every name.
    #[default]
    Any,
    /// These names.
    Only(Vec<String>),
}

impl Allowed {
    /// These names and no others.
    pub fn only<T: Into<String>>(names: impl IntoIterator<Item = T>) -> Self {
        Self::Only(names.into_iter().map(Into::into).collect())
    }
}

/// How the stand-in is set up. The default: any port, any identity, any configuration set, no mailbox, no latency, no
/// sink for events, a rate that nobody reaches.
#[derive(Clone, Debug)]
pub struct SesConfig {
    /// Port on 127.0.0.1; 0 takes any that is free.
    pub port: u16,
    /// Domains and addresses that may stand in From; a domain covers its subdomains.
    pub identities: Allowed,
    /// Configuration sets that exist.
    pub configuration_sets: Allowed,
    /// Base URL of a mailbox that speaks SES v2 over plain HTTP and gets every accepted mail.
    pub mailbox_url: Option<Uri>,
    /// Every send is answered this long after its arrival, at the earliest.
    pub latency: Duration,
    /// Where events are sent beside [`SesHandle::events`].
    pub event_sink: Option<EventSink>,
    /// What `GetAccount` tells. It is told only: nothing is throttled by it.
    pub max_send_rate: f64,
}

impl Default for SesConfig {
    fn default() -> Self {
        Self {
            port: 0,
            identities: Allowed::Any,
            configuration_sets: Allowed::Any,
            mailbox_url: None,
            latency: Duration::ZERO,
            event_sink: None,
            max_send_rate: 1000.0,
        }
    }
}

/// The stand-in itself; see the module.
#[derive(Debug)]
pub struct SesServer;

impl SesServer {
    /// Binds 127.0.0.1 and serves on the current runtime until the handle is stopped or dropped.
    ///
    /// Errors: the port is taken.
    pub async fn start(config: SesConfig) -> io::Result<SesHandle> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, config.port)).await?;
        let address = listener.local_addr()?;
        let desk = Arc::new(Desk {
            account: Account { identities: config.identities, configuration_sets: config.configuration_sets },
            ledger: Ledger::new(),
            faults: Mutex::new(FaultBook::default()),
            events: EventBook::new(config.event_sink),
            book: AccountBook::new(config.max_send_rate),
            mailbox: config.mailbox_url.as_ref().map(Mailbox::new),
            latency: config.latency,
            in_flight: InFlight::default(),
        });
        let stop = watch::Sender::new(false);
        let task = tokio::spawn(accept_connections(listener, build_router(Arc::clone(&desk)), stop.subscribe()));
        Ok(SesHandle { address, desk, stop, task })
    }
}

async fn accept_connections(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let stop_of_connections = stop.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A connection that died between SYN and accept is no reason to end the server.
                if let Ok((stream, _)) = accepted {
                    connections.spawn(serve_connection(stream, router.clone(), stop_of_connections.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
            _ = stop.wait_for(|stopped| *stopped) => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// A running stand-in. Dropping it breaks every connection off.
#[derive(Debug)]
pub struct SesHandle {
    address: SocketAddr,
    desk: Arc<Desk>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl SesHandle {
    /// Base URL without a slash at the end; the value for `AWS_ENDPOINT_URL_SESV2`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What has reached the server.
    pub fn ledger(&self) -> &Ledger {
        &self.desk.ledger
    }

    /// The events of accepted mails, which whoever tests delivers as it likes: late, twice, in another order, never.
    pub fn events(&self) -> &EventBook {
        &self.desk.events
    }

    /// Puts an address on the account's own list, as SES does by itself after a bounce.
    ///
    /// Errors: the address is none in SES's eyes.
    pub fn suppress(&self, address: &str) -> Result<(), Refusal> {
        self.desk.book.add(&Address::parse(address)?, "BOUNCE");
        Ok(())
    }

    /// Takes an address off the account's own list.
    ///
    /// Errors: the address is none in SES's eyes.
    pub fn forgive(&self, address: &str) -> Result<(), Refusal> {
        self.desk.book.remove(&Address::parse(address)?);
        Ok(())
    }

    /// Sets what `GetAccount` tells of the rate.
    pub fn set_max_send_rate(&self, rate: f64) {
        self.desk.book.set_max_send_rate(rate);
    }

    /// Sets the faults of the next sends to an address, the first send the first fault; then the address is ordinary
    /// again.
    ///
    /// Errors: the address is none in SES's eyes.
    pub fn script(&self, address: &str, script: Vec<Fault>) -> Result<(), Refusal> {
        self.desk.set_script(&Address::parse(address)?, script);
        Ok(())
    }

    /// The most sends that were under way at once since the start.
    pub fn max_in_flight(&self) -> usize {
        self.desk.in_flight.max()
    }

    /// Takes no more connections, lets answers under way finish for up to a second, and returns when all is closed.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        // The task neither panics nor is aborted before this handle is gone.
        let _ = (&mut self.task).await;
    }
}

impl Drop for SesHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}
