//! A proxy before Postgres that knows which statement a message executes, so that a fault meets exactly that one.
//!
//! Most statements of the functions are their own transaction: no COMMIT is on the wire, and what commits is the Sync
//! after the Execute. The answer to it is what can be lost or held back after everything has been committed.
//! `microburst` cuts connections by what passes first on them; this knows one statement of a connection from the next.
//!
//! Source: PostgreSQL documentation, "Frontend/Backend Protocol", version 3.0.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What a statement meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireFault {
    /// The connection is reset before the server has seen the statement.
    ResetBefore,
    /// The server ends the connection with this SQLSTATE and has not done the statement.
    FatalBefore(&'static str),
    /// The statement is done and committed, then the connection is reset.
    LoseReply,
    /// The statement is done and committed, then the server ends the connection with this SQLSTATE.
    FatalAfter(&'static str),
    /// The statement is done and committed, and its answer never comes.
    HoldReply,
}

#[derive(Debug, Default)]
struct Orders(Vec<Order>);

/// What statements of a kind are to meet.
#[derive(Debug)]
struct Order {
    /// What is in such a statement.
    needle: String,
    /// How many of them pass before.
    passes: usize,
    fault: WireFault,
    /// How many of them meet it.
    times: usize,
}

/// The proxy. Dropping it ends it and every connection through it.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    orders: Arc<Mutex<Orders>>,
    met: Arc<watch::Sender<Vec<(String, WireFault)>>>,
    described: Arc<Mutex<HashMap<String, usize>>>,
    /// Whether an answer is held back.
    held: Arc<watch::Sender<bool>>,
    _tasks: JoinSet<()>,
}

