//! Buckets and folders as copies of each other: the real store, and a process that is killed.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use hyper::Method;
use pgmig_tests::s3::{Fault, S3Proxy, S3Server};
use storage_backends::ErrorKind;
use storage_backends::mirror::{Compare, Deleted, DifferenceKind, MirrorOptions, MirrorReport, Side, mirror, verify};
use storage_backends::s3::{Retention, RetentionMode, S3};

use crate::bucket::{Bucket, Stored, content, expect_same, folder, odd_keys};

const PART: usize = 8 << 20;

fn options() -> MirrorOptions {
    MirrorOptions::new(Deleted::Keep)
}

fn comparing(compare: Compare) -> MirrorOptions {
    let mut options = options();
    options.compare = compare;
    options
}

/// What was copied, skipped and removed, when nothing has failed.
#[track_caller]
fn complete(report: Result<MirrorReport, storage_backends::Error>) -> [u64; 3] {
    let report = report.expect("it can begin");
    assert!(report.is_complete(), "{report:?}");
    [report.copied.objects, report.skipped.objects, report.removed.objects]
}

#[tokio::test]
async fn objects_with_odd_keys_come_back_from_a_folder_as_they_were() {
    let (first, second) = (Bucket::new("odd").await, Bucket::new("odd-again").await);
    let keys = odd_keys();
    for (n, key) in keys.iter().enumerate() {
        first.put(key, &Stored::rich(n)).await;
    }
    let count = keys.len() as u64;
    let kept = tempfile::tempdir().unwrap();
    let kept = folder(kept.path());
    assert_eq!(complete(mirror(&first.side().await, &kept, &options()).await), [count, 0, 0]);
    assert_eq!(complete(mirror(&kept, &second.side().await, &options()).await), [count, 0, 0]);
    for (n, key) in keys.iter().enumerate() {
        let stored = first.get(key).await.expect(key);
        assert_eq!(stored, Stored::rich(n), "{key:?}");
        assert_eq!(second.get(key).await, Some(stored), "{key:?}");
    }
    let reports = [
        expect_same(verify(&first.side().await, &kept, 4).await, count),
        expect_same(verify(&kept, &second.side().await, 4).await, count),
        expect_same(verify(&first.side().await, &second.side().await, 4).await, count),
    ];
    assert!(reports.iter().all(|(sha256, bytes_only)| *sha256 == reports[0].0 && *bytes_only == 0), "{reports:?}");
    // Nothing is copied again, in any direction.
    assert_eq!(complete(mirror(&first.side().await, &kept, &options()).await), [0, count, 0]);
    assert_eq!(complete(mirror(&kept, &second.side().await, &options()).await), [0, count, 0]);
    assert_eq!(complete(mirror(&first.side().await, &second.side().await, &options()).await), [count, 0, 0]);
    assert_eq!(complete(mirror(&first.side().await, &second.side().await, &options()).await), [0, count, 0]);
    // Nor when somebody has copied the folder without its times.
    let copy = tempfile::tempdir().unwrap();
    let Side::Folder(path) = &kept else { unreachable!() };
    let copied = Command::new("cp").arg("-r").arg(path.join(".")).arg(copy.path()).status().unwrap();
    assert!(copied.success());
    assert_eq!(complete(mirror(&first.side().await, &folder(copy.path()), &options()).await), [0, count, 0]);
    // All of it can be removed as well.
    for key in &keys[1..] {
        first.remove(key).await;
    }
    let remove = MirrorOptions::new(Deleted::Remove);
    assert_eq!(complete(mirror(&first.side().await, &kept, &remove).await), [0, 1, count - 1]);
    assert_eq!(complete(mirror(&kept, &second.side().await, &remove).await), [0, 1, count - 1]);
    assert_eq!(second.keys().await, keys[..1]);
    let mut left: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[tokio::test]
async fn large_objects_go_in_parts_in_every_direction() {
    let (first, second, third) =
        (Bucket::new("large").await, Bucket::new("large-b").await, Bucket::new("large-c").await);
    let mut below = second.config.clone();
    below.prefix = "below/here".into();
    let below = Side::Bucket(S3::connect(below).await.unwrap());
    let sizes = [0, 1, 1 << 20, (1 << 20) + 1, PART - 1, PART, PART + 1, 3 * PART + 77];
    for (n, size) in sizes.into_iter().enumerate() {
        first.put(&format!("{size}"), &Stored { content: content(size, n as u64), ..Stored::rich(n) }).await;
    }
    let count = sizes.len() as u64;
    let kept = tempfile::tempdir().unwrap();
    let kept = folder(kept.path());
    for (from, to) in
        [(first.side().await, kept.clone()), (first.side().await, below.clone()), (kept.clone(), third.side().await)]
    {
        assert_eq!(complete(mirror(&from, &to, &options()).await), [count, 0, 0]);
        assert_eq!(complete(mirror(&from, &to, &options()).await), [0, count, 0]);
        let attributes = comparing(Compare::Attributes);
        assert_eq!(complete(mirror(&from, &to, &attributes).await), [0, count, 0]);
        expect_same(verify(&from, &to, 2).await, count);
    }
    for (n, size) in sizes.into_iter().enumerate() {
        let expected = Some(Stored { content: content(size, n as u64), ..Stored::rich(n) });
        assert!(second.get(&format!("below/here/{size}")).await == expected, "{size}");
        assert!(third.get(&format!("{size}")).await == expected, "{size}");
    }
    // A folder between two buckets loses nothing: the way back from below a prefix is the same.
    assert_eq!(complete(mirror(&below, &kept, &comparing(Compare::Content)).await), [0, count, 0]);
}

#[tokio::test]
async fn a_folder_that_nobody_mirrored_is_copied_by_its_paths() {
    let made = tempfile::tempdir().unwrap();
    let files = ["100%.txt", "a%20b", "deep/er/x y", "%empty", "\u{1f980}", "A%2f"];
    for name in files {
        let path = made.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
    fs::create_dir(made.path().join("empty")).unwrap();
    let bucket = Bucket::new("by-hand").await;
    assert_eq!(complete(mirror(&folder(made.path()), &bucket.side().await, &options()).await), [6, 0, 0]);
    for name in files {
        assert_eq!(bucket.get(name).await.expect(name).content, name);
    }
    let (_, bytes_only) = expect_same(verify(&folder(made.path()), &bucket.side().await, 8).await, 6);
    assert_eq!(bytes_only, 6);
    assert!(!made.path().join(".mirror").exists(), "a source is only read");
    assert_eq!(complete(mirror(&folder(made.path()), &bucket.side().await, &options()).await), [0, 6, 0]);
    // Touched, but not changed.
    fs::write(made.path().join("a%20b"), "a%20b").unwrap();
    assert_eq!(complete(mirror(&folder(made.path()), &bucket.side().await, &options()).await), [0, 6, 0]);
    // What cannot be an object is told, and the others are copied.
    std::os::unix::fs::symlink("/etc/passwd", made.path().join("link")).unwrap();
    std::os::unix::net::UnixListener::bind(made.path().join("socket")).unwrap();
    let foreign = std::os::unix::ffi::OsStringExt::from_vec(b"latin-\xe9".to_vec());
    fs::write(made.path().join::<std::ffi::OsString>(foreign), "").unwrap();
    fs::write(made.path().join("new"), "new").unwrap();
    let report =
        mirror(&folder(made.path()), &bucket.side().await, &MirrorOptions::new(Deleted::Remove)).await.unwrap();
    assert!(!report.is_complete());
    let mut failed: Vec<_> = report.failures.iter().map(|it| it.key.as_str()).collect();
    failed.sort_unstable();
    assert_eq!(failed, ["latin-\u{fffd}", "link", "socket"]);
    assert_eq!((report.copied.objects, report.skipped.objects), (1, 6));
    assert!(!verify(&folder(made.path()), &bucket.side().await, 8).await.unwrap().is_same());
}

#[tokio::test]
async fn an_object_that_was_replaced_by_one_of_the_same_length_is_found() {
    let (first, second) = (Bucket::new("changed").await, Bucket::new("changed-again").await);
    for n in 0..5 {
        first.put(&format!("object-{n}"), &Stored::new("before")).await;
    }
    let kept = tempfile::tempdir().unwrap();
    let path = kept.path().join("object-3");
    let kept = folder(kept.path());
    for _ in 0..2 {
        complete(mirror(&first.side().await, &kept, &options()).await);
        complete(mirror(&kept, &second.side().await, &options()).await);
    }
    first.put("object-3", &Stored::new("after!")).await;
    assert_eq!(complete(mirror(&first.side().await, &kept, &options()).await), [1, 4, 0]);
    assert_eq!(fs::read(&path).unwrap(), b"after!");
    assert_eq!(complete(mirror(&kept, &second.side().await, &options()).await), [1, 4, 0]);
    assert_eq!(second.get("object-3").await.unwrap().content, "after!");
    expect_same(verify(&first.side().await, &second.side().await, 8).await, 5);

    // Written in its place, with the time of before.
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, "third!").unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
    assert_eq!(complete(mirror(&kept, &second.side().await, &options()).await), [1, 4, 0]);
    assert_eq!(second.get("object-3").await.unwrap().content, "third!");
    // A copy that somebody has changed is made anew.
    let report = verify(&first.side().await, &kept, 8).await.unwrap();
    assert_eq!(report.differences.len(), 1);
    assert_eq!((report.differences[0].key.as_str(), report.differences[0].kind), ("object-3", DifferenceKind::Content));
    assert_eq!(complete(mirror(&first.side().await, &kept, &options()).await), [1, 4, 0]);
    assert_eq!(fs::read(&path).unwrap(), b"after!");
    second.put("object-2", &Stored::new("other!")).await;
    assert_eq!(complete(mirror(&kept, &second.side().await, &options()).await), [2, 3, 0]);
    expect_same(verify(&kept, &second.side().await, 8).await, 5);

    // The same bytes with another type are another object; tags are in no listing.
    first.put("object-1", &Stored { content_type: "text/html".into(), ..Stored::new("before") }).await;
    assert_eq!(complete(mirror(&first.side().await, &kept, &options()).await), [1, 4, 0]);
    first.tag("object-0", &[("new".to_owned(), "tag".to_owned())].into()).await;
    let report = verify(&first.side().await, &kept, 8).await.unwrap();
    assert_eq!(report.differences[0].kind, DifferenceKind::Tags, "{report:?}");
    for compare in [Compare::Attributes, Compare::Content] {
        first.tag("object-0", &[("new".to_owned(), format!("{compare:?}"))].into()).await;
        let comparing = comparing(compare);
        assert_eq!(complete(mirror(&first.side().await, &kept, &comparing).await), [1, 4, 0]);
        assert_eq!(
            complete(mirror(&kept, &second.side().await, &comparing).await)[0],
            if compare == Compare::Attributes { 2 } else { 1 }
        );
        assert_eq!(second.get("object-0").await.unwrap().tags["new"], format!("{compare:?}"));
    }
    expect_same(verify(&first.side().await, &second.side().await, 8).await, 5);
    // Damage that nothing tells of is found by reading.
    let damaged = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, "After!").unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(damaged).unwrap();
    let content = comparing(Compare::Content);
    assert_eq!(complete(mirror(&first.side().await, &kept, &content).await), [1, 4, 0]);
}

