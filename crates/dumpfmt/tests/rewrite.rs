//! What is rewritten holds the same data, or what was asked for instead.

use std::io::{Cursor, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::archives::stored_bodies;
use crate::data::{Data, compressions, header, large_data, versions};
use dumpfmt::{
    ArchiveReader, ArchiveWriter, CompressionSpecification, DataState, EntryDepth, Error, ErrorKind, Field, Rewrite,
    Row, RowWriter, Toc, TocEntry, WriteOptions,
};
use proptest::prelude::*;

fn rewrite(archive: &[u8], rewrite: &Rewrite<'_>) -> dumpfmt::Result<(Vec<u8>, dumpfmt::RewriteReport)> {
    let mut source = ArchiveReader::new(archive)?;
    rewrite.to_file(&mut source, Cursor::new(Vec::new()), |_| {}).map(|(file, report)| (file.into_inner(), report))
}

#[test]
fn what_is_not_changed_is_copied_byte_for_byte() {
    let data = large_data();
    for compression in compressions() {
        let written = WriteOptions::new(compression).threads(2);
        let piped = data.piped(&written);
        let options = WriteOptions::new(CompressionSpecification::new(compression.algorithm()).unwrap()).threads(2);
        let (copy, report) = rewrite(&piped, &Rewrite::new(options)).unwrap();
        assert!(report.entries.iter().all(|entry| entry.depth == EntryDepth::Raw), "{report:?}");
        let stored = |archive: &[u8]| stored_bodies(&mut ArchiveReader::new(archive).unwrap());
        assert!(stored(&copy) == stored(&piped), "{compression}");
        // The positions are the new archive's own.
        assert!(copy == data.seekable(&written), "{compression}");
    }
}

#[test]
fn a_level_that_is_asked_for_is_that_of_the_new_archive() {
    let data = large_data();
    let source = data.piped(&WriteOptions::new("gzip:1".parse().unwrap()).threads(2));
    let options = WriteOptions::new("gzip:9".parse().unwrap()).threads(2);
    let (copy, report) = rewrite(&source, &Rewrite::new(options.clone())).unwrap();
    assert!(report.entries.iter().all(|entry| entry.depth == EntryDepth::Reencoded), "{report:?}");
    assert!(copy == data.seekable(&options) && copy.len() < source.len());
}

#[test]
fn positions_are_those_of_the_new_archive_never_those_of_the_source() {
    let data = large_data();
    let options = WriteOptions::new(CompressionSpecification::GZIP).threads(2);
    let source = data.seekable(&options);
    // Nearly nothing is left of the first block, so that all others move.
    let mut plan = Rewrite::new(options);
    plan.rows(2, |row, out| {
        if row.field(0).is_some_and(|field| field.raw() == b"1") {
            out.row(row);
        }
        Ok(())
    });
    let (copy, _) = rewrite(&source, &plan).unwrap();
    assert!(copy.len() < source.len());
    let states = |archive: &[u8]| {
        let archive = ArchiveReader::new(archive).unwrap();
        let with_data = archive.toc().entries().iter().filter(|entry| entry.has_data());
        with_data.map(|entry| (entry.dump_id(), entry.data_state())).collect::<Vec<_>>()
    };
    let (before, after) = (states(&source), states(&copy));
    assert_eq!(before.iter().filter(|state| after.contains(state)).count(), 1, "{before:?} {after:?}");
    let mut by_position = ArchiveReader::new(Cursor::new(&copy[..])).unwrap();
    for (dump_id, state) in after.into_iter().rev() {
        assert!(matches!(state, DataState::Position(_)), "{state:?}");
        assert_eq!(by_position.block(dump_id).unwrap().unwrap().entry().dump_id(), dump_id);
    }
    let mut source = ArchiveReader::new(Cursor::new(&source[..])).unwrap();
    let (piped, _) = plan.to_pipe(&mut source, Vec::new(), |_| {}).unwrap();
    assert!(states(&piped).iter().all(|(_, state)| *state == DataState::PositionNotSet));
}

#[test]
fn looking_at_data_does_not_change_how_it_is_copied() {
    let data = large_data();
    for compression in compressions().into_iter().filter(|compression| compression.level().is_none()) {
        let options = WriteOptions::new(compression).threads(2);
        let piped = data.piped(&options);
        let (rows, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        let mut plan = Rewrite::new(options.clone());
        for index in 0..data.tables.len() {
            plan.inspect(index as i32 + 2, |batch| {
                rows.fetch_add(batch.count(), Ordering::Relaxed);
                Ok(())
            });
        }
        plan.inspect_large_objects(1000, |_, piece, _| {
            bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
            Ok(())
        });
        let (copy, report) = rewrite(&piped, &plan).unwrap();
        assert!(copy == data.seekable(&options), "{compression}");
        assert_eq!(report.entries[0].rows_read, Some(90_000));
        let newlines = data.tables.concat().iter().filter(|&&byte| byte == b'\n').count() as u64;
        assert_eq!(rows.load(Ordering::Relaxed), newlines);
        let content: usize = data.large_objects.iter().map(|(_, content)| content.len()).sum();
        assert_eq!(bytes.load(Ordering::Relaxed), content as u64);
    }
}

#[test]
fn every_compression_and_version_becomes_every_other_one() {
    let data = large_data();
    for from in compressions().into_iter().filter(|compression| compression.level().is_none()) {
        let source = data.piped(&WriteOptions::new(from).threads(2));
        for to in compressions().into_iter().filter(|compression| compression.level().is_none()) {
            for version in versions(to) {
                let options = WriteOptions::new(to).version(version).threads(2);
                let (copy, _) = rewrite(&source, &Rewrite::new(options)).unwrap();
                let read = Data::read(&copy).unwrap();
                assert!(read.tables == data.tables, "{from} to {to} {version}");
                assert!(read.large_objects == data.large_objects, "{from} to {to} {version}");
            }
        }
    }
}

#[test]
fn rows_are_changed_left_out_and_added_in_their_order() {
    let data = large_data();
    let mut expected = Vec::new();
    for (number, row) in data.tables[0].split(|&byte| byte == b'\n').enumerate().take(90_000) {
        let fields: Vec<_> = row.split(|&byte| byte == b'\t').collect();
        match number % 4 {
            0 => continue,
            1 => expected.extend_from_slice(row),
            _ => expected.extend([fields[0], b"\ta\\\\b\t", fields[2]].concat()),
        }
        expected.push(b'\n');
        if number % 4 == 3 {
            expected.extend_from_slice(b"\\N\t\t\n");
        }
    }
    for compression in compressions() {
        for threads in [0, 3] {
            let options = WriteOptions::new(compression).threads(threads);
            let mut plan = Rewrite::new(options.clone());
            plan.rows(2, |row, out| {
                let number: u64 = std::str::from_utf8(row.field(0).unwrap().raw())?.parse()?;
                match number % 4 {
                    0 => {}
                    1 => out.row(row),
                    _ => out.replace_field(row, 1, Some(b"a\\b")),
                }
                if number % 4 == 3 {
                    let mut fields = out.fields();
                    fields.value(None);
                    fields.value(Some(b""));
                    fields.value(Some(b""));
                    fields.finish();
                }
                Ok(())
            });
            let (copy, report) = rewrite(&data.piped(&options), &plan).unwrap();
            let read = Data::read(&copy).unwrap();
            assert!(read.tables[0] == expected && read.tables[1..] == data.tables[1..], "{compression}");
            assert_eq!(report.entries[0].depth, EntryDepth::Rows);
            assert_eq!((report.entries[0].rows_read, report.entries[0].rows_written), (Some(90_000), Some(90_000)));
        }
    }
}

#[test]
fn an_entry_that_is_omitted_is_gone_with_its_data() {
    let data = large_data();
    let options = WriteOptions::default();
    let mut plan = Rewrite::new(options.clone());
    plan.omit(2).omit(1000);
    let (copy, _) = rewrite(&data.piped(&options), &plan).unwrap();
    assert!(ArchiveReader::new(&copy[..]).unwrap().toc().get(2).is_none());
    let read = Data::read(&copy).unwrap();
    assert_eq!(read.tables, data.tables[1..]);
    assert_eq!(read.large_objects, []);
}

#[test]
fn a_folder_becomes_a_file_and_a_file_a_folder() {
    let data = large_data();
    for compression in compressions() {
        let folder = tempfile::tempdir().unwrap();
        let options = WriteOptions::new(compression).threads(2);
        let path = folder.path().join("dump");
        let file = data.piped(&options);
        Rewrite::new(options.clone()).to_directory(&mut ArchiveReader::new(&file[..]).unwrap(), &path, |_| {}).unwrap();
        let mut source = ArchiveReader::open(&path).unwrap();
        let (back, _) = Rewrite::new(options.clone()).to_pipe(&mut source, Vec::new(), |_| {}).unwrap();
        assert!(back == file, "{compression}");
        let other = folder.path().join("other");
        source.rewind().unwrap();
        let report = Rewrite::new(options).to_directory(&mut source, &other, |_| {}).unwrap();
        let expected = if compression.level().is_none() { EntryDepth::Raw } else { EntryDepth::Reencoded };
        assert!(report.entries.iter().all(|entry| entry.depth == expected), "{compression}");
        for entry in std::fs::read_dir(&path).unwrap() {
            let name = entry.unwrap().file_name();
            assert!(std::fs::read(path.join(&name)).unwrap() == std::fs::read(other.join(&name)).unwrap(), "{name:?}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "something is left over");
    }
}

#[test]
fn a_row_that_is_refused_ends_the_rewrite_with_its_entry() {
    let data = large_data();
    for inspect in [false, true] {
        let mut plan = Rewrite::new(WriteOptions::default().threads(2));
        if inspect {
            plan.inspect(2, |_| Err("no such row".into()));
        } else {
            plan.rows(2, |_, _| Err("no such row".into()));
        }
        let error = rewrite(&data.piped(&WriteOptions::default()), &plan).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Row(e) if e.to_string() == "no such row"), "{error}");
        assert!(error.to_string().contains("public.t0"), "{error}");
    }
}

#[test]
fn what_an_entry_does_not_have_cannot_be_rewritten() {
    let archive = small_with_objects();
    for (dump_id, told) in [(77, "dump ID 77 is not in the table of contents"), (1, "has no data")] {
        for way in 0..3 {
            let mut plan = Rewrite::new(WriteOptions::default());
            match way {
                0 => plan.rows(dump_id, |_, _| Ok(())),
                1 => plan.inspect(dump_id, |_| Ok(())),
                _ => plan.reencode(dump_id),
            };
            let error = rewrite(&archive, &plan).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Usage(_)) && error.to_string().contains(told), "{error}");
        }
    }
}

