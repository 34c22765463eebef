//! Proof that an archive is whole.

use std::io::{self, Read};

use memchr::{memchr_iter, memmem, memrchr};

use crate::block::{Block, EntryData};
use crate::error::{Error, Result};
use crate::reader::ArchiveReader;
use crate::rows::{Position, Tail, data_after_end, no_end};

/// What is decompressed at once.
const BUFFER_BYTES: usize = 256 << 10;

/// What [`ArchiveReader::verify`] found in one entry that has data.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedEntry {
    /// The entry.
    pub dump_id: i32,
    /// Rows of COPY text; `None` for INSERT statements and large objects.
    pub rows: Option<u64>,
    /// Large objects; `None` for the rows of a table.
    pub large_objects: Option<u64>,
    /// Bytes of the data when decompressed, without the `\.` that ends rows.
    pub bytes: u64,
}

impl<R: Read> ArchiveReader<R> {
    /// Decodes every block from here to the end of the archive and returns what
    /// each held. Success means that the archive is complete: each entry that
    /// must have data has it once, every compressed stream and all COPY text
    /// ends as it should, and nothing follows the last block.
    ///
    /// Damage that leaves all of this intact cannot be seen: of the
    /// compressions of pg_dump only gzip carries a checksum.
    ///
    /// Nothing is kept of what is decompressed, not even a row: the memory that
    /// it takes does not depend on the data.
    ///
    /// `progress` is called with the position in the archive after each piece.
    ///
    /// # Errors
    ///
    /// At the first damage.
    pub fn verify(&mut self, mut progress: impl FnMut(u64)) -> Result<Vec<VerifiedEntry>> {
        let mut verified = Vec::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let position = self.position();
            let Some(block) = self.next_block()? else { return Ok(verified) };
            let mut entry =
                VerifiedEntry { dump_id: block.entry().dump_id(), rows: None, large_objects: None, bytes: 0 };
            match block {
                Block::Data(mut data) if data.entry().copy_statement().is_some_and(|s| !s.is_empty()) => {
                    let before = data.total_position() - data.position();
                    let counted = count_rows(&mut data, &mut buffer, &mut |position| progress(before + position));
                    let RowCount { rows, bytes, .. } = counted.map_err(|e| data.locate(e))?;
                    (entry.rows, entry.bytes) = (Some(rows), bytes);
                }
                Block::Data(data) => entry.bytes = drain_data(data, &mut progress)?,
                Block::LargeObjects(mut objects) => {
                    let mut count = 0;
                    while let Some(mut object) = objects.next_object()? {
                        entry.bytes += drain(&mut object, position)?;
                        count += 1;
                    }
                    entry.large_objects = Some(count);
                }
            }
            progress(self.position());
            verified.push(entry);
        }
    }
}

fn drain_data<R: Read>(mut data: EntryData<'_, R>, progress: &mut impl FnMut(u64)) -> Result<u64> {
    let position = data.position();
    let bytes = drain(&mut data, position)?;
    progress(data.total_position());
    Ok(bytes)
}

fn drain(data: &mut impl Read, position: u64) -> Result<u64> {
    io::copy(data, &mut io::sink()).map_err(|e| Error::from_io(e, position))
}

/// Reads COPY text to its end, by the rules of [`Rows`](crate::Rows).
fn count_rows<D: Read + Position>(data: &mut D, buffer: &mut [u8], progress: &mut impl FnMut(u64)) -> Result<RowCount> {
    let mut count = RowCount::default();
    loop {
        let offset = data.position();
        let read = fill(data, buffer).map_err(|e| Error::from_io(e, data.position()))?;
        if read == 0 {
            return match count.place {
                Place::AfterEnd(_) => Ok(count),
                place => Err(Error::new(no_end(place == Place::BeginOfRow), offset)),
            };
        }
        if !count.take(&buffer[..read]) {
            return Err(Error::new(data_after_end(), data.position()));
        }
        progress(data.position());
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
struct RowCount {
    rows: u64,
    /// Before the line `\.`.
    bytes: u64,
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
    fn take(&mut self, mut piece: &[u8]) -> bool {
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

    fn step(&mut self, byte: u8) {
        self.bytes += 1;
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

    fn by_count(data: &[u8], buffer: usize) -> Result<(u64, u64), String> {
        let mut data = Slowly(data, buffer);
        let count = count_rows(&mut data, &mut vec![0; buffer], &mut |_| {}).map_err(|e| e.kind().to_string())?;
        Ok((count.rows, count.bytes))
    }

    fn by_rows(data: &[u8], step: usize) -> Result<(u64, u64), String> {
        let mut rows = Rows::new(Slowly(data, step), 1 << 30, "TABLE DATA t".into(), true);
        let mut sum = (0, 0);
        loop {
            match rows.next_row() {
                Ok(Some(row)) => sum = (sum.0 + 1, sum.1 + row.raw().len() as u64 + 1),
                Ok(None) => return Ok(sum),
                Err(e) => return Err(e.kind().to_string()),
            }
        }
    }

    #[test]
    fn rows_are_counted_however_they_are_cut() {
        let whole = b"a\n\\\n\\.b\n\n\\.\n\n\n";
        for buffer in 1..=whole.len() {
            assert_eq!(by_count(whole, buffer), Ok((4, 9)));
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
