//! Cargo's subcommands that are on crates.io and nowhere as binaries: pinned, and built from source into `.local/cargo`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::failure::{Failure, Outcome, While};
use crate::functions::{cargo, forget_own_package};
use crate::progress::Progress;
use crate::project::Project;

/// A subcommand of cargo, in one version.
#[derive(Clone, Copy, Debug)]
pub struct CargoTool {
    /// The crate, and its program.
    name: &'static str,
    version: &'static str,
    /// What follows `cargo` in its command line.
    subcommand: &'static str,
}

/// Feeds functions with made-up input.
pub const FUZZ: CargoTool = CargoTool { name: "cargo-fuzz", version: "0.13.2", subcommand: "fuzz" };

/// Breaks the code on purpose and sees whether a test fails.
pub const MUTANTS: CargoTool = CargoTool { name: "cargo-mutants", version: "27.1.0", subcommand: "mutants" };

impl CargoTool {
    /// Builds the tool unless this version is there.
    ///
    /// Errors: it cannot be fetched or does not build.
    pub fn install(self, project: &Project, progress: &Progress) -> Outcome<()> {
        if self.program(project).exists() {
            return Ok(());
        }
        progress.say(&format!("building {} {} (about a minute) …", self.name, self.version));
        let log = project.log(self.name);
        let out = std::fs::File::create(&log).while_doing(format_args!("opening {}", log.display()))?;
        let err = out.try_clone().while_doing(format_args!("opening {}", log.display()))?;
        let status = cargo(project)
            .args(["install", "--locked", "--version", self.version, "--root"])
            .arg(self.folder(project))
            .arg(self.name)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .status()
            .while_doing("starting cargo")?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::new(format!("{} could not be installed", self.name))
            .with_log(&log)
            .with_advice("See that crates.io can be reached, then run the command again."))
    }

    /// The installed tool, as `cargo` would call it in this repository.
    pub fn command(self, project: &Project) -> Command {
        let mut command = Command::new(self.program(project));
        command.arg(self.subcommand).current_dir(project.root());
        forget_own_package(&mut command);
        command
    }

    fn program(self, project: &Project) -> PathBuf {
        self.folder(project).join("bin").join(self.name)
    }

    /// One for each version, so that an outdated one is never taken for the pinned one.
    fn folder(self, project: &Project) -> PathBuf {
        project.local().join("cargo").join(format!("{}-{}", self.name, self.version))
    }
}
