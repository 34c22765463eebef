//! A kill before every step of the journal, torn writes, and everything else that may happen to the file.

use super::*;
use crate::example::Builder;

/// Three entries with data, one without, as pg_dump 16 writes them to a pipe or after `>`.
fn archive(redirected: bool) -> Vec<u8> {
    let copy = Some("COPY public.t (a) FROM stdin;\n");
    let mut builder = Builder::new(16, 0);
    builder
        .entry(1, 1, false, [Some("ENCODING"), Some("ENCODING"), Some("SET x;\n"), None, None])
        .entry(2, 3, true, [Some("a"), Some("TABLE DATA"), None, None, copy])
        .entry(3, 3, true, [Some("b"), Some("TABLE DATA"), None, None, copy])
        .entry(4, 3, true, [Some("BLOBS"), Some("BLOBS"), None, None, None])
        .data(2, &[b"one\n", b"\\.\n\n\n"])
        .data(3, &[b"two\n", b"three\n", b"\\.\n\n\n"])
        .large_objects(4, &[(16400, &[b"content"])]);
    if redirected { builder.build_redirected() } else { builder.build() }
}

fn stored(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.dump");
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn index(path: &Path) -> Result<IndexReport, IndexError> {
    index_in_place(path, &IndexOptions::default(), |_| {})
}

fn indexed(bytes: &[u8]) -> Vec<u8> {
    let (_folder, path) = stored(bytes);
    index(&path).unwrap();
    fs::read(&path).unwrap()
}

fn files_beside(path: &Path) -> usize {
    fs::read_dir(path.parent().unwrap()).unwrap().count() - 1
}

#[test]
fn each_entry_gets_the_position_of_its_block_and_nothing_else_changes() {
    let before = archive(false);
    let (_folder, path) = stored(&before);
    let report = index(&path).unwrap();
    let expected = IndexReport { entries: 3, written: 3, cut_off: 0, finished_earlier_run: false };
    assert_eq!(report, expected);
    assert_eq!(files_beside(&path), 0, "the journal is gone");
    let after = fs::read(&path).unwrap();
    assert_eq!(after.len(), before.len());
    assert!(before.iter().zip(&after).filter(|(a, b)| a != b).count() <= 27);
    let mut reader = ArchiveReader::open(&path).unwrap();
    for dump_id in [4, 2, 3] {
        let state = reader.toc().get(dump_id).unwrap().data_state();
        assert!(matches!(state, crate::DataState::Position(_)), "{state:?}");
        assert_eq!(reader.block(dump_id).unwrap().unwrap().entry().dump_id(), dump_id);
    }
    // Once more: nothing is left to do.
    assert_eq!(index(&path).unwrap(), IndexReport { written: 0, ..expected });
    assert_eq!(fs::read(&path).unwrap(), after);
}

#[test]
fn what_verify_refuses_gets_no_positions_unless_it_is_not_to_be_verified() {
    let copy = Some("COPY public.t (a, b) FROM stdin;\n");
    for (row, expected) in
        [(&b"1\t2\t3\n"[..], "1 rows of 2 columns have 3 fields"), (b"1\t\x00\n", "a byte 0 in text")]
    {
        let mut builder = Builder::new(16, 0);
        builder.entry(2, 3, true, [Some("t"), Some("TABLE DATA"), None, None, copy]).data(2, &[row, b"\\.\n\n\n"]);
        let before = builder.build();
        let (_folder, path) = stored(&before);
        let error = index(&path).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("TABLE DATA public.t"), "{error}");
        assert_eq!((fs::read(&path).unwrap(), files_beside(&path)), (before, 0));
        let unverified = IndexOptions { verify: false, ..IndexOptions::default() };
        assert_eq!(index_in_place(&path, &unverified, |_| {}).unwrap().written, 1);
    }
}

#[test]
fn the_repeated_contents_behind_the_data_move_to_their_place() {
    let (once, twice) = (archive(false), archive(true));
    let (_folder, path) = stored(&twice);
    let report = index(&path).unwrap();
    assert_eq!(report.cut_off, (twice.len() - once.len()) as u64);
    let after = fs::read(&path).unwrap();
    assert_eq!(after, indexed(&once));
    // pg_dump knew the same positions.
    let repeated = &twice[once.len()..];
    assert!(after.windows(repeated.len()).any(|window| window == repeated));
}

#[test]
fn positions_that_are_wrong_are_put_right() {
    let good = indexed(&archive(false));
    let mut wrong = good.clone();
    let position = ArchiveReader::new(&good[..]).unwrap().position();
    let first = wrong.windows(8).position(|window| window == position.to_le_bytes()).unwrap();
    wrong[first] ^= 0xff;
    assert_eq!(indexed(&wrong), good);
}

#[test]
fn a_run_that_is_killed_before_any_step_is_finished_or_never_was() {
    for redirected in [false, true] {
        let before = archive(redirected);
        let after = indexed(&before);
        for stop in 0.. {
            let (_folder, path) = stored(&before);
            let mut steps = 0;
            let result = super::index(&path, &IndexOptions::default(), &mut |_| {}, &mut |_| {
                steps += 1;
                if steps > stop { Err(io::Error::other("killed")) } else { Ok(()) }
            });
            if result.is_ok() {
                assert!(stop > 8, "every step was tried: {stop}");
                break;
            }
            let (killed, journal) = (fs::read(&path).unwrap(), path.with_file_name("store.dump.journal"));
            assert!(killed == before || journal.exists(), "changed without a journal, before step {stop}");
            let had_journal = journal.exists();
            let report = index(&path).unwrap();
            assert_eq!(report.finished_earlier_run, had_journal);
            assert_eq!(fs::read(&path).unwrap(), after, "before step {stop}");
            assert_eq!(files_beside(&path), 0);
        }
    }
}

