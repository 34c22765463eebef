//! `pgmig repair`: what is kept, what is told, and what stock `pg_restore` makes of it.

use std::fs;
use std::process::Command;
use std::sync::LazyLock;

use pgmig_tests::awkward::{self, Store};
use pgmig_tests::pgmig::{Job, Run};
use pgmig_tests::{DumpOptions, Restored, Server};

/// An archive that was written to a pipe.
static ARCHIVE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let server = Server::shared(17);
    let database = awkward::source_database(17, Store::Utf8);
    fs::read(server.tools().dump(server, &database, &DumpOptions::piped())).unwrap()
});

fn repair(job: &Job, source: &str, args: &[&str]) -> Run {
    Run::of(job.bare().args(["repair", "--source", source]).args(args))
}

#[test]
fn positions_are_added_in_place_for_a_parallel_restore() {
    let job = Job::without_target();
    fs::write(job.file("piped.dump"), &*ARCHIVE).unwrap();
    let before = Restored::new(17, "UTF8", &job.file("piped.dump")).now();
    let _ = repair(&job, "piped.dump", &["--in-place"]).done().says(&["the archive is whole"]);
    before.assert_same(&Restored::with(17, "UTF8", &job.file("piped.dump"), &["-j2"]).now());
    let _ = repair(&job, "piped.dump", &["--in-place"]).done().says(&["; 0 of "]);
    fs::write(job.file("cut.dump"), &ARCHIVE[..ARCHIVE.len() - 5]).unwrap();
    let _ = repair(&job, "cut.dump", &["--in-place"]).failed(&["is cut short", "with --output"]);
    assert_eq!(fs::read(job.file("cut.dump")).unwrap(), ARCHIVE[..ARCHIVE.len() - 5]);
    let _ = repair(&job, "none.dump", &["--in-place"]).failed(&["none.dump"]);
}

#[test]
fn an_archive_within_a_log_is_taken_out_of_it() {
    let job = Job::without_target();
    let log = [b"Defaulted container \"postgres\"\n", &ARCHIVE[..], b"\njob done\n"].concat();
    fs::write(job.file("job.log"), log).unwrap();
    let run = repair(&job, "job.log", &["--output", "store.dump"]).done();
    let _ = run.says(&["begins at byte 31", "10 bytes behind the archive", "wrote store.dump"]);
    fs::write(job.file("piped.dump"), &*ARCHIVE).unwrap();
    let expected = Restored::new(17, "UTF8", &job.file("piped.dump")).now();
    expected.assert_same(&Restored::with(17, "UTF8", &job.file("store.dump"), &["-j2"]).now());
}

#[test]
fn what_is_lost_is_told_and_has_to_be_accepted() {
    let job = Job::without_target();
    let reader = dumpfmt::ArchiveReader::new(&ARCHIVE[..]).unwrap();
    let contents = usize::try_from(reader.position()).unwrap();
    let cut = contents + (ARCHIVE.len() - contents) / 2;
    fs::write(job.file("cut.dump"), &ARCHIVE[..cut]).unwrap();
    let told = ["lost: TABLE DATA public.", "is not whole", "--accept-loss"];
    let _ = repair(&job, "cut.dump", &["--output", "rest.dump"]).failed(&told);
    assert!(!job.file("rest.dump").exists());
    let report = repair(&job, "cut.dump", &["--output", "rest.dump", "--report", "-"]).failed(&told).json();
    assert_eq!(report["whole"], false);
    assert!(!report["lost"].as_array().unwrap().is_empty());
    let run = repair(&job, "cut.dump", &["--output", "rest.dump", "--accept-loss", "--report", "report.json"]).done();
    let _ = run.says(&["lost: TABLE DATA public.", "wrote rest.dump", "kept "]);
    let written: serde_json::Value = serde_json::from_slice(&fs::read(job.file("report.json")).unwrap()).unwrap();
    assert_eq!(written, report);
    let _ = Run::of(job.bare().args(["verify", "rest.dump"])).done();

    let _ = repair(&job, "cut.dump", &["--output", "rest.dump"]).failed(&["--accept-loss"]);
    let _ = repair(&job, "/etc/passwd", &["--output", "no.dump"]).failed(&["/etc/passwd"]);
    fs::write(job.file("header.dump"), &ARCHIVE[..200]).unwrap();
    let _ = repair(&job, "header.dump", &["--output", "no.dump"]).failed(&["is cut short"]);
    for args in [&["--in-place", "--output", "x"][..], &[], &["--output", "x", "--partial-rows"]] {
        let run = repair(&job, "cut.dump", args);
        assert_eq!(run.status.code(), Some(2), "{run}");
    }
    assert_eq!(repair(&job, "-", &["--output", "x"]).status.code(), Some(2));
    let left = Command::new("ls").arg("-A").arg(job.file("")).output().unwrap();
    let left = String::from_utf8(left.stdout).unwrap();
    assert_eq!(left, "cut.dump\nheader.dump\nreport.json\nrest.dump\n");
}
