//! The listing of an archive and the archive as SQL, compared byte for byte with what `pg_restore` of the same version
//! prints: over an object of nearly every kind, names with line breaks and quotes, and most of its options.
//!
//! Every option is tried with half of the versions, with `PGMIG_TEST_THOROUGH=1` with all of them.

use std::{
    fs::{self, File},
    io::{BufReader, Read, Write as _},
    path::Path,
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use dumpfmt::example::Builder;
use dumpfmt::{
    ArchiveReader, ListFaultKind, ListFile, ListFileError, PgRestoreVersion, RestrictKey, Section, SqlError, SqlOptions,
};
use pgmig_tests::awkward::{Source, Store};
use pgmig_tests::{Compression, DumpOptions, Fingerprint, MAJORS, PgTools, Server, fixture, thorough};
use tempfile::TempPath;

const KEY: &str = "TheKeyOfTheTest1";

/// How the database with an object of every kind is dumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Into a file, compressed, as pg_dump does when nothing else is said.
    Plain,
    /// Through a pipe, with rows as INSERT statements.
    Inserts,
    /// Uncompressed, the rows of partitions for their root, the statistics where there can be any.
    Roots,
}

/// Whether a version has its turn with the option of this number. A version takes every other option, and the next
/// version the others.
fn has_turn(major: u32, number: usize) -> bool {
    thorough() || (major as usize + number).is_multiple_of(2)
}

/// The name of the database with an object of every kind, which is there then.
pub(crate) fn every_kind_database(major: u32) -> &'static str {
    static LOADED: [OnceLock<()>; 32] = [const { OnceLock::new() }; 32];
    let server = Server::shared(major);
    LOADED[major as usize].get_or_init(|| {
        server.create_database("every kind", "UTF8");
        server.psql_file("every kind", &fixture("every-kind.sql"), &[]);
    });
    "every kind"
}

/// An archive of the database with an object of every kind.
fn every_kind(major: u32, shape: Shape) -> &'static Path {
    static DUMPS: [[OnceLock<TempPath>; 3]; 32] = [const { [const { OnceLock::new() }; 3] }; 32];
    let server = Server::shared(major);
    let database = every_kind_database(major);
    DUMPS[major as usize][shape as usize].get_or_init(|| {
        let options = match shape {
            Shape::Plain => DumpOptions::seekable(),
            Shape::Inserts => DumpOptions::piped().arg("--inserts"),
            Shape::Roots => {
                let options = DumpOptions::seekable().compress(Compression::None).arg("--load-via-partition-root");
                if major >= 18 { options.arg("--statistics") } else { options }
            }
        };
        server.tools().dump(server, database, &options)
    })
}

/// The options of `pg_restore` as ours.
fn options(major: u32, arguments: &[&str], archive: &Path) -> SqlOptions {
    let mut options = SqlOptions::default();
    options.version = Some(PgRestoreVersion::of_major(major));
    options.restrict_key = key_for(major);
    let mut arguments = arguments.iter();
    while let Some(&argument) = arguments.next() {
        let mut value = || arguments.next().expect("the option has a value").as_bytes().to_vec();
        match argument {
            "-L" => {
                let list = BufReader::new(File::open(Path::new(arguments.next().unwrap())).expect("the list is there"));
                options.list = Some(ListFile::read(list, open(archive).toc()).expect("the list is right"));
            }
            "-n" => options.schemas.push(value()),
            "-N" => options.exclude_schemas.push(value()),
            "-t" => options.tables.push(value()),
            "-I" => options.indexes.push(value()),
            "-P" => options.functions.push(value()),
            "-T" => options.triggers.push(value()),
            "-S" => options.superuser = Some(value()),
            "--role" => options.role = Some(value()),
            "-c" => options.clean = true,
            "-C" => options.create = true,
            "-O" => options.no_owner = true,
            "-x" => options.no_privileges = true,
            "-1" => options.single_transaction = true,
            "-a" => (options.schema, options.statistics) = (false, false),
            "-s" => (options.data, options.statistics) = (false, false),
            "--statistics-only" => (options.schema, options.data) = (false, false),
            "--no-schema" => options.schema = false,
            "--no-data" => options.data = false,
            "--no-statistics" => options.statistics = false,
            "--if-exists" => options.if_exists = true,
            "--no-comments" => options.no_comments = true,
            "--no-policies" => options.no_policies = true,
            "--no-publications" => options.no_publications = true,
            "--no-security-labels" => options.no_security_labels = true,
            "--no-subscriptions" => options.no_subscriptions = true,
            "--no-tablespaces" => options.no_tablespaces = true,
            "--no-table-access-method" => options.no_table_access_method = true,
            "--use-set-session-authorization" => options.use_set_session_authorization = true,
            "--disable-triggers" => options.disable_triggers = true,
            "--enable-row-security" => options.enable_row_security = true,
            "--section=pre-data" => options.sections.push(Section::PreData),
            "--section=data" => options.sections.push(Section::Data),
            "--section=post-data" => options.sections.push(Section::PostData),
            other => panic!("`{other}` is not an option of this test"),
        }
    }
    options
}

