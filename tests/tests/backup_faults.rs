//! `backup` when things go wrong: whatever fails, no new backup is listed, and no good one is gone.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use hyper::Method;
use pgmig_tests::awkward::unique;
use pgmig_tests::backup::{Backups, program};
use pgmig_tests::pgmig::Run;
use pgmig_tests::s3::{Fault, S3Proxy, S3Server};
use pgmig_tests::{PgTools, Server};

/// A database that takes a moment to be dumped.
static DATABASE: LazyLock<(&'static Server, String)> = LazyLock::new(|| {
    let server = Server::shared(17);
    let database = unique("faults");
    server.create_database(&database, "UTF8");
    server.psql(
        &database,
        "create table t as select n, md5(n::text) a, md5((-n)::text) b from generate_series(1, 20000) n",
    );
    (server, database)
});

/// Of a copy of that database: each test has one of its own, which no other one locks.
pub(crate) fn backups() -> Backups {
    let (server, template) = &*DATABASE;
    let database = unique("faults");
    server.psql("postgres", &format!("create database \"{database}\" template \"{template}\""));
    Backups::of(server, &database)
}

/// A `pg_dump` that writes so slowly that there is time to do something meanwhile.
pub(crate) const SLOW: &str = "exec 3>&1; \"$PG_DUMP\" --compress=0 \"$@\" | \
    while [ \"$(dd bs=64k count=1 iflag=fullblock status=none | tee /dev/fd/3 | wc -c)\" -gt 0 ]; do sleep 0.05; done; \
    exit ${PIPESTATUS[0]}";

#[test]
fn a_dump_that_is_cut_short_is_never_published() {
    let cases = [
        // The stream ends, and all seems well.
        ("\"$PG_DUMP\" \"$@\" | head -c 100000; exit 0", "its archive is not whole"),
        ("\"$PG_DUMP\" \"$@\" | head -c 0; exit 0", "its archive is not whole"),
        ("\"$PG_DUMP\" \"$@\" | head -c -1; exit 0", "its archive is not whole"),
        // All is there, but the program says that something is wrong.
        ("\"$PG_DUMP\" \"$@\"; echo 'something is wrong' >&2; exit 1", "something is wrong"),
        ("\"$PG_DUMP\" \"$@\" | head -c 100000; kill -9 $$", "signal: 9"),
        ("echo 'no archive at all'", "this is not a pg_dump archive"),
        ("echo 'no archive at all'; yes", "what pg_dump writes is not an archive that can be used"),
        // Some bytes are other ones.
        ("\"$PG_DUMP\" --compress=0 \"$@\" | sed 's/2$/2\\t/'", "cannot dump the database"),
    ];
    let backups = backups();
    let good = backups.make();
    for (script, why) in cases {
        let backups = backups_like(&backups, script);
        let _ = backups.run(&["run", "nightly"]).failed(&[why]);
    }
    assert_eq!(backups.verified(), [good.as_str()]);
    assert_eq!(backups.vault().len(), 2, "{:?}", backups.vault());
}

/// The same vault with another `pg_dump`.
fn backups_like(backups: &Backups, script: &str) -> Backups {
    let vault = backups.file("vault");
    crate::backup_faults::backups().destination(&format!("{{type: local, path: {}}}", vault.display())).pg_dump(script)
}

#[test]
fn two_runs_on_one_database_do_not_collide_and_a_crash_leaves_no_lock() {
    let backups = backups().pg_dump("touch begun; sleep 60").job("retention: {keep-last: 2}");
    let mut first = backups.spawn(&["run", "nightly"]);
    wait_until("the first run is at work", || backups.file("begun").exists());
    let second = backups.run(&["run", "nightly"]);
    assert_eq!(second.status.code(), Some(4), "{second}");
    let _ = second.says(&["another run makes a backup of the database", "process "]);
    first.kill().expect("it is running");
    first.wait().expect("it was killed");
    // The server notices that the session is gone.
    let backups = backups.source("pg-dump", &DATABASE.0.tools().program("pg_dump").display().to_string());
    wait_until("the lock is gone", || backups.run(&["run", "nightly"]).status.success());
    assert_eq!(backups.verified().len(), 1);
    assert!(backups.vault().len() > 2, "what is not old yet can be that of a run at work: {:?}", backups.vault());
    remove_left_behind(&backups);
    assert_eq!(backups.vault().len(), 2, "{:?}", backups.vault());
}

