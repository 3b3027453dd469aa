//! S2: an incident goes on until somebody answers; by e-mail, which is the channel that is sent today.

use crate::cast::{Mail, Scenario, hours, minutes, open_link, press_button};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};

/// What the page's form sends.
const PRESSED: &str = "confirm=1";

fn incident(number: u32, triggered_at: Timestamp) -> Value {
    json!({
        "title": "Payments have been slow for an hour", "body": "p99 is above 2 s", "priority": "CRITICAL",
        "service": "payments", "team": "core", "alert_count": 3, "triggered_at": triggered_at,
        "dashboard_url": format!("https://incidents.example/{number}"),
    })
}

impl Scenario {
    fn raises(&self, policy: &str, number: u32) -> String {
        let data = incident(number, self.now());
        let body = json!({"policy": policy, "key": format!("incident-{number}"), "data": data});
        let answer = self.post("/v1/escalations", body);
        self.settle();
        answer["escalation"]["id"].as_str().unwrap_or_else(|| panic!("an escalation: {answer}")).to_owned()
    }

    fn escalation(&self, id: &str) -> Value {
        self.get(&format!("/v1/escalations/{id}"))
    }
}

/// The hour and minute of a moment as somebody's clock shows them.
fn clock_of(moment: Timestamp, zone: &str) -> String {
    let zoned = moment.in_tz(zone).expect("a zone");
    zoned.strftime("%-I:%M").to_string()
}

/// What Slack, Teams and text messages will have in buttons, mail has in links.
fn links(mail: &Mail) -> (String, String) {
    (mail.link("Acknowledge: "), mail.link("Resolve: "))
}

