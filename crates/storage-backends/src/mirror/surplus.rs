//! What the target has and the source has not.

use crate::catalog::{BackupId, MANIFEST};
use crate::error::{Error, ErrorKind};

/// How many keys to remove are remembered.
pub(super) const MAX_SURPLUS: usize = 100_000;

/// Objects that only the target has.
#[derive(Debug, Default)]
pub(super) struct Surplus {
    keys: Vec<(Box<str>, u64)>,
    /// The manifest of a backup that is among them, also when its key is not remembered.
    manifest: Option<Box<str>>,
    /// How many objects the source has, and whether manifests of backups are among them.
    listed: u64,
    source_has_backups: bool,
}

impl Surplus {
    pub(super) fn add(&mut self, key: String, bytes: u64) {
        if self.manifest.is_none() && is_manifest(&key) {
            self.manifest = Some(key.as_str().into());
        }
        if self.keys.len() < MAX_SURPLUS {
            self.keys.push((key.into(), bytes));
        }
    }

    /// Notes an object of the source.
    pub(super) fn note_of_source(&mut self, key: &str) {
        self.listed += 1;
        self.source_has_backups = self.source_has_backups || is_manifest(key);
    }

    /// The first of them with their lengths, when they may be removed from `target`, which is known when both sides were listed to
    /// their ends.
    pub(super) fn into_removable(self, target: &str, is_complete: bool) -> Result<Vec<(Box<str>, u64)>, Error> {
        // Where the source has backups as well, the target is their copy, from which goes what was pruned.
        if let Some(manifest) = self.manifest.filter(|_| !self.source_has_backups) {
            let manifest = manifest.escape_debug();
            let why = format!("it holds backups, such as that of `{manifest}`, and the source has none at all");
            let hint = "mirror to another place, or keep what the source does not have";
            return Err(refuse(target, why).with_hint(hint));
        }
        // A bucket that was emptied by mistake, and a volume that is not mounted, look like that.
        if self.listed == 0 {
            return Err(refuse(target, "the source has no objects at all; empty the target yourself if that is meant"));
        }
        if !is_complete {
            return Err(refuse(target, "not everything could be copied"));
        }
        Ok(self.keys)
    }
}

/// That what is there stays.
pub(super) fn refuse(target: &str, why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Other, "remove what the source does not have from", target, why)
}

/// Whether this is the key of the manifest of a backup, wherever its catalog is.
fn is_manifest(key: &str) -> bool {
    let mut parts = key.rsplit('/');
    parts.next() == Some(MANIFEST) && parts.next().is_some_and(|id| id.parse::<BackupId>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_of_backups_are_known_by_their_keys() {
        for key in
            ["20261121T230004Z/manifest.json", "a/20261121T230004Z/manifest.json", "/20261121T230004Z/manifest.json"]
        {
            assert!(is_manifest(key), "{key}");
        }
        for key in ["manifest.json", "a/manifest.json", "20261121T230004Z/manifest.json/", "20261121T230004Z", "", "/"]
        {
            assert!(!is_manifest(key), "{key}");
        }
    }

    #[test]
    fn a_backup_is_noticed_behind_however_many_other_objects() {
        let mut surplus = Surplus::default();
        for n in 0..=MAX_SURPLUS {
            surplus.add(format!("{n:06}"), 1);
        }
        surplus.add("z/20261121T230004Z/manifest.json".into(), 1);
        surplus.note_of_source("model");
        let error = surplus.into_removable("target", true).expect_err("it has a backup");
        assert!(error.to_string().contains("`z/20261121T230004Z/manifest.json`"), "{error}");
        assert!(error.hint().is_some());
    }
}
