//! Logs: one JSON object a line, so that no value can forge a line.
//!
//! Personal data has no place in them: types that hold some have a `Debug` that masks it, the store's errors name what
//! was refused and not the values, and other crates, of which nobody knows what they print, are not heard below `info`.
//! Where two lines have to be known for the same address, they carry its [`digest`].

use sha2::{Digest, Sha256};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt, Targets, filter_fn};
use tracing_subscriber::fmt::{Layer, MakeWriter};
use tracing_subscriber::layer::{Layer as _, SubscriberExt};
use tracing_subscriber::registry;
use tracing_subscriber::util::SubscriberInitExt;

/// The crates that may be heard below `info`.
const OURS: &[&str] =
    &["adapters", "flow", "domain", "enqueue", "processor", "dispatcher", "dead_letter", "feedback", "api", "migrate"];

/// Starts logging at `LOG_LEVEL` (default `info`).
pub fn start_logging() {
    let level = crate::env::optional("LOG_LEVEL").unwrap_or_else(|| "info".to_owned());
    log_to(std::io::stdout, &level).init();
}

/// The log as the functions write it, to any writer. `filter` is a level or levels of targets, such as `info` or
/// `info,flow=debug`; one that cannot be read is `info`. Fields and spans cannot be asked for: reading that would bring a
/// regex engine into every function.
pub fn log_to<W>(writer: W, filter: &str) -> impl Subscriber + Send + Sync + use<W>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let filter = filter.parse().unwrap_or_else(|_| Targets::new().with_default(Level::INFO));
    let lines = Layer::new()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        // Lambda stamps each line itself.
        .without_time()
        .with_target(false)
        .with_writer(writer);
    registry().with(lines.with_filter(filter.and(filter_fn(may_be_heard))))
}

/// The SDK prints whole requests at `debug`, and the runtime whole events at `trace`.
fn may_be_heard(metadata: &Metadata<'_>) -> bool {
    let krate = metadata.target().split("::").next().unwrap_or_default();
    *metadata.level() <= Level::INFO || OURS.contains(&krate)
}

/// An error with its whole chain of sources, for the one place that logs it.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// What stands in a log for an address: enough to know it again, and nothing to write to. The salt keeps one tenant's
/// from another's.
pub fn digest(salt: &[u8], address: &str) -> String {
    let hash = Sha256::new().chain_update(salt).chain_update(address.to_lowercase()).finalize();
    hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_tells_addresses_apart_and_tenants_too() {
        let one = digest(b"salt", "Ada@example.org");
        assert_eq!(one.len(), 12);
        assert_eq!(one, digest(b"salt", "ada@example.org"));
        assert_ne!(one, digest(b"salt", "eve@example.org"));
        assert_ne!(one, digest(b"other", "ada@example.org"));
    }
}
