//! Reading the dump, on a thread of its own: cut into statements and rows, IDs replaced, handed over in pieces.

use std::io::{BufWriter, Read};
use std::sync::Arc;
use std::sync::mpsc as answers;
use std::thread;

use bytes::Bytes;
use dumpfmt::plain::{Item, ScriptReader};
use dumpfmt::{ArchiveReader, CopyStatement, SqlError, SqlOptions};
use tokio::sync::mpsc;

use super::pipe::pipe;
use super::{Dump, sql};
use crate::archive::{ArchiveError, ArchiveTable};
use crate::encoding;
use crate::error::{Error, Faults};
use crate::error_chain;
use crate::id_columns::IdColumn;
use crate::names::TableName;
use crate::remap::IdMap;
use crate::survey::{StrayPlace, Strays, TableScan, TableSurvey, add, excerpt, row_fault};

/// How many pieces may wait; with the pieces' size this bounds the memory.
const WAITING: usize = 4;
/// What the text of an archive is written in.
const PIPE_PIECE_BYTES: usize = 256 << 10;

/// A piece of the dump.
#[derive(Debug)]
pub(super) enum Piece {
    /// A statement to execute.
    Statement(Statement),
    /// The rows of a table begin. Nothing more comes before this is answered.
    Table(CopyTable),
    /// Some of its rows, as COPY takes them, and how many.
    Rows(Bytes, u64),
    /// The rows of the table have ended.
    TableEnd,
    /// The dump has been read to its end, and is whole.
    End(Box<Findings>),
}

/// A statement to execute.
#[derive(Debug)]
pub(super) struct Statement {
    /// As the server takes it, in UTF-8.
    pub(super) sql: String,
    pub(super) place: Place,
}

