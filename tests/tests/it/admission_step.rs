//! `harkara.admit_sends` and the pure admission that the simulator runs: the same situation, and never a different answer.
//!
//! Situations are drawn from seeds. Each batch goes to Postgres first, whose clock then lies between two moments that
//! are known. The specification is asked at both, with both ends of what is drawn: where it says the same at both,
//! Postgres must say it too, with every time between the two answers. Where it does not, something came due meanwhile;
//! then the batch is rolled back and another is drawn.

use domain::delivery::Reason;
use domain::id::TenantId;
use jiff::{SignedDuration, Timestamp};
use proof::admission::{Account, Breaker, BreakerKey, Identity, Ready};
use proof::protocol::Verdict;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::{PgConnection, PgPool};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;
use uuid::Uuid;

/// Situations of each test.
const SITUATIONS: u64 = 60;
/// Batches of a situation: what one leaves meets the next.
const BATCHES: usize = 8;
/// Postgres keeps microseconds, and what it rounds adds up over a batch.
const ROUNDING: SignedDuration = SignedDuration::from_micros(50);
const TENANTS: u128 = 4;
const ADDRESSES: u32 = 6;

const REASONS: [Reason; 3] = [Reason::QuotaReached, Reason::SendingPaused, Reason::IdentityUnverified];

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_claims_admission_says_and_leaves_what_the_specification_does(pool: PgPool) {
    let mut seen = BTreeSet::new();
    add_tenants(&pool).await;
    for seed in 0..SITUATIONS {
        seen.extend(run_situation(&pool, seed).await);
    }
    let all = ["claim", "hold", "pace, new slot", "pace, no slot", "pace, old slot", "probe", "skip"];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), all, "what never came up was never compared");
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn nor_does_it_differ_in_situations_that_nobody_has_seen(pool: PgPool) {
    let base = u64::from(rand::random::<u32>());
    println!("situations {base} and the {SITUATIONS} after it");
    add_tenants(&pool).await;
    for seed in base..base + SITUATIONS {
        run_situation(&pool, seed).await;
    }
}

/// A delivery that is asked about.
#[derive(Clone, Debug)]
struct Asked {
    delivery: Uuid,
    tenant: TenantId,
    address: Option<String>,
    identity: Identity,
    is_sandbox: bool,
    slot_at: Option<Timestamp>,
}

/// What Postgres said of one delivery.
#[derive(Debug, sqlx::FromRow)]
struct Said {
    delivery_id: Uuid,
    verdict: String,
    reason: Option<String>,
    until: Option<jiff_sqlx::Timestamp>,
    slot_at: Option<jiff_sqlx::Timestamp>,
}

/// Suppressed addresses, by whom; `None` is the operator.
type Suppressions = HashMap<String, HashSet<Option<TenantId>>>;

/// What came up, by name.
async fn run_situation(pool: &PgPool, seed: u64) -> BTreeSet<&'static str> {
    let mut dice = StdRng::seed_from_u64(seed);
    let suppressions = begin_situation(pool, &mut dice).await;
    let mut waiting: Vec<Asked> = Vec::new();
    let mut seen = BTreeSet::new();
    let (mut compared, mut drawn) = (0, 0);
    while compared < BATCHES {
        drawn += 1;
        assert!(drawn <= 10 * BATCHES, "seed {seed}: only {compared} of {drawn} batches could be compared");
        let mut claim = pool.begin().await.expect("begun");
        let before = read_account(&mut claim, &suppressions).await;
        let earliest = read_clock(&mut claim, "SELECT harkara.now()").await;
        let batch = draw_batch(&mut dice, &waiting, earliest);
        let said = ask(&mut claim, &batch).await;
        let latest = read_clock(&mut claim, "SELECT harkara.clock()").await;
        let after = read_account(&mut claim, &suppressions).await;

        let Some((early, late)) = ask_specification(&before, &batch, earliest, latest) else {
            claim.rollback().await.expect("rolled back");
            continue;
        };
        let context =
            format!("seed {seed}, batch {compared}, at {earliest}: {batch:#?}\non {before:#?}\nsaid {said:#?}");
        assert_eq!(said.len(), batch.len(), "one answer for each: {context}");
        for (place, asked) in batch.iter().enumerate() {
            let said =
                said.iter().find(|said| said.delivery_id == asked.delivery).expect("an answer for what was asked");
            let name = compare_verdict(said, &early.verdicts[place], &late.verdicts[place], &context);
            seen.insert(if name == "claim" && meets_breaker(&before, asked) { "probe" } else { name });
            waiting.retain(|other| other.delivery != asked.delivery);
            if matches!(name, "hold" | "pace, new slot" | "pace, no slot" | "pace, old slot") {
                let slot_at = said.slot_at.filter(|_| name != "hold").map(|at| at.to_jiff());
                waiting.push(Asked { slot_at, ..asked.clone() });
            }
        }
        compare_account(&after, &early.account, &late.account, &context);
        if dice.random_bool(0.15) {
            claim.rollback().await.expect("rolled back");
            waiting.retain(|asked| batch.iter().all(|other| other.delivery != asked.delivery));
        } else {
            claim.commit().await.expect("committed");
        }
        compared += 1;
        let time = Duration::from_millis(draw_pause(&mut dice));
        tests::shift_time(pool, time).await;
    }
    seen
}

