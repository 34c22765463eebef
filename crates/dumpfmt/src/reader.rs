//! Reading an archive from its first byte to its last, or one entry at a time.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::Path;
use std::sync::Arc;

use crate::block::{Block, Content, OpenBlock, skip_by_reading};
use crate::directory::Directory;
use crate::error::{Error, ErrorKind, Result};
use crate::foreign;
use crate::header::{Format, Header};
use crate::input::{Input, TextBudget};
use crate::limits::{Limits, ReadOptions};
use crate::named_objects::NamedObjects;
use crate::source::{Layout, Source};
use crate::tar::{self, Tar};
use crate::toc::{DataState, Toc};

/// An archive in the custom, tar or directory format (`pg_dump -Fc`, `-Ft`,
/// `-Fd`): its header and table of contents are read at once, its data when asked
/// for.
///
/// [`next_block`](Self::next_block) needs no more than [`Read`] and takes the
/// data in the order of the file, so it serves pipes. [`block`](Self::block)
/// finds one entry in a seekable file, also in one that was *written* to a pipe
/// and therefore records no positions.
#[derive(Debug)]
pub struct ArchiveReader<R> {
    source: Source<R>,
    header: Header,
    toc: Arc<Toc>,
    limits: Limits,
    /// Where the first block begins.
    data_start: u64,
    /// The block that the input is in.
    open: Option<OpenBlock<R>>,
    /// Where each block was that was passed since the first one, by dump ID; `None` when `block` has jumped since.
    sequence: Option<HashMap<i32, u64>>,
    /// How many blocks of large objects are before the next one; `None` when `block` has jumped since.
    groups: Option<usize>,
    /// Positions learnt while looking for entries that record none.
    found: HashMap<i32, u64>,
    /// The blocks before this position are in `found`; a block begins here, or the file ends.
    scanned_to: u64,
    /// How many of those are large objects.
    scanned_groups: usize,
    /// The large objects that there are to be, from the first block of them on.
    named: Option<NamedObjects>,
    /// How many blocks were opened.
    opened: u32,
    /// Whether the place of the next block is lost.
    is_lost: bool,
}

impl ArchiveReader<File> {
    /// Opens the archive at `path`: a file in the custom or tar format, or a
    /// folder in the directory format.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new), or when there is nothing that can be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, ReadOptions::default())
    }

    /// As [`open`](Self::open), with options.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn open_with(path: impl AsRef<Path>, options: ReadOptions) -> Result<Self> {
        let path = path.as_ref();
        let failed = |e| Error::new(ErrorKind::Io(e), 0);
        if !fs::metadata(path).map_err(failed)?.is_dir() {
            return Self::with_options(File::open(path).map_err(failed)?, options);
        }
        let directory = Directory::new(path, |path| File::open(path))?;
        let (mut input, length) = directory.open_contents()?;
        let mut read = || {
            if foreign::recognise(&mut input)? != Format::Custom {
                return Err(Error::new(ErrorKind::NotAnArchive("it is a tar file in a folder".into()), 0));
            }
            let (header, toc) = read_contents(&mut input, Format::Directory, &options)?;
            if input.position() != length || !input.peek()?.is_empty() {
                return Err(Error::corrupt("bytes follow the table of contents", input.position()));
            }
            Ok((header, toc))
        };
        let (header, toc) = read().map_err(|e| input.locate(e))?;
        Ok(Self::of(Source { input, layout: Layout::Directory(directory) }, header, toc, options.limits))
    }
}

impl ArchiveReader<File> {
    /// The file that is read; in a directory, the last one.
    pub(crate) fn file(&self) -> &File {
        self.source.input.inner()
    }

    /// The same directory, for another thread.
    pub(crate) fn another_source(&self) -> Result<Source<File>> {
        let Layout::Directory(directory) = &self.source.layout else {
            return Err(Error::usage("the archive is not in the directory format"));
        };
        let directory = directory.again();
        let (input, _) = directory.open_contents()?;
        Ok(Source { input, layout: Layout::Directory(directory) })
    }
}

impl<R: Read> ArchiveReader<R> {
    /// Reads the header and the table of contents of an archive in the custom or
    /// tar format. For the directory format, see [`open`](ArchiveReader::open).
    ///
    /// # Errors
    ///
    /// When `input` is not an archive that this crate reads, or is cut short or
    /// damaged in those parts.
    pub fn new(input: R) -> Result<Self> {
        Self::with_options(input, ReadOptions::default())
    }

