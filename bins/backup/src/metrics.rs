//! What monitoring reads: a file of OpenMetrics text, such as node_exporter's textfile collector takes.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use storage_backends::Manifest;

use crate::commands::run::rows;
use crate::config::Job;
use crate::failure::Failure;
use crate::files;

/// What is said of the last success stays when a run fails.
const OF_SUCCESS: &str = "backup_last_success_";
/// And of the pruning after it.
const OF_PRUNE: &str = "backup_last_prune_succeeded";

/// Writes the file of a job, if it has one. `made` is the manifest of the backup that was made, if one was, and whether old backups
/// were removed as the policy has it.
///
/// # Errors
///
/// It cannot be written; what was there before still is.
pub(crate) fn write(
    job: &Job,
    started: DateTime<Utc>,
    ended: DateTime<Utc>,
    made: Option<(&Manifest, bool)>,
) -> Result<(), Failure> {
    let Some(path) = &job.metrics_file else { return Ok(()) };
    let name = job.name.as_str();
    let mut text = String::new();
    let mut gauge = |metric: &str, help: &str, value: String| {
        let _ = writeln!(text, "# TYPE {metric} gauge\n# HELP {metric} {help}\n{metric}{{job=\"{name}\"}} {value}");
    };
    gauge("backup_last_run_timestamp_seconds", "When the last run ended.", seconds(ended));
    gauge("backup_last_run_succeeded", "Whether the last run made a backup.", u8::from(made.is_some()).to_string());
    match made {
        Some((manifest, is_pruned)) => {
            let help = "Whether the last run that made a backup removed what the retention policy does not keep.";
            gauge(OF_PRUNE, help, u8::from(is_pruned).to_string());
            let rows = rows(manifest);
            let duration = (ended - started).to_std().unwrap_or_default().as_secs_f64();
            let mut gauge = |metric: &str, help, value| gauge(&format!("{OF_SUCCESS}{metric}"), help, value);
            gauge("timestamp_seconds", "When the last run that succeeded ended.", seconds(ended));
            gauge("duration_seconds", "How long it took.", format!("{duration:.3}"));
            gauge("bytes", "What it stored.", manifest.bytes().to_string());
            gauge("verified_rows", "The rows that it proved to be there.", rows.to_string());
        }
        None => text += &of_last_success(path),
    }
    text += "# EOF\n";
    files::replace(path, &text)?;
    // Whoever collects it is somebody else.
    let readable = fs::set_permissions(path, fs::Permissions::from_mode(0o644));
    Ok(readable.with_context(|| format!("cannot let others read `{}`", path.display()))?)
}

fn seconds(time: DateTime<Utc>) -> String {
    format!("{}.{:03}", time.timestamp(), time.timestamp_subsec_millis())
}

/// What the file says of the last success.
fn of_last_success(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let is_of_success = |line: &&str| {
        let name = line.trim_start_matches("# TYPE ").trim_start_matches("# HELP ");
        name.starts_with(OF_SUCCESS) || name.starts_with(OF_PRUNE)
    };
    text.lines().filter(is_of_success).map(|line| format!("{line}\n")).collect()
}
