//! What can be kept of a damaged archive, and what cannot.

use std::collections::HashSet;
use std::fmt;
use std::io::{Read, Seek};
use std::ops::Range;

use super::find;
use super::scan::{Scan, scan};
use crate::error::{Error, ErrorKind, Result};
use crate::header::Header;
use crate::limits::ReadOptions;
use crate::named_objects;
use crate::statement::{CopyStatement, ForeignKey};
use crate::toc::{Toc, TocEntry};
use crate::version::Version;

/// How an archive is repaired.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairOptions {
    /// The byte of the file from which on the archive is searched. 0 by default: the first one counts.
    pub from: u64,
    /// How it is read.
    pub read: ReadOptions,
    /// Keep the whole rows of a table whose data is cut. The table is then not the one that was dumped, and
    /// constraints that other tables have on the missing rows cannot be restored. Off by default. Rows of data
    /// that is damaged, not cut, are never kept.
    pub partial_rows: bool,
    /// Trust blocks that are not in the order of the table of contents. pg_dump always writes them in that order, so
    /// one that is not could be another entry's, with a damaged dump ID. Off by default.
    pub any_order: bool,
}

/// What can be kept of a damaged archive in the custom format, and what is lost.
///
/// Made by reading the whole file once. It changes nothing; [`to_file`](Self::to_file) then copies what is whole
/// into a new archive. An entry is whole when its block is there, can be decoded to its end, and, for rows, has the
/// line `\.` that ends them. What is lost is left out of the table of contents, and nothing else is:
/// the definitions and all that belongs behind the data stay. So pg_restore restores the new archive without an error,
/// but for foreign keys that refer to rows which are lost ([`doubtful_foreign_keys`](Self::doubtful_foreign_keys)).
///
/// ```
/// use dumpfmt::{ArchiveReader, repair::RepairPlan, WriteOptions};
/// use std::io::Cursor;
///
/// # let archive = dumpfmt::example::archive().into_inner();
/// // An archive that lacks its last byte.
/// let mut cut = Cursor::new(&archive[..archive.len() - 1]);
/// let plan = RepairPlan::of(&mut cut, &Default::default(), |_position| {})?;
/// assert!(!plan.is_whole());
/// assert_eq!(plan.lost()[0].entry, "TABLE DATA public.tenant (dump ID 2)");
///
/// let options = WriteOptions::like(plan.header());
/// let repaired = plan.to_file(&mut cut, Cursor::new(Vec::new()), &options, |_position| {})?;
/// let mut repaired = ArchiveReader::new(Cursor::new(repaired.into_inner()))?;
/// assert!(repaired.verify(|_| {})?.is_empty());
/// # Ok::<(), dumpfmt::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RepairPlan {
    pub(super) header: Header,
    /// The whole table of contents.
    pub(super) source_toc: Toc,
    /// Without what is lost.
    pub(super) toc: Toc,
    pub(super) options: RepairOptions,
    pub(super) start: u64,
    end: u64,
    trailing: u64,
    pub(super) recovered: Vec<RecoveredEntry>,
    lost: Vec<LostEntry>,
    damage: Vec<Damage>,
    lost_objects: Vec<u32>,
    next_archive: Option<u64>,
}

/// An entry whose data is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RecoveredEntry {
    /// The entry.
    pub dump_id: i32,
    /// Where its block begins, in bytes of the archive.
    pub position: u64,
    /// Where it ends, or what is kept of it.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(super) end: u64,
    /// Rows of COPY text; `None` for INSERT statements and large objects.
    pub rows: Option<u64>,
    /// Large objects; `None` for anything else.
    pub large_objects: Option<u64>,
    /// Bytes of the data when decompressed. 0 where only a part is kept.
    pub bytes: u64,
    /// Why not all of it is kept: of large objects the first ones, or of rows, if that was
    /// asked for ([`RepairOptions::partial_rows`]). `None`: all is there.
    pub missing: Option<Loss>,
}

impl RecoveredEntry {
    pub(super) fn new(dump_id: i32, position: u64, end: u64) -> Self {
        Self { dump_id, position, end, rows: None, large_objects: None, bytes: 0, missing: None }
    }
}

/// An entry whose data is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LostEntry {
    /// The entry.
    pub dump_id: i32,
    /// Its name, such as `TABLE DATA public.tenant (dump ID 4311)`.
    pub entry: String,
    /// Why.
    pub loss: Loss,
}

impl fmt::Display for LostEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.entry, self.loss)
    }
}

/// Why data is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Loss {
    /// What happened to it.
    pub kind: LossKind,
    /// The byte of the archive at which it was noticed.
    pub position: u64,
    /// The same for people.
    pub why: String,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {} of the archive)", self.why, self.position)
    }
}

/// What happened to data that is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum LossKind {
    /// The archive ends before it, or within it.
    Cut,
    /// It cannot be decoded, or was not found.
    Damaged,
    /// A block names the entry, but where another entry's data is due; see [`RepairOptions::any_order`].
    OutOfTurn,
}

/// Bytes of the archive that are no block of data.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Damage {
    /// The first of them.
    pub start: u64,
    /// The byte behind the last of them.
    pub end: u64,
    /// What is wrong with them.
    pub what: String,
}

