//! The whole program against real servers: what a restore gives, and what it refuses.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::sync::LazyLock;

use pgmig_tests::awkward::{INTERNAL, MAPPING, OldRows, Source, Store, Target};
use pgmig_tests::pgmig::{Job, Run};
use pgmig_tests::{Compression, DumpOptions, fixture};
use serde_json::Value;

use Compression::{Gzip, Lz4, None as Plain, Zstd};
use Store::{Latin1, Utf8, Utf8Plain};

/// A version that dumps, how, of which store; a version that takes the rows, in which store.
type Case = (u32, Compression, Way, Store, u32, Store);
type Way = fn() -> DumpOptions;
const SEEKABLE: Way = DumpOptions::seekable;
const PIPED: Way = DumpOptions::piped;
/// `pg_dump > file`, which is not like either from 16 on.
const REDIRECT: Way = DumpOptions::redirected;

/// Every way of dumping, and every version, encoding and pair of encodings as a target.
#[rustfmt::skip]
const MATRIX: [Case; 21] = [
    (15, Gzip,  SEEKABLE, Utf8,      15, Utf8),
    (15, Gzip,  PIPED,    Latin1,    18, Latin1),
    (15, Plain, SEEKABLE, Latin1,    16, Utf8Plain),
    (15, Plain, PIPED,    Utf8,      17, Utf8),
    (16, Gzip,  SEEKABLE, Utf8,      16, Utf8),
    (16, Gzip,  PIPED,    Utf8Plain, 17, Latin1),
    (16, Plain, SEEKABLE, Utf8,      18, Utf8),
    (16, Plain, PIPED,    Latin1,    15, Latin1),
    (17, Plain, SEEKABLE, Utf8,      15, Utf8),
    (17, Gzip,  SEEKABLE, Utf8,      17, Utf8),
    (17, Gzip,  PIPED,    Latin1,    18, Latin1),
    (17, Gzip,  REDIRECT, Utf8,      15, Utf8),
    (17, Lz4,   SEEKABLE, Latin1,    17, Latin1),
    (17, Lz4,   PIPED,    Utf8,      16, Utf8),
    (17, Zstd,  SEEKABLE, Utf8,      18, Utf8),
    (17, Zstd,  PIPED,    Utf8Plain, 18, Latin1),
    (18, Gzip,  PIPED,    Utf8,      15, Utf8),
    (18, Lz4,   SEEKABLE, Utf8,      18, Utf8),
    (18, Lz4,   PIPED,    Latin1,    17, Utf8Plain),
    (18, Zstd,  SEEKABLE, Latin1,    16, Latin1),
    (18, Zstd,  PIPED,    Utf8,      18, Utf8),
];

#[test]
#[ignore = "takes long: `make test` runs it"]
fn every_kind_of_dump_gives_what_pg_restore_and_the_updates_give() {
    let mut expected = HashMap::new();
    for (number, &case) in MATRIX.iter().enumerate() {
        let (from, mut method, way, from_store, to, to_store) = case;
        // the build of a version may lack lz4 and zstd
        if !pgmig_tests::PgTools::major(from).compressions().contains(&method) {
            assert!(from != 17, "{case:?}");
            method = Gzip;
        }
        let source = Source::dump(from, from_store, &way().compress(method));
        let expected =
            expected.entry((from, from_store, to_store)).or_insert_with(|| source.expected(to_store, &MAPPING));
        let old_rows = if number % 2 == 0 { OldRows::Some } else { OldRows::None };
        let target = Target::on(to, to_store, old_rows);
        let run = Job::new(&source.archive, &target).run(&[]);
        assert!(run.status.success(), "{case:?}: {run}");
        target.assert_restored(expected);
    }
}

/// The plain case: a dump of version 15 through a pipe.
static SOURCE: LazyLock<Source> = LazyLock::new(|| Source::dump(15, Utf8, &DumpOptions::piped()));

fn sql(name: &str) -> String {
    fs::read_to_string(fixture(name)).expect("a fixture")
}

