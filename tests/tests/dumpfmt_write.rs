//! What dumpfmt writes, PostgreSQL's own pg_restore reads: that of the version which the archive declares, and every
//! newer one.
//!
//! `PGMIG_TEST_THOROUGH=1` restores every combination into a server, which takes some minutes.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::archive_copy::{Container, as_sql, assert_same_text, listed, open};
use dumpfmt::{
    ArchiveReader, ArchiveWriter, Block, CompressionSpecification, Error, Header, Sink, Toc, Version, WriteOptions,
};
use pgmig_tests::{Compression, DumpOptions, Fingerprint, MAJORS, PgTools, Server, fixture, thorough};
use tempfile::TempPath;

/// Bodies of several pieces, of rows longer than a piece, and of nothing; large objects likewise.
const LARGE: &str = r"
    create table many_rows as
      select n, md5(n::text) as a, repeat(md5((n / 100)::text), 3) as b from generate_series(1, 12000) n;
    create table long_rows as
      select n, (select string_agg(sha512(format('%s %s', n, i)::bytea)::text, '') from generate_series(1, 9000) i) as body
      from generate_series(1, 2) n;
    create table one_column (nothing text);
    insert into one_column values (null), (''), (E'\\.'), (null);
    create schema large;
    create table large.no_columns ();
    create table large.no_rows (a int, b text);
    select lo_from_bytea(910001, ''), lo_from_bytea(4294967295, 'highest'), lo_from_bytea(910003, ''),
      lo_from_bytea(910004, (select string_agg(sha512(i::text::bytea), '') from generate_series(1, 20000) i)),
      lo_from_bytea(910005, decode(repeat('00', 1500000), 'hex')),
      -- as long as a piece, and as two
      lo_from_bytea(910006, convert_to(repeat('0123456789abcdef', 32768), 'UTF8')),
      lo_from_bytea(910007, convert_to(repeat('0123456789abcdef', 65536), 'UTF8'));
";

const CONTAINERS: [Container; 3] = [Container::Seekable, Container::Piped, Container::Directory];

/// A database and the dump of it that is copied.
struct Source {
    major: u32,
    database: String,
    dump: TempPath,
    fingerprint: Fingerprint,
    version: Version,
}

impl Source {
    /// The awkward store of a server, with large bodies, dumped by its own pg_dump.
    fn of(major: u32) -> &'static Self {
        static SOURCES: [OnceLock<Source>; 32] = [const { OnceLock::new() }; 32];
        SOURCES[major as usize].get_or_init(|| {
            let server = Server::shared(major);
            let database = "write_source".to_owned();
            server.create_database(&database, "UTF8");
            for file in ["awkward.sql", "awkward-schema-utf8.sql", "awkward-data-utf8.sql"] {
                server.psql_file(&database, &fixture(file), &[]);
            }
            server.psql(&database, LARGE);
            let dump = server.tools().dump(server, &database, &DumpOptions::piped().compress(Compression::None));
            let fingerprint = Fingerprint::of(server, &database);
            let version = open(&dump).header().version;
            Self { major, database, dump, fingerprint, version }
        })
    }

    fn header(&self) -> Header {
        open(&self.dump).header().clone()
    }

    fn toc(&self) -> Toc {
        Toc::new(open(&self.dump).toc().entries().to_vec()).expect("it was read as one")
    }

    /// A copy of the dump in `folder`.
    fn copy(&self, folder: &Path, name: &str, options: &WriteOptions, container: Container) -> PathBuf {
        let target = folder.join(name);
        write_archive(&self.dump, &self.header(), self.toc(), options, container, &target)
            .unwrap_or_else(|e| panic!("{} {options:?} {container:?}: {e}", self.database));
        target
    }

    /// The versions of pg_restore that read it; in everyday tests its own, the next one and the newest.
    fn readers(&self) -> impl Iterator<Item = PgTools> + use<> {
        let major = self.major;
        let chosen = move |reader: &u32| thorough() || [major, major + 1, 18].contains(reader);
        (major..=18).filter(chosen).map(PgTools::major)
    }
}

