//! Where the API is reached from outside, for links in mails. It comes from the deployment, and never from a request.

use crate::env::{self, ConfigError};
use domain::link::PublicUrl;

/// Reads `PUBLIC_URL`.
pub fn public_url_from_env() -> Result<PublicUrl, ConfigError> {
    let text = env::required("PUBLIC_URL")?;
    PublicUrl::parse(&text)
        .map_err(|_| ConfigError::Invalid("PUBLIC_URL", "is no https URL, or no http one of this machine"))
}
