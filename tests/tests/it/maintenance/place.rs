//! A run of retention goes on where it stopped, however many cannot go yet and stand before those that can.

use super::{DAY, HISTORY};
use sqlx::{PgConnection, PgPool};
use tests::{Stage, TENANT};

/// Notifications of the first tenant, a second apart and all past their time: the older ones are to be sent in two months,
/// the others have ended.
async fn seed(connection: &mut PgConnection, waiting: i32, ended: i32) {
    for statement in [
        // Neither audited nor checked against other tables: it is the number of rows that counts.
        "SET LOCAL session_replication_role = replica",
        "INSERT INTO harkara.notifications
             (tenant_id, notification_id, category_key, email, template_key, send_at, data, created_at)
         SELECT $1::uuid, md5(n::text)::uuid, 'greeting', 'lin@example.org', 'greeting',
                harkara.now() + CASE WHEN n <= $2 THEN interval '60 days' ELSE interval '-400 days' END, '{}',
                harkara.now() - interval '400 days' + n * interval '1 second'
         FROM generate_series(1, $2 + $3) n",
        "INSERT INTO harkara.deliveries
             (tenant_id, delivery_id, notification_id, channel, state, max_attempts, not_before, due_at, sent_at, updated_at)
         SELECT $1::uuid, md5(n::text)::uuid, md5(n::text)::uuid, 'email', CASE WHEN n <= $2 THEN 'scheduled' ELSE 'sent' END, 3,
                harkara.now(), CASE WHEN n <= $2 THEN harkara.now() + interval '60 days' END,
                CASE WHEN n > $2 THEN harkara.now() END, harkara.now() - interval '399 days'
         FROM generate_series(1, $2 + $3) n",
        "SET LOCAL session_replication_role = origin",
        "ANALYZE harkara.notifications, harkara.deliveries",
    ] {
        let mut query = sqlx::query(statement);
        if statement.contains("$1") {
            query = query.bind(TENANT).bind(waiting).bind(ended);
        }
        query.execute(&mut *connection).await.expect("seeded");
    }
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_cannot_go_yet_is_read_once_in_a_run(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let mut transaction = stage.admin.begin().await.expect("a transaction");
    seed(&mut transaction, 3000, 600).await;
    let count_reads = "
        SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relid = 'harkara.notifications'::regclass";
    let before: i64 = sqlx::query_scalar(count_reads).fetch_one(&mut *transaction).await.expect("counted");
    let (mut after, mut deleted) = (serde_json::json!({}), 0);
    loop {
        let keep = "SELECT harkara.keep_retention($1::uuid, 20, $2)";
        let query = sqlx::query_scalar(keep).bind(TENANT).bind(&after);
        let answer: serde_json::Value = query.fetch_one(&mut *transaction).await.expect("kept");
        deleted += answer["notifications"].as_i64().expect("a count");
        after = answer["after"].clone();
        if answer["leaves_more"] == false {
            break;
        }
    }
    assert_eq!(deleted, 600);
    let reads: i64 = sqlx::query_scalar(count_reads).fetch_one(&mut *transaction).await.expect("counted");
    // One that goes is looked at, locked, deleted, and asked for by what referred to it.
    assert!(reads - before < 3000 + 600 * 8, "{} rows were read", reads - before);
    transaction.rollback().await.expect("undone");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn those_behind_more_than_one_call_looks_at_go_in_the_same_run(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let mut transaction = stage.admin.begin().await.expect("a transaction");
    seed(&mut transaction, 6000, 300).await;
    transaction.commit().await.expect("committed");
    let counts = stage.maintain().await;
    assert_eq!((counts.notifications, counts.failed, counts.is_cut_short), (300, 0, false), "{counts:?}");
    assert_eq!(stage.count(HISTORY).await, 2 * 6000, "what is to be sent stays");
    stage.pass(DAY).await;
    assert_eq!(stage.maintain().await.notifications, 0);
    stage.leave_work();
}

/// As the code did that knew of no place: in the time between a migration and the code that comes with it.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn who_knows_of_no_place_is_answered_as_before(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let mut transaction = stage.admin.begin().await.expect("a transaction");
    seed(&mut transaction, 10, 30).await;
    let mut went = Vec::new();
    for _ in 0..3 {
        let query = sqlx::query_scalar("SELECT harkara.keep_retention($1::uuid, 20)").bind(TENANT);
        let answer: serde_json::Value = query.fetch_one(&mut *transaction).await.expect("kept");
        went.push((answer["notifications"].as_i64(), answer["leaves_more"].as_bool()));
    }
    assert_eq!(went, [(Some(20), Some(true)), (Some(10), Some(false)), (Some(0), Some(false))]);
    transaction.rollback().await.expect("undone");
    stage.finish().await;
}
