//! What SES tells of mails: each event once, in any order, for the right tenant; and what it did not tell.

use domain::feedback::SuppressionReason;
use domain::mail::Mail;
use domain::outcome::{ProviderError, SendOutcome};
use local::ses::{Happening, MailFacts, ToldEvent};
use serde_json::{Value, json};
use sqlx::PgPool;
use std::collections::BTreeMap;
use std::time::Duration;
use tests::{OTHER_TENANT, Stage, TENANT};

fn unknown() -> SendOutcome {
    SendOutcome::Unknown(ProviderError { code: "Timeout".into(), detail: "words".into() })
}

fn server_failed() -> SendOutcome {
    SendOutcome::ServerFailed(ProviderError { code: "Code".into(), detail: "words".into() })
}

/// What SES knows of a mail that the provider was asked to send.
fn facts(mail: &Mail, message_id: &str) -> MailFacts {
    let tags = [("nid", &mail.tags.notification), ("att", &mail.tags.attempt), ("t", &mail.tags.tenant)];
    MailFacts {
        message_id: message_id.to_owned(),
        at: "2026-11-21T10:00:00Z".parse().expect("a time"),
        from: "Post <sender@harkara.test>".to_owned(),
        to: vec![mail.to.as_str().to_owned()],
        tags: tags.map(|(name, value)| (name.to_owned(), value.as_str().to_owned())).into(),
        configuration_set: Some("harkara".to_owned()),
    }
}

/// The `place`th mail that the stage's provider was asked to send, with the id that it then gave.
fn mail(stage: &Stage, place: usize) -> MailFacts {
    facts(&stage.mail.asked()[place], &format!("provider-{}", place + 1))
}

/// An event as EventBridge hands it over.
fn event(mail: &MailFacts, happening: Happening) -> String {
    ToldEvent::new(mail, happening).event_bridge.to_string()
}

/// The same as SNS hands it over.
fn copy(mail: &MailFacts, happening: Happening) -> String {
    ToldEvent::new(mail, happening).sns.to_string()
}

async fn tell(stage: &Stage, mail: &MailFacts, happenings: &[Happening]) {
    for happening in happenings {
        assert_eq!(stage.feed(&[event(mail, *happening)]).await, Vec::<usize>::new());
    }
}

/// The first tenant's suppressions: address and reason.
async fn suppressions(stage: &Stage) -> Vec<(String, String)> {
    suppressions_of(stage, TENANT).await
}

async fn suppressions_of(stage: &Stage, tenant: &str) -> Vec<(String, String)> {
    let statement = "SELECT address, reason FROM harkara.suppressions WHERE tenant_id = $1::uuid ORDER BY address";
    sqlx::query_as(statement).bind(tenant).fetch_all(&stage.admin).await.expect("read")
}

/// The feedback that the attempts of a notification show.
async fn feedback_of(stage: &Stage, id: &str) -> Vec<Option<String>> {
    let shown = stage.show(id).await;
    let attempts = shown["deliveries"][0]["attempts"].as_array().expect("a list").clone();
    attempts.iter().map(|attempt| attempt["feedback"].as_str().map(str::to_owned)).collect()
}

async fn state_of(stage: &Stage, id: &str) -> (String, Option<String>) {
    let (state, reason, _) = stage.outcome(id).await;
    (state, reason)
}

fn is(state: &str, reason: Option<&str>) -> (String, Option<String>) {
    (state.to_owned(), reason.map(str::to_owned))
}

/// Sends one mail to an address and returns the notification with what SES knows of the mail.
async fn send(stage: &Stage, address: &str) -> (String, MailFacts) {
    let id = stage.post(Stage::greeting(address)).await.id();
    stage.drain().await;
    let place = stage.mail.asked().len() - 1;
    (id, mail(stage, place))
}