/// Writes the data of `source` as a new archive with these contents, under the same dump IDs.
fn write_archive(
    source: &Path,
    header: &Header,
    toc: Toc,
    options: &WriteOptions,
    container: Container,
    target: &Path,
) -> dumpfmt::Result<()> {
    let file = |path: &Path| File::create_new(path).expect("the new archive can be made");
    match container {
        Container::Seekable => {
            let archive = ArchiveWriter::to_file(file(target), header, toc, options)?;
            copy_blocks(source, archive)?.finish().map(drop)
        }
        Container::Piped => {
            let archive = ArchiveWriter::to_pipe(file(target), header, toc, options)?;
            copy_blocks(source, archive)?.finish().map(drop)
        }
        Container::Directory => {
            let archive = ArchiveWriter::to_directory(target, header, toc, options)?;
            copy_blocks(source, archive)?.finish()
        }
    }
}

fn copy_blocks<S: Sink>(source: &Path, mut target: ArchiveWriter<S>) -> dumpfmt::Result<ArchiveWriter<S>> {
    let mut source = open(source);
    while let Some(block) = source.next_block()? {
        let dump_id = block.entry().dump_id();
        match block {
            Block::Data(mut data) => {
                let mut writer = target.data(dump_id)?;
                copy(&mut data, &mut writer)?;
                writer.finish()?;
            }
            Block::LargeObjects(mut objects) => {
                let mut writer = target.large_objects(dump_id)?;
                while let Some(mut object) = objects.next_object()? {
                    let mut content = writer.object(object.oid())?;
                    copy(&mut object, &mut content)?;
                    content.finish()?;
                }
                writer.finish()?;
            }
        }
    }
    Ok(target)
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> dumpfmt::Result<()> {
    std::io::copy(from, to).map(drop).map_err(|e| Error::from_io(e, 0))
}

fn compressions(version: Version) -> Vec<CompressionSpecification> {
    let mut all = vec!["none", "gzip", "gzip:1", "gzip:9"];
    if version >= Version::COMPRESSION_ALGORITHM {
        all.extend(["lz4", "zstd", "zstd:1"]);
        if thorough() {
            all.extend(["lz4:3", "lz4:9", "zstd:19"]);
        }
    }
    all.into_iter().map(|text| text.parse().expect("a compression")).collect()
}

/// Whether a `pg_restore` was built with what an archive needs.
fn reads(tools: &PgTools, compression: CompressionSpecification) -> bool {
    let method = match compression.algorithm() {
        dumpfmt::Compression::Lz4 => Compression::Lz4,
        dumpfmt::Compression::Zstd => Compression::Zstd,
        _ => return true,
    };
    tools.compressions().contains(&method)
}

#[test]
#[ignore = "takes long: `make test` runs it"]
fn pg_restore_makes_the_same_sql_of_a_copy_as_of_the_dump() {
    for major in MAJORS {
        let source = Source::of(major);
        let expected: Vec<_> =
            source.readers().map(|tools| (as_sql(&tools, &source.dump), listed(&tools, &source.dump), tools)).collect();
        for compression in compressions(source.version) {
            let folder = tempfile::tempdir().unwrap();
            for container in CONTAINERS {
                let options = WriteOptions::new(compression).version(source.version).threads(3);
                let copy = source.copy(folder.path(), &format!("{container:?}"), &options, container);
                for (sql, list, tools) in expected.iter().filter(|(_, _, tools)| reads(tools, compression)) {
                    let what = format!("{compression} {container:?} of {major} by {}", tools.version());
                    assert_same_text(&as_sql(tools, &copy), sql, &what);
                    // It does not depend on the data.
                    if compression == CompressionSpecification::NONE {
                        assert_eq!(&listed(tools, &copy), list, "{what}");
                    }
                }
            }
        }
    }
}

#[test]
#[ignore = "takes long: `make test` runs it"]
fn lz4_at_high_levels_is_smaller_and_read_by_pg_restore() {
    for major in if thorough() { 17..=18 } else { 18..=18 } {
        let source = Source::of(major);
        let tools = Server::shared(major).tools();
        let expected = as_sql(tools, &source.dump);
        let folder = tempfile::tempdir().unwrap();
        let mut sizes = Vec::new();
        for level in [1, 3, 9, 12] {
            let compression = CompressionSpecification::with_level(dumpfmt::Compression::Lz4, level).unwrap();
            let options = WriteOptions::new(compression).version(source.version).threads(2);
            for container in CONTAINERS {
                let copy = source.copy(folder.path(), &format!("{level} {container:?}"), &options, container);
                assert_same_text(&as_sql(tools, &copy), &expected, &format!("{compression} {container:?} by {major}"));
                let verified = ArchiveReader::open(&copy).and_then(|mut archive| archive.verify(|_| {}));
                verified.unwrap_or_else(|e| panic!("{compression} {container:?}: {e}"));
            }
            sizes.push(std::fs::metadata(folder.path().join(format!("{level} Seekable"))).unwrap().len());
        }
        assert!(sizes.is_sorted_by(|lower, higher| lower > higher), "{major}: {sizes:?}");
    }
}

#[test]
fn a_level_is_refused_where_pg_dump_refuses_it() {
    let server = Server::shared(18);
    let levels = [-2, -1, 0, 1, 2, 3, 9, 10, 12, 13, 22, 23];
    for (method, level) in ["none", "gzip", "lz4", "zstd"].into_iter().flat_map(|name| levels.map(|it| (name, it))) {
        let text = format!("{method}:{level}");
        let mut command = server.client(server.tools(), "pg_dump", "template0");
        // Its options are looked at before the database.
        let output = command.args(["-Fc", "--schema=no_such_schema", "-Z", &text]).output().expect("pg_dump runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            text.parse::<CompressionSpecification>().is_err(),
            said.contains("invalid compression"),
            "{text}: {said}"
        );
    }
}

#[test]
#[ignore = "takes long: `make test` runs it"]
fn a_restored_copy_is_the_database_that_was_dumped() {
    let mut turn = 0;
    for major in MAJORS {
        let source = Source::of(major);
        let compressions = compressions(source.version);
        for tools in source.readers() {
            for container in CONTAINERS {
                let possible = compressions.iter().copied().filter(|&c| reads(&tools, c));
                let chosen: Vec<_> = if thorough() {
                    possible.collect()
                } else if tools.version() == major || turn % 3 == 0 {
                    possible.cycle().skip(turn).take(1).collect()
                } else {
                    Vec::new()
                };
                turn += 1;
                for compression in chosen {
                    restore(source, &tools, container, compression);
                }
            }
        }
    }
}

fn restore(source: &Source, tools: &PgTools, container: Container, compression: CompressionSpecification) {
    let folder = tempfile::tempdir().unwrap();
    let options = WriteOptions::new(compression).version(source.version).threads(2);
    let copy = source.copy(folder.path(), "copy", &options, container);
    let server = Server::shared(tools.version());
    server.create_database("write_target", "UTF8");
    let mut command = server.client(tools, "pg_restore", "write_target");
    command.arg("--exit-on-error");
    if container != Container::Piped {
        command.arg("-j2");
    }
    let output = command.arg(&copy).output().expect("pg_restore runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let what = format!("{compression} {container:?} of {} by {}", source.major, tools.version());
    assert!(output.status.success() && said.is_empty(), "{what} ({}): {said}", output.status);
    let found = Fingerprint::of(server, "write_target");
    let differences = if tools.version() == source.major {
        source.fingerprint.differences(&found)
    } else {
        source.fingerprint.data().differences(&found.data())
    };
    assert!(differences.is_empty(), "{what}: {differences:#?}");
    server.drop_database("write_target");
}

#[test]
fn the_archive_is_the_same_with_any_number_of_threads() {
    let source = Source::of(18);
    for compression in compressions(source.version) {
        let folder = tempfile::tempdir().unwrap();
        let archive = |threads: usize| {
            let options = WriteOptions::new(compression).version(source.version).threads(threads);
            std::fs::read(source.copy(folder.path(), &threads.to_string(), &options, Container::Seekable)).unwrap()
        };
        let one = archive(0);
        assert!([1, 2, 5].into_iter().all(|threads| archive(threads) == one), "{compression}");
    }
}

/// The compressions that a version of pg_dump writes, by the name that it takes.
fn written_by(tools: &PgTools) -> Vec<(&'static str, CompressionSpecification)> {
    let mut all = vec![("0", "none"), ("1", "gzip:1"), ("6", "gzip:6"), ("9", "gzip:9")];
    if tools.compressions().contains(&Compression::Zstd) {
        all.extend([("lz4", "lz4"), ("zstd", "zstd")]);
    }
    all.into_iter().map(|(option, text)| (option, text.parse().unwrap())).collect()
}

/// A database with nothing but empty things in it.
fn empty_things<'a>(server: &Server, database: &'a str) -> &'a str {
    server.create_database(database, "UTF8");
    server.psql(
        database,
        "create table no_rows (n int); create table no_columns (); select lo_from_bytea(4711, '');
         select lo_from_bytea(3000000001, ''); grant select on large object 4711 to public",
    );
    database
}

