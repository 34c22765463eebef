//! What psql makes of a script, as far as it has to be known where names and texts end.

/// Where psql is in a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Statement,
    Comment,
    /// In quotes of this kind.
    Quoted(u8),
}

/// Panics unless every backslash in the script is within quotes or a comment, or begins one of the commands that are to
/// be there, and every quote is closed. Statements of the archive's own must have none of either.
pub(crate) fn expect_confined(script: &[u8], key: &str) {
    let mut place = Place::Statement;
    // Set by the script before its first name.
    let mut standard_strings = false;
    let mut rest = script;
    while let Some((&byte, after)) = rest.split_first() {
        let mut next = after;
        place = match (place, byte) {
            (Place::Comment, b'\n') => Place::Statement,
            (Place::Comment, _) => Place::Comment,
            (Place::Quoted(b'\''), b'\\') if !standard_strings => {
                next = after.get(1..).unwrap_or_default();
                place
            }
            // A doubled quote ends the text and begins it again.
            (Place::Quoted(quote), _) if quote == byte => Place::Statement,
            (Place::Quoted(_), _) => place,
            (Place::Statement, b'-') if after.starts_with(b"-") => Place::Comment,
            (Place::Statement, b'\'' | b'"') => Place::Quoted(byte),
            (Place::Statement, b'\\') => {
                next = command(rest, key);
                Place::Statement
            }
            (Place::Statement, b'$') => panic!("a `$` outside of quotes: {}", shown(rest)),
            (Place::Statement, _) => {
                if rest.starts_with(b"standard_conforming_strings = on;") {
                    standard_strings = true;
                } else if rest.starts_with(b"standard_conforming_strings = off;") {
                    standard_strings = false;
                }
                Place::Statement
            }
        };
        rest = next;
    }
    assert_eq!(place, Place::Statement, "{}", shown(script));
}

/// Passes over a command that is to be there.
fn command<'a>(line: &'a [u8], key: &str) -> &'a [u8] {
    for fixed in [format!("\\restrict {key}\n"), format!("\\unrestrict {key}\n"), "\\encoding SQL_ASCII\n".into()] {
        if let Some(rest) = line.strip_prefix(fixed.as_bytes()) {
            return rest;
        }
    }
    let connect = line.strip_prefix(b"\\connect ").unwrap_or_else(|| panic!("a command: {}", shown(line)));
    let connect = connect.strip_prefix(b"-reuse-previous=on ").unwrap_or(connect);
    let end = connect.iter().position(|&byte| byte == b'\n').expect("a command ends with its line");
    let (name, rest) = connect.split_at(end);
    // psql ends an argument in quotes at the first single one, and takes no backslash in them for more.
    let inner = match name.strip_prefix(b"\"") {
        Some(quoted) => quoted.strip_suffix(b"\"").unwrap_or_else(|| panic!("an open quote: {}", shown(line))),
        None => {
            assert!(name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(byte)), "{}", shown(line));
            name
        }
    };
    assert!(doubled(inner), "{}", shown(line));
    rest
}

/// Whether quotes in a text come in pairs.
fn doubled(text: &[u8]) -> bool {
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        if *byte == b'"' && rest.next() != Some(&b'"') {
            return false;
        }
    }
    true
}

fn shown(text: &[u8]) -> String {
    text[..text.len().min(500)].escape_ascii().to_string()
}
