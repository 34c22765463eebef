//! `pgmig remap` against real servers: what stock pg_restore makes of the new archive, and what is refused.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use dumpfmt::ArchiveReader;
use pgmig_tests::awkward::{self, MAPPING, Others, Source, Store};
use pgmig_tests::pgmig::{Job, Run, program};
use pgmig_tests::{Compression, DumpOptions, Fingerprint, PgTools, Restored, Server, fixture};

use Compression::{Gzip, Lz4, None as Plain, Zstd};
use Store::{Latin1, Utf8};

/// A tenant that is deleted and one that is internal to the product; no mapping here names them.
const GONE: &str = "00000000-0000-0000-0000-001500000001";
const INTERNAL: &str = "3d2f1c0a-9b8e-4f7d-8a6c-5e4d3c2b1a09";

/// The plain case: a dump of version 15 through a pipe.
static SOURCE: LazyLock<Source> = LazyLock::new(|| Source::dump(15, Utf8, &DumpOptions::piped()));

type Way = fn() -> DumpOptions;
const SEEKABLE: Way = DumpOptions::seekable;
const PIPED: Way = DumpOptions::piped;
const REDIRECT: Way = DumpOptions::redirected;

/// How `pgmig remap` reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Streams {
    /// A file to a file.
    Files,
    /// Standard input to standard output, which only goes with `--keep-unmapped`.
    Pipes,
}
use Streams::{Files, Pipes};

