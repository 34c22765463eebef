//! How the program fails.

pub(crate) use restore_command::Failure;

/// The exit status, as far as it tells what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Status {
    /// The backup was made; what comes after it failed.
    AfterBackup = 3,
    /// Another run is at work.
    Locked = 4,
    /// The user or the system asked us to end.
    Interrupted = 130,
}

impl From<Status> for u8 {
    fn from(status: Status) -> Self {
        status as Self
    }
}

/// Somebody asked us to end.
pub(crate) fn interrupted() -> Failure {
    Failure::interrupted("nothing half made is left under the name of a backup")
}

/// What stores say of what to do next.
pub(crate) fn hint(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    cause.downcast_ref::<storage_backends::Error>()?.hint().map(str::to_owned)
}
