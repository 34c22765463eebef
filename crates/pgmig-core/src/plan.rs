//! The plan: everything that a restore will do, known before it does anything.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;
use tokio_postgres::GenericClient;

use crate::archive::{Archive, ArchiveTable, Contents, SequenceState};
use crate::catalog::{Catalog, ColumnKind, Constraint, Table, Trigger};
use crate::error::{DatabaseError, Error, Fault, Faults};
use crate::id_columns::{self, IdColumn, IdForm, Schema};
use crate::id_sql::names_one_of;
use crate::instance_id::InstanceId;
use crate::mapping::Mapping;
use crate::names::{ColumnName, TableName, quote_always, sql_table};
use crate::profile::Profile;
use crate::remap::{Fate, IdMap};
use crate::summary::{ArchiveSummary, summarize};
use crate::survey::{Stray, StrayPlace, Survey, survey};
use crate::target::Target;
use crate::tenant::TenantState;

/// What a restore will do. Making it reads the archive to its end and changes
/// nothing; [`restore`](crate::restore::restore) does what it says and nothing else.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// The version of this structure's JSON form; 1.
    pub version: u32,
    /// The archive.
    pub archive: ArchiveSummary,
    /// `server_version_num` of the target.
    pub target_server_version: i32,
    /// The version of the target's schema.
    pub target_schema_version: Option<String>,
    /// The profile's name.
    pub profile: String,
    /// Which tenant becomes which.
    pub mapping: Mapping,
    /// Where IDs are replaced.
    pub id_columns: Vec<IdColumn>,
    /// The tables that are restored, in the archive's order.
    pub tables: Vec<PlannedTable>,
    /// The tables of the target whose rows are erased first.
    pub erase: Vec<PlannedErase>,
    /// The large objects.
    pub large_objects: PlannedLargeObjects,
    /// The values that sequences get.
    pub sequences: Vec<SequenceState>,
    /// The materialized views that are refreshed, in this order.
    pub materialized_views: Vec<TableName>,
    /// Tables that the profile leaves to the target.
    pub kept_in_target: Vec<TableName>,
    /// Tables that only the target has and that hold no tenant's data. They stay as they are.
    pub only_in_target: Vec<TableName>,
    /// Source IDs in places that the profile does not name.
    pub strays: Vec<Stray>,
    /// What a user should know besides.
    pub warnings: Vec<String>,
    #[serde(skip)]
    pub(crate) work: Work,
}

/// A table that is restored.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct PlannedTable {
    /// The table in the archive.
    pub table: TableName,
    /// The table that its rows go to: the partitioned one when new IDs move rows
    /// to other partitions.
    pub destination: TableName,
    /// The columns, in the order of the archive's fields.
    pub columns: Vec<String>,
    /// Rows in the archive.
    pub rows: u64,
    /// Bytes of COPY text in the archive.
    pub bytes: u64,
    /// Rows that are left out, since they name a tenant that is.
    pub rows_left_out: u64,
    /// IDs in ID columns.
    pub ids: u64,
    /// Rows by the tenant whose ID is the first in them.
    pub rows_by_tenant: BTreeMap<String, u64>,
    /// Rows of a table with ID columns that name no tenant which the archive lists.
    pub rows_without_tenant: u64,
}

impl PlannedTable {
    /// Rows that go to the target.
    pub fn rows_to_load(&self) -> u64 {
        self.rows - self.rows_left_out
    }
}

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
    /// Rows that are a tenant's data. The list of tenants itself does not count,
    /// nor does what all tenants share.
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

/// What happens to large objects.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct PlannedLargeObjects {
    /// In the archive.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of the target, those that are erased: rows that are erased refer to them,
    /// or the archive has one with the same OID.
    pub erased: u64,
    /// Their OIDs in the archive.
    #[serde(skip)]
    pub(crate) oids: Vec<u32>,
}

/// What acting on the plan needs and nobody wants to read.
#[derive(Debug)]
pub(crate) struct Work {
    /// What the thread that reads the archive works with.
    pub(crate) reading: Arc<Reading>,
    /// Every table that is locked, partitioned ones included.
    pub(crate) locks: Vec<TableName>,
    /// Each table with rows, at the top of its partitions, and whether it is partitioned.
    pub(crate) counted: Vec<CountedTable>,
    pub(crate) constraints: Vec<(TableName, Constraint)>,
    pub(crate) triggers: Vec<(TableName, Trigger)>,
    /// The columns of erased tables that refer to large objects.
    pub(crate) large_object_columns: Vec<ColumnName>,
    /// IDs that must be in no ID column of the target afterwards.
    pub(crate) gone: Vec<InstanceId>,
}

