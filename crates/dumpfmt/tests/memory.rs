//! Memory that a few bytes claim is not taken: the same under a limit of the operating system, where taking it
//! would end the process.
#![cfg(target_os = "linux")]

use std::io::{Cursor, Read};
use std::process::Command;

use crate::archives::{GZIP, LZ4, NONE, ROWS, ZSTD, compress};
use dumpfmt::example::{Builder, seal_tar_header, tar, tar_header};
use dumpfmt::repair::{RepairOptions, RepairPlan};
use dumpfmt::{
    ArchiveReader, Block, CompressionSpecification, Error, ErrorKind, Rewrite, SqlOptions, TocEntry, WriteOptions,
};

/// What the process may have, in bytes: several times what it needs, and a fraction of what is claimed.
const MOST_BYTES: u64 = 512 << 20;
const LIMITED: &str = "DUMPFMT_TEST_MEMORY_IS_LIMITED";
const COPY: Option<&str> = Some("COPY public.t (a) FROM stdin;\n");

#[test]
fn what_a_few_bytes_claim_takes_no_memory() {
    if std::env::var_os(LIMITED).is_some() {
        under_the_limit();
        return;
    }
    let program = std::env::current_exe().unwrap();
    let script = format!("ulimit -v {}; exec \"$0\" --exact --nocapture \"$1\"", MOST_BYTES / 1024);
    let mut limited = Command::new("sh");
    limited.args(["-c", &script]).arg(program).arg("memory::what_a_few_bytes_claim_takes_no_memory").env(LIMITED, "1");
    let output = limited.output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{}: {text}", output.status);
}

fn under_the_limit() {
    // That there is a limit.
    assert!(Vec::<u8>::new().try_reserve_exact(MOST_BYTES as usize).is_err());
    for (name, archive) in hostile() {
        for (way, result) in every_way(&archive) {
            if let Err(error) = result {
                let damage = matches!(
                    error.kind(),
                    ErrorKind::Truncated(_) | ErrorKind::Corrupt(_) | ErrorKind::LimitExceeded { .. }
                );
                assert!(damage, "{name}, {way}: {error}");
            } else {
                // Only a repair can make something of it, and only one that reads the contents can do without the data.
                assert!(["repaired", "as SQL"].contains(&way) || name.contains("whole"), "{name}, {way}");
            }
        }
    }
}

/// Small archives that claim to be large.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = Vec::new();
    let empty = Builder::new(16, NONE).build();
    let count = empty.len() - 4;
    let with = |bytes: &[u8], at: usize, value: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[at..at + value.len()].copy_from_slice(value);
        bytes
    };
    all.push(("2^31 - 1 entries", with(&empty, count, &i32::MAX.to_le_bytes())));
    all.push(("2^24 entries, the most", with(&empty, count, &(1_u32 << 24).to_le_bytes())));
    let place = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).position(|window| window == text).unwrap();
    let most = (i32::MAX - (1 << 20)).to_le_bytes();
    all.push(("a database name of nearly 2 GiB", with(&empty, place(&empty, b"store") - 4, &most)));

    let mut table = Builder::new(16, NONE);
    table.entry(1, 3, true, [Some("tag of it"), Some("TABLE DATA"), None, None, COPY]).depends_on(&["123456789"]);
    let rows = table.clone().data(1, &[ROWS]).build();
    all.push(("a tag of nearly 2 GiB", with(&rows, place(&rows, b"tag of it") - 4, &most)));
    all.push(("a dependency of nearly 2 GiB", with(&rows, place(&rows, b"123456789") - 4, &most)));
    all.push(("a chunk of 2 GiB", with(&rows, rows.len() - 5 - ROWS.len() - 4, &i32::MAX.to_le_bytes())));
    all.push(("a negative chunk", with(&rows, rows.len() - 5 - ROWS.len() - 5, &[1])));
    let mut wide = table.clone();
    let wide = wide.int_size(8).data(1, &[ROWS]).build();
    all.push(("a chunk of 2^50 bytes", with(&wide, wide.len() - 9 - ROWS.len() - 8, &(1_u64 << 50).to_le_bytes())));
    all.push(("a name in 32 bytes", {
        let mut bytes = empty[..8].to_vec();
        bytes.extend([32, 8, 1, 0]);
        bytes.extend([0xff; 400]);
        bytes
    }));

    let mut objects = Builder::new(16, NONE);
    objects.entry(5, 3, true, [Some("BLOBS"), Some("BLOBS"), None, None, None]);
    let objects = objects.large_objects(5, &[(7, &[b"content"])]).build();
    let length = place(&objects, b"content") - 4;
    all.push(("a large object of 2 GiB", with(&objects, length, &i32::MAX.to_le_bytes())));

    for (name, compression, head) in [
        // Content size and window of 2^60 bytes; the most that a header can say.
        ("a zstd frame of 2^60 bytes", ZSTD, &b"\x28\xb5\x2f\xfd\xe0\0\0\0\0\0\0\0\x10"[..]),
        ("a zstd window of 3.75 TiB", ZSTD, b"\x28\xb5\x2f\xfd\0\xff"),
        // Blocks of 4 MiB, and a content size of 2^60.
        ("an lz4 frame of 2^60 bytes", LZ4, b"\x04\x22\x4d\x18\x68\x70\0\0\0\0\0\0\0\x10\x1a"),
        ("a gzip stream of nothing but its begin", GZIP, b"\x78\x9c"),
    ] {
        if compression == ZSTD && cfg!(not(feature = "zstd")) {
            continue;
        }
        let mut archive = Builder::new(16, compression);
        archive.entry(1, 3, true, [Some("t"), Some("TABLE DATA"), None, None, COPY]);
        all.push((name, archive.data(1, &[head, &[0; 100]]).build()));
    }

    let mut files = table.data(1, &[ROWS]).files();
    let mut head = tar_header(&files[1].0, 1 << 62);
    seal_tar_header(&mut head);
    files.truncate(1);
    let mut archive = tar(&files);
    archive.truncate(archive.len() - 1024);
    all.push(("a member of a tar of 2^62 bytes", [&archive[..], &head, ROWS].concat()));

    // 64 MiB of one row in 64 KiB: whole, but nothing to hold where nobody asks for rows.
    let mut bomb = Builder::new(16, GZIP);
    bomb.entry(1, 3, true, [Some("t"), Some("TABLE DATA"), None, None, COPY]);
    let row = [vec![b'x'; 64 << 20], b"\n\\.\n\n\n".to_vec()].concat();
    all.push(("a whole archive of one row of 64 MiB", bomb.data(1, &[&compress(GZIP, &row)]).build()));
    all
}

