//! Encrypted backups: who can read what of them, and what happens to those that were changed.

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use age::secrecy::ExposeSecret as _;
use age::x25519::Identity;
use bytes::Bytes;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use storage_backends::local::Local;
use storage_backends::{Catalog, ErrorKind, Identities, Listing, Manifest, Recipients, StoredObject};
use tempfile::TempDir;

use crate::catalog::{files, id, read, remove, time};

const ID: &str = "20261121T230004Z";
const TENANT: &str = "e10001eb-6272-453a-bb43-3dcf0e765892";

fn recipients(keys: &[&Identity]) -> Recipients {
    let lines: Vec<_> = keys.iter().map(|key| key.to_public().to_string()).collect();
    Recipients::parse(&format!("# who can read it\n\n{}\n", lines.join("\r\n"))).unwrap()
}

fn identities(keys: &[&Identity]) -> Identities {
    let lines: Vec<_> = keys.iter().map(|key| key.to_string().expose_secret().to_owned()).collect();
    Identities::parse(&format!("# created: 2026-11-21T23:00:04Z\n# public key: age1...\n{}\n", lines.join("\n")))
        .unwrap()
}

/// A catalog that encrypts for one key, and one in the same place that has no key.
struct Vault {
    folder: TempDir,
    key: Identity,
    plain: Catalog,
    encrypting: Catalog,
}

impl Vault {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let plain = Catalog::new(Arc::new(Local::open(folder.path()).unwrap()), "nightly".parse().unwrap()).unwrap();
        let key = Identity::generate();
        let encrypting = plain.clone().with_encryption(recipients(&[&key]));
        Self { folder, key, plain, encrypting }
    }

    fn reading(&self) -> Catalog {
        self.plain.clone().with_identities(identities(&[&self.key]))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("nightly").join(ID).join(name)
    }

    fn manifest(&self) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.path("manifest.json")).unwrap()).unwrap()
    }

    /// What a hostile store can do: the object is another one, and the manifest agrees.
    fn replace_object(&self, content: &[u8]) -> StoredObject {
        fs::write(self.path("store.dump"), content).unwrap();
        let mut manifest = self.manifest();
        manifest["objects"][0]["bytes"] = content.len().into();
        manifest["objects"][0]["sha256"] = sha256(content).into();
        serde_json::from_value(manifest["objects"][0].clone()).unwrap()
    }
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Nothing that is equal to its neighbour.
fn content(bytes: usize) -> Vec<u8> {
    let words = (1_u64..).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    words.take(bytes).collect()
}

