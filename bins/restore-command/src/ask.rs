//! Questions to the person at the terminal.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};

/// The terminal that the process belongs to, whatever its standard streams are.
const OWN_TERMINAL: &str = "/dev/tty";

/// A terminal that can be asked.
pub(crate) struct Terminal {
    questions: Box<dyn Write>,
    answers: Box<dyn BufRead>,
}

impl Terminal {
    /// The terminal, if there is one: a person is there when any of the three standard
    /// streams is a terminal. The other streams may go to files or come from them; then
    /// the process's own terminal is asked.
    ///
    /// # Errors
    ///
    /// A person is there, but the process's own terminal cannot be opened.
    pub(crate) fn find(stdin_is_archive: bool) -> io::Result<Option<Self>> {
        let (stdin, stderr) = (io::stdin().is_terminal(), io::stderr().is_terminal());
        if !stdin && !stderr && !io::stdout().is_terminal() {
            return Ok(None);
        }
        let answers: Box<dyn BufRead> = if stdin && !stdin_is_archive {
            Box::new(BufReader::new(io::stdin()))
        } else {
            Box::new(BufReader::new(File::open(OWN_TERMINAL)?))
        };
        let questions: Box<dyn Write> =
            if stderr { Box::new(io::stderr()) } else { Box::new(File::options().write(true).open(OWN_TERMINAL)?) };
        Ok(Some(Self { questions, answers }))
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