/// Which version dumps, its compression, how, which store, how it is remapped, into which compression, and which
/// version restores it.
type Case = (u32, Compression, Way, Store, Streams, Option<&'static str>, u32);
#[rustfmt::skip]
const MATRIX: [Case; 20] = [
    (13, Gzip,  PIPED,    Utf8,   Files, None,           13),
    (14, Gzip,  SEEKABLE, Latin1, Pipes, Some("none"),   14),
    (15, Gzip,  PIPED,    Utf8,   Files, None,           15),
    (15, Gzip,  SEEKABLE, Latin1, Pipes, None,           15),
    (15, Plain, SEEKABLE, Utf8,   Files, Some("gzip:1"), 15),
    (15, Plain, PIPED,    Latin1, Files, Some("zstd"),   17),
    (15, Gzip,  REDIRECT, Utf8,   Files, Some("none"),   16),
    (16, Gzip,  SEEKABLE, Utf8,   Files, None,           16),
    (16, Plain, PIPED,    Latin1, Pipes, None,           16),
    (16, Gzip,  REDIRECT, Utf8,   Pipes, Some("lz4"),    17),
    (17, Gzip,  PIPED,    Utf8,   Pipes, None,           17),
    (17, Lz4,   SEEKABLE, Latin1, Files, None,           17),
    (17, Lz4,   PIPED,    Utf8,   Pipes, Some("zstd:1"), 18),
    (17, Zstd,  SEEKABLE, Utf8,   Files, None,           17),
    (17, Zstd,  REDIRECT, Latin1, Pipes, Some("gzip"),   17),
    (17, Plain, SEEKABLE, Utf8,   Files, Some("lz4"),    18),
    (18, Gzip,  REDIRECT, Latin1, Files, None,           18),
    (18, Lz4,   PIPED,    Utf8,   Files, None,           18),
    (18, Zstd,  PIPED,    Utf8,   Pipes, None,           18),
    (18, Zstd,  SEEKABLE, Latin1, Files, Some("none"),   18),
];

#[test]
#[ignore = "takes long: `make test` runs it"]
fn every_kind_of_dump_becomes_what_pg_restore_and_the_updates_give() {
    let mut expected = HashMap::new();
    for case in MATRIX {
        let (from, mut method, way, store, run, compress, to) = case;
        // the build of a version may lack lz4 and zstd
        if !PgTools::major(from).compressions().contains(&method) {
            assert!(from != 17, "{case:?}");
            method = Gzip;
        }
        let source = Source::dump(from, store, &way().compress(method));
        let others = if run == Pipes { Others::Kept } else { Others::Deleted };
        let job = job();
        let new = remap(&job, run, &source.archive, compress.map(|method| ["--compress", method]).as_ref());

        let expected = expected
            .entry((from, store, run == Pipes, to))
            .or_insert_with(|| restored(to, store, &source.archive, &awkward::updates(&MAPPING, others)));
        let found = restored(to, store, &new, &awkward::settle());
        let lines = expected.differences(&found);
        assert!(lines.is_empty(), "{case:?}:\n  {}", lines.join("\n  "));

        let _ = Run::of(job.bare().arg("verify").arg(&new)).done();
        let archive = dumpfmt::ArchiveReader::open(&new).unwrap();
        let positions = archive.toc().entries().iter().filter(|entry| entry.has_data());
        let recorded = |entry: &dumpfmt::TocEntry| matches!(entry.data_state(), dumpfmt::DataState::Position(_));
        assert!(positions.clone().count() > 20);
        assert!(positions.into_iter().all(|entry| recorded(entry) == (run == Files)), "{case:?}");
    }
}

#[test]
fn the_inverse_mapping_gives_back_the_original() {
    for (from, way) in [(15, PIPED), (18, SEEKABLE)] {
        let source = Source::dump(from, Utf8, &way());
        let job = job();
        let there = remap(&job, Pipes, &source.archive, None);
        job.map(&MAPPING.map(|(source, target)| (target, source)));
        let mut back = command(&job, &there, "back.dump");
        let _ = Run::of(back.arg("--keep-unmapped")).done();
        let original = restored(from, Utf8, &source.archive, &awkward::settle());
        original.assert_same(&restored(from, Utf8, &job.file("back.dump"), &awkward::settle()));
    }
}

/// Partitions by tenant in every way, one level of them below another, over a domain and with a default partition.
const PARTITIONS: &str = "
    create table by_list (tenant_id uuid not null, n integer) partition by list (tenant_id);
    create table by_list_a partition of by_list
      for values in ('00000000-0000-0000-0000-001570184978', '3d2f1c0a-9b8e-4f7d-8a6c-5e4d3c2b1a09');
    create table by_list_b partition of by_list for values in ('00000000-0000-0000-1764-035503433645') partition by range (n);
    create table by_list_b_low partition of by_list_b for values from (minvalue) to (5);
    create table by_list_b_high partition of by_list_b for values from (5) to (maxvalue);
    create table by_list_gone partition of by_list for values in ('00000000-0000-0000-0000-001500000001');
    create table by_list_rest partition of by_list default;
    create schema \"Other Place\";
    create table \"Other Place\".\"By Domain\" (instance_id tenant_ref, n integer) partition by list (instance_id);
    create table \"Other Place\".\"Part \"\"1\"\"\" partition of \"Other Place\".\"By Domain\"
      for values in (null, 'e10001eb-6272-453a-bb43-3dcf0e765892');
    create table by_domain_rest partition of \"Other Place\".\"By Domain\" default;
    create table by_range (tenant_id uuid not null, n integer) partition by range (tenant_id, n);
    create table by_range_low partition of by_range for values from (minvalue, minvalue) to ('00000000-0000-0000-1799-000000000000', 0);
    create table by_range_high partition of by_range for values from ('00000000-0000-0000-1799-000000000000', 0) to (maxvalue, maxvalue);
    insert into by_list select tenant_id, n from tenant, generate_series(1, 9) n;
    insert into by_range select tenant_id, n from tenant, generate_series(1, 9) n;
    insert into \"Other Place\".\"By Domain\" select tenant_id, n from tenant, generate_series(1, 9) n union all select null, 0";

#[test]
fn rows_of_partitions_by_tenant_go_to_the_partition_of_their_new_tenant() {
    let places = "select tableoid::regclass::text, count(*), min(tenant_id::text), max(tenant_id::text) from (
          select tableoid, tenant_id from by_list union all select tableoid, tenant_id from by_range
          union all select tableoid, tenant_id from usage union all select tableoid, instance_id from \"Other Place\".\"By Domain\") as all_rows
        group by 1 order by 1";
    for (run, others) in [(Files, Others::Deleted), (Pipes, Others::Kept)] {
        let source = Source::dump_after(PARTITIONS, &DumpOptions::piped());
        let job = job();
        let new = remap(&job, run, &source.archive, None);

        // What is there now, with the bounds that the remap gives, filled by hand.
        let pair = |number: usize| MAPPING[number];
        let rebound = format!(
            "create temporary table kept as select * from by_list; create temporary table kept_domain as select * from \"Other Place\".\"By Domain\";
             truncate by_list; truncate \"Other Place\".\"By Domain\";
             alter table by_list detach partition by_list_a; alter table by_list detach partition by_list_b;
             alter table \"Other Place\".\"By Domain\" detach partition \"Other Place\".\"Part \"\"1\"\"\";
             alter table by_list attach partition by_list_a for values in ('{}', '{INTERNAL}');
             alter table by_list attach partition by_list_b for values in ('{}');
             alter table \"Other Place\".\"By Domain\" attach partition \"Other Place\".\"Part \"\"1\"\"\" for values in (null, '{}');
             insert into by_list select * from kept; insert into \"Other Place\".\"By Domain\" select * from kept_domain",
            pair(0).1,
            pair(1).1,
            pair(2).1
        );
        let mut sql = awkward::updates(&MAPPING, others);
        // The UPDATEs know `public` and `Mixed Case` alone.
        for (source, target) in MAPPING {
            sql += &format!(
                "; update \"Other Place\".\"By Domain\" set instance_id = '{target}' where instance_id = '{source}'"
            );
        }
        if others == Others::Deleted {
            sql +=
                &format!("; delete from \"Other Place\".\"By Domain\" where instance_id in ('{GONE}', '{INTERNAL}')");
        }
        let (expected, found) = (Restored::new(15, "UTF8", &source.archive), Restored::new(15, "UTF8", &new));
        expected.psql(&format!("{sql}; {rebound}"));
        found.psql(&awkward::settle());
        assert_eq!(expected.psql(places), found.psql(places));
        expected.now().assert_same(&found.now());
        // Rows of all tables that are partitioned by tenants are for the root now, and pg_restore -j takes it.
        let parallel = Restored::with(15, "UTF8", &new, if run == Files { &["-j2"] } else { &[] });
        parallel.psql(&awkward::settle());
        found.now().assert_same(&parallel.now());
    }
}

#[test]
fn ids_can_be_swapped_in_lists_of_partitions_too() {
    let source = Source::dump_after(PARTITIONS, &DumpOptions::piped());
    let [a, b, c, d] = MAPPING.map(|(source, _)| source);
    let job = job();
    job.map(&[(a, b), (b, a), (c, d), (d, c)]);
    let restored = Restored::new(15, "UTF8", &remap(&job, Streams::Files, &source.archive, None));
    let count =
        |id: &str| restored.psql(&format!("select tableoid::regclass from by_list where tenant_id = '{id}' limit 1"));
    assert_eq!([count(b), count(a), count(c)], ["by_list_a", "by_list_b_low", "by_list_rest"]);
}

#[test]
fn a_foreign_key_of_rows_without_a_tenant_is_doubted_when_what_it_refers_to_is_left_out() {
    let more = "create table tag (assistant_id integer references assistant, label text);
                insert into tag select min(assistant_id), 'x' from assistant where tenant_id = ";
    for (tenant, holds) in [(MAPPING[0].0, true), (GONE, false)] {
        let source = Source::dump_after(&format!("{more}'{tenant}'"), &DumpOptions::piped());
        let job = job();
        let run = Run::of(command(&job, &source.archive, "new.dump").args(["--report", "report.json"])).done();
        let _ = run.says(&["rows of public.tag name no tenant", "public.assistant", "--keep-unmapped"]);
        let report: serde_json::Value = serde_json::from_slice(&fs::read(job.file("report.json")).unwrap()).unwrap();
        assert_eq!(report["doubtful_foreign_keys"].as_array().unwrap().len(), 1);
        let database = Restored::empty(15, "UTF8");
        let tools = database.server.tools();
        let mut restore = database.server.client(tools, "pg_restore", &database.database);
        let status = restore.arg("--exit-on-error").arg(job.file("new.dump")).stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.success(), holds);
    }
}

