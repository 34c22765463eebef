//! What a restore will make, and what is there already.

use std::collections::BTreeSet;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use pgmig_core::connection::TargetConfig;
use serde::Serialize;
use storage_backends::{Backend as _, BackupId, ErrorKind, Manifest, ObjectFormat, StoredObject};
use terminal::step;
use terminal::text::{counted, table};

use crate::commands::Context;
use crate::config::{Bucket, Job, Parts};
use crate::failure::Failure;
use crate::source::connection::connect;

/// Where everything goes. In JSON, what a dry run prints.
#[derive(Serialize)]
pub(super) struct Plan<'a> {
    pub(super) version: u32,
    pub(super) job: &'a str,
    pub(super) id: String,
    pub(super) into: &'a str,
    pub(super) databases: Vec<PlannedDatabase<'a>>,
    pub(super) buckets: Vec<PlannedBucket<'a>>,
}

#[derive(Serialize)]
pub(super) struct PlannedDatabase<'a> {
    pub(super) database: &'a str,
    pub(super) object: &'a str,
    pub(super) rows: u64,
    /// A database of the name is there.
    pub(super) exists: bool,
    #[serde(skip)]
    pub(super) stored: &'a StoredObject,
}

#[derive(Serialize)]
pub(super) struct PlannedBucket<'a> {
    pub(super) bucket: &'a str,
    pub(super) object: &'a str,
    pub(super) objects: u64,
    /// The bucket is there, and has objects.
    pub(super) has_objects: bool,
    #[serde(skip)]
    pub(super) stored: &'a StoredObject,
    #[serde(skip)]
    pub(super) target: &'a Bucket,
}

/// Finds for each object of the backup where it goes, and looks what is there.
pub(super) async fn make<'a>(
    job: &'a Job,
    id: &BackupId,
    into: &'a str,
    manifest: &'a Manifest,
    parts: &'a Parts,
    only: Option<&str>,
) -> Result<Plan<'a>, Failure> {
    let mut plan = Plan {
        version: 1,
        job: job.name.as_str(),
        id: id.to_string(),
        into,
        databases: Vec::new(),
        buckets: Vec::new(),
    };
    let chosen = manifest.objects.iter().filter(|object| only.is_none_or(|name| object.name == name));
    let (buckets, dumps): (Vec<_>, Vec<_>) = chosen.partition(|object| object.format == ObjectFormat::Bucket);
    if buckets.is_empty() && dumps.is_empty() {
        let message = format!("the backup `{id}` has no object `{}`", only.unwrap_or_default());
        return Err(Failure::new(message, format!("`backup show {} {id}` shows which it has", job.name)));
    }
    let no_place = |object: &StoredObject, what: &str| {
        let origin = object.origin.as_deref().unwrap_or(&object.name);
        let message = format!("the source `{into}` has no {what} for `{origin}`");
        Failure::new(message, "name it there, or restore the other objects one by one with `--object`")
    };
    if !dumps.is_empty() {
        let source = parts.databases.as_ref().ok_or_else(|| no_place(dumps[0], "database"))?;
        let existing = existing(&source.server()?).await?;
        for &stored in &dumps {
            let target = one_for(stored, dumps.len(), &source.databases, |database| &database.database);
            let target = target.ok_or_else(|| no_place(stored, "database"))?;
            let database = target.database.as_str();
            plan.databases.push(PlannedDatabase {
                database,
                object: &stored.name,
                rows: stored.tables.iter().filter_map(|table| table.rows).sum(),
                exists: existing.contains(database),
                stored,
            });
        }
    }
    for &stored in &buckets {
        let target = one_for(stored, buckets.len(), &parts.buckets, Bucket::name);
        let target = target.ok_or_else(|| no_place(stored, "bucket"))?;
        plan.buckets.push(PlannedBucket {
            bucket: target.name(),
            object: &stored.name,
            objects: stored.tables.iter().filter_map(|table| table.rows).sum(),
            has_objects: has_objects(target).await?,
            stored,
            target,
        });
    }
    Ok(plan)
}

/// The place with the same name; or the only one for the only object.
fn one_for<'a, T>(object: &StoredObject, objects: usize, places: &'a [T], name: impl Fn(&T) -> &str) -> Option<&'a T> {
    let same = places.iter().find(|place| object.origin.as_deref() == Some(name(place)));
    match places {
        [only] if objects == 1 => Some(only),
        _ => same,
    }
}

/// The names of all databases of a server.
async fn existing(server: &TargetConfig) -> Result<BTreeSet<String>, Failure> {
    let connection = connect(server).await?;
    let rows = connection.client.query("SELECT datname FROM pg_database", &[]).await;
    let rows = rows.context("cannot list the databases of the target")?;
    connection.close().await;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn has_objects(bucket: &Bucket) -> Result<bool, Failure> {
    let store = match bucket.open().await {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    let mut objects = store.list(None).await;
    Ok(objects.next().await.transpose()?.is_some())
}

impl Plan<'_> {
    /// That nothing is in the way.
    pub(super) fn expect_nothing_there(&self) -> Result<(), Failure> {
        let databases =
            self.databases.iter().filter(|it| it.exists).map(|it| format!("the database `{}`", it.database));
        let buckets =
            self.buckets.iter().filter(|it| it.has_objects).map(|it| format!("objects in the bucket `{}`", it.bucket));
        let there: Vec<_> = databases.chain(buckets).collect();
        if there.is_empty() {
            return Ok(());
        }
        let hint = "with `--force` databases that are there are renamed, and buckets are backed up before their objects are \
                    replaced; with it, a restore that was interrupted goes on too";
        Err(Failure::new(format!("the target has {} already", there.join(", ")), hint))
    }
}

/// Prints a plan that is not to be carried out.
pub(super) fn show(context: &Context, plan: &Plan<'_>) -> Result<(), Failure> {
    if context.is_json() {
        terminal::print_json(plan)?;
        return Ok(());
    }
    let databases = plan.databases.iter().map(|it| {
        let there = if it.exists { "there already" } else { "" };
        vec![it.object.to_owned(), format!("database {}", it.database), counted(it.rows, "row"), there.to_owned()]
    });
    let buckets = plan.buckets.iter().map(|it| {
        let there = if it.has_objects { "has objects" } else { "" };
        vec![it.object.to_owned(), format!("bucket {}", it.bucket), counted(it.objects, "object"), there.to_owned()]
    });
    terminal::print(&table(&["Object", "Becomes", "Content", ""], &[], databases.chain(buckets)))?;
    step("this was a dry run: nothing was changed");
    Ok(())
}
