//! A bucket as a [`Backend`].

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_sdk_s3::types::EncodingType;
use bytes::Bytes;
use futures_util::future;
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use uuid::Uuid;

use super::S3;
use super::store::{Content, Store, time};
use super::upload::S3Upload;
use crate::backend::{Abandoned, Backend, Download, Existing, ObjectInfo, Upload};
use crate::error::Error;
use crate::key::{Key, STAGING_PREFIX};

#[async_trait]
impl Backend for S3 {
    fn location(&self) -> String {
        self.store.location()
    }

    async fn put(&self, key: &Key, existing: Existing) -> Result<Box<dyn Upload>, Error> {
        let name = self.store.name(key);
        if existing == Existing::Keep && self.store.find(&name).await?.is_some() {
            return Err(self.store.taken(&name));
        }
        Ok(Box::new(S3Upload::new(Arc::clone(&self.store), key.clone(), existing)))
    }

    async fn put_if_absent(&self, key: &Key, content: Bytes) -> Result<(), Error> {
        let bytes = content.len() as u64;
        let writer = Uuid::new_v4().to_string();
        self.store.publish_if_free(key, &Content::Whole(content), bytes, &writer).await?;
        self.store.retain(&self.store.name(key), &writer).await
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Download, Error> {
        self.store.read(key, range).await
    }

    async fn stat(&self, key: &Key) -> Result<Option<ObjectInfo>, Error> {
        let found = self.store.find(&self.store.name(key)).await?;
        Ok(found.map(|found| ObjectInfo::new(key.clone(), found.bytes, found.modified)))
    }

    async fn list(&self, folder: Option<&Key>) -> BoxStream<'_, Result<ObjectInfo, Error>> {
        let prefix = folder.map_or_else(|| self.store.root.clone(), |folder| format!("{}/", self.store.name(folder)));
        // Names that are no keys belong to others, or are our own claims.
        let info = |(name, bytes, modified): (String, u64, SystemTime)| {
            self.store.key(&name).map(|key| ObjectInfo::new(key, bytes, modified))
        };
        objects(&self.store, prefix).try_filter_map(move |object| future::ready(Ok(info(object)))).boxed()
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        self.store.remove(&self.store.name(key)).await
    }

    async fn remove_abandoned(&self, abandoned: &Abandoned) -> Result<u64, Error> {
        // An access key that may not list uploads can still remove claims.
        let uploads = self.abort_uploads(abandoned).await;
        let claims = self.remove_claims(abandoned).await;
        match (uploads, claims) {
            (Ok(uploads), Ok(claims)) => Ok(uploads + claims),
            (Err(e), Ok(_)) | (Ok(_), Err(e)) => Err(e),
            (Err(e), Err(also)) => {
                let why = format!("{e}; and {also}");
                Err(Error::new(e.kind(), "clean up", self.store.location(), why).with_cause(e))
            }
        }
    }
}

impl S3 {
    /// Ends the uploads that nobody ends any more, and tells how many there were.
    async fn abort_uploads(&self, abandoned: &Abandoned) -> Result<u64, Error> {
        // Other names are not ours.
        let is_ours = |name: &str| self.store.key(name).is_some_and(|key| abandoned.is_ours(key.folder().as_ref()));
        let uploads = self.uploads(is_ours, |time| abandoned.is_old(time)).await?;
        for (name, id) in &uploads {
            self.store.abort_parts(name, id).await?;
        }
        Ok(uploads.len() as u64)
    }

