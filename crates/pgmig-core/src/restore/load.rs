//! Streaming the archive's rows and large objects into the target.

use std::pin::Pin;
use std::time::Instant;

use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::{CopyInSink, Transaction};

use super::Event;
use super::feed::{self, Piece};
use super::large_objects::LargeObjectWriter;
use super::report::{Report, RestoredTable};
use crate::archive::Archive;
use crate::error::{DatabaseError, Error, Faults};
use crate::names::{sql_columns, sql_literal, sql_table};
use crate::plan::{Plan, PlannedTable};

pub(super) async fn load(
    plan: &Plan,
    archive: Archive,
    mut objects: LargeObjectWriter,
    transaction: &Transaction<'_>,
    report: &mut Report,
    observe: &mut impl FnMut(Event<'_>),
) -> Result<(), Error> {
    let mut pieces = feed::start(archive, plan.work.reading.clone());
    let mut copy: Option<Copy<'_>> = None;
    while let Some(piece) = pieces.recv().await {
        match (piece?, &mut copy) {
            (Piece::Table(index), _) => {
                copy =
                    Some(Copy::begin(&plan.tables[index], plan.work.reading.encoding.as_deref(), transaction).await?);
            }
            (Piece::Rows(bytes, count), Some(copy)) => {
                copy.send(bytes, count).await?;
                let (table, total) = (&copy.table.table, copy.table.rows_to_load());
                observe(Event::Rows { table, sent: copy.rows, total });
            }
            (Piece::TableEnd, _) => {
                if let Some(copy) = copy.take() {
                    report.tables.push(copy.end().await?);
                }
            }
            (Piece::Object(oid), _) => {
                objects.begin(oid, transaction).await?;
                report.large_objects += 1;
            }
            (Piece::ObjectBytes(bytes), _) => objects.append(&bytes, transaction).await?,
            (Piece::End, _) => return Ok(()),
            // The feed sends rows within tables only.
            (Piece::Rows(..), None) => {}
        }
    }
    // Without this the rows that did come would be taken for all.
    Err(Faults::one("cannot read the archive", "the thread that reads it ended early").into())
}

/// The COPY of one table.
struct Copy<'a> {
    table: &'a PlannedTable,
    sink: Pin<Box<CopyInSink<Bytes>>>,
    rows: u64,
    bytes: u64,
    started: Instant,
}

impl<'a> Copy<'a> {
    async fn begin(
        table: &'a PlannedTable,
        encoding: Option<&str>,
        transaction: &Transaction<'_>,
    ) -> Result<Self, DatabaseError> {
        // A table without columns takes no list of them.
        let columns =
            if table.columns.is_empty() { String::new() } else { format!(" ({})", sql_columns(&table.columns)) };
        // Said here and not by `client_encoding`: our own messages stay UTF-8.
        let encoding = encoding.map_or(String::new(), |name| format!(", encoding {}", sql_literal(name)));
        let sql = format!("copy {}{columns} from stdin with (format text{encoding})", sql_table(&table.destination));
        let sink = transaction.copy_in(&sql).await.map_err(|e| DatabaseError::new(doing(table), e))?;
        Ok(Self { table, sink: Box::pin(sink), rows: 0, bytes: 0, started: Instant::now() })
    }

    async fn send(&mut self, bytes: Bytes, count: u64) -> Result<(), DatabaseError> {
        self.rows += count;
        self.bytes += bytes.len() as u64;
        if let Err(closed) = self.sink.send(bytes).await {
            // The reason for which the server stopped listening comes with the end.
            let error = self.sink.as_mut().finish().await.err().unwrap_or(closed);
            return Err(DatabaseError::new(doing(self.table), error));
        }
        Ok(())
    }

    async fn end(mut self) -> Result<RestoredTable, Error> {
        let table = self.table;
        let taken = self.sink.as_mut().finish().await.map_err(|e| DatabaseError::new(doing(table), e))?;
        // The first pass counted the rows, this one did, and the server did.
        if taken != self.rows || self.rows != table.rows_to_load() {
            let text = format!(
                "{} rows were planned for {}, {} were sent, the server took {taken}",
                table.rows_to_load(),
                table.destination,
                self.rows
            );
            let hint =
                "was the archive changed while it was read? nothing was committed and the target is as it was before";
            return Err(Faults::one("the rows do not agree", text).with_hint(hint).into());
        }
        Ok(RestoredTable {
            table: table.table.clone(),
            destination: table.destination.clone(),
            rows: self.rows,
            rows_left_out: table.rows_left_out,
            ids: table.ids,
            bytes: self.bytes,
            seconds: self.started.elapsed().as_secs_f64(),
        })
    }
}

fn doing(table: &PlannedTable) -> String {
    format!("load rows into {}", table.destination)
}