#[test]
#[ignore = "takes long: `make test` runs it"]
fn a_run_that_is_killed_at_any_moment_leaves_no_bad_backup() {
    let backups = backups().pg_dump(SLOW).job("clean-up-after-hours: 1").job("retention: {keep-last: 2}");
    let mut good = vec![backups.make()];
    for moment in 0..12 {
        let mut run = backups.spawn(&["run", "nightly"]);
        thread::sleep(Duration::from_millis(150 * moment));
        run.kill().expect("it is a child");
        run.wait().expect("it was killed");
        let listed = backups.verified();
        assert!(good.iter().all(|id| listed.contains(id)) || listed.len() == 2, "{good:?}, {listed:?}");
        good = listed;
    }
    wait_until("the lock is gone", || backups.run(&["run", "nightly"]).status.success());
    let listed = backups.verified();
    assert_eq!(listed.len(), 2);
    remove_left_behind(&backups);
    assert_eq!(backups.vault().len(), 4, "{:?}", backups.vault());
    assert_eq!(backups.list()["incomplete"].as_array().map(Vec::len), Some(0));
}

#[test]
fn a_prune_that_is_killed_at_any_moment_leaves_no_bad_backup() {
    let backups = backups().job("retention: {keep-last: 3}");
    let first = backups.make();
    for round in 0..8 {
        for number in 0..40 {
            let id = format!("2025{:02}{:02}T000000Z", number / 20 + 1, number % 20 + 1);
            if !backups.file("vault/nightly").join(&id).exists() {
                backups.copy_as(&first, &id);
            }
        }
        let mut prune = backups.spawn(&["prune", "nightly"]);
        thread::sleep(Duration::from_millis(10 + 3 * round));
        prune.kill().expect("it is a child");
        prune.wait().expect("it was killed");
        let listed = backups.ids();
        assert!(listed.contains(&first) && listed.len() >= 3, "{listed:?}");
        for id in [&listed[0], &listed[listed.len() / 2]] {
            let _ = backups.run(&["verify", "nightly", id]).done();
        }
        let _ = backups.run(&["prune", "nightly"]).done();
        assert_eq!(backups.verified().len(), 3);
        remove_left_behind(&backups);
        assert_eq!(backups.vault().len(), 6, "{:?}", backups.vault());
    }
}

#[test]
fn a_prune_that_fails_midway_tells_what_went_and_what_did_not() {
    let store = S3Proxy::start(|_| Fault::None);
    let backups = in_bucket("backup_prune_midway", &store.endpoint(), "create-bucket: true");
    let ids = [backups.make(), backups.make(), backups.make(), backups.make()];
    let backups = backups.job("retention: {keep-last: 1}");
    let refuse = |id: &str, name: &'static str| {
        let folder = format!("/{id}/");
        store.set_rule(move |asked| {
            let is_meant = asked.path.contains(&folder) && asked.path.ends_with(name);
            if asked.method == Method::DELETE && is_meant {
                Fault::Answer(403, "AccessDenied", "no".into())
            } else {
                Fault::None
            }
        });
    };
    refuse(&ids[1], "manifest.json");
    let run = backups.run(&["prune", "nightly", "--output", "json"]);
    assert_eq!(run.status.code(), Some(1), "{run}");
    let told = format!("cannot remove the backup `{}`", ids[1]);
    assert!(run.stderr.contains("not all that was to be removed is") && run.stderr.contains(&told), "{run}");
    let pruned = run.json();
    let in_list = |list: &str| -> Vec<String> {
        let list = pruned[list].as_array().expect("a list");
        list.iter().map(|it| it["id"].as_str().expect("an ID").to_owned()).collect()
    };
    assert_eq!([in_list("removed"), in_list("not_removed"), in_list("kept")].concat(), ids, "{pruned}");
    assert_eq!(in_list("not_removed"), ids[1..3]);
    assert_eq!(backups.ids(), ids[1..]);

    // Without its manifest it is no backup any more, whatever is left of it.
    refuse(&ids[1], ".dump");
    let run = backups.run(&["prune", "nightly"]);
    assert_eq!(run.status.code(), Some(1), "{run}");
    let told = format!("the backup `{}` is removed, but not all that it had stored", ids[1]);
    assert!(run.stderr.contains(&told), "{run}");
    let _ = run.says(&["1 backup removed, ", "; 1 not removed; 1 stays"]);
    assert_eq!(backups.ids(), ids[2..]);

    // A run tells what it has removed too.
    refuse(&ids[3], "manifest.json");
    let run = backups.run(&["run", "nightly", "--output", "json"]);
    assert_eq!(run.status.code(), Some(3), "{run}");
    assert_eq!(run.json()["removed"], serde_json::json!([ids[2]]));
    let told = run.json()["failed"][0].as_str().expect("what failed").to_owned();
    assert!(told.contains(&format!("cannot remove the backup `{}`", ids[3])), "{told}");
}

