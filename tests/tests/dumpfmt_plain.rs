//! Plain dumps as real versions of `pg_dump` write them, read by `dumpfmt` and compared with what psql and the archive of
//! the same database say.

use std::{
    io::{self, Read},
    process::{Command, Output},
};

use dumpfmt::plain::{Item, PlainTable, ScriptReader, VerifiedScript};
use dumpfmt::{ArchiveReader, CopyStatement, ErrorKind, RestrictKey, SqlOptions, TocEntry};
use pgmig_tests::awkward::{Source, Store, source_database, unique};
use pgmig_tests::{DumpOptions, MAJORS, Server, thorough};

use crate::dumpfmt_sql::every_kind_database;

/// Gives one byte at a time.
struct Slowly<'a>(&'a [u8]);

impl Read for Slowly<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let step = out.len().min(1);
        self.0.read(&mut out[..step])
    }
}

fn stdout_of(what: &str, output: Output) -> Vec<u8> {
    assert!(output.status.success(), "{what} failed: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn pg_dump(server: &Server, database: &str, arguments: &[&str]) -> Vec<u8> {
    let mut dump = server.client(server.tools(), "pg_dump", database);
    stdout_of("pg_dump", dump.args(arguments).output().expect("pg_dump runs"))
}

fn verify(script: &[u8]) -> VerifiedScript {
    ScriptReader::new(script).digests(true).verify().unwrap_or_else(|e| panic!("{e}"))
}

/// What `psql` sends to the server, statement by statement, each with a `;` and a line feed.
fn sent_by_psql(server: &Server, database: &str, script: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("dump.sql");
    std::fs::write(&file, script).expect("it is writable");
    let mut psql: Command = server.client(server.tools(), "psql", database);
    // Not all of pg_dump's statements succeed, such as those that drop what is not there; it goes on with the next one.
    psql.args(["-X", "-q", "-e", "-o", "/dev/null", "-f"]).arg(&file);
    stdout_of("psql", psql.output().expect("psql runs"))
}

/// Panics unless psql sends the statements of the script as we read them.
fn assert_as_psql(server: &Server, script: &[u8], arguments: &[&str]) {
    let what = format!("PostgreSQL {}, {arguments:?}", server.tools().version());
    let database = unique("plain");
    server.create_database(&database, "UTF8");
    let sent = sent_by_psql(server, &database, script);
    let mut rest = &sent[..];
    let mut reader = ScriptReader::new(script);
    let (mut statements, mut copies) = (0, 0);
    while let Some(item) = reader.next_item().unwrap_or_else(|e| panic!("{what}: {e}")) {
        let end = match item {
            Item::Statement(sql) => {
                statements += 1;
                assert!(rest.starts_with(sql), "{what}: we read\n{}\npsql sent\n{}", shown(sql), shown(rest));
                sql.len()
            }
            Item::CopyBegins(_) => {
                copies += 1;
                assert!(rest.starts_with(b"COPY "), "{what}: {}", shown(rest));
                rest.windows(11).position(|bytes| bytes == b"FROM stdin;").expect("the COPY ends") + 10
            }
            _ => continue,
        };
        rest = rest[end..].strip_prefix(b";\n").unwrap_or_else(|| panic!("{what}: {}", shown(&rest[end..])));
    }
    assert!(rest.is_empty(), "{what}: {}", shown(rest));
    assert!(statements > 100, "{what}: {statements} statements, {copies} COPY");
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(500)]).into_owned()
}

#[test]
fn statements_are_those_that_psql_sends() {
    for major in MAJORS {
        let server = Server::shared(major);
        let database = every_kind_database(major);
        let all = [
            &[][..],
            &["--inserts"],
            &["--column-inserts", "--rows-per-insert=2", "--quote-all-identifiers"],
            &["--load-via-partition-root", "--disable-triggers", "--clean", "--if-exists"],
            &["--verbose", "--no-owner", "--no-privileges"],
        ];
        for (number, arguments) in all.into_iter().enumerate() {
            if number == 0 || thorough() || (major as usize + number).is_multiple_of(2) {
                let script = pg_dump(server, database, arguments);
                assert_as_psql(server, &script, arguments);
            }
        }
    }
}

#[test]
fn names_that_psql_takes_for_the_begin_of_a_body_do_no_harm() {
    for major in MAJORS.into_iter().filter(|major| *major >= 14) {
        let server = Server::shared(major);
        let database = unique("begin");
        server.create_database(&database, "UTF8");
        let sql = "create table t (begin int, atomic int); insert into t values (1, 2);
            create function begin() returns integer language sql as 'select 1; select 2;';
            create function atomic() returns integer begin atomic
              select case when begin = 1 then 2 else 3 end from t; select begin from t; end;
            create view v as select begin, case atomic when 1 then ';' else E'\\';' end as x from t;";
        server.psql(&database, sql);
        let script = pg_dump(server, &database, &[]);
        let mut reader = ScriptReader::new(&script[..]);
        let mut created = Vec::new();
        while let Some(item) = reader.next_item().expect("it can be read") {
            let Item::Statement(sql) = item else { continue };
            if sql.starts_with(b"CREATE ") {
                created.push(String::from_utf8_lossy(sql).into_owned());
            }
        }
        assert_eq!(created.len(), 4, "PostgreSQL {major}: {created:#?}");
        assert_eq!(created.iter().filter(|sql| sql.contains("CREATE FUNCTION")).count(), 2);
        assert_eq!(reader.tables()[0].rows, Some(1));
        // Each one is a statement to the server too.
        let other = unique("begin");
        server.create_database(&other, "UTF8");
        created.sort_by_key(|sql| !sql.contains("TABLE"));
        for sql in &created {
            let mut psql = server.client(server.tools(), "psql", &other);
            stdout_of("psql", psql.args(["-X", "-c", sql]).output().expect("psql runs"));
        }
    }
}

