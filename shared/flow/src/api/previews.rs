//! What a template makes of data: as a preview, and as it was sent. Both come out of the code that sends.

use super::templates::{read_draft, read_library};
use super::{Answer, Api, parameter, show};
use crate::message::{hash_with_files, print_invitation, warn_of, withhold_actions};
use crate::request::Refused;
use adapters::ids::new_uuid;
use adapters::store::attachments::read_attachments;
use adapters::store::categories::read_category;
use adapters::store::claims::Acting;
use adapters::store::contents::{SentContent, read_sent};
use adapters::store::database::TenantTransaction;
use adapters::store::recipients::read_recipient;
use adapters::store::templates::{choose_variant, read_publication};
use adapters::store::tenants::{TenantRow, read_tenant};
use adapters::wire::fields::FieldError;
use adapters::wire::http::{Request, Response};
use adapters::wire::previews::{print_content, print_preview, refuse_render};
use adapters::wire::problem::Problem;
use adapters::wire::templates::{PreviewBody, PreviewRecipient, read_preview, refuse_draft};
use domain::address::EmailAddress;
use domain::attachment::Attachment;
use domain::calendar::InvitationFacts;
use domain::category::Class;
use domain::event::EventBus;
use domain::id::{DeliveryId, NotificationId, TemplateKey, TenantId};
use domain::link::{LinkToken, SubjectId};
use domain::message::{Message, Reader, Subject, make_message, make_short_text};
use domain::moment::TimeZoneName;
use domain::name::DisplayName;
use domain::queue::Queue;
use domain::render::{CompiledTemplate, FooterLinks, TemplateSource};
use domain::secret::KeyService;
use domain::template::{Variables, check_data, example_data, publish};
use serde_json::{Value, json};

/// A person whom a preview is for.
struct Person {
    id: Option<String>,
    subject: SubjectId,
    name: Option<String>,
    email: Option<String>,
    locale: String,
    time_zone: String,
    attributes: Value,
    roles: Vec<String>,
}

/// What a preview renders.
struct Chosen {
    source: TemplateSource,
    short_text: Option<String>,
    locale: String,
    variables: Variables,
}

impl<Q: Queue, K: KeyService, B: EventBus> Api<Q, K, B> {
    /// Renders a template as it would be sent, and says what is questionable about it.
    pub(super) async fn preview_template(&self, request: &Request) -> Answer {
        let key = parameter(request, "key", "template", TemplateKey::parse)?;
        let body = read_preview(&request.json_or_empty()?)?;
        let caller = request.caller()?;
        let mut transaction = self.begin(request).await?;
        let tenant = read_tenant(&mut transaction).await?;
        let person = find_person(&mut transaction, &body.recipient, &tenant).await?;
        let category = match &body.category {
            None => None,
            Some(key) => {
                let unknown = || FieldError::new("/category", "no category has this key; see GET /v1/categories");
                let row = read_category(&mut transaction, key).await?;
                Some(row.ok_or_else(|| Problem::invalid(vec![unknown()]))?)
            }
        };
        let chosen = choose_source(&mut transaction, &key, &body, &person, &tenant).await?;
        transaction.commit().await?;

        let mut data = match &body.data {
            Some(data) => {
                check_data(&chosen.variables, data).map_err(wrong_data)?;
                data.clone()
            }
            None => example_data(&chosen.variables),
        };
        chosen.variables.fill_absent(&mut data);
        let mandatory = |roles: &[String]| roles.iter().any(|role| role == "*" || person.roles.contains(role));
        let can_leave = !category.as_ref().is_some_and(|category| mandatory(&category.unmutable_roles));
        let category_key = category.as_ref().map_or("preview", |category| category.key.as_str());
        let links = self.sign_links(caller.tenant, &caller.subject, person.subject, category_key, None).await?;
        let about = Subject {
            notification: &NotificationId::from_uuid(new_uuid()).to_string(),
            category: category_key,
            tenant: &tenant.name,
            data: &data,
            links: &links,
            can_leave,
        };
        let compiled = CompiledTemplate::new(chosen.source).map_err(|error| refuse_render(&error))?;
        let reader = reader(&person);
        let message = make_message(&compiled, &reader, &about).map_err(|error| refuse_render(&error))?;
        let short_text = chosen.short_text.map(|source| make_short_text(source, &reader, &about)).transpose();
        let short_text = short_text.map_err(|error| refuse_render(&error))?;
        let class = category.as_ref().and_then(|category| Class::parse(&category.class));
        let warnings = warn_of(&message, class, can_leave.then_some(&links));
        let short_text = short_text.as_deref();
        Ok(Response::json(200, &print_preview(&message, short_text, &chosen.locale, &warnings)))
    }

