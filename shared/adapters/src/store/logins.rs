//! How the database is reached, and as whom: by a URL, by a secret, or by IAM tokens.

use super::error::StoreError;
use crate::aws::AwsConfig;
use crate::env::{self, ConfigError};
use crate::secrets::read_secret;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::str::FromStr;
use std::time::Duration;

/// How to reach the database.
#[derive(Clone, Debug)]
pub enum DatabaseConfig {
    /// By a URL that is at hand.
    Url(SecretString),
    /// By a URL, or the parts of one, in a secret.
    Secret {
        /// The secret's ARN.
        arn: String,
        /// Where to read it.
        aws: AwsConfig,
    },
    /// By a URL without a password; an RDS IAM token is minted for each connection.
    Iam {
        /// The URL.
        url: String,
        /// Who signs the token.
        aws: AwsConfig,
    },
}

impl DatabaseConfig {
    /// Reads `DATABASE_URL`, with `DATABASE_IAM_AUTH` or without, or else `DATABASE_SECRET_ARN`.
    pub fn from_env() -> Result<Self, ConfigError> {
        match env::optional("DATABASE_URL") {
            Some(url) if uses_iam() => Ok(Self::Iam { url, aws: AwsConfig::from_env()? }),
            Some(url) => Ok(Self::Url(url.into())),
            None => {
                let arn = env::optional("DATABASE_SECRET_ARN")
                    .ok_or(ConfigError::Missing("DATABASE_SECRET_ARN or DATABASE_URL"))?;
                Ok(Self::Secret { arn, aws: AwsConfig::from_env()? })
            }
        }
    }

    /// Whom this way lets in, and with which password; an IAM user has none.
    pub(crate) async fn read_login(&self) -> Result<Login, StoreError> {
        match self {
            Self::Url(url) => parse_login(url.expose_secret()),
            Self::Secret { arn, aws } => parse_login(read_secret(aws, arn).await?.expose_secret()),
            Self::Iam { .. } => Err(StoreError::Url),
        }
    }

    /// How to connect now.
    pub(crate) async fn connect_options(&self) -> Result<PgConnectOptions, StoreError> {
        let options = match self {
            Self::Url(url) => parse_url(url.expose_secret())?,
            Self::Secret { arn, aws } => parse_secret(read_secret(aws, arn).await?.expose_secret())?,
            Self::Iam { url, aws } => {
                let options = parse_url(url)?;
                let token =
                    super::iam_token::mint_token(aws, options.get_host(), options.get_port(), options.get_username());
                options.password(token.expose_secret())
            }
        };
        Ok(options.application_name("harkara").log_slow_statements(log::LevelFilter::Warn, Duration::from_secs(1)))
    }
}

/// How `harkara_api` and `harkara_worker` get in, as a deploy sets it up.
#[derive(Clone, Debug)]
pub enum RoleLogins {
    /// By IAM tokens.
    Iam,
    /// By the passwords in their own secrets; those that the deploy names.
    Secrets(Vec<DatabaseConfig>),
}

impl RoleLogins {
    /// Reads `DATABASE_IAM_AUTH`, `API_DATABASE_SECRET_ARN` and `WORKER_DATABASE_SECRET_ARN`.
    pub fn from_env() -> Result<Self, ConfigError> {
        if uses_iam() {
            return Ok(Self::Iam);
        }
        let arns = ["API_DATABASE_SECRET_ARN", "WORKER_DATABASE_SECRET_ARN"].into_iter().filter_map(env::optional);
        let secrets = arns.map(|arn| Ok(DatabaseConfig::Secret { arn, aws: AwsConfig::from_env()? }));
        Ok(Self::Secrets(secrets.collect::<Result<_, ConfigError>>()?))
    }
}

/// A role and its password.
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: SecretString,
}

#[derive(Deserialize)]
struct SecretParts {
    username: String,
    password: String,
    host: String,
    port: Option<u16>,
    dbname: Option<String>,
}

fn uses_iam() -> bool {
    env::optional("DATABASE_IAM_AUTH").is_some_and(|value| value == "true")
}

/// Beyond this machine the server has to show a certificate for its name, unless the URL says otherwise.
fn parse_url(url: &str) -> Result<PgConnectOptions, StoreError> {
    let options = PgConnectOptions::from_str(url).map_err(|_| StoreError::Url)?;
    let local = matches!(options.get_host(), "localhost" | "127.0.0.1" | "::1") || options.get_host().starts_with('/');
    if local || url.contains("sslmode=") { Ok(options) } else { Ok(options.ssl_mode(PgSslMode::VerifyFull)) }
}

/// A secret is a URL, or the object that RDS keeps there.
/// <https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_secret_json_structure.html>
fn parse_secret(secret: &str) -> Result<PgConnectOptions, StoreError> {
    if !secret.trim_start().starts_with('{') {
        return parse_url(secret);
    }
    let parts: SecretParts = serde_json::from_str(secret).map_err(|_| StoreError::Url)?;
    Ok(PgConnectOptions::new_without_pgpass()
        .host(&parts.host)
        .port(parts.port.unwrap_or(5432))
        .username(&parts.username)
        .password(&parts.password)
        .database(parts.dbname.as_deref().unwrap_or("postgres"))
        .ssl_mode(PgSslMode::VerifyFull))
}

/// Whom a secret lets in.
fn parse_login(secret: &str) -> Result<Login, StoreError> {
    if secret.trim_start().starts_with('{') {
        let parts: SecretParts = serde_json::from_str(secret).map_err(|_| StoreError::Url)?;
        return Ok(Login { user: parts.username, password: parts.password.into() });
    }
    let url = url::Url::parse(secret).map_err(|_| StoreError::Url)?;
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().map(|text| text.into_owned());
    let password = decode(url.password().ok_or(StoreError::Url)?).map_err(|_| StoreError::Url)?;
    Ok(Login { user: decode(url.username()).map_err(|_| StoreError::Url)?, password: password.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_elsewhere_has_to_show_a_certificate_for_its_name() {
        let mode = |url: &str| format!("{:?}", parse_url(url).expect("a URL").get_ssl_mode());
        assert_eq!(mode("postgres://u:p@db.example.org/harkara"), "VerifyFull");
        assert_eq!(mode("postgres://u:p@db.example.org/harkara?sslmode=require"), "Require");
        assert_eq!(mode("postgres://u:p@127.0.0.1/harkara"), "Prefer");
    }

    #[test]
    fn a_secret_of_rds_is_read_part_by_part() {
        let options = parse_secret(
            r#"{"username":"u","password":"p@/","host":"h","port":6432,"dbname":"d","engine":"postgres"}"#,
        )
        .expect("read");
        assert_eq!((options.get_host(), options.get_port(), options.get_database()), ("h", 6432, Some("d")));
        assert!(matches!(parse_secret("{}"), Err(StoreError::Url)));
    }
}
