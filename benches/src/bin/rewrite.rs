//! Compares rewriting and verifying of whole archives with what people do without: whole processes, medians of
//! alternating runs, printed as Markdown.
//!
//! ```sh
//! cargo build --release -p pgmig
//! cargo run --release -p pgmig-benches --bin rewrite -- --scale 4
//! ```

use std::env;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};
use clap::{Parser, Subcommand};
use dumpfmt::{ArchiveReader, CopyStatement, DataState, Rewrite, Toc, TocEntry, WriteOptions};
use pgmig_benches::{Sample, Table, archives, mapping, measure, provision, rows};
use pgmig_tests::{Compression, PgTools, Server};

/// The first version whose pg_dump writes every compression here.
const MAJOR: u32 = 18;

/// Compares rewriting and verifying of archives with pg_restore, sed and cp
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Options {
    #[command(subcommand)]
    measure: Option<Measure>,
    /// Size of the store that is remapped: 1 is 70 MB of rows, 4 is 280 MB
    #[arg(long, default_value_t = 4)]
    scale: u32,
    /// Only the tables with this in their title
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Runs of each program, of which the median is shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

#[derive(Debug, Subcommand)]
enum Measure {
    /// Copy an archive with two columns of one table changed
    #[command(hide = true)]
    Change { file: PathBuf, copy: PathBuf },
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(Measure::Change { file, copy }) = options.measure {
        return change(&file, &copy);
    }
    let own = env::current_exe()?;
    let pgmig = own.with_file_name("pgmig");
    ensure!(pgmig.exists(), "there is no `{}`: run `cargo build --release -p pgmig` first", pgmig.display());
    let folder = tempfile::tempdir()?;
    let bench = Bench { pgmig, own, folder: folder.path().to_owned(), runs: options.runs, only: options.only };
    bench.remap(options.scale)?;
    bench.change()?;
    bench.verify()
}

struct Bench {
    pgmig: PathBuf,
    own: PathBuf,
    /// Where new archives go.
    folder: PathBuf,
    runs: u32,
    only: String,
}

impl Bench {
    /// Every ID column of a store, against what a careful person with `sed` does.
    fn remap(&self, scale: u32) -> Result<()> {
        progress("make the archives, unless they are there");
        let compressions = [Compression::None, Compression::Gzip, Compression::Zstd];
        let files = archives(MAJOR, scale, &compressions)?;
        let server = Server::start(&PgTools::major(MAJOR));
        let pairs = {
            let target = provision(&server, "provisioned");
            mapping(&server, &files[0], target.name())?
        };
        let (mut yaml, mut script) = ("instance-mappings:\n".to_owned(), String::new());
        for (source, target) in &pairs {
            writeln!(yaml, "  {source}: {target}")?;
            writeln!(script, "s/{source}/{target}/g")?;
        }
        let (mapping, sed) = (self.folder.join("mapping.yaml"), self.folder.join("pairs.sed"));
        fs::write(&mapping, yaml)?;
        fs::write(&sed, script)?;
        let pg_restore = PgTools::major(MAJOR).program("pg_restore");
        for (compression, file) in compressions.iter().zip(&files) {
            let title = format!("remap by {} pairs, {}", pairs.len(), format!("{compression:?}").to_lowercase());
            let by_sed = || {
                let mut command = Command::new("sh");
                command.args(["-c", "\"$1\" -f - \"$2\" | sed -f \"$3\" > \"$4\"", "sh"]);
                command.arg(&pg_restore).arg(file).arg(&sed).arg(self.folder.join("store.sql"));
                command
            };
            let by_pgmig = || {
                let mut command = Command::new(&self.pgmig);
                command
                    .args(["remap", "--force", "--ignore-strays", "--source"])
                    .arg(file)
                    .arg("--mapping")
                    .arg(&mapping);
                command.arg("--output").arg(self.folder.join("store.dump"));
                command
            };
            self.compare(&title, &[("`pg_restore -f -`, piped through `sed`", &by_sed), ("`pgmig remap`", &by_pgmig)])?;
        }
        Ok(())
    }

    /// Two columns of one small table, the rest as it is stored.
    fn change(&self) -> Result<()> {
        let compressions = [Compression::None, Compression::Gzip];
        for (compression, file) in compressions.iter().zip(rows(MAJOR, &compressions)?) {
            let copy = self.folder.join("copy.dump");
            let title = format!("change two columns of one table, {}", format!("{compression:?}").to_lowercase());
            let by_cp = || {
                let mut command = Command::new("cp");
                command.arg(&file).arg(&copy);
                command
            };
            let by_dumpfmt = || {
                let mut command = Command::new(&self.own);
                command.arg("change").arg(&file).arg(&copy);
                command
            };
            self.compare(&title, &[("`cp`", &by_cp), ("dumpfmt", &by_dumpfmt)])?;
        }
        Ok(())
    }

    /// One thread and two.
    fn verify(&self) -> Result<()> {
        for (name, file) in ["none", "gzip"].iter().zip(rows(MAJOR, &[Compression::None, Compression::Gzip])?) {
            let by = |threads: &'static str| {
                let file = &file;
                move || {
                    let mut command = Command::new(&self.pgmig);
                    command.args(["verify", "--threads", threads]).arg(file);
                    command
                }
            };
            let (one, two) = (by("1"), by("2"));
            let title = format!("verify, {name}");
            self.compare(&title, &[("`pgmig verify --threads 1`", &one), ("`pgmig verify --threads 2`", &two)])?;
        }
        Ok(())
    }

    fn compare(&self, title: &str, ways: &[(&str, &dyn Fn() -> Command)]) -> Result<()> {
        if !title.contains(&self.only) {
            return Ok(());
        }
        let samples = ways.iter().map(|(name, _)| Sample::new(*name)).collect();
        let mut table = Table { title: title.to_owned(), samples, ..Table::default() };
        for run in 0..self.runs {
            progress(&format!("{title}, run {}", run + 1));
            for ((_, command), sample) in ways.iter().zip(&mut table.samples) {
                sample.add(measure(&mut command())?);
            }
        }
        println!("{}", table.markdown());
        Ok(())
    }
}

