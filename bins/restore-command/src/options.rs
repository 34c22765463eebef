//! What can be typed of a restore.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use pgmig_core::names::ColumnName;
use pgmig_core::profile::Profile;

use crate::failure::Failure;

/// What both programs take of a restore.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Configuration of the Resource Controller (resourceController.yaml)
    #[arg(short, long = "resourceController", value_name = "FILE")]
    pub resource_controller: Option<PathBuf>,
    /// Mapping of service instances, source ID to target ID
    #[arg(short, long, value_name = "FILE")]
    pub mapping: Option<PathBuf>,
    /// Erase tenants' data that the target holds; somebody at a terminal is asked first
    #[arg(short, long)]
    pub force: bool,
    /// The target is an orchestrate instance
    #[arg(long)]
    pub wxo: bool,
    /// Pair the instances of both sides by their names
    #[arg(long, conflicts_with = "mapping")]
    pub map_by_name: bool,
    /// Every instance keeps its ID: for a restore into the installation that was backed up
    #[arg(long, conflicts_with_all = ["mapping", "map_by_name"])]
    pub same_ids: bool,
    /// Print the plan and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask before erasing
    #[arg(short, long)]
    pub yes: bool,
    /// Replace IDs anywhere in the text of this column too; repeatable
    #[arg(long, value_name = "SCHEMA.TABLE.COLUMN")]
    pub remap_also: Vec<ColumnName>,
    /// Leave source IDs in places that the profile does not name as they are
    #[arg(long)]
    pub ignore_strays: bool,
    /// Where to write the report of the restore
    #[arg(long, value_name = "FILE", default_value = "pgmig-report.json")]
    pub report: PathBuf,
}

/// A restore, with everything that it needs but the archive.
#[derive(Debug)]
pub struct RestoreOptions {
    /// The configuration of the target's PostgreSQL server.
    pub target: PathBuf,
    /// What must be known of the product.
    pub profile: Profile,
    /// How the plan and the report are printed.
    pub output: OutputFormat,
    /// Whether standard input is the archive, so that answers do not come from there.
    pub stdin_is_archive: bool,
    /// The rest.
    pub args: RestoreArgs,
}

/// The profile that somebody has chosen: a built-in one by its name, or that in a file.
///
/// # Errors
///
/// The file cannot be read or is no profile.
pub fn profile(chosen: &Path) -> Result<Profile, Failure> {
    match chosen.to_str().and_then(Profile::built_in) {
        Some(profile) => Ok(profile),
        None => Ok(Profile::load(chosen)?),
    }
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people
    Text,
    /// For scripts: one document
    Json,
}

/// Where the mapping comes from.
#[derive(Debug)]
pub(crate) enum MappingSource<'a> {
    File(&'a PathBuf),
    Names,
    SameIds,
    Prompts,
}

impl RestoreArgs {
    pub(crate) fn mapping_source(&self) -> MappingSource<'_> {
        match &self.mapping {
            Some(file) => MappingSource::File(file),
            None if self.map_by_name => MappingSource::Names,
            None if self.same_ids => MappingSource::SameIds,
            None => MappingSource::Prompts,
        }
    }
}
