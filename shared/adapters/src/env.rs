//! Reads the environment, once, at boot. A missing variable names itself and stops the function.

use std::fmt;

/// A variable that is missing or not usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// It is not set, or empty.
    Missing(&'static str),
    /// It is set to something that cannot be used.
    Invalid(&'static str, &'static str),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "set the environment variable {name}"),
            Self::Invalid(name, what) => write!(f, "the environment variable {name} {what}"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// A variable, if it is set and not empty.
pub(crate) fn optional(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A variable that the function cannot do without.
pub(crate) fn required(name: &'static str) -> Result<String, ConfigError> {
    optional(name).ok_or(ConfigError::Missing(name))
}
