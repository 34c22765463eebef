//! `backup verify`: is a backup still what it was when it was made?

use pgmig_core::new_database::{self, LoadedTable, NewDatabase, Report};
use serde::Serialize;
use storage_backends::bucket_archive::Verifying;
use storage_backends::{BackupId, Catalog, Error, ErrorKind, Manifest, ObjectFormat, StoredObject, TableContent};
use terminal::text::{counted, size};
use terminal::{progress, step};

use super::Context;
use super::restore::database;
use super::run::{content, rows};
use crate::catalog;
use crate::config::Job;
use crate::failure::Failure;
use crate::source::buckets;
use crate::source::dump::DumpVerifier;

/// The result in JSON.
#[derive(Serialize)]
struct Verified<'a> {
    version: u32,
    job: &'a str,
    id: String,
    complete: bool,
    objects: u64,
    bytes: u64,
    /// Nothing when only the holders of a key know.
    rows: Option<u64>,
    /// Whether it was restored into a throw-away database.
    restored: bool,
}

pub(crate) async fn run(context: &Context, name: &str, id: &str, restore: bool) -> Result<(), Failure> {
    let job = catalog::job(&context.config, name)?;
    let catalog = catalog::open(&context.config, &job, (context.now)()).await?;
    let (id, manifest) = catalog::find(&catalog.list().await?, &job, id, (context.now)())?;
    if restore && manifest.is_sealed() {
        let hint = "give the key as `identity` of `encryption`";
        return Err(Failure::new(format!("the backup `{id}` is encrypted, so it cannot be restored"), hint));
    }
    let failed = |failure: Failure| match failure.cause::<Error>().map(Error::kind) {
        None | Some(ErrorKind::Incomplete | ErrorKind::NotFound) => {
            let place = catalog.location();
            failure.context(format!("the backup `{id}` of the job `{name}` is not whole")).with_hint(format!(
                "use another backup, and make a new one; this one counts among those that are kept until `{place}/{id}` is removed"
            ))
        }
        // It may be whole.
        Some(_) => failure.context(format!("cannot verify the backup `{id}` of the job `{name}`")),
    };
    let bar = progress::bytes(manifest.bytes());
    for object in &manifest.objects {
        let verified = async {
            if manifest.is_sealed() {
                catalog.check(&id, object).await?;
                bar.inc(object.bytes);
            } else if object.format == ObjectFormat::Bucket {
                verify_bucket(&catalog, &id, object, |bytes| bar.inc(bytes)).await?;
            } else {
                verify(&catalog, &id, object, |bytes| bar.inc(bytes)).await?;
            }
            Ok(())
        };
        context.interruptible(verified).await.map_err(failed)?;
    }
    bar.finish_and_clear();
    if restore {
        restore_and_drop(context, &job, &catalog, &id, &manifest).await?;
    }
    let content = (!manifest.is_sealed()).then(|| content(&manifest));
    let (objects, bytes) = (manifest.objects.len() as u64, manifest.bytes());
    if context.is_json() {
        terminal::print_json(&Verified {
            version: 1,
            job: name,
            id: id.to_string(),
            complete: true,
            objects,
            bytes,
            rows: content.map(|_| rows(&manifest)),
            restored: restore,
        })?;
        return Ok(());
    }
    let (objects, bytes) = (counted(objects, "object"), size(bytes));
    terminal::print(&match content {
        Some(content) => {
            let restored = if restore { "; restored into a throw-away database with the same rows" } else { "" };
            format!("{id}: complete: {objects}, {content}, {bytes}, all as recorded when it was made{restored}\n")
        }
        None => format!(
            "{id}: complete: {objects}, {bytes}, stored as when it was made; what is in it takes a key to verify\n"
        ),
    })?;
    Ok(())
}

