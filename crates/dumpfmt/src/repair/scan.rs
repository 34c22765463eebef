//! Which blocks of a damaged archive are whole.
//!
//! The blocks follow each other without a gap. Where one is damaged so that its end is not known, the next one is
//! searched: at the positions that the table of contents records, or else byte by byte. What is found there counts
//! only when it can be decoded to its end.
//!
//! A damaged dump ID can name another entry. pg_dump writes the blocks in the order of the table of contents, so a
//! block that is out of turn is not trusted, unless it is where the table of contents says.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Seek};

use memchr::memchr_iter;

use super::blocks::{Begins, Blocks, Rest};
use super::find::find_archive;
use super::lengths::{OTHER_LENGTH, Placed, of_other_length};
use super::plan::{Damage, Loss, LossKind, RecoveredEntry, RepairOptions};
use super::window::Window;
use crate::block::Block;
use crate::error::{Error, ErrorKind, Result};
use crate::header::{Compression, Header};
use crate::input::Input;
use crate::named_objects;
use crate::toc::{DataState, Toc, TocEntry};
use crate::verify::{BUFFER_BYTES, drain, expect_fields, expect_text};

/// Searches and failed attempts may read this many times the length of the archive.
const SEARCH_FACTOR: u64 = 16;
/// What they may read of a small archive.
const SEARCH_BYTES: u64 = 64 << 20;
/// What a look at anything that seems to be a block costs of that, besides what is read of it.
const LOOK_BYTES: u64 = 64 << 10;

/// What a scan has found.
pub(crate) struct Scan {
    /// Whole entries, and those that are kept in part, in the order of the file.
    pub(crate) recovered: Vec<RecoveredEntry>,
    /// Why others are not kept, by dump ID.
    pub(crate) losses: HashMap<i32, Loss>,
    pub(crate) damage: Vec<Damage>,
    /// Where the archive ends.
    pub(crate) end: u64,
    /// What follows there.
    pub(crate) trailing: u64,
    /// Large objects that the table of contents names and that were not found.
    pub(crate) lost_objects: Vec<u32>,
    /// The byte of the file at which another archive begins, when this one is not whole.
    pub(crate) next_archive: Option<u64>,
}

/// Scans the archive that begins at `start` of `source`; its data begins at `data_start` of the archive.
///
/// Where data is missing and another archive follows, as in the log of a job that was tried again, that one's blocks are
/// not taken for those of the first.
pub(crate) fn scan<R: Read + Seek>(
    source: &mut R,
    start: u64,
    data_start: u64,
    (header, toc): (&Header, &Toc),
    options: &RepairOptions,
    progress: &mut dyn FnMut(u64),
) -> Result<Scan> {
    let archive = (header, toc);
    let scan = scan_up_to(source, start, None, data_start, archive, options, progress)?;
    if scan.losses.is_empty() && scan.damage.is_empty() && scan.lost_objects.is_empty() {
        // As in a log that every job appends to.
        let behind = if scan.trailing > 0 { find_archive(source, start + scan.end, &options.read)? } else { None };
        return Ok(Scan { next_archive: behind.map(|next| next.start), ..scan });
    }
    // In the order of the file.
    let whole: Vec<_> = scan.recovered.iter().filter(|block| block.missing.is_none()).collect();
    let last_recorded = last_recorded_block(source, start, archive, options)?;
    let mut from = start + data_start.max(last_recorded);
    while let Some(next) = find_archive(source, from, &options.read)? {
        let place = next.start - start;
        let before = whole.partition_point(|block| block.position <= place);
        // An archive that is stored in this one is none of another dump.
        if let Some(block) = whole[..before].last().filter(|block| place < block.end) {
            from = start + block.end;
            continue;
        }
        // Nor is one in a block that is damaged.
        if begins_chunk(source, start, place, header)? {
            from = next.start + 1;
            continue;
        }
        let scan = scan_up_to(source, start, Some(place), data_start, archive, options, progress)?;
        return Ok(Scan { next_archive: Some(next.start), ..scan });
    }
    Ok(scan)
}

