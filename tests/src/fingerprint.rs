//! A checksum of everything in a database.

use std::{collections::BTreeMap, fmt};

use crate::Server;

/// Everything in a database that a restore could change, as one line for each thing: the rows of each
/// table, sequences, large objects, definitions, and the switches of triggers and constraints.
///
/// Two databases with the same contents have the same fingerprint, whatever the order of their rows
/// and the OIDs of anything but large objects.
#[derive(Clone, PartialEq, Eq)]
pub struct Fingerprint {
    facts: BTreeMap<String, String>,
}

impl Fingerprint {
    /// Takes the fingerprint of a database, at one moment in time.
    ///
    /// # Panics
    ///
    /// When the database cannot be read.
    pub fn of(server: &Server, database: &str) -> Self {
        let answer = server.psql(database, include_str!("fingerprint.sql"));
        let facts = answer
            .lines()
            .map(|line| {
                serde_json::from_str::<(String, String)>(line)
                    .unwrap_or_else(|why| panic!("the fingerprint query answered `{line}`: {why}"))
            })
            .collect();
        Self { facts }
    }

    /// Only what `pg_dump` calls data: rows, sequences, large objects and materialized views. It can be
    /// compared between major versions, which word their definitions differently.
    #[must_use]
    pub fn data(&self) -> Self {
        let kinds = ["rows ", "sequence ", "large object ", "materialized view "];
        let facts = self.facts.iter().filter(|(what, _)| kinds.iter().any(|kind| what.starts_with(kind)));
        Self { facts: facts.map(|(what, value)| (what.clone(), value.clone())).collect() }
    }

    /// Without what is told of the things whose description contains `part`, for example `rows public.schema_info`.
    #[must_use]
    pub fn without(&self, part: &str) -> Self {
        let facts = self.facts.iter().filter(|(what, _)| !what.contains(part));
        Self { facts: facts.map(|(what, value)| (what.clone(), value.clone())).collect() }
    }

    /// What differs, a line for each thing; empty when nothing does.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (what, before) in &self.facts {
            match other.facts.get(what) {
                None => lines.push(format!("{what}: was {before}, is gone")),
                Some(after) if after != before => lines.push(format!("{what}: was {before}, is {after}")),
                Some(_) => {}
            }
        }
        let added = other.facts.iter().filter(|(what, _)| !self.facts.contains_key(*what));
        lines.extend(added.map(|(what, after)| format!("{what}: is new, {after}")));
        lines
    }

    /// Panics with the names of all that differs.
    ///
    /// # Panics
    ///
    /// When anything does.
    #[track_caller]
    pub fn assert_same(&self, after: &Self) {
        let lines = self.differences(after);
        assert!(lines.is_empty(), "the database has changed:\n  {}", lines.join("\n  "));
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.facts).finish()
    }
}
