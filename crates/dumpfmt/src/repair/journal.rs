//! The journal of [`index_in_place`](super::index_in_place): what is about to be written into an archive, stored durably before.
//!
//! It is the file `NAME.journal` beside the archive `NAME`. Numbers are unsigned, the lowest byte first:
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `PGDMPIDX` |
//! | 4 | the version of this layout: 1 |
//! | 4 | bytes of each field |
//! | 8 | the length of the archive before |
//! | 8 | its length afterwards: less where its table of contents is repeated behind the data |
//! | 8 | bytes of its header and table of contents |
//! | 32 | SHA-256 of those, as they are before |
//! | 8 | how many fields follow |
//! | each | the field's position in the archive (8), its bytes before, its bytes afterwards |
//! | 32 | SHA-256 of everything above |
//!
//! The old bytes of the fields tell whether the journal belongs to an archive, however many of the fields were written
//! already: with them in their places the digest must be that of the header and table of contents.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

use crate::input::MAX_INT_BYTES;

const MAGIC: &[u8; 8] = b"PGDMPIDX";
const VERSION: u32 = 1;

/// What is written into an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Journal {
    /// Bytes of each field.
    pub(super) width: usize,
    pub(super) length_before: u64,
    pub(super) length_after: u64,
    /// Bytes of the header and the table of contents.
    pub(super) contents: u64,
    pub(super) digest: [u8; 32],
    /// In the order of their positions.
    pub(super) fields: Vec<Field>,
}

/// A field that records a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    /// Where it is.
    pub(super) at: u64,
    /// Its bytes, of which the first ones count.
    pub(super) before: [u8; MAX_INT_BYTES],
    pub(super) after: [u8; MAX_INT_BYTES],
}

/// Why a file is no journal.
#[derive(Debug)]
pub(super) enum Invalid {
    Io(io::Error),
    Damaged(&'static str),
}

impl From<io::Error> for Invalid {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Damaged("it is cut short"),
            _ => Self::Io(error),
        }
    }
}

impl Journal {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(104 + self.fields.len() * (8 + 2 * self.width));
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        // A field is no longer than `MAX_INT_BYTES`.
        out.extend_from_slice(&(self.width as u32).to_le_bytes());
        for number in [self.length_before, self.length_after, self.contents] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.digest);
        out.extend_from_slice(&(self.fields.len() as u64).to_le_bytes());
        for field in &self.fields {
            out.extend_from_slice(&field.at.to_le_bytes());
            out.extend_from_slice(&field.before[..self.width]);
            out.extend_from_slice(&field.after[..self.width]);
        }
        let digest = Sha256::digest(&out);
        out.extend_from_slice(&digest);
        out
    }

    pub(super) fn read(from: impl Read) -> Result<Self, Invalid> {
        let mut from = Digesting { inner: io::BufReader::new(from), digest: Sha256::new() };
        if &from.array::<8>()? != MAGIC {
            return Err(Invalid::Damaged("it is not a journal"));
        }
        if u32::from_le_bytes(from.array()?) != VERSION {
            return Err(Invalid::Damaged("it is of a version that is not known here"));
        }
        let width = u32::from_le_bytes(from.array()?) as usize;
        if width == 0 || width > MAX_INT_BYTES {
            return Err(Invalid::Damaged("its fields have an impossible length"));
        }
        let mut number = || from.array().map(u64::from_le_bytes);
        let (length_before, length_after, contents) = (number()?, number()?, number()?);
        let digest = from.array()?;
        let count = u64::from_le_bytes(from.array()?);
        let mut fields = Vec::new();
        let mut end = 0;
        // The count is not trusted: a field costs memory when its bytes were there.
        for _ in 0..count {
            let at = u64::from_le_bytes(from.array()?);
            let mut field = Field { at, before: [0; MAX_INT_BYTES], after: [0; MAX_INT_BYTES] };
            from.read(&mut field.before[..width])?;
            from.read(&mut field.after[..width])?;
            if at < end || at.checked_add(width as u64).is_none_or(|behind| behind > contents) {
                return Err(Invalid::Damaged("its fields are not in order"));
            }
            end = at + width as u64;
            fields.push(field);
        }
        let computed: [u8; 32] = from.digest.clone().finalize().into();
        if from.array::<32>()? != computed {
            return Err(Invalid::Damaged("its checksum is wrong"));
        }
        Ok(Self { width, length_before, length_after, contents, digest, fields })
    }

    /// Whether it is the journal of an archive of this length that begins with what `archive` gives.
    pub(super) fn belongs_to(&self, archive: impl Read, length: u64) -> io::Result<bool> {
        if length != self.length_before && length != self.length_after {
            return Ok(false);
        }
        let mut archive = io::BufReader::with_capacity(256 << 10, archive.take(self.contents));
        let mut digest = Sha256::new();
        let mut position = 0;
        for field in &self.fields {
            if !digest_part(&mut archive, field.at - position, &mut digest)? {
                return Ok(false);
            }
            let mut present = [0; MAX_INT_BYTES];
            if let Err(e) = archive.read_exact(&mut present[..self.width]) {
                return if e.kind() == io::ErrorKind::UnexpectedEof { Ok(false) } else { Err(e) };
            }
            digest.update(&field.before[..self.width]);
            position = field.at + self.width as u64;
        }
        let is_whole = digest_part(&mut archive, self.contents - position, &mut digest)?;
        Ok(is_whole && <[u8; 32]>::from(digest.finalize()) == self.digest)
    }
}