/// What people are told of where something is.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The line of a script; `None` in an archive, where nobody could look it up.
    pub(super) line: Option<u64>,
    /// The begin of the statement.
    pub(super) label: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`", self.label)?;
        self.line.map_or(Ok(()), |line| write!(f, " in line {line} of the script"))
    }
}

/// A table whose rows begin.
#[derive(Debug)]
pub(super) struct CopyTable {
    /// `None` in dumps of 2018 and before, which set the search path instead.
    pub(super) schema: Option<String>,
    pub(super) table: String,
    pub(super) columns: Vec<String>,
    /// PostgreSQL's name of the encoding of the rows.
    pub(super) encoding: String,
    pub(super) place: Place,
}

/// The answer to [`Piece::Table`]: which table it is, and the ID columns of all tables.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) table: TableName,
    pub(super) id_columns: Arc<Vec<IdColumn>>,
}

/// What was found on the way.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// A table is there twice when its rows come in two parts.
    pub(super) tables: Vec<(ArchiveTable, TableSurvey)>,
    pub(super) strays: Strays,
    pub(super) statements: u64,
    /// Statements that were left out, by the reason.
    pub(super) left_out_owners: u64,
    pub(super) left_out_privileges: u64,
}

/// What is wanted of the dump.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// What becomes of IDs; `None` when all stay as they are.
    pub(super) ids: Option<Arc<IdMap>>,
    pub(super) no_owner: bool,
    pub(super) no_privileges: bool,
    pub(super) server_version: i32,
}

type Sender = mpsc::Sender<Result<Piece, Error>>;
/// The ends of what is between the threads.
pub(super) type Pieces = (mpsc::Receiver<Result<Piece, Error>>, answers::Sender<Answer>);

/// Starts the thread. The last piece is [`Piece::End`] or an error.
pub(super) fn start<R: Read + Send + 'static>(dump: Dump<R>, wanted: Wanted) -> Pieces {
    let (sender, receiver) = mpsc::channel(WAITING);
    let (answer, answers) = answers::channel();
    tokio::task::spawn_blocking(move || {
        let read = match dump {
            Dump::Archive { reader, name } => read_archive(reader, &name, &wanted, &sender, answers),
            Dump::Script { input, name } => {
                let mut feed = Feed::new(&wanted, &sender, answers, true);
                feed.read(input).map_err(|stop| stop.told(|e| script_error(&name, &e)))
            }
        };
        if let Err(Stop::Failed(e)) = read {
            // Nobody listens any more when the restore failed first.
            let _ = sender.blocking_send(Err(e));
        }
    });
    (receiver, answer)
}

/// Why reading ended early.
enum Stop {
    Failed(Error),
    /// The receiver is gone.
    Unwanted,
}

/// The same where the reader's error has no name of a file yet.
enum ReadStop {
    Dump(dumpfmt::Error),
    Other(Stop),
}

impl ReadStop {
    fn told(self, tell: impl FnOnce(dumpfmt::Error) -> Error) -> Stop {
        match self {
            Self::Dump(e) => Stop::Failed(tell(e)),
            Self::Other(stop) => stop,
        }
    }
}

impl From<dumpfmt::Error> for ReadStop {
    fn from(error: dumpfmt::Error) -> Self {
        Self::Dump(error)
    }
}

impl From<Stop> for ReadStop {
    fn from(stop: Stop) -> Self {
        Self::Other(stop)
    }
}

impl From<Faults> for ReadStop {
    fn from(faults: Faults) -> Self {
        Self::Other(Stop::Failed(faults.into()))
    }
}

fn script_error(name: &std::path::Path, error: &dumpfmt::Error) -> Error {
    let mut text = error.to_string();
    for cause in error_chain::chain(error).skip(1) {
        text.push_str(": ");
        text.push_str(&cause.to_string());
    }
    let hint = error.hint().unwrap_or("check where the script comes from, then run the same command again");
    Faults::one(format!("cannot read the script `{}`", name.display()), text).with_hint(hint).into()
}

/// Reads an archive as the script that `pg_restore` makes of it.
fn read_archive<R: Read + Send + 'static>(
    mut reader: Box<ArchiveReader<R>>,
    name: &std::path::Path,
    wanted: &Wanted,
    sender: &Sender,
    answers: answers::Receiver<Answer>,
) -> Result<(), Stop> {
    let mut options = SqlOptions::default();
    options.version =
        Some(dumpfmt::PgRestoreVersion::of_major(u32::try_from(wanted.server_version / 10_000).unwrap_or(0)));
    // Servers before 18 have no function that takes them.
    options.statistics = wanted.server_version >= 18_00_00;
    options.no_owner = wanted.no_owner;
    options.no_privileges = wanted.no_privileges;
    let (output, input) = pipe();
    let writer = thread::spawn(move || reader.write_sql(BufWriter::with_capacity(PIPE_PIECE_BYTES, output), &options));
    let mut feed = Feed::new(wanted, sender, answers, false);
    let read = feed.read(input);
    // The input is gone, so that the writer ends too.
    let written = writer.join();
    match (written, read) {
        (Ok(Err(SqlError::Archive(source))), _) => {
            Err(Stop::Failed(ArchiveError::Read { path: name.to_owned(), source }.into()))
        }
        // It is how the writer notices that we have stopped.
        (Ok(Ok(()) | Err(SqlError::Output(_))), read) => read.map_err(|stop| stop.told(|e| script_error(name, &e))),
        (Ok(Err(e)), _) => {
            let hint = e.hint().unwrap_or("take the dump again");
            let context = format!("cannot make statements of the archive `{}`", name.display());
            Err(Stop::Failed(Faults::one(context, e.to_string()).with_hint(hint).into()))
        }
        (Err(_), _) => {
            let context = format!("cannot read the archive `{}`", name.display());
            Err(Stop::Failed(Faults::one(context, "the thread that reads it ended early").into()))
        }
    }
}

struct Feed<'a> {
    wanted: &'a Wanted,
    sender: &'a Sender,
    answers: answers::Receiver<Answer>,
    /// Whether lines mean something to people.
    has_lines: bool,
    /// PostgreSQL's name of the encoding of what comes.
    encoding: String,
    findings: Findings,
}

impl<'a> Feed<'a> {
    fn new(wanted: &'a Wanted, sender: &'a Sender, answers: answers::Receiver<Answer>, has_lines: bool) -> Self {
        Self { wanted, sender, answers, has_lines, encoding: "UTF8".to_owned(), findings: Findings::default() }
    }

    fn read(&mut self, input: impl Read) -> Result<(), ReadStop> {
        let mut script = ScriptReader::new(input);
        // The line is to be had before the item, which borrows the reader.
        loop {
            let Some(item) = script.next_item()? else { break };
            match item {
                Item::Statement(sql) => {
                    let sql = sql.to_vec();
                    self.statement(&sql, script.line())?;
                }
                Item::CopyBegins(copy) => {
                    let line = script.line();
                    self.rows(&copy, line, &mut script)?;
                }
                // There are none outside of a table.
                _ => {}
            }
        }
        let findings = std::mem::take(&mut self.findings);
        Ok(self.send(Piece::End(Box::new(findings)))?)
    }

    fn send(&self, piece: Piece) -> Result<(), Stop> {
        self.sender.blocking_send(Ok(piece)).map_err(|_| Stop::Unwanted)
    }

    fn text(&self, bytes: &[u8], place: impl FnOnce() -> String) -> Result<String, Faults> {
        encoding::decode_exactly(&self.encoding, bytes).map(std::borrow::Cow::into_owned).ok_or_else(|| {
            let text = format!("{} has bytes that are not valid in its encoding, {}", place(), self.encoding);
            let hint = "take the dump again with `--encoding=UTF8`";
            Faults::one("cannot read the dump", text).with_hint(hint)
        })
    }

    fn place(&self, line: u64, label: String) -> Place {
        Place { line: self.has_lines.then_some(line), label }
    }

    fn statement(&mut self, bytes: &[u8], line: u64) -> Result<(), ReadStop> {
        let sql = self.text(bytes, || self.place(line, sql::label(&String::from_utf8_lossy(bytes))).to_string())?;
        let place = self.place(line, sql::label(&sql));
        if let Some(why) = sql::refusal(&sql) {
            let hint = "take the dump of one database with pg_dump, without `--create`; if that is how it was taken, find out \
                        who changed it";
            let text = format!("it has {place}: {why}, and it is not executed");
            return Err(Faults::one("cannot restore this dump", text).with_hint(hint).into());
        }
        if let Some((name, value)) = sql::setting(&sql) {
            match name.as_str() {
                // Our session stays in UTF-8; statements are decoded here, and rows by the server.
                "client_encoding" => {
                    self.encoding = value;
                    return Ok(());
                }
                // A newer pg_dump writes it, whatever the server.
                "transaction_timeout" if self.wanted.server_version < 17_00_00 => return Ok(()),
                _ => {}
            }
        }
        if self.wanted.no_owner && sql::is_about_owner(&sql) {
            self.findings.left_out_owners += 1;
            return Ok(());
        }
        if self.wanted.no_privileges && sql::is_about_privileges(&sql) {
            self.findings.left_out_privileges += 1;
            return Ok(());
        }
        if let Some(ids) = &self.wanted.ids {
            self.look_for_strays(&sql, ids, &place)?;
        }
        self.findings.statements += 1;
        Ok(self.send(Piece::Statement(Statement { sql, place }))?)
    }

    /// IDs in statements are not replaced, in a view or a default value for one.
    fn look_for_strays(&mut self, sql: &str, ids: &IdMap, place: &Place) -> Result<(), Faults> {
        if sql.trim_start().get(..6).is_some_and(|word| word.eq_ignore_ascii_case("INSERT")) {
            let text = format!("{place} has rows as a statement, in which no IDs are replaced");
            let hint = "take the dump again without `--inserts` and the like";
            return Err(Faults::one("cannot replace the IDs of this dump", text).with_hint(hint));
        }
        // A role can have the name of a user of the product.
        if sql::is_about_owner(sql) || sql::is_about_privileges(sql) {
            return Ok(());
        }
        if let Some(found) = ids.occurrences(sql.as_bytes()).next() {
            let example = || excerpt(sql.as_bytes(), &found.range);
            add(&mut self.findings.strays, StrayPlace::Definition(place.to_string()), 1, example);
        }
        Ok(())
    }

    fn rows<R: Read>(&mut self, copy: &CopyStatement, line: u64, script: &mut ScriptReader<R>) -> Result<(), ReadStop> {
        let name = |bytes: &[u8]| self.text(bytes, || "the name of a table or column".to_owned());
        let schema = copy.schema.as_deref().map(name).transpose()?;
        let table = name(&copy.table)?;
        let columns = copy.columns.iter().map(|column| name(column)).collect::<Result<Vec<_>, _>>()?;
        let qualified = schema.as_ref().map_or(table.clone(), |schema| format!("{schema}.{table}"));
        let place = self.place(line, format!("COPY {qualified}"));
        let encoding = self.encoding.clone();
        self.send(Piece::Table(CopyTable { schema, table, columns: columns.clone(), encoding, place }))?;
        let Answer { table, id_columns } = self.answers.recv().map_err(|_| Stop::Unwanted)?;
        let table = ArchiveTable { dump_id: 0, copy_into: table.clone(), table, columns };
        let mut survey = TableSurvey::default();
        let ids = self.wanted.ids.clone();
        let mut scan = ids.as_deref().map(|ids| TableScan::new(&table, &id_columns, ids));
        loop {
            match script.next_item()? {
                Some(Item::CopyRows(lines)) => {
                    let before = survey.rows;
                    let rows = match &mut scan {
                        // They go as they are.
                        None => {
                            survey.rows += memchr::memchr_iter(b'\n', lines).count() as u64;
                            survey.bytes += lines.len() as u64;
                            Bytes::copy_from_slice(lines)
                        }
                        Some(scan) => {
                            let mut out = Vec::with_capacity(lines.len());
                            scan.lines(lines, &mut survey, &mut self.findings.strays, &mut out)
                                .map_err(|e| row_fault(&table, &e))?;
                            Bytes::from(out)
                        }
                    };
                    self.send(Piece::Rows(rows, survey.rows - before))?;
                }
                Some(Item::CopyEnds { .. }) => break,
                // The reader gives rows and their end, and nothing else before it.
                _ => return Err(Faults::one("cannot read the dump", "the rows of a table have no end").into()),
            }
        }
        self.findings.tables.push((table, survey));
        Ok(self.send(Piece::TableEnd)?)
    }
}