/// The last of the recorded positions at which there is the block that they are recorded for: up to there it is one
/// archive. 0 when there is none.
fn last_recorded_block<R: Read + Seek>(
    source: &mut R,
    start: u64,
    (header, toc): (&Header, &Toc),
    options: &RepairOptions,
) -> Result<u64> {
    let mut archive = window(source, start, None)?;
    let recorded = recorded_positions(toc, super::blocks::length(&mut archive)?);
    let mut blocks = Blocks::new(archive, header, toc, &options.read.limits);
    for (position, dump_id) in recorded.into_iter().rev() {
        if blocks.begins_at(position)? == Begins::Block(dump_id) {
            return Ok(position);
        }
    }
    Ok(0)
}

/// Whether what precedes `place` is the length of a chunk that goes beyond it. No text is before it then.
fn begins_chunk<R: Read + Seek>(source: &mut R, start: u64, place: u64, header: &Header) -> Result<bool> {
    let Some(at) = place.checked_sub(1 + u64::from(header.int_size)) else { return Ok(false) };
    let mut archive = Input::new(window(source, start, None)?);
    archive.seek_to(at)?;
    Ok(archive.int(header.int_size, "").is_ok_and(|length| length > 0))
}

/// Scans so many bytes of an archive, or up to the end of the file.
fn scan_up_to<R: Read + Seek>(
    source: &mut R,
    start: u64,
    length: Option<u64>,
    data_start: u64,
    (header, toc): (&Header, &Toc),
    options: &RepairOptions,
    progress: &mut dyn FnMut(u64),
) -> Result<Scan> {
    let mut archive = window(source, start, length)?;
    let length = super::blocks::length(&mut archive)?;
    let with_data = || toc.entries().iter().filter(|entry| entry.has_data());
    let mut scanner = Scanner {
        blocks: Blocks::new(archive, header, toc, &options.read.limits),
        toc,
        options,
        length,
        ranks: with_data().zip(0..).map(|(entry, rank)| (entry.dump_id(), rank)).collect(),
        recorded: recorded_positions(toc, length),
        next_recorded: 0,
        found: Vec::new(),
        seen: HashSet::new(),
        out_of_turn: Vec::new(),
        broken: HashMap::new(),
        damage: Vec::new(),
        budget: length.saturating_mul(SEARCH_FACTOR).saturating_add(SEARCH_BYTES),
        objects: named_objects::oids(toc).collect(),
        objects_found: HashMap::new(),
        progress,
    };
    let (end, searched_to) = scanner.run(data_start)?;
    scanner.settle_out_of_turn();
    scanner.distrust_other_lengths();
    let Scanner { found, mut broken, damage, objects, mut objects_found, seen, ranks, .. } = scanner;
    let mut recovered = found;
    let mut losses = HashMap::new();
    let last_rank = seen.iter().filter_map(|dump_id| ranks.get(dump_id)).max().copied();
    for entry in with_data().filter(|entry| !seen.contains(&entry.dump_id())) {
        let loss = match broken.remove(&entry.dump_id()) {
            Some(broken) => {
                let (part, oids) = match &broken.part {
                    Part::LargeObjects { count, oids } if *count > 0 => {
                        let part = RecoveredEntry::new(entry.dump_id(), broken.position, end);
                        (Some(RecoveredEntry { large_objects: Some(*count), ..part }), oids.clone())
                    }
                    Part::Rows if options.partial_rows && broken.loss.kind == LossKind::Cut => {
                        let part = rows_before_cut(source, start, (header, toc), options, broken.position)?.map(
                            |(rows, end)| {
                                let part = RecoveredEntry::new(entry.dump_id(), broken.position, end);
                                RecoveredEntry { rows: Some(rows), ..part }
                            },
                        );
                        (part, HashSet::new())
                    }
                    _ => (None, HashSet::new()),
                };
                if let Some(part) = part {
                    objects_found.extend(oids.into_iter().map(|oid| (oid, entry.dump_id())));
                    recovered.push(RecoveredEntry { missing: Some(broken.loss), ..part });
                    continue;
                }
                broken.loss
            }
            None => {
                let is_followed = ranks.get(&entry.dump_id()).copied() < last_rank;
                absent(&damage, is_followed, searched_to, length)
            }
        };
        losses.insert(entry.dump_id(), loss);
    }
    recovered.sort_by_key(|entry| entry.position);
    let mut lost_objects = Vec::new();
    if with_data().any(TocEntry::is_large_objects) {
        lost_objects = objects.iter().filter(|oid| !objects_found.contains_key(oid)).copied().collect();
        lost_objects.sort_unstable();
    }
    // Of an archive that is cut nobody can tell where it ends.
    let trailing = if seen.len() == ranks.len() { length.saturating_sub(end) } else { 0 };
    Ok(Scan { recovered, losses, damage, end, trailing, lost_objects, next_archive: None })
}

