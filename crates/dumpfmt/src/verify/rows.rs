//! Counting rows, and hashing them, without keeping any.

use std::io::{self, Read};

use memchr::{memchr, memchr_iter, memmem, memrchr};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::rows::{Position, Tail, data_after_end, no_end};
use crate::statement::CopyStatement;
use crate::toc::TocEntry;

/// Reads COPY text to its end, by the rules of [`Rows`](crate::Rows). `digest` takes the rows, without their end.
pub(crate) fn count_rows<D: Read + Position>(
    data: &mut D,
    buffer: &mut [u8],
    mut digest: Option<&mut Sha256>,
    progress: &mut impl FnMut(u64),
) -> Result<RowCount> {
    let mut count = RowCount::default();
    // A row's begin is hashed only when it is known not to be the end.
    let mut hashed = 0;
    loop {
        let offset = data.position();
        let read = fill(data, buffer).map_err(|e| Error::from_io(e, data.position()))?;
        if read == 0 {
            return match count.place {
                Place::AfterEnd(_) => Ok(count),
                place => Err(Error::new(no_end(place == Place::BeginOfRow), offset)),
            };
        }
        expect_text(&buffer[..read], data.position())?;
        let before = count.bytes;
        if !count.take(&buffer[..read]) {
            return Err(Error::new(data_after_end(), data.position()));
        }
        if let Some(digest) = &mut digest {
            // What looked like the end at the end of the piece before, when it was not.
            let held = count.certain_bytes().min(before).saturating_sub(hashed) as usize;
            digest.update(&b"\\."[..held.min(2)]);
            let piece = count.certain_bytes().saturating_sub(before) as usize;
            digest.update(&buffer[..piece.min(read)]);
            hashed = count.certain_bytes();
        }
        progress(data.position());
    }
}

/// No text of PostgreSQL has a byte 0, but each number between the chunks of an archive: with a damaged length one of those is
/// taken for data.
pub(crate) fn expect_text(piece: &[u8], offset: u64) -> Result<()> {
    match memchr(0, piece) {
        None => Ok(()),
        Some(_) => Err(Error::corrupt("there is a byte 0 in text, which has none", offset)),
    }
}

/// Whether rows with so many tabs have as many fields as columns are copied; `offset` is where they end.
pub(crate) fn expect_fields(entry: &TocEntry, rows: u64, tabs: u64, offset: u64) -> Result<()> {
    match CopyStatement::of(entry).map_or(0, |copy| copy.columns.len() as u64) {
        // A table without columns, or a statement that does not name them.
        0 => Ok(()),
        columns if tabs == rows * (columns - 1) => Ok(()),
        columns => {
            let text = format!("{rows} rows of {columns} columns have {} fields", tabs + rows);
            Err(Error::corrupt(text, offset))
        }
    }
}

/// Reads until `buffer` is full or the data ends.
pub(crate) fn fill(data: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match data.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Counts the rows of COPY text that comes in pieces, none of which it keeps.
#[derive(Debug, Default)]
pub(crate) struct RowCount {
    pub(crate) rows: u64,
    /// Before the line `\.`.
    pub(crate) bytes: u64,
    /// Between the fields.
    pub(crate) tabs: u64,
    place: Place,
}

/// What precedes the next byte on its line: all that is to be known of a row to
/// see whether it is `\.`.
#[derive(Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    BeginOfRow,
    AfterBackslash,
    AfterBackslashDot,
    WithinRow,
    /// The line `\.`, and what was there since.
    AfterEnd(Tail),
}

impl RowCount {
    /// Takes the next piece; false when data follows the end.
    pub(crate) fn take(&mut self, mut piece: &[u8]) -> bool {
        // The first bytes of a row one by one. Nearly always it is one.
        while !matches!(self.place, Place::WithinRow | Place::AfterEnd(_)) {
            let Some((&byte, rest)) = piece.split_first() else { return true };
            self.step(byte);
            piece = rest;
        }
        if self.place == Place::WithinRow {
            let end = memmem::find(piece, b"\n\\.\n");
            let (rows, rest) = piece.split_at(end.map_or(piece.len(), |newline| newline + 1));
            self.rows += memchr_iter(b'\n', rows).count() as u64;
            self.tabs += memchr_iter(b'\t', rows).count() as u64;
            self.bytes += rows.len() as u64;
            self.place = match (end, memrchr(b'\n', rows).map(|newline| &rows[newline + 1..])) {
                (Some(_), _) => Place::AfterEnd(Tail::default()),
                (None, Some(b"")) => Place::BeginOfRow,
                (None, Some(b"\\")) => Place::AfterBackslash,
                (None, Some(b"\\.")) => Place::AfterBackslashDot,
                (None, _) => Place::WithinRow,
            };
            piece = rest.get(b"\\.\n".len()..).unwrap_or_default();
        }
        match &mut self.place {
            Place::AfterEnd(tail) => tail.take(piece),
            _ => true,
        }
    }

