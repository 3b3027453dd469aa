//! Recipients decide, on the running stack: by preference, by one click, by their language; and what was done is on record.

use super::{Caller, address, agent, caller, shared, sign_token, stack, until};
use serde_json::{Value, json};

impl Caller {
    fn put(&self, path: &str, body: &Value) -> Value {
        let answer = self.send("PUT", path, Some(body), None);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.body
    }

    /// A recipient of its own for this test, with an address that nobody else uses.
    fn recipient(&self, more: Value) -> (String, String) {
        let (id, to) = (format!("r-{}", uuid::Uuid::now_v7().simple()), address("accept"));
        let mut body = json!({"email": to, "name": "Asha Rao", "time_zone": "Asia/Kolkata"});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        self.put(&format!("/v1/recipients/{id}"), &body);
        (id, to)
    }

    fn ask(&self, category: &str, recipient: &str, data: Value) -> String {
        let body = json!({"category": category, "recipient": {"id": recipient}, "data": data});
        let answer = self.send("POST", "/v1/notifications", Some(&body), None);
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.body["id"].as_str().expect("an id").to_owned()
    }

    fn explain(&self, id: &str) -> String {
        let answer = self.send("GET", &format!("/v1/notifications/{id}/explain"), None, None);
        answer.body["deliveries"][0]["explanation"].to_string()
    }
}

/// What the seed's template of a weekly digest asks for.
fn digest() -> Value {
    json!({"count": 0, "more_count": 0, "more_url": "https://aegis.example/inbox", "sections": []})
}

#[test]
fn an_opted_out_recipient_is_skipped_and_explain_prints_why() {
    let _queue = shared();
    let caller = caller();
    let (id, to) = caller.recipient(json!({}));
    let off = json!({"preferences": [{"category": "RESPONSE_SUBMITTED", "enabled": false}]});
    caller.put(&format!("/v1/recipients/{id}/preferences"), &off);
    let body = json!({"category": "RESPONSE_SUBMITTED", "recipient": {"id": id}, "subject": "s", "text": "t"});
    let asked =
        caller.send("POST", "/v1/notifications", Some(&body), None).body["id"].as_str().expect("an id").to_owned();
    let delivery = caller.until_state(&asked, "skipped");
    assert_eq!(delivery["reason"], "preference_off");
    assert!(caller.explain(&asked).contains("it is switched off by the recipient, for this category"));
    assert_eq!(caller.requests(&to).len(), 0);
}

#[test]
fn a_chief_audit_executive_cannot_mute_the_weekly_digest() {
    let caller = caller();
    let (id, _) = caller.recipient(json!({"roles": ["CAE"]}));
    let off = json!({"preferences": [{"category": "WEEKLY_DIGEST", "enabled": false}]});
    let refused = caller.send("PUT", &format!("/v1/recipients/{id}/preferences"), Some(&off), None);
    assert_eq!((refused.status, refused.body["code"].as_str()), (422, Some("mandatory_category")), "{}", refused.body);
    assert!(refused.body["detail"].as_str().is_some_and(|detail| detail.contains("the role CAE")), "{}", refused.body);
}

#[test]
fn one_click_stops_the_category_and_the_next_send_is_skipped() {
    let _queue = shared();
    let caller = caller();
    let (id, to) = caller.recipient(json!({}));
    let body = json!({"category": "RESPONSE_SUBMITTED", "recipient": {"id": id}, "subject": "s", "text": "t", "html": "<p>t</p>"});
    let ask = || {
        let answer = caller.send("POST", "/v1/notifications", Some(&body), None);
        answer.body["id"].as_str().unwrap_or_else(|| panic!("{}", answer.body)).to_owned()
    };
    caller.until_sent(&ask());
    let request = &caller.requests(&to)[0];
    assert_eq!(request["headers"]["List-Unsubscribe-Post"], "List-Unsubscribe=One-Click");
    let link = request["headers"]["List-Unsubscribe"].as_str().expect("a link").trim_matches(['<', '>']).to_owned();
    assert!(request["html"].as_str().is_some_and(|html| html.contains(link.rsplit('/').next().expect("a token"))));

    let looked = agent().get(&link).call().expect("answered");
    assert_eq!(looked.status(), 200);
    caller.until_sent(&ask());
    for _ in 0..2 {
        let clicked = agent().post(&link).send_form([("List-Unsubscribe", "One-Click")]).expect("answered");
        assert_eq!(clicked.status(), 200, "a repeat is fine");
    }
    let skipped = ask();
    caller.until_state(&skipped, "skipped");
    assert!(caller.explain(&skipped).contains("switched off by the recipient"));
    let forged = format!("{}x", &link[..link.len() - 1]);
    assert_eq!(agent().post(&forged).send_form([("List-Unsubscribe", "One-Click")]).expect("answered").status(), 404);
}

