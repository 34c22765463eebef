//! Databases and buckets that are made anew: each database gets its name when everything is there.

mod plan;

use std::collections::BTreeSet;

use anyhow::Context as _;
use pgmig_core::connection::TargetConfig;
use pgmig_core::instance_id::InstanceId;
use pgmig_core::mapping::MappingFile;
use pgmig_core::new_database::{self, Existing, NewDatabase, Prepared, Remap, Report};
use pgmig_core::profile::Profile;
use restore_command::report_file::ReportFile;
use serde::Serialize;
use storage_backends::bucket_archive::{Finished, RestoreOptions, RestoreReport, Restoring};
use storage_backends::{BackupId, Catalog, ErrorKind};
use terminal::text::{count, counted, table};
use terminal::{progress, step, warn};

use self::plan::{Plan, PlannedBucket, PlannedDatabase};
use super::database;
use crate::catalog;
use crate::cli::RestoreCommand;
use crate::commands::{Context, run};
use crate::config::{Job, Parts, PostgresqlSource};
use crate::failure::Failure;
use crate::source::OpenSource;

/// What was restored, in JSON.
#[derive(Serialize)]
struct Restored<'a> {
    version: u32,
    job: &'a str,
    id: String,
    into: &'a str,
    databases: Vec<Report>,
    buckets: Vec<RestoredBucket<'a>>,
}

#[derive(Serialize)]
struct RestoredBucket<'a> {
    bucket: &'a str,
    #[serde(flatten)]
    report: RestoreReport,
}

/// Which owners become which.
struct Owners {
    profile: Profile,
    mapping: MappingFile,
}

/// What is restored, from where and how.
struct Restore<'a> {
    context: &'a Context,
    typed: &'a RestoreCommand,
    job: &'a Job,
    catalog: &'a Catalog,
    id: &'a BackupId,
    plan: &'a Plan<'a>,
    server: Option<TargetConfig>,
    owners: Option<Owners>,
}

pub(super) async fn run(context: &Context, typed: RestoreCommand, into: &str) -> Result<(), Failure> {
    let job = &catalog::job(&context.config, &typed.job)?;
    let parts = context.config.parts_of(into).ok_or_else(|| {
        let hint = "`--into` takes the name of a source, which tells where databases and buckets are";
        Failure::new(format!("there is no source `{into}` in the configuration"), hint)
    })??;
    let prepare = async {
        let catalog = catalog::open(&context.config, job, (context.now)()).await?;
        let (id, manifest) = catalog::find(&catalog.list().await?, job, &typed.id, (context.now)())?;
        Ok((catalog, id, manifest))
    };
    let (catalog, id, manifest) = &context.interruptible(prepare).await?;
    if manifest.is_sealed() {
        let hint = "give the key as `identity` of `encryption`";
        return Err(Failure::new(format!("the backup `{id}` is encrypted, so it cannot be restored"), hint));
    }
    let plan = plan::make(job, id, into, manifest, &parts, typed.object.as_deref());
    let plan = &context.interruptible(plan).await?;
    let owners = if plan.databases.is_empty() { None } else { owners(&typed, &parts)? };
    let refused = if typed.args.force { None } else { plan.expect_nothing_there().err() };
    if typed.args.dry_run {
        plan::show(context, plan)?;
        if let Some(refused) = refused {
            warn(format_args!("without `--force` this would be refused: {refused}"));
        }
        return Ok(());
    }
    if let Some(refused) = refused {
        return Err(refused);
    }
    let report_file = ReportFile::prepare(&typed.args.report)?;
    let server = parts.databases.as_ref().map(PostgresqlSource::server).transpose()?;
    let restore = Restore { context, typed: &typed, job, catalog, id, plan, server, owners };
    let (databases, buckets) = restore.run().await?;
    let restored = Restored { version: 1, job: job.name.as_str(), id: id.to_string(), into, databases, buckets };
    // Each of the two is done whatever becomes of the other: the restore cannot be repeated.
    let written = report_file.write(&restored);
    let printed = print(context, &restored);
    written.map_err(Failure::after_result)?;
    printed.map_err(Failure::after_result)?;
    step(format_args!("restored; the report is in {}", typed.args.report.display()));
    Ok(())
}

/// The mapping of owners, and the columns that have them.
fn owners(typed: &RestoreCommand, parts: &Parts) -> Result<Option<Owners>, Failure> {
    let profile = match &typed.profile {
        Some(chosen) => Some(restore_command::profile(chosen)?),
        None => parts.owners.clone(),
    };
    if let Some(profile) = profile.as_ref().filter(|profile| profile.tenants.is_some()) {
        let message = format!("the profile `{}` is of a product that lists its tenants", profile.name);
        let hint =
            "restore into the product's own database, with `--target`; `--into` takes profiles such as `watson-speech`";
        return Err(Failure::new(message, hint));
    }
    match (&typed.args.mapping, profile) {
        (Some(file), Some(profile)) => Ok(Some(Owners { profile, mapping: MappingFile::load(file)? })),
        (Some(_), None) => {
            let hint = "name the columns that have the IDs, in a file for `--profile`";
            Err(Failure::new("there is a mapping, and nothing is known of where the databases have IDs", hint))
        }
        (None, Some(_)) if !typed.args.same_ids => {
            let message = "what is restored belongs to service instances, and there is no mapping of them";
            let hint = "give the pairs in a file with `--mapping`; `--same-ids` leaves all owners as they are";
            Err(Failure::new(message, hint))
        }
        (None, _) => Ok(None),
    }
}

