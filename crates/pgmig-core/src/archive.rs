//! The archive that is restored: opened, and its contents as a restore needs them.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dumpfmt::{
    ArchiveReader, ColumnType, CopyStatement, Domain, ErrorKind, Header, ReadOptions, SequenceValue, TableDefinition,
    Toc, TocEntry,
};
use serde::Serialize;

use crate::encoding;
use crate::names::TableName;

/// An archive in a file that can be read again and again, and what is in it.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    bytes: u64,
    reader: ArchiveReader<File>,
    contents: Arc<Contents>,
}

/// The parts of an archive that a restore works with.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Contents {
    /// PostgreSQL's name of the encoding of all text; `None` in an archive that does not say.
    pub encoding: Option<String>,
    /// The tables that the archive defines; none in a dump of the data alone.
    pub defined_tables: Vec<TableName>,
    /// The columns that those definitions list, in their order, each with its type.
    pub column_types: HashMap<TableName, Vec<(String, ColumnType)>>,
    /// The domains, by name without a schema, as [`ColumnType`] has it, and the types that they are over.
    pub domains: HashMap<Vec<u8>, ColumnType>,
    /// The tables that have rows in the archive, in its order.
    pub tables: Vec<ArchiveTable>,
    /// The foreign keys of the source.
    pub foreign_keys: Vec<ArchiveForeignKey>,
    /// Partitions, each with the table that it is a partition of.
    pub partitions: BTreeMap<TableName, TableName>,
    /// The values of the source's sequences.
    pub sequences: Vec<SequenceState>,
    /// The entries that have large objects.
    pub large_object_entries: Vec<i32>,
}

/// The rows of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArchiveTable {
    /// Its entry in the table of contents.
    pub dump_id: i32,
    /// The table that the rows were read from.
    pub table: TableName,
    /// The table that they are meant for: another one when the dump was made
    /// with `--load-via-partition-root`.
    pub copy_into: TableName,
    /// The columns, in the order of the fields.
    pub columns: Vec<String>,
}

/// A foreign key of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArchiveForeignKey {
    /// The referencing table.
    pub table: TableName,
    /// The referencing columns.
    pub columns: Vec<String>,
    /// The referenced table.
    pub referenced_table: TableName,
    /// The referenced columns.
    pub referenced_columns: Vec<String>,
}

/// The state of a sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SequenceState {
    /// The sequence.
    pub sequence: TableName,
    /// Its last value, or its first one when `is_called` is false.
    pub value: i64,
    /// Whether `value` has been given out.
    pub is_called: bool,
}

/// Why an archive cannot be restored from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The file cannot be opened.
    #[error("cannot open the archive `{}`: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The path is a folder, but no dump in the directory format.
    #[error("cannot open the archive `{}`: it is a folder without the file `toc.dat` of a dump", .0.display())]
    Folder(PathBuf),
    /// Input that can be read only once could not be kept in a temporary file.
    #[error("cannot keep the archive from {from} in a temporary file in `{}`: {source}", folder.display())]
    Spool {
        /// Where it comes from.
        from: String,
        /// Where the temporary file is.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The archive is damaged, cut short, or none at all.
    #[error("cannot read the archive `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        source: dumpfmt::Error,
    },
    /// A new archive could not be written.
    #[error("cannot write the new archive: {0}")]
    Write(#[source] dumpfmt::Error),
    /// An entry whose data is not rows of COPY text.
    #[error("cannot restore {entry} of `{}`: {why}", path.display())]
    NotRestorable {
        /// The file.
        path: PathBuf,
        /// The entry.
        entry: String,
        /// Why.
        why: &'static str,
    },
}

impl ArchiveError {
    /// An error of making one archive of another; `source` is the name of the one that is read.
    pub fn of_copy(source: &Path, error: dumpfmt::Error) -> Self {
        match error.kind() {
            // The name of the source would mislead.
            ErrorKind::Write(_) | ErrorKind::Usage(_) => Self::Write(error),
            _ => Self::Read { path: source.to_owned(), source: error },
        }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Open { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("check the path; a relative one starts at the current directory".into())
            }
            Self::Folder(_) => Some("give the file that `pg_dump -Fc` wrote, or the folder of `pg_dump -Fd`".into()),
            Self::Spool { .. } => Some(
                "set TMPDIR to a folder with room for the whole archive, or save the archive to a file first".into(),
            ),
            Self::Read { source, .. } => Some(next_step(source).into()),
            Self::NotRestorable { .. } => Some("dump again with plain `pg_dump -Fc`".into()),
            Self::Write(e) => e.hint().map(Into::into),
            Self::Open { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("make the file readable for the user that runs this".into())
            }
            Self::Open { .. } => Some("check the path and what it is on".into()),
        }
    }
}

