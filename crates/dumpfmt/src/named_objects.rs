//! The large objects that a table of contents names, and which of them there are.
//!
//! From 1.12 on each large object has an entry `BLOB`; from 1.16 on an entry `BLOB METADATA` names several. pg_restore
//! creates those and fills what the data has, so that a damaged OID makes an empty object and a wrong one, without an error.

use std::collections::{HashMap, HashSet};

use crate::error::{Error, Result};
use crate::toc::{Toc, TocEntry};

/// The large objects of an archive, by OID.
#[derive(Debug)]
pub(crate) struct NamedObjects {
    /// Where each one was found. Empty for older archives, of which nothing can be told.
    objects: HashMap<u32, Option<Reading>>,
    /// Entries with the data of large objects that were not read to their end.
    unread: HashSet<i32>,
}

/// One reading of the large objects of an entry, which can be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) dump_id: i32,
    pub(crate) number: u32,
}

impl NamedObjects {
    pub(crate) fn of(toc: &Toc) -> Self {
        let with_data = |entry: &&TocEntry| entry.has_data() && entry.is_large_objects();
        let unread = toc.entries().iter().filter(with_data).map(TocEntry::dump_id).collect();
        Self { objects: oids(toc).map(|oid| (oid, None)).collect(), unread }
    }

    /// Notes that this one was found, and refuses one that cannot be.
    pub(crate) fn find(&mut self, oid: u32, reading: Reading, offset: u64) -> Result<()> {
        let names_none = self.objects.is_empty();
        match self.objects.get_mut(&oid) {
            Some(Some(found)) if *found == reading || found.dump_id != reading.dump_id => {
                Err(Error::corrupt(format!("large object {oid} is there twice"), offset))
            }
            Some(found) => {
                *found = Some(reading);
                Ok(())
            }
            None if names_none => Ok(()),
            None => Err(Error::corrupt(format!("the table of contents names no large object {oid}"), offset)),
        }
    }

    /// Notes that all objects of an entry were read. When it is the last one, refuses that an object is missing; `offset` is
    /// where the entry ends.
    pub(crate) fn end_entry(&mut self, dump_id: i32, offset: u64) -> Result<()> {
        if !self.unread.remove(&dump_id) || !self.unread.is_empty() {
            return Ok(());
        }
        let mut missing = self.objects.iter().filter(|(_, found)| found.is_none()).map(|(oid, _)| *oid);
        let Some(first) = missing.next() else { return Ok(()) };
        let (first, more) = missing.fold((first, 0), |(first, more), oid| (first.min(oid), more + 1));
        let others = if more == 0 { String::new() } else { format!(", nor are {more} more") };
        let text = format!("large object {first}, which the table of contents names, is not in the data{others}");
        Err(Error::corrupt(text, offset))
    }
}

/// The OIDs that the table of contents names.
pub(crate) fn oids(toc: &Toc) -> impl Iterator<Item = u32> {
    let single = toc.of_type("BLOB").filter_map(|entry| parse(entry.tag()));
    let groups = toc.of_type("BLOB METADATA").filter_map(TocEntry::definition);
    single.chain(groups.flat_map(|oids| oids.split(|&byte| byte == b'\n')).filter_map(parse))
}

/// Entries without those of these large objects: that each one exists, and who may use it.
pub(crate) fn without<'a>(entries: impl Iterator<Item = &'a TocEntry>, lost: &HashSet<u32>) -> Result<Vec<TocEntry>> {
    if lost.is_empty() {
        return Ok(entries.cloned().collect());
    }
    let is_lost = |oid: &[u8]| parse(oid).is_some_and(|oid| lost.contains(&oid));
    let mut kept = Vec::new();
    let mut empty_groups = HashSet::new();
    for entry in entries {
        let of_object = entry.tag().strip_prefix(b"LARGE OBJECT ").is_some_and(is_lost);
        let of_group = entry.dependencies().iter().any(|dump_id| empty_groups.contains(dump_id));
        match entry.description() {
            b"BLOB" if is_lost(entry.tag()) => {}
            b"ACL" | b"COMMENT" | b"SECURITY LABEL" if of_object || of_group => {}
            b"BLOB METADATA" => {
                let oids = entry.definition().unwrap_or_default();
                let rest: Vec<_> = oids.split_inclusive(|&byte| byte == b'\n').filter(|oid| !is_lost(oid)).collect();
                if rest.is_empty() {
                    empty_groups.insert(entry.dump_id());
                } else {
                    kept.push(entry.to_builder().definition(rest.concat()).build()?);
                }
            }
            _ => kept.push(entry.clone()),
        }
    }
    Ok(kept)
}

fn parse(oid: &[u8]) -> Option<u32> {
    std::str::from_utf8(oid).ok()?.trim().parse().ok()
}