#[tokio::test]
async fn an_object_and_a_folder_of_its_name_live_beside_each_other() {
    let bucket = Bucket::new("beside").await;
    let kept = tempfile::tempdir().unwrap();
    let side = folder(kept.path());
    let check = async |expected: &[(&str, &str)], counts| {
        assert_eq!(complete(mirror(&bucket.side().await, &side, &MirrorOptions::new(Deleted::Remove)).await), counts);
        for (path, content) in expected {
            assert_eq!(fs::read_to_string(kept.path().join(path)).expect(path), *content);
        }
        let count = bucket.keys().await.len();
        expect_same(verify(&bucket.side().await, &side, 8).await, count as u64);
    };
    bucket.put("a", &Stored::new("one")).await;
    check(&[("a", "one")], [1, 0, 0]).await;
    bucket.put("a/b", &Stored::new("two")).await;
    check(&[("a%object", "one"), ("a/b", "two")], [1, 1, 0]).await;
    bucket.put("a", &Stored::new("three")).await;
    bucket.put("a/b/c", &Stored::new("four")).await;
    check(&[("a%object", "three"), ("a/b%object", "two"), ("a/b/c", "four")], [2, 1, 0]).await;
    bucket.remove("a/b").await;
    bucket.remove("a/b/c").await;
    check(&[("a%object", "three")], [0, 1, 2]).await;
    assert!(!kept.path().join("a").exists());
    bucket.put("a", &Stored::new("five")).await;
    check(&[], [1, 0, 0]).await;
}

