//! A table of contents as large as they get.

use std::io::{self, BufWriter, IntoInnerError, Write};
use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::cache::cached;

/// To be raised when other bytes are written.
const REVISION: u32 = 1;
const SETTINGS: [(&str, &str); 3] = [
    ("ENCODING", "SET client_encoding = 'UTF8';\n"),
    ("STDSTRINGS", "SET standard_conforming_strings = 'on';\n"),
    ("SEARCHPATH", "SELECT pg_catalog.set_config('search_path', '', false);\n"),
];
const SCHEMAS: u32 = 97;
const BESIDES_TABLES: u32 = SETTINGS.len() as u32 + SCHEMAS;
const BY_TABLE: u32 = 10;
/// Dump IDs below belong to objects of the system, which pg_dump numbers and does not dump.
const FIRST_ID: u32 = 4001;
const OWNER: &str = "application_owner";
// sections
const NONE: u32 = 1;
const PRE_DATA: u32 = 2;
const POST_DATA: u32 = 4;
// OIDs of system catalogs
const PG_CLASS: u32 = 1259;
const PG_CONSTRAINT: u32 = 2606;
const PG_NAMESPACE: u32 = 2615;
const PG_ATTRDEF: u32 = 2604;

/// An archive with so many entries (a multiple of 10 above 100) in its table of contents and no data,
/// as a schema-only dump of a tenth as many tables. An entry takes 400 bytes on average.
///
/// It is written here and not by `pg_dump`, which would need a database with all those objects and
/// hours for it. It is like one in all that matters to a reader: version 1.16, the order of the
/// entries, the texts of tables with a key, two indexes, a foreign key, a sequence, a default, a
/// comment and grants, and the dependencies among them. Stock `pg_restore -l` lists it.
///
/// # Errors
///
/// When it cannot be written.
pub fn contents(entries: u32) -> Result<PathBuf> {
    ensure!(
        entries > BESIDES_TABLES && entries.is_multiple_of(BY_TABLE),
        "no archive of {entries} entries can be made"
    );
    cached(&format!("contents-{REVISION}-{entries}.dump"), |part| {
        let tables = (entries - BESIDES_TABLES) / BY_TABLE;
        let mut archive = Archive { out: BufWriter::new(part), tables };
        archive.header()?;
        archive.int(entries)?;
        archive.settings()?;
        // pg_dump puts objects of one type together.
        (0..tables).try_for_each(|table| archive.table(table))?;
        (0..tables).try_for_each(|table| archive.sequence(table))?;
        (0..tables).try_for_each(|table| archive.default(table))?;
        (0..tables).try_for_each(|table| archive.primary_key(table))?;
        (0..tables).try_for_each(|table| archive.indexes(table))?;
        (0..tables).try_for_each(|table| archive.foreign_key(table))?;
        Ok(archive.out.into_inner().map_err(IntoInnerError::into_error)?)
    })
}

struct Archive<W: Write> {
    out: BufWriter<W>,
    tables: u32,
}

/// What differs from entry to entry.
#[derive(Default)]
struct Entry<'a> {
    id: u32,
    catalog: u32,
    tag: &'a str,
    description: &'a str,
    section: u32,
    definition: &'a str,
    drop: &'a str,
    schema: Option<&'a str>,
    access_method: Option<&'a str>,
    relkind: u8,
    dependencies: &'a [u32],
}

/// The numbers that pg_dump gives to the objects of tables: those of one kind follow each other.
#[derive(Clone, Copy)]
enum Id {
    Table,
    Sequence,
    Default,
    PrimaryKey,
    FirstIndex,
    SecondIndex,
    ForeignKey,
    Comment,
    Grants,
    Ownership,
}

impl<W: Write> Archive<W> {
    fn header(&mut self) -> io::Result<()> {
        // version 1.16.0, 4 bytes in a number, 8 in a position, custom format, gzip
        self.out.write_all(b"PGDMP\x01\x10\x00\x04\x08\x01\x01")?;
        // 2025-06-01 12:30:00, summer time not known
        for field in [0, 30, 12, 1, 5, 125, 0] {
            self.int(field)?;
        }
        for text in ["application", "18.0", "18.0"] {
            self.text(Some(text))?;
        }
        Ok(())
    }

    fn settings(&mut self) -> io::Result<()> {
        let above = FIRST_ID + BY_TABLE * self.tables + SCHEMAS;
        for (index, (name, definition)) in (0..).zip(SETTINGS) {
            let entry = Entry {
                id: above + index,
                tag: name,
                description: name,
                section: NONE,
                definition,
                ..Entry::default()
            };
            self.entry(&entry)?;
        }
        for schema in 0..SCHEMAS {
            let name = schema_name(schema);
            self.entry(&Entry {
                id: FIRST_ID + schema,
                catalog: PG_NAMESPACE,
                tag: &name,
                description: "SCHEMA",
                section: PRE_DATA,
                definition: &format!("CREATE SCHEMA {name};\n\n\nALTER SCHEMA {name} OWNER TO {OWNER};\n"),
                drop: &format!("DROP SCHEMA {name};\n"),
                ..Entry::default()
            })?;
        }
        Ok(())
    }

