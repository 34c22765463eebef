//! What `dumpfmt` reads of the archives that real versions of `pg_dump` write: every format, every
//! compression, and whatever else changes the shape of the data. All archives of one database hold
//! the same.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{Read, Seek};
use std::path::Path;

use dumpfmt::{ArchiveReader, Block, Format, VerifiedEntry};
use pgmig_tests::{Compression, DumpOptions, MAJORS, PgTools, Server};

/// More than the thousand that pg_dump 17 and later put into one entry.
const MANY_LARGE_OBJECTS: u64 = 1100;
/// Where their number does not matter.
const FEW_LARGE_OBJECTS: u64 = 20;
/// Of them, those that [`SCHEMA`] makes.
const ODD_LARGE_OBJECTS: u64 = 3;

/// Several kinds of tables, and large objects, some with OIDs that are negative as a C int.
const SCHEMA: &str = "
    create schema other;
    create table words (id integer primary key, word text);
    insert into words select n, case n % 7 when 0 then null when 1 then E'\\\\.' when 2 then E'a\\tb\\n\\\\.\\n' else repeat('w', n) end
        from generate_series(1, 300) n;
    create table other.\"Empty one\" (id integer);
    create table wide (n numeric, b bytea);
    insert into wide select n, decode(repeat(md5(n::text), 5000), 'hex') from generate_series(1, 5) n;
    create table parts (id integer, day date) partition by range (id);
    create table parts_1 partition of parts for values from (0) to (100);
    create table parts_2 partition of parts for values from (100) to (200);
    insert into parts select n, date '2024-01-01' + n from generate_series(0, 199) n;
    create materialized view counted as select count(*) from words;
    create sequence numbers start 42;
    select lo_from_bytea(3000000000, convert_to(repeat('negative as a C int ', 1000), 'UTF8'));
    select lo_create(4294967295);
    select lo_create(2147483648);
";

/// The data of each entry and each large object: its bytes and a hash of them.
type Contents = BTreeMap<String, (u64, u64)>;

/// Fills a new database of this name.
fn fill(server: &Server, name: &str, large_objects: u64) {
    server.create_database(name, "UTF8");
    server.psql(name, SCHEMA);
    let others = large_objects - ODD_LARGE_OBJECTS;
    server.psql(
        name,
        &format!(
            "select count(lo_from_bytea((100000 + n)::oid, convert_to(repeat('object ' || n, n % 50), 'UTF8'))) \
             from generate_series(1, {others}) n"
        ),
    );
}

fn digest(data: &mut impl Read) -> (u64, u64) {
    let (mut hasher, mut bytes) = (DefaultHasher::new(), Vec::new());
    data.read_to_end(&mut bytes).expect("the archive is whole");
    hasher.write(&bytes);
    (bytes.len() as u64, hasher.finish())
}

fn take<R: Read>(block: Block<'_, R>, contents: &mut Contents) {
    let lossy = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    match block {
        Block::Data(mut data) => {
            let entry = data.entry();
            let name = [entry.description(), entry.namespace().unwrap_or_default(), entry.tag()].map(lossy).join(" ");
            assert_eq!(contents.insert(name, digest(&mut data)), None);
        }
        Block::LargeObjects(mut objects) => {
            while let Some(mut object) = objects.next_object().expect("the archive is whole") {
                let name = format!("large object {}", object.oid());
                assert_eq!(contents.insert(name, digest(&mut object)), None);
            }
        }
    }
}

/// Everything in the order of the archive.
fn in_order<R: Read>(archive: &mut ArchiveReader<R>) -> Contents {
    let mut contents = Contents::new();
    while let Some(block) = archive.next_block().expect("the archive is whole") {
        take(block, &mut contents);
    }
    contents
}

/// Everything, entry by entry, from the last one to the first.
fn by_entry<R: Read + Seek>(archive: &mut ArchiveReader<R>) -> Contents {
    let mut contents = Contents::new();
    let ids: Vec<_> = archive.toc().entries().iter().rev().map(dumpfmt::TocEntry::dump_id).collect();
    for dump_id in ids {
        if let Some(block) = archive.block(dump_id).expect("the archive is whole") {
            take(block, &mut contents);
        }
    }
    contents
}

/// Rows and bytes of each entry.
fn verified(archive: &mut ArchiveReader<impl Read>) -> Vec<VerifiedEntry> {
    let mut verified = archive.verify(|_| {}).expect("the archive is whole");
    verified.sort_by_key(|entry| entry.dump_id);
    verified
}

