//! Proof that a script is whole.

use std::io::{self, Read, Write};

use super::reader::{PlainTable, ScriptReader};
use crate::error::Result;
use crate::limits::Limits;
use crate::verify::{Tap, VerifyOptions};

/// A plain dump that was proven to be whole.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedScript {
    /// What is in its data, in the order of the script; see [`ScriptReader::tables`].
    pub tables: Vec<PlainTable>,
    /// The version of the server, such as `15.18 (Debian 15.18-0+deb12u1)`.
    pub server_version: Option<Box<[u8]>>,
    /// The version of the pg_dump.
    pub dump_version: Option<Box<[u8]>>,
    /// PostgreSQL's name of the encoding, such as `UTF8`.
    pub encoding: Option<String>,
}

impl<R: Read> ScriptReader<R> {
    /// Reads to the end, and returns what there was. Success means that the script is complete: its closing lines are
    /// there and nothing is behind them, every quote is closed, all rows have their end and as many fields as columns are
    /// copied, and it has no command of psql. That each table is there, and all of its rows, only the source knows.
    ///
    /// Of rows nothing is kept, however long one is.
    ///
    /// # Errors
    ///
    /// As for [`next_item`](Self::next_item). Digests are only of what is read from here on.
    pub fn verify(mut self) -> Result<VerifiedScript> {
        while self.find(false)?.is_some() {}
        Ok(self.into_verified())
    }
}

/// Takes the bytes of a plain dump, in order, and tells at the end whether it is whole.
///
/// A thread of its own reads them, as for a [`Verifier`](crate::Verifier); who writes waits for it when it is behind by more
/// than half a MiB or so. Damage does not stop the writing: it is told by [`finish`](Self::finish).
///
/// ```
/// # let bytes = dumpfmt::example::script();
/// use std::io::Write;
/// use dumpfmt::VerifyOptions;
/// use dumpfmt::plain::PlainVerifier;
///
/// let mut verifier = PlainVerifier::new(&VerifyOptions::default());
/// for piece in bytes.chunks(100) {
///     verifier.write_all(piece)?;
/// }
/// let script = verifier.finish()?;
/// assert_eq!(script.tables[0].rows, Some(2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PlainVerifier(Tap<VerifiedScript>);

impl PlainVerifier {
    /// Begins with the first byte of a script; of the options, `threads` is not used.
    pub fn new(options: &VerifyOptions) -> Self {
        Self::with_limits(options, Limits::default())
    }

    /// As [`new`](Self::new), with limits.
    pub fn with_limits(options: &VerifyOptions, limits: Limits) -> Self {
        let digests = options.digests;
        Self(Tap::new(move |pieces| ScriptReader::with_limits(pieces, limits).digests(digests).verify()))
    }

    /// Whether damage was found already; [`finish`](Self::finish) tells which.
    pub fn has_failed(&self) -> bool {
        self.0.has_ended()
    }

    /// The script ends here; what was in it.
    ///
    /// # Errors
    ///
    /// When it is cut short, damaged, or none at all; or when the system had no thread to read it with.
    pub fn finish(self) -> Result<VerifiedScript> {
        self.0.finish()
    }
}

impl Write for PlainVerifier {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.take(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
