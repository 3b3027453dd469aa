//! Runs the workspace's tests and benches with what they need, and leaves things as they were.

use std::process::Command;

use crate::clock;
use crate::failure::{Failure, Outcome, While};
use crate::functions::cargo;
use crate::interrupt;
use crate::npm;
use crate::postgres::Postgres;
use crate::progress::Progress;
use crate::project::Project;
use crate::python::{Environment, Node};
use crate::state::State;
use crate::up::{down_to, up, up_postgres};

/// Runs every test: the stack is up, `DATABASE_URL` is a server where tests make databases of their own, `HARKARA_STACK`
/// the page of the stack, and `HARKARA_BROWSER` the folder of a browser, for the Node that `HARKARA_NODE` names.
///
/// Errors: the stack does not come up, or a test fails.
pub fn run_tests(project: &Project, arguments: &[String]) -> Outcome<()> {
    let _ended = interrupt::watch()?;
    let before = State::read(project).running();
    let result = up(project, &Progress::new()).and_then(|_| {
        let postgres = State::read(project).postgres.ok_or_else(|| Failure::new("Postgres does not run"))?;
        let environment = Environment::of_stack(project);
        npm::install(project, &environment, "browser", &project.root().join("tests/browser"))?;
        let mut command = cargo(project);
        command
            .arg("test")
            .env("HARKARA_STACK", project.stack_file())
            .env("HARKARA_BROWSER", project.local().join("browser"))
            .env("HARKARA_NODE", Node::of(&environment)?.program());
        if !arguments.iter().any(|argument| argument == "-p" || argument.starts_with("--package")) {
            command.arg("--workspace");
        }
        let result = run(with_postgres(command, &postgres).args(arguments), "a test failed");
        // Ctrl-C may have ended a scenario in the time that it had moved to.
        clock::mend(&postgres)?;
        result
    });
    down_to(project, before)?;
    result
}

/// The packages that make a mail of a template.
const RENDERING: [&str; 4] = ["domain", "minijinja", "serde_json", "sha2"];

/// Runs the benches, with Postgres up.
///
/// Errors: Postgres does not come up, or a bench fails.
pub fn run_benches(project: &Project, arguments: &[String]) -> Outcome<()> {
    let _ended = interrupt::watch()?;
    let before = State::read(project).running();
    let result = up_postgres(project, &Progress::new()).and_then(|postgres| {
        let mut command = cargo(project);
        // The bench times the release binaries, which it builds; itself it may be built as quickly as a test, but for what
        // renders a mail, which it times in its own process.
        command.args(["bench", "--profile", "dev", "--package", "tests", "--bench", "budgets"]);
        for package in RENDERING {
            command.arg("--config").arg(format!("profile.dev.package.{package}.opt-level='s'"));
        }
        run(with_postgres(command, &postgres).args(arguments), "a bench failed")
    });
    down_to(project, before)?;
    result
}

/// `HARKARA_POSTGRES_PROGRAMS` is the folder of `psql` and `pgbench`.
fn with_postgres(mut command: Command, postgres: &Postgres) -> Command {
    command.env("DATABASE_URL", postgres.url("postgres")).env("HARKARA_POSTGRES_PROGRAMS", postgres.programs());
    command
}

fn run(command: &mut Command, failed: &str) -> Outcome<()> {
    let status = command.status().while_doing("starting cargo")?;
    if status.success() { Ok(()) } else { Err(Failure::new(failed)) }
}