    /// Shows what a delivery said: its template's version and its data, rendered once more and held against the digest
    /// that was kept when it was sent.
    pub(super) async fn get_delivery_content(&self, request: &Request) -> Answer {
        let id = parameter(request, "id", "delivery", DeliveryId::parse)?;
        let caller = request.caller()?;
        let mut transaction = self.begin(request).await?;
        let sent = read_sent(&mut transaction, id).await?;
        let Some(sent) = sent else { return show(None::<()>, "delivery that was rendered", |()| Value::Null) };
        if sent.is_erased {
            return Err(Problem::gone("the recipient was erased, and what the delivery said with it").into());
        }
        let mut files = read_attachments(&mut transaction, &sent.attachments).await?;
        transaction.commit().await?;
        let (mut message, links) = self.render_sent(caller.tenant, &caller.subject, &sent).await?;
        let invitation = self.print_sent_invitation(&sent);
        let calendar = invitation.as_ref().map(|file| String::from_utf8_lossy(&file.content).into_owned());
        files.extend(invitation);
        let hash = hash_with_files(message.hash, &files);
        withhold_actions(&mut message.parts, &links);
        Ok(Response::json(200, &print_content(&sent, &message.parts, &files, calendar.as_deref(), &hash)))
    }

    /// The invitation that left with a delivery; `None` where there was none, or whom it was for is not known any more.
    fn print_sent_invitation(&self, sent: &SentContent) -> Option<Attachment> {
        let invitation = sent.invitation.as_ref()?;
        let address = |text: &Option<String>| text.as_deref().and_then(|text| EmailAddress::parse(text).ok());
        let name = |text: &Option<String>| text.as_deref().and_then(|text| DisplayName::parse(text).ok());
        let (sender_name, recipient_name) = (name(&sent.from_name), name(&sent.name));
        let facts = InvitationFacts {
            notification: sent.notification,
            accepted_at: sent.accepted_at,
            sender: &address(&sent.from_address).unwrap_or_else(|| self.sender.clone()),
            sender_name: sender_name.as_ref(),
            recipient: &address(&sent.email)?,
            recipient_name: recipient_name.as_ref(),
            time_zone: &TimeZoneName::parse(&sent.time_zone).ok()?,
        };
        Some(print_invitation(invitation, &facts))
    }

    async fn render_sent(
        &self,
        tenant: TenantId,
        actor: &str,
        sent: &SentContent,
    ) -> Result<(Message, FooterLinks), Refused> {
        let acting = sent.acting.map(|acting| (sent.notification, acting));
        let links = self.sign_links(tenant, actor, sent.subject, sent.category.as_str(), acting).await?;
        let reader = Reader {
            id: sent.recipient.as_deref(),
            name: sent.name.as_deref(),
            email: sent.email.as_deref(),
            locale: &sent.locale,
            time_zone: &sent.time_zone,
            attributes: &sent.attributes,
        };
        let about = Subject {
            notification: &sent.notification.to_string(),
            category: sent.category.as_str(),
            tenant: &sent.tenant_name,
            data: &sent.data,
            links: &links,
            can_leave: !sent.is_mandatory,
        };
        // It did render when it was sent: whatever is wrong with it now came since.
        let gone = |error| {
            Problem::gone(format!("what it was made of has changed since, and makes no message any more: {error}"))
        };
        let compiled = CompiledTemplate::new(sent.source.clone()).map_err(gone)?;
        let message = make_message(&compiled, &reader, &about).map_err(gone)?;
        Ok((message, links))
    }

