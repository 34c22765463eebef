//! `backup.yaml`: what it may say, and every fault of it at once.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use pgmig_tests::backup::program;
use pgmig_tests::pgmig::Run;
use pgmig_tests::write_certificates;

fn check(yaml: &str, prepare: impl FnOnce(&std::path::Path, &mut Command)) -> Run {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("backup.yaml"), yaml).expect("writable");
    let mut command = Command::new(program());
    command.args(["config", "check"]).current_dir(folder.path()).stdin(Stdio::null());
    fs::create_dir(folder.path().join("bin")).expect("writable");
    for program in ["pg_dump", "no-program"] {
        fs::write(folder.path().join("bin").join(program), "").expect("writable");
    }
    fs::set_permissions(folder.path().join("bin/pg_dump"), Permissions::from_mode(0o755)).expect("it is ours");
    command.env("PATH", folder.path().join("bin"));
    prepare(folder.path(), &mut command);
    Run::of(&mut command)
}

const WHOLE: &str = "\
sources:
  store: {type: postgresql, host: localhost, port: 5432, database: store, username-env: STORE_USER, password-file: pg}
  both:
    type: postgresql
    host: db
    databases: [one, two]
    username: user
    sslmode: verify-full
    compress: zstd:3
    profile: watson-assistant
destinations:
  vault: {type: local, path: .}
  s3:
    type: s3
    endpoint: https://minio:9000
    bucket: backups
    prefix: prod
    access-key-env: ACCESS
    secret-key-file: secret
    ca-file: ca.crt
    object-lock: {mode: compliance, days: 30}
jobs:
  nightly:
    source: store
    destination: vault
    retention: {keep-daily: 6, keep-weekly: 4, weekly-backup-day: sunday, time-zone: Europe/Berlin}
  hourly:
    source: both
    destination: s3
    retention: {keep-last: 3, keep-within: 14d, keep-yearly: unlimited}
    metrics-file: hourly.prom
    success-url-file: url
    clean-up-after-hours: 48
";

#[test]
fn every_value_can_come_from_the_environment_or_a_file() {
    let checked = check(WHOLE, |folder, command| {
        for file in ["pg", "secret", "url"] {
            fs::write(folder.join(file), "https://value\n").expect("writable");
        }
        write_certificates(folder, &["minio"]);
        command.env("STORE_USER", "user").env("ACCESS", "key");
    });
    assert_eq!(checked.done().stdout, "no fault: 2 sources, 2 destinations, 2 jobs\n");
}

#[test]
fn what_is_missing_outside_of_the_file_is_told_with_its_line() {
    let _ = check(WHOLE, |_, command| {
        command.env_remove("STORE_USER").env_remove("ACCESS");
    })
    .failed(&[
        "it has 6 faults",
        "line 2: the source `store`: `username-env`: the environment variable `STORE_USER` is not set",
        "line 2: the source `store`: `password-file`: cannot read `pg`: No such file",
        "line 18: the destination `s3`: `access-key-env`: the environment variable `ACCESS` is not set",
        "line 19: the destination `s3`: `secret-key-file`: cannot read `secret`",
        "line 20: the destination `s3`: `ca-file`: cannot read `ca.crt`",
        "line 32: the job `hourly`: `success-url-file`: cannot read `url`",
    ]);
    // As what was to write it has left it.
    let _ = check(WHOLE, |folder, command| {
        for (file, content) in [("pg", ""), ("secret", "\n"), ("url", "https://value")] {
            fs::write(folder.join(file), content).expect("writable");
        }
        write_certificates(folder, &["minio"]);
        command.env("STORE_USER", "user").env("ACCESS", "");
    })
    .failed(&[
        "it has 3 faults",
        "line 2: the source `store`: `password` is empty",
        "line 18: the destination `s3`: `access-key` is empty",
        "line 19: the destination `s3`: `secret-key` is empty",
    ]);
}