/// Restores each dump of a backup into a database of the source's server that never gets a name, compares its rows with the manifest,
/// and drops it.
async fn restore_and_drop(
    context: &Context,
    job: &Job,
    catalog: &Catalog,
    id: &BackupId,
    manifest: &Manifest,
) -> Result<(), Failure> {
    let dumps: Vec<_> = manifest.objects.iter().filter(|object| object.format != ObjectFormat::Bucket).collect();
    let source = context.config.parts(job)?.databases.filter(|_| !dumps.is_empty()).ok_or_else(|| {
        let message = format!("the backup `{id}` of the job `{}` has no database to be restored", job.name);
        Failure::new(message, "leave out `--restore`: what is in a bucket was read to its end")
    })?;
    let server = source.server()?;
    new_database::drop_leftovers(&server).await?;
    for object in dumps {
        step(format_args!("restoring {} into a throw-away database", object.name));
        let mut new = NewDatabase::new(format!("verification of {id}"));
        // Who owns what is not compared, and the roles need not be there.
        (new.no_owner, new.no_privileges) = (true, true);
        let not_restored = |failure: Failure| {
            failure.context(format!("the backup `{id}` is whole, but `{}` could not be restored", object.name))
        };
        let prepared = database::prepare(context, catalog, id, object, &server, &new).await.map_err(not_restored)?;
        let difference = different_rows(object, prepared.report());
        prepared.remove().await?;
        if let Some(difference) = difference {
            let hint = "a trigger or a rule may have changed them; look into the definition of the table";
            return Err(not_restored(Failure::new(difference, hint)));
        }
    }
    Ok(())
}

/// The first table whose rows in the database are not those that were recorded, in words.
fn different_rows(object: &StoredObject, report: &Report) -> Option<String> {
    let mut recorded = object.tables.iter().filter_map(|table| Some((&table.table, table.rows?)));
    let found = |name: &str| {
        let is_meant = |table: &&LoadedTable| format!("{}.{}", table.table.schema, table.table.table) == *name;
        report.tables.iter().find(is_meant).map_or(0, |table| table.rows)
    };
    let (table, rows) = recorded.find(|(table, rows)| found(table.as_str()) != *rows)?;
    Some(format!("the restored table {table} has {} rows, and the backup {rows}", found(table.as_str())))
}

/// Reads an object to its end, decodes it, and compares all of it with the manifest.
async fn verify(
    catalog: &Catalog,
    id: &BackupId,
    object: &StoredObject,
    mut progress: impl FnMut(u64),
) -> Result<(), Failure> {
    let mut verifier = DumpVerifier::new(object.format);
    let read = catalog.read(id, object, async |piece| {
        progress(piece.len() as u64);
        // What it finds is told at its end.
        let _ = verifier.write_all(&piece);
        Ok(())
    });
    read.await?;
    let dump = verifier.finish().map_err(|e| {
        Failure::from(e).context(format!("the object `{}` has the recorded digest, but is no whole dump", object.name))
    })?;
    expect_content(object, &dump.tables())
}

/// Reads the archive of a bucket to its end, and compares what is in it with the manifest.
async fn verify_bucket(
    catalog: &Catalog,
    id: &BackupId,
    object: &StoredObject,
    mut progress: impl FnMut(u64),
) -> Result<(), Failure> {
    let mut verifying = Verifying::default();
    let read = catalog.read(id, object, async |piece| {
        progress(piece.len() as u64);
        verifying.write(piece)
    });
    read.await?;
    expect_content(object, &[buckets::content(&verifying.finish()?)])
}

/// That there is in an object what its manifest says.
fn expect_content(object: &StoredObject, found: &[TableContent]) -> Result<(), Failure> {
    let Some(difference) = difference(&object.tables, found) else { return Ok(()) };
    let message = format!("the object `{}` is not what its manifest says: {difference}", object.name);
    Err(Failure::new(message, "use another backup; somebody may have replaced this one together with its digest"))
}

/// The first difference, in words.
fn difference(recorded: &[TableContent], found: &[TableContent]) -> Option<String> {
    if recorded.len() != found.len() {
        return Some(format!("{} blocks of data were recorded, and there are {}", recorded.len(), found.len()));
    }
    let (recorded, found) = recorded.iter().zip(found).find(|(recorded, found)| recorded != found)?;
    let rows = |table: &TableContent| table.rows.map_or_else(|| "no".to_owned(), |rows| rows.to_string());
    Some(match (recorded.table != found.table, recorded.rows != found.rows) {
        (true, _) => format!("`{}` was recorded where there is `{}`", recorded.table, found.table),
        (_, true) => {
            format!("{} rows of `{}` were recorded, and there are {}", rows(recorded), found.table, rows(found))
        }
        _ => format!("the content of `{}` is not the recorded one", found.table),
    })
}
