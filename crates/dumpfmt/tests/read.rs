//! Archives built byte by byte: whole ones, cut ones, damaged ones and hostile
//! ones. What real pg_dump writes is read in the whole-program tests.

use std::io::{Cursor, Read};

use crate::archives::{GZIP, LZ4, NONE, ZSTD, compress};
use dumpfmt::example::Builder;
use dumpfmt::{ArchiveReader, Block, CopyStatement, DataState, Error, ErrorKind, SequenceValue};

const ROWS: &[u8] = b"1\tone\n2\ttwo\n\\.\n\n\n";

/// Whether this build decodes it.
fn is_built_in(compression: u8) -> bool {
    compression != ZSTD || cfg!(feature = "zstd")
}

/// Two tables, the first one after the second in the file, and two large objects.
fn sample(minor: u8, compression: u8) -> Vec<u8> {
    sample_builder(minor, compression).build()
}

fn sample_builder(minor: u8, compression: u8) -> Builder {
    let mut builder = Builder::new(minor, compression);
    let copy = |table: &str| format!("COPY public.{table} (id, name) FROM stdin;\n");
    builder
        .entry(9, 1, false, [Some("ENCODING"), Some("ENCODING"), Some("SET client_encoding = 'LATIN1';\n"), None, None])
        .entry(3, 3, true, [Some("a"), Some("TABLE DATA"), Some(""), None, Some(&copy("a"))])
        .entry(4, 3, true, [Some("b"), Some("TABLE DATA"), Some(""), None, Some(&copy("b"))])
        .entry(5, 3, true, [Some("BLOBS"), Some("BLOBS"), None, None, None])
        .entry(
            6,
            3,
            false,
            [
                Some("s"),
                Some("SEQUENCE SET"),
                Some("SELECT pg_catalog.setval('public.\"S x\"', -7, false);\n"),
                None,
                None,
            ],
        );
    let rows = compress(compression, ROWS);
    let (first, second) = rows.split_at(3);
    let empty = compress(compression, b"\\.\n\n\n");
    let object = compress(compression, b"large object");
    builder.data(4, &[first, second]).data(3, &[&empty]).large_objects(5, &[(7, &[&object]), (u32::MAX, &[&object])]);
    builder
}

fn variants() -> impl Iterator<Item = (u8, u8)> {
    [
        (12, NONE),
        (13, GZIP),
        (14, NONE),
        (14, GZIP),
        (15, LZ4),
        (15, ZSTD),
        (16, NONE),
        (16, GZIP),
        (16, LZ4),
        (16, ZSTD),
    ]
    .into_iter()
    .filter(|(_, compression)| is_built_in(*compression))
}

fn verify(bytes: &[u8]) -> Result<u64, Error> {
    let verified = ArchiveReader::new(bytes)?.verify(|_| {})?;
    Ok(verified.iter().map(|entry| entry.rows.unwrap_or(0) + entry.large_objects.unwrap_or(0)).sum())
}

#[test]
fn nothing_is_read_after_an_error() {
    let mut builder = Builder::new(16, NONE);
    builder.entry(1, 3, true, [Some("t"), Some("TABLE DATA"), None, None, Some("COPY public.t (a) FROM stdin;\n")]);
    builder.data(1, &[b"1\n2\n\\.\n3\n4\n\\.\n\n\n"]);
    let archive = builder.build();
    for batches in [false, true] {
        let mut reader = ArchiveReader::new(&archive[..]).unwrap();
        let Some(Block::Data(data)) = reader.next_block().unwrap() else { panic!("no rows") };
        let mut rows = data.rows();
        let mut next =
            || if batches { rows.next_batch().map(|it| it.is_some()) } else { rows.next_row().map(|it| it.is_some()) };
        while next().is_ok_and(|more| more) {}
        for _ in 0..3 {
            assert!(next().is_err(), "batches: {batches}");
        }
    }
    // A length that cannot be, and then what could be the next block.
    let place = archive.windows(6).position(|bytes| bytes == b"1\n2\n\\.").unwrap() - 5;
    let mut damaged = archive.clone();
    damaged[place] = 1;
    let mut reader = ArchiveReader::new(&damaged[..]).unwrap();
    reader.next_block().unwrap().unwrap();
    for _ in 0..3 {
        assert!(reader.next_block().is_err());
    }
}

