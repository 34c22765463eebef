//! What is said of an object in an archive.

use serde::{Deserialize, Serialize};

use super::{ArchiveReport, BUCKET_ARCHIVE_VERSION};
use crate::mirror::name::{OWN, path_of};
use crate::mirror::record::Sha256;
use crate::mirror::verify::content_type;
use crate::s3::Attributes;

/// What an archive says of itself in the beginning.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Beginning {
    pub(super) format: String,
    pub(super) version: u32,
    /// Whether it has all versions of each object.
    pub(super) versions: bool,
}

pub(super) const FORMAT: &str = "bucket-archive";

/// An object, a version of one, or a mark that it was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Member {
    pub(super) key: String,
    #[serde(default)]
    pub(super) attributes: Attributes,
    /// In an archive with all versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<Version>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Version {
    /// What the store called it.
    pub(super) id: String,
    /// Which one it is of its object, from 1 on.
    pub(super) number: u64,
    pub(super) is_latest: bool,
    pub(super) is_delete_marker: bool,
}

impl Member {
    pub(super) fn is_delete_marker(&self) -> bool {
        self.version.as_ref().is_some_and(|version| version.is_delete_marker)
    }

    /// The path of its file. `beside_folder` is for a name that is that of a folder as well.
    pub(super) fn path(&self, beside_folder: bool) -> String {
        match &self.version {
            // No other path ends like the one that an object has beside its folder: so this is never a file.
            Some(Version { number, is_latest, is_delete_marker, .. }) if !is_latest || *is_delete_marker => {
                format!("{OWN}/versions/{}/{number}", path_of(&self.key, true))
            }
            _ => path_of(&self.key, beside_folder),
        }
    }
}

/// The path of the report.
pub(super) fn report_path() -> String {
    format!("{OWN}/archive.json")
}

/// Makes the report of the members that it is shown.
#[derive(Clone)]
pub(super) struct Tally {
    list: Sha256,
    objects: u64,
    bytes: u64,
    delete_markers: u64,
}

impl std::fmt::Debug for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tally").field("objects", &self.objects).finish_non_exhaustive()
    }
}

impl Tally {
    pub(super) fn new() -> Self {
        Self { list: Sha256::new(), objects: 0, bytes: 0, delete_markers: 0 }
    }

    pub(super) fn add(&mut self, member: &Member, bytes: u64, sha256: &str) {
        #[derive(Serialize)]
        #[serde(rename_all = "kebab-case")]
        struct Line<'a> {
            key: &'a str,
            bytes: u64,
            sha256: &'a str,
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            is_delete_marker: bool,
            #[serde(flatten)]
            attributes: &'a Attributes,
        }
        let mut attributes = member.attributes.clone();
        attributes.content_type = content_type(&attributes).map(str::to_owned);
        let is_delete_marker = member.is_delete_marker();
        let line = Line { key: &member.key, bytes, sha256, is_delete_marker, attributes: &attributes };
        // It is nothing but texts and numbers.
        let line = serde_json::to_string(&line).expect("JSON can hold it");
        self.list.update(line.as_bytes());
        self.list.update(b"\n");
        self.bytes = self.bytes.saturating_add(bytes);
        if is_delete_marker {
            self.delete_markers += 1;
        } else {
            self.objects += 1;
        }
    }

    pub(super) fn finish(self, versions: bool, vanished: u64) -> ArchiveReport {
        let Self { list, objects, bytes, delete_markers } = self;
        let (version, sha256) = (BUCKET_ARCHIVE_VERSION, list.finish());
        ArchiveReport { version, versions, objects, bytes, delete_markers, vanished, sha256 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_version_is_in_nobodys_way() {
        let member = |key: &str, version: Option<(u64, bool, bool)>| Member {
            key: key.into(),
            attributes: Attributes::default(),
            version: version.map(|(number, is_latest, is_delete_marker)| Version {
                id: "x".into(),
                number,
                is_latest,
                is_delete_marker,
            }),
        };
        assert_eq!(member("a", None).path(false), "a");
        assert_eq!(member("a", None).path(true), "a%object");
        assert_eq!(member("a/1", Some((3, true, false))).path(false), "a/1");
        assert_eq!(member("a", Some((1, false, false))).path(false), ".mirror/versions/a%object/1");
        assert_eq!(member("a/1", Some((2, true, true))).path(true), ".mirror/versions/a/1%object/2");
        assert_eq!(member("../x", Some((2, false, true))).path(false), ".mirror/versions/%2E%2E/x%object/2");
    }
}
