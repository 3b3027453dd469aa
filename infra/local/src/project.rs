//! Where things are: the repository, and `.local/` in it, where everything fetched, built up and recorded goes.

use std::path::{Path, PathBuf};

use crate::failure::{Outcome, While};

/// The functions, in the order of the way that a notification takes; binaries and folders of these names.
pub const FUNCTIONS: [&str; 12] = [
    "enqueue",
    "processor",
    "dispatcher",
    "digest",
    "reminder",
    "escalation",
    "domain_job",
    "feedback",
    "dead_letter",
    "maintenance",
    "api",
    "migrate",
];

/// The package of a function: of the same name, but where the registry has one of that name, too, and cargo could not tell
/// which is meant.
pub fn package_of(function: &str) -> &str {
    match function {
        "digest" => "digest_function",
        name => name,
    }
}

/// The repository's root and the places below it.
#[derive(Clone, Debug)]
pub struct Project {
    root: PathBuf,
}

impl Project {
    /// The repository that this package was built in.
    ///
    /// Errors: the folder is gone.
    pub fn find() -> Outcome<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .canonicalize()
            .while_doing("looking for the repository that this command was built in")?;
        Ok(Self { root })
    }

    /// The repository's root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file of this package, such as `python/stack.txt`.
    pub fn package_file(&self, name: &str) -> PathBuf {
        self.root.join("infra/local").join(name)
    }

    /// `.local`, ignored by git.
    pub fn local(&self) -> PathBuf {
        self.root.join(".local")
    }

    /// A log in `.local/logs`.
    pub fn log(&self, name: &str) -> PathBuf {
        self.local().join("logs").join(format!("{name}.log"))
    }

    /// The page for scripts: how to reach the running stack.
    pub fn stack_file(&self) -> PathBuf {
        self.local().join("stack.json")
    }

    /// The variables for running one function by hand.
    pub fn env_file(&self) -> PathBuf {
        self.local().join("env")
    }

    /// Cargo's target directory, where the functions' release binaries are.
    pub fn target(&self) -> PathBuf {
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| self.root.join("target"), |dir| self.root.join(dir))
    }

    /// Makes `.local` and `.local/logs`.
    ///
    /// Errors: the folder cannot be written.
    pub fn make_folders(&self) -> Outcome<()> {
        let logs = self.local().join("logs");
        std::fs::create_dir_all(&logs).while_doing(format_args!("making {}", logs.display()))
    }
}
