//! Searching text for many IDs at once.

use std::collections::HashMap;
use std::ops::Range;

/// How many bytes of a window are looked at first.
const BLOCK: usize = 4;
const HASH_BITS: u32 = 16;

/// Searches for patterns, upper and lower case alike, by the method of Wu and Manber: most of the
/// text is passed over in steps of nearly the length of the shortest pattern, 32 bytes for UUIDs.
/// Dumps are full of UUIDs that are not searched for, and of text; an automaton would have to look
/// at every byte of both.
#[derive(Debug)]
pub(super) struct Finder {
    patterns: Vec<Box<[u8]>>,
    /// The length of the shortest pattern, which is that of the window.
    window: usize,
    /// How far the window may move on, by the hash of its last block: to where this block is in a
    /// pattern; 0 where it is at the end of a pattern's first `window` bytes.
    steps: Box<[u8]>,
    /// The patterns to which a step of 0 belongs, by the same hash, the longest first.
    ending: HashMap<u16, Vec<usize>>,
}

impl Finder {
    /// A search for these, none of them empty.
    pub(super) fn new(patterns: impl IntoIterator<Item = String>) -> Self {
        let patterns: Vec<Box<[u8]>> = patterns.into_iter().map(|text| text.into_bytes().into()).collect();
        let window = patterns.iter().map(|pattern| pattern.len()).min().unwrap_or(1);
        let block = window.min(BLOCK);
        let step = |bytes: usize| u8::try_from(bytes).unwrap_or(u8::MAX);
        let mut steps = vec![step(window - block + 1); 1 << HASH_BITS].into_boxed_slice();
        let mut ending: HashMap<u16, Vec<usize>> = HashMap::new();
        for (index, pattern) in patterns.iter().enumerate() {
            for end in block..=window {
                let known = &mut steps[usize::from(hash(&pattern[..end]))];
                *known = step(window - end).min(*known);
            }
            ending.entry(hash(&pattern[..window])).or_default().push(index);
        }
        for indexes in ending.values_mut() {
            // Of equal ones the first stays first.
            indexes.sort_by_key(|&index| std::cmp::Reverse(patterns[index].len()));
        }
        Self { patterns, window, steps, ending }
    }

    /// The matches that `accept` takes, from left to right, none overlapping another: the index of
    /// the pattern, and where it is. Of several at one place the longest is the match, so that an
    /// ID which another one begins with is not taken for it.
    pub(super) fn find_iter<'a>(
        &'a self,
        text: &'a [u8],
        accept: impl Fn(usize, &Range<usize>) -> bool + 'a,
    ) -> impl Iterator<Item = (usize, Range<usize>)> + 'a {
        let mut start = 0;
        std::iter::from_fn(move || {
            loop {
                let hash = hash(text.get(start..start + self.window)?);
                match self.steps[usize::from(hash)] {
                    0 => {
                        if let Some((pattern, range)) = self.match_at(text, start, hash, &accept) {
                            start = range.end;
                            return Some((pattern, range));
                        }
                        start += 1;
                    }
                    step => start += usize::from(step),
                }
            }
        })
    }

    fn match_at(
        &self,
        text: &[u8],
        start: usize,
        hash: u16,
        accept: &impl Fn(usize, &Range<usize>) -> bool,
    ) -> Option<(usize, Range<usize>)> {
        let candidates = self.ending.get(&hash)?.iter().map(|&index| {
            let length = self.patterns[index].len();
            (index, start..start + length)
        });
        let equals = |index: usize, range: &Range<usize>| {
            text.get(range.clone()).is_some_and(|text| text.eq_ignore_ascii_case(&self.patterns[index]))
        };
        candidates.into_iter().find(|(index, range)| equals(*index, range) && accept(*index, range))
    }
}

/// The hash of the last block, the same for upper and lower case.
fn hash(window: &[u8]) -> u16 {
    const LOWER: u32 = u32::from_ne_bytes([b' '; BLOCK]);
    let block = match window.last_chunk::<BLOCK>() {
        Some(block) => u32::from_le_bytes(*block),
        None => window.iter().fold(0, |block, &byte| block << 8 | u32::from(byte)),
    };
    ((block | LOWER).wrapping_mul(0x9e37_79b1) >> (u32::BITS - HASH_BITS)) as u16
}

#[cfg(test)]
mod tests {
    use aho_corasick::{AhoCorasick, MatchKind};
    use proptest::prelude::*;

    use super::*;

    /// What an automaton finds.
    fn expected(patterns: &[String], text: &[u8]) -> Vec<(usize, Range<usize>)> {
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::LeftmostLongest)
            .build(patterns)
            .unwrap();
        automaton.find_iter(text).map(|found| (found.pattern().as_usize(), found.range())).collect()
    }

    fn check(patterns: &[String], text: &[u8]) {
        let found: Vec<_> = Finder::new(patterns.to_vec()).find_iter(text, |_, _| true).collect();
        assert_eq!(found, expected(patterns, text), "{patterns:?} in {:?}", String::from_utf8_lossy(text));
    }

    #[test]
    fn ids_are_found_wherever_they_begin() {
        const ID: &str = "e10001eb-6272-453a-bb43-3dcf0e765892";
        let simple = ID.replace('-', "");
        let patterns = [ID.to_owned(), simple.clone(), format!("{ID}{ID}")];
        let text = format!("{ID}{ID}0-{ID} {simple}{} {{\"id\": \"{}\"}} {}", ID.to_uppercase(), ID, &ID[1..]);
        for start in 0..text.len() {
            check(&patterns, &text.as_bytes()[start..]);
            check(&patterns, &text.as_bytes()[..start]);
        }
    }

    proptest! {
        /// Of few letters, so that patterns overlap and begin with one another.
        #[test]
        fn an_automaton_finds_the_same(
            patterns in prop::collection::vec("[abAB]{1,7}|[abc-]{5,12}", 1..6),
            text in "[abcAB-]{0,80}",
        ) {
            check(&patterns, text.as_bytes());
        }

        #[test]
        fn long_ones_are_no_different(
            patterns in prop::collection::vec("[ab]{250,300}", 1..3),
            before in "[abc]{0,300}",
        ) {
            check(&patterns, format!("{before}{}{before}{}", patterns[0], patterns[0].to_uppercase()).as_bytes());
        }
    }
}