#[test]
fn every_version_and_compression_is_read_in_the_order_of_the_file() {
    for (minor, compression) in variants() {
        let bytes = sample(minor, compression);
        let mut archive = ArchiveReader::new(&bytes[..]).unwrap();
        assert_eq!(archive.toc().encoding().as_deref(), Some("LATIN1"));
        assert_eq!(archive.header().version.minor, minor);
        let mut seen = Vec::new();
        while let Some(block) = archive.next_block().unwrap() {
            seen.push(block.entry().tag().to_vec());
            match block {
                Block::Data(mut data) => {
                    let mut text = Vec::new();
                    let expected = if data.entry().tag() == b"b" { ROWS } else { b"\\.\n\n\n" };
                    data.read_to_end(&mut text).unwrap();
                    assert_eq!(text, expected);
                }
                Block::LargeObjects(mut objects) => {
                    let mut oids = Vec::new();
                    while let Some(mut object) = objects.next_object().unwrap() {
                        let mut content = String::new();
                        object.read_to_string(&mut content).unwrap();
                        assert_eq!(content, "large object");
                        oids.push(object.oid());
                    }
                    assert_eq!(oids, [7, u32::MAX]);
                }
            }
        }
        assert_eq!(seen, [b"b".to_vec(), b"a".to_vec(), b"BLOBS".to_vec()]);
    }
}

#[test]
fn blocks_that_the_caller_ignores_are_passed_over() {
    for (minor, compression) in variants() {
        let bytes = sample(minor, compression);
        let mut archive = ArchiveReader::new(&bytes[..]).unwrap();
        let mut blocks = 0;
        while let Some(block) = archive.next_block().unwrap() {
            if let Block::LargeObjects(mut objects) = block {
                // Left in the middle of the first object.
                objects.next_object().unwrap().unwrap().read_exact(&mut [0; 2]).unwrap();
            }
            blocks += 1;
        }
        assert_eq!(blocks, 3);
    }
}

#[test]
fn any_entry_is_found_in_a_file_without_positions() {
    for (minor, compression) in variants() {
        let mut archive = ArchiveReader::new(Cursor::new(sample(minor, compression))).unwrap();
        assert_eq!(archive.toc().get(3).unwrap().data_state(), DataState::PositionNotSet);
        for (dump_id, expected) in [(3, 0), (4, 2), (3, 0), (4, 2)] {
            let Some(Block::Data(data)) = archive.block(dump_id).unwrap() else { panic!("no data") };
            let mut rows = data.rows();
            let mut count = 0;
            while rows.next_row().unwrap().is_some() {
                count += 1;
            }
            assert_eq!(count, expected);
        }
        assert!(archive.block(6).unwrap().is_none());
        assert!(matches!(archive.block(77).unwrap_err().kind(), ErrorKind::Usage(_)));
        archive.rewind().unwrap();
        assert_eq!(archive.verify(|_| {}).unwrap().len(), 3);
    }
}

#[test]
fn statements_are_read_as_values() {
    let bytes = sample(16, NONE);
    let archive = ArchiveReader::new(&bytes[..]).unwrap();
    let copy = CopyStatement::of(archive.toc().get(3).unwrap()).unwrap();
    assert_eq!(copy.table, b"a");
    assert_eq!(copy.columns, [b"id".to_vec(), b"name".to_vec()]);
    let sequence = SequenceValue::of(archive.toc().get(6).unwrap()).unwrap();
    assert_eq!((&sequence.sequence[..], sequence.value, sequence.is_called), (&b"S x"[..], -7, false));
    assert_eq!(CopyStatement::of(archive.toc().get(5).unwrap()), None);
}

