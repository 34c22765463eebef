//! Archives in the directory format.

use std::fs;
use std::path::Path;

use crate::archives::{
    EMPTY, GZIP, NONE, OBJECT, ROWS, block_contents, compress_file, compressions, contents, plain_sample,
    sample_contents, stored_bodies,
};
use dumpfmt::example::Builder;
use dumpfmt::{ArchiveReader, Block, Compression, DataState, Error, ErrorKind, Format, ReadOptions};
use tempfile::TempDir;

const SUFFIXES: [&str; 4] = ["", ".gz", ".lz4", ".zst"];

/// Writes the files as pg_dump does: the table of contents and the lists are not compressed.
fn write(folder: &Path, builder: &Builder, compression: u8) {
    for (name, content) in builder.files() {
        if name.ends_with(".toc") || name == "toc.dat" {
            fs::write(folder.join(name), content).unwrap();
        } else {
            let name = format!("{name}{}", SUFFIXES[usize::from(compression)]);
            fs::write(folder.join(name), compress_file(compression, &content)).unwrap();
        }
    }
}

fn sample(minor: u8, compression: u8) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &plain_sample(minor, compression), compression);
    folder
}

fn check(folder: &Path) -> Result<crate::archives::Contents, Error> {
    let mut archive = ArchiveReader::open(folder)?;
    archive.verify(|_| {})?;
    archive.rewind()?;
    contents(&mut archive)
}

#[test]
fn a_directory_of_every_version_and_compression_is_read_in_the_order_of_its_contents() {
    for minor in 12..=16 {
        for compression in compressions() {
            let folder = sample(minor, compression);
            let mut archive = ArchiveReader::open(folder.path()).unwrap();
            assert_eq!(archive.header().format, Format::Directory);
            assert_eq!(archive.toc().get(4).unwrap().data_state(), DataState::File);
            let mut order = Vec::new();
            while let Some(block) = archive.next_block().unwrap() {
                order.push(block.entry().dump_id());
            }
            assert_eq!(order, [4, 3, 5]);
            assert_eq!(check(folder.path()).unwrap(), sample_contents(), "1.{minor}, {compression}");
        }
    }
}

#[test]
fn any_entry_of_a_directory_is_opened_by_its_dump_id() {
    for compression in compressions() {
        let folder = sample(16, compression);
        let mut archive = ArchiveReader::open(folder.path()).unwrap();
        for dump_id in [5, 3, 4, 3, 5] {
            let found = block_contents(archive.block(dump_id).unwrap().unwrap()).unwrap();
            assert!(!found.is_empty());
            for (tag, data) in found {
                assert_eq!(data, sample_contents()[&tag]);
            }
        }
        assert!(archive.block(2).unwrap().is_none());
    }
}

#[test]
fn a_file_and_a_folder_are_opened_by_the_same_call() {
    let folder = sample(16, NONE);
    for bytes in [plain_sample(16, NONE).build(), plain_sample(16, NONE).build_tar()] {
        let file = folder.path().join("archive");
        fs::write(&file, bytes).unwrap();
        assert_eq!(check(&file).unwrap(), sample_contents());
    }
    let error = ArchiveReader::open(folder.path().join("toc.dat")).unwrap_err();
    assert!(error.to_string().contains("give the folder that it is in"), "{error}");
    let error = ArchiveReader::open(folder.path().join("nothing")).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Io(_)));
    let error = ArchiveReader::open(tempfile::tempdir().unwrap().path()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::MissingFile(name) if name == "toc.dat"), "{error}");
}

#[test]
fn a_list_of_large_objects_is_that_of_one_entry() {
    let folder = tempfile::tempdir().unwrap();
    let mut builder = Builder::new(15, NONE);
    for dump_id in [5, 6] {
        builder.entry(dump_id, 3, true, [Some("BLOBS"), Some("BLOBS"), None, None, None]);
    }
    write(folder.path(), &builder, NONE);
    let error = ArchiveReader::open(folder.path()).unwrap_err();
    assert!(
        error.to_string().contains("the list of large objects of this entry is also that of another one"),
        "{error}"
    );
}