/// What the specification says at one moment, and leaves.
struct Specified {
    verdicts: Vec<Verdict>,
    account: Account,
}

/// What the specification says at both moments; `None` where it is not the same.
fn ask_specification(
    before: &Account,
    batch: &[Asked],
    earliest: Timestamp,
    latest: Timestamp,
) -> Option<(Specified, Specified)> {
    let ready: Vec<Ready<'_>> = batch
        .iter()
        .map(|asked| Ready {
            tenant: asked.tenant,
            address: asked.address.as_deref(),
            identity: asked.identity,
            is_sandbox: asked.is_sandbox,
            slot_at: asked.slot_at,
        })
        .collect();
    let specify = |now: Timestamp, draw: f64| {
        let mut account = before.clone();
        let verdicts = account.admit(&ready, now, || draw);
        Specified { verdicts, account }
    };
    let (early, late) = (specify(earliest, 0.0), specify(latest, 1.0));
    // What comes due meanwhile may change nothing but the place in line, or the breaker that counts what it holds.
    let is_alike = early.verdicts.iter().map(kind_of).eq(late.verdicts.iter().map(kind_of))
        && kept_of_breakers(&early.account) == kept_of_breakers(&late.account);
    is_alike.then_some((early, late))
}

/// What a verdict is, but for its times.
fn kind_of(verdict: &Verdict) -> (&'static str, Option<Reason>) {
    match verdict {
        Verdict::Claim => ("claim", None),
        Verdict::Skip => ("skip", None),
        Verdict::Hold { reason, .. } => ("hold", Some(*reason)),
        Verdict::Pace { slot_at: None, .. } => ("pace, no slot", None),
        Verdict::Pace { until, slot_at: Some(slot_at) } if slot_at == until => ("pace, new slot", None),
        Verdict::Pace { .. } => ("pace, old slot", None),
    }
}

/// What a breaker keeps, but for its next probe.
fn kept_of_breakers(account: &Account) -> BTreeMap<BreakerKey, (Reason, Timestamp, u32, u32)> {
    let kept = |it: &Breaker| (it.reason, it.failed_at, it.failure_count, it.held_count);
    account.breakers.iter().map(|(key, breaker)| (*key, kept(breaker))).collect()
}

/// Whether a breaker concerns a delivery: if it is claimed all the same, then as the probe.
fn meets_breaker(before: &Account, asked: &Asked) -> bool {
    let keys = [BreakerKey::Account, BreakerKey::Identity(asked.identity)];
    !asked.is_sandbox && keys.iter().any(|key| before.breakers.contains_key(key))
}

/// Holds what Postgres said of a delivery to what the specification says: the name of what it is.
fn compare_verdict(said: &Said, early: &Verdict, late: &Verdict, context: &str) -> &'static str {
    let (kind, reason) = kind_of(early);
    let what = format!("{said:?} between {early:?} and {late:?}; {context}");
    assert_eq!(Some(said.verdict.as_str()), kind.split(',').next(), "verdict: {what}");
    assert_eq!(said.reason.as_deref(), reason.map(Reason::as_str), "reason: {what}");
    let until = said.until.map(|at| at.to_jiff());
    match (early, late) {
        (Verdict::Hold { until: from, .. }, Verdict::Hold { until: to, .. }) => {
            assert!(is_between(until.expect("a time"), *from, *to), "until: {what}");
            kind
        }
        (Verdict::Pace { until: from, slot_at: first }, Verdict::Pace { until: to, slot_at: last }) => {
            assert!(is_between(until.expect("a time"), *from, *to), "until: {what}");
            let slot_at = said.slot_at.map(|at| at.to_jiff());
            assert_eq!(slot_at.is_some(), first.is_some(), "slot_at: {what}");
            let (Some(slot_at), Some(first), Some(last)) = (slot_at, first, last) else { return kind };
            assert!(is_between(slot_at, *first, *last), "slot_at: {what}");
            assert_eq!(Some(slot_at) == until, kind == "pace, new slot", "a new place in line: {what}");
            kind
        }
        _ => {
            assert_eq!(until, None, "until: {what}");
            kind
        }
    }
}

