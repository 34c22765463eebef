//! All or nothing: whatever happens to the program, the connection, the server or the archive, the target
//! has everything afterwards or is as it was.
//!
//! With `PGMIG_TEST_THOROUGH=1` the loops try many more places.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::Instant;

use pgmig_core::archive::Archive;
use pgmig_tests::awkward::{MAPPING, OldRows, Source, Store, Target};
use pgmig_tests::pgmig::{Job, Run};
use pgmig_tests::{Compression, CutProxy, DumpOptions, Fingerprint, PgTools, Server, ServerOptions, wait_until};

static SOURCE: LazyLock<Source> = LazyLock::new(|| Source::dump(15, Store::Utf8, &DumpOptions::piped()));
static EXPECTED: LazyLock<Fingerprint> = LazyLock::new(|| SOURCE.expected(Store::Utf8, &MAPPING));

/// What the program prints before each step that talks to the target, the commit last.
const STEPS: [&str; 12] = [
    "connect to database",
    "read every row",
    "lock the tables",
    "compare the target with the plan",
    "set constraints and triggers aside",
    "erase the target's tenant data",
    "load the rows, IDs replaced",
    "set the sequences",
    "put constraints and triggers back",
    "refresh the materialized views",
    "verify the result",
    "commit",
];

/// The one of [`STEPS`] that a line of standard error announces.
fn step_of(line: &str) -> Option<&'static str> {
    let text = line.strip_prefix("==> ").filter(|text| !text.starts_with("committed"))?;
    STEPS.into_iter().find(|step| text.starts_with(step))
}

/// How many places a loop tries.
fn places_in(everyday: u64, thorough: u64) -> u64 {
    if pgmig_tests::thorough() { thorough } else { everyday }
}

/// The type of the message that gives a statement back.
const CLOSE: u8 = b'C';

/// Where in the bytes that the program sends each step begins, and where COMMIT ends.
struct Course {
    steps: Vec<(&'static str, u64)>,
    commit_ends: u64,
}

static COURSE: LazyLock<Course> = LazyLock::new(|| {
    let target = Target::on(15, Store::Utf8, OldRows::Some);
    let proxy = CutProxy::start(target.server.port());
    let job = Job::via(&SOURCE.archive, &target, proxy.port());
    let log = tempfile::NamedTempFile::new().expect("a temporary file");
    proxy.watch(log.path());
    let status = job.command().stderr(log.reopen().expect("it is there")).status().expect("the program starts");
    assert!(status.success());
    proxy.wait_for_the_end();

    // A step is printed before its first bytes are sent.
    let (pieces, text) = (proxy.watched(), fs::read_to_string(log.path()).expect("the program writes UTF-8"));
    let mut steps = Vec::new();
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        if let Some(step) = step_of(line) {
            let first = pieces.iter().position(|piece| piece.file_length > offset);
            let mut first = first.expect("bytes are sent in each step");
            // Statements are given back without waiting for an answer, before or after the next step is printed.
            while first > 0 && pieces[first - 1].first_byte == CLOSE {
                first -= 1;
            }
            steps.push((step, pieces[first].sent_before));
        }
        offset += line.len() as u64;
    }
    assert_eq!(steps.iter().map(|(step, _)| *step).collect::<Vec<_>>(), STEPS);
    // the last message says goodbye
    Course { steps, commit_ends: proxy.bytes_from_clients() - "X\0\0\0\x04".len() as u64 }
});

impl Course {
    /// Places at which something breaks, all before the commit: so many in each step, the last byte of each
    /// among them, and more while rows are loaded.
    fn places(&self, in_each: u64) -> Vec<(&'static str, u64)> {
        let ends = self.steps.iter().skip(1).map(|&(_, begin)| begin);
        let mut places = Vec::new();
        for (&(step, begin), end) in self.steps.iter().zip(ends) {
            assert!(end > begin, "no byte is sent to {step}");
            let count = if step.starts_with("load") { 4 * in_each } else { in_each };
            places.extend((1..=count).map(|number| (step, begin + (end - begin - 1) * number / count)));
        }
        places
    }
}

/// A run of the program whose last bytes do not arrive.
struct Stalled {
    child: Child,
}

