//! Planted words that no log may hold: whoever finds one there has found a leak.
//!
//! A test plants them wherever a caller can put personal data or a secret, lets everything run, and looks for them in
//! what was logged: in memory ([`Heard`]), or by the functions of a stack.

use adapters::telemetry::log_to;
use serde_json::{Value, json};
use std::io::Write;
use std::sync::{Arc, Mutex, Once, PoisonError};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry;

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

/// What in a text has the form of a mail address, of a URL's user, or of a signed token, planted or not.
pub fn find_personal_forms(text: &str) -> Vec<&str> {
    let parts = text.split(|c: char| c.is_whitespace() || "\"'<>(){}[],;=".contains(c));
    parts.filter(|part| is_address(part) || is_token(part)).collect()
}

fn is_address(text: &str) -> bool {
    let ends = |side: &str, last: bool| {
        let edge = if last { side.chars().last() } else { side.chars().next() };
        edge.is_some_and(char::is_alphanumeric)
    };
    text.split_once('@').is_some_and(|(user, domain)| ends(user, true) && ends(domain, false))
}

/// A JSON web token: each of its first two parts begins as base64 of `{"` does.
fn is_token(text: &str) -> bool {
    text.split('.').filter(|part| part.starts_with("eyJ")).count() >= 2
}

/// A log that is kept in memory.
#[derive(Clone, Default)]
pub struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    /// Hears what this thread logs from now on, until the guard is dropped; `filter` as [`log_to`] has it.
    pub fn listen(&self, filter: &str) -> DefaultGuard {
        let_each_thread_listen();
        tracing::subscriber::set_default(log_to(self.clone(), filter))
    }

    /// What was logged so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

/// Lets what one test hears not depend on what others do beside it; to be called before anything of ours may log.
///
/// Whether anybody wants a line is kept for the whole process, and decided when somebody first comes to it. Where there is
/// one subscriber only, `tracing` asks that of the thread that comes: a test that does not listen then decides for the one
/// that does that nobody wants the line. Here every thread has a subscriber that never decides for good, and hears nothing.
pub(crate) fn let_each_thread_listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let undecided = registry().with(dynamic_filter_fn(|_, _| false));
        tracing::subscriber::set_global_default(undecided).expect("nobody else listens to all threads");
    });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_an_address_or_a_token_is_found_and_what_is_neither_is_not() {
        for leak in [
            "to ada@example.org.",
            "{\"a\":\"ada@x\"}",
            "postgres://role:word@host/db",
            "Bearer eyJhbGciOi.eyJzdWIi.sig",
        ] {
            assert_eq!(find_personal_forms(leak).len(), 1, "{leak}");
        }
        for fine in ["at 10:00 @ noon", "@", "1.2.3", "eyJ alone", "ntf_01a1 dl_02b2"] {
            assert_eq!(find_personal_forms(fine), [""; 0], "{fine}");
        }
    }
}
