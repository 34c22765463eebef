//! The listing of an archive, and the list that chooses and orders its entries: `pg_restore -l` and `-L`.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufRead, Read, Write};

use crate::header::Header;
use crate::reader::ArchiveReader;
use crate::sql_text::{PgRestoreVersion, Selection, SqlError, SqlOptions, on_one_line};
use crate::toc::{Toc, TocEntry};

/// The contents of an archive in the layout of `pg_restore -l`: some facts on the archive as comments, then a line
/// for each entry. The lines, put into another order or commented out with `;`, make a [`ListFile`].
///
/// As in pg_restore's, the settings of the dump (`ENCODING`, `STDSTRINGS`, `SEARCHPATH`) are left out, the database
/// itself is unless [`SqlOptions::create`] is set, and what the other options leave out. A line break in a name
/// becomes a blank, NULL a hyphen for a schema and nothing for an owner.
///
/// ```
/// # let file = dumpfmt::example::archive();
/// use dumpfmt::{ArchiveReader, SqlOptions};
///
/// let archive = ArchiveReader::new(file)?;
/// let mut text = Vec::new();
/// archive.listing(&SqlOptions::default())?.write_to(&mut text)?;
/// assert!(String::from_utf8_lossy(&text).ends_with("\n2; 1259 0 TABLE DATA public tenant owner\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Listing<'a> {
    header: &'a Header,
    toc: &'a Toc,
    version: PgRestoreVersion,
    selection: Selection,
    time_zone: Option<String>,
    verbose: bool,
}

impl<R: Read> ArchiveReader<R> {
    /// The listing of what the options choose.
    ///
    /// # Errors
    ///
    /// When a list among the options names what the archive does not have.
    pub fn listing(&self, options: &SqlOptions) -> Result<Listing<'_>, SqlError> {
        let (header, toc) = (self.header(), self.toc());
        let version = options.version_for(header);
        let selection = Selection::new(toc, options, version)?;
        Ok(Listing { header, toc, version, selection, time_zone: None, verbose: false })
    }
}

impl Listing<'_> {
    /// Adds a time zone to the time of the dump. An archive does not tell in which one its time is: pg_restore prints
    /// that time with the abbreviation of the time zone in which *it* runs, whichever the dump was made in.
    #[must_use]
    pub fn time_zone(mut self, abbreviation: &str) -> Self {
        self.time_zone = Some(abbreviation.to_owned());
        self
    }

    /// Lists every entry, and which others each depends on, as with `--verbose`.
    #[must_use]
    pub fn verbose(mut self) -> Self {
        self.verbose = true;
        self
    }

    /// Writes the listing. Names are in the encoding of the archive.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn write_to(&self, mut out: impl Write) -> io::Result<()> {
        let mut out = io::BufWriter::with_capacity(64 << 10, &mut out);
        let mut line = Vec::new();
        self.write_header(&mut out)?;
        for &index in &self.selection.order {
            let entry = &self.toc.entries()[index as usize];
            if self.verbose || self.selection.wanted(index).any() {
                write_line(&mut out, &mut line, entry)?;
            }
            if self.verbose && !entry.dependencies().is_empty() {
                out.write_all(b";\tdepends on:")?;
                entry.dependencies().iter().try_for_each(|id| write!(out, " {id}"))?;
                out.write_all(b"\n")?;
            }
        }
        out.flush()
    }

    fn write_header(&self, out: &mut impl Write) -> io::Result<()> {
        let header = self.header;
        write!(out, ";\n; Archive created at {}", header.created)?;
        if let Some(time_zone) = &self.time_zone {
            write!(out, " {time_zone}")?;
        }
        out.write_all(b"\n;     dbname: ")?;
        out.write_all(&on_one_line(header.database.as_deref().unwrap_or_default()))?;
        write!(out, "\n;     TOC Entries: {}\n;     Compression: ", self.toc.entries().len())?;
        match header.compression_level {
            // The others have the level no more, and guess.
            Some(level) if self.version == PgRestoreVersion::V15 => write!(out, "{level}")?,
            _ => write!(out, "{}", header.compression)?,
        }
        let format = header.format.to_string().to_uppercase();
        write!(out, "\n;     Dump Version: {}\n;     Format: {format}\n", header.version)?;
        write!(out, ";     Integer: {} bytes\n;     Offset: {} bytes\n", header.int_size, header.offset_size)?;
        for (what, version) in
            [("Dumped from database", &header.server_version), ("Dumped by pg_dump", &header.dump_version)]
        {
            if let Some(version) = version {
                write!(out, ";     {what} version: ")?;
                out.write_all(&on_one_line(version))?;
                out.write_all(b"\n")?;
            }
        }
        out.write_all(b";\n;\n; Selected TOC Entries:\n;\n")
    }
}

