//! The blocks of the source, one after the other, as pieces of the new archive.

use std::collections::HashSet;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memchr::memchr_iter;

use super::report::{EntryDepth, RewriteReport, RewrittenEntry};
use super::{InspectLargeObject, Rewrite, RowError, RowWriter, Treatment};
use crate::block::{Block, EntryData, LargeObject, LargeObjects};
use crate::body::StoredBytes;
use crate::decode::Decoder;
use crate::error::{Error, ErrorKind, Result};
use crate::header::{Compression, Format};
use crate::named_objects;
use crate::reader::ArchiveReader;
use crate::rows::RowBatch;
use crate::toc::Toc;
use crate::verify::{expect_fields, expect_text, fill};
use crate::write::archive::END_OF_ROWS;
use crate::write::core::Core;
use crate::write::encode::{EncodedPiece, PIECE_BYTES};
use crate::write::primitives::INT_SIZE;
use crate::write::sink::private::{Container, Sink};

/// Copies every block of `source` as `rewrite` says.
pub(super) fn copy_blocks<'env, R: Read, S: Sink>(
    rewrite: &'env Rewrite<'_>,
    source: &mut ArchiveReader<R>,
    core: &mut Core<'env, S>,
    progress: &mut impl FnMut(u64),
) -> Result<Tallies> {
    let header = source.header();
    let raw = match (header.format, S::CONTAINER) {
        (Format::Custom, Container::Chunks) => header.int_size == INT_SIZE,
        (Format::Directory, Container::File) => true,
        _ => false,
    };
    // Nobody can tell at which level the source was compressed: who asks for one gets it.
    let compression = &rewrite.options.compression;
    let raw = (raw && compression.level().is_none()).then(|| compression.algorithm());
    let mut tallies = Tallies::default();
    // In nearly every rewrite all of them stay. Contents that name none are for a database which has them, as those of
    // `--section data`.
    let named = named_objects::oids(core.toc()).count();
    let all_stay = named == 0 || named == named_objects::oids(source.toc()).count();
    let chosen: Option<HashSet<u32>> = (!all_stay).then(|| named_objects::oids(core.toc()).collect());
    loop {
        progress(source.position());
        let Some(block) = source.next_block()? else { return Ok(tallies) };
        let dump_id = block.entry().dump_id();
        if core.toc().get(dump_id).is_none() {
            continue;
        }
        let mut copy = BlockCopy { core, progress, tallies: &mut tallies, chosen: chosen.as_ref(), dump_id, raw };
        match (rewrite.entries.get(&dump_id), block) {
            (Some(Treatment::Omit), _) => {
                return Err(Error::usage("the new table of contents has an entry that is to be omitted"));
            }
            (None, Block::Data(data)) if raw == Some(data.encoding().compression()) => copy.raw(data)?,
            (None | Some(Treatment::Reencode), Block::Data(data)) => copy.data(data)?,
            (Some(Treatment::Edit(edit)), Block::Data(data)) => copy.rows(data, &**edit)?,
            (Some(Treatment::Inspect(inspect)), Block::Data(data)) => copy.inspected_rows(data, &**inspect)?,
            (treatment, Block::LargeObjects(objects)) => match treatment {
                None => copy.large_objects(objects, None)?,
                Some(Treatment::InspectLargeObjects(inspect)) => copy.large_objects(objects, Some(&**inspect))?,
                Some(Treatment::Reencode) => {
                    copy.raw = None;
                    copy.large_objects(objects, None)?;
                }
                Some(_) => {
                    let text = "this entry has no rows: it holds large objects";
                    return Err(Error::usage(text).in_entry(objects.entry()));
                }
            },
            (Some(Treatment::InspectLargeObjects(_)), Block::Data(data)) => {
                return Err(Error::usage("this entry has no large objects to look at").in_entry(data.entry()));
            }
        }
    }
}

