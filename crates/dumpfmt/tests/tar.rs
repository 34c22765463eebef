//! Archives in the tar format: from a pipe, from a file, and damaged.

use std::fs;
use std::io::{Cursor, Read, Write};

use crate::archives::{
    EMPTY, NONE, OBJECT, ROWS, block_contents, check, contents, plain_sample, sample_contents, stored_bodies,
};
use dumpfmt::example::{Builder, seal_tar_header, tar, tar_header};
use dumpfmt::repair::MemberPlan;
use dumpfmt::{ArchiveReader, Block, CompressionSpecification, DataState, ErrorKind, Format, WriteOptions};

const BLOCK: usize = 512;

fn sample() -> Vec<u8> {
    plain_sample(16, NONE).build_tar()
}

/// Gives a byte at once, as a slow pipe may.
struct Slowly<'a>(&'a [u8]);

impl Read for Slowly<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let step = out.len().min(1);
        self.0.read(&mut out[..step])
    }
}

/// Where the header of this member is.
fn member(bytes: &[u8], name: &str) -> usize {
    let name = [name.as_bytes(), &[0]].concat();
    (0..bytes.len()).step_by(BLOCK).find(|&at| bytes[at..].starts_with(&name)).unwrap()
}

#[test]
fn a_tar_is_read_from_a_pipe_in_the_order_of_its_members() {
    let bytes = sample();
    let mut archive = ArchiveReader::new(Slowly(&bytes)).unwrap();
    assert_eq!(archive.header().format, Format::Tar);
    assert_eq!(archive.toc().get(4).unwrap().data_state(), DataState::PositionNotSet);
    assert_eq!(archive.toc().get(4).unwrap().file_name(), Some(&b"4.dat"[..]));
    let mut order = Vec::new();
    while let Some(block) = archive.next_block().unwrap() {
        order.push(block.entry().dump_id());
    }
    assert_eq!(order, [4, 3, 5]);
    assert_eq!(archive.position(), bytes.len() as u64);
    assert_eq!(contents(&mut ArchiveReader::new(Slowly(&bytes)).unwrap()).unwrap(), sample_contents());
    assert_eq!(check(&bytes).unwrap(), sample_contents());
}

#[test]
fn any_entry_of_a_tar_is_found_in_a_file() {
    let mut archive = ArchiveReader::new(Cursor::new(sample())).unwrap();
    for (dump_id, tags) in [(5, vec!["4294967295", "7"]), (4, vec!["b"]), (3, vec!["a"]), (5, vec!["4294967295", "7"])]
    {
        let found = block_contents(archive.block(dump_id).unwrap().unwrap()).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), tags);
        for (tag, data) in found {
            assert_eq!(data, sample_contents()[&tag]);
        }
    }
    assert!(archive.block(2).unwrap().is_none());
    archive.rewind().unwrap();
    assert_eq!(contents(&mut archive).unwrap(), sample_contents());
}

/// As pg_dump 17 and later: a list for each thousand objects.
fn groups() -> Vec<u8> {
    let mut builder = Builder::new(16, NONE);
    for dump_id in [30, 10, 20] {
        builder.entry(dump_id, 3, true, [Some("1..2"), Some("BLOBS"), None, None, None]);
    }
    builder.large_objects(30, &[(1, &[b"one"]), (2, &[b"two"])]);
    builder.large_objects(10, &[]);
    builder.large_objects(20, &[(3, &[b"three"])]);
    builder.build_tar()
}

#[test]
fn large_objects_belong_to_the_entry_whose_list_follows_them() {
    let expected = [(30, vec!["1", "2"]), (10, vec![]), (20, vec!["3"])];
    let mut archive = ArchiveReader::new(Cursor::new(groups())).unwrap();
    for (dump_id, oids) in &expected {
        let block = archive.next_block().unwrap().unwrap();
        assert_eq!(block.entry().dump_id(), *dump_id);
        assert_eq!(block_contents(block).unwrap().keys().collect::<Vec<_>>(), *oids);
    }
    assert!(archive.next_block().unwrap().is_none());
    // In any order, and known from the time before.
    for index in [2, 0, 1, 2, 0, 1] {
        let (dump_id, oids) = &expected[index];
        let block = archive.block(*dump_id).unwrap().unwrap();
        assert_eq!(block_contents(block).unwrap().keys().collect::<Vec<_>>(), *oids, "{dump_id}");
    }
}