#[test]
fn bounds_of_ranges_that_are_ids_are_for_the_user_to_decide() {
    let (low, high) = (MAPPING[0].0, MAPPING[2].0);
    let source = Source::dump_after(
        &format!(
            "create table ranges (tenant_id uuid not null) partition by range (tenant_id);
             create table ranges_low partition of ranges for values from (minvalue) to ('{high}');
             create table ranges_high partition of ranges for values from ('{high}') to (maxvalue);
             insert into ranges values ('{low}'), ('{high}')"
        ),
        &DumpOptions::piped(),
    );
    let job = job();
    let refused = Run::of(&mut command(&job, &source.archive, "new.dump"));
    let _ = refused.failed(&["TABLE ATTACH public.ranges_low", "TABLE ATTACH public.ranges_high", high]);
    assert_nothing_is_left(&job);
    // With the bounds as they are, the rows still find their place.
    let _ = Run::of(command(&job, &source.archive, "new.dump").arg("--ignore-strays")).done();
    let restored = Restored::new(15, "UTF8", &job.file("new.dump"));
    assert_eq!(restored.psql("select tableoid::regclass, count(*) from ranges group by 1"), "ranges_low|2");
}

#[test]
fn domains_arrays_and_paths_are_remapped_by_the_definitions_of_the_archive() {
    let job = job();
    let new = remap(&job, Files, &SOURCE.archive, None);
    let restored = Restored::new(15, "UTF8", &new);
    let [a, b, c, d] = MAPPING.map(|(_, target)| target);
    assert_eq!(
        restored.psql("select shared_with from share order by share_id"),
        format!("{{{c},{b}}}\n{{}}\n{{{d},NULL,{d}}}\n{{{{{a},{c}}},{{{d},{b}}}}}")
    );
    assert_eq!(restored.psql("select member_texts from share where share_id = 4"), format!("{{\"\",\"NULL\",{a}}}"));
    assert_eq!(restored.psql(&format!("select count(*) from webhook where owner_ref = '{a}'")), "1");
    let path = "select count(*) from assistant where settings #>> '{instance,id}' = tenant_id::text";
    assert_ne!(restored.psql(path), "0");
    assert_eq!(restored.psql(&path.replace("= tenant_id", "<> tenant_id")), "1");
}

