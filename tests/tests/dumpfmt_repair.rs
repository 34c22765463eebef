//! Archives of real servers that get their positions in place, or that are cut and repaired: what pg_restore makes of them.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use dumpfmt::repair::{IndexOptions, RepairOptions, RepairPlan, index_in_place};
use dumpfmt::{ArchiveReader, DataState, Version, WriteOptions};
use pgmig_tests::awkward::{Source, Store};
use pgmig_tests::{Compression, DumpOptions, Fingerprint, MAJORS, PgTools, Server};

/// The server runs programs under its own user, who must be able to read the archive.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("the folder is ours");
    }
    folder
}

/// What pg_restore makes of an archive in an empty database.
fn restored(server: &Server, archive: &Path, args: &[&str]) -> Fingerprint {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let database = format!("restored_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    server.create_database(&database, "UTF8");
    server.tools().restore(server, &database, archive, args);
    let fingerprint = Fingerprint::of(server, &database);
    server.drop_database(&database);
    fingerprint
}

/// How many bytes are the header and the table of contents.
fn contents_bytes(archive: &Path) -> u64 {
    ArchiveReader::open(archive).expect("the archive can be read").position()
}

#[test]
#[ignore = "takes long: `make test` runs it"]
fn an_archive_that_was_indexed_in_place_is_restored_in_parallel_with_equal_contents() {
    let folder = folder();
    for major in MAJORS {
        let server = Server::shared(major);
        for (name, how) in [
            ("piped", DumpOptions::piped()),
            ("redirected", DumpOptions::redirected()),
            ("appended", DumpOptions::appended()),
        ] {
            let source = Source::dump(major, Store::Utf8, &how);
            let archive = folder.path().join(format!("{major}-{name}.dump"));
            fs::copy(&source.archive, &archive).unwrap();
            let before = restored(server, &archive, &[]);
            let old = fs::read(&archive).unwrap();
            let mode = fs::metadata(&archive).unwrap().permissions();
            let report = index_in_place(&archive, &IndexOptions::default(), |_| {}).unwrap();

            let new = fs::read(&archive).unwrap();
            assert_eq!(fs::metadata(&archive).unwrap().permissions(), mode);
            assert_eq!(new.len() as u64 + report.cut_off, old.len() as u64);
            let (data_start, data_end) = (contents_bytes(&archive) as usize, new.len());
            assert!(new[data_start..] == old[data_start..data_end], "{major} {name}: the data is not touched");
            let repeats = report.cut_off > 0;
            assert_eq!(repeats, name == "appended" || (name == "redirected" && major >= 16), "{major} {name}");
            if repeats {
                // What pg_dump wrote behind the data is what stands before it now.
                let repeated = &old[data_end..];
                assert!(new[data_start - repeated.len()..data_start] == *repeated, "{major} {name}");
            }
            let mut reader = ArchiveReader::open(&archive).unwrap();
            assert!(reader.verify(|_| {}).is_ok());
            let states =
                reader.toc().entries().iter().filter(|entry| entry.has_data()).map(dumpfmt::TocEntry::data_state);
            assert!(states.clone().count() > 3);
            assert!(states.into_iter().all(|state| matches!(state, DataState::Position(_))));
            before.assert_same(&restored(server, &archive, &["-j2"]));
        }
    }
}

/// Tables that do not depend on each other, large objects, a view, sequences.
fn fill(server: &Server, database: &str) {
    server.create_database(database, "UTF8");
    server.psql(
        database,
        "create table a (id serial primary key, t text);
         create table b (id bigint primary key, t text, d double precision);
         create table \"C c\" (t text); create index on \"C c\" (t);
         create table empty (n int);
         create table z (n int primary key, p int references z);
         create view v as select count(*) from a;
         insert into a (t) select md5(n::text) from generate_series(1, 3000) n;
         insert into b select n, repeat(md5(n::text), 3), sqrt(n) from generate_series(1, 2000) n;
         insert into \"C c\" select e'tab\\there ' || n from generate_series(1, 1000) n;
         insert into z select n, nullif(n - 1, 0) from generate_series(1, 500) n;
         select lo_from_bytea(50000 + n, convert_to(repeat(md5(n::text), 40), 'UTF8')) from generate_series(1, 12) n;",
    );
}

/// Restores what was repaired, and expects what is whole to be as it was, and the rest to be empty.
fn assert_repaired(server: &Server, plan: &RepairPlan, archive: &Path, before: &Fingerprint, args: &[&str]) {
    let after = restored(server, archive, args);
    let mut expected: Vec<String> =
        plan.lost_large_objects().iter().map(|oid| format!("large object {oid}:")).collect();
    for entry in plan.lost().iter().filter(|entry| !entry.entry.starts_with("BLOBS")) {
        let name = entry.entry.strip_prefix("TABLE DATA public.").expect("nothing else has data");
        let name = name.split(" (dump ID").next().expect("there is a first part");
        // As SQL quotes it.
        let name = if name == "C c" { "\"C c\"" } else { name };
        if name != "empty" {
            expected.push(format!("rows public.{name}:"));
        }
    }
    let mut differences = before.differences(&after);
    differences.sort();
    expected.sort();
    assert_eq!(differences.len(), expected.len(), "{differences:?}\n{expected:?}");
    for (difference, expected) in differences.iter().zip(&expected) {
        assert!(difference.starts_with(expected.as_str()), "{difference}\n{expected:?}");
    }
}

#[test]
fn an_archive_that_is_cut_anywhere_is_repaired_and_restored_without_an_error() {
    let folder = folder();
    for (major, compressions) in
        [(15, vec![Compression::None, Compression::Gzip]), (18, PgTools::major(18).compressions())]
    {
        let server = Server::shared(major);
        let database = format!("repair_{major}");
        fill(server, &database);
        for (number, compression) in compressions.into_iter().enumerate() {
            let how = if number % 2 == 0 { DumpOptions::piped() } else { DumpOptions::seekable() };
            let whole = server.tools().dump(server, &database, &how.compress(compression));
            let before = restored(server, &whole, &[]);
            let (start, bytes) = (contents_bytes(&whole), fs::read(&whole).unwrap());
            let cuts = 6;
            for cut in 0..=cuts {
                let length = start + (bytes.len() as u64 - start) * cut / cuts;
                let length = if cut == cuts { length - 3 } else { length };
                let (cut, repaired) = (folder.path().join("cut.dump"), folder.path().join("repaired.dump"));
                fs::write(&cut, &bytes[..length as usize]).unwrap();
                let mut source = File::open(&cut).unwrap();
                let plan = RepairPlan::of(&mut source, &RepairOptions::default(), |_| {}).unwrap();
                assert!(!plan.is_whole(), "{length} of {}", bytes.len());
                assert!(plan.damage().is_empty());
                let options = WriteOptions::like(plan.header());
                plan.to_file(&mut source, File::create(&repaired).unwrap(), &options, |_| {}).unwrap();
                ArchiveReader::open(&repaired).unwrap().verify(|_| {}).unwrap();
                assert_repaired(server, &plan, &repaired, &before, if number == 0 { &["-j2"] } else { &[] });
            }
        }
        server.drop_database(&database);
    }
}

#[test]
fn an_archive_in_the_log_of_a_job_is_taken_out_of_it() {
    let folder = folder();
    let server = Server::shared(17);
    fill(server, "repair_log");
    for how in [DumpOptions::piped(), DumpOptions::appended()] {
        let dump = server.tools().dump(server, "repair_log", &how);
        let before = restored(server, &dump, &[]);
        let mut log = b"Defaulted container \"postgres\" out of: postgres, PGDMP-proxy\n\
                        Unable to use a TTY - input is not a terminal or the right kind of file\n\n"
            .to_vec();
        let start = log.len() as u64;
        log.extend(fs::read(&dump).unwrap());
        let end = log.len() as u64;
        log.extend(b"command terminated with exit code 137\n");
        let (path, taken) = (folder.path().join("job.log"), folder.path().join("taken.dump"));
        File::create(&path).and_then(|mut file| file.write_all(&log)).unwrap();
        ArchiveReader::open(&path).unwrap_err();

        let mut source = File::open(&path).unwrap();
        let plan = RepairPlan::of(&mut source, &RepairOptions::default(), |_| {}).unwrap();
        assert!(plan.is_whole());
        assert_eq!(plan.header().version, Version::RELKIND);
        assert_eq!(plan.start(), start);
        assert_eq!(plan.trailing(), Some(end - start..log.len() as u64 - start));
        let options = WriteOptions::like(plan.header());
        plan.to_file(&mut source, File::create(&taken).unwrap(), &options, |_| {}).unwrap();
        before.assert_same(&restored(server, &taken, &["-j2"]));
    }
    server.drop_database("repair_log");
}

#[test]
fn pg_restore_takes_an_entry_that_is_left_out_better_than_one_without_data() {
    let folder = folder();
    for major in MAJORS {
        let server = Server::shared(major);
        let database = format!("repair_left_out_{major}");
        fill(server, &database);
        let whole = server.tools().dump(server, &database, &DumpOptions::seekable());
        let before = restored(server, &whole, &[]);
        let mut source = ArchiveReader::open(&whole).unwrap();
        let tables = source.toc().of_type("TABLE DATA");
        let lost = tables.filter(|entry| entry.tag() == b"b").map(dumpfmt::TocEntry::dump_id).next().unwrap();
        let options = WriteOptions::like(source.header());

        let path = folder.path().join(format!("{major}-left-out.dump"));
        let mut rewrite = dumpfmt::Rewrite::new(options.clone());
        rewrite.omit(lost);
        rewrite.to_file(&mut source, File::create(&path).unwrap(), |_| {}).unwrap();
        for args in [&["-j2"][..], &[]] {
            let differences = before.differences(&restored(server, &path, args));
            assert_eq!(differences.len(), 1, "{differences:?}");
            assert!(differences[0].starts_with("rows public.b:"), "{differences:?}");
        }
        let sql = |path: &Path| {
            let output = std::process::Command::new(server.tools().program("pg_restore"))
                .args(["-f", "-", "-a", "-t", "b"])
                .arg(path)
                .output()
                .unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        assert!(!sql(&path).contains("COPY public.b"));

        // The alternative: the entry stays and says that it has no data. As SQL that is a COPY without an end.
        let mut bytes = fs::read(&whole).unwrap();
        let mut source = ArchiveReader::open(&whole).unwrap();
        let DataState::Position(position) = source.toc().get(lost).unwrap().data_state() else { panic!("no position") };
        assert!(source.block(lost).unwrap().is_some());
        let field = [&[2][..], &position.to_le_bytes()].concat();
        let at = bytes.windows(9).position(|window| window == field).unwrap();
        bytes[at] = 3;
        let path = folder.path().join(format!("{major}-no-data.dump"));
        fs::write(&path, &bytes).unwrap();
        let text = sql(&path);
        assert!(text.contains("COPY public.b") && !text.contains("\\."), "{text}");
        server.drop_database(&database);
    }
}
