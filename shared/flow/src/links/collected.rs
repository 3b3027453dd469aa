//! Everything that a batch's or a digest's message told of, for whoever has its mail.

use super::{Links, Refused};
use adapters::store::collected_pages::{
    CollectedMember, CollectedMessage, list_collected_members, read_collected_message,
};
use adapters::wire::http::{Request, Response};
use domain::link::CollectedLink;
use domain::locale::Locale;
use domain::message::{Message, Reader, Subject, make_message};
use domain::moment::TimeZoneName;
use domain::page::{Collected, CollectedItem, Language, render_collected};
use domain::render::{CompiledTemplate, FooterLinks};
use domain::secret::KeyService;

/// The members of one page.
const PAGE: u32 = 25;
/// The furthest page: beyond the members that a batch or a digest can have.
const LAST_PAGE: u32 = 10_000;

impl<K: KeyService> Links<'_, K> {
    /// Shows a page of what a message told of. Each is rendered from its own template as it is now, and nothing of it acts.
    pub(crate) async fn show_collected(&self, request: &Request) -> Response {
        self.answer(request, async || {
            let link = CollectedLink::parse(request.parameter("token"))?;
            let number = read_page(&request.query);
            let mut transaction = self.database.begin_even_suspended(link.claimed_tenant(), "a link").await?;
            let id = link.claimed_notification();
            let message = read_collected_message(&mut transaction, id).await?;
            let message = message.filter(|message| link.stands_in(&message.link)).ok_or(Refused::NotFound)?;
            let skip = (number - 1) * PAGE;
            let (members, count) = list_collected_members(&mut transaction, id, &message.locale, skip, PAGE).await?;
            transaction.commit().await?;
            let items: Vec<_> = members.iter().map(|member| describe(member, &message)).collect();
            let shown = skip as usize + items.len();
            let page = Collected {
                tenant: &message.tenant_name,
                count,
                items: &items,
                next_page: (!items.is_empty() && shown < count).then_some(number + 1),
            };
            Ok((200, render_collected(&page, choose_language(&message, &request.languages))))
        })
        .await
    }
}

/// What is no page of ours is the first.
fn read_page(query: &[(String, String)]) -> u32 {
    let asked = query.iter().find(|(name, _)| name == "page").and_then(|(_, value)| value.parse().ok());
    asked.unwrap_or(1).clamp(1, LAST_PAGE)
}

fn choose_language(message: &CollectedMessage, asked: &[Locale]) -> Language {
    let parse = |tag: &str| Locale::parse(tag).ok();
    let own = message.own_locale.as_deref().and_then(parse);
    let tenants = parse(&message.tenant_locale);
    Language::choose(own.iter().chain(asked).chain(&tenants))
}

fn describe(member: &CollectedMember, message: &CollectedMessage) -> CollectedItem {
    let CollectedMember { category, category_name, accepted_at, .. } = member;
    let zone = TimeZoneName::parse(&message.time_zone).map(|name| name.zone()).unwrap_or(jiff::tz::TimeZone::UTC);
    let (title, text) = match render(member, message) {
        Some(Message { parts, .. }) => (parts.subject.as_str().to_owned(), parts.text),
        // What does not render by itself has its kind and its time, at least.
        None => (category_name.as_ref().unwrap_or(category).clone(), None),
    };
    CollectedItem {
        title,
        text,
        at: accepted_at.to_string(),
        at_local: accepted_at.to_zoned(zone).strftime("%Y-%m-%d %H:%M").to_string(),
    }
}

fn render(member: &CollectedMember, message: &CollectedMessage) -> Option<Message> {
    let compiled = CompiledTemplate::new(member.source.clone()?).ok()?;
    let reader = Reader {
        id: message.recipient.as_deref(),
        name: message.name.as_deref(),
        email: message.email.as_deref(),
        locale: &message.locale,
        time_zone: &message.time_zone,
        attributes: &message.attributes,
    };
    let about = Subject {
        notification: &member.notification.to_string(),
        category: &member.category,
        tenant: &message.tenant_name,
        data: &member.data,
        links: &FooterLinks::none(),
        can_leave: false,
    };
    make_message(&compiled, &reader, &about).ok()
}