#[tokio::test]
async fn what_the_source_does_not_have_is_removed_only_when_that_was_asked_for() {
    let (source, target) = (Bucket::new("deleted").await, Bucket::new("deleted-copy").await);
    let kept = tempfile::tempdir().unwrap();
    let kept = folder(kept.path());
    for n in 0..10 {
        source.put(&format!("{n}"), &Stored::new("content")).await;
    }
    let remove = MirrorOptions::new(Deleted::Remove);
    for to in [target.side().await, kept.clone()] {
        assert_eq!(complete(mirror(&source.side().await, &to, &remove).await), [10, 0, 0]);
    }
    source.remove("3").await;
    for to in [target.side().await, kept.clone()] {
        let report = mirror(&source.side().await, &to, &options()).await.unwrap();
        assert!(report.is_complete() && report.surplus.objects == 1 && report.removed.objects == 0, "{report:?}");
        // A listing that fails in the middle, or ends there, removes nothing.
        let proxy = S3Proxy::start(|_| Fault::None);
        let behind = source.behind(&proxy).await;
        proxy.set_rule(|asked| if asked.query.contains("list-type") { Fault::Nonsense(503) } else { Fault::None });
        let report = mirror(&behind, &to, &remove).await.unwrap();
        assert!(!report.is_complete() && report.removed.objects == 0, "{report:?}");
        assert!(report.stopped.as_ref().unwrap().why.contains("cannot list"), "{report:?}");
        // Nor does an object that cannot be copied.
        source.put("4", &Stored::new("changed")).await;
        proxy.set_rule(|asked| if asked.path.ends_with("/4") { Fault::Nonsense(500) } else { Fault::None });
        let report = mirror(&behind, &to, &remove).await.unwrap();
        assert_eq!((report.failed.objects, report.removed.objects, report.skipped.objects), (1, 0, 8), "{report:?}");
        assert_eq!(report.failures[0].key, "4");
        assert!(report.stopped.is_some());
        assert_eq!(complete(mirror(&source.side().await, &to, &remove).await), [1, 8, 1]);
        source.put("4", &Stored::new("content")).await;
        source.put("3", &Stored::new("content")).await;
        assert_eq!(complete(mirror(&source.side().await, &to, &remove).await), [2, 8, 0]);
        source.remove("3").await;
    }
    // An empty source is a mistake.
    let nothing = tempfile::tempdir().unwrap();
    let report = mirror(&folder(nothing.path()), &target.side().await, &remove).await.unwrap();
    assert!(!report.is_complete() && report.removed.objects == 0, "{report:?}");
    assert!(report.stopped.unwrap().why.contains("no objects at all"));
    assert_eq!(target.keys().await.len(), 10);
}

