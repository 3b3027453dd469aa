//! What a seed stands for: who asks for what, and what goes wrong until when.

use super::dice::Dice;
use super::executor::{Micros, SECOND};
use super::fault::Fault;
use domain::category::{DeliveryRules, UnknownPolicy};
use domain::feedback::Bounce;
use std::collections::BTreeMap;

/// A minute.
pub(super) const MINUTE: Micros = 60 * SECOND;
/// An hour.
pub(super) const HOUR: Micros = 60 * MINUTE;

/// A world to run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) requests: Vec<PlannedRequest>,
    pub(super) addresses: Vec<Address>,
    pub(super) actions: Vec<(Micros, Action)>,
    /// How likely each fault is, where it can happen, until they are over.
    pub(super) faults: BTreeMap<Fault, f64>,
    /// Whole stretches of time in which something is the matter.
    pub(super) incidents: Vec<Incident>,
    /// When every fault is over.
    pub(super) clear_at: Micros,
    /// Batches of deliveries in work at once.
    pub(super) processor_concurrency: usize,
    pub(super) max_receive_count: u32,
    /// The pace that the database keeps.
    pub(super) sends_per_second: Option<f64>,
    /// What the provider takes.
    pub(super) provider_rate: Option<f64>,
    /// Whether the provider lists bounced addresses of its own accord, and a job looks there.
    pub(super) has_provider_list: bool,
    /// How long the provider takes to answer, at most.
    pub(super) provider_latency: Micros,
}

/// A request that a client sends, and sends again until it has an answer, where it has a key.
#[derive(Clone, Debug)]
pub(super) struct PlannedRequest {
    pub(super) at: Micros,
    pub(super) tenant: usize,
    pub(super) has_key: bool,
    /// Asks again with another body afterwards, which has to be refused.
    pub(super) reuses_key: bool,
    pub(super) notifications: Vec<PlannedNotification>,
}

#[derive(Clone, Debug)]
pub(super) struct PlannedNotification {
    pub(super) address: usize,
    pub(super) rules: DeliveryRules,
    /// How long after the request.
    pub(super) send_after: Micros,
    /// How long after it was to be sent.
    pub(super) expires_after: Option<Micros>,
    pub(super) is_sandbox: bool,
}

/// A mailbox, and what becomes of mail to it.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) name: String,
    pub(super) fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Delivered,
    Bounced(Bounce),
    Complained,
    Rejected,
    RenderingFailed,
    /// The provider says that it was sent and nothing more.
    Silent,
}