#[test]
fn an_interrupted_run_leaves_nothing() {
    let backups = backups().pg_dump(&format!("touch begun; {SLOW}"));
    for signal in ["INT", "TERM"] {
        fs::remove_file(backups.file("begun")).ok();
        let run = backups.spawn(&["run", "nightly"]);
        wait_until("it dumps", || backups.file("begun").exists());
        thread::sleep(Duration::from_millis(200));
        let killed = Command::new("kill").args(["-s", signal, &run.id().to_string()]).status().expect("kill runs");
        assert!(killed.success());
        let ended = Run::from(run.wait_with_output().expect("it ends"));
        assert_eq!(ended.status.code(), Some(130), "{ended}");
        assert_eq!(backups.vault(), Vec::<String>::new(), "{ended}");
    }
}

#[test]
fn a_server_that_goes_away_midway_is_told_and_nothing_is_published() {
    let server = Server::start(&PgTools::major(17));
    server.create_database("store", "UTF8");
    server.psql("store", "create table t as select n, repeat(md5(n::text), 20) from generate_series(1, 100000) n");
    let backups = Backups::of(&server, "store").pg_dump(&format!("touch begun; {SLOW}"));
    let run = backups.spawn(&["run", "nightly"]);
    wait_until("it dumps", || backups.file("begun").exists());
    thread::sleep(Duration::from_millis(500));
    server.crash();
    let ended = Run::from(run.wait_with_output().expect("it ends"));
    let _ = ended.failed(&["cannot dump the database `store`", "pg_dump ended with exit status: 1"]);
    let _ = backups
        .run(&["run", "nightly"])
        .failed(&["cannot connect to database `store`", "check `host` and `port` in the configuration"]);
    server.restart();
    assert_eq!(backups.ids(), Vec::<String>::new());
    assert_eq!(backups.vault(), Vec::<String>::new());
    let backups = backups.source("pg-dump", &server.tools().program("pg_dump").display().to_string());
    let _ = backups.make();
    assert_eq!(backups.verified().len(), 1);
}

#[test]
fn a_password_is_nowhere_to_be_seen() {
    let backups = backups().pg_dump(
        "printf '%s\\n' \"$@\" > arguments; tr '\\0' '\\n' < /proc/$PPID/cmdline >> arguments; exec \"$PG_DUMP\" \"$@\"",
    );
    let id = backups.make();
    let password = DATABASE.0.password();
    let shown = backups.run(&["show", "nightly", &id, "--output", "json"]).done();
    let manifest =
        fs::read_to_string(backups.file("vault/nightly").join(&id).join("manifest.json")).expect("a manifest");
    let arguments = fs::read_to_string(backups.file("arguments")).expect("they were written");
    assert!(arguments.contains("--snapshot") && arguments.contains("nightly"), "{arguments}");
    for text in [&shown.stdout, &shown.stderr, &manifest, &arguments] {
        assert!(!text.contains(password), "{text}");
    }
    // `Run` looks through what is printed, here and in every other test.
    fs::write(backups.file("password"), "wrong").expect("writable");
    let denied = backups
        .run(&["run", "nightly"])
        .failed(&["cannot connect to database", "check `username` and the password in the configuration"]);
    assert!(!denied.stderr.contains("wrong"), "{denied}");
}

