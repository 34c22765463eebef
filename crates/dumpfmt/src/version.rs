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

/// Named by what each brought; `src/bin/pg_dump/pg_backup_archiver.h` has the same table.
impl Version {
    /// The first version read here: the time and the database in the header.
    pub const OLDEST: Self = Self::new(4);
    /// Dependencies of entries, as OIDs.
    pub const DEPENDENCIES: Self = Self::new(5);
    /// The schema of an entry.
    pub const NAMESPACE: Self = Self::new(6);
    /// A size of positions that differs from that of numbers, and a flag beside each.
    pub const OFFSET_SIZE: Self = Self::new(7);
    /// Dependencies as dump IDs, and the OID of the catalog of an entry.
    pub const DUMP_ID_DEPENDENCIES: Self = Self::new(8);
    /// Whether a table has OIDs.
    pub const WITH_OIDS: Self = Self::new(9);
    /// Tablespaces, and the versions of server and pg_dump in the header; pg_dump 8.0.
    pub const TABLESPACE: Self = Self::new(10);
    /// The section of an entry; pg_dump 8.4.
    pub const SECTION: Self = Self::new(11);
    /// An entry for each large object, which the restorer had to create before; pg_dump 9.0 to 10.
    pub const LARGE_OBJECT_ENTRIES: Self = Self::new(12);
    /// Names that do not rely on the search path; pg_dump 11.
    pub const SEARCH_PATH: Self = Self::new(13);
    /// Table access methods; pg_dump 12 to 15.
    pub const TABLE_ACCESS_METHOD: Self = Self::new(14);
    /// The algorithm of compression instead of its level; pg_dump 16.
    pub const COMPRESSION_ALGORITHM: Self = Self::new(15);
    /// The kind of relation; pg_dump 17 and later.
    pub const RELKIND: Self = Self::new(16);
    /// Several `BLOBS` entries, and `BLOB METADATA` for many large objects at once.
    pub const LARGE_OBJECT_GROUPS: Self = Self::new(16);
    /// The last version known here, at any revision.
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
