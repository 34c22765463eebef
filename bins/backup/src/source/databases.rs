//! The databases of a source, each into an object of a backup.

use chrono::{DateTime, Utc};
use pgmig_core::connection::{self, ErrorKind};
use storage_backends::{Manifest, NewBackup, ObjectFormat};
use terminal::{progress, step};

use super::connection::failure;
use super::dump::VerifiedDump;
use super::postgresql::Session;
use super::{abort, object_name, pg_dump, row_counts};
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
    /// to each other. With `absent`, those that are not there are named in it.
    ///
    /// # Errors
    ///
    /// One cannot be reached or read, is being backed up, or is too new for `pg_dump`.
    pub(super) async fn open(
        source: &'a PostgresqlSource,
        now: fn() -> DateTime<Utc>,
        mut absent: Option<&mut Vec<String>>,
    ) -> Result<Self, Failure> {
        let (major, pg_dump_version) = pg_dump::version(source).await?;
        let mut sessions = Vec::new();
        for database in &source.databases {
            let connection = match (connection::connect(database).await, &mut absent) {
                (Err(e), Some(absent)) if matches!(e.kind(), ErrorKind::NoSuchDatabase { .. }) => {
                    absent.push(format!("the database `{}`", database.database));
                    continue;
                }
                (connected, _) => connected.map_err(failure)?,
            };
            let session = Session::open(connection, database, source.profile.as_ref()).await?;
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

    /// Dumps and verifies all of them, and tells the moment of each.
    ///
    /// # Errors
    ///
    /// One of them cannot be dumped, stored or proven to be whole; or somebody asked us to end.
    pub(super) async fn back_up(
        self,
        context: &Context,
        backup: &mut NewBackup,
        manifest: &mut Manifest,
    ) -> Result<Vec<String>, Failure> {
        let mut moments = Vec::new();
        for (session, moment) in self.sessions {
            manifest.versions.insert("pg_dump".into(), self.pg_dump_version.clone());
            moments.push(format!("`{}` at {}", session.database.database, moment.format("%F %T%.3f UTC")));
            manifest.versions.insert("server".into(), session.server_version.clone());
            manifest.schema_version = manifest.schema_version.take().or(session.schema_version.clone());
            manifest.tenants.extend_from_slice(&session.tenants);
            back_up(context, self.source, session, backup).await?;
        }
        Ok(moments)
    }

    /// What is proven of each of them, for people.
    pub(super) fn proof(&self) -> &'static str {
        match self.source.format {
            ObjectFormat::Plain => {
                "every statement was read up to the closing line, the rows of each table are as many as it had at that moment, \
                 digests taken; pg_dump ended with status 0"
            }
            _ => "every block was decoded, rows counted, digests taken; pg_dump ended with status 0",
        }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
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
    let extension = if source.format == ObjectFormat::Plain { "backup.sql" } else { "dump" };
    let mut object = backup.object(&object_name(&database.database, extension)).await?;
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
            (object.format, object.origin) = (source.format, Some(database.database));
            object.tables = dump.tables();
            Ok(())
        }
        Err(failure) => {
            abort(object).await;
            Err(failure)
        }
    }
}
