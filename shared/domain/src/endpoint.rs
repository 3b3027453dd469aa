//! HTTPS endpoints that a tenant's domain names: which URLs may be called, and at which addresses.
//!
//! Whoever may register a job chooses a URL, and the service stands in a network of its own: a URL must lead nobody there.
//! So a URL is https at the port 443 with a host and nothing odd, an address in it is judged when it is registered, and
//! what a name resolves to is judged at each call by [`LocalEndpoints::judge`], just before exactly that is connected to.

mod address;
mod signature;

pub use address::judge_address;
pub use signature::{SigningSecret, print_signatures};

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use url::{Host, Url};

/// The longest URL, in bytes.
pub const MAX_ENDPOINT_URL_BYTES: usize = 2048;
/// The port that everybody's endpoints are at.
const HTTPS: u16 = 443;

/// Why a URL is no endpoint that may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointUrlError {
    /// It is no absolute URL, or too long for one.
    Form,
    /// It is not https.
    Scheme,
    /// It holds a name or a password.
    UserInfo,
    /// It has a fragment, which nobody would be sent.
    Fragment,
    /// Its port is another than 443.
    Port,
    /// Its host is an address that is not called, for what it is.
    Address(&'static str),
}

impl fmt::Display for EndpointUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => {
                return write!(f, "must be an absolute URL of up to {MAX_ENDPOINT_URL_BYTES} bytes, without spaces");
            }
            Self::Scheme => "must begin with https://",
            Self::UserInfo => "must hold no name and no password; a call is known by its signature",
            Self::Fragment => "must have no fragment",
            Self::Port => "must have the port 443",
            Self::Address(what) => return write!(f, "must be at a public address, and this is {what}"),
        })
    }
}

impl std::error::Error for EndpointUrlError {}

/// A URL that may be called, as far as it tells by itself.
#[derive(Clone, PartialEq, Eq)]
pub struct EndpointUrl(Url);

/// Its path may be a secret of the domain's.
impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EndpointUrl({})", self.authority())
    }
}

impl EndpointUrl {
    /// Reads `https://payouts.example.com/jobs`. It is kept as browsers would write it: an address in decimal, octal or
    /// hexadecimal is the address that it is.
    ///
    /// # Errors
    ///
    /// When it is not https, or holds what is not sent along. Its port and its host are [`Self::check`]'s.
    pub fn parse(text: &str) -> Result<Self, EndpointUrlError> {
        // Those the parser would drop without a word.
        let is_odd = |c: char| c.is_whitespace() || c.is_control() || c == '\\';
        if text.len() > MAX_ENDPOINT_URL_BYTES || text.contains(is_odd) {
            return Err(EndpointUrlError::Form);
        }
        let url = Url::parse(text).map_err(|_| EndpointUrlError::Form)?;
        if url.scheme() != "https" {
            return Err(EndpointUrlError::Scheme);
        }
        let authority = text.split_once("//").map_or("", |(_, rest)| rest);
        let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') || !url.username().is_empty() || url.password().is_some() {
            return Err(EndpointUrlError::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(EndpointUrlError::Fragment);
        }
        if url.host().is_none() || url.as_str().len() > MAX_ENDPOINT_URL_BYTES {
            return Err(EndpointUrlError::Form);
        }
        Ok(Self(url))
    }

    /// Whether it may be called, before anything is looked up.
    ///
    /// # Errors
    ///
    /// When its port or its address may not.
    pub fn check(&self, local: &LocalEndpoints) -> Result<(), EndpointUrlError> {
        let port = self.port();
        match self.address() {
            Some(address) => match local.judge(SocketAddr::new(address, port)) {
                Some(what) => Err(EndpointUrlError::Address(what)),
                None if port != HTTPS && !local.has_port(port) => Err(EndpointUrlError::Port),
                None => Ok(()),
            },
            None if port != HTTPS && !local.has_port(port) => Err(EndpointUrlError::Port),
            None => Ok(()),
        }
    }

    /// The URL.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Its host as it is looked up, and as its certificate names it.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default().trim_matches(['[', ']'])
    }

    /// Its host, where that is an address.
    pub fn address(&self) -> Option<IpAddr> {
        match self.0.host()? {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
        }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.0.port().unwrap_or(HTTPS)
    }

    /// Its host and port, as a request names them.
    pub fn authority(&self) -> &str {
        self.0.authority()
    }

    /// What a request asks for: its path and its query.
    pub fn target(&self) -> &str {
        &self.0[url::Position::BeforePath..url::Position::AfterQuery]
    }
}

/// Addresses that may be called though they are nobody's in public: of a development machine and of tests. The operator's,
/// and no tenant's; there are none where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalEndpoints(Vec<SocketAddr>);

