//! Remapping an archive into another one, without any database.
//!
//! The rules are those of a restore: the same mapping files and profiles, the same search for stray IDs. The
//! result is an archive for stock pg_restore, or for a restore by this crate.

mod contents;
mod pass;

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::path::Path;

use dumpfmt::{ArchiveReader, Header, Rewrite, RewriteReport, Toc, Transcoding, Version, WriteOptions};
use serde::Serialize;

use self::contents::remapped_contents;
use self::pass::Pass;
use crate::archive::{Archive, ArchiveError, ArchiveForeignKey, Contents};
use crate::error::{Error, Fault, Faults};
use crate::id_columns::{self, IdColumn, Schema};
use crate::mapping::{Mapping, MappingFile, PairUse, pairs};
use crate::names::{ColumnName, TableName};
use crate::plan::UnknownIds;
use crate::profile::Profile;
use crate::remap::{Fate, IdMap};
use crate::survey::{Stray, refuse_strays};
use crate::tenant::{self, Tenant};

/// What is to be remapped, and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OfflineRemap<'a> {
    /// What must be known of the product.
    pub profile: &'a Profile,
    /// Source ID to target ID, for every live tenant of the archive. Where the profile has no list of tenants, for
    /// whichever IDs are to be replaced; all others stay.
    pub mapping: &'a MappingFile,
    /// Columns in which IDs are replaced anywhere in the text.
    pub remap_also: Vec<ColumnName>,
    /// Keeps the rows of deleted and internal tenants that the mapping does not name, as they are. Otherwise they
    /// are left out, as in a restore.
    pub keep_unmapped: bool,
    /// Replaces IDs in the definitions of objects too, such as views, default values and policies. Names of objects are
    /// not changed: where one has an ID in it, this is refused.
    pub remap_definitions: bool,
}

/// What was remapped. The new archive is to be published only after [`expect_no_strays`](Self::expect_no_strays), or when
/// the user said to ignore strays.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct RemapReport {
    /// The version of this structure's JSON form; 1.
    pub version: u32,
    /// The profile's name.
    pub profile: String,
    /// Which tenant became which.
    pub mapping: Mapping,
    /// Where IDs were replaced.
    pub id_columns: Vec<IdColumn>,
    /// The tables with rows, in the archive's order.
    pub tables: Vec<RemappedTable>,
    /// Large objects, which were copied.
    pub large_objects: u64,
    /// Partitions whose rows are now for the partitioned table, since new IDs move rows to other partitions.
    pub loaded_via_partition_root: Vec<TableName>,
    /// Tables whose statistics were left out, since they name source IDs: `ANALYZE` makes new ones.
    pub statistics_left_out: Vec<TableName>,
    /// Objects in whose definitions IDs were replaced.
    pub definitions_remapped: Vec<String>,
    /// What the version of the new archive cannot hold, and what an older server will refuse, for people.
    pub version_notes: Vec<String>,
    /// Foreign keys that may not hold in the new archive, since rows that they refer to were left out.
    pub doubtful_foreign_keys: Vec<DoubtfulForeignKey>,
    /// How the IDs of the mapping occur, where the profile has no list of tenants that they are compared with.
    pub pair_use: Option<PairUse>,
    /// Values in ID columns that are no ID of the archive's tenants, or of the mapping where no tenants are listed. They
    /// stay as they are.
    pub unknown_ids: Vec<UnknownIds>,
    /// Source IDs in places that the profile does not name.
    pub strays: Vec<Stray>,
}

/// A table of the new archive.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct RemappedTable {
    /// The table.
    pub table: TableName,
    /// Rows in the source.
    pub rows: u64,
    /// Rows that were left out, since they name a tenant that is.
    pub rows_left_out: u64,
    /// IDs in ID columns.
    pub ids: u64,
    /// Rows by the tenant whose ID is the first in them.
    pub rows_by_tenant: BTreeMap<String, u64>,
}

/// A foreign key of a table whose rows are kept whatever their tenant is, since no column of theirs tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DoubtfulForeignKey {
    /// The table.
    pub table: TableName,
    /// The columns that refer to another table.
    pub columns: Vec<String>,
    /// That table, of which rows were left out.
    pub referenced_table: TableName,
}

impl RemapReport {
    /// Refuses strays, as a restore does.
    ///
    /// # Errors
    ///
    /// When there are strays; they are all listed.
    pub fn expect_no_strays(&self) -> Result<(), Faults> {
        refuse_strays(&self.strays)
    }
}

