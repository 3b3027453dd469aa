//! What this command remembers between calls, in `.local/state.json`: processes, passwords, ports, what is deployed.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;

use serde::{Deserialize, Serialize};

use crate::emulator::Emulator;
use crate::failure::{Outcome, While};
use crate::mailbox::Mailbox;
use crate::postgres::{Postgres, random_password};
use crate::project::Project;
use crate::serve::{Ports, Servers};

/// The memory of the local stack.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// The database server, when it was started.
    pub postgres: Option<Postgres>,
    /// The mailbox, when it was started.
    pub mailbox: Option<Mailbox>,
    /// The emulator, when it was started.
    pub emulator: Option<Emulator>,
    /// The stack's own servers, when they were started.
    pub servers: Option<Servers>,
    /// Fingerprint of template, parameters and binaries that the emulator holds.
    pub deployed: Option<String>,
    /// Fingerprint of the seed that the database holds.
    pub seeded: Option<String>,
    /// The master key that the database's sealed secrets are wrapped with.
    pub data_key: Option<String>,
    /// The ports of last time, taken again while they are free.
    pub last_ports: LastPorts,
    /// Passwords of the database's users.
    pub passwords: Option<Passwords>,
}

/// Ports of last time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LastPorts {
    /// Of Postgres.
    pub postgres: Option<u16>,
    /// Of the others.
    pub servers: Option<Ports>,
}

/// Passwords of the users that the functions log in as.
#[derive(Clone, Serialize, Deserialize)]
pub struct Passwords {
    /// Of the user that migrates.
    pub admin: String,
    /// Of `harkara_api`.
    pub api: String,
    /// Of `harkara_worker`.
    pub worker: String,
}

impl Passwords {
    /// Three random ones.
    pub fn random() -> Self {
        Self { admin: random_password(), api: random_password(), worker: random_password() }
    }
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passwords(…)")
    }
}

/// How much of the stack runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Running {
    /// Not even Postgres.
    Nothing,
    /// Postgres, and not all of the rest.
    Postgres,
    /// All parts.
    Everything,
}

impl State {
    /// Reads the memory; empty when there is none, or one of another version of this command.
    pub fn read(project: &Project) -> Self {
        std::fs::read_to_string(project.local().join("state.json"))
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default()
    }

    /// Writes the memory, readable by its owner only.
    ///
    /// Errors: the file cannot be written.
    pub fn write(&self, project: &Project) -> Outcome<()> {
        let path = project.local().join("state.json");
        let doing = format!("writing {}", path.display());
        let text = serde_json::to_string_pretty(self).while_doing(&doing)?;
        write_private(&path, &text).while_doing(&doing)
    }

    /// What runs at this moment.
    pub fn running(&self) -> Running {
        let postgres = self.postgres.as_ref().is_some_and(Postgres::is_alive);
        let rest = self.mailbox.as_ref().is_some_and(Mailbox::is_alive)
            && self.emulator.as_ref().is_some_and(Emulator::is_alive)
            && self.servers.as_ref().is_some_and(Servers::is_alive);
        match (postgres, rest) {
            (true, true) => Running::Everything,
            (true, false) => Running::Postgres,
            (false, _) => Running::Nothing,
        }
    }

    /// Ends all parts that run; what they were is forgotten, the ports are not.
    pub fn end_all(&mut self) {
        if let Some(emulator) = self.emulator.take() {
            emulator.end();
        }
        if let Some(servers) = self.servers.take() {
            servers.end();
        }
        if let Some(mailbox) = self.mailbox.take() {
            mailbox.end();
        }
        if let Some(postgres) = self.postgres.take() {
            postgres.end();
        }
        self.deployed = None;
    }
}

/// Writes a file that only its owner may read, in one step, so that nobody reads half of it.
///
/// Errors: the folder cannot be written.
pub fn write_private(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    let draft = path.with_extension("draft");
    std::fs::write(&draft, text)?;
    std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&draft, path)
}

/// Held while the stack is changed, so that two commands do not set up the same thing.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Takes the lock, waiting for another command when there is one.
    ///
    /// Errors: the lock file cannot be made.
    pub fn take(project: &Project) -> Outcome<Self> {
        let path = project.local().join("lock");
        let doing = format!("locking {}", path.display());
        let file = File::create(&path).while_doing(&doing)?;
        if file.try_lock().is_err() {
            eprintln!("waiting for another `cargo local` to finish …");
            file.lock().while_doing(&doing)?;
        }
        Ok(Self(file))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The lock goes with the file in any case.
        let _ = self.0.unlock();
    }
}
