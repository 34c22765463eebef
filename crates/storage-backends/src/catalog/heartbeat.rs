//! That a backup is still being made, for those who clean up.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{BackupId, Catalog};
use crate::backend::Existing;
use crate::error::Error;
use crate::key::Key;

/// How often the heart beats: often for a grace time of an hour, and seldom for a store that keeps every one as a version.
const INTERVAL: Duration = Duration::from_secs(15 * 60);

/// The heartbeat of whoever makes a backup: parts of an object that are on their way cannot be listed, and a dump can take longer
/// than the time after which what a killed run left behind is removed.
///
/// It is an object of its own. To write the claim anew would bring it back where somebody has just removed it to clean up, and
/// then neither of the two would see the other.
#[derive(Clone, Debug)]
pub(super) struct Heartbeat {
    catalog: Catalog,
    id: BackupId,
    interval: Duration,
    /// When it beat last, for whichever object of the backup.
    last: Arc<Mutex<Instant>>,
}

impl Heartbeat {
    /// Of a backup that was claimed just now, which is the first beat.
    pub(super) fn new(catalog: Catalog, id: BackupId) -> Self {
        Self { catalog, id, interval: INTERVAL, last: Arc::new(Mutex::new(Instant::now())) }
    }

    /// Beats, if it is time for that.
    ///
    /// # Errors
    ///
    /// The backup was cleaned up: what is stored from now on would be in vain.
    pub(super) async fn beat(&self) -> Result<(), Error> {
        {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.elapsed() < self.interval {
                return Ok(());
            }
            *last = Instant::now();
        }
        let backend = &self.catalog.backend;
        if let Ok(None) = backend.stat(&self.catalog.claim_of(&self.id)).await {
            return Err(self.catalog.cleaned_up(&self.id));
        }
        // One that is left out is no harm, as long as a later one is: nothing that is stored depends on it, and whether
        // the claim is still there is looked at when the backup is published.
        let _ = self.write(&self.catalog.heartbeat_of(&self.id)).await;
        Ok(())
    }

    async fn write(&self, key: &Key) -> Result<(), Error> {
        let mut object = self.catalog.backend.put(key, Existing::Replace).await?;
        object.write(Bytes::from_static(b"A backup was still being made here when this was written.\n")).await?;
        object.commit().await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::error::ErrorKind;
    use crate::local::Local;
    use crate::manifest::Manifest;

    #[tokio::test]
    async fn a_backup_that_takes_longer_than_the_grace_time_is_not_cleaned_up() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::at_root(Arc::new(Local::open(folder.path()).unwrap()));
        let id: BackupId = "20261121T230004Z".parse().unwrap();
        let at = |name: &str| folder.path().join(id.as_str()).join(name);
        let hour = Duration::from_secs(3600);
        let mut backup = catalog.begin(id.clone()).await.unwrap();
        let mut object = backup.object("store.dump").await.unwrap();
        object.write("PG".into()).await.unwrap();
        assert!(!at("still-being-made").exists(), "it was claimed just now");

        // An hour later, seen from now.
        let age = || {
            for name in ["being-made", "still-being-made"].map(at) {
                let file = std::fs::File::options().write(true).open(name);
                let _ = file.map(|file| file.set_modified(SystemTime::now() - hour).unwrap());
            }
        };
        age();
        backup.heartbeat.as_mut().unwrap().interval = Duration::ZERO;
        let mut other = backup.object("globals.dump").await.unwrap();
        for _ in 0..2 {
            other.write("PG".into()).await.unwrap();
            assert!(catalog.clean_up(hour, SystemTime::now()).await.unwrap().removed.is_empty());
            age();
        }
        backup.add(other).await.unwrap();
        assert!(catalog.clean_up(hour, SystemTime::now()).await.unwrap().removed.is_empty());
        object.abort().await.unwrap();
        let manifest = Manifest::new(backup.id(), "store", id.time());
        backup.publish(manifest).await.unwrap();
        assert!(!at("being-made").exists() && !at("still-being-made").exists());
        assert_eq!(catalog.list().await.unwrap().backups.len(), 1);
    }

    #[tokio::test]
    async fn a_backup_that_was_cleaned_up_is_given_up_before_it_is_at_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::at_root(Arc::new(Local::open(folder.path()).unwrap()));
        let id: BackupId = "20261121T230004Z".parse().unwrap();
        let mut backup = catalog.begin(id.clone()).await.unwrap();
        backup.heartbeat.as_mut().unwrap().interval = Duration::ZERO;
        let mut object = backup.object("store.dump").await.unwrap();
        object.write("PG".into()).await.unwrap();
        let later = SystemTime::now() + Duration::from_secs(7200);
        assert_eq!(catalog.clean_up(Duration::from_secs(3600), later).await.unwrap().removed, [id]);
        let error = object.write("DMP".into()).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Incomplete && error.to_string().contains("cleaned it up"), "{error}");
        drop(object);
        assert!(catalog.list().await.unwrap().incomplete.is_empty(), "no heartbeat is left where nothing is");
    }
}
