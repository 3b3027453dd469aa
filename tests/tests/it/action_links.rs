//! Links that act: looking changes nothing, a click acts once and in time, and nobody else's link is anything.

use crate::escalation::{begin, pass_minutes, put_policy, show, start};
use crate::links::subject_of;
use crate::reminder::see_wait;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use domain::id::{EscalationId, NotificationId, TenantId};
use domain::link::{ActionToken, LinkAction};
use flow::api::Api;
use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::{OTHER_TENANT, Page, Stage, TENANT, ask_page};

const CONFIRM: &str = "confirm=1";

/// A token as the processor signs it, for a year.
pub(crate) async fn sign_action(
    stage: &Stage,
    tenant: &str,
    recipient: &str,
    escalation: &str,
    action: LinkAction,
) -> String {
    let subject = subject_of(&stage.admin, tenant, recipient).await;
    let tenant = TenantId::parse(tenant).expect("a tenant's id");
    let Api { database, keys, .. } = &stage.api;
    let ring = keys.load_or_create(database, tenant, "tester").await.expect("a key");
    let token = ActionToken {
        tenant,
        escalation: EscalationId::parse(escalation).expect("an id"),
        notification: NotificationId::from_uuid(subject.as_uuid()),
        subject,
        action,
        expires_at: "2040-01-01T00:00:00Z".parse::<Timestamp>().expect("a time"),
    };
    ring.print_action(&token).expect("the ring is the tenant's")
}

async fn look(stage: &Stage, token: &str) -> Page {
    ask_page(&stage.api, "GET /v1/actions/{token}", token, &[], "").await
}

async fn press(stage: &Stage, token: &str, form: &str) -> Page {
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    ask_page(&stage.api, "POST /v1/actions/{token}", token, &headers, form).await
}

/// A stage whose mails have the links.
async fn begin_with_links(pool: PgPool) -> Stage {
    let stage = begin(pool).await;
    let template = json!({
        "variables": {"name": {"type": "string", "example": "Grace"}},
        "subject": "An alert", "text": "Acknowledge: {{ acknowledge_url }}\nResolve: {{ resolve_url }}\n",
        "html": "<a href=\"{{ acknowledge_url }}\">Acknowledge</a>",
    });
    stage.publish(TENANT, "greeting", template).await;
    stage
}

/// The tokens of the last mail to an address: of the link that acknowledges, and of the one that resolves.
fn tokens_to(stage: &Stage, address: &str) -> [String; 2] {
    let mail = stage.mail.asked().into_iter().rfind(|mail| mail.to.as_str() == address).expect("a mail");
    let text = mail.text.expect("a text");
    ["Acknowledge: ", "Resolve: "].map(|name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
        line.rsplit('/').next().expect("a token").trim().to_owned()
    })
}

/// A stage whose mails have the links, and an escalation of which ada has got hers: its id, and the tokens of both.
async fn send_links(pool: PgPool) -> (Stage, String, [String; 2]) {
    let stage = begin_with_links(pool).await;
    let id = start(&stage).await;
    stage.drain().await;
    let tokens = tokens_to(&stage, "ada@example.org");
    (stage, id, tokens)
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_48_looking_changes_nothing_and_one_click_acknowledges_once(pool: PgPool) {
    let (stage, id, [acknowledge, _]) = send_links(pool).await;
    let before = show(&stage, &id).await;
    for _ in 0..5 {
        let page = look(&stage, &acknowledge).await;
        assert!(page.status == 200 && page.body.contains("Acknowledge this alert from first?"), "{}", page.body);
    }
    // What is not the page's own form acts as little as a look.
    assert_eq!(press(&stage, &acknowledge, "List-Unsubscribe=One-Click").await.status, 422);
    assert_eq!(show(&stage, &id).await, before);

    let page = press(&stage, &acknowledge, CONFIRM).await;
    assert!(page.status == 200 && page.body.contains("Acknowledged"), "{}", page.body);
    let shown = show(&stage, &id).await;
    assert_eq!((&shown["state"], &shown["acknowledged"]["by"]), (&json!("acknowledged"), &json!("ada")));
    for page in [press(&stage, &acknowledge, CONFIRM).await, look(&stage, &acknowledge).await] {
        assert!(page.status == 410 && page.body.contains("already been used"), "{} {}", page.status, page.body);
    }
    pass_minutes(&stage, 60).await;
    assert_eq!(stage.escalate().await.fired, 0, "the next step does not fire");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_48_of_two_clicks_at_once_one_acts(pool: PgPool) {
    let (stage, id, [_, resolve]) = send_links(pool.clone()).await;
    // Both have found the link unused: the one has taken its use and waits here, and the other waits for the one.
    let mut firing = pool.begin().await.expect("a transaction");
    sqlx::query("SELECT FROM harkara.escalations FOR NO KEY UPDATE").execute(&mut *firing).await.expect("locked");
    let (one, other, ()) = tokio::join!(press(&stage, &resolve, CONFIRM), press(&stage, &resolve, CONFIRM), async {
        see_wait(&pool, 2).await;
        firing.commit().await.expect("committed");
    });
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 410]);
    assert_eq!(show(&stage, &id).await["state"], "resolved");
    assert_eq!(stage.count("SELECT count(*) FROM harkara.action_link_uses").await, 1);
    stage.finish().await;
}

