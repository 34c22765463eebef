//! Which instance of the target takes the data of which instance of the archive.

mod file;
pub(crate) mod pairs;
mod resolve;

pub use file::{MappingEntry, MappingFile, WriteError, Written};
pub use pairs::{PairUse, TargetInUse};
pub use resolve::{MappedTenant, Mapping, ProvisionedInstance};
