//! `backup` against real servers: what it makes, lists, gives back and removes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::LazyLock;

use pgmig_tests::awkward::unique;
use pgmig_tests::backup::Backups;
use pgmig_tests::{Fingerprint, Server};
use serde_json::json;

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
    let _ = backups.run(&["fetch", "nightly", "latest", "--to", "x"]).failed(&["which object"]);
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
    let list = backups.list();
    assert_eq!(list["unreadable"][0]["id"], "20260102T000000Z");
    assert_eq!(backups.ids(), [id.as_str(), "29990101T000000Z"]);
    let _ = backups.run(&["show", "nightly", "20260102T000000Z"]).failed(&["cannot be used"]);
    // And no backup is made that would not be the newest.
    let _ = backups.run(&["run", "nightly"]).failed(&["the clock of this machine says", "2999-01-01 00:00:00 UTC"]);
    assert_eq!(backups.ids().len(), 2);
}
