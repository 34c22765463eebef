//! One flipped bit where an archive tells of itself: whoever says that all went well has all the data.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use dumpfmt::example::{self, Builder};
use dumpfmt::repair::{MemberPlan, RepairOptions, RepairPlan};
use dumpfmt::{ArchiveReader, CompressionSpecification, Rewrite, SqlOptions, VerifiedEntry, WriteOptions};

const COPY: Option<&str> = Some("COPY public.t (id, name) FROM stdin;\n");

fn builder(minor: u8) -> Builder {
    let mut builder = Builder::new(minor, 0);
    let object = |oid| [Some(oid), Some("BLOB"), Some("SELECT 1;\n"), Some("SELECT 2;\n"), None];
    builder
        .entry(1, 1, false, [Some("ENCODING"), Some("ENCODING"), Some("SET client_encoding = 'UTF8';\n"), None, None])
        .entry(2, 2, false, [Some("t"), Some("TABLE"), Some("CREATE TABLE t ();\n"), Some("DROP TABLE t;\n"), None])
        .entry(3, 3, true, [Some("t"), Some("TABLE DATA"), Some(""), None, COPY])
        .entry(4, 3, true, [Some("u"), Some("TABLE DATA"), Some(""), None, COPY])
        .entry(5, 3, true, [Some("inserts"), Some("TABLE DATA"), Some(""), None, None])
        .entry(6, 2, false, object("7"))
        .entry(7, 2, false, object("8"))
        .entry(9, 3, true, [Some("BLOBS"), Some("BLOBS"), None, None, None])
        .entry(10, 4, false, [Some("i"), Some("INDEX"), Some("CREATE INDEX i;\n"), None, None])
        .data(3, &[b"1\tfirst row\n", b"2\tsecond row\n", b"\\.\n\n\n"])
        .data(4, &[b"3\tthird row\n", b"\\.\n\n\n"])
        .data(5, &[b"INSERT INTO t VALUES (4, 'fourth row');\n", b"INSERT INTO t VALUES (5, 'fifth row');\n", b"\n\n"])
        .large_objects(9, &[(7, &[b"sixth", b" row"]), (8, &[b"seventh row"])]);
    builder
}

/// What the data is in a script: hexadecimal for large objects.
const IN_SQL: [&str; 7] = [
    "first row\n",
    "second row\n",
    "third row\n",
    "fourth row",
    "fifth row",
    "736978746820726f77",
    "736576656e746820726f77",
];

/// Bytes of data, which are all that a flipped bit in the contents leaves alone.
fn amount(entries: &[VerifiedEntry]) -> (usize, u64) {
    (entries.len(), entries.iter().map(|entry| entry.bytes).sum())
}

fn verified(archive: &[u8]) -> Option<(usize, u64)> {
    ArchiveReader::new(Cursor::new(archive)).ok()?.verify(|_| {}).ok().map(|entries| amount(&entries))
}

fn script(archive: &[u8], seeking: bool) -> Option<String> {
    let mut archive = ArchiveReader::new(Cursor::new(archive)).ok()?;
    let (mut script, options) = (Vec::new(), SqlOptions::default());
    let written = match seeking {
        true => archive.write_sql_seeking(&mut script, &options),
        false => archive.write_sql(&mut script, &options),
    };
    written.ok().map(|()| String::from_utf8_lossy(&script).into_owned())
}

fn rewritten(archive: &[u8]) -> Option<Vec<u8>> {
    let mut source = ArchiveReader::new(Cursor::new(archive)).ok()?;
    let rewrite = Rewrite::new(WriteOptions::new(CompressionSpecification::GZIP).threads(0));
    rewrite.to_pipe(&mut source, Vec::new(), |_| {}).ok().map(|(archive, _)| archive)
}

fn repaired(archive: &[u8]) -> Option<Vec<u8>> {
    let mut file = Cursor::new(archive);
    let plan = RepairPlan::of(&mut file, &RepairOptions::default(), |_| {}).ok().filter(RepairPlan::is_whole)?;
    plan.to_pipe(&mut file, Vec::new(), &WriteOptions::like(plan.header()).threads(0), |_| {}).ok()
}

/// Every bit of the first `length` bytes but those that only name something, or that no reader can check.
fn each_flip(archive: &[u8], length: usize, mut look: impl FnMut(&[u8], &str)) {
    let mut damaged = archive.to_vec();
    for place in 0..length {
        for bit in 0..8 {
            damaged[place] ^= 1 << bit;
            look(&damaged, &format!("bit {bit} of byte {place}"));
            damaged[place] ^= 1 << bit;
        }
    }
}

