//! Making one archive of another, without holding either in memory.

mod report;
mod row_writer;
mod run;

use std::collections::HashMap;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::thread;

use crate::error::{Error, Result};
use crate::reader::ArchiveReader;
use crate::rows::{Row, RowBatch};
use crate::toc::Toc;
use crate::write::core::{Core, encoders};
use crate::write::pool::OrderedPool;
use crate::write::{CustomFormat, DirectoryFormat, Sink, WriteOptions};

pub use report::{EntryDepth, RewriteReport, RewrittenEntry};
pub use row_writer::{FieldWriter, RowWriter};

/// What a function of the caller says when it refuses a row.
pub type RowError = Box<dyn std::error::Error + Send + Sync>;

type EditRows<'a> = dyn Fn(RowBatch<'_>, &mut RowWriter<'_>) -> Result<(), RowError> + Sync + 'a;
type InspectRows<'a> = dyn Fn(RowBatch<'_>) -> Result<(), RowError> + Sync + 'a;
type InspectLargeObject<'a> = dyn Fn(u32, &[u8], bool) -> Result<(), RowError> + Sync + 'a;

/// How an archive is rewritten: what happens to the data of each entry, and what the new archive is like.
///
/// Nothing said, the data of an entry is copied as it is stored, without decompressing it, where
/// the new archive has the same compression, at no level in particular, and format; otherwise it is compressed anew. The rows of an entry can be
/// changed ([`rows`](Self::rows)), looked at ([`inspect`](Self::inspect)), or left out ([`omit`](Self::omit)); what is said of an
/// entry last holds. Large objects that the new table of contents does not name are left out.
///
/// ```
/// # let file = dumpfmt::example::archive();
/// use dumpfmt::{ArchiveReader, Rewrite, WriteOptions};
/// use std::io::Cursor;
///
/// let mut source = ArchiveReader::new(file)?;
/// let tenants = source.toc().of_type("TABLE DATA").find(|entry| entry.tag() == b"tenant").expect("it is there").dump_id();
///
/// let mut rewrite = Rewrite::new(WriteOptions::like(source.header()));
/// rewrite.rows(tenants, |row, out| {
///     out.replace_field(row, 1, Some(b"new name"));
///     Ok(())
/// });
/// let (file, report) = rewrite.to_file(&mut source, Cursor::new(Vec::new()), |_position| {})?;
/// assert_eq!(report.entries[0].rows_written, Some(1));
/// # let mut copy = ArchiveReader::new(Cursor::new(file.into_inner()))?;
/// # copy.verify(|_| {})?;
/// # Ok::<(), dumpfmt::Error>(())
/// ```
///
/// The entries keep their order, and so do rows. Positions in the file are those of the new archive. The
/// source is read once from its first block to its end, so it can be a pipe; the work on rows and the compression
/// are done by several threads ([`WriteOptions::threads`]), with two pieces of 512 KiB for each in hand at most. A longer
/// row is taken alone.
pub struct Rewrite<'a> {
    options: WriteOptions,
    contents: Option<Toc>,
    entries: HashMap<i32, Treatment<'a>>,
}

