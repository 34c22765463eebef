//! The demo store as an archive, and the target that it is restored into.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use pgmig_tests::{Compression, Server, fixture};

use crate::cache::{dumps, made_from};

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
    let (schema, data) = (fixture("store-schema.sql"), fixture("store-data.sql"));
    // Other fixtures make other archives.
    let made_from = made_from(&[&fs::read(&schema)?, &fs::read(&data)?]);
    dumps(&format!("store-{made_from}-scale{scale}"), major, compressions, |server, database| {
        server.psql_file(database, &schema, &[]);
        server.psql_file(database, &data, &[("scale", &scale.to_string())]);
    })
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
