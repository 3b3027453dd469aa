//! Sends: claim, decide, render, send, record, and say what is to be received again.
//!
//! The cast: `store::claims` claims a whole batch in one statement, `store::attempts` records it in another;
//! `domain::decision` says whether a delivery may go now, `domain::outcome` what each attempt leads to; the channel makes
//! one provider call for an attempt.
//!
//! What makes a second copy of a message harmless: the claim. It takes a delivery from `queued` to `sending` and
//! counts the attempt before anything is sent, so the copy finds nothing to claim and is deleted.
//! What makes a crash harmless: the lease. A delivery left in `sending` becomes `unknown` through the dispatcher.
//! The queue itself is not needed for correctness: every open delivery has a due time, and a lost message is published
//! again.

use crate::message::{hash_with_files, print_invitation, sign_links};
use crate::outbox::tell_until;
use crate::template_cache::{Cached, Compiled, TemplateCache};
use adapters::ids::new_uuid;
use adapters::ses::MailConfig;
use adapters::store::attachments::{AttachmentKey, load_attachments_across_tenants};
use adapters::store::attempts::{AttemptRecord, Recorded, record_across_tenants};
use adapters::store::claims::{self as store, Claim, ClaimedDelivery, DeliveryKey};
use adapters::store::database::{Database, StoreError};
use adapters::store::keys::{LinkKeyRings, LinkKeys};
use adapters::store::templates::VersionKey;
use adapters::telemetry::{chain, digest};
use adapters::wire::queue_message::read_message;
use adapters::wire::sqs_event::{BatchResponse, Record};
use domain::address::EmailAddress;
use domain::attachment::Attachment;
use domain::calendar::InvitationFacts;
use domain::decision::{Decision, Finding, Verdict, decide_dispatch};
use domain::delivery::{DeliveryState, Reason};
use domain::event::{Event, EventBus, event_type};
use domain::header::{Header, HeaderName, HeaderValue, TagValue};
use domain::id::{AttemptId, EventId, TenantId};
use domain::link::{LinkToken, PublicUrl, unsubscribe_headers};
use domain::mail::{Mail, MailSender, MailTags};
use domain::message::{Reader, Subject, make_message};
use domain::name::DisplayName;
use domain::notification::InlineContent;
use domain::outcome::{Conclusion, Next, ProviderError, SendOutcome, Settlement, hand_back, settle_attempt};
use domain::queue::{DeadMessage, DeliveryMessage, Queue};
use domain::render::{CompiledTemplate, FooterLinks, TemplateSource};
use domain::retry::{Jitter, LONGEST_EARLY, Wake};
use domain::secret::KeyService;
use futures::FutureExt;
use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Provider calls side by side within a batch; half a batch, so that a batch is two even rounds.
pub const CONCURRENCY: usize = 5;
/// Nothing new is begun with less time than this left: an attempt may take most of it, and recording the rest.
const RESERVE: Duration = Duration::from_secs(8);
/// What stays of an invocation's time for its answer.
const ANSWER_RESERVE: Duration = Duration::from_secs(1);
/// A message for a delivery that is not there is tried this often: its row may not be visible yet.
const MISSING_RECEIVES: i32 = 3;
/// How long such a message is hidden.
const MISSING_WAIT: Duration = Duration::from_secs(5);
/// How long is waited before each try to hand back a claim. What is not handed back is unknown when its lease ends.
const HAND_BACK_PAUSES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(400), Duration::from_millis(1600)];
/// Tries to record a batch; the record is fenced, so that a second one changes nothing.
const RECORD_TRIES: u32 = 3;

/// The flow with what it needs.
pub struct Processor<M, Q, B, K> {
    /// As `harkara_worker`.
    pub database: Database,
    /// The mail channel.
    pub mail: M,
    /// The deliveries queue and its dead-letter queue.
    pub queue: Q,
    /// The project's bus.
    pub bus: B,
    /// What every mail has in common.
    pub mail_config: MailConfig,
    /// What signs the links in mails.
    pub keys: LinkKeys<K>,
    /// Where those links lead.
    pub public_url: PublicUrl,
    /// The templates that were used already.
    pub templates: TemplateCache,
}