/// Everything that may not change when an event is of no concern: states, feedback, suppressions, of every tenant.
async fn whole(stage: &Stage) -> Value {
    let statement = "
        SELECT jsonb_build_object(
            'deliveries', (SELECT jsonb_agg(to_jsonb(d) ORDER BY d.delivery_id) FROM harkara.deliveries d),
            'attempts', (SELECT jsonb_agg(to_jsonb(a) ORDER BY a.attempt_id) FROM harkara.attempts a),
            'suppressions', (SELECT count(*) FROM harkara.suppressions),
            'soft_bounces', (SELECT count(*) FROM harkara.soft_bounces),
            'audit', (SELECT count(*) FROM harkara.audit_log),
            'events', (SELECT count(*) FROM harkara.events))";
    sqlx::query_scalar(statement).fetch_one(&stage.admin).await.expect("read")
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_mail_is_sent_then_delivered_and_both_copies_of_each_event_tell_it_once(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let (id, mail) = send(&stage, "lin@example.org").await;
    for happening in [Happening::Send, Happening::Delivery] {
        let bodies = [event(&mail, happening), copy(&mail, happening)];
        assert_eq!(stage.feed(&bodies).await, Vec::<usize>::new());
        assert_eq!(stage.feed(&bodies).await, Vec::<usize>::new());
    }
    assert_eq!(state_of(&stage, &id).await, is("delivered", None));
    assert_eq!(feedback_of(&stage, &id).await, [Some("delivered".to_owned())]);
    let told = ["notification.accepted", "delivery.sent", "delivery.delivered"];
    stage.dispatch().await;
    assert_eq!(stage.bus.detail_types().iter().filter(|name| name.starts_with("delivery")).count(), 2);
    assert!(stage.bus.detail_types().iter().all(|name| told.contains(&name.as_str())));
    stage.finish().await;
}

/// Row 39: complaint before delivery, and every other order.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_39_events_in_any_order_end_in_the_same_state(pool: PgPool) {
    use Happening::{Complaint, Delivery, DeliveryDelay, HardBounce, Send, SoftBounce};
    let stage = Stage::begin(pool).await;
    let table: [(&[Happening], &str, Option<&str>); 5] = [
        (&[Complaint, Delivery, Send], "complained", Some("complaint")),
        (&[Delivery, Complaint, Send, Delivery], "complained", Some("complaint")),
        (&[Delivery, SoftBounce, DeliveryDelay, Send], "delivered", None),
        (&[SoftBounce, Send, Delivery], "delivered", None),
        (&[HardBounce, Delivery, SoftBounce, Send], "bounced", Some("hard_bounce")),
    ];
    for (place, (happenings, state, reason)) in table.into_iter().enumerate() {
        let (id, mail) = send(&stage, &format!("order{place}@example.org")).await;
        tell(&stage, &mail, happenings).await;
        assert_eq!(state_of(&stage, &id).await, is(state, reason), "{happenings:?}");
        // And once more as one batch, in which each event comes three times.
        let (id, mail) = send(&stage, &format!("batch{place}@example.org")).await;
        let bodies: Vec<String> = happenings
            .iter()
            .flat_map(|happening| [event(&mail, *happening), copy(&mail, *happening), event(&mail, *happening)])
            .collect();
        assert_eq!(stage.feed(&bodies).await, Vec::<usize>::new());
        assert_eq!(state_of(&stage, &id).await, is(state, reason), "{happenings:?}");
    }
    stage.finish().await;
}

/// Row 39: whoever may publish through our configuration set may choose its tags, and changes nothing by it.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_39_an_event_with_a_tag_that_is_not_ours_changes_nothing(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let (_, mail) = send(&stage, "lin@example.org").await;
    let before = whole(&stage).await;
    let with = |name: &str, value: &str| {
        let mut forged = mail.clone();
        forged.tags.insert(name.to_owned(), value.to_owned());
        forged
    };
    let untagged = MailFacts { tags: BTreeMap::new(), ..mail.clone() };
    let foreign = MailFacts { tags: BTreeMap::from([("campaign".to_owned(), "x".to_owned())]), ..mail.clone() };
    let forged = [
        untagged,
        foreign,
        with("nid", "ntf_018f00000000700080000000000000ff"),
        with("nid", "ntf_1"),
        with("att", "2"),
        with("att", "0"),
        with("att", "one"),
        // The notification is the first tenant's, and the row under both tags is nobody's.
        with("t", OTHER_TENANT),
        with("t", "00000000-0000-0000-0000-000000000000"),
        with("t", "everybody"),
        MailFacts { message_id: "another-id".to_owned(), ..mail.clone() },
    ];
    for mail in &forged {
        let bodies = [Happening::HardBounce, Happening::Complaint, Happening::Reject]
            .map(|happening| [event(mail, happening), copy(mail, happening)])
            .concat();
        assert_eq!(stage.feed(&bodies).await, Vec::<usize>::new(), "ignored, not kept: {mail:?}");
    }
    assert_eq!(whole(&stage).await, before);
    stage.finish().await;
}

