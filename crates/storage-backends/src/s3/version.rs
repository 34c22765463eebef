//! Versions of objects, in buckets that keep them.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::SystemTime;

use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::types::{BucketVersioningStatus, EncodingType, VersioningConfiguration};
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};

use super::backend::decoded;
use super::object::Objects;
use super::store::{Store, time};
use crate::error::{Error, ErrorKind};

/// How many versions an object may have: they are listed from the newest to the oldest, and needed the other way round.
const MAX_VERSIONS: usize = 100_000;

/// A version of an object, or a mark that it was removed.
#[derive(Clone, Debug)]
pub(crate) struct ListedVersion {
    /// The object's name without what all keys begin with.
    pub(crate) key: String,
    pub(crate) id: String,
    pub(crate) bytes: u64,
    pub(crate) modified: SystemTime,
    /// It is what the object is now.
    pub(crate) is_latest: bool,
    /// The object was removed; it has no bytes.
    pub(crate) is_delete_marker: bool,
}

/// Where a listing goes on.
type Marker = (Option<String>, Option<String>);

struct Pages {
    store: Arc<Store>,
    next: Option<Marker>,
    /// Of the last key so far, the newest first.
    group: Vec<ListedVersion>,
}

impl Objects {
    /// All versions of all objects, in the order of the keys, and of each the oldest first.
    pub(crate) fn list_versions(&self) -> BoxStream<'static, Result<ListedVersion, Error>> {
        self.list_versions_after("")
    }

    /// The same, from behind this key on.
    pub(crate) fn list_versions_after(&self, key: &str) -> BoxStream<'static, Result<ListedVersion, Error>> {
        let begin = (!key.is_empty()).then(|| self.name(key));
        let pages = Pages { store: Arc::clone(&self.store), next: Some((begin, None)), group: Vec::new() };
        let groups = stream::try_unfold(pages, |mut pages| async move {
            let Some(marker) = pages.next.take() else { return Ok(None) };
            let mut found = Vec::new();
            let (listed, next) = page(&pages.store, marker).await?;
            for version in listed {
                if pages.group.last().is_some_and(|last| last.key != version.key) {
                    found.extend(pages.group.drain(..).rev());
                }
                pages.group.push(version);
                if pages.group.len() > MAX_VERSIONS {
                    let why = format!("it has more than {MAX_VERSIONS} versions");
                    let name = format!("{}{}", pages.store.root, pages.group[0].key);
                    return Err(pages.store.fail(ErrorKind::NotSupported, "list the versions of", &name, why));
                }
            }
            pages.next = next;
            if pages.next.is_none() {
                found.extend(pages.group.drain(..).rev());
            }
            Ok(Some((stream::iter(found.into_iter().map(Ok)), pages)))
        });
        groups.try_flatten().boxed()
    }

    /// Whether there is nothing: no object, and with `versions` none that was removed either.
    pub(crate) async fn is_empty(&self, versions: bool) -> Result<bool, Error> {
        let Store { client, bucket, root, .. } = &*self.store;
        if versions {
            let request = client.list_object_versions().bucket(bucket).prefix(root).max_keys(1);
            let page = request.send().await.map_err(|e| self.store.error("list the versions in", root, &e))?;
            return Ok(page.versions().is_empty() && page.delete_markers().is_empty());
        }
        let request = client.list_objects_v2().bucket(bucket).prefix(root).max_keys(1);
        let page = request.send().await.map_err(|e| self.store.error("list", root, &e))?;
        Ok(page.contents().is_empty())
    }

    /// Whether the bucket is there and can be listed.
    pub(crate) async fn look(&self) -> Result<(), Error> {
        self.store.look().await
    }

    /// Whether what is stored under a name that is taken becomes another version.
    pub(crate) async fn has_versions(&self) -> Result<bool, Error> {
        let told = match self.store.client.get_bucket_versioning().bucket(&self.store.bucket).send().await {
            Err(e) if e.code() == Some("NotImplemented") => return Ok(false),
            other => other.map_err(|e| self.store.error("read the versioning of", "", &e))?,
        };
        Ok(told.status() == Some(&BucketVersioningStatus::Enabled))
    }

    /// Lets the bucket keep versions from now on.
    pub(crate) async fn keep_versions(&self) -> Result<(), Error> {
        let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let request = self.store.client.put_bucket_versioning().bucket(&self.store.bucket);
        let set = request.versioning_configuration(enabled).send().await;
        set.map(drop).map_err(|e| self.store.error("turn on the versioning of", "", &e))
    }
}

