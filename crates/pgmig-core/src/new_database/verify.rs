//! Comparing the database with what was sent to it, before it gets its name.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::Owners;
use super::load::Loaded;
use crate::catalog::Catalog;
use crate::error::{DatabaseError, Error, Fault, Faults};
use crate::id_columns::{IdColumn, Schema};
use crate::id_sql::names_one_of;
use crate::instance_id::InstanceId;
use crate::names::{TableName, sql_table};

/// What to do about rows that are not what was sent.
pub(super) const HINT: &str =
    "a trigger, a rule or a policy of the dump may have changed them: look into the definition of the table";

/// Counts the rows of each table, and looks for IDs that should have been replaced. Returns how many rows there are.
pub(super) async fn verify(client: &Client, loaded: &Loaded, owners: Option<&Owners<'_>>) -> Result<u64, Error> {
    let catalog = Catalog::read(client).await?;
    let ready = client.batch_execute("SET row_security = off").await;
    ready.map_err(|e| DatabaseError::new("count the rows", e))?;
    if let Some(owners) = owners {
        expect_no_more_columns(&catalog, loaded, owners)?;
    }
    // An ID that is both stays in the data.
    let entries = owners.map_or(&[][..], |owners| owners.file.entries());
    let gone: Vec<&InstanceId> = entries
        .iter()
        .map(|entry| &entry.source)
        .filter(|source| entries.iter().all(|entry| entry.target != **source))
        .collect();
    let mut sent: BTreeMap<&TableName, u64> = BTreeMap::new();
    for (table, found) in &loaded.tables {
        *sent.entry(&table.table).or_default() += found.rows;
    }
    let mut faults = Vec::new();
    let mut total = 0;
    for (table, rows) in sent {
        // Rows of partitions may have been sent through the partitioned table. Those of children by inheritance are their own.
        let only = if catalog.table(table).is_some_and(|table| table.partitioned) { "" } else { "only " };
        let columns = loaded.id_columns.iter().filter(|id| id.column.table == *table && !gone.is_empty());
        let left: String =
            columns.clone().map(|id| format!(", count(*) filter (where {})", names_one_of("t", id, &gone))).collect();
        let sql = format!("select count(*){left} from {only}{} as t", sql_table(table));
        let row = client.query_one(&sql, &[]).await;
        let row = row.map_err(|e| DatabaseError::new(format!("count the rows of {table}"), e))?;
        let count = |column: usize| row.get::<_, i64>(column).unsigned_abs();
        if count(0) != rows {
            faults.push(Fault::new(format!("{table} has {} rows, and {rows} were sent", count(0))));
        }
        for (place, id) in columns.enumerate() {
            if count(place + 1) > 0 {
                let text = format!("{} has {} values that should have been replaced", id.column, count(place + 1));
                faults.push(Fault::new(text));
            }
        }
        total += count(0);
    }
    if faults.is_empty() {
        return Ok(total);
    }
    Err(Faults::new("the new database is not what was sent to it", faults).with_hint(HINT).into())
}

/// Foreign keys come after the rows, and can show that more columns hold IDs.
fn expect_no_more_columns(catalog: &Catalog, loaded: &Loaded, owners: &Owners<'_>) -> Result<(), Faults> {
    let found = owners.id_columns(&Schema::of_target(catalog))?;
    let known = |id: &IdColumn| loaded.id_columns.iter().any(|known| known.column == id.column);
    let is_loaded = |id: &IdColumn| loaded.tables.iter().any(|(table, _)| table.table == id.column.table);
    let more = found.iter().filter(|id| is_loaded(id) && !known(id));
    let faults: Vec<_> = more.map(|id| Fault::new(format!("{}, by {}", id.column, id.reason))).collect();
    if faults.is_empty() {
        return Ok(());
    }
    let hint = "name these columns in the profile, or set `follow-foreign-keys: false`";
    Err(Faults::new("more columns hold IDs than were known when the rows came", faults).with_hint(hint))
}
