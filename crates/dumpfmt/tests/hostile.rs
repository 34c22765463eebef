//! Archives that were made to do harm, or that change while they are read: an
//! error with its place, or correct data; never a panic, never memory or time that
//! a few bytes claim.

use std::fs::{self, File};
use std::io::{self, Cursor, Read, Write};

use crate::archives::{EMPTY, GZIP, NONE, ROWS, check, compressions, contents, plain_sample, sample};
use dumpfmt::example::Builder;
use dumpfmt::{ArchiveReader, Block, Error, ErrorKind, Limits};
use proptest::prelude::*;

/// Everything that can be done with an archive, whatever comes of it.
fn try_all(bytes: &[u8]) {
    let _ = check(bytes);
    let Ok(mut archive) = ArchiveReader::new(Cursor::new(bytes)) else { return };
    let ids: Vec<i32> = archive.toc().entries().iter().map(dumpfmt::TocEntry::dump_id).collect();
    for dump_id in ids {
        if let Ok(Some(block)) = archive.block(dump_id) {
            let _ = crate::archives::block_contents(block);
        }
    }
    if archive.rewind().is_ok() {
        while let Ok(Some(block)) = archive.next_block() {
            if let Block::Data(data) = block
                && let Ok(mut stored) = data.stored()
            {
                while let Ok(Some(_)) = stored.next_piece() {}
            }
        }
    }
}

fn limit_of(error: &Error) -> Option<&'static str> {
    match error.kind() {
        ErrorKind::LimitExceeded { field, .. } => Some(field),
        _ => None,
    }
}

fn int(value: i32) -> Vec<u8> {
    [&[u8::from(value < 0)][..], &value.unsigned_abs().to_le_bytes()].concat()
}

/// An entry of version 1.16 without any text, and so many dependencies.
fn tiny_entry(dump_id: i32, dependencies: usize) -> Vec<u8> {
    let null = int(-1);
    let oid = [&int(1)[..], b"0"].concat();
    let mut entry = [int(dump_id), int(0), oid.clone(), oid.clone(), null.clone(), null.clone(), int(2)].concat();
    entry.extend(null.repeat(6));
    entry.extend(int(0));
    entry.extend(null.repeat(2));
    entry.extend(oid.repeat(dependencies));
    entry.extend(null);
    entry.extend([3, 0, 0, 0, 0, 0, 0, 0, 0]);
    entry
}

/// A header with this count of entries.
fn header(count: i32) -> Vec<u8> {
    let mut bytes = Builder::new(16, NONE).build();
    bytes.truncate(bytes.len() - 5);
    [bytes, int(count)].concat()
}

/// What `make` makes, without an end.
struct Endless<F> {
    make: F,
    next: i32,
    ready: Cursor<Vec<u8>>,
}

impl<F: FnMut(i32) -> Vec<u8>> Endless<F> {
    fn new(make: F) -> Self {
        Self { make, next: 0, ready: Cursor::default() }
    }
}

impl<F: FnMut(i32) -> Vec<u8>> Read for Endless<F> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.ready.read(out)? {
                0 if !out.is_empty() => {
                    self.next += 1;
                    self.ready = Cursor::new((self.make)(self.next));
                }
                read => return Ok(read),
            }
        }
    }
}

#[test]
fn two_billion_tiny_entries_meet_a_limit_before_they_take_memory() {
    let entries = || header(i32::MAX).chain_with(Endless::new(|id| tiny_entry(id, 0)));
    let error = ArchiveReader::new(entries()).map(drop).unwrap_err();
    assert_eq!(limit_of(&error), Some("toc_entries"), "{error}");
    let mut limits = Limits::default();
    limits.toc_entries = u64::MAX;
    limits.toc_bytes = 1 << 20;
    let error = ArchiveReader::with_limits(entries(), limits).map(drop).unwrap_err();
    assert_eq!(limit_of(&error), Some("toc_bytes"), "{error}");
    // Each takes at least a hundred bytes of memory, though it has only so many in the file.
    assert!(error.offset() < (1 << 20) / 100 * tiny_entry(1, 0).len() as u64, "{error}");
    assert!(error.entry().unwrap().contains("of 2147483647 of the table of contents"), "{error}");
}

