//! `microburst`, the fault-injecting proxy, before Postgres or before SQS.
//!
//! Its rules are JSON objects: a match (`sql`, `operation`, `payload`, …), how often (`times`), and what happens
//! (`error`, `reset`, `cut_reply`, …); the first rule that matches counts.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use local::process::{Started, free_port, start, wait_until};
use rustix::process::Signal;
use serde_json::Value;
use uuid::Uuid;

/// What is behind the proxy, and how much it understands of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Postgres, statement by statement: `operation`, `sql`; faults instead of a statement.
    Postgres,
    /// Postgres as a stream of bytes: `payload`; faults after what has passed.
    Bytes,
    /// An AWS service: `service`, `operation`.
    Aws,
}

/// A running proxy. Dropping it ends it.
#[derive(Debug)]
pub struct Burst {
    address: SocketAddr,
    control: String,
    process: Started,
    files: [PathBuf; 2],
}

impl Burst {
    /// Starts the proxy before `upstream` with its rules, and waits until it is ready.
    ///
    /// It blocks for about a second, which is Python's start.
    pub async fn start(before: Before, upstream: SocketAddr, rules: &Value) -> Self {
        let program = program();
        assert!(program.exists(), "{} is missing: run `cargo local up` once", program.display());
        let protocol = match before {
            Before::Postgres => "postgres",
            Before::Bytes => "tcp",
            Before::Aws => "http",
        };
        let port = free_port().expect("a port is free");
        let control_port = if before == Before::Aws { port } else { free_port().expect("a port is free") };
        let name = std::env::temp_dir().join(format!("microburst-{}", Uuid::new_v4()));
        let files = [name.with_extension("json"), name.with_extension("log")];
        std::fs::write(&files[0], serde_json::json!({"rules": rules}).to_string()).expect("its rules are written");
        let upstream = if before == Before::Aws { format!("http://{upstream}") } else { upstream.to_string() };
        let mut command = Command::new(program);
        command.args(["--protocol", protocol, "--upstream", &upstream, "--port", &port.to_string()]);
        command.args(["--control-port", &control_port.to_string(), "--config"]).arg(&files[0]);
        let process = start(&mut command, &files[1]).unwrap_or_else(|failure| panic!("{failure}"));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let control = SocketAddr::from((Ipv4Addr::LOCALHOST, control_port));
        wait_until("microburst", &process, &files[1], Duration::from_secs(20), || {
            TcpStream::connect(address).is_ok() && TcpStream::connect(control).is_ok()
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
        let burst = Self { address, control: format!("http://{control}/_microburst"), process, files };
        if before == Before::Aws {
            burst.warm_up(rules).await;
        }
        burst
    }

    /// Lets the proxy see one call, of an action that nobody uses: it learns what an AWS service is at its first, which
    /// takes it longer than the functions wait.
    async fn warm_up(&self, rules: &Value) {
        self.set_rules(&serde_json::json!([]));
        let url = format!("http://{}/", self.address);
        // The stand-in behind it is on this thread, which must not wait for the answer.
        let called = tokio::task::spawn_blocking(move || {
            ureq::post(&url)
                .header("x-amz-target", "AmazonSQS.ListQueues")
                .header("authorization", "AWS4-HMAC-SHA256 Credential=A/20260101/ap-south-1/sqs/aws4_request")
                .config()
                .http_status_as_error(false)
                .build()
                .send("{}")
                .map(drop)
        });
        called.await.expect("it does not panic").expect("the stand-in is reached");
        self.set_rules(rules);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces its rules; an empty list lets everything pass.
    pub fn set_rules(&self, rules: &Value) {
        ureq::post(format!("{}/rules", self.control)).send_json(rules).expect("the rules are taken");
    }

    /// What it has done to whom, in order.
    pub fn fired(&self) -> Vec<Value> {
        let mut answer = ureq::get(format!("{}/fired", self.control)).call().expect("it tells what it did");
        answer.body_mut().read_json().expect("a list")
    }
}

impl Drop for Burst {
    fn drop(&mut self) {
        self.process.end(Signal::KILL, Duration::ZERO);
        for file in &self.files {
            // It lies in a folder for what nobody needs any more.
            let _ = std::fs::remove_file(file);
        }
    }
}

fn program() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.local/tools/bin/microburst")
}
