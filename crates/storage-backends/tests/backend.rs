//! The folder as a backend.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use futures_util::TryStreamExt as _;
use storage_backends::local::Local;
use storage_backends::{Abandoned, Backend, ErrorKind, Existing, Key, SHORTEST_GRACE_TIME, conformance};

fn key(text: &str) -> Key {
    text.parse().expect("a key")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_behaves_as_every_backend_does() {
    let folder = tempfile::tempdir().unwrap();
    conformance::check(&Local::open(folder.path()).unwrap(), "conformance").await;
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        0,
        "folders that were made are removed with what was in them"
    );
}

#[tokio::test]
async fn what_a_killed_process_left_is_removed_when_it_is_old_and_nobody_writes_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let local = Local::open(folder.path()).unwrap();
    let two_hours = Duration::from_secs(7200);
    let old = SystemTime::now() - two_hours;
    let set = |name: &str, time: SystemTime| {
        fs::File::options().write(true).open(folder.path().join(name)).unwrap().set_modified(time).unwrap();
    };
    fs::create_dir(folder.path().join("weekly")).unwrap();
    for (name, time) in [
        (".staging-1-0", old),
        ("weekly/.staging-7-0", old),
        (".staging-1-1", SystemTime::now()),
        // A clock that was set back.
        (".staging-1-2", SystemTime::now() + two_hours),
        ("store.dump_20240310-230003", old),
    ] {
        fs::write(folder.path().join(name), b"x").unwrap();
        set(name, time);
    }
    let mut upload = local.put(&key("new"), Existing::Keep).await.unwrap();
    upload.write("x".into()).await.unwrap();
    let ours = format!(".staging-{}-0", std::process::id());
    set(&ours, old);
    // Less than an hour is an hour.
    let of_nobody = Abandoned::new(Duration::ZERO, SystemTime::now(), |_| false);
    assert_eq!(local.remove_abandoned(&of_nobody).await.unwrap(), 0);
    let all = Abandoned::new(Duration::ZERO, SystemTime::now(), |_| true);
    assert_eq!((all.age(), local.remove_abandoned(&all).await.unwrap()), (SHORTEST_GRACE_TIME, 2));
    upload.commit().await.unwrap();
    let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [".staging-1-1", ".staging-1-2", "new", "store.dump_20240310-230003", "weekly"]);
}

#[test]
fn cleaning_up_passes_over_what_belongs_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let old = SystemTime::now() - Duration::from_secs(7200);
    for name in ["lost+found", "theirs", "read-only"] {
        fs::create_dir(path(name)).unwrap();
    }
    for name in [".staging-1-0", ".staging-2-0", "read-only/.staging-3-0"] {
        fs::write(path(name), "x").unwrap();
        fs::File::options().write(true).open(path(name)).unwrap().set_modified(old).unwrap();
    }
    std::os::unix::fs::symlink("/etc/passwd", path(".staging-4-0")).unwrap();
    let set_modes = |modes: [u32; 4]| {
        for (name, mode) in ["lost+found", "theirs", "read-only", ".staging-2-0"].into_iter().zip(modes) {
            fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    set_modes([0, 0, 0o500, 0]);
    let local = Local::open(folder.path()).unwrap();
    let all = Abandoned::new(Duration::from_secs(3600), SystemTime::now(), |_| true);
    let removed = as_somebody(local.remove_abandoned(&all));
    let listed = as_somebody(async { local.list(None).await.try_collect::<Vec<_>>().await });
    set_modes([0, 0o700, 0o700, 0o600]);
    let listed_without_theirs = as_somebody(async { local.list(None).await.try_collect::<Vec<_>>().await });
    set_modes([0o700, 0o700, 0o700, 0o600]);
    assert_eq!(removed.unwrap(), 1);
    assert!(!path(".staging-1-0").exists());
    assert!(path(".staging-2-0").exists() && path("read-only/.staging-3-0").exists());
    // A list with a gap would be taken for a whole one; only in the file system's own folder there is nothing to be found.
    assert_eq!(listed.unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(listed_without_theirs.unwrap(), []);
}

/// Does something without what lets root read everything.
fn as_somebody<T: Send>(work: impl Future<Output = T> + Send) -> T {
    let work = || {
        crate::folder::obey_permissions();
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    };
    std::thread::scope(|scope| scope.spawn(work).join().expect("the thread ends"))
}

#[tokio::test]
async fn what_is_no_regular_file_is_no_object() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), b"secret").unwrap();
    fs::create_dir(folder.path().join("folder")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.path().join("fifo"), rustix::fs::Mode::RUSR).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret"), folder.path().join("link")).unwrap();
    std::os::unix::fs::symlink(folder.path(), folder.path().join("circle")).unwrap();
    fs::write(folder.path().join("file"), b"content").unwrap();
    std::os::unix::fs::symlink("file", folder.path().join("same")).unwrap();
    let local = Local::open(folder.path()).unwrap();
    for name in ["folder", "fifo"] {
        assert_eq!(local.get(&key(name), None).await.unwrap_err().kind(), ErrorKind::NotFound, "{name}");
    }
    assert_eq!(local.get(&key("link"), None).await.unwrap_err().kind(), ErrorKind::InvalidKey);
    let listed: Vec<_> = local.list(None).await.try_collect().await.unwrap();
    let listed: Vec<_> = listed.iter().map(|object| object.key.as_str()).collect();
    assert_eq!(listed, ["file"], "nor is a link, which would be gone with what it leads to");
}

#[tokio::test]
async fn a_file_that_becomes_shorter_while_it_is_read_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), vec![7; 8 << 20]).unwrap();
    let local = Local::open(folder.path()).unwrap();
    let mut found = local.get(&key("file"), None).await.unwrap();
    found.content.try_next().await.unwrap().unwrap();
    fs::File::options().write(true).open(folder.path().join("file")).unwrap().set_len(100).unwrap();
    let error = found.content.try_collect::<Vec<_>>().await.unwrap_err();
    assert!(error.to_string().contains("became shorter"), "{error}");
}

#[test]
fn a_folder_that_others_remove_when_it_is_empty_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let local = Local::open(folder.path()).unwrap();
    // Each removes its only object, and the folders with it, while the other is about to store one there.
    let work = |name: &'static str| {
        let local = local.clone();
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let key = key(&format!("nightly/20261121T230004Z/{name}"));
            for _ in 0..300 {
                runtime.block_on(local.put_if_absent(&key, "x".into())).unwrap();
                runtime.block_on(local.delete(&key)).unwrap();
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work("first"));
        scope.spawn(work("second"));
    });
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
