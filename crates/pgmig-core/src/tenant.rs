//! Tenants: the service instances that a store holds data of.

use std::collections::HashSet;
use std::io::{Read, Seek};

use dumpfmt::{Block, Field, Row};
use serde::Serialize;

use crate::archive::{Archive, ArchiveTable, Contents};
use crate::encoding;
use crate::error::{Error, Fault, Faults};
use crate::instance_id::InstanceId;
use crate::profile::{Profile, TenantTable};

/// More tenants than any installation has; a store that lists more is not one.
const MOST_TENANTS: usize = 1_000_000;

/// A service instance as a store lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Tenant {
    /// Its ID.
    pub id: InstanceId,
    /// The name that users know. The test instance has none.
    pub name: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// Whether it counts in a restore.
    pub state: TenantState,
}

/// Whether a tenant counts in a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TenantState {
    /// It must be mapped.
    Live,
    /// Marked as deleted; may be left out.
    Deleted,
    /// Internal to the product; may be left out.
    Internal,
}

impl Tenant {
    pub(crate) fn new(
        id: InstanceId,
        name: Option<String>,
        region: Option<String>,
        deleted: bool,
        rules: &TenantTable,
    ) -> Self {
        let internal = region.as_ref().is_some_and(|region| rules.internal_regions.contains(region));
        let state = match (internal, deleted) {
            (true, _) => TenantState::Internal,
            (false, true) => TenantState::Deleted,
            (false, false) => TenantState::Live,
        };
        Self { id, name, region, state }
    }

    /// Whether the tenant must be mapped.
    pub fn is_live(&self) -> bool {
        self.state == TenantState::Live
    }

    /// The name for people: `Sales`, or `(no name)`.
    pub fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or("(no name)")
    }
}

/// The tenants that the archive lists, in its order.
///
/// # Errors
///
/// When the profile or the archive has no tenant table, or the archive has one without the columns that the
/// profile names, or cannot be read.
pub fn in_archive(archive: &mut Archive, profile: &Profile) -> Result<Vec<Tenant>, Error> {
    let contents = archive.shared_contents();
    let (table, mut list) = TenantList::of(&contents, profile)?;
    match read_rows(archive.reader(), table, &mut list) {
        Ok(Ok(())) => Ok(list.into_tenants()),
        Ok(Err(faults)) => Err(faults.into()),
        Err(source) => Err(archive.read_error(source).into()),
    }
}

fn read_rows<R: Read + Seek>(
    reader: &mut dumpfmt::ArchiveReader<R>,
    table: &ArchiveTable,
    list: &mut TenantList<'_>,
) -> dumpfmt::Result<Result<(), Faults>> {
    let Some(Block::Data(data)) = reader.block(table.dump_id)? else { return Ok(Ok(())) };
    let mut rows = data.rows();
    while let Some(row) = rows.next_row()? {
        if let Err(faults) = list.add(row) {
            return Ok(Err(faults));
        }
    }
    Ok(Ok(()))
}

/// The tenants, while the rows of their table are read.
pub(crate) struct TenantList<'a> {
    table: &'a ArchiveTable,
    rules: &'a TenantTable,
    encoding: Option<&'a str>,
    columns: TenantColumns,
    tenants: Vec<Tenant>,
    seen: HashSet<InstanceId>,
}

impl<'a> TenantList<'a> {
    /// The table that lists the tenants, and an empty list.
    pub(crate) fn of(contents: &'a Contents, profile: &'a Profile) -> Result<(&'a ArchiveTable, Self), Faults> {
        let rules = profile.expect_tenants("find the tenants of the archive")?;
        let mut candidates = contents.tables.iter().filter(|table| rules.table.matches(&table.table));
        let Some(table) = candidates.next() else {
            let message = format!(
                "the archive has no rows of a table `{}`, which the profile `{}` says lists the tenants",
                rules.table, profile.name
            );
            return Err(Faults::one("cannot find the tenants of the archive", message).with_hint(
                "check that this is a dump of the product's store, or give another profile with `--profile`",
            ));
        };
        if let Some(other) = candidates.next() {
            let message = format!(
                "both `{}` and `{}` are in the archive; name the schema in the profile",
                table.table, other.table
            );
            return Err(Faults::one("cannot find the tenants of the archive", message));
        }
        let columns = TenantColumns::of(table, rules)?;
        let encoding = contents.encoding.as_deref();
        Ok((table, Self { table, rules, encoding, columns, tenants: Vec::new(), seen: HashSet::new() }))
    }

    /// Adds the tenant of a row.
    pub(crate) fn add(&mut self, row: Row<'_>) -> Result<(), Faults> {
        let fault = |what: String| {
            Faults::one(format!("cannot read the tenants from `{}` of the archive", self.table.table), what)
        };
        let fields: Vec<Field<'_>> = row.fields().collect();
        let text = |column: Option<usize>| {
            let value = column.and_then(|column| fields.get(column)).and_then(Field::decode);
            value.map(|bytes| encoding::decode(self.encoding, &bytes))
        };
        let row_number = self.tenants.len() + 1;
        let id = text(Some(self.columns.id)).unwrap_or_default().parse::<InstanceId>();
        let id = id.map_err(|e| fault(format!("row {row_number}: {e}")))?;
        if self.tenants.len() == MOST_TENANTS {
            return Err(fault(format!("it lists more than {MOST_TENANTS} tenants")));
        }
        if !self.seen.insert(id.clone()) {
            return Err(fault(format!("row {row_number}: tenant `{id}` is listed twice")));
        }
        let deleted = text(self.columns.deleted).as_deref() == Some("t");
        let (name, region) = (text(self.columns.name), text(self.columns.region));
        self.tenants.push(Tenant::new(id, name, region, deleted, self.rules));
        Ok(())
    }

    pub(crate) fn tenants(&self) -> &[Tenant] {
        &self.tenants
    }

    pub(crate) fn into_tenants(self) -> Vec<Tenant> {
        self.tenants
    }
}

/// Where in a row of the tenant table each fact is.
struct TenantColumns {
    id: usize,
    name: Option<usize>,
    region: Option<usize>,
    deleted: Option<usize>,
}

impl TenantColumns {
    fn of(table: &ArchiveTable, rules: &TenantTable) -> Result<Self, Faults> {
        let mut missing = Vec::new();
        let mut place = |column: &str| {
            let place = table.columns.iter().position(|name| name == column);
            if place.is_none() {
                missing.push(Fault::new(format!("it has no column `{column}`, which the profile names")));
            }
            place
        };
        let id = place(&rules.id);
        let name = rules.name.as_deref().map(&mut place);
        let region = rules.region.as_deref().map(&mut place);
        let deleted = rules.deleted.as_deref().map(&mut place);
        match id {
            Some(id) if missing.is_empty() => {
                Ok(Self { id, name: name.flatten(), region: region.flatten(), deleted: deleted.flatten() })
            }
            _ => Err(Faults::new(format!("cannot read the tenants from `{}` of the archive", table.table), missing)),
        }
    }
}