    /// Removes the claims of those who are gone, whatever they were for: none lives longer than a minute. Tells how many there were.
    async fn remove_claims(&self, abandoned: &Abandoned) -> Result<u64, Error> {
        let mut removed = 0;
        let claims = objects(&self.store, format!("{}{STAGING_PREFIX}", self.store.root));
        let mut claims = std::pin::pin!(claims);
        while let Some((name, _, modified)) = claims.try_next().await? {
            if abandoned.is_old(modified) {
                self.store.remove(&name).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// How many uploads in parts there are below the prefix that were never ended, and of which nothing has arrived for `age`. What
    /// they have is stored, and is in no listing of objects. A store does not tell which program has begun an upload: where others
    /// store objects too, a rule of the bucket's life cycle is what removes them.
    ///
    /// # Errors
    ///
    /// They cannot be listed, which takes a permission of its own.
    pub async fn unfinished_uploads(&self, age: Duration) -> Result<u64, Error> {
        // By the clock of this machine; one that is wrong by more than some minutes is refused by the store anyway.
        let is_old = |time: SystemTime| time.elapsed().is_ok_and(|elapsed| elapsed >= age);
        Ok(self.uploads(|_| true, is_old).await?.len() as u64)
    }

    /// The names and IDs of the uploads below the prefix whose name is one of those, and of which nothing has arrived since a time that is
    /// not old.
    async fn uploads(
        &self,
        is_meant: impl Fn(&str) -> bool,
        is_old: impl Fn(SystemTime) -> bool,
    ) -> Result<Vec<(String, String)>, Error> {
        let mut abandoned = Vec::new();
        let (mut key_marker, mut id_marker) = (None, None);
        loop {
            // Of the whole bucket: MinIO takes a prefix for the name of one object.
            let request = self.store.client.list_multipart_uploads().bucket(&self.store.bucket);
            let request = request.set_key_marker(key_marker.clone()).set_upload_id_marker(id_marker.clone());
            let page = request.encoding_type(EncodingType::Url).send().await;
            let page = page.map_err(|e| self.store.error("list the uploads of", "", &e))?;
            for upload in page.uploads() {
                let (Some(listed), Some(id)) = (upload.key(), upload.upload_id()) else { continue };
                if !is_old(time(upload.initiated())) {
                    continue;
                }
                for name in spellings(listed, page.encoding_type()) {
                    let is_meant = name.starts_with(&self.store.root) && is_meant(&name);
                    if is_meant && self.has_rested(&name, id, &is_old).await? {
                        abandoned.push((name, id.to_owned()));
                        break;
                    }
                }
            }
            let next = page.next_key_marker().map(|marker| decoded(marker, page.encoding_type()));
            let next = (next, page.next_upload_id_marker().map(str::to_owned));
            if page.is_truncated() != Some(true) || next == (key_marker, id_marker) {
                return Ok(abandoned);
            }
            (key_marker, id_marker) = next;
        }
    }

    /// Whether no part of an upload has arrived for long.
    async fn has_rested(&self, name: &str, upload: &str, is_old: &impl Fn(SystemTime) -> bool) -> Result<bool, Error> {
        let mut marker = None;
        loop {
            let request = self.store.client.list_parts().bucket(&self.store.bucket).key(name).upload_id(upload);
            let page = match request.set_part_number_marker(marker.clone()).send().await {
                // It has ended since it was listed.
                Err(e) if e.as_service_error().is_some_and(|e| e.meta().code() == Some("NoSuchUpload")) => {
                    return Ok(false);
                }
                other => other.map_err(|e| self.store.error("look at the upload of", name, &e))?,
            };
            if page.parts().iter().any(|part| !is_old(time(part.last_modified()))) {
                return Ok(false);
            }
            let next = page.next_part_number_marker().map(str::to_owned);
            if page.is_truncated() != Some(true) || next == marker {
                return Ok(true);
            }
            marker = next;
        }
    }
}

/// All names that begin with `prefix`, with lengths and times, a page at a time.
fn objects(
    store: &Store,
    prefix: String,
) -> impl futures_util::Stream<Item = Result<(String, u64, SystemTime), Error>> + Send + '_ {
    enum At {
        Page(Option<String>),
        End,
    }
    let pages = stream::try_unfold((At::Page(None), prefix), move |(at, prefix)| async move {
        let At::Page(token) = at else { return Ok::<_, Error>(None) };
        let request = store.client.list_objects_v2().bucket(&store.bucket).prefix(&prefix);
        // Some names cannot be written in XML.
        let request = request.encoding_type(EncodingType::Url).set_continuation_token(token.clone());
        let page = request.send().await.map_err(|e| store.error("list", &prefix, &e))?;
        let objects: Vec<_> = page
            .contents()
            .iter()
            .filter_map(|object| {
                let bytes = u64::try_from(object.size().unwrap_or(0)).unwrap_or(0);
                Some(Ok((decoded(object.key()?, page.encoding_type()), bytes, time(object.last_modified()))))
            })
            .collect();
        let next =
            page.next_continuation_token.filter(|next| page.is_truncated == Some(true) && token.as_ref() != Some(next));
        let at = next.map_or(At::End, |next| At::Page(Some(next)));
        Ok(Some((stream::iter(objects), (at, prefix))))
    });
    pages.try_flatten()
}

/// What a name in a list of uploads can stand for. Ceph encodes it, as it was asked to, and does not say so in this list alone; others that
/// say nothing may not have done it. Under the wrong name there is no such upload.
fn spellings(name: &str, encoding: Option<&EncodingType>) -> Vec<String> {
    let decoded = decoded(name, Some(&EncodingType::Url));
    if encoding == Some(&EncodingType::Url) || decoded == name { vec![decoded] } else { vec![decoded, name.to_owned()] }
}

/// A name in a listing. `+` stands for a blank there.
pub(super) fn decoded(name: &str, encoding: Option<&EncodingType>) -> String {
    if encoding != Some(&EncodingType::Url) {
        return name.to_owned();
    }
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digit = |at: usize| behind.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        rest = match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high << 4 | low) as u8);
                &behind[2..]
            }
            (b'+', ..) => {
                bytes.push(b' ');
                behind
            }
            _ => {
                bytes.push(*first);
                behind
            }
        };
    }
    // What is not UTF-8 is no key, and has to stay different from all that are.
    String::from_utf8(bytes).unwrap_or_else(|_| format!("\0{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_listing_are_decoded() {
        let url = Some(&EncodingType::Url);
        for (encoded, name) in
            [("a%20b+c", "a b c"), ("%2B%25%3f/x", "+%?/x"), ("%C3%A4%", "\u{e4}%"), ("%1", "%1"), ("%zz%0a", "%zz\n")]
        {
            assert_eq!(decoded(encoded, url), name);
            assert_eq!(decoded(encoded, None), encoded);
        }
        assert!(decoded("%ff", url).parse::<Key>().is_err());
    }
}
