//! `pgmig convert`, and `inspect` and `verify` of every format, against what the stock tools make of the same.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use dumpfmt::{ArchiveReader, Compression as Method, DataState, Format, Version};
use pgmig_tests::awkward::{self, MAPPING, OldRows, Source, Store, Target};
use pgmig_tests::pgmig::{Job, Run, program};
use pgmig_tests::{Compression, DumpOptions, Fingerprint, Restored, Server};
use tempfile::{TempDir, TempPath};

use Store::Utf8;

/// The awkward store as version 17 dumps it in each format.
struct Dumps {
    custom: TempPath,
    tar: TempPath,
    folder: TempDir,
    restored: Fingerprint,
}

static DUMPS: LazyLock<Dumps> = LazyLock::new(|| {
    let server = Server::shared(17);
    let database = awkward::source_database(17, Utf8);
    let custom = server.tools().dump(server, &database, &DumpOptions::piped().compress(Compression::Zstd));
    let restored = Restored::new(17, "UTF8", &custom).now();
    Dumps {
        tar: server.tools().dump(server, &database, &DumpOptions::piped().tar()),
        folder: server.tools().dump_folder(server, &database, &DumpOptions::seekable()),
        custom,
        restored,
    }
});

#[test]
#[ignore = "takes long: `make test` runs it"]
fn every_format_becomes_every_other_with_the_same_contents() {
    let job = Job::without_target();
    let sources: [&Path; 3] = [&DUMPS.custom, &DUMPS.tar, DUMPS.folder.path()];
    for (number, source) in sources.into_iter().enumerate() {
        for (format, compress) in
            [("custom", "lz4"), ("custom", "zstd:1"), ("directory", "gzip:1"), ("directory", "none")]
        {
            let new = format!("{number}-{format}-{compress}");
            let args = ["--format", format, "--compress", compress];
            let _ = Run::of(convert(&job, source, &new).args(args)).done().says(&[&format!("wrote {new}")]);
            let new = job.file(&new);
            let archive = ArchiveReader::open(&new).unwrap();
            let expected = if format == "custom" { Format::Custom } else { Format::Directory };
            assert_eq!(archive.header().format, expected);
            assert_eq!(archive.header().compression.to_string(), compress.split(':').next().unwrap());
            let _ = Run::of(job.bare().arg("verify").arg(&new)).done();
            DUMPS.restored.assert_same(&Restored::with(17, "UTF8", &new, &["-j2"]).now());
        }
        // As it is, but for a file that records where its data is.
        let _ = Run::of(&mut convert(&job, source, "same.dump")).done();
        let archive = ArchiveReader::open(job.file("same.dump")).unwrap();
        assert_eq!(archive.header().compression, [Method::Zstd, Method::None, Method::Gzip][number]);
        let mut with_data = archive.toc().entries().iter().filter(|entry| entry.has_data());
        assert!(with_data.all(|entry| matches!(entry.data_state(), DataState::Position(_))));
        DUMPS.restored.assert_same(&Restored::with(17, "UTF8", &job.file("same.dump"), &["-j2"]).now());
        fs::remove_file(job.file("same.dump")).unwrap();
    }
    for source in [&DUMPS.custom, &DUMPS.tar] {
        let mut child = convert(&job, Path::new("-"), "-").stdin(pipe(source)).spawn().unwrap();
        let mut new = File::create(job.file("piped.dump")).unwrap();
        std::io::copy(&mut child.stdout.take().unwrap(), &mut new).unwrap();
        let _ = Run::from(child.wait_with_output().unwrap()).done();
        DUMPS.restored.assert_same(&Restored::new(17, "UTF8", &job.file("piped.dump")).now());
    }
}

