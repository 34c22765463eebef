//! Compares `backup run`, which verifies what it stores, with plain `pg_dump` into a file: whole processes on the same data
//! and server, medians of alternating runs, printed as Markdown.
//!
//! `cargo build --release -p backup && cargo run --release -p pgmig-benches --bin backup_run -- --scale 7`

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use clap::Parser;
use pgmig_benches::{Sample, Table, Usage, archives, measure, measure_into};
use pgmig_tests::{Compression, PgTools, Server};

/// The server's version: Debian's, which everyone has.
const MAJOR: u32 = 15;
const DATABASE: &str = "store";

/// Compares `backup run` with `pg_dump -Fc > file`
#[derive(Debug, Parser)]
struct Options {
    /// Size of the store: 1 is 70 MB of rows, 7 is 490 MB
    #[arg(long, default_value_t = 1)]
    scale: u32,
    /// Runs of each program, of which the median is shown
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// The program to measure; without it, the one built beside this program
    #[arg(long, value_name = "FILE")]
    backup: Option<PathBuf>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let backup = match options.backup {
        Some(backup) => backup,
        None => env::current_exe()?.with_file_name("backup"),
    };
    ensure!(backup.exists(), "there is no `{}`: run `cargo build --release -p backup` first", backup.display());
    let files = archives(MAJOR, options.scale, &[Compression::Gzip])?;
    let server = Server::start(&PgTools::major(MAJOR));
    server.create_database(DATABASE, "UTF8");
    server.tools().restore(&server, DATABASE, &files[0], &[]);
    server.psql(DATABASE, "vacuum analyze");

    let cores = std::thread::available_parallelism()?;
    println!("PostgreSQL {MAJOR}, {cores} cores, medians of {} runs.\n", options.runs);
    for compress in ["6", "0"] {
        let folder = tempfile::tempdir()?;
        write_configuration(&server, folder.path(), compress)?;
        let mut table = Table {
            title: format!("dump with `--compress={compress}`"),
            samples: vec![Sample::new("`pg_dump -Fc > file`"), Sample::new("`backup run`, verified and on the disk")],
            ..Table::default()
        };
        for run in 0..options.runs {
            eprintln!("backup_run: {}, run {}", table.title, run + 1);
            table.samples[0].add(pg_dump(&server, folder.path(), compress)?);
            let mut command = Command::new(&backup);
            table.samples[1].add(measure(command.args(["run", "nightly"]).current_dir(folder.path()))?);
        }
        println!("{}", table.markdown());
    }
    Ok(())
}

fn pg_dump(server: &Server, folder: &Path, compress: &str) -> Result<Usage> {
    let file = folder.join("plain.dump");
    let mut command = server.client(server.tools(), "pg_dump", DATABASE);
    command.arg("-Fc").arg(format!("--compress={compress}"));
    let usage = measure_into(&mut command, File::create(&file)?)?;
    fs::remove_file(file)?;
    Ok(usage)
}

/// Over the Unix socket, as the peer, which removes no old dump either.
fn write_configuration(server: &Server, folder: &Path, compress: &str) -> Result<()> {
    fs::create_dir(folder.join("vault"))?;
    let password = File::options().write(true).create_new(true).mode(0o600).open(folder.join("password"))?;
    std::io::Write::write_all(&mut &password, server.password().as_bytes())?;
    let yaml = format!(
        "sources:\n  store: {{type: postgresql, host: {}, port: {}, database: {DATABASE}, username: {}, \
         password-file: password, pg-dump: {}, compress: {compress}}}\n\
         destinations:\n  vault: {{type: local, path: vault}}\n\
         jobs:\n  nightly: {{source: store, destination: vault, retention: {{keep-last: 1000}}}}\n",
        server.socket_folder().display(),
        server.port(),
        server.user(),
        server.tools().program("pg_dump").display()
    );
    fs::write(folder.join("backup.yaml"), yaml)?;
    Ok(())
}
