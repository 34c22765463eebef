//! `backup` with `format: plain`: a script of SQL that is proven to be whole, with the rows that the database had.

use std::fs;
use std::sync::LazyLock;

use age::secrecy::ExposeSecret as _;
use age::x25519::Identity;
use pgmig_tests::awkward::unique;
use pgmig_tests::backup::Backups;
use pgmig_tests::{Fingerprint, MAJORS, Server};
use serde_json::json;

use crate::dumpfmt_sql::every_kind_database;

static DATABASE: LazyLock<(&'static Server, String)> = LazyLock::new(|| {
    let server = Server::shared(17);
    // As the product's are called.
    let database = unique("stt").replace(' ', "-") + "-customization";
    server.create_database(&database, "UTF8");
    server.psql(
        &database,
        r#"create table plain as select n, md5(n::text) from generate_series(1, 5000) n;
        create schema "Odd one";
        create table "Odd one"."a.b" (x text);
        insert into "Odd one"."a.b" values (E'1\t2\n\\.'), (null);
        create table nothing ();
        create table parts (n int) partition by range (n);
        create table part partition of parts for values from (0) to (10);
        insert into parts values (1), (2), (3);
        create table parent (n int); create table child () inherits (parent);
        insert into parent values (1); insert into child values (2), (3);
        create unlogged table brief as select 1 as n;
        select lo_from_bytea(0, 'large')"#,
    );
    (server, database)
});

/// Of a copy of that database: each test has one of its own, which no other one locks.
fn backups() -> (Backups, String) {
    let (server, template) = &*DATABASE;
    let database = unique("copy").replace(' ', "-");
    server.psql("postgres", &format!("create database \"{database}\" template \"{template}\""));
    (Backups::of(server, &database).source("format", "plain"), database)
}

#[test]
fn a_plain_backup_is_made_shown_verified_and_given_back() {
    let (backups, database) = backups();
    let manifest = backups.run(&["run", "nightly", "--output", "json"]).done().json()["manifest"].clone();
    let id = manifest["id"].as_str().expect("an ID");
    let [object] = &manifest["objects"].as_array().expect("objects")[..] else { panic!("{manifest}") };
    let name = format!("{database}.backup.sql");
    assert_eq!((&object["name"], &object["format"]), (&json!(name), &json!("plain")));
    let tables = object["tables"].as_array().expect("tables");
    let rows: Vec<_> =
        tables.iter().map(|table| (table["table"].as_str().expect("a name"), table["rows"].as_u64())).collect();
    let expected = [
        ("Odd one.a.b", 2),
        ("public.brief", 1),
        ("public.child", 2),
        ("public.nothing", 0),
        ("public.parent", 1),
        ("public.part", 3),
        ("public.plain", 5000),
    ];
    assert_eq!(rows, expected.map(|(table, rows)| (table, Some(rows))));
    assert_eq!(backups.vault(), [format!("nightly/{id}/{name}"), format!("nightly/{id}/manifest.json")]);
    assert_eq!(backups.verified(), [id]);
    let shown = backups.run(&["show", "nightly", "latest"]).done();
    let _ =
        shown.says(&[&name, "public.plain", "5,000", "the rows of each table are as many as it had at that moment"]);

    // The same data as an archive has the same digests.
    let archive = backups.source("format", "custom");
    let other = archive.run(&["run", "nightly", "--output", "json"]).done().json()["manifest"].clone();
    let of_archive = other["objects"][0]["tables"].as_array().expect("tables");
    assert_eq!(&of_archive[..tables.len()], &tables[..]);
    // A job can have both.
    assert_eq!(archive.verified().len(), 2);
    assert!(archive.vault().iter().any(|file| file.ends_with(".dump")), "{:?}", archive.vault());

    let _ = archive.run(&["fetch", "nightly", id, "--to", "copy.sql"]).done();
    let server = DATABASE.0;
    let restored = unique("restored");
    server.create_database(&restored, "UTF8");
    server.psql_file(&restored, &archive.file("copy.sql"), &[]);
    Fingerprint::of(server, &database).assert_same(&Fingerprint::of(server, &restored));
}

