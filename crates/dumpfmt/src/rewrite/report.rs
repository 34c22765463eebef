//! What came of a rewrite.

/// What [`Rewrite`](crate::Rewrite) did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RewriteReport {
    /// The entries with data, in the order of the new archive.
    pub entries: Vec<RewrittenEntry>,
}

/// What was done with the data of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RewrittenEntry {
    /// The entry.
    pub dump_id: i32,
    /// How far its data was taken apart.
    pub depth: EntryDepth,
    /// Rows in the source; `None` where they were not looked at.
    pub rows_read: Option<u64>,
    /// Rows in the new archive; `None` where they were not looked at.
    pub rows_written: Option<u64>,
}

/// How far the data of an entry was taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum EntryDepth {
    /// Copied as it is stored.
    Raw,
    /// Decompressed and compressed anew.
    Reencoded,
    /// Taken apart into rows, and compressed anew.
    Rows,
}
