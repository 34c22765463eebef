//! Histories of objects, from one bucket to another: the real store.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use hyper::Method;
use pgmig_tests::s3::{Asked, Fault, S3Proxy};
use storage_backends::ErrorKind;
use storage_backends::mirror::{Deleted, MirrorOptions, MirrorReport, Side, mirror, verify_versions};

use crate::bucket::{Bucket, Stored, content, folder};

const PART: usize = 8 << 20;

async fn run(from: &Side, to: &Side, deleted: Deleted) -> MirrorReport {
    let mut options = MirrorOptions::new(deleted);
    options.versions = true;
    mirror(from, to, &options).await.expect("both are there")
}

async fn are_same(from: &Side, to: &Side) -> bool {
    let [ours, theirs] = verify_versions(from, to, 4).await.expect("both can be read");
    ours.sha256 == theirs.sha256
}

/// Times in the history are those of the store.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// More of a history for each key.
async fn go_on(bucket: &Bucket, rounds: std::ops::Range<usize>) {
    for round in rounds {
        for (n, key) in ["a", "a/b", "..", "with space/\u{fc}", "x%y"].into_iter().enumerate() {
            if (round + n) % 4 == 3 {
                bucket.remove(key).await;
            } else {
                let content = content(10 + n * 1000 + round, n as u64);
                bucket.put(key, &Stored { content, ..Stored::rich(round) }).await;
            }
            pause().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_is_copied_once_and_goes_on_where_it_was() {
    let (source, target) = (Bucket::new("history").await, Bucket::new("history-copy").await);
    source.keep_versions().await;
    go_on(&source, 0..4).await;
    // The last one is in parts.
    for (round, size) in [100, 0, PART + 1].into_iter().enumerate() {
        source.put("sizes", &Stored { content: content(size, round as u64), ..Stored::rich(round) }).await;
        pause().await;
    }
    // Nothing but a removal.
    source.remove("never there").await;
    let (from, to) = (source.side().await, target.side().await);
    let report = run(&from, &to, Deleted::Keep).await;
    assert!(report.is_complete() && report.copied.objects == 24, "{report:?}");
    assert!(are_same(&from, &to).await);
    let report = run(&from, &to, Deleted::Keep).await;
    assert_eq!((report.copied.objects, report.skipped.objects), (0, 24), "{report:?}");

    go_on(&source, 4..6).await;
    assert!(!are_same(&from, &to).await);
    let report = run(&from, &to, Deleted::Keep).await;
    assert_eq!((report.copied.objects, report.skipped.objects), (10, 24), "{report:?}");
    assert!(are_same(&from, &to).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_was_cut_short_goes_on() {
    let (source, target) = (Bucket::new("history-cut").await, Bucket::new("history-cut-copy").await);
    source.keep_versions().await;
    go_on(&source, 0..5).await;
    let from = source.side().await;
    let proxy = S3Proxy::start(|_| Fault::None);
    let behind = target.behind(&proxy).await;
    let mut runs = 0;
    loop {
        runs += 1;
        let stored = AtomicUsize::new(0);
        proxy.set_rule(move |asked: &Asked| {
            let is_change = asked.method == Method::PUT || asked.method == Method::DELETE;
            // Each run comes as far as this.
            if is_change && stored.fetch_add(1, SeqCst) > 4 { Fault::Reset } else { Fault::None }
        });
        let report = run(&from, &behind, Deleted::Keep).await;
        if report.is_complete() {
            break;
        }
        assert!(runs < 25, "{report:?}");
    }
    assert!(runs > 3, "{runs}");
    assert!(are_same(&from, &target.side().await).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_copy_has_is_removed_when_that_is_said_and_can_be_had_back() {
    let (source, target) = (Bucket::new("history-surplus").await, Bucket::new("history-surplus-copy").await);
    source.keep_versions().await;
    source.put("both", &Stored::new("1")).await;
    let (from, to) = (source.side().await, target.side().await);
    assert!(run(&from, &to, Deleted::Keep).await.is_complete());
    target.put("only there", &Stored::new("2")).await;
    let report = run(&from, &to, Deleted::Keep).await;
    assert_eq!((report.surplus.objects, report.removed.objects), (1, 0), "{report:?}");
    let report = run(&from, &to, Deleted::Remove).await;
    assert_eq!((report.surplus.objects, report.removed.objects), (0, 1), "{report:?}");
    assert!(target.get("only there").await.is_none());
    let report = run(&from, &to, Deleted::Remove).await;
    assert_eq!((report.surplus.objects, report.removed.objects), (0, 0), "{report:?}");

    // A source that is empty removes nothing.
    let empty = Bucket::new("history-empty").await.side().await;
    let report = run(&empty, &to, Deleted::Remove).await;
    assert!(!report.is_complete() && target.get("both").await.is_some(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_of_others_is_let_alone() {
    let (source, target) = (Bucket::new("history-other").await, Bucket::new("history-other-copy").await);
    source.keep_versions().await;
    source.put("a", &Stored::new("1")).await;
    source.put("b", &Stored::new("2")).await;
    let (from, to) = (source.side().await, target.side().await);
    target.keep_versions().await;
    target.put("a", &Stored::new("of somebody else")).await;
    let report = run(&from, &to, Deleted::Keep).await;
    assert_eq!((report.copied.objects, report.failed.objects), (1, 1), "{report:?}");
    assert!(report.failures[0].why.contains("are not copies of the source's"), "{report:?}");
    assert_eq!(target.get("a").await.unwrap().content, "of somebody else");

    // Where objects would be replaced for good, none is copied; and a folder has no versions.
    let plain = Bucket::new("history-plain").await;
    plain.put("x", &Stored::new("x")).await;
    let report = run(&from, &plain.side().await, Deleted::Keep).await;
    assert!(report.stopped.unwrap().why.contains("does not keep versions"));
    let out = tempfile::tempdir().unwrap();
    let mut options = MirrorOptions::new(Deleted::Keep);
    options.versions = true;
    let error = mirror(&from, &folder(out.path()), &options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSupported, "{error}");
}
