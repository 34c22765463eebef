//! Reading an archive from its first byte to its last, or one entry at a time.

use std::collections::HashMap;
use std::io::{Read, Seek};

use crate::block::{Block, BodyState, ObjectsState, OpenBlock, skip_by_reading};
use crate::decode::ChunkState;
use crate::error::{Error, Result};
use crate::header::Header;
use crate::input::{Input, TextBudget};
use crate::limits::Limits;
use crate::toc::{DataState, Toc, TocEntry};

const BLOCK_DATA: u8 = 1;
const BLOCK_LARGE_OBJECTS: u8 = 3;

/// An archive in the custom format (`pg_dump -Fc`): its header and table of
/// contents are read at once, its data when asked for.
///
/// [`next_block`](Self::next_block) needs no more than [`Read`] and takes the
/// data in the order of the file, so it serves pipes. [`block`](Self::block)
/// finds one entry in a seekable file, also in one that was *written* to a pipe
/// and therefore records no positions.
#[derive(Debug)]
pub struct ArchiveReader<R> {
    input: Input<R>,
    header: Header,
    toc: Toc,
    limits: Limits,
    /// Where the first block begins.
    data_start: u64,
    /// The block that the input is in.
    open: Option<OpenBlock>,
    /// Dump ID to position of the blocks passed since the first one; `None` when
    /// `block` has jumped since.
    sequence: Option<HashMap<i32, u64>>,
    /// Positions learnt while looking for entries that record none.
    found: HashMap<i32, u64>,
    /// The blocks before this position are in `found`; a block begins here, or the file ends.
    scanned_to: u64,
}

impl<R: Read> ArchiveReader<R> {
    /// Reads the header and the table of contents.
    ///
    /// # Errors
    ///
    /// When `input` is not an archive that this crate reads, or is cut short or
    /// damaged in those parts.
    pub fn new(input: R) -> Result<Self> {
        Self::with_limits(input, Limits::default())
    }

    /// As [`new`](Self::new), with other limits on memory than the default ones.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub fn with_limits(input: R, limits: Limits) -> Result<Self> {
        let mut input = Input::new(input);
        let mut budget = TextBudget::new(limits.toc_bytes);
        let header = Header::read(&mut input, &mut budget)?;
        let toc = Toc::read(&mut input, &header, &limits, &mut budget)?;
        let data_start = input.position();
        Ok(Self {
            input,
            header,
            toc,
            limits,
            data_start,
            open: None,
            sequence: Some(HashMap::new()),
            found: HashMap::new(),
            scanned_to: data_start,
        })
    }

    /// What the archive says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The table of contents.
    pub fn toc(&self) -> &Toc {
        &self.toc
    }

    /// How many bytes of the archive precede the next one to be read.
    pub fn position(&self) -> u64 {
        self.input.position()
    }

    /// The next block of data in the order of the file; `None` after the last
    /// one. What was not read of the block before is passed over.
    ///
    /// # Errors
    ///
    /// When the archive is cut short or damaged. After `None`, every entry that
    /// must have data has had its block (unless [`block`](Self::block) was called
    /// in between): an archive that lacks one is an error.
    pub fn next_block(&mut self) -> Result<Option<Block<'_, R>>> {
        if let Some(mut open) = self.open.take() {
            open.skip_rest(&mut self.input, self.header.int_size, skip_by_reading)
                .map_err(|e| name_entry(e, &self.toc, open.dump_id))?;
        }
        let offset = self.input.position();
        let Some(open) = self.read_block_head()? else {
            self.expect_complete(offset)?;
            return Ok(None);
        };
        if let Some(before) = self.sequence.as_mut().and_then(|seen| seen.insert(open.dump_id, offset)) {
            let text = format!("this entry has data twice, first at byte {before}");
            return Err(name_entry(Error::corrupt(text, offset), &self.toc, open.dump_id));
        }
        self.present(open, offset).map(Some)
    }

    /// Reads the head of a block; `None` at the end of the archive.
    fn read_block_head(&mut self) -> Result<Option<OpenBlock>> {
        let offset = self.input.position();
        // No block, but the first byte of a number: of how many entries there are.
        if self.input.peek()?.first() == Some(&0) {
            self.toc.read_again(&mut self.input, &self.header)?;
            return Ok(None);
        }
        let large_objects = match self.input.next_byte()? {
            None => return Ok(None),
            Some(BLOCK_DATA) => false,
            Some(BLOCK_LARGE_OBJECTS) => true,
            Some(other) => {
                return Err(Error::corrupt(
                    format!("a block of data was expected here, but its type is {other}"),
                    offset,
                ));
            }
        };
        let id = self.input.int(self.header.int_size, "within the head of a block of data")?;
        let entry = i32::try_from(id).ok().and_then(|id| self.toc.get(id)).ok_or_else(|| {
            Error::corrupt(
                format!("a block of data names dump ID {id}, which the table of contents does not have"),
                offset,
            )
        })?;
        if !entry.has_data() || large_objects != (entry.description() == b"BLOBS") {
            return Err(Error::corrupt("this entry cannot have a block of data of this type", offset).in_entry(entry));
        }
        let body = if large_objects {
            BodyState::LargeObjects(ObjectsState::default())
        } else {
            BodyState::Data(ChunkState::default())
        };
        Ok(Some(OpenBlock { dump_id: entry.dump_id(), body }))
    }

    fn present(&mut self, open: OpenBlock, offset: u64) -> Result<Block<'_, R>> {
        let Some(entry) = self.toc.get(open.dump_id) else {
            return Err(Error::corrupt(format!("dump ID {} is unknown", open.dump_id), offset));
        };
        self.open.insert(open).present(entry, &self.header, &self.limits, &mut self.input)
    }

    fn expect_complete(&self, offset: u64) -> Result<()> {
        let Some(sequence) = &self.sequence else { return Ok(()) };
        let mut missing = self.toc.entries().iter().filter(|e| e.has_data() && !sequence.contains_key(&e.dump_id()));
        let Some(first) = missing.next() else { return Ok(()) };
        let place = match missing.count() {
            0 => format!("before the data of {first}"),
            others => format!("before the data of {first} and of {others} more entries"),
        };
        Err(Error::truncated(place, offset))
    }
}

