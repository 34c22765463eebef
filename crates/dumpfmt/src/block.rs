//! A block of data: the body of one entry, or a row of large objects.

use std::io::{self, Read};

use crate::body::{BodyState, StoredBytes};
use crate::decode::{Decoder, Encoding};
use crate::error::{Error, ErrorKind, Result};
use crate::input::Input;
use crate::limits::Limits;
use crate::named_objects::{NamedObjects, Reading};
use crate::rows::Rows;
use crate::source::{Objects, Source};
use crate::tee::Teed;
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

    /// As [`position`](Self::position), with what was read of other files of a directory before.
    pub(crate) fn total_position(&self) -> u64 {
        self.decoder.body().map_or(0, |body| body.input().total_position())
    }

    /// Completes an error that was noticed in the data.
    pub(crate) fn locate(&self, error: Error) -> Error {
        self.decoder.locate(error).in_entry(self.entry)
    }

    pub(crate) fn encoding(&self) -> Encoding {
        self.decoder.encoding()
    }

    /// The data from an input that keeps the stored bytes.
    pub(crate) fn tee(self) -> Result<Teed<'a, R>> {
        Teed::new(self.decoder, |decoder| stored(self.entry, decoder))
    }

    pub(crate) fn limits(&self) -> &'a Limits {
        self.limits
    }

    /// Data of this entry, decoded in another way.
    pub(crate) fn of(entry: &'a TocEntry, limits: &'a Limits, decoder: Decoder<'a, R>) -> Self {
        Self { entry, limits, decoder }
    }

    /// The data as rows. For INSERT statements (an entry without a COPY
    /// statement) there are none, and reading a row is an error.
    pub fn rows(self) -> Rows<Self> {
        let (limit, entry) = (self.limits.row_bytes, self.entry);
        // The errors of the rows themselves name the place by this text.
        let name = match self.decoder.body().and_then(|body| body.input().file()) {
            Some(file) => format!("{entry}, file `{file}`"),
            None => entry.to_string(),
        };
        Rows::new(self, limit, name, entry.copy_statement().is_some_and(|s| !s.is_empty()))
    }

    /// The data as it is stored, still compressed.
    ///
    /// # Errors
    ///
    /// When some of the data was read already.
    pub fn stored(self) -> Result<StoredBytes<'a, R>> {
        stored(self.entry, self.decoder)
    }
}

impl<R: Read> Read for EntryData<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.decoder.read(out).map_err(|e| in_entry(e, &self.decoder, self.entry))
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
    limits: &'a Limits,
    source: &'a mut Source<R>,
    objects: &'a mut Objects<R>,
    reading: Reading,
    named: Option<&'a mut NamedObjects>,
}

impl<'a, R: Read> LargeObjects<'a, R> {
    pub(crate) fn limits(&self) -> &'a Limits {
        self.limits
    }

    /// How many bytes of the archive precede the next one to be read.
    pub(crate) fn position(&self) -> u64 {
        self.source.input.position()
    }

    /// The entry that they belong to.
    pub fn entry(&self) -> &TocEntry {
        self.entry
    }

    /// The next large object; `None` after the last one. What was not read of
    /// the one before is passed over.
    ///
    /// # Errors
    ///
    /// When the archive is cut short or damaged, has the same object twice or one that its table of contents does not name;
    /// at the end of the last such entry, when one that it names is missing.
    pub fn next_object(&mut self) -> Result<Option<LargeObject<'_, R>>> {
        let (entry, named) = (self.entry, self.named.as_deref_mut());
        let next = next_named(self.source, self.objects, self.limits, self.reading, named, skip_by_reading);
        let next = next.map_err(|e| self.source.input.locate(e).in_entry(entry))?;
        let Some((oid, encoding, body)) = next else { return Ok(None) };
        let decoder = Decoder::new(&mut self.source.input, body, encoding, self.limits);
        Ok(Some(LargeObject { oid, entry, decoder }))
    }
}