/// Writes a new archive; the functions of [`Rewrite`] are such ones: `|rewrite, source| rewrite.to_pipe(source, out, |_| {})`.
type WriteNew<'w, R, W> = dyn FnMut(&Rewrite<'_>, &mut ArchiveReader<R>) -> dumpfmt::Result<(W, RewriteReport)> + 'w;

impl<'a> OfflineRemap<'a> {
    /// A remap by this profile and mapping.
    pub fn new(profile: &'a Profile, mapping: &'a MappingFile) -> Self {
        Self { profile, mapping, remap_also: Vec::new(), keep_unmapped: false, remap_definitions: false }
    }

    /// Remaps an archive in a file: its tenants are read first. The new archive is of the version that `options` say, whatever
    /// that of the source is; see [`Transcoding`].
    ///
    /// # Errors
    ///
    /// When the archive is damaged, the mapping or the profile does not fit it, or it cannot be brought into that version.
    pub fn archive<W>(
        &self,
        archive: &mut Archive,
        options: WriteOptions,
        write: &mut WriteNew<'_, std::fs::File, W>,
    ) -> Result<(W, RemapReport), Error> {
        let tenants = match self.profile.tenants {
            Some(_) => Some(tenant::in_archive(archive, self.profile)?),
            None => None,
        };
        let contents = archive.shared_contents();
        archive.reader().rewind().map_err(|e| archive.read_error(e))?;
        let path = archive.path().to_owned();
        self.remap(archive.reader(), &contents, tenants, options, write).map_err(|e| e.in_archive(&path))
    }

    /// Remaps an archive that can be read only once, from its begin. What the tenants are is known when their list was read,
    /// so nothing can be left out on the way: where a restore would leave out rows this is an error unless
    /// [`keep_unmapped`](Self::keep_unmapped) is set. `name` is that of the source, for messages.
    ///
    /// # Errors
    ///
    /// As for [`archive`](Self::archive).
    pub fn stream<R: Read, W>(
        &self,
        source: &mut ArchiveReader<R>,
        name: &Path,
        options: WriteOptions,
        write: &mut WriteNew<'_, R, W>,
    ) -> Result<(W, RemapReport), Error> {
        let contents = Contents::of(source.toc()).map_err(|(entry, why)| ArchiveError::NotRestorable {
            path: name.to_owned(),
            entry,
            why,
        })?;
        self.remap(source, &contents, None, options, write).map_err(|e| e.in_archive(name))
    }

    fn remap<R: Read, W>(
        &self,
        source: &mut ArchiveReader<R>,
        contents: &Contents,
        tenants: Option<Vec<Tenant>>,
        options: WriteOptions,
        write: &mut WriteNew<'_, R, W>,
    ) -> Result<(W, RemapReport), RemapError> {
        let pairs_alone = self.profile.tenants.is_none();
        let known = if pairs_alone {
            Some(Mapping::of_pairs(self.mapping.entries())?)
        } else {
            tenants.map(|tenants| self.resolve(&tenants)).transpose()?
        };
        let ids = if pairs_alone { pairs::id_map(self.mapping.entries()) } else { self.ids(known.as_ref()) };
        let schema = Schema::of_archive(contents);
        let id_columns = id_columns::find(&schema, self.profile, &self.remap_also)?;
        let (toc, definitions) = remapped_contents(source.toc(), contents, &id_columns, &ids, self.remap_definitions)?;

        let (toc, version_notes) = transcoded(toc, source.header(), options.archive_version())?;

        let pass = Pass::new(self, contents, &id_columns, &ids, known.is_none())?;
        let mut rewrite = Rewrite::new(options);
        rewrite.contents(toc);
        pass.plan(&mut rewrite);
        let written = write(&rewrite, source);
        drop(rewrite);
        let found = pass.finish();
        let (out, _) = written.map_err(|e| pass::told(e, &found))?;

        let mapping = match known {
            Some(mapping) => mapping,
            None => self.resolve(&found.tenants)?,
        };
        let mut strays = definitions.strays;
        strays.extend(found.strays);
        let report = RemapReport {
            version: 1,
            doubtful_foreign_keys: doubtful_foreign_keys(contents, &id_columns, &found.tables),
            statistics_left_out: definitions.statistics_left_out,
            definitions_remapped: definitions.remapped,
            version_notes,
            profile: self.profile.name.clone(),
            mapping,
            tables: found.tables,
            large_objects: found.large_objects,
            loaded_via_partition_root: definitions.loaded_via_root,
            unknown_ids: found.unknown_ids,
            strays,
            pair_use: pairs_alone.then(|| PairUse::of(self.mapping.entries(), &ids, &found.values_by_id)),
            id_columns,
        };
        Ok((out, report))
    }

