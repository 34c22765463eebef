//! Restoring a dump into a database that does not exist yet, with owners replaced on the way.
//!
//! The database is made under a name of its own, filled, counted, and only then gets the name that was asked for. Whatever
//! fails, that name is as it was before: free, or that of the database which had it. One path does this for every kind of dump:
//! an archive is read as the script that `pg_restore` makes of it, and a script is cut into statements and rows as `psql` would,
//! without being `psql`: none of its commands is ever executed.
//!
//! ```no_run
//! use pgmig_core::connection::{Environment, TargetConfig};
//! use pgmig_core::mapping::MappingFile;
//! use pgmig_core::new_database::{self, Dump, NewDatabase, Remap};
//! use pgmig_core::profile::Profile;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // The server, with any other database to be connected to meanwhile.
//! let mut server = TargetConfig::load("postgres.yaml".as_ref(), &Environment::default())?;
//! server.database = "postgres".to_owned();
//! new_database::drop_leftovers(&server).await?;
//!
//! let script = std::fs::File::open("stt-async.backup.sql")?;
//! let dump = Dump::Script { input: script, name: "stt-async.backup.sql".into() };
//! let (profile, mapping) = (Profile::watson_speech(), MappingFile::load("mapping.yaml".as_ref())?);
//! let mut new = NewDatabase::new("stt-async");
//! new.remap = Some(Remap { profile: &profile, mapping: &mapping });
//! let report = new_database::restore(dump, &server, &new, |_event| {}).await?;
//! println!("{} rows", report.rows);
//! # Ok(())
//! # }
//! ```
//!
//! # What to take care of
//!
//! A dump is made of statements that run with the rights of whoever restores it. Whoever made it, or owned an object in the
//! database that was dumped, chose them: a function, a default value or an index can run anything that the role may. Statements
//! that pg_dump never writes are refused, and so are those about other databases, roles and the server; that finds what is no
//! dump, and is no guard against somebody who wants to do harm. So the digest and the signature of a dump come first.
//!
//! # What is not done
//!
//! - Rights to the database itself, its settings (`ALTER DATABASE ... SET`) and its comment are not part of the dump of one
//!   database; a database that is set aside keeps its own.
//! - IDs in definitions, in large objects and in columns that the profile does not name are strays: they are looked for and
//!   refused, and never replaced. In large objects only UUIDs can be found, and not where two statements write a part each.
//! - Rows of a table that is partitioned by its IDs would belong to other partitions: the server refuses them.
//!   [`offline`](crate::offline) makes an archive that can be restored.

mod feed;
mod load;
mod pipe;
mod report;
mod sql;
mod temporary;
mod verify;