#[test]
fn the_file_that_exists_tells_its_compression_not_the_header() {
    // Each file another way, as after a partial `gunzip`.
    let folder = sample(16, GZIP);
    let rename = |from: &str, to: &str, compression: u8, data: &[u8]| {
        fs::remove_file(folder.path().join(from)).unwrap();
        fs::write(folder.path().join(to), compress_file(compression, data)).unwrap();
    };
    rename("4.dat.gz", "4.dat", NONE, ROWS);
    rename("3.dat.gz", "3.dat.lz4", crate::archives::LZ4, EMPTY);
    assert_eq!(check(folder.path()).unwrap(), sample_contents());
    // As pg_restore: without a suffix first.
    fs::write(folder.path().join("4.dat.gz"), b"not looked at").unwrap();
    assert_eq!(check(folder.path()).unwrap(), sample_contents());
}

#[test]
fn the_stored_bytes_of_a_directory_are_those_of_its_files() {
    for (compression, expected) in [(NONE, Compression::None), (GZIP, Compression::Gzip)] {
        let folder = sample(16, compression);
        let mut archive = ArchiveReader::open(folder.path()).unwrap();
        let bodies = [ROWS, EMPTY, OBJECT, OBJECT].map(|data| (expected, compress_file(compression, data)));
        assert_eq!(stored_bodies(&mut archive), bodies);
    }
}

#[test]
fn a_missing_file_is_told_by_its_name() {
    for (file, entry) in [
        ("4.dat.gz", "TABLE DATA public.b (dump ID 4)"),
        ("blob_7.dat.gz", "BLOBS public.BLOBS (dump ID 5)"),
        ("blobs_5.toc", "BLOBS public.BLOBS (dump ID 5)"),
    ] {
        let folder = sample(16, GZIP);
        fs::remove_file(folder.path().join(file)).unwrap();
        let error = check(folder.path()).unwrap_err();
        let name = file.trim_end_matches(".gz");
        assert!(matches!(error.kind(), ErrorKind::MissingFile(missing) if missing == name), "{error}");
        assert_eq!((error.entry(), error.file()), (Some(entry), Some(name)));
        assert!(error.hint().is_some());
        let mut archive = ArchiveReader::open(folder.path()).unwrap();
        let dump_id = if file == "4.dat.gz" { 4 } else { 5 };
        let error = archive.block(dump_id).and_then(|block| block_contents(block.unwrap())).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::MissingFile(_)), "{error}");
    }
}