/// A table whose rows are counted before the commit.
#[derive(Debug)]
pub(crate) struct CountedTable {
    pub(crate) table: TableName,
    pub(crate) partitioned: bool,
    /// Rows that must be there.
    pub(crate) rows: u64,
    /// Its ID columns.
    pub(crate) id_columns: Vec<IdColumn>,
}

/// How rows are read and remapped.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) encoding: Option<String>,
    pub(crate) ids: IdMap,
    pub(crate) id_columns: Vec<IdColumn>,
    /// The tables that are restored, in the order of [`Plan::tables`].
    pub(crate) tables: Vec<ArchiveTable>,
}

/// What a user may ask of a plan.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PlanOptions {
    /// Columns in which IDs are replaced anywhere in the text.
    pub remap_also: Vec<ColumnName>,
}

impl Plan {
    /// Makes the plan: compares the archive with the target, reads the archive to
    /// its end, counts what would be erased. Changes nothing.
    ///
    /// `progress` is called with the position in the archive.
    ///
    /// # Errors
    ///
    /// When the archive is damaged, or does not fit the target; every difference
    /// of tables and columns at once.
    pub async fn make(
        archive: &mut Archive,
        client: &impl GenericClient,
        target: &Target,
        profile: &Profile,
        mapping: Mapping,
        options: &PlanOptions,
        progress: impl FnMut(u64),
    ) -> Result<Self, Error> {
        let contents = archive.contents().clone();
        let catalog = &target.catalog;
        let id_columns = id_columns::find(&Schema::of_both(&contents, catalog), profile, &options.remap_also)?;
        let layout = Layout::fit(&contents, catalog, profile, &id_columns)?;
        let ids = id_map(&mapping);
        let summary = summarize(archive, profile)?;
        let found = survey(archive, &id_columns, &ids, progress)?;

        let target_ids = id_columns::find(&Schema::of_target(catalog), profile, &[])?;
        let kept = kept_tenants(target, &mapping);
        let erase = plan_erase(client, catalog, profile, &layout, &target_ids, &kept).await?;
        let large_object_columns = large_object_columns(catalog, &erase);
        let large_objects = plan_large_objects(client, &found, &erase, &large_object_columns).await?;
        let affected = affected_tables(catalog, &layout);
        let sequences = plan_sequences(&contents, catalog, profile)?;
        let tables: Vec<_> = layout.loads.iter().map(|load| planned_table(load, &found, &ids)).collect();
        let counted = counted_tables(catalog, &layout, &id_columns, &tables, &erase);
        let mut plan = Self {
            version: 1,
            archive: summary,
            target_server_version: catalog.server_version,
            target_schema_version: target.schema_version.clone(),
            profile: profile.name.clone(),
            tables,
            erase,
            large_objects,
            sequences,
            materialized_views: catalog.materialized_views.clone(),
            kept_in_target: layout.kept_in_target.clone(),
            only_in_target: layout.only_in_target.clone(),
            strays: found.strays.iter().filter(|stray| !layout.is_kept(&stray.place)).cloned().collect(),
            warnings: Vec::new(),
            work: Work {
                reading: Arc::new(Reading {
                    encoding: contents.encoding.clone(),
                    ids,
                    id_columns: id_columns.clone(),
                    tables: layout.loads.iter().map(|load| load.source.clone()).collect(),
                }),
                locks: affected.iter().map(|table| table.name.clone()).collect(),
                constraints: constraints_of(catalog, &affected),
                triggers: of_tables(&affected, &catalog.triggers, |trigger| trigger.table),
                large_object_columns,
                gone: gone_ids(&mapping, &kept),
                counted,
            },
            mapping,
            id_columns,
        };
        plan.warnings = warnings(&plan, target, &found);
        plan.warnings.extend(other_sessions(client).await?);
        Ok(plan)
    }

    /// The tables of the target that hold tenants' data, with the rows of it.
    /// A restore over such data needs the user's word.
    pub fn tenant_data_in_target(&self) -> impl Iterator<Item = (&TableName, u64)> {
        self.erase.iter().filter(|erase| erase.tenant_rows > 0).map(|erase| (&erase.table, erase.tenant_rows))
    }

