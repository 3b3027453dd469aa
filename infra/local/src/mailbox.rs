//! The mailbox: a page that shows each mail as it arrives, from npm, run by the Node of the Python environment.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Outcome, While};
use crate::fingerprint;
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
        let folder = project.local().join("mailbox");
        let stamp = folder.join("installed");
        let lock = project.package_file("mailbox/package-lock.json");
        let print = fingerprint::of_file(&lock)?;
        if fingerprint::is_stamped(&stamp, &print) {
            return Ok(());
        }
        std::fs::create_dir_all(&folder).while_doing(format_args!("making {}", folder.display()))?;
        for name in ["package.json", "package-lock.json"] {
            let from = project.package_file(&format!("mailbox/{name}"));
            std::fs::copy(&from, folder.join(name)).while_doing(format_args!("copying {}", from.display()))?;
        }
        let log = project.log("npm");
        let out = std::fs::File::create(&log).while_doing(format_args!("opening {}", log.display()))?;
        let err = out.try_clone().while_doing("opening a log")?;
        let status = Node::of(environment)?
            .npm()
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"])
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .status()
            .while_doing("running npm")?;
        if !status.success() {
            return Err(Failure::new("installing the mailbox failed")
                .with_log(&log)
                .with_advice("See that the npm registry can be reached, then run the command again."));
        }
        fingerprint::stamp(&stamp, &print)
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
