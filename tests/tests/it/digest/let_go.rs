//! What left within a message that was not sent goes by itself: nothing is lost with what collected it.

use super::*;
use domain::outcome::{ProviderError, SendOutcome};
use sqlx::PgPool;

/// Lets the digest print what not everything has that it holds.
async fn break_template(stage: &Stage) {
    let template = json!({
        "variables": {"sections": {"type": "list", "example": [{"items": [{"note": "a note"}]}]}},
        "subject": "News", "text": "{% for section in sections %}{% for item in section.items %}{{ item.note }}{% endfor %}{% endfor %}",
    });
    stage.publish(TENANT, "digest", template).await;
}

/// Sends what is due by now, and returns the subjects of the mails since `seen`.
async fn subjects(stage: &Stage, seen: usize) -> Vec<String> {
    stage.drain().await;
    stage.dispatch().await;
    let mut subjects: Vec<_> = mails_after(stage, seen).await.into_iter().map(|(_, subject, _)| subject).collect();
    subjects.sort();
    subjects
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_a_digest_held_that_does_not_render_goes_by_itself(pool: PgPool) {
    let stage = begin(pool).await;
    break_template(&stage).await;
    let asked = [ask(&stage, "ASSIGNED", "ada", "one").await, ask(&stage, "COMMENTED", "ada", "two").await];
    move_to(&stage, WEDNESDAY).await;
    assert_eq!(stage.close_digests().await.digests, 1);
    assert_eq!(outcome(&stage, &asked[0]).await, is("absorbed", "in_digest"));
    let digest = digest_of(&stage, &asked[0]).await;

    assert_eq!(subjects(&stage, 0).await, ["Hello one", "Hello two"]);
    assert_eq!(outcome(&stage, &digest).await, is("failed", "render_failed"));
    for id in &asked {
        assert_eq!(outcome(&stage, id).await.0, "sent");
        let story = explain(&stage, id).await;
        assert!(story.contains("is failed, because the template did not render for this recipient."), "{story}");
    }
    assert_eq!(stage.close_digests().await.digests, 0, "and in no other digest");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_was_canceled_since_it_left_in_a_digest_does_not_go_by_itself(pool: PgPool) {
    let stage = begin(pool).await;
    break_template(&stage).await;
    let asked = [ask(&stage, "ASSIGNED", "ada", "one").await, ask(&stage, "COMMENTED", "ada", "two").await];
    move_to(&stage, WEDNESDAY).await;
    assert_eq!(stage.close_digests().await.digests, 1);
    let answer = stage.call(TENANT, "POST /v1/notifications/{id}/cancel", Some(&asked[0]), "", "").await;
    assert_eq!((answer.status, &answer.body["canceled_count"]), (200, &json!(0)), "{answer:?}");
    assert_eq!(subjects(&stage, 0).await, ["Hello two"]);
    assert!(explain(&stage, &asked[0]).await.contains("It was withdrawn at"));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_digest_that_is_switched_off_takes_nothing_along_that_is_wanted(pool: PgPool) {
    let stage = begin(pool).await;
    let mandatory = json!({
        "class": "transactional", "template": "greeting", "digest_category": "BULK_DIGEST", "unmutable_roles": ["*"],
    });
    put_category(&stage, "ORDERED", mandatory).await;
    let unwanted = json!({"preferences": [
        {"category": "*", "cadence": "daily"}, {"category": "BULK_DIGEST", "enabled": false},
    ]});
    send(&stage, "PUT", "/v1/recipients/{id}/preferences", "ada", unwanted).await;
    let ordered = ask(&stage, "ORDERED", "ada", "must").await;
    let wanted = ask(&stage, "ASSIGNED", "ada", "may").await;
    move_to(&stage, WEDNESDAY).await;
    assert_eq!(stage.close_digests().await.digests, 1);
    let digest = digest_of(&stage, &ordered).await;
    assert_eq!(subjects(&stage, 0).await, ["Hello may", "Hello must"]);
    assert_eq!(outcome(&stage, &digest).await, is("skipped", "preference_off"));
    assert_eq!((outcome(&stage, &ordered).await.0, outcome(&stage, &wanted).await.0), ("sent".into(), "sent".into()));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_may_have_been_sent_is_not_sent_in_parts(pool: PgPool) {
    let stage = begin(pool).await;
    let careful =
        json!({"class": "digest", "template": "digest", "quiet_hours_apply": false, "unknown_policy": "at_most_once"});
    put_category(&stage, "BULK_DIGEST", careful).await;
    let id = ask(&stage, "ASSIGNED", "ada", "one").await;
    move_to(&stage, WEDNESDAY).await;
    stage.mail.script("ada@example.org", [unknown as fn() -> SendOutcome]);
    assert_eq!(stage.close_digests().await.digests, 1);
    let digest = digest_of(&stage, &id).await;
    stage.drain().await;
    stage.pass(std::time::Duration::from_secs(3600)).await;
    stage.dispatch().await;
    assert_eq!(outcome(&stage, &digest).await, is("failed", "outcome_unknown"));
    assert_eq!(outcome(&stage, &id).await, is("absorbed", "in_digest"));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_went_by_itself_may_wait_for_the_next_digest_again(pool: PgPool) {
    let stage = begin(pool).await;
    break_template(&stage).await;
    let id = ask(&stage, "ASSIGNED", "ada", "one").await;
    move_to(&stage, WEDNESDAY).await;
    assert_eq!(stage.close_digests().await.digests, 1);
    // Before the digest fails, she says that a week is soon enough.
    prefer(&stage, "ada", "weekly").await;
    assert_eq!(subjects(&stage, 0).await, [""; 0]);
    assert_eq!(outcome(&stage, &id).await, is("held", "cadence_not_due"));
    let template = json!({
        "variables": {"count": {"type": "integer", "example": 1}}, "subject": "{{ count }} of news", "text": "news",
    });
    stage.publish(TENANT, "digest", template).await;
    move_to(&stage, "2026-12-07T03:30:00Z").await;
    assert_eq!(stage.close_digests().await.members, 1);
    assert_eq!(subjects(&stage, 0).await, ["1 of news"]);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_digest_that_cannot_be_stored_stands_in_nobodys_way(pool: PgPool) {
    let stage = begin(pool).await;
    let mut asked = Vec::new();
    for name in ["ada", "ben", "cleo", "dora"] {
        put_recipient(&stage, name, "Asia/Kolkata", &[]).await;
        prefer(&stage, name, "daily").await;
        asked.push(ask(&stage, "ASSIGNED", name, name).await);
    }
    let poison = "
        CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON harkara.digests FOR EACH ROW WHEN (NEW.recipient_id = 'ben') EXECUTE FUNCTION public.refuse();";
    sqlx::raw_sql(poison).execute(&stage.admin).await.expect("poisoned");
    move_to(&stage, WEDNESDAY).await;
    let counts = stage.close_digests().await;
    assert_eq!((counts.digests, counts.set_aside, counts.released, counts.failed_tenants), (3, 1, 1, 0), "{counts:?}");
    assert_eq!(subjects(&stage, 0).await, ["1 of news", "1 of news", "1 of news", "Hello ben"]);
    stage.finish().await;
}

fn unknown() -> SendOutcome {
    SendOutcome::Unknown(ProviderError { code: "Timeout".into(), detail: "no answer".into() })
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_digest_that_says_nothing_is_not_sent_and_what_it_held_goes_by_itself(pool: PgPool) {
    let stage = begin(pool).await;
    let template = json!({
        "variables": {"sections": {"type": "list", "example": [{"items": [{"note": "a note"}]}]}},
        "subject": "News",
        "text": "{% for section in sections %}{% for item in section.items %}{% if item.note is defined %}{{ item.note }}{% endif %}{% endfor %}{% endfor %}\n",
    });
    stage.publish(TENANT, "digest", template).await;
    let id = ask(&stage, "ASSIGNED", "ada", "one").await;
    move_to(&stage, WEDNESDAY).await;
    assert_eq!(stage.close_digests().await.digests, 1);
    let digest = digest_of(&stage, &id).await;
    assert_eq!(subjects(&stage, 0).await, ["Hello one"]);
    assert_eq!(outcome(&stage, &digest).await, is("failed", "render_failed"));
    let story = explain(&stage, &digest).await;
    assert!(story.contains("text: nothing came out of the template for this data"), "{story}");
    assert_eq!(outcome(&stage, &id).await.0, "sent");
    stage.finish().await;
}
