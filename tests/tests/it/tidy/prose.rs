//! Markdown has one sentence on each line: a change of one shows as one.

use super::sources::{list_files, read_text};

/// Ends with a full stop and no sentence does.
const ABBREVIATIONS: &[&str] = &["e.g.", "i.e.", "etc.", "vs.", "cf.", "no.", "approx."];

/// A line of prose, without its list mark, quotation mark and indent; nothing for headings, tables and blank lines.
fn prose(line: &str) -> Option<&str> {
    let mut rest = line.trim();
    while let Some(quoted) = rest.strip_prefix('>') {
        rest = quoted.trim_start();
    }
    for mark in ["- [ ] ", "- [x] ", "- ", "* "] {
        rest = rest.strip_prefix(mark).unwrap_or(rest);
    }
    let number = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    if number.len() < rest.len() {
        rest = number.strip_prefix(". ").unwrap_or(rest);
    }
    let is_other = rest.is_empty() || rest.starts_with(['#', '|', '<', '[']) || rest.starts_with("---");
    (!is_other).then_some(rest)
}

/// The text with code spans and the targets of links blanked out.
fn without_code(text: &str) -> String {
    let spans = text.split('`').enumerate();
    spans.map(|(place, span)| if place % 2 == 0 { span.to_owned() } else { "x".repeat(span.len()) }).collect()
}

/// Where a second sentence begins on the line.
fn second_sentence(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split(' ').collect();
    let place = words.windows(2).position(|pair| {
        let ends = pair[0].ends_with(['.', '!', '?']) || pair[0].ends_with(".)") || pair[0].ends_with(".\"");
        let begins = pair[1].starts_with(|c: char| c.is_uppercase());
        ends && begins && !ABBREVIATIONS.contains(&pair[0])
    })?;
    Some(words[place..].join(" "))
}

/// What is wrong with a document, by line.
fn check(text: &str) -> Vec<(usize, String)> {
    let mut wrong = Vec::new();
    let mut in_code = false;
    let mut open_line: Option<String> = None;
    for (place, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~") {
            in_code = !in_code;
            open_line = None;
            continue;
        }
        let is_item = line.trim_start().starts_with(['-', '*', '>', '|']);
        let Some(sentence) = prose(line).filter(|_| !in_code) else {
            open_line = None;
            continue;
        };
        let sentence = without_code(sentence);
        if let Some(second) = second_sentence(&sentence) {
            wrong.push((place + 1, format!("a second sentence: {second}")));
        }
        if !is_item
            && let Some(before) = &open_line
            && sentence.starts_with(|c: char| c.is_lowercase())
        {
            wrong.push((place + 1, format!("goes on with the line before: {before}")));
        }
        let is_open = !sentence.ends_with(['.', '!', '?', ':', ';', ')']);
        open_line = is_open.then_some(sentence);
    }
    wrong
}

#[test]
fn markdown_has_one_sentence_on_each_line() {
    let documents: Vec<_> = list_files().into_iter().filter(|file| file.ends_with(".md")).collect();
    assert!(!documents.is_empty());
    let mut wrong = Vec::new();
    for document in documents {
        let text = read_text(&document).expect("Markdown is text");
        wrong.extend(check(&text).into_iter().map(|(line, what)| format!("{document}:{line}: {what}")));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_second_sentence_and_a_wrapped_one_are_found() {
    let lines = |text: &str| check(text).into_iter().map(|(line, _)| line).collect::<Vec<_>>();
    for fine in [
        "One sentence.\nAnother.\n",
        "- One, e.g. Ada.\n  More of it.\n",
        "1. First.\n2. Second.\n",
        "# Title. Of two\n\n| A. B | C. D |\n",
        "```text\nA. B\nb\n```\n",
        "Run `cargo x. Then` first.\n",
        "A list:\nand so on.\n",
    ] {
        assert_eq!(lines(fine), Vec::<usize>::new(), "{fine}");
    }
    assert_eq!(lines("One. Two.\n"), [1]);
    assert_eq!(lines("Fine.\nIs it? It is.\n"), [2]);
    assert_eq!(lines("A sentence that goes\nover two lines.\n"), [2]);
}
