//! The source's IDs and what becomes of each.

use std::collections::HashMap;
use std::ops::Range;

use uuid::Uuid;

use super::finder::Finder;
use crate::instance_id::InstanceId;

/// What becomes of a source ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It stays as it is.
    Stays,
    /// It becomes this one.
    Becomes(InstanceId),
    /// Rows that name it are left out.
    LeftOut,
}

/// Every source ID, found by value or searched for within text.
#[derive(Debug)]
pub(crate) struct IdMap {
    ids: Vec<(InstanceId, Fate)>,
    uuids: HashMap<Uuid, usize>,
    texts: HashMap<Box<[u8]>, usize>,
    /// Searches for the IDs that do not stay, in every spelling; `None` when all stay.
    finder: Option<Finder>,
    /// For each pattern of `finder` the ID and how it is spelt.
    patterns: Vec<(usize, Spelling)>,
}

/// How an ID is written within text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// As everywhere.
    Plain,
    /// A UUID without its hyphens, as in some URLs and in the hexadecimal form of `bytea`.
    WithoutHyphens,
    /// The hexadecimal digits of the text's bytes, as in `bytea` that holds text.
    HexOfText,
}

/// An ID found within text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Occurrence {
    pub(crate) range: Range<usize>,
    pub(crate) id: usize,
    pub(crate) spelling: Spelling,
}

impl IdMap {
    pub(crate) fn new(ids: Vec<(InstanceId, Fate)>) -> Self {
        let (mut uuids, mut texts) = (HashMap::new(), HashMap::new());
        let (mut patterns, mut spellings) = (Vec::new(), Vec::new());
        for (index, (id, fate)) in ids.iter().enumerate() {
            match id.uuid() {
                Some(uuid) => drop(uuids.insert(uuid, index)),
                None => drop(texts.insert(id.as_str().as_bytes().into(), index)),
            }
            if *fate == Fate::Stays || *fate == Fate::Becomes(id.clone()) {
                continue;
            }
            let mut pattern = |text: String, spelling| {
                patterns.push((index, spelling));
                spellings.push(text);
            };
            pattern(id.as_str().to_owned(), Spelling::Plain);
            if let Some(uuid) = id.uuid() {
                pattern(uuid.simple().to_string(), Spelling::WithoutHyphens);
                pattern(hex(id.as_str()), Spelling::HexOfText);
            }
        }
        let finder = (!patterns.is_empty()).then(|| Finder::new(spellings));
        Self { ids, uuids, texts, finder, patterns }
    }

    /// How many IDs there are; each has an index below that.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn fate(&self, id: usize) -> &Fate {
        &self.ids[id].1
    }

    pub(crate) fn id(&self, id: usize) -> &InstanceId {
        &self.ids[id].0
    }

    /// The ID that `value` is, as a whole.
    pub(crate) fn lookup(&self, value: &[u8]) -> Option<usize> {
        const UUID_LENGTH: usize = 36;
        if value.len() == UUID_LENGTH
            && let Ok(uuid) = Uuid::try_parse_ascii(value)
        {
            return self.uuids.get(&uuid).copied();
        }
        self.texts.get(value).copied()
    }

    /// Whether `text` may hold an ID that does not stay.
    pub(crate) fn may_occur_in(&self, text: &[u8]) -> bool {
        self.finder.as_ref().is_some_and(|finder| finder.find_iter(text, |_, _| true).next().is_some())
    }

    /// The IDs that do not stay and occur within `text`, which is COPY text or plain.
    pub(crate) fn occurrences<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = Occurrence> + 'a {
        let stands_alone = move |pattern: usize, range: &Range<usize>| {
            let id = &self.ids[self.patterns[pattern].0].0;
            // A UUID is enough by itself. Other IDs are words, and their case counts.
            let is_it = id.uuid().is_some() || (text[range.clone()] == *id.as_str().as_bytes() && is_word(text, range));
            is_it && !starts_within_escape(text, range.start)
        };
        let matches = self.finder.iter().flat_map(move |finder| finder.find_iter(text, stands_alone));
        matches.map(move |(pattern, range)| {
            let (id, spelling) = self.patterns[pattern];
            Occurrence { range, id, spelling }
        })
    }

    /// What an occurrence becomes; `None` when it is not replaced.
    pub(crate) fn replacement(&self, id: usize, spelling: Spelling) -> Option<String> {
        let Fate::Becomes(target) = self.fate(id) else { return None };
        Some(match (spelling, target.uuid()) {
            (Spelling::WithoutHyphens, Some(uuid)) => uuid.simple().to_string(),
            (Spelling::HexOfText, _) => hex(target.as_str()),
            _ => target.as_str().to_owned(),
        })
    }
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the byte at `start` belongs to an escape of COPY text, as the `b` of `\b` does.
fn starts_within_escape(text: &[u8], start: usize) -> bool {
    backslashes_before(text, start) % 2 == 1
}

