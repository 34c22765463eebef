//! A session with a database while it is dumped: it keeps other runs away, and holds the moment that is dumped.

use pgmig_core::connection::{Connection, TargetConfig};
use pgmig_core::profile::Profile;
use pgmig_core::target::Target;

use crate::failure::{Failure, Status};

/// What our advisory lock is known by in each database; the letters of `backup`.
const LOCK: i64 = 0x6261_636b_7570;

/// A session that is open until the dump is done. When it ends, however that comes, so does its lock.
pub(crate) struct Session {
    pub(crate) database: TargetConfig,
    /// What `pg_dump --snapshot` is given, so that it sees what the session sees.
    pub(crate) snapshot: String,
    /// What the server says of its version.
    pub(crate) server_version: String,
    /// The version of the product's schema, where it is known.
    pub(crate) schema_version: Option<String>,
    /// The IDs of the product's tenants, where they are known.
    pub(crate) tenants: Vec<String>,
    connection: Connection,
}

impl Session {
    /// Locks, and takes a snapshot.
    ///
    /// # Errors
    ///
    /// The database cannot be read, or another run holds the lock.
    pub(crate) async fn open(
        connection: Connection,
        database: &TargetConfig,
        profile: Option<&Profile>,
    ) -> Result<Self, Failure> {
        let failed = |e: tokio_postgres::Error, what: &str| {
            Failure::from(e).context(format!("cannot {what} in the database `{}`", database.database))
        };
        lock(&connection, database).await?;
        let client = &connection.client;
        let begin = client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await;
        begin.map_err(|e| failed(e, "begin a transaction"))?;
        let row = client.query_one("SELECT pg_export_snapshot(), current_setting('server_version')", &[]).await;
        let row = row.map_err(|e| failed(e, "export a snapshot"))?;
        let (snapshot, server_version) = (row.get(0), row.get(1));
        let target = match profile {
            Some(profile) => {
                let target = Target::read(client, profile).await;
                // Its own hint is for who restores.
                let hint =
                    "check `database` of the source, or leave out its `profile` if that is no database of the product";
                Some(target.map_err(|e| {
                    let what =
                        format!("cannot read the tenants of `{}`, which its `profile` promises", database.database);
                    Failure::from(e).context(what).with_hint(hint)
                })?)
            }
            None => None,
        };
        let (schema_version, tenants) = match target {
            Some(target) => {
                (target.schema_version, target.tenants.iter().map(|tenant| tenant.id.to_string()).collect())
            }
            None => (None, Vec::new()),
        };
        Ok(Self { database: database.clone(), snapshot, server_version, schema_version, tenants, connection })
    }

    /// The major version of the server.
    pub(crate) fn major_version(&self) -> u32 {
        u32::try_from(self.connection.server_version / 10_000).unwrap_or(0)
    }

    /// To ask what the snapshot sees.
    pub(crate) fn client(&self) -> &tokio_postgres::Client {
        &self.connection.client
    }

    /// Ends it.
    pub(crate) async fn close(self) {
        self.connection.close().await;
    }
}

/// Keeps other runs away from the database, until the session ends.
async fn lock(connection: &Connection, database: &TargetConfig) -> Result<(), Failure> {
    let client = &connection.client;
    let failed = |e: tokio_postgres::Error| {
        Failure::from(e).context(format!("cannot take the lock of backups in the database `{}`", database.database))
    };
    // For whoever asks the server who holds it.
    client.batch_execute("SET application_name = 'backup'").await.map_err(failed)?;
    let row = client.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK]).await.map_err(failed)?;
    if row.get(0) {
        return Ok(());
    }
    // Who may not see the sessions of others is told less.
    let holder = "SELECT format('process %s of the server, begun %s', a.pid, a.backend_start) FROM pg_locks l \
                  JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 \
                  AND (l.classid::bigint << 32) | l.objid::bigint = $1 \
                  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let holder: Option<String> =
        client.query_opt(holder, &[&LOCK]).await.ok().flatten().and_then(|row| row.try_get(0).ok());
    let holder = holder.map_or(String::new(), |holder| format!(" ({holder})"));
    let message = format!("another run makes a backup of the database `{}`{holder}", database.database);
    let hint = "wait until it has ended; the lock goes with its session, however that ends";
    Err(Failure::new(message, hint).with_status(Status::Locked))
}