impl<'a> Restore<'a> {
    /// Makes everything; the databases get their names at the end, all at once.
    async fn run(&self) -> Result<(Vec<Report>, Vec<RestoredBucket<'a>>), Failure> {
        let mut prepared = Vec::new();
        // Each step can be interrupted by itself, and databases are removed then.
        let buckets = match self.make(&mut prepared).await {
            Ok(buckets) => buckets,
            Err(failure) => {
                for database in prepared {
                    if let Err(e) = database.remove().await {
                        warn(e);
                    }
                }
                let names = if self.plan.databases.is_empty() { "" } else { "; no database has got its name" };
                return Err(failure.context(format!("cannot restore the backup `{}`{names}", self.id)));
            }
        };
        if prepared.is_empty() {
            return Ok((Vec::new(), buckets));
        }
        // From here on only the server knows how it ends: it is not interrupted.
        step("give the databases their names");
        Ok((new_database::publish(prepared, database::tell).await?, buckets))
    }

    /// Fills databases under temporary names, and buckets.
    async fn make(&self, prepared: &mut Vec<Prepared>) -> Result<Vec<RestoredBucket<'a>>, Failure> {
        if let Some(server) = self.server.as_ref().filter(|_| !self.plan.databases.is_empty()) {
            let dropped = self.context.interruptible(async { Ok(new_database::drop_leftovers(server).await?) });
            for name in dropped.await? {
                step(format_args!("dropped the database `{name}`, which a restore that was killed had left behind"));
            }
        }
        for planned in &self.plan.databases {
            prepared.push(self.database(planned).await?);
        }
        // One object of several need not have all owners.
        if let Some(owners) = self.owners.as_ref().filter(|_| self.typed.object.is_none()) {
            expect_right_mapping(owners, prepared, self.typed.args.ignore_strays)?;
        }
        if !self.typed.no_backup_of_target {
            self.back_up_buckets().await?;
        }
        let mut buckets = Vec::new();
        for planned in &self.plan.buckets {
            buckets.push(self.context.interruptible(self.bucket(planned)).await?);
        }
        Ok(buckets)
    }

    /// Fills a database under a temporary name.
    async fn database(&self, planned: &PlannedDatabase<'_>) -> Result<Prepared, Failure> {
        let server = self.server.as_ref().context("where a database goes is known by its server")?;
        step(format_args!("restoring `{}` for the database `{}`", planned.object, planned.database));
        let args = &self.typed.args;
        let mut new = NewDatabase::new(planned.database);
        new.existing = if args.force { Existing::SetAside } else { Existing::Refuse };
        new.remap = self.owners.as_ref().map(|owners| Remap { profile: &owners.profile, mapping: &owners.mapping });
        (new.remap_also, new.ignore_strays) = (args.remap_also.clone(), args.ignore_strays);
        (new.no_owner, new.no_privileges) = (self.typed.no_owner, self.typed.no_privileges);
        new.analyze = true;
        database::prepare(self.context, self.catalog, self.id, planned.stored, server, &new).await
    }

    /// Makes a backup of the buckets that have objects, beside those of the job: what is replaced can be had back.
    async fn back_up_buckets(&self) -> Result<(), Failure> {
        let context = self.context;
        let buckets: Vec<_> =
            self.plan.buckets.iter().filter(|it| it.has_objects).map(|it| it.target.clone()).collect();
        if buckets.is_empty() {
            return Ok(());
        }
        let job = catalog::before_restore(catalog::job(&context.config, self.job.name.as_str())?)?;
        catalog::expect_writable(&job)?;
        step(format_args!("back up the buckets that have objects first, as a backup of `{}`", job.name));
        let parts = Parts { databases: None, buckets, may_be_absent: false, owners: None };
        let source = context.interruptible(OpenSource::open(&parts, context.now)).await?;
        let made = run::make(context, &job, self.plan.into, source).await.map_err(|failure| {
            let hint = "mend that and run the same command again; --no-backup-of-target restores without a way back";
            let what = "the buckets of the target could not be backed up, so nothing was changed in them";
            failure.context(what).with_hint(hint)
        });
        step(format_args!("what they held before is the backup `{}` of `{}`", made?.1.id, job.name));
        Ok(())
    }

    async fn bucket(&self, planned: &PlannedBucket<'a>) -> Result<RestoredBucket<'a>, Failure> {
        step(format_args!("restoring `{}` into the bucket `{}`", planned.object, planned.bucket));
        let part = |e: storage_backends::Error| match e.kind() {
            ErrorKind::AlreadyExists => {
                let hint =
                    "restore into an empty bucket: name another one in the source, or empty this one, with its history";
                let what = format!("the bucket `{}` has something else than what is restored", planned.bucket);
                Failure::from(e).context(what).with_hint(hint)
            }
            ErrorKind::NotSupported => Failure::from(e),
            _ => {
                let hint = "run the same command again with `--force`: what is there already is not stored again";
                let what = format!("the bucket `{}` has only a part of its objects", planned.bucket);
                Failure::from(e).context(what).with_hint(hint)
            }
        };
        let store = planned.target.open_or_create().await?;
        let mut options = RestoreOptions::default();
        options.into_existing = self.typed.args.force;
        let mut restoring = Restoring::begin(&store, &options).await?;
        loop {
            let bar = progress::bytes(planned.stored.tables.iter().map(|content| content.bytes).sum());
            let read = self.catalog.read(self.id, planned.stored, async |piece| {
                bar.inc(piece.len() as u64);
                restoring.write(piece).await
            });
            let read = read.await;
            bar.finish_and_clear();
            read.map_err(part)?;
            match restoring.finish().await.map_err(part)? {
                Finished::Whole(report) => return Ok(RestoredBucket { bucket: planned.bucket, report }),
                Finished::ReadAgain(again) => {
                    let why = "the bucket has other large objects of the same lengths, which are replaced now";
                    step(format_args!("reading `{}` once more: {why}", planned.object));
                    restoring = *again;
                }
            }
        }
    }
}

