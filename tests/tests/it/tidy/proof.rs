//! The README shows the figures of the last proof, and no others.

use super::sources::read_text;

/// The first table after the heading.
fn table_after(text: &str, heading: &str) -> Vec<String> {
    let lines = text.lines().skip_while(|line| *line != heading);
    lines
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_readme_shows_the_figures_of_the_last_proof() {
    let readme = read_text("README.md").expect("Markdown is text");
    let page = read_text("infra/proof.md").expect("Markdown is text");
    let (shown, found) = (table_after(&readme, "## Proof"), table_after(&page, "# Proof"));
    assert!(found.len() > 10, "{found:?}");
    assert_eq!(shown, found, "`cargo local proof` writes both");
}

#[test]
fn the_last_proof_lost_nothing_and_repeated_nothing_silently() {
    let page = read_text("infra/proof.md").expect("Markdown is text");
    let table = table_after(&page, "# Proof");
    for line in ["| lost | 0 |", "| duplicates that were not declared | 0 |"] {
        assert!(table.iter().any(|found| found == line), "{line} is not what infra/proof.md says");
    }
}
