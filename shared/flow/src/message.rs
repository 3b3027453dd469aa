//! What leaves beside a message, and what is to say about it: its links, its files, its digest with them, and warnings.

use domain::attachment::{Attachment, ContentType, FileName};
use domain::calendar::{INVITATION_FILE, Invitation, InvitationFacts};
use domain::category::Class;
use domain::link::{LinkKeyRing, LinkToken, PublicUrl};
use domain::message::Message;
use domain::render::{FooterLinks, Warning, find_warnings};
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