use std::collections::{BTreeSet, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use chrono::Utc;
use dumpfmt::{ArchiveReader, Toc, TocEntry};
use tokio_postgres::Client;

use self::feed::Wanted;
use self::load::Loaded;
pub use self::report::{LoadedTable, RemappedOwners, Report};
pub use self::temporary::drop_leftovers;
use self::temporary::{DatabaseOptions, Temporary};
use crate::archive::{ArchiveError, Contents};
use crate::connection::{self, TargetConfig};
use crate::encoding;
use crate::error::{DatabaseError, Error, Fault, Faults};
use crate::id_columns::{self, IdColumn, Schema};
use crate::mapping::{Mapping, MappingFile, PairUse, pairs};
use crate::names::{ColumnName, TableName, quote};
use crate::plan::UnknownIds;
use crate::profile::Profile;
use crate::remap::IdMap;
use crate::survey::refuse_strays;

/// A dump of one database, read once from front to back; `name` is what messages call it.
#[derive(Debug)]
pub enum Dump<R> {
    /// An archive: `pg_dump` in the custom, directory or tar format.
    Archive {
        /// The archive, of which nothing but the table of contents was read.
        reader: Box<ArchiveReader<R>>,
        /// Its name.
        name: PathBuf,
    },
    /// A script: `pg_dump` in the plain format.
    Script {
        /// Its text.
        input: R,
        /// Its name.
        name: PathBuf,
    },
}

impl<R> Dump<R> {
    fn name(&self) -> &Path {
        match self {
            Self::Archive { name, .. } | Self::Script { name, .. } => name,
        }
    }
}

/// The database that is to be made, and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NewDatabase<'a> {
    /// Its name.
    pub name: String,
    /// The role that is to own it; otherwise who restores it does.
    pub owner: Option<String>,
    /// What to do about a database that has the name.
    pub existing: Existing,
    /// Which IDs are replaced, and where; `None` when the rows are to be as they are.
    pub remap: Option<Remap<'a>>,
    /// Columns besides those of the profile in which IDs are replaced, anywhere in the text.
    pub remap_also: Vec<ColumnName>,
    /// Leaves source IDs in other places as they are. They are told in any case.
    pub ignore_strays: bool,
    /// Leaves the owners of objects out: who restores them owns them.
    pub no_owner: bool,
    /// Leaves the rights to objects out.
    pub no_privileges: bool,
    /// PostgreSQL's name of the encoding that the database is to have; otherwise that of the dumped one, where an archive
    /// tells it, or UTF8.
    pub encoding: Option<String>,
    /// Makes statistics for the planner at the end.
    pub analyze: bool,
}

impl NewDatabase<'_> {
    /// A database of this name, as it is in the dump.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            owner: None,
            existing: Existing::Refuse,
            remap: None,
            remap_also: Vec::new(),
            ignore_strays: false,
            no_owner: false,
            no_privileges: false,
            encoding: None,
            analyze: false,
        }
    }
}

/// What to do about a database that has the name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Existing {
    /// It is in the way.
    Refuse,
    /// It is kept as `NAME_before_TIME`, renamed in the transaction in which the new one gets the name. Nobody may be
    /// connected to it.
    SetAside,
}

/// Which IDs become which.
#[derive(Debug, Clone, Copy)]
pub struct Remap<'a> {
    /// The columns; a profile without a list of tenants, such as [`Profile::watson_speech`].
    pub profile: &'a Profile,
    /// The pairs. Any other ID stays as it is.
    pub mapping: &'a MappingFile,
}

/// What a restore is doing, for the caller to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A step begins.
    Step(Step),
    /// So many rows of a table have been sent.
    Rows {
        /// The table.
        table: &'a TableName,
        /// Rows sent so far.
        sent: u64,
    },
    /// After a failure the unfinished database could not be removed; [`drop_leftovers`] does that later.
    LeftBehind {
        /// Its name.
        database: &'a str,
    },
}

/// A step of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// What is known of the dump is compared with the server.
    Check,
    /// The database is created under another name.
    Create,
    /// The statements are executed and the rows loaded.
    Load,
    /// The rows are counted.
    Verify,
    /// Statistics for the planner are made.
    Analyze,
    /// The database gets its name.
    Publish,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Check => "compare the dump with the server",
            Self::Create => "create the database under another name",
            Self::Load => "load the dump",
            Self::Verify => "count the rows",
            Self::Analyze => "make statistics",
            Self::Publish => "give the database its name",
        })
    }
}

/// A database that is whole but for its name.
///
/// Dropped, it is removed in the background, as long as the runtime lives; [`drop_leftovers`] removes what even that has missed.
#[derive(Debug)]
pub struct Prepared {
    temporary: Temporary,
    report: Report,
}

impl Prepared {
    /// What was done so far: the database that it may set aside is not known yet.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Removes it.
    ///
    /// # Errors
    ///
    /// When the server is gone; see [`drop_leftovers`].
    pub async fn remove(self) -> Result<(), Error> {
        self.temporary.remove().await
    }
}

