//! How much of an untrusted archive may be held in memory.

/// How an archive is to be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadOptions {
    /// How much may be held in memory.
    pub limits: Limits,
    /// Read archives of a version newer than [`Version::NEWEST`](crate::Version::NEWEST)
    /// as if they were of that one. Where the newer version has another layout,
    /// this ends in an error or, at your own risk, in wrong data.
    pub accept_newer_versions: bool,
}

impl From<Limits> for ReadOptions {
    fn from(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }
}

/// Budgets for what is kept in memory while an archive is read. Nothing is
/// allocated by a length that the archive claims, but for the window of a zstd
/// stream; everything else is charged as bytes arrive, before they are kept.
///
/// The defaults accept every archive that PostgreSQL can restore, among them a
/// table of contents of a million entries and 400 MB.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Entries in the table of contents. Default: 16,777,216.
    pub toc_entries: u64,
    /// Bytes that the header and the table of contents take in memory: all texts,
    /// dependencies, and some 150 bytes for each entry. Default: 2 GiB.
    pub toc_bytes: u64,
    /// Bytes of one chunk of the custom format as it is stored. A chunk is never
    /// held in memory; one that is longer than any program writes is damage.
    /// Default: 2,147,483,647, the most that a pg_dump can write.
    pub chunk_bytes: u64,
    /// Bytes of one row in COPY text, for [`Rows`](crate::Rows). Default: 1 GiB,
    /// the most that a server accepts in a line of COPY. A row may exceed it by
    /// up to 256 KiB before that is noticed.
    pub row_bytes: u64,
    /// Bytes of one statement in a plain dump, for [`ScriptReader`](crate::plain::ScriptReader). Default: 1 GiB, the
    /// most that a server accepts. A statement takes up to twice its length, and may exceed the limit by up to 256 KiB before
    /// that is noticed.
    pub statement_bytes: u64,
    /// The window of a zstd stream, in bytes as a power of 2; so much of what was
    /// decompressed is kept. Default: 27, which is 128 MiB: what
    /// `pg_dump -Z zstd:long` makes, the most of any level, and zstd's own default.
    pub zstd_window_log: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            toc_entries: 1 << 24,
            toc_bytes: 2 << 30,
            chunk_bytes: i32::MAX as u64,
            row_bytes: 1 << 30,
            statement_bytes: 1 << 30,
            zstd_window_log: 27,
        }
    }
}
