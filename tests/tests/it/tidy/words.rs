//! What may be written only in some places, or nowhere.

use super::sources::{Source, read_sources};

/// Words that may stand only where the reason says.
struct Rule {
    /// As [`Source::find`] takes them.
    phrases: &'static [&'static str],
    /// Where they may not stand; everywhere, when empty.
    scope: &'static [&'static str],
    /// Where they may stand all the same: folders, which end with a slash, and files.
    allowed: &'static [&'static str],
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        phrases: &["aws_sdk_*"],
        scope: &[],
        // The stand-in for SES is tried by the real client.
        allowed: &["shared/adapters/", "infra/local/tests/"],
        why: "only adapters speak to AWS; everybody else uses the ports of domain",
    },
    Rule {
        phrases: &["sqlx : :"],
        scope: &[],
        allowed: &["shared/adapters/src/store/", "tests/"],
        why: "only the store speaks SQL",
    },
    Rule {
        phrases: &["lambda_runtime", "lambda_http"],
        scope: &[],
        allowed: &["functions/", "tests/benches/hello/"],
        why: "only the shells know that they run on Lambda",
    },
    Rule {
        phrases: &["env : : var*", "env : : set_var", "env : : remove_var", "env : : args*"],
        scope: &[],
        // The local stack is a command, and reads its user's environment; tests read where the stack is.
        allowed: &["shared/adapters/src/env.rs", "infra/local/", "tests/"],
        why: "the environment is read once, at boot, through adapters::env, which names what is missing",
    },
    Rule {
        phrases: &[
            "Instant : : now",
            "SystemTime : : now",
            "Timestamp : : now",
            "Zoned : : now",
            "now_v*",
            "elapsed (",
        ],
        scope: &[],
        allowed: &[
            // Turns the invocation's deadline into a moment on the clock that never steps.
            "shared/adapters/src/clock.rs",
            // A version 7 UUID begins with the time, for the order of index pages and nothing else.
            "shared/adapters/src/ids.rs",
            // AWS checks a signature's time against its own clock.
            "shared/adapters/src/store/iam_token.rs",
            // How long ago a secret was fetched; it may be used for minutes only.
            "shared/adapters/src/envelope/memory.rs",
            // Only the wall clock notices that a sandbox was frozen, and its connections with it.
            "shared/adapters/src/ses.rs",
            // How much of the invocation is left; no time of the business.
            "shared/flow/src/domain_job.rs",
            "shared/flow/src/domain_job/candidates.rs",
            "shared/flow/src/feedback.rs",
            "shared/flow/src/job.rs",
            "shared/flow/src/maintenance.rs",
            "shared/flow/src/processor.rs",
            "shared/flow/src/time_left.rs",
            // How long ago a run has said how far it is.
            "shared/flow/src/progress.rs",
            // Measure, wait for servers, and sign tokens for the local stack.
            "infra/local/",
            "tests/",
        ],
        why: "the database's clock decides what is due; elsewhere `now` is an argument",
    },
    Rule {
        phrases: &["tokio : : spawn*", "task : : spawn*", "thread : : spawn*"],
        scope: &["shared/", "functions/"],
        allowed: &[],
        why: "a task that outlives its invocation is frozen with the sandbox, and may never go on; \
              await it, with bounded concurrency",
    },
    Rule {
        phrases: &["async", "tokio", "std : : fs", "std : : net", "std : : process", "std : : thread", "std : : env"],
        scope: &["shared/domain/"],
        // Reads how much memory rendering took.
        allowed: &["shared/domain/src/render/tests.rs"],
        why: "domain decides and does no I/O",
    },
    Rule {
        phrases: &["Serialize", "Deserialize", "serde : :"],
        scope: &["shared/", "functions/"],
        allowed: &[
            "shared/adapters/src/wire/",
            // What RDS keeps in a secret.
            "shared/adapters/src/store/logins.rs",
            // What the SQL functions of enqueue take and answer.
            "shared/adapters/src/store/enqueue.rs",
            "shared/adapters/src/store/enqueue/",
        ],
        why: "outside formats have types of their own in adapters::wire, and domain's are parsed from them",
    },
    Rule {
        phrases: &["trait"],
        scope: &["shared/", "functions/"],
        allowed: &["shared/domain/"],
        why: "a port is a trait of domain; nothing else is replaced in tests, Postgres least of all",
    },
    Rule {
        phrases: &["sqlx : : query* (", "sqlx : : raw_sql", "QueryBuilder"],
        scope: &["shared/"],
        // BEGIN, COMMIT and ROLLBACK, of which there is nothing to check.
        allowed: &["shared/adapters/src/store/database.rs"],
        why: "a query that the compiler does not check breaks in production; use sqlx::query!",
    },
    Rule {
        phrases: &["AssertSqlSafe"],
        scope: &[],
        // A setting of the database takes no parameter.
        allowed: &["tests/tests/matrix/rows/schedule.rs"],
        why: "SQL is not put together from strings",
    },
    Rule {
        phrases: &["todo !", "unimplemented !", "dbg !", "allow ( dead_code", "allow ( unused*"],
        scope: &[],
        allowed: &[],
        why: "finish it, or leave it out",
    },
    Rule {
        phrases: &["# [ ignore", "# [ should_panic ]"],
        scope: &[],
        allowed: &[],
        why: "a test that does not run promises nothing, and one that any panic satisfies next to nothing; \
              assert the wrong behaviour, with the reason",
    },
    Rule {
        phrases: &["sleep (", "sleep_until (", "interval ("],
        scope: &["tests/src/", "tests/tests/", "tests/scenarios/", "infra/local/tests/"],
        // A server that is really stopped is down for a while of real time.
        allowed: &["tests/tests/matrix/rows/outage.rs"],
        why: "a test that sleeps is slow on a good day and flaky on a bad one; move the database's time, or await \
              the condition",
    },
];

