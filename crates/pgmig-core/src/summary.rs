//! What an archive says of itself, in words for people and scripts.

use std::io::{Read, Seek};

use dumpfmt::{ArchiveReader, Block};
use serde::Serialize;

use crate::archive::{Archive, ArchiveTable};
use crate::encoding;
use crate::error::Error;
use crate::profile::Profile;

/// The archive's own account of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ArchiveSummary {
    /// The file.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// The version of the archive format, such as `1.16-0`.
    pub format_version: String,
    /// `none`, `gzip`, `lz4` or `zstd`.
    pub compression: String,
    /// When the dump was begun, on the clock of the machine that took it.
    pub created: String,
    /// The database.
    pub database: Option<String>,
    /// The server that was dumped.
    pub server_version: Option<String>,
    /// The pg_dump that wrote it.
    pub dump_version: Option<String>,
    /// PostgreSQL's name of the encoding of all text.
    pub encoding: Option<String>,
    /// The version of the product's schema, where the profile says how to find it.
    pub schema_version: Option<String>,
}

pub(crate) fn summarize(archive: &mut Archive, profile: &Profile) -> Result<ArchiveSummary, Error> {
    let schema_version = schema_version(archive, profile)?;
    let header = archive.header();
    let encoding = archive.contents().encoding.clone();
    let text = |bytes: &Option<Box<[u8]>>| bytes.as_ref().map(|bytes| encoding::decode(encoding.as_deref(), bytes));
    Ok(ArchiveSummary {
        path: archive.path().display().to_string(),
        bytes: archive.bytes(),
        format_version: header.version.to_string(),
        compression: header.compression.to_string(),
        created: header.created.to_string(),
        database: text(&header.database),
        server_version: text(&header.server_version),
        dump_version: text(&header.dump_version),
        encoding: encoding.clone(),
        schema_version,
    })
}

/// The first value of the column that the profile names.
fn schema_version(archive: &mut Archive, profile: &Profile) -> Result<Option<String>, Error> {
    let Some(rule) = &profile.schema_version else { return Ok(None) };
    let tables = &archive.contents().tables;
    let Some(table) = tables.iter().find(|table| rule.table.matches(&table.table)).cloned() else { return Ok(None) };
    let Some(column) = table.columns.iter().position(|name| *name == rule.column) else { return Ok(None) };
    let encoding = archive.contents().encoding.clone();
    let value = first_value(archive.reader(), &table, column).map_err(|e| archive.read_error(e))?;
    Ok(value.map(|bytes| encoding::decode(encoding.as_deref(), &bytes)))
}

fn first_value<R: Read + Seek>(
    reader: &mut ArchiveReader<R>,
    table: &ArchiveTable,
    column: usize,
) -> dumpfmt::Result<Option<Vec<u8>>> {
    let Some(Block::Data(data)) = reader.block(table.dump_id)? else { return Ok(None) };
    let mut rows = data.rows();
    let row = rows.next_row()?;
    Ok(row.and_then(|row| row.field(column)?.decode().map(std::borrow::Cow::into_owned)))
}
