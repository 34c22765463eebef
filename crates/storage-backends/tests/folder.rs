//! Files in real folders: what is there at which moment, and what each failure is called.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use storage_backends::local::{Existing, Folder, LocalError, LocalErrorKind, StagedFile};
use tempfile::TempDir;

const NAME: &str = "store.dump_20240310-230003";

struct Volume {
    temporary: TempDir,
    folder: Folder,
}

impl Volume {
    fn new() -> Self {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let folder = Folder::open(temporary.path()).expect("it opens");
        Self { temporary, folder }
    }

    fn path(&self) -> &Path {
        self.temporary.path()
    }

    fn stage(&self, name: &str, content: &[u8]) -> StagedFile {
        let mut file = self.folder.stage(name, Existing::Keep).expect("it begins");
        file.write_all(content).expect("it is written");
        file
    }

    fn refusal(&self, name: &str) -> LocalError {
        self.folder.stage(name, Existing::Keep).expect_err(name)
    }

    fn names(&self) -> Vec<String> {
        names(self.path())
    }
}

/// What is in a folder, in order.
fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

#[test]
fn a_file_has_its_name_only_when_it_is_complete() {
    let volume = Volume::new();
    let file = volume.stage(NAME, b"PGDMP and more");
    assert_eq!(file.path(), volume.path().join(NAME));
    let staged = volume.names();
    assert!(matches!(staged.as_slice(), [name] if name.starts_with(".staging-")), "{staged:?}");
    file.publish().expect("it is published");
    assert_eq!(volume.names(), [NAME]);
    assert_eq!(fs::read(volume.path().join(NAME)).expect("it is there"), b"PGDMP and more");
}

#[test]
fn files_and_folders_are_for_their_owner_alone() {
    let volume = Volume::new();
    let file = volume.stage(&format!("weekly/{NAME}"), b"PGDMP");
    assert_eq!(mode(&volume.path().join("weekly").join(&names(&volume.path().join("weekly"))[0])), 0o600);
    file.publish().expect("it is published");
    assert_eq!(mode(&volume.path().join("weekly")), 0o700);
    assert_eq!(mode(&volume.path().join("weekly").join(NAME)), 0o600);
}

#[test]
fn what_is_dropped_or_aborted_leaves_nothing() {
    let volume = Volume::new();
    drop(volume.stage(NAME, b"PGD"));
    assert!(volume.names().is_empty());
    volume.stage(NAME, b"PGD").abort().expect("it is removed");
    assert!(volume.names().is_empty());
}

#[test]
fn two_files_at_once_do_not_meet() {
    let volume = Volume::new();
    let (first, second) = (volume.stage("a", b"first"), volume.stage("b", b"second"));
    second.publish().expect("it is published");
    first.publish().expect("it is published");
    assert_eq!(volume.names(), ["a", "b"]);
    assert_eq!(fs::read(volume.path().join("a")).expect("it is there"), b"first");
}

#[test]
fn a_name_that_is_taken_is_refused_before_anything_is_written() {
    let volume = Volume::new();
    volume.stage(NAME, b"old").publish().expect("it is published");
    let error = volume.refusal(NAME);
    assert_eq!(error.kind(), LocalErrorKind::AlreadyExists);
    assert_eq!(error.to_string(), format!("cannot store `{}`: the name is taken", volume.path().join(NAME).display()));
    assert_eq!(error.hint().as_deref(), Some("use another name, or move away what is there"));

    // a link that leads nowhere has the name too
    symlink("nowhere", volume.path().join("link")).expect("a link");
    assert_eq!(volume.refusal("link").kind(), LocalErrorKind::AlreadyExists);
}

#[test]
fn a_name_that_is_taken_meanwhile_keeps_what_it_has() {
    let volume = Volume::new();
    let file = volume.stage(NAME, b"new");
    fs::write(volume.path().join(NAME), b"other").expect("written");
    assert_eq!(file.publish().expect_err("it is taken").kind(), LocalErrorKind::AlreadyExists);
    assert_eq!(volume.names(), [NAME]);
    assert_eq!(fs::read(volume.path().join(NAME)).expect("it is there"), b"other");
}

#[test]
fn replacing_has_to_be_asked_for_and_happens_at_the_end() {
    let volume = Volume::new();
    volume.stage(NAME, b"old").publish().expect("it is published");
    let mut file = volume.folder.stage(NAME, Existing::Replace).expect("it begins");
    file.write_all(b"new").expect("it is written");
    assert_eq!(fs::read(volume.path().join(NAME)).expect("it is there"), b"old");
    file.publish().expect("it is published");
    assert_eq!(fs::read(volume.path().join(NAME)).expect("it is there"), b"new");
    assert_eq!(volume.names(), [NAME]);
}

