//! Verifying an archive while it passes through to somewhere else.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};

use super::rows::fill;
use super::{VerifiedEntry, VerifyOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::header::Header;
use crate::limits::ReadOptions;
use crate::reader::ArchiveReader;
use crate::toc::Toc;

/// What is handed to the thread that verifies, at least; small writes are gathered.
const PIECE_BYTES: usize = 64 << 10;
/// How many pieces may wait for it.
const WAITING: usize = 8;

/// Takes the bytes of an archive, in order, and tells at the end whether it is whole.
///
/// A thread of its own decodes them; who writes waits for it when it is behind by more than half a MiB or so. Damage does
/// not stop the writing: it is told by [`finish`](Self::finish). See [`VerifyingReader`] and [`VerifyingWriter`]
/// for archives on their way.
///
/// ```
/// # let bytes = dumpfmt::example::archive().into_inner();
/// use std::io::Write;
/// use dumpfmt::{Verifier, VerifyOptions};
///
/// let mut verifier = Verifier::new(VerifyOptions::default());
/// for piece in bytes.chunks(100) {
///     verifier.write_all(piece)?;
/// }
/// let archive = verifier.finish_archive()?;
/// assert_eq!(archive.entries[0].rows, Some(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Verifier(Tap<VerifiedArchive>);

impl Verifier {
    /// Begins with the first byte of an archive in the custom or tar format.
    pub fn new(options: VerifyOptions) -> Self {
        Self::with_options(options, ReadOptions::default())
    }

    /// As [`new`](Self::new), with options for reading.
    pub fn with_options(options: VerifyOptions, read: ReadOptions) -> Self {
        Self(Tap::new(move |pieces| {
            let mut archive = ArchiveReader::with_options(pieces, read)?;
            let entries = archive.verify_with(&options, |_| {})?;
            let (header, toc) = archive.into_contents();
            Ok(VerifiedArchive { header, toc, entries })
        }))
    }

    /// Whether damage was found already; [`finish`](Self::finish) tells which.
    pub fn has_failed(&self) -> bool {
        self.0.has_ended()
    }

    /// The archive ends here.
    ///
    /// # Errors
    ///
    /// When it is cut short, damaged, or none at all; or when the system had no thread to verify it with.
    pub fn finish(self) -> Result<Vec<VerifiedEntry>> {
        Ok(self.finish_archive()?.entries)
    }

    /// The archive ends here; what was in it, with its header and its table of contents.
    ///
    /// # Errors
    ///
    /// As for [`finish`](Self::finish).
    pub fn finish_archive(self) -> Result<VerifiedArchive> {
        self.0.finish()
    }
}

impl Write for Verifier {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.take(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An archive that was proven to be whole.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct VerifiedArchive {
    /// What it says of itself.
    pub header: Header,
    /// Its table of contents.
    pub toc: Arc<Toc>,
    /// What is in its data, entry by entry.
    pub entries: Vec<VerifiedEntry>,
}

/// A thread that reads what is handed to it, and returns what it found.
#[derive(Debug)]
pub(crate) struct Tap<T> {
    /// `None` when the thread has ended: it knows the result already.
    pieces: Option<SyncSender<Vec<u8>>>,
    gathered: Vec<u8>,
    /// Or why there is none.
    thread: Result<JoinHandle<Result<T>>>,
}

impl<T: Send + 'static> Tap<T> {
    pub(crate) fn new(read: impl FnOnce(Pieces) -> Result<T> + Send + 'static) -> Self {
        let (pieces, receiver) = mpsc::sync_channel(WAITING);
        let thread = thread::Builder::new().spawn(|| read(Pieces { receiver, piece: Vec::new(), given: 0 }));
        let thread = thread.map_err(|e| Error::new(ErrorKind::Io(e), 0));
        Self { pieces: thread.is_ok().then_some(pieces), gathered: Vec::new(), thread }
    }

    /// Whether the thread does not want more. What is whole is read up to its end, which is not there before `finish`.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.as_ref().map_or(true, JoinHandle::is_finished)
    }

    pub(crate) fn take(&mut self, bytes: &[u8]) {
        if self.pieces.is_some() {
            self.gathered.extend_from_slice(bytes);
            if self.gathered.len() >= PIECE_BYTES {
                self.hand_over();
            }
        }
    }

    /// What is read ends here.
    pub(crate) fn finish(mut self) -> Result<T> {
        self.hand_over();
        self.pieces = None;
        match self.thread?.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    fn hand_over(&mut self) {
        let piece = std::mem::take(&mut self.gathered);
        if let Some(pieces) = &self.pieces
            && !piece.is_empty()
            && pieces.send(piece).is_err()
        {
            self.pieces = None;
        }
    }
}

/// What the thread reads.
pub(crate) struct Pieces {
    receiver: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    given: usize,
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.given == self.piece.len() {
            // Without a sender the archive has ended.
            let Ok(piece) = self.receiver.recv() else { return Ok(0) };
            (self.piece, self.given) = (piece, 0);
        }
        let step = out.len().min(self.piece.len() - self.given);
        out[..step].copy_from_slice(&self.piece[self.given..self.given + step]);
        self.given += step;
        Ok(step)
    }
}

/// Passes an archive on while it is read, and verifies it.
///
/// ```
/// # let pipe = dumpfmt::example::archive();
/// use dumpfmt::{VerifyOptions, VerifyingReader};
///
/// let mut pipe = VerifyingReader::new(pipe, VerifyOptions::default());
/// let mut backup = Vec::new();
/// std::io::copy(&mut pipe, &mut backup)?;
/// // Only now the backup may be called one.
/// let entries = pipe.finish()?;
/// assert_eq!(entries[0].rows, Some(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct VerifyingReader<R> {
    inner: R,
    verifier: Verifier,
    ended: bool,
}

