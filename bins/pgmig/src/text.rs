//! Plans, reports and inspections as people read them.

use std::collections::BTreeMap;
use std::fmt::Write;

use pgmig_core::inspect::Inspection;
use pgmig_core::mapping::Mapping;
use pgmig_core::offline::RemapReport;
use pgmig_core::plan::Plan;
use pgmig_core::restore::Report;
use pgmig_core::summary::ArchiveSummary;
use pgmig_core::tenant::TenantState;
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

pub(crate) fn archive(summary: &ArchiveSummary) -> String {
    let or = |text: &Option<String>, other: &str| text.clone().unwrap_or_else(|| other.into());
    let mut text = format!("Archive  {}, {}\n", summary.path, size(summary.bytes));
    let _ = writeln!(
        text,
        "  taken {} from database {} of PostgreSQL {} by pg_dump {}",
        summary.created,
        or(&summary.database, "?"),
        or(&summary.server_version, "?"),
        or(&summary.dump_version, "?")
    );
    let _ = writeln!(
        text,
        "  format {}, compression {}, encoding {}, schema version {}",
        summary.format_version,
        summary.compression,
        or(&summary.encoding, "?"),
        or(&summary.schema_version, "unknown")
    );
    text
}

fn instances(mapping: &Mapping) -> String {
    counted(mapping.mapped.len() as u64, "instance")
}

pub(crate) fn mapping(mapping: &Mapping) -> String {
    let rows = mapping.mapped.iter().map(|pair| {
        let target_name = pair.target.name.as_deref().unwrap_or("(no name)");
        vec![
            pair.source.display_name().into(),
            pair.source.id.to_string(),
            pair.target.id.to_string(),
            target_name.into(),
        ]
    });
    table(&["Instance", "Source ID", "Target ID", "Instance of the target"], &[], rows)
}

pub(crate) fn plan(plan: &Plan) -> String {
    let mut text = archive(&plan.archive);
    let _ = writeln!(
        text,
        "\nTarget  PostgreSQL {}.{}, schema version {}\n",
        plan.target_server_version / 10_000,
        plan.target_server_version % 10_000,
        plan.target_schema_version.as_deref().unwrap_or("unknown")
    );
    let _ = writeln!(text, "Mapping  {}\n{}", instances(&plan.mapping), mapping(&plan.mapping));

    let mut columns: BTreeMap<String, usize> = BTreeMap::new();
    for id in &plan.id_columns {
        *columns.entry(id.column.table.to_string()).or_default() += 1;
    }
    let rows = plan.tables.iter().map(|table| {
        let name = table.table.to_string();
        vec![
            if table.destination == table.table { name.clone() } else { format!("{name} into {}", table.destination) },
            count(table.rows_to_load()),
            count(table.rows_left_out),
            columns.get(&name).copied().unwrap_or(0).to_string(),
            count(table.ids),
            size(table.bytes),
        ]
    });
    let heading = ["Table", "Rows to load", "Left out", "ID columns", "IDs", "Size"];
    let _ = writeln!(text, "Tables to restore\n{}", table(&heading, &[1, 2, 3, 4, 5], rows));

    let rows: Vec<_> = plan
        .erase
        .iter()
        .filter(|erase| erase.rows > 0)
        .map(|erase| {
            let (rows, kept, tenant) = (erase.rows_to_erase(), erase.rows_kept, erase.tenant_rows);
            vec![erase.table.to_string(), count(rows), count(tenant), count(kept)]
        })
        .collect();
    if !rows.is_empty() {
        let heading = ["Table", "Rows to erase", "Tenant data", "Kept"];
        let _ = writeln!(text, "To erase in the target first\n{}", table(&heading, &[1, 2, 3], rows));
    }
    let objects = &plan.large_objects;
    let _ = writeln!(
        text,
        "Besides  {} ({}), {} to erase first; {}; {} to refresh",
        counted(objects.count, "large object"),
        size(objects.bytes),
        count(objects.erased),
        counted(plan.sequences.len() as u64, "sequence"),
        counted(plan.materialized_views.len() as u64, "materialized view")
    );
    let names =
        |names: &[pgmig_core::names::TableName]| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if !plan.kept_in_target.is_empty() {
        let _ = writeln!(text, "Left as they are in the target  {}", names(&plan.kept_in_target));
    }
    if !plan.only_in_target.is_empty() {
        let _ = writeln!(text, "Only in the target, left as they are  {}", names(&plan.only_in_target));
    }
    if !plan.strays.is_empty() {
        let rows =
            plan.strays.iter().map(|stray| vec![stray.place.to_string(), count(stray.count), stray.example.clone()]);
        let table = table(&["Place", "Count", "Example"], &[1], rows);
        let _ = writeln!(text, "\nSource IDs in places that the profile does not name\n{table}");
    }
    text
}

pub(crate) fn report(report: &Report) -> String {
    let rows = report.tables.iter().map(|table| {
        vec![
            table.table.to_string(),
            count(table.rows),
            count(table.rows_left_out),
            size(table.bytes),
            format!("{:.2}", table.seconds),
        ]
    });
    let mut text = table(&["Table", "Rows", "Left out", "Size", "Seconds"], &[1, 2, 3, 4], rows);
    let checked = &report.verification;
    let _ = writeln!(
        text,
        "\nVerified before the commit: {} in {} as in the archive, no source ID in {}, {} {}",
        counted(checked.rows, "row"),
        counted(checked.tables, "table"),
        counted(checked.id_columns, "ID column"),
        counted(checked.foreign_keys, "foreign key"),
        if checked.foreign_keys == 1 { "holds" } else { "hold" }
    );
    let rows: u64 = report.tables.iter().map(|table| table.rows).sum();
    let _ = writeln!(
        text,
        "Restored {}: {}, {} in {:.1} s",
        instances(&report.mapping),
        counted(rows, "row"),
        counted(report.large_objects, "large object"),
        report.seconds
    );
    text
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
