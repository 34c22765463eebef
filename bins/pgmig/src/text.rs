//! Inspections and reports as people read them.

use std::fmt::Write;

use pgmig_core::inspect::Inspection;
use pgmig_core::offline::RemapReport;
use pgmig_core::tenant::TenantState;
use restore_command::text::{archive, instances};
pub(crate) use terminal::text::{count, counted, size, table};

/// What a remap of an archive did.
pub(crate) fn remap(report: &RemapReport) -> String {
    let rows = report.tables.iter().map(|table| {
        let left_out = if table.rows_left_out == 0 { String::new() } else { count(table.rows_left_out) };
        let ids = if table.ids == 0 { String::new() } else { count(table.ids) };
        vec![table.table.to_string(), count(table.rows - table.rows_left_out), left_out, ids]
    });
    let mut text = format!("\n{}\n", table(&["Table", "Rows", "Left out", "IDs"], &[1, 2, 3], rows));
    let ids: u64 = report.tables.iter().map(|table| table.ids).sum();
    let _ = writeln!(
        text,
        "{}, {}, {}",
        instances(&report.mapping),
        counted(ids, "ID"),
        counted(report.large_objects, "large object")
    );
    for definition in &report.definitions_remapped {
        let _ = writeln!(text, "IDs were replaced in the definition of {definition}");
    }
    for table in &report.loaded_via_partition_root {
        let _ = writeln!(
            text,
            "the rows of {table} are now for the partitioned table: new IDs can move them to other partitions"
        );
    }
    text
}

/// Sorted numbers, those that follow each other as one range; of many ranges the first.
pub(crate) fn ranges(numbers: &[u32]) -> String {
    const MOST: usize = 20;
    let mut ranges = numbers.chunk_by(|one, next| one.checked_add(1) == Some(*next));
    let shown: Vec<_> = ranges
        .by_ref()
        .take(MOST)
        .map(|range| match range {
            [first, .., last] => format!("{first} to {last}"),
            _ => range[0].to_string(),
        })
        .collect();
    let more: usize = ranges.map(<[u32]>::len).sum();
    let rest = if more > 0 { format!(" and {} more", count(more as u64)) } else { String::new() };
    shown.join(", ") + &rest
}

pub(crate) fn inspection(inspection: &Inspection) -> String {
    let mut text = archive(&inspection.archive);
    let rows: Vec<_> = inspection
        .tables
        .iter()
        .map(|table| vec![table.table.to_string(), count(table.rows), size(table.bytes)])
        .collect();
    let total: u64 = inspection.tables.iter().map(|table| table.rows).sum();
    let _ = writeln!(
        text,
        "\nTables  {}, {}\n{}",
        rows.len(),
        counted(total, "row"),
        table(&["Table", "Rows", "Size"], &[1, 2], rows)
    );
    match &inspection.tenants {
        None => text.push_str("Tenants  the archive has no tenant table as the profile describes it\n"),
        Some(tenants) => {
            let rows = tenants.iter().map(|tenant| {
                let id = tenant.id.to_string();
                let mut tables: Vec<_> = inspection
                    .tables
                    .iter()
                    .filter_map(|table| Some((*table.rows_by_tenant.get(&id)?, &table.table.table)))
                    .collect();
                tables.sort_by(|a, b| b.cmp(a));
                let total = tables.iter().map(|(rows, _)| rows).sum();
                let list: Vec<_> = tables.iter().map(|(rows, table)| format!("{table} {}", count(*rows))).collect();
                let state = match tenant.state {
                    TenantState::Live => "live",
                    TenantState::Deleted => "deleted",
                    TenantState::Internal => "internal",
                };
                vec![tenant.display_name().into(), id, state.into(), count(total), list.join(", ")]
            });
            let table = table(&["Name", "ID", "State", "Rows", "Rows per table"], &[3], rows);
            let _ = writeln!(text, "Tenants  {}\n{table}", tenants.len());
        }
    }
    let _ = writeln!(
        text,
        "Besides  {} ({}), {}",
        counted(inspection.large_objects, "large object"),
        size(inspection.large_object_bytes),
        counted(inspection.sequences.len() as u64, "sequence")
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn numbers_that_follow_each_other_are_a_range() {
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[7]), "7");
        assert_eq!(ranges(&[1, 2, 3, 5, u32::MAX - 1, u32::MAX]), "1 to 3, 5, 4294967294 to 4294967295");
        let odd: Vec<_> = (0..25).map(|number| 2 * number).collect();
        assert!(ranges(&odd).ends_with(", 36, 38 and 5 more"), "{}", ranges(&odd));
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!([0, 1, 1000].map(|number| counted(number, "row")), ["0 rows", "1 row", "1,000 rows"]);
    }
}
