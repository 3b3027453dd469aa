//! Where files are, and what is in none of them.

use super::sources::{list_files, read_sources, read_text};
use crate::project::root;
use std::collections::BTreeSet;

#[test]
fn the_top_level_holds_what_the_design_names_and_dotfiles() {
    let allowed = BTreeSet::from([
        "Cargo.toml",
        "Cargo.lock",
        "functions",
        "shared",
        "migrations",
        "infra",
        "template.yaml",
        "tests",
        "README.md",
    ]);
    let files = list_files();
    let top: BTreeSet<&str> = files.iter().filter_map(|file| file.split('/').next()).collect();
    let more: Vec<_> = top.difference(&allowed).filter(|name| !name.starts_with('.')).collect();
    assert!(more.is_empty(), "{more:?}: put it where it belongs: infra/, tests/, or a dotfile");
    let missing: Vec<_> = allowed.difference(&top).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() {
    let here = root().display().to_string();
    // Written in two parts, so that this file does not hold what it looks for.
    let places =
        [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/"), concat!("/wo", "rk/"), here.as_str()];
    for file in list_files() {
        let Some(text) = read_text(&file) else { continue };
        for place in places {
            let line = text.lines().position(|line| line.contains(place));
            assert!(line.is_none(), "{file}:{}: {place} is not everywhere", line.unwrap_or_default() + 1);
        }
    }
}

#[test]
fn every_module_says_what_it_is_for() {
    for source in read_sources() {
        let first = source.text.lines().next().unwrap_or_default();
        assert!(first.starts_with("//! "), "{} begins without a module doc (//!)", source.path);
    }
}

#[test]
fn no_file_has_outgrown_a_page_turner() {
    /// A file that long has two reasons to change.
    const MOST_LINES: usize = 1_000;
    for source in read_sources() {
        let lines = source.text.lines().count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines; split it where it changes for two reasons", source.path);
    }
}

#[test]
fn no_folder_is_a_drawer() {
    let drawers = ["util", "utils", "common", "helpers", "misc", "manager", "models"];
    for file in list_files() {
        let is_drawer = file.split(['/', '.']).any(|part| drawers.contains(&part));
        assert!(!is_drawer, "{file}: name it by what it does");
    }
}
