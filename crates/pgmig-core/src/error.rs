//! What can go wrong in a migration.

use std::fmt;

use crate::archive::ArchiveError;
use crate::config_file::ConfigFileError;

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
    /// The target's server refused or failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl Error {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Archive(e) => e.hint(),
            Self::ConfigFile(e) => e.hint(),
            Self::Faults(e) => e.hint(),
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
    /// The restore was committed; only what comes after it failed.
    Committed,
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
    pub fn code(&self) -> Option<&tokio_postgres::error::SqlState> {
        self.source.code()
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        use tokio_postgres::error::SqlState;

        if self.hint.is_some() {
            return self.hint.clone();
        }
        let text = match self.outcome {
            Outcome::Unknown => {
                "look at the target before anything else: if the restored tenants are there, it was committed"
            }
            Outcome::Committed => return None,
            Outcome::Unchanged => match self.code() {
                None => "check that the server runs and can be reached, then run the same command again",
                Some(code) if *code == SqlState::DISK_FULL => {
                    "make room on the server's disk, then run the same command again"
                }
                Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
                    "let `su_username` in the target's configuration be the owner of the tables, or a superuser"
                }
                Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => {
                    "another session uses the tables: scale the store deployment down to 0 replicas, wait for any other pgmig, then run the same command again"
                }
                Some(code) if *code == SqlState::OUT_OF_MEMORY => {
                    "let the server's administrator raise `max_locks_per_transaction`, and restart the server"
                }
                Some(_) => "correct what the server says, then run the same command again",
            },
        };
        Some(text.to_owned())
    }
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: ", self.doing)?;
        match self.source.as_db_error() {
            Some(error) => {
                write!(f, "{}", error.message())?;
                if let Some(detail) = error.detail() {
                    write!(f, ": {detail}")?;
                }
                if let Some(place) = error.where_() {
                    // COPY tells the table, line and column here, perhaps with a whole row.
                    let place: String = place.lines().next().unwrap_or_default().chars().take(300).collect();
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
            Outcome::Committed => "; the restore itself was committed",
            Outcome::Unknown => "; whether the restore was committed is not known",
        })
    }
}

impl std::error::Error for DatabaseError {}