#[test]
fn strays_are_refused_and_nothing_is_published_until_the_user_says_so() {
    let sql = fs::read_to_string(fixture("strays.sql")).unwrap();
    let more = format!(
        "create view of_one as select * from workspace where tenant_id = '{id}';
         alter table nothing_in_it alter tenant_id set default '{id}'",
        id = MAPPING[0].0
    );
    let source = Source::dump_after(&format!("{sql};\n{more}"), &DumpOptions::piped());
    let strays = [
        "public.webhook.url, 1 row",
        "public.assistant.settings, 1 row",
        "large objects, 1 object",
        "the definition of VIEW public.of_one",
        "the definition of TABLE public.nothing_in_it",
        "--remap-also 'public.webhook.url' --remap-definitions",
        "--ignore-strays",
    ];
    let job = job();
    let _ = Run::of(&mut command(&job, &source.archive, "new.dump")).failed(&strays).says(&["no archive was written"]);
    assert_nothing_is_left(&job);
    // From a pipe they are known at the end only: a file is not published, a pipe is told.
    let _ = Run::of(command(&job, Path::new("-"), "new.dump").arg("--keep-unmapped").stdin(open(&source.archive)))
        .failed(&strays)
        .says(&["no archive was written"]);
    assert_nothing_is_left(&job);
    let mut to_pipe = command(&job, Path::new("-"), "-");
    to_pipe.arg("--keep-unmapped").stdin(open(&source.archive)).stdout(create(&job.file("half.dump")));
    let _ = Run::of(&mut to_pipe).failed(&strays).says(&["what was written is not to be used"]);
    fs::remove_file(job.file("half.dump")).unwrap();
    // Whatever becomes of the report; on standard output it is the one document.
    let to_nobody = std::io::pipe().unwrap().1;
    let mut reported = command(&job, &source.archive, "new.dump");
    let _ = Run::of(reported.args(["--report", "-"]).stdout(to_nobody)).failed(&strays);
    let mut reported = command(&job, &source.archive, "new.dump");
    let report = Run::of(reported.args(["--report", "-"])).failed(&strays).json();
    assert_eq!(report["version"], 1);
    assert!(report["strays"].as_array().is_some_and(|strays| !strays.is_empty()), "{report}");
    assert_nothing_is_left(&job);

    let _ = Run::of(command(&job, &source.archive, "new.dump").arg("--ignore-strays")).done();
    let restored = Restored::new(15, "UTF8", &job.file("new.dump"));
    assert!(restored.psql("select url from webhook where webhook_id = 11").contains(MAPPING[0].0));

    let also = ["--remap-also", "public.webhook.url", "--remap-also", "public.assistant.settings"];
    let _ = Run::of(command(&job, &source.archive, "also.dump").args(also)).failed(&["large objects, 1 object"]);
    let _ = Run::of(
        command(&job, &source.archive, "also.dump").args(also).args(["--remap-definitions", "--ignore-strays"]),
    )
    .done();
    let restored = Restored::new(15, "UTF8", &job.file("also.dump"));
    let url = restored.psql("select url from webhook where webhook_id = 11");
    assert_eq!(url, format!("https://api.example.com/v2/instances/{}/skills?verbose=1", MAPPING[0].1));
    let history = "select settings #>> '{history,0,copied_from}' from assistant where settings ? 'history'";
    assert_eq!(restored.psql(history), MAPPING[2].1);
    assert!(restored.psql("select pg_get_viewdef('of_one'::regclass)").contains(MAPPING[0].1));
    assert_eq!(restored.psql("insert into nothing_in_it default values returning tenant_id"), MAPPING[0].1);
}

#[test]
fn statistics_that_name_tenants_are_left_out() {
    let server = Server::shared(18);
    let database = awkward::copy_of_source(server, Utf8);
    server.psql(&database, "analyze");
    let archive = server.tools().dump(server, &database, &DumpOptions::piped().arg("--statistics"));
    server.drop_database(&database);
    let job = job();
    let run = Run::of(&mut command(&job, &archive, "new.dump")).done();
    let _ = run.says(&["name source IDs and are left out", "ANALYZE"]);
    let statistics = |path: &Path| {
        let archive = dumpfmt::ArchiveReader::open(path).unwrap();
        archive.toc().of_type("STATISTICS DATA").map(|entry| entry.tag().to_vec()).collect::<Vec<_>>()
    };
    let (before, after) = (statistics(&archive), statistics(&job.file("new.dump")));
    assert!(before.contains(&b"workspace".to_vec()) && !after.contains(&b"workspace".to_vec()));
    assert!(after.contains(&b"schema_info".to_vec()), "{} of {}", after.len(), before.len());
    let _ = Restored::new(18, "UTF8", &job.file("new.dump"));
}

#[test]
fn dumps_in_the_directory_and_tar_formats_are_remapped() {
    let server = Server::shared(17);
    let database = awkward::source_database(17, Utf8);
    let folder = server.tools().dump_folder(server, &database, &DumpOptions::seekable().compress(Lz4));
    let tar = server.tools().dump(server, &database, &DumpOptions::piped().tar());
    let expected = restored(17, Utf8, &tar, &awkward::updates(&MAPPING, Others::Deleted));
    for source in [folder.path(), &tar] {
        let job = job();
        let new = remap(&job, Files, source, None);
        expected.assert_same(&restored(17, Utf8, &new, &awkward::settle()));
    }
    let expected = restored(17, Utf8, &tar, &awkward::updates(&MAPPING, Others::Kept));
    let job = job();
    let new = remap(&job, Pipes, &tar, Some(&["--compress", "zstd"]));
    expected.assert_same(&restored(17, Utf8, &new, &awkward::settle()));
}