#[test]
fn an_older_version_of_the_format_is_for_older_tools() {
    let job = Job::without_target();
    let server = Server::shared(18);
    let database = awkward::copy_of_source(server, Utf8);
    server.psql(&database, "analyze");
    let source =
        server.tools().dump(server, &database, &DumpOptions::piped().compress(Compression::Lz4).arg("--statistics"));
    server.drop_database(&database);
    let run = Run::of(convert(&job, &source, "old.dump").args(["--archive-version", "1.14"])).done();
    let _ = run.says(&["not compressed with lz4: this one is with gzip", "with statistics are left out"]);
    let folder = ["--archive-version", "1.14", "--format", "directory", "--report", "-"];
    let report = Run::of(convert(&job, &source, "old").args(folder)).done().json();
    assert_eq!((&report["format"], &report["archive_version"]), (&"directory".into(), &"1.14-0".into()));
    assert_eq!(report["notes"].as_array().unwrap().len(), 2, "{report}");
    let header = ArchiveReader::open(job.file("old.dump")).unwrap().header().clone();
    assert_eq!((header.version, header.compression), (Version::TABLE_ACCESS_METHOD, Method::Gzip));
    let expected = Restored::with(18, "UTF8", &source, &["--no-statistics"]).now();
    expected.data().assert_same(&Restored::new(15, "UTF8", &job.file("old.dump")).now().data());

    let _ = Run::of(convert(&job, &source, "newer.dump").args(["--archive-version", "1.15"])).done();
    expected.data().assert_same(&Restored::new(17, "UTF8", &job.file("newer.dump")).now().data());
    let _ = Run::of(convert(&job, Path::new("old.dump"), "back.dump").args([
        "--archive-version",
        "1.16",
        "--compress",
        "zstd",
    ]))
    .done();
    expected.data().assert_same(&Restored::new(18, "UTF8", &job.file("back.dump")).now().data());
}

#[test]
fn sql_is_what_pg_restore_prints() {
    let server = Server::shared(17);
    let list = Job::without_target();
    let listing = stock(&["-l"], &DUMPS.custom);
    let lines: Vec<_> =
        std::str::from_utf8(&listing).unwrap().lines().filter(|line| line.contains(" TABLE DATA ")).collect();
    fs::write(list.file("list"), format!("{}\n{}\n", lines[4], lines[1])).unwrap();
    let list_file = list.file("list").display().to_string();
    for args in [
        &[][..],
        &["--schema-only", "--no-owner", "--no-privileges"],
        &["--data-only", "--disable-triggers", "--superuser", "postgres"],
        &["--section", "pre-data", "--section", "post-data"],
        &["--schema", "Mixed Case", "--exclude-schema", "public"],
        &["--table", "workspace", "--table", "TENANT", "--clean", "--if-exists"],
        &["--create", "--no-comments"],
        &["--single-transaction", "--role", "store"],
        &["--use-list", &list_file],
    ] {
        let expected = stock(&[&["-f", "-", "--restrict-key", "Key"], args].concat(), &DUMPS.custom);
        let job = Job::without_target();
        let sql = ["--format", "sql", "--restrict-key", "Key"];
        let _ = Run::of(convert(&job, &DUMPS.custom, "new.sql").args(sql).args(args)).done();
        assert!(fs::read(job.file("new.sql")).unwrap() == expected, "{args:?}");
        if args.first() == Some(&"--use-list") {
            let piped =
                Run::of(convert(&job, Path::new("-"), "piped.sql").args(sql).args(args).stdin(pipe(&DUMPS.custom)));
            let _ = piped.failed(&["lies further ahead", "read the archive from a file"]);
            assert!(!job.file("piped.sql").exists());
        } else {
            let piped =
                convert(&job, Path::new("-"), "-").args(sql).args(args).stdin(pipe(&DUMPS.custom)).output().unwrap();
            assert!(piped.status.success() && piped.stdout == expected, "{args:?}");
        }
    }
    let restored = Restored::empty(17, "UTF8");
    let job = Job::without_target();
    let _ = Run::of(convert(&job, DUMPS.folder.path(), "new.sql").args(["--format", "sql"])).done();
    server.psql_file(&restored.database, &job.file("new.sql"), &[]);
    DUMPS.restored.assert_same(&restored.now());
}