/// Holds what Postgres left to what the specification leaves.
fn compare_account(after: &Account, early: &Account, late: &Account, context: &str) {
    let what = format!("left {after:#?}\nbetween {early:#?}\nand {late:#?}\n{context}");
    let is_right = |at: fn(&Account) -> Timestamp| is_between(at(after), at(early), at(late));
    assert!(is_right(|account| account.next_send_at), "next_send_at: {what}");
    assert!(is_right(|account| account.line_ends_at), "line_ends_at: {what}");

    let names: BTreeSet<_> = early.tenants.keys().chain(after.tenants.keys()).collect();
    for name in names {
        let times = (after.tenants.get(name), early.tenants.get(name), late.tenants.get(name));
        let (Some(at), Some(from), Some(to)) = times else { panic!("the pace of {name}: {what}") };
        assert!(is_between(*at, *from, *to), "the pace of {name}: {what}");
    }

    assert_eq!(kept_of_breakers(after), kept_of_breakers(early), "breakers: {what}");
    for (key, breaker) in &after.breakers {
        let is_right = is_between(breaker.retry_at, early.breakers[key].retry_at, late.breakers[key].retry_at);
        assert!(is_right, "retry_at of {key:?}: {what}");
    }
}

fn is_between(at: Timestamp, from: Timestamp, to: Timestamp) -> bool {
    from - ROUNDING <= at && at <= to + ROUNDING
}

fn tenant(number: u128) -> TenantId {
    TenantId::from_uuid(Uuid::from_u128(0xad00 + number))
}

fn address(number: u32) -> String {
    format!("r{number}@example.org")
}

/// As `deliveries` shows a sender, and a breaker's key after its colon.
fn identity_name(identity: Identity) -> String {
    match identity {
        Identity::Default => "default".to_owned(),
        Identity::Of(tenant) => format!("{}@example.com", tenant.as_uuid()),
    }
}

fn identities() -> Vec<Identity> {
    (0..TENANTS).map(|number| Identity::Of(tenant(number))).chain([Identity::Default]).collect()
}

fn key_name(key: BreakerKey) -> String {
    match key {
        BreakerKey::Account => "account".to_owned(),
        BreakerKey::Identity(identity) => format!("identity:{}", identity_name(identity)),
    }
}

fn keys() -> impl Iterator<Item = BreakerKey> {
    identities().into_iter().map(BreakerKey::Identity).chain([BreakerKey::Account])
}

async fn add_tenants(pool: &PgPool) {
    for number in 0..TENANTS {
        sqlx::query("INSERT INTO harkara.tenants (tenant_id, name) VALUES ($1, 'drawn')")
            .bind(tenant(number).as_uuid())
            .execute(pool)
            .await
            .expect("added");
    }
}

