//! What schedules do, and callers that ask again: ticks, the wall clock that they go by, and requests with a key.

use std::time::Duration;

use jiff::Timestamp;
use local::runtime_api::FunctionError;
use serde_json::{Map, Value, json};

use super::world::World;
use crate::Page;
use crate::clock::move_time_to;
use crate::page::{page_event, read_page};
use crate::stage::{TENANT, gateway_event};

/// How long a caller waits that was not answered. It is the server's patience with a session that a dead process left
/// within a transaction.
const PATIENCE: Duration = Duration::from_secs(10);

impl World {
    /// The tick of a scheduled function.
    pub async fn tick(&self, function: &str) -> Result<Value, FunctionError> {
        self.invoke(function, &scheduled_event()).await
    }

    /// The tick of a scheduled function that has another time than its own.
    pub async fn tick_within(&self, function: &str, limit: Duration) -> Result<Value, FunctionError> {
        self.invoke_within(function, &scheduled_event(), limit).await
    }

    /// What time it is by the database.
    pub async fn now(&self) -> Timestamp {
        let now: jiff_sqlx::Timestamp =
            sqlx::query_scalar("SELECT harkara.now()").fetch_one(&self.admin).await.expect("the database is there");
        now.to_jiff()
    }

    /// Lets it be a later moment, for SQS and for the database. Nothing that is stored moves, unlike with
    /// [`World::advance`]: dates and hours of the day are what they are, and rows may be locked meanwhile.
    pub async fn move_to(&self, moment: Timestamp) {
        let by = Duration::try_from(moment.duration_since(self.now().await)).expect("time goes forwards");
        move_time_to(&self.admin, moment).await;
        self.clock.advance(by);
        self.log().leaps.push((Timestamp::now(), by));
    }

    /// A request of the first tenant to `api` that repeats, with one key, until it is answered with something else than a
    /// 5xx.
    pub async fn call_until_answered(
        &self,
        route: &str,
        parameter: Option<&str>,
        key: &str,
        body: &Value,
    ) -> crate::Answer {
        let event = gateway_event(TENANT, route, parameter, "", &body.to_string(), &[("idempotency-key", key)]);
        for _ in 0..5 {
            let answer = self.answer_of("api", &event).await;
            if answer.status < 500 {
                return answer;
            }
            self.advance(PATIENCE).await;
        }
        panic!("five requests with the key {key} were not answered");
    }

    /// Asks for a public page, and lets a function that does not answer be API Gateway's 5xx.
    pub async fn ask_page(&self, route: &str, token: &str, headers: &[(&str, &str)], body: &str) -> Page {
        match self.invoke("api", &page_event(route, token, headers, body)).await {
            Ok(printed) => read_page(route, &printed),
            Err(_) => Page { status: 500, headers: Map::new(), body: String::new() },
        }
    }
}

fn scheduled_event() -> Value {
    json!({"source": "aws.events", "detail-type": "Scheduled Event"})
}
