//! The main job: restore an archive into the target.

use anyhow::Context;
use restore_command::{Failure, Restore};
use terminal::step;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::RestoreOptions;
use crate::inspect;

pub(crate) async fn run(options: RestoreOptions) -> Result<(), Failure> {
    let profile = inspect::profile(options.profile.as_deref())?;
    let stdin_is_archive = options.source.as_os_str() == "-";
    let RestoreOptions { source, target, args, output, .. } = options;
    let options = restore_command::RestoreOptions { target, profile, output, stdin_is_archive, args };
    let open = async || {
        step(format_args!("read the contents of {}", source.display()));
        inspect::open(&source, dumpfmt::ReadOptions::default())
    };
    let Some(restore) = Restore::prepare(options, open).await? else { return Ok(()) };
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let stop = async {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    };
    restore.run(stop).await
}
