//! Objects that others made, under whatever name, with all that belongs to them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{EncodingType, Tag, Tagging};
use aws_smithy_types::date_time::Format;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use url::form_urlencoded;

use super::S3;
use super::backend::decoded;
use super::store::{Content, Protection, Store, content_md5, time};
use super::upload::{Parts, part_bytes};
use crate::error::{Error, ErrorKind};

/// What an object has beside its bytes and its tags, from any answer that tells of it: the SDK has a type for each, which have
/// nothing in common but the names of their fields.
macro_rules! attributes_of {
    ($answer:expr) => {
        crate::s3::Attributes {
            content_type: $answer.content_type,
            content_encoding: $answer.content_encoding,
            content_language: $answer.content_language,
            content_disposition: $answer.content_disposition,
            cache_control: $answer.cache_control,
            metadata: $answer.metadata.into_iter().flatten().collect(),
            tags: std::collections::BTreeMap::new(),
        }
    };
}
pub(super) use attributes_of;

/// The same onto any request that makes an object, with the tags.
macro_rules! with_attributes {
    ($request:expr, $attributes:expr) => {
        $request
            .set_content_type($attributes.content_type.clone())
            .set_content_encoding($attributes.content_encoding.clone())
            .set_content_language($attributes.content_language.clone())
            .set_content_disposition($attributes.content_disposition.clone())
            .set_cache_control($attributes.cache_control.clone())
            .set_metadata(Some(owned(&$attributes.metadata)))
            .set_tagging(query(&$attributes.tags))
    };
}

/// What an object has beside its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Attributes {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_disposition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cache_control: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) tags: BTreeMap<String, String>,
}

/// An object as a listing tells of it.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    /// Its name without what all keys begin with.
    pub(crate) key: String,
    pub(crate) bytes: u64,
    /// What an object that replaces this one has not, without its quotation marks. It may be empty.
    pub(crate) e_tag: String,
    pub(crate) modified: String,
}

/// An object as an answer tells of it that has its head.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) bytes: u64,
    pub(crate) e_tag: String,
    /// Without the tags.
    pub(crate) attributes: Attributes,
    /// How many tags there are.
    pub(crate) tags: usize,
    /// How much metadata the store has and cannot tell.
    pub(crate) untold: usize,
    /// By the store itself, so that its `ETag` need not be of what it gives.
    pub(crate) is_encrypted: bool,
    pub(crate) modified: SystemTime,
}

impl Head {
    /// The MD5 of the bytes, where that is what the `ETag` is: not of what was stored in parts.
    pub(crate) fn md5(&self) -> Option<&str> {
        let is_md5 = self.e_tag.len() == 32 && self.e_tag.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_md5 && !self.is_encrypted).then_some(&self.e_tag)
    }
}

/// A bucket, or what is below a prefix in it. Unlike for a [`Backend`](crate::Backend), every name is good.
#[derive(Clone)]
pub(crate) struct Objects {
    pub(super) store: Arc<Store>,
}

impl S3 {
    pub(crate) fn objects(&self) -> Objects {
        Objects { store: Arc::clone(&self.store) }
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Objects").field(&self.location()).finish()
    }
}

impl Objects {
    pub(crate) fn location(&self) -> String {
        self.store.location()
    }

    /// Whether objects that are stored here are to be retained, which is no property of the ones they are copies of.
    pub(crate) fn has_retention(&self) -> bool {
        self.store.has_retention()
    }

    /// What is stored with one request: all that is smaller.
    pub(crate) fn part_bytes(&self) -> u64 {
        self.store.part_bytes
    }

    /// How long the part of an upload is that comes after `begun` others, unless it is the last one.
    pub(crate) fn part_bytes_after(&self, begun: u32) -> u64 {
        part_bytes(self.store.part_bytes, begun)
    }

    /// What an upload in parts has in memory.
    pub(crate) fn upload_bytes(&self) -> u64 {
        self.store.part_bytes * (self.store.parts_in_flight as u64 + 1)
    }

