//! Buckets in one stream of bytes, and back: the real store.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::{env, fs};

use bytes::Bytes;
use hyper::Method;
use pgmig_tests::s3::{Asked, Fault, S3Proxy, S3Server};
use storage_backends::bucket_archive::{
    self, ArchiveOptions, ArchiveReport, Finished, RestoreOptions, RestoreReport, Restoring, Verifying,
};
use storage_backends::local::Local;
use storage_backends::mirror::{Deleted, MirrorOptions, Side, mirror, verify};
use storage_backends::s3::S3;
use storage_backends::{Catalog, Error, ErrorKind, Identities, Manifest, Recipients};

use crate::bucket::{Bucket, Stored, content, expect_same, folder, odd_keys};

const PART: usize = 8 << 20;

fn bucket(side: &Side) -> &S3 {
    let Side::Bucket(bucket) = side else { unreachable!("it is a bucket") };
    bucket
}

fn options(versions: bool) -> ArchiveOptions {
    let mut options = ArchiveOptions::default();
    options.versions = versions;
    options
}

fn into_existing() -> RestoreOptions {
    let mut options = RestoreOptions::default();
    options.into_existing = true;
    options
}

async fn archive(from: &Side, options: &ArchiveOptions) -> Result<(ArchiveReport, Vec<u8>), Error> {
    let mut archive = Vec::new();
    let sink = async |piece: Bytes| {
        archive.extend_from_slice(&piece);
        Ok(())
    };
    let report = bucket_archive::write(bucket(from), options, sink).await;
    report.map(|report| (report, archive))
}

async fn restore(archive: &[u8], piece: usize, into: &Side, options: &RestoreOptions) -> Result<RestoreReport, Error> {
    restore_in(archive, piece, into, options).await.map(|(report, _)| report)
}

/// The same, and how often the archive had to be read.
async fn restore_in(
    archive: &[u8],
    piece: usize,
    into: &Side,
    options: &RestoreOptions,
) -> Result<(RestoreReport, u32), Error> {
    let mut restoring = Restoring::begin(bucket(into), options).await?;
    for reading in 1.. {
        for piece in archive.chunks(piece) {
            restoring.write(Bytes::copy_from_slice(piece)).await?;
        }
        match restoring.finish().await? {
            Finished::Whole(report) => return Ok((report, reading)),
            Finished::ReadAgain(again) => restoring = *again,
        }
    }
    unreachable!("it ends")
}

/// What an archive that was read once has become.
fn whole(finished: Finished) -> RestoreReport {
    let Finished::Whole(report) = finished else { panic!("it has to be read once more") };
    report
}

fn verified(archive: &[u8]) -> Result<ArchiveReport, Error> {
    let mut verifying = Verifying::default();
    for piece in archive.chunks(100_000) {
        verifying.write(Bytes::copy_from_slice(piece))?;
    }
    verifying.finish()
}