/// Adds the next bytes of `archive` to `digest`; false when there are not so many.
pub(super) fn digest_part(archive: &mut impl Read, bytes: u64, digest: &mut Sha256) -> io::Result<bool> {
    let mut part = archive.take(bytes);
    let mut buffer = [0; 8 << 10];
    loop {
        match part.read(&mut buffer) {
            Ok(0) => return Ok(part.limit() == 0),
            Ok(read) => digest.update(&buffer[..read]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Reads while it computes the digest of what it reads.
struct Digesting<R> {
    inner: R,
    digest: Sha256,
}

impl<R: Read> Digesting<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact(out)?;
        self.digest.update(&*out);
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal() -> Journal {
        let field = |at, last| Field { at, before: [1; MAX_INT_BYTES], after: [last; MAX_INT_BYTES] };
        let contents = [&[7; 10][..], &[1; 9], &[8; 5], &[1; 9], &[9; 3]].concat();
        let mut fields = vec![field(10, 2), field(24, 3)];
        for field in &mut fields {
            field.before[9..].fill(0);
            field.after[9..].fill(0);
        }
        Journal {
            width: 9,
            length_before: 100,
            length_after: 90,
            contents: 36,
            digest: Sha256::digest(&contents).into(),
            fields,
        }
    }

    #[test]
    fn a_journal_is_read_as_it_was_written() {
        let journal = journal();
        assert_eq!(Journal::read(&journal.to_bytes()[..]).unwrap(), journal);
    }

    #[test]
    fn a_journal_that_is_cut_or_changed_is_refused() {
        let bytes = journal().to_bytes();
        for length in 0..bytes.len() {
            assert!(matches!(Journal::read(&bytes[..length]), Err(Invalid::Damaged(_))), "cut at {length}");
        }
        for position in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[position] ^= 1;
            assert!(matches!(Journal::read(&changed[..]), Err(Invalid::Damaged(_))), "byte {position}");
        }
    }

    #[test]
    fn an_archive_is_recognised_whichever_fields_were_written() {
        let journal = journal();
        for (first, second) in [(1, 1), (2, 1), (1, 3), (2, 3), (99, 98)] {
            let archive = [&[7; 10][..], &[first; 9], &[8; 5], &[second; 9], &[9; 3], &[0; 64]].concat();
            assert!(journal.belongs_to(&archive[..], 100).unwrap());
            assert!(journal.belongs_to(&archive[..], 90).unwrap());
            assert!(!journal.belongs_to(&archive[..], 91).unwrap(), "another length");
            assert!(!journal.belongs_to(&archive[..20], 100).unwrap(), "cut");
            for position in (0..10).chain(19..24).chain(33..36) {
                let mut other = archive.clone();
                other[position] ^= 1;
                assert!(!journal.belongs_to(&other[..], 100).unwrap(), "byte {position}");
            }
        }
    }
}
