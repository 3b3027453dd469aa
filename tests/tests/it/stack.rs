//! The whole way, on the local stack: the deployed template, the release binaries, the mailbox.

mod checked;
mod deciding;
mod silence;

use local::stack::Stack;
use serde_json::{Value, json};
use std::sync::{Mutex, PoisonError, RwLock};
use tests::Exchange;
use tests::running::{self, Reply, ShutGate, agent, ask, check_logs, read, sign_token, stack, until};

/// Tests share the stack's queue; the one that breaks it has it alone.
static QUEUE: RwLock<()> = RwLock::new(());

struct Caller {
    stack: Stack,
    tenant: String,
    token: String,
    /// What it has asked for. All of it is held to the invariants when the caller is done.
    exchanges: Mutex<Vec<Exchange>>,
}

fn caller() -> Caller {
    let stack = stack();
    Caller::new(stack.tenant_id.clone(), stack.token.clone(), stack)
}

fn other_caller() -> Caller {
    let stack = stack();
    Caller::new(stack.other_tenant_id.clone(), stack.other_token.clone(), stack)
}

/// An address that no other test and no earlier run has used. The label tells the provider's stand-in what to do.
fn address(label: &str) -> String {
    format!("{label}--{}@simulator.harkara.test", uuid::Uuid::now_v7().simple())
}

impl Caller {
    fn new(tenant: String, token: String, stack: Stack) -> Self {
        Self { stack, tenant, token, exchanges: Mutex::default() }
    }

    fn send(&self, method: &str, path: &str, body: Option<&Value>, key: Option<&str>) -> Reply {
        let text = body.map(Value::to_string).unwrap_or_default();
        let sent_at = jiff::Timestamp::now();
        let reply = ask(&self.stack, &self.token, method, path, &text, key);
        if (method, path) == ("POST", "/v1/notifications") {
            let (tenant, key) = (self.tenant.clone(), key.map(str::to_owned));
            let (status, answer) = (reply.status.into(), reply.body.clone());
            let exchange = Exchange { sent_at, tenant, key, body: text, status, answer };
            self.exchanges.lock().unwrap_or_else(PoisonError::into_inner).push(exchange);
        }
        reply
    }

    fn post(&self, to: &str) -> Reply {
        self.send("POST", "/v1/notifications", Some(&mail(to)), None)
    }

    fn accepted(&self, to: &str) -> String {
        let answer = self.post(to);
        assert_eq!(answer.status, 202, "{}", answer.body);
        answer.body["id"].as_str().expect("an id").to_owned()
    }

    fn delivery(&self, id: &str) -> Value {
        let answer = self.send("GET", &format!("/v1/notifications/{id}"), None, None);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body["deliveries"][0].clone()
    }

    fn until_state(&self, id: &str, state: &str) -> Value {
        until(&format!("{id} becomes {state}"), || self.in_states(id, &[state]))
    }

    /// Waits until it is sent. Its events are quick, so that it may be delivered by the time that somebody looks.
    fn until_sent(&self, id: &str) -> Value {
        until(&format!("{id} is sent"), || self.in_states(id, &["sent", "delivered"]))
    }

    /// The delivery if it is in one of these states; fails where it has ended in another, which no patience changes.
    fn in_states(&self, id: &str, states: &[&str]) -> Option<Value> {
        let delivery = self.delivery(id);
        if states.iter().any(|state| delivery["state"] == *state) {
            return Some(delivery);
        }
        assert!(delivery["finished_at"].is_null(), "{id} was to become {states:?}: {delivery}");
        None
    }

    /// The requests that SES got for an address.
    fn requests(&self, to: &str) -> Vec<Value> {
        let to: String = url::form_urlencoded::byte_serialize(to.as_bytes()).collect();
        read(&format!("{}/ledger?to={to}", self.stack.ses_url)).as_array().expect("a list").clone()
    }

    /// The events that SES told of mails to an address.
    fn events(&self, to: &str) -> Vec<Value> {
        let to: String = url::form_urlencoded::byte_serialize(to.as_bytes()).collect();
        read(&format!("{}/events?to={to}", self.stack.ses_url)).as_array().expect("a list").clone()
    }

