use std::io::{Cursor, Read, Write};

use dumpfmt::{ArchiveReader, Block, Error, Verifier, VerifyOptions};

use crate::read::{Body, Contents, Dribble, body, contents, open, seekable, told};
use crate::{Choice, limits, sealed};

/// A whole archive, by every way to read it.
pub fn blocks(data: &[u8]) {
    let data = &sealed(data);
    let Ok(mut archive) = seekable(data) else { return };
    let (read, error) = contents(&mut archive);

    let (dribbled, dribbled_error) = contents(&mut open(Dribble(data)).expect("it opened before"));
    assert_eq!(dribbled, read);
    assert_eq!(dribbled_error.as_ref().map(told), error.as_ref().map(told));

    archive.rewind().expect("memory can be positioned");
    assert_eq!(contents(&mut archive).0, read);
    by_entry(&mut archive, &read);
    passed_over_and_stored(data, error.is_none());
    let verified = verify(data, &read, error.as_ref());
    if Choice::of(data).below(16) == 0 {
        tap(data, verified);
    }
}

/// What was read in order is found by its dump ID too, unless a position is recorded wrongly.
fn by_entry<R: Read + std::io::Seek>(archive: &mut ArchiveReader<R>, read: &Contents) {
    let ids: Vec<_> = archive.toc().entries().iter().rev().map(dumpfmt::TocEntry::dump_id).collect();
    for dump_id in ids {
        let Ok(Some(block)) = archive.block(dump_id) else { continue };
        assert_eq!(block.entry().dump_id(), dump_id);
        let entry_has_position = matches!(block.entry().data_state(), dumpfmt::DataState::Position(_));
        let Ok(found) = body(block) else { continue };
        // Where the position of an entry is recorded there may be another block that names it.
        if let Some(expected) = read.iter().find(|(id, _)| *id == dump_id)
            && !entry_has_position
        {
            assert_eq!(found, *expected);
        }
    }
}

/// The stored bytes of a body end where the body does.
fn passed_over_and_stored(data: &[u8], is_whole: bool) {
    let mut passed = Vec::new();
    let mut archive = seekable(data).expect("it opened before");
    let passing = loop {
        match archive.next_block() {
            Ok(Some(block)) => passed.push(block.entry().dump_id()),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    let mut walked = Vec::new();
    let mut archive = seekable(data).expect("it opened before");
    let walking = walk(&mut archive, &mut walked);
    assert_eq!(walking.is_ok(), passing.is_ok(), "{walking:?}, but passed over {passing:?}");
    if passing.is_ok() {
        assert_eq!(walked, passed);
    }
    assert!(passing.is_ok() || !is_whole, "{passing:?}");
}

fn walk(archive: &mut ArchiveReader<Cursor<&[u8]>>, walked: &mut Vec<i32>) -> Result<(), Error> {
    while let Some(block) = archive.next_block()? {
        walked.push(block.entry().dump_id());
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
    }
    Ok(())
}

/// An archive that is proved to be whole can be read, and holds what the proof says.
fn verify(data: &[u8], read: &Contents, error: Option<&Error>) -> Result<Vec<dumpfmt::VerifiedEntry>, Error> {
    let verified = seekable(data).expect("it opened before").verify(|_| {});
    let Ok(entries) = &verified else { return verified };
    assert!(error.is_none(), "verified, but {error:?}");
    assert_eq!(entries.len(), read.len());
    for (entry, (dump_id, body)) in entries.iter().zip(read) {
        assert_eq!(entry.dump_id, *dump_id);
        match body {
            Body::Data(data) => assert_eq!(entry.large_objects, None, "{data:?}"),
            Body::LargeObjects(objects) => assert_eq!(entry.large_objects, Some(objects.len() as u64)),
        }
    }
    let mut archive = seekable(data).expect("it opened before");
    while let Some(block) = archive.next_block().expect("it is verified") {
        let Block::Data(data) = block else { continue };
        let dump_id = data.entry().dump_id();
        let expected = entries.iter().find(|entry| entry.dump_id == dump_id).expect("it is verified");
        let Some(count) = expected.rows else { continue };
        let (mut rows, mut found) = (data.rows(), 0);
        let ended = loop {
            match rows.next_row() {
                Ok(Some(_)) => found += 1,
                Ok(None) => break true,
                // Verifying holds no row, and so has no limit to them.
                Err(error) => {
                    assert!(matches!(error.kind(), dumpfmt::ErrorKind::LimitExceeded { .. }), "{error}");
                    break false;
                }
            }
        };
        assert!(!ended || found == count, "{found} rows, but {count} were verified");
    }
    verified
}

/// Bytes on their way are verified alike.
fn tap(data: &[u8], verified: Result<Vec<dumpfmt::VerifiedEntry>, Error>) {
    let mut verifier = Verifier::with_options(VerifyOptions::default(), limits().into());
    for piece in data.chunks(100) {
        verifier.write_all(piece).expect("it takes every byte");
    }
    match (verifier.finish(), verified) {
        (Ok(one), Ok(other)) => assert_eq!(one, other),
        (Err(one), Err(other)) => assert_eq!(told(&one), told(&other)),
        (one, other) => panic!("{one:?} on the way, but {other:?}"),
    }
}
