//! The directory format (`pg_dump -Fd`): `toc.dat`, and a file for each entry with
//! data or for each large object.
//!
//! The table of contents names the files without the `.gz`, `.lz4` or `.zst` that
//! tells their compression: as for pg_restore, the file that exists decides. The
//! source of these rules is `src/bin/pg_dump/pg_backup_directory.c`.

use std::collections::HashSet;
use std::fs;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use crate::body::{Body, BodyState};
use crate::decode::Encoding;
use crate::error::{Error, ErrorKind, Result};
use crate::header::Header;
use crate::input::Input;
use crate::named_objects;
use crate::toc::{Toc, TocEntry};
use crate::version::Version;

/// The header and the table of contents.
pub(crate) const CONTENTS: &str = "toc.dat";
/// In the order in which pg_restore looks for them.
const SUFFIXES: [(&str, Encoding); 4] =
    [("", Encoding::None), (".gz", Encoding::Gzip), (".lz4", Encoding::Lz4), (".zst", Encoding::Zstd)];
/// pg_dump writes at most 10 digits, a blank and `blob_4294967295.dat`.
const MAX_LINE: u64 = 1024;

/// The folder of an archive.
#[derive(Debug)]
pub(crate) struct Directory<R> {
    /// With every symbolic link resolved.
    folder: PathBuf,
    open: fn(&Path) -> io::Result<R>,
    /// The place in the table of contents of the next entry.
    next: usize,
}

impl<R: Read> Directory<R> {
    pub(crate) fn new(folder: &Path, open: fn(&Path) -> io::Result<R>) -> Result<Self> {
        let folder = fs::canonicalize(folder).map_err(|e| Error::new(ErrorKind::Io(e), 0))?;
        Ok(Self { folder, open, next: 0 })
    }

    /// The same folder, from the first entry on.
    pub(crate) fn again(&self) -> Self {
        Self { folder: self.folder.clone(), open: self.open, next: 0 }
    }

    /// The table of contents, and its length.
    pub(crate) fn open_contents(&self) -> Result<(Input<R>, u64)> {
        let File { reader, length, name, encoding } = self.find(CONTENTS.as_bytes())?;
        if encoding != Encoding::None {
            let text = format!("the table of contents is compressed; unpack `{name}` first");
            return Err(Error::new(ErrorKind::Unsupported(text), 0).in_file(&name));
        }
        Ok((Input::of_file(reader, &name), length))
    }

    /// From the first entry again.
    pub(crate) fn rewind(&mut self) {
        self.next = 0;
    }

    /// The next entry that has data.
    pub(crate) fn next_entry<'t>(&mut self, toc: &'t Toc) -> Option<&'t TocEntry> {
        let rest = toc.entries().get(self.next..)?;
        let skipped = rest.iter().position(TocEntry::has_data)?;
        self.next += skipped + 1;
        rest.get(skipped)
    }

    /// Makes `input` the file of an entry or of a large object.
    pub(crate) fn open_data(&self, input: &mut Input<R>, name: &[u8]) -> Result<(Encoding, BodyState)> {
        let File { reader, length, name, encoding } = self.find(name)?;
        input.replace(reader, &name);
        Ok((encoding, BodyState::file(length)))
    }

    /// The list of an entry's large objects.
    pub(crate) fn object_list(&self, header: &Header, entry: &TocEntry) -> Result<ObjectList<R>> {
        // Before there could be several, what the table of contents says was not always true.
        let name = match entry.file_name() {
            Some(name) if header.version >= Version::LARGE_OBJECT_GROUPS => name,
            _ => b"blobs.toc",
        };
        let File { reader, length, name, encoding } = self.find(name)?;
        if encoding != Encoding::None {
            let text = format!("the list of large objects is compressed; unpack `{name}` first");
            return Err(Error::new(ErrorKind::Unsupported(text), 0).in_file(&name));
        }
        Ok(ObjectList { input: Input::of_file(reader, &name), state: BodyState::file(length) })
    }

    /// Refuses a file that holds data, by its name, and of which the table of contents knows nothing: an entry is missing
    /// there, or says by mistake that it has no data.
    pub(crate) fn expect_named(&self, toc: &Toc) -> Result<()> {
        let failed = |e| Error::new(ErrorKind::Io(e), 0);
        let with_data = || toc.entries().iter().filter(|entry| entry.has_data());
        let files: HashSet<&[u8]> = with_data().filter_map(TocEntry::file_name).chain([&b"blobs.toc"[..]]).collect();
        // Before there could be several, what the table of contents says was not always true.
        let has_objects = with_data().any(TocEntry::is_large_objects);
        let oids: HashSet<u32> = named_objects::oids(toc).collect();
        for file in fs::read_dir(&self.folder).map_err(failed)? {
            let file_name = file.map_err(failed)?.file_name();
            let name = file_name.as_encoded_bytes();
            let plain =
                SUFFIXES[1..].iter().find_map(|(suffix, _)| name.strip_suffix(suffix.as_bytes())).unwrap_or(name);
            let is_named = match data_file(plain) {
                None => true,
                Some(DataFile::LargeObject(oid)) => has_objects && (oids.is_empty() || oids.contains(&oid)),
                Some(DataFile::LargeObjects) => has_objects && files.contains(plain),
                Some(DataFile::Entry) => files.contains(plain),
            };
            if !is_named {
                let text = "this file holds data, but nothing in the table of contents has it";
                return Err(Error::corrupt(text, 0).in_file(&name.escape_ascii().to_string()));
            }
        }
        Ok(())
    }

    fn find(&self, name: &[u8]) -> Result<File<R>> {
        // One that pg_dump gives: each was compared with that when it was read.
        let plain = name.escape_ascii().to_string();
        let failed = |e| Error::new(ErrorKind::Io(e), 0).in_file(&plain);
        for (suffix, encoding) in SUFFIXES {
            let name = format!("{plain}{suffix}");
            let path = match fs::canonicalize(self.folder.join(&name)) {
                Ok(path) => path,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(failed(e)),
            };
            if !path.starts_with(&self.folder) {
                let text = "the file is a symbolic link that leaves the folder of the archive";
                return Err(Error::corrupt(text, 0).in_file(&name));
            }
            let metadata = fs::metadata(&path).map_err(failed)?;
            // Opening a named pipe would wait for ever.
            if !metadata.is_file() {
                return Err(Error::corrupt("this is not a regular file", 0).in_file(&name));
            }
            let reader = (self.open)(&path).map_err(failed)?;
            return Ok(File { reader, length: metadata.len(), name, encoding });
        }
        Err(Error::new(ErrorKind::MissingFile(plain.clone()), 0).in_file(&plain))
    }
}

