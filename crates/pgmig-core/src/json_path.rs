//! A path into a JSON document, and where in the document's text it leads.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// The part of SQL/JSON paths that names instance IDs: `$`, then keys and array
/// wildcards, as in `$.owner.instance_id`, `$.members[*].id` or `$."a key"`.
///
/// It is written and means the same as PostgreSQL's `jsonpath` in lax mode,
/// except that it does not unwrap arrays by itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Step {
    Key(String),
    EveryElement,
}

/// A text that is not a path as [`JsonPath`] takes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a JSON path such as `$.owner.instance_id` or `$.members[*].id`")]
pub struct ParseJsonPathError(String);

impl FromStr for JsonPath {
    type Err = ParseJsonPathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_steps(text).map(|steps| Self { steps }).ok_or_else(|| ParseJsonPathError(text.to_owned()))
    }
}

fn parse_steps(text: &str) -> Option<Vec<Step>> {
    let mut rest = text.trim().strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("[*]") {
            steps.push(Step::EveryElement);
            rest = after;
            continue;
        }
        let key = rest.strip_prefix('.')?;
        let length = if key.starts_with('"') {
            // The first string of JSON in it is the key.
            let mut strings = serde_json::Deserializer::from_str(key).into_iter::<String>();
            steps.push(Step::Key(strings.next()?.ok()?));
            strings.byte_offset()
        } else {
            let length = key.find(['.', '[']).unwrap_or(key.len());
            let plain = length > 0 && key[..length].chars().all(|c| c.is_alphanumeric() || c == '_');
            steps.push(Step::Key(plain.then(|| key[..length].to_owned())?));
            length
        };
        rest = &key[length..];
    }
    Some(steps)
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("$")?;
        self.steps.iter().try_for_each(|step| match step {
            // Keys in quotes are right in every case, and JSON's escapes are jsonpath's too.
            Step::Key(key) if key.chars().all(|c| c.is_alphanumeric() || c == '_') => write!(f, ".{key}"),
            Step::Key(key) => write!(f, ".{}", serde_json::Value::from(key.as_str())),
            Step::EveryElement => f.write_str("[*]"),
        })
    }
}

impl Serialize for JsonPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for JsonPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonPath {
    /// The places of the strings that the path leads to, without their quotes,
    /// as byte ranges of `document`. Everything else in the document can then
    /// stay as it is: white space, the order of keys, repeated keys, the digits
    /// of numbers.
    ///
    /// # Errors
    ///
    /// When `document` is not JSON.
    pub fn strings(&self, document: &str) -> Result<Vec<Range<usize>>, serde_json::Error> {
        let mut found = Vec::new();
        let mut deserializer = serde_json::Deserializer::from_str(document);
        Walk { steps: &self.steps, base: document.as_ptr() as usize, found: &mut found }
            .deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(found)
    }
}

/// Follows the steps through one value.
struct Walk<'a> {
    steps: &'a [Step],
    /// The address of the document: raw values borrow from it, so that the
    /// difference of two addresses is a position.
    base: usize,
    found: &'a mut Vec<Range<usize>>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        if let Some((step, rest)) = self.steps.split_first() {
            let matches = match step {
                Step::Key(_) => raw.starts_with('{'),
                Step::EveryElement => raw.starts_with('['),
            };
            if matches {
                let walk = Descend { step, walk: Walk { steps: rest, ..self } };
                serde_json::Deserializer::from_str(raw).deserialize_any(walk).map_err(de::Error::custom)?;
            }
        } else if let Some(string) = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')) {
            let start = string.as_ptr() as usize - self.base;
            self.found.push(start..start + string.len());
        }
        Ok(())
    }
}

/// Takes one step into an object or an array.
struct Descend<'a> {
    step: &'a Step,
    walk: Walk<'a>,
}

impl<'de> Visitor<'de> for Descend<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Walk { steps, base, found } = self.walk;
        while let Some(key) = map.next_key::<String>()? {
            if matches!(self.step, Step::Key(wanted) if *wanted == key) {
                map.next_value_seed(Walk { steps, base, found })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Walk { steps, base, found } = self.walk;
        while seq.next_element_seed(Walk { steps, base, found })?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'d>(path: &str, document: &'d str) -> Vec<&'d str> {
        let ranges = path.parse::<JsonPath>().unwrap().strings(document).unwrap();
        ranges.into_iter().map(|range| &document[range]).collect()
    }

    #[test]
    fn keys_and_wildcards_lead_to_strings() {
        let document = r#" {"a": {"id": "x", "n": 1.50}, "a":{"id":"y"}, "m": [{"id":"p"}, {"id": 7}, {"id":"q"}]} "#;
        assert_eq!(found("$.a.id", document), ["x", "y"]);
        assert_eq!(found("$.m[*].id", document), ["p", "q"]);
        assert_eq!(found("$.a", document), [""; 0]);
        assert_eq!(found("$.m.id", document), [""; 0]);
        assert_eq!(found("$", "\"whole\""), ["whole"]);
        assert_eq!(found("$.\"a key\"[*]", r#"{"a key": ["1", ["2"], "3"]}"#), ["1", "3"]);
    }

    #[test]
    fn what_is_not_json_is_an_error() {
        let path: JsonPath = "$.a".parse().unwrap();
        for document in ["", "{", "{\"a\":1} x", "nope"] {
            assert!(path.strings(document).is_err(), "{document}");
        }
    }

    #[test]
    fn a_path_prints_as_it_is_written() {
        for text in ["$", "$.a.b_1[*].c", "$[*]", "$.\"a key\".ä"] {
            assert_eq!(text.parse::<JsonPath>().unwrap().to_string(), text);
        }
        for text in ["", "a", "$a", "$.", "$..a", "$.a[0]", "$.\"a", "$.a b"] {
            assert!(text.parse::<JsonPath>().is_err(), "{text}");
        }
    }
}
