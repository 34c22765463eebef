//! Verifying: the same answer by one thread, by several, and on the way.

use std::fs::File;
use std::io::{Cursor, Read, Seek, Write};

use crate::data::{Data, compressions, large_data};
use dumpfmt::{
    ArchiveReader, ArchiveWriter, Block, CompressionSpecification, DataState, ErrorKind, ReadOptions, Rewrite,
    SqlError, SqlOptions, Toc, TocEntry, VerifiedEntry, Verifier, VerifyOptions, VerifyingReader, VerifyingWriter,
    WriteOptions,
};

fn in_file(archive: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(archive).unwrap();
    file.rewind().unwrap();
    file
}

fn stored(archive: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.dump");
    std::fs::write(&path, archive).unwrap();
    (folder, path)
}

fn by_one(archive: &[u8]) -> dumpfmt::Result<Vec<VerifiedEntry>> {
    ArchiveReader::new(archive)?.verify(|_| {})
}

fn by_several(archive: &[u8]) -> dumpfmt::Result<Vec<VerifiedEntry>> {
    ArchiveReader::new(in_file(archive))?.verify_in_parallel(&VerifyOptions::default().threads(3), |_| {})
}

fn on_the_way(archive: &[u8]) -> dumpfmt::Result<Vec<VerifiedEntry>> {
    let mut reader = VerifyingReader::new(archive, VerifyOptions::default());
    let mut copy = Vec::new();
    reader.read_to_end(&mut copy).unwrap();
    assert!(copy == archive, "the bytes are changed");
    reader.finish()
}

