//! Statements of the one transaction, each with the words for its failure.

use std::time::Duration;

use postgres_types::{FromSqlOwned, ToSql};
use tokio_postgres::{Row, Transaction};

use crate::error::DatabaseError;
use crate::plan::EventTriggers;

/// The transaction.
pub(super) struct Session<'a> {
    transaction: &'a Transaction<'a>,
}

impl<'a> Session<'a> {
    pub(super) fn new(transaction: &'a Transaction<'a>) -> Self {
        Self { transaction }
    }

    /// Settings for the time of the transaction.
    pub(super) async fn prepare(&self, server_version: i32, lock_timeout: Duration) -> Result<(), DatabaseError> {
        let mut settings = vec![
            // Operators and functions are the system's, whatever a schema in the target holds.
            "search_path = pg_catalog, pg_temp".to_owned(),
            format!("lock_timeout = '{}ms'", lock_timeout.as_millis()),
            // A large table may take hours.
            "statement_timeout = 0".to_owned(),
            "idle_in_transaction_session_timeout = 0".to_owned(),
            // Rows that a policy hides would stay, and be missing from every count: an error instead.
            "row_security = off".to_owned(),
            // As pg_dump sets them when it writes the values.
            "datestyle = 'ISO'".to_owned(),
            "intervalstyle = 'postgres'".to_owned(),
            "xmloption = content".to_owned(),
        ];
        if server_version >= 140_000 {
            // When we die, a statement that runs for long ends soon after.
            settings.push("client_connection_check_interval = '5s'".to_owned());
        }
        if server_version >= 170_000 {
            settings.push("transaction_timeout = 0".to_owned());
        }
        let sql: String = settings.iter().map(|setting| format!("set local {setting};\n")).collect();
        self.run("set up the session", &sql).await
    }

    /// The transaction itself.
    pub(super) fn transaction(&self) -> &'a Transaction<'a> {
        self.transaction
    }

    /// Keeps event triggers from firing, or lets them again.
    pub(super) async fn quiet(&self, how: EventTriggers, quiet: bool) -> Result<(), DatabaseError> {
        let sql = match (how, quiet) {
            (EventTriggers::None, _) => return Ok(()),
            (EventTriggers::Off, true) => "set local event_triggers = off",
            (EventTriggers::Off, false) => "set local event_triggers = on",
            (EventTriggers::Replica, true) => "set local session_replication_role = replica",
            (EventTriggers::Replica, false) => "set local session_replication_role = origin",
        };
        self.run("keep event triggers from firing", sql).await
    }

    pub(super) async fn run(&self, doing: &str, sql: &str) -> Result<(), DatabaseError> {
        self.transaction.batch_execute(sql).await.map_err(|e| DatabaseError::new(doing, e))
    }

    pub(super) async fn query(
        &self,
        doing: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, DatabaseError> {
        self.transaction.query(sql, parameters).await.map_err(|e| DatabaseError::new(doing, e))
    }

    pub(super) async fn row(&self, doing: &str, sql: &str) -> Result<Row, DatabaseError> {
        self.transaction.query_one(sql, &[]).await.map_err(|e| DatabaseError::new(doing, e))
    }

    pub(super) async fn value<T: FromSqlOwned>(&self, doing: &str, sql: &str) -> Result<T, DatabaseError> {
        self.row(doing, sql).await?.try_get(0).map_err(|e| DatabaseError::new(doing, e))
    }
}
