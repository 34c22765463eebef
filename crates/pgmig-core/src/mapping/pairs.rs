//! The pairs of a mapping by themselves, for data without a list of tenants.

use serde::Serialize;

use super::MappingEntry;
use crate::instance_id::InstanceId;
use crate::remap::{Fate, IdMap};

/// How the IDs of a mapping occur in ID columns. Without a list of tenants nothing else shows that one was mistyped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PairUse {
    /// Sources that occur nowhere, so that nothing became their targets'.
    pub sources_not_found: Vec<InstanceId>,
    /// Targets that own data already, so that two owners become one.
    pub targets_in_use: Vec<TargetInUse>,
}

/// A target ID that the data had before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TargetInUse {
    /// The ID.
    pub id: InstanceId,
    /// In how many values of ID columns it was.
    pub values: u64,
}

/// What becomes of the IDs that the pairs name; targets stay, so that they are counted.
pub(crate) fn id_map(entries: &[MappingEntry]) -> IdMap {
    let becomes = entries.iter().map(|entry| (entry.source.clone(), Fate::Becomes(entry.target.clone())));
    let stays = entries.iter().map(|entry| &entry.target).filter(|target| !is_source(entries, target));
    IdMap::new(becomes.chain(stays.map(|target| (target.clone(), Fate::Stays))).collect())
}

impl PairUse {
    /// `counts` are the values of ID columns by the index of the ID in `ids`.
    pub(crate) fn of(entries: &[MappingEntry], ids: &IdMap, counts: &[u64]) -> Self {
        let count = |id: &InstanceId| {
            ids.lookup(id.as_str().as_bytes()).and_then(|id| counts.get(id)).copied().unwrap_or_default()
        };
        let sources = entries.iter().map(|entry| &entry.source);
        let targets = entries.iter().map(|entry| &entry.target).filter(|target| !is_source(entries, target));
        Self {
            sources_not_found: sources.filter(|id| count(id) == 0).cloned().collect(),
            targets_in_use: targets
                .map(|id| TargetInUse { id: id.clone(), values: count(id) })
                .filter(|target| target.values > 0)
                .collect(),
        }
    }

    /// For people: what is odd about it.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let missing = self.sources_not_found.iter().map(|id| {
            format!("`{id}` is mapped, but owns nothing in this dump: is it mistyped, or the dump of another database?")
        });
        let merged = self.targets_in_use.iter().map(|TargetInUse { id, values }| {
            format!("the target `{id}` owns data of this dump already ({values} values): two owners become one")
        });
        missing.chain(merged).collect()
    }
}

fn is_source(entries: &[MappingEntry], id: &InstanceId) -> bool {
    entries.iter().any(|entry| entry.source == *id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(pairs: &[(&str, &str)]) -> Vec<MappingEntry> {
        let id = |text: &str| text.parse().expect("an ID");
        pairs.iter().map(|(source, target)| MappingEntry { source: id(source), target: id(target) }).collect()
    }

    #[test]
    fn a_source_that_is_nowhere_and_a_target_that_is_there_are_told() {
        let entries = entries(&[("a", "b"), ("b", "a"), ("c", "d"), ("e", "f")]);
        let ids = id_map(&entries);
        let mut counts = vec![0; 6];
        for (id, count) in [("a", 1), ("b", 2), ("e", 3), ("f", 4)] {
            counts[ids.lookup(id.as_bytes()).expect("it is known")] = count;
        }
        let found = PairUse::of(&entries, &ids, &counts);
        assert_eq!(found.sources_not_found, ["c".parse().expect("an ID")]);
        // `a` and `b` change places, and share nothing.
        assert_eq!(found.targets_in_use, [TargetInUse { id: "f".parse().expect("an ID"), values: 4 }]);
        assert_eq!(found.warnings().len(), 2);
        assert_eq!(PairUse::of(&entries, &ids, &[]).sources_not_found.len(), 4);
    }
}
