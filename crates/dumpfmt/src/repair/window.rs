//! A part of a file as if it were all of it.

use std::io::{self, Read, Seek, SeekFrom};

/// The bytes of `inner` from one on, and up to another one.
#[derive(Debug)]
pub(crate) struct Window<R> {
    inner: R,
    start: u64,
    /// Bytes of the window; `None` for all that there are.
    length: Option<u64>,
    /// How many bytes 0 there seem to be behind it.
    zeros: u64,
    position: u64,
}

impl<R: Read + Seek> Window<R> {
    /// The window, placed at its first byte.
    pub(crate) fn new(mut inner: R, start: u64, length: Option<u64>) -> io::Result<Self> {
        inner.seek(SeekFrom::Start(start))?;
        Ok(Self { inner, start, length, zeros: 0, position: 0 })
    }

    /// A window that seems to have so many bytes 0 behind its end.
    pub(crate) fn followed_by_zeros(self, zeros: u64) -> Self {
        Self { zeros, ..self }
    }
}

impl<R: Read> Read for Window<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self.length.map_or(u64::MAX, |length| length.saturating_sub(self.position));
        if left == 0 && self.zeros > 0 {
            let behind = self.length.map_or(0, |length| self.position - length);
            let step = out.len().min(usize::try_from(self.zeros.saturating_sub(behind)).unwrap_or(usize::MAX));
            out[..step].fill(0);
            self.position += step as u64;
            return Ok(step);
        }
        let most = out.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.inner.read(&mut out[..most])?;
        self.position += read as u64;
        Ok(read)
    }
}

impl<R: Seek> Seek for Window<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "a position before the begin of the archive");
        let position = match to {
            SeekFrom::Start(position) => position,
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance).ok_or_else(invalid)?,
            SeekFrom::End(distance) => {
                let length = match self.length {
                    Some(length) => length,
                    None => self.inner.seek(SeekFrom::End(0))?.saturating_sub(self.start),
                };
                length.checked_add_signed(distance).ok_or_else(invalid)?
            }
        };
        let place = self.start.checked_add(position).ok_or_else(invalid)?;
        self.inner.seek(SeekFrom::Start(place))?;
        self.position = position;
        Ok(position)
    }
}
