//! Data whose owners are not listed anywhere, as that of Watson Speech: remapped by the pairs of a mapping, offline and on its
//! way into a new database.

use std::fs::File;
use std::path::Path;

use dumpfmt::WriteOptions;
use pgmig_core::archive::Archive;
use pgmig_core::mapping::{MappingEntry, MappingFile};
use pgmig_core::offline::{OfflineRemap, RemapReport};
use pgmig_core::profile::Profile;
use pgmig_tests::{DumpOptions, Fingerprint, Server, fixture};

/// An owner of customizations and of jobs, one of each, and who they become.
const BOTH: (&str, &str) = ("e10001eb-6272-453a-bb43-3dcf0e765892", "00000000-0000-0000-1764-035503433645");
const CUSTOMIZATIONS: (&str, &str) = ("11111111-2222-3333-4444-555555555555", "00000000-0000-0000-1764-035503433646");
const JOBS: (&str, &str) = ("user-of-old", "user-of-new");

/// A database of Watson Speech and what the product's documentation does to its owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Customization,
    Async,
}
use Kind::{Async, Customization};

impl Kind {
    /// Makes the database.
    fn create(self, server: &Server, database: &str) {
        server.create_database(database, "UTF8");
        let file = if self == Customization { "speech-customization.sql" } else { "speech-async.sql" };
        server.psql_file(database, &fixture(file), &[]);
    }

    fn pairs(self) -> [(&'static str, &'static str); 2] {
        if self == Customization { [BOTH, CUSTOMIZATIONS] } else { [BOTH, JOBS] }
    }

    /// Does the documented UPDATEs.
    fn update(self, server: &Server, database: &str) {
        for (source, target) in self.pairs() {
            let updates = if self == Customization {
                format!("UPDATE customizations SET owner = '{target}'::uuid WHERE owner = '{source}'::uuid;")
            } else {
                format!(
                    "UPDATE notification_urls SET username = '{target}' WHERE username = '{source}';
                     UPDATE notification_urls SET instance_id = '{target}' WHERE instance_id = '{source}';
                     UPDATE jobs SET username = '{target}' WHERE username = '{source}';"
                )
            };
            server.psql(database, &updates);
        }
    }
}

fn mapping(pairs: &[(&str, &str)]) -> MappingFile {
    let id = |text: &str| text.parse().expect("an ID");
    let entries = pairs.iter().map(|(source, target)| MappingEntry { source: id(source), target: id(target) });
    MappingFile::new(entries.collect()).expect("the pairs are right")
}

fn remap_offline(archive: &Path, pairs: &[(&str, &str)], new: &Path) -> Result<RemapReport, pgmig_core::Error> {
    let mapping = mapping(pairs);
    let profile = Profile::watson_speech();
    let mut archive = Archive::open(archive, |_| {})?;
    let options = WriteOptions::like(archive.header());
    let remap = OfflineRemap::new(&profile, &mapping);
    let ((), report) = remap.archive(&mut archive, options, &mut |rewrite, source| {
        let (_, report) = rewrite.to_pipe(source, File::create(new).expect("a new file"), |_| {})?;
        Ok(((), report))
    })?;
    Ok(report)
}

#[test]
fn an_archive_without_tenants_is_remapped_as_the_documented_updates_do() {
    let server = Server::shared(15);
    let folder = tempfile::tempdir().expect("a temporary folder");
    for kind in [Customization, Async] {
        let (source, target) = (format!("speech-offline-{kind:?}"), format!("speech-offline-{kind:?}-new"));
        kind.create(server, &source);
        let archive = server.tools().dump(server, &source, &DumpOptions::piped());
        let new = folder.path().join(format!("{kind:?}.dump"));
        let report = remap_offline(&archive, &kind.pairs(), &new).expect("it is remapped");
        report.expect_no_strays().expect("there are none");
        let found = report.pair_use.as_ref().expect("no tenants are listed");
        assert!(found.warnings().is_empty(), "{found:?}");
        // Owners that nobody maps stay, and are told.
        let unknown: Vec<_> = report.unknown_ids.iter().map(|unknown| unknown.column.to_string()).collect();
        let expected: &[&str] = match kind {
            Customization => &["public.customizations.owner"],
            Async => &["public.jobs.username", "public.notification_urls.username", "public.notification_urls.instance_id"],
        };
        assert_eq!(unknown, expected);

        server.create_database(&target, "UTF8");
        server.tools().restore(server, &target, &new, &[]);
        kind.update(server, &source);
        Fingerprint::of(server, &source).assert_same(&Fingerprint::of(server, &target));
    }
}

#[test]
fn a_mapping_that_meets_nothing_or_somebody_is_told() {
    let server = Server::shared(15);
    let folder = tempfile::tempdir().expect("a temporary folder");
    Async.create(server, "speech-odd-mapping");
    let archive = server.tools().dump(server, "speech-odd-mapping", &DumpOptions::piped());
    let pairs = [("mistyped", "x"), ("user-of-old", "somebody-else")];
    let report = remap_offline(&archive, &pairs, &folder.path().join("new.dump")).expect("it is remapped");
    let found = report.pair_use.expect("no tenants are listed");
    assert_eq!(found.sources_not_found, ["mistyped".parse().expect("an ID")]);
    let [in_use] = found.targets_in_use.as_slice() else { panic!("{found:?}") };
    let count = server.psql("speech-odd-mapping", "select count(*) from jobs where username = 'somebody-else'");
    assert_eq!((in_use.id.as_str(), in_use.values.to_string()), ("somebody-else", count));

    // Such a profile is none for a restore into an existing database.
    let mut archive = Archive::open(&archive, |_| {}).expect("an archive");
    let error = pgmig_core::tenant::in_archive(&mut archive, &Profile::watson_speech()).expect_err("no tenants");
    assert!(error.to_string().contains("`watson-speech` names no table that lists tenants"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("a new one")), "{:?}", error.hint());
}

#[test]
fn a_column_of_a_profile_that_is_missing_or_elsewhere_is_refused() {
    let server = Server::shared(15);
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (number, (sql, expected)) in [
        ("create table jobs (id text, user_name text)", "names `public.jobs.username`, which is not there"),
        ("create schema async; create table async.jobs (username text)", "but there is `async.jobs`"),
        ("create table jobs (username integer)", "`public.jobs.username`, which the profile names, is of a type"),
    ]
    .into_iter()
    .enumerate()
    {
        let database = format!("speech-column-{number}");
        server.create_database(&database, "UTF8");
        server.psql(&database, sql);
        let archive = server.tools().dump(server, &database, &DumpOptions::piped());
        let error = remap_offline(&archive, &[JOBS], &folder.path().join("new.dump")).expect_err("it does not fit");
        assert!(error.to_string().contains(expected), "{error}");
    }
}
