//! Reads, verifies, writes and rewrites pg_dump archives, streaming and in bounded memory.
//!
//! | to | there is |
//! | --- | --- |
//! | read an archive: its table of contents, rows, large objects | [`ArchiveReader`] |
//! | list it as `pg_restore -l` does, and choose with its `-L` | [`ArchiveReader::listing`], [`ListFile`] |
//! | read a plain dump, the SQL that pg_dump writes | [`plain::ScriptReader`] |
//! | have it as SQL, equal to `pg_restore -f -` | [`ArchiveReader::write_sql`] |
//! | know that it is whole, from a file or on its way through a pipe | [`ArchiveReader::verify`], [`VerifyingReader`] |
//! | make one of another: changed rows, other compression, other format | [`Rewrite`] |
//! | make one for an older pg_restore | [`Transcoding`] |
//! | keep what is whole in one that is cut, damaged or within a log | [`repair::RepairPlan`], [`repair::MemberPlan`] |
//! | let `pg_restore -j` use one that was written to a pipe | [`repair::index_in_place`] |
//! | write one | [`ArchiveWriter`] |
//!
//! Archives of versions 1.4 to 1.16 (up to pg_dump 19) are read, in the custom, tar and directory
//! formats (`pg_dump -Fc`, `-Ft`, `-Fd`), uncompressed or compressed with gzip, lz4 or zstd, from a file, a folder
//! or a pipe. An archive that was *written* to a pipe, as by `kubectl exec ... pg_dump -Fc > file`, is no different;
//! nor is one of `pg_dump -Fc > file`, which from pg_dump 16 on has its table of contents a second time, behind
//! the data. Archives of versions 1.14 to 1.16 are written, in the custom and directory formats.
//!
//! Every error tells the byte of the archive, or of which file in its folder, and the entry.
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
//! # Changing one column
//!
//! What is not changed is copied as it is stored, without decompressing it.
//!
//! ```
//! # let file = dumpfmt::example::archive();
//! # let out = Vec::new();
//! use dumpfmt::{ArchiveReader, CopyStatement, Rewrite, WriteOptions};
//!
//! let mut source = ArchiveReader::new(file)?;
//! let mut rewrite = Rewrite::new(WriteOptions::like(source.header()));
//! for entry in source.toc().of_type("TABLE DATA").filter(|entry| entry.tag() == b"tenant") {
//!     let columns = CopyStatement::of(entry).map_or(vec![], |copy| copy.columns);
//!     let Some(name) = columns.iter().position(|column| column == b"name") else { continue };
//!     rewrite.rows(entry.dump_id(), move |row, out| {
//!         out.replace_field(row, name, Some(b"a new name"));
//!         Ok(())
//!     });
//! }
//! let (archive, report) = rewrite.to_pipe(&mut source, out, |_position| {})?;
//! assert_eq!(report.entries[0].rows_written, Some(1));
//! # assert_eq!(ArchiveReader::new(&archive[..])?.verify(|_| {})?.len(), 1);
//! # Ok::<(), dumpfmt::Error>(())
//! ```
//!
//! # Verifying what a pipe brings, while it is stored
//!
//! ```
//! # let pipe = dumpfmt::example::archive();
//! # let mut backup = Vec::new();
//! use dumpfmt::{VerifyOptions, VerifyingReader};
//!
//! let mut pipe = VerifyingReader::new(pipe, VerifyOptions::default());
//! std::io::copy(&mut pipe, &mut backup)?;
//! for entry in pipe.finish()? {
//!     println!("dump ID {}: {:?} rows, SHA-256 {:?}", entry.dump_id, entry.rows, entry.sha256);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is whole in an archive that was cut
//!
//! ```
//! # use std::io::Cursor;
//! # let mut archive = dumpfmt::example::archive().into_inner();
//! # archive.truncate(archive.len() - 4);
//! # let (mut file, rest) = (Cursor::new(archive), Cursor::new(Vec::new()));
//! use dumpfmt::WriteOptions;
//! use dumpfmt::repair::{RepairOptions, RepairPlan};
//!
//! let plan = RepairPlan::of(&mut file, &RepairOptions::default(), |_position| {})?;
//! for lost in plan.lost() {
//!     eprintln!("lost: {lost}");
//! }
//! assert!(!plan.is_whole());
//! plan.to_file(&mut file, rest, &WriteOptions::like(plan.header()), |_position| {})?;
//! # Ok::<(), dumpfmt::Error>(())
//! ```
//!
//! # As SQL
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
//! # Memory
//!
//! Three things decide how much is needed, besides some hundred KiB of buffers:
//!
//! - the table of contents, which is kept as a whole;
//! - the longest row: up to twice its length for those who read [`Rows`], up to six times for those who rewrite.
//!   [`verify`](ArchiveReader::verify) and [`EntryData`] as a [`Read`](std::io::Read)
//!   do without;
//! - the window of the compression: 32 KiB for gzip, some MiB for lz4, and
//!   for zstd what the dump was made with: 8 MiB or less, and up to 128 MiB by
//!   `pg_dump -Z zstd:long` or the levels above 19.
//!
//! Each has a limit that a damaged or hostile archive cannot exceed ([`Limits`]);
//! how large the archive is, or becomes when decompressed, makes no difference. Each thread that writes or verifies
//! has one or two MiB more in hand.
//!
//! # Features
//!
//! - `zstd` (default): Zstandard, by the C library. Without it, data that needs it is a clear error.
//! - `lz4-hc` (default): writing lz4 at the levels 3 to 12, by the C library. Without it, asking for one is a clear
//!   error; lz4 of any level is read, and written at the levels 0 to 2, without it.
//! - `serde`: reports can be serialised.
//!
//! The format is described in `src/bin/pg_dump/pg_backup_archiver.c`, `pg_backup_custom.c`, `pg_backup_directory.c` and
//! `pg_backup_tar.c` of PostgreSQL.

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
mod named_objects;
pub mod plain;
mod reader;
pub mod repair;
mod rewrite;
mod rows;
mod source;
mod sql;
mod sql_text;
mod statement;
mod tar;
mod tee;
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
pub use verify::{
    Sha256Digest, VerifiedArchive, VerifiedEntry, Verifier, VerifyOptions, VerifyingReader, VerifyingWriter,
};
pub use version::Version;
pub use write::{
    ArchiveWriter, CompressionSpecification, CustomFormat, DataWriter, DirectoryFormat, LargeObjectWriter,
    LargeObjectsWriter, Sink, SpecificationError, WriteOptions,
};
