//! Recipients: many at once, erased, reached by nothing, and what their own tokens show them.

use adapters::wire::routes::Route;
use domain::outcome::{ProviderError, SendOutcome};
use serde_json::{Value, json};
use sqlx::{PgPool, Postgres, Transaction};
use tests::{Ask, Stage, TENANT, see_wait};

/// Waits until somebody waits for a lock in this database.
pub(crate) async fn see_somebody_wait(pool: &PgPool) {
    see_wait(pool, 1).await;
}

/// An erasure of ada that is not committed yet.
pub(crate) async fn begin_to_erase(pool: &PgPool) -> Transaction<'static, Postgres> {
    let mut erasure = pool.begin().await.expect("a transaction");
    let erase = "SELECT harkara.erase_recipient('ada') FROM harkara.set_tenant($1::uuid, 'tester')";
    let erased: bool = sqlx::query_scalar(erase).bind(TENANT).fetch_one(&mut *erasure).await.expect("erased");
    assert!(erased);
    erasure
}

fn consent(recipient: &str, evidence: &str) -> Ask {
    let said = json!({"purpose": "offers", "state": "granted", "source": "form", "evidence": {"ip": evidence}});
    Ask::of(Route::AddConsent, TENANT).with_parameter("id", recipient).with_body(&said)
}

