//! Planted words that no log may hold: whoever finds one there has found a leak.
//!
//! A test plants them wherever a caller can put personal data or a secret, lets everything run, and looks for them in
//! what was logged: in memory ([`Heard`]), or in the files of a stack ([`find_leaks_in_folder`]).

use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tracing_subscriber::fmt::MakeWriter;

/// A known recipient's address.
pub const KNOWN_EMAIL: &str = "canary.known@planted-recipient.example";
/// An address that comes with a request.
pub const INLINE_EMAIL: &str = "canary.inline@planted-inline.example";
/// A tenant's sender.
pub const SENDER_EMAIL: &str = "canary.sender@planted-sender.example";
/// An address that somebody suppresses.
pub const SUPPRESSED_EMAIL: &str = "canary.suppressed@planted-list.example";
/// A phone number.
pub const PHONE: &str = "+4915555500123";
/// A name.
pub const NAME: &str = "Canaria Plantagenet";
/// A value of the data that templates show.
pub const DATA: &str = "canary-diagnosis-7f3a";
/// A value of the metadata that events show.
pub const METADATA: &str = "canary-metadata-19bc";
/// Words of a mail.
pub const CONTENT: &str = "canary-content-55d0";
/// A bearer token.
pub const TOKEN: &str = "canary-token-e80412";
/// A field's name that nobody knows.
pub const FIELD: &str = "Canary.Field@planted-key.example";

/// All of them.
pub const CANARIES: &[&str] =
    &[KNOWN_EMAIL, INLINE_EMAIL, SENDER_EMAIL, SUPPRESSED_EMAIL, PHONE, NAME, DATA, METADATA, CONTENT, TOKEN, FIELD];

/// The body of `PUT /v1/recipients/{id}` for the planted recipient.
pub fn recipient() -> Value {
    json!({"email": KNOWN_EMAIL, "phone": PHONE, "name": NAME})
}

/// The body of `POST /v1/notifications` to a planted address, with planted content, data and metadata.
pub fn notification(category: &str) -> Value {
    json!({
        "category": category,
        "recipient": {"email": INLINE_EMAIL, "phone": PHONE, "name": NAME},
        "subject": format!("{CONTENT} {{{{ secret }}}}"), "text": CONTENT, "html": format!("<p>{CONTENT}</p>"),
        "data": {"secret": DATA, "name": NAME}, "metadata": {"note": METADATA},
    })
}

/// What of the planted words stands in a text, in whichever case, and as URLs write it.
pub fn find_leaks<'a>(text: &str, canaries: &[&'a str]) -> Vec<&'a str> {
    let text = text.to_lowercase();
    let stands = |word: &str| text.contains(&word.to_lowercase());
    let encoded = |word: &str| word.replace('+', "%2B").replace('@', "%40").replace(' ', "%20");
    canaries.iter().copied().filter(|word| stands(word) || stands(&encoded(word))).collect()
}

/// The lines of a folder's `.log` files that hold a planted word, as `file:line: word`; below it, too.
///
/// # Errors
///
/// When the folder or a file in it cannot be read.
pub fn find_leaks_in_folder(folder: &Path, canaries: &[&str]) -> std::io::Result<Vec<String>> {
    let mut leaks = Vec::new();
    for file in list_logs(folder)? {
        let text = std::fs::read(&file)?;
        for (place, line) in String::from_utf8_lossy(&text).lines().enumerate() {
            let found = find_leaks(line, canaries);
            leaks.extend(found.iter().map(|word| format!("{}:{}: {word}", file.display(), place + 1)));
        }
    }
    Ok(leaks)
}

fn list_logs(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(list_logs(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "log") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// A log that is kept in memory.
#[derive(Clone, Default)]
pub struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    /// What was logged so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Heard {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
