//! Writes `infra/openapi.json`, which the API serves, as the code says it.

use std::path::PathBuf;
use std::process::Stdio;

use crate::failure::{Failure, Outcome, While};
use crate::functions::cargo;
use crate::project::Project;

/// Where the document is kept.
pub fn path(project: &Project) -> PathBuf {
    project.root().join("infra/openapi.json")
}

/// Writes the document. A test compares it with the code and names this command.
///
/// Errors: `adapters` does not compile, or the file cannot be written.
pub fn write(project: &Project) -> Outcome<()> {
    let output = cargo(project)
        .args(["run", "--quiet", "--package", "adapters", "--example", "print_openapi"])
        .stderr(Stdio::inherit())
        .output()
        .while_doing("starting cargo")?;
    if !output.status.success() {
        return Err(Failure::new("the document cannot be printed"));
    }
    let path = path(project);
    std::fs::write(&path, output.stdout).while_doing(format_args!("writing {}", path.display()))
}
