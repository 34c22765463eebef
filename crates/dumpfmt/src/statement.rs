//! The statements of an archive that carry facts which a caller needs as values.

use memchr::memmem;

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
        Self::parse(entry.copy_statement()?).map(|(copy, _)| copy)
    }

    /// Reads a statement, and returns what follows its `FROM stdin`.
    pub(crate) fn parse(sql: &[u8]) -> Option<(Self, &[u8])> {
        let mut tokens = Tokens::new(sql);
        tokens.keyword("COPY")?;
        let (schema, table) = tokens.qualified_name()?;
        let columns = tokens.name_list().unwrap_or_default();
        tokens.keywords("FROM stdin")?;
        Some((Self { schema, table, columns }, tokens.rest()))
    }

    /// The statement as pg_dump writes it, every name in quotes.
    pub fn to_sql(&self) -> Vec<u8> {
        let mut sql = b"COPY ".to_vec();
        put_qualified_name(self.schema.as_deref(), &self.table, &mut sql);
        sql.push(b' ');
        if !self.columns.is_empty() {
            sql.push(b'(');
            for (index, column) in self.columns.iter().enumerate() {
                if index > 0 {
                    sql.extend_from_slice(b", ");
                }
                put_name(column, &mut sql);
            }
            sql.extend_from_slice(b") ");
        }
        sql.extend_from_slice(b"FROM stdin;\n");
        sql
    }

    /// This statement and the definition for an entry whose rows another table is to take, as
    /// `pg_dump --load-via-partition-root` writes them.
    pub fn via_partition_root(&self, schema: &[u8], root: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let copy = Self { schema: Some(schema.into()), table: root.into(), columns: self.columns.clone() };
        let mut definition = b"-- load via partition root ".to_vec();
        put_qualified_name(Some(schema), root, &mut definition);
        (copy.to_sql(), definition)
    }
}

fn put_qualified_name(schema: Option<&[u8]>, name: &[u8], out: &mut Vec<u8>) {
    if let Some(schema) = schema {
        put_name(schema, out);
        out.push(b'.');
    }
    put_name(name, out);
}

fn put_name(name: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in name {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
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
        let mut tokens = create_table(entry)?;
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
                Token::Symbol(b',' | b')' | b';') if depth == 0 => return Self(out),
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

impl ColumnType {
    /// The type's own name, and whether it is of arrays: `uuid` and true for `uuid[]`, `character varying` and
    /// false for `character varying(36)`. A name that is quoted is without its quotes.
    pub fn base(&self) -> (&[u8], bool) {
        let mut name = &self.0[..];
        let mut array = false;
        while let Some(element) = name.strip_suffix(b"[]") {
            (name, array) = (element, true);
        }
        // A quoted name may have a parenthesis in it; it was read as one token.
        let name = match name.strip_prefix(b"\"") {
            Some(quoted) => &quoted[..memchr::memrchr(b'"', quoted).unwrap_or(quoted.len())],
            None => &name[..memchr::memchr(b'(', name).unwrap_or(name.len())],
        };
        (name, array)
    }
}

impl std::fmt::Display for ColumnType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// What follows `CREATE TABLE ... (` of an entry.
fn create_table(entry: &TocEntry) -> Option<Tokens<'_>> {
    let mut tokens = Tokens::new(entry.definition()?);
    // pg_dump writes a comment for binary upgrades before it, which `Tokens` passes over.
    tokens.keyword("CREATE")?;
    let _unlogged = tokens.keyword("UNLOGGED");
    tokens.keyword("TABLE")?;
    tokens.qualified_name()?;
    tokens.symbol(b'(')?;
    Some(tokens)
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

/// What a table is partitioned by, from a `TABLE` entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionKey {
    /// Every name in the key: columns, and what occurs in its expressions.
    pub names: Vec<Vec<u8>>,
}

impl PartitionKey {
    /// Reads `PARTITION BY ... (...)` of an entry; `None` when the entry is another one, or a table that is
    /// not partitioned.
    pub fn of(entry: &TocEntry) -> Option<Self> {
        let mut tokens = create_table(entry)?;
        while skip_list_item(&mut tokens)? {}
        tokens.keywords("PARTITION BY")?;
        let names = tokens.filter_map(|token| match token {
            Token::Word(name) => Some(name.to_vec()),
            Token::Quoted(name) => Some(name.into_owned()),
            _ => None,
        });
        Some(Self { names: names.collect() })
    }
}

/// A domain and the type that it is over, from a `DOMAIN` entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// The schema.
    pub schema: Option<Vec<u8>>,
    /// The domain.
    pub name: Vec<u8>,
    /// The type that it is over, perhaps another domain.
    pub base: ColumnType,
}