#[test]
fn a_name_that_leads_out_of_the_folder_is_refused() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("1.dat"), ROWS).unwrap();
    let absolute = outside.path().join("1.dat");
    let relative = format!("../{}/1.dat", outside.path().file_name().unwrap().to_str().unwrap());
    for name in
        [absolute.to_str().unwrap(), &relative, "..", ".", "sub/1.dat", "\\1.dat", "C:1.dat", "a b", "\u{e9}", ".x"]
    {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(folder.path().join("sub/1.dat"), ROWS).unwrap();
        let mut builder = Builder::new(16, NONE);
        builder.entry(1, 3, true, [Some("t"), Some("TABLE DATA"), None, None, None]).in_file(name);
        fs::write(folder.path().join("toc.dat"), &builder.files()[0].1).unwrap();
        let error = check(folder.path()).unwrap_err();
        assert!(error.to_string().contains(", not `1.dat`"), "{error}");
        assert!(error.entry().is_some());
    }
    for line in ["7 ../1.dat\n", "7 /etc/passwd\n", "7 \n", "7 blob_8.dat\n", "7 blob_07.dat\n"] {
        let folder = sample(16, NONE);
        fs::write(folder.path().join("blobs_5.toc"), line).unwrap();
        let error = check(folder.path()).unwrap_err();
        assert!(error.to_string().contains("large object 7 is said to be in"), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn a_symbolic_link_is_followed_within_the_folder_and_not_out_of_it() {
    use std::os::unix::fs::symlink;

    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("4.dat"), ROWS).unwrap();
    let folder = sample(16, NONE);
    let file = folder.path().join("4.dat");
    fs::remove_file(&file).unwrap();
    symlink(outside.path().join("4.dat"), &file).unwrap();
    let error = check(folder.path()).unwrap_err();
    assert!(error.to_string().contains("a symbolic link that leaves the folder"), "{error}");
    assert_eq!(error.file(), Some("4.dat"));

    // As volumes of Kubernetes have it: links into a hidden folder, and the folder itself a link.
    fs::remove_file(&file).unwrap();
    fs::create_dir(folder.path().join("..data")).unwrap();
    fs::write(folder.path().join("..data/4.dat"), ROWS).unwrap();
    symlink("..data/4.dat", &file).unwrap();
    let link = outside.path().join("link");
    symlink(folder.path(), &link).unwrap();
    assert_eq!(check(&link).unwrap(), sample_contents());
}

#[test]
fn what_is_no_regular_file_is_refused_and_not_waited_for() {
    let folder = sample(16, NONE);
    let file = folder.path().join("4.dat");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let error = check(folder.path()).unwrap_err();
    assert!(error.to_string().contains("not a regular file (at byte 0 of `4.dat`"), "{error}");
}

#[test]
fn a_file_cut_at_any_byte_is_an_error_that_names_it() {
    for compression in compressions() {
        let folder = sample(16, compression);
        let suffix = SUFFIXES[usize::from(compression)];
        let names = ["toc.dat", "4.dat", "blob_7.dat", "blobs_5.toc"];
        for name in names {
            let compressed = name.ends_with(".dat") && name != "toc.dat";
            let name = if compressed { format!("{name}{suffix}") } else { name.to_owned() };
            let path = folder.path().join(&name);
            let whole = fs::read(&path).unwrap();
            for length in 0..whole.len() {
                fs::write(&path, &whole[..length]).unwrap();
                match check(folder.path()) {
                    Err(error) => assert!(
                        error.file() == Some(&name[..]) || error.to_string().contains(&name),
                        "{compression}, {name}, {length}: {error}"
                    ),
                    // Nothing tells the end of a large object that is not compressed, nor that of rows
                    // behind their `\.`; an empty file of lz4 or zstd is empty data; a list may end
                    // after each line.
                    Ok(found) => {
                        let unmarked = compression == NONE && (name == "blob_7.dat" || length >= ROWS.len() - 2);
                        let empty = length == 0 && name.starts_with("blob_") && compression != GZIP;
                        let line = name == "blobs_5.toc" && (length == 0 || whole[length - 1] == b'\n');
                        assert!(unmarked || empty || line, "{compression}, {name}, {length}: {found:?}");
                    }
                }
            }
            fs::write(&path, &whole).unwrap();
        }
        assert_eq!(check(folder.path()).unwrap(), sample_contents());
    }
}

#[test]
fn a_flipped_bit_in_a_gzip_file_is_noticed() {
    let folder = sample(16, GZIP);
    for name in ["4.dat.gz", "blob_7.dat.gz"] {
        let path = folder.path().join(name);
        let whole = fs::read(&path).unwrap();
        for (position, bit) in (0..whole.len()).flat_map(|position| (0..8).map(move |bit| (position, bit))) {
            let mut damaged = whole.clone();
            damaged[position] ^= 1 << bit;
            fs::write(&path, &damaged).unwrap();
            // Some bits mean nothing, such as the time in the header.
            if let Ok(found) = check(folder.path()) {
                assert_eq!(found, sample_contents(), "{name}, byte {position}, bit {bit}");
            }
        }
        // The checksum and the length at the end count.
        for position in whole.len() - 8..whole.len() {
            let mut damaged = whole.clone();
            damaged[position] ^= 1;
            fs::write(&path, &damaged).unwrap();
            let error = check(folder.path()).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Corrupt(_)), "{error}");
            assert_eq!(error.file(), Some(name));
        }
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn several_gzip_members_in_one_file_are_read_to_the_end_and_nothing_else_after_one() {
    let folder = sample(16, GZIP);
    let path = folder.path().join("4.dat.gz");
    let (first, second) = ROWS.split_at(6);
    fs::write(&path, [compress_file(GZIP, first), compress_file(GZIP, second)].concat()).unwrap();
    assert_eq!(check(folder.path()).unwrap(), sample_contents());
    for extra in [&b"\0"[..], b"xyz", b"\x1f\x8b", b"0123456789abcdef"] {
        fs::write(&path, [&compress_file(GZIP, ROWS), extra].concat()).unwrap();
        let error = check(folder.path()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Corrupt(_)), "{error}");
    }
}