/// Where the rule's words stand, as `file:line: phrase`, with the source they are in.
fn find<'a>(rule: &Rule, sources: &'a [Source]) -> Vec<(&'a Source, String)> {
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| rule.scope.is_empty() || source.is_in(rule.scope)) {
        for phrase in rule.phrases {
            let lines = source.find(phrase);
            found.extend(lines.into_iter().map(|line| (source, format!("{}:{line}: {phrase}", source.path))));
        }
    }
    found
}

#[test]
fn words_stand_only_where_they_may() {
    let sources = read_sources();
    let mut broken = Vec::new();
    for rule in RULES {
        let places = find(rule, &sources).into_iter().filter(|(source, _)| !source.is_in(rule.allowed));
        broken.extend(places.map(|(_, place)| format!("{place}\n    {}", rule.why)));
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn an_exception_that_nothing_needs_is_taken_back() {
    let sources = read_sources();
    for rule in RULES {
        let found = find(rule, &sources);
        for allowed in rule.allowed {
            let is_needed = found.iter().any(|(source, _)| source.is_in(&[*allowed]));
            assert!(is_needed, "{allowed} has none of {:?}; remove the exception", rule.phrases);
        }
    }
}

/// In the texts themselves, because these are words of SQL.
#[test]
fn the_tenant_is_set_by_its_function_only() {
    let files = super::sources::list_files();
    let ours = files.iter().filter(|file| file.starts_with("shared/") || file.starts_with("functions/"));
    let mut looked_at = 0;
    for file in ours.filter(|file| file.ends_with(".rs") || file.ends_with(".sql")) {
        let text = super::sources::read_text(file).expect("a source is text");
        looked_at += usize::from(text.contains("harkara.enter_tenant"));
        for words in ["set_config(", "SET LOCAL ", "SET SESSION ", "SET ROLE ", "SET harkara."] {
            assert!(
                !text.contains(words),
                "{file}: {words}: RDS Proxy pins the session, and what is set may leak to its next user; \
                 call harkara.set_tenant in a transaction"
            );
        }
    }
    assert!(looked_at > 0, "the store sets the tenant");
}