#[test]
fn rows_bytes_and_digests_do_not_depend_on_how_an_archive_is_stored_or_read() {
    let data = large_data();
    let mut expected = None;
    for compression in compressions() {
        let options = WriteOptions::new(compression).threads(2);
        for archive in [data.piped(&options), data.seekable(&options)] {
            let found = by_one(&archive).unwrap();
            let expected = expected.get_or_insert_with(|| found.clone());
            assert_eq!(found, *expected, "{compression}");
            assert_eq!(by_several(&archive).unwrap(), *expected, "{compression}");
            assert_eq!(on_the_way(&archive).unwrap(), *expected, "{compression}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump");
        let archive = data.piped(&options);
        Rewrite::new(options).to_directory(&mut ArchiveReader::new(&archive[..]).unwrap(), &path, |_| {}).unwrap();
        let mut directory = ArchiveReader::open(&path).unwrap();
        assert_eq!(Some(directory.verify(|_| {}).unwrap()), expected);
        assert_eq!(directory.verify_in_parallel(&VerifyOptions::default(), |_| {}).ok(), expected);
    }
    let expected = expected.unwrap();
    let rows: Vec<_> = expected.iter().map(|entry| entry.rows).collect();
    assert_eq!(rows, [Some(90_000), Some(0), Some(1), Some(1), None]);
    assert_eq!(expected[4].large_objects, Some(3));
    // As `sha256sum` has it of nothing, and of one newline.
    let digest = |index: usize| expected[index].sha256.unwrap().to_string();
    assert_eq!(digest(1), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_eq!(digest(2), "01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b");
}

#[test]
fn digests_can_be_left_out() {
    let archive = large_data().piped(&WriteOptions::default());
    let options = VerifyOptions::default().digests(false);
    for found in [
        ArchiveReader::new(&archive[..]).unwrap().verify_with(&options, |_| {}).unwrap(),
        ArchiveReader::new(in_file(&archive)).unwrap().verify_in_parallel(&options, |_| {}).unwrap(),
    ] {
        assert!(found.iter().all(|entry| entry.sha256.is_none()) && found[0].rows == Some(90_000));
    }
}

#[test]
fn every_cut_is_found_by_every_way() {
    let data = Data { tables: vec![b"a\n".repeat(20), vec![], b"b\n".to_vec()], large_objects: vec![(5, vec![7; 40])] };
    for compression in compressions() {
        let options = WriteOptions::new(compression).threads(0);
        for archive in [data.piped(&options), data.seekable(&options)] {
            for length in 0..archive.len() {
                let cut = &archive[..length];
                let expected = by_one(cut).unwrap_err().to_string();
                assert!(by_several(cut).is_err(), "{compression} {length}");
                assert_eq!(on_the_way(cut).unwrap_err().to_string(), expected, "{compression} {length}");
            }
        }
    }
}

#[test]
fn the_damage_nearest_to_the_begin_is_told() {
    let data = Data { tables: vec![b"a\n".repeat(500); 20], ..Data::default() };
    let mut archive = data.seekable(&WriteOptions::default());
    let reader = ArchiveReader::new(&archive[..]).unwrap();
    let positions: Vec<_> = reader.toc().entries().iter().map(dumpfmt::TocEntry::data_state).collect();
    drop(reader);
    for state in &positions[8..] {
        let DataState::Position(position) = state else { panic!("{state:?}") };
        // Within the compressed bytes.
        archive[*position as usize + 20] ^= 0x40;
    }
    let expected = by_one(&archive).unwrap_err().to_string();
    assert!(expected.contains("public.t7 "), "{expected}");
    for _ in 0..10 {
        assert_eq!(by_several(&archive).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_position_that_is_recorded_wrongly_is_damage() {
    let data = Data { tables: vec![b"a\n".to_vec(), b"b\n".to_vec()], ..Data::default() };
    let mut archive = data.seekable(&WriteOptions::default());
    let reader = ArchiveReader::new(&archive[..]).unwrap();
    let DataState::Position(position) = reader.toc().get(3).unwrap().data_state() else { panic!("no position") };
    drop(reader);
    let place = archive.windows(8).position(|bytes| bytes == position.to_le_bytes()).unwrap();
    archive[place] ^= 1;
    for verify in [by_one, by_several, on_the_way] {
        let error = verify(&archive).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Corrupt(_)), "{error}");
        assert!(error.to_string().contains("records byte") && error.to_string().contains("public.t1"), "{error}");
    }
}

#[test]
fn damage_does_not_stop_what_passes_through() {
    let mut archive = large_data().piped(&WriteOptions::default());
    let middle = archive.len() / 2;
    archive[middle] ^= 0xff;
    let mut writer = VerifyingWriter::new(Vec::new(), VerifyOptions::default());
    for piece in archive.chunks(1000) {
        writer.write_all(piece).unwrap();
    }
    let (copy, result) = writer.finish();
    assert!(copy == archive);
    assert!(matches!(result.unwrap_err().kind(), ErrorKind::Corrupt(_) | ErrorKind::Truncated(_)));

    let mut verifier = Verifier::new(VerifyOptions::default());
    verifier.write_all(&[0; 100_000]).unwrap();
    while !verifier.has_failed() {
        verifier.write_all(&[0; 100_000]).unwrap();
    }
    assert!(matches!(verifier.finish().unwrap_err().kind(), ErrorKind::NotAnArchive(_)));
}

#[test]
fn taps_tell_early_of_damage_and_take_options_for_reading() {
    let mut tight = ReadOptions::default();
    tight.limits.toc_entries = 1;
    let archive = large_data().piped(&WriteOptions::default());
    let is_refused =
        |error: &dumpfmt::Error| matches!(error.kind(), ErrorKind::LimitExceeded { field: "toc_entries", .. });

    let endless = Cursor::new(&archive[..]).chain(std::io::repeat(0));
    let mut reader = VerifyingReader::with_options(endless, VerifyOptions::default(), tight.clone());
    let mut buffer = vec![0; 1 << 16];
    while !reader.has_failed() {
        reader.read_exact(&mut buffer).unwrap();
    }
    // Its end need not be reached for that.
    let error = reader.finish().unwrap_err();
    assert!(is_refused(&error), "{error}");

    let mut writer = VerifyingWriter::with_options(std::io::sink(), VerifyOptions::default(), tight);
    writer.write_all(&archive).unwrap();
    while !writer.has_failed() {
        writer.write_all(&buffer).unwrap();
    }
    let error = writer.finish().1.unwrap_err();
    assert!(is_refused(&error), "{error}");
}

#[test]
fn an_archive_that_was_not_read_to_its_end_is_not_known_to_be_whole() {
    let archive = large_data().piped(&WriteOptions::default());
    let mut reader = VerifyingReader::new(&archive[..], VerifyOptions::default());
    reader.read_exact(&mut vec![0; archive.len() - 1]).unwrap();
    assert!(matches!(reader.finish().unwrap_err().kind(), ErrorKind::Usage(_)));

    // Nobody has to ask for more than there is, nor for nothing.
    let mut reader = VerifyingReader::new(&archive[..], VerifyOptions::default());
    reader.read_exact(&mut vec![0; archive.len()]).unwrap();
    assert!(reader.finish().is_ok());
    let mut reader = VerifyingReader::new(&archive[..], VerifyOptions::default());
    reader.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(reader.read(&mut []).unwrap(), 0);
    assert!(reader.finish().is_ok());
}

#[test]
fn whoever_needs_all_blocks_says_when_some_were_read_before() {
    let data = large_data();
    let options = WriteOptions::default().threads(2);
    for archive in [data.piped(&options), data.seekable(&options)] {
        let expected = by_one(&archive).unwrap();
        let mut reader = ArchiveReader::new(Cursor::new(&archive[..])).unwrap();
        let last = expected.last().unwrap().dump_id;
        let reads: [fn(&mut ArchiveReader<_>, i32); 2] = [
            |reader, last| assert!(reader.block(last).unwrap().is_some()),
            |reader, _| {
                let Some(Block::Data(mut begun)) = reader.next_block().unwrap() else { panic!("no data") };
                begun.read_exact(&mut [0; 10]).unwrap();
            },
        ];
        for read in reads {
            read(&mut reader, last);
            let verified = reader.verify(|_| {}).unwrap_err();
            let rewritten = Rewrite::new(options.clone()).to_pipe(&mut reader, Vec::new(), |_| {}).unwrap_err();
            let as_sql = reader.write_sql(Vec::new(), &SqlOptions::default());
            let Err(SqlError::Archive(as_sql)) = as_sql else { panic!("{as_sql:?}") };
            for error in [verified, rewritten, as_sql] {
                assert!(matches!(error.kind(), ErrorKind::Usage(_)) && error.to_string().contains("rewind"), "{error}");
            }
            reader.rewind().unwrap();
            assert_eq!(reader.verify(|_| {}).unwrap(), expected);
            reader.rewind().unwrap();
        }
    }
}

#[test]
fn a_cut_is_told_at_a_byte_that_there_is_by_those_too_who_pass_over_data() {
    let data = large_data();
    let archive = data.piped(&WriteOptions::new(CompressionSpecification::NONE));
    let length = archive.len() * 2 / 3;
    let cut = &archive[..length];
    let last = by_one(&archive).unwrap().last().unwrap().dump_id;
    let by_jump = || ArchiveReader::new(Cursor::new(cut)).unwrap().block(last).map(|block| block.is_some());
    for error in [by_one(cut).unwrap_err(), by_several(cut).unwrap_err(), by_jump().unwrap_err()] {
        assert!(matches!(error.kind(), ErrorKind::Truncated(_)), "{error}");
        assert!(error.offset() <= length as u64 && error.entry().is_some(), "{length}: {error}");
    }
}

#[test]
fn a_flipped_bit_in_the_oid_of_a_large_object_is_noticed_by_all_who_copy_it() {
    let objects: Vec<_> = (16_400..16_404_u32).map(|oid| (oid, vec![7; 100])).collect();
    let data = Data { tables: vec![], large_objects: objects };
    let names = data.large_objects.iter().zip(2000..).map(|((oid, _), dump_id)| {
        TocEntry::builder(dump_id, "BLOB", oid.to_string()).catalog_id(2613, *oid).build().unwrap()
    });
    let toc = Toc::new(data.toc().entries().iter().cloned().chain(names).collect()).unwrap();
    let options = WriteOptions::new(CompressionSpecification::NONE);
    let writer = ArchiveWriter::to_pipe(Vec::new(), &crate::data::header(), toc, &options).unwrap();
    let archive = data.write(writer).unwrap().finish().unwrap();
    assert_eq!(by_several(&archive).unwrap(), by_one(&archive).unwrap());
    let begin = ArchiveReader::new(&archive[..]).unwrap().position() as usize;
    let oid = begin + archive[begin..].windows(4).rposition(|it| it == 16_401_u32.to_le_bytes()).unwrap();
    // 16400 comes twice, a large object is there that the contents do not name.
    for bit in [0, 7] {
        let mut damaged = archive.clone();
        damaged[oid] ^= 1 << bit;
        let rewritten =
            Rewrite::new(options.clone()).to_pipe(&mut ArchiveReader::new(&damaged[..]).unwrap(), Vec::new(), |_| {});
        let mut sql = Vec::new();
        let as_sql = ArchiveReader::new(Cursor::new(&damaged)).unwrap().write_sql(&mut sql, &SqlOptions::default());
        let Err(SqlError::Archive(as_sql)) = as_sql else { panic!("{as_sql:?}") };
        let (folder, path) = stored(&damaged);
        let in_place = dumpfmt::repair::index_in_place(&path, &Default::default(), |_| {});
        let Err(dumpfmt::repair::IndexError::Archive(in_place)) = in_place else { panic!("{in_place:?}") };
        drop(folder);
        let errors = [
            as_sql,
            in_place,
            by_one(&damaged).unwrap_err(),
            by_several(&damaged).unwrap_err(),
            on_the_way(&damaged).unwrap_err(),
            rewritten.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error.kind(), ErrorKind::Corrupt(_)), "{error}");
            let text = if bit == 0 { "large object 16400 is there twice" } else { "names no large object" };
            assert!(error.to_string().contains(text) && error.entry().is_some(), "{error}");
        }
    }
    // The object is not there, and neither is its OID.
    let length = 5 + 5 + 100 + 5;
    let missing = [&archive[..oid - 1], &archive[oid - 1 + length..]].concat();
    let jumped = {
        let mut archive = ArchiveReader::new(Cursor::new(&missing)).unwrap();
        let Some(Block::LargeObjects(mut objects)) = archive.block(1000).unwrap() else { panic!("no large objects") };
        loop {
            match objects.next_object() {
                Ok(object) => assert!(object.is_some(), "nothing was noticed"),
                Err(e) => break e,
            }
        }
    };
    for error in [by_one(&missing).unwrap_err(), by_several(&missing).unwrap_err(), jumped] {
        assert!(error.to_string().contains("large object 16401, which the table of contents names"), "{error}");
    }
}
