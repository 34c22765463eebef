//! Compares dumpfmt with `pg_restore` and with other libraries on the same archives: whole
//! processes, medians of alternating runs, printed as Markdown.
//!
//! ```sh
//! cargo build --release --manifest-path benches/peers/Cargo.toml --target-dir target
//! cargo run --release -p pgmig-benches --bin archive
//! ```
//!
//! What a library does is a process of its own, `archive measure WORK FILE` for dumpfmt and `peers READER WORK
//! FILE` for others, so that its CPU time and peak memory are those of that work alone.

mod dumpfmt;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use pgmig_benches::work::Work;
use pgmig_benches::{Sample, Table, contents, measure_output, rows};
use pgmig_tests::{Compression, PgTools};

/// The other libraries, by the names that `peers` has for them.
const PEERS: [&str; 3] = ["libpgdump", "pgarchive", "pgdumpx"];
const MAJOR: u32 = 18;
const COMPRESSIONS: [Compression; 4] = [Compression::None, Compression::Gzip, Compression::Lz4, Compression::Zstd];

/// Compares dumpfmt with pg_restore and with other libraries on the same archives
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Options {
    #[command(subcommand)]
    measure: Option<Measure>,
    /// Entries in the table of contents that is listed
    #[arg(long, default_value_t = 1_000_000)]
    entries: u32,
    /// Runs of each program, of which the median is shown
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Only the tables with this in their title
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
}

#[derive(Debug, Subcommand)]
enum Measure {
    /// Do one work with dumpfmt, and say what it amounted to
    #[command(hide = true)]
    Measure { work: Work, file: PathBuf },
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(Measure::Measure { work, file }) = options.measure {
        let amount = match work {
            Work::List => dumpfmt::list(&file),
            Work::Stream => dumpfmt::stream(&file),
            Work::Fields => dumpfmt::fields(&file),
        };
        println!("{}", amount?);
        return Ok(());
    }
    let own = env::current_exe()?;
    let peers = own.with_file_name("peers");
    ensure!(
        peers.exists(),
        "there is no `{}`: run `cargo build --release --manifest-path benches/peers/Cargo.toml --target-dir target` first",
        peers.display()
    );
    progress("make the archives, unless they are there");
    let large = contents(options.entries)?;
    let files = rows(MAJOR, &COMPRESSIONS)?;
    let bench = Bench { pg_restore: PgTools::major(MAJOR).program("pg_restore"), own, peers, options };
    bench.print_machine(&files)?;

    let entries = format!("list {} entries", bench.options.entries);
    bench.compare(&entries, bench.pg_restore(&["-l"], &large), Work::List, &large)?;
    for (compression, file) in COMPRESSIONS.iter().zip(&files) {
        let title = format!("stream all rows, {}", name_of(*compression));
        bench.compare(&title, bench.pg_restore(&["-f", "/dev/null"], file), Work::Stream, file)?;
    }
    for (compression, file) in COMPRESSIONS.iter().zip(&files) {
        let title = format!("split all rows into fields, {}", name_of(*compression));
        let stream = bench.dumpfmt(Work::Stream, file);
        bench.compare(&title, Way { name: "dumpfmt, the stream alone".into(), ..stream }, Work::Fields, file)?;
    }
    Ok(())
}

/// What all comparisons share.
struct Bench {
    options: Options,
    pg_restore: PathBuf,
    own: PathBuf,
    peers: PathBuf,
}

/// A way to do a work.
struct Way {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
}

impl Bench {
    fn pg_restore(&self, args: &[&str], file: &Path) -> Way {
        Way {
            name: format!("`pg_restore {}`", args.join(" ")),
            program: self.pg_restore.clone(),
            args: args.iter().map(OsString::from).chain([file.into()]).collect(),
        }
    }

    fn dumpfmt(&self, work: Work, file: &Path) -> Way {
        let args = vec!["measure".into(), work.to_string().into(), file.into()];
        Way { name: "dumpfmt".into(), program: self.own.clone(), args }
    }

    fn peer(&self, name: &str, work: Work, file: &Path) -> Way {
        let args = vec![name.into(), work.to_string().into(), file.into()];
        Way { name: name.to_owned(), program: self.peers.clone(), args }
    }

    /// Prints a table of `first`, with which the others are compared, and all libraries doing `work`.
    fn compare(&self, title: &str, first: Way, work: Work, file: &Path) -> Result<()> {
        if !title.contains(&self.options.only) {
            return Ok(());
        }
        let mut ways = vec![first, self.dumpfmt(work, file)];
        ways.extend(PEERS.map(|name| self.peer(name, work, file)));
        let mut table = Table {
            title: title.to_owned(),
            samples: ways.iter().map(|way| Sample::new(&way.name)).collect(),
            ..Table::default()
        };
        // What the work amounts to is what dumpfmt says, whose tests compare it with the source.
        let mut expected = None;
        for run in 0..self.options.runs {
            progress(&format!("{title}, run {}", run + 1));
            for (index, (way, sample)) in ways.iter().zip(&mut table.samples).enumerate() {
                if run > 0 && sample.is_empty() {
                    continue;
                }
                let result = measure_output(Command::new(&way.program).args(&way.args));
                let (usage, said) = match result {
                    Err(error) if index > 1 => {
                        sample.remark = Some(format!("cannot: {}", reason(&error)));
                        continue;
                    }
                    other => other?,
                };
                sample.add(usage);
                match (index, &expected) {
                    (0, _) => {}
                    (_, None) => expected = Some(said),
                    (_, Some(expected)) if *expected == said => {}
                    (_, Some(expected)) => {
                        sample.remark = Some(format!("reads only {} of {}", said.trim(), expected.trim()));
                    }
                }
            }
        }
        println!("{}", table.markdown());
        Ok(())
    }

    fn print_machine(&self, files: &[PathBuf]) -> Result<()> {
        let size = |(compression, file): (&Compression, &PathBuf)| {
            Ok(format!("{:.0} MB {}", fs::metadata(file)?.len() as f64 / 1e6, name_of(*compression)))
        };
        let sizes = COMPRESSIONS.iter().zip(files).map(size).collect::<Result<Vec<_>>>()?.join(", ");
        let cores = std::thread::available_parallelism()?;
        let runs = self.options.runs;
        println!("Archives of {sizes}; PostgreSQL {MAJOR}, {cores} cores, medians of {runs} runs.\n");
        Ok(())
    }
}

fn name_of(compression: Compression) -> String {
    format!("{compression:?}").to_lowercase()
}

/// The first line of what a failed process said.
fn reason(error: &anyhow::Error) -> String {
    let text = error.to_string();
    let line = text.lines().nth(1).unwrap_or(&text);
    line.strip_prefix("Error: ").unwrap_or(line).to_owned()
}

fn progress(text: &str) {
    eprintln!("archive: {text}");
}
