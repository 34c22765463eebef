//! `backup` against real servers: what it makes, lists, gives back and removes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::sync::LazyLock;

use age::secrecy::ExposeSecret as _;
use age::x25519::Identity;
use pgmig_tests::awkward::unique;
use pgmig_tests::backup::Backups;
use pgmig_tests::pgmig::Run;
use pgmig_tests::{DumpOptions, Fingerprint, Server};
use serde_json::json;
use ssh_key::LineEnding;
use ssh_key::PrivateKey;
use ssh_key::private::Ed25519Keypair;

/// A database with tables, large objects and names that need quotes.
static DATABASE: LazyLock<(&'static Server, String)> = LazyLock::new(|| {
    let server = Server::shared(17);
    let database = unique("backup");
    server.create_database(&database, "UTF8");
    server.psql(
        &database,
        "create table plain (id int primary key, text text); insert into plain select n, md5(n::text) from generate_series(1, 5000) n; \
         create schema \"Odd one\"; create table \"Odd one\".\"a.b\" (c text); insert into \"Odd one\".\"a.b\" values ('x'), (null); \
         create table nothing (); select lo_from_bytea(0, 'large'), lo_from_bytea(0, 'object')",
    );
    (server, database)
});

/// Of a copy of that database: each test has one of its own, which no other one locks.
fn backups() -> Backups {
    let (server, _) = &*DATABASE;
    Backups::of(server, &copy())
}

fn copy() -> String {
    let (server, template) = &*DATABASE;
    let database = unique("backup");
    server.psql("postgres", &format!("create database \"{database}\" template \"{template}\""));
    database
}

/// The name of the object with the dump of a database.
fn object(database: &str) -> String {
    format!("{}.dump", database.replace(' ', "%20"))
}

