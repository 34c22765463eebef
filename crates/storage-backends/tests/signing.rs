//! Signed backups: which are believed.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use ssh_key::private::Ed25519Keypair;
use ssh_key::{LineEnding, PrivateKey};
use storage_backends::local::Local;
use storage_backends::{Catalog, ErrorKind, Listing, Manifest, SigningKey, TrustedKeys};
use tempfile::TempDir;

use crate::catalog::{HOUR, clean_up, id, make, read, remove, time};

const ID: &str = "20261121T230004Z";
const OTHER_ID: &str = "20261122T230004Z";

// What the commands `ssh-keygen -t ed25519` and `ssh-keygen -Y sign -f key -n backup-manifest` wrote, of OpenSSH 9.2.
const PUBLIC: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDuPaIpfaCdZJxiXiWCak+zfnmitAKRyZenBp3sRyjrh tests";
const MANIFEST: &str = r#"{"version":1,"id":"20261121T230004Z","source":"store","started":"2026-11-21T23:00:04Z","finished":"2026-11-21T23:00:04Z","versions":{},"objects":[]}
"#;
const SIGNATURE: &str = "-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgO49oil9oJ1knGJeJYJqT7N+eaK
0ApHJl6cGnexHKOuEAAAAPYmFja3VwLW1hbmlmZXN0AAAAAAAAAAZzaGE1MTIAAABTAAAA
C3NzaC1lZDI1NTE5AAAAQA2fAe8diG0sc27SXgZLFF9gKppGiS3tE85hD05JhZBtngBCJN
oNCCswEmpptfxZr1UYsQyndJ3XL+XU4Gw/Bwk=
-----END SSH SIGNATURE-----
";
// The same of the same manifest, with `-n file`.
const SIGNATURE_OF_A_FILE: &str = "-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgO49oil9oJ1knGJeJYJqT7N+eaK
0ApHJl6cGnexHKOuEAAAAEZmlsZQAAAAAAAAAGc2hhNTEyAAAAUwAAAAtzc2gtZWQyNTUx
OQAAAEBfNpoWSth/biY51x88or7cU8sv8dbxvJsAclKz1Mfndl+KoEJirIwma1DcFVL17r
72XfiOLKyjWh9tQqHwsw8N
-----END SSH SIGNATURE-----
";
// A key with a passphrase, whose encrypted part is nothing but zeros.
const LOCKED: &str = "-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABBNBVOzH+
4EMr8qfZKwBF2iAAAAEAAAAAEAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIPvpvTtPGe3gCMnG
0ZP0YxozkzOXEohjOgXBWu6whkmhAAAAkAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
AAAAAAAAAAAAAAAA==
-----END OPENSSH PRIVATE KEY-----
";

/// A key file, as `ssh-keygen` writes it.
fn key_file(seed: u8) -> String {
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]));
    key.to_openssh(LineEnding::LF).unwrap().to_string()
}

fn key(seed: u8) -> SigningKey {
    SigningKey::parse(&key_file(seed)).unwrap()
}

/// A catalog that signs with one key and trusts it, and one in the same place that does neither.
struct Vault {
    folder: TempDir,
    plain: Catalog,
    signing: Catalog,
}

impl Vault {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let plain = Catalog::at_root(Arc::new(Local::open(folder.path()).unwrap()));
        let signing = plain.clone().with_signing(key(1)).with_trusted_keys(key(1).trusted());
        Self { folder, plain, signing }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, id: &str, manifest: &str, signature: &str) {
        fs::create_dir_all(self.path(id)).unwrap();
        fs::write(self.path(id).join("manifest.json"), manifest).unwrap();
        fs::write(self.path(id).join("manifest.json.sig"), signature).unwrap();
    }

    fn get(&self, id: &str) -> (String, String) {
        let get = |name| fs::read_to_string(self.path(id).join(name)).unwrap();
        (get("manifest.json"), get("manifest.json.sig"))
    }
}

/// Why the only thing that is there is no backup.
fn refusal(listing: &Listing) -> &str {
    assert!(listing.backups.is_empty() && listing.incomplete.is_empty(), "{listing:?}");
    match listing.unreadable.as_slice() {
        [(_, why)] => why,
        _ => panic!("{listing:?}"),
    }
}

