//! A database that a dump is restored into to see that it can be, and that is dropped afterwards.

use std::process::Stdio;

use anyhow::Context as _;
use dumpfmt::VerifiedArchive;
use pgmig_core::connection::{self, Connection, TargetConfig};
use pgmig_core::encoding;
use pgmig_core::names::quote_always;
use storage_backends::{BackupId, Catalog, Error, ErrorKind, StoredObject};
use tokio::io::AsyncWriteExt as _;

use super::pg_dump::{self, last_lines};
use crate::commands::Context;
use crate::config::PostgresqlSource;
use crate::failure::Failure;

/// What the names of these databases begin with.
const PREFIX: &str = "backup_verify_";

/// Restores a dump into a new database of the source's server, compares its rows with what was counted, and drops it.
///
/// # Errors
///
/// It cannot be restored there, or has other rows.
pub(crate) async fn restore_and_compare(
    context: &Context,
    source: &PostgresqlSource,
    catalog: &Catalog,
    id: &BackupId,
    object: &StoredObject,
    archive: &VerifiedArchive,
) -> Result<(), Failure> {
    let first = source.databases.first().context("a source has a database")?;
    let server = TargetConfig { database: "postgres".to_owned(), ..first.clone() };
    let connection = connection::connect(&server).await?;
    let name = format!("{PREFIX}{}", uuid::Uuid::new_v4().simple());
    let result = async {
        create(&connection, &name, archive).await?;
        let database = TargetConfig { database: name.clone(), ..first.clone() };
        restore(source, &database, catalog, id, object).await?;
        compare(&database, archive).await
    };
    let result = context.interruptible(result).await;
    let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote_always(&name));
    let dropped = connection.client.batch_execute(&drop).await.map_err(|e| {
        let hint = "drop it by hand when the server is there again";
        Failure::from(e).context(format!("cannot drop the throw-away database `{name}`")).with_hint(hint)
    });
    connection.close().await;
    match (result, dropped) {
        (Ok(()), dropped) => dropped,
        (Err(failure), dropped) => {
            if let Err(also) = dropped {
                terminal::warn(also);
            }
            Err(failure)
        }
    }
}

async fn create(connection: &Connection, name: &str, archive: &VerifiedArchive) -> Result<(), Failure> {
    // A locale that every encoding fits; it orders rows, and changes none.
    let encoding = archive.toc.encoding().unwrap_or_else(|| "UTF8".to_owned()).replace('\'', "");
    let sql = format!(
        "CREATE DATABASE {} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'",
        quote_always(name)
    );
    connection.client.batch_execute(&sql).await.map_err(|e| {
        let hint = "the user of the source needs the right to create databases (CREATEDB)";
        Failure::from(e).context("cannot create a throw-away database").with_hint(hint)
    })
}

async fn restore(
    source: &PostgresqlSource,
    database: &TargetConfig,
    catalog: &Catalog,
    id: &BackupId,
    object: &StoredObject,
) -> Result<(), Failure> {
    let program = &source.pg_restore;
    let mut command = pg_dump::client(program, database);
    command.args(["--exit-on-error", "--no-owner", "--no-privileges", "--no-password", "--dbname", &database.database]);
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let child = command.spawn().with_context(|| format!("cannot run `{}`", program.display()));
    let mut child = child.map_err(|e| {
        let hint = "install PostgreSQL's client programs, or name the program with `pg-restore` in the configuration";
        Failure::from(e).with_hint(hint)
    })?;
    let complaints = tokio::spawn(last_lines(child.stderr.take().expect("it was asked for")));
    let mut stdin = child.stdin.take().expect("it was asked for");
    let mut is_stopped = false;
    let read = catalog.read(id, object, async |piece| {
        // It says itself why it has stopped reading.
        is_stopped = is_stopped || stdin.write_all(&piece).await.is_err();
        if is_stopped {
            Err(Error::new(ErrorKind::Other, "restore", &object.name, "pg_restore stopped reading"))
        } else {
            Ok(())
        }
    });
    let read = read.await;
    drop(stdin);
    let status = child.wait().await.context("cannot wait for pg_restore")?;
    let complaints = complaints.await.unwrap_or_default();
    if !status.success() {
        let message = format!("pg_restore ended with {status}, and said:\n  {}", complaints.join("\n  "));
        return Err(Failure::new(message, "see whether the server lacks what the dump needs, such as an extension"));
    }
    Ok(read?)
}

/// The rows of each table are those that were counted in the archive.
async fn compare(database: &TargetConfig, archive: &VerifiedArchive) -> Result<(), Failure> {
    let connection = connection::connect(database).await?;
    let encoding = archive.toc.encoding();
    for verified in &archive.entries {
        let (Some(entry), Some(rows)) = (archive.toc.get(verified.dump_id), verified.rows) else { continue };
        let text = |bytes| encoding::decode(encoding.as_deref(), bytes);
        let schema = entry.namespace().map(|schema| format!("{}.", quote_always(&text(schema)))).unwrap_or_default();
        let table = format!("{schema}{}", quote_always(&text(entry.tag())));
        let row = connection.client.query_one(&format!("SELECT count(*) FROM ONLY {table}"), &[]).await;
        let found: i64 = row.with_context(|| format!("cannot count the rows of {table}"))?.get(0);
        if u64::try_from(found) != Ok(rows) {
            let message = format!("the restored table {table} has {found} rows, and the archive {rows}");
            return Err(Failure::new(
                message,
                "a trigger or a rule may have changed them; look into the definition of the table",
            ));
        }
    }
    connection.close().await;
    Ok(())
}