/// Why an entry is lost of which no block was found. `is_followed`: there are blocks behind its place.
fn absent(damage: &[Damage], is_followed: bool, end: u64, length: u64) -> Loss {
    let why = "no whole block of its data was found";
    match damage.iter().find(|damage| is_followed || damage.end == length) {
        Some(damage) => Loss { kind: LossKind::Damaged, position: damage.start, why: why.into() },
        None if is_followed || end < length => Loss { kind: LossKind::Damaged, position: end, why: why.into() },
        None => Loss { kind: LossKind::Cut, position: end, why: "the archive ends before its data".into() },
    }
}

struct Scanner<'t, 's, 'p, R> {
    blocks: Blocks<'t, Window<&'s mut R>>,
    toc: &'t Toc,
    options: &'t RepairOptions,
    length: u64,
    /// The place of each entry with data among them.
    ranks: HashMap<i32, usize>,
    /// What the table of contents records: position and dump ID, sorted.
    recorded: Vec<(u64, i32)>,
    /// The first of these at which the search may still find something: it only goes forward.
    next_recorded: usize,
    found: Vec<RecoveredEntry>,
    /// The dump IDs of `found`.
    seen: HashSet<i32>,
    out_of_turn: Vec<Whole>,
    broken: HashMap<i32, Broken>,
    damage: Vec<Damage>,
    /// Bytes that may still be read in vain.
    budget: u64,
    /// The large objects that the table of contents names, and those of them that were found, with their entry.
    objects: HashSet<u32>,
    objects_found: HashMap<u32, i32>,
    progress: &'p mut dyn FnMut(u64),
}

/// A block that could not be decoded to its end.
struct Broken {
    position: u64,
    loss: Loss,
    part: Part,
}

/// What there is of a block.
#[derive(Default)]
enum Part {
    #[default]
    Nothing,
    /// Perhaps rows.
    Rows,
    /// So many whole objects, and those of them that the table of contents names.
    LargeObjects { count: u64, oids: HashSet<u32> },
}

/// Which block can come next.
#[derive(Clone, Copy)]
struct Turn {
    /// Its place among the entries with data.
    rank: usize,
    /// Only this one, as there is no gap.
    exact: bool,
}

/// A block that was read to its end.
struct Whole {
    entry: RecoveredEntry,
    oids: HashSet<u32>,
    /// Its end can be told from what it holds, not only by a number that is 0.
    is_strong: bool,
}

impl Whole {
    /// A block whose end is not certain.
    fn unproven(self) -> Broken {
        let Self { entry, oids, .. } = self;
        let why = "it may have ended early: what follows it is no block of data";
        let loss = Loss { kind: LossKind::Damaged, position: entry.end, why: why.into() };
        let part = match entry.large_objects {
            Some(count) => Part::LargeObjects { count, oids },
            None => Part::Nothing,
        };
        Broken { position: entry.position, loss, part }
    }
}

