//! `backup run`: a backup that is proven to be complete before it is called one.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use storage_backends::{BackupId, Catalog, Manifest};
use terminal::text::{counted, size};
use terminal::{step, warn};

use super::{Context, prune};
use crate::config::Job;
use crate::failure::{Failure, Status};
use crate::source::databases::Databases;
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
    let result = make_and_prune(context, &job).await;
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

async fn make_and_prune(context: &Context, job: &Job) -> Result<Made, Failure> {
    catalog::expect_writable(job)?;
    let source = context.config.databases(job)?;
    let prepare = async {
        // First, since they keep other runs away.
        let databases = Databases::open(&source, context.now).await?;
        let catalog = catalog::open(&context.config, job, (context.now)()).await?;
        let started = begin(context, &catalog).await?;
        for id in catalog.clean_up(job.clean_up_after, started.into()).await? {
            step(format_args!("removed `{id}`, which a run that was killed had left behind"));
        }
        Ok((databases, catalog, started))
    };
    let (databases, catalog, started) = context.interruptible(prepare).await?;

    let out_of_range = || Failure::new("the clock of this machine is out of its range", "set the clock");
    let id = BackupId::at(started).ok_or_else(out_of_range)?;
    let backup = catalog.begin(id.clone()).await?;
    let mut manifest = Manifest::new(backup.id(), &job.source, started);
    manifest.versions.insert("backup".into(), env!("CARGO_PKG_VERSION").into());
    let manifest = match databases.back_up(context, backup, manifest).await {
        Ok(manifest) => manifest,
        Err(failure) => {
            // It is no backup, and its ID is ours; what cannot be removed now the next run removes.
            if let Err(e) = catalog.remove(&id).await {
                warn(e);
            }
            return Err(failure);
        }
    };
    let pruned = context.interruptible(prune::apply(&catalog, job, (context.now)())).await;
    Ok(Made { location: catalog.location(), manifest, pruned })
}

/// The time of the new backup, which is its ID: with a clock that was set back it would not be the newest one.
async fn begin(context: &Context, catalog: &Catalog) -> Result<DateTime<Utc>, Failure> {
    let listing = catalog.list().await?;
    let ids = listing.backups.iter().map(|(id, _)| id);
    let ids = ids.chain(listing.unreadable.iter().map(|(id, _)| id)).chain(listing.incomplete.iter().map(|(id, _)| id));
    let newest = ids.map(BackupId::time).max();
    let now = (context.now)();
    match newest {
        Some(newest) if newest > now => {
            let format = "%F %T UTC";
            let (said, newest) = (now.format(format), newest.format(format));
            let message = format!("the clock of this machine says {said}, but the newest backup was begun at {newest}");
            let hint = "set the clock; if it is right, move away the backup whose ID is a time to come";
            Err(Failure::new(message, hint))
        }
        // IDs have seconds.
        Some(newest) if now - newest < TimeDelta::seconds(1) => {
            tokio::time::sleep((newest + TimeDelta::seconds(1) - now).to_std().unwrap_or_default()).await;
            Ok((context.now)())
        }
        _ => Ok(now),
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
    let tables = manifest.objects.iter().flat_map(|object| &object.tables).filter(|table| table.rows.is_some()).count();
    terminal::print(&format!(
        "{}: verified, {} in {}, {} in {}\n",
        manifest.id,
        counted(rows(manifest), "row"),
        counted(tables as u64, "table"),
        size(manifest.bytes()),
        duration(manifest.finished - manifest.started)
    ))?;
    if !removed.is_empty() {
        terminal::print(&format!("removed {}: {}\n", counted(removed.len() as u64, "old backup"), removed.join(", ")))?;
    }
    Ok(())
}

/// The rows of all tables.
pub(crate) fn rows(manifest: &Manifest) -> u64 {
    manifest.objects.iter().flat_map(|object| &object.tables).filter_map(|table| table.rows).sum()
}

/// In the largest units that fit.
pub(crate) fn duration(delta: TimeDelta) -> String {
    let delta = delta.to_std().unwrap_or(Duration::ZERO);
    let seconds = delta.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", delta.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}
