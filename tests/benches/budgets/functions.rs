//! The functions' release binaries.

use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) use local::project::FUNCTIONS;
use local::project::package_of;

use crate::{Outcome, progress};

/// The function that does nothing.
pub(crate) const HELLO: &str = "hello";

/// Builds the functions and the hello-world with the release profile, in one run, so that both have the same libraries.
pub(crate) fn build_functions() -> Outcome<()> {
    progress("building the functions (release)");
    let packages = FUNCTIONS.iter().chain([&HELLO]).flat_map(|name| ["--package", package_of(name)]);
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(["build", "--release", "--quiet"]).args(packages);
    // Set by the cargo that runs this bench, for this package; they would make the build of others begin anew.
    for (name, _) in std::env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    if command.status()?.success() { Ok(()) } else { Err("the functions do not build".into()) }
}

/// Where a function's binary is.
pub(crate) fn binary(name: &str) -> PathBuf {
    target().join("release").join(name)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}