#[test]
fn an_archive_of_what_is_chosen_is_what_pg_restore_would_restore_of_the_source() {
    let listing = stock(&["-l"], &DUMPS.custom);
    let listing = String::from_utf8(listing).unwrap();
    for (number, args) in [
        &[][..],
        &["--schema-only", "--no-privileges"],
        &["--data-only"],
        &["--section", "pre-data", "--section", "post-data", "--no-comments"],
        &["--section", "data"],
        &["--schema", "Mixed Case", "--exclude-schema", "public"],
        &["--table", "workspace", "--table", "TENANT", "--schema", "public"],
        &["--use-list", "list"],
        &["--table", "there is none"],
    ]
    .into_iter()
    .enumerate()
    {
        let job = Job::without_target();
        let lines =
            listing.lines().filter(|line| line.starts_with(';') || line.contains(" TABLE ") || line.contains(" ACL "));
        fs::write(job.file("list"), lines.collect::<Vec<_>>().join("\n")).unwrap();
        let list = job.file("list").display().to_string();
        let stock_args: Vec<&str> = args.iter().map(|arg| if *arg == "list" { &*list } else { arg }).collect();
        for create in [&[][..], &["--create"]] {
            let sql = [&["-f", "-", "--restrict-key", "Key"], create].concat();
            let expected = stock(&[&sql[..], &stock_args].concat(), &DUMPS.custom);
            for (format, piped) in [("custom", false), ("custom", true), ("directory", false)] {
                let source =
                    if piped { Path::new("-") } else { [&*DUMPS.custom, &DUMPS.tar, DUMPS.folder.path()][number % 3] };
                let new = format!("{format} {piped} {}", create.len());
                let mut command = convert(&job, source, &new);
                let _ = Run::of(command.args(["--format", format]).args(args).stdin(pipe(&DUMPS.custom))).done();
                let found = stock(&sql, &job.file(&new));
                assert!(found == expected, "{args:?} {create:?} {new}");
                let _ = Run::of(job.bare().arg("verify").arg(&new)).done();
            }
        }
    }
}

#[test]
fn an_archive_split_by_its_sections_is_restored_in_parts_with_its_large_objects() {
    // Before 17 what makes a large object is in another section than its content.
    for major in [15, 17] {
        let job = Job::without_target();
        let server = Server::shared(major);
        let dump = server.tools().dump(server, &awkward::source_database(major, Utf8), &DumpOptions::piped());
        let parts = Restored::empty(major, "UTF8");
        for section in ["pre-data", "data", "post-data"] {
            let _ = Run::of(convert(&job, &dump, section).args(["--section", section])).done();
            let _ = Run::of(job.bare().args(["verify", section])).done();
            parts.load(&job.file(section), &[]);
        }
        Restored::new(major, "UTF8", &dump).now().assert_same(&parts.now());
        assert_ne!(parts.psql("select count(*) from pg_largeobject"), "0");
    }
}

#[test]
fn a_list_chooses_and_the_new_archive_keeps_its_order() {
    let job = Job::without_target();
    let listing = String::from_utf8(stock(&["-l"], &DUMPS.custom)).unwrap();
    let mut lines: Vec<_> = listing.lines().filter(|line| line.contains(" TABLE DATA ")).collect();
    fs::write(job.file("list"), lines.join("\n")).unwrap();
    let _ = Run::of(convert(&job, &DUMPS.custom, "one.dump").args(["--use-list", "list", "--report", "report.json"]))
        .done();
    let report: serde_json::Value = serde_json::from_slice(&fs::read(job.file("report.json")).unwrap()).unwrap();
    assert_eq!(report["version"], 1);
    let data = report["data"].as_array().unwrap();
    assert_eq!(data.len(), lines.len());
    assert!(data.iter().all(|data| data["how"] == "copied" && data["rows"].is_u64()), "{report}");
    assert_eq!(report["compression"], "zstd");
    let entries = ArchiveReader::open(&*DUMPS.custom).unwrap().toc().entries().len() as u64;
    assert_eq!(report["entries"].as_u64().unwrap() + report["entries_left_out"].as_u64().unwrap(), entries);

    lines.reverse();
    fs::write(job.file("list"), lines.join("\n")).unwrap();
    let run = Run::of(convert(&job, &DUMPS.custom, "other.dump").args(["--use-list", "list"])).done();
    let _ = run.says(&["keeps the order of the source", "give the list to pg_restore"]);
    assert!(fs::read(job.file("one.dump")).unwrap() == fs::read(job.file("other.dump")).unwrap());
    fs::write(job.file("list"), "999999\n").unwrap();
    let run = Run::of(convert(&job, &DUMPS.custom, "no.dump").args(["--use-list", "list"]));
    let _ = run.failed(&["cannot use the list", "no entry 999999"]);
}

