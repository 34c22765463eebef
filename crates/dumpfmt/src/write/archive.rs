//! Writing an archive entry by entry.

use std::io::{self, Seek, Write};
use std::path::Path;

use super::core::{Core, encoders};
use super::directory::DirectoryFormat;
use super::encode::PIECE_BYTES;
use super::header::WriteOptions;
use super::pool::OrderedPool;
use super::sink::{CustomFormat, Sink};
use crate::error::{Error, Result};
use crate::header::Header;
use crate::toc::Toc;

/// Writes an archive: the table of contents first, then the data of each entry that has some.
///
/// ```
/// use std::io::{Cursor, Write};
/// use dumpfmt::{ArchiveReader, ArchiveWriter, Header, LocalTime, Section, Toc, TocEntry, WriteOptions};
///
/// let rows = TocEntry::builder(1, "TABLE DATA", "tenant")
///     .namespace(Some(b"public"))
///     .section(Section::Data)
///     .copy_statement(Some(b"COPY public.tenant (tenant_id) FROM stdin;\n"))
///     .has_data(true)
///     .build()?;
/// let header = Header::new("store", LocalTime::new(2026, 11, 20, 3, 0, 0));
/// let toc = Toc::new(vec![rows])?;
///
/// let mut archive = ArchiveWriter::to_file(Cursor::new(Vec::new()), &header, toc, &WriteOptions::default())?;
/// let mut data = archive.data(1)?;
/// data.write_all(b"e10001eb-6272-453a-bb43-3dcf0e765892\n").map_err(|e| dumpfmt::Error::from_io(e, 0))?;
/// data.finish()?;
/// let mut file = archive.finish()?;
///
/// file.set_position(0);
/// let verified = ArchiveReader::new(file)?.verify(|_| {})?;
/// assert_eq!(verified[0].rows, Some(1));
/// # Ok::<(), dumpfmt::Error>(())
/// ```
///
/// The blocks are in the order in which they are written; pg_dump's own order, and that of pg_restore, is the one of the
/// table of contents. An archive whose writer was dropped before [`finish`](Self::finish) is not whole: write to a temporary
/// name and rename the file when `finish` has returned and the file is synced.
///
/// Several threads compress ([`WriteOptions::threads`]); each has up to two pieces of 512 KiB in hand.
pub struct ArchiveWriter<S: Sink> {
    core: Core<'static, S>,
}

impl<W: Write + Seek> ArchiveWriter<CustomFormat<W>> {
    /// Begins an archive in the custom format, in which the positions of the data are recorded: pg_restore
    /// can restore it in parallel. It begins where `file` stands. Of `header`, version and compression are not used.
    ///
    /// # Errors
    ///
    /// When an archive of that version cannot hold these entries, or writing fails.
    pub fn to_file(file: W, header: &Header, toc: Toc, options: &WriteOptions) -> Result<Self> {
        options.check(&toc)?;
        let sink = CustomFormat::to_file(file, header, &toc, options)?;
        Self::start(sink, toc, options)
    }
}

impl<W: Write> ArchiveWriter<CustomFormat<W>> {
    /// Begins an archive in the custom format for a pipe: the positions stay unknown, as in what pg_dump
    /// writes to one.
    ///
    /// # Errors
    ///
    /// As for [`to_file`](Self::to_file).
    pub fn to_pipe(pipe: W, header: &Header, toc: Toc, options: &WriteOptions) -> Result<Self> {
        options.check(&toc)?;
        let sink = CustomFormat::to_pipe(pipe, header, &toc, options)?;
        Self::start(sink, toc, options)
    }

    /// Ends the archive and returns what it was written to, flushed but not synced.
    ///
    /// # Errors
    ///
    /// When the data of an entry is missing, or writing fails now or failed before.
    pub fn finish(self) -> Result<W> {
        self.core.finish()?.into_inner()
    }
}

impl ArchiveWriter<DirectoryFormat> {
    /// Begins an archive in the directory format (`pg_dump -Fd`). The folder gets its name when the archive is
    /// finished; until then it is called as [`DirectoryFormat`] says.
    ///
    /// # Errors
    ///
    /// When the folder exists or cannot be made, and as for [`to_file`](Self::to_file).
    pub fn to_directory(folder: &Path, header: &Header, toc: Toc, options: &WriteOptions) -> Result<Self> {
        options.check(&toc)?;
        let sink = DirectoryFormat::create(folder, header, &toc, options)?;
        Self::start(sink, toc, options)
    }

    /// Ends the archive: every file is synced, and the folder renamed.
    ///
    /// # Errors
    ///
    /// When the data of an entry is missing, or writing fails now or failed before.
    pub fn finish(self) -> Result<()> {
        self.core.finish().map(drop)
    }
}

impl<S: Sink> ArchiveWriter<S> {
    fn start(sink: S, toc: Toc, options: &WriteOptions) -> Result<Self> {
        let (first, others) = encoders(options, S::CONTAINER)?;
        Ok(Self { core: Core::new(sink, toc, options, OrderedPool::detached(first, others)) })
    }

    /// The table of contents.
    pub fn toc(&self) -> &Toc {
        self.core.toc()
    }