fn lock(orders: &Mutex<Orders>) -> MutexGuard<'_, Orders> {
    orders.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wire {
    /// Listens before a server.
    pub async fn before(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let orders: Arc<Mutex<Orders>> = Arc::default();
        let met: Arc<watch::Sender<Vec<(String, WireFault)>>> = Arc::default();
        let mut tasks = JoinSet::new();
        let described: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
        let held: Arc<watch::Sender<bool>> = Arc::default();
        let desk = Desk {
            orders: Arc::clone(&orders),
            met: Arc::clone(&met),
            described: Arc::clone(&described),
            held: Arc::clone(&held),
        };
        tasks.spawn(serve(listener, upstream, desk));
        Ok(Self { address, orders, met, described, held, _tasks: tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next `times` executions of a statement that contains `needle` meet a fault.
    pub fn arm(&self, needle: &str, fault: WireFault, times: usize) {
        lock(&self.orders).0.push(Order { needle: needle.to_owned(), passes: 0, fault, times });
    }

    /// The `nth` execution from now on of a statement that contains `needle`, counted from 1, meets a fault.
    pub fn arm_nth(&self, needle: &str, nth: usize, fault: WireFault) {
        lock(&self.orders).0.push(Order { needle: needle.to_owned(), passes: nth - 1, fault, times: 1 });
    }

    /// Everything passes from now on.
    pub fn disarm(&self) {
        lock(&self.orders).0.clear();
    }

    /// How many statements have met a fault.
    pub fn met_count(&self) -> usize {
        self.met.borrow().len()
    }

    /// How many bytes the server answered with when a statement was prepared, before it was executed. A proxy that
    /// counts bytes cuts the execution's answer behind them.
    pub fn described_bytes(&self, needle: &str) -> usize {
        let described = self.described.lock().unwrap_or_else(PoisonError::into_inner);
        let found = described.iter().find(|(statement, _)| statement.contains(needle));
        found.map(|(_, bytes)| *bytes).unwrap_or_else(|| panic!("no statement with {needle:?} was prepared"))
    }

    /// Waits until the statement that is held back has been done and committed, for at most the time of a test.
    pub async fn wait_until_held(&self) {
        let mut held = self.held.subscribe();
        let limit = Duration::from_secs(20);
        // What it gives is a lock on the value, which is set below.
        let is_held = matches!(tokio::time::timeout(limit, held.wait_for(|held| *held)).await, Ok(Ok(_)));
        assert!(is_held, "the statement has not been answered");
        self.held.send_replace(false);
    }

    /// Waits until so many statements have met a fault, for at most `limit`; says whether they have.
    pub async fn wait_until_met(&self, count: usize, limit: Duration) -> bool {
        let mut met = self.met.subscribe();
        let enough = met.wait_for(|met| met.len() >= count);
        matches!(tokio::time::timeout(limit, enough).await, Ok(Ok(_)))
    }
}

/// What the connections share with the test.
#[derive(Clone)]
struct Desk {
    orders: Arc<Mutex<Orders>>,
    met: Arc<watch::Sender<Vec<(String, WireFault)>>>,
    described: Arc<Mutex<HashMap<String, usize>>>,
    held: Arc<watch::Sender<bool>>,
}

async fn serve(listener: TcpListener, upstream: SocketAddr, desk: Desk) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    let desk = desk.clone();
                    connections.spawn(async move {
                        if let Ok(server) = TcpStream::connect(upstream).await {
                            let connection = Connection { client, server, desk, statements: HashMap::new() };
                            // Whoever breaks off ends the connection for both.
                            let _ = connection.run().await;
                        }
                    });
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A message: its type and everything behind its length.
type Message = (u8, Vec<u8>);

struct Connection {
    client: TcpStream,
    server: TcpStream,
    desk: Desk,
    /// Prepared statements by name.
    statements: HashMap<Vec<u8>, String>,
}

impl Connection {
    async fn run(mut self) -> io::Result<()> {
        self.start_up().await?;
        loop {
            let Some((unit, statement)) = self.read_unit().await? else { return Ok(()) };
            let fault = statement.and_then(|statement| self.take_fault(&statement));
            match fault {
                Some(WireFault::ResetBefore) => return self.client.set_zero_linger(),
                Some(WireFault::FatalBefore(code)) => return self.end_with(code).await,
                _ => {}
            }
            for message in &unit {
                write_message(&mut self.server, message).await?;
            }
            if unit.iter().any(|(kind, _)| *kind == b'X') {
                return Ok(());
            }
            let answer = self.read_answer().await?;
            if let Some((_, body)) = unit.iter().find(|(kind, _)| *kind == b'P') {
                let statement = body.split(|byte| *byte == 0).nth(1).unwrap_or_default();
                let bytes = answer.iter().map(|(_, body)| body.len() + 5).sum();
                let mut described = self.desk.described.lock().unwrap_or_else(PoisonError::into_inner);
                described.insert(String::from_utf8_lossy(statement).into_owned(), bytes);
            }
            match fault {
                Some(WireFault::LoseReply) => return self.client.set_zero_linger(),
                Some(WireFault::FatalAfter(code)) => return self.end_with(code).await,
                // The connection stays open, as it does when an answer is lost on the way.
                Some(WireFault::HoldReply) => {
                    self.desk.held.send_replace(true);
                    return std::future::pending().await;
                }
                _ => {}
            }
            for message in &answer {
                write_message(&mut self.client, message).await?;
            }
        }
    }

    /// Passes the log-in on, until the server is ready.
    async fn start_up(&mut self) -> io::Result<()> {
        let length = self.client.read_u32().await?;
        let mut rest = vec![0; usize::try_from(length).unwrap_or_default().saturating_sub(4)];
        self.client.read_exact(&mut rest).await?;
        self.server.write_u32(length).await?;
        self.server.write_all(&rest).await?;
        loop {
            let message = read_message(&mut self.server).await?;
            write_message(&mut self.client, &message).await?;
            let (kind, body) = &message;
            // A request for a password, or for one more step of SASL; not its end, and not the all clear.
            let wants_word = *kind == b'R' && !matches!(body.get(..4), Some([0, 0, 0, 0 | 12]));
            if wants_word {
                let word = read_message(&mut self.client).await?;
                write_message(&mut self.server, &word).await?;
            }
            if *kind == b'Z' {
                return Ok(());
            }
        }
    }

    /// Reads what the client sends until it wants an answer, with the statement that is executed; nothing at its end.
    async fn read_unit(&mut self) -> io::Result<Option<(Vec<Message>, Option<String>)>> {
        let mut unit = Vec::new();
        let mut bound: Option<String> = None;
        let mut executed = None;
        loop {
            let (kind, body) = match read_message(&mut self.client).await {
                Ok(message) => message,
                Err(_) if unit.is_empty() => return Ok(None),
                Err(error) => return Err(error),
            };
            let mut texts = body.split(|byte| *byte == 0);
            match kind {
                b'P' => {
                    let name = texts.next().unwrap_or_default().to_vec();
                    let statement = String::from_utf8_lossy(texts.next().unwrap_or_default()).into_owned();
                    self.statements.insert(name, statement);
                }
                b'B' => bound = texts.nth(1).and_then(|name| self.statements.get(name).cloned()),
                b'E' => executed = bound.clone(),
                b'Q' => executed = texts.next().map(|text| String::from_utf8_lossy(text).into_owned()),
                _ => {}
            }
            let is_end = matches!(kind, b'S' | b'Q' | b'X');
            unit.push((kind, body));
            if is_end {
                return Ok(Some((unit, executed)));
            }
        }
    }

    /// Reads what the server answers, until it is ready again.
    async fn read_answer(&mut self) -> io::Result<Vec<Message>> {
        let mut answer = Vec::new();
        loop {
            let message = read_message(&mut self.server).await?;
            let is_end = message.0 == b'Z';
            answer.push(message);
            if is_end {
                return Ok(answer);
            }
        }
    }

    fn take_fault(&self, statement: &str) -> Option<WireFault> {
        let fault = {
            let mut orders = lock(&self.desk.orders);
            let place = orders.0.iter().position(|order| statement.contains(&order.needle))?;
            let order = &mut orders.0[place];
            if order.passes > 0 {
                order.passes -= 1;
                return None;
            }
            let fault = order.fault;
            order.times -= 1;
            if order.times == 0 {
                orders.0.remove(place);
            }
            fault
        };
        self.desk.met.send_modify(|met| met.push((statement.to_owned(), fault)));
        Some(fault)
    }

    /// Tells the client that the server ends the connection.
    async fn end_with(&mut self, code: &str) -> io::Result<()> {
        let mut body = Vec::new();
        for (field, text) in [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', code), (b'M', "told to end the connection")] {
            body.push(field);
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        body.push(0);
        write_message(&mut self.client, &(b'E', body)).await?;
        self.client.shutdown().await
    }
}

async fn read_message(stream: &mut TcpStream) -> io::Result<Message> {
    let kind = stream.read_u8().await?;
    let length = stream.read_u32().await?;
    let mut body = vec![0; usize::try_from(length).unwrap_or_default().saturating_sub(4)];
    stream.read_exact(&mut body).await?;
    Ok((kind, body))
}

async fn write_message(stream: &mut TcpStream, (kind, body): &Message) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(body.len() + 5);
    bytes.push(*kind);
    bytes.extend_from_slice(&u32::try_from(body.len() + 4).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(body);
    stream.write_all(&bytes).await
}