/// What people do meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    /// Suppress an address for a tenant.
    Suppress { tenant: usize, address: usize },
    /// Cancel what was stored as the nth delivery.
    Cancel { delivery: usize },
    /// Redrive every dead letter of a tenant.
    Redrive { tenant: usize },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Incident {
    pub(super) from: Micros,
    pub(super) to: Micros,
    pub(super) kind: IncidentKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IncidentKind {
    DatabaseDown,
    QueueDown,
    BusDown,
    ProviderDown,
    ProviderFailing,
    ProviderThrottling,
    Quota,
    Paused,
    IdentityUnverified {
        tenant: usize,
    },
    EventsLost,
    /// The provider takes nothing of this tenant, and says so. No seed draws it: a scenario names it.
    FailingFor {
        tenant: usize,
    },
}

impl Plan {
    /// The plan of a seed.
    pub(super) fn draw(dice: &Dice) -> Self {
        let tenant_count = usize::try_from(dice.within(1..5)).unwrap_or(1);
        // Most runs are short and violent; a few go on for a day.
        let chaos = dice.pick(&[2 * MINUTE, 10 * MINUTE, 10 * MINUTE, 30 * MINUTE, 30 * MINUTE, 2 * HOUR, 24 * HOUR]);
        let addresses = draw_addresses(dice);
        let categories: Vec<DeliveryRules> = (0..dice.within(1..4)).map(|_| draw_rules(dice)).collect();
        let requests = draw_requests(dice, tenant_count, &addresses, &categories, chaos);
        let deliveries: usize = requests.iter().map(|request| request.notifications.len()).sum();
        let paced = dice.happens(0.3);
        let rate = dice.pick(&[1.0, 5.0, 14.0, 50.0]);
        Self {
            actions: draw_actions(dice, tenant_count, addresses.len(), deliveries, chaos),
            faults: draw_faults(dice),
            incidents: draw_incidents(dice, tenant_count, chaos),
            clear_at: chaos,
            processor_concurrency: usize::try_from(dice.within(1..5)).unwrap_or(1),
            max_receive_count: dice.pick(&[3, 25, 25, 25]).try_into().unwrap_or(25),
            sends_per_second: paced.then_some(rate),
            provider_rate: dice.happens(0.3).then_some(rate),
            has_provider_list: dice.happens(0.5),
            provider_latency: dice.pick(&[SECOND / 10, SECOND, 7 * SECOND]),
            requests,
            addresses,
        }
    }

    /// The latest moment at which something may have to wait until, were nothing ever to go wrong.
    pub(super) fn last_planned_at(&self) -> Micros {
        let requests = self.requests.iter().map(|request| {
            request.at + request.notifications.iter().map(|planned| planned.send_after).max().unwrap_or_default()
        });
        requests.chain(self.actions.iter().map(|(at, _)| *at)).max().unwrap_or_default()
    }

    /// How long the world may take to become quiet once nothing fails any more and nothing is planned:
    /// each attempt with its lease, its window, the longest backoff and the slowest republishing, after the longest hold.
    pub(super) fn recovery_bound(&self) -> Micros {
        let rules = self.requests.iter().flat_map(|request| &request.notifications).map(|planned| planned.rules);
        let each = rules.map(|rules| {
            let window = u64::from(rules.reconcile_window_seconds) * SECOND;
            u64::from(rules.max_attempts) * (window + HOUR + 30 * MINUTE)
        });
        4 * HOUR + each.max().unwrap_or_default()
    }
}

fn draw_rules(dice: &Dice) -> DeliveryRules {
    DeliveryRules {
        max_attempts: u32::try_from(dice.within(1..6)).unwrap_or(1),
        unknown_policy: dice.pick(&[UnknownPolicy::AtLeastOnce, UnknownPolicy::AtLeastOnce, UnknownPolicy::AtMostOnce]),
        reconcile_window_seconds: dice.pick(&[0, 30, 600, 600, 600, 3600, 86_400]),
    }
}

fn draw_addresses(dice: &Dice) -> Vec<Address> {
    let fates = [
        Fate::Delivered,
        Fate::Delivered,
        Fate::Delivered,
        Fate::Delivered,
        Fate::Bounced(Bounce::Hard),
        Fate::Bounced(Bounce::Soft),
        Fate::Bounced(Bounce::Content),
        Fate::Complained,
        Fate::Rejected,
        Fate::RenderingFailed,
        Fate::Silent,
    ];
    let count = dice.within(1..12);
    (0..count).map(|n| Address { name: format!("a{n}@example.org"), fate: dice.pick(&fates) }).collect()
}

fn draw_requests(
    dice: &Dice,
    tenant_count: usize,
    addresses: &[Address],
    categories: &[DeliveryRules],
    chaos: Micros,
) -> Vec<PlannedRequest> {
    let mut left = dice.within(1..31);
    let mut requests = Vec::new();
    while left > 0 {
        let count = dice.within(1..6).min(left);
        left -= count;
        let notification = |_| PlannedNotification {
            address: dice.index(addresses.len()),
            rules: dice.pick(categories),
            send_after: if dice.happens(0.8) { 0 } else { dice.pick(&[30, 600, 899, 1000, 5000]) * SECOND },
            expires_after: dice.happens(0.1).then(|| dice.within(1..4000) * SECOND),
            is_sandbox: dice.happens(0.05),
        };
        let has_key = dice.happens(0.7);
        requests.push(PlannedRequest {
            // Some come when everything is over.
            at: dice.within(0..chaos + chaos / 10),
            tenant: dice.index(tenant_count),
            has_key,
            reuses_key: has_key && dice.happens(0.1),
            notifications: (0..count).map(notification).collect(),
        });
    }
    requests.sort_by_key(|request| request.at);
    requests
}

fn draw_actions(
    dice: &Dice,
    tenants: usize,
    addresses: usize,
    deliveries: usize,
    chaos: Micros,
) -> Vec<(Micros, Action)> {
    let mut actions = Vec::new();
    for _ in 0..dice.within(0..6) {
        let action = match dice.within(0..3) {
            0 => Action::Suppress { tenant: dice.index(tenants), address: dice.index(addresses) },
            1 => Action::Cancel { delivery: dice.index(deliveries) },
            _ => Action::Redrive { tenant: dice.index(tenants) },
        };
        actions.push((dice.within(0..chaos * 3 / 2), action));
    }
    actions
}

/// Each run has some faults and not others: one that has all of them never gets far enough for any.
fn draw_faults(dice: &Dice) -> BTreeMap<Fault, f64> {
    let share = dice.pick(&[0.0, 0.15, 0.3, 0.6]);
    let mut faults = BTreeMap::new();
    for &fault in Fault::ALL {
        if dice.happens(share) {
            // Where a fault has many chances, few are enough.
            let most = match fault {
                Fault::Crash | Fault::Stall => 0.05,
                Fault::Zombie | Fault::Timeout => 0.5,
                Fault::ClockSkew => 0.5,
                _ => 0.3,
            };
            faults.insert(fault, most * dice.number());
        }
    }
    faults
}

fn draw_incidents(dice: &Dice, tenants: usize, chaos: Micros) -> Vec<Incident> {
    let mut incidents = Vec::new();
    for _ in 0..dice.pick(&[0, 0, 1, 2, 3]) {
        let kind = match dice.within(0..10) {
            0 => IncidentKind::DatabaseDown,
            1 => IncidentKind::QueueDown,
            2 => IncidentKind::BusDown,
            3 => IncidentKind::ProviderDown,
            4 => IncidentKind::ProviderFailing,
            5 => IncidentKind::ProviderThrottling,
            6 => IncidentKind::Quota,
            7 => IncidentKind::Paused,
            8 => IncidentKind::IdentityUnverified { tenant: dice.index(tenants) },
            _ => IncidentKind::EventsLost,
        };
        let from = dice.within(0..chaos);
        let to = from + dice.within(1..chaos - from + 1);
        incidents.push(Incident { from, to, kind });
    }
    incidents
}