    /// Bytes that belong to rows, whatever follows.
    fn certain_bytes(&self) -> u64 {
        match self.place {
            Place::AfterBackslash => self.bytes - 1,
            Place::AfterBackslashDot => self.bytes - 2,
            _ => self.bytes,
        }
    }

    fn step(&mut self, byte: u8) {
        self.bytes += 1;
        self.tabs += u64::from(byte == b'\t');
        self.place = match (&self.place, byte) {
            (Place::BeginOfRow, b'\\') => Place::AfterBackslash,
            (Place::AfterBackslash, b'.') => Place::AfterBackslashDot,
            (Place::AfterBackslashDot, b'\n') => {
                self.bytes -= b"\\.\n".len() as u64;
                Place::AfterEnd(Tail::default())
            }
            (_, b'\n') => {
                self.rows += 1;
                Place::BeginOfRow
            }
            _ => Place::WithinRow,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rows::Rows;

    /// Gives no more at once than is asked of it.
    struct Slowly<'a>(&'a [u8], usize);

    impl Read for Slowly<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let step = self.1.min(out.len());
            self.0.read(&mut out[..step])
        }
    }

    impl Position for Slowly<'_> {
        fn position(&self) -> u64 {
            0
        }
    }

    /// Rows, bytes, digest.
    type Counted = (u64, u64, [u8; 32]);

    fn by_count(data: &[u8], buffer: usize) -> Result<Counted, String> {
        let mut data = Slowly(data, buffer);
        let mut digest = Sha256::new();
        let count = count_rows(&mut data, &mut vec![0; buffer], Some(&mut digest), &mut |_| {});
        let count = count.map_err(|e| e.kind().to_string())?;
        Ok((count.rows, count.bytes, digest.finalize().into()))
    }

    fn by_rows(data: &[u8], step: usize) -> Result<Counted, String> {
        let mut rows = Rows::new(Slowly(data, step), 1 << 30, "TABLE DATA t".into(), true);
        let (mut count, mut bytes, mut digest) = (0, 0, Sha256::new());
        loop {
            match rows.next_row() {
                Ok(Some(row)) => {
                    (count, bytes) = (count + 1, bytes + row.raw().len() as u64 + 1);
                    digest.update(row.raw());
                    digest.update(b"\n");
                }
                Ok(None) => return Ok((count, bytes, digest.finalize().into())),
                Err(e) => return Err(e.kind().to_string()),
            }
        }
    }

    #[test]
    fn rows_are_counted_however_they_are_cut() {
        let whole = b"a\n\\\n\\.b\n\n\\.\n\n\n";
        for buffer in 1..=whole.len() {
            assert_eq!(by_count(whole, buffer), Ok((4, 9, Sha256::digest(b"a\n\\\n\\.b\n\n").into())));
            for length in 0..whole.len() - 2 {
                assert!(by_count(&whole[..length], buffer).unwrap_err().contains("cut short"), "{length}");
            }
            let more = [&whole[..], b"b\n"].concat();
            assert!(by_count(&more, buffer).unwrap_err().contains("data follows"));
        }
    }

    proptest! {
        #[test]
        fn rows_and_their_count_agree(
            text in "([a\\\\.\n]|\n\\\\\\.\n){0,40}",
            end in prop::sample::select(&["", "\\.\n", "\n\\.\n\n\n", "\n\\.\n\n\nb", "\n\\.\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n"][..]),
            buffer in 1_usize..50,
        ) {
            let data = [text, end.to_owned()].concat();
            prop_assert_eq!(by_count(data.as_bytes(), buffer), by_rows(data.as_bytes(), buffer));
        }
    }
}