fn open(archive: &Path) -> ArchiveReader<File> {
    ArchiveReader::open(archive).expect("the archive can be read")
}

fn pg_restore(major: u32, arguments: &[&str]) -> Command {
    let mut command = Command::new(PgTools::major(major).program("pg_restore"));
    command.args(arguments).env("TZ", "UTC").env("LC_ALL", "C").stdin(Stdio::null());
    command
}

fn text_of(what: &str, output: Output) -> Vec<u8> {
    assert!(output.status.success(), "{what} failed: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The key that `pg_restore` of this version is given, if it is a release that takes one.
fn key_for(major: u32) -> RestrictKey {
    if is_older_release(major) { RestrictKey::None } else { RestrictKey::Given(KEY.to_owned()) }
}

fn stock_sql(major: u32, archive: &Path, arguments: &[&str]) -> Vec<u8> {
    let mut command = pg_restore(major, arguments);
    if key_for(major) != RestrictKey::None {
        command.arg(format!("--restrict-key={KEY}"));
    }
    command.args(["-f", "-"]).arg(archive);
    text_of("pg_restore", command.output().expect("pg_restore runs"))
}

fn stock_listing(major: u32, archive: &Path, arguments: &[&str]) -> Vec<u8> {
    text_of("pg_restore -l", pg_restore(major, arguments).arg("-l").arg(archive).output().expect("pg_restore runs"))
}

fn our_sql(archive: &Path, options: &SqlOptions) -> Result<Vec<u8>, SqlError> {
    let mut out = Vec::new();
    open(archive).write_sql_seeking(&mut out, options).map(|()| out)
}

fn our_listing(archive: &Path, options: &SqlOptions) -> Vec<u8> {
    let mut out = Vec::new();
    let archive = open(archive);
    let listing = archive.listing(options).expect("the options fit the archive").time_zone("UTC");
    listing.write_to(&mut out).expect("a Vec takes everything");
    out
}

/// Panics with the first line that differs.
#[track_caller]
fn assert_same(stock: &[u8], ours: &[u8], what: &str) {
    if stock == ours {
        return;
    }
    let lines = |text: &[u8]| text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (stock, ours) = (lines(stock), lines(ours));
    let same = stock.iter().zip(&ours).take_while(|(stock, ours)| stock == ours).count();
    let around = |lines: &[Vec<u8>]| {
        let lines = lines.iter().skip(same.saturating_sub(3)).take(8);
        lines.map(|line| format!("    {}\n", line.escape_ascii())).collect::<String>()
    };
    panic!("{what}: line {} differs\n  pg_restore:\n{}  ours:\n{}", same + 1, around(&stock), around(&ours));
}

/// Panics unless our SQL and our listing are those of `pg_restore` with the same options.
#[track_caller]
fn assert_equal(major: u32, archive: &Path, arguments: &[&str]) {
    let what = format!("PostgreSQL {major}, {arguments:?}");
    let options = options(major, arguments, archive);
    let stock = stock_sql(major, archive, arguments);
    assert!(stock.starts_with(b"--\n-- PostgreSQL database dump\n"), "{what}: pg_restore printed no script");
    let ours = our_sql(archive, &options).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_same(&stock, &as_released(major, ours), &what);
    if lists_alike(major, arguments) {
        assert_same(&stock_listing(major, archive, arguments), &our_listing(archive, &options), &format!("{what} -l"));
    }
}

/// Whether `pg_restore` of this version is a release from before August 2025, as the one that the tests use for 14 is.
/// We write as later releases do.
fn is_older_release(major: u32) -> bool {
    !PgTools::major(major).writes_restrict()
}

/// Our SQL without the encoding that older releases do not set before they connect.
fn as_released(major: u32, ours: Vec<u8>) -> Vec<u8> {
    if is_older_release(major) { without_line(&ours, b"\\encoding SQL_ASCII") } else { ours }
}

/// Older releases leave comments and rights out of the listing of what was chosen, though not out of the SQL.
fn lists_alike(major: u32, arguments: &[&str]) -> bool {
    arguments.is_empty() || !is_older_release(major)
}

#[test]
fn all_of_an_archive_is_the_sql_and_the_listing_of_pg_restore() {
    for major in MAJORS {
        for shape in [Shape::Plain, Shape::Inserts, Shape::Roots] {
            assert_equal(major, every_kind(major, shape), &[]);
        }
    }
}

#[test]
fn how_it_is_written_follows_the_options() {
    for major in MAJORS {
        let archive = every_kind(major, Shape::Plain);
        let all = [
            &["-c"][..],
            &["-c", "--if-exists"],
            &["-C"],
            &["-c", "-C"],
            &["-c", "-C", "--if-exists"],
            &["-O"],
            &["-O", "-x", "--no-comments"],
            &["--no-publications"],
            &["--no-subscriptions", "--no-security-labels"],
            &["--no-tablespaces"],
            &["--no-table-access-method"],
            &["--use-set-session-authorization"],
            &["--use-set-session-authorization", "-c", "-x"],
            &["-a", "--disable-triggers"],
            &["-a", "--disable-triggers", "-S", "it's \"him\""],
            &["--section=data", "--disable-triggers"],
            &["--disable-triggers"],
            &["--role", "re'ader \"x\"", "--enable-row-security"],
            &["-1"],
        ];
        for (_, arguments) in all.into_iter().enumerate().filter(|(number, _)| has_turn(major, *number)) {
            let unknown = arguments == ["--no-table-access-method"] && major < 15;
            // Older releases keep the comments on what these leave out.
            let keeps_comments = matches!(arguments[0], "--no-publications" | "--no-subscriptions");
            if unknown || keeps_comments && is_older_release(major) {
                continue;
            }
            assert_equal(major, archive, arguments);
        }
    }
}

#[test]
fn what_is_written_follows_the_options() {
    for major in MAJORS {
        let archive = every_kind(major, Shape::Roots);
        let mut all: Vec<&[&str]> = vec![
            &["-s"],
            &["-a"],
            &["--section=pre-data"],
            &["--section=data"],
            &["--section=post-data"],
            &["--section=pre-data", "--section=post-data"],
            &["-n", "plain"],
            &["-n", "line\nbreak", "-n", "order"],
            &["-n", "no such schema"],
            &["-N", "plain"],
            &["-n", "plain", "-N", "order", "-x"],
            &["-t", "thing"],
            &["-t", "thing", "-t", "user", "-c"],
            &["-t", "table\n\\! echo hacked"],
            &["-n", "plain", "-t", "thing", "-C"],
            &["-t", "thing_words"],
            &["-I", "thing_words"],
            &["-I", "thing_words", "-t", "thing"],
            &["-P", "standard()", "-P", "proceed(integer)"],
            &["-T", "thing late"],
            &["-t", "summary", "--section=post-data"],
        ];
        if major >= 18 {
            all.extend([
                &["--no-policies"][..],
                &["--no-statistics"],
                &["--statistics-only"],
                &["--statistics-only", "-t", "thing"],
                &["--no-data", "-n", "plain"],
                &["--no-data", "-t", "thing"],
                &["--no-schema"],
            ]);
        }
        for (_, arguments) in all.into_iter().enumerate().filter(|(number, _)| has_turn(major, *number)) {
            assert_equal(major, archive, arguments);
        }
    }
}

#[test]
fn a_list_chooses_the_entries_and_their_order() {
    for major in MAJORS {
        let archive = every_kind(major, Shape::Roots);
        let listing = String::from_utf8(stock_listing(major, archive, &[])).expect("its names are UTF-8");
        let lines: Vec<_> = listing.lines().map(str::to_owned).collect();
        let mut backward = lines.clone();
        backward.reverse();
        let mut by_type = lines.clone();
        by_type.sort_by_key(|line| line.split(' ').nth(3).map(str::to_owned));
        let every_third = lines.iter().enumerate().map(|(n, line)| match n % 3 {
            0 => line.clone(),
            1 => format!(";{line}"),
            _ => String::new(),
        });
        let numbers = backward.iter().filter_map(|line| Some(format!("  {}\t\r", line.split_once("; ")?.0)));
        for list in [lines.clone(), backward.clone(), by_type, every_third.collect(), numbers.collect()] {
            let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
            file.write_all(list.join("\n").as_bytes()).expect("it is writable");
            let path = file.path().to_str().expect("its name is UTF-8");
            let all = [&[][..], &["-c"], &["-n", "plain"], &["--section=data", "-x"]];
            for (_, more) in all.into_iter().enumerate().filter(|(number, _)| has_turn(major, *number)) {
                assert_equal(major, archive, &[&["-L", path][..], more].concat());
            }
        }
    }
}

#[test]
fn a_newer_pg_restore_can_be_asked_for() {
    for (dump, restore) in [(13, 14), (14, 15), (13, 18), (15, 16), (15, 18), (16, 17), (17, 18), (18, 17)] {
        for arguments in [&[][..], &["-c", "--if-exists"], &["-n", "plain"], &["-t", "thing", "-C"]] {
            assert_equal(restore, every_kind(dump, Shape::Roots), arguments);
        }
    }
}

#[test]
fn the_version_of_pg_dump_is_the_one_that_is_written_if_none_is_asked_for() {
    for major in MAJORS {
        let archive = every_kind(major, Shape::Plain);
        let mut options = SqlOptions::default();
        options.restrict_key = key_for(major);
        let ours = our_sql(archive, &options).expect("it can be written");
        assert_same(&stock_sql(major, archive, &[]), &ours, &format!("PostgreSQL {major}"));
    }
}

#[test]
fn stores_in_other_encodings_stay_as_they_are() {
    for major in MAJORS {
        for store in [Store::Utf8, Store::Latin1] {
            let source = Source::dump(major, store, &DumpOptions::piped());
            for arguments in
                [&[][..], &["-c", "--if-exists"], &["-C", "-O"], &["-n", "Mixed Case"], &["-a", "-t", "tenant"]]
            {
                assert_equal(major, &source.archive, arguments);
            }
        }
    }
}

#[test]
fn a_schema_with_an_extension_and_large_objects_under_every_compression_are_the_same() {
    for major in MAJORS {
        let server = Server::shared(major);
        server.create_database("store", "UTF8");
        server.psql_file("store", &fixture("store-schema.sql"), &[]);
        server.psql(
            "store",
            "select lo_from_bytea(n, decode(repeat(md5(n::text), 512 * n), 'hex')) from generate_series(1, 4) n",
        );
        for compression in server.tools().compressions() {
            let archive = server.tools().dump(server, "store", &DumpOptions::piped().compress(compression));
            assert_equal(major, &archive, &["-c", "--if-exists"]);
        }
    }
}

#[test]
#[ignore = "takes long: `make test` runs it"]
fn directories_and_tar_files_are_written_like_custom_archives() {
    for major in MAJORS {
        let server = Server::shared(major);
        let of_the_database = every_kind(major, Shape::Plain);
        let folder = tempfile::tempdir().expect("a temporary folder");
        for format in ["directory", "tar"] {
            let archive = folder.path().join(format);
            let mut dump = server.client(server.tools(), "pg_dump", "every kind");
            text_of("pg_dump", dump.arg("-F").arg(format).arg("-f").arg(&archive).output().expect("pg_dump runs"));
            for arguments in [&[][..], &["-c", "--if-exists", "-1"], &["-a", "-N", "plain"], &["-s", "-n", "plain"]] {
                assert_equal(major, &archive, arguments);
            }
            let mut options = SqlOptions::default();
            options.restrict_key = key_for(major);
            let same = our_sql(of_the_database, &options).expect("it can be written");
            assert_same(&same, &our_sql(&archive, &options).expect("it can be written"), format);
        }
    }
}

#[test]
fn archives_of_every_version_are_written_as_each_pg_restore_writes_them() {
    let copy = |table| format!("COPY {table} (a) FROM stdin;\n");
    for minor in 4..=16 {
        let mut builder = Builder::new(minor, 0);
        // Before 1.8 these are OIDs, which pg_restore takes for dump IDs.
        let table: &[&str] = if minor >= 8 { &["2"] } else { &[] };
        // "BLOB COMMENTS" and statements without a schema are of 7.2 to 8.4, one BLOB for each large object of 9.0 on.
        builder
            .entry(
                1,
                1,
                false,
                [Some("ENCODING"), Some("ENCODING"), Some("SET client_encoding = 'LATIN1';\n"), None, None],
            )
            .entry(
                2,
                2,
                false,
                [Some("t"), Some("TABLE"), Some("CREATE TABLE t (a text);\n"), Some("DROP TABLE t;\n"), None],
            )
            .entry(
                3,
                2,
                false,
                [
                    Some("f(text)"),
                    Some("FUNCTION"),
                    Some("CREATE FUNCTION f;\n"),
                    Some("DROP FUNCTION f(text);\n"),
                    None,
                ],
            )
            .entry(4, 1, false, [Some("t"), Some("ACL"), Some("GRANT SELECT ON t TO r;\n"), None, None])
            .depends_on(table)
            .entry(5, 1, false, [Some("TABLE t"), Some("COMMENT"), Some("COMMENT ON TABLE t IS 'x';\n"), None, None])
            .depends_on(table)
            .entry(6, 3, true, [Some("t"), Some("TABLE DATA"), None, None, Some(&copy("t"))])
            .entry(7, 3, true, [Some("BLOBS"), Some("BLOBS"), None, None, None])
            .entry(8, 3, true, [Some("BLOB COMMENTS"), Some("BLOB COMMENTS"), None, None, None])
            .entry(
                9,
                4,
                false,
                [Some("i"), Some("INDEX"), Some("CREATE INDEX i ON t (a);\n"), Some("DROP INDEX i;\n"), None],
            )
            .data(6, &[b"1\n", b"\\.\n\n\n"])
            .large_objects(7, &[(3_000_000_001, &[b"high"]), (18, &[])])
            .data(8, &[b"COMMENT ON LARGE OBJECT 18 IS 'it''s';\n"]);
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(&builder.build()).expect("it is writable");
        // 1.14 came with 12, 1.15 with 16, 1.16 with 17.
        for major in MAJORS.into_iter().filter(|major| u32::from(minor) < (*major).clamp(15, 17)) {
            for arguments in
                [&[][..], &["-c", "--if-exists"], &["-O", "-t", "t"], &["-n", "public"], &["--section=data"]]
            {
                let what = format!("version 1.{minor}, PostgreSQL {major}, {arguments:?}");
                let options = options(major, arguments, file.path());
                // Where the archive does not tell the version of pg_dump, pg_restore prints its own in its place.
                let truthful =
                    |stock: Vec<u8>| if minor < 10 { without_line(&stock, b"umped by pg_dump version") } else { stock };
                let ours = our_sql(file.path(), &options).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_same(&truthful(stock_sql(major, file.path(), arguments)), &ours, &what);
                if lists_alike(major, arguments) {
                    let stock = truthful(stock_listing(major, file.path(), arguments));
                    assert_same(&stock, &our_listing(file.path(), &options), &format!("{what} -l"));
                }
            }
        }
    }
}

/// The text without its line that contains `part`.
fn without_line(text: &[u8], part: &[u8]) -> Vec<u8> {
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| !line.windows(part.len()).any(|window| window == part)).collect::<Vec<_>>().concat()
}

#[test]
fn a_word_is_quoted_in_the_versions_in_which_it_is_a_keyword() {
    for major in MAJORS {
        let server = Server::shared(major);
        server.create_database("keywords", "UTF8");
        let every_word = "select format('create table public.%I ()', word) from pg_get_keywords() \\gexec";
        server.psql("keywords", every_word);
        let tables = server.psql(
            "keywords",
            "select count(*) from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace",
        );
        assert!(tables.parse::<u32>().expect("a number") > 400, "{tables} keywords");
        let archive = server.tools().dump(server, "keywords", &DumpOptions::seekable());
        assert_equal(major, &archive, &["-s"]);
    }
}

#[test]
fn a_database_of_any_name_can_be_connected_to() {
    for major in MAJORS {
        let server = Server::shared(major);
        for name in ["Mixed.Case", "user", "odd \"db\" it's \\ größe"] {
            server.create_database(name, "UTF8");
            let archive = server.tools().dump(server, name, &DumpOptions::seekable());
            assert_equal(major, &archive, &["-C"]);
            assert_equal(major, &archive, &["-C", "-c", "--if-exists"]);
        }
    }
}

#[test]
fn a_database_whose_name_would_become_a_command_is_refused() {
    for major in MAJORS {
        let server = Server::shared(major);
        let name = "a\n\\! echo hacked";
        server.create_database(name, "UTF8");
        let archive = server.tools().dump(server, name, &DumpOptions::seekable());
        assert_equal(major, &archive, &[]);
        let error = our_sql(&archive, &options(major, &["-C"], &archive)).expect_err("psql cannot connect to it");
        assert!(matches!(error, SqlError::Options(_)), "{error}");
        let output = pg_restore(major, &["-C", "-f", "-"]).arg(&archive).output().expect("pg_restore runs");
        assert!(!output.status.success(), "pg_restore {major} connects to it");
    }
}

/// An input in which nobody can seek.
struct Pipe(File);

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        // Pipes give less than they are asked for.
        let length = buffer.len().min(4096);
        self.0.read(&mut buffer[..length])
    }
}

