//! Compares `backup mirror` with `rclone sync` at the same concurrency: whole processes on the same objects and the same store,
//! medians of alternating runs, printed as Markdown.
//!
//! `cargo build --release -p backup && cargo run --release -p pgmig-benches --bin mirror_run`
//!
//! The store keeps everything in memory: two large objects, which takes 6 GB. rclone brings nothing to the disk; `backup mirror` does.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use pgmig_benches::{Sample, Table, Usage, measure};
use pgmig_tests::s3::S3Server;

/// When the store has given back the room of what was removed.
const UNTIL_REMOVED: Duration = Duration::from_secs(30);

/// Compares `backup mirror` with `rclone sync`
#[derive(Debug, Parser)]
struct Options {
    /// How many small objects, of 1 to 8 KB
    #[arg(long, default_value_t = 10_000)]
    small: u32,
    /// The length of the large object in MiB; 0 leaves it out
    #[arg(long, default_value_t = 2048)]
    large_mib: u32,
    /// Runs of each program, of which the median is shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// How many objects are copied at the same time
    #[arg(long, default_value_t = 8)]
    concurrency: u16,
    /// The program to measure; without it, the one built beside this program
    #[arg(long, value_name = "FILE")]
    backup: Option<PathBuf>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let backup = match &options.backup {
        Some(backup) => backup.canonicalize().context("there is no such program")?,
        None => env::current_exe()?.with_file_name("backup"),
    };
    ensure!(backup.exists(), "there is no `{}`: run `cargo build --release -p backup` first", backup.display());
    if Command::new("rclone").arg("version").output().is_err() {
        eprintln!("mirror_run: left out, since there is no `rclone` to compare with; `apt-get install rclone` has one");
        return Ok(());
    }
    let bench = Bench { store: S3Server::shared(), backup, folder: tempfile::tempdir()?, options };
    let cores = std::thread::available_parallelism()?;
    let Options { runs, concurrency, small, large_mib, .. } = bench.options;
    println!("{cores} cores, {concurrency} objects at the same time, medians of {runs} runs.\n");
    let source = bench.folder.path().join("source");
    for (title, name, objects) in
        [(format!("{small} objects"), "small", small), (format!("one object of {large_mib} MiB"), "large", 1)]
    {
        if (name == "large" && large_mib == 0) || objects == 0 {
            continue;
        }
        fs::create_dir(&source)?;
        for n in 0..objects {
            let path = source.join(format!("folder-{}/object-{n}", n % 100));
            fs::create_dir_all(path.parent().context("it has one")?)?;
            let bytes = if name == "large" { u64::from(large_mib) << 20 } else { 1000 + u64::from(n) * 7919 % 7000 };
            write(&path, bytes, n.into())?;
        }
        bench.compare(&title, name)?;
        fs::remove_dir_all(&source)?;
    }
    Ok(())
}

struct Bench {
    store: &'static S3Server,
    backup: PathBuf,
    folder: tempfile::TempDir,
    options: Options,
}

impl Bench {
    fn compare(&self, title: &str, name: &str) -> Result<()> {
        let samples = || vec![Sample::new("`rclone sync`"), Sample::new("`backup mirror`")];
        let table = |way| Table { title: format!("{title}, {way}"), samples: samples(), ..Table::default() };
        let (mut up, mut down) = (table("to a bucket"), table("to a folder"));
        for run in 0..self.options.runs {
            eprintln!("mirror_run: {title}, run {}", run + 1);
            let bucket = |program: usize| format!("bench-{name}-{program}-{run}-{}", std::process::id());
            for program in 0..2 {
                up.samples[program].add(self.mirror(program, "source", &bucket(program), true)?);
            }
            // Both from the same one, and by turns first.
            for program in [run % 2, 1 - run % 2] {
                let target = format!("target-{name}-{program}-{run}");
                down.samples[program as usize].add(self.mirror(program as usize, &bucket(0), &target, false)?);
                // ext4 looks long for room among many files that were just removed, at the cost of the next run.
                if name == "large" {
                    fs::remove_dir_all(self.folder.path().join(target))?;
                }
            }
            for program in 0..2 {
                measure(self.rclone().args(["purge", &format!("store:{}", bucket(program))]))?;
            }
            thread::sleep(UNTIL_REMOVED);
        }
        println!("{}\n{}", up.markdown(), down.markdown());
        Ok(())
    }

    fn mirror(&self, program: usize, from: &str, to: &str, is_upload: bool) -> Result<Usage> {
        let concurrency = self.options.concurrency.to_string();
        let bucket = if is_upload { to } else { from };
        if program == 0 {
            let side = |name: &str| if name == bucket { format!("store:{name}") } else { name.to_owned() };
            let mut command = self.rclone();
            command.args(["sync", &side(from), &side(to), "--transfers", &concurrency, "--checkers", &concurrency]);
            return measure(&mut command);
        }
        if !is_upload {
            fs::create_dir(self.folder.path().join(to))?;
        }
        fs::write(self.folder.path().join("backup.yaml"), self.configuration(bucket))?;
        let side = |name: &str| if name == bucket { "bucket".to_owned() } else { format!("./{name}") };
        let mut command = Command::new(&self.backup);
        command.args(["mirror", &side(from), &side(to), "--deleted", "remove", "--concurrency", &concurrency]);
        measure(command.current_dir(self.folder.path()))
    }

    fn rclone(&self) -> Command {
        let mut command = Command::new("rclone");
        // Its HTTP client cannot take one, and needs none here.
        command.current_dir(self.folder.path()).env("RCLONE_CONFIG", "/dev/null").env_remove("AWS_CA_BUNDLE");
        for (name, value) in [
            ("TYPE", "s3"),
            ("PROVIDER", "Ceph"),
            ("ENDPOINT", self.store.endpoint()),
            ("ACCESS_KEY_ID", self.store.access_key()),
            ("SECRET_ACCESS_KEY", self.store.secret_key()),
        ] {
            command.env(format!("RCLONE_CONFIG_STORE_{name}"), value);
        }
        command
    }

    fn configuration(&self, bucket: &str) -> String {
        let mut yaml = "destinations:\n  bucket: {type: s3, create-bucket: true, ".to_owned();
        for (key, value) in [
            ("endpoint", self.store.endpoint()),
            ("bucket", bucket),
            ("access-key", self.store.access_key()),
            ("secret-key", self.store.secret_key()),
        ] {
            write!(yaml, "{key}: \"{value}\", ").expect("text can be appended to");
        }
        yaml + "}\n"
    }
}

/// Writes a file of which no part is like another.
fn write(path: &Path, bytes: u64, seed: u64) -> Result<()> {
    use std::io::Write as _;
    let mut file = std::io::BufWriter::new(fs::File::create(path)?);
    let mut left = bytes;
    while left > 0 {
        let word = (left ^ seed << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        let length = left.min(8);
        file.write_all(&word[..usize::try_from(length)?])?;
        left -= length;
    }
    file.flush().context("the file cannot be written")
}
