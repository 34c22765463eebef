//! What can be typed.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use dumpfmt::{CompressionSpecification, ReadOptions, Version};
use pgmig_core::names::ColumnName;
use restore_command::{OutputFormat, RestoreArgs};

use crate::sql_options::{SelectionArgs, SqlArgs};

/// What was typed. The first nine options are the original tool's.
#[derive(Debug, Parser)]
#[command(
    name = "pgmig",
    version,
    about = "Restores a database backup into another installation, every service instance ID remapped",
    after_help = "Environment: PG_CA_FILE, the file of CA certificates for the connection to PostgreSQL; PGSSLMODE and \
                  PGPASSWORD, where the target's configuration does not say; ENABLE_ICP=true, trust PG_CA_FILE for the \
                  Resource Controller too.\n\n\
                  Exit status: 0 when all was done, 1 when it was not (the target is then as it was before, unless the \
                  message says otherwise), 2 for a command line that makes no sense, 130 when interrupted.",
    args_conflicts_with_subcommands = true,
    disable_version_flag = true,
    disable_help_subcommand = true,
    subcommand_negates_reqs = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) restore: MainArgs,
    /// Print the version
    #[arg(short = 'v', short_alias = 'V', long, action = ArgAction::Version)]
    pub(super) version: Option<bool>,
}

#[derive(Debug, Args)]
pub(super) struct MainArgs {
    /// Backup: a file in the custom or tar format, a folder in the directory format; `-` reads standard input
    #[arg(short, long, value_name = "FILE")]
    pub(super) source: Option<PathBuf>,
    /// Configuration of the target's PostgreSQL server (postgres.yaml)
    #[arg(short, long, value_name = "FILE")]
    pub(super) target: Option<PathBuf>,
    #[command(flatten)]
    pub(super) how: RestoreArgs,
    /// Test the connection to the Resource Controller, then exit
    #[arg(long = "testRCConnection")]
    pub(super) test_rc_connection: bool,
    /// Test the connection to the PostgreSQL server, then exit
    #[arg(long = "testPGConnection")]
    pub(super) test_pg_connection: bool,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

#[derive(Debug, Args)]
pub(super) struct CommonArgs {
    /// Profile of the product: a file, or `watson-assistant`, which is taken without it, or `watson-speech`
    #[arg(long, value_name = "PROFILE")]
    pub(super) profile: Option<PathBuf>,
    /// How to print the result; with `json` a failure is a document too: `version`, `error`, `hint`
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    pub(super) output: OutputFormat,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Tell what is in an archive: versions, tables, rows, tenants
    Inspect(InspectArgs),
    /// Decode every block of an archive; exit status 0 only for a complete one
    Verify(VerifyArgs),
    /// Make one archive of another, every service instance ID remapped, without any database
    Remap(RemapArgs),
    /// Make one archive of another, in another format, compression or version; or SQL
    Convert(Box<ConvertArgs>),
    /// Keep what is whole in an archive that is cut short, damaged or within a log; or add the positions of its data
    Repair(RepairArgs),
}

#[derive(Debug, Args)]
pub(super) struct RepairArgs {
    /// Archive, perhaps with other text around it where it is in the custom format; a tar file or a folder
    #[arg(short, long, value_name = "FILE")]
    pub(super) source: PathBuf,
    /// New archive of what is whole, which must not exist yet; `-` writes to standard output
    #[arg(short, long, value_name = "FILE", required_unless_present = "in_place")]
    pub(super) output: Option<PathBuf>,
    /// Only add the positions of its data to the archive itself, which has to be whole, so that `pg_restore -j` can use it
    #[arg(long, conflicts_with_all = ["output", "format", "compress", "partial_rows", "undo_crlf", "accept_loss", "force", "report", "from"])]
    pub(super) in_place: bool,
    /// Write a new archive also when something is lost
    #[arg(long)]
    pub(super) accept_loss: bool,
    /// Keep the whole rows of a table whose data is cut; in the custom format
    #[arg(long, requires = "accept_loss")]
    pub(super) partial_rows: bool,
    /// The byte of the file from which on to look for the archive, where there are several in it, as in the log of a job that
    /// was tried again
    #[arg(long, value_name = "BYTE", default_value_t = 0, hide_default_value = true)]
    pub(super) from: u64,
    /// First take out the carriage returns that a terminal put before each line feed, as `kubectl exec -t` does
    #[arg(long)]
    pub(super) undo_crlf: bool,
    /// Format of the new archive
    #[arg(long, value_enum, default_value_t = ArchiveFormat::Custom)]
    pub(super) format: ArchiveFormat,
    /// Compression of the new archive, as for pg_dump: `none`, `gzip:9`, `lz4:12`, `zstd:19`, but not
    /// `zstd:long`; without it, that of the source
    #[arg(long, value_name = "METHOD[:LEVEL]")]
    pub(super) compress: Option<CompressionSpecification>,
    /// Replace the output file when it exists
    #[arg(short, long)]
    pub(super) force: bool,
    /// Where to write what was kept and what was lost, in JSON; `-` writes to standard output
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    #[command(flatten)]
    pub(super) read: ReadArgs,
}

#[derive(Debug, Args)]
pub(super) struct ConvertArgs {
    /// Archive: a file in the custom or tar format, a folder in the directory format; `-` reads standard input
    #[arg(short, long, value_name = "FILE")]
    pub(super) source: PathBuf,
    /// What to make, which must not exist yet; `-` writes to standard output
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: PathBuf,
    /// What kind of output
    #[arg(long, value_enum, default_value_t = Format::Custom)]
    pub(super) format: Format,
    /// Compression of the new archive, as for pg_dump: `none`, `gzip:9`, `lz4:12`, `zstd:19`, but not
    /// `zstd:long`; without it, that of the source
    #[arg(long, value_name = "METHOD[:LEVEL]")]
    pub(super) compress: Option<CompressionSpecification>,
    /// Version of the new archive: 1.14 for pg_restore 12 and later, 1.15 for 16 and later, 1.16 for 17 and later;
    /// without it, that of the source
    #[arg(long, value_name = "VERSION", value_parser = archive_version)]
    pub(super) archive_version: Option<Version>,
    /// Replace the output file when it exists
    #[arg(short, long)]
    pub(super) force: bool,
    /// Where to write what was done with the data of each entry, in JSON; `-` writes to standard output. For archives
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    #[command(flatten)]
    pub(super) selection: SelectionArgs,
    #[command(flatten)]
    pub(super) read: ReadArgs,
    #[command(flatten)]
    pub(super) sql: SqlArgs,
}

/// How an archive is read.
#[derive(Debug, Args)]
pub(super) struct ReadArgs {
    /// Read an archive of a version newer than 1.16, the newest one known here, as if it were of that one: at your own risk
    #[arg(long)]
    pub(super) accept_newer_versions: bool,
}

impl From<ReadArgs> for ReadOptions {
    fn from(args: ReadArgs) -> Self {
        let mut options = Self::default();
        options.accept_newer_versions = args.accept_newer_versions;
        options
    }
}

/// The format of a new archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ArchiveFormat {
    /// One file, as `pg_dump -Fc` writes it
    Custom,
    /// A folder, as `pg_dump -Fd` writes it
    Directory,
}

