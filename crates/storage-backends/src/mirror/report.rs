//! What a mirroring has done, and what a verification has found.

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The version of the reports that this crate writes.
pub const MIRROR_REPORT_VERSION: u32 = 1;
/// How many failures and differences are told one by one.
const MAX_TOLD: usize = 1000;

/// Objects, and the bytes in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// How many objects.
    pub objects: u64,
    /// How many bytes they have together.
    pub bytes: u64,
}

impl Count {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// An object for which something failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its key; in a folder, the path of what is no object; empty where it is not about one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// What failed, and why.
    pub why: String,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Failure {
    pub(super) fn new(key: impl Into<String>, error: &Error) -> Self {
        Self { key: key.into(), why: error.to_string(), hint: error.hint().map(str::to_owned) }
    }
}

/// What [`mirror`](super::mirror) has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[must_use = "it tells whether everything was copied"]
pub struct MirrorReport {
    /// [`MIRROR_REPORT_VERSION`]
    pub version: u32,
    /// Where the objects are from.
    pub from: String,
    /// Where they are now.
    pub to: String,
    /// Those that were copied.
    pub copied: Count,
    /// Those that were there already.
    pub skipped: Count,
    /// Those that the source did not have, and that were removed.
    pub removed: Count,
    /// Those that the source does not have, and that are still there.
    pub surplus: Count,
    /// Those that failed, of the source's bytes.
    pub failed: Count,
    /// The first 1,000 of them.
    pub failures: Vec<Failure>,
    /// Why there are objects that were not even looked at, or not removed.
    pub stopped: Option<Failure>,
}

impl MirrorReport {
    pub(super) fn new(from: String, to: String) -> Self {
        let none = Count::default();
        Self {
            version: MIRROR_REPORT_VERSION,
            from,
            to,
            copied: none,
            skipped: none,
            removed: none,
            surplus: none,
            failed: none,
            failures: Vec::new(),
            stopped: None,
        }
    }

    /// Whether the target has all that the source has, and what was to be removed is removed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failed.objects == 0 && self.stopped.is_none()
    }

    pub(super) fn fail(&mut self, bytes: u64, failure: Failure) {
        self.failed.add(bytes);
        if self.failures.len() < MAX_TOLD {
            self.failures.push(failure);
        }
    }
}

/// In what an object of the target is not like that of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum DifferenceKind {
    /// The target does not have it.
    Missing,
    /// The source does not have it.
    Surplus,
    /// The length.
    Bytes,
    /// The SHA-256 of the bytes.
    Content,
    /// The content type.
    ContentType,
    /// Another of the headers that are kept with an object: encoding, language, disposition, cache control.
    Headers,
    /// The user metadata.
    Metadata,
    /// The tags.
    Tags,
    /// One of them could not be read.
    Unreadable,
}

/// An object that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Its key; in a folder, the path of what is no object; empty where it is not about one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// What is different.
    pub kind: DifferenceKind,
    /// What the source has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What the target has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// What [`verify`](super::verify) has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[must_use = "it tells whether both sides are the same"]
pub struct VerifyReport {
    /// [`MIRROR_REPORT_VERSION`]
    pub version: u32,
    /// The one side.
    pub from: String,
    /// The other one.
    pub to: String,
    /// The objects that are the same on both.
    pub same: Count,
    /// Those whose content type, metadata and tags nothing has recorded on one side, so that only their bytes were
    /// compared: files that nobody mirrored to their folder.
    pub bytes_only: u64,
    /// The SHA-256 of the list of what is the same, a line `SHA256 LENGTH KEY` for each object in the order of the keys, the
    /// key as a string in JSON. Two copies with the same one have the same bytes under the same keys.
    pub sha256: String,
    /// How many differences there are.
    pub different: u64,
    /// The first 1,000 of them.
    pub differences: Vec<Difference>,
}

impl VerifyReport {
    /// Whether the target is an exact copy of the source.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.different == 0
    }

    pub(super) fn differ(&mut self, difference: Difference) {
        self.different += 1;
        if self.differences.len() < MAX_TOLD {
            self.differences.push(difference);
        }
    }
}
