//! The stored bytes of bodies, as a rewriter copies them.

use std::io::{self, Read};

use dumpfmt::example::Builder;
use dumpfmt::{ArchiveReader, Block, Compression, Error, ErrorKind, StoredBytes};

/// Gives no more than so many bytes at once.
struct Slowly<'a>(&'a [u8], usize);

impl Read for Slowly<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let step = self.1.min(out.len());
        self.0.read(&mut out[..step])
    }
}

fn all<R: Read>(mut stored: StoredBytes<'_, R>) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    while let Some(piece) = stored.next_piece()? {
        assert!(!piece.is_empty());
        out.extend_from_slice(piece);
    }
    assert!(stored.next_piece()?.is_none());
    Ok(out)
}

fn sample(chunks: &[&[u8]]) -> Vec<u8> {
    let mut builder = Builder::new(16, 1);
    builder
        .entry(1, 3, true, [Some("t"), Some("TABLE DATA"), None, None, Some("COPY public.t (a) FROM stdin;\n")])
        .entry(2, 3, true, [Some("BLOBS"), Some("BLOBS"), None, None, None])
        .data(1, chunks)
        .large_objects(2, &[(7, chunks), (u32::MAX, &[]), (8, &[b"x"])]);
    builder.build()
}

/// As the custom format has chunks.
fn encoded(chunks: &[&[u8]]) -> Vec<u8> {
    let int = |length: usize| [&[0][..], &(length as u32).to_le_bytes()].concat();
    let mut out: Vec<u8> = chunks.iter().flat_map(|chunk| [int(chunk.len()), chunk.to_vec()].concat()).collect();
    out.extend(int(0));
    out
}

#[test]
fn stored_bytes_are_those_of_the_file_however_it_is_read() {
    let long = vec![b'y'; 300 << 10];
    let chunks: [&[u8]; 5] = [b"not", b"zlib", &long, b"at", b"all"];
    let bytes = sample(&chunks);
    // Nothing is decompressed, or the chunks would be damage.
    for step in [1, 2, 3, 7, 64 << 10, usize::MAX] {
        let mut archive = ArchiveReader::new(Slowly(&bytes, step)).unwrap();
        let Some(Block::Data(data)) = archive.next_block().unwrap() else { panic!("no data") };
        let stored = data.stored().unwrap();
        assert_eq!(stored.compression(), Compression::Gzip);
        assert!(all(stored).unwrap() == encoded(&chunks), "{step}");
        let Some(Block::LargeObjects(mut objects)) = archive.next_block().unwrap() else { panic!("no objects") };
        for (oid, expected) in [(7, encoded(&chunks)), (u32::MAX, encoded(&[])), (8, encoded(&[b"x"]))] {
            let object = objects.next_object().unwrap().unwrap();
            assert_eq!(object.oid(), oid);
            assert!(all(object.stored().unwrap()).unwrap() == expected, "{step}, {oid}");
        }
        assert!(objects.next_object().unwrap().is_none());
        assert!(archive.next_block().unwrap().is_none());
    }
}

#[test]
fn stored_bytes_can_be_left_at_any_piece() {
    let long = vec![b'y'; 300 << 10];
    let bytes = sample(&[b"a", &long, b"b", &long]);
    for step in [3, 1000, usize::MAX] {
        for pieces in 0..5 {
            let mut archive = ArchiveReader::new(Slowly(&bytes, step)).unwrap();
            let Some(Block::Data(data)) = archive.next_block().unwrap() else { panic!("no data") };
            let mut stored = data.stored().unwrap();
            for _ in 0..pieces {
                stored.next_piece().unwrap();
            }
            drop(stored);
            let Some(Block::LargeObjects(mut objects)) = archive.next_block().unwrap() else { panic!("no objects") };
            let mut stored = objects.next_object().unwrap().unwrap().stored().unwrap();
            for _ in 0..pieces {
                stored.next_piece().unwrap();
            }
            drop(stored);
            assert_eq!(objects.next_object().unwrap().unwrap().oid(), u32::MAX);
            assert!(archive.next_block().unwrap().is_none());
        }
    }
}

#[test]
fn stored_bytes_are_not_to_be_had_once_some_were_decoded() {
    let mut builder = Builder::new(16, 0);
    builder.entry(1, 3, true, [Some("t"), Some("TABLE DATA"), None, None, None]).data(1, &[b"rows"]);
    let bytes = builder.build();
    let mut archive = ArchiveReader::new(&bytes[..]).unwrap();
    let Some(Block::Data(mut data)) = archive.next_block().unwrap() else { panic!("no data") };
    data.read_exact(&mut [0; 2]).unwrap();
    assert!(matches!(data.stored().unwrap_err().kind(), ErrorKind::Usage(_)));
}

#[test]
fn a_cut_or_impossible_chunk_is_noticed_while_stored_bytes_are_copied() {
    let bytes = sample(&[b"abc", b"defg"]);
    let copy = |bytes: &[u8]| -> Result<(), Error> {
        let mut archive = ArchiveReader::new(bytes)?;
        while let Some(block) = archive.next_block()? {
            match block {
                Block::Data(data) => drop(all(data.stored()?)?),
                Block::LargeObjects(mut objects) => {
                    while let Some(object) = objects.next_object()? {
                        all(object.stored()?)?;
                    }
                }
            }
        }
        Ok(())
    };
    copy(&bytes).unwrap();
    for length in 0..bytes.len() {
        let error = copy(&bytes[..length]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Truncated(_) | ErrorKind::NotAnArchive(_)), "{length}: {error}");
    }
    let chunk = bytes.windows(3).position(|window| window == b"abc").unwrap();
    let mut negative = bytes.clone();
    negative[chunk - 5] = 1;
    let error = copy(&negative).unwrap_err();
    assert!(error.to_string().contains("a chunk of data claims -3"), "{error}");
    assert_eq!((error.offset(), error.entry().is_some()), (chunk as u64 - 5, true));
}
