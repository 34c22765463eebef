//! The database while it is under way: it has a name of its own, and gets its real one when it is whole.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use dumpfmt::Toc;
use tokio::runtime::Handle;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::{Existing, NewDatabase, sql};
use crate::connection::{self, Connection, TargetConfig};
use crate::error::{DatabaseError, Error, Fault, Faults, Outcome};
use crate::names::{quote_always, sql_literal};

/// What the temporary names begin with; a UUID without hyphens follows.
const PREFIX: &str = "pgmig_restore_";
/// What the comment on such a database begins with, until it is whole.
const COMMENT: &str = "unfinished restore by pgmig";
/// How long is waited for sessions of others, and our own, to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most bytes of a name.
const NAME_BYTES: usize = 63;

/// A database without its name. It is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Temporary {
    /// The name that it has until then.
    pub(super) name: String,
    /// PostgreSQL's name of its encoding.
    pub(super) encoding: String,
    /// What a server did not have, and what was taken instead.
    pub(super) warnings: Vec<String>,
    /// The name that it is to have.
    named: Named,
    /// How to connect to the server again.
    config: TargetConfig,
    /// In another database: nobody can rename the one that he is in. Its session holds the lock which tells others that we
    /// live. `None` when the database was published or removed.
    server: Option<Connection>,
}

/// The name that a database is to have, and on which terms.
#[derive(Debug)]
struct Named {
    name: String,
    owner: Option<String>,
    existing: Existing,
}

impl Named {
    fn of(options: &NewDatabase<'_>) -> Self {
        Self { name: options.name.clone(), owner: options.owner.clone(), existing: options.existing }
    }
}

impl Temporary {
    /// Creates it. The encoding and the locale are those of the dump's `CREATE DATABASE`, where it has one.
    pub(super) async fn create(
        server: Connection,
        config: &TargetConfig,
        options: &NewDatabase<'_>,
        source: &DatabaseOptions,
    ) -> Result<Self, Error> {
        let id = Uuid::new_v4();
        // From here on it is removed, whatever happens.
        let mut temporary = Self {
            name: format!("{PREFIX}{}", id.simple()),
            encoding: String::new(),
            warnings: Vec::new(),
            named: Named::of(options),
            config: config.clone(),
            server: Some(server),
        };
        temporary.lock(id).await?;
        (temporary.encoding, temporary.warnings) = temporary.make(options, source).await?;
        Ok(temporary)
    }

    async fn lock(&self, id: Uuid) -> Result<(), DatabaseError> {
        let lock = self.client().query_one("select pg_catalog.pg_advisory_lock($1)", &[&lock_key(id)]).await;
        lock.map(drop).map_err(|e| DatabaseError::new("take a lock that tells others of this restore", e))
    }

    /// Returns the encoding, and what the server did not have.
    async fn make(&self, options: &NewDatabase<'_>, source: &DatabaseOptions) -> Result<(String, Vec<String>), Error> {
        let client = self.client();
        let name = quote_always(&self.name);
        let encoding = options.encoding.as_deref().or(source.encoding.as_deref()).unwrap_or("UTF8").to_owned();
        // What the server cannot do is left to it, and then to what every encoding goes with.
        let mut refused = None;
        for locale in [&source.locale[..], "", " LOCALE 'C'"] {
            let sql = format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING {}{locale}", sql_literal(&encoding));
            match client.batch_execute(&sql).await {
                Ok(()) => {
                    let comment = format!(
                        "{COMMENT} {} into {}, begun {}",
                        env!("CARGO_PKG_VERSION"),
                        options.name,
                        Utc::now().format("%Y-%m-%d %H:%M:%S UTC")
                    );
                    let sql = format!("COMMENT ON DATABASE {name} IS {}", sql_literal(&comment));
                    let commented = client.batch_execute(&sql).await;
                    commented.map_err(|e| DatabaseError::new("comment on the new database", e))?;
                    let mut warnings = Vec::new();
                    if locale != source.locale {
                        let taken = if locale.is_empty() { "the server's own" } else { "the locale C" };
                        warnings.push(match source.locale.trim() {
                            "" => format!("the server's locale does not go with {encoding}: text is sorted as by {taken}"),
                            missing => {
                                format!("the server has not the locale of the dump ({missing}): text is sorted as by {taken}")
                            }
                        });
                    }
                    return Ok((encoding, warnings));
                }
                Err(e) if is_about_locale(e.code()) => refused = Some(e),
                Err(e) => return Err(cannot_create(&options.name, e).into()),
            }
        }
        Err(match refused {
            Some(e) => cannot_create(&options.name, e).into(),
            None => Faults::one("cannot create a database", "there is no locale to create it with").into(),
        })
    }

