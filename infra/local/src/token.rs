//! `cargo local token`: whose token it is, and what it may do.

use clap::Parser;

use crate::issuer::TokenRequest;

/// The tenant of whoever operates the deployment.
const OPERATOR: &str = "00000000-0000-0000-0000-000000000000";

/// Print a token for the API
#[derive(Clone, Debug, Parser)]
pub struct TokenArguments {
    /// Of the second tenant
    #[arg(long, conflicts_with = "operator")]
    other: bool,
    /// Of whoever operates the service
    #[arg(long)]
    operator: bool,
    /// Scopes with spaces between; all, when absent
    #[arg(long)]
    scope: Option<String>,
    /// Who acts
    #[arg(long)]
    sub: Option<String>,
}

impl TokenArguments {
    /// What the issuer is asked for, where the first tenant and the other one are these.
    pub fn request(self, tenant_id: &str, other_tenant_id: &str) -> TokenRequest {
        let tenant_id = match self {
            Self { operator: true, .. } => OPERATOR,
            Self { other: true, .. } => other_tenant_id,
            Self { .. } => tenant_id,
        };
        let mut request = TokenRequest::for_tenant(tenant_id);
        request.scope = self.scope.unwrap_or(request.scope);
        request.sub = self.sub.unwrap_or(request.sub);
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::id::TenantId;

    fn request(words: &[&str]) -> TokenRequest {
        let words = ["token"].iter().chain(words);
        TokenArguments::try_parse_from(words).expect("read").request("first", "second")
    }

    #[test]
    fn a_token_is_the_first_tenants_unless_it_is_asked_for_otherwise() {
        let tenant = |words: &[&str]| request(words).tenant_id.expect("a tenant");
        assert_eq!(tenant(&[]), "first");
        assert_eq!(tenant(&["--other"]), "second");
        assert_eq!(TenantId::parse(&tenant(&["--operator"])), Ok(TenantId::OPERATOR));
        assert!(TokenArguments::try_parse_from(["token", "--other", "--operator"]).is_err());
        let own = request(&["--scope", "self", "--sub", "auditor-7"]);
        assert_eq!((own.scope.as_str(), own.sub.as_str()), ("self", "auditor-7"));
    }
}
