//! Archives that take long to make, kept beside the test servers.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pgmig_tests::{Compression, DumpOptions, PgTools, Server};
use tempfile::NamedTempFile;

/// The path of a file in the cache, which `make` writes if it is not there yet. Only a whole file
/// gets its name.
pub(crate) fn cached(name: &str, make: impl FnOnce(NamedTempFile) -> Result<NamedTempFile>) -> Result<PathBuf> {
    let folder = pgmig_tests::cache().join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
    let path = folder.join(name);
    if !path.exists() {
        // The cache may be on another file system than other temporary files.
        make(NamedTempFile::new_in(&folder)?)?.persist(&path)?;
    }
    Ok(path)
}

/// What is written into the name of a file, so that other sources make another file.
pub(crate) fn made_from(sources: &[&[u8]]) -> String {
    let mut hasher = DefaultHasher::new();
    sources.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Archives of one database, one for each compression, as `pg_dump` of `major` writes them into a
/// file. The database is made by `fill` when one of them is missing.
pub(crate) fn dumps(
    name: &str,
    major: u32,
    compressions: &[Compression],
    fill: impl FnOnce(&Server, &str),
) -> Result<Vec<PathBuf>> {
    const DATABASE: &str = "source";
    let mut fill = Some(fill);
    let mut server = None;
    let dump = |compression: &Compression| {
        let algorithm = format!("{compression:?}").to_lowercase();
        cached(&format!("{name}-pg{major}-{algorithm}.dump"), |part| {
            let tools = PgTools::major(major);
            let server = server.get_or_insert_with(|| Server::start(&tools));
            if let Some(fill) = fill.take() {
                server.create_database(DATABASE, "UTF8");
                fill(server, DATABASE);
            }
            let dump = tools.dump(server, DATABASE, &DumpOptions::seekable().compress(*compression));
            fs::copy(&dump as &Path, part.path())?;
            Ok(part)
        })
    };
    compressions.iter().map(dump).collect()
}