/// Makes a database of a dump. `server` is where, with any other database to be connected to meanwhile.
///
/// # Errors
///
/// Those of [`prepare`] and [`publish`].
pub async fn restore<R: Read + Send + 'static>(
    dump: Dump<R>,
    server: &TargetConfig,
    options: &NewDatabase<'_>,
    mut observe: impl FnMut(Event<'_>),
) -> Result<Report, Error> {
    let prepared = prepare(dump, server, options, &mut observe).await?;
    observe(Event::Step(Step::Publish));
    let mut reports = publish(vec![prepared], observe).await?;
    Ok(reports.pop().unwrap_or_else(|| unreachable!("there is a report for each database")))
}

/// Makes a database of a dump, without its name; [`publish`] gives it that. `server` is where, with any other database to be connected
/// to meanwhile.
///
/// When the future is dropped before it is done, the unfinished database is removed as a [`Prepared`] is.
///
/// # Errors
///
/// Whatever fails, the name is as it was before.
pub async fn prepare<R: Read + Send + 'static>(
    dump: Dump<R>,
    server: &TargetConfig,
    options: &NewDatabase<'_>,
    mut observe: impl FnMut(Event<'_>),
) -> Result<Prepared, Error> {
    let (started, begun) = (Utc::now(), Instant::now());
    observe(Event::Step(Step::Check));
    let owners = options.remap.map(|remap| Owners::of(remap, &options.remap_also)).transpose()?;
    let connection = connection::connect(server).await?;
    let client = &connection.client;
    temporary::expect_name(client, server, options).await?;
    let roles = roles_of_server(client).await?;
    let source = check(&dump, options, owners.as_ref(), &roles)?;
    let name = dump.name().to_owned();
    let server_version = connection.server_version;

    observe(Event::Step(Step::Create));
    let mut temporary = Temporary::create(connection, server, options, &source).await?;
    let database = TargetConfig { database: temporary.name.clone(), ..server.clone() };
    let wanted = Wanted {
        ids: owners.as_ref().map(|owners| owners.ids.clone()),
        no_owner: options.no_owner,
        no_privileges: options.no_privileges,
        server_version,
    };
    let filled = fill(dump, &database, options, owners.as_ref(), wanted, &roles, &mut observe).await;
    let Filled { loaded, rows } = match filled {
        Ok(filled) => filled,
        Err(e) => {
            if temporary.remove().await.is_err() {
                observe(Event::LeftBehind { database: &database.database });
            }
            return Err(e);
        }
    };
    let (mut warnings, encoding) = (std::mem::take(&mut temporary.warnings), std::mem::take(&mut temporary.encoding));
    let remap = owners.map(|owners| owners.report(&loaded));
    warnings.extend(loaded.warnings);
    warnings.extend(remap.iter().flat_map(|remap| remap.pair_use.warnings()));
    let tables = loaded.tables.iter().map(|(table, found)| LoadedTable {
        table: table.table.clone(),
        rows: found.rows,
        ids: found.ids,
        bytes: found.bytes,
    });
    let report = Report {
        version: 1,
        pgmig_version: env!("CARGO_PKG_VERSION").to_owned(),
        started,
        finished: Utc::now(),
        seconds: begun.elapsed().as_secs_f64(),
        dump: name.display().to_string(),
        database: options.name.clone(),
        server_version,
        encoding,
        set_aside: None,
        tables: tables.collect(),
        rows,
        statements: loaded.statements,
        analyzed: options.analyze,
        remap,
        warnings,
    };
    Ok(Prepared { temporary, report })
}