/// A table and three large objects that the contents name.
fn small_with_objects() -> Vec<u8> {
    let objects = [16_400, 16_401, 4_000_000_000].map(|oid: u32| (oid, vec![7; 100])).to_vec();
    let data = Data { tables: vec![b"a\n".to_vec()], large_objects: objects };
    let names = data.large_objects.iter().zip(2000..).map(|((oid, _), dump_id)| {
        TocEntry::builder(dump_id, "BLOB", oid.to_string()).catalog_id(2613, *oid).build().unwrap()
    });
    let toc = Toc::new(data.toc().entries().iter().cloned().chain(names).collect()).unwrap();
    let writer = ArchiveWriter::to_pipe(Vec::new(), &header(), toc, &WriteOptions::default()).unwrap();
    data.write(writer).unwrap().finish().unwrap()
}

#[test]
fn a_large_object_that_the_new_contents_do_not_name_is_left_out() {
    let archive = small_with_objects();
    let mut plan = Rewrite::new(WriteOptions::default());
    plan.omit(2001);
    let (copy, _) = rewrite(&archive, &plan).unwrap();
    ArchiveReader::new(&copy[..]).unwrap().verify(|_| {}).unwrap();
    let oids: Vec<_> = Data::read(&copy).unwrap().large_objects.into_iter().map(|(oid, _)| oid).collect();
    assert_eq!(oids, [16_400, 4_000_000_000]);
}

