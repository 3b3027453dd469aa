//! For each route: what has to be there for it, and a request that it answers.

use crate::action_links::sign_action;
use crate::links::{sign, subject_of};
use adapters::wire::routes::Route;
use domain::id::{NotificationId, TenantId};
use domain::link::{CollectedLink, LinkAction};
use domain::outcome::{ProviderError, SendOutcome};
use serde_json::{Value, json};
use tests::contract::operation;
use tests::{Ask, Stage};

/// A request that its tenant is answered with success.
pub(crate) struct Prepared {
    /// The request.
    pub(crate) ask: Ask,
    /// What names the tenant's things, and so may be in no answer to another tenant.
    pub(crate) marks: Vec<String>,
    /// Whose the things are, where they are a recipient's: its id and phone number.
    pub(crate) owner: Option<(String, String)>,
}

impl Prepared {
    fn of(ask: Ask, marks: &[&str]) -> Self {
        Self { ask, marks: marks.iter().map(|mark| (*mark).to_owned()).collect(), owner: None }
    }

    fn owned_by(self, recipient: &Recipient) -> Self {
        Self { owner: Some((recipient.id.clone(), recipient.phone.clone())), ..self }
    }
}

/// Makes what a route is about, under names that no other route's or tenant's things have, and the request for it.
///
/// A new route has its arm here; nothing else of the walk needs to know it.
pub(crate) async fn prepare(stage: &Stage, tenant: &str, route: Route) -> Prepared {
    let ask = Ask::of(route, tenant);
    let name = format!("own-{}-{}", &tenant[tenant.len() - 4..], route.name());
    let body = &operation(route)["requestBody"]["content"]["application/json"]["example"];
    let ask = if body.is_null() { ask } else { ask.with_body(body) };
    let by_id = |id: &str| ask.clone().with_parameter("id", id);
    let by_key = |key: &str| ask.clone().with_parameter("key", key);
    match route {
        Route::CreateNotifications
        | Route::GetTenantPreferences
        | Route::GetSettings
        | Route::PutSettings
        | Route::VerifyAudit
        | Route::ListLinkKeys
        | Route::AddLinkKey
        | Route::GetHealth
        | Route::GetOpenapi => Prepared::of(ask, &[]),
        // The example holds notifications back, which other routes' fixtures wait for.
        Route::PutTenantPreferences => Prepared::of(ask.with_body(&json!({"contact": "both"})), &[]),
        Route::ListNotifications | Route::GetNotification | Route::ExplainNotification | Route::CancelNotification => {
            let recipient = put_recipient(stage, tenant, &name, route).await;
            let id = accept(stage, tenant, json!({"id": name})).await;
            let ask = if route == Route::ListNotifications { ask } else { by_id(&id) };
            Prepared::of(ask, &[&id]).owned_by(&recipient)
        }
        Route::ListDoorRequests | Route::GetDoorRequest => {
            let id = refuse_in_door(stage, tenant).await;
            let ask = if route == Route::ListDoorRequests { ask } else { by_id(&id) };
            Prepared::of(ask, &[&id])
        }
        Route::ListDeadlines
        | Route::PutDeadline
        | Route::GetDeadline
        | Route::CompleteDeadline
        | Route::DeleteDeadline => {
            put_policy(stage, tenant, "critical").await;
            let example = &operation(Route::PutDeadline)["requestBody"]["content"]["application/json"]["example"];
            stage.put(tenant, "/v1/deadlines/{key}", &name, example.clone()).await;
            let ask = if route == Route::ListDeadlines { ask } else { by_key(&name) };
            Prepared::of(ask, &[&name])
        }
        Route::GetDeliveryContent => {
            let id = accept(stage, tenant, json!({"email": "ada@example.org"})).await;
            stage.drain().await;
            let shown = stage.ask(&Ask::of(Route::GetNotification, tenant).with_parameter("id", &id)).await;
            let delivery = shown.body["deliveries"][0]["id"].as_str().expect("a delivery").to_owned();
            Prepared::of(by_id(&delivery), &[&delivery])
        }
        Route::ListJobs => Prepared::of(ask, &[]),
        Route::ListJobRuns => Prepared::of(ask.with_parameter("key", "dispatcher"), &[]),
        Route::GetJob | Route::PutDomainJob | Route::DeleteDomainJob => {
            let body = json!({"schedule": "rate(1 hour)", "call": {"function": "rental.refresh"}});
            stage.put(tenant, "/v1/jobs/{key}", &name, body).await;
            Prepared::of(by_key(&name), &[&name])
        }
        Route::RunJob => {
            let operator = TenantId::OPERATOR.to_string();
            Prepared::of(ask.with_parameter("key", "dispatcher").with_claim("tenant_id", &operator), &[])
        }
        Route::ListDeadLetters => {
            let id = bury(stage, tenant).await;
            Prepared::of(ask, &[&id])
        }
        Route::RedriveDeadLetters => {
            let id = bury(stage, tenant).await;
            Prepared::of(ask.with_body(&json!({"ids": [id]})), &[&id])
        }
        Route::PutRecipients => {
            put_recipient(stage, tenant, &name, route).await;
            let body = json!({"recipients": [{"id": name, "email": "another@example.org"}]});
            Prepared::of(ask.with_body(&body), &[&name])
        }
        Route::ListUnreachable => {
            let phone_only = json!({"phone": "+4915112345678"});
            stage.put(tenant, "/v1/recipients/{id}", &name, phone_only).await;
            Prepared::of(ask, &[&name])
        }
        Route::ListRecipients | Route::ListChanges => {
            put_recipient(stage, tenant, &name, route).await;
            Prepared::of(ask, &[&name])
        }
        Route::PutRecipient
        | Route::GetRecipient
        | Route::DeleteRecipient
        | Route::GetPreferences
        | Route::PutPreferences
        | Route::AddConsent => {
            let recipient = put_recipient(stage, tenant, &name, route).await;
            Prepared::of(by_id(&name), &[&name]).owned_by(&recipient)
        }
        Route::ListConsents => {
            let recipient = put_recipient(stage, tenant, &name, route).await;
            let consent = json!({"purpose": "news", "state": "granted", "source": name});
            let add = Ask::of(Route::AddConsent, tenant).with_parameter("id", &name).with_body(&consent);
            assert_eq!(stage.ask(&add).await.status, 200);
            Prepared::of(by_id(&name), &[&name]).owned_by(&recipient)
        }
        Route::ListSuppressions | Route::GetSuppression | Route::PutSuppression | Route::DeleteSuppression => {
            let address = format!("{name}@example.org").to_lowercase();
            let put = Ask::of(Route::PutSuppression, tenant).with_parameter("address", &address);
            assert_eq!(stage.ask(&put).await.status, 200);
            let ask = match route {
                Route::ListSuppressions => ask,
                _ => ask.with_parameter("address", &address),
            };
            Prepared::of(ask, &[&address])
        }
        Route::ShowUnsubscribe | Route::Unsubscribe | Route::ShowPreferenceCenter | Route::SavePreferenceCenter => {
            let recipient = put_recipient(stage, tenant, &name, route).await;
            let subject = subject_of(&stage.admin, tenant, &name).await;
            let token = sign(stage, tenant, subject, Some("greeting")).await;
            let mut ask = ask.with_parameter("token", &token).with_text(match route {
                Route::Unsubscribe => "List-Unsubscribe=One-Click",
                Route::SavePreferenceCenter => "everything=1",
                _ => "",
            });
            ask.headers.insert("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned());
            Prepared::of(ask, &[]).owned_by(&recipient)
        }
        Route::ShowCollected => {
            let recipient = put_recipient(stage, tenant, &name, route).await;
            let id = accept(stage, tenant, json!({"id": name})).await;
            let token = link_of(stage, tenant, &id).await;
            Prepared::of(ask.with_parameter("token", &token), &[]).owned_by(&recipient)
        }
        Route::ShowAction | Route::Act => {
            let recipient = put_recipient(stage, tenant, &name, route).await;
            put_policy(stage, tenant, "critical").await;
            let start = Ask::of(Route::StartEscalation, tenant).with_body(&start_body());
            let started = stage.ask(&start).await;
            let id = started.body["escalation"]["id"].as_str().unwrap_or_else(|| panic!("{started:?}")).to_owned();
            let token = sign_action(stage, tenant, &name, &id, LinkAction::Acknowledge).await;
            let form = if route == Route::Act { "confirm=1" } else { "" };
            let mut ask = ask.with_parameter("token", &token).with_text(form);
            ask.headers.insert("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned());
            Prepared::of(ask, &[]).owned_by(&recipient)
        }
        Route::ListCategories | Route::PutCategory | Route::GetCategory => {
            stage.put(tenant, "/v1/categories/{key}", &name, json!({"class": "security"})).await;
            let ask = if route == Route::ListCategories { ask } else { by_key(&name) };
            Prepared::of(ask, &[&name])
        }
        Route::ListEscalationPolicies
        | Route::PutEscalationPolicy
        | Route::GetEscalationPolicy
        | Route::DeleteEscalationPolicy => {
            put_policy(stage, tenant, &name).await;
            let ask = if route == Route::ListEscalationPolicies { ask } else { by_key(&name) };
            Prepared::of(ask, &[&name])
        }
        Route::StartEscalation => {
            put_policy(stage, tenant, "critical").await;
            Prepared::of(ask, &[])
        }
        Route::ListEscalations | Route::GetEscalation | Route::AcknowledgeEscalation | Route::ResolveEscalation => {
            put_policy(stage, tenant, "critical").await;
            let start = Ask::of(Route::StartEscalation, tenant).with_body(&start_body());
            let started = stage.ask(&start).await;
            let id = started.body["escalation"]["id"].as_str().unwrap_or_else(|| panic!("{started:?}")).to_owned();
            let ask = if route == Route::ListEscalations { ask } else { by_id(&id) };
            Prepared::of(ask, &[&id])
        }
        Route::ListTemplates
        | Route::PutTemplate
        | Route::GetTemplate
        | Route::PublishTemplate
        | Route::PreviewTemplate
        | Route::GetTemplateVersion => {
            stage.publish(tenant, &name, json!({"subject": "s", "text": name})).await;
            let ask = if route == Route::ListTemplates { ask } else { by_key(&name) };
            let ask = if route == Route::GetTemplateVersion { ask.with_parameter("version", "1") } else { ask };
            Prepared::of(ask, &[&name])
        }
    }
}

/// A recipient with a phone number of its own.
struct Recipient {
    id: String,
    phone: String,
}

async fn put_recipient(stage: &Stage, tenant: &str, id: &str, route: Route) -> Recipient {
    let phone = format!("+49151{:07}", route as usize);
    let body = json!({"email": format!("{id}@example.org"), "phone": phone});
    stage.put(tenant, "/v1/recipients/{id}", id, body).await;
    Recipient { id: id.to_owned(), phone }
}

/// An escalation policy whose first step waits, so that nothing is sent.
async fn put_policy(stage: &Stage, tenant: &str, key: &str) {
    let policy = json!({"category": "greeting", "steps": [{"delay": "PT1H", "recipients": ["ada"]}]});
    stage.put(tenant, "/v1/escalation-policies/{key}", key, policy).await;
}

fn start_body() -> Value {
    json!({"policy": "critical", "data": {"name": "Ada"}})
}

/// A notification of the tenant.
async fn accept(stage: &Stage, tenant: &str, recipient: Value) -> String {
    let body = json!({"category": "greeting", "recipient": recipient, "data": {"name": "Ada"}});
    stage.post_as(tenant, body, &[]).await.id()
}

/// A request of the tenant's domain that was refused. Another login is no business of these tests, so it is put there.
async fn refuse_in_door(stage: &Stage, tenant: &str) -> String {
    let statement = "
        INSERT INTO harkara.door_requests (tenant_id, request_id, request, due_at, refused_at, errors)
        VALUES ($1::uuid, harkara.new_id(), '{\"category\": \"greeting\"}', NULL, harkara.now(),
                '[{\"pointer\": \"/priority\", \"detail\": \"is none\"}]')
        RETURNING request_id";
    let id: uuid::Uuid = sqlx::query_scalar(statement).bind(tenant).fetch_one(&stage.admin).await.expect("stored");
    NotificationId::from_uuid(id).to_string()
}

/// A dead letter of the tenant.
async fn bury(stage: &Stage, tenant: &str) -> String {
    let failing =
        || SendOutcome::ServerFailed(ProviderError { code: "InternalFailure".into(), detail: "words".into() });
    let address = format!("dead-{tenant}@example.org");
    stage.mail.script(&address, [failing as fn() -> SendOutcome; 3]);
    let notification = accept(stage, tenant, json!({"email": address})).await;
    stage.drain().await;
    stage.store_dead_letters().await;
    let letters = stage.ask(&Ask::of(Route::ListDeadLetters, tenant)).await;
    let letters = letters.body["dead_letters"].as_array().expect("a list").clone();
    let letter = letters.iter().find(|letter| letter["notification_id"] == notification.as_str());
    let id = letter.unwrap_or_else(|| panic!("{notification} is among {letters:?}"))["id"].as_str();
    id.expect("an id").to_owned()
}

/// Gives a notification the link that a batch's message has.
async fn link_of(stage: &Stage, tenant: &str, id: &str) -> String {
    let (tenant, id) = (TenantId::parse(tenant).expect("an id"), NotificationId::parse(id).expect("an id"));
    let link = CollectedLink::new(tenant, id, [7; 16]).to_string();
    sqlx::query("UPDATE harkara.notifications SET data = data || jsonb_build_object('more_link', $1::text) WHERE notification_id = $2")
        .bind(format!("https://notices.harkara.test/v1/collected/{link}"))
        .bind(id.as_uuid())
        .execute(&stage.admin)
        .await
        .expect("it has a link");
    link
}
