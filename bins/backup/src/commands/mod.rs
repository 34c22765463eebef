//! What the program does, command by command.

pub(crate) mod adopt;
pub(crate) mod config_check;
pub(crate) mod explain;
pub(crate) mod fetch;
pub(crate) mod list;
pub(crate) mod mirror;
pub(crate) mod prune;
pub(crate) mod restore;
pub(crate) mod run;
pub(crate) mod show;
pub(crate) mod verify;

use chrono::{DateTime, Utc};
use restore_command::OutputFormat;
use serde::Serialize;
use tokio::sync::watch;

use crate::config::ConfigFile;
use crate::failure::{Failure, interrupted};

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) config: ConfigFile,
    pub(crate) output: OutputFormat,
    /// The clock.
    pub(crate) now: fn() -> DateTime<Utc>,
    /// Whether somebody asked us to end.
    pub(crate) stop: watch::Receiver<bool>,
}

impl Context {
    /// Whether the result is for a script.
    pub(crate) fn is_json(&self) -> bool {
        self.output == OutputFormat::Json
    }

    /// Prints a result: `json` for a script, `text` for people.
    pub(crate) fn print(&self, json: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        if self.is_json() {
            terminal::print_json(json)?;
        } else {
            terminal::print(&text())?;
        }
        Ok(())
    }

    /// Ends when somebody asks us to end.
    pub(crate) async fn stopped(&self) {
        // An error is that nobody listens for signals any more.
        if self.stop.clone().wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Fails once somebody has asked us to end: between steps none of which is to stay half done.
    pub(crate) fn go_on(&self) -> Result<(), Failure> {
        if *self.stop.borrow() { Err(interrupted()) } else { Ok(()) }
    }

    /// Does the work, unless somebody asks us to end: then it is dropped where it stands.
    pub(crate) async fn interruptible<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        tokio::select! {
            result = work => result,
            () = self.stopped() => Err(interrupted()),
        }
    }
}