fn tar(args: &[&str], archive: &Path) -> Vec<String> {
    let done = Command::new("tar").args(args).arg("-f").arg(archive).env("LC_ALL", "C.UTF-8").output().expect("tar");
    assert!(done.status.success() && done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_comes_back_from_its_archive_as_it_was() {
    let (first, second) = (Bucket::new("archive").await, Bucket::new("archive-again").await);
    let mut keys = odd_keys();
    for (n, key) in keys.iter().enumerate() {
        first.put(key, &Stored::rich(n)).await;
    }
    for (n, size) in
        [0, 1, 511, 512, 513, 1 << 20, (1 << 20) + 1, PART - 1, PART, 2 * PART + 77].into_iter().enumerate()
    {
        let key = format!("sizes/{size}");
        first.put(&key, &Stored { content: content(size, n as u64), ..Stored::rich(n) }).await;
        keys.push(key);
    }
    keys.push("large".into());
    first.put("large", &Stored { content: content(100 << 20, 1), ..Stored::rich(0) }).await;
    let count = keys.len() as u64;
    let from = first.side().await;
    let (report, made) = archive(&from, &ArchiveOptions::default()).await.unwrap();
    assert_eq!((report.objects, report.vanished, report.delete_markers), (count, 0, 0));
    assert!(report.bytes > 100 << 20);
    assert_eq!(verified(&made).unwrap(), report);
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<ArchiveReport>(&json).unwrap(), report);

    let into = second.side().await;
    let restored = restore(&made, 77_777, &into, &RestoreOptions::default()).await.unwrap();
    assert_eq!((restored.archive, restored.stored.objects, restored.skipped.objects), (report.clone(), count, 0));
    assert_eq!(restored.stored.bytes, report.bytes);
    expect_same(verify(&from, &into, 8).await, count);
    for (n, key) in odd_keys().iter().enumerate() {
        assert_eq!(second.get(key).await, Some(Stored::rich(n)), "{key:?}");
    }
    // Archives of buckets that are the same have the same digest.
    let (again, _) = archive(&into, &ArchiveOptions::default()).await.unwrap();
    assert_eq!(again, report);
    second.tag("plain", &[("other".to_owned(), "tag".to_owned())].into()).await;
    assert_ne!(archive(&into, &ArchiveOptions::default()).await.unwrap().0.sha256, report.sha256);

    // Everybody can read it.
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("archive.tar");
    fs::write(&file, &made).unwrap();
    let listed = tar(&["-t", "--quoting-style=literal"], &file);
    assert_eq!(listed.len() as u64, count + 1);
    for path in ["plain", "a%object", "a/b%object", "a/b/c", "dots/%2E%2E", "%2Emirror/index", ".mirror/archive.json"] {
        assert!(listed.iter().any(|listed| listed == path), "{path}");
    }
    let unpacked = out.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    tar(&["-x", "-C", unpacked.to_str().unwrap()], &file);
    let (_, bytes_only) = expect_same(verify(&from, &folder(&unpacked), 8).await, count);
    assert_eq!(bytes_only, count);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_goes_into_a_backup_and_comes_from_there() {
    let (first, second) = (Bucket::new("archive-backup").await, S3Server::shared().config("archive-backup-made"));
    for n in 0..200 {
        first.put(&format!("{}/{n}", n % 3), &Stored { content: content(n * 1000, n as u64), ..Stored::rich(n) }).await;
    }
    first.put("large", &Stored::new(content(2 * PART + 1, 1))).await;
    let key = age::x25519::Identity::generate();
    let vault = tempfile::tempdir().unwrap();
    let catalog = Catalog::new(Arc::new(Local::open(vault.path()).unwrap()), "models".parse().unwrap()).unwrap();
    let catalog = catalog.with_encryption(Recipients::parse(&key.to_public().to_string()).unwrap());
    let mut backup = catalog.begin("20261122T030000Z".parse().unwrap()).await.unwrap();
    let mut object = backup.object("models.tar").await.unwrap();
    let from = first.side().await;
    let write = async |piece| object.write(piece).await;
    let report = bucket_archive::write(bucket(&from), &ArchiveOptions::default(), write).await.unwrap();
    backup.add(object).await.unwrap();
    let manifest = Manifest::new(backup.id(), "models", "2026-11-22T03:00:00Z".parse().unwrap());
    let id = backup.id().clone();
    let manifest = backup.publish(manifest).await.unwrap();

    use age::secrecy::ExposeSecret as _;
    let catalog = catalog.with_identities(Identities::parse(key.to_string().expose_secret()).unwrap());
    let into = S3::connect_or_create(second).await.unwrap();
    let mut restoring = Restoring::begin(&into, &RestoreOptions::default()).await.unwrap();
    catalog.read(&id, &manifest.objects[0], async |piece| restoring.write(piece).await).await.unwrap();
    assert_eq!(whole(restoring.finish().await.unwrap()).archive, report);
    expect_same(verify(&from, &Side::Bucket(into), 8).await, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_or_damaged_is_no_archive_wherever_that_is() {
    let source = Bucket::new("archive-damaged").await;
    for n in 0..3 {
        source.put(&format!("object-{n}"), &Stored::rich(n)).await;
    }
    source.put("empty", &Stored::new("")).await;
    let (report, made) = archive(&source.side().await, &ArchiveOptions::default()).await.unwrap();
    for length in 0..made.len() {
        let error = verified(&made[..length]).expect_err(&format!("cut at {length}"));
        assert_eq!(error.kind(), ErrorKind::Incomplete);
    }
    let mut padded = made.clone();
    padded.extend([0; 8192]);
    assert_eq!(verified(&padded).unwrap(), report);
    padded.push(1);
    verified(&padded).expect_err("something behind the end");
    for at in 0..made.len() {
        let mut damaged = made.clone();
        damaged[at] ^= 1;
        match verified(&damaged) {
            Err(e) => assert!(e.to_string().contains("at byte"), "{e}"),
            // The number of those that are not in it is all that nothing proves.
            Ok(found) => assert_eq!((found.vanished, &found.sha256), (1, &report.sha256), "byte {at}"),
        }
    }
    // What comes before is restored, and it is said that it is not all.
    let target = Bucket::new("archive-damaged-copy").await;
    let into = target.side().await;
    let error = restore(&made[..made.len() - 2000], 1000, &into, &RestoreOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("it is cut"), "{error}");
    let error = restore(b"PGDMP and much more", 5, &into, &into_existing()).await.unwrap_err();
    assert!(error.to_string().contains("it is cut"), "{error}");
    let error = restore(&[b'x'; 1000], 7, &into, &into_existing()).await.unwrap_err();
    assert!(error.to_string().contains("not the archive of a bucket"), "{error}");
    let restored = restore(&made, 1, &into, &into_existing()).await.unwrap();
    assert_eq!(restored.archive, report);
    expect_same(verify(&source.side().await, &into, 8).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_goes_on_where_it_was_ended() {
    let (source, target) = (Bucket::new("archive-resumed").await, Bucket::new("archive-resumed-copy").await);
    for n in 0..40 {
        source
            .put(&format!("object-{n:02}"), &Stored { content: content(n * 5000, n as u64), ..Stored::rich(n) })
            .await;
    }
    // Those in parts are known as well.
    for (key, size) in [("large-1", 2 * PART + 5), ("large-2", PART), ("z-large", 3 * PART)] {
        source.put(key, &Stored { content: content(size, 7), ..Stored::rich(1) }).await;
    }
    let from = source.side().await;
    let (report, made) = archive(&from, &ArchiveOptions::default()).await.unwrap();
    let into = target.side().await;
    let mut restoring = Restoring::begin(bucket(&into), &RestoreOptions::default()).await.unwrap();
    for piece in made[..made.len() / 2].chunks(100_000) {
        restoring.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    // As when it is killed.
    drop(restoring);
    let there = target.keys().await.len() as u64;
    assert!(there > 0 && there < 43, "{there}");
    let error = Restoring::begin(bucket(&into), &RestoreOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let restored = restore(&made, 100_000, &into, &into_existing()).await.unwrap();
    assert_eq!((restored.skipped.objects, restored.stored.objects), (there, 43 - there));
    assert_eq!(restored.archive, report);
    expect_same(verify(&from, &into, 8).await, 43);
    let restored = restore(&made, 100_000, &into, &into_existing()).await.unwrap();
    assert_eq!((restored.skipped.objects, restored.stored.objects), (43, 0));

    // What is other than in the archive becomes what it is there; what is not in it stays.
    target.put("object-05", &Stored { content: content(25_000, 99), ..Stored::rich(5) }).await;
    target.tag("object-06", &[("n".to_owned(), "7".to_owned())].into()).await;
    target.put("object-07", &Stored::new(content(35_000, 7))).await;
    target.remove("object-08").await;
    target.put("large-1", &Stored { content: content(2 * PART + 6, 7), ..Stored::rich(1) }).await;
    target.put("large-2", &Stored { content: content(PART, 8), ..Stored::rich(1) }).await;
    target.put("other", &Stored::new("other")).await;
    let restored = restore(&made, 100_000, &into, &into_existing()).await.unwrap();
    assert_eq!((restored.skipped.objects, restored.stored.objects), (37, 6));
    target.remove("other").await;
    expect_same(verify(&from, &into, 8).await, 43);

    // Another large one that looks the same is not taken for it, and is replaced: its bytes have gone by when that is known.
    let other = Bucket::new("archive-resumed-other").await;
    for (n, key) in ["a-small", "large-1", "z-large"].into_iter().enumerate() {
        let size = [1000, 2 * PART + 5, 3 * PART][n];
        other.put(key, &Stored { content: content(size, 8), ..Stored::rich(1) }).await;
    }
    other.put("m-large", &Stored::new(content(PART, 8))).await;
    let (report, made) = archive(&other.side().await, &ArchiveOptions::default()).await.unwrap();
    let (restored, readings) = restore_in(&made, 100_000, &into, &into_existing()).await.unwrap();
    assert_eq!((restored.stored.objects, restored.skipped.objects, readings), (4, 0, 2), "{restored:?}");
    assert_eq!((restored.found.objects, restored.found.bytes), (report.objects, report.bytes));
    // Those of the first archive but for the two that both have.
    assert_eq!(restored.surplus.objects, 41);
    for (key, size) in [("a-small", 1000), ("large-1", 2 * PART + 5), ("m-large", PART), ("z-large", 3 * PART)] {
        assert!(target.get(key).await.unwrap().content == content(size, 8), "{key}");
    }
    let (restored, readings) = restore_in(&made, 100_000, &into, &into_existing()).await.unwrap();
    assert_eq!((restored.stored.objects, restored.skipped.objects, readings), (0, 4, 1), "{restored:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_restored_is_compared_with_what_the_bucket_lists_then() {
    let (source, target) = (Bucket::new("archive-checked").await, Bucket::new("archive-checked-copy").await);
    // More than are compared at once.
    let made = tempfile::tempdir().unwrap();
    for n in 0..2100 {
        fs::write(made.path().join(format!("object-{n:04}")), format!("content {n}")).unwrap();
    }
    let report = mirror(&folder(made.path()), &source.side().await, &MirrorOptions::new(Deleted::Keep)).await.unwrap();
    assert!(report.is_complete(), "{report:?}");
    let (report, made) = archive(&source.side().await, &ArchiveOptions::default()).await.unwrap();
    let surplus = ["0", "object-0500+", "object-0999+", "object-1000+", "object-1999+", "z"];
    for key in surplus {
        target.put(key, &Stored::new("only here")).await;
    }
    let restored = restore(&made, 100_000, &target.side().await, &into_existing()).await.unwrap();
    assert_eq!((restored.stored.objects, restored.found.objects), (2100, 2100), "{restored:?}");
    assert_eq!((restored.found.bytes, restored.surplus.objects, restored.surplus.bytes), (report.bytes, 6, 6 * 9));
    assert_eq!(target.keys().await.len(), 2106);
    let json = serde_json::to_string(&restored).unwrap();
    assert_eq!(serde_json::from_str::<RestoreReport>(&json).unwrap(), restored);

    // A store that takes an object and does not have it then, or less of it, is not believed.
    let proxy = S3Proxy::start(|_| Fault::None);
    let into = target.behind(&proxy).await;
    for key in ["object-0000", "object-0999", "object-1000", "object-2099"] {
        let path = format!("/{}/{key}", target.config.bucket);
        target.remove(key).await;
        proxy.set_rule(move |asked| match asked.method {
            Method::PUT if asked.path == path => Fault::Pretend,
            _ => Fault::None,
        });
        let error = restore(&made, 100_000, &into, &into_existing()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incomplete, "{error}");
        assert!(error.to_string().contains(&format!("/{key}`")), "{error}");
        proxy.set_rule(|_| Fault::None);
        let restored = restore(&made, 100_000, &into, &into_existing()).await.unwrap();
        assert_eq!((restored.stored.objects, restored.skipped.objects), (1, 2099), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_meanwhile_is_archived_as_it_was_or_as_it_is() {
    let source = Bucket::new("archive-changed").await;
    source.put("a-large", &Stored::new(content(3 << 20, 1))).await;
    for key in ["b", "c", "d", "e", "f"] {
        source.put(key, &Stored::rich(1)).await;
    }
    let from = source.side().await;
    let mut one = ArchiveOptions::default();
    one.concurrency = 1;
    let (mut made, mut is_first) = (Vec::new(), true);
    let sink = async |piece: Bytes| {
        made.extend_from_slice(&piece);
        // All of them are listed by now, and the first one is being read.
        if std::mem::take(&mut is_first) {
            source.remove("c").await;
            source.remove("f").await;
            source.put("d", &Stored { content: content(2 << 20, 2), ..Stored::rich(2) }).await;
            source.put("e", &Stored::new("")).await;
        }
        Ok(())
    };
    let report = bucket_archive::write(bucket(&from), &one, sink).await.unwrap();
    assert_eq!((report.objects, report.vanished), (4, 2), "{report:?}");
    assert_eq!(verified(&made).unwrap(), report);
    let target = Bucket::new("archive-changed-copy").await;
    let into = target.side().await;
    restore(&made, 10_000, &into, &RestoreOptions::default()).await.unwrap();
    expect_same(verify(&from, &into, 8).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_read_as_it_has_to_be_fails_the_archive() {
    let source = Bucket::new("archive-faults").await;
    for n in 0..10 {
        source.put(&format!("{n}"), &Stored { content: content(1000, n), ..Stored::rich(1) }).await;
    }
    source.put("large", &Stored::new(content(2 << 20, 1))).await;
    let proxy = S3Proxy::start(|_| Fault::None);
    let behind = source.behind(&proxy).await;
    let of = |key: &'static str, fault: Fault| {
        let path = format!("/{}/{key}", source.config.bucket);
        move |asked: &Asked| if asked.path == path && asked.query != "tagging" { fault.clone() } else { Fault::None }
    };
    for key in ["3", "large"] {
        for (fault, kind, word) in [
            (Fault::Damage, ErrorKind::Incomplete, "MD5"),
            (Fault::CutAfter(500), ErrorKind::Incomplete, "ended before byte"),
            (Fault::Nonsense(503), ErrorKind::Unavailable, "503"),
            (Fault::Answer(403, "AccessDenied", "no".into()), ErrorKind::PermissionDenied, "may not"),
            (Fault::Answer(403, "ExpiredToken", "no".into()), ErrorKind::Credentials, "expired"),
        ] {
            proxy.set_rule(of(key, fault));
            let error = archive(&behind, &ArchiveOptions::default()).await.unwrap_err();
            assert!(error.kind() == kind && error.to_string().contains(word), "{error}");
            assert!(error.to_string().contains(&format!("/{key}`")), "{error}");
        }
    }
    // A bucket that is gone is no bucket without objects.
    proxy.set_rule(|asked| match asked.method {
        Method::GET if asked.query.contains("list-type") && !asked.query.contains("max-keys") => Fault::None,
        _ => Fault::Answer(404, "NoSuchBucket", "gone".into()),
    });
    let error = archive(&behind, &ArchiveOptions::default()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("no such bucket"), "{error}");
    // What is cut goes on, and what fails once is done again.
    let path = format!("/{}/large", source.config.bucket);
    let asked_before = std::sync::Mutex::new(std::collections::HashSet::new());
    proxy.set_rule(move |asked| {
        let is_first = asked_before.lock().unwrap().insert(format!("{}{:?}{}", asked.path, asked.range, asked.query));
        if asked.path == path && asked.range.is_none() && asked.query != "tagging" {
            Fault::CutAfter(1_500_000)
        } else if is_first {
            Fault::Nonsense(500)
        } else {
            Fault::None
        }
    });
    let (report, made) = archive(&behind, &ArchiveOptions::default()).await.unwrap();
    assert_eq!(report, archive(&source.side().await, &ArchiveOptions::default()).await.unwrap().0);

    // Nor is a restore complete then; none of it is under its name with a part of its bytes.
    let target = Bucket::new("archive-faults-copy").await;
    let into = target.behind(&proxy).await;
    for (key, fault) in [
        ("5", Fault::Nonsense(503)),
        ("large", Fault::Reset),
        ("9", Fault::Answer(403, "QuotaExceeded", "full".into())),
    ] {
        let path = format!("/{}/{key}", target.config.bucket);
        proxy.set_rule(move |asked: &Asked| if asked.path == path { fault.clone() } else { Fault::None });
        let error = restore(&made, 10_000, &into, &into_existing()).await.unwrap_err();
        assert!(error.to_string().contains(&format!("/{key}`")), "{error}");
    }
    proxy.set_rule(|_| Fault::None);
    let failing = async |_| Err(Error::new(ErrorKind::NoSpace, "write", "the sink", "it is full"));
    let error = bucket_archive::write(bucket(&behind), &ArchiveOptions::default(), failing).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    restore(&made, 10_000, &into, &into_existing()).await.unwrap();
    expect_same(verify(&source.side().await, &into, 8).await, 11);
}

/// What a bucket has of each key, the oldest first: the bytes of a version, or nothing for a removal.
async fn history(bucket: &Bucket) -> Vec<(String, Option<Stored>)> {
    let client = S3Server::shared().client();
    let listed = client.list_object_versions().bucket(&bucket.config.bucket).send().await.unwrap();
    assert_ne!(listed.is_truncated, Some(true), "too many for this");
    let mut found = Vec::new();
    for marker in listed.delete_markers() {
        let (key, time) = (marker.key().unwrap().to_owned(), *marker.last_modified().unwrap());
        found.push((key, time.as_nanos(), marker.is_latest() == Some(true), None));
    }
    for version in listed.versions() {
        let (key, id) = (version.key().unwrap(), version.version_id().unwrap());
        let stored = bucket.get_version(key, Some(id)).await;
        assert!(stored.is_some());
        let time = version.last_modified().unwrap().as_nanos();
        found.push((key.to_owned(), time, version.is_latest() == Some(true), stored));
    }
    found.sort_by(|a, b| (&a.0, a.2, a.1).cmp(&(&b.0, b.2, b.1)));
    found.into_iter().map(|(key, _, _, stored)| (key, stored)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_versions_come_back_in_their_order() {
    let (source, target) = (Bucket::new("archive-versions").await, Bucket::new("archive-versions-copy").await);
    source.keep_versions().await;
    // Times in the history are those of the store.
    let pause = async || tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    for round in 0..4_usize {
        for n in 0..6_usize {
            let key = ["plain", "a", "a/b", "..", "with space/\u{fc}", "x%y"][n];
            if (round + n) % 4 == 3 {
                source.remove(key).await;
            } else {
                source
                    .put(key, &Stored { content: content(10 + n * 1000 + round, n as u64), ..Stored::rich(round) })
                    .await;
            }
            pause().await;
        }
    }
    // The last one of these is in parts.
    for (round, size) in [100, PART + 1, 0, 2 * PART].into_iter().enumerate() {
        source.put("sizes", &Stored { content: content(size, round as u64), ..Stored::rich(round) }).await;
        pause().await;
    }
    source.remove("gone").await;
    let from = source.side().await;
    let expected = history(&source).await;
    let markers = expected.iter().filter(|(_, stored)| stored.is_none()).count() as u64;
    let (report, made) = archive(&from, &options(true)).await.unwrap();
    let counts = (report.objects, report.delete_markers, report.vanished);
    assert_eq!(counts, (expected.len() as u64 - markers, markers, 0), "{report:?}");
    assert_eq!(verified(&made).unwrap(), report);

    let into = target.side().await;
    let restored = restore(&made, 10_000, &into, &RestoreOptions::default()).await.unwrap();
    assert_eq!(restored.archive, report);
    assert!(history(&target).await == expected);
    let current = target.keys().await.len() as u64;
    expect_same(verify(&from, &into, 8).await, current);
    let (again, _) = archive(&into, &options(true)).await.unwrap();
    assert_eq!(again, report);

    // Without versions, it is what is there now.
    let (without, _) = archive(&from, &ArchiveOptions::default()).await.unwrap();
    assert_eq!((without.objects, without.delete_markers, without.versions), (current, 0, false));

    // Unpacked, it is what is there now too, and the rest lies apart.
    let out = tempfile::tempdir().unwrap();
    let (file, unpacked) = (out.path().join("archive.tar"), out.path().join("unpacked"));
    fs::write(&file, &made).unwrap();
    fs::create_dir(&unpacked).unwrap();
    tar(&["-x", "-C", unpacked.to_str().unwrap()], &file);
    expect_same(verify(&from, &folder(&unpacked), 8).await, current);
    assert_eq!(fs::metadata(unpacked.join(".mirror/versions/sizes%object/2")).unwrap().len(), PART as u64 + 1);

    // A bucket with nothing but a history is not empty, and no history is added to one that keeps none.
    for key in target.keys().await {
        target.remove(&key).await;
    }
    let error = restore(&made, 10_000, &into, &RestoreOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    let plain = Bucket::new("archive-versions-plain").await;
    plain.put("x", &Stored::new("x")).await;
    let error = restore(&made, 10_000, &plain.side().await, &into_existing()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSupported, "{error}");
}

/// Several versions and removals of each of some objects, one of them in parts.
async fn make_histories(bucket: &Bucket) {
    bucket.keep_versions().await;
    // Times in the history are those of the store.
    let pause = async || tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    for round in 0..4_usize {
        for n in 0..4_usize {
            let key = ["a", "a/b", "plain", "z"][n];
            if (round + n) % 4 == 2 {
                bucket.remove(key).await;
            } else {
                let content = content(10 + n * 1000 + round, n as u64);
                bucket.put(key, &Stored { content, ..Stored::rich(round) }).await;
            }
            pause().await;
        }
    }
    for (round, size) in [PART + 1, 100, 2 * PART].into_iter().enumerate() {
        bucket.put("large", &Stored { content: content(size, round as u64), ..Stored::rich(round) }).await;
        pause().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_of_versions_that_was_ended_goes_on_and_makes_none_twice() {
    let source = Bucket::new("archive-versions-resumed").await;
    make_histories(&source).await;
    let expected = history(&source).await;
    let count = expected.len() as u64;
    let (report, made) = archive(&source.side().await, &options(true)).await.unwrap();
    for point in 1..6 {
        let target = Bucket::new(&format!("archive-versions-resumed-{point}")).await;
        let into = target.side().await;
        let mut restoring = Restoring::begin(bucket(&into), &RestoreOptions::default()).await.unwrap();
        // The large object is most of it.
        let length = [600, 8_000, 20_000, made.len() / 2, made.len() - 30_000][point - 1];
        for piece in made[..length].chunks(10_000) {
            restoring.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        // As when it is killed.
        drop(restoring);
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let there = history(&target).await.len() as u64;
        assert!(there < count, "{there}");
        let restored = restore(&made, 10_000, &into, &into_existing()).await.unwrap();
        assert_eq!((restored.skipped.objects, restored.stored.objects), (there, count - there), "{point}");
        assert_eq!(restored.archive, report);
        assert!(history(&target).await == expected, "{point}");
        // And once more, when nothing is left to be done.
        let restored = restore(&made, 100_000, &into, &into_existing()).await.unwrap();
        assert_eq!((restored.skipped.objects, restored.stored.objects), (count, 0));
        assert!(history(&target).await == expected, "{point}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_is_not_the_beginning_of_that_in_the_archive_is_left_as_it_is() {
    let source = Bucket::new("archive-versions-other").await;
    make_histories(&source).await;
    let (_, made) = archive(&source.side().await, &options(true)).await.unwrap();
    let other = async |target: &Bucket, change: u8| match change {
        // Another content, other metadata, a removal in the place of a version, a version in that of a removal.
        0 => target.put("plain", &Stored { content: content(2010, 9), ..Stored::rich(0) }).await,
        1 => target.put("plain", &Stored { content: content(2010, 2), ..Stored::rich(1) }).await,
        2 => target.remove("a").await,
        _ => {
            target.put("plain", &Stored { content: content(2010, 2), ..Stored::rich(0) }).await;
            for round in [1, 3] {
                let content = content(2010 + round, 2);
                target.put("plain", &Stored { content, ..Stored::rich(round) }).await;
            }
        }
    };
    for change in 0..4 {
        let target = Bucket::new(&format!("archive-versions-other-{change}")).await;
        target.keep_versions().await;
        other(&target, change).await;
        let key = if change == 2 { "a" } else { "plain" };
        let before = history(&target).await;
        let error = restore(&made, 10_000, &target.side().await, &into_existing()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{change}: {error}");
        assert!(error.to_string().contains(&format!("/{key}`")), "{change}: {error}");
        let mut after = history(&target).await;
        after.retain(|(it, _)| it == key);
        assert!(after == before, "{change}");
    }
    // One that goes on after the end of that in the archive is not what it was then either.
    let target = Bucket::new("archive-versions-longer").await;
    let into = target.side().await;
    restore(&made, 10_000, &into, &RestoreOptions::default()).await.unwrap();
    target.put("plain", &Stored::new("newer")).await;
    let error = restore(&made, 10_000, &into, &into_existing()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::AlreadyExists && error.to_string().contains("/plain`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes long: `make test` runs it"]
async fn more_versions_than_fit_into_a_page_are_in_order() {
    let (source, target) =
        (Bucket::new("archive-many-versions").await, Bucket::new("archive-many-versions-copy").await);
    source.keep_versions().await;
    let keys = ["a b/1", "a b/2+%", "c"];
    let rounds = 340_usize;
    for key in keys {
        for round in 0..rounds {
            source.put(key, &Stored::new(format!("{round}"))).await;
        }
    }
    let (report, made) = archive(&source.side().await, &options(true)).await.unwrap();
    assert_eq!(report.objects, 3 * rounds as u64);
    let into = target.side().await;
    restore(&made, 10_000, &into, &RestoreOptions::default()).await.unwrap();
    for key in keys {
        assert_eq!(target.get(key).await.unwrap().content, format!("{}", rounds - 1));
    }
    let (again, _) = archive(&into, &options(true)).await.unwrap();
    assert_eq!(again, report);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_without_objects_has_an_archive_too() {
    let (source, target) = (Bucket::new("archive-empty").await, Bucket::new("archive-empty-copy").await);
    for versions in [false, true] {
        let (report, made) = archive(&source.side().await, &options(versions)).await.unwrap();
        assert_eq!((report.objects, report.bytes), (0, 0));
        let restored = restore(&made, 100, &target.side().await, &RestoreOptions::default()).await.unwrap();
        assert_eq!(restored.archive, report);
    }
    assert!(target.keys().await.is_empty());
}

/// What the process is to do whose memory is measured.
const CHILD: &str = "PGMIG_TEST_BUCKET_ARCHIVE";

/// Not a test: the process whose memory is measured.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by another test"]
async fn archives_in_a_process_of_its_own() {
    let Ok(job) = env::var(CHILD) else { return };
    let (from, to) = job.split_once(' ').unwrap();
    let connect = async |bucket: &str| {
        let mut config = S3Server::shared().config("child");
        config.bucket = bucket.to_owned();
        S3::connect_or_create(config).await.unwrap()
    };
    let (from, to) = (connect(from).await, connect(to).await);
    let mut restoring = Restoring::begin(&to, &RestoreOptions::default()).await.unwrap();
    let sink = async |piece| restoring.write(piece).await;
    let report = bucket_archive::write(&from, &ArchiveOptions::default(), sink).await.unwrap();
    assert_eq!(whole(restoring.finish().await.unwrap()).archive, report);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 128 << 10, "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_grow_with_what_is_archived_and_restored() {
    let (source, target) = (Bucket::new("memory-of-archive").await, Bucket::new("memory-of-archive-copy").await);
    for n in 0..12_usize {
        let size = [1 << 20, PART - 1, 4 * PART][n % 3];
        source.put(&format!("{n}"), &Stored::new(content(size, n as u64))).await;
    }
    let server = S3Server::shared();
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "storage_bucket_archive::archives_in_a_process_of_its_own", "--ignored"]);
    command.env(CHILD, format!("{} {}", source.config.bucket, target.config.bucket));
    for (name, value) in
        [("ENDPOINT", server.endpoint()), ("ACCESS_KEY", server.access_key()), ("SECRET_KEY", server.secret_key())]
    {
        command.env(format!("PGMIG_TEST_S3_{name}"), value);
    }
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    expect_same(verify(&source.side().await, &target.side().await, 8).await, 12);
}
