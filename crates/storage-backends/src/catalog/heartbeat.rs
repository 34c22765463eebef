//! That a backup is still being made, for those who clean up.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{self, Either};
use tokio::sync::oneshot;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::{BackupId, Catalog};
use crate::backend::Existing;
use crate::error::Error;
use crate::key::Key;
use crate::task::AbortOnDrop;

/// How often the heart beats: often for the shortest grace time, and seldom for a store that keeps every one as a version.
const INTERVAL: Duration = Duration::from_secs(15 * 60);

/// The heartbeat of whoever makes a backup: parts of an object that are on their way cannot be listed, and a dump can take longer
/// than the time after which what a killed run left behind is removed. It is a task of its own, since there are long times in which nothing
/// is stored, such as while somebody counts rows. Dropped, it ends.
///
/// What it writes is an object of its own. To write the claim anew would bring it back where somebody has just removed it to clean
/// up, and then neither of the two would see the other.
#[derive(Debug)]
pub(super) struct Heartbeat {
    pulse: Pulse,
    /// Dropped, it asks the task to end.
    stop: oneshot::Sender<()>,
    task: AbortOnDrop<()>,
}

/// What is known of a backup that has a heartbeat.
#[derive(Clone, Debug)]
pub(super) struct Pulse {
    catalog: Catalog,
    id: BackupId,
    is_cleaned_up: Arc<AtomicBool>,
}

impl Heartbeat {
    /// Of a backup that was claimed just now, which is the first beat.
    pub(super) fn start(catalog: Catalog, id: BackupId) -> Self {
        Self::start_every(INTERVAL, catalog, id)
    }

    fn start_every(interval: Duration, catalog: Catalog, id: BackupId) -> Self {
        let pulse = Pulse { catalog, id, is_cleaned_up: Arc::default() };
        // Made here, so that a runtime without a timer is noticed by whoever calls, not by a task.
        let mut ticks = interval_at(Instant::now() + interval, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (stop, stopped) = oneshot::channel();
        let task = AbortOnDrop::spawn(pulse.clone().beat(ticks, stopped));
        Self { pulse, stop, task }
    }

    pub(super) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Stops, and waits for a beat that is on its way: it must not bring something back that is removed next.
    ///
    /// # Errors
    ///
    /// As those of [`Pulse::check`].
    pub(super) async fn stop(self) -> Result<(), Error> {
        drop(self.stop);
        self.task.join().await;
        self.pulse.check()
    }
}

impl Pulse {
    /// That nobody has cleaned up the backup, as far as that is known.
    ///
    /// # Errors
    ///
    /// Somebody has: what is stored from now on would be in vain.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.is_cleaned_up.load(Relaxed) { Err(self.catalog.cleaned_up(&self.id)) } else { Ok(()) }
    }

    async fn beat(self, mut ticks: Interval, mut stopped: oneshot::Receiver<()>) {
        let backend = &self.catalog.backend;
        while let Either::Right(_) = future::select(&mut stopped, pin!(ticks.tick())).await {
            if let Ok(None) = backend.stat(&self.catalog.claim_of(&self.id)).await {
                self.is_cleaned_up.store(true, Relaxed);
                return;
            }
            // One that is left out is no harm, as long as a later one is: nothing that is stored depends on it, and whether
            // the claim is still there is looked at when the backup is published.
            let _ = self.write(&self.catalog.heartbeat_of(&self.id)).await;
        }
    }

