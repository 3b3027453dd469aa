//! The emulator of AWS: CloudFormation, Lambda, SQS, API Gateway, EventBridge, S3, Secrets Manager and the rest on one port.
//!
//! It is laxer than AWS in places; the strict stand-ins ([`crate::ses`], [`crate::runtime_api`]) hold what it does not.

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::failure::{Outcome, While};
use crate::process::{self, Started};
use crate::project::Project;
use crate::python::Environment;

/// The region that everything is in.
pub const REGION: &str = "ap-south-1";

/// The account that everything is in.
pub const ACCOUNT: &str = "000000000000";

/// The running emulator.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Emulator {
    port: u16,
    process: Started,
}

impl Emulator {
    /// Starts the emulator, empty.
    ///
    /// Errors: it does not start.
    pub fn start(project: &Project, environment: &Environment, last_port: Option<u16>) -> Outcome<Self> {
        let port = process::keep_or_choose_port(last_port)?;
        let folder = project.local().join("emulator");
        if folder.exists() {
            std::fs::remove_dir_all(&folder).while_doing(format_args!("emptying {}", folder.display()))?;
        }
        std::fs::create_dir_all(&folder).while_doing(format_args!("making {}", folder.display()))?;
        let log = project.log("emulator");
        let url = format!("http://127.0.0.1:{port}");
        let mut command = Command::new(environment.program("python"));
        // Functions inherit the emulator's environment, so it gets nothing but what a function may see.
        command
            .args(["-c", "from ministack.app import main; main()"])
            .current_dir(&folder)
            .env_clear()
            .envs(["PATH", "HOME", "LANG"].iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .env("TMPDIR", &folder)
            .env("STATE_DIR", folder.join("state"))
            .env("S3_DATA_DIR", folder.join("s3"))
            .env("BIND_HOST", "127.0.0.1")
            .env("MINISTACK_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.to_string())
            .env("MINISTACK_REGION", REGION)
            .env("MINISTACK_ACCOUNT_ID", ACCOUNT)
            .env("AWS_ENDPOINT_URL", &url)
            .env("AWS_ACCESS_KEY_ID", ACCOUNT)
            .env("AWS_SECRET_ACCESS_KEY", "local")
            .env("LAMBDA_EXECUTOR", "local")
            // Else it opens a fixed port for MQTT.
            .env("IOT_MTLS_ENABLED", "0")
            .env("PYTHONUNBUFFERED", "1");
        let emulator = Self { port, process: process::start(&mut command, &log)? };
        process::wait_until("the emulator", &emulator.process, &log, Duration::from_secs(60), || {
            ureq::get(format!("{url}/_ministack/health")).call().is_ok()
        })?;
        Ok(emulator)
    }

    /// Whether it runs.
    pub fn is_alive(&self) -> bool {
        self.process.is_alive()
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The value for `AWS_ENDPOINT_URL`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends it and the functions that it runs.
    pub fn end(&self) {
        // It keeps nothing that outlives it, and takes seconds to end in order.
        self.process.end(Signal::KILL, Duration::from_secs(5));
    }
}
