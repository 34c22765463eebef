//! Data whose owners are not listed anywhere, as that of Watson Speech: remapped by the pairs of a mapping, offline and on its
//! way into a new database.

use std::env;
use std::fs::{self, File};
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use dumpfmt::{ArchiveReader, WriteOptions};
use pgmig_core::Error;
use pgmig_core::archive::Archive;
use pgmig_core::connection::{Environment, TargetConfig};
use pgmig_core::mapping::{MappingEntry, MappingFile};
use pgmig_core::new_database::{self, Dump, Event, Existing, NewDatabase, Remap, Report, Step};
use pgmig_core::offline::{OfflineRemap, RemapReport};
use pgmig_core::profile::Profile;
use pgmig_tests::{CutProxy, DumpOptions, Fingerprint, PgTools, Server, fixture, thorough, wait_until};

/// An owner of customizations and of jobs, one of each, and who they become.
const BOTH: (&str, &str) = ("e10001eb-6272-453a-bb43-3dcf0e765892", "00000000-0000-0000-1764-035503433645");
const CUSTOMIZATIONS: (&str, &str) = ("11111111-2222-3333-4444-555555555555", "00000000-0000-0000-1764-035503433646");
const JOBS: (&str, &str) = ("user-of-old", "user-of-new");

/// A database of Watson Speech and what the product's documentation does to its owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Customization,
    Async,
}
use Kind::{Async, Customization};

impl Kind {
    /// Makes the database.
    fn create(self, server: &Server, database: &str) {
        server.create_database(database, "UTF8");
        let file = if self == Customization { "speech-customization.sql" } else { "speech-async.sql" };
        server.psql_file(database, &fixture(file), &[]);
    }

    fn pairs(self) -> [(&'static str, &'static str); 2] {
        if self == Customization { [BOTH, CUSTOMIZATIONS] } else { [BOTH, JOBS] }
    }

    /// Does the documented UPDATEs.
    fn update(self, server: &Server, database: &str) {
        for (source, target) in self.pairs() {
            let updates = if self == Customization {
                format!("UPDATE customizations SET owner = '{target}'::uuid WHERE owner = '{source}'::uuid;")
            } else {
                format!(
                    "UPDATE notification_urls SET username = '{target}' WHERE username = '{source}';
                     UPDATE notification_urls SET instance_id = '{target}' WHERE instance_id = '{source}';
                     UPDATE jobs SET username = '{target}' WHERE username = '{source}';"
                )
            };
            server.psql(database, &updates);
        }
    }
}

fn mapping(pairs: &[(&str, &str)]) -> MappingFile {
    let id = |text: &str| text.parse().expect("an ID");
    let entries = pairs.iter().map(|(source, target)| MappingEntry { source: id(source), target: id(target) });
    MappingFile::new(entries.collect()).expect("the pairs are right")
}

fn remap_offline(archive: &Path, pairs: &[(&str, &str)], new: &Path) -> Result<RemapReport, Error> {
    let mapping = mapping(pairs);
    let profile = Profile::watson_speech();
    let mut archive = Archive::open(archive, |_| {})?;
    let options = WriteOptions::like(archive.header());
    let remap = OfflineRemap::new(&profile, &mapping);
    let ((), report) = remap.archive(&mut archive, options, &mut |rewrite, source| {
        let (_, report) = rewrite.to_pipe(source, File::create(new).expect("a new file"), |_| {})?;
        Ok(((), report))
    })?;
    Ok(report)
}

#[test]
fn an_archive_without_tenants_is_remapped_as_the_documented_updates_do() {
    let server = Server::shared(15);
    let folder = tempfile::tempdir().expect("a temporary folder");
    for kind in [Customization, Async] {
        let (source, target) = (format!("speech-offline-{kind:?}"), format!("speech-offline-{kind:?}-new"));
        kind.create(server, &source);
        let archive = server.tools().dump(server, &source, &DumpOptions::piped());
        let new = folder.path().join(format!("{kind:?}.dump"));
        let report = remap_offline(&archive, &kind.pairs(), &new).expect("it is remapped");
        report.expect_no_strays().expect("there are none");
        let found = report.pair_use.as_ref().expect("no tenants are listed");
        assert!(found.warnings().is_empty(), "{found:?}");
        // Owners that nobody maps stay, and are told.
        let unknown: Vec<_> = report.unknown_ids.iter().map(|unknown| unknown.column.to_string()).collect();
        let expected: &[&str] = match kind {
            Customization => &["public.customizations.owner"],
            Async => {
                &["public.jobs.username", "public.notification_urls.username", "public.notification_urls.instance_id"]
            }
        };
        assert_eq!(unknown, expected);

        server.create_database(&target, "UTF8");
        server.tools().restore(server, &target, &new, &[]);
        kind.update(server, &source);
        Fingerprint::of(server, &source).assert_same(&Fingerprint::of(server, &target));
    }
}

