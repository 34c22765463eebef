//! Where rows and fields end, found for many rows in one pass.

use fearless_simd::prelude::*;
use fearless_simd::{Level, dispatch, u8x64};

/// How much is looked at in one step: a bit of a number for each byte.
const BLOCK_BYTES: usize = 64;
/// So many ends are written without looking at whether there are as many.
const FEW: usize = 8;

/// The ends of all fields in some text, and which of them end a row.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Positions of tabs and newlines in the text, and slots that are of no meaning.
    ends: Vec<u32>,
    /// The rows, and slots that are of no meaning.
    rows: Vec<RowEnd>,
    /// How many rows there are, and how many of them were given out.
    found: usize,
    taken: usize,
    /// Where the next row begins, and the first of its fields' ends.
    start: usize,
    first_field: u32,
}

/// Where a row ends.
#[derive(Debug, Default, Clone, Copy)]
struct RowEnd {
    /// How many of [`Index::ends`] are before the next row.
    fields: u32,
    /// The position of its newline.
    end: u32,
}

/// A row in the text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) start: usize,
    /// The position of its newline.
    pub(super) end: usize,
    /// Its fields' ends.
    fields: (u32, u32),
}

impl Index {
    /// Forgets all rows.
    pub(super) fn clear(&mut self) {
        (self.found, self.taken) = (0, 0);
        (self.start, self.first_field) = (0, 0);
    }

    /// The length of the rows that were given out, with their newlines.
    pub(super) fn given_out(&self) -> usize {
        self.start
    }

    /// Whether there is no row, given out or not.
    pub(super) fn is_empty(&self) -> bool {
        self.found == 0
    }

    /// The next row.
    #[inline]
    pub(super) fn next_row(&mut self) -> Option<Found> {
        let RowEnd { fields, end } = *self.rows[..self.found].get(self.taken)?;
        let row = Found { start: self.start, end: end as usize, fields: (self.first_field, fields) };
        self.taken += 1;
        (self.start, self.first_field) = (row.end + 1, fields);
        Some(row)
    }

    /// A row that was found by other means, at the begin of the text. It is given out by that.
    pub(super) fn long_row(&mut self, length: usize) -> Found {
        self.clear();
        self.start = length + 1;
        Found { start: 0, end: length, fields: (0, 0) }
    }

    /// Where the fields of a row end, the last of them with the row. Of a long row that is not known.
    #[inline]
    pub(super) fn ends(&self, row: Found) -> &[u32] {
        &self.ends[row.fields.0 as usize..row.fields.1 as usize]
    }

    /// Looks at `text`, which is to be shorter than 4 GiB. What follows the last newline is in no row.
    pub(super) fn scan(&mut self, text: &[u8]) {
        self.clear();
        self.found = dispatch!(Level::new(), simd => scan(simd, text, &mut self.ends, &mut self.rows));
    }
}

/// Returns the number of rows.
#[inline(always)]
fn scan<S: Simd>(simd: S, text: &[u8], ends: &mut Vec<u32>, rows: &mut Vec<RowEnd>) -> usize {
    let (mut fields, mut found) = (0, 0);
    let mut start = 0;
    let (blocks, rest) = text.as_chunks::<BLOCK_BYTES>();
    let mut last = [0; BLOCK_BYTES];
    last[..rest.len()].copy_from_slice(rest);
    for block in blocks.iter().chain([&last]) {
        if ends.len() < fields + BLOCK_BYTES || rows.len() < found + BLOCK_BYTES {
            ends.resize((fields + BLOCK_BYTES) * 2, 0);
            rows.resize((found + BLOCK_BYTES) * 2, RowEnd::default());
        }
        let bytes = u8x64::from_slice(simd, block);
        let mut newlines = bytes.simd_eq(b'\n').to_bitmask();
        let mut all = bytes.simd_eq(b'\t').to_bitmask() | newlines;

        // There is one row or none in most blocks, which cannot be foreseen: no branch for that.
        let slots = &mut rows[found..found + BLOCK_BYTES];
        let count = newlines.count_ones() as usize;
        let mut next = || {
            let upto = all & (newlines ^ newlines.wrapping_sub(1));
            let row = RowEnd { fields: fields as u32 + upto.count_ones(), end: start + newlines.trailing_zeros() };
            newlines &= newlines.wrapping_sub(1);
            row
        };
        slots[..1].fill_with(&mut next);
        if count > 1 {
            slots[1..count].fill_with(&mut next);
        }
        found += count;

        let slots = &mut ends[fields..fields + BLOCK_BYTES];
        let count = all.count_ones() as usize;
        let mut next = || {
            let end = start + all.trailing_zeros();
            all &= all.wrapping_sub(1);
            end
        };
        slots[..FEW].fill_with(&mut next);
        if count > FEW {
            slots[FEW..count].fill_with(&mut next);
        }
        fields += count;
        start += BLOCK_BYTES as u32;
    }
    found
}
