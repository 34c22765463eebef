//! Watson Speech from one installation to another: three databases and three buckets, as one backup; and buckets alone.

use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::Instant;

use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use pgmig_tests::backup::program;
use pgmig_tests::pgmig::Run;
use pgmig_tests::s3::S3Server;
use pgmig_tests::{Fingerprint, PgTools, Server, wait_until};
use serde_json::Value;
use storage_backends::Backend as _;
use storage_backends::mirror::{self, Side};
use storage_backends::s3::{S3, S3Config};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

/// Instances of the old installation, and the ones of the new that take their data.
const MAPPING: [(&str, &str); 2] = [
    ("00000000-0000-0000-1625-000000000001", "00000000-0000-0000-1700-00000000000a"),
    ("00000000-0000-0000-1625-000000000002", "00000000-0000-0000-1700-00000000000b"),
];
/// Belongs to nobody whom the mapping names.
const OTHER: &str = "00000000-0000-0000-1625-000000000009";

const CUSTOMIZATIONS: &str = "
    create type state as enum ('pending', 'ready', 'available');
    create table customizations (customization_id uuid primary key, owner uuid not null, name text not null,
        language text not null, state state not null default 'pending', created timestamptz not null);
    create table words (customization_id uuid not null references customizations on delete cascade, word text not null,
        sounds_like text[], primary key (customization_id, word));
    create index customizations_owner on customizations (owner);
    create view ready as select owner, count(*) from customizations where state = 'ready' group by owner;
    insert into customizations select ('aaaaaaaa-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, owner, 'model ' || n,
        'en-US', 'ready', '2026-01-01'::timestamptz + n * interval '1 hour'
        from generate_series(1, 300) n
        join lateral (select (array['OWNERS'])[n % 3 + 1]::uuid as owner) o on true;
    insert into words select customization_id, 'word ' || n, array['a', E'b\\tc\\\\', null] from customizations, generate_series(1, 20) n;";
const ASYNC: &str = "
    create table jobs (id uuid primary key, username text not null, state text, result bytea);
    create table notification_urls (id bigint generated always as identity primary key, url text not null, username text,
        instance_id text, secret text);
    insert into jobs select ('bbbbbbbb-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, (array['OWNERS'])[n % 3 + 1], 'done',
        decode(md5(n::text), 'hex') from generate_series(1, 500) n;
    insert into notification_urls (url, username, instance_id) select 'https://example.com/' || n, (array['OWNERS'])[n % 3 + 1],
        (array['OWNERS'])[(n + 1) % 3 + 1] from generate_series(1, 9) n;";

const DATABASES: [(&str, &str); 3] =
    [("stt-customization", CUSTOMIZATIONS), ("tts-customization", CUSTOMIZATIONS), ("stt-async", ASYNC)];
const BUCKETS: [&str; 3] = ["stt-customization-icp", "stt-async-icp", "speech-service-base-models"];

/// What the documents have to be done after a restore, for every pair.
fn updates(database: &str) -> String {
    let mut sql = String::new();
    for (source, target) in MAPPING {
        if database == "stt-async" {
            write!(
                sql,
                "update notification_urls set username = '{target}' where username = '{source}';
                 update notification_urls set instance_id = '{target}' where instance_id = '{source}';
                 update jobs set username = '{target}' where username = '{source}';"
            )
            .unwrap();
        } else {
            write!(sql, "update customizations set owner = '{target}'::uuid where owner = '{source}'::uuid;").unwrap();
        }
    }
    sql
}

/// The old and the new installation. Their databases and buckets have names that nobody chooses, so one test at a time has them.
struct Installations {
    folder: TempDir,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::const_new(());
static NEW_STORE: LazyLock<S3Server> = LazyLock::new(S3Server::start);

static OLD_SERVER: LazyLock<Server> = LazyLock::new(|| Server::start(&PgTools::major(15)));
static NEW_SERVER: LazyLock<Server> = LazyLock::new(|| Server::start(&PgTools::major(17)));

fn old_server() -> &'static Server {
    &OLD_SERVER
}

fn new_server() -> &'static Server {
    &NEW_SERVER
}

fn bucket(store: &S3Server, name: &str) -> S3Config {
    let mut config = store.config("unused");
    name.clone_into(&mut config.bucket);
    config
}

async fn remove_buckets(store: &S3Server) {
    let client = store.client();
    for name in BUCKETS {
        let Ok(listed) = client.list_object_versions().bucket(name).send().await else { continue };
        let versions = listed.versions().iter().map(|version| (version.key(), version.version_id()));
        let markers = listed.delete_markers().iter().map(|marker| (marker.key(), marker.version_id()));
        for (key, version) in versions.chain(markers) {
            let delete = client
                .delete_object()
                .bucket(name)
                .set_key(key.map(Into::into))
                .set_version_id(version.map(Into::into));
            delete.send().await.expect("it may be removed");
        }
        client.delete_bucket().bucket(name).send().await.expect("it is empty");
    }
}

impl Installations {
    async fn new(databases: &[&str], buckets: &[&str]) -> Self {
        let alone = ALONE.lock().await;
        for server in [old_server(), new_server()] {
            for name in server
                .psql("postgres", "select datname from pg_database where datname ~ '^(stt|tts|pgmig_restore)'")
                .lines()
            {
                server.drop_database(name);
            }
        }
        remove_buckets(S3Server::shared()).await;
        remove_buckets(&NEW_STORE).await;
        let owners = [MAPPING[0].0, MAPPING[1].0, OTHER].join("', '");
        for (name, sql) in DATABASES.iter().filter(|(name, _)| databases.contains(name)) {
            old_server().create_database(name, "UTF8");
            old_server().psql(name, &sql.replace("OWNERS", &owners));
        }
        for name in buckets {
            let store = S3::connect_or_create(bucket(S3Server::shared(), name)).await.expect("it is made");
            for (key, bytes) in [("models/a/model.bin", 3 << 20), ("models/b", 17), ("empty", 0)] {
                let content = vec![u8::try_from(key.len()).unwrap(); bytes];
                store.put_if_absent(&key.parse().unwrap(), content.into()).await.expect("it is stored");
            }
            let client = S3Server::shared().client();
            let put = client.put_object().bucket(*name).key("odd/ key ü").body(b"odd".to_vec().into());
            put.content_type("audio/wav")
                .metadata("owner", "nobody")
                .tagging("kind=test")
                .send()
                .await
                .expect("it is stored");
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("vault")).unwrap();
        let installations = Self { folder, _alone: alone };
        installations.configure("");
        let mapping: String = MAPPING.iter().map(|(source, target)| format!("  {source}: {target}\n")).collect();
        fs::write(installations.folder.path().join("mapping.yaml"), format!("instance-mappings:\n{mapping}")).unwrap();
        installations
    }

    async fn whole() -> Self {
        Self::new(&DATABASES.map(|(name, _)| name), &BUCKETS).await
    }

    /// Writes the configuration, with more lines for the source.
    fn configure(&self, more: &str) {
        let source = |server: &Server, store: &S3Server| {
            format!(
                "{{type: watson-speech, host: {}, port: {}, username: {}, password: {}, pg-dump: {}, {more}\n    minio: {{endpoint: \
                 \"{}\", access-key: {}, secret-key: {}}}}}",
                server.host(),
                server.port(),
                server.user(),
                server.password(),
                new_server().tools().program("pg_dump").display(),
                store.endpoint(),
                store.access_key(),
                store.secret_key()
            )
        };
        let yaml = format!(
            "sources:\n  old: {}\n  new: {}\ndestinations:\n  vault: {{type: local, path: vault}}\njobs:\n  speech: {{source: old, \
             destination: vault}}\n",
            source(old_server(), S3Server::shared()),
            source(new_server(), &NEW_STORE)
        );
        fs::write(self.folder.path().join("backup.yaml"), yaml).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Run {
        Run::of(&mut self.command(arguments))
    }

    fn json(&self, arguments: &[&str]) -> Value {
        self.run(&[arguments, &["--output", "json"]].concat()).done().json()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_of_an_installation_is_one_verified_backup() {
    let installations = Installations::whole().await;
    let ran = installations.run(&["run", "speech"]).done();
    let _ = ran.says(&["verified, 13,109 rows in 6 tables, 12 objects in 3 buckets"]);
    let shown = installations.json(&["show", "speech", "latest"]);
    let objects = shown["manifest"]["objects"].as_array().unwrap();
    let names: Vec<_> = objects.iter().map(|object| object["name"].as_str().unwrap()).collect();
    let expected = [
        "stt-customization.dump",
        "tts-customization.dump",
        "stt-async.dump",
        "stt-customization-icp.tar",
        "stt-async-icp.tar",
        "speech-service-base-models.tar",
    ];
    assert_eq!(names, expected);
    let _ = installations.run(&["verify", "speech", "latest"]).done().says(&["12 objects in 3 buckets"]);
    let listed = installations.json(&["list", "speech"]);
    assert_eq!(listed["jobs"][0]["backups"][0]["objects"], 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_installed_is_told_and_left_out_unless_it_has_to_be_there() {
    let installations = Installations::new(&["stt-async"], &["stt-async-icp"]).await;
    let _ = installations.run(&["run", "speech"]).done().says(&[
        "the database `tts-customization` is not there: that component is not installed",
        "the bucket `speech-service-base-models` is not there",
        "verified, 509 rows in 2 tables, 4 objects in 1 bucket",
    ]);
    let shown = installations.json(&["show", "speech", "latest"]);
    let note = shown["manifest"]["consistency"].as_str().unwrap();
    assert!(note.contains("not there: the database `stt-customization`, the database `tts-customization`"), "{note}");

    installations.configure("components: [sttAsync, ttsCustomization],");
    let _ = installations.run(&["run", "speech"]).failed(&["tts-customization", "does not exist"]);
    installations.configure("components: [sttAsync],");
    let _ = installations.run(&["run", "speech"]).done();
    installations.configure("components: [tts],");
    let _ = installations
        .run(&["config", "check"])
        .failed(&["`components` has one that is not known; there are `sttCustomization`"]);
    drop(installations);

    let installations = Installations::new(&[], &[]).await;
    let _ = installations.run(&["run", "speech"]).failed(&["nothing of the source is there"]);
    assert_eq!(installations.json(&["list", "speech"])["jobs"][0]["backups"].as_array().unwrap().len(), 0);
}

impl Installations {
    fn restore(&self, more: &[&str]) -> Run {
        self.run(&[&["restore", "speech", "latest", "--into", "new"], more].concat())
    }

    /// Panics unless the databases of the new installation are those of the old one after the documented updates.
    #[track_caller]
    fn assert_databases(&self, sql: fn(&str) -> String) {
        for (name, _) in DATABASES {
            let updated = format!("updated {name}");
            old_server().psql("postgres", &format!("drop database if exists \"{updated}\""));
            old_server().psql("postgres", &format!("create database \"{updated}\" template \"{name}\""));
            old_server().psql(&updated, &sql(name));
            let expected = Fingerprint::of(old_server(), &updated).data();
            expected.assert_same(&Fingerprint::of(new_server(), name).data());
            old_server().drop_database(&updated);
        }
    }

    async fn assert_buckets(&self) {
        for name in BUCKETS {
            let side =
                |store| async move { Side::Bucket(S3::connect(bucket(store, name)).await.expect("it is there")) };
            let (old, new) = (side(S3Server::shared()).await, side(&NEW_STORE).await);
            let report = mirror::verify(&old, &new, 4).await.expect("both can be read");
            assert!(report.is_same() && report.same.objects == 4, "{name}: {report:?}");
        }
    }
}

/// The databases of the new installation that are the product's, or are to become so.
fn databases() -> Vec<String> {
    let sql = "select datname from pg_database where datname ~ '^(stt|tts|pgmig_restore)' order by 1";
    new_server().psql("postgres", sql).lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_is_restored_into_another_one_with_the_owners_of_that() {
    let installations = Installations::whole().await;
    let _ = installations.run(&["run", "speech"]).done();

    let _ = installations.restore(&[]).failed(&["belongs to service instances", "--mapping", "--same-ids"]);
    let _ = installations.restore(&["--mapping", "mapping.yaml", "--dry-run"]).done().says(&[
        "stt-async.dump",
        "database stt-async",
        "509 rows",
        "bucket speech-service-base-models",
        "nothing was changed",
    ]);
    assert_eq!(databases(), [""; 0]);

    let restored = installations.restore(&["--mapping", "mapping.yaml", "--output", "json"]).done().json();
    installations.assert_databases(updates);
    installations.assert_buckets().await;
    let remap = &restored["databases"][0]["remap"];
    assert_eq!(remap["unknown_ids"][0]["example"], OTHER, "{remap}");
    assert_eq!(restored["buckets"][0]["archive"]["objects"], 4);

    // What is there now is not touched unless somebody says so, and is kept then.
    let before = databases();
    let _ = installations.restore(&["--same-ids"]).failed(&[
        "the target has the database `stt-customization`",
        "objects in the bucket `stt-async-icp`",
        "--force",
    ]);
    let planned = installations.restore(&["--same-ids", "--dry-run"]).done();
    let refused = "without `--force` this would be refused: the target has the database `stt-customization`";
    assert!(planned.stderr.contains(refused), "{planned}");
    assert_eq!(databases(), before);
    let _ = installations.restore(&["--same-ids", "--force"]).done().says(&[
        "the database that was `stt-async` is `stt-async_before_",
        "is the backup",
        "of `speech.before-restore`",
    ]);
    installations.assert_databases(|_| String::new());
    installations.assert_buckets().await;
    assert_eq!(databases().len(), 6);
    let _ = installations.run(&["verify", "speech.before-restore", "latest"]).done().says(&["12 objects in 3 buckets"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plain_dumps_of_the_documents_are_restored_the_same_way() {
    let installations = Installations::new(&DATABASES.map(|(name, _)| name), &[]).await;
    installations.configure("format: plain,");
    let _ = installations.run(&["run", "speech"]).done().says(&["verified, 13,109 rows in 6 tables"]);
    let _ = installations
        .run(&["fetch", "speech", "latest", "--object", "stt-async.backup.sql", "--to", "stt-async.sql"])
        .done();
    let _ = installations.run(&["verify", "speech", "latest", "--restore"]).done();
    let restored = installations.restore(&["--mapping", "mapping.yaml"]).done();
    installations.assert_databases(updates);
    let _ =
        restored.says(&["public.customizations.owner has 100 values that the mapping does not name, such as", OTHER]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_the_mapping_with_a_slip_is_found_before_any_database_has_its_name() {
    let installations = Installations::whole().await;
    let _ = installations.run(&["run", "speech"]).done();
    let slip = MAPPING[0].0.replace("1625", "1652");
    let text = format!("instance-mappings:\n  {slip}: {}\n  {}: {}\n", MAPPING[0].1, MAPPING[1].0, MAPPING[1].1);
    fs::write(installations.folder.path().join("mapping.yaml"), text).unwrap();
    let failed = installations.restore(&["--mapping", "mapping.yaml"]);
    let _ = failed.failed(&[&slip, "owns nothing in this backup", "does not have all that do"]);
    assert_eq!(databases(), [""; 0]);
    let _ = installations.restore(&["--mapping", "mapping.yaml", "--ignore-strays"]).done();
    assert_eq!(databases().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_damaged_gives_no_database() {
    let installations = Installations::whole().await;
    let _ = installations.run(&["run", "speech"]).done();
    let id = installations.json(&["show", "speech", "latest"])["manifest"]["id"].as_str().unwrap().to_owned();
    let folder = installations.folder.path().join("vault/speech").join(id);
    for object in ["stt-async.dump", "speech-service-base-models.tar"] {
        let path = folder.join(object);
        let whole = fs::read(&path).unwrap();
        // What is cut is no backup in any list; what was changed is found when it is read.
        for (damage, why) in [
            (whole[..whole.len() - 3].to_vec(), "the job `speech` has no verified backup"),
            ([&whole[..whole.len() / 2], b"?", &whole[whole.len() / 2 + 1..]].concat(), "no database has got its name"),
        ] {
            fs::write(&path, damage).unwrap();
            let _ = installations.restore(&["--mapping", "mapping.yaml", "--force"]).failed(&[why]);
            assert_eq!(databases(), [""; 0]);
        }
        fs::write(&path, whole).unwrap();
    }
    // And it goes on from there.
    let _ = installations.restore(&["--mapping", "mapping.yaml", "--force"]).done();
    installations.assert_databases(updates);
    installations.assert_buckets().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes long: `make test` runs it"]
async fn a_restore_that_is_killed_leaves_all_databases_or_none_and_the_next_one_goes_on() {
    let installations = Installations::whole().await;
    let _ = installations.run(&["run", "speech"]).done();
    let arguments = [
        "restore",
        "speech",
        "latest",
        "--into",
        "new",
        "--mapping",
        "mapping.yaml",
        "--force",
        "--no-backup-of-target",
    ];
    let begun = Instant::now();
    let _ = installations.run(&arguments).done();
    let whole = begun.elapsed();
    for step in 0..8 {
        for name in databases() {
            new_server().drop_database(&name);
        }
        remove_buckets(&NEW_STORE).await;
        let mut child = installations.command(&arguments).spawn().unwrap();
        thread::sleep(whole * (2 * step + 1) / 16);
        child.kill().unwrap();
        child.wait().unwrap();
        // The server notices by and by.
        let named: Vec<_> = databases().into_iter().filter(|name| !name.starts_with("pgmig_restore_")).collect();
        assert!(matches!(named.len(), 0 | 3), "{named:?}");
        if named.is_empty() {
            let _ = installations.run(&arguments).done();
        }
        installations.assert_databases(updates);
        installations.assert_buckets().await;
    }
    wait_until("the next restores have dropped what was left", || {
        let _ = installations
            .run(&["restore", "speech", "latest", "--into", "new", "--same-ids", "--force", "--no-backup-of-target"])
            .done();
        databases().iter().all(|name| !name.starts_with("pgmig_restore_"))
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_an_installation_is_in_what_is_said_or_stored() {
    let installations = Installations::whole().await;
    let mut said = installations.run(&["run", "speech"]).done().to_string();
    said += &installations.restore(&["--mapping", "mapping.yaml", "--output", "json"]).done().to_string();
    said += &installations.restore(&["--mapping", "mapping.yaml"]).failed(&[]).to_string();
    let id = installations.json(&["show", "speech", "latest"])["manifest"]["id"].as_str().unwrap().to_owned();
    said += &fs::read_to_string(installations.folder.path().join(format!("vault/speech/{id}/manifest.json"))).unwrap();
    for secret in [old_server().password(), NEW_STORE.secret_key()] {
        assert!(!said.contains(secret), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_alone_is_a_source_too_and_its_versions_if_asked_for() {
    let installations = Installations::new(&[], &BUCKETS[..1]).await;
    let client = S3Server::shared().client();
    let versioning = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    client.put_bucket_versioning().bucket(BUCKETS[0]).versioning_configuration(versioning).send().await.unwrap();
    client.put_object().bucket(BUCKETS[0]).key("models/b").body(b"a newer one".to_vec().into()).send().await.unwrap();
    let yaml = fs::read_to_string(installations.folder.path().join("backup.yaml")).unwrap();
    let store = S3Server::shared();
    let source = |name: &str, bucket: &str, store: &S3Server, more: &str| {
        format!(
            "  {name}: {{type: bucket, endpoint: \"{}\", bucket: {bucket}, access-key: {}, secret-key: {}{more}}}\n",
            store.endpoint(),
            store.access_key(),
            store.secret_key()
        )
    };
    let sources = source("models", BUCKETS[0], store, "")
        + &source("history", BUCKETS[0], store, ", versions: true")
        + &source("copy", "stt-async-icp", &NEW_STORE, "")
        + &source("other", "speech-service-base-models", &NEW_STORE, "");
    let yaml = yaml.replace("destinations:", &format!("{sources}destinations:"))
        + "  models: {source: models, destination: vault}\n  history: {source: history, destination: vault}\n";
    fs::write(installations.folder.path().join("backup.yaml"), yaml).unwrap();

    // Of two runs at the same time the second is refused, whichever that is.
    let runs = ["models", "history"].map(|job| installations.command(&["run", job]).spawn().unwrap());
    let ends = runs.map(|run| Run::from(run.wait_with_output().unwrap()));
    assert!(ends.iter().all(|run| matches!(run.status.code(), Some(0 | 4))), "{} {}", ends[0], ends[1]);
    assert!(ends.iter().any(|run| run.status.success()), "{} {}", ends[0], ends[1]);
    let _ = installations.run(&["run", "models"]).done().says(&["verified, 4 objects in 1 bucket"]);
    let _ = installations.run(&["run", "history"]).done().says(&["verified, 5 objects in 1 bucket"]);
    for job in ["models", "history"] {
        let _ = installations.run(&["verify", job, "latest"]).done();
    }
    let _ = installations.run(&["restore", "models", "latest", "--into", "copy"]).done();
    let side = |store, name| async move { Side::Bucket(S3::connect(bucket(store, name)).await.expect("it is there")) };
    let (old, new) = (side(store, BUCKETS[0]).await, side(&NEW_STORE, "stt-async-icp").await);
    assert!(mirror::verify(&old, &new, 4).await.unwrap().is_same());

    // What only the bucket has stays, and is told.
    let new_store = NEW_STORE.client();
    new_store.put_object().bucket("stt-async-icp").key("more").body(b"1234".to_vec().into()).send().await.unwrap();
    let restore = ["restore", "models", "latest", "--into", "copy", "--force", "--no-backup-of-target"];
    let restored = installations.run(&restore).done();
    let _ = restored.says(&["also has 1 object that the backup does not have; they stay", "4 objects"]);
    let bucket = &installations.json(&restore)["buckets"][0];
    let counts = ["stored", "skipped", "found", "surplus"].map(|what| bucket[what]["objects"].as_u64().unwrap());
    assert_eq!((counts, &bucket["surplus"]["bytes"]), ([0, 4, 4, 1], &4.into()), "{bucket}");

    // A history is not added to objects that would be replaced, goes on where it was, and is not mixed with another one.
    let restore = |into| ["restore", "history", "latest", "--into", into, "--force", "--no-backup-of-target"];
    let _ = installations.run(&restore("copy")).failed(&["does not keep versions", "restore into an empty one"]);
    let _ = installations.run(&restore("other")).done().says(&["5 versions"]);
    let bucket = &installations.json(&restore("other"))["buckets"][0];
    let counts = ["stored", "skipped", "found", "surplus"].map(|what| bucket[what]["objects"].as_u64().unwrap());
    assert_eq!(counts, [0, 5, 5, 0], "{bucket}");
    let put = new_store.put_object().bucket("speech-service-base-models").key("models/b");
    put.body(b"one of somebody else".to_vec().into()).send().await.unwrap();
    let _ =
        installations.run(&restore("other")).failed(&["not the beginning of those in the archive", "an empty bucket"]);
    let _ = installations.run(&["verify", "models", "latest", "--restore"]).failed(&["has no database to be restored"]);
}