/// What is to happen with a received message.
enum Disposal<'a> {
    /// Deleted: its work is done, or somebody else's.
    Delete,
    /// Received again after a while.
    Return(Duration),
    /// Received again when the queue likes.
    Fail,
    /// Moved to the dead-letter queue.
    Bury { reason: &'a str, detail: String },
}

/// A claimed delivery and what became of it.
struct Concluded {
    claimed: Box<ClaimedDelivery>,
    findings: Vec<Finding>,
    content_hash: Option<[u8; 32]>,
    settlement: Settlement,
}

impl<M: MailSender + Sync, Q: Queue + Sync, B: EventBus + Sync, K: KeyService + Sync> Processor<M, Q, B, K> {
    /// Works through a batch. Each record has its own outcome, whatever happens to its neighbours.
    pub async fn process_batch(&self, records: &[Record], deadline: Instant) -> BatchResponse {
        adapters::failpoint!("P1_batch", BatchResponse::failing(records));
        let read: Vec<_> = records.iter().map(|record| read_message(&record.body)).collect();
        let messages: Vec<&DeliveryMessage> = read.iter().filter_map(|message| message.as_ref().ok()).collect();
        adapters::failpoint!("P2_parsed", BatchResponse::failing(records));

        let mut events = Vec::new();
        let outcomes = match self.claim(&messages).await {
            Ok(claims) => Some(self.conclude_claims(claims, &mut events, deadline).await),
            Err(error) => {
                tracing::error!(
                    error = chain(&error),
                    message_count = messages.len(),
                    "nothing of a batch could be claimed"
                );
                None
            }
        };

        let mut disposals: Vec<Disposal<'_>> = Vec::with_capacity(records.len());
        let mut seen = HashSet::new();
        for (record, message) in records.iter().zip(&read) {
            let disposal = match (message, &outcomes) {
                (Err(error), _) => Disposal::Bury { reason: "poison", detail: error.to_string() },
                (Ok(_), None) => Disposal::Fail,
                // A second copy in the batch says nothing that the first does not.
                (Ok(message), Some(_)) if !seen.insert(key_of(message)) => Disposal::Delete,
                (Ok(message), Some(outcomes)) => dispose(record, outcomes.get(&key_of(message))),
            };
            disposals.push(disposal);
        }
        let (response, ()) = tokio::join!(
            self.dispose_records(records, &disposals),
            tell_until(&self.database, &self.bus, &events, deadline - ANSWER_RESERVE)
        );
        adapters::failpoint!("P12_reply", BatchResponse::failing(records));
        response
    }

    async fn claim(&self, messages: &[&DeliveryMessage]) -> Result<HashMap<DeliveryKey, Claim>, StoreError> {
        let mut asked: HashMap<DeliveryKey, AttemptId> = HashMap::new();
        for message in messages {
            asked.entry(key_of(message)).or_insert_with(|| AttemptId::from_uuid(new_uuid()));
        }
        let asked: Vec<_> = asked.into_iter().collect();
        let claims = store::claim_across_tenants(&self.database, &asked).await;
        if claims.is_err() {
            self.hand_back(&asked).await;
        }
        claims
    }

    /// Gives up claims that may have been made without an answer, so that nobody takes them for sent.
    async fn hand_back(&self, asked: &[(DeliveryKey, AttemptId)]) {
        for pause in HAND_BACK_PAUSES {
            tokio::time::sleep(pause).await;
            match store::hand_back_across_tenants(&self.database, asked).await {
                Ok(delivery_count) => {
                    tracing::info!(delivery_count, "what an unanswered claim had taken is queued again");
                    return;
                }
                Err(error) => tracing::warn!(error = chain(&error), "an unanswered claim could not be handed back"),
            }
        }
    }

