//! How the pages look, and the policy that lets a browser apply nothing else.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

/// One sheet for all pages. Colours have a contrast of at least 4.5 to 1, lines and borders of at least 3 to 1; sizes
/// follow the reader's own.
pub(super) const STYLE: &str = include_str!("style.css");

/// The pages' `Content-Security-Policy`: this one style, forms to ourselves, and nothing else.
/// <https://www.w3.org/TR/CSP3/>
pub fn content_security_policy() -> String {
    let digest = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
}
