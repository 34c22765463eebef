//! What the environment says of connections.

use std::path::{Path, PathBuf};

use pgmig_core::connection::{Connection, Environment};
use pgmig_core::resource_controller::{ClientOptions, InstanceKind, ResourceController, ResourceControllerConfig};
use pgmig_core::tls::CaSource;

use crate::failure::Failure;

/// What the environment says of the connection to PostgreSQL.
#[must_use]
pub fn environment() -> Environment {
    let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    Environment {
        ca_file: std::env::var_os("PG_CA_FILE").filter(|value| !value.is_empty()).map(PathBuf::from),
        sslmode: text("PGSSLMODE"),
        password: text("PGPASSWORD").map(Into::into),
    }
}

/// Whether `ENABLE_ICP` is set to one of the words that the original, a Go
/// program, takes for true.
#[must_use]
pub fn icp_enabled() -> bool {
    matches!(std::env::var("ENABLE_ICP").as_deref(), Ok("1" | "t" | "T" | "true" | "TRUE" | "True"))
}

/// How safe a connection is, for people.
#[must_use]
pub fn security(connection: &Connection) -> &'static str {
    match (connection.encrypted, connection.verified) {
        (true, true) => "encrypted, certificate verified",
        (true, false) => "encrypted, certificate not verified",
        (false, _) => "not encrypted",
    }
}

/// The client for the configuration of a Resource Controller in `file`.
///
/// # Errors
///
/// The configuration or the CA file cannot be used.
pub fn resource_controller(file: &Path, wxo: bool) -> Result<ResourceController, Failure> {
    let config = ResourceControllerConfig::load(file)?;
    // In such an installation one CA signs for all services.
    let extra_ca = environment().ca_file.filter(|_| icp_enabled()).map(CaSource::File);
    let kind = wxo.then_some(InstanceKind::Orchestrate);
    Ok(ResourceController::new(config, ClientOptions { extra_ca, kind, ..ClientOptions::default() })?)
}
