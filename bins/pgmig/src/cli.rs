//! The command line: what was typed, and what it means.

mod arguments;

use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap::error::ErrorKind;
use dumpfmt::{CompressionSpecification, ReadOptions, Version};
use pgmig_core::names::ColumnName;
use restore_command::{OutputFormat, RestoreArgs, Told};

use crate::new_archive::is_modern;
use crate::source::is_stream;
use crate::sql_options::{SelectionArgs, SqlArgs};

use arguments::{ArchiveArgs, Command, CommonArgs, ConvertArgs, Format, InspectArgs, RemapArgs, RepairArgs};
pub(crate) use arguments::{ArchiveFormat, Cli};

/// What the command line means.
#[derive(Debug)]
pub(crate) enum Work {
    Restore(Box<RestoreOptions>),
    TestConnections(TestOptions),
    Inspect(ArchiveOptions),
    List(ListOptions),
    Verify(VerifyOptions),
    Remap(RemapOptions),
    Convert(Box<ConvertOptions>),
    Repair(RepairCommand),
}

/// An archive that is to be repaired.
#[derive(Debug)]
pub(crate) struct RepairCommand {
    pub(crate) source: PathBuf,
    pub(crate) read: ReadOptions,
    pub(crate) repair: Repair,
}

/// How it is repaired.
#[derive(Debug)]
pub(crate) enum Repair {
    /// It is whole and gets the positions of its data.
    InPlace,
    /// What is whole goes into a new archive.
    Into(RepairOptions),
}

/// How what is whole goes into a new archive.
#[derive(Debug)]
pub(crate) struct RepairOptions {
    pub(crate) output: PathBuf,
    pub(crate) format: ArchiveFormat,
    pub(crate) compression: Option<CompressionSpecification>,
    pub(crate) partial_rows: bool,
    pub(crate) from: u64,
    pub(crate) undo_crlf: bool,
    pub(crate) accept_loss: bool,
    pub(crate) force: bool,
    pub(crate) report: Option<PathBuf>,
}

/// An archive that is to be converted.
#[derive(Debug)]
pub(crate) struct ConvertOptions {
    pub(crate) source: PathBuf,
    pub(crate) read: ReadOptions,
    pub(crate) output: PathBuf,
    pub(crate) selection: SelectionArgs,
    pub(crate) format: NewFormat,
    pub(crate) force: bool,
}

/// What is to be made of it.
#[derive(Debug)]
pub(crate) enum NewFormat {
    Sql(Box<SqlArgs>),
    Archive {
        format: ArchiveFormat,
        compression: Option<CompressionSpecification>,
        version: Option<Version>,
        report: Option<PathBuf>,
    },
}

/// An archive whose contents are to be listed.
#[derive(Debug)]
pub(crate) struct ListOptions {
    pub(crate) archive: PathBuf,
    pub(crate) read: ReadOptions,
}

/// An archive to verify.
#[derive(Debug)]
pub(crate) struct VerifyOptions {
    pub(crate) archive: PathBuf,
    pub(crate) read: ReadOptions,
    pub(crate) threads: Option<usize>,
    pub(crate) output: OutputFormat,
}

/// An archive that is to be made of another one.
#[derive(Debug)]
pub(crate) struct RemapOptions {
    pub(crate) source: PathBuf,
    pub(crate) read: ReadOptions,
    pub(crate) mapping: PathBuf,
    pub(crate) output: PathBuf,
    pub(crate) profile: Option<PathBuf>,
    pub(crate) format: ArchiveFormat,
    pub(crate) compression: Option<CompressionSpecification>,
    pub(crate) version: Option<Version>,
    pub(crate) remap_also: Vec<ColumnName>,
    pub(crate) remap_definitions: bool,
    pub(crate) ignore_strays: bool,
    pub(crate) keep_unmapped: bool,
    pub(crate) force: bool,
    pub(crate) report: Option<PathBuf>,
}

/// A restore, with everything that it needs.
#[derive(Debug)]
pub(crate) struct RestoreOptions {
    pub(crate) source: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) profile: Option<PathBuf>,
    pub(crate) output: OutputFormat,
    pub(crate) args: RestoreArgs,
}

/// Which connections to test.
#[derive(Debug)]
pub(crate) struct TestOptions {
    pub(crate) target: Option<PathBuf>,
    pub(crate) resource_controller: Option<PathBuf>,
    pub(crate) wxo: bool,
    pub(crate) output: OutputFormat,
}

/// An archive to look at.
#[derive(Debug)]
pub(crate) struct ArchiveOptions {
    pub(crate) archive: PathBuf,
    pub(crate) read: ReadOptions,
    pub(crate) profile: Option<PathBuf>,
    pub(crate) output: OutputFormat,
}

