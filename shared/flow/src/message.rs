//! Makes a message of a template and what is known of its recipient. Sending, previewing and showing what was sent all
//! come here, so that each gives the same bytes.

use domain::attachment::{Attachment, ContentType, FileName};
use domain::calendar::{INVITATION_FILE, Invitation, InvitationFacts};
use domain::category::Class;
use domain::link::{LinkKeyRing, LinkToken, PublicUrl};
use domain::render::{
    CompiledTemplate, FooterLinks, Formats, RenderError, Rendered, Warning, add_footer, find_warnings, text_from_html,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Whom a message is for, as templates see it.
pub(crate) struct Reader<'a> {
    /// Its id, where it is a known one.
    pub(crate) id: Option<&'a str>,
    /// What to call it.
    pub(crate) name: Option<&'a str>,
    /// Its mail address.
    pub(crate) email: Option<&'a str>,
    /// The language to write in.
    pub(crate) locale: &'a str,
    /// The zone to show times in.
    pub(crate) time_zone: &'a str,
    /// What else the tenant keeps about it.
    pub(crate) attributes: &'a Value,
}

/// What a message is about.
pub(crate) struct Subject<'a> {
    /// The notification's id.
    pub(crate) notification: &'a str,
    /// Its category.
    pub(crate) category: &'a str,
    /// What the tenant is called.
    pub(crate) tenant: &'a str,
    /// The template's variables.
    pub(crate) data: &'a Value,
    /// Where the recipient leaves and manages preferences.
    pub(crate) links: &'a FooterLinks,
    /// Whether the recipient may leave; where it may not, the page says why.
    pub(crate) can_leave: bool,
}

/// A message with every part.
#[derive(Debug)]
pub(crate) struct Message {
    /// The parts as they leave.
    pub(crate) parts: Rendered,
    /// A digest of them.
    pub(crate) hash: [u8; 32],
}

/// Makes a message.
///
/// It has a plain part in any case: some readers, and most filters, want one. Where the recipient can leave and the
/// template shows neither way, a footer does.
pub(crate) fn make_message(
    template: &CompiledTemplate,
    reader: &Reader<'_>,
    about: &Subject<'_>,
) -> Result<Message, RenderError> {
    let formats = Formats::of(reader.locale, reader.time_zone);
    let rendered = template.render(&template_context(reader, about), &formats)?;
    let needs_footer = about.can_leave && !shows(&rendered, about.links);
    let text = rendered.text.or_else(|| rendered.html.as_deref().map(text_from_html));
    let parts = Rendered { text, ..rendered };
    let parts = if needs_footer { add_footer(parts, about.links, &formats.locale) } else { parts };
    Ok(Message { hash: hash_parts(&parts), parts })
}

/// An invitation as a file of its mail.
pub(crate) fn print_invitation(invitation: &Invitation, facts: &InvitationFacts<'_>) -> Attachment {
    Attachment {
        file_name: FileName::parse(INVITATION_FILE).expect("its name is one that is sent"),
        content_type: ContentType::of_invitation(invitation.method),
        content: invitation.print(facts).into_bytes().into(),
    }
}

/// The digest of a message and the files that leave with it; without any, the message's own.
pub(crate) fn hash_with_files(message: [u8; 32], files: &[Attachment]) -> [u8; 32] {
    if files.is_empty() {
        return message;
    }
    let mut digest = Sha256::new();
    digest.update(message);
    for Attachment { file_name, content_type, content } in files {
        for part in [file_name.as_str().as_bytes(), content_type.as_str().as_bytes(), content] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
    }
    digest.finalize().into()
}

/// Where a recipient leaves a category and manages preferences; `None` while no key may sign yet.
pub(crate) fn sign_links(ring: &LinkKeyRing, base: &PublicUrl, leaving: &LinkToken) -> Option<FooterLinks> {
    let everything = LinkToken { category: None, ..leaving.clone() };
    Some(FooterLinks {
        unsubscribe_url: base.unsubscribe(&ring.print(leaving)?),
        preferences_url: base.preference_center(&ring.print(&everything)?),
    })
}

/// What is questionable about a message of a class.
pub(crate) fn warn_of(message: &Message, class: Option<Class>, links: Option<&FooterLinks>) -> Vec<Warning> {
    // Where there is no way to leave, none is found either.
    let must_show =
        (class == Some(Class::Marketing)).then(|| links.map_or("no way to leave", |links| &links.unsubscribe_url));
    find_warnings(&message.parts, must_show)
}

/// Whether a part has one of the links, by its token: what stands before that may be escaped.
fn shows(parts: &Rendered, links: &FooterLinks) -> bool {
    let tokens = [&links.unsubscribe_url, &links.preferences_url].map(|url| url.rsplit('/').next().unwrap_or(url));
    let parts = [parts.html.as_deref(), parts.text.as_deref()];
    parts.into_iter().flatten().any(|part| tokens.iter().any(|token| part.contains(token)))
}

/// What templates see: the data's own names, and ours, which data cannot take.
fn template_context(reader: &Reader<'_>, about: &Subject<'_>) -> Value {
    let mut context = if about.data.is_object() { about.data.clone() } else { json!({}) };
    context["recipient"] = json!({
        "id": reader.id, "name": reader.name, "email": reader.email, "locale": reader.locale,
        "time_zone": reader.time_zone, "attributes": reader.attributes,
    });
    context["notification"] = json!({"id": about.notification, "category": about.category});
    context["tenant"] = json!({"name": about.tenant});
    context["unsubscribe_url"] = about.links.unsubscribe_url.clone().into();
    context["preferences_url"] = about.links.preferences_url.clone().into();
    context
}

/// The length of each part stands before it, so that no two messages have the same bytes to digest.
fn hash_parts(parts: &Rendered) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in [Some(parts.subject.as_str()), parts.text.as_deref(), parts.html.as_deref()] {
        match part {
            None => digest.update([0]),
            Some(part) => {
                digest.update([1]);
                digest.update((part.len() as u64).to_be_bytes());
                digest.update(part);
            }
        }
    }
    digest.finalize().into()
}
