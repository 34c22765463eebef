//! `pgdumpx`, which seeks to the rows of one table after the other and does not read large objects.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;

use anyhow::Result;
use pgdumpx::{Archive, EntryReadLimits, FieldRef, Limits};

use pgmig_benches::work::{Amount, Sink, listing};

pub(crate) fn list(file: &Path) -> Result<Amount> {
    let archive = open(file)?;
    let mut out = listing()?;
    for entry in archive.entries() {
        let lossy = String::from_utf8_lossy;
        let namespace = lossy(entry.namespace_bytes().unwrap_or_default());
        let (description, name) = (lossy(entry.description_bytes()), lossy(entry.name_bytes()));
        writeln!(out, "{description} {namespace}.{name} (dump ID {})", entry.id().as_i32())?;
    }
    out.flush()?;
    Ok(Amount::Listed(archive.entries().len()))
}

pub(crate) fn stream(file: &Path) -> Result<Amount> {
    let mut archive = open(file)?;
    let tables: Vec<_> = archive
        .entries()
        .iter()
        .filter(|entry| entry.description_bytes() == b"TABLE DATA")
        .map(|entry| entry.id())
        .collect();
    let mut out = Sink::open()?;
    for id in tables {
        archive.copy_entry_to(id, &mut out, EntryReadLimits::unlimited())?;
    }
    Ok(Amount::Streamed(out.bytes, 0))
}

pub(crate) fn fields(file: &Path) -> Result<Amount> {
    let mut archive = open(file)?;
    let tables = archive.entries().iter().filter(|entry| entry.description_bytes() == b"TABLE DATA");
    let tables: Vec<_> = tables
        .map(|entry| (entry.namespace_bytes().unwrap_or_default().to_vec(), entry.name_bytes().to_vec()))
        .collect();
    let (mut rows, mut fields, mut bytes) = (0, 0, 0);
    for (schema, name) in &tables {
        let mut of_table = archive.table_rows(schema, name)?;
        while let Some(row) = of_table.next_row()? {
            rows += 1;
            for field in row.fields() {
                fields += 1;
                bytes += match field {
                    FieldRef::Bytes(value) => value.len(),
                    FieldRef::Null => 2,
                };
            }
        }
    }
    std::hint::black_box(bytes);
    Ok(Amount::Split(rows, fields))
}

/// With its limits raised: the default ones refuse a million entries.
fn open(file: &Path) -> Result<Archive<BufReader<File>>> {
    let limits = Limits::default()
        .with_max_toc_entries(1 << 24)
        .with_max_metadata_string_bytes(2 << 30)
        .with_max_metadata_dependencies(1 << 26)
        .with_max_metadata_index_bytes(2 << 30);
    Ok(Archive::open_path_with_limits(file, limits)?)
}