#[test]
fn a_restore_leaves_a_report_that_says_what_was_done() {
    let target = Target::on(15, Utf8, OldRows::Some);
    let job = Job::new(&SOURCE.archive, &target);
    let printed = job.run(&["--output", "json"]).done().json();
    let written: Value = serde_json::from_slice(&fs::read(job.file("pgmig-report.json")).unwrap()).unwrap();
    assert_eq!(printed, written);
    let rows: u64 = written["tables"].as_array().unwrap().iter().map(|table| table["rows"].as_u64().unwrap()).sum();
    let kept = [
        "workspace",
        "dialog_node",
        "assistant",
        "environment",
        "skill",
        "usage",
        "session_event",
        "tenant",
        "audit_entry",
    ];
    let kept = kept.map(|table| {
        let sql = format!("select count(*) from {table} where tenant_id = '{INTERNAL}'");
        target.psql(&sql).parse::<u64>().unwrap()
    });
    assert_eq!(written["verification"]["rows"], rows + kept.iter().sum::<u64>());
    assert_eq!(written["large_objects"], 6);
    assert_eq!(written["mapping"]["mapped"].as_array().unwrap().len(), MAPPING.len());
}

#[test]
fn the_report_of_a_restore_replaces_nothing_that_is_no_file() {
    let target = Target::on(15, Utf8, OldRows::Some);
    let job = Job::new(&SOURCE.archive, &target);
    // A link, so that a program that does replace it leaves the machine as it is.
    symlink("/dev/full", job.file("full")).unwrap();
    let run = job.run(&["--report", "full"]);
    let _ = run.failed(&["the restore was committed, but the report could not be written", "No space left"]);
    assert!(fs::symlink_metadata(job.file("full")).unwrap().is_symlink());
}

#[test]
fn rows_of_deleted_and_internal_tenants_are_left_out_and_counted() {
    let target = Target::on(15, Utf8, OldRows::None);
    let plan = Job::new(&SOURCE.archive, &target).run(&["--dry-run", "--output", "json"]).done().json();
    let left_out: BTreeMap<_, _> = plan["tables"]
        .as_array()
        .unwrap()
        .iter()
        .map(|table| (table["table"].as_str().unwrap(), table["rows_left_out"].as_u64().unwrap()))
        .collect();
    // five rows of the deleted one, three of the internal one
    assert_eq!(left_out["public.workspace"], 8);
    assert_eq!(left_out["public.dialog_node"], 6 * 8);
    assert_eq!(left_out["public.tenant"], 2);
    assert_eq!(left_out["public.share"], 0);
    let warnings = plan["warnings"].to_string();
    for id in ["00000000-0000-0000-0000-001500000001", "3d2f1c0a-9b8e-4f7d-8a6c-5e4d3c2b1a09"] {
        assert!(warnings.contains(&format!("tenant {id}")), "{warnings}");
    }
    // The target's internal tenant is not one that loses its data.
    assert!(!warnings.contains(INTERNAL), "{warnings}");
}

#[test]
fn a_deleted_tenant_that_is_mapped_is_restored() {
    let spare = "00000000-0000-0000-1800-000000000005";
    let target = Target::on(15, Utf8, OldRows::Some)
        .after(&format!("insert into tenant values ('{spare}', '{spare}', 'spare', 'eu', false)"));
    let mut mapping = MAPPING.to_vec();
    mapping.push(("00000000-0000-0000-0000-001500000001", spare));
    let job = Job::new(&SOURCE.archive, &target);
    job.map(&mapping);
    let _ = job.run(&[]).done();
    target.assert_restored(&SOURCE.expected(Utf8, &mapping));
}

#[test]
fn leaving_out_rows_that_others_refer_to_stops_and_names_them() {
    let source = Source::dump_after(&sql("orphans.sql"), &DumpOptions::piped());
    let target = Target::on(15, Utf8, OldRows::Some);
    let _ = Job::new(&source.archive, &target).run(&[]).failed(&[
        "constraint skill_assistant_id_fkey of public.skill",
        "2 of public.assistant",
        "map these tenants too",
        "00000000-0000-0000-0000-001500000001",
    ]);
    target.assert_unchanged();
}

