//! One execution environment of a function.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, io};

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::child::{Output, spawn_child, watch_child};
use super::routes::{Exchange, Invocation, Life, build_router};

/// Time that Lambda gives a function to ask for its first event.
const INIT_LIMIT: Duration = Duration::from_secs(10);
/// Lines of output that an error carries.
const LAST_LINES: usize = 20;

/// Why there is no answer.
#[derive(Debug)]
pub enum FunctionError {
    /// The binary cannot be run, no port is free, or `/proc` cannot be read.
    Io(io::Error),
    /// The function reported that it cannot start.
    Init {
        /// The report's `errorType`.
        kind: String,
        /// The report's `errorMessage`.
        message: String,
    },
    /// The function did not ask for its first event in this time.
    InitTimeout(Duration),
    /// The handler ended with an error.
    Failed {
        /// The report's `errorType`.
        kind: String,
        /// The report's `errorMessage`.
        message: String,
    },
    /// The answer is no JSON; its text.
    NotJson(String),
    /// No answer before the deadline; the process has been killed.
    Timeout(Duration),
    /// The process has ended.
    Exited {
        /// Its exit status in words.
        status: String,
        /// The last lines that it wrote.
        last_lines: Vec<String>,
    },
}

impl fmt::Display for FunctionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(_) => f.write_str("the function cannot be run"),
            Self::Init { kind, message } => {
                write!(f, "the function cannot start: {kind}: {message}")
            }
            Self::InitTimeout(limit) => {
                write!(f, "the function asked for no event within {limit:?}")
            }
            Self::Failed { kind, message } => write!(f, "the function failed: {kind}: {message}"),
            Self::NotJson(text) => write!(f, "the function's answer is no JSON: {text}"),
            Self::Timeout(limit) => write!(f, "the function did not answer within {limit:?}"),
            Self::Exited { status, last_lines } => {
                write!(f, "the function's process has ended ({status})")?;
                last_lines.iter().try_for_each(|line| write!(f, "\n  {line}"))
            }
        }
    }
}

impl std::error::Error for FunctionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// A function's process, ready for events. Dropping it kills the process.
#[derive(Debug)]
pub struct Function {
    pid: u32,
    time_to_first_next: Duration,
    exchange: Arc<Exchange>,
    invocations: mpsc::Sender<Invocation>,
    /// Held during an invocation: an environment has one event at a time.
    turn: Mutex<()>,
    life: watch::Receiver<Life>,
    kill: watch::Sender<bool>,
    output: Output,
    /// The server and the child's keeper; both end with this.
    _tasks: JoinSet<()>,
}

impl Function {
    /// Starts a binary and returns when it asks for its first event.
    ///
    /// `env` is all that the child sees beside the variables that Lambda sets itself; it may replace those.
    /// Errors: [`FunctionError::Io`], [`FunctionError::Init`], [`FunctionError::Exited`], or
    /// [`FunctionError::InitTimeout`] after 10 seconds, which is Lambda's limit.
    pub async fn start<K, V>(
        binary: impl AsRef<Path>,
        env: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, FunctionError>
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        Self::start_within(INIT_LIMIT, binary, env).await
    }

    /// As [`Function::start`], with another time for the start.
    pub async fn start_within<K, V>(
        limit: Duration,
        binary: impl AsRef<Path>,
        env: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, FunctionError>
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(FunctionError::Io)?;
        let address = listener.local_addr().map_err(FunctionError::Io)?;
        let (exchange, invocations) = Exchange::new();
        let mut life = exchange.watch_life();
        let mut tasks = JoinSet::new();
        let router = build_router(Arc::clone(&exchange));
        tasks.spawn(async move {
            // Accepting fails only for lack of descriptors; then the child's requests fail and its end is told.
            let _ = axum::serve(listener, router).await;
        });

        let env = env.into_iter().map(|(name, value)| (name.into(), value.into()));
        let spawned_at = Instant::now();
        let child = spawn_child(binary.as_ref(), address, env).map_err(FunctionError::Io)?;
        let pid = child.id().unwrap_or_default();
        let output = Output::default();
        let kill = watch::Sender::new(false);
        tasks.spawn(keep_child(child, output.clone(), Arc::clone(&exchange), kill.subscribe()));

        let has_moved_on = life.wait_for(|life| !matches!(life, Life::Starting));
        let moved_on = match tokio::time::timeout(limit, has_moved_on).await {
            Err(_) => return Err(FunctionError::InitTimeout(limit)),
            // The sender lives in `exchange`, which lives in this function.
            Ok(Err(_)) => Life::Ended("unknown".to_owned()),
            Ok(Ok(life)) => life.clone(),
        };
        let ready_at = match moved_on {
            Life::Ready(at) => at,
            Life::InitFailed { kind, message } => {
                return Err(FunctionError::Init { kind, message });
            }
            Life::Starting => return Err(FunctionError::InitTimeout(limit)),
            Life::Ended(status) => return Err(exited(status, &output)),
        };
        Ok(Self {
            pid,
            time_to_first_next: ready_at.duration_since(spawned_at),
            exchange,
            invocations,
            turn: Mutex::new(()),
            life,
            kill,
            output,
            _tasks: tasks,
        })
    }

