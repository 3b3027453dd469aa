//! `cargo local proof`: the crash matrix, the simulator and the model, and one page with what they came to.
//!
//! `matrix` runs real binaries, `simulation` runs seeds and the model, `page` prints and judges what both say.

mod figures;
mod matrix;
mod page;
mod simulation;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Failure, Outcome, While};
use crate::interrupt;
use crate::postgres::Postgres;
use crate::progress::Progress;
use crate::project::Project;
use crate::python::Environment;
use crate::state::State;
use crate::up::{down_to, up_postgres};
use page::{Proof, Version};

/// The least number of seeds that prove anything.
pub const LEAST_SEEDS: u64 = 10_000;

/// Where the page goes that the README quotes.
const PAGE: &str = "infra/proof.md";

/// What to prove, and where to write it.
#[derive(Debug)]
pub struct ProofRequest {
    /// How many seeds the simulator runs.
    pub seeds: u64,
    /// The first of them; drawn, when absent.
    pub base_seed: Option<u64>,
    /// Where to write the page instead; the README then stays as it is.
    pub page: Option<PathBuf>,
}

/// Runs everything, prints and writes the page.
///
/// Errors: something does not run; or it does and proves too little, or the contrary. Then the page is there all the same.
pub fn prove(project: &Project, request: &ProofRequest) -> Outcome<()> {
    let _ended = interrupt::watch()?;
    project.make_folders()?;
    let progress = Progress::new();
    let simulated = simulation::run_seeds(project, &progress, request.seeds, request.base_seed)?;
    let explored = simulation::explore_model(project, &progress)?;
    let tried = with_binaries(project, &progress, |postgres| matrix::try_rows(project, &progress, postgres))?;
    let proof = Proof { version: read_version(project)?, tried, simulated, explored };
    let text = proof.print();
    match &request.page {
        Some(page) => write(page, &text)?,
        None => {
            write(&project.root().join(PAGE), &text)?;
            quote_in_readme(project, &proof)?;
        }
    }
    println!("{text}");
    let doubts = proof.list_doubts();
    if doubts.is_empty() {
        progress.say("everything that was to be proven is proven");
        return Ok(());
    }
    Err(Failure::new(format!("it is not proven:\n    {}", doubts.join("\n    "))))
}

/// Goes on with new seeds for a while: half of it in the simulator, half on real binaries.
///
/// Errors: a seed breaks an invariant.
pub fn soak(project: &Project, minutes: u32) -> Outcome<()> {
    let _ended = interrupt::watch()?;
    project.make_folders()?;
    let progress = Progress::new();
    simulation::soak(project, minutes.div_ceil(2))?;
    with_binaries(project, &progress, |postgres| matrix::soak(project, &progress, postgres, minutes.div_ceil(2)))
}

/// Does something that needs Postgres and the fault-injecting proxy, and leaves things as they were.
fn with_binaries<T>(project: &Project, progress: &Progress, work: impl FnOnce(&Postgres) -> Outcome<T>) -> Outcome<T> {
    let tools = Environment::of_tools(project);
    if !tools.is_ready() {
        progress.say("installing the fault-injecting proxy (about a minute) …");
        tools.install()?;
    }
    let before = State::read(project).running();
    let done = up_postgres(project, progress).and_then(|postgres| work(&postgres));
    down_to(project, before)?;
    done
}

fn read_version(project: &Project) -> Outcome<Version> {
    let git = |arguments: &[&str]| -> Outcome<String> {
        // A clone may belong to somebody else than the one who proves it, which git would refuse.
        let mut command = Command::new("git");
        command.args(["-c", "safe.directory=*"]).args(arguments).current_dir(project.root());
        let output = command.output().while_doing("asking git for the commit")?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    Ok(Version {
        date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
        commit: git(&["rev-parse", "--short=12", "HEAD"])?,
        is_changed: !git(&["status", "--porcelain"])?.is_empty(),
    })
}

/// Puts the table of figures in place of the one in the README's section.
fn quote_in_readme(project: &Project, proof: &Proof) -> Outcome<()> {
    let readme = project.root().join("README.md");
    let text = std::fs::read_to_string(&readme).while_doing("reading README.md")?;
    let replaced = page::replace_table(&text, "## Proof", &proof.print_figures())
        .ok_or_else(|| Failure::new("README.md has no section `## Proof` with a table"))?;
    write(&readme, &replaced)
}

fn write(path: &Path, text: &str) -> Outcome<()> {
    std::fs::write(path, text).while_doing(format_args!("writing {}", path.display()))
}