impl<R: Read + Seek> Scanner<'_, '_, '_, R> {
    /// Goes through the whole archive. Returns where it ends, and up to where there was something to search.
    fn run(&mut self, data_start: u64) -> Result<(u64, u64)> {
        let mut position = data_start;
        let mut turn = Turn { rank: 0, exact: true };
        loop {
            (self.progress)(position);
            let begins = self.blocks.begins_at(position)?;
            if begins == Begins::Contents {
                match self.blocks.repeated_contents(position) {
                    Ok(end) => return Ok((end, end)),
                    Err(e) if is_fatal(&e) => return Err(e),
                    Err(_) => {}
                }
            }
            if self.seen.len() == self.ranks.len() {
                let what = match begins {
                    Begins::Contents => {
                        "the table of contents is here again, but not the same: one of the two is damaged"
                    }
                    _ if self.blocks.is_binary(position)? && !self.blocks.begins_archive(position)? => {
                        "more follows the data that the table of contents names, and is no text: entries may be missing there"
                    }
                    _ => return Ok((position, position)),
                };
                self.damage.push(Damage { start: position, end: self.length, what: what.into() });
                return Ok((self.length, self.length));
            }
            let searched_from = match begins {
                Begins::EndOfFile | Begins::CutHead => return Ok((position, self.length)),
                Begins::Contents | Begins::Other => position,
                Begins::Block(dump_id) => match self.examine(position, dump_id, turn)? {
                    Some((end, next)) => {
                        (position, turn) = (end, next);
                        continue;
                    }
                    None => position + 1,
                },
            };
            turn.exact = false;
            let found = self.search(searched_from, turn)?;
            let end = found.map_or(self.length, |(start, _, _)| start);
            let what = match begins {
                Begins::Block(_) => "the end of the block that begins here is not known",
                _ => "a block of data was expected here",
            };
            // A block that is cut is no damage between others.
            if found.is_some() || !matches!(begins, Begins::Block(_)) {
                self.damage.push(Damage { start: position, end, what: what.into() });
            }
            let Some((_, end, next)) = found else { return Ok((position, self.length)) };
            (position, turn) = (end, next);
        }
    }

    /// Reads the block at `position`. Returns where it ends and which one is due there, or `None` when that is not known.
    fn examine(&mut self, position: u64, dump_id: i32, turn: Turn) -> Result<Option<(u64, Turn)>> {
        let rank = self.rank(dump_id);
        let is_in_turn = self.is_in_turn(position, dump_id, turn);
        let next = Turn { rank: if is_in_turn { rank + 1 } else { turn.rank + 1 }, exact: turn.exact || is_in_turn };
        match self.read_whole(position, dump_id)? {
            Ok(whole) if self.is_proven(&whole)? => {
                let end = whole.entry.end;
                self.take(whole, is_in_turn);
                Ok(Some((end, next)))
            }
            Ok(whole) => {
                self.charge(position, whole.entry.end);
                self.note(dump_id, whole.unproven());
                Ok(None)
            }
            Err(broken) => {
                self.note(dump_id, broken);
                // Damage within a chunk leaves the lengths as they are.
                let passed = self.blocks.read(position, Rest::Seek, |_| Ok(()));
                self.charge(position, self.blocks.position());
                match passed {
                    Ok(((), end)) if end <= self.length && self.is_due(end, next)? => Ok(Some((end, next))),
                    Err(e) if is_fatal(&e) => Err(e),
                    _ => Ok(None),
                }
            }
        }
    }

    /// Searches the next whole block. Returns where it begins and ends, and which one is due then.
    fn search(&mut self, mut from: u64, turn: Turn) -> Result<Option<(u64, u64, Turn)>> {
        loop {
            let Some((position, dump_id)) = self.next_head(from)? else { return Ok(None) };
            (self.progress)(position);
            let is_in_turn = self.is_in_turn(position, dump_id, turn);
            match self.read_whole(position, dump_id)? {
                Ok(whole) if self.is_proven(&whole)? => {
                    let end = whole.entry.end;
                    let rank = if is_in_turn { self.rank(dump_id) + 1 } else { turn.rank };
                    self.take(whole, is_in_turn);
                    return Ok(Some((position, end, Turn { rank, exact: is_in_turn })));
                }
                Ok(whole) => {
                    self.charge(position, whole.entry.end);
                    if is_in_turn {
                        self.note(dump_id, whole.unproven());
                    }
                }
                Err(broken) if is_in_turn => self.note(dump_id, broken),
                Err(_) => {}
            }
            if self.budget == 0 {
                let what = "the search for more blocks was given up here: too much looks like one";
                self.damage.push(Damage { start: position, end: self.length, what: what.into() });
                return Ok(None);
            }
            from = position + 1;
        }
    }

    /// Where the next block could begin: where the table of contents says, or anywhere.
    fn next_head(&mut self, from: u64) -> Result<Option<(u64, i32)>> {
        self.budget = self.budget.saturating_sub(LOOK_BYTES);
        while let Some(&(position, dump_id)) = self.recorded.get(self.next_recorded) {
            if position >= from
                && !self.seen.contains(&dump_id)
                && self.blocks.begins_at(position)? == Begins::Block(dump_id)
            {
                return Ok(Some((position, dump_id)));
            }
            self.next_recorded += 1;
        }
        let seen = &self.seen;
        self.blocks.find_head(from, |dump_id| !seen.contains(&dump_id))
    }

    fn take(&mut self, whole: Whole, is_in_turn: bool) {
        let dump_id = whole.entry.dump_id;
        if !self.seen.contains(&dump_id) && (is_in_turn || self.options.any_order) {
            self.seen.insert(dump_id);
            self.objects_found.extend(whole.oids.into_iter().map(|oid| (oid, dump_id)));
            self.found.push(whole.entry);
        } else {
            self.out_of_turn.push(whole);
        }
    }

    /// Gives up blocks that are shorter or longer than the table of contents says, by where it has the next one: bytes are
    /// missing in them, though what is left can be decoded.
    fn distrust_other_lengths(&mut self) {
        let recorded: HashMap<i32, u64> =
            self.recorded.iter().map(|&(position, dump_id)| (dump_id, position)).collect();
        self.found.sort_by_key(|entry| entry.position);
        let placed = self.found.iter().map(|entry| Placed {
            begin: entry.position,
            end: entry.end,
            recorded: recorded.get(&entry.dump_id).copied(),
        });
        let others: HashSet<usize> = of_other_length(&placed.collect::<Vec<_>>()).into_iter().collect();
        let found = std::mem::take(&mut self.found).into_iter().enumerate();
        let (kept, others): (Vec<_>, Vec<_>) = found.partition(|(place, _)| !others.contains(place));
        self.found = kept.into_iter().map(|(_, entry)| entry).collect();
        let others = others.into_iter().map(|(_, entry)| entry);
        for entry in others {
            self.seen.remove(&entry.dump_id);
            let loss = Loss { kind: LossKind::Damaged, position: entry.position, why: OTHER_LENGTH.into() };
            self.broken.entry(entry.dump_id).or_insert(Broken { position: entry.position, loss, part: Part::Nothing });
        }
        let seen = &self.seen;
        self.objects_found.retain(|_, dump_id| seen.contains(dump_id));
    }

    /// Decides about blocks that were not where pg_dump would have written them.
    fn settle_out_of_turn(&mut self) {
        let blocks = std::mem::take(&mut self.out_of_turn);
        let ids: HashSet<i32> = blocks.iter().map(|block| block.entry.dump_id).collect();
        // Nothing is missing, nothing is there twice: the archive was written in another order.
        let is_complete = self.damage.is_empty()
            && self.broken.is_empty()
            && ids.is_disjoint(&self.seen)
            && ids.len() == blocks.len()
            && self.seen.len() + blocks.len() == self.ranks.len();
        for Whole { entry: block, oids, .. } in blocks {
            if is_complete {
                self.seen.insert(block.dump_id);
                self.objects_found.extend(oids.into_iter().map(|oid| (oid, block.dump_id)));
                self.found.push(block);
                continue;
            }
            let entry = self.toc.get(block.dump_id).map(ToString::to_string).unwrap_or_default();
            self.damage.push(Damage {
                start: block.position,
                end: block.end,
                what: format!("this block says that it is the data of {entry}, but another one is due here"),
            });
            let why = "a whole block names it, but in a place where pg_dump does not write it";
            let loss = Loss { kind: LossKind::OutOfTurn, position: block.position, why: why.into() };
            self.broken.entry(block.dump_id).or_insert(Broken { position: block.position, loss, part: Part::Nothing });
        }
        self.damage.sort_by_key(|damage| damage.start);
    }

    /// Notes that these bytes were read in vain.
    fn charge(&mut self, begin: u64, end: u64) {
        self.budget = self.budget.saturating_sub(end.saturating_sub(begin));
    }

    fn note(&mut self, dump_id: i32, broken: Broken) {
        if !self.seen.contains(&dump_id) {
            self.broken.entry(dump_id).or_insert(broken);
        }
    }

    fn rank(&self, dump_id: i32) -> usize {
        self.ranks.get(&dump_id).copied().unwrap_or_default()
    }

    fn is_in_turn(&self, position: u64, dump_id: i32, turn: Turn) -> bool {
        let rank = self.rank(dump_id);
        self.recorded.binary_search(&(position, dump_id)).is_ok()
            || if turn.exact { rank == turn.rank } else { rank >= turn.rank }
    }

    /// Whether what was read as a block is one, and ends where it seems to.
    fn is_proven(&mut self, whole: &Whole) -> Result<bool> {
        let has_all_objects = whole.entry.large_objects.is_some()
            && !self.objects.is_empty()
            && self.objects.iter().all(|oid| whole.oids.contains(oid) || self.objects_found.contains_key(oid));
        Ok(whole.is_strong || has_all_objects || self.is_plausible_end(whole.entry.end)?)
    }

    /// Whether what is here can follow a block.
    fn is_plausible_end(&mut self, position: u64) -> Result<bool> {
        Ok(self.blocks.begins_at(position)? != Begins::Other)
    }

    /// Whether what is here is due: a damaged length can lead to the begin of a later block as well.
    fn is_due(&mut self, position: u64, turn: Turn) -> Result<bool> {
        Ok(match self.blocks.begins_at(position)? {
            Begins::Block(dump_id) => self.rank(dump_id) == turn.rank,
            Begins::EndOfFile | Begins::Contents => turn.rank == self.ranks.len(),
            Begins::CutHead | Begins::Other => false,
        })
    }

    /// Decodes the block at `position` to its end; what goes wrong with it is the inner error.
    fn read_whole(&mut self, position: u64, dump_id: i32) -> Result<Result<Whole, Broken>> {
        let mut whole = RecoveredEntry::new(dump_id, position, position);
        let mut oids = HashSet::new();
        let (expected, earlier, progress) = (&self.objects, &self.objects_found, &mut *self.progress);
        let (mut part, mut inserts) = (Part::Nothing, LastBytes::default());
        let read = self.blocks.read(position, Rest::Read, |block| match block {
            Block::Data(data) if data.entry().copy_statement().is_some_and(|s| !s.is_empty()) => {
                part = Part::Rows;
                let entry = data.entry();
                let mut data = data.rows();
                let (mut rows, mut tabs) = (0, 0);
                while let Some(batch) = data.next_batch()? {
                    rows += batch.count();
                    whole.bytes += batch.raw().len() as u64;
                    tabs += memchr_iter(b'\t', batch.raw()).count() as u64;
                    expect_text(batch.raw(), position)?;
                    progress(data.position());
                }
                whole.rows = Some(rows);
                expect_fields(entry, rows, tabs, position)
            }
            Block::Data(mut data) => {
                whole.bytes = drain(&mut data, &mut vec![0; BUFFER_BYTES], |_, piece| {
                    inserts.take(piece);
                    expect_text(piece, position)
                })?;
                Ok(())
            }
            Block::LargeObjects(mut objects) => {
                let mut count = 0;
                while let Some(mut object) = objects.next_object()? {
                    let drained = io::copy(&mut object, &mut io::sink());
                    whole.bytes += drained.map_err(|e| Error::from_io(e, position))?;
                    progress(object.position());
                    if expected.contains(&object.oid()) {
                        if earlier.contains_key(&object.oid()) || !oids.insert(object.oid()) {
                            let text = format!("large object {} is there twice", object.oid());
                            return Err(Error::corrupt(text, object.position()));
                        }
                    } else if !expected.is_empty() {
                        let text = format!("the table of contents names no large object {}", object.oid());
                        return Err(Error::corrupt(text, object.position()));
                    }
                    count += 1;
                    part = Part::LargeObjects { count, oids: HashSet::new() };
                }
                whole.large_objects = Some(count);
                Ok(())
            }
        });
        match read {
            Ok(((), end)) => {
                whole.end = end;
                let is_compressed = self.blocks.is_compressed() && whole.bytes > 0;
                let is_strong = match (whole.rows, whole.large_objects) {
                    (Some(_), _) => true,
                    // The end of the list is one number.
                    (None, Some(_)) => false,
                    // pg_dump ends INSERT statements with empty lines.
                    (None, None) => is_compressed || inserts.0 == *b"\n\n",
                };
                Ok(Ok(Whole { entry: whole, oids, is_strong }))
            }
            Err(e) if is_fatal(&e) => Err(e),
            Err(e) => {
                self.charge(position, self.blocks.position());
                // An entry whose data ends too early within its block is not cut, but damaged.
                let is_cut = matches!(e.kind(), ErrorKind::Truncated(_)) && self.blocks.position() >= self.length;
                let kind = if is_cut { LossKind::Cut } else { LossKind::Damaged };
                if let Part::LargeObjects { oids: found, .. } = &mut part {
                    *found = oids;
                }
                let loss = Loss { kind, position: e.offset(), why: e.kind().to_string() };
                Ok(Err(Broken { position, loss, part }))
            }
        }
    }
}

