//! The demo store as an archive, and the target that it is restored into.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use pgmig_tests::{Compression, DumpOptions, PgTools, Server, fixture};

/// Archives of the store at a scale, one for each compression, as `pg_dump` of `major` writes them
/// into a file. They are made once and kept in the cache of the test servers.
///
/// # Errors
///
/// When they cannot be written.
///
/// # Panics
///
/// When PostgreSQL `major` is not installed.
pub fn archives(major: u32, scale: u32, compressions: &[Compression]) -> Result<Vec<PathBuf>> {
    let folder = pgmig_tests::cache().join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
    let schema = fs::read(fixture("store-schema.sql"))?;
    let data = fs::read(fixture("store-data.sql"))?;
    // Other fixtures make other archives.
    let mut hasher = DefaultHasher::new();
    (schema, data).hash(&mut hasher);
    let made_from = hasher.finish();

    let path = |compression: &Compression| {
        let compression = format!("{compression:?}").to_lowercase();
        folder.join(format!("store-{made_from:016x}-pg{major}-scale{scale}-{compression}.dump"))
    };
    let missing: Vec<_> = compressions.iter().filter(|&compression| !path(compression).exists()).collect();
    if !missing.is_empty() {
        let tools = PgTools::major(major);
        let server = Server::start(&tools);
        server.create_database("store", "UTF8");
        server.psql_file("store", &fixture("store-schema.sql"), &[]);
        server.psql_file("store", &fixture("store-data.sql"), &[("scale", &scale.to_string())]);
        for compression in missing {
            let dump = tools.dump(&server, "store", &DumpOptions::seekable().compress(*compression));
            // The cache may be on another file system; only whole archives get their name.
            let part = tempfile::NamedTempFile::new_in(&folder)?;
            fs::copy(&dump, part.path())?;
            part.persist(path(compression))?;
        }
    }
    Ok(compressions.iter().map(path).collect())
}

/// A database that is provisioned as a target, with data of its tenants' own as after a trial.
#[derive(Debug)]
pub struct Provisioned<'a> {
    server: &'a Server,
    name: String,
}

impl Provisioned<'_> {
    /// The database's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Provisioned<'_> {
    fn drop(&mut self) {
        self.server.drop_database(&self.name);
    }
}

/// Provisions a new database.
pub fn provision<'a>(server: &'a Server, name: &str) -> Provisioned<'a> {
    server.create_database(name, "UTF8");
    server.psql_file(name, &fixture("store-schema.sql"), &[]);
    server.psql_file(name, &fixture("store-target.sql"), &[("old_rows", "1")]);
    Provisioned { server, name: name.to_owned() }
}

/// The pairs of IDs, source and target, of the live tenants of an archive and those of the same
/// names in a provisioned database.
///
/// # Errors
///
/// When a live tenant has no counterpart.
pub fn mapping(server: &Server, archive: &Path, target: &str) -> Result<Vec<(String, String)>> {
    const TENANTS: &str = "tenants of the archive";
    const LIVE: &str = "select name, tenant_id from tenant where deleted is not true and region <> 'System' order by 1";
    server.create_database(TENANTS, "UTF8");
    server.tools().restore(server, TENANTS, archive, &["--table=tenant"]);
    let (sources, targets) = (server.psql(TENANTS, LIVE), server.psql(target, LIVE));
    server.drop_database(TENANTS);

    let split = |lines: &str| -> Vec<(String, String)> {
        lines.lines().filter_map(|line| line.split_once('|')).map(|(name, id)| (name.into(), id.into())).collect()
    };
    let (sources, targets) = (split(&sources), split(&targets));
    ensure!(!sources.is_empty(), "the archive has no live tenant");
    sources
        .into_iter()
        .map(|(name, source)| {
            let target = targets.iter().find(|(other, _)| *other == name);
            let (_, target) = target.with_context(|| format!("no tenant of the target is named `{name}`"))?;
            Ok((source, target.clone()))
        })
        .collect()
}