#[test]
fn the_sequence_goes_on_behind_an_entry_that_was_jumped_to() {
    let bytes = groups();
    let sequence = |archive: &mut ArchiveReader<Cursor<&[u8]>>| {
        let mut order = Vec::new();
        while let Some(block) = archive.next_block().unwrap() {
            order.push((block.entry().dump_id(), block_contents(block).unwrap()));
        }
        order
    };
    let mut archive = ArchiveReader::new(Cursor::new(&bytes[..])).unwrap();
    let all = sequence(&mut archive);
    for place in 0..all.len() {
        assert!(archive.block(all[place].0).unwrap().is_some());
        assert_eq!(sequence(&mut archive), all[place + 1..]);
    }
}

#[test]
fn the_stored_bytes_of_a_tar_are_those_of_its_members() {
    let bytes = sample();
    let mut archive = ArchiveReader::new(&bytes[..]).unwrap();
    let stored: Vec<_> = stored_bodies(&mut archive).into_iter().map(|(_, body)| body).collect();
    assert_eq!(stored, [ROWS, EMPTY, OBJECT, OBJECT]);
}

#[test]
fn a_tar_cut_at_any_byte_is_an_error_or_complete() {
    let bytes = sample();
    for length in 0..bytes.len() {
        match check(&bytes[..length]) {
            // Within the last block of zeros.
            Ok(found) => {
                assert!(length >= bytes.len() - BLOCK, "cut at {length}");
                assert_eq!(found, sample_contents());
            }
            Err(error) => {
                assert!(error.offset() <= length as u64, "cut at {length}: {error}");
                assert!(length < bytes.len() - BLOCK || matches!(error.kind(), ErrorKind::Truncated(_)), "{error}");
            }
        }
    }
}

#[test]
fn a_flipped_bit_in_a_tar_is_an_error_or_the_data_it_makes() {
    let mut builder = Builder::new(16, NONE);
    builder
        .entry(3, 3, true, [Some("a"), Some("TABLE DATA"), None, None, None])
        .entry(5, 3, true, [Some("BLOBS"), Some("BLOBS"), None, None, None])
        .data(3, &[ROWS])
        .large_objects(5, &[(7, &[OBJECT])]);
    let bytes = tar(&builder.files());
    let headers = ["toc.dat", "3.dat", "blob_7.dat", "blobs_5.toc"].map(|name| member(&bytes, name));
    for position in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1 << bit;
            let result = ArchiveReader::new(&damaged[..]).and_then(|mut archive| contents(&mut archive));
            let in_header = headers.iter().any(|&at| (at..at + BLOCK).contains(&position));
            let in_end = position >= bytes.len() - 2 * BLOCK;
            if in_header || in_end {
                // The checksum has seven bytes that say it and one that says nothing.
                let in_checksum = headers.iter().any(|&at| (at + 148..at + 156).contains(&position));
                assert!(result.is_err() || in_checksum, "byte {position}, bit {bit}");
            }
            if in_header && let Ok(mut archive) = ArchiveReader::new(Cursor::new(&damaged)) {
                let _ = archive.block(5).map(|block| block.is_some());
                let _ = archive.block(3).map(|block| block.is_some());
            }
        }
    }
}

/// The archive that a repair of these bytes makes, and the plan; `None` when the table of contents is not whole.
fn repaired(bytes: &[u8]) -> Option<dumpfmt::Result<(MemberPlan, Vec<u8>)>> {
    let mut source = ArchiveReader::new(Cursor::new(bytes)).ok()?;
    let options = WriteOptions::new(CompressionSpecification::NONE).threads(0);
    Some(MemberPlan::of(&mut source, |_| {}).and_then(|plan| {
        let file = plan.to_file(&mut source, Cursor::new(Vec::new()), &options, |_| {})?;
        Ok((plan, file.into_inner()))
    }))
}

#[test]
fn a_repair_of_a_tar_cut_at_any_byte_keeps_what_is_before_the_cut() {
    let bytes = sample();
    let mut kept = Vec::new();
    for length in 0..=bytes.len() {
        let Some(result) = repaired(&bytes[..length]) else {
            assert!(kept.is_empty(), "cut at {length}");
            continue;
        };
        let (plan, new) = result.unwrap_or_else(|e| panic!("cut at {length}: {e}"));
        let found = contents(&mut ArchiveReader::new(Cursor::new(new)).unwrap()).unwrap();
        let expected = sample_contents();
        assert!(found.iter().all(|(tag, data)| expected[tag] == *data), "cut at {length}");
        assert_eq!(plan.is_whole(), length >= bytes.len() - BLOCK, "cut at {length}");
        let in_part = plan.recovered().iter().filter(|entry| entry.missing.is_some()).count();
        assert!(in_part == 0 || plan.recovered().len() == 3, "cut at {length}");
        assert_eq!(plan.recovered().len() + plan.lost().len(), 3, "cut at {length}");
        assert!(!plan.is_whole() || found == expected, "cut at {length}");
        kept.push(found.len());
    }
    assert!(kept.is_sorted() && kept[0] == 0 && kept.contains(&3) && kept.last() == Some(&4), "{kept:?}");
}

