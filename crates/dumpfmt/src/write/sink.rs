//! Where the blocks of a new archive go.

use std::io::{self, BufWriter, Seek, SeekFrom, Write};

use super::header::{Format, WriteOptions};
use super::primitives::{TextTooLong, put_int};
use crate::error::{Error, ErrorKind, Result};
use crate::header::Header;
use crate::toc::{DataState, Location, POSITION_BYTES, Toc, TocEntry, put_position};

/// A kind of archive that can be written: [`CustomFormat`] or [`DirectoryFormat`](super::DirectoryFormat).
///
/// The calls come in the order of the archive.
pub trait Sink: private::Sink {}

pub(crate) mod private {
    use super::{Error, Result, TocEntry};

    /// What is around the compressed bytes.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Container {
        /// Chunks of an archive in the custom format; deflate in a zlib wrapper.
        Chunks,
        /// A file of an archive in the directory format; deflate in a gzip wrapper.
        File,
    }

    pub trait Sink {
        /// What a body is wrapped in.
        const CONTAINER: Container;
        fn begin_data(&mut self, entry: &TocEntry) -> Result<()>;
        fn begin_large_objects(&mut self, entry: &TocEntry) -> Result<()>;
        fn begin_large_object(&mut self, oid: u32) -> Result<()>;
        /// Bytes of the present body.
        fn put(&mut self, bytes: &[u8]) -> Result<()>;
        /// The present body is complete.
        fn end_body(&mut self) -> Result<()>;
        /// The large objects of the present entry are complete.
        fn end_large_objects(&mut self) -> Result<()>;
        /// Every block is there.
        fn finish(&mut self) -> Result<()>;
        /// A failure to write, at the present position.
        fn write_error(&self, error: std::io::Error) -> Error;
    }
}

pub(crate) const BLOCK_DATA: u8 = 1;
pub(crate) const BLOCK_LARGE_OBJECTS: u8 = 3;

/// The custom format (`pg_dump -Fc`): one file, or a pipe.
#[derive(Debug)]
pub struct CustomFormat<W: Write> {
    out: BufWriter<W>,
    /// Bytes written so far.
    position: u64,
    /// How to go back, where that is possible.
    seek: Option<fn(&mut W, SeekFrom) -> io::Result<u64>>,
    /// Where `out` stood when the archive began.
    start: u64,
    /// For each entry with data, in the order of the table of contents: its dump ID and where its position is recorded.
    fields: Vec<(i32, u64)>,
    /// Where the blocks begin, by dump ID.
    blocks: std::collections::HashMap<i32, u64>,
}

const BUFFER_BYTES: usize = 256 << 10;

impl<W: Write> CustomFormat<W> {
    pub(crate) fn to_pipe(out: W, header: &Header, toc: &Toc, options: &WriteOptions) -> Result<Self> {
        let mut custom = Self {
            out: BufWriter::with_capacity(BUFFER_BYTES, out),
            position: 0,
            seek: None,
            start: 0,
            fields: Vec::new(),
            blocks: std::collections::HashMap::new(),
        };
        custom.write_contents(header, toc, options)?;
        Ok(custom)
    }

    pub(crate) fn to_file(mut out: W, header: &Header, toc: &Toc, options: &WriteOptions) -> Result<Self>
    where
        W: Seek,
    {
        let start = out.stream_position().map_err(|e| Error::new(ErrorKind::Write(e), 0))?;
        let mut custom = Self::to_pipe(out, header, toc, options)?;
        custom.seek = Some(W::seek);
        custom.start = start;
        Ok(custom)
    }

    /// What was written to, flushed.
    pub(crate) fn into_inner(self) -> Result<W> {
        let position = self.position;
        self.out.into_inner().map_err(|e| Error::new(ErrorKind::Write(e.into_error()), position))
    }

    fn write_contents(&mut self, header: &Header, toc: &Toc, options: &WriteOptions) -> Result<()> {
        let mut bytes = Vec::new();
        header.put(options, Format::Custom, &mut bytes)?;
        let count = i32::try_from(toc.entries().len())
            .map_err(|_| Error::usage("the table of contents has over 2^31 entries"))?;
        put_int(count, &mut bytes);
        for entry in toc.entries() {
            let state = if entry.has_data() { DataState::PositionNotSet } else { DataState::NoData };
            put_entry(entry, options, Location::Position(state), &mut bytes)?;
            if entry.has_data() {
                let field = self.position + (bytes.len() - POSITION_BYTES) as u64;
                self.fields.push((entry.dump_id(), field));
            }
            self.write(&bytes)?;
            bytes.clear();
        }
        self.write(&bytes)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|e| Error::new(ErrorKind::Write(e), self.position))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn begin_block(&mut self, kind: u8, entry: &TocEntry) -> Result<()> {
        self.blocks.insert(entry.dump_id(), self.position);
        let mut head = vec![kind];
        put_int(entry.dump_id(), &mut head);
        self.write(&head)
    }

    /// Writes the position of each block into the table of contents.
    fn write_positions(&mut self, seek: fn(&mut W, SeekFrom) -> io::Result<u64>) -> io::Result<()> {
        self.out.flush()?;
        let mut field = Vec::with_capacity(POSITION_BYTES);
        for (dump_id, place) in &self.fields {
            let Some(&position) = self.blocks.get(dump_id) else { continue };
            field.clear();
            put_position(DataState::Position(position), &mut field);
            seek(self.out.get_mut(), SeekFrom::Start(self.start + place))?;
            self.out.get_mut().write_all(&field)?;
        }
        seek(self.out.get_mut(), SeekFrom::Start(self.start + self.position)).map(drop)
    }
}

/// Appends an entry, or says why it cannot be written.
pub(crate) fn put_entry(
    entry: &TocEntry,
    options: &WriteOptions,
    location: Location<'_>,
    out: &mut Vec<u8>,
) -> Result<()> {
    entry
        .put(options.version, location, out)
        .map_err(|TextTooLong| Error::usage("a text of this entry exceeds 2 GiB").in_entry(entry))
}

impl<W: Write> Sink for CustomFormat<W> {}

impl<W: Write> private::Sink for CustomFormat<W> {
    const CONTAINER: private::Container = private::Container::Chunks;

    fn begin_data(&mut self, entry: &TocEntry) -> Result<()> {
        self.begin_block(BLOCK_DATA, entry)
    }

    fn begin_large_objects(&mut self, entry: &TocEntry) -> Result<()> {
        self.begin_block(BLOCK_LARGE_OBJECTS, entry)
    }

    fn begin_large_object(&mut self, oid: u32) -> Result<()> {
        let mut head = Vec::with_capacity(5);
        // As pg_dump does: an OID of 2^31 or more is a negative number.
        put_int(oid as i32, &mut head);
        self.write(&head)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.write(bytes)
    }

    fn end_body(&mut self) -> Result<()> {
        Ok(())
    }

    fn end_large_objects(&mut self) -> Result<()> {
        let mut end = Vec::with_capacity(5);
        put_int(0, &mut end);
        self.write(&end)
    }

    fn finish(&mut self) -> Result<()> {
        let done = match self.seek {
            Some(seek) => self.write_positions(seek),
            None => self.out.flush(),
        };
        done.map_err(|e| self.write_error(e))
    }

    fn write_error(&self, error: io::Error) -> Error {
        Error::new(ErrorKind::Write(error), self.position)
    }
}