#[test]
fn every_fault_is_told_at_once_with_its_line() {
    let yaml = "\
sources:
  store:
    type: postgresql
    host: https://db
    port: 70000
    username: u
    pasword: hunter2
    password: a
    password-env: B
  other: {type: oracle, host: x}
  'odd name': {type: postgresql}
destinations:
  vault: {type: local}
  s3: {type: s3, endpoint: 'https://x', bucket: b, access-key: a, path-style: maybe}
jobs:
  nightly:
    source: stor
    destination: vault
    retention: {keep-daily: -1, weekly-backup-day: 7, time-zone: Mars, keep-lots: 1}
  empty: {source: store, destination: vault, retention: {keep-last: 0}}
";
    let checked = check(yaml, |_, _| {});
    assert_eq!(checked.status.code(), Some(1));
    assert!(!checked.stderr.contains("hunter2"), "{checked}");
    let _ = checked.failed(&[
        "it has 16 faults",
        "line 11: `sources` has a name that is not made of letters",
        "line 20: `retention` of the job `empty`",
    ]);
    let checked = check(&yaml.replace("  'odd name': {type: postgresql}\n", ""), |_, _| {});
    let _ = checked.failed(&[
        "it has 15 faults",
        "line 2: the source `store`: `database` is missing",
        "line 4: the source `store`: `host` is a URL; write only the host name",
        "line 5: the source `store`: `port` must be a number from 1 to 65535",
        "line 7: the source `store`: unknown key `pasword`; known are ",
        "line 9: the source `store`: only one of `password`, `password-env`, `password-file` can be given",
        "line 10: the source `other`: `type` must be one of `postgresql`",
        "line 12: the destination `vault`: `path` is missing",
        "line 13: the destination `s3`: `secret-key` is missing",
        "line 13: the destination `s3`: `path-style` must be `true` or `false`",
        "line 16: the job `nightly`: `source` is not the name of one; there are `store`, `other`",
        "line 18: `retention` of the job `nightly`: `keep-daily` must be a number, or `unlimited`",
        "line 18: `retention` of the job `nightly`: `weekly-backup-day` must be a day of the week",
        "line 18: `retention` of the job `nightly`: `time-zone` must be the name of a time zone",
        "line 18: `retention` of the job `nightly`: unknown key `keep-lots`",
        "line 19: `retention` of the job `empty`: the retention policy keeps nothing",
    ]);
}

#[test]
fn what_would_fail_at_night_is_told_by_day() {
    let yaml = "\
sources:
  store: {type: postgresql, host: h, database: d, username: u, compress: bogus}
destinations:
  gone: {type: local, path: nowhere}
  s3: {type: s3, endpoint: 'minio:9000', bucket: b, access-key: a, secret-key: s, object-lock: {mode: sometimes, days: 3}}
  here: {type: local, path: .}
jobs:
  one: {source: store, destination: here, at-root: true}
  two: {source: store, destination: here, at-root: true, success-url: not a url, clean-up-after-hours: 0}
  one.before-restore: {source: store, destination: here}
";
    let _ = check(yaml, |_, _| {}).failed(&[
        "it has 8 faults",
        "line 2: the source `store`: `compress` must be what `pg_dump --compress` takes",
        "line 4: the destination `gone`: `nowhere` is no folder that is there",
        "line 5: the destination `s3`: `endpoint` must be a URL such as `https://minio:9000`",
        "line 5: `object-lock` of the destination `s3`: `mode` must be `governance` or `compliance`",
        "line 8: the job `one`: it has its backups at the root of `here`, and so has `two`",
        "line 9: the job `two`: `clean-up-after-hours` must be a number of hours, at least 1: a run that is at work",
        "line 9: the job `two`: `success-url` must be a URL",
        "line 10: the job `one.before-restore`: names that end with `.before-restore`",
    ]);
}

#[test]
fn what_the_configuration_names_has_to_be_there_and_to_make_sense() {
    let yaml = "\
sources:
  store:
    type: postgresql
    host: h
    database: d
    username: u
    pg-dump: bin/nothing
    ca-file: ca.crt
  models: {type: bucket, endpoint: 'https://minio', bucket: models, prefix: a/../b, access-key: a, secret-key: s}
  other: {type: postgresql, host: h, database: d, username: u, pg-dump: no-program}
  all: {type: bucket, endpoint: 'https://MINIO:443/', bucket: models, access-key: a, secret-key: s}
  speech: {type: watson-speech, host: h, username: u, minio: {endpoint: 'https://minio?x', access-key: a, secret-key: s}}
destinations:
  same: {type: s3, endpoint: 'https://minio', bucket: models, prefix: backups, access-key: a, secret-key: s}
  user: {type: s3, endpoint: 'https://user:hunter2@minio', bucket: b, access-key: a, secret-key: s}
  here: {type: local, path: .}
  volume:
    type: local
    path: .
    expect-mount: true
jobs:
  one: {source: store, destination-env: WHERE, at-root: true, encryption: {
    recipients: [age1nobody]}, metrics-file: nowhere/metrics}
  two: {source: store, destination: here, at-root: true, metrics-file: nowhere/metrics}
  full: {source: all, destination: same}
";
    let checked = check(yaml, |folder, command| {
        fs::write(folder.join("ca.crt"), "no certificate").expect("writable");
        command.env("WHERE", "here");
    });
    assert!(!checked.stderr.contains("hunter2"), "{checked}");
    let _ = checked.failed(&[
        "it has 10 faults",
        "line 7: the source `store`: there is no program `bin/nothing`",
        "line 8: the source `store`: cannot connect to database `d`",
        "line 9: the source `models`: cannot use `https://minio`: the prefix",
        "line 10: the source `other`: there is no program `no-program` in the folders of `PATH`",
        "line 12: the source `speech`: cannot use `the endpoint`: it has something behind `?`",
        "line 15: the destination `user`: cannot use `the endpoint`: it has a user or a password in it",
        "line 20: the destination `volume`: cannot use the folder `.`: nothing is mounted there",
        "line 23: `encryption` of the job `one`: `recipients`",
        "line 24: the job `two`: it has its backups at the root of `here`, and so has `one`",
        "line 25: the job `full`: its source `all` has the backups themselves in it: they go to `same`",
    ]);
}

