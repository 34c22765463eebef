//! `backup verify`: is a backup still what it was when it was made?

use std::io::Write as _;

use dumpfmt::{VerifiedArchive, Verifier, VerifyOptions};
use serde::Serialize;
use storage_backends::{BackupId, Catalog, StoredObject, TableContent};
use terminal::text::{counted, size};
use terminal::{progress, step};

use super::Context;
use super::run::rows;
use crate::catalog;
use crate::failure::Failure;
use crate::source::databases::tables;
use crate::source::throw_away::restore_and_compare;

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
    let (id, manifest) = catalog::find(&catalog.list().await?, &job, id)?;
    if restore && manifest.is_sealed() {
        let hint = "give the key as `identity` of `encryption`";
        return Err(Failure::new(format!("the backup `{id}` is encrypted, so it cannot be restored"), hint));
    }
    let not_whole = |failure: Failure| failure.context(format!("the backup `{id}` of the job `{name}` is not whole"));
    let bar = progress::bytes(manifest.bytes());
    let mut archives = Vec::new();
    for object in &manifest.objects {
        let verified = async {
            if manifest.is_sealed() {
                catalog.check(&id, object).await?;
                bar.inc(object.bytes);
            } else {
                archives.push((object, verify(&catalog, &id, object, |bytes| bar.inc(bytes)).await?));
            }
            Ok(())
        };
        context.interruptible(verified).await.map_err(not_whole)?;
    }
    bar.finish_and_clear();
    if restore {
        let source = context.config.databases(&job)?;
        for (object, archive) in &archives {
            step(format_args!("restoring {} into a throw-away database", object.name));
            let restored = restore_and_compare(context, &source, &catalog, &id, object, archive).await;
            restored.map_err(|failure| {
                failure.context(format!("the backup `{id}` is whole, but `{}` could not be restored", object.name))
            })?;
        }
    }
    let rows = (!manifest.is_sealed()).then(|| rows(&manifest));
    let (objects, bytes) = (manifest.objects.len() as u64, manifest.bytes());
    if context.is_json() {
        let id = id.to_string();
        terminal::print_json(&Verified {
            version: 1,
            job: name,
            id,
            complete: true,
            objects,
            bytes,
            rows,
            restored: restore,
        })?;
        return Ok(());
    }
    let (objects, bytes) = (counted(objects, "object"), size(bytes));
    terminal::print(&match rows {
        Some(rows) => {
            let rows = counted(rows, "row");
            let restored = if restore { "; restored into a throw-away database with the same rows" } else { "" };
            format!("{id}: complete: {objects}, {rows}, {bytes}, all as recorded when it was made{restored}\n")
        }
        None => format!(
            "{id}: complete: {objects}, {bytes}, stored as when it was made; what is in it takes a key to verify\n"
        ),
    })?;
    Ok(())
}

/// Reads an object to its end, decodes it, and compares all of it with the manifest.
async fn verify(
    catalog: &Catalog,
    id: &BackupId,
    object: &StoredObject,
    mut progress: impl FnMut(u64),
) -> Result<VerifiedArchive, Failure> {
    let mut verifier = Verifier::new(VerifyOptions::default().digests(true));
    let read = catalog.read(id, object, async |piece| {
        progress(piece.len() as u64);
        // What it finds is told at its end.
        let _ = verifier.write_all(&piece);
        Ok(())
    });
    read.await?;
    let archive = verifier.finish_archive().map_err(|e| {
        Failure::from(e)
            .context(format!("the object `{}` has the recorded digest, but is no whole archive", object.name))
    })?;
    match difference(&object.tables, &tables(&archive)) {
        None => Ok(archive),
        Some(difference) => {
            let message = format!("the object `{}` is not what its manifest says: {difference}", object.name);
            Err(Failure::new(
                message,
                "use another backup; somebody may have replaced this one together with its digest",
            ))
        }
    }
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