#[test]
fn a_repair_of_a_tar_with_a_flipped_bit_makes_an_archive_or_is_an_error() {
    let bytes = sample();
    let mut whole = 0;
    for position in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1 << bit;
            let Some(Ok((plan, new))) = repaired(&damaged) else { continue };
            let verified = ArchiveReader::new(Cursor::new(new)).and_then(|mut archive| archive.verify(|_| {}));
            let verified = verified.unwrap_or_else(|e| panic!("byte {position}, bit {bit}: {e}"));
            assert_eq!(verified.len(), plan.recovered().len(), "byte {position}, bit {bit}");
            whole += usize::from(plan.is_whole());
        }
    }
    assert!(whole > 0 && whole < bytes.len() * 8);
}

#[test]
fn what_follows_the_end_of_a_tar_is_an_error_unless_it_fills_a_record() {
    let bytes = sample();
    for extra in [&b"x"[..], &[0, 1], &[0; 20 * BLOCK]] {
        let error = check(&[&bytes, extra].concat()).unwrap_err();
        assert!(error.to_string().contains("bytes follow the end of the tar archive"), "{error}");
    }
    let mut record = bytes.clone();
    record.resize(bytes.len().next_multiple_of(10240), 0);
    assert_eq!(check(&record).unwrap(), sample_contents());
    // GNU tar writes at least one record; pg_dump before 9.3 wrote one block.
    assert_eq!(check(&bytes[..bytes.len() - BLOCK]).unwrap(), sample_contents());
}

#[test]
fn every_header_that_a_pg_dump_writes_is_taken() {
    let bytes = sample();
    for magic in [&b"ustar\x0000"[..], b"ustar00\0", b"ustar  \0"] {
        let mut other = bytes.clone();
        for name in ["toc.dat", "4.dat", "3.dat", "blob_7.dat", "blob_4294967295.dat", "blobs_5.toc", "restore.sql"] {
            let at = member(&bytes, name);
            other[at + 257..at + 265].copy_from_slice(magic);
            seal_tar_header(&mut other[at..at + BLOCK]);
        }
        assert_eq!(check(&other).unwrap(), sample_contents());
    }
}

#[test]
fn a_header_that_no_pg_dump_writes_is_refused() {
    let bytes = sample();
    let at = member(&bytes, "4.dat");
    let refused = |change: &dyn Fn(&mut [u8]), expected: &str| {
        let mut other = bytes.clone();
        change(&mut other[at..at + BLOCK]);
        seal_tar_header(&mut other[at..at + BLOCK]);
        let error = check(&other).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.offset(), at as u64);
    };
    for kind in b"123456xgLS" {
        refused(&|header| header[156] = *kind, "which pg_dump does not write");
    }
    refused(&|header| header[257] = b'U', "is of an unknown kind");
    refused(&|header| header[345] = b'd', "has a longer name");
    refused(&|header| header[..100].fill(b'a'), "has a longer name");
    for size in ["+0000000001 ", "0000000008 0", "            ", "-0000000001 "] {
        refused(&|header| header[124..136].copy_from_slice(size.as_bytes()), "tells no length");
    }
    refused(&|header| header[124..136].copy_from_slice(&[&[0x80][..], &[0xff; 11]].concat()), "tells no length");
    refused(&|header| header[124..136].fill(0xff), "tells no length");
    refused(&|header| header[..6].copy_from_slice(b"6.dat\0"), "the member `6.dat` belongs to nothing");
    refused(&|header| header[..9].copy_from_slice(b"../4.dat\0"), "the member `../4.dat` belongs to nothing");
}

#[test]
fn a_member_of_more_than_8_gib_is_read_by_its_binary_length() {
    let mut builder = Builder::new(16, NONE);
    builder.entry(1, 3, true, [Some("t"), Some("TABLE DATA"), None, None, Some("COPY public.t (a) FROM stdin;\n")]);
    let toc = tar(&builder.files());
    // Made as it is read: zeros do not need to be stored.
    let length = (8 << 30) + 5;
    let header = tar_header("1.dat", length);
    let begin = [&toc[..toc.len() - 1024], &header].concat();
    let mut archive = ArchiveReader::new(begin.chain(std::io::repeat(b'x').take(1 << 20))).unwrap();
    let Some(Block::Data(mut data)) = archive.next_block().unwrap() else { panic!("no data") };
    let mut content = Vec::new();
    let error = dumpfmt::Error::from_io(data.read_to_end(&mut content).unwrap_err(), 0);
    assert!(matches!(error.kind(), ErrorKind::Truncated(_)), "{error}");
    assert_eq!(content.len(), 1 << 20);
    assert_eq!(length, u64::from_be_bytes(header[128..136].try_into().unwrap()));
}

