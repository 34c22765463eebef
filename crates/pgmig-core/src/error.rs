//! What can go wrong in a migration.

use std::fmt;

use dumpfmt::{TranscodeError, Version};
use tokio_postgres::error::SqlState;

use crate::archive::ArchiveError;
use crate::config_file::ConfigFileError;
use crate::connection::ConnectError;

/// Why a migration did not happen. Nothing was changed unless the variant says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The archive cannot be read or restored from.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A file of ours cannot be used.
    #[error(transparent)]
    ConfigFile(#[from] ConfigFileError),
    /// What was asked for does not fit what was found; every fault at once.
    #[error(transparent)]
    Faults(#[from] Faults),
    /// The archive cannot be brought into the version of the new one.
    #[error("cannot make an archive of version {version} of this one")]
    Transcode {
        /// The version of the new archive.
        version: Version,
        /// Why.
        #[source]
        source: TranscodeError,
    },
    /// There is no connection to the target's server.
    #[error(transparent)]
    Connect(Box<ConnectError>),
    /// The target's server refused or failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl From<ConnectError> for Error {
    fn from(error: ConnectError) -> Self {
        Self::Connect(Box::new(error))
    }
}

impl Error {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Archive(e) => e.hint(),
            Self::ConfigFile(e) => e.hint(),
            Self::Faults(e) => e.hint(),
            Self::Transcode { .. } => Some("choose another version of the new archive".into()),
            Self::Connect(e) => e.hint(),
            Self::Database(e) => e.hint(),
        }
    }
}

/// Faults that a user can mend, all of one kind of step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    context: String,
    faults: Vec<Fault>,
    hint: Option<String>,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(String);

impl Fault {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Faults {
    pub(crate) fn new(context: impl Into<String>, faults: Vec<Fault>) -> Self {
        Self { context: context.into(), faults, hint: None }
    }

    pub(crate) fn one(context: impl Into<String>, fault: impl Into<String>) -> Self {
        Self::new(context, vec![Fault::new(fault)])
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        self.hint.clone()
    }

    /// The faults one by one.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)?;
        match self.faults.as_slice() {
            [one] => write!(f, ": {one}"),
            several => {
                f.write_str(":")?;
                several.iter().try_for_each(|fault| write!(f, "\n  - {fault}"))
            }
        }
    }
}

impl std::error::Error for Faults {}

/// A statement that the target's server refused, or a connection that broke.
#[derive(Debug)]
pub struct DatabaseError {
    /// What was being done, to what: `load rows into public.workspace`.
    doing: String,
    source: tokio_postgres::Error,
    outcome: Outcome,
    hint: Option<String>,
}

/// What became of the target when a [`DatabaseError`] happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The target is as it was before.
    Unchanged,
    /// The connection broke while committing, and the server could not be asked
    /// afterwards.
    Unknown,
}

impl DatabaseError {
    pub(crate) fn new(doing: impl Into<String>, source: tokio_postgres::Error) -> Self {
        Self { doing: doing.into(), source, outcome: Outcome::Unchanged, hint: None }
    }

    pub(crate) fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What became of the target.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The server's code of the error, when it was the server.
    pub fn code(&self) -> Option<&SqlState> {
        self.source.code()
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        if self.hint.is_some() {
            return self.hint.clone();
        }
        let text = match (self.outcome, self.source.as_db_error()) {
            (Outcome::Unknown, _) => {
                "look at the target before anything else: if the restored tenants are there, it was committed"
            }
            (Outcome::Unchanged, None) => {
                "check that the server runs and can be reached, then run the same command again"
            }
            (Outcome::Unchanged, Some(error)) => {
                let words = format!("{} {}", error.message(), error.hint().unwrap_or_default());
                next_step(&self.doing, error.code(), &words)
            }
        };
        Some(text.to_owned())
    }
}

