//! Holds the template to what AWS's own linters know.

use std::process::Command;

use crate::emulator::REGION;
use crate::failure::{Failure, Outcome, While};
use crate::progress::Progress;
use crate::project::Project;
use crate::python::Environment;

/// Runs `cfn-lint` and `sam validate --lint` on every template.
///
/// Errors: a linter objects.
pub fn lint(project: &Project) -> Outcome<()> {
    project.make_folders()?;
    let progress = Progress::new();
    let tools = Environment::of_tools(project);
    if !tools.is_ready() {
        progress.say("installing the template's linters (about a minute) …");
        tools.install()?;
    }
    run(
        Command::new(tools.program("cfn-lint")).args(["--regions", REGION, "--", "template.yaml"]),
        project,
        &tools,
        "cfn-lint",
    )?;
    progress.say("cfn-lint: template.yaml is in order");
    run(
        Command::new(tools.program("sam"))
            .args(["validate", "--lint", "--region", REGION, "--template", "template.yaml"])
            .env("SAM_CLI_TELEMETRY", "0"),
        project,
        &tools,
        "sam validate --lint",
    )?;
    progress.say("sam validate --lint: template.yaml is in order");
    Ok(())
}

/// Output is shown only when the linter objects; `sam` also speaks of newer versions of itself.
fn run(command: &mut Command, project: &Project, tools: &Environment, what: &str) -> Outcome<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(tools.programs()).chain(std::env::split_paths(&path));
    let path = std::env::join_paths(folders).while_doing("writing the PATH")?;
    let output =
        command.current_dir(project.root()).env("PATH", path).output().while_doing(format_args!("starting {what}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(Failure::new(format!("{what} objects:\n{}", String::from_utf8_lossy(&text).trim())))
}