    /// The session in another database of the server.
    pub(super) fn client(&self) -> &Client {
        // Published and removed ones are not used any more: both take `self`.
        &self.server.as_ref().unwrap_or_else(|| unreachable!("the database was given up")).client
    }

    /// Whether a COMMIT without an answer was done; the error is whether it is known not to be.
    async fn was_published(&self) -> Result<(), bool> {
        let connection = connection::connect(&self.config).await.map_err(|_| false)?;
        let ours = exists(&connection.client, &self.name).await.map_err(|_| false)?;
        let named = exists(&connection.client, &self.named.name).await.map_err(|_| false)?;
        connection.close().await;
        if named && !ours { Ok(()) } else { Err(true) }
    }

    /// Our own sessions with the database end a moment after we have closed them.
    async fn wait_until_alone(&self) -> Result<(), DatabaseError> {
        let begun = Instant::now();
        while !sessions(self.client(), &self.name).await?.is_empty() && begun.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Removes the database.
    ///
    /// # Errors
    ///
    /// When the server is gone; see [`drop_leftovers`].
    pub(super) async fn remove(mut self) -> Result<(), Error> {
        let sql = drop_sql(&self.name);
        let first = match self.server.take() {
            Some(connection) => {
                let dropped = connection.client.batch_execute(&sql).await;
                connection.close().await;
                dropped
            }
            None => Ok(()),
        };
        if first.is_ok() {
            return Ok(());
        }
        // That session may have ended, and the server be there.
        let doing = || format!("drop the unfinished database `{}`", self.name);
        let Ok(connection) = connection::connect(&self.config).await else {
            return first.map_err(|e| DatabaseError::new(doing(), e).into());
        };
        let second = connection.client.batch_execute(&sql).await;
        connection.close().await;
        second.map_err(|e| DatabaseError::new(doing(), e).into())
    }
}

/// Gives databases of one server their names, in one transaction with setting aside those that have them. Returns the names of
/// these.
pub(super) async fn publish(databases: &mut [Temporary], now: DateTime<Utc>) -> Result<Vec<Option<String>>, Error> {
    let Some(first) = databases.first() else { return Ok(Vec::new()) };
    let client = first.client();
    let rename = |from: &str, to: &str| format!("ALTER DATABASE {} RENAME TO {}", quote_always(from), quote_always(to));
    let (mut steps, mut set_aside) = (vec!["BEGIN".to_owned()], Vec::new());
    for database in &*databases {
        database.wait_until_alone().await?;
        let Named { name, owner, .. } = &database.named;
        let exists = exists(client, name).await?;
        let aside = exists.then(|| name_aside(name, now));
        if exists {
            expect_free_to_replace(client, &database.named, PATIENCE).await?;
        }
        steps.push(format!("COMMENT ON DATABASE {} IS NULL", quote_always(&database.name)));
        steps.extend(aside.as_ref().map(|aside| rename(name, aside)));
        steps.push(rename(&database.name, name));
        if let Some(owner) = owner {
            steps.push(format!("ALTER DATABASE {} OWNER TO {}", quote_always(name), quote_always(owner)));
        }
        set_aside.push(aside);
    }
    let names: Vec<_> = databases.iter().map(|database| format!("`{}`", database.named.name)).collect();
    let doing = || format!("give {} to what was restored", names.join(", "));
    for step in &steps {
        if let Err(e) = client.batch_execute(step).await {
            // The transaction is given up before the databases can be removed.
            let _ = client.batch_execute("ROLLBACK").await;
            return Err(DatabaseError::new(doing(), e).into());
        }
    }
    if let Err(e) = client.batch_execute("COMMIT").await {
        first.was_published().await.map_err(|known| match known {
            true => DatabaseError::new(doing(), e),
            false => DatabaseError::new(doing(), e).with_outcome(Outcome::Unknown).with_hint(format!(
                "look at the databases of the server: when `{}` is not there, they have their names",
                first.name
            )),
        })?;
    }
    for database in databases {
        if let Some(connection) = database.server.take() {
            connection.close().await;
        }
    }
    Ok(set_aside)
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // The caller gave up. When the program ends before this is done, `drop_leftovers` finds the database.
        if let (Some(connection), Ok(runtime)) = (self.server.take(), Handle::try_current()) {
            let sql = drop_sql(&self.name);
            runtime.spawn(async move {
                // No database is dropped within a transaction.
                let _ = connection.client.batch_execute("ROLLBACK").await;
                let _ = connection.client.batch_execute(&sql).await;
                connection.close().await;
            });
        }
    }
}