/// What to do about an error of the server. `words` are its message and its hint, which
/// may be in any language; the names of settings in them are not translated.
fn next_step(doing: &str, code: &SqlState, words: &str) -> &'static str {
    const LOCKED: &str = "another session uses the tables: scale the store deployment down to 0 replicas, wait for any \
                          other pgmig, then run the same command again";

    let class = code.code().get(..2).unwrap_or_default();
    match *code {
        SqlState::DISK_FULL => "make room on the server's disk, then run the same command again",
        SqlState::INSUFFICIENT_PRIVILEGE => {
            "let `su_username` in the target's configuration be the owner of the tables, or a superuser"
        }
        SqlState::LOCK_NOT_AVAILABLE | SqlState::T_R_DEADLOCK_DETECTED => LOCKED,
        SqlState::OUT_OF_MEMORY if words.contains("max_locks_per_transaction") => {
            "let the server's administrator raise `max_locks_per_transaction`, and restart the server"
        }
        SqlState::OUT_OF_MEMORY => {
            "let the server's administrator give it more memory, or end other sessions, then run the same command again"
        }
        SqlState::TOO_MANY_CONNECTIONS => {
            "end sessions that are not needed, or let the server's administrator raise `max_connections`, then run the \
             same command again"
        }
        SqlState::QUERY_CANCELED if words.contains("statement timeout") => {
            "let the server's administrator take `statement_timeout` away from whatever sets it between here and the \
             server, then run the same command again"
        }
        SqlState::QUERY_CANCELED => {
            "somebody on the server canceled the statement, or a timeout did: look at the server's log, then run the \
             same command again"
        }
        SqlState::READ_ONLY_SQL_TRANSACTION => {
            "give the server that can be written to under `host` in the target's configuration, not a standby; if it is \
             that one, take `default_transaction_read_only` away from the role and the database"
        }
        SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN | SqlState::CANNOT_CONNECT_NOW => {
            "the server was stopped, or somebody on it ended the session: wait until it runs again, then run the same \
             command again"
        }
        // The name of the view is in `doing`; the step is the only one with this verb.
        _ if doing.starts_with("refresh ") => {
            "the view's own query fails with the restored rows: correct or drop the view in the target, then run the \
             same command again"
        }
        SqlState::STRING_DATA_RIGHT_TRUNCATION => {
            "the column is shorter in the target than in the source: compare the schema versions of both, or widen it"
        }
        SqlState::UNIQUE_VIOLATION | SqlState::EXCLUSION_VIOLATION => {
            "compare the table's keys and unique indexes in the source and in the target: the target may have one more, or \
             keep rows that have the same key"
        }
        SqlState::FOREIGN_KEY_VIOLATION => {
            "a row refers to one that is neither in the archive nor kept in the target: compare the foreign keys of the \
             source and of the target, and mend the row in the source before the next dump"
        }
        SqlState::NOT_NULL_VIOLATION | SqlState::CHECK_VIOLATION => {
            "the target has a rule that the source's rows break: compare the schema versions of both"
        }
        _ if class == "22" => {
            "a value does not fit the type of its column in the target: compare the column in the source and in the \
             target, and their schema versions"
        }
        _ if class == "23" => "compare the constraints of the table in the source and in the target",
        _ if class == "53" => {
            "let the server's administrator look at what it is short of, then run the same command again"
        }
        _ => "correct what the server says, then run the same command again",
    }
}

/// What the server says, without the content of rows: messages end up in logs.
struct Words {
    message: String,
    detail: Option<String>,
    context: Option<String>,
}

impl Words {
    fn of(code: &SqlState, message: &str, detail: Option<&str>, context: Option<&str>) -> Self {
        let class = code.code().get(..2).unwrap_or_default();
        // Which key it is one has to know; whole rows are not needed.
        let is_about_keys = matches!(
            *code,
            SqlState::UNIQUE_VIOLATION | SqlState::FOREIGN_KEY_VIOLATION | SqlState::EXCLUSION_VIOLATION
        );
        // These quote names and bytes, not values.
        let quotes_names = matches!(*code, SqlState::BAD_COPY_FILE_FORMAT | SqlState::CHARACTER_NOT_IN_REPERTOIRE);
        Self {
            message: if class == "22" && !quotes_names { without_quoted(message) } else { message.to_owned() },
            detail: detail
                .filter(|_| is_about_keys || !matches!(class, "22" | "23"))
                .map(|detail| shortened(detail, LONGEST_DETAIL)),
            context: context.and_then(place_of),
        }
    }
}

/// The most characters of a detail that are shown: a key can be as long as a page.
const LONGEST_DETAIL: usize = 200;

/// What opens or closes a quotation in the languages of the server's messages.
const QUOTES: [char; 8] = ['"', '\u{ab}', '\u{bb}', '\u{201c}', '\u{201d}', '\u{201e}', '\u{300c}', '\u{300d}'];

/// The message with everything between its first and its last quotation mark left out.
fn without_quoted(message: &str) -> String {
    match (message.find(QUOTES), message.rfind(QUOTES)) {
        (Some(first), Some(last)) => {
            let after = message[last..].chars().next().map_or(last, |quote| last + quote.len_utf8());
            format!("{}\"...\"{}", &message[..first], &message[after..])
        }
        _ => message.to_owned(),
    }
}

fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Where the server was: `COPY intent, line 7, column name`. What it quotes there, or
/// writes behind a colon, is content.
fn place_of(context: &str) -> Option<String> {
    let line = context.lines().find(|line| line.starts_with("COPY ")).or_else(|| context.lines().next())?;
    let end = line.find(|c| matches!(c, ':' | '\u{ff1a}') || QUOTES.contains(&c)).unwrap_or(line.len());
    let place = line[..end].trim_end();
    (!place.is_empty()).then(|| shortened(place, LONGEST_DETAIL))
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: ", self.doing)?;
        match self.source.as_db_error() {
            Some(error) => {
                let words = Words::of(error.code(), error.message(), error.detail(), error.where_());
                f.write_str(&words.message)?;
                if let Some(detail) = words.detail {
                    write!(f, ": {detail}")?;
                }
                if let Some(place) = words.context {
                    write!(f, " ({place})")?;
                }
            }
            None => {
                write!(f, "{}", self.source)?;
                let mut cause = std::error::Error::source(&self.source);
                while let Some(error) = cause {
                    write!(f, ": {error}")?;
                    cause = error.source();
                }
            }
        }
        f.write_str(match self.outcome {
            Outcome::Unchanged => "; the target is as it was before",
            Outcome::Unknown => "; whether the restore was committed is not known",
        })
    }
}

impl std::error::Error for DatabaseError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(doing: &str, code: &str, words: &str) -> &'static str {
        next_step(doing, &SqlState::from_code(code), words)
    }

    #[test]
    fn each_kind_of_error_has_its_own_next_step() {
        for (code, words, expected) in [
            ("57014", "canceling statement due to statement timeout", "`statement_timeout`"),
            ("57014", "canceling statement due to user request", "server's log"),
            ("25006", "cannot execute TRUNCATE in a read-only transaction", "standby"),
            ("53200", "out of shared memory You might need to increase max_locks_per_transaction.", "raise"),
            ("53200", "out of memory", "more memory"),
            ("53300", "sorry, too many clients already", "max_connections"),
            ("57P01", "terminating connection due to administrator command", "ended the session"),
            ("40P01", "deadlock detected", "another session"),
            ("22001", "value too long for type character varying(5)", "shorter"),
            ("22P02", "invalid input syntax for type integer", "type of its column"),
            ("23505", "duplicate key value", "unique indexes"),
            ("23503", "violates foreign key constraint", "refers to"),
            ("23514", "violates check constraint", "rule"),
            ("42P01", "relation does not exist", "what the server says"),
        ] {
            let hint = step("load rows into public.intent", code, words);
            assert!(hint.contains(expected), "{code}: {hint}");
        }
        assert!(step("refresh public.totals", "22012", "division by zero").contains("view's own query"));
        assert!(step("refresh public.totals", "53100", "no space left").contains("disk"));
    }

    #[test]
    fn the_content_of_rows_is_not_told() {
        let told = |code: &str, message: &str, detail: Option<&str>, context: Option<&str>| {
            let words = Words::of(&SqlState::from_code(code), message, detail, context);
            format!("{}|{}|{}", words.message, words.detail.unwrap_or_default(), words.context.unwrap_or_default())
        };
        assert_eq!(
            told(
                "22P02",
                "invalid input syntax for type integer: \"Jane \"J\" Doe\"",
                None,
                Some("COPY t, line 7, column n: \"Jane \"J\" Doe\"\nCOPY Jane")
            ),
            "invalid input syntax for type integer: \"...\"||COPY t, line 7, column n"
        );
        assert_eq!(
            told(
                "22P02",
                "invalid input syntax for type json",
                Some("Token \"Jane\" is invalid."),
                Some("JSON data, line 1: Jane...\nCOPY t, line 2, column j: \"Jane\"")
            ),
            "invalid input syntax for type json||COPY t, line 2, column j"
        );
        assert_eq!(told("22003", "\u{ab}9999\u{bb} ist zu gro\u{df}", None, None), "\"...\" ist zu gro\u{df}||");
        assert_eq!(
            told(
                "23502",
                "null value in column \"a\" of relation \"t\" violates not-null constraint",
                Some("Failing row contains (Jane, null)."),
                Some("COPY t, line 1: \"Jane\t\\N\"")
            ),
            "null value in column \"a\" of relation \"t\" violates not-null constraint||COPY t, line 1"
        );
        assert_eq!(told("22P04", "missing data for column \"b\"", None, None), "missing data for column \"b\"||");
        assert_eq!(told("22023", "odd \"", None, Some("\"Jane\"")), "odd \"...\"||");
    }

    #[test]
    fn keys_are_told_up_to_200_characters() {
        let detail = format!("Key (name)=({}) already exists.", "\u{e4}".repeat(300));
        let words = Words::of(&SqlState::UNIQUE_VIOLATION, "duplicate key", Some(&detail), None);
        let shown = words.detail.unwrap();
        assert!(shown.starts_with("Key (name)=(") && shown.ends_with("..."), "{shown}");
        assert_eq!(shown.chars().count(), 203);
    }
}
