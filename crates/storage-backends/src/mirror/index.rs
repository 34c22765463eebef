//! What is known of the files of a folder: a list in the order of the keys, and what has happened since it was made.
//!
//! Both are lines of JSON. A record is added to the journal with one write, so that a process which is killed loses none but
//! the last, and no file is written anew for each object. Whoever finishes makes a new list of both.

use std::cmp::Ordering;
use std::io::{self, BufRead, BufReader, BufWriter, Read as _, Seek as _, Write as _};
use std::sync::{Mutex, PoisonError};

use cap_std::fs::{Dir, File, OpenOptions, OpenOptionsExt as _};
use serde::{Deserialize, Serialize};

use super::record::Record;
use crate::local::sync_dir;

const INDEX: &str = "index";
const JOURNAL: &str = "journal";
const SCRATCH: &str = "scratch";
/// The first line of the list.
const HEADER: &str = r#"{"format":"mirror-index","version":1}"#;
/// How much of a journal is sorted at once.
const RUN_BYTES: usize = 4 << 20;
/// How many sorted runs of about the same length there may be, each of which is a file that is open.
const MAX_RUNS: usize = 16;
/// No record is as long, since a store limits everything that is in it.
const MAX_LINE_BYTES: usize = 1 << 20;

/// What is known of a key: nothing any more, if there is no record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) key: String,
    pub(super) record: Option<Record>,
}

/// The index of a folder, in a folder of its own.
#[derive(Debug)]
pub(super) struct Index {
    dir: Dir,
    /// Open once something was added.
    journal: Mutex<Option<File>>,
    /// [`RUN_BYTES`], and in tests less than that.
    run_bytes: usize,
    /// [`MAX_RUNS`], and in tests less than that.
    max_runs: usize,
}

impl Index {
    pub(super) fn new(dir: Dir) -> Self {
        Self { dir, journal: Mutex::new(None), run_bytes: RUN_BYTES, max_runs: MAX_RUNS }
    }

    /// All records, in the order of their keys.
    pub(super) fn records(&self) -> io::Result<Records> {
        let mut runs = Vec::new();
        match self.dir.open(INDEX) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            file => {
                let mut lines = BufReader::new(file?);
                let header = read_line(&mut lines)?;
                if header.as_deref() != Some(HEADER.as_bytes()) {
                    let why = "it was written by a newer version of this program, or by something else";
                    return Err(io::Error::new(io::ErrorKind::Unsupported, why));
                }
                runs.push(Run::new(Lines::File(lines))?);
            }
        }
        match self.dir.open(JOURNAL) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            file => self.sort_journal(BufReader::new(file?), &mut runs)?,
        }
        Ok(Records { runs })
    }

    /// Writes down what is known of a key now.
    pub(super) fn add(&self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match &mut *journal {
            Some(file) => file,
            none => {
                let mut options = OpenOptions::new();
                let file = self.dir.open_with(JOURNAL, options.append(true).create(true).mode(0o600))?;
                // The last line of someone who was killed may have no end.
                if file.metadata()?.len() > 0 {
                    text.insert(0, b'\n');
                }
                none.insert(file)
            }
        };
        file.write_all(&text)
    }

    /// Whether anything was added since the list was made.
    pub(super) fn has_journal(&self) -> bool {
        self.dir.try_exists(JOURNAL).unwrap_or(true)
    }

    /// Makes a new list if anything was added.
    pub(super) fn compact(&self) -> io::Result<()> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.dir.try_exists(JOURNAL)? {
            return Ok(());
        }
        let mut options = OpenOptions::new();
        let name = "index.new";
        let file = self.dir.open_with(name, options.write(true).create(true).truncate(true).mode(0o600))?;
        let mut out = BufWriter::with_capacity(256 << 10, file);
        writeln!(out, "{HEADER}")?;
        for line in self.records()? {
            let line = line?;
            if line.record.is_some() {
                serde_json::to_writer(&mut out, &line)?;
                out.write_all(b"\n")?;
            }
        }
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        self.dir.rename(name, &self.dir, INDEX)?;
        sync_dir(&self.dir)?;
        // Killed here, the next one finds in the journal what is in the list already.
        *journal = None;
        self.dir.remove_file(JOURNAL)
    }

    /// Cuts the journal into sorted runs: the last one is in memory, those before are in files without a name.
    fn sort_journal(&self, mut lines: BufReader<File>, runs: &mut Vec<Run>) -> io::Result<()> {
        let mut rounds = Vec::new();
        let (mut run, mut bytes) = (Vec::<Line>::new(), 0);
        while let Some(text) = read_line(&mut lines)? {
            // Cut short by a kill. What it was about is done again.
            let Ok(line) = serde_json::from_slice(&text) else { continue };
            run.push(line);
            bytes += text.len();
            if bytes >= self.run_bytes {
                self.add_run(&mut rounds, self.spill(sorted(run).into_iter().map(Ok))?)?;
                (run, bytes) = (Vec::new(), 0);
            }
        }
        runs.extend(rounds.into_iter().rev().flatten());
        runs.push(Run::new(Lines::Memory(sorted(run).into_iter()))?);
        Ok(())
    }

    /// Adds a run that is younger than all others. When a round has as many runs as it may, they become one of the next round. So
    /// both the number of open files and how often a line is written again grow with the logarithm of the journal's length.
    fn add_run(&self, rounds: &mut Vec<Vec<Run>>, mut run: Run) -> io::Result<()> {
        let mut round = 0;
        loop {
            if round == rounds.len() {
                rounds.push(Vec::new());
            }
            rounds[round].push(run);
            if rounds[round].len() < self.max_runs {
                return Ok(());
            }
            let runs = std::mem::take(&mut rounds[round]);
            run = self.spill(Records { runs })?;
            round += 1;
        }
    }

    fn spill(&self, lines: impl Iterator<Item = io::Result<Line>>) -> io::Result<Run> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = self.dir.open_with(SCRATCH, &options)?;
        self.dir.remove_file(SCRATCH)?;
        let mut out = BufWriter::new(file);
        for line in lines {
            serde_json::to_writer(&mut out, &line?)?;
            out.write_all(b"\n")?;
        }
        let mut file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Run::new(Lines::File(BufReader::new(file)))
    }
}

