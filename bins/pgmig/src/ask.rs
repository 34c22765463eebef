//! Questions to the person at the terminal.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};

/// A terminal that can be asked.
pub(crate) struct Terminal {
    answers: Box<dyn BufRead>,
}

impl Terminal {
    /// The terminal, if there is one. When standard input is the archive, it is
    /// the one that the process belongs to.
    pub(crate) fn find(stdin_is_archive: bool) -> Option<Self> {
        if !io::stderr().is_terminal() {
            return None;
        }
        if !stdin_is_archive {
            return io::stdin().is_terminal().then(|| Self { answers: Box::new(BufReader::new(io::stdin())) });
        }
        let terminal = File::open("/dev/tty").ok()?;
        Some(Self { answers: Box::new(BufReader::new(terminal)) })
    }

    /// Asks on standard error; `None` when the answers have ended (Ctrl-D).
    pub(crate) fn ask(&mut self, question: &str) -> io::Result<Option<String>> {
        let mut err = io::stderr().lock();
        write!(err, "{question} ")?;
        err.flush()?;
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            writeln!(err)?;
            return Ok(None);
        }
        Ok(Some(answer.trim().to_owned()))
    }

    /// Asks a question whose answer is yes or no; anything but yes is no.
    pub(crate) fn confirm(&mut self, question: &str) -> io::Result<bool> {
        let answer = self.ask(&format!("{question} [y/N]"))?;
        Ok(answer.is_some_and(|answer| matches!(answer.to_lowercase().as_str(), "y" | "yes")))
    }
}