#[test]
fn an_archive_cut_at_any_byte_is_an_error() {
    for (minor, compression) in variants() {
        let bytes = sample(minor, compression);
        assert_eq!(verify(&bytes).unwrap(), 4);
        for length in 0..bytes.len() {
            let error = verify(&bytes[..length]).unwrap_err();
            assert!(error.offset() <= length as u64, "cut at {length}: {error}");
        }
    }
}

#[test]
fn bytes_after_the_last_block_are_an_error() {
    for extra in [&b"\n"[..], b"\x01", b"\x01\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00", b"Finished backup"] {
        let bytes = [&sample(14, GZIP)[..], extra].concat();
        verify(&bytes).unwrap_err();
    }
}

/// What `pg_dump > file` leaves.
fn redirected(minor: u8, compression: u8) -> Vec<u8> {
    sample_builder(minor, compression).build_redirected()
}

#[test]
fn a_table_of_contents_repeated_behind_the_data_is_passed_over() {
    for (minor, compression) in variants() {
        let (once, twice) = (sample(minor, compression), redirected(minor, compression));
        assert!(twice.starts_with(&once) && twice.len() > once.len());
        assert_eq!(verify(&twice).unwrap(), 4);
        let mut archive = ArchiveReader::new(&twice[..]).unwrap();
        while archive.next_block().unwrap().is_some() {}
        assert_eq!(archive.position(), twice.len() as u64);
        assert!(archive.next_block().unwrap().is_none());

        let mut archive = ArchiveReader::new(Cursor::new(&twice)).unwrap();
        for dump_id in [5, 3, 4] {
            assert!(archive.block(dump_id).unwrap().is_some());
        }
        archive.rewind().unwrap();
        assert_eq!(archive.verify(|_| {}).unwrap().len(), 3);
    }
    // The schema alone: there are no positions to record, and they are written again all the same.
    let mut schema = Builder::new(16, NONE);
    schema.entry(1, 2, false, [Some("t"), Some("TABLE"), Some("CREATE TABLE t ();"), None, None]);
    assert_eq!(verify(&schema.build_redirected()).unwrap(), 0);
}

#[test]
fn a_repeated_table_of_contents_that_is_cut_is_an_error() {
    for minor in [14, 16] {
        let (begin, bytes) = (sample(minor, NONE).len(), redirected(minor, NONE));
        for length in begin + 1..bytes.len() {
            let error = verify(&bytes[..length]).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Truncated(_)), "cut at {length}: {error}");
            assert!(error.to_string().contains("repeated behind the data"), "{error}");
            let mut archive = ArchiveReader::new(Cursor::new(&bytes[..length])).unwrap();
            assert!(archive.block(5).unwrap().is_some());
        }
    }
}

