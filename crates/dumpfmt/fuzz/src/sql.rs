use std::io::Cursor;

use dumpfmt::{
    ArchiveReader, ArchiveWriter, CompressionSpecification, PgRestoreVersion, RestrictKey, Section, SqlOptions, Toc,
    TocEntry, WriteOptions,
};

use crate::read::seekable;
use crate::script::expect_confined;
use crate::{Choice, limits, sealed};

const KEY: &str = "key";

/// An archive as SQL, from a pipe and from a file; and its names, with the statements of a harmless one, which must
/// not leave their quotes and comments.
pub fn sql(data: &[u8]) {
    let data = &sealed(data);
    let mut choice = Choice::of(data);
    let Ok(mut archive) = seekable(data) else { return };
    let mut options = options(&mut choice);
    let mut sought = Vec::new();
    let seeking = archive.write_sql_seeking(&mut sought, &options);
    let mut piped = Vec::new();
    let mut pipe = ArchiveReader::with_limits(&data[..], limits()).expect("it opened before");
    let piping = pipe.write_sql(&mut piped, &options);
    // What the two read of a damaged archive differs.
    if seeking.is_ok() && piping.is_ok() {
        assert_eq!(sought, piped, "a pipe and a file give the same");
    }

    options.version = None;
    let Some(named) = harmless(&archive) else { return };
    let mut script = Vec::new();
    match seekable(&named).expect("it was just written").write_sql(&mut script, &options) {
        Ok(()) => expect_confined(&script, KEY),
        Err(error) => drop(error.to_string()),
    }
}

fn options(choice: &mut Choice) -> SqlOptions {
    let mut options = SqlOptions::default();
    options.restrict_key = RestrictKey::Given(KEY.into());
    let versions = [PgRestoreVersion::V15, PgRestoreVersion::V16, PgRestoreVersion::V17, PgRestoreVersion::V18];
    options.version = Some(choice.one_of(&versions));
    options.clean = choice.toss();
    options.if_exists = options.clean && choice.toss();
    options.create = choice.toss();
    options.no_owner = choice.toss();
    options.use_set_session_authorization = choice.toss();
    options.single_transaction = !options.create && choice.toss();
    options.disable_triggers = choice.toss();
    options
}

/// The archive's names with statements that do no harm, and without data; `None` when it cannot be written.
fn harmless(archive: &ArchiveReader<Cursor<&[u8]>>) -> Option<Vec<u8>> {
    const KINDS: [&str; 8] =
        ["TABLE", "VIEW", "SCHEMA", "SEQUENCE", "DATABASE", "TYPE", "MATERIALIZED VIEW", "TABLE DATA"];
    let entries = archive.toc().entries().iter().enumerate().map(|(place, entry)| {
        let builder = match entry.description() {
            b"ENCODING" | b"STDSTRINGS" => TocEntry::builder(entry.dump_id(), entry.description(), entry.tag())
                .definition(entry.definition().unwrap_or_default()),
            _ => {
                let kind = KINDS[place % KINDS.len()];
                TocEntry::builder(entry.dump_id(), kind, entry.tag())
                    .definition(if kind == "TABLE DATA" { "" } else { "SELECT 1;\n" })
                    .drop_statement(if kind == "TABLE DATA" { "" } else { "DROP TABLE x;\n" })
                    .namespace(entry.namespace())
                    .owner(entry.owner().unwrap_or_default())
                    .tablespace(entry.tablespace())
                    .table_access_method(entry.table_access_method())
                    .relkind(entry.relkind())
            }
        };
        builder.section(Section::PreData).build().expect("the entry was in an archive")
    });
    let toc = Toc::new(entries.collect()).expect("they were in a table of contents");
    let options = WriteOptions::new(CompressionSpecification::NONE).threads(0);
    ArchiveWriter::to_pipe(Vec::new(), archive.header(), toc, &options).ok()?.finish().ok()
}
