//! A password for RDS that AWS signs: valid for 15 minutes, and only to log in.
//! <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.Connecting.html>

use crate::aws::AwsConfig;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use secrecy::SecretString;
use std::time::{Duration, SystemTime};

/// As long as RDS takes a token.
const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Signs a token for one user at one endpoint. No network is asked.
pub(crate) fn mint_token(aws: &AwsConfig, host: &str, port: u16, user: &str) -> SecretString {
    let mut settings = SigningSettings::default();
    settings.expires_in = Some(LIFETIME);
    settings.signature_location = SignatureLocation::QueryParams;
    let identity = aws.credentials.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(&aws.region)
        .name("rds-db")
        .time(SystemTime::now())
        .settings(settings)
        .build()
        .expect("every parameter is set")
        .into();
    let user: String = url::form_urlencoded::byte_serialize(user.as_bytes()).collect();
    let address = format!("https://{host}:{port}/?Action=connect&DBUser={user}");
    let request = SignableRequest::new("GET", &address, std::iter::empty(), SignableBody::Bytes(&[]))
        .expect("a host, a port and an encoded user make a URL");
    let (instructions, _) = sign(request, &params).expect("a GET without headers can be signed").into_parts();
    let signature = instructions
        .params()
        .iter()
        .map(|(name, value)| {
            format!("&{name}={}", url::form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>())
        })
        .collect::<String>();
    SecretString::from(format!("{}{signature}", address.trim_start_matches("https://")))
}
