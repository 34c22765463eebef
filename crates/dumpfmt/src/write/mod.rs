//! Writing archives.

mod encode;
mod pool;
pub(crate) mod primitives;
mod specification;

pub use specification::{CompressionSpecification, SpecificationError};
