//! The blocks of the source, one after the other, as pieces of the new archive.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::report::{EntryDepth, RewriteReport, RewrittenEntry};
use super::{RowError, RowWriter, Rewrite, Treatment};
use crate::block::{Block, EntryData, LargeObjects};
use crate::error::{Error, ErrorKind, Result};
use crate::reader::ArchiveReader;
use crate::rows::RowBatch;
use crate::write::archive::END_OF_ROWS;
use crate::write::core::Core;
use crate::write::encode::{EncodedPiece, PIECE_BYTES};
use crate::write::sink::private::Sink;

/// Copies every block of `source` as `rewrite` says.
pub(super) fn copy_blocks<'env, R: Read, S: Sink>(
    rewrite: &'env Rewrite<'_>,
    source: &mut ArchiveReader<R>,
    core: &mut Core<'env, S>,
    progress: &mut impl FnMut(u64),
) -> Result<Tallies> {
    let alike = source.header().compression == rewrite.options.compression.algorithm();
    let can_be_raw = alike && source.has_blocks_like(S::CONTAINER);
    let mut tallies = Tallies::default();
    loop {
        progress(source.position());
        let Some(block) = source.next_block()? else { return Ok(tallies) };
        let dump_id = block.entry().dump_id();
        if core.toc().get(dump_id).is_none() {
            continue;
        }
        let mut copy = BlockCopy { core, progress, tallies: &mut tallies, dump_id };
        match (rewrite.entries.get(&dump_id), block) {
            (Some(Treatment::Omit), _) => {
                return Err(Error::usage("the new table of contents has an entry that is to be omitted"));
            }
            (None, block) if can_be_raw => copy.raw(block)?,
            (Some(Treatment::Edit(edit)), Block::Data(data)) => copy.rows(data, &**edit)?,
            (Some(Treatment::Inspect(inspect)), Block::Data(data)) if can_be_raw => copy.raw_rows(data, &**inspect)?,
            (Some(Treatment::Inspect(inspect)), Block::Data(data)) => copy.rows(data, move |rows, out| {
                inspect(rows)?;
                out.batch(rows);
                Ok(())
            })?,
            (Some(Treatment::InspectLargeObjects(inspect)), Block::LargeObjects(objects)) => {
                copy.large_objects(objects, can_be_raw, &**inspect)?;
            }
            (None | Some(Treatment::Reencode), Block::LargeObjects(objects)) => {
                copy.large_objects(objects, false, |_, _| Ok(()))?;
            }
            (None | Some(Treatment::Reencode), Block::Data(data)) => copy.data(data)?,
            (Some(_), block) => {
                let what = match block {
                    Block::Data(_) => "this entry has no large objects to look at",
                    Block::LargeObjects(_) => "this entry has no rows: it holds large objects",
                };
                return Err(Error::usage(what).in_entry(block.entry()));
            }
        }
    }
}

/// The copying of one block.
struct BlockCopy<'c, 'env, S, P> {
    core: &'c mut Core<'env, S>,
    progress: &'c mut P,
    tallies: &'c mut Tallies,
    dump_id: i32,
}

