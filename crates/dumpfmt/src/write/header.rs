//! The header as bytes, and which archives can be written.

use super::primitives::{INT_SIZE, OFFSET_SIZE, TextTooLong, put_int, put_text};
use super::specification::CompressionSpecification;
use crate::error::{Error, Result};
use crate::header::{Compression, Header, LocalTime, MAGIC};
use crate::toc::Toc;
use crate::version::Version;

/// The format as the header names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Custom = 1,
    /// The table of contents of a directory says that it is one of a tar.
    Directory = 3,
}

/// How many threads compress unless more are asked for.
const MOST_THREADS: usize = 8;

/// What a new archive is like.
///
/// ```
/// use dumpfmt::{CompressionSpecification, Version, WriteOptions};
///
/// // For pg_restore 15 and later.
/// let options = WriteOptions::new(CompressionSpecification::GZIP).version(Version::TABLE_ACCESS_METHOD);
/// assert_eq!(options, WriteOptions::default().version(Version::TABLE_ACCESS_METHOD));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteOptions {
    pub(crate) version: Version,
    pub(crate) compression: CompressionSpecification,
    pub(crate) threads: usize,
}

impl Default for WriteOptions {
    /// Version 1.16, gzip, threads as for [`new`](Self::new).
    fn default() -> Self {
        Self::new(CompressionSpecification::GZIP)
    }
}

impl WriteOptions {
    /// Version 1.16, which pg_restore 17 and later read, this compression, and a thread for each processor, but not more than
    /// eight: one thread reads and decompresses, and could not keep more of them busy.
    pub fn new(compression: CompressionSpecification) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        Self { version: Version::RELKIND, compression, threads }
    }

    /// As an archive with this header: its compression, at the default level, and its version where that can be
    /// written, otherwise the oldest or newest one.
    pub fn like(header: &Header) -> Self {
        // An archive that was read can be written with the same compression, since both need the same library.
        let compression = CompressionSpecification::new(header.compression).unwrap_or(CompressionSpecification::GZIP);
        let version = header.version.clamp(Version::TABLE_ACCESS_METHOD, Version::RELKIND);
        let modern = matches!(header.compression, Compression::Lz4 | Compression::Zstd);
        let version = if modern { version.max(Version::COMPRESSION_ALGORITHM) } else { version };
        Self::new(compression).version(version)
    }

    /// The version of the format: 1.14, which pg_restore 12 and later read, 1.15 (16 and later), or 1.16
    /// (17 and later).
    #[must_use]
    pub fn version(mut self, version: Version) -> Self {
        self.version = Version { revision: 0, ..version };
        self
    }

    /// The version that the new archive will have.
    pub fn archive_version(&self) -> Version {
        self.version
    }

    /// Another compression. It raises a version that cannot have it to 1.15, the first one that can.
    #[must_use]
    pub fn compression(mut self, compression: CompressionSpecification) -> Self {
        if matches!(compression.algorithm(), Compression::Lz4 | Compression::Zstd) {
            self.version = self.version.max(Version::COMPRESSION_ALGORITHM);
        }
        self.compression = compression;
        self
    }

    /// How many threads compress, beside the one that writes; with 0 or 1 that one does it. The archive
    /// is the same with any number.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Refuses what no archive of this version can hold.
    pub(crate) fn check(&self, toc: &Toc) -> Result<()> {
        let Self { version, compression, .. } = self;
        if *version < Version::TABLE_ACCESS_METHOD || *version > Version::RELKIND {
            let text = format!("archives of version {version} are not written; there are 1.14, 1.15 and 1.16");
            return Err(Error::usage(text));
        }
        let modern = matches!(compression.algorithm(), Compression::Lz4 | Compression::Zstd);
        if modern && *version < Version::COMPRESSION_ALGORITHM {
            let text =
                format!("an archive of version {version} cannot be compressed with {compression}, only with gzip");
            return Err(Error::usage(text));
        }
        if *version < Version::RELKIND
            && let Some(entry) = toc.of_type("BLOB METADATA").next()
        {
            let text = format!(
                "an archive of version {version} cannot hold an entry of this type; `Transcoding` says what it has instead"
            );
            return Err(Error::usage(text).in_entry(entry));
        }
        Ok(())
    }
}

impl Header {
    /// Appends the header of a new archive; version and compression are those of `options`.
    pub(crate) fn put(&self, options: &WriteOptions, format: Format, out: &mut Vec<u8>) -> Result<()> {
        let Version { major, minor, revision } = options.version;
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[major, minor, revision, INT_SIZE, OFFSET_SIZE, format as u8]);
        let compression = &options.compression;
        if options.version >= Version::COMPRESSION_ALGORITHM {
            out.push(match compression.algorithm() {
                Compression::None => 0,
                Compression::Gzip => 1,
                Compression::Lz4 => 2,
                Compression::Zstd => 3,
            });
        } else {
            put_int(
                if compression.algorithm() == Compression::None { 0 } else { compression.level().unwrap_or(-1) },
                out,
            );
        }
        self.created.put(out)?;
        for text in [&self.database, &self.server_version, &self.dump_version] {
            put_text(text.as_deref(), out).map_err(|TextTooLong| Error::usage("a text of the header exceeds 2 GiB"))?;
        }
        Ok(())
    }
}

impl LocalTime {
    fn put(&self, out: &mut Vec<u8>) -> Result<()> {
        let daylight_saving = self.daylight_saving.map_or(-1, i64::from);
        // Counted from 0 and from 1900, as C does.
        for part in [
            self.second,
            self.minute,
            self.hour,
            self.day,
            self.month.saturating_sub(1),
            self.year.saturating_sub(1900),
            daylight_saving,
        ] {
            // One that is damaged in the source may be no C int; a copy has the same four bytes.
            let magnitude = u32::try_from(part.unsigned_abs())
                .map_err(|_| Error::usage(format!("{self} is not a time that an archive can say")))?;
            out.push(u8::from(part < 0));
            out.extend_from_slice(&magnitude.to_le_bytes());
        }
        Ok(())
    }
}
