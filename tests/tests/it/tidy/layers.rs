//! Who may depend on whom, as cargo itself understands the manifests.

use crate::project::root;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// A package of the workspace.
struct Package {
    /// Its folder, relative to the root.
    folder: String,
    /// What it is built from.
    dependencies: BTreeSet<String>,
    /// What it is built and tested from.
    all_dependencies: BTreeSet<String>,
    manifest: String,
}

fn read_packages() -> BTreeMap<String, Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let packages = metadata["packages"].as_array().expect("a list");
    let packages = packages.iter().map(|package| {
        let manifest_path = text(&package["manifest_path"]);
        let folder = manifest_path.strip_suffix("/Cargo.toml").expect("a manifest's name");
        let folder = folder.strip_prefix(&format!("{}/", root().display())).expect("members are below the root");
        let dependencies = package["dependencies"].as_array().expect("a list");
        let names = |wanted: fn(&Value) -> bool| -> BTreeSet<String> {
            dependencies.iter().filter(|dependency| wanted(&dependency["kind"])).map(|it| text(&it["name"])).collect()
        };
        let read = Package {
            folder: folder.to_owned(),
            dependencies: names(|kind| kind.is_null()),
            all_dependencies: names(|_| true),
            manifest: std::fs::read_to_string(&manifest_path).expect("a manifest"),
        };
        (text(&package["name"]), read)
    });
    packages.collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn domain_knows_nobody_adapters_know_domain_flow_knows_both_functions_know_flow() {
    let packages = read_packages();
    let members: BTreeSet<String> = packages.keys().cloned().collect();
    for (name, package) in &packages {
        let ours: BTreeSet<String> = package.dependencies.intersection(&members).cloned().collect();
        let allowed = match package.folder.as_str() {
            "shared/domain" => set(&[]),
            "shared/adapters" => set(&["domain"]),
            "shared/flow" => set(&["adapters", "domain"]),
            folder if folder.starts_with("functions/") => set(&["adapters", "flow"]),
            // The local stack runs the functions as they are deployed, and knows none of their code.
            "infra/local" => set(&[]),
            "tests" => set(&["adapters", "domain", "flow", "local", "proof"]),
            // The proof takes every decision from domain, and knows nothing of how it is stored.
            "tests/proof" => set(&["domain"]),
            "tests/benches/hello" => set(&[]),
            folder => panic!("{folder}: a new package needs its place in the layers"),
        };
        assert!(ours.is_subset(&allowed), "{name} may depend on {allowed:?} and depends on {ours:?}");
    }
    assert!(packages.contains_key("domain") && packages.contains_key("flow"));
}

#[test]
fn a_function_needs_only_what_a_shell_needs() {
    let allowed = set(&["adapters", "flow", "lambda_runtime", "serde_json", "tokio"]);
    let packages = read_packages();
    let functions: Vec<_> = packages.iter().filter(|(_, package)| package.folder.starts_with("functions/")).collect();
    assert!(functions.len() >= 6);
    for (name, package) in functions {
        let more: Vec<_> = package.all_dependencies.difference(&allowed).collect();
        assert!(more.is_empty(), "{name} depends on {more:?}: a shell boots and hands over, the rest belongs in flow");
        // Where the registry has a crate of a function's name, its package says what it is.
        let function = name.strip_suffix("_function").unwrap_or(name);
        assert_eq!(package.folder, format!("functions/{function}"), "a function's folder and package share one name");
    }
}

#[test]
fn domain_depends_on_nothing_that_does_io() {
    // Each of these computes and does nothing else; say so of a new one before it joins them.
    let pure = set(&[
        "base64",
        "croner",
        "fixed_decimal",
        "hmac",
        "icu_calendar",
        "icu_datetime",
        "icu_decimal",
        "icu_experimental",
        "icu_locale_core",
        "icu_normalizer",
        "icu_time",
        "idna",
        "jiff",
        "maud",
        "minijinja",
        // Without its loaders, which are features.
        "mrml",
        "serde_json",
        "sha2",
        "simplecss",
        "url",
        "uuid",
        "zeroize",
    ]);
    let packages = read_packages();
    let more: Vec<_> = packages["domain"].dependencies.difference(&pure).collect();
    assert!(more.is_empty(), "does {more:?} do I/O, or read a clock?");
}

#[test]
fn each_outside_library_has_its_place() {
    for (name, package) in read_packages() {
        for dependency in &package.all_dependencies {
            let may = match dependency.as_str() {
                "aws-sdk-sesv2" => ["adapters", "local"].contains(&name.as_str()),
                other if other.starts_with("aws-sdk-") => name == "adapters",
                "sqlx" => ["adapters", "tests"].contains(&name.as_str()),
                "lambda_runtime" => package.folder.starts_with("functions/") || name == "hello",
                _ => true,
            };
            assert!(may, "{name} depends on {dependency}, which belongs behind a port or in a shell");
        }
        let is_sdk_shipped = package.dependencies.iter().any(|dependency| dependency.starts_with("aws-sdk-"));
        assert!(name == "adapters" || !is_sdk_shipped, "{name} ships an SDK");
    }
}

#[test]
fn every_package_takes_the_workspaces_lints_and_versions() {
    for (name, package) in read_packages() {
        for line in ["[lints]\nworkspace = true", "edition.workspace = true", "rust-version.workspace = true"] {
            assert!(
                package.manifest.contains(line),
                "{name} lacks {line:?}, so the workspace's rules do not hold for it"
            );
        }
        let own_versions: Vec<_> = package
            .manifest
            .lines()
            .skip_while(|line| !line.contains("dependencies]"))
            .take_while(|line| !line.starts_with("[["))
            .filter(|line| line.contains(" = ") && !line.contains("workspace = true") && !line.contains("path = "))
            .filter(|line| !line.starts_with('#'))
            .collect();
        assert!(
            own_versions.is_empty(),
            "{name} names versions of its own, which belong into the workspace: {own_versions:?}"
        );
    }
}