impl Stalled {
    /// Starts the program and waits until the network stalls.
    fn start(job: &Job, proxy: &CutProxy) -> Self {
        let mut child = job.command().spawn().expect("the program starts");
        wait_until("the network stalls", || {
            assert!(child.try_wait().expect("it can be waited for").is_none(), "the program ended before the stall");
            proxy.is_stalled()
        });
        Self { child }
    }

    /// Kills it, and returns the last of [`STEPS`] that it printed.
    fn kill(mut self) -> &'static str {
        self.child.kill().expect("it can be killed");
        let run = Run::from(self.child.wait_with_output().expect("it ends"));
        assert_eq!(run.status.code(), None, "{run}");
        let last = run.stderr.lines().filter_map(step_of).next_back();
        last.unwrap_or_else(|| panic!("no step was printed: {run}"))
    }
}

#[test]
fn a_kill_in_any_step_leaves_the_target_as_it_was() {
    let target = Target::on(15, Store::Utf8, OldRows::Some);
    for (step, bytes) in COURSE.places(places_in(1, 12)) {
        let proxy = CutProxy::start(target.server.port());
        proxy.stall_after(bytes);
        let job = Job::via(&SOURCE.archive, &target, proxy.port());
        let stalled = Stalled::start(&job, &proxy);
        let printed = stalled.kill();
        // Not each is printed yet when its first bytes arrive, see above.
        let number = |wanted| STEPS.iter().position(|step| *step == wanted).expect("it is a step");
        assert!(number(printed).abs_diff(number(step)) <= 1, "at byte {bytes}, of `{step}`: it is at `{printed}`");
        // the kernel closes the sockets of a killed process
        proxy.cut();
        target.assert_unchanged();
    }
    // Nothing is left locked, or lying about.
    let job = Job::new(&SOURCE.archive, &target);
    let _ = job.run(&[]).done();
    target.assert_restored(&EXPECTED);
}

#[test]
fn a_kill_at_any_moment_leaves_all_or_nothing() {
    let fresh = || Target::on(15, Store::Utf8, OldRows::Some);
    // How long a whole restore takes on this machine, now.
    let mut target = fresh();
    let began = Instant::now();
    let _ = Job::new(&SOURCE.archive, &target).run(&[]).done();
    let whole = began.elapsed();
    target = fresh();
    let (mut done, mut undone) = (0, 0);
    let count = u32::try_from(places_in(12, 150)).expect("a small count");
    for number in 0..=count {
        let job = Job::new(&SOURCE.archive, &target);
        let mut child = job.command().spawn().expect("the program starts");
        // The first is killed at once, and the last is let to its end: both outcomes are seen however fast the machine is.
        if number == count {
            let _ = Run::from(child.wait_with_output().expect("it ends")).done();
        } else {
            thread::sleep(whole * number / (count - 1));
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
        }
        if target.before.differences(&target.now()).is_empty() {
            undone += 1;
        } else {
            target.assert_restored(&EXPECTED);
            done += 1;
            target = fresh();
        }
        // A run that comes at once is not kept out by what the killed one has left.
        if number % 4 == 3 {
            let _ = Job::new(&SOURCE.archive, &target).run(&["--dry-run"]).done();
        }
    }
    assert!(done > 0 && undone > 0, "{done} of {count} were done");
}

#[test]
#[ignore = "takes long: `make test` runs it"]
fn a_connection_cut_at_any_byte_leaves_the_target_as_it_was() {
    let target = Target::on(15, Store::Utf8, OldRows::Some);
    for (step, bytes) in COURSE.places(places_in(1, 24)) {
        let proxy = CutProxy::start(target.server.port());
        proxy.cut_after(bytes.max(1));
        let run = Job::via(&SOURCE.archive, &target, proxy.port()).run(&[]);
        assert_eq!(run.status.code(), Some(1), "{step}, byte {bytes}: {run}");
        let _ = run.failed(&["server"]);
        target.assert_unchanged();
    }
    let _ = Job::new(&SOURCE.archive, &target).run(&[]).done();
    target.assert_restored(&EXPECTED);
}