/// Removes the databases that restores have left which were killed, and returns their names. One whose restore still runs is
/// let alone, wherever it runs.
///
/// `server` is the server, with any database but those.
///
/// # Errors
///
/// When the server cannot be reached, or refuses.
pub async fn drop_leftovers(server: &TargetConfig) -> Result<Vec<String>, Error> {
    let connection = connection::connect(server).await?;
    let dropped = drop_dead(&connection.client).await;
    connection.close().await;
    dropped
}

async fn drop_dead(client: &Client) -> Result<Vec<String>, Error> {
    let sql = "select d.datname, pg_catalog.shobj_description(d.oid, 'pg_database') from pg_catalog.pg_database d
                where d.datname like $1 order by 1";
    let pattern = format!("{}%", PREFIX.replace('_', r"\_"));
    let failed = |e| DatabaseError::new("look for unfinished restores", e);
    let (mut names, mut first_error) = (Vec::new(), None);
    for row in client.query(sql, &[&pattern]).await.map_err(failed)? {
        let (name, comment): (String, Option<String>) = (row.get(0), row.get(1));
        // Between two statements it has no comment yet.
        let ours = comment.is_none_or(|comment| comment.starts_with(COMMENT));
        let id = name.strip_prefix(PREFIX).filter(|id| id.len() == 32).and_then(|id| Uuid::try_parse(id).ok());
        let Some(id) = id.filter(|_| ours) else { continue };
        // The lock is taken before the database is created, by a session that may be in any database.
        let key = lock_key(id).cast_unsigned();
        let held =
            "select exists (select from pg_catalog.pg_locks where locktype = 'advisory' and granted and objsubid = 1
                     and classid::int8 = $1 and objid::int8 = $2)";
        let (high, low) = ((key >> 32).cast_signed(), (key & 0xffff_ffff).cast_signed());
        if client.query_one(held, &[&high, &low]).await.map_err(failed)?.get(0) {
            continue;
        }
        match client.batch_execute(&drop_sql(&name)).await {
            Ok(()) => names.push(name),
            // One that cannot be dropped does not keep the others.
            Err(e) => {
                let doing = format!("drop the unfinished database `{name}`");
                first_error.get_or_insert_with(|| DatabaseError::new(doing, e));
            }
        }
    }
    first_error.map_or(Ok(names), |e| Err(e.into()))
}

fn drop_sql(name: &str) -> String {
    format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote_always(name))
}

/// The advisory lock of a restore.
fn lock_key(id: Uuid) -> i64 {
    id.as_u64_pair().0.cast_signed()
}

/// Refuses a name that cannot be given, as far as that is known now.
pub(super) async fn expect_name(
    client: &Client,
    server: &TargetConfig,
    options: &NewDatabase<'_>,
) -> Result<(), Error> {
    let context = "cannot restore into this database";
    let name = &options.name;
    let fault = match name.len() {
        0 => Some("it has no name".to_owned()),
        length if length > NAME_BYTES => {
            Some(format!("its name has {length} bytes, and PostgreSQL takes {NAME_BYTES}"))
        }
        _ if name.contains(char::is_control) => Some("its name has control characters".to_owned()),
        _ if *name == server.database => Some(format!("`{name}` is the one that we are connected to meanwhile")),
        _ => None,
    };
    if let Some(fault) = fault {
        let hint = "name another one; for the connection any other database will do, such as `postgres`";
        return Err(Faults::one(context, fault).with_hint(hint).into());
    }
    if !exists(client, name).await? {
        return Ok(());
    }
    expect_free_to_replace(client, &Named::of(options), Duration::ZERO).await
}

