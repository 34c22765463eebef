//! Objects that are being written.

use std::mem;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use aws_sdk_s3::types::CompletedPart;
use bytes::{Bytes, BytesMut};
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinSet};
use uuid::Uuid;

use super::MAX_PART_BYTES;
use super::store::{Content, Protection, Store};
use crate::backend::{Existing, ObjectInfo, Upload};
use crate::error::{Error, ErrorKind};
use crate::key::Key;

/// How many parts there may be.
const MAX_PARTS: u32 = 10_000;
/// After how many parts they become larger.
const SAME_PARTS: u32 = 900;

/// An object that is being written: in memory while it is less than a part, in parts then.
#[derive(Debug)]
pub(super) struct S3Upload {
    store: Arc<Store>,
    key: Key,
    existing: Existing,
    /// What tells this upload from all others of the same name.
    writer: String,
    buffer: BytesMut,
    bytes: u64,
    parts: Option<Parts>,
    is_broken: bool,
}

impl S3Upload {
    pub(super) fn new(store: Arc<Store>, key: Key, existing: Existing) -> Self {
        let writer = Uuid::new_v4().to_string();
        Self { store, key, existing, writer, buffer: BytesMut::new(), bytes: 0, parts: None, is_broken: false }
    }

    /// How long the part has to be that is being filled.
    fn part_bytes(&self) -> u64 {
        part_bytes(self.store.part_bytes, self.parts.as_ref().map_or(0, |parts| parts.begun))
    }

    fn broken(&self, doing: &'static str) -> Error {
        let why = "it is incomplete, since writing to it failed or was given up before";
        self.store.fail(ErrorKind::Incomplete, doing, &self.store.name(&self.key), why.into())
    }

    async fn write_all(&mut self, mut piece: Bytes) -> Result<(), Error> {
        while !piece.is_empty() {
            // A part fits into memory; where it would not, nothing that is read does either.
            let length = usize::try_from(self.part_bytes()).unwrap_or(usize::MAX);
            self.buffer.extend_from_slice(&piece.split_to(piece.len().min(length - self.buffer.len())));
            if self.buffer.len() == length {
                self.send_part().await?;
            }
        }
        Ok(())
    }

    /// Sends what was gathered as the next part, when there are not too many on their way.
    async fn send_part(&mut self) -> Result<(), Error> {
        if self.parts.is_none() {
            let id = self.store.begin_parts(&self.store.name(&self.key), &self.writer).await?;
            self.parts =
                Some(Parts::new(Arc::clone(&self.store), self.store.name(&self.key), id, Protection::Signature));
        }
        let parts = self.parts.as_mut().expect("it was begun before");
        parts.send(mem::take(&mut self.buffer).freeze()).await
    }

    async fn finish(&mut self) -> Result<(), Error> {
        let name = self.store.name(&self.key);
        let content = if self.parts.is_none() {
            Content::Whole(mem::take(&mut self.buffer).freeze())
        } else {
            if !self.buffer.is_empty() {
                self.send_part().await?;
            }
            let parts = self.parts.as_mut().expect("it has parts");
            Content::Parts { upload: parts.id.clone(), parts: parts.finish().await? }
        };
        match self.existing {
            Existing::Keep => self.store.publish_if_free(&self.key, &content, self.bytes, &self.writer).await?,
            Existing::Replace => {
                let sent = self.store.send(&name, &content, &self.writer, false).await;
                if sent.is_err() || matches!(content, Content::Parts { .. }) {
                    self.store.check(&name, self.bytes, &self.writer, Existing::Replace, sent).await?;
                }
            }
        }
        if let Some(parts) = &mut self.parts {
            parts.has_ended = true;
        }
        self.store.retain(&name, &self.writer).await
    }
}