impl ArchiveFormat {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Custom => "custom",
            Self::Directory => "directory",
        }
    }
}

/// What `convert` makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// One file, as `pg_dump -Fc` writes it
    Custom,
    /// A folder, as `pg_dump -Fd` writes it
    Directory,
    /// The text that `pg_restore -f` writes
    Sql,
}

fn archive_version(text: &str) -> Result<Version, &'static str> {
    match text {
        "1.14" => Ok(Version::TABLE_ACCESS_METHOD),
        "1.15" => Ok(Version::COMPRESSION_ALGORITHM),
        "1.16" => Ok(Version::RELKIND),
        _ => Err("there are 1.14, 1.15 and 1.16"),
    }
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    pub(super) archive: ArchiveArgs,
    /// How many threads decode; without it, one for each processor. A pipe is read by one
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) threads: Option<u16>,
    #[command(flatten)]
    pub(super) read: ReadArgs,
}

#[derive(Debug, Args)]
pub(super) struct RemapArgs {
    /// Archive: a file in the custom or tar format, a folder in the directory format; `-` reads standard input
    #[arg(short, long, value_name = "FILE")]
    pub(super) source: PathBuf,
    /// Mapping of service instances, source ID to target ID
    #[arg(short, long, value_name = "FILE")]
    pub(super) mapping: PathBuf,
    /// New archive, which must not exist yet; `-` writes to standard output
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: PathBuf,
    /// Profile of the product: a file, or `watson-assistant`, which is taken without it, or `watson-speech`
    #[arg(long, value_name = "PROFILE")]
    pub(super) profile: Option<PathBuf>,
    /// Format of the new archive
    #[arg(long, value_enum, default_value_t = ArchiveFormat::Custom)]
    pub(super) format: ArchiveFormat,
    /// Compression of the new archive, as for pg_dump: `none`, `gzip:9`, `lz4:12`, `zstd:19`, but not
    /// `zstd:long`; without it, that of the source
    #[arg(long, value_name = "METHOD[:LEVEL]")]
    pub(super) compress: Option<CompressionSpecification>,
    /// Version of the new archive: 1.14 for pg_restore 12 and later, 1.15 for 16 and later, 1.16 for 17 and later;
    /// without it, that of the source
    #[arg(long, value_name = "VERSION", value_parser = archive_version)]
    pub(super) archive_version: Option<Version>,
    /// Replace IDs anywhere in the text of this column too; repeatable
    #[arg(long, value_name = "SCHEMA.TABLE.COLUMN")]
    pub(super) remap_also: Vec<ColumnName>,
    /// Replace IDs in the definitions of objects too: views, default values, policies. Names are not changed
    #[arg(long)]
    pub(super) remap_definitions: bool,
    /// Leave source IDs in places that the profile does not name as they are
    #[arg(long)]
    pub(super) ignore_strays: bool,
    /// Keep the rows of deleted and internal tenants that the mapping does not name, as they are; otherwise
    /// they are left out, as in a restore
    #[arg(long)]
    pub(super) keep_unmapped: bool,
    /// Replace the output file when it exists
    #[arg(short, long)]
    pub(super) force: bool,
    /// Where to write what was done, in JSON; `-` writes to standard output
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    #[command(flatten)]
    pub(super) read: ReadArgs,
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// List the contents as `pg_restore -l` does, without reading the data
    #[arg(long, conflicts_with_all = ["profile", "output"])]
    pub(super) list: bool,
    #[command(flatten)]
    pub(super) archive: ArchiveArgs,
    #[command(flatten)]
    pub(super) read: ReadArgs,
}

#[derive(Debug, Args)]
pub(super) struct ArchiveArgs {
    /// Archive: a file in the custom or tar format, a folder in the directory format; `-` reads standard input
    pub(super) archive: PathBuf,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}