impl Domain {
    /// Reads `CREATE DOMAIN ... AS ...` of an entry; `None` when the entry is another one.
    pub fn of(entry: &TocEntry) -> Option<Self> {
        let mut tokens = Tokens::new(entry.definition()?);
        tokens.keywords("CREATE DOMAIN")?;
        let (schema, name) = tokens.qualified_name()?;
        tokens.keyword("AS")?;
        Some(Self { schema, name, base: ColumnType::take(&mut tokens) })
    }
}

/// A partition, from a `TABLE ATTACH` entry; up to pg_dump 13 from the `TABLE` entry that creates it.
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
        let definition = entry.definition()?;
        let creates = entry.description() == b"TABLE";
        // The last statement of several.
        let start = if creates { memmem::rfind(definition, b"\nALTER TABLE ONLY ")? } else { 0 };
        let mut tokens = Tokens::new(&definition[start..]);
        tokens.keywords("ALTER TABLE")?;
        let _only = tokens.keyword("ONLY");
        let (parent_schema, parent) = tokens.qualified_name()?;
        tokens.keywords("ATTACH PARTITION")?;
        let (schema, table) = tokens.qualified_name()?;
        // What only looks like that statement could stand in a text.
        (!creates || table == entry.tag()).then_some(Self { parent_schema, parent, schema, table })
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
        // as at the end of CREATE DOMAIN
        assert_eq!(column_type("uuid;\n"), "uuid");
    }

    #[test]
    fn the_base_of_a_type_is_without_its_modifiers() {
        let base = |text: &str| {
            let column = ColumnType::new(text.as_bytes());
            let (name, array) = column.base();
            (String::from_utf8(name.to_vec()).unwrap(), array)
        };
        assert_eq!(base("character varying(36)"), ("character varying".into(), false));
        assert_eq!(base("character varying(36)[]"), ("character varying".into(), true));
        assert_eq!(base("public.\"Tenant (id)\""), ("Tenant (id)".into(), false));
        assert_eq!(base("uuid[][]"), ("uuid".into(), true));
    }

    #[test]
    fn partition_keys_and_domains_are_read() {
        let of = |sql: &str| TocEntry::builder(1, "x", "x").definition(sql).build().unwrap();
        let key = PartitionKey::of(&of(
            "CREATE TABLE public.m (\n    a text DEFAULT 'x)'::text,\n    b integer\n)\nPARTITION BY LIST (lower(a), \"B c\");\n",
        ));
        assert_eq!(key.unwrap().names, [&b"LIST"[..], b"lower", b"a", b"B c"]);
        assert_eq!(PartitionKey::of(&of("CREATE TABLE public.m (\n    a text\n);\n")), None);
        let domain =
            Domain::of(&of("CREATE DOMAIN public.tid AS character varying(36)\n\tCONSTRAINT c CHECK (true);\n"))
                .unwrap();
        assert_eq!((domain.name, domain.base.to_string()), (b"tid".to_vec(), "character varying(36)".into()));
    }

    #[test]
    fn a_copy_statement_is_read_as_it_was_written() {
        let copy = CopyStatement {
            schema: Some(b"a\"b".to_vec()),
            table: b"T".to_vec(),
            columns: vec![b"x".to_vec(), b"y z".to_vec()],
        };
        for columns in [copy.columns.clone(), vec![]] {
            let copy = CopyStatement { columns, ..copy.clone() };
            let sql = copy.to_sql();
            let entry = TocEntry::builder(1, "TABLE DATA", "T").copy_statement(Some(&sql)).build().unwrap();
            assert_eq!(CopyStatement::of(&entry), Some(copy));
        }
    }
}
