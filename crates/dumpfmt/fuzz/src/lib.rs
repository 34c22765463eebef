//! What the fuzz targets do with their input. Each of them panics when a promise of `dumpfmt` is broken: that no
//! input makes it panic, and that the ways to read the same bytes tell the same.
//!
//! An input that is an archive is nothing but the archive, so that the targets can share their seeds. What else there is
//! to choose, such as a compression, is taken from a sum over its bytes.

mod blocks;
mod contents;
mod folder;
mod plain;
mod read;
mod repair;
mod rewrite;
mod rows;
mod script;
mod sql;
mod write;

pub use blocks::blocks;
pub use contents::contents;
pub use folder::folder;
pub use plain::plain;
pub use repair::repair;
pub use rewrite::rewrite;
pub use rows::rows;
pub use sql::sql;
pub use write::write;

use std::ops::Range;

use dumpfmt::Limits;

/// A tar is made of blocks of this length.
const TAR_BLOCK: usize = 512;

/// Limits far below those of an input's length, where it can claim more than it has.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.toc_entries = 1 << 12;
    limits.toc_bytes = 1 << 20;
    limits.chunk_bytes = 1 << 20;
    limits.row_bytes = 1 << 20;
    limits.zstd_window_log = 20;
    limits
}

/// One of several ways, the same for the same input.
struct Choice(u32);

impl Choice {
    fn of(data: &[u8]) -> Self {
        Self(data.iter().fold(0, |sum: u32, &byte| sum.wrapping_mul(31).wrapping_add(byte.into())))
    }

    /// A number below `count`.
    fn below(&mut self, count: u32) -> u32 {
        // A linear congruential generator, of which the high bits are the better ones.
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((u64::from(self.0) * u64::from(count)) >> 32) as u32
    }

    fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u32) as usize]
    }

    fn toss(&mut self) -> bool {
        self.below(2) == 1
    }
}

/// The archive; of a tar, one whose members have right checksums, which no mutation would find.
fn sealed(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    for (header, content) in members(data) {
        let at = content.start - header.len();
        dumpfmt::example::seal_tar_header(&mut bytes[at..content.start]);
    }
    bytes
}

/// The headers of the members of a tar, and where their contents are; of what is no tar, none.
fn members(data: &[u8]) -> impl Iterator<Item = (&[u8; TAR_BLOCK], Range<usize>)> {
    let mut at = if data.starts_with(b"toc.dat\0") { 0 } else { data.len() };
    std::iter::from_fn(move || {
        let header = data.get(at..)?.first_chunk::<TAR_BLOCK>().filter(|header| header[0] != 0)?;
        let start = at + TAR_BLOCK;
        let digits = std::str::from_utf8(&header[124..136]).unwrap_or_default().trim_matches([' ', '\0']);
        // A member that claims more than there is, or nothing that can be read, is the last one.
        let length = usize::from_str_radix(digits, 8).unwrap_or(usize::MAX).min(data.len() - start);
        at = start.saturating_add(length.next_multiple_of(TAR_BLOCK));
        Some((header, start..start + length))
    })
}
