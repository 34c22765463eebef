//! The first part of an archive: versions, compression, time and database.

use std::fmt;
use std::io::Read;

use crate::error::{Error, ErrorKind, Result};
use crate::input::{Input, MAX_INT_BYTES, TextBudget};
use crate::limits::ReadOptions;
use crate::version::Version;
use crate::write::primitives::{INT_SIZE, OFFSET_SIZE};

pub(crate) const MAGIC: &[u8] = b"PGDMP";
/// pg_restore takes no larger one either.
const MAX_INT_SIZE: u8 = MAX_INT_BYTES as u8 - 1;
const PLACE: &str = "within its header";

/// What an archive says of itself before its table of contents.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// The version of the archive format.
    pub version: Version,
    /// How the parts of the archive are kept together.
    pub format: Format,
    /// Bytes of magnitude in each number of the archive; pg_dump writes 4.
    pub int_size: u8,
    /// Bytes in each position within the file; pg_dump writes 8. Before version
    /// 1.7, the same as [`int_size`](Self::int_size).
    pub offset_size: u8,
    /// How the data of every entry is compressed. In a directory this is what
    /// pg_dump was told; each file's name says what it is.
    pub compression: Compression,
    /// The level of the compression, which archives before version 1.15 record; -1 is zlib's default one.
    pub compression_level: Option<i64>,
    /// When the dump was begun.
    pub created: LocalTime,
    /// The database that was dumped, in the encoding of the database.
    pub database: Option<Box<[u8]>>,
    /// The version text of the server, such as `15.18 (Debian 15.18-0+deb12u1)`; since version 1.10.
    pub server_version: Option<Box<[u8]>>,
    /// The version text of pg_dump; since version 1.10.
    pub dump_version: Option<Box<[u8]>>,
}

/// How the parts of an archive are kept together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// One file of blocks: `pg_dump -Fc`.
    Custom,
    /// One tar file: `pg_dump -Ft`.
    Tar,
    /// A folder with a file for each entry that has data: `pg_dump -Fd`.
    Directory,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Custom => "custom",
            Self::Tar => "tar",
            Self::Directory => "directory",
        })
    }
}

/// The compression of an archive's data blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Stored as it is.
    None,
    /// Deflate in a zlib wrapper; pg_dump and pg_restore call it gzip.
    Gzip,
    /// LZ4 frames; since pg_dump 16.
    Lz4,
    /// Zstandard frames; since pg_dump 16.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        })
    }
}

/// A time on the clock of the machine that ran pg_dump. The archive does not say
/// in which time zone that clock was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalTime {
    /// The full year.
    pub year: i64,
    /// 1 to 12.
    pub month: i64,
    /// 1 to 31.
    pub day: i64,
    /// 0 to 23.
    pub hour: i64,
    /// 0 to 59.
    pub minute: i64,
    /// 0 to 60.
    pub second: i64,
    /// Whether summer time was in force, where that is known.
    pub daylight_saving: Option<bool>,
}

impl LocalTime {
    /// A time of which it is not known whether summer time was in force. The month is 1 to 12.
    pub fn new(year: i64, month: i64, day: i64, hour: i64, minute: i64, second: i64) -> Self {
        Self { year, month, day, hour, minute, second, daylight_saving: None }
    }
}

impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, hour, minute, second, .. } = self;
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
    }
}

impl Header {
    /// The header of a new archive. Its version and compression are what [`WriteOptions`](crate::WriteOptions) says,
    /// whatever stands here.
    pub fn new(database: impl AsRef<[u8]>, created: LocalTime) -> Self {
        Self {
            version: Version::RELKIND,
            format: Format::Custom,
            int_size: INT_SIZE,
            offset_size: OFFSET_SIZE,
            compression: Compression::None,
            compression_level: None,
            created,
            database: Some(database.as_ref().into()),
            server_version: None,
            dump_version: None,
        }
    }

