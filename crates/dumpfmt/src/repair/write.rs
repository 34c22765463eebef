//! The new archive of a repair.

use std::io::{Read, Seek, Write};
use std::path::Path;
use std::thread;

use super::blocks::{Blocks, Rest};
use super::plan::{RecoveredEntry, RepairPlan};
use super::scan::{cut_window, window};
use crate::block::{Block, EntryData, LargeObjects};
use crate::body::StoredBytes;
use crate::error::{Error, Result};
use crate::verify::fill;
use crate::write::archive::END_OF_ROWS;
use crate::write::core::{Core, encoders};
use crate::write::encode::PIECE_BYTES;
use crate::write::pool::OrderedPool;
use crate::write::primitives::INT_SIZE;
use crate::write::sink::private::Container;
use crate::write::{CustomFormat, DirectoryFormat, Sink, WriteOptions};

impl RepairPlan {
    /// Writes what is whole as a new archive; see [`ArchiveWriter::to_file`](crate::ArchiveWriter::to_file). `source`
    /// is the file that the plan was made of. Blocks are copied as they are where the compression is to be the
    /// same. Returns the file, flushed but not synced.
    ///
    /// # Errors
    ///
    /// When `source` is not the same any more, when an archive of that version cannot hold these entries, or writing
    /// fails. What was written until then is no archive.
    pub fn to_file<R: Read + Seek, W: Write + Seek>(
        &self,
        source: &mut R,
        file: W,
        options: &WriteOptions,
        progress: impl FnMut(u64),
    ) -> Result<W> {
        self.check()?;
        options.check(&self.toc)?;
        let sink = CustomFormat::to_file(file, &self.header, &self.toc, options)?;
        self.copy(source, sink, options, progress)?.into_inner()
    }

    /// Writes it to a pipe; see [`ArchiveWriter::to_pipe`](crate::ArchiveWriter::to_pipe).
    ///
    /// # Errors
    ///
    /// As for [`to_file`](Self::to_file).
    pub fn to_pipe<R: Read + Seek, W: Write>(
        &self,
        source: &mut R,
        pipe: W,
        options: &WriteOptions,
        progress: impl FnMut(u64),
    ) -> Result<W> {
        self.check()?;
        options.check(&self.toc)?;
        let sink = CustomFormat::to_pipe(pipe, &self.header, &self.toc, options)?;
        self.copy(source, sink, options, progress)?.into_inner()
    }

    /// Writes it in the directory format; see [`ArchiveWriter::to_directory`](crate::ArchiveWriter::to_directory).
    ///
    /// # Errors
    ///
    /// As for [`to_file`](Self::to_file), and when the folder exists.
    pub fn to_directory<R: Read + Seek>(
        &self,
        source: &mut R,
        folder: &Path,
        options: &WriteOptions,
        progress: impl FnMut(u64),
    ) -> Result<()> {
        self.check()?;
        options.check(&self.toc)?;
        let sink = DirectoryFormat::create(folder, &self.header, &self.toc, options)?;
        self.copy(source, sink, options, progress).map(drop)
    }

    fn copy<R: Read + Seek, S: Sink>(
        &self,
        source: &mut R,
        sink: S,
        options: &WriteOptions,
        mut progress: impl FnMut(u64),
    ) -> Result<S> {
        let is_raw = matches!(S::CONTAINER, Container::Chunks)
            && self.header.int_size == INT_SIZE
            && self.header.compression == options.compression.algorithm()
            && options.compression.level().is_none();
        let (first, others) = encoders(options, S::CONTAINER)?;
        thread::scope(|scope| {
            let pool = OrderedPool::scoped(scope, first, others);
            let mut core = Core::new(sink, self.toc.clone(), options, pool);
            let mut rest = &self.recovered[..];
            while let Some(next) = rest.first() {
                // Of rows that are cut nothing is read but what is known to be theirs.
                let part = (next.rows.is_some() && next.missing.is_some()).then_some(next.end);
                let same = rest.iter().take_while(|entry| entry.rows.is_none() || entry.missing.is_none()).count();
                let (now, later) = rest.split_at(if part.is_some() { 1 } else { same });
                rest = later;
                let window = match part {
                    Some(end) => cut_window(source, self.start, end, &self.header)?,
                    None => window(source, self.start, None)?,
                };
                let mut blocks = Blocks::new(window, &self.header, &self.source_toc, &self.options.read.limits);
                for entry in now {
                    let mut copy = Copy { core: &mut core, progress: &mut progress, entry, is_raw };
                    let (found, end) = blocks.read(entry.position, Rest::Leave, |block| copy.block(block))?;
                    if found != entry.dump_id || (entry.missing.is_none() && end != entry.end) {
                        return Err(Error::corrupt("the archive has changed since it was scanned", entry.position));
                    }
                }
            }
            core.finish()
        })
    }
}

