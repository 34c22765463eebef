//! Shows the main job from beginning to end: a store is dumped, and `pgmig` restores it into
//! another installation, whose service instances have other IDs.
//!
//! `make demo` builds `pgmig` and runs this. Everything happens in a temporary folder with a private
//! PostgreSQL server in it, and is gone at the end, also when this is interrupted.
//!
//! usage: `demo [PGMIG]`, where `PGMIG` is the program to show; the one beside this program if not given.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::Instant;
use std::{env, fs, panic};

use anyhow::{Context as _, Result, bail, ensure};
use pgmig_tests::{PgTools, Server, fixture};

const SOURCE: &str = "store_old";
const TARGET: &str = "store_new";

fn main() -> ExitCode {
    // The harness panics with a message for people, which needs no place in the source beside it.
    panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
        eprintln!("demo: error: {}", text.unwrap_or("it panicked"));
    }));
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<()> {
    let started = Instant::now();
    let pgmig = pgmig_program()?;
    let tools = PgTools::major(15);

    heading("An installation with data");
    let server = Server::start(&tools);
    let terminal = Terminal::new(&server, &pgmig)?;
    println!("PostgreSQL {} on port {}, in a folder that goes away with it.\n", tools.version(), server.port());
    server.create_database(SOURCE, "UTF8");
    terminal.run_files(SOURCE, &["store-schema.sql", "store-data.sql"], "")?;
    let source = Store::look(&server, SOURCE);
    println!("{source}\n");

    heading("Its dump, through a pipe, as through `oc exec`");
    terminal.run(&format!("pg_dump -Fc {SOURCE} | cat > store.dump"))?;
    println!("{:.1} MB\n", fs::metadata(terminal.folder.join("store.dump"))?.len() as f64 / 1e6);

    heading("Another installation: the same services, other IDs, data of a trial");
    server.create_database(TARGET, "UTF8");
    terminal.run_files(TARGET, &["store-schema.sql", "store-target.sql"], "-v old_rows=1 ")?;
    let before = Store::look(&server, TARGET);
    println!("{before}\n");

    heading("What pgmig is told");
    server.write_postgres_yaml(&terminal.folder.join("postgres.yaml"), TARGET);
    terminal.run("grep -v password postgres.yaml")?;
    let mapping = Mapping::by_name(&source, &before)?;
    fs::write(terminal.folder.join("mapping.yaml"), mapping.to_yaml())?;
    terminal.run("head -n 4 mapping.yaml")?;
    println!("... {} service instances in all\n", mapping.0.len());

    heading("The restore");
    terminal.run("pgmig --source store.dump --target postgres.yaml --mapping mapping.yaml --force --yes")?;
    println!();

    heading("Before and after");
    let after = Store::look(&server, TARGET);
    print_comparison(&mapping, &source, &before, &after);
    mapping.check(&source, &after)?;
    println!(
        "All {} instances have as many rows in each of {} tables as in the source.\n",
        mapping.0.len(),
        TABLES.len()
    );

    fs::write(terminal.folder.join("source-ids.txt"), source.ids())?;
    terminal.run(&format!("pg_dump --data-only {TARGET} > after.sql"))?;
    terminal.run_counting_none("grep --count --fixed-strings --file source-ids.txt after.sql")?;
    println!("No ID of the source is left anywhere.\n");

    drop(server);
    println!("Done in {:.0} seconds; the server and its folder are gone.", started.elapsed().as_secs_f64());
    Ok(())
}

fn heading(text: &str) {
    let (bold, plain) = if is_colourful() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    println!("{bold}== {text} =={plain}\n");
}

fn is_colourful() -> bool {
    io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn pgmig_program() -> Result<PathBuf> {
    let path = match env::args_os().nth(1) {
        Some(path) => path.into(),
        None => env::current_exe()?.with_file_name("pgmig"),
    };
    fs::canonicalize(&path)
        .with_context(|| format!("there is no `{}`: build it with `cargo build --release -p pgmig`", path.display()))
}

/// A shell in a folder where everything is at hand, so that the commands that are shown are those that run.
struct Terminal<'a> {
    server: &'a Server,
    // In the server's folder: what removes that after an interruption then removes this too.
    folder: PathBuf,
    path: String,
}