#[test]
fn a_connection_lost_while_committing_is_asked_about() {
    // The server gets the commit, its answer does not come back, and then the network is there again.
    let target = Target::on(15, Store::Utf8, OldRows::Some);
    let proxy = CutProxy::start(target.server.port());
    proxy.cut_after(COURSE.commit_ends);
    let job = Job::via(&SOURCE.archive, &target, proxy.port());
    let child = job.command().spawn().expect("the program starts");
    wait_until("the connection is cut", || proxy.is_cut());
    proxy.heal();
    let _ = Run::from(child.wait_with_output().expect("it ends")).done();
    target.assert_restored(&EXPECTED);

    // The commit does not reach the server: it was not done, and the program says so.
    let target = Target::on(15, Store::Utf8, OldRows::Some);
    let proxy = CutProxy::start(target.server.port());
    proxy.cut_after(COURSE.commit_ends - 1);
    let job = Job::via(&SOURCE.archive, &target, proxy.port());
    let child = job.command().spawn().expect("the program starts");
    wait_until("the connection is cut", || proxy.is_cut());
    proxy.heal();
    let _ = Run::from(child.wait_with_output().expect("it ends")).failed(&["the target is as it was before"]);
    target.assert_unchanged();
}

#[test]
fn a_server_that_cannot_be_asked_about_the_commit_leaves_it_open() {
    let target = Target::on(15, Store::Utf8, OldRows::Some);
    let proxy = CutProxy::start(target.server.port());
    proxy.cut_after(COURSE.commit_ends);
    let run = Job::via(&SOURCE.archive, &target, proxy.port()).run(&[]);
    let _ = run.failed(&["whether the restore was committed is not known", "look at the target"]);
    target.assert_restored(&EXPECTED);
}

#[test]
fn a_server_that_crashes_leaves_the_target_as_it_was() {
    let server: &'static Server = Box::leak(Box::new(Server::start(&PgTools::major(15))));
    let target = Target::in_server(server, Store::Utf8, OldRows::Some);
    // durability is off for the sake of speed; what is there now has to survive
    server.psql("postgres", "checkpoint");
    for wanted in ["load the rows", "put constraints", "verify"] {
        let &(step, begin) = COURSE.steps.iter().find(|(step, _)| step.starts_with(wanted)).expect("it is a step");
        let proxy = CutProxy::start(server.port());
        proxy.stall_after(begin + 40);
        let job = Job::via(&SOURCE.archive, &target, proxy.port());
        let stalled = Stalled::start(&job, &proxy);
        server.crash();
        proxy.cut();
        let _ = Run::from(stalled.child.wait_with_output().expect("it ends")).failed(&[step, "that the server runs"]);
        server.restart();
        target.assert_unchanged();
    }
    let _ = Job::new(&SOURCE.archive, &target).run(&[]).done();
    target.assert_restored(&EXPECTED);
}

#[test]
fn a_full_disk_leaves_the_target_as_it_was() {
    // Rows without a log: it is the table that finds the disk full. The log would take the server down.
    let config = ["wal_level = minimal", "max_wal_senders = 0"].map(str::to_owned).to_vec();
    let options = ServerOptions { disk_bytes: Some(192 << 20), config, ..Default::default() };
    let server: &'static Server = Box::leak(Box::new(Server::start_with(&PgTools::major(15), &options)));
    let target = Target::in_server(server, Store::Utf8, OldRows::Some);
    // 30 MB that do not compress
    let large = format!(
        "insert into tricky_text select 100000 + n, '{}', (select string_agg(md5(format('%s %s', n, m)), '') from generate_series(1, 10000) m)
         from generate_series(1, 100) n",
        MAPPING[0].0
    );
    let source = Source::dump_after(&large, &DumpOptions::piped());
    server.psql("postgres", "checkpoint");
    server.fill_disk(14 << 20);
    let job = Job::new(&source.archive, &target);
    let run = job.run(&[]).failed(&["load rows into public.tricky_text"]);
    // Where no disk can be mounted a limit on the size of files takes its place, which the server words in another way.
    if run.stderr.contains("No space left on device") {
        let _ = run.says(&["make room on the server's disk"]);
    }
    server.free_disk();
    server.restart();
    target.assert_unchanged();
    let _ = job.run(&[]).done();
    assert_eq!(target.psql("select count(*) from tricky_text where id > 100000"), "100");
}

/// A copy of an archive, changed.
fn damaged(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("there is room");
    file
}

fn verify(bytes: &[u8]) -> Run {
    let job = Job::without_target();
    let mut child = job.bare().args(["verify", "-"]).stdin(Stdio::piped()).spawn().expect("the program starts");
    // it may have seen enough before the end
    child.stdin.take().expect("it is piped").write_all(bytes).ok();
    child.wait_with_output().expect("it ends").into()
}

