//! How much of an untrusted archive may be held in memory.

/// Budgets for what is kept in memory while an archive is read. Each is charged
/// as bytes arrive, before they are kept; nothing is allocated by a length that
/// the archive claims.
///
/// The defaults accept every archive that PostgreSQL can restore, among them a
/// table of contents of a million entries and 400 MB.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Entries in the table of contents. Default: 16,777,216.
    pub toc_entries: u64,
    /// Bytes of all texts in the header and the table of contents. Default: 2 GiB.
    pub toc_bytes: u64,
    /// Bytes of one row in COPY text. Default: 1 GiB, the most that a server
    /// accepts in a line of COPY.
    pub row_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { toc_entries: 1 << 24, toc_bytes: 2 << 30, row_bytes: 1 << 30 }
    }
}
