//! Dumps that were there before: they become backups where they lie.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use storage_backends::local::Local;
use storage_backends::{BackupId, Catalog, Error, ErrorKind, Key, Listing, Manifest, NewBackup};
use tempfile::TempDir;

use crate::catalog::{HOUR, clean_up, files, id, read, remove, time};
use crate::memory::Memory;

const DAILY: &str = "store.dump_20240310-230003";
const WEEKLY: &str = "weekly/store.dump_20240310-230003";
const ID: &str = "20240310T220003Z";
const NEXT_ID: &str = "20240310T220004Z";

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

/// A volume as the product's own job fills it, and a catalog at its root.
fn volume() -> (TempDir, Catalog) {
    let volume = tempfile::tempdir().unwrap();
    fs::create_dir(volume.path().join("weekly")).unwrap();
    fs::write(volume.path().join(DAILY), "PGDMP daily").unwrap();
    fs::write(volume.path().join(WEEKLY), "PGDMP weekly").unwrap();
    let catalog = Catalog::at_root(Arc::new(Local::open(volume.path()).unwrap()));
    (volume, catalog)
}

async fn begin(catalog: &Catalog, id_text: &str, dump: &str) -> Result<NewBackup, Error> {
    let known = catalog.list().await?;
    catalog.adopt(id(id_text), &key(dump), &known, async |_| Ok(())).await
}

async fn publish(backup: NewBackup) -> Result<Manifest, Error> {
    let manifest = Manifest::new(backup.id(), "store", time());
    backup.publish(manifest).await
}

async fn adopt(catalog: &Catalog, id_text: &str, dump: &str) -> Result<Manifest, Error> {
    publish(begin(catalog, id_text, dump).await?).await
}

fn foreign(listing: &storage_backends::Listing) -> Vec<&str> {
    listing.foreign.iter().map(Key::as_str).collect()
}

