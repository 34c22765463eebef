//! An archive as a script of SQL, equal byte for byte to what `pg_restore -f -` of the same version prints.
//!
//! The rules are those of `RestoreArchive` in `src/bin/pg_dump/pg_backup_archiver.c` of PostgreSQL.

mod entry;
mod large_objects;
mod options;
mod quote;
mod script;
mod selection;

use std::collections::HashSet;
use std::io::{BufWriter, Read, Seek, Write};

use crate::block::{Block, EntryData};
use crate::error::{Error, hint_of_write};
use crate::reader::ArchiveReader;
use crate::rows::data_after_end;
use crate::toc::TocEntry;
use crate::verify::{RowCount, expect_fields, expect_text};

pub use options::{PgRestoreVersion, RestrictKey, SqlOptions};
pub(crate) use quote::on_one_line;
use script::Script;
pub(crate) use selection::Selection;
use selection::{Pass, Wanted};

/// How much of the data is held while it is copied.
const BUFFER_BYTES: usize = 64 << 10;
/// What pg_dump ends the rows of every table with.
const END_OF_COPY: &[u8] = b"\\.\n\n\n";

/// Why an archive could not be written as SQL. What was written before is no script to run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SqlError {
    /// The archive could not be read.
    #[error(transparent)]
    Archive(#[from] Error),
    /// The script could not be written.
    #[error("writing the SQL failed")]
    Output(#[source] std::io::Error),
    /// The options contradict each other or the archive.
    #[error("{0}")]
    Options(String),
    /// Nothing has a name that was asked for; see [`SqlOptions::strict_names`].
    #[error("{kind} \"{name}\" not found")]
    NoSuchName {
        /// `schema`, `table`, `index`, `function` or `trigger`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// The archive is read from front to back, and what is to come next was passed.
    #[error(
        "{entry} is to come here, but its data lies further ahead in the archive, which is read from front to back"
    )]
    OutOfOrder {
        /// The entry whose data was passed.
        entry: String,
    },
    /// What an entry says of itself cannot be: it is damaged, or was not written by pg_dump.
    #[error("{entry} is damaged: {what}")]
    Damaged {
        /// The entry.
        entry: String,
        /// What is wrong with it.
        what: String,
    },
    /// An entry of a type that is not known, so that its owner cannot be set.
    #[error("{entry} is of a type that is not known, and so is how its owner is set")]
    UnknownOwner {
        /// The entry.
        entry: String,
    },
}

impl SqlError {
    /// What a user can do next, where there is something to do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Archive(error) => error.hint(),
            Self::OutOfOrder { .. } => Some("read the archive from a file, or leave its entries in their order"),
            Self::UnknownOwner { .. } => Some("leave the owners out, and set them by hand"),
            Self::Damaged { .. } => Some("take the dump again, or leave this entry out with a list"),
            Self::Output(error) => Some(hint_of_write(error)),
            Self::NoSuchName { .. } => Some("look at the listing of the archive for the names that it has"),
            Self::Options(_) => None,
        }
    }

    fn damaged(entry: &TocEntry, what: impl Into<String>) -> Self {
        Self::Damaged { entry: entry.to_string(), what: what.into() }
    }
}