fn with_key(mut ask: Ask, key: &str) -> Ask {
    ask.headers.insert("idempotency-key".to_owned(), key.to_owned());
    ask
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_thousand_recipients_are_put_at_once_and_one_bad_one_fails_alone(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let mut list: Vec<Value> =
        (0..998).map(|n| json!({"id": format!("r{n:03}"), "email": format!("r{n}@example.org")})).collect();
    list.push(json!({"id": "bad", "email": "nonsense"}));
    list.push(json!({"id": "r000", "email": "again@example.org"}));
    let put = async |list: &[Value]| {
        stage.call(TENANT, "POST /v1/recipients", None, "", &json!({"recipients": list}).to_string()).await
    };
    let answer = put(&list).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let statuses: Vec<_> =
        answer.body["recipients"].as_array().expect("a list").iter().map(|one| &one["status"]).collect();
    assert_eq!(statuses.iter().filter(|status| ***status == "created").count(), 998);
    assert_eq!(statuses[998..], ["rejected", "rejected"]);
    assert_eq!(answer.body["recipients"][998]["problem"]["errors"][0]["pointer"], "/recipients/998/email");
    assert_eq!(put(&list[..1]).await.body["recipients"][0], json!({"id": "r000", "status": "replaced"}));
    list.push(json!({"id": "one too many", "email": "x@example.org"}));
    assert_eq!(put(&list).await.pointers(), ["/recipients"]);

    let mut seen = 0;
    let mut query = String::new();
    loop {
        let page = stage.call(TENANT, "GET /v1/recipients", None, &query, "").await;
        seen += page.body["recipients"].as_array().expect("a list").len();
        match page.body["page_info"]["after"].as_str() {
            Some(after) => query = format!("after={after}"),
            None => break,
        }
    }
    assert_eq!(seen, 999, "and ada");
    stage.finish().await;
}

/// Postgres keeps numbers of JSON digit by digit, and prints the largest with three hundred of them.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_largest_and_the_smallest_numbers_come_back_as_they_were_put(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let put = async |number: &str| {
        let mut ask = Ask::of_key("PUT /v1/recipients/{id}", TENANT)
            .with_text(&format!("{{\"email\": \"ada@example.org\", \"attributes\": {{\"n\": {number}}}}}"));
        ask.parameters.insert("id".to_owned(), "ada".to_owned());
        stage.ask(&ask).await
    };
    // What a caller writes is compared with what is kept and what is shown as digits, with no reader of JSON between them.
    for written in [
        "1.7976931348623157e308",
        "-1.7976931348623157e308",
        "2.2250738585072014e-308",
        "5e-324",
        "6.124687271358547e144",
        "0.1",
        "9007199254740993",
        "-9223372036854775808",
        "18446744073709551615",
    ] {
        assert_eq!(put(written).await.status, 200, "{written}");
        let is_kept =
            "SELECT (attributes ->> 'n')::numeric = $1::numeric FROM harkara.recipients WHERE attributes ? 'n'";
        let is_kept: bool =
            sqlx::query_scalar(is_kept).bind(written).fetch_one(&stage.admin).await.expect("it is there");
        assert!(is_kept, "{written} is kept as another number");
        let shown = stage.call(TENANT, "GET /v1/recipients/{id}", Some("ada"), "", "").await;
        assert_eq!(shown.body["attributes"]["n"].to_string().replace("e+", "e"), written);
    }
    // No reader of ours has room for these, and nothing else is kept in their place.
    for too_large in ["1e309", "-1e400"] {
        let refused = put(too_large).await;
        assert_eq!(refused.status, 400, "{too_large}: {refused:?}");
    }
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn erasing_a_recipient_leaves_what_happened_and_nothing_of_the_person(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let person = json!({"email": "canary-address@example.org", "phone": "+4915112345678", "name": "Canary Name",
        "attributes": {"note": "canary-attribute"}, "locale": "ne-NP", "time_zone": "Asia/Kathmandu",
        "roles": ["canary-role"]});
    stage.put(TENANT, "/v1/recipients/{id}", "someone", person).await;
    let subject = crate::links::subject_of(&stage.admin, TENANT, "someone").await;
    let ask = json!({"category": "greeting", "recipient": {"id": "someone"}, "data": {"name": "canary-data"}});
    let sent = stage.post(ask.clone()).await.id();
    stage.drain().await;
    // What a provider says quotes the address, and so does what is counted of it.
    let failing = || {
        let detail = "Address is blacklisted: canary-address@example.org".to_owned();
        SendOutcome::ServerFailed(ProviderError { code: "InternalFailure".to_owned(), detail })
    };
    stage.mail.script("canary-address@example.org", [failing as fn() -> SendOutcome; 3]);
    stage.post(ask.clone()).await;
    stage.drain().await;
    stage.store_dead_letters().await;
    let counted = "INSERT INTO harkara.soft_bounces (tenant_id, address, bounce_count) VALUES ($1::uuid, $2, 2)";
    sqlx::query(counted).bind(TENANT).bind("canary-address@example.org").execute(&stage.admin).await.expect("counted");
    let said = with_key(consent("someone", "canary-evidence"), "k");
    assert_eq!(stage.ask(&said).await.status, 200);
    let waiting = stage.post(ask).await.id();

    let delete = async || stage.call(TENANT, "DELETE /v1/recipients/{id}", Some("someone"), "", "").await.status;
    assert_eq!((delete().await, delete().await), (204, 404));
    assert_eq!(stage.outcome(&waiting).await.0, "canceled");
    assert_eq!(stage.outcome(&waiting).await.1.as_deref(), Some("recipient_erased"));
    assert_eq!(stage.outcome(&sent).await.0, "sent");
    assert_eq!(stage.call(TENANT, "GET /v1/recipients/{id}", Some("someone"), "", "").await.status, 404);

    stage.drain().await;
    // Whatever table there is, and whatever column: nothing of the person is left in it.
    let look = "
        DO $$
        DECLARE
            table_name text;
            is_there   boolean;
        BEGIN
            FOR table_name IN
                SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'harkara'::regnamespace AND c.relkind = 'r'
            LOOP
                EXECUTE format('SELECT EXISTS (SELECT FROM harkara.%I t WHERE t::text ~* %L)',
                    table_name, 'canary|[+]4915112345678|ne-NP|Asia/Kathmandu') INTO is_there;
                IF is_there THEN
                    RAISE EXCEPTION '% remembers the person', table_name;
                END IF;
            END LOOP;
        END
        $$";
    sqlx::raw_sql(look).execute(&stage.admin).await.expect("nothing is left");
    // What was consented to is kept under the old subject, and no row leads from there to the recipient.
    let both = "SELECT count(*) FROM harkara.audit_log l WHERE l::text LIKE '%someone%' AND strpos(l::text, $1) > 0";
    let both: i64 =
        sqlx::query_scalar(both).bind(subject.as_uuid().to_string()).fetch_one(&stage.admin).await.expect("counted");
    assert_eq!(both, 0);
    // The same id may come back, as somebody new.
    stage.put(TENANT, "/v1/recipients/{id}", "someone", json!({"email": "new@example.org"})).await;
    let consents = stage.call(TENANT, "GET /v1/recipients/{id}/consents", Some("someone"), "", "").await;
    assert_eq!(consents.body["consents"], json!([]));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_report_lists_whom_nothing_reaches_and_why(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    for (id, body) in [
        ("phone-only", json!({"phone": "+4915112345678"})),
        ("suppressed", json!({"email": "gone@example.org"})),
        ("muted", json!({"email": "muted@example.org"})),
        ("fine", json!({"email": "fine@example.org"})),
        ("listed", json!({"email": "Listed@example.org"})),
    ] {
        stage.put(TENANT, "/v1/recipients/{id}", id, body).await;
    }
    stage.call(TENANT, "PUT /v1/suppressions/{address}", Some("gone@example.org"), "", "{}").await;
    let list = "INSERT INTO harkara.suppressions (tenant_id, address, reason, source)
                VALUES ('00000000-0000-0000-0000-000000000000', 'listed@example.org', 'hard_bounce', 'provider_list')";
    sqlx::query(list).execute(&stage.admin).await.expect("listed");
    stage.put(TENANT, "/v1/recipients/{id}/preferences", "muted", json!({"contact": "none"})).await;
    let report = stage.call(TENANT, "GET /v1/reports/unreachable-recipients", None, "", "").await;
    let mut found: Vec<_> = report.body["recipients"]
        .as_array()
        .unwrap_or_else(|| panic!("{report:?}"))
        .iter()
        .map(|row| (row["id"].as_str().unwrap_or_default(), row["reasons"][0]["code"].as_str().unwrap_or_default()))
        .collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            ("listed", "address_suppressed"),
            ("muted", "preference_off"),
            ("phone-only", "no_address"),
            ("suppressed", "address_suppressed"),
        ]
    );
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn the_report_looks_at_so_many_at_a_time_and_goes_on_where_it_ended(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.put(TENANT, "/v1/recipients/{id}", "phone-only", json!({"phone": "+4915112345678"})).await;
    let many = "INSERT INTO harkara.recipients (tenant_id, recipient_id, email)
                SELECT $1::uuid, 'fine' || n, 'fine@example.org' FROM generate_series(1, 10000) n";
    sqlx::query(many).bind(TENANT).execute(&stage.admin).await.expect("made");
    let report =
        async |query: &str| stage.call(TENANT, "GET /v1/reports/unreachable-recipients", None, query, "").await.body;
    let first = report("").await;
    assert_eq!(first["recipients"], json!([]), "all that it looked at are fine");
    let after = first["page_info"]["after"].as_str().expect("and there are more");
    let second = report(&format!("after={after}")).await;
    assert_eq!(second["recipients"][0]["id"], "phone-only");
    assert_eq!(second["page_info"]["after"], Value::Null);
    stage.finish().await;
}