/// Refuses a mapping that has an ID which owns nothing, while there are owners whom it does not name: so it is when an ID has a
/// slip, and nobody would find his data.
fn expect_right_mapping(owners: &Owners, prepared: &[Prepared], ignore: bool) -> Result<(), Failure> {
    let remaps = || prepared.iter().filter_map(|prepared| prepared.report().remap.as_ref());
    let owns_nothing = |source: &InstanceId| remaps().all(|remap| remap.pair_use.sources_not_found.contains(source));
    let sources = owners.mapping.entries().iter().map(|entry| &entry.source);
    let unused: Vec<_> = sources.filter(|id| owns_nothing(id)).collect();
    let unknown: BTreeSet<_> = remaps().flat_map(|remap| &remap.unknown_ids).map(|unknown| &unknown.example).collect();
    if unused.is_empty() || unknown.is_empty() || ignore {
        for id in unused {
            warn(format_args!("`{id}` is mapped, but owns nothing in this backup"));
        }
        return Ok(());
    }
    let list = |ids: Vec<String>| ids.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ");
    let message = format!(
        "the mapping has {}, which owns nothing in this backup, and does not have all that do, such as {}",
        list(unused.iter().map(ToString::to_string).collect()),
        list(unknown.iter().take(3).map(ToString::to_string).collect())
    );
    Err(Failure::new(message, "correct the mapping; with `--ignore-strays` all others keep their owners"))
}

fn print(context: &Context, restored: &Restored<'_>) -> Result<(), Failure> {
    for report in &restored.databases {
        // An owner has data in some of the databases: one who has it in none was told before.
        let mut of_owners = report.remap.as_ref().map(|remap| remap.pair_use.warnings()).unwrap_or_default();
        of_owners.truncate(report.remap.as_ref().map_or(0, |remap| remap.pair_use.sources_not_found.len()));
        for warning in report.warnings.iter().filter(|warning| !of_owners.contains(warning)) {
            warn(format_args!("`{}`: {warning}", report.database));
        }
        for unknown in report.remap.iter().flat_map(|remap| &remap.unknown_ids) {
            let (column, values) = (&unknown.column, counted(unknown.count, "value"));
            let what = format!("{column} has {values} that the mapping does not name, such as {}", unknown.example);
            warn(format_args!("`{}`: {what}; they stay", report.database));
        }
        if let Some(aside) = &report.set_aside {
            step(format_args!(
                "the database that was `{}` is `{aside}` now; drop it when nobody needs it",
                report.database
            ));
        }
    }
    for RestoredBucket { bucket, report } in &restored.buckets {
        if report.surplus.objects > 0 {
            let surplus = counted(report.surplus.objects, things(report));
            warn(format_args!("the bucket `{bucket}` also has {surplus} that the backup does not have; they stay"));
        }
    }
    if context.is_json() {
        return terminal::print_json(restored).map_err(|e| Failure::from(e).after_result());
    }
    let databases = restored.databases.iter().map(|report| {
        let ids: u64 = report.tables.iter().map(|table| table.ids).sum();
        let owners = if report.remap.is_some() { count(ids) } else { String::new() };
        vec![format!("database {}", report.database), counted(report.rows, "row"), owners]
    });
    let buckets = restored.buckets.iter().map(|it| {
        let found = counted(it.report.found.objects, things(&it.report));
        vec![format!("bucket {}", it.bucket), found, String::new()]
    });
    let text = table(&["Restored", "Verified", "Owners replaced"], &[2], databases.chain(buckets));
    terminal::print(&text).map_err(|e| Failure::from(e).after_result())
}

/// What is counted of a bucket.
fn things(report: &RestoreReport) -> &'static str {
    if report.archive.versions { "version" } else { "object" }
}