async fn store(catalog: &Catalog, content: &[u8], piece: usize) -> Manifest {
    let mut backup = catalog.begin(id(ID)).await.unwrap();
    let mut object = backup.object("store.dump").await.unwrap();
    for piece in content.chunks(piece.max(1)) {
        object.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    let table = r#"{"table":"public.app_user","rows":17,"bytes":99,"sha256":null}"#;
    backup.add(object).await.unwrap().tables.push(serde_json::from_str(table).unwrap());
    let mut manifest = Manifest::new(backup.id(), "store", time());
    manifest.tenants = vec![TENANT.to_owned()];
    manifest.schema_version = Some("4.3.7.2".to_owned());
    manifest.consistency = Some("one database at one moment".to_owned());
    manifest.verification = serde_json::from_str(r#"{"at":"2026-11-21T23:00:09Z","what":"every block"}"#).unwrap();
    backup.publish(manifest).await.unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

/// Sizes at which a chunk of age is full, and others.
fn sizes() -> impl Strategy<Value = usize> {
    let chunk = 64 << 10;
    prop_oneof![
        Just(0),
        Just(1),
        (1..4_usize, -2..3_isize).prop_map(move |(n, d)| (n * chunk).saturating_add_signed(d)),
        0..300_000_usize
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However it was written: it comes back as it was, from this crate and from age alone.
    #[test]
    fn what_is_encrypted_is_what_age_decrypts(bytes in sizes(), piece in 1..200_000_usize) {
        let vault = Vault::new();
        let content = content(bytes);
        let manifest = runtime().block_on(store(&vault.encrypting, &content, piece));
        let object = &manifest.objects[0];
        let stored = fs::read(vault.path("store.dump")).unwrap();
        prop_assert_eq!((object.bytes, &object.sha256), (stored.len() as u64, &sha256(&stored)));
        let plaintext = object.plaintext.as_ref().unwrap();
        prop_assert_eq!((plaintext.bytes, &plaintext.sha256), (content.len() as u64, &sha256(&content)));
        prop_assert!(age::decrypt(&vault.key, &stored).unwrap() == content);
        prop_assert!(runtime().block_on(read(&vault.reading(), ID, object)).unwrap() == content);
        runtime().block_on(vault.plain.check(&id(ID), object)).unwrap();
    }

    /// Wherever an object was changed or cut: it is not given out as whole, even if the manifest agrees with it.
    #[test]
    fn what_was_changed_is_not_decrypted(bytes in sizes(), at in any::<prop::sample::Index>(), bit in 0..8_u32, is_cut in any::<bool>()) {
        let vault = Vault::new();
        let content = content(bytes);
        let manifest = runtime().block_on(store(&vault.encrypting, &content, 100_000));
        let mut stored = fs::read(vault.path("store.dump")).unwrap();
        let at = at.index(stored.len());
        if is_cut { stored.truncate(at) } else { stored[at] ^= 1 << bit }
        let object = vault.replace_object(&stored);
        let error = runtime().block_on(read(&vault.reading(), ID, &object)).unwrap_err();
        // A recipient that was changed looks like another one.
        prop_assert!(matches!(error.kind(), ErrorKind::Incomplete | ErrorKind::Encrypted), "{}", error);
        prop_assert!(error.to_string().contains("crypted") && error.hint().is_some(), "{}", error);
        let error = runtime().block_on(vault.plain.check(&id(ID), &manifest.objects[0])).unwrap_err();
        prop_assert_eq!(error.kind(), ErrorKind::Incomplete);
    }

    /// Nothing that a store can hold makes reading panic, and nothing but an age file for the key is decrypted.
    #[test]
    fn anything_can_be_in_the_place_of_an_object(junk in proptest::collection::vec(any::<u8>(), 0..2000), is_age in any::<bool>()) {
        let vault = Vault::new();
        runtime().block_on(store(&vault.encrypting, b"PGDMP", 5));
        let mut stored = if is_age { b"age-encryption.org/v1\n-> X25519 ".to_vec() } else { Vec::new() };
        stored.extend(junk);
        let object = vault.replace_object(&stored);
        prop_assert!(runtime().block_on(read(&vault.reading(), ID, &object)).is_err());
    }
}

#[tokio::test]
async fn each_recipient_can_read_a_backup_alone_and_nobody_else_can() {
    let vault = Vault::new();
    let keys = [Identity::generate(), Identity::generate(), Identity::generate()];
    let [first, second, third] = &keys;
    let both = recipients(&[first]).and(&recipients(&[second])).unwrap();
    let manifest = store(&vault.plain.clone().with_encryption(both), b"PGDMP", 5).await;
    assert!(manifest.is_encrypted() && !manifest.is_sealed());
    for (keys, can_read) in [
        (&[first][..], true),
        (&[second], true),
        (&[third, second], true),
        (&[third], false),
        (&[&vault.key], false),
        (&[third, &vault.key], false),
    ] {
        let catalog = vault.plain.clone().with_identities(identities(keys));
        let listing = catalog.list().await.unwrap();
        let found = &listing.backups[0].1;
        assert_eq!(found == &manifest, can_read);
        assert_eq!(found.is_sealed(), !can_read);
        match read(&catalog, ID, &manifest.objects[0]).await {
            Ok(content) => assert!(can_read && content == b"PGDMP"),
            Err(e) => {
                assert!(!can_read && e.kind() == ErrorKind::Encrypted && e.to_string().contains("none of"), "{e}");
            }
        }
    }
    let error = read(&vault.plain, ID, &manifest.objects[0]).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Encrypted && error.to_string().contains("no key was given"), "{error}");
    assert!(error.hint().unwrap().contains("key file"));
    // It can be seen to be as it was, without a key.
    vault.plain.check(&id(ID), &manifest.objects[0]).await.unwrap();
}

#[tokio::test]
async fn without_a_key_a_manifest_tells_of_the_backup_but_not_of_its_content() {
    let vault = Vault::new();
    let manifest = store(&vault.encrypting, b"PGDMP", 5).await;
    let json = fs::read_to_string(vault.path("manifest.json")).unwrap();
    for secret in [TENANT, "app_user", "4.3.7.2", "one moment", &sha256(b"PGDMP")] {
        assert!(!json.contains(secret), "{secret} is in {json}");
    }
    let found = vault.plain.list().await.unwrap().backups.remove(0).1;
    assert!(found.is_sealed() && found.is_verified() && found.is_encrypted());
    assert_eq!((&found.id, &found.source, found.started), (&manifest.id, &manifest.source, manifest.started));
    let objects = (&found.objects[0], &manifest.objects[0]);
    assert_eq!(
        (&objects.0.name, objects.0.bytes, &objects.0.sha256),
        (&objects.1.name, objects.1.bytes, &objects.1.sha256)
    );
    assert!(found.tenants.is_empty() && objects.0.tables.is_empty() && objects.0.plaintext.is_none());
    assert_eq!(vault.reading().list().await.unwrap().backups, [(id(ID), manifest)]);
    // What is sealed is a text that age decrypts.
    let sealed = found.sealed.unwrap();
    let mut plain = String::new();
    let reader = age::armor::ArmoredReader::new(sealed.as_bytes());
    let decryptor = age::Decryptor::new_buffered(std::io::BufReader::new(reader)).unwrap();
    decryptor.decrypt(std::iter::once(&vault.key as _)).unwrap().read_to_string(&mut plain).unwrap();
    assert!(plain.contains(TENANT) && plain.contains(ID), "{plain}");
}

#[tokio::test]
async fn what_is_sealed_is_that_of_the_backup_and_as_it_was() {
    let vault = Vault::new();
    store(&vault.encrypting, b"PGDMP", 5).await;
    let original = vault.manifest();
    let seal = |plain: &str| age::encrypt_and_armor(&vault.key.to_public(), plain.as_bytes()).unwrap();
    let sealed = original["sealed"].as_str().unwrap();
    let flipped = {
        let at = sealed.len() - 60;
        let c = if sealed.as_bytes()[at] == b'A' { "B" } else { "A" };
        format!("{}{c}{}", &sealed[..at], &sealed[at + 1..])
    };
    let cases: Vec<(&str, serde_json::Value, &str)> = vec![
        ("sealed", flipped.into(), "cannot be decrypted"),
        ("sealed", sealed[..sealed.len() / 2].into(), "cannot be decrypted"),
        ("sealed", "".into(), "cannot be decrypted"),
        ("sealed", seal("").into(), "cannot be read"),
        ("sealed", seal("[]").into(), "cannot be read"),
        ("sealed", seal(r#"{"id":"20261121T230005Z","objects":[{"name":"store.dump"}]}"#).into(), "of another one"),
        ("sealed", seal(&format!(r#"{{"id":"{ID}","objects":[{{"name":"other.dump"}}]}}"#)).into(), "of another one"),
        ("sealed", seal(&format!(r#"{{"id":"{ID}","objects":[]}}"#)).into(), "of another one"),
        ("tenants", vec!["forged"].into(), "tells openly"),
        ("schema_version", "1".into(), "tells openly"),
        ("consistency", "good".into(), "tells openly"),
    ];
    for (field, value, told) in cases {
        let mut manifest = original.clone();
        manifest[field] = value;
        fs::write(vault.path("manifest.json"), manifest.to_string()).unwrap();
        let listing = vault.reading().list().await.unwrap();
        assert!(listing.backups.is_empty() && listing.unreadable[0].1.contains(told), "{field}: {listing:?}");
    }
    // Without a key it is not looked at.
    let mut manifest = original;
    manifest["sealed"] = "something".into();
    fs::write(vault.path("manifest.json"), manifest.to_string()).unwrap();
    assert_eq!(vault.plain.list().await.unwrap().backups.len(), 1);
}

#[tokio::test]
async fn another_object_for_the_same_key_is_not_taken_for_the_one_that_was_stored() {
    let vault = Vault::new();
    store(&vault.encrypting, b"PGDMP", 5).await;
    for other in [&b"PGDMQ"[..], b"PGDMP\n", b"PGDM", b""] {
        let stored = age::encrypt(&vault.key.to_public(), other).unwrap();
        fs::write(vault.path("store.dump"), &stored).unwrap();
        let mut manifest = vault.manifest();
        manifest["objects"][0]["bytes"] = stored.len().into();
        manifest["objects"][0]["sha256"] = sha256(&stored).into();
        fs::write(vault.path("manifest.json"), manifest.to_string()).unwrap();
        let object = &vault.reading().list().await.unwrap().backups[0].1.objects[0];
        let error = read(&vault.reading(), ID, object).await.unwrap_err();
        assert!(
            error.kind() == ErrorKind::Incomplete && error.to_string().contains("but the manifest says"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn what_was_there_before_encryption_began_stays_readable_and_says_that_it_is_plain() {
    let vault = Vault::new();
    let plain = store(&vault.plain, b"PGDMP plain", 5).await;
    let both = vault.reading().with_encryption(recipients(&[&vault.key]));
    assert!(!plain.is_encrypted() && plain.objects[0].encryption.is_none());
    assert_eq!(both.list().await.unwrap().backups, [(id(ID), plain.clone())]);
    assert_eq!(read(&both, ID, &plain.objects[0]).await.unwrap(), b"PGDMP plain");
    // What is adopted stays plain where it lies; what is known of it is sealed.
    fs::write(vault.folder.path().join("nightly/store.dump_20240310-230003"), "PGDMP").unwrap();
    let dump = both.list().await.unwrap().foreign.remove(0);
    let backup = both.adopt(id("20240310T220003Z"), &dump, &Listing::default(), async |_| Ok(())).await.unwrap();
    let mut manifest = Manifest::new(backup.id(), "store", time());
    manifest.tenants = vec![TENANT.to_owned()];
    let adopted = backup.publish(manifest).await.unwrap();
    assert!(adopted.is_adopted() && !adopted.is_encrypted());
    let found = vault.plain.list().await.unwrap().backups.remove(0).1;
    assert!(found.is_sealed() && found.tenants.is_empty());
    assert_eq!(read(&vault.plain, "20240310T220003Z", &found.objects[0]).await.unwrap(), b"PGDMP");
    assert_eq!(both.list().await.unwrap().backups[0].1, adopted);
}

#[tokio::test]
async fn an_object_that_is_given_up_leaves_nothing() {
    let vault = Vault::new();
    let mut backup = vault.encrypting.begin(id(ID)).await.unwrap();
    let mut object = backup.object("store.dump").await.unwrap();
    object.write(content(200_000).into()).await.unwrap();
    object.abort().await.unwrap();
    let object = backup.object("empty.dump").await.unwrap();
    backup.add(object).await.unwrap();
    assert_eq!(files(vault.folder.path()), ["being-made", "empty.dump"]);
    assert_eq!(age::decrypt(&vault.key, &fs::read(vault.path("empty.dump")).unwrap()).unwrap(), b"");
    backup.abort().await.unwrap();
    assert_eq!(files(vault.folder.path()), [""; 0]);
}

#[tokio::test]
async fn a_header_that_never_ends_is_not_kept_in_memory() {
    let vault = Vault::new();
    store(&vault.encrypting, b"PGDMP", 5).await;
    let begin = "age-encryption.org/v1\n-> x";
    for (stored, told) in [
        (format!("{begin} y\n{}", "AAAA".repeat(1_000_000)), "longer than any can be"),
        (format!("{begin}{}", "\n\n-> x".repeat(65)), "more recipients than any"),
        (format!("{begin}{}", "\n\n-> x".repeat(64)), "most of it is missing"),
        ("-> X25519".repeat(100_000), "is no file of age"),
    ] {
        let object = vault.replace_object(stored.as_bytes());
        let error = read(&vault.reading(), ID, &object).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Incomplete && error.to_string().contains(told), "{error}");
    }
}

#[test]
fn key_files_are_read_as_age_reads_them_and_never_quoted() {
    let key = Identity::generate();
    let (public, secret) = (key.to_public().to_string(), key.to_string().expose_secret().to_owned());
    let error = Recipients::parse(&format!("# me\n{public}\n{secret}\n")).unwrap_err();
    assert_eq!(error.line(), Some(3));
    assert!(error.to_string().contains("secret key") && !error.to_string().contains(&secret), "{error}");
    for (text, told) in [
        ("", "there is no recipient"),
        ("# age1\n\n", "there is no recipient"),
        ("age1", "line 1 is no recipient"),
        (&public[1..], "line 1 is no recipient"),
        ("ssh-ed25519 AAAA", "line 1 is no recipient"),
        (&format!("{public}\n").repeat(65), "more than 64"),
    ] {
        let error = Recipients::parse(text).unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
    }
    let many = Recipients::parse(&format!("{public}\n").repeat(64)).unwrap();
    assert!(many.and(&many).is_err());
    for (text, told) in [
        ("", "there is no secret key"),
        (public.as_str(), "line 1 is no secret key"),
        (&format!("#\n{}", &secret[1..]), "line 2 is no secret key"),
        ("age-encryption.org/v1\n-> scrypt", "with a passphrase"),
        ("-----BEGIN AGE ENCRYPTED FILE-----\n", "with a passphrase"),
    ] {
        let error = Identities::parse(text).unwrap_err();
        assert!(error.to_string().contains(told) && !error.to_string().contains(&secret[1..]), "{error}");
    }
    let debug = format!("{:?} {many:?}", Identities::parse(&secret).unwrap());
    assert!(debug.contains(&public) && !debug.contains(&secret[20..]), "{debug}");
    assert!(Identities::parse(&secret).unwrap().recipients().is_ok());
}

#[tokio::test]
async fn the_most_recipients_that_there_can_be_can_all_read() {
    let vault = Vault::new();
    let keys: Vec<_> = (0..64).map(|_| Identity::generate()).collect();
    let all = recipients(&keys.iter().collect::<Vec<_>>());
    let catalog = vault.plain.clone().with_encryption(all);
    // What else is in a header is made at random.
    for _ in 0..50 {
        let manifest = store(&catalog, b"PGDMP", 5).await;
        for key in [&keys[0], &keys[63]] {
            let catalog = vault.plain.clone().with_identities(identities(&[key]));
            assert_eq!(read(&catalog, ID, &manifest.objects[0]).await.unwrap(), b"PGDMP");
        }
        remove(&catalog, ID).await;
    }
}
