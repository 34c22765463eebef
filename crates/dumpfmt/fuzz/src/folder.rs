use std::fs;
use std::path::PathBuf;

use dumpfmt::{ArchiveReader, Format, VerifyOptions};

use crate::read::{contents, told};
use crate::repair::repaired_members;
use crate::{Choice, limits, members};

/// The files of a tar, put into a folder: an archive in the directory format by every way to read and to repair it.
pub fn folder(data: &[u8]) {
    let folder = Folder::of(data);
    let open = || ArchiveReader::open_with(&folder.0, limits().into());
    let Ok(mut archive) = open() else { return };
    assert_eq!(archive.header().format, Format::Directory);
    let (read, error) = contents(&mut archive);
    archive.rewind().expect("a folder has a begin");
    let (again, error_again) = contents(&mut archive);
    assert_eq!(again, read);
    assert_eq!(error_again.as_ref().map(told), error.as_ref().map(told));

    let verified = open().expect("it opened before").verify(|_| {});
    assert!(verified.is_err() || error.is_none(), "verified, but {error:?}");
    if Choice::of(data).below(16) == 0 {
        let options = VerifyOptions::default().threads(2);
        let parallel = open().expect("it opened before").verify_in_parallel(&options, |_| {});
        match (&verified, parallel) {
            (Ok(one), Ok(other)) => assert_eq!(*one, other),
            // Of several faults either may be the one that is told.
            (Err(_), Err(_)) => {}
            (one, other) => panic!("{one:?} with one thread, but {other:?} with two"),
        }
    }
    repaired_members(open().expect("it opened before"), verified.is_ok());
}

/// A folder that is removed again.
struct Folder(PathBuf);

impl Folder {
    fn of(tar: &[u8]) -> Self {
        let folder = std::env::temp_dir().join(format!("dumpfmt-fuzz-folder-{}", std::process::id()));
        // One that a run left that was killed.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).expect("a folder can be made");
        let folder = Self(folder);
        for (header, content) in members(tar) {
            let name = header[..100].split(|&byte| byte == 0).next().unwrap_or_default();
            // Whatever else a name says, no archive can name it.
            if let Some(name) = std::str::from_utf8(name).ok().filter(|name| is_plain(name)) {
                fs::write(folder.0.join(name), &tar[content]).expect("a file can be written");
            }
        }
        folder
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("it is there");
    }
}

fn is_plain(name: &str) -> bool {
    !name.starts_with('.')
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}
