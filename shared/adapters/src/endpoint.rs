//! Calls of HTTPS endpoints that tenants name.
//!
//! A name is looked up here, every address is judged, and one of exactly these is connected to: there is no second lookup
//! that could answer otherwise. No proxy is asked, no redirect followed, and of an answer only its status is kept. A
//! connection serves one call.

use crate::env::{self, ConfigError};
use crate::telemetry::chain;
use domain::endpoint::{EndpointUrl, LocalEndpoints};
use futures::future::{Either, select};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long one address may take to be connected to, and then to agree on TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Addresses of a name that are tried, one after the other.
const MOST_ADDRESSES: usize = 4;
/// The most that is held of an answer's head.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// How much of an answer's body is read before the connection is closed, so that its sender sees no broken one.
const MAX_BODY_BYTES: usize = 4 * 1024;
/// For how long.
const BODY_TIME: Duration = Duration::from_secs(1);

/// What is posted. The body is JSON, and what signs it covers it to the byte.
pub struct SignedMessage {
    /// The same whenever the same is sent again.
    pub id: String,
    /// When it was signed, in Unix seconds.
    pub timestamp: i64,
    /// The signatures.
    pub signatures: String,
    /// The body.
    pub body: String,
}

domain::masked_debug!(SignedMessage, "SignedMessage", id, timestamp);

/// Why a call was no success. Nothing in it is the endpoint's own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointError {
    /// Its URL or an address of its name may not be called; nothing was connected to.
    Refused,
    /// Its name has no address.
    NameUnknown,
    /// No address of it can be connected to.
    Unreachable,
    /// It did not agree on TLS, or its certificate is not good for its name.
    Tls,
    /// The connection ended, or what came was no answer.
    Unreadable,
    /// There was no answer in time.
    TimedOut,
    /// It answered with a status that is no success; a redirect is one of them.
    Status(u16),
}

impl EndpointError {
    /// What it is, for programs and rows.
    pub fn code(&self) -> String {
        match self {
            Self::Refused => "endpoint_refused".to_owned(),
            Self::NameUnknown => "endpoint_name_unknown".to_owned(),
            Self::Unreachable => "endpoint_unreachable".to_owned(),
            Self::Tls => "endpoint_tls_failed".to_owned(),
            Self::Unreadable => "endpoint_answer_unreadable".to_owned(),
            Self::TimedOut => "timed_out".to_owned(),
            Self::Status(status) => format!("endpoint_status_{status}"),
        }
    }
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an endpoint could not be called: {}", self.code())
    }
}

impl std::error::Error for EndpointError {}

/// Reads `LOCAL_ENDPOINTS`: addresses and ports of a development machine that may be called, as `127.0.0.1:8443,[::1]:8443`.
/// Where it is not set there are none.
pub fn local_endpoints_from_env() -> Result<LocalEndpoints, ConfigError> {
    const NAME: &str = "LOCAL_ENDPOINTS";
    env::optional(NAME).map_or_else(
        || Ok(LocalEndpoints::default()),
        |text| LocalEndpoints::parse(&text).ok_or(ConfigError::Invalid(NAME, "is no list of addresses with ports")),
    )
}

/// The way to endpoints.
pub struct EndpointClient {
    local: LocalEndpoints,
    /// Made at the first call: the system's root certificates are read from disk.
    tls: OnceLock<TlsConnector>,
}

impl EndpointClient {
    /// Trusts the system's root certificates; reads what [`local_endpoints_from_env`] reads.
    pub fn from_env() -> Result<Self, ConfigError> {
        Ok(Self { local: local_endpoints_from_env()?, tls: OnceLock::new() })
    }