    /// Puts a message on the queue of SES's events.
    fn put_feedback(&self, body: &str) {
        let form = [("Action", "SendMessage"), ("QueueUrl", &self.stack.feedback_queue_url), ("MessageBody", body)];
        let sent = agent().post(&self.stack.aws_endpoint_url).send_form(form).expect("answered");
        assert_eq!(sent.status(), 200);
    }

    /// How many messages wait on the queue of SES's events, or are in work.
    fn count_feedback(&self) -> usize {
        let form = [
            ("Action", "GetQueueAttributes"),
            ("QueueUrl", &self.stack.feedback_queue_url),
            ("AttributeName.1", "ApproximateNumberOfMessages"),
            ("AttributeName.2", "ApproximateNumberOfMessagesNotVisible"),
        ];
        let mut answer = agent().post(&self.stack.aws_endpoint_url).send_form(form).expect("answered");
        let text = answer.body_mut().read_to_string().expect("text");
        let counts = text.split("<Value>").skip(1).filter_map(|rest| rest.split('<').next()?.parse::<usize>().ok());
        let counts: Vec<usize> = counts.collect();
        assert_eq!(counts.len(), 2, "{text}");
        counts.iter().sum()
    }

    /// The mails for an address in the mailbox.
    fn mails(&self, to: &str) -> Vec<Value> {
        running::mails(&self.stack, to)
    }

    fn dead_letter(&self, id: &str) -> Value {
        until(&format!("{id} is a dead letter"), || {
            let letters = self.send("GET", "/v1/dead-letters", None, None).body;
            letters["dead_letters"].as_array()?.iter().find(|letter| letter["notification_id"] == id).cloned()
        })
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let exchanges = self.exchanges.get_mut().unwrap_or_else(PoisonError::into_inner);
            checked::check_asked(&self.stack, exchanges);
            check_logs(&self.stack, &[&self.stack.token, &self.stack.other_token]);
        }
    }
}

fn mail(to: &str) -> Value {
    json!({
        "category": "OBSERVATION_ASSIGNED", "recipient": {"email": to, "name": "Ada Lovelace"},
        "subject": "Observation {{ number }}", "text": "Dear {{ recipient.name }}", "html": "<p>Dear {{ recipient.name }}</p>",
        "data": {"number": "42"},
    })
}

fn shared() -> impl Drop {
    QUEUE.read().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_post_is_answered_202_and_the_mail_is_in_the_mailbox_with_its_headers() {
    let _queue = shared();
    let (caller, to) = (caller(), address("accept"));
    let answer = caller.post(&to);
    assert_eq!(answer.status, 202, "{}", answer.body);
    let id = answer.body["id"].as_str().expect("an id");
    assert_eq!(answer.headers["location"], format!("/v1/notifications/{id}").as_str());

    caller.until_sent(id);
    let mails = caller.mails(&to);
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0]["subject"], "Observation 42");
    let begins = |part: &str, with: &str| mails[0]["body"][part].as_str().is_some_and(|text| text.starts_with(with));
    assert!(begins("text", "Dear Ada Lovelace\n") && begins("html", "<p>Dear Ada Lovelace</p>"), "{}", mails[0]);
    assert!(mails[0]["headers"].to_string().contains(id), "{}", mails[0]);
    let request = &caller.requests(&to)[0];
    assert_eq!(request["tags"], json!({"nid": id, "att": "1", "t": caller.stack.tenant_id}));
    assert_eq!(request["configuration_set"], json!(caller.stack.configuration_set));
}

#[test]
fn the_same_key_gives_the_same_answer_and_no_second_mail() {
    let _queue = shared();
    let (caller, to) = (caller(), address("accept"));
    let post = || caller.send("POST", "/v1/notifications", Some(&mail(&to)), Some(&to));
    let (first, again) = (post(), post());
    assert_eq!((again.status, &again.body), (202, &first.body));
    caller.until_sent(first.body["id"].as_str().expect("an id"));
    let other = caller.send("POST", "/v1/notifications", Some(&mail("eve@example.org")), Some(&to));
    assert_eq!(other.status, 422);
    assert_eq!(caller.requests(&to).len(), 1);
}

