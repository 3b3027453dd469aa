//! No text but a printed token is a link, and a printed token is one for ever.

use super::*;
use crate::header::Header;
use proptest::prelude::*;

fn key(id: i32, byte: u8, is_settled: bool) -> LinkKey {
    LinkKey { id: LinkKeyId::of(id).unwrap(), secret: Zeroizing::new([byte; 32]), is_settled }
}

fn tenant(number: u128) -> TenantId {
    TenantId::from_uuid(Uuid::from_u128(number))
}

fn ring(tenant: TenantId, keys: Vec<LinkKey>) -> LinkKeyRing {
    LinkKeyRing::of(tenant, keys).expect("keys")
}

fn verify(ring: &LinkKeyRing, text: &str) -> Result<LinkToken, ForgedLink> {
    ring.verify(&UnverifiedLink::parse(text)?)
}

fn token(category: Option<&str>) -> LinkToken {
    LinkToken {
        tenant: tenant(7),
        subject: SubjectId::from_uuid(Uuid::from_u128(8)),
        category: category.map(|key| CategoryKey::parse(key).unwrap()),
    }
}

fn any_token() -> impl Strategy<Value = LinkToken> {
    let category = proptest::option::of("[A-Za-z0-9][A-Za-z0-9._:@+-]{0,127}");
    (any::<u128>(), any::<u128>(), category).prop_map(|(owner, subject, category)| LinkToken {
        tenant: tenant(owner),
        subject: SubjectId::from_uuid(Uuid::from_u128(subject)),
        category: category.map(|key| CategoryKey::parse(&key).unwrap()),
    })
}

/// Printed once and kept: a mail of years ago still works.
#[test]
fn a_token_that_was_sent_long_ago_still_verifies() {
    let ring = ring(tenant(7), vec![key(1, 1, true)]);
    let sent = "AQABAAAAAAAAAAAAAAAAAAAABwAAAAAAAAAAAAAAAAAAAAh3ZWVrbHlfZGlnZXN02dNrM9cUzii-ajiwUnWMOA";
    assert_eq!(ring.print(&token(Some("weekly_digest"))).unwrap(), sent);
    assert_eq!(verify(&ring, sent), Ok(token(Some("weekly_digest"))));
}

#[test]
fn a_key_signs_once_everybody_has_heard_of_it_and_verifies_until_it_is_withdrawn() {
    let old = ring(tenant(7), vec![key(1, 1, true)]);
    let rotated = ring(tenant(7), vec![key(2, 2, false), key(1, 1, true)]);
    let settled = ring(tenant(7), vec![key(1, 1, true), key(2, 2, true)]);
    let withdrawn = ring(tenant(7), vec![key(2, 2, false)]);
    let first = old.print(&token(None)).unwrap();
    assert_eq!(rotated.print(&token(None)), Some(first.clone()), "the new key is too young to sign");
    let second = settled.print(&token(None)).unwrap();
    assert_ne!(first, second);
    assert_eq!(withdrawn.print(&token(None)), Some(second.clone()), "the only key signs, however young");
    for (ring, knows_first, knows_second) in
        [(&old, true, false), (&rotated, true, true), (&settled, true, true), (&withdrawn, false, true)]
    {
        assert_eq!(verify(ring, &first).is_ok(), knows_first, "{ring:?}");
        assert_eq!(verify(ring, &second).is_ok(), knows_second, "{ring:?}");
    }
    assert!(LinkKeyRing::of(tenant(7), Vec::new()).is_none());
}

#[test]
fn a_tenants_key_signs_for_nobody_else() {
    let (own, other) = (ring(tenant(7), vec![key(1, 1, true)]), ring(tenant(9), vec![key(1, 1, true)]));
    let text = own.print(&token(None)).unwrap();
    assert_eq!(verify(&other, &text), Err(ForgedLink));
    assert_eq!(other.print(&token(None)), None);
}

#[test]
fn a_token_has_one_spelling() {
    let ring = ring(tenant(7), vec![key(1, 1, true)]);
    // 51 and 52 bytes: the base64 of the latter ends with bits that carry nothing.
    for category in [None, Some("a")] {
        let text = ring.print(&token(category)).unwrap();
        for other in [format!("{text}="), format!("{text}=="), format!(" {text}"), format!("{text}\n")] {
            assert!(verify(&ring, &other).is_err(), "{other:?}");
        }
        for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".chars() {
            let other = format!("{}{last}", &text[..text.len() - 1]);
            assert_eq!(verify(&ring, &other).is_ok(), other == text, "{other}");
        }
    }
}

#[test]
fn a_signed_text_that_names_no_category_is_no_link() {
    let signer = key(1, 1, true);
    let ring = ring(tenant(7), vec![key(1, 1, true)]);
    for category in ["-a", "a b", "\u{e9}", &"a".repeat(129)] {
        let mut bytes = vec![VERSION, 0, 1];
        bytes.extend(tenant(7).as_uuid().as_bytes());
        bytes.extend([0; 16]);
        bytes.extend(category.as_bytes());
        let mac = sign(&signer, &bytes).finalize().into_bytes();
        bytes.extend(&mac[..MAC]);
        assert!(verify(&ring, &BASE64_URL_SAFE_NO_PAD.encode(bytes)).is_err(), "{category}");
    }
}