    /// Sends what was claimed, records it, and says what is known of each asked delivery.
    async fn conclude_claims(
        &self,
        claims: HashMap<DeliveryKey, Claim>,
        events: &mut Vec<Event>,
        deadline: Instant,
    ) -> HashMap<DeliveryKey, Known> {
        let mut known = HashMap::with_capacity(claims.len());
        let (mut claimed, mut unreadable) = (Vec::new(), Vec::new());
        for (key, claim) in claims {
            match claim {
                Claim::Claimed(delivery) => claimed.push(delivery),
                Claim::TooEarly { wait } => drop(known.insert(key, Known::TooEarly(wait))),
                Claim::NotOpen => drop(known.insert(key, Known::NotOpen)),
                Claim::Missing => drop(known.insert(key, Known::Missing)),
                Claim::Unreadable { error, attempt } => {
                    tracing::error!(
                        tenant_id = %key.tenant,
                        delivery_id = %key.delivery,
                        error = chain(&error),
                        "delivery {} cannot be read", key.delivery
                    );
                    match attempt {
                        Some((attempt, number)) => unreadable.push(give_up_reading(key, attempt, number, &error)),
                        None => drop(known.insert(key, Known::NotRecorded)),
                    }
                }
            }
        }
        let decided: Vec<_> = claimed.into_iter().map(|claimed| (decide_dispatch(&claimed.facts), claimed)).collect();
        let contents = self.load_contents(&decided).await;
        let concluded: Vec<Concluded> = stream::iter(decided)
            .map(|(decision, claimed)| self.conclude(decision, claimed, &contents, deadline))
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;

        let records: Vec<AttemptRecord> = concluded.iter().map(record_of).chain(unreadable).collect();
        match self.record(&records).await {
            Ok(recorded) => {
                log_breakers(&recorded.events);
                events.extend(recorded.events);
                for AttemptRecord { key, settlement, .. } in records {
                    let outcome = if recorded.deliveries.contains(&key.delivery) {
                        Known::Settled(Box::new(settlement))
                    } else {
                        tracing::warn!(delivery_id = %key.delivery, "delivery {} was settled by somebody else", key.delivery);
                        Known::NotOpen
                    };
                    known.insert(key, outcome);
                }
            }
            Err(error) => {
                // The leases end, and the dispatcher takes the deliveries for what they then are: unknown.
                tracing::error!(error = chain(&error), attempt_count = records.len(), "attempts could not be recorded");
                known.extend(records.into_iter().map(|record| (record.key, Known::NotRecorded)));
            }
        }
        known
    }

    async fn conclude(
        &self,
        decision: Decision,
        claimed: Box<ClaimedDelivery>,
        contents: &Contents,
        deadline: Instant,
    ) -> Concluded {
        let mut content_hash = None;
        let conclusion = if deadline.saturating_duration_since(Instant::now()) < RESERVE {
            Conclusion::HandedBack(words("OutOfTime", "the invocation's time ran out before this delivery"))
        } else if let Some(conclusion) = conclude_decision(decision.verdict, claimed.facts.now) {
            conclusion
        } else {
            // Whatever a record makes its own code do stays with it. Nothing was sent while preparing.
            match catch_unwind(AssertUnwindSafe(|| self.compose(&claimed, contents))) {
                Ok(Err(conclusion)) => conclusion,
                Ok(Ok(composed)) => {
                    content_hash = Some(composed.hash);
                    if claimed.sandbox { Conclusion::Sandboxed } else { self.send(&composed.mail).await }
                }
                Err(_) => Conclusion::Called(SendOutcome::Transient(words("Panicked", "preparing the message failed"))),
            }
        };
        let settlement = settle_attempt(conclusion, claimed.budget, &claimed.rules, Jitter::new(rand::random()));
        // Where nothing came of it, an address may be the cause, and is then behind more such lines.
        let is_lost = matches!(settlement.state, DeliveryState::Skipped | DeliveryState::Failed);
        let address = claimed.recipient.email.as_deref().filter(|_| is_lost);
        tracing::info!(
            tenant_id = %claimed.key.tenant,
            notification_id = %claimed.notification,
            delivery_id = %claimed.key.delivery,
            address = address.map(|address| digest(&claimed.salt, address)),
            attempt_number = claimed.attempt_number,
            outcome = settlement.outcome.as_str(),
            state = settlement.state.as_str(),
            error_code = settlement.error.as_ref().map(|error| error.code.as_str()),
            "attempt {} of {} ended {}", claimed.attempt_number, claimed.key.delivery, settlement.outcome
        );
        Concluded { claimed, findings: decision.findings, content_hash, settlement }
    }

