//! A block of data: the body of one entry, or a row of large objects.

use std::io::{self, Read};

use crate::decode::{ChunkState, Decoder};
use crate::error::{Error, Result};
use crate::header::Header;
use crate::input::Input;
use crate::limits::Limits;
use crate::rows::Rows;
use crate::toc::TocEntry;

/// One block of data. What is not read of it is passed over.
#[derive(Debug)]
pub enum Block<'a, R: Read> {
    /// The data of one entry, nearly always the rows of a table.
    Data(EntryData<'a, R>),
    /// Large objects.
    LargeObjects(LargeObjects<'a, R>),
}

impl<R: Read> Block<'_, R> {
    /// The entry that the data belongs to.
    pub fn entry(&self) -> &TocEntry {
        match self {
            Self::Data(data) => data.entry,
            Self::LargeObjects(objects) => objects.entry,
        }
    }
}

/// The data of one entry, decompressed, as a [`Read`]: COPY text, or INSERT
/// statements when the dump was made with `--inserts`.
///
/// An error from `read` holds a [`dumpfmt::Error`](Error); see [`Error::from_io`].
pub struct EntryData<'a, R: Read> {
    entry: &'a TocEntry,
    limits: &'a Limits,
    decoder: Decoder<'a, R>,
}

impl<'a, R: Read> EntryData<'a, R> {
    /// The entry that the data belongs to.
    pub fn entry(&self) -> &'a TocEntry {
        self.entry
    }

    /// How many bytes of the archive precede the next one to be read.
    pub(crate) fn position(&self) -> u64 {
        self.decoder.position()
    }

    /// The data as rows. For INSERT statements (an entry without a COPY
    /// statement) there are none, and reading a row is an error.
    pub fn rows(self) -> Rows<Self> {
        let (limit, entry) = (self.limits.row_bytes, self.entry);
        Rows::new(self, limit, entry.to_string(), entry.copy_statement().is_some_and(|s| !s.is_empty()))
    }
}

impl<R: Read> Read for EntryData<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.decoder.read(out).map_err(|e| in_entry(e, self.decoder.position(), self.entry))
    }
}

impl<R: Read> crate::rows::Position for EntryData<'_, R> {
    fn position(&self) -> u64 {
        self.decoder.position()
    }
}

impl<R: Read> std::fmt::Debug for EntryData<'_, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EntryData").field("entry", &self.entry.to_string()).finish_non_exhaustive()
    }
}

/// The large objects of one `BLOBS` entry, one by one.
pub struct LargeObjects<'a, R> {
    entry: &'a TocEntry,
    header: &'a Header,
    limits: &'a Limits,
    input: &'a mut Input<R>,
    state: &'a mut ObjectsState,
}

impl<R: Read> LargeObjects<'_, R> {
    /// The entry that they belong to.
    pub fn entry(&self) -> &TocEntry {
        self.entry
    }

    /// The next large object; `None` after the last one. What was not read of
    /// the one before is passed over.
    ///
    /// # Errors
    ///
    /// When the archive is cut short or damaged.
    pub fn next_object(&mut self) -> Result<Option<LargeObject<'_, R>>> {
        let entry = self.entry;
        self.state.skip_object(self.input, self.header.int_size, skip_by_reading).map_err(|e| e.in_entry(entry))?;
        let Some(oid) = self.state.next_oid(self.input, self.header.int_size).map_err(|e| e.in_entry(entry))? else {
            return Ok(None);
        };
        let chunks = self.state.object.get_or_insert_default();
        let decoder = Decoder::new(self.input, chunks, self.header.int_size, self.header.compression, self.limits)
            .map_err(|e| e.in_entry(entry))?;
        Ok(Some(LargeObject { oid, entry, decoder }))
    }
}

impl<R> std::fmt::Debug for LargeObjects<'_, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LargeObjects").field("entry", &self.entry.to_string()).finish_non_exhaustive()
    }
}

/// One large object; its content is what [`Read`] gives.
pub struct LargeObject<'a, R: Read> {
    oid: u32,
    entry: &'a TocEntry,
    decoder: Decoder<'a, R>,
}

