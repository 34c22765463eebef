use std::fs;
use std::io::{Cursor, Read, Seek};

use dumpfmt::repair::{IndexOptions, MemberPlan, RepairOptions, RepairPlan, find_archive, index_in_place, undo_crlf};
use dumpfmt::{ArchiveReader, DataState, ErrorKind, Format, WriteOptions};

use crate::read::{contents, open, seekable};
use crate::{Choice, limits};

/// What can be kept of arbitrary bytes is an archive that is whole; and of an archive that is whole, everything.
pub fn repair(data: &[u8]) {
    let mut choice = Choice::of(data);
    let mut options = RepairOptions::default();
    options.read = limits().into();
    options.partial_rows = choice.toss();
    options.any_order = choice.toss();
    let is_whole = seekable(data).is_ok_and(|mut archive| archive.verify(|_| {}).is_ok());
    match RepairPlan::of(&mut Cursor::new(data), &options, |_| {}) {
        Ok(plan) => {
            let options = WriteOptions::like(plan.header()).threads(0);
            write(data, &plan, &options, is_whole);
            expect_whole(data, &plan);
        }
        // Those in the tar format have another plan.
        Err(error) => assert!(!is_whole || !data.starts_with(b"PGDMP"), "{error}"),
    }
    if let Ok(Some(found)) = find_archive(&mut Cursor::new(data), 0, &limits().into()) {
        assert!(data[found.start as usize..].starts_with(b"PGDMP"));
    }
    members(data, is_whole);
    crlf(data);
    if choice.below(32) == 0 {
        index(data, choice.toss(), is_whole);
    }
}

fn write(data: &[u8], plan: &RepairPlan, options: &WriteOptions, is_whole: bool) {
    let start = plan.start() as usize;
    let (read, error) = contents(&mut open(&data[start..]).expect("the plan has read its contents"));
    if is_whole {
        assert_eq!(plan.start(), 0);
        assert!(plan.is_whole(), "{:?} {:?}", plan.lost(), plan.damage());
    }
    assert!(plan.is_whole() || error.is_some() || !is_whole);
    let _ = plan.doubtful_foreign_keys().count();
    let mut source = Cursor::new(data);
    let repaired = match plan.to_file(&mut source, Cursor::new(Vec::new()), options, |_| {}) {
        Ok(repaired) => repaired.into_inner(),
        // What an archive of that version cannot have.
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::Usage(_) | ErrorKind::Unsupported(_)), "{error}");
            return;
        }
    };
    let entries = match seekable(&repaired).and_then(|mut archive| archive.verify(|_| {})) {
        Ok(entries) => entries,
        Err(error) => panic!("what was written is not whole: {error}"),
    };
    assert_eq!(entries.len(), plan.recovered().len());
    if plan.is_whole() && error.is_none() {
        let (again, error) = contents(&mut seekable(&repaired).expect("it is verified"));
        assert!(error.is_none() && again == read, "{error:?}");
    }
}

/// Whoever verifies an archive agrees with a repair that has nothing to do, but for single positions that are wrong.
fn expect_whole(data: &[u8], plan: &RepairPlan) {
    if !plan.is_whole() {
        return;
    }
    let archive = &data[plan.start() as usize..];
    let end = plan.trailing().map_or(archive.len(), |trailing| trailing.start as usize);
    let verified = seekable(&archive[..end]).and_then(|mut archive| archive.verify(|_| {}));
    if let Err(error) = verified {
        assert!(error.to_string().contains("the table of contents records byte"), "{error}");
    }
}

/// The same of a tar.
fn members(data: &[u8], is_whole: bool) {
    if let Ok(archive) = seekable(data)
        && archive.header().format == Format::Tar
    {
        repaired_members(archive, is_whole);
    }
}

/// What can be kept of a tar or a folder is an archive that is whole, and nothing is lost of one that is.
pub(crate) fn repaired_members<R: Read + Seek>(mut archive: ArchiveReader<R>, is_whole: bool) {
    let plan = match MemberPlan::of(&mut archive, |_| {}) {
        Ok(plan) => plan,
        Err(error) => {
            assert!(!is_whole, "{error}");
            return;
        }
    };
    assert_eq!(plan.is_whole(), is_whole, "{:?} {:?} {:?}", plan.lost(), plan.lost_large_objects(), plan.damage());
    let options = WriteOptions::like(plan.header()).threads(0);
    match plan.to_file(&mut archive, Cursor::new(Vec::new()), &options, |_| {}) {
        Ok(repaired) => match seekable(repaired.get_ref()).and_then(|mut archive| archive.verify(|_| {})) {
            Ok(entries) => assert_eq!(entries.len(), plan.recovered().len()),
            Err(error) => panic!("what was written is not whole: {error}"),
        },
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::Usage(_) | ErrorKind::Unsupported(_)), "{error}");
        }
    }
}

/// What a terminal did is undone exactly.
fn crlf(data: &[u8]) {
    let mut with_returns = Vec::new();
    for &byte in data {
        if byte == b'\n' {
            with_returns.push(b'\r');
        }
        with_returns.push(byte);
    }
    let mut undone = Vec::new();
    let report = undo_crlf(&with_returns[..], &mut undone).expect("memory can be read and written");
    assert_eq!(undone, data);
    assert_eq!((report.line_feeds_alone, report.written), (0, data.len() as u64));
}

/// A file gets its positions, or stays as it was.
fn index(data: &[u8], verify: bool, is_whole: bool) {
    let path = std::env::temp_dir().join(format!("dumpfmt-fuzz-{}", std::process::id()));
    fs::write(&path, data).expect("a file can be written");
    let mut options = IndexOptions::default();
    options.read = limits().into();
    options.verify = verify;
    let result = index_in_place(&path, &options, |_| {});
    let after = fs::read(&path).expect("it is still there");
    fs::remove_file(&path).expect("it is still there");
    match result {
        Ok(_) => {
            let mut archive = seekable(&after).expect("it was read before");
            let mut with_data = archive.toc().entries().iter().filter(|entry| entry.has_data());
            assert!(with_data.all(|entry| matches!(entry.data_state(), DataState::Position(_))));
            let again = archive.verify(|_| {});
            assert!(!verify || again.is_ok(), "{again:?}");
        }
        Err(error) => {
            assert!(!is_whole || !data.starts_with(b"PGDMP"), "{error}");
            assert!(after == data, "{error}, but the file is changed");
        }
    }
}
