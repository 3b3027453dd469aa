//! Mails whose outcome nobody knows, and how each is settled: by what SES tells of it, by sending again, or by giving up.

use serde_json::{Value, json};
use std::time::Duration;
use tests::TENANT;
use tests::strict::{DELIVERIES, World};

/// The category whose mails are rather never sent than twice.
const ONCE: &str = "once";

/// One mail of each kind: one that SES will tell of, one that may be sent again, and one that may not.
pub(super) struct Trio {
    told: Mail,
    silent: Mail,
    once: Mail,
}

struct Mail {
    address: String,
    id: String,
}

impl Trio {
    /// Posts three mails that meet the label's fault, such as `lost+1`, at the provider.
    pub(super) async fn post(world: &World, label: &str) -> Self {
        let category = json!({"class": "transactional", "template": "greeting", "unknown_policy": "at_most_once"});
        world.put(TENANT, "/v1/categories/{key}", ONCE, category).await;
        let post = async |category: &str, name: &str| {
            let address = format!("{label}--{name}@simulator.harkara.test");
            let mut request = World::greeting(&address);
            request["category"] = category.into();
            Mail { id: world.post(&request).await.id(), address }
        };
        Self {
            told: post("greeting", "told").await,
            silent: post("greeting", "silent").await,
            once: post(ONCE, "once").await,
        }
    }

    fn mails(&self) -> [&Mail; 3] {
        [&self.told, &self.silent, &self.once]
    }

    /// Each has made one request, and stands like this after its one attempt.
    pub(super) async fn assert_asked_once(&self, world: &World, state: &str, reason: Option<&str>) {
        for mail in self.mails() {
            assert_eq!(world.ses.ledger().entries_to(&mail.address).len(), 1, "requests for {}", mail.address);
            let expected = (state.to_owned(), reason.map(str::to_owned), 1);
            assert_eq!(world.outcome(&mail.id).await, expected, "{}", mail.address);
        }
    }

    /// From when they became unknown: nobody sends while SES may still tell; then each ends by its own rule.
    pub(super) async fn settle(trios: &[Self], world: &World) {
        world.sqs.undo_deletes(DELIVERIES);
        pass(world, Duration::from_secs(300)).await;
        for Self { told, silent, once } in trios {
            for mail in [told, silent, once] {
                assert_eq!(world.ses.ledger().entries_to(&mail.address).len(), 1, "requests for {}", mail.address);
                assert_eq!(world.outcome(&mail.id).await.0, "unknown", "{}", mail.address);
            }
            hear(world, &told.address).await;
            assert_eq!(world.outcome(&told.id).await, ("delivered".to_owned(), None, 1), "{}", told.address);
        }
        pass(world, Duration::from_secs(310)).await;
        for Self { told, silent, once } in trios {
            assert_eq!(world.mails_to(&told.address), 1, "mails to {}", told.address);
            assert_eq!(world.mails_to(&silent.address), 2, "mails to {}", silent.address);
            assert_eq!(world.outcome(&silent.id).await, ("sent".to_owned(), None, 2), "{}", silent.address);
            // The repetition is declared: the first attempt says that nobody knows.
            assert_eq!(attempts(world, &silent.id).await, ["unknown", "sent"], "{}", silent.address);
            assert_eq!(world.mails_to(&once.address), 1, "mails to {}", once.address);
            let given_up = ("failed".to_owned(), Some("outcome_unknown".to_owned()), 1);
            assert_eq!(world.outcome(&once.id).await, given_up, "{}", once.address);
        }
    }
}

/// The outcomes of a notification's attempts, in order.
pub(super) async fn attempts(world: &World, id: &str) -> Vec<String> {
    let shown = world.show(id).await;
    let attempts = shown["deliveries"][0]["attempts"].as_array().cloned().unwrap_or_default();
    attempts.iter().map(|attempt| attempt["outcome"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Time passes, the dispatcher ticks, and the queue is emptied.
pub(super) async fn pass(world: &World, time: Duration) {
    world.advance(time).await;
    world.dispatch().await.expect("dispatched");
    world.deliver_all().await;
}

/// Brings everything that SES has to tell of mails to an address to `feedback`.
pub(super) async fn hear(world: &World, address: &str) {
    let records: Vec<Value> = world
        .ses
        .events()
        .events_to(address)
        .iter()
        .map(|told| {
            json!({
                "messageId": format!("event-{}", told.seq), "receiptHandle": "none", "body": told.event_bridge.to_string(),
                "attributes": {"ApproximateReceiveCount": "1"}, "messageAttributes": {}, "eventSource": "aws:sqs",
            })
        })
        .collect();
    assert!(!records.is_empty(), "SES has nothing to tell of {address}");
    let answer = world.invoke("feedback", &json!({"Records": records})).await.expect("heard");
    assert_eq!(answer, json!({"batchItemFailures": []}));
}
