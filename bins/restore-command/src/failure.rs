//! The one place that prints an error.

use std::process::ExitCode;

use dumpfmt::{ErrorKind, SqlError};
use pgmig_core::archive::ArchiveError;
use pgmig_core::config_file::ConfigFileError;
use pgmig_core::connection::ConnectError;
use pgmig_core::error::Faults;
use pgmig_core::{mapping, resource_controller};
use serde::Serialize;
use terminal::{OutputError, text};

/// The exit status of who was interrupted.
const INTERRUPTED: u8 = 130;

/// Why the program ends with a status that is not 0.
#[derive(Debug)]
pub struct Failure {
    error: anyhow::Error,
    hint: Option<String>,
    status: u8,
    after_result: bool,
}

/// What standard output is told of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Nothing.
    Nothing,
    /// A JSON document.
    Json,
    /// A JSON document that says that the archive is not complete.
    JsonOfVerify,
}

/// Finds the hint of an error that only one of the programs knows.
pub type Hints = fn(&(dyn std::error::Error + 'static)) -> Option<String>;

/// A failure in JSON.
#[derive(Serialize)]
struct Failed<'a> {
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    complete: Option<bool>,
    error: &'a str,
    hint: Option<&'a str>,
}

impl Failure {
    /// What went wrong, and what to do next.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..Self::from(anyhow::Error::msg(message.into())) }
    }

    /// The same with a word before it on what was being done.
    #[must_use]
    pub fn context(self, context: impl Into<String>) -> Self {
        if self.status == INTERRUPTED {
            // What was being done is not what went wrong.
            return self;
        }
        Self { error: self.error.context(context.into()), ..self }
    }

    /// The same with another hint.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        if self.status == INTERRUPTED {
            return self;
        }
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same with another exit status.
    #[must_use]
    pub fn with_status(self, status: impl Into<u8>) -> Self {
        Self { status: status.into(), ..self }
    }

    /// The error of a type that is among the causes.
    #[must_use]
    pub fn cause<E: std::error::Error + 'static>(&self) -> Option<&E> {
        self.error.chain().find_map(|cause| cause.downcast_ref())
    }

    /// The exit status.
    #[must_use]
    pub fn status(&self) -> u8 {
        self.status
    }

    /// The same after the result was printed: standard output has its one document.
    #[must_use]
    pub fn after_result(self) -> Self {
        Self { after_result: true, ..self }
    }

    /// The user pressed Ctrl-C, or the system asked us to end.
    /// `state` says what that leaves.
    #[must_use]
    pub fn interrupted(state: &str) -> Self {
        let hint = format!("{state}; run the same command again when you are ready");
        Self { status: INTERRUPTED, ..Self::new("interrupted", hint) }
    }

    /// Whether it is nothing but that whoever read our output has seen enough, as with `| head`.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        self.error.chain().any(is_broken_pipe)
    }

    /// Prints the error and its hint to standard error, and to standard output what scripts read there.
    pub fn print(&self, told: Told, more: Hints) -> ExitCode {
        if self.is_broken_pipe() {
            return ExitCode::SUCCESS;
        }
        let error = self.to_string();
        terminal::tell(format_args!("{}: {}", terminal::error_word(), terminal::harmless(&error)));
        let hint = self.hint.clone().or_else(|| hint_of(&self.error, more));
        if let Some(hint) = &hint {
            terminal::tell(format_args!("{}: {}", terminal::hint_word(), terminal::harmless(hint)));
        }
        if told != Told::Nothing && !self.after_result {
            let complete = (told == Told::JsonOfVerify).then_some(false);
            // The exit status tells a reader that has gone away nothing new.
            let _ = terminal::print_json(&Failed { version: 1, complete, error: &error, hint: hint.as_deref() });
        }
        ExitCode::from(self.status)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&message(&self.error))
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
    match error.chain().find_map(|cause| cause.downcast_ref::<dumpfmt::Error>()).map(dumpfmt::Error::kind) {
        // The library tells its callers what to raise; nobody can at the command line.
        Some(kind @ ErrorKind::LimitExceeded { what, limit, field }) => {
            let limit = if field.ends_with("bytes") { text::size(*limit) } else { text::count(*limit) };
            message.replace(&kind.to_string(), &format!("{what} exceeds the limit of {limit}"))
        }
        _ => message,
    }
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    // Only of our own output: the library wraps its I/O errors in types of its own.
    error.downcast_ref::<OutputError>().is_some_and(OutputError::is_broken_pipe)
}

fn hint_of(error: &anyhow::Error, more: Hints) -> Option<String> {
    error.chain().find_map(|cause| {
        let hints = [
            cause.downcast_ref::<pgmig_core::Error>().map(pgmig_core::Error::hint),
            cause.downcast_ref::<ArchiveError>().map(ArchiveError::hint),
            cause.downcast_ref::<dumpfmt::Error>().map(|e| e.hint().map(str::to_owned)),
            cause.downcast_ref::<SqlError>().map(|e| e.hint().map(str::to_owned)),
            cause.downcast_ref::<ConfigFileError>().map(ConfigFileError::hint),
            cause.downcast_ref::<ConnectError>().map(ConnectError::hint),
            cause.downcast_ref::<Faults>().map(Faults::hint),
            cause.downcast_ref::<mapping::WriteError>().map(mapping::WriteError::hint),
            cause.downcast_ref::<resource_controller::Error>().map(resource_controller::Error::hint),
        ];
        hints.into_iter().flatten().flatten().next().or_else(|| more(cause))
    })
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { error: error.into(), hint: None, status: 1, after_result: false }
    }
}

#[cfg(test)]
mod tests {
    use dumpfmt::{ArchiveReader, Limits, example};

    use super::*;

    #[test]
    fn a_limit_is_told_without_the_name_of_a_field_of_the_library() {
        let mut limits = Limits::default();
        limits.toc_bytes = 3;
        let source = ArchiveReader::with_limits(example::archive(), limits).map(drop).unwrap_err();
        assert!(source.to_string().contains("Limits::"), "{source}");
        let error = ArchiveError::Read { path: "store.dump".into(), source };
        let failure = Failure::from(pgmig_core::Error::from(error));
        let message = message(&failure.error);
        assert!(message.contains("exceeds the limit of 3 B (at byte "), "{message}");
        assert!(hint_of(&failure.error, |_| None).unwrap().contains("damaged"));
    }
}
