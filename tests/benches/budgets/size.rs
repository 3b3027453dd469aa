//! How large each function's zip is, packed as tightly as deflate can.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::functions::{FUNCTIONS, HELLO, binary};
use crate::table::Table;
use crate::{Outcome, progress};

/// Megabytes of 1,000,000 bytes.
const ALLOWED_MB: f64 = 4.0;
const LEVEL: i64 = 9;

pub(crate) fn measure(table: &mut Table) -> Outcome<()> {
    progress("zipping the functions");
    table.show("hello-world: zip", format!("{:.2} MB", zipped_mb(HELLO)?));
    for name in FUNCTIONS {
        let size = zipped_mb(name)?;
        table.add_at_most(
            format!("{name}: zip"),
            format!("{ALLOWED_MB} MB"),
            format!("{size:.2} MB"),
            size,
            ALLOWED_MB,
        );
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a zip is far below 2^52 bytes")]
fn zipped_mb(name: &str) -> Outcome<f64> {
    let path = binary(name);
    let program = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(LEVEL))
        .unix_permissions(0o755);
    archive.start_file("bootstrap", options)?;
    archive.write_all(&program)?;
    Ok(archive.finish()?.into_inner().len() as f64 / 1e6)
}
