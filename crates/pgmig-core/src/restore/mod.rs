//! Doing what a plan says: one transaction, from the first lock to the commit.

mod feed;
mod large_objects;
mod load;
mod report;
mod statements;

use std::time::{Duration, Instant};

use chrono::Utc;
use tokio_postgres::{Client, Transaction};

use self::large_objects::LargeObjectWriter;
pub use self::report::{Report, RestoredTable, Verification};
use self::statements::Session;
use crate::archive::Archive;
use crate::catalog::Catalog;
use crate::catalog::LOCK_TIMEOUT;
use crate::connection::{self, Connection, TargetConfig};
use crate::error::{DatabaseError, Error, Fault, Faults, Outcome};
use crate::id_columns::{IdColumn, IdForm};
use crate::id_sql::names_one_of;
use crate::names::{TableName, quote_always, sql_literal, sql_table};
use crate::plan::{Plan, PlannedTable, SetAside};

/// What a restore is doing, for the caller to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A step begins.
    Step(Step),
    /// Rows of a table have been sent: so many, of so many.
    Rows {
        /// The table in the archive.
        table: &'a TableName,
        /// Rows sent so far.
        sent: u64,
        /// Rows that will be sent.
        total: u64,
    },
}

/// A step of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// The tables are locked.
    Lock,
    /// What was planned is compared with what is there now.
    Recheck,
    /// Constraints and triggers that would be in the way are set aside.
    SetAside,
    /// The target's tenant data is erased.
    Erase,
    /// Rows and large objects are loaded.
    Load,
    /// Sequences get their values.
    Sequences,
    /// Constraints and triggers are put back; foreign keys are checked.
    PutBack,
    /// Materialized views are refreshed.
    Refresh,
    /// The result is compared with the archive.
    Verify,
    /// The transaction is committed.
    Commit,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Lock => "lock the tables",
            Self::Recheck => "compare the target with the plan",
            Self::SetAside => "set constraints and triggers aside",
            Self::Erase => "erase the target's tenant data",
            Self::Load => "load the rows, IDs replaced",
            Self::Sequences => "set the sequences",
            Self::PutBack => "put constraints and triggers back, check the foreign keys",
            Self::Refresh => "refresh the materialized views",
            Self::Verify => "verify the result",
            Self::Commit => "commit",
        })
    }
}