#[test]
fn a_pg_dump_that_is_older_than_the_server_or_none_is_refused() {
    let old = PgTools::major(15).program("pg_dump").display().to_string();
    let _ = backups().source("pg-dump", &old).run(&["run", "nightly"]).failed(&["pg_dump 15.", "its server is 17."]);
    let _ = backups().source("pg-dump", "/bin/true").run(&["run", "nightly"]).failed(&["`/bin/true` is not pg_dump"]);
    let _ = backups()
        .source("pg-dump", "no-such-program")
        .run(&["run", "nightly"])
        .failed(&["cannot run `no-such-program`"]);
}

#[test]
fn what_somebody_changed_afterwards_is_found() {
    let backups = backups();
    let id = backups.make();
    let folder = backups.file("vault/nightly").join(&id);
    let shown = backups.run(&["show", "nightly", &id, "--output", "json"]).done().json();
    let object = folder.join(shown["manifest"]["objects"][0]["name"].as_str().expect("a name"));
    let content = fs::read(&object).expect("it is there");
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut content = content.clone();
        change(&mut content);
        fs::write(&object, content).expect("writable");
    };
    changed(&|content| content.truncate(1000));
    let cut = format!("has {} bytes, but it has 1000", content.len());
    let _ = backups.run(&["verify", "nightly", &id]).failed(&["cannot be used", &cut]);
    changed(&|content| {
        let middle = content.len() / 2;
        content[middle] ^= 1;
    });
    let _ = backups.run(&["verify", "nightly", "latest"]).failed(&[
        "is not whole",
        "its SHA-256 digest is",
        "counts among those that are kept until `vault/nightly/",
    ]);
    let _ = backups.run(&["fetch", "nightly", &id, "--to", "copy.dump"]).failed(&["its SHA-256 digest is"]);
    assert!(!backups.file("copy.dump").exists());
    fs::remove_file(&object).expect("it is ours");
    let _ = backups.run(&["verify", "nightly", &id]).failed(&["cannot be used", "which is missing"]);
    // One that was replaced together with its digest is not what was counted.
    changed(&|_| {});
    let manifest = fs::read_to_string(folder.join("manifest.json")).expect("a manifest");
    fs::write(folder.join("manifest.json"), manifest.replace("\"rows\": 20000", "\"rows\": 20001")).expect("writable");
    let _ = backups
        .run(&["verify", "nightly", &id])
        .failed(&["20001 rows of `public.t` were recorded, and there are 20000"]);
}

#[test]
fn a_full_disk_is_told_and_nothing_is_left() {
    // What is below a mount of its own is full soon; not every place where tests run lets us make one.
    let backups = backups().source("compress", "none");
    let vault = backups.file("vault");
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"])
        .arg(&vault)
        .output()
        .expect("mount runs");
    let is_mounted = mount.status.success();
    let run = if is_mounted {
        backups.run(&["run", "nightly"])
    } else {
        // No file may become longer: another error, with the same outcome.
        let mut shell = Command::new("bash");
        shell.args(["-c", "trap '' XFSZ; ulimit -f 512; exec \"$0\" run nightly"]).arg(program());
        Run::of(shell.current_dir(vault.parent().expect("a folder")).stdin(Stdio::null()))
    };
    let (left, listed) = (backups.vault(), backups.ids());
    if is_mounted {
        let unmounted = Command::new("umount").arg(&vault).status().expect("umount runs");
        assert!(unmounted.success());
        assert!(run.stderr.contains("make room"), "{run}");
    }
    assert_eq!(run.status.code(), Some(1), "{run}");
    assert_eq!((left, listed), (Vec::new(), Vec::new()));
}

