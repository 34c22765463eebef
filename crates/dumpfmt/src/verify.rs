//! Proof that an archive is whole.

use std::io::Read;

use crate::block::{Block, EntryData};
use crate::error::{Error, Result};
use crate::reader::ArchiveReader;

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
    /// Bytes of the data when decompressed.
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
    /// `progress` is called with the position in the archive after each piece.
    ///
    /// # Errors
    ///
    /// At the first damage.
    pub fn verify(&mut self, mut progress: impl FnMut(u64)) -> Result<Vec<VerifiedEntry>> {
        let mut verified = Vec::new();
        loop {
            let position = self.position();
            let Some(block) = self.next_block()? else { return Ok(verified) };
            let mut entry =
                VerifiedEntry { dump_id: block.entry().dump_id(), rows: None, large_objects: None, bytes: 0 };
            match block {
                Block::Data(data) if data.entry().copy_statement().is_some_and(|s| !s.is_empty()) => {
                    let mut count = 0;
                    let mut rows = data.rows();
                    while let Some(batch) = rows.next_batch()? {
                        count += batch.count();
                        entry.bytes += batch.raw().len() as u64;
                        progress(rows.position());
                    }
                    entry.rows = Some(count);
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
    progress(data.position());
    Ok(bytes)
}

fn drain(data: &mut impl Read, position: u64) -> Result<u64> {
    std::io::copy(data, &mut std::io::sink()).map_err(|e| Error::from_io(e, position))
}
