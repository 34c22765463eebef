//! Questions to the person at the terminal.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};

use crate::terminal;

/// The terminal that the process belongs to, whatever its standard streams are.
const OWN_TERMINAL: &str = "/dev/tty";

/// A terminal that can be asked.
pub(crate) struct Terminal {
    questions: Box<dyn Write>,
    answers: Box<dyn BufRead>,
}

impl Terminal {
    /// The terminal, if there is one: a person is there when standard input is a
    /// terminal, or when it is the archive and the process has a terminal besides.
    /// Where standard error goes makes no difference: a question must be seen.
    pub(crate) fn find(stdin_is_archive: bool) -> Option<Self> {
        let answers: Box<dyn BufRead> = if stdin_is_archive {
            Box::new(BufReader::new(File::open(OWN_TERMINAL).ok()?))
        } else if io::stdin().is_terminal() {
            Box::new(BufReader::new(io::stdin()))
        } else {
            return None;
        };
        let questions: Box<dyn Write> = if io::stderr().is_terminal() {
            Box::new(io::stderr())
        } else {
            Box::new(File::options().write(true).open(OWN_TERMINAL).ok()?)
        };
        Some(Self { questions, answers })
    }

    /// Shows text.
    pub(crate) fn show(&mut self, text: &str) -> io::Result<()> {
        self.questions.write_all(terminal::harmless(text).as_bytes())?;
        self.questions.flush()
    }

    /// Asks; `None` when the answers have ended (Ctrl-D).
    pub(crate) fn ask(&mut self, question: &str) -> io::Result<Option<String>> {
        self.show(&format!("{question} "))?;
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            self.show("\n")?;
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
