//! Brings the stack up: installs, builds, starts, deploys, migrates, seeds; each only where something has changed.

use std::thread;

use crate::aws::Aws;
use crate::deploy::{self, Parameters, STACK};
use crate::emulator::{ACCOUNT, Emulator, REGION};
use crate::failure::{Failure, Outcome, While};
use crate::functions;
use crate::issuer::{Issuer, TokenRequest};
use crate::logs;
use crate::mailbox::Mailbox;
use crate::postgres::{self, ADMIN, Postgres};
use crate::process::keep_or_choose_port;
use crate::progress::Progress;
use crate::project::{FUNCTIONS, Project};
use crate::python::Environment;
use crate::seed::{self, DEFAULT_SENDER, SENDER_DOMAINS, Seed};
use crate::serve::{Ports, Servers};
use crate::ses::EventSink;
use crate::stack::{SecretArns, Stack};
use crate::state::{Lock, Passwords, Running, State};

/// Batches in work at once: enough that a slow test does not hold the others up.
const PROCESSOR_CONCURRENCY: &str = "10";

/// Brings the whole stack up and returns its page.
///
/// Errors: the first step that failed, with what to do.
pub fn up(project: &Project, progress: &Progress) -> Outcome<Stack> {
    project.make_folders()?;
    let _lock = Lock::take(project)?;
    let mut state = State::read(project);
    install_and_build(project, progress)?;
    let result = start_and_deploy(project, progress, &mut state);
    state.write(project)?;
    result
}

/// Ends everything that runs.
///
/// Errors: the memory cannot be written.
pub fn down(project: &Project) -> Outcome<()> {
    project.make_folders()?;
    let _lock = Lock::take(project)?;
    let mut state = State::read(project);
    save_logs(project, &state);
    state.end_all();
    for file in [project.stack_file(), project.env_file()] {
        if file.exists() {
            std::fs::remove_file(&file).while_doing(format_args!("removing {}", file.display()))?;
        }
    }
    state.write(project)
}

/// Ends everything that runs and removes the database's content.
///
/// Errors: a folder cannot be removed.
pub fn wipe(project: &Project) -> Outcome<()> {
    down(project)?;
    postgres::remove_data(project)?;
    let mut state = State::read(project);
    state.seeded = None;
    state.write(project)
}

/// Brings up Postgres alone, for what needs no more.
///
/// Errors: it cannot be installed or started.
pub fn up_postgres(project: &Project, progress: &Progress) -> Outcome<Postgres> {
    project.make_folders()?;
    let _lock = Lock::take(project)?;
    let mut state = State::read(project);
    let environment = Environment::of_stack(project);
    install_stack_environment(&environment, progress)?;
    let postgres = start_postgres(project, &environment, progress, &mut state);
    state.write(project)?;
    postgres
}

/// The emulator forgets the functions' logs when it ends; whoever looks for a cause afterwards finds them here.
fn save_logs(project: &Project, state: &State) {
    if let Some(emulator) = state.emulator.as_ref().filter(|emulator| emulator.is_alive())
        && let Ok(lines) = logs::read(&Aws::new(emulator.url()), &FUNCTIONS)
    {
        // A log that cannot be kept must not keep the stack from ending.
        let _ = std::fs::write(project.log("functions"), lines.join("\n") + "\n");
    }
}

/// Ends what runs now and did not run `before`.
///
/// Errors: the memory cannot be written.
pub fn down_to(project: &Project, before: Running) -> Outcome<()> {
    match before {
        Running::Everything => Ok(()),
        Running::Nothing => down(project),
        Running::Postgres => {
            let _lock = Lock::take(project)?;
            let mut state = State::read(project);
            save_logs(project, &state);
            let postgres = state.postgres.take();
            state.end_all();
            state.postgres = postgres;
            state.write(project)
        }
    }
}

fn install_stack_environment(environment: &Environment, progress: &Progress) -> Outcome<()> {
    if !environment.is_ready() {
        progress.say("installing Postgres, Node and the emulator (Python packages, about half a minute) …");
        environment.install()?;
        progress.say("Postgres, Node and the emulator are installed");
    }
    Ok(())
}

/// Packages are fetched while the compiler works; together they take as long as the compiler alone.
fn install_and_build(project: &Project, progress: &Progress) -> Outcome<()> {
    let stack = Environment::of_stack(project);
    let tools = Environment::of_tools(project);
    thread::scope(|scope| {
        let packages = scope.spawn(|| -> Outcome<()> {
            install_stack_environment(&stack, progress)?;
            Mailbox::install(project, &stack)?;
            Issuer::make_key(&stack, &project.local().join("issuer.json"))?;
            if !tools.is_ready() {
                progress.say("installing cargo-lambda and the template's linters (about a minute) …");
                tools.install()?;
                progress.say("cargo-lambda and the template's linters are installed");
            }
            Ok(())
        });
        let built = functions::build(project, progress);
        let installed = packages.join().unwrap_or_else(|_| Err(Failure::new("installing packages ended in a panic")));
        built?;
        installed
    })?;
    progress.say("the functions are built");
    Ok(())
}

