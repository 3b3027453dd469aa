//! A domain's endpoint: TLS on this machine, with a certificate of its own authority.

use adapters::endpoint::EndpointClient;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::endpoint::LocalEndpoints;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::Stage;

/// What it does once it has read a request.
#[derive(Clone)]
pub enum Behaviour {
    /// Says this, and ends the connection.
    Say(String),
    /// Says this, and nothing more until the other side goes.
    Hang(&'static str),
    /// Answers well with a body of ten gigabytes, as fast as it is read.
    Flood,
}

impl Behaviour {
    /// Answers with this status and nothing else.
    pub fn status(line: &str) -> Self {
        Self::Say(format!("HTTP/1.1 {line}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"))
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Its first line.
    pub line: String,
    headers: Vec<(String, String)>,
    /// Its body, to the byte.
    pub body: String,
}

impl Heard {
    /// The header of this name, which has to be there.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers))
    }

    /// Its body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    flooded: AtomicUsize,
    requests: Mutex<Vec<Heard>>,
}

/// The server. It ends with the test.
pub struct EndpointServer {
    /// Where it is.
    pub port: u16,
    root: Vec<u8>,
    seen: Arc<Seen>,
    behaviour: Arc<Mutex<Behaviour>>,
    count: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Drop for EndpointServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl EndpointServer {
    /// Begins to serve with a certificate for this name.
    pub async fn begin(name: &str, behaviour: Behaviour) -> Self {
        let (root, acceptor) = certify(name);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (seen, behaviour) = (Arc::new(Seen::default()), Arc::new(Mutex::new(behaviour)));
        let (counter, count) = watch::channel(0);
        let (all, how) = (Arc::clone(&seen), Arc::clone(&behaviour));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                all.connections.fetch_add(1, Ordering::SeqCst);
                let how = how.lock().unwrap_or_else(PoisonError::into_inner).clone();
                tokio::spawn(serve(stream, acceptor.clone(), Arc::clone(&all), how, counter.clone()));
            }
        });
        Self { port, root, seen, behaviour, count, task }
    }

    /// From now on it does this.
    pub fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = behaviour;
    }

    /// Lets the stage's functions call it, as `LOCAL_ENDPOINTS` would.
    pub fn allow(&self, stage: &mut Stage) {
        stage.api.local_endpoints = self.local();
        stage.domain_jobs.endpoints = self.client(self.local());
    }

    /// A client that trusts it, and may call these.
    pub fn client(&self, local: LocalEndpoints) -> EndpointClient {
        EndpointClient::trusting(local, std::slice::from_ref(&self.root))
    }

    /// Its addresses; `localhost` may be either.
    pub fn local(&self) -> LocalEndpoints {
        let port = self.port;
        LocalEndpoints::parse(&format!("127.0.0.1:{port},[::1]:{port}")).expect("addresses")
    }

    /// A URL of it.
    pub fn url(&self) -> String {
        self.url_of("jobs/reconcile?dry=1")
    }

    /// The URL of a path, which has no slash before it.
    pub fn url_of(&self, path: &str) -> String {
        format!("https://localhost:{}/{path}", self.port)
    }

    /// Its authority's certificate as a file of them has it, for a function that is to trust it.
    pub fn authority(&self) -> String {
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(&self.root))
    }

    /// How often somebody has connected.
    pub fn connection_count(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// How much of a flood has left.
    pub fn flooded(&self) -> usize {
        self.seen.flooded.load(Ordering::SeqCst)
    }

    /// What it has read, in order.
    pub fn requests(&self) -> Vec<Heard> {
        self.seen.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it has read so many requests.
    pub async fn see(&self, requests: usize) {
        let mut count = self.count.clone();
        count.wait_for(|count| *count >= requests).await.expect("it serves");
    }
}

async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    seen: Arc<Seen>,
    behaviour: Behaviour,
    counter: watch::Sender<usize>,
) {
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let Some(heard) = read_request(&mut stream).await else { return };
    seen.requests.lock().unwrap_or_else(PoisonError::into_inner).push(heard);
    counter.send_modify(|count| *count += 1);
    match behaviour {
        Behaviour::Say(text) => {
            drop(stream.write_all(text.as_bytes()).await);
            drop(stream.shutdown().await);
        }
        Behaviour::Hang(text) => {
            drop(stream.write_all(text.as_bytes()).await);
            drop(stream.flush().await);
            drop(stream.read(&mut [0; 1]).await);
        }
        Behaviour::Flood => {
            let head = "HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n";
            drop(stream.write_all(head.as_bytes()).await);
            while stream.write_all(&[b'x'; 16 * 1024]).await.is_ok() {
                seen.flooded.fetch_add(16 * 1024, Ordering::SeqCst);
            }
        }
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<Heard> {
    let mut bytes = Vec::new();
    loop {
        if let Some(heard) = parse(&bytes) {
            return Some(heard);
        }
        let mut part = [0; 4096];
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => return None,
            Ok(length) => bytes.extend_from_slice(&part[..length]),
        }
    }
}

/// The request, once all of it is there.
fn parse(bytes: &[u8]) -> Option<Heard> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let line = lines.next()?.to_owned();
    let headers: Vec<(String, String)> =
        lines.filter_map(|line| line.split_once(": ")).map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let heard = Heard { line, headers, body: body.to_owned() };
    (body.len() >= heard.header("content-length").parse().expect("a length")).then_some(heard)
}

/// An authority, and what serves with a certificate of it.
fn certify(name: &str) -> (Vec<u8>, TlsAcceptor) {
    let (authority_key, key) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
    let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority.self_signed(&authority_key).expect("a certificate").der().to_vec();
    let issuer = Issuer::new(authority, authority_key);
    let own = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    let own = own.signed_by(&key, &issuer).expect("a certificate");
    let own = CertificateDer::from(own.der().to_vec());
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the default versions")
        .with_no_client_auth()
        .with_single_cert(vec![own], key)
        .expect("a certificate with its key");
    (root, TlsAcceptor::from(Arc::new(config)))
}
