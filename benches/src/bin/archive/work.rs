//! What is measured.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;

use crate::readers::{dumpfmt, libpgdump, pgarchive, pgdumpx};

/// Something that is done with an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Work {
    /// Write a line for each entry of the table of contents
    List,
    /// Write the decompressed data of all entries, large objects too, to `/dev/null`
    Stream,
    /// Look at each field of each row of all tables
    Fields,
}

/// A library that reads archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Reader {
    /// Ours
    Dumpfmt,
    Libpgdump,
    Pgarchive,
    Pgdumpx,
}

impl Reader {
    pub(crate) const ALL: [Self; 4] = [Self::Dumpfmt, Self::Libpgdump, Self::Pgarchive, Self::Pgdumpx];

    /// Does `work` and tells what it amounted to.
    pub(crate) fn run(self, work: Work, file: &Path) -> Result<Amount> {
        match (self, work) {
            (Self::Dumpfmt, Work::List) => dumpfmt::list(file),
            (Self::Dumpfmt, Work::Stream) => dumpfmt::stream(file),
            (Self::Dumpfmt, Work::Fields) => dumpfmt::fields(file),
            (Self::Libpgdump, Work::List) => libpgdump::list(file),
            (Self::Libpgdump, Work::Stream) => libpgdump::stream(file),
            (Self::Libpgdump, Work::Fields) => libpgdump::fields(file),
            (Self::Pgarchive, Work::List) => pgarchive::list(file),
            (Self::Pgarchive, Work::Stream) => pgarchive::stream(file),
            (Self::Pgarchive, Work::Fields) => pgarchive::fields(file),
            (Self::Pgdumpx, Work::List) => pgdumpx::list(file),
            (Self::Pgdumpx, Work::Stream) => pgdumpx::stream(file),
            (Self::Pgdumpx, Work::Fields) => pgdumpx::fields(file),
        }
    }
}

/// How much was done, to compare readers by.
#[derive(Debug)]
pub(crate) enum Amount {
    Listed { entries: usize },
    Streamed { bytes: u64, large_objects: u64 },
    Split { rows: u64, fields: u64 },
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listed { entries } => write!(f, "{entries} entries"),
            Self::Streamed { bytes, large_objects } => write!(f, "{bytes} bytes, {large_objects} large objects"),
            Self::Split { rows, fields } => write!(f, "{rows} rows, {fields} fields"),
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_name(self, f)
    }
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_name(self, f)
    }
}

fn write_name(value: &impl ValueEnum, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let value = value.to_possible_value().expect("none is skipped");
    f.write_str(value.get_name())
}

/// Where the data of entries goes, as with `pg_restore -f /dev/null`.
#[derive(Debug)]
pub(crate) struct Sink {
    file: File,
    pub(crate) bytes: u64,
}

impl Sink {
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self { file: File::options().write(true).open("/dev/null")?, bytes: 0 })
    }
}

impl Write for Sink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.file.write(data)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Where a listing goes.
pub(crate) fn listing() -> io::Result<BufWriter<File>> {
    Ok(BufWriter::new(File::options().write(true).open("/dev/null")?))
}
