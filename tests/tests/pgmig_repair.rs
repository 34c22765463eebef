//! `pgmig repair`: what is kept, what is told, and what stock `pg_restore` makes of it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use dumpfmt::{ArchiveReader, VerifiedEntry};
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
    let _ = repair(&job, "none.dump", &["--in-place"]).failed(&["none.dump", "check the path"]);
    let _ = repair(&job, ".", &["--in-place"]).failed(&["is a folder", "in the custom format"]);
}

#[test]
fn an_archive_within_a_log_is_taken_out_of_it() {
    let job = Job::without_target();
    let log = [b"Defaulted container \"postgres\"\n", &ARCHIVE[..], b"\njob done\n"].concat();
    fs::write(job.file("job.log"), log).unwrap();
    let _ = Run::of(job.bare().args(["verify", "job.log"])).failed(&["kubectl exec", "`pgmig repair`"]);
    let run = repair(&job, "job.log", &["--output", "store.dump"]).done();
    let _ = run.says(&["begins at byte 31", "10 bytes behind the archive", "wrote store.dump"]);
    fs::write(job.file("piped.dump"), &*ARCHIVE).unwrap();
    let expected = Restored::new(17, "UTF8", &job.file("piped.dump")).now();
    expected.assert_same(&Restored::with(17, "UTF8", &job.file("store.dump"), &["-j2"]).now());
}

#[test]
fn a_report_replaces_nothing_but_a_report() {
    let job = Job::without_target();
    fs::write(job.file("piped.dump"), &*ARCHIVE).unwrap();
    let run = repair(&job, "piped.dump", &["--output", "new.dump", "--report", "piped.dump"]);
    let _ = run.failed(&["`piped.dump` exists and is no report", "--report"]);
    let run = repair(&job, "piped.dump", &["--output", "new.dump", "--report", "./new.dump"]);
    let _ = run.failed(&["cannot take both"]);
    for command in ["convert", "remap"] {
        let mut command = vec![command, "--source", "piped.dump", "--output", "new.dump", "--report", "piped.dump"];
        if command[0] == "remap" {
            command.extend(["--mapping", "mapping.yaml"]);
            awkward::write_mapping(&job.file("mapping.yaml"), &awkward::MAPPING);
        }
        let _ = Run::of(job.bare().args(command)).failed(&["`piped.dump` exists and is no report"]);
    }
    assert!(fs::read(job.file("piped.dump")).unwrap() == *ARCHIVE && !job.file("new.dump").exists());
    for _ in 0..2 {
        let args = ["--output", "new.dump", "--force", "--report", "report.json"];
        let _ = repair(&job, "piped.dump", &args).done();
    }
}

#[test]
fn of_a_job_that_was_tried_again_the_second_archive_can_be_had() {
    let job = Job::without_target();
    let contents = usize::try_from(ArchiveReader::new(&ARCHIVE[..]).unwrap().position()).unwrap();
    let cut = contents + (ARCHIVE.len() - contents) / 2;
    let log = [&ARCHIVE[..cut], b"\ncommand terminated with exit code 137\n", &ARCHIVE[..]].concat();
    fs::write(job.file("job.log"), &log).unwrap();
    let from = (log.len() - ARCHIVE.len()).to_string();
    let told = [&*format!("another archive begins at byte {from}"), &format!("--from {from}"), "is not whole"];
    let report = repair(&job, "job.log", &["--output", "store.dump", "--report", "-"]).failed(&told).json();
    assert_eq!(report["next_archive"].to_string(), from);
    let _ = repair(&job, "job.log", &["--output", "store.dump", "--from", &from]).done();
    fs::write(job.file("piped.dump"), &*ARCHIVE).unwrap();
    let _ = repair(&job, "piped.dump", &["--output", "expected.dump"]).done();
    assert!(fs::read(job.file("store.dump")).unwrap() == fs::read(job.file("expected.dump")).unwrap());
}

