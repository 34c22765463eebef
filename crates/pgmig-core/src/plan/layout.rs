//! How the archive's tables fit the target's.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use dumpfmt::ColumnType;

use super::erase::PlannedErase;
use super::work::{EventTriggers, SetAside};
use crate::archive::{ArchiveTable, Contents, SequenceState};
use crate::catalog::{Catalog, Constraint, Table};
use crate::error::{Fault, Faults};
use crate::id_columns::{self, IdColumn, Schema};
use crate::names::{TableName, quote_always};
use crate::profile::Profile;
use crate::survey::StrayPlace;

/// How the archive's tables fit the target's.
pub(super) struct Layout<'a> {
    pub(super) loads: Vec<Load<'a>>,
    /// The tables of the target whose rows are erased.
    pub(super) erased: Vec<&'a Table>,
    /// Tables that the archive defines without rows.
    pub(super) without_data: Vec<TableName>,
    pub(super) kept_in_target: Vec<TableName>,
    pub(super) only_in_target: Vec<TableName>,
}

pub(super) struct Load<'a> {
    pub(super) index: usize,
    pub(super) source: &'a ArchiveTable,
    pub(super) destination: &'a Table,
}

impl<'a> Layout<'a> {
    pub(super) fn fit(
        contents: &'a Contents,
        catalog: &'a Catalog,
        profile: &Profile,
        id_columns: &[IdColumn],
    ) -> Result<Self, Faults> {
        // Extensions fill their tables themselves; a dump has only what users added to
        // some of them, which must not replace the whole.
        let is_kept = |table: &TableName| {
            profile.keep_in_target.iter().any(|pattern| pattern.matches(table))
                || catalog.extension_tables.contains(table)
        };
        let (mut faults, mut loads, mut kept) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (index, source) in contents.tables.iter().enumerate() {
            if is_kept(&source.table) {
                kept.insert(source.table.clone());
                continue;
            }
            match catalog.table(&source.copy_into) {
                None => faults.push(Fault::new(format!("the target has no table {}", source.copy_into))),
                Some(table) => {
                    faults.extend(column_differences(contents, source, table));
                    loads.push(Load { index, source, destination: destination(catalog, table, source, id_columns) });
                }
            }
        }
        kept.extend(catalog.tables.iter().filter(|table| is_kept(&table.name)).map(|table| table.name.clone()));

        // What is erased: all partitions of every table that gets rows, and the
        // tables that the archive has without rows.
        let known = contents.defined_tables.iter().filter_map(|name| catalog.table(name));
        let roots = loads.iter().map(|load| load.destination).chain(known).filter(|table| !is_kept(&table.name));
        let erased: BTreeMap<u32, &Table> = roots
            .flat_map(|table| catalog.leaves(catalog.ancestry(table).last().unwrap_or(table)))
            .map(|table| (table.oid, table))
            .collect();

        let others = catalog
            .tables
            .iter()
            .filter(|table| !table.partitioned && !erased.contains_key(&table.oid) && !is_kept(&table.name));
        let target_ids = id_columns::find(&Schema::of_target(catalog), profile, &[])?;
        let mut only_in_target = Vec::new();
        for table in others {
            if target_ids.iter().any(|id| id.column.table == table.name) {
                faults.push(Fault::new(format!(
                    "the archive has no table {}, in which the target has instance IDs",
                    table.name
                )));
            } else {
                only_in_target.push(table.name.clone());
            }
        }
        let with_data: HashSet<&TableName> =
            contents.tables.iter().flat_map(|table| [&table.table, &table.copy_into]).collect();
        let without_data = contents.defined_tables.iter().filter(|name| {
            let ordinary = catalog.table(name).is_some_and(|table| !table.partitioned);
            // A dump of the schema alone has no rows at all; it is refused for want of tenants.
            ordinary && !with_data.contains(name) && !is_kept(name)
        });
        let without_data = without_data.cloned().collect();
        if faults.is_empty() {
            let kept_in_target = kept.into_iter().collect();
            return Ok(Self {
                without_data,
                loads,
                erased: erased.into_values().collect(),
                kept_in_target,
                only_in_target,
            });
        }
        let hint = "restore into an installation of the version that the dump was taken from";
        Err(Faults::new("the tables of the archive and of the target differ", faults).with_hint(hint))
    }

    pub(super) fn is_kept(&self, place: &StrayPlace) -> bool {
        matches!(place, StrayPlace::Column(column) if self.kept_in_target.contains(&column.table))
    }
}

fn column_differences(contents: &Contents, source: &ArchiveTable, table: &Table) -> Vec<Fault> {
    let mut faults = Vec::new();
    for column in &source.columns {
        match table.column(column) {
            None => {
                faults.push(Fault::new(format!("{} has no column {} in the target", table.name, quote_always(column))));
            }
            Some(found) if found.generated => {
                let name = table.name.column(column.clone());
                faults.push(Fault::new(format!("{name} is computed by the target, but the archive has values for it")));
            }
            Some(found) => {
                // Rows may fit another type and yet not be the same afterwards: rounded, cut, re-read.
                let ours = contents.column_type(&source.table, column);
                let theirs = ColumnType::new(found.type_name.as_bytes());
                // Names beyond ASCII may be in another encoding here than there.
                if let Some(ours) = ours.filter(|ours| **ours != theirs && ours.to_string().is_ascii()) {
                    let name = table.name.column(column.clone());
                    faults.push(Fault::new(format!("{name} is {theirs} in the target, but {ours} in the archive")));
                }
            }
        }
    }
    for column in &table.columns {
        if !source.columns.contains(&column.name) && !column.may_be_omitted && !column.generated {
            let name = table.name.column(column.name.clone());
            faults.push(Fault::new(format!("{name} of the target has no values in the archive and no default")));
        }
    }
    faults
}