    /// Hands the function an event and returns its answer.
    ///
    /// An invocation waits for the ones before it; `limit` counts from its own turn. Past it the process is killed, and
    /// every later invocation ends with [`FunctionError::Exited`].
    pub async fn invoke(&self, event: &Value, limit: Duration) -> Result<Value, FunctionError> {
        let _turn = self.turn.lock().await;
        let id = Uuid::now_v7().to_string();
        let reply = self.exchange.expect_reply(&id);
        let invocation = Invocation { id: id.clone(), event: event.to_string().into_bytes(), limit };
        let mut life = self.life.clone();
        let answered = async {
            // The receiver lives in the exchange, as long as this function.
            let _ = self.invocations.send(invocation).await;
            reply.await
        };
        let result = tokio::select! {
            biased;
            // The sender of the reply is dropped only by `forget_reply`.
            Ok(result) = answered => result,
            Ok(ended) = life.wait_for(|life| matches!(life, Life::Ended(_))) => Err(self.end_of(&ended)),
            () = tokio::time::sleep(limit) => {
                self.kill();
                Err(FunctionError::Timeout(limit))
            }
        };
        self.exchange.forget_reply(&id);
        result
    }

    /// Time from just before the process was started until it asked for its first event.
    pub fn time_to_first_next(&self) -> Duration {
        self.time_to_first_next
    }

    /// Memory of the process that is in RAM now, in bytes (`VmRSS`).
    ///
    /// Errors: the process has ended.
    pub fn resident_memory_bytes(&self) -> io::Result<u64> {
        self.read_memory("VmRSS:")
    }

    /// The most memory of the process that was in RAM at once, in bytes (`VmHWM`).
    ///
    /// Errors: the process has ended.
    pub fn peak_memory_bytes(&self) -> io::Result<u64> {
        self.read_memory("VmHWM:")
    }

    fn read_memory(&self, field: &str) -> io::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB")?.parse::<u64>().ok())
            .map(|kibibytes| kibibytes * 1024)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the process has no memory any more"))
    }

    /// Kills the process without warning, as a crash of the environment would.
    pub fn kill(&self) {
        self.kill.send_replace(true);
    }

    /// Waits until the process has ended and returns its exit status in words.
    pub async fn wait_for_exit(&self) -> String {
        let mut life = self.life.clone();
        match life.wait_for(|life| matches!(life, Life::Ended(_))).await.as_deref() {
            Ok(Life::Ended(status)) => status.clone(),
            // The sender lives in `exchange`, as long as this function.
            _ => "unknown".to_owned(),
        }
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The newest lines that the process wrote to its standard output and error.
    pub fn output(&self) -> Vec<String> {
        self.output.lines()
    }

    fn end_of(&self, life: &Life) -> FunctionError {
        match life {
            Life::Ended(status) => exited(status.clone(), &self.output),
            _ => exited("unknown".to_owned(), &self.output),
        }
    }
}

fn exited(status: String, output: &Output) -> FunctionError {
    let mut lines = output.lines();
    let last_lines = lines.split_off(lines.len().saturating_sub(LAST_LINES));
    FunctionError::Exited { status, last_lines }
}

async fn keep_child(
    child: tokio::process::Child,
    output: Output,
    exchange: Arc<Exchange>,
    mut kill: watch::Receiver<bool>,
) {
    let watching = watch_child(child, output);
    let status = tokio::select! {
        status = watching => status.map_or_else(|error| error.to_string(), |status| status.to_string()),
        // Leaving this branch drops the child, and dropping it kills it.
        _ = kill.wait_for(|kill| *kill) => "killed".to_owned(),
    };
    exchange.end_life(status);
}