#[test]
fn a_mapping_that_meets_nothing_or_somebody_is_told() {
    let server = Server::shared(15);
    let folder = tempfile::tempdir().expect("a temporary folder");
    Async.create(server, "speech-odd-mapping");
    let archive = server.tools().dump(server, "speech-odd-mapping", &DumpOptions::piped());
    let pairs = [("mistyped", "x"), ("user-of-old", "somebody-else")];
    let report = remap_offline(&archive, &pairs, &folder.path().join("new.dump")).expect("it is remapped");
    let found = report.pair_use.expect("no tenants are listed");
    assert_eq!(found.sources_not_found, ["mistyped".parse().expect("an ID")]);
    let [in_use] = found.targets_in_use.as_slice() else { panic!("{found:?}") };
    let count = server.psql("speech-odd-mapping", "select count(*) from jobs where username = 'somebody-else'");
    assert_eq!((in_use.id.as_str(), in_use.values.to_string()), ("somebody-else", count));

    // Such a profile is none for a restore into an existing database.
    let mut archive = Archive::open(&archive, |_| {}).expect("an archive");
    let error = pgmig_core::tenant::in_archive(&mut archive, &Profile::watson_speech()).expect_err("no tenants");
    assert!(error.to_string().contains("`watson-speech` names no table that lists tenants"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("a new one")), "{:?}", error.hint());
}