/// What to do about an archive that the reader does not take.
fn next_step(error: &dumpfmt::Error) -> &'static str {
    match error.kind() {
        ErrorKind::Unsupported(_) => {
            "see what the message says of it; or take the dump again in the custom format, with `pg_dump -Fc`"
        }
        ErrorKind::NewerVersion(_) => {
            "use a newer release of pgmig; or, at your own risk, see with `pgmig verify --accept-newer-versions` whether \
             this one can read it, and make an archive of version 1.16 of it with `pgmig convert --accept-newer-versions`"
        }
        ErrorKind::NotAnArchive(_) => {
            "a dump in the custom, directory or tar format is needed: `pg_dump -Fc`; `pgmig repair` takes one out of a file with \
             other text around it, such as a log"
        }
        ErrorKind::LimitExceeded { .. } => {
            "no PostgreSQL server takes as much either, so the archive is most likely damaged: take the dump again, or \
             fetch the file again"
        }
        ErrorKind::Io(_) => {
            "check the disk or the network that the archive comes from, then run the same command again"
        }
        _ => error.hint().unwrap_or("take the dump again"),
    }
}

impl Archive {
    /// Opens the archive at `path`: a file in the custom or tar format, or a folder in the directory format. A pipe, or
    /// anything else that can be read only once, is copied to an unnamed temporary file first.
    ///
    /// `progress` is called with the bytes copied so far.
    ///
    /// # Errors
    ///
    /// When it cannot be opened, or its header or table of contents cannot be read.
    pub fn open(path: &Path, progress: impl FnMut(u64)) -> Result<Self, ArchiveError> {
        Self::open_with(path, ReadOptions::default(), progress)
    }

    /// As [`open`](Self::open), with options for reading.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn open_with(path: &Path, options: ReadOptions, progress: impl FnMut(u64)) -> Result<Self, ArchiveError> {
        let open_error = |source| ArchiveError::Open { path: path.to_owned(), source };
        let kind = std::fs::metadata(path).map_err(open_error)?.file_type();
        if kind.is_file() || kind.is_dir() {
            let (reader, bytes) = Self::open_reader(path, options)?;
            Self::new(reader, bytes, path)
        } else {
            Self::spool_with(File::open(path).map_err(open_error)?, path, options, progress)
        }
    }

    /// Opens the file or folder at `path` without a look at what its tables are. Also tells its size in bytes.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn open_reader(path: &Path, options: ReadOptions) -> Result<(ArchiveReader<File>, u64), ArchiveError> {
        let open_error = |source| ArchiveError::Open { path: path.to_owned(), source };
        let metadata = std::fs::metadata(path).map_err(open_error)?;
        let bytes = if metadata.is_dir() { folder_bytes(path).map_err(open_error)? } else { metadata.len() };
        let reader = match ArchiveReader::open_with(path, options) {
            Ok(reader) => reader,
            Err(e) if metadata.is_dir() && matches!(e.kind(), ErrorKind::MissingFile(_)) => {
                return Err(ArchiveError::Folder(path.to_owned()));
            }
            Err(source) => return Err(ArchiveError::Read { path: path.to_owned(), source }),
        };
        Ok((reader, bytes))
    }

    /// Reads the archive from `input`, such as standard input, through an unnamed
    /// temporary file: the search for strays and the restore each need a pass.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn spool(input: impl Read, name: &Path, progress: impl FnMut(u64)) -> Result<Self, ArchiveError> {
        Self::spool_with(input, name, ReadOptions::default(), progress)
    }

    /// As [`spool`](Self::spool), with options for reading.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn spool_with(
        mut input: impl Read,
        name: &Path,
        options: ReadOptions,
        mut progress: impl FnMut(u64),
    ) -> Result<Self, ArchiveError> {
        let folder = std::env::temp_dir();
        let failed = |source| ArchiveError::Spool { from: name.display().to_string(), folder: folder.clone(), source };
        // Without a name it cannot outlive us, and nobody else can open it.
        let mut file = tempfile::tempfile_in(&folder).map_err(failed)?;
        let mut buffer = vec![0; 256 << 10];
        let mut copied = 0;
        loop {
            let read = match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(ArchiveError::Open { path: name.to_owned(), source }),
            };
            io::Write::write_all(&mut file, &buffer[..read]).map_err(failed)?;
            copied += read as u64;
            progress(copied);
        }
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let reader = ArchiveReader::with_options(file, options)
            .map_err(|source| ArchiveError::Read { path: name.to_owned(), source })?;
        Self::new(reader, copied, name)
    }

    fn new(reader: ArchiveReader<File>, bytes: u64, path: &Path) -> Result<Self, ArchiveError> {
        let path = path.to_owned();
        let contents = Contents::of(reader.toc()).map_err(|(entry, why)| ArchiveError::NotRestorable {
            path: path.clone(),
            entry,
            why,
        })?;
        Ok(Self { path, bytes, reader, contents: Arc::new(contents) })
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The size of the file, or of all files in the folder, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What the archive says of itself.
    pub fn header(&self) -> &Header {
        self.reader.header()
    }

    /// What is in it.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// The same, for use while the reader reads.
    pub(crate) fn shared_contents(&self) -> Arc<Contents> {
        Arc::clone(&self.contents)
    }

    /// The reader, for access to everything else.
    pub fn reader(&mut self) -> &mut ArchiveReader<File> {
        &mut self.reader
    }

    /// A damage found by the reader, with the name of the file.
    pub(crate) fn read_error(&self, source: dumpfmt::Error) -> ArchiveError {
        ArchiveError::Read { path: self.path.clone(), source }
    }
}

