//! Finding the columns that hold instance IDs.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Serialize;

use crate::archive::{ArchiveTable, Contents};
use crate::catalog::{Catalog, ColumnKind};
use crate::error::{Fault, Faults};
use crate::json_path::JsonPath;
use crate::names::{ColumnName, TableName};
use crate::profile::{ExplicitColumn, Profile};

/// A column that holds instance IDs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct IdColumn {
    /// The column.
    pub column: ColumnName,
    /// How it holds them.
    pub form: IdForm,
    /// Why it is taken for one, in words: `its name`, `a foreign key to public.tenant.tenant_id`.
    pub reason: String,
    /// Whether a row belongs to the tenants that it names here. In the list of
    /// tenants only the ID itself does that; its other columns mention tenants.
    pub owns_rows: bool,
}

/// How a column holds IDs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum IdForm {
    /// The whole value is an ID.
    Value,
    /// Each element of the array is an ID.
    Array,
    /// The strings at this path of a JSON document are IDs.
    Json(JsonPath),
    /// IDs occur anywhere in the text: columns that `--remap-also` names.
    Anywhere,
}

/// A table's columns and what is known of their types.
///
/// Without a target they are what the definitions in the archive say, and unknown in a dump of the data alone.
#[derive(Debug)]
pub(crate) struct Schema<'a> {
    tables: BTreeMap<&'a TableName, Vec<(&'a str, Option<ColumnKind>)>>,
    /// Referencing column to referenced column.
    references: Vec<(ColumnName, ColumnName)>,
    /// For each partition, the tables that it is a partition of.
    ancestors: HashMap<TableName, Vec<TableName>>,
}

impl<'a> Schema<'a> {
    /// The tables that the archive has rows of, with the types of its definitions; a dump of the data alone has none.
    pub(crate) fn of_archive(contents: &'a Contents) -> Self {
        let columns = |table: &'a ArchiveTable| {
            let columns = table.columns.iter();
            columns.map(|column| (column.as_str(), archive_kind(contents, &table.table, column))).collect()
        };
        let tables = contents.tables.iter().map(|table| (&table.table, columns(table))).collect();
        Self { tables, references: archive_references(contents), ancestors: archive_ancestors(contents) }
    }

    /// The archive's tables with the types and foreign keys of the target.
    pub(crate) fn of_both(contents: &'a Contents, catalog: &'a Catalog) -> Self {
        let mut schema = Self::of_archive(contents);
        for (name, columns) in &mut schema.tables {
            let Some(table) = catalog.table(name) else { continue };
            for (column, kind) in columns {
                *kind = table.column(column).map(|column| column.kind);
            }
        }
        schema.references.extend(target_references(catalog));
        schema.ancestors.extend(target_ancestors(catalog));
        schema
    }

    /// The target's tables alone.
    pub(crate) fn of_target(catalog: &'a Catalog) -> Self {
        let columns = |table: &'a crate::catalog::Table| {
            table.columns.iter().map(|column| (column.name.as_str(), Some(column.kind))).collect()
        };
        let tables = catalog.tables.iter().map(|table| (&table.name, columns(table))).collect();
        Self {
            tables,
            references: target_references(catalog).collect(),
            ancestors: target_ancestors(catalog).collect(),
        }
    }

    /// The columns that a rule for `column` is about: itself, and the same column of its partitions.
    fn places(&self, column: &ColumnName) -> Vec<(ColumnName, Option<ColumnKind>)> {
        let mut places = Vec::new();
        for (&table, columns) in &self.tables {
            if *table == column.table || self.ancestors_of(table).contains(&column.table) {
                let same = columns.iter().filter(|(name, _)| *name == column.column);
                places.extend(same.map(|&(name, kind)| (table.column(name), kind)));
            }
        }
        places
    }

    fn ancestors_of(&self, table: &TableName) -> &[TableName] {
        self.ancestors.get(table).map_or(&[], Vec::as_slice)
    }
}

