//! `backup prune`: removes what the retention policy does not keep.

use std::collections::BTreeSet;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use retention::{Candidate, Decision, Policy, decide};
use serde::Serialize;
use storage_backends::{BackupId, Catalog, Listing, Manifest};
use terminal::text::{count, counted, size, table};
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
    /// What is gone, or would be.
    removed: Vec<Line>,
    /// What the policy does not keep, and is still there: removing it, or something before it, has failed.
    not_removed: Vec<Line>,
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
    let prepare = async {
        let catalog = catalog::open(&context.config, &job, now).await?;
        let listing = catalog.list().await?;
        Ok((catalog, listing))
    };
    let (catalog, listing) = context.interruptible(prepare).await?;
    let decisions = decisions(policy, now, &listing);
    let mut failure = None;
    let (mut removed, mut incomplete) = (BTreeSet::new(), Vec::new());
    if !dry_run {
        // What is gone already is told whatever comes of this.
        failure = remove(context, &catalog, &listing, &decisions, &mut removed).await.err();
        if failure.is_none() {
            let clean_up = async { Ok(catalog.clean_up(job.clean_up_after, now.into()).await?) };
            match context.interruptible(clean_up).await {
                Ok(cleaned) => {
                    incomplete = cleaned.removed;
                    cleaned.problems.into_iter().for_each(warn);
                }
                Err(e) => failure = Some(e),
            }
        }
    }
    let pruned = Fate { decisions: &decisions, removed: (!dry_run).then_some(&removed), incomplete: &incomplete };
    let printed = print(context, &job, &pruned, unreadable(&listing));
    let failed = failure.map_or(Ok(()), |failure| Err(failure.context("not all that was to be removed is")));
    outcome(printed, failed)
}

/// Removes what the policy of a job does not keep, if it has one. What is gone is added to `removed`, whatever fails afterwards.
///
/// # Errors
///
/// Some of it is still there, such as when somebody asks us to end.
pub(crate) async fn apply(
    context: &Command,
    catalog: &Catalog,
    job: &Job,
    listing: &Listing,
    now: DateTime<Utc>,
    removed: &mut BTreeSet<BackupId>,
) -> Result<(), Failure> {
    let Some(policy) = &job.retention else { return Ok(()) };
    remove(context, catalog, listing, &decisions(policy, now, listing), removed).await
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

async fn remove(
    context: &Command,
    catalog: &Catalog,
    listing: &Listing,
    decisions: &[(&BackupId, &Manifest, Decision)],
    removed: &mut BTreeSet<BackupId>,
) -> Result<(), Failure> {
    for (id, ..) in decisions.iter().filter(|(_, _, decision)| decision.is_removal()) {
        context.go_on()?;
        let went = catalog.remove(id, listing).await.with_context(|| format!("cannot remove the backup `{id}`"))?;
        removed.insert((*id).clone());
        let mut problems = went.problems.into_iter();
        if let Some(problem) = problems.next() {
            problems.for_each(warn);
            let what = format!("the backup `{id}` is removed, but not all that it had stored");
            return Err(Failure::from(problem).context(what));
        }
    }
    Ok(())
}

/// What has become of everything.
struct Fate<'a> {
    decisions: &'a [(&'a BackupId, &'a Manifest, Decision)],
    /// What is gone; `None` when nothing was to be removed yet.
    removed: Option<&'a BTreeSet<BackupId>>,
    /// What killed runs had left behind, and is gone.
    incomplete: &'a [BackupId],
}

impl Fate<'_> {
    fn of(&self, (id, _, decision): &(&BackupId, &Manifest, Decision)) -> &'static str {
        match self.removed {
            _ if !decision.is_removal() => "stays",
            None => "would be removed",
            Some(removed) if removed.contains(id) => "removed",
            Some(_) => "not removed",
        }
    }
}

fn print(context: &Command, job: &Job, fate: &Fate<'_>, unreadable: Vec<Unreadable>) -> Result<(), Failure> {
    let line = |(id, manifest, decision): &(&BackupId, &Manifest, Decision)| Line {
        id: id.to_string(),
        bytes: manifest.bytes(),
        verified: manifest.is_verified(),
        why: decision.to_string(),
    };
    let of = |what: &str| -> Vec<Line> { fate.decisions.iter().filter(|it| fate.of(it) == what).map(line).collect() };
    let gone = if fate.removed.is_some() { "removed" } else { "would be removed" };
    let (removed, not_removed, kept) = (of(gone), of("not removed"), of("stays"));
    let incomplete: Vec<_> = fate.incomplete.iter().map(ToString::to_string).collect();
    if context.is_json() {
        let (job, dry_run) = (job.name.as_str(), fate.removed.is_none());
        let pruned = Pruned { version: 1, job, dry_run, removed, not_removed, kept, unreadable, incomplete };
        terminal::print_json(&pruned)?;
        return Ok(());
    }
    let rows = fate.decisions.iter().map(|decision| {
        let line = line(decision);
        vec![line.id, size(line.bytes), fate.of(decision).to_owned(), line.why]
    });
    let left_alone = unreadable.into_iter().map(|it| vec![it.id, String::new(), "is left alone".to_owned(), it.why]);
    let rows: Vec<_> = rows.chain(left_alone).collect();
    let mut text = String::new();
    if rows.is_empty() {
        text += "no backup\n";
    } else {
        text += &table(&["Backup", "Size", "", "Why"], &[1], rows);
        let bytes = removed.iter().map(|line| line.bytes).sum();
        text += &format!("\n{} {gone}, {}; ", counted(removed.len() as u64, "backup"), size(bytes));
        if !not_removed.is_empty() {
            text += &format!("{} not removed; ", count(not_removed.len() as u64));
        }
        text += &format!("{}\n", stay(kept.len()));
    }
    if !incomplete.is_empty() {
        let ids = incomplete.join(", ");
        text += &format!("removed what killed runs had left behind: {ids}\n");
    }
    terminal::print(&text)?;
    Ok(())
}

fn stay(number: usize) -> String {
    if number == 1 { "1 stays".to_owned() } else { format!("{} stay", count(number as u64)) }
}
