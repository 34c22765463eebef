//! `backup restore`: pgmig's restore, of a backup that is proven to be whole, into a target that is backed up first.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use pgmig_tests::awkward::{MAPPING, OldRows, Source, Store, Target, copy_of_source, write_mapping};
use pgmig_tests::backup::Backups;
use pgmig_tests::pgmig::Run;
use pgmig_tests::{DumpOptions, Fingerprint, Server, awkward};

static EXPECTED: LazyLock<Fingerprint> =
    LazyLock::new(|| Source::dump(15, Store::Utf8, &DumpOptions::piped()).expected(Store::Utf8, &MAPPING));

/// Backups of the awkward store, and the files for a restore into `target`.
fn backups(target: &Target) -> Backups {
    // One for each: of two runs on one database at the same time the second is refused.
    let server = Server::shared(15);
    let backups = Backups::of(server, &format!("\"{}\"", copy_of_source(server, Store::Utf8)));
    target.server.write_postgres_yaml(&backups.file("postgres.yaml"), &target.database);
    fs::copy(awkward::profile(), backups.file("profile.yaml")).unwrap();
    write_mapping(&backups.file("mapping.yaml"), &MAPPING);
    backups
}

const TARGET: [&str; 6] = ["--target", "postgres.yaml", "--profile", "profile.yaml", "--force", "--yes"];
const MAPPED: [&str; 2] = ["--mapping", "mapping.yaml"];

fn restore(backups: &Backups, job: &str, id: &str, more: &[&str]) -> Command {
    let mut command = backups.command(&["restore", job, id]);
    command.args(TARGET).args(more);
    for variable in ["PG_CA_FILE", "PGSSLMODE", "PGPASSWORD", "ENABLE_ICP"] {
        command.env_remove(variable);
    }
    command
}

fn run(backups: &Backups, job: &str, id: &str, more: &[&str]) -> Run {
    Run::of(&mut restore(backups, job, id, more))
}

/// What was backed up of targets.
fn before_restore(backups: &Backups) -> Vec<String> {
    let list = backups.run(&["list", "nightly.before-restore", "--output", "json"]).done().json();
    let listed = list["jobs"][0]["backups"].as_array().unwrap();
    listed.iter().map(|backup| backup["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_backup_is_restored_with_every_id_remapped_and_the_way_back_leads_back() {
    let target = Target::on(15, Store::Utf8, OldRows::Some);
    let backups = backups(&target);
    backups.make();
    let ran = run(&backups, "nightly", "latest", &MAPPED).done();
    target.assert_restored(&EXPECTED);
    let ids = before_restore(&backups);
    let _ = backups.run(&["list"]).done().says(&["nightly.before-restore", &ids[0]]);
    let _ = backups.run(&["prune", "nightly.before-restore"]).failed(&["no policy removes the backups"]);
    let way_back =
        format!("backup restore nightly.before-restore {} --target postgres.yaml --same-ids --force", ids[0]);
    let _ = ran.says(&["back up the target first", &way_back]);
    assert_eq!(ids.len(), 1);
    let _ = backups.run(&["verify", "nightly.before-restore", "latest"]).done();

    let _ = run(&backups, "nightly.before-restore", &ids[0], &["--same-ids"]).done();
    let changed = target.before.differences(&target.now());
    // Those that no row refers to stay, and all belong to the product then.
    assert!(changed.iter().all(|line| line.starts_with("large object ")), "{changed:#?}");
    // What was restored in between was backed up too.
    assert_eq!(before_restore(&backups).len(), 2);
    assert_eq!(backups.verified().len(), 1, "backups of targets are none of the job's");
}

#[test]
fn a_plan_changes_nothing_and_backs_nothing_up() {
    let target = Target::on(15, Store::Utf8, OldRows::Some);
    let backups = backups(&target);
    backups.make();
    let plan =
        run(&backups, "nightly", "latest", &[&MAPPED[..], &["--dry-run", "--output", "json"]].concat()).done().json();
    assert_eq!(plan["mapping"]["mapped"].as_array().unwrap().len(), MAPPING.len());
    target.assert_unchanged();
    assert_eq!(before_restore(&backups), [""; 0]);
}

#[test]
fn a_target_that_cannot_be_backed_up_is_not_restored_into_unless_told() {
    let target = Target::on(15, Store::Utf8, OldRows::Some);
    let backups = backups(&target);
    backups.make();
    let backups = backups.pg_dump("echo 'no space' >&2; exit 1");
    let _ = run(&backups, "nightly", "latest", &MAPPED).failed(&[
        "the target could not be backed up, so nothing was changed in it",
        "no space",
        "--no-backup-of-target",
    ]);
    target.assert_unchanged();
    assert_eq!(before_restore(&backups), [""; 0]);
    let _ = run(&backups, "nightly", "latest", &[&MAPPED[..], &["--no-backup-of-target"]].concat()).done();
    target.assert_restored(&EXPECTED);
}

#[test]
fn what_is_no_backup_any_more_is_not_restored() {
    let target = Target::on(15, Store::Utf8, OldRows::Some);
    let backups = backups(&target);
    let id = backups.make();
    let object = backups.vault().into_iter().find(|file| file.ends_with(".dump")).unwrap();
    let path = backups.file("vault").join(&object);
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    fs::write(&path, flipped).unwrap();
    let _ = run(&backups, "nightly", &id, &MAPPED).failed(&[&format!("the backup `{id}` cannot be read")]);
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let _ = run(&backups, "nightly", &id, &MAPPED).failed(&["cannot be used", "but it has"]);
    fs::remove_file(&path).unwrap();
    let _ = run(&backups, "nightly", &id, &MAPPED).failed(&["cannot be used", "which is missing"]);
    target.assert_unchanged();
    assert_eq!(before_restore(&backups), [""; 0]);
}

#[test]
fn no_room_for_the_temporary_file_is_told_as_such() {
    let target = Target::on(15, Store::Utf8, OldRows::Some);
    let backups = backups(&target);
    backups.make();
    let missing = Path::new("missing-folder");
    let failed = Run::of(restore(&backups, "nightly", "latest", &MAPPED).env("TMPDIR", missing));
    let _ = failed.failed(&["in a temporary file in `missing-folder`", "set TMPDIR"]);
    target.assert_unchanged();
}

#[test]
fn backups_of_targets_are_made_by_restores_alone() {
    let target = Target::on(15, Store::Utf8, OldRows::None);
    let backups = backups(&target);
    for command in [["run"], ["adopt"]] {
        let _ = backups
            .run(&[&command[..], &["nightly.before-restore"]].concat())
            .failed(&["`backup restore` makes alone"]);
    }
    let _ = backups.run(&["list", "daily.before-restore"]).failed(&["no job `daily.before-restore`"]);
}
