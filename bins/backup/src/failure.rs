//! The one place that prints an error.

use std::process::ExitCode;

use pgmig_core::config_file::ConfigFileError;
use pgmig_core::connection::ConnectError;
use serde::Serialize;
use terminal::OutputError;

/// Why the program ends with a status that is not 0.
#[derive(Debug)]
pub(crate) struct Failure {
    error: anyhow::Error,
    hint: Option<String>,
    status: Status,
    after_result: bool,
}

/// The exit status, as far as it tells what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It was not done.
    Failed = 1,
    /// The backup was made; what comes after it failed.
    AfterBackup = 3,
    /// Another run is at work.
    Locked = 4,
    /// The user or the system asked us to end.
    Interrupted = 130,
}

/// A failure in JSON.
#[derive(Serialize)]
struct Failed<'a> {
    version: u32,
    error: &'a str,
    hint: Option<&'a str>,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..Self::from(anyhow::Error::msg(message.into())) }
    }

    /// The same with a word before it on what was being done.
    pub(crate) fn context(self, context: impl Into<String>) -> Self {
        let hint = self.hint.or_else(|| hint_of(&self.error));
        Self { error: self.error.context(context.into()), hint, ..self }
    }

    pub(crate) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub(crate) fn with_status(self, status: Status) -> Self {
        Self { status, ..self }
    }

    pub(crate) fn status(&self) -> Status {
        self.status
    }

    /// The same after the result was printed: standard output has its one document.
    pub(crate) fn after_result(self) -> Self {
        Self { after_result: true, ..self }
    }

    pub(crate) fn interrupted() -> Self {
        let hint =
            "nothing half made is left under the name of a backup; run the same command again when you are ready";
        Self::new("interrupted", hint).with_status(Status::Interrupted)
    }

    /// Prints the error and its hint to standard error, and to standard output what scripts read there.
    pub(crate) fn print(&self, json: bool) -> ExitCode {
        if self.error.chain().any(|e| e.downcast_ref::<OutputError>().is_some_and(OutputError::is_broken_pipe)) {
            // Whoever read our output has seen enough, as with `| head`.
            return ExitCode::SUCCESS;
        }
        let error = self.to_string();
        terminal::tell(format_args!("{}: {}", terminal::error_word(), terminal::harmless(&error)));
        let hint = self.hint.clone().or_else(|| hint_of(&self.error));
        if let Some(hint) = &hint {
            terminal::tell(format_args!("{}: {}", terminal::hint_word(), terminal::harmless(hint)));
        }
        if json && !self.after_result {
            // The exit status tells a reader that has gone away nothing new.
            let _ = terminal::print_json(&Failed { version: 1, error: &error, hint: hint.as_deref() });
        }
        ExitCode::from(self.status as u8)
    }
}

/// The error and its causes, without those that are part of what is said already.
impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut message = String::new();
        for cause in self.error.chain().map(ToString::to_string) {
            if message.is_empty() {
                message = cause;
            } else if !message.contains(&cause) {
                message = format!("{message}: {cause}");
            }
        }
        f.write_str(&message)
    }
}

fn hint_of(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        let hints = [
            cause.downcast_ref::<ConfigFileError>().map(ConfigFileError::hint),
            cause.downcast_ref::<ConnectError>().map(ConnectError::hint),
            cause.downcast_ref::<pgmig_core::Error>().map(pgmig_core::Error::hint),
            cause.downcast_ref::<dumpfmt::Error>().map(|e| e.hint().map(str::to_owned)),
            cause.downcast_ref::<storage_backends::Error>().map(|e| e.hint().map(str::to_owned)),
        ];
        hints.into_iter().flatten().flatten().next()
    })
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { error: error.into(), hint: None, status: Status::Failed, after_result: false }
    }
}