impl<'a> Terminal<'a> {
    fn new(server: &'a Server, pgmig: &Path) -> Result<Self> {
        let folder = server.socket_folder().join("demo");
        let bin = folder.join("bin");
        fs::create_dir_all(&bin)?;
        symlink(pgmig, bin.join("pgmig"))?;
        for name in ["store-schema.sql", "store-data.sql", "store-target.sql"] {
            symlink(fixture(name), folder.join(name))?;
        }
        let postgres = server.tools().program("psql");
        let postgres = postgres.parent().expect("a program is in a folder");
        let path = format!("{}:{}:{}", bin.display(), postgres.display(), env::var("PATH").unwrap_or_default());
        Ok(Self { server, folder, path })
    }

    fn command(&self, line: &str) -> Command {
        println!("$ {line}");
        let mut command = Command::new("bash");
        command
            .args(["-o", "pipefail", "-c", line])
            .current_dir(&self.folder)
            .env("PATH", &self.path)
            .env("PGHOST", self.server.socket_folder())
            .env("PGPORT", self.server.port().to_string())
            .env("PGUSER", self.server.user())
            .env("PGPASSWORD", self.server.password())
            .stdin(Stdio::null());
        // what somebody has set for their own `pgmig` is not meant for this one
        for name in ["PG_CA_FILE", "ENABLE_ICP", "PGSSLMODE"] {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, line: &str) -> Result<()> {
        let status = self.command(line).status().context("cannot start `bash`")?;
        ensure!(status.success(), "`{line}` failed ({status})");
        Ok(())
    }

    fn run_files(&self, database: &str, files: &[&str], options: &str) -> Result<()> {
        let files: Vec<_> = files.iter().map(|file| format!("-f {file}")).collect();
        self.run(&format!("psql -qX {options}{} {database}", files.join(" ")))
    }

    /// Runs a `grep --count` that has to find nothing, which it tells by the status 1.
    fn run_counting_none(&self, line: &str) -> Result<()> {
        let Output { status, stdout, .. } = self.command(line).stderr(Stdio::inherit()).output()?;
        let count = String::from_utf8_lossy(&stdout).trim().to_owned();
        println!("{count}");
        match (status.code(), count.as_str()) {
            (Some(1), "0") => Ok(()),
            (Some(0), _) => bail!("an ID of the source is left in {count} lines"),
            _ => bail!("`{line}` failed ({status})"),
        }
    }
}

/// The tables whose rows are counted per instance, with the column that holds its ID.
const TABLES: [(&str, &str); 10] = [
    ("app_user", "tenant_id"),
    ("workspace", "tenant_id"),
    ("skill", "tenant_id"),
    ("skill_snapshot", "tenant_id"),
    ("assistant", "tenant_id"),
    ("environment", "tenant_id"),
    ("webhook", "instance_id"),
    ("log", "tenant_id"),
    ("intent_count", "tenant_id"),
    ("audit_event", "tenant_id"),
];

/// What a store is like at a moment.
struct Store {
    /// The name and ID of each live instance.
    tenants: BTreeMap<String, String>,
    /// By ID, the rows of each of [`TABLES`].
    rows: BTreeMap<String, [u64; TABLES.len()]>,
    all_ids: Vec<String>,
    webhook: Option<String>,
    log_sequence: String,
}

impl Store {
    fn look(server: &Server, database: &str) -> Self {
        let lines =
            |sql: &str| server.psql(database, sql).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        let pair =
            |line: &String| line.split_once('|').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("two columns");

        let all_ids: Vec<String> = lines("select tenant_id from tenant order by 1");
        let live: Vec<String> =
            lines("select name, tenant_id from tenant where deleted is not true and region <> 'System'");
        let mut rows = BTreeMap::from_iter(all_ids.iter().map(|id| (id.clone(), [0; TABLES.len()])));
        for (at, (table, column)) in TABLES.iter().enumerate() {
            let counts: Vec<String> = lines(&format!("select {column}, count(*) from {table} group by 1"));
            for (id, count) in counts.iter().map(pair) {
                rows.entry(id).or_default()[at] = count.parse().expect("a count");
            }
        }
        Self {
            tenants: live.iter().map(pair).collect(),
            rows,
            all_ids,
            webhook: lines("select instance_id, url from webhook order by webhook_id limit 1").pop(),
            log_sequence: server.psql(database, "select last_value from log_log_id_seq"),
        }
    }

