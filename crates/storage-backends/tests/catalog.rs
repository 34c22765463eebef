//! Backups in a folder: what is one, and what is not.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use storage_backends::local::Local;
use storage_backends::{
    BackupId, Catalog, Error, ErrorKind, Key, Listing, Manifest, ObjectFormat, StoredObject, Verification,
};
use tempfile::TempDir;

use crate::memory::Memory;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

fn catalog() -> (TempDir, Catalog) {
    let folder = tempfile::tempdir().unwrap();
    let local = Local::open(folder.path()).unwrap();
    (folder, Catalog::new(Arc::new(local), "nightly".parse().unwrap()).unwrap())
}

pub(crate) fn id(text: &str) -> BackupId {
    text.parse().unwrap()
}

pub(crate) fn time() -> DateTime<Utc> {
    "2026-11-21T23:00:04Z".parse().unwrap()
}

pub(crate) async fn make(catalog: &Catalog, text: &str, content: &'static str) -> Manifest {
    let mut backup = catalog.begin(id(text)).await.unwrap();
    let mut object = backup.object("store.dump").await.unwrap();
    object.write(content.into()).await.unwrap();
    backup.add(object).await.unwrap();
    let manifest = Manifest::new(backup.id(), "store", time());
    backup.publish(manifest).await.unwrap()
}

pub(crate) async fn read(
    catalog: &Catalog,
    text: &str,
    object: &StoredObject,
) -> Result<Vec<u8>, storage_backends::Error> {
    let mut content = Vec::new();
    catalog
        .read(&id(text), object, async |piece| {
            content.extend_from_slice(&piece);
            Ok(())
        })
        .await?;
    Ok(content)
}

/// The IDs of what was cleaned up, where nothing was in the way.
pub(crate) async fn clean_up(catalog: &Catalog, age: Duration, now: SystemTime) -> Vec<BackupId> {
    let cleaned = catalog.clean_up(age, now).await.unwrap();
    assert!(cleaned.problems.is_empty(), "{cleaned:?}");
    cleaned.removed
}

/// Removes a backup of which nothing is in the way.
pub(crate) async fn remove(catalog: &Catalog, text: &str) {
    let removed = catalog.remove(&id(text), &Listing::default()).await.unwrap();
    assert!(removed.problems.is_empty(), "{removed:?}");
}

