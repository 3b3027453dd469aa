//! A secret opens in its own place, with its own key, as it was, and nowhere else.

use super::*;
use uuid::Uuid;

fn key(tenant: u128, id: u16, byte: u8) -> DataKey {
    DataKey {
        tenant: TenantId::from_uuid(Uuid::from_u128(tenant)),
        id: DataKeyId(id),
        plain: Zeroizing::new([byte; 32]),
    }
}

fn place<'a>(tenant: u128, table: &'a str, column: &'a str, row: &'a str) -> SecretPlace<'a> {
    SecretPlace { tenant: TenantId::from_uuid(Uuid::from_u128(tenant)), table, column, row }
}

const SECRET: &[u8] = b"whsec_planted";

#[test]
fn a_secret_opens_in_its_own_place_and_nowhere_else() {
    let own = key(1, 1, 7);
    let at = place(1, "webhooks", "sealed_secret", "a");
    let sealed = own.seal(&at, SECRET).expect("sealed");
    assert_eq!(own.open(&at, &sealed).expect("opened").as_slice(), SECRET);
    for elsewhere in [
        place(2, "webhooks", "sealed_secret", "a"),
        place(1, "connections", "sealed_secret", "a"),
        place(1, "webhooks", "sealed_token", "a"),
        place(1, "webhooks", "sealed_secret", "b"),
        // The same letters, cut at another place.
        place(1, "webhooks", "sealed_secreta", ""),
        place(1, "webhookss", "ealed_secret", "a"),
    ] {
        assert_eq!(own.open(&elsewhere, &sealed), Err(EnvelopeError::Unreadable), "{elsewhere:?}");
    }
    // Even where two tenants had the same key.
    assert!(key(2, 1, 7).open(&place(2, "webhooks", "sealed_secret", "a"), &sealed).is_err());
    assert_eq!(own.seal(&place(2, "webhooks", "sealed_secret", "a"), SECRET), Err(EnvelopeError::Unreadable));
}

#[test]
fn no_other_key_opens_a_secret() {
    let at = place(1, "webhooks", "sealed_secret", "a");
    let sealed = key(1, 1, 7).seal(&at, SECRET).expect("sealed");
    assert_eq!(sealed.key_id(), Some(DataKeyId(1)));
    for other in [key(1, 1, 8), key(1, 2, 7)] {
        assert_eq!(other.open(&at, &sealed), Err(EnvelopeError::Unreadable), "{other:?}");
    }
}

#[test]
fn a_changed_byte_or_a_lost_one_is_noticed() {
    let own = key(1, 1, 7);
    let at = place(1, "webhooks", "sealed_secret", "a");
    let sealed = own.seal(&at, SECRET).expect("sealed");
    for byte in 0..sealed.0.len() {
        let mut changed = sealed.clone();
        changed.0[byte] ^= 1;
        assert_eq!(own.open(&at, &changed), Err(EnvelopeError::Unreadable), "byte {byte}");
        let cut = SealedSecret::from_bytes(sealed.0[..byte].to_vec());
        assert_eq!(own.open(&at, &cut), Err(EnvelopeError::Unreadable), "the first {byte} bytes");
    }
    assert_eq!(SealedSecret::from_bytes(Vec::new()).key_id(), None);
    assert_eq!(SealedSecret::from_bytes(vec![1, 0, 0]).key_id(), None);
    assert_eq!(SealedSecret::from_bytes(vec![2, 0, 1]).key_id(), None);
}

#[test]
fn the_same_secret_never_looks_the_same_and_never_shows() {
    let own = key(1, 1, 7);
    let at = place(1, "webhooks", "sealed_secret", "a");
    let (first, second) = (own.seal(&at, SECRET).expect("sealed"), own.seal(&at, SECRET).expect("sealed"));
    assert_ne!(first, second, "the nonce is random");
    assert!(!first.as_bytes().windows(SECRET.len()).any(|window| window == SECRET));
    assert_eq!(format!("{first:?}"), "SealedSecret(44 bytes)");
    assert!(!format!("{own:?}").contains("7, 7"));
}
