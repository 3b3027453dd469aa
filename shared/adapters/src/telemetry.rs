//! Logs: one JSON object a line, so that no value can forge a line.

use tracing_subscriber::EnvFilter;

/// Starts logging at `LOG_LEVEL` (default `info`).
pub fn start_logging() {
    let filter = EnvFilter::try_new(crate::env::optional("LOG_LEVEL").unwrap_or_else(|| "info".to_owned()))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(filter)
        // Lambda stamps each line itself.
        .without_time()
        .with_target(false)
        .init();
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
