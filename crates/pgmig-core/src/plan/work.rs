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
    pub(crate) constraints: Vec<SetAside>,
    pub(crate) triggers: Vec<(TableName, Trigger)>,
    /// What the catalog looked like when the plan was made.
    pub(crate) catalog: u64,
    /// How event triggers are kept from firing.
    pub(crate) event_triggers: EventTriggers,
    /// Sequences of tables in which rows stay: they must not fall behind those.
    pub(crate) sequences_of_kept_rows: Vec<TableName>,
    /// The columns of the target that may refer to large objects.
    pub(crate) large_object_columns: Vec<ColumnName>,
    /// Mapped IDs that must be in no ID column of the target afterwards.
    pub(crate) gone: Vec<InstanceId>,
    /// IDs of tenants that are left out. No row may be theirs; a text may mention them.
    pub(crate) gone_owners: Vec<InstanceId>,
    /// The column that lists the tenants: every target must be in it afterwards.
    pub(crate) tenant_list: Option<ColumnName>,
    /// The internal tenants of the target whose rows stay.
    pub(crate) kept: Vec<InstanceId>,
}

/// A constraint that is dropped and added again.
#[derive(Debug)]
pub(crate) struct SetAside {
    pub(crate) table: TableName,
    pub(crate) constraint: Constraint,
    /// The table that a foreign key refers to.
    pub(crate) referenced: Option<TableName>,
}

/// How event triggers are kept from firing while constraints and triggers are set
/// aside and put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventTriggers {
    /// There are none.
    None,
    /// By the setting `event_triggers`, since PostgreSQL 17.
    Off,
    /// By `session_replication_role`, during these steps alone: it would silence
    /// deferrable unique constraints too.
    Replica,
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
    /// The tables that are restored, in the order of [`Plan::tables`](super::Plan::tables).
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
