//! Writing archives.

pub(crate) mod archive;
pub(crate) mod core;
mod directory;
pub(crate) mod encode;
mod header;
pub(crate) mod pool;
pub(crate) mod primitives;
pub(crate) mod sink;
mod specification;

pub use archive::{ArchiveWriter, DataWriter, LargeObjectWriter, LargeObjectsWriter};
pub use directory::DirectoryFormat;
pub use header::WriteOptions;
pub use sink::{CustomFormat, Sink};
pub use specification::{CompressionSpecification, SpecificationError};