fn folder_bytes(folder: &Path) -> io::Result<u64> {
    std::fs::read_dir(folder)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
}

impl Contents {
    /// A text of the archive.
    pub(crate) fn text(&self, bytes: &[u8]) -> String {
        encoding::decode(self.encoding.as_deref(), bytes)
    }

    /// The table that an entry is about.
    pub(crate) fn table_of(&self, entry: &TocEntry) -> TableName {
        TableName::new(self.text(entry.namespace().unwrap_or_default()), self.text(entry.tag()))
    }

    /// The type of a column, by the definition of its table.
    pub(crate) fn column_type(&self, table: &TableName, column: &str) -> Option<&ColumnType> {
        let columns = self.column_types.get(table)?;
        columns.iter().find(|(name, _)| name == column).map(|(_, kind)| kind)
    }

    /// The tables that a partition is a partition of, the nearest first.
    pub(crate) fn ancestors_of<'a>(&'a self, table: &'a TableName) -> Vec<&'a TableName> {
        let parent = |table: &TableName| self.partitions.get(table);
        // A damaged archive may have a circle; no real partition is that deep.
        std::iter::successors(parent(table), |&above| parent(above)).take(64).collect()
    }

    /// What is in the archive with this table of contents; as an error, the entry that cannot be restored, and why.
    pub(crate) fn of(toc: &Toc) -> Result<Self, (String, &'static str)> {
        let encoding = toc.encoding();
        let text = |bytes: &[u8]| encoding::decode(encoding.as_deref(), bytes);
        let table = |schema: Option<&[u8]>, table: &[u8]| TableName::new(text(schema.unwrap_or_default()), text(table));
        let mut contents = Self {
            defined_tables: Vec::new(),
            column_types: HashMap::new(),
            domains: HashMap::new(),
            tables: Vec::new(),
            foreign_keys: Vec::new(),
            partitions: BTreeMap::new(),
            sequences: Vec::new(),
            large_object_entries: toc.of_type("BLOBS").filter(|e| e.has_data()).map(TocEntry::dump_id).collect(),
            encoding: encoding.clone(),
        };
        for entry in toc.entries() {
            match entry.description() {
                b"TABLE DATA" if entry.has_data() => {
                    let copy = CopyStatement::of(entry)
                        .ok_or_else(|| (entry.to_string(), "its rows are INSERT statements, not COPY text"))?;
                    let schema = copy.schema.as_deref().or(entry.namespace());
                    contents.tables.push(ArchiveTable {
                        dump_id: entry.dump_id(),
                        table: table(entry.namespace(), entry.tag()),
                        copy_into: table(schema, &copy.table),
                        columns: copy.columns.iter().map(|column| text(column)).collect(),
                    });
                }
                b"TABLE" => {
                    let name = table(entry.namespace(), entry.tag());
                    let columns = TableDefinition::of(entry).into_iter().flat_map(|definition| definition.columns);
                    let columns: Vec<_> = columns.map(|(column, kind)| (text(&column), kind)).collect();
                    if !columns.is_empty() {
                        contents.column_types.insert(name.clone(), columns);
                    }
                    contents.defined_tables.push(name);
                }
                b"DOMAIN" => {
                    contents.domains.extend(Domain::of(entry).map(|domain| (domain.name, domain.base)));
                }
                b"SEQUENCE SET" => {
                    let value = SequenceValue::of(entry)
                        .ok_or_else(|| (entry.to_string(), "its definition is not the `setval` that pg_dump writes"))?;
                    let schema = value.schema.as_deref().or(entry.namespace());
                    contents.sequences.push(SequenceState {
                        sequence: table(schema, &value.sequence),
                        value: value.value,
                        is_called: value.is_called,
                    });
                }
                b"FK CONSTRAINT" => {
                    let Some(key) = dumpfmt::ForeignKey::of(entry) else { continue };
                    let names = |columns: &[Vec<u8>]| columns.iter().map(|column| text(column)).collect();
                    let schema = |given: &Option<Vec<u8>>| given.clone().or(entry.namespace().map(<[u8]>::to_vec));
                    contents.foreign_keys.push(ArchiveForeignKey {
                        table: table(schema(&key.schema).as_deref(), &key.table),
                        columns: names(&key.columns),
                        referenced_table: table(schema(&key.referenced_schema).as_deref(), &key.referenced_table),
                        referenced_columns: names(&key.referenced_columns),
                    });
                }
                _ => {}
            }
            if matches!(entry.description(), b"TABLE" | b"TABLE ATTACH")
                && let Some(attached) = dumpfmt::Partition::of(entry)
            {
                let parent = table(attached.parent_schema.as_deref().or(entry.namespace()), &attached.parent);
                let partition = table(attached.schema.as_deref().or(entry.namespace()), &attached.table);
                contents.partitions.entry(partition).or_insert(parent);
            }
        }
        Ok(contents)
    }
}
