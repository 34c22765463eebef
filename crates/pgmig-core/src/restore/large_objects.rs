//! Large objects of the target: erasing and writing them.
//!
//! A transaction holds a lock for each large object that it removes or gives to
//! another owner, and the server has room for some thousand locks. Creating one
//! and writing to one take none, and so this prefers these.

use std::collections::HashSet;

use tokio_postgres::Transaction;

use super::statements::Session;
use crate::error::{DatabaseError, Error};
use crate::names::{quote_always, sql_literal};
use crate::plan::{Plan, erased_large_objects_sql};

/// Writes the archive's large objects.
pub(super) struct LargeObjectWriter {
    /// Those that the target has already, under the right owner.
    reused: HashSet<u32>,
    /// The role that new ones belong to, when it is not ours.
    owner: Option<String>,
    /// The one that is being written, and how much of it is.
    open: Option<(u32, i64)>,
}

impl LargeObjectWriter {
    /// `owner` is the product's role. We may have connected as a superuser, but the
    /// product must read its large objects. Rows need nothing: they belong to their
    /// tables.
    pub(super) async fn prepare(plan: &Plan, owner: &str, session: &Session<'_>) -> Result<Self, Error> {
        let doing = "look up the large objects of the target";
        let oids = erased_large_objects_sql(&plan.erase, &plan.work.large_object_columns);
        let sql = format!(
            "select m.oid from pg_largeobject_metadata as m
              where m.oid in ({oids}) and m.oid in (select unnest($1::oid[]))
                and m.lomowner = coalesce((select r.oid from pg_roles as r where r.rolname = $2), m.lomowner)"
        );
        let rows = session.query(doing, &sql, &[&plan.large_objects.oids, &owner]).await?;
        let reused = rows.iter().map(|row| row.get(0)).collect();
        let sql = format!("select current_user <> r.rolname from pg_roles r where r.rolname = {}", sql_literal(owner));
        let rows = session.query("look up the owner of the large objects", &sql, &[]).await?;
        let owner = rows.iter().any(|row| row.get(0)).then(|| quote_always(owner));
        Ok(Self { reused, owner, open: None })
    }

    /// Removes the large objects that erased rows refer to and those that the
    /// archive has, unless they are written anew later.
    pub(super) async fn erase(&self, plan: &Plan, session: &Session<'_>) -> Result<(), Error> {
        let oids = erased_large_objects_sql(&plan.erase, &plan.work.large_object_columns);
        let sql =
            format!("select count(lo_unlink(o.oid)) from ({oids}) as o where o.oid not in (select unnest($2::oid[]))");
        let reused: Vec<u32> = self.reused.iter().copied().collect();
        session.query("erase large objects of the target", &sql, &[&plan.large_objects.oids, &reused]).await?;
        Ok(())
    }

    /// Begins the large object `oid`, empty.
    pub(super) async fn begin(&mut self, oid: u32, transaction: &Transaction<'_>) -> Result<(), DatabaseError> {
        // 131072 is INV_WRITE. The descriptor ends with the transaction, unless it is closed.
        let sql = if self.reused.contains(&oid) {
            format!(
                "select lo_truncate(d.fd, 0), lo_close(d.fd) from (select lo_open({oid}, 131072) as fd offset 0) as d"
            )
        } else {
            match &self.owner {
                Some(owner) => format!("set local role {owner}; select lo_create({oid}); set local role none"),
                None => format!("select lo_create({oid})"),
            }
        };
        self.open = Some((oid, 0));
        let begun = transaction.batch_execute(&sql).await;
        begun.map_err(|e| DatabaseError::new(format!("create large object {oid}"), e))
    }

    /// Appends to the large object that was begun last.
    pub(super) async fn append(&mut self, bytes: &[u8], transaction: &Transaction<'_>) -> Result<(), DatabaseError> {
        let Some((oid, written)) = &mut self.open else { return Ok(()) };
        let put = transaction.query("select lo_put($1, $2, $3)", &[oid, written, &bytes]).await;
        put.map_err(|e| DatabaseError::new(format!("write large object {oid}"), e))?;
        *written += bytes.len() as i64;
        Ok(())
    }
}
