//! A backup in the database of a product, which is backed up first.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pgmig_core::archive::{Archive, ArchiveError};
use pgmig_core::connection::TargetConfig;
use pgmig_core::profile::Profile;
use restore_command::{Restore, RestoreOptions};
use storage_backends::{BackupId, Catalog, Manifest, ObjectFormat, StoredObject};
use terminal::{progress, step};

use super::pieces::pieces;
use crate::catalog;
use crate::cli::RestoreCommand;
use crate::commands::{Context, fetch, run};
use crate::config::{Job, Parts, PostgresqlSource};
use crate::failure::Failure;
use crate::source::OpenSource;

pub(super) async fn run(context: &Context, typed: RestoreCommand, target: PathBuf) -> Result<(), Failure> {
    let RestoreCommand { job, id, object, profile, no_backup_of_target, args, .. } = typed;
    let job = catalog::job(&context.config, &job)?;
    let profile = match profile {
        Some(chosen) => restore_command::profile(&chosen)?,
        None => Profile::watson_assistant(),
    };
    let target_file = target.clone();
    let prepare = async {
        let catalog = catalog::open(&context.config, &job, (context.now)()).await?;
        let (id, manifest) = catalog::find(&catalog.list().await?, &job, &id, (context.now)())?;
        let object = fetch::one_of(&manifest, object.as_deref())?;
        if object.format != ObjectFormat::Archive {
            let message = format!("`{}` of the backup `{id}` is no archive", object.name);
            return Err(Failure::new(message, "restore it with `--into`, which makes what it restores"));
        }
        let open = async || {
            step(format_args!("read `{}` of the backup `{id}`", object.name));
            spool(&catalog, &id, object).await
        };
        let output = context.output;
        let profile = profile.clone();
        Restore::prepare(RestoreOptions { target, profile, output, stdin_is_archive: false, args }, open).await
    };
    let Some(restore) = context.interruptible(prepare).await? else { return Ok(()) };
    if !no_backup_of_target {
        let made = back_up(context, job, restore.target(), profile).await.map_err(|failure| {
            failure.context("the target could not be backed up, so nothing was changed in it").with_hint(
                "mend that and run the same command again; --no-backup-of-target restores without a way back",
            )
        });
        let (job, manifest) = made?;
        // Now, since it has to be known however the restore ends.
        step(format_args!(
            "what the target holds now is the backup `{}` of `{}`; to have it back later: backup restore {} {} --target {} \
             --same-ids --force",
            manifest.id,
            job.name,
            job.name,
            manifest.id,
            target_file.display()
        ));
    }
    restore.run(context.stopped()).await
}

/// Makes a backup of the target, beside those of the job.
async fn back_up(
    context: &Context,
    job: Job,
    target: &TargetConfig,
    profile: Profile,
) -> Result<(Job, Manifest), Failure> {
    let databases = PostgresqlSource {
        databases: vec![target.clone()],
        pg_dump: context.config.pg_dump(&job)?,
        format: ObjectFormat::Archive,
        compress: None,
        profile: Some(profile),
    };
    let job = catalog::before_restore(job)?;
    catalog::expect_writable(&job)?;
    step(format_args!("back up the target first, as a backup of `{}`", job.name));
    let name = format!("{} of {}", target.database, target.host);
    let parts = Parts { databases: Some(databases), buckets: Vec::new(), owners: None, may_be_absent: false };
    let source = context.interruptible(OpenSource::open(&parts, context.now)).await?;
    let (_, manifest) = run::make(context, &job, &name, source).await?;
    Ok((job, manifest))
}

/// Copies an object to a temporary file without a name, and opens it. It is what was stored, by its digest, before anybody reads it.
async fn spool(catalog: &Catalog, id: &BackupId, object: &StoredObject) -> Result<Archive, Failure> {
    let (feed, pieces) = pieces();
    let name = format!("{} of {id}", object.name);
    let spooling = tokio::task::spawn_blocking(move || Archive::spool(pieces, Path::new(&name), |_copied| {}));
    let bar = progress::bytes(object.plaintext.as_ref().map_or(object.bytes, |plaintext| plaintext.bytes));
    let read = feed.read(catalog, id, object, |bytes| bar.inc(bytes), || true).await;
    let spooled = spooling.await.context("the copy was cancelled")?;
    bar.finish_and_clear();
    match (read, spooled) {
        // That is why nobody took any more of it.
        (_, Err(e @ ArchiveError::Spool { .. })) => Err(pgmig_core::Error::from(e).into()),
        (Err(e), _) => Err(Failure::from(e).context(format!("the backup `{id}` cannot be read"))),
        (Ok(()), spooled) => Ok(spooled.map_err(pgmig_core::Error::from)?),
    }
}
