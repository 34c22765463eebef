//! Where in a file an archive is, such as in the log of the job that made it.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};

use memchr::memmem;

use super::window::Window;
use crate::error::{Error, ErrorKind, Result};
use crate::foreign;
use crate::header::{Format, Header, MAGIC};
use crate::input::{Input, TextBudget};
use crate::limits::ReadOptions;
use crate::reader::ArchiveReader;
use crate::toc::Toc;
use crate::version::Version;

const BUFFER_BYTES: usize = 256 << 10;
/// Places that look like the begin of an archive, and are none, before the search ends.
const MOST_CANDIDATES: usize = 64;
/// More than any header takes: its texts are the name of a database and two versions.
const HEADER_BYTES: usize = 4096;
/// What is read to see how lines end.
const LINES_BYTES: u64 = 1 << 20;

/// What looks like an archive in the custom format within a file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FoundArchive {
    /// The byte of the file at which it begins.
    pub start: u64,
    /// What it says of itself.
    pub header: Header,
}

/// Searches the next archive in the custom format at the byte `from` of a file or behind it: the bytes `PGDMP` with
/// a header that can be read. Messages of `kubectl exec` or `oc exec`, or the rest of a log, may be before it.
///
/// Its contents may still be damaged. An archive that is stored in another archive is found as well.
///
/// ```
/// use std::io::Cursor;
/// # let archive = dumpfmt::example::archive().into_inner();
///
/// let mut log = Cursor::new([b"Defaulted container \"postgres\" out of: postgres, proxy\n", &archive[..]].concat());
/// let found = dumpfmt::repair::find_archive(&mut log, 0, &Default::default())?.expect("it is there");
/// assert_eq!(found.start, 55);
/// # Ok::<(), dumpfmt::Error>(())
/// ```
///
/// # Errors
///
/// When the file cannot be read.
pub fn find_archive<R: Read + Seek>(source: &mut R, from: u64, options: &ReadOptions) -> Result<Option<FoundArchive>> {
    each_place(source, from, MAGIC, HEADER_BYTES, |start, bytes| {
        let header = read_header(bytes, options).ok()?;
        Some(FoundArchive { start, header })
    })
}

fn read_header(archive: &[u8], options: &ReadOptions) -> Result<Header> {
    let mut input = Input::new(&archive[MAGIC.len()..]);
    Header::read(&mut input, Format::Custom, options, &mut TextBudget::new(options.limits.toc_bytes))
}

fn window<R: Read + Seek>(source: &mut R, start: u64) -> Result<Window<&mut R>> {
    Window::new(source, start, None).map_err(|e| Error::new(ErrorKind::Io(e), start))
}

/// The first archive in a file whose contents can be read: where it begins, its header, its table of contents, and at
/// which of its bytes the data begins.
pub(super) fn contents<R: Read + Seek>(
    source: &mut R,
    begin: u64,
    options: &ReadOptions,
) -> Result<(u64, (Header, Toc, u64))> {
    let (mut first_error, mut from) = (None, begin);
    for _ in 0..MOST_CANDIDATES {
        let Some(FoundArchive { start, .. }) = find_archive(source, from, options)? else { break };
        match ArchiveReader::with_options(window(source, start)?, options.clone()) {
            Ok(archive) => {
                let contents = (archive.header().clone(), archive.toc().clone(), archive.position());
                return Ok((start, contents));
            }
            Err(e) if matches!(e.kind(), ErrorKind::Io(_)) => return Err(e),
            Err(e) => {
                first_error.get_or_insert((start, e));
            }
        }
        from = start + 1;
    }
    // A translation of line feeds damages even the header.
    let start = match &first_error {
        Some((start, _)) => Some(*start),
        None => find_bytes(source, begin, MAGIC)?,
    };
    if let Some(start) = start
        && lines_end_with_crlf(source, start)?
    {
        let text = "every line feed in it has a carriage return before it, as after `kubectl exec -t`, \
                    `docker exec -t` or a copy in text mode; that can be undone (`undo_crlf`)";
        return Err(Error::corrupt(text, start));
    }
    match first_error {
        Some((_, error)) => Err(error),
        None => Err(diagnose(source, begin, options)?),
    }
}

