//! The piece of a script that is in memory, and where it is.

use std::io::{self, Read};

use memchr::{memchr, memchr_iter};

use crate::error::{Error, ErrorKind, Result};

/// What is read at once, and kept at first.
const BUFFER_BYTES: usize = 256 << 10;

/// So many of the first bytes are kept.
const FIRST_BYTES: usize = 64;

/// A script from some byte on, of which as much is in memory as was asked for. It ends at a byte 0, which no text has.
#[derive(Debug)]
pub(super) struct Text<R> {
    input: R,
    buffer: Vec<u8>,
    /// Of what is in `buffer`, that has not been passed over yet.
    begin: usize,
    end: usize,
    /// The byte of the script, counted from 0, and the line, counted from 1, at which `buffer` begins.
    offset: u64,
    line: u64,
    has_zero: bool,
    first: Vec<u8>,
}

impl<R: Read> Text<R> {
    pub(super) fn new(input: R) -> Self {
        let (buffer, first) = (vec![0; BUFFER_BYTES], Vec::new());
        Self { input, buffer, begin: 0, end: 0, offset: 0, line: 1, has_zero: false, first }
    }

    /// The first bytes of all: those that were read, and of the ones behind them as many as can be had. Nothing is read
    /// as script after that.
    pub(super) fn first(&mut self) -> &[u8] {
        let missing = FIRST_BYTES - self.first.len();
        // What is wrong with them is no matter: that the script cannot be read is known.
        _ = (&mut self.input).take(missing as u64).read_to_end(&mut self.first);
        &self.first
    }

    /// What is in memory.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.begin..self.end]
    }

    /// The byte `at` so many behind the first one, if the script does not end before.
    pub(super) fn byte(&mut self, at: usize) -> Result<Option<u8>> {
        while self.bytes().len() <= at {
            if !self.more()? {
                return Ok(None);
            }
        }
        Ok(self.bytes().get(at).copied())
    }

    /// Passes over so many bytes.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.begin = self.end.min(self.begin + bytes);
    }

    /// Reads on; false at the end.
    pub(super) fn more(&mut self) -> Result<bool> {
        if self.has_zero {
            let error = ErrorKind::Corrupt("there is a byte 0 in text, which has none".into());
            return Err(self.error(self.bytes().len(), error));
        }
        self.make_room();
        let read = loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(read) => break read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.error(self.bytes().len(), ErrorKind::Io(e))),
            }
        };
        let new = &self.buffer[self.end..self.end + read];
        self.first.extend_from_slice(&new[..read.min(FIRST_BYTES - self.first.len())]);
        let zero = memchr(0, new);
        self.end += zero.unwrap_or(read);
        self.has_zero = zero.is_some();
        // What is before the byte 0 is read first.
        if zero == Some(0) { self.more() } else { Ok(read > 0) }
    }

    fn make_room(&mut self) {
        if self.end < self.buffer.len() {
            return;
        }
        let passed = &self.buffer[..self.begin];
        self.line += memchr_iter(b'\n', passed).count() as u64;
        self.offset += passed.len() as u64;
        self.buffer.copy_within(self.begin..self.end, 0);
        (self.begin, self.end) = (0, self.end - self.begin);
        // So that what is moved is never much more than what is read.
        let length = self.buffer.len();
        if length - self.end < length / 4 {
            self.buffer.resize(length + length / 2, 0);
        }
    }

    /// The byte of the script `at` so many bytes behind the first one in memory.
    pub(super) fn offset(&self, at: usize) -> u64 {
        self.offset + (self.begin + at) as u64
    }

    /// The line that byte is in.
    pub(super) fn line(&self, at: usize) -> u64 {
        let before = &self.buffer[..self.end.min(self.begin + at)];
        self.line + memchr_iter(b'\n', before).count() as u64
    }

    /// An error noticed at that byte.
    pub(super) fn error(&self, at: usize, kind: ErrorKind) -> Error {
        Error::new(kind, self.offset(at)).in_line(self.line(at))
    }

    pub(super) fn corrupt(&self, at: usize, what: impl Into<String>) -> Error {
        self.error(at, ErrorKind::Corrupt(what.into()))
    }

    /// All that is in memory is the end of it, too early.
    pub(super) fn truncated(&self, place: impl Into<String>) -> Error {
        self.error(self.bytes().len(), ErrorKind::Truncated(place.into()))
    }
}
