//! The works that readers of archives are compared by.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};

use clap::ValueEnum;

/// Something that is done with an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// Write a line for each entry of the table of contents
    List,
    /// Write the decompressed data of all entries, large objects too, to `/dev/null`
    Stream,
    /// Look at each field of each row of all tables
    Fields,
}

/// How much was done, to compare readers by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// Entries of the table of contents.
    Listed(usize),
    /// Bytes of data, and how many large objects are among them.
    Streamed(u64, u64),
    /// Rows, and fields in them.
    Split(u64, u64),
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listed(entries) => write!(f, "{entries} entries"),
            Self::Streamed(bytes, large_objects) => write!(f, "{bytes} bytes, {large_objects} large objects"),
            Self::Split(rows, fields) => write!(f, "{rows} rows, {fields} fields"),
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::List => "list",
            Self::Stream => "stream",
            Self::Fields => "fields",
        })
    }
}

/// Where the data of entries goes, as with `pg_restore -f /dev/null`.
#[derive(Debug)]
pub struct Sink {
    file: File,
    /// How many bytes went there.
    pub bytes: u64,
}

impl Sink {
    /// Opens `/dev/null`.
    ///
    /// # Errors
    ///
    /// When that cannot be.
    pub fn open() -> io::Result<Self> {
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

/// Where a listing goes, as with `pg_restore -l > /dev/null`.
///
/// # Errors
///
/// When it cannot be opened.
pub fn listing() -> io::Result<BufWriter<File>> {
    Ok(BufWriter::new(File::options().write(true).open("/dev/null")?))
}