    /// Refuses strays. A caller whose user said to ignore them leaves this out.
    ///
    /// # Errors
    ///
    /// When there are strays; they are all listed.
    pub fn expect_no_strays(&self) -> Result<(), Faults> {
        if self.strays.is_empty() {
            return Ok(());
        }
        let fault = |stray: &Stray| {
            let unit = match stray.place {
                StrayPlace::Column(_) => "rows",
                StrayPlace::LargeObjects => "objects",
            };
            Fault::new(format!("{}, {} {unit}, such as: {}", stray.place, stray.count, stray.example))
        };
        let columns = self.strays.iter().filter(|stray| matches!(stray.place, StrayPlace::Column(_)));
        let remap: Vec<_> = columns.map(|stray| format!("--remap-also '{}'", stray.place)).collect();
        let remap =
            if remap.is_empty() { String::new() } else { format!("replace them with {}, or ", remap.join(" ")) };
        let hint = format!("{remap}leave them as they are with --ignore-strays");
        let context = "source IDs are in places that the profile does not name";
        Err(Faults::new(context, self.strays.iter().map(fault).collect()).with_hint(hint))
    }

    /// Refuses a target that holds tenants' data. A caller whose user said to
    /// erase it leaves this out.
    ///
    /// # Errors
    ///
    /// When the target holds tenants' data; what would be erased is listed.
    pub fn expect_empty_target(&self) -> Result<(), Faults> {
        let mut faults: Vec<_> =
            self.tenant_data_in_target().map(|(table, rows)| Fault::new(format!("{table}, {rows} rows"))).collect();
        if self.large_objects.erased > 0 {
            faults.push(Fault::new(format!("{} large objects", self.large_objects.erased)));
        }
        if faults.is_empty() {
            return Ok(());
        }
        let hint = "take a backup of the target first; --force erases this data";
        Err(Faults::new("the target holds tenants' data that the restore would erase", faults).with_hint(hint))
    }
}

/// How the archive's tables fit the target's.
struct Layout<'a> {
    loads: Vec<Load<'a>>,
    /// The tables of the target whose rows are erased.
    erased: Vec<&'a Table>,
    kept_in_target: Vec<TableName>,
    only_in_target: Vec<TableName>,
}

struct Load<'a> {
    index: usize,
    source: &'a ArchiveTable,
    destination: &'a Table,
}

impl<'a> Layout<'a> {
    fn fit(
        contents: &'a Contents,
        catalog: &'a Catalog,
        profile: &Profile,
        id_columns: &[IdColumn],
    ) -> Result<Self, Faults> {
        let is_kept = |table: &TableName| profile.keep_in_target.iter().any(|pattern| pattern.matches(table));
        let (mut faults, mut loads, mut kept) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (index, source) in contents.tables.iter().enumerate() {
            if is_kept(&source.table) {
                kept.insert(source.table.clone());
                continue;
            }
            match catalog.table(&source.copy_into) {
                None => faults.push(Fault::new(format!("the target has no table {}", source.copy_into))),
                Some(table) => {
                    faults.extend(column_differences(source, table));
                    loads.push(Load { index, source, destination: destination(catalog, table, source, id_columns) });
                }
            }
        }
        kept.extend(catalog.tables.iter().filter(|table| is_kept(&table.name)).map(|table| table.name.clone()));

        // What is erased: all partitions of every table that gets rows, and the
        // tables that the archive has without rows.
        let known = contents.defined_tables.iter().filter_map(|name| catalog.table(name));
        let roots = loads.iter().map(|load| load.destination).chain(known).filter(|table| !is_kept(&table.name));
        let erased: BTreeMap<u32, &Table> = roots
            .flat_map(|table| catalog.leaves(catalog.ancestry(table).last().unwrap_or(table)))
            .map(|table| (table.oid, table))
            .collect();

        let others = catalog
            .tables
            .iter()
            .filter(|table| !table.partitioned && !erased.contains_key(&table.oid) && !is_kept(&table.name));
        let target_ids = id_columns::find(&Schema::of_target(catalog), profile, &[])?;
        let mut only_in_target = Vec::new();
        for table in others {
            if target_ids.iter().any(|id| id.column.table == table.name) {
                faults.push(Fault::new(format!(
                    "the archive has no table {}, in which the target has instance IDs",
                    table.name
                )));
            } else {
                only_in_target.push(table.name.clone());
            }
        }
        if faults.is_empty() {
            let kept_in_target = kept.into_iter().collect();
            return Ok(Self { loads, erased: erased.into_values().collect(), kept_in_target, only_in_target });
        }
        let hint = "restore into an installation of the version that the dump was taken from";
        Err(Faults::new("the tables of the archive and of the target differ", faults).with_hint(hint))
    }

