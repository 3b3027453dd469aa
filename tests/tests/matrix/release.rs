//! What a release binary must not hold.

use tests::strict::{failpoints_binary, release_binary, require_binaries};

/// Names as they stand in the code.
const NAMES: [&[u8]; 14] = [
    b"FAILPOINTS",
    b"E5_committed",
    b"P4_claimed",
    b"P8_answered",
    b"S3_written",
    b"D2_stored",
    b"C1_created",
    b"G3_created",
    b"R3_created",
    b"U3_fired",
    b"X3_created",
    b"O2_stored",
    b"M2_deleted",
    b"A2_answered",
];

fn holds(binary: &[u8], name: &[u8]) -> bool {
    binary.windows(name.len()).any(|window| window == name)
}

#[test]
fn a_release_binary_holds_no_failpoint() {
    for function in require_binaries() {
        let release = std::fs::read(release_binary(&function)).expect("it was built");
        let held: Vec<_> = NAMES.iter().filter(|name| holds(&release, name)).collect();
        assert!(held.is_empty(), "{function} holds {held:?}");
    }
}

#[test]
fn a_binary_with_failpoints_holds_them() {
    require_binaries();
    let processor = std::fs::read(failpoints_binary("processor")).expect("it was built");
    for name in ["FAILPOINTS", "P4_claimed", "P8_answered"] {
        assert!(holds(&processor, name.as_bytes()), "the search finds what is there: {name}");
    }
}
