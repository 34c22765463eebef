//! The versions of the format, from the oldest to those that do not exist yet.

use std::io::Cursor;

use crate::archives::{GZIP, NONE, check, contents, plain_sample, sample, sample_contents};
use dumpfmt::example::Builder;
use dumpfmt::{ArchiveReader, Compression, DataState, ErrorKind, ReadOptions, Section};

fn every_version() -> std::ops::RangeInclusive<u8> {
    4..=16
}

#[test]
fn every_version_is_read_in_every_format_it_has() {
    for minor in every_version() {
        for compression in [NONE, GZIP] {
            let archive = sample(minor, compression);
            for bytes in [archive.build(), archive.build_seekable(), archive.build_redirected()] {
                assert_eq!(check(&bytes).unwrap(), sample_contents(), "1.{minor}, {compression}");
            }
        }
        assert_eq!(check(&plain_sample(minor, NONE).build_tar()).unwrap(), sample_contents(), "1.{minor}");
    }
}

#[test]
fn numbers_of_any_size_up_to_32_bytes_are_read() {
    for minor in [4, 6, 7, 14, 16] {
        // A position in one byte would not reach the blocks.
        let smallest = if minor >= 7 { 1 } else { 4 };
        for size in smallest..=32 {
            let mut archive = sample(minor, NONE);
            let bytes = archive.int_size(size).build_seekable();
            assert_eq!(check(&bytes).unwrap(), sample_contents(), "1.{minor}, {size}");
            assert_eq!(ArchiveReader::new(&bytes[..]).unwrap().header().int_size, size);
            assert!(check(&bytes[..bytes.len() - 1]).is_err());
        }
    }
    let mut bytes = sample(16, NONE).int_size(33).build();
    let error = check(&bytes).unwrap_err();
    assert!(error.to_string().contains("a number takes 33 bytes"), "{error}");
    bytes[8] = 0;
    assert!(check(&bytes).is_err());
}

#[test]
fn a_field_that_a_version_lacks_is_none_and_one_that_it_has_is_read() {
    for minor in every_version() {
        let bytes = sample(minor, NONE).build();
        let archive = ArchiveReader::new(&bytes[..]).unwrap();
        let (header, table) = (archive.header(), archive.toc().get(2).unwrap());
        assert_eq!(header.database.as_deref(), Some(&b"store"[..]));
        assert_eq!(header.created.to_string(), "2026-11-20 23:05:07");
        assert_eq!(header.server_version.is_some(), minor >= 10, "1.{minor}");
        assert_eq!(header.dump_version.is_some(), minor >= 10, "1.{minor}");
        assert_eq!(header.offset_size, if minor >= 7 { 8 } else { 4 });
        assert_eq!(table.table_oid(), if minor >= 8 { 1259 } else { 0 });
        assert_eq!(table.definition(), Some(&b"CREATE TABLE a ();\n"[..]));
        assert_eq!(table.drop_statement(), Some(&b"DROP TABLE a;\n"[..]));
        assert_eq!(table.copy_statement(), None);
        assert_eq!(table.namespace().is_some(), minor >= 6, "1.{minor}");
        assert_eq!(table.tablespace().is_some(), minor >= 10, "1.{minor}");
        assert_eq!(table.table_access_method().is_some(), minor >= 14, "1.{minor}");
        assert_eq!(table.relkind(), (minor >= 16).then_some(b'r'));
        assert_eq!(table.owner(), Some(&b"owner"[..]));
        assert_eq!(table.file_name(), None);
        assert_eq!(table.to_string(), if minor >= 6 { "TABLE public.a (dump ID 2)" } else { "TABLE a (dump ID 2)" });
    }
}

#[test]
fn before_1_11_the_section_comes_from_the_type() {
    let types = [
        ("ENCODING", Section::PreData),
        ("TABLE", Section::PreData),
        ("SEQUENCE SET", Section::PreData),
        ("COMMENT", Section::None),
        ("ACL", Section::None),
        ("ACL LANGUAGE", Section::None),
        ("TABLE DATA", Section::Data),
        ("BLOBS", Section::Data),
        ("BLOB COMMENTS", Section::Data),
        ("CONSTRAINT", Section::PostData),
        ("CHECK CONSTRAINT", Section::PostData),
        ("FK CONSTRAINT", Section::PostData),
        ("INDEX", Section::PostData),
        ("RULE", Section::PostData),
        ("TRIGGER", Section::PostData),
    ];
    for minor in every_version() {
        let mut builder = Builder::new(minor, NONE);
        for (id, (description, _)) in (1..).zip(types) {
            builder.entry(id, 4, false, [Some("x"), Some(description), None, None, None]);
        }
        let bytes = builder.build();
        let archive = ArchiveReader::new(&bytes[..]).unwrap();
        for (entry, (description, section)) in archive.toc().entries().iter().zip(types) {
            let expected = if minor >= 11 { Section::PostData } else { section };
            assert_eq!(entry.section(), expected, "1.{minor}, {description}");
        }
    }
    let mut unknown = Builder::new(11, NONE);
    let bytes = unknown.entry(1, 5, false, [Some("x"), Some("TABLE"), None, None, None]).build();
    assert!(check(&bytes).unwrap_err().to_string().contains("unknown section 5"));
}

