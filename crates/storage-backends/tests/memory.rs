//! A place in memory: each thing that is done there is a step, between any two of which others can get in.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use storage_backends::{Abandoned, Backend, Download, Error, ErrorKind, Existing, Key, ObjectInfo, Upload};

/// What is asked before each step, with the names of the step and of the object: it may fail, or change what is there.
type Rule = dyn FnMut(&'static str, &str, &mut Objects) -> Result<(), Error> + Send;

/// The objects by their names, and when each was written.
pub(crate) type Objects = BTreeMap<Key, (Bytes, SystemTime)>;

/// How a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not done.
    Before,
    /// It is done, and nobody hears of that.
    After,
}

#[derive(Clone)]
pub(crate) struct Memory {
    objects: Arc<Mutex<Objects>>,
    rule: Arc<Mutex<Box<Rule>>>,
    /// The next step fails.
    fault: Arc<Mutex<Option<Fault>>>,
    /// How many steps wait for their turn, and how many were the most.
    waiting: Arc<Mutex<(usize, usize)>>,
}

impl Default for Memory {
    fn default() -> Self {
        let rule: Box<Rule> = Box::new(|_, _, _| Ok(()));
        Self {
            objects: Arc::default(),
            rule: Arc::new(Mutex::new(rule)),
            fault: Arc::default(),
            waiting: Arc::default(),
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.objects().keys()).finish()
    }
}

impl Memory {
    pub(crate) fn set_rule(
        &self,
        rule: impl FnMut(&'static str, &str, &mut Objects) -> Result<(), Error> + Send + 'static,
    ) {
        *self.rule.lock().unwrap() = Box::new(rule);
    }

    /// Has the next step fail, or no one. Returns what was to fail and has not.
    pub(crate) fn set_fault(&self, fault: Option<Fault>) -> Option<Fault> {
        std::mem::replace(&mut self.fault.lock().unwrap(), fault)
    }

    /// Fails if the next step is to fail so.
    fn expect_no(&self, fault: Fault) -> Result<(), Error> {
        match self.fault.lock().unwrap().take_if(|it| *it == fault) {
            Some(_) => Err(Error::new(ErrorKind::Unavailable, "reach", "memory", format!("it fails: {fault:?}"))),
            None => Ok(()),
        }
    }

    pub(crate) fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap()
    }

    /// How many steps have waited for their turn at the same time.
    pub(crate) fn most_at_once(&self) -> usize {
        self.waiting.lock().unwrap().1
    }

    async fn step(&self, doing: &'static str, key: &str) -> Result<MutexGuard<'_, Objects>, Error> {
        let count = |change: fn(usize) -> usize| {
            let mut waiting = self.waiting.lock().unwrap();
            waiting.0 = change(waiting.0);
            waiting.1 = waiting.1.max(waiting.0);
        };
        count(|waiting| waiting + 1);
        Others { had_their_turn: false }.await;
        count(|waiting| waiting - 1);
        self.expect_no(Fault::Before)?;
        let mut objects = self.objects();
        (self.rule.lock().unwrap())(doing, key, &mut objects)?;
        Ok(objects)
    }
}

/// Lets others go first.
struct Others {
    had_their_turn: bool,
}

impl Future for Others {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.had_their_turn, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

fn info((key, (content, modified)): (&Key, &(Bytes, SystemTime))) -> ObjectInfo {
    ObjectInfo::new(key.clone(), content.len() as u64, *modified)
}

fn taken(key: &Key) -> Error {
    Error::new(ErrorKind::AlreadyExists, "store", key.as_str(), "the name is taken")
}

#[async_trait]
impl Backend for Memory {
    fn location(&self) -> String {
        "memory".to_owned()
    }

    async fn put(&self, key: &Key, existing: Existing) -> Result<Box<dyn Upload>, Error> {
        let objects = self.step("begin", key.as_str()).await?;
        if existing == Existing::Keep && objects.contains_key(key) {
            return Err(taken(key));
        }
        Ok(Box::new(MemoryUpload { memory: self.clone(), key: key.clone(), existing, content: Vec::new() }))
    }

    async fn put_if_absent(&self, key: &Key, content: Bytes) -> Result<(), Error> {
        let mut objects = self.step("put", key.as_str()).await?;
        if objects.contains_key(key) {
            return Err(taken(key));
        }
        objects.insert(key.clone(), (content, SystemTime::now()));
        self.expect_no(Fault::After)
    }

    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Download, Error> {
        let objects = self.step("get", key.as_str()).await?;
        let none = || Error::new(ErrorKind::NotFound, "read", key.as_str(), "there is no such object");
        let found = objects.get_key_value(key).ok_or_else(none)?;
        let content = found.1.0.clone();
        let bytes = content.len() as u64;
        let end = range.as_ref().map_or(bytes, |range| range.end.min(bytes));
        let start = range.map_or(0, |range| range.start.min(end));
        let piece = content.slice(start as usize..end as usize);
        Ok(Download { info: info(found), content: stream::iter([Ok(piece)]).boxed() })
    }

    async fn stat(&self, key: &Key) -> Result<Option<ObjectInfo>, Error> {
        Ok(self.step("stat", key.as_str()).await?.get_key_value(key).map(info))
    }

    async fn list(&self, folder: Option<&Key>) -> BoxStream<'_, Result<ObjectInfo, Error>> {
        let prefix = folder.map_or_else(String::new, |folder| format!("{folder}/"));
        let listed: Vec<_> = match self.step("list", prefix.trim_end_matches('/')).await {
            Ok(objects) => {
                objects.iter().filter(|(key, _)| key.as_str().starts_with(&prefix)).map(info).map(Ok).collect()
            }
            Err(e) => vec![Err(e)],
        };
        stream::iter(listed).boxed()
    }

    async fn delete(&self, key: &Key) -> Result<(), Error> {
        self.step("delete", key.as_str()).await?.remove(key);
        self.expect_no(Fault::After)
    }

    async fn remove_abandoned(&self, _: &Abandoned) -> Result<u64, Error> {
        self.step("remove abandoned", "").await.map(|_| 0)
    }
}

#[derive(Debug)]
struct MemoryUpload {
    memory: Memory,
    key: Key,
    existing: Existing,
    content: Vec<u8>,
}

#[async_trait]
impl Upload for MemoryUpload {
    async fn write(&mut self, piece: Bytes) -> Result<(), Error> {
        drop(self.memory.step("write", self.key.as_str()).await?);
        self.content.extend_from_slice(&piece);
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<ObjectInfo, Error> {
        let mut objects = self.memory.step("commit", self.key.as_str()).await?;
        if self.existing == Existing::Keep && objects.contains_key(&self.key) {
            return Err(taken(&self.key));
        }
        objects.insert(self.key.clone(), (self.content.into(), SystemTime::now()));
        Ok(objects.get_key_value(&self.key).map(info).expect("it was just stored"))
    }

    async fn abort(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}

#[tokio::test]
async fn a_place_in_memory_behaves_as_every_backend_does() {
    storage_backends::conformance::check(&Memory::default(), "conformance").await;
}
