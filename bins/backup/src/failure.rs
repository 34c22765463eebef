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

/// The outcome of a command that has printed its result, or could not. What failed is told and has its status, whoever reads the
/// output: a pipe that was closed early must not hide it.
pub(crate) fn outcome(printed: Result<(), impl Into<Failure>>, outcome: Result<(), Failure>) -> Result<(), Failure> {
    match (printed.map_err(Into::into), outcome) {
        (printed, Ok(())) => printed,
        (Ok(()), Err(failure)) => Err(failure.after_result()),
        (Err(unprinted), Err(failure)) => {
            if !unprinted.is_broken_pipe() {
                terminal::warn(unprinted);
            }
            Err(failure.after_result())
        }
    }
}

/// What stores say of what to do next.
pub(crate) fn hint(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    cause.downcast_ref::<storage_backends::Error>()?.hint().map(str::to_owned)
}
