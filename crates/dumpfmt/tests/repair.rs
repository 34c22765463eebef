//! Repairing archives that are cut, damaged, or within a log.

use std::collections::HashMap;
use std::io::{Cursor, Read};

use crate::data::{Data, header};
use dumpfmt::repair::{LossKind, MemberPlan, RepairOptions, RepairPlan, find_archive, undo_crlf};
use dumpfmt::{
    ArchiveReader, ArchiveWriter, Block, Compression, CompressionSpecification, Section, Toc, TocEntry, WriteOptions,
};

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

/// With an entry for each large object, as pg_dump has it.
fn contents_of(data: &Data) -> Toc {
    let objects = data.large_objects.iter().zip(2000..).map(|((oid, _), dump_id)| {
        TocEntry::builder(dump_id, "BLOB", oid.to_string()).catalog_id(2613, *oid).build().unwrap()
    });
    Toc::new(data.toc().entries().iter().cloned().chain(objects).collect()).unwrap()
}

fn piped(data: &Data, compression: CompressionSpecification) -> Vec<u8> {
    let archive = ArchiveWriter::to_pipe(Vec::new(), &header(), contents_of(data), &options(compression)).unwrap();
    data.write(archive).unwrap().finish().unwrap()
}

fn seekable(data: &Data, compression: CompressionSpecification) -> Vec<u8> {
    let file = Cursor::new(Vec::new());
    let archive = ArchiveWriter::to_file(file, &header(), contents_of(data), &options(compression)).unwrap();
    data.write(archive).unwrap().finish().unwrap().into_inner()
}

/// Archives with all compressions; with positions those that tell the most.
fn archives() -> impl Iterator<Item = (CompressionSpecification, Vec<u8>)> {
    let with_positions = [CompressionSpecification::NONE, CompressionSpecification::GZIP];
    let with_positions = with_positions.map(|compression| (compression, seekable(&small(), compression)));
    compressions().map(|compression| (compression, piped(&small(), compression))).chain(with_positions)
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
                assert!(original.starts_with(bytes) && bytes.len() < original.len() || entry.large_objects.is_some());
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
    for (compression, archive) in archives() {
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
            let named = 4 - plan.lost_large_objects().len();
            assert_eq!(plan.toc().entries().len(), plan.recovered().len() + named, "the other definitions stay");
        }
    }
}

#[test]
fn an_archive_that_is_cut_in_its_contents_cannot_be_repaired() {
    let archive = piped(&small(), CompressionSpecification::GZIP);
    let data_start = ArchiveReader::new(&archive[..]).unwrap().position() as usize;
    for length in 0..data_start {
        plan(&archive[..length]).unwrap_err();
    }
    let error = plan(&archive[..data_start - 1]).unwrap_err();
    assert!(error.to_string().contains("table of contents"), "{error}");
}

#[test]
fn whole_large_objects_of_a_cut_block_are_kept() {
    let archive = piped(&small(), CompressionSpecification::GZIP);
    let plan = plan(&archive[..archive.len() - 12]).unwrap();
    let objects = plan.recovered().iter().find(|entry| entry.dump_id == 1000).unwrap();
    assert_eq!(objects.large_objects, Some(2));
    assert_eq!(objects.missing.as_ref().unwrap().kind, LossKind::Cut);
    assert_eq!(plan.lost_large_objects(), [4_000_000_000]);
    assert!(plan.toc().of_type("BLOB").all(|entry| entry.tag() != b"4000000000"), "it would be created empty");
    let repaired = Data::read(&write(&plan, &archive[..archive.len() - 12])).unwrap();
    assert_eq!(repaired.large_objects, small().large_objects[..2]);
    assert_eq!(repaired.tables, small().tables);
}

#[test]
fn rows_before_a_cut_are_kept_when_asked_for_and_never_more_than_there_were() {
    let data = small();
    for compression in compressions() {
        let archive = piped(&data, compression);
        let before = contents(&archive);
        let (begin, end) = (before[&4].1 as usize, before[&5].1 as usize);
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
            }
        }
    }
}

