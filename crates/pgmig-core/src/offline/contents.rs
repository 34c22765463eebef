//! The table of contents of the new archive: partitions follow their rows, and IDs in definitions are found.

use std::collections::{BTreeSet, HashMap};

use dumpfmt::{CopyStatement, Partition, PartitionKey, Toc, TocEntry};

use crate::archive::{ArchiveTable, Contents};
use crate::error::{Fault, Faults};
use crate::id_columns::IdColumn;
use crate::names::TableName;
use crate::remap::{IdMap, Occurrence};
use crate::survey::{Stray, StrayPlace, excerpt};

/// What was found in the definitions.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    pub(super) strays: Vec<Stray>,
    pub(super) loaded_via_root: Vec<TableName>,
    pub(super) statistics_left_out: Vec<TableName>,
    pub(super) remapped: Vec<String>,
}

/// The new table of contents.
///
/// Where a table is partitioned by a column with IDs, new ones move rows to other partitions: its rows are then loaded through
/// it, as `pg_dump --load-via-partition-root` makes them, and the IDs in lists that are the bounds of its partitions are
/// replaced. The bounds of ranges stay: they say where IDs are in an order, which a mapping does not keep.
///
/// Statistics with IDs in them are left out: in a new order they would mislead the planner.
pub(super) fn remapped_contents(
    toc: &Toc,
    contents: &Contents,
    id_columns: &[IdColumn],
    ids: &IdMap,
    remap_definitions: bool,
) -> Result<(Toc, Definitions), Faults> {
    if remap_definitions {
        expect_no_ids_in_names(toc, ids)?;
    }
    let roots = partitioned_by_ids(toc, contents, id_columns);
    let mut definitions = Definitions::default();
    let mut entries = Vec::with_capacity(toc.entries().len());
    let tables: HashMap<i32, &ArchiveTable> = contents.tables.iter().map(|table| (table.dump_id, table)).collect();
    let is_replaced = |found: &Occurrence| remap_definitions && ids.replacement(found.id, found.spelling).is_some();
    for entry in toc.entries() {
        let definition = entry.definition().unwrap_or_default();
        if entry.description() == b"STATISTICS DATA" && ids.occurrences(definition).next().is_some() {
            definitions.statistics_left_out.push(contents.table_of(entry));
            continue;
        }
        let mut new = entry.clone();
        let mut searched = definition;
        if let Some((table, root)) =
            tables.get(&entry.dump_id()).and_then(|table| Some((table, *roots.get(&table.copy_into)?)))
        {
            new = load_via_root(entry, root)?;
            definitions.loaded_via_root.push(table.table.clone());
        }
        if let Some((before, list)) = list_bound(entry)
            && roots.contains_key(&contents.table_of(entry))
        {
            new = with_definition(&new, [before, &remapped(list, ids)].concat())?;
            // What is left in the list is of tenants whose rows are left out, or an ID that is both old and new.
            searched = before;
        } else if remap_definitions && ids.occurrences(definition).any(|found| is_replaced(&found)) {
            new = with_definition(&new, remapped(definition, ids))?;
            definitions.remapped.push(contents.text(entry.to_string().as_bytes()));
        }
        definitions.strays.extend(stray_in(entry, searched, is_replaced, contents, ids));
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
    let partitions = contents.partitions.keys();
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

/// The definition of an entry that attaches a partition up to its list of values, and that list; `None` for other bounds.
fn list_bound(entry: &TocEntry) -> Option<(&[u8], &[u8])> {
    let attaches = matches!(entry.description(), b"TABLE" | b"TABLE ATTACH") && Partition::of(entry).is_some();
    let definition = entry.definition().filter(|_| attaches)?;
    // The last one: names stand before it. Within a value of the list it would leave IDs unreplaced, and these are strays.
    let start = memchr::memmem::rfind(definition, b" FOR VALUES IN (")?;
    Some(definition.split_at(start))
}

/// SQL with the IDs in it replaced.
fn remapped(sql: &[u8], ids: &IdMap) -> Vec<u8> {
    let mut out = Vec::with_capacity(sql.len());
    let mut copied = 0;
    for found in ids.occurrences(sql) {
        if let Some(text) = ids.replacement(found.id, found.spelling) {
            out.extend_from_slice(&sql[copied..found.range.start]);
            out.extend_from_slice(text.as_bytes());
            copied = found.range.end;
        }
    }
    out.extend_from_slice(&sql[copied..]);
    out
}

/// Objects with IDs in their names cannot be renamed by half: they have names in places of the archive that are no SQL, and
/// in programs.
fn expect_no_ids_in_names(toc: &Toc, ids: &IdMap) -> Result<(), Faults> {
    let has_id = |text: Option<&[u8]>| text.is_some_and(|text| ids.occurrences(text).next().is_some());
    let named = |entry: &&TocEntry| {
        let names = [Some(entry.tag()), entry.namespace(), entry.drop_statement(), entry.copy_statement()];
        names.into_iter().any(has_id)
    };
    let faults: Vec<_> = toc
        .entries()
        .iter()
        .filter(named)
        .map(|entry| Fault::new(format!("the name of {entry} has an ID in it")))
        .collect();
    if faults.is_empty() {
        return Ok(());
    }
    let hint = "names stay as they are: run the same command again without --remap-definitions";
    Err(Faults::new("cannot replace IDs in definitions", faults).with_hint(hint))
}

fn with_definition(entry: &TocEntry, definition: Vec<u8>) -> Result<TocEntry, Faults> {
    entry.to_builder().definition(definition).build().map_err(|e| unwritable(&e))
}

/// An ID in an entry that is not replaced; of the definition only this part is looked at.
fn stray_in(
    entry: &TocEntry,
    definition: &[u8],
    is_replaced: impl Fn(&Occurrence) -> bool,
    contents: &Contents,
    ids: &IdMap,
) -> Option<Stray> {
    let texts = [Some(definition), entry.drop_statement(), entry.copy_statement(), Some(entry.tag())];
    texts.into_iter().flatten().find_map(|text| {
        let found = ids.occurrences(text).find(|found| !is_replaced(found))?;
        let place = StrayPlace::Definition(contents.text(entry.to_string().as_bytes()));
        Some(Stray { place, count: 1, example: excerpt(text, &found.range) })
    })
}

fn unwritable(error: &dumpfmt::Error) -> Faults {
    Faults::one("cannot make the new table of contents", error.to_string())
}
