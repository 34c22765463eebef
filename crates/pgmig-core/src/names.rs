//! Names of tables and columns, and how they are written in SQL and by users.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A table with its schema. Prints as SQL, quoted where SQL needs it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// The schema.
    pub schema: String,
    /// The table.
    pub table: String,
}

impl TableName {
    /// A table in a schema.
    pub fn new(schema: impl Into<String>, table: impl Into<String>) -> Self {
        Self { schema: schema.into(), table: table.into() }
    }

    /// One of its columns.
    pub fn column(&self, column: impl Into<String>) -> ColumnName {
        ColumnName { table: self.clone(), column: column.into() }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `pad` honours a width, so that names line up in tables.
        f.pad(&format!("{}.{}", quote(&self.schema), quote(&self.table)))
    }
}

impl Serialize for TableName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A column with its table, written `schema.table.column`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnName {
    /// The table.
    pub table: TableName,
    /// The column.
    pub column: String,
}

impl fmt::Display for ColumnName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.table, quote(&self.column)))
    }
}

impl Serialize for ColumnName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ColumnName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A text that is not `schema.table.column`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not `schema.table.column`; names that need it are quoted as in SQL: `public.\"My Table\".owner`")]
pub struct ParseColumnNameError(String);

impl FromStr for ColumnName {
    type Err = ParseColumnNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = split_name(text).ok_or_else(|| ParseColumnNameError(text.to_owned()))?;
        match <[String; 3]>::try_from(parts) {
            Ok([schema, table, column]) => Ok(Self { table: TableName { schema, table }, column }),
            Err(_) => Err(ParseColumnNameError(text.to_owned())),
        }
    }
}

/// The parts of a dotted name. Unquoted parts are taken as they are, since our
/// users copy them from listings; quotes are needed only for a dot or a quote.
pub(crate) fn split_name(text: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let part;
        (part, rest) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let (part, rest) = rest.split_at(rest.find('.').unwrap_or(rest.len()));
                (part.to_owned(), rest)
            }
        };
        if part.is_empty() {
            return None;
        }
        parts.push(part);
        if rest.is_empty() {
            return Some(parts);
        }
        rest = rest.strip_prefix('.')?;
    }
}

/// The text up to the closing quote, and what follows it.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut part = String::new();
    let mut rest = quoted;
    loop {
        let (before, after) = rest.split_once('"')?;
        part.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                part.push('"');
                rest = more;
            }
            None => return Some((part, after)),
        }
    }
}

/// An identifier as SQL takes it.
pub(crate) fn quote(identifier: &str) -> String {
    let plain = !identifier.is_empty()
        && identifier.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit())
        && !identifier.starts_with(|c: char| c.is_ascii_digit());
    if plain { identifier.to_owned() } else { quote_always(identifier) }
}

/// An identifier in quotes, safe whatever keywords the server has.
#[must_use]
pub fn quote_always(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// A table as SQL takes it, every part in quotes.
pub(crate) fn sql_table(table: &TableName) -> String {
    format!("{}.{}", quote_always(&table.schema), quote_always(&table.table))
}

/// Columns as SQL takes them, separated by commas.
pub(crate) fn sql_columns<'a>(columns: impl IntoIterator<Item = &'a String>) -> String {
    columns.into_iter().map(|column| quote_always(column)).collect::<Vec<_>>().join(", ")
}

/// A text as SQL takes it: a literal whatever `standard_conforming_strings` says.
pub(crate) fn sql_literal(text: &str) -> String {
    let escape = if text.contains('\\') { " E" } else { "" };
    format!("{escape}'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_prints_as_it_is_written() {
        for text in ["public.tenant.tenant_id", "\"Mixed Case\".\"Täble \"\"X\"\"\".\"a.b\""] {
            assert_eq!(text.parse::<ColumnName>().unwrap().to_string(), text);
        }
        assert_eq!("public.Tenant.Id".parse::<ColumnName>().unwrap().to_string(), "public.\"Tenant\".\"Id\"");
    }

    #[test]
    fn what_is_not_three_names_is_refused() {
        for text in ["", "a", "a.b", "a.b.c.d", "a..c", "a.\"b.c", "a.\"b\"x.c"] {
            assert!(text.parse::<ColumnName>().is_err(), "{text}");
        }
    }

    #[test]
    fn literals_survive_quotes_and_backslashes() {
        assert_eq!(sql_literal("it's"), "'it''s'");
        assert_eq!(sql_literal("a\\b'"), " E'a\\\\b'''");
    }
}
