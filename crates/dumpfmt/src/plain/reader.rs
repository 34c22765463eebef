//! Reading a script item by item.

use std::io::Read;
use std::ops::Range;

use memchr::{memchr, memchr_iter, memchr2, memmem, memrchr};
use sha2::{Digest, Sha256};

use super::lexer::{BlockComment, Lexer, Stop};
use super::text::Text;
use super::verify::VerifiedScript;
use crate::error::{Error, ErrorKind, Result};
use crate::foreign;
use crate::limits::Limits;
use crate::sql::{Token, Tokens};
use crate::statement::CopyStatement;
use crate::verify::Sha256Digest;

/// What every script begins with.
const HEADER: &[u8] = b"--\n-- PostgreSQL database dump\n";
/// As much of a comment is kept as one that matters can have.
const COMMENT_BYTES: usize = 512;
/// A command of psql that is accepted is on a line that is not longer.
const COMMAND_BYTES: usize = 4096;
/// As much of a command's name is told.
const COMMAND_NAME_BYTES: usize = 64;
/// Encodings in which a byte of a character can look like a backslash. No database has one of them.
const AMBIGUOUS_ENCODINGS: [&[u8]; 8] =
    [b"SJIS", b"BIG5", b"GBK", b"UHC", b"GB18030", b"JOHAB", b"SHIFT_JIS_2004", b"MSKANJI"];

/// Reads a plain dump of pg_dump 13 to 18, as a stream.
///
/// What is held in memory is the statement or the row that is longest, up to twice. See [`Item`] for what comes out.
/// The script is proven to be whole only by the `None` at the end: who executes it has to do so within one transaction, or
/// to throw away what an earlier error leaves.
#[derive(Debug)]
pub struct ScriptReader<R> {
    text: Text<R>,
    limits: Limits,
    mode: Mode,
    /// Bytes of the item that was given last, which have not been passed over yet.
    given: usize,
    /// How much of the item under way was looked at.
    looked_at: usize,
    lexer: Lexer,
    /// The comment under way.
    comment: Vec<u8>,
    has_header: bool,
    has_statements: bool,
    ending: Ending,
    /// Of the `\restrict` that is in force.
    restrict_key: Option<Vec<u8>>,
    copy: Option<Copy>,
    digests: bool,
    tables: Vec<PlainTable>,
    tables_bytes: u64,
    /// The digest of the last table, while more of its INSERT statements may follow.
    inserts: Option<Sha256>,
    server_version: Option<Box<[u8]>>,
    dump_version: Option<Box<[u8]>>,
    encoding: Option<String>,
}

/// What a script consists of.
#[derive(Debug)]
#[non_exhaustive]
pub enum Item<'a> {
    /// One SQL statement, byte by byte as it is written, without its `;` and the comments before it.
    Statement(&'a [u8]),
    /// A `COPY ... FROM stdin` begins; rows follow.
    CopyBegins(CopyStatement),
    /// Whole lines of COPY text, each with its line feed; at least one.
    CopyRows(&'a [u8]),
    /// The `\.` behind the rows was read.
    CopyEnds {
        /// How many rows there were.
        rows: u64,
    },
}

/// The rows of a table, of one `COPY` or of `INSERT` statements in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlainTable {
    /// The table, and the columns of its `COPY`; of `INSERT` statements no columns are read.
    pub copy: CopyStatement,
    /// Rows of COPY text; `None` for INSERT statements.
    pub rows: Option<u64>,
    /// Bytes of the COPY text, without the `\.` that ends it; of the INSERT statements without their `;`.
    pub bytes: u64,
    /// A digest of these bytes, for COPY text the same as that of the table in an archive
    /// ([`VerifiedEntry::sha256`](crate::VerifiedEntry::sha256)); `None` when none was asked for, or when more INSERT statements
    /// may follow.
    pub sha256: Option<Sha256Digest>,
}