    /// Trusts these root certificates, in DER, and no others.
    pub fn trusting(local: LocalEndpoints, roots: &[Vec<u8>]) -> Self {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots.iter().map(|root| CertificateDer::from(root.as_slice())));
        Self { local, tls: OnceLock::from(connector(store)) }
    }

    /// Posts a message, and answers with the status of a success. All of it takes no longer than `most`.
    ///
    /// # Errors
    ///
    /// When it was no success. What was sent may have been understood all the same, unless nothing was connected to.
    pub async fn post(&self, url: &EndpointUrl, message: SignedMessage, most: Duration) -> Result<u16, EndpointError> {
        match timeout(most, self.exchange(url, message)).await {
            Ok(status) => status,
            Err(_) => Err(EndpointError::TimedOut),
        }
    }

    async fn exchange(&self, url: &EndpointUrl, message: SignedMessage) -> Result<u16, EndpointError> {
        let addresses = self.find_addresses(url).await?;
        let stream = self.connect(url, &addresses).await?;
        let mut http = http1::Builder::new();
        http.max_buf_size(MAX_HEAD_BYTES);
        let (mut sender, connection) =
            http.handshake(TokioIo::new(stream)).await.map_err(|_| EndpointError::Unreadable)?;
        let request = print_request(url, message)?;
        let exchange = async move {
            let answer = sender.send_request(request).await.map_err(|_| EndpointError::Unreadable)?;
            let status = answer.status();
            read_away(answer.into_body()).await;
            if status.is_success() { Ok(status.as_u16()) } else { Err(EndpointError::Status(status.as_u16())) }
        };
        match select(pin!(exchange), pin!(connection)).await {
            Either::Left((status, _)) => status,
            // A connection that has ended has handed over what it had.
            Either::Right((_, exchange)) => exchange.await,
        }
    }

    /// The addresses that the URL's host has now.
    async fn find_addresses(&self, url: &EndpointUrl) -> Result<Vec<SocketAddr>, EndpointError> {
        url.check(&self.local).map_err(|_| EndpointError::Refused)?;
        let port = url.port();
        let found: Vec<_> = match url.address() {
            Some(address) => vec![SocketAddr::new(address, port)],
            None => lookup_host((url.host(), port)).await.map_err(|_| EndpointError::NameUnknown)?.collect(),
        };
        judge_all(&self.local, &found)?;
        Ok(found)
    }

    async fn connect(
        &self,
        url: &EndpointUrl,
        addresses: &[SocketAddr],
    ) -> Result<TlsStream<TcpStream>, EndpointError> {
        let name = ServerName::try_from(url.host().to_owned()).map_err(|_| EndpointError::Tls)?;
        for address in addresses.iter().take(MOST_ADDRESSES) {
            let Ok(Ok(stream)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await else { continue };
            let agreed = timeout(CONNECT_TIMEOUT, self.tls().connect(name, stream)).await;
            return agreed.map_err(|_| EndpointError::TimedOut)?.map_err(|_| EndpointError::Tls);
        }
        Err(EndpointError::Unreachable)
    }

    fn tls(&self) -> &TlsConnector {
        self.tls.get_or_init(|| {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(error = chain(error), "a root certificate cannot be read");
            }
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(found.certs);
            connector(store)
        })
    }
}

/// One address that may not be called spoils them all: whoever points a name at it means no good, or has made a mistake that
/// somebody should see.
fn judge_all(local: &LocalEndpoints, found: &[SocketAddr]) -> Result<(), EndpointError> {
    if found.is_empty() {
        return Err(EndpointError::NameUnknown);
    }
    match found.iter().any(|address| local.judge(*address).is_some()) {
        true => Err(EndpointError::Refused),
        false => Ok(()),
    }
}

fn connector(roots: RootCertStore) -> TlsConnector {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

fn print_request(url: &EndpointUrl, message: SignedMessage) -> Result<Request<Full<Bytes>>, EndpointError> {
    let SignedMessage { id, timestamp, signatures, body } = message;
    Request::post(url.target())
        .header(header::HOST, url.authority())
        .header(header::USER_AGENT, "Harkara")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close")
        .header("webhook-id", id)
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", signatures)
        .body(Full::from(body))
        // A URL that hyper cannot send is none that it could call.
        .map_err(|_| EndpointError::Refused)
}

/// Reads a little of a body, and drops it.
async fn read_away(mut body: Incoming) {
    let read = async {
        let mut length = 0;
        while let Some(Ok(frame)) = body.frame().await {
            length += frame.data_ref().map_or(0, Bytes::len);
            if length >= MAX_BODY_BYTES {
                break;
            }
        }
    };
    // The status is known, and decides: a body that takes its time changes nothing.
    drop(timeout(BODY_TIME, read).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_inside_spoils_all_that_a_name_has() {
        let judge = |addresses: &[&str]| {
            let found: Vec<SocketAddr> = addresses.iter().map(|text| text.parse().expect("an address")).collect();
            judge_all(&LocalEndpoints::default(), &found)
        };
        assert_eq!(judge(&["1.1.1.1:443", "[2606:4700::1]:443"]), Ok(()));
        for (place, inside) in ["10.0.0.1:443", "[::ffff:10.0.0.1]:443", "169.254.169.254:443"].iter().enumerate() {
            let mut addresses = vec!["1.1.1.1:443", "1.0.0.1:443"];
            addresses.insert(place, inside);
            assert_eq!(judge(&addresses), Err(EndpointError::Refused), "{addresses:?}");
        }
        assert_eq!(judge(&[]), Err(EndpointError::NameUnknown));
    }
}