#[tokio::test]
async fn nothing_is_removed_where_backups_are_that_the_source_does_not_have() {
    let (source, target) = (Bucket::new("guarded").await, Bucket::new("guarded-copy").await);
    let kept = tempfile::tempdir().unwrap();
    source.put("model", &Stored::new("content")).await;
    let remove = MirrorOptions::new(Deleted::Remove);
    let manifests = ["20261121T230004Z/manifest.json", "prod/nightly/20261121T230004Z/manifest.json"];
    for to in [target.side().await, folder(kept.path())] {
        for manifest in manifests {
            for key in ["a", manifest, "z"] {
                match &to {
                    Side::Folder(path) => {
                        let path = path.join(key);
                        fs::create_dir_all(path.parent().unwrap()).unwrap();
                        fs::write(path, "{}").unwrap();
                    }
                    _ => target.put(key, &Stored::new("{}")).await,
                }
            }
            let report = mirror(&source.side().await, &to, &remove).await.unwrap();
            assert_eq!((report.removed.objects, report.surplus.objects), (0, 3), "{report:?}");
            let stopped = report.stopped.unwrap();
            assert!(stopped.why.contains("holds backups") && stopped.why.contains(manifest), "{stopped:?}");
            // Without the manifest it is no backup, and goes as everything else does.
            match &to {
                Side::Folder(path) => fs::remove_file(path.join(manifest)).unwrap(),
                _ => target.remove(manifest).await,
            }
            assert_eq!(complete(mirror(&source.side().await, &to, &remove).await)[2], 2);
        }
        // What only looks a little like one is an object.
        for key in ["nightly/latest/manifest.json", "20261121T230004Z/manifest.json/x", "manifest.json"] {
            match &to {
                Side::Folder(path) => {
                    let path = path.join(key);
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, "{}").unwrap();
                }
                _ => target.put(key, &Stored::new("{}")).await,
            }
        }
        assert_eq!(complete(mirror(&source.side().await, &to, &remove).await)[2], 3);
    }
    // A copy of backups loses what was pruned where they are.
    for key in [manifests[0], "20261122T230004Z/manifest.json"] {
        target.put(key, &Stored::new("{}")).await;
    }
    source.put("20261122T230004Z/manifest.json", &Stored::new("{}")).await;
    assert_eq!(complete(mirror(&source.side().await, &target.side().await, &remove).await)[2], 1);
    // But not what another job has beside them.
    target.put(manifests[1], &Stored::new("{}")).await;
    let report = mirror(&source.side().await, &target.side().await, &remove).await.unwrap();
    assert!(report.removed.objects == 0 && report.stopped.unwrap().why.contains(manifests[1]));
    // Backups that both have are in nobody's way: so it is where a destination is mirrored to another one.
    source.put(manifests[1], &Stored::new("{}")).await;
    target.put("surplus", &Stored::new("{}")).await;
    assert_eq!(complete(mirror(&source.side().await, &target.side().await, &remove).await)[2], 1);
    let mut versions = MirrorOptions::new(Deleted::Remove);
    versions.versions = true;
    let (source, target) = (Bucket::new("guarded-versions").await, Bucket::new("guarded-versions-copy").await);
    source.keep_versions().await;
    target.keep_versions().await;
    source.put("model", &Stored::new("content")).await;
    target.put(manifests[0], &Stored::new("{}")).await;
    target.put("0", &Stored::new("{}")).await;
    let report = mirror(&source.side().await, &target.side().await, &versions).await.unwrap();
    assert!(report.removed.objects == 0 && report.stopped.unwrap().why.contains(manifests[0]));
    assert!(target.get("0").await.is_some());
}

