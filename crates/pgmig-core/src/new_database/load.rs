//! Executing the dump's statements and sending its rows.

use std::collections::HashSet;
use std::io::Read;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, CopyInSink};

use super::feed::{self, Answer, CopyTable, Piece, Place, Statement, Wanted};
use super::{Dump, Event, Owners, expect_roles, sql};
use crate::archive::ArchiveTable;
use crate::catalog::Catalog;
use crate::error::{DatabaseError, Error, Faults};
use crate::id_columns::{IdColumn, Schema};
use crate::names::{TableName, quote_always, sql_columns, sql_literal};
use crate::survey::{Stray, TableSurvey};

/// What was loaded.
pub(super) struct Loaded {
    /// A table is there twice when its rows came in two parts.
    pub(super) tables: Vec<(ArchiveTable, TableSurvey)>,
    pub(super) id_columns: Arc<Vec<IdColumn>>,
    pub(super) strays: Vec<Stray>,
    pub(super) statements: u64,
    pub(super) warnings: Vec<String>,
}

pub(super) async fn load<R: Read + Send + 'static>(
    dump: Dump<R>,
    client: &Client,
    owners: Option<&Owners<'_>>,
    wanted: Wanted,
    roles: &HashSet<String>,
    observe: &mut impl FnMut(Event<'_>),
) -> Result<Loaded, Error> {
    // The last commit, which gives the database its name, is synchronous, and takes with it whatever came before.
    let prepared = client.batch_execute("SET synchronous_commit = off").await;
    prepared.map_err(|e| DatabaseError::new("prepare the session", e))?;
    let (mut pieces, answers) = feed::start(dump, wanted);
    let mut session = Session { client, roles, removals_passed_over: 0 };
    let mut id_columns: Option<Arc<Vec<IdColumn>>> = None;
    let mut copy: Option<Copy> = None;
    while let Some(piece) = pieces.recv().await {
        match (piece?, &mut copy) {
            (Piece::Statement(statement), _) => session.execute(&statement).await?,
            (Piece::Table(wanted), _) => {
                let table = session.table(&wanted).await?;
                let id_columns = match &id_columns {
                    Some(known) => known.clone(),
                    // All tables are there before the first row.
                    None => id_columns.insert(Arc::new(session.id_columns(owners).await?)).clone(),
                };
                let begun = Copy::begin(client, &wanted, table.clone()).await?;
                copy = Some(begun);
                // Nobody takes it when reading has failed, of which the next piece tells.
                let _ = answers.send(Answer { table, id_columns });
            }
            (Piece::Rows(bytes, count), Some(copy)) => {
                copy.send(bytes, count).await?;
                observe(Event::Rows { table: &copy.table, sent: copy.rows });
            }
            (Piece::TableEnd, _) => {
                if let Some(copy) = copy.take() {
                    copy.end().await?;
                }
            }
            (Piece::End(found), _) => {
                let mut warnings = Vec::new();
                if session.removals_passed_over > 0 {
                    warnings.push(format!(
                        "{} statements remove what is not in a new database, and were passed over",
                        session.removals_passed_over
                    ));
                }
                return Ok(Loaded {
                    tables: found.tables,
                    id_columns: id_columns.unwrap_or_default(),
                    strays: found
                        .strays
                        .into_iter()
                        .map(|(place, (count, example))| Stray { place, count, example })
                        .collect(),
                    statements: found.statements,
                    warnings,
                });
            }
            // The feed sends rows within tables only.
            (Piece::Rows(..), None) => {}
        }
    }
    // Without this what did come would be taken for all.
    Err(Faults::one("cannot read the dump", "the thread that reads it ended early").into())
}

struct Session<'a> {
    client: &'a Client,
    /// Those that the server has.
    roles: &'a HashSet<String>,
    removals_passed_over: u64,
}