    /// All of them, in the order of their keys. It has an error in it when the store does not tell all.
    pub(crate) fn list(&self) -> BoxStream<'static, Result<Listed, Error>> {
        self.list_after("")
    }

    /// The same, from behind this key on.
    pub(crate) fn list_after(&self, key: &str) -> BoxStream<'static, Result<Listed, Error>> {
        let begin = Some((Arc::clone(&self.store), None::<String>));
        let after = (!key.is_empty()).then(|| self.name(key));
        let pages = stream::try_unfold((begin, after), |(state, after)| async move {
            let Some((store, token)) = state else { return Ok(None) };
            let request = store.client.list_objects_v2().bucket(&store.bucket).prefix(&store.root);
            // Some names cannot be written in XML.
            let request = request.encoding_type(EncodingType::Url).set_continuation_token(token.clone());
            let request = request.set_start_after(after);
            let page = request.send().await.map_err(|e| store.error("list", &store.root, &e))?;
            let mut objects = Vec::with_capacity(page.contents().len());
            for object in page.contents() {
                let name = decoded(object.key().unwrap_or_default(), page.encoding_type());
                let Some(key) = name.strip_prefix(&store.root) else {
                    let why = "the listing has names in it that were not asked for, or that are not UTF-8";
                    return Err(store.fail(ErrorKind::NotSupported, "list", &store.root, why.into()));
                };
                objects.push(Ok(Listed {
                    key: key.to_owned(),
                    bytes: object.size().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
                    e_tag: object.e_tag().unwrap_or_default().trim_matches('"').to_owned(),
                    modified: object.last_modified().map(told).unwrap_or_default(),
                }));
            }
            let next = match page.next_continuation_token {
                _ if page.is_truncated != Some(true) => None,
                Some(next) if Some(&next) != token.as_ref() => Some((store, Some(next))),
                _ => {
                    let why = "the store does not tell how the listing goes on";
                    return Err(store.fail(ErrorKind::Incomplete, "list", &store.root, why.into()));
                }
            };
            // Where the next page begins, its token tells.
            Ok(Some((stream::iter(objects), (next, None))))
        });
        pages.try_flatten().boxed()
    }

    pub(crate) async fn head(&self, key: &str) -> Result<Option<Head>, Error> {
        self.head_version(key, None).await
    }

    /// The head of a version of it; of the current one if none is said.
    pub(crate) async fn head_version(&self, key: &str, version: Option<&str>) -> Result<Option<Head>, Error> {
        let name = self.name(key);
        let request = self.store.client.head_object().bucket(&self.store.bucket).key(&name);
        match request.set_version_id(version.map(str::to_owned)).send().await {
            Ok(head) => Ok(Some(Head {
                bytes: head.content_length().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
                e_tag: head.e_tag().unwrap_or_default().trim_matches('"').to_owned(),
                tags: count(head.tag_count()),
                untold: count(head.missing_meta()),
                is_encrypted: head.server_side_encryption.is_some() || head.sse_customer_algorithm.is_some(),
                modified: time(head.last_modified()),
                attributes: attributes_of!(head),
            })),
            // That the bucket is there was seen when it was listed.
            Err(e) if e.raw_response().is_some_and(|answer| answer.status().as_u16() == 404) => Ok(None),
            Err(e) => Err(self.store.error("look at", &name, &e)),
        }
    }

    /// An object and its bytes, without its tags. Bytes that end early do so with an error.
    pub(crate) async fn read(&self, key: &str) -> Result<(Head, BoxStream<'static, Result<Bytes, Error>>), Error> {
        self.store.read_whole(self.name(key), None).await
    }

    /// The same of a version of it; of the current one if none is said.
    pub(crate) async fn read_version(
        &self,
        key: &str,
        version: Option<&str>,
    ) -> Result<(Head, BoxStream<'static, Result<Bytes, Error>>), Error> {
        self.store.read_whole(self.name(key), version.map(str::to_owned)).await
    }

    pub(crate) async fn tags(&self, key: &str) -> Result<BTreeMap<String, String>, Error> {
        self.tags_of_version(key, None).await
    }

    pub(crate) async fn tags_of_version(
        &self,
        key: &str,
        version: Option<&str>,
    ) -> Result<BTreeMap<String, String>, Error> {
        let name = self.name(key);
        let request = self.store.client.get_object_tagging().bucket(&self.store.bucket).key(&name);
        let told = request
            .set_version_id(version.map(str::to_owned))
            .send()
            .await
            .map_err(|e| self.store.error("read the tags of", &name, &e))?;
        Ok(told.tag_set.into_iter().map(|tag| (tag.key, tag.value)).collect())
    }

    /// Stores an object with one request, in the place of what has its name.
    pub(crate) async fn write(&self, key: &str, attributes: &Attributes, bytes: Bytes) -> Result<(), Error> {
        let name = self.name(key);
        let time = self.store.time_for(bytes.len() as u64);
        let request = self.store.client.put_object().bucket(&self.store.bucket).key(&name);
        let request = with_attributes!(request, attributes).content_md5(content_md5(&bytes)).body(bytes.into());
        // See `Protection::Md5`.
        let sent = request.customize().disable_payload_signing().config_override(time).send().await;
        sent.map(drop).map_err(|e| self.store.error("store", &name, &e))
    }

    /// Begins an object in parts.
    pub(crate) async fn begin(&self, key: &str, attributes: &Attributes) -> Result<Writing, Error> {
        let name = self.name(key);
        let request = self.store.client.create_multipart_upload().bucket(&self.store.bucket).key(&name);
        let begun =
            with_attributes!(request, attributes).send().await.map_err(|e| self.store.error("begin", &name, &e))?;
        let nameless = || self.store.fail(ErrorKind::NotSupported, "begin", &name, "the upload has no ID".into());
        let id = begun.upload_id.filter(|id| !id.is_empty()).ok_or_else(nameless)?;
        let parts = Parts::new(Arc::clone(&self.store), name, id, Protection::Md5);
        let Attributes { metadata, tags, .. } = attributes.clone();
        Ok(Writing { objects: self.clone(), key: key.to_owned(), parts, bytes: 0, metadata, tags })
    }

    /// Removes an object. That it is not there is no error.
    pub(crate) async fn remove(&self, key: &str) -> Result<(), Error> {
        self.store.remove(&self.name(key)).await
    }

    /// An error about an object.
    pub(crate) fn fail(&self, kind: ErrorKind, doing: &'static str, key: &str, why: impl Into<String>) -> Error {
        self.store.fail(kind, doing, &self.name(key), why.into())
    }

    pub(super) fn name(&self, key: &str) -> String {
        format!("{}{key}", self.store.root)
    }
}