    fn workspaces(&self, id: &str) -> u64 {
        let at = TABLES.iter().position(|(table, _)| *table == "workspace").expect("it is counted");
        self.rows.get(id).map_or(0, |rows| rows[at])
    }

    fn ids(&self) -> String {
        self.all_ids.iter().map(|id| format!("{id}\n")).collect()
    }

    fn webhook(&self) -> String {
        self.webhook.as_deref().map_or("none".to_owned(), |row| row.replace('|', "  "))
    }
}

impl std::fmt::Display for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rows: u64 = self.rows.values().flatten().sum();
        let first: Vec<_> = self.tenants.keys().take(3).map(String::as_str).collect();
        write!(f, "{} live service instances ({}, ...) with {rows} rows", self.tenants.len(), first.join(", "))
    }
}

/// Name, ID in the source, ID in the target.
struct Mapping(Vec<[String; 3]>);

impl Mapping {
    fn by_name(source: &Store, target: &Store) -> Result<Self> {
        let pair = |(name, id): (&String, &String)| {
            let other = target.tenants.get(name).with_context(|| format!("the target has no instance `{name}`"))?;
            Ok([name.clone(), id.clone(), other.clone()])
        };
        source.tenants.iter().map(pair).collect::<Result<_>>().map(Self)
    }

    fn to_yaml(&self) -> String {
        let lines = self.0.iter().map(|[name, source, target]| format!("  {source}: {target} # {name}\n"));
        format!("instance-mappings:\n{}", lines.collect::<String>())
    }

    /// Every instance has as many rows in each table as it had.
    fn check(&self, source: &Store, after: &Store) -> Result<()> {
        for [name, source_id, target_id] in &self.0 {
            let rows = |store: &Store, id: &str| store.rows.get(id).copied().unwrap_or_default();
            for ((table, _), (expected, found)) in
                TABLES.iter().zip(rows(source, source_id).into_iter().zip(rows(after, target_id)))
            {
                ensure!(expected == found, "`{name}` has {found} rows in `{table}`, not {expected} as in the source");
            }
        }
        Ok(())
    }
}

fn print_comparison(mapping: &Mapping, source: &Store, before: &Store, after: &Store) {
    const SHOWN: usize = 6;
    println!("Workspaces of each service instance:\n");
    println!("{:<15}  {:<36} {:>4}   {:<36} {:>6} {:>5}", "", "in the source", "", "in the target", "before", "after");
    for [name, source_id, target_id] in mapping.0.iter().take(SHOWN) {
        println!(
            "{name:<15}  {source_id} {:>4}   {target_id} {:>6} {:>5}",
            source.workspaces(source_id),
            before.workspaces(target_id),
            after.workspaces(target_id)
        );
    }
    println!("... {} more\n", mapping.0.len().saturating_sub(SHOWN));
    println!("The first webhook, whose instance ID is text:\n");
    println!("source         {}", source.webhook());
    println!("target before  {}", before.webhook());
    println!("target after   {}\n", after.webhook());
    println!("The last number that the sequence of `log` gave:\n");
    println!("source         {}", source.log_sequence);
    println!("target before  {}", before.log_sequence);
    println!("target after   {}\n", after.log_sequence);
}
