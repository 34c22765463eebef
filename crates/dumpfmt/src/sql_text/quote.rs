//! Names and literals, quoted as pg_restore quotes them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use super::options::PgRestoreVersion;

/// How texts of an archive are quoted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quoting {
    /// Decides which words are keywords.
    pub(crate) version: PgRestoreVersion,
    /// Whether the archive's encoding is UTF-8. In the others a text is quoted byte by byte: none that PostgreSQL
    /// knows has a quote within a character.
    pub(crate) utf8: bool,
    /// Whether a backslash in a literal is nothing special.
    pub(crate) standard_strings: bool,
}

impl Quoting {
    /// A name, in double quotes where it needs them.
    pub(crate) fn name(self, name: &[u8]) -> Vec<u8> {
        if is_plain_name(name) && KEYWORDS.get(name).is_none_or(|since| *since > self.version) {
            return name.to_vec();
        }
        self.quoted(name, b'"', false)
    }

    /// `schema.name`; without a schema, the name.
    pub(crate) fn qualified_name(self, schema: Option<&[u8]>, name: &[u8]) -> Vec<u8> {
        let mut out = match schema {
            Some(schema) if !schema.is_empty() => [&self.name(schema)[..], b"."].concat(),
            _ => Vec::new(),
        };
        out.extend(self.name(name));
        out
    }

    /// A literal in single quotes.
    pub(crate) fn literal(self, text: &[u8]) -> Vec<u8> {
        self.quoted(text, b'\'', !self.standard_strings)
    }

    fn quoted(self, text: &[u8], quote: u8, double_backslash: bool) -> Vec<u8> {
        let mut out = vec![quote];
        let mut rest = text;
        while let Some(&first) = rest.first() {
            let length = if self.utf8 { utf8_length(first) } else { 1 };
            match rest.get(..length) {
                Some(character) if !self.utf8 || std::str::from_utf8(character).is_ok() => {
                    if first == quote || (double_backslash && first == b'\\') {
                        out.push(first);
                    }
                    out.extend_from_slice(character);
                    rest = &rest[length..];
                }
                // What is not UTF-8 stays so, and cannot make a part of what follows it: a server will refuse it.
                _ => {
                    out.extend_from_slice(&[0xc0, b' ']);
                    rest = &rest[1..];
                }
            }
        }
        out.push(quote);
        out
    }
}

/// A text on a line of its own, so that a name with a line break cannot become SQL in a comment.
pub(crate) fn on_one_line(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'\n', b'\r', text).is_none() {
        return Cow::Borrowed(text);
    }
    text.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect()
}

/// psql's command to connect to a database; `None` when its name cannot be written in one.
pub(crate) fn connect_command(database: &[u8], quoting: Quoting) -> Option<Vec<u8>> {
    // The encoding of a database name is known to nobody.
    let quoting = Quoting { utf8: false, ..quoting };
    if database.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return None;
    }
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
    if database.iter().all(plain) {
        return Some([b"\\connect ", &quoting.name(database)[..], b"\n"].concat());
    }
    let mut parameter = b"dbname='".to_vec();
    for &byte in database {
        if matches!(byte, b'\'' | b'\\') {
            parameter.push(b'\\');
        }
        parameter.push(byte);
    }
    parameter.push(b'\'');
    let command = b"\\encoding SQL_ASCII\n\\connect -reuse-previous=on ";
    Some([command, &quoting.name(&parameter)[..], b"\n"].concat())
}

fn is_plain_name(name: &[u8]) -> bool {
    let begins = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    name.first().is_some_and(|&first| begins(first)) && name.iter().all(|&byte| begins(byte) || byte.is_ascii_digit())
}

fn utf8_length(first: u8) -> usize {
    match first {
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf7 => 4,
        _ => 1,
    }
}

/// The words that are not names unless quoted, and the version since which: all keywords but the unreserved ones, as
/// `pg_get_keywords()` of each version tells.
static KEYWORDS: LazyLock<HashMap<&'static [u8], PgRestoreVersion>> = LazyLock::new(|| {
    [(PgRestoreVersion::V15, TO_15), (PgRestoreVersion::V16, IN_16), (PgRestoreVersion::V17, IN_17)]
        .into_iter()
        .flat_map(|(since, words)| words.split_ascii_whitespace().map(move |word| (word.as_bytes(), since)))
        .collect()
});

