//! The awkward store as source and as target, and what a restore of it has to give.

use std::{
    collections::HashMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use tempfile::TempPath;

use crate::{DumpOptions, Fingerprint, Server, fixture};

/// The pairs of `awkward-mapping.yaml`.
pub const MAPPING: [(&str, &str); 4] = [
    ("00000000-0000-0000-0000-001570184978", "00000000-0000-0000-1800-000000000001"),
    ("00000000-0000-0000-1764-035503433645", "00000000-0000-0000-1800-000000000002"),
    ("e10001eb-6272-453a-bb43-3dcf0e765892", "00000000-0000-0000-1800-000000000003"),
    ("00000000-0000-0000-0000-001599999999", "00000000-0000-0000-1800-000000000004"),
];
/// The internal tenant of the target.
pub const INTERNAL: &str = "4c5d6e7f-0a1b-4c2d-8e3f-9a0b1c2d3e4f";
/// The version that the target's `schema_info` has; the archive's has another one.
pub const TARGET_SCHEMA_VERSION: &str = "4.3.7.3";

/// A variant of the awkward store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Store {
    /// In a database in UTF8, with characters beyond Latin-1 in rows and names.
    Utf8,
    /// In a database in UTF8, with no character beyond Latin-1.
    Utf8Plain,
    /// In a database in LATIN1.
    Latin1,
}

impl Store {
    /// PostgreSQL's name of its encoding.
    pub fn encoding(self) -> &'static str {
        match self {
            Self::Utf8 | Self::Utf8Plain => "UTF8",
            Self::Latin1 => "LATIN1",
        }
    }
}

/// An archive of the awkward store, and a fingerprint of what has to come of it.
#[derive(Debug)]
pub struct Source {
    /// The archive.
    pub archive: TempPath,
    server: &'static Server,
}

/// A database of an awkward target, which is dropped at the end.
#[derive(Debug)]
pub struct Target {
    /// The server.
    pub server: &'static Server,
    /// The database.
    pub database: String,
    /// Everything in it at the beginning.
    pub before: Fingerprint,
}

/// What is in a target before the restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OldRows {
    /// Tenants without data.
    None,
    /// Tenants with data of their own, as after a trial.
    Some,
}

impl Source {
    /// Dumps the awkward store on the shared server of a version by its own `pg_dump`.
    pub fn dump(major: u32, store: Store, how: &DumpOptions) -> Self {
        let server = Server::shared(major);
        Self { archive: server.tools().dump(server, &source(server, store), how), server }
    }

    /// Dumps it with more SQL run in it, on the shared server of version 15.
    pub fn dump_after(sql: &str, how: &DumpOptions) -> Self {
        let server = Server::shared(15);
        let database = copy_of_source(server, Store::Utf8);
        server.psql(&database, sql);
        let archive = server.tools().dump(server, &database, how);
        server.drop_database(&database);
        Self { archive, server }
    }

    /// The data that `pg_restore` into an empty database gives, and the documented UPDATEs after it: one
    /// for each pair of the mapping and each column, and the rows of the other tenants deleted. Without
    /// the table `schema_info`, which a restore leaves alone.
    pub fn expected(&self, encoding: Store, mapping: &[(&str, &str)]) -> Fingerprint {
        let (server, database) = (self.server, unique("updated"));
        server.create_database(&database, encoding.encoding());
        server.tools().restore(server, &database, &self.archive, &[]);
        server.psql(&database, &updates(mapping, Others::Deleted));
        let data = Fingerprint::of(server, &database).data();
        server.drop_database(&database);
        data.without("rows public.schema_info")
    }
}

impl Target {
    /// A target in a database of its own on the shared server of a version.
    pub fn on(major: u32, store: Store, old_rows: OldRows) -> Self {
        Self::in_server(Server::shared(major), store, old_rows)
    }

    /// The same on a server of the caller's.
    pub fn in_server(server: &'static Server, store: Store, old_rows: OldRows) -> Self {
        let template_name = template(server, &format!("awkward target {store:?} {old_rows:?}"), |database| {
            fill_target(server, database, store, old_rows);
        });
        let database = copy_of(server, &template_name);
        let before = Fingerprint::of(server, &database);
        Self { server, database, before }
    }

    /// A target with more SQL run in it.
    #[must_use]
    pub fn after(mut self, sql: &str) -> Self {
        self.server.psql(&self.database, sql);
        self.before = Fingerprint::of(self.server, &self.database);
        self
    }