/// The copying of one block.
struct BlockCopy<'c, 'env, S, P> {
    core: &'c mut Core<'env, S>,
    progress: &'c mut P,
    tallies: &'c mut Tallies,
    /// The large objects that the new archive is to have; `None`: all.
    chosen: Option<&'c HashSet<u32>>,
    dump_id: i32,
    /// The compression of bodies that can be copied as they are; `None` when none can.
    raw: Option<Compression>,
}

impl<'env, S: Sink, P: FnMut(u64)> BlockCopy<'_, 'env, S, P> {
    /// The data as it is stored.
    fn raw<R: Read>(&mut self, data: EntryData<'_, R>) -> Result<()> {
        self.tallies.begin(self.dump_id, EntryDepth::Raw, false);
        self.core.begin_stored_data(self.dump_id)?;
        self.stored(data.stored()?)
    }

    fn stored<R: Read>(&mut self, mut stored: StoredBytes<'_, R>) -> Result<()> {
        loop {
            let position = stored.input().total_position();
            let Some(piece) = stored.next_piece()? else { return self.core.end_stored() };
            self.core.stored(piece.to_vec())?;
            (self.progress)(position);
        }
    }

    /// The rows as they are, while they are looked at.
    fn inspected_rows<R: Read>(
        &mut self,
        data: EntryData<'_, R>,
        inspect: impl Fn(RowBatch<'_>) -> Result<(), RowError> + Copy + Send + 'env,
    ) -> Result<()> {
        if self.raw != Some(data.encoding().compression()) {
            return self.rows(data, move |rows: RowBatch<'_>, out: &mut RowWriter<'_>| {
                inspect(rows)?;
                out.batch(rows);
                Ok(())
            });
        }
        let tally = self.tallies.begin(self.dump_id, EntryDepth::Raw, true);
        self.core.begin_stored_data(self.dump_id)?;
        let (entry, limits) = (data.entry(), data.limits());
        let mut teed = data.tee()?;
        let kept = teed.kept();
        let mut rows = EntryData::of(entry, limits, teed.decoder(limits)).rows();
        loop {
            let offset = rows.position();
            let batch = rows.next_batch()?.map(|batch| batch.raw().to_vec());
            let stored = kept.take();
            (self.progress)(rows.position());
            let Some(batch) = batch else {
                self.core.stored(stored)?;
                return self.core.end_stored();
            };
            let tally = Arc::clone(&tally);
            self.core.piece(false, batch.len() + stored.len(), move |_, _| {
                let batch = RowBatch::new(&batch);
                inspect(batch).map_err(|e| Error::new(ErrorKind::Row(e), offset))?;
                tally.add(batch, batch.count(), offset)?;
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
                self.core.piece(last, rows.len(), move |encoder, place| {
                    let mut edited = Vec::with_capacity(rows.len() + rows.len() / 8 + END_OF_ROWS.len());
                    let batch = RowBatch::new(&rows);
                    let mut out = RowWriter::new(&mut edited);
                    edit(batch, &mut out).map_err(|e| Error::new(ErrorKind::Row(e), offset))?;
                    if let Some(fault) = out.fault() {
                        return Err(Error::new(ErrorKind::Row(fault.into()), offset));
                    }
                    tally.add(batch, out.count(), offset)?;
                    drop(rows);
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
        let copy = |piece: &[u8], last, position| {
            (self.progress)(position);
            expect_text(piece, position)?;
            self.core.bytes(piece.to_vec(), last)
        };
        each_piece(&mut data, &mut vec![0; PIECE_BYTES], EntryData::position, None, copy)?;
        (self.progress)(data.total_position());
        self.core.end_body()
    }

    /// Large objects, as they are stored where that is possible, while they are looked at.
    fn large_objects<R: Read>(
        &mut self,
        mut objects: LargeObjects<'_, R>,
        inspect: Option<&InspectLargeObject<'_>>,
    ) -> Result<()> {
        let place = self.tallies.entries.len();
        self.tallies.begin(self.dump_id, EntryDepth::Raw, false);
        self.core.begin_large_objects(self.dump_id)?;
        let limits = objects.limits();
        let mut buffer = vec![0; PIECE_BYTES];
        while let Some(object) = objects.next_object()? {
            let oid = object.oid();
            if self.chosen.is_some_and(|chosen| !chosen.contains(&oid)) {
                continue;
            }
            let is_raw = self.raw == Some(object.encoding().compression());
            if !is_raw {
                self.tallies.entries[place].1 = EntryDepth::Reencoded;
            }
            match (is_raw, inspect) {
                (true, None) => {
                    self.core.begin_stored_large_object(oid)?;
                    self.stored(object.stored()?)?;
                }
                (true, Some(inspect)) => {
                    self.core.begin_stored_large_object(oid)?;
                    let mut teed = object.tee()?;
                    let kept = teed.kept();
                    let mut content = teed.decoder(limits);
                    let copy = |_: &[u8], _, position| {
                        (self.progress)(position);
                        self.core.stored(kept.take())
                    };
                    each_piece(&mut content, &mut buffer, Decoder::position, Some((oid, inspect)), copy)?;
                    self.core.end_stored()?;
                }
                (false, inspect) => {
                    self.core.begin_large_object(oid)?;
                    let mut object = object;
                    let inspect = inspect.map(|inspect| (oid, inspect));
                    let copy = |piece: &[u8], last, position| {
                        (self.progress)(position);
                        self.core.bytes(piece.to_vec(), last)
                    };
                    each_piece(&mut object, &mut buffer, LargeObject::position, inspect, copy)?;
                    self.core.end_body()?;
                }
            }
        }
        self.core.end_large_objects()
    }
}

/// Reads a body in pieces, each as long as `piece`, has each looked at and copied by `copy`, which gets the position in
/// the source too. The last one, which is known as such, may be empty.
fn each_piece<D: Read>(
    body: &mut D,
    piece: &mut [u8],
    position: impl Fn(&D) -> u64,
    inspect: Option<(u32, &InspectLargeObject<'_>)>,
    mut copy: impl FnMut(&[u8], bool, u64) -> Result<()>,
) -> Result<()> {
    loop {
        let filled = fill(body, piece).map_err(|e| Error::from_io(e, position(body)))?;
        let last = filled < piece.len();
        if let Some((oid, inspect)) = inspect {
            let inspected = inspect(oid, &piece[..filled], last);
            inspected.map_err(|e| Error::new(ErrorKind::Row(e), position(body)))?;
        }
        copy(&piece[..filled], last, position(body))?;
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
    /// Between the fields of the rows that were read.
    tabs: AtomicU64,
}

impl Tallies {
    fn begin(&mut self, dump_id: i32, depth: EntryDepth, has_rows: bool) -> Arc<Tally> {
        let tally = Arc::default();
        self.entries.push((dump_id, depth, has_rows.then(|| Arc::clone(&tally))));
        tally
    }

    /// Refuses rows that do not have as many fields as are copied, when every piece is done.
    pub(super) fn expect_fields(&self, source: &Toc, end: u64) -> Result<()> {
        for (dump_id, _, tally) in &self.entries {
            if let (Some(entry), Some(tally)) = (source.get(*dump_id), tally) {
                let [rows, tabs] = [&tally.read, &tally.tabs].map(|sum| sum.load(Ordering::Relaxed));
                expect_fields(entry, rows, tabs, end).map_err(|e| e.in_entry(entry))?;
            }
        }
        Ok(())
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
    fn add(&self, read: RowBatch<'_>, written: u64, offset: u64) -> Result<()> {
        expect_text(read.raw(), offset)?;
        self.read.fetch_add(read.count(), Ordering::Relaxed);
        self.tabs.fetch_add(memchr_iter(b'\t', read.raw()).count() as u64, Ordering::Relaxed);
        self.written.fetch_add(written, Ordering::Relaxed);
        Ok(())
    }
}
