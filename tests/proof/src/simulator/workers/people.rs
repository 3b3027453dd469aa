//! What people do meanwhile through `api`: suppress, cancel, redrive.

use super::super::executor::{Micros, SECOND};
use super::super::plan::Action;
use super::super::queue::Body;
use super::super::world::World;
use crate::history::QueueName;
use std::rc::Rc;

/// Does something at its time; once, whatever becomes of it.
pub(in super::super) async fn act(world: Rc<World>, at: Micros, action: Action) {
    world.executor.until(at).await;
    let worker = world.worker("api", 10 * SECOND);
    match action {
        Action::Suppress { tenant, address } => {
            let done = world.query(&worker, |database, _, now| {
                database.suppress(Some(tenant), address, now);
                Ok(())
            });
            let is_done = done.await.is_ok();
            world.tell(None, || format!("address {address} is suppressed for tenant {tenant}: {is_done}"));
        }
        Action::Cancel { delivery } => {
            let done = world.query(&worker, |database, at, now| database.cancel(delivery, at, now)).await;
            world.tell(Some(delivery), || format!("is canceled: {}", done.is_ok()));
        }
        Action::Redrive { tenant } => {
            let done = world.query(&worker, |database, at, now| database.redrive(tenant, at, now)).await;
            let numbers = done.unwrap_or_default();
            for number in &numbers {
                world.tell(Some(*number), || "is redriven".to_owned());
            }
            let messages = numbers.into_iter().map(|delivery| (tenant, Body::Delivery { tenant, delivery }, 0, None));
            world.publish(&worker, QueueName::Deliveries, messages.collect()).await;
        }
    }
}
