//! Asks the running API whether it keeps to `infra/openapi.json`, with requests that schemathesis makes up.
//!
//! It acts as a tenant of its own, which it makes for each run: what it puts and replaces is nobody else's, and a seed finds
//! the same again. Every check and its reason is in `contract.toml`.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::aws::Aws;
use crate::failure::{Failure, Outcome, While};
use crate::interrupt;
use crate::issuer::TokenRequest;
use crate::openapi;
use crate::progress::Progress;
use crate::project::Project;
use crate::python::Environment;
use crate::seed::{self, Tenant};
use crate::stack::Stack;
use crate::state::State;
use crate::up::{down_to, up};

/// How many ask at once.
const PARTS: usize = 4;

/// What to ask.
#[derive(Clone, Debug)]
pub struct ContractRequest {
    /// How many requests are made up for each operation in each phase.
    pub examples: u32,
    /// What they are made up from; drawn, when absent. A failure names it.
    pub seed: Option<u64>,
    /// Ask this operation only, such as `putCategory`; empty: all of them.
    pub operation: Option<String>,
}

/// Brings the stack up and asks it.
///
/// Errors: the stack does not come up, or the API does something else than it says.
pub fn check_contract(project: &Project, request: &ContractRequest) -> Outcome<()> {
    let _ended = interrupt::watch()?;
    project.make_folders()?;
    let progress = Progress::new();
    let environment = Environment::of_contract(project);
    if !environment.is_ready() {
        progress.say("installing schemathesis (Python packages, about half a minute) …");
        environment.install()?;
    }
    let before = State::read(project).running();
    let result = up(project, &progress).and_then(|stack| {
        let token = make_tenant(project, &stack)?;
        ask(project, &environment, &stack, &token, request)
    });
    down_to(project, before)?;
    result
}

/// Makes a tenant that has what the document's examples name, and returns its token.
fn make_tenant(project: &Project, stack: &Stack) -> Outcome<String> {
    let id = Uuid::new_v4().to_string();
    let variables = json!({"name": {"type": "string", "example": "Ada"}});
    let variant = json!({"locale": "en", "subject": "Hello {{ name }}", "text": "Dear {{ name }}"});
    let tenant = Tenant {
        event: json!({"id": id, "name": "The contract's"}),
        requests: vec![
            ("PUT", "/v1/templates/greeting".to_owned(), json!({"variables": variables, "variants": [variant]})),
            ("POST", "/v1/templates/greeting/publish".to_owned(), json!({})),
            ("PUT", "/v1/categories/greeting".to_owned(), json!({"class": "transactional", "template": "greeting"})),
            ("PUT", "/v1/recipients/auditor-7".to_owned(), json!({"email": "ada@example.org"})),
        ],
        id,
    };
    let migrate = format!("{}-migrate", stack.function_prefix);
    Aws::new(&stack.aws_endpoint_url).invoke(&migrate, &json!({"tenants": [tenant.event]}))?;
    let servers = State::read(project).servers.ok_or_else(|| Failure::new("the issuer does not run"))?;
    let token = servers.token(&TokenRequest::for_tenant(&tenant.id))?;
    seed::put_all(&stack.api_url, &tenant, &token)?;
    Ok(token)
}

/// Runs several at once, each with a part of the operations: the emulator takes a tenth of a second for each request.
fn ask(
    project: &Project,
    environment: &Environment,
    stack: &Stack,
    token: &str,
    request: &ContractRequest,
) -> Outcome<()> {
    let seed = request.seed.unwrap_or_else(|| u64::from(Uuid::new_v4().as_fields().0));
    let operations = match &request.operation {
        Some(operation) => vec![operation.clone()],
        None => list_operations(project)?,
    };
    let start = |part: usize| -> Outcome<(Child, PathBuf)> {
        let log = project.log(&format!("contract-{part}"));
        let out = File::create(&log).while_doing(format_args!("opening {}", log.display()))?;
        let err = out.try_clone().while_doing("opening a log")?;
        let mut command = Command::new(environment.program("schemathesis"));
        command
            .arg("--config-file")
            .arg(project.package_file("contract.toml"))
            .args(["run", "--no-color", "--url", &stack.api_url])
            .args(["--max-examples", &request.examples.to_string(), "--seed", &seed.to_string()])
            .args(operations.iter().skip(part).step_by(PARTS).flat_map(|name| ["--include-operation-id", name]))
            .arg(openapi::path(project))
            .current_dir(project.local())
            .env("HARKARA_TOKEN", token)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err);
        Ok((command.spawn().while_doing("starting schemathesis")?, log))
    };
    let parts: Vec<_> = (0..PARTS.min(operations.len())).map(start).collect();
    let mut is_kept = true;
    for part in parts {
        let (mut child, log) = part?;
        let status = child.wait().while_doing("waiting for schemathesis")?;
        let said = std::fs::read_to_string(&log).while_doing(format_args!("reading {}", log.display()))?;
        is_kept &= status.success();
        // All of it where something is wrong, else the sums.
        let shown = said.find(" SUMMARY ").filter(|_| status.success()).map_or(&said[..], |at| &said[at..]);
        println!("{shown}");
    }
    if is_kept {
        println!("the API keeps to infra/openapi.json; asked from seed {seed}");
        return Ok(());
    }
    Err(Failure::new("the API does something else than infra/openapi.json says").with_advice(format!(
        "Mend the code or its description; to ask the same again: cargo local contract --examples {} --seed {seed}",
        request.examples
    )))
}

/// The names of all operations, in the order of the document.
fn list_operations(project: &Project) -> Outcome<Vec<String>> {
    let path = openapi::path(project);
    let text = std::fs::read_to_string(&path).while_doing(format_args!("reading {}", path.display()))?;
    let document: Value = serde_json::from_str(&text).while_doing("reading the description")?;
    let paths = document["paths"].as_object().into_iter().flatten();
    let operations = paths.flat_map(|(_, path)| path.as_object().into_iter().flatten());
    Ok(operations.filter_map(|(_, operation)| operation["operationId"].as_str()).map(str::to_owned).collect())
}
