//! `backup list`: which backups there are.

use chrono::{DateTime, Utc};
use serde::Serialize;
use storage_backends::{BackupId, Listing, Manifest};
use terminal::text::{count, size, table};

use super::Context;
use super::prune::decisions;
use super::run::{objects, rows};
use crate::catalog::{self, Unreadable, unreadable};
use crate::config::{BEFORE_RESTORE, Job};
use crate::failure::{Failure, outcome};

/// The backups of all jobs that were asked for, in JSON.
#[derive(Serialize)]
struct Listed {
    version: u32,
    jobs: Vec<OfJob>,
    /// The jobs whose backups cannot be listed, and why.
    failed: Vec<Failed>,
}

#[derive(Serialize)]
struct Failed {
    job: String,
    why: String,
}

#[derive(Serialize)]
struct OfJob {
    job: String,
    location: String,
    backups: Vec<Line>,
    /// What cannot be used, and why.
    unreadable: Vec<Unreadable>,
    /// What is being made, or was left behind.
    incomplete: Vec<String>,
    /// The dumps of the product's own job.
    adoptable: Vec<String>,
    /// What else belongs to no backup.
    foreign: Vec<String>,
}

#[derive(Serialize)]
struct Line {
    id: String,
    source: String,
    started: DateTime<Utc>,
    bytes: u64,
    /// Nothing when only the holders of a key know.
    rows: Option<u64>,
    /// Those of buckets.
    objects: Option<u64>,
    verified: bool,
    encrypted: bool,
    /// What the retention policy says; nothing without one.
    retention: Option<String>,
}

pub(crate) async fn run(context: &Context, name: Option<&str>) -> Result<(), Failure> {
    let is_of_all = name.is_none();
    let names: Vec<_> = match name {
        Some(name) => vec![name],
        None => context.config.jobs().collect(),
    };
    if names.is_empty() {
        terminal::warn("the configuration has no job, so there is no backup to list");
    }
    let mut jobs = Vec::new();
    let mut failures = Vec::new();
    for name in names {
        match of_job(context, name).await {
            Ok(listed) => {
                jobs.push(listed);
                if !is_of_all {
                    continue;
                }
                // What restores have backed up of targets, if there is any.
                let of_targets = format!("{name}{BEFORE_RESTORE}");
                match of_job(context, &of_targets).await {
                    Ok(listed) if listed.is_empty() => {}
                    Ok(listed) => jobs.push(listed),
                    Err(failure) => failures.push((of_targets, failure)),
                }
            }
            Err(failure) => failures.push((name.to_owned(), failure)),
        }
    }
    let failed = failures.iter().map(|(job, failure)| Failed { job: job.clone(), why: failure.to_string() }).collect();
    let listed = Listed { version: 1, jobs, failed };
    let printed = context.print(&listed, || listed.jobs.iter().map(text).collect::<Vec<_>>().join("\n"));
    let failures = failures
        .into_iter()
        .map(|(job, failure)| failure.context(format!("cannot list the backups of the job `{job}`")));
    let failed = failures.reduce(|first, also| {
        terminal::warn(also);
        first
    });
    outcome(printed, failed.map_or(Ok(()), Err))
}

impl OfJob {
    fn is_empty(&self) -> bool {
        self.backups.is_empty() && self.unreadable.is_empty() && self.incomplete.is_empty()
    }
}

async fn of_job(context: &Context, name: &str) -> Result<OfJob, Failure> {
    let job = catalog::job(&context.config, name)?;
    let now = (context.now)();
    let catalog = catalog::open(&context.config, &job, now).await?;
    let listing = catalog.list().await?;
    let adoptable: Vec<_> = catalog::dumps(&job, &listing).into_iter().map(|(key, _)| key.to_string()).collect();
    Ok(OfJob {
        job: name.to_owned(),
        location: catalog.location(),
        backups: lines(&job, now, &listing),
        unreadable: unreadable(&listing),
        incomplete: listing.incomplete.iter().map(|(id, _)| id.to_string()).collect(),
        foreign: listing.foreign.iter().map(ToString::to_string).filter(|key| !adoptable.contains(key)).collect(),
        adoptable,
    })
}

fn lines(job: &Job, now: DateTime<Utc>, listing: &Listing) -> Vec<Line> {
    let line = |id: &BackupId, manifest: &Manifest, retention| Line {
        id: id.to_string(),
        source: manifest.source.clone(),
        started: manifest.started,
        bytes: manifest.bytes(),
        rows: (!manifest.is_sealed()).then(|| rows(manifest)),
        objects: (!manifest.is_sealed()).then(|| objects(manifest)),
        verified: manifest.is_verified(),
        encrypted: manifest.is_encrypted(),
        retention,
    };
    match &job.retention {
        Some(policy) => {
            let decisions = decisions(policy, now, listing).into_iter();
            decisions.map(|(id, manifest, decision)| line(id, manifest, Some(decision.to_string()))).collect()
        }
        None => listing.backups.iter().map(|(id, manifest)| line(id, manifest, None)).collect(),
    }
}

fn text(job: &OfJob) -> String {
    let mut text = format!("{}  {}\n", job.job, job.location);
    if job.backups.is_empty() {
        text += "  no backup\n";
    } else {
        let has_objects = job.backups.iter().any(|line| line.objects.is_some_and(|objects| objects > 0));
        let rows = job.backups.iter().rev().map(|line| {
            let verified = if line.verified { "yes" } else { "no" };
            let retention = line.retention.clone().unwrap_or_default();
            let [rows, objects] = [line.rows, line.objects].map(|it| it.map_or("sealed".to_owned(), count));
            let mut row = vec![line.id.clone(), size(line.bytes), rows, verified.to_owned(), retention];
            if has_objects {
                row.insert(3, objects);
            }
            row
        });
        text += &if has_objects {
            table(&["Backup", "Size", "Rows", "Objects", "Verified", "Retention"], &[1, 2, 3], rows)
        } else {
            table(&["Backup", "Size", "Rows", "Verified", "Retention"], &[1, 2], rows)
        };
    }
    for unreadable in &job.unreadable {
        text += &format!("  {} cannot be used: {}\n", unreadable.id, unreadable.why);
    }
    for id in &job.incomplete {
        text += &format!("  {id} is being made, or was left behind\n");
    }
    for key in &job.adoptable {
        text += &format!("  {key} is a dump of the product's own job: `backup adopt {}`\n", job.job);
    }
    for key in &job.foreign {
        text += &format!("  {key} belongs to no backup\n");
    }
    text
}
