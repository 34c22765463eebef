//! What happens to the large objects of the archive and of the target.

use serde::Serialize;
use tokio_postgres::GenericClient;

use super::erase::PlannedErase;
use crate::catalog::{Catalog, ColumnKind};
use crate::error::{DatabaseError, Error, Fault, Faults};
use crate::names::{ColumnName, quote_always, sql_table};
use crate::survey::Survey;

/// What happens to large objects.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct PlannedLargeObjects {
    /// In the archive.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of the target, those that are erased: only rows that are erased refer to them,
    /// or the archive has one with the same OID.
    pub erased: u64,
    /// Their OIDs in the archive.
    #[serde(skip)]
    pub(crate) oids: Vec<u32>,
}

/// The columns of the target that may refer to large objects, in tables that stay too.
pub(super) fn large_object_columns(catalog: &Catalog) -> Vec<ColumnName> {
    let tables = catalog.tables.iter().filter(|table| !table.partitioned);
    tables
        .flat_map(|table| {
            let columns = table.columns.iter().filter(|column| column.kind == ColumnKind::LargeObject);
            columns.map(|column| table.name.column(column.name.clone()))
        })
        .collect()
}

pub(super) async fn plan_large_objects(
    client: &impl GenericClient,
    catalog: &Catalog,
    found: &Survey,
    erase: &[PlannedErase],
    columns: &[ColumnName],
) -> Result<PlannedLargeObjects, Error> {
    let oids = found.large_object_oids.clone();
    expect_no_foreign_use(client, catalog, erase, &oids).await?;
    let sql = format!("select count(*) from ({}) as o", erased_large_objects_sql(erase, columns));
    let row = client.query_one(&sql, &[&oids]).await;
    let row = row.map_err(|e| DatabaseError::new("count the large objects of the target", e))?;
    Ok(PlannedLargeObjects {
        count: found.large_objects,
        bytes: found.large_object_bytes,
        erased: row.get::<_, i64>(0).unsigned_abs(),
        oids,
    })
}

/// Refuses when rows that stay refer to a large object that the archive has too: the
/// archive's would take its place.
async fn expect_no_foreign_use(
    client: &impl GenericClient,
    catalog: &Catalog,
    erase: &[PlannedErase],
    oids: &[u32],
) -> Result<(), Error> {
    let mut faults = Vec::new();
    for table in catalog.tables.iter().filter(|table| !table.partitioned && !oids.is_empty()) {
        let planned = erase.iter().find(|erase| erase.table == table.name);
        let stays = match planned.map(|planned| &planned.kept) {
            None => "true",
            Some(Some(condition)) => condition,
            Some(None) => continue,
        };
        for column in table.columns.iter().filter(|column| column.kind == ColumnKind::LargeObject) {
            let name = quote_always(&column.name);
            let sql = format!(
                "select count(*) from only {} as t join pg_largeobject_metadata as m on m.oid = t.{name}::oid
                  where m.oid in (select unnest($1::oid[])) and {stays}",
                sql_table(&table.name)
            );
            let doing = || format!("look for large objects that {} refers to", table.name);
            let row = client.query_one(&sql, &[&oids]).await.map_err(|e| DatabaseError::new(doing(), e))?;
            let count: i64 = row.get(0);
            if count > 0 {
                let name = table.name.column(column.name.clone());
                faults.push(Fault::new(format!(
                    "{name} refers in {count} rows that stay to large objects of the same OIDs"
                )));
            }
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    let hint = "give these rows large objects with other OIDs (`lo_from_bytea(0, lo_get(oid))`), then run the same command again";
    Err(Faults::new("the archive's large objects would replace others of the target", faults).with_hint(hint).into())
}

/// The OIDs of the target's large objects that are erased: no row that stays refers to
/// them. `$1` are the archive's.
pub(crate) fn erased_large_objects_sql(erase: &[PlannedErase], columns: &[ColumnName]) -> String {
    let mut erased = String::from("select unnest($1::oid[]) as oid");
    let mut kept = String::new();
    for column in columns {
        let (name, table) = (quote_always(&column.column), sql_table(&column.table));
        let Some(planned) = erase.iter().find(|erase| erase.table == column.table) else {
            kept.push_str(&format!(" except select t.{name}::oid from only {table} as t"));
            continue;
        };
        erased.push_str(&format!(" union select t.{name}::oid from only {table} as t"));
        if let Some(condition) = &planned.kept {
            kept.push_str(&format!(" except select t.{name}::oid from only {table} as t where {condition}"));
        }
    }
    format!(
        "select m.oid from pg_largeobject_metadata as m where m.oid in (select oid from ({erased}) as erased{kept})"
    )
}