pub(super) fn window<R: Read + Seek>(source: &mut R, start: u64, length: Option<u64>) -> Result<Window<&mut R>> {
    Window::new(source, start, length).map_err(|e| Error::new(ErrorKind::Io(e), 0))
}

/// An archive up to the byte `end`, which is behind a chunk.
///
/// Rows that are not compressed are read over the ends of chunks, and those before an error would be lost with it: there the
/// block is ended.
pub(super) fn cut_window<'s, R: Read + Seek>(
    source: &'s mut R,
    start: u64,
    end: u64,
    header: &Header,
) -> Result<Window<&'s mut R>> {
    let window = window(source, start, Some(end))?;
    let is_compressed = header.compression != Compression::None;
    Ok(window.followed_by_zeros(if is_compressed { 0 } else { 1 + u64::from(header.int_size) }))
}

/// How many whole rows there are in a block that is cut, and where the bytes end that they are in.
///
/// Only chunks count behind which there is the length of another one: what is behind the cut, such as the
/// rest of a log, could stand in the place of the last chunk.
fn rows_before_cut<R: Read + Seek>(
    source: &mut R,
    start: u64,
    (header, toc): (&Header, &Toc),
    options: &RepairOptions,
    position: u64,
) -> Result<Option<(u64, u64)>> {
    let limits = &options.read.limits;
    let mut blocks = Blocks::new(window(source, start, None)?, header, toc, limits);
    let Some(end) = blocks.end_of_whole_chunks(position)? else { return Ok(None) };
    let blocks = Blocks::new(cut_window(source, start, end, header)?, header, toc, limits);
    Ok(whole_rows(blocks, position)?.map(|rows| (rows, end)))
}