impl<R: Read> ArchiveReader<R> {
    /// Writes the archive as SQL, reading it from front to back: for a pipe, and for a file whose entries are wanted
    /// in their own order. The archive must not have been read further than its table of contents.
    ///
    /// The text equals that of `pg_restore -f -` of the version that [`SqlOptions::version`] says, byte for byte, but
    /// where that would write something broken or untrue:
    ///
    /// - the rows of a table that do not end in `\.`, and a block of data that is missing, are errors;
    /// - so is an entry of a type unknown here, unless owners are left out (before 18 pg_restore leaves it without);
    /// - so are OIDs of large objects that are no numbers;
    /// - line breaks in the type of an entry, and in the versions of the server and of pg_dump, are replaced in comments, as
    ///   those in names are;
    /// - before version 1.10 an archive does not tell which pg_dump wrote it: pg_restore writes its own version in the
    ///   place. Before 1.8 its dependencies are OIDs, which pg_restore takes for dump IDs.
    ///
    /// # What to take care of
    ///
    /// The script is made of statements that the archive brings along, and runs with the rights of whoever runs it.
    /// Whoever made the archive, or owned an object in the database, chose them. Names in comments have their line
    /// breaks replaced, as in pg_restore's; names and texts within statements have not, so what looks like a line of
    /// its own may be within a name. psql also takes commands of its own (`\!` runs a program), which an archive made
    /// to do harm can hold: the brackets `\restrict` and `\unrestrict` keep psql from them, and need one that is
    /// of August 2025 or later, an unpredictable key, and nothing taken out of the script. Readers other than psql
    /// know neither these nor the rows after `COPY`. And a script is not checked as a whole: one that was
    /// cut short runs up to there, unless it runs in a single transaction.
    ///
    /// ```
    /// # let pipe = dumpfmt::example::archive();
    /// use dumpfmt::{ArchiveReader, RestrictKey, SqlOptions};
    ///
    /// let mut options = SqlOptions::default();
    /// options.restrict_key = RestrictKey::Given("key".to_owned());
    /// let mut script = Vec::new();
    /// ArchiveReader::new(pipe)?.write_sql(&mut script, &options)?;
    /// let script = String::from_utf8_lossy(&script);
    /// assert!(script.contains("\\restrict key\n"));
    /// assert!(script.contains("COPY public.tenant (tenant_id, name) FROM stdin;\ne10001eb-"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// See [`SqlError`]; [`SqlError::OutOfOrder`] when a list asks for data in another order than the archive's.
    pub fn write_sql<W: Write>(&mut self, out: W, options: &SqlOptions) -> Result<(), SqlError> {
        self.expect_unread()?;
        self.expect_all_entries()?;
        write(ForwardOnly { archive: self, passed: HashSet::new() }, out, options)
    }
}

impl<R: Read + Seek> ArchiveReader<R> {
    /// As [`write_sql`](Self::write_sql), with the data in whatever order a list asks for, and without reading what is
    /// not wanted.
    ///
    /// # Errors
    ///
    /// See [`SqlError`].
    pub fn write_sql_seeking<W: Write>(&mut self, out: W, options: &SqlOptions) -> Result<(), SqlError> {
        self.rewind()?;
        self.expect_all_entries()?;
        write(Seeking { archive: self }, out, options)
    }
}

/// An archive whose data can be had entry by entry.
trait Source {
    type Input: Read;

    fn archive(&self) -> &ArchiveReader<Self::Input>;

    /// Calls `take` with the data of an entry that has some.
    fn with_data(
        &mut self,
        dump_id: i32,
        take: impl FnOnce(Block<'_, Self::Input>) -> Result<(), SqlError>,
    ) -> Result<(), SqlError>;

    /// Refuses blocks of data that nobody asked for: none is left when all data was wanted.
    fn expect_end(&mut self) -> Result<(), SqlError>;
}

struct ForwardOnly<'a, R> {
    archive: &'a mut ArchiveReader<R>,
    /// The dump IDs of the blocks that were passed over.
    passed: HashSet<i32>,
}

impl<R: Read> Source for ForwardOnly<'_, R> {
    type Input = R;

    fn archive(&self) -> &ArchiveReader<R> {
        self.archive
    }

    fn with_data(
        &mut self,
        dump_id: i32,
        take: impl FnOnce(Block<'_, R>) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        while !self.passed.contains(&dump_id) {
            let Some(block) = self.archive.next_block()? else { break };
            let found = block.entry().dump_id();
            if found == dump_id {
                return take(block);
            }
            self.passed.insert(found);
        }
        let entry = self.archive.toc().get(dump_id).map_or_else(|| dump_id.to_string(), TocEntry::to_string);
        Err(SqlError::OutOfOrder { entry })
    }

    fn expect_end(&mut self) -> Result<(), SqlError> {
        while self.archive.next_block()?.is_some() {}
        Ok(())
    }
}

struct Seeking<'a, R> {
    archive: &'a mut ArchiveReader<R>,
}

