//! Repairing archives that are cut, damaged, or within a log.
#![allow(missing_docs)]

mod common;

use std::collections::HashMap;
use std::io::{Cursor, Read};

use common::Data;
use dumpfmt::repair::{LossKind, RepairOptions, RepairPlan, find_archive, undo_crlf};
use dumpfmt::{ArchiveReader, Block, Compression, CompressionSpecification, WriteOptions};

/// Tables of one column, one of them empty, and large objects.
fn small() -> Data {
    Data {
        tables: vec![
            b"one\ntwo\nthree\n".to_vec(),
            vec![],
            b"red\ngreen\n".to_vec(),
            (0..40).flat_map(|n: u32| format!("row {}\n", n.wrapping_mul(2_654_435_761)).into_bytes()).collect(),
        ],
        large_objects: vec![(16400, b"first object".to_vec()), (16401, vec![]), (4_000_000_000, vec![7; 60])],
    }
}

fn compressions() -> impl Iterator<Item = CompressionSpecification> {
    let all = [Compression::None, Compression::Gzip, Compression::Lz4, Compression::Zstd];
    // Without zstd where it is not built in.
    all.into_iter().filter_map(|compression| CompressionSpecification::new(compression).ok())
}

fn options(compression: CompressionSpecification) -> WriteOptions {
    WriteOptions::new(compression).threads(1)
}

fn plan(archive: &[u8]) -> dumpfmt::Result<RepairPlan> {
    RepairPlan::of(&mut Cursor::new(archive), &RepairOptions::default(), |_| {})
}

fn write(plan: &RepairPlan, archive: &[u8]) -> Vec<u8> {
    let options = WriteOptions::like(plan.header()).threads(1);
    plan.to_file(&mut Cursor::new(archive), Cursor::new(Vec::new()), &options, |_| {}).unwrap().into_inner()
}

/// What each block of a good archive holds, in bytes for comparing, and where it ends.
fn contents(archive: &[u8]) -> HashMap<i32, (Vec<u8>, u64)> {
    let mut reader = ArchiveReader::new(archive).unwrap();
    let mut contents = HashMap::new();
    while let Some(block) = reader.next_block().unwrap() {
        let dump_id = block.entry().dump_id();
        let mut bytes = Vec::new();
        match block {
            Block::Data(mut data) => drop(data.read_to_end(&mut bytes).unwrap()),
            Block::LargeObjects(mut objects) => {
                while let Some(mut object) = objects.next_object().unwrap() {
                    bytes.extend(object.oid().to_le_bytes());
                    object.read_to_end(&mut bytes).unwrap();
                }
            }
        }
        contents.insert(dump_id, (bytes, reader.position()));
    }
    contents
}

/// Repairs what was damaged and expects that the result verifies and holds nothing but what was in `before`.
/// Returns the dump IDs of what is kept whole.
fn repair(damaged: &[u8], before: &HashMap<i32, (Vec<u8>, u64)>) -> (RepairPlan, Vec<i32>) {
    let plan = plan(damaged).unwrap();
    let repaired = write(&plan, damaged);
    let verified = ArchiveReader::new(&repaired[..]).unwrap().verify(|_| {}).unwrap();
    assert_eq!(verified.len(), plan.recovered().len());
    let after = contents(&repaired);
    let mut whole = Vec::new();
    for entry in plan.recovered() {
        let (bytes, original) = (&after[&entry.dump_id].0, &before[&entry.dump_id].0);
        match entry.missing {
            None => {
                assert_eq!(bytes, original, "dump ID {}", entry.dump_id);
                whole.push(entry.dump_id);
            }
            Some(_) => {
                assert!(original.starts_with(bytes) && bytes.len() < original.len() || entry.large_objects.is_some())
            }
        }
    }
    whole.sort_unstable();
    let named = whole.len() + plan.lost().len() + plan.recovered().iter().filter(|e| e.missing.is_some()).count();
    assert_eq!(named, before.len(), "each entry is either kept or named");
    assert_eq!(plan.is_whole(), plan.lost().is_empty() && plan.damage().is_empty() && whole.len() == before.len());
    (plan, whole)
}

#[test]
fn an_archive_that_is_cut_at_any_byte_keeps_exactly_what_is_whole_before_it() {
    for compression in compressions() {
        for archive in [small().piped(&options(compression)), small().seekable(&options(compression))] {
            let before = contents(&archive);
            let data_start = ArchiveReader::new(&archive[..]).unwrap().position() as usize;
            for length in data_start..=archive.len() {
                let (plan, whole) = repair(&archive[..length], &before);
                let mut expected: Vec<i32> =
                    before.iter().filter(|(_, (_, end))| *end <= length as u64).map(|(id, _)| *id).collect();
                expected.sort_unstable();
                assert_eq!(whole, expected, "{compression}, cut at {length}");
                assert!(plan.damage().is_empty(), "{compression}, cut at {length}: {:?}", plan.damage());
                for lost in plan.lost() {
                    assert_eq!(lost.loss.kind, LossKind::Cut, "{compression}, cut at {length}: {lost}");
                    assert!(lost.loss.position <= length as u64);
                }
                assert_eq!(plan.toc().entries().len(), plan.recovered().len() + 1, "the definitions stay");
            }
        }
    }
}

