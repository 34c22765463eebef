//! What is backed up.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pgmig_core::config_file::Fault;
use pgmig_core::connection::{self, SslMode, TargetConfig};
use pgmig_core::profile::Profile;
use storage_backends::ObjectFormat;

use super::destination::{Bucket, bucket};
use super::section::Section;
use super::watson_speech::watson_speech;
use crate::failure::Failure;

/// What is backed up.
#[derive(Debug)]
pub(crate) enum Source {
    /// Databases of a PostgreSQL server.
    Postgresql(Box<PostgresqlSource>),
    /// A bucket.
    Bucket(Box<Bucket>),
    /// The databases and buckets of Watson Speech.
    WatsonSpeech(Box<Parts>),
}

/// What a backup is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    /// Databases of one server.
    pub(crate) databases: Option<PostgresqlSource>,
    /// Buckets.
    pub(crate) buckets: Vec<Bucket>,
    /// Which columns have service instances as owners, where the databases list none.
    pub(crate) owners: Option<Profile>,
    /// Whether a part that is not there is told and left out, since not everything of a product has to be installed.
    pub(crate) may_be_absent: bool,
}

impl From<Source> for Parts {
    fn from(source: Source) -> Self {
        match source {
            Source::Postgresql(source) => {
                Self { databases: Some(*source), buckets: Vec::new(), owners: None, may_be_absent: false }
            }
            Source::Bucket(bucket) => {
                Self { databases: None, buckets: vec![*bucket], owners: None, may_be_absent: false }
            }
            Source::WatsonSpeech(parts) => *parts,
        }
    }
}

/// Databases of a PostgreSQL server, dumped by `pg_dump`.
#[derive(Debug)]
pub(crate) struct PostgresqlSource {
    /// How to connect to each of the databases; at least one.
    pub(crate) databases: Vec<TargetConfig>,
    /// The program.
    pub(crate) pg_dump: PgDump,
    /// Which format `pg_dump` writes: an archive or a script.
    pub(crate) format: ObjectFormat,
    /// What `pg_dump --compress` is given.
    pub(crate) compress: Option<String>,
    /// Where the product that the databases belong to lists its tenants, if it is one that is known.
    pub(crate) profile: Option<Profile>,
}

impl PostgresqlSource {
    /// The server, by a database that each one has.
    pub(crate) fn server(&self) -> Result<TargetConfig, Failure> {
        let first = self.databases.first().context("a source has a database")?;
        Ok(TargetConfig { database: "postgres".to_owned(), ..first.clone() })
    }

    /// What of it cannot be used: the key, and why. `path` is where programs are looked for.
    fn problems(&self, path: Option<&OsStr>) -> impl Iterator<Item = Problem> {
        let ca_file = self.databases.first().and_then(|database| connection::check(database).err());
        let ca_file = ca_file.map(|e| ("ca-file", e.to_string()));
        ca_file.into_iter().chain(self.pg_dump.problem(path).map(|why| ("pg-dump", why)))
    }
}

/// The program that dumps databases.
#[derive(Clone, Debug)]
pub(crate) struct PgDump {
    /// It is looked for in `PATH` if it has no slash.
    pub(crate) program: PathBuf,
    /// The environment variables that are not its business: they have the keys of a store, or the password of another source.
    pub(crate) withheld: Vec<OsString>,
}

impl PgDump {
    fn of(section: &mut Section<'_>) -> Self {
        let program = section.program("pg-dump").unwrap_or_else(|| "pg_dump".into());
        let withheld = section.named_variables().iter().filter(|name| *name != "PATH").cloned().collect();
        Self { program, withheld }
    }

    /// Why it cannot be run. `path` is where it is looked for, as `PATH` has it.
    fn problem(&self, path: Option<&OsStr>) -> Option<String> {
        let is_program =
            |path: &Path| path.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0);
        let name = self.program.display();
        if self.program.as_os_str().as_encoded_bytes().contains(&b'/') {
            return (!is_program(&self.program)).then(|| format!("there is no program `{name}`"));
        }
        let is_there = path.is_some_and(|path| env::split_paths(path).any(|at| is_program(&at.join(&self.program))));
        (!is_there).then(|| format!("there is no program `{name}` in the folders of `PATH`"))
    }
}

/// The key of what cannot be used, and why.
pub(super) type Problem = (&'static str, String);

impl Source {
    pub(super) fn read(section: Section<'_>) -> Result<Self, Vec<Fault>> {
        let (mut section, kind) = section.kind(&["postgresql", "bucket", "watson-speech"])?;
        let source = match kind {
            "bucket" => {
                let versions = section.flag("versions").unwrap_or(false);
                bucket(&mut section).map(|bucket| Self::Bucket(Box::new(bucket.with_versions(versions))))
            }
            "watson-speech" => watson_speech(&mut section).map(Box::new).map(Self::WatsonSpeech),
            _ => server(&mut section, databases).map(Box::new).map(Self::Postgresql),
        };
        section.finish(source)
    }

    /// What of it cannot be used, as far as that is known without asking anybody. `path` is where programs are looked for.
    pub(super) fn problems(&self, path: Option<&OsStr>) -> Vec<Problem> {
        let of_bucket = |key, bucket: &Bucket| bucket.problem().map(|problem| (key, problem));
        match self {
            Self::Postgresql(source) => source.problems(path).collect(),
            Self::Bucket(bucket) => of_bucket("endpoint", bucket).into_iter().collect(),
            Self::WatsonSpeech(parts) => {
                let databases = parts.databases.iter().flat_map(|source| source.problems(path));
                // All of them are in one store.
                databases.chain(parts.buckets.first().and_then(|bucket| of_bucket("minio", bucket))).collect()
            }
        }
    }
}

/// A server, and those of its databases that `databases` reads.
pub(super) fn server(
    section: &mut Section<'_>,
    databases: impl FnOnce(&mut Section<'_>) -> Option<Vec<String>>,
) -> Option<PostgresqlSource> {
    let host = section.required_text_at("host");
    let port = section.parsed("port", "a number from 1 to 65535", |text| text.parse().ok().filter(|port| *port > 0));
    let databases = databases(section);
    let username = section.required_text("username");
    let password = section.secret("password");
    let ca_file = section.path("ca-file");
    let sslmode = sslmode(section, ca_file.is_some());
    let pg_dump = PgDump::of(section);
    let format = section.parsed("format", "`custom` or `plain`", |text| match text {
        "custom" => Some(ObjectFormat::Archive),
        "plain" => Some(ObjectFormat::Plain),
        _ => None,
    });
    let format = format.unwrap_or_default();
    let compress = compress(section, format);
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
        format,
        compress,
        profile,
    })
}

/// The program of a source, whatever else is wrong with that.
pub(super) fn pg_dump(mut section: Section<'_>) -> Result<PgDump, Vec<Fault>> {
    let program = PgDump::of(&mut section);
    section.finish_unread(Some(program))
}

fn compress(section: &mut Section<'_>, format: ObjectFormat) -> Option<String> {
    let (line, text) = section.text_at("compress")?;
    let (method, detail) = text.split_once(':').unwrap_or((&text, ""));
    let is_known =
        matches!(method, "none" | "gzip" | "lz4" | "zstd") || method.parse::<u8>().is_ok_and(|level| level < 10);
    let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'=' | b',');
    if format == ObjectFormat::Plain {
        section.fault(line, "`compress` is for archives, and `format` is `plain`");
    } else if !is_known || !detail.bytes().all(fits) {
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
