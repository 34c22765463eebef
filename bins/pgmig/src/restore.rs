//! The main job: restore an archive into the target.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use pgmig_core::archive::Archive;
use pgmig_core::connection::{self, Connection, TargetConfig};
use pgmig_core::plan::{Plan, PlanOptions, PlannedTable};
use pgmig_core::restore::{Event, Report, Step};
use pgmig_core::target::Target;
use pgmig_core::tenant;
use tempfile::NamedTempFile;
use terminal::{json_text, print, print_json, progress, step, warn};
use tokio::signal::unix::{SignalKind, signal};

use crate::ask::Terminal;
use crate::cli::{self, OutputFormat, RestoreOptions};
use crate::failure::Failure;
use crate::new_archive::{expect_report, open_irreplaceable};
use crate::{inspect, mapping, test_connection, text};

pub(crate) async fn run(options: RestoreOptions) -> Result<(), Failure> {
    // What can be wrong without any effort comes first.
    let profile = inspect::profile(options.profile.as_deref())?;
    let config = TargetConfig::load(&options.target, &cli::environment())?;
    let report_file = if options.dry_run { None } else { Some(ReportFile::prepare(&options.report)?) };

    step(format_args!("read the contents of {}", options.source.display()));
    let mut archive = inspect::open(&options.source, dumpfmt::ReadOptions::default())?;
    let tenants = tenant::in_archive(&mut archive, &profile)?;

    step(format_args!("connect to database `{}` at {}:{}", config.database, config.host, config.port));
    let mut connection = connection::connect(&config).await?;
    warn_of_security(&connection, &config);
    let target = Target::read(&connection.client, &profile).await?;

    step("make the mapping");
    let mapping = mapping::make(&options, &tenants, &target).await?;

    step("read every row of the archive, look for stray IDs, make the plan");
    let plan = {
        let bar = progress::bytes(archive.bytes());
        let mut plan_options = PlanOptions::default();
        plan_options.remap_also = options.remap_also.clone();
        let show = |position| bar.set_position(position);
        let plan = Plan::make(&mut archive, &connection.client, &target, &profile, mapping, &plan_options, show).await;
        bar.finish_and_clear();
        plan?
    };
    plan.warnings.iter().for_each(warn);
    show_plan(&plan, &options)?;
    if options.dry_run {
        step("this was a dry run: nothing was changed");
        return Ok(());
    }
    if !options.ignore_strays {
        plan.expect_no_strays()?;
    }
    if !options.force {
        plan.expect_empty_target()?;
    }
    confirm(&plan, &options, &config)?;

    let report = act(&plan, archive, &mut connection, &config).await?;
    connection.close().await;
    finish(&report, report_file, &options)
}

fn warn_of_security(connection: &Connection, config: &TargetConfig) {
    let local = config.is_unix_socket() || matches!(config.host.as_str(), "localhost" | "127.0.0.1" | "::1");
    if !connection.verified && !local {
        let security = test_connection::security(connection);
        warn(format_args!("the connection to the target is {security}; set PG_CA_FILE to the file of the server's CA"));
    }
}

fn show_plan(plan: &Plan, options: &RestoreOptions) -> Result<(), Failure> {
    match (options.output, options.dry_run) {
        (OutputFormat::Text, true) => print(&format!("\n{}\n", text::plan(plan)))?,
        // A reader that has gone away is an error here, not the quiet success that it is elsewhere.
        (OutputFormat::Text, false) => print(&format!("\n{}\n", text::plan(plan))).map_err(|e| {
            Failure::new(e.to_string(), "nothing was changed; run again with an output that takes the plan")
        })?,
        (OutputFormat::Json, true) => print_json(plan)?,
        // One document on standard output: the report.
        (OutputFormat::Json, false) => {}
    }
    Ok(())
}

/// With `--force`, somebody at a terminal is still asked before data is erased.
fn confirm(plan: &Plan, options: &RestoreOptions, config: &TargetConfig) -> Result<(), Failure> {
    let rows: u64 = plan.tenant_data_in_target().map(|(_, rows)| rows).sum();
    let objects = plan.large_objects.erased;
    if options.yes || (rows == 0 && objects == 0) {
        return Ok(());
    }
    // Scripts run without any terminal; where somebody watches, nothing is erased unasked.
    let terminal = Terminal::find(options.source == Path::new("-")).map_err(|e| {
        let text = format!("cannot ask whether tenants' data may be erased: {e}");
        Failure::new(text, "nothing was changed; --yes leaves the question out")
    })?;
    let Some(mut terminal) = terminal else { return Ok(()) };
    let question = format!(
        "Erase {} of tenants' data and {} in database `{}` at {}:{} and restore the archive?",
        text::counted(rows, "row"),
        text::counted(objects, "large object"),
        config.database,
        config.host,
        config.port
    );
    if terminal.confirm(&question)? {
        return Ok(());
    }
    Err(Failure::new("stopped: the answer was not yes", "nothing was changed; --yes leaves the question out"))
}

