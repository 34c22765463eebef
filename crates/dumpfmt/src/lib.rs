//! Reads and verifies pg_dump archives in the custom, tar and directory formats
//! (`pg_dump -Fc`, `-Ft`, `-Fd`), streaming and in bounded memory.
//!
//! Archives of versions 1.4 to 1.16 (up to pg_dump 18) are read, uncompressed
//! or compressed with gzip, lz4 or zstd, from a file or from a pipe, or from a
//! folder ([`ArchiveReader::open`] takes all of them). An archive
//! that was *written* to a pipe, as by `kubectl exec ... pg_dump -Fc > file`, is
//! no different; nor is one of `pg_dump -Fc > file`, which from pg_dump 16 on has
//! its table of contents a second time, behind the data.
//!
//! Every error tells the byte of the archive, or of which file in its folder, and
//! the entry.
//!
//! # Memory
//!
//! Three things decide how much is needed, besides some hundred KiB of buffers:
//!
//! - the table of contents, which is kept as a whole;
//! - the longest row, for those who read [`Rows`]: up to twice its length.
//!   [`verify`](ArchiveReader::verify) and [`EntryData`] as a [`Read`](std::io::Read)
//!   do without;
//! - the window of the compression: 32 KiB for gzip, some MiB for lz4, and
//!   for zstd what the dump was made with: 8 MiB or less, and up to 128 MiB by
//!   `pg_dump -Z zstd:long` or the levels above 19.
//!
//! Each has a limit that a damaged or hostile archive cannot exceed ([`Limits`]);
//! how large the archive is, or becomes when decompressed, makes no difference.
//!
//! # Listing the contents
//!
//! ```
//! # let file = dumpfmt::example::archive();
//! let archive = dumpfmt::ArchiveReader::new(file)?;
//! for entry in archive.toc().entries() {
//!     println!("{entry}");
//! }
//! # assert_eq!(archive.toc().of_type("TABLE DATA").count(), 1);
//! # Ok::<(), dumpfmt::Error>(())
//! ```
//!
//! # The rows of a table
//!
//! ```
//! # let file = dumpfmt::example::archive();
//! use dumpfmt::{ArchiveReader, Block};
//!
//! let mut archive = ArchiveReader::new(file)?;
//! while let Some(block) = archive.next_block()? {
//!     let Block::Data(data) = block else { continue };
//!     if data.entry().tag() != b"tenant" {
//!         continue;
//!     }
//!     let mut rows = data.rows();
//!     while let Some(row) = rows.next_row()? {
//!         let name = row.field(1).and_then(|field| field.decode().map(|name| name.into_owned()));
//!         assert_eq!(name.as_deref(), Some(&b"a\ttab"[..]));
//!     }
//! }
//! # Ok::<(), dumpfmt::Error>(())
//! ```
//!
//! # Verifying
//!
//! ```
//! # let pipe = dumpfmt::example::archive();
//! let mut archive = dumpfmt::ArchiveReader::new(pipe)?;
//! let rows: u64 = archive.verify(|_position| {})?.iter().filter_map(|entry| entry.rows).sum();
//! assert_eq!(rows, 1);
//! # Ok::<(), dumpfmt::Error>(())
//! ```
//!
//! # As `pg_restore` shows it
//!
//! [`ArchiveReader::listing`] is `pg_restore -l`, [`ListFile`] its `-L`, and [`ArchiveReader::write_sql`]
//! writes the archive as SQL with most of its options, equal to `pg_restore -f -` of the same version.
//!
//! ```
//! # let pipe = dumpfmt::example::archive();
//! let mut archive = dumpfmt::ArchiveReader::new(pipe)?;
//! let mut options = dumpfmt::SqlOptions::default();
//! options.no_owner = true;
//! archive.write_sql(std::io::sink(), &options)?;
//! # Ok::<(), dumpfmt::SqlError>(())
//! ```
//!
//! The format is described in `src/bin/pg_dump/pg_backup_archiver.c` and
//! `pg_backup_custom.c` of PostgreSQL.

mod block;
mod body;
mod decode;
mod directory;
mod error;
mod foreign;
mod header;
mod input;
mod limits;
mod listing;
mod reader;
mod rewrite;
mod rows;
mod source;
mod sql;
mod sql_text;
mod statement;
mod tar;
mod toc;
mod transcode;
mod verify;
mod version;
mod write;

#[doc(hidden)]
pub mod example;

pub use block::{Block, EntryData, LargeObject, LargeObjects};
pub use body::StoredBytes;
pub use error::{Error, ErrorKind, Result};
pub use header::{Compression, Format, Header, LocalTime};
pub use limits::{Limits, ReadOptions};
pub use listing::{ListFault, ListFaultKind, ListFile, ListFileError, Listing};
pub use reader::ArchiveReader;
pub use rewrite::{EntryDepth, FieldWriter, Rewrite, RewriteReport, RewrittenEntry, RowError, RowWriter};
pub use rows::{Field, Fields, Row, RowBatch, Rows, escape_field};
pub use sql_text::{PgRestoreVersion, RestrictKey, SqlError, SqlOptions};
pub use statement::{
    ColumnType, CopyStatement, Domain, ForeignKey, Partition, PartitionKey, SequenceValue, TableDefinition,
};
pub use toc::{DataState, Section, Toc, TocEntry, TocEntryBuilder};
pub use transcode::{NewerFeature, TranscodeError, TranscodeNote, Transcoding};
pub use verify::{Sha256Digest, VerifiedEntry, Verifier, VerifyOptions, VerifyingReader, VerifyingWriter};
pub use version::Version;
pub use write::{
    ArchiveWriter, CompressionSpecification, CustomFormat, DataWriter, DirectoryFormat, LargeObjectWriter,
    LargeObjectsWriter, Sink, SpecificationError, WriteOptions,
};