#[test]
fn of_a_cut_table_the_rows_are_kept_whose_chunks_are_followed_by_another_one() {
    // A chunk for each row, as pg_dump writes them.
    let mut builder = dumpfmt::example::Builder::new(16, 0);
    builder
        .entry(1, 1, false, [Some("ENCODING"), Some("ENCODING"), Some("SET x;\n"), None, None])
        .entry(2, 3, true, [Some("a"), Some("TABLE DATA"), None, None, Some("COPY public.t (a) FROM stdin;\n")])
        .data(2, &[b"one\n", b"two\n", b"three\n", b"\\.\n\n\n"]);
    let archive = builder.build();
    let third = archive.windows(6).position(|window| window == b"three\n").unwrap();
    let mut options = RepairOptions::default();
    options.partial_rows = true;
    // Within the third row, and with the text of a log in its place, which is as long.
    for rest in [&b"th"[..], b"exit 1\nbye\n"] {
        let cut = [&archive[..third], rest].concat();
        assert_eq!(plan(&cut).unwrap().lost().len(), 1, "nothing is kept of it unless asked for");
        let plan = RepairPlan::of(&mut Cursor::new(&cut), &options, |_| {}).unwrap();
        if rest == b"th" {
            assert_eq!(plan.recovered()[0].rows, Some(2));
            assert_eq!(plan.recovered()[0].missing.as_ref().unwrap().kind, LossKind::Cut);
            let repaired = Data::read(&write(&plan, &cut)).unwrap();
            assert_eq!(repaired.tables, [b"one\ntwo\n"]);
        } else {
            assert_eq!(plan.lost()[0].loss.kind, LossKind::Damaged);
        }
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
    for (compression, archive) in archives() {
        flips(compression, &archive, 1);
    }
}

#[test]
fn rubbish_between_blocks_costs_nothing_but_is_told() {
    let data = small();
    for compression in compressions() {
        for archive in [piped(&data, compression), seekable(&data, compression)] {
            let before = contents(&archive);
            for end in before.values().map(|(_, end)| *end as usize).filter(|end| *end < archive.len()) {
                for rubbish in
                    [&b"kubectl: the connection was lost\n"[..], &[0; 40], &[1, 0, 5, 0, 0, 0, 0, 9, 0, 0, 0, 7]]
                {
                    let damaged = [&archive[..end], rubbish, &archive[end..]].concat();
                    let (plan, whole) = repair(&damaged, &before);
                    assert_eq!(whole.len(), before.len(), "{compression}: {:?} {:?}", plan.lost(), plan.damage());
                    assert!(!plan.damage().is_empty());
                    assert!(
                        plan.damage()[0].start <= end as u64 && plan.damage()[0].end == (end + rubbish.len()) as u64
                    );
                }
            }
        }
    }
}

#[test]
fn a_missing_piece_costs_the_blocks_that_it_is_of() {
    for compression in compressions() {
        let archive = piped(&small(), compression);
        let before = contents(&archive);
        let data_start = ArchiveReader::new(&archive[..]).unwrap().position() as usize;
        let mut ends: Vec<usize> = before.values().map(|(_, end)| *end as usize).collect();
        ends.sort_unstable();
        for start in data_start..archive.len() - 3 {
            let damaged = [&archive[..start], &archive[start + 3..]].concat();
            let (_, whole) = repair(&damaged, &before);
            // The piece lies in one block or in two.
            let begins = [data_start].into_iter().chain(ends.iter().copied());
            let hit = begins.zip(&ends).filter(|(begin, end)| start < **end && start + 3 > *begin).count();
            assert!(whole.len() + hit >= before.len(), "{compression}, from {start}: {whole:?}");
        }
    }
}

#[test]
fn rows_that_are_missing_without_a_trace_are_noticed_by_the_positions() {
    let data = small();
    let whole = seekable(&data, CompressionSpecification::NONE);
    // A row with the length before it.
    let row = b"\0\x04\0\0\0red\n";
    let place = whole.windows(row.len()).position(|bytes| bytes == row);
    // Rows of one write are one chunk here.
    let (place, length) = match place {
        Some(place) => (place, row.len()),
        None => (whole.windows(4).position(|bytes| bytes == b"red\n").unwrap(), 4),
    };
    let mut damaged = [&whole[..place], &whole[place + length..]].concat();
    if length == 4 {
        // The chunk is shorter by that.
        let chunk = damaged[..place].windows(5).rposition(|it| it[0] == 0 && it[1] > 4 && it[2..] == [0; 3]).unwrap();
        damaged[chunk + 1] -= 4;
    }
    let error = Data::read(&damaged).unwrap_err();
    assert!(error.to_string().contains("the table of contents records byte"), "{error}");
    let plan = plan(&damaged).unwrap();
    assert!(!plan.is_whole());
    let lost: Vec<_> = plan.lost().iter().map(|lost| lost.dump_id).collect();
    assert_eq!(lost, [4], "{:?}", plan.lost());
    assert!(plan.lost()[0].loss.why.contains("bytes are missing"), "{}", plan.lost()[0]);
}

#[test]
fn a_folder_whose_list_does_not_name_what_the_contents_do_is_not_whole() {
    let data = small();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let none = options(CompressionSpecification::NONE);
    let writer = ArchiveWriter::to_directory(&path, &header(), contents_of(&data), &none).unwrap();
    data.write(writer).unwrap().finish().unwrap();
    let plan = || MemberPlan::of(&mut ArchiveReader::open(&path).unwrap(), |_| {}).unwrap();
    assert!(plan().is_whole() && plan().lost_large_objects().is_empty());

    let mut files = std::fs::read_dir(&path).unwrap().map(|file| file.unwrap().path());
    let list = files.find(|path| path.to_str().unwrap().ends_with(".toc") && !path.ends_with("toc.dat")).unwrap();
    let lines = std::fs::read_to_string(&list).unwrap();
    for (changed, lost) in [
        (lines.replace("16401 blob_16401.dat\n", ""), vec![16401]),
        (lines.replace("16401 blob", "16409 blob"), vec![16401, 4_000_000_000]),
        (lines.replace("16401 blob_16401.dat\n", "16400 blob_16400.dat\n"), vec![16401, 4_000_000_000]),
        (format!("{lines}16400 blob_16400.dat\n"), vec![]),
    ] {
        assert_ne!(changed, lines);
        std::fs::write(&list, &changed).unwrap();
        assert!(ArchiveReader::open(&path).unwrap().verify(|_| {}).is_err());
        let plan = plan();
        assert!(!plan.is_whole(), "{changed}");
        assert_eq!(plan.lost_large_objects(), lost, "{changed}");
        // What is kept is an archive.
        let mut source = ArchiveReader::open(&path).unwrap();
        let kept = plan.to_file(&mut source, Cursor::new(Vec::new()), &none, |_| {}).unwrap().into_inner();
        ArchiveReader::new(&kept[..]).unwrap().verify(|_| {}).unwrap();
        assert_eq!(Data::read(&kept).unwrap().large_objects.len(), 3 - lost.len(), "{changed}");
    }
}

#[test]
fn of_two_archives_in_one_log_each_is_repaired_by_itself() {
    let (first, second) = (small(), Data { tables: vec![b"other\n".to_vec(); 4], ..small() });
    for compression in [CompressionSpecification::NONE, CompressionSpecification::GZIP] {
        let [one, two] = [piped(&first, compression), piped(&second, compression)];
        let data = ArchiveReader::new(&one[..]).unwrap().position() as usize;
        for cut in (data..one.len()).step_by(7) {
            let log = [&one[..cut], b"\ncommand terminated with exit code 137\n", &two].concat();
            let plan = plan(&log).unwrap();
            assert!(!plan.is_whole());
            let second_start = (log.len() - two.len()) as u64;
            assert_eq!(plan.next_archive(), Some(second_start), "{compression}, cut at {cut}");
            assert!(plan.recovered().iter().all(|entry| entry.position < cut as u64), "{compression}, cut at {cut}");
            let repaired = Data::read(&write(&plan, &log)).unwrap();
            assert!(repaired.tables.iter().all(|rows| first.tables.contains(rows)), "{compression}, cut at {cut}");

            let mut options = RepairOptions::default();
            options.from = second_start;
            let plan = RepairPlan::of(&mut Cursor::new(&log), &options, |_| {}).unwrap();
            assert!(plan.is_whole() && plan.start() == second_start && plan.next_archive().is_none());
        }
    }
}

#[test]
fn an_archive_that_is_stored_in_another_one_is_not_the_next() {
    let stored = piped(&small(), CompressionSpecification::NONE);
    let data = Data { large_objects: vec![(16400, stored)], ..small() };
    let mut archive = piped(&data, CompressionSpecification::NONE);
    // The first table does not end any more.
    let end = archive.windows(3).position(|bytes| bytes == b"\\.\n").unwrap();
    archive[end] = b'x';
    let plan = plan(&archive).unwrap();
    assert!(!plan.is_whole());
    assert_eq!(plan.next_archive(), None);
    assert_eq!(Data::read(&write(&plan, &archive)).unwrap().large_objects, data.large_objects);
}

#[test]
fn an_archive_that_is_stored_in_a_damaged_block_is_not_the_next() {
    let stored = piped(&small(), CompressionSpecification::NONE);
    let objects = (16400..16440).map(|oid| (oid, if oid == 16420 { stored.clone() } else { vec![7; 50] }));
    let data = Data { large_objects: objects.collect(), ..small() };
    for archive in [piped(&data, CompressionSpecification::NONE), seekable(&data, CompressionSpecification::NONE)] {
        // An OID behind the stored archive, 16430, is one that nothing has.
        let oid = archive.windows(5).rposition(|bytes| bytes == [0, 0x2e, 0x40, 0, 0]).unwrap();
        let mut damaged = archive;
        damaged[oid + 1] ^= 0x80;
        let plan = plan(&damaged).unwrap();
        assert_eq!((plan.is_whole(), plan.next_archive()), (false, None));
        assert_eq!(plan.lost_large_objects(), (16430..16440).collect::<Vec<u32>>());
        let kept = Data::read(&write(&plan, &damaged)).unwrap();
        assert!(kept.large_objects.contains(&data.large_objects[20]));
    }
}

#[test]
fn a_log_that_every_job_appends_to_has_more_archives_than_the_first() {
    let [one, two] = [small(), Data { tables: vec![b"other\n".to_vec(); 4], ..small() }]
        .map(|data| piped(&data, CompressionSpecification::GZIP));
    for between in [&b""[..], b"\n\nFinished backup at 03:00\n"] {
        let log = [&b"Running pg_dump -Fc\n\n"[..], &one, between, &two].concat();
        let plan = plan(&log).unwrap();
        assert!(plan.is_whole() && plan.start() == 21, "{:?}", plan.damage());
        assert_eq!(plan.next_archive(), Some((log.len() - two.len()) as u64));
        assert_eq!(write(&plan, &log), {
            let alone = self::plan(&one).unwrap();
            assert_eq!(alone.next_archive(), None);
            write(&alone, &one)
        });
    }
}

#[test]
fn what_follows_all_data_is_no_part_of_the_archive_only_if_it_is_text() {
    let archive = piped(&small(), CompressionSpecification::GZIP);
    let plan_with = |rest: &[u8]| plan(&[&archive, rest].concat()).unwrap();
    assert!(plan_with(b"\n").is_whole() && plan_with(b"\n\nFinished backup").is_whole());
    for rest in [&[0][..], &[0, 5, 0, 0, 0, 1], b"\x01\x00\x09\x00\x00\x00", &[b'x', 0]] {
        let plan = plan_with(rest);
        assert!(!plan.is_whole() && plan.lost().is_empty(), "{rest:?}");
        assert_eq!(plan.damage()[0].start, archive.len() as u64);
    }
}

#[test]
fn an_archive_with_a_damaged_time_is_copied_as_it_is() {
    let mut archive = piped(&small(), CompressionSpecification::GZIP);
    // The seconds, behind version, sizes, format and compression.
    assert_eq!(archive[12..17], [0, 5, 0, 0, 0]);
    archive[16] = 0x80;
    let plan = plan(&archive).unwrap();
    assert!(plan.is_whole());
    assert_eq!(write(&plan, &archive)[12..17], [0, 5, 0, 0, 0x80]);
}

#[test]
fn a_block_under_the_dump_id_of_another_one_is_not_taken_for_its_data() {
    let archive = piped(&small(), CompressionSpecification::NONE);
    let before = contents(&archive);
    let data_start = ArchiveReader::new(&archive[..]).unwrap().position() as usize;
    let mut swapped = archive.clone();
    // The first block claims to be that of the fourth table, which is cut off.
    assert_eq!(swapped[data_start..data_start + 3], [1, 0, 2]);
    swapped[data_start + 2] = 5;
    for damaged in [&swapped[..], &swapped[..before[&4].1 as usize]] {
        let plan = plan(damaged).unwrap();
        assert!(plan.lost().iter().any(|entry| entry.dump_id == 2));
        assert!(plan.damage()[0].what.contains("another one is due"), "{:?}", plan.damage());
        let after = contents(&write(&plan, damaged));
        assert!(after.iter().all(|(id, (bytes, _))| *bytes == before[id].0));
        assert!(after.contains_key(&3) && after.contains_key(&4));
    }
    let cut = &swapped[..before[&4].1 as usize];
    let plan = plan(cut).unwrap();
    let lost = plan.lost().iter().find(|entry| entry.dump_id == 5).unwrap();
    assert_eq!(lost.loss.kind, LossKind::OutOfTurn);
}

#[test]
fn a_whole_archive_in_another_order_is_whole() {
    use std::io::Write;
    let data = small();
    let write_options = options(CompressionSpecification::GZIP);
    let mut archive =
        dumpfmt::ArchiveWriter::to_pipe(Vec::new(), &header(), contents_of(&data), &write_options).unwrap();
    let mut objects = archive.large_objects(1000).unwrap();
    for (oid, _) in &data.large_objects {
        objects.object(*oid).unwrap().finish().unwrap();
    }
    objects.finish().unwrap();
    for dump_id in [5, 2, 4, 3] {
        let mut writer = archive.data(dump_id).unwrap();
        writer.write_all(&data.tables[dump_id as usize - 2]).unwrap();
        writer.finish().unwrap();
    }
    let archive = archive.finish().unwrap();
    let plan = plan(&archive).unwrap();
    assert!(plan.is_whole(), "{:?} {:?}", plan.lost(), plan.damage());
    // Cut, only who knows of the order can trust it.
    let cut = &archive[..archive.len() - 1];
    assert!(self::plan(cut).unwrap().recovered().len() < 4);
    let mut options = RepairOptions::default();
    options.any_order = true;
    let plan = RepairPlan::of(&mut Cursor::new(cut), &options, |_| {}).unwrap();
    assert_eq!(plan.lost().iter().map(|entry| entry.dump_id).collect::<Vec<_>>(), [3]);
    assert_eq!(plan.recovered().len(), 4);
}

#[test]
fn an_archive_within_a_log_is_found_and_its_end_is_known() {
    let log = b"Defaulted container \"postgres\" out of: postgres, proxy\nPGDMP is what an archive begins with\n\n";
    let text = b"\npod \"dump\" deleted\n";
    let repeated = {
        let mut builder = dumpfmt::example::Builder::new(16, 0);
        builder
            .entry(1, 1, false, [Some("ENCODING"), Some("ENCODING"), Some("SET x;\n"), None, None])
            .entry(2, 3, true, [Some("a"), Some("TABLE DATA"), None, None, Some("COPY public.t (a) FROM stdin;\n")])
            .data(2, &[b"one\n", b"\\.\n\n\n"]);
        builder.build_redirected()
    };
    for archive in [piped(&small(), CompressionSpecification::GZIP), repeated] {
        let file = [&log[..], &archive, text].concat();
        let found = find_archive(&mut Cursor::new(&file), 0, &Default::default()).unwrap().unwrap();
        assert_eq!(found.start, log.len() as u64);
        let after = find_archive(&mut Cursor::new(&file), found.start + 1, &Default::default()).unwrap();
        assert_eq!(after, None);

        let plan = plan(&file).unwrap();
        assert!(plan.is_whole());
        assert_eq!(plan.start(), log.len() as u64);
        assert_eq!(plan.trailing(), Some(archive.len() as u64..(archive.len() + text.len()) as u64));
        let taken = write(&plan, &file);
        assert_eq!(contents(&taken).len(), contents(&archive).len());

        // What follows an archive that is cut is not taken for data.
        let cut = [&log[..], &archive[..archive.len() * 3 / 4], text].concat();
        let (before, plan) = (contents(&archive), self::plan(&cut));
        let Ok(plan) = plan else { continue };
        let after = contents(&write(&plan, &cut));
        for entry in plan.recovered().iter().filter(|entry| entry.missing.is_none()) {
            assert_eq!(after[&entry.dump_id].0, before[&entry.dump_id].0);
        }
        assert!(plan.trailing().is_none() || plan.lost().is_empty());
    }
}

#[test]
fn what_a_terminal_did_to_an_archive_is_told_and_can_be_undone() {
    let mut data = small();
    // Carriage returns of its own, before line feeds and elsewhere.
    data.large_objects[0].1 = b"\r\n\n\r\r\n\r".to_vec();
    for compression in compressions() {
        let archive = [b"a line\n", &piped(&data, compression)[..], b"bye\n"].concat();
        let terminal: Vec<u8> =
            archive.iter().flat_map(|&byte| if byte == b'\n' { vec![b'\r', b'\n'] } else { vec![byte] }).collect();
        let error = plan(&terminal).unwrap_err();
        assert!(error.to_string().contains("kubectl exec -t"), "{error}");

        let mut undone = Vec::new();
        let report = undo_crlf(&terminal[..], &mut undone).unwrap();
        assert!(undone == archive, "{compression}");
        assert_eq!((report.removed, report.line_feeds_alone), ((terminal.len() - archive.len()) as u64, 0));
        assert_eq!(report.written, archive.len() as u64);
        assert!(plan(&undone).unwrap().is_whole());
    }
}

#[test]
fn a_translation_that_cannot_be_undone_is_not_found_whole() {
    let mut data = small();
    data.large_objects[0].1 = b"\r\n".to_vec();
    let archive = piped(&data, CompressionSpecification::NONE);
    // A program that leaves the line feeds alone that have a carriage return.
    let mut last = 0;
    let changed = archive.iter().flat_map(|&byte| {
        let add = byte == b'\n' && last != b'\r';
        last = byte;
        if add { vec![b'\r', b'\n'] } else { vec![byte] }
    });
    let mut undone = Vec::new();
    undo_crlf(&changed.collect::<Vec<u8>>()[..], &mut undone).unwrap();
    assert_eq!(undone.len(), archive.len() - 1);
    let plan = plan(&undone).unwrap();
    assert!(!plan.is_whole());
    assert_eq!(plan.recovered().iter().filter(|entry| entry.missing.is_none()).count(), data.tables.len());
}

#[test]
fn carriage_returns_are_undone_however_the_file_is_read() {
    struct Slowly<'a>(&'a [u8], usize);
    impl Read for Slowly<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let step = self.1.min(out.len());
            self.0.read(&mut out[..step])
        }
    }
    let text = b"\n\r\na\r\r\n\r\r\nb\rc\n\r\n\r\n\r";
    for step in 1..=text.len() {
        let mut out = Vec::new();
        let report = undo_crlf(Slowly(text, step), &mut out).unwrap();
        assert_eq!(out, b"\n\na\r\n\r\nb\rc\n\n\n\r", "{step}");
        assert_eq!((report.removed, report.line_feeds_alone), (5, 2), "{step}");
    }
}

