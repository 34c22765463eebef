//! Proof that an archive is whole.

mod parallel;
mod rows;
mod tap;

use std::fmt;
use std::io::Read;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use crate::block::{Block, LargeObjects};
use crate::error::{Error, Result};
use crate::named_objects::{NamedObjects, Reading};
use crate::reader::ArchiveReader;

use rows::count_rows;
pub(crate) use rows::{RowCount, expect_fields, expect_text, fill};
pub(crate) use tap::Tap;
pub use tap::{VerifiedArchive, Verifier, VerifyingReader, VerifyingWriter};

/// What is decompressed at once.
pub(crate) const BUFFER_BYTES: usize = 256 << 10;

/// What [`ArchiveReader::verify`] found in one entry that has data.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
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
    /// A digest of these bytes, the same for every compression and format; `None` when none was asked for. For large
    /// objects it is that of their list: for each one its OID, in four bytes with the highest first, and the digest of
    /// its content.
    pub sha256: Option<Sha256Digest>,
}

/// A SHA-256 digest. Prints as 64 hexadecimal digits, as `sha256sum` does.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha256Digest(pub [u8; 32]);

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Sha256Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How an archive is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// Whether [`VerifiedEntry::sha256`] is computed. Default: yes. Where the processor has no instructions for it,
    /// that takes longer than decompressing.
    pub digests: bool,
    /// How many threads decode, where the archive allows more than one; see
    /// [`verify_in_parallel`](ArchiveReader::verify_in_parallel). Default: one for each processor.
    pub threads: usize,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self { digests: true, threads: std::thread::available_parallelism().map_or(1, usize::from) }
    }
}

impl VerifyOptions {
    /// With or without digests.
    #[must_use]
    pub fn digests(self, digests: bool) -> Self {
        Self { digests, ..self }
    }

    /// With so many threads, at least one.
    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        Self { threads: threads.max(1), ..self }
    }
}

impl<R: Read> ArchiveReader<R> {
    /// Decodes every block to the end of the archive and returns what
    /// each held. Success means that the archive is complete: each entry that
    /// must have data has it once, every compressed stream and all COPY text
    /// ends as it should and has as many fields as its columns ask for, recorded positions are right, the large objects
    /// are those that the table of contents names, and nothing follows the last block, nor is there a file with data
    /// in a directory that nothing names.
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
    /// At the first damage. When blocks were read already, unless [`rewind`](Self::rewind) was called since.
    pub fn verify(&mut self, progress: impl FnMut(u64)) -> Result<Vec<VerifiedEntry>> {
        self.verify_with(&VerifyOptions::default(), progress)
    }

    /// As [`verify`](Self::verify), with options; of these, `threads` is not used.
    ///
    /// # Errors
    ///
    /// As for [`verify`](Self::verify).
    pub fn verify_with(
        &mut self,
        options: &VerifyOptions,
        mut progress: impl FnMut(u64),
    ) -> Result<Vec<VerifiedEntry>> {
        // Nobody could tell whether each entry has had its data.
        self.expect_unread()?;
        let mut verified = Vec::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let Some(block) = self.next_block()? else { return Ok(verified) };
            verified.push(verify_block(block, options.digests, None, &mut buffer, &mut progress)?);
            progress(self.position());
        }
    }
}

/// Reads a block to its end. `named`: where several readers share what was found.
pub(crate) fn verify_block<R: Read>(
    block: Block<'_, R>,
    digests: bool,
    named: Option<&Mutex<NamedObjects>>,
    buffer: &mut [u8],
    progress: &mut (impl FnMut(u64) + ?Sized),
) -> Result<VerifiedEntry> {
    let dump_id = block.entry().dump_id();
    let mut digest = digests.then(Sha256::new);
    let mut entry = VerifiedEntry { dump_id, rows: None, large_objects: None, bytes: 0, sha256: None };
    match block {
        Block::Data(mut data) if data.entry().copy_statement().is_some_and(|s| !s.is_empty()) => {
            let before = data.total_position() - data.position();
            let mut progress = |position| progress(before + position);
            let counted = count_rows(&mut data, buffer, digest.as_mut(), &mut progress);
            let RowCount { rows, bytes, tabs, .. } = counted.map_err(|e| data.locate(e))?;
            expect_fields(data.entry(), rows, tabs, data.position()).map_err(|e| data.locate(e))?;
            (entry.rows, entry.bytes) = (Some(rows), bytes);
        }
        Block::Data(mut data) => {
            entry.bytes = drain(&mut data, buffer, |data, piece| {
                progress(data.total_position());
                hash(&mut digest, piece);
                expect_text(piece, data.position()).map_err(|e| data.locate(e))
            })?;
        }
        Block::LargeObjects(objects) => {
            let (count, bytes) = verify_large_objects(objects, named, buffer, digest.as_mut(), progress)?;
            (entry.large_objects, entry.bytes) = (Some(count), bytes);
        }
    }
    entry.sha256 = digest.map(|digest| Sha256Digest(digest.finalize().into()));
    Ok(entry)
}

/// How many there are, and their bytes.
fn verify_large_objects<R: Read>(
    mut objects: LargeObjects<'_, R>,
    named: Option<&Mutex<NamedObjects>>,
    buffer: &mut [u8],
    mut list: Option<&mut Sha256>,
    progress: &mut (impl FnMut(u64) + ?Sized),
) -> Result<(u64, u64)> {
    let (mut count, mut bytes) = (0, 0);
    let reading = Reading { dump_id: objects.entry().dump_id(), number: 0 };
    while let Some(mut object) = objects.next_object()? {
        if let Some(named) = named {
            lock(named).find(object.oid(), reading, object.position()).map_err(|e| object.locate(e))?;
        }
        let mut digest = list.is_some().then(Sha256::new);
        bytes += drain(&mut object, buffer, |object, piece| {
            progress(object.total_position());
            hash(&mut digest, piece);
            Ok(())
        })?;
        count += 1;
        if let (Some(list), Some(digest)) = (&mut list, digest) {
            list.update(object.oid().to_be_bytes());
            list.update(digest.finalize());
        }
    }
    if let Some(named) = named {
        lock(named).end_entry(reading.dump_id, objects.position())?;
    }
    Ok((count, bytes))
}

fn lock(named: &Mutex<NamedObjects>) -> MutexGuard<'_, NamedObjects> {
    named.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hash(digest: &mut Option<Sha256>, piece: &[u8]) {
    if let Some(digest) = digest {
        digest.update(piece);
    }
}

/// Reads to the end, shows each piece to `take`, and returns how many bytes there were.
pub(crate) fn drain<D: Read>(
    data: &mut D,
    buffer: &mut [u8],
    mut take: impl FnMut(&D, &[u8]) -> Result<()>,
) -> Result<u64> {
    let mut bytes = 0;
    loop {
        // Errors of the archive's own readers tell their place themselves.
        let read = fill(data, buffer).map_err(|e| Error::from_io(e, 0))?;
        if read == 0 {
            return Ok(bytes);
        }
        bytes += read as u64;
        take(data, &buffer[..read])?;
    }
}