/// The last line of each key, in order.
fn sorted(mut run: Vec<Line>) -> Vec<Line> {
    run.reverse();
    run.sort_by(|a, b| a.key.cmp(&b.key));
    run.dedup_by(|later, kept| later.key == kept.key);
    run
}

/// The records of an index in the order of their keys.
#[derive(Debug)]
pub(super) struct Records {
    /// The later, the younger.
    runs: Vec<Run>,
}

impl Iterator for Records {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        let youngest = self.runs.iter().enumerate().filter_map(|(index, run)| Some((index, run.next.as_ref()?)));
        let youngest = youngest.min_by(|(a, x), (b, y)| match x.key.cmp(&y.key) {
            Ordering::Equal => b.cmp(a),
            other => other,
        });
        let index = youngest?.0;
        let line = match self.runs[index].advance() {
            Ok(line) => line?,
            Err(e) => return Some(Err(e)),
        };
        for run in &mut self.runs {
            if run.next.as_ref().is_some_and(|next| next.key == line.key)
                && let Err(e) = run.advance()
            {
                return Some(Err(e));
            }
        }
        Some(Ok(line))
    }
}

#[derive(Debug)]
struct Run {
    next: Option<Line>,
    lines: Lines,
}

#[derive(Debug)]
enum Lines {
    File(BufReader<File>),
    Memory(std::vec::IntoIter<Line>),
}

impl Run {
    fn new(lines: Lines) -> io::Result<Self> {
        let mut run = Self { next: None, lines };
        run.advance()?;
        Ok(run)
    }

    /// Takes what is next, and looks at what comes then.
    fn advance(&mut self) -> io::Result<Option<Line>> {
        let next = match &mut self.lines {
            Lines::Memory(lines) => lines.next(),
            Lines::File(lines) => read_line(lines)?.map(|text| serde_json::from_slice::<Line>(&text)).transpose()?,
        };
        if let (Some(next), Some(now)) = (&next, &self.next)
            && next.key <= now.key
        {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its lines are not in the order of their keys"));
        }
        Ok(std::mem::replace(&mut self.next, next))
    }
}