    fn table(&mut self, table: u32) -> io::Result<()> {
        let (schema, name) = (schema_of(table), table_name(table));
        let mut columns = format!("    {name}_id bigint NOT NULL,\n    parent_id bigint");
        for column in 0..table % 24 {
            let (kind, suffix) = match column % 4 {
                0 => ("text", "label"),
                1 => ("timestamp with time zone DEFAULT now() NOT NULL", "changed_at"),
                2 => ("integer DEFAULT 0 NOT NULL", "counter"),
                _ => ("character varying(255)", "description"),
            };
            columns.push_str(&format!(",\n    {suffix}_{column} {kind}"));
        }
        let (own, id) = (self.id(Id::Table, table), FIRST_ID + table % SCHEMAS);
        self.entry(&Entry {
            id: own,
            catalog: PG_CLASS,
            tag: &name,
            description: "TABLE",
            section: PRE_DATA,
            definition: &format!(
                "CREATE TABLE {schema}.{name} (\n{columns}\n);\n\n\nALTER TABLE {schema}.{name} OWNER TO {OWNER};\n"
            ),
            drop: &format!("DROP TABLE {schema}.{name};\n"),
            schema: Some(&schema),
            access_method: Some("heap"),
            relkind: b'r',
            dependencies: &[id],
        })?;
        self.entry(&Entry {
            id: self.id(Id::Comment, table),
            tag: &format!("TABLE {name}"),
            description: "COMMENT",
            section: NONE,
            definition: &format!(
                "COMMENT ON TABLE {schema}.{name} IS 'What is kept of each {name}, one row for every change';\n"
            ),
            schema: Some(&schema),
            dependencies: &[own],
            ..Entry::default()
        })?;
        self.entry(&Entry {
            id: self.id(Id::Grants, table),
            tag: &format!("TABLE {name}"),
            description: "ACL",
            section: NONE,
            definition: &format!(
                "GRANT SELECT ON TABLE {schema}.{name} TO application_reader;\n\
                 GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE {schema}.{name} TO application_writer;\n"
            ),
            schema: Some(&schema),
            dependencies: &[own],
            ..Entry::default()
        })
    }

    fn sequence(&mut self, table: u32) -> io::Result<()> {
        let (schema, name) = (schema_of(table), table_name(table));
        let (sequence, own) = (format!("{name}_{name}_id_seq"), self.id(Id::Sequence, table));
        self.entry(&Entry {
            id: own,
            catalog: PG_CLASS,
            tag: &sequence,
            description: "SEQUENCE",
            section: PRE_DATA,
            definition: &format!(
                "CREATE SEQUENCE {schema}.{sequence}\n    START WITH 1\n    INCREMENT BY 1\n    NO MINVALUE\n    \
                 NO MAXVALUE\n    CACHE 1;\n\n\nALTER SEQUENCE {schema}.{sequence} OWNER TO {OWNER};\n"
            ),
            drop: &format!("DROP SEQUENCE {schema}.{sequence};\n"),
            schema: Some(&schema),
            relkind: b'S',
            dependencies: &[FIRST_ID + table % SCHEMAS, self.id(Id::Table, table)],
            ..Entry::default()
        })?;
        self.entry(&Entry {
            id: self.id(Id::Ownership, table),
            tag: &sequence,
            description: "SEQUENCE OWNED BY",
            section: PRE_DATA,
            definition: &format!("ALTER SEQUENCE {schema}.{sequence} OWNED BY {schema}.{name}.{name}_id;\n"),
            schema: Some(&schema),
            dependencies: &[own],
            ..Entry::default()
        })
    }

    fn default(&mut self, table: u32) -> io::Result<()> {
        let (schema, name) = (schema_of(table), table_name(table));
        let alter = format!("ALTER TABLE ONLY {schema}.{name} ALTER COLUMN {name}_id");
        self.entry(&Entry {
            id: self.id(Id::Default, table),
            catalog: PG_ATTRDEF,
            tag: &format!("{name} {name}_id"),
            description: "DEFAULT",
            section: PRE_DATA,
            definition: &format!("{alter} SET DEFAULT nextval('{schema}.{name}_{name}_id_seq'::regclass);\n"),
            drop: &format!("ALTER TABLE {schema}.{name} ALTER COLUMN {name}_id DROP DEFAULT;\n"),
            schema: Some(&schema),
            dependencies: &[self.id(Id::Ownership, table), self.id(Id::Sequence, table), self.id(Id::Table, table)],
            ..Entry::default()
        })
    }