#[test]
fn what_is_no_archive_is_told_by_name() {
    let told = |bytes: &[u8]| plan(bytes).unwrap_err().to_string();
    assert!(told(b"").contains("empty"));
    assert!(told(b"Error from server: pods not found\n").contains("instead of \"PGDMP\""));
    assert!(told(b"\x1f\x8b\x08\0").contains("gunzip"));
    assert!(told(b"log\nUEdETVABEAAECAEBAAcAAAAA\n").contains("base64 -d"));
    assert!(told(b"\xff\xfel\0o\0g\0\n\0P\0G\0D\0M\0P\0\x01\0").contains("UTF-16"));
    assert!(told(b"log\nPGDMP and no more").contains("header"));
}

#[test]
fn foreign_keys_to_rows_that_are_lost_are_named() {
    let data = Data { tables: vec![b"1\n".to_vec(), b"1\n".to_vec()], large_objects: vec![] };
    let key = |dump_id, table: &str, referenced: &str| {
        let sql = format!(
            "ALTER TABLE ONLY public.{table} ADD CONSTRAINT f{dump_id} FOREIGN KEY (a) REFERENCES public.{referenced}(a);"
        );
        TocEntry::builder(dump_id, "FK CONSTRAINT", format!("{table} f{dump_id}")).definition(sql).build().unwrap()
    };
    let keys = [key(100, "t0", "t1"), key(101, "t1", "t0"), key(102, "t1", "t1"), key(103, "t0", "t0")];
    let toc = Toc::new(data.toc().entries().iter().cloned().chain(keys).collect()).unwrap();
    let write_options = options(CompressionSpecification::GZIP);
    let archive = ArchiveWriter::to_pipe(Vec::new(), &header(), toc, &write_options).unwrap();
    let archive = data.write(archive).unwrap().finish().unwrap();
    let plan = plan(&archive[..archive.len() - 1]).unwrap();
    assert_eq!(plan.lost().len(), 1);
    // What refers from the empty table has nothing to refer to.
    let named: Vec<i32> = plan.doubtful_foreign_keys().map(|(entry, _)| entry.dump_id()).collect();
    assert_eq!(named, [100]);
}