#[test]
fn a_new_archive_can_be_a_folder_which_is_there_only_when_no_stray_is_in_it() {
    let job = job();
    let args = ["--format", "directory", "--compress", "gzip:1"];
    let _ = Run::of(command(&job, &SOURCE.archive, "folder").args(args)).done().says(&["wrote folder"]);
    assert_eq!(left(&job), ["folder", "mapping.yaml", "profile.yaml"]);
    let expected = restored(15, Utf8, &SOURCE.archive, &awkward::updates(&MAPPING, Others::Deleted));
    let parallel = Restored::with(15, "UTF8", &job.file("folder"), &["-j2"]);
    parallel.psql(&awkward::settle());
    expected.assert_same(&parallel.now());

    let _ = Run::of(command(&job, &SOURCE.archive, "folder").args(args)).failed(&["`folder` exists already"]);
    fs::remove_dir_all(job.file("folder")).unwrap();
    let strays = Source::dump_after(&fs::read_to_string(fixture("strays.sql")).unwrap(), &DumpOptions::piped());
    let _ = Run::of(command(&job, &strays.archive, "folder").args(args)).failed(&["no archive was written"]);
    assert_nothing_is_left(&job);
    let bytes = fs::read(&SOURCE.archive).unwrap();
    fs::write(job.file("cut.dump"), &bytes[..bytes.len() - 1]).unwrap();
    let piped = Run::of(
        command(&job, Path::new("-"), "folder").args(args).arg("--keep-unmapped").stdin(open(&job.file("cut.dump"))),
    );
    assert_eq!(piped.status.code(), Some(1), "{piped}");
    fs::remove_file(job.file("cut.dump")).unwrap();
    assert_nothing_is_left(&job);
    let run = Run::of(command(&job, &SOURCE.archive, "-").args(args));
    assert_eq!(run.status.code(), Some(2), "{run}");
}

#[test]
fn a_remapped_archive_can_be_of_another_version() {
    let source = Source::dump(18, Utf8, &DumpOptions::piped().compress(Zstd));
    let expected = restored(18, Utf8, &source.archive, &awkward::updates(&MAPPING, Others::Deleted)).data();
    let job = job();
    let run = Run::of(command(&job, &source.archive, "old.dump").args([
        "--archive-version",
        "1.14",
        "--report",
        "report.json",
    ]));
    let run = run.done();
    if ArchiveReader::open(&source.archive).unwrap().header().compression == dumpfmt::Compression::Zstd {
        let _ = run.says(&["not compressed with zstd: this one is with gzip"]);
    }
    let report: serde_json::Value = serde_json::from_slice(&fs::read(job.file("report.json")).unwrap()).unwrap();
    assert!(report["version_notes"].is_array(), "{report}");
    let header = ArchiveReader::open(job.file("old.dump")).unwrap().header().clone();
    assert_eq!(header.version, dumpfmt::Version::TABLE_ACCESS_METHOD);
    expected.assert_same(&restored(15, Utf8, &job.file("old.dump"), &awkward::settle()).data());

    // Of an older one; the version follows the compression where it has to.
    let expected = restored(15, Utf8, &SOURCE.archive, &awkward::updates(&MAPPING, Others::Deleted)).data();
    let args = ["--archive-version", "1.16", "--compress", "lz4:9", "--format", "directory"];
    let _ = Run::of(command(&job, &SOURCE.archive, "new").args(args)).done();
    expected.assert_same(&restored(17, Utf8, &job.file("new"), &awkward::settle()).data());
    let run = Run::of(command(&job, &SOURCE.archive, "new.dump").args(["--compress", "lz4"])).done();
    let _ = run.says(&["with lz4 the new archive is of version 1.15"]);
    let run =
        Run::of(command(&job, &SOURCE.archive, "x.dump").args(["--compress", "lz4", "--archive-version", "1.14"]));
    assert_eq!(run.status.code(), Some(2), "{run}");
}

#[test]
fn an_object_with_an_id_in_its_name_is_not_renamed() {
    let name = format!("of {}", MAPPING[0].0);
    let source = Source::dump_after(&format!("create table \"{name}\" (n integer)"), &DumpOptions::piped());
    let job = job();
    let _ = Run::of(&mut command(&job, &source.archive, "new.dump")).failed(&["TABLE public.of 0", "--ignore-strays"]);
    let _ = Run::of(command(&job, &source.archive, "new.dump").arg("--remap-definitions")).failed(&[
        "cannot replace IDs in definitions",
        "TABLE public.of 0",
        "without --remap-definitions",
    ]);
    assert_nothing_is_left(&job);
    let _ = Run::of(command(&job, &source.archive, "new.dump").arg("--ignore-strays")).done();
    let restored = Restored::new(15, "UTF8", &job.file("new.dump"));
    assert_eq!(restored.psql(&format!("select count(*) from \"{name}\"")), "0");
}