    fn is_kept(&self, place: &StrayPlace) -> bool {
        matches!(place, StrayPlace::Column(column) if self.kept_in_target.contains(&column.table))
    }
}

fn column_differences(source: &ArchiveTable, table: &Table) -> Vec<Fault> {
    let mut faults = Vec::new();
    for column in &source.columns {
        match table.column(column) {
            None => {
                faults.push(Fault::new(format!("{} has no column {} in the target", table.name, quote_always(column))));
            }
            Some(found) if found.generated => {
                let name = table.name.column(column.clone());
                faults.push(Fault::new(format!("{name} is computed by the target, but the archive has values for it")));
            }
            Some(_) => {}
        }
    }
    for column in &table.columns {
        if !source.columns.contains(&column.name) && !column.may_be_omitted && !column.generated {
            let name = table.name.column(column.name.clone());
            faults.push(Fault::new(format!("{name} of the target has no values in the archive and no default")));
        }
    }
    faults
}

/// The table that takes the rows: the partitioned one at the top when the
/// partition of a row may depend on an ID, or on something that cannot be told.
fn destination<'a>(
    catalog: &'a Catalog,
    table: &'a Table,
    source: &ArchiveTable,
    id_columns: &[IdColumn],
) -> &'a Table {
    let holds_ids =
        |column: &String| id_columns.iter().any(|id| id.column.table == source.table && id.column.column == *column);
    let may_move = catalog
        .ancestry(table)
        .skip(1)
        .any(|above| above.partitioned_by_expression || above.partition_key.iter().any(holds_ids));
    if may_move { catalog.ancestry(table).last().unwrap_or(table) } else { table }
}

fn id_map(mapping: &Mapping) -> IdMap {
    let mapped = mapping.mapped.iter().map(|pair| (pair.source.id.clone(), Fate::Becomes(pair.target.id.clone())));
    let left_out = mapping.left_out.iter().map(|tenant| (tenant.id.clone(), Fate::LeftOut));
    IdMap::new(mapped.chain(left_out).collect())
}

/// The target's internal tenants that no source is mapped to: the product's own
/// rows, which the archive's internal tenants must not replace.
fn kept_tenants(target: &Target, mapping: &Mapping) -> Vec<InstanceId> {
    let internal = target.tenants.iter().filter(|tenant| tenant.state == TenantState::Internal);
    let is_target = |id: &InstanceId| mapping.mapped.iter().any(|pair| pair.target.id == *id);
    internal.map(|tenant| tenant.id.clone()).filter(|id| !is_target(id)).collect()
}

/// Source IDs that must be in no ID column afterwards: those that are not target IDs too.
fn gone_ids(mapping: &Mapping, kept: &[InstanceId]) -> Vec<InstanceId> {
    let sources =
        mapping.mapped.iter().map(|pair| &pair.source.id).chain(mapping.left_out.iter().map(|tenant| &tenant.id));
    let targets: HashSet<_> = mapping.mapped.iter().map(|pair| &pair.target.id).chain(kept).collect();
    sources.filter(|id| !targets.contains(id)).cloned().collect()
}