#[test]
fn what_a_power_cut_leaves_of_the_fields_is_finished() {
    for redirected in [false, true] {
        let before = archive(redirected);
        let after = indexed(&before);
        // The journal is durable; of the bytes of the fields any may have reached the disk.
        let differing: Vec<usize> = (0..after.len()).filter(|&place| before[place] != after[place]).collect();
        for pattern in 0..1_u32 << differing.len().min(7) {
            for rest in [false, true] {
                let (_folder, path) = stored(&before);
                super::index(&path, &IndexOptions::default(), &mut |_| {}, &mut |step| match step {
                    Step::WriteField => Err(io::Error::other("power cut")),
                    _ => Ok(()),
                })
                .unwrap_err();
                let mut torn = before.clone();
                for (index, &place) in differing.iter().enumerate() {
                    if if index < 7 { pattern & 1 << index != 0 } else { rest } {
                        torn[place] = after[place];
                    }
                }
                if redirected && rest {
                    torn.truncate(after.len());
                }
                fs::write(&path, &torn).unwrap();
                assert!(index(&path).unwrap().finished_earlier_run);
                assert_eq!(fs::read(&path).unwrap(), after);
            }
        }
    }
}

fn with_journal() -> (tempfile::TempDir, PathBuf) {
    let (folder, path) = stored(&archive(false));
    super::index(&path, &IndexOptions::default(), &mut |_| {}, &mut |step| match step {
        Step::WriteField => Err(io::Error::other("killed")),
        _ => Ok(()),
    })
    .unwrap_err();
    (folder, path)
}

#[test]
fn a_journal_of_another_archive_or_a_damaged_one_is_not_applied() {
    let (_folder, path) = with_journal();
    let mut other = archive(false);
    let text = other.windows(8).position(|window| window == b"ENCODING").unwrap();
    other[text] = b'F';
    for bytes in [other.clone(), archive(true), archive(false)[..200].to_vec()] {
        fs::write(&path, &bytes).unwrap();
        let error = index(&path).unwrap_err();
        assert!(matches!(error, IndexError::ForeignJournal { .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    fs::write(&path, archive(false)).unwrap();
    let journal = path.with_file_name("store.dump.journal");
    let bytes = fs::read(&journal).unwrap();
    fs::write(&journal, &bytes[..bytes.len() - 1]).unwrap();
    assert!(index(&path).unwrap_err().to_string().contains("cut short"));
    assert_eq!(fs::read(&path).unwrap(), archive(false));
    fs::write(&journal, &bytes).unwrap();
    assert!(index(&path).unwrap().finished_earlier_run);
}

#[test]
fn an_archive_that_is_not_whole_is_left_alone() {
    let whole = archive(false);
    let data_start = ArchiveReader::new(&whole[..]).unwrap().position() as usize;
    for verify in [true, false] {
        for length in 0..whole.len() {
            let (_folder, path) = stored(&whole[..length]);
            let options = IndexOptions { verify, ..IndexOptions::default() };
            let error = index_in_place(&path, &options, |_| {}).unwrap_err();
            assert!(matches!(error, IndexError::Archive(_)), "cut at {length}: {error}");
            assert_eq!(fs::read(&path).unwrap(), whole[..length]);
            assert_eq!(files_beside(&path), 0);
        }
    }
    let (_folder, path) = stored(&[&whole[..], b"command terminated\n"].concat());
    assert!(index(&path).unwrap_err().to_string().contains("a block of data was expected"));
    // A row without its end is only seen when the data is read.
    let mut damaged = whole.clone();
    let end = damaged[data_start..].windows(2).position(|window| window == b"\\.").unwrap();
    damaged[data_start + end] = b'/';
    let (_folder, path) = stored(&damaged);
    assert!(index(&path).unwrap_err().to_string().contains("cut short"));
}

#[test]
fn a_second_process_and_a_file_that_cannot_be_written_are_told() {
    let (_folder, path) = stored(&archive(false));
    let other = File::open(&path).unwrap();
    other.lock().unwrap();
    assert!(matches!(index(&path).unwrap_err(), IndexError::Locked { .. }));
    drop(other);
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions.clone()).unwrap();
    assert!(matches!(index(&path).unwrap_err(), IndexError::NotWritable { .. }));
    assert_eq!(fs::metadata(&path).unwrap().permissions(), permissions);
    let error = index(&path.with_file_name("nothing")).unwrap_err();
    assert!(matches!(error, IndexError::Io { what: "open", .. }), "{error}");
}

#[test]
fn an_archive_that_changes_or_goes_while_it_is_read_is_not_written_to() {
    let (_folder, path) = stored(&archive(false));
    let options = IndexOptions::default();
    let replaced = index_in_place(&path, &options, |_| {
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"another one").unwrap();
    });
    assert!(matches!(replaced.unwrap_err(), IndexError::Changed { .. }));
    assert_eq!(fs::read(&path).unwrap(), b"another one");

    let (_folder, path) = stored(&archive(false));
    let gone = index_in_place(&path, &options, |_| drop(fs::remove_file(&path)));
    assert!(matches!(gone.unwrap_err(), IndexError::Changed { .. }));

    let (_folder, path) = stored(&archive(false));
    let mut calls = 0;
    let grown = index_in_place(&path, &options, |_| {
        calls += 1;
        if calls == 1 {
            File::options().append(true).open(&path).unwrap().write_all(b"more").unwrap();
        }
    });
    grown.unwrap_err();
    assert_eq!(fs::read(&path).unwrap(), [&archive(false)[..], b"more"].concat());
}