impl<'env, S: Sink, P: FnMut(u64)> BlockCopy<'_, 'env, S, P> {
    /// The block as it is stored.
    fn raw<R: Read>(&mut self, mut block: Block<'_, R>) -> Result<()> {
        self.tallies.begin(self.dump_id, EntryDepth::Raw, false);
        self.core.begin_stored(self.dump_id)?;
        block.record();
        loop {
            let more = block.pass_some()?;
            (self.progress)(block.position());
            self.core.stored(block.take_record())?;
            if !more {
                return self.core.end_stored();
            }
        }
    }

    /// The block as it is stored, while its rows are looked at.
    fn raw_rows<R: Read>(
        &mut self,
        data: EntryData<'_, R>,
        inspect: impl Fn(RowBatch<'_>) -> Result<(), RowError> + Copy + Send + 'env,
    ) -> Result<()> {
        let tally = self.tallies.begin(self.dump_id, EntryDepth::Raw, true);
        self.core.begin_stored(self.dump_id)?;
        let mut rows = data.rows();
        rows.data_mut().record();
        loop {
            let offset = rows.position();
            let batch = rows.next_batch()?.map(|batch| batch.raw().to_vec());
            let stored = rows.data_mut().take_record();
            (self.progress)(rows.position());
            let Some(batch) = batch else {
                self.core.stored(stored)?;
                return self.core.end_stored();
            };
            let tally = Arc::clone(&tally);
            self.core.piece(false, move |_, _| {
                let batch = RowBatch::new(&batch);
                inspect(batch).map_err(|e| Error::new(ErrorKind::Row(e), offset))?;
                let rows = batch.count();
                tally.add(rows, rows);
                Ok(EncodedPiece::stored(stored))
            })?;
        }
    }

    /// The rows, changed by `edit`.
    fn rows<R: Read>(
        &mut self,
        data: EntryData<'_, R>,
        edit: impl Fn(RowBatch<'_>, &mut RowWriter<'_>) -> Result<(), RowError> + Copy + Send + 'env,
    ) -> Result<()> {
        let tally = self.tallies.begin(self.dump_id, EntryDepth::Rows, true);
        self.core.begin_data(self.dump_id)?;
        let mut rows = data.rows();
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        loop {
            let offset = rows.position();
            let batch = rows.next_batch()?;
            let length = batch.map_or(0, |batch| batch.raw().len());
            let last = batch.is_none();
            let is_full = !piece.is_empty() && piece.len() + length > PIECE_BYTES;
            if is_full || last {
                let rows = std::mem::replace(&mut piece, Vec::with_capacity(if last { 0 } else { PIECE_BYTES }));
                let tally = Arc::clone(&tally);
                self.core.piece(last, move |encoder, place| {
                    let mut edited = Vec::with_capacity(rows.len() + rows.len() / 8 + END_OF_ROWS.len());
                    let batch = RowBatch::new(&rows);
                    let mut out = RowWriter::new(&mut edited);
                    edit(batch, &mut out).map_err(|e| Error::new(ErrorKind::Row(e), offset))?;
                    tally.add(batch.count(), out.count());
                    if place.last {
                        edited.extend_from_slice(END_OF_ROWS);
                    }
                    encoder.encode(&edited, place).map_err(|e| Error::new(ErrorKind::Write(e), 0))
                })?;
            }
            match batch {
                Some(batch) => piece.extend_from_slice(batch.raw()),
                None => return self.core.end_body(),
            }
            (self.progress)(rows.position());
        }
    }

    /// Data of any kind, compressed anew.
    fn data<R: Read>(&mut self, mut data: EntryData<'_, R>) -> Result<()> {
        self.tallies.begin(self.dump_id, EntryDepth::Reencoded, false);
        self.core.begin_data(self.dump_id)?;
        let progress = &mut *self.progress;
        let position = |data: &EntryData<'_, R>| data.position();
        pieces(self.core, &mut data, |data| progress(position(data)))?;
        self.core.end_body()
    }

    /// Large objects, compressed anew or as they are stored, while they are looked at.
    fn large_objects<R: Read>(
        &mut self,
        mut objects: LargeObjects<'_, R>,
        raw: bool,
        inspect: impl Fn(u32, &[u8]) -> Result<(), RowError>,
    ) -> Result<()> {
        let depth = if raw { EntryDepth::Raw } else { EntryDepth::Reencoded };
        self.tallies.begin(self.dump_id, depth, false);
        if raw {
            self.core.begin_stored(self.dump_id)?;
            objects.record();
        } else {
            self.core.begin_large_objects(self.dump_id)?;
        }
        while let Some(mut object) = objects.next_object()? {
            let oid = object.oid();
            if !raw {
                self.core.begin_large_object(oid)?;
            }
            let mut piece = vec![0; PIECE_BYTES];
            loop {
                let offset = object.position();
                let filled = fill(&mut object, &mut piece).map_err(|e| Error::from_io(e, offset))?;
                inspect(oid, &piece[..filled]).map_err(|e| Error::new(ErrorKind::Row(e), offset))?;
                let last = filled < piece.len();
                if raw {
                    self.core.stored(object.take_record())?;
                } else {
                    self.core.bytes(piece[..filled].to_vec(), last)?;
                }
                if last {
                    // Its end was reached already when the piece was not empty.
                    if filled > 0 {
                        inspect(oid, &[]).map_err(|e| Error::new(ErrorKind::Row(e), offset))?;
                    }
                    break;
                }
            }
            (self.progress)(object.position());
            drop(object);
            if !raw {
                self.core.end_body()?;
            }
        }
        if raw {
            self.core.stored(objects.take_record())?;
            self.core.end_stored()
        } else {
            self.core.end_large_objects()
        }
    }
}

/// Hands `data` over in pieces, the last of which is known as such.
fn pieces<S: Sink, D: Read>(core: &mut Core<'_, S>, data: &mut D, mut progress: impl FnMut(&D)) -> Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    let filled = fill(data, &mut piece).map_err(|e| Error::from_io(e, 0))?;
    piece.truncate(filled);
    loop {
        let mut next = vec![0; if piece.len() == PIECE_BYTES { PIECE_BYTES } else { 0 }];
        let filled = fill(data, &mut next).map_err(|e| Error::from_io(e, 0))?;
        next.truncate(filled);
        let last = next.is_empty();
        core.bytes(std::mem::replace(&mut piece, next), last)?;
        progress(data);
        if last {
            return Ok(());
        }
    }
}

/// How many rows there were, entry by entry; threads add to it.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    entries: Vec<(i32, EntryDepth, Option<Arc<Tally>>)>,
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    read: AtomicU64,
    written: AtomicU64,
}

impl Tallies {
    fn begin(&mut self, dump_id: i32, depth: EntryDepth, has_rows: bool) -> Arc<Tally> {
        let tally = Arc::default();
        self.entries.push((dump_id, depth, has_rows.then(|| Arc::clone(&tally))));
        tally
    }

    /// The sums, when every piece is done.
    pub(super) fn report(self) -> RewriteReport {
        let count = |tally: &Option<Arc<Tally>>, of: fn(&Tally) -> &AtomicU64| {
            tally.as_deref().map(|tally| of(tally).load(Ordering::Relaxed))
        };
        let entries = self.entries.into_iter().map(|(dump_id, depth, tally)| RewrittenEntry {
            dump_id,
            depth,
            rows_read: count(&tally, |tally| &tally.read),
            rows_written: count(&tally, |tally| &tally.written),
        });
        RewriteReport { entries: entries.collect() }
    }
}

impl Tally {
    // The results of the pool order these before the report.
    fn add(&self, read: u64, written: u64) {
        self.read.fetch_add(read, Ordering::Relaxed);
        self.written.fetch_add(written, Ordering::Relaxed);
    }
}