const TO_15: &str = "
  all analyse analyze and any array as asc asymmetric authorization between bigint binary bit boolean both case cast
  char character check coalesce collate collation column concurrently constraint create cross current_catalog
  current_date current_role current_schema current_time current_timestamp current_user dec decimal default deferrable
  desc distinct do else end except exists extract false fetch float for foreign freeze from full grant greatest group
  grouping having ilike in initially inner inout int integer intersect interval into is isnull join lateral leading
  least left like limit localtime localtimestamp national natural nchar none normalize not notnull null nullif numeric
  offset on only or order out outer overlaps overlay placing position precision primary real references returning
  right row select session_user setof similar smallint some substring symmetric table tablesample then time timestamp
  to trailing treat trim true union unique user using values varchar variadic verbose when where window with
  xmlattributes xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable
";
const IN_16: &str = "json_array json_arrayagg json_object json_objectagg system_user";
const IN_17: &str = "json json_exists json_query json_scalar json_serialize json_table json_value merge_action";

#[cfg(test)]
mod tests {
    use super::*;

    const UTF8: Quoting = Quoting { version: PgRestoreVersion::V15, utf8: true, standard_strings: true };

    #[test]
    fn a_name_is_quoted_only_where_it_has_to_be() {
        for (name, quoted) in [
            ("plain_1", "plain_1"),
            ("_x", "_x"),
            ("1x", "\"1x\""),
            ("Mixed", "\"Mixed\""),
            ("größe", "\"größe\""),
            ("", "\"\""),
            ("a\"b\\\n", "\"a\"\"b\\\n\""),
            ("select", "\"select\""),
            ("between", "\"between\""),
            ("data", "data"),
        ] {
            assert_eq!(UTF8.name(name.as_bytes()), quoted.as_bytes(), "{name}");
        }
        assert_eq!(UTF8.qualified_name(Some(b"s p"), b"user"), b"\"s p\".\"user\"");
        assert_eq!(UTF8.qualified_name(Some(b""), b"x"), b"x");
    }

    #[test]
    fn a_keyword_is_one_since_its_version() {
        let in_version = |version| Quoting { version, ..UTF8 };
        assert_eq!(in_version(PgRestoreVersion::V16).name(b"json"), b"json");
        assert_eq!(in_version(PgRestoreVersion::V17).name(b"json"), b"\"json\"");
        assert_eq!(in_version(PgRestoreVersion::V18).name(b"system_user"), b"\"system_user\"");
    }

    #[test]
    fn what_is_not_utf8_cannot_swallow_a_quote() {
        assert_eq!(UTF8.name(b"\xe2\"x"), b"\"\xc0 \"\"x\"");
        assert_eq!(UTF8.name(b"x\xc3"), b"\"x\xc0 \"");
        let latin1 = Quoting { utf8: false, ..UTF8 };
        assert_eq!(latin1.name(b"\xe2\"x"), b"\"\xe2\"\"x\"");
    }

    #[test]
    fn a_backslash_is_doubled_where_it_means_something() {
        assert_eq!(UTF8.literal(b"it's \\"), b"'it''s \\'");
        let old = Quoting { standard_strings: false, ..UTF8 };
        assert_eq!(old.literal(b"it's \\"), b"'it''s \\\\'");
    }

    #[test]
    fn a_database_is_connected_to_by_any_name_but_one_with_a_line_break() {
        let command = |name: &[u8]| connect_command(name, UTF8).map(|text| String::from_utf8_lossy(&text).into_owned());
        assert_eq!(command(b"store").as_deref(), Some("\\connect store\n"));
        assert_eq!(command(b"Store.1").as_deref(), Some("\\connect \"Store.1\"\n"));
        let complex = "\\encoding SQL_ASCII\n\\connect -reuse-previous=on \"dbname='my \"\"d\\'b\\\\'\"\n";
        assert_eq!(command(b"my \"d'b\\").as_deref(), Some(complex));
        assert_eq!(command(b"a\n\\! echo"), None);
    }
}