impl RepairPlan {
    /// Reads the file `source` from its begin to its end. The archive need not be at its begin: see
    /// [`find_archive`](super::find_archive). `progress` is called with the position in the archive.
    ///
    /// A pipe cannot be repaired, since what is whole is only known at its end; store it in a file first.
    ///
    /// # Errors
    ///
    /// When there is no archive in it, its header or table of contents is cut short or damaged (then there
    /// is nothing that a repair could begin with), it is not in the custom format, or reading fails.
    pub fn of<R: Read + Seek>(source: &mut R, options: &RepairOptions, mut progress: impl FnMut(u64)) -> Result<Self> {
        let (start, contents) = find::contents(source, options.from, &options.read)?;
        let (header, source_toc, data_start) = contents;
        let Scan { recovered, mut losses, damage, end, trailing, lost_objects, next_archive } =
            scan(source, start, data_start, (&header, &source_toc), options, &mut progress)?;
        let lost = source_toc.entries().iter().filter_map(|entry| {
            let loss = losses.remove(&entry.dump_id())?;
            Some(LostEntry { dump_id: entry.dump_id(), entry: entry.to_string(), loss })
        });
        let lost: Vec<_> = lost.collect();
        let left_out: HashSet<i32> = lost.iter().map(|entry| entry.dump_id).collect();
        let kept = source_toc.entries().iter().filter(|entry| !left_out.contains(&entry.dump_id()));
        let toc = Toc::new(named_objects::without(kept, &lost_objects.iter().copied().collect())?)?;
        let options = options.clone();
        Ok(Self {
            header,
            source_toc,
            toc,
            options,
            start,
            end,
            trailing,
            recovered,
            lost,
            damage,
            lost_objects,
            next_archive,
        })
    }

    /// What the archive says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The table of contents of the repaired archive: that of the damaged one without what is lost.
    pub fn toc(&self) -> &Toc {
        &self.toc
    }

    /// The entries whose data is kept, in the order of the file.
    pub fn recovered(&self) -> &[RecoveredEntry] {
        &self.recovered
    }

    /// The entries whose data is lost, in the order of the table of contents. Some are not lost
    /// altogether: see [`RecoveredEntry::missing`].
    pub fn lost(&self) -> &[LostEntry] {
        &self.lost
    }

    /// The large objects that the table of contents names, but whose content is lost; in the order of their OIDs.
    /// The repaired archive does not name them, since a restore would create them empty. Before version 1.12 no table of
    /// contents names large objects.
    pub fn lost_large_objects(&self) -> &[u32] {
        &self.lost_objects
    }

    /// The places that are damaged, in the order of the file.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// The byte of the file at which another archive begins behind this one, as in a log that every job appends to. When this
    /// one is not whole, nothing from there on was taken for a part of it. See [`RepairOptions::from`].
    pub fn next_archive(&self) -> Option<u64> {
        self.next_archive
    }

    /// Whether nothing is lost and nothing is damaged. There may be bytes before and behind the archive.
    pub fn is_whole(&self) -> bool {
        self.lost.is_empty()
            && self.lost_objects.is_empty()
            && self.damage.is_empty()
            && self.recovered.iter().all(|entry| entry.missing.is_none())
    }

    /// The byte of the file at which the archive begins. All other positions are counted from there.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// What follows the archive in the file, such as the rest of a log, as bytes of the archive. Only known when all
    /// entries were found: what is behind an archive that is cut looks like a part of it.
    pub fn trailing(&self) -> Option<Range<u64>> {
        (self.trailing > 0).then(|| self.end..self.end + self.trailing)
    }

    /// The foreign keys that a restore may have to refuse: rows that refer to a table are kept, and rows of that
    /// table are lost. pg_restore goes on after such an error, unless told to exit; or leave them out of its list (`-L`).
    /// Told from the names of tables: those that refer to a partition are found under the name of the partition alone.
    pub fn doubtful_foreign_keys(&self) -> impl Iterator<Item = (&TocEntry, ForeignKey)> {
        let lost = self.lost.iter().map(|entry| entry.dump_id);
        let partial = self.recovered.iter().filter(|entry| entry.missing.is_some()).map(|entry| entry.dump_id);
        let table = |dump_id| {
            let entry = self.source_toc.get(dump_id)?;
            let table = CopyStatement::of(entry).map_or_else(|| entry.tag().to_vec(), |copy| copy.table);
            Some((entry.namespace().unwrap_or_default().to_vec(), table))
        };
        let wholly_lost: HashSet<_> = lost.filter_map(table).collect();
        let incomplete: HashSet<_> = wholly_lost.iter().cloned().chain(partial.filter_map(table)).collect();
        self.toc.of_type("FK CONSTRAINT").filter_map(move |entry| {
            let key = ForeignKey::of(entry)?;
            let in_schema = |schema: &Option<Vec<u8>>| {
                schema.clone().unwrap_or_else(|| entry.namespace().unwrap_or_default().to_vec())
            };
            let referenced = (in_schema(&key.referenced_schema), key.referenced_table.clone());
            let referencing = (in_schema(&key.schema), key.table.clone());
            (incomplete.contains(&referenced) && !wholly_lost.contains(&referencing)).then_some((entry, key))
        })
    }

    /// Refuses what cannot be written as an archive of today.
    pub(super) fn check(&self) -> Result<()> {
        let has_objects = self.recovered.iter().any(|entry| entry.large_objects.is_some());
        if has_objects && self.header.version < Version::LARGE_OBJECT_ENTRIES {
            let text = format!(
                "an archive of version {} does not name its large objects, which the versions that can be written must",
                self.header.version
            );
            return Err(Error::new(ErrorKind::Unsupported(text), 0));
        }
        Ok(())
    }
}