/// Where in the script the next byte is.
#[derive(Debug)]
enum Mode {
    BetweenStatements,
    LineComment,
    BlockComment(BlockComment),
    Statement,
    Rows,
    Ended,
    Failed,
}

/// How much of what closes a script was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    No,
    /// `-- PostgreSQL database dump complete`
    Marker,
    /// The line `--` behind it, or the `\unrestrict`.
    Line,
    /// And an empty line.
    Whole,
}

/// The rows under way.
#[derive(Debug)]
struct Copy {
    statement: CopyStatement,
    rows: u64,
    tabs: u64,
    bytes: u64,
    digest: Option<Sha256>,
    /// Whether the last piece of rows ended within one.
    within_row: bool,
}

/// An item, where it is a piece of the text the bytes of it.
#[derive(Debug)]
pub(super) enum Found {
    Statement(Range<usize>),
    CopyBegins(CopyStatement),
    CopyRows(Range<usize>),
    CopyEnds(u64),
}

impl<R: Read> ScriptReader<R> {
    /// Begins with the first byte of a script.
    pub fn new(input: R) -> Self {
        Self::with_limits(input, Limits::default())
    }

    /// As [`new`](Self::new), with limits: [`statement_bytes`](Limits::statement_bytes),
    /// [`row_bytes`](Limits::row_bytes), and for the list of tables [`toc_bytes`](Limits::toc_bytes).
    pub fn with_limits(input: R, limits: Limits) -> Self {
        Self {
            text: Text::new(input),
            limits,
            mode: Mode::BetweenStatements,
            given: 0,
            looked_at: 0,
            lexer: Lexer::new(),
            comment: Vec::new(),
            has_header: false,
            has_statements: false,
            ending: Ending::No,
            restrict_key: None,
            copy: None,
            digests: false,
            tables: Vec::new(),
            tables_bytes: 0,
            inserts: None,
            server_version: None,
            dump_version: None,
            encoding: None,
        }
    }

    /// Whether [`PlainTable::sha256`] is computed. Default: no.
    #[must_use]
    pub fn digests(self, digests: bool) -> Self {
        Self { digests, ..self }
    }