#[test]
fn every_fault_of_a_mapping_is_told_at_once() {
    let nobody = "00000000-0000-0000-0000-009999999999";
    let job = job();
    job.map(&[MAPPING[0], (nobody, MAPPING[1].1), MAPPING[2]]);
    let faults = [
        &*format!("`{nobody}` is mapped, but the archive has no such instance"),
        &format!("`{}`, (no name), is live in the archive and has no target", MAPPING[3].0),
    ];
    let _ = Run::of(&mut command(&job, &SOURCE.archive, "new.dump")).failed(&faults);
    let piped = Run::of(command(&job, Path::new("-"), "new.dump").arg("--keep-unmapped").stdin(open(&SOURCE.archive)));
    let _ = piped.failed(&faults);
    job.map(&[MAPPING[0], (MAPPING[1].0, MAPPING[0].1), MAPPING[2], MAPPING[3]]);
    let _ = Run::of(&mut command(&job, &SOURCE.archive, "new.dump")).failed(&["line 3", MAPPING[0].1]);
    // A tenant that is kept under its own ID must not meet another one there.
    job.map(&[MAPPING[0], MAPPING[1], MAPPING[2], (MAPPING[3].0, GONE)]);
    let _ = Run::of(command(&job, &SOURCE.archive, "new.dump").arg("--keep-unmapped"))
        .failed(&[GONE, "map the other one too"]);
    let piped = Run::of(command(&job, Path::new("-"), "new.dump").arg("--keep-unmapped").stdin(open(&SOURCE.archive)));
    let _ = piped.failed(&[GONE, "map the other one too"]);
    assert_nothing_is_left(&job);
}

#[test]
fn tenants_that_would_be_left_out_cannot_be_from_a_pipe() {
    let job = job();
    let run = Run::of(command(&job, Path::new("-"), "new.dump").stdin(open(&SOURCE.archive)));
    let _ = run.failed(&["cannot remap this archive in one pass", "--keep-unmapped"]);
    assert_nothing_is_left(&job);
    let _ =
        Run::of(command(&job, Path::new("-"), "new.dump").arg("--keep-unmapped").stdin(open(&SOURCE.archive))).done();
    let restored = Restored::new(15, "UTF8", &job.file("new.dump"));
    assert_eq!(
        restored.psql(&format!("select count(*) from workspace where tenant_id in ('{GONE}', '{INTERNAL}')")),
        "8"
    );
}

#[test]
fn what_was_done_is_told_and_reported() {
    let job = job();
    let run = Run::of(command(&job, &SOURCE.archive, "new.dump").args(["--report", "report.json"])).done();
    let _ = run.says(&[
        "public.workspace",
        "4 instances",
        "6 large objects",
        "wrote new.dump",
        "the rows of public.usage_0",
        "is deleted and not mapped: its rows are left out",
        "is internal and not mapped: its rows are left out",
    ]);
    let report: serde_json::Value = serde_json::from_slice(&fs::read(job.file("report.json")).unwrap()).unwrap();
    let table =
        |name: &str| report["tables"].as_array().unwrap().iter().find(|table| table["table"] == name).cloned().unwrap();
    assert_eq!(report["version"], 1);
    assert_eq!(table("public.workspace")["rows_left_out"], 8);
    assert_eq!(table("public.tenant")["rows"], 6);
    assert_eq!(report["mapping"]["left_out"].as_array().unwrap().len(), 2);
    assert_eq!(report["large_objects"], 6);
    // A report that cannot be written is no reason to find out at the end.
    let _ = Run::of(command(&job, &SOURCE.archive, "more.dump").args(["--report", "missing/report.json"]))
        .failed(&["missing/report.json", "folder that you can write to"]);
    assert_eq!(left(&job), ["mapping.yaml", "new.dump", "profile.yaml", "report.json"]);
    // On standard output it is the one document there, of a failure too.
    let _ =
        Run::of(command(&job, &SOURCE.archive, "new.dump").args(["--report", "-"])).failed(&["exists already"]).json();
    let json = Run::of(command(&job, &SOURCE.archive, "new.dump").args(["--report", "-", "--force"])).done().json();
    assert_eq!(json, report);
    let both = Run::of(command(&job, &SOURCE.archive, "-").args(["--report", "-"]));
    assert_eq!(both.status.code(), Some(2), "{both}");
}

