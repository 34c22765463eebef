//! What is written is read again as it was.

use std::io::{Cursor, Write};

use crate::data::{Data, compressions, header, large_data, versions};
use dumpfmt::{
    ArchiveReader, ArchiveWriter, Block, Compression, CompressionSpecification, Error, ErrorKind, LocalTime, Section,
    Toc, TocEntry, Version, WriteOptions,
};
use proptest::prelude::*;

#[test]
fn a_row_that_ends_like_the_end_of_all_rows_does_not_end_them() {
    for newlines in 1..24 {
        for begin in [&b"x\\\\.\n"[..], b"a\nx\\\\.\n", b"\\\\.\n"] {
            let rows = [begin, &vec![b'\n'; newlines]].concat();
            let data = Data { tables: vec![rows], large_objects: vec![] };
            for archive in [data.piped(&WriteOptions::default()), data.seekable(&WriteOptions::default())] {
                ArchiveReader::new(&archive[..]).unwrap().verify(|_| {}).unwrap();
                assert_eq!(Data::read(&archive).unwrap().tables, data.tables);
            }
        }
    }
}

#[test]
fn every_compression_and_version_is_read_as_it_was_written() {
    let data = large_data();
    for compression in compressions() {
        for version in versions(compression) {
            let options = WriteOptions::new(compression).version(version).threads(2);
            let archive = data.seekable(&options);
            let reader = ArchiveReader::new(&archive[..]).unwrap();
            assert_eq!(reader.header().version, version);
            assert_eq!(reader.header().compression, compression.algorithm());
            assert_eq!(reader.header().created, LocalTime::new(2026, 11, 20, 3, 4, 5));
            let read = Data::read(&archive).unwrap();
            assert!(read.tables == data.tables && read.large_objects == data.large_objects, "{compression} {version}");
            ArchiveReader::new(&archive[..]).unwrap().verify(|_| {}).unwrap();
        }
    }
}

#[test]
fn the_number_of_threads_makes_no_difference_to_the_archive() {
    let data = large_data();
    for compression in compressions() {
        let options = WriteOptions::new(compression);
        let one = data.seekable(&options.clone().threads(0));
        assert!(one == data.seekable(&options.clone().threads(3)), "{compression}");
    }
}

#[test]
fn a_file_records_the_positions_and_a_pipe_does_not() {
    let data = large_data();
    let options = WriteOptions::default();
    let (file, pipe) = (data.seekable(&options), data.piped(&options));
    assert_eq!(file.len(), pipe.len());
    let mut reader = ArchiveReader::new(Cursor::new(&file[..])).unwrap();
    let mut ids: Vec<i32> = reader.toc().entries().iter().filter(|e| e.has_data()).map(TocEntry::dump_id).collect();
    ids.reverse();
    for dump_id in ids {
        let position = reader.toc().get(dump_id).unwrap().data_state();
        assert!(matches!(position, dumpfmt::DataState::Position(_)), "{position:?}");
        assert_eq!(reader.block(dump_id).unwrap().unwrap().entry().dump_id(), dump_id);
    }
    let reader = ArchiveReader::new(&pipe[..]).unwrap();
    let mut states = reader.toc().entries().iter().filter(|e| e.has_data()).map(TocEntry::data_state);
    assert!(states.all(|state| state == dumpfmt::DataState::PositionNotSet));
}

#[test]
fn a_flipped_bit_in_any_compressed_data_that_is_written_here_is_noticed() {
    let data = Data { tables: vec![b"1\tone\n2\ttwo\n".repeat(40)], ..Data::default() };
    for compression in compressions().into_iter().filter(|it| it.algorithm() != Compression::None) {
        let archive = data.piped(&WriteOptions::new(compression).threads(0));
        // The one body, behind the type of its block, its dump ID, and the length of its one chunk; the length 0 follows.
        let mut reader = ArchiveReader::new(&archive[..]).unwrap();
        let begin = reader.position() as usize + 1 + 5 + 5;
        let rows = Data::read(&archive).unwrap().tables;
        assert!(reader.next_block().unwrap().is_some());
        for position in begin..archive.len() - 5 {
            for bit in 0..8 {
                let mut damaged = archive.clone();
                damaged[position] ^= 1 << bit;
                // Some bits mean nothing, such as the padding of the last byte of deflated data.
                let read = ArchiveReader::new(&damaged[..]).unwrap().verify(|_| {});
                assert!(
                    read.is_err() || Data::read(&damaged).unwrap().tables == rows,
                    "{compression}, byte {position}, bit {bit}"
                );
            }
        }
    }
}