#[test]
fn a_name_that_nothing_has_is_refused_where_pg_restore_refuses_it() {
    let job = Job::without_target();
    let mut refused = 0;
    for args in [
        &["--table", "workspace"][..],
        &["--table", "workspace", "--table", "none"],
        &["--table", "workspace", "--schema", "Mixed Case"],
        &["--table", "workspace", "--schema", "public", "--section", "data"],
        &["--table", "workspace", "--schema", "none"],
        &["--table", "workspace", "--exclude-schema", "none"],
        &["--table", "workspace", "--exclude-schema", "public"],
        &["--schema", "public", "--schema-only"],
        &["--schema", "none"],
        &["--index", "none"],
        &["--index", "none", "--trigger", "none"],
        &["--trigger", "none"],
        &["--function", "none()"],
    ] {
        let stock = Command::new(Server::shared(17).tools().program("pg_restore"))
            .args(["-f", "-", "--restrict-key", "Key", "--strict-names"])
            .args(args)
            .arg(&*DUMPS.custom)
            .output()
            .unwrap();
        for format in ["sql", "custom"] {
            let mut command = convert(&job, &DUMPS.custom, "new");
            command.args(["--force", "--format", format, "--strict-names"]).args(args);
            if format == "sql" {
                command.args(["--restrict-key", "Key"]);
            }
            let run = Run::of(&mut command);
            if stock.status.success() {
                let _ = run.done();
                assert!(format != "sql" || fs::read(job.file("new")).unwrap() == stock.stdout, "{args:?}");
            } else {
                let said = String::from_utf8(stock.stderr.clone()).unwrap();
                let _ = run.failed(&[said.lines().next().unwrap().strip_prefix("pg_restore: error: ").unwrap()]);
                refused += 1;
            }
        }
    }
    assert!(refused >= 2 * 6, "{refused}");
    // pg_restore finds a name only once, and refuses this.
    let twice = ["--strict-names", "--force", "--table", "workspace", "--table", "workspace"];
    let _ = Run::of(convert(&job, &DUMPS.custom, "new").args(twice)).done();
}

#[test]
fn sql_is_that_of_the_pg_restore_that_is_asked_for() {
    let server = Server::shared(18);
    let database = awkward::copy_of_source(server, Utf8);
    server.psql(&database, "analyze");
    let source = server.tools().dump(server, &database, &DumpOptions::piped().arg("--statistics"));
    server.drop_database(&database);
    for (version, args) in [
        (18, &[][..]),
        (18, &["--statistics-only"]),
        (18, &["--no-statistics"]),
        (18, &["--no-schema"]),
        (18, &["--no-data"]),
        (18, &["--no-schema", "--no-data"]),
        (18, &["--data-only", "--no-schema"]),
        (18, &["--no-policies"]),
        (17, &[]),
        (17, &["--schema-only"]),
    ] {
        let expected = stock_of(version, &[&["-f", "-", "--restrict-key", "Key"], args].concat(), &source);
        let job = Job::without_target();
        let version = version.to_string();
        let sql = ["--format", "sql", "--restrict-key", "Key", "--pg-restore-version", &version];
        let _ = Run::of(convert(&job, &source, "new.sql").args(sql).args(args)).done();
        assert!(fs::read(job.file("new.sql")).unwrap() == expected, "{version} {args:?}");
        if version == "18" {
            let _ = Run::of(convert(&job, &source, "new.dump").args(args)).done();
            let found = stock_of(18, &["-f", "-", "--restrict-key", "Key"], &job.file("new.dump"));
            assert!(found == expected, "archive {args:?}");
        }
    }
}