    /// The next item; `None` when the script has ended and is whole.
    ///
    /// # Errors
    ///
    /// When the input cannot be read, or is not what pg_dump writes: something else altogether, cut short, damaged, with
    /// a command of psql, with another form of `COPY`, or with a statement or a row that exceeds a limit. Nothing can be
    /// read after that.
    pub fn next_item(&mut self) -> Result<Option<Item<'_>>> {
        Ok(self.find(true)?.map(|found| match found {
            Found::Statement(range) => Item::Statement(&self.text.bytes()[range]),
            Found::CopyBegins(statement) => Item::CopyBegins(statement),
            Found::CopyRows(range) => Item::CopyRows(&self.text.bytes()[range]),
            Found::CopyEnds(rows) => Item::CopyEnds { rows },
        }))
    }

    /// The tables whose rows were read so far, in the order of the script. A table is there twice when the rows of
    /// partitions are for their root, or when the statements of others stand between its own.
    pub fn tables(&self) -> &[PlainTable] {
        &self.tables
    }

    /// The version of the server, such as `15.18 (Debian 15.18-0+deb12u1)`, once the first statement was read.
    pub fn server_version(&self) -> Option<&[u8]> {
        self.server_version.as_deref()
    }

    /// The version of the pg_dump, once the first statement was read.
    pub fn dump_version(&self) -> Option<&[u8]> {
        self.dump_version.as_deref()
    }

    /// PostgreSQL's name of the encoding of the script, such as `UTF8`, once the statement was read that sets it.
    pub fn encoding(&self) -> Option<&str> {
        self.encoding.as_deref()
    }

    /// The line, counted from 1, at which the last item began.
    pub fn line(&self) -> u64 {
        self.text.line(0)
    }

    /// How many bytes were read up to the end of the last item.
    pub fn position(&self) -> u64 {
        self.text.offset(self.given)
    }

    /// What was in the script, which was read to its end.
    pub(super) fn into_verified(self) -> VerifiedScript {
        let Self { tables, server_version, dump_version, encoding, .. } = self;
        VerifiedScript { tables, server_version, dump_version, encoding }
    }

    /// The next item; unless `whole_rows`, rows come as they are read, however long one is.
    pub(super) fn find(&mut self, whole_rows: bool) -> Result<Option<Found>> {
        self.text.advance(std::mem::take(&mut self.given));
        let found = self.find_next(whole_rows);
        found.map_err(|error| {
            self.mode = Mode::Failed;
            self.explain(error)
        })
    }

    fn find_next(&mut self, whole_rows: bool) -> Result<Option<Found>> {
        loop {
            match self.mode {
                Mode::BetweenStatements => self.between_statements()?,
                Mode::LineComment => self.line_comment()?,
                Mode::BlockComment(ref mut comment) => match comment.run(self.text.bytes()) {
                    Some(end) => {
                        self.text.advance(end);
                        self.mode = Mode::BetweenStatements;
                    }
                    None => {
                        self.text.advance(self.text.bytes().len());
                        if !self.text.more()? {
                            return Err(self.text.truncated("within a comment"));
                        }
                    }
                },
                Mode::Statement => return self.statement().map(Some),
                Mode::Rows => return self.rows(whole_rows).map(Some),
                Mode::Ended => return Ok(None),
                Mode::Failed => return Err(Error::usage("the script could not be read before")),
            }
        }
    }

    /// Says what it is that cannot be read, when it does not even begin like a script.
    fn explain(&mut self, error: Error) -> Error {
        if self.has_header || matches!(error.kind(), ErrorKind::Io(_) | ErrorKind::Usage(_)) {
            return error;
        }
        let first = self.text.first();
        let has_other_line_ends = first.starts_with(b"--\r\n-- PostgreSQL database dump");
        if has_other_line_ends {
            return error;
        }
        if !first.is_empty() && HEADER.starts_with(first) {
            return self.text.truncated("within its first lines");
        }
        Error::new(ErrorKind::NotAScript(foreign::instead_of_script(first)), 0).in_line(1)
    }

    /// Passes over blanks and the begin of a comment, up to the begin of a statement.
    fn between_statements(&mut self) -> Result<()> {
        let Some(byte) = self.text.byte(0)? else { return self.end() };
        match byte {
            b'\n' => {
                if self.ending == Ending::Line {
                    self.ending = Ending::Whole;
                }
                self.text.advance(1);
            }
            b' ' | b'\t' | 0x0b | 0x0c => self.text.advance(1),
            b'\r' => return Err(self.carriage_return(0)),
            b'-' if self.text.byte(1)? == Some(b'-') => {
                self.text.advance(2);
                self.comment.clear();
                self.mode = Mode::LineComment;
            }
            b'-' if self.text.byte(1)?.is_none() => return Err(self.text.truncated("within a line")),
            // What it is instead is said later.
            _ if !self.has_header => return Err(self.text.corrupt(0, "it has no header")),
            b'\\' => self.command()?,
            _ if self.ending != Ending::No => {
                let text = "there is more behind its closing line, `-- PostgreSQL database dump complete`";
                return Err(self.text.corrupt(0, text));
            }
            b';' => self.text.advance(1),
            b'/' if self.text.byte(1)? == Some(b'*') => {
                self.text.advance(2);
                self.mode = Mode::BlockComment(BlockComment::BEGUN);
            }
            _ => {
                self.lexer.begin();
                self.looked_at = 0;
                self.mode = Mode::Statement;
            }
        }
        Ok(())
    }

    /// Nothing follows.
    fn end(&mut self) -> Result<()> {
        let place = match (self.ending, &self.restrict_key) {
            (Ending::No, _) => "before its closing line, `-- PostgreSQL database dump complete`",
            (Ending::Whole, None) => {
                self.end_inserts();
                self.mode = Mode::Ended;
                return Ok(());
            }
            (Ending::Whole, Some(_)) => "before the `\\unrestrict` that closes it",
            (Ending::Marker | Ending::Line, _) => "within the lines that close it",
        };
        Err(self.text.truncated(place))
    }

    fn carriage_return(&self, at: usize) -> Error {
        let text = "there is a carriage return where pg_dump writes none: its line ends were changed to CR LF, as a \
                    transfer as text does";
        self.text.corrupt(at, text)
    }

    /// Reads a comment to the end of its line.
    fn line_comment(&mut self) -> Result<()> {
        let bytes = self.text.bytes();
        let end = memchr2(b'\n', b'\r', bytes);
        let piece = &bytes[..end.unwrap_or(bytes.len())];
        let kept = piece.len().min(COMMENT_BYTES - self.comment.len());
        self.comment.extend_from_slice(&piece[..kept]);
        match end {
            Some(at) if bytes[at] == b'\r' => return Err(self.carriage_return(at)),
            Some(at) => {
                self.text.advance(at + 1);
                self.mode = Mode::BetweenStatements;
                self.note_comment();
            }
            None => {
                self.text.advance(bytes.len());
                if !self.text.more()? {
                    return Err(self.text.truncated("within a comment"));
                }
            }
        }
        Ok(())
    }

    fn note_comment(&mut self) {
        let version = |found: &mut Option<Box<[u8]>>, text: &[u8]| _ = found.get_or_insert_with(|| text.into());
        match &self.comment[..] {
            b" PostgreSQL database dump" => self.has_header = true,
            b" PostgreSQL database dump complete" if self.has_header => self.ending = Ending::Marker,
            b"" if self.ending == Ending::Marker => self.ending = Ending::Line,
            _ if self.has_statements => {}
            comment => {
                if let Some(text) = comment.strip_prefix(b" Dumped from database version ") {
                    version(&mut self.server_version, text);
                } else if let Some(text) = comment.strip_prefix(b" Dumped by pg_dump version ") {
                    version(&mut self.dump_version, text);
                }
            }
        }
    }

    /// Takes a line with a command of psql, of which only two are accepted.
    fn command(&mut self) -> Result<()> {
        let mut end = 0;
        while end < COMMAND_BYTES {
            match self.text.byte(end)? {
                Some(b'\n') => break,
                Some(_) => end += 1,
                None => return Err(self.text.truncated("within a line that begins with a backslash")),
            }
        }
        let line = &self.text.bytes()[1..end];
        let name = command_name(line);
        let is_restrict = name == b"restrict";
        if !is_restrict && name != b"unrestrict" {
            return Err(self.foreign_command(0));
        }
        if line.ends_with(b"\r") {
            return Err(self.carriage_return(end - 1));
        }
        let key = line[name.len()..].strip_prefix(b" ").unwrap_or_default().to_vec();
        if key.is_empty() || !key.iter().all(u8::is_ascii_alphanumeric) || end == COMMAND_BYTES {
            return Err(self.text.corrupt(0, "a `\\restrict` or `\\unrestrict` has no key such as pg_dump writes"));
        }
        match (&self.restrict_key, is_restrict) {
            (None, true) if self.ending == Ending::No => self.restrict_key = Some(key),
            (Some(expected), false) if *expected == key => {
                self.restrict_key = None;
                if self.ending == Ending::Whole {
                    self.ending = Ending::Line;
                }
            }
            (Some(_), false) => {
                return Err(self.text.corrupt(0, "the key of `\\unrestrict` is another one than that of `\\restrict`"));
            }
            (None, false) => return Err(self.text.corrupt(0, "there is an `\\unrestrict` without a `\\restrict`")),
            (_, true) => return Err(self.text.corrupt(0, "there is a second `\\restrict`")),
        }
        self.text.advance(end + 1);
        Ok(())
    }

    /// The backslash at `at` is no part of SQL.
    fn foreign_command(&mut self, at: usize) -> Error {
        // Until the name is there.
        for index in at + 1..=at + COMMAND_NAME_BYTES {
            if !matches!(self.text.byte(index), Ok(Some(byte)) if byte != b'\n') {
                break;
            }
        }
        let name = command_name(&self.text.bytes()[at + 1..]);
        let name = String::from_utf8_lossy(&name[..name.len().min(COMMAND_NAME_BYTES)]).into_owned();
        self.text.error(at, ErrorKind::MetaCommand(name))
    }

    fn statement(&mut self) -> Result<Found> {
        let length = loop {
            let bytes = self.text.bytes();
            let stop = self.lexer.run(&bytes[self.looked_at..]);
            let length = match stop {
                Stop::MoreNeeded => bytes.len(),
                Stop::Semicolon(at) | Stop::Backslash(at) | Stop::CarriageReturn(at) => self.looked_at + at,
            };
            self.expect_at_most(length, self.limits.statement_bytes, "a statement", "statement_bytes")?;
            match stop {
                Stop::MoreNeeded => {
                    self.looked_at = length;
                    if !self.text.more()? {
                        return Err(self.open_statement());
                    }
                }
                Stop::Semicolon(_) => break length,
                Stop::Backslash(_) => return Err(self.foreign_command(length)),
                Stop::CarriageReturn(_) => return Err(self.carriage_return(length)),
            }
        };
        self.has_statements = true;
        self.mode = Mode::BetweenStatements;
        self.given = length + 1;
        let sql = &self.text.bytes()[..length];
        let mut tokens = Tokens::new(sql);
        if tokens.clone().keyword("COPY").is_some() {
            return self.copy(length);
        }
        if tokens.keywords("INSERT INTO").is_some() {
            self.insert(length)?;
        } else if tokens.keyword("SET").is_some() {
            self.set(length)?;
        }
        Ok(Found::Statement(0..length))
    }

    fn expect_at_most(&self, length: usize, limit: u64, what: &'static str, field: &'static str) -> Result<()> {
        if length as u64 <= limit {
            return Ok(());
        }
        Err(self.text.error(0, ErrorKind::LimitExceeded { what, limit, field }))
    }

    /// The script ends within a statement.
    fn open_statement(&self) -> Error {
        let line = self.text.line(0);
        let place = match self.lexer.within() {
            Some(part) => format!("within {part}, in the statement that begins in line {line}"),
            None => format!("within the statement that begins in line {line}"),
        };
        self.text.truncated(place)
    }

    /// The statement of so many bytes is a COPY.
    fn copy(&mut self, length: usize) -> Result<Found> {
        let sql = &self.text.bytes()[..length];
        let Some(statement) = CopyStatement::parse(sql).and_then(|(copy, rest)| rest.is_empty().then_some(copy)) else {
            return Err(self.text.error(0, ErrorKind::Unsupported(other_copy(sql))));
        };
        match self.text.byte(length + 1)? {
            Some(b'\n') => {}
            Some(b'\r') => return Err(self.carriage_return(length + 1)),
            Some(_) => return Err(self.text.corrupt(length + 1, "there is more in the line of a COPY statement")),
            None => return Err(self.text.truncated("behind a COPY statement, before its rows")),
        }
        self.given = length + 2;
        self.looked_at = 0;
        self.mode = Mode::Rows;
        self.end_inserts();
        let digest = self.digests.then(Sha256::new);
        self.copy = Some(Copy { statement: statement.clone(), rows: 0, tabs: 0, bytes: 0, digest, within_row: false });
        Ok(Found::CopyBegins(statement))
    }

    fn rows(&mut self, whole_rows: bool) -> Result<Found> {
        let Some(copy) = &mut self.copy else { return Err(Error::usage("there are no rows here")) };
        let length = loop {
            let bytes = self.text.bytes();
            if !copy.within_row && bytes.starts_with(b"\\.\n") {
                return self.end_of_rows();
            }
            let rest = &bytes[self.looked_at..];
            let end = memmem::find(rest, b"\n\\.\n").or_else(|| memrchr(b'\n', rest));
            if let Some(end) = end {
                break self.looked_at + end + 1;
            }
            let may_be_end = !copy.within_row && b"\\.\n".starts_with(bytes);
            if !whole_rows && !bytes.is_empty() && !may_be_end {
                break bytes.len();
            }
            if let Some(at) = memchr(b'\r', rest) {
                // Before whatever is wrong further on: who takes parts of rows finds it first, too.
                let (at, name) = (self.looked_at + at, copy.name());
                return Err(self.carriage_return(at).in_entry(name));
            }
            self.looked_at = bytes.len();
            if self.looked_at as u64 > self.limits.row_bytes && whole_rows {
                let kind = ErrorKind::LimitExceeded { what: "a row", limit: self.limits.row_bytes, field: "row_bytes" };
                return Err(self.text.error(0, kind).in_entry(copy.name()));
            }
            if !self.text.more()? {
                return Err(self.text.truncated("within rows, before the `\\.` behind them").in_entry(copy.name()));
            }
        };
        self.looked_at = 0;
        let mut rows = &self.text.bytes()[..length];
        if let Some(at) = memchr(b'\r', rows) {
            // What is before it, as if it came later.
            rows = &rows[..memrchr(b'\n', &rows[..at]).map_or(0, |end| end + 1)];
            if rows.is_empty() {
                let name = copy.name();
                return Err(self.carriage_return(at).in_entry(name));
            }
        }
        copy.rows += memchr_iter(b'\n', rows).count() as u64;
        copy.tabs += memchr_iter(b'\t', rows).count() as u64;
        copy.bytes += rows.len() as u64;
        copy.within_row = !rows.ends_with(b"\n");
        if let Some(digest) = &mut copy.digest {
            digest.update(rows);
        }
        self.given = rows.len();
        Ok(Found::CopyRows(0..self.given))
    }

    /// The `\.` is next.
    fn end_of_rows(&mut self) -> Result<Found> {
        let Some(copy) = self.copy.take() else { return Err(Error::usage("there are no rows here")) };
        let columns = copy.statement.columns.len() as u64;
        if columns > 0 && copy.tabs != copy.rows * (columns - 1) {
            let text = format!("{} rows of {columns} columns have {} fields", copy.rows, copy.tabs + copy.rows);
            return Err(self.text.corrupt(0, text).in_entry(copy.name()));
        }
        self.given = b"\\.\n".len();
        self.mode = Mode::BetweenStatements;
        let sha256 = copy.digest.map(|digest| Sha256Digest(digest.finalize().into()));
        self.add(PlainTable { copy: copy.statement, rows: Some(copy.rows), bytes: copy.bytes, sha256 })?;
        Ok(Found::CopyEnds(copy.rows))
    }

    /// The statement of so many bytes is an INSERT.
    fn insert(&mut self, length: usize) -> Result<()> {
        let sql = &self.text.bytes()[..length];
        let mut tokens = Tokens::new(sql);
        _ = tokens.keywords("INSERT INTO");
        let Some((schema, table)) = tokens.qualified_name() else { return Ok(()) };
        let last = self.tables.last_mut();
        let same = last.filter(|last| last.rows.is_none() && last.copy.table == table && last.copy.schema == schema);
        if same.is_none() {
            self.end_inserts();
            self.inserts = self.digests.then(Sha256::new);
            let copy = CopyStatement { schema, table, columns: Vec::new() };
            self.add(PlainTable { copy, rows: None, bytes: 0, sha256: None })?;
        }
        let sql = &self.text.bytes()[..length];
        if let Some(table) = self.tables.last_mut() {
            table.bytes += sql.len() as u64;
            if let Some(digest) = &mut self.inserts {
                digest.update(sql);
            }
        }
        Ok(())
    }

    /// No more INSERT statements for the last table follow.
    fn end_inserts(&mut self) {
        if let (Some(digest), Some(table)) = (self.inserts.take(), self.tables.last_mut()) {
            table.sha256 = Some(Sha256Digest(digest.finalize().into()));
        }
    }

    /// The statement of so many bytes is a SET.
    fn set(&mut self, length: usize) -> Result<()> {
        let mut tokens = Tokens::new(&self.text.bytes()[..length]);
        _ = tokens.keyword("SET");
        _ = tokens.keyword("LOCAL").or_else(|| tokens.keyword("SESSION"));
        let Some(name) = tokens.name() else { return Ok(()) };
        _ = tokens.symbol(b'=').or_else(|| tokens.keyword("TO"));
        if name.eq_ignore_ascii_case(b"standard_conforming_strings") {
            self.lexer.standard_strings = match (tokens.keyword("on"), tokens.keyword("off")) {
                (Some(()), None) => true,
                (None, Some(())) => false,
                // Where a text ends would be a guess.
                _ => {
                    return Err(self.text.corrupt(0, "`standard_conforming_strings` is set to neither `on` nor `off`"));
                }
            };
        }
        if name.eq_ignore_ascii_case(b"client_encoding") {
            let Some(encoding) = tokens.literal() else { return Ok(()) };
            if AMBIGUOUS_ENCODINGS.iter().any(|other| other.eq_ignore_ascii_case(&encoding)) {
                let name = String::from_utf8_lossy(&encoding);
                let text =
                    format!("a plain dump in the encoding {name} is not read here: take it with `--encoding=UTF8`");
                return Err(self.text.error(0, ErrorKind::Unsupported(text)));
            }
            self.encoding.get_or_insert_with(|| String::from_utf8_lossy(&encoding).into_owned());
        }
        Ok(())
    }

    fn add(&mut self, table: PlainTable) -> Result<()> {
        let names = table.copy.columns.iter().map(|name| name.len() + size_of::<Vec<u8>>()).sum::<usize>();
        self.tables_bytes += (size_of::<PlainTable>() + table.copy.table.len() + names) as u64;
        if self.tables_bytes > self.limits.toc_bytes {
            let kind = ErrorKind::LimitExceeded {
                what: "the list of tables",
                limit: self.limits.toc_bytes,
                field: "toc_bytes",
            };
            return Err(self.text.error(0, kind));
        }
        self.tables.push(table);
        Ok(())
    }
}