/// Changes the first two columns of the smallest table that has as many, and rows.
fn change(file: &Path, copy: &Path) -> Result<()> {
    let mut source = ArchiveReader::new(File::open(file)?)?;
    let dump_id = smallest_table(source.toc()).context("no table has two columns")?;
    let mut rewrite = Rewrite::new(WriteOptions::like(source.header()));
    rewrite.rows(dump_id, |row, out| {
        let mut fields = out.fields();
        for (place, field) in row.fields().enumerate() {
            if place < 2 {
                fields.value(field.decode().map(|value| value.to_ascii_uppercase()).as_deref());
            } else {
                fields.field(field);
            }
        }
        fields.finish();
        Ok(())
    });
    let (_, report) = rewrite.to_file(&mut source, File::create(copy)?, |_| {})?;
    let changed = report.entries.iter().find(|entry| entry.dump_id == dump_id);
    let written = changed.and_then(|entry| entry.rows_written).ok_or_else(|| anyhow!("no row was written"))?;
    println!("{written} rows");
    Ok(())
}

/// The table with two columns whose block is the shortest that can hold rows.
fn smallest_table(toc: &Toc) -> Option<i32> {
    const EMPTY: u64 = 100;
    let position = |entry: &TocEntry| match entry.data_state() {
        DataState::Position(position) => Some(position),
        _ => None,
    };
    let mut positions: Vec<_> = toc.entries().iter().filter_map(position).collect();
    positions.sort_unstable();
    let length = |entry: &TocEntry| {
        let begin = position(entry)?;
        let next = positions.iter().find(|&&position| position > begin)?;
        Some(next - begin).filter(|&length| length > EMPTY)
    };
    let two_columns = |entry: &&TocEntry| CopyStatement::of(entry).is_some_and(|copy| copy.columns.len() > 1);
    let tables = toc.of_type("TABLE DATA").filter(two_columns);
    let lengths = tables.filter_map(|entry| Some((length(entry)?, entry.dump_id())));
    lengths.min().map(|(_, dump_id)| dump_id)
}

fn progress(text: &str) {
    eprintln!("rewrite: {text}");
}
