//! What pgmig-core does with all rows of an archive before it changes anything: `inspect`, which
//! finds the IDs in the ID columns, and the making of a plan, which searches all the rest for
//! strays besides. The second talks to a server for a moment.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgmig_benches::{archives, mapping, provision};
use pgmig_core::archive::Archive;
use pgmig_core::connection::{self, Connection, Environment, TargetConfig};
use pgmig_core::inspect::inspect;
use pgmig_core::mapping::{Mapping, MappingEntry, ProvisionedInstance};
use pgmig_core::plan::{Plan, PlanOptions};
use pgmig_core::profile::Profile;
use pgmig_core::target::Target;
use pgmig_core::tenant;
use pgmig_tests::{Compression, PgTools, Server};

const WARM_UP: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_secs(3);
const MAJOR: u32 = 15;

fn survey(c: &mut Criterion) {
    let files = archives(MAJOR, 1, &[Compression::None]).expect("the archive is there");
    let [file] = &files[..] else { unreachable!("one file for each compression") };
    let profile = Profile::watson_assistant();
    let rows = inspect(&mut open(file), &profile, |_| {}).expect("the archive is whole");
    let mut group = c.benchmark_group("survey");
    group
        .sample_size(10)
        .warm_up_time(WARM_UP)
        .measurement_time(MEASURED)
        .throughput(Throughput::Bytes(rows.tables.iter().map(|table| table.bytes).sum()));

    let mut archive = open(file);
    group.bench_function("inspect", |b| {
        b.iter(|| black_box(inspect(&mut archive, &profile, |_| {}).expect("the archive is whole")));
    });

    let server = Server::start(&PgTools::major(MAJOR));
    let provisioned = provision(&server, "target");
    let pairs = mapping(&server, file, provisioned.name()).expect("the names are the same");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let connection = runtime.block_on(connect(&server, provisioned.name()));
    group.bench_function("plan", |b| {
        b.iter(|| black_box(runtime.block_on(plan(&mut archive, &connection, &profile, &pairs))));
    });
}

fn open(file: &Path) -> Archive {
    Archive::open(file, |_| {}).expect("the archive is whole")
}

async fn connect(server: &Server, database: &str) -> Connection {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("postgres.yaml");
    server.write_postgres_yaml(&file, database);
    let config = TargetConfig::load(&file, &Environment::default()).expect("the configuration is right");
    connection::connect(&config).await.expect("the server lets us in")
}

async fn plan(archive: &mut Archive, connection: &Connection, profile: &Profile, pairs: &[(String, String)]) -> Plan {
    let tenants = tenant::in_archive(archive, profile).expect("the archive has tenants");
    let target = Target::read(&connection.client, profile).await.expect("the target can be read");
    let provisioned = ProvisionedInstance::of_tenants(&target.tenants);
    let id = |text: &String| text.parse().expect("an ID");
    let entries: Vec<_> =
        pairs.iter().map(|(source, target)| MappingEntry { source: id(source), target: id(target) }).collect();
    let mapping = Mapping::resolve(&tenants, &entries, &provisioned, "the target").expect("the mapping is right");
    let options = PlanOptions::default();
    Plan::make(archive, &connection.client, &target, profile, mapping, &options, |_| {}).await.expect("a plan")
}

criterion_group!(benches, survey);
criterion_main!(benches);
