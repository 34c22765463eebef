//! Writing the positions of the data into an archive that does not record them.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use sha2::{Digest, Sha256};

use super::blocks::{Begins, Blocks, Rest};
use super::journal::{Field, Invalid, Journal, digest_part};
use super::lengths::{OTHER_LENGTH, Placed, of_other_length};
use crate::error::Error;
use crate::header::{Format, Header, MAGIC};
use crate::input::{Input, MAX_INT_BYTES, TextBudget};
use crate::limits::ReadOptions;
use crate::named_objects::NamedObjects;
use crate::reader::ArchiveReader;
use crate::toc::{DataState, PositionFields, Toc, TocEntry, position_field};
use crate::verify::{BUFFER_BYTES, verify_block};

/// How [`index_in_place`] works.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexOptions {
    /// How the archive is read.
    pub read: ReadOptions,
    /// Decode all data, so that what gets its positions is also proven to be whole. Otherwise only the lengths of
    /// the chunks are followed, which reads little of the file. Default: true.
    pub verify: bool,
}

impl Default for IndexOptions {
    fn default() -> Self {
        Self { read: ReadOptions::default(), verify: true }
    }
}

/// What [`index_in_place`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct IndexReport {
    /// Entries with data.
    pub entries: u64,
    /// Positions that were written; 0 when all were recorded already, and right.
    pub written: u64,
    /// Bytes that were cut off behind the data, where pg_dump had repeated the table of contents.
    pub cut_off: u64,
    /// Whether a run before was interrupted, and was finished first.
    pub finished_earlier_run: bool,
}

