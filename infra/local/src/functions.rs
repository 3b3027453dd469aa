//! The functions' release binaries: built with cargo, zipped as Lambda wants them.

use std::io::{BufRead, BufReader, Cursor, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use zip::write::SimpleFileOptions;

use crate::failure::{Failure, Outcome, While};
use crate::fingerprint;
use crate::progress::Progress;
use crate::project::{FUNCTIONS, Project, package_of};

/// A function as it is deployed.
#[derive(Debug)]
pub struct Package {
    /// One of [`FUNCTIONS`].
    pub name: &'static str,
    /// Of the binary; part of the object's key, so that a changed binary is a changed template.
    pub fingerprint: String,
    /// A zip with the binary as `bootstrap`.
    pub zip: Vec<u8>,
}

/// Builds the functions, showing how far cargo is.
///
/// Errors: they do not compile; the message holds what the compiler said.
pub fn build(project: &Project, progress: &Progress) -> Outcome<()> {
    let log = project.log("build");
    let err = std::fs::File::create(&log).while_doing(format_args!("opening {}", log.display()))?;
    let mut child = cargo(project)
        .args(["build", "--release", "--message-format=json-render-diagnostics"])
        .args(FUNCTIONS.iter().flat_map(|name| ["--package", package_of(name)]))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(err)
        .spawn()
        .while_doing("starting cargo")?;
    let total = count_crates(project);
    let mut done = 0_usize;
    let mut compiled = 0_usize;
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).lines() {
            let line = line.while_doing("reading cargo's messages")?;
            let Ok(message) = serde_json::from_str::<Value>(&line) else {
                continue;
            };
            if message["reason"] == "compiler-artifact" {
                done += 1;
                compiled += usize::from(message["fresh"] == false);
                // Nothing is said about what is there already, and little where lines cannot be redrawn.
                if compiled == 1 && message["fresh"] == false {
                    progress.say("building the functions for release (the first time: several minutes) …");
                }
                if compiled > 0 && (compiled.is_multiple_of(50) || std::io::IsTerminal::is_terminal(&std::io::stderr()))
                {
                    progress.show(&format!("functions: {done} of about {} crates", total.max(done)));
                }
            }
        }
    }
    let status = child.wait().while_doing("waiting for cargo")?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::new("the functions do not build")
            .with_log(&log)
            .with_advice("Mend what the compiler names. Building needs a C compiler (cc) beside Rust."))
    }
}

/// Zips the built functions.
///
/// Errors: a binary is missing.
pub fn zip_all(project: &Project) -> Outcome<Vec<Package>> {
    FUNCTIONS.iter().map(|name| zip_one(project, name)).collect()
}

/// The fingerprint of all built functions; none when one is missing.
pub fn fingerprint_of_all(project: &Project) -> Option<String> {
    let prints: Vec<String> =
        FUNCTIONS.iter().map(|name| fingerprint::of_change(&binary(project, name)).ok()).collect::<Option<_>>()?;
    Some(fingerprint::of_parts(prints.iter().map(String::as_bytes)))
}

/// A cargo that builds in this repository, whichever folder the command was called from.
pub fn cargo(project: &Project) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(project.root());
    forget_own_package(&mut command);
    command
}

/// Takes out what the cargo that runs this command has set for this package; it would make the build of others begin anew.
pub fn forget_own_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") || name.to_string_lossy().starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
}

fn binary(project: &Project, name: &str) -> PathBuf {
    project.target().join("release").join(name)
}

fn zip_one(project: &Project, name: &'static str) -> Outcome<Package> {
    let path = binary(project, name);
    let bytes = std::fs::read(&path).while_doing(format_args!("reading {}", path.display()))?;
    let doing = format!("zipping {name}");
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    // Quick rather than small: this zip never leaves the machine.
    let options =
        SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored).unix_permissions(0o755);
    archive.start_file("bootstrap", options).while_doing(&doing)?;
    archive.write_all(&bytes).while_doing(&doing)?;
    Ok(Package {
        name,
        fingerprint: fingerprint::of_change(&path)?,
        zip: archive.finish().while_doing(&doing)?.into_inner(),
    })
}

/// About how many crates the functions are made of, for the progress line; 0 when it cannot be told.
fn count_crates(project: &Project) -> usize {
    let output = cargo(project)
        .args(["tree", "--prefix", "none", "--format", "{p}", "--edges", "normal,build", "--locked"])
        .args(FUNCTIONS.iter().flat_map(|name| ["--package", package_of(name)]))
        .output();
    let Ok(output) = output else { return 0 };
    let text = String::from_utf8_lossy(&output.stdout);
    let crates: std::collections::BTreeSet<&str> =
        text.lines().map(|line| line.trim_end_matches(" (*)")).filter(|line| !line.is_empty()).collect();
    crates.len()
}