#[tokio::test]
async fn an_object_that_fails_stops_no_other() {
    let (source, target) = (Bucket::new("failing").await, Bucket::new("failing-copy").await);
    for n in 0..20 {
        source.put(&format!("{n:02}"), &Stored::rich(n)).await;
    }
    source.put("large", &Stored::new(content(2 * PART, 1))).await;
    let proxy = S3Proxy::start(|_| Fault::None);
    let (from, to) = (source.behind(&proxy).await, target.behind(&proxy).await);
    let kept = tempfile::tempdir().unwrap();
    let kept = folder(kept.path());
    for (from, to, of) in [(&from, &kept, &source), (&kept, &to, &target), (&from, &to, &source)] {
        let prefix = format!("/{}/", of.config.bucket);
        let rule = move |asked: &pgmig_tests::s3::Asked| match asked.path.strip_prefix(&prefix) {
            Some("03") => Fault::Nonsense(500),
            Some("07") => Fault::Reset,
            Some("11") => Fault::Answer(403, "AccessDenied", "no".into()),
            Some("large") if asked.is_part() || asked.method == Method::GET => Fault::Reset,
            _ => Fault::None,
        };
        proxy.set_rule(rule);
        if let (Side::Bucket(_), Side::Bucket(_)) = (from, to) {
            // The round before has filled it.
            for key in target.keys().await {
                target.remove(&key).await;
            }
        }
        let report = mirror(from, to, &options()).await.unwrap();
        let mut failed: Vec<_> = report.failures.iter().map(|it| it.key.as_str()).collect();
        failed.sort_unstable();
        assert_eq!(failed, ["03", "07", "11", "large"], "{report:?}");
        assert_eq!((report.copied.objects, report.failed.objects), (17, 4));
        assert!(report.failures.iter().all(|it| it.hint.is_some()), "{report:?}");
        let shown = serde_json::to_string(&report).unwrap();
        for secret in [S3Server::shared().access_key(), S3Server::shared().secret_key()] {
            assert!(!shown.contains(secret));
        }
        assert_eq!(serde_json::from_str::<MirrorReport>(&shown).unwrap(), report);
        // Whatever is tried again and works then is no failure.
        let seen = Mutex::new(HashSet::new());
        proxy.set_rule(move |asked| {
            let is_first = seen.lock().unwrap().insert((asked.method.clone(), asked.path.clone(), asked.query.clone()));
            match asked.method {
                Method::PUT | Method::POST if is_first => Fault::LoseAnswer,
                _ if is_first => Fault::Nonsense(503),
                _ => Fault::None,
            }
        });
        assert_eq!(complete(mirror(from, to, &options()).await), [4, 17, 0]);
        proxy.set_rule(|_| Fault::None);
        expect_same(verify(from, to, 8).await, 21);
    }
}

