//! The database and `domain` speak with the same words: each list stands in both, and is the same.

use super::refusal;
use adapters::store::audit::Operation;
use adapters::store::suppressions::SuppressionSource;
use domain::category::{
    Class, MAX_ATTEMPTS_DEFAULT, MAX_ATTEMPTS_LIMIT, Priority, RECONCILE_WINDOW_DEFAULT_SECONDS,
    RECONCILE_WINDOW_LIMIT_SECONDS, UnknownPolicy,
};
use domain::collection::{CollectionKind, CollectionOutcome};
use domain::deadline::{NotEscalated, Note, RungState, WhenPast};
use domain::delivery::{AttemptOutcome, Channel, DeliveryState};
use domain::escalation::EscalationState;
use domain::feedback::{Feedback, SuppressionReason};
use domain::job::{RunOutcome, Trigger};
use domain::link::LinkAction;
use domain::outcome::state_when_withdrawn;
use domain::preference::Cadence;
use domain::template::Kind;
use sqlx::PgPool;
use std::collections::{BTreeMap, BTreeSet};

type Words = BTreeSet<String>;

fn words<T: Copy>(all: &[T], print: impl Fn(T) -> &'static str) -> Words {
    all.iter().map(|value| print(*value).to_owned()).collect()
}

/// The literals of a constraint as Postgres prints it; a text array counts as its elements.
fn literals(definition: &str) -> Words {
    let quoted = definition.split('\'').skip(1).step_by(2);
    quoted.flat_map(|literal| literal.trim_matches(['{', '}']).split(',')).map(str::to_owned).collect()
}

