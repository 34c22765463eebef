//! Where something is, so that it can be told whether two are at the same place. What takes a secret to know is not read.

use std::fs;
use std::path::PathBuf;

use pgmig_core::config_file::Fault;
use reqwest::Url;

use super::section::Section;
use super::watson_speech::bucket_names;

/// A folder, or what is below a prefix in a bucket.
#[derive(Debug)]
pub(crate) enum Place {
    /// A folder of this machine.
    Folder(PathBuf),
    /// The URL of a bucket, with the prefix, without a slash at its end.
    Bucket(String),
}

impl Place {
    /// A bucket. However its endpoint is written, it is the same place.
    pub(super) fn bucket(endpoint: &str, bucket: &str, prefix: &str) -> Self {
        let endpoint = Url::parse(endpoint).map_or_else(|_| endpoint.to_owned(), String::from);
        let parts = [endpoint.trim_end_matches('/'), bucket, prefix.trim_matches('/')];
        Self::Bucket(parts.join("/").trim_end_matches('/').to_owned())
    }

    /// That of a destination.
    pub(super) fn of_destination(section: Section<'_>) -> Result<Self, Vec<Fault>> {
        let (mut section, kind) = section.kind(&["local", "s3"])?;
        let place = match kind {
            "local" => section.required_path("path").map(Self::Folder),
            _ => Self::of_bucket(&mut section),
        };
        section.finish_unread(place)
    }

    /// Those of a source; databases have none.
    pub(super) fn of_source(section: Section<'_>) -> Result<Vec<Self>, Vec<Fault>> {
        let (mut section, kind) = section.kind(&["postgresql", "bucket", "watson-speech"])?;
        let places = match kind {
            "bucket" => Self::of_bucket(&mut section).map(|place| vec![place]),
            "watson-speech" => match section.section("minio") {
                Some(mut minio) => {
                    let endpoint = minio.required_text("endpoint");
                    endpoint.map(|endpoint| bucket_names().map(|name| Self::bucket(&endpoint, name, "")).collect())
                }
                None => Some(Vec::new()),
            },
            _ => Some(Vec::new()),
        };
        section.finish_unread(places)
    }

    fn of_bucket(section: &mut Section<'_>) -> Option<Self> {
        let endpoint = section.required_text("endpoint");
        let bucket = section.required_text("bucket");
        let prefix = section.text("prefix").unwrap_or_default();
        Some(Self::bucket(&endpoint?, &bucket?, &prefix))
    }

    /// Whether what is in one of the two can be in the other one too.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Folder(one), Self::Folder(other)) => {
                let [one, other] = [one, other].map(|path| fs::canonicalize(path).unwrap_or_else(|_| path.clone()));
                one.starts_with(&other) || other.starts_with(&one)
            }
            (Self::Bucket(one), Self::Bucket(other)) => {
                let [one, other] = [one, other].map(|url| format!("{url}/"));
                one.starts_with(&other) || other.starts_with(&one)
            }
            _ => false,
        }
    }
}