#[test]
fn chunks_are_of_about_128_kib_however_long_a_body_is() {
    // Of a megabyte and more, in one row too: a reader has to hold a chunk as a whole.
    let digits = (0..400_000_u32).flat_map(|n| format!("{:08x}", n.wrapping_mul(2_654_435_761)).into_bytes());
    let mut long: Vec<u8> = digits.collect();
    long.push(b'\n');
    let lines = long.chunks(79).flat_map(|line| [line, b"\n"].concat()).collect();
    let data = Data { tables: vec![long, lines], large_objects: vec![(7, vec![7; 3 << 20])] };
    for compression in compressions() {
        let archive = data.piped(&WriteOptions::new(compression).threads(2));
        let mut reader = ArchiveReader::new(&archive[..]).unwrap();
        // Frames of zstd and LZ4 are whole chunks, of 512 KiB before compression unless that is one row.
        let is_framed = matches!(compression.algorithm(), Compression::Lz4 | Compression::Zstd);
        for most in [if is_framed { 4 << 20 } else { 128 << 10 }, if is_framed { 600 << 10 } else { 128 << 10 }] {
            let Some(Block::Data(rows)) = reader.next_block().unwrap() else { panic!("no data") };
            let mut stored = rows.stored().unwrap();
            let mut bytes = Vec::new();
            while let Some(piece) = stored.next_piece().unwrap() {
                bytes.extend_from_slice(piece);
            }
            let mut rest = &bytes[..];
            let mut lengths = Vec::new();
            while let [0, a, b, c, d, behind @ ..] = rest {
                let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
                lengths.push(length);
                rest = &behind[length..];
            }
            assert_eq!((lengths.pop(), rest), (Some(0), &[][..]), "{compression}");
            assert!(lengths.iter().all(|&length| 0 < length && length <= most), "{compression}: {lengths:?}");
        }
    }
}

#[test]
fn every_field_of_an_entry_is_written() {
    let entry = TocEntry::builder(9, "TABLE", b"\xff name")
        .section(Section::PreData)
        .catalog_id(1259, 4_294_967_295)
        .relkind(Some(b'p'))
        .definition("CREATE TABLE")
        .drop_statement("DROP TABLE")
        .copy_statement(None)
        .namespace(Some(b"n"))
        .tablespace(Some(b""))
        .table_access_method(Some(b"heap"))
        .owner("o")
        .dependencies([3, 8, 2_147_483_647])
        .build()
        .unwrap();
    let toc = Toc::new(vec![entry.clone()]).unwrap();
    let archive =
        ArchiveWriter::to_pipe(Vec::new(), &header(), toc, &WriteOptions::default()).unwrap().finish().unwrap();
    let read = ArchiveReader::new(&archive[..]).unwrap();
    assert_eq!(read.toc().entries(), std::slice::from_ref(&entry));
    assert_eq!(entry.to_builder().build().unwrap(), entry);
}

#[test]
fn an_archive_that_is_not_whole_cannot_be_finished() {
    let data = Data { tables: vec![b"a\n".to_vec(), b"b\n".to_vec()], ..Data::default() };
    let new = || ArchiveWriter::to_pipe(Vec::new(), &header(), data.toc(), &WriteOptions::default()).unwrap();
    let usage = |error: Error, text: &str| {
        assert!(matches!(error.kind(), ErrorKind::Usage(_)), "{error}");
        assert!(error.to_string().contains(text), "{error}");
    };
    usage(new().finish().unwrap_err(), "not written");
    let mut archive = new();
    archive.data(2).unwrap().finish().unwrap();
    usage(archive.data(2).err().unwrap(), "written before");
    usage(archive.data(1).err().unwrap(), "no data");
    usage(archive.data(99).err().unwrap(), "not in the table of contents");
    usage(archive.large_objects(3).err().unwrap(), "no large objects");
    drop(archive.data(3).unwrap());
    usage(archive.finish().unwrap_err(), "not ended");
    let mut archive = new();
    let mut rows = archive.data(2).unwrap();
    rows.write_all(b"a row without its end").unwrap();
    usage(rows.finish().unwrap_err(), "newline");
}