fn backslashes_before(text: &[u8], start: usize) -> usize {
    text[..start].iter().rev().take_while(|&&byte| byte == b'\\').count()
}

/// Whether no letter or digit precedes or follows. IDs that are not UUIDs can be
/// short: `acme` is not in `acmeism`.
fn is_word(text: &[u8], range: &Range<usize>) -> bool {
    let joined = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
    let before = range.start.checked_sub(1).is_some_and(|at| {
        // The letter of an escape such as `\n` is not a letter.
        joined(text[at]) && backslashes_before(text, at).is_multiple_of(2)
    });
    let after = text.get(range.end).is_some_and(|&byte| joined(byte));
    !before && !after
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "e10001eb-6272-453a-bb43-3dcf0e765892";
    const B: &str = "00000000-0000-0000-0000-001570184978";

    fn id(text: &str) -> InstanceId {
        text.parse().unwrap()
    }

    fn map() -> IdMap {
        IdMap::new(vec![
            (id(A), Fate::Becomes(id(B))),
            (id("acme"), Fate::Becomes(id("acme-2"))),
            (id("acme-old"), Fate::LeftOut),
            (id("same"), Fate::Stays),
        ])
    }

    fn found(text: &str) -> Vec<(usize, String)> {
        let map = map();
        map.occurrences(text.as_bytes()).map(|o| (o.id, text[o.range].to_owned())).collect()
    }

    #[test]
    fn a_value_is_looked_up_as_a_whole() {
        let map = map();
        assert_eq!(map.lookup(A.as_bytes()), Some(0));
        assert_eq!(map.lookup(A.to_uppercase().as_bytes()), Some(0));
        assert_eq!(map.lookup(b"acme"), Some(1));
        assert_eq!(map.lookup(b"Acme"), None);
        assert_eq!(map.lookup(B.as_bytes()), None);
        assert_eq!(map.lookup(b""), None);
    }

    #[test]
    fn uuids_are_found_in_every_spelling_and_anywhere() {
        let simple = A.replace('-', "");
        let hex = hex(A);
        let text = format!("https://x/{A}/y?z={} \\n{A} \\\\x{hex}", simple.to_uppercase());
        assert_eq!(found(&text).len(), 4);
        assert_eq!(map().replacement(0, Spelling::WithoutHyphens).unwrap(), B.replace('-', ""));
        assert_eq!(map().replacement(0, Spelling::HexOfText).unwrap(), super::hex(B));
    }

    #[test]
    fn other_ids_are_found_as_words_the_longest_one_first() {
        assert_eq!(
            found("acme, acmeism, xacme, /acme/ acme-old same"),
            [(1, "acme".into()), (1, "acme".into()), (2, "acme-old".into())]
        );
        assert_eq!(found("a\\nacme b\\\\nacme \\acme"), [(1, "acme".into())]);
        // Where the longest one is no word, a shorter one may be; and case counts.
        assert_eq!(found("acme-older Acme"), [(1, "acme".into())]);
    }
}