    /// What the batch is rendered with and signed by: templates and link keys that this instance does not have yet, and
    /// the files of what goes. A batch without files asks for none, and one whose mails need no link for no key.
    async fn load_contents(&self, decided: &[(Decision, Box<ClaimedDelivery>)]) -> Contents {
        let wanted: HashSet<_> = decided.iter().filter_map(|(_, claimed)| version_of(claimed)).collect();
        let going =
            || decided.iter().filter(|(decision, _)| decision.verdict == Verdict::Send).map(|(_, claimed)| claimed);
        let files: HashSet<_> = going().flat_map(|claimed| files_of(claimed)).collect();
        let files: Vec<AttachmentKey> = files.into_iter().collect();
        let (templates, rings, files) = tokio::join!(
            self.templates.load_across_tenants(&self.database, wanted),
            self.load_rings(going().filter(|claimed| may_leave(claimed)).map(|claimed| claimed.key.tenant).collect()),
            load_attachments_across_tenants(&self.database, &files)
        );
        if let Err(error) = &files {
            tracing::error!(error = chain(error), "the files of a batch could not be read");
        }
        let mut contents = Contents { templates, rings, files };
        // What cannot be left names a link all the same at times; only its template says so.
        let naming = going().filter(|claimed| !may_leave(claimed) && names_link(claimed, &contents));
        let more =
            naming.map(|claimed| claimed.key.tenant).filter(|tenant| !contents.rings.contains_key(tenant)).collect();
        contents.rings.extend(self.load_rings(more).await);
        contents
    }

    /// The link keys of these tenants, as far as they could be read.
    async fn load_rings(&self, tenants: HashSet<TenantId>) -> LinkKeyRings {
        let tenants: Vec<TenantId> = tenants.into_iter().collect();
        self.keys.load_or_create_across_tenants(&self.database, &tenants).await.unwrap_or_else(|error| {
            tracing::error!(error = chain(&error), "the link keys of a batch could not be read");
            LinkKeyRings::new()
        })
    }

    fn compose(&self, claimed: &ClaimedDelivery, contents: &Contents) -> Result<Composed, Conclusion> {
        let impossible = |reason: Reason, detail: &str| Conclusion::Impossible(reason, detail.to_owned());
        let to = claimed.recipient.email.as_deref().map(EmailAddress::parse);
        let to = to
            .and_then(Result::ok)
            .ok_or_else(|| impossible(Reason::NoAddress, "the recipient has no mail address"))?;
        let from = match claimed.from_address.as_deref().map(EmailAddress::parse) {
            None => self.mail_config.from.clone(),
            Some(Ok(address)) => address,
            Some(Err(_)) => {
                // Its own sender's breaker, so that one tenant's mistake holds back nobody else.
                let error = words("SenderInvalid", "the tenant's from_address is no mail address");
                return Err(Conclusion::Called(SendOutcome::Held(Reason::IdentityUnverified, error)));
            }
        };
        let (links, leaving) = self.sign_links(claimed, contents)?;
        let reader = Reader {
            id: claimed.recipient.id.as_deref(),
            name: claimed.recipient.name.as_deref(),
            email: claimed.recipient.email.as_deref(),
            locale: &claimed.recipient.locale,
            time_zone: &claimed.recipient.time_zone,
            attributes: &claimed.recipient.attributes,
        };
        let about = Subject {
            notification: &claimed.notification.to_string(),
            category: claimed.category.as_str(),
            tenant: &claimed.tenant_name,
            data: &claimed.data,
            links: &links,
            can_leave: may_leave(claimed),
        };
        let template = choose_template(claimed, contents)?;
        let compiled = template.as_ref().as_ref().map_err(|error| Conclusion::RenderFailed(error.clone()))?;
        let message = make_message(compiled, &reader, &about).map_err(Conclusion::RenderFailed)?;
        let name = |name: &Option<String>| name.as_deref().and_then(|name| DisplayName::parse(name).ok());
        let (from_name, to_name) = (name(&claimed.from_name), name(&claimed.recipient.name));
        let mut attachments = choose_files(claimed, contents)?;
        attachments.extend(claimed.invitation.as_ref().map(|invitation| {
            let facts = InvitationFacts {
                notification: claimed.notification,
                accepted_at: claimed.accepted_at,
                sender: &from,
                sender_name: from_name.as_ref(),
                recipient: &to,
                recipient_name: to_name.as_ref(),
                time_zone: &claimed.facts.zone,
            };
            print_invitation(invitation, &facts)
        }));
        let hash = hash_with_files(message.hash, &attachments);
        let tag = |text: String| TagValue::parse(&text).expect("ids and numbers consist of what tags may hold");
        let mail = Mail {
            from,
            from_name,
            to,
            to_name,
            subject: message.parts.subject,
            text: message.parts.text,
            html: message.parts.html,
            headers: mail_headers(claimed).into_iter().chain(leaving).collect(),
            attachments,
            tags: MailTags {
                notification: tag(claimed.notification.to_string()),
                attempt: tag(claimed.attempt_number.to_string()),
                tenant: tag(claimed.key.tenant.to_string()),
            },
        };
        adapters::failpoint!(
            "P5_rendered",
            Err(Conclusion::HandedBack(words("Failpoint", "told to fail at P5_rendered")))
        );
        Ok(Composed { mail, hash })
    }