#[test]
fn positions_beyond_any_file_do_not_stop_a_repair() {
    let archive = seekable(&small(), CompressionSpecification::GZIP);
    let before = contents(&archive);
    let first = ArchiveReader::new(&archive[..]).unwrap().position();
    let field = archive.windows(8).position(|window| window == first.to_le_bytes()).unwrap();
    let mut damaged = archive.clone();
    damaged[field..field + 8].fill(0xff);
    assert_eq!(repair(&damaged, &before).1.len(), before.len());
    damaged[first as usize] = 9;
    assert_eq!(repair(&damaged, &before).1.len(), before.len() - 1);
}

#[test]
fn many_bytes_that_look_like_an_archive_or_a_block_are_passed_in_good_time() {
    // Each of them would have cost a read of its own, and each block a look at each position that is recorded.
    let log = b"PGDMP".repeat(2 << 20);
    assert_eq!(find_archive(&mut Cursor::new(log), 0, &Default::default()).unwrap(), None);
    let begun_twice = [b"PGDM", &piped(&small(), CompressionSpecification::NONE)[..]].concat();
    let found = find_archive(&mut Cursor::new(begun_twice), 0, &Default::default()).unwrap();
    assert_eq!(found.map(|found| found.start), Some(4));

    let entries: Vec<_> = (1..=20_000)
        .map(|dump_id| {
            let entry = TocEntry::builder(dump_id, "TABLE DATA", "t").section(Section::Data).has_data(true);
            entry.copy_statement(Some(b"COPY public.t (a) FROM stdin;\n")).build().unwrap()
        })
        .collect();
    let toc = Toc::new(entries).unwrap();
    let file = Cursor::new(Vec::new());
    let mut archive = ArchiveWriter::to_file(file, &header(), toc, &options(CompressionSpecification::NONE)).unwrap();
    for dump_id in 1..=20_000 {
        archive.data(dump_id).unwrap().finish().unwrap();
    }
    let mut archive = archive.finish().unwrap().into_inner();
    let data_start = ArchiveReader::new(&archive[..]).unwrap().position() as usize;
    // Heads of blocks, each behind a byte, so that none is where the table of contents says.
    let heads = (1..=20_000_u32).flat_map(|id| [&[9, 1, 0], &id.to_le_bytes()[..], &[0, 9, 0, 0, 0]].concat());
    archive.truncate(data_start);
    archive.extend(heads);
    let plan = plan(&archive).unwrap();
    assert!(plan.recovered().is_empty() && !plan.is_whole());
}
