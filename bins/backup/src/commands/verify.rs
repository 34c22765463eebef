//! `backup verify`: is a backup still what it was when it was made?

use serde::Serialize;
use storage_backends::{BackupId, Catalog, Manifest, StoredObject, TableContent};
use terminal::text::{counted, size};
use terminal::{progress, step};

use super::Context;
use super::run::rows;
use crate::catalog;
use crate::failure::Failure;
use crate::source::dump::{DumpVerifier, VerifiedDump};
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
    if restore {
        expect_restorable(&manifest)?;
    }
    let not_whole = |failure: Failure| failure.context(format!("the backup `{id}` of the job `{name}` is not whole"));
    let bar = progress::bytes(manifest.bytes());
    let mut dumps = Vec::new();
    for object in &manifest.objects {
        let verified = async {
            if manifest.is_sealed() {
                catalog.check(&id, object).await?;
                bar.inc(object.bytes);
            } else {
                dumps.push((object, verify(&catalog, &id, object, |bytes| bar.inc(bytes)).await?));
            }
            Ok(())
        };
        context.interruptible(verified).await.map_err(not_whole)?;
    }
    bar.finish_and_clear();
    if restore {
        let source = context.config.databases(&job)?;
        for (object, dump) in &dumps {
            let VerifiedDump::Archive(archive) = dump else { continue };
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

/// A plain dump is verified without a database.
fn expect_restorable(manifest: &Manifest) -> Result<(), Failure> {
    let Some(object) = manifest.objects.iter().find(|object| object.format.is_some()) else { return Ok(()) };
    let message = format!("`{}` is a plain dump, which is not restored into a throw-away database", object.name);
    Err(Failure::new(message, "run the same command without `--restore`: it reads every statement and every row"))
}

/// Reads an object to its end, decodes it, and compares all of it with the manifest.
async fn verify(
    catalog: &Catalog,
    id: &BackupId,
    object: &StoredObject,
    mut progress: impl FnMut(u64),
) -> Result<VerifiedDump, Failure> {
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
    match difference(&object.tables, &dump.tables()) {
        None => Ok(dump),
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
