//! The archive's bytes with their position, and the format's two primitives.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use crate::error::{Error, ErrorKind, Result};

/// Large enough that a chunk of any pg_dump fits a few times.
const BUFFER_BYTES: usize = 256 << 10;
/// Texts are taken in pieces of this size, so that a length which the file only
/// claims costs nothing.
const STEP_BYTES: u64 = 64 << 10;

/// The bytes of the longest `Int`: pg_restore takes no larger one either.
pub(crate) const MAX_INT_BYTES: usize = 33;

/// A buffered input that knows how many bytes precede the next one.
#[derive(Debug)]
pub(crate) struct Input<R> {
    inner: BufReader<R>,
    position: u64,
    /// Bytes read of the files before this one.
    before: u64,
    /// The file's name within a directory.
    file: Option<Box<str>>,
}

impl<R> Input<R> {
    pub(crate) fn inner(&self) -> &R {
        self.inner.get_ref()
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// As [`position`](Self::position), with what was read of the files before.
    pub(crate) fn total_position(&self) -> u64 {
        self.before + self.position
    }

    /// Completes an error that was noticed in this input.
    pub(crate) fn locate(&self, error: Error) -> Error {
        match &self.file {
            Some(file) => error.in_file(file),
            None => error,
        }
    }

    pub(crate) fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }
}

impl<R: Read> Input<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner: BufReader::with_capacity(BUFFER_BYTES, inner), position: 0, before: 0, file: None }
    }

    pub(crate) fn of_file(inner: R, file: &str) -> Self {
        Self { file: Some(file.into()), ..Self::new(inner) }
    }

    /// The bytes of another input from this position on.
    pub(crate) fn starting_at(inner: R, position: u64, file: Option<Box<str>>) -> Self {
        Self { position, file, ..Self::new(inner) }
    }

    /// Goes on with another file, in the same buffer.
    pub(crate) fn replace(&mut self, inner: R, file: &str) {
        self.inner.consume(self.inner.buffer().len());
        *self.inner.get_mut() = inner;
        self.before += self.position;
        self.position = 0;
        self.file = Some(file.into());
    }

    /// The buffered bytes, at least one unless the input is at its end.
    pub(crate) fn peek(&mut self) -> Result<&[u8]> {
        if !self.inner.buffer().is_empty() {
            return Ok(self.inner.buffer());
        }
        let position = self.position;
        loop {
            match self.inner.fill_buf() {
                Ok(_) => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::from_io(e, position)),
            }
        }
        Ok(self.inner.buffer())
    }

    /// What is buffered already.
    pub(crate) fn buffer(&self) -> &[u8] {
        self.inner.buffer()
    }

    pub(crate) fn consume(&mut self, bytes: usize) {
        self.inner.consume(bytes);
        self.position += bytes as u64;
    }

    /// The next byte, or `None` at the end of the input.
    pub(crate) fn next_byte(&mut self) -> Result<Option<u8>> {
        let byte = self.peek()?.first().copied();
        if byte.is_some() {
            self.consume(1);
        }
        Ok(byte)
    }

    /// The next byte; `place` completes "the archive ends ...".
    pub(crate) fn byte(&mut self, place: &str) -> Result<u8> {
        let offset = self.position;
        self.next_byte()?.ok_or_else(|| Error::truncated(place, offset))
    }

    /// The next few bytes, as many as `out` takes.
    pub(crate) fn exact(&mut self, out: &mut [u8], place: &str) -> Result<()> {
        if let Some(bytes) = self.inner.buffer().get(..out.len()) {
            out.copy_from_slice(bytes);
            self.consume(out.len());
            return Ok(());
        }
        for byte in out {
            *byte = self.byte(place)?;
        }
        Ok(())
    }

    /// Passes over `count` bytes by reading them.
    pub(crate) fn skip(&mut self, mut count: u64, place: &str) -> Result<()> {
        while count > 0 {
            let offset = self.position;
            let available = self.peek()?.len() as u64;
            if available == 0 {
                return Err(Error::truncated(place, offset));
            }
            let step = available.min(count);
            self.consume(step as usize);
            count -= step;
        }
        Ok(())
    }

    /// An `Int`: a sign byte, then `size` bytes of magnitude, the lowest first.
    #[inline]
    pub(crate) fn int(&mut self, size: u8, place: &str) -> Result<i64> {
        // Uncompressed dumps have one for each row, nearly always whole in the buffer.
        if size == 4
            && let Some(&[sign @ (0 | 1), ref magnitude @ ..]) = self.inner.buffer().first_chunk::<5>()
        {
            let magnitude = i64::from(u32::from_le_bytes(*magnitude));
            self.consume(5);
            return Ok(if sign == 1 { -magnitude } else { magnitude });
        }
        self.int_by_byte(size, place)
    }

    fn int_by_byte(&mut self, size: u8, place: &str) -> Result<i64> {
        let offset = self.position;
        let mut bytes = [0; MAX_INT_BYTES];
        // The header's check keeps `size` below.
        let bytes = &mut bytes[..=usize::from(size)];
        self.exact(bytes, place)?;
        decode_int(bytes, offset)
    }

    /// A `Str`: an `Int` length, then that many bytes, appended to `out`.
    /// False for NULL, which a negative length stands for. `budget` is lowered
    /// by what is kept.
    pub(crate) fn text(&mut self, size: u8, out: &mut Vec<u8>, budget: &mut TextBudget, place: &str) -> Result<bool> {
        let offset = self.position;
        let Ok(mut remaining) = u64::try_from(self.int(size, place)?) else { return Ok(false) };
        budget.charge(remaining, offset)?;
        // Nearly always whole in the buffer.
        if let Some(text) = usize::try_from(remaining).ok().and_then(|length| self.inner.buffer().get(..length)) {
            out.extend_from_slice(text);
            self.consume(remaining as usize);
            return Ok(true);
        }
        while remaining > 0 {
            let before = out.len();
            let step = remaining.min(STEP_BYTES);
            let offset = self.position;
            let read = (&mut self.inner).take(step).read_to_end(out);
            let got = (out.len() - before) as u64;
            self.position += got;
            read.map_err(|e| Error::new(ErrorKind::Io(e), offset))?;
            if got < step {
                return Err(Error::truncated(place, self.position));
            }
            remaining -= step;
        }
        Ok(true)
    }
}

