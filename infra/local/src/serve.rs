//! The stack's own servers, in one process: the issuer of tokens, the strict stand-in for SES, the gate before SQS, the address of the API.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::deploy::STACK;
use crate::failure::{Failure, Outcome, While};
use crate::fingerprint;
use crate::front::Front;
use crate::gate::{Gate, GateState};
use crate::issuer::{Issuer, TokenRequest};
use crate::process::{self, Started};
use crate::project::Project;
use crate::seed::SENDER_DOMAINS;
use crate::ses::{Allowed, EventSink, SesConfig, SesServer};

/// Where the servers listen and what stands behind them.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Ports {
    /// The issuer, and the control of the others.
    pub issuer: u16,
    /// The address of the API.
    pub api: u16,
    /// The stand-in for SES.
    pub ses: u16,
    /// The gate before SQS.
    pub sqs: u16,
    /// The emulator, behind the gate and the API.
    pub emulator: u16,
    /// The mailbox, behind SES.
    pub mailbox: u16,
}

/// The running servers.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Servers {
    ports: Ports,
    /// Of the program that runs: servers of an older one are replaced.
    program: String,
    process: Started,
}

impl Servers {
    /// Starts them as a process of this very program.
    ///
    /// Errors: they do not start.
    pub fn start(project: &Project, ports: Ports) -> Outcome<Self> {
        let log = project.log("serve");
        let program = std::env::current_exe().while_doing("looking for this program")?;
        let text = serde_json::to_string(&ports).while_doing("writing ports")?;
        let mut command = Command::new(&program);
        command.args(["serve", &text]);
        let servers = Self { ports, program: program_fingerprint()?, process: process::start(&mut command, &log)? };
        process::wait_until("the stack's own servers", &servers.process, &log, Duration::from_secs(15), || {
            ureq::get(format!("{}/health", servers.issuer_url())).call().is_ok()
        })?;
        Ok(servers)
    }

    /// Whether they run, are of this program, and lead to these two ports.
    pub fn serve(&self, emulator: u16, mailbox: u16) -> bool {
        self.is_alive()
            && self.ports.emulator == emulator
            && self.ports.mailbox == mailbox
            && program_fingerprint().is_ok_and(|program| program == self.program)
    }

    /// Whether they run.
    pub fn is_alive(&self) -> bool {
        self.process.is_alive()
    }

    /// Where they listen.
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// The issuer's URL: the template's `JwtIssuer`.
    pub fn issuer_url(&self) -> String {
        at(self.ports.issuer)
    }

    /// The API's URL.
    pub fn api_url(&self) -> String {
        at(self.ports.api)
    }

    /// The URL of the stand-in for SES.
    pub fn ses_url(&self) -> String {
        at(self.ports.ses)
    }

    /// The URL of the gate before SQS.
    pub fn sqs_url(&self) -> String {
        at(self.ports.sqs)
    }

    /// Asks for a token.
    ///
    /// Errors: the issuer does not answer.
    pub fn token(&self, request: &TokenRequest) -> Outcome<String> {
        let doing = "asking for a token";
        let answer: Value = ureq::post(format!("{}/token", self.issuer_url()))
            .send_json(request)
            .while_doing(doing)?
            .body_mut()
            .read_json()
            .while_doing(doing)?;
        crate::aws::text_of(&answer, "access_token")
    }

    /// Tells the front which API is behind it.
    ///
    /// Errors: it does not answer.
    pub fn set_api(&self, api_id: &str) -> Outcome<()> {
        ureq::put(format!("{}/api", self.issuer_url()))
            .send_json(json!({"api_id": api_id}))
            .while_doing("setting the API's address")
            .map(drop)
    }

    /// Tells the stand-in for SES where its events go.
    ///
    /// Errors: it does not answer.
    pub fn set_event_sink(&self, sink: &EventSink) -> Outcome<()> {
        ureq::put(format!("{}/event-sink", self.ses_url()))
            .send_json(sink)
            .while_doing("telling the stand-in for SES where its events go")
            .map(drop)
    }

    /// Opens or shuts the gate before SQS.
    ///
    /// Errors: it does not answer.
    pub fn set_gate(&self, state: GateState) -> Outcome<()> {
        ureq::put(format!("{}/gates/sqs", self.issuer_url()))
            .send_json(state)
            .while_doing("setting the gate before SQS")
            .map(drop)
    }

    /// Ends them.
    pub fn end(&self) {
        self.process.end(Signal::TERM, Duration::from_secs(3));
    }
}

fn at(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// Of this program, to see that it was built anew.
fn program_fingerprint() -> Outcome<String> {
    fingerprint::of_change(&std::env::current_exe().while_doing("looking for this program")?)
}

struct Control {
    issuer: Issuer,
    front: Front,
    sqs: Gate,
}

/// Serves until the process is ended.
///
/// Errors: a port is taken, the key is missing.
pub fn serve(project: &Project, ports: &Ports) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .while_doing("starting the servers")?;
    runtime.block_on(serve_all(project, ports))
}

async fn serve_all(project: &Project, ports: &Ports) -> Outcome<()> {
    let mailbox = at(ports.mailbox).parse().while_doing("reading the mailbox's address")?;
    let ses = SesServer::start(SesConfig {
        port: ports.ses,
        identities: Allowed::only(SENDER_DOMAINS),
        configuration_sets: Allowed::only([STACK]),
        mailbox_url: Some(mailbox),
        ..SesConfig::default()
    })
    .await
    .while_doing("starting the stand-in for SES")?;
    let emulator = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.emulator));
    let sqs = Gate::start(ports.sqs, emulator).await.while_doing("opening the gate before SQS")?;
    let front = Front::new(emulator.to_string());
    let front_listener = listen(ports.api).await?;
    let issuer_listener = listen(ports.issuer).await?;
    let issuer = Issuer::read(&project.local().join("issuer.json"), at(ports.issuer))?;
    let control = Arc::new(Control { issuer, front: front.clone(), sqs });
    let router = Router::new()
        .route("/health", get(async || "ok"))
        .route("/.well-known/openid-configuration", get(discover))
        .route("/jwks.json", get(list_keys))
        .route("/token", post(sign_token))
        .route("/api", put(set_api))
        .route("/gates/sqs", put(set_gate))
        .with_state(control);
    let ended = tokio::select! {
        ended = axum::serve(front_listener, front.router()) => ended,
        ended = axum::serve(issuer_listener, router) => ended,
    };
    ses.stop().await;
    ended.while_doing("serving")
}

async fn listen(port: u16) -> Outcome<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.while_doing(format_args!("opening port {port}"))
}

async fn discover(State(control): State<Arc<Control>>) -> Json<Value> {
    Json(control.issuer.discovery())
}

async fn list_keys(State(control): State<Arc<Control>>) -> Json<Value> {
    Json(control.issuer.keys())
}

async fn sign_token(
    State(control): State<Arc<Control>>,
    Json(request): Json<TokenRequest>,
) -> Result<Json<Value>, (StatusCode, String)> {
    let token = control
        .issuer
        .sign(&request)
        .map_err(|failure: Failure| (StatusCode::INTERNAL_SERVER_ERROR, failure.to_string()))?;
    Ok(Json(json!({"access_token": token, "token_type": "Bearer", "expires_in": request.expires_in})))
}

#[derive(Deserialize)]
struct ApiTarget {
    api_id: String,
}

async fn set_api(State(control): State<Arc<Control>>, Json(target): Json<ApiTarget>) {
    control.front.set_api(target.api_id);
}

async fn set_gate(State(control): State<Arc<Control>>, Json(state): Json<GateState>) {
    control.sqs.set(state);
}
