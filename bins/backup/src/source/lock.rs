//! A lock for sources that have none of their own.
//!
//! A store of objects has no lock that goes with whoever holds it, and one that stays behind after a crash would be worse than
//! none. So it reaches as far as this machine; two runs on two machines make two backups, each of them whole.

use std::fs::{File, OpenOptions, TryLockError};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::OpenOptionsExt as _;

use crate::failure::{Failure, Status};

/// Keeps other runs of this machine away from a source, until it is dropped or the process ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// `what` is where the source is; a file that stands for it is locked in the folder for temporary files.
    ///
    /// # Errors
    ///
    /// Another run holds the lock, or the file cannot be made.
    pub(super) fn of(what: &str) -> Result<Self, Failure> {
        let mut hasher = DefaultHasher::new();
        what.hash(&mut hasher);
        let path = std::env::temp_dir().join(format!("backup-{:016x}.lock", hasher.finish()));
        let mut options = OpenOptions::new();
        // A link that somebody has put there is not followed.
        let no_link = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(no_link).open(&path);
        let file = file.map_err(|e| {
            let message = format!("cannot make the lock `{}`: {e}", path.display());
            Failure::new(
                message,
                "set TMPDIR to a folder that all who back it up can write to, or remove what another user left",
            )
        })?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => {
                let message = format!("another run makes a backup of {what}");
                let hint = "wait until it has ended; the lock goes with its process, however that ends";
                Err(Failure::new(message, hint).with_status(Status::Locked))
            }
            Err(TryLockError::Error(e)) => Err(Failure::from(e).context(format!("cannot lock `{}`", path.display()))),
        }
    }
}