fn start_postgres(
    project: &Project,
    environment: &Environment,
    progress: &Progress,
    state: &mut State,
) -> Outcome<Postgres> {
    if let Some(postgres) = &state.postgres
        && postgres.is_alive()
    {
        return Ok(postgres.clone());
    }
    let postgres = Postgres::start(project, environment, state.last_ports.postgres)?;
    state.last_ports.postgres = Some(postgres.port());
    state.postgres = Some(postgres.clone());
    // Written after each start: whoever ends this command in the middle can still end what it started.
    state.write(project)?;
    progress.say(&format!("Postgres runs on port {}", postgres.port()));
    Ok(postgres)
}

fn start_and_deploy(project: &Project, progress: &Progress, state: &mut State) -> Outcome<Stack> {
    let environment = Environment::of_stack(project);
    let postgres = start_postgres(project, &environment, progress, state)?;
    start_rest(project, &environment, progress, state)?;
    let (Some(emulator), Some(mailbox), Some(servers)) = (&state.emulator, &state.mailbox, &state.servers) else {
        return Err(Failure::new("a part of the stack did not start"));
    };
    let aws = Aws::new(emulator.url());

    let passwords = state.passwords.get_or_insert_with(Passwords::random);
    postgres.prepare_admin(&passwords.admin)?;
    let secrets = SecretArns {
        admin: aws.set_secret("harkara/admin", &postgres.user_url(ADMIN, &passwords.admin))?,
        api: aws.set_secret("harkara/api", &postgres.user_url("harkara_api", &passwords.api))?,
        worker: aws.set_secret("harkara/worker", &postgres.user_url("harkara_worker", &passwords.worker))?,
    };

    let parameters = parameters(servers, &secrets);
    let template = project.root().join("template.yaml");
    let text = std::fs::read_to_string(&template).while_doing("reading template.yaml")?;
    let binaries =
        functions::fingerprint_of_all(project).ok_or_else(|| Failure::new("a function's binary is missing"))?;
    let wanted =
        crate::fingerprint::of_parts([text.as_bytes(), format!("{parameters:?}").as_bytes(), binaries.as_bytes()]);
    let seed = Seed::read(project)?;
    let seed_wanted = format!("{}-{}", seed.fingerprint, postgres.data().display());
    let is_deployed = state.deployed.as_ref() == Some(&wanted);
    if is_deployed
        && let Ok(stack) = Stack::read(project)
        && state.seeded.as_ref() == Some(&seed_wanted)
    {
        progress.say("everything is up to date");
        return Ok(stack);
    }

    let packages = functions::zip_all(project)?;
    let outputs = deploy::deploy(project, &aws, &packages, &parameters)?;
    servers.set_api(outputs.get("ApiId")?)?;
    let feedback_queue_url = outputs.get("FeedbackQueueUrl")?.to_owned();
    servers.set_event_sink(&EventSink { endpoint: emulator.url(), queue_url: feedback_queue_url.clone() })?;
    progress.say("template.yaml is deployed");

    let answer = aws.invoke(outputs.get("MigrateFunctionName")?, &seed.migrate_event()).map_err(|failure| {
        failure.with_advice("If a migration was edited after it was applied here, `cargo local down --wipe` begins with an empty database.")
    })?;
    let applied = answer["applied"].as_array().map_or(0, Vec::len);
    progress.say(&format!("the database is migrated ({applied} migrations were new)"));

    forget_lost_keys(&postgres, outputs.get("DataKeyArn")?, &mut state.data_key)?;

    let [first, other] = &seed.tenants;
    let stack = Stack {
        api_url: servers.api_url(),
        mailbox_url: mailbox.url(),
        database_url: postgres.url(postgres::DATABASE),
        aws_endpoint_url: emulator.url(),
        region: REGION.to_owned(),
        queue_url: outputs.get("QueueUrl")?.to_owned(),
        dlq_url: outputs.get("DeadLetterQueueUrl")?.to_owned(),
        feedback_queue_url,
        feedback_dlq_url: outputs.get("FeedbackDeadLetterQueueUrl")?.to_owned(),
        event_bus: outputs.get("EventBusName")?.to_owned(),
        token: servers.token(&TokenRequest::for_tenant(&first.id))?,
        tenant_id: first.id.clone(),
        other_token: servers.token(&TokenRequest::for_tenant(&other.id))?,
        other_tenant_id: other.id.clone(),
        ses_url: servers.ses_url(),
        sqs_url: servers.sqs_url(),
        issuer_url: servers.issuer_url(),
        configuration_set: outputs.get("ConfigurationSetName")?.to_owned(),
        function_prefix: STACK.to_owned(),
    };
    stack.write(project, &secrets, DEFAULT_SENDER)?;
    state.deployed = Some(wanted);

    if state.seeded.as_ref() != Some(&seed_wanted) {
        seed::put_all(&stack.api_url, first, &stack.token)?;
        seed::put_all(&stack.api_url, other, &stack.other_token)?;
        state.seeded = Some(seed_wanted);
        progress.say("two tenants have their categories, templates and recipients");
    }
    Ok(stack)
}