#[test]
fn a_line_that_names_no_large_object_is_an_error() {
    let folder = sample(16, NONE);
    let long = format!("7 {}\n", "a".repeat(2000));
    for line in [
        "\n",
        "7\n",
        "0 blob_0.dat\n",
        "-7 blob_7.dat\n",
        "x blob_7.dat\n",
        "4294967296 blob_7.dat\n",
        &long,
        "7 blob_7.dat",
    ] {
        fs::write(folder.path().join("blobs_5.toc"), line).unwrap();
        let error = check(folder.path()).unwrap_err();
        assert!(error.to_string().contains("this line names no large object"), "{error}");
        assert_eq!(error.file(), Some("blobs_5.toc"));
    }
}

#[test]
fn a_file_that_grows_or_shrinks_while_it_is_read_is_an_error() {
    use std::io::{Read, Write};

    let rows = [vec![b'x'; 1 << 20], b"\n\\.\n\n\n".to_vec()].concat();
    let folder = tempfile::tempdir().unwrap();
    let mut builder = Builder::new(16, NONE);
    builder.entry(1, 3, true, [Some("t"), Some("TABLE DATA"), None, None, Some("COPY public.t (a) FROM stdin;\n")]);
    builder.data(1, &[&rows]);
    let path = folder.path().join("1.dat");
    for (grow, expected) in [(true, "became longer while it was read"), (false, "cut short")] {
        write(folder.path(), &builder, NONE);
        let mut archive = ArchiveReader::open(folder.path()).unwrap();
        let Some(Block::Data(mut data)) = archive.next_block().unwrap() else { panic!("no data") };
        data.read_exact(&mut [0; 10]).unwrap();
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        if grow {
            file.write_all(b"more").unwrap();
        } else {
            file.set_len(rows.len() as u64 - 3).unwrap();
        }
        let error = Error::from_io(data.read_to_end(&mut Vec::new()).unwrap_err(), 0);
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.file(), Some("1.dat"));
    }
}

#[test]
fn bytes_after_the_table_of_contents_are_an_error() {
    let folder = sample(16, NONE);
    let path = folder.path().join("toc.dat");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [&whole[..], b"\0"].concat()).unwrap();
    let error = check(folder.path()).unwrap_err();
    assert!(error.to_string().contains("bytes follow the table of contents (at byte"), "{error}");
    fs::remove_file(&path).unwrap();
    fs::write(folder.path().join("toc.dat.gz"), compress_file(GZIP, &whole)).unwrap();
    let error = check(folder.path()).unwrap_err();
    assert!(error.to_string().contains("unpack `toc.dat.gz` first"), "{error}");
}

#[test]
fn an_error_among_rows_names_the_file() {
    let folder = sample(16, NONE);
    fs::write(folder.path().join("4.dat"), b"1\tone\n").unwrap();
    let error = check(folder.path()).unwrap_err();
    assert!(error.to_string().contains("4.dat"), "{error}");
    let mut archive = ArchiveReader::open_with(folder.path(), ReadOptions::default()).unwrap();
    let Some(Block::Data(data)) = archive.next_block().unwrap() else { panic!("no data") };
    let mut rows = data.rows();
    rows.next_row().unwrap();
    let error = rows.next_row().unwrap_err();
    assert!(error.to_string().contains("TABLE DATA public.b (dump ID 4), file `4.dat`"), "{error}");
}

#[test]
fn an_empty_large_object_is_a_file_without_a_byte_as_pg_dump_has_it_under_lz4_and_zstd() {
    for compression in compressions() {
        let folder = sample(16, compression);
        let path = folder.path().join(format!("blob_7.dat{}", SUFFIXES[usize::from(compression)]));
        fs::write(&path, b"").unwrap();
        let found = check(folder.path());
        if compression == GZIP {
            assert!(matches!(found.unwrap_err().kind(), ErrorKind::Corrupt(_)));
        } else {
            assert_eq!(found.unwrap()["7"], b"");
        }
    }
}