#[test]
fn dependencies_without_end_meet_a_limit() {
    let mut limits = Limits::default();
    limits.toc_bytes = 1 << 20;
    let begin = tiny_entry(1, 0);
    let begin = [&header(1)[..], &begin[..begin.len() - 14]].concat();
    let archive = begin.chain_with(Endless::new(|_| [&int(1)[..], b"7"].concat()));
    let error = ArchiveReader::with_limits(archive, limits).map(drop).unwrap_err();
    assert_eq!(limit_of(&error), Some("toc_bytes"), "{error}");
    assert!(error.offset() < 4 << 20, "{error}");
}

#[test]
fn a_real_table_of_contents_of_a_million_entries_is_within_the_limits() {
    // All divided by a hundred, for the sake of the time that it takes.
    const ENTRIES: usize = 1_000_000 / 100;
    let mut limits = Limits::default();
    assert!(limits.toc_entries >= 1_000_000);
    limits.toc_bytes /= 100;
    let definition = "d".repeat(250);
    let mut builder = Builder::new(16, NONE);
    for dump_id in 1..=ENTRIES as i32 {
        let texts = [Some("some_table"), Some("TABLE"), Some(&*definition), Some("DROP TABLE some_table;"), None];
        builder.entry(dump_id, 2, false, texts).depends_on(&["1", "2", "3"]);
    }
    let bytes = builder.build();
    assert!(bytes.len() > 4_000_000);
    let archive = ArchiveReader::with_limits(&bytes[..], limits).unwrap();
    assert_eq!(archive.toc().entries().len(), ENTRIES);
}

#[test]
fn a_text_takes_no_more_memory_than_the_file_has() {
    // The first text of the header, and the tag of an entry, claim 2 GiB less one.
    let mut bytes = header(0);
    let database = bytes.windows(5).position(|window| window == b"store").unwrap();
    bytes[database - 4..database].copy_from_slice(&i32::MAX.to_le_bytes());
    let error = check(&bytes).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Truncated(_)), "{error}");
    let mut limits = Limits::default();
    limits.toc_bytes = 1000;
    let error = ArchiveReader::with_limits(&bytes[..], limits).unwrap_err();
    assert_eq!((limit_of(&error), error.offset()), (Some("toc_bytes"), database as u64 - 5));

    let entry = tiny_entry(1, 0);
    let tag = 10 + 2 * 6;
    let bytes = [&header(1)[..], &entry[..tag], &int(i32::MAX - (1 << 20)), &entry[tag + 5..]].concat();
    assert!(matches!(check(&bytes).unwrap_err().kind(), ErrorKind::Truncated(_)));
}

#[test]
fn impossible_counts_are_errors_at_their_place() {
    let place = header(0).len() as u64 - 5;
    let error = check(&header(-1)).unwrap_err();
    assert!(error.to_string().contains("claims -1 entries"), "{error}");
    assert_eq!(error.offset(), place);
    let error = check(&header(2)).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Truncated(_)), "{error}");
    for dump_id in [0, -1] {
        let error = check(&[header(1), tiny_entry(dump_id, 0)].concat()).unwrap_err();
        assert!(error.to_string().contains("not a positive number"), "{error}");
        assert_eq!(error.entry(), Some("entry 1 of 1 of the table of contents"));
    }
    assert!(check(&[header(1), tiny_entry(1, 3)].concat()).is_ok());
}