/// Does what `plan` says, in one transaction: the target has all of it afterwards,
/// or is as it was before.
///
/// `config` is used to ask the server what became of the transaction, should the
/// connection break while it commits. `observe` is called as the work goes on.
///
/// # Errors
///
/// Whatever fails, the transaction is rolled back and the target is as it was
/// before; [`DatabaseError::outcome`] tells the rare case where that is not sure.
pub async fn restore(
    plan: &Plan,
    archive: Archive,
    connection: &mut Connection,
    config: &TargetConfig,
    mut observe: impl FnMut(Event<'_>),
) -> Result<Report, Error> {
    let started = Instant::now();
    let mut report = Report::new(plan, Utc::now());
    let failed = |e| DatabaseError::new("begin a transaction", e);
    let transaction = connection.client.transaction().await.map_err(failed)?;
    match run(plan, archive, &transaction, &config.username, &mut report, &mut observe).await {
        Ok(transaction_id) => {
            observe(Event::Step(Step::Commit));
            if let Err(e) = transaction.commit().await {
                committed_after_all(e, &transaction_id, config).await?;
            }
        }
        Err(e) => {
            // When this fails too the connection is gone, and the server rolls back by itself.
            let _ = transaction.rollback().await;
            return Err(e);
        }
    }
    report.finish(Utc::now(), started.elapsed());
    Ok(report)
}

async fn run(
    plan: &Plan,
    archive: Archive,
    transaction: &Transaction<'_>,
    owner: &str,
    report: &mut Report,
    observe: &mut impl FnMut(Event<'_>),
) -> Result<String, Error> {
    let session = Session::new(transaction);
    session.prepare(plan.target_server_version, LOCK_TIMEOUT).await?;
    let id: String = session.value("ask for the transaction's ID", "select pg_current_xact_id()::text").await?;

    observe(Event::Step(Step::Lock));
    lock(plan, &session).await?;
    observe(Event::Step(Step::Recheck));
    recheck(plan, &session).await?;
    observe(Event::Step(Step::SetAside));
    set_aside(plan, &session).await?;
    observe(Event::Step(Step::Erase));
    let objects = LargeObjectWriter::prepare(plan, owner, &session).await?;
    erase(plan, &objects, &session).await?;
    observe(Event::Step(Step::Load));
    let loaded = load::load(plan, archive, objects, transaction, report, observe).await;
    loaded.map_err(|e| taken_key(e, plan))?;
    session.quiet(plan.work.event_triggers, true).await?;
    observe(Event::Step(Step::Sequences));
    set_sequences(plan, &session).await?;
    observe(Event::Step(Step::PutBack));
    put_back(plan, &session).await?;
    observe(Event::Step(Step::Refresh));
    for view in &plan.materialized_views {
        session.run(&format!("refresh {view}"), &format!("refresh materialized view {}", sql_table(view))).await?;
    }
    session.quiet(plan.work.event_triggers, false).await?;
    session.run("check the deferred constraints", "set constraints all immediate").await?;
    observe(Event::Step(Step::Verify));
    report.verification = verify(plan, &session).await?;
    Ok(id)
}

async fn lock(plan: &Plan, session: &Session<'_>) -> Result<(), Error> {
    // One number for all versions of pgmig: two runs on one database exclude each other.
    const RUN_LOCK: i64 = 0x7067_6d69_6700;
    let alone: bool = session
        .value("lock the database against another run", &format!("select pg_try_advisory_xact_lock({RUN_LOCK})"))
        .await?;
    if !alone {
        return Err(Faults::one("cannot restore", "another pgmig is restoring into this database")
            .with_hint("wait for it to end")
            .into());
    }
    let tables: Vec<_> = plan.work.locks.iter().map(|table| format!("only {}", sql_table(table))).collect();
    if tables.is_empty() {
        return Ok(());
    }
    let sql = format!("lock table {} in access exclusive mode", tables.join(", "));
    Ok(session.run("lock the tables of the target", &sql).await?)
}

/// Between the plan and the lock somebody may have changed the target.
async fn recheck(plan: &Plan, session: &Session<'_>) -> Result<(), Error> {
    let mut faults = Vec::new();
    if Catalog::read(session.transaction()).await?.fingerprint() != plan.work.catalog {
        faults.push(Fault::new("its tables, constraints or triggers are no longer the same"));
    }
    for erase in &plan.erase {
        let row = session.row(&format!("count the rows of {}", erase.table), &erase.count_sql()).await?;
        let count = |column: usize| row.get::<_, i64>(column).unsigned_abs();
        if (count(0), count(1), count(2)) != (erase.rows, erase.rows_kept, erase.tenant_rows) {
            faults.push(Fault::new(format!("{} had {} rows and has {} now", erase.table, erase.rows, count(0))));
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    let hint = "scale the store deployment down to 0 replicas, then run the same command again";
    Err(Faults::new("the target has changed since the plan was made", faults).with_hint(hint).into())
}

/// Everything here is part of the transaction: a rollback brings it back.
async fn set_aside(plan: &Plan, session: &Session<'_>) -> Result<(), Error> {
    session.quiet(plan.work.event_triggers, true).await?;
    for SetAside { table, constraint, .. } in &plan.work.constraints {
        let sql = format!("alter table {} drop constraint {}", sql_table(table), quote_always(&constraint.name));
        session.run(&format!("set constraint {} of {table} aside", constraint.name), &sql).await?;
    }
    for (table, trigger) in &plan.work.triggers {
        let sql = format!("alter table only {} disable trigger {}", sql_table(table), quote_always(&trigger.name));
        session.run(&format!("disable trigger {} of {table}", trigger.name), &sql).await?;
    }
    Ok(session.quiet(plan.work.event_triggers, false).await?)
}

async fn erase(plan: &Plan, objects: &LargeObjectWriter, session: &Session<'_>) -> Result<(), Error> {
    if plan.large_objects.erased > 0 {
        // Before the rows: they tell which large objects are theirs.
        objects.erase(plan, session).await?;
    }
    let (empty, partly): (Vec<_>, Vec<_>) = plan.erase.iter().partition(|erase| erase.rows_kept == 0);
    if !empty.is_empty() {
        let tables: Vec<_> = empty.iter().map(|erase| format!("only {}", sql_table(&erase.table))).collect();
        session.run("erase the rows of the target", &format!("truncate table {}", tables.join(", "))).await?;
    }
    for erase in partly {
        let condition = erase.kept.as_deref().unwrap_or("false");
        let sql = format!("delete from only {} as t where {condition} is not true", sql_table(&erase.table));
        session.run(&format!("erase rows of {}", erase.table), &sql).await?;
    }
    Ok(())
}

/// A key that is there already is one of the rows that the target keeps.
fn taken_key(error: Error, plan: &Plan) -> Error {
    use tokio_postgres::error::SqlState;

    let kept: Vec<_> = plan.work.kept.iter().map(ToString::to_string).collect();
    match error {
        Error::Database(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) && !kept.is_empty() => {
            let hint = format!(
                "the target keeps the rows of its internal tenants, and one of them may have this key; map the archive's \
                 internal tenant to {}, whose rows are then replaced",
                kept.join(" or ")
            );
            error.with_hint(hint).into()
        }
        error => error,
    }
}

async fn set_sequences(plan: &Plan, session: &Session<'_>) -> Result<(), Error> {
    for state in &plan.sequences {
        let name = sql_table(&state.sequence);
        let doing = format!("set sequence {}", state.sequence);
        let (mut value, mut is_called) = (state.value, state.is_called);
        if plan.work.sequences_of_kept_rows.contains(&state.sequence) {
            let sql = format!(
                "select s.last_value, s.is_called, d.seqincrement > 0 from {name} as s, pg_sequence as d
                  where d.seqrelid = {}::regclass",
                sql_literal(&name)
            );
            let row = session.row(&doing, &sql).await?;
            let (present, present_called, ascending): (i64, bool, bool) = (row.get(0), row.get(1), row.get(2));
            let is_ahead = if ascending { present > value } else { present < value };
            if is_ahead && present_called {
                (value, is_called) = (present, true);
            }
        }
        // `setval` alone would survive a rollback. RESTART gives the sequence new
        // storage within this transaction, which a rollback takes away again, and
        // what `setval` writes with it.
        session.run(&doing, &format!("alter sequence {name} restart")).await?;
        let sql = format!("select pg_catalog.setval({}::regclass, {value}, {is_called})", sql_literal(&name));
        session.query(&doing, &sql, &[]).await?;
    }
    Ok(())
}

async fn put_back(plan: &Plan, session: &Session<'_>) -> Result<(), Error> {
    for SetAside { table, constraint, referenced } in &plan.work.constraints {
        let (name, definition) = (quote_always(&constraint.name), &constraint.definition);
        let table_sql = sql_table(table);
        let sql = format!("alter table {table_sql} add constraint {name} {definition}");
        let doing = format!("put constraint {} of {table} back", constraint.name);
        session.run(&doing, &sql).await.map_err(|e| broken_constraint(e, table, referenced.as_ref(), plan))?;
        if let Some(comment) = &constraint.comment {
            let sql = format!("comment on constraint {name} on {table_sql} is {}", sql_literal(comment));
            session.run(&doing, &sql).await?;
        }
    }
    for (table, trigger) in &plan.work.triggers {
        let how = match trigger.enabled {
            'R' => "enable replica trigger",
            'A' => "enable always trigger",
            _ => "enable trigger",
        };
        let sql = format!("alter table only {} {how} {}", sql_table(table), quote_always(&trigger.name));
        session.run(&format!("enable trigger {} of {table}", trigger.name), &sql).await?;
    }
    Ok(())
}

/// A foreign key that does not hold is most often one to a row that was left out.
/// That of a table whose rows stay refers to a row that the target had.
fn broken_constraint(error: DatabaseError, table: &TableName, referenced: Option<&TableName>, plan: &Plan) -> Error {
    use tokio_postgres::error::SqlState;

    if error.code() == Some(&SqlState::FOREIGN_KEY_VIOLATION) && !plan.work.locks.contains(table) {
        let hint = format!(
            "rows of {table} stay, and a row refers to one that is erased; delete or change such rows, then run the same \
             command again"
        );
        return error.with_hint(hint).into();
    }
    let of_key = |table: &&PlannedTable| {
        // A key to a partitioned table is one to its partitions.
        let top = plan.work.counted.iter().any(|counted| counted.partitioned && Some(&counted.table) == referenced);
        Some(&table.table) == referenced || Some(&table.destination) == referenced || top
    };
    let left_out = plan.tables.iter().filter(|table| table.rows_left_out > 0).filter(of_key);
    let left_out: Vec<_> = left_out.collect();
    if error.code() != Some(&SqlState::FOREIGN_KEY_VIOLATION) || left_out.is_empty() {
        return error.into();
    }
    let tables: Vec<_> = left_out.iter().map(|table| format!("{} of {}", table.rows_left_out, table.table)).collect();
    let tenants: Vec<_> = plan.mapping.left_out.iter().map(|tenant| tenant.id.to_string()).collect();
    let hint = format!(
        "rows of tenants that are not mapped were left out ({}), and a row refers to one of them; map these tenants too: {}",
        tables.join(", "),
        tenants.join(", ")
    );
    error.with_hint(hint).into()
}

/// Rows per table equal the archive's, and no source ID is left.
async fn verify(plan: &Plan, session: &Session<'_>) -> Result<Verification, Error> {
    let mut faults = Vec::new();
    let is_checked =
        |aside: &&SetAside| aside.referenced.is_some() && !aside.constraint.definition.ends_with("NOT VALID");
    let foreign_keys = plan.work.constraints.iter().filter(is_checked).count() as u64;
    let mut verification = Verification { foreign_keys, ..Verification::default() };
    let everywhere: Vec<_> = plan.work.gone.iter().collect();
    let owners: Vec<_> = plan.work.gone.iter().chain(&plan.work.gone_owners).collect();
    for counted in &plan.work.counted {
        let table = &counted.table;
        let gone = |id: &IdColumn| if id.owns_rows && id.form != IdForm::Anywhere { &owners } else { &everywhere };
        let checked = counted.id_columns.iter().filter(|id| !gone(id).is_empty());
        let counts: Vec<_> = checked
            .clone()
            .map(|id| format!(", count(*) filter (where {})", names_one_of("t", id, gone(id))))
            .collect();
        let only = if counted.partitioned { "" } else { "only " };
        let sql = format!("select count(*){} from {only}{} as t", counts.concat(), sql_table(table));
        let row = session.row(&format!("verify {table}"), &sql).await?;
        let count = |column: usize| row.get::<_, i64>(column).unsigned_abs();
        if count(0) != counted.rows {
            faults.push(Fault::new(format!("{table} has {} rows instead of {}", count(0), counted.rows)));
        }
        verification.tables += 1;
        verification.rows += count(0);
        for (place, id) in checked.enumerate() {
            verification.id_columns += 1;
            if count(place + 1) > 0 {
                faults.push(Fault::new(format!("{} still has source IDs in {} rows", id.column, count(place + 1))));
            }
        }
    }
    if let Some(list) = &plan.work.tenant_list {
        let targets: Vec<_> = plan.mapping.mapped.iter().map(|pair| sql_literal(pair.target.id.as_str())).collect();
        let column = quote_always(&list.column);
        let sql = format!(
            "select count(distinct lower(t.{column}::text)) from {} as t
              where lower(t.{column}::text) in (select lower(id) from unnest(array[{}]::text[]) as e (id))",
            sql_table(&list.table),
            targets.join(", ")
        );
        let listed: i64 = session.value("verify the list of tenants", &sql).await?;
        if listed.unsigned_abs() != targets.len() as u64 {
            faults.push(Fault::new(format!("{list} lists {listed} of the {} mapped instances", targets.len())));
        }
    }
    if faults.is_empty() {
        return Ok(verification);
    }
    let hint = "nothing was committed and the target is as it was before; please report this";
    Err(Faults::new("the result is not what the plan says", faults).with_hint(hint).into())
}

/// The connection broke while the transaction was being committed, or the server
/// refused to commit it. Asks the server which, on a new connection.
async fn committed_after_all(
    error: tokio_postgres::Error,
    transaction_id: &str,
    config: &TargetConfig,
) -> Result<(), Error> {
    const ATTEMPTS: u32 = 10;
    let error = DatabaseError::new("commit", error);
    if error.code().is_some() {
        return Err(error.into());
    }
    for _ in 0..ATTEMPTS {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let Ok(again) = connection::connect(config).await else { continue };
        match status(&again.client, transaction_id).await.as_deref() {
            Some("committed") => return Ok(()),
            Some("aborted") => return Err(error.into()),
            _ => {}
        }
    }
    Err(error.with_outcome(Outcome::Unknown).into())
}

async fn status(client: &Client, transaction_id: &str) -> Option<String> {
    let sql = format!("select pg_xact_status({}::xid8)", sql_literal(transaction_id));
    client.query_one(&sql, &[]).await.ok()?.get(0)
}
