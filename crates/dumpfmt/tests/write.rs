//! What is written is read again as it was.

use std::io::{Cursor, Read, Write};

use dumpfmt::{
    ArchiveReader, ArchiveWriter, Block, Compression, CompressionSpecification, Error, ErrorKind, Header, LocalTime,
    Section, Toc, TocEntry, Version, WriteOptions,
};
use proptest::prelude::*;

/// The data of an archive: rows of tables, and large objects.
#[derive(Debug, Clone, Default)]
struct Data {
    tables: Vec<Vec<u8>>,
    large_objects: Vec<(u32, Vec<u8>)>,
}

impl Data {
    fn toc(&self) -> Toc {
        let mut entries = vec![
            TocEntry::builder(1, "ENCODING", "ENCODING")
                .section(Section::None)
                .definition("SET client_encoding = 'UTF8';\n")
                .build()
                .unwrap(),
        ];
        for index in 0..self.tables.len() {
            let name = format!("t{index}");
            let entry = TocEntry::builder(index as i32 + 2, "TABLE DATA", &name)
                .namespace(Some(b"public"))
                .section(Section::Data)
                .owner("owner")
                .copy_statement(Some(format!("COPY public.{name} (a) FROM stdin;\n").as_bytes()))
                .dependencies([1, 77])
                .catalog_id(0, 4_000_000_000)
                .has_data(true)
                .build();
            entries.push(entry.unwrap());
        }
        if !self.large_objects.is_empty() {
            entries
                .push(TocEntry::builder(1000, "BLOBS", "BLOBS").section(Section::Data).has_data(true).build().unwrap());
        }
        Toc::new(entries).unwrap()
    }

    fn write<S: dumpfmt::Sink>(&self, mut archive: ArchiveWriter<S>) -> dumpfmt::Result<ArchiveWriter<S>> {
        for (index, rows) in self.tables.iter().enumerate() {
            let mut data = archive.data(index as i32 + 2)?;
            // In two parts, so that pieces do not begin where writes do.
            let (first, second) = rows.split_at(rows.len() / 3);
            data.write_all(first).and_then(|()| data.write_all(second)).map_err(|e| Error::from_io(e, 0))?;
            data.finish()?;
        }
        if !self.large_objects.is_empty() {
            let mut objects = archive.large_objects(1000)?;
            for (oid, content) in &self.large_objects {
                let mut object = objects.object(*oid)?;
                object.write_all(content).map_err(|e| Error::from_io(e, 0))?;
                object.finish()?;
            }
            objects.finish()?;
        }
        Ok(archive)
    }

    fn seekable(&self, options: &WriteOptions) -> Vec<u8> {
        let archive = ArchiveWriter::to_file(Cursor::new(Vec::new()), &header(), self.toc(), options).unwrap();
        self.write(archive).unwrap().finish().unwrap().into_inner()
    }

    fn piped(&self, options: &WriteOptions) -> Vec<u8> {
        let archive = ArchiveWriter::to_pipe(Vec::new(), &header(), self.toc(), options).unwrap();
        self.write(archive).unwrap().finish().unwrap()
    }

    fn read(archive: &[u8]) -> dumpfmt::Result<Self> {
        let mut archive = ArchiveReader::new(archive)?;
        let mut data = Self::default();
        while let Some(block) = archive.next_block()? {
            match block {
                Block::Data(table) => {
                    let (mut rows, mut found) = (table.rows(), Vec::new());
                    while let Some(row) = rows.next_row()? {
                        found.extend_from_slice(row.raw());
                        found.push(b'\n');
                    }
                    data.tables.push(found);
                }
                Block::LargeObjects(mut objects) => {
                    while let Some(mut object) = objects.next_object()? {
                        let mut content = Vec::new();
                        object.read_to_end(&mut content).map_err(|e| Error::from_io(e, 0))?;
                        data.large_objects.push((object.oid(), content));
                    }
                }
            }
        }
        Ok(data)
    }
}

fn header() -> Header {
    Header::new("store", LocalTime::new(2026, 11, 20, 3, 4, 5))
}

fn compressions() -> Vec<CompressionSpecification> {
    let mut all = vec!["none", "gzip", "gzip:1", "gzip:9", "lz4"];
    if cfg!(feature = "zstd") {
        all.extend(["zstd", "zstd:1"]);
    }
    all.into_iter().map(|text| text.parse().unwrap()).collect()
}

fn versions(compression: CompressionSpecification) -> impl Iterator<Item = Version> {
    let modern = matches!(compression.algorithm(), Compression::Lz4 | Compression::Zstd);
    let all = [Version::TABLE_ACCESS_METHOD, Version::COMPRESSION_ALGORITHM, Version::RELKIND];
    all.into_iter().skip(usize::from(modern))
}

/// Data of several pieces, of one byte, of none.
fn large_data() -> Data {
    let mut rows = Vec::new();
    for number in 0..90_000_u64 {
        writeln!(rows, "{number}\t{:x}\tsome text", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).unwrap();
    }
    let content: Vec<u8> = rows.iter().rev().copied().take(1_200_000).collect();
    Data {
        tables: vec![rows, vec![], b"\n".to_vec(), vec![b'x'; 512 << 10].into_iter().chain(*b"\n").collect()],
        large_objects: vec![(1, content), (u32::MAX, vec![]), (3_000_000_000, vec![0])],
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
    assert_eq!(read.toc().entries(), [entry.clone()]);
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
