//! Objects that are being read.

use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};

use super::error::chain;
use super::object::{Head, attributes_of, count};
use super::store::{Store, content_range, time};
use crate::backend::{Download, ObjectInfo};
use crate::error::{Error, ErrorKind};
use crate::key::Key;

/// How much has to arrive after a cut for the next one not to count as one more of the same.
const PROGRESS: u64 = 8 << 20;

impl Store {
    pub(super) async fn read(self: &Arc<Self>, key: &Key, range: Option<Range<u64>>) -> Result<Download, Error> {
        let name = self.name(key);
        let range = range.unwrap_or(0..u64::MAX);
        if range.is_empty() {
            return self.nothing_of(key, &name).await;
        }
        let opened = match self.open(&name, None, &range, None).await {
            // The range begins behind the end.
            Err(Refusal::NoSuchRange) => return self.nothing_of(key, &name).await,
            Err(Refusal::Changed) => unreachable!("nothing was asked to be as before"),
            Err(Refusal::Failed(e)) => return Err(e),
            Ok(opened) => opened,
        };
        let info = ObjectInfo::new(key.clone(), opened.whole, opened.modified);
        let range = range.start..range.end.min(opened.whole);
        Ok(Download { info, content: Reading::new(self, name, None, range, opened).pieces() })
    }

    /// A whole object of any name: as it is now, or a version of it.
    pub(super) async fn read_whole(
        self: &Arc<Self>,
        name: String,
        version: Option<String>,
    ) -> Result<(Head, BoxStream<'static, Result<Bytes, Error>>), Error> {
        let opened = match self.open(&name, version.as_deref(), &(0..u64::MAX), None).await {
            Err(Refusal::NoSuchRange | Refusal::Changed) => unreachable!("neither was asked for"),
            Err(Refusal::Failed(e)) => return Err(e),
            Ok(opened) => opened,
        };
        let head = opened.head.clone();
        Ok((head, Reading::new(self, name, version, 0..opened.whole, opened).pieces()))
    }

    async fn nothing_of(&self, key: &Key, name: &str) -> Result<Download, Error> {
        let Some(found) = self.find(name).await? else {
            return Err(self.fail(ErrorKind::NotFound, "read", name, "there is no such object".into()));
        };
        let info = ObjectInfo::new(key.clone(), found.bytes, found.modified);
        Ok(Download { info, content: stream::empty().boxed() })
    }

    /// Asks for a range, which is not empty; of the object as it was if `tag` says which one that is.
    async fn open(
        &self,
        name: &str,
        version: Option<&str>,
        range: &Range<u64>,
        tag: Option<&str>,
    ) -> Result<Opened, Refusal> {
        let header = match range {
            Range { start: 0, end: u64::MAX } => None,
            Range { start, end: u64::MAX } => Some(format!("bytes={start}-")),
            Range { start, end } => Some(format!("bytes={start}-{}", end - 1)),
        };
        let is_range = header.is_some();
        let request = self.client.get_object().bucket(&self.bucket).key(name).set_range(header);
        let request = request.set_version_id(version.map(str::to_owned));
        let got = match request.set_if_match(tag.map(str::to_owned)).send().await {
            Err(e) if e.code() == Some("InvalidRange") => return Err(Refusal::NoSuchRange),
            Err(e) if tag.is_some() && e.raw_response().is_some_and(|it| it.status().as_u16() == 412) => {
                return Err(Refusal::Changed);
            }
            Err(e) => return Err(Refusal::Failed(self.error("read", name, &e))),
            Ok(got) => got,
        };
        let whole = match got.content_range().map(content_range) {
            Some(Some((start, whole))) if is_range && start == range.start => whole,
            None if !is_range => got.content_length().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(u64::MAX),
            _ => {
                let why = "the answer has another range than was asked for";
                return Err(Refusal::Failed(self.fail(ErrorKind::NotSupported, "read", name, why.into())));
            }
        };
        if whole == u64::MAX {
            let why = "the store does not say how long it is";
            return Err(Refusal::Failed(self.fail(ErrorKind::NotSupported, "read", name, why.into())));
        }
        let modified = time(got.last_modified());
        let tag = got.e_tag.filter(|tag| tag.len() > 2);
        let head = Head {
            bytes: whole,
            e_tag: tag.as_deref().unwrap_or_default().trim_matches('"').to_owned(),
            tags: count(got.tag_count),
            untold: count(got.missing_meta),
            is_encrypted: got.server_side_encryption.is_some() || got.sse_customer_algorithm.is_some(),
            modified,
            attributes: attributes_of!(got),
        };
        Ok(Opened { whole, modified, tag, head, body: got.body })
    }
}