impl Copy {
    fn name(&self) -> String {
        let name = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let schema = self.statement.schema.as_deref().map_or(String::new(), |schema| name(schema) + ".");
        format!("the rows of {schema}{}", name(&self.statement.table))
    }
}

/// The name of a command of psql, without its arguments, which nobody needs to see.
fn command_name(line: &[u8]) -> &[u8] {
    let letters = line.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    // Such as `\!`.
    let other = usize::from(letters == 0 && line.first().is_some_and(u8::is_ascii_punctuation));
    &line[..letters + other]
}

/// What is said of a COPY that is none of pg_dump's.
fn other_copy(sql: &[u8]) -> String {
    let mut tokens = Tokens::new(sql);
    let mut depth = 0;
    let form = loop {
        match tokens.next() {
            Some(Token::Symbol(b'(')) => depth += 1,
            Some(Token::Symbol(b')')) => depth -= 1,
            Some(Token::Word(word)) if depth == 0 && word.eq_ignore_ascii_case(b"FROM") => match tokens.next() {
                Some(Token::Literal(_)) => break "COPY ... FROM a file",
                Some(Token::Word(word)) if word.eq_ignore_ascii_case(b"PROGRAM") => break "COPY ... FROM PROGRAM",
                Some(Token::Word(word)) if word.eq_ignore_ascii_case(b"stdin") => {
                    break "COPY ... FROM stdin with options";
                }
                _ => {}
            },
            Some(Token::Word(word)) if depth == 0 && word.eq_ignore_ascii_case(b"TO") => break "COPY ... TO",
            Some(_) => {}
            None => break "COPY",
        }
    };
    format!("the script has a `{form}` such as pg_dump does not write, which is never run here")
}