fn archive_ancestors(contents: &Contents) -> HashMap<TableName, Vec<TableName>> {
    // A dump of the data alone tells of a partition only when its rows are for the table at the top.
    let loaded = contents.tables.iter().filter(|table| table.copy_into != table.table);
    let mut ancestors: HashMap<_, _> =
        loaded.map(|table| (table.table.clone(), vec![table.copy_into.clone()])).collect();
    let partitions = contents.partitions.keys();
    ancestors
        .extend(partitions.map(|table| (table.clone(), contents.ancestors_of(table).into_iter().cloned().collect())));
    ancestors
}

/// What the type of a column means for IDs, by the definition in the archive; `None` when there is none.
fn archive_kind(contents: &Contents, table: &TableName, column: &str) -> Option<ColumnKind> {
    let mut of_array = false;
    let mut column_type = contents.column_type(table, column)?;
    // Domains over domains; a damaged archive may have a circle.
    for _ in 0..64 {
        let (name, array) = column_type.base();
        of_array |= array;
        match contents.domains.get(name) {
            Some(base) => column_type = base,
            None => break,
        }
    }
    Some(ColumnKind::of_type(column_type.base().0, of_array))
}

fn target_ancestors(catalog: &Catalog) -> impl Iterator<Item = (TableName, Vec<TableName>)> {
    catalog
        .tables
        .iter()
        .map(|table| (table.name.clone(), catalog.ancestry(table).skip(1).map(|t| t.name.clone()).collect()))
}

fn archive_references(contents: &Contents) -> Vec<(ColumnName, ColumnName)> {
    let mut references = Vec::new();
    for key in &contents.foreign_keys {
        for (column, referenced) in key.columns.iter().zip(&key.referenced_columns) {
            references.push((key.table.column(column), key.referenced_table.column(referenced)));
        }
    }
    references
}

fn target_references(catalog: &Catalog) -> impl Iterator<Item = (ColumnName, ColumnName)> {
    catalog.foreign_keys.iter().flat_map(move |key| {
        let tables = catalog.table_by_oid(key.constraint.table).zip(catalog.table_by_oid(key.referenced_table));
        tables.into_iter().flat_map(|(table, referenced)| {
            let columns = key.columns.iter().zip(&key.referenced_columns);
            columns.map(|(from, to)| (table.name.column(from), referenced.name.column(to)))
        })
    })
}

