//! The project's files, and Rust sources as tokens.

use crate::project::root;
use proc_macro2::{TokenStream, TokenTree};
use std::process::Command;
use std::str::FromStr;

/// The files that are tracked, or would be if they were added now; relative to the root.
pub(super) fn list_files() -> Vec<String> {
    // A clone may belong to somebody else than the one who tests it, which git would refuse.
    let output = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("names are text");
    let mut files: Vec<String> = text.split_terminator('\0').map(str::to_owned).collect();
    files.retain(|file| root().join(file).is_file());
    files.sort();
    files.dedup();
    assert!(files.iter().any(|file| file == "Cargo.toml"), "{files:?}");
    files
}

/// A file's text, or `None` where it is not text.
pub(super) fn read_text(file: &str) -> Option<String> {
    String::from_utf8(std::fs::read(root().join(file)).expect("a file of the list")).ok()
}

/// A Rust source.
pub(super) struct Source {
    /// Relative to the root.
    pub(super) path: String,
    /// As written.
    pub(super) text: String,
    words: Vec<(String, usize)>,
}

impl Source {
    fn read(path: String) -> Self {
        let text = read_text(&path).expect("a Rust source is text");
        let stream = TokenStream::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut words = Vec::new();
        flatten(stream, &mut words);
        Self { path, text, words }
    }

    /// The lines on which `phrase` stands. A phrase is words and signs with spaces between, such as `Instant : : now`;
    /// a word that ends with `*` stands for all that begin like it.
    pub(super) fn find(&self, phrase: &str) -> Vec<usize> {
        let phrase: Vec<&str> = phrase.split(' ').collect();
        let starts = self.words.windows(phrase.len()).filter(|words| {
            words.iter().zip(&phrase).all(|((word, _), wanted)| match wanted.strip_suffix('*') {
                Some(beginning) => word.starts_with(beginning),
                None => word == wanted,
            })
        });
        starts.map(|words| words[0].1).collect()
    }

    /// Whether the path is one of these, or in one of these folders, which end with a slash.
    pub(super) fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| if place.ends_with('/') { self.path.starts_with(place) } else { self.path == *place })
    }
}

/// Words and signs in order. Literals, and with them doc comments, are left out.
fn flatten(stream: TokenStream, words: &mut Vec<(String, usize)>) {
    for tree in stream {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    proc_macro2::Delimiter::Parenthesis => ("(", ")"),
                    proc_macro2::Delimiter::Brace => ("{", "}"),
                    proc_macro2::Delimiter::Bracket => ("[", "]"),
                    proc_macro2::Delimiter::None => ("", ""),
                };
                words.push((open.to_owned(), line));
                flatten(group.stream(), words);
                words.push((close.to_owned(), line));
            }
            TokenTree::Ident(word) => words.push((word.to_string(), line)),
            TokenTree::Punct(sign) => words.push((sign.as_char().to_string(), line)),
            TokenTree::Literal(_) => {}
        }
    }
}

/// Every Rust source of the project.
pub(super) fn read_sources() -> Vec<Source> {
    let sources: Vec<_> = list_files().into_iter().filter(|file| file.ends_with(".rs")).map(Source::read).collect();
    assert!(sources.iter().any(|source| source.path == "shared/domain/src/lib.rs"), "the sources are found");
    sources
}

#[test]
fn a_phrase_is_found_in_code_and_not_in_comments_or_texts() {
    let text = "// Instant::now()\n/// Instant::now()\nfn f() { let a = \"Instant::now()\";\n vec![Instant::now()]; }";
    let mut words = Vec::new();
    flatten(TokenStream::from_str(text).expect("Rust"), &mut words);
    let source = Source { path: "a/b.rs".to_owned(), text: text.to_owned(), words };
    assert_eq!(source.find("Instant : : now"), [4]);
    assert_eq!(source.find("Inst* : : no*"), [4]);
    assert_eq!(source.find("Instant : : later"), Vec::<usize>::new());
    assert!(source.is_in(&["a/"]) && source.is_in(&["a/b.rs"]) && !source.is_in(&["a"]) && !source.is_in(&["b/"]));
}
