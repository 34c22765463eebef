//! The blocks of a custom archive by their position, whatever else is damaged.

use std::io::{self, Read, Seek};

use crate::block::{Block, skip_by_reading};
use crate::error::{Error, ErrorKind, Result};
use crate::header::{Compression, Header, MAGIC};
use crate::input::{Input, decode_int};
use crate::limits::Limits;
use crate::source::{Layout, Source};
use crate::toc::{Toc, TocEntry};
use crate::write::sink::{BLOCK_DATA, BLOCK_LARGE_OBJECTS};

/// An archive in the custom format whose contents are known.
pub(crate) struct Blocks<'t, R> {
    source: Source<R>,
    header: &'t Header,
    toc: &'t Toc,
    limits: &'t Limits,
}

/// What is to be done with the part of a block that was not read.
#[derive(Clone, Copy)]
pub(crate) enum Rest {
    /// Passed over by reading it.
    Read,
    /// Passed over without reading it.
    Seek,
    /// Left where it is.
    Leave,
}

/// What seems to begin at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begins {
    /// The data of this entry.
    Block(i32),
    /// The table of contents, again.
    Contents,
    /// Nothing: the file ends.
    EndOfFile,
    /// The file ends within what could be the head of a block.
    CutHead,
    /// Something else.
    Other,
}

impl<'t, R: Read + Seek> Blocks<'t, R> {
    /// `archive` begins with its first byte.
    pub(crate) fn new(archive: R, header: &'t Header, toc: &'t Toc, limits: &'t Limits) -> Self {
        Self { source: Source { input: Input::new(archive), layout: Layout::Custom }, header, toc, limits }
    }

    /// Where it was read up to.
    pub(crate) fn position(&self) -> u64 {
        self.source.input.position()
    }

    /// Whether what is in the blocks is compressed.
    pub(crate) fn is_compressed(&self) -> bool {
        self.header.compression != Compression::None
    }

    /// What the bytes at `position` are, by the first few of them.
    pub(crate) fn begins_at(&mut self, position: u64) -> Result<Begins> {
        let bytes = self.peek(position, head_bytes(self.header))?;
        Ok(begins(&bytes, self.header, self.toc, self.limits))
    }

    /// Whether there is what no text holds among the next few bytes: the numbers of an archive all have some.
    pub(crate) fn is_binary(&mut self, position: u64) -> Result<bool> {
        Ok(self.peek(position, head_bytes(self.header))?.contains(&0))
    }

    /// Whether it is the begin of another archive.
    pub(crate) fn begins_archive(&mut self, position: u64) -> Result<bool> {
        Ok(self.peek(position, MAGIC.len())? == MAGIC)
    }

    /// Up to `count` bytes at a position.
    fn peek(&mut self, position: u64, count: usize) -> Result<Vec<u8>> {
        let input = &mut self.source.input;
        input.seek_to(position)?;
        let mut bytes = Vec::with_capacity(count);
        while bytes.len() < count {
            let Some(byte) = input.next_byte()? else { break };
            bytes.push(byte);
        }
        input.seek_to(position)?;
        Ok(bytes)
    }

