//! The statements of an archive that carry facts which a caller needs as values.

use crate::sql::Tokens;
use crate::toc::{Toc, TocEntry};

/// The table and the columns that a block of COPY text is for, as the COPY
/// statement of a `TABLE DATA` entry names them.
///
/// It can differ from the entry's own name: with `--load-via-partition-root` the
/// rows of a partition are for its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyStatement {
    /// The schema; `None` only in archives older than PostgreSQL 10's fixes of 2018.
    pub schema: Option<Vec<u8>>,
    /// The table.
    pub table: Vec<u8>,
    /// The columns in the order of the fields. A table without columns has none.
    pub columns: Vec<Vec<u8>>,
}

impl CopyStatement {
    /// Reads the statement of an entry; `None` when it has none (the data is
    /// INSERT statements, or the entry is no table) or it is not one that
    /// pg_dump writes.
    pub fn of(entry: &TocEntry) -> Option<Self> {
        let mut tokens = Tokens::new(entry.copy_statement()?);
        tokens.keyword("COPY")?;
        let (schema, table) = tokens.qualified_name()?;
        let columns = tokens.name_list().unwrap_or_default();
        tokens.keywords("FROM stdin")?;
        Some(Self { schema, table, columns })
    }
}

/// The state of a sequence, from a `SEQUENCE SET` entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceValue {
    /// The schema of the sequence.
    pub schema: Option<Vec<u8>>,
    /// The sequence.
    pub sequence: Vec<u8>,
    /// Its last value, or its first one when `is_called` is false.
    pub value: i64,
    /// Whether `value` has been given out.
    pub is_called: bool,
}

impl SequenceValue {
    /// Reads `SELECT pg_catalog.setval('schema.name', value, is_called);` of an
    /// entry; `None` when the entry is another one.
    pub fn of(entry: &TocEntry) -> Option<Self> {
        let mut tokens = Tokens::new(entry.definition()?);
        tokens.keywords("SELECT pg_catalog")?;
        tokens.symbol(b'.')?;
        tokens.keyword("setval")?;
        tokens.symbol(b'(')?;
        let name = tokens.literal()?;
        let (schema, sequence) = Tokens::new(&name).qualified_name()?;
        tokens.symbol(b',')?;
        let value = tokens.integer()?;
        tokens.symbol(b',')?;
        let is_called = match tokens.keyword("true") {
            Some(()) => true,
            None => tokens.keyword("false").map(|()| false)?,
        };
        Some(Self { schema, sequence, value, is_called })
    }
}

/// A foreign key, from an `FK CONSTRAINT` entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    /// The schema of the referencing table.
    pub schema: Option<Vec<u8>>,
    /// The referencing table.
    pub table: Vec<u8>,
    /// The constraint's name.
    pub name: Vec<u8>,
    /// The referencing columns.
    pub columns: Vec<Vec<u8>>,
    /// The schema of the referenced table.
    pub referenced_schema: Option<Vec<u8>>,
    /// The referenced table.
    pub referenced_table: Vec<u8>,
    /// The referenced columns, in the order of `columns`.
    pub referenced_columns: Vec<Vec<u8>>,
}

impl ForeignKey {
    /// Reads `ALTER TABLE ... ADD CONSTRAINT ... FOREIGN KEY ... REFERENCES ...`
    /// of an entry; `None` when the entry is another one.
    pub fn of(entry: &TocEntry) -> Option<Self> {
        let mut tokens = Tokens::new(entry.definition()?);
        tokens.keywords("ALTER TABLE")?;
        let _only = tokens.keyword("ONLY");
        let (schema, table) = tokens.qualified_name()?;
        tokens.keywords("ADD CONSTRAINT")?;
        let name = tokens.name()?;
        tokens.keywords("FOREIGN KEY")?;
        let columns = tokens.name_list()?;
        tokens.keyword("REFERENCES")?;
        let (referenced_schema, referenced_table) = tokens.qualified_name()?;
        let referenced_columns = tokens.name_list()?;
        Some(Self { schema, table, name, columns, referenced_schema, referenced_table, referenced_columns })
    }
}

impl Toc {
    /// PostgreSQL's name of the encoding of all text in the archive, such as
    /// `UTF8` or `LATIN1`, from its `ENCODING` entry.
    pub fn encoding(&self) -> Option<String> {
        let definition = self.of_type("ENCODING").next()?.definition()?;
        let mut tokens = Tokens::new(definition);
        tokens.keywords("SET client_encoding")?;
        tokens.symbol(b'=')?;
        String::from_utf8(tokens.literal()?).ok()
    }
}