async fn plan_erase(
    client: &impl GenericClient,
    catalog: &Catalog,
    profile: &Profile,
    layout: &Layout<'_>,
    target_ids: &[IdColumn],
    kept: &[InstanceId],
) -> Result<Vec<PlannedErase>, Error> {
    let ownership = Ownership { catalog, target_ids, kept };
    let mut erase = Vec::new();
    for table in &layout.erased {
        let listing = catalog.ancestry(table).any(|above| profile.tenants.table.matches(&above.name));
        let mut planned = PlannedErase {
            table: table.name.clone(),
            rows: 0,
            rows_kept: 0,
            tenant_rows: 0,
            kept: ownership.kept_rows(table, "t", &mut Vec::new()),
            counted_as: if listing { None } else { ownership.tenant_rows(table) },
        };
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
}

impl Ownership<'_> {
    fn id_columns<'s>(&'s self, table: &'s Table) -> impl Iterator<Item = &'s IdColumn> {
        self.target_ids.iter().filter(|id| id.column.table == table.name && id.form != IdForm::Anywhere)
    }

    /// The foreign keys by which a row of `table` belongs to another row. Those of
    /// a partitioned table count for its partitions.
    fn parents<'s>(&'s self, table: &'s Table) -> impl Iterator<Item = (&'s crate::catalog::ForeignKey, &'s Table)> {
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
        let mut conditions: Vec<_> = self.id_columns(table).map(|id| names_one_of(alias, id, &kept)).collect();
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

fn large_object_columns(catalog: &Catalog, erase: &[PlannedErase]) -> Vec<ColumnName> {
    let tables = erase.iter().filter_map(|erase| catalog.table(&erase.table));
    tables
        .flat_map(|table| {
            let columns = table.columns.iter().filter(|column| column.kind == ColumnKind::LargeObject);
            columns.map(|column| table.name.column(column.name.clone()))
        })
        .collect()
}

async fn plan_large_objects(
    client: &impl GenericClient,
    found: &Survey,
    erase: &[PlannedErase],
    columns: &[ColumnName],
) -> Result<PlannedLargeObjects, Error> {
    let oids = found.large_object_oids.clone();
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

/// The OIDs of the target's large objects that are erased; `$1` are the archive's.
pub(crate) fn erased_large_objects_sql(erase: &[PlannedErase], columns: &[ColumnName]) -> String {
    let mut erased = String::from("select unnest($1::oid[]) as oid");
    let mut kept = String::new();
    for column in columns {
        let Some(planned) = erase.iter().find(|erase| erase.table == column.table) else { continue };
        let (name, table) = (quote_always(&column.column), sql_table(&column.table));
        erased.push_str(&format!(" union select t.{name}::oid from only {table} as t"));
        if let Some(condition) = &planned.kept {
            kept.push_str(&format!(" except select t.{name}::oid from only {table} as t where {condition}"));
        }
    }
    format!(
        "select m.oid from pg_largeobject_metadata as m where m.oid in (select oid from ({erased}) as erased{kept})"
    )
}

/// The tables that are erased or loaded, and the partitioned ones above them.
fn affected_tables<'a>(catalog: &'a Catalog, layout: &Layout<'a>) -> Vec<&'a Table> {
    let loaded = layout.loads.iter().map(|load| load.destination);
    let all = layout.erased.iter().copied().chain(loaded).flat_map(|table| catalog.ancestry(table));
    // By OID, so that two runs lock in the same order.
    all.map(|table| (table.oid, table)).collect::<BTreeMap<_, _>>().into_values().collect()
}

/// The constraints that would be in the way: foreign keys from or to an affected
/// table, and those that were never checked against the rows that are there.
fn constraints_of(catalog: &Catalog, affected: &[&Table]) -> Vec<(TableName, Constraint)> {
    let oids: HashSet<u32> = affected.iter().map(|table| table.oid).collect();
    let keys = catalog.foreign_keys.iter();
    let keys = keys.filter(|key| oids.contains(&key.constraint.table) || oids.contains(&key.referenced_table));
    let unvalidated = catalog.unvalidated.iter().filter(|constraint| oids.contains(&constraint.table));
    let constraints = keys.map(|key| &key.constraint).chain(unvalidated);
    constraints
        .filter_map(|constraint| Some((catalog.table_by_oid(constraint.table)?.name.clone(), constraint.clone())))
        .collect()
}

fn of_tables<T: Clone>(tables: &[&Table], all: &[T], table_of: impl Fn(&T) -> u32) -> Vec<(TableName, T)> {
    let names: HashMap<u32, &TableName> = tables.iter().map(|table| (table.oid, &table.name)).collect();
    all.iter().filter_map(|item| Some(((*names.get(&table_of(item))?).clone(), item.clone()))).collect()
}

fn plan_sequences(contents: &Contents, catalog: &Catalog, profile: &Profile) -> Result<Vec<SequenceState>, Faults> {
    let mut sequences = Vec::new();
    let mut faults = Vec::new();
    for state in &contents.sequences {
        let Some(found) = catalog.sequences.iter().find(|sequence| sequence.name == state.sequence) else {
            faults.push(Fault::new(format!("the target has no sequence {}", state.sequence)));
            continue;
        };
        let owner = found.owner.and_then(|oid| catalog.table_by_oid(oid));
        let kept = owner.is_some_and(|table| profile.keep_in_target.iter().any(|pattern| pattern.matches(&table.name)));
        if !kept {
            sequences.push(state.clone());
        }
    }
    if faults.is_empty() {
        return Ok(sequences);
    }
    let hint = "restore into an installation of the version that the dump was taken from";
    Err(Faults::new("the sequences of the archive and of the target differ", faults).with_hint(hint))
}

/// The tables whose rows are counted: those at the top, since rows may have moved
/// between partitions.
fn counted_tables(
    catalog: &Catalog,
    layout: &Layout<'_>,
    id_columns: &[IdColumn],
    tables: &[PlannedTable],
    erase: &[PlannedErase],
) -> Vec<CountedTable> {
    let mut counted: BTreeMap<u32, CountedTable> = BTreeMap::new();
    let mut entry = |name: &TableName, rows: u64, ids: Vec<IdColumn>| {
        let Some(top) = catalog.table(name).and_then(|table| catalog.ancestry(table).last()) else { return };
        let new =
            || CountedTable { table: top.name.clone(), partitioned: top.partitioned, rows: 0, id_columns: Vec::new() };
        let counted = counted.entry(top.oid).or_insert_with(new);
        counted.rows += rows;
        for id in ids {
            let column = top.name.column(id.column.column.clone());
            if !counted.id_columns.iter().any(|other| other.column == column && other.form == id.form) {
                counted.id_columns.push(IdColumn { column, ..id });
            }
        }
    };
    for erase in erase {
        entry(&erase.table, erase.rows_kept, Vec::new());
    }
    for (load, planned) in layout.loads.iter().zip(tables) {
        let ids = id_columns.iter().filter(|id| id.column.table == load.source.table).cloned().collect();
        entry(&load.destination.name, planned.rows_to_load(), ids);
    }
    counted.into_values().collect()
}

fn planned_table(load: &Load<'_>, found: &Survey, ids: &IdMap) -> PlannedTable {
    let survey = &found.tables[load.index];
    PlannedTable {
        table: load.source.table.clone(),
        destination: load.destination.name.clone(),
        columns: load.source.columns.clone(),
        rows: survey.rows,
        bytes: survey.bytes,
        rows_left_out: survey.left_out,
        ids: survey.ids,
        rows_by_tenant: survey.rows_by_tenant.iter().map(|(&id, &rows)| (ids.id(id).to_string(), rows)).collect(),
        rows_without_tenant: survey.rows_without_tenant,
    }
}

/// Sessions of others in the target's database: a store that was not stopped.
async fn other_sessions(client: &impl GenericClient) -> Result<Option<String>, DatabaseError> {
    let sql = "select count(*), string_agg(distinct coalesce(nullif(application_name, ''), usename), ', ')
                 from pg_stat_activity
                where datname = current_database() and pid <> pg_backend_pid() and usename is not null";
    let row = client.query_one(sql, &[]).await.map_err(|e| DatabaseError::new("look for other sessions", e))?;
    let (count, names): (i64, Option<String>) = (row.get(0), row.get(1));
    let names = names.unwrap_or_default();
    let text = format!(
        "{count} other sessions use the target's database ({names}); scale the store deployment down to 0 replicas"
    );
    Ok((count > 0).then_some(text))
}

fn warnings(plan: &Plan, target: &Target, found: &Survey) -> Vec<String> {
    let mut warnings = Vec::new();
    let (ours, theirs) = (&plan.archive.schema_version, &target.schema_version);
    if let (Some(ours), Some(theirs)) = (ours, theirs)
        && ours != theirs
    {
        warnings.push(format!(
            "the archive has schema version {ours}, the target {theirs}; the rows are restored as they are"
        ));
    }
    for tenant in &plan.mapping.left_out {
        let state = if tenant.state == TenantState::Deleted { "deleted" } else { "internal" };
        warnings.push(format!(
            "tenant {} ({}) is {state} and not mapped: its rows are left out",
            tenant.id,
            tenant.display_name()
        ));
    }
    let shared: u64 = found.tables.iter().map(|table| table.left_out_shared).sum();
    if shared > 0 {
        warnings.push(format!("{shared} of the rows that are left out name a tenant too that is restored"));
    }
    for table in plan.tables.iter().filter(|table| table.rows_without_tenant > 0) {
        let (rows, name) = (table.rows_without_tenant, &table.table);
        warnings.push(format!(
            "{rows} rows of {name} name no tenant that the archive lists; they are restored as they are"
        ));
    }
    for spare in &plan.mapping.spare {
        let name = spare.name.as_deref().unwrap_or("(no name)");
        warnings.push(format!("instance {} ({name}) of the target takes no data; what it has is erased", spare.id));
    }
    warnings
}
