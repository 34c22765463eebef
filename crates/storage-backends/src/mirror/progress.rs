//! How far a mirroring has come.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Count;

/// How far a mirroring has come, for whoever wants to show it: a clone of what is in the options can be looked at whenever one likes.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    known: [AtomicU64; 2],
    done: [AtomicU64; 2],
}

impl Progress {
    /// What the source is known to have. It grows until it is listed to its end.
    #[must_use]
    pub fn known(&self) -> Count {
        count(&self.0.known)
    }

    /// What of it was looked at: copied, left as it is, or failed. Of an object that is being copied, the bytes so far.
    #[must_use]
    pub fn done(&self) -> Count {
        count(&self.0.done)
    }

    pub(super) fn add_known(&self, bytes: u64) {
        self.0.known[0].fetch_add(1, Relaxed);
        self.0.known[1].fetch_add(bytes, Relaxed);
    }

    /// Bytes of an object on their way.
    pub(super) fn add_bytes(&self, bytes: u64) {
        self.0.done[1].fetch_add(bytes, Relaxed);
    }

    /// An object was looked at, of which `passed` bytes were counted before.
    pub(super) fn add_done(&self, bytes: u64, passed: u64) {
        self.0.done[0].fetch_add(1, Relaxed);
        self.0.done[1].fetch_add(bytes, Relaxed);
        self.0.done[1].fetch_sub(passed, Relaxed);
    }
}

fn count([objects, bytes]: &[AtomicU64; 2]) -> Count {
    Count { objects: objects.load(Relaxed), bytes: bytes.load(Relaxed) }
}
