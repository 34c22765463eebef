//! The entries of large objects, which versions before 1.16 have one by one.
//!
//! From 1.16 on a `BLOB METADATA` entry creates up to 1,000 large objects of one owner with the same rights: its
//! definition is their OIDs, each on a line. Before, a `BLOB` entry creates one by a statement
//! (`dumpLO` in `src/bin/pg_dump/pg_dump.c`).

use std::collections::HashMap;
use std::ops::RangeInclusive;

use super::TranscodeError;
use super::budget::Budget;
use crate::sql::{Token, Tokens};
use crate::toc::{Section, Toc, TocEntry};

/// The large objects of an archive, with a dump ID for the new entry of each.
pub(super) struct LargeObjects {
    /// By the dump ID of their `BLOB METADATA` entry.
    groups: HashMap<i32, Group>,
    /// The new dump ID of each, by OID.
    new_ids: HashMap<u32, i32>,
    /// The next dump ID that nothing has.
    next_id: Option<i32>,
    largest: i32,
}

struct Group {
    oids: Box<[u32]>,
    new_ids: RangeInclusive<i32>,
}

impl LargeObjects {
    /// Gives each large object of the archive a dump ID.
    pub(super) fn number(toc: &Toc) -> Result<Self, TranscodeError> {
        // Dependencies may name objects that the dump leaves out: these numbers are taken too.
        let ids = toc.entries().iter().flat_map(|entry| entry.dependencies().iter().copied().chain([entry.dump_id()]));
        let largest = ids.max().unwrap_or_default().max(0);
        let mut numbered =
            Self { groups: HashMap::new(), new_ids: HashMap::new(), next_id: largest.checked_add(1), largest };
        for entry in toc.of_type("BLOB METADATA") {
            numbered.number_group(entry)?;
        }
        Ok(numbered)
    }

    fn number_group(&mut self, entry: &TocEntry) -> Result<(), TranscodeError> {
        let oids: Box<[u32]> = oids_of(entry).ok_or_else(|| refused(entry, "its definition is not a list of OIDs"))?;
        let (mut first, mut last) = (None, 0);
        for &oid in &oids {
            let id = self.new_id()?;
            first = first.or(Some(id));
            last = id;
            if self.new_ids.insert(oid, id).is_some() {
                return Err(refused(entry, "another entry has one of its large objects too"));
            }
        }
        let new_ids = first.unwrap_or(1)..=last;
        self.groups.insert(entry.dump_id(), Group { oids, new_ids });
        Ok(())
    }

    fn new_id(&mut self) -> Result<i32, TranscodeError> {
        let id = self.next_id.ok_or(TranscodeError::DumpIds { largest: self.largest })?;
        self.next_id = id.checked_add(1);
        Ok(id)
    }

    /// Appends what stands for `entry` when it creates large objects, or is about some; false when it is another one.
    pub(super) fn expand(
        &mut self,
        entry: &TocEntry,
        budget: &mut Budget,
        out: &mut Vec<TocEntry>,
    ) -> Result<bool, TranscodeError> {
        if let Some(group) = self.groups.get(&entry.dump_id()) {
            for (oid, id) in group.oids.iter().zip(group.new_ids.clone()) {
                budget.charge(200 + entry.owner().map_or(0, <[u8]>::len))?;
                out.push(create(entry, *oid, id)?);
            }
            return Ok(true);
        }
        if !matches!(entry.description(), b"ACL" | b"COMMENT" | b"SECURITY LABEL") {
            return Ok(false);
        }
        if entry.tag().starts_with(b"LARGE OBJECTS ") {
            self.divide(entry, budget, out)?;
            return Ok(true);
        }
        let Some(oid) = entry.tag().strip_prefix(b"LARGE OBJECT ") else { return Ok(false) };
        // In an archive of before 1.16 it is as it should be.
        let Some(&id) = parse(oid).and_then(|oid: u32| self.new_ids.get(&oid)) else { return Ok(false) };
        let others = entry.dependencies().iter().copied().filter(|id| !self.groups.contains_key(id));
        let dependencies: Vec<i32> = others.chain([id]).collect();
        out.push(budget.take(entry.to_builder().relkind(None).dependencies(dependencies).build()?)?);
        Ok(true)
    }