/// Drops the tenants' keys when the master key is another one: the emulator forgets its keys when it ends, and what they
/// wrapped can never be opened again. Tenants get new keys at first use; links in older mails are dead.
fn forget_lost_keys(postgres: &Postgres, data_key: &str, known: &mut Option<String>) -> Outcome<()> {
    if known.as_deref() != Some(data_key) {
        postgres.run_sql(postgres::DATABASE, "TRUNCATE harkara.link_keys, harkara.tenant_keys")?;
        *known = Some(data_key.to_owned());
    }
    Ok(())
}

/// Starts the emulator, the mailbox and the stack's own servers, as far as they do not run.
fn start_rest(project: &Project, environment: &Environment, progress: &Progress, state: &mut State) -> Outcome<()> {
    let last = state.last_ports.servers.clone();
    if !state.emulator.as_ref().is_some_and(Emulator::is_alive) {
        let emulator = Emulator::start(project, environment, last.as_ref().map(|ports| ports.emulator))?;
        progress.say(&format!("the emulator of AWS runs on port {}", emulator.port()));
        state.emulator = Some(emulator);
        state.deployed = None;
        state.write(project)?;
    }
    if !state.mailbox.as_ref().is_some_and(Mailbox::is_alive) {
        let mailbox = Mailbox::start(project, environment, last.as_ref().map(|ports| ports.mailbox))?;
        progress.say(&format!("the mailbox runs on port {}", mailbox.port()));
        state.mailbox = Some(mailbox);
        state.write(project)?;
    }
    let (Some(emulator), Some(mailbox)) = (&state.emulator, &state.mailbox) else {
        return Err(Failure::new("the emulator or the mailbox did not start"));
    };
    if !state.servers.as_ref().is_some_and(|servers| servers.serve(emulator.port(), mailbox.port())) {
        if let Some(outdated) = state.servers.take() {
            outdated.end();
        }
        let ports = Ports {
            issuer: keep_or_choose_port(last.as_ref().map(|ports| ports.issuer))?,
            api: keep_or_choose_port(last.as_ref().map(|ports| ports.api))?,
            ses: keep_or_choose_port(last.as_ref().map(|ports| ports.ses))?,
            sqs: keep_or_choose_port(last.as_ref().map(|ports| ports.sqs))?,
            emulator: emulator.port(),
            mailbox: mailbox.port(),
        };
        state.last_ports.servers = Some(ports.clone());
        let servers = Servers::start(project, ports)?;
        progress.say(&format!("the API's address is {}", servers.api_url()));
        state.servers = Some(servers);
        state.deployed = None;
        state.write(project)?;
    }
    Ok(())
}

fn parameters(servers: &Servers, secrets: &SecretArns) -> Parameters {
    let architecture = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        other => other,
    };
    let identities = SENDER_DOMAINS.map(|domain| format!("arn:aws:ses:{REGION}:{ACCOUNT}:identity/{domain}"));
    let senders = SENDER_DOMAINS.map(|domain| format!("*@{domain}"));
    vec![
        ("Architecture", architecture.to_owned()),
        ("JwtIssuer", servers.issuer_url()),
        ("PublicUrl", servers.api_url()),
        ("FromAddress", DEFAULT_SENDER.to_owned()),
        ("AllowedFromAddresses", senders.join(",")),
        ("SesIdentityArns", identities.join(",")),
        ("AdminDatabaseSecretArn", secrets.admin.clone()),
        ("ApiDatabaseSecretArn", secrets.api.clone()),
        ("WorkerDatabaseSecretArn", secrets.worker.clone()),
        ("ProcessorConcurrency", PROCESSOR_CONCURRENCY.to_owned()),
        ("SqsEndpointUrl", servers.sqs_url()),
        ("SesEndpointUrl", servers.ses_url()),
    ]
}