#[tokio::test]
async fn a_store_that_is_gone_is_given_up() {
    let source = tempfile::tempdir().unwrap();
    for n in 0..500 {
        fs::write(source.path().join(format!("{n}")), "content").unwrap();
    }
    let target = Bucket::new("gone").await;
    let proxy = S3Proxy::start(|_| Fault::None);
    let to = target.behind(&proxy).await;
    proxy.set_rule(|asked| match asked.method {
        Method::PUT => Fault::Answer(403, "ExpiredToken", "too late".into()),
        _ => Fault::None,
    });
    let report = mirror(&folder(source.path()), &to, &options()).await.unwrap();
    assert!(report.failed.objects < 20 && report.copied.objects == 0, "{report:?}");
    assert!(report.stopped.unwrap().why.contains("expired"));
}

#[tokio::test]
async fn sides_that_are_the_same_and_targets_that_cannot_be_are_refused() {
    let bucket = Bucket::new("refused").await;
    let mut below = bucket.config.clone();
    below.prefix = "below".into();
    let below = Side::Bucket(S3::connect(below).await.unwrap());
    let side = bucket.side().await;
    let made = tempfile::tempdir().unwrap();
    fs::create_dir(made.path().join("inside")).unwrap();
    let (outside, inside) = (folder(made.path()), folder(&made.path().join("inside")));
    for (from, to) in [(&side, &side), (&side, &below), (&below, &side), (&outside, &inside), (&inside, &outside)] {
        let error = mirror(from, to, &options()).await.unwrap_err();
        assert!(error.to_string().contains("one is in the other"), "{error}");
    }
    let error = mirror(&side, &folder(&made.path().join("missing")), &options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let mut retained = bucket.config.clone();
    let until = std::time::SystemTime::now() + Duration::from_secs(60);
    retained.retention = Some(Retention { mode: RetentionMode::Governance, until });
    let retained = Side::Bucket(S3::connect(retained).await.unwrap());
    assert_eq!(mirror(&outside, &retained, &options()).await.unwrap_err().kind(), ErrorKind::NotSupported);
    // An index of a later version is not guessed at.
    fs::create_dir(made.path().join(".mirror")).unwrap();
    fs::write(made.path().join(".mirror/index"), "{\"format\":\"mirror-index\",\"version\":2}\n").unwrap();
    let report = mirror(&outside, &side, &options()).await.unwrap();
    assert!(report.stopped.unwrap().why.contains("newer version"));
    let report = mirror(&side, &outside, &options()).await.unwrap();
    assert!(report.stopped.unwrap().why.contains("newer version"));
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_it_has_come_can_be_seen() {
    let source = Bucket::new("progress").await;
    for n in 0..20 {
        source.put(&format!("{n:02}"), &Stored::rich(n)).await;
    }
    source.put("large", &Stored::new(content(3 * PART, 1))).await;
    let kept = tempfile::tempdir().unwrap();
    let proxy = S3Proxy::start(|_| Fault::None);
    let (from, to) = (source.behind(&proxy).await, folder(kept.path()));
    // One that fails was looked at as well, and one that is cut is counted once.
    proxy.set_rule(|asked| match &asked.path {
        path if path.ends_with("/07") => Fault::Nonsense(500),
        path if path.ends_with("/large") && asked.range.is_none() => Fault::CutAfter(2 * PART),
        _ => Fault::None,
    });
    for round in 0..2 {
        let options = options();
        let progress = options.progress.clone();
        assert_eq!((progress.known().objects, progress.done().objects), (0, 0));
        let report = mirror(&from, &to, &options).await.unwrap();
        assert_eq!(report.failed.objects, 1, "{report:?}");
        let all = report.copied.bytes + report.skipped.bytes + report.failed.bytes;
        assert_eq!((progress.known().objects, progress.known().bytes), (21, all), "{round}");
        assert_eq!(progress.done(), progress.known(), "{round}");
    }
}

/// What the process is to do that is killed.
const CHILD: &str = "PGMIG_TEST_MIRROR";

/// The file that it is to write its peak memory to.
const PEAK: &str = "PGMIG_TEST_MIRROR_PEAK";

/// Not a test: the process that is killed.
#[tokio::test]
#[ignore = "started by another test"]
async fn mirrors_in_a_process_of_its_own() {
    let Ok(job) = env::var(CHILD) else { return };
    let (from, to) = job.split_once(' ').unwrap();
    let side = async |text: &str| match text.strip_prefix("bucket:") {
        Some(bucket) => {
            let mut config = S3Server::shared().config("child");
            config.bucket = bucket.to_owned();
            Side::Bucket(S3::connect(config).await.unwrap())
        }
        None => Side::Folder(PathBuf::from(text)),
    };
    let report = mirror(&side(from).await, &side(to).await, &options()).await.unwrap();
    assert!(report.is_complete(), "{report:?}");
    if let Some(file) = env::var_os(PEAK) {
        fs::write(file, fs::read("/proc/self/status").unwrap()).unwrap();
    }
}

fn start(from: &str, to: &str, peak: &Path) -> Child {
    let server = S3Server::shared();
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "storage_mirror::mirrors_in_a_process_of_its_own", "--ignored"]);
    command.env(CHILD, format!("{from} {to}")).env(PEAK, peak);
    for (name, value) in
        [("ENDPOINT", server.endpoint()), ("ACCESS_KEY", server.access_key()), ("SECRET_KEY", server.secret_key())]
    {
        command.env(format!("PGMIG_TEST_S3_{name}"), value);
    }
    command.stdout(Stdio::null()).spawn().unwrap()
}