#[test]
fn a_chunk_over_the_limit_is_refused_and_one_below_it_takes_no_memory() {
    let copy = Some("COPY public.t (id, name) FROM stdin;\n");
    let table = |int_size: u8| {
        let mut builder = Builder::new(16, NONE);
        builder.int_size(int_size).entry(1, 3, true, [Some("t"), Some("TABLE DATA"), None, None, copy]);
        builder.data(1, &[ROWS]).build()
    };
    let mut limits = Limits::default();
    limits.chunk_bytes = ROWS.len() as u64;
    assert!(ArchiveReader::with_limits(&table(4)[..], limits.clone()).unwrap().verify(|_| {}).is_ok());
    limits.chunk_bytes -= 1;
    let bytes = table(4);
    let chunk = (bytes.len() - 5 - ROWS.len() - 5) as u64;
    for stored in [false, true] {
        let mut archive = ArchiveReader::with_limits(&bytes[..], limits.clone()).unwrap();
        let error = if stored {
            let Some(Block::Data(data)) = archive.next_block().unwrap() else { panic!("no data") };
            data.stored().unwrap().next_piece().map(drop).unwrap_err()
        } else {
            archive.verify(|_| {}).unwrap_err()
        };
        assert_eq!((limit_of(&error), error.offset()), (Some("chunk_bytes"), chunk), "{error}");
        assert_eq!(error.entry(), Some("TABLE DATA public.t (dump ID 1)"));
    }
    // One giant chunk, as much as 4 bytes can say: it is streamed, not held.
    let mut giant = table(4);
    let at = chunk as usize + 1;
    giant[at..at + 4].copy_from_slice(&i32::MAX.to_le_bytes());
    assert!(matches!(check(&giant).unwrap_err().kind(), ErrorKind::Truncated(_)));
    giant[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(limit_of(&check(&giant).unwrap_err()), Some("chunk_bytes"));
    // And more, where numbers have 8 bytes.
    let mut giant = table(8);
    let at = giant.len() - 9 - ROWS.len() - 8;
    giant[at..at + 8].copy_from_slice(&(1_u64 << 50).to_le_bytes());
    assert_eq!(limit_of(&check(&giant).unwrap_err()), Some("chunk_bytes"));
    giant[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(check(&giant).unwrap_err().to_string().contains("a number is too large"));
}

#[test]
fn an_oid_that_none_can_be_is_an_error() {
    let mut builder = Builder::new(16, NONE);
    builder.int_size(8).entry(5, 3, true, [Some("BLOBS"), Some("BLOBS"), None, None, None]);
    let bytes = builder.large_objects(5, &[(3_000_000_000, &[b"x"])]).build();
    assert!(check(&bytes).unwrap().contains_key("3000000000"));
    let at = bytes.len() - 9 - 9 - 1 - 9 - 8;
    for oid in [1_u64 << 32, 1 << 50] {
        let mut other = bytes.clone();
        other[at - 1] = 0;
        other[at..at + 8].copy_from_slice(&oid.to_le_bytes());
        let error = check(&other).unwrap_err();
        assert!(error.to_string().contains("is not the OID of a large object"), "{error}");
    }
}

#[test]
fn entries_that_depend_on_each_other_or_on_nothing_known_are_read() {
    let copy = Some("COPY public.t (a) FROM stdin;\n");
    let mut builder = Builder::new(16, NONE);
    builder
        .entry(1, 3, true, [Some("t"), Some("TABLE DATA"), None, None, copy])
        .depends_on(&["2"])
        .entry(2, 2, false, [Some("t"), Some("TABLE"), None, None, None])
        .depends_on(&["1", "2", "2", "-5", "2147483647"])
        .data(1, &[EMPTY]);
    for bytes in [builder.build(), builder.build_seekable(), builder.build_tar()] {
        check(&bytes).unwrap();
        let archive = ArchiveReader::new(&bytes[..]).unwrap();
        assert_eq!(archive.toc().get(2).unwrap().dependencies(), [1, 2, 2, -5, i32::MAX]);
    }
}

#[test]
fn a_position_that_leads_elsewhere_is_an_error_of_that_entry() {
    let bytes = sample(16, NONE).build_seekable();
    let archive = ArchiveReader::new(&bytes[..]).unwrap();
    let position = |dump_id| match archive.toc().get(dump_id).unwrap().data_state() {
        dumpfmt::DataState::Position(position) => position,
        other => panic!("{other:?}"),
    };
    let (own, other) = (position(3), position(4));
    let at = bytes.windows(8).position(|window| window == own.to_le_bytes()).unwrap();
    for (wrong, expected) in [
        (other, "at its recorded position is the data of dump ID 4"),
        (0, "its type is 80"),
        (other + 11, ""),
        (bytes.len() as u64, "it ends before the position"),
        (1 << 40, "it ends before the position"),
        (u64::MAX, "lies beyond any file"),
    ] {
        let mut damaged = bytes.clone();
        damaged[at..at + 8].copy_from_slice(&u64::to_le_bytes(wrong));
        let mut archive = ArchiveReader::new(Cursor::new(&damaged)).unwrap();
        let error = archive.block(3).unwrap_err();
        assert!(error.to_string().contains(expected), "{wrong}: {error}");
        // In the order of the file, that could be the sign of missing bytes.
        archive.rewind().unwrap();
        let error = contents(&mut archive).unwrap_err();
        assert!(
            error.to_string().contains(&format!("the table of contents records byte {wrong}")) || wrong == u64::MAX,
            "{error}"
        );
    }
}

#[test]
fn data_without_an_entry_and_an_entry_without_data_are_errors() {
    let entry = |builder: &mut Builder, dump_id: i32, kind: &str| {
        builder.entry(dump_id, 3, true, [Some("t"), Some(kind), None, None, None]);
    };
    for kind in ["TABLE DATA", "BLOBS"] {
        let mut builder = Builder::new(16, NONE);
        entry(&mut builder, 1, kind);
        entry(&mut builder, 2, "TABLE DATA");
        builder.data(2, &[EMPTY]);
        for bytes in [builder.build(), builder.build_tar()] {
            let error = check(&bytes).unwrap_err();
            assert!(error.to_string().contains(&format!("before the data of {kind} public.t (dump ID 1)")), "{error}");
            let error = ArchiveReader::new(Cursor::new(bytes)).unwrap().block(1).map(drop).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Truncated(_)), "{error}");
        }
        builder.data(7, &[EMPTY]);
        for (bytes, expected) in [
            (builder.build(), "names dump ID 7, which the table of contents does not have"),
            (builder.build_tar(), "the member `7.dat` belongs to nothing"),
        ] {
            assert!(check(&bytes).unwrap_err().to_string().contains(expected));
        }
    }
}