/// A line without its end.
fn read_line(lines: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    lines.by_ref().take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut line)?;
    if line.len() == MAX_LINE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it has a line that is too long"));
    }
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use cap_std::ambient_authority;

    use super::*;
    use crate::s3::Attributes;

    fn line(key: &str, bytes: Option<u64>) -> Line {
        let record = bytes.map(|bytes| Record {
            bytes,
            sha256: "00".repeat(32),
            source: "x".repeat(1000),
            file: None,
            attributes: Attributes::default(),
        });
        Line { key: key.into(), record }
    }

    fn known(index: &Index) -> Vec<(String, Option<u64>)> {
        let lines = index.records().unwrap().map(Result::unwrap);
        lines.map(|line| (line.key, line.record.map(|record| record.bytes))).collect()
    }

    #[test]
    fn the_last_that_was_written_of_a_key_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Index::new(Dir::open_ambient_dir(folder.path(), ambient_authority()).unwrap());
        let index = open();
        for (key, bytes) in [("b", Some(1)), ("a", Some(2)), ("b", Some(3)), ("c", Some(4)), ("a", None)] {
            index.add(&line(key, bytes)).unwrap();
        }
        let expected = [("a".into(), None), ("b".into(), Some(3)), ("c".into(), Some(4))];
        assert_eq!(known(&index), expected);
        // Killed in the middle of a line.
        let path = folder.path().join(JOURNAL);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 10]).unwrap();
        let index = open();
        assert_eq!(known(&index), [("a".into(), Some(2)), ("b".into(), Some(3)), ("c".into(), Some(4))]);
        index.add(&line("a", None)).unwrap();
        assert_eq!(known(&index), expected);
        index.compact().unwrap();
        assert_eq!(known(&index), expected[1..]);
        assert!(!path.exists());
        // Killed before the journal was removed.
        fs::write(&path, whole).unwrap();
        assert_eq!(known(&index), expected);
        open().add(&line("bb", Some(5))).unwrap();
        open().compact().unwrap();
        assert_eq!(known(&open()), [("b".into(), Some(3)), ("bb".into(), Some(5)), ("c".into(), Some(4))]);
    }

    #[test]
    fn a_long_journal_is_not_sorted_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let index = Index::new(Dir::open_ambient_dir(folder.path(), ambient_authority()).unwrap());
        for round in 0..3 {
            for n in 0..5000_u64 {
                let key = format!("{:05}", n * 7919 % 5000);
                index.add(&line(&key, Some(round * 10_000 + n * 7919 % 5000))).unwrap();
            }
        }
        assert!(index.records().unwrap().runs.len() >= 4);
        let expected: Vec<_> = (0..5000).map(|n| (format!("{n:05}"), Some(20_000 + n))).collect();
        assert_eq!(known(&index), expected);
        index.compact().unwrap();
        assert_eq!(known(&index), expected);
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [INDEX]);
    }

    #[test]
    fn however_long_a_journal_is_few_files_are_open() {
        let folder = tempfile::tempdir().unwrap();
        let mut index = Index::new(Dir::open_ambient_dir(folder.path(), ambient_authority()).unwrap());
        (index.run_bytes, index.max_runs) = (2000, 3);
        index.add(&line("000", Some(9999))).unwrap();
        index.compact().unwrap();
        // Each run has two lines: so there are 500 of them, and later ones say something else of the same keys.
        for n in 0..1000_u64 {
            let key = n * 7919 % 100;
            // The last that is said of one is that it is gone.
            let bytes = (key != 55 || n < 900).then_some(n);
            index.add(&line(&format!("{key:03}"), bytes)).unwrap();
        }
        // The list, at most two of each of six rounds, and the run in memory.
        assert!(index.records().unwrap().runs.len() <= 14, "{}", index.records().unwrap().runs.len());
        let expected = (900..1000_u64).map(|n| (format!("{:03}", n * 7919 % 100), (n * 7919 % 100 != 55).then_some(n)));
        let mut expected: Vec<_> = expected.collect();
        expected.sort();
        assert_eq!(known(&index), expected);
        index.compact().unwrap();
        expected.retain(|(_, bytes)| bytes.is_some());
        assert_eq!(known(&index), expected);
    }

    #[test]
    fn what_is_no_index_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let index = Index::new(Dir::open_ambient_dir(folder.path(), ambient_authority()).unwrap());
        let b = serde_json::to_string(&line("b", Some(1))).unwrap();
        for text in ["", "{}\n", &format!("{HEADER}\nx\n"), &format!("{HEADER}\n{b}\n{b}\n"), &"x".repeat(2 << 20)] {
            fs::write(folder.path().join(INDEX), text).unwrap();
            let read = index.records().and_then(Iterator::collect::<io::Result<Vec<_>>>);
            assert!(read.is_err(), "{:?}", text.get(..100));
        }
    }
}