/// Dumps a database of this server in a format of its choice.
fn dump(server: &Server, database: &str, args: &[&str], target: &Path) {
    let mut command = server.client(server.tools(), "pg_dump", database);
    let output = command.args(args).arg("-f").arg(target).output().expect("pg_dump runs");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Without the time at which it was made.
fn without_time(mut archive: Vec<u8>) -> Vec<u8> {
    const MAGIC_VERSIONS_SIZES_FORMAT: usize = 11;
    let compression = if archive[6] >= 15 { 1 } else { 5 };
    let begin = MAGIC_VERSIONS_SIZES_FORMAT + compression;
    archive.drain(begin..begin + 7 * 5);
    archive
}

#[test]
fn an_archive_of_empty_things_is_byte_for_byte_that_of_pg_dump() {
    for major in MAJORS {
        let server = Server::shared(major);
        let database = empty_things(server, "empty_things");
        server.create_database("empty_objects", "UTF8");
        server.psql("empty_objects", "select lo_from_bytea(4711, ''), lo_from_bytea(4712, '')");
        for (option, compression) in written_by(server.tools()) {
            let database = match compression.algorithm() {
                // Ends what is empty in a chunk of its own.
                dumpfmt::Compression::Lz4 => continue,
                // No rows are some bytes, and our frame has a checksum then.
                dumpfmt::Compression::Zstd => "empty_objects",
                _ => database,
            };
            let folder = tempfile::tempdir().unwrap();
            let [stock, ours] = ["stock", "ours"].map(|name| folder.path().join(name));
            dump(server, database, &["-Fc", "-Z", option], &stock);
            let archive = open(&stock);
            let toc = Toc::new(archive.toc().entries().to_vec()).unwrap();
            let options = WriteOptions::new(compression).version(archive.header().version);
            write_archive(&stock, archive.header(), toc, &options, Container::Seekable, &ours).unwrap();
            let [ours, stock] = [ours, stock].map(|file| without_time(std::fs::read(file).unwrap()));
            assert_same_text(&ours, &stock, &format!("{major} {option}"));
        }
        server.drop_database(database);
        server.drop_database("empty_objects");
    }
}

#[test]
fn a_directory_has_the_files_that_pg_dump_writes() {
    for major in MAJORS {
        let server = Server::shared(major);
        let database = empty_things(server, "empty_folder");
        for (option, compression) in written_by(server.tools()) {
            let folder = tempfile::tempdir().unwrap();
            let [custom, stock, ours] = ["custom", "stock", "ours"].map(|name| folder.path().join(name));
            dump(server, database, &["-Fc", "-Z", option], &custom);
            dump(server, database, &["-Fd", "-Z", option], &stock);
            let archive = open(&custom);
            let toc = Toc::new(archive.toc().entries().to_vec()).unwrap();
            let options = WriteOptions::new(compression).version(archive.header().version);
            write_archive(&custom, archive.header(), toc, &options, Container::Directory, &ours).unwrap();
            let what = format!("{major} {option}");
            assert_eq!(files(&ours), files(&stock), "{what}");
            let [found, expected] = [&ours, &stock].map(|folder| {
                let verified = ArchiveReader::open(folder).and_then(|mut archive| archive.verify(|_| {}));
                verified.unwrap_or_else(|e| panic!("{what} {}: {e}", folder.display()))
            });
            assert_eq!(found, expected, "{what}");
            for name in files(&stock) {
                let read = |folder: &Path| std::fs::read(folder.join(&name)).unwrap();
                let (mut found, mut expected) = (read(&ours), read(&stock));
                if name == "toc.dat" {
                    (found, expected) = (without_time(found), without_time(expected));
                } else if name.ends_with(".lz4") || name.ends_with(".zst") {
                    // Ours have a checksum, but for what is empty: no file of pg_dump's is then more than that.
                    assert_eq!(found.is_empty(), expected.is_empty(), "{what} {name}");
                    continue;
                }
                assert_same_text(&found, &expected, &format!("{what} {name}"));
            }
        }
        server.drop_database(database);
    }
}

fn files(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
