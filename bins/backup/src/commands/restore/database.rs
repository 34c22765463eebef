//! A database that is made of an object of a backup, whole but for its name.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use dumpfmt::ArchiveReader;
use pgmig_core::archive::ArchiveError;
use pgmig_core::connection::TargetConfig;
use pgmig_core::new_database::{self, Dump, Event, NewDatabase, Prepared};
use storage_backends::{BackupId, Catalog, ObjectFormat, StoredObject};
use terminal::{progress, warn};

use super::pieces::{Pieces, pieces};
use crate::commands::Context;
use crate::failure::{Failure, interrupted};

/// How long the server has to end a statement when somebody asks us to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Fills a database under a temporary name. The object was read to its end then, and has the recorded digest.
///
/// # Errors
///
/// There is none: it was removed, also when somebody asked us to end.
pub(crate) async fn prepare(
    context: &Context,
    catalog: &Catalog,
    id: &BackupId,
    object: &StoredObject,
    server: &TargetConfig,
    new: &NewDatabase<'_>,
) -> Result<Prepared, Failure> {
    let (feed, pieces) = pieces();
    let bar = progress::rows(object.tables.iter().filter_map(|table| table.rows).sum());
    // Rows of the tables that are done, and of the one that is being loaded.
    let (mut done, mut current) = (0, 0);
    let observe = |event: Event<'_>| match event {
        Event::Rows { table, sent } => {
            if sent < current {
                done += current;
            }
            current = sent;
            bar.set_message(table.to_string());
            bar.set_position(done + sent);
        }
        other => tell(other),
    };
    let has_failed = AtomicBool::new(false);
    let prepare = async {
        let prepared = async {
            let dump = dump(object, id, pieces).await?;
            Ok(new_database::prepare(dump, server, new, observe).await?)
        };
        let prepared = tokio::select! {
            prepared = prepared => prepared,
            () = async { context.stopped().await; tokio::time::sleep(PATIENCE).await } => Err(interrupted()),
        };
        has_failed.store(prepared.is_err(), Ordering::Relaxed);
        prepared
    };
    let was_cut = AtomicBool::new(false);
    let is_stopped = || {
        let is_stopped = has_failed.load(Ordering::Relaxed);
        was_cut.fetch_or(is_stopped, Ordering::Relaxed);
        is_stopped
    };
    // Where the bytes end too early, the database is given up in good order.
    let read = context.interruptible(async { Ok(feed.read(catalog, id, object, |_| {}, is_stopped).await?) });
    let (read, prepared) = tokio::join!(read, prepare);
    bar.finish_and_clear();
    match (read, prepared) {
        (Ok(()), prepared) => prepared,
        // Either of them ends the other.
        (Err(read), Err(prepared)) => Err(if was_cut.load(Ordering::Relaxed) { prepared } else { read }),
        (Err(read), Ok(prepared)) => {
            prepared.remove().await?;
            Err(read)
        }
    }
}

/// Tells what somebody has to know.
pub(super) fn tell(event: Event<'_>) {
    if let Event::LeftBehind { database } = event {
        warn(format_args!("the unfinished database `{database}` could not be dropped; the next restore does it"));
    }
}

/// What is in an object, for the restore.
async fn dump(object: &StoredObject, id: &BackupId, pieces: Pieces) -> Result<Dump<Pieces>, Failure> {
    let name = PathBuf::from(format!("{} of {id}", object.name));
    if object.format == ObjectFormat::Plain {
        return Ok(Dump::Script { input: pieces, name });
    }
    let opening = tokio::task::spawn_blocking(move || ArchiveReader::new(pieces));
    match opening.await.context("reading was cancelled")? {
        Ok(reader) => Ok(Dump::Archive { reader: Box::new(reader), name }),
        Err(source) => Err(pgmig_core::Error::from(ArchiveError::Read { path: name, source }).into()),
    }
}