#[test]
fn behind_the_data_only_the_same_table_of_contents_is_accepted() {
    let (begin, bytes) = (sample(16, NONE).len(), redirected(16, NONE));
    let flipped = |position: usize, bit: u32| {
        let mut damaged = bytes.clone();
        damaged[position] ^= 1 << bit;
        verify(&damaged)
    };
    for (position, bit) in (begin..bytes.len()).flat_map(|position| (0..8).map(move |bit| (position, bit))) {
        // Not every bit counts: nothing is made of the positions.
        if let Err(error) = flipped(position, bit) {
            assert!(matches!(error.kind(), ErrorKind::Corrupt(_) | ErrorKind::Truncated(_)), "{position}: {error}");
        }
    }
    for text in [&b"SET client_encoding"[..], b"COPY public.b (id, name)", b"SEQUENCE SET", b"heap", b"owner"] {
        let found = bytes[begin..].windows(text.len()).position(|window| window == text).unwrap();
        for position in (begin + found..).take(text.len()) {
            let error = flipped(position, 0).unwrap_err();
            assert!(error.to_string().contains("this entry differs"), "{error}");
        }
    }

    let twice = [&bytes[..], &bytes[begin..]].concat();
    assert!(verify(&twice).unwrap_err().to_string().contains("bytes follow the table of contents"));
    let more = [&bytes[..], b"\0"].concat();
    assert!(verify(&more).unwrap_err().to_string().contains("bytes follow the table of contents"));

    let behind = |builder: &Builder| {
        let (once, twice) = (builder.build(), builder.build_redirected());
        [&sample(16, NONE)[..], &twice[once.len()..]].concat()
    };
    let mut fewer = Builder::new(16, NONE);
    fewer.entry(9, 1, false, [Some("ENCODING"), Some("ENCODING"), None, None, None]);
    assert!(verify(&behind(&fewer)).unwrap_err().to_string().contains("its type is 0"));
    let tables = |tags: [&str; 5]| {
        let mut other = Builder::new(16, NONE);
        for (tag, dump_id) in tags.into_iter().zip(1..) {
            other.entry(dump_id, 3, false, [Some(tag), Some("TABLE"), None, None, None]);
        }
        other
    };
    let error = verify(&behind(&tables(["a", "b", "c", "d", "e"]))).unwrap_err();
    assert!(error.to_string().contains("this entry differs"), "{error}");
    assert_eq!(error.entry(), Some("ENCODING public.ENCODING (dump ID 9)"));
    // A text that claims more than the entry had is not read, let alone kept.
    let error = verify(&behind(&tables([&"x".repeat(1 << 20), "b", "c", "d", "e"]))).unwrap_err();
    assert!(error.to_string().contains("this entry differs") && error.offset() < begin as u64 + 100, "{error}");

    let zeros = [&bytes[..begin], &[0; 512]].concat();
    assert!(verify(&zeros).unwrap_err().to_string().contains("its type is 0"));

    // Where the first one has the positions, pg_dump had no reason to write another.
    let contents = &bytes[begin..];
    let data_start = ArchiveReader::new(&bytes[..]).unwrap().position() as usize;
    let header = &bytes[..data_start - contents.len()];
    let seekable = [header, contents, &bytes[data_start..begin]].concat();
    assert_eq!(verify(&seekable).unwrap(), 4);
    let error = verify(&[&seekable, contents].concat()).unwrap_err();
    assert!(error.to_string().contains("its type is 0"), "{error}");
}

#[test]
fn a_flipped_bit_is_an_error_or_the_data_it_makes_never_a_panic() {
    let variants = [(14, GZIP), (16, NONE), (16, LZ4), (16, ZSTD)];
    for (minor, compression) in variants.into_iter().filter(|(_, compression)| is_built_in(*compression)) {
        let bytes = sample(minor, compression);
        let expected = verify(&bytes).unwrap();
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[position] ^= 1 << bit;
                // Rows can have other letters, but there are as many.
                if let Ok(found) = verify(&damaged) {
                    assert_eq!(found, expected, "{compression}, bit {bit} of byte {position}");
                }
                if let Ok(mut archive) = ArchiveReader::new(Cursor::new(&damaged)) {
                    let _ = archive.block(4).map(|block| block.is_some());
                }
            }
        }
    }
}

#[test]
fn a_flipped_bit_in_gzip_data_is_noticed() {
    let stream = compress(GZIP, ROWS);
    for position in 0..stream.len() {
        for bit in 0..8 {
            let mut damaged = stream.clone();
            damaged[position] ^= 1 << bit;
            // Some bits mean nothing, such as the padding of the last byte.
            let decoded = first_body(&one_table(GZIP, &[&damaged]));
            assert!(decoded.is_err() || decoded.unwrap() == ROWS, "byte {position}, bit {bit}");
        }
    }
}

fn first_body(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut archive = ArchiveReader::new(bytes)?;
    let Some(Block::Data(mut data)) = archive.next_block()? else { panic!("no data") };
    let mut body = Vec::new();
    match data.read_to_end(&mut body) {
        Ok(_) => Ok(body),
        Err(e) => Err(Error::from_io(e, 0)),
    }
}

fn one_table(compression: u8, chunks: &[&[u8]]) -> Vec<u8> {
    let mut builder = Builder::new(16, compression);
    builder.entry(
        1,
        3,
        true,
        [Some("t"), Some("TABLE DATA"), None, None, Some("COPY public.t (id, name) FROM stdin;\n")],
    );
    builder.data(1, chunks).build()
}