#[test]
fn a_database_with_an_object_of_every_kind_is_backed_up_plain_in_every_version() {
    for major in MAJORS {
        let server = Server::shared(major);
        let backups = Backups::of(server, every_kind_database(major)).source("format", "plain");
        let _ = backups.make();
        assert_eq!(backups.verified().len(), 1, "PostgreSQL {major}");
    }
}

#[test]
fn rows_are_counted_as_of_the_moment_of_the_dump() {
    let (server, (backups, database)) = (DATABASE.0, backups());
    // Somebody writes when the dump has just begun.
    let psql = server.tools().program("psql").display().to_string();
    let sql = "insert into plain select 1 from generate_series(1, 10); create table late (n int)";
    let backups = backups.pg_dump(&format!("'{psql}' -qc \"{sql}\" >&2 || exit 7\nexec \"$PG_DUMP\" \"$@\""));
    let _ = backups.make();
    let tables = backups.list()["backups"][0]["rows"].as_u64();
    assert_eq!(tables, Some(5009));
    assert_eq!(server.psql(&database, "select count(*) from plain"), "5010");
}

#[test]
fn the_configuration_of_an_extension_is_counted_as_it_is_dumped() {
    // The first version that is told where extensions are.
    let server = Server::shared(18);
    let folder = server.socket_folder().join("share");
    let extension = folder.join("extension");
    fs::create_dir_all(&extension).expect("the folder is writable");
    fs::write(extension.join("own.control"), "default_version = '1'\nrelocatable = true\n").expect("it is writable");
    let sql = "create table setting (name text, own boolean); create table hidden (n int);
        insert into setting values ('a', true); insert into hidden values (1);
        select pg_catalog.pg_extension_config_dump('setting', 'where not own');";
    fs::write(extension.join("own--1.sql"), sql).expect("it is writable");
    let database = unique("extension");
    server.create_database(&database, "UTF8");
    let sql = format!(
        "set extension_control_path = '{}:$system'; create extension own;
         insert into setting values ('b', false), ('c', false); create table t as select 1 as n",
        folder.display()
    );
    server.psql(&database, &sql);
    let backups = Backups::of(server, &database).source("format", "plain");
    let run = backups.run(&["run", "nightly", "--output", "json"]).done().json();
    let tables = run["manifest"]["objects"][0]["tables"].as_array().expect("tables");
    let rows: Vec<_> = tables.iter().map(|table| (&table["table"], &table["rows"])).collect();
    assert_eq!(rows, [(&json!("public.setting"), &json!(2)), (&json!("public.t"), &json!(1))]);
}

#[test]
fn a_plain_dump_that_is_not_whole_is_never_published() {
    let remove = |what: &str| format!("\"$PG_DUMP\" \"$@\" | {what}; exit 0");
    let cases = [
        // The stream ends, and all seems well.
        (remove("head -c 100000"), "but its dump is not whole"),
        (remove("head -c 0"), "the input is empty"),
        (remove("head -c -1"), "but its dump is not whole"),
        (remove("sed '/database dump complete/,$d'"), "before its closing line"),
        // The closing line is there, and something else is not.
        (remove("sed '/^4999\\t/d'"), "it has 4999 rows of the table `public.plain`, which has 5000"),
        (remove("sed '/^4999\\t/p'"), "it has 5001 rows of the table `public.plain`, which has 5000"),
        (remove("sed '/^COPY public.plain/,/^\\\\\\.$/{/^[0-9]/d}'"), "it has 0 rows of the table `public.plain`"),
        (remove("sed '/^COPY public.plain/,/^\\\\\\.$/d'"), "the table `public.plain` is not in it"),
        (remove("sed 's/^COPY public.plain /COPY public.other /'"), "the table `public.plain` is not in it"),
        (
            remove("sed '/^COPY public.child/i COPY public.x (n) FROM stdin;\\n\\\\.\\n'"),
            "`public.x`, which is no table",
        ),
        // What must not be in it.
        (remove("sed '/^CREATE TABLE public.child/i \\\\\\\\! touch never'"), "a command of psql, `\\!`"),
        (remove("sed 's/$/\\r/'"), "CR LF"),
        ("exec \"$PG_DUMP\" \"${@/plain/custom}\"".to_owned(), "it is an archive in the custom format"),
        // All is there, but the program says that something is wrong.
        ("\"$PG_DUMP\" \"$@\"; echo 'something is wrong' >&2; exit 1".to_owned(), "something is wrong"),
    ];
    let (backups, _) = backups();
    let good = backups.make();
    let stored = backups.vault();
    let real = DATABASE.0.tools().program("pg_dump").display().to_string();
    let mut backups = backups;
    for (script, why) in cases {
        backups = backups.source("pg-dump", &real).pg_dump(&script);
        let failed = backups.run(&["run", "nightly"]).failed(&[why]);
        assert!(!failed.stderr.contains("5000\t"), "no row is told: {failed}");
        assert_eq!(backups.vault(), stored, "{script}");
    }
    assert_eq!(backups.verified(), [good.as_str()]);
}