impl<R: Read> LargeObject<'_, R> {
    /// The OID by which tables refer to it.
    pub fn oid(&self) -> u32 {
        self.oid
    }
}

impl<R: Read> Read for LargeObject<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let place = format_args!("large object {} of {}", self.oid, self.entry);
        self.decoder.read(out).map_err(|e| in_entry(e, self.decoder.position(), place))
    }
}

impl<R: Read> std::fmt::Debug for LargeObject<'_, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LargeObject").field("oid", &self.oid).finish_non_exhaustive()
    }
}

fn in_entry(error: io::Error, offset: u64, entry: impl std::fmt::Display) -> io::Error {
    Error::from_io(error, offset).in_entry(entry).into()
}

pub(crate) fn skip_by_reading<R: Read>(input: &mut Input<R>, bytes: u64) -> Result<()> {
    input.skip(bytes, "within a chunk of data")
}

/// How far the block has been read that the input is in.
#[derive(Debug)]
pub(crate) struct OpenBlock {
    pub(crate) dump_id: i32,
    pub(crate) body: BodyState,
}

#[derive(Debug)]
pub(crate) enum BodyState {
    Data(ChunkState),
    LargeObjects(ObjectsState),
}

#[derive(Debug, Default)]
pub(crate) struct ObjectsState {
    /// The object that the input is in.
    object: Option<ChunkState>,
    ended: bool,
}

impl ObjectsState {
    /// Passes over the rest of the present object.
    fn skip_object<R: Read>(
        &mut self,
        input: &mut Input<R>,
        int_size: u8,
        skip: impl FnMut(&mut Input<R>, u64) -> Result<()>,
    ) -> Result<()> {
        match self.object.take() {
            Some(mut chunks) => chunks.skip_rest(input, int_size, skip),
            None => Ok(()),
        }
    }

    /// The OID of the next object, or `None` at the end of the block.
    fn next_oid<R: Read>(&mut self, input: &mut Input<R>, int_size: u8) -> Result<Option<u32>> {
        if self.ended {
            return Ok(None);
        }
        let offset = input.position();
        let oid = input.int(int_size, "between two large objects")?;
        // pg_dump writes the OID as a C int: one of 2^31 or more shows as negative.
        if oid < i64::from(i32::MIN) || oid > i64::from(u32::MAX) {
            return Err(Error::corrupt(format!("{oid} is not the OID of a large object"), offset));
        }
        self.ended = oid == 0;
        Ok((!self.ended).then(|| {
            self.object = Some(ChunkState::default());
            oid as u32
        }))
    }
}

impl OpenBlock {
    /// Passes over what is left of it by `skip`, which takes a number of bytes.
    pub(crate) fn skip_rest<R: Read>(
        &mut self,
        input: &mut Input<R>,
        int_size: u8,
        mut skip: impl FnMut(&mut Input<R>, u64) -> Result<()>,
    ) -> Result<()> {
        match &mut self.body {
            BodyState::Data(chunks) => chunks.skip_rest(input, int_size, skip),
            BodyState::LargeObjects(objects) => loop {
                objects.skip_object(input, int_size, &mut skip)?;
                if objects.next_oid(input, int_size)?.is_none() {
                    return Ok(());
                }
            },
        }
    }

    /// What a caller reads the block with.
    pub(crate) fn present<'a, R: Read>(
        &'a mut self,
        entry: &'a TocEntry,
        header: &'a Header,
        limits: &'a Limits,
        input: &'a mut Input<R>,
    ) -> Result<Block<'a, R>> {
        Ok(match &mut self.body {
            BodyState::Data(chunks) => {
                let decoder = Decoder::new(input, chunks, header.int_size, header.compression, limits)
                    .map_err(|e| e.in_entry(entry))?;
                Block::Data(EntryData { entry, limits, decoder })
            }
            BodyState::LargeObjects(state) => Block::LargeObjects(LargeObjects { entry, header, limits, input, state }),
        })
    }
}
