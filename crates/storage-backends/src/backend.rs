//! What every place for objects can do.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::error::Error;
use crate::key::Key;

/// A place that keeps objects under names. An object is there with all of its bytes, or not at all.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync {
    /// Where it is, for people: a path or an address, without credentials.
    fn location(&self) -> String;

    /// Begins an object of unknown length. It is not there before [`Upload::commit`].
    ///
    /// # Errors
    ///
    /// The name is taken, and `existing` says to keep what has it; or nothing can be stored there.
    async fn put(&self, key: &Key, existing: Existing) -> Result<Box<dyn Upload>, Error>;

    /// Stores a small object, in one step, if nothing has its name. Of several that try it at the same time one
    /// succeeds, as far as the store keeps its word.
    ///
    /// # Errors
    ///
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists); or it cannot be stored.
    async fn put_if_absent(&self, key: &Key, content: Bytes) -> Result<(), Error>;

    /// Reads an object, or the bytes of it in `range`. What is behind the end of the object is left out; a range that ends before it
    /// starts has nothing in it.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound); or it cannot be read.
    async fn get(&self, key: &Key, range: Option<Range<u64>>) -> Result<Download, Error>;

    /// What is known of an object; `None` when it is not there.
    ///
    /// # Errors
    ///
    /// The place cannot be asked.
    async fn stat(&self, key: &Key) -> Result<Option<ObjectInfo>, Error>;

    /// The objects whose keys begin with `folder` and a slash, or all of them, in no order.
    async fn list(&self, folder: Option<&Key>) -> BoxStream<'_, Result<ObjectInfo, Error>>;

    /// Removes an object. That it is not there is no error.
    ///
    /// # Errors
    ///
    /// It is there still.
    async fn delete(&self, key: &Key) -> Result<(), Error>;

    /// Removes what uploads left behind that were never ended, and to which nobody has written for [`age`](Abandoned::age). Returns how
    /// many there were.
    ///
    /// # Errors
    ///
    /// Some of it could not be removed.
    async fn remove_abandoned(&self, abandoned: &Abandoned) -> Result<u64, Error>;
}

/// The shortest time after which something that is being written can be taken for what somebody left behind who was killed: several
/// times as long as whoever makes a backup lets pass before saying that it is still being made. Whoever asks for less gets this.
pub const SHORTEST_GRACE_TIME: Duration = Duration::from_secs(60 * 60);

/// Whether what is in a folder is somebody's own.
type IsOurs = dyn Fn(Option<&Key>) -> bool + Send + Sync;

/// Which uploads somebody takes for abandoned; see [`Backend::remove_abandoned`].
#[derive(Clone)]
pub struct Abandoned {
    age: Duration,
    now: SystemTime,
    is_ours: Arc<IsOurs>,
}

impl Abandoned {
    /// Those to which nobody has written for `age` before `now`, but at least for the [`SHORTEST_GRACE_TIME`]; and only those of
    /// objects in folders of which `is_ours` says so. Others may write to the same place, another job or another program, and a
    /// store does not tell whose upload it is. `None` is the folder of everything.
    pub fn new(age: Duration, now: SystemTime, is_ours: impl Fn(Option<&Key>) -> bool + Send + Sync + 'static) -> Self {
        Self { age: age.max(SHORTEST_GRACE_TIME), now, is_ours: Arc::new(is_ours) }
    }

    /// How long nobody has written to them.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.age
    }

    /// Whether what was written to at this time last is old enough. A time to come is that of a clock that was set back: not known to be
    /// old.
    #[must_use]
    pub fn is_old(&self, modified: SystemTime) -> bool {
        self.now.duration_since(modified).is_ok_and(|elapsed| elapsed >= self.age)
    }

    /// Whether the uploads of objects in this folder are meant.
    #[must_use]
    pub fn is_ours(&self, folder: Option<&Key>) -> bool {
        (self.is_ours)(folder)
    }
}

impl fmt::Debug for Abandoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { age, now, .. } = self;
        f.debug_struct("Abandoned").field("age", age).field("now", now).finish_non_exhaustive()
    }
}

/// What becomes of an object that has the name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays as it is, and storing another one is an error.
    Keep,
    /// It is replaced, at the moment when the new one is complete.
    Replace,
}

/// An object that is being written. Dropped, it is abandoned.
#[async_trait]
pub trait Upload: fmt::Debug + Send {
    /// Writes the next bytes.
    ///
    /// # Errors
    ///
    /// They could not be written; then the object cannot be committed any more.
    async fn write(&mut self, piece: Bytes) -> Result<(), Error>;

    /// Gives the object its name, all at once.
    ///
    /// # Errors
    ///
    /// The object is not there, and what had its name still is.
    async fn commit(self: Box<Self>) -> Result<ObjectInfo, Error>;

    /// Removes what was written.
    ///
    /// # Errors
    ///
    /// Some of it is still there; see [`Backend::remove_abandoned`].
    async fn abort(self: Box<Self>) -> Result<(), Error>;
}

/// What is known of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectInfo {
    /// Its name.
    pub key: Key,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was written, by the clock of the store.
    pub modified: SystemTime,
}

impl ObjectInfo {
    /// What a backend knows of an object.
    pub fn new(key: Key, bytes: u64, modified: SystemTime) -> Self {
        Self { key, bytes, modified }
    }
}

/// An object that is being read.
pub struct Download {
    /// The whole object.
    pub info: ObjectInfo,
    /// Its bytes, or those that were asked for, in pieces of some size. One that ends early does so with an error.
    pub content: BoxStream<'static, Result<Bytes, Error>>,
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download").field("info", &self.info).finish_non_exhaustive()
    }
}
