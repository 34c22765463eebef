//! The one place that prints an error.

use std::io;
use std::process::ExitCode;

use pgmig_core::archive::ArchiveError;
use pgmig_core::config_file::ConfigFileError;
use pgmig_core::connection::ConnectError;
use pgmig_core::error::Faults;
use pgmig_core::{mapping, resource_controller};

use crate::terminal;

/// Why the program ends with a status that is not 0.
#[derive(Debug)]
pub(crate) struct Failure {
    error: anyhow::Error,
    hint: Option<String>,
    status: u8,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { error: anyhow::Error::msg(message.into()), hint: Some(hint.into()), status: 1 }
    }

    /// The user pressed Ctrl-C, or the system asked us to end.
    pub(crate) fn interrupted() -> Self {
        let hint = "the target is as it was before; run the same command again when you are ready";
        Self { status: 130, ..Self::new("interrupted", hint) }
    }

    /// Prints the error and its hint to standard error.
    pub(crate) fn print(&self) -> ExitCode {
        if self.error.chain().any(is_broken_pipe) {
            // Whoever read our output has seen enough, as with `| head`.
            return ExitCode::SUCCESS;
        }
        terminal::tell(format_args!("{}: {}", terminal::error_word(), terminal::harmless(&message(&self.error))));
        let hint = self.hint.clone().or_else(|| hint_of(&self.error));
        if let Some(hint) = hint {
            terminal::tell(format_args!("{}: {}", terminal::hint_word(), terminal::harmless(&hint)));
        }
        ExitCode::from(self.status)
    }
}

/// The error and its causes, without those that are part of what is said already.
fn message(error: &anyhow::Error) -> String {
    let mut message = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if message.is_empty() {
            message = cause;
        } else if !message.contains(&cause) {
            message = format!("{message}: {cause}");
        }
    }
    message
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    // Only of our own output: the library wraps its I/O errors in types of its own.
    error.downcast_ref::<OutputError>().is_some_and(|e| e.0.kind() == io::ErrorKind::BrokenPipe)
}

/// Standard output could not be written.
#[derive(Debug)]
pub(crate) struct OutputError(pub(crate) io::Error);

impl std::fmt::Display for OutputError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot write to standard output: {}", self.0)
    }
}

impl std::error::Error for OutputError {}

fn hint_of(error: &anyhow::Error) -> Option<String> {
    let hints = [
        error.downcast_ref::<pgmig_core::Error>().map(pgmig_core::Error::hint),
        error.downcast_ref::<ArchiveError>().map(ArchiveError::hint),
        error.downcast_ref::<ConfigFileError>().map(ConfigFileError::hint),
        error.downcast_ref::<ConnectError>().map(ConnectError::hint),
        error.downcast_ref::<Faults>().map(Faults::hint),
        error.downcast_ref::<mapping::WriteError>().map(mapping::WriteError::hint),
        error.downcast_ref::<resource_controller::Error>().map(resource_controller::Error::hint),
    ];
    hints.into_iter().flatten().flatten().next()
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { error: error.into(), hint: None, status: 1 }
    }
}
