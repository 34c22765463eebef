//! Compares pgmig with the stock programs on the same data and the same private server: whole
//! processes, medians of alternating runs, printed as Markdown.
//!
//! `cargo build --release -p pgmig && cargo run --release -p pgmig-benches --bin compare -- --scale 7`

use std::env;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use pgmig_benches::{Provisioned, Sample, Table, Usage, archives, mapping, measure, provision};
use pgmig_tests::{Compression, PgTools, Server, ServerOptions};

/// The server's version: Debian's, which everyone has.
const MAJOR: u32 = 15;
/// What a server of this size would have. Durability is off, as everywhere in the tests: the disk of
/// a bench machine is the noisiest part of it, and who writes everything twice gains most.
const CONFIG: [&str; 3] = ["shared_buffers = 256MB", "max_wal_size = 8GB", "maintenance_work_mem = 256MB"];

/// Compares pgmig with pg_restore on the same data and the same private server
#[derive(Debug, Parser)]
struct Options {
    /// Size of the store: 1 is 70 MB of rows, 7 is 490 MB
    #[arg(long, default_value_t = 1)]
    scale: u32,
    /// Runs of each program, of which the median is shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// The program to measure; without it, the one built beside this program
    #[arg(long, value_name = "FILE")]
    pgmig: Option<PathBuf>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let pgmig = match options.pgmig {
        Some(pgmig) => pgmig,
        None => env::current_exe()?.with_file_name("pgmig"),
    };
    ensure!(pgmig.exists(), "there is no `{}`: run `cargo build --release -p pgmig` first", pgmig.display());

    progress("make the archives, unless they are there");
    let files = archives(MAJOR, options.scale, &[Compression::None, Compression::Gzip])?;
    let [plain, gzip] = &files[..] else { unreachable!("one file for each compression") };
    let config = CONFIG.map(str::to_owned).to_vec();
    let server = Server::start_with(&PgTools::major(MAJOR), &ServerOptions { config, ..ServerOptions::default() });
    let bench = Bench::new(&server, pgmig, gzip)?;

    print_machine(options.runs, &[plain, gzip])?;
    for (name, archive) in [("gzip", gzip), ("uncompressed", plain)] {
        println!("{}", bench.restore(name, archive, options.runs)?.markdown());
    }
    for (name, archive) in [("gzip", gzip), ("uncompressed", plain)] {
        println!("{}", bench.read(name, archive, options.runs)?.markdown());
    }
    Ok(())
}

/// A way to restore an archive into a database, which it is given.
struct Way<'a> {
    name: &'static str,
    /// Whether the database is provisioned as a target; otherwise it is empty.
    provisioned: bool,
    run: &'a dyn Fn(&str) -> Result<Usage>,
}

/// What all comparisons share.
struct Bench<'a> {
    server: &'a Server,
    pgmig: PathBuf,
    /// Configuration, mapping and scripts.
    folder: tempfile::TempDir,
    /// What every target is a copy of.
    template: Provisioned<'a>,
}

impl<'a> Bench<'a> {
    fn new(server: &'a Server, pgmig: PathBuf, archive: &Path) -> Result<Self> {
        let template = provision(server, "provisioned");
        let pairs = mapping(server, archive, template.name())?;
        let folder = tempfile::tempdir()?;
        let mut yaml = "instance-mappings:\n".to_owned();
        let mut values = Vec::new();
        for (source, target) in &pairs {
            writeln!(yaml, "  {source}: {target}")?;
            values.push(format!("('{source}', '{target}')"));
        }
        fs::write(folder.path().join("mapping.yaml"), yaml)?;
        let updates = format!(
            "\\set ON_ERROR_STOP on\ncreate temporary table mapping (source uuid, target uuid);\n\
             insert into mapping values {};\nanalyze mapping;\n{}",
            values.join(", "),
            include_str!("../../sql/updates.sql")
        );
        fs::write(folder.path().join("updates.sql"), updates)?;
        Ok(Self { server, pgmig, folder, template })
    }