#[test]
fn a_tar_that_grows_or_shrinks_while_it_is_read_is_an_error_or_as_it_was() {
    let rows = [vec![b'x'; 1 << 20], b"\n\\.\n\n\n".to_vec()].concat();
    let mut builder = Builder::new(16, NONE);
    builder.entry(1, 3, true, [Some("t"), Some("TABLE DATA"), None, None, Some("COPY public.t (a) FROM stdin;\n")]);
    let bytes = builder.data(1, &[&rows]).build_tar();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("archive.tar");
    let change = |change: &dyn Fn(fs::File)| {
        fs::write(&path, &bytes).unwrap();
        let mut archive = ArchiveReader::open(&path).unwrap();
        change(fs::File::options().append(true).open(&path).unwrap());
        archive.verify(|_| {}).unwrap_err()
    };
    for length in [0, 600 << 10, bytes.len() as u64 - 2 * BLOCK as u64 - 1] {
        let error = change(&|file| file.set_len(length).unwrap());
        assert!(matches!(error.kind(), ErrorKind::Truncated(_)), "{length}: {error}");
    }
    let error = change(&|mut file| file.write_all(b"more").unwrap());
    assert!(matches!(error.kind(), ErrorKind::Corrupt(_)), "{error}");
}

#[test]
fn members_that_the_table_of_contents_does_not_expect_are_errors() {
    let files = plain_sample(16, NONE).files();
    let named = |name: &str| (name.to_owned(), b"data".to_vec());
    let refused = |files: &[(String, Vec<u8>)], expected: &str| {
        let error = check(&tar(files)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    for name in
        ["8.dat", "2.dat", "blobs_6.toc", "blobs.toc", "toc.dat", "x", "", "4.dat.gz", "blob_.dat", "blob_07.dat"]
    {
        let mut more = files.clone();
        more.insert(2, named(name));
        refused(&more, "belongs to nothing in the table of contents");
    }
    refused(&[&files[..], &files[1..2]].concat(), "has data twice");
    refused(&[&files[..], &files[3..]].concat(), "belongs to nothing in the table of contents");
    refused(&files[..3], "before the data of BLOBS");
    refused(&files[..4], "it ends before the list of large objects");
    refused(&[&files[..1], &files[2..]].concat(), "before the data of TABLE DATA public.b");
    // A large object more or less than in the list, or another one.
    refused(&[&files[..4], &files[5..]].concat(), "does not name the large objects that precede it");
    refused(&[&files[..5], &[named("blob_9.dat")], &files[5..]].concat(), "does not name the large objects");
    let mut other = files.clone();
    other[3].0 = "blob_8.dat".into();
    refused(&other, "does not name the large objects");
    let mut list = files.clone();
    list[5].1.push(b'\n');
    refused(&list, "does not name the large objects");
    refused(&[&files[..4], &files[1..2], &files[4..]].concat(), "belongs to nothing");
}

#[test]
fn the_table_of_contents_ends_where_its_member_does() {
    let mut files = plain_sample(16, NONE).files();
    files[0].1.push(0);
    assert!(check(&tar(&files)).unwrap_err().to_string().contains("does not end where `toc.dat` does"));
    let mut files = plain_sample(16, NONE).files();
    files[0].1.pop();
    assert!(check(&tar(&files)).unwrap_err().to_string().contains("does not end where `toc.dat` does"));
    let mut files = plain_sample(16, NONE).files();
    files[0].1 = b"PGDUMP".to_vec();
    assert!(matches!(check(&tar(&files)).unwrap_err().kind(), ErrorKind::NotAnArchive(_)));
    let mut padded = sample();
    let at = member(&padded, "4.dat") - 1;
    padded[at] = 1;
    assert!(check(&padded).unwrap_err().to_string().contains("padding"));
}

#[test]
fn two_entries_cannot_have_one_file() {
    let mut builder = Builder::new(16, NONE);
    for dump_id in [1, 2] {
        builder.entry(dump_id, 3, true, [Some("t"), Some("TABLE DATA"), None, None, None]).in_file("1.dat");
    }
    let error = check(&builder.build_tar()).unwrap_err();
    assert!(error.to_string().contains("names the file `1.dat`, not `2.dat`"), "{error}");
}
