//! What several test files of this crate need.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use dumpfmt::example::Builder;
use dumpfmt::{ArchiveReader, Block, Compression, Error, StoredBytes};

pub(crate) const NONE: u8 = 0;
pub(crate) const GZIP: u8 = 1;
pub(crate) const LZ4: u8 = 2;
pub(crate) const ZSTD: u8 = 3;

pub(crate) const ROWS: &[u8] = b"1\tone\n2\ttwo\n\\.\n\n\n";
pub(crate) const EMPTY: &[u8] = b"\\.\n\n\n";
pub(crate) const OBJECT: &[u8] = b"large object";

/// As the custom format has it: gzip in a zlib wrapper.
pub(crate) fn compress(compression: u8, data: &[u8]) -> Vec<u8> {
    match compression {
        NONE => data.to_vec(),
        GZIP => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        LZ4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        #[cfg(feature = "zstd")]
        ZSTD => zstd::encode_all(data, 3).unwrap(),
        other => panic!("compression {other}"),
    }
}

/// As the files of a directory have it: gzip in a gzip wrapper.
pub(crate) fn compress_file(compression: u8, data: &[u8]) -> Vec<u8> {
    if compression != GZIP {
        return compress(compression, data);
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// The compressions that this build decodes.
pub(crate) fn compressions() -> impl Iterator<Item = u8> {
    [NONE, GZIP, LZ4, ZSTD].into_iter().filter(|&compression| compression != ZSTD || cfg!(feature = "zstd"))
}

/// Two tables (dump IDs 3 and 4), the first one after the second, and two large
/// objects (5), each body in two chunks.
pub(crate) fn sample(minor: u8, compression: u8) -> Builder {
    let mut builder = Builder::new(minor, compression);
    entries(&mut builder);
    blocks(&mut builder, |data| compress(compression, data));
    builder
}

/// As [`sample`], with plain data: for tars, and for the files of a directory before they are compressed.
pub(crate) fn plain_sample(minor: u8, compression: u8) -> Builder {
    let mut builder = Builder::new(minor, compression);
    entries(&mut builder);
    blocks(&mut builder, <[u8]>::to_vec);
    builder
}

fn entries(builder: &mut Builder) {
    let copy = |table: &str| format!("COPY public.{table} (id, name) FROM stdin;\n");
    builder
        .entry(9, 1, false, [Some("ENCODING"), Some("ENCODING"), Some("SET client_encoding = 'LATIN1';\n"), None, None])
        .entry(2, 2, false, [Some("a"), Some("TABLE"), Some("CREATE TABLE a ();\n"), Some("DROP TABLE a;\n"), None])
        .entry(4, 3, true, [Some("b"), Some("TABLE DATA"), Some(""), None, Some(&copy("b"))])
        .entry(3, 3, true, [Some("a"), Some("TABLE DATA"), Some(""), None, Some(&copy("a"))])
        .depends_on(&["2"])
        .entry(5, 3, true, [Some("BLOBS"), Some("BLOBS"), None, None, None])
        .entry(7, 4, false, [Some("i"), Some("INDEX"), Some("CREATE INDEX i;\n"), None, None])
        .depends_on(&["2", "77"]);
}

fn blocks(builder: &mut Builder, compress: impl Fn(&[u8]) -> Vec<u8>) {
    let (rows, empty, object) = (compress(ROWS), compress(EMPTY), compress(OBJECT));
    let (first, second) = rows.split_at(3);
    builder.data(4, &[first, second]).data(3, &[&empty]).large_objects(5, &[(7, &[&object]), (u32::MAX, &[&object])]);
}

/// What every block holds, by tag; a large object's tag is its OID.
pub(crate) type Contents = BTreeMap<String, Vec<u8>>;

pub(crate) fn sample_contents() -> Contents {
    let text = |tag: &str, data: &[u8]| (tag.to_owned(), data.to_vec());
    [text("b", ROWS), text("a", EMPTY), text("7", OBJECT), text("4294967295", OBJECT)].into()
}

/// Reads everything, to its end.
pub(crate) fn contents<R: Read>(archive: &mut ArchiveReader<R>) -> Result<Contents, Error> {
    let mut contents = Contents::new();
    while let Some(block) = archive.next_block()? {
        contents.extend(block_contents(block)?);
    }
    Ok(contents)
}

pub(crate) fn block_contents<R: Read>(block: Block<'_, R>) -> Result<Contents, Error> {
    let mut contents = Contents::new();
    match block {
        Block::Data(mut data) => {
            let tag = String::from_utf8_lossy(data.entry().tag()).into_owned();
            contents.insert(tag, read(&mut data)?);
        }
        Block::LargeObjects(mut objects) => {
            while let Some(mut object) = objects.next_object()? {
                contents.insert(object.oid().to_string(), read(&mut object)?);
            }
        }
    }
    Ok(contents)
}

fn read(data: &mut impl Read) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    data.read_to_end(&mut out).map_err(|e| Error::from_io(e, 0))?;
    Ok(out)
}

/// Reads and verifies an archive in memory. Only what is whole passes.
pub(crate) fn check(bytes: &[u8]) -> Result<Contents, Error> {
    ArchiveReader::new(bytes)?.verify(|_| {})?;
    contents(&mut ArchiveReader::new(bytes)?)
}

/// The stored bytes of every body, and how each is compressed.
pub(crate) fn stored_bodies<R: Read>(archive: &mut ArchiveReader<R>) -> Vec<(Compression, Vec<u8>)> {
    let mut bodies = Vec::new();
    let mut take = |mut stored: StoredBytes<'_, R>| {
        let mut body = Vec::new();
        while let Some(piece) = stored.next_piece().unwrap() {
            body.extend_from_slice(piece);
        }
        bodies.push((stored.compression(), body));
    };
    while let Some(block) = archive.next_block().unwrap() {
        match block {
            Block::Data(data) => take(data.stored().unwrap()),
            Block::LargeObjects(mut objects) => {
                while let Some(object) = objects.next_object().unwrap() {
                    take(object.stored().unwrap());
                }
            }
        }
    }
    bodies
}
