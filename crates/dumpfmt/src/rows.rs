//! COPY text as rows of raw fields.
//!
//! The rules are those of `COPY ... TO` in text format: fields end with a tab,
//! rows with a newline, `\N` alone is NULL, a backslash escapes, and `\.` alone
//! on a line ends the data.

mod index;

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read};
use std::ops::Range;

use index::{Found, Index};
use memchr::{memchr, memchr_iter, memmem, memrchr};

use crate::error::{Error, ErrorKind, Result};

/// What is read at once; rows that are longer make the buffer grow.
const BUFFER_BYTES: usize = 256 << 10;
/// What is read at first: many tables are small, and there may be thousands.
const FIRST_BUFFER_BYTES: usize = 16 << 10;

/// In how much of that the ends of fields are looked for at once: a part that stays in the
/// processor's caches, and a limit to the memory that it takes.
const INDEX_BYTES: usize = 64 << 10;
/// The line after the last row.
const END: &[u8] = b"\\.";

/// A source of bytes that knows its position in the archive.
pub(crate) trait Position {
    fn position(&self) -> u64;
}

/// The rows of a table, read one by one or in batches. One by one, their fields are found in one pass over many rows,
/// so that to look at all of them costs little. Memory is 256 KiB and up to 1 MiB for that, or up
/// to twice the longest row where that is more, but never above
/// [`Limits::row_bytes`](crate::Limits::row_bytes) and 256 KiB.
#[derive(Debug)]
pub struct Rows<D> {
    data: D,
    buffer: Vec<u8>,
    /// `buffer[start..end]` is read and not yet given out, but for the rows that `index` gave out.
    start: usize,
    end: usize,
    /// Some of the rows that begin at `start`, or none.
    index: Index,
    ended: bool,
    /// Nothing that comes after an error is given out.
    failed: bool,
    limit: u64,
    entry: String,
    copy_text: bool,
}

#[expect(private_bounds, reason = "callers get `Rows` from `EntryData` alone")]
impl<D: Read + Position> Rows<D> {
    pub(crate) fn new(data: D, limit: u64, entry: String, copy_text: bool) -> Self {
        Self {
            data,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            index: Index::default(),
            ended: false,
            failed: false,
            limit,
            entry,
            copy_text,
        }
    }

