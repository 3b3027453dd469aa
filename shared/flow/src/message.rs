//! What leaves beside a message, and what is to say about it: its links, its files, its digest with them, and warnings.

use adapters::store::claims::Acting;
use domain::attachment::{Attachment, ContentType, FileName};
use domain::calendar::{INVITATION_FILE, Invitation, InvitationFacts};
use domain::category::Class;
use domain::header::Subject;
use domain::id::{NotificationId, TenantId};
use domain::link::{ActionToken, CollectedLink, LinkAction, LinkKeyRing, LinkToken, PublicUrl};
use domain::message::Message;
use domain::render::{FooterLinks, Rendered, Warning, find_warnings};
use sha2::{Digest, Sha256};

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

/// Where a recipient leaves a category and manages preferences, and where it answers the escalation that the mail is of;
/// `None` while no key may sign yet.
pub(crate) fn sign_links(
    ring: &LinkKeyRing,
    base: &PublicUrl,
    leaving: &LinkToken,
    acting: Option<(NotificationId, Acting)>,
) -> Option<FooterLinks> {
    let everything = LinkToken { category: None, ..leaving.clone() };
    let act = |action: LinkAction| match acting {
        None => Some(String::new()),
        Some((notification, Acting { escalation, expires_at })) => {
            let LinkToken { tenant, subject, .. } = *leaving;
            let token = ActionToken { tenant, escalation, notification, subject, action, expires_at };
            ring.print_action(&token).map(|token| base.action(&token))
        }
    };
    Some(FooterLinks {
        unsubscribe_url: base.unsubscribe(&ring.print(leaving)?),
        preferences_url: base.preference_center(&ring.print(&everything)?),
        acknowledge_url: act(LinkAction::Acknowledge)?,
        resolve_url: act(LinkAction::Resolve)?,
    })
}

/// A new link to everything that a message tells of.
pub(crate) fn make_link(tenant: TenantId, message: NotificationId) -> CollectedLink {
    CollectedLink::new(tenant, message, rand::random())
}

/// What stands in the place of a token that is not shown.
const WITHHELD: &str = "withheld";

/// The parts without the links that act, for those who may read a mail and are not its recipient.
pub(crate) fn withhold_actions(parts: &mut Rendered, links: &FooterLinks) {
    for url in [&links.acknowledge_url, &links.resolve_url] {
        // The rest of the address may be escaped; a token never is.
        let Some(token) = url.rsplit('/').next().filter(|token| !token.is_empty()) else { continue };
        for part in [parts.text.as_mut(), parts.html.as_mut()].into_iter().flatten() {
            *part = part.replace(token, WITHHELD);
        }
        if let Ok(subject) = Subject::parse(&parts.subject.as_str().replace(token, WITHHELD)) {
            parts.subject = subject;
        }
    }
}

/// What is questionable about a message of a class.
pub(crate) fn warn_of(message: &Message, class: Option<Class>, links: Option<&FooterLinks>) -> Vec<Warning> {
    // Where there is no way to leave, none is found either.
    let must_show =
        (class == Some(Class::Marketing)).then(|| links.map_or("no way to leave", |links| &links.unsubscribe_url));
    find_warnings(&message.parts, must_show)
}
