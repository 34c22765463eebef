//! Writing archives.

mod archive;
mod core;
mod directory;
mod encode;
mod header;
mod pool;
pub(crate) mod primitives;
mod sink;
mod specification;

pub use archive::{ArchiveWriter, DataWriter, LargeObjectWriter, LargeObjectsWriter};
pub use directory::DirectoryFormat;
pub use header::WriteOptions;
pub use sink::{CustomFormat, Sink};
pub use specification::{CompressionSpecification, SpecificationError};
