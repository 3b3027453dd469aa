//! Two tenants to play with, from `seed/`: a bank's internal audit and a salon, each with its categories and templates.
//!
//! Tenants come from `migrate`; the rest is put through the API, as a tenant's own administrator would.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::failure::{Failure, Outcome, While};
use crate::fingerprint;
use crate::project::Project;

/// Domains that mail may be sent from: the template's default sender and the tenants' own.
pub const SENDER_DOMAINS: [&str; 3] = ["harkara.example", "aegis.example", "lotus.example"];

/// The sender of tenants that have none.
pub const DEFAULT_SENDER: &str = "notices@harkara.example";

/// The folders of `seed/`, in the order of `stack.json`: the first tenant and the other one.
const TENANTS: [&str; 2] = ["aegis", "lotus"];

/// Where each template's own part goes in `seed/layout.html`.
const CONTENT_MARK: &str = "<!-- content -->";

/// A tenant with everything that it needs before its first notification.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// The tenant's id.
    pub id: String,
    /// What `migrate` is told.
    pub event: Value,
    /// Requests to the API, in this order: method, path and body.
    pub requests: Vec<(&'static str, String, Value)>,
}

/// The seed.
#[derive(Clone, Debug)]
pub struct Seed {
    /// The first tenant and the other one.
    pub tenants: [Tenant; 2],
    /// Of all of it.
    pub fingerprint: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    tenant: Map<String, Value>,
    categories: Map<String, Value>,
    /// What each template declares, by its key.
    variables: Map<String, Value>,
    recipients: Map<String, Value>,
}

impl Seed {
    /// Reads `seed/`.
    ///
    /// Errors: a file is missing or malformed.
    pub fn read(project: &Project) -> Outcome<Self> {
        let folder = project.package_file("seed");
        let layout = read(&folder.join("layout.html"))?;
        let tenants = [read_tenant(&folder, TENANTS[0], &layout)?, read_tenant(&folder, TENANTS[1], &layout)?];
        let all = format!("{tenants:?}");
        Ok(Self { fingerprint: fingerprint::of_parts([all.as_bytes()]), tenants })
    }

    /// The event that `migrate` is invoked with.
    pub fn migrate_event(&self) -> Value {
        json!({"tenants": self.tenants.iter().map(|tenant| tenant.event.clone()).collect::<Vec<_>>()})
    }
}

/// Asks the API for a tenant's templates, categories and recipients.
///
/// Errors: the API refuses one.
pub fn put_all(api_url: &str, tenant: &Tenant, token: &str) -> Outcome<()> {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    for (method, path, body) in &tenant.requests {
        let url = format!("{api_url}{path}");
        let request = if *method == "POST" { agent.post(url) } else { agent.put(url) };
        let mut response = request
            .header("Authorization", format!("Bearer {token}"))
            .send_json(body)
            .while_doing(format_args!("{method} {path}"))?;
        if !response.status().is_success() {
            let text = response.body_mut().read_to_string().unwrap_or_default();
            return Err(Failure::new(format!("{method} {path} was answered {}: {text}", response.status()))
                .with_advice("See `cargo local logs api`."));
        }
    }
    Ok(())
}

fn read_tenant(folder: &Path, name: &str, layout: &str) -> Outcome<Tenant> {
    let doing = format!("reading seed/{name}.json");
    let page: Page = serde_json::from_str(&read(&folder.join(format!("{name}.json")))?).while_doing(&doing)?;
    let id = page.tenant.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut requests = Vec::new();
    for category in page.categories.values() {
        let Some(key) = category["template"].as_str() else {
            continue;
        };
        let text = read(&folder.join(name).join(format!("{key}.txt")))?;
        let (subject, text) =
            text.strip_prefix("Subject: ").and_then(|text| text.split_once("\n\n")).ok_or_else(|| {
                Failure::new(format!("seed/{name}/{key}.txt does not begin with a subject and an empty line"))
            })?;
        let content = read(&folder.join(name).join(format!("{key}.html")))?;
        let variant = json!({
            "locale": "en",
            "subject": subject,
            "text": text,
            "html": layout.replace(CONTENT_MARK, &content),
        });
        let draft = json!({"variables": page.variables.get(key), "variants": [variant]});
        requests.push(("PUT", format!("/v1/templates/{key}"), draft));
        requests.push(("POST", format!("/v1/templates/{key}/publish"), json!({})));
    }
    let put = |collection: &str, key: &str, body: &Value| ("PUT", format!("/v1/{collection}/{key}"), body.clone());
    requests.extend(page.categories.iter().map(|(key, body)| put("categories", key, body)));
    // A manager has to be there before those who report to them.
    let (reports, others): (Vec<_>, Vec<_>) =
        page.recipients.iter().partition(|(_, body)| body.get("manager").is_some());
    requests.extend(others.into_iter().chain(reports).map(|(key, body)| put("recipients", key, body)));
    Ok(Tenant { id, event: Value::Object(page.tenant), requests })
}

fn read(path: &Path) -> Outcome<String> {
    std::fs::read_to_string(path).while_doing(format_args!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_has_the_nine_kinds_of_an_audit_and_the_four_of_a_salon() {
        let seed = Seed::read(&Project::find().unwrap()).unwrap();
        let count = |tenant: &Tenant, prefix: &str| {
            let puts = tenant.requests.iter().filter(|(method, path, _)| *method == "PUT" && path.starts_with(prefix));
            puts.count()
        };
        let [aegis, lotus] = &seed.tenants;
        assert_eq!((count(aegis, "/v1/categories/"), count(lotus, "/v1/categories/")), (9, 4));
        assert_eq!((count(aegis, "/v1/templates/"), count(lotus, "/v1/templates/")), (9, 4));
        assert_ne!(aegis.id, lotus.id);
    }
}
