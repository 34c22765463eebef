//! `backup prune`: removes what the retention policy does not keep.

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use retention::{Candidate, Decision, Policy, decide};
use serde::Serialize;
use storage_backends::{BackupId, Catalog, Listing, Manifest};
use terminal::text::{counted, size, table};
use terminal::warn;

use super::Context as Command;
use crate::catalog::{self, Unreadable, unreadable};
use crate::config::Job;
use crate::failure::{Failure, outcome};

/// What becomes of the backups, in JSON.
#[derive(Serialize)]
struct Pruned<'a> {
    version: u32,
    job: &'a str,
    dry_run: bool,
    removed: Vec<Line>,
    kept: Vec<Line>,
    /// What cannot be used, and is left alone.
    unreadable: Vec<Unreadable>,
    /// What killed runs had left behind, and is gone.
    incomplete: Vec<String>,
}

#[derive(Serialize)]
struct Line {
    id: String,
    bytes: u64,
    verified: bool,
    why: String,
}

pub(crate) async fn run(context: &Command, name: &str, dry_run: bool) -> Result<(), Failure> {
    let job = catalog::job(&context.config, name)?;
    let policy = catalog::policy(&job)?;
    let now = (context.now)();
    let catalog = catalog::open(&context.config, &job, now).await?;
    let listing = catalog.list().await?;
    let decisions = decisions(policy, now, &listing);
    let mut failure = None;
    let mut incomplete = Vec::new();
    if !dry_run {
        failure = remove(&catalog, &decisions).await.err();
        if failure.is_none() {
            // What is gone already is told whatever comes of this.
            match catalog.clean_up(job.clean_up_after, now.into()).await {
                Ok(cleaned) => {
                    incomplete = cleaned.removed;
                    cleaned.problems.into_iter().for_each(warn);
                }
                Err(e) => failure = Some(e.into()),
            }
        }
    }
    let printed = print(context, &job, &decisions, unreadable(&listing), &incomplete, dry_run);
    let removed = failure.map_or(Ok(()), |failure| Err(failure.context("not all that was to be removed is")));
    outcome(printed, removed)
}

/// Removes what the policy of a job does not keep, if it has one.
///
/// # Errors
///
/// Some of it is still there.
pub(crate) async fn apply(
    catalog: &Catalog,
    job: &Job,
    listing: &Listing,
    now: DateTime<Utc>,
) -> Result<Vec<BackupId>, Failure> {
    let Some(policy) = &job.retention else { return Ok(Vec::new()) };
    remove(catalog, &decisions(policy, now, listing)).await
}

/// What becomes of each backup, the oldest first.
pub(crate) fn decisions<'a>(
    policy: &Policy,
    now: DateTime<Utc>,
    listing: &'a Listing,
) -> Vec<(&'a BackupId, &'a Manifest, Decision)> {
    let candidate = |(id, manifest): &(BackupId, Manifest)| Candidate {
        source: manifest.source.clone(),
        name: id.to_string(),
        time: Some(id.time()),
        verified: manifest.is_verified(),
    };
    let candidates: Vec<_> = listing.backups.iter().map(candidate).collect();
    let decisions = decide(policy, now, &candidates);
    listing.backups.iter().zip(decisions).map(|((id, manifest), decision)| (id, manifest, decision)).collect()
}

async fn remove(catalog: &Catalog, decisions: &[(&BackupId, &Manifest, Decision)]) -> Result<Vec<BackupId>, Failure> {
    let mut removed = Vec::new();
    for (id, _, decision) in decisions {
        if decision.is_removal() {
            catalog.remove(id).await.with_context(|| format!("cannot remove the backup `{id}`"))?;
            removed.push((*id).clone());
        }
    }
    Ok(removed)
}

fn print(
    context: &Command,
    job: &Job,
    decisions: &[(&BackupId, &Manifest, Decision)],
    unreadable: Vec<Unreadable>,
    incomplete: &[BackupId],
    dry_run: bool,
) -> Result<(), Failure> {
    let line = |(id, manifest, decision): &(&BackupId, &Manifest, Decision)| Line {
        id: id.to_string(),
        bytes: manifest.bytes(),
        verified: manifest.is_verified(),
        why: decision.to_string(),
    };
    let (removed, kept): (Vec<_>, Vec<_>) = decisions.iter().partition(|(_, _, decision)| decision.is_removal());
    let incomplete: Vec<_> = incomplete.iter().map(ToString::to_string).collect();
    if context.is_json() {
        let (removed, kept) = (removed.into_iter().map(line).collect(), kept.into_iter().map(line).collect());
        let job = job.name.as_str();
        terminal::print_json(&Pruned { version: 1, job, dry_run, removed, kept, unreadable, incomplete })?;
        return Ok(());
    }
    let verb = if dry_run { "would be removed" } else { "removed" };
    let rows = decisions.iter().map(|decision| {
        let what = if decision.2.is_removal() { verb } else { "stays" };
        let line = line(decision);
        vec![line.id, size(line.bytes), what.to_owned(), line.why]
    });
    let left_alone = unreadable.into_iter().map(|it| vec![it.id, String::new(), "is left alone".to_owned(), it.why]);
    let mut text = table(&["Backup", "Size", "", "Why"], &[1], rows.chain(left_alone));
    let bytes = removed.iter().map(|(_, manifest, _)| manifest.bytes()).sum();
    text += &format!("\n{} {verb}, {}; {}\n", counted(removed.len() as u64, "backup"), size(bytes), stay(kept.len()));
    if !incomplete.is_empty() {
        let ids = incomplete.join(", ");
        text += &format!("removed what killed runs had left behind: {ids}\n");
    }
    terminal::print(&text)?;
    Ok(())
}

fn stay(number: usize) -> String {
    if number == 1 { "1 stays".to_owned() } else { format!("{} stay", terminal::text::count(number as u64)) }
}
