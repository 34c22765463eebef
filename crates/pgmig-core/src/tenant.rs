//! Tenants: the service instances that a store holds data of.

use std::collections::HashSet;
use std::io::{Read, Seek};

use dumpfmt::{Block, Field};
use serde::Serialize;

use crate::archive::{Archive, ArchiveTable};
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
/// When the archive has no tenant table, or one without the columns that the
/// profile names, or cannot be read.
pub fn in_archive(archive: &mut Archive, profile: &Profile) -> Result<Vec<Tenant>, Error> {
    let contents = archive.contents().clone();
    let rules = &profile.tenants;
    let mut candidates = contents.tables.iter().filter(|table| rules.table.matches(&table.table));
    let Some(table) = candidates.next() else {
        let message = format!(
            "the archive has no rows of a table `{}`, which the profile `{}` says lists the tenants",
            rules.table, profile.name
        );
        return Err(Faults::one("cannot find the tenants of the archive", message)
            .with_hint("check that this is a dump of the product's store, or give another profile with `--profile`")
            .into());
    };
    if let Some(other) = candidates.next() {
        let message =
            format!("both `{}` and `{}` are in the archive; name the schema in the profile", table.table, other.table);
        return Err(Faults::one("cannot find the tenants of the archive", message).into());
    }
    let columns = TenantColumns::of(table, rules)?;
    let read = read_rows(archive.reader(), table, &columns, rules, contents.encoding.as_deref());
    match read {
        Ok(Ok(tenants)) => Ok(tenants),
        Ok(Err(faults)) => Err(faults.into()),
        Err(source) => Err(archive.read_error(source).into()),
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

fn read_rows<R: Read + Seek>(
    reader: &mut dumpfmt::ArchiveReader<R>,
    table: &ArchiveTable,
    columns: &TenantColumns,
    rules: &TenantTable,
    encoding: Option<&str>,
) -> dumpfmt::Result<Result<Vec<Tenant>, Faults>> {
    let context = || format!("cannot read the tenants from `{}` of the archive", table.table);
    let Some(Block::Data(data)) = reader.block(table.dump_id)? else { return Ok(Ok(Vec::new())) };
    let (mut tenants, mut seen) = (Vec::new(), HashSet::new());
    let mut rows = data.rows();
    while let Some(row) = rows.next_row()? {
        let fields: Vec<Field<'_>> = row.fields().collect();
        let text = |column: Option<usize>| {
            let value = column.and_then(|column| fields.get(column)).and_then(Field::decode);
            value.map(|bytes| encoding::decode(encoding, &bytes))
        };
        let row_number = tenants.len() + 1;
        let id = match text(Some(columns.id)).unwrap_or_default().parse::<InstanceId>() {
            Ok(id) => id,
            Err(e) => return Ok(Err(Faults::one(context(), format!("row {row_number}: {e}")))),
        };
        if !seen.insert(id.clone()) {
            return Ok(Err(Faults::one(context(), format!("row {row_number}: tenant `{id}` is listed twice"))));
        }
        let deleted = text(columns.deleted).as_deref() == Some("t");
        tenants.push(Tenant::new(id, text(columns.name), text(columns.region), deleted, rules));
        if tenants.len() > MOST_TENANTS {
            return Ok(Err(Faults::one(context(), format!("it lists more than {MOST_TENANTS} tenants"))));
        }
    }
    Ok(Ok(tenants))
}