/// Finds the ID columns of `schema` by the rules of `profile`, and adds those of
/// `remap_also`, in which IDs are looked for anywhere in the text.
///
/// # Errors
///
/// When the profile or `remap_also` names a column that is not there or is of a
/// type that cannot hold IDs.
pub(crate) fn find(schema: &Schema<'_>, profile: &Profile, remap_also: &[ColumnName]) -> Result<Vec<IdColumn>, Faults> {
    let rules = &profile.id_columns;
    let mut found: BTreeMap<ColumnName, (IdForm, String)> = BTreeMap::new();
    let mut faults = Vec::new();
    let excepted: HashSet<&ColumnName> = rules.except.iter().collect();
    let is_excepted = |column: &ColumnName| {
        let same_above = |table: &TableName| table.column(column.column.clone());
        excepted.contains(column)
            || schema.ancestors_of(&column.table).iter().any(|above| excepted.contains(&same_above(above)))
    };

    // By name, and the column of the tenant table itself.
    for (&table, columns) in &schema.tables {
        for &(column, kind) in columns {
            let name = table.column(column);
            let listed = profile.lists_tenants(table) && profile.is_tenant_id(column);
            let named = rules.names.iter().any(|pattern| pattern.matches(column));
            if !(listed || named) || is_excepted(&name) {
                continue;
            }
            if let Some(form) = form_of(kind) {
                let reason = if listed { "the tenants are listed in it" } else { "its name" };
                found.insert(name, (form, reason.into()));
            } else if listed {
                faults.push(Fault::new(format!("`{name}` is of a type that holds no IDs")));
            }
        }
    }

    // One by one. A rule for a partitioned table is one for its partitions.
    let required = rules.columns.iter().map(|column| (column, true));
    let optional = rules.columns_if_table_exists.iter().map(|column| (column, false));
    for (explicit, required) in required.chain(optional) {
        let (column, form) = match explicit {
            ExplicitColumn::Column(column) => (column, None),
            ExplicitColumn::Json(json) => (&json.column, Some(IdForm::Json(json.path.clone()))),
        };
        let places = schema.places(column);
        if places.is_empty() {
            let is_there = schema.tables.contains_key(&column.table);
            let elsewhere = schema.tables.keys().find(|table| table.table == column.table.table).filter(|_| !is_there);
            // Elsewhere is not nowhere: its IDs would stay, and nobody hear of it.
            if let Some(table) = elsewhere {
                faults.push(Fault::new(format!(
                    "the profile names `{column}`, which is not there, but there is `{table}`"
                )));
            } else if required || is_there {
                faults.push(Fault::new(format!("the profile names `{column}`, which is not there")));
            }
        }
        for (name, kind) in places {
            let form = match (&form, kind) {
                (Some(json), None | Some(ColumnKind::Json)) => Some(json.clone()),
                (Some(_), _) => None,
                (None, kind) => form_of(kind),
            };
            match form {
                Some(form) => drop(found.insert(name, (form, "the profile names it".into()))),
                None => faults.push(Fault::new(format!(
                    "`{name}`, which the profile names, is of a type that holds no IDs in that way"
                ))),
            }
        }
    }
    for column in remap_also {
        let places = schema.places(column);
        if places.is_empty() {
            faults.push(Fault::new(format!("`--remap-also` names `{column}`, which is not there")));
        }
        for (name, kind) in places {
            if matches!(kind, Some(ColumnKind::LargeObject | ColumnKind::Other)) {
                faults
                    .push(Fault::new(format!("`{name}`, which `--remap-also` names, is of a type that holds no text")));
                continue;
            }
            // Also for a column that holds IDs as such: strays can stand in its other values.
            found.insert(name, (IdForm::Anywhere, "`--remap-also` names it".into()));
        }
    }
    if rules.follow_foreign_keys {
        follow_references(schema, &is_excepted, &mut found);
    }
    if !faults.is_empty() {
        let hint = "correct the profile or the option; a dump of the data alone tells neither types nor partitions: take a \
                    whole one";
        return Err(Faults::new("cannot tell which columns hold instance IDs", faults).with_hint(hint));
    }
    let is_list = |table: &TableName| {
        let mut tables = std::iter::once(table).chain(schema.ancestors_of(table));
        tables.any(|table| profile.lists_tenants(table))
    };
    let id_column = |(column, (form, reason)): (ColumnName, _)| {
        let owns_rows = !is_list(&column.table) || profile.is_tenant_id(&column.column);
        IdColumn { column, form, reason, owns_rows }
    };
    Ok(found.into_iter().map(id_column).collect())
}

/// Makes an ID column of each column with a foreign key to one, until no more are found.
fn follow_references(
    schema: &Schema<'_>,
    is_excepted: &impl Fn(&ColumnName) -> bool,
    found: &mut BTreeMap<ColumnName, (IdForm, String)>,
) {
    // A foreign key names the partitioned table, the archive its partitions.
    let above = |column: &ColumnName| -> Vec<ColumnName> {
        schema.ancestors_of(&column.table).iter().map(|table| table.column(column.column.clone())).collect()
    };
    let values = found.iter().filter(|(_, (form, _))| *form == IdForm::Value).map(|(column, _)| column);
    let mut known: HashSet<ColumnName> =
        values.flat_map(|column| above(column).into_iter().chain([column.clone()])).collect();
    loop {
        let before = known.len();
        for (from, to) in &schema.references {
            if !known.contains(to) || known.contains(from) || is_excepted(from) {
                continue;
            }
            known.insert(from.clone());
            for (name, kind) in schema.places(from) {
                if let Some(form) = form_of(kind) {
                    known.insert(name.clone());
                    found.entry(name).or_insert((form, format!("a foreign key to {to}")));
                }
            }
        }
        if known.len() == before {
            return;
        }
    }
}

/// How a column of this kind holds IDs when nothing more is said.
fn form_of(kind: Option<ColumnKind>) -> Option<IdForm> {
    match kind {
        None | Some(ColumnKind::Scalar) => Some(IdForm::Value),
        Some(ColumnKind::Array) => Some(IdForm::Array),
        Some(_) => None,
    }
}