#[test]
fn a_backup_is_made_listed_shown_verified_and_given_back() {
    let (server, database) = (DATABASE.0, &copy());
    let backups = Backups::of(server, database);
    assert_eq!(backups.ids(), Vec::<String>::new());
    let run = backups.run(&["run", "nightly", "--output", "json"]).done().json();
    let manifest = &run["manifest"];
    let id = manifest["id"].as_str().expect("an ID");
    assert_eq!(manifest["source"], "store");
    assert_eq!(manifest["versions"]["server"].as_str().map(|version| &version[..3]), Some("17."));
    let tables = manifest["objects"][0]["tables"].as_array().expect("tables");
    let rows: Vec<_> =
        tables.iter().map(|table| (table["table"].as_str().expect("a name"), table["rows"].as_u64())).collect();
    assert_eq!(
        rows,
        [("Odd one.a.b", Some(2)), ("public.nothing", Some(0)), ("public.plain", Some(5000)), ("large objects", None)]
    );
    assert!(tables.iter().all(|table| table["sha256"].as_str().is_some_and(|digest| digest.len() == 64)));

    let name = &object(database);
    assert_eq!(backups.vault(), [format!("nightly/{id}/{name}"), format!("nightly/{id}/manifest.json")]);
    for file in backups.vault() {
        let mode = fs::metadata(backups.file("vault").join(&file)).expect("the file is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert_eq!(backups.verified(), [id]);
    let list = backups.list();
    assert_eq!((&list["backups"][0]["rows"], &list["backups"][0]["verified"]), (&json!(5002), &json!(true)));
    let _ = backups.run(&["show", "nightly", "latest"]).done().says(&[
        id,
        "public.plain",
        "5,000",
        "every block was decoded",
    ]);

    let _ = backups.run(&["fetch", "nightly", "latest", "--to", "copy.dump"]).done();
    let restored = unique("restored");
    server.create_database(&restored, "UTF8");
    server.tools().restore(server, &restored, &backups.file("copy.dump"), &[]);
    Fingerprint::of(server, database).assert_same(&Fingerprint::of(server, &restored));
    let stdout = backups.command(&["fetch", "nightly", id, "--to", "-"]).output().expect("the program starts");
    assert_eq!(stdout.stdout, fs::read(backups.file("copy.dump")).expect("it was fetched"));
    let both = backups.run(&["fetch", "nightly", id, "--to", "-", "--output", "json"]);
    assert_eq!(both.failed(&["cannot both have standard output"]).json()["version"], 1);

    // What is there is not replaced.
    let _ = backups.run(&["fetch", "nightly", id, "--to", "copy.dump"]).failed(&["copy.dump"]);
    let _ = backups.run(&["fetch", "nightly", id, "--to", "x", "--object", "y"]).failed(&["--object", name]);
}

#[test]
fn the_snapshot_is_of_one_moment_and_tenants_are_those_of_it() {
    let server = Server::shared(16);
    let database = unique("tenants");
    server.create_database(&database, "UTF8");
    server.psql(
        &database,
        "create table tenant (tenant_id uuid primary key, instance_id text, name text, region text, deleted boolean); \
         insert into tenant values ('00000000-0000-0000-0000-001570184978', 'a', 'one', 'us', false); \
         create table schema_info (version text); insert into schema_info values ('4.3.7.2')",
    );
    // Somebody adds a tenant when the dump has just begun.
    let psql = server.tools().program("psql").display().to_string();
    let insert = "insert into tenant values ('00000000-0000-0000-0000-001570184979', 'b', 'two', 'us', false)";
    let backups = Backups::of(server, &database)
        .source("profile", "watson-assistant")
        .pg_dump(&format!("'{psql}' -qc \"{insert}\" >&2 || exit 7\nexec \"$PG_DUMP\" \"$@\""));
    let manifest = backups.run(&["run", "nightly", "--output", "json"]).done().json()["manifest"].clone();
    assert_eq!(manifest["tenants"], json!(["00000000-0000-0000-0000-001570184978"]));
    assert_eq!(manifest["schema_version"], "4.3.7.2");
    let tables = manifest["objects"][0]["tables"].as_array().expect("tables");
    let tenant = tables.iter().find(|table| table["table"] == "public.tenant").expect("the table");
    assert_eq!(tenant["rows"], 1);
    assert_eq!(server.psql(&database, "select count(*) from tenant").trim(), "2");
}

#[test]
fn several_databases_are_one_backup() {
    let [one, other] = [copy(), copy()];
    let backups =
        Backups::of(DATABASE.0, &one).source("database", "").source("databases", &format!("[{one}, {other}]"));
    let manifest = backups.run(&["run", "nightly", "--output", "json"]).done().json()["manifest"].clone();
    let names: Vec<_> = manifest["objects"].as_array().expect("objects").iter().map(|object| &object["name"]).collect();
    assert_eq!(names, [&json!(object(&one)), &json!(object(&other))]);
    assert!(manifest["consistency"].as_str().is_some_and(|text| text.contains(&other)), "{manifest}");
    assert_eq!(backups.verified().len(), 1);
    // None of them is the product's.
    let told = [&format!("cannot read the tenants of `{one}`")[..], "leave out its `profile`"];
    let backups = backups.source("profile", "watson-assistant");
    let _ = backups.run(&["run", "nightly"]).failed(&told);
    let backups = backups.source("profile", "");
    let _ = backups.run(&["fetch", "nightly", "latest", "--to", "x"]).failed(&["which object"]);
    // What is not in the next one any more is told.
    let backups = backups.source("databases", &format!("[{one}]"));
    let next = backups.run(&["run", "nightly"]).done();
    let _ = next.says(&["the backup before this one", &format!("also has `{}`", object(&other))]);
    let backups = backups.source("databases", &format!("[{one}, {other}]"));
    let _ = backups.make();
    let _ = backups.run(&["fetch", "nightly", "latest", "--to", "x", "--object", &object(&one)]).done();
}

#[test]
fn what_the_policy_does_not_keep_goes_with_the_next_run() {
    let backups = backups().job("retention: {keep-last: 2}").job("metrics-file: backup.prom");
    let first = backups.make();
    for day in 1..=5 {
        backups.copy_as(&first, &format!("2026010{day}T230000Z"));
    }
    fs::remove_dir_all(backups.file("vault/nightly").join(&first)).expect("it is ours");
    let dry = backups.run(&["prune", "nightly", "--dry-run", "--output", "json"]).done().json();
    let ids = |list: &serde_json::Value| -> Vec<String> {
        list.as_array().expect("a list").iter().map(|line| line["id"].as_str().expect("an ID").to_owned()).collect()
    };
    assert_eq!(ids(&dry["removed"]), ["20260101T230000Z", "20260102T230000Z", "20260103T230000Z"]);
    assert_eq!(dry["kept"][1]["why"], "the newest verified backup, last 1 of 2");
    assert_eq!(backups.ids().len(), 5);

    let ran = backups.run(&["run", "nightly", "--output", "json"]).done().json();
    assert_eq!(ran["removed"].as_array().map(Vec::len), Some(4));
    let new = ran["manifest"]["id"].as_str().expect("an ID");
    assert_eq!(backups.verified(), ["20260105T230000Z", new]);
    let again = backups.run(&["prune", "nightly", "--output", "json"]).done().json();
    assert_eq!(again["removed"], json!([]));
    let metrics = fs::read_to_string(backups.file("backup.prom")).expect("it was written");
    let mode = fs::metadata(backups.file("backup.prom")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o644, "whoever collects it is somebody else");
    assert!(
        metrics.contains("backup_last_success_verified_rows{job=\"nightly\"} 5002\n") && metrics.ends_with("# EOF\n")
    );
}

#[test]
fn a_policy_is_explained_by_a_calendar_and_a_page() {
    let backups = backups().job("retention: {weekly-backup-day: sunday, time-zone: Europe/Berlin}");
    let first = backups.make();
    for day in ["20251225T220000Z", "20251228T220000Z", "20251230T231500Z", "20260101T110000Z"] {
        backups.copy_as(&first, day);
    }
    let explained = backups.run(&["explain", "nightly", "--html", "page.html"]).done();
    assert!(
        explained.stdout.contains("keeps 4 made on a Sunday, 6 of other days; days of Europe/Berlin"),
        "{explained}"
    );
    // Begun at 00:15 of the last day of the year in Berlin, in the first ISO week of the next one.
    assert!(explained.stdout.contains("  W01    29   30   31*\n"), "{explained}");
    let page = fs::read_to_string(backups.file("page.html")).expect("it was written");
    assert!(page.contains("<svg") && page.contains("20251230T231500Z") && page.contains("weekly 1 of 4"), "{page}");
    // It is replaced by a newer one, and nothing else is.
    let _ = backups.run(&["explain", "nightly", "--html", "page.html"]).done();
    let config = fs::read(backups.file("backup.yaml")).expect("it is there");
    let _ = backups.run(&["explain", "nightly", "--html", "backup.yaml"]).failed(&["is no page of `backup explain`"]);
    assert_eq!(fs::read(backups.file("backup.yaml")).expect("it is there"), config);
    let _ = backups.run(&["explain", "nightly", "--html", "-"]).failed(&["give the name of a file"]);
    let _ = self::backups().run(&["explain", "nightly"]).failed(&["no retention policy"]);
}

#[test]
fn the_newest_verified_backup_stays_whatever_the_policy_says_and_oddities_are_left_alone() {
    let backups = backups().job("retention: {keep-last: 1}");
    let id = backups.make();
    let vault = backups.file("vault/nightly");
    backups.copy_as(&id, "29990101T000000Z");
    // Not verified, and newer.
    let manifest = fs::read_to_string(vault.join(&id).join("manifest.json")).expect("a manifest");
    let mut unverified: serde_json::Value = serde_json::from_str(&manifest).expect("JSON");
    unverified.as_object_mut().expect("an object").remove("verification");
    fs::write(vault.join("29990101T000000Z/manifest.json"), manifest.replace(&id, "29990101T000000Z"))
        .expect("writable");
    backups.copy_as(&id, "20260101T000000Z");
    unverified["id"] = json!("20260101T000000Z");
    fs::write(vault.join("20260101T000000Z/manifest.json"), unverified.to_string()).expect("writable");
    backups.copy_as(&id, "20260102T000000Z");
    fs::write(vault.join("20260102T000000Z/manifest.json"), "{}").expect("writable");

    let pruned = backups.run(&["prune", "nightly", "--output", "json"]).done().json();
    assert_eq!(pruned["removed"][0]["id"], "20260101T000000Z", "{pruned}");
    assert_eq!(pruned["removed"].as_array().map(Vec::len), Some(1));
    assert!(pruned["kept"].to_string().contains("its time is in the future"), "{pruned}");
    // What cannot be used is told wherever there is talk of what stays.
    assert_eq!(pruned["unreadable"][0]["id"], "20260102T000000Z", "{pruned}");
    for command in ["prune", "explain"] {
        let _ = backups.run(&[command, "nightly"]).done().says(&["20260102T000000Z", "is left alone", "its manifest"]);
    }
    backups.copy_as(&id, "29990102T000000Z");
    fs::write(vault.join("29990102T000000Z/manifest.json"), "{}").expect("writable");
    let shown = backups.run(&["show", "nightly", "latest"]).done();
    let _ = shown.says(&["warning: the backup `29990102T000000Z` is newer, but cannot be used"]);
    fs::remove_dir_all(vault.join("29990102T000000Z")).expect("it is ours");
    let shown = backups.run(&["show", "nightly", "latest"]).done();
    let _ = shown.says(&[&id, "warning: the backup `29990101T000000Z` has a time that is to come"]);
    let list = backups.list();
    assert_eq!(list["unreadable"][0]["id"], "20260102T000000Z");
    assert_eq!(backups.ids(), [id.as_str(), "29990101T000000Z"]);
    let _ = backups.run(&["show", "nightly", "20260102T000000Z"]).failed(&["cannot be used"]);
    // And no backup is made that would not be the newest.
    let _ = backups.run(&["run", "nightly"]).failed(&["the clock of this machine says", "2999-01-01 00:00:00 UTC"]);
    assert_eq!(backups.ids().len(), 2);
}

#[test]
fn the_dumps_of_the_products_own_job_are_adopted_where_they_lie() {
    let (server, database) = (DATABASE.0, copy());
    let dump = server.tools().dump(server, &database, &DumpOptions::redirected());
    let dump = fs::read(&dump).expect("it was made");
    let backups =
        Backups::of(server, &database).job("at-root: true").job("retention: {keep-last: 2, time-zone: Europe/Berlin}");
    let vault = backups.file("vault");
    fs::create_dir(vault.join("weekly")).expect("writable");
    // In the order of their times: the second one was cut short by the original job, as it does.
    let names = ["store.dump_20260105-230003", "store.dump_20260106-230004", "weekly/store.dump_20260111-230002"];
    for (name, length) in names.iter().zip([dump.len(), dump.len() / 2, dump.len()]) {
        fs::write(vault.join(name), &dump[..length]).expect("writable");
    }
    fs::write(vault.join("notes.txt"), "of somebody").expect("writable");
    // No dump of its own: it would be gone with the other one.
    symlink(names[0], vault.join("store.dump_20260107-230003")).expect("writable");

    let list = backups.list();
    assert_eq!(list["adoptable"].as_array().map(Vec::len), Some(3));
    assert_eq!(list["foreign"], json!(["notes.txt"]));
    // Nobody has verified them yet, so they are given back to nobody.
    let to_file = ["--to", "copy.dump"];
    let to_target = ["--target", "postgres.yaml", "--same-ids"];
    for name in [names[0], names[2]] {
        let told = [&format!("`{name}` is a dump of the product's own job")[..], "`backup adopt nightly`"];
        for (command, more) in [("show", &[][..]), ("verify", &[]), ("fetch", &to_file), ("restore", &to_target)] {
            let _ = backups.run(&[&[command, "nightly", name][..], more].concat()).failed(&told);
        }
    }
    let none = ["has no verified backup, but 3 dumps of the product's own job", "`backup adopt nightly`"];
    let _ = backups.run(&["show", "nightly", "latest"]).failed(&none);
    let adopted = backups.run(&["adopt", "nightly"]).failed(&["1 dump cannot be adopted", "pgmig repair"]);
    let _ = adopted.says(&["20260105T220003Z", "20260111T220002Z", "store.dump_20260106-230004 is not adopted"]);
    assert_eq!(backups.verified(), ["20260105T220003Z", "20260111T220002Z"]);
    assert_eq!(backups.list()["backups"][0]["rows"], 5002);
    assert_eq!(backups.list()["adoptable"], json!(["store.dump_20260106-230004"]));
    let _ = backups.run(&["fetch", "nightly", "latest", "--to", "copy.dump"]).done();
    assert_eq!(fs::read(backups.file("copy.dump")).expect("it was fetched"), dump);

    // One of a time to come would be the newest one for years.
    fs::write(vault.join("store.dump_20991231-230000"), &dump).expect("writable");
    let adopted = backups.run(&["adopt", "nightly"]).failed(&["2 dumps cannot be adopted, and stay as they are"]);
    let _ = adopted.says(&["its name has a time that is to come"]);
    fs::remove_file(vault.join("store.dump_20991231-230000")).expect("it is there");

    // They count, and what is not kept goes with its dump. What was not adopted stays.
    let run = backups.run(&["run", "nightly"]).done();
    assert!(!run.stderr.contains("also has"), "it is called otherwise than an adopted dump: {run}");
    let new = backups.ids().pop().expect("it was made");
    assert_eq!(backups.verified(), ["20260111T220002Z", new.as_str()]);
    let left = backups.vault();
    assert!(!left.contains(&names[0].to_owned()) && left.contains(&names[1].to_owned()), "{left:?}");
    assert!(left.contains(&names[2].to_owned()) && left.contains(&"notes.txt".to_owned()), "{left:?}");
}

#[test]
fn pg_dump_does_not_see_the_secrets_that_the_configuration_names() {
    let backups = backups()
        .pg_dump("env > environment; exec \"$PG_DUMP\" \"$@\"")
        .source("password-file", "")
        .source("password-env", "STORE_PASSWORD")
        .job("encryption: {identity-env: AGE_KEY}")
        .destination("{type: local, path-env: VAULT}");
    let password = DATABASE.0.password();
    let key = Identity::generate().to_string();
    let mut command = backups.command(&["run", "nightly"]);
    command.env("STORE_PASSWORD", password).env("AGE_KEY", key.expose_secret()).env("VAULT", "vault").env("OTHER", "x");
    let _ = Run::of(&mut command).done();
    let seen = fs::read_to_string(backups.file("environment")).expect("it was written");
    for name in ["STORE_PASSWORD=", "AGE_KEY=", "VAULT=", "AGE-SECRET-KEY"] {
        assert!(!seen.contains(name), "{name}");
    }
    // What it needs it has.
    for name in ["PGPASSWORD=", "PATH=", "OTHER=x"] {
        assert!(seen.lines().any(|line| line.starts_with(name)), "{name}");
    }
}

#[test]
fn an_encrypted_backup_tells_its_content_to_the_holder_of_the_key_alone() {
    let identity = Identity::generate();
    let (server, database) = (DATABASE.0, copy());
    let line = format!("encryption: {{recipients: [{}]}}", identity.to_public());
    let backups = Backups::of(server, &database).job(&line);
    let id = backups.make();
    let manifest =
        fs::read_to_string(backups.file("vault/nightly").join(&id).join("manifest.json")).expect("a manifest");
    assert!(!manifest.contains("public.plain") && !manifest.contains("5000"), "{manifest}");
    let stored = fs::read(backups.file("vault/nightly").join(&id).join(object(&database))).expect("it is there");
    assert!(stored.starts_with(b"age-encryption.org/v1"));
    // Without a key: what is stored is as it was, and counts.
    let _ = backups.run(&["verify", "nightly", &id]).done().says(&["takes a key to verify"]);
    let _ =
        backups.run(&["fetch", "nightly", &id, "--to", "copy.dump"]).failed(&["it is encrypted, and no key was given"]);
    assert_eq!(backups.list()["backups"][0]["rows"], json!(null));

    let file = format!("# a key\n{}\n", identity.to_string().expose_secret());
    fs::write(backups.file("identity"), file).expect("writable");
    let backups = backups.job_without_lines().job("encryption: {identity-file: identity}");
    let _ = backups.run(&["verify", "nightly", &id]).done().says(&["5,002 rows"]);
    let _ = backups.run(&["show", "nightly", &id]).done().says(&["public.plain", "encrypted"]);
    // Who has said only what to read with gets no plain backup, and neither does who has said nothing.
    let other = backups.make();
    let _ = backups.run(&["show", "nightly", &other]).done().says(&["encrypted"]);
    let _ = backups.run(&["fetch", "nightly", &id, "--to", "copy.dump"]).done();
    let restored = unique("restored");
    server.create_database(&restored, "UTF8");
    server.tools().restore(server, &restored, &backups.file("copy.dump"), &[]);
    Fingerprint::of(server, &database).assert_same(&Fingerprint::of(server, &restored));

    let empty = backups.job_without_lines().job("encryption:");
    let _ = empty.run(&["run", "nightly"]).failed(&["`encryption` of the job `nightly`: must be a map"]);
    let wrong = empty.job_without_lines().job("encryption: {recipients: age1nobody}");
    let failed = wrong.run(&["run", "nightly"]).failed(&["`recipients`: line 1"]);
    assert!(!failed.stderr.contains("age1nobody"), "{failed}");
}

#[test]
fn a_backup_that_nobody_trusted_has_signed_is_refused() {
    let backups = backups();
    let forged = backups.make();
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32]));
    fs::write(backups.file("key"), key.to_openssh(LineEnding::LF).expect("it is no other")).expect("writable");
    fs::write(backups.file("key.pub"), key.public_key().to_openssh().expect("it is no other")).expect("writable");
    let signing = backups.job("signing: {key-file: key}").job("retention: {keep-last: 1}");
    let id = signing.make();
    assert_eq!(signing.verified(), [id.as_str()]);
    assert_eq!(signing.list()["unreadable"][0]["id"], forged.as_str());
    let _ = signing.run(&["fetch", "nightly", &forged, "--to", "x"]).failed(&["cannot be used"]);
    // A key that nobody trusts would sign what nobody takes for a backup.
    let other = PrivateKey::from(Ed25519Keypair::from_seed(&[8; 32]));
    fs::write(signing.file("other.pub"), other.public_key().to_openssh().expect("it is no other")).expect("writable");
    let signing = signing.job_without_lines().job("signing: {key-file: key, trusted-keys-file: other.pub}");
    let _ = signing.run(&["run", "nightly"]).failed(&["`trusted-keys` does not have the public key of `key`"]);
    // Who only reads needs the public key alone.
    let reading = signing.job_without_lines().job("signing: {trusted-keys-file: key.pub}");
    assert_eq!(reading.verified(), [id.as_str()]);
    let _ = reading.run(&["run", "nightly"]).failed(&["has no key to sign one with"]);
    let manifest = reading.file("vault/nightly").join(&id).join("manifest.json");
    let text = fs::read_to_string(&manifest).expect("a manifest");
    fs::write(&manifest, text.replace("\"rows\": 5000", "\"rows\": 5001")).expect("writable");
    let _ = reading.run(&["verify", "nightly", &id]).failed(&["cannot be used"]);
    let _ = reading.run(&["show", "nightly", "latest"]).failed(&["has no verified backup"]);
}