    /// Has the block at `position` read by `take`. Returns what that returns, and where the block ends.
    pub(crate) fn read<T>(
        &mut self,
        position: u64,
        rest: Rest,
        take: impl FnOnce(Block<'_, R>) -> Result<T>,
    ) -> Result<(T, u64)> {
        let Self { source, header, toc, limits } = self;
        source.input.seek_to(position)?;
        let open = source.next_block(header, toc, limits, 0)?;
        let Some(mut open) = open else { return Err(Error::truncated("before a block of data", position)) };
        // `next_block` has looked it up.
        let Some(entry) = toc.get(open.dump_id) else {
            return Err(Error::corrupt("a block of data of an unknown entry", position));
        };
        let taken = take(open.present(entry, limits, source, None)).map_err(|e| e.in_entry(entry))?;
        let skipped = match rest {
            Rest::Read => open.skip_rest(source, limits, None, skip_by_reading),
            Rest::Seek => open.skip_rest(source, limits, None, seek_over),
            Rest::Leave => Ok(()),
        };
        skipped.map_err(|e| e.in_entry(entry))?;
        Ok((taken, source.input.position()))
    }

    /// Passes over the table of contents that is repeated at `position`. Returns where it ends.
    pub(crate) fn repeated_contents(&mut self, position: u64) -> Result<u64> {
        self.source.input.seek_to(position)?;
        self.toc.read_repetition(&mut self.source.input, self.header)?;
        Ok(self.position())
    }

    /// The end of the last chunk of the data block at `position` that has the length of another one, or the end,
    /// behind it: what comes later could belong to something else. `None` when there is no such chunk.
    pub(crate) fn end_of_whole_chunks(&mut self, position: u64) -> Result<Option<u64>> {
        let size = self.header.int_size;
        let input = &mut self.source.input;
        // The type and the dump ID.
        input.seek_to(position + 2 + u64::from(size))?;
        let (mut before, mut end) = (None, None);
        loop {
            let length = match input.int(size, "") {
                Ok(length) => u64::try_from(length).ok().filter(|&length| length <= self.limits.chunk_bytes),
                Err(e) if matches!(e.kind(), ErrorKind::Io(_)) => return Err(e),
                Err(_) => None,
            };
            let Some(length) = length else { return Ok(end) };
            end = before;
            if length == 0 {
                return Ok(end);
            }
            seek_over(input, length)?;
            before = Some(input.position());
        }
    }

    /// The first position from `from` on at which a block of an entry may begin for which `wanted` is true.
    pub(crate) fn find_head(&mut self, from: u64, wanted: impl Fn(i32) -> bool) -> Result<Option<(u64, i32)>> {
        let (header, toc, limits) = (self.header, self.toc, self.limits);
        let needed = head_bytes(header);
        let input = &mut self.source.input;
        input.seek_to(from)?;
        // What was left of the bytes before, and the next ones behind it.
        let mut window: Vec<u8> = Vec::new();
        let mut start = from;
        loop {
            let available = input.peek()?;
            let (count, ended) = (available.len(), available.is_empty());
            window.extend_from_slice(available);
            input.consume(count);
            let (mut place, mut begun) = (0, None);
            while let Some(found) = memchr::memchr2(BLOCK_DATA, BLOCK_LARGE_OBJECTS, &window[place..]) {
                place += found;
                let head = &window[place..];
                if head.len() < needed && !ended {
                    // It goes on in the next bytes.
                    begun = Some(place);
                    break;
                }
                if let Begins::Block(dump_id) = begins(&head[..head.len().min(needed)], header, toc, limits)
                    && wanted(dump_id)
                {
                    return Ok(Some((start + place as u64, dump_id)));
                }
                place += 1;
            }
            if ended {
                return Ok(None);
            }
            let done = begun.unwrap_or(window.len());
            window.drain(..done);
            start += done as u64;
        }
    }
}

/// Passes over bytes without reading them, if they are all there: behind the end of the file there is no chunk.
fn seek_over<R: Read + Seek>(input: &mut Input<R>, bytes: u64) -> Result<()> {
    input.seek_to(input.position().saturating_add(bytes))
}

/// Bytes that `begins` wants to see: type, dump ID, and the number behind it.
fn head_bytes(header: &Header) -> usize {
    1 + 2 * (1 + usize::from(header.int_size))
}

fn begins(bytes: &[u8], header: &Header, toc: &Toc, limits: &Limits) -> Begins {
    let int_bytes = 1 + usize::from(header.int_size);
    let Some((&kind, rest)) = bytes.split_first() else { return Begins::EndOfFile };
    if kind == 0 {
        // A number, of entries: there are none of the type 0.
        let count = bytes.get(..int_bytes).and_then(|count| decode_int(count, 0).ok());
        return match count {
            Some(count) if usize::try_from(count) == Ok(toc.entries().len()) => Begins::Contents,
            None if bytes.len() < int_bytes => Begins::CutHead,
            _ => Begins::Other,
        };
    }
    if kind != BLOCK_DATA && kind != BLOCK_LARGE_OBJECTS {
        return Begins::Other;
    }
    let (Some(id), Some(number)) = (rest.get(..int_bytes), rest.get(int_bytes..2 * int_bytes)) else {
        return Begins::CutHead;
    };
    let entry = decode_int(id, 0).ok().and_then(|id| i32::try_from(id).ok()).and_then(|id| toc.get(id));
    let Some(entry) = entry.filter(|entry| can_have_block(entry, kind)) else { return Begins::Other };
    let Ok(number) = decode_int(number, 0) else { return Begins::Other };
    let plausible = if kind == BLOCK_DATA {
        u64::try_from(number).is_ok_and(|length| length <= limits.chunk_bytes)
    } else {
        // As for the reader: an OID of 2^31 or more shows as negative.
        (i64::from(i32::MIN)..=i64::from(u32::MAX)).contains(&number)
    };
    if plausible { Begins::Block(entry.dump_id()) } else { Begins::Other }
}

fn can_have_block(entry: &TocEntry, kind: u8) -> bool {
    entry.has_data() && entry.is_large_objects() == (kind == BLOCK_LARGE_OBJECTS)
}

/// The length of what can be read, whose begin is gone back to.
pub(crate) fn length(archive: &mut impl Seek) -> Result<u64> {
    let length = archive.seek(io::SeekFrom::End(0)).and_then(|length| archive.rewind().map(|()| length));
    length.map_err(|e| Error::new(ErrorKind::Io(e), 0))
}
