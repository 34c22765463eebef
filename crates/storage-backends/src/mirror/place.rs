//! Either side of a mirror.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _};

use super::folder::{FileEntry, Folder};
use super::record::{BucketRecord, Sha256};
use crate::error::{Error, ErrorKind};
use crate::s3::{Attributes, Objects};

/// What is read at once of an object that goes to a folder.
const WHOLE_BYTES: u64 = 1 << 20;

/// A side that is open.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Bucket(Objects),
    Folder(Arc<Folder>),
}

/// An object of a listing.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) bytes: u64,
    /// Tells what has the key now from what had it before. Of no other meaning.
    pub(super) mark: String,
    /// In a folder.
    pub(super) file: Option<Box<FileEntry>>,
}

/// What a listing tells.
#[derive(Debug)]
pub(super) enum Found {
    Object(Entry),
    /// The file of this key was there once.
    Gone(String),
    /// It is no object and cannot become one.
    Strange {
        path: String,
        why: String,
    },
}

/// An object that is being read.
pub(super) struct Object {
    pub(super) bytes: u64,
    /// `None` where nothing has recorded them.
    pub(super) attributes: Option<Attributes>,
    /// That of the bytes that are read; empty when they are not those that were listed.
    pub(super) mark: String,
    /// If it is known before the bytes are read.
    pub(super) sha256: Option<String>,
    pub(super) body: Body,
}

pub(super) enum Body {
    Whole(Bytes),
    /// Ends with an error if not all could be read.
    Pieces(BoxStream<'static, Result<Bytes, Error>>),
}

/// An object that was read to its end.
#[derive(Debug)]
pub(super) struct Digest {
    pub(super) bytes: u64,
    pub(super) sha256: String,
    pub(super) attributes: Option<Attributes>,
}

impl Place {
    pub(super) fn location(&self) -> String {
        match self {
            Self::Bucket(objects) => objects.location(),
            Self::Folder(folder) => folder.location(),
        }
    }

    /// All objects, in the order of their keys.
    pub(super) fn list(&self) -> BoxStream<'static, Result<Found, Error>> {
        match self {
            Self::Folder(folder) => folder.list(),
            Self::Bucket(objects) => {
                let entry = |listed: crate::s3::Listed| {
                    let mark = format!("{} {} {}", listed.e_tag, listed.bytes, listed.modified);
                    Found::Object(Entry { key: listed.key, bytes: listed.bytes, mark, file: None })
                };
                objects.list().map_ok(entry).boxed()
            }
        }
    }

    pub(super) fn fail(&self, kind: ErrorKind, doing: &'static str, key: &str, why: impl Into<String>) -> Error {
        match self {
            Self::Bucket(objects) => objects.fail(kind, doing, key, why),
            Self::Folder(folder) => folder.fail(kind, doing, key, why),
        }
    }

    /// Begins to read an object that goes to `target`.
    pub(super) async fn read(&self, entry: &Entry, target: &Self) -> Result<Object, Error> {
        let (limit, with_digest) = match target {
            // What fits into one request, which needs the digest before it is sent.
            Self::Bucket(objects) => (objects.part_bytes() - 1, true),
            Self::Folder(_) => (WHOLE_BYTES, false),
        };
        match (self, &entry.file) {
            (Self::Folder(folder), Some(file)) => folder.read((**file).clone(), limit, with_digest).await,
            (Self::Bucket(objects), _) => {
                let (head, content) = objects.read(&entry.key).await?;
                let is_listed = entry.mark.starts_with(&format!("{} {} ", head.e_tag, head.bytes));
                let mark = if is_listed { entry.mark.clone() } else { String::new() };
                let (bytes, tags) = (head.bytes, head.tags);
                let attributes = self.attributes_of(&entry.key, head.attributes, head.untold, tags).await?;
                let body =
                    if bytes <= limit { Body::Whole(gather(bytes, content).await?) } else { Body::Pieces(content) };
                Ok(Object { bytes, attributes: Some(attributes), mark, sha256: None, body })
            }
            (Self::Folder(_), None) => unreachable!("its listing has files"),
        }
    }

    /// Reads an object to its end.
    pub(super) async fn digest(&self, entry: &Entry) -> Result<Digest, Error> {
        match (self, &entry.file) {
            (Self::Folder(folder), Some(file)) => {
                let (sha256, bytes, _) = folder.digest(file).await?;
                let attributes = file.record.as_ref().map(|record| record.attributes.clone());
                Ok(Digest { bytes, sha256, attributes })
            }
            (Self::Bucket(objects), _) => {
                let (head, mut content) = objects.read(&entry.key).await?;
                let mut sha256 = Sha256::new();
                while let Some(piece) = content.try_next().await? {
                    sha256.update(&piece);
                }
                let attributes = self.attributes_of(&entry.key, head.attributes, head.untold, head.tags).await?;
                Ok(Digest { bytes: head.bytes, sha256: sha256.finish(), attributes: Some(attributes) })
            }
            (Self::Folder(_), None) => unreachable!("its listing has files"),
        }
    }

