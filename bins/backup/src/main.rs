//! `backup` makes backups that are proven to be complete before they are called ones, keeps the right ones, and gives
//! them back.
//!
//! This program parses, wires and prints: places for backups are in `storage-backends`, rules in `retention`, archives in
//! `dumpfmt`, databases in `pgmig-core`.

mod catalog;
mod cli;
mod commands;
mod config;
mod explain;
mod failure;
mod metrics;
mod ping;
mod source;

use std::process::ExitCode;

use anyhow::Context as _;
use chrono::Utc;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Cli, Command, ConfigCommand, OutputFormat};
use crate::commands::Context;
use crate::config::ConfigFile;
use crate::failure::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.output == OutputFormat::Json;
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.print(json),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let config = ConfigFile::load(&cli.config, std::env::vars_os().collect())?;
    let context = Context { config, output: cli.output, now: Utc::now };
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().context("cannot start")?;
    let result = runtime.block_on(async {
        // Before the work begins: no signal must end us once there is something to clean up.
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
        tokio::select! {
            result = command(&context, cli.command) => result,
            _ = interrupt.recv() => Err(Failure::interrupted()),
            _ = terminate.recv() => Err(Failure::interrupted()),
        }
    });
    // Not waiting for a thread that may still decode.
    runtime.shutdown_background();
    result
}

async fn command(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Config(ConfigCommand::Check) => commands::config_check::run(context),
        Command::Run { job } => commands::run::run(context, &job).await,
        Command::List { job } => commands::list::run(context, job.as_deref()).await,
        Command::Show { job, id } => commands::show::run(context, &job, &id).await,
        Command::Verify { job, id } => commands::verify::run(context, &job, &id).await,
        Command::Fetch { job, id, to, object } => {
            commands::fetch::run(context, &job, &id, &to, object.as_deref()).await
        }
        Command::Prune { job, dry_run } => commands::prune::run(context, &job, dry_run).await,
        Command::Explain { job, html } => commands::explain::run(context, &job, html.as_deref()).await,
    }
}