#[test]
fn s2_an_incident_goes_from_level_to_level_until_somebody_acknowledges() {
    let team = Scenario::begin("s2");
    let id = team.raises("critical", 77);
    let triggered_at = team.escalation(&id)["data"]["triggered_at"].as_str().and_then(|at| at.parse().ok());
    let triggered_at: Timestamp = triggered_at.expect("a time");

    // The primary channel reaches who is on call at once: text cut to its limit, times as her clock shows them.
    let first = team.mail_to("oncall");
    assert_eq!(first.subject, "[CRITICAL] Payments have been slow…");
    assert!(first.text.contains(&clock_of(triggered_at, "America/New_York")), "{first:#?}");
    assert!(first.text.contains("https://incidents.example/77") && first.text.contains("3 alerts"), "{first:#?}");

    // Nobody acknowledges. The secondary channel would be next after three minutes, and then the fallback: nobody sends by
    // these yet, which the log says.
    for waited in [3, 3, 2] {
        team.passes(minutes(waited));
    }
    let steps = team.escalation(&id)["steps"].clone();
    let steps = steps.as_array().expect("steps").iter();
    let unsent = steps.filter(|step| step["reason"] == "no_channel").map(|step| (&step["level"], &step["tier"]));
    assert_eq!(unsent.collect::<Vec<_>>(), [(&json!(1), &json!(2)), (&json!(1), &json!(3))]);
    // Ten minutes after the first message her manager is told, and twenty later it would be whoever is commander.
    team.nothing_for(&["lead"]);
    team.passes(minutes(2));
    let second = team.mail_to("lead");
    assert!(second.text.contains(&clock_of(triggered_at, "Europe/Berlin")), "{second:#?}");
    team.nothing_for(&["oncall", "commander"]);

    // A scanner of mails opens every link, and that does nothing.
    let (acknowledge, resolve) = links(&second);
    for link in [&acknowledge, &resolve, &acknowledge] {
        assert_eq!(open_link(link).0, 200);
    }
    assert_eq!(team.escalation(&id)["state"], "open");

    // Lea acknowledges with her link. It stops the escalation: the commander sleeps on.
    let (status, page) = press_button(&acknowledge, PRESSED);
    assert!(status == 200 && page.contains("Acknowledged"), "{page}");
    team.passes(minutes(60));
    team.nothing_for(&["oncall", "lead", "commander"]);
    let shown = team.escalation(&id);
    assert_eq!((&shown["state"], &shown["acknowledged"]["by"]), (&json!("acknowledged"), &json!("lead")));
    // Each link acts once. Of her token only the hash is kept.
    assert_eq!(press_button(&acknowledge, PRESSED).0, 410);
    let kept = "
        SELECT count(*) FROM harkara.action_link_uses
        WHERE tenant_id = $1::uuid AND token_hash = sha256($2)";
    let token = acknowledge.rsplit('/').next().and_then(|token| URL_SAFE_NO_PAD.decode(token).ok()).expect("a token");
    let kept = sqlx::query_scalar::<_, i64>(kept).bind(team.tenant()).bind(token).fetch_one(&team.database);
    assert_eq!(team.runtime.block_on(kept).expect("counted"), 1);
    // Amy comes second, and is told so; then Lea resolves.
    let (_, page) = press_button(&links(&first).0, PRESSED);
    assert!(page.contains("Somebody has answered already"), "{page}");
    assert_eq!(press_button(&resolve, PRESSED).0, 200);
    assert_eq!(team.escalation(&id)["state"], "resolved");

    // The delivery log: by incident and level, by user and status, each with the provider's id and its times.
    let levels: Vec<_> = shown["steps"].as_array().expect("steps").iter().map(|step| step["level"].clone()).collect();
    assert!(levels.contains(&json!(1)) && levels.contains(&json!(2)), "{shown}");
    let notification = shown["steps"][0]["notifications"][0]["id"].as_str().expect("an id").to_owned();
    let delivery = team.until_state(&notification, "delivered");
    assert!(delivery["provider_message_id"].is_string() && delivery["sent_at"].is_string(), "{delivery}");
    assert_eq!((&delivery["attempt_count"], &delivery["channel"]), (&json!(1), &json!("email")));
    let logged = team.get(&format!("/v1/notifications/{notification}"));
    assert_eq!(logged["metadata"]["escalation_id"], id.as_str());
    let found = team.get("/v1/notifications?recipient=oncall&state=delivered");
    assert_eq!(found["notifications"].as_array().map(Vec::len), Some(1), "{found}");

    // Another incident, and nobody at all: it comes to its end, and says so.
    let id = team.raises("critical", 78);
    for _ in 0..12 {
        team.passes(minutes(10));
    }
    let unused = ["oncall", "lead", "commander"].map(|reader| links(&team.mail_to(reader)).1);
    assert_eq!(team.escalation(&id)["state"], "exhausted");

    // Al's mail is refused: the channel after it is tried at once, not after its silence. Nobody sends text messages yet, and
    // ten minutes later his manager hears of it.
    let id = team.raises("second-line", 79);
    team.tick();
    let steps = team.escalation(&id)["steps"].clone();
    let mail = steps[0]["notifications"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(team.stands(&mail), ("failed".to_owned(), "provider_rejected".to_owned()));
    assert_eq!((&steps[1]["tier"], &steps[1]["reason"]), (&json!(2), &json!("no_channel")), "{steps}");
    team.passes(minutes(10));
    let mail = team.mail_to("lead");
    assert_eq!(press_button(&links(&mail).1, PRESSED).0, 200);
    assert_eq!(team.escalation(&id)["state"], "resolved");

    // Links that nobody has used are good for three days.
    assert_eq!(unused.each_ref().map(|link| open_link(link).0), [200; 3]);
    team.passes(hours(72));
    for link in &unused {
        assert_eq!((open_link(link).0, press_button(link, PRESSED).0), (410, 410));
    }

    // The log can be looked through by incident, too.
    let found = team.get("/v1/escalations?key=incident-77");
    assert_eq!(found["escalations"].as_array().map(Vec::len), Some(1), "{found}");
    assert_eq!(found["escalations"][0]["key"], "incident-77");
    team.end();
}