#[test]
fn stray_ids_stop_the_restore_until_the_user_says_what_to_do() {
    let source = Source::dump_after(&sql("strays.sql"), &DumpOptions::piped());
    let target = Target::on(15, Utf8, OldRows::Some);
    let job = Job::new(&source.archive, &target);
    let _ = job.run(&[]).failed(&[
        "public.webhook.url, 1 row",
        "public.assistant.settings, 1 row",
        "large objects, 1 object",
        "instances/00000000-0000-0000-0000-001570184978/skills",
        "--remap-also 'public.webhook.url'",
        "--ignore-strays",
    ]);
    target.assert_unchanged();

    let url = |target: &Target| target.psql("select url from webhook where webhook_id = 11");
    let history = |target: &Target| {
        target.psql("select settings #>> '{history,0,copied_from}' from assistant where settings ? 'history'")
    };
    let _ = job.run(&["--ignore-strays"]).done();
    assert!(url(&target).contains(MAPPING[0].0));
    assert_eq!(history(&target), MAPPING[2].0);
    target.assert_restored(&source.expected(Utf8, &MAPPING));

    let target = Target::on(15, Utf8, OldRows::Some);
    let also = ["--remap-also", "public.webhook.url", "--remap-also", "public.assistant.settings"];
    let job = Job::new(&source.archive, &target);
    // what is inside of large objects is not replaced by any option
    let _ = job.run(&also).failed(&["large objects, 1 object"]);
    target.assert_unchanged();
    let _ = job.command().args(also).arg("--ignore-strays").output().map(Run::from).unwrap().done();
    assert_eq!(url(&target), format!("https://api.example.com/v2/instances/{}/skills?verbose=1", MAPPING[0].1));
    assert_eq!(history(&target), MAPPING[2].1);
    assert_eq!(
        target.psql("select count(*) from assistant where settings #>> '{instance,id}' <> tenant_id::text"),
        "1"
    );
}

#[test]
fn a_target_with_data_is_refused_without_force() {
    let target = Target::on(15, Utf8, OldRows::Some);
    let job = Job::new(&SOURCE.archive, &target);
    let run = Run::of(job.without_mapping().args(["-m", "mapping.yaml"]));
    // five of four tenants
    let _ = run.failed(&["public.workspace, 20 rows", "public.usage", "2 large objects", "--force"]);
    target.assert_unchanged();
    assert!(!job.file("pgmig-report.json").exists());
}

#[test]
fn a_provisioned_target_without_data_needs_no_force() {
    let target = Target::on(15, Utf8, OldRows::None);
    let job = Job::new(&SOURCE.archive, &target);
    let _ = Run::of(job.without_mapping().args(["-m", "mapping.yaml"])).done();
    target.assert_restored(&SOURCE.expected(Utf8, &MAPPING));
    // and now there is data
    let _ = Run::of(job.without_mapping().args(["-m", "mapping.yaml"])).failed(&["public.workspace, 130 rows"]);
}

#[test]
fn a_dry_run_changes_nothing_and_prints_the_plan() {
    let target = Target::on(15, Utf8, OldRows::Some);
    let job = Job::new(&SOURCE.archive, &target);
    let run = job.run(&["--dry-run"]).done();
    let _ = run.says(&["public.routing_0 into public.routing", "public.workspace", "nothing was changed"]);
    target.assert_unchanged();
    assert!(!job.file("pgmig-report.json").exists());
    // not even a lock is taken that a running store would notice
    let _ = Run::of(job.without_mapping().args(["-m", "mapping.yaml", "--dry-run"])).done();
}

#[test]
fn an_archive_is_read_from_standard_input() {
    let target = Target::on(15, Utf8, OldRows::Some);
    let job = Job::new(std::path::Path::new("-"), &target);
    let mut command = job.command();
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let bytes = fs::read(&SOURCE.archive).unwrap();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &bytes));
    let run = Run::from(child.wait_with_output().unwrap()).done();
    writer.join().unwrap().unwrap();
    let _ = run.says(&["standard input"]);
    target.assert_restored(&SOURCE.expected(Utf8, &MAPPING));
}

#[test]
fn ids_can_be_swapped_and_can_stay() {
    let [a, b, c, d] = MAPPING.map(|(source, _)| source);
    let own_ids: String = MAPPING
        .iter()
        .map(|(source, target)| {
            format!(
                "update tenant set tenant_id = '{source}', instance_id = case when instance_id is not null then '{source}'::uuid end
                 where tenant_id = '{target}';"
            )
        })
        .collect();
    for mapping in
        [[(a, b), (b, a), (c, d), (d, c)], [(a, a), (b, b), (c, c), (d, d)], [(a, b), (b, c), (c, a), (d, d)]]
    {
        let target = Target::on(15, Utf8, OldRows::None).after(&own_ids);
        let job = Job::new(&SOURCE.archive, &target);
        job.map(&mapping);
        let run = job.run(&[]);
        assert!(run.status.success(), "{mapping:?}: {run}");
        target.assert_restored(&SOURCE.expected(Utf8, &mapping));
    }
}