/// Each has stored its link's use, which refers to the escalation, before either has the escalation's row.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn two_recipients_who_click_at_once_do_not_wait_for_each_other_for_ever(pool: PgPool) {
    let (stage, id, [adas, _]) = send_links(pool.clone()).await;
    let bobs = sign_action(&stage, TENANT, "bob", &id, LinkAction::Acknowledge).await;
    let mut firing = pool.begin().await.expect("a transaction");
    sqlx::query("SELECT FROM harkara.escalations FOR NO KEY UPDATE").execute(&mut *firing).await.expect("locked");
    let (ada, bob, ()) = tokio::join!(press(&stage, &adas, CONFIRM), press(&stage, &bobs, CONFIRM), async {
        see_wait(&pool, 2).await;
        firing.commit().await.expect("committed");
    });
    assert_eq!((ada.status, bob.status), (200, 200), "{} {}", ada.body, bob.body);
    let answered = [&ada, &bob].into_iter().filter(|page| page.body.contains("Somebody has answered already"));
    assert_eq!(answered.count(), 1);
    assert_eq!(show(&stage, &id).await["state"], "acknowledged");
    stage.finish().await;
}

/// The link says whose it is, whoever reads the mail: each has to answer with their own.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn where_each_is_needed_a_click_counts_for_whoever_the_link_was_sent_to_and_nobody_else(pool: PgPool) {
    let stage = begin_with_links(pool).await;
    let policy = json!({
        "category": "greeting", "acknowledgement": "each",
        "steps": [{"recipients": ["ada", "bob"]}, {"delay": "PT10M", "recipients": ["ada", "bob"]}],
    });
    stage.put(TENANT, "/v1/escalation-policies/{key}", "critical", policy).await;
    let id = start(&stage).await;
    stage.drain().await;
    let [adas, _] = tokens_to(&stage, "ada@example.org");
    let [bobs, _] = tokens_to(&stage, "bob@example.org");
    let answers = async || {
        let shown = show(&stage, &id).await;
        let by = shown["acknowledgements"].as_array().expect("a list").iter();
        let by: Vec<_> = by.map(|one| one["recipient"].as_str().expect("an id").to_owned()).collect();
        (shown["state"].as_str().expect("a state").to_owned(), by)
    };

    assert!(press(&stage, &adas, CONFIRM).await.body.contains("Acknowledged"));
    assert_eq!(answers().await, ("open".to_owned(), vec!["ada".to_owned()]), "bob has not said anything");
    assert_eq!(press(&stage, &adas, CONFIRM).await.status, 410, "nor does another click of hers say it for him");
    assert_eq!(answers().await, ("open".to_owned(), vec!["ada".to_owned()]));
    assert!(look(&stage, &bobs).await.body.contains("Acknowledge this alert from first?"), "his own is not used");

    let before = ["ada@example.org", "bob@example.org"].map(|address| stage.mail.count(address));
    pass_minutes(&stage, 10).await;
    assert_eq!(stage.escalate().await.notifications, 1);
    stage.drain().await;
    let told = ["ada@example.org", "bob@example.org"].map(|address| stage.mail.count(address));
    assert_eq!([told[0] - before[0], told[1] - before[1]], [0, 1], "the steps go on for him alone");

    // With the link of either mail.
    assert!(press(&stage, &bobs, CONFIRM).await.body.contains("Acknowledged"));
    assert_eq!(answers().await, ("acknowledged".to_owned(), vec!["ada".to_owned(), "bob".to_owned()]));
    let [later, _] = tokens_to(&stage, "bob@example.org");
    assert_ne!(later, bobs);
    let page = press(&stage, &later, CONFIRM).await;
    assert!(page.status == 200 && page.body.contains("Somebody has answered already"), "{} {}", page.status, page.body);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_48_a_link_expires_and_a_shorter_life_is_the_policys_to_give(pool: PgPool) {
    let (stage, id, [acknowledge, resolve]) = send_links(pool).await;
    pass_minutes(&stage, 72 * 60 - 1).await;
    assert_eq!(look(&stage, &acknowledge).await.status, 200);
    pass_minutes(&stage, 1).await;
    for page in [look(&stage, &acknowledge).await, press(&stage, &resolve, CONFIRM).await] {
        assert!(page.status == 410 && page.body.contains("has expired"), "{} {}", page.status, page.body);
    }
    assert_eq!(show(&stage, &id).await["state"], "open");

    let policy = json!({"category": "greeting", "steps": [{"recipients": ["ada"]}], "link_lifetime": "PT10M"});
    stage.put(TENANT, "/v1/escalation-policies/{key}", "critical", policy).await;
    start(&stage).await;
    stage.drain().await;
    let text = stage.mail.asked().pop().and_then(|mail| mail.text).expect("a text");
    let token = text.lines().next().and_then(|line| line.rsplit('/').next()).expect("a token").to_owned();
    assert_eq!(look(&stage, &token).await.status, 200);
    pass_minutes(&stage, 10).await;
    assert_eq!(look(&stage, &token).await.status, 410);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_48_what_is_no_link_of_an_escalation_is_not_there(pool: PgPool) {
    let (stage, id, [acknowledge, _]) = send_links(pool).await;
    let theirs = sign_action(&stage, OTHER_TENANT, "ada", &id, LinkAction::Resolve).await;
    let leaving =
        crate::links::sign(&stage, TENANT, subject_of(&stage.admin, TENANT, "ada").await, Some("greeting")).await;
    // The first of the last eight bytes of what signs it.
    let (head, tail) = acknowledge.split_at(acknowledge.len() - 11);
    let changed = format!("{head}{}{}", if tail.starts_with('A') { 'B' } else { 'A' }, &tail[1..]);
    for token in [theirs.as_str(), leaving.as_str(), &acknowledge[1..], &changed, "never-was"] {
        for page in [look(&stage, token).await, press(&stage, token, CONFIRM).await] {
            assert_eq!(page.status, 404, "{token}");
        }
    }
    assert_eq!(show(&stage, &id).await["state"], "open");
    // Whoever is erased holds nothing any more.
    stage.call(TENANT, "DELETE /v1/recipients/{id}", Some("ada"), "", "").await;
    assert_eq!(look(&stage, &acknowledge).await.status, 404);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn no_token_is_stored_and_whoever_reads_the_mail_again_gets_none(pool: PgPool) {
    let (stage, id, tokens) = send_links(pool.clone()).await;
    let notification = show(&stage, &id).await["steps"][0]["notifications"][0]["id"].clone();
    let shown = stage.show(notification.as_str().expect("an id")).await;
    let delivery = shown["deliveries"][0]["id"].as_str().expect("an id").to_owned();
    let content = stage.call(TENANT, "GET /v1/deliveries/{id}/content", Some(&delivery), "", "").await;
    assert_eq!(content.status, 200, "{content:?}");
    let text = content.body.to_string();
    assert!(text.contains("withheld"), "{text}");
    press(&stage, &tokens[0], CONFIRM).await;
    let stored = "SELECT coalesce(string_agg(row::text, ' '), '') FROM (
                      SELECT to_jsonb(n) AS row FROM harkara.notifications n
                      UNION ALL SELECT to_jsonb(x) FROM harkara.escalation_notifications x
                      UNION ALL SELECT to_jsonb(u) FROM harkara.action_link_uses u
                      UNION ALL SELECT to_jsonb(a) FROM harkara.audit_log a) rows";
    let stored: String = sqlx::query_scalar(stored).fetch_one(&pool).await.expect("read");
    // Its hash, and not a part of it.
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(&tokens[0]).expect("base64");
    let is_hash = "SELECT token_hash = sha256($1) FROM harkara.action_link_uses";
    let is_hash: Vec<bool> = sqlx::query_scalar(is_hash).bind(bytes).fetch_all(&pool).await.expect("read");
    assert_eq!(is_hash, [true]);
    for token in &tokens {
        assert!(!text.contains(token.as_str()) && !stored.contains(token.as_str()));
    }
    let who: Vec<Value> = sqlx::query_scalar(
        "SELECT new_values FROM harkara.audit_log WHERE table_name = 'action_link_uses' AND actor LIKE 'link of %'",
    )
    .fetch_all(&pool)
    .await
    .expect("read");
    assert_eq!(who.len(), 1);
    assert_eq!((&who[0]["recipient_id"], &who[0]["action"]), (&json!("ada"), &json!("acknowledge")));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn whoever_comes_late_is_told_that_it_was_answered(pool: PgPool) {
    let (stage, id, [acknowledge, resolve]) = send_links(pool).await;
    stage.call(TENANT, "POST /v1/escalations/{id}/acknowledge", Some(&id), "", "").await;
    let page = look(&stage, &acknowledge).await;
    assert!(page.status == 200 && page.body.contains("Somebody has answered already"), "{}", page.body);
    let page = press(&stage, &resolve, CONFIRM).await;
    assert!(page.status == 200 && page.body.contains("Resolved"), "{}", page.body);
    let shown = show(&stage, &id).await;
    assert_eq!(shown["state"], "resolved");
    put_policy(&stage, json!([{"recipients": ["ada"]}])).await;
    stage.finish().await;
}