#[test]
fn an_entry_that_has_data_twice_is_an_error_also_for_who_passes_over_it() {
    let mut builder = Builder::new(16, NONE);
    for dump_id in 1..=2 {
        builder.entry(dump_id, 3, true, [Some("t"), Some("TABLE DATA"), None, None, None]);
    }
    let bytes = builder.data(1, &[b"first"]).data(1, &[b"second"]).data(2, &[EMPTY]).build();
    let expected = "this entry has data twice, first at byte";
    assert!(check(&bytes).unwrap_err().to_string().contains(expected));
    let mut archive = ArchiveReader::new(Cursor::new(&bytes)).unwrap();
    for _ in 0..2 {
        let error = archive.block(2).map(drop).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.entry(), Some("TABLE DATA public.t (dump ID 1)"));
        // What was found is not replaced by what comes later.
        let first = crate::archives::block_contents(archive.block(1).unwrap().unwrap()).unwrap();
        assert_eq!(first["t"], b"first");
    }
}

#[test]
fn a_custom_file_that_grows_or_shrinks_while_it_is_read_is_an_error_or_as_it_was() {
    let rows = [vec![b'x'; 1 << 20], b"\n\\.\n\n\n".to_vec()].concat();
    let mut builder = Builder::new(16, NONE);
    builder.entry(1, 3, true, [Some("t"), Some("TABLE DATA"), None, None, Some("COPY public.t (a) FROM stdin;\n")]);
    let bytes = builder.data(1, &[&rows]).build();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("archive");
    let block = &bytes[bytes.len() - rows.len() - 16..];
    for (name, extra) in [("junk", &b"junk"[..]), ("a block", block), ("nothing", b"")] {
        fs::write(&path, &bytes).unwrap();
        let mut archive = ArchiveReader::open(&path).unwrap();
        archive.next_block().unwrap().unwrap();
        File::options().append(true).open(&path).unwrap().write_all(extra).unwrap();
        let rest = archive.next_block().map(|block| block.is_some());
        match name {
            "nothing" => assert!(!rest.unwrap()),
            "junk" => assert!(rest.unwrap_err().to_string().contains("its type is 106")),
            _ => assert!(rest.unwrap_err().to_string().contains("data twice")),
        }
    }
    for length in [0, 600 << 10, bytes.len() as u64 - 1] {
        fs::write(&path, &bytes).unwrap();
        let mut archive = ArchiveReader::open(&path).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
        let error = archive.verify(|_| {}).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Truncated(_)), "{length}: {error}");
        assert!(error.entry().is_some());
    }
}