/// The files that have their names, with what is in them.
fn files(root: &Path, at: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with(".mirror") {
                files(root, &path, found);
            }
        } else {
            found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes long: `make test` runs it"]
async fn whoever_is_killed_leaves_no_half_object_and_the_next_run_copies_the_rest() {
    let bucket = Bucket::new("killed").await;
    let made = tempfile::tempdir().unwrap();
    let mut expected = BTreeMap::new();
    for n in 0..100_usize {
        let size = if n % 50 == 49 { 2 * PART + n } else { 1 + n * 997 % 60_000 };
        expected.insert(format!("folder-{}/{n}", n % 7), content(size, n as u64));
    }
    for (key, content) in &expected {
        let path = made.path().join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let count = expected.len() as u64;
    complete(mirror(&folder(made.path()), &bucket.side().await, &options()).await);
    let peak = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    let from_folder = made.path().to_str().unwrap().to_owned();
    let from_bucket = format!("bucket:{}", bucket.config.bucket);
    let thorough = pgmig_tests::thorough();
    for (name, from, from_side, to_folder) in [
        ("bucket-folder", &from_bucket, bucket.side().await, true),
        ("folder-bucket", &from_folder, folder(made.path()), false),
        ("bucket-bucket", &from_bucket, bucket.side().await, false),
    ] {
        // How long it takes when nobody kills it.
        let mut whole = Duration::ZERO;
        let points = if thorough { 24 } else { 4 };
        for point in 0..=points {
            let target_folder = tempfile::tempdir().unwrap();
            let target_bucket = Bucket::new(&format!("killed-{name}-{point}")).await;
            let (to, to_side) = if to_folder {
                (target_folder.path().to_str().unwrap().to_owned(), folder(target_folder.path()))
            } else {
                (format!("bucket:{}", target_bucket.config.bucket), target_bucket.side().await)
            };
            let begun = Instant::now();
            let mut child = start(from, &to, &peak);
            if point == 0 {
                assert!(child.wait().unwrap().success());
                whole = begun.elapsed();
            } else {
                thread::sleep(whole * point / (points + 1));
                child.kill().unwrap();
                child.wait().unwrap();
                // What was on its way to the store when it was killed arrives, or does not.
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            let mut there = BTreeMap::new();
            if to_folder {
                files(target_folder.path(), target_folder.path(), &mut there);
            } else {
                for key in target_bucket.keys().await {
                    let stored = target_bucket.get(&key).await.unwrap();
                    there.insert(key, stored.content.into());
                }
            }
            for (key, content) in &there {
                assert!(expected[key] == *content, "{name} {point}: {key} is not whole");
            }
            let whole_ones = there.len() as u64;
            let counts = complete(mirror(&from_side, &to_side, &options()).await);
            assert_eq!(counts, [count - whole_ones, whole_ones, 0], "{name} {point}");
            expect_same(verify(&from_side, &to_side, 8).await, count);
            if to_folder {
                let staging = target_folder.path().join(".mirror/staging");
                assert_eq!(fs::read_dir(staging).unwrap().count(), 0);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_dropped_can_be_done_again() {
    let (source, target) = (Bucket::new("dropped-run").await, Bucket::new("dropped-run-copy").await);
    for n in 0..60 {
        source.put(&format!("{n}"), &Stored::rich(n)).await;
    }
    source.put("large", &Stored::new(content(3 * PART, 1))).await;
    let kept = tempfile::tempdir().unwrap();
    for to in [target.side().await, folder(kept.path())] {
        for wait in [1, 20, 60, 120] {
            let (from, options) = (source.side().await, options());
            let _ = tokio::time::timeout(Duration::from_millis(wait), mirror(&from, &to, &options)).await;
        }
        complete(mirror(&source.side().await, &to, &options()).await);
        expect_same(verify(&source.side().await, &to, 8).await, 61);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_grow_with_what_is_copied() {
    let (first, second) = (Bucket::new("memory-of-mirror").await, Bucket::new("memory-of-mirror-b").await);
    let made = tempfile::tempdir().unwrap();
    for n in 0..8_usize {
        // Some are stored at once and some in parts, and all of them are 160 MiB.
        fs::write(made.path().join(format!("{n}")), content(if n % 2 == 0 { PART - 1 } else { 4 * PART }, n as u64))
            .unwrap();
    }
    let (out, peak) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap().into_temp_path());
    let path = |folder: &tempfile::TempDir| folder.path().to_str().unwrap().to_owned();
    let name = |bucket: &Bucket| format!("bucket:{}", bucket.config.bucket);
    for (from, to) in [(path(&made), name(&first)), (name(&first), name(&second)), (name(&second), path(&out))] {
        assert!(start(&from, &to, &peak).wait().unwrap().success());
        let status = fs::read_to_string(&peak).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kilobytes < 128 << 10, "{from} to {to}: {line}");
    }
    expect_same(verify(&folder(made.path()), &folder(out.path()), 8).await, 8);
}