#[test]
fn what_is_no_single_row_ends_the_rewrite() {
    type Write = fn(&mut RowWriter<'_>);
    let data = large_data();
    let cases: [(Write, &str); 4] = [
        (|out| out.raw(|bytes| bytes.extend_from_slice(b"1\ta\nb")), "newline"),
        (|out| out.row(Row::new(b"\n")), "newline"),
        (|out| out.raw(|bytes| bytes.extend_from_slice(b"\\.")), "ends all rows"),
        (
            |out| {
                let mut fields = out.fields();
                fields.field(Field::new(b"\\."));
                fields.finish();
            },
            "ends all rows",
        ),
    ];
    for (write, told) in cases {
        let mut plan = Rewrite::new(WriteOptions::default().threads(2));
        plan.rows(2, move |row, out| {
            out.row(row);
            write(out);
            Ok(())
        });
        let error = rewrite(&data.piped(&WriteOptions::default()), &plan).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Row(e) if e.to_string().contains(told)), "{error}");
    }
    // The same as values are escaped.
    let mut plan = Rewrite::new(WriteOptions::default().threads(2));
    plan.rows(2, |row, out| {
        out.replace_field(row, 0, Some(b"\\."));
        out.replace_field(row, 0, Some(b"a\nb"));
        Ok(())
    });
    let (_, report) = rewrite(&data.piped(&WriteOptions::default()), &plan).unwrap();
    assert_eq!(report.entries[0].rows_written, report.entries[0].rows_read.map(|rows| 2 * rows));
}

