//! What is erased in the target, and whose rows are whose there.

use serde::Serialize;
use tokio_postgres::GenericClient;

use super::layout::Layout;
use crate::catalog::{Catalog, ForeignKey, Table};
use crate::error::{DatabaseError, Error};
use crate::id_columns::{IdColumn, IdForm};
use crate::id_sql::names_one_of;
use crate::instance_id::InstanceId;
use crate::mapping::Mapping;
use crate::names::{TableName, quote_always, sql_table};
use crate::profile::Profile;
use crate::tenant::Tenant;

/// A table of the target whose rows are erased.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct PlannedErase {
    /// The table; of partitioned ones, each partition.
    pub table: TableName,
    /// Rows in it now.
    pub rows: u64,
    /// Rows that stay, since they are an internal tenant's.
    pub rows_kept: u64,
    /// Rows that are a tenant's data. What all tenants share does not count, and of
    /// the list of tenants only those that no tenant of the archive is mapped to.
    pub tenant_rows: u64,
    /// The condition, on the alias `t`, of the rows that stay.
    #[serde(skip)]
    pub(crate) kept: Option<String>,
    #[serde(skip)]
    pub(crate) counted_as: Option<String>,
}

impl PlannedErase {
    /// Rows that are erased.
    pub fn rows_to_erase(&self) -> u64 {
        self.rows - self.rows_kept
    }

    pub(crate) fn count_sql(&self) -> String {
        let filter = |condition: &Option<String>| match condition {
            Some(condition) => format!("count(*) filter (where {condition})"),
            None => "0::int8".to_owned(),
        };
        let (kept, counted) = (filter(&self.kept), filter(&self.counted_as));
        format!("select count(*), {kept}, {counted} from only {} as t", sql_table(&self.table))
    }
}

#[expect(clippy::too_many_arguments, reason = "each is another part of what the plan knows")]
pub(super) async fn plan_erase(
    client: &impl GenericClient,
    catalog: &Catalog,
    profile: &Profile,
    layout: &Layout<'_>,
    target_ids: &[IdColumn],
    tenants: &[Tenant],
    mapping: &Mapping,
    kept: &[InstanceId],
) -> Result<Vec<PlannedErase>, Error> {
    let erased = tenants.iter().map(|tenant| &tenant.id).filter(|id| !kept.contains(id)).collect();
    let ownership = Ownership { catalog, target_ids, kept, erased };
    let spare: Vec<&InstanceId> = mapping.spare.iter().map(|spare| &spare.id).collect();
    let mut erase = Vec::new();
    for table in &layout.erased {
        let listing = catalog.ancestry(table).any(|above| profile.lists_tenants(&above.name));
        let mut planned = PlannedErase {
            table: table.name.clone(),
            rows: 0,
            rows_kept: 0,
            tenant_rows: 0,
            kept: ownership.kept_rows(table, "t", &mut Vec::new()),
            counted_as: if listing {
                // Rows in the list that the archive's will replace are no loss; others are.
                let id = ownership.id_columns(table).find(|id| profile.is_tenant_id(&id.column.column));
                id.filter(|_| !spare.is_empty()).map(|id| names_one_of("t", id, &spare))
            } else {
                ownership.tenant_rows(table)
            },
        };
        if planned.counted_as.is_none() && !listing && layout.without_data.contains(&table.name) {
            // What all tenants share and the archive has no rows of stays.
            continue;
        }
        let row = client.query_one(&planned.count_sql(), &[]).await;
        let row = row.map_err(|e| DatabaseError::new(format!("count the rows of {}", table.name), e))?;
        let count = |column: usize| row.get::<_, i64>(column).unsigned_abs();
        (planned.rows, planned.rows_kept, planned.tenant_rows) = (count(0), count(1), count(2));
        erase.push(planned);
    }
    erase.sort_by(|a, b| a.table.cmp(&b.table));
    Ok(erase)
}