#[test]
fn what_somebody_changed_afterwards_is_found() {
    let (backups, database) = backups();
    let id = backups.make();
    let object = backups.file("vault/nightly").join(&id).join(format!("{database}.backup.sql"));
    let manifest = object.with_file_name("manifest.json");
    let (script, recorded) = (fs::read_to_string(&object).expect("SQL"), fs::read_to_string(&manifest).expect("JSON"));
    let digest = |text: &str| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("text");
        fs::write(&file, text).expect("writable");
        let output = std::process::Command::new("sha256sum").arg(&file).output().expect("it is there").stdout;
        String::from_utf8(output).expect("text")[..64].to_owned()
    };
    assert!(recorded.contains(&digest(&script)), "{recorded}");
    // Of equal length, with and without its digest.
    let changed = script.replacen("\n4999\t", "\n4998\t", 1);
    fs::write(&object, &changed).expect("writable");
    let _ = backups.run(&["verify", "nightly", &id]).failed(&["is not whole"]);
    fs::write(&manifest, recorded.replace(&digest(&script), &digest(&changed))).expect("writable");
    let failed =
        backups.run(&["verify", "nightly", &id]).failed(&["the content of `public.plain` is not the recorded one"]);
    assert!(failed.stderr.contains("use another backup"), "{failed}");
    // As an archive it cannot be read.
    fs::write(&object, &script).expect("writable");
    let unmarked = recorded.replace("\"format\":\"plain\",", "").replace("\"format\": \"plain\",", "");
    assert_ne!(unmarked, recorded);
    fs::write(&manifest, unmarked).expect("writable");
    let _ = backups.run(&["verify", "nightly", &id]).failed(&["is no whole dump", "it is a plain SQL dump"]);
    fs::write(&manifest, recorded).expect("writable");
    assert_eq!(backups.verified(), [id]);
}

#[test]
fn an_encrypted_plain_backup_tells_its_content_to_the_holder_of_the_key_alone() {
    let identity = Identity::generate();
    let (backups, database) = backups();
    let backups = backups.job(&format!("encryption: {{recipients: [{}]}}", identity.to_public()));
    let id = backups.make();
    let folder = backups.file("vault/nightly").join(&id);
    let manifest = fs::read_to_string(folder.join("manifest.json")).expect("a manifest");
    assert!(!manifest.contains("public.plain") && manifest.contains("\"plain\""), "{manifest}");
    let stored = fs::read(folder.join(format!("{database}.backup.sql"))).expect("it is there");
    assert!(stored.starts_with(b"age-encryption.org/v1"));
    let _ = backups.run(&["verify", "nightly", &id]).done().says(&["takes a key to verify"]);
    fs::write(backups.file("identity"), identity.to_string().expose_secret()).expect("writable");
    let backups = backups.job_without_lines().job("encryption: {identity-file: identity}");
    let _ = backups.run(&["verify", "nightly", &id]).done().says(&["5,009 rows"]);
}

#[test]
fn a_plain_dump_is_restored_to_verify_it_and_is_not_compressed() {
    let (backups, _) = backups();
    let _ = backups.make();
    let _ = backups.run(&["verify", "nightly", "latest", "--restore"]).done().says(&["with the same rows"]);
    let backups = backups.source("compress", "zstd:3");
    let _ = backups.run(&["config", "check"]).failed(&["`compress` is for archives, and `format` is `plain`"]);
    let backups = backups.source("compress", "").source("format", "sql");
    let _ = backups.run(&["config", "check"]).failed(&["`format` must be `custom` or `plain`"]);
}