async fn act(
    plan: &Plan,
    archive: Archive,
    connection: &mut Connection,
    config: &TargetConfig,
) -> Result<Report, Failure> {
    let total = plan.tables.iter().map(PlannedTable::rows_to_load).sum();
    let bar = progress::rows(total);
    // Rows of the tables that are done.
    let mut done = 0;
    let committing = AtomicBool::new(false);
    let observe = |event: Event<'_>| match event {
        Event::Step(Step::Commit) => {
            committing.store(true, Ordering::Relaxed);
            step(Step::Commit);
        }
        Event::Step(Step::Load) => {
            step(Step::Load);
            bar.reset();
        }
        Event::Step(next) => {
            bar.finish_and_clear();
            step(next);
        }
        Event::Rows { table, sent, total } => {
            bar.set_message(table.to_string());
            bar.set_position(done + sent);
            if sent == total {
                done += total;
            }
        }
        _ => {}
    };
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let restore = pgmig_core::restore::restore(plan, archive, connection, config, observe);
    let mut restore = std::pin::pin!(restore);
    let result = loop {
        tokio::select! {
            result = &mut restore => break result.map_err(Failure::from),
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        // Once the server has been told to commit, only its answer says what became of it.
        if !committing.load(Ordering::Relaxed) {
            break Err(Failure::interrupted("the target is as it was before"));
        }
        warn("the restore is being committed; wait for its end");
    };
    bar.finish_and_clear();
    result
}

fn finish(report: &Report, file: Option<ReportFile>, options: &RestoreOptions) -> Result<(), Failure> {
    // Each of the two is done whatever becomes of the other: the restore cannot be repeated.
    let written = file.map_or(Ok(()), |file| file.write(report));
    let printed = match options.output {
        OutputFormat::Text => print(&format!("\n{}", text::report(report))).map_err(Failure::from),
        OutputFormat::Json => print_json(report).map_err(Failure::from),
    };
    written.map_err(Failure::after_result)?;
    printed.map_err(Failure::after_result)?;
    step(format_args!("committed; the report is in {}", options.report.display()));
    Ok(())
}

/// Whether files can be made in `folder`, of which none is left.
pub(crate) fn try_to_write_in(folder: &Path) -> std::io::Result<()> {
    NamedTempFile::new_in(folder).and_then(NamedTempFile::close)
}

/// Where the report goes. Tried before anything is changed: a restore whose record
/// cannot be written should not begin.
struct ReportFile {
    path: PathBuf,
    folder: PathBuf,
    /// A named pipe or a device at that path, which is not replaced.
    irreplaceable: Option<File>,
}

impl ReportFile {
    fn prepare(path: &Path) -> Result<Self, Failure> {
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let cannot = |e| {
            let text = format!("cannot write the report to `{}`: {e}", path.display());
            Failure::new(text, "run in a folder that you can write to, or say where with --report")
        };
        expect_report(path)?;
        let irreplaceable = open_irreplaceable(path).map_err(cannot)?;
        if irreplaceable.is_none() {
            // Not kept open until the end: whoever kills us should not have to clean up.
            try_to_write_in(folder).map_err(cannot)?;
        }
        Ok(Self { path: path.to_owned(), folder: folder.to_owned(), irreplaceable })
    }

    fn write(&self, report: &Report) -> Result<(), Failure> {
        let json = json_text(report)?;
        let write = || -> std::io::Result<()> {
            if let Some(mut file) = self.irreplaceable.as_ref() {
                return file.write_all(json.as_bytes());
            }
            let mut file = NamedTempFile::new_in(&self.folder)?;
            file.write_all(json.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&self.path)?;
            Ok(())
        };
        write().map_err(|e| {
            let text = format!(
                "the restore was committed, but the report could not be written to `{}`: {e}",
                self.path.display()
            );
            Failure::new(text, "do not restore again; the summary above says what was done")
        })
    }
}
