//! `backup adopt`: the dumps of the product's own backup job become backups, where they lie.

use std::io::Write as _;

use dumpfmt::{VerifiedArchive, Verifier, VerifyOptions};
use retention::BackupName;
use serde::Serialize;
use storage_backends::{BackupId, Catalog, Key, Listing, Manifest, Verification};
use terminal::text::{count, counted, size, table};
use terminal::{progress, step};

use super::Context;
use crate::catalog;
use crate::config::Job;
use crate::failure::{Failure, outcome};
use crate::source::dump::tables;

/// What became of the dumps, in JSON.
#[derive(Serialize)]
struct Adopted<'a> {
    version: u32,
    job: &'a str,
    adopted: Vec<Manifest>,
    refused: Vec<Refused>,
}

#[derive(Serialize)]
struct Refused {
    path: String,
    why: String,
}

pub(crate) async fn run(context: &Context, name: &str) -> Result<(), Failure> {
    let job = catalog::job(&context.config, name)?;
    catalog::expect_own(&job)?;
    catalog::expect_writable(&job)?;
    let catalog = catalog::open(&context.config, &job, (context.now)()).await?;
    let (mut adopted, mut refused) = (Vec::new(), Vec::new());
    let mut listing = catalog.list().await?;
    for (key, dump) in catalog::dumps(&job, &listing) {
        step(format_args!("reading {key}"));
        match adopt(context, &job, &catalog, &listing, &key, &dump).await {
            Ok((id, manifest)) => {
                // The next dump can be one of the same second.
                listing.backups.push((id, manifest.clone()));
                adopted.push(manifest);
            }
            Err(failure) => refused.push(Refused { path: key.to_string(), why: failure.to_string() }),
        }
    }
    let failed = refused.len() as u64;
    let result = Adopted { version: 1, job: name, adopted, refused };
    let printed = context.print(&result, || text(&result.adopted, &result.refused));
    if failed == 0 {
        return printed;
    }
    let stays = if failed == 1 { "stays as it is" } else { "stay as they are" };
    let message = format!("{} cannot be adopted, and {stays}", counted(failed, "dump"));
    let hint = "mend what is told of each; a dump that is not whole can be saved in part by `pgmig repair`";
    outcome(printed, Err(Failure::new(message, hint)))
}

async fn adopt(
    context: &Context,
    job: &Job,
    catalog: &Catalog,
    listing: &Listing,
    key: &Key,
    dump: &BackupName,
) -> Result<(BackupId, Manifest), Failure> {
    let begun = dump.instant(job.time_zone);
    if begun > (context.now)() {
        let hint = "set the clock, or give the file a name with the right time";
        return Err(Failure::new("its name has a time that is to come", hint));
    }
    let id = BackupId::at(begun).and_then(|id| listing.free_id(id));
    let id =
        id.ok_or_else(|| Failure::new("its time cannot be that of a backup", "give it a name with another time"))?;

    let mut verifier = Verifier::new(VerifyOptions::default().digests(true));
    let bar = progress::unknown_bytes();
    let read = catalog.adopt(id.clone(), key, listing, async |piece| {
        bar.inc(piece.len() as u64);
        // What it finds is told at its end.
        let _ = verifier.write_all(&piece);
        Ok(())
    });
    let backup = read.await;
    bar.finish_and_clear();
    let mut backup = backup?;
    let archive = verifier.finish_archive().map_err(|e| Failure::from(e).context("it is not a whole archive"))?;

    let mut manifest = Manifest::new(backup.id(), &job.source, begun);
    manifest.versions = versions(&archive);
    if let [object] = backup.objects_mut() {
        object.tables = tables(&archive);
    }
    let what = "every block was decoded, rows counted, digests taken when it was adopted";
    manifest.verification = Some(Verification::new((context.now)(), what));
    Ok((id, backup.publish(manifest).await?))
}

fn versions(archive: &VerifiedArchive) -> std::collections::BTreeMap<String, String> {
    let header = &archive.header;
    let programs = [("pg_dump", &header.dump_version), ("server", &header.server_version)];
    let known = programs.into_iter().filter_map(|(name, version)| Some((name, version.as_deref()?)));
    let ours = ("backup".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    known
        .map(|(name, version)| (name.to_owned(), String::from_utf8_lossy(version).into_owned()))
        .chain([ours])
        .collect()
}

fn text(adopted: &[Manifest], refused: &[Refused]) -> String {
    let rows = adopted.iter().map(|manifest| {
        let object = manifest.objects.first();
        let place = object.and_then(|object| object.at.clone()).unwrap_or_default();
        let rows = object.map_or(0, |object| object.tables.iter().filter_map(|table| table.rows).sum());
        vec![manifest.id.clone(), place, size(manifest.bytes()), count(rows)]
    });
    let mut text = if adopted.is_empty() {
        "nothing was adopted\n".to_owned()
    } else {
        table(&["Backup", "Dump", "Size", "Rows"], &[2, 3], rows)
    };
    for Refused { path, why } in refused {
        text += &format!("{path} is not adopted: {why}\n");
    }
    text
}
