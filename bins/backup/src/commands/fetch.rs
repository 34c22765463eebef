//! `backup fetch`: a backup as a file.

use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use storage_backends::{BackupId, Catalog, Error, ErrorKind, Existing, Manifest, StoredObject};
use terminal::text::size;
use terminal::{OutputError, progress};

use super::Context;
use crate::catalog;
use crate::failure::Failure;
use crate::files;

/// The result in JSON.
#[derive(Serialize)]
struct Fetched<'a> {
    version: u32,
    job: &'a str,
    id: String,
    object: &'a StoredObject,
}

pub(crate) async fn run(
    context: &Context,
    name: &str,
    id: &str,
    to: &Path,
    object: Option<&str>,
) -> Result<(), Failure> {
    let is_stdout = to == Path::new("-");
    if is_stdout && context.is_json() {
        let message = "`--to -` and `--output json` cannot both have standard output";
        return Err(Failure::new(message, "give a file, or leave out `--output json`"));
    }
    let job = catalog::job(&context.config, name)?;
    let catalog = catalog::open(&context.config, &job, (context.now)()).await?;
    let (id, manifest) = catalog::find(&catalog.list().await?, &job, id, (context.now)())?;
    let object = one_of(&manifest, object)?;
    if is_stdout {
        return to_stdout(&catalog, &id, object).await;
    }
    to_file(&catalog, &id, object, to).await?;
    if context.is_json() {
        terminal::print_json(&Fetched { version: 1, job: name, id: id.to_string(), object })?;
    } else {
        let text =
            format!("{}: {} of {id}, {}, with the recorded digest\n", to.display(), object.name, size(object.bytes));
        terminal::print(&text)?;
    }
    Ok(())
}

pub(crate) fn one_of<'a>(manifest: &'a Manifest, name: Option<&str>) -> Result<&'a StoredObject, Failure> {
    let found = match (name, &manifest.objects[..]) {
        (None, [object]) => Some(object),
        (None, _) => None,
        (Some(name), objects) => objects.iter().find(|object| object.name == name),
    };
    found.ok_or_else(|| {
        let names: Vec<_> = manifest.objects.iter().map(|object| object.name.as_str()).collect();
        let hint = format!("name one of its objects with `--object`: {}", pgmig_core::config_file::list(&names));
        Failure::new(format!("which object of the backup `{}` is meant", manifest.id), hint)
    })
}

/// The file has its name when it is complete and has the digest that was recorded.
async fn to_file(catalog: &Catalog, id: &BackupId, object: &StoredObject, to: &Path) -> Result<(), Failure> {
    let mut file = files::stage(to, Existing::Keep)?;
    let bar = progress::bytes(object.plaintext.as_ref().map_or(object.bytes, |plaintext| plaintext.bytes));
    let write = async |piece: bytes::Bytes| {
        bar.inc(piece.len() as u64);
        file.write_all(&piece).map_err(|e| cannot_write(&to.display().to_string(), &e))
    };
    let read = catalog.read(id, object, write).await;
    bar.finish_and_clear();
    match read {
        Ok(()) => Ok(file.publish().map_err(Error::from)?),
        Err(e) => {
            // What it leaves behind when this fails too has no name of a backup.
            let _ = file.abort();
            Err(e.into())
        }
    }
}

/// A reader of standard output knows by the exit status whether it has everything.
async fn to_stdout(catalog: &Catalog, id: &BackupId, object: &StoredObject) -> Result<(), Failure> {
    let mut out = io::stdout();
    let mut failed = None;
    let write = async |piece: bytes::Bytes| {
        out.write_all(&piece).map_err(|e| {
            let error = cannot_write("standard output", &e);
            failed = Some(OutputError(e));
            error
        })
    };
    let read = catalog.read(id, object, write).await;
    match (failed, read) {
        // Not a quiet success as for other output: whoever stopped reading has no backup.
        (Some(failed), _) => Err(Failure::new(failed.to_string(), "whoever reads it has to read it to its end")),
        (None, Err(e)) => {
            let context = "what was written to standard output must not be used";
            Err(Failure::from(e).context(context))
        }
        (None, Ok(())) => Ok(out.flush().context("cannot write to standard output")?),
    }
}

fn cannot_write(what: &str, error: &io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
        _ => ErrorKind::Other,
    };
    Error::new(kind, "write", what, error.to_string())
}