impl<R: Read + Seek> Source for Seeking<'_, R> {
    type Input = R;

    fn archive(&self) -> &ArchiveReader<R> {
        self.archive
    }

    fn with_data(
        &mut self,
        dump_id: i32,
        take: impl FnOnce(Block<'_, R>) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        let Some(block) = self.archive.block(dump_id)? else { return Ok(()) };
        take(block)?;
        Ok(self.archive.expect_block_end()?)
    }

    fn expect_end(&mut self) -> Result<(), SqlError> {
        Ok(self.archive.expect_all_blocks()?)
    }
}

fn write<S: Source, W: Write>(mut source: S, out: W, options: &SqlOptions) -> Result<(), SqlError> {
    options.check()?;
    let archive = source.archive();
    let (header, toc) = (archive.header(), archive.toc());
    let mut script = Script::new(BufWriter::with_capacity(BUFFER_BYTES, out), header, toc, options)?;
    let selection = Selection::new(toc, options, script.version)?;
    script.has_schema = options.schema && selection.has_schema();
    script.begin(header)?;
    if options.clean {
        for &index in selection.order.iter().rev() {
            let entry = &toc.entries()[index as usize];
            let wanted = selection.wanted(index);
            // Within a database that is to be created, nothing is there to be dropped.
            let is_database = matches!(entry.description(), b"DATABASE" | b"DATABASE PROPERTIES");
            if (wanted.schema || wanted.data) && (is_database || !options.create) {
                script.drop_entry(entry)?;
            }
        }
        script.forget_schema();
    }
    let mut present = [false; Pass::ALL.len()];
    for &index in selection.order.iter().filter(|index| selection.wanted(**index).any()) {
        present[Pass::of(&toc.entries()[index as usize], script.version) as usize] = true;
    }
    for pass in Pass::ALL.into_iter().filter(|pass| present[*pass as usize]) {
        for &index in &selection.order {
            let wanted = selection.wanted(index);
            let entry = &source.archive().toc().entries()[index as usize];
            if wanted.any() && Pass::of(entry, script.version) == pass {
                write_entry(&mut source, &mut script, index, wanted)?;
            }
        }
    }
    // A damaged table of contents can lack an entry whose data is there. Whoever wants only a part may take it out of a
    // damaged archive.
    let mut with_data = (0..).zip(source.archive().toc().entries()).filter(|(_, entry)| entry.has_data());
    if with_data.all(|(index, _)| selection.wanted(index).data) {
        source.expect_end()?;
    }
    script.end()
}

fn write_entry<S: Source, W: Write>(
    source: &mut S,
    script: &mut Script<'_, W>,
    index: u32,
    wanted: Wanted,
) -> Result<(), SqlError> {
    let toc = source.archive().toc();
    let entry = &toc.entries()[index as usize];
    if wanted.schema {
        script.entry(entry, toc, b"")?;
        // The settings of a database hold for those who connect after they were made.
        if matches!(entry.description(), b"DATABASE" | b"DATABASE PROPERTIES") {
            script.connect(entry.tag())?;
        }
    }
    if wanted.data && !entry.had_dumper() && !wanted.schema {
        script.entry(entry, toc, b"")?;
    }
    if wanted.statistics {
        script.entry(entry, toc, b"Statistics for ")?;
    }
    if !(wanted.data && entry.had_dumper()) {
        return Ok(());
    }
    script.entry(entry, toc, b"Data for ")?;
    if !entry.has_data() {
        return Ok(());
    }
    let dump_id = entry.dump_id();
    if matches!(entry.description(), b"BLOBS" | b"BLOB COMMENTS") {
        script.select_schema(Some(b"pg_catalog"))?;
        return source.with_data(dump_id, |block| script.block(block));
    }
    script.switch_triggers(entry, b"DISABLE")?;
    script.become_owner(entry)?;
    script.select_schema(entry.namespace())?;
    script.put(&[entry.copy_statement().unwrap_or_default()])?;
    source.with_data(dump_id, |block| script.block(block))?;
    script.switch_triggers(&source.archive().toc().entries()[index as usize], b"ENABLE")
}

