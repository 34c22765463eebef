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
mod files;
mod metrics;
mod ping;
mod source;

use std::process::ExitCode;

use anyhow::Context as _;
use chrono::Utc;
use clap::Parser;
use restore_command::{OutputFormat, Told};
use storage_backends::mirror::{self, MirrorOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::cli::{Cli, Command, Compare, ConfigCommand, Deleted, MirrorArgs, MirrorCommand};
use crate::commands::Context;
use crate::config::ConfigFile;
use crate::failure::{Failure, Status};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let told = if cli.output == OutputFormat::Json { Told::Json } else { Told::Nothing };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.print(told, failure::hint),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let config = ConfigFile::load(&cli.config, std::env::vars_os().collect())?;
    if !matches!(cli.command, Command::Config(_)) {
        config.expect_sound()?;
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().context("cannot start")?;
    let result = runtime.block_on(async {
        let context = Context { config, output: cli.output, now: Utc::now, stop: signals()? };
        command(&context, cli.command).await
    });
    // Not waiting for a thread that may still decode.
    runtime.shutdown_background();
    result
}

/// Becomes true when somebody asks us to end. Whoever asks again does not wait for what is to be cleaned up.
fn signals() -> Result<watch::Receiver<bool>, Failure> {
    // Before the work begins: no signal must end us once there is something to clean up.
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            // Once the server was told to commit a restore, only its answer says what became of it.
            if stop.send_replace(true) && !restore_command::is_committing() {
                std::process::exit(Status::Interrupted as i32);
            }
        }
    });
    Ok(stopped)
}

async fn command(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Config(ConfigCommand::Check) => commands::config_check::run(context),
        // It cleans up behind itself when it is interrupted.
        Command::Run { job } => commands::run::run(context, &job).await,
        Command::List { job } => context.interruptible(commands::list::run(context, job.as_deref())).await,
        Command::Show { job, id } => context.interruptible(commands::show::run(context, &job, &id)).await,
        // This one tells what is gone by then.
        Command::Prune { job, dry_run } => commands::prune::run(context, &job, dry_run).await,
        // This one removes a database that it has made.
        Command::Verify { job, id, restore } => commands::verify::run(context, &job, &id, restore).await,
        Command::Fetch { job, id, to, object } => {
            context.interruptible(commands::fetch::run(context, &job, &id, &to, object.as_deref())).await
        }
        // Only its end knows whether it can still be interrupted.
        Command::Restore(command) => commands::restore::run(context, *command).await,
        Command::Adopt { job } => context.interruptible(commands::adopt::run(context, &job)).await,
        Command::Mirror(mirror) => context.interruptible(self::mirror(context, mirror)).await,
        Command::Explain { job, html } => {
            context.interruptible(commands::explain::run(context, &job, html.as_deref())).await
        }
    }
}

async fn mirror(context: &Context, typed: MirrorArgs) -> Result<(), Failure> {
    let (from, to, deleted) = match (typed.command, typed.from, typed.to, typed.deleted) {
        (Some(MirrorCommand::Verify { from, to, versions: true, concurrency }), ..) => {
            return commands::mirror::verify_versions(context, &from, &to, concurrency.into()).await;
        }
        (Some(MirrorCommand::Verify { from, to, concurrency, .. }), ..) => {
            return commands::mirror::verify(context, &from, &to, concurrency.into()).await;
        }
        (None, Some(from), Some(to), Some(deleted)) => (from, to, deleted),
        (None, ..) => unreachable!("these are required without a subcommand"),
    };
    let mut options = MirrorOptions::new(match deleted {
        Deleted::Keep => mirror::Deleted::Keep,
        Deleted::Remove => mirror::Deleted::Remove,
    });
    options.compare = match typed.compare {
        Compare::Listing => mirror::Compare::Listing,
        Compare::Attributes => mirror::Compare::Attributes,
        Compare::Content => mirror::Compare::Content,
    };
    options.versions = typed.versions;
    options.concurrency = typed.concurrency.into();
    commands::mirror::run(context, &from, &to, &options).await
}
