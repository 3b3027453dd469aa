//! Files and invitations: what leaves with a mail, what is refused, how often it is stored, and what is left of it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::attachment::Attachment;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::time::Duration;
use tests::{OTHER_TENANT, Stage, TENANT};

fn file(name: &str, content_type: &str, content: &[u8]) -> Value {
    json!({"filename": name, "content_type": content_type, "content": STANDARD.encode(content)})
}

fn report() -> Value {
    file("report.pdf", "application/pdf", b"%PDF-1.7 \xff\x00")
}

fn visit() -> Value {
    json!({"start": "2026-11-24T10:00:00+05:30", "end": "2026-11-24T11:30:00+05:30", "summary": "Audit visit, part 2"})
}

/// A greeting with files and an invitation.
fn with(recipient: Value, attachments: Value, calendar: Value) -> Value {
    json!({"category": "greeting", "recipient": recipient, "data": {"name": "Ada"},
           "attachments": attachments, "calendar": calendar})
}

fn shown(files: &[Attachment]) -> Vec<(&str, &str, &[u8])> {
    files.iter().map(|file| (file.file_name.as_str(), file.content_type.as_str(), &*file.content)).collect()
}

fn lines(invitation: &Attachment) -> Vec<String> {
    let text = std::str::from_utf8(&invitation.content).expect("UTF-8").replace("\r\n ", "");
    text.split("\r\n").map(str::to_owned).collect()
}

