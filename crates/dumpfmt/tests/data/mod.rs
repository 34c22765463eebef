//! Archives to write and to read again.

use std::io::{Cursor, Read, Write};

use dumpfmt::{
    ArchiveReader, ArchiveWriter, Block, Compression, CompressionSpecification, Error, Header, LocalTime, Section, Toc,
    TocEntry, Version, WriteOptions,
};

/// The data of an archive: rows of tables, and large objects.
#[derive(Debug, Clone, Default)]
pub(crate) struct Data {
    pub(crate) tables: Vec<Vec<u8>>,
    pub(crate) large_objects: Vec<(u32, Vec<u8>)>,
}

impl Data {
    pub(crate) fn toc(&self) -> Toc {
        let mut entries = vec![
            TocEntry::builder(1, "ENCODING", "ENCODING")
                .section(Section::None)
                .definition("SET client_encoding = 'UTF8';\n")
                .build()
                .unwrap(),
        ];
        for (index, rows) in self.tables.iter().enumerate() {
            let name = format!("t{index}");
            let first = rows.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let columns = first.split(|byte| *byte == b'\t').zip('a'..).map(|(_, name)| String::from(name));
            let columns = columns.collect::<Vec<_>>().join(", ");
            let entry = TocEntry::builder(index as i32 + 2, "TABLE DATA", &name)
                .namespace(Some(b"public"))
                .section(Section::Data)
                .owner("owner")
                .copy_statement(Some(format!("COPY public.{name} ({columns}) FROM stdin;\n").as_bytes()))
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

    pub(crate) fn write<S: dumpfmt::Sink>(&self, mut archive: ArchiveWriter<S>) -> dumpfmt::Result<ArchiveWriter<S>> {
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

    pub(crate) fn seekable(&self, options: &WriteOptions) -> Vec<u8> {
        let archive = ArchiveWriter::to_file(Cursor::new(Vec::new()), &header(), self.toc(), options).unwrap();
        self.write(archive).unwrap().finish().unwrap().into_inner()
    }

    pub(crate) fn piped(&self, options: &WriteOptions) -> Vec<u8> {
        let archive = ArchiveWriter::to_pipe(Vec::new(), &header(), self.toc(), options).unwrap();
        self.write(archive).unwrap().finish().unwrap()
    }

    pub(crate) fn read(archive: &[u8]) -> dumpfmt::Result<Self> {
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

pub(crate) fn header() -> Header {
    Header::new("store", LocalTime::new(2026, 11, 20, 3, 4, 5))
}

pub(crate) fn compressions() -> Vec<CompressionSpecification> {
    let mut all = vec!["none", "gzip", "gzip:1", "gzip:9", "lz4"];
    if cfg!(feature = "zstd") {
        all.extend(["zstd", "zstd:1"]);
    }
    all.into_iter().map(|text| text.parse().unwrap()).collect()
}

pub(crate) fn versions(compression: CompressionSpecification) -> impl Iterator<Item = Version> {
    let modern = matches!(compression.algorithm(), Compression::Lz4 | Compression::Zstd);
    let all = [Version::TABLE_ACCESS_METHOD, Version::COMPRESSION_ALGORITHM, Version::RELKIND];
    all.into_iter().skip(usize::from(modern))
}

/// Data of several pieces, of one byte, of none.
pub(crate) fn large_data() -> Data {
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