    /// Reads what follows the first five bytes of an archive that was found to be
    /// in this format.
    pub(crate) fn read<R: Read>(
        input: &mut Input<R>,
        format: Format,
        options: &ReadOptions,
        budget: &mut TextBudget,
    ) -> Result<Self> {
        let version = read_version(input, options)?;
        let int_size = read_size(input, "a number")?;
        let offset_size = if version >= Version::OFFSET_SIZE { read_size(input, "a position")? } else { int_size };
        expect_format(input, format)?;
        let (compression, compression_level) = read_compression(input, version, int_size)?;
        let created = read_time(input, int_size)?;
        let mut text = || -> Result<Option<Box<[u8]>>> {
            let mut out = Vec::new();
            let present = input.text(int_size, &mut out, budget, PLACE)?;
            Ok(present.then(|| out.into_boxed_slice()))
        };
        let database = text()?;
        let has_versions = version >= Version::TABLESPACE;
        let (server_version, dump_version) = if has_versions { (text()?, text()?) } else { (None, None) };
        Ok(Self {
            version,
            format,
            int_size,
            offset_size,
            compression,
            compression_level,
            created,
            database,
            server_version,
            dump_version,
        })
    }
}

fn read_version<R: Read>(input: &mut Input<R>, options: &ReadOptions) -> Result<Version> {
    let offset = input.position();
    let version = Version { major: input.byte(PLACE)?, minor: input.byte(PLACE)?, revision: input.byte(PLACE)? };
    if version < Version::OLDEST {
        let text = format!("archive version {version} is older than 1.4, the oldest one read here");
        return Err(Error::new(ErrorKind::Unsupported(text), offset));
    }
    if version > Version::NEWEST && !options.accept_newer_versions {
        return Err(Error::new(ErrorKind::NewerVersion(version), offset));
    }
    Ok(version)
}

fn read_size<R: Read>(input: &mut Input<R>, of: &str) -> Result<u8> {
    let offset = input.position();
    let size = input.byte(PLACE)?;
    if size == 0 || size > MAX_INT_SIZE {
        return Err(Error::corrupt(format!("its header says that {of} takes {size} bytes"), offset));
    }
    Ok(size)
}

fn expect_format<R: Read>(input: &mut Input<R>, format: Format) -> Result<()> {
    let offset = input.position();
    let found = input.byte(PLACE)?;
    match (format, found) {
        // A directory's table of contents says that it is a tar's.
        (Format::Custom, 1) | (Format::Tar | Format::Directory, 3) => Ok(()),
        (Format::Custom, 3) => {
            let text = "this is the `toc.dat` of a dump in the directory format: give the folder that it is in";
            Err(Error::new(ErrorKind::Unsupported(text.into()), offset))
        }
        (_, other) => {
            Err(Error::corrupt(format!("the header of this archive in {format} format names format {other}"), offset))
        }
    }
}

fn read_compression<R: Read>(
    input: &mut Input<R>,
    version: Version,
    int_size: u8,
) -> Result<(Compression, Option<i64>)> {
    if version < Version::COMPRESSION_ALGORITHM {
        // A level. Any but 0 means gzip; -1 is its default level.
        let level = input.int(int_size, PLACE)?;
        return Ok((if level == 0 { Compression::None } else { Compression::Gzip }, Some(level)));
    }
    let offset = input.position();
    match input.byte(PLACE)? {
        0 => Ok((Compression::None, None)),
        1 => Ok((Compression::Gzip, None)),
        2 => Ok((Compression::Lz4, None)),
        3 => Ok((Compression::Zstd, None)),
        other => {
            let text = format!("the archive is compressed with algorithm {other}, which is not known here");
            Err(Error::new(ErrorKind::Unsupported(text), offset))
        }
    }
}

fn read_time<R: Read>(input: &mut Input<R>, int_size: u8) -> Result<LocalTime> {
    let mut int = || input.int(int_size, PLACE);
    let (second, minute, hour, day) = (int()?, int()?, int()?, int()?);
    // Counted from 0 and from 1900, as C does. The sums cannot overflow: no Int reaches 2^56.
    let (month, year) = (int()? + 1, int()? + 1900);
    let daylight_saving = match int()? {
        0 => Some(false),
        n if n > 0 => Some(true),
        _ => None,
    };
    Ok(LocalTime { year, month, day, hour, minute, second, daylight_saving })
}