async fn content_of(stage: &Stage, notification: &str) -> Value {
    let delivery = stage.show(notification).await["deliveries"][0]["id"].as_str().expect("an id").to_owned();
    stage.call(TENANT, "GET /v1/deliveries/{id}/content", Some(&delivery), "", "").await.body
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn files_leave_with_the_mail_in_order_and_are_shown_later_by_name_and_size(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let notes = file("notes.txt", "text/plain", "für Ada".as_bytes());
    let id = stage.post(with(json!({"id": "ada"}), json!([report(), notes]), Value::Null)).await.id();
    let plain = stage.post(Stage::greeting("bob@example.org")).await.id();
    stage.drain().await;
    let mails = stage.mail.asked();
    let to = |address: &str| mails.iter().find(|mail| mail.to.as_str() == address).expect("a mail");
    let wanted: [(&str, &str, &[u8]); 2] =
        [("report.pdf", "application/pdf", b"%PDF-1.7 \xff\x00"), ("notes.txt", "text/plain", "für Ada".as_bytes())];
    assert_eq!(shown(&to("ada@example.org").attachments), wanted);
    assert_eq!(shown(&to("bob@example.org").attachments), [], "whoever was sent none gets none");

    let content = content_of(&stage, &id).await;
    let files = json!([
        {"filename": "report.pdf", "content_type": "application/pdf", "size_bytes": 11},
        {"filename": "notes.txt", "content_type": "text/plain", "size_bytes": 8},
    ]);
    assert_eq!((&content["attachments"], &content["calendar"]), (&files, &Value::Null));
    assert_eq!(content["is_as_sent"], true, "{content}");
    let content = content_of(&stage, &plain).await;
    assert_eq!((&content["attachments"], &content["is_as_sent"]), (&json!([]), &json!(true)));
    // The digest is of the files, too.
    let statement = "UPDATE harkara.attachments SET content = 'other' WHERE file_name = 'notes.txt'";
    sqlx::query(statement).execute(&stage.admin).await.expect("changed");
    assert_eq!(content_of(&stage, &id).await["is_as_sent"], false);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn an_invitation_is_in_the_recipients_zone_and_printed_again_to_the_byte(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let asha = json!({"email": "asha@example.org", "name": "Asha Rao", "time_zone": "Asia/Kolkata"});
    stage.put(TENANT, "/v1/recipients/{id}", "asha", asha).await;
    let id = stage.post(with(json!({"id": "asha"}), json!([report()]), visit())).await.id();
    stage.drain().await;
    let mail = &stage.mail.asked()[0];
    let [_, invitation] = mail.attachments.as_slice() else { panic!("two files, not {mail:?}") };
    assert_eq!(invitation.file_name.as_str(), "invite.ics");
    assert_eq!(invitation.content_type.as_str(), "text/calendar; method=REQUEST; charset=UTF-8");
    let printed = lines(invitation);
    for line in [
        "METHOD:REQUEST",
        "TZID:Asia/Kolkata",
        "DTSTART;TZID=Asia/Kolkata:20261124T100000",
        "DTEND;TZID=Asia/Kolkata:20261124T113000",
        "SUMMARY:Audit visit\\, part 2",
        "ORGANIZER:mailto:sender@harkara.test",
        "ATTENDEE;CN=\"Asha Rao\";ROLE=REQ-PARTICIPANT;PARTSTAT=NEEDS-ACTION;RSVP=TRUE:mailto:asha@example.org",
        "SEQUENCE:0",
        &format!("UID:{id}@harkara"),
    ] {
        assert!(printed.iter().any(|printed| printed == line), "{line} in {printed:?}");
    }
    let content = content_of(&stage, &id).await;
    assert_eq!(content["calendar"].as_str().map(str::as_bytes), Some(&*invitation.content));
    assert_eq!(content["attachments"][1]["filename"], "invite.ics");
    assert_eq!(content["is_as_sent"], true, "{content}");
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_second_attempt_carries_the_same_bytes(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let failed = || {
        let error = domain::outcome::ProviderError { code: "ConnectFailed".into(), detail: "no".into() };
        domain::outcome::SendOutcome::Transient(error)
    };
    stage.mail.script("ada@example.org", [failed as fn() -> _]);
    let id = stage.post(with(json!({"id": "ada"}), json!([report()]), visit())).await.id();
    stage.drain().await;
    stage.pass(Duration::from_secs(3600)).await;
    stage.dispatch().await;
    stage.drain().await;
    let mails = stage.mail.asked();
    assert_eq!((mails.len(), stage.outcome(&id).await.0.as_str()), (2, "sent"));
    // Between the two, the test moved the time of acceptance, which is the stamp.
    let unstamped =
        |file: &Attachment| lines(file).into_iter().filter(|line| !line.starts_with("DTSTAMP")).collect::<Vec<_>>();
    let [first, second] = [0, 1].map(|place| &mails[place].attachments);
    assert_eq!(shown(&first[..1]), shown(&second[..1]));
    assert_eq!(unstamped(&first[1]), unstamped(&second[1]));
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn what_cannot_be_sent_is_refused_by_its_pointer_and_nothing_is_stored(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let ada = json!({"id": "ada"});
    let large = file("large.bin", "application/octet-stream", &vec![7; 300 * 1024]);
    let mut bad = report();
    bad["content"] = json!("JVBERi0x*");
    let mut backwards = visit();
    backwards["end"] = json!("2026-11-24T09:00:00+05:30");
    let table = [
        (with(ada.clone(), json!([large, large]), Value::Null), "/attachments/1/content"),
        (with(ada.clone(), json!([report(), bad]), Value::Null), "/attachments/1/content"),
        (with(ada.clone(), json!([file("a.js", "text/plain", b"x")]), Value::Null), "/attachments/0/filename"),
        (
            with(ada.clone(), json!([file("a.bin", "application/x-msdownload", b"MZ")]), Value::Null),
            "/attachments/0/content_type",
        ),
        (with(ada.clone(), json!(vec![report(); 11]), Value::Null), "/attachments"),
        (with(ada.clone(), json!([]), backwards), "/calendar/end"),
        (with(ada.clone(), json!([]), json!({"summary": "no time"})), "/calendar/start"),
    ];
    for (body, pointer) in table {
        let refused = stage.post(body).await;
        assert_eq!((refused.status, refused.pointers().first().copied()), (422, Some(pointer)), "{refused:?}");
    }
    // One bad item of two: its files are not stored, and the other's are.
    let mut unknown = with(json!({"id": "nobody"}), json!([file("lost.pdf", "application/pdf", b"x")]), Value::Null);
    unknown["data"] = json!({"name": "N"});
    let both = json!({"notifications": [unknown, with(ada, json!([report()]), Value::Null)]});
    assert_eq!(stage.post(both).await.status, 202);
    assert_eq!(stage.count("SELECT count(*) FROM harkara.attachments WHERE file_name = 'report.pdf'").await, 1);
    assert_eq!(stage.count("SELECT count(*) FROM harkara.attachments").await, 1);
    assert_eq!(stage.count("SELECT count(*) FROM harkara.notifications").await, 1);
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_thousand_recipients_share_one_stored_file(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let large = file("large.bin", "application/octet-stream", &vec![7; 40 * 1024]);
    let to = |n: usize| json!({"email": format!("r{n}@example.org")});
    let mut many = with(Value::Null, json!([large, report()]), visit());
    many["recipients"] = (0..1000).map(to).collect();
    assert_eq!(stage.post(many).await.status, 202);
    assert_eq!(stage.count("SELECT count(*) FROM harkara.attachments").await, 2);
    assert_eq!(
        stage.count("SELECT count(*) FROM harkara.notifications WHERE cardinality(attachments) = 2").await,
        1000
    );
    stage.drain().await;
    let mails = stage.mail.asked();
    assert_eq!(mails.len(), 1000);
    assert!(mails.iter().all(|mail| mail.attachments.len() == 3 && mail.attachments[0].content.len() == 40 * 1024));
    // Each is invited as itself.
    let own = |mail: &domain::mail::Mail| {
        let attendee = format!(":mailto:{}", mail.to);
        lines(&mail.attachments[2]).iter().any(|line| line.starts_with("ATTENDEE") && line.ends_with(&attendee))
    };
    assert!(mails.iter().all(own));
    // The same file in two notifications of a request is one, too; in two requests it is two.
    let twice = json!({"notifications": vec![with(json!({"id": "ada"}), json!([report()]), Value::Null); 2]});
    assert_eq!(stage.post(twice).await.status, 202);
    assert_eq!(stage.count("SELECT count(*) FROM harkara.attachments").await, 3);
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_repetition_stores_no_file(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let mut body = with(json!({"id": "ada"}), json!([report()]), Value::Null);
    body["dedupe"] = json!({"key": "visit-7"});
    let key = [("idempotency-key", "key-1")];
    assert_eq!(stage.post_as(TENANT, body.clone(), &key).await.status, 202);
    assert_eq!(stage.post_as(TENANT, body.clone(), &key).await.status, 202, "the same answer again");
    assert_eq!(stage.post(body).await.status, 202, "a duplicate");
    assert_eq!(stage.count("SELECT count(*) FROM harkara.attachments").await, 1);
    stage.drain().await;
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn files_are_read_only_for_what_is_sent(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    // Without the right to read files, whoever asks for one fails.
    let forbid = "REVOKE SELECT ON harkara.attachments FROM harkara_worker";
    sqlx::query(forbid).execute(&stage.admin).await.expect("revoked");
    let canceled = stage.post(with(json!({"id": "ada"}), json!([report()]), Value::Null)).await.id();
    stage.call(TENANT, "POST /v1/notifications/{id}/cancel", Some(&canceled), "", "").await;
    let mut expiring = with(json!({"email": "late@example.org"}), json!([report()]), Value::Null);
    expiring["expires_at"] = json!("2099-01-01T00:00:00Z");
    let expired = stage.post(expiring).await.id();
    let expire =
        "UPDATE harkara.notifications SET send_at = harkara.now() - interval '2 hours', expires_at = harkara.now() - interval '1 hour'
                  WHERE expires_at IS NOT NULL";
    sqlx::query(expire).execute(&stage.admin).await.expect("expired");
    let plain = stage.post(Stage::greeting("bob@example.org")).await.id();
    stage.drain().await;
    assert_eq!(stage.outcome(&canceled).await.0, "canceled");
    assert_eq!(stage.outcome(&expired).await, ("expired".to_owned(), Some("expiry_passed".to_owned()), 0));
    assert_eq!(stage.outcome(&plain).await.0, "sent", "a mail without files asks for none");

    // A mail whose files cannot be read waits; it does not leave without them.
    let waiting = stage.post(with(json!({"id": "ada"}), json!([report()]), Value::Null)).await.id();
    stage.process(Duration::ZERO).await;
    assert_eq!(stage.mail.count("ada@example.org"), 0);
    let allow = "GRANT SELECT ON harkara.attachments TO harkara_worker";
    sqlx::query(allow).execute(&stage.admin).await.expect("granted");
    stage.pass(Duration::from_secs(3600)).await;
    stage.dispatch().await;
    stage.drain().await;
    assert_eq!(stage.outcome(&waiting).await.0, "sent");
    assert_eq!(stage.mail.asked().last().expect("a mail").attachments.len(), 1);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn erasing_a_recipient_takes_the_invitation_and_the_files_that_nobody_else_got(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let bob = json!({"email": "bob@example.org", "name": "Bob"});
    stage.put(TENANT, "/v1/recipients/{id}", "bob", bob).await;
    let own = file("own.pdf", "application/pdf", b"own");
    let id = stage.post(with(json!({"id": "ada"}), json!([own]), visit())).await.id();
    let mut both = with(Value::Null, json!([file("shared.pdf", "application/pdf", b"shared")]), Value::Null);
    both["recipients"] = json!([{"id": "ada"}, {"id": "bob"}]);
    stage.post(both).await;
    stage.drain().await;
    let erase = async |id: &str| stage.call(TENANT, "DELETE /v1/recipients/{id}", Some(id), "", "").await.status;
    assert_eq!(erase("ada").await, 204);
    assert_eq!(stage.count("SELECT count(*) FROM harkara.attachments WHERE file_name = 'own.pdf'").await, 0);
    assert_eq!(stage.count("SELECT count(*) FROM harkara.attachments WHERE file_name = 'shared.pdf'").await, 1);
    assert_eq!(stage.count("SELECT count(*) FROM harkara.notifications WHERE calendar IS NOT NULL").await, 0);
    assert_eq!(content_of(&stage, &id).await["code"], "gone");
    assert_eq!(erase("bob").await, 204);
    assert_eq!(stage.count("SELECT count(*) FROM harkara.attachments").await, 0);
    // What the audit kept says nothing of either.
    let told = "SELECT count(*) FROM harkara.audit_log
                WHERE concat(old_values, new_values) LIKE '%own.pdf%' OR concat(old_values, new_values) LIKE '%Audit visit%'";
    assert_eq!(stage.count(told).await, 0);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn another_tenant_and_a_recipients_own_token_see_no_file(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let id = stage.post(with(json!({"id": "ada"}), json!([report()]), Value::Null)).await.id();
    stage.drain().await;
    let delivery = stage.show(&id).await["deliveries"][0]["id"].as_str().expect("an id").to_owned();
    let other = stage.call(OTHER_TENANT, "GET /v1/deliveries/{id}/content", Some(&delivery), "", "").await;
    assert_eq!(other.status, 404);
    let mut transaction = crate::catalog::begin_as(&stage.admin, crate::catalog::API).await;
    sqlx::query("SELECT harkara.enter_recipient($1::uuid, 'ada', 'ada', NULL)")
        .bind(TENANT)
        .execute(&mut *transaction)
        .await
        .expect("entered");
    let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM harkara.attachments")
        .fetch_one(&mut *transaction)
        .await
        .expect("counted");
    assert_eq!(seen, 0);
    stage.finish().await;
}

#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_cancellation_names_the_event_in_the_zone_asked_for(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let mut cancellation = visit();
    cancellation["method"] = json!("cancel");
    let refused = stage.post(with(json!({"id": "ada"}), json!([]), cancellation.clone())).await;
    assert_eq!((refused.status, refused.pointers()), (422, vec!["/calendar/uid"]));
    cancellation["uid"] = json!("visit-7@example.in");
    cancellation["sequence"] = json!(1);
    cancellation["time_zone"] = json!("Europe/Berlin");
    cancellation["organizer"] = json!("lead@example.in");
    stage.post(with(json!({"id": "ada"}), json!([]), cancellation)).await.id();
    stage.drain().await;
    let mail = &stage.mail.asked()[0];
    assert_eq!(mail.attachments[0].content_type.as_str(), "text/calendar; method=CANCEL; charset=UTF-8");
    let printed = lines(&mail.attachments[0]);
    for line in [
        "METHOD:CANCEL",
        "UID:visit-7@example.in",
        "DTSTART;TZID=Europe/Berlin:20261124T053000",
        "ORGANIZER:mailto:lead@example.in",
        "SEQUENCE:1",
        "STATUS:CANCELLED",
    ] {
        assert!(printed.iter().any(|printed| printed == line), "{line} in {printed:?}");
    }
    stage.finish().await;
}

/// RFC 5546, section 3.2.2: what makes the calendar take it for the one that it has.
#[sqlx::test(migrator = "adapters::store::migrations::MIGRATOR")]
async fn a_moved_event_is_the_same_one_with_a_higher_sequence_and_a_later_stamp(pool: PgPool) {
    let stage = Stage::begin(pool).await;
    let mut moved = visit();
    moved["uid"] = json!("visit-7@example.in");
    moved["location"] = json!("Room 4");
    stage.post(with(json!({"id": "ada"}), json!([]), moved.clone())).await.id();
    stage.drain().await;
    stage.pass(Duration::from_secs(60)).await;
    moved["start"] = json!("2026-11-25T10:00:00+05:30");
    moved["end"] = json!("2026-11-25T11:30:00+05:30");
    moved["sequence"] = json!(1);
    stage.post(with(json!({"id": "ada"}), json!([]), moved)).await.id();
    stage.drain().await;
    let mails = stage.mail.asked();
    let [first, second] = [0, 1].map(|place| lines(&mails[place].attachments[0]));
    for line in
        ["METHOD:REQUEST", "DTSTART:20261125T043000Z", "DTEND:20261125T060000Z", "LOCATION:Room 4", "SEQUENCE:1"]
    {
        assert!(second.iter().any(|printed| printed == line), "{line} in {second:?}");
    }
    // What says which event it is, and whose.
    for name in ["UID:", "ORGANIZER", "ATTENDEE", "SUMMARY:", "STATUS:"] {
        let of = |event: &[String]| event.iter().find(|line| line.starts_with(name)).expect("it is there").clone();
        assert_eq!(of(&first), of(&second));
    }
    let stamp = |event: &[String]| event.iter().find(|line| line.starts_with("DTSTAMP:")).expect("a stamp").clone();
    assert!(stamp(&first) < stamp(&second), "{first:?} {second:?}");
    stage.finish().await;
}