impl<R: Read + Seek> Input<R> {
    /// Goes to `position`, which may lie beyond the end: the next read tells.
    pub(crate) fn seek_to(&mut self, position: u64) -> Result<()> {
        let failed = |e| Error::new(ErrorKind::Io(e), position);
        // `seek_relative` keeps what is buffered when the way is short.
        match i64::try_from(i128::from(position) - i128::from(self.position)) {
            Ok(distance) => self.inner.seek_relative(distance).map_err(failed)?,
            Err(_) => return Err(Error::corrupt("a position lies beyond any file", position)),
        }
        self.position = position;
        Ok(())
    }

    /// The length of all that can be read. What is buffered is lost, and the position stays.
    pub(crate) fn length(&mut self) -> Result<u64> {
        let failed = |e| Error::new(ErrorKind::Io(e), self.position);
        let length = self.inner.seek(SeekFrom::End(0)).map_err(failed)?;
        self.inner.seek(SeekFrom::Start(self.position)).map_err(failed)?;
        Ok(length)
    }
}

/// The number that these bytes, which are at `offset`, stand for.
pub(crate) fn decode_int(bytes: &[u8], offset: u64) -> Result<i64> {
    let (&sign, digits) = bytes.split_first().unwrap_or((&0, &[]));
    if sign > 1 {
        let text = format!("a number has the sign byte {sign}, which is neither 0 nor 1");
        return Err(Error::corrupt(text, offset));
    }
    // Bytes past the seventh would not fit an i64; no field holds such a number.
    let (low, high) = digits.split_at(digits.len().min(7));
    if high.iter().any(|&byte| byte != 0) {
        return Err(Error::corrupt("a number is too large", offset));
    }
    let magnitude = low.iter().rev().fold(0, |sum, &byte| sum << 8 | i64::from(byte));
    Ok(if sign == 1 { -magnitude } else { magnitude })
}

/// What a table of contents may still take in memory.
#[derive(Debug)]
pub(crate) struct TextBudget {
    limit: u64,
    left: u64,
}

impl TextBudget {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, left: limit }
    }

    /// To be called before the memory is taken.
    pub(crate) fn charge(&mut self, bytes: u64, offset: u64) -> Result<()> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            let what = "the table of contents in memory";
            Error::new(ErrorKind::LimitExceeded { what, limit: self.limit, field: "toc_bytes" }, offset)
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(bytes: &[u8], size: u8) -> Result<i64> {
        Input::new(bytes).int(size, "in a number")
    }

    #[test]
    fn an_int_is_sign_and_magnitude_lowest_byte_first() {
        assert_eq!(int(&[0, 0x39, 0x30, 0, 0], 4).unwrap(), 12345);
        assert_eq!(int(&[1, 1, 0, 0, 0], 4).unwrap(), -1);
        assert_eq!(int(&[0, 7], 1).unwrap(), 7);
        assert_eq!(int(&[0, 7, 0, 0, 0, 0, 0, 0, 0], 8).unwrap(), 7);
        assert_eq!(int(&[1, 0, 0, 0, 0x80], 4).unwrap(), i64::from(i32::MIN));
    }

    #[test]
    fn an_int_that_is_cut_or_odd_is_an_error() {
        assert!(matches!(int(&[0, 1, 0], 4).unwrap_err().kind(), ErrorKind::Truncated(_)));
        assert!(matches!(int(&[2, 0, 0, 0, 0], 4).unwrap_err().kind(), ErrorKind::Corrupt(_)));
        assert!(matches!(int(&[0, 0, 0, 0, 0, 0, 0, 0, 1], 8).unwrap_err().kind(), ErrorKind::Corrupt(_)));
    }

    #[test]
    fn a_text_is_null_empty_or_bytes() {
        let mut budget = TextBudget::new(100);
        let mut out = Vec::new();
        let mut text = |bytes: &[u8], out: &mut Vec<u8>| {
            out.clear();
            Input::new(bytes).text(4, out, &mut budget, "in a text")
        };
        assert!(!text(&[1, 1, 0, 0, 0], &mut out).unwrap());
        assert!(text(&[0, 0, 0, 0, 0], &mut out).unwrap());
        assert!(out.is_empty());
        assert!(text(&[0, 2, 0, 0, 0, 0xff, b'x'], &mut out).unwrap());
        assert_eq!(out, [0xff, b'x']);
        let claimed = text(&[0, 0, 0, 0, 0x7f], &mut out).unwrap_err();
        assert!(matches!(claimed.kind(), ErrorKind::LimitExceeded { .. }), "{claimed}");
        assert!(matches!(text(&[0, 9, 0, 0, 0, b'x'], &mut out).unwrap_err().kind(), ErrorKind::Truncated(_)));
    }
}