#[test]
fn debug_shows_no_secret() {
    let printed = format!("{:?}", ring(tenant(7), vec![key(1, 201, true)]));
    assert!(!printed.contains("201"), "{printed}");
}

#[test]
fn a_public_url_is_one_that_recipients_can_follow() {
    let long = format!("https://{}", "a".repeat(505));
    let cases = [
        ("https://notify.example.in", Ok("https://notify.example.in")),
        ("https://notify.example.in/", Ok("https://notify.example.in")),
        ("https://example.in:8443/mail/", Ok("https://example.in:8443/mail")),
        ("http://127.0.0.1:4566/x", Ok("http://127.0.0.1:4566/x")),
        ("http://abc.execute-api.localhost:4566", Ok("http://abc.execute-api.localhost:4566")),
        ("http://notify.example.in", Err(PublicUrlError::Scheme)),
        ("http://localhost.example.in", Err(PublicUrlError::Scheme)),
        ("http://127.0.0.1@example.in", Err(PublicUrlError::Scheme)),
        ("javascript://a", Err(PublicUrlError::Scheme)),
        ("notify.example.in", Err(PublicUrlError::Scheme)),
        ("https://", Err(PublicUrlError::Form)),
        ("https:///path", Err(PublicUrlError::Form)),
        ("https://a?b", Err(PublicUrlError::Form)),
        ("https://a#b", Err(PublicUrlError::Form)),
        ("https://user@a", Err(PublicUrlError::Form)),
        ("https://a>\r\nBcc: b", Err(PublicUrlError::Form)),
        (&long, Err(PublicUrlError::TooLong)),
    ];
    for (text, wanted) in cases {
        let found = PublicUrl::parse(text).map(|url| url.to_string());
        assert_eq!(found.as_deref(), wanted.as_ref().map(|url| &**url), "{text}");
    }
}

#[test]
fn the_headers_are_those_of_rfc_8058_and_the_longest_fit() {
    let text = |header: &Header| format!("{}: {}", header.name(), header.value());
    let base = PublicUrl::parse("https://notify.example.in/").unwrap();
    let wanted = [
        "List-Unsubscribe: <https://notify.example.in/v1/unsubscribe/TOKEN>",
        "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
    ];
    assert_eq!(unsubscribe_headers(&base, "TOKEN").each_ref().map(text), wanted);

    let base = PublicUrl::parse(&format!("https://{}", "a".repeat(504))).unwrap();
    let longest = ring(tenant(7), vec![key(1, 1, true)]).print(&token(Some(&"a".repeat(128)))).unwrap();
    assert!(longest.len() <= MAX_TOKEN && longest.len() >= MAX_TOKEN - 1, "{}", longest.len());
    unsubscribe_headers(&base, &longest);
}

proptest! {
    #[test]
    fn a_token_is_read_back_as_printed_and_printed_the_same_again(token in any_token(), secret in any::<u8>()) {
        let ring = ring(token.tenant, vec![key(3, secret, true)]);
        let text = ring.print(&token).unwrap();
        prop_assert_eq!(ring.print(&token), Some(text.clone()));
        let link = UnverifiedLink::parse(&text).unwrap();
        prop_assert_eq!(link.claimed_tenant(), token.tenant);
        prop_assert_eq!(ring.verify(&link), Ok(token));
    }

    #[test]
    fn no_changed_byte_verifies(token in any_token(), place in any::<prop::sample::Index>(), change in 1_u8..) {
        let ring = ring(token.tenant, vec![key(1, 1, true), key(2, 1, true)]);
        let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(ring.print(&token).unwrap()).unwrap();
        let place = place.index(bytes.len());
        bytes[place] ^= change;
        prop_assert_eq!(verify(&ring, &BASE64_URL_SAFE_NO_PAD.encode(bytes)), Err(ForgedLink));
    }

    #[test]
    fn no_part_of_a_token_and_no_longer_one_verifies(token in any_token(), cut in any::<prop::sample::Index>(), more in "[A-Za-z0-9_-]{1,9}") {
        let ring = ring(token.tenant, vec![key(1, 1, true)]);
        let text = ring.print(&token).unwrap();
        prop_assert_eq!(verify(&ring, &text[..cut.index(text.len())]), Err(ForgedLink));
        prop_assert_eq!(verify(&ring, &format!("{text}{more}")), Err(ForgedLink));
        prop_assert_eq!(verify(&ring, &format!("{more}{text}")), Err(ForgedLink));
    }

    #[test]
    fn no_text_of_a_stranger_verifies(text in "[A-Za-z0-9_-]{0,300}|.{0,40}") {
        prop_assert_eq!(verify(&ring(tenant(7), vec![key(1, 1, true)]), &text), Err(ForgedLink));
    }
}
