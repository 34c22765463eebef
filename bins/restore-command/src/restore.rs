//! The main job: restore an archive into the target.

use std::sync::atomic::{AtomicBool, Ordering};

use pgmig_core::archive::Archive;
use pgmig_core::connection::{self, Connection, TargetConfig};
use pgmig_core::plan::{Plan, PlanOptions, PlannedTable};
use pgmig_core::restore::{Event, Report, Step};
use pgmig_core::target::Target;
use pgmig_core::tenant;
use terminal::text::counted;
use terminal::{print, print_json, progress, step, warn};

use crate::ask::Terminal;
use crate::environment::{environment, security};
use crate::failure::Failure;
use crate::options::{OutputFormat, RestoreOptions};
use crate::report_file::ReportFile;
use crate::{mapping, text};

/// Whether the server was told to commit a restore.
static COMMITTING: AtomicBool = AtomicBool::new(false);

/// Whether the server was told to commit a restore: only its answer says what became of it, so nobody should end the program.
#[must_use]
pub fn is_committing() -> bool {
    COMMITTING.load(Ordering::Relaxed)
}

/// A restore that is planned, and that somebody has agreed to.
#[derive(Debug)]
pub struct Restore {
    options: RestoreOptions,
    config: TargetConfig,
    connection: Connection,
    archive: Archive,
    plan: Plan,
    report_file: ReportFile,
}

impl Restore {
    /// Plans a restore of the archive that `open` opens, shows the plan, and asks whether data may be erased. `None` after a dry run.
    ///
    /// # Errors
    ///
    /// It cannot be done, or nobody has agreed to it. Nothing was changed.
    pub async fn prepare(
        options: RestoreOptions,
        open: impl AsyncFnOnce() -> Result<Archive, Failure>,
    ) -> Result<Option<Self>, Failure> {
        // What can be wrong without any effort comes first.
        let config = TargetConfig::load(&options.target, &environment())?;
        let args = &options.args;
        let report_file = if args.dry_run { None } else { Some(ReportFile::prepare(&args.report)?) };

        let mut archive = open().await?;
        let tenants = tenant::in_archive(&mut archive, &options.profile)?;

        step(format_args!("connect to database `{}` at {}:{}", config.database, config.host, config.port));
        let connection = connection::connect(&config).await?;
        warn_of_security(&connection, &config);
        let target = Target::read(&connection.client, &options.profile).await?;

        step("make the mapping");
        let mapping = mapping::make(&options, &tenants, &target).await?;

        step("read every row of the archive, look for stray IDs, make the plan");
        let plan = {
            let bar = progress::bytes(archive.bytes());
            let mut how = PlanOptions::default();
            how.remap_also = args.remap_also.clone();
            let show = |position| bar.set_position(position);
            let (client, profile) = (&connection.client, &options.profile);
            let plan = Plan::make(&mut archive, client, &target, profile, mapping, &how, show).await;
            bar.finish_and_clear();
            plan?
        };
        plan.warnings.iter().for_each(warn);
        show_plan(&plan, &options)?;
        let Some(report_file) = report_file else {
            step("this was a dry run: nothing was changed");
            return Ok(None);
        };
        if !args.ignore_strays {
            plan.expect_no_strays()?;
        }
        if !args.force {
            plan.expect_empty_target()?;
        }
        confirm(&plan, &options, &config)?;
        Ok(Some(Self { options, config, connection, archive, plan, report_file }))
    }

    /// How to connect to the target.
    #[must_use]
    pub fn target(&self) -> &TargetConfig {
        &self.config
    }

    /// Does what was planned, unless `stop` comes first; prints and writes the report.
    ///
    /// # Errors
    ///
    /// It was not done, and the target is as it was; or it was, and the report could not be given, which the error says.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), Failure> {
        let Self { options, config, mut connection, archive, plan, report_file } = self;
        let report = act(&plan, archive, &mut connection, &config, stop).await?;
        connection.close().await;
        finish(&report, &report_file, &options)
    }
}

fn warn_of_security(connection: &Connection, config: &TargetConfig) {
    let local = config.is_unix_socket() || matches!(config.host.as_str(), "localhost" | "127.0.0.1" | "::1");
    if !connection.verified && !local {
        let security = security(connection);
        warn(format_args!("the connection to the target is {security}; set PG_CA_FILE to the file of the server's CA"));
    }
}

fn show_plan(plan: &Plan, options: &RestoreOptions) -> Result<(), Failure> {
    match (options.output, options.args.dry_run) {
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
    if options.args.yes || (rows == 0 && objects == 0) {
        return Ok(());
    }
    // Scripts run without any terminal; where somebody watches, nothing is erased unasked.
    let terminal = Terminal::find(options.stdin_is_archive).map_err(|e| {
        let text = format!("cannot ask whether tenants' data may be erased: {e}");
        Failure::new(text, "nothing was changed; --yes leaves the question out")
    })?;
    let Some(mut terminal) = terminal else { return Ok(()) };
    let question = format!(
        "Erase {} of tenants' data and {} in database `{}` at {}:{} and restore the archive?",
        counted(rows, "row"),
        counted(objects, "large object"),
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
    stop: impl Future<Output = ()>,
) -> Result<Report, Failure> {
    let total = plan.tables.iter().map(PlannedTable::rows_to_load).sum();
    let bar = progress::rows(total);
    // Rows of the tables that are done.
    let mut done = 0;
    let observe = |event: Event<'_>| match event {
        Event::Step(Step::Commit) => {
            COMMITTING.store(true, Ordering::Relaxed);
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
    let mut restore = std::pin::pin!(pgmig_core::restore::restore(plan, archive, connection, config, observe));
    let result = tokio::select! {
        result = &mut restore => result.map_err(Failure::from),
        () = stop => {
            if is_committing() {
                warn("the restore is being committed; wait for its end");
                restore.await.map_err(Failure::from)
            } else {
                Err(Failure::interrupted("the target is as it was before"))
            }
        }
    };
    bar.finish_and_clear();
    result
}

fn finish(report: &Report, file: &ReportFile, options: &RestoreOptions) -> Result<(), Failure> {
    // Each of the two is done whatever becomes of the other: the restore cannot be repeated.
    let written = file.write(report);
    let printed = match options.output {
        OutputFormat::Text => print(&format!("\n{}", text::report(report))).map_err(Failure::from),
        OutputFormat::Json => print_json(report).map_err(Failure::from),
    };
    written.map_err(Failure::after_result)?;
    printed.map_err(Failure::after_result)?;
    step(format_args!("committed; the report is in {}", options.args.report.display()));
    Ok(())
}
