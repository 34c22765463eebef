//! Archives of newer versions, transcoded, are restored by the pg_restore of older ones; and the other way round.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::archive_copy::{Container, as_sql, assert_same_text, listed, open};
use dumpfmt::{CompressionSpecification, Rewrite, TranscodeNote, Transcoding, Version, WriteOptions};
use pgmig_tests::{Compression, DumpOptions, Fingerprint, PgTools, Server, fixture};
use tempfile::TempDir;

const ROLE: &str = r#"do $$ begin create role "odd LARGE OBJECT 920001 role";
    exception when duplicate_object then null; end $$"#;

/// Large objects with owners, rights and comments, alone and in groups.
const LARGE_OBJECTS: &str = r#"
    select count(lo_from_bytea(920000 + n, convert_to('content ' || n, 'UTF8'))) from generate_series(1, 1205) n \g /dev/null
    do $$ begin for n in 920001..921205 loop
      execute format('grant select on large object %s to public; grant all on large object %s to store with grant option;
        grant select on large object %s to "odd LARGE OBJECT 920001 role"', n, n, n);
    end loop; end $$;
    select count(lo_from_bytea(930000 + n, '')) from generate_series(1, 1001) n \g /dev/null
    comment on large object 930003 is 'it''s a "comment"';
    comment on large object 931000 is E'two\nlines; LARGE OBJECT 920001';
    select lo_from_bytea(4294967295, 'highest') \g /dev/null
    comment on large object 4294967295 is 'high';
    alter large object 930500 owner to store;
    alter large object 930501 owner to store;
    revoke all on large object 930502 from postgres;
    revoke all on large object 930503 from postgres;
"#;

/// A database on the server of one version.
struct Source {
    server: &'static Server,
    database: &'static str,
}

impl Source {
    fn load(major: u32, database: &'static str) -> Self {
        let server = Server::shared(major);
        server.create_database(database, "UTF8");
        for file in ["awkward.sql", "awkward-schema-utf8.sql", "awkward-data-utf8.sql"] {
            server.psql_file(database, &fixture(file), &[]);
        }
        server.psql("postgres", ROLE);
        server.psql(database, LARGE_OBJECTS);
        Self { server, database }
    }

    fn dump(&self, how: &DumpOptions) -> tempfile::TempPath {
        self.server.tools().dump(self.server, self.database, how)
    }
}

/// Writes `dump` as an archive of another version.
fn transcode(
    dump: &Path,
    target: Version,
    compression: &str,
    container: Container,
) -> (TempDir, PathBuf, Vec<TranscodeNote>) {
    let mut source = open(dump);
    let transcoding = Transcoding::plan(source.toc(), source.header(), target).unwrap();
    let notes = transcoding.notes().to_vec();
    let compression: CompressionSpecification = compression.parse().unwrap();
    let options = WriteOptions::new(compression).version(target);
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("transcoded");
    let mut rewrite = Rewrite::new(options);
    rewrite.contents(transcoding.into_toc());
    let file = |path: &Path| File::create_new(path).unwrap();
    match container {
        Container::Seekable => drop(rewrite.to_file(&mut source, file(&archive), |_| {}).unwrap()),
        Container::Piped => drop(rewrite.to_pipe(&mut source, file(&archive), |_| {}).unwrap()),
        Container::Directory => drop(rewrite.to_directory(&mut source, &archive, |_| {}).unwrap()),
    }
    (folder, archive, notes)
}

/// What the large objects are called by their comments, which the fingerprint does not tell.
fn comments(server: &Server, database: &str) -> String {
    server.psql(
        database,
        "select objoid, description from pg_description where classoid = 'pg_largeobject'::regclass order by 1",
    )
}

fn restore(tools: &PgTools, archive: &Path, jobs: &str, expected: (&Server, &str)) {
    let server = Server::shared(tools.version());
    server.psql("postgres", ROLE);
    let database = format!("transcoded_{}", expected.1);
    server.create_database(&database, "UTF8");
    let mut command = server.client(tools, "pg_restore", &database);
    let output = command.args(["--exit-on-error", jobs]).arg(archive).output().expect("pg_restore runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<_> = said.lines().filter(|line| line.contains("warning") || line.contains("error")).collect();
    assert!(output.status.success() && said.is_empty(), "{} ({}): {said:?}", archive.display(), output.status);
    Fingerprint::of(expected.0, expected.1).data().assert_same(&Fingerprint::of(server, &database).data());
    assert_eq!(comments(expected.0, expected.1), comments(server, &database));
    assert!(comments(server, &database).lines().count() >= 4);
    server.drop_database(&database);
}

#[test]
fn a_dump_of_17_is_restored_by_15_and_16() {
    let source = Source::load(17, "from_17");
    let dump = source.dump(&DumpOptions::piped().compress(Compression::Zstd));
    assert!(open(&dump).toc().of_type("BLOBS").count() > 3);
    let from = (source.server, source.database);
    for (major, version) in [(15, Version::TABLE_ACCESS_METHOD), (16, Version::COMPRESSION_ALGORITHM)] {
        for (container, jobs) in [(Container::Seekable, "-j2"), (Container::Piped, "-v")] {
            let (_folder, archive, notes) = transcode(&dump, version, "gzip", container);
            assert_eq!(notes, []);
            restore(&PgTools::major(major), &archive, jobs, from);
        }
    }
    source.server.drop_database(source.database);
}

#[test]
#[ignore = "takes long: `make test` runs it"]
fn a_dump_of_18_with_statistics_is_restored_by_15_and_16() {
    let source = Source::load(18, "from_18");
    source.server.psql(source.database, "analyze");
    let how = DumpOptions::seekable().compress(Compression::Lz4).arg("--statistics");
    let dump = source.dump(&how);
    let statistics = open(&dump).toc().of_type("STATISTICS DATA").count() as u64;
    assert!(statistics > 50, "{statistics}");
    let from = (source.server, source.database);
    for (major, version) in [(15, Version::TABLE_ACCESS_METHOD), (16, Version::COMPRESSION_ALGORITHM)] {
        let (_folder, archive, notes) = transcode(&dump, version, "gzip:1", Container::Directory);
        assert_eq!(notes, [TranscodeNote::StatisticsLeftOut { entries: statistics }]);
        restore(&PgTools::major(major), &archive, "-j2", from);
    }
    source.server.drop_database(source.database);
}

/// The entries of large objects, but for dump IDs: those differ.
fn large_objects(archive: &Path) -> Vec<String> {
    let source = open(archive);
    let shown = |text: Option<&[u8]>| String::from_utf8_lossy(text.unwrap_or_default()).into_owned();
    let mut entries = Vec::new();
    for entry in source.toc().entries() {
        if entry.description() == b"BLOB" || entry.tag().starts_with(b"LARGE OBJECT") {
            let dependencies = entry.dependencies().iter().map(|&id| source.toc().get(id).unwrap());
            let dependencies: Vec<_> =
                dependencies.map(|on| on.to_string().replace(&on.dump_id().to_string(), "")).collect();
            entries.push(format!(
                "{} {} {:?} {}.{} {} {} {} {dependencies:?}",
                shown(Some(entry.description())),
                shown(Some(entry.tag())),
                entry.section(),
                entry.table_oid(),
                entry.oid(),
                shown(entry.definition()),
                shown(entry.drop_statement()),
                shown(entry.owner()),
            ));
        }
    }
    entries.sort();
    entries
}

#[test]
fn large_objects_have_the_entries_that_pg_dump_15_writes() {
    let (newer, older) = (Server::shared(17), Server::shared(15));
    for server in [newer, older] {
        server.create_database("objects", "UTF8");
        server.psql("postgres", ROLE);
        server.psql("objects", LARGE_OBJECTS);
    }
    let [newer, older] = [newer, older].map(|server| server.tools().dump(server, "objects", &DumpOptions::seekable()));
    let (_folder, archive, _) = transcode(&newer, Version::TABLE_ACCESS_METHOD, "none", Container::Piped);
    let (found, expected) = (large_objects(&archive), large_objects(&older));
    assert!(expected.len() > 2206 + 1205);
    let differing = found.iter().zip(&expected).find(|(found, expected)| found != expected);
    assert_eq!(differing, None);
    assert_eq!(found.len(), expected.len());
}

#[test]
fn a_dump_of_15_as_version_1_16_makes_the_same_sql() {
    let source = Source::load(15, "from_15");
    let dump = source.dump(&DumpOptions::piped());
    for (container, compression) in [(Container::Seekable, "zstd"), (Container::Directory, "lz4")] {
        let (_folder, archive, notes) = transcode(&dump, Version::RELKIND, compression, container);
        assert_eq!(notes, []);
        for tools in [PgTools::major(17), PgTools::major(18)] {
            assert_eq!(listed(&tools, &archive), listed(&tools, &dump));
            assert_same_text(&as_sql(&tools, &archive), &as_sql(&tools, &dump), &format!("{container:?}"));
        }
        restore(&PgTools::major(18), &archive, "-j2", (source.server, source.database));
    }
    source.server.drop_database(source.database);
}

#[test]
fn the_kinds_of_relations_are_those_that_pg_dump_17_writes() {
    const RELATIONS: &str = "create table plain (\"PARTITION BY\" int default length('PARTITION BY'));
        create table parted (n int, t text) partition by list (n); create table part partition of parted for values in (1);
        create view v as select * from plain; create materialized view m as select * from parted; create sequence s;
        create extension file_fdw; create server files foreign data wrapper file_fdw;
        create foreign table f (n int) server files options (filename '/nothing');
        create table inheriting (extra int) inherits (plain); create index on parted (n); create type pair as (a int, b int);
        create table typed of pair; create unlogged table fast (n int) with (fillfactor = 50)";
    let kinds = |archive: &Path| -> Vec<(String, Option<u8>)> {
        let archive = open(archive);
        let name = |entry: &dumpfmt::TocEntry| {
            String::from_utf8_lossy(&[entry.description(), b" ", entry.tag()].concat()).into_owned()
        };
        let mut kinds: Vec<_> = archive.toc().entries().iter().map(|entry| (name(entry), entry.relkind())).collect();
        kinds.sort();
        kinds
    };
    let [older, newer] = [15, 17].map(|major| {
        let server = Server::shared(major);
        server.create_database("relations", "UTF8");
        server.psql("relations", RELATIONS);
        server.tools().dump(server, "relations", &DumpOptions::seekable())
    });
    let (_folder, archive, _) = transcode(&older, Version::RELKIND, "gzip", Container::Seekable);
    assert_eq!(kinds(&archive), kinds(&newer));
    let (_folder, back, _) = transcode(&archive, Version::TABLE_ACCESS_METHOD, "gzip", Container::Seekable);
    assert_eq!(open(&back).toc().entries(), open(&older).toc().entries());
}

/// What only newer servers know, and beside it what looks like that.
const NEWER_17: &str = r"
    create table plain (a int); grant maintain on plain to grantee; create table granted (a int); grant all on granted to grantee;
    grant select on granted to maintain;
    create function react() returns event_trigger language plpgsql as 'begin end';
    create event trigger at_login on login execute function react(); alter event trigger at_login disable;
    create event trigger login on ddl_command_end execute function react();
    create collation built_in (provider = builtin, locale = 'C.UTF-8'); create collation builtin (locale = 'C');
    create table parted (n int) partition by list (n) using heap;
    alter default privileges grant maintain on tables to maintain;
";
const NEWER_18: &str = r#"
    create table virtual (a int, b int generated always as (a + 1));
    create table stored (a int, b int generated always as (a + 1) stored, period text, "not" int, enforced bool, check (not enforced));
    create table own_name (a int constraint named not null, b int not null, c int primary key, e int default (1) not null);
    create table not_inherited (d int not null no inherit);
    create table parent (a int); create table child (constraint own not null a) inherits (parent);
    create table invalid (a int); alter table invalid add constraint later not null a not valid;
    create table column_check (a int check (a > 0) not enforced);
    create table target (a int primary key); create table reference (a int references target not enforced);
    create table temporal (id int4range, valid daterange, primary key (id, valid without overlaps));
    create table temporal_reference (id int4range, valid daterange, foreign key (id, period valid) references temporal (id, period valid));
    create table period (period int, other int, unique (other, period));
    create table of_period (a int, period int, foreign key (a, period) references period (other, period));
"#;

/// The dump IDs of the entries at which pg_restore complains of what it is told to do, not of what is missing since.
fn refused(said: &str) -> Vec<i32> {
    let mut entry = 0;
    let mut refused = Vec::new();
    for line in said.lines() {
        if let Some((_, id)) = line.split_once("from TOC entry ") {
            entry = id.split(';').next().unwrap().parse().unwrap();
        } else if line.contains("ERROR: ") && !line.contains("does not exist") {
            refused.push(entry);
        }
    }
    refused.sort_unstable();
    refused
}

#[test]
fn what_a_server_will_refuse_is_told() {
    for major in [17, 18] {
        let newer = Server::shared(major);
        let older = Server::shared(15);
        for server in [newer, older] {
            server.create_database("newer_sql", "UTF8");
            for role in ["grantee", "maintain"] {
                let create =
                    format!("do $$ begin create role {role}; exception when duplicate_object then null; end $$");
                server.psql("postgres", &create);
            }
        }
        if major == 18 {
            newer.psql("newer_sql", NEWER_18);
        }
        newer.psql("newer_sql", NEWER_17);
        let dump = newer.tools().dump(newer, "newer_sql", &DumpOptions::seekable());
        let (_folder, archive, notes) = transcode(&dump, Version::TABLE_ACCESS_METHOD, "gzip", Container::Seekable);
        let output = older.client(older.tools(), "pg_restore", "newer_sql").arg("-v").arg(&archive).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let mut told = Vec::new();
        for note in &notes {
            match note {
                TranscodeNote::NewerSql { dump_id, .. } => told.push(*dump_id),
                TranscodeNote::AccessMethodLeftOut { entry, method, .. } => {
                    assert!(entry.starts_with("TABLE public.parted ") && **method == *"heap", "{note}");
                }
                other => panic!("{other}"),
            }
        }
        told.sort_unstable();
        let shown: Vec<String> = notes.iter().map(ToString::to_string).collect();
        assert_eq!(told, refused(&said), "{shown:#?}\n{said}");
        assert!(told.len() >= if major == 17 { 4 } else { 4 + 8 }, "{shown:#?}");
        for server in [newer, older] {
            server.drop_database("newer_sql");
        }
    }
}