#[test]
fn a_name_that_leads_out_of_the_folder_is_refused() {
    let volume = Volume::new();
    let outside = tempfile::tempdir().expect("a temporary folder");
    symlink(outside.path(), volume.path().join("absolute")).expect("a link");
    symlink("..", volume.path().join("above")).expect("a link");
    let absolute = format!("{}/x", outside.path().display());
    for name in [
        "",
        ".",
        "..",
        "../x",
        "a/../x",
        "a/../../x",
        "./x",
        "a//x",
        "a/",
        "a/.",
        "/x",
        &absolute,
        "absolute/x",
        "above/x",
    ] {
        let error = volume.refusal(name);
        assert_eq!(error.kind(), LocalErrorKind::OutsideRoot, "{name:?}: {error}");
        assert!(error.to_string().ends_with("the name leads out of the folder") && error.hint().is_some(), "{error}");
    }
    assert!(names(outside.path()).is_empty());
    assert_eq!(volume.names(), ["above", "absolute"]);
}

#[test]
fn a_link_that_stays_inside_is_followed() {
    let volume = Volume::new();
    fs::create_dir(volume.path().join("really-weekly")).expect("a folder");
    symlink("really-weekly", volume.path().join("weekly")).expect("a link");
    volume.stage(&format!("weekly/{NAME}"), b"PGDMP").publish().expect("it is published");
    assert_eq!(names(&volume.path().join("really-weekly")), [NAME]);
}

#[test]
fn a_link_that_is_replaced_does_not_lead_out_either() {
    let volume = Volume::new();
    let outside = tempfile::NamedTempFile::new().expect("a temporary file");
    symlink(outside.path(), volume.path().join(NAME)).expect("a link");
    let mut file = volume.folder.stage(NAME, Existing::Replace).expect("it begins");
    file.write_all(b"PGDMP").expect("it is written");
    file.publish().expect("it is published");
    assert!(fs::read(outside.path()).expect("it is there").is_empty());
    assert!(fs::symlink_metadata(volume.path().join(NAME)).expect("it is there").is_file());
}

#[test]
fn a_folder_that_is_not_there_says_so() {
    let volume = Volume::new();
    let error = Folder::open(volume.path().join("missing")).expect_err("it is not there");
    assert_eq!(error.kind(), LocalErrorKind::NotFound);
    assert_eq!(
        error.to_string(),
        format!("cannot open the folder `{}/missing`: No such file or directory (os error 2)", volume.path().display())
    );

    let Volume { temporary, folder } = volume;
    temporary.close().expect("it is removed");
    assert_eq!(folder.stage(NAME, Existing::Keep).expect_err("it is gone").kind(), LocalErrorKind::NotFound);
}

#[test]
fn a_file_in_the_place_of_a_folder_says_so() {
    let volume = Volume::new();
    volume.stage("weekly", b"").publish().expect("it is published");
    let error = volume.refusal(&format!("weekly/{NAME}"));
    assert_eq!(error.kind(), LocalErrorKind::Other);
    assert!(error.to_string().contains("Not a directory"), "{error}");
}

#[test]
fn a_folder_that_may_not_be_written_to_says_so() {
    let volume = Volume::new();
    fs::set_permissions(volume.path(), fs::Permissions::from_mode(0o500)).expect("the mode is set");
    let folder = &volume.folder;
    let stage = || folder.stage(NAME, Existing::Keep).map(drop);
    let error = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            obey_permissions();
            stage()
        });
        thread.join().expect("the thread ends").expect_err("it may not be written to")
    });
    assert_eq!(error.kind(), LocalErrorKind::PermissionDenied);
    assert!(error.to_string().ends_with("Permission denied (os error 13)"), "{error}");
    fs::set_permissions(volume.path(), fs::Permissions::from_mode(0o700)).expect("the mode is set");
}

/// Takes away from this thread what lets root write everywhere; others have nothing to take away.
pub(crate) fn obey_permissions() {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let mut sets = capabilities(None).expect("a thread may ask for its own");
    sets.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    set_capabilities(None, sets).expect("a thread may always have less");
}