/// Writes the line of an entry. Archives can have millions of them, so `line`, which has no other use, is kept.
fn write_line(out: &mut impl Write, line: &mut Vec<u8>, entry: &TocEntry) -> io::Result<()> {
    line.clear();
    put_number(line, entry.dump_id().into());
    line.extend_from_slice(b"; ");
    put_number(line, entry.table_oid().into());
    line.push(b' ');
    put_number(line, entry.oid().into());
    let [schema, owner] = [entry.namespace().unwrap_or(b"-"), entry.owner().unwrap_or_default()];
    for text in [entry.description(), schema, entry.tag(), owner] {
        line.push(b' ');
        line.extend_from_slice(text);
    }
    // The whole line at once is cheaper than each of its texts.
    line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    line.push(b'\n');
    out.write_all(line)
}

/// Appends a number in digits, in a fraction of the time of `write!`.
fn put_number(line: &mut Vec<u8>, number: i64) {
    // The longest is -2147483648.
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        line.push(b'-');
    }
    line.extend_from_slice(&digits[start..]);
}

/// Which entries of an archive are wanted, in which order: a listing that was edited (`pg_restore -L`).
///
/// Each line begins with the dump ID of an entry; a semicolon and all that follows it on the line is a comment, and
/// empty lines are nothing. The order of the lines is the order of the output, but that rights come after all else, and
/// event triggers and the refreshing of materialized views after the rights.
///
/// # Stricter than pg_restore
///
/// Each of these is an error here, told with its line:
///
/// | line | pg_restore |
/// | --- | --- |
/// | `abc`, `-1`, `0` | ignores it, with a warning |
/// | `12 abc`, `12abc` | takes it for 12 |
/// | an ID above all of the archive, or one that a line before has | ignores it, with a warning |
/// | an ID below that, which the archive does not have | stops, without the line |
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListFile {
    dump_ids: Vec<i32>,
}

/// Why a list could not be taken.
#[derive(Debug)]
#[non_exhaustive]
pub enum ListFileError {
    /// It could not be read.
    Read(io::Error),
    /// Lines of it are wrong.
    Faults {
        /// The first ones, in the order of the lines; at most 100.
        first: Vec<ListFault>,
        /// How many there are.
        count: u64,
    },
}

/// A wrong line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListFault {
    /// The line, counted from 1.
    pub line: u64,
    /// What is wrong with it.
    pub kind: ListFaultKind,
}

/// What can be wrong with a line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListFaultKind {
    /// It does not begin with a dump ID, which is a number above 0, or something follows that before the semicolon.
    NotADumpId(String),
    /// The archive does not have this entry.
    Unknown(i32),
    /// It is the same as another line.
    Duplicate {
        /// The dump ID of both.
        dump_id: i32,
        /// The other line.
        first_line: u64,
    },
}

const MOST_FAULTS: usize = 100;
/// No dump ID is as long, with blanks around it.
const HEAD_BYTES: usize = 64;

impl ListFile {
    /// Reads a list for an archive. What is kept is a number for each entry.
    ///
    /// ```
    /// # let file = dumpfmt::example::archive();
    /// use dumpfmt::{ArchiveReader, ListFile};
    ///
    /// let archive = ArchiveReader::new(file)?;
    /// let list = ListFile::read(&b"; the rows alone\n2; 0 0 TABLE DATA public tenant owner\n"[..], archive.toc())?;
    /// assert_eq!(list.dump_ids(), [2]);
    /// let wrong = ListFile::read(&b"2\n3\n"[..], archive.toc()).unwrap_err();
    /// assert_eq!(wrong.to_string(), "the list has a wrong line: line 2: the archive has no entry 3");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When `input` fails, or with every line that is wrong.
    pub fn read(mut input: impl BufRead, toc: &Toc) -> Result<Self, ListFileError> {
        let mut reading = Reading { toc, list: Self::default(), lines: HashMap::new(), first: Vec::new(), count: 0 };
        let mut line = Line { number: 1, ..Line::default() };
        loop {
            let bytes = match input.fill_buf() {
                Ok(bytes) => bytes,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(ListFileError::Read(e)),
            };
            if bytes.is_empty() {
                break;
            }
            for &byte in bytes {
                match byte {
                    b'\n' => {
                        reading.take(&line);
                        line = Line { number: line.number + 1, ..Line::default() };
                    }
                    b';' => line.in_comment = true,
                    _ if line.in_comment => {}
                    _ if line.head.len() < HEAD_BYTES => line.head.push(byte),
                    _ => line.is_long |= !byte.is_ascii_whitespace(),
                }
            }
            let length = bytes.len();
            input.consume(length);
        }
        reading.take(&line);
        match reading.count {
            0 => Ok(reading.list),
            count => Err(ListFileError::Faults { first: reading.first, count }),
        }
    }

    /// The dump IDs in the order of the lines, each one once.
    pub fn dump_ids(&self) -> &[i32] {
        &self.dump_ids
    }
}