    fn primary_key(&mut self, table: u32) -> io::Result<()> {
        let (schema, name) = (schema_of(table), table_name(table));
        self.entry(&Entry {
            id: self.id(Id::PrimaryKey, table),
            catalog: PG_CONSTRAINT,
            tag: &format!("{name} {name}_pkey"),
            description: "CONSTRAINT",
            section: POST_DATA,
            definition: &format!(
                "ALTER TABLE ONLY {schema}.{name}\n    ADD CONSTRAINT {name}_pkey PRIMARY KEY ({name}_id);\n"
            ),
            drop: &format!("ALTER TABLE ONLY {schema}.{name} DROP CONSTRAINT {name}_pkey;\n"),
            schema: Some(&schema),
            relkind: b'I',
            dependencies: &[self.id(Id::Table, table)],
            ..Entry::default()
        })
    }

    fn indexes(&mut self, table: u32) -> io::Result<()> {
        let (schema, name) = (schema_of(table), table_name(table));
        for (id, column) in [(Id::FirstIndex, "parent_id"), (Id::SecondIndex, "lower(label_0)")] {
            let index = format!("{name}_{}_idx", column.trim_matches(|c: char| !c.is_alphanumeric()).replace('(', "_"));
            self.entry(&Entry {
                id: self.id(id, table),
                catalog: PG_CLASS,
                tag: &index,
                description: "INDEX",
                section: POST_DATA,
                definition: &format!("CREATE INDEX {index} ON {schema}.{name} USING btree ({column});\n"),
                drop: &format!("DROP INDEX {schema}.{index};\n"),
                schema: Some(&schema),
                relkind: b'i',
                dependencies: &[self.id(Id::Table, table), self.id(Id::Table, table)],
                ..Entry::default()
            })?;
        }
        Ok(())
    }

    fn foreign_key(&mut self, table: u32) -> io::Result<()> {
        let (schema, name) = (schema_of(table), table_name(table));
        let other = table / 2;
        let (other_schema, other_name) = (schema_of(other), table_name(other));
        self.entry(&Entry {
            id: self.id(Id::ForeignKey, table),
            catalog: PG_CONSTRAINT,
            tag: &format!("{name} {name}_parent_id_fkey"),
            description: "FK CONSTRAINT",
            section: POST_DATA,
            definition: &format!(
                "ALTER TABLE ONLY {schema}.{name}\n    ADD CONSTRAINT {name}_parent_id_fkey FOREIGN KEY (parent_id) \
                 REFERENCES {other_schema}.{other_name}({other_name}_id) ON DELETE CASCADE;\n"
            ),
            drop: &format!("ALTER TABLE ONLY {schema}.{name} DROP CONSTRAINT {name}_parent_id_fkey;\n"),
            schema: Some(&schema),
            dependencies: &[self.id(Id::PrimaryKey, other), self.id(Id::Table, table), self.id(Id::Table, other)],
            ..Entry::default()
        })
    }

    fn id(&self, kind: Id, table: u32) -> u32 {
        FIRST_ID + SCHEMAS + kind as u32 * self.tables + table
    }

    fn entry(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        const NO_DATA: u8 = 3;
        self.int(entry.id)?;
        self.int(0)?;
        self.text(Some(&entry.catalog.to_string()))?;
        let oid = if entry.catalog == 0 { 0 } else { 12_000 + entry.id };
        self.text(Some(&oid.to_string()))?;
        self.text(Some(entry.tag))?;
        self.text(Some(entry.description))?;
        self.int(entry.section)?;
        self.text(Some(entry.definition))?;
        self.text(Some(entry.drop))?;
        self.text(None)?;
        self.text(entry.schema)?;
        self.text(Some("").filter(|_| entry.relkind != 0))?;
        self.text(entry.access_method)?;
        self.int(entry.relkind.into())?;
        self.text(Some(OWNER))?;
        self.text(Some("false"))?;
        for dependency in entry.dependencies {
            self.text(Some(&dependency.to_string()))?;
        }
        self.text(None)?;
        self.out.write_all(&[NO_DATA, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    fn int(&mut self, value: u32) -> io::Result<()> {
        self.out.write_all(&[0])?;
        self.out.write_all(&value.to_le_bytes())
    }

    /// A text, or NULL.
    fn text(&mut self, text: Option<&str>) -> io::Result<()> {
        let Some(text) = text else { return self.out.write_all(&[1, 1, 0, 0, 0]) };
        self.int(text.len() as u32)?;
        self.out.write_all(text.as_bytes())
    }
}

fn schema_name(schema: u32) -> String {
    format!("tenant_{schema}")
}

fn schema_of(table: u32) -> String {
    schema_name(table % SCHEMAS)
}

fn table_name(table: u32) -> String {
    const NAMES: [&str; 8] =
        ["account", "invoice_line", "event", "measurement", "message", "order_item", "payment", "subscription"];
    format!("{}_{table}", NAMES[table as usize % NAMES.len()])
}