#[tokio::test]
async fn what_a_trusted_key_has_signed_is_a_backup() {
    let vault = Vault::new();
    let manifest = make(&vault.signing, ID, "PGDMP").await;
    assert_eq!(vault.signing.list().await.unwrap().backups, [(id(ID), manifest.clone())]);
    assert_eq!(read(&vault.signing, ID, &manifest.objects[0]).await.unwrap(), b"PGDMP");
    let either = TrustedKeys::parse(&format!("# the old one\n{PUBLIC}\n\n{}\n", public(1))).unwrap();
    assert_eq!(vault.plain.clone().with_trusted_keys(either).list().await.unwrap().backups.len(), 1);
    let other = vault.plain.clone().with_trusted_keys(key(2).trusted()).list().await.unwrap();
    assert!(refusal(&other).contains("is signed with a key that is not trusted here: SHA256:"), "{other:?}");
    // Who trusts no key in particular believes everything.
    assert_eq!(vault.plain.list().await.unwrap().backups.len(), 1);
    remove(&vault.signing, ID).await;
    assert_eq!(fs::read_dir(vault.folder.path()).unwrap().count(), 0);
}

fn public(seed: u8) -> String {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32])).public_key().to_openssh().unwrap()
}

#[tokio::test]
async fn what_ssh_keygen_has_signed_is_a_backup() {
    let vault = Vault::new();
    vault.put(ID, MANIFEST, SIGNATURE);
    let trusting = vault.plain.clone().with_trusted_keys(TrustedKeys::parse(PUBLIC).unwrap());
    assert_eq!(trusting.list().await.unwrap().backups.len(), 1);
    vault.put(ID, MANIFEST, SIGNATURE_OF_A_FILE);
    assert!(refusal(&trusting.list().await.unwrap()).contains("made for something else"));
    vault.put(ID, &MANIFEST.replace("store", "other"), SIGNATURE);
    assert!(refusal(&trusting.list().await.unwrap()).contains("is not its own"));
}

