//! Processes of the stack: started apart from this command, recorded with their birth, ended with their children.
//!
//! A recorded process id may have passed to somebody else by the time it is used. A process is therefore ours only when
//! it was also born at the recorded time.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Outcome, While};

/// How often a condition outside this process is looked at.
const POLL: Duration = Duration::from_millis(20);

/// A process that was started, leader of a process group of its own.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Started {
    pid: i32,
    born: String,
}

impl Started {
    /// Whether the process still runs and is the one that was started.
    pub fn is_alive(&self) -> bool {
        birth(self.pid).is_some_and(|born| born == self.born)
    }

    /// Asks the process and its group to end by `signal`, waits up to `patience`, then kills what is left of the group.
    pub fn end(&self, signal: Signal, patience: Duration) {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return;
        };
        if !self.is_alive() {
            return;
        }
        // Postgres asks its children itself; to the others the signal goes by the group, so that no worker survives.
        let _ = if signal == Signal::INT { kill_process(pid, signal) } else { kill_process_group(pid, signal) };
        self.wait_for_end(pid, patience);
        // Whatever the leader left behind, and the leader itself if it did not listen.
        let _ = kill_process_group(pid, Signal::KILL);
        self.wait_for_end(pid, Duration::from_secs(5));
    }

    fn wait_for_end(&self, pid: Pid, patience: Duration) {
        let deadline = Instant::now() + patience;
        while self.is_alive() && Instant::now() < deadline {
            reap(pid);
            sleep(POLL);
        }
    }
}

/// Starts a process that outlives this command: its own group, no standard input, output to `log`.
///
/// Errors: the log cannot be written, or the program cannot be started.
pub fn start(command: &mut Command, log: &Path) -> Outcome<Started> {
    let out = File::create(log).while_doing(format_args!("opening {}", log.display()))?;
    let err = out.try_clone().while_doing(format_args!("opening {}", log.display()))?;
    let program = command.get_program().to_string_lossy().into_owned();
    let child = command
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .process_group(0)
        .spawn()
        .while_doing(format_args!("starting {program}"))?;
    let pid = i32::try_from(child.id()).while_doing("reading a process id")?;
    let born = birth(pid).ok_or_else(|| Failure::new(format!("{program} ended at once")).with_log(log))?;
    Ok(Started { pid, born })
}

/// Waits until `ready` holds, the process ends, or the time is up.
///
/// Errors: the process ended, or was not ready in time; with its log.
pub fn wait_until(
    what: &str,
    started: &Started,
    log: &Path,
    patience: Duration,
    mut ready: impl FnMut() -> bool,
) -> Outcome<()> {
    let deadline = Instant::now() + patience;
    while !ready() {
        if !started.is_alive() {
            return Err(Failure::new(format!("{what} ended while it started"))
                .with_log(log)
                .with_advice("Read the log; if a port was taken, run the command again: it chooses another."));
        }
        if Instant::now() > deadline {
            // It is not recorded yet, so nobody else could end it.
            started.end(Signal::KILL, Duration::ZERO);
            return Err(Failure::new(format!("{what} was not ready after {} s", patience.as_secs())).with_log(log));
        }
        sleep(POLL);
    }
    Ok(())
}

/// A port on loopback that is free now.
///
/// Errors: there is none.
pub fn free_port() -> Outcome<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).while_doing("choosing a free port")?;
    Ok(listener.local_addr().while_doing("choosing a free port")?.port())
}

/// The port to use: last time's when it is still free, so that addresses stay as they were, else a free one.
///
/// Errors: there is none.
pub fn keep_or_choose_port(last: Option<u16>) -> Outcome<u16> {
    match last {
        Some(port) if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() => Ok(port),
        _ => free_port(),
    }
}

/// When the process was born, in a form that only serves to be compared; none when it has ended.
fn birth(pid: i32) -> Option<String> {
    if Path::new("/proc/self/stat").exists() {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything, so fields are counted from the last one.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let (state, born) = (fields.first()?, fields.get(19)?);
        return (*state != "Z" && *state != "X").then(|| (*born).to_owned());
    }
    let ps = Command::new("ps").args(["-o", "stat=,lstart=", "-p", &pid.to_string()]).output().ok()?;
    let text = String::from_utf8(ps.stdout).ok()?;
    let (state, born) = text.trim().split_once(' ')?;
    (!state.starts_with('Z')).then(|| born.trim().to_owned())
}

/// Collects a child of this command that has ended; others are collected by the system.
fn reap(pid: Pid) {
    let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("process-{name}-{}.log", std::process::id()))
    }

    #[test]
    fn a_process_ends_with_its_children() {
        let log = log("children");
        let started = start(Command::new("sh").args(["-c", "sleep 600 & echo $!; wait"]), &log).unwrap();
        let mut child = None;
        wait_until("the shell", &started, &log, Duration::from_secs(10), || {
            child = std::fs::read_to_string(&log).unwrap().trim().parse::<i32>().ok();
            child.is_some()
        })
        .unwrap();
        assert!(started.is_alive());
        started.end(Signal::TERM, Duration::from_secs(10));
        std::fs::remove_file(&log).unwrap();
        assert!(!started.is_alive());
        let killed = Instant::now();
        while birth(child.unwrap()).is_some() {
            assert!(killed.elapsed() < Duration::from_secs(10), "the child outlived its parent");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_process_id_that_passed_to_another_process_is_not_ours() {
        let log = log("other");
        let started = start(Command::new("sleep").arg("600"), &log).unwrap();
        let other = Started { pid: started.pid, born: "0".to_owned() };
        assert!(!other.is_alive());
        other.end(Signal::KILL, Duration::ZERO);
        assert!(started.is_alive());
        started.end(Signal::TERM, Duration::from_secs(10));
        std::fs::remove_file(&log).unwrap();
    }
}