    async fn sign_links(
        &self,
        tenant: TenantId,
        actor: &str,
        subject: SubjectId,
        category: &str,
        acting: Option<(NotificationId, Acting)>,
    ) -> Result<FooterLinks, Refused> {
        let ring = self.keys.load_or_create(&self.database, tenant, actor).await.map_err(|error| {
            tracing::error!(error = adapters::telemetry::chain(&error), "the link keys cannot be had");
            Problem::unavailable()
        })?;
        let category = domain::id::CategoryKey::parse(category).ok();
        crate::message::sign_links(&ring, &self.public_url, &LinkToken { tenant, subject, category }, acting)
            .ok_or_else(|| Problem::unavailable().into())
    }
}

async fn find_person(
    transaction: &mut TenantTransaction,
    recipient: &PreviewRecipient,
    tenant: &TenantRow,
) -> Result<Person, Refused> {
    match recipient {
        PreviewRecipient::Known(key) => {
            let unknown = || FieldError::new("/recipient/id", "no recipient has this id; see GET /v1/recipients");
            let row = read_recipient(transaction, key).await?.ok_or_else(|| Problem::invalid(vec![unknown()]))?;
            Ok(Person {
                id: Some(row.id),
                subject: row.subject,
                name: row.name,
                email: row.email,
                locale: row.locale.unwrap_or_else(|| tenant.locale.to_string()),
                time_zone: row.time_zone.unwrap_or_else(|| tenant.time_zone.clone()),
                attributes: row.attributes,
                roles: row.roles,
            })
        }
        PreviewRecipient::MadeUp { name, locale, time_zone } => Ok(Person {
            id: None,
            // Nobody's, so that the links of a preview lead nowhere.
            subject: SubjectId::from_uuid(new_uuid()),
            name: Some(name.as_ref().map_or("Asha Rao", |name| name.as_str()).to_owned()),
            email: Some("asha@example.com".to_owned()),
            locale: locale.as_ref().unwrap_or(&tenant.locale).to_string(),
            time_zone: time_zone.as_ref().map_or(&tenant.time_zone[..], |zone| zone.as_str()).to_owned(),
            attributes: json!({}),
            roles: Vec::new(),
        }),
    }
}

async fn choose_source(
    transaction: &mut TenantTransaction,
    key: &TemplateKey,
    body: &PreviewBody,
    person: &Person,
    tenant: &TenantRow,
) -> Result<Chosen, Refused> {
    let Some(version) = body.version else {
        let (draft, _) = read_draft(transaction, key).await?;
        let library = read_library(transaction).await?;
        let variables = draft.variables.clone().unwrap_or_default();
        let published = publish(&draft, &library).map_err(refuse_draft)?;
        let wanted = tenant.locales_for(&person.locale);
        let best = published.into_iter().filter(|variant| variant.channel == body.channel).min_by_key(|variant| {
            let place = wanted.iter().position(|locale| *locale == variant.locale.as_str());
            (place.unwrap_or(usize::MAX), variant.locale.to_string())
        });
        let best = best.ok_or_else(|| Problem::not_found("variant for the channel"))?;
        let parts = best.parts;
        let source = TemplateSource { subject: parts.subject.unwrap_or_default(), text: parts.text, html: parts.html };
        return Ok(Chosen { source, short_text: parts.short_text, locale: best.locale.to_string(), variables });
    };
    let publication =
        read_publication(transaction, key, version).await?.ok_or_else(|| Problem::not_found("version"))?;
    let chosen = choose_variant(transaction, key, body.channel, &person.locale, version).await?;
    let variant = publication
        .variants
        .into_iter()
        .find(|variant| variant.channel == body.channel.as_str() && Some(&variant.locale) == chosen.as_ref());
    let variant = variant.ok_or_else(|| Problem::not_found("variant for the channel"))?;
    let variables = Variables::parse(&publication.variables).unwrap_or_default();
    Ok(Chosen { source: variant.source, short_text: variant.short_text, locale: variant.locale, variables })
}

fn reader(person: &Person) -> Reader<'_> {
    Reader {
        id: person.id.as_deref(),
        name: person.name.as_deref(),
        email: person.email.as_deref(),
        locale: &person.locale,
        time_zone: &person.time_zone,
        attributes: &person.attributes,
    }
}

fn wrong_data(errors: Vec<(String, String)>) -> Problem {
    Problem::invalid(errors.into_iter().map(|(at, detail)| FieldError::new(at, detail)).collect())
}