#[test]
fn no_flipped_bit_of_the_contents_makes_data_vanish_from_a_custom_archive() {
    for archive in
        [builder(16).build(), builder(16).build_seekable(), builder(14).build(), builder(16).build_redirected()]
    {
        let expected = verified(&archive).expect("it is whole");
        assert_eq!(expected.0, 4);
        let mut accepted = 0;
        let start = archive.windows(5).position(|it| it == [1, 0, 3, 0, 0]).expect("the first block");
        each_flip(&archive, start, |damaged, flip| {
            if let Some(found) = verified(damaged) {
                assert_eq!(found, expected, "{flip}");
                accepted += 1;
            }
            // What is copied as it is stored may be damaged before and after; that it is whole is another question.
            for new in
                [rewritten(damaged).filter(|_| verified(damaged).is_some()), repaired(damaged)].into_iter().flatten()
            {
                assert_eq!(verified(&new), Some(expected), "{flip}");
            }
            for seeking in [false, true] {
                let Some(script) = script(damaged, seeking) else { continue };
                let missing = IN_SQL.iter().find(|data| !script.contains(**data));
                assert_eq!(missing, None, "{flip}, {}", if seeking { "from a file" } else { "from a pipe" });
            }
        });
        // Most of the texts can be anything.
        assert!(accepted > 1000, "{accepted}");
    }
}

#[test]
fn no_damaged_length_of_a_chunk_makes_statements_vanish() {
    let archive = builder(16).build_seekable();
    let expected = verified(&archive).expect("it is whole");
    let start = archive.windows(5).position(|it| it == [1, 0, 3, 0, 0]).expect("the first block");
    each_flip(&archive, archive.len(), |damaged, flip| {
        if damaged[..start] != archive[..start] {
            return;
        }
        if let Some(found) = verified(damaged) {
            assert_eq!(found, expected, "{flip}");
        }
        // Letters of the rows themselves may be others.
        if let Some(script) = script(damaged, true) {
            let same = IN_SQL.iter().filter(|data| script.contains(**data)).count();
            assert!(same + 1 >= IN_SQL.len(), "{flip}: {script}");
        }
    });
}

fn unpack(files: &[(String, Vec<u8>)], folder: &Path) {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir(folder).unwrap();
    for (name, content) in files {
        fs::write(folder.join(name), content).unwrap();
    }
}

fn verified_folder(folder: &Path) -> Option<(usize, u64)> {
    ArchiveReader::open(folder).ok()?.verify(|_| {}).ok().map(|entries| amount(&entries))
}

#[test]
fn no_flipped_bit_makes_data_vanish_from_a_folder() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("dump");
    for minor in [14, 16] {
        let files = builder(minor).files();
        unpack(&files, &folder);
        let expected = verified_folder(&folder).expect("it is whole");
        assert_eq!(expected.0, 4);
        let lists: Vec<_> = (0..files.len()).filter(|place| files[*place].0.ends_with(".toc")).collect();
        assert_eq!(lists.len(), 1);
        for place in std::iter::once(0).chain(lists) {
            let (name, content) = files[place].clone();
            each_flip(&content, content.len(), |damaged, flip| {
                fs::write(folder.join(&name), damaged).unwrap();
                if let Some(found) = verified_folder(&folder) {
                    assert_eq!(found, expected, "{flip} of {name}");
                    assert_eq!(place, 0, "a flipped bit in the list went unnoticed: {flip}");
                }
                let Ok(mut archive) = ArchiveReader::open(&folder) else { return };
                let Ok(plan) = MemberPlan::of(&mut archive, |_| {}) else { return };
                if plan.is_whole() {
                    let recovered: Vec<_> = plan.recovered().iter().map(|entry| entry.verified.clone()).collect();
                    assert_eq!(amount(&recovered), expected, "{flip} of {name}");
                }
            });
            fs::write(folder.join(&name), &content).unwrap();
        }
    }
}

#[test]
fn a_file_with_data_that_nothing_names_is_told_and_any_other_file_is_not() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("dump");
    let files = builder(16).files();
    unpack(&files, &folder);
    for stray in
        ["42.dat", "3.dat.old", "blob_9.dat.lz4", "blobs_4.toc", "README", "SHA256SUMS", ".hidden", "x.dat", "-1.dat"]
    {
        fs::write(folder.join(stray), b"").unwrap();
        let is_data = ["42.dat", "blob_9.dat.lz4", "blobs_4.toc"].contains(&stray);
        assert_eq!(verified_folder(&folder).is_none(), is_data, "{stray}");
        if is_data {
            let mut archive = ArchiveReader::open(&folder).unwrap();
            let error = archive.verify_in_parallel(&Default::default(), |_| {}).unwrap_err().to_string();
            assert!(error.contains(stray), "{error}");
            let plan = MemberPlan::of(&mut ArchiveReader::open(&folder).unwrap(), |_| {}).unwrap();
            assert!(!plan.is_whole() && plan.lost().is_empty(), "{stray}");
        }
        fs::remove_file(folder.join(stray)).unwrap();
    }
}

#[test]
fn no_flipped_bit_of_the_contents_makes_data_vanish_from_a_tar() {
    let tar = builder(16).build_tar();
    let expected = verified(&tar).expect("it is whole");
    let contents = builder(16).files()[0].1.len();
    each_flip(&tar, 512 + contents, |damaged, flip| {
        if let Some(found) = verified(damaged) {
            assert_eq!(found, expected, "{flip}");
        }
    });
    // The checksum is of the header alone.
    let mut unsealed = tar.clone();
    example::seal_tar_header(&mut unsealed[..512]);
    assert_eq!(unsealed, tar);
}