    /// The next row; `None` after the last one.
    ///
    /// # Errors
    ///
    /// When the archive is cut short or damaged, when the data does not end with
    /// `\.`, or when it is not COPY text; and again after an error.
    #[inline]
    pub fn next_row(&mut self) -> Result<Option<Row<'_>>> {
        let row = match self.index.next_row() {
            Some(row) if !self.is_end(row) => row,
            found => {
                let found_end = found.is_some();
                match self.unless_failed(|rows| rows.more_rows(found_end))? {
                    Some(row) => row,
                    None => return Ok(None),
                }
            }
        };
        Ok(Some(self.row(row)))
    }

    /// Reads on, unless that has failed before.
    fn unless_failed<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.failed {
            let text = "no more rows are read after an error";
            return Err(self.error(ErrorKind::Usage(text.into()), self.data.position()));
        }
        let result = read(self);
        if result.is_err() {
            self.failed = true;
            self.index.clear();
        }
        result
    }

    #[inline]
    fn is_end(&self, row: Found) -> bool {
        row.end - row.start == END.len() && self.row(row).raw() == END
    }

    #[inline]
    fn row(&self, found: Found) -> Row<'_> {
        let text = &self.buffer[self.start..self.start + found.end];
        Row { text, start: found.start as u32, ends: self.index.ends(found) }
    }

    /// Goes on where the index has no more rows, or only the line `\.`.
    fn more_rows(&mut self, end: bool) -> Result<Option<Found>> {
        self.leave_index();
        if end {
            self.expect_end()?;
        }
        if self.ended {
            return Ok(None);
        }
        if let Some(long) = self.find_rows()? {
            return Ok(Some(long));
        }
        match self.index.next_row() {
            Some(row) if self.is_end(row) => self.more_rows(true),
            row => Ok(row),
        }
    }

    /// Fills the index with rows that begin at `start`, reading more when there is no whole one. Returns
    /// the next row when that is too long for the index.
    fn find_rows(&mut self) -> Result<Option<Found>> {
        loop {
            let ready = &self.buffer[self.start..self.end];
            let (window, beyond) = ready.split_at(ready.len().min(INDEX_BYTES));
            self.index.scan(window);
            if !self.index.is_empty() {
                return Ok(None);
            }
            if let Some(length) = memchr(b'\n', beyond) {
                return Ok(Some(self.index.long_row(window.len() + length)));
            }
            self.fill()?;
        }
    }

    /// Makes `start` the begin of what was not given out.
    fn leave_index(&mut self) {
        self.start += self.index.given_out();
        self.index.clear();
    }

    /// As many whole rows as are in memory, at least one; `None` after the last
    /// one. For callers that pass rows on or search them without looking at each.
    ///
    /// # Errors
    ///
    /// As for [`next_row`](Self::next_row).
    pub fn next_batch(&mut self) -> Result<Option<RowBatch<'_>>> {
        let batch = self.unless_failed(Self::find_batch)?;
        Ok(batch.map(|batch| RowBatch { raw: &self.buffer[batch] }))
    }

    /// Where in the buffer the next whole rows are.
    fn find_batch(&mut self) -> Result<Option<Range<usize>>> {
        self.leave_index();
        loop {
            if self.ended {
                return Ok(None);
            }
            let ready = &self.buffer[self.start..self.end];
            let (rows, ended) = match end_marker(ready) {
                Some(marker) => (marker, true),
                None => (memrchr(b'\n', ready).map_or(0, |last| last + 1), false),
            };
            let batch = self.start..self.start + rows;
            if ended {
                self.start = batch.end + b"\\.\n".len();
                self.expect_end()?;
                // `expect_end` leaves in place what was read before.
                return Ok((!batch.is_empty()).then_some(batch));
            }
            if !batch.is_empty() {
                self.start = batch.end;
                return Ok(Some(batch));
            }
            self.fill()?;
        }
    }

    /// How many bytes of the archive precede the next one to be read.
    pub fn position(&self) -> u64 {
        self.data.position()
    }

    /// Reads more behind what is there, making room first.
    fn fill(&mut self) -> Result<()> {
        let offset = self.data.position();
        if !self.copy_text {
            let text = "the data is not COPY text: the dump was made with `--inserts` or a like option";
            return Err(self.error(ErrorKind::Usage(text.into()), offset));
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() || self.buffer.len() < BUFFER_BYTES {
            if self.end as u64 > self.limit {
                let kind = ErrorKind::LimitExceeded { what: "a row", limit: self.limit, field: "row_bytes" };
                return Err(self.error(kind, offset));
            }
            self.grow();
        }
        let before = self.end;
        // Filled to the brim: each byte of a row that spans several reads is then
        // searched for its newline about twice, not once for each read.
        while self.end < self.buffer.len() {
            match self.read_some()? {
                0 => break,
                read => self.end += read,
            }
        }
        if self.end == before {
            return Err(self.error(no_end(self.end == 0), offset));
        }
        Ok(())
    }

    /// Doubles the buffer, up to the longest row that is allowed and one read more.
    fn grow(&mut self) {
        let most = usize::try_from(self.limit).unwrap_or(usize::MAX).saturating_add(BUFFER_BYTES);
        let length = (self.buffer.len() * 2).clamp(FIRST_BUFFER_BYTES, most);
        // Exactly: `resize` alone would round up to twice the capacity.
        self.buffer.reserve_exact(length - self.buffer.len());
        self.buffer.resize(length, 0);
    }

    fn read_some(&mut self) -> Result<usize> {
        loop {
            match self.data.read(&mut self.buffer[self.end..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map_err(|e| Error::from_io(e, self.data.position())),
            }
        }
    }

    /// After `\.` there may be newlines only; pg_dump writes two. Leaves the
    /// buffer before `start` as it is.
    fn expect_end(&mut self) -> Result<()> {
        let mut tail = Tail::default();
        let mut ends_well = tail.take(&self.buffer[self.start..self.end]);
        let mut more = [0; Tail::MOST];
        while ends_well {
            match self.data.read(&mut more) {
                Ok(0) => break,
                Ok(read) => ends_well = tail.take(&more[..read]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::from_io(e, self.data.position())),
            }
        }
        if !ends_well {
            return Err(self.error(data_after_end(), self.data.position()));
        }
        self.ended = true;
        Ok(())
    }

    fn error(&self, kind: ErrorKind, offset: u64) -> Error {
        Error::new(kind, offset).in_entry(&self.entry)
    }
}

/// What follows the line `\.`: a few newlines, of which pg_dump writes two.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tail {
    length: usize,
}