#[test]
fn the_end_of_rows_is_written_once() {
    let data = Data { tables: vec![b"a\n".to_vec(), b"\\.\n\n\n".to_vec(), b"b\n\\.\n".to_vec()], ..Data::default() };
    let archive = data.piped(&WriteOptions::default());
    assert_eq!(Data::read(&archive).unwrap().tables, [b"a\n".to_vec(), vec![], b"b\n".to_vec()]);
}

#[test]
fn entries_of_large_objects_share_one_list_in_a_directory_of_before_1_16() {
    let blobs = |dump_id| TocEntry::builder(dump_id, "BLOBS", "BLOBS").section(Section::Data).has_data(true).build();
    let options = |version| WriteOptions::default().version(version);
    let folder = tempfile::tempdir().unwrap();
    for (version, lists) in [(Version::COMPRESSION_ALGORITHM, vec![3]), (Version::RELKIND, vec![1, 2])] {
        let toc = Toc::new(vec![blobs(1).unwrap(), blobs(2).unwrap()]).unwrap();
        let path = folder.path().join(version.to_string());
        let mut archive = ArchiveWriter::to_directory(&path, &header(), toc, &options(version)).unwrap();
        for (dump_id, oids) in [(1, vec![7]), (2, vec![8, 9])] {
            let mut objects = archive.large_objects(dump_id).unwrap();
            for oid in oids {
                objects.object(oid).unwrap().finish().unwrap();
            }
            objects.finish().unwrap();
        }
        archive.finish().unwrap();
        let verified = ArchiveReader::open(&path).unwrap().verify(|_| {}).unwrap();
        let found: Vec<_> = verified.iter().filter_map(|entry| entry.large_objects).collect();
        assert_eq!(found, lists, "{version}");
        assert_eq!(path.join("blobs.toc").exists(), lists.len() == 1);
    }
}

#[test]
fn a_failure_to_write_is_told_with_its_place() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            match self.0.min(bytes.len()) {
                0 => Err(std::io::ErrorKind::StorageFull.into()),
                step => {
                    self.0 -= step;
                    Ok(step)
                }
            }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let data = large_data();
    for room in [0, 10, 1000, 300_000, 2_000_000] {
        let options = WriteOptions::new(CompressionSpecification::NONE).threads(2);
        let error = ArchiveWriter::to_pipe(Full(room), &header(), data.toc(), &options)
            .and_then(|archive| data.write(archive))
            .and_then(|archive| archive.finish().map(drop))
            .unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Write(e) if e.kind() == std::io::ErrorKind::StorageFull), "{error}");
        assert!(error.to_string().contains("of the new archive"), "{error}");
    }
}

proptest! {
    #[test]
    fn any_data_is_read_as_it_was_written(
        tables in prop::collection::vec(prop::collection::vec("[a-z\\\\\t]{0,9}", 0..20), 0..5),
        large_objects in prop::collection::vec((1_u32.., prop::collection::vec(any::<u8>(), 0..100)), 0..4),
        threads in 0_usize..3,
        which in any::<prop::sample::Index>(),
    ) {
        let rows = |lines: Vec<String>| {
            lines.iter().filter(|line| *line != "\\.").flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect()
        };
        let data = Data { tables: tables.into_iter().map(rows).collect(), large_objects };
        let compressions = compressions();
        let options = WriteOptions::new(*which.get(&compressions)).threads(threads);
        let read = Data::read(&data.seekable(&options)).unwrap();
        prop_assert_eq!(&read.tables, &data.tables);
        prop_assert_eq!(read.large_objects, data.large_objects);
    }
}