/// Why an archive was not indexed, cut by what a caller can do. Where nothing else is said, the archive is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The archive cannot be read, or is not whole. It may be repaired ([`RepairPlan`](super::RepairPlan)).
    #[error(transparent)]
    Archive(#[from] Error),
    /// The file cannot be opened for writing. Index a copy.
    #[error("`{path}` cannot be written to: {reason}")]
    NotWritable {
        /// The archive.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Another process is at work on it. Wait for that.
    #[error("another process is indexing `{path}`")]
    Locked {
        /// The archive.
        path: PathBuf,
    },
    /// The file was changed, replaced, or removed meanwhile. Whoever did that has to end first.
    #[error("`{path}` was changed, replaced or removed while it was read; nothing was written")]
    Changed {
        /// The archive.
        path: PathBuf,
    },
    /// There is a journal of an earlier run, but not of this archive, or it is damaged. Only a person can decide: if
    /// the archive was replaced by another one since, the journal can be removed.
    #[error("`{journal}` is not the journal of this archive: {reason}; remove it if the archive was replaced since")]
    ForeignJournal {
        /// The journal.
        journal: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// A file cannot be read or written. Where the journal was there already, the next run finishes the work.
    #[error("cannot {what} `{path}`")]
    Io {
        /// What was to be done.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Writes the position of each entry's data into an archive in the custom format that does not record them, so that
/// `pg_restore -j` can restore it in parallel.
///
/// The archive is read once and, unless told otherwise, proven to be whole. Then only its fields for positions are
/// written: 9 bytes for each entry with data. Where pg_dump repeated its table of contents behind the data
/// (`pg_dump -Fc > file`, from 16 on), that repetition is cut off, since it holds nothing else: the archive is then the one
/// that `pg_dump -Fc -f file` would have written. Positions that are recorded, but wrong, are put right. Mode, owner
/// and name of the file stay.
///
/// What will be written is first stored in a journal beside the archive, `NAME.journal`. When this is
/// interrupted, at any moment, either the archive is as before, or the journal is there and the next call finishes the
/// work. Until then some positions may be written in part, which pg_restore would trust; the reader of this crate finds all data
/// from block to block all the same. Calling it again changes nothing. The archive is locked meanwhile, as far as the
/// file system can.
///
/// `progress` is called with the position in the archive.
///
/// ```
/// use dumpfmt::{ArchiveReader, DataState, repair::{IndexOptions, index_in_place}};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("store.dump");
/// # std::fs::write(&path, dumpfmt::example::archive().into_inner())?;
/// let report = index_in_place(&path, &IndexOptions::default(), |_position| {})?;
/// assert_eq!(report.written, 1);
///
/// let archive = ArchiveReader::open(&path)?;
/// assert!(matches!(archive.toc().entries()[1].data_state(), DataState::Position(_)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// When the archive is not whole or not in the custom format, when it cannot be locked or written, when it changes
/// meanwhile, or when there is a journal that does not belong to it.
pub fn index_in_place(
    path: impl AsRef<Path>,
    options: &IndexOptions,
    mut progress: impl FnMut(u64),
) -> Result<IndexReport, IndexError> {
    index(path.as_ref(), options, &mut progress, &mut |_| Ok(()))
}

/// What is done to files, in this order. Tests stop before each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    WriteJournal,
    SyncJournal,
    NameJournal,
    SyncFolder,
    WriteField,
    SyncFields,
    CutOff,
    SyncLength,
    RemoveJournal,
}

type Before<'a> = &'a mut dyn FnMut(Step) -> io::Result<()>;

fn index(
    path: &Path,
    options: &IndexOptions,
    progress: &mut dyn FnMut(u64),
    before: Before<'_>,
) -> Result<IndexReport, IndexError> {
    let archive = Archive::open(path)?;
    let mut report = IndexReport::default();
    if let Some(journal) = archive.journal_of_earlier_run()? {
        archive.apply(&journal, before)?;
        report.finished_earlier_run = true;
    }
    archive.remove_unnamed_journal()?;
    let stamp = archive.stamp()?;
    let (journal, entries) = archive.plan(options, progress)?;
    report.entries = entries;
    if journal.fields.is_empty() && journal.length_after == journal.length_before {
        return Ok(report);
    }
    if archive.stamp()? != stamp || !archive.is_in_place()? {
        return Err(IndexError::Changed { path: archive.path });
    }
    archive.store(&journal, before)?;
    archive.apply(&journal, before)?;
    report.written = journal.fields.len() as u64;
    report.cut_off = journal.length_before - journal.length_after;
    Ok(report)
}

/// An archive that is open for writing, and locked.
struct Archive {
    file: File,
    path: PathBuf,
    journal: PathBuf,
    /// What the journal is called until it is whole.
    unnamed: PathBuf,
}

impl Archive {
    fn open(path: &Path) -> Result<Self, IndexError> {
        // The journal is to be beside the file itself, by whichever link it was reached.
        let path = fs::canonicalize(path).map_err(|e| failed("open", path, e))?;
        let file = File::options().read(true).write(true).open(&path).map_err(|e| match e.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::IsADirectory => {
                IndexError::NotWritable { path: path.clone(), reason: e.to_string() }
            }
            _ => failed("open", &path, e),
        })?;
        let metadata = file.metadata().map_err(|e| failed("read", &path, e))?;
        // Root could write to it all the same.
        if metadata.permissions().readonly() {
            return Err(IndexError::NotWritable { path, reason: "it is marked as read-only".into() });
        }
        if !metadata.is_file() {
            return Err(IndexError::NotWritable { path, reason: "it is not a file".into() });
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(IndexError::Locked { path }),
            // Some file systems have no locks.
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(e)) => return Err(failed("lock", &path, e)),
        }
        let beside = |suffix: &str| {
            let mut name = path.clone().into_os_string();
            name.push(suffix);
            PathBuf::from(name)
        };
        let (journal, unnamed) = (beside(".journal"), beside(".journal.new"));
        Ok(Self { file, path, journal, unnamed })
    }

    fn journal_of_earlier_run(&self) -> Result<Option<Journal>, IndexError> {
        let file = match File::open(&self.journal) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed("open", &self.journal, e)),
        };
        let foreign =
            |reason: &str| IndexError::ForeignJournal { journal: self.journal.clone(), reason: reason.into() };
        let journal = Journal::read(file).map_err(|invalid| match invalid {
            Invalid::Io(e) => failed("read", &self.journal, e),
            Invalid::Damaged(reason) => foreign(reason),
        })?;
        let mut archive = &self.file;
        archive.rewind().map_err(|e| failed("read", &self.path, e))?;
        let belongs = journal.belongs_to(archive, self.length()?).map_err(|e| failed("read", &self.path, e))?;
        if !belongs {
            return Err(foreign("the length, the header or the table of contents is another one"));
        }
        Ok(Some(journal))
    }

    /// Removes what a run left that was interrupted before it changed anything.
    fn remove_unnamed_journal(&self) -> Result<(), IndexError> {
        match fs::remove_file(&self.unnamed) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", &self.unnamed, e)),
            _ => Ok(()),
        }
    }

    fn length(&self) -> Result<u64, IndexError> {
        Ok(self.file.metadata().map_err(|e| failed("read", &self.path, e))?.len())
    }

    /// What changes when somebody writes to the file.
    fn stamp(&self) -> Result<(u64, Option<std::time::SystemTime>), IndexError> {
        let metadata = self.file.metadata().map_err(|e| failed("read", &self.path, e))?;
        Ok((metadata.len(), metadata.modified().ok()))
    }

    /// Whether the file still has its name.
    fn is_in_place(&self) -> Result<bool, IndexError> {
        let named = match fs::metadata(&self.path) {
            Ok(named) => named,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(failed("read", &self.path, e)),
        };
        let open = self.file.metadata().map_err(|e| failed("read", &self.path, e))?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            Ok((named.dev(), named.ino()) == (open.dev(), open.ino()))
        }
        #[cfg(not(unix))]
        Ok((named.len(), named.modified().ok()) == (open.len(), open.modified().ok()))
    }

    /// Reads the archive. Returns what is to be written, and how many entries have data.
    fn plan(&self, options: &IndexOptions, progress: &mut dyn FnMut(u64)) -> Result<(Journal, u64), IndexError> {
        let mut file = &self.file;
        let read_failed = |e| failed("read", &self.path, e);
        file.rewind().map_err(read_failed)?;
        let reader = ArchiveReader::with_options(file, options.read.clone())?;
        let (header, toc, data_start) = (reader.header().clone(), reader.toc().clone(), reader.position());
        if header.format != Format::Custom {
            let text =
                format!("an archive in {} format records no positions; only the custom format does", header.format);
            return Err(Error::usage(text).into());
        }
        let length_before = self.length()?;
        file.rewind().map_err(read_failed)?;
        let (positions, length_after) = walk(file, &header, &toc, data_start, length_before, options, progress)?;

        file.rewind().map_err(read_failed)?;
        let mut input = Input::new(file);
        input.skip(MAGIC.len() as u64, "within its header")?;
        let mut budget = TextBudget::new(options.read.limits.toc_bytes);
        Header::read(&mut input, Format::Custom, &options.read, &mut budget)?;
        let PositionFields { fields, width, end } = PositionFields::read(&mut input, &header, &options.read.limits)?;
        let mut changed = Vec::new();
        for (dump_id, at) in &fields {
            // `walk` returns the position of each entry with data.
            let Some(position) = positions.get(dump_id) else { continue };
            let new = position_field(&header, *position)?;
            let mut field = Field { at: *at, before: [0; MAX_INT_BYTES], after: [0; MAX_INT_BYTES] };
            field.after[..width].copy_from_slice(&new);
            changed.push(field);
        }
        // Once more from the first byte to the last: the old bytes of the fields, and the digest.
        file.rewind().map_err(read_failed)?;
        let mut contents = io::BufReader::with_capacity(256 << 10, file);
        let (mut digest, mut position) = (Sha256::new(), 0);
        for field in &mut changed {
            let is_there = digest_part(&mut contents, field.at - position, &mut digest).map_err(read_failed)?;
            contents.read_exact(&mut field.before[..width]).map_err(read_failed)?;
            if !is_there {
                return Err(IndexError::Changed { path: self.path.clone() });
            }
            digest.update(&field.before[..width]);
            position = field.at + width as u64;
        }
        digest_part(&mut contents, end - position, &mut digest).map_err(read_failed)?;
        changed.retain(|field| field.before != field.after);
        let digest = digest.finalize().into();
        let journal = Journal { width, length_before, length_after, contents: end, digest, fields: changed };
        Ok((journal, fields.len() as u64))
    }

    /// Stores the journal so that it is there after a crash.
    fn store(&self, journal: &Journal, before: Before<'_>) -> Result<(), IndexError> {
        let write_failed = |e| failed("write", &self.unnamed, e);
        let mut file = File::create(&self.unnamed).map_err(write_failed)?;
        let stored = (|| {
            before(Step::WriteJournal)?;
            file.write_all(&journal.to_bytes())?;
            before(Step::SyncJournal)?;
            file.sync_all()
        })();
        stored.map_err(write_failed)?;
        let named = before(Step::NameJournal).and_then(|()| fs::rename(&self.unnamed, &self.journal));
        named.map_err(|e| failed("name", &self.journal, e))?;
        before(Step::SyncFolder)
            .and_then(|()| self.sync_folder())
            .map_err(|e| failed("sync the folder of", &self.journal, e))
    }

    /// Does what the journal says, and removes it. Doing it again changes nothing.
    fn apply(&self, journal: &Journal, before: Before<'_>) -> Result<(), IndexError> {
        let mut file = &self.file;
        let applied = (|| {
            // A journal that a crash has left may not be durable yet itself.
            self.sync_folder()?;
            for field in &journal.fields {
                before(Step::WriteField)?;
                file.seek(SeekFrom::Start(field.at))?;
                file.write_all(&field.after[..journal.width])?;
            }
            before(Step::SyncFields)?;
            file.sync_all()?;
            if journal.length_after < journal.length_before {
                before(Step::CutOff)?;
                file.set_len(journal.length_after)?;
                before(Step::SyncLength)?;
                file.sync_all()?;
            }
            Ok(())
        })();
        applied.map_err(|e| failed("write", &self.path, e))?;
        let removed = before(Step::RemoveJournal).and_then(|()| fs::remove_file(&self.journal));
        removed.and_then(|()| self.sync_folder()).map_err(|e| failed("remove", &self.journal, e))
    }

    /// Makes the names in the folder durable.
    fn sync_folder(&self) -> io::Result<()> {
        if cfg!(unix) {
            let folder = self.path.parent().unwrap_or(Path::new("/"));
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> IndexError {
    IndexError::Io { what, path: path.to_owned(), source }
}

/// Where the data of each entry begins, by dump ID, and where the data ends. Everything has to be whole.
fn walk(
    file: &File,
    header: &Header,
    toc: &Toc,
    data_start: u64,
    length: u64,
    options: &IndexOptions,
    progress: &mut dyn FnMut(u64),
) -> Result<(HashMap<i32, u64>, u64), Error> {
    let mut blocks = Blocks::new(file, header, toc, &options.read.limits);
    let (mut positions, mut placed, mut position) = (HashMap::new(), Vec::new(), data_start);
    let (named, mut buffer) = (Mutex::new(NamedObjects::of(toc)), vec![0; BUFFER_BYTES]);
    loop {
        progress(position);
        match blocks.begins_at(position)? {
            Begins::EndOfFile => break,
            Begins::Contents => {
                let end = blocks.repeated_contents(position)?;
                if end != length {
                    return Err(Error::corrupt(
                        "bytes follow the table of contents that is repeated behind the data",
                        end,
                    ));
                }
                break;
            }
            // What is no block is refused by `read`, which can say why.
            Begins::Block(_) | Begins::CutHead | Begins::Other => {}
        }
        let (dump_id, end) = blocks.read(position, Rest::Seek, |block| {
            let dump_id = block.entry().dump_id();
            if options.verify {
                verify_block(block, false, Some(&named), &mut buffer, &mut *progress)?;
            }
            Ok(dump_id)
        })?;
        if end > length {
            return Err(Error::truncated("within the data", length));
        }
        let recorded = match toc.get(dump_id).map(TocEntry::data_state) {
            Some(DataState::Position(recorded)) => Some(recorded),
            _ => None,
        };
        placed.push((dump_id, Placed { begin: position, end, recorded }));
        if let Some(earlier) = positions.insert(dump_id, position) {
            let error = Error::corrupt(format!("this entry has data twice, first at byte {earlier}"), position);
            return Err(match toc.get(dump_id) {
                Some(entry) => error.in_entry(entry),
                None => error,
            });
        }
        position = end;
    }
    let lengths: Vec<Placed> = placed.iter().map(|(_, block)| *block).collect();
    if let Some(&place) = of_other_length(&lengths).first() {
        let (dump_id, block) = placed[place];
        let error = Error::corrupt(OTHER_LENGTH, block.begin);
        return Err(match toc.get(dump_id) {
            Some(entry) => error.in_entry(entry),
            None => error,
        });
    }
    match toc.entries().iter().find(|entry| entry.has_data() && !positions.contains_key(&entry.dump_id())) {
        Some(missing) => Err(Error::truncated(format!("before the data of {missing}"), position)),
        None => Ok((positions, position)),
    }
}

#[cfg(test)]
mod tests;