/// The copying of one block.
struct Copy<'c, 'env, S, P> {
    core: &'c mut Core<'env, S>,
    progress: &'c mut P,
    entry: &'c RecoveredEntry,
    /// Whether bodies can be copied as they are stored.
    is_raw: bool,
}

impl<S: Sink, P: FnMut(u64)> Copy<'_, '_, S, P> {
    fn block<R: Read>(&mut self, block: Block<'_, R>) -> Result<i32> {
        let dump_id = block.entry().dump_id();
        match block {
            Block::Data(data) if self.entry.missing.is_some() => self.rows(data)?,
            Block::Data(data) if self.is_raw => {
                self.core.begin_stored_data(dump_id)?;
                self.stored(data.stored()?)?;
            }
            Block::Data(mut data) => {
                self.core.begin_data(dump_id)?;
                self.pieces(&mut data, EntryData::position)?;
            }
            Block::LargeObjects(objects) => self.large_objects(objects)?,
        }
        Ok(dump_id)
    }

    /// So many rows as are known to be whole.
    fn rows<R: Read>(&mut self, data: EntryData<'_, R>) -> Result<()> {
        self.core.begin_data(data.entry().dump_id())?;
        let mut rows = data.rows();
        let mut left = self.entry.rows.unwrap_or_default();
        while left > 0 {
            let Some(batch) = rows.next_batch()? else { break };
            left = left.saturating_sub(batch.count());
            for piece in batch.raw().chunks(PIECE_BYTES) {
                self.core.bytes(piece.to_vec(), false)?;
            }
            (self.progress)(rows.position());
        }
        self.core.bytes(END_OF_ROWS.to_vec(), true)?;
        self.core.end_body()
    }

    fn large_objects<R: Read>(&mut self, mut objects: LargeObjects<'_, R>) -> Result<()> {
        self.core.begin_large_objects(objects.entry().dump_id())?;
        let mut left = match &self.entry.missing {
            Some(_) => self.entry.large_objects.unwrap_or_default(),
            None => u64::MAX,
        };
        while left > 0 {
            let Some(mut object) = objects.next_object()? else { break };
            left -= 1;
            if self.is_raw {
                self.core.begin_stored_large_object(object.oid())?;
                self.stored(object.stored()?)?;
            } else {
                self.core.begin_large_object(object.oid())?;
                self.pieces(&mut object, crate::block::LargeObject::position)?;
            }
        }
        self.core.end_large_objects()
    }

    fn stored<R: Read>(&mut self, mut stored: StoredBytes<'_, R>) -> Result<()> {
        loop {
            (self.progress)(stored.input().position());
            let Some(piece) = stored.next_piece()? else { return self.core.end_stored() };
            self.core.stored(piece.to_vec())?;
        }
    }

    /// A body, compressed anew.
    fn pieces<D: Read>(&mut self, body: &mut D, position: impl Fn(&D) -> u64) -> Result<()> {
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let filled = fill(body, &mut piece).map_err(|e| Error::from_io(e, position(body)))?;
            piece.truncate(filled);
            let last = filled < PIECE_BYTES;
            self.core.bytes(piece, last)?;
            (self.progress)(position(body));
            if last {
                return self.core.end_body();
            }
        }
    }
}
