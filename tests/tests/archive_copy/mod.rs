//! What the tests of written archives share: copying an archive block by block, and what pg_restore says of it.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use dumpfmt::{ArchiveReader, ArchiveWriter, Block, Error, Header, Sink, Toc, WriteOptions};
use pgmig_tests::PgTools;

/// What an archive is written into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Container {
    /// A file in the custom format, with positions.
    Seekable,
    /// The same without positions.
    Piped,
    /// A folder in the directory format.
    Directory,
}

/// Writes the data of `source` as a new archive with these contents, under the same dump IDs.
pub(crate) fn write_archive(
    source: &Path,
    header: &Header,
    toc: Toc,
    options: &WriteOptions,
    container: Container,
    target: &Path,
) -> dumpfmt::Result<()> {
    let file = |path: &Path| File::create_new(path).expect("the new archive can be made");
    match container {
        Container::Seekable => {
            let archive = ArchiveWriter::to_file(file(target), header, toc, options)?;
            copy_blocks(source, archive)?.finish().map(drop)
        }
        Container::Piped => {
            let archive = ArchiveWriter::to_pipe(file(target), header, toc, options)?;
            copy_blocks(source, archive)?.finish().map(drop)
        }
        Container::Directory => {
            let archive = ArchiveWriter::to_directory(target, header, toc, options)?;
            copy_blocks(source, archive)?.finish()
        }
    }
}

fn copy_blocks<S: Sink>(source: &Path, mut target: ArchiveWriter<S>) -> dumpfmt::Result<ArchiveWriter<S>> {
    let mut source = open(source);
    while let Some(block) = source.next_block()? {
        let dump_id = block.entry().dump_id();
        match block {
            Block::Data(mut data) => {
                let mut writer = target.data(dump_id)?;
                copy(&mut data, &mut writer)?;
                writer.finish()?;
            }
            Block::LargeObjects(mut objects) => {
                let mut writer = target.large_objects(dump_id)?;
                while let Some(mut object) = objects.next_object()? {
                    let mut content = writer.object(object.oid())?;
                    copy(&mut object, &mut content)?;
                    content.finish()?;
                }
                writer.finish()?;
            }
        }
    }
    Ok(target)
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> dumpfmt::Result<()> {
    std::io::copy(from, to).map(drop).map_err(|e| Error::from_io(e, 0))
}

/// Opens an archive in the custom format.
pub(crate) fn open(archive: &Path) -> ArchiveReader<BufReader<File>> {
    let file = File::open(archive).expect("the archive is there");
    ArchiveReader::new(BufReader::new(file)).expect("the archive can be read")
}

/// What `pg_restore` prints, byte for byte; it must have no complaint.
pub(crate) fn pg_restore(tools: &PgTools, args: &[&str], archive: &Path) -> Vec<u8> {
    let mut command = Command::new(tools.program("pg_restore"));
    let output = command.args(args).arg(archive).stdin(Stdio::null()).output().expect("pg_restore runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let what = format!("pg_restore {} {args:?} of {}", tools.version(), archive.display());
    assert!(output.status.success() && said.is_empty(), "{what} ({}): {said}", output.status);
    output.stdout
}

/// The archive as SQL text. The key of `\restrict` would differ each time.
pub(crate) fn as_sql(tools: &PgTools, archive: &Path) -> Vec<u8> {
    pg_restore(tools, &["-f", "-", "--restrict-key=key"], archive)
}

/// The lines of `pg_restore -l` that are entries.
pub(crate) fn listed(tools: &PgTools, archive: &Path) -> Vec<String> {
    let listing = pg_restore(tools, &["-l"], archive);
    let lines = String::from_utf8_lossy(&listing).into_owned();
    lines.lines().filter(|line| !line.starts_with(';')).map(str::to_owned).collect()
}

/// Fails with the place of the first difference: the texts are too long to show.
#[track_caller]
pub(crate) fn assert_same_text(found: &[u8], expected: &[u8], what: &str) {
    if found == expected {
        return;
    }
    let same = found.iter().zip(expected).take_while(|(a, b)| a == b).count();
    let around = |text: &[u8]| {
        let part = &text[same.saturating_sub(200).min(text.len())..(same + 200).min(text.len())];
        String::from_utf8_lossy(part).into_owned()
    };
    panic!(
        "{what}: {} bytes where {} were expected; from byte {same} on\n--- found\n{}\n--- expected\n{}",
        found.len(),
        expected.len(),
        around(found),
        around(expected)
    );
}