/// What happens to the data of one entry.
enum Treatment<'a> {
    Reencode,
    Edit(Box<EditRows<'a>>),
    Inspect(Box<InspectRows<'a>>),
    InspectLargeObjects(Box<InspectLargeObject<'a>>),
    Omit,
}

impl<'a> Rewrite<'a> {
    /// A copy with these properties.
    pub fn new(options: WriteOptions) -> Self {
        Self { options, contents: None, entries: HashMap::new() }
    }

    /// Passes each row of an entry to `edit`, which writes what stands for it in the new archive: it, another one, several, none.
    /// Several threads call it, for rows in no certain order; what they write comes in the order of the rows.
    pub fn rows(
        &mut self,
        dump_id: i32,
        edit: impl Fn(Row<'_>, &mut RowWriter<'_>) -> Result<(), RowError> + Sync + 'a,
    ) -> &mut Self {
        self.batches(dump_id, move |batch, out| batch.rows().try_for_each(|row| edit(row, out)))
    }

    /// As [`rows`](Self::rows), for a function that takes many rows at once: up to 512 KiB, or one.
    pub fn batches(
        &mut self,
        dump_id: i32,
        edit: impl Fn(RowBatch<'_>, &mut RowWriter<'_>) -> Result<(), RowError> + Sync + 'a,
    ) -> &mut Self {
        self.treat(dump_id, Treatment::Edit(Box::new(edit)))
    }

    /// Passes the rows of an entry to `inspect` while they are copied.
    pub fn inspect(
        &mut self,
        dump_id: i32,
        inspect: impl Fn(RowBatch<'_>) -> Result<(), RowError> + Sync + 'a,
    ) -> &mut Self {
        self.treat(dump_id, Treatment::Inspect(Box::new(inspect)))
    }

    /// Passes the content of an entry's large objects to `inspect` while they are copied: the OID and a piece of the
    /// content, of up to 512 KiB, and whether it is the last one of that object. The last piece may be empty.
    pub fn inspect_large_objects(
        &mut self,
        dump_id: i32,
        inspect: impl Fn(u32, &[u8], bool) -> Result<(), RowError> + Sync + 'a,
    ) -> &mut Self {
        self.treat(dump_id, Treatment::InspectLargeObjects(Box::new(inspect)))
    }

    /// Decompresses the data of an entry and compresses it anew, also where it could be copied as it is.
    /// That proves that it is whole.
    pub fn reencode(&mut self, dump_id: i32) -> &mut Self {
        self.treat(dump_id, Treatment::Reencode)
    }

    /// Leaves an entry out, and its data.
    pub fn omit(&mut self, dump_id: i32) -> &mut Self {
        self.treat(dump_id, Treatment::Omit)
    }

    /// Gives the new archive this table of contents instead of the old one without what is omitted. Entries
    /// with data must have the dump IDs that they have in the source.
    pub fn contents(&mut self, toc: Toc) -> &mut Self {
        self.contents = Some(toc);
        self
    }

    fn treat(&mut self, dump_id: i32, treatment: Treatment<'a>) -> &mut Self {
        self.entries.insert(dump_id, treatment);
        self
    }

    /// Writes the new archive to a file; see [`ArchiveWriter::to_file`](crate::ArchiveWriter::to_file).
    /// `progress` is called with the position in the source.
    ///
    /// # Errors
    ///
    /// When the source is cut short or damaged, when a function refuses a row, when something is asked for of an entry that
    /// the source does not have or that has no data, when blocks of the source were read already, or when writing fails. What was written until then is no archive.
    pub fn to_file<R: Read, W: Write + Seek>(
        &self,
        source: &mut ArchiveReader<R>,
        file: W,
        progress: impl FnMut(u64),
    ) -> Result<(W, RewriteReport)> {
        let (toc, options) = (self.new_contents(source)?, &self.options);
        let sink = CustomFormat::to_file(file, source.header(), &toc, options)?;
        let (sink, report) = self.run(source, sink, toc, progress)?;
        Ok((sink.into_inner()?, report))
    }

    /// Writes the new archive to a pipe; see [`ArchiveWriter::to_pipe`](crate::ArchiveWriter::to_pipe).
    ///
    /// # Errors
    ///
    /// As for [`to_file`](Self::to_file).
    pub fn to_pipe<R: Read, W: Write>(
        &self,
        source: &mut ArchiveReader<R>,
        pipe: W,
        progress: impl FnMut(u64),
    ) -> Result<(W, RewriteReport)> {
        let (toc, options) = (self.new_contents(source)?, &self.options);
        let sink = CustomFormat::to_pipe(pipe, source.header(), &toc, options)?;
        let (sink, report) = self.run(source, sink, toc, progress)?;
        Ok((sink.into_inner()?, report))
    }

    /// Writes the new archive in the directory format; see
    /// [`ArchiveWriter::to_directory`](crate::ArchiveWriter::to_directory).
    ///
    /// # Errors
    ///
    /// As for [`to_file`](Self::to_file), and when the folder exists.
    pub fn to_directory<R: Read>(
        &self,
        source: &mut ArchiveReader<R>,
        folder: &Path,
        progress: impl FnMut(u64),
    ) -> Result<RewriteReport> {
        let (toc, options) = (self.new_contents(source)?, &self.options);
        let sink = DirectoryFormat::create(folder, source.header(), &toc, options)?;
        self.run(source, sink, toc, progress).map(|(_, report)| report)
    }

    fn new_contents<R: Read>(&self, source: &ArchiveReader<R>) -> Result<Toc> {
        source.expect_unread()?;
        for (&dump_id, treatment) in &self.entries {
            let Some(entry) = source.toc().get(dump_id) else {
                return Err(Error::usage(format!("dump ID {dump_id} is not in the table of contents")));
            };
            if !entry.has_data() && !matches!(treatment, Treatment::Omit) {
                let text = "this entry has no data that could be rewritten: the rows of a table have one of their own";
                return Err(Error::usage(text).in_entry(entry));
            }
        }
        let is_omitted = |dump_id| matches!(self.entries.get(&dump_id), Some(Treatment::Omit));
        let toc = match &self.contents {
            Some(toc) => toc.clone(),
            None => {
                let entries = source.toc().entries().iter();
                Toc::new(entries.filter(|entry| !is_omitted(entry.dump_id())).cloned().collect())?
            }
        };
        self.options.check(&toc)?;
        Ok(toc)
    }

    fn run<R: Read, S: Sink>(
        &self,
        source: &mut ArchiveReader<R>,
        sink: S,
        toc: Toc,
        mut progress: impl FnMut(u64),
    ) -> Result<(S, RewriteReport)> {
        let (first, others) = encoders(&self.options, S::CONTAINER)?;
        thread::scope(|scope| {
            let pool = OrderedPool::scoped(scope, first, others);
            let mut core = Core::new(sink, toc, &self.options, pool);
            let tallies = run::copy_blocks(self, source, &mut core, &mut progress)?;
            let sink = core.finish()?;
            tallies.expect_fields(source.toc(), source.position())?;
            Ok((sink, tallies.report()))
        })
    }
}

impl std::fmt::Debug for Rewrite<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rewrite").field("options", &self.options).finish_non_exhaustive()
    }
}