/// The definitions of the checks whose names end like this, by `table.name`.
async fn read_checks(pool: &PgPool, ending: &str) -> BTreeMap<String, String> {
    let statement = "
        SELECT c.relname || '.' || k.conname, pg_get_constraintdef(k.oid)
        FROM pg_constraint k
        JOIN pg_class c ON c.oid = k.conrelid AND NOT c.relispartition
        WHERE k.connamespace = 'harkara'::regnamespace AND k.contype = 'c' AND k.conname LIKE '%' || $1";
    let rows: Vec<(String, String)> =
        sqlx::query_as(statement).bind(ending).fetch_all(pool).await.expect("the catalog answers");
    rows.into_iter().collect()
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn each_list_of_the_database_is_the_enum_of_domain(pool: PgPool) {
    let channels = words(Channel::SENDABLE, Channel::as_str);
    let mut all_channels = words(Channel::ALL, Channel::as_str);
    all_channels.insert("*".to_owned());
    let text = |list: &[&str]| -> Words { list.iter().map(|word| (*word).to_owned()).collect() };
    let requested = Trigger::Request { run: None, by: None };
    let expected = BTreeMap::from([
        ("action_link_uses.link_action_is_known", words(LinkAction::ALL, LinkAction::as_str)),
        ("attempts.feedback_is_known", words(Feedback::ALL, Feedback::as_str)),
        ("attempts.outcome_is_known", words(AttemptOutcome::ALL, AttemptOutcome::as_str)),
        // What a trigger can report: TG_OP, which is Postgres's word.
        ("audit_log.operation_is_known", words(Operation::ALL, Operation::as_str)),
        ("categories.channels_are_known", channels.clone()),
        ("categories.class_is_known", words(Class::ALL, Class::as_str)),
        ("categories.unknown_policy_is_known", words(UnknownPolicy::ALL, UnknownPolicy::as_str)),
        ("categories.digest_cadence_is_known", words(Cadence::PERIODIC, Cadence::as_str)),
        ("collections.collection_kind_is_known", words(CollectionKind::ALL, CollectionKind::as_str)),
        ("collections.collection_outcome_is_known", words(CollectionOutcome::ALL, CollectionOutcome::as_str)),
        ("consents.channel_is_known", all_channels.clone()),
        ("deadlines.escalation_note_is_known", words(NotEscalated::ALL, NotEscalated::as_str)),
        ("deadlines.when_past_is_known", words(WhenPast::ALL, WhenPast::as_str)),
        ("deliveries.channel_is_known", channels.clone()),
        ("deliveries.state_is_known", words(DeliveryState::ALL, DeliveryState::as_str)),
        ("deliveries.unknown_policy_is_known", words(UnknownPolicy::ALL, UnknownPolicy::as_str)),
        ("digest_entries.cadence_is_known", words(Cadence::ALL, Cadence::as_str)),
        (
            "job_runs.cause_is_known",
            [Trigger::Schedule, requested].iter().map(|trigger| trigger.as_str().to_owned()).collect(),
        ),
        ("job_runs.run_outcome_is_known", words(RunOutcome::ALL, RunOutcome::as_str)),
        ("escalations.escalation_state_is_known", words(EscalationState::ALL, EscalationState::as_str)),
        ("notifications.priority_is_known", words(Priority::ALL, Priority::as_str)),
        ("preferences.cadence_is_known", words(Cadence::ALL, Cadence::as_str)),
        ("preferences.channel_is_known", all_channels),
        ("rungs.rung_note_is_known", words(Note::ALL, Note::as_str)),
        ("rungs.rung_state_is_known", words(RungState::ALL, RungState::as_str)),
        ("suppressions.suppression_reason_is_known", words(SuppressionReason::ALL, SuppressionReason::as_str)),
        ("suppressions.suppression_source_is_known", words(SuppressionSource::ALL, SuppressionSource::as_str)),
        ("template_versions.channel_is_known", channels),
        ("templates.template_kind_is_known", words(&Kind::ALL, Kind::as_str)),
        // Set by an operator's hand only; `enqueue` asks whether it is active.
        ("tenants.state_is_known", text(&["active", "suspended"])),
    ]);
    let mut found = read_checks(&pool, "\\_is\\_known").await;
    found.extend(read_checks(&pool, "\\_are\\_known").await);
    let found: BTreeMap<_, _> = found.iter().map(|(name, check)| (name.as_str(), literals(check))).collect();
    assert_eq!(found, expected, "a list that is new in the database belongs here, beside its enum");
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn exactly_the_open_states_are_due(pool: PgPool) {
    let checks = read_checks(&pool, "open_delivery_is_due").await;
    let found = literals(&checks["deliveries.open_delivery_is_due"]);
    let open = DeliveryState::ALL.iter().copied().filter(|state| state.is_open());
    // A dead delivery is due until its message is in the dead-letter queue.
    let expected: Words = open.chain([DeliveryState::Dead]).map(|state| state.as_str().to_owned()).collect();
    assert_eq!(found, expected);
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_database_allows_exactly_the_transitions_of_domain(pool: PgPool) {
    let names: Vec<_> = DeliveryState::ALL.iter().map(|state| state.as_str()).collect();
    let statement = "
        SELECT old, new FROM unnest($1::text[]) old CROSS JOIN unnest($1::text[]) new
        WHERE harkara.may_become(old, new)";
    let allowed: BTreeSet<(String, String)> = sqlx::query_as(statement)
        .bind(&names)
        .fetch_all(&pool)
        .await
        .expect("every state is a text")
        .into_iter()
        .collect();
    let pairs = DeliveryState::ALL.iter().flat_map(|old| DeliveryState::ALL.iter().map(move |new| (*old, *new)));
    let expected: BTreeSet<_> = pairs
        .filter(|(old, new)| old.may_become(*new))
        .map(|(old, new)| (old.as_str().to_owned(), new.as_str().to_owned()))
        .collect();
    assert_eq!(allowed, expected);
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_database_gives_up_what_was_withdrawn_as_domain_does(pool: PgPool) {
    let statement = "SELECT harkara.state_after(harkara.now(), $1, $2), harkara.state_after(NULL, $1, $2)";
    for &state in DeliveryState::ALL {
        for &outcome in AttemptOutcome::ALL {
            let found: (String, String) = sqlx::query_as(statement)
                .bind(state.as_str())
                .bind(outcome.as_str())
                .fetch_one(&pool)
                .await
                .expect("every state is a text");
            let expected = (state_when_withdrawn(state, outcome).to_string(), state.to_string());
            assert_eq!(found, expected, "{state} after {outcome}");
        }
    }
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn feedback_gets_stronger_in_the_order_of_domain_and_never_weaker(pool: PgPool) {
    let insert = "
        INSERT INTO harkara.attempts (tenant_id, attempt_id, delivery_id, attempt_number, feedback, feedback_at)
        VALUES ('00000000-0000-0000-0000-000000000000', gen_random_uuid(), gen_random_uuid(), 1, $1, harkara.now())
        RETURNING attempt_id";
    let update = "UPDATE harkara.attempts SET feedback = $2 WHERE attempt_id = $1";
    for old in Feedback::ALL {
        for new in Feedback::ALL {
            let attempt: uuid::Uuid =
                sqlx::query_scalar(insert).bind(old.as_str()).fetch_one(&pool).await.expect("an attempt");
            let result = sqlx::query(update).bind(attempt).bind(new.as_str()).execute(&pool).await;
            if new >= old {
                assert!(result.is_ok(), "{old} to {new}: {result:?}");
            } else {
                assert_eq!(
                    refusal(result),
                    ("23514".to_owned(), "feedback_gets_stronger".to_owned()),
                    "{old} to {new}"
                );
            }
        }
    }
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_state_that_nobody_knows_leads_nowhere(pool: PgPool) {
    let statement = "SELECT harkara.may_become('lost', 'queued') OR harkara.may_become('queued', 'lost')";
    let allowed: bool = sqlx::query_scalar(statement).fetch_one(&pool).await.expect("an answer");
    assert!(!allowed);
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_category_that_does_not_say_gets_the_defaults_of_domain(pool: PgPool) {
    let statement = "
        INSERT INTO harkara.categories (tenant_id, category_key, class)
        VALUES ('00000000-0000-0000-0000-000000000000', 'plain', 'transactional')
        RETURNING max_attempts, unknown_policy, reconcile_window_seconds, channels";
    let (max_attempts, unknown_policy, window, channels): (i32, String, i32, Vec<String>) =
        sqlx::query_as(statement).fetch_one(&pool).await.expect("a category");
    assert_eq!(max_attempts.cast_unsigned(), MAX_ATTEMPTS_DEFAULT);
    assert_eq!(unknown_policy, UnknownPolicy::AtLeastOnce.as_str());
    assert_eq!(window.cast_unsigned(), RECONCILE_WINDOW_DEFAULT_SECONDS);
    assert_eq!(channels, [Channel::Email.as_str()]);
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_limits_of_domain_are_the_databases(pool: PgPool) {
    let statement = "
        INSERT INTO harkara.categories (tenant_id, category_key, class, max_attempts, reconcile_window_seconds)
        VALUES ('00000000-0000-0000-0000-000000000000', 'edge', 'transactional', $1, $2)
        ON CONFLICT (tenant_id, category_key) DO UPDATE SET max_attempts = excluded.max_attempts";
    let (attempts, window) = (MAX_ATTEMPTS_LIMIT.cast_signed(), RECONCILE_WINDOW_LIMIT_SECONDS.cast_signed());
    for (attempts, window, broken) in [
        (attempts, window, None),
        (1, 0, None),
        (attempts + 1, window, Some("max_attempts_is_bounded")),
        (0, window, Some("max_attempts_is_bounded")),
        (attempts, window + 1, Some("reconcile_window_is_bounded")),
        (attempts, -1, Some("reconcile_window_is_bounded")),
    ] {
        let result = sqlx::query(statement).bind(attempts).bind(window).execute(&pool).await;
        match broken {
            None => assert!(result.is_ok(), "{attempts} attempts and {window} seconds: {result:?}"),
            Some(constraint) => assert_eq!(refusal(result), ("23514".to_owned(), constraint.to_owned())),
        }
    }
}