impl<W: Write> Script<'_, W> {
    fn switch_triggers(&mut self, entry: &TocEntry, verb: &[u8]) -> Result<(), SqlError> {
        // They are made after the rows where definitions are written.
        if self.has_schema || !self.options.disable_triggers {
            return Ok(());
        }
        let options = self.options;
        self.become_user(options.superuser.as_deref().unwrap_or_default())?;
        let table = self.quoting.qualified_name(entry.namespace(), entry.tag());
        self.put(&[b"ALTER TABLE ", &table, b" ", verb, b" TRIGGER ALL;\n\n"])
    }

    fn block<R: Read>(&mut self, block: Block<'_, R>) -> Result<(), SqlError> {
        match block {
            Block::Data(data) => self.rows(data),
            Block::LargeObjects(objects) => self.large_objects(objects),
        }
    }

    fn rows<R: Read>(&mut self, mut data: EntryData<'_, R>) -> Result<(), SqlError> {
        let is_copy = data.entry().copy_statement().is_some_and(|statement| !statement.is_empty());
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut count = RowCount::default();
        // The end of what was written, one byte longer than what is to stand there.
        let mut tail: Vec<u8> = b"\n".to_vec();
        loop {
            let length = read_full(&mut data, &mut buffer)?;
            if length == 0 {
                break;
            }
            let piece = &buffer[..length];
            expect_text(piece, data.position()).map_err(|e| data.locate(e))?;
            if is_copy && !count.take(piece) {
                return Err(data.locate(Error::new(data_after_end(), data.position())).into());
            }
            self.put(&[piece])?;
            tail.extend_from_slice(&buffer[length.saturating_sub(END_OF_COPY.len() + 1)..length]);
            tail.drain(..tail.len().saturating_sub(END_OF_COPY.len() + 1));
        }
        if is_copy && tail.strip_prefix(b"\n") != Some(END_OF_COPY) {
            // What follows in the script would be taken for rows.
            let text = "its rows do not end in `\\.`";
            return Err(Error::truncated(text, data.position()).in_entry(data.entry()).into());
        }
        if is_copy {
            expect_fields(data.entry(), count.rows, count.tabs, data.position()).map_err(|e| data.locate(e))?;
        }
        Ok(())
    }
}