#[test]
fn a_pipe_gives_the_same_sql_as_long_as_nothing_passed_is_wanted() {
    for major in MAJORS {
        let archive = every_kind(major, Shape::Inserts);
        let from_pipe = |options: &SqlOptions| {
            let mut out = Vec::new();
            let mut reader = ArchiveReader::new(Pipe(File::open(archive).unwrap())).expect("the archive can be read");
            reader.write_sql(&mut out, options).map(|()| out)
        };
        for arguments in [&[][..], &["-t", "user"], &["-s"], &["-c", "--section=data"]] {
            let ours = from_pipe(&options(major, arguments, archive)).expect("it is in order");
            assert_same(&stock_sql(major, archive, arguments), &ours, &format!("PostgreSQL {major}, {arguments:?}"));
        }

        let mut backward: Vec<_> = open(archive).toc().of_type("TABLE DATA").map(|e| e.dump_id().to_string()).collect();
        backward.reverse();
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(backward.join("\n").as_bytes()).expect("it is writable");
        let arguments = ["-L", file.path().to_str().expect("its name is UTF-8")];
        let error = from_pipe(&options(major, &arguments, archive)).expect_err("a pipe cannot go back");
        let SqlError::OutOfOrder { entry } = &error else { panic!("{error}") };
        assert!(entry.contains(&format!("(dump ID {})", backward[1])), "{entry}");
        assert!(error.hint().is_some_and(|hint| hint.contains("file")));
        assert_equal(major, archive, &arguments);
    }
}

