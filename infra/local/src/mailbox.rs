//! The mailbox: a page that shows each mail as it arrives, from npm, run by the Node of the Python environment.

use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::failure::Outcome;
use crate::npm;
use crate::process::{self, Started};
use crate::project::Project;
use crate::python::{Environment, Node};

/// The running mailbox.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Mailbox {
    port: u16,
    process: Started,
}

impl Mailbox {
    /// Installs the pinned packages when their lock has changed.
    ///
    /// Errors: a package that cannot be had.
    pub fn install(project: &Project, environment: &Environment) -> Outcome<()> {
        npm::install(project, environment, "mailbox", &project.package_file("mailbox"))
    }

    /// Starts the mailbox.
    ///
    /// Errors: it does not start.
    pub fn start(project: &Project, environment: &Environment, last_port: Option<u16>) -> Outcome<Self> {
        let port = process::keep_or_choose_port(last_port)?;
        let script = project.local().join("mailbox/node_modules/aws-ses-v2-local/dist/cli.js");
        let log = project.log("mailbox");
        let mut command = Node::of(environment)?.run(&script);
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        let mailbox = Self { port, process: process::start(&mut command, &log)? };
        process::wait_until("the mailbox", &mailbox.process, &log, Duration::from_secs(30), || {
            ureq::get(format!("{}/health-check", mailbox.url())).call().is_ok()
        })?;
        Ok(mailbox)
    }

    /// Whether it runs.
    pub fn is_alive(&self) -> bool {
        self.process.is_alive()
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Base URL: the page itself, and `/store` for programs.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends it.
    pub fn end(&self) {
        self.process.end(Signal::TERM, Duration::from_secs(5));
    }
}
