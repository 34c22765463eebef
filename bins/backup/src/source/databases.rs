//! The databases of a source, each into an object of a backup.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use storage_backends::{DumpFormat, Manifest, NewBackup, Verification};
use terminal::{progress, step, warn};

use super::dump::VerifiedDump;
use super::postgresql::Session;
use super::{pg_dump, row_counts};
use crate::commands::Context;
use crate::config::PostgresqlSource;
use crate::failure::Failure;

/// The databases of a source, open and locked.
pub(crate) struct Databases<'a> {
    source: &'a PostgresqlSource,
    pg_dump_version: String,
    /// With the time of each one's snapshot.
    sessions: Vec<(Session, DateTime<Utc>)>,
}

impl<'a> Databases<'a> {
    /// Connects to all of them before the first is dumped, so that they are dumped as they were at moments that are close
    /// to each other.
    ///
    /// # Errors
    ///
    /// One cannot be reached or read, is being backed up, or is too new for `pg_dump`.
    pub(crate) async fn open(source: &'a PostgresqlSource, now: fn() -> DateTime<Utc>) -> Result<Self, Failure> {
        let (major, pg_dump_version) = pg_dump::version(source).await?;
        let mut sessions = Vec::new();
        for database in &source.databases {
            let session = Session::open(database, source.profile.as_ref()).await?;
            if major < session.major_version() {
                let message = format!(
                    "pg_dump {pg_dump_version} cannot dump the database `{}`: its server is {}",
                    database.database, session.server_version
                );
                let hint = "install PostgreSQL's client programs of that version, and name its pg_dump with `pg-dump`";
                return Err(Failure::new(message, hint));
            }
            sessions.push((session, now()));
        }
        Ok(Self { source, pg_dump_version, sessions })
    }

    /// Dumps and verifies all of them, and publishes the backup.
    ///
    /// # Errors
    ///
    /// One of them cannot be dumped, stored or proven to be whole; or somebody asked us to end. Then there is no backup.
    pub(crate) async fn back_up(
        self,
        context: &Context,
        mut backup: NewBackup,
        mut manifest: Manifest,
    ) -> Result<Manifest, Failure> {
        manifest.versions.insert("pg_dump".into(), self.pg_dump_version);
        let mut moments = Vec::new();
        for (session, moment) in self.sessions {
            moments.push(format!("`{}` at {}", session.database.database, moment.format("%F %T%.3f UTC")));
            manifest.versions.insert("server".into(), session.server_version.clone());
            manifest.schema_version = manifest.schema_version.or(session.schema_version.clone());
            manifest.tenants.extend_from_slice(&session.tenants);
            back_up(context, self.source, session, &mut backup).await?;
        }
        manifest.consistency = Some(format!("each database is as it was at one moment: {}", moments.join(", ")));
        manifest.finished = (context.now)();
        let what = match self.source.format {
            Some(DumpFormat::Plain) => {
                "every statement was read up to the closing line, the rows of each table are as many as it had at that \
                 moment, digests taken; pg_dump ended with status 0"
            }
            _ => "every block was decoded, rows counted, digests taken; pg_dump ended with status 0",
        };
        manifest.verification = Some(Verification::new(manifest.finished, what));
        Ok(backup.publish(manifest).await?)
    }
}

/// One database, into an object of the backup.
async fn back_up(
    context: &Context,
    source: &PostgresqlSource,
    session: Session,
    backup: &mut NewBackup,
) -> Result<(), Failure> {
    let database = session.database.clone();
    step(format_args!("dumping the database `{}` of {}", database.database, database.host));
    let mut object = backup.object(&object_name(&database.database, source.format)).await?;
    let bar = progress::unknown_bytes();
    let dump = async {
        let progress = |bytes| bar.set_position(bytes);
        let dump = pg_dump::dump(source, &database, &session.snapshot, &mut object, progress).await?;
        if let VerifiedDump::Script(script) = &dump {
            bar.finish_and_clear();
            step(format_args!("counting the rows of the database `{}`", database.database));
            row_counts::compare(&session, script).await?;
        }
        Ok(dump)
    };
    let dumped = context.interruptible(dump).await;
    bar.finish_and_clear();
    session.close().await;
    match dumped {
        Ok(dump) => {
            let object = backup.add(object).await?;
            object.format = source.format;
            object.tables = dump.tables();
            Ok(())
        }
        Err(failure) => {
            // What is left of it is no backup, and goes by a later run.
            if let Err(e) = object.abort().await {
                warn(e);
            }
            Err(failure)
        }
    }
}

/// The name of a database can be anything; that of an object cannot.
fn object_name(database: &str, format: Option<DumpFormat>) -> String {
    let mut name = String::new();
    for c in database.bytes() {
        match c {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => name.push(char::from(c)),
            other => {
                let _ = write!(name, "%{other:02X}");
            }
        }
    }
    name + match format {
        Some(DumpFormat::Plain) => ".backup.sql",
        _ => ".dump",
    }
}