impl Tail {
    const MOST: usize = 16;

    /// Whether the tail is still as it should be with these bytes.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> bool {
        self.length = self.length.saturating_add(bytes.len());
        self.length <= Self::MOST && bytes.iter().all(|&byte| byte == b'\n')
    }
}

/// What is wrong with data that ends before the line `\.`.
pub(crate) fn no_end(at_begin_of_row: bool) -> ErrorKind {
    let place = if at_begin_of_row { "before the `\\.` that ends the rows" } else { "within a row" };
    ErrorKind::Truncated(place.into())
}

/// What is wrong with data that goes on after it.
pub(crate) fn data_after_end() -> ErrorKind {
    ErrorKind::Corrupt("data follows the `\\.` that ends the rows".into())
}

/// Where in whole rows the line `\.` begins.
fn end_marker(rows: &[u8]) -> Option<usize> {
    if rows.starts_with(b"\\.\n") {
        return Some(0);
    }
    memmem::find(rows, b"\n\\.\n").map(|newline| newline + 1)
}

/// Some rows as they are in the archive, each with its newline.
#[derive(Debug, Clone, Copy)]
pub struct RowBatch<'a> {
    raw: &'a [u8],
}

impl<'a> RowBatch<'a> {
    /// Rows from their bytes; the last one is a newline.
    pub(crate) fn new(raw: &'a [u8]) -> Self {
        Self { raw }
    }

    /// The bytes; the last one is a newline.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// How many rows there are.
    pub fn count(&self) -> u64 {
        memchr_iter(b'\n', self.raw).count() as u64
    }

    /// The rows one by one.
    pub fn rows(&self) -> impl Iterator<Item = Row<'a>> + use<'a> {
        let mut rest = self.raw;
        std::iter::from_fn(move || {
            let end = memchr(b'\n', rest)?;
            let raw = &rest[..end];
            rest = &rest[end + 1..];
            Some(Row::new(raw))
        })
    }
}

/// One row of COPY text, without its newline.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    /// Some text that ends with the row.
    text: &'a [u8],
    /// Where in `text` the row begins.
    start: u32,
    /// Where in `text` the fields end, the last with the row. Empty when that has not been looked for.
    ends: &'a [u32],
}

impl<'a> Row<'a> {
    /// A row from its bytes, which hold no newline.
    pub fn new(raw: &'a [u8]) -> Self {
        Self { text: raw, start: 0, ends: &[] }
    }

    /// The bytes as they are in the archive.
    pub fn raw(&self) -> &'a [u8] {
        &self.text[self.start as usize..]
    }

    /// The fields from the first to the last. A row of a table without columns
    /// looks like one empty field.
    #[inline]
    pub fn fields(&self) -> Fields<'a> {
        let rest = if self.ends.is_empty() { Some(self.raw()) } else { None };
        Fields { text: self.text, start: self.start, ends: self.ends.iter(), rest }
    }

    /// The field at `index`, counted from 0. In a row that [`Rows::next_row`] gave this takes no search,
    /// however many fields are before it, unless the row is longer than 64 KiB.
    #[inline]
    pub fn field(&self, index: usize) -> Option<Field<'a>> {
        if self.ends.is_empty() {
            return self.fields().nth(index);
        }
        let end = *self.ends.get(index)? as usize;
        let start = if index == 0 { self.start as usize } else { self.ends[index - 1] as usize + 1 };
        Some(Field { raw: &self.text[start..end] })
    }
}