#[test]
fn a_listing_is_that_of_pg_restore_and_reads_no_data() {
    let job = Job::without_target();
    // pg_restore adds the time zone of where it runs, and the archive does not tell one.
    let without_zone = |listing: &[u8]| String::from_utf8(listing.to_vec()).unwrap().replace(" UTC\n", "\n");
    for source in [&*DUMPS.custom, &DUMPS.tar, DUMPS.folder.path()] {
        let run = Run::of(job.bare().args(["inspect", "--list"]).arg(source)).done();
        assert_eq!(run.stdout, without_zone(&stock(&["-l"], source)), "{}", source.display());
        assert_eq!(run.stderr, "");
    }
    let bytes = fs::read(&DUMPS.custom).unwrap();
    fs::write(job.file("cut.dump"), &bytes[..bytes.len() - 9]).unwrap();
    let run = Run::of(job.bare().args(["inspect", "--list", "-"]).stdin(pipe(&job.file("cut.dump")))).done();
    assert_eq!(run.stdout, without_zone(&stock(&["-l"], &DUMPS.custom)));
    // Whoever reads only the begin of it has seen enough.
    let closed = std::io::pipe().unwrap().1;
    let _ = Run::of(job.bare().args(["inspect", "--list"]).arg(&*DUMPS.custom).stdout(closed)).done();
    let run = Run::of(job.bare().args(["inspect", "--list", "--output", "json"]).arg(&*DUMPS.custom));
    assert_eq!(run.status.code(), Some(2), "{run}");
}

#[test]
fn every_format_is_inspected_verified_and_restored() {
    let job = Job::without_target();
    fs::copy(awkward::profile(), job.file("profile.yaml")).unwrap();
    let inspect = |path: &Path| {
        let mut json = Run::of(job.bare().args(["inspect", "--profile", "profile.yaml", "--output", "json"]).arg(path))
            .done()
            .json();
        json["archive"] = serde_json::Value::Null;
        json
    };
    let expected = inspect(&DUMPS.custom);
    assert_eq!(expected["tenants"].as_array().unwrap().len(), 6);
    for path in [&*DUMPS.tar, DUMPS.folder.path()] {
        assert_eq!(inspect(path), expected);
        let _ = Run::of(job.bare().arg("verify").arg(path)).done().says(&["complete: ", "6 large objects"]);
    }
    let source = Source::dump(17, Utf8, &DumpOptions::seekable());
    for path in [&*DUMPS.tar, DUMPS.folder.path()] {
        let target = Target::on(17, Utf8, OldRows::Some);
        let _ = Job::new(path, &target).run(&[]).done();
        target.assert_restored(&source.expected(Utf8, &MAPPING));
    }
    // A folder that lost a file, and one that never was an archive.
    let copy = job.file("lost");
    let _ = Run::of(convert(&job, DUMPS.folder.path(), "lost").args(["--format", "directory"])).done();
    let lost = fs::read_dir(&copy)
        .unwrap()
        .map(|file| file.unwrap().path())
        .find(|path| path.extension().is_some_and(|it| it == "gz"));
    fs::remove_file(lost.unwrap()).unwrap();
    let run =
        Run::of(job.bare().args(["verify", "lost", "--output", "json"])).failed(&["is not complete", "is missing"]);
    assert_eq!(run.json()["complete"], false);
    let _ = Run::of(&mut convert(&job, &copy, "new.dump")).failed(&["is missing", "copy the whole folder again"]);
    fs::create_dir(job.file("empty")).unwrap();
    for command in [["verify", "empty"], ["inspect", "empty"]] {
        let _ = Run::of(job.bare().args(command)).failed(&["folder without the file `toc.dat`", "pg_dump -Fd"]);
    }
}

