//! What the tests of written archives share: above all what pg_restore says of one.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::{Command, Stdio};

use dumpfmt::ArchiveReader;
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
    let key: &[&str] = if tools.writes_restrict() { &["--restrict-key=key"] } else { &[] };
    pg_restore(tools, &[&["-f", "-"], key].concat(), archive)
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
