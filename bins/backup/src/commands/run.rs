//! `backup run`: a backup that is proven to be complete before it is called one.

use std::fmt::Write as _;
use std::time::Duration;

use chrono::{DateTime, Utc};
use dumpfmt::{Toc, TocEntry, VerifiedArchive, VerifiedEntry};
use serde::Serialize;
use storage_backends::{BackupId, Catalog, Manifest, NewBackup, TableContent, Verification};
use terminal::text::{counted, size};
use terminal::{progress, step, warn};

use super::{Context, prune};
use crate::config::{Job, PostgresqlSource, Source};
use crate::failure::{Failure, Status};
use crate::source::pg_dump;
use crate::source::postgresql::Session;
use crate::{catalog, metrics, ping};

/// What a run has done, in JSON.
#[derive(Serialize)]
struct Ran<'a> {
    version: u32,
    job: &'a str,
    location: String,
    manifest: &'a Manifest,
    removed: Vec<String>,
}

pub(crate) async fn run(context: &Context, name: &str) -> Result<(), Failure> {
    let job = catalog::job(&context.config, name)?;
    let started = (context.now)();
    let result = make_and_prune(context, &job, started).await;
    // Another run is at work: it tells how it went.
    if result.as_ref().is_err_and(|failure| failure.status() == Status::Locked) {
        return result.map(drop);
    }
    let manifest = result.as_ref().ok().map(|made| &made.manifest);
    let told = metrics::write(&job, started, (context.now)(), manifest);
    let pinged = ping::tell(&job, result.is_ok()).await;
    let made = match result {
        Ok(made) => made,
        Err(failure) => {
            // The backup failed, which is worse than that nobody heard of it.
            for also in [told, pinged].into_iter().filter_map(Result::err) {
                warn(also);
            }
            return Err(failure);
        }
    };
    print(context, &job, &made)?;
    let after = [made.pruned.map(drop), told, pinged];
    match after.into_iter().filter_map(Result::err).reduce(|first, also| {
        warn(also);
        first
    }) {
        None => Ok(()),
        Some(failure) => {
            let failure = failure.context("the backup was made and verified, but not all that comes after it was done");
            Err(failure.after_result().with_status(Status::AfterBackup))
        }
    }
}

struct Made {
    location: String,
    manifest: Manifest,
    pruned: Result<Vec<BackupId>, Failure>,
}

async fn make_and_prune(context: &Context, job: &Job, started: DateTime<Utc>) -> Result<Made, Failure> {
    let source = context.config.source(job)?;
    let catalog = catalog::open(&context.config, job, started).await?;
    let listing = catalog.list().await?;
    expect_clock(&listing, started)?;
    let rubbish = catalog.clean_up(job.clean_up_after, started.into()).await?;
    for id in rubbish {
        step(format_args!("removed `{id}`, which a run that was killed had left behind"));
    }
    let Source::Postgresql(source) = source;
    let manifest = back_up_databases(context, job, &source, &catalog, started).await?;
    let pruned = prune::apply(&catalog, job, (context.now)()).await;
    Ok(Made { location: catalog.location(), manifest, pruned })
}

/// IDs are times: with a clock that was set back, the new backup would not be the newest one.
fn expect_clock(listing: &storage_backends::Listing, now: DateTime<Utc>) -> Result<(), Failure> {
    let ids = listing.backups.iter().map(|(id, _)| id).chain(listing.unreadable.iter().map(|(id, _)| id));
    match ids.map(BackupId::time).max() {
        Some(newest) if newest > now => {
            let message = format!(
                "the clock of this machine says {}, but the newest backup was begun at {}",
                now.format("%F %T UTC"),
                newest.format("%F %T UTC")
            );
            let hint = "set the clock; if it is right, move away the backup whose ID is a time to come";
            Err(Failure::new(message, hint))
        }
        _ => Ok(()),
    }
}

async fn back_up_databases(
    context: &Context,
    job: &Job,
    source: &PostgresqlSource,
    catalog: &Catalog,
    started: DateTime<Utc>,
) -> Result<Manifest, Failure> {
    let (major, pg_dump_version) = pg_dump::version(source).await?;
    // All sessions first: the databases are dumped as they were at moments that are close to each other.
    let mut sessions = Vec::new();
    for database in &source.databases {
        let session = Session::open(database, source.profile.as_ref()).await?;
        if major < session.major_version() {
            let message = format!(
                "pg_dump {pg_dump_version} cannot dump the database `{}`: its server is {}",
                database.database, session.server_version
            );
            let hint = "install PostgreSQL's client programs of that version, and name its pg_dump with `pg-dump`";
            return Err(Failure::new(message, hint));
        }
        sessions.push((session, (context.now)()));
    }

    let id = BackupId::at(started).ok_or_else(|| Failure::new("the clock is out of its range", "set the clock"))?;
    let backup = catalog.begin(id.clone()).await?;
    let mut manifest = Manifest::new(backup.id(), &job.source, started);
    manifest.versions.insert("backup".into(), env!("CARGO_PKG_VERSION").into());
    manifest.versions.insert("pg_dump".into(), pg_dump_version);
    let result = back_up_all(context, source, sessions, backup, manifest).await;
    if result.is_err()
        && let Err(e) = catalog.remove(&id).await
    {
        // It is no backup, and the next run tries again.
        warn(e);
    }
    result
}

