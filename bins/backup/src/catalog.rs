//! The backups of a job.

use std::sync::Arc;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use retention::{BackupName, Policy};
use serde::Serialize;
use storage_backends::{Backend, BackupId, Catalog, Key, Listing, Manifest};
use terminal::text::counted;

use crate::config::{BEFORE_RESTORE, ConfigFile, Job};
use crate::failure::Failure;

/// The job `name`.
///
/// # Errors
///
/// There is none, or it has faults.
pub(crate) fn job(config: &ConfigFile, name: &str) -> Result<Job, Failure> {
    match config.job(name) {
        Some(job) => Ok(job?),
        None => {
            let of_targets = name.strip_suffix(BEFORE_RESTORE).and_then(|name| config.job(name));
            if let Some(job) = of_targets {
                return before_restore(job?);
            }
            let names: Vec<_> = config.jobs().collect();
            let hint = format!("the configuration has {}", pgmig_core::config_file::list(&names));
            Err(Failure::new(format!("there is no job `{name}`"), hint))
        }
    }
}

/// Where a job has the backups of targets that were made before something was restored into them: a folder beside its own. They are
/// listed, verified, fetched and restored as others are. No policy removes them.
///
/// # Errors
///
/// The name is too long for that.
pub(crate) fn before_restore(job: Job) -> Result<Job, Failure> {
    let name = format!("{}{BEFORE_RESTORE}", job.name.as_str().trim_end_matches(BEFORE_RESTORE));
    let name = name.parse().context("the name of the job is too long")?;
    Ok(Job { name, at_root: false, retention: None, ..job })
}

/// That a job makes backups by itself.
///
/// # Errors
///
/// It has those of [targets](before_restore).
pub(crate) fn expect_own(job: &Job) -> Result<(), Failure> {
    if job.name.as_str().ends_with(BEFORE_RESTORE) {
        let message = format!("`{}` has backups of targets, which `backup restore` makes alone", job.name);
        return Err(Failure::new(message, "give the name of a job"));
    }
    Ok(())
}

/// What a job keeps.
///
/// # Errors
///
/// Everything.
pub(crate) fn policy(job: &Job) -> Result<&Policy, Failure> {
    job.retention.as_ref().ok_or_else(|| {
        if job.name.as_str().ends_with(BEFORE_RESTORE) {
            let message = format!("no policy removes the backups of `{}`", job.name);
            return Failure::new(message, "remove the folder of one by hand when nobody needs it any more");
        }
        let hint = "say what is to be kept with `retention`, such as `{keep-last: 7}`";
        Failure::new(format!("the job `{}` has no retention policy, so it keeps every backup", job.name), hint)
    })
}

/// That what a job writes can be read afterwards.
///
/// # Errors
///
/// It trusts only what is signed, and has no key to sign with.
pub(crate) fn expect_writable(job: &Job) -> Result<(), Failure> {
    if job.keys.only_read() {
        let message = format!("the job `{}` trusts only signed backups, and has no key to sign one with", job.name);
        return Err(Failure::new(message, "give `key` of `signing`, or make backups where it is"));
    }
    Ok(())
}

/// A backup that cannot be used, and why. Everybody leaves it alone.
#[derive(Serialize)]
pub(crate) struct Unreadable {
    pub(crate) id: String,
    pub(crate) why: String,
}

/// What of a listing cannot be used.
pub(crate) fn unreadable(listing: &Listing) -> Vec<Unreadable> {
    let unreadable =
        |(id, why): &(BackupId, String)| Unreadable { id: id.to_string(), why: format!("its manifest {why}") };
    listing.unreadable.iter().map(unreadable).collect()
}

