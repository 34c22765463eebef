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
use crate::error::Error;
use crate::reader::ArchiveReader;
use crate::toc::TocEntry;

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
            Self::Output(_) | Self::Options(_) => None,
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
    /// where that would write something broken:
    ///
    /// - the rows of a table that do not end in `\.`, and a block of data that is missing, are errors;
    /// - so is an entry of a type unknown here, unless owners are left out (before 18 pg_restore leaves it without);
    /// - so are OIDs of large objects that are no numbers.
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
        self.archive.block(dump_id)?.map_or(Ok(()), take)
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
        // The end of what was written, one byte longer than what is to stand there.
        let mut tail: Vec<u8> = b"\n".to_vec();
        loop {
            let length = read_full(&mut data, &mut buffer)?;
            if length == 0 {
                break;
            }
            self.put(&[&buffer[..length]])?;
            tail.extend_from_slice(&buffer[length.saturating_sub(END_OF_COPY.len() + 1)..length]);
            tail.drain(..tail.len().saturating_sub(END_OF_COPY.len() + 1));
        }
        if is_copy && tail.strip_prefix(b"\n") != Some(END_OF_COPY) {
            // What follows in the script would be taken for rows.
            let text = "its rows do not end in `\\.`";
            return Err(Error::truncated(text, data.position()).in_entry(data.entry()).into());
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
