//! The kind of a relation, which entries have from version 1.16 on.
//!
//! pg_restore 17 and later look at it for one thing: the access method of a partitioned table is not that of its own
//! storage, of which it has none, so it is set by `ALTER TABLE ... SET ACCESS METHOD` afterwards. A kind of 0
//! is taken for that of any other relation.

use crate::error::Result;
use crate::sql::{Token, Tokens};
use crate::toc::TocEntry;

/// As in `pg_class.relkind`.
const PARTITIONED_TABLE: u8 = b'p';

/// The entry without a kind, with these dependencies if there are other ones; and the access method that this
/// leaves without a place.
pub(super) fn without_kind(entry: &TocEntry, dependencies: Option<Vec<i32>>) -> Result<(TocEntry, Option<Box<str>>)> {
    let mut older = entry.to_builder().relkind(None);
    if let Some(dependencies) = dependencies {
        older = older.dependencies(dependencies);
    }
    let mut left_out = None;
    if entry.relkind() == Some(PARTITIONED_TABLE)
        && let Some(method) = entry.table_access_method().filter(|method| !method.is_empty())
    {
        // An older pg_restore would only set it as the default for this one table, which has no storage.
        older = older.table_access_method(None);
        left_out = Some(String::from_utf8_lossy(method).into());
    }
    Ok((older.build()?, left_out))
}

/// The entry with a kind, which follows from its type; those of an archive that has kinds stay.
pub(super) fn with_kind(entry: &TocEntry) -> Result<TocEntry> {
    if entry.relkind().is_some() {
        return entry.to_builder().build();
    }
    let kind = match entry.description() {
        b"TABLE" if is_partitioned(entry.definition().unwrap_or_default()) => PARTITIONED_TABLE,
        b"TABLE" => b'r',
        b"VIEW" => b'v',
        b"MATERIALIZED VIEW" => b'm',
        b"FOREIGN TABLE" => b'f',
        _ => 0,
    };
    entry.to_builder().relkind(Some(kind)).build()
}

/// Whether `CREATE TABLE name (...)` goes on with `PARTITION BY`.
fn is_partitioned(definition: &[u8]) -> bool {
    let mut tokens = Tokens::new(definition);
    let mut depth = 0_u32;
    loop {
        if depth == 0 && tokens.keywords("PARTITION BY").is_some() {
            return true;
        }
        match tokens.next() {
            Some(Token::Symbol(b'(')) => depth = depth.saturating_add(1),
            Some(Token::Symbol(b')')) => depth = depth.saturating_sub(1),
            // What follows are other statements about the table.
            Some(Token::Symbol(b';')) if depth == 0 => return false,
            Some(_) => {}
            None => return false,
        }
    }
}
