//! Keys in text files.

use std::fmt;

/// A text with keys that cannot be used. Nothing of it is quoted, since it may be secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFileError {
    line: Option<usize>,
    why: &'static str,
}

impl KeyFileError {
    pub(crate) fn new(why: &'static str) -> Self {
        Self { line: None, why }
    }

    /// `why` is something about the line, counted from 1.
    pub(crate) fn at(line: usize, why: &'static str) -> Self {
        Self { line: Some(line), why }
    }

    /// The number of the line that it is about, counted from 1.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.line
    }
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            None => f.write_str(self.why),
            Some(line) => write!(f, "line {line} {}", self.why),
        }
    }
}

impl std::error::Error for KeyFileError {}

/// The lines that say something, with their numbers.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().map(str::trim).enumerate().map(|(index, line)| (index + 1, line));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}
