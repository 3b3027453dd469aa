//! The functions' binaries: as they are deployed, and with failpoints.

use local::project::package_of;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Which binaries a world runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// The release binaries.
    Release,
    /// Binaries that a test can stop at any point.
    Failpoints,
}

/// Set while working on the harness: release binaries take minutes to build, and the others do nearly as well.
const QUICK: &str = "HARKARA_QUICK_BINARIES";

/// Where a function's binary is. The first one asked for in a process builds them all; what is fresh is not built again.
pub(super) fn binary(build: Build, name: &str) -> PathBuf {
    static RELEASE: OnceLock<()> = OnceLock::new();
    static FAILPOINTS: OnceLock<()> = OnceLock::new();
    match build {
        Build::Release if std::env::var_os(QUICK).is_none() => {
            RELEASE.get_or_init(|| build_functions(&["--release"]));
            release_binary(name)
        }
        Build::Release | Build::Failpoints => {
            FAILPOINTS.get_or_init(|| {
                build_functions(&["--features", "failpoints"]);
                functions().iter().for_each(|name| set_apart(name));
            });
            failpoints_binary(name)
        }
    }
}

/// Builds the binaries of both kinds where they are not fresh, for tests that look at them, and says of which functions
/// there is a release binary: while working on the harness, of those that have been built before.
pub fn require_binaries() -> Vec<String> {
    let _ = (binary(Build::Release, ""), binary(Build::Failpoints, ""));
    let mut names = functions();
    names.retain(|name| std::env::var_os(QUICK).is_none() || release_binary(name).exists());
    names
}

/// A function's release binary, which may be missing.
pub fn release_binary(name: &str) -> PathBuf {
    target().join("release").join(name)
}

/// A function's binary with failpoints, which may be missing.
pub fn failpoints_binary(name: &str) -> PathBuf {
    target().join("failpoints").join(name)
}

/// The functions that a world runs: all but the step of the deploy.
pub fn functions() -> Vec<String> {
    let folder = root().join("functions");
    let entries = std::fs::read_dir(folder).expect("there are functions").filter_map(Result::ok);
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name != "migrate");
    names.sort();
    names
}

fn build_functions(options: &[&str]) {
    let names = functions();
    let packages = names.iter().flat_map(|name| ["--package", package_of(name)]);
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(["build", "--quiet"]).args(options).args(packages);
    // Set by the cargo that runs this test, for this package; they would make the build of others begin anew.
    for (name, _) in std::env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    let status = command.status().expect("cargo runs");
    assert!(status.success(), "the functions do not build with {options:?}");
}

/// Moves a copy where no other build overwrites it: an ordinary debug build of the same function has the same name.
fn set_apart(name: &str) {
    let built = target().join("debug").join(name);
    let apart = failpoints_binary(name);
    let folder = apart.parent().expect("it is in a folder");
    std::fs::create_dir_all(folder).expect("the target folder is ours");
    // A running copy cannot be written to, but it can be replaced.
    let new = folder.join(format!("{name}.{}", std::process::id()));
    std::fs::copy(built, &new).expect("the binary was built");
    std::fs::rename(new, apart).expect("the same folder");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn target() -> PathBuf {
    let folder = std::env::var_os("CARGO_TARGET_DIR");
    root().join(folder.as_deref().unwrap_or(OsStr::new("target")))
}