impl Work {
    /// What standard output is told when this fails.
    pub(crate) fn told_of_failure(&self) -> Told {
        let output = match self {
            Self::Restore(options) => options.output,
            Self::TestConnections(options) => options.output,
            Self::Inspect(options) => options.output,
            Self::Verify(options) => options.output,
            Self::List(_) => OutputFormat::Text,
            Self::Convert(options) => match &options.format {
                NewFormat::Sql(_) => OutputFormat::Text,
                NewFormat::Archive { report, .. } => told_of_report(report.as_deref()),
            },
            Self::Remap(options) => told_of_report(options.report.as_deref()),
            Self::Repair(RepairCommand { repair: Repair::Into(options), .. }) => {
                told_of_report(options.report.as_deref())
            }
            Self::Repair(_) => OutputFormat::Text,
        };
        match (output, self) {
            (OutputFormat::Text, _) => Told::Nothing,
            (OutputFormat::Json, Self::Verify(_)) => Told::JsonOfVerify,
            (OutputFormat::Json, _) => Told::Json,
        }
    }
}

/// Refuses an archive that cannot be.
fn possible(
    command: &str,
    output: &Path,
    format: ArchiveFormat,
    compression: Option<CompressionSpecification>,
    version: Option<Version>,
) -> Result<(), clap::Error> {
    let refuse = |text: &str| Err(conflict(command, text));
    if format == ArchiveFormat::Directory && output == Path::new("-") {
        return refuse("a folder cannot go to standard output; `--output` has to name it");
    }
    if version == Some(Version::TABLE_ACCESS_METHOD) && compression.is_some_and(|it| is_modern(it.algorithm())) {
        return refuse("archives of version 1.14 can be compressed with gzip alone");
    }
    Ok(())
}

/// Options of a command that do not go together.
fn conflict(command: &str, text: &str) -> clap::Error {
    let mut cli = Cli::command();
    // The usage of a command is known when all of them are.
    cli.build();
    match cli.find_subcommand_mut(command) {
        Some(command) => command.error(ErrorKind::ArgumentConflict, text),
        None => cli.error(ErrorKind::ArgumentConflict, text),
    }
}

fn told_of_report(report: Option<&Path>) -> OutputFormat {
    if report == Some(Path::new("-")) { OutputFormat::Json } else { OutputFormat::Text }
}

impl TryFrom<RepairArgs> for RepairCommand {
    type Error = clap::Error;

    fn try_from(args: RepairArgs) -> Result<Self, clap::Error> {
        let refuse = |text: &str| Err(conflict("repair", text));
        if is_stream(&args.source) {
            return refuse("an archive has to be in a file to be repaired: what is whole is known only at its end");
        }
        let Some(output) = args.output else {
            return Ok(Self { source: args.source, read: args.read.into(), repair: Repair::InPlace });
        };
        if args.report.as_deref() == Some(Path::new("-")) && output == Path::new("-") {
            return refuse("the archive and the report cannot both go to standard output");
        }
        possible("repair", &output, args.format, args.compress, None)?;
        let repair = Repair::Into(RepairOptions {
            output,
            format: args.format,
            compression: args.compress,
            partial_rows: args.partial_rows,
            from: args.from,
            undo_crlf: args.undo_crlf,
            accept_loss: args.accept_loss,
            force: args.force,
            report: args.report,
        });
        Ok(Self { source: args.source, read: args.read.into(), repair })
    }
}

impl TryFrom<RemapArgs> for RemapOptions {
    type Error = clap::Error;

    fn try_from(args: RemapArgs) -> Result<Self, clap::Error> {
        if args.report.as_deref() == Some(Path::new("-")) && args.output == Path::new("-") {
            let text = "the archive and the report cannot both go to standard output";
            return Err(conflict("remap", text));
        }
        possible("remap", &args.output, args.format, args.compress, args.archive_version)?;
        Ok(Self {
            source: args.source,
            read: args.read.into(),
            mapping: args.mapping,
            output: args.output,
            profile: args.profile,
            format: args.format,
            compression: args.compress,
            version: args.archive_version,
            remap_also: args.remap_also,
            remap_definitions: args.remap_definitions,
            ignore_strays: args.ignore_strays,
            keep_unmapped: args.keep_unmapped,
            force: args.force,
            report: args.report,
        })
    }
}

impl TryFrom<ConvertArgs> for ConvertOptions {
    type Error = clap::Error;

