//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use restore_command::{OutputFormat, RestoreArgs};

/// What was typed.
#[derive(Debug, Parser)]
#[command(
    name = "backup",
    version,
    about = "Makes backups that are proven to be complete, keeps the right ones, and gives them back",
    after_help = "Exit status: 0 when all was done, 1 when it was not (then no new backup is listed), 2 for a command line \
                  that makes no sense, 3 when the backup was made and verified but something after it failed (removing old \
                  ones, the metrics, the URL), 4 when another run is at work on the same database or bucket, 130 when interrupted.",
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    /// The configuration: sources, destinations and jobs
    #[arg(long, global = true, value_name = "FILE", default_value = "backup.yaml")]
    pub(crate) config: PathBuf,
    /// How results are printed
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: OutputFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Look after the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make a backup, verify it on its way, then remove those that the retention policy does not keep
    Run {
        /// The job
        job: String,
    },
    /// List the backups of a job, or of all jobs
    List {
        /// The job
        job: Option<String>,
    },
    /// Show what is in a backup
    Show {
        /// The job
        job: String,
        /// The ID of the backup; `latest` is the newest verified one
        id: String,
    },
    /// Read a backup to its end and compare it with what was recorded when it was made
    Verify {
        /// The job
        job: String,
        /// The ID of the backup; `latest` is the newest verified one
        id: String,
        /// Also restore it into a new database of the source's server, compare the rows of each table, and drop it again
        #[arg(long)]
        restore: bool,
    },
    /// Copy a backup into a file
    Fetch {
        /// The job
        job: String,
        /// The ID of the backup; `latest` is the newest verified one
        id: String,
        /// The file, which must not exist; `-` is standard output
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        /// Which of its objects, when it has several; see `backup show`
        #[arg(long, value_name = "NAME")]
        object: Option<String>,
    },
    /// Restore a backup into a product's database, every service instance ID remapped, as `pgmig` does, after a backup of that; or make
    /// its databases and buckets anew
    Restore(Box<RestoreCommand>),
    /// Remove the backups that the retention policy does not keep, and what killed runs left behind
    Prune {
        /// The job
        job: String,
        /// Only tell what would be removed, and why the others stay
        #[arg(long)]
        dry_run: bool,
    },
    /// Verify the dumps that the product's own job has made (`store.dump_YYYYMMDD-HHMMSS`, `weekly/`), and make backups of
    /// them where they lie
    Adopt {
        /// The job
        job: String,
    },
    /// Copy a bucket to a folder, a folder to a bucket, or a bucket to another one; what is there already is not copied
    Mirror(MirrorArgs),
    /// Show which backups stay, and why
    Explain {
        /// The job
        job: String,
        /// Also write the picture as a page for browsers
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RestoreCommand {
    /// The job; `JOB.before-restore` has what was backed up of targets before a restore
    pub(crate) job: String,
    /// The ID of the backup; `latest` is the newest verified one
    pub(crate) id: String,
    /// Configuration of the target's PostgreSQL server (postgres.yaml): the rows of the product's database become those of the backup
    #[arg(short, long, value_name = "FILE", required_unless_present = "into")]
    pub(crate) target: Option<PathBuf>,
    /// Make the databases and buckets of this source of the configuration anew
    #[arg(long, value_name = "SOURCE", conflicts_with_all = ["target", "resource_controller", "wxo", "map_by_name", "yes"])]
    pub(crate) into: Option<String>,
    /// Which of its objects, when it has several; see `backup show`
    #[arg(long, value_name = "NAME")]
    pub(crate) object: Option<String>,
    /// Profile of the product: a file, `watson-assistant` or `watson-speech`; without it, that of the source with `--into`, and
    /// otherwise `watson-assistant`
    #[arg(long, value_name = "PROFILE")]
    pub(crate) profile: Option<PathBuf>,
    /// Restore without a backup of what the target holds now
    #[arg(long)]
    pub(crate) no_backup_of_target: bool,
    /// With `--into`: whoever restores them owns all objects
    #[arg(long, requires = "into")]
    pub(crate) no_owner: bool,
    /// With `--into`: without the rights to objects
    #[arg(long, requires = "into")]
    pub(crate) no_privileges: bool,
    #[command(flatten)]
    pub(crate) args: RestoreArgs,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct MirrorArgs {
    #[command(subcommand)]
    pub(crate) command: Option<MirrorCommand>,
    /// A source or destination of the configuration, or the path of a folder
    #[arg(required = true)]
    pub(crate) from: Option<String>,
    /// The same; a bucket is made if it is missing
    #[arg(required = true)]
    pub(crate) to: Option<String>,
    /// What becomes of objects that FROM does not have
    #[arg(long, required = true)]
    pub(crate) deleted: Option<Deleted>,
    /// How it is found out whether an object has changed
    #[arg(long, default_value = "listing")]
    pub(crate) compare: Compare,
    /// Copy all versions of each object and the marks of those that were removed, from a bucket to another one
    #[arg(long, conflicts_with = "compare")]
    pub(crate) versions: bool,
    /// How many objects are copied at the same time
    #[arg(long, value_name = "NUMBER", default_value_t = 8, value_parser = concurrency())]
    pub(crate) concurrency: u16,
}

/// What becomes of objects that the target has alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Deleted {
    /// They stay
    Keep,
    /// They are removed, once everything else was copied
    Remove,
}

/// How it is found out whether an object has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compare {
    /// By what listings say
    Listing,
    /// Also by content type, metadata and tags, which are asked for
    Attributes,
    /// Also by all bytes, which are read
    Content,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MirrorCommand {
    /// Read both places to their ends, and prove that they are the same
    Verify {
        /// A source or destination of the configuration, or the path of a folder
        from: String,
        /// The same
        to: String,
        /// Compare all versions of each object, of two buckets
        #[arg(long)]
        versions: bool,
        /// How many objects are read at the same time
        #[arg(long, value_name = "NUMBER", default_value_t = 8, value_parser = concurrency())]
        concurrency: u16,
    },
}

fn concurrency() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..=256)
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read all of the configuration, with every file and variable that it names, and tell every fault
    Check,
}