    /// What an object has beside its bytes; `None` where nothing has recorded it.
    pub(super) async fn attributes(&self, entry: &Entry) -> Result<Option<Attributes>, Error> {
        match (self, &entry.file) {
            (Self::Bucket(objects), _) => {
                let Some(head) = objects.head(&entry.key).await? else {
                    return Err(self.fail(ErrorKind::NotFound, "look at", &entry.key, "it was removed meanwhile"));
                };
                self.attributes_of(&entry.key, head.attributes, head.untold, head.tags).await.map(Some)
            }
            (Self::Folder(_), file) => {
                let record = file.as_ref().and_then(|file| file.record.as_ref());
                Ok(record.map(|record| record.attributes.clone()))
            }
        }
    }

    async fn attributes_of(
        &self,
        key: &str,
        mut attributes: Attributes,
        untold: usize,
        tags: usize,
    ) -> Result<Attributes, Error> {
        if untold > 0 {
            let why = "it has metadata that the store cannot tell";
            return Err(self.fail(ErrorKind::NotSupported, "read", key, why));
        }
        BucketRecord::take(&mut attributes);
        if let (1.., Self::Bucket(objects)) = (tags, self) {
            attributes.tags = objects.tags(key).await?;
        }
        Ok(attributes)
    }

    /// Stores an object in the place of `old`.
    pub(super) async fn store(&self, key: &str, object: Object, old: Option<&Entry>) -> Result<(), Error> {
        let objects = match self {
            Self::Folder(folder) => {
                return folder.store(key, object, old.and_then(|old| old.file.as_deref())).await.map(drop);
            }
            Self::Bucket(objects) => objects,
        };
        let mut attributes = object.attributes.unwrap_or_default();
        let tags = attributes.tags.len();
        match object.body {
            Body::Whole(content) => {
                if content.len() as u64 != object.bytes {
                    return Err(short(self, key, content.len() as u64, object.bytes));
                }
                let sha256 = Sha256::of(&content);
                BucketRecord::new(Some(sha256), &object.mark, tags).add(&mut attributes);
                objects.write(key, &attributes, content).await
            }
            Body::Pieces(mut pieces) => {
                BucketRecord::new(object.sha256.clone(), &object.mark, tags).add(&mut attributes);
                let mut writing = objects.begin(key, &attributes).await?;
                let (mut sha256, mut bytes) = (Sha256::new(), 0);
                let sending = async {
                    let mut part = BytesMut::new();
                    while let Some(mut piece) = pieces.try_next().await? {
                        sha256.update(&piece);
                        bytes += piece.len() as u64;
                        while !piece.is_empty() {
                            // A part fits into memory.
                            let length = usize::try_from(writing.part_bytes()).unwrap_or(usize::MAX);
                            part.reserve(length - part.len());
                            let room = piece.len().min(length - part.len());
                            part.extend_from_slice(&piece.split_to(room));
                            if part.len() == length {
                                writing.send(std::mem::take(&mut part).freeze()).await?;
                            }
                        }
                    }
                    if !part.is_empty() {
                        writing.send(part.freeze()).await?;
                    }
                    if bytes != object.bytes {
                        return Err(short(self, key, bytes, object.bytes));
                    }
                    if object.sha256.is_some_and(|expected| expected != sha256.finish()) {
                        let why = "its source has other bytes than were recorded of it";
                        return Err(self.fail(ErrorKind::Incomplete, "store", key, why));
                    }
                    Ok(())
                };
                if let Err(e) = sending.await {
                    // What went wrong first is told.
                    let _ = writing.abort().await;
                    return Err(e);
                }
                writing.finish().await
            }
        }
    }

    pub(super) async fn remove(&self, key: &str) -> Result<(), Error> {
        match self {
            Self::Bucket(objects) => objects.remove(key).await,
            Self::Folder(folder) => folder.remove(key).await,
        }
    }
}

fn short(place: &Place, key: &str, bytes: u64, expected: u64) -> Error {
    place.fail(ErrorKind::Incomplete, "store", key, format!("{bytes} bytes arrived of {expected}"))
}

pub(super) async fn gather(bytes: u64, mut content: BoxStream<'static, Result<Bytes, Error>>) -> Result<Bytes, Error> {
    // No more than was asked for arrives, and it is not much.
    let mut all = BytesMut::with_capacity(usize::try_from(bytes).unwrap_or(0));
    while let Some(piece) = content.try_next().await? {
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}