    fn try_from(args: ConvertArgs) -> Result<Self, clap::Error> {
        let refuse = |text: &str| Err(conflict("convert", text));
        let format = match args.format {
            Format::Sql if args.compress.is_some() || args.archive_version.is_some() => {
                return refuse("`--compress` and `--archive-version` are for archives, not for `--format sql`");
            }
            Format::Sql if args.report.is_some() => {
                return refuse(
                    "a report tells what was done with the data of an archive; there is none for `--format sql`",
                );
            }
            Format::Sql => NewFormat::Sql(Box::new(args.sql)),
            _ if args.sql != SqlArgs::default() => {
                return refuse(
                    "how to write SQL is for `--format sql` to say; give such options to pg_restore when it restores the new \
                     archive",
                );
            }
            _ if args.report.as_deref() == Some(Path::new("-")) && args.output == Path::new("-") => {
                return refuse("the archive and the report cannot both go to standard output");
            }
            format => {
                let format = if format == Format::Directory { ArchiveFormat::Directory } else { ArchiveFormat::Custom };
                possible("convert", &args.output, format, args.compress, args.archive_version)?;
                NewFormat::Archive {
                    format,
                    compression: args.compress,
                    version: args.archive_version,
                    report: args.report,
                }
            }
        };
        let (read, selection) = (args.read.into(), args.selection);
        Ok(Self { source: args.source, read, output: args.output, selection, format, force: args.force })
    }
}

impl TryFrom<Cli> for Work {
    type Error = clap::Error;

    fn try_from(cli: Cli) -> Result<Self, clap::Error> {
        let args = match cli.command {
            Some(Command::Inspect(InspectArgs { list, archive: ArchiveArgs { archive, common }, read })) => {
                let read = read.into();
                return Ok(match list {
                    true => Self::List(ListOptions { archive, read }),
                    false => {
                        let CommonArgs { profile, output } = common;
                        Self::Inspect(ArchiveOptions { archive, read, profile, output })
                    }
                });
            }
            Some(Command::Verify(args)) => {
                let ArchiveArgs { archive, common } = args.archive;
                let threads = args.threads.map(usize::from);
                let read = args.read.into();
                return Ok(Self::Verify(VerifyOptions { archive, read, threads, output: common.output }));
            }
            Some(Command::Remap(args)) => return args.try_into().map(Self::Remap),
            Some(Command::Repair(args)) => return args.try_into().map(Self::Repair),
            Some(Command::Convert(args)) => return (*args).try_into().map(|options| Self::Convert(Box::new(options))),
            None => cli.restore,
        };
        let test = TestOptions {
            target: if args.test_pg_connection { Some(need(args.target.as_ref(), "--target")?) } else { None },
            resource_controller: if args.test_rc_connection {
                Some(need(args.how.resource_controller.as_ref(), "--resourceController")?)
            } else {
                None
            },
            wxo: args.how.wxo,
            output: args.common.output,
        };
        if args.test_pg_connection || args.test_rc_connection {
            return Ok(Self::TestConnections(test));
        }
        Ok(Self::Restore(Box::new(RestoreOptions {
            source: need(args.source.as_ref(), "--source")?,
            target: need(args.target.as_ref(), "--target")?,
            profile: args.common.profile,
            output: args.common.output,
            args: args.how,
        })))
    }
}

/// An option that this work cannot do without.
fn need(value: Option<&PathBuf>, option: &str) -> Result<PathBuf, clap::Error> {
    value.cloned().ok_or_else(|| {
        let text = format!("the option `{option} <FILE>` is missing");
        Cli::command().error(ErrorKind::MissingRequiredArgument, text)
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn work(line: &str) -> Result<Work, clap::Error> {
        Cli::try_parse_from(line.split(' ')).and_then(Work::try_from)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_script_for_the_original_works_unchanged() {
        let line = "pgmig --resourceController resourceController.yaml --target postgres.yaml --source store.dump";
        let Ok(Work::Restore(options)) = work(line) else { panic!("no restore") };
        assert_eq!((options.args.mapping, options.args.map_by_name), (None, false));
        let Ok(Work::Restore(options)) = work("pgmig -r rc.yaml -t pg.yaml -s store.dump -m map.yaml -f --wxo") else {
            panic!("no restore")
        };
        assert!(options.args.force && options.args.wxo && options.args.mapping.is_some());
        assert!(matches!(work("pgmig --testRCConnection -r rc.yaml"), Ok(Work::TestConnections(_))));
        assert!(matches!(work("pgmig --testPGConnection -t pg.yaml"), Ok(Work::TestConnections(_))));
        for flag in ["-h", "--help", "-v", "--version"] {
            assert_eq!(work(&format!("pgmig {flag}")).unwrap_err().exit_code(), 0);
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for (line, missing) in [
            ("pgmig -t pg.yaml", "--source"),
            ("pgmig -s store.dump", "--target"),
            ("pgmig --testRCConnection", "--resourceController"),
            ("pgmig --testPGConnection", "--target"),
        ] {
            let error = work(line).unwrap_err();
            assert!(error.to_string().contains(missing), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
        assert!(work("pgmig -s a -t b -m c --map-by-name").is_err());
        assert!(work("pgmig -s a -t b --remap-also nonsense").is_err());
    }
}