/// Gives databases of one server their names, all or none of them: in one transaction, in which those that have the names are
/// renamed as well where that was asked for. Unlike [`prepare`] it is not to be dropped before it is done, since only the server knows
/// then how it ended.
///
/// # Errors
///
/// Whatever fails, the names are as they were before, and the databases are removed. [`DatabaseError::outcome`] tells the rare case
/// where that is not sure.
pub async fn publish(prepared: Vec<Prepared>, mut observe: impl FnMut(Event<'_>)) -> Result<Vec<Report>, Error> {
    let (mut databases, mut reports): (Vec<_>, Vec<_>) =
        prepared.into_iter().map(|prepared| (prepared.temporary, prepared.report)).unzip();
    let now = Utc::now();
    let published = temporary::publish(&mut databases, now).await;
    let set_aside = match published {
        Ok(set_aside) => set_aside,
        Err(e) => {
            for database in databases {
                let name = database.name.clone();
                if database.remove().await.is_err() {
                    observe(Event::LeftBehind { database: &name });
                }
            }
            return Err(e);
        }
    };
    for (report, set_aside) in reports.iter_mut().zip(set_aside) {
        report.seconds += (Utc::now() - report.finished).as_seconds_f64();
        (report.finished, report.set_aside) = (Utc::now(), set_aside);
    }
    Ok(reports)
}

/// The unfinished database when it is whole but for its name.
struct Filled {
    loaded: Loaded,
    rows: u64,
}

async fn fill<R: Read + Send + 'static>(
    dump: Dump<R>,
    database: &TargetConfig,
    options: &NewDatabase<'_>,
    owners: Option<&Owners<'_>>,
    wanted: Wanted,
    roles: &HashSet<String>,
    observe: &mut impl FnMut(Event<'_>),
) -> Result<Filled, Error> {
    observe(Event::Step(Step::Load));
    let connection = connection::connect(database).await?;
    let loaded = load::load(dump, &connection.client, owners, wanted, roles, observe).await?;
    connection.close().await;
    if !options.ignore_strays {
        refuse_strays(&loaded.strays)?;
    }
    observe(Event::Step(Step::Verify));
    // The session that loaded is in whatever state the dump has left it, perhaps within a transaction.
    let connection = connection::connect(database).await?;
    let rows = verify::verify(&connection.client, &loaded, owners).await?;
    if options.analyze {
        observe(Event::Step(Step::Analyze));
        let analyzed = connection.client.batch_execute("ANALYZE").await;
        analyzed.map_err(|e| DatabaseError::new("make statistics for the planner", e))?;
    }
    connection.close().await;
    Ok(Filled { loaded, rows })
}

/// What becomes of owners.
struct Owners<'a> {
    profile: &'a Profile,
    file: &'a MappingFile,
    remap_also: &'a [ColumnName],
    mapping: Mapping,
    ids: Arc<IdMap>,
}

impl<'a> Owners<'a> {
    fn of(remap: Remap<'a>, remap_also: &'a [ColumnName]) -> Result<Self, Faults> {
        let Remap { profile, mapping: file } = remap;
        if profile.tenants.is_some() {
            let text =
                format!("the profile `{}` has a list of tenants, and this is for data without one", profile.name);
            let hint =
                "remap the archive first, with `pgmig remap`; or restore into the existing database of the product";
            return Err(Faults::one("cannot replace IDs on the way into a new database", text).with_hint(hint));
        }
        let mapping = Mapping::of_pairs(file.entries())?;
        Ok(Self { profile, file, remap_also, mapping, ids: Arc::new(pairs::id_map(file.entries())) })
    }

    /// The columns with IDs, as far as this schema tells them.
    fn id_columns(&self, schema: &Schema<'_>) -> Result<Vec<IdColumn>, Faults> {
        id_columns::find(schema, self.profile, self.remap_also)
    }

