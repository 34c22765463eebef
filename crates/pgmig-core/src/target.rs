//! The target as a plan needs to know it.

use tokio_postgres::GenericClient;

use crate::catalog::{Catalog, Table};
use crate::error::{DatabaseError, Error, Faults};
use crate::names::{quote_always, sql_table};
use crate::profile::{Profile, TablePattern};
use crate::tenant::Tenant;

/// The target's catalog and tenants, read before anything is changed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Target {
    /// Its tables and what belongs to them.
    pub catalog: Catalog,
    /// The tenants that its own tenant table lists; none when the profile has no such table.
    pub tenants: Vec<Tenant>,
    /// The version of its schema, where the profile says how to find it.
    pub schema_version: Option<String>,
}

impl Target {
    /// Reads the catalog and the tenants.
    ///
    /// # Errors
    ///
    /// When the server refuses, or the database has no tenant table as the
    /// profile describes it.
    pub async fn read(client: &impl GenericClient, profile: &Profile) -> Result<Self, Error> {
        let catalog = Catalog::read(client).await?;
        let tenants = read_tenants(client, &catalog, profile).await?;
        let schema_version = match &profile.schema_version {
            Some(rule) => match catalog.tables.iter().find(|table| rule.table.matches(&table.name)) {
                Some(table) if table.column(&rule.column).is_some() => {
                    let sql =
                        format!("select {}::text from {} limit 1", quote_always(&rule.column), sql_table(&table.name));
                    let row = client.query_opt(&sql, &[]).await;
                    let row =
                        row.map_err(|e| DatabaseError::new(format!("read the schema version from {}", table.name), e))?;
                    row.and_then(|row| row.get(0))
                }
                _ => None,
            },
            None => None,
        };
        Ok(Self { catalog, tenants, schema_version })
    }
}

fn tenant_table<'a>(catalog: &'a Catalog, pattern: &TablePattern, profile: &Profile) -> Result<&'a Table, Faults> {
    let context = "cannot find the tenants of the target";
    let mut tables = catalog.tables.iter().filter(|table| pattern.matches(&table.name));
    match (tables.next(), tables.next()) {
        (Some(table), None) => Ok(table),
        (None, _) => {
            let text =
                format!("it has no table `{pattern}`, which the profile `{}` says lists the tenants", profile.name);
            let hint = "let the product create its schema in the target first, and check `database` in the target's configuration";
            Err(Faults::one(context, text).with_hint(hint))
        }
        (Some(a), Some(b)) => {
            let text = format!("it has both `{}` and `{}`; name the schema in the profile", a.name, b.name);
            Err(Faults::one(context, text))
        }
    }
}

async fn read_tenants(client: &impl GenericClient, catalog: &Catalog, profile: &Profile) -> Result<Vec<Tenant>, Error> {
    let Some(rules) = &profile.tenants else { return Ok(Vec::new()) };
    let table = tenant_table(catalog, &rules.table, profile)?;
    let context = format!("cannot read the tenants from `{}` of the target", table.name);
    let columns = [Some(&rules.id), rules.name.as_ref(), rules.region.as_ref(), rules.deleted.as_ref()];
    let missing: Vec<_> = columns.iter().flatten().filter(|name| table.column(name).is_none()).collect();
    if let Some(missing) = missing.first() {
        return Err(Faults::one(context, format!("it has no column `{missing}`, which the profile names")).into());
    }
    let expression = |column: Option<&String>| {
        column.map_or("null::text".to_owned(), |column| format!("{}::text", quote_always(column)))
    };
    let [id, name, region, deleted] = columns.map(expression);
    let sql = format!("select {id}, {name}, {region}, {deleted} from {} order by 1", sql_table(&table.name));
    let rows = client
        .query(&sql, &[])
        .await
        .map_err(|e| DatabaseError::new(format!("read the tenants from {} of the target", table.name), e))?;
    let mut tenants = Vec::new();
    for row in rows {
        let text = |column: usize| row.get::<_, Option<String>>(column);
        let id = text(0).unwrap_or_default().parse().map_err(|e| Faults::one(context.clone(), format!("{e}")))?;
        let deleted = matches!(text(3).as_deref(), Some("t" | "true"));
        tenants.push(Tenant::new(id, text(1), text(2), deleted, rules));
    }
    Ok(tenants)
}