    /// From an archive to a target with every ID remapped.
    fn restore(&self, compression: &str, archive: &Path, runs: u32) -> Result<Table> {
        let ways = [
            Way {
                name: "`pg_restore -j2`, then the UPDATEs",
                provisioned: false,
                run: &|database| Ok(self.pg_restore(database, archive, &[])?.then(self.updates(database)?)),
            },
            // Much faster, for those who know: no index is there yet that each UPDATE would have to keep.
            Way {
                name: "`pg_restore -j2` by section, the UPDATEs before indexes and keys",
                provisioned: false,
                run: &|database| {
                    let rows = self.pg_restore(database, archive, &["--section=pre-data", "--section=data"])?;
                    let updates = self.updates(database)?;
                    Ok(rows.then(updates).then(self.pg_restore(database, archive, &["--section=post-data"])?))
                },
            },
            Way {
                name: "`pgmig`",
                provisioned: true,
                run: &|database| measure(&mut self.pgmig_restore(database, archive)),
            },
            Way {
                name: "`pgmig --source -`, from a pipe",
                provisioned: true,
                run: &|database| {
                    let mut cat = cat(archive)?;
                    let mut pgmig = self.pgmig_restore(database, Path::new("-"));
                    let usage = measure(pgmig.stdin(cat.stdout.take().context("no pipe")?))?;
                    cat.wait()?;
                    Ok(usage)
                },
            },
        ];
        let mut table = Table {
            title: format!("restore with {compression} archive"),
            result: Some("database"),
            samples: ways.iter().map(|way| Sample::new(way.name)).collect(),
        };
        let mut first_contents = None;
        for run in 0..runs {
            for (way, sample) in ways.iter().zip(&mut table.samples) {
                progress(&format!("{}: {}, run {}", table.title, way.name, run + 1));
                let database = "restored";
                if way.provisioned {
                    let template = self.template.name();
                    self.server.psql("postgres", &format!("create database {database} template {template}"));
                } else {
                    self.server.create_database(database, "UTF8");
                }
                // What was written before is not to be paid for by this one.
                self.server.psql("postgres", "checkpoint");
                sample.add((way.run)(database)?);
                let size = self.server.psql(database, "select pg_database_size(current_database())");
                sample.result_bytes = size.parse().ok();
                if run == 0 {
                    let contents = self.contents(database);
                    let first = first_contents.get_or_insert_with(|| contents.clone());
                    ensure!(*first == contents, "{} gives other rows:\n{first}\n{contents}", way.name);
                }
                self.server.drop_database(database);
            }
        }
        Ok(table)
    }

    /// Reading an archive to its end.
    fn read(&self, compression: &str, archive: &Path, runs: u32) -> Result<Table> {
        let pg_restore = || {
            let mut command = Command::new(self.server.tools().program("pg_restore"));
            command.args(["-f", "/dev/null"]).arg(archive);
            command
        };
        let pgmig = |subcommand: &str| {
            let mut command = Command::new(&self.pgmig);
            command.arg(subcommand).arg(archive);
            command
        };
        let ways: [(_, &dyn Fn() -> Command); 3] = [
            ("`pg_restore -f /dev/null`", &pg_restore),
            ("`pgmig verify`", &|| pgmig("verify")),
            ("`pgmig inspect`", &|| pgmig("inspect")),
        ];
        let mut table = Table {
            title: format!("read {compression} archive"),
            samples: ways.iter().map(|(name, _)| Sample::new(*name)).collect(),
            ..Table::default()
        };
        for run in 0..runs {
            progress(&format!("{}, run {}", table.title, run + 1));
            for ((_, command), sample) in ways.iter().zip(&mut table.samples) {
                sample.add(measure(&mut command())?);
            }
        }
        Ok(table)
    }

    fn pg_restore(&self, database: &str, archive: &Path, sections: &[&str]) -> Result<Usage> {
        let mut command = self.server.client(self.server.tools(), "pg_restore", database);
        measure(command.args(["--exit-on-error", "-j2"]).args(sections).arg(archive))
    }

    fn updates(&self, database: &str) -> Result<Usage> {
        let mut command = self.server.client(self.server.tools(), "psql", database);
        measure(command.args(["-X", "-q", "-f"]).arg(self.folder.path().join("updates.sql")))
    }

    /// Over the Unix socket, as the peers.
    fn pgmig_restore(&self, database: &str, archive: &Path) -> Command {
        let folder = self.folder.path();
        let config = folder.join("postgres.yaml");
        let socket = self.server.socket_folder().to_string_lossy();
        self.server.write_postgres_yaml_via(&config, database, &socket, self.server.port());
        let mut command = Command::new(&self.pgmig);
        command.arg("--source").arg(archive).arg("--target").arg(config);
        command.arg("--mapping").arg(folder.join("mapping.yaml")).args(["--force", "--yes", "--report"]);
        command.arg(folder.join("report.json")).stdin(Stdio::null());
        command
    }

    /// Rows and a checksum of every table that all ways restore. The target's internal tenant
    /// and its user are its own.
    fn contents(&self, database: &str) -> String {
        let tables = self.server.psql(
            database,
            "select string_agg(format('select %L, count(*), sum(hashtextextended(t::text, 0)::numeric) from %s t%s',
               relname, oid::regclass, case when relname in ('tenant', 'app_user') then
                 ' where tenant_id not in (select tenant_id from tenant where region = ''System'')' end), ' union all ')
             from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace and relname <> 'schema_info'",
        );
        self.server.psql(database, &format!("{tables} order by 1"))
    }
}

fn cat(file: &Path) -> Result<Child> {
    Command::new("cat").arg(file).stdout(Stdio::piped()).spawn().context("cannot start `cat`")
}

fn print_machine(runs: u32, archives: &[&PathBuf]) -> Result<()> {
    let cores = std::thread::available_parallelism()?;
    let sizes =
        archives.iter().map(|archive| Ok(format!("{:.0} MB", File::open(archive)?.metadata()?.len() as f64 / 1e6)));
    let sizes = sizes.collect::<Result<Vec<_>>>()?.join(" uncompressed, ");
    println!("Archive of {sizes} in gzip; PostgreSQL {MAJOR}, {cores} cores, medians of {runs} runs.\n");
    Ok(())
}

fn progress(text: &str) {
    eprintln!("compare: {text}");
}
