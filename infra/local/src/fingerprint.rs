//! Fingerprints of contents: a step whose inputs still have the fingerprint of last time is not done again.

use std::fmt::Write;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::failure::{Outcome, While};

/// SHA-256 in lower hex of all parts, each preceded by its length so that parts cannot run into each other.
pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The fingerprint of a file's content.
///
/// Errors: the file cannot be read.
pub fn of_file(path: &Path) -> Outcome<String> {
    let bytes = std::fs::read(path).while_doing(format_args!("reading {}", path.display()))?;
    Ok(of_parts([bytes.as_slice()]))
}

/// The fingerprint of a file's size and time of change: for large files that are not touched unless they change.
///
/// Errors: there is no such file.
pub fn of_change(path: &Path) -> Outcome<String> {
    let doing = format!("looking at {}", path.display());
    let about = std::fs::metadata(path).while_doing(&doing)?;
    let changed = about.modified().while_doing(&doing)?;
    Ok(of_parts([format!("{}-{changed:?}", about.len()).as_bytes()]))
}

/// Whether the stamp file holds this fingerprint.
pub fn is_stamped(stamp: &Path, fingerprint: &str) -> bool {
    std::fs::read_to_string(stamp).is_ok_and(|text| text == fingerprint)
}

/// Writes the stamp file.
///
/// Errors: the file cannot be written.
pub fn stamp(stamp: &Path, fingerprint: &str) -> Outcome<()> {
    std::fs::write(stamp, fingerprint).while_doing(format_args!("writing {}", stamp.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_run_into_each_other_have_other_fingerprints() {
        assert_ne!(of_parts([&b"ab"[..], b"c"]), of_parts([&b"a"[..], b"bc"]));
    }
}