#[test]
fn instances_are_paired_by_name() {
    // What cannot be paired is named: on both sides there is one without a name, and one name differs.
    let target = Target::on(15, Utf8, OldRows::Some);
    let job = Job::new(&SOURCE.archive, &target);
    let by_name = |job: &Job| Run::of(job.without_mapping().args(["--map-by-name", "--force", "--yes"]));
    let _ = by_name(&job).failed(&["Ventes \"été\"", MAPPING[3].0, MAPPING[3].1, "ventes"]);
    target.assert_unchanged();

    let source = Source::dump_after(
        "update tenant set name = 'ventes' where name like 'Ventes%'; update tenant set name = 'bdd-test' where name is null;",
        &DumpOptions::piped(),
    );
    let target = target.after("update tenant set name = 'bdd-test' where name is null");
    let _ = by_name(&Job::new(&source.archive, &target)).done();
    target.assert_restored(&source.expected(Utf8, &MAPPING));
}

#[test]
fn every_fault_of_a_mapping_is_told_at_once() {
    let target = Target::on(15, Utf8, OldRows::Some);
    let job = Job::new(&SOURCE.archive, &target);
    let nobody = "00000000-0000-0000-0000-009999999999";
    job.map(&[MAPPING[0], (MAPPING[1].0, nobody), (nobody, MAPPING[1].1), (MAPPING[2].0, MAPPING[2].1)]);
    let _ = job.run(&[]).failed(&[
        &format!("`{nobody}` is not provisioned"),
        &format!("`{nobody}` is mapped, but the archive has no such instance"),
        &format!("`{}`, (no name), is live in the archive and has no target", MAPPING[3].0),
    ]);
    job.map(&[MAPPING[0], (MAPPING[1].0, MAPPING[0].1), MAPPING[2], MAPPING[3]]);
    let _ = job.run(&[]).failed(&["line 3", MAPPING[0].1, "two instances cannot be restored into one"]);
    target.assert_unchanged();
}

#[test]
fn differences_of_tables_and_columns_are_named_all_at_once() {
    let target = Target::on(15, Utf8, OldRows::Some).after(
        "drop table maintenance; alter table workspace drop column labels; alter table webhook rename column url to link;
         alter table share add column required text not null default ''; alter table share alter column required drop default;
         create table more (tenant_id uuid); drop sequence ticket_number",
    );
    let job = Job::new(&SOURCE.archive, &target);
    let _ = job.run(&[]).failed(&[
        "the target has no table public.maintenance",
        "public.workspace has no column \"labels\"",
        "public.webhook has no column \"url\"",
        "public.share.required of the target has no values in the archive and no default",
        "the archive has no table public.more",
        "of the version that the dump was taken from",
    ]);
    target.assert_unchanged();
}

#[test]
fn a_target_may_have_more_columns_with_defaults_and_more_tables() {
    let target = Target::on(15, Utf8, OldRows::Some).after(
        "alter table workspace add column added text default 'by default', add column more integer;
         create table settings_of_ours as select 1 as n",
    );
    let _ = Job::new(&SOURCE.archive, &target).run(&[]).done();
    assert_eq!(
        target.psql(&format!("select distinct added, more from workspace where tenant_id <> '{INTERNAL}'")),
        "by default|"
    );
    assert_eq!(target.psql("select n from settings_of_ours"), "1");
}

#[test]
fn constraints_and_triggers_of_every_kind_are_as_before() {
    // What the fixture does not have: triggers on partitions and on partitioned tables, a constraint with a
    // comment, a foreign key to a partitioned table and one from a table that the archive does not have.
    let more = "
        create function leave_trace() returns trigger language plpgsql as $$ begin
          insert into public.audit_entry (tenant_id, what) values (null, 'fired'); return null; end $$;
        create trigger of_root after insert or delete on session_event for each row execute function leave_trace();
        create trigger of_partition after insert on session_event_2024 for each row execute function leave_trace();
        create trigger of_statement after truncate or insert on usage_1 for each statement execute function leave_trace();
        create constraint trigger deferred after insert on tricky_text deferrable initially deferred for each row execute function leave_trace();
        comment on constraint skill_assistant_id_fkey on skill is 'it''s \\ \"commented\"';
        alter table only session_event enable replica trigger of_root;
        create table only_here (happened timestamptz, event_id bigint,
          foreign key (event_id, happened) references session_event);
        alter table nothing_in_it add constraint not_validated check (id > 5) not valid";
    let source = Source::dump_after("select 1", &DumpOptions::piped());
    for major in [15, 16, 17, 18] {
        let target = Target::on(major, Utf8, OldRows::Some).after(more);
        let run = Job::new(&source.archive, &target).run(&[]);
        assert!(run.status.success(), "{major}: {run}");
        assert_eq!(target.psql("select count(*) from audit_entry where what = 'fired'"), "0");
        let facts = target.psql("select count(*) from only_here");
        assert_eq!(facts, "0");
        target.psql("drop table only_here");
        let changed = target.before.differences(&target.now());
        let unexpected: Vec<_> = changed
            .iter()
            .filter(|line| {
                !["only_here", "rows ", "sequence ", "large object ", "materialized "]
                    .iter()
                    .any(|known| line.contains(known))
            })
            .collect();
        assert!(unexpected.is_empty(), "{major}: {unexpected:#?}");
    }
}