#[test]
fn what_cannot_be_written_leaves_nothing_behind() {
    let job = Job::without_target();
    let bytes = fs::read(&DUMPS.custom).unwrap();
    let mut damaged = fs::read(&DUMPS.tar).unwrap();
    damaged.truncate(damaged.len() / 2);
    let cases = [("cut.dump", bytes[..bytes.len() - 9].to_vec()), ("cut.tar", damaged)];
    for (name, bytes) in &cases {
        fs::write(job.file(name), bytes).unwrap();
        for format in ["custom", "directory", "sql"] {
            let _ = Run::of(convert(&job, Path::new(name), "new").args(["--format", format]))
                .failed(&["is cut short", name]);
            assert!(!job.file("new").exists());
            assert_eq!(hidden(&job), [""; 0]);
        }
    }
    // A gzip stream tells of any damage, also where its bytes are only copied.
    let server = Server::shared(15);
    let gzip = server.tools().dump(server, &awkward::source_database(15, Utf8), &DumpOptions::piped());
    let mut bytes = fs::read(&gzip).unwrap();
    let place = bytes.len() * 3 / 4;
    bytes[place] ^= 1;
    fs::write(job.file("flipped.dump"), bytes).unwrap();
    let _ = Run::of(&mut convert(&job, Path::new("flipped.dump"), "new")).failed(&["damaged", "flipped.dump"]);
    assert_eq!(hidden(&job), [""; 0]);

    fs::write(job.file("there"), "old").unwrap();
    let _ = Run::of(&mut convert(&job, &gzip, "there")).failed(&["`there` exists already", "--force"]);
    let _ = Run::of(convert(&job, &gzip, "there").args(["--format", "directory", "--force"]))
        .failed(&["exists already", "remove it first"]);
    assert_eq!(fs::read(job.file("there")).unwrap(), b"old");
    let _ = Run::of(convert(&job, &gzip, "there").arg("--force")).done();
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let _ = Run::of(convert(&job, &gzip, "-").stdout(full())).failed(&["cannot write the new archive"]);
    let _ =
        Run::of(convert(&job, &gzip, "-").args(["--format", "sql"]).stdout(full())).failed(&["writing the SQL failed"]);
    for wrong in [
        &["--compress", "lz4", "--archive-version", "1.14"][..],
        &["--compress", "lz4:13"],
        &["--no-owner"],
        &["--pg-restore-version", "17"],
        &["--format", "sql", "--pg-restore-version", "14"],
        &["--format", "sql", "--report", "-"],
        &["--data-only", "--schema-only"],
        &["--statistics-only", "--no-statistics"],
        &["--data-only", "--no-data"],
        &["--archive-version", "1.13"],
        &["--compress", "brotli"],
        &["--format", "sql", "--compress", "gzip"],
        &["--format", "sql", "--if-exists"],
    ] {
        let run = Run::of(convert(&job, &gzip, "new").args(wrong));
        assert_eq!(run.status.code(), Some(2), "{run}");
    }
    let long = Run::of(convert(&job, &gzip, "new").args(["--compress", "zstd:level=3,long"]));
    let long = long.says(&["long mode", "frames of 512 KiB", "leave `long` out"]);
    assert_eq!(long.status.code(), Some(2), "{long}");
}

#[test]
fn a_conversion_that_is_interrupted_leaves_nothing() {
    let bytes = fs::read(&DUMPS.custom).unwrap();
    for format in ["custom", "directory", "sql"] {
        let job = Job::without_target();
        let mut command = convert(&job, Path::new("-"), "new");
        let mut child = command.args(["--format", format]).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&bytes[..bytes.len() - 9]).unwrap();
        while hidden(&job).is_empty() {
            assert!(child.try_wait().unwrap().is_none(), "it ended early");
            std::thread::yield_now();
        }
        let sent = Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let run = Run::from(child.wait_with_output().unwrap());
        drop(stdin);
        assert_eq!(run.status.code(), Some(130), "{run}");
        let _ = run.says(&["interrupted", "no archive was written"]);
        assert!(hidden(&job).is_empty() && !job.file("new").exists(), "{format}: {:?}", hidden(&job));
    }
}

#[test]
fn an_archive_of_a_newer_version_is_read_at_ones_own_risk() {
    let job = Job::without_target();
    let mut bytes = fs::read(&DUMPS.custom).unwrap();
    // The minor version, behind the magic and the major one.
    assert_eq!(bytes[6], 16);
    bytes[6] = 17;
    fs::write(job.file("newer.dump"), bytes).unwrap();
    let newer = job.file("newer.dump");
    for args in [&["inspect", "--list"][..], &["inspect"], &["verify"], &["repair", "--in-place", "-s"]] {
        let told = ["archive version 1.17", "is newer than 1.16", "--accept-newer-versions"];
        let _ = Run::of(job.bare().args(args).arg(&newer)).failed(&told);
        let _ = Run::of(job.bare().args(args).arg(&newer).arg("--accept-newer-versions")).done();
    }
    let _ = Run::of(&mut convert(&job, &newer, "known.dump")).failed(&["--accept-newer-versions"]);
    let _ = Run::of(convert(&job, &newer, "known.dump").arg("--accept-newer-versions")).done();
    DUMPS.restored.assert_same(&Restored::new(17, "UTF8", &job.file("known.dump")).now());
    let repair = || {
        let mut command = job.bare();
        command.args(["repair", "-o", "repaired.dump", "-s"]).arg(&newer);
        command
    };
    let _ = Run::of(&mut repair()).failed(&["is newer than 1.16", "--accept-newer-versions"]);
    let _ = Run::of(repair().arg("--accept-newer-versions")).done();
    assert!(fs::read(job.file("repaired.dump")).unwrap() == fs::read(job.file("known.dump")).unwrap());
}