#[tokio::test]
async fn dumps_that_were_there_before_become_backups_where_they_lie() {
    let (volume, catalog) = volume();
    let listing = catalog.list().await.unwrap();
    assert_eq!(foreign(&listing), [DAILY, WEEKLY]);
    let mut seen = Vec::new();
    let backup = catalog
        .adopt(id(ID), &key(DAILY), &Listing::default(), async |piece| {
            seen.extend_from_slice(&piece);
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(seen, b"PGDMP daily");
    assert_eq!(foreign(&catalog.list().await.unwrap()), [DAILY, WEEKLY], "it is no backup yet");
    let daily = publish(backup).await.unwrap();

    // Both were made in the same second.
    let listing = catalog.list().await.unwrap();
    assert_eq!(foreign(&listing), [WEEKLY]);
    let free = listing.free_id(id(ID)).unwrap();
    assert_eq!(free.as_str(), NEXT_ID);
    assert_eq!(begin(&catalog, ID, WEEKLY).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let weekly = adopt(&catalog, NEXT_ID, WEEKLY).await.unwrap();
    let listing = catalog.list().await.unwrap();
    assert_eq!((foreign(&listing), listing.unreadable.len(), listing.incomplete.len()), (vec![], 0, 0));
    assert_eq!(listing.backups, [(id(ID), daily.clone()), (id(NEXT_ID), weekly.clone())]);
    assert_eq!(listing.free_id(id(ID)).unwrap().as_str(), "20240310T220005Z");

    assert!(daily.is_adopted() && weekly.is_adopted());
    assert_eq!(weekly.objects[0].name, "store.dump_20240310-230003");
    assert_eq!(weekly.objects[0].at.as_deref(), Some(WEEKLY));
    // `printf 'PGDMP weekly' | sha256sum`
    assert_eq!(weekly.objects[0].sha256, "48a199280b336aa07e5bd8e6bb56097d9e331145c4e17bfe368593083e49c733");
    assert_eq!(read(&catalog, NEXT_ID, &weekly.objects[0]).await.unwrap(), b"PGDMP weekly");
    fs::write(volume.path().join(WEEKLY), "PGDMP weekle").unwrap();
    let error = read(&catalog, NEXT_ID, &weekly.objects[0]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incomplete, "{error}");

    remove(&catalog, ID).await;
    assert_eq!(files(volume.path()), ["manifest.json", "store.dump_20240310-230003"]);
    assert!(!volume.path().join(DAILY).exists());
    remove(&catalog, NEXT_ID).await;
    assert_eq!(files(volume.path()), [""; 0]);
}

#[tokio::test]
async fn a_catalog_below_the_root_adopts_what_lies_in_its_own_folder() {
    let (volume, _) = volume();
    let backend = Arc::new(Local::open(volume.path()).unwrap());
    let catalog = Catalog::new(backend, key("weekly")).unwrap();
    assert_eq!(foreign(&catalog.list().await.unwrap()), [WEEKLY]);
    let manifest = adopt(&catalog, ID, WEEKLY).await.unwrap();
    assert_eq!(manifest.objects[0].at.as_deref(), Some("store.dump_20240310-230003"));
    assert_eq!(read(&catalog, ID, &manifest.objects[0]).await.unwrap(), b"PGDMP weekly");
    let error = begin(&catalog, NEXT_ID, DAILY).await.unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidKey && error.to_string().contains("in the folder"), "{error}");
    remove(&catalog, ID).await;
    assert_eq!(files(volume.path()), ["store.dump_20240310-230003"]);
}

#[tokio::test]
async fn of_several_that_adopt_an_object_at_most_one_does() {
    let (volume, catalog) = volume();
    let (first, second) = (begin(&catalog, ID, DAILY).await.unwrap(), begin(&catalog, NEXT_ID, DAILY).await.unwrap());
    publish(second).await.unwrap();
    let error = publish(first).await.unwrap_err();
    assert!(error.kind() == ErrorKind::AlreadyExists && error.to_string().contains(NEXT_ID), "{error}");
    let error = begin(&catalog, ID, DAILY).await.unwrap_err();
    assert!(error.kind() == ErrorKind::AlreadyExists && error.to_string().contains(NEXT_ID), "{error}");
    let listing = catalog.list().await.unwrap();
    assert_eq!((listing.backups.len(), listing.incomplete.len(), foreign(&listing)), (1, 0, vec![WEEKLY]));
    assert!(volume.path().join(DAILY).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_adopt_an_object_at_the_same_time_never_lose_it() {
    for _ in 0..50 {
        let (volume, catalog) = volume();
        let mut backups = Vec::new();
        for second in 3..7 {
            backups.push(begin(&catalog, &format!("20240310T22000{second}Z"), DAILY).await.unwrap());
        }
        let tasks: Vec<_> = backups.into_iter().map(|backup| tokio::spawn(publish(backup))).collect();
        let mut published = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(_) => published += 1,
                Err(e) => assert_eq!(e.kind(), ErrorKind::AlreadyExists, "{e}"),
            }
        }
        let listing = catalog.list().await.unwrap();
        assert!(published <= 1 && listing.backups.len() == published, "{listing:?}");
        assert!(listing.unreadable.is_empty() && volume.path().join(DAILY).exists(), "{listing:?}");
    }
}

#[tokio::test]
async fn whoever_adopts_or_removes_many_reads_no_manifest_that_is_known() {
    let memory = Memory::default();
    let catalog = Catalog::at_root(Arc::new(memory.clone()));
    let dumps: Vec<_> = (10..30).map(|second| key(&format!("store.dump_20240310-2300{second}"))).collect();
    for dump in &dumps {
        memory.objects().insert(dump.clone(), ("PGDMP".into(), SystemTime::UNIX_EPOCH));
    }
    let read = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&read);
    memory.set_rule(move |doing, name, _| {
        if doing == "get" && name.ends_with("/manifest.json") {
            seen.lock().unwrap().push(name.to_owned());
        }
        Ok(())
    });
    let mut listing = catalog.list().await.unwrap();
    for (second, dump) in (10..).zip(&dumps) {
        let id = id(&format!("20240310T2200{second}Z"));
        let backup = catalog.adopt(id.clone(), dump, &listing, async |_| Ok(())).await.unwrap();
        listing.backups.push((id, publish(backup).await.unwrap()));
    }
    assert_eq!(*read.lock().unwrap(), [""; 0]);
    let error = catalog.adopt(id(NEXT_ID), &dumps[3], &listing, async |_| Ok(())).await.unwrap_err();
    assert!(error.kind() == ErrorKind::AlreadyExists && error.to_string().contains("20240310T220013Z"), "{error}");

    // What was adopted since is read, and nothing else.
    let late = key("store.dump_late");
    memory.objects().insert(late.clone(), ("PGDMP".into(), SystemTime::UNIX_EPOCH));
    let backup = catalog.adopt(id(ID), &late, &listing, async |_| Ok(())).await.unwrap();
    publish(catalog.adopt(id(NEXT_ID), &late, &listing, async |_| Ok(())).await.unwrap()).await.unwrap();
    assert_eq!(publish(backup).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let theirs = format!("{NEXT_ID}/manifest.json");
    assert_eq!(*read.lock().unwrap(), [theirs.as_str()]);

    read.lock().unwrap().clear();
    for (id, _) in &listing.backups {
        assert!(catalog.remove(id, &listing).await.unwrap().problems.is_empty());
    }
    assert!(read.lock().unwrap().iter().all(|name| *name == theirs), "{read:?}");
    assert_eq!(memory.objects().len(), 2, "{memory:?}");
}

#[tokio::test]
async fn a_second_manifest_that_names_an_object_is_no_backup_and_takes_nothing_with_it() {
    let (volume, catalog) = volume();
    let manifest = adopt(&catalog, ID, DAILY).await.unwrap();
    // As after a crash of both, just after they had written their manifests.
    let copy = serde_json::to_string(&manifest).unwrap().replace(ID, NEXT_ID);
    fs::create_dir(volume.path().join(NEXT_ID)).unwrap();
    fs::write(volume.path().join(NEXT_ID).join("manifest.json"), copy).unwrap();
    let listing = catalog.list().await.unwrap();
    assert_eq!(listing.backups, [(id(ID), manifest)]);
    let (unreadable, why) = &listing.unreadable[0];
    assert!(unreadable.as_str() == NEXT_ID && why.contains(ID) && why.contains(DAILY), "{why}");
    for id_text in [NEXT_ID, ID] {
        assert!(volume.path().join(DAILY).exists());
        remove(&catalog, id_text).await;
    }
    assert!(!volume.path().join(DAILY).exists(), "the last one takes it");
}

#[tokio::test]
async fn an_adopted_dump_that_is_gone_or_was_changed_is_no_backup_any_more() {
    let (volume, catalog) = volume();
    adopt(&catalog, ID, DAILY).await.unwrap();
    let path = volume.path().join(DAILY);
    fs::write(&path, "PGDMP, cut").unwrap();
    let listing = catalog.list().await.unwrap();
    assert_eq!((listing.backups.len(), foreign(&listing)), (0, vec![WEEKLY]), "it is told once, and is adopted still");
    let why = &listing.unreadable[0].1;
    assert_eq!(why, "says that the object `store.dump_20240310-230003` has 11 bytes, but it has 10");
    // Another manifest that names what is there now is the right one.
    let manifest = fs::read_to_string(volume.path().join(ID).join("manifest.json")).unwrap();
    let other = manifest.replace(ID, NEXT_ID).replace("\"bytes\": 11", "\"bytes\": 10");
    fs::create_dir(volume.path().join(NEXT_ID)).unwrap();
    fs::write(volume.path().join(NEXT_ID).join("manifest.json"), other).unwrap();
    let listing = catalog.list().await.unwrap();
    assert_eq!((&listing.backups[0].0, &listing.unreadable[0].0), (&id(NEXT_ID), &id(ID)));
    remove(&catalog, NEXT_ID).await;
    fs::remove_file(&path).ok();
    let listing = catalog.list().await.unwrap();
    assert_eq!(listing.unreadable[0].1, "names the object `store.dump_20240310-230003`, which is missing");
}

#[tokio::test]
async fn a_crash_leaves_a_dump_that_can_be_adopted_again() {
    let (volume, catalog) = volume();
    // Before the manifest: the caller gave up, or the process ended.
    begin(&catalog, ID, DAILY).await.unwrap().abort().await.unwrap();
    drop(begin(&catalog, ID, DAILY).await.unwrap());
    let listing = catalog.list().await.unwrap();
    assert_eq!((foreign(&listing), listing.incomplete.len()), (vec![DAILY, WEEKLY], 0));
    // While it was removed: the manifest goes first.
    adopt(&catalog, ID, DAILY).await.unwrap();
    fs::remove_file(volume.path().join(ID).join("manifest.json")).unwrap();
    let listing = catalog.list().await.unwrap();
    assert_eq!((listing.backups.len(), foreign(&listing)), (0, vec![DAILY, WEEKLY]));
    assert_eq!(clean_up(&catalog, Duration::ZERO, SystemTime::now() + HOUR).await, []);
    let manifest = adopt(&catalog, ID, DAILY).await.unwrap();
    assert_eq!(read(&catalog, ID, &manifest.objects[0]).await.unwrap(), b"PGDMP daily");
}

#[tokio::test]
async fn cleaning_up_never_takes_what_was_adopted() {
    let (volume, catalog) = volume();
    adopt(&catalog, ID, DAILY).await.unwrap();
    // The folder of a backup whose manifest is not there yet, or not any more.
    fs::rename(volume.path().join(ID).join("manifest.json"), volume.path().join(ID).join("manifest.json.sig")).unwrap();
    assert_eq!(clean_up(&catalog, HOUR, SystemTime::now() + 2 * HOUR).await, [id(ID)]);
    assert_eq!(foreign(&catalog.list().await.unwrap()), [DAILY, WEEKLY]);
    // Given up, after another process has published one of the same name.
    let late = begin(&catalog, ID, DAILY).await.unwrap();
    adopt(&catalog, ID, DAILY).await.unwrap();
    late.abort().await.unwrap();
    let listing = catalog.list().await.unwrap();
    assert_eq!((listing.backups.len(), foreign(&listing)), (1, vec![WEEKLY]));
}

#[tokio::test]
async fn what_fails_or_changes_while_it_is_read_is_not_adopted() {
    let (volume, catalog) = volume();
    let refused = Error::new(ErrorKind::Other, "read", DAILY, "it is no archive");
    let mut refused = Some(refused);
    let failed = catalog.adopt(id(ID), &key(DAILY), &Listing::default(), async |_| Err(refused.take().unwrap())).await;
    assert!(failed.unwrap_err().to_string().contains("no archive"));

    let path = volume.path().join(DAILY);
    type Change = fn(&Path);
    let changes: [Change; 3] = [
        |path| fs::write(path, "PGDMP daily and more").unwrap(),
        |path| fs::write(path, "PGDMP dayli").unwrap(),
        |path| fs::remove_file(path).unwrap(),
    ];
    for change in changes {
        fs::write(&path, "PGDMP daily").unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(SystemTime::now() - HOUR).unwrap();
        let changed = catalog
            .adopt(id(ID), &key(DAILY), &Listing::default(), async |_| {
                change(&path);
                Ok(())
            })
            .await;
        let error = changed.unwrap_err();
        assert!(error.kind() == ErrorKind::Incomplete && error.to_string().contains("was changed"), "{error}");
    }
    assert_eq!(begin(&catalog, ID, DAILY).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(catalog.list().await.unwrap().backups.is_empty());
}

#[tokio::test]
async fn what_belongs_to_a_backup_is_not_adopted_by_another_one() {
    let (volume, catalog) = volume();
    adopt(&catalog, ID, DAILY).await.unwrap();
    // That of a catalog below: its objects are no dumps that lie about.
    let below = Catalog::new(Arc::new(Local::open(volume.path()).unwrap()), key("nightly")).unwrap();
    crate::catalog::make(&below, ID, "PGDMP").await;
    fs::write(volume.path().join("weekly/manifest.json"), "mine").unwrap();
    let theirs = format!("nightly/{ID}/store.dump");
    let listing = catalog.list().await.unwrap();
    assert_eq!(foreign(&listing), ["weekly/manifest.json", WEEKLY]);
    let manifest = format!("{ID}/manifest.json");
    for dump in [&theirs, &manifest, "weekly/manifest.json"] {
        let error = begin(&catalog, NEXT_ID, dump).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidKey, "{error}");
    }
    let error = begin(&catalog, NEXT_ID, "weekly/nothing").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn a_manifest_that_names_what_is_not_its_own_is_told_and_left_alone() {
    let (volume, catalog) = volume();
    let manifest = adopt(&catalog, ID, DAILY).await.unwrap();
    let json = serde_json::to_string(&manifest).unwrap();
    let own = crate::catalog::make(&catalog, NEXT_ID, "PGDMP own").await;
    let theirs = format!("{NEXT_ID}/store.dump");
    let below = format!("nightly/{NEXT_ID}/store.dump");
    for at in ["../x", "/etc/passwd", "weekly/../x", "", "weekly/", "a//b", &theirs, &below] {
        let hostile = json.replace(&format!("\"at\":\"{DAILY}\""), &format!("\"at\":\"{at}\""));
        assert_ne!(hostile, json);
        fs::write(volume.path().join(ID).join("manifest.json"), &hostile).unwrap();
        let listing = catalog.list().await.unwrap();
        assert_eq!(listing.backups, [(id(NEXT_ID), own.clone())], "{at}");
        assert!(listing.unreadable[0].1.contains("cannot") || listing.unreadable[0].1.contains("none"), "{listing:?}");
        assert_eq!(foreign(&listing), [DAILY, WEEKLY]);
        // Nor does what was read in another way.
        let hostile: Manifest = serde_json::from_str(&hostile).unwrap();
        let error = read(&catalog, ID, &hostile.objects[0]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidKey, "{at}: {error}");
    }
    remove(&catalog, ID).await;
    let listing = catalog.list().await.unwrap();
    assert_eq!((listing.backups.len(), foreign(&listing)), (1, vec![DAILY, WEEKLY]), "what it named is not removed");
    assert_eq!(read(&catalog, NEXT_ID, &own.objects[0]).await.unwrap(), b"PGDMP own");
    // One object, twice.
    let mut twice: serde_json::Value = serde_json::from_str(&json).unwrap();
    let mut second = twice["objects"][0].clone();
    second["name"] = "other".into();
    twice["objects"].as_array_mut().unwrap().push(second);
    assert!(Manifest::parse(twice.to_string().as_bytes(), &id(ID)).unwrap_err().contains("twice"));
}

#[test]
fn the_id_after_an_id_is_that_of_the_next_second() {
    for (first, second) in
        [("20240310T220003Z", "20240310T220004Z"), ("20251231T235959Z", "20260101T000000Z"), (ID, NEXT_ID)]
    {
        assert_eq!(id(first).next(), Some(id(second)));
    }
    assert_eq!(id("99991231T235959Z").next(), None);
}

proptest! {
    #[test]
    fn ids_are_read_as_they_were_written_and_ordered_by_time(a in 0_i64..253_402_300_800, b in 0_i64..253_402_300_800) {
        let at = |second| BackupId::at(DateTime::<Utc>::from_timestamp(second, 0).unwrap()).unwrap();
        prop_assert_eq!(at(a).cmp(&at(b)), a.cmp(&b));
        prop_assert_eq!(at(a).as_str().parse(), Ok(at(a)));
        prop_assert_eq!(at(a).time().timestamp(), a);
    }

    /// Whatever a manifest says where its object lies: it is refused, or lies in the folder and in that of no backup.
    #[test]
    fn no_manifest_names_what_lies_elsewhere(parts in proptest::collection::vec("\\.{0,2}|[a-z./]{0,4}|20240310T220003Z", 1..5)) {
        let at = parts.join("/");
        let object = format!(r#"{{"name":"x","bytes":1,"sha256":"{}","at":"{at}"}}"#, "0".repeat(64));
        let mut manifest = Manifest::new(&id(ID), "store", time());
        manifest.objects.push(serde_json::from_str(&object).unwrap());
        let is_tame = at.split('/').all(|part| !matches!(part, "" | "." | ".." | "20240310T220003Z"));
        let json = serde_json::to_vec(&manifest).unwrap();
        prop_assert_eq!(Manifest::parse(&json, &id(ID)).is_ok(), is_tame, "{}", at);
    }
}
