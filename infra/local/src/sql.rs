//! Writes `.sqlx/`, which lets everybody build without a database, from a database that has the migrations.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Failure, Outcome, While};
use crate::functions::cargo;
use crate::interrupt;
use crate::postgres::Postgres;
use crate::progress::Progress;
use crate::project::Project;
use crate::state::State;
use crate::up::{down_to, up_postgres};

/// The database that exists only while the queries are checked.
const SCRATCH: &str = "harkara_sql";

/// What to do with what the database says of the queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queries {
    /// Write it to `.sqlx/`.
    Write,
    /// Compare it with `.sqlx/`.
    Check,
}

/// Applies the migrations to a scratch database and lets the compiler check every query against it.
///
/// Errors: a migration or a query is wrong; with [`Queries::Check`], `.sqlx/` is not what it should be.
pub fn run(project: &Project, queries: Queries) -> Outcome<()> {
    let progress = Progress::new();
    let _ended = interrupt::watch()?;
    let before = State::read(project).running();
    let result = up_postgres(project, &progress).and_then(|postgres| prepare(project, &postgres, &progress, queries));
    down_to(project, before)?;
    result
}

fn prepare(project: &Project, postgres: &Postgres, progress: &Progress, queries: Queries) -> Outcome<()> {
    postgres.make_database(SCRATCH)?;
    for migration in list_migrations(project)? {
        postgres.run_file(SCRATCH, &migration)?;
    }
    progress.say("the migrations are applied to a scratch database");

    let fresh = project.local().join("sqlx");
    if fresh.exists() {
        std::fs::remove_dir_all(&fresh).while_doing(format_args!("emptying {}", fresh.display()))?;
    }
    std::fs::create_dir_all(&fresh).while_doing(format_args!("making {}", fresh.display()))?;
    forget_checked_packages(project)?;
    let checked = run_cargo(
        cargo(project)
            .args(["check", "--quiet", "--workspace", "--all-targets"])
            .env("SQLX_OFFLINE", "false")
            .env("SQLX_OFFLINE_DIR", &fresh)
            .env("DATABASE_URL", postgres.url(SCRATCH)),
        "a query does not fit the migrations",
    );
    postgres.drop_database(SCRATCH)?;
    checked?;

    let found = read_folder(&fresh)?;
    progress.say(&format!("{} queries fit the migrations", found.len()));
    let committed_folder = project.root().join(".sqlx");
    let committed = read_folder(&committed_folder)?;
    if found == committed {
        return Ok(());
    }
    if queries == Queries::Check {
        return Err(Failure::new(format!(
            ".sqlx/ is out of date: {} of its {} files should go, {} of {} are new or changed",
            committed.keys().filter(|name| !found.contains_key(*name)).count(),
            committed.len(),
            found.iter().filter(|(name, text)| committed.get(*name) != Some(text)).count(),
            found.len(),
        ))
        .with_advice("Run `cargo local sql` and commit .sqlx/."));
    }
    if committed_folder.exists() {
        std::fs::remove_dir_all(&committed_folder).while_doing("emptying .sqlx")?;
    }
    std::fs::create_dir_all(&committed_folder).while_doing("making .sqlx")?;
    for (name, text) in &found {
        std::fs::write(committed_folder.join(name), text).while_doing(format_args!("writing .sqlx/{name}"))?;
    }
    progress.say(".sqlx/ is written");
    Ok(())
}

/// Cargo does not know that a checked query depends on the database, so packages with such queries are made forgotten.
fn forget_checked_packages(project: &Project) -> Outcome<()> {
    let mut clean = cargo(project);
    clean.args(["clean", "--quiet", "--profile", "dev"]);
    let mut any = false;
    for folder in ["functions", "shared", "."] {
        let folder = project.root().join(folder);
        for entry in std::fs::read_dir(&folder).while_doing(format_args!("reading {}", folder.display()))? {
            let package = entry.while_doing(format_args!("reading {}", folder.display()))?.path();
            if package.join("Cargo.toml").exists()
                && has_checked_query(&package)
                && let Some(name) = package.file_name()
            {
                clean.arg("--package").arg(name);
                any = true;
            }
        }
    }
    if any { run_cargo(&mut clean, "cargo clean failed") } else { Ok(()) }
}

fn has_checked_query(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return false;
    };
    entries.filter_map(Result::ok).any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return has_checked_query(&path);
        }
        path.extension().is_some_and(|extension| extension == "rs")
            && std::fs::read_to_string(&path)
                .is_ok_and(|text| text.contains("query!") || text.contains("query_") || text.contains("query_file"))
    })
}

fn list_migrations(project: &Project) -> Outcome<Vec<PathBuf>> {
    let folder = project.root().join("migrations");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .while_doing("reading migrations/")?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .collect();
    files.sort();
    Ok(files)
}

fn read_folder(folder: &Path) -> Outcome<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    if !folder.exists() {
        return Ok(files);
    }
    for entry in std::fs::read_dir(folder).while_doing(format_args!("reading {}", folder.display()))? {
        let entry = entry.while_doing(format_args!("reading {}", folder.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("query-") {
            let text = std::fs::read_to_string(entry.path()).while_doing(format_args!("reading {name}"))?;
            files.insert(name, text);
        }
    }
    Ok(files)
}

fn run_cargo(command: &mut Command, failed: &str) -> Outcome<()> {
    let status = command.status().while_doing("starting cargo")?;
    if status.success() { Ok(()) } else { Err(Failure::new(failed)) }
}