/// The dumps with the names that the product gives them.
pub(crate) fn dumps(job: &Job, listing: &Listing) -> Vec<(Key, BackupName)> {
    let folder = if job.at_root { String::new() } else { format!("{}/", job.name) };
    let dump = |key: &Key| {
        let name: BackupName = key.as_str().strip_prefix(&folder)?.parse().ok()?;
        Some((key.clone(), name))
    };
    let mut dumps: Vec<_> = listing.foreign.iter().filter_map(dump).collect();
    dumps.sort_by_key(|(_, name)| name.time());
    dumps
}

/// The catalog of a job, and where it is.
///
/// # Errors
///
/// Its destination cannot be opened.
pub(crate) async fn open(config: &ConfigFile, job: &Job, now: DateTime<Utc>) -> Result<Catalog, Failure> {
    let backend: Arc<dyn Backend> = config
        .destination(job)?
        .open(now.into())
        .await
        .map_err(|e| Failure::from(e).context(format!("cannot open the destination `{}`", job.destination)))?;
    let catalog = if job.at_root {
        Catalog::at_root(backend)
    } else {
        Catalog::new(backend, job.name.clone()).context("the name of the job is too long")?
    };
    Ok(job.keys.apply(catalog))
}

/// A backup by its ID, or the newest verified one by the word `latest`; by a clock that was wrong, one can have been made after `now`.
///
/// # Errors
///
/// There is no such backup, its manifest cannot be used, or it is a dump that was not adopted.
pub(crate) fn find(
    listing: &Listing,
    job: &Job,
    id: &str,
    now: DateTime<Utc>,
) -> Result<(BackupId, Manifest), Failure> {
    let list = format!("`backup list {}` shows which there are", job.name);
    let dumps = dumps(job, listing);
    let adopt = format!(
        "`backup adopt {}` reads the dumps to their ends and makes backups of those that are whole, where they lie; \
         then `backup list {}` shows their IDs",
        job.name, job.name
    );
    if id == "latest" {
        let is_to_come = |id: &BackupId| id.time() > now;
        let verified = || listing.backups.iter().rev().filter(|(_, manifest)| manifest.is_verified());
        for (id, _) in verified().filter(|(id, _)| is_to_come(id)) {
            terminal::warn(format_args!("the backup `{id}` has a time that is to come, and is passed over"));
        }
        let newest = verified().find(|(id, _)| !is_to_come(id));
        for (id, why) in &listing.unreadable {
            if newest.is_none_or(|(newest, _)| id > newest) {
                terminal::warn(format_args!("the backup `{id}` is newer, but cannot be used: its manifest {why}"));
            }
        }
        return newest.cloned().ok_or_else(|| {
            let none = format!("the job `{}` has no verified backup", job.name);
            match dumps.len() as u64 {
                0 => Failure::new(none, list),
                number => {
                    Failure::new(format!("{none}, but {} of the product's own job", counted(number, "dump")), adopt)
                }
            }
        });
    }
    // By its name or its path, as it is listed.
    if let Some((key, _)) = dumps.iter().find(|(key, dump)| key.as_str() == id || dump.to_string() == id) {
        let message = format!("`{key}` is a dump of the product's own job, and no backup yet: nobody has verified it");
        return Err(Failure::new(message, adopt));
    }
    let id: BackupId = id.parse().map_err(|e| Failure::from(anyhow::Error::new(e)).with_hint(list.clone()))?;
    if let Some((_, why)) = listing.unreadable.iter().find(|(other, _)| *other == id) {
        let message = format!("the backup `{id}` of the job `{}` cannot be used: its manifest {why}", job.name);
        return Err(Failure::new(
            message,
            "use another backup; what there is of this one stays until somebody removes it",
        ));
    }
    let found = listing.backups.iter().find(|(other, _)| *other == id).cloned();
    found.ok_or_else(|| {
        let is_incomplete = listing.incomplete.iter().any(|(other, _)| *other == id);
        let why = if is_incomplete { " that is complete" } else { "" };
        Failure::new(format!("the job `{}` has no backup `{id}`{why}", job.name), list)
    })
}
