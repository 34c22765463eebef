//! The restore through the library, into real servers: what it gives, and that it gives all or nothing.

use std::path::Path;

use pgmig_core::Error;
use pgmig_core::archive::Archive;
use pgmig_core::connection::{self, Environment, TargetConfig};
use pgmig_core::mapping::{Mapping, MappingEntry, ProvisionedInstance};
use pgmig_core::plan::{Plan, PlanOptions};
use pgmig_core::profile::Profile;
use pgmig_core::restore::{Event, Report, Step, restore};
use pgmig_core::target;
use pgmig_tests::awkward::{self, MAPPING, OldRows, Source, Store, Target};
use pgmig_tests::{CutProxy, DumpOptions};

/// The steps of the transaction, in order.
const STEPS: [Step; 10] = [
    Step::Lock,
    Step::Recheck,
    Step::SetAside,
    Step::Erase,
    Step::Load,
    Step::Sequences,
    Step::PutBack,
    Step::Refresh,
    Step::Verify,
    Step::Commit,
];

/// How many rows a target has, those of `schema_info` not counted.
const ALL_ROWS: &str = "
    select sum((xpath('/row/n/text()', query_to_xml(format('select count(*) as n from %s', c.oid::regclass), false, true, '')))[1]::text::int)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and not c.relispartition and n.nspname in ('public', 'Mixed Case') and c.relname <> 'schema_info'";

/// Restores an archive into a target by way of a port.
async fn run(
    archive: &Path,
    target: &Target,
    port: u16,
    mapping: &[(&str, &str)],
    observe: impl FnMut(Event<'_>),
) -> Result<Report, Error> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("postgres.yaml");
    target.server.write_postgres_yaml_via(&file, &target.database, "127.0.0.1", port);
    let config = TargetConfig::load(&file, &Environment::default())?;
    let profile = Profile::load(&awkward::profile())?;

    let mut archive = Archive::open(archive, |_| {})?;
    let tenants = pgmig_core::tenant::in_archive(&mut archive, &profile)?;
    let mut connection = connection::connect(&config).await.expect("the server lets us in");
    let read = target::Target::read(&connection.client, &profile).await?;
    let provisioned = ProvisionedInstance::of_tenants(&read.tenants);
    let id = |text: &str| text.parse().expect("an ID");
    let entries: Vec<_> =
        mapping.iter().map(|(source, target)| MappingEntry { source: id(source), target: id(target) }).collect();
    let mapping = Mapping::resolve(&tenants, &entries, &provisioned, "the target")?;
    let options = PlanOptions::default();
    let plan = Plan::make(&mut archive, &connection.client, &read, &profile, mapping, &options, |_| {}).await?;
    plan.expect_no_strays()?;
    restore(&plan, archive, &mut connection, &config, observe).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_gives_what_pg_restore_and_the_updates_give() {
    for store in [Store::Utf8, Store::Latin1] {
        let source = Source::dump(15, store, &DumpOptions::piped());
        for old_rows in [OldRows::None, OldRows::Some] {
            let target = Target::on(15, store, old_rows);
            let mut steps = Vec::new();
            let port = target.server.port();
            let report = run(&source.archive, &target, port, &MAPPING, |event| {
                if let Event::Step(step) = event {
                    steps.push(step);
                }
            })
            .await
            .unwrap_or_else(|e| panic!("{store:?}, {old_rows:?}: {e}"));
            assert_eq!(steps, STEPS);
            target.assert_restored(&source.expected(store, &MAPPING));
            assert!(report.verification.tables >= 20, "{:?}", report.verification);
            assert_eq!(report.verification.rows.to_string(), target.psql(ALL_ROWS), "{store:?}, {old_rows:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_in_any_step_leaves_the_target_as_it_was() {
    let source = Source::dump(15, Store::Utf8, &DumpOptions::seekable());
    let target = Target::on(15, Store::Utf8, OldRows::Some);
    for step in STEPS {
        let proxy = CutProxy::start(target.server.port());
        let cut_at = |event: Event<'_>| {
            if event == Event::Step(step) {
                proxy.cut();
            }
        };
        let error = run(&source.archive, &target, proxy.port(), &MAPPING, cut_at).await.expect_err("it was cut");
        assert!(error.hint().is_some(), "{step:?}: {error}");
        target.assert_unchanged();
    }
    // nothing is left locked
    let port = target.server.port();
    run(&source.archive, &target, port, &MAPPING, |_| {}).await.expect("the way is free");
    target.assert_restored(&source.expected(Store::Utf8, &MAPPING));
}