#[test]
fn a_compressed_stream_that_was_cut_within_whole_chunks_is_an_error() {
    for compression in [GZIP, LZ4, ZSTD].into_iter().filter(|compression| is_built_in(*compression)) {
        let stream = compress(compression, ROWS);
        assert_eq!(verify(&one_table(compression, &[&stream])).unwrap(), 2);
        for length in 0..stream.len() {
            let error = verify(&one_table(compression, &[&stream[..length]])).unwrap_err();
            assert!(error.entry().unwrap().contains("TABLE DATA public.t"), "{compression}, {length}: {error}");
        }
    }
}

#[test]
fn what_follows_a_compressed_stream_is_an_error() {
    for compression in [GZIP, LZ4, ZSTD].into_iter().filter(|compression| is_built_in(*compression)) {
        let stream = compress(compression, ROWS);
        let error = verify(&one_table(compression, &[&stream, b"xyzxyzxyz"])).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Corrupt(_)), "{error}");
    }
}

#[test]
fn a_second_zlib_stream_in_one_body_is_an_error_never_lost() {
    // pg_restore reads no further than the first one, and no pg_dump writes a second one.
    let (first, second) = (compress(GZIP, b"1\n2\n"), compress(GZIP, b"3\n\\.\n\n\n"));
    for chunks in [vec![&first[..], &second], vec![&[&first[..], &second].concat()]] {
        let error = verify(&one_table(GZIP, &chunks)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Corrupt(_)), "{error}");
    }
    let whole = [compress(GZIP, ROWS), compress(GZIP, b"")];
    assert!(verify(&one_table(GZIP, &[&whole[0], &whole[1]])).is_err());
}

#[cfg(not(feature = "zstd"))]
#[test]
fn zstd_that_was_left_out_of_the_build_is_a_clear_error() {
    let error = verify(&one_table(ZSTD, &[b"\x28\xb5\x2f\xfd"])).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unsupported(_)), "{error}");
    assert!(error.to_string().contains("feature `zstd`"), "{error}");
}

#[test]
fn several_frames_in_one_body_are_read_to_the_end() {
    for compression in [LZ4, ZSTD].into_iter().filter(|compression| is_built_in(*compression)) {
        let (first, second) = (compress(compression, b"1\t\n2\t\n"), compress(compression, b"3\t\n\\.\n\n\n"));
        assert_eq!(verify(&one_table(compression, &[&first, &second])).unwrap(), 3);
        assert_eq!(verify(&one_table(compression, &[&[first, second].concat()])).unwrap(), 3);
    }
}

#[cfg(feature = "zstd")]
#[test]
fn a_zstd_window_over_the_limit_is_refused_by_name() {
    use dumpfmt::Limits;

    // A frame by hand: the magic, no option, the window, one last block as it is.
    let frame = |window_log: u8| {
        let length = u8::try_from(ROWS.len()).unwrap();
        [&[0x28, 0xb5, 0x2f, 0xfd, 0, (window_log - 10) << 3, 1 | length << 3, 0, 0], ROWS].concat()
    };
    let rows = |window_log: u8, limits: Limits| {
        let bytes = one_table(ZSTD, &[&frame(window_log)]);
        let verified = ArchiveReader::with_limits(&bytes[..], limits)?.verify(|_| {})?;
        Ok::<_, Error>(verified[0].rows)
    };
    let limited = |zstd_window_log| {
        let mut limits = Limits::default();
        limits.zstd_window_log = zstd_window_log;
        limits
    };
    assert_eq!(rows(10, limited(0)).unwrap(), Some(2));
    assert_eq!(rows(27, Limits::default()).unwrap(), Some(2));
    for (window_log, limits) in [(28, Limits::default()), (31, Limits::default()), (21, limited(20))] {
        let error = rows(window_log, limits).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::LimitExceeded { field: "zstd_window_log", .. }), "{error}");
        assert!(error.entry().is_some());
    }
    assert_eq!(rows(28, limited(28)).unwrap(), Some(2));
    // More than the library can do, told to do all it can.
    assert!(rows(10 + 31, limited(u32::MAX)).is_err());

    let mut builder = Builder::new(16, ZSTD);
    builder.entry(5, 3, true, [Some("BLOBS"), Some("BLOBS"), None, None, None]);
    builder.large_objects(5, &[(7, &[&frame(28)])]);
    let error = verify(&builder.build()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::LimitExceeded { field: "zstd_window_log", .. }), "{error}");
}