/// Fills `buffer` unless the data ends before; tells how many bytes there are.
fn read_full(data: &mut impl Read, buffer: &mut [u8]) -> Result<usize, Error> {
    let mut filled = 0;
    while filled < buffer.len() {
        // `from_io` finds the position in the error itself, which both readers put there.
        match data.read(&mut buffer[filled..]).map_err(|e| Error::from_io(e, 0))? {
            0 => break,
            length => filled += length,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::example::Builder;
    use crate::listing::ListFile;

    const PRE_DATA: i32 = 2;
    const DATA: i32 = 3;
    const COPY: Option<&str> = Some("COPY public.t (a) FROM stdin;\n");

    /// An archive with two tables and a large object of three pieces and a bit.
    fn builder() -> Builder {
        let mut builder = Builder::new(16, 0);
        let table = |name| {
            [Some(name), Some("TABLE"), Some("CREATE TABLE public.t (\n);\n"), Some("DROP TABLE public.t;\n"), None]
        };
        let rows = |name| [Some(name), Some("TABLE DATA"), None, None, COPY];
        builder
            .entry(
                1,
                1,
                false,
                [Some("ENCODING"), Some("ENCODING"), Some("SET client_encoding = 'UTF8';\n"), None, None],
            )
            .entry(2, PRE_DATA, false, table("t"))
            .entry(3, PRE_DATA, false, table("u\n\\! echo"))
            .entry(4, DATA, true, rows("t"))
            .entry(5, DATA, true, rows("u\n\\! echo"))
            .entry(6, DATA, true, [Some("BLOBS"), Some("BLOBS"), None, None, None]);
        builder
    }

    fn archive() -> Vec<u8> {
        builder()
            .data(4, &[b"1\n", b"\\.\n\n\n"])
            .data(5, &[b"2\n\\.\n", b"\n\n"])
            .large_objects(6, &[(3_000_000_001, &[&[0xab; 16384], &[1]]), (7, &[])])
            .build()
    }

    fn plain() -> SqlOptions {
        SqlOptions { restrict_key: RestrictKey::None, ..SqlOptions::default() }
    }

    fn sql(archive: &[u8], options: &SqlOptions) -> Result<String, SqlError> {
        let mut out = Vec::new();
        ArchiveReader::new(archive)?.write_sql(&mut out, options)?;
        let mut sought = Vec::new();
        ArchiveReader::new(io::Cursor::new(archive))?.write_sql_seeking(&mut sought, options)?;
        assert_eq!(out, sought, "a pipe and a file give the same");
        Ok(String::from_utf8(out).expect("the archive is UTF-8"))
    }

    #[test]
    fn a_large_object_is_written_in_pieces_of_16_kib() {
        let text = sql(&archive(), &plain()).unwrap();
        let (_, objects) = text.split_once("SELECT pg_catalog.lo_open('3000000001', 131072);\n").unwrap();
        // There is no STDSTRINGS: a backslash is special.
        let piece = |hex: &str| format!("SELECT pg_catalog.lowrite(0, '\\\\x{hex}');\n");
        let (large, empty) = objects.split_once("SELECT pg_catalog.lo_close(0);\n\n").unwrap();
        assert_eq!(large, piece(&"ab".repeat(16384)) + &piece("01"));
        let close = "SELECT pg_catalog.lo_open('7', 131072);\nSELECT pg_catalog.lo_close(0);\n\nCOMMIT;\n";
        assert!(empty.starts_with(close), "{empty}");
    }

    #[test]
    fn an_archive_without_a_search_path_sets_one_for_each_schema() {
        let text = sql(&archive(), &plain()).unwrap();
        let paths: Vec<_> = text.lines().filter(|line| line.starts_with("SET search_path")).collect();
        assert_eq!(paths, ["SET search_path = public, pg_catalog;", "SET search_path = pg_catalog;"]);
        assert!(text.contains("SET standard_conforming_strings = off;\n"));
        assert!(text.contains("SET escape_string_warning = off;\n"));
    }

    #[test]
    fn a_name_cannot_leave_its_comment() {
        let text = sql(&archive(), &plain()).unwrap();
        assert!(text.contains("\n-- Data for Name: u \\! echo; Type: TABLE DATA; Schema: public; Owner: owner\n"));
        assert!(!text.contains("\n\\! echo;"), "{text}");
    }

    #[test]
    fn without_a_key_there_are_no_brackets() {
        assert!(!sql(&archive(), &plain()).unwrap().contains("restrict"));
        let text = sql(&archive(), &SqlOptions { restrict_key: RestrictKey::Given("k1".into()), ..plain() }).unwrap();
        assert!(text.contains("\n\\restrict k1\n\n") && text.ends_with("\n\\unrestrict k1\n\n"), "{text}");
    }

    #[test]
    fn rows_without_an_end_are_an_error_since_the_rest_would_be_taken_for_rows() {
        for end in [&b""[..], b"\\.\n", b"x\\.\n\n\n"] {
            let archive = builder().data(4, &[b"1\n", end]).build();
            let error = sql(&archive, &SqlOptions { tables: vec![b"t".to_vec()], ..plain() }).unwrap_err();
            assert!(error.to_string().contains("TABLE DATA public.t"), "{error}");
            assert!(
                matches!(&error, SqlError::Archive(e) if matches!(e.kind(), crate::ErrorKind::Truncated(_))),
                "{error}"
            );
        }
    }

    #[test]
    fn an_archive_that_is_cut_anywhere_is_an_error() {
        let archive = archive();
        // The last byte ends the block, whose every object was written.
        for length in 0..archive.len() {
            let error = ArchiveReader::new(&archive[..length]).map_err(SqlError::from);
            let result = error.and_then(|mut reader| reader.write_sql(io::sink(), &plain()));
            assert!(matches!(result, Err(SqlError::Archive(_))), "{length}: {result:?}");
        }
    }

    #[test]
    fn data_that_a_pipe_has_passed_is_an_error_and_a_file_has_it() {
        let archive = archive();
        let reader = ArchiveReader::new(&archive[..]).unwrap();
        let list = ListFile::read(&b"5\n4\n"[..], reader.toc()).unwrap();
        let options = SqlOptions { list: Some(list), ..plain() };
        let error = ArchiveReader::new(&archive[..]).unwrap().write_sql(io::sink(), &options).unwrap_err();
        assert!(
            matches!(&error, SqlError::OutOfOrder { entry } if entry == "TABLE DATA public.t (dump ID 4)"),
            "{error}"
        );
        let mut out = Vec::new();
        ArchiveReader::new(io::Cursor::new(&archive)).unwrap().write_sql_seeking(&mut out, &options).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.find("\n2\n").unwrap() < text.find("\n1\n").unwrap(), "{text}");
    }

    #[test]
    fn a_list_of_another_archive_is_refused() {
        let list = ListFile::read(&b"5\n"[..], ArchiveReader::new(&archive()[..]).unwrap().toc()).unwrap();
        let other = crate::example::archive().into_inner();
        let error = sql(&other, &SqlOptions { list: Some(list), ..plain() }).unwrap_err();
        assert!(error.to_string().contains("dump ID 5"), "{error}");
    }

    #[test]
    fn types_leave_out_all_others() {
        let text = sql(&archive(), &SqlOptions { types: vec![b"TABLE DATA".to_vec()], ..plain() }).unwrap();
        let types: Vec<_> = text.lines().filter_map(|line| line.split("; Type: ").nth(1)?.split(';').next()).collect();
        assert_eq!(types, ["TABLE DATA", "TABLE DATA"]);
    }

    #[test]
    fn a_label_is_written_unless_it_is_left_out() {
        let label = "SECURITY LABEL FOR dummy ON TABLE public.t IS 'x';";
        let mut builder = builder();
        let archive =
            builder.entry(9, 1, false, [Some("TABLE t"), Some("SECURITY LABEL"), Some(label), None, None]).build();
        let schema = SqlOptions { data: false, ..plain() };
        assert!(sql(&archive, &schema).unwrap().contains(label));
        assert!(!sql(&archive, &SqlOptions { no_security_labels: true, ..schema }).unwrap().contains(label));
    }

    #[test]
    fn an_object_whose_owner_cannot_be_set_is_an_error_unless_owners_are_left_out() {
        let mut builder = builder();
        let unknown = [Some("x"), Some("GADGET"), Some("CREATE GADGET x;"), Some("DROP GADGET x;"), None];
        let archive = builder.entry(9, PRE_DATA, false, unknown).build();
        let schema = SqlOptions { data: false, ..plain() };
        let error = sql(&archive, &schema).unwrap_err();
        assert!(matches!(&error, SqlError::UnknownOwner { entry } if entry.contains("GADGET")), "{error}");
        assert!(sql(&archive, &SqlOptions { no_owner: true, ..schema }).unwrap().contains("CREATE GADGET x;"));
    }

    #[test]
    fn large_objects_whose_numbers_are_something_else_are_refused() {
        let hostile = "1\n2'); DROP TABLE t; --\n";
        for entry in [
            [Some("1..2"), Some("BLOB METADATA"), Some(hostile), Some("-- dummy"), None],
            [Some("LARGE OBJECTS 1..2"), Some("ACL"), Some("GRANT ALL ON LARGE OBJECT 1 TO r;"), None, None],
        ] {
            let archive = builder().entry(9, DATA, false, entry).build();
            let data = SqlOptions { types: vec![entry[1].unwrap().as_bytes().to_vec()], ..plain() };
            let error = sql(&archive, &data).unwrap_err();
            assert!(matches!(error, SqlError::Damaged { .. }), "{error}");
        }
    }

    #[test]
    fn an_encoding_that_would_leave_its_quotes_is_refused() {
        for definition in ["SET client_encoding = 'UTF8''; DROP TABLE t; --';", "SET client_encoding"] {
            let mut builder = Builder::new(14, 0);
            let archive =
                builder.entry(1, 1, false, [Some("ENCODING"), Some("ENCODING"), Some(definition), None, None]).build();
            assert!(matches!(sql(&archive, &plain()), Err(SqlError::Damaged { .. })), "{definition}");
        }
    }

    #[test]
    fn an_output_that_fails_is_told_apart_from_the_archive() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let result = ArchiveReader::new(&archive()[..]).unwrap().write_sql(Full, &plain());
        assert!(matches!(&result, Err(SqlError::Output(e)) if e.kind() == io::ErrorKind::StorageFull), "{result:?}");
    }
}