/// Offsets all over a range, with its ends.
fn spread(begin: usize, end: usize, count: u64) -> impl Iterator<Item = usize> {
    let count = usize::try_from(count).expect("a small count");
    (0..count).map(move |number| begin + (end - 1 - begin) * number / (count - 1))
}

#[test]
fn an_archive_cut_anywhere_is_never_taken_for_a_whole_one() {
    let target = Target::on(15, Store::Utf8, OldRows::Some);
    for (method, piped) in [(Compression::None, false), (Compression::Gzip, true)] {
        let how = if piped { DumpOptions::piped() } else { DumpOptions::seekable() };
        let source = Source::dump(15, Store::Utf8, &how.compress(method));
        let bytes = fs::read(&source.archive).expect("the dump was written");
        assert_eq!(verify(&bytes).status.code(), Some(0));
        for length in spread(0, bytes.len(), places_in(40, 2000)) {
            let run = verify(&bytes[..length]);
            assert_eq!(run.status.code(), Some(1), "{method:?} cut at {length}: {run}");
            let _ = run.failed(&[if length == 0 { "the input is empty" } else { "not complete" }]);
        }
        for length in spread(0, bytes.len(), places_in(8, 300)) {
            let run = Job::new(damaged(&bytes[..length]).path(), &target).run(&[]);
            assert_eq!(run.status.code(), Some(1), "{method:?} cut at {length}: {run}");
            let _ = run.failed(&["archive"]);
        }
        target.assert_unchanged();
    }
}

#[test]
fn a_flipped_byte_in_compressed_data_is_found_before_anything_changes() {
    let target = Target::on(15, Store::Utf8, OldRows::Some);
    let source = Source::dump(15, Store::Utf8, &DumpOptions::seekable().compress(Compression::Gzip));
    let bytes = fs::read(&source.archive).expect("the dump was written");
    let mut archive = Archive::open(&source.archive, |_| {}).expect("a good archive");
    let data_begins = usize::try_from(archive.reader().position()).expect("a small archive");
    let flipped = |offset: usize| {
        let mut bytes = bytes.clone();
        bytes[offset] ^= 0x55;
        bytes
    };
    for offset in spread(data_begins, bytes.len(), places_in(40, 2000)) {
        let run = verify(&flipped(offset));
        assert_eq!(run.status.code(), Some(1), "flipped at {offset}: {run}");
        let _ = run.failed(&["not complete"]);
    }
    for offset in spread(data_begins, bytes.len(), places_in(8, 300)) {
        let run = Job::new(damaged(&flipped(offset)).path(), &target).run(&[]);
        assert_eq!(run.status.code(), Some(1), "flipped at {offset}: {run}");
        let _ = run.failed(&["archive"]);
    }
    // Names and statements have no checksum. Whatever comes of such a byte, it is no panic.
    for offset in spread(0, data_begins, places_in(40, 2000)) {
        let run = verify(&flipped(offset));
        assert!(
            matches!(run.status.code(), Some(0 | 1)) && !run.stderr.contains("panicked"),
            "flipped at {offset}: {run}"
        );
        let run = Run::of(Job::without_target().bare().arg("inspect").arg(damaged(&flipped(offset)).path()));
        assert!(
            matches!(run.status.code(), Some(0 | 1)) && !run.stderr.contains("panicked"),
            "flipped at {offset}: {run}"
        );
    }
    target.assert_unchanged();
}

#[test]
fn an_interrupted_restore_ends_with_130_and_leaves_the_target_as_it_was() {
    let target = Target::on(15, Store::Utf8, OldRows::Some);
    for (signal, wanted) in [("TERM", "load the rows"), ("INT", "put constraints"), ("TERM", "lock")] {
        let begin = COURSE.steps.iter().find(|(step, _)| step.starts_with(wanted)).expect("it is a step").1;
        let proxy = CutProxy::start(target.server.port());
        proxy.stall_after(begin + 20);
        let job = Job::via(&SOURCE.archive, &target, proxy.port());
        let stalled = Stalled::start(&job, &proxy);
        send(signal, &stalled.child);
        let run = Run::from(stalled.child.wait_with_output().expect("it ends"));
        assert_eq!(run.status.code(), Some(130), "{run}");
        let _ = run.says(&["interrupted", "the target is as it was before"]);
        proxy.cut();
        target.assert_unchanged();
    }
}