    async fn write(&self, key: &Key) -> Result<(), Error> {
        let mut object = self.catalog.backend.put(key, Existing::Replace).await?;
        object.write(Bytes::from_static(b"A backup was still being made here when this was written.\n")).await?;
        object.commit().await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::time::SystemTime;

    use tempfile::TempDir;
    use tokio::time::sleep;

    use super::super::NewBackup;
    use super::*;
    use crate::error::ErrorKind;
    use crate::local::Local;
    use crate::manifest::Manifest;

    const HOUR: Duration = Duration::from_secs(3600);

    struct Vault {
        folder: TempDir,
        catalog: Catalog,
    }

    impl Vault {
        /// And a backup whose heart beats often.
        async fn begin() -> (Self, NewBackup) {
            let folder = tempfile::tempdir().unwrap();
            let catalog = Catalog::at_root(Arc::new(Local::open(folder.path()).unwrap()));
            let mut backup = catalog.begin("20261121T230004Z".parse().unwrap()).await.unwrap();
            let often = Duration::from_millis(1);
            backup.heartbeat = Some(Heartbeat::start_every(often, catalog.clone(), backup.id.clone()));
            (Self { folder, catalog }, backup)
        }

        fn file(&self, name: &str) -> PathBuf {
            self.folder.path().join("20261121T230004Z").join(name)
        }

        /// Waits until a heartbeat was written that is not old.
        async fn wait_for_a_beat(&self) {
            let is_young = |time: SystemTime| time.elapsed().is_ok_and(|age| age < HOUR / 2);
            let modified = || fs::metadata(self.file("still-being-made")).and_then(|it| it.modified());
            while !modified().is_ok_and(is_young) {
                sleep(Duration::from_millis(1)).await;
            }
        }
    }

    async fn publish(backup: NewBackup) -> Result<Manifest, Error> {
        let manifest = Manifest::new(backup.id(), "store", backup.id().time());
        backup.publish(manifest).await
    }

    #[tokio::test]
    async fn a_backup_to_which_nothing_is_written_for_long_is_not_cleaned_up() {
        let (vault, mut backup) = Vault::begin().await;
        let mut object = backup.object("store.dump").await.unwrap();
        object.write("PGDMP".into()).await.unwrap();
        backup.add(object).await.unwrap();
        for _ in 0..3 {
            for name in ["being-made", "still-being-made", "store.dump"] {
                let file = fs::File::options().write(true).open(vault.file(name));
                let _ = file.map(|file| file.set_modified(SystemTime::now() - 2 * HOUR).unwrap());
            }
            vault.wait_for_a_beat().await;
            assert!(vault.catalog.clean_up(HOUR, SystemTime::now()).await.unwrap().removed.is_empty());
        }
        publish(backup).await.unwrap();
        assert_eq!(vault.catalog.list().await.unwrap().backups.len(), 1);
    }

    #[tokio::test]
    async fn a_backup_that_was_cleaned_up_is_given_up_before_it_is_at_its_end() {
        for is_published in [false, true] {
            let (vault, backup) = Vault::begin().await;
            let mut object = backup.object("store.dump").await.unwrap();
            fs::remove_file(vault.file("being-made")).unwrap();
            while backup.heartbeat.as_ref().unwrap().pulse().check().is_ok() {
                sleep(Duration::from_millis(1)).await;
            }
            let error = if is_published {
                publish(backup).await.unwrap_err()
            } else {
                object.write("PGDMP".into()).await.unwrap_err()
            };
            assert!(error.kind() == ErrorKind::Incomplete && error.to_string().contains("cleaned it up"), "{error}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_beat_that_is_on_its_way_brings_nothing_back() {
        for round in 0..20 {
            let (vault, backup) = Vault::begin().await;
            vault.wait_for_a_beat().await;
            sleep(Duration::from_micros(200 * round)).await;
            let is_published = round % 2 == 0;
            if is_published { publish(backup).await.map(drop) } else { backup.abort().await }.unwrap();
            sleep(Duration::from_millis(20)).await;
            assert!(!vault.file("being-made").exists() && !vault.file("still-being-made").exists());
            assert_eq!(vault.file("manifest.json").exists(), is_published);
        }
    }

    #[test]
    #[should_panic(expected = "timers are disabled")]
    fn a_runtime_without_a_timer_is_noticed_when_a_backup_is_begun() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _ = runtime.block_on(Vault::begin());
    }
}