/// Draws what there is before the first batch: the pace, breakers, suppressions.
async fn begin_situation(pool: &PgPool, dice: &mut StdRng) -> Suppressions {
    for clearing in [
        "DELETE FROM harkara.breakers",
        "DELETE FROM harkara.suppressions",
        "DELETE FROM harkara.send_pace WHERE tenant_id <> '00000000-0000-0000-0000-000000000000'",
    ] {
        sqlx::query(clearing).execute(pool).await.expect("nothing is left");
    }
    let rate = match dice.random_range(0..8) {
        0 => None,
        // Where turns and bursts end within a batch.
        1..5 => Some(dice.random_range(1..20)),
        _ => Some(dice.random_range(1..=200)),
    };
    sqlx::query(
        "UPDATE harkara.send_pace SET sends_per_second = $1,
             next_send_at = coalesce(harkara.clock() + make_interval(secs => $2), '-infinity'),
             line_ends_at = coalesce(harkara.clock() + make_interval(secs => $3), '-infinity')
         WHERE tenant_id = '00000000-0000-0000-0000-000000000000'",
    )
    .bind(rate)
    .bind(draw_seconds(dice, 0.8, -2.0..4.0))
    .bind(draw_seconds(dice, 0.6, -3.0..12.0))
    .execute(pool)
    .await
    .expect("the account's pace");
    for number in 0..TENANTS {
        let Some(seconds) = draw_seconds(dice, 0.6, -4.0..14.0) else { continue };
        sqlx::query(
            "INSERT INTO harkara.send_pace (tenant_id, next_send_at)
             VALUES ($1, harkara.clock() + make_interval(secs => $2))",
        )
        .bind(tenant(number).as_uuid())
        .bind(seconds)
        .execute(pool)
        .await
        .expect("a tenant's pace");
    }
    // Otherwise everything would be held almost always.
    let (account, sender) = [(0.0, 0.0), (0.0, 0.4), (0.5, 0.4)][dice.random_range(0..3)];
    for key in keys() {
        if !dice.random_bool(if key == BreakerKey::Account { account } else { sender }) {
            continue;
        }
        sqlx::query(
            "INSERT INTO harkara.breakers
                 (tenant_id, breaker_key, reason, opened_at, failed_at, failure_count, retry_at, held_count)
             VALUES ('00000000-0000-0000-0000-000000000000', $1, $2, harkara.now(), harkara.now(), $3,
                     harkara.clock() + make_interval(secs => $4), $5)",
        )
        .bind(key_name(key))
        .bind(REASONS[dice.random_range(0..REASONS.len())].as_str())
        .bind(dice.random_range(1..5))
        .bind(draw_seconds(dice, 1.0, -20.0..20.0))
        .bind(dice.random_range(0..300))
        .execute(pool)
        .await
        .expect("a breaker");
    }
    let mut suppressions = Suppressions::new();
    for number in 0..ADDRESSES {
        for by in (0..TENANTS).map(|number| Some(tenant(number))).chain([None]) {
            if !dice.random_bool(0.06) {
                continue;
            }
            sqlx::query(
                "INSERT INTO harkara.suppressions (tenant_id, address, reason, source) VALUES ($1, $2, 'manual', 'api')",
            )
            .bind(by.map_or(Uuid::nil(), TenantId::as_uuid))
            .bind(address(number))
            .execute(pool)
            .await
            .expect("a suppression");
            suppressions.entry(address(number)).or_default().insert(by);
        }
    }
    suppressions
}

/// A time from now, in whole milliseconds; `None` where there is none.
fn draw_seconds(dice: &mut StdRng, chance: f64, range: std::ops::Range<f64>) -> Option<f64> {
    let seconds = (dice.random_range(range) * 1000.0).round() / 1000.0;
    dice.random_bool(chance).then_some(seconds)
}

/// What passes between two batches: nothing, little, or more than any promise.
fn draw_pause(dice: &mut StdRng) -> u64 {
    match dice.random_range(0..10) {
        0..3 => 0,
        3..7 => dice.random_range(1..1_500),
        7..9 => dice.random_range(1..8_000),
        _ => dice.random_range(1..60_000),
    }
}

/// Deliveries in the order of their ids, some of which were asked about before.
fn draw_batch(dice: &mut StdRng, waiting: &[Asked], now: Timestamp) -> Vec<Asked> {
    let again = dice.random_range(0.0..1.0);
    let mut batch: Vec<Asked> = waiting.iter().filter(|_| dice.random_bool(again)).take(12).cloned().collect();
    // Some tenants ask for more than others.
    let busy = dice.random_range(0..TENANTS);
    let is_crowd = dice.random_bool(0.5);
    for _ in 0..dice.random_range(1..=20 - batch.len()) {
        let of = tenant(if is_crowd && dice.random_bool(0.8) { busy } else { dice.random_range(0..TENANTS) });
        let senders = identities();
        let slot = draw_seconds(dice, 0.4, -8.0..8.0);
        batch.push(Asked {
            delivery: Uuid::from_u128(dice.random()),
            tenant: of,
            address: dice.random_bool(0.95).then(|| address(dice.random_range(0..ADDRESSES))),
            identity: if dice.random_bool(0.6) {
                Identity::Of(of)
            } else {
                senders[dice.random_range(0..senders.len())]
            },
            is_sandbox: dice.random_bool(0.05),
            slot_at: slot.map(|seconds| now + SignedDuration::from_secs_f64(seconds)),
        });
    }
    // Where slots are equal, the id decides; the specification takes the order as it comes.
    batch.sort_by_key(|asked| asked.delivery);
    if dice.random_bool(0.3) {
        let slot_at = batch[0].slot_at;
        batch.iter_mut().take(4).for_each(|asked| asked.slot_at = slot_at);
    }
    // Postgres keeps microseconds.
    for slot_at in batch.iter_mut().filter_map(|asked| asked.slot_at.as_mut()) {
        *slot_at = Timestamp::from_microsecond(slot_at.as_microsecond()).expect("a time near now");
    }
    batch
}