/// What a file is in which there is no archive from the byte `from` on.
fn diagnose<R: Read + Seek>(source: &mut R, from: u64, options: &ReadOptions) -> Result<Error> {
    // The table of contents of a tar has the same first bytes.
    let is_tar = from == 0 && begins_with(source, foreign::TAR)?;
    // Such as one of a newer version.
    let unsupported = each_place(source, from, MAGIC, HEADER_BYTES, |_, bytes| {
        let error = read_header(bytes, options).err()?;
        // Words that follow these letters would be a version as well.
        let is_likely = bytes.get(MAGIC.len()) == Some(&Version::NEWEST.major);
        (is_likely && matches!(error.kind(), ErrorKind::NewerVersion(_))).then_some(error)
    })?;
    if let Some(error) = unsupported.filter(|_| !is_tar) {
        return Ok(error);
    }
    if from > 0 {
        let text = format!("no archive begins at byte {from} or behind it");
        return Ok(Error::new(ErrorKind::NotAnArchive(text), from));
    }
    // `PGDMP` and the version byte 1; and the letters of `PGDMP` as UTF-16.
    let encoded: [(&[u8], &str); 3] = [
        (b"UEdETVAB", "it holds an archive as base64 text; take that text out of it and decode it with `base64 -d`"),
        (
            b"P\0G\0D\0M\0P\0",
            "it was rewritten as UTF-16, as the `>` of some versions of PowerShell does; the data is lost",
        ),
        (MAGIC, "it holds the begin of an archive, but the header that should follow is damaged"),
    ];
    for (bytes, text) in encoded.into_iter().filter(|_| !is_tar) {
        if let Some(start) = find_bytes(source, 0, bytes)? {
            return Ok(Error::new(ErrorKind::NotAnArchive(text.into()), start));
        }
    }
    match ArchiveReader::with_options(window(source, 0)?, options.clone()) {
        Err(error) => Ok(error),
        // A tar, which is not searched for.
        Ok(archive) => {
            let text = format!(
                "a `RepairPlan` is for archives in the custom format, and this one is in {} format: take a `MemberPlan`",
                archive.header().format
            );
            Ok(Error::new(ErrorKind::Unsupported(text), 0))
        }
    }
}

fn begins_with<R: Read + Seek>(source: &mut R, bytes: &[u8]) -> Result<bool> {
    let failed = |e| Error::new(ErrorKind::Io(e), 0);
    source.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut begin = vec![0; bytes.len()];
    let read = crate::verify::fill(source, &mut begin).map_err(failed)?;
    Ok(begin[..read] == *bytes)
}

/// Where these bytes are first, from `from` on.
fn find_bytes<R: Read + Seek>(source: &mut R, from: u64, bytes: &[u8]) -> Result<Option<u64>> {
    each_place(source, from, bytes, bytes.len(), |start, _| Some(start))
}

/// Shows each place of `bytes` from `from` on to `look`, until that returns something: where it is in the file, and
/// what is there, at least `context` bytes unless the file ends.
fn each_place<R: Read + Seek, T>(
    source: &mut R,
    from: u64,
    bytes: &[u8],
    context: usize,
    mut look: impl FnMut(u64, &[u8]) -> Option<T>,
) -> Result<Option<T>> {
    let failed = |e| Error::new(ErrorKind::Io(e), from);
    source.seek(SeekFrom::Start(from)).map_err(failed)?;
    let finder = memmem::Finder::new(bytes);
    let mut buffer = vec![0; BUFFER_BYTES];
    // Bytes of the buffer that were there before, and where in the file it begins.
    let (mut kept, mut start) = (0, from);
    loop {
        let filled = kept + crate::verify::fill(source, &mut buffer[kept..]).map_err(failed)?;
        let is_last = filled < buffer.len();
        // What begins later has not all of its context here; it is shown with the next bytes.
        let searched = if is_last { filled } else { filled - (context - 1) };
        let mut next = 0;
        // One may begin with the last byte of another: `PGDMPGDMP`.
        while let Some(found) = finder.find(&buffer[next..filled]) {
            let place = next + found;
            if place >= searched {
                break;
            }
            if let Some(found) = look(start + place as u64, &buffer[place..filled]) {
                return Ok(Some(found));
            }
            next = place + 1;
        }
        if is_last {
            return Ok(None);
        }
        buffer.copy_within(searched.., 0);
        kept = filled - searched;
        start += searched as u64;
    }
}

