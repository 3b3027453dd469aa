//! The execution environments of one function, as Lambda keeps them: warm while idle, gone after a crash.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use local::runtime_api::{Function, FunctionError};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::points::Points;

/// Sandboxes of a function that are at work at once, at most. More of them only make a small machine slow.
const CONCURRENCY: usize = 10;

/// One function and its sandboxes.
pub(super) struct Sandboxes {
    name: String,
    binary: PathBuf,
    env: BTreeMap<String, String>,
    /// The time that an invocation has.
    limit: Duration,
    points: Arc<Points>,
    idle: Mutex<Vec<Function>>,
    /// Processes that are at work.
    busy: Mutex<Vec<u32>>,
    /// How many may be at work at once.
    room: Semaphore,
    /// What sandboxes said that are gone.
    last_words: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sandboxes {
    pub(super) fn new(
        name: &str,
        binary: PathBuf,
        env: BTreeMap<String, String>,
        limit: Duration,
        points: Arc<Points>,
    ) -> Self {
        let (idle, busy, last_words) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self {
            name: name.to_owned(),
            binary,
            env,
            limit,
            points,
            idle,
            busy,
            room: Semaphore::new(CONCURRENCY),
            last_words,
        }
    }

    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// Sets variables for sandboxes that start from now on, and ends the idle ones: a new version is deployed.
    pub(super) fn redeploy(&mut self, env: impl IntoIterator<Item = (String, String)>) {
        self.env.extend(env);
        self.retire();
    }

    /// Runs another binary from now on.
    pub(super) fn replace_binary(&mut self, binary: PathBuf) {
        self.binary = binary;
        self.retire();
    }

    /// Ends every idle sandbox.
    pub(super) fn retire(&self) {
        let idle = std::mem::take(&mut *lock(&self.idle));
        idle.into_iter().for_each(|sandbox| self.bury(&sandbox));
    }

    /// What every sandbox has written.
    pub(super) fn output(&self) -> Vec<String> {
        let mut lines = lock(&self.last_words).clone();
        lines.extend(lock(&self.idle).iter().flat_map(Function::output));
        lines
    }

    /// Processes of idle sandboxes.
    pub(super) fn pids(&self) -> Vec<u32> {
        lock(&self.idle).iter().map(Function::pid).collect()
    }

    /// SIGKILL to every process that is at work.
    pub(super) fn kill_busy(&self) {
        for pid in lock(&self.busy).iter().filter_map(|pid| i32::try_from(*pid).ok()) {
            // One that has just ended on its own is dead enough.
            let _ = kill_process(Pid::from_raw(pid).expect("a process has a number"), Signal::KILL);
        }
    }

    /// The time of every process that is at work is over.
    pub(super) fn time_out_busy(&self) {
        lock(&self.busy).iter().for_each(|pid| self.points.time_out(*pid));
        self.kill_busy();
    }

    /// Invokes an idle sandbox, or a new one, for the function's own time.
    pub(super) async fn invoke(&self, event: &Value) -> Result<Value, FunctionError> {
        self.invoke_within(event, self.limit).await
    }

    /// Invokes with another time.
    pub(super) async fn invoke_within(&self, event: &Value, limit: Duration) -> Result<Value, FunctionError> {
        let _room = self.room.acquire().await.expect("it is never closed");
        let warm = lock(&self.idle).pop();
        let sandbox = match warm {
            Some(sandbox) => sandbox,
            None => {
                let env = self.env.iter().map(|(name, value)| (name.clone(), value.clone()));
                Function::start(&self.binary, env).await?
            }
        };
        lock(&self.busy).push(sandbox.pid());
        let result = sandbox.invoke(event, limit).await;
        lock(&self.busy).retain(|pid| *pid != sandbox.pid());
        if self.points.take_unheard(sandbox.pid()) {
            // The answer does not arrive, so the time runs out, and Lambda ends the sandbox.
            self.bury(&sandbox);
            return Err(FunctionError::Timeout(limit));
        }
        match result {
            Err(FunctionError::Exited { .. }) if self.points.has_timed_out(sandbox.pid()) => {
                self.bury(&sandbox);
                Err(FunctionError::Timeout(limit))
            }
            Err(error @ (FunctionError::Exited { .. } | FunctionError::Timeout(_) | FunctionError::Io(_))) => {
                self.bury(&sandbox);
                Err(error)
            }
            other => {
                lock(&self.idle).push(sandbox);
                other
            }
        }
    }

    /// Keeps a sandbox's last words; it ends when it is dropped.
    fn bury(&self, sandbox: &Function) {
        lock(&self.last_words).extend(sandbox.output());
    }
}

impl std::fmt::Debug for Sandboxes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sandboxes({})", self.name)
    }
}
