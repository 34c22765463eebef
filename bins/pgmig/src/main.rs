//! `pgmig` restores a database backup into another installation, every service
//! instance ID remapped.
//!
//! This program parses, wires and prints; what it does is in `pgmig-core`.

mod ask;
mod cli;
mod convert;
mod failure;
mod inspect;
mod mapping;
mod new_archive;
mod partial;
mod progress;
mod remap;
mod repair;
mod restore;
mod source;
mod sql_options;
mod terminal;
mod test_connection;
mod text;
mod verify;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Cli, Work};
use crate::failure::Failure;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let work = match Work::try_from(cli) {
        Ok(work) => work,
        Err(usage) => usage.exit(),
    };
    let told = work.told_of_failure();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return Failure::from(anyhow::Error::new(e).context("cannot start")).print(told),
    };
    let result = runtime.block_on(async {
        match work {
            Work::Restore(options) => restore::run(*options).await,
            Work::TestConnections(options) => test_connection::run(options).await,
            Work::Inspect(options) => inspect::run(&options),
            Work::List(archive) => inspect::list(&archive),
            Work::Verify(options) => verify::run(&options),
            Work::Convert(options) => interruptible(move || convert::run(&options)).await,
            Work::Repair(command) => interruptible(move || repair::run(&command)).await,
            Work::Remap(options) => interruptible(move || remap::run(&options)).await,
        }
    });
    // Not waiting for the thread that may still read the archive.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.print(told),
    }
}

/// Runs work that makes files. Whoever interrupts it finds none of them half made.
async fn interruptible(work: impl FnOnce() -> Result<(), Failure> + Send + 'static) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let mut work = tokio::task::spawn_blocking(work);
    loop {
        tokio::select! {
            result = &mut work => return result.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic())),
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        if partial::abandon() {
            return Err(Failure::interrupted("no archive was written"));
        }
    }
}