impl fmt::Debug for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Row").field(&self.raw().escape_ascii().to_string()).finish()
    }
}

impl PartialEq for Row<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.raw() == other.raw()
    }
}

impl Eq for Row<'_> {}

/// The fields of a row; see [`Row::fields`].
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    text: &'a [u8],
    start: u32,
    ends: std::slice::Iter<'a, u32>,
    /// What is left of a row whose ends are not known.
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    #[inline]
    fn next(&mut self) -> Option<Field<'a>> {
        if let Some(&end) = self.ends.next() {
            let raw = &self.text[self.start as usize..end as usize];
            self.start = end + 1;
            return Some(Field { raw });
        }
        let (field, rest) = first_field(self.rest?);
        self.rest = rest;
        Some(field)
    }
}

/// The first field of a row, and what follows it. Takes no reference to the [`Fields`], which therefore
/// need not be in memory.
fn first_field(row: &[u8]) -> (Field<'_>, Option<&[u8]>) {
    match memchr(b'\t', row) {
        Some(tab) => (Field { raw: &row[..tab] }, Some(&row[tab + 1..])),
        None => (Field { raw: row }, None),
    }
}

/// One field of a row, still escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    raw: &'a [u8],
}

impl<'a> Field<'a> {
    /// A field from its escaped bytes.
    pub fn new(raw: &'a [u8]) -> Self {
        Self { raw }
    }

    /// The bytes as they are in the archive.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Whether the field is NULL, which is not the same as empty.
    pub fn is_null(&self) -> bool {
        self.raw == b"\\N"
    }

    /// The value: `None` for NULL, otherwise its bytes, copied only when they
    /// hold an escape.
    pub fn decode(&self) -> Option<Cow<'a, [u8]>> {
        if self.is_null() {
            return None;
        }
        let Some(first) = memchr(b'\\', self.raw) else { return Some(Cow::Borrowed(self.raw)) };
        let mut value = Vec::with_capacity(self.raw.len());
        let (plain, mut rest) = self.raw.split_at(first);
        value.extend_from_slice(plain);
        while let Some((&byte, after)) = rest.split_first() {
            rest = if byte == b'\\' {
                unescape(after, &mut value)
            } else {
                value.push(byte);
                after
            };
        }
        Some(Cow::Owned(value))
    }
}

/// Takes one escape, without its backslash, from the front of `rest`.
fn unescape<'a>(rest: &'a [u8], value: &mut Vec<u8>) -> &'a [u8] {
    let Some((&byte, after)) = rest.split_first() else {
        // A lone backslash at the end stands for itself.
        value.push(b'\\');
        return rest;
    };
    let (byte, after) = match byte {
        b'b' => (0x08, after),
        b'f' => (0x0c, after),
        b'n' => (b'\n', after),
        b'r' => (b'\r', after),
        b't' => (b'\t', after),
        b'v' => (0x0b, after),
        b'0'..=b'7' => digits(rest, 8, 3),
        b'x' if after.first().is_some_and(u8::is_ascii_hexdigit) => digits(after, 16, 2),
        other => (other, after),
    };
    value.push(byte);
    after
}

/// Up to `most` digits in base `radix`, of which the lowest eight bits count.
fn digits(bytes: &[u8], radix: u32, most: usize) -> (u8, &[u8]) {
    let values = bytes.iter().map_while(|&b| char::from(b).to_digit(radix)).take(most);
    let (count, value) = values.fold((0, 0), |(count, value), digit| (count + 1, value * radix + digit));
    (value as u8, &bytes[count..])
}