#[test]
fn another_tenants_notification_is_not_there() {
    let _queue = shared();
    let (caller, to) = (caller(), address("accept"));
    let id = caller.accepted(&to);
    let theirs = other_caller().send("GET", &format!("/v1/notifications/{id}"), None, None);
    assert_eq!(theirs.status, 404);
    assert_eq!(theirs.headers["content-type"], "application/problem+json");
    let theirs = other_caller().send("POST", &format!("/v1/notifications/{id}/cancel"), None, None);
    assert_eq!(theirs.status, 404);
    caller.until_sent(&id);
}

#[test]
fn a_request_without_a_token_or_scope_is_refused_at_the_door() {
    let mut caller = caller();
    caller.token = "nonsense".to_owned();
    assert_eq!(caller.post("ada@example.org").status, 401);
    caller.token = sign_token(&caller.stack, json!({"tenant_id": caller.stack.tenant_id, "scope": "manage"}));
    assert_eq!(caller.post("ada@example.org").status, 403);
    caller.token = sign_token(&caller.stack, json!({"tenant_id": null}));
    assert_eq!(caller.post("ada@example.org").status, 403, "a token that names no tenant");
}

#[test]
fn an_address_that_ses_rejects_ends_failed_with_the_reason() {
    let _queue = shared();
    let (caller, to) = (caller(), address("reject"));
    let delivery = caller.until_state(&caller.accepted(&to), "failed");
    assert_eq!(delivery["reason"], "provider_rejected");
    assert_eq!(delivery["attempts"][0]["error"]["code"], "MessageRejected");
    assert_eq!(caller.requests(&to).len(), 1);
}

#[test]
fn a_throttled_send_is_retried_and_arrives() {
    let _queue = shared();
    let (caller, to) = (caller(), address("throttle+2"));
    let delivery = caller.until_sent(&caller.accepted(&to));
    assert_eq!(delivery["attempt_count"], 1, "throttling costs no attempt");
    assert_eq!((caller.requests(&to).len(), caller.mails(&to).len()), (3, 1));
}

#[test]
fn a_send_that_fails_at_first_is_retried_until_it_succeeds() {
    let _queue = shared();
    let (caller, to) = (caller(), address("fail+2"));
    let delivery = caller.until_sent(&caller.accepted(&to));
    assert_eq!(delivery["attempt_count"], 3);
    assert_eq!((caller.requests(&to).len(), caller.mails(&to).len()), (3, 1));
}

#[test]
fn a_send_that_always_fails_is_a_dead_letter_after_max_attempts_and_a_redrive_delivers_it() {
    let _queue = shared();
    let (caller, to) = (caller(), address("fail+3"));
    let id = caller.accepted(&to);
    let delivery = caller.until_state(&id, "dead");
    assert_eq!((&delivery["reason"], &delivery["attempt_count"]), (&json!("attempts_used_up"), &json!(3)));
    assert_eq!(caller.requests(&to).len(), 3);

    let letter = caller.dead_letter(&id);
    assert_eq!(letter["reason"], "attempts_used_up");
    let body = json!({"ids": [letter["id"]]});
    let redriven = caller.send("POST", "/v1/dead-letters/redrive", Some(&body), None);
    assert_eq!((redriven.status, &redriven.body["redriven_count"]), (200, &json!(1)), "{}", redriven.body);
    caller.until_sent(&id);
    assert_eq!((caller.requests(&to).len(), caller.mails(&to).len()), (4, 1));
}

#[test]
fn an_answer_that_is_lost_is_known_as_unknown_and_not_sent_again_at_once() {
    let _queue = shared();
    for label in ["lost", "truncated", "garbled"] {
        let (caller, to) = (caller(), address(&format!("{label}+1.silent")));
        let delivery = caller.until_state(&caller.accepted(&to), "unknown");
        assert_eq!(delivery["attempts"][0]["outcome"], "unknown", "{label}");
        assert_eq!(caller.requests(&to).len(), 1, "{label}: one attempt is one request");
    }
}