#[test]
fn a_hindi_recipient_gets_the_hindi_variant_with_local_dates_and_the_preview_equals_the_mail() {
    let _queue = shared();
    let caller = caller();
    let key = format!("t-{}", uuid::Uuid::now_v7().simple());
    let draft = json!({
        "variables": {"due": {"type": "datetime", "example": "2026-12-01T20:00:00Z"}},
        "variants": [
            {"locale": "en", "subject": "Due", "mjml": "<mjml><mj-body><mj-section><mj-column><mj-text>{{ due|date(\"long\") }}</mj-text></mj-column></mj-section></mj-body></mjml>"},
            {"locale": "hi", "subject": "नियत", "html": "<p>{{ recipient.name or \"Hi\" }}: {{ due|date(\"long\") }}</p>"},
        ],
    });
    caller.put(&format!("/v1/templates/{key}"), &draft);
    let published = caller.send("POST", &format!("/v1/templates/{key}/publish"), Some(&json!({})), None);
    assert_eq!(published.status, 200, "{}", published.body);
    let category = json!({"class": "transactional", "template": key});
    caller.put(&format!("/v1/categories/{key}"), &category);
    let (id, to) = caller.recipient(json!({"locale": "hi-IN"}));
    let data = json!({"due": "2026-12-01T20:00:00Z"});
    let asked = json!({"version": 1, "recipient": {"id": id}, "category": key, "data": data});
    let preview = caller.send("POST", &format!("/v1/templates/{key}/preview"), Some(&asked), None);
    assert_eq!(preview.status, 200, "{}", preview.body);
    caller.until_sent(&caller.ask(&key, &id, data));
    let request = &caller.requests(&to)[0];
    assert_eq!(request["subject"], "नियत");
    assert!(request["html"].as_str().is_some_and(|html| html.contains("2 दिसंबर 2026")), "{request}");
    for part in ["subject", "html", "text"] {
        assert_eq!(preview.body[part], request[part], "{part}");
    }
}

#[test]
fn a_recipients_own_token_sees_that_recipient_only() {
    let _queue = shared();
    let mut caller = caller();
    let (mine, _) = caller.recipient(json!({}));
    let (theirs, _) = caller.recipient(json!({}));
    let id = caller.ask("WEEKLY_DIGEST", &theirs, digest());
    caller.until_sent(&id);
    let claims = json!({"tenant_id": caller.tenant, "sub": mine, "scope": "self"});
    let whole = std::mem::take(&mut caller.token);
    caller.token = sign_token(&caller.stack, claims);
    let status = |path: &str| caller.send("GET", path, None, None).status;
    assert_eq!(status(&format!("/v1/recipients/{mine}/preferences")), 200);
    assert_eq!(status(&format!("/v1/recipients/{theirs}/preferences")), 404);
    assert_eq!(status(&format!("/v1/notifications/{id}")), 404);
    assert_eq!(status("/v1/categories"), 403);
    caller.token = whole;
}

#[test]
fn the_audit_chain_verifies_on_the_stack() {
    let caller = caller();
    caller.recipient(json!({}));
    let check = until("the audit log is sealed", || {
        let answer = caller.send("GET", "/v1/audit/verification", None, None);
        assert_eq!(answer.status, 200, "{}", answer.body);
        (answer.body["block_count"].as_i64() > Some(0)).then_some(answer.body)
    });
    assert_eq!(check["broken"], Value::Null, "{check}");
    assert!(stack().api_url.starts_with("http"));
}