/// The last two bytes of what was read.
#[derive(Default)]
struct LastBytes([u8; 2]);

impl LastBytes {
    fn take(&mut self, bytes: &[u8]) {
        for &byte in &bytes[bytes.len().saturating_sub(2)..] {
            self.0 = [self.0[1], byte];
        }
    }
}

/// Counts the whole rows of a block that is cut; `None` when there are none, or what is there is damaged as well.
fn whole_rows<R: Read + Seek>(mut blocks: Blocks<'_, R>, position: u64) -> Result<Option<u64>> {
    let mut count = 0;
    let read = blocks.read(position, Rest::Leave, |block| {
        let Block::Data(data) = block else { return Ok(()) };
        let entry = data.entry();
        let mut rows = data.rows();
        loop {
            let Some(batch) = rows.next_batch()? else { return Ok(()) };
            expect_text(batch.raw(), position)?;
            expect_fields(entry, batch.count(), memchr_iter(b'\t', batch.raw()).count() as u64, position)?;
            count += batch.count();
        }
    });
    match read {
        Err(e) if is_fatal(&e) => Err(e),
        Err(e) if matches!(e.kind(), ErrorKind::Truncated(_)) => Ok((count > 0).then_some(count)),
        _ => Ok(None),
    }
}

/// Whether an error says nothing about the archive.
fn is_fatal(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Io(_) | ErrorKind::Unsupported(_) | ErrorKind::Usage(_))
}

/// The positions in the file that the table of contents records.
fn recorded_positions(toc: &Toc, length: u64) -> Vec<(u64, i32)> {
    let mut positions: Vec<_> = toc
        .entries()
        .iter()
        .filter(|entry| entry.has_data())
        .filter_map(|entry| match entry.data_state() {
            DataState::Position(position) if position < length => Some((position, entry.dump_id())),
            _ => None,
        })
        .collect();
    positions.sort_unstable();
    positions
}