    /// Where this recipient leaves the category, and the headers by which mail readers offer it (RFC 8058); none of them
    /// where it cannot be left.
    ///
    /// What cannot be left and names no link does not wait for a key: security mail goes while there is none.
    fn sign_links(
        &self,
        claimed: &ClaimedDelivery,
        contents: &Contents,
    ) -> Result<(FooterLinks, Vec<Header>), Conclusion> {
        if !may_leave(claimed) && !names_link(claimed, contents) {
            return Ok((FooterLinks::none(), Vec::new()));
        }
        // Without the key the mail waits: one that cannot be left is not sent.
        let unsigned = |detail: &str| Conclusion::HandedBack(words("LinkKeysUnavailable", detail));
        let ring = match contents.rings.get(&claimed.key.tenant) {
            Some(Ok(ring)) => ring,
            Some(Err(error)) => {
                // A metric counts these lines and an alarm watches it: nothing but a person mends this.
                if !error.is_temporary() {
                    tracing::error!(
                        metric = "link_keys_lost",
                        tenant_id = %claimed.key.tenant,
                        error = chain(error),
                        "mail of a tenant waits, because its link keys do not open"
                    );
                }
                return Err(unsigned("the tenant's link keys do not open"));
            }
            None => return Err(unsigned("the link keys could not be read")),
        };
        let leaving = LinkToken {
            tenant: claimed.key.tenant,
            subject: claimed.recipient.subject,
            category: Some(claimed.category.clone()),
        };
        let token = ring.print(&leaving).ok_or_else(|| unsigned("no link key is in force yet"))?;
        let acting = claimed.acting.map(|acting| (claimed.notification, acting));
        let links = sign_links(ring, &self.public_url, &leaving, acting)
            .ok_or_else(|| unsigned("no link key is in force yet"))?;
        let headers = match may_leave(claimed) {
            true => unsubscribe_headers(&self.public_url, &token).to_vec(),
            false => Vec::new(),
        };
        Ok((links, headers))
    }

    /// One provider call. A panic on the way may have come after the request went out.
    async fn send(&self, mail: &Mail) -> Conclusion {
        let call = async {
            adapters::failpoint!("P6_send", SendOutcome::Transient(words("Failpoint", "told to fail at P6_send")));
            let outcome = self.mail.send_mail(mail).await;
            adapters::failpoint!(
                "P8_answered",
                SendOutcome::Unknown(words("Failpoint", "told to fail at P8_answered"))
            );
            outcome
        };
        let sent = AssertUnwindSafe(call).catch_unwind().await;
        Conclusion::Called(
            sent.unwrap_or_else(|_| SendOutcome::Unknown(words("Panicked", "sending the message failed"))),
        )
    }

