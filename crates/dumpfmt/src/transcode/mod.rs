//! The contents of an archive for another version of the format.

mod budget;
mod large_objects;
mod newer_sql;
mod relation;

use std::fmt;

use crate::error::Error;
use crate::header::Header;
use crate::limits::Limits;
use crate::toc::{Section, Toc, TocEntry};
use crate::version::Version;
use budget::Budget;
use large_objects::LargeObjects;
use newer_sql::server_of;

pub use newer_sql::NewerFeature;

/// The table of contents that an archive has in another version of the format, older or newer.
///
/// Which pg_restore reads what:
///
/// | version | written by pg_dump | read by pg_restore | large objects | compression |
/// | --- | --- | --- | --- | --- |
/// | 1.14 | 12 to 15 | 12 and later | a `BLOB` entry for each | gzip |
/// | 1.15 | 16 | 16 and later | a `BLOB` entry for each | gzip, lz4, zstd |
/// | 1.16 | 17 to 19 | 17 and later | `BLOB METADATA` for up to 1,000 | gzip, lz4, zstd |
///
/// The data of each entry stays what it is, under the same dump ID, so the contents can be handed to
/// [`Rewrite::contents`](crate::Rewrite::contents) with [`WriteOptions`](crate::WriteOptions) of the same version:
///
/// ```
/// # let file = dumpfmt::example::archive();
/// use dumpfmt::{ArchiveReader, CompressionSpecification, Rewrite, Transcoding, Version, WriteOptions};
///
/// let mut source = ArchiveReader::new(file)?;
/// let target = Version::TABLE_ACCESS_METHOD;
/// let transcoding = Transcoding::plan(source.toc(), source.header(), target).expect("it has no large objects");
/// for note in transcoding.notes() {
///     eprintln!("{note}");
/// }
/// let mut rewrite = Rewrite::new(WriteOptions::new(CompressionSpecification::GZIP).version(target));
/// rewrite.contents(transcoding.into_toc());
/// let (archive, _) = rewrite.to_pipe(&mut source, Vec::new(), |_| {})?;
/// assert_eq!(ArchiveReader::new(&archive[..])?.header().version, target);
/// # Ok::<(), dumpfmt::Error>(())
/// ```
///
/// Towards 1.14 and 1.15:
///
/// - each `BLOB METADATA` entry becomes a `BLOB` entry for each of its large objects, in the section pre-data, as
///   pg_dump 16 and older have them; they get new dump IDs;
/// - rights, comments and security labels of large objects follow them, rights of several objects
///   (`LARGE OBJECTS a..b`) once for each;
/// - several `BLOBS` entries stay several: pg_restore 15 and 16 restore each of them from the custom format. The
///   directory format of those versions has one list of large objects only; see [`DirectoryFormat`](crate::DirectoryFormat);
/// - statistics (`STATISTICS DATA`, pg_dump 18) are left out: no server before 18 has the functions that take them;
/// - the kind of a relation is left out, which only says of partitioned tables that an access method is none of storage.
///
/// The SQL of the entries is that of the source: what an older server does not understand of it, it refuses
/// when the archive is restored. What of that can be recognised is among the [`notes`](Self::notes).
#[derive(Debug, Clone)]
pub struct Transcoding {
    toc: Toc,
    version: Version,
    notes: Vec<TranscodeNote>,
}

/// Why an archive cannot be brought into another version.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TranscodeError {
    /// There is no way to write such an archive.
    #[error("archives of version {0} are not written; there are 1.14, 1.15 and 1.16")]
    Target(Version),
    /// It is not known what the archive means.
    #[error("an archive of version {0} is newer than all that are known here, so it is not known what to change")]
    Source(Version),
    /// Before 1.12, pg_restore created the large objects itself when it came to their content; no later version does.
    #[error(
        "{entry}: an archive of version {version} does not name its large objects before their content, and later \
         versions need that; restore it with its own pg_restore and dump the database anew"
    )]
    UnnamedLargeObjects {
        /// The entry of large objects.
        entry: Box<str>,
        /// The version of the archive.
        version: Version,
    },
    /// An entry about large objects is not one that pg_dump writes.
    #[error("{entry} cannot be divided by large object: {reason}")]
    LargeObjects {
        /// The entry.
        entry: Box<str>,
        /// What is in the way.
        reason: &'static str,
    },
    /// No dump IDs are left for the new entries.
    #[error("there are no dump IDs left for new entries: the largest one in use is {largest}")]
    DumpIds {
        /// The largest dump ID that is in use.
        largest: i32,
    },
    /// The new contents would take more than a [`Limits`] value allows.
    #[error(
        "the new table of contents exceeds the limit of {limit}; if the archive is to be trusted, raise `Limits::{field}`"
    )]
    LimitExceeded {
        /// The limit that was in force.
        limit: u64,
        /// The field of [`Limits`] that sets it.
        field: &'static str,
    },
    /// The new entries make no table of contents.
    #[error(transparent)]
    Contents(#[from] Error),
}

