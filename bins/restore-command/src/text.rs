//! Plans, mappings and reports as people read them.

use std::collections::BTreeMap;
use std::fmt::Write;

use pgmig_core::mapping::Mapping;
use pgmig_core::plan::Plan;
use pgmig_core::restore::Report;
use pgmig_core::summary::ArchiveSummary;
use terminal::text::{count, counted, size, table};

/// What an archive says of itself.
pub fn archive(summary: &ArchiveSummary) -> String {
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

/// How many instances are mapped.
pub fn instances(mapping: &Mapping) -> String {
    counted(mapping.mapped.len() as u64, "instance")
}

/// Which instance becomes which.
pub fn mapping(mapping: &Mapping) -> String {
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

/// What a restore will do.
pub fn plan(plan: &Plan) -> String {
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

/// What a restore has done.
pub fn report(report: &Report) -> String {
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
