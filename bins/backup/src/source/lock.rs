//! A lock for sources that have none of their own.
//!
//! A store of objects has no lock that goes with whoever holds it, and one that stays behind after a crash would be worse than
//! none. So it reaches as far as this machine; two runs on two machines make two backups, each of them whole.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;

use sha2::{Digest as _, Sha256};

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
        let path = std::env::temp_dir().join(file_name(what));
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

/// The same for every version of this program: two of them keep each other away too.
fn file_name(what: &str) -> String {
    let digest: String = Sha256::digest(what).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("backup-{digest}.lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_lock_never_changes() {
        let name = "backup-038b6152df149494701d8bc0b471f085812eee81557352abf39c0edd8c258744.lock";
        assert_eq!(file_name("the bucket https://minio:9000/models"), name);
    }
}
