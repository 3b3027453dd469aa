//! A TCP proxy in front of Postgres that counts what a client sends.
//!
//! A round trip is a group of messages ended by Sync, or a simple Query: after either the server answers and, as sqlx
//! works, the client waits. Logging in is not counted.
//!
//! Source: PostgreSQL documentation, "Frontend/Backend Protocol", message formats.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Sub;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::task::JoinSet;

/// Codes that stand in the place of a protocol version in a first message and are answered by one byte.
const NEGOTIATIONS: [u32; 2] = [80_877_103, 80_877_104];

/// What clients have sent since the proxy started, or between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Sync and simple Query.
    pub(crate) round_trips: u64,
    /// Execute and simple Query.
    pub(crate) statements: u64,
    /// Parse: statements that were prepared.
    pub(crate) prepared: u64,
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            round_trips: self.round_trips - earlier.round_trips,
            statements: self.statements - earlier.statements,
            prepared: self.prepared - earlier.prepared,
        }
    }
}

#[derive(Debug, Default)]
struct Counters {
    round_trips: AtomicU64,
    statements: AtomicU64,
    prepared: AtomicU64,
}

/// A running proxy. Dropping it closes its connections.
#[derive(Debug)]
pub(crate) struct CountingProxy {
    address: SocketAddr,
    counters: Arc<Counters>,
    _tasks: JoinSet<()>,
}

impl CountingProxy {
    /// Binds a free port and passes everything on to `server`.
    pub(crate) async fn start(server: String) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let counters = Arc::new(Counters::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept_clients(listener, server, Arc::clone(&counters)));
        Ok(Self { address, counters, _tasks: tasks })
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What clients have sent so far.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            round_trips: self.counters.round_trips.load(Ordering::SeqCst),
            statements: self.counters.statements.load(Ordering::SeqCst),
            prepared: self.counters.prepared.load(Ordering::SeqCst),
        }
    }
}

async fn accept_clients(listener: TcpListener, server: String, counters: Arc<Counters>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((client, _)) = listener.accept() => {
                connections.spawn(pass_on(client, server.clone(), Arc::clone(&counters)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A connection that breaks is told to both sides by its end; the function under test reports it.
async fn pass_on(client: TcpStream, server: String, counters: Arc<Counters>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answers = async move {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
    };
    let requests = async move {
        let mut reader = FrontendReader::new(&counters);
        let mut buffer = vec![0; 64 * 1024];
        while let Some(bytes) = read_some(&mut from_client, &mut buffer).await {
            reader.take_bytes(bytes);
            if to_server.write_all(bytes).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = answers => {}
        () = requests => {}
    }
}

async fn read_some<'a>(from: &mut OwnedReadHalf, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let length = from.read(buffer).await.ok().filter(|length| *length > 0)?;
    Some(&buffer[..length])
}

/// Follows one client's messages through whatever pieces they arrive in.
struct FrontendReader<'a> {
    counters: &'a Counters,
    /// The first message has no type byte.
    is_started: bool,
    head: Vec<u8>,
    /// Bytes of the present message's body that are still to come.
    body_left: usize,
}

impl<'a> FrontendReader<'a> {
    fn new(counters: &'a Counters) -> Self {
        Self { counters, is_started: false, head: Vec::new(), body_left: 0 }
    }

    fn take_bytes(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.body_left > 0 {
                let taken = self.body_left.min(bytes.len());
                self.body_left -= taken;
                bytes = &bytes[taken..];
                continue;
            }
            let (byte, rest) = (bytes[0], &bytes[1..]);
            bytes = rest;
            self.head.push(byte);
            self.read_head();
        }
    }

    fn read_head(&mut self) {
        match (self.is_started, self.head.as_slice()) {
            (false, &[l0, l1, l2, l3, c0, c1, c2, c3]) => {
                let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
                self.is_started = !NEGOTIATIONS.contains(&u32::from_be_bytes([c0, c1, c2, c3]));
                self.body_left = length.saturating_sub(8);
                self.head.clear();
            }
            (true, &[kind, l0, l1, l2, l3]) => {
                self.body_left = (u32::from_be_bytes([l0, l1, l2, l3]) as usize).saturating_sub(4);
                self.head.clear();
                self.count(kind);
            }
            _ => {}
        }
    }

    fn count(&self, kind: u8) {
        let add = |counter: &AtomicU64| counter.fetch_add(1, Ordering::SeqCst);
        match kind {
            b'Q' => {
                add(&self.counters.round_trips);
                add(&self.counters.statements);
            }
            b'S' => {
                add(&self.counters.round_trips);
            }
            b'E' => {
                add(&self.counters.statements);
            }
            b'P' => {
                add(&self.counters.prepared);
            }
            _ => {}
        }
    }
}
