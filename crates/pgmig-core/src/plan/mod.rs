//! The plan: everything that a restore will do, known before it does anything.

mod erase;
mod large_objects;
mod layout;
mod work;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde::Serialize;
use tokio_postgres::GenericClient;

pub use self::erase::PlannedErase;
use self::erase::plan_erase;
pub use self::large_objects::PlannedLargeObjects;
pub(crate) use self::large_objects::erased_large_objects_sql;
use self::large_objects::{large_object_columns, plan_large_objects};
use self::layout::{
    Layout, Load, affected_tables, constraints_of, event_triggers, of_tables, plan_sequences, sequences_of_kept_rows,
};
use self::work::counted_tables;
pub(crate) use self::work::{EventTriggers, Reading, SetAside, Work};
use crate::archive::{Archive, SequenceState};
use crate::error::{DatabaseError, Error, Fault, Faults};
use crate::id_columns::{self, IdColumn, Schema};
use crate::instance_id::InstanceId;
use crate::mapping::{Mapping, ProvisionedInstance};
use crate::names::{ColumnName, TableName};
use crate::profile::Profile;
use crate::remap::{Fate, IdMap};
use crate::summary::{ArchiveSummary, summarize};
use crate::survey::{Stray, Survey, refuse_strays, survey};
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
    /// Tables that the archive defines without rows, as `--exclude-table-data` makes
    /// it. An empty table is no such one.
    pub without_data: Vec<TableName>,
    /// Tables that the profile leaves to the target, and those of extensions.
    pub kept_in_target: Vec<TableName>,
    /// Tables that only the target has and that hold no tenant's data. They stay as they are.
    pub only_in_target: Vec<TableName>,
    /// Values in ID columns that are no ID of the archive's tenants. They stay as they are.
    pub unknown_ids: Vec<UnknownIds>,
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
    /// Of these, rows that name a tenant too that is restored.
    pub rows_left_out_shared: u64,
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

/// Values in an ID column that are no ID of the archive's tenants.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct UnknownIds {
    /// The column.
    pub column: ColumnName,
    /// How many values.
    pub count: u64,
    /// One of them.
    pub example: String,
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
    /// of tables and columns at once. When the profile names no table that lists tenants.
    pub async fn make(
        archive: &mut Archive,
        client: &impl GenericClient,
        target: &Target,
        profile: &Profile,
        mut mapping: Mapping,
        options: &PlanOptions,
        progress: impl FnMut(u64),
    ) -> Result<Self, Error> {
        profile.expect_tenants("restore into an existing database")?;
        let contents = archive.shared_contents();
        let catalog = &target.catalog;
        add_spare(&mut mapping, target);
        let id_columns = id_columns::find(&Schema::of_both(&contents, catalog), profile, &options.remap_also)?;
        let layout = Layout::fit(&contents, catalog, profile, &id_columns)?;
        let ids = id_map(&mapping);
        let summary = summarize(archive, profile)?;
        let found = survey(archive, &id_columns, &ids, progress)?;

        let target_ids = id_columns::find(&Schema::of_target(catalog), profile, &[])?;
        let kept = kept_tenants(target, &mapping);
        let erase =
            plan_erase(client, catalog, profile, &layout, &target_ids, &target.tenants, &mapping, &kept).await?;
        let large_object_columns = large_object_columns(catalog);
        let large_objects = plan_large_objects(client, catalog, &found, &erase, &large_object_columns).await?;
        let affected = affected_tables(catalog, &layout);
        let sequences = plan_sequences(&contents, catalog, profile)?;
        let tables: Vec<_> = layout.loads.iter().map(|load| planned_table(load, &found, &ids)).collect();
        let sequences_of_kept_rows = sequences_of_kept_rows(catalog, &erase);
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
            without_data: layout.without_data.clone(),
            kept_in_target: layout.kept_in_target.clone(),
            only_in_target: layout.only_in_target.clone(),
            unknown_ids: layout.loads.iter().flat_map(|load| unknown_ids(load, &found)).collect(),
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
                catalog: catalog.fingerprint(),
                event_triggers: event_triggers(catalog)?,
                sequences_of_kept_rows,
                triggers: of_tables(&affected, &catalog.triggers, |trigger| trigger.table),
                large_object_columns,
                gone: gone_ids(mapping.mapped.iter().map(|pair| &pair.source.id), &mapping, &kept),
                gone_owners: gone_ids(mapping.left_out.iter().map(|tenant| &tenant.id), &mapping, &kept),
                tenant_list: tenant_list(&layout, profile),
                kept,
                counted,
            },
            mapping,
            id_columns,
        };
        plan.warnings = warnings(&plan, target);
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
        refuse_strays(&self.strays)
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

