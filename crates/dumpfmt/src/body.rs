//! The stored bytes of one body: the data of an entry, or one large object, as
//! pg_dump wrote them, still compressed.
//!
//! In the custom format they are a row of chunks, each behind its length, ended by
//! the length 0. In a tar they are a member, in a directory a file.

use std::io::{self, BufRead, Read};

use crate::error::{Error, ErrorKind, Result};
use crate::header::Compression;
use crate::input::{Input, MAX_INT_BYTES, decode_int};
use crate::tar;
use crate::toc::TocEntry;

/// How far a body has been read. It outlives the reader that borrows it, so that
/// the archive can pass over what the caller left.
#[derive(Debug, Clone)]
pub(crate) struct BodyState {
    framing: Framing,
    /// Bytes of the body that follow before there is a decision to make.
    left: u64,
    ended: bool,
    /// Where it goes on is not known any more.
    is_lost: bool,
}

/// What tells where a body ends.
#[derive(Debug, Clone, Copy)]
enum Framing {
    /// The length before each chunk.
    Chunks { int_size: u8, limit: u64 },
    /// The header of a tar member; padding follows.
    Member,
    /// The length that a file had when it was opened; nothing follows.
    File,
}

impl BodyState {
    /// A body of the custom format. No chunk may exceed `limit` bytes.
    pub(crate) fn chunks(int_size: u8, limit: u64) -> Self {
        Self { framing: Framing::Chunks { int_size, limit }, left: 0, ended: false, is_lost: false }
    }

    /// The content of a tar member.
    pub(crate) fn member(length: u64) -> Self {
        Self { framing: Framing::Member, left: length, ended: false, is_lost: false }
    }

    /// A whole file.
    pub(crate) fn file(length: u64) -> Self {
        Self { framing: Framing::File, left: length, ended: false, is_lost: false }
    }

    /// Makes `left` count what follows; false at the end of the body.
    #[inline]
    fn advance<R: Read>(&mut self, input: &mut Input<R>) -> Result<bool> {
        if self.ended || self.left > 0 {
            return Ok(!self.ended);
        }
        if self.is_lost {
            return Err(Error::usage("no more data is read after an error"));
        }
        // Until the next length is known.
        self.is_lost = true;
        match self.framing {
            Framing::Chunks { int_size, limit } => {
                let offset = input.position();
                let length = input.int(int_size, "between two chunks of data")?;
                self.left = chunk_length(length, limit, offset)?;
            }
            Framing::Member => tar::skip_padding(input)?,
            Framing::File => expect_end_of_file(input)?,
        }
        self.is_lost = false;
        self.ended = self.left == 0;
        Ok(!self.ended)
    }

    /// Copies whole chunks that are in the buffer, as many as `out` takes, and returns how many bytes
    /// that was. It leaves everything else, errors among it, to [`advance`](Self::advance).
    fn take_chunks<R: Read>(&self, input: &mut Input<R>, out: &mut [u8]) -> usize {
        let Framing::Chunks { int_size: 4, limit } = self.framing else { return 0 };
        if self.ended || self.left > 0 {
            return 0;
        }
        let (mut passed, mut filled) = (0, 0);
        let buffer = input.buffer();
        while let Some((&[0, ref length @ ..], rest)) = buffer[passed..].split_first_chunk::<5>() {
            let length = u32::from_le_bytes(*length) as usize;
            if length == 0 || length as u64 > limit {
                break;
            }
            let (Some(chunk), Some(space)) = (rest.get(..length), out.get_mut(filled..filled + length)) else { break };
            space.copy_from_slice(chunk);
            filled += length;
            passed += 5 + length;
        }
        input.consume(passed);
        filled
    }

    /// Passes over the rest by `skip`, which takes a number of bytes.
    pub(crate) fn skip_rest<R: Read>(
        &mut self,
        input: &mut Input<R>,
        mut skip: impl FnMut(&mut Input<R>, u64) -> Result<()>,
    ) -> Result<()> {
        // The next file is opened anyhow.
        while !matches!(self.framing, Framing::File) && self.advance(input)? {
            skip(input, self.left)?;
            self.left = 0;
        }
        Ok(())
    }
}

fn chunk_length(length: i64, limit: u64, offset: u64) -> Result<u64> {
    let length =
        u64::try_from(length).map_err(|_| Error::corrupt(format!("a chunk of data claims {length} bytes"), offset))?;
    if length > limit {
        let kind = ErrorKind::LimitExceeded { what: "a chunk of data", limit, field: "chunk_bytes" };
        return Err(Error::new(kind, offset));
    }
    Ok(length)
}

fn expect_end_of_file<R: Read>(input: &mut Input<R>) -> Result<()> {
    if input.peek()?.is_empty() {
        return Ok(());
    }
    Err(Error::corrupt("the file became longer while it was read", input.position()))
}

/// The bytes of a body, chunk boundaries removed.
pub(crate) struct Body<'a, R> {
    input: &'a mut Input<R>,
    state: &'a mut BodyState,
}

impl<'a, R> Body<'a, R> {
    pub(crate) fn new(input: &'a mut Input<R>, state: &'a mut BodyState) -> Self {
        Self { input, state }
    }

    pub(crate) fn input(&self) -> &Input<R> {
        self.input
    }
}

