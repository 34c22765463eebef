//! What depends on whether a person is watching.

use std::io::{self, IsTerminal, Write};

use crate::failure::OutputError;

/// `error`, in colour where that helps.
pub(crate) fn error_word() -> impl std::fmt::Display {
    console::style("error").red().bold().for_stderr()
}

/// `hint`, in colour where that helps.
pub(crate) fn hint_word() -> impl std::fmt::Display {
    console::style("hint").cyan().for_stderr()
}

/// Tells on standard error what is being done.
pub(crate) fn step(text: impl std::fmt::Display) {
    eprintln!("{} {text}", console::style("==>").green().for_stderr());
}

/// A warning on standard error.
pub(crate) fn warn(text: impl std::fmt::Display) {
    eprintln!("{}: {text}", console::style("warning").yellow().for_stderr());
}

/// Prints to standard output.
pub(crate) fn print(text: &str) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(OutputError)
}

/// Whether progress can be shown.
pub(crate) fn shows_progress() -> bool {
    io::stderr().is_terminal()
}
