//! What the programs of this project show, and what of it depends on whether a person is watching.

pub mod progress;
pub mod text;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use serde::Serialize;

/// `error`, in colour where that helps.
pub fn error_word() -> impl std::fmt::Display {
    console::style("error").red().bold().for_stderr()
}

/// `hint`, in colour where that helps.
pub fn hint_word() -> impl std::fmt::Display {
    console::style("hint").cyan().for_stderr()
}

/// Text that does nothing to a terminal but show itself. Names and values come
/// from archives and servers, and could hold escape sequences.
#[must_use]
pub fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// A line on standard error. Whoever stops reading it does not stop us: `eprintln!`
/// would panic, perhaps just after the commit.
pub fn tell(line: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Tells on standard error what is being done.
pub fn step(text: impl std::fmt::Display) {
    tell(format_args!("{} {}", console::style("==>").green().for_stderr(), harmless(&text.to_string())));
}

/// A warning on standard error.
pub fn warn(text: impl std::fmt::Display) {
    tell(format_args!("{}: {}", console::style("warning").yellow().for_stderr(), harmless(&text.to_string())));
}

/// Standard output could not be written.
#[derive(Debug)]
pub struct OutputError(pub io::Error);

impl OutputError {
    /// Whether whoever read our output has seen enough, as with `| head`.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

impl std::fmt::Display for OutputError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot write to standard output: {}", self.0)
    }
}

impl std::error::Error for OutputError {}

/// Prints text for people to standard output.
///
/// # Errors
///
/// It cannot be written.
pub fn print(text: &str) -> Result<(), OutputError> {
    print_text(&harmless(text))
}

/// Prints what `write` writes, in whatever encoding an archive has; a terminal gets it as UTF-8, a line at a time.
///
/// # Errors
///
/// It cannot be written, or `write` fails.
pub fn stream(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), OutputError> {
    // Not through the standard library's own buffer, which looks for the ends of lines.
    let out = io::stdout();
    let mut file: File = out.as_fd().try_clone_to_owned().map_err(OutputError)?.into();
    if !out.is_terminal() {
        return write(&mut file).map_err(OutputError);
    }
    let mut lines = HarmlessLines { out: file, rest: Vec::new() };
    write(&mut lines).and_then(|()| lines.print(lines.rest.len())).map_err(OutputError)
}

/// Passes whole lines on, each made harmless.
struct HarmlessLines<W> {
    out: W,
    /// The begin of a line.
    rest: Vec<u8>,
}

impl<W: Write> HarmlessLines<W> {
    fn print(&mut self, length: usize) -> io::Result<()> {
        let rest = self.rest.split_off(length);
        let lines = std::mem::replace(&mut self.rest, rest);
        self.out.write_all(harmless(&String::from_utf8_lossy(&lines)).as_bytes())
    }
}

impl<W: Write> Write for HarmlessLines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rest.extend_from_slice(bytes);
        if let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') {
            self.print(self.rest.len() - bytes.len() + end + 1)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Prints a JSON document to standard output, every value as it is.
///
/// # Errors
///
/// It cannot be written, or is no JSON.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(print_text(&json_text(value)?)?)
}

/// Prints text in which nothing is for a terminal to obey.
///
/// # Errors
///
/// It cannot be written.
pub fn print_text(text: &str) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(OutputError)
}

/// The document. JSON itself asks only for C0 to be escaped; the other control characters,
/// which some terminals obey too, can be.
///
/// # Errors
///
/// The value is no JSON, such as a map whose keys are not text.
pub fn json_text(value: &impl Serialize) -> serde_json::Result<String> {
    let mut text = String::new();
    for c in serde_json::to_string_pretty(value)?.chars() {
        match c {
            // Outside of strings there are none but line breaks.
            '\u{7f}'..='\u{9f}' => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => text.push(c),
        }
    }
    text.push('\n');
    Ok(text)
}

/// Whether progress can be shown.
#[must_use]
pub fn shows_progress() -> bool {
    io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_every_value_and_does_nothing_to_a_terminal() {
        let value = "a\u{1b}[2J\u{7f}\t\"\u{9b}2J\u{85}\u{e4}\u{2028}\n";
        let text = json_text(&[value]).unwrap();
        assert!(text.contains("\\u009b") && !text.chars().any(|c| c.is_control() && c != '\n'), "{text}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).unwrap(), [value]);
    }

    #[test]
    fn lines_are_harmless_wherever_they_are_cut() {
        let text = "; \u{e4}\u{1b}[2J\n\n\u{20ac} \u{9b}2J\nend".as_bytes();
        for cut in 0..=text.len() {
            let mut lines = HarmlessLines { out: Vec::new(), rest: Vec::new() };
            lines.write_all(&text[..cut]).and_then(|()| lines.write_all(&text[cut..])).unwrap();
            assert_eq!(lines.rest, b"end");
            lines.print(3).unwrap();
            let expected = "; \u{e4}\u{fffd}[2J\n\n\u{20ac} \u{fffd}2J\nend";
            assert_eq!(String::from_utf8(lines.out).unwrap(), expected);
        }
    }

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\tc\nd\u{9b}e"), "a\u{fffd}[2Jb\u{fffd}c\nd\u{fffd}e");
    }
}