struct Opened {
    whole: u64,
    modified: SystemTime,
    /// What an object that replaces this one has not; of no other meaning.
    tag: Option<String>,
    head: Head,
    body: ByteStream,
}

enum Refusal {
    NoSuchRange,
    Changed,
    Failed(Error),
}

/// A range of an object that is being read.
struct Reading {
    store: Arc<Store>,
    name: String,
    version: Option<String>,
    /// Which byte comes next, and behind which one it ends.
    next: u64,
    end: u64,
    /// `None` when there is nothing to come.
    body: Option<ByteStream>,
    tag: Option<String>,
    /// How often it was cut without much having arrived in between.
    cuts: u32,
    since_cut: u64,
}

impl Reading {
    fn new(store: &Arc<Store>, name: String, version: Option<String>, range: Range<u64>, opened: Opened) -> Self {
        let Opened { tag, body, .. } = opened;
        let Range { start: next, end } = range;
        Self { store: Arc::clone(store), name, version, next, end, body: Some(body), tag, cuts: 0, since_cut: 0 }
    }

    fn pieces(self) -> BoxStream<'static, Result<Bytes, Error>> {
        stream::unfold(self, |mut state| async move { Some((state.piece().await?, state)) }).boxed()
    }

    async fn piece(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            if self.next == self.end {
                return None;
            }
            let why = match tokio::time::timeout(self.store.timeout, self.body.as_mut()?.next()).await {
                Ok(Some(Ok(piece))) if piece.is_empty() => continue,
                Ok(Some(Ok(piece))) => {
                    let bytes = piece.len() as u64;
                    if bytes > self.end - self.next {
                        return self.end_with(ErrorKind::Incomplete, "more of it comes than there should be".into());
                    }
                    self.next += bytes;
                    self.since_cut += bytes;
                    return Some(Ok(piece));
                }
                Ok(Some(Err(e))) => chain(&e),
                Ok(None) => "the store sends no more".into(),
                Err(_) => format!("nothing came for {} s", self.store.timeout.as_secs()),
            };
            if let Err((kind, why)) = self.go_on(why).await {
                return self.end_with(kind, why);
            }
        }
    }

    /// Asks for the rest of what was cut.
    async fn go_on(&mut self, cut: String) -> Result<(), (ErrorKind, String)> {
        self.cuts = if self.since_cut >= PROGRESS { 1 } else { self.cuts + 1 };
        self.since_cut = 0;
        let ended = format!("it ended before byte {} of {}: {cut}", self.next, self.end);
        let Some(tag) = self.tag.as_deref().filter(|_| self.cuts < self.store.attempts) else {
            return Err((ErrorKind::Incomplete, ended));
        };
        match self.store.open(&self.name, self.version.as_deref(), &(self.next..self.end), Some(tag)).await {
            Ok(opened) if opened.tag.as_deref() == Some(tag) => self.body = Some(opened.body),
            Ok(_) | Err(Refusal::Changed | Refusal::NoSuchRange) => {
                return Err((ErrorKind::Incomplete, "it was replaced while it was read".into()));
            }
            Err(Refusal::Failed(e)) => return Err((ErrorKind::Incomplete, format!("{ended}; then: {e}"))),
        }
        Ok(())
    }

    fn end_with(&mut self, kind: ErrorKind, why: String) -> Option<Result<Bytes, Error>> {
        self.body = None;
        Some(Err(self.store.fail(kind, "read", &self.name, why)))
    }
}