/// The rows of an archive, as those of a plain dump are told.
fn tables_of(archive: &std::path::Path) -> Vec<(CopyStatement, Option<u64>, String)> {
    let mut archive = ArchiveReader::open(archive).expect("the archive can be read");
    let verified = archive.verify(|_| {}).expect("it is whole");
    let entry = |dump_id| archive.toc().entries().iter().find(|entry: &&TocEntry| entry.dump_id() == dump_id);
    let tables = verified.into_iter().filter(|found| found.rows.is_some());
    tables
        .map(|found| {
            let copy = entry(found.dump_id).and_then(CopyStatement::of).expect("it has a COPY statement");
            (copy, found.rows, found.sha256.expect("a digest was asked for").to_string())
        })
        .collect()
}

fn summary(tables: &[PlainTable]) -> Vec<(CopyStatement, Option<u64>, String)> {
    let digest = |table: &PlainTable| table.sha256.expect("a digest was asked for").to_string();
    tables.iter().map(|table| (table.copy.clone(), table.rows, digest(table))).collect()
}

#[test]
fn the_rows_and_their_digests_are_those_of_the_archive() {
    for major in MAJORS {
        let server = Server::shared(major);
        for (store, encoding) in [(Store::Utf8, "UTF8"), (Store::Latin1, "LATIN1")] {
            let archive = Source::dump(major, store, &DumpOptions::piped()).archive;
            let script = verify(&pg_dump(server, &source_database(major, store), &[]));
            let expected = tables_of(&archive);
            assert!(expected.len() > 3 && expected.iter().any(|(_, rows, _)| *rows > Some(0)));
            assert_eq!(summary(&script.tables), expected, "PostgreSQL {major}");
            assert_eq!(script.encoding.as_deref(), Some(encoding));
            let header = ArchiveReader::open(&archive).expect("it can be read").header().clone();
            assert_eq!((script.server_version, script.dump_version), (header.server_version, header.dump_version));
        }
    }
}

#[test]
fn the_sql_that_an_archive_is_written_as_is_read_like_that_of_pg_dump() {
    for major in MAJORS {
        let archive = Source::dump(major, Store::Utf8, &DumpOptions::seekable()).archive;
        for key in [RestrictKey::None, RestrictKey::Given("Key1".into())] {
            let mut options = SqlOptions::default();
            options.restrict_key = key;
            let mut script = Vec::new();
            let mut reader = ArchiveReader::open(&archive).expect("the archive can be read");
            reader.write_sql_seeking(&mut script, &options).expect("it can be written");
            assert_eq!(summary(&verify(&script).tables), tables_of(&archive), "PostgreSQL {major}");
        }
    }
}

#[test]
fn a_dump_that_creates_its_database_is_refused_for_its_connect() {
    for major in MAJORS {
        let script = pg_dump(Server::shared(major), every_kind_database(major), &["--create"]);
        let error = ScriptReader::new(&script[..]).verify().expect_err("it is refused");
        // A name with a blank: `\encoding` precedes the `\connect`.
        let known = ["connect", "encoding"];
        assert!(
            matches!(error.kind(), ErrorKind::MetaCommand(name) if known.contains(&&name[..])),
            "PostgreSQL {major}: {error}"
        );
    }
}

#[test]
fn a_real_dump_that_is_cut_anywhere_is_refused() {
    for major in MAJORS {
        let server = Server::shared(major);
        let database = unique("cut");
        server.create_database(&database, "UTF8");
        let sql = "create table t (a int, b text); insert into t values (1, E'\\\\.'), (2, ''), (3, null);
            create function f() returns text language sql as 'select ''$;$''';
            create view v as select 'it''s; ' || b as \"x;y\" from t; comment on table t is E'a\\nb';";
        server.psql(&database, sql);
        let script = pg_dump(server, &database, &[]);
        let expected = verify(&script);
        assert_eq!(ScriptReader::new(Slowly(&script)).digests(true).verify().expect("it is whole"), expected);
        for length in 0..script.len() {
            let error = ScriptReader::new(&script[..length]).verify().expect_err("it is cut short");
            assert!(matches!(error.kind(), ErrorKind::Truncated(_)) || length == 0, "{length}: {error}");
        }
    }
}