/// Whether each line feed, of which there must be some, has a carriage return before it.
fn lines_end_with_crlf<R: Read + Seek>(source: &mut R, start: u64) -> Result<bool> {
    let failed = |e| Error::new(ErrorKind::Io(e), start);
    source.seek(SeekFrom::Start(start)).map_err(failed)?;
    let undone = undo(source.take(LINES_BYTES), io::sink()).map_err(|Failed(e, _)| failed(e))?;
    Ok(undone.removed > 0 && undone.line_feeds_alone == 0)
}

/// What [`undo_crlf`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CrlfUndone {
    /// Carriage returns that were removed: one before each line feed that had one.
    pub removed: u64,
    /// Line feeds that had none before them. A terminal leaves none of those; when there are some, something else has
    /// changed the file, and what `undo_crlf` made of it is likely wrong.
    pub line_feeds_alone: u64,
    /// Bytes written.
    pub written: u64,
}

/// Undoes what a terminal does to an archive that is written to it, as by `kubectl exec -t` or `docker exec -t`: it
/// puts a carriage return before each line feed. Copies all of `from` to `to` and leaves one carriage return out before
/// each line feed.
///
/// This is exact where a terminal was the cause: it adds one also where there was one before, so
/// that none which belongs to the data is removed. Other programs add none where there is one (text modes of file
/// transfers, editors); then nobody can tell afterwards which were there before. So trust the result only when
/// [`RepairPlan::of`](super::RepairPlan::of) finds it whole: a byte too few shifts the lengths of all chunks
/// behind it. A terminal may also have changed more, such as cut the connection at a certain byte.
///
/// # Errors
///
/// When reading or writing fails.
pub fn undo_crlf(from: impl Read, to: impl Write) -> Result<CrlfUndone> {
    undo(from, to).map_err(|Failed(e, at)| match at {
        At::Reading(offset) => Error::new(ErrorKind::Io(e), offset),
        At::Writing(offset) => Error::new(ErrorKind::Write(e), offset),
    })
}

struct Failed(io::Error, At);

enum At {
    Reading(u64),
    Writing(u64),
}

fn undo(from: impl Read, mut to: impl Write) -> Result<CrlfUndone, Failed> {
    let mut from = BufReader::with_capacity(BUFFER_BYTES, from);
    let (mut undone, mut read) = (CrlfUndone::default(), 0);
    // A carriage return that was the last byte.
    let mut is_held = false;
    loop {
        let bytes = match from.fill_buf() {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Failed(e, At::Reading(read))),
        };
        let is_end = bytes.is_empty();
        let mut write = |bytes: &[u8]| {
            to.write_all(bytes).map_err(|e| Failed(e, At::Writing(undone.written)))?;
            undone.written += bytes.len() as u64;
            Ok(())
        };
        if is_held {
            if bytes.first() == Some(&b'\n') {
                undone.removed += 1;
            } else {
                write(b"\r")?;
            }
        }
        if is_end {
            to.flush().map_err(|e| Failed(e, At::Writing(undone.written)))?;
            return Ok(undone);
        }
        if bytes[0] == b'\n' && !is_held {
            undone.line_feeds_alone += 1;
        }
        let (body, held) = match bytes {
            [body @ .., b'\r'] => (body, true),
            body => (body, false),
        };
        let mut rest = body;
        let mut searched = 1.min(rest.len());
        while let Some(place) = memchr::memchr(b'\n', &rest[searched..]) {
            let line_feed = searched + place;
            if rest[line_feed - 1] == b'\r' {
                write(&rest[..line_feed - 1])?;
                undone.removed += 1;
                rest = &rest[line_feed..];
                searched = 1;
            } else {
                undone.line_feeds_alone += 1;
                searched = line_feed + 1;
            }
        }
        write(rest)?;
        is_held = held;
        let count = bytes.len();
        read += count as u64;
        from.consume(count);
    }
}