    /// Everything in it now.
    pub fn now(&self) -> Fingerprint {
        Fingerprint::of(self.server, &self.database)
    }

    /// Runs SQL in it.
    pub fn psql(&self, sql: &str) -> String {
        self.server.psql(&self.database, sql)
    }

    /// Panics unless everything is as it was at the beginning.
    #[track_caller]
    pub fn assert_unchanged(&self) {
        self.before.assert_same(&self.now());
    }

    /// Panics unless it holds `expected` and the rows of its own internal tenant, and is otherwise as it
    /// was: definitions, triggers, constraints, `schema_info`. Sequences that number rows which stayed
    /// must not have gone back.
    #[track_caller]
    pub fn assert_restored(&self, expected: &Fingerprint) {
        let now = self.now();
        let internal_stayed =
            self.psql(&format!("select exists (select from assistant where tenant_id = '{INTERNAL}')")) == "t";
        let stay_ahead = |line: &str| internal_stayed && AHEAD.iter().any(|sequence| line.starts_with(sequence));
        let is_data = |line: &String| {
            !stay_ahead(line)
                && ["rows ", "sequence public", "sequence \"", "large object ", "materialized view "]
                    .iter()
                    .any(|kind| line.starts_with(kind))
        };
        let changed: Vec<_> = self.before.differences(&now).into_iter().filter(|line| !is_data(line)).collect();
        assert!(changed.is_empty(), "not only data has changed:\n  {}", changed.join("\n  "));
        assert_eq!(self.psql("select version from schema_info"), TARGET_SCHEMA_VERSION);

        let copy = copy_of(self.server, &self.database);
        self.server.psql(&copy, &forget_internal());
        let data = Fingerprint::of(self.server, &copy).data().without("rows public.schema_info");
        self.server.drop_database(&copy);
        let comparable = |data: &Fingerprint| {
            let ahead = AHEAD.iter().filter(|_| internal_stayed);
            ahead.fold(data.clone(), |data, sequence| data.without(sequence))
        };
        comparable(expected).assert_same(&comparable(&data));
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.server.drop_database(&self.database);
        }
    }
}

/// The sequences of tables in which the target's internal tenant has rows.
const AHEAD: [&str; 4] = [
    "sequence public.assistant_assistant_id_seq",
    "sequence public.audit_entry_entry_id_seq",
    "sequence public.environment_environment_id_seq",
    "sequence public.skill_skill_id_seq",
];

/// The profile that names the columns of the awkward store.
pub fn profile() -> PathBuf {
    fixture("awkward-profile.yaml")
}

/// Writes a mapping file.
///
/// # Panics
///
/// When the file cannot be written.
pub fn write_mapping(file: &Path, mapping: &[(&str, &str)]) {
    let mut text = "instance-mappings:\n".to_owned();
    for (source, target) in mapping {
        writeln!(text, "  {source}: {target}").expect("text can be appended to");
    }
    std::fs::write(file, text).expect("the folder is writable");
}

/// The database of the awkward store on the shared server of a version, which must not be changed.
pub fn source_database(major: u32, store: Store) -> String {
    source(Server::shared(major), store)
}

fn source(server: &'static Server, store: Store) -> String {
    // Of a database that somebody is connected to no copy can be made: that of the copies is another.
    let template_name = source_template(server, store);
    template(server, &format!("awkward source {store:?}"), |database| copy(server, &template_name, database))
}

fn source_template(server: &'static Server, store: Store) -> String {
    template(server, &format!("awkward source {store:?} template"), |database| {
        server.create_database(database, store.encoding());
        server.psql_file(database, &fixture("awkward.sql"), &[]);
        if store == Store::Utf8 {
            server.psql_file(database, &fixture("awkward-schema-utf8.sql"), &[]);
            server.psql_file(database, &fixture("awkward-data-utf8.sql"), &[]);
        }
    })
}

fn fill_target(server: &Server, database: &str, store: Store, old_rows: OldRows) {
    server.create_database(database, store.encoding());
    server.psql_file(database, &fixture("awkward-schema.sql"), &[]);
    if store == Store::Utf8 {
        server.psql_file(database, &fixture("awkward-schema-utf8.sql"), &[]);
    }
    // Rows of the internal tenant stay; their numbers are not to be the archive's.
    server.psql(
        database,
        "alter sequence assistant_assistant_id_seq restart with 900000; alter sequence environment_environment_id_seq restart with 900000;
         alter sequence skill_skill_id_seq restart with 900000; alter sequence audit_entry_entry_id_seq restart with 900000",
    );
    let rows = if old_rows == OldRows::Some { "1" } else { "0" };
    server.psql_file(database, &fixture("awkward-target.sql"), &[("old_rows", rows)]);
    server.psql(database, &format!("update schema_info set version = '{TARGET_SCHEMA_VERSION}'"));
}