#[test]
fn a_document_that_jsonb_cannot_hold_is_restored_all_the_same() {
    let document = r#"{"zero": "\u0000", "half": "\ud83d", "escaped": "\\\\u0000", "context": {"metadata": {"instance_id": "ID"}}}"#;
    let insert = format!(
        "insert into session_event values (77, '2024-03-03 00:00:00+00', '{id}', '{}')",
        document.replace("ID", MAPPING[0].0),
        id = MAPPING[0].0
    );
    let source = Source::dump_after(&insert, &DumpOptions::piped());
    let target = Target::on(15, Utf8, OldRows::None);
    let _ = Job::new(&source.archive, &target).run(&[]).done();
    assert_eq!(
        target.psql("select payload from session_event where event_id = 77"),
        document.replace("ID", MAPPING[0].1)
    );
}

#[test]
fn an_output_that_nobody_reads_is_no_success_and_no_panic() {
    let target = Target::on(15, Utf8, OldRows::Some);
    let job = Job::new(&SOURCE.archive, &target);
    let closed = || std::io::pipe().unwrap().1;
    let _ = Run::of(job.command().stdout(closed())).failed(&["standard output", "nothing was changed"]);
    target.assert_unchanged();
    // The steps on standard error may go unread.
    let _ = Run::of(job.command().stderr(closed())).done();
    target.assert_restored(&SOURCE.expected(Utf8, &MAPPING));
}

#[test]
fn a_key_that_rows_kept_in_the_target_have_stops_and_says_so() {
    // The internal tenant of the target keeps its rows, one of them under a number of the archive.
    let target = Target::on(15, Utf8, OldRows::Some)
        .after(&format!("insert into webhook values (11, '{INTERNAL}', null, null, null)"));
    let job = Job::new(&SOURCE.archive, &target);
    let _ = job.run(&[]).failed(&["load rows into public.webhook", "webhook_pkey", INTERNAL]);
    target.assert_unchanged();
    // The way out that it names: the archive's internal tenant replaces the target's.
    let mut mapping = MAPPING.to_vec();
    mapping.push(("3d2f1c0a-9b8e-4f7d-8a6c-5e4d3c2b1a09", INTERNAL));
    job.map(&mapping);
    let _ = job.run(&[]).done();
    assert_eq!(target.psql(&format!("select count(*) from webhook where instance_id = '{INTERNAL}'")), "3");
}

#[test]
fn dumps_taken_with_other_options_are_restored_or_refused() {
    let dump = |option: &str| Source::dump(15, Utf8, &DumpOptions::piped().arg(option));
    for option in ["--load-via-partition-root", "--data-only", "--no-owner", "--disable-triggers"] {
        let target = Target::on(15, Utf8, OldRows::Some);
        let run = Job::new(&dump(option).archive, &target).run(&[]);
        assert!(run.status.success(), "{option}: {run}");
        target.assert_restored(&SOURCE.expected(Utf8, &MAPPING));
    }
    let target = Target::on(15, Utf8, OldRows::Some);
    for (option, told) in [
        ("--inserts", "its rows are INSERT statements"),
        ("--schema-only", "the archive has no rows of a table `public.tenant`"),
        ("--schema=public", "the archive has no table \"Mixed Case\".\"Täble \"\"X\"\"\""),
    ] {
        let run = Job::new(&dump(option).archive, &target).run(&[]);
        assert_eq!(run.status.code(), Some(1), "{option}: {run}");
        let _ = run.failed(&[told]);
        target.assert_unchanged();
    }
    let run = Job::new(&dump("--exclude-table-data=skill").archive, &target).run(&["--dry-run"]).done();
    let _ = run.says(&["the dump leaves the rows of public.skill out"]);
}
