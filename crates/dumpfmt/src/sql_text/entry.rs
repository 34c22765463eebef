//! The text of one entry: its header comment, its definition, its owner, and the statement that drops it.

use std::io::Write;

use super::SqlError;
use super::options::PgRestoreVersion;
use super::quote::on_one_line;
use super::script::Script;
use crate::toc::{Toc, TocEntry};

/// `pg_class.relkind` of a partitioned table.
const PARTITIONED_TABLE: u8 = b'p';

impl<W: Write> Script<'_, W> {
    /// Writes the header comment and the definition of an entry; `what` begins the comment.
    pub(crate) fn entry(&mut self, entry: &TocEntry, toc: &Toc, what: &[u8]) -> Result<(), SqlError> {
        self.become_owner(entry)?;
        self.select_schema(entry.namespace())?;
        self.select_tablespace(entry.tablespace())?;
        let partitioned = self.version >= PgRestoreVersion::V17 && entry.relkind() == Some(PARTITIONED_TABLE);
        if !partitioned {
            self.select_access_method(entry.table_access_method())?;
        }
        self.comment(entry, what)?;
        self.definition(entry, toc)?;
        self.owner(entry)?;
        if partitioned && !self.options.no_table_access_method {
            self.access_method_of_partitioned(entry)?;
        }
        if matches!(entry.description(), b"ACL" | b"ACL LANGUAGE" | b"DEFAULT ACL") {
            self.forget_user();
        }
        Ok(())
    }

    fn comment(&mut self, entry: &TocEntry, what: &[u8]) -> Result<(), SqlError> {
        let or_hyphen = |text| on_one_line(Option::unwrap_or(text, b"-"));
        let owner = entry.owner().filter(|_| !self.options.no_owner);
        let description = on_one_line(entry.description());
        self.put(&[b"--\n-- ", what, b"Name: ", &on_one_line(entry.tag()), b"; Type: ", &description])?;
        self.put(&[b"; Schema: ", &or_hyphen(entry.namespace()), b"; Owner: ", &or_hyphen(owner)])?;
        let tablespace = entry.tablespace().filter(|name| !name.is_empty() && !self.options.no_tablespaces);
        if let Some(tablespace) = tablespace {
            self.put(&[b"; Tablespace: ", &on_one_line(tablespace)])?;
        }
        self.put(&[b"\n--\n\n"])
    }

    fn definition(&mut self, entry: &TocEntry, toc: &Toc) -> Result<(), SqlError> {
        let definition = entry.definition().unwrap_or_default();
        match entry.description() {
            // Old versions of pg_dump name the owner in the statement.
            b"SCHEMA" if self.options.no_owner && !definition.starts_with(b"--") => {
                self.put(&[b"CREATE SCHEMA ", &self.quoting.name(entry.tag()), b";\n\n\n"])
            }
            b"BLOB METADATA" => self.for_each_large_object(entry, b"SELECT pg_catalog.lo_create('", b"')"),
            b"ACL" if entry.tag().starts_with(b"LARGE OBJECTS") => self.privileges_of_large_objects(entry, toc),
            _ if definition.is_empty() => Ok(()),
            _ => self.put(&[definition, b"\n\n"]),
        }
    }

    fn owner(&mut self, entry: &TocEntry) -> Result<(), SqlError> {
        // The schema `public` is not created, so that its owner has to be set in any case.
        let is_there = entry.description() == b"SCHEMA" && entry.definition().unwrap_or_default().starts_with(b"--");
        if self.options.no_owner || (self.options.use_set_session_authorization && !is_there) {
            return Ok(());
        }
        let Some(owner) = entry.owner().filter(|owner| !owner.is_empty()) else { return Ok(()) };
        // What cannot be dropped by itself has no owner of its own.
        let Some(drop) = entry.drop_statement().filter(|drop| !drop.is_empty()) else { return Ok(()) };
        let owner = self.quoting.name(owner);
        if entry.description() == b"BLOB METADATA" {
            return self.for_each_large_object(entry, b"ALTER LARGE OBJECT ", &[b" OWNER TO ", &owner[..]].concat());
        }
        let Some(object) = self.object_with_owner(entry, drop)? else { return Ok(()) };
        self.put(&[b"ALTER ", &object, b" OWNER TO ", &owner, b";\n\n"])
    }

    /// The object as `ALTER` names it; `None` when it has no owner.
    fn object_with_owner(&self, entry: &TocEntry, drop: &[u8]) -> Result<Option<Vec<u8>>, SqlError> {
        Ok(match entry.description() {
            kind @ (b"COLLATION"
            | b"CONVERSION"
            | b"DATABASE"
            | b"DOMAIN"
            | b"EVENT TRIGGER"
            | b"FOREIGN DATA WRAPPER"
            | b"FOREIGN TABLE"
            | b"MATERIALIZED VIEW"
            | b"PROCEDURAL LANGUAGE"
            | b"PUBLICATION"
            | b"SCHEMA"
            | b"SEQUENCE"
            | b"SERVER"
            | b"STATISTICS"
            | b"SUBSCRIPTION"
            | b"TABLE"
            | b"TEXT SEARCH CONFIGURATION"
            | b"TEXT SEARCH DICTIONARY"
            | b"TYPE"
            | b"VIEW") => {
                let kind = match kind {
                    // 15 still writes what servers before 8.4 understood.
                    b"VIEW" | b"SEQUENCE" | b"MATERIALIZED VIEW" if self.version == PgRestoreVersion::V15 => b"TABLE",
                    kind => kind,
                };
                let name = self.quoting.qualified_name(entry.namespace(), entry.tag());
                Some([kind, b" ", &name[..]].concat())
            }
            b"BLOB" => Some([b"LARGE OBJECT ", entry.tag()].concat()),
            // Their arguments belong to the name, and stand in the statement that drops them.
            b"AGGREGATE" | b"FUNCTION" | b"OPERATOR" | b"OPERATOR CLASS" | b"OPERATOR FAMILY" | b"PROCEDURE" => {
                let object = drop.strip_prefix(b"DROP ").unwrap_or(drop);
                let end = object.iter().rposition(|byte| !matches!(byte, b';' | b'\n')).map_or(0, |last| last + 1);
                Some(object[..end].to_vec())
            }
            b"CAST"
            | b"CHECK CONSTRAINT"
            | b"CONSTRAINT"
            | b"DATABASE PROPERTIES"
            | b"DEFAULT"
            | b"FK CONSTRAINT"
            | b"INDEX"
            | b"POLICY"
            | b"ROW SECURITY"
            | b"RULE"
            | b"TRIGGER"
            | b"USER MAPPING" => None,
            _ => return Err(SqlError::UnknownOwner { entry: entry.to_string() }),
        })
    }

    /// A partitioned table has no storage whose access method the default could set.
    fn access_method_of_partitioned(&mut self, entry: &TocEntry) -> Result<(), SqlError> {
        let Some(method) = entry.table_access_method() else { return Ok(()) };
        let table = self.quoting.qualified_name(entry.namespace(), entry.tag());
        self.put(&[b"ALTER TABLE ", &table, b" SET ACCESS METHOD ", &self.quoting.name(method), b";\n\n"])
    }

    /// Writes the statement that drops the object of an entry, if there is one.
    pub(crate) fn drop_entry(&mut self, entry: &TocEntry) -> Result<(), SqlError> {
        let Some(drop) = entry.drop_statement() else { return Ok(()) };
        self.become_owner(entry)?;
        self.select_schema(entry.namespace())?;
        let if_exists = self.options.if_exists;
        match entry.description() {
            b"BLOB METADATA" if if_exists => {
                self.for_each_large_object(entry, super::large_objects::UNLINK_IF_EXISTS, b"'")
            }
            b"BLOB METADATA" => self.for_each_large_object(entry, b"SELECT pg_catalog.lo_unlink('", b"')"),
            // A comment stands in the place of what is not to be dropped.
            _ if !if_exists || drop.is_empty() || drop.starts_with(b"--") => self.put(&[drop]),
            b"BLOB" => self.unlink_if_exists(entry.oid()),
            description => self.put(&[&with_if_exists(description, drop)]),
        }
    }
}

