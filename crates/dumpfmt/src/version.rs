//! The archive format's history, so that each field can say in one word since
//! when it exists.

use std::fmt;

/// The version of the archive format: major, minor, revision. It is not the
/// version of PostgreSQL; [`Header`](crate::Header) has that too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Always 1 so far.
    pub major: u8,
    /// Raised when a field is added.
    pub minor: u8,
    /// Raised by changes that a reader need not know.
    pub revision: u8,
}

impl Version {
    /// The first version read here; written by pg_dump 9.0 to 10.
    pub const OLDEST: Self = Self::new(12);
    /// Table access methods; pg_dump 12 to 15.
    pub const TABLE_ACCESS_METHOD: Self = Self::new(14);
    /// The algorithm of compression instead of its level; pg_dump 16.
    pub const COMPRESSION_ALGORITHM: Self = Self::new(15);
    /// The kind of relation, and several `BLOBS` entries; pg_dump 17 and later.
    pub const RELKIND: Self = Self::new(16);
    /// The last version read here, at any revision.
    pub const NEWEST: Self = Self { major: 1, minor: 16, revision: u8::MAX };

    const fn new(minor: u8) -> Self {
        Self { major: 1, minor, revision: 0 }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}-{}", self.major, self.minor, self.revision)
    }
}
