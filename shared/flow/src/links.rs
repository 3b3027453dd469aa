//! The public pages: what somebody with a link from a mail sees and does.
//!
//! The link's token is the authentication, and the only one: no JWT is read. Everything else of a request is a stranger's.
//! Looking changes nothing, because scanners of mails open links. Only a POST acts, and the same POST again changes
//! nothing more, so that it may arrive twice.
//! A link holds for as long as its tenant is there, suspended or not: what is wished for then counts when mails go on.
//! Whoever has no link learns nothing: every text that is no token of ours gets the same page, byte for byte.

mod acting;
mod collected;
mod leaving;
mod sheet;

use adapters::store::categories::{CategoryRow, all_categories};
use adapters::store::database::{Database, StoreError, TenantTransaction};
use adapters::store::keys::{LinkKeyError, LinkKeys};
use adapters::store::preferences::{TENANT_SUBJECT, list_wishes, replace_wishes};
use adapters::store::subjects::{SubjectRow, lock_subject, read_subject};
use adapters::telemetry::chain;
use adapters::wire::form::{FormError, FormFields};
use adapters::wire::http::{Request, Response};
use domain::link::{ForgedLink, LinkToken, UnverifiedLink};
use domain::locale::Locale;
use domain::page::{
    Language, Leaving, Lock, Notice, PreferenceForm, Unsubscribe, UnsubscribeView, content_security_policy,
    render_notice, render_preferences, render_unsubscribe,
};
use domain::preference::StatedWish;
use domain::secret::KeyService;
use sheet::{fill_sheet, lock_of, write_change};

/// The flow with what it needs, which is the API's.
pub(crate) struct Links<'a, K> {
    /// As `harkara_api`.
    pub(crate) database: &'a Database,
    /// What verifies links.
    pub(crate) keys: &'a LinkKeys<K>,
}

/// A page and its status.
type Page = (u16, String);

/// Why there is no page of the link's own.
enum Refused {
    /// No token of ours, of a tenant that is there.
    NotFound,
    /// A link of ours that does not act any more.
    Gone(Notice),
    /// Not a form of our pages.
    Form(FormError),
    /// Something is out, or wrong with us.
    Failed(LinkKeyError),
}

impl From<ForgedLink> for Refused {
    fn from(_: ForgedLink) -> Self {
        Self::NotFound
    }
}

impl From<FormError> for Refused {
    fn from(error: FormError) -> Self {
        Self::Form(error)
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        LinkKeyError::Store(error).into()
    }
}

impl From<LinkKeyError> for Refused {
    fn from(error: LinkKeyError) -> Self {
        match error {
            LinkKeyError::Store(StoreError::TenantInactive) => Self::NotFound,
            error => Self::Failed(error),
        }
    }
}

/// A link that is ours, and what belongs to it.
struct Visit {
    token: LinkToken,
    subject: SubjectRow,
    categories: Vec<CategoryRow>,
    stated: Vec<StatedWish>,
    tenants: Vec<StatedWish>,
    language: Language,
}