impl<R: Read> VerifyingReader<R> {
    /// Begins with the first byte of the archive in `inner`.
    pub fn new(inner: R, options: VerifyOptions) -> Self {
        Self::with_options(inner, options, ReadOptions::default())
    }

    /// As [`new`](Self::new), with options for reading.
    pub fn with_options(inner: R, options: VerifyOptions, read: ReadOptions) -> Self {
        Self { inner, verifier: Verifier::with_options(options, read), ended: false }
    }

    /// Whether damage was found already, so that going on is of no use; [`finish`](Self::finish) tells which.
    pub fn has_failed(&self) -> bool {
        self.verifier.has_failed()
    }

    /// Where the archive comes from, such as the output of a process whose exit status is to be asked for.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    /// Whether the archive that was read is whole.
    ///
    /// # Errors
    ///
    /// When it is not, or was not read up to its end.
    pub fn finish(mut self) -> Result<Vec<VerifiedEntry>> {
        // Whoever knows the length of the archive stops before the end is told.
        if !self.ended && !self.has_failed() {
            let mut next = [0];
            self.ended = fill(&mut self.inner, &mut next).map_err(|e| Error::new(ErrorKind::Io(e), 0))? == 0;
        }
        if !self.ended && !self.has_failed() {
            return Err(Error::usage("the archive was not read to its end, so nothing is known of it"));
        }
        self.verifier.finish()
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(out)?;
        self.ended |= read == 0 && !out.is_empty();
        self.verifier.write_all(&out[..read])?;
        Ok(read)
    }
}

/// Passes an archive on while it is written, and verifies it.
///
/// ```
/// # let pieces = dumpfmt::example::archive().into_inner();
/// use std::io::Write;
/// use dumpfmt::{VerifyOptions, VerifyingWriter};
///
/// let mut backup = VerifyingWriter::new(Vec::new(), VerifyOptions::default());
/// for piece in pieces.chunks(100) {
///     backup.write_all(piece)?;
///     if backup.has_failed() {
///         break;
///     }
/// }
/// let (backup, verified) = backup.finish();
/// assert_eq!(verified?[0].rows, Some(1));
/// assert_eq!(backup, pieces);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct VerifyingWriter<W> {
    inner: W,
    verifier: Verifier,
}

impl<W: Write> VerifyingWriter<W> {
    /// Begins with the first byte of an archive.
    pub fn new(inner: W, options: VerifyOptions) -> Self {
        Self::with_options(inner, options, ReadOptions::default())
    }

    /// As [`new`](Self::new), with options for reading.
    pub fn with_options(inner: W, options: VerifyOptions, read: ReadOptions) -> Self {
        Self { inner, verifier: Verifier::with_options(options, read) }
    }

    /// Whether damage was found already, so that going on is of no use; [`finish`](Self::finish) tells which.
    pub fn has_failed(&self) -> bool {
        self.verifier.has_failed()
    }

    /// What was written to, and whether the archive is whole that ends here.
    pub fn finish(self) -> (W, Result<Vec<VerifiedEntry>>) {
        (self.inner, self.verifier.finish())
    }
}

impl<W: Write> Write for VerifyingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Of what `inner` takes, no more and no less.
        let written = self.inner.write(bytes)?;
        self.verifier.write_all(&bytes[..written])?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
