//! The statements of an archive that carry facts which a caller needs as values.

use crate::sql::{Token, Tokens};
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

/// The columns of a table with their types, from a `TABLE` entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDefinition {
    /// The columns that the statement lists: those that the table inherits are not among them.
    pub columns: Vec<(Vec<u8>, ColumnType)>,
}

/// A type as the server writes it (`format_type`), without the schema of the type and
/// with the spaces that are between words alone, so that two can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnType(Vec<u8>);

impl TableDefinition {
    /// Reads `CREATE TABLE ... (...)` of an entry; `None` when the entry is another
    /// one, or a table that is made without a list of columns.
    pub fn of(entry: &TocEntry) -> Option<Self> {
        let mut tokens = Tokens::new(entry.definition()?);
        // pg_dump writes a comment for binary upgrades before it, which `Tokens` passes over.
        tokens.keyword("CREATE")?;
        let _unlogged = tokens.keyword("UNLOGGED");
        tokens.keyword("TABLE")?;
        tokens.qualified_name()?;
        tokens.symbol(b'(')?;
        let mut columns = Vec::new();
        loop {
            if tokens.symbol(b')').is_some() {
                return Some(Self { columns });
            }
            // Constraints of the table stand in the same list.
            if tokens.clone().keyword("CONSTRAINT").is_none() {
                let name = tokens.name()?;
                columns.push((name, ColumnType::take(&mut tokens)));
            }
            if !skip_list_item(&mut tokens)? {
                return Some(Self { columns });
            }
        }
    }
}

impl ColumnType {
    /// Reads a type from what `format_type` returned.
    pub fn new(text: &[u8]) -> Self {
        Self::take(&mut Tokens::new(text))
    }

    /// Takes the tokens of a type, up to the clause that follows it.
    fn take(tokens: &mut Tokens<'_>) -> Self {
        /// What can follow the type of a column.
        const CLAUSES: [&str; 7] = ["COLLATE", "DEFAULT", "NOT", "NULL", "GENERATED", "CONSTRAINT", "OPTIONS"];
        let (mut out, mut depth, mut last_name) = (Vec::new(), 0, 0);
        loop {
            let mut ahead = tokens.clone();
            let Some(token) = ahead.next() else { return Self(out) };
            match token {
                Token::Word(word) if CLAUSES.iter().any(|clause| word.eq_ignore_ascii_case(clause.as_bytes())) => {
                    return Self(out);
                }
                Token::Symbol(b',' | b')') if depth == 0 => return Self(out),
                Token::Symbol(b'.') => out.truncate(last_name),
                Token::Symbol(symbol) => {
                    depth += i32::from(symbol == b'(') - i32::from(symbol == b')');
                    out.push(symbol);
                }
                Token::Word(word) => {
                    if out.last().is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b')') {
                        out.push(b' ');
                    }
                    last_name = out.len();
                    out.extend_from_slice(word);
                }
                Token::Quoted(name) | Token::Literal(name) => {
                    last_name = out.len();
                    out.push(b'"');
                    out.extend_from_slice(&name);
                    out.push(b'"');
                }
            }
            *tokens = ahead;
        }
    }
}

impl std::fmt::Display for ColumnType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// Passes over the rest of an item and the comma after it; false when the list ends here.
fn skip_list_item(tokens: &mut Tokens<'_>) -> Option<bool> {
    let mut depth = 0;
    loop {
        match tokens.next()? {
            Token::Symbol(b'(') => depth += 1,
            Token::Symbol(b')') if depth == 0 => return Some(false),
            Token::Symbol(b')') => depth -= 1,
            Token::Symbol(b',') if depth == 0 => return Some(true),
            _ => {}
        }
    }
}

/// A partition, from a `TABLE ATTACH` entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// The schema of the partitioned table.
    pub parent_schema: Option<Vec<u8>>,
    /// The partitioned table.
    pub parent: Vec<u8>,
    /// The schema of the partition.
    pub schema: Option<Vec<u8>>,
    /// The partition.
    pub table: Vec<u8>,
}

impl Partition {
    /// Reads `ALTER TABLE ... ATTACH PARTITION ...` of an entry; `None` when the
    /// entry is another one.
    pub fn of(entry: &TocEntry) -> Option<Self> {
        let mut tokens = Tokens::new(entry.definition()?);
        tokens.keywords("ALTER TABLE")?;
        let _only = tokens.keyword("ONLY");
        let (parent_schema, parent) = tokens.qualified_name()?;
        tokens.keywords("ATTACH PARTITION")?;
        let (schema, table) = tokens.qualified_name()?;
        Some(Self { parent_schema, parent, schema, table })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn column_type(text: &str) -> String {
        ColumnType::new(text.as_bytes()).to_string()
    }

    #[test]
    fn a_type_is_read_up_to_the_clause_that_follows() {
        assert_eq!(column_type("character varying(36) DEFAULT 'a,b'::text NOT NULL"), "character varying(36)");
        assert_eq!(column_type("timestamp(3) with time zone NOT NULL"), "timestamp(3) with time zone");
        assert_eq!(column_type("numeric(5, 2)[]"), "numeric(5,2)[]");
        assert_eq!(column_type("public.short_name COLLATE pg_catalog.\"C\""), "short_name");
        assert_eq!(column_type("\"Mixed Case\".\"T\"[]"), "\"T\"[]");
        assert_eq!(column_type("double precision"), "double precision");
    }
}