#[test]
fn what_takes_bytes_but_is_no_file_is_written_to_and_never_replaced() {
    let job = Job::without_target();
    let fifo = job.file("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let reader = {
        let fifo = fifo.clone();
        std::thread::spawn(move || fs::read(fifo).unwrap())
    };
    let _ = Run::of(&mut convert(&job, &DUMPS.custom, "fifo")).done();
    fs::write(job.file("read.dump"), reader.join().unwrap()).unwrap();
    let _ = Run::of(job.bare().args(["verify", "read.dump"])).done();
    assert!(!fs::symlink_metadata(&fifo).unwrap().is_file());
    let full = Run::of(&mut convert(&job, &DUMPS.custom, "/dev/full"));
    let _ = full.failed(&["No space left on device", "make room"]);
    // Whoever reads only the begin of a script has seen enough; an archive is of no use then.
    let closed = || std::io::pipe().unwrap().1;
    let _ = Run::of(convert(&job, &DUMPS.custom, "-").args(["--format", "sql"]).stdout(closed())).done();
    let _ =
        Run::of(convert(&job, &DUMPS.custom, "-").stdout(closed())).failed(&["Broken pipe", "what read the output"]);
}

#[test]
fn a_report_replaces_nothing_that_is_no_file() {
    let job = Job::without_target();
    let reported = |output: &str, report: &str| {
        let mut command = convert(&job, &DUMPS.custom, output);
        command.args(["--report", report]);
        command
    };
    let fifo = job.file("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let reader = {
        let fifo = fifo.clone();
        std::thread::spawn(move || fs::read_to_string(fifo).unwrap())
    };
    let _ = Run::of(&mut reported("one.dump", "fifo")).done();
    assert!(!fs::symlink_metadata(&fifo).unwrap().is_file());
    let expected = Run::of(&mut reported("two.dump", "-")).done().stdout;
    assert_eq!(reader.join().unwrap(), expected);

    // Links, so that a program that does replace them leaves the machine as it is.
    symlink("/dev/full", job.file("full")).unwrap();
    let _ = Run::of(&mut reported("three.dump", "full")).failed(&[
        "the new archive is complete, but its report is not",
        "No space left",
        "can be used",
    ]);
    let _ = Run::of(job.bare().args(["verify", "three.dump"])).done();
    symlink("/proc/self/fd/1", job.file("stdout")).unwrap();
    let log = || File::options().create(true).append(true).open(job.file("log")).unwrap();
    writeln!(log(), "before").unwrap();
    let _ = Run::of(reported("four.dump", "stdout").stdout(log())).done();
    assert_eq!(fs::read_to_string(job.file("log")).unwrap(), format!("before\n{expected}"));
    for link in ["full", "stdout"] {
        assert!(fs::symlink_metadata(job.file(link)).unwrap().is_symlink(), "{link}");
    }
    let full = File::options().write(true).open("/dev/full").unwrap();
    let run = Run::of(reported("five.dump", "-").stdout(full));
    let _ = run.failed(&["wrote five.dump", "is complete, but its report is not", "No space left"]);
}