    fn report(self, loaded: &Loaded) -> RemappedOwners {
        let mut counts = vec![0; self.ids.len()];
        let mut unknown_ids = Vec::new();
        for (table, found) in &loaded.tables {
            for (id, values) in found.values_by_id.iter().enumerate() {
                counts[id] += values;
            }
            unknown_ids.extend(found.unknown.iter().filter_map(|(&place, (count, example))| {
                let column = table.table.column(table.columns.get(place)?.clone());
                Some(UnknownIds { column, count: *count, example: example.clone() })
            }));
        }
        RemappedOwners {
            profile: self.profile.name.clone(),
            pair_use: PairUse::of(self.file.entries(), &self.ids, &counts),
            mapping: self.mapping,
            id_columns: loaded.id_columns.to_vec(),
            unknown_ids,
            strays: loaded.strays.clone(),
        }
    }
}

/// What can be known before anything is done: of a script, nothing.
fn check<R: Read>(
    dump: &Dump<R>,
    options: &NewDatabase<'_>,
    owners: Option<&Owners<'_>>,
    roles: &HashSet<String>,
) -> Result<DatabaseOptions, Error> {
    let Dump::Archive { reader, name } = dump else { return Ok(DatabaseOptions::default()) };
    let toc = reader.toc();
    let missing: BTreeSet<String> =
        roles_of_archive(toc, options).into_iter().filter(|role| !roles.contains(role)).collect();
    expect_roles(&missing, &format!("restore `{}`", name.display()))?;
    if let Some(owners) = owners {
        let contents =
            Contents::of(toc).map_err(|(entry, why)| ArchiveError::NotRestorable { path: name.clone(), entry, why })?;
        owners.id_columns(&Schema::of_archive(&contents))?;
    }
    Ok(DatabaseOptions::of(toc))
}

/// Refuses when roles are missing, all at once.
fn expect_roles(missing: &BTreeSet<String>, doing: &str) -> Result<(), Faults> {
    if missing.is_empty() {
        return Ok(());
    }
    let faults = missing.iter().map(|role| Fault::new(format!("the server has no role {}", quote(role)))).collect();
    let hint = "create the roles that own the objects of the dump or have rights to them (CREATE ROLE), or restore without owners \
                and without privileges";
    Err(Faults::new(format!("cannot {doing}"), faults).with_hint(hint))
}

/// The roles that the statements of an archive name.
fn roles_of_archive(toc: &Toc, options: &NewDatabase<'_>) -> BTreeSet<String> {
    let encoding = toc.encoding();
    let text = |bytes: &[u8]| encoding::decode(encoding.as_deref(), bytes);
    let mut roles = BTreeSet::new();
    // What is made by another entry's statements has its owner told, but not set.
    let sets_owner = |entry: &&TocEntry| {
        !entry.drop_statement().unwrap_or_default().is_empty()
            && !matches!(
                entry.description(),
                b"CAST"
                    | b"CHECK CONSTRAINT"
                    | b"CONSTRAINT"
                    | b"DATABASE"
                    | b"DATABASE PROPERTIES"
                    | b"DEFAULT"
                    | b"FK CONSTRAINT"
                    | b"INDEX"
                    | b"POLICY"
                    | b"ROW SECURITY"
                    | b"RULE"
                    | b"TRIGGER"
                    | b"USER MAPPING"
            )
    };
    if !options.no_owner {
        let owners = toc.entries().iter().filter(sets_owner).filter_map(TocEntry::owner);
        roles.extend(owners.filter(|owner| !owner.is_empty()).map(text));
    }
    for entry in toc.entries() {
        let is_about_rights = matches!(entry.description(), b"ACL" | b"ACL LANGUAGE" | b"DEFAULT ACL");
        if matches!(entry.description(), b"POLICY" | b"USER MAPPING") || (is_about_rights && !options.no_privileges) {
            roles.extend(sql::roles(&text(entry.definition().unwrap_or_default())));
        }
    }
    roles
}

async fn roles_of_server(client: &Client) -> Result<HashSet<String>, DatabaseError> {
    let rows = client.query("select rolname from pg_catalog.pg_roles", &[]).await;
    Ok(rows.map_err(|e| DatabaseError::new("read the roles of the server", e))?.iter().map(|row| row.get(0)).collect())
}
