//! Whether a plain dump has the rows that its database had.
//!
//! An archive names its tables at its begin, and each block of data has an end. In a plain dump a table that is not there
//! leaves no gap, nor does a row.

use std::collections::BTreeMap;

use dumpfmt::plain::VerifiedScript;
use pgmig_core::names::quote_always;

use super::dump::names;
use super::postgresql::Session;
use crate::failure::Failure;

/// Every table whose rows pg_dump dumps: its schema and name, of a table of an extension's own configuration which of its rows,
/// and whether it has to be there.
const TABLES: &str = "\
    SELECT n.nspname::text, c.relname::text, coalesce(x.condition, ''), m.objid IS NULL \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    LEFT JOIN (SELECT unnest(extconfig) AS oid, unnest(extcondition) AS condition FROM pg_extension) x ON x.oid = c.oid \
    LEFT JOIN pg_depend m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid AND m.deptype = 'e' \
    WHERE c.relkind = 'r' AND (m.objid IS NULL OR x.oid IS NOT NULL) \
    AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' \
    AND (c.relpersistence = 'p' OR c.relpersistence = 'u' AND NOT pg_is_in_recovery()) \
    ORDER BY 1, 2";

/// Counts the rows of each table as of the snapshot of the session, which is that of the dump.
///
/// # Errors
///
/// The dump has others, or they cannot be counted.
pub(super) async fn compare(session: &Session, script: &VerifiedScript) -> Result<(), Failure> {
    let database = &session.database.database;
    let failed = |e: tokio_postgres::Error| {
        Failure::from(e).context(format!("cannot count the rows of the database `{database}`"))
    };
    let mut dumped: BTreeMap<(String, String), u64> = BTreeMap::new();
    for table in &script.tables {
        // There are no INSERT statements: pg_dump was not asked for any.
        *dumped.entry(names(script, table)).or_default() += table.rows.unwrap_or(0);
    }
    let client = session.client();
    // As pg_dump has it.
    client.batch_execute("SET LOCAL search_path = pg_catalog; SET LOCAL row_security = off").await.map_err(failed)?;
    for row in client.query(TABLES, &[]).await.map_err(failed)? {
        let (schema, table, condition, is_expected) = (row.get(0), row.get(1), row.get::<_, &str>(2), row.get(3));
        let name = (schema, table);
        let found = dumped.remove(&name);
        let (schema, table) = &name;
        let Some(rows) = found else {
            if is_expected {
                return Err(not_the_same(database, &format!("the table `{schema}.{table}` is not in it")));
            }
            continue;
        };
        let count = format!("SELECT count(*) FROM ONLY {}.{} {condition}", quote_always(schema), quote_always(table));
        let counted: i64 = client.query_one(&count, &[]).await.map_err(failed)?.get(0);
        if u64::try_from(counted) != Ok(rows) {
            let difference = format!("it has {rows} rows of the table `{schema}.{table}`, which has {counted}");
            return Err(not_the_same(database, &difference));
        }
    }
    match dumped.first_key_value() {
        None => Ok(()),
        Some(((schema, table), _)) => {
            Err(not_the_same(database, &format!("it has rows of `{schema}.{table}`, which is no table there")))
        }
    }
}

fn not_the_same(database: &str, difference: &str) -> Failure {
    let message = format!("the dump of the database `{database}` is not what the database had: {difference}");
    let hint = "see whether `pg-dump` in the configuration is PostgreSQL's own program; nothing was published";
    Failure::new(message, hint)
}