#[test]
fn dependencies_are_dump_ids_from_1_8_on_and_oids_before() {
    for minor in every_version() {
        let mut builder = Builder::new(minor, NONE);
        let largest = if minor >= 8 { "2147483647" } else { "4294967295" };
        builder.entry(3, 2, false, [Some("x"), Some("TABLE"), None, None, None]).depends_on(&["16385", largest]);
        let bytes = builder.build();
        let archive = ArchiveReader::new(&bytes[..]).unwrap();
        let entry = archive.toc().get(3).unwrap();
        let oids: Vec<u32> = entry.dependency_oids().collect();
        match minor {
            4 => assert!(oids.is_empty() && entry.dependencies().is_empty()),
            5..8 => assert_eq!((&oids[..], entry.dependencies()), (&[16385, u32::MAX][..], &[][..])),
            _ => assert_eq!((&oids[..], entry.dependencies()), (&[][..], &[16385, i32::MAX][..])),
        }
    }
    let mut builder = Builder::new(8, NONE);
    builder.entry(3, 2, false, [Some("x"), Some("TABLE"), None, None, None]).depends_on(&["4294967295"]);
    assert!(check(&builder.build()).unwrap_err().to_string().contains("a dependency is not a dump ID"));
}

#[test]
fn positions_lead_to_the_data_in_every_version() {
    for minor in every_version() {
        for bytes in [sample(minor, GZIP).build_seekable(), sample(minor, GZIP).build()] {
            let mut archive = ArchiveReader::new(Cursor::new(&bytes)).unwrap();
            for (dump_id, tag) in [(3, "a"), (5, "7"), (4, "b"), (3, "a")] {
                let block = archive.block(dump_id).unwrap().unwrap();
                let found = crate::archives::block_contents(block).unwrap();
                assert_eq!(found[tag], sample_contents()[tag], "1.{minor}");
            }
            assert!(archive.block(2).unwrap().is_none());
            archive.rewind().unwrap();
            assert_eq!(contents(&mut archive).unwrap(), sample_contents());
        }
        let bytes = sample(minor, GZIP).build_seekable();
        let archive = ArchiveReader::new(&bytes[..]).unwrap();
        assert!(matches!(archive.toc().get(3).unwrap().data_state(), DataState::Position(_)));
        assert_eq!(archive.toc().get(2).unwrap().data_state(), DataState::NoData);
    }
}

#[test]
fn a_later_revision_is_read_and_a_newer_version_only_at_ones_own_risk() {
    let bytes = sample(16, NONE).build();
    for (position, value) in [(7, 1), (7, 255)] {
        let mut revised = bytes.clone();
        revised[position] = value;
        assert_eq!(check(&revised).unwrap(), sample_contents());
    }
    for (position, value) in [(6, 17), (6, 255), (5, 2)] {
        let mut newer = bytes.clone();
        newer[position] = value;
        let error = check(&newer).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::NewerVersion(_)), "{error}");
        assert!(error.to_string().contains("is newer than 1.16"), "{error}");
        let mut options = ReadOptions::default();
        options.accept_newer_versions = true;
        let mut archive = ArchiveReader::with_options(&newer[..], options).unwrap();
        assert_eq!(contents(&mut archive).unwrap(), sample_contents());
    }
    for (position, value) in [(6, 3), (6, 0), (5, 0)] {
        let mut older = bytes.clone();
        older[position] = value;
        assert!(check(&older).unwrap_err().to_string().contains("is older than 1.4"));
    }
}

#[test]
fn before_1_15_the_header_has_a_level_whose_sign_is_no_method() {
    let bytes = sample(14, GZIP).build();
    // Behind the magic, the version, two sizes and the format.
    let with_level = |level: [u8; 5]| [&bytes[..11], &level, &bytes[16..]].concat();
    for (level, expected) in [([1, 1, 0, 0, 0], Some(-1)), ([0, 6, 0, 0, 0], Some(6)), ([0, 9, 0, 0, 0], Some(9))] {
        let bytes = with_level(level);
        assert_eq!(check(&bytes).unwrap(), sample_contents());
        let archive = ArchiveReader::new(&bytes[..]).unwrap();
        assert_eq!((archive.header().compression, archive.header().compression_level), (Compression::Gzip, expected));
    }
    let plain = sample(14, NONE).build();
    assert_eq!(&plain[11..16], [0; 5]);
    let archive = ArchiveReader::new(&plain[..]).unwrap();
    assert_eq!((archive.header().compression, archive.header().compression_level), (Compression::None, Some(0)));
}

#[test]
fn every_version_cut_at_any_byte_is_an_error() {
    for minor in every_version() {
        for archive in [sample(minor, NONE).build(), sample(minor, GZIP).build_seekable()] {
            for length in 0..archive.len() {
                let error = check(&archive[..length]).unwrap_err();
                assert!(error.offset() <= length as u64, "1.{minor} cut at {length}: {error}");
            }
        }
    }
}