#[test]
fn where_there_is_no_room_for_the_report_there_is_no_new_archive() {
    let job = Job::without_target();
    fs::create_dir(job.file("small")).unwrap();
    let with_small_disk = |script: &str| {
        let mut unshare = Command::new("unshare");
        let script = format!("mount -t tmpfs -o size=4k small small && {script}");
        unshare.args(["--mount", "--map-root-user", "sh", "-c", &script, "sh"]).current_dir(job.file(""));
        unshare
    };
    if !with_small_disk("true").output().is_ok_and(|output| output.status.success()) {
        eprintln!("this machine lets nobody mount a small file system: not tried");
        return;
    }
    for source in [&*DUMPS.custom, DUMPS.folder.path()] {
        for (output, format) in [("new.dump", "custom"), ("folder", "directory")] {
            let mut command = with_small_disk("exec \"$@\"");
            command.arg(program()).args(["convert", "--format", format, "--output", output, "--source"]).arg(source);
            let run = Run::of(command.args(["--report", "small/report.json"]));
            let _ =
                run.failed(&["cannot write the report `small/report.json`", "No space left", "no archive was made"]);
            assert_eq!(hidden(&job), [""; 0]);
            assert!(!job.file(output).exists());
        }
    }
}

#[test]
fn what_a_killed_run_has_left_does_not_stand_in_the_way_of_the_next_one() {
    let bytes = fs::read(&DUMPS.custom).unwrap();
    for format in ["custom", "directory"] {
        let job = Job::without_target();
        let mut command = convert(&job, Path::new("-"), "new");
        let mut child = command.args(["--format", format]).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&bytes[..bytes.len() - 9]).unwrap();
        while hidden(&job).is_empty() {
            assert!(child.try_wait().unwrap().is_none(), "it ended early");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        drop(stdin);
        let left = job.file(&hidden(&job)[0]);
        let hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
        File::open(left).unwrap().set_modified(hour_ago).unwrap();
        let _ = Run::of(convert(&job, &DUMPS.custom, "new").args(["--format", format])).done();
        assert!(hidden(&job).is_empty() && job.file("new").exists(), "{format}: {:?}", hidden(&job));
    }
}

#[test]
fn entries_of_a_type_are_chosen() {
    let job = Job::without_target();
    let _ = Run::of(convert(&job, &DUMPS.custom, "new").args(["--type", "TABLE", "--type", "INDEX"])).done();
    let types = |path: &Path| {
        let archive = ArchiveReader::open(path).unwrap();
        let types =
            archive.toc().entries().iter().map(|entry| String::from_utf8_lossy(entry.description()).into_owned());
        types.filter(|it| ["TABLE", "INDEX", "TABLE DATA", "VIEW"].contains(&it.as_str())).collect::<Vec<_>>()
    };
    let mut expected = types(&DUMPS.custom);
    expected.retain(|it| ["TABLE", "INDEX"].contains(&it.as_str()));
    assert_eq!(types(&job.file("new")), expected);
}

#[test]
fn a_level_is_heeded_where_the_method_is_that_of_the_source() {
    let job = Job::without_target();
    let length = |level: &str| {
        let _ = Run::of(convert(&job, &DUMPS.custom, "new").args(["--force", "--compress", level])).done();
        fs::metadata(job.file("new")).unwrap().len()
    };
    assert!(length("zstd:1") > length("zstd:15"));
}

fn convert(job: &Job, source: &Path, output: &str) -> Command {
    let mut command = job.bare();
    command.args(["convert", "--source"]).arg(source).args(["--output", output]);
    command
}

/// What stock `pg_restore` of version 17 prints.
fn stock(args: &[&str], archive: &Path) -> Vec<u8> {
    stock_of(17, args, archive)
}

fn stock_of(major: u32, args: &[&str], archive: &Path) -> Vec<u8> {
    let mut command = Command::new(Server::shared(major).tools().program("pg_restore"));
    let Output { status, stdout, stderr } = command.args(args).arg(archive).env("TZ", "UTC").output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    stdout
}

/// The bytes of a file through a real pipe.
fn pipe(path: &Path) -> Stdio {
    let mut cat = Command::new("cat").arg(path).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let stdout = cat.stdout.take().unwrap();
    // It ends when nobody reads any more.
    std::thread::spawn(move || cat.wait());
    stdout.into()
}

/// What is there under names that nobody chose.
fn hidden(job: &Job) -> Vec<String> {
    let folder = job.file("");
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('.')).collect()
}