    fn resolve(&self, tenants: &[Tenant]) -> Result<Mapping, Faults> {
        let mapping = Mapping::without_target(tenants, self.mapping.entries())?;
        if self.keep_unmapped {
            let taken = |tenant: &&Tenant| mapping.mapped.iter().any(|pair| pair.target.id == tenant.id);
            let fault = |tenant: &Tenant| {
                let (id, name) = (&tenant.id, tenant.display_name());
                Fault::new(format!("`{id}` is a target, but also the ID of {name}, which is kept as it is"))
            };
            let faults: Vec<_> = mapping.left_out.iter().filter(taken).map(fault).collect();
            if !faults.is_empty() {
                return Err(Faults::new("two tenants would get the same ID", faults).with_hint("map the other one too"));
            }
        }
        Ok(mapping)
    }

    /// What becomes of each ID, as far as it is known before the list of tenants is read.
    fn ids(&self, mapping: Option<&Mapping>) -> IdMap {
        let entries = self.mapping.entries().iter();
        let mapped = entries.map(|entry| (entry.source.clone(), Fate::Becomes(entry.target.clone())));
        let fate = if self.keep_unmapped { Fate::Stays } else { Fate::LeftOut };
        let unmapped = mapping.into_iter().flat_map(|mapping| &mapping.left_out);
        IdMap::new(mapped.chain(unmapped.map(|tenant| (tenant.id.clone(), fate.clone()))).collect())
    }
}

/// The table of contents in the version of the new archive, and what is to be known of it.
fn transcoded(toc: Toc, header: &Header, version: Version) -> Result<(Toc, Vec<String>), Error> {
    if version == (Version { revision: 0, ..header.version }) {
        return Ok((toc, Vec::new()));
    }
    let transcoding =
        Transcoding::plan(&toc, header, version).map_err(|source| Error::Transcode { version, source })?;
    let notes = transcoding.notes().iter().map(ToString::to_string).collect();
    Ok((transcoding.into_toc(), notes))
}

/// The foreign keys of rows without a tenant to tables of which rows were left out.
fn doubtful_foreign_keys(
    contents: &Contents,
    id_columns: &[IdColumn],
    tables: &[RemappedTable],
) -> Vec<DoubtfulForeignKey> {
    // With a partition counts whatever it is a partition of.
    let with_ancestors = |table| std::iter::once(table).chain(contents.ancestors_of(table));
    let those = |is_meant: fn(&RemappedTable) -> bool| -> HashSet<&TableName> {
        tables.iter().filter(|table| is_meant(table)).flat_map(|table| with_ancestors(&table.table)).collect()
    };
    let keep_rows_of_nobody = those(|t| t.rows > t.rows_left_out + t.rows_by_tenant.values().sum::<u64>());
    let lost_rows = those(|table| table.rows_left_out > 0);
    let ids = id_columns.iter().map(|id| &id.column);
    let with_ids: HashSet<(&TableName, &str)> =
        ids.flat_map(|id| with_ancestors(&id.table).map(|table| (table, id.column.as_str()))).collect();
    // With an ID in the key, a row that names no tenant refers to none's.
    let tells_tenant =
        |key: &ArchiveForeignKey| key.columns.iter().any(|column| with_ids.contains(&(&key.table, column.as_str())));
    let keys = contents.foreign_keys.iter();
    keys.filter(|key| lost_rows.contains(&key.referenced_table) && keep_rows_of_nobody.contains(&key.table))
        .filter(|key| !tells_tenant(key))
        .map(|key| DoubtfulForeignKey {
            table: key.table.clone(),
            columns: key.columns.clone(),
            referenced_table: key.referenced_table.clone(),
        })
        .collect()
}

/// An error of the archive's reader or writer has no name of a file yet.
enum RemapError {
    Archive(dumpfmt::Error),
    Other(Error),
}

impl RemapError {
    fn in_archive(self, path: &Path) -> Error {
        match self {
            Self::Archive(e) => ArchiveError::of_copy(path, e).into(),
            Self::Other(e) => e,
        }
    }
}

impl<E: Into<Error>> From<E> for RemapError {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}
