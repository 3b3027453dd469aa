//! A function's folder is a shell: it boots, and hands each event to the flow of the same name.

use super::sources::{list_files, read_sources, read_text};
use crate::project::root;

/// About a page; a shell that needs more has begun to decide.
const MOST_LINES: usize = 40;

/// The functions' names, by their folders.
fn list_functions() -> Vec<String> {
    let files = list_files();
    let folders = files.iter().filter_map(|file| file.strip_prefix("functions/")?.split_once('/'));
    let mut names: Vec<String> = folders.map(|(name, _)| name.to_owned()).collect();
    names.dedup();
    assert!(names.len() >= 6, "{names:?}");
    names
}

#[test]
fn a_shell_is_a_manifest_and_a_page() {
    let files = list_files();
    for name in list_functions() {
        let folder = format!("functions/{name}/");
        let own: Vec<_> = files.iter().filter_map(|file| file.strip_prefix(&folder)).collect();
        assert_eq!(own, ["Cargo.toml", "src/main.rs"], "{folder}: more belongs in flow");
    }
    for source in read_sources().iter().filter(|source| source.is_in(&["functions/"])) {
        let lines = source.text.lines().count();
        assert!(
            lines <= MOST_LINES,
            "{} has {lines} lines of {MOST_LINES}: what it decides belongs in flow",
            source.path
        );
    }
}

#[test]
fn a_shell_hands_over_to_the_flow_of_its_name_and_to_no_other() {
    let names = list_functions();
    for source in read_sources().iter().filter(|source| source.is_in(&["functions/"])) {
        for name in &names {
            let calls = !source.find(&format!("flow : : {name}")).is_empty();
            let is_own = source.path == format!("functions/{name}/src/main.rs");
            assert_eq!(calls, is_own, "{} and flow::{name}", source.path);
        }
    }
}

#[test]
fn a_shell_branches_on_nothing_but_the_kind_of_event() {
    for source in read_sources().iter().filter(|source| source.is_in(&["functions/"])) {
        let branches = ["if", "match", "for", "while", "loop"].iter().flat_map(|word| source.find(word)).count();
        // `enqueue` takes requests and events, `feedback` batches and a schedule's tick.
        let takes_two = ["functions/enqueue/src/main.rs", "functions/feedback/src/main.rs"];
        let allowed = usize::from(takes_two.contains(&source.path.as_str()));
        assert!(branches <= allowed, "{} decides; let its flow do that", source.path);
    }
}

#[test]
fn a_function_its_flow_and_its_tests_share_one_name() {
    for name in list_functions() {
        for file in [format!("shared/flow/src/{name}.rs"), format!("tests/tests/it/{name}.rs")] {
            assert!(root().join(&file).is_file(), "functions/{name} has no {file}");
        }
    }
}

#[test]
fn a_shell_knows_the_timeout_that_the_template_gives_it() {
    let template = read_text("template.yaml").expect("the template is text");
    let timeout_of = |text: &str| -> Option<u64> {
        let (_, rest) = text.split_once("Timeout: ")?;
        rest.lines().next()?.trim().parse().ok()
    };
    for source in read_sources().iter().filter(|source| source.is_in(&["functions/"])) {
        let Some((_, rest)) = source.text.split_once("const TIMEOUT: Duration = Duration::from_secs(") else {
            continue;
        };
        let known: u64 = rest.split(')').next().and_then(|number| number.parse().ok()).expect("a number of seconds");
        let name = source.path.split('/').nth(1).expect("a function's folder");
        let (_, own) = template.split_once(&format!("FunctionName: !Sub \"${{AWS::StackName}}-{name}\"")).expect(name);
        // What comes before the next function; who says nothing has what all have.
        let own = own.split("AWS::Serverless::Function").next().unwrap_or_default();
        let given = timeout_of(own).or_else(|| timeout_of(&template)).expect("a timeout");
        assert_eq!(known, given, "{}: the template says {given}", source.path);
    }
}
