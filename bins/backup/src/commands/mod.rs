//! What the program does, command by command.

pub(crate) mod config_check;
pub(crate) mod explain;
pub(crate) mod fetch;
pub(crate) mod list;
pub(crate) mod prune;
pub(crate) mod run;
pub(crate) mod show;
pub(crate) mod verify;

use chrono::{DateTime, Utc};

use crate::cli::OutputFormat;
use crate::config::ConfigFile;

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) config: ConfigFile,
    pub(crate) output: OutputFormat,
    /// The clock.
    pub(crate) now: fn() -> DateTime<Utc>,
}

impl Context {
    /// Whether the result is for a script.
    pub(crate) fn is_json(&self) -> bool {
        self.output == OutputFormat::Json
    }
}