#[test]
fn a_volume_that_is_not_mounted_is_told_and_nothing_is_written_in_its_place() {
    let backups =
        backups().destination("{type: local, path: vault, expect-mount: true}").job("retention: {keep-last: 1}");
    let vault = backups.file("vault");
    for command in ["run", "list", "prune"] {
        let told =
            ["cannot open the destination `vault`", "nothing is mounted there", "see that the volume is mounted"];
        let _ = backups.run(&[command, "nightly"]).failed(&told);
    }
    assert_eq!(backups.vault(), Vec::<String>::new());
    let mount = Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&vault).output().expect("mount runs");
    if mount.status.success() {
        let run = backups.run(&["run", "nightly"]);
        let listed = backups.ids();
        assert!(Command::new("umount").arg(&vault).status().expect("umount runs").success());
        let _ = run.done();
        assert_eq!((listed.len(), backups.vault()), (1, Vec::new()));
        // And one that goes while a backup is made, which goes on where nobody finds it.
        let mount = Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&vault).status().expect("mount runs");
        assert!(mount.success());
        let backups = backups.pg_dump(&format!("umount -l {}; exec \"$PG_DUMP\" \"$@\"", vault.display()));
        let _ =
            backups.run(&["run", "nightly"]).failed(&["its destination is not there any more", "nothing is mounted"]);
        assert_eq!(backups.vault(), Vec::<String>::new());
    }
}

#[test]
fn a_backup_that_lost_an_object_pushes_no_good_one_out() {
    let backups = backups().job("retention: {keep-last: 1}");
    let newest = backups.make();
    let good = "20250101T000000Z";
    backups.copy_as(&newest, good);
    let shown = backups.run(&["show", "nightly", &newest, "--output", "json"]).done().json();
    let name = shown["manifest"]["objects"][0]["name"].as_str().expect("a name").to_owned();
    let object = backups.file("vault/nightly").join(&newest).join(&name);
    let cut = || fs::write(&object, "PGDMP").expect("writable");
    let remove = || fs::remove_file(&object).expect("it is there");
    for change in [&cut as &dyn Fn(), &remove] {
        change();
        let _ = backups.run(&["prune", "nightly"]).done().says(&["1 stays"]);
        assert_eq!(backups.verified(), [good]);
        let unreadable = &backups.list()["unreadable"][0];
        assert_eq!(unreadable["id"], newest.as_str());
        assert!(unreadable["why"].as_str().is_some_and(|why| why.contains(&name)), "{unreadable}");
    }
}