#[tokio::test]
async fn what_nobody_trusted_has_signed_is_no_backup_and_left_alone() {
    let vault = Vault::new();
    make(&vault.plain, ID, "PGDMP").await;
    assert_eq!(refusal(&vault.signing.list().await.unwrap()), "is not signed");
    let long = "x".repeat(100_000);
    let manifest = fs::read_to_string(vault.path(ID).join("manifest.json")).unwrap();
    for (signature, told) in [
        ("", "cannot be read"),
        ("junk", "cannot be read"),
        (&SIGNATURE[..200], "cannot be read"),
        (&long, "100000 bytes"),
    ] {
        vault.put(ID, &manifest, signature);
        let listing = vault.signing.list().await.unwrap();
        assert!(refusal(&listing).contains(told), "{listing:?}");
    }
    let later = SystemTime::now() + 1000 * HOUR;
    assert_eq!(clean_up(&vault.signing, Duration::ZERO, later).await, []);
    assert_eq!(vault.signing.list().await.unwrap().unreadable.len(), 1);
    let error = vault.signing.begin(id(ID)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
}

#[tokio::test]
async fn a_signature_is_that_of_one_manifest() {
    let vault = Vault::new();
    let first = make(&vault.signing, ID, "PGDMP").await;
    make(&vault.signing, OTHER_ID, "PGDMP, and more").await;
    let ((manifest, signature), (other, others)) = (vault.get(ID), vault.get(OTHER_ID));
    // The signature of another backup, which is valid itself.
    vault.put(OTHER_ID, &other, &signature);
    let listing = vault.signing.list().await.unwrap();
    assert_eq!((listing.backups.len(), listing.unreadable.len()), (1, 1));
    assert!(listing.unreadable[0].1.contains("is not its own"), "{listing:?}");
    // All of another backup.
    vault.put(OTHER_ID, &manifest, &signature);
    let listing = vault.signing.list().await.unwrap();
    assert_eq!(listing.backups, [(id(ID), first)]);
    assert!(listing.unreadable[0].1.contains(&format!("is that of the backup `{ID}`")), "{listing:?}");
    // The manifest of another backup under its own ID.
    vault.put(OTHER_ID, &manifest.replace(ID, OTHER_ID), &others);
    assert!(vault.signing.list().await.unwrap().unreadable[0].1.contains("is not its own"));
    vault.put(OTHER_ID, &other, &others);
    assert_eq!(vault.signing.list().await.unwrap().backups.len(), 2);
}

#[tokio::test]
async fn no_field_of_a_signed_manifest_can_be_changed() {
    let vault = Vault::new();
    make(&vault.signing, ID, "PGDMP").await;
    let (manifest, signature) = vault.get(ID);
    let json: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let mut changed = 0;
    let object = json["objects"][0].as_object().unwrap().keys().map(|field| format!("/objects/0/{field}"));
    for field in json.as_object().unwrap().keys().map(|field| format!("/{field}")).chain(object) {
        for value in [serde_json::Value::Null, "other".into(), 7.into()] {
            let mut json = json.clone();
            *json.pointer_mut(&field).unwrap() = value;
            vault.put(ID, &json.to_string(), &signature);
            assert!(refusal(&vault.signing.list().await.unwrap()).contains("is not its own"), "{field}");
            changed += 1;
        }
    }
    for (field, value) in [("/schema_version", "1"), ("/colour", "green")] {
        let mut json = json.clone();
        json[&field[1..]] = value.into();
        vault.put(ID, &json.to_string(), &signature);
        assert!(refusal(&vault.signing.list().await.unwrap()).contains("is not its own"), "{field}");
    }
    // The same value, written in another way.
    vault.put(ID, &json.to_string(), &signature);
    refusal(&vault.signing.list().await.unwrap());
    assert!(changed >= 3 * 10, "{json}");
    vault.put(ID, &manifest, &signature);
    assert_eq!(vault.signing.list().await.unwrap().backups.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bit_of_a_signed_manifest_can_be_changed(at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let vault = Vault::new();
        let trusting = vault.plain.clone().with_trusted_keys(TrustedKeys::parse(PUBLIC).unwrap());
        vault.put(ID, MANIFEST, SIGNATURE);
        let mut manifest = MANIFEST.as_bytes().to_vec();
        let at = at.index(manifest.len());
        manifest[at] ^= 1 << bit;
        fs::write(vault.path(ID).join("manifest.json"), manifest).unwrap();
        let listing = runtime.block_on(trusting.list()).unwrap();
        prop_assert!(refusal(&listing).contains("is not its own"));
    }

    /// Whatever is in the place of a signature, of a length like that of one: no panic, and only one that verifies is believed.
    #[test]
    fn anything_can_be_in_the_place_of_a_signature(at in any::<prop::sample::Index>(), by in "[A-Za-z0-9+/=\n\u{e4}-]{1,3}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let vault = Vault::new();
        let at = at.index(SIGNATURE.len());
        let signature = format!("{}{by}{}", &SIGNATURE[..at], &SIGNATURE[(at + by.len()).min(SIGNATURE.len())..]);
        vault.put(ID, MANIFEST, &signature);
        let trusting = vault.plain.clone().with_trusted_keys(TrustedKeys::parse(PUBLIC).unwrap());
        let listing = runtime.block_on(trusting.list()).unwrap();
        let visible = |text: &str| text.split_whitespace().collect::<String>();
        let is_same = visible(&signature) == visible(SIGNATURE);
        prop_assert!(listing.backups.is_empty() || is_same, "{}", signature);
    }
}

#[tokio::test]
async fn the_manifest_is_written_after_its_signature() {
    let vault = Vault::new();
    // A folder in the place of the manifest: a crash just before it is written.
    fs::create_dir_all(vault.path(ID).join("manifest.json")).unwrap();
    let mut backup = vault.signing.begin(id(ID)).await.unwrap();
    for name in ["manifest.json.sig", "manifest.json", "manifest.json/x", "manifest.json.sig/x"] {
        assert_eq!(backup.object(name).await.unwrap_err().kind(), ErrorKind::InvalidKey, "{name}");
    }
    let mut object = backup.object("store.dump").await.unwrap();
    object.write("PGDMP".into()).await.unwrap();
    backup.add(object).await.unwrap();
    let manifest = Manifest::new(backup.id(), "store", time());
    assert_eq!(backup.publish(manifest).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    fs::remove_dir(vault.path(ID).join("manifest.json")).unwrap();
    assert!(vault.path(ID).join("manifest.json.sig").exists());
    let listing = vault.signing.list().await.unwrap();
    assert_eq!((listing.backups.len(), listing.unreadable.len(), listing.incomplete.len()), (0, 0, 1));
    assert_eq!(clean_up(&vault.signing, HOUR, SystemTime::now() + 2 * HOUR).await, [id(ID)]);
    assert_eq!(fs::read_dir(vault.folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_manifest_for_another_id_is_not_signed() {
    let vault = Vault::new();
    let backup = vault.signing.begin(id(ID)).await.unwrap();
    let error = backup.publish(Manifest::new(&id(OTHER_ID), "store", time())).await.unwrap_err();
    assert!(error.to_string().contains(OTHER_ID), "{error}");
    assert!(!vault.path(ID).join("manifest.json.sig").exists());
}

#[tokio::test]
async fn a_forged_backup_neither_keeps_nor_takes_what_it_claims_to_have_adopted() {
    let vault = Vault::new();
    fs::write(vault.path("store.dump_20240310-230003"), "PGDMP").unwrap();
    let dump = vault.plain.list().await.unwrap().foreign.remove(0);
    let forged = vault.plain.adopt(id(ID), &dump, &Listing::default(), async |_| Ok(())).await.unwrap();
    forged.publish(Manifest::new(&id(ID), "store", time())).await.unwrap();
    let listing = vault.signing.list().await.unwrap();
    assert!(listing.backups.is_empty() && listing.foreign == [dump.clone()], "{listing:?}");
    let backup = vault.signing.adopt(id(OTHER_ID), &dump, &Listing::default(), async |_| Ok(())).await.unwrap();
    let manifest = Manifest::new(backup.id(), "store", time());
    let adopted = backup.publish(manifest).await.unwrap();
    remove(&vault.signing, ID).await;
    let listing = vault.signing.list().await.unwrap();
    assert_eq!((listing.backups.len(), listing.unreadable.len(), listing.foreign.len()), (1, 0, 0));
    assert_eq!(read(&vault.signing, OTHER_ID, &adopted.objects[0]).await.unwrap(), b"PGDMP");
}

#[test]
fn key_files_are_those_of_ssh_keygen_and_never_quoted() {
    let file = key_file(1);
    for (text, told) in [
        (LOCKED, "passphrase"),
        ("", "no private key"),
        (PUBLIC, "no private key"),
        ("-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----\n", "no private key"),
        (&file[..file.len() / 2], "damaged"),
        (&file.replacen("AAAA", "BBBB", 1), "damaged"),
    ] {
        let error = SigningKey::parse(text).unwrap_err();
        assert!(error.to_string().contains(told) && !error.to_string().contains(&file[100..120]), "{told}: {error}");
    }
    let debug = format!("{:?} {:?}", key(1), key(1).trusted());
    assert!(debug.matches("SHA256:").count() == 2 && !debug.contains(&file[100..120]), "{debug}");

    let blob = PUBLIC.split(' ').nth(1).unwrap();
    for text in [PUBLIC, &format!("backup@example.com ssh-ed25519 {blob}"), &format!("ssh-ed25519 {blob}")] {
        TrustedKeys::parse(text).unwrap();
    }
    for (text, told) in [
        ("", "there is no public key"),
        ("# nobody\n", "there is no public key"),
        ("ssh-ed25519", "line 1 is no public key"),
        ("ssh-ed25519 AAAA", "line 1 is no public key"),
        (&format!("{PUBLIC}\nssh-rsa {blob}"), "line 2 is no public key"),
        (&format!("{PUBLIC}\nbackup valid-before=\"20270101\" ssh-ed25519 {blob}"), "line 2 is no public key"),
        (&format!("#\n\nbackup cert-authority ssh-ed25519 {blob}"), "line 3 is no"),
        (&format!("cert-authority ssh-ed25519 {blob}"), "line 1 is no"),
        (&format!("command=\"true\" ssh-ed25519 {blob}"), "line 1 is no"),
        (LOCKED, "line 1 is no public key"),
    ] {
        let error = TrustedKeys::parse(text).unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
    }
}
