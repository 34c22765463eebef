//! Large objects: their contents, and the entries that stand for many of them.

use std::io::{Read, Write};

use super::script::Script;
use super::{SqlError, read_full};
use crate::block::{LargeObject, LargeObjects};
use crate::toc::{Toc, TocEntry};

/// The begin of a statement that drops a large object if it is there; its OID and a quote follow.
pub(crate) const UNLINK_IF_EXISTS: &[u8] =
    b"SELECT pg_catalog.lo_unlink(oid) FROM pg_catalog.pg_largeobject_metadata WHERE oid = '";
/// How much of a large object one statement writes.
const PIECE_BYTES: usize = 16 << 10;
/// `INV_WRITE` of `libpq/libpq-fs.h`: open for writing.
const OPEN_TO_WRITE: &[u8] = b"131072";

impl<W: Write> Script<'_, W> {
    /// Writes the contents of a block of large objects.
    pub(crate) fn large_objects<R: Read>(&mut self, mut objects: LargeObjects<'_, R>) -> Result<(), SqlError> {
        // An open large object lasts as long as the transaction.
        let own_transaction = !self.options.single_transaction;
        if own_transaction {
            self.put(&[b"BEGIN;\n\n"])?;
        }
        while let Some(object) = objects.next_object()? {
            self.large_object(object)?;
        }
        if own_transaction {
            self.put(&[b"COMMIT;\n\n"])?;
        }
        Ok(())
    }

    fn large_object<R: Read>(&mut self, mut object: LargeObject<'_, R>) -> Result<(), SqlError> {
        let oid = object.oid().to_string();
        if self.creates_large_objects {
            if self.options.clean {
                self.unlink_if_exists(object.oid())?;
            }
            let create = b"SELECT pg_catalog.lo_open(pg_catalog.lo_create('";
            self.put(&[create, oid.as_bytes(), b"'), ", OPEN_TO_WRITE, b");\n"])?;
        } else {
            self.put(&[b"SELECT pg_catalog.lo_open('", oid.as_bytes(), b"', ", OPEN_TO_WRITE, b");\n"])?;
        }
        let backslash: &[u8] = if self.quoting.standard_strings { b"\\" } else { b"\\\\" };
        let mut piece = [0; PIECE_BYTES];
        let mut hex = Vec::with_capacity(2 * PIECE_BYTES);
        loop {
            let length = read_full(&mut object, &mut piece)?;
            if length == 0 {
                break;
            }
            hex.clear();
            hex.extend(piece[..length].iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| HEX[digit as usize]));
            self.put(&[b"SELECT pg_catalog.lowrite(0, '", backslash, b"x", &hex, b"');\n"])?;
            if length < PIECE_BYTES {
                break;
            }
        }
        self.put(&[b"SELECT pg_catalog.lo_close(0);\n\n"])
    }

    /// Writes the statement that drops a large object if it is there.
    pub(crate) fn unlink_if_exists(&mut self, oid: u32) -> Result<(), SqlError> {
        self.put(&[UNLINK_IF_EXISTS, oid.to_string().as_bytes(), b"';\n"])
    }

    /// Writes a statement for each large object of a `BLOB METADATA` entry, whose definition is their OIDs, a line each.
    pub(crate) fn for_each_large_object(
        &mut self,
        entry: &TocEntry,
        before: &[u8],
        after: &[u8],
    ) -> Result<(), SqlError> {
        for line in entry.definition().unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
            let oid = line.strip_suffix(b"\n").unwrap_or(line);
            // It goes into statements as it is.
            if oid.is_empty() || !oid.iter().all(u8::is_ascii_digit) {
                let text = format!("\"{}\" is not the OID of a large object", oid.escape_ascii());
                return Err(SqlError::damaged(entry, text));
            }
            self.put(&[before, oid, after, b";\n"])?;
        }
        self.put(&[b"\n"])
    }

    /// Writes the rights of many large objects, which an entry tells for the first of them. It depends on the
    /// `BLOB METADATA` that lists them all.
    pub(crate) fn privileges_of_large_objects(&mut self, entry: &TocEntry, toc: &Toc) -> Result<(), SqlError> {
        let damaged = |what: &str| SqlError::damaged(entry, what);
        let metadata = entry.dependencies().first().and_then(|id| toc.get(*id));
        let Some(metadata) = metadata.filter(|metadata| metadata.description() == b"BLOB METADATA") else {
            return Err(damaged("it does not depend on the large objects that it is about"));
        };
        let mut rest = entry.definition().unwrap_or_default().trim_ascii_start();
        while !rest.is_empty() {
            let (before, after, next) =
                split_statement(rest).ok_or_else(|| damaged("its definition is not about a large object"))?;
            self.for_each_large_object(metadata, before, after)?;
            rest = next.trim_ascii_start();
        }
        Ok(())
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Splits the first statement: up to its OID, behind that up to the semicolon, and what follows.
fn split_statement(sql: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    const OBJECT: &[u8] = b"LARGE OBJECT ";
    let mut quoted = false;
    let mut oid = None;
    for (at, &byte) in sql.iter().enumerate() {
        // Names of roles, which hold anything.
        quoted ^= byte == b'"';
        if quoted {
            continue;
        }
        if oid.is_none() && sql[at..].starts_with(OBJECT) {
            let start = at + OBJECT.len();
            let digits = sql[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            oid = Some((start, start + digits)).filter(|_| digits > 0);
        } else if byte == b';' {
            let (start, end) = oid?;
            return Some((&sql[..start], &sql[end..at], &sql[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::split_statement;

    #[test]
    fn a_statement_is_split_at_its_large_object_whatever_a_role_is_called() {
        let sql = b"GRANT ALL ON LARGE OBJECT 18001 TO \"LARGE OBJECT 1; \"\"x\";\nREVOKE";
        let (before, after, next) = split_statement(sql).expect("it is a statement");
        assert_eq!(before, b"GRANT ALL ON LARGE OBJECT ");
        assert_eq!(after, b" TO \"LARGE OBJECT 1; \"\"x\"");
        assert_eq!(next, b"\nREVOKE");
        assert_eq!(split_statement(b"GRANT ALL ON TABLE t TO r;"), None);
        assert_eq!(split_statement(b"GRANT ALL ON LARGE OBJECT 1 TO r"), None);
    }
}