/// The statement with `IF EXISTS` where it can have it.
fn with_if_exists(description: &[u8], drop: &[u8]) -> Vec<u8> {
    const ALTER_TABLE: &[u8] = b"ALTER TABLE";
    let mut out = Vec::new();
    let mut rest = drop;
    if let Some(table) = rest.strip_prefix(ALTER_TABLE) {
        out.extend_from_slice(b"ALTER TABLE IF EXISTS");
        rest = table;
    }
    let unchanged = matches!(description, b"DEFAULT" | b"DATABASE PROPERTIES")
        // A rule that makes a table a view is dropped by making it another view.
        || rest.starts_with(b"CREATE OR REPLACE VIEW");
    let verb: Vec<u8> = match description {
        b"CONSTRAINT" | b"CHECK CONSTRAINT" | b"FK CONSTRAINT" => b"DROP CONSTRAINT".to_vec(),
        kind => [b"DROP ", kind].concat(),
    };
    match memchr::memmem::find(rest, &verb).filter(|_| !unchanged) {
        Some(at) => {
            let end = at + verb.len();
            out.extend_from_slice(&rest[..end]);
            out.extend_from_slice(b" IF EXISTS");
            out.extend_from_slice(&rest[end..]);
        }
        None => out.extend_from_slice(rest),
    }
    out
}

#[cfg(test)]
mod tests {
    use super::with_if_exists;

    #[test]
    fn if_exists_goes_to_the_object_and_to_its_table() {
        for (description, drop, expected) in [
            ("TABLE", "DROP TABLE public.t;\n", "DROP TABLE IF EXISTS public.t;\n"),
            (
                "FK CONSTRAINT",
                "ALTER TABLE ONLY public.t DROP CONSTRAINT c;\n",
                "ALTER TABLE IF EXISTS ONLY public.t DROP CONSTRAINT IF EXISTS c;\n",
            ),
            (
                "DEFAULT",
                "ALTER TABLE public.t ALTER COLUMN c DROP DEFAULT;\n",
                "ALTER TABLE IF EXISTS public.t ALTER COLUMN c DROP DEFAULT;\n",
            ),
            (
                "RULE",
                "CREATE OR REPLACE VIEW public.v AS SELECT 1;\n",
                "CREATE OR REPLACE VIEW public.v AS SELECT 1;\n",
            ),
            ("NEW KIND", "DROP SOMETHING x;\n", "DROP SOMETHING x;\n"),
        ] {
            assert_eq!(with_if_exists(description.as_bytes(), drop.as_bytes()), expected.as_bytes());
        }
    }
}