#[test]
fn a_full_disk_says_so_and_nothing_incomplete_is_published() {
    let Some(disk) = Mounted::small_disk("a_full_disk_says_so_and_nothing_incomplete_is_published") else { return };
    let folder = Folder::open(disk.path()).expect("it opens");
    let mut file = folder.stage(NAME, Existing::Keep).expect("it begins");
    let error = io::copy(&mut io::repeat(7), &mut file).expect_err("the disk is full");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    let cause = error.downcast::<LocalError>().expect("the cause is inside");
    assert_eq!(cause.kind(), LocalErrorKind::DiskFull);
    assert_eq!(
        cause.to_string(),
        format!("cannot write `{}`: No space left on device (os error 28)", disk.path().join(NAME).display())
    );
    assert_eq!(cause.hint().as_deref(), Some("make room on the disk, then try again"));

    // a caller that goes on all the same is not believed
    let error = file.publish().expect_err("it is incomplete");
    assert_eq!(error.kind(), LocalErrorKind::Incomplete);
    assert!(names(disk.path()).is_empty());

    // The room is there again, as soon as no process that another test is about to start has the file
    // open any more: it inherits all files until it becomes the other program.
    let write_again = || -> io::Result<()> {
        let mut file = folder.stage(NAME, Existing::Keep).expect("it begins");
        file.write_all(&[7; 100_000])?;
        file.publish().expect("it is published");
        Ok(())
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(error) = write_again() {
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
        assert!(Instant::now() < deadline, "the disk stays full: {error}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_read_only_file_system_says_so() {
    let Some(disk) = Mounted::small_disk("a_read_only_file_system_says_so") else { return };
    let folder = Folder::open(disk.path()).expect("it opens");
    let file = folder.stage("before", Existing::Keep).expect("it begins");
    assert!(!mount(&["-o", "remount,ro"], disk.path()), "a file is open for writing, so this is refused");
    drop(file);
    assert!(mount(&["-o", "remount,ro"], disk.path()));
    let error = folder.stage(NAME, Existing::Keep).expect_err("it is read-only");
    assert_eq!(error.kind(), LocalErrorKind::ReadOnly);
    assert!(error.hint().is_some_and(|hint| hint.contains("writable")));
}

#[test]
fn a_folder_that_has_to_be_mounted_is_refused_without_its_volume() {
    let volume = Volume::new();
    fs::create_dir(volume.path().join("folder")).expect("a folder");
    for path in [volume.path().to_owned(), volume.path().join("folder"), "/proc/self".into()] {
        let error = Folder::open_mounted(&path).expect_err("nothing is mounted there");
        assert_eq!(error.kind(), LocalErrorKind::NotMounted);
        let told = format!("cannot use the folder `{}`: nothing is mounted there", path.display());
        assert_eq!(error.to_string(), told);
        assert!(error.hint().is_some_and(|hint| hint.contains("is mounted")));
    }
    let error = Folder::open_mounted(volume.path().join("missing")).expect_err("it is not there");
    assert_eq!(error.kind(), LocalErrorKind::NotFound);
    // These are everywhere, also where nothing can be mounted.
    for path in ["/", "/proc"] {
        Folder::open_mounted(path).expect("it is a mount point");
    }
    let Some(disk) = Mounted::small_disk("a_folder_that_has_to_be_mounted_is_refused_without_its_volume") else {
        return;
    };
    Folder::open_mounted(disk.path()).expect("it is mounted");
    // A folder of the same file system.
    let bound = volume.path().join("folder");
    if mount(&["--bind", &volume.path().display().to_string()], &bound) {
        let opened = Folder::open_mounted(&bound).map(drop);
        assert!(Command::new("umount").arg("-l").arg(&bound).status().expect("umount runs").success());
        opened.expect("it is mounted");
    }
}

/// A file system of one megabyte, for as long as this lives.
struct Mounted(TempDir);

impl Mounted {
    /// None, with a loud word, where nothing can be mounted: that takes root, and a container may forbid it even then.
    fn small_disk(test: &str) -> Option<Self> {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        if mount(&["-t", "tmpfs", "-o", "size=1m", "tmpfs"], temporary.path()) {
            return Some(Self(temporary));
        }
        // past the capture of the test's output
        let _ = writeln!(io::stderr(), "SKIPPED: {test}: a tmpfs cannot be mounted here, which takes root");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a folder that is still open must not keep it mounted.
        let output = Command::new("umount").arg("-l").arg(self.path()).output().expect("umount runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn mount(args: &[&str], path: &Path) -> bool {
    Command::new("mount").args(args).arg(path).output().is_ok_and(|output| output.status.success())
}
