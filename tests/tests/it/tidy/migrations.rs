//! Migrations: named so that they sort and say what they do, and embedded as they are.

use super::sources::{list_files, read_text};
use adapters::store::migrations::MIGRATOR;

/// What a migration does first. A verb that is not here yet is welcome.
const VERBS: &[&str] = &[
    "add", "allow", "alter", "backfill", "chain", "change", "create", "drop", "grant", "index", "keep", "limit",
    "move", "remove", "rename", "require", "revoke", "set", "split", "validate",
];

fn list_migrations() -> Vec<String> {
    let files = list_files();
    let migrations: Vec<String> =
        files.iter().filter_map(|file| file.strip_prefix("migrations/")).map(str::to_owned).collect();
    assert!(!migrations.is_empty());
    migrations
}

#[test]
fn a_migration_is_named_by_its_time_and_what_it_does() {
    for migration in list_migrations() {
        let parts = migration.strip_suffix(".sql").and_then(|name| name.split_once('_'));
        let (time, words) = parts.unwrap_or_else(|| panic!("{migration} is not YYYYMMDDHHMMSS_verb_object.sql"));
        assert!(
            time.len() == 14 && time.bytes().all(|byte| byte.is_ascii_digit()),
            "{migration}: {time} has 14 digits"
        );
        let verb = words.split('_').next().expect("a first word");
        assert!(VERBS.contains(&verb), "{migration}: {verb} is no verb of {VERBS:?}");
        assert!(words.contains('_'), "{migration}: what does it {verb}?");
        assert!(words.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{migration}: small letters only");
    }
}

#[test]
fn every_migration_is_embedded_as_it_is() {
    let migrations = list_migrations();
    let embedded: Vec<_> = MIGRATOR.iter().collect();
    assert_eq!(embedded.len(), migrations.len(), "adapters/build.rs makes cargo look at migrations/ again");
    for (migration, name) in embedded.iter().zip(&migrations) {
        assert!(name.starts_with(&migration.version.to_string()), "{name} stands where {} is", migration.version);
        let text = read_text(&format!("migrations/{name}")).expect("SQL is text");
        assert_eq!(migration.sql.as_str(), text, "{name} is embedded as it was before");
    }
    let build = read_text("shared/adapters/build.rs").expect("a Rust source is text");
    assert!(
        build.contains("cargo:rerun-if-changed=../../migrations"),
        "without this a new migration is left out silently"
    );
}

#[test]
fn a_migration_goes_forward_only() {
    for migration in list_migrations() {
        assert!(
            !migration.ends_with(".down.sql") && !migration.ends_with(".up.sql"),
            "{migration}: expand, move, contract"
        );
    }
}

#[test]
fn a_migration_gives_itself_back() {
    for migration in list_migrations() {
        let text = read_text(&format!("migrations/{migration}")).expect("SQL is text");
        let takes = text.matches("SET LOCAL ROLE harkara_").count();
        let gives = text.matches("RESET ROLE;").count();
        assert_eq!(
            takes, gives,
            "{migration}: sqlx notes the migration in the same transaction, as whoever it is then"
        );
    }
}

#[test]
fn a_migration_holds_no_secret() {
    for migration in list_migrations() {
        let text = read_text(&format!("migrations/{migration}")).expect("SQL is text");
        let literal = text.match_indices("PASSWORD '").next();
        assert!(literal.is_none(), "{migration}: passwords come from Secrets Manager, when a deploy runs");
    }
}
