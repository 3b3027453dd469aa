//! Breaks `domain` on purpose, change by change, and lists the changes that no test notices.

use std::path::PathBuf;

use crate::cargo_tool::MUTANTS;
use crate::failure::{Failure, Outcome, While};
use crate::progress::Progress;
use crate::project::Project;

/// Runs `cargo-mutants` on all of `domain`, or on some of its files; what it finds is in `.local/mutants/mutants.out`.
///
/// Errors: a change passes every test.
pub fn run_mutants(project: &Project, files: &[PathBuf]) -> Outcome<()> {
    project.make_folders()?;
    MUTANTS.install(project, &Progress::new())?;
    let output = project.local().join("mutants");
    let status = MUTANTS
        .command(project)
        .args(["--package", "domain", "--no-shuffle", "--output"])
        .arg(&output)
        .args(files.iter().flat_map(|file| [PathBuf::from("--file"), file.clone()]))
        // It copies the sources and builds the copies; what is built here stays as it is.
        .env_remove("CARGO_TARGET_DIR")
        .status()
        .while_doing("starting cargo-mutants")?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new("a change of the code passes every test").with_advice(format!(
        "{} lists such changes: write a test for each that matters.",
        output.join("mutants.out/missed.txt").display()
    )))
}