    /// Divides an entry about several large objects, whose statements name the first one of them.
    fn divide(&mut self, entry: &TocEntry, budget: &mut Budget, out: &mut Vec<TocEntry>) -> Result<(), TranscodeError> {
        let group = entry.dependencies().iter().find_map(|id| self.groups.get(id));
        let group = group.ok_or_else(|| refused(entry, "it does not depend on an entry of large objects"))?;
        let (oids, new_ids) = (group.oids.clone(), group.new_ids.clone());
        let statements = Statements::of(entry)
            .ok_or_else(|| refused(entry, "its statements are not about the first one of its large objects"))?;
        for (oid, on) in oids.iter().zip(new_ids) {
            budget.charge(statements.length() + 100 + entry.owner().map_or(0, <[u8]>::len))?;
            let one = entry
                .to_builder()
                .dump_id(self.new_id()?)
                .relkind(None)
                .tag(format!("LARGE OBJECT {oid}"))
                .definition(statements.about(*oid))
                .dependencies([on]);
            out.push(one.build()?);
        }
        Ok(())
    }

    /// What another entry depends on, where that includes large objects that have new entries; `None` where not.
    pub(super) fn older_dependencies(
        &self,
        entry: &TocEntry,
        budget: &mut Budget,
    ) -> Result<Option<Vec<i32>>, TranscodeError> {
        if !entry.dependencies().iter().any(|id| self.groups.contains_key(id)) {
            return Ok(None);
        }
        let mut dependencies = Vec::new();
        for &id in entry.dependencies() {
            match self.groups.get(&id) {
                None => dependencies.push(id),
                // As pg_dump has it: what is in the section pre-data is restored before.
                Some(_) if entry.is_large_objects() => {}
                Some(group) => {
                    budget.charge(size_of_val(&*group.oids))?;
                    dependencies.extend(group.new_ids.clone());
                }
            }
        }
        Ok(Some(dependencies))
    }
}

/// The entry that creates one large object.
fn create(group: &TocEntry, oid: u32, dump_id: i32) -> Result<TocEntry, TranscodeError> {
    let entry = TocEntry::builder(dump_id, "BLOB", oid.to_string())
        .catalog_id(group.table_oid(), oid)
        .section(Section::PreData)
        .definition(format!("SELECT pg_catalog.lo_create('{oid}');\n"))
        .drop_statement(format!("SELECT pg_catalog.lo_unlink('{oid}');\n"))
        .owner(group.owner().unwrap_or_default());
    Ok(entry.build()?)
}

/// The statements of an entry, cut at the OID of its first large object.
struct Statements<'a> {
    parts: Vec<&'a [u8]>,
}

impl<'a> Statements<'a> {
    fn of(entry: &'a TocEntry) -> Option<Self> {
        // `LARGE OBJECTS 18028..18077`
        let range = entry.tag().strip_prefix(b"LARGE OBJECTS ")?;
        let digits = range.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let first: u32 = parse(&range[..digits])?;
        let definition = entry.definition()?;
        let (mut parts, mut rest) = (Vec::new(), definition);
        let mut tokens = Tokens::new(definition);
        loop {
            if tokens.keywords("LARGE OBJECT").is_none() {
                match tokens.next() {
                    Some(_) => continue,
                    None => break,
                }
            }
            // Names in quotes are one token, so this is no part of one.
            let Some(Token::Word(number)) = tokens.next() else { return None };
            if parse(number) != Some(first) {
                return None;
            }
            let end = definition.len() - tokens.rest().len();
            let begin = end - number.len();
            let cut = definition.len() - rest.len();
            parts.push(definition.get(cut..begin)?);
            rest = &definition[end..];
        }
        parts.push(rest);
        // Without a closing quote there would be more, unseen.
        (parts.len() > 1 && tokens.rest().is_empty()).then_some(Self { parts })
    }

    /// How long they can be.
    fn length(&self) -> usize {
        let oids = self.parts.len() * "4294967295".len();
        self.parts.iter().map(|part| part.len()).sum::<usize>() + oids
    }

    fn about(&self, oid: u32) -> Vec<u8> {
        self.parts.join(oid.to_string().as_bytes())
    }
}

/// The OIDs in the definition of a `BLOB METADATA` entry.
fn oids_of(entry: &TocEntry) -> Option<Box<[u32]>> {
    let lines = entry.definition()?.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| parse(line).filter(|&oid| oid != 0)).collect()
}

fn parse(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn refused(entry: &TocEntry, reason: &'static str) -> TranscodeError {
    TranscodeError::LargeObjects { entry: entry.to_string().into(), reason }
}