impl<R: Read + Seek> ArchiveReader<R> {
    /// The data of the entry with this dump ID, wherever it is in the file.
    /// `None` when the entry has no data.
    ///
    /// An archive that was written to a pipe records no positions; then the file
    /// is scanned from block to block, without decompressing, and what is passed
    /// is remembered.
    ///
    /// # Errors
    ///
    /// When the archive is cut short or damaged, or has no such entry.
    pub fn block(&mut self, dump_id: i32) -> Result<Option<Block<'_, R>>> {
        self.open = None;
        self.sequence = None;
        let Some(entry) = self.toc.get(dump_id) else {
            let text = format!("dump ID {dump_id} is not in the table of contents");
            return Err(Error::new(crate::ErrorKind::Usage(text), self.input.position()));
        };
        if !entry.has_data() {
            return Ok(None);
        }
        let recorded = match entry.data_state() {
            DataState::Position(position) => Some(position),
            _ => self.found.get(&dump_id).copied(),
        };
        let (open, offset) = match recorded {
            Some(position) => (self.block_at(position, dump_id)?, position),
            None => self.scan_for(dump_id)?,
        };
        self.present(open, offset).map(Some)
    }

    /// Goes back to the first block, so that [`next_block`](Self::next_block)
    /// reads the whole archive (again).
    ///
    /// # Errors
    ///
    /// When the file cannot be positioned.
    pub fn rewind(&mut self) -> Result<()> {
        self.open = None;
        self.sequence = Some(HashMap::new());
        self.input.seek_to(self.data_start)
    }

    fn block_at(&mut self, position: u64, dump_id: i32) -> Result<OpenBlock> {
        self.input.seek_to(position)?;
        let open = self.read_block_head().map_err(|e| name_entry(e, &self.toc, dump_id))?;
        match open {
            Some(open) if open.dump_id == dump_id => Ok(open),
            Some(other) => {
                let text = format!("at its recorded position is the data of dump ID {}", other.dump_id);
                Err(name_entry(Error::corrupt(text, position), &self.toc, dump_id))
            }
            None => Err(name_entry(
                Error::truncated("before the position recorded for this entry", position),
                &self.toc,
                dump_id,
            )),
        }
    }

    fn scan_for(&mut self, dump_id: i32) -> Result<(OpenBlock, u64)> {
        self.input.seek_to(self.scanned_to)?;
        loop {
            let offset = self.input.position();
            let Some(mut open) = self.read_block_head()? else {
                return Err(name_entry(Error::truncated("before the data of this entry", offset), &self.toc, dump_id));
            };
            self.scanned_to = offset;
            self.found.insert(open.dump_id, offset);
            if open.dump_id == dump_id {
                return Ok((open, offset));
            }
            let skip = |input: &mut Input<R>, bytes: u64| input.seek_to(input.position().saturating_add(bytes));
            open.skip_rest(&mut self.input, self.header.int_size, skip)
                .map_err(|e| name_entry(e, &self.toc, open.dump_id))?;
        }
    }
}

fn name_entry(error: Error, toc: &Toc, dump_id: i32) -> Error {
    match toc.get(dump_id) {
        Some(entry) => error.in_entry(entry as &TocEntry),
        None => error,
    }
}
