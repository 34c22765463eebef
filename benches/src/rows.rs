//! What the reading of rows is measured on.

use std::path::{Path, PathBuf};

use anyhow::Result;
use pgmig_tests::Compression;

use crate::cache::{dumps, made_from};

/// Archives of 200 tables, 3.5 million rows, about 550 MB of COPY text and 50 large objects, one for
/// each compression, as `pg_dump` of `major` writes them into a file. They are made once and kept in
/// the cache of the test servers.
///
/// # Errors
///
/// When they cannot be written.
///
/// # Panics
///
/// When PostgreSQL `major` is not installed.
pub fn rows(major: u32, compressions: &[Compression]) -> Result<Vec<PathBuf>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/rows.sql");
    let name = format!("rows-{}", made_from(&[include_bytes!("../sql/rows.sql")]));
    dumps(&name, major, compressions, |server, database| server.psql_file(database, &script, &[]))
}