/// Appends `value` to `out`, escaped as `COPY ... TO` does.
pub fn escape_field(value: &[u8], out: &mut Vec<u8>) {
    for &byte in value {
        let letter = match byte {
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x0b => b'v',
            b'\\' => b'\\',
            _ => {
                out.push(byte);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', letter]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Source<'a>(&'a [u8]);

    impl Read for Source<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            // One to seven bytes at a time, so that rows straddle reads.
            let step = (self.0.len() % 7 + 1).min(out.len());
            self.0.read(&mut out[..step])
        }
    }

    impl Position for Source<'_> {
        fn position(&self) -> u64 {
            0
        }
    }

    impl Position for &[u8] {
        fn position(&self) -> u64 {
            0
        }
    }

    fn rows(data: &[u8]) -> Rows<Source<'_>> {
        Rows::new(Source(data), 1 << 30, "TABLE DATA t".into(), true)
    }

    fn one_by_one(data: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut rows = rows(data);
        let mut out = Vec::new();
        while let Some(row) = rows.next_row()? {
            out.push(row.raw().to_vec());
        }
        Ok(out)
    }

    fn by_batch(data: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut rows = rows(data);
        let mut out = Vec::new();
        while let Some(batch) = rows.next_batch()? {
            assert_eq!(batch.count(), batch.rows().count() as u64);
            out.extend(batch.rows().map(|row| row.raw().to_vec()));
        }
        Ok(out)
    }

    fn decode(raw: &[u8]) -> Option<Vec<u8>> {
        Field::new(raw).decode().map(Cow::into_owned)
    }

    #[test]
    fn null_and_empty_and_their_names_as_data_differ() {
        assert_eq!(decode(b"\\N"), None);
        assert_eq!(decode(b""), Some(vec![]));
        assert_eq!(decode(b"\\\\N"), Some(b"\\N".to_vec()));
        assert_eq!(decode(b"\\\\."), Some(b"\\.".to_vec()));
    }

    #[test]
    fn every_escape_that_copy_accepts_is_decoded() {
        assert_eq!(decode(b"a\\tb\\nc\\rd\\be\\ff\\vg\\\\h"), Some(b"a\tb\nc\rd\x08e\x0cf\x0bg\\h".to_vec()));
        assert_eq!(decode(b"\\101\\x41\\x4g\\7\\q\\xz\\"), Some(b"AA\x04g\x07qxz\\".to_vec()));
    }

    #[test]
    fn the_end_marker_is_needed_and_ends_the_rows() {
        for read in [one_by_one, by_batch] {
            assert_eq!(read(b"\\.\n\n\n").unwrap(), Vec::<Vec<u8>>::new());
            assert_eq!(read(b"a\tb\n\n\\.\n\n\n").unwrap(), [b"a\tb".to_vec(), vec![]]);
            let cut = read(b"a\nb").unwrap_err();
            assert!(matches!(cut.kind(), ErrorKind::Truncated(_)), "{cut}");
            let cut = read(b"a\n").unwrap_err();
            assert!(cut.to_string().contains("before the `\\.`"), "{cut}");
            let more = read(b"a\n\\.\n\n\nb\n").unwrap_err();
            assert!(matches!(more.kind(), ErrorKind::Corrupt(_)), "{more}");
        }
    }

    #[test]
    fn a_row_over_the_limit_is_refused_and_insert_statements_are_not_rows() {
        let long = vec![b'x'; 3 * BUFFER_BYTES];
        let mut rows = Rows::new(Source(&long), 100, "t".into(), true);
        assert!(matches!(rows.next_row().unwrap_err().kind(), ErrorKind::LimitExceeded { .. }));
        let mut rows = Rows::new(Source(b"INSERT INTO t VALUES (1);\n"), 100, "t".into(), false);
        assert!(matches!(rows.next_batch().unwrap_err().kind(), ErrorKind::Usage(_)));
    }

    #[test]
    fn the_buffer_does_not_grow_beyond_the_limit() {
        for (limit, length) in [(1, 1 << 20), (700_000, 5 << 20), (1 << 20, 5 << 20)] {
            let long = vec![b'x'; length];
            let mut rows = Rows::new(&long[..], limit, "t".into(), true);
            assert!(matches!(rows.next_batch().unwrap_err().kind(), ErrorKind::LimitExceeded { .. }));
            assert!(rows.buffer.capacity() as u64 <= limit + BUFFER_BYTES as u64, "{limit}");
        }
        let longest = [vec![b'x'; 700_000], b"\n\\.\n\n\n".to_vec()].concat();
        let mut rows = Rows::new(&longest[..], 700_000, "t".into(), true);
        assert_eq!(rows.next_row().unwrap().unwrap().raw().len(), 700_000);
        assert!(rows.next_row().unwrap().is_none());
    }

    #[test]
    fn rows_that_are_too_long_for_the_index_are_given_out_among_others() {
        let long = [vec![b'x'; INDEX_BYTES], b"\t\ty".to_vec()].concat();
        let data = [&b"a\tb\n"[..], &long, b"\n\n", &long, b"\nc\n\\.\n\n\n"].concat();
        let expected = [b"a\tb".to_vec(), long.clone(), vec![], long.clone(), b"c".to_vec()];
        assert_eq!(one_by_one(&data).unwrap(), expected);
        let mut rows = rows(&data);
        rows.next_row().unwrap();
        let row = rows.next_row().unwrap().unwrap();
        assert_eq!(row.fields().map(|field| field.raw().len()).collect::<Vec<_>>(), [INDEX_BYTES, 0, 1]);
        assert_eq!(row.field(2), Some(Field::new(b"y")));
    }

    #[test]
    fn batches_go_on_where_single_rows_ended() {
        let mut rows = rows(b"a\nb\tc\nd\n\\.\n\n\n");
        assert_eq!(rows.next_row().unwrap().unwrap().raw(), b"a");
        assert_eq!(rows.next_batch().unwrap().unwrap().raw(), b"b\tc\nd\n");
        assert!(rows.next_row().unwrap().is_none());
    }

    proptest! {
        #[test]
        fn fields_are_those_between_tabs(lines in prop::collection::vec("[ab]{0,9}(\t[ab]{0,40}){0,80}", 0..40)) {
            let data = lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).chain(*b"\\.\n\n\n");
            let data: Vec<u8> = data.collect();
            let mut rows = rows(&data);
            for line in &lines {
                let row = rows.next_row().unwrap().unwrap();
                let expected: Vec<_> = line.split('\t').map(|field| Field::new(field.as_bytes())).collect();
                prop_assert_eq!(row.fields().collect::<Vec<_>>(), expected.clone());
                for index in 0..=expected.len() {
                    prop_assert_eq!(row.field(index), expected.get(index).copied());
                }
            }
            prop_assert!(rows.next_row().unwrap().is_none());
        }

        #[test]
        fn what_is_escaped_decodes_to_itself(value: Vec<u8>) {
            let mut raw = Vec::new();
            escape_field(&value, &mut raw);
            prop_assert!(!raw.contains(&b'\t') && !raw.contains(&b'\n'));
            prop_assert_eq!(decode(&raw), Some(value));
        }

        #[test]
        fn rows_and_batches_agree(lines in prop::collection::vec("[a\\\\.\t]{0,5}", 0..50)) {
            let lines: Vec<_> = lines.into_iter().filter(|line| line != "\\.").collect();
            let mut data: Vec<u8> = lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect();
            data.extend_from_slice(b"\\.\n\n\n");
            let expected: Vec<_> = lines.iter().map(|line| line.as_bytes().to_vec()).collect();
            prop_assert_eq!(one_by_one(&data).unwrap(), expected.clone());
            prop_assert_eq!(by_batch(&data).unwrap(), expected);
        }
    }
}
