//! `pgmig` restores a database backup into another installation, every service
//! instance ID remapped.
//!
//! This program parses, wires and prints; what it does is in `pgmig-core`.

mod ask;
mod cli;
mod failure;
mod inspect;
mod mapping;
mod new_archive;
mod progress;
mod remap;
mod restore;
mod terminal;
mod test_connection;
mod text;
mod verify;

use std::process::ExitCode;

use clap::Parser;

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
            Work::Verify(options) => verify::run(&options),
            Work::Remap(options) => remap::run(&options),
        }
    });
    // Not waiting for the thread that may still read the archive.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.print(told),
    }
}
