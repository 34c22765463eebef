//! `libpgdump`, which loads the whole archive.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use libpgdump::ObjectType;

use pgmig_benches::work::{Amount, Sink, listing};

pub(crate) fn list(file: &Path) -> Result<Amount> {
    let dump = libpgdump::load(file)?;
    let mut out = listing()?;
    for entry in dump.entries() {
        let (namespace, tag) = (entry.namespace.as_deref(), entry.tag.as_deref());
        writeln!(
            out,
            "{} {}.{} (dump ID {})",
            entry.desc,
            namespace.unwrap_or_default(),
            tag.unwrap_or_default(),
            entry.dump_id
        )?;
    }
    out.flush()?;
    Ok(Amount::Listed(dump.entries().len()))
}

pub(crate) fn stream(file: &Path) -> Result<Amount> {
    let dump = libpgdump::load(file)?;
    let mut out = Sink::open()?;
    for entry in dump.entries().iter().filter(|entry| entry.desc == ObjectType::TableData) {
        out.write_all(dump.entry_data(entry.dump_id).context("a table without data")?)?;
    }
    let objects = dump.blobs();
    for (_, data) in &objects {
        out.write_all(data)?;
    }
    Ok(Amount::Streamed(out.bytes, objects.len() as u64))
}

pub(crate) fn fields(file: &Path) -> Result<Amount> {
    let dump = libpgdump::load(file)?;
    let (mut rows, mut fields, mut bytes) = (0, 0, 0);
    for entry in dump.entries().iter().filter(|entry| entry.desc == ObjectType::TableData) {
        let (namespace, tag) = (entry.namespace.as_deref(), entry.tag.as_deref());
        for row in dump.table_data(namespace.unwrap_or_default(), tag.unwrap_or_default())? {
            rows += 1;
            for field in row.split('\t') {
                fields += 1;
                bytes += field.len();
            }
        }
    }
    std::hint::black_box(bytes);
    Ok(Amount::Split(rows, fields))
}
