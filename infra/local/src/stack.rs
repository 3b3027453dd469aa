//! The page for scripts and tests: how to reach the running stack.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::emulator::REGION;
use crate::failure::{Failure, Outcome, While};
use crate::project::Project;
use crate::state::write_private;

/// `.local/stack.json`. Scripts outside the project rely on these names.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Stack {
    /// Base URL of the HTTP API, without `/v1` and without a slash at the end.
    pub api_url: String,
    /// The mailbox: a page for people, `/store` for programs.
    pub mailbox_url: String,
    /// The superuser's URL of the stack's database.
    pub database_url: String,
    /// The emulator, for every AWS service.
    pub aws_endpoint_url: String,
    /// The region of everything.
    pub region: String,
    /// The deliveries queue.
    pub queue_url: String,
    /// Its dead-letter queue.
    pub dlq_url: String,
    /// The queue of SES's events.
    pub feedback_queue_url: String,
    /// Its dead-letter queue.
    pub feedback_dlq_url: String,
    /// The project's bus.
    pub event_bus: String,
    /// A token of the first tenant with all scopes.
    pub token: String,
    /// The first tenant.
    pub tenant_id: String,
    /// A token of the second tenant with all scopes.
    pub other_token: String,
    /// The second tenant.
    pub other_tenant_id: String,
    /// The strict stand-in for SES: `GET /ledger`, `GET /events`, `POST /faults`.
    pub ses_url: String,
    /// The gate before SQS, as the functions see SQS.
    pub sqs_url: String,
    /// The issuer: `POST /token` signs any token, `PUT /gates/sqs` opens and shuts the gate before SQS.
    pub issuer_url: String,
    /// The configuration set of every mail.
    pub configuration_set: String,
    /// Functions are called this, a hyphen, and their name.
    pub function_prefix: String,
}

impl Stack {
    /// Reads the page of the running stack.
    ///
    /// Errors: the stack is not up.
    pub fn read(project: &Project) -> Outcome<Self> {
        let path = project.stack_file();
        let text = std::fs::read_to_string(&path)
            .map_err(|_| Failure::new("the stack is not up").with_advice("Run `cargo local up` first."))?;
        serde_json::from_str(&text).while_doing(format_args!("reading {}", path.display()))
    }

    /// Writes the page, and beside it the variables for running a function by hand.
    ///
    /// Errors: a file cannot be written.
    pub fn write(&self, project: &Project, secrets: &SecretArns, from_address: &str) -> Outcome<()> {
        let text = serde_json::to_string_pretty(self).while_doing("writing stack.json")?;
        write_private(&project.stack_file(), &(text + "\n")).while_doing("writing stack.json")?;
        let env = self.variables(project, secrets, from_address);
        write_private(&project.env_file(), &env).while_doing("writing .local/env")
    }

    fn variables(&self, project: &Project, secrets: &SecretArns, from_address: &str) -> String {
        let variables = [
            ("AWS_REGION", REGION),
            ("AWS_DEFAULT_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", crate::emulator::ACCOUNT),
            ("AWS_SECRET_ACCESS_KEY", "local"),
            ("AWS_ENDPOINT_URL", &self.aws_endpoint_url),
            ("AWS_ENDPOINT_URL_SQS", &self.sqs_url),
            ("AWS_ENDPOINT_URL_SESV2", &self.ses_url),
            ("QUEUE_URL", &self.queue_url),
            ("DLQ_URL", &self.dlq_url),
            ("EVENT_BUS_NAME", &self.event_bus),
            ("SES_CONFIGURATION_SET", &self.configuration_set),
            ("FROM_ADDRESS", from_address),
            ("API_DATABASE_SECRET_ARN", &secrets.api),
            ("WORKER_DATABASE_SECRET_ARN", &secrets.worker),
        ];
        let mut text = String::from(
            "# Variables of the running stack, for `cargo lambda watch` and `invoke`.\n\
             # Say which function will run, because each logs in to the database as its own role:\n\
             #   FUNCTION=processor . .local/env && cargo lambda watch --package processor\n",
        );
        for (name, value) in variables {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "export {name}='{value}'");
        }
        let tools = project.local().join("tools/bin");
        let _ = write!(
            text,
            "export PATH='{}':\"$PATH\"\n\
             case \"${{FUNCTION:-}}\" in\n\
             enqueue|api) export DATABASE_SECRET_ARN='{}' ;;\n\
             migrate) export DATABASE_SECRET_ARN='{}' ;;\n\
             *) export DATABASE_SECRET_ARN='{}' ;;\n\
             esac\n",
            tools.display(),
            secrets.api,
            secrets.admin,
            secrets.worker,
        );
        text
    }
}

/// The three secrets with database URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretArns {
    /// Of the user that migrates.
    pub admin: String,
    /// Of `harkara_api`.
    pub api: String,
    /// Of `harkara_worker`.
    pub worker: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_find_the_names_that_they_rely_on() {
        let names = [
            "api_url",
            "mailbox_url",
            "database_url",
            "aws_endpoint_url",
            "region",
            "queue_url",
            "dlq_url",
            "feedback_queue_url",
            "feedback_dlq_url",
            "event_bus",
            "token",
            "tenant_id",
            "other_token",
            "other_tenant_id",
            "ses_url",
            "sqs_url",
            "issuer_url",
            "configuration_set",
            "function_prefix",
        ];
        let page: serde_json::Map<String, serde_json::Value> =
            names.iter().map(|name| ((*name).to_owned(), (*name).into())).collect();
        let stack: Stack = serde_json::from_value(page.clone().into()).unwrap();
        assert_eq!(serde_json::to_value(stack).unwrap(), serde_json::Value::Object(page));
    }
}