/// Some versions in the order of the keys, and of each the newest first; and where the next ones begin.
async fn page(store: &Store, marker: Marker) -> Result<(Vec<ListedVersion>, Option<Marker>), Error> {
    let request = store.client.list_object_versions().bucket(&store.bucket).prefix(&store.root);
    // Some names cannot be written in XML.
    let request = request.encoding_type(EncodingType::Url);
    let request = request.set_key_marker(marker.0.clone()).set_version_id_marker(marker.1.clone());
    let page = request.send().await.map_err(|e| store.error("list the versions in", &store.root, &e))?;
    let encoding = page.encoding_type();
    let (mut versions, mut markers) = (Vec::new(), Vec::new());
    for version in page.versions() {
        versions.push(ListedVersion {
            key: key(store, version.key(), encoding)?,
            id: version.version_id().unwrap_or("null").to_owned(),
            bytes: version.size().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
            modified: time(version.last_modified()),
            is_latest: version.is_latest() == Some(true),
            is_delete_marker: false,
        });
    }
    for marker in page.delete_markers() {
        markers.push(ListedVersion {
            key: key(store, marker.key(), encoding)?,
            id: marker.version_id().unwrap_or("null").to_owned(),
            bytes: 0,
            modified: time(marker.last_modified()),
            is_latest: marker.is_latest() == Some(true),
            is_delete_marker: true,
        });
    }
    let found = merged(versions, markers);
    if page.is_truncated != Some(true) {
        return Ok((found, None));
    }
    // Not the key that the store names: some encode it and some do not (Ceph 16 is one), and say the same of it.
    let next = (found.last().map(|last| last.key.as_str()), page.next_version_id_marker.clone());
    let next = (next.0.map(|key| format!("{}{key}", store.root)), next.1);
    if next.0.is_none() || next == marker {
        let why = "the store does not tell how the listing goes on";
        return Err(store.fail(ErrorKind::Incomplete, "list the versions in", &store.root, why.into()));
    }
    Ok((found, Some(next)))
}

/// Both kinds, which the SDK tells apart from each other: each in its own order, by time in between. Where times are the same,
/// an object was removed after it was stored.
fn merged(versions: Vec<ListedVersion>, markers: Vec<ListedVersion>) -> Vec<ListedVersion> {
    let mut found = Vec::with_capacity(versions.len() + markers.len());
    let (mut versions, mut markers) = (versions.into_iter().peekable(), markers.into_iter().peekable());
    loop {
        let order = |it: &ListedVersion| (Reverse(it.is_latest), Reverse(it.modified));
        let is_marker = match (versions.peek(), markers.peek()) {
            (Some(version), Some(marker)) => (&marker.key, order(marker)) <= (&version.key, order(version)),
            (None, Some(_)) => true,
            _ => false,
        };
        let Some(next) = (if is_marker { markers.next() } else { versions.next() }) else { return found };
        found.push(next);
    }
}

fn key(store: &Store, name: Option<&str>, encoding: Option<&EncodingType>) -> Result<String, Error> {
    let name = decoded(name.unwrap_or_default(), encoding);
    name.strip_prefix(&store.root).map(str::to_owned).ok_or_else(|| {
        let why = "the listing has names in it that were not asked for, or that are not UTF-8";
        store.fail(ErrorKind::NotSupported, "list the versions in", &store.root, why.into())
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn versions_and_marks_are_told_in_the_order_in_which_they_came() {
        let entry = |key: &str, id: u64, second: u64, is_latest, is_delete_marker| ListedVersion {
            key: key.into(),
            id: id.to_string(),
            bytes: 0,
            modified: SystemTime::UNIX_EPOCH + Duration::from_secs(second),
            is_latest,
            is_delete_marker,
        };
        let versions = vec![
            entry("a", 1, 5, false, false),
            // By a clock that jumped: each kind stays in its order.
            entry("a", 2, 9, false, false),
            entry("b", 5, 7, true, false),
            entry("b", 7, 7, false, false),
            entry("d", 9, 1, true, false),
        ];
        let markers = vec![
            entry("a", 0, 5, true, true),
            entry("a", 3, 4, false, true),
            entry("a", 4, 3, false, true),
            entry("b", 6, 7, false, true),
            entry("c", 8, 1, true, true),
        ];
        let found = merged(versions, markers);
        let ids: Vec<_> = found.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(ids, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    }
}
