//! What acting on a plan needs and nobody wants to read.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::PlannedTable;
use super::erase::PlannedErase;
use super::layout::Layout;
use crate::archive::ArchiveTable;
use crate::catalog::{Catalog, Constraint, Trigger};
use crate::id_columns::IdColumn;
use crate::instance_id::InstanceId;
use crate::names::{ColumnName, TableName};
use crate::remap::IdMap;

/// What acting on the plan needs and nobody wants to read.
#[derive(Debug)]
pub(crate) struct Work {
    /// What the thread that reads the archive works with.
    pub(crate) reading: Arc<Reading>,
    /// Every table that is locked, partitioned ones included.
    pub(crate) locks: Vec<TableName>,
    /// Each table with rows, at the top of its partitions, and whether it is partitioned.
    pub(crate) counted: Vec<CountedTable>,
    pub(crate) constraints: Vec<(TableName, Constraint)>,
    pub(crate) triggers: Vec<(TableName, Trigger)>,
    /// The columns of erased tables that refer to large objects.
    pub(crate) large_object_columns: Vec<ColumnName>,
    /// IDs that must be in no ID column of the target afterwards.
    pub(crate) gone: Vec<InstanceId>,
    /// The internal tenants of the target whose rows stay.
    pub(crate) kept: Vec<InstanceId>,
}

/// A table whose rows are counted before the commit.
#[derive(Debug)]
pub(crate) struct CountedTable {
    pub(crate) table: TableName,
    pub(crate) partitioned: bool,
    /// Rows that must be there.
    pub(crate) rows: u64,
    /// Its ID columns.
    pub(crate) id_columns: Vec<IdColumn>,
}

/// How rows are read and remapped.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) encoding: Option<String>,
    pub(crate) ids: IdMap,
    pub(crate) id_columns: Vec<IdColumn>,
    /// The tables that are restored, in the order of [`Plan::tables`].
    pub(crate) tables: Vec<ArchiveTable>,
}

/// The tables whose rows are counted: those at the top, since rows may have moved
/// between partitions.
pub(super) fn counted_tables(
    catalog: &Catalog,
    layout: &Layout<'_>,
    id_columns: &[IdColumn],
    tables: &[PlannedTable],
    erase: &[PlannedErase],
) -> Vec<CountedTable> {
    let mut counted: BTreeMap<u32, CountedTable> = BTreeMap::new();
    let mut entry = |name: &TableName, rows: u64, ids: Vec<IdColumn>| {
        let Some(top) = catalog.table(name).and_then(|table| catalog.ancestry(table).last()) else { return };
        let new =
            || CountedTable { table: top.name.clone(), partitioned: top.partitioned, rows: 0, id_columns: Vec::new() };
        let counted = counted.entry(top.oid).or_insert_with(new);
        counted.rows += rows;
        for id in ids {
            let column = top.name.column(id.column.column.clone());
            if !counted.id_columns.iter().any(|other| other.column == column && other.form == id.form) {
                counted.id_columns.push(IdColumn { column, ..id });
            }
        }
    };
    for erase in erase {
        entry(&erase.table, erase.rows_kept, Vec::new());
    }
    for (load, planned) in layout.loads.iter().zip(tables) {
        let ids = id_columns.iter().filter(|id| id.column.table == load.source.table).cloned().collect();
        entry(&load.destination.name, planned.rows_to_load(), ids);
    }
    counted.into_values().collect()
}