#[test]
fn what_is_lost_is_told_and_has_to_be_accepted() {
    let job = Job::without_target();
    let reader = dumpfmt::ArchiveReader::new(&ARCHIVE[..]).unwrap();
    let contents = usize::try_from(reader.position()).unwrap();
    let cut = contents + (ARCHIVE.len() - contents) / 2;
    fs::write(job.file("cut.dump"), &ARCHIVE[..cut]).unwrap();
    let told =
        ["lost: TABLE DATA public.", "lost: the content of ", " large objects: ", "is not whole", "--accept-loss"];
    let _ = repair(&job, "cut.dump", &["--output", "rest.dump"]).failed(&told);
    assert!(!job.file("rest.dump").exists());
    let report = repair(&job, "cut.dump", &["--output", "rest.dump", "--report", "-"]).failed(&told).json();
    assert_eq!(report["whole"], false);
    let lost = report["lost"].as_array().unwrap();
    assert!(lost.iter().all(|lost| lost["dump_id"].is_i64() && lost["why"].as_str().unwrap().contains("at byte")));
    assert!(lost.iter().any(|lost| lost["entry"].as_str().unwrap().starts_with("TABLE DATA public.")));
    let objects = report["lost_large_objects"].as_array().unwrap();
    assert!(objects.len() > 1 && objects.iter().all(serde_json::Value::is_u64), "{report}");
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

#[test]
fn a_reader_of_the_report_that_is_gone_hides_no_loss() {
    let job = Job::without_target();
    fs::write(job.file("whole.dump"), &*ARCHIVE).unwrap();
    fs::write(job.file("cut.dump"), &ARCHIVE[..ARCHIVE.len() - 100]).unwrap();
    let to_nobody = |source: &str, output: &str| {
        let mut command = job.bare();
        command.args(["repair", "--source", source, "--output", output, "--report", "-"]);
        let without_reader = std::io::pipe().unwrap().1;
        Run::of(command.stdout(without_reader))
    };
    let _ = to_nobody("cut.dump", "no.dump").failed(&["is not whole", "--accept-loss"]);
    assert!(!job.file("no.dump").exists());
    let _ = to_nobody("whole.dump", "new.dump").done();
    let _ = Run::of(job.bare().args(["verify", "new.dump"])).done();
}

#[test]
fn what_is_read_only_once_is_no_source_of_a_repair() {
    let job = Job::without_target();
    assert!(Command::new("mkfifo").arg(job.file("fifo")).status().unwrap().success());
    for args in [&["--output", "new.dump"][..], &["--in-place"]] {
        let run = repair(&job, "fifo", args).says(&["has to be in a file to be repaired"]);
        assert_eq!(run.status.code(), Some(2), "{run}");
        let run = Run::of(job.bare().args(["repair", "--source", "/dev/fd/0"]).args(args).stdin(Stdio::piped()));
        assert_eq!(run.status.code(), Some(2), "{run}");
    }
}

#[test]
fn what_a_terminal_did_to_an_archive_is_undone_when_asked_for() {
    let job = Job::without_target();
    fs::write(job.file("piped.dump"), &*ARCHIVE).unwrap();
    let _ = repair(&job, "piped.dump", &["--output", "expected.dump"]).done();
    let expected = fs::read(job.file("expected.dump")).unwrap();
    let mut terminal = Vec::new();
    for &byte in &*ARCHIVE {
        terminal.extend_from_slice(if byte == b'\n' { b"\r\n" } else { std::slice::from_ref(&byte) });
    }
    fs::write(job.file("terminal.dump"), &terminal).unwrap();
    let run = repair(&job, "terminal.dump", &["--output", "new.dump"]);
    let _ = run.failed(&["has a carriage return before it", "with --undo-crlf"]);
    let run = repair(&job, "terminal.dump", &["--output", "new.dump", "--undo-crlf", "--report", "report.json"]).done();
    let _ = run.says(&["took out ", "wrote new.dump"]);
    assert!(fs::read(job.file("new.dump")).unwrap() == expected);
    let report: serde_json::Value = serde_json::from_slice(&fs::read(job.file("report.json")).unwrap()).unwrap();
    assert_eq!(report["carriage_returns"].as_u64().unwrap(), (terminal.len() - ARCHIVE.len()) as u64);
    assert_eq!(report["whole"], true);

    // What has been undone at one place already is suspicious, though right here.
    let place = terminal.windows(2).position(|two| two == b"\r\n").unwrap();
    terminal.remove(place);
    fs::write(job.file("terminal.dump"), &terminal).unwrap();
    let run = repair(&job, "terminal.dump", &["--output", "new.dump", "--undo-crlf", "--force"]).done();
    let _ = run.says(&["1 line feed had none before"]);
    // And with a carriage return of the data lost, nothing of that data is taken for whole.
    let place = terminal.windows(2).rposition(|two| two == b"\r\n").unwrap();
    terminal.remove(place + 1);
    fs::write(job.file("terminal.dump"), &terminal).unwrap();
    let run = repair(&job, "terminal.dump", &["--output", "other.dump", "--undo-crlf"]);
    let _ = run.failed(&["is not whole"]);
    assert!(!job.file("other.dump").exists());
}

#[test]
fn a_tar_that_is_cut_keeps_what_came_before() {
    let server = Server::shared(17);
    let database = awkward::source_database(17, Store::Utf8);
    let tar = fs::read(server.tools().dump(server, &database, &DumpOptions::piped().tar())).unwrap();
    let job = Job::without_target();
    fs::write(job.file("whole.tar"), &tar).unwrap();
    let source = verified(&job.file("whole.tar"));
    let restored = Restored::new(17, "UTF8", &job.file("whole.tar")).now();
    let _ = repair(&job, "whole.tar", &["--output", "whole.dump"]).done();
    restored.assert_same(&Restored::with(17, "UTF8", &job.file("whole.dump"), &["-j2"]).now());

    let data_start = usize::try_from(ArchiveReader::open(job.file("whole.tar")).unwrap().position()).unwrap();
    let mut kept = Vec::new();
    for cut in [data_start + 700, data_start + (tar.len() - data_start) / 3, tar.len() * 3 / 4, tar.len() - 3000] {
        fs::write(job.file("cut.tar"), &tar[..cut]).unwrap();
        let told = ["not read to its end", "cut short", "is not whole", "--accept-loss"];
        let report = repair(&job, "cut.tar", &["--output", "rest.dump", "--report", "-"]).failed(&told).json();
        assert!(!job.file("rest.dump").exists());
        for format in ["custom", "directory"] {
            let new = format!("{cut}.{format}");
            let args = ["--output", &new, "--format", format, "--compress", "lz4", "--accept-loss"];
            let _ = repair(&job, "cut.tar", &args).done().says(&[&format!("wrote {new}")]);
            let found = verified(&job.file(&new));
            assert_eq!(found.len() as u64, report["entries"].as_u64().unwrap());
            for (dump_id, entry) in &found {
                let expected = &source[dump_id];
                assert!(entry == expected || entry.large_objects < expected.large_objects, "{cut}: {entry:?}");
            }
        }
        kept.push(report["entries"].as_u64().unwrap());
    }
    assert!(kept.is_sorted() && kept[0] == 0 && kept[1] > 0 && kept[1] < kept[3], "{kept:?}");
    // Only the script behind the data was lost.
    assert_eq!(kept[3], source.len() as u64);
    restored.assert_same(&Restored::new(17, "UTF8", &job.file(&format!("{}.custom", tar.len() - 3000))).now());

    fs::write(job.file("cut.tar"), &tar[..data_start - 600]).unwrap();
    let _ = repair(&job, "cut.tar", &["--output", "no.dump"]).failed(&["is cut short"]);
    fs::write(job.file("cut.tar"), &tar[..tar.len() - 3000]).unwrap();
    let run = repair(&job, "cut.tar", &["--output", "no.dump", "--accept-loss", "--partial-rows"]);
    let _ = run.failed(&["not of the tar format", "leave --partial-rows out"]);
}

#[test]
fn a_folder_that_lost_files_keeps_the_others() {
    let job = Job::without_target();
    fs::write(job.file("piped.dump"), &*ARCHIVE).unwrap();
    let convert = ["convert", "--source", "piped.dump", "--output", "folder", "--format", "directory"];
    let _ = Run::of(job.bare().args(convert)).done();
    let source = verified(&job.file("folder"));
    let _ = repair(&job, "folder", &["--output", "whole.dump"]).done();
    assert_eq!(verified(&job.file("whole.dump")), source);

    let mut by_size: Vec<_> = source.values().filter(|entry| entry.rows.is_some_and(|rows| rows > 3)).collect();
    by_size.sort_by_key(|entry| std::cmp::Reverse(entry.bytes));
    let [missing, cut, flipped] = [0, 1, 2].map(|place| by_size[place].dump_id);
    let file = |dump_id: i32| job.file(&format!("folder/{dump_id}.dat.gz"));
    fs::remove_file(file(missing)).unwrap();
    let bytes = fs::read(file(cut)).unwrap();
    fs::write(file(cut), &bytes[..bytes.len() - 10]).unwrap();
    let mut bytes = fs::read(file(flipped)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(file(flipped), bytes).unwrap();
    let mut objects: Vec<_> = fs::read_dir(job.file("folder"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("blob_"))
        .collect();
    objects.sort();
    fs::remove_file(objects.last().unwrap()).unwrap();

    let name = |dump_id: i32| format!("(dump ID {dump_id}): ");
    let told = ["is missing", "kept in part: BLOBS", &name(missing), &name(cut), &name(flipped), "is not whole"];
    let report = repair(&job, "folder", &["--output", "rest.dump", "--report", "-"]).failed(&told).json();
    assert_eq!(report["lost"].as_array().unwrap().len(), 4, "{report}");
    for format in ["custom", "directory"] {
        let args = ["--output", format, "--format", format, "--accept-loss"];
        let _ = repair(&job, "folder", &args).done();
        let found = verified(&job.file(format));
        assert_eq!(found.len(), source.len() - 3);
        assert!(![missing, cut, flipped].iter().any(|dump_id| found.contains_key(dump_id)));
        let different: Vec<_> = found.iter().filter(|(dump_id, entry)| source[*dump_id] != **entry).collect();
        assert!(different.len() == 1 && different[0].1.large_objects.is_some(), "{different:?}");
    }
    let _ = repair(&job, "folder", &["--output", "no.dump", "--undo-crlf"]).failed(&["not out of a folder"]);
    fs::remove_file(job.file("folder/toc.dat")).unwrap();
    let _ = repair(&job, "folder", &["--output", "no.dump"]).failed(&["folder without the file `toc.dat`"]);
    let run = repair(&job, "piped.dump", &["--output", "-", "--format", "directory"]);
    assert_eq!(run.status.code(), Some(2), "{run}");
}

/// What is in an archive, by dump ID.
fn verified(path: &Path) -> HashMap<i32, VerifiedEntry> {
    let entries = ArchiveReader::open(path).and_then(|mut archive| archive.verify(|_| {})).unwrap();
    entries.into_iter().map(|entry| (entry.dump_id, entry)).collect()
}
