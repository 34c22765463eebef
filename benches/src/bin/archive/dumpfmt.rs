//! Ours.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::Result;
use dumpfmt::{ArchiveReader, Block, SqlOptions};

use pgmig_benches::work::{Amount, Sink, listing};

pub(crate) fn list(file: &Path) -> Result<Amount> {
    let archive = open(file)?;
    archive.listing(&SqlOptions::default())?.write_to(listing()?)?;
    Ok(Amount::Listed(archive.toc().entries().len()))
}

pub(crate) fn stream(file: &Path) -> Result<Amount> {
    let mut archive = open(file)?;
    let (mut out, mut large_objects) = (Sink::open()?, 0);
    let mut buffer = vec![0; 128 << 10];
    while let Some(block) = archive.next_block()? {
        match block {
            Block::Data(mut data) => copy(&mut data, &mut buffer, &mut out)?,
            Block::LargeObjects(mut objects) => {
                while let Some(mut object) = objects.next_object()? {
                    copy(&mut object, &mut buffer, &mut out)?;
                    large_objects += 1;
                }
            }
        }
    }
    Ok(Amount::Streamed(out.bytes, large_objects))
}

pub(crate) fn fields(file: &Path) -> Result<Amount> {
    let mut archive = open(file)?;
    let (mut rows, mut fields, mut bytes) = (0, 0, 0);
    while let Some(block) = archive.next_block()? {
        let Block::Data(data) = block else { continue };
        let mut of_table = data.rows();
        while let Some(row) = of_table.next_row()? {
            rows += 1;
            for field in row.fields() {
                fields += 1;
                bytes += field.raw().len();
            }
        }
    }
    std::hint::black_box(bytes);
    Ok(Amount::Split(rows, fields))
}

fn open(file: &Path) -> Result<ArchiveReader<File>> {
    Ok(ArchiveReader::new(File::open(file)?)?)
}

fn copy(data: &mut impl Read, buffer: &mut [u8], out: &mut Sink) -> Result<()> {
    loop {
        match data.read(buffer)? {
            0 => return Ok(()),
            read => out.write_all(&buffer[..read])?,
        }
    }
}
