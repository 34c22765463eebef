//! `pgmig` restores a database backup into another installation, every service
//! instance ID remapped.
//!
//! This program parses, wires and prints; what it does is in `pgmig-core`.

mod cli;
mod convert;
mod inspect;
mod new_archive;
mod partial;
mod remap;
mod repair;
mod restore;
mod source;
mod sql_options;
mod test_connection;
mod text;
mod verify;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use restore_command::Failure;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Cli, Work};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let work = match Work::try_from(cli) {
        Ok(work) => work,
        Err(usage) => usage.exit(),
    };
    let told = work.told_of_failure();
    match run(work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.print(told, |_| None),
    }
}

fn run(work: Work) -> Result<(), Failure> {
    match work {
        Work::Inspect(options) => inspect::run(&options),
        Work::List(archive) => inspect::list(&archive),
        Work::Verify(options) => verify::run(&options),
        Work::Convert(options) => interruptible(move || convert::run(&options)),
        Work::Repair(command) => interruptible(move || repair::run(&command)),
        Work::Remap(options) => interruptible(move || remap::run(&options)),
        Work::Restore(options) => with_network(restore::run(*options)),
        Work::TestConnections(options) => with_network(test_connection::run(options)),
    }
}

/// Runs work that waits for others.
fn with_network(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().context("cannot start")?;
    let result = runtime.block_on(work);
    // Not waiting for the thread that may still read the archive.
    runtime.shutdown_background();
    result
}

/// Runs work that makes files. Whoever interrupts it finds none of them half made.
fn interruptible(work: impl FnOnce() -> Result<(), Failure> + Send + 'static) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        // Before the work begins: no signal must end us once there is something to clean up.
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
        // Nothing is sent: the thread drops its end when it is done, however that comes.
        let (running, mut ended) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::Builder::new().spawn(move || {
            let _running = running;
            work()
        });
        let thread = thread.context("the system has no thread to give")?;
        loop {
            tokio::select! {
                _ = &mut ended => return thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if partial::abandon() {
                return Err(Failure::interrupted("no archive was written"));
            }
        }
    })
}