/// Reads the archive in every way, each with the same result.
#[track_caller]
fn read(path: &Path, format: Format) -> (Contents, Vec<VerifiedEntry>) {
    let mut archive = ArchiveReader::open(path).expect("the archive opens");
    assert_eq!(archive.header().format, format);
    let contents = in_order(&mut archive);
    assert_eq!(by_entry(&mut archive), contents);
    archive.rewind().expect("the archive rewinds");
    let verified = verified(&mut archive);
    if path.is_file() {
        // A chain cannot seek.
        let pipe = File::open(path).expect("the archive opens").chain(std::io::empty());
        assert_eq!(in_order(&mut ArchiveReader::new(pipe).expect("the archive opens")), contents);
    }
    (contents, verified)
}

#[test]
#[ignore = "takes long: `make test` runs it"]
fn every_format_and_compression_of_every_pg_dump_holds_the_same_data() {
    for major in MAJORS {
        let tools = PgTools::major(major);
        let server = Server::shared(major);
        let (large_objects, groups) = if major < 17 { (FEW_LARGE_OBJECTS, 1) } else { (MANY_LARGE_OBJECTS, 2) };
        let database = "formats";
        fill(server, database, large_objects);
        let custom = tools.dump(server, database, &DumpOptions::piped().compress(Compression::None));
        let expected = read(&custom, Format::Custom);
        assert_eq!(expected.0.keys().filter(|name| name.starts_with("large object")).count() as u64, large_objects);
        assert_eq!(expected.1.iter().filter_map(|entry| entry.large_objects).sum::<u64>(), large_objects);
        assert_eq!(expected.1.iter().filter_map(|entry| entry.rows).sum::<u64>(), 300 + 5 + 200);
        assert_eq!(expected.0["large object 3000000000"].0, 20_000);
        assert_eq!(expected.0["large object 4294967295"].0, 0);
        assert_eq!(expected.1.iter().filter(|entry| entry.large_objects.is_some()).count(), groups);

        for compression in tools.compressions() {
            let how = DumpOptions::seekable().compress(compression);
            let file = tools.dump(server, database, &how);
            assert_eq!(read(&file, Format::Custom), expected, "{major}, {compression:?}");
            let folder = tools.dump_folder(server, database, &how);
            assert_eq!(read(folder.path(), Format::Directory), expected, "{major}, {compression:?}");
        }
        let folder = tools.dump_folder(server, database, &DumpOptions::seekable().arg("-j2"));
        assert_eq!(read(folder.path(), Format::Directory), expected, "{major}, two jobs");
        for how in [DumpOptions::seekable(), DumpOptions::piped(), DumpOptions::redirected()] {
            let file = tools.dump(server, database, &how.tar());
            assert_eq!(read(&file, Format::Tar), expected, "{major}, tar");
        }
        server.drop_database(database);
    }
}

#[test]
fn options_that_change_the_shape_of_the_data_change_it_alike_in_every_format() {
    for major in MAJORS {
        let tools = PgTools::major(major);
        let server = Server::shared(major);
        let database = "formats_options";
        fill(server, database, FEW_LARGE_OBJECTS);
        let plain = read(&tools.dump(server, database, &DumpOptions::seekable()), Format::Custom);
        for option in
            ["--inserts", "--rows-per-insert=100", "--load-via-partition-root", "--data-only", "--schema-only"]
        {
            let how = DumpOptions::seekable().arg(option);
            let custom = read(&tools.dump(server, database, &how), Format::Custom);
            assert_eq!(read(tools.dump_folder(server, database, &how).path(), Format::Directory), custom, "{option}");
            assert_eq!(read(&tools.dump(server, database, &how.tar()), Format::Tar), custom, "{option}");
            match option {
                "--schema-only" => assert!(custom.0.is_empty()),
                "--load-via-partition-root" | "--data-only" => assert_eq!(custom.0, plain.0),
                // No rows of COPY text, except in a table without any.
                _ => {
                    assert_eq!(custom.1.iter().filter_map(|entry| entry.rows).sum::<u64>(), 0);
                    assert_eq!(custom.0.len(), plain.0.len());
                    assert_ne!(custom.0["TABLE DATA public words"], plain.0["TABLE DATA public words"]);
                }
            }
        }
    }
}

#[test]
fn the_statistics_that_pg_dump_18_puts_into_the_data_section_are_entries_like_others() {
    let tools = PgTools::major(18);
    let server = Server::shared(18);
    let database = "formats_statistics";
    fill(server, database, FEW_LARGE_OBJECTS);
    server.psql(database, "analyze");
    let how = DumpOptions::seekable().arg("--statistics");
    let custom = tools.dump(server, database, &how);
    let archive = ArchiveReader::open(&custom).expect("the archive opens");
    assert!(archive.toc().of_type("STATISTICS DATA").count() > 0);
    let custom = read(&custom, Format::Custom);
    assert_eq!(read(tools.dump_folder(server, database, &how).path(), Format::Directory), custom);
    assert_eq!(read(&tools.dump(server, database, &how.tar()), Format::Tar), custom);
}