#[test]
fn a_source_that_is_cut_or_damaged_ends_the_rewrite() {
    let data = Data { tables: vec![b"a\n".repeat(50), b"b\n".to_vec()], large_objects: vec![(5, vec![7; 40])] };
    for (threads, compression) in compressions().into_iter().enumerate() {
        let options = WriteOptions::new(compression).threads(threads % 3);
        let source = data.piped(&options);
        for length in 0..source.len() {
            let error = rewrite(&source[..length], &Rewrite::new(options.clone())).unwrap_err();
            assert!(!matches!(error.kind(), ErrorKind::Usage(_) | ErrorKind::Write(_)), "{length}: {error}");
        }
    }
}

#[test]
fn what_does_not_fit_the_entry_is_refused() {
    let data = large_data();
    let piped = data.piped(&WriteOptions::default());
    let refused = |plan: &Rewrite<'_>, text: &str| {
        let error: Error = rewrite(&piped, plan).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Usage(_)) && error.to_string().contains(text), "{error}");
    };
    let mut plan = Rewrite::new(WriteOptions::default());
    refused(plan.rows(1000, |_, _| Ok(())), "large objects");
    let mut plan = Rewrite::new(WriteOptions::default());
    refused(plan.inspect_large_objects(2, |_, _, _| Ok(())), "no large objects");
}

#[test]
fn memory_does_not_grow_with_the_archive() {
    // Rows without end: more than could be kept. What is in hand is counted by the difference between what was
    // read and what was written.
    struct Endless<'a> {
        head: &'a [u8],
        read: &'a AtomicU64,
    }
    impl Read for Endless<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let read = if self.head.is_empty() {
                // One chunk of one row.
                let chunk = [&[0, 4, 0, 0, 0][..], b"row\n"].concat();
                let whole = out.len() / chunk.len() * chunk.len();
                for place in out[..whole].chunks_exact_mut(chunk.len()) {
                    place.copy_from_slice(&chunk);
                }
                whole
            } else {
                self.head.read(out)?
            };
            self.read.fetch_add(read as u64, Ordering::Relaxed);
            Ok(read)
        }
    }
    struct Counting<'a> {
        read: &'a AtomicU64,
        written: u64,
        most: &'a AtomicU64,
    }
    impl Write for Counting<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.written += bytes.len() as u64;
            self.most.fetch_max(self.read.load(Ordering::Relaxed).saturating_sub(self.written), Ordering::Relaxed);
            if self.written > 64 << 20 { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(bytes.len()) }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let options = WriteOptions::new(CompressionSpecification::NONE).threads(2);
    let table = Data { tables: vec![vec![]], ..Data::default() };
    let whole = table.piped(&options);
    // Up to the first chunk, which here is the end of the rows.
    let head = &whole[..whole.len() - b"\\.\n\n\n".len() - 10];
    let (read, most) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut source = ArchiveReader::new(Endless { head, read: &read }).unwrap();
    let out = Counting { read: &read, written: 0, most: &most };
    let error = Rewrite::new(options).to_pipe(&mut source, out, |_| {}).map(drop).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Write(_)), "{error}");
    let most = most.into_inner();
    assert!(most < 8 << 20, "{most} bytes were in hand");
}

proptest! {
    #[test]
    fn the_identity_keeps_every_row(
        tables in prop::collection::vec(
            (1_usize..4).prop_flat_map(|columns| {
                prop::collection::vec(prop::collection::vec("[a-z\\\\]{0,6}", columns), 0..20)
            }),
            1..4,
        ),
        threads in 0_usize..3,
        which in any::<prop::sample::Index>(),
    ) {
        let rows = |rows: Vec<Vec<String>>| {
            let lines = rows.iter().map(|fields| fields.join("\t")).filter(|line| line != "\\.");
            lines.flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect()
        };
        let data = Data { tables: tables.into_iter().map(rows).collect(), large_objects: vec![] };
        let compressions = compressions();
        let options = WriteOptions::new(*which.get(&compressions)).threads(threads);
        let mut plan = Rewrite::new(options.clone());
        for index in 0..data.tables.len() {
            plan.rows(index as i32 + 2, |row, out| {
                let mut fields = out.fields();
                row.fields().for_each(|field| fields.value(field.decode().as_deref()));
                fields.finish();
                Ok(())
            });
        }
        let (copy, _) = rewrite(&data.piped(&options), &plan).unwrap();
        let decoded = |tables: &[Vec<u8>]| -> Vec<Vec<Option<Vec<u8>>>> {
            let row = |row: &[u8]| dumpfmt::Row::new(row).fields().map(|f| f.decode().map(std::borrow::Cow::into_owned)).collect();
            tables.iter().flat_map(|table| table.split(|&byte| byte == b'\n').map(row)).collect()
        };
        prop_assert_eq!(decoded(&Data::read(&copy).unwrap().tables), decoded(&data.tables));
    }
}