/// A line while it is read; its comment is not kept.
#[derive(Debug, Default)]
struct Line {
    number: u64,
    head: Vec<u8>,
    is_long: bool,
    in_comment: bool,
}

struct Reading<'a> {
    toc: &'a Toc,
    list: ListFile,
    /// On which line each dump ID was.
    lines: HashMap<i32, u64>,
    first: Vec<ListFault>,
    count: u64,
}

impl Reading<'_> {
    fn take(&mut self, line: &Line) {
        let head = line.head.trim_ascii();
        if head.is_empty() && !line.is_long {
            return;
        }
        match self.dump_id(line, head) {
            Ok(dump_id) => {
                self.lines.insert(dump_id, line.number);
                self.list.dump_ids.push(dump_id);
            }
            Err(kind) => {
                self.count += 1;
                if self.first.len() < MOST_FAULTS {
                    self.first.push(ListFault { line: line.number, kind });
                }
            }
        }
    }

    fn dump_id(&self, line: &Line, head: &[u8]) -> Result<i32, ListFaultKind> {
        let not_one = || ListFaultKind::NotADumpId(String::from_utf8_lossy(head).into_owned());
        if line.is_long || !head.iter().all(u8::is_ascii_digit) {
            return Err(not_one());
        }
        let number = std::str::from_utf8(head).ok().and_then(|digits| digits.parse::<i32>().ok());
        let dump_id = number.filter(|number| *number > 0).ok_or_else(not_one)?;
        if let Some(&first_line) = self.lines.get(&dump_id) {
            return Err(ListFaultKind::Duplicate { dump_id, first_line });
        }
        self.toc.get(dump_id).map(|_| dump_id).ok_or(ListFaultKind::Unknown(dump_id))
    }
}

impl fmt::Display for ListFaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotADumpId(text) => write!(f, "`{}` is not a dump ID", text.escape_debug()),
            Self::Unknown(dump_id) => write!(f, "the archive has no entry {dump_id}"),
            Self::Duplicate { dump_id, first_line } => {
                write!(f, "entry {dump_id} is on line {first_line} already")
            }
        }
    }
}

impl fmt::Display for ListFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.kind)
    }
}

impl fmt::Display for ListFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, count) = match self {
            Self::Read(_) => return f.write_str("reading the list failed"),
            Self::Faults { first, count } => (first, *count),
        };
        match count {
            1 => f.write_str("the list has a wrong line")?,
            _ => write!(f, "the list has {count} wrong lines")?,
        }
        for (number, fault) in first.iter().enumerate() {
            write!(f, "{} {fault}", if number == 0 { ":" } else { ";" })?;
        }
        if count > first.len() as u64 {
            f.write_str("; ...")?;
        }
        Ok(())
    }
}

impl std::error::Error for ListFileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(error) => Some(error),
            Self::Faults { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Vec<i32>, ListFileError> {
        let archive = ArchiveReader::new(crate::example::archive()).expect("the example is an archive");
        // In pieces of a byte, as a terminal may give them.
        let input = io::BufReader::with_capacity(1, text);
        ListFile::read(input, archive.toc()).map(|list| list.dump_ids().to_vec())
    }

    #[test]
    fn comments_and_blanks_are_nothing() {
        let text = b"; a listing\n;2\n\n \t\r\n  2 ; 0 0 TABLE DATA; 1\r\n1";
        assert_eq!(read(text).expect("the list is right"), [2, 1]);
        assert_eq!(read(b"").expect("nothing is a list"), []);
    }

    #[test]
    fn a_number_that_no_dump_id_can_be_is_none() {
        for line in
            ["-1", "+1", "0x2", "1.0", "1 2", "99999999999999999999", "00000000000000000000x", "\u{feff}1", "\0"]
        {
            let error = read(line.as_bytes()).expect_err(line);
            assert!(error.to_string().contains("line 1: `"), "{error}");
        }
    }

    #[test]
    fn a_line_as_long_as_a_file_takes_no_memory_and_a_blank_one_is_blank() {
        assert_eq!(read(&[b" ".repeat(1 << 20), b"; 1".to_vec()].concat()).expect("it is a comment"), []);
        let error = read(&[b" ".repeat(100), b"1".to_vec()].concat()).expect_err("it is too far");
        assert!(matches!(error, ListFileError::Faults { count: 1, .. }), "{error}");
        let ListFileError::Faults { first, .. } = read(&b"7".repeat(1 << 20)).expect_err("it is no number") else {
            panic!("it could be read");
        };
        assert!(first[0].to_string().len() < 200, "{}", first[0]);
    }

    #[test]
    fn of_many_faults_some_are_kept_and_all_are_counted() {
        let error = read(&b"x\n".repeat(100_000)).expect_err("it is wrong");
        let ListFileError::Faults { first, count } = &error else { panic!("{error}") };
        assert_eq!((first.len(), *count), (MOST_FAULTS, 100_000));
        assert!(error.to_string().ends_with("; ..."), "{error}");
    }
}