/// An object that is being stored in parts. Dropped, it is abandoned.
#[derive(Debug)]
pub(crate) struct Writing {
    objects: Objects,
    key: String,
    parts: Parts,
    bytes: u64,
    metadata: BTreeMap<String, String>,
    tags: BTreeMap<String, String>,
}

impl Writing {
    /// How long the next part has to be, unless it is the last one.
    pub(crate) fn part_bytes(&self) -> u64 {
        self.parts.next_bytes()
    }

    pub(crate) async fn send(&mut self, part: Bytes) -> Result<(), Error> {
        self.bytes += part.len() as u64;
        self.parts.send(part).await
    }

    /// Gives the object its name.
    pub(crate) async fn finish(mut self) -> Result<(), Error> {
        let Self { objects, key, parts, bytes, metadata, tags } = &mut self;
        let (store, name) = (&objects.store, objects.name(key));
        let sent = Content::Parts { upload: parts.id().to_owned(), parts: parts.finish().await? };
        if let Err(e) = store.send(&name, &sent, "", false).await {
            // The answer may have got lost, and the upload was not there any more when it was ended once more.
            let is_ours = e.kind() == ErrorKind::Incomplete
                && objects.head(key).await?.is_some_and(|it| it.bytes == *bytes && it.attributes.metadata == *metadata);
            if !is_ours {
                return Err(e);
            }
        }
        parts.end();
        // Not every store takes notice of them when an upload is begun.
        let has_them = tags.is_empty() || objects.head(key).await?.is_some_and(|head| head.tags == tags.len());
        if !has_them {
            let set: Result<Vec<_>, _> =
                tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
            let tagging = set.and_then(|set| Tagging::builder().set_tag_set(Some(set)).build());
            let tagging = tagging.map_err(|e| objects.fail(ErrorKind::Other, "tag", key, e.to_string()))?;
            let request = store.client.put_object_tagging().bucket(&store.bucket).key(&name).tagging(tagging);
            request.send().await.map_err(|e| store.error("tag", &name, &e))?;
        }
        Ok(())
    }

    /// Removes what was sent.
    pub(crate) async fn abort(self) -> Result<(), Error> {
        self.parts.abort().await
    }
}

/// A time as exactly as the store tells it.
fn told(time: &DateTime) -> String {
    time.fmt(Format::DateTime).unwrap_or_default()
}

pub(super) fn count(number: Option<i32>) -> usize {
    number.and_then(|number| usize::try_from(number).ok()).unwrap_or(0)
}

fn owned(map: &BTreeMap<String, String>) -> HashMap<String, String> {
    map.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn query(tags: &BTreeMap<String, String>) -> Option<String> {
    let text = form_urlencoded::Serializer::new(String::new()).extend_pairs(tags).finish();
    // Some stores take a plus sign, which stands for a blank here, for itself (Ceph 16 is one).
    (!tags.is_empty()).then(|| text.replace('+', "%20"))
}