/// The table that takes the rows: the partitioned one at the top when the
/// partition of a row may depend on an ID, or on something that cannot be told.
fn destination<'a>(
    catalog: &'a Catalog,
    table: &'a Table,
    source: &ArchiveTable,
    id_columns: &[IdColumn],
) -> &'a Table {
    let holds_ids =
        |column: &String| id_columns.iter().any(|id| id.column.table == source.table && id.column.column == *column);
    let may_move = catalog
        .ancestry(table)
        .skip(1)
        .any(|above| above.partitioned_by_expression || above.partition_key.iter().any(holds_ids));
    if may_move { catalog.ancestry(table).last().unwrap_or(table) } else { table }
}

/// The tables that are erased or loaded, and the partitioned ones above them.
pub(super) fn affected_tables<'a>(catalog: &'a Catalog, layout: &Layout<'a>) -> Vec<&'a Table> {
    let loaded = layout.loads.iter().map(|load| load.destination);
    let all = layout.erased.iter().copied().chain(loaded).flat_map(|table| catalog.ancestry(table));
    // By OID, so that two runs lock in the same order.
    all.map(|table| (table.oid, table)).collect::<BTreeMap<_, _>>().into_values().collect()
}

/// The constraints that would be in the way: foreign keys from or to an affected
/// table, and those that were never checked against the rows that are there.
pub(super) fn constraints_of(catalog: &Catalog, affected: &[&Table]) -> Vec<SetAside> {
    let oids: HashSet<u32> = affected.iter().map(|table| table.oid).collect();
    let name = |oid| catalog.table_by_oid(oid).map(|table| table.name.clone());
    let set_aside = |constraint: &Constraint, referenced| {
        Some(SetAside { table: name(constraint.table)?, constraint: constraint.clone(), referenced })
    };
    let keys = catalog.foreign_keys.iter();
    let keys = keys.filter(|key| oids.contains(&key.constraint.table) || oids.contains(&key.referenced_table));
    let keys = keys.filter_map(|key| set_aside(&key.constraint, name(key.referenced_table)));
    let unvalidated = catalog.unvalidated.iter().filter(|constraint| oids.contains(&constraint.table));
    keys.chain(unvalidated.filter_map(|constraint| set_aside(constraint, None))).collect()
}

pub(super) fn of_tables<T: Clone>(tables: &[&Table], all: &[T], table_of: impl Fn(&T) -> u32) -> Vec<(TableName, T)> {
    let names: HashMap<u32, &TableName> = tables.iter().map(|table| (table.oid, &table.name)).collect();
    all.iter().filter_map(|item| Some(((*names.get(&table_of(item))?).clone(), item.clone()))).collect()
}

/// How event triggers can be kept from firing on what a restore does to constraints.
pub(super) fn event_triggers(catalog: &Catalog) -> Result<EventTriggers, Faults> {
    const EVENT_TRIGGERS_SETTING: i32 = 170_000;
    let always: Vec<_> = catalog.event_triggers.iter().filter(|trigger| trigger.enabled != 'O').collect();
    if catalog.event_triggers.is_empty() {
        return Ok(EventTriggers::None);
    }
    if catalog.is_superuser && catalog.server_version >= EVENT_TRIGGERS_SETTING {
        return Ok(EventTriggers::Off);
    }
    if catalog.is_superuser && always.is_empty() {
        return Ok(EventTriggers::Replica);
    }
    let firing = if catalog.is_superuser { always } else { catalog.event_triggers.iter().collect() };
    let faults = firing.iter().map(|trigger| Fault::new(format!("event trigger {}", trigger.name))).collect();
    let hint =
        "disable them for the time of the restore (`ALTER EVENT TRIGGER name DISABLE`), or connect as a superuser";
    Err(Faults::new("event triggers of the target would fire during the restore", faults).with_hint(hint))
}

/// The sequences that serve tables in which rows stay, be it all rows.
pub(super) fn sequences_of_kept_rows(catalog: &Catalog, erase: &[PlannedErase]) -> Vec<TableName> {
    let stays = |table: &Table| {
        let planned = erase.iter().find(|erase| erase.table == table.name);
        !table.partitioned && planned.is_none_or(|erase| erase.rows_kept > 0)
    };
    let tables = catalog.tables.iter().filter(|table| stays(table));
    let oids: HashSet<u32> = tables.flat_map(|table| catalog.ancestry(table)).map(|table| table.oid).collect();
    let sequences = catalog.sequences.iter();
    let of_kept = sequences.filter(|sequence| sequence.owner.iter().chain(&sequence.numbers).any(|t| oids.contains(t)));
    of_kept.map(|sequence| sequence.name.clone()).collect()
}

pub(super) fn plan_sequences(
    contents: &Contents,
    catalog: &Catalog,
    profile: &Profile,
) -> Result<Vec<SequenceState>, Faults> {
    let mut sequences = Vec::new();
    let mut faults = Vec::new();
    for state in &contents.sequences {
        let Some(found) = catalog.sequences.iter().find(|sequence| sequence.name == state.sequence) else {
            faults.push(Fault::new(format!("the target has no sequence {}", state.sequence)));
            continue;
        };
        let owner = found.owner.and_then(|oid| catalog.table_by_oid(oid));
        let kept = owner.is_some_and(|table| profile.keep_in_target.iter().any(|pattern| pattern.matches(&table.name)));
        if !kept {
            sequences.push(state.clone());
        }
    }
    if faults.is_empty() {
        return Ok(sequences);
    }
    let hint = "restore into an installation of the version that the dump was taken from";
    Err(Faults::new("the sequences of the archive and of the target differ", faults).with_hint(hint))
}