#[test]
fn a_column_of_a_profile_that_is_missing_or_elsewhere_is_refused() {
    let server = Server::shared(15);
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (number, (sql, expected)) in [
        ("create table jobs (id text, user_name text)", "names `public.jobs.username`, which is not there"),
        ("create schema async; create table async.jobs (username text)", "but there is `async.jobs`"),
        ("create table jobs (username integer)", "`public.jobs.username`, which the profile names, is of a type"),
    ]
    .into_iter()
    .enumerate()
    {
        let database = format!("speech-column-{number}");
        server.create_database(&database, "UTF8");
        server.psql(&database, sql);
        let archive = server.tools().dump(server, &database, &DumpOptions::piped());
        let error = remap_offline(&archive, &[JOBS], &folder.path().join("new.dump")).expect_err("it does not fit");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// The server, by way of a port.
fn config(server: &Server, port: u16) -> TargetConfig {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("postgres.yaml");
    server.write_postgres_yaml_via(&file, "postgres", server.host(), port);
    TargetConfig::load(&file, &Environment::default()).expect("the file is right")
}

/// `pg_dump` in the plain format.
fn plain(server: &Server, database: &str, arguments: &[&str]) -> String {
    plain_by(server.tools(), server, database, arguments)
}

/// The same by `pg_dump` of any version.
fn plain_by(tools: &PgTools, server: &Server, database: &str, arguments: &[&str]) -> String {
    let mut command = server.client(tools, "pg_dump", database);
    let output = command.args(arguments).output().expect("pg_dump runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn script(text: impl Into<Vec<u8>>) -> Dump<Cursor<Vec<u8>>> {
    Dump::Script { input: Cursor::new(text.into()), name: "the-script.sql".into() }
}

fn archive(path: &Path) -> Dump<File> {
    Dump::Archive { reader: Box::new(ArchiveReader::open(path).expect("an archive")), name: path.into() }
}

async fn restore<R: Read + Send + 'static>(
    server: &Server,
    dump: Dump<R>,
    options: &NewDatabase<'_>,
) -> Result<Report, Error> {
    new_database::restore(dump, &config(server, server.port()), options, |_| {}).await
}

/// The databases of the server whose names are like this.
fn databases(server: &Server, like: &str) -> String {
    server.psql("postgres", &format!("select datname from pg_database where datname like '{like}' order by 1"))
}

/// The unfinished databases that are meant for this one. Other tests have theirs on the same server.
fn unfinished(server: &Server, database: &str) -> String {
    let sql = "select datname from pg_database d where datname like 'pgmig\\_restore\\_%'
                and shobj_description(d.oid, 'pg_database') like";
    server.psql("postgres", &format!("{sql} '% into {database}, begun %'"))
}

/// What `pg_dump` says of a database, without its keys.
fn described(server: &Server, database: &str) -> Vec<String> {
    let text = plain(server, database, &[]);
    let lines = text.lines().filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"));
    lines.map(str::to_owned).collect()
}

#[track_caller]
fn assert_same_dumps(server: &Server, one: &str, other: &str) {
    let (one, other) = (described(server, one), described(server, other));
    let differs = one.iter().zip(&other).find(|(one, other)| one != other);
    assert!(differs.is_none() && one.len() == other.len(), "{differs:?}, {} and {} lines", one.len(), other.len());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes long: `make test` runs it"]
async fn a_database_with_an_object_of_every_kind_comes_out_as_it_was() {
    let majors: &[u32] = if thorough() { &[13, 14, 15, 16, 17, 18] } else { &[13, 18] };
    for &major in majors {
        // Its roles and tablespaces are those of the server, which another test makes too.
        let server = Server::start(&PgTools::major(major));
        server.create_database("every-kind", "UTF8");
        server.psql_file("every-kind", &fixture("every-kind.sql"), &[]);
        let tools = server.tools();

        let custom = tools.dump(&server, "every-kind", &DumpOptions::piped());
        let report = restore(&server, archive(&custom), &NewDatabase::new("custom-new")).await;
        let report = report.unwrap_or_else(|e| panic!("{major}: {e}"));
        assert!(report.warnings.is_empty() && report.statements > 100, "{major}: {report:?}");
        assert_same_dumps(&server, "every-kind", "custom-new");

        let tar = tools.dump(&server, "every-kind", &DumpOptions::seekable().tar());
        restore(&server, archive(&tar), &NewDatabase::new("tar-new")).await.unwrap_or_else(|e| panic!("{major}: {e}"));
        assert_same_dumps(&server, "every-kind", "tar-new");

        let folder = tools.dump_folder(&server, "every-kind", &DumpOptions::seekable());
        let restored = restore(&server, archive(folder.path()), &NewDatabase::new("folder-new")).await;
        restored.unwrap_or_else(|e| panic!("{major}: {e}"));
        assert_same_dumps(&server, "every-kind", "folder-new");

        let text = plain(&server, "every-kind", &[]);
        let report = restore(&server, script(text), &NewDatabase::new("plain-new")).await;
        let report = report.unwrap_or_else(|e| panic!("{major}: {e}"));
        assert_same_dumps(&server, "every-kind", "plain-new");
        assert_eq!(report.rows, report.tables.iter().map(|table| table.rows).sum::<u64>());

        let text = plain(&server, "every-kind", &["--inserts"]);
        let mut options = NewDatabase::new("inserts-new");
        options.analyze = true;
        let report = restore(&server, script(text), &options).await.unwrap_or_else(|e| panic!("{major}: {e}"));
        assert_same_dumps(&server, "every-kind", "inserts-new");
        assert!(report.rows == 0 && report.analyzed, "{report:?}");
        assert_eq!(databases(&server, "pgmig%"), "");
        let comment = "select count(*) from pg_database where shobj_description(oid, 'pg_database') like '%pgmig%'";
        assert_eq!(server.psql("postgres", comment), "0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_are_replaced_on_the_way_as_the_documented_updates_do() {
    for (major, kind) in [(13, Customization), (13, Async), (17, Customization), (17, Async)] {
        let server = Server::shared(major);
        let source = format!("speech-way-{kind:?}");
        kind.create(server, &source);
        let custom = server.tools().dump(server, &source, &DumpOptions::piped());
        let text = plain(server, &source, &["--no-owner"]);
        kind.update(server, &source);
        let expected = Fingerprint::of(server, &source);

        let (profile, mapping) = (Profile::watson_speech(), mapping(&kind.pairs()));
        let mut options = NewDatabase::new(format!("{source}-from-archive"));
        options.remap = Some(Remap { profile: &profile, mapping: &mapping });
        options.owner = Some("store".to_owned());
        let report = restore(server, archive(&custom), &options).await.expect("it is restored");
        expected.assert_same(&Fingerprint::of(server, &options.name));

        let mut from_script = options.clone();
        from_script.name = format!("{source}-from-script");
        let from_script_report = restore(server, script(text), &from_script).await.expect("it is restored");
        expected.assert_same(&Fingerprint::of(server, &from_script.name));

        let remap = report.remap.as_ref().expect("IDs were replaced");
        assert!(report.warnings.is_empty() && remap.strays.is_empty(), "{report:?}");
        let columns: Vec<_> = remap.id_columns.iter().map(|id| id.column.to_string()).collect();
        assert_eq!(columns.len(), if kind == Customization { 1 } else { 3 }, "{columns:?}");
        assert!(!remap.unknown_ids.is_empty());
        // Both say the same of it.
        let numbers =
            |report: &Report| report.tables.iter().map(|t| (t.table.to_string(), t.rows, t.ids)).collect::<Vec<_>>();
        assert_eq!(numbers(&report), numbers(&from_script_report));

        // As `pg_dump --clean` writes it, which removes first what is not there in a new database.
        let text = plain(server, &source, &["--clean"]);
        let report = restore(server, script(text), &NewDatabase::new(format!("{source}-clean"))).await;
        let report = report.expect("it is restored");
        assert!(report.warnings[0].contains("statements remove what is not in a new database"), "{report:?}");
        assert_same_dumps(server, &source, &report.database);
        let owner = "select pg_get_userbyid(datdba) from pg_database where datname = ";
        assert_eq!(server.psql("postgres", &format!("{owner}'{}'", options.name)), "store");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_has_the_name_is_refused_or_set_aside() {
    let server = Server::shared(15);
    Async.create(server, "set-aside-source");
    let text = plain(server, "set-aside-source", &[]);
    server.create_database("set-aside", "UTF8");
    server.psql("set-aside", "create table old (n integer)");

    let mut options = NewDatabase::new("set-aside");
    let error = restore(server, script(&*text), &options).await.expect_err("it is there");
    assert!(error.to_string().contains("there is a database `set-aside` already"), "{error}");

    options.existing = Existing::SetAside;
    let session = server.client(server.tools(), "psql", "set-aside").args(["-c", "select pg_sleep(600)"]).spawn();
    let mut session = session.expect("psql starts");
    let connected = "select count(*) from pg_stat_activity where datname = 'set-aside'";
    wait_until("psql is connected", || server.psql("postgres", connected) == "1");
    let error = restore(server, script(&*text), &options).await.expect_err("somebody is connected");
    assert!(error.to_string().contains("sessions with it are open (1): psql of postgres: 1"), "{error}");
    session.kill().expect("it runs");
    session.wait().expect("it ends");
    server.psql("postgres", "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'set-aside'");
    wait_until("psql is gone", || server.psql("postgres", connected) == "0");

    // Both names are given in one transaction: what comes after them fails, and neither was changed.
    options.owner = Some("nobody there".to_owned());
    let error = restore(server, script(&*text), &options).await.expect_err("there is no such role");
    assert!(error.to_string().contains("\"nobody there\" does not exist"), "{error}");
    assert_eq!(databases(server, "set-aside%"), "set-aside\nset-aside-source");
    assert_eq!(server.psql("set-aside", "select count(*) from old"), "0");
    assert_eq!(unfinished(server, "set-aside"), "");

    options.owner = None;
    let report = restore(server, script(text), &options).await.expect("it is restored");
    let aside = report.set_aside.expect("there was one");
    assert!(aside.starts_with("set-aside_before_20"), "{aside}");
    assert_eq!(server.psql(&aside, "select count(*) from old"), "0");
    assert_same_dumps(server, "set-aside-source", "set-aside");
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_are_missing_are_all_told_before_anything_is_made() {
    let source = Server::start(&PgTools::major(15));
    source.psql(
        "postgres",
        "create role \"The Owner\"; create role reader; create role later; create database owned owner \"The Owner\"",
    );
    source.psql(
        "owned",
        "create table t (n integer); alter table t owner to \"The Owner\"; grant select on t to reader;
         alter default privileges for role \"The Owner\" grant select on tables to later; insert into t values (1)",
    );
    let custom = source.tools().dump(&source, "owned", &DumpOptions::piped());
    let text = plain(&source, "owned", &[]);

    let server = Server::shared(15);
    let mut options = NewDatabase::new("roles-missing");
    let error = restore(server, archive(&custom), &options).await.expect_err("there are no such roles");
    let message = error.to_string();
    assert!(["\"The Owner\"", "reader", "later"].iter().all(|role| message.contains(role)), "{message}");
    assert!(error.hint().is_some_and(|hint| hint.contains("CREATE ROLE")), "{:?}", error.hint());
    let error = restore(server, script(&*text), &options).await.expect_err("there are no such roles");
    let message = error.to_string();
    assert!(message.contains("`ALTER TABLE public.t OWNER TO \"The Owner\"` in line"), "{message}");
    assert!(message.contains("the server has no role \"The Owner\""), "{message}");
    assert_eq!(databases(server, "roles-missing") + &unfinished(server, "roles-missing"), "");

    (options.no_owner, options.no_privileges) = (true, true);
    restore(server, archive(&custom), &options).await.expect("nobody is named");
    options.name = "roles-missing-2".to_owned();
    restore(server, script(text), &options).await.expect("nobody is named");
    assert_same_dumps(server, "roles-missing", "roles-missing-2");
    assert_eq!(server.psql("roles-missing-2", "select tableowner from pg_tables where tablename = 't'"), "postgres");
}

#[tokio::test(flavor = "multi_thread")]
async fn source_ids_elsewhere_are_refused_unless_they_are_to_be_ignored() {
    let server = Server::shared(15);
    Async.create(server, "strays-source");
    let (id, _) = BOTH;
    server.psql(
        "strays-source",
        &format!(
            "update jobs set results = '{{\"by\": \"{id}\"}}' where id = (select min(id) from jobs);
             create view of_one as select * from jobs where username = '{id}';
             select lo_from_bytea(77, 'by {id}')"
        ),
    );
    let text = plain(server, "strays-source", &[]);
    let (profile, mapping) = (Profile::watson_speech(), mapping(&Async.pairs()));
    let mut options = NewDatabase::new("strays-new");
    options.remap = Some(Remap { profile: &profile, mapping: &mapping });
    let error = restore(server, script(&*text), &options).await.expect_err("there are strays");
    let message = error.to_string();
    assert!(
        message.contains("public.jobs.results, 1 rows")
            && message.contains("CREATE VIEW public.of_one")
            && message.contains("SELECT pg_catalog.lowrite"),
        "{message}"
    );
    assert_eq!(databases(server, "strays-new") + &unfinished(server, "strays-new"), "");
    options.ignore_strays = true;
    let report = restore(server, script(&*text), &options).await.expect("they are ignored");
    assert_eq!(report.remap.expect("IDs were replaced").strays.len(), 3);
    let by_source = format!("select count(*) from jobs where results ->> 'by' = '{id}'");
    assert_eq!(server.psql("strays-new", &by_source), "1");
    options.name = "strays-also".to_owned();
    options.remap_also = vec!["public.jobs.results".parse().expect("a column")];
    let report = restore(server, script(text), &options).await.expect("they are ignored");
    assert_eq!(report.remap.expect("IDs were replaced").strays.len(), 2);
    assert_eq!(server.psql("strays-also", &by_source), "0");
    let inserts = plain(server, "strays-source", &["--inserts"]);
    options.name = "strays-inserts".to_owned();
    let error = restore(server, script(inserts), &options).await.expect_err("rows are statements");
    assert!(error.to_string().contains("`INSERT INTO public."), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("--inserts")), "{:?}", error.hint());
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_with_a_script_is_told_with_its_place_and_leaves_nothing() {
    let server = Server::shared(15);
    Async.create(server, "wrong-source");
    let text = plain(server, "wrong-source", &[]);
    let jobs = "COPY public.jobs (id, username, notification, status, results) FROM stdin;\n";
    assert!(text.contains(jobs));
    let behind_rows = "--\n-- Name: jobs_by_user;";
    let at_end = "--\n-- PostgreSQL database dump complete";
    let insert = |before: &str, what: &str| {
        assert_eq!(text.matches(before).count(), 1, "{before}");
        text.replace(before, &format!("{what}\n{before}"))
    };
    let cases = [
        (
            "a row",
            text.replace(jobs, &format!("{jobs}x\tJane Doe\tno number\ts\t\\N\n")),
            "load the rows of public.jobs",
        ),
        (
            "its place",
            text.replace(jobs, &format!("{jobs}x\tJane Doe\tno number\ts\t\\N\n")),
            "line 1, column notification",
        ),
        (
            "a key",
            insert(behind_rows, "ALTER TABLE public.jobs ADD UNIQUE (status);"),
            "`ALTER TABLE public.jobs ADD UNIQUE (status)` in line ",
        ),
        ("syntax", insert(behind_rows, "CREATE TABLE x y;"), "execute `CREATE TABLE x y` in line "),
        (
            "one row more",
            insert(behind_rows, "INSERT INTO public.jobs VALUES ('Jane Doe', '', 1, '', NULL);"),
            "public.jobs has 501 rows, and 500 were sent",
        ),
        ("a program", insert(at_end, "COPY public.jobs FROM PROGRAM 'id';"), "PROGRAM"),
        ("a command", insert(at_end, "\\! id"), "a command of psql"),
        ("the server", insert(at_end, "ALTER SYSTEM SET work_mem = '1MB';"), "not executed"),
        ("a database", insert(at_end, "DROP DATABASE \"wrong-source\";"), "not executed"),
        ("a block", insert(at_end, "DO $$ BEGIN END $$;"), "not executed"),
        ("an open transaction", insert(jobs, "BEGIN;"), "public.jobs has 0 rows, and 500 were sent"),
        ("its end", text[..text.len() / 2].to_owned(), "cut short"),
    ];
    for (what, text, expected) in cases {
        let error = restore(server, script(text), &NewDatabase::new("wrong-new")).await.expect_err(what);
        let message = error.to_string();
        assert!(message.contains(expected), "{what}: {message}");
        assert!(!message.contains("Jane"), "{what}: {message}");
        assert!(error.hint().is_some(), "{what}: {message}");
        assert_eq!(databases(server, "wrong-new") + &unfinished(server, "wrong-new"), "", "{what}");
    }
    restore(server, script(text), &NewDatabase::new("wrong-new")).await.expect("as it was, it is right");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_damaged_leaves_nothing() {
    let server = Server::shared(15);
    Customization.create(server, "damaged-source");
    let custom = server.tools().dump(server, "damaged-source", &DumpOptions::piped());
    let bytes = fs::read(&custom).expect("the archive");
    let cut = Cursor::new(bytes[..bytes.len() - 100].to_vec());
    let reader = ArchiveReader::new(cut).expect("its begin is whole");
    let dump = Dump::Archive { reader: Box::new(reader), name: "damaged.dump".into() };
    let error = restore(server, dump, &NewDatabase::new("damaged-new")).await.expect_err("it is cut");
    assert!(
        error.to_string().starts_with("cannot read the archive `damaged.dump`: the archive is cut short"),
        "{error}"
    );
    assert_eq!(databases(server, "damaged-new") + &unfinished(server, "damaged-new"), "");
}

/// A script that stops in the middle until it may go on.
struct Stopping {
    text: Cursor<Vec<u8>>,
    stop_at: u64,
    go_on: mpsc::Receiver<()>,
}

impl Read for Stopping {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.stop_at.saturating_sub(self.text.position());
        if left == 0 {
            // Who does not want it to go on drops the other end.
            self.go_on.recv().map_err(|_| io::Error::other("given up"))?;
            self.stop_at = u64::MAX;
        }
        let most = if left == 0 { u64::MAX } else { left };
        (&mut self.text).take(most).read(buffer)
    }
}

/// It stops so many bytes behind the begin of this line.
fn stopping(text: &str, line: &str, bytes: u64) -> (Dump<Stopping>, mpsc::Sender<()>) {
    let (sender, go_on) = mpsc::channel();
    let stop_at = text.find(line).expect("there is such a line") as u64 + bytes;
    let input = Stopping { text: Cursor::new(text.into()), stop_at, go_on };
    (Dump::Script { input, name: "stopping.sql".into() }, sender)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_restore_left_is_removed_and_a_living_one_is_let_alone() {
    let server = Server::shared(15);
    Async.create(server, "leftover-source");
    let text = plain(server, "leftover-source", &[]);
    // Not within rows: while a session waits for some, PostgreSQL (from 15 on) drops no database.
    let (dump, go_on) = stopping(&text, "CREATE INDEX", 0);
    let config = config(server, server.port());
    let living = tokio::spawn({
        let config = config.clone();
        async move { new_database::restore(dump, &config, &NewDatabase::new("leftover-new"), |_| {}).await }
    });
    let begun = || !unfinished(server, "leftover-new").is_empty();
    tokio::task::block_in_place(|| wait_until("the restore has begun", begun));
    let name = unfinished(server, "leftover-new");

    // As a killed one leaves it, with its comment and, killed between two statements, without.
    let dead = ["pgmig_restore_00000000000040008000000000000001", "pgmig_restore_00000000000040008000000000000002"];
    server.psql("postgres", &format!("create database {}", dead[0]));
    server.psql("postgres", &format!("comment on database {} is 'unfinished restore by pgmig 0 into x'", dead[0]));
    server.psql("postgres", &format!("create database {}", dead[1]));
    // And what only looks so.
    let others = ["pgmig_restore_of_mine", "pgmig_restore_00000000000040008000000000000003"];
    for other in others {
        server.psql("postgres", &format!("create database {other}"));
    }
    server.psql("postgres", &format!("comment on database {} is 'mine'", others[1]));

    let dropped = new_database::drop_leftovers(&config).await.expect("they are dropped");
    assert!(dead.iter().all(|dead| dropped.iter().any(|name| name == dead)), "{dropped:?}");
    assert!(!dropped.contains(&name), "{dropped:?}");
    for other in others {
        assert_eq!(databases(server, other), other);
    }

    go_on.send(()).expect("it waits");
    living.await.expect("no panic").expect("it is restored");
    assert_same_dumps(server, "leftover-source", "leftover-new");
    for other in others {
        server.drop_database(other);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_given_up_leaves_nothing() {
    let server = Server::shared(15);
    Async.create(server, "given-up-source");
    let text = plain(server, "given-up-source", &[]);
    let (dump, _go_on) = stopping(&text, "COPY public.jobs", 5_000);
    let config = config(server, server.port());
    let options = NewDatabase::new("given-up-new");
    let mut sent = 0;
    let restore = new_database::restore(dump, &config, &options, |event| {
        if let Event::Rows { sent: rows, .. } = event {
            sent = rows;
        }
    });
    tokio::time::timeout(Duration::from_secs(3), restore).await.expect_err("it waits");
    assert!(sent > 0);
    let is_gone = || unfinished(server, "given-up-new").is_empty();
    tokio::task::block_in_place(|| wait_until("the unfinished database is gone", is_gone));
    assert_eq!(databases(server, "given-up-new"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_in_any_step_leaves_the_name_as_it_was() {
    let server = Server::shared(15);
    Async.create(server, "broken-source");
    let text = plain(server, "broken-source", &[]);
    server.create_database("broken", "UTF8");
    server.psql("broken", "create table old (n integer)");
    let mut options = NewDatabase::new("broken");
    (options.existing, options.analyze) = (Existing::SetAside, true);
    for step in [Step::Create, Step::Load, Step::Verify, Step::Analyze, Step::Publish] {
        let proxy = CutProxy::start(server.port());
        let by_proxy = config(server, proxy.port());
        let mut left = Vec::new();
        let restored = new_database::restore(script(&*text), &by_proxy, &options, |event| match event {
            Event::Step(now) if now == step => proxy.cut(),
            Event::LeftBehind { database } => left.push(database.to_owned()),
            _ => {}
        });
        let error = restored.await.expect_err("it was cut");
        assert!(error.hint().is_some(), "{step:?}: {error}");
        assert_eq!(databases(server, "broken%"), "broken\nbroken-source", "{step:?}");
        // Who cannot reach the server any more tells what he has left there, and the next one removes it.
        assert_eq!(left.is_empty(), step == Step::Create, "{step:?}");
        let is_removed = || unfinished(server, "broken").is_empty();
        let config = config(server, server.port());
        for _ in 0..100 {
            new_database::drop_leftovers(&config).await.expect("the server is there");
            if is_removed() {
                break;
            }
            // Until the server has noticed that the session with the lock is gone.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(is_removed(), "{step:?}");
    }
    assert_eq!(server.psql("broken", "select count(*) from old"), "0");
    restore(server, script(text), &options).await.expect("the way is free");
    assert_same_dumps(server, "broken-source", "broken");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_encoding_is_that_of_the_archive_and_text_is_the_same_in_any() {
    let server = Server::shared(15);
    server.create_database("latin1-source", "LATIN1");
    server.psql(
        "latin1-source",
        "create table \"Größe\" (\"käse\" text default 'ü'); insert into \"Größe\" values ('ß'), (default);
         comment on table \"Größe\" is 'ö'",
    );
    let custom = server.tools().dump(server, "latin1-source", &DumpOptions::piped());
    let report = restore(server, archive(&custom), &NewDatabase::new("latin1-archive")).await.expect("it is restored");
    assert_eq!((report.encoding.as_str(), report.warnings.len()), ("LATIN1", 0));
    Fingerprint::of(server, "latin1-source").assert_same(&Fingerprint::of(server, "latin1-archive"));
    let encoding = "select pg_encoding_to_char(encoding), datcollate from pg_database where datname = 'latin1-archive'";
    assert_eq!(server.psql("postgres", encoding), "LATIN1|C");

    let output = server.client(server.tools(), "pg_dump", "latin1-source").output().expect("pg_dump runs");
    let report =
        restore(server, script(output.stdout), &NewDatabase::new("latin1-script")).await.expect("it is restored");
    assert_eq!(report.encoding, "UTF8");
    let rows = "select \"käse\", obj_description('\"Größe\"'::regclass) from \"Größe\" order by 1";
    assert_eq!(server.psql("latin1-source", rows), server.psql("latin1-script", rows));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_pg_dump_and_a_role_that_may_only_create_databases_will_do() {
    let server = Server::shared(13);
    Customization.create(server, "newer-source");
    let newer = PgTools::major(18);
    let custom = newer.dump(server, "newer-source", &DumpOptions::piped());
    let text = plain_by(&newer, server, "newer-source", &[]);
    assert!(text.contains("SET transaction_timeout = 0;"));
    server.psql(
        "postgres",
        &format!("create role maker login createdb password '{}'", server.password().replace('\'', "''")),
    );
    let mut config = config(server, server.port());
    config.su_username = "maker".to_owned();
    for (name, no_owner) in [("newer-owned", false), ("newer-new", true)] {
        let mut options = NewDatabase::new(name);
        options.no_owner = no_owner;
        let restored = new_database::restore(script(&*text), &config, &options, |_| {}).await;
        if no_owner {
            restored.expect("it owns what it makes");
            let owners = "select string_agg(distinct tableowner, ',') from pg_tables where schemaname = 'public'";
            assert_eq!(server.psql(name, owners), "maker");
        } else {
            let error = restored.expect_err("it is no member of the owner");
            assert!(error.to_string().contains("OWNER TO postgres` in line"), "{error}");
            assert_eq!(databases(server, name) + &unfinished(server, name), "");
        }
    }
    config.su_username = "store".to_owned();
    let options = NewDatabase::new("newer-no-right");
    let error = new_database::restore(script(&*text), &config, &options, |_| {}).await.expect_err("it has no right");
    assert!(error.hint().is_some_and(|hint| hint.contains("CREATEDB")), "{error}: {:?}", error.hint());

    let report = restore(server, archive(&custom), &NewDatabase::new("newer-archive")).await.expect("it is restored");
    assert!(report.warnings.is_empty(), "{report:?}");
    assert_same_dumps(server, "newer-source", "newer-archive");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locale_that_the_server_has_not_is_told_and_another_is_taken() {
    let server = Server::shared(15);
    server.create_database("locale-source", "UTF8");
    server.psql("locale-source", "create table t (a text); insert into t values ('x')");
    let custom = server.tools().dump(server, "locale-source", &DumpOptions::piped());
    // As of a machine that has a locale of this length.
    let bytes = fs::read(&custom).expect("the archive");
    let text = b"LOCALE = 'C'";
    let at = bytes.windows(text.len()).position(|window| window == text).expect("the database is in the archive");
    let bytes = [&bytes[..at], b"LOCALE = 'q'", &bytes[at + text.len()..]].concat();
    let reader = Box::new(ArchiveReader::new(Cursor::new(bytes)).expect("an archive"));
    let dump = Dump::Archive { reader, name: "elsewhere.dump".into() };
    let report = restore(server, dump, &NewDatabase::new("locale-new")).await.expect("it is restored");
    let [warning] = report.warnings.as_slice() else { panic!("{report:?}") };
    assert!(warning.contains("(LOCALE 'q'): text is sorted as by the server's own"), "{warning}");
    assert_same_dumps(server, "locale-source", "locale-new");
}

/// What the child is given: the configuration and the script.
const CHILD: &str = "PGMIG_TEST_NEW_DATABASE";

/// Not a test: the process that is killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by another test"]
async fn restores_in_a_process_of_its_own() {
    let Ok(folder) = env::var(CHILD).map(PathBuf::from) else { return };
    let config = TargetConfig::load(&folder.join("postgres.yaml"), &Environment::default()).expect("the file is right");
    let input = File::open(folder.join("script.sql")).expect("the script");
    let mut options = NewDatabase::new("killed");
    (options.existing, options.analyze) = (Existing::SetAside, true);
    let dump = Dump::Script { input, name: "script.sql".into() };
    new_database::restore(dump, &config, &options, |_| {}).await.expect("it is restored");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_leaves_the_name_to_what_is_whole_and_the_next_one_removes_the_rest() {
    let server = Server::shared(17);
    Customization.create(server, "killed-source");
    server.create_database("killed", "UTF8");
    server.psql("killed", "create table old (n integer)");
    let folder = tempfile::tempdir().expect("a temporary folder");
    server.write_postgres_yaml(&folder.path().join("postgres.yaml"), "postgres");
    fs::write(folder.path().join("script.sql"), plain(server, "killed-source", &[])).expect("the script is written");
    let config = config(server, server.port());
    let (mut unpublished, mut left) = (0, 0);
    for delay in (0..).map(|number| Duration::from_millis(number * 15)) {
        let mut command = Command::new(env::current_exe().expect("this program"));
        command.args(["--exact", "new_database::restores_in_a_process_of_its_own", "--ignored"]);
        let child = command.env(CHILD, folder.path()).stdout(Stdio::null()).spawn();
        let mut child = child.expect("it starts");
        // Nobody may be connected to the database with the name.
        let is_published = || !databases(server, r"killed\_before\_%").is_empty();
        let begun = || !unfinished(server, "killed").is_empty() || is_published();
        tokio::task::block_in_place(|| {
            wait_until("the restore has begun", begun);
            thread::sleep(delay);
        });
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
        left += usize::from(!unfinished(server, "killed").is_empty());
        let is_removed = || unfinished(server, "killed").is_empty();
        for _ in 0..100 {
            new_database::drop_leftovers(&config).await.expect("the server is there");
            if is_removed() {
                break;
            }
            // Until the server has noticed that the session with the lock is gone.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(is_removed(), "{delay:?}");
        if is_published() {
            break;
        }
        assert_eq!(server.psql("killed", "select to_regclass('old')"), "old", "{delay:?}");
        assert_eq!(databases(server, "killed%"), "killed\nkilled-source", "{delay:?}");
        unpublished += 1;
    }
    assert!(unpublished > 1 && left > 0, "{unpublished} {left}");
    assert_same_dumps(server, "killed-source", "killed");
    let aside = databases(server, r"killed\_before\_%");
    assert_eq!(server.psql(&aside, "select to_regclass('old')"), "old");
}
