//! `--testPGConnection` and `--testRCConnection`.

use pgmig_core::connection::{self, TargetConfig};
use restore_command::{Failure, OutputFormat, environment, resource_controller, security};
use serde_json::json;

use crate::cli::TestOptions;

pub(crate) async fn run(options: TestOptions) -> Result<(), Failure> {
    let mut results = serde_json::Map::new();
    // Whoever reads only the first line may still ask for the exit status of both tests.
    let mut printed = Ok(());
    if let Some(file) = &options.target {
        let config = TargetConfig::load(file, &environment())?;
        let connection = connection::connect(&config).await?;
        let (version, security) = (connection.server_version, security(&connection));
        let TargetConfig { host, port, database, su_username, .. } = &config;
        if options.output == OutputFormat::Text {
            printed = terminal::print(&format!(
                "PostgreSQL: connected to database `{database}` at {host}:{port} as `{su_username}`, server version {}.{}, {security}\n",
                version / 10_000,
                version % 10_000
            ));
        }
        results.insert(
            "postgresql".into(),
            json!({
                "host": host, "port": port, "database": database, "user": su_username, "server_version": version,
                "encrypted": connection.encrypted, "verified": connection.verified,
            }),
        );
        connection.close().await;
    }
    if let Some(file) = &options.resource_controller {
        let test = resource_controller(file, options.wxo)?.test_connection().await?;
        if options.output == OutputFormat::Text {
            printed = printed.and(terminal::print(&format!("Resource Controller: {test}\n")));
        }
        results.insert("resource_controller".into(), serde_json::to_value(&test)?);
    }
    if options.output == OutputFormat::Json {
        terminal::print_json(&results)?;
    }
    Ok(printed?)
}