#[test]
fn a_row_longer_than_the_limit_is_verified_all_the_same() {
    let mut limits = dumpfmt::Limits::default();
    limits.row_bytes = 1 << 20;
    let rows = [vec![b'x'; 5 << 20], b"\t\n\\.\n\n\n".to_vec()].concat();
    let bytes = one_table(GZIP, &[&compress(GZIP, &rows)]);
    let mut archive = ArchiveReader::with_limits(Cursor::new(bytes), limits).unwrap();
    let verified = archive.verify(|_| {}).unwrap();
    assert_eq!((verified[0].rows, verified[0].bytes), (Some(1), (5 << 20) + 2));
    archive.rewind().unwrap();
    let Some(Block::Data(data)) = archive.next_block().unwrap() else { panic!("no data") };
    let error = data.rows().next_row().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::LimitExceeded { field: "row_bytes", .. }), "{error}");
}

#[test]
fn a_header_that_claims_billions_of_entries_takes_no_memory() {
    let mut bytes = Builder::new(16, NONE).build();
    let count = bytes.len() - 4;
    bytes[count..].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    let error = verify(&bytes).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::LimitExceeded { field: "toc_entries", .. }), "{error}");
    bytes[count..].copy_from_slice(&0x00ff_ffff_u32.to_le_bytes());
    assert!(matches!(verify(&bytes).unwrap_err().kind(), ErrorKind::Truncated(_)));
}

#[test]
fn unknown_versions_formats_and_compressions_are_told() {
    let bytes = sample(16, NONE);
    for (position, value, expected) in [
        (6, 17, "archive version 1.17-0 is newer"),
        (6, 3, "archive version 1.3-0 is older"),
        (5, 2, "archive version 2.16-0 is newer"),
        (8, 0, "a number takes 0 bytes"),
        (10, 3, "`toc.dat` of a dump in the directory format"),
        (10, 9, "names format 9"),
        (11, 9, "compressed with algorithm 9"),
    ] {
        let mut damaged = bytes.clone();
        damaged[position] = value;
        let error = verify(&damaged).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn blocks_that_the_table_of_contents_does_not_expect_are_errors() {
    let entry = |builder: &mut Builder| {
        builder.entry(
            1,
            3,
            true,
            [Some("t"), Some("TABLE DATA"), None, None, Some("COPY public.t (id, name) FROM stdin;\n")],
        );
    };
    type Build = dyn Fn(&mut Builder);
    let cases: [(&str, &Build); 5] = [
        ("before the data of TABLE DATA public.t", &|_| {}),
        ("dump ID 2, which the table of contents does not have", &|b| drop(b.data(2, &[ROWS]).build())),
        ("data twice", &|b| drop(b.data(1, &[ROWS]).data(1, &[ROWS]).build())),
        ("cannot have a block of data of this type", &|b| drop(b.large_objects(1, &[]).build())),
        ("does not", &|b| drop(b.data(-1, &[ROWS]).build())),
    ];
    for (expected, build) in cases {
        let mut builder = Builder::new(16, NONE);
        entry(&mut builder);
        build(&mut builder);
        let error = verify(&builder.build()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let mut builder = Builder::new(14, NONE);
    entry(&mut builder);
    entry(&mut builder);
    assert!(verify(&builder.build()).unwrap_err().to_string().contains("dump ID 1 occurs twice"));
}

#[test]
fn a_negative_chunk_is_an_error() {
    let mut bytes = one_table(NONE, &[ROWS]);
    let length = bytes.len() - ROWS.len() - 10;
    assert_eq!(bytes[length], 0);
    bytes[length] = 1;
    assert!(verify(&bytes).unwrap_err().to_string().contains("a chunk of data claims -"));
}