/// Refuses a name that another database has and keeps.
async fn expect_free_to_replace(client: &Client, named: &Named, patience: Duration) -> Result<(), Error> {
    let name = &named.name;
    if named.existing == Existing::Refuse {
        let hint = "restore under another name; or let the database that is there be set aside";
        return Err(Faults::one("cannot restore", format!("there is a database `{name}` already"))
            .with_hint(hint)
            .into());
    }
    let begun = Instant::now();
    let sessions = loop {
        let sessions = sessions(client, name).await?;
        if sessions.is_empty() {
            return Ok(());
        }
        // Whoever looks after the server comes and goes.
        if begun.elapsed() >= patience {
            break sessions;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let fault = |(who, count): &(String, i64)| Fault::new(format!("{who}: {count}"));
    let total: i64 = sessions.iter().map(|(_, count)| count).sum();
    let context = format!("cannot set the database `{name}` aside, sessions with it are open ({total})");
    let hint = "stop the programs that use it, such as by scaling them down, then run the same command again";
    Err(Faults::new(context, sessions.iter().map(fault).collect()).with_hint(hint).into())
}

async fn exists(client: &Client, name: &str) -> Result<bool, DatabaseError> {
    let sql = "select exists (select from pg_catalog.pg_database where datname = $1)";
    let row = client.query_one(sql, &[&name]).await;
    Ok(row.map_err(|e| DatabaseError::new("look for the database", e))?.get(0))
}

/// Who is connected to a database, and how many times. The server ends its own workers by itself.
async fn sessions(client: &Client, name: &str) -> Result<Vec<(String, i64)>, DatabaseError> {
    let sql = "select coalesce(nullif(application_name, ''), backend_type, 'a session of another user') || coalesce(' of ' || usename, ''),
                      count(*)
                 from pg_catalog.pg_stat_activity
                where datname = $1 and backend_type is distinct from 'autovacuum worker' group by 1 order by 1";
    let rows = client.query(sql, &[&name]).await;
    let rows = rows.map_err(|e| DatabaseError::new("look for sessions with the database", e))?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The name of a database that is set aside: with the time, and as long as names can be.
fn name_aside(name: &str, now: DateTime<Utc>) -> String {
    let suffix = now.format("_before_%Y%m%d%H%M%S").to_string();
    let mut end = name.len().min(NAME_BYTES - suffix.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &name[..end])
}

fn cannot_create(name: &str, error: tokio_postgres::Error) -> DatabaseError {
    let lacks_right = error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
    let error = DatabaseError::new(format!("create a database for `{name}`"), error);
    if lacks_right {
        error.with_hint("connect as a superuser, or as a role that may create databases (CREATEDB)")
    } else {
        error
    }
}

/// Whether the server has no such encoding or locale, does not know how it is said, or cannot have both together.
fn is_about_locale(code: Option<&SqlState>) -> bool {
    [
        SqlState::UNDEFINED_OBJECT,
        SqlState::WRONG_OBJECT_TYPE,
        SqlState::INVALID_PARAMETER_VALUE,
        SqlState::INVALID_OBJECT_DEFINITION,
        SqlState::FEATURE_NOT_SUPPORTED,
        SqlState::SYNTAX_ERROR,
    ]
    .iter()
    .any(|known| Some(known) == code)
}

/// The encoding and the locale of the database that was dumped.
#[derive(Debug, Default)]
pub(super) struct DatabaseOptions {
    /// PostgreSQL's name of the encoding.
    pub(super) encoding: Option<String>,
    /// The options of `CREATE DATABASE`, with a blank before each.
    pub(super) locale: String,
}

impl DatabaseOptions {
    /// Those that an archive tells.
    pub(super) fn of(toc: &Toc) -> Self {
        const LOCALE: [&str; 6] = ["LOCALE", "LC_COLLATE", "LC_CTYPE", "ICU_LOCALE", "BUILTIN_LOCALE", "ICU_RULES"];
        let mut options = Self { encoding: toc.encoding(), locale: String::new() };
        let Some(entry) = toc.of_type("DATABASE").last() else { return options };
        for (name, value) in sql::database_options(&String::from_utf8_lossy(entry.definition().unwrap_or_default())) {
            match name.as_str() {
                "ENCODING" => options.encoding = Some(value),
                // The default, and servers before 15 do not know it.
                "LOCALE_PROVIDER" if value == "libc" => {}
                "LOCALE_PROVIDER" => options.locale.push_str(&format!(" LOCALE_PROVIDER {}", quote_always(&value))),
                name if LOCALE.contains(&name) => options.locale.push_str(&format!(" {name} {}", sql_literal(&value))),
                _ => {}
            }
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_aside_is_never_too_long_and_never_ends_within_a_character() {
        let now = DateTime::from_timestamp(1_795_312_800, 0).expect("a time");
        assert_eq!(name_aside("stt-async", now), "stt-async_before_20261122020000");
        for length in 20..63 {
            let name = format!("{}ä", "x".repeat(length));
            let aside = name_aside(&name, now);
            assert!(aside.len() <= 63 && aside.ends_with("_before_20261122020000"), "{aside}");
        }
    }
}
