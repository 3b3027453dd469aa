//! The fuzz targets are a workspace of their own, which nothing else would hold to the product's.

use super::sources::{list_files, read_text};
use std::collections::{BTreeMap, BTreeSet};

/// The versions of each crate that a lock file names.
fn read_lock(file: &str) -> BTreeMap<String, BTreeSet<String>> {
    let text = read_text(file).expect("a lock file is text");
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut name = String::new();
    for line in text.lines() {
        if let Some(value) = line.strip_prefix("name = ") {
            name = value.trim_matches('"').to_owned();
        } else if let Some(value) = line.strip_prefix("version = ").filter(|_| !name.is_empty()) {
            versions.entry(std::mem::take(&mut name)).or_default().insert(value.trim_matches('"').to_owned());
        }
    }
    versions
}

#[test]
fn what_is_fuzzed_is_built_from_the_products_versions() {
    let product = read_lock("Cargo.lock");
    let fuzzed = read_lock("tests/fuzz/Cargo.lock");
    assert!(fuzzed.contains_key("libfuzzer-sys") && fuzzed.contains_key("minijinja"));
    for (name, versions) in fuzzed {
        if let Some(ours) = product.get(&name) {
            let more: Vec<_> = versions.difference(ours).collect();
            assert!(
                more.is_empty(),
                "{name} {more:?} is not the product's {ours:?}: copy Cargo.lock to tests/fuzz/ and run `cargo local fuzz`"
            );
        }
    }
}

#[test]
fn every_fuzz_target_is_built_and_has_seeds() {
    let files = list_files();
    let manifest = read_text("tests/fuzz/Cargo.toml").expect("a manifest is text");
    let targets: Vec<_> =
        files.iter().filter_map(|file| file.strip_prefix("tests/fuzz/targets/")?.strip_suffix(".rs")).collect();
    assert!(targets.len() >= 7, "{targets:?}");
    for target in &targets {
        assert!(manifest.contains(&format!("path = \"targets/{target}.rs\"")), "{target} is no program of the crate");
        let seeds = format!("tests/fuzz/seeds/{target}/");
        assert!(files.iter().any(|file| file.starts_with(&seeds)), "{target} begins with nothing: write {seeds}");
    }
    for seed in files.iter().filter_map(|file| file.strip_prefix("tests/fuzz/seeds/")) {
        let target = seed.split('/').next().unwrap_or_default();
        assert!(targets.contains(&target), "tests/fuzz/seeds/{seed} feeds no target");
    }
}