#[test]
fn a_monitor_is_told_how_it_went_and_its_silence_is_no_failure_of_the_backup() {
    let monitor = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = monitor.local_addr().expect("it is bound").port();
    let (sender, asked) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for connection in monitor.incoming() {
            let mut connection = connection.expect("somebody connects");
            let mut request = [0; 1024];
            let read = connection.read(&mut request).expect("a request");
            let line = String::from_utf8_lossy(&request[..read]).lines().next().unwrap_or_default().to_owned();
            let status = if line.contains("deaf") { "500 Oops" } else { "200 OK" };
            write!(connection, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .expect("it is read");
            let _ = sender.send(line);
        }
    });
    let url = |path: &str| format!("http://127.0.0.1:{port}/{path}");
    let told = backups()
        .job(&format!("success-url: {}", url("good-s3cret")))
        .job(&format!("failure-url: {}", url("bad-s3cret")));
    let _ = told.make();
    assert_eq!(asked.recv_timeout(Duration::from_secs(10)).expect("it was asked"), "GET /good-s3cret HTTP/1.1");
    let failed = told.pg_dump("exit 3").run(&["run", "nightly"]).failed(&["exit status: 3"]);
    assert_eq!(asked.recv_timeout(Duration::from_secs(10)).expect("it was asked"), "GET /bad-s3cret HTTP/1.1");
    assert!(!failed.stderr.contains("s3cret"), "{failed}");

    // Old backups that stay fill the disk one day: whoever only watches the monitor hears of it now.
    let store = S3Proxy::start(|_| Fault::None);
    let stuck = in_bucket("backup_that_stays", &store.endpoint(), "create-bucket: true")
        .job(&format!("success-url: {}", url("good-s3cret")))
        .job(&format!("failure-url: {}", url("stuck-s3cret")))
        .job("metrics-file: backup.prom")
        .job("retention: {keep-last: 1}");
    let _ = stuck.make();
    assert_eq!(asked.recv_timeout(Duration::from_secs(10)).expect("it was asked"), "GET /good-s3cret HTTP/1.1");
    store.set_rule(|asked| match asked.method {
        Method::DELETE if asked.path.ends_with("manifest.json") => Fault::Answer(403, "AccessDenied", "no".into()),
        _ => Fault::None,
    });
    let run = stuck.run(&["run", "nightly"]);
    assert_eq!(run.status.code(), Some(3), "{run}");
    assert_eq!(asked.recv_timeout(Duration::from_secs(10)).expect("it was asked"), "GET /stuck-s3cret HTTP/1.1");
    let metrics = fs::read_to_string(stuck.file("backup.prom")).expect("it was written");
    assert!(metrics.contains("backup_last_run_succeeded{job=\"nightly\"} 1\n"), "{metrics}");
    assert!(metrics.contains("backup_last_prune_succeeded{job=\"nightly\"} 0\n"), "{metrics}");
    // It is still so after a run that has not come that far.
    let stuck = stuck.pg_dump("exit 3");
    let _ = stuck.run(&["run", "nightly"]).failed(&["exit status: 3"]);
    assert_eq!(asked.recv_timeout(Duration::from_secs(10)).expect("it was asked"), "GET /stuck-s3cret HTTP/1.1");
    let metrics = fs::read_to_string(stuck.file("backup.prom")).expect("it was written");
    assert!(metrics.contains("backup_last_prune_succeeded{job=\"nightly\"} 0\n"), "{metrics}");

    let deaf = backups().job(&format!("success-url: {}", url("deaf-s3cret")));
    let run = deaf.run(&["run", "nightly"]);
    assert_eq!(run.status.code(), Some(3), "{run}");
    assert!(run.stderr.contains("the backup was made and verified") && !run.stderr.contains("s3cret"), "{run}");
    assert_eq!(deaf.verified().len(), 1);
}

#[test]
fn a_bucket_is_as_good_as_a_folder() {
    let backups = in_bucket("backup_in_a_bucket", S3Server::shared().endpoint(), "create-bucket: true")
        .job("retention: {keep-last: 2}");
    let ids = [backups.make(), backups.make(), backups.make()];
    assert_eq!(backups.verified(), ids[1..]);
    let _ = backups.run(&["fetch", "nightly", "latest", "--to", "copy.dump"]).done();
    let list = DATABASE.0.tools().program("pg_restore");
    let listed = Command::new(list).args(["--list"]).arg(backups.file("copy.dump")).output().expect("pg_restore runs");
    assert!(String::from_utf8_lossy(&listed.stdout).contains("TABLE DATA public t"));
    let _ = backups.run(&["explain", "nightly"]).done().says(&["last 2 of 2"]);
}

#[test]
fn what_cannot_be_cleaned_up_is_a_warning_and_no_reason_to_make_no_backup() {
    let proxy = S3Proxy::start(|asked| {
        let lists_uploads =
            asked.method.as_str() == "GET" && asked.query.split('&').any(|it| it.starts_with("uploads"));
        if lists_uploads { Fault::Answer(403, "AccessDenied", "Access Denied.".into()) } else { Fault::None }
    });
    let backups = in_bucket("backup_without_list_of_uploads", &proxy.endpoint(), "create-bucket: true")
        .job("retention: {keep-last: 1}");
    for command in ["run", "prune"] {
        let done = backups.run(&[command, "nightly"]).done();
        assert!(done.stderr.contains("warning: cannot list the uploads of"), "{done}");
    }
    assert_eq!(backups.verified().len(), 1);
}

