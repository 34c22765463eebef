//! What is in an archive, without any database.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::archive::{Archive, SequenceState};
use crate::error::Error;
use crate::id_columns::{self, IdColumn, Schema};
use crate::names::TableName;
use crate::profile::Profile;
use crate::remap::{Fate, IdMap};
use crate::summary::{ArchiveSummary, summarize};
use crate::survey::survey;
use crate::tenant::{self, Tenant};

/// What is in an archive. Making it decodes every block.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Inspection {
    /// The version of this structure's JSON form; 1.
    pub version: u32,
    /// The archive's account of itself.
    pub archive: ArchiveSummary,
    /// The tenants; `None` when the archive has no tenant table as the profile describes it.
    pub tenants: Option<Vec<Tenant>>,
    /// The tables with rows, in the archive's order.
    pub tables: Vec<InspectedTable>,
    /// The ID columns that the profile finds. Without a target their types are not known.
    pub id_columns: Vec<IdColumn>,
    /// Large objects.
    pub large_objects: u64,
    /// Their bytes.
    pub large_object_bytes: u64,
    /// The values of sequences.
    pub sequences: Vec<SequenceState>,
}

/// A table of an archive.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct InspectedTable {
    /// The table.
    pub table: TableName,
    /// Its rows.
    pub rows: u64,
    /// Bytes of COPY text.
    pub bytes: u64,
    /// Rows by the tenant whose ID is the first in them; tables without ID columns have none.
    pub rows_by_tenant: BTreeMap<String, u64>,
}

/// Reads the whole archive and tells what is in it. `progress` is called with the
/// position in the file.
///
/// # Errors
///
/// When the archive is damaged.
pub fn inspect(archive: &mut Archive, profile: &Profile, progress: impl FnMut(u64)) -> Result<Inspection, Error> {
    let summary = summarize(archive, profile)?;
    let tenants = match tenant::in_archive(archive, profile) {
        Ok(tenants) => Some(tenants),
        // Another product's archive can be looked at all the same.
        Err(Error::Faults(_)) => None,
        Err(e) => return Err(e),
    };
    let contents = archive.shared_contents();
    let id_columns = id_columns::find(&Schema::of_archive(&contents), profile, &[]).unwrap_or_default();
    let listed = tenants.iter().flatten().map(|tenant| (tenant.id.clone(), Fate::Stays));
    let ids = IdMap::new(listed.collect());
    let found = survey(archive, &id_columns, &ids, progress)?;
    let tables = contents.tables.iter().zip(&found.tables).map(|(table, found)| InspectedTable {
        table: table.table.clone(),
        rows: found.rows,
        bytes: found.bytes,
        rows_by_tenant: found.rows_by_tenant.iter().map(|(&id, &rows)| (ids.id(id).to_string(), rows)).collect(),
    });
    Ok(Inspection {
        version: 1,
        archive: summary,
        tables: tables.collect(),
        tenants,
        id_columns,
        large_objects: found.large_objects,
        large_object_bytes: found.large_object_bytes,
        sequences: contents.sequences.clone(),
    })
}