#[test]
fn a_backup_is_verified_by_restoring_it() {
    let backups = backups();
    let _ = backups.make();
    let restored = backups.run(&["verify", "nightly", "latest", "--restore"]).done();
    let _ = restored.says(&["restored into a throw-away database with the same rows"]);
    let verified = backups.run(&["verify", "nightly", "latest", "--restore", "--output", "json"]).done().json();
    assert_eq!(verified["restored"], true);

    let server = DATABASE.0;
    server.create_database("picky", "UTF8");
    server.psql(
        "picky",
        "create function is_at_home() returns bool language sql as $$ select current_database() = 'picky' $$;
         create table numbers (number int check (is_at_home())); insert into numbers select generate_series(1, 100)",
    );
    let picky = Backups::of(server, "picky");
    let _ = picky.make();
    let failed = picky
        .run(&["verify", "nightly", "latest", "--restore"])
        .failed(&["is whole, but `picky.dump` could not be restored", "numbers_check"]);
    let left = server.psql("postgres", "select count(*) from pg_database where datname like 'pgmig_restore_%'");
    assert_eq!(left.trim(), "0", "{failed}");
}

#[test]
fn of_the_products_policy_what_is_not_said_is_as_the_product_has_it() {
    for (line, words) in [
        ("keep-daily: 2", "keeps 4 made on a Sunday, 2 of other days"),
        ("keep-weekly: 3", "keeps 3 made on a Sunday, 6 of other days"),
        ("keep-weekly: 0", "keeps none made on a Sunday, 6 of other days"),
    ] {
        let backups = backups().job(&format!("retention: {{weekly-backup-day: 0, {line}}}"));
        let _ = backups.run(&["explain", "nightly"]).done().says(&[words, "no backup"]);
        let _ = backups.run(&["prune", "nightly"]).done().says(&["no backup"]);
    }
    let nothing = backups().job("retention: {weekly-backup-day: 0, keep-weekly: 0, keep-daily: 0}");
    let _ = nothing.run(&["explain", "nightly"]).failed(&["the retention policy keeps nothing"]);
}