/// Of `sources`, those that are not IDs of the target too: they must be in no ID column afterwards.
fn gone_ids<'a>(
    sources: impl Iterator<Item = &'a InstanceId>,
    mapping: &Mapping,
    kept: &[InstanceId],
) -> Vec<InstanceId> {
    let targets: HashSet<_> = mapping.mapped.iter().map(|pair| &pair.target.id).chain(kept).collect();
    sources.filter(|id| !targets.contains(id)).cloned().collect()
}

/// Adds the live tenants that only the target's own list has: another owner's
/// instances, perhaps, which the Resource Controller shows to nobody else.
fn add_spare(mapping: &mut Mapping, target: &Target) {
    for tenant in target.tenants.iter().filter(|tenant| tenant.is_live()) {
        let mapped = mapping.mapped.iter().any(|pair| pair.target.id == tenant.id);
        if !mapped && !mapping.spare.iter().any(|spare| spare.id == tenant.id) {
            let (id, name) = (tenant.id.clone(), tenant.name.clone());
            mapping.spare.push(ProvisionedInstance { id, name, internal: false });
        }
    }
}

/// The column of the target that lists the tenants, when the archive has rows for it.
fn tenant_list(layout: &Layout<'_>, profile: &Profile) -> Option<ColumnName> {
    let tenants = profile.tenants.as_ref()?;
    let load = layout.loads.iter().find(|load| tenants.table.matches(&load.source.table))?;
    Some(load.destination.name.column(tenants.id.clone()))
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
        rows_left_out_shared: survey.left_out_shared,
        ids: survey.ids,
        rows_by_tenant: survey.rows_by_tenant.iter().map(|(&id, &rows)| (ids.id(id).to_string(), rows)).collect(),
        rows_without_tenant: survey.rows_without_tenant,
    }
}

fn unknown_ids<'a>(load: &'a Load<'_>, found: &'a Survey) -> impl Iterator<Item = UnknownIds> + 'a {
    found.tables[load.index].unknown.iter().filter_map(|(&place, (count, example))| {
        let column = load.source.table.column(load.source.columns.get(place)?.clone());
        Some(UnknownIds { column, count: *count, example: example.clone() })
    })
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

fn warnings(plan: &Plan, target: &Target) -> Vec<String> {
    let mut warnings = Vec::new();
    let (ours, theirs) = (&plan.archive.schema_version, &target.schema_version);
    if let (Some(ours), Some(theirs)) = (ours, theirs)
        && ours != theirs
    {
        warnings.push(format!(
            "the archive has schema version {ours}, the target {theirs}; the rows are restored as they are"
        ));
    }
    warnings.extend(plan.mapping.left_out_warnings());
    for table in plan.tables.iter().filter(|table| table.rows_left_out_shared > 0) {
        let (rows, name) = (table.rows_left_out_shared, &table.table);
        warnings.push(format!("{rows} of the rows of {name} that are left out name a tenant too that is restored"));
    }
    for table in &plan.without_data {
        let erased = plan.erase.iter().any(|erase| erase.table == *table);
        let outcome = if erased { "the restore leaves it empty" } else { "they stay as the target has them" };
        warnings.push(format!("the dump leaves the rows of {table} out: {outcome}"));
    }
    for unknown in &plan.unknown_ids {
        let UnknownIds { column, count, example } = unknown;
        warnings.push(format!(
            "{column} has {count} values that are no ID of the archive's tenants and stay, such as {example}"
        ));
    }
    for spare in &plan.mapping.spare {
        let name = spare.name.as_deref().unwrap_or("(no name)");
        warnings.push(format!("instance {} ({name}) of the target takes no data; what it has is erased", spare.id));
    }
    warnings
}
