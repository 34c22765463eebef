//! The cost of one process.

use std::fs::{self, File};
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use wait4::Wait4;

/// How much of its output is kept, in bytes.
const MOST_SAID: u64 = 4 << 10;

/// What a process took until it ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// From start to end.
    pub wall: Duration,
    /// Of the process and the children that it waited for, in user and system mode.
    pub cpu: Duration,
    /// The most memory that it had resident, in bytes; with children, of the largest process. A
    /// process starts with what its parent has, so nothing below the size of this one is seen.
    pub peak_rss: u64,
}

impl Usage {
    /// Of one process after another.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        Self { wall: self.wall + next.wall, cpu: self.cpu + next.cpu, peak_rss: self.peak_rss.max(next.peak_rss) }
    }
}

/// Runs a program to its end. Its output is dropped, unless it fails.
///
/// # Errors
///
/// When it does not start or does not succeed.
pub fn measure(command: &mut Command) -> Result<Usage> {
    command.stdout(Stdio::null());
    run(command)
}

/// As [`measure`], and returns the begin of what the program printed. The rest is not read: memory that
/// this process once had would count as that of all its children.
///
/// # Errors
///
/// When it does not start or does not succeed.
pub fn measure_output(command: &mut Command) -> Result<(Usage, String)> {
    let output = tempfile::NamedTempFile::new().context("cannot make a temporary file")?;
    command.stdout(output.reopen()?);
    let usage = run(command)?;
    let mut said = Vec::new();
    output.as_file().take(MOST_SAID).read_to_end(&mut said)?;
    Ok((usage, String::from_utf8_lossy(&said).into_owned()))
}

/// The same of a command whose standard output is `file`.
///
/// # Errors
///
/// It cannot be started, or fails; the error has its standard error.
pub fn measure_into(command: &mut Command, file: File) -> Result<Usage> {
    command.stdout(file);
    run(command)
}

fn run(command: &mut Command) -> Result<Usage> {
    // What another one has written is not to be brought to the disk at this one's cost.
    rustix::fs::sync();
    let name = command.get_program().to_string_lossy().into_owned();
    let errors = tempfile::NamedTempFile::new().context("cannot make a temporary file")?;
    command.stderr(errors.reopen()?);
    let started = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot start `{name}`"))?;
    let ended = child.wait4().with_context(|| format!("cannot wait for `{name}`"))?;
    let wall = started.elapsed();
    if !ended.status.success() {
        let said = fs::read_to_string(errors.path()).unwrap_or_default();
        bail!("`{name}` failed ({}):\n{said}", ended.status);
    }
    Ok(Usage { wall, cpu: ended.rusage.utime + ended.rusage.stime, peak_rss: ended.rusage.maxrss })
}