#[test]
fn an_archive_that_is_cut_in_its_contents_cannot_be_repaired() {
    let archive = small().piped(&options(CompressionSpecification::GZIP));
    let data_start = ArchiveReader::new(&archive[..]).unwrap().position() as usize;
    for length in 0..data_start {
        plan(&archive[..length]).unwrap_err();
    }
    let error = plan(&archive[..data_start - 1]).unwrap_err();
    assert!(error.to_string().contains("table of contents"), "{error}");
}

#[test]
fn whole_large_objects_of_a_cut_block_are_kept() {
    let archive = small().piped(&options(CompressionSpecification::GZIP));
    let plan = plan(&archive[..archive.len() - 12]).unwrap();
    let objects = plan.recovered().iter().find(|entry| entry.dump_id == 1000).unwrap();
    assert_eq!(objects.large_objects, Some(2));
    assert_eq!(objects.missing.as_ref().unwrap().kind, LossKind::Cut);
    let repaired = Data::read(&write(&plan, &archive[..archive.len() - 12])).unwrap();
    assert_eq!(repaired.large_objects, small().large_objects[..2]);
    assert_eq!(repaired.tables, small().tables);
}

#[test]
fn rows_before_a_cut_are_kept_when_asked_for_and_never_more_than_there_were() {
    let data = small();
    for compression in compressions() {
        let archive = data.piped(&options(compression));
        let before = contents(&archive);
        let (begin, end) = (before[&4].1 as usize, before[&5].1 as usize);
        let mut most = 0;
        for length in begin..end {
            for text in [&b""[..], b"command terminated with exit code 137\nbye\n"] {
                let cut = [&archive[..length], text].concat();
                let mut options = RepairOptions::default();
                options.partial_rows = true;
                let plan = RepairPlan::of(&mut Cursor::new(&cut), &options, |_| {}).unwrap();
                let Some(part) = plan.recovered().iter().find(|entry| entry.dump_id == 5) else { continue };
                assert_eq!(part.missing.as_ref().unwrap().kind, LossKind::Cut);
                let repaired = Data::read(&write(&plan, &cut)).unwrap();
                let rows = repaired.tables.last().unwrap();
                assert!(data.tables[3].starts_with(rows) && rows.ends_with(b"\n"), "{compression}, {length}");
                assert_eq!(part.rows, Some(rows.iter().filter(|&&byte| byte == b'\n').count() as u64));
                most = most.max(rows.len());
            }
        }
        // These archives have one chunk for all rows; that of no other chunk is known to be whole.
        assert!(most <= data.tables[3].len());
    }
}

/// Dump IDs of the entries that a flipped bit at this byte may cost: those whose block it is in.
fn flips(compression: CompressionSpecification, archive: &[u8], allow: usize) {
    let before = contents(archive);
    let data_start = ArchiveReader::new(archive).unwrap().position() as usize;
    for position in data_start..archive.len() {
        // Every byte; a bit of each value.
        for bit in [position % 8] {
            let mut damaged = archive.to_vec();
            damaged[position] ^= 1 << bit;
            let plan = plan(&damaged).unwrap();
            let repaired = write(&plan, &damaged);
            ArchiveReader::new(&repaired[..]).unwrap().verify(|_| {}).unwrap();
            let after = contents(&repaired);
            let same = |after: &HashMap<i32, (Vec<u8>, u64)>, before: &HashMap<i32, (Vec<u8>, u64)>, id| {
                after.get(&id).map(|(bytes, _)| bytes) == before.get(&id).map(|(bytes, _)| bytes)
            };
            let whole: Vec<i32> =
                plan.recovered().iter().filter(|entry| entry.missing.is_none()).map(|entry| entry.dump_id).collect();
            assert!(
                whole.len() + allow >= before.len(),
                "{compression}, bit {bit} of {position}: {whole:?}, {:?}, {:?}",
                plan.lost(),
                plan.damage()
            );
            let differing = whole.iter().filter(|id| after[*id].0 != before[*id].0).count();
            // Only a checksum tells a changed bit within the data, and none covers the OID of a large object.
            let checked = compression.algorithm() == Compression::Gzip && same(&after, &before, 1000);
            let tolerated = usize::from(!checked);
            assert!(differing <= tolerated, "{compression}, bit {bit} of {position}: {:?}", plan.recovered());
            for id in &whole {
                let begin = before.values().map(|(_, end)| *end).filter(|end| *end < before[id].1).max();
                let begin = begin.unwrap_or(data_start as u64);
                let is_hit = (begin..before[id].1).contains(&(position as u64));
                assert!(
                    after[id].0 == before[id].0 || is_hit,
                    "{compression}, bit {bit} of {position}: wrong data in {id}"
                );
            }
        }
    }
}

#[test]
fn a_flipped_bit_costs_no_more_than_the_block_that_it_is_in() {
    for compression in compressions() {
        flips(compression, &small().piped(&options(compression)), 1);
        flips(compression, &small().seekable(&options(compression)), 1);
    }
}
