//! What every [`Backend`] has to do, as checks that run on one. For the tests of a backend, ours or yours.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! # let folder = tempfile::tempdir()?;
//! let backend = storage_backends::local::Local::open(folder.path())?;
//! storage_backends::conformance::check(&backend, "conformance").await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::backend::{Abandoned, Backend, Existing, ObjectInfo};
use crate::error::{Error, ErrorKind};
use crate::key::Key;

/// Runs all checks below `folder`, where nothing must be, and leaves nothing there.
///
/// # Panics
///
/// When the backend does not behave.
pub async fn check(backend: &dyn Backend, folder: &str) {
    let suite = Suite { backend, folder: folder.parse().expect("the folder is a key") };
    assert_eq!(suite.listed(None).await, [""; 0], "there is something in the folder already");
    suite.an_object_is_there_when_it_is_committed().await;
    suite.what_is_aborted_or_dropped_was_never_there().await;
    suite.a_name_that_is_taken_is_kept_or_replaced_as_asked().await;
    suite.of_those_who_put_if_absent_one_succeeds().await;
    suite.any_range_of_an_object_can_be_read().await;
    suite.a_listing_has_the_objects_of_a_folder_and_of_those_below().await;
    suite.what_is_not_there_is_told_and_removing_it_is_no_error().await;
    suite.any_key_is_the_name_of_an_object().await;
    suite.large_objects_come_back_as_they_were().await;
    suite.what_is_being_written_is_not_abandoned().await;
    assert_eq!(suite.listed(None).await, [""; 0], "the checks leave something behind");
}

struct Suite<'b> {
    backend: &'b dyn Backend,
    folder: Key,
}