/// Whoever asks while a recipient is being erased has found it there a moment before.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn nothing_is_stored_for_a_recipient_who_is_erased_meanwhile(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let erasure = begin_to_erase(&pool).await;
    let end = async {
        see_somebody_wait(&pool).await;
        erasure.commit().await.expect("erased");
    };
    let ask = json!({"category": "greeting", "recipient": {"id": "ada"}, "data": {"name": "canary"}});
    let (answer, ()) = tokio::join!(stage.post(ask), end);
    assert_eq!((answer.status, answer.pointers()), (422, vec!["/recipient/id"]), "{answer:?}");
    assert_eq!(stage.count("SELECT count(*) FROM harkara.notifications").await, 0);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn no_consent_is_entered_for_a_recipient_who_is_erased_meanwhile(pool: PgPool) {
    let stage = Stage::begin(pool.clone()).await;
    let erasure = begin_to_erase(&pool).await;
    let end = async {
        see_somebody_wait(&pool).await;
        erasure.commit().await.expect("erased");
    };
    let ask = with_key(consent("ada", "canary"), "k");
    let (answer, ()) = tokio::join!(stage.ask(&ask), end);
    assert_eq!(answer.status, 404, "{answer:?}");
    for table in ["SELECT count(*) FROM harkara.consents", "SELECT count(*) FROM harkara.idempotency_keys"] {
        assert_eq!(stage.count(table).await, 0, "{table}");
    }
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_answer_kept_for_one_recipient_is_not_there_for_anothers_token(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.put(TENANT, "/v1/recipients/{id}", "eve", json!({"email": "eve@example.org"})).await;
    let own = |ask: Ask, who: &str| ask.with_claim("scope", "self").with_claim("sub", who);
    let first = stage.ask(&own(with_key(consent("ada", "here"), "k"), "ada")).await;
    assert_eq!(first.status, 200, "{first:?}");
    for evidence in ["here", "elsewhere"] {
        let theirs = stage.ask(&own(with_key(consent("ada", evidence), "k"), "eve")).await;
        let missing = stage.ask(&own(with_key(consent("nobody", evidence), "k"), "eve")).await;
        assert_eq!((theirs.status, &theirs.body), (404, &missing.body), "{theirs:?}");
    }
    let again = stage.ask(&own(with_key(consent("ada", "here"), "k"), "ada")).await;
    assert_eq!((again.status, &again.body), (200, &first.body), "its own answer is given again");
    stage.finish().await;
}