/// The next large object, which has to be one that can be here.
fn next_named<'o, R: Read>(
    source: &mut Source<R>,
    objects: &'o mut Objects<R>,
    limits: &Limits,
    reading: Reading,
    named: Option<&mut NamedObjects>,
    skip: fn(&mut Input<R>, u64) -> Result<()>,
) -> Result<Option<(u32, Encoding, &'o mut BodyState)>> {
    let next = source.next_object(objects, limits, skip)?;
    if let Some(named) = named {
        let offset = source.input.position();
        match &next {
            Some((oid, ..)) => named.find(*oid, reading, offset)?,
            None => named.end_entry(reading.dump_id, offset)?,
        }
    }
    Ok(next)
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

impl<'a, R: Read> LargeObject<'a, R> {
    /// The OID by which tables refer to it.
    pub fn oid(&self) -> u32 {
        self.oid
    }

    pub(crate) fn encoding(&self) -> Encoding {
        self.decoder.encoding()
    }

    pub(crate) fn position(&self) -> u64 {
        self.decoder.position()
    }

    /// Completes an error that was noticed in the content.
    pub(crate) fn locate(&self, error: Error) -> Error {
        self.decoder.locate(error).in_entry(self.entry)
    }

    /// As for [`EntryData::total_position`].
    pub(crate) fn total_position(&self) -> u64 {
        self.decoder.body().map_or(0, |body| body.input().total_position())
    }

    /// The content from an input that keeps the stored bytes.
    pub(crate) fn tee(self) -> Result<Teed<'a, R>> {
        Teed::new(self.decoder, |decoder| stored(self.entry, decoder))
    }

    /// The content as it is stored, still compressed.
    ///
    /// # Errors
    ///
    /// When some of the content was read already.
    pub fn stored(self) -> Result<StoredBytes<'a, R>> {
        stored(self.entry, self.decoder)
    }
}

impl<R: Read> Read for LargeObject<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let place = format_args!("large object {} of {}", self.oid, self.entry);
        self.decoder.read(out).map_err(|e| in_entry(e, &self.decoder, place))
    }
}

impl<R: Read> std::fmt::Debug for LargeObject<'_, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LargeObject").field("oid", &self.oid).finish_non_exhaustive()
    }
}

fn stored<'a, R: Read>(entry: &'a TocEntry, decoder: Decoder<'a, R>) -> Result<StoredBytes<'a, R>> {
    let offset = decoder.position();
    let Some((compression, body)) = decoder.into_body() else {
        let text = "the stored bytes of data can only be had before any of it is read";
        return Err(Error::new(ErrorKind::Usage(text.into()), offset).in_entry(entry));
    };
    Ok(StoredBytes::new(entry, compression, body))
}

fn in_entry<R: Read>(error: io::Error, decoder: &Decoder<'_, R>, entry: impl std::fmt::Display) -> io::Error {
    decoder.locate(Error::from_io(error, decoder.position())).in_entry(entry).into()
}

pub(crate) fn skip_by_reading<R: Read>(input: &mut Input<R>, bytes: u64) -> Result<()> {
    input.skip(bytes, "within the data")
}

/// How far the block has been read that the input is in.
#[derive(Debug)]
pub(crate) struct OpenBlock<R> {
    pub(crate) dump_id: i32,
    /// Tells it from other openings of the same block; 0 for whoever opens each block once.
    pub(crate) number: u32,
    pub(crate) content: Content<R>,
}

#[derive(Debug)]
pub(crate) enum Content<R> {
    Data(Encoding, BodyState),
    LargeObjects(Objects<R>),
}

impl<R: Read> OpenBlock<R> {
    pub(crate) fn new(dump_id: i32, content: Content<R>) -> Self {
        Self { dump_id, number: 0, content }
    }

    /// Passes over what is left of it by `skip`, which takes a number of bytes.
    pub(crate) fn skip_rest(
        &mut self,
        source: &mut Source<R>,
        limits: &Limits,
        mut named: Option<&mut NamedObjects>,
        skip: fn(&mut Input<R>, u64) -> Result<()>,
    ) -> Result<()> {
        match &mut self.content {
            Content::Data(_, body) => body.skip_rest(&mut source.input, skip),
            Content::LargeObjects(objects) => {
                let reading = Reading { dump_id: self.dump_id, number: self.number };
                while next_named(source, objects, limits, reading, named.as_deref_mut(), skip)?.is_some() {}
                Ok(())
            }
        }
    }

    /// What a caller reads the block with.
    pub(crate) fn present<'a>(
        &'a mut self,
        entry: &'a TocEntry,
        limits: &'a Limits,
        source: &'a mut Source<R>,
        named: Option<&'a mut NamedObjects>,
    ) -> Block<'a, R> {
        let reading = Reading { dump_id: self.dump_id, number: self.number };
        match &mut self.content {
            Content::Data(encoding, body) => {
                let decoder = Decoder::new(&mut source.input, body, *encoding, limits);
                Block::Data(EntryData { entry, limits, decoder })
            }
            Content::LargeObjects(objects) => {
                Block::LargeObjects(LargeObjects { entry, limits, source, objects, reading, named })
            }
        }
    }
}
