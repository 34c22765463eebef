use std::io::Read;

use dumpfmt::example::Builder;
use dumpfmt::{Block, Error, Field, Row, RowWriter, Rows, escape_field};

use crate::read::{open, told};

/// COPY text: row by row, in batches, field by field, and counted.
///
/// The first byte of the input says how often the second part of it is repeated, the second byte in which chunks it is
/// stored, the third which percentage of it is the first part.
pub fn rows(data: &[u8]) {
    let [repeat, chunk, part, text @ ..] = data else { return };
    let (first, second) = text.split_at(text.len() * usize::from(part % 101) / 100);
    // Now and then beyond what is indexed and read at once: 64 and 256 KiB; then not in chunks of a few bytes, which
    // take longer to make than to read.
    let many = *repeat >= 252;
    let most = (300 << 10) / second.len().max(1);
    let times = if many { most.max(1) } else { usize::from(repeat % 4 + 1) };
    let chunk = if many { 8 + chunk % 12 } else { chunk % 20 };
    let text = [first, &second.repeat(times)].concat();
    let mut archive = Builder::new(16, 0);
    // As many columns as the first row has fields, if those are not too many.
    let tabs = text.iter().take_while(|&&byte| byte != b'\n').filter(|&&byte| byte == b'\t').take(50).count();
    let copy = format!("COPY public.t (a{}) FROM stdin;\n", ", a".repeat(tabs));
    archive.entry(1, 3, true, [Some("t"), Some("TABLE DATA"), None, None, Some(&copy)]);
    let chunks: Vec<_> = text.chunks(1 << chunk).collect();
    let archive = archive.data(1, &chunks).build();

    let by_row = with_rows(&archive, one_by_one);
    let by_batch = with_rows(&archive, batches);
    let mixed = with_rows(&archive, turn_about);
    for other in [by_batch, mixed] {
        assert_eq!(by_row.1.as_ref().map(told), other.1.as_ref().map(told));
        // The rows before what is wrong may have been given out, or not.
        let same = by_row.0 == other.0;
        assert!(same || (by_row.1.is_some() && by_row.0.starts_with(&other.0)));
    }

    let verified = open(&archive[..]).expect("the archive is whole").verify(|_| {});
    let count = |byte| by_row.0.iter().filter(|&&other| other == byte).count();
    let rows = count(b'\n') as u64;
    let fit = count(b'\t') as u64 == rows * tabs as u64 && count(0) == 0;
    match (&verified, &by_row.1) {
        (Ok(entries), None) if fit => {
            assert_eq!((entries[0].rows, entries[0].bytes), (Some(rows), by_row.0.len() as u64));
        }
        (Err(one), Some(other)) => assert_eq!(one.entry(), other.entry()),
        (Err(error), None) if !fit => assert!(error.entry().is_some(), "{error:?}"),
        (verified, Some(error)) => {
            assert!(matches!(error.kind(), dumpfmt::ErrorKind::LimitExceeded { .. }), "{verified:?}, but {error:?}");
        }
        (verified, error) => panic!("{verified:?}, but {error:?}"),
    }
    // Not those that are only repeated.
    by_row.0.split(|&byte| byte == b'\n').take(100).for_each(fields);
}

/// Rows with their newlines, up to the first error.
type Outcome = (Vec<u8>, Option<Error>);

fn with_rows(archive: &[u8], read: impl Fn(&mut dyn AnyRows, &mut Vec<u8>) -> Result<(), Error>) -> Outcome {
    let mut archive = open(archive).expect("the archive is whole");
    let Ok(Some(Block::Data(data))) = archive.next_block() else { panic!("there is one block of data") };
    let mut rows = data.rows();
    let mut out = Vec::new();
    let error = read(&mut rows, &mut out).err();
    (out, error)
}

/// [`Rows`] of whatever source.
trait AnyRows {
    fn take_row(&mut self, out: &mut Vec<u8>) -> Result<bool, Error>;
    fn take_batch(&mut self, out: &mut Vec<u8>) -> Result<bool, Error>;
}

impl<R: Read> AnyRows for Rows<dumpfmt::EntryData<'_, R>> {
    fn take_row(&mut self, out: &mut Vec<u8>) -> Result<bool, Error> {
        let Some(row) = self.next_row()? else { return Ok(false) };
        expect_fields(row);
        out.extend_from_slice(row.raw());
        out.push(b'\n');
        Ok(true)
    }

    fn take_batch(&mut self, out: &mut Vec<u8>) -> Result<bool, Error> {
        let Some(batch) = self.next_batch()? else { return Ok(false) };
        assert_eq!(batch.raw().last(), Some(&b'\n'));
        assert_eq!(batch.count(), batch.rows().count() as u64);
        let before = out.len();
        let mut rows = RowWriter::new(out);
        batch.rows().for_each(|row| rows.row(row));
        assert_eq!(rows.count(), batch.count());
        assert_eq!(&out[before..], batch.raw());
        Ok(true)
    }
}

fn one_by_one(rows: &mut dyn AnyRows, out: &mut Vec<u8>) -> Result<(), Error> {
    while rows.take_row(out)? {}
    assert!(!rows.take_row(out)?, "after the last row there is none");
    Ok(())
}

fn batches(rows: &mut dyn AnyRows, out: &mut Vec<u8>) -> Result<(), Error> {
    while rows.take_batch(out)? {}
    assert!(!rows.take_batch(out)?, "after the last row there is none");
    Ok(())
}

fn turn_about(rows: &mut dyn AnyRows, out: &mut Vec<u8>) -> Result<(), Error> {
    let mut turn = 0_u32;
    loop {
        turn += 1;
        let more = if turn.is_multiple_of(5) { rows.take_batch(out)? } else { rows.take_row(out)? };
        if !more {
            return Ok(());
        }
    }
}

/// The ends of fields that were found beforehand are those that a search finds.
fn expect_fields(row: Row<'_>) {
    let fields = row.fields().map(|field| field.raw());
    assert!(fields.eq(row.raw().split(|&byte| byte == b'\t')), "{row:?}");
    let count = row.fields().count();
    for index in [0, 1, count / 2, count - 1] {
        assert_eq!(row.field(index), row.fields().nth(index), "{row:?}");
    }
    assert_eq!(row.field(count), None, "{row:?}");
}

/// A field that is decoded and escaped again means the same.
fn fields(row: &[u8]) {
    for field in Row::new(row).fields() {
        let value = field.decode();
        assert_eq!(value.is_none(), field.is_null());
        let Some(value) = value else { continue };
        assert!(value.len() <= field.raw().len());
        let mut escaped = Vec::new();
        escape_field(&value, &mut escaped);
        assert!(!escaped.iter().any(|byte| matches!(byte, b'\t' | b'\n' | b'\r')));
        assert_eq!(Field::new(&escaped).decode().as_deref(), Some(&value[..]));
    }
    let mut out = Vec::new();
    RowWriter::new(&mut out).replace_field(Row::new(row), 0, Some(row));
    let replaced = out.strip_suffix(b"\n").expect("a row ends with a newline");
    assert_eq!(Row::new(replaced).field(0).and_then(|field| field.decode()).as_deref(), Some(row));
    assert_eq!(Row::new(replaced).fields().count(), Row::new(row).fields().count());
}