impl LocalEndpoints {
    /// Reads `127.0.0.1:8443,[::1]:8443`; `None` where it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        text.split(',').map(|part| part.trim().parse().ok()).collect::<Option<_>>().map(Self)
    }

    /// What an address is that must not be called; `None` where it may.
    pub fn judge(&self, address: SocketAddr) -> Option<&'static str> {
        if self.0.contains(&address) { None } else { judge_address(address.ip()) }
    }

    fn has_port(&self, port: u16) -> bool {
        self.0.iter().any(|address| address.port() == port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), EndpointUrlError> {
        EndpointUrl::parse(text)?.check(&LocalEndpoints::default())
    }

    #[test]
    fn an_endpoint_is_https_at_its_port_and_nothing_more() {
        for text in [
            "https://payouts.example.com",
            "https://payouts.example.com/jobs/reconcile?dry=1",
            "HTTPS://Payouts.Example.com:443/",
            "https://b\u{fc}cher.example/",
            "https://1.1.1.1/",
            "https://[2606:4700:4700::1111]/",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        let long = format!("https://example.com/{}", "a".repeat(MAX_ENDPOINT_URL_BYTES));
        for (text, error) in [
            ("", EndpointUrlError::Form),
            ("payouts.example.com/jobs", EndpointUrlError::Form),
            ("//payouts.example.com", EndpointUrlError::Form),
            ("https://", EndpointUrlError::Form),
            ("https:// example.com", EndpointUrlError::Form),
            ("https://example.com/\r\nHost: internal", EndpointUrlError::Form),
            ("https://exa\tmple.com/", EndpointUrlError::Form),
            (" https://example.com/", EndpointUrlError::Form),
            ("https:\\\\example.com\\", EndpointUrlError::Form),
            ("https://example.com:99999/", EndpointUrlError::Form),
            ("https://1.2.3.4.5/", EndpointUrlError::Form),
            ("https://256.1.1.1/", EndpointUrlError::Form),
            ("https://[fe80::1%25eth0]/", EndpointUrlError::Form),
            (long.as_str(), EndpointUrlError::Form),
            ("http://example.com/", EndpointUrlError::Scheme),
            ("file:///etc/passwd", EndpointUrlError::Scheme),
            ("gopher://example.com/", EndpointUrlError::Scheme),
            ("https://ada@example.com/", EndpointUrlError::UserInfo),
            ("https://ada:secret@example.com/", EndpointUrlError::UserInfo),
            ("https://example.com:443@127.0.0.1/", EndpointUrlError::UserInfo),
            ("https://@example.com/", EndpointUrlError::UserInfo),
            ("https:/ada@example.com/", EndpointUrlError::UserInfo),
            ("https://example.com/#part", EndpointUrlError::Fragment),
            ("https://example.com/#", EndpointUrlError::Fragment),
            ("https://example.com:8443/", EndpointUrlError::Port),
            ("https://example.com:80/", EndpointUrlError::Port),
            ("https://1.1.1.1:8443/", EndpointUrlError::Port),
        ] {
            assert_eq!(check(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn an_address_is_the_same_one_however_it_is_written() {
        for text in [
            "https://127.0.0.1/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f000001/",
            "https://0177.0.0.1/",
            "https://0x7f.0x0.0x0.0x1/",
            "https://%31%32%37.0.0.1/",
            "https://127.0.0.1./",
            "https://\u{ff11}\u{ff12}\u{ff17}.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[::ffff:7f00:1]/",
            "https://[0:0:0:0:0:0:0:1]/",
            "https://169.254.169.254/latest/meta-data/",
            "https://[fd00:ec2::254]/",
            "https://0/",
        ] {
            assert!(matches!(check(text), Err(EndpointUrlError::Address(_))), "{text}: {:?}", check(text));
        }
    }

    #[test]
    fn its_parts_are_what_a_request_needs() {
        let url = EndpointUrl::parse("https://Payouts.example.com:443/a%20b?c=d").expect("a URL");
        assert_eq!((url.host(), url.port(), url.authority()), ("payouts.example.com", 443, "payouts.example.com"));
        assert_eq!(url.target(), "/a%20b?c=d");
        assert_eq!(EndpointUrl::parse(url.as_str()), Ok(url.clone()));
        assert_eq!(format!("{url:?}"), "EndpointUrl(payouts.example.com)");
        let address = EndpointUrl::parse("https://[2606:4700::1]:8443").expect("a URL");
        assert_eq!((address.host(), address.port()), ("2606:4700::1", 8443));
        assert_eq!((address.authority(), address.target()), ("[2606:4700::1]:8443", "/"));
    }

    #[test]
    fn local_addresses_are_allowed_one_by_one() {
        let local = LocalEndpoints::parse("127.0.0.1:8443, [::1]:9443").expect("addresses");
        let check = |text: &str| EndpointUrl::parse(text).expect("a URL").check(&local);
        assert_eq!(check("https://127.0.0.1:8443/"), Ok(()));
        assert_eq!(check("https://localhost:9443/"), Ok(()), "what it resolves to is judged at each call");
        for text in
            ["https://127.0.0.1/", "https://127.0.0.1:9443/", "https://127.0.0.2:8443/", "https://10.0.0.1:8443/"]
        {
            assert!(matches!(check(text), Err(EndpointUrlError::Address(_))), "{text}");
        }
        assert_eq!(check("https://localhost:8444/"), Err(EndpointUrlError::Port));
        for text in ["", "localhost:8443", "127.0.0.1", "127.0.0.1:8443,"] {
            assert_eq!(LocalEndpoints::parse(text), None, "{text:?}");
        }
    }
}