async fn ask(claim: &mut PgConnection, batch: &[Asked]) -> Vec<Said> {
    // An address is written in any case. Backwards, because the order of the arrays must not matter.
    let spell = |it: &Asked| it.address.as_ref().map(|address| address.replacen('r', "R", 1));
    sqlx::query_as("SELECT * FROM harkara.admit_sends($1, $2, $3, $4, $5, $6)")
        .bind(batch.iter().rev().map(|it| it.delivery).collect::<Vec<_>>())
        .bind(batch.iter().rev().map(|it| it.tenant.as_uuid()).collect::<Vec<_>>())
        .bind(batch.iter().rev().map(spell).collect::<Vec<_>>())
        .bind(batch.iter().rev().map(|it| identity_name(it.identity)).collect::<Vec<_>>())
        .bind(batch.iter().rev().map(|it| it.is_sandbox).collect::<Vec<_>>())
        .bind(batch.iter().rev().map(|it| it.slot_at.map(jiff_sqlx::Timestamp::from)).collect::<Vec<_>>())
        .fetch_all(claim)
        .await
        .expect("answered")
}

async fn read_clock(claim: &mut PgConnection, statement: &'static str) -> Timestamp {
    let (now,): (jiff_sqlx::Timestamp,) = sqlx::query_as(statement).fetch_one(claim).await.expect("read");
    now.to_jiff()
}

/// The account as Postgres has it.
async fn read_account(claim: &mut PgConnection, suppressions: &Suppressions) -> Account {
    // What is infinite for Postgres is long ago. It rounds the spacing to whole microseconds: the specification is given
    // the rate that has that spacing.
    let paces: Vec<(Uuid, Option<f64>, jiff_sqlx::Timestamp, jiff_sqlx::Timestamp)> = sqlx::query_as(
        "SELECT tenant_id,
                1000000.0 / extract(microseconds FROM make_interval(secs => 1.0 / sends_per_second))::double precision,
                greatest(next_send_at, '1900-01-01Z'), greatest(line_ends_at, '1900-01-01Z')
         FROM harkara.send_pace",
    )
    .fetch_all(&mut *claim)
    .await
    .expect("read");
    let mut account = Account { suppressions: suppressions.clone(), ..Account::default() };
    for (tenant_id, rate, next_send_at, line_ends_at) in paces {
        if tenant_id.is_nil() {
            account.sends_per_second = rate;
            account.next_send_at = next_send_at.to_jiff();
            account.line_ends_at = line_ends_at.to_jiff();
        } else {
            account.tenants.insert(TenantId::from_uuid(tenant_id), next_send_at.to_jiff());
        }
    }
    let breakers: Vec<(String, String, jiff_sqlx::Timestamp, i32, jiff_sqlx::Timestamp, i32)> = sqlx::query_as(
        "SELECT breaker_key, reason, failed_at, failure_count, retry_at, held_count FROM harkara.breakers",
    )
    .fetch_all(claim)
    .await
    .expect("read");
    for (name, reason, failed_at, failure_count, retry_at, held_count) in breakers {
        let key = keys().find(|key| key_name(*key) == name).expect("a breaker that was drawn");
        let breaker = Breaker {
            reason: Reason::parse(&reason).expect("a reason"),
            failed_at: failed_at.to_jiff(),
            failure_count: failure_count.cast_unsigned(),
            retry_at: retry_at.to_jiff(),
            held_count: held_count.cast_unsigned(),
        };
        account.breakers.insert(key, breaker);
    }
    account
}