#[test]
fn a_file_that_exists_is_replaced_with_force_and_on_success_only() {
    let job = job();
    let old = job.file("new.dump");
    fs::write(&old, "what was there").unwrap();
    let _ = Run::of(&mut command(&job, &SOURCE.archive, "new.dump")).failed(&["`new.dump` exists already", "--force"]);
    job.map(&MAPPING[..3]);
    let _ = Run::of(command(&job, &SOURCE.archive, "new.dump").arg("--force")).failed(&["has no target"]);
    assert_eq!(fs::read(&old).unwrap(), b"what was there");
    job.map(&MAPPING);
    let _ = Run::of(command(&job, &SOURCE.archive, "new.dump").arg("--force")).done();
    let _ = Run::of(job.bare().args(["verify", "new.dump"])).done();
    assert_eq!(left(&job), ["mapping.yaml", "new.dump", "profile.yaml"]);

    // The archive itself can be replaced: it has its name until the new one is complete.
    fs::copy(&SOURCE.archive, job.file("one.dump")).unwrap();
    let _ = Run::of(command(&job, Path::new("one.dump"), "one.dump").arg("--force")).done();
    assert_eq!(fs::read(job.file("one.dump")).unwrap(), fs::read(&old).unwrap());
    fs::create_dir(job.file("folder")).unwrap();
    let _ = Run::of(command(&job, &SOURCE.archive, "folder").arg("--force")).failed(&["it is a folder"]);
    let _ = Run::of(&mut command(&job, &SOURCE.archive, "/proc/new.dump"))
        .failed(&["/proc/new.dump", "folder that you can write to"]);
    let _ = Run::of(&mut command(&job, &SOURCE.archive, "missing/new.dump")).failed(&["missing/new.dump"]);
}

#[test]
fn an_output_that_cannot_take_it_is_an_error() {
    let job = job();
    // A limit on the size of files is what a full disk is, but for the name of the error.
    let limited = format!(
        "trap '' XFSZ; ulimit -f 40; exec '{}' remap -m mapping.yaml --profile profile.yaml -s '{}' -o new.dump",
        program().display(),
        SOURCE.archive.display()
    );
    let shell = |line: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).current_dir(job.file("mapping.yaml").parent().unwrap()).stdin(Stdio::null());
        Run::of(shell.stdout(Stdio::piped()).stderr(Stdio::piped()))
    };
    let _ = shell(&limited).failed(&["cannot write the new archive", "make room"]);
    assert_nothing_is_left(&job);
    let _ = Run::of(command(&job, &SOURCE.archive, "-").stdout(File::options().write(true).open("/dev/full").unwrap()))
        .failed(&["cannot write the new archive"]);
    // Whoever reads only the begin of an archive has no archive.
    let closed = std::io::pipe().unwrap().1;
    let _ = Run::of(command(&job, &SOURCE.archive, "-").stdout(closed)).failed(&["cannot write the new archive"]);
}

#[test]
fn an_archive_that_is_cut_or_damaged_publishes_nothing() {
    let bytes = fs::read(&SOURCE.archive).unwrap();
    let job = job();
    for cut in [0, 4, 100, bytes.len() / 3, bytes.len() * 9 / 10, bytes.len() - 1] {
        fs::write(job.file("cut.dump"), &bytes[..cut]).unwrap();
        let file = Run::of(&mut command(&job, Path::new("cut.dump"), "new.dump"));
        assert_eq!(file.status.code(), Some(1), "{cut}: {file}");
        let mut pipe = command(&job, Path::new("-"), "new.dump");
        let pipe = Run::of(pipe.arg("--keep-unmapped").stdin(open(&job.file("cut.dump"))));
        assert_eq!(pipe.status.code(), Some(1), "{cut}: {pipe}");
        fs::remove_file(job.file("cut.dump")).unwrap();
        assert_nothing_is_left(&job);
    }
    let mut damaged = bytes.clone();
    damaged[bytes.len() * 3 / 4] ^= 0x10;
    fs::write(job.file("cut.dump"), damaged).unwrap();
    let _ = Run::of(&mut command(&job, Path::new("cut.dump"), "new.dump"))
        .failed(&["the archive is damaged", "`cut.dump`"]);
    let _ =
        Run::of(&mut command(&job, Path::new("missing.dump"), "new.dump")).failed(&["missing.dump", "check the path"]);
    fs::remove_file(job.file("cut.dump")).unwrap();
    assert_nothing_is_left(&job);
}

#[test]
fn a_remap_that_is_interrupted_leaves_nothing() {
    for (signal, status) in [("INT", Some(130)), ("TERM", Some(130)), ("KILL", None)] {
        let job = job();
        let mut command = command(&job, Path::new("-"), "new.dump");
        let mut child = command.arg("--keep-unmapped").stdin(Stdio::piped()).spawn().unwrap();
        let bytes = fs::read(&SOURCE.archive).unwrap();
        // It waits for more when half of the archive is in the pipe.
        child.stdin.as_mut().unwrap().write_all(&bytes[..bytes.len() / 2]).unwrap();
        let mut told = [0; 10];
        child.stderr.as_mut().unwrap().read_exact(&mut told).unwrap();
        assert_eq!(&told, b"==> remap ");
        let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let stdin = child.stdin.take();
        let run = Run::from(child.wait_with_output().unwrap());
        drop(stdin);
        assert_eq!(run.status.code(), status, "{signal}: {run}");
        if signal == "KILL" {
            assert!(!job.file("new.dump").exists());
        } else {
            let _ = run.says(&["interrupted", "no archive was written"]);
            assert_nothing_is_left(&job);
        }
    }
}

