//! `cargo local`: the whole of Harkara on this machine.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use local::audit::{AuditRequest, verify_audit};
use local::contract::{ContractRequest, check_contract};
use local::demo::{AtTheEnd, demo};
use local::failure::{Failure, Outcome, While};
use local::fuzz::{FuzzRequest, fuzz};
use local::gate::GateState;
use local::progress::Progress;
use local::project::{FUNCTIONS, Project};
use local::proof::{LEAST_SEEDS, ProofRequest, prove, soak};
use local::serve::Ports;
use local::sql::Queries;
use local::stack::Stack;
use local::state::State;
use local::token::TokenArguments;
use local::{lint, logs, mutants, openapi, postgres, serve, sql, testing, up};

/// The whole of Harkara on this machine: Postgres, the emulators of AWS, the functions as they are deployed, a mailbox.
#[derive(Parser)]
#[command(name = "cargo local", bin_name = "cargo local")]
struct Arguments {
    #[command(subcommand)]
    command: Request,
}

#[derive(Subcommand)]
enum Request {
    /// Set up, start, deploy, send one notification and show it arriving; keeps running until Ctrl-C
    Demo {
        /// End everything after the notification has arrived
        #[arg(long)]
        once: bool,
    },
    /// Set up and run every test; arguments go to `cargo test`
    Test {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measure the budgets; arguments go to `cargo bench`
    Bench {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Start whatever does not run, deploy whatever has changed
    Up,
    /// End everything that runs
    Down {
        /// Also forget the database's content
        #[arg(long)]
        wipe: bool,
    },
    /// Say what runs and where
    Status,
    /// Print the functions' logs, or one function's
    Logs {
        #[arg(value_parser = FUNCTIONS)]
        function: Option<String>,
    },
    /// Print a token for the API
    Token(TokenArguments),
    /// Open the stack's database with the pinned psql, as its administrator; arguments go to `psql`
    Psql {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Make a service unreachable for the functions
    Break {
        /// The service
        service: Service,
    },
    /// Make it reachable again
    Mend {
        /// The service
        service: Service,
    },
    /// Write .sqlx/ from the migrations and the queries
    Sql {
        /// Only see whether .sqlx/ is up to date
        #[arg(long)]
        check: bool,
    },
    /// Write infra/openapi.json from the code
    Openapi,
    /// Ask the API whether it keeps to infra/openapi.json, with made-up requests
    Contract {
        /// How many requests are made up for each operation
        #[arg(long, default_value_t = 20)]
        examples: u32,
        /// What they are made up from; drawn, when absent
        #[arg(long)]
        seed: Option<u64>,
        /// One operation, such as putCategory; all, when absent
        #[arg(long)]
        operation: Option<String>,
    },
    /// Hold template.yaml to cfn-lint and sam validate --lint
    Lint,
    /// Run the crash matrix, the simulator and the model, and write infra/proof.md and the README's figures
    Proof {
        /// How many seeds the simulator runs
        #[arg(long, default_value_t = LEAST_SEEDS)]
        seeds: u64,
        /// The first seed; drawn, when absent
        #[arg(long)]
        base_seed: Option<u64>,
        /// Write the page here, and leave the README as it is
        #[arg(long)]
        page: Option<PathBuf>,
    },
    /// Go on with new seeds: half of the time in the simulator, half on real binaries
    Soak {
        /// For how long
        #[arg(long)]
        minutes: u32,
    },
    /// Feed what reads foreign input with made-up input
    Fuzz {
        /// One target; all, when absent
        target: Option<String>,
        /// How long each target runs; else HARKARA_FUZZ_SECONDS, else 60
        #[arg(long)]
        seconds: Option<u32>,
        /// Run this input alone
        #[arg(long, requires = "target")]
        input: Option<PathBuf>,
    },
    /// Break the decisions on purpose, and list what no test notices
    Mutants {
        /// Only this file, such as shared/domain/src/retry.rs; several times for several
        #[arg(long = "file")]
        files: Vec<PathBuf>,
    },
    /// Verify that the audit log is as it was sealed
    Audit {
        /// As the database's administrator; libpq's own variables, such as PGPASSWORD, keep a password off the list of
        /// processes. The running stack's, when absent
        #[arg(long)]
        database_url: Option<String>,
        /// One tenant; all, when absent
        #[arg(long)]
        tenant: Option<uuid::Uuid>,
    },
    /// The stack's own servers, in the foreground; `up` starts this
    #[command(hide = true)]
    Serve {
        /// Where to listen, as JSON
        ports: String,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Service {
    Sqs,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nfailed: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(request: Request) -> Outcome<()> {
    let project = Project::find()?;
    match request {
        Request::Demo { once } => demo(&project, if once { AtTheEnd::GoDown } else { AtTheEnd::KeepRunning }),
        Request::Test { arguments } => testing::run_tests(&project, &arguments),
        Request::Bench { arguments } => testing::run_benches(&project, &arguments),
        Request::Up => {
            let stack = up::up(&project, &Progress::new())?;
            println!("API      {}", stack.api_url);
            println!("Mailbox  {}", stack.mailbox_url);
            Ok(())
        }
        Request::Down { wipe } => {
            if wipe {
                up::wipe(&project)
            } else {
                up::down(&project)
            }
        }
        Request::Status => {
            print_status(&project);
            Ok(())
        }
        Request::Logs { function } => logs::print(&project, function.as_deref()),
        Request::Token(arguments) => print_token(&project, arguments),
        Request::Psql { arguments } => open_database(&project, &arguments),
        Request::Break { service } => set_gate(&project, service, GateState::Shut),
        Request::Mend { service } => set_gate(&project, service, GateState::Open),
        Request::Sql { check } => sql::run(&project, if check { Queries::Check } else { Queries::Write }),
        Request::Openapi => openapi::write(&project),
        Request::Contract { examples, seed, operation } => {
            check_contract(&project, &ContractRequest { examples, seed, operation })
        }
        Request::Lint => lint::lint(&project),
        Request::Proof { seeds, base_seed, page } => prove(&project, &ProofRequest { seeds, base_seed, page }),
        Request::Soak { minutes } => soak(&project, minutes),
        Request::Fuzz { target, seconds, input } => fuzz(&project, &FuzzRequest { target, seconds, input }),
        Request::Mutants { files } => mutants::run_mutants(&project, &files),
        Request::Audit { database_url, tenant } => verify_audit(&project, &AuditRequest { database_url, tenant }),
        Request::Serve { ports } => {
            let ports: Ports = serde_json::from_str(&ports).while_doing("reading ports")?;
            serve::serve(&project, &ports)
        }
    }
}

fn print_status(project: &Project) {
    let state = State::read(project);
    let line = |name: &str, address: Option<String>| match address {
        Some(address) => println!("{name:<10} {address}"),
        None => println!("{name:<10} down"),
    };
    let servers = state.servers.as_ref().filter(|servers| servers.is_alive());
    line(
        "postgres",
        state.postgres.as_ref().filter(|postgres| postgres.is_alive()).map(|postgres| postgres.url(postgres::DATABASE)),
    );
    line("emulator", state.emulator.as_ref().filter(|emulator| emulator.is_alive()).map(|emulator| emulator.url()));
    line("mailbox", state.mailbox.as_ref().filter(|mailbox| mailbox.is_alive()).map(|mailbox| mailbox.url()));
    line("api", servers.map(serve::Servers::api_url));
    line("ses", servers.map(serve::Servers::ses_url));
    line("issuer", servers.map(serve::Servers::issuer_url));
    if servers.is_some() && state.deployed.is_none() {
        println!("nothing is deployed; run `cargo local up`");
    }
}

fn print_token(project: &Project, arguments: TokenArguments) -> Outcome<()> {
    let stack = Stack::read(project)?;
    let request = arguments.request(&stack.tenant_id, &stack.other_tenant_id);
    println!("{}", running(project)?.token(&request)?);
    Ok(())
}

/// Becomes `psql`, whose exit code is this command's.
fn open_database(project: &Project, arguments: &[String]) -> Outcome<()> {
    let postgres = State::read(project).postgres.filter(postgres::Postgres::is_alive).ok_or_else(not_up)?;
    Err(postgres.open().args(arguments).exec()).while_doing("running psql")
}

fn set_gate(project: &Project, service: Service, state: GateState) -> Outcome<()> {
    let Service::Sqs = service;
    running(project)?.set_gate(state)?;
    match state {
        GateState::Shut => println!("the functions cannot reach SQS; `cargo local mend sqs` ends this"),
        GateState::Open => println!("the functions can reach SQS"),
    }
    Ok(())
}

fn running(project: &Project) -> Outcome<serve::Servers> {
    State::read(project).servers.filter(serve::Servers::is_alive).ok_or_else(not_up)
}

fn not_up() -> Failure {
    Failure::new("the stack is not up").with_advice("Run `cargo local up` first.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_both_pairs_of_dashes_goes_to_the_tests_themselves() {
        let words = ["cargo local", "test", "--", "--", "--skip", "rows::"];
        let Request::Test { arguments } = Arguments::parse_from(words).command else { panic!("it is `test`") };
        assert_eq!(arguments, ["--", "--skip", "rows::"]);
    }
}
