//! Whether every row of the matrix has a test, and every crash point a sweep. One without is a promise that nobody keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const ROWS: std::ops::RangeInclusive<u32> = 1..=51;

/// Rows about something that the product does not have yet, and how it shows that it has it.
const WAITING: &[(u32, &str, Sign)] = &[(47, "webhooks", Sign::Channel("webhook"))];

/// What tells that a row's subject is there.
#[derive(Clone, Copy)]
enum Sign {
    /// A channel of this name, in the migrations' list of them.
    Channel(&'static str),
}

impl Sign {
    fn is_there(self) -> bool {
        match self {
            Self::Channel(name) => migrations().contains(&format!("'{name}'")),
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read_folder(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder of ours").filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            read_folder(&path, text);
        } else {
            text.push_str(&std::fs::read_to_string(&path).expect("a text"));
            text.push('\n');
        }
    }
}

fn migrations() -> String {
    let mut text = String::new();
    read_folder(&root().join("migrations"), &mut text);
    text
}

/// The names of the tests of each row: here, among the tests of a single flow, and those of the simulator and the model,
/// which are in the crate `proof`.
fn tests_of_rows() -> BTreeMap<u32, Vec<String>> {
    let mut text = String::new();
    for folder in ["tests/tests/matrix", "tests/tests/it", "tests/proof/src", "tests/proof/tests"] {
        let folder = root().join(folder);
        if folder.exists() {
            read_folder(&folder, &mut text);
        }
    }
    let mut rows: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    let names = text.split("fn row_").skip(1).filter_map(|rest| rest.split('(').next());
    for name in names {
        if let Some(row) = name.split('_').next().and_then(|number| number.parse().ok()) {
            rows.entry(row).or_default().push(format!("row_{name}"));
        }
    }
    rows
}

#[test]
fn every_row_of_the_matrix_has_a_test_or_waits_for_its_subject() {
    let rows = tests_of_rows();
    let missing: Vec<String> = ROWS
        .filter(|row| !rows.contains_key(row))
        .filter_map(|row| match WAITING.iter().find(|(waiting, _, _)| *waiting == row) {
            Some((_, subject, sign)) if !sign.is_there() => {
                println!("row {row} waits for {subject}");
                None
            }
            Some((_, subject, _)) => Some(format!("{row} (there are {subject} now)")),
            None => Some(row.to_string()),
        })
        .collect();
    assert!(missing.is_empty(), "no test has the name row_NN_… of rows {}", missing.join(", "));
}

#[test]
fn no_test_is_named_for_a_row_that_is_not_in_the_matrix() {
    let strangers: Vec<_> = tests_of_rows().into_iter().filter(|(row, _)| !ROWS.contains(row)).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
}

#[test]
fn a_row_that_waits_for_its_subject_has_no_test_yet() {
    let rows = tests_of_rows();
    let stale: Vec<_> = WAITING.iter().filter(|(row, _, _)| rows.contains_key(row)).map(|(row, _, _)| row).collect();
    assert!(stale.is_empty(), "take {stale:?} off the list of those that wait");
}

/// The names of the places where the code may be stopped.
fn crash_points() -> BTreeSet<String> {
    let mut text = String::new();
    for folder in ["shared/adapters/src", "shared/flow/src"] {
        read_folder(&root().join(folder), &mut text);
    }
    let places = text.split("failpoint!(").skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"'));
    places.filter_map(|rest| rest.split_once('"')).map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn every_crash_point_is_struck_by_a_sweep() {
    let mut swept = String::new();
    read_folder(&root().join("tests/tests/matrix/sweep"), &mut swept);
    // The points of what schedules do stand with the work that leads to them.
    swept.push_str(&std::fs::read_to_string(root().join("tests/tests/matrix/due.rs")).expect("a text"));
    let points = crash_points();
    assert!(points.contains("E5_committed"), "the search finds what is there");
    let missed: Vec<_> = points.iter().filter(|name| !swept.contains(&format!("\"{name}\""))).collect();
    assert!(missed.is_empty(), "no sweep strikes {missed:?}");
}