type Outcome = Result<(), Error>;

fn every_way(archive: &[u8]) -> Vec<(&'static str, Outcome)> {
    let open = || ArchiveReader::new(Cursor::new(archive));
    let verified = open().and_then(|mut archive| archive.verify(|_| {}).map(drop));
    let stored = open().and_then(|mut archive| {
        while let Some(block) = archive.next_block()? {
            walk(block)?;
        }
        Ok(())
    });
    let sought = open().and_then(|mut archive| {
        let ids: Vec<_> = archive.toc().entries().iter().map(TocEntry::dump_id).collect();
        for dump_id in ids {
            if let Some(block) = archive.block(dump_id)? {
                drain(block)?;
            }
        }
        Ok(())
    });
    let by_row = open().and_then(|mut archive| {
        while let Some(block) = archive.next_block()? {
            match block {
                Block::Data(data) => {
                    let mut rows = data.rows();
                    while rows.next_row()?.is_some() {}
                }
                objects => drain(objects)?,
            }
        }
        Ok(())
    });
    let rewritten = open().and_then(|mut source| {
        let mut rewrite = Rewrite::new(WriteOptions::new(CompressionSpecification::NONE).threads(2));
        for entry in source.toc().entries() {
            rewrite.reencode(entry.dump_id());
        }
        rewrite.to_pipe(&mut source, std::io::sink(), |_| {}).map(drop)
    });
    let sql = open().and_then(|mut archive| match archive.write_sql(std::io::sink(), &SqlOptions::default()) {
        Err(dumpfmt::SqlError::Archive(error)) => Err(error),
        _ => Ok(()),
    });
    let mut source = Cursor::new(archive);
    let repaired = RepairPlan::of(&mut source, &RepairOptions::default(), |_| {}).map(drop);
    // Of a damaged table of contents nothing can be kept, and a tar is not repaired.
    let repaired = repaired.or_else(|error| match error.kind() {
        ErrorKind::NotAnArchive(_) | ErrorKind::Unsupported(_) => Ok(()),
        _ => Err(error),
    });
    vec![
        ("verified", verified),
        ("stored", stored_or_damaged(stored, archive)),
        ("sought", sought),
        ("by row", by_row),
        ("rewritten", rewritten),
        ("as SQL", sql),
        ("repaired", repaired),
    ]
}

/// The stored bytes of a compressed body may be there though they mean nothing.
fn stored_or_damaged(stored: Outcome, archive: &[u8]) -> Outcome {
    match stored {
        Ok(()) => ArchiveReader::new(archive)?.verify(|_| {}).map(drop),
        error => error,
    }
}

fn drain<R: Read>(block: Block<'_, R>) -> Outcome {
    let read =
        |data: &mut dyn Read| std::io::copy(data, &mut std::io::sink()).map(drop).map_err(|e| Error::from_io(e, 0));
    match block {
        Block::Data(mut data) => read(&mut data),
        Block::LargeObjects(mut objects) => {
            while let Some(mut object) = objects.next_object()? {
                read(&mut object)?;
            }
            Ok(())
        }
    }
}

fn walk<R: Read>(block: Block<'_, R>) -> Outcome {
    match block {
        Block::Data(data) => {
            let mut stored = data.stored()?;
            while stored.next_piece()?.is_some() {}
        }
        Block::LargeObjects(mut objects) => {
            while let Some(object) = objects.next_object()? {
                let mut stored = object.stored()?;
                while stored.next_piece()?.is_some() {}
            }
        }
    }
    Ok(())
}