impl<K: KeyService> Links<'_, K> {
    /// Shows what a link would stop.
    pub(crate) async fn show_unsubscribe(&self, request: &Request) -> Response {
        self.answer(request, async || {
            let (transaction, visit) = self.begin(request).await?;
            transaction.commit().await?;
            let view = match visit.lock() {
                Some(lock) => UnsubscribeView::Locked(lock),
                None if visit.has_left() => UnsubscribeView::Left,
                None => UnsubscribeView::Asked,
            };
            Ok((200, self.draw_unsubscribe(request, &visit, view)))
        })
        .await
    }

    /// Stops what a link names, or takes that back.
    ///
    /// What has become mandatory since the mail was sent is refused with 403: RFC 8058 names no status, and a mail reader
    /// that hears 200 tells its user of success. Mails of mandatory categories carry no such link, so nobody is lured.
    pub(crate) async fn unsubscribe(&self, request: &Request) -> Response {
        self.answer(request, async || {
            let act = read_act(&request.form()?)?;
            let (mut transaction, mut visit) = self.begin(request).await?;
            if let Some(lock) = visit.lock() {
                transaction.commit().await?;
                return Ok((403, self.draw_unsubscribe(request, &visit, UnsubscribeView::Locked(lock))));
            }
            lock_subject(&mut transaction, visit.token.subject).await?;
            visit.stated = list_wishes(&mut transaction, visit.token.subject).await?;
            let view = match act {
                Act::Leave => {
                    visit.leave();
                    UnsubscribeView::Left
                }
                Act::Undo => {
                    visit.come_back();
                    UnsubscribeView::Undone
                }
            };
            replace_wishes(&mut transaction, visit.token.subject, &visit.stated).await?;
            transaction.commit().await?;
            Ok((200, self.draw_unsubscribe(request, &visit, view)))
        })
        .await
    }

    /// Shows everything that a link's subject can choose.
    pub(crate) async fn show_preference_center(&self, request: &Request) -> Response {
        self.answer(request, async || {
            let (transaction, visit) = self.begin(request).await?;
            transaction.commit().await?;
            let sheet = fill_sheet(&visit);
            Ok((200, render_preferences(&sheet, &PreferenceForm::of(&sheet), false, visit.language)))
        })
        .await
    }

    /// Stores what somebody chose: all of it, or nothing where something is wrong.
    pub(crate) async fn save_preference_center(&self, request: &Request) -> Response {
        self.answer(request, async || {
            let fields = request.form()?;
            let (mut transaction, mut visit) = self.begin(request).await?;
            lock_subject(&mut transaction, visit.token.subject).await?;
            visit.stated = list_wishes(&mut transaction, visit.token.subject).await?;
            let sheet = fill_sheet(&visit);
            let form = PreferenceForm::read(&sheet, &fields).ok_or(FormError::Unreadable)?;
            let Some(change) = form.change(&sheet) else {
                transaction.roll_back().await?;
                return Ok((422, render_preferences(&sheet, &form, false, visit.language)));
            };
            write_change(&mut visit, &change);
            replace_wishes(&mut transaction, visit.token.subject, &visit.stated).await?;
            transaction.commit().await?;
            let sheet = fill_sheet(&visit);
            Ok((200, render_preferences(&sheet, &PreferenceForm::of(&sheet), true, visit.language)))
        })
        .await
    }

    /// Verifies the link, and begins a transaction with what belongs to it.
    async fn begin(&self, request: &Request) -> Result<(TenantTransaction, Visit), Refused> {
        let link = UnverifiedLink::parse(request.parameter("token"))?;
        let tenant = link.claimed_tenant();
        let ring = self.keys.load(self.database, tenant, "a link").await?.ok_or(Refused::NotFound)?;
        let token = ring.verify(&link)?;
        let mut transaction =
            self.database.begin_even_suspended(tenant, &format!("link of {:?}", token.subject)).await?;
        let subject = read_subject(&mut transaction, token.subject).await?;
        let categories = all_categories(&mut transaction).await?;
        let stated = list_wishes(&mut transaction, token.subject).await?;
        let tenants = list_wishes(&mut transaction, TENANT_SUBJECT).await?;
        let language = choose_language(&subject, &request.languages);
        Ok((transaction, Visit { token, subject, categories, stated, tenants, language }))
    }

    fn draw_unsubscribe(&self, request: &Request, visit: &Visit, view: UnsubscribeView) -> String {
        let staying: Vec<_> = visit.locked().map(|category| label_of(category).to_owned()).collect();
        let leaving = match &visit.token.category {
            Some(key) => Leaving::Category(visit.category().map_or(key.as_str(), label_of)),
            None => Leaving::Everything { staying: &staying },
        };
        // Beside this page, whatever stands before them both.
        let preference_center = format!("../preference-center/{}", request.parameter("token"));
        let page =
            Unsubscribe { tenant: &visit.subject.tenant_name, leaving, view, preference_center: &preference_center };
        render_unsubscribe(&page, visit.language)
    }

    /// Turns whatever came of a request into a page.
    async fn answer(&self, request: &Request, work: impl AsyncFnOnce() -> Result<Page, Refused>) -> Response {
        let (status, notice) = match work().await {
            Ok((status, page)) => return respond(status, page),
            Err(Refused::NotFound) => (404, Notice::NotFound),
            Err(Refused::Gone(notice)) => (410, notice),
            Err(Refused::Form(FormError::TooLarge)) => (413, Notice::BadForm),
            Err(Refused::Form(FormError::Unreadable)) => (422, Notice::BadForm),
            Err(Refused::Failed(error)) => {
                tracing::error!(error = chain(&error), "a page of a link cannot be shown");
                (503, Notice::Unavailable)
            }
        };
        respond(status, render_notice(notice, Language::choose(&request.languages)))
    }
}

/// What a form on the page of a category asks for.
enum Act {
    Leave,
    Undo,
}

/// What the page's buttons send, or a mail reader (RFC 8058, 3.2).
fn read_act(fields: &FormFields) -> Result<Act, FormError> {
    let has = |name: &str, value: &str| fields.iter().any(|field| field.0 == name && field.1 == value);
    match (has("List-Unsubscribe", "One-Click"), has("undo", "1")) {
        (true, false) => Ok(Act::Leave),
        (false, true) => Ok(Act::Undo),
        _ => Err(FormError::Unreadable),
    }
}

/// The recipient's own language; else what the browser asks for; else the tenant's.
fn choose_language(subject: &SubjectRow, asked: &[Locale]) -> Language {
    let parse = |tag: &str| Locale::parse(tag).ok();
    let own = subject.locale.as_deref().and_then(parse);
    let tenants = parse(&subject.tenant_locale);
    Language::choose(own.iter().chain(asked).chain(&tenants))
}

fn label_of(category: &CategoryRow) -> &str {
    category.name.as_deref().unwrap_or(&category.key)
}

/// A page with what keeps others from looking in: nothing is kept, shared, framed, indexed, or loaded from elsewhere.
fn respond(status: u16, page: String) -> Response {
    Response::html(status, page)
        .with_header("content-security-policy", content_security_policy())
        .with_header("referrer-policy", "no-referrer")
        .with_header("cache-control", "no-store")
        .with_header("x-content-type-options", "nosniff")
        .with_header("x-robots-tag", "noindex")
}

impl Visit {
    /// The category of the link, where there is one and it is still there.
    fn category(&self) -> Option<&CategoryRow> {
        let key = self.token.category.as_ref()?;
        self.categories.iter().find(|category| category.key == key.as_str())
    }

    /// Why the link's category cannot be left, where it cannot.
    fn lock(&self) -> Option<Lock> {
        lock_of(self.category()?, &self.subject.roles)
    }

    /// What cannot be left.
    fn locked(&self) -> impl Iterator<Item = &CategoryRow> {
        self.categories.iter().filter(|category| lock_of(category, &self.subject.roles).is_some())
    }
}
