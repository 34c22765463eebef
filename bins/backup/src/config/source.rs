//! What is backed up.

use std::path::PathBuf;

use pgmig_core::config_file::Fault;
use pgmig_core::connection::{SslMode, TargetConfig};
use pgmig_core::profile::Profile;
use storage_backends::DumpFormat;

use super::destination::{Bucket, bucket};
use super::section::Section;

/// What is backed up.
#[derive(Debug)]
pub(crate) enum Source {
    /// Databases of a PostgreSQL server.
    Postgresql(Box<PostgresqlSource>),
    /// A bucket, which `backup mirror` copies.
    Bucket(Box<Bucket>),
}

/// Databases of a PostgreSQL server, dumped by `pg_dump`.
#[derive(Debug)]
pub(crate) struct PostgresqlSource {
    /// How to connect to each of the databases; at least one.
    pub(crate) databases: Vec<TargetConfig>,
    /// The program; looked for in `PATH` if it has no slash.
    pub(crate) pg_dump: PathBuf,
    /// Its counterpart, for backups that are verified by restoring them.
    pub(crate) pg_restore: PathBuf,
    /// Which format `pg_dump` writes; `None` is a custom archive.
    pub(crate) format: Option<DumpFormat>,
    /// What `pg_dump --compress` is given.
    pub(crate) compress: Option<String>,
    /// Where the product that the databases belong to lists its tenants, if it is one that is known.
    pub(crate) profile: Option<Profile>,
}

impl Source {
    pub(super) fn read(section: Section<'_>) -> Result<Self, Vec<Fault>> {
        let (mut section, kind) = section.kind(&["postgresql", "bucket"])?;
        let source = match kind {
            "bucket" => bucket(&mut section).map(Box::new).map(Self::Bucket),
            _ => postgresql(&mut section).map(Box::new).map(Self::Postgresql),
        };
        section.finish(source)
    }
}

fn postgresql(section: &mut Section<'_>) -> Option<PostgresqlSource> {
    let host = section.required_text_at("host");
    let port = section.parsed("port", "a number from 1 to 65535", |text| text.parse().ok().filter(|port| *port > 0));
    let databases = databases(section);
    let username = section.required_text("username");
    let password = section.secret("password");
    let ca_file = section.path("ca-file");
    let sslmode = sslmode(section, ca_file.is_some());
    let pg_dump = section.text("pg-dump").map_or_else(|| "pg_dump".into(), PathBuf::from);
    let pg_restore = section.text("pg-restore").map(PathBuf::from);
    // Beside `pg_dump`, as it is installed.
    let pg_restore = pg_restore.unwrap_or_else(|| pg_dump.with_file_name("pg_restore"));
    let format = section.parsed("format", "`custom` or `plain`", |text| match text {
        "custom" => Some(None),
        "plain" => Some(Some(DumpFormat::Plain)),
        _ => None,
    });
    let compress = compress(section, format.flatten());
    let profile = section
        .parsed("profile", "`watson-assistant`", |name| (name == "watson-assistant").then(Profile::watson_assistant));

    let ((line, host), username) = (host?, username?);
    let config = TargetConfig::new(&host, "", username);
    let config = config.map_err(|fault| section.fault(line, fault.message)).ok()?;
    let config = |database| TargetConfig {
        database,
        port: port.unwrap_or(config.port),
        su_password: password.clone(),
        sslmode: sslmode.unwrap_or(config.sslmode),
        ca_file: ca_file.clone(),
        ..config.clone()
    };
    Some(PostgresqlSource {
        databases: databases?.into_iter().map(config).collect(),
        pg_dump,
        pg_restore,
        format: format.flatten(),
        compress,
        profile,
    })
}

fn compress(section: &mut Section<'_>, format: Option<DumpFormat>) -> Option<String> {
    let (line, text) = section.text_at("compress")?;
    let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b':' | b'=' | b',');
    if format == Some(DumpFormat::Plain) {
        section.fault(line, "`compress` is for archives, and `format` is `plain`");
    } else if !text.bytes().all(fits) {
        section.fault(line, "`compress` must be what `pg_dump --compress` takes, such as `6` or `zstd:3`");
    } else {
        return Some(text);
    }
    None
}

/// One database, or several.
fn databases(section: &mut Section<'_>) -> Option<Vec<String>> {
    let one = section.text_at("database");
    let several = section.texts("databases");
    let databases = match (one, several) {
        (Some(one), None) => vec![one],
        (None, Some(several)) => several,
        (None, None) => {
            section.fault(section.line(), "`database` is missing");
            return None;
        }
        (Some((line, _)), Some(_)) => {
            section.fault(line, "only one of `database` and `databases` can be given");
            return None;
        }
    };
    let mut names: Vec<String> = Vec::new();
    for (line, name) in databases {
        if names.contains(&name) {
            section.fault(line, "`databases` has a name twice");
        } else {
            names.push(name);
        }
    }
    Some(names)
}

/// As `postgres.yaml` has it: when nothing is said, a certificate is verified if there is a CA file.
fn sslmode(section: &mut Section<'_>, has_ca_file: bool) -> Option<SslMode> {
    let Some((line, text)) = section.text_at("sslmode") else {
        return has_ca_file.then_some(SslMode::VerifyCa);
    };
    match text.parse() {
        Ok(SslMode::VerifyCa) if !has_ca_file => {
            section.fault(line, "`sslmode` is `verify-ca` but there is no `ca-file`");
            None
        }
        Ok(mode) => Some(mode),
        Err(error) => {
            section.fault(line, format!("`sslmode` is unknown: {error}"));
            None
        }
    }
}
