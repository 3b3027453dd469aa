//! What SES tells of mails, on its way to `feedback`.
//!
//! A world's SES writes down every event and delivers none: whether one arrives, when, and in which order is the test's
//! to say ([`World::tell`], with `world.ses.events()`), unless it wants them to come as they should
//! ([`World::let_events_come`]).

use local::runtime_api::FunctionError;
use local::ses::ToldEvent;
use serde_json::Value;

use super::world::{Delivered, FEEDBACK, World};

impl World {
    /// From now on every event of SES arrives twice, as from EventBridge and as from SNS, before `feedback` is polled.
    pub fn let_events_come(&self) {
        self.log().told_until.get_or_insert(0);
    }

    /// Puts one event, in any form, on the queue of `feedback`.
    pub fn tell(&self, body: &Value) {
        self.sqs.put(FEEDBACK, &body.to_string()).expect("SQS takes what SES tells");
    }

    /// Polls the queue of `feedback` once.
    pub async fn hear(&self) -> Delivered {
        self.pass_events_on();
        self.poll(FEEDBACK, "feedback").await
    }

    /// Polls the queue of `feedback` until nothing is visible; says how many messages it was handed.
    pub async fn hear_all(&self) -> usize {
        self.pass_events_on();
        self.poll_all(FEEDBACK, "feedback").await
    }

    /// The schedule of `feedback`: it asks SES for what no event said.
    pub async fn reconcile(&self) -> Result<Value, FunctionError> {
        self.tick("feedback").await
    }

    fn pass_events_on(&self) {
        let mut log = self.log();
        let Some(until) = log.told_until else { return };
        let new: Vec<ToldEvent> = self.ses.events().events().into_iter().filter(|event| event.seq > until).collect();
        log.told_until = new.last().map(|event| event.seq).or(Some(until));
        drop(log);
        for event in new {
            self.tell(&event.event_bridge);
            self.tell(&event.sns);
        }
    }
}