#[test]
fn a_store_that_fails_is_told_and_nothing_is_published() {
    let asked = std::sync::Arc::new(AtomicUsize::new(0));
    let proxy = S3Proxy::start(|_| Fault::None);
    let backups = in_bucket("backup_and_faults", &proxy.endpoint(), "create-bucket: true").source("compress", "none");
    let good = backups.make();
    let refused = Fault::Answer(403, "ExpiredToken", "The provided token has expired.".into());
    // For every request that writes something.
    for (fault, texts) in [
        (refused, ["cannot", "renew the credentials"]),
        (Fault::Answer(503, "SlowDown", String::new()), ["cannot", "try again"]),
    ] {
        asked.store(0, SeqCst);
        let counter = asked.clone();
        proxy.set_rule(move |request| {
            let writes = request.method == "PUT" || request.method == "POST";
            if writes && counter.fetch_add(1, SeqCst) >= 1 { fault.clone() } else { Fault::None }
        });
        let _ = backups.run(&["run", "nightly"]).failed(&texts);
        proxy.set_rule(|_| Fault::None);
        assert_eq!(backups.verified(), [good.as_str()]);
    }
    // A store that breaks connections now and then is asked again.
    let counter = asked.clone();
    proxy.set_rule(move |_| if counter.fetch_add(1, SeqCst) % 4 == 3 { Fault::Reset } else { Fault::None });
    let second = backups.make();
    proxy.set_rule(|_| Fault::None);
    assert_eq!(backups.verified(), [good, second]);
    let wrong = in_bucket("backup_and_faults", &proxy.endpoint(), "").source("compress", "none");
    fs::write(wrong.file("secret-key"), "wrong").expect("writable");
    let _ = wrong.run(&["list", "nightly"]).failed(&["cannot open the destination `vault`"]);
}

#[test]
fn a_store_whose_certificate_nobody_signed_is_refused() {
    let proxy = S3Proxy::start_tls();
    let _ = in_bucket("backup_tls", S3Server::shared().endpoint(), "create-bucket: true").make();
    let _ = in_bucket("backup_tls", &proxy.endpoint(), "").run(&["run", "nightly"]).failed(&["certificate"]);
    let trusting = in_bucket("backup_tls", &proxy.endpoint(), "ca-file: ca.crt");
    fs::write(trusting.file("ca.crt"), proxy.ca_pem().expect("it speaks TLS")).expect("writable");
    assert_eq!(trusting.verified().len(), 1);
    let insecure = in_bucket("backup_tls", &proxy.endpoint(), "accept-invalid-certificates: true");
    assert_eq!(insecure.ids().len(), 1);
}

/// In a bucket of that name, at the store or a proxy in front of it.
pub(crate) fn in_bucket(test: &str, endpoint: &str, more: &str) -> Backups {
    to_bucket(backups(), test, endpoint, more)
}

/// The same for backups of another database.
pub(crate) fn to_bucket(backups: Backups, test: &str, endpoint: &str, more: &str) -> Backups {
    let store = S3Server::shared();
    fs::write(backups.file("secret-key"), store.secret_key()).expect("writable");
    let more = if more.is_empty() { String::new() } else { format!(", {more}") };
    backups.destination(&format!(
        "{{type: s3, endpoint: \"{endpoint}\", bucket: {}, prefix: prod, access-key: {}, secret-key-file: secret-key{more}}}",
        store.config(test).bucket,
        store.access_key()
    ))
}

/// Removes what killed runs left behind in a folder, as if two days had passed.
#[track_caller]
fn remove_left_behind(backups: &Backups) {
    for name in backups.vault() {
        let file = fs::File::options().write(true).open(backups.file("vault").join(name)).expect("it is ours");
        file.set_modified(SystemTime::now() - Duration::from_secs(2 * 24 * 60 * 60)).expect("it is ours");
    }
    let _ = backups.run(&["prune", "nightly"]).done();
}

#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}