    /// Begins the data of an entry, such as the rows of a table.
    ///
    /// # Errors
    ///
    /// When the entry has no data or has had it already, or when other data was not finished.
    pub fn data(&mut self, dump_id: i32) -> Result<DataWriter<'_, S>> {
        let copy_text = self.core.toc().get(dump_id).and_then(|e| e.copy_statement()).is_some_and(|s| !s.is_empty());
        self.core.begin_data(dump_id)?;
        Ok(DataWriter { body: BodyWriter::new(&mut self.core), copy_text, end: Vec::new(), length: 0 })
    }

    /// Begins the large objects of a `BLOBS` entry.
    ///
    /// # Errors
    ///
    /// As for [`data`](Self::data).
    pub fn large_objects(&mut self, dump_id: i32) -> Result<LargeObjectsWriter<'_, S>> {
        self.core.begin_large_objects(dump_id)?;
        Ok(LargeObjectsWriter { core: &mut self.core })
    }
}

impl<S: Sink> std::fmt::Debug for ArchiveWriter<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArchiveWriter").finish_non_exhaustive()
    }
}

/// Takes the data of one entry. For an entry with a COPY statement that is rows in COPY text, each with
/// its newline; the line `\.` that ends them is added, unless it was written.
///
/// Errors that it returns as a [`Write`] hold a [`dumpfmt::Error`](Error).
pub struct DataWriter<'a, S: Sink> {
    body: BodyWriter<'a, S>,
    copy_text: bool,
    /// The last bytes written: enough to see whether the rows are ended.
    end: Vec<u8>,
    /// How many bytes were written.
    length: u64,
}

/// What pg_dump writes behind the rows.
pub(crate) const END_OF_ROWS: &[u8] = b"\\.\n\n\n";

impl<S: Sink> DataWriter<'_, S> {
    /// Ends the data.
    ///
    /// # Errors
    ///
    /// When writing fails, or the last row has no newline.
    pub fn finish(mut self) -> Result<()> {
        if self.copy_text && !is_ended(&self.end, self.end.len() as u64 == self.length) {
            if self.end.last().is_some_and(|&byte| byte != b'\n') {
                return Err(Error::usage("the last row has no newline"));
            }
            self.body.write(END_OF_ROWS)?;
        }
        self.body.finish()
    }
}

/// Whether data with this end, or that is all of it, has its line `\.`.
fn is_ended(end: &[u8], is_all: bool) -> bool {
    let newlines = end.iter().rev().take_while(|&&byte| byte == b'\n').count();
    let rows = &end[..end.len() - newlines];
    newlines > 0 && (rows == b"\\." && is_all || rows.ends_with(b"\n\\."))
}

impl<S: Sink> Write for DataWriter<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        /// The line itself, the newline before it, and some after it.
        const END_BYTES: usize = 20;
        self.body.write(bytes)?;
        self.length += bytes.len() as u64;
        if self.copy_text {
            self.end.extend_from_slice(&bytes[bytes.len().saturating_sub(END_BYTES)..]);
            self.end.drain(..self.end.len().saturating_sub(END_BYTES));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes the large objects of one entry.
pub struct LargeObjectsWriter<'a, S: Sink> {
    core: &'a mut Core<'static, S>,
}

impl<S: Sink> LargeObjectsWriter<'_, S> {
    /// Begins a large object; its content is what is written.
    ///
    /// # Errors
    ///
    /// When the OID is 0, the object before was not finished, or writing fails.
    pub fn object(&mut self, oid: u32) -> Result<LargeObjectWriter<'_, S>> {
        self.core.begin_large_object(oid)?;
        Ok(LargeObjectWriter { body: BodyWriter::new(self.core) })
    }

    /// Ends the large objects of this entry.
    ///
    /// # Errors
    ///
    /// When a large object was not finished, or writing fails.
    pub fn finish(self) -> Result<()> {
        self.core.end_large_objects()
    }
}

/// Takes the content of one large object.
///
/// Errors that it returns as a [`Write`] hold a [`dumpfmt::Error`](Error).
pub struct LargeObjectWriter<'a, S: Sink> {
    body: BodyWriter<'a, S>,
}

impl<S: Sink> LargeObjectWriter<'_, S> {
    /// Ends the large object.
    ///
    /// # Errors
    ///
    /// When writing fails.
    pub fn finish(self) -> Result<()> {
        self.body.finish()
    }
}

impl<S: Sink> Write for LargeObjectWriter<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.body.write(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Cuts a body into pieces.
pub(crate) struct BodyWriter<'a, S> {
    core: &'a mut Core<'static, S>,
    piece: Vec<u8>,
}

impl<'a, S: Sink> BodyWriter<'a, S> {
    fn new(core: &'a mut Core<'static, S>) -> Self {
        Self { core, piece: Vec::new() }
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            // The last piece is to be known as such, so a full one waits until there is more.
            if self.piece.len() == PIECE_BYTES {
                let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
                self.core.bytes(piece, false)?;
            }
            let (step, rest) = bytes.split_at(bytes.len().min(PIECE_BYTES - self.piece.len()));
            self.piece.extend_from_slice(step);
            bytes = rest;
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        self.core.bytes(self.piece, true)?;
        self.core.end_body()
    }
}
