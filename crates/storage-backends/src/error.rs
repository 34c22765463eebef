//! What can go wrong with any backend.

use std::fmt;

use crate::local::{CHECK_MOUNT, LocalError, LocalErrorKind};

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// An object could not be stored, read, listed or removed.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    doing: &'static str,
    what: String,
    why: String,
    hint: Option<&'static str>,
    cause: Option<Cause>,
}

/// Why, cut by what a caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no such object, or no such place.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// The name cannot be used.
    InvalidKey,
    /// Whoever this runs as may not do it.
    PermissionDenied,
    /// The credentials are wrong or have expired.
    Credentials,
    /// The certificate of the server is not trusted.
    Untrusted,
    /// There is no room left.
    NoSpace,
    /// The place can only be read.
    ReadOnly,
    /// The volume is not mounted, or what is behind the mount is gone.
    NotMounted,
    /// Somebody else is at work on it.
    InUse,
    /// The object is not whole: an earlier write failed, or less arrived than there should be.
    Incomplete,
    /// The object is encrypted, and none of the keys at hand fits.
    Encrypted,
    /// The object is kept by a rule of the store until some time.
    Retained,
    /// The store does not answer, or says that it cannot now; it was tried several times.
    Unavailable,
    /// The store does not have this.
    NotSupported,
    /// Something else.
    Other,
}

impl Error {
    /// `doing` completes "cannot ..."; `what` is a place or an object, without credentials.
    pub fn new(kind: ErrorKind, doing: &'static str, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { kind, doing, what: what.into(), why: why.into(), hint: None, cause: None }
    }

    /// The same with what to do next, where that is something else than for others of the kind.
    #[must_use]
    pub fn with_hint(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }

    /// The same with the error that caused it.
    #[must_use]
    pub fn with_cause(self, cause: impl Into<Cause>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }

    /// Why, cut by what can be done.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        if self.hint.is_some() {
            return self.hint;
        }
        Some(match self.kind {
            ErrorKind::NotFound => "check the name, and that the volume is mounted or the bucket exists",
            ErrorKind::AlreadyExists => "use another name, or move away what is there",
            ErrorKind::InvalidKey => {
                "use a relative name without `.` and `..`, and see that no symbolic link on its way leaves the folder"
            }
            ErrorKind::PermissionDenied => "let the user or the access key that this runs with do it",
            ErrorKind::Credentials => "renew the credentials, and check the clock of this machine",
            ErrorKind::Untrusted => "give the certificate of the CA that signed that of the server",
            ErrorKind::NoSpace => "make room, then try again",
            ErrorKind::ReadOnly => {
                "make it writable; when a file system became read-only by itself, look into the system's log for why"
            }
            ErrorKind::NotMounted => CHECK_MOUNT,
            ErrorKind::InUse => "wait until that has ended, then try again",
            ErrorKind::Incomplete => "do it again from the start",
            ErrorKind::Encrypted => "give the key file of somebody for whom it was encrypted",
            ErrorKind::Retained => "wait until the retention of the object has ended",
            ErrorKind::Unavailable => "see whether the store is up and can be reached, then try again",
            ErrorKind::NotSupported => "leave it out, or use a store that has it",
            ErrorKind::Other => return None,
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} `{}`: {}", self.doing, self.what, self.why)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

impl From<LocalError> for Error {
    fn from(error: LocalError) -> Self {
        let kind = match error.kind() {
            LocalErrorKind::OutsideRoot => ErrorKind::InvalidKey,
            LocalErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
            LocalErrorKind::NotFound => ErrorKind::NotFound,
            LocalErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            LocalErrorKind::DiskFull => ErrorKind::NoSpace,
            LocalErrorKind::ReadOnly => ErrorKind::ReadOnly,
            LocalErrorKind::NotMounted => ErrorKind::NotMounted,
            LocalErrorKind::Incomplete => ErrorKind::Incomplete,
            LocalErrorKind::Other => ErrorKind::Other,
        };
        Self::new(kind, error.doing(), error.path().display().to_string(), error.why())
    }
}
