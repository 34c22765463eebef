//! `pgarchive`, which knows neither rows nor large objects.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use anyhow::Result;
use pgarchive::Archive;

use pgmig_benches::work::{Amount, Sink, listing};

const BUFFER_BYTES: usize = 128 << 10;

pub(crate) fn list(file: &Path) -> Result<Amount> {
    let (archive, _) = open(file)?;
    let mut out = listing()?;
    for entry in &archive.toc_entries {
        writeln!(out, "{} {}.{} (dump ID {})", entry.desc, entry.namespace, entry.tag, entry.id)?;
    }
    out.flush()?;
    Ok(Amount::Listed(archive.toc_entries.len()))
}

pub(crate) fn stream(file: &Path) -> Result<Amount> {
    let (archive, mut file) = open(file)?;
    let mut out = Sink::open()?;
    for entry in archive.toc_entries.iter().filter(|entry| entry.desc == "TABLE DATA") {
        let data = archive.read_data(&mut file, entry)?;
        io::copy(&mut BufReader::with_capacity(BUFFER_BYTES, data), &mut out)?;
    }
    Ok(Amount::Streamed(out.bytes, 0))
}

pub(crate) fn fields(file: &Path) -> Result<Amount> {
    let (archive, mut file) = open(file)?;
    let (mut rows, mut fields, mut bytes) = (0, 0, 0);
    let mut row = Vec::new();
    for entry in archive.toc_entries.iter().filter(|entry| entry.desc == "TABLE DATA") {
        let mut data = BufReader::with_capacity(BUFFER_BYTES, archive.read_data(&mut file, entry)?);
        loop {
            row.clear();
            data.read_until(b'\n', &mut row)?;
            if row.is_empty() || row == b"\\.\n" {
                break;
            }
            rows += 1;
            for field in row[..row.len() - 1].split(|&byte| byte == b'\t') {
                fields += 1;
                bytes += field.len();
            }
        }
    }
    std::hint::black_box(bytes);
    Ok(Amount::Split(rows, fields))
}

/// Its table of contents is read byte by byte: not from the file itself, to be fair.
fn open(file: &Path) -> Result<(Archive, File)> {
    let file = File::open(file)?;
    let archive = Archive::parse(&mut BufReader::with_capacity(BUFFER_BYTES, &file))?;
    Ok((archive, file))
}