#[test]
fn an_interrupt_during_the_commit_waits_for_what_becomes_of_it() {
    // The server commits and then waits for a standby that does not exist before it answers.
    let options =
        ServerOptions { config: vec!["synchronous_standby_names = 'nobody'".to_owned()], ..Default::default() };
    let server: &'static Server = Box::leak(Box::new(Server::start_with(&PgTools::major(15), &options)));
    let target = Target::in_server(server, Store::Utf8, OldRows::Some);
    server.psql("postgres", &format!("alter database \"{}\" set synchronous_commit = on", target.database));
    let job = Job::new(&SOURCE.archive, &target);
    let mut child = job.command().spawn().expect("the program starts");
    let waiting = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
    wait_until("the commit waits", || server.psql("postgres", waiting) == "1");
    send("TERM", &child);
    let mut errors = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut said = String::new();
    while !said.contains("being committed") {
        assert!(errors.read_line(&mut said).expect("the program writes UTF-8") > 0, "it does not wait: {said}");
    }
    server.psql("postgres", "alter system set synchronous_standby_names = ''");
    server.psql("postgres", "select pg_reload_conf()");
    errors.read_to_string(&mut said).expect("the program writes UTF-8");
    let output = child.wait_with_output().expect("it ends");
    let _ = Run::from(Output { stderr: said.into_bytes(), ..output }).done().says(&["==> committed"]);
    target.assert_restored(&EXPECTED);
}

fn send(signal: &str, child: &Child) {
    let status = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().expect("kill runs");
    assert!(status.success());
}

#[test]
fn a_target_that_changes_after_the_plan_is_left_alone() {
    let target = Target::on(15, Store::Utf8, OldRows::Some);
    let begin = COURSE.steps.iter().find(|(step, _)| step.starts_with("lock")).expect("it is a step").1;
    let proxy = CutProxy::start(target.server.port());
    proxy.stall_after(begin);
    let job = Job::via(&SOURCE.archive, &target, proxy.port());
    let stalled = Stalled::start(&job, &proxy);
    let target =
        target.after("delete from webhook; insert into webhook values (1, '00000000-0000-0000-1800-000000000001')");
    proxy.heal();
    let _ = Run::from(stalled.child.wait_with_output().expect("it ends")).failed(&[
        "changed since the plan was made",
        "public.webhook had 0 rows and has 1 now",
        "run the same command again",
    ]);
    target.assert_unchanged();
}

#[test]
#[ignore = "takes long: `make test` runs it"]
fn a_store_that_is_in_use_is_not_waited_for_for_ever() {
    let target = Target::on(15, Store::Utf8, OldRows::Some);
    let mut session = target.server.client(target.server.tools(), "psql", &target.database);
    let sql = "begin; select count(*) from workspace; \\echo ready\n select pg_sleep(600);";
    let mut session = session
        .args(["-XAtq"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("psql starts");
    session.stdin.as_mut().expect("it is piped").write_all(sql.as_bytes()).expect("psql reads");
    let lines = BufReader::new(session.stdout.take().expect("it is piped")).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "ready"));
    let _ = Job::new(&SOURCE.archive, &target).run(&[]).failed(&["lock the tables", "scale the store deployment down"]);
    target.server.psql(
        "postgres",
        &format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{}'", target.database),
    );
    session.wait().expect("psql ends");
    target.assert_unchanged();
}

#[test]
#[ignore = "takes long: `make test` runs it"]
fn two_restores_into_one_database_exclude_each_other() {
    let target = Target::on(15, Store::Utf8, OldRows::Some);
    let begin = COURSE.steps.iter().find(|(step, _)| step.starts_with("compare")).expect("it is a step").1;
    let proxy = CutProxy::start(target.server.port());
    proxy.stall_after(begin + 10);
    let job = Job::via(&SOURCE.archive, &target, proxy.port());
    let stalled = Stalled::start(&job, &proxy);
    // "another pgmig" holds the lock of runs, or "any other pgmig" may hold those of the tables that the plan looks at.
    let _ = Job::new(&SOURCE.archive, &target).run(&[]).failed(&["other pgmig"]);
    proxy.heal();
    let _ = Run::from(stalled.child.wait_with_output().expect("it ends")).done();
    target.assert_restored(&EXPECTED);
}
