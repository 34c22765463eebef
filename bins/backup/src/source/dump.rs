//! A dump in one of its formats, verified while it passes.

use std::io::{self, Write as _};

use dumpfmt::plain::{PlainTable, PlainVerifier, VerifiedScript};
use dumpfmt::{Toc, TocEntry, VerifiedArchive, VerifiedEntry, Verifier, VerifyOptions};
use pgmig_core::encoding;
use storage_backends::{ObjectFormat, TableContent};

/// Takes the bytes of a dump, in order, and tells at the end whether it is whole.
pub(crate) enum DumpVerifier {
    Archive(Verifier),
    Script(PlainVerifier),
}

/// A dump that was proven to be whole.
pub(crate) enum VerifiedDump {
    Archive(Box<VerifiedArchive>),
    Script(VerifiedScript),
}

impl DumpVerifier {
    pub(crate) fn new(format: ObjectFormat) -> Self {
        let options = VerifyOptions::default().digests(true);
        match format {
            ObjectFormat::Plain => Self::Script(PlainVerifier::new(&options)),
            _ => Self::Archive(Verifier::new(options)),
        }
    }

    /// Takes the next bytes. What is wrong with them is told at the end.
    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Archive(verifier) => verifier.write_all(bytes),
            Self::Script(verifier) => verifier.write_all(bytes),
        }
    }

    /// Whether it is known already that the dump is not whole.
    pub(crate) fn has_failed(&self) -> bool {
        match self {
            Self::Archive(verifier) => verifier.has_failed(),
            Self::Script(verifier) => verifier.has_failed(),
        }
    }

    /// The dump ends here.
    ///
    /// # Errors
    ///
    /// It is not whole.
    pub(crate) fn finish(self) -> dumpfmt::Result<VerifiedDump> {
        Ok(match self {
            Self::Archive(verifier) => VerifiedDump::Archive(Box::new(verifier.finish_archive()?)),
            Self::Script(verifier) => VerifiedDump::Script(verifier.finish()?),
        })
    }
}

impl VerifiedDump {
    /// What is in it, table by table.
    pub(crate) fn tables(&self) -> Vec<TableContent> {
        match self {
            Self::Archive(archive) => tables(archive),
            Self::Script(script) => script.tables.iter().map(|table| of_script(script, table)).collect(),
        }
    }
}

/// What is in an archive, table by table.
pub(crate) fn tables(archive: &VerifiedArchive) -> Vec<TableContent> {
    let encoding = archive.toc.encoding();
    archive.entries.iter().map(|entry| table(&archive.toc, entry, encoding.as_deref())).collect()
}

fn table(toc: &Toc, entry: &VerifiedEntry, encoding: Option<&str>) -> TableContent {
    let name = toc.get(entry.dump_id).map_or_else(|| entry.dump_id.to_string(), |entry| name(entry, encoding));
    let mut table = TableContent::new(name, entry.bytes);
    table.rows = entry.rows;
    table.sha256 = entry.sha256.map(|digest| digest.to_string());
    table
}

/// `public.tenant` for rows; for large objects that they are some.
fn name(entry: &TocEntry, encoding: Option<&str>) -> String {
    let text = |bytes| encoding::decode(encoding, bytes);
    match entry.namespace().filter(|namespace| !namespace.is_empty()) {
        Some(namespace) => format!("{}.{}", text(namespace), text(entry.tag())),
        None if entry.description() == b"BLOBS" => "large objects".to_owned(),
        None => format!("{} {}", text(entry.description()), text(entry.tag())),
    }
}

fn of_script(script: &VerifiedScript, table: &PlainTable) -> TableContent {
    let (schema, name) = names(script, table);
    let mut content = TableContent::new(format!("{schema}.{name}"), table.bytes);
    content.rows = table.rows;
    content.sha256 = table.sha256.map(|digest| digest.to_string());
    content
}

/// The schema and the name of a table in a plain dump, which pg_dump always writes both.
pub(crate) fn names(script: &VerifiedScript, table: &PlainTable) -> (String, String) {
    let text = |bytes| encoding::decode(script.encoding.as_deref(), bytes);
    (text(table.copy.schema.as_deref().unwrap_or_default()), text(&table.copy.table))
}