pub(crate) fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_backup_is_one_when_its_manifest_is_written() {
    let (folder, catalog) = catalog();
    let mut backup = catalog.begin(id("20261121T230004Z")).await.unwrap();
    let mut object = backup.object("store.dump").await.unwrap();
    object.write("PG".into()).await.unwrap();
    object.write("DMP".into()).await.unwrap();
    backup.add(object).await.unwrap();
    let listing = catalog.list().await.unwrap();
    assert!(listing.backups.is_empty() && listing.incomplete.len() == 1);

    let mut manifest = Manifest::new(backup.id(), "store", time());
    manifest.tenants = vec!["e10001eb-6272-453a-bb43-3dcf0e765892".into()];
    assert!(!manifest.is_verified());
    let written = backup.publish(manifest).await.unwrap();
    let listing = catalog.list().await.unwrap();
    assert_eq!(listing.backups, [(id("20261121T230004Z"), written.clone())]);
    assert_eq!(written.bytes(), 5);
    // `printf PGDMP | sha256sum`
    assert_eq!(written.objects[0].sha256, "b5a26a21290c39819235a235b8ed66b3bd98ed90c8316c8949bfbb7419cac878");
    assert_eq!(read(&catalog, "20261121T230004Z", &written.objects[0]).await.unwrap(), b"PGDMP");
    assert_eq!(files(folder.path()), ["manifest.json", "store.dump"]);
    let error = catalog.begin(id("20261121T230004Z")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
}

#[tokio::test]
async fn what_is_not_as_its_manifest_says_is_refused() {
    let (folder, catalog) = catalog();
    let manifest = make(&catalog, "20261121T230004Z", "PGDMP").await;
    let path = folder.path().join("nightly/20261121T230004Z/store.dump");
    for (content, told) in [(&b"PGDMQ"[..], "digest"), (b"PGDM", "4 bytes"), (b"PGDMP\n", "6 bytes"), (b"", "0 bytes")]
    {
        fs::write(&path, content).unwrap();
        let error = read(&catalog, "20261121T230004Z", &manifest.objects[0]).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Incomplete && error.to_string().contains(told), "{error}");
    }
    fs::remove_file(&path).unwrap();
    let error = read(&catalog, "20261121T230004Z", &manifest.objects[0]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn a_backup_of_which_an_object_is_missing_or_has_another_length_is_none_and_told() {
    let (folder, catalog) = catalog();
    let good = make(&catalog, "20261121T230004Z", "PGDMP").await;
    make(&catalog, "20261122T230004Z", "PGDMP").await;
    let path = folder.path().join("nightly/20261122T230004Z/store.dump");
    for (content, told) in [
        (Some("PGDM"), "says that the object `store.dump` has 5 bytes, but it has 4"),
        (None, "names the object `store.dump`, which is missing"),
    ] {
        match content {
            Some(content) => fs::write(&path, content).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let listing = catalog.list().await.unwrap();
        assert_eq!(listing.backups, [(id("20261121T230004Z"), good.clone())]);
        assert_eq!(listing.unreadable, [(id("20261122T230004Z"), told.to_owned())]);
        // Its ID stays taken, and what is left of it is no rubbish: somebody may want to see it.
        assert_eq!(catalog.begin(id("20261122T230004Z")).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(clean_up(&catalog, HOUR, SystemTime::now() + 2 * HOUR).await, []);
    }
    fs::write(&path, "PGDMP").unwrap();
    assert_eq!(catalog.list().await.unwrap().backups.len(), 2);
    fs::remove_file(&path).unwrap();
    remove(&catalog, "20261122T230004Z").await;
    assert_eq!(files(folder.path()), ["manifest.json", "store.dump"]);
}

#[tokio::test]
async fn what_is_stored_or_removed_while_it_is_listed_is_not_taken_for_damaged() {
    let memory = Memory::default();
    let catalog = Catalog::at_root(Arc::new(memory.clone()));
    make(&catalog, "20261121T230004Z", "PGDMP").await;
    let dump: Key = "20261121T230004Z/store.dump".parse().unwrap();
    let manifest: Key = "20261121T230004Z/manifest.json".parse().unwrap();
    // The list had passed the place of the object before that was stored.
    let stored = memory.objects().remove(&dump).unwrap();
    memory.set_rule(move |doing, _, objects| {
        if doing == "get" {
            objects.insert(dump.clone(), stored.clone());
        }
        Ok(())
    });
    assert_eq!(catalog.list().await.unwrap().backups.len(), 1);
    // It is removed, the manifest first, when that has been read just now.
    let dump: Key = "20261121T230004Z/store.dump".parse().unwrap();
    memory.objects().remove(&dump).unwrap();
    memory.set_rule(move |doing, name, objects| {
        if doing == "stat" && name == dump.as_str() {
            objects.remove(&manifest);
        }
        Ok(())
    });
    let listing = catalog.list().await.unwrap();
    assert!(listing.backups.is_empty() && listing.unreadable.is_empty(), "{listing:?}");
}

#[tokio::test]
async fn manifests_that_are_long_are_fetched_one_after_the_other() {
    let memory = Memory::default();
    let catalog = Catalog::at_root(Arc::new(memory.clone()));
    // Two of them would be longer than one may be.
    let long = bytes::Bytes::from(vec![b'x'; 129 << 20]);
    for second in 0..3 {
        let manifest = format!("20261121T23000{second}Z/manifest.json").parse().unwrap();
        memory.objects().insert(manifest, (long.clone(), SystemTime::now()));
    }
    assert_eq!(catalog.list().await.unwrap().unreadable.len(), 3);
    assert_eq!(memory.most_at_once(), 1);
}

#[tokio::test]
async fn a_removal_tells_whether_it_is_a_backup_still_and_what_is_left_of_it() {
    let memory = Memory::default();
    let catalog = Catalog::at_root(Arc::new(memory.clone()));
    make(&catalog, "20261121T230004Z", "PGDMP").await;
    let refuse = |refused: &'static str| {
        memory.set_rule(move |doing, name, _| match doing {
            "delete" if name.ends_with(refused) => Err(Error::new(ErrorKind::PermissionDenied, "remove", name, "no")),
            _ => Ok(()),
        });
    };
    let id = id("20261121T230004Z");
    refuse("manifest.json");
    let error = catalog.remove(&id, &Listing::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert_eq!((catalog.list().await.unwrap().backups.len(), memory.objects().len()), (1, 2));
    refuse("store.dump");
    let removed = catalog.remove(&id, &Listing::default()).await.unwrap();
    assert!(removed.problems.len() == 1 && removed.problems[0].to_string().contains("store.dump"), "{removed:?}");
    let listing = catalog.list().await.unwrap();
    assert_eq!((listing.backups.len(), listing.incomplete.len()), (0, 1));
    // Its manifest was removed, and nobody has heard of that.
    refuse("nothing");
    make(&catalog, "20261122T230004Z", "PGDMP").await;
    memory.set_rule(|doing, name, objects| {
        if doing == "delete" && name.ends_with("manifest.json") && objects.remove(&name.parse().unwrap()).is_some() {
            return Err(Error::new(ErrorKind::Unavailable, "remove", name, "no answer"));
        }
        Ok(())
    });
    remove(&catalog, "20261122T230004Z").await;
    assert_eq!(memory.objects().len(), 1);
}

#[tokio::test]
async fn many_manifests_are_read_at_the_same_time_and_listed_in_order() {
    let memory = Memory::default();
    let catalog = Catalog::at_root(Arc::new(memory.clone()));
    let ids: Vec<_> = (0..50).map(|second| format!("20261121T2300{second:02}Z")).collect();
    for text in &ids {
        make(&catalog, text, "PGDMP").await;
    }
    let asked = Arc::new(std::sync::Mutex::new(BTreeMap::<&str, usize>::new()));
    let count = Arc::clone(&asked);
    memory.set_rule(move |doing, _, _| {
        *count.lock().unwrap().entry(doing).or_default() += 1;
        Ok(())
    });
    let listed = catalog.list().await.unwrap();
    assert!(listed.backups.iter().map(|(id, _)| id.as_str()).eq(&ids));
    assert_eq!(*asked.lock().unwrap(), BTreeMap::from([("list", 1), ("get", 50)]), "one request for each");
    assert_eq!(memory.most_at_once(), 16);
    // Who needs only the names reads nothing.
    asked.lock().unwrap().clear();
    assert!(catalog.ids().await.unwrap().iter().map(BackupId::as_str).eq(&ids));
    clean_up(&catalog, HOUR, SystemTime::now()).await;
    assert_eq!(*asked.lock().unwrap(), BTreeMap::from([("list", 2), ("remove abandoned", 1)]));
}

#[tokio::test]
async fn a_manifest_that_cannot_be_used_is_told_and_left_alone() {
    let (folder, catalog) = catalog();
    let good = make(&catalog, "20261121T230004Z", "PGDMP").await;
    let json = serde_json::to_string(&good).unwrap();
    let id_of = |day: usize| format!("202611{:02}T000000Z", day + 1);
    let broken = [
        (String::new(), "cannot be read"),
        ("{}".into(), "version"),
        (json[..json.len() - 1].into(), "cannot be read"),
        (json.clone(), "is that of the backup `20261121T230004Z`"),
        (json.replace("\"version\":1", "\"version\":2"), "is of version 2"),
        (json.replace("20261121T230004Z", &id_of(5)).replace("store.dump", "../x"), "an object that cannot be: `../x`"),
        (json.replace("20261121T230004Z", &id_of(6)).replace("store.dump", "manifest.json"), "that cannot be"),
        (json.replace("20261121T230004Z", &id_of(7)).replace("store.dump", "manifest.json.sig"), "that cannot be"),
        (
            json.replace("20261121T230004Z", &id_of(8)).replace("\"bytes\":", "\"encryption\":\"rot13\",\"bytes\":"),
            "rot13",
        ),
        (json.replace("20261121T230004Z", &id_of(9)).replace("\"bytes\":", "\"format\":\"csv\",\"bytes\":"), "csv"),
    ];
    for (day, (json, _)) in broken.iter().enumerate() {
        let folder = folder.path().join("nightly").join(id_of(day));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("manifest.json"), json).unwrap();
    }
    fs::write(folder.path().join("nightly/notes.txt"), "mine").unwrap();
    fs::write(folder.path().join("nightly/store.dump_20240310-230003"), "PGDMP").unwrap();
    let listing = catalog.list().await.unwrap();
    assert_eq!(listing.backups.len(), 1);
    for ((id, why), (day, (_, told))) in listing.unreadable.iter().zip(broken.iter().enumerate()) {
        assert!(id.as_str() == id_of(day) && why.contains(told), "{id}: {why}");
    }
    assert_eq!(listing.unreadable.len(), broken.len());
    assert_eq!(listing.foreign.len(), 2);
    let later = SystemTime::now() + 1000 * HOUR;
    assert_eq!(clean_up(&catalog, HOUR, later).await, []);
    assert_eq!(catalog.list().await.unwrap().unreadable.len(), broken.len());
    // What a later version of this crate adds is no harm.
    let added = json.replace("\"version\":1", "\"version\":1,\"colour\":{\"of\":[1]}");
    assert_eq!(Manifest::parse(added.as_bytes(), &id("20261121T230004Z")).unwrap(), good);
    // An object is an archive unless it says otherwise.
    assert!(!json.contains("format"));
    let plain = json.replace("\"bytes\":", "\"format\":\"plain\",\"bytes\":");
    let plain = Manifest::parse(plain.as_bytes(), &id("20261121T230004Z")).unwrap();
    assert_eq!((plain.objects[0].format, good.objects[0].format), (ObjectFormat::Plain, ObjectFormat::Archive));
    assert!(serde_json::to_string(&plain).unwrap().contains("\"format\":\"plain\""));
}

#[tokio::test]
async fn what_no_manifest_names_is_rubbish_when_nothing_was_written_to_it_for_a_time() {
    let (folder, catalog) = catalog();
    make(&catalog, "20261121T230004Z", "PGDMP").await;
    for text in ["20261122T230004Z", "20261123T230004Z"] {
        let mut backup = catalog.begin(id(text)).await.unwrap();
        let mut object = backup.object("store.dump").await.unwrap();
        object.write("PGDMP".into()).await.unwrap();
        backup.add(object).await.unwrap();
    }
    let now = SystemTime::now();
    let old = |name: &str| {
        let file = folder.path().join("nightly/20261122T230004Z").join(name);
        fs::File::options().write(true).open(file).unwrap().set_modified(now - 2 * HOUR).unwrap();
    };
    // What is as old as the last of all, is old.
    old("store.dump");
    assert_eq!(clean_up(&catalog, HOUR, now).await, []);
    old("being-made");
    assert_eq!(clean_up(&catalog, HOUR, now).await, [id("20261122T230004Z")]);
    // A clock that is behind takes nothing for old.
    assert_eq!(clean_up(&catalog, HOUR, now - 9 * HOUR).await, []);
    assert_eq!(catalog.list().await.unwrap().incomplete.len(), 1);
    assert_eq!(clean_up(&catalog, HOUR, now + 2 * HOUR).await, [id("20261123T230004Z")]);
    assert_eq!(files(folder.path()), ["manifest.json", "store.dump"]);

    remove(&catalog, "20261121T230004Z").await;
    assert_eq!(files(folder.path()), [""; 0]);
    assert!(catalog.list().await.unwrap().backups.is_empty());
    let mut backup = catalog.begin(id("20261121T230004Z")).await.unwrap();
    let mut object = backup.object("store.dump").await.unwrap();
    object.write("PGDMP".into()).await.unwrap();
    object.abort().await.unwrap();
    let mut object = backup.object("other.dump").await.unwrap();
    object.write("PGDMP".into()).await.unwrap();
    backup.add(object).await.unwrap();
    assert_eq!(backup.object("manifest.json").await.unwrap_err().kind(), ErrorKind::InvalidKey);
    backup.abort().await.unwrap();
    assert_eq!(files(folder.path()), [""; 0]);
}

#[tokio::test]
async fn what_cannot_be_cleaned_up_is_told_and_keeps_nothing_else_from_being_cleaned_up() {
    let memory = Memory::default();
    let catalog = Catalog::at_root(Arc::new(memory.clone()));
    let ids = ["20261121T230004Z", "20261122T230004Z", "20261123T230004Z"];
    for text in ids {
        drop(catalog.begin(id(text)).await.unwrap());
    }
    let refuse = |what: &str| Error::new(ErrorKind::PermissionDenied, "clean up", what, "it may not be done");
    memory.set_rule(move |doing, name, _| match doing {
        "remove abandoned" => Err(refuse("uploads")),
        "delete" if name.starts_with(ids[1]) => Err(refuse(name)),
        _ => Ok(()),
    });
    let later = SystemTime::now() + 2 * HOUR;
    let cleaned = catalog.clean_up(HOUR, later).await.unwrap();
    assert_eq!(cleaned.removed, [id(ids[0]), id(ids[2])]);
    let told: Vec<_> = cleaned.problems.iter().map(ToString::to_string).collect();
    assert!(told.len() == 2 && told[0].contains("uploads") && told[1].contains(ids[1]), "{told:?}");
    // Without a list nothing is known of what is there.
    memory.set_rule(move |doing, name, _| if doing == "list" { Err(refuse(name)) } else { Ok(()) });
    assert_eq!(catalog.clean_up(HOUR, later).await.unwrap_err().kind(), ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn names_that_are_too_long_below_a_job_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let local = Arc::new(Local::open(folder.path()).unwrap());
    let job = |bytes: usize| ["x"; 512].join("/")[..bytes].parse().unwrap();
    assert!(Catalog::new(local.clone(), job(1021)).is_err());
    let catalog = Catalog::new(local, job(901)).unwrap();
    let mut manifest = Manifest::new(&id("20261121T230004Z"), "store", time());
    let long = "y".repeat(200);
    let object = format!(r#"{{"name":"{long}","bytes":1,"sha256":"{}"}}"#, "0".repeat(64));
    manifest.objects.push(serde_json::from_str(&object).unwrap());
    let json = serde_json::to_vec(&manifest).unwrap();
    let manifest = Manifest::parse(&json, &id("20261121T230004Z")).unwrap();
    let error = read(&catalog, "20261121T230004Z", &manifest.objects[0]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidKey, "{error}");
    let backup = catalog.begin(id("20261121T230004Z")).await.unwrap();
    assert_eq!(backup.object(&long).await.unwrap_err().kind(), ErrorKind::InvalidKey);
}

#[test]
fn ids_are_times_and_nothing_else() {
    let id = BackupId::at(time()).unwrap();
    assert_eq!((id.as_str(), id.time()), ("20261121T230004Z", time()));
    assert_eq!(id.to_string().parse(), Ok(id.clone()));
    assert!(id > "20261121T230003Z".parse().unwrap());
    for text in [
        "",
        "20261121T230004",
        "20261321T230004Z",
        "20261121T250004Z",
        "2026112 T230004Z",
        "+2026112T230004Z",
        "latest",
    ] {
        assert!(text.parse::<BackupId>().is_err(), "{text}");
    }
    assert_eq!(BackupId::at("+12026-11-21T23:00:04Z".parse().unwrap()), None);
    let verified: Verification = serde_json::from_str(r#"{"at":"2026-11-21T23:00:04Z","what":"every block"}"#).unwrap();
    assert_eq!(verified.at, time());
}

#[cfg(not(feature = "encryption"))]
#[tokio::test]
async fn what_is_encrypted_is_refused_where_nothing_can_decrypt_it() {
    let (folder, catalog) = catalog();
    let manifest = make(&catalog, "20261121T230004Z", "age-encryption.org/v1").await;
    let mut json = serde_json::to_value(&manifest).unwrap();
    json["objects"][0]["encryption"] = "age".into();
    json["sealed"] = "-----BEGIN AGE ENCRYPTED FILE-----".into();
    fs::write(folder.path().join("nightly/20261121T230004Z/manifest.json"), json.to_string()).unwrap();
    let listing = catalog.list().await.unwrap();
    let object = &listing.backups[0].1.objects[0];
    let error = read(&catalog, "20261121T230004Z", object).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSupported, "{error}");
    catalog.check(&id("20261121T230004Z"), object).await.unwrap();
}

#[tokio::test]
async fn of_two_that_begin_a_backup_in_the_same_second_one_is_refused_and_takes_nothing_from_the_other() {
    let (_folder, catalog) = catalog();
    let other = catalog.clone();
    let (one, two) = tokio::join!(catalog.begin(id("20261121T230004Z")), other.begin(id("20261121T230004Z")));
    let (begun, refused): (Vec<_>, Vec<_>) = [one, two].into_iter().partition(Result::is_ok);
    assert_eq!((begun.len(), refused.len()), (1, 1));
    let refused = refused.into_iter().next().unwrap().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    let mut backup = begun.into_iter().next().unwrap().unwrap();
    let mut object = backup.object("store.dump").await.unwrap();
    object.write("PGDMP".into()).await.unwrap();
    backup.add(object).await.unwrap();
    let manifest = Manifest::new(backup.id(), "store", time());
    backup.publish(manifest).await.unwrap();
    assert_eq!(catalog.list().await.unwrap().backups.len(), 1);
}

#[tokio::test]
async fn what_was_cleaned_up_while_it_was_made_is_not_published() {
    let (folder, catalog) = catalog();
    let mut backup = catalog.begin(id("20261121T230004Z")).await.unwrap();
    let mut object = backup.object("store.dump").await.unwrap();
    object.write("PGDMP".into()).await.unwrap();
    backup.add(object).await.unwrap();
    fs::remove_file(folder.path().join("nightly/20261121T230004Z/store.dump")).unwrap();
    let manifest = Manifest::new(backup.id(), "store", time());
    assert_eq!(backup.publish(manifest).await.unwrap_err().kind(), ErrorKind::Incomplete);
    assert_eq!(catalog.list().await.unwrap().backups.len(), 0);
}