#[test]
fn backups_that_lie_in_their_own_source_are_given_back_and_only_new_ones_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = "endpoint: 'https://minio', bucket: b, access-key: a, secret-key: s";
    let yaml = format!(
        "sources: {{all: {{type: bucket, {store}}}}}\ndestinations: {{same: {{type: s3, {store}, prefix: backups, ca-file: ca.crt}}}}\n\
         jobs: {{full: {{source: all, destination: same, retention: {{keep-last: 1}}}}}}\n"
    );
    fs::write(folder.path().join("backup.yaml"), yaml).expect("writable");
    let run = |arguments: &[&str]| {
        Run::of(Command::new(program()).args(arguments).current_dir(folder.path()).stdin(Stdio::null()))
    };
    for refused in [&["config", "check"][..], &["run", "full"]] {
        let _ = run(refused).failed(&["line 3: the job `full`: its source `all` has the backups themselves in it"]);
    }
    let list = run(&["list", "full"]).failed(&["`ca-file`: cannot read `ca.crt`"]);
    assert!(!list.stderr.contains("in it"), "{list}");
}

#[test]
fn a_list_without_a_job_says_that_there_is_none() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("backup.yaml"), "destinations: {v: {type: local, path: .}}\n").expect("writable");
    let list = Run::of(Command::new(program()).arg("list").current_dir(folder.path()).stdin(Stdio::null())).done();
    assert_eq!((list.stdout.as_str(), list.stderr.contains("has no job")), ("", true), "{list}");
}

#[test]
fn what_is_no_configuration_is_told() {
    for (yaml, why) in [
        ("", "expected the sections `sources`, `destinations`, `jobs`"),
        ("- a\n", "expected the sections"),
        ("{}\n", "expected the sections"),
        ("sources: []\ndestinations: {}\njobs:\n", "`sources` must be a map of names"),
        ("sorces: {}\n", "line 1: unknown section `sorces`"),
        ("a: b: c\n", "not YAML"),
    ] {
        let _ = check(yaml, |_, _| {}).failed(&[why]);
    }
    let mut command = Command::new(program());
    let none = Run::of(command.args(["list", "--config", "/nowhere/backup.yaml"]).stdin(Stdio::null()));
    let _ = none.failed(&["cannot use the configuration `/nowhere/backup.yaml`: No such file"]);
}

#[test]
fn a_list_needs_no_password_of_a_database() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let yaml = "sources: {a: {type: postgresql, host: h, database: d, username: u, password-file: nowhere}}\n\
                destinations: {v: {type: local, path: .}, gone: {type: local, path: nowhere}}\n\
                jobs: {n: {source: a, destination: v}, m: {source: a, destination: gone}}\n";
    fs::write(folder.path().join("backup.yaml"), yaml).expect("writable");
    let run = |arguments: &[&str]| {
        Run::of(Command::new(program()).args(arguments).current_dir(folder.path()).stdin(Stdio::null()))
    };
    let _ = run(&["list", "n"]).done().says(&["no backup"]);
    // What can be listed is, and the rest is a failure.
    let _ = run(&["list"]).failed(&["cannot list the backups of the job `m`", "nowhere"]).says(&["no backup"]);
    let _ = run(&["run", "n"]).failed(&["`password-file`: cannot read"]);
    let _ = run(&["run", "x"]).failed(&["there is no job `x`", "`n`, `m`"]);
}