#[async_trait]
impl Upload for S3Upload {
    async fn write(&mut self, piece: Bytes) -> Result<(), Error> {
        if self.is_broken {
            return Err(self.broken("write"));
        }
        // Until it is known to be whole: this can be dropped while it waits.
        self.is_broken = true;
        self.bytes += piece.len() as u64;
        self.write_all(piece).await?;
        self.is_broken = false;
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> Result<ObjectInfo, Error> {
        if self.is_broken {
            return Err(self.broken("store"));
        }
        let finished = self.finish().await;
        if finished.is_err()
            && let Some(parts) = self.parts.take()
        {
            // What went wrong first is told.
            let _ = parts.abort().await;
        }
        finished?;
        Ok(ObjectInfo::new(self.key.clone(), self.bytes, SystemTime::now()))
    }

    async fn abort(mut self: Box<Self>) -> Result<(), Error> {
        match self.parts.take() {
            None => Ok(()),
            Some(parts) => parts.abort().await,
        }
    }
}

/// An upload in parts. Dropped before it has ended, it is aborted, if there is a runtime to do so.
#[derive(Debug)]
pub(super) struct Parts {
    store: Arc<Store>,
    name: String,
    id: String,
    protection: Protection,
    /// How many were sent, or are being sent.
    begun: u32,
    sent: Vec<CompletedPart>,
    in_flight: JoinSet<Result<CompletedPart, Error>>,
    has_ended: bool,
}

impl Parts {
    pub(super) fn new(store: Arc<Store>, name: String, id: String, protection: Protection) -> Self {
        Self { store, name, id, protection, begun: 0, sent: Vec::new(), in_flight: JoinSet::new(), has_ended: false }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// How long the next part has to be, unless it is the last one.
    pub(super) fn next_bytes(&self) -> u64 {
        part_bytes(self.store.part_bytes, self.begun)
    }

    /// Sends a part, when there are not too many on their way.
    pub(super) async fn send(&mut self, part: Bytes) -> Result<(), Error> {
        if self.begun == MAX_PARTS {
            let why = format!("it is longer than {MAX_PARTS} parts; use larger ones");
            return Err(self.store.fail(ErrorKind::NotSupported, "write", &self.name, why));
        }
        // As much memory as for the small parts in the beginning, as long as that is possible.
        let budget = self.store.part_bytes * self.store.parts_in_flight as u64;
        let most = (budget / part.len().max(1) as u64).clamp(1, self.store.parts_in_flight as u64);
        while self.in_flight.len() as u64 >= most {
            self.receive().await?;
        }
        // Those that have failed meanwhile are noticed now, not in the end.
        while let Some(joined) = self.in_flight.try_join_next() {
            self.sent.push(result_of(joined)?);
        }
        self.begun += 1;
        let number = i32::try_from(self.begun).expect("there are at most 10,000");
        let (store, name, id) = (Arc::clone(&self.store), self.name.clone(), self.id.clone());
        let protection = self.protection;
        self.in_flight.spawn(async move { store.send_part(&name, &id, number, part, protection).await });
        Ok(())
    }

    async fn receive(&mut self) -> Result<(), Error> {
        if let Some(joined) = self.in_flight.join_next().await {
            self.sent.push(result_of(joined)?);
        }
        Ok(())
    }

    /// Waits for all parts; returns them in their order.
    pub(super) async fn finish(&mut self) -> Result<Vec<CompletedPart>, Error> {
        while !self.in_flight.is_empty() {
            self.receive().await?;
        }
        let mut sent = mem::take(&mut self.sent);
        sent.sort_by_key(CompletedPart::part_number);
        Ok(sent)
    }

    /// The object is there: nothing is to be removed.
    pub(super) fn end(&mut self) {
        self.has_ended = true;
    }

    pub(super) async fn abort(mut self) -> Result<(), Error> {
        // A part that arrives after the end of the upload would stay.
        self.in_flight.shutdown().await;
        self.store.abort_parts(&self.name, &self.id).await?;
        self.has_ended = true;
        Ok(())
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        // Without one, it is left to `remove_abandoned`.
        let Ok(runtime) = Handle::try_current() else { return };
        let (store, mut in_flight) = (Arc::clone(&self.store), mem::take(&mut self.in_flight));
        let (name, id) = (mem::take(&mut self.name), mem::take(&mut self.id));
        runtime.spawn(async move {
            in_flight.shutdown().await;
            // Nobody is left to tell.
            let _ = store.abort_parts(&name, &id).await;
        });
    }
}

fn result_of<T>(joined: Result<T, JoinError>) -> T {
    // Nothing cancels these tasks while somebody waits for them, so it is a panic.
    joined.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))
}

/// The length of the part after `begun` others.
pub(super) fn part_bytes(first: u64, begun: u32) -> u64 {
    (first << (begun / SAME_PARTS).min(30)).min(MAX_PART_BYTES)
}

#[cfg(test)]
mod tests {
    use super::super::MIN_PART_BYTES;
    use super::*;

    #[test]
    fn the_largest_object_fits_into_its_parts() {
        for first in [MIN_PART_BYTES, 8 << 20, 64 << 20, MAX_PART_BYTES] {
            let whole: u64 = (0..MAX_PARTS).map(|begun| part_bytes(first, begun)).sum();
            assert!(whole >= 5 << 40, "{first}: {whole}");
        }
        assert_eq!([899, 900, 1800].map(|begun| part_bytes(8 << 20, begun) >> 20), [8, 16, 32]);
        assert_eq!(part_bytes(MAX_PART_BYTES, 9999), MAX_PART_BYTES);
    }
}
