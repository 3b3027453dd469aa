//! Where links lead, and the headers that let a mail reader offer one (RFC 2369, RFC 8058).

use std::fmt;

use super::CollectedLink;
use crate::header::{Header, HeaderName, HeaderValue};

/// The longest base URL, in bytes: with the longest token it leaves a header below SES's limit.
const MAX_URL: usize = 512;

/// Where recipients reach this deployment, from its configuration and never from a request: `https://notify.example.in`.
///
/// `https`, or `http` on this machine alone; RFC 8058 asks for the former.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl(String);

/// Says why a text is no public URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicUrlError {
    /// It is neither `https://` nor `http://` on this machine.
    Scheme,
    /// It is longer than 512 bytes.
    TooLong,
    /// It has no host, or something that belongs into no base URL: a query, a fragment, a space, a user.
    Form,
}

impl fmt::Display for PublicUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "must begin with https://",
            Self::TooLong => "may have at most 512 bytes",
            Self::Form => "must be a host and at most a path, such as https://notify.example.in",
        })
    }
}

impl std::error::Error for PublicUrlError {}

impl PublicUrl {
    /// Reads a base URL; slashes at its end are dropped.
    ///
    /// # Errors
    ///
    /// When recipients could not follow what is put together from it, or it would not stand in a header.
    pub fn parse(text: &str) -> Result<Self, PublicUrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(PublicUrlError::Scheme)?;
        let url = text.trim_end_matches('/');
        let host = rest.split(['/', ':']).next().unwrap_or_default();
        match scheme {
            "https" => {}
            "http" if host == "localhost" || host == "127.0.0.1" || host.ends_with(".localhost") => {}
            _ => return Err(PublicUrlError::Scheme),
        }
        if url.len() > MAX_URL {
            return Err(PublicUrlError::TooLong);
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:%".contains(&byte);
        if host.is_empty() || !rest.bytes().all(is_plain) {
            return Err(PublicUrlError::Form);
        }
        Ok(Self(url.to_owned()))
    }

    /// The page on which a token's category is left.
    pub fn unsubscribe(&self, token: &str) -> String {
        format!("{}/v1/unsubscribe/{token}", self.0)
    }

    /// The page on which a token's holder acts.
    pub fn action(&self, token: &str) -> String {
        format!("{}/v1/actions/{token}", self.0)
    }

    /// The page with everything that a message tells of.
    pub fn collected(&self, link: &CollectedLink) -> String {
        format!("{}/v1/collected/{link}", self.0)
    }

    /// The page on which a token's subject manages all preferences.
    pub fn preference_center(&self, token: &str) -> String {
        format!("{}/v1/preference-center/{token}", self.0)
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The headers that let a mail reader leave with one click (RFC 8058, 3.1): `List-Unsubscribe`, `List-Unsubscribe-Post`.
///
/// `token` is what a key ring printed. Both are in the mail or neither: the first alone promises no click.
/// They only count where the mail's DKIM signature covers them, which SES's own does.
pub fn unsubscribe_headers(base: &PublicUrl, token: &str) -> [Header; 2] {
    let header = |name: &str, value: &str| {
        let name = HeaderName::parse(name).expect("the name is one");
        let value = HeaderValue::parse(value).expect("a base URL and a token are printable, and short enough together");
        Header::new(name, value).expect("a base URL and a token leave room for a name")
    };
    [
        header("List-Unsubscribe", &format!("<{}>", base.unsubscribe(token))),
        header("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
    ]
}