impl<R: Read> BufRead for Body<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if !self.state.advance(self.input)? {
            return Ok(&[]);
        }
        let limit = self.state.left;
        let offset = self.input.position();
        let available = self.input.peek()?;
        if available.is_empty() {
            return Err(Error::truncated("within the data", offset).into());
        }
        Ok(&available[..available.len().min(usize::try_from(limit).unwrap_or(usize::MAX))])
    }

    fn consume(&mut self, bytes: usize) {
        self.state.left -= bytes as u64;
        self.input.consume(bytes);
    }
}

impl<R: Read> Read for Body<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        // Fills `out` over several chunks: uncompressed dumps have one for each row.
        let mut filled = 0;
        while filled < out.len() {
            filled += self.state.take_chunks(self.input, &mut out[filled..]);
            let available = self.fill_buf()?;
            if available.is_empty() {
                break;
            }
            let step = available.len().min(out.len() - filled);
            out[filled..filled + step].copy_from_slice(&available[..step]);
            self.consume(step);
            filled += step;
        }
        Ok(filled)
    }
}

/// The bytes of a body exactly as they are stored: for copying them unread.
///
/// In the custom format that is every chunk behind its length, up to and with the
/// length 0 that ends them; the lengths are checked on the way. In a tar and in a
/// directory it is the content of the member or file.
pub struct StoredBytes<'a, R: Read> {
    entry: &'a TocEntry,
    compression: Compression,
    body: Body<'a, R>,
    /// Bytes of the last piece that are still in the input's buffer.
    pending: usize,
    /// A length that lay across the end of the buffer.
    length: [u8; MAX_INT_BYTES],
}

impl<'a, R: Read> StoredBytes<'a, R> {
    pub(crate) fn new(entry: &'a TocEntry, compression: Compression, body: Body<'a, R>) -> Self {
        Self { entry, compression, body, pending: 0, length: [0; MAX_INT_BYTES] }
    }

    /// How the bytes are compressed. In a directory that is told by each file's name.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    pub(crate) fn input(&self) -> &Input<R> {
        self.body.input
    }

    pub(crate) fn state(&self) -> &BodyState {
        self.body.state
    }

    /// The next bytes, as many as are in memory; `None` after the last ones.
    ///
    /// # Errors
    ///
    /// When the archive is cut short, or a chunk has an impossible length.
    pub fn next_piece(&mut self) -> Result<Option<&[u8]>> {
        self.settle();
        let before = self.body.input.position();
        let piece = match self.body.state.framing {
            Framing::Chunks { int_size, limit } => self.walk_chunks(int_size, limit),
            Framing::Member | Framing::File => {
                self.body.fill_buf().map(|bytes| (bytes.len(), false)).map_err(|e| Error::from_io(e, before))
            }
        };
        let (bytes, across) = match piece {
            Ok(piece) => piece,
            Err(e) => return Err(self.body.input.locate(e).in_entry(self.entry)),
        };
        if across {
            return Ok(Some(&self.length[..bytes]));
        }
        if bytes == 0 {
            return Ok(None);
        }
        if !matches!(self.body.state.framing, Framing::Chunks { .. }) {
            self.body.state.left -= bytes as u64;
        }
        self.pending = bytes;
        Ok(self.body.input.peek()?.get(..bytes))
    }

    /// Walks over the chunks in the buffer. Returns how many bytes of it they
    /// take, or how many `length` holds (and true).
    fn walk_chunks(&mut self, int_size: u8, limit: u64) -> Result<(usize, bool)> {
        const PLACE: &str = "between two chunks of data";
        let Body { input, state } = &mut self.body;
        if state.ended {
            return Ok((0, false));
        }
        let begin = input.position();
        let int_bytes = 1 + usize::from(int_size);
        let buffer = input.peek()?;
        if buffer.is_empty() {
            return Err(Error::truncated(if state.left > 0 { "within the data" } else { PLACE }, begin));
        }
        let mut walked = 0;
        while !state.ended {
            let rest = &buffer[walked..];
            if state.left > 0 {
                let step = rest.len().min(usize::try_from(state.left).unwrap_or(usize::MAX));
                walked += step;
                state.left -= step as u64;
                if state.left > 0 {
                    break;
                }
                continue;
            }
            let Some(int) = rest.get(..int_bytes) else { break };
            let offset = begin + walked as u64;
            state.left = chunk_length(decode_int(int, offset)?, limit, offset)?;
            state.ended = state.left == 0;
            walked += int_bytes;
        }
        if walked > 0 {
            return Ok((walked, false));
        }
        for byte in &mut self.length[..int_bytes] {
            *byte = input.byte(PLACE)?;
        }
        state.left = chunk_length(decode_int(&self.length[..int_bytes], begin)?, limit, begin)?;
        state.ended = state.left == 0;
        Ok((int_bytes, true))
    }

    fn settle(&mut self) {
        self.body.input.consume(std::mem::take(&mut self.pending));
    }
}

impl<R: Read> Drop for StoredBytes<'_, R> {
    fn drop(&mut self) {
        // What was given out is behind the reader, also when nothing more is asked for.
        self.settle();
    }
}

impl<R: Read> std::fmt::Debug for StoredBytes<'_, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredBytes").field("entry", &self.entry.to_string()).finish_non_exhaustive()
    }
}