#[test]
fn an_accepted_mail_becomes_delivered_by_its_events_though_each_comes_twice() {
    let _queue = shared();
    let (caller, to) = (caller(), address("accept"));
    let delivery = caller.until_state(&caller.accepted(&to), "delivered");
    assert_eq!((&delivery["reason"], &delivery["attempts"][0]["feedback"]), (&Value::Null, &json!("delivered")));
    let events = caller.events(&to);
    assert_eq!(events[0]["record"]["mail"]["messageId"], delivery["provider_message_id"]);
    assert_eq!(caller.requests(&to).len(), 1);
}

#[test]
fn a_mail_whose_acceptance_was_never_answered_becomes_delivered_by_its_event() {
    let _queue = shared();
    let (caller, to) = (caller(), address("lost+1"));
    let id = caller.accepted(&to);
    caller.until_state(&id, "delivered");
    // The event may even be quicker than the record of the attempt.
    let delivery = until("the attempt is recorded", || {
        Some(caller.delivery(&id)).filter(|delivery| delivery["attempts"][0]["outcome"] == "unknown")
    });
    let attempts = delivery["attempts"].as_array().expect("a list");
    assert_eq!((attempts.len(), &attempts[0]["feedback"]), (1, &json!("delivered")), "it is not sent again");
    assert_eq!(delivery["resent_after_unknown"], 0);
    assert_eq!(caller.requests(&to).len(), 1);
}

#[test]
fn an_address_that_bounced_is_not_sent_to_again_by_its_tenant() {
    let _queue = shared();
    let (caller, to) = (caller(), address("bounce.reversed.twice"));
    let delivery = caller.until_state(&caller.accepted(&to), "bounced");
    assert_eq!(delivery["reason"], "hard_bounce");
    let next = caller.until_state(&caller.accepted(&to), "skipped");
    assert_eq!((&next["reason"], &next["attempts"]), (&json!("address_suppressed"), &json!([])));
    assert_eq!((caller.requests(&to).len(), caller.mails(&to).len()), (1, 0));
}

#[test]
fn a_complaint_ends_it_whatever_order_the_events_come_in() {
    let _queue = shared();
    let (caller, to) = (caller(), address("complaint.reversed"));
    let delivery = caller.until_state(&caller.accepted(&to), "complained");
    assert_eq!(
        (&delivery["reason"], &delivery["attempts"][0]["feedback"]),
        (&json!("complaint"), &json!("complained"))
    );
    assert_eq!(caller.mails(&to).len(), 1);
}

#[test]
fn a_forged_event_on_the_queue_itself_changes_nothing() {
    let _queue = shared();
    let (caller, to) = (caller(), address("accept.silent"));
    let id = caller.accepted(&to);
    let sent = caller.until_sent(&id);
    // A neighbour's mail, whose event tells when the queue has got so far.
    let forge = |tenant: &str, message_id: &str| {
        let record = json!({"eventType": "Bounce", "bounce": {"bounceType": "Permanent", "bounceSubType": "General"},
            "mail": {"messageId": message_id, "destination": [to], "tags": {"nid": [id], "att": ["1"], "t": [tenant]}}});
        caller.put_feedback(&record.to_string());
    };
    forge(&caller.stack.tenant_id, "forged");
    forge(&caller.stack.other_tenant_id, sent["provider_message_id"].as_str().expect("an id"));
    caller.put_feedback("{\"eventType\": \"Open\", \"mail\": {\"messageId\": \"m\"}}");
    caller.until_state(&caller.accepted(&address("accept")), "delivered");
    until("the queue of events is worked off", || (caller.count_feedback() == 0).then_some(()));
    assert_eq!(caller.delivery(&id)["state"], "sent");
    caller.until_sent(&caller.accepted(&to));
}

