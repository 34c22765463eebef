//! Positions within the values of COPY text: elements of arrays, and the way
//! from a decoded value back to its escaped form.

use std::borrow::Cow;
use std::ops::Range;

use dumpfmt::Field;

/// The places of the elements of an array literal (`{a,"b c",{d,NULL}}`), quotes
/// left out. Elements with escapes in them are left out: no ID needs any.
pub(crate) fn array_elements(literal: &[u8]) -> Vec<Range<usize>> {
    let mut elements = Vec::new();
    // Bounds before the braces, as in `[0:1]={...}`, hold no elements.
    let mut at = memchr::memchr(b'{', literal).unwrap_or(literal.len());
    while let Some(&byte) = literal.get(at) {
        at += 1;
        match byte {
            b'{' | b'}' | b',' => {}
            b'"' => {
                let start = at;
                let mut escaped = false;
                while let Some(&byte) = literal.get(at).filter(|&&byte| byte != b'"') {
                    escaped |= byte == b'\\';
                    at += if byte == b'\\' { 2 } else { 1 };
                }
                let end = at.min(literal.len());
                if !escaped {
                    elements.push(start..end);
                }
                at += 1;
            }
            _ => {
                let start = at - 1;
                let rest = &literal[start..];
                at = start + rest.iter().position(|byte| matches!(byte, b',' | b'}')).unwrap_or(rest.len());
                elements.push(start..at);
            }
        }
    }
    elements
}

/// Finds places in the decoded value of `field` by `find`, and returns them as
/// places in its raw bytes. `None` when the field uses escapes that pg_dump does
/// not write, so that a place cannot be carried over; `find`'s error otherwise.
pub(crate) fn locate<E>(
    field: Field<'_>,
    find: impl FnOnce(&[u8]) -> Result<Vec<Range<usize>>, E>,
) -> Result<Option<Vec<Range<usize>>>, E> {
    let raw = field.raw();
    let value = match field.decode() {
        None => return Ok(Some(Vec::new())),
        Some(Cow::Borrowed(value)) => return find(value).map(Some),
        Some(Cow::Owned(value)) => value,
    };
    let mut places = Vec::new();
    let (mut raw_at, mut value_at) = (0, 0);
    let mut found = find(&value)?;
    found.sort_by_key(|range| range.start);
    for range in found {
        while value_at < range.start && raw_at < raw.len() {
            raw_at += if raw[raw_at] == b'\\' { 2 } else { 1 };
            value_at += 1;
        }
        let place = raw_at..raw_at + range.len();
        // Whatever holds an escape is no ID; where the counting went wrong, neither is it.
        match raw.get(place.clone()) {
            Some(bytes) if bytes == &value[range.clone()] => places.push(place),
            _ if memchr::memchr(b'\\', &value[range.clone()]).is_none() && !has_control(&value[range]) => {
                return Ok(None);
            }
            _ => {}
        }
    }
    Ok(Some(places))
}

fn has_control(bytes: &[u8]) -> bool {
    bytes.iter().any(u8::is_ascii_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(literal: &str) -> Vec<&str> {
        array_elements(literal.as_bytes()).into_iter().map(|range| &literal[range]).collect()
    }

    #[test]
    fn elements_are_found_in_every_array_literal() {
        assert_eq!(elements("{a,b}"), ["a", "b"]);
        assert_eq!(elements("{}"), [""; 0]);
        assert_eq!(elements(r#"{"a b",NULL,"","x\"y","c,d"}"#), ["a b", "NULL", "", "c,d"]);
        assert_eq!(elements("[0:1]={{a,b},{c,d}}"), ["a", "b", "c", "d"]);
        assert_eq!(elements(r#"{"open"#), ["open"]);
        assert_eq!(elements(r#"{"\"#), [""; 0]);
        assert_eq!(elements("no array"), [""; 0]);
    }

    #[test]
    fn places_are_carried_over_escapes() {
        let raw = br#"{"x\\"y","a\tb",id}"#;
        let places = locate(Field::new(raw), |value| Ok::<_, ()>(array_elements(value))).unwrap().unwrap();
        let texts: Vec<_> = places.into_iter().map(|range| &raw[range]).collect();
        assert_eq!(texts, [b"id"]);
        // `\x41` is one byte of four, which pg_dump never writes.
        assert_eq!(locate(Field::new(br"{\x41,id}"), |value| Ok::<_, ()>(array_elements(value))), Ok(None));
    }
}
