//! What is written down of an object when it was copied, so that it need not be read again.

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::digest::hex;
use crate::s3::Attributes;

/// The name of the metadata that an object in a bucket has of us.
pub(super) const RECORD: &str = "mirror-record";
/// What S3 allows for all metadata of an object.
const MAX_METADATA_BYTES: usize = 2048;

/// What is known of a file of a folder that objects are mirrored to, or of one that came from there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) bytes: u64,
    pub(super) sha256: String,
    /// The [mark](super::place::Entry::mark) of what it is a copy of.
    pub(super) source: String,
    /// `None` before the file has its name.
    pub(super) file: Option<Stamp>,
    #[serde(flatten)]
    pub(super) attributes: Attributes,
}

/// What changes when somebody writes to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    pub(super) inode: u64,
    /// Nanoseconds of the Unix time.
    pub(super) modified: i64,
    pub(super) changed: i64,
}

/// What an object of a bucket says of what it is a copy of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BucketRecord {
    /// `None` where it was not known yet when the object was begun.
    pub(super) sha256: Option<String>,
    mark: String,
    pub(super) tags: usize,
}

impl BucketRecord {
    pub(super) fn new(sha256: Option<String>, mark: &str, tags: usize) -> Self {
        Self { sha256, mark: short(mark), tags }
    }

    /// Takes the record out of an object's metadata, which has to be without it.
    pub(crate) fn take(attributes: &mut Attributes) -> Option<Self> {
        let text = attributes.metadata.remove(RECORD)?;
        let mut words = text.split(' ');
        let (version, sha256, mark, tags) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let sha256 = (sha256 != "-").then(|| sha256.to_owned());
        // That of a later version says nothing to this one.
        (version == "1").then_some(Self { sha256, mark: mark.into(), tags: tags.parse().ok()? })
    }

    /// Adds the record to an object's metadata, if there is room.
    pub(super) fn add(&self, attributes: &mut Attributes) {
        let Self { sha256, mark, tags } = self;
        let text = format!("1 {} {mark} {tags}", sha256.as_deref().unwrap_or("-"));
        let used: usize = attributes.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        if used + RECORD.len() + text.len() <= MAX_METADATA_BYTES {
            attributes.metadata.insert(RECORD.into(), text);
        }
    }

    pub(super) fn is_of(&self, mark: &str) -> bool {
        !mark.is_empty() && self.mark == short(mark)
    }
}

/// A mark that is no longer than metadata should be, and that any text can be in.
fn short(mark: &str) -> String {
    Sha256::of(mark.as_bytes())[..32].to_owned()
}

/// The SHA-256 of what is passed on.
#[derive(Clone)]
pub(crate) struct Sha256(Context);

impl Sha256 {
    pub(crate) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    pub(crate) fn of(bytes: &[u8]) -> String {
        let mut sha256 = Self::new();
        sha256.update(bytes);
        sha256.finish()
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// In hexadecimal digits.
    pub(crate) fn finish(self) -> String {
        hex(self.0.finish().as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_of_an_object_is_no_metadata_of_its_source() {
        let mut attributes = Attributes::default();
        attributes.metadata.insert("color".into(), "blue".into());
        for sha256 in [None, Some(Sha256::of(b"content"))] {
            let mut stored = attributes.clone();
            let record = BucketRecord::new(sha256, "tag 5 2026", 2);
            record.add(&mut stored);
            assert_ne!(stored, attributes);
            assert_eq!(BucketRecord::take(&mut stored), Some(record.clone()));
            assert_eq!(stored, attributes);
            assert!(record.is_of("tag 5 2026") && !record.is_of("tag 5 2027") && !record.is_of(""));
        }
        for text in ["", "2 - x 0", "1 - x", "1 - x many"] {
            attributes.metadata.insert(RECORD.into(), text.into());
            assert_eq!(BucketRecord::take(&mut attributes), None, "{text}");
        }
    }

    #[test]
    fn metadata_that_leaves_no_room_stays_as_it_is() {
        let mut attributes = Attributes::default();
        attributes.metadata.insert("all".into(), "x".repeat(2000));
        let before = attributes.clone();
        BucketRecord::new(None, "mark", 0).add(&mut attributes);
        assert_eq!(attributes, before);
    }
}
