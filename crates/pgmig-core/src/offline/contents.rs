//! The table of contents of the new archive: partitions follow their rows, and IDs in definitions are found.

use std::collections::{BTreeSet, HashMap};

use dumpfmt::{CopyStatement, PartitionKey, Toc, TocEntry};

use crate::archive::Contents;
use crate::error::Faults;
use crate::id_columns::IdColumn;
use crate::names::TableName;
use crate::remap::IdMap;
use crate::survey::{Stray, StrayPlace, excerpt};

/// What was found in the definitions.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    pub(super) strays: Vec<Stray>,
    pub(super) loaded_via_root: Vec<TableName>,
}

/// The new table of contents.
///
/// Where a table is partitioned by a column with IDs, new ones move rows to other partitions: its rows are then loaded through
/// it, as `pg_dump --load-via-partition-root` makes them, and the IDs in the bounds of its partitions are replaced.
pub(super) fn remapped_contents(
    toc: &Toc,
    contents: &Contents,
    id_columns: &[IdColumn],
    ids: &IdMap,
) -> Result<(Toc, Definitions), Faults> {
    let roots = partitioned_by_ids(toc, contents, id_columns);
    let mut definitions = Definitions::default();
    let mut entries = Vec::with_capacity(toc.entries().len());
    for entry in toc.entries() {
        let mut new = entry.clone();
        let table = contents.tables.iter().find(|table| table.dump_id == entry.dump_id());
        if let Some((table, root)) = table.and_then(|table| Some((table, *roots.get(&table.copy_into)?))) {
            new = load_via_root(entry, root)?;
            definitions.loaded_via_root.push(table.table.clone());
        }
        if entry.description() == b"TABLE ATTACH" {
            new = remapped_bounds(entry, contents, &roots, ids)?.unwrap_or(new);
        }
        definitions.strays.extend(stray_in(&new, contents, ids));
        entries.push(new);
    }
    let toc = Toc::new(entries).map_err(|e| unwritable(&e))?;
    Ok((toc, definitions))
}

/// The partitions whose rows may belong to another one under new IDs, each with the entry of the table at the top.
fn partitioned_by_ids<'t>(
    toc: &'t Toc,
    contents: &Contents,
    id_columns: &[IdColumn],
) -> HashMap<TableName, &'t TocEntry> {
    let by_ids: BTreeSet<TableName> = toc
        .of_type("TABLE")
        .filter_map(|entry| {
            let key = PartitionKey::of(entry)?;
            let table = contents.table_of(entry);
            // The archive has rows of the partitions alone, so their columns are known, not the table's own.
            let has_ids = |column: &&IdColumn| {
                column.column.table == table || contents.ancestors_of(&column.column.table).contains(&&table)
            };
            let mut columns = id_columns.iter().filter(has_ids);
            let mentions = |column: &str| key.names.iter().any(|name| contents.text(name) == column);
            columns.any(|column| mentions(&column.column.column)).then_some(table)
        })
        .collect();
    let tables: HashMap<TableName, &TocEntry> =
        toc.of_type("TABLE").map(|entry| (contents.table_of(entry), entry)).collect();
    let partitions = contents.partitions.iter().map(|(partition, _)| partition);
    partitions
        .filter_map(|partition| {
            let ancestors = contents.ancestors_of(partition);
            let moves = ancestors.iter().any(|&ancestor| by_ids.contains(ancestor));
            Some((partition.clone(), *tables.get(*ancestors.last()?)?)).filter(|_| moves)
        })
        .collect()
}

/// The entry of a partition's rows as `--load-via-partition-root` writes it.
fn load_via_root(entry: &TocEntry, root: &TocEntry) -> Result<TocEntry, Faults> {
    let Some(copy) = CopyStatement::of(entry) else { return Ok(entry.clone()) };
    let (copy, definition) = copy.via_partition_root(root.namespace().unwrap_or_default(), root.tag());
    entry.to_builder().copy_statement(Some(&copy)).definition(definition).build().map_err(|e| unwritable(&e))
}

/// A TABLE ATTACH entry with the IDs in its bounds replaced; `None` when its table is not partitioned by IDs.
fn remapped_bounds(
    entry: &TocEntry,
    contents: &Contents,
    roots: &HashMap<TableName, &TocEntry>,
    ids: &IdMap,
) -> Result<Option<TocEntry>, Faults> {
    let partition = contents.table_of(entry);
    let Some(definition) = entry.definition().filter(|_| roots.contains_key(&partition)) else { return Ok(None) };
    let mut sql = Vec::with_capacity(definition.len());
    let mut copied = 0;
    for found in ids.occurrences(definition) {
        if let Some(text) = ids.replacement(found.id, found.spelling) {
            sql.extend_from_slice(&definition[copied..found.range.start]);
            sql.extend_from_slice(text.as_bytes());
            copied = found.range.end;
        }
    }
    sql.extend_from_slice(&definition[copied..]);
    entry.to_builder().definition(sql).build().map(Some).map_err(|e| unwritable(&e))
}

fn stray_in(entry: &TocEntry, contents: &Contents, ids: &IdMap) -> Option<Stray> {
    let texts = [entry.definition(), entry.drop_statement(), entry.copy_statement(), Some(entry.tag())];
    texts.into_iter().flatten().find_map(|text| {
        let found = ids.occurrences(text).next()?;
        let place = StrayPlace::Definition(contents.text(entry.to_string().as_bytes()));
        Some(Stray { place, count: 1, example: excerpt(text, &found.range) })
    })
}

fn unwritable(error: &dumpfmt::Error) -> Faults {
    Faults::one("cannot make the new table of contents", error.to_string())
}
