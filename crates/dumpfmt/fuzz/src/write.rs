use std::io::{Cursor, Write};

use arbitrary::{Arbitrary, Unstructured};
use dumpfmt::{
    ArchiveReader, ArchiveWriter, CompressionSpecification, Error, Header, LocalTime, Section, Sink, Toc, TocEntry,
    Version, WriteOptions,
};

use crate::Choice;
use crate::read::{Body, contents};

/// What an archive is made of.
#[derive(Debug, Arbitrary)]
struct Archive<'a> {
    compression: u8,
    version: u8,
    time: [i16; 6],
    database: &'a [u8],
    entries: Vec<Entry<'a>>,
    /// How much of a body is written at once.
    step: u16,
}

#[derive(Debug, Arbitrary)]
struct Entry<'a> {
    description: &'a [u8],
    tag: &'a [u8],
    namespace: Option<&'a [u8]>,
    owner: &'a [u8],
    tablespace: Option<&'a [u8]>,
    method: Option<&'a [u8]>,
    definition: &'a [u8],
    drop: &'a [u8],
    dependencies: Vec<i32>,
    section: u8,
    relkind: Option<u8>,
    catalog: (u32, u32),
    data: Data<'a>,
}

#[derive(Debug, Arbitrary)]
enum Data<'a> {
    None,
    /// With a COPY statement.
    Rows(&'a [u8]),
    Inserts(&'a [u8]),
    LargeObjects(Vec<(u32, &'a [u8])>),
}

/// An archive of arbitrary data is read as what was written: to a file and to a pipe, by one thread or more.
pub fn write(data: &[u8]) {
    let Ok(archive) = Archive::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let compression = ["none", "gzip", "gzip:1", "lz4", "zstd", "zstd:1"][usize::from(archive.compression % 6)];
    let compression: CompressionSpecification = compression.parse().expect("it is a compression");
    let version = [Version::TABLE_ACCESS_METHOD, Version::COMPRESSION_ALGORITHM, Version::RELKIND];
    let options =
        WriteOptions::new(compression).version(version[usize::from(archive.version % 3)]).compression(compression);
    let [year, month, day, hour, minute, second] = archive.time.map(i64::from);
    let header = Header::new(archive.database, LocalTime::new(year, month, day, hour, minute, second));

    let threads = if Choice::of(data).below(8) == 0 { 2 } else { 0 };

    let toc = archive.toc();
    let piped = ArchiveWriter::to_pipe(Vec::new(), &header, toc.clone(), &options.clone().threads(0))
        .and_then(|writer| archive.write(writer)?.finish());
    let seekable = ArchiveWriter::to_file(Cursor::new(Vec::new()), &header, toc.clone(), &options.threads(threads))
        .and_then(|writer| archive.write(writer)?.finish());
    let (piped, seekable) = match (piped, seekable) {
        (Ok(piped), Ok(seekable)) => (piped, seekable.into_inner()),
        (Err(one), Err(other)) => {
            assert_eq!(one.to_string(), other.to_string());
            return;
        }
        (one, other) => panic!("to a pipe {:?}, to a file {:?}", one.map(drop), other.map(drop)),
    };
    assert_eq!(piped.len(), seekable.len());
    archive.expect(&header, &toc, &piped);
    archive.expect(&header, &toc, &seekable);
}

impl Archive<'_> {
    fn toc(&self) -> Toc {
        let entry = |(place, entry): (usize, &Entry<'_>)| {
            let description: &[u8] = match &entry.data {
                Data::LargeObjects(_) => b"BLOBS",
                Data::Rows(_) | Data::Inserts(_) => b"TABLE DATA",
                Data::None => entry.description,
            };
            let sections = [Section::None, Section::PreData, Section::Data, Section::PostData];
            TocEntry::builder(place as i32 + 1, description, entry.tag)
                .namespace(entry.namespace)
                .owner(entry.owner)
                .tablespace(entry.tablespace)
                .table_access_method(entry.method)
                .definition(entry.definition)
                .drop_statement(entry.drop)
                .dependencies(entry.dependencies.clone())
                .section(sections[usize::from(entry.section % 4)])
                .relkind(entry.relkind)
                .catalog_id(entry.catalog.0, entry.catalog.1)
                .copy_statement(matches!(entry.data, Data::Rows(_)).then_some(b"COPY t (a) FROM stdin;\n"))
                .has_data(!matches!(entry.data, Data::None))
                .build()
                .expect("its dump ID is above 0 and its texts are short")
        };
        Toc::new(self.entries.iter().enumerate().map(entry).collect()).expect("no dump ID occurs twice")
    }

    fn write<S: Sink>(&self, mut archive: ArchiveWriter<S>) -> Result<ArchiveWriter<S>, Error> {
        let put = |out: &mut dyn Write, data: &[u8]| -> Result<(), Error> {
            data.chunks(usize::from(self.step).max(1))
                .try_for_each(|piece| out.write_all(piece))
                .map_err(|e| Error::from_io(e, 0))
        };
        for (place, entry) in self.entries.iter().enumerate() {
            let dump_id = place as i32 + 1;
            match &entry.data {
                Data::None => {}
                Data::Rows(data) | Data::Inserts(data) => {
                    let mut out = archive.data(dump_id)?;
                    put(&mut out, data)?;
                    out.finish()?;
                }
                Data::LargeObjects(objects) => {
                    let mut out = archive.large_objects(dump_id)?;
                    for (oid, content) in objects {
                        let mut object = out.object(*oid)?;
                        put(&mut object, content)?;
                        object.finish()?;
                    }
                    out.finish()?;
                }
            }
        }
        Ok(archive)
    }

    fn expect(&self, header: &Header, toc: &Toc, written: &[u8]) {
        let mut archive = ArchiveReader::new(written).unwrap_or_else(|e| panic!("what was written: {e}"));
        assert_eq!((&archive.header().database, archive.header().created.day), (&header.database, header.created.day));
        assert_eq!(archive.toc().entries().len(), toc.entries().len());
        for (read, made) in archive.toc().entries().iter().zip(toc.entries()) {
            let facts = |entry: &TocEntry| (entry.dump_id(), entry.section(), entry.has_data(), entry.oid());
            assert_eq!(facts(read), facts(made));
            let texts = |entry: &TocEntry| {
                let optional = [entry.namespace(), entry.tablespace(), entry.table_access_method(), entry.owner()];
                let all = [Some(entry.tag()), Some(entry.description()), entry.definition(), entry.drop_statement()];
                [all, optional].concat().into_iter().map(|text| text.map(<[u8]>::to_vec)).collect::<Vec<_>>()
            };
            assert_eq!(texts(read), texts(made));
            assert_eq!(read.dependencies(), made.dependencies());
        }
        let (read, error) = contents(&mut archive);
        assert!(error.is_none(), "{error:?}");
        let mut read = read.into_iter();
        for (place, entry) in self.entries.iter().enumerate() {
            let found = match entry.data {
                Data::None => continue,
                _ => read.next(),
            };
            let Some((dump_id, body)) = found else { panic!("the data of entry {place} is not there") };
            assert_eq!(dump_id, place as i32 + 1);
            match (&entry.data, body) {
                (Data::Rows(rows), Body::Data(found)) => {
                    let end = found.strip_prefix(*rows).expect("the rows come first");
                    assert!(end.is_empty() || end == b"\\.\n\n\n", "{}", end.escape_ascii());
                }
                (Data::Inserts(data), Body::Data(found)) => assert_eq!(found, *data),
                (Data::LargeObjects(objects), Body::LargeObjects(found)) => {
                    assert!(found.iter().map(|(oid, content)| (*oid, &content[..])).eq(objects.iter().copied()));
                }
                (data, body) => panic!("{data:?} is read as {body:?}"),
            }
        }
        assert_eq!(read.next(), None);
    }
}