/// What a file is that pg_dump gave its name.
enum DataFile {
    /// `4321.dat`: the data of an entry.
    Entry,
    /// `blob_16404.dat`
    LargeObject(u32),
    /// `blobs.toc` or `blobs_12.toc`: a list of large objects.
    LargeObjects,
}

/// `None`: another file, whoever put it there. `name` is without the suffix of a compression.
fn data_file(name: &[u8]) -> Option<DataFile> {
    let name = std::str::from_utf8(name).ok()?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if name == "blobs.toc" || name.strip_prefix("blobs_").and_then(|n| n.strip_suffix(".toc")).is_some_and(is_number) {
        return Some(DataFile::LargeObjects);
    }
    let stem = name.strip_suffix(".dat")?;
    match stem.strip_prefix("blob_") {
        Some(oid) => oid.parse().ok().map(DataFile::LargeObject),
        None => is_number(stem).then_some(DataFile::Entry),
    }
}

/// An open file of the archive.
struct File<R> {
    reader: R,
    length: u64,
    /// With the suffix.
    name: String,
    encoding: Encoding,
}

/// A list of large objects while it is read.
#[derive(Debug)]
pub(crate) struct ObjectList<R> {
    input: Input<R>,
    state: BodyState,
}

impl<R: Read> ObjectList<R> {
    /// The OID and the file name in the next line; `None` after the last one.
    pub(crate) fn next_object(&mut self) -> Result<Option<(u32, Vec<u8>)>> {
        let offset = self.input.position();
        let mut line = Vec::new();
        let list = Body::new(&mut self.input, &mut self.state);
        let read = list.take(MAX_LINE).read_until(b'\n', &mut line);
        read.map_err(|e| self.input.locate(Error::from_io(e, offset)))?;
        if line.is_empty() {
            return Ok(None);
        }
        let object = line.strip_suffix(b"\n").and_then(|line| {
            let blank = line.iter().position(|&byte| byte == b' ')?;
            let oid = std::str::from_utf8(&line[..blank]).ok()?.parse().ok().filter(|&oid| oid > 0)?;
            Some((oid, line[blank + 1..].to_vec()))
        });
        match object {
            Some((oid, name)) if name != format!("blob_{oid}.dat").as_bytes() => {
                let text = format!("large object {oid} is said to be in `{}`", name.escape_ascii());
                Err(self.input.locate(Error::corrupt(text, offset)))
            }
            Some(object) => Ok(Some(object)),
            None => {
                let text = format!("this line names no large object: \"{}\"", line.escape_ascii());
                Err(self.input.locate(Error::corrupt(text, offset)))
            }
        }
    }
}