#[test]
fn the_listing_shows_the_time_of_the_dump_in_whatever_zone_it_is_read() {
    for major in MAJORS {
        let archive = every_kind(major, Shape::Plain);
        // without summer time, which would be taken off
        let stock = pg_restore(major, &["-l"]).env("TZ", "JST-9").arg(archive).output().expect("pg_restore runs");
        let reader = open(archive);
        let mut ours = Vec::new();
        let listing = reader.listing(&SqlOptions::default()).expect("everything can be listed");
        listing.time_zone("JST").write_to(&mut ours).expect("a Vec takes everything");
        assert_same(&text_of("pg_restore -l", stock), &ours, &format!("PostgreSQL {major}"));
    }
}

#[test]
fn a_verbose_listing_shows_every_entry_and_what_it_depends_on() {
    for major in MAJORS {
        let archive = every_kind(major, Shape::Plain);
        let reader = open(archive);
        let mut ours = Vec::new();
        let mut options = SqlOptions::default();
        options.tables.push(b"thing".to_vec());
        let listing = reader.listing(&options).expect("the options fit").time_zone("UTC").verbose();
        listing.write_to(&mut ours).expect("a Vec takes everything");
        assert_same(&stock_listing(major, archive, &["-v", "-t", "thing"]), &ours, &format!("PostgreSQL {major}"));
    }
}

