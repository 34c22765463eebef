//! What stock `pg_restore` makes of an archive.

use std::path::Path;

use crate::{Fingerprint, Server, awkward};

/// A database into which stock `pg_restore` has restored an archive. It is dropped at the end.
#[derive(Debug)]
pub struct Restored {
    /// The server, one that tests share.
    pub server: &'static Server,
    /// The database.
    pub database: String,
}

impl Restored {
    /// Restores an archive into an empty database of this encoding, on the shared server of a version.
    ///
    /// # Panics
    ///
    /// When `pg_restore` tells of an error.
    pub fn new(major: u32, encoding: &str, archive: &Path) -> Self {
        Self::with(major, encoding, archive, &[])
    }

    /// The same with more arguments for `pg_restore`.
    ///
    /// # Panics
    ///
    /// As for [`new`](Self::new).
    pub fn with(major: u32, encoding: &str, archive: &Path, args: &[&str]) -> Self {
        let restored = Self::empty(major, encoding);
        restored.load(archive, args);
        restored
    }

    /// An empty database.
    pub fn empty(major: u32, encoding: &str) -> Self {
        let server = Server::shared(major);
        let database = awkward::unique("restored");
        server.create_database(&database, encoding);
        Self { server, database }
    }

    /// Restores one more archive into it.
    ///
    /// # Panics
    ///
    /// As for [`new`](Self::new).
    pub fn load(&self, archive: &Path, args: &[&str]) {
        self.server.tools().restore(self.server, &self.database, archive, args);
    }

    /// Runs SQL in it.
    #[track_caller]
    pub fn psql(&self, sql: &str) -> String {
        self.server.psql(&self.database, sql)
    }

    /// Everything in it.
    pub fn now(&self) -> Fingerprint {
        Fingerprint::of(self.server, &self.database)
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.server.drop_database(&self.database);
        }
    }
}