/// Row 39: the address in an event is only looked at, never believed.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_39_only_the_deliverys_own_address_is_ever_suppressed(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let (id, mut mail) = send(&stage, "lin@example.org").await;
    mail.to = vec!["victim@example.org".to_owned()];
    tell(&stage, &mail, &[Happening::HardBounce]).await;
    assert_eq!(state_of(&stage, &id).await, is("bounced", Some("hard_bounce")), "its mail did bounce");
    assert_eq!(suppressions(&stage).await, []);

    // A recipient who has moved meanwhile is not held to what became of the old address.
    let to_ada = json!({"category": "greeting", "recipient": {"id": "ada"}, "data": {"name": "Ada"}});
    stage.post(to_ada.clone()).await;
    stage.drain().await;
    let old = facts(&stage.mail.asked()[1], "provider-2");
    stage.put(TENANT, "/v1/recipients/{id}", "ada", json!({"email": "countess@example.org"})).await;
    tell(&stage, &old, &[Happening::HardBounce]).await;
    assert_eq!(suppressions(&stage).await, []);
    stage.post(to_ada).await;
    stage.drain().await;
    assert_eq!(stage.mail.count("countess@example.org"), 1);
    stage.finish().await;
}

/// Row 39: what SES would never write is kept for people, and its neighbours are done.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_39_what_is_malformed_or_oversized_fails_alone(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let (id, mail) = send(&stage, "lin@example.org").await;
    let sound = ToldEvent::new(&mail, Happening::Delivery);
    let mut oversized = sound.event_bridge.clone();
    oversized["padding"] = "x".repeat(300 * 1024).into();
    let mut forged_source = sound.event_bridge.clone();
    forged_source["source"] = "example.org".into();
    let mut no_mail = sound.event_bridge.clone();
    no_mail["detail"] = json!({"eventType": "Delivery"});
    let mut envelope_of_noise = sound.sns.clone();
    envelope_of_noise["Message"] = "noise".into();
    let bodies = [
        "not json".to_owned(),
        oversized.to_string(),
        sound.event_bridge.to_string(),
        forged_source.to_string(),
        no_mail.to_string(),
        envelope_of_noise.to_string(),
        "[".repeat(50_000),
        "Successfully validated SNS topic for Amazon SES event publishing.".to_owned(),
    ];
    assert_eq!(stage.feed(&bodies).await, [0, 1, 3, 4, 5, 6]);
    assert_eq!(state_of(&stage, &id).await, is("delivered", None));
    stage.finish().await;
}