impl Session<'_> {
    async fn execute(&mut self, statement: &Statement) -> Result<(), Error> {
        let Statement { sql, place } = statement;
        let Err(e) = self.client.batch_execute(sql).await else { return Ok(()) };
        if e.code() == Some(&SqlState::UNDEFINED_OBJECT) {
            let missing = sql::roles(sql).into_iter().filter(|role| !self.roles.contains(role)).collect();
            expect_roles(&missing, &format!("execute {place}"))?;
        }
        // `pg_dump --clean` without `--if-exists` removes what is not there.
        if sql::is_removal(sql) && e.code().is_some_and(is_missing) {
            self.removals_passed_over += 1;
            return Ok(());
        }
        Err(DatabaseError::new(format!("execute {place}"), e).into())
    }

    /// The table that a COPY is for.
    async fn table(&self, wanted: &CopyTable) -> Result<TableName, Error> {
        if let Some(schema) = &wanted.schema {
            return Ok(TableName::new(schema.clone(), wanted.table.clone()));
        }
        let sql = "select n.nspname from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                    where c.oid = pg_catalog.to_regclass($1)";
        let row = self.client.query_opt(sql, &[&quote_always(&wanted.table)]).await;
        match row.map_err(|e| DatabaseError::new(format!("find the table of {}", wanted.place), e))? {
            Some(row) => Ok(TableName::new(row.get::<_, String>(0), wanted.table.clone())),
            None => {
                let text = format!("there is no table for {}", wanted.place);
                Err(Faults::one("cannot restore this dump", text)
                    .with_hint("take the dump again, with its schema")
                    .into())
            }
        }
    }

    async fn id_columns(&self, owners: Option<&Owners<'_>>) -> Result<Vec<IdColumn>, Error> {
        let Some(owners) = owners else { return Ok(Vec::new()) };
        let failed = |e| DatabaseError::new("read the tables that were made", e);
        // Reading the catalog changes these, and the dump's statements count on theirs.
        let settings = "select pg_catalog.current_setting('search_path'), pg_catalog.current_setting('lock_timeout')";
        let row = self.client.query_one(settings, &[]).await.map_err(failed)?;
        let catalog = Catalog::read(self.client).await?;
        let back =
            "select pg_catalog.set_config('search_path', $1, false), pg_catalog.set_config('lock_timeout', $2, false)";
        let (path, timeout): (String, String) = (row.get(0), row.get(1));
        self.client.query_one(back, &[&path, &timeout]).await.map_err(failed)?;
        Ok(owners.id_columns(&Schema::of_target(&catalog))?)
    }
}

/// Whether the server says that there is no such thing.
fn is_missing(code: &SqlState) -> bool {
    [
        SqlState::UNDEFINED_OBJECT,
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_FUNCTION,
        SqlState::UNDEFINED_COLUMN,
        SqlState::INVALID_SCHEMA_NAME,
    ]
    .contains(code)
}

/// The COPY of one table.
struct Copy {
    table: TableName,
    place: Place,
    sink: Pin<Box<CopyInSink<Bytes>>>,
    rows: u64,
}

impl Copy {
    async fn begin(client: &Client, wanted: &CopyTable, table: TableName) -> Result<Self, DatabaseError> {
        // A table without columns takes no list of them.
        let columns =
            if wanted.columns.is_empty() { String::new() } else { format!(" ({})", sql_columns(&wanted.columns)) };
        let name = match &wanted.schema {
            Some(schema) => format!("{}.{}", quote_always(schema), quote_always(&wanted.table)),
            None => quote_always(&wanted.table),
        };
        let sql =
            format!("copy {name}{columns} from stdin with (format text, encoding {})", sql_literal(&wanted.encoding));
        let place = wanted.place.clone();
        let sink = client.copy_in(&sql).await.map_err(|e| DatabaseError::new(doing(&table, &place), e))?;
        Ok(Self { table, place, sink: Box::pin(sink), rows: 0 })
    }

    async fn send(&mut self, bytes: Bytes, count: u64) -> Result<(), DatabaseError> {
        self.rows += count;
        if let Err(closed) = self.sink.send(bytes).await {
            // The reason for which the server stopped listening comes with the end.
            let error = self.sink.as_mut().finish().await.err().unwrap_or(closed);
            return Err(DatabaseError::new(doing(&self.table, &self.place), error));
        }
        Ok(())
    }

    async fn end(mut self) -> Result<(), Error> {
        let taken = self.sink.as_mut().finish().await;
        let taken = taken.map_err(|e| DatabaseError::new(doing(&self.table, &self.place), e))?;
        if taken != self.rows {
            let text = format!("{} rows were sent for {}, and the server took {taken}", self.rows, self.table);
            return Err(Faults::one("the rows do not agree", text).with_hint(super::verify::HINT).into());
        }
        Ok(())
    }
}

fn doing(table: &TableName, place: &Place) -> String {
    match place.line {
        Some(line) => format!("load the rows of {table}, which begin behind line {line} of the script"),
        None => format!("load the rows of {table}"),
    }
}