/// Fails at a position, as a disk or a network does.
struct Failing<R>(R, u64);

impl<R: Read> Read for Failing<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.1 == 0 {
            return Err(io::Error::other("the disk is gone"));
        }
        let step = out.len().min(self.1 as usize);
        let read = self.0.read(&mut out[..step])?;
        self.1 -= read as u64;
        Ok(read)
    }
}

#[test]
fn a_failure_of_the_input_is_told_as_such_wherever_it_comes() {
    for compression in compressions() {
        let bytes = sample(16, compression).build();
        for length in 0..bytes.len() as u64 {
            let archive = ArchiveReader::new(Failing(&bytes[..], length));
            let error = archive.and_then(|mut archive| contents(&mut archive)).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Io(_)), "{compression}, {length}: {error}");
        }
    }
    let bytes = plain_sample(16, NONE).build_tar();
    for length in (0..bytes.len() as u64).step_by(7) {
        let archive = ArchiveReader::new(Failing(&bytes[..], length));
        let error = archive.and_then(|mut archive| contents(&mut archive)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Io(_)), "{length}: {error}");
    }
}

#[test]
fn a_flipped_bit_in_an_old_version_or_with_positions_is_an_error_or_the_data_it_makes() {
    let archives = [
        sample(4, NONE).build_seekable(),
        sample(7, GZIP).build(),
        sample(10, NONE).build(),
        sample(16, GZIP).build_seekable(),
    ];
    let rows = |bytes: &[u8]| {
        let verified = ArchiveReader::new(bytes)?.verify(|_| {})?;
        Ok::<u64, dumpfmt::Error>(verified.iter().filter_map(|entry| entry.rows.or(entry.large_objects)).sum())
    };
    for bytes in archives {
        let expected = rows(&bytes).unwrap();
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[position] ^= 1 << bit;
                try_all(&damaged);
                if let Ok(found) = rows(&damaged) {
                    assert_eq!(found, expected, "bit {bit} of byte {position}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn arbitrary_bytes_never_panic(
        version in 0_u8..20,
        format in prop::sample::select(&[1_u8, 3][..]),
        bytes in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(4), any::<u8>()], 0..400),
    ) {
        try_all(&[&b"PGDMP\x01"[..], &[version, 0, 4, 8, format], &bytes].concat());
    }

    #[test]
    fn an_archive_with_parts_of_itself_in_other_places_never_panics(
        minor in 4_u8..=16,
        tar in any::<bool>(),
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
        length in 0_usize..600,
        replace in any::<bool>(),
    ) {
        let builder = plain_sample(minor, NONE);
        let mut bytes = if tar { builder.build_tar() } else { builder.build() };
        let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
        let part = bytes[from..bytes.len().min(from + length)].to_vec();
        let end = if replace { bytes.len().min(to + part.len()) } else { to };
        bytes.splice(to..end, part);
        try_all(&bytes);
    }
}

trait ChainWith {
    fn chain_with<R: Read>(self, rest: R) -> io::Chain<Cursor<Vec<u8>>, R>;
}

impl ChainWith for Vec<u8> {
    fn chain_with<R: Read>(self, rest: R) -> io::Chain<Cursor<Vec<u8>>, R> {
        Cursor::new(self).chain(rest)
    }
}