impl Suite<'_> {
    fn key(&self, name: &str) -> Key {
        self.folder.join(name).expect("it is a key")
    }

    async fn put(&self, name: &str, content: &[u8], existing: Existing) -> Result<ObjectInfo, Error> {
        let mut upload = self.backend.put(&self.key(name), existing).await?;
        for piece in content.chunks(1 << 20) {
            upload.write(Bytes::copy_from_slice(piece)).await?;
        }
        upload.commit().await
    }

    async fn content(&self, name: &str) -> Result<Vec<u8>, Error> {
        let found = self.backend.get(&self.key(name), None).await?;
        Ok(found.content.try_collect::<Vec<_>>().await?.concat())
    }

    /// The names in a folder below, sorted.
    async fn listed(&self, folder: Option<&str>) -> Vec<String> {
        let folder = folder.map_or_else(|| self.folder.clone(), |name| self.key(name));
        let objects: Vec<_> = self.backend.list(Some(&folder)).await.try_collect().await.expect("it can be listed");
        let prefix = format!("{}/", self.folder);
        let names = objects.iter().map(|object| object.key.as_str().strip_prefix(&prefix).expect("it is below"));
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        names
    }

    async fn remove(&self, names: &[&str]) {
        for name in names {
            self.backend.delete(&self.key(name)).await.expect("it can be removed");
        }
    }

    async fn an_object_is_there_when_it_is_committed(&self) {
        let key = self.key("new");
        let mut upload = self.backend.put(&key, Existing::Keep).await.expect("it can begin");
        upload.write("hello ".into()).await.expect("it can be written");
        upload.write(Bytes::new()).await.expect("nothing can be written");
        upload.write("world".into()).await.expect("it can be written");
        assert_eq!(self.backend.stat(&key).await.expect("it can be asked"), None);
        assert_eq!(self.listed(None).await, [""; 0]);
        let info = upload.commit().await.expect("it can be committed");
        assert_eq!((&info.key, info.bytes), (&key, 11));
        let stat = self.backend.stat(&key).await.expect("it can be asked").expect("it is there");
        assert_eq!((&stat.key, stat.bytes), (&key, 11));
        assert_eq!(self.content("new").await.expect("it can be read"), b"hello world");
        assert_eq!(self.put("empty", b"", Existing::Keep).await.expect("it can be put").bytes, 0);
        assert_eq!(self.content("empty").await.expect("it can be read"), b"");
        self.remove(&["new", "empty"]).await;
    }

    async fn what_is_aborted_or_dropped_was_never_there(&self) {
        for is_dropped in [false, true] {
            let mut upload = self.backend.put(&self.key("never"), Existing::Keep).await.expect("it can begin");
            upload.write("something".into()).await.expect("it can be written");
            if is_dropped {
                drop(upload);
            } else {
                upload.abort().await.expect("it can be aborted");
            }
            assert_eq!(self.backend.stat(&self.key("never")).await.expect("it can be asked"), None);
            assert_eq!(self.listed(None).await, [""; 0]);
        }
    }

    async fn a_name_that_is_taken_is_kept_or_replaced_as_asked(&self) {
        self.put("taken", b"first", Existing::Keep).await.expect("the name is free");
        let error = self.put("taken", b"second", Existing::Keep).await.expect_err("the name is taken");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
        assert!(error.to_string().contains("taken") && error.hint().is_some(), "{error}");
        assert_eq!(self.content("taken").await.expect("it can be read"), b"first");
        let mut upload = self.backend.put(&self.key("taken"), Existing::Replace).await.expect("it can begin");
        upload.write("third".into()).await.expect("it can be written");
        assert_eq!(self.content("taken").await.expect("it can be read"), b"first");
        upload.commit().await.expect("it can be replaced");
        assert_eq!(self.content("taken").await.expect("it can be read"), b"third");
        self.remove(&["taken"]).await;
    }

    async fn of_those_who_put_if_absent_one_succeeds(&self) {
        let key = self.key("one");
        let puts = (0..8).map(|n: u8| self.backend.put_if_absent(&key, vec![n; 10].into()));
        let results = futures_util::future::join_all(puts).await;
        let winners: Vec<_> = (0..8).filter(|n| results[usize::from(*n)].is_ok()).collect();
        assert_eq!(winners.len(), 1, "{results:?}");
        assert!(results.iter().flat_map(|it| it.as_ref().err()).all(|e| e.kind() == ErrorKind::AlreadyExists));
        assert_eq!(self.content("one").await.expect("it can be read"), vec![winners[0]; 10]);
        self.remove(&["one"]).await;
        self.backend.put_if_absent(&key, "again".into()).await.expect("the name is free again");
        self.remove(&["one"]).await;
    }

    async fn any_range_of_an_object_can_be_read(&self) {
        let content: Vec<u8> = (0..=255).cycle().take(1000).collect();
        self.put("ranges", &content, Existing::Keep).await.expect("it can be put");
        let backwards = |start, end| start..end;
        let none = [backwards(2, 1), backwards(1000, 0), backwards(u64::MAX, 5)];
        let some = [0..0, 0..1, 0..1000, 999..1000, 1000..1000, 500..2000, 1000..1001, 5000..6000, 3..u64::MAX];
        for range in some.into_iter().chain(none) {
            let found = self.backend.get(&self.key("ranges"), Some(range.clone())).await.expect("it can be read");
            assert_eq!(found.info.bytes, 1000);
            let read = found.content.try_collect::<Vec<_>>().await.expect("it can be read").concat();
            let expected = range.start.min(1000) as usize..range.end.min(1000) as usize;
            assert_eq!(read, content.get(expected).unwrap_or_default(), "{range:?}");
        }
        self.remove(&["ranges"]).await;
    }

    async fn a_listing_has_the_objects_of_a_folder_and_of_those_below(&self) {
        let names = ["a", "a.b", "b/c", "b/d/e", "b2/f", "b.g"];
        for name in names {
            self.put(name, name.as_bytes(), Existing::Keep).await.expect("it can be put");
        }
        let mut sorted = names.to_vec();
        sorted.sort_unstable();
        assert_eq!(self.listed(None).await, sorted);
        assert_eq!(self.listed(Some("b")).await, ["b/c", "b/d/e"]);
        assert_eq!(self.listed(Some("nothing")).await, [""; 0]);
        assert_eq!(self.listed(Some("a")).await, [""; 0]);
        let all: Vec<_> = self.backend.list(None).await.try_collect().await.expect("it can be listed");
        assert!(names.iter().all(|name| all.iter().any(|object| object.key == self.key(name))));
        // Nobody has to read a listing to its end.
        drop(self.backend.list(Some(&self.folder)).await.next().await);
        self.remove(&names).await;
    }

    async fn what_is_not_there_is_told_and_removing_it_is_no_error(&self) {
        for name in ["nothing", "no/folder/either"] {
            let error = self.backend.get(&self.key(name), None).await.expect_err("it is not there");
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            assert!(error.to_string().contains(name) && error.hint().is_some(), "{error}");
            assert_eq!(self.backend.stat(&self.key(name)).await.expect("it can be asked"), None);
            self.remove(&[name]).await;
        }
        self.put("folder/object", b"x", Existing::Keep).await.expect("it can be put");
        assert_eq!(self.backend.stat(&self.key("folder")).await.expect("it can be asked"), None);
        self.remove(&["folder/object"]).await;
    }

    async fn any_key_is_the_name_of_an_object(&self) {
        let long = "x".repeat(255);
        let names =
            ["with blank", "\u{e4}\u{1f980}", "+%20&=?#", "...", ".hidden", "\"'`$", "*", "~", "\u{1}\n", &long];
        for name in names {
            self.put(name, name.as_bytes(), Existing::Keep).await.expect("it can be put");
            assert_eq!(self.content(name).await.expect("it can be read"), name.as_bytes(), "{name:?}");
        }
        let mut sorted = names.to_vec();
        sorted.sort_unstable();
        assert_eq!(self.listed(None).await, sorted);
        self.remove(&names).await;
    }

    async fn large_objects_come_back_as_they_were(&self) {
        // Two parts of an upload in parts, and a bit; nothing that is equal to its neighbour.
        let content: Vec<u8> =
            (0..18_u64 << 17).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
        self.put("large", &content, Existing::Keep).await.expect("it can be put");
        assert!(self.content("large").await.expect("it can be read") == content);
        self.remove(&["large"]).await;
    }

    async fn what_is_being_written_is_not_abandoned(&self) {
        let mut upload = self.backend.put(&self.key("slow"), Existing::Keep).await.expect("it can begin");
        upload.write("slow".into()).await.expect("it can be written");
        let abandoned = Abandoned::new(Duration::ZERO, SystemTime::now(), |_| true);
        self.backend.remove_abandoned(&abandoned).await.expect("it can be cleaned up");
        upload.commit().await.expect("it is still there");
        assert_eq!(self.content("slow").await.expect("it can be read"), b"slow");
        self.remove(&["slow"]).await;
    }
}
