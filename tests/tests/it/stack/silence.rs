//! Logs hold nobody's data, on the running stack: every test here looks through all of them at its end, and this one plants
//! what it looks for.

use super::{agent, caller, shared};
use serde_json::json;
use tests::privacy::{self, DATA, FIELD};
use tests::running::{check_logs, read_logs};

#[test]
fn what_is_planted_in_requests_links_and_tokens_is_in_no_log() {
    let _queue = shared();
    let caller = caller();
    let put = |path: &str, body| {
        let answer = caller.send("PUT", path, Some(&body), None);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    };
    put("/v1/recipients/planted", privacy::recipient());
    put("/v1/suppressions/canary.suppressed@planted-list.example", json!({}));
    let mut known = privacy::notification("RESPONSE_SUBMITTED");
    known["recipient"] = json!({"id": "planted"});
    // Of its own in each run: a stack that is kept would answer with what an earlier run has sent.
    let key = format!("{DATA}-{}", uuid::Uuid::now_v7().simple());
    for body in [&privacy::notification("OBSERVATION_ASSIGNED"), &known] {
        let answer = caller.send("POST", "/v1/notifications", Some(body), Some(&key));
        assert!([202, 422].contains(&answer.status), "{}", answer.body);
    }
    let sent = caller.send("POST", "/v1/notifications", Some(&known), None);
    caller.until_sent(sent.body["id"].as_str().unwrap_or_else(|| panic!("{}", sent.body)));

    // What goes wrong is logged with more words than what goes well.
    let mut wrong = known.clone();
    wrong[FIELD] = DATA.into();
    assert_eq!(caller.send("POST", "/v1/notifications", Some(&wrong), None).status, 422);
    let mut refused = privacy::notification("OBSERVATION_ASSIGNED");
    refused["recipient"]["email"] = "reject--canary.inline@simulator.harkara.test".into();
    let refused = caller.send("POST", "/v1/notifications", Some(&refused), None);
    caller.until_state(refused.body["id"].as_str().expect("an id"), "failed");

    // The link of a mail is a token, too.
    let request = caller.requests(privacy::KNOWN_EMAIL).pop().expect("a mail");
    let link = request["headers"]["List-Unsubscribe"].as_str().expect("a link").trim_matches(['<', '>']).to_owned();
    assert_eq!(agent().get(&link).call().expect("answered").status(), 200);
    let clicked = agent().post(&link).send_form([("List-Unsubscribe", "One-Click")]).expect("answered");
    assert_eq!(clicked.status(), 200);
    put("/v1/recipients/planted/preferences", json!({"preferences": []}));

    let token = link.rsplit('/').next().expect("a token");
    check_logs(&caller.stack, &[token, &caller.stack.token]);
    // They are the logs of what was done here.
    let logged = read_logs(&caller.stack).join("\n");
    for id in [&sent.body["id"], &refused.body["id"]] {
        assert!(logged.contains(id.as_str().expect("an id")), "nothing was logged of {id}");
    }
}
