//! The other end of the failpoints: it hears how far each process has come, and decides what happens there.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How a process is struck at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// SIGKILL, while the process stands at the point.
    Kill,
    /// The process hangs there until its time is over, and is then killed as Lambda does it.
    Timeout,
    /// The process panics there.
    Panic,
    /// The step that is there returns its error.
    Error,
    /// The process goes on, but what it answers never reaches Lambda.
    LoseAnswer,
    /// The process waits there until the test lets it go on.
    Hold,
}

impl Strike {
    /// The five ways in which an invocation can go wrong at any point.
    pub const FAULTS: [Self; 5] = [Self::Kill, Self::Panic, Self::Timeout, Self::Error, Self::LoseAnswer];
}

/// A process that came to a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Which process.
    pub pid: u32,
    /// Which point.
    pub point: String,
    /// What it met there.
    pub strike: Option<Strike>,
}

#[derive(Debug, Default)]
struct Orders {
    armed: Vec<(String, usize, Strike)>,
    /// Processes that hung until their time was over.
    timed_out: Vec<u32>,
    /// Processes whose answer is lost.
    unheard: Vec<u32>,
    held: VecDeque<TcpStream>,
    /// How many had arrived anywhere when those that were held were let go.
    let_go_at: usize,
}

/// The listener. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Points {
    address: SocketAddr,
    orders: Arc<Mutex<Orders>>,
    arrivals: Arc<watch::Sender<Vec<Arrival>>>,
    _tasks: JoinSet<()>,
}

fn lock(orders: &Mutex<Orders>) -> MutexGuard<'_, Orders> {
    orders.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Points {
    pub(super) async fn listen() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let orders: Arc<Mutex<Orders>> = Arc::default();
        let arrivals: Arc<watch::Sender<Vec<Arrival>>> = Arc::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, Arc::clone(&orders), Arc::clone(&arrivals)));
        Ok(Self { address, orders, arrivals, _tasks: tasks })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Strikes whoever comes to a point as the `nth` from now on, counted from 1.
    pub(super) fn arm(&self, point: &str, nth: usize, strike: Strike) {
        lock(&self.orders).armed.push((point.to_owned(), nth, strike));
    }

    /// Strikes that are still to come are forgotten, and who is held goes on.
    pub(super) fn disarm(&self) {
        let mut orders = lock(&self.orders);
        orders.armed.clear();
        orders.held.clear();
        orders.let_go_at = self.arrivals.borrow().len();
    }

    /// The points that processes came to, in order.
    pub(super) fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.borrow().clone()
    }

    /// Waits until somebody has been struck at a point.
    pub(super) async fn wait_for_strike(&self, point: &str, limit: Duration) -> bool {
        self.wait_for(limit, 0, |arrival| arrival.point == point && arrival.strike.is_some()).await
    }

    /// Waits until somebody is held at a point, whoever was held there before and let go.
    pub(super) async fn wait_for_hold(&self, point: &str, limit: Duration) -> bool {
        let begin = lock(&self.orders).let_go_at;
        self.wait_for(limit, begin, |arrival| arrival.point == point && arrival.strike == Some(Strike::Hold)).await
    }

    /// Waits for an arrival after the first `begin` of them.
    async fn wait_for(&self, limit: Duration, begin: usize, is_meant: impl Fn(&Arrival) -> bool) -> bool {
        let mut arrivals = self.arrivals.subscribe();
        let met = arrivals.wait_for(|list| list.iter().skip(begin).any(&is_meant));
        matches!(tokio::time::timeout(limit, met).await, Ok(Ok(_)))
    }

    /// The time of a process is over; who says so kills it.
    pub(super) fn time_out(&self, pid: u32) {
        lock(&self.orders).timed_out.push(pid);
    }

    /// Whether a process hung until its time was over.
    pub(super) fn has_timed_out(&self, pid: u32) -> bool {
        lock(&self.orders).timed_out.contains(&pid)
    }

    /// Whether the answer that a process gives now is lost; asking takes it back.
    pub(super) fn take_unheard(&self, pid: u32) -> bool {
        let mut orders = lock(&self.orders);
        let place = orders.unheard.iter().position(|unheard| *unheard == pid);
        place.map(|place| orders.unheard.swap_remove(place)).is_some()
    }
}

async fn serve(listener: TcpListener, orders: Arc<Mutex<Orders>>, arrivals: Arc<watch::Sender<Vec<Arrival>>>) {
    let mut visitors = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    visitors.spawn(meet(stream, Arc::clone(&orders), Arc::clone(&arrivals)));
                }
            }
            Some(_) = visitors.join_next() => {}
        }
    }
}

/// Answers one process at one point.
async fn meet(mut stream: TcpStream, orders: Arc<Mutex<Orders>>, arrivals: Arc<watch::Sender<Vec<Arrival>>>) {
    let mut line = String::new();
    if BufReader::new(&mut stream).read_line(&mut line).await.is_err() {
        return;
    }
    let Some((pid, point)) = line.trim_end().split_once(' ') else { return };
    let Ok(pid) = pid.parse::<u32>() else { return };
    let strike = take_order(&mut lock(&orders), point);
    match strike {
        Some(Strike::Timeout) => lock(&orders).timed_out.push(pid),
        Some(Strike::LoseAnswer) => lock(&orders).unheard.push(pid),
        _ => {}
    }
    arrivals.send_modify(|list| list.push(Arrival { pid, point: point.to_owned(), strike }));
    let word = match strike {
        None | Some(Strike::LoseAnswer) => "go",
        Some(Strike::Panic) => "panic",
        Some(Strike::Error) => "error",
        Some(Strike::Kill | Strike::Timeout) => {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                // A real signal to a real process, which stands in the middle of its work.
                let _ = kill_process(pid, Signal::KILL);
            }
            // Its end closes the connection.
            let _ = stream.read(&mut [0; 1]).await;
            return;
        }
        Some(Strike::Hold) => {
            // Dropped, and the process with it let go, when the test says so.
            lock(&orders).held.push_back(stream);
            return;
        }
    };
    let _ = stream.write_all(format!("{word}\n").as_bytes()).await;
}

fn take_order(orders: &mut Orders, point: &str) -> Option<Strike> {
    let mut strike = None;
    for (armed, left, what) in &mut orders.armed {
        if armed == point {
            *left -= 1;
            if *left == 0 {
                strike = strike.or(Some(*what));
            }
        }
    }
    orders.armed.retain(|(_, left, _)| *left > 0);
    strike
}