    async fn record(&self, records: &[AttemptRecord]) -> Result<Recorded, StoreError> {
        let mut tries = 1;
        loop {
            match record_across_tenants(&self.database, records).await {
                Err(error) if tries < RECORD_TRIES => {
                    tracing::warn!(error = chain(&error), "attempts were not recorded at try {tries}");
                    tokio::time::sleep(Duration::from_millis(200) * tries).await;
                    tries += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn dispose_records(&self, records: &[Record], disposals: &[Disposal<'_>]) -> BatchResponse {
        let mut failing: Vec<&Record> = Vec::new();
        let (mut hidden, mut buried, mut dead) = (Vec::new(), Vec::new(), Vec::new());
        for (record, disposal) in records.iter().zip(disposals) {
            match disposal {
                Disposal::Delete => {}
                Disposal::Fail => failing.push(record),
                Disposal::Return(wait) => {
                    hidden.push((record.receipt_handle.clone(), *wait));
                    failing.push(record);
                }
                Disposal::Bury { reason, detail } => {
                    buried.push(record);
                    dead.push(DeadMessage {
                        body: record.body.clone(),
                        reason: (*reason).to_owned(),
                        detail: detail.clone(),
                        receive_count: record.receive_count.unsigned_abs(),
                        sent_at_millis: record.sent_at_millis,
                    });
                }
            }
        }
        adapters::failpoint!("P11_hide", BatchResponse::failing(records));
        // A message that could not be hidden comes back early, and the claim tells it so.
        let (_, not_buried) = tokio::join!(self.queue.hide(&hidden), self.queue.bury(&dead));
        failing.extend(not_buried.0.iter().filter_map(|place| buried.get(*place)).copied());
        BatchResponse::failing(failing)
    }
}

/// What the batch knows of an asked delivery.
enum Known {
    Settled(Box<Settlement>),
    TooEarly(Duration),
    NotOpen,
    NotRecorded,
    Missing,
}

/// What a batch is rendered with and signed by, or why that could not be had; key rings of those tenants only that need
/// and have one.
struct Contents {
    templates: Result<HashMap<VersionKey, Cached>, StoreError>,
    rings: LinkKeyRings,
    files: Result<HashMap<AttachmentKey, Attachment>, StoreError>,
}

/// A mail and the digest of what it says.
struct Composed {
    mail: Mail,
    hash: [u8; 32],
}

/// What stops a delivery before anything is rendered.
fn conclude_decision(verdict: Verdict, now: Timestamp) -> Option<Conclusion> {
    match verdict {
        Verdict::Send => None,
        Verdict::Skip(reason) => Some(Conclusion::Skipped(reason)),
        Verdict::Expire => Some(Conclusion::Expired),
        Verdict::Hold(reason, until) => {
            // To the second after: earlier, and it would be held once more.
            let seconds = until.duration_since(now).as_secs().max(0).unsigned_abs() + 1;
            Some(Conclusion::Postponed { reason, wait: Duration::from_secs(seconds) })
        }
    }
}

/// Whether the recipient may switch the category off.
fn may_leave(claimed: &ClaimedDelivery) -> bool {
    claimed.facts.preference.mandatory_for.is_none()
}

/// Whether its words may print one of the links that are signed. A template prints what it names, and nothing else.
fn names_link(claimed: &ClaimedDelivery, contents: &Contents) -> bool {
    let links = ["unsubscribe_url", "preferences_url", "acknowledge_url", "resolve_url"];
    let names = |part: &str| links.iter().any(|link| part.contains(link));
    let InlineContent { subject, text, html } = &claimed.content;
    let inline = [subject.as_deref(), text.as_deref(), html.as_deref()];
    let cached = version_of(claimed).zip(contents.templates.as_ref().ok());
    let source = cached.and_then(|(version, templates)| templates.get(&version)).map(|cached| &*cached.source);
    let published =
        source.map(|source| [Some(source.subject.as_str()), source.text.as_deref(), source.html.as_deref()]);
    inline.into_iter().chain(published.into_iter().flatten()).flatten().any(names)
}

fn version_of(claimed: &ClaimedDelivery) -> Option<VersionKey> {
    let template = claimed.template.as_ref()?;
    let (locale, version) = template.version.clone()?;
    Some(VersionKey {
        tenant: claimed.key.tenant,
        template: template.key.clone(),
        channel: claimed.channel,
        locale,
        version,
    })
}

fn files_of(claimed: &ClaimedDelivery) -> impl Iterator<Item = AttachmentKey> {
    let tenant = claimed.key.tenant;
    claimed.attachments.iter().map(move |attachment| AttachmentKey { tenant, attachment: *attachment })
}

/// The files that leave with the delivery, in order; a mail that lacks one waits.
fn choose_files(claimed: &ClaimedDelivery, contents: &Contents) -> Result<Vec<Attachment>, Conclusion> {
    let unread = |detail: &str| Conclusion::HandedBack(words("AttachmentsUnavailable", detail));
    let found = |key| match &contents.files {
        // An erased recipient's are gone; the next claim does not name them any more.
        Ok(files) => files.get(&key).cloned().ok_or_else(|| unread("a file is not there any more")),
        Err(_) => Err(unread("the files could not be read")),
    };
    files_of(claimed).map(found).collect()
}

/// What the delivery is rendered with: the template as this instance keeps it, or one that is made of it and the
/// request's own parts.
fn choose_template(claimed: &ClaimedDelivery, contents: &Contents) -> Result<Compiled, Conclusion> {
    let missing =
        || Conclusion::Impossible(Reason::NoTemplate, "the template has no version for this channel".to_owned());
    let cached = match version_of(claimed) {
        None if claimed.template.is_some() && !claimed.content.is_whole() => return Err(missing()),
        None => None,
        Some(version) => {
            let unread = || words("TemplatesUnavailable", "the templates could not be read");
            let templates = contents.templates.as_ref().map_err(|_| Conclusion::HandedBack(unread()))?;
            Some(templates.get(&version).ok_or_else(missing)?)
        }
    };
    let InlineContent { subject, text, html } = &claimed.content;
    match cached {
        Some(cached) if subject.is_none() && text.is_none() && html.is_none() => Ok(cached.compiled.clone()),
        _ => {
            let source = merge_content(&claimed.content, cached.map(|cached| &*cached.source)).ok_or_else(missing)?;
            Ok(Arc::new(CompiledTemplate::new(source)))
        }
    }
}

/// Inline parts go before the template's; inline bodies together replace the template's.
fn merge_content(inline: &InlineContent, template: Option<&TemplateSource>) -> Option<TemplateSource> {
    let InlineContent { subject, text, html } = inline.clone();
    let (text, html) = match template {
        Some(template) if text.is_none() && html.is_none() => (template.text.clone(), template.html.clone()),
        _ => (text, html),
    };
    if text.is_none() && html.is_none() {
        return None;
    }
    Some(TemplateSource { subject: subject.or_else(|| template.map(|template| template.subject.clone()))?, text, html })
}

fn dispose<'a>(record: &Record, known: Option<&Known>) -> Disposal<'a> {
    match known {
        Some(Known::Settled(settlement)) => match settlement.next {
            Next::Retry { wait, wake: Wake::Message } => Disposal::Return(wait),
            Next::DeadLetter => Disposal::Bury {
                reason: Reason::AttemptsUsedUp.as_str(),
                detail: settlement.detail.clone().unwrap_or_default(),
            },
            Next::Nothing | Next::Retry { wake: Wake::Dispatcher, .. } | Next::Feedback { .. } => Disposal::Delete,
        },
        Some(Known::TooEarly(wait)) if *wait <= LONGEST_EARLY => Disposal::Return(*wait),
        Some(Known::TooEarly(_) | Known::NotOpen) => Disposal::Delete,
        Some(Known::NotRecorded) => Disposal::Fail,
        Some(Known::Missing) | None if record.receive_count < MISSING_RECEIVES => Disposal::Return(MISSING_WAIT),
        Some(Known::Missing) | None => Disposal::Bury {
            reason: "unknown_delivery",
            detail: "the tenant that the message names has no such delivery".to_owned(),
        },
    }
}

/// A metric counts these lines and an alarm watches it: while a breaker is open, mail waits for somebody.
fn log_breakers(events: &[Event]) {
    for event in events {
        let breaker = name_breaker(event);
        match event.detail_type.as_str() {
            "breaker.opened" => tracing::error!(
                metric = "breaker_opened",
                breaker,
                reason = event.detail["reason"].as_str(),
                failure_count = event.detail["failure_count"].as_i64(),
                "mail is held back"
            ),
            "breaker.closed" => tracing::info!(breaker, "mail goes again"),
            _ => {}
        }
    }
}

/// `account`, or `identity:` and a digest of the sender's address; the runbook says how to find whose it is.
fn name_breaker(event: &Event) -> String {
    let key = event.detail["breaker"].as_str().unwrap_or_default();
    match key.split_once(':') {
        Some((kind, sender)) => format!("{kind}:{}", digest(event.tenant.to_string().as_bytes(), sender)),
        None => key.to_owned(),
    }
}

fn key_of(message: &DeliveryMessage) -> DeliveryKey {
    DeliveryKey { tenant: message.tenant, delivery: message.delivery }
}

fn words(code: &str, detail: &str) -> ProviderError {
    ProviderError { code: code.to_owned(), detail: detail.to_owned() }
}

/// Headers that every mail carries: that a machine sent it (RFC 3834, section 5), and which notification it is.
fn mail_headers(claimed: &ClaimedDelivery) -> Vec<Header> {
    let header = |name: &str, value: &str| {
        let parts = HeaderName::parse(name).ok().zip(HeaderValue::parse(value).ok());
        parts.and_then(|(name, value)| Header::new(name, value).ok()).expect("names and ids are printable and short")
    };
    vec![
        header("Auto-Submitted", "auto-generated"),
        header("X-Harkara-Notification-Id", &claimed.notification.to_string()),
    ]
}

/// What is recorded of a claimed delivery whose row could not be read: it is handed back. Its sender is not known, and
/// matters only to refusals of the provider.
fn give_up_reading(key: DeliveryKey, attempt: AttemptId, attempt_number: u32, error: &StoreError) -> AttemptRecord {
    let error = words("Unreadable", &error.to_string());
    AttemptRecord {
        key,
        attempt,
        attempt_number,
        identity: "default".to_owned(),
        settlement: hand_back(error, attempt_number, Jitter::new(rand::random())),
        findings: Vec::new(),
        content_hash: None,
        event: None,
    }
}

fn record_of(concluded: &Concluded) -> AttemptRecord {
    let Concluded { claimed, findings, content_hash, settlement } = concluded;
    let event = event_type(settlement.state).map(|detail_type| {
        let id = EventId::from_uuid(new_uuid());
        let detail = json!({
            "event_id": id.to_string(),
            "tenant_id": claimed.key.tenant.to_string(),
            "notification_id": claimed.notification.to_string(),
            "delivery_id": claimed.key.delivery.to_string(),
            "category": claimed.category.as_str(),
            "recipient": claimed.recipient.id,
            "channel": claimed.channel.as_str(),
            "state": settlement.state.as_str(),
            "reason": settlement.reason.map(|reason| reason.as_str()),
            "attempt": claimed.attempt_number,
            "provider_message_id": settlement.provider_message_id,
            "metadata": claimed.metadata,
        });
        (id, detail_type.to_owned(), detail)
    });
    AttemptRecord {
        key: claimed.key,
        attempt: claimed.attempt,
        attempt_number: claimed.attempt_number,
        identity: claimed.identity.clone(),
        settlement: settlement.clone(),
        findings: findings.clone(),
        content_hash: *content_hash,
        event,
    }
}