#[test]
fn a_canceled_notification_is_not_sent() {
    let _queue = shared();
    let (caller, to) = (caller(), address("accept"));
    let mut body = mail(&to);
    let now: jiff::Timestamp = std::time::SystemTime::now().try_into().expect("a time");
    body["send_at"] = (now + jiff::SignedDuration::from_secs(3)).to_string().into();
    let id = caller.send("POST", "/v1/notifications", Some(&body), None).body["id"].as_str().expect("an id").to_owned();
    let canceled = caller.send("POST", &format!("/v1/notifications/{id}/cancel"), None, None);
    assert_eq!((canceled.status, &canceled.body["canceled_count"]), (200, &json!(1)), "{}", canceled.body);
    // One that is sent later than the canceled one would have been.
    body["recipient"]["email"] = address("accept").into();
    body["send_at"] = (now + jiff::SignedDuration::from_secs(4)).to_string().into();
    let later =
        caller.send("POST", "/v1/notifications", Some(&body), None).body["id"].as_str().expect("an id").to_owned();
    caller.until_sent(&later);
    assert_eq!(caller.delivery(&id)["state"], "canceled");
    assert_eq!(caller.requests(&to).len(), 0);
}

#[test]
fn a_poison_message_is_buried_while_its_neighbours_are_delivered() {
    let _queue = shared();
    let (caller, to) = (caller(), address("accept"));
    // What names no tenant is the operator's to see.
    let tenant = "00000000-0000-0000-0000-000000000000".to_owned();
    let token = sign_token(&caller.stack, json!({"tenant_id": tenant}));
    let operator = Caller::new(tenant, token, stack());
    let body = format!("this is no message: {to}");
    let form = [("Action", "SendMessage"), ("QueueUrl", &caller.stack.queue_url), ("MessageBody", &body)];
    let sent = agent().post(&caller.stack.aws_endpoint_url).send_form(form).expect("answered");
    assert_eq!(sent.status(), 200);
    caller.until_sent(&caller.accepted(&to));
    let letter = until("the poison is a dead letter", || {
        let letters = operator.send("GET", "/v1/dead-letters?reason=poison", None, None).body;
        letters["dead_letters"].as_array()?.iter().find(|letter| letter["body"] == body.as_str()).cloned()
    });
    assert_eq!(letter["reason"], "poison");
}

#[test]
fn an_event_on_the_bus_is_a_notification() {
    let _queue = shared();
    let (caller, to) = (caller(), address("accept"));
    let mut detail = mail(&to);
    detail["tenant_id"] = caller.stack.tenant_id.clone().into();
    let entry = json!({"Source": "example.bookings", "DetailType": "notification.requested",
        "EventBusName": caller.stack.event_bus, "Detail": detail.to_string()});
    let put: Value = agent()
        .post(&caller.stack.aws_endpoint_url)
        .header("x-amz-target", "AWSEvents.PutEvents")
        .header("content-type", "application/x-amz-json-1.1")
        .header(
            "authorization",
            format!("AWS4-HMAC-SHA256 Credential=test/20261121/{}/events/aws4_request", caller.stack.region),
        )
        .send(json!({"Entries": [entry]}).to_string())
        .expect("answered")
        .body_mut()
        .read_json()
        .expect("JSON");
    assert_eq!(put["FailedEntryCount"], 0, "{put}");
    until("the event's mail arrives", || (caller.mails(&to).len() == 1).then_some(()));
}

#[test]
fn stopping_the_queue_during_a_post_loses_nothing() {
    let _queue = QUEUE.write().unwrap_or_else(PoisonError::into_inner);
    let (caller, to) = (caller(), address("accept"));
    let shut = ShutGate::before_sqs(&caller.stack);
    let answer = caller.post(&to);
    assert_eq!(answer.status, 202, "the caller does not notice: {}", answer.body);
    let id = answer.body["id"].as_str().expect("an id");
    assert_eq!(caller.delivery(id)["state"], "queued");
    drop(shut);
    caller.until_sent(id);
    assert_eq!(caller.mails(&to).len(), 1);
}
