//! Whether a bucket has what was restored into it, by its own listing.

use std::fmt;

use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};

use super::member::Member;
use crate::error::{Error, ErrorKind};
use crate::mirror::Count;
use crate::mirror::history::Histories;
use crate::s3::Objects;

/// After how many objects the bucket is listed: as many as a page of a listing has.
const BATCH: usize = 1000;

/// Compares what was restored with what the bucket lists, a number of objects at a time, so that neither has to be in memory as a
/// whole: both are in the order of the keys.
pub(super) struct Check {
    objects: Objects,
    versions: bool,
    /// The last key that was compared.
    after: String,
    /// What the bucket has to have behind that.
    expected: Vec<Known>,
    found: Count,
    surplus: Count,
}

/// What is known of a key.
struct Known {
    key: String,
    /// The length of the object; `None` when it was removed.
    bytes: Option<u64>,
    /// How many versions there are and marks that it was removed; one where versions are not looked at.
    entries: u64,
    /// The length of all of them.
    all_bytes: u64,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("after", &self.after).field("found", &self.found).finish_non_exhaustive()
    }
}

impl Check {
    pub(super) fn new(objects: Objects, versions: bool) -> Self {
        let none = Count::default();
        Self { objects, versions, after: String::new(), expected: Vec::new(), found: none, surplus: none }
    }

    /// What comes next in the archive.
    pub(super) fn expect(&mut self, member: &Member, bytes: u64) {
        let now = (!member.is_delete_marker()).then_some(bytes);
        match self.expected.last_mut().filter(|last| last.key == member.key) {
            Some(last) => {
                last.bytes = now;
                last.entries += 1;
                last.all_bytes += bytes;
            }
            None => self.expected.push(Known { key: member.key.clone(), bytes: now, entries: 1, all_bytes: bytes }),
        }
    }

    /// Whether it is time to compare, when `next` comes next in the archive.
    pub(super) fn is_full(&self, next: &str) -> bool {
        self.expected.len() >= BATCH && self.expected.last().is_some_and(|last| last.key != next)
    }

    /// Compares the objects so far, which have to be stored; with `is_end` also with all that the bucket has behind them.
    ///
    /// # Errors
    ///
    /// The bucket does not have all of them, or one with another length; or it cannot be listed.
    pub(super) async fn compare(&mut self, is_end: bool) -> Result<(), Error> {
        let after = std::mem::take(&mut self.after);
        let last = self.expected.last().map_or_else(|| after.clone(), |last| last.key.clone());
        let mut expected = std::mem::take(&mut self.expected).into_iter().peekable();
        let mut listed = self.list(&after);
        let mut before: Option<String> = None;
        while is_end || before.as_ref().is_none_or(|before| *before < last) {
            let Some(listed) = listed.try_next().await? else { break };
            // All that follows rests on it.
            if before.as_ref().is_some_and(|before| *before >= listed.key) {
                let why = "the store does not list its objects in the order of their keys";
                return Err(self.objects.fail(ErrorKind::NotSupported, "look for", &listed.key, why));
            }
            before = Some(listed.key.clone());
            if listed.key > last && !is_end {
                break;
            }
            if let Some(expected) = expected.next_if(|expected| expected.key < listed.key) {
                return Err(self.missing(&expected));
            }
            match expected.next_if(|expected| expected.key == listed.key) {
                Some(expected) => self.compare_one(&expected, &listed)?,
                None => {
                    self.surplus.objects += listed.entries;
                    self.surplus.bytes += listed.all_bytes;
                }
            }
        }
        if let Some(expected) = expected.next() {
            return Err(self.missing(&expected));
        }
        self.after = last;
        Ok(())
    }

    /// What of the archive the bucket has, and what only the bucket has.
    pub(super) fn counts(&self) -> (Count, Count) {
        (self.found, self.surplus)
    }

    fn compare_one(&mut self, expected: &Known, listed: &Known) -> Result<(), Error> {
        let length = |bytes: Option<u64>| bytes.map_or_else(|| "removed".to_owned(), |bytes| format!("{bytes} bytes"));
        if expected.bytes != listed.bytes {
            let (archived, found) = (length(expected.bytes), length(listed.bytes));
            let why = format!("it was restored as in the archive ({archived}), and then is not so ({found})");
            return Err(self.objects.fail(ErrorKind::Incomplete, "restore", &expected.key, why));
        }
        // A request whose answer got lost has made a version twice.
        let Some(more) = listed.entries.checked_sub(expected.entries) else {
            let why = format!("{} of its versions were restored, and {} are there", expected.entries, listed.entries);
            return Err(self.objects.fail(ErrorKind::Incomplete, "restore", &expected.key, why));
        };
        self.found.objects += expected.entries;
        self.found.bytes += expected.all_bytes;
        self.surplus.objects += more;
        self.surplus.bytes += listed.all_bytes.saturating_sub(expected.all_bytes);
        Ok(())
    }

    fn missing(&self, expected: &Known) -> Error {
        let why = "it was restored, and then is not there: somebody else has removed it, or the store has lost it";
        self.objects.fail(ErrorKind::Incomplete, "restore", &expected.key, why)
    }

    fn list(&self, after: &str) -> BoxStream<'static, Result<Known, Error>> {
        if !self.versions {
            let known =
                |it: crate::s3::Listed| Known { key: it.key, bytes: Some(it.bytes), entries: 1, all_bytes: it.bytes };
            return self.objects.list_after(after).map_ok(known).boxed();
        }
        let histories = Histories::after(&self.objects, after);
        let known = stream::try_unfold(histories, |mut histories| async move {
            let Some(history) = histories.next().await? else { return Ok::<_, Error>(None) };
            let last = history.last().expect("a history has at least one version");
            let known = Known {
                key: last.key.clone(),
                bytes: (!last.is_delete_marker).then_some(last.bytes),
                entries: history.len() as u64,
                all_bytes: history.iter().map(|version| version.bytes).sum(),
            };
            Ok(Some((known, histories)))
        });
        known.boxed()
    }
}