/// Whose rows are whose in the target.
struct Ownership<'a> {
    catalog: &'a Catalog,
    target_ids: &'a [IdColumn],
    /// The tenants whose rows stay.
    kept: &'a [InstanceId],
    /// The tenants whose rows do not.
    erased: Vec<&'a InstanceId>,
}

impl Ownership<'_> {
    fn id_columns<'s>(&'s self, table: &'s Table) -> impl Iterator<Item = &'s IdColumn> {
        self.target_ids.iter().filter(|id| id.column.table == table.name && id.owns_rows && id.form != IdForm::Anywhere)
    }

    /// The foreign keys by which a row of `table` belongs to another row. Those of
    /// a partitioned table count for its partitions.
    fn parents<'s>(&'s self, table: &'s Table) -> impl Iterator<Item = (&'s ForeignKey, &'s Table)> {
        let keys = self
            .catalog
            .ancestry(table)
            .flat_map(|above| self.catalog.foreign_keys.iter().filter(move |key| key.constraint.table == above.oid));
        keys.filter_map(|key| Some((key, self.catalog.table_by_oid(key.referenced_table)?)))
    }

    /// The condition of the rows that stay. A table with ID columns says itself
    /// whose its rows are; in any other, a row goes with the rows that it refers to.
    fn kept_rows(&self, table: &Table, alias: &str, path: &mut Vec<u32>) -> Option<String> {
        if self.kept.is_empty() || path.contains(&table.oid) {
            return None;
        }
        let kept: Vec<_> = self.kept.iter().collect();
        let names =
            |ids: &[&InstanceId]| -> Vec<_> { self.id_columns(table).map(|id| names_one_of(alias, id, ids)).collect() };
        let mut conditions = names(&kept);
        if !conditions.is_empty() && !self.erased.is_empty() {
            // A row that names both goes: what it is about of the other one is gone.
            let (kept, erased) = (conditions.join(" or "), names(&self.erased).join(" or "));
            return Some(format!("(({kept}) and ({erased}) is not true)"));
        }
        if conditions.is_empty() {
            path.push(table.oid);
            for (key, parent) in self.parents(table) {
                let inner = format!("p{}", path.len());
                let Some(condition) = self.kept_rows(parent, &inner, path) else { continue };
                let join = key.columns.iter().zip(&key.referenced_columns).map(|(column, referenced)| {
                    format!("{inner}.{} = {alias}.{}", quote_always(referenced), quote_always(column))
                });
                let join = join.collect::<Vec<_>>().join(" and ");
                conditions.push(format!(
                    "exists (select from {} as {inner} where {join} and {condition})",
                    sql_table(&parent.name)
                ));
            }
            path.pop();
        }
        (!conditions.is_empty()).then(|| format!("({})", conditions.join(" or ")))
    }

    /// The condition of the rows that are a tenant's data and do not stay.
    fn tenant_rows(&self, table: &Table) -> Option<String> {
        let columns: Vec<_> =
            self.id_columns(table).map(|id| format!("t.{} is not null", quote_always(&id.column.column))).collect();
        let owned = if columns.is_empty() {
            self.refers_to_tenants(table, &mut Vec::new()).then(|| "true".to_owned())?
        } else {
            format!("({})", columns.join(" or "))
        };
        Some(match self.kept_rows(table, "t", &mut Vec::new()) {
            Some(kept) => format!("{owned} and {kept} is not true"),
            None => owned,
        })
    }

    /// Whether rows of `table` refer to rows with IDs, perhaps through others.
    fn refers_to_tenants(&self, table: &Table, path: &mut Vec<u32>) -> bool {
        if path.contains(&table.oid) {
            return false;
        }
        path.push(table.oid);
        let refers = self.id_columns(table).next().is_some()
            || self.parents(table).any(|(_, parent)| self.refers_to_tenants(parent, path));
        path.pop();
        refers
    }
}