/// What is to be known of an archive in its new version.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum TranscodeNote {
    /// Statistics were left out.
    StatisticsLeftOut {
        /// How many entries.
        entries: u64,
    },
    /// The access method that partitions of a table get by default was left out.
    AccessMethodLeftOut {
        /// The entry of the partitioned table.
        dump_id: i32,
        /// The same with its type and name.
        entry: Box<str>,
        /// The access method.
        method: Box<str>,
    },
    /// An entry uses what the servers cannot do whose pg_restore reads this version.
    NewerSql {
        /// The entry.
        dump_id: i32,
        /// The same with its type and name.
        entry: Box<str>,
        /// What it uses.
        feature: NewerFeature,
    },
}

impl fmt::Display for TranscodeNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StatisticsLeftOut { entries } => write!(
                f,
                "{entries} entries with statistics are left out, which only servers from version 18 on take; \
                 run `ANALYZE` after the restore"
            ),
            Self::AccessMethodLeftOut { entry, method, .. } => {
                write!(f, "{entry}: that its partitions use the access method `{method}` is left out")
            }
            Self::NewerSql { entry, feature, .. } => {
                write!(f, "{entry}: uses {feature}; a server before version {} refuses it", feature.since())
            }
        }
    }
}

impl Transcoding {
    /// Plans the contents of an archive for the version `target`: 1.14, 1.15 or 1.16.
    ///
    /// # Errors
    ///
    /// When that cannot be done, with the reason.
    pub fn plan(toc: &Toc, header: &Header, target: Version) -> Result<Self, TranscodeError> {
        Self::plan_with_limits(toc, header, target, &Limits::default())
    }

    /// As [`plan`](Self::plan), with other limits on memory than the default ones: the entries of large objects can be
    /// many more than those of the source.
    ///
    /// # Errors
    ///
    /// As for [`plan`](Self::plan).
    pub fn plan_with_limits(
        toc: &Toc,
        header: &Header,
        target: Version,
        limits: &Limits,
    ) -> Result<Self, TranscodeError> {
        let target = Version { revision: 0, ..target };
        if target < Version::TABLE_ACCESS_METHOD || target > Version::RELKIND {
            return Err(TranscodeError::Target(target));
        }
        if header.version > Version::NEWEST {
            return Err(TranscodeError::Source(header.version));
        }
        if header.version < Version::LARGE_OBJECT_ENTRIES
            && let Some(entry) = toc.entries().iter().find(|entry| entry.is_large_objects())
        {
            let version = header.version;
            return Err(TranscodeError::UnnamedLargeObjects { entry: entry.to_string().into(), version });
        }
        let mut budget = Budget::new(limits);
        let mut notes = Vec::new();
        let entries = if target < Version::LARGE_OBJECT_GROUPS {
            older_entries(toc, target, header, &mut budget, &mut notes)?
        } else {
            let entries = toc.entries().iter();
            entries.map(|entry| budget.take(relation::with_kind(entry)?)).collect::<Result<_, TranscodeError>>()?
        };
        Ok(Self { toc: Toc::new(entries)?, version: target, notes })
    }

    /// The new table of contents.
    pub fn toc(&self) -> &Toc {
        &self.toc
    }

    /// The new table of contents.
    pub fn into_toc(self) -> Toc {
        self.toc
    }

    /// The version that it is for.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What was left out, and what an older server will refuse.
    pub fn notes(&self) -> &[TranscodeNote] {
        &self.notes
    }
}

/// The entries for a version before 1.16.
fn older_entries(
    toc: &Toc,
    target: Version,
    header: &Header,
    budget: &mut Budget,
    notes: &mut Vec<TranscodeNote>,
) -> Result<Vec<TocEntry>, TranscodeError> {
    let mut large_objects = LargeObjects::number(toc)?;
    // The newest server whose own pg_restore reads the new version and no newer one.
    let newest_server = if target < Version::COMPRESSION_ALGORITHM { 15 } else { 16 };
    let has_newer_sql = server_of(header).is_none_or(|server| server > newest_server);
    let mut entries = Vec::with_capacity(toc.entries().len());
    // Where the entries of large objects go: pg_dump has them at the end of the section pre-data.
    let mut end_of_pre_data = None;
    let mut moved = Vec::new();
    let mut statistics = 0;
    for entry in toc.entries() {
        if entry.description() == b"STATISTICS DATA" {
            statistics += 1;
            continue;
        }
        if large_objects.expand(entry, budget, &mut moved)? {
            continue;
        }
        if end_of_pre_data.is_none() && matches!(entry.section(), Section::Data | Section::PostData) {
            end_of_pre_data = Some(entries.len());
        }
        if has_newer_sql && let Some(feature) = NewerFeature::in_entry(entry, newest_server) {
            notes.push(TranscodeNote::NewerSql { dump_id: entry.dump_id(), entry: entry.to_string().into(), feature });
        }
        let (older, access_method) = relation::without_kind(entry, large_objects.older_dependencies(entry, budget)?)?;
        if let Some(method) = access_method {
            notes.push(TranscodeNote::AccessMethodLeftOut {
                dump_id: entry.dump_id(),
                entry: entry.to_string().into(),
                method,
            });
        }
        entries.push(budget.take(older)?);
    }
    if statistics > 0 {
        notes.push(TranscodeNote::StatisticsLeftOut { entries: statistics });
    }
    let place = end_of_pre_data.unwrap_or(entries.len());
    entries.splice(place..place, moved);
    Ok(entries)
}

#[cfg(test)]
mod tests;