#[test]
fn every_wrong_line_of_a_list_is_told() {
    let archive = every_kind(17, Shape::Plain);
    let reader = open(archive);
    let known = reader.toc().entries()[5].dump_id();
    let above_all = reader.toc().entries().iter().map(dumpfmt::TocEntry::dump_id).max().expect("there are entries") + 1;
    let text = format!(";\n{known}; x\n\n{above_all}; y\nTABLE thing\n{known}\n0\n");
    let error = ListFile::read(text.as_bytes(), reader.toc()).expect_err("it is wrong");
    let ListFileError::Faults { first, count } = &error else { panic!("{error}") };
    let faults: Vec<_> = first.iter().map(|fault| (fault.line, fault.kind.clone())).collect();
    assert_eq!(*count, 4);
    assert_eq!(
        faults,
        [
            (4, ListFaultKind::Unknown(above_all)),
            (5, ListFaultKind::NotADumpId("TABLE thing".to_owned())),
            (6, ListFaultKind::Duplicate { dump_id: known, first_line: 2 }),
            (7, ListFaultKind::NotADumpId("0".to_owned())),
        ]
    );

    // pg_restore passes over the same lines with a warning that has no number.
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("it is writable");
    let output = pg_restore(17, &["-l", "-L"]).arg(file.path()).arg(archive).output().expect("pg_restore runs");
    let warnings = String::from_utf8_lossy(&output.stderr).matches("line ignored").count();
    assert_eq!((output.status.success(), warnings), (true, 4));
}

#[test]
fn a_script_with_a_random_key_makes_the_database_anew() {
    let source = Source::dump(18, Store::Utf8, &DumpOptions::piped());
    let server = Server::shared(18);
    let mut script = tempfile::NamedTempFile::new().expect("a temporary file");
    open(&source.archive).write_sql(&mut script, &SqlOptions::default()).expect("it can be written");
    let text = fs::read(script.path()).expect("it is there");
    let line = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"\\restrict "));
    assert_eq!(line.map(<[u8]>::len), Some(63), "the key of pg_restore is as long");

    for (database, restored) in [("by the script", true), ("by pg_restore", false)] {
        server.create_database(database, "UTF8");
        if restored {
            server.psql_file(database, script.path(), &[]);
        } else {
            server.tools().restore(server, database, &source.archive, &[]);
        }
    }
    Fingerprint::of(server, "by pg_restore").assert_same(&Fingerprint::of(server, "by the script"));
}
