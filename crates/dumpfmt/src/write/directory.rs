//! The directory format: a folder with a file for each body.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::header::{Format, WriteOptions};
use super::primitives::put_int;
use super::sink::{Sink, private, put_entry};
use crate::error::{Error, ErrorKind, Result};
use crate::header::{Compression, Header};
use crate::toc::{Location, Toc, TocEntry};
use crate::version::Version;

/// The directory format (`pg_dump -Fd`): a folder with `toc.dat`, a file for the data of each entry, and one for each
/// large object.
///
/// While it is written the folder is called `.NAME.partial`, beside its later place. It is removed when
/// the writer is dropped before it is finished; one that a crash left behind has to be removed by hand,
/// since it could be another run's that still goes on.
///
/// Before version 1.16 there is one list of large objects, whatever entry they belong to (pg_restore 16 and older look for
/// no other). Of several `BLOBS` entries the first one then stands for all.
#[derive(Debug)]
pub struct DirectoryFormat {
    target: PathBuf,
    partial: PathBuf,
    published: bool,
    suffix: &'static str,
    /// From version 1.16 on each entry of large objects has a list of its own.
    several_lists: bool,
    /// The file of the present body.
    body: Option<File>,
    /// The list of the present large objects.
    list: Option<File>,
    /// Bytes written in all files.
    position: u64,
}

impl DirectoryFormat {
    pub(crate) fn create(folder: &Path, header: &Header, toc: &Toc, options: &WriteOptions) -> Result<Self> {
        let Some(name) = folder.file_name() else {
            return Err(Error::usage(format!("`{}` is not the name of a new folder", folder.display())));
        };
        let mut partial_name = std::ffi::OsString::from(".");
        partial_name.push(name);
        partial_name.push(".partial");
        let partial = folder.with_file_name(partial_name);
        if fs::symlink_metadata(folder).is_ok() {
            let exists = io::Error::new(io::ErrorKind::AlreadyExists, format!("`{}` exists already", folder.display()));
            return Err(Error::new(ErrorKind::Write(exists), 0));
        }
        make_folder(&partial).map_err(|e| failed("cannot make the folder", &partial, &e, 0))?;
        let mut directory = Self {
            target: folder.to_owned(),
            partial,
            published: false,
            suffix: match options.compression.algorithm() {
                Compression::None => "",
                Compression::Gzip => ".gz",
                Compression::Lz4 => ".lz4",
                Compression::Zstd => ".zst",
            },
            several_lists: options.version >= Version::RELKIND,
            body: None,
            list: None,
            position: 0,
        };
        directory.write_contents(header, toc, options)?;
        Ok(directory)
    }

    fn write_contents(&mut self, header: &Header, toc: &Toc, options: &WriteOptions) -> Result<()> {
        let path = self.partial.join("toc.dat");
        let write_failed = |e: io::Error| failed("cannot write", &path, &e, 0);
        let mut out = io::BufWriter::new(self.create_file("toc.dat")?);
        let mut bytes = Vec::new();
        header.put(options, Format::Directory, &mut bytes)?;
        let count = i32::try_from(toc.entries().len())
            .map_err(|_| Error::usage("the table of contents has over 2^31 entries"))?;
        put_int(count, &mut bytes);
        let mut has_list = false;
        for entry in toc.entries() {
            let shares_list = entry.has_data() && entry.is_large_objects() && !self.several_lists;
            if shares_list && std::mem::replace(&mut has_list, true) {
                // pg_restore would restore the whole list once more.
                let without = entry.to_builder().has_data(false).build()?;
                put_entry(&without, options, Location::File(""), &mut bytes)?;
            } else {
                let file = if entry.has_data() { self.file_of(entry) } else { String::new() };
                put_entry(entry, options, Location::File(&file), &mut bytes)?;
            }
            out.write_all(&bytes).map_err(write_failed)?;
            bytes.clear();
        }
        out.write_all(&bytes).map_err(write_failed)?;
        let file = out.into_inner().map_err(|e| write_failed(e.into_error()))?;
        file.sync_all().map_err(write_failed)
    }

    /// The file of an entry's data, or of its list of large objects, without what the compression adds.
    fn file_of(&self, entry: &TocEntry) -> String {
        if !entry.is_large_objects() {
            return format!("{}.dat", entry.dump_id());
        }
        if self.several_lists { format!("blobs_{}.toc", entry.dump_id()) } else { "blobs.toc".into() }
    }

    fn create_file(&self, name: &str) -> Result<File> {
        self.open_file(name, File::options().write(true).create_new(true))
    }

    fn open_file(&self, name: &str, options: &mut OpenOptions) -> Result<File> {
        let path = self.partial.join(name);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
        options.open(&path).map_err(|e| failed("cannot make the file", &path, &e, self.position))
    }

    fn begin_body(&mut self, name: &str) -> Result<()> {
        self.body = Some(self.create_file(&format!("{name}{}", self.suffix))?);
        Ok(())
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn failed(what: &str, path: &Path, error: &io::Error, position: u64) -> Error {
    let error = io::Error::new(error.kind(), format!("{what} `{}`: {error}", path.display()));
    Error::new(ErrorKind::Write(error), position)
}

impl Sink for DirectoryFormat {}

impl private::Sink for DirectoryFormat {
    const CONTAINER: private::Container = private::Container::File;

    fn begin_data(&mut self, entry: &TocEntry) -> Result<()> {
        self.begin_body(&self.file_of(entry))
    }

    fn begin_large_objects(&mut self, entry: &TocEntry) -> Result<()> {
        let name = self.file_of(entry);
        self.list = Some(if self.several_lists {
            self.create_file(&name)?
        } else {
            self.open_file(&name, File::options().append(true).create(true))?
        });
        Ok(())
    }

    fn begin_large_object(&mut self, oid: u32) -> Result<()> {
        let name = format!("blob_{oid}.dat");
        if let Some(mut list) = self.list.as_ref() {
            let line = format!("{oid} {name}\n");
            list.write_all(line.as_bytes()).map_err(|e| self.write_error(e))?;
            self.position += line.len() as u64;
        }
        self.begin_body(&name)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(mut body) = self.body.as_ref() {
            body.write_all(bytes).map_err(|e| self.write_error(e))?;
            self.position += bytes.len() as u64;
        }
        Ok(())
    }

    fn end_body(&mut self) -> Result<()> {
        self.body.take().map_or(Ok(()), |body| body.sync_all()).map_err(|e| self.write_error(e))
    }

    fn end_large_objects(&mut self) -> Result<()> {
        self.list.take().map_or(Ok(()), |list| list.sync_all()).map_err(|e| self.write_error(e))
    }

    fn finish(&mut self) -> Result<()> {
        let sync = |folder: &Path| File::open(folder).and_then(|folder| folder.sync_all());
        sync(&self.partial).map_err(|e| failed("cannot sync the folder", &self.partial, &e, self.position))?;
        // Only an empty folder could be replaced by this, and that loses nothing.
        fs::rename(&self.partial, &self.target)
            .map_err(|e| failed("cannot rename the finished folder to", &self.target, &e, self.position))?;
        self.published = true;
        let parent = self.target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sync(parent).map_err(|e| failed("cannot sync the folder", parent, &e, self.position))
    }

    fn write_error(&self, error: io::Error) -> Error {
        failed("in the folder", &self.partial, &error, self.position)
    }
}

impl Drop for DirectoryFormat {
    fn drop(&mut self) {
        if !self.published {
            // What cannot be removed is not a backup either: its name says so.
            let _ = fs::remove_dir_all(&self.partial);
        }
    }
}