async fn back_up_all(
    context: &Context,
    source: &PostgresqlSource,
    sessions: Vec<(Session, DateTime<Utc>)>,
    mut backup: NewBackup,
    mut manifest: Manifest,
) -> Result<Manifest, Failure> {
    let mut moments = Vec::new();
    for (session, moment) in sessions {
        moments.push(format!("`{}` at {}", session.database.database, moment.format("%F %T%.3f UTC")));
        manifest.versions.insert("server".into(), session.server_version.clone());
        manifest.schema_version = manifest.schema_version.or(session.schema_version.clone());
        manifest.tenants.extend_from_slice(&session.tenants);
        back_up(source, session, &mut backup).await?;
    }
    manifest.consistency = Some(format!("each database is as it was at one moment: {}", moments.join(", ")));
    manifest.finished = (context.now)();
    let what = "every block was decoded, rows counted, digests taken; pg_dump ended with status 0";
    manifest.verification = Some(Verification::new(manifest.finished, what));
    Ok(backup.publish(manifest).await?)
}

/// One database, into an object of the backup.
async fn back_up(source: &PostgresqlSource, session: Session, backup: &mut NewBackup) -> Result<(), Failure> {
    let database = session.database.clone();
    step(format_args!("dumping the database `{}` of {}", database.database, database.host));
    let mut object = backup.object(&object_name(&database.database)).await?;
    let bar = progress::unknown_bytes();
    let dumped =
        pg_dump::dump(source, &database, &session.snapshot, &mut object, |bytes| bar.set_position(bytes)).await;
    bar.finish_and_clear();
    session.close().await;
    let archive = match dumped {
        Ok(archive) => archive,
        Err(failure) => {
            // What is left of it is no backup, and goes by the next run at the latest.
            if let Err(e) = object.abort().await {
                warn(e);
            }
            return Err(failure);
        }
    };
    backup.add(object).await?.tables = tables(&archive);
    Ok(())
}

/// The name of a database can be anything; that of an object cannot.
fn object_name(database: &str) -> String {
    let mut name = String::new();
    for c in database.bytes() {
        match c {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => name.push(char::from(c)),
            other => {
                let _ = write!(name, "%{other:02X}");
            }
        }
    }
    name + ".dump"
}

/// What is in an archive, table by table.
pub(crate) fn tables(archive: &VerifiedArchive) -> Vec<TableContent> {
    archive.entries.iter().map(|entry| table(&archive.toc, entry)).collect()
}

fn table(toc: &Toc, entry: &VerifiedEntry) -> TableContent {
    let name = toc.get(entry.dump_id).map_or_else(|| entry.dump_id.to_string(), name);
    let mut table = TableContent::new(name, entry.bytes);
    table.rows = entry.rows;
    table.sha256 = entry.sha256.map(|digest| digest.to_string());
    table
}

/// `public.tenant` for rows; for large objects their type.
fn name(entry: &TocEntry) -> String {
    let tag = String::from_utf8_lossy(entry.tag());
    match entry.namespace().filter(|namespace| !namespace.is_empty()) {
        Some(namespace) => format!("{}.{tag}", String::from_utf8_lossy(namespace)),
        None if entry.description() == b"BLOBS" => "large objects".to_owned(),
        None => format!("{} {tag}", String::from_utf8_lossy(entry.description())),
    }
}

fn print(context: &Context, job: &Job, made: &Made) -> Result<(), Failure> {
    let manifest = &made.manifest;
    let removed: Vec<_> = made.pruned.iter().flatten().map(ToString::to_string).collect();
    if context.is_json() {
        let location = made.location.clone();
        terminal::print_json(&Ran { version: 1, job: job.name.as_str(), location, manifest, removed })?;
        return Ok(());
    }
    let rows = manifest.objects.iter().flat_map(|object| &object.tables).filter_map(|table| table.rows).sum();
    let tables = manifest.objects.iter().map(|object| object.tables.len()).sum::<usize>();
    terminal::print(&format!(
        "{}: verified, {} in {}, {} in {}\n",
        manifest.id,
        counted(rows, "row"),
        counted(tables as u64, "table"),
        size(manifest.bytes()),
        duration(manifest.finished - manifest.started)
    ))?;
    if !removed.is_empty() {
        terminal::print(&format!("removed {}: {}\n", counted(removed.len() as u64, "old backup"), removed.join(", ")))?;
    }
    Ok(())
}

/// In the largest units that fit.
pub(crate) fn duration(delta: chrono::TimeDelta) -> String {
    let delta = delta.to_std().unwrap_or(Duration::ZERO);
    let seconds = delta.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", delta.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}