    /// As [`new`](Self::new), with other limits on memory than the default ones.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub fn with_limits(input: R, limits: Limits) -> Result<Self> {
        Self::with_options(input, limits.into())
    }

    /// As [`new`](Self::new), with options.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub fn with_options(input: R, options: ReadOptions) -> Result<Self> {
        let mut input = Input::new(input);
        let (header, toc, layout) = match foreign::recognise(&mut input)? {
            Format::Tar => {
                let contents = tar::Member::read_first(&mut input, foreign::TAR)?;
                foreign::expect_magic(&mut input)?;
                let (header, toc) = read_contents(&mut input, Format::Tar, &options)?;
                tar::expect_contents_end(&mut input, contents.length)?;
                let tar = Tar::new(&header, &toc);
                (header, toc, Layout::Tar(tar))
            }
            _ => {
                let (header, toc) = read_contents(&mut input, Format::Custom, &options)?;
                (header, toc, Layout::Custom)
            }
        };
        Ok(Self::of(Source { input, layout }, header, toc, options.limits))
    }

    fn of(source: Source<R>, header: Header, toc: Toc, limits: Limits) -> Self {
        let data_start = source.input.position();
        Self {
            source,
            header,
            toc: Arc::new(toc),
            limits,
            data_start,
            open: None,
            sequence: Some(HashMap::new()),
            groups: Some(0),
            found: HashMap::new(),
            scanned_to: data_start,
            scanned_groups: 0,
            named: None,
            opened: 0,
            is_lost: false,
        }
    }

    pub(crate) fn shared_toc(&self) -> Arc<Toc> {
        Arc::clone(&self.toc)
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What the archive says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The table of contents.
    pub fn toc(&self) -> &Toc {
        &self.toc
    }

    pub(crate) fn into_contents(self) -> (Header, Arc<Toc>) {
        (self.header, self.toc)
    }

    /// How many bytes of the archive precede the next one to be read. In a
    /// directory, of all files that were read so far.
    pub fn position(&self) -> u64 {
        self.source.input.total_position()
    }

    /// The next block of data in the order of the file, or for a directory in that
    /// of the table of contents; `None` after the last one. What was not read of
    /// the block before is passed over.
    ///
    /// # Errors
    ///
    /// When the archive is cut short or damaged. After `None`, every entry that
    /// must have data has had its block (unless [`block`](Self::block) was called
    /// in between): an archive that lacks one is an error. After an error there are no more blocks, but for what
    /// [`block`](Self::block) and [`rewind`](Self::rewind) find.
    pub fn next_block(&mut self) -> Result<Option<Block<'_, R>>> {
        if self.is_lost {
            return Err(Error::usage("no next block is known after an error"));
        }
        // Until it is known.
        self.is_lost = true;
        if let Some(mut open) = self.open.take() {
            self.groups.get_or_insert_with(|| groups_up_to(&self.toc, open.dump_id));
            self.skip_rest(&mut open, skip_by_reading)?;
        }
        let next = self.next_head()?;
        self.is_lost = false;
        match next {
            Some((open, offset)) => self.present(open, offset).map(Some),
            None => Ok(None),
        }
    }

    /// Refuses a reader that has given out blocks, to whoever needs all of them.
    pub(crate) fn expect_unread(&self) -> Result<()> {
        if self.is_lost || self.sequence.as_ref().is_none_or(|passed| !passed.is_empty()) {
            return Err(Error::usage("blocks of this archive were read already: call `rewind` before"));
        }
        Ok(())
    }

    /// Refuses a table of contents that says fewer entries than there are, as far as what follows it tells: whoever wants only
    /// some of the data may never get there. Nothing must have been read yet.
    pub(crate) fn expect_all_entries(&mut self) -> Result<()> {
        // No block of data begins like this, but any number, such as a dump ID or how many entries there are.
        if self.header.format != Format::Custom || self.source.input.peek()?.first() != Some(&0) {
            return Ok(());
        }
        let offset = self.source.input.position();
        match self.next_block() {
            Err(e) if matches!(e.kind(), ErrorKind::Corrupt(_)) => {
                let text = "neither data nor its own repetition follows the table of contents: it may have more entries \
                            than it says";
                Err(Error::corrupt(text, offset))
            }
            other => other.map(drop),
        }
    }

    /// Reads the head of the next block in the sequence, of which it returns the position too; `None` at
    /// the end of an archive that is complete.
    fn next_head(&mut self) -> Result<Option<(OpenBlock<R>, u64)>> {
        let groups = self.groups.unwrap_or(0);
        let Some((open, offset)) = self.read_block_head(groups)? else {
            self.expect_complete(self.source.input.position())?;
            return Ok(None);
        };
        self.groups = Some(groups + usize::from(matches!(open.content, Content::LargeObjects(_))));
        self.expect_recorded(open.dump_id, offset)?;
        if let Some(before) = self.sequence.as_mut().and_then(|passed| passed.insert(open.dump_id, offset)) {
            return Err(self.name_entry(data_twice(before, offset), open.dump_id));
        }
        Ok(Some((open, offset)))
    }

    /// Reads the head of the next block, of which it returns the position too;
    /// `None` at the end of the archive.
    fn read_block_head(&mut self, groups: usize) -> Result<Option<(OpenBlock<R>, u64)>> {
        let offset = self.source.input.position();
        let open = self
            .source
            .next_block(&self.header, &self.toc, &self.limits, groups)
            .map_err(|e| self.source.input.locate(e))?;
        Ok(open.map(|open| (self.numbered(open), offset)))
    }

    fn numbered(&mut self, open: OpenBlock<R>) -> OpenBlock<R> {
        if matches!(open.content, Content::LargeObjects(_)) {
            self.named.get_or_insert_with(|| NamedObjects::of(&self.toc));
        }
        self.opened = self.opened.wrapping_add(1);
        OpenBlock { number: self.opened, ..open }
    }

    fn skip_rest(&mut self, open: &mut OpenBlock<R>, skip: fn(&mut Input<R>, u64) -> Result<()>) -> Result<()> {
        let skipped = open.skip_rest(&mut self.source, &self.limits, self.named.as_mut(), skip);
        skipped.map_err(|e| self.name_entry(e, open.dump_id))
    }

    fn present(&mut self, open: OpenBlock<R>, offset: u64) -> Result<Block<'_, R>> {
        let Some(entry) = self.toc.get(open.dump_id) else {
            return Err(Error::corrupt(format!("dump ID {} is unknown", open.dump_id), offset));
        };
        Ok(self.open.insert(open).present(entry, &self.limits, &mut self.source, self.named.as_mut()))
    }

    fn name_entry(&self, error: Error, dump_id: i32) -> Error {
        let error = self.source.input.locate(error);
        match self.toc.get(dump_id) {
            Some(entry) => error.in_entry(entry),
            None => error,
        }
    }

    /// A position that is recorded wrongly misleads whoever jumps there, as `pg_restore -j` does, or bytes are missing before.
    fn expect_recorded(&self, dump_id: i32, offset: u64) -> Result<()> {
        match self.toc.get(dump_id).map(|entry| (entry, entry.data_state())) {
            Some((entry, DataState::Position(recorded)))
                if recorded != offset && self.header.format == Format::Custom =>
            {
                let text = format!("the data is here, but the table of contents records byte {recorded}");
                Err(Error::corrupt(text, offset).in_entry(entry))
            }
            _ => Ok(()),
        }
    }

    /// Of a directory: that each of its files with data is one of an entry.
    pub(crate) fn expect_named(&self) -> Result<()> {
        match &self.source.layout {
            Layout::Directory(directory) => directory.expect_named(&self.toc),
            Layout::Custom | Layout::Tar(_) => Ok(()),
        }
    }

    fn expect_complete(&self, offset: u64) -> Result<()> {
        let Some(passed) = &self.sequence else { return Ok(()) };
        self.expect_named()?;
        let mut missing = self.toc.entries().iter().filter(|e| e.has_data() && !passed.contains_key(&e.dump_id()));
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
        let Some(entry) = self.toc.get(dump_id) else {
            let text = format!("dump ID {dump_id} is not in the table of contents");
            return Err(Error::new(ErrorKind::Usage(text), self.source.input.position()));
        };
        if !entry.has_data() {
            return Ok(None);
        }
        (self.open, self.sequence, self.groups) = (None, None, None);
        // What fails from here on leaves no place to go on from.
        self.is_lost = true;
        let recorded = match entry.data_state() {
            DataState::Position(position) => Some(position),
            _ => self.found.get(&dump_id).copied(),
        };
        let (open, offset) = match recorded {
            _ if self.header.format == Format::Directory => {
                let open = self.source.open_entry(&self.header, dump_id, &self.toc);
                (open.map(|open| self.numbered(open)).map_err(|e| self.name_entry(e, dump_id))?, 0)
            }
            Some(position) => (self.block_at(position, dump_id)?, position),
            None => self.scan_for(dump_id)?,
        };
        self.is_lost = false;
        self.present(open, offset).map(Some)
    }

    /// Passes over the rest of a block that [`block`](Self::block) gave, and refuses what cannot follow one: with a damaged length
    /// it would have ended early.
    pub(crate) fn expect_block_end(&mut self) -> Result<()> {
        let Some(mut open) = self.open.take().filter(|_| self.header.format == Format::Custom) else { return Ok(()) };
        self.is_lost = true;
        self.seek_over_rest(&mut open)?;
        let end = self.source.input.position();
        match self.read_block_head(0).map_err(|e| self.name_entry(e, open.dump_id)) {
            // What is lost with the rest of an archive that is cut says nothing about this block.
            Err(e) if !matches!(e.kind(), ErrorKind::Truncated(_)) => return Err(e),
            _ => {}
        }
        self.source.input.seek_to(end)?;
        self.is_lost = false;
        Ok(())
    }

    /// Looks at the begin of each block, from the first one on, and refuses what [`next_block`](Self::next_block) would
    /// refuse by them. Of a directory, looks for files that nothing names.
    pub(crate) fn expect_all_blocks(&mut self) -> Result<()> {
        if matches!(self.source.layout, Layout::Directory(_)) {
            return self.expect_named();
        }
        self.rewind()?;
        while self.pass_block()?.is_some() {}
        Ok(())
    }

    /// Passes over the next block in the sequence without reading its data: its dump ID, where it begins and where it ends.
    pub(crate) fn pass_block(&mut self) -> Result<Option<(i32, u64, u64)>> {
        let Some((mut open, begin)) = self.next_head()? else { return Ok(None) };
        self.seek_over_rest(&mut open)?;
        Ok(Some((open.dump_id, begin, self.source.input.position())))
    }

    fn seek_over_rest(&mut self, open: &mut OpenBlock<R>) -> Result<()> {
        let skip = |input: &mut Input<R>, bytes| input.seek_to(input.position().saturating_add(bytes));
        let skipped = self.skip_rest(open, skip);
        // An end that was jumped over is where the file ends.
        skipped.or_else(|e| match e.kind() {
            ErrorKind::Truncated(_) => Err(e.at_most(self.source.input.length()?)),
            _ => Err(e),
        })
    }

    /// Goes back to the first block, so that [`next_block`](Self::next_block)
    /// reads the whole archive (again).
    ///
    /// # Errors
    ///
    /// When the file cannot be positioned.
    pub fn rewind(&mut self) -> Result<()> {
        (self.open, self.sequence, self.groups) = (None, Some(HashMap::new()), Some(0));
        (self.named, self.is_lost) = (None, false);
        match &mut self.source.layout {
            Layout::Directory(directory) => {
                directory.rewind();
                Ok(())
            }
            Layout::Custom | Layout::Tar(_) => self.source.input.seek_to(self.data_start),
        }
    }

    fn block_at(&mut self, position: u64, dump_id: i32) -> Result<OpenBlock<R>> {
        self.source.input.seek_to(position)?;
        let groups = match &self.source.layout {
            Layout::Tar(tar) => tar.groups_before(dump_id),
            Layout::Custom | Layout::Directory(_) => 0,
        };
        let open = self.read_block_head(groups).map_err(|e| self.name_entry(e, dump_id))?;
        match open {
            Some((open, _)) if open.dump_id == dump_id => Ok(open),
            Some((other, _)) => {
                let text = format!("at its recorded position is the data of dump ID {}", other.dump_id);
                Err(self.name_entry(Error::corrupt(text, position), dump_id))
            }
            None => {
                Err(self.name_entry(Error::truncated("before the position recorded for this entry", position), dump_id))
            }
        }
    }

    fn scan_for(&mut self, dump_id: i32) -> Result<(OpenBlock<R>, u64)> {
        self.source.input.seek_to(self.scanned_to)?;
        loop {
            let groups = self.scanned_groups;
            let Some((mut open, offset)) = self.read_block_head(groups)? else {
                let offset = self.source.input.position();
                return Err(self.name_entry(Error::truncated("before the data of this entry", offset), dump_id));
            };
            self.scanned_to = offset;
            // A scan begins with the block that the one before ended at.
            let first = *self.found.entry(open.dump_id).or_insert(offset);
            if first != offset {
                return Err(self.name_entry(data_twice(first, offset), open.dump_id));
            }
            if open.dump_id == dump_id {
                return Ok((open, offset));
            }
            self.seek_over_rest(&mut open)?;
            self.scanned_to = self.source.input.position();
            self.scanned_groups += usize::from(matches!(open.content, Content::LargeObjects(_)));
        }
    }
}

/// How many entries of large objects there are up to this one and with it.
fn groups_up_to(toc: &Toc, dump_id: i32) -> usize {
    let end = toc.entries().iter().position(|entry| entry.dump_id() == dump_id).map_or(0, |place| place + 1);
    toc.entries()[..end].iter().filter(|entry| entry.has_data() && entry.is_large_objects()).count()
}

fn data_twice(first: u64, offset: u64) -> Error {
    Error::corrupt(format!("this entry has data twice, first at byte {first}"), offset)
}

/// Reads the header behind its first five bytes, and the table of contents.
fn read_contents<R: Read>(input: &mut Input<R>, format: Format, options: &ReadOptions) -> Result<(Header, Toc)> {
    let mut budget = TextBudget::new(options.limits.toc_bytes);
    let header = Header::read(input, format, options, &mut budget)?;
    let toc = Toc::read(input, &header, &options.limits, &mut budget)?;
    Ok((header, toc))
}