/// What becomes of the rows of tenants that a mapping does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// They are deleted.
    Deleted,
    /// They stay.
    Kept,
}

/// What people run by hand after `pg_restore`: an UPDATE for each pair of the mapping and each column.
/// Afterwards all large objects belong to one role and nobody else may read them: that is not what is compared.
pub fn updates(mapping: &[(&str, &str)], others: Others) -> String {
    // In two steps, by IDs that occur nowhere: `a` may become `b` and `b` become `a`.
    let step = |pair: &dyn Fn(&(&str, &str)) -> String| {
        let pairs: Vec<_> = mapping.iter().map(pair).collect();
        format!(
            "create temporary table step as select s::uuid as source, t::uuid as target from (values {}) as v (s, t);\n{}\ndrop table pg_temp.step;",
            pairs.join(", "),
            include_str!("../fixtures/awkward-updates.sql")
        )
    };
    let kept: Vec<_> = mapping.iter().map(|(source, _)| format!("'{source}'")).collect();
    let delete = match others {
        Others::Deleted => delete_rows(&format!("not in ({})", kept.join(", "))),
        Others::Kept => String::new(),
    };
    format!(
        "set client_min_messages = warning; alter table assistant disable trigger always_audit; {delete} {} {} {}",
        step(&|(source, _)| format!("('{source}', md5('{source}'))")),
        step(&|(source, target)| format!("(md5('{source}'), '{target}')")),
        settle()
    )
}

/// The part of [`updates`] that changes no row, to compare a database in which nothing was left to update.
pub fn settle() -> String {
    "set client_min_messages = warning; alter table assistant disable trigger always_audit;
     refresh materialized view tenant_summary; refresh materialized view busy_tenants;
     do $$ declare o oid; begin for o in select oid from pg_largeobject_metadata loop
       execute format('alter large object %s owner to store', o);
     end loop; end $$; update pg_largeobject_metadata set lomacl = null"
        .into()
}

fn forget_internal() -> String {
    format!(
        "alter table assistant disable trigger always_audit; {}
         refresh materialized view tenant_summary; refresh materialized view busy_tenants",
        delete_rows(&format!("= '{INTERNAL}'"))
    )
}

/// Deletes the rows whose tenant fits a condition, without triggers and foreign keys.
fn delete_rows(condition: &str) -> String {
    format!(
        r#"set session_replication_role = replica;
        do $body$ declare place record; begin
          for place in
            select c.oid::regclass as relation, a.attname as name
            from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
            where c.relkind in ('r', 'p') and not c.relispartition and n.nspname in ('public', 'Mixed Case')
              and a.attname in ('tenant_id', 'instance_id', 'granted_by') and not a.attisdropped
          loop
            execute format('delete from %s where %I::text %s', place.relation, place.name, $condition${condition}$condition$);
          end loop;
        end $body$;
        set session_replication_role = origin;"#
    )
}

/// A database that is made once and only copied afterwards.
fn template(server: &'static Server, name: &str, make: impl FnOnce(&str)) -> String {
    type Made = Mutex<HashMap<(u16, String), Arc<Mutex<bool>>>>;
    static MADE: LazyLock<Made> = LazyLock::new(Mutex::default);
    let key = (server.port(), name.to_owned());
    let made = Arc::clone(MADE.lock().expect("no thread panics with the lock").entry(key).or_default());
    let mut made = made.lock().expect("the template could be made");
    if !*made {
        make(name);
        *made = true;
    }
    name.to_owned()
}

/// A copy of the awkward store under a name that nothing else has.
pub fn copy_of_source(server: &'static Server, store: Store) -> String {
    copy_of(server, &source_template(server, store))
}

/// A copy of a database, to which nobody is connected, under a name that nothing else has.
fn copy_of(server: &Server, database: &str) -> String {
    let name = unique("copy");
    copy(server, database, &name);
    name
}

fn copy(server: &Server, database: &str, name: &str) {
    server.psql("postgres", &format!("create database \"{name}\" template \"{database}\" owner store"));
}

/// A name that no other database has.
pub fn unique(what: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    // Always as long, so that sessions take as many bytes whatever the database.
    format!("{what} {:05}", NUMBER.fetch_add(1, Relaxed))
}