/// Row 39: one tenant's mail to an address says nothing of another tenant's to the same one.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_39_a_bounce_suppresses_for_its_own_tenant_only(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let (id, mail) = send(&stage, "Lin@Example.org").await;
    tell(&stage, &mail, &[Happening::HardBounce]).await;
    assert_eq!(state_of(&stage, &id).await, is("bounced", Some("hard_bounce")));
    assert_eq!(suppressions(&stage).await, [("lin@example.org".to_owned(), "hard_bounce".to_owned())]);
    assert_eq!(suppressions_of(&stage, OTHER_TENANT).await, []);

    // The next one is decided against before it is claimed; the other tenant's goes out.
    let next = stage.post(Stage::greeting("lin@example.org")).await.id();
    stage.post_as(OTHER_TENANT, Stage::greeting("lin@example.org"), &[]).await;
    stage.drain().await;
    assert_eq!(state_of(&stage, &next).await, is("skipped", Some("address_suppressed")));
    assert_eq!(stage.mail.asked().len(), 2);
    let tenants: Vec<String> = stage.mail.asked().iter().map(|mail| mail.tags.tenant.as_str().to_owned()).collect();
    assert_eq!(tenants, [TENANT, OTHER_TENANT]);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_complaint_suppresses_at_once(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let (id, mail) = send(&stage, "lin@example.org").await;
    tell(&stage, &mail, &[Happening::Delivery, Happening::Complaint]).await;
    assert_eq!(state_of(&stage, &id).await, is("complained", Some("complaint")));
    assert_eq!(suppressions(&stage).await, [("lin@example.org".to_owned(), "complaint".to_owned())]);
    let detail = stage.show(&id).await["deliveries"][0]["detail"].clone();
    assert_eq!(detail, "abuse");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_the_provider_swallows_because_of_its_own_list_is_a_hard_bounce(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    for (place, happening) in [Happening::Suppressed, Happening::GloballySuppressed].into_iter().enumerate() {
        let (id, mail) = send(&stage, &format!("listed{place}@example.org")).await;
        tell(&stage, &mail, &[Happening::Send, happening]).await;
        assert_eq!(state_of(&stage, &id).await, is("bounced", Some("hard_bounce")));
    }
    assert_eq!(suppressions(&stage).await.len(), 2);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn five_soft_bounces_in_a_row_suppress_and_a_delivery_between_them_starts_anew(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let four_bounce = async |stage: &Stage| {
        for _ in 0..4 {
            let (id, mail) = send(stage, "lin@example.org").await;
            // A second copy of a bounce is not a second bounce.
            tell(stage, &mail, &[Happening::SoftBounce, Happening::SoftBounce]).await;
            assert_eq!(state_of(stage, &id).await, is("bounced", Some("soft_bounce")));
        }
    };
    four_bounce(&stage).await;
    let (_, mail) = send(&stage, "lin@example.org").await;
    tell(&stage, &mail, &[Happening::Delivery]).await;
    four_bounce(&stage).await;
    assert_eq!(suppressions(&stage).await, []);
    let (_, mail) = send(&stage, "lin@example.org").await;
    tell(&stage, &mail, &[Happening::SoftBounce]).await;
    assert_eq!(suppressions(&stage).await, [("lin@example.org".to_owned(), "soft_bounces".to_owned())]);

    // The last of them had been delivered after all: the address takes mail.
    tell(&stage, &mail, &[Happening::Delivery]).await;
    assert_eq!(suppressions(&stage).await, []);
    assert_eq!(stage.count("SELECT count(*) FROM harkara.soft_bounces").await, 0);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_complaint_after_soft_bounces_is_lifted_by_no_late_delivery(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let mut mails = Vec::new();
    for _ in 0..7 {
        mails.push(send(&stage, "lin@example.org").await.1);
    }
    for mail in &mails[..5] {
        tell(&stage, mail, &[Happening::SoftBounce]).await;
    }
    assert_eq!(suppressions(&stage).await, [("lin@example.org".to_owned(), "soft_bounces".to_owned())]);
    tell(&stage, &mails[5], &[Happening::Complaint]).await;
    assert_eq!(suppressions(&stage).await, [("lin@example.org".to_owned(), "complaint".to_owned())]);
    tell(&stage, &mails[6], &[Happening::Delivery]).await;
    assert_eq!(suppressions(&stage).await, [("lin@example.org".to_owned(), "complaint".to_owned())]);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_event_for_an_attempt_of_unknown_id_has_to_be_of_a_mail_to_its_address(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.mail.script("lin@example.org", [unknown as fn() -> _]);
    let (id, sound) = send(&stage, "lin@example.org").await;
    let forged = MailFacts { to: vec!["victim@example.org".to_owned()], ..sound.clone() };
    let before = whole(&stage).await;
    tell(&stage, &forged, &[Happening::Delivery, Happening::HardBounce]).await;
    assert_eq!(whole(&stage).await, before, "whoever guessed the tags moves nothing");
    tell(&stage, &sound, &[Happening::Delivery]).await;
    assert_eq!(state_of(&stage, &id).await, is("delivered", None));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn soft_bounces_that_come_in_one_batch_are_counted_like_others(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let mut mails = Vec::new();
    for _ in 0..6 {
        mails.push(send(&stage, "lin@example.org").await.1);
    }
    let bounces = |mails: &[MailFacts]| mails.iter().map(|mail| event(mail, Happening::SoftBounce)).collect::<Vec<_>>();
    let mut bodies = bounces(&mails[..4]);
    bodies.push(event(&mails[4], Happening::Delivery));
    bodies.push(event(&mails[5], Happening::SoftBounce));
    assert_eq!(stage.feed(&bodies).await, Vec::<usize>::new());
    assert_eq!(suppressions(&stage).await, []);
    assert_eq!(stage.count("SELECT sum(bounce_count)::bigint FROM harkara.soft_bounces").await, 1);
    let mut more = Vec::new();
    for _ in 0..4 {
        more.push(send(&stage, "lin@example.org").await.1);
    }
    assert_eq!(stage.feed(&bounces(&more)).await, Vec::<usize>::new());
    assert_eq!(suppressions(&stage).await, [("lin@example.org".to_owned(), "soft_bounces".to_owned())]);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_mail_that_is_refused_for_its_content_says_nothing_of_the_address(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    for _ in 0..6 {
        let (id, mail) = send(&stage, "lin@example.org").await;
        tell(&stage, &mail, &[Happening::Send, Happening::TooLarge]).await;
        assert_eq!(state_of(&stage, &id).await, is("bounced", Some("content_rejected")));
        let (id, mail) = send(&stage, "lin@example.org").await;
        tell(&stage, &mail, &[Happening::Reject, Happening::Send]).await;
        assert_eq!(state_of(&stage, &id).await, is("failed", Some("provider_rejected")));
        let (id, mail) = send(&stage, "lin@example.org").await;
        tell(&stage, &mail, &[Happening::RenderingFailure]).await;
        assert_eq!(state_of(&stage, &id).await, is("failed", Some("provider_rejected")));
    }
    assert_eq!(suppressions(&stage).await, []);
    assert_eq!(stage.count("SELECT count(*) FROM harkara.soft_bounces").await, 0);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_unknown_outcome_is_settled_by_the_first_event_and_never_sent_again(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let table = [
        (Happening::Send, "sent", None),
        (Happening::DeliveryDelay, "sent", None),
        (Happening::Delivery, "delivered", None),
        (Happening::HardBounce, "bounced", Some("hard_bounce")),
        (Happening::Complaint, "complained", Some("complaint")),
    ];
    for (place, (happening, state, reason)) in table.into_iter().enumerate() {
        let address = format!("unknown{place}@example.org");
        stage.mail.script(&address, [unknown as fn() -> _]);
        let (id, _) = send(&stage, &address).await;
        assert_eq!(stage.outcome(&id).await.0, "unknown");
        // SES never said which id it gave, so whichever the event has is the mail's.
        let mail = facts(&stage.mail.asked()[place], "of-the-event");
        tell(&stage, &mail, &[happening]).await;
        assert_eq!(state_of(&stage, &id).await, is(state, reason));
        let shown = stage.show(&id).await;
        let (delivery, attempt) = (&shown["deliveries"][0], &shown["deliveries"][0]["attempts"][0]);
        assert_eq!((&attempt["outcome"], &attempt["provider_message_id"]), (&json!("unknown"), &json!("of-the-event")));
        assert_eq!(delivery["provider_message_id"], "of-the-event");
        assert_eq!(delivery["resent_after_unknown"], 0);
        stage.pass(Duration::from_secs(600)).await;
        stage.dispatch().await;
        stage.drain().await;
        assert_eq!(stage.mail.count(&address), 1);
        // From now on the id is known, and another one is not believed.
        let other = facts(&stage.mail.asked()[place], "another");
        tell(&stage, &other, &[Happening::Complaint]).await;
        assert_eq!(state_of(&stage, &id).await, is(state, reason));
    }
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn good_news_of_an_earlier_attempt_stops_the_one_that_waits(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.mail.script("lin@example.org", [server_failed as fn() -> _]);
    let id = stage.post(Stage::greeting("lin@example.org")).await.id();
    stage.process(Duration::ZERO).await;
    assert_eq!(stage.outcome(&id).await.0, "queued", "it is to be sent again");
    tell(&stage, &facts(&stage.mail.asked()[0], "m"), &[Happening::Delivery]).await;
    assert_eq!(state_of(&stage, &id).await, is("delivered", None));
    stage.drain().await;
    assert_eq!(stage.mail.count("lin@example.org"), 1);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_mail_that_may_have_come_twice_is_declared(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.mail.script("lin@example.org", [unknown as fn() -> _]);
    let (id, _) = send(&stage, "lin@example.org").await;
    stage.pass(Duration::from_secs(600)).await;
    stage.dispatch().await;
    stage.drain().await;
    let shown = stage.show(&id).await;
    assert_eq!(shown["deliveries"][0]["resent_after_unknown"], 1);
    // The first one had arrived, too. It is the recipient's second copy, and both attempts say so.
    tell(&stage, &mail(&stage, 1), &[Happening::Delivery]).await;
    tell(&stage, &facts(&stage.mail.asked()[0], "first"), &[Happening::Delivery]).await;
    assert_eq!(feedback_of(&stage, &id).await, [Some("delivered".to_owned()), Some("delivered".to_owned())]);
    assert_eq!(state_of(&stage, &id).await, is("delivered", None));
    assert_eq!(stage.bus.detail_types().iter().filter(|name| *name == "delivery.delivered").count(), 1);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_ended_for_another_reason_stays_and_its_attempt_shows_what_was_said(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let at_most_once = json!({"class": "transactional", "template": "greeting", "unknown_policy": "at_most_once"});
    stage.put(TENANT, "/v1/categories/{key}", "once", at_most_once).await;
    stage.mail.script("lin@example.org", [unknown as fn() -> _]);
    let mut body = Stage::greeting("lin@example.org");
    body["category"] = "once".into();
    let id = stage.post(body).await.id();
    stage.drain().await;
    stage.pass(Duration::from_secs(600)).await;
    stage.dispatch().await;
    assert_eq!(state_of(&stage, &id).await, is("failed", Some("outcome_unknown")));
    tell(&stage, &facts(&stage.mail.asked()[0], "m"), &[Happening::Delivery, Happening::HardBounce]).await;
    assert_eq!(state_of(&stage, &id).await, is("failed", Some("outcome_unknown")));
    assert_eq!(feedback_of(&stage, &id).await, [Some("bounced".to_owned())]);
    assert_eq!(suppressions(&stage).await.len(), 1, "the address is bad whatever became of the delivery");
    stage.finish().await;
}

/// An event may be quicker than the statement that records the attempt.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_event_that_comes_before_the_attempt_is_recorded_is_applied(pool: PgPool) {
    use adapters::store::attempts::{AttemptRecord, record_across_tenants};
    use adapters::store::claims::{Claim, DeliveryKey, claim_across_tenants};
    use adapters::wire::queue_message::read_message;
    use domain::category::{DeliveryRules, UnknownPolicy};
    use domain::outcome::{AttemptBudget, Conclusion, settle_attempt};
    use domain::retry::Jitter;

    let stage = Stage::begin(pool).await;
    let id = stage.post(Stage::greeting("lin@example.org")).await.id();
    let message = read_message(&stage.queue.receive(Duration::ZERO)[0].body).expect("a message");
    let key = DeliveryKey { tenant: message.tenant, delivery: message.delivery };
    let attempt = domain::id::AttemptId::from_uuid(adapters::ids::new_uuid());
    let database = &stage.processor.database;
    let claims = claim_across_tenants(database, &[(key, attempt)]).await.expect("asked");
    assert!(matches!(claims[&key], Claim::Claimed(_)));
    let tags = [("nid", id.clone()), ("att", "1".to_owned()), ("t", TENANT.to_owned())];
    let mail = MailFacts {
        message_id: "m".to_owned(),
        at: "2026-11-21T10:00:00Z".parse().expect("a time"),
        from: "sender@harkara.test".to_owned(),
        to: vec!["lin@example.org".to_owned()],
        tags: tags.map(|(name, value)| (name.to_owned(), value)).into(),
        configuration_set: None,
    };
    tell(&stage, &mail, &[Happening::Send, Happening::Delivery]).await;
    assert_eq!(state_of(&stage, &id).await, is("delivered", None));

    let rules =
        DeliveryRules { max_attempts: 3, unknown_policy: UnknownPolicy::AtLeastOnce, reconcile_window_seconds: 600 };
    let budget = AttemptBudget { spent: 1, made: 1 };
    let settlement = settle_attempt(Conclusion::Called(unknown()), budget, &rules, Jitter::new(0.0));
    let late = AttemptRecord {
        key,
        attempt,
        attempt_number: 1,
        identity: "default".into(),
        settlement,
        findings: Vec::new(),
        content_hash: None,
        event: None,
    };
    let recorded = record_across_tenants(database, &[late]).await.expect("asked");
    assert!(recorded.deliveries.is_empty(), "what is delivered is not unknown");
    assert_eq!(state_of(&stage, &id).await, is("delivered", None));
    assert_eq!(feedback_of(&stage, &id).await, [Some("delivered".to_owned())]);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_attempt_that_somebody_else_is_writing_is_waited_for_and_then_given_back(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let (id, mail) = send(&stage, "lin@example.org").await;
    let (_, other) = send(&stage, "eve@example.org").await;
    let mut writer = stage.admin.begin().await.expect("a transaction");
    sqlx::query("UPDATE harkara.attempts SET error_detail = 'held' WHERE provider_message_id = 'provider-1'")
        .execute(&mut *writer)
        .await
        .expect("held");
    let bodies = [event(&mail, Happening::Delivery), event(&other, Happening::Delivery)];
    assert_eq!(stage.feed(&bodies).await, [0], "its neighbour does not wait for it");
    writer.rollback().await.expect("let go");
    assert_eq!(state_of(&stage, &id).await, is("sent", None));
    assert_eq!(stage.feed(&bodies).await, Vec::<usize>::new());
    assert_eq!(state_of(&stage, &id).await, is("delivered", None));
    stage.finish().await;
}

/// Row 41: the answer to a COMMIT is lost, or the process dies after it: the message comes again.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_41_a_batch_that_is_received_again_is_a_no_op(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let mut bodies = Vec::new();
    for (place, happening) in [Happening::Delivery, Happening::HardBounce, Happening::Complaint, Happening::SoftBounce]
        .into_iter()
        .enumerate()
    {
        let (_, mail) = send(&stage, &format!("again{place}@example.org")).await;
        bodies.extend([event(&mail, Happening::Send), event(&mail, happening)]);
    }
    assert_eq!(stage.feed(&bodies).await, Vec::<usize>::new());
    stage.dispatch().await;
    let before = whole(&stage).await;
    let told = stage.bus.events().len();
    for _ in 0..3 {
        assert_eq!(stage.feed(&bodies).await, Vec::<usize>::new());
    }
    assert_eq!(whole(&stage).await, before);
    assert_eq!(stage.bus.events().len(), told);
    stage.finish().await;
}

/// Row 41: nothing of a batch is half done.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_41_a_batch_that_cannot_be_written_comes_back_whole(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let (id, mail) = send(&stage, "lin@example.org").await;
    sqlx::query("ALTER TABLE harkara.suppressions RENAME TO gone").execute(&stage.admin).await.expect("renamed");
    let bodies = [event(&mail, Happening::HardBounce)];
    assert_eq!(stage.feed(&bodies).await, [0]);
    assert_eq!(state_of(&stage, &id).await, is("sent", None));
    assert_eq!(feedback_of(&stage, &id).await, [None]);
    sqlx::query("ALTER TABLE harkara.gone RENAME TO suppressions").execute(&stage.admin).await.expect("renamed");
    assert_eq!(stage.feed(&bodies).await, Vec::<usize>::new());
    assert_eq!(state_of(&stage, &id).await, is("bounced", Some("hard_bounce")));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn events_that_the_bus_does_not_take_stay_in_the_outbox(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let (_, mail) = send(&stage, "lin@example.org").await;
    stage.bus.refuse(true);
    tell(&stage, &mail, &[Happening::Delivery]).await;
    assert!(!stage.bus.detail_types().contains(&"delivery.delivered".to_owned()));
    stage.bus.refuse(false);
    stage.pass(Duration::from_secs(60)).await;
    stage.dispatch().await;
    assert_eq!(stage.bus.detail_types().iter().filter(|name| *name == "delivery.delivered").count(), 1);
    stage.finish().await;
}

/// Row 40: `sent` stays, and the account's own list tells what the events did not.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_40_a_bounce_that_no_event_told_is_found_on_the_providers_list(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let (id, _) = send(&stage, "lin@example.org").await;
    stage.pass(Duration::from_secs(24 * 3600)).await;
    stage.dispatch().await;
    assert_eq!(state_of(&stage, &id).await, is("sent", None), "no state waits for an event for ever");
    let listed = [
        ("Lin@example.org", SuppressionReason::HardBounce),
        ("eve@example.org", SuppressionReason::Complaint),
        ("joe@example.org", SuppressionReason::HardBounce),
    ];
    stage.account.set(&listed, 14);
    let counts = stage.reconcile().await.expect("compared");
    assert_eq!((counts.listed, counts.added, counts.removed, counts.is_complete), (3, 3, 0, true));
    assert_eq!(
        stage.count("SELECT sends_per_second::bigint FROM harkara.send_pace WHERE sends_per_second IS NOT NULL").await,
        14
    );
    // The provider would swallow a mail of any tenant.
    for tenant in [TENANT, OTHER_TENANT] {
        stage.post_as(tenant, Stage::greeting("lin@example.org"), &[]).await;
    }
    stage.drain().await;
    assert_eq!(stage.mail.count("lin@example.org"), 1);
    stage.finish().await;
}

/// Row 40: the list is the provider's; what leaves it may be sent to again.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn row_40_an_address_that_left_the_list_is_sent_to_again_and_own_suppressions_stay(pool: PgPool) {
    let operator = "00000000-0000-0000-0000-000000000000";
    let stage = Stage::begin(pool).await;
    let (_, mail) = send(&stage, "own@example.org").await;
    tell(&stage, &mail, &[Happening::HardBounce]).await;
    let hard = SuppressionReason::HardBounce;
    let all = [("a@example.org", hard), ("b@example.org", hard), ("c@example.org", hard)];
    stage.account.set(&all, 1);
    assert_eq!(stage.reconcile().await.expect("compared").added, 3);
    assert_eq!(stage.reconcile().await.expect("compared").added, 0, "the same again is nothing new");

    // A run that does not get to the end of the list removes nothing that it has not seen.
    stage.account.set(&[("b@example.org", hard), ("x@example.org", hard), ("y@example.org", hard)], 1);
    stage.account.fail_after(2);
    stage.reconcile().await.expect_err("the provider broke off");
    assert_eq!(suppressions_of(&stage, operator).await.len(), 4, "one was new");
    stage.account.fail_after(usize::MAX);
    let counts = stage.reconcile().await.expect("compared");
    assert_eq!((counts.added, counts.removed), (1, 2));
    let left: Vec<String> = suppressions_of(&stage, operator).await.into_iter().map(|(address, _)| address).collect();
    assert_eq!(left, ["b@example.org", "x@example.org", "y@example.org"]);
    assert_eq!(suppressions(&stage).await.len(), 1, "what a tenant's own mail told is the tenant's");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_redrive_does_not_send_again_what_ses_has_told_of(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    stage.mail.script("ada@example.org", [server_failed as fn() -> _; 3]);
    let id = stage.post(Stage::greeting("ada@example.org")).await.id();
    stage.drain().await;
    stage.store_dead_letters().await;
    assert_eq!(state_of(&stage, &id).await, is("dead", Some("attempts_used_up")));
    // The last of the three failures was none.
    tell(&stage, &mail(&stage, 2), &[Happening::Delivery]).await;
    assert_eq!(feedback_of(&stage, &id).await, [None, None, Some("delivered".to_owned())]);

    let redrive = r#"{"from": "2020-01-01T00:00:00Z"}"#;
    let answer = stage.call(TENANT, "POST /v1/dead-letters/redrive", None, "", redrive).await;
    assert_eq!((answer.status, &answer.body["redriven_count"]), (200, &json!(0)), "{answer:?}");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_event_of_an_attempt_that_never_reached_the_provider_changes_nothing(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let (_, mut mail) = send(&stage, "lin@example.org").await;
    let mut body = Stage::greeting("ada@example.org");
    body["sandbox"] = true.into();
    let id = stage.post(body).await.id();
    stage.drain().await;
    mail.tags.insert("nid".to_owned(), id);
    mail.message_id = "another-id".to_owned();
    mail.to = vec!["ada@example.org".to_owned()];
    let before = whole(&stage).await;
    for happening in [Happening::HardBounce, Happening::Complaint] {
        assert_eq!(stage.feed(&[event(&mail, happening)]).await, Vec::<usize>::new());
    }
    assert_eq!(whole(&stage).await, before);
    stage.finish().await;
}