#[test]
fn dumps_taken_with_other_options_are_remapped_or_refused() {
    let expected = restored(15, Utf8, &SOURCE.archive, &awkward::updates(&MAPPING, Others::Deleted));
    let dump = |option: &str| Source::dump(15, Utf8, &DumpOptions::piped().arg(option));
    for option in ["--load-via-partition-root", "--no-owner", "--disable-triggers"] {
        let job = job();
        let new = remap(&job, Files, &dump(option).archive, None);
        let found = restored(15, Utf8, &new, &awkward::settle());
        let owners = |print: &Fingerprint| if option == "--no-owner" { print.data() } else { print.clone() };
        owners(&expected).assert_same(&owners(&found));
    }
    let job = job();
    let _ = Run::of(&mut command(&job, &dump("--inserts").archive, "new.dump"))
        .failed(&["its rows are INSERT statements", "dump again"]);
    let _ = Run::of(&mut command(&job, &dump("--schema-only").archive, "new.dump"))
        .failed(&["the archive has no rows of a table `public.tenant`"]);
    assert_nothing_is_left(&job);
}

#[test]
fn a_dump_of_the_data_alone_is_remapped_as_far_as_the_columns_are_known() {
    let source = Source::dump(15, Utf8, &DumpOptions::piped().arg("--data-only"));
    let job = job();
    // Nothing tells what is a partition of the table that the profile names.
    let _ = Run::of(&mut command(&job, &source.archive, "new.dump"))
        .failed(&["the profile names `public.session_event.payload`, which is not there", "take a whole one"]);
    let source = Source::dump(15, Utf8, &DumpOptions::piped().arg("--data-only").arg("--load-via-partition-root"));
    // Without definitions an array is not known to be one: its IDs are strays.
    let _ = Run::of(&mut command(&job, &source.archive, "new.dump"))
        .failed(&["public.share.shared_with", "--remap-also 'public.share.shared_with'"]);
    assert_nothing_is_left(&job);
    let also = ["--remap-also", "public.share.shared_with", "--remap-also", "public.share.member_texts"];
    let also = [
        &also[..],
        &[
            "--remap-also",
            "\"Mixed Case\".\"Täble \"\"X\"\"\".\"Belongs To\"",
            "--remap-also",
            "public.share.granted_by",
        ],
    ]
    .concat();
    let _ = Run::of(command(&job, &source.archive, "new.dump").args(also)).done();

    let definitions = Source::dump(15, Utf8, &DumpOptions::piped().arg("--schema-only"));
    let found = Restored::new(15, "UTF8", &definitions.archive);
    found.load(&job.file("new.dump"), &["--disable-triggers"]);
    found.psql(&awkward::settle());
    let expected = restored(15, Utf8, &SOURCE.archive, &awkward::updates(&MAPPING, Others::Deleted));
    expected.data().assert_same(&found.now().data());
}

/// Everything in a database that `pg_restore` made of an archive, after some SQL.
fn restored(major: u32, store: Store, archive: &Path, sql: &str) -> Fingerprint {
    let restored = Restored::new(major, store.encoding(), archive);
    restored.psql(sql);
    restored.now()
}

/// A folder with a mapping and a profile.
fn job() -> Job {
    let job = Job::without_target();
    fs::copy(awkward::profile(), job.file("profile.yaml")).unwrap();
    job.map(&MAPPING);
    job
}

fn command(job: &Job, source: &Path, output: &str) -> Command {
    let mut command = job.bare();
    command.args(["remap", "--mapping", "mapping.yaml", "--profile", "profile.yaml"]);
    command.arg("--source").arg(source).args(["--output", output]);
    command
}

/// Remaps an archive, and returns the path of the new one.
fn remap(job: &Job, run: Streams, source: &Path, more: Option<&[&str; 2]>) -> std::path::PathBuf {
    let new = job.file("new.dump");
    let mut command = match run {
        Files => command(job, source, "new.dump"),
        Pipes => command(job, Path::new("-"), "-"),
    };
    command.args(more.into_iter().flatten());
    if run == Files {
        let _ = Run::of(&mut command).done();
        return new;
    }
    // Real pipes: neither side can seek.
    let mut input = Command::new("cat").arg(source).stdout(Stdio::piped()).spawn().unwrap();
    let stdin = input.stdout.take().unwrap();
    let mut child = command.arg("--keep-unmapped").stdin(stdin).spawn().unwrap();
    std::io::copy(&mut child.stdout.take().unwrap(), &mut create(&new)).unwrap();
    let _ = Run::from(child.wait_with_output().unwrap()).done();
    assert!(input.wait().unwrap().success());
    new
}

fn open(path: &Path) -> File {
    File::open(path).unwrap()
}

fn create(path: &Path) -> File {
    File::create(path).unwrap()
}

/// The files in the folder, hidden ones too.
fn left(job: &Job) -> Vec<String> {
    let folder = job.file("mapping.yaml");
    let entries = fs::read_dir(folder.parent().unwrap()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[track_caller]
fn assert_nothing_is_left(job: &Job) {
    assert_eq!(left(job), ["mapping.yaml", "profile.yaml"]);
}
