//! What the target has and the source has not.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::{BackupId, MANIFEST};
use crate::error::{Error, ErrorKind};

/// How many keys to remove are remembered.
pub(super) const MAX_SURPLUS: usize = 100_000;
/// In how many folders of the source backups are remembered.
const MAX_CATALOGS: usize = 10_000;

/// Objects that only the target has.
#[derive(Debug, Default)]
pub(super) struct Surplus {
    keys: Vec<(Box<str>, u64)>,
    /// The folders of backups that are among them, each with a manifest in it, also when its key is not remembered.
    catalogs: BTreeMap<Box<str>, Box<str>>,
    /// How many objects the source has, and in which folders it has backups.
    listed: u64,
    catalogs_of_source: BTreeSet<Box<str>>,
}

impl Surplus {
    pub(super) fn add(&mut self, key: String, bytes: u64) {
        // One more than the source can have: then one of them is not there.
        if let Some(catalog) = catalog_of(&key)
            && self.catalogs.len() <= MAX_CATALOGS
        {
            self.catalogs.entry(catalog.into()).or_insert_with(|| key.as_str().into());
        }
        if self.keys.len() < MAX_SURPLUS {
            self.keys.push((key.into(), bytes));
        }
    }

    /// Notes an object of the source.
    pub(super) fn note_of_source(&mut self, key: &str) {
        self.listed += 1;
        if let Some(catalog) = catalog_of(key)
            && self.catalogs_of_source.len() < MAX_CATALOGS
        {
            self.catalogs_of_source.insert(catalog.into());
        }
    }

    /// The first of them with their lengths, when they may be removed from `target`, which is known when both sides were listed to
    /// their ends.
    pub(super) fn into_removable(self, target: &str, is_complete: bool) -> Result<Vec<(Box<str>, u64)>, Error> {
        // Where the source has backups in the same folder, the target has their copy, from which goes what was pruned.
        let is_of_others = |catalog: &str| !self.catalogs_of_source.contains(catalog);
        if let Some((_, manifest)) = self.catalogs.iter().find(|(catalog, _)| is_of_others(catalog)) {
            let manifest = manifest.escape_debug();
            let why =
                format!("it holds backups, such as that of `{manifest}`, and the source has none in the same folder");
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

/// If this is the key of the manifest of a backup: the folder of the catalog that it belongs to, which is empty at the root.
fn catalog_of(key: &str) -> Option<&str> {
    let folder = key.strip_suffix(MANIFEST)?.strip_suffix('/')?;
    let (catalog, id) = folder.rsplit_once('/').unwrap_or(("", folder));
    id.parse::<BackupId>().is_ok().then_some(catalog)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_of_backups_are_known_by_their_keys() {
        for key in
            ["20261121T230004Z/manifest.json", "a/20261121T230004Z/manifest.json", "/20261121T230004Z/manifest.json"]
        {
            assert!(catalog_of(key).is_some(), "{key}");
        }
        for key in ["manifest.json", "a/manifest.json", "20261121T230004Z/manifest.json/", "20261121T230004Z", "", "/"]
        {
            assert_eq!(catalog_of(key), None, "{key}");
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
